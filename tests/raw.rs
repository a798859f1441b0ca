//! `raw::Coroutine`: explicit switches that carry values, as greenlet has them (its rules for
//! parents, throws and the dead), from the main stack and from inside scheduled greenlets.

mod net_util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::raw::Coroutine;
use greenloom::{sleep, spawn, with_timeout, yield_now};
use net_util::{Log, eventually, hang_guard, ms, pair, parked_for, until};

/// The coroutine that started the running one, as a rule.
fn parent<V: 'static>() -> Coroutine<V> {
    Coroutine::current().parent().expect("only a root has no parent")
}

/// Switches to the parent with `v`, as a generator would.
fn yield_up<V: 'static>(v: V) -> V {
    parent().switch(v)
}

/// What `f` panics with, which is a text.
fn panic_of<T>(f: impl FnOnce() -> T) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it should have panicked");
    text(&*payload)
}

fn text(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("another payload")
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let doubler = Coroutine::new(|first: u32| {
        let second = yield_up(first * 2);
        second * 2
    });
    assert_eq!(doubler.switch(1), 2);
    assert_eq!(doubler.switch(10), 20);
    assert!(doubler.is_dead());
}

// ── Values (case 81) ──

#[test]
fn the_first_switch_starts_the_body_and_later_ones_answer_its_switches() {
    let _guard = hang_guard();
    let log = Log::default();
    let coroutine = Coroutine::new({
        let log = log.clone();
        move |mut v: i32| {
            while v >= 0 {
                log.add(format!("got {v}"));
                v = yield_up(v * 100);
            }
            v
        }
    });
    assert_eq!(log.take(), [""; 0], "nothing runs before the first switch");
    assert_eq!([1, 2, 3, -1].map(|v| coroutine.switch(v)), [100, 200, 300, -1]);
    assert_eq!(log.take(), ["got 1", "got 2", "got 3"]);
}

#[test]
fn values_need_not_be_copied_or_even_static_references() {
    let _guard = hang_guard();
    let collector = Coroutine::new(|mut line: Vec<String>| {
        for n in 0..3 {
            line.push(n.to_string());
            line = yield_up(line);
        }
        line.push("end".into());
        line
    });
    let mut line = vec!["start".to_owned()];
    while !collector.is_dead() {
        line = collector.switch(line);
    }
    assert_eq!(line, ["start", "0", "1", "2", "end"]);
}

#[test]
fn two_coroutines_switch_to_each_other_and_the_end_goes_to_the_parent() {
    // greenlet's own first example.
    let _guard = hang_guard();
    let log = Log::default();
    let second: Rc<RefCell<Option<Coroutine<u8>>>> = Rc::default();
    let first = Coroutine::new({
        let (second, log) = (Rc::clone(&second), log.clone());
        move |v: u8| {
            log.add("12");
            let second = second.borrow_mut().take().expect("filed before the first switch");
            second.switch(v + 1);
            log.add("34");
            v
        }
    });
    *second.borrow_mut() = Some(Coroutine::new({
        let (first, log) = (first.clone(), log.clone());
        move |v: u8| {
            log.add("56");
            first.switch(v + 1);
            log.add("78");
            v
        }
    }));
    assert_eq!(first.switch(7), 7);
    assert_eq!(log.take(), ["12", "56", "34"]);
    assert!(first.is_dead());
}

#[test]
fn the_end_goes_to_the_parent_and_not_to_whoever_switched_last() {
    let _guard = hang_guard();
    let ending = Coroutine::new(|v: &'static str| v);
    let switching = Coroutine::new({
        let ending = ending.clone();
        move |_| {
            ending.switch("from the child of main");
            "only later"
        }
    });
    assert_eq!(switching.switch(""), "from the child of main");
    assert!(ending.is_dead() && !switching.is_dead());
    assert_eq!(switching.switch(""), "only later");
}

#[test]
fn a_coroutine_switches_to_any_other_it_can_name() {
    let _guard = hang_guard();
    let main = Coroutine::<u32>::current();
    let grandchild = Coroutine::new(move |v: u32| {
        // Past its parent, straight to the root.
        let v = main.switch(v + 1);
        v + 100
    });
    let child = Coroutine::new({
        let grandchild = grandchild.clone();
        move |v: u32| grandchild.switch(v + 1)
    });
    assert_eq!(child.switch(1), 3);
    // Its parent is main, which made it; the child still waits for an answer.
    assert_eq!(grandchild.switch(5), 105);
    assert_eq!(child.switch(9), 9);
}

#[test]
fn switching_to_oneself_hands_the_value_back() {
    let _guard = hang_guard();
    assert_eq!(Coroutine::current().switch(5), 5);
    let narcissus = Coroutine::new(|v: i32| Coroutine::current().switch(v + 1) + 1);
    assert_eq!(narcissus.switch(1), 3);
}

#[test]
fn families_of_different_values_do_not_meet() {
    let _guard = hang_guard();
    let numbers = Coroutine::new(|n: usize| {
        let words = Coroutine::new(|word: String| {
            let word = yield_up(word + "!");
            word + "?"
        });
        assert_eq!(words.switch("a".into()), "a!");
        let n = yield_up(n + 1);
        assert_eq!(words.switch("b".into()), "b?");
        assert!(words.is_dead());
        n + 1
    });
    assert_eq!(numbers.switch(1), 2);
    let words = Coroutine::new(|word: String| word + ".");
    assert_eq!(words.switch("c".into()), "c.");
    assert_eq!(numbers.switch(10), 11);
}

// ── Who is who ──

#[test]
fn states_from_birth_to_death() {
    let _guard = hang_guard();
    let coroutine = Coroutine::new(|(): ()| {
        let me = Coroutine::<()>::current();
        assert!(me.is_current() && me.is_started() && !me.is_dead());
        yield_up(());
    });
    let state = |c: &Coroutine<()>| (c.is_started(), c.is_current(), c.is_dead());
    assert_eq!(state(&coroutine), (false, false, false));
    coroutine.switch(());
    assert_eq!(state(&coroutine), (true, false, false));
    coroutine.switch(());
    assert!(coroutine.is_dead() && !coroutine.is_current());
}

#[test]
fn the_running_stack_is_current_and_a_root_has_no_parent() {
    let _guard = hang_guard();
    let root = Coroutine::<()>::current();
    assert!(root.is_current() && root.is_started() && !root.is_dead());
    assert!(root.parent().is_none());
    let child = Coroutine::new({
        let root = root.clone();
        move |(): ()| {
            assert!(!root.is_current());
            assert!(parent::<()>().parent().is_none());
            root.switch(());
        }
    });
    child.switch(());
    assert!(root.is_current() && !child.is_current());
    child.switch(());
}

#[test]
fn a_scheduled_greenlet_is_the_root_of_its_own_family() {
    let _guard = hang_guard();
    let greenlets: Vec<_> = (0..3)
        .map(|number| {
            spawn(move || {
                assert!(Coroutine::<u32>::current().parent().is_none());
                let child = Coroutine::new(|v: u32| {
                    yield_now();
                    let v = yield_up(v + 1);
                    yield_now();
                    v + 1
                });
                [child.switch(number * 10), child.switch(number * 100)]
            })
        })
        .collect();
    let answers: Vec<_> = greenlets.into_iter().map(|greenlet| greenlet.get().unwrap()).collect();
    assert_eq!(answers, [[1, 1], [11, 101], [21, 201]]);
}

// ── Parents ──

#[test]
fn a_new_parent_gets_the_end() {
    let _guard = hang_guard();
    let log = Log::default();
    let adopter = Coroutine::new({
        let log = log.clone();
        move |v: u32| {
            let from_child = yield_up(v);
            log.add(format!("adopter got {from_child}"));
            from_child + 1
        }
    });
    adopter.switch(0);
    let child = Coroutine::new(|v: u32| v + 10);
    child.set_parent(&adopter);
    assert_eq!(child.switch(1), 12);
    assert_eq!(log.take(), ["adopter got 11"]);
}

#[test]
fn an_end_that_falls_into_an_unstarted_parent_starts_it() {
    let _guard = hang_guard();
    let unstarted = Coroutine::new(|v: u32| v * 2);
    let child = Coroutine::new(|v: u32| v + 1);
    child.set_parent(&unstarted);
    assert_eq!(child.switch(4), 10);
    assert!(unstarted.is_dead());
}

#[test]
fn a_cycle_of_parents_is_refused() {
    let _guard = hang_guard();
    let first = Coroutine::new(|v: u32| v);
    let second = Coroutine::new(|v: u32| v);
    let third = Coroutine::new(|v: u32| v);
    first.set_parent(&second);
    second.set_parent(&third);
    for wrong in [&first, &second, &third] {
        assert!(catch_unwind(AssertUnwindSafe(|| third.set_parent(wrong))).is_err());
    }
    // And nothing has changed.
    assert_eq!(first.switch(3), 3);
    assert!(first.is_dead() && second.is_dead() && third.is_dead());
}

#[test]
fn a_dead_target_hands_the_value_up_its_chain_of_parents() {
    let _guard = hang_guard();
    let dead = Coroutine::new(|v: u32| v);
    assert_eq!(dead.switch(1), 1);
    assert_eq!(dead.switch(2), 2, "its parent is the caller");

    let parent = Coroutine::new(|v: u32| {
        let v = yield_up(v);
        v + 100
    });
    parent.switch(0);
    let orphan = Coroutine::new(|v: u32| v);
    orphan.switch(0);
    orphan.set_parent(&parent);
    assert_eq!(orphan.switch(5), 105, "its parent waits");
    assert!(parent.is_dead());
    assert_eq!(orphan.switch(6), 6, "its parent is dead too, and the next is the caller");
}

#[test]
fn an_end_passes_over_a_dead_parent() {
    let _guard = hang_guard();
    let middle = Coroutine::new(|v: u32| v);
    let child = Coroutine::new(|v: u32| v + 1);
    child.set_parent(&middle);
    middle.switch(0);
    assert!(middle.is_dead());
    assert_eq!(child.switch(1), 2);
}

// ── Panics and throws (case 82) ──

#[test]
fn a_panic_is_raised_in_the_parent() {
    let _guard = hang_guard();
    let coroutine = Coroutine::new(|(): ()| panic_any("from below"));
    assert_eq!(panic_of(|| coroutine.switch(())), "from below");
    assert!(coroutine.is_dead());
}

#[test]
fn a_panic_climbs_until_a_parent_catches_it() {
    let _guard = hang_guard();
    let child = Coroutine::new(|_: &'static str| {
        let grandchild = Coroutine::new(|_: &'static str| panic_any("two floors down"));
        match catch_unwind(AssertUnwindSafe(|| grandchild.switch(""))) {
            Ok(_) => "no panic",
            Err(payload) => text(&*payload),
        }
    });
    assert_eq!(child.switch(""), "two floors down");

    let child = Coroutine::new(|(): ()| {
        Coroutine::new(|(): ()| panic_any("past the child")).switch(());
    });
    assert_eq!(panic_of(|| child.switch(())), "past the child");
    assert!(child.is_dead());
}

#[test]
fn a_panic_passes_over_a_dead_parent() {
    let _guard = hang_guard();
    let middle = Coroutine::new(|(): ()| ());
    let child = Coroutine::new(|(): ()| panic_any("for the grandparent"));
    child.set_parent(&middle);
    middle.switch(());
    assert_eq!(panic_of(|| child.switch(())), "for the grandparent");
}

#[test]
fn a_throw_is_raised_at_the_pending_switch() {
    let _guard = hang_guard();
    let log = Log::default();
    let coroutine = Coroutine::new({
        let log = log.clone();
        move |_: &'static str| {
            let _noted = log.on_drop("unwound");
            yield_up("ready");
            "not reached"
        }
    });
    assert_eq!(coroutine.switch(""), "ready");
    assert_eq!(panic_of(|| coroutine.throw(Box::new("thrown"))), "thrown");
    assert!(coroutine.is_dead());
    assert_eq!(log.take(), ["unwound"]);
}

#[test]
fn a_throw_that_is_caught_is_answered_like_a_switch() {
    let _guard = hang_guard();
    let coroutine = Coroutine::new(|_: &'static str| {
        let payload = catch_unwind(AssertUnwindSafe(|| yield_up("ready"))).unwrap_err();
        yield_up(text(&*payload));
        "the end"
    });
    coroutine.switch("");
    assert_eq!(coroutine.throw(Box::new("caught")), "caught");
    assert!(!coroutine.is_dead());
    assert_eq!(coroutine.switch(""), "the end");
}

#[test]
fn a_throw_to_an_unstarted_one_kills_it_and_is_raised_in_the_parent() {
    let _guard = hang_guard();
    let log = Log::default();
    let noted = log.on_drop("closure dropped");
    let ran = Rc::new(Cell::new(false));
    let coroutine = Coroutine::new({
        let ran = Rc::clone(&ran);
        move |(): ()| {
            let _noted = noted;
            ran.set(true);
        }
    });
    assert_eq!(panic_of(|| coroutine.throw(Box::new("too early"))), "too early");
    assert!(coroutine.is_dead() && !ran.get());
    assert_eq!(log.take(), ["closure dropped"]);
}

#[test]
fn a_throw_to_a_dead_one_is_raised_in_the_parent() {
    let _guard = hang_guard();
    let coroutine = Coroutine::new(|(): ()| ());
    coroutine.switch(());
    assert_eq!(panic_of(|| coroutine.throw(Box::new("too late"))), "too late");
}

#[test]
fn a_throw_to_oneself_is_raised_here() {
    let _guard = hang_guard();
    let coroutine = Coroutine::new(|_: &'static str| {
        panic_of(|| Coroutine::<&'static str>::current().throw(Box::new("at myself")))
    });
    assert_eq!(coroutine.switch(""), "at myself");
}

// ── Dropping the last handle (case 83) ──

#[test]
fn dropping_the_last_handle_of_a_suspended_one_unwinds_it() {
    let _guard = hang_guard();
    let log = Log::default();
    let coroutine = Coroutine::new({
        let log = log.clone();
        move |(): ()| {
            let _first = log.on_drop("first made, last dropped");
            let _second = log.on_drop("second made, first dropped");
            yield_up(());
            log.add("not reached");
        }
    });
    coroutine.switch(());
    let other = coroutine.clone();
    drop(coroutine);
    assert_eq!(log.take(), [""; 0], "somebody can still switch to it");
    drop(other);
    assert_eq!(log.take(), ["second made, first dropped", "first made, last dropped"]);
}

#[test]
fn dropping_an_unstarted_one_drops_its_closure() {
    let _guard = hang_guard();
    let log = Log::default();
    let noted = log.on_drop("closure dropped");
    let coroutine = Coroutine::new(move |(): ()| drop(noted));
    drop(coroutine);
    assert_eq!(log.take(), ["closure dropped"]);
}

#[test]
fn a_dropped_one_that_catches_all_panics_and_returns_disturbs_nobody() {
    let _guard = hang_guard();
    let log = Log::default();
    let coroutine = Coroutine::new({
        let log = log.clone();
        move |v: u32| {
            let caught = catch_unwind(AssertUnwindSafe(|| yield_up(v))).is_err();
            log.add(if caught { "caught" } else { "switched to" });
            v + 1
        }
    });
    coroutine.switch(1);
    drop(coroutine);
    assert_eq!(log.take(), ["caught"]);
}

#[test]
fn a_coroutine_may_drop_another() {
    let _guard = hang_guard();
    let log = Log::default();
    let suspended = Coroutine::new({
        let log = log.clone();
        move |v: u32| {
            let _noted = log.on_drop("unwound");
            yield_up(v)
        }
    });
    suspended.switch(1);
    let dropper = Coroutine::new({
        let log = log.clone();
        move |v: u32| {
            drop(suspended);
            log.add("dropped");
            v
        }
    });
    assert_eq!(dropper.switch(2), 2);
    assert_eq!(log.take(), ["unwound", "dropped"]);
}

#[test]
fn a_dropped_one_takes_those_along_that_only_it_holds() {
    let _guard = hang_guard();
    let log = Log::default();
    let suspended = |name: &'static str, holds: Option<Coroutine<()>>| {
        let log = log.clone();
        let coroutine = Coroutine::new(move |(): ()| {
            let _held = (log.on_drop(name), holds);
            yield_up(());
        });
        coroutine.switch(());
        coroutine
    };
    let innermost = suspended("innermost", None);
    let inner = suspended("inner", Some(innermost));
    let outer = suspended("outer", Some(inner));
    drop(outer);
    // One that unwinds cannot wait for another to do so, so the others follow when they can.
    until(|| log.lines().len() == 3);
    assert_eq!(log.take(), ["outer", "inner", "innermost"]);
}

// ── Inside, everything that blocks works ──

/// A greenlet that counts its turns until it is told to stop.
fn ticker() -> (Rc<Cell<u32>>, greenloom::Greenlet<()>) {
    let ticks = Rc::new(Cell::new(0));
    let ticker = spawn({
        let ticks = Rc::clone(&ticks);
        move || {
            loop {
                ticks.set(ticks.get() + 1);
                yield_now();
            }
        }
    });
    (ticks, ticker)
}

#[test]
fn a_coroutine_sleeps_while_others_run() {
    let _guard = hang_guard();
    let (ticks, ticker) = ticker();
    let sleeper = Coroutine::new(|time: Duration| {
        let start = Instant::now();
        sleep(time);
        start.elapsed()
    });
    assert!(sleeper.switch(ms(20)) >= ms(20));
    assert!(ticks.get() > 0);
    ticker.kill();
}

#[test]
fn a_coroutine_reads_a_socket_while_others_run() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = pair();
    let reader = Coroutine::new(move |mut line: Vec<u8>| {
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
            line = yield_up(line);
        }
    });
    // The peer speaks only once the coroutine waits.
    let speaker = spawn(move || {
        for byte in b"abc" {
            until(|| parked_for("read") == 1);
            peer.write_all(&[*byte]).unwrap();
        }
    });
    let mut line = Vec::new();
    for _ in 0..3 {
        line = reader.switch(line);
    }
    assert_eq!(line, b"abc");
    speaker.get().unwrap();
}

#[test]
fn coroutines_join_greenlets_and_greenlets_drive_coroutines() {
    let _guard = hang_guard();
    let total = Coroutine::new(|sum: u32| {
        let greenlet = spawn(move || {
            let inner = Coroutine::new(|v: u32| {
                sleep(ms(5));
                v + 1
            });
            inner.switch(sum)
        });
        greenlet.get().unwrap() + 10
    });
    assert_eq!(total.switch(100), 111);
}

#[test]
fn ping_pong_inside_a_greenlet_while_others_run() {
    let _guard = hang_guard();
    let (ticks, ticker) = ticker();
    let player = spawn(|| {
        let pong = Coroutine::new(|mut ball: u32| {
            loop {
                yield_now();
                ball = yield_up(ball + 1);
            }
        });
        let mut ball = 0;
        while ball < 200 {
            ball = pong.switch(ball + 1);
        }
        ball
    });
    assert_eq!(player.get().unwrap(), 200);
    assert!(ticks.get() >= 50, "{} turns in 100 rounds", ticks.get());
    ticker.kill();
}

#[test]
fn a_kill_is_raised_at_the_switch_of_its_greenlet() {
    let _guard = hang_guard();
    let log = Log::default();
    let greenlet = spawn({
        let log = log.clone();
        move || {
            let _outer = log.on_drop("greenlet unwound");
            let coroutine = Coroutine::new({
                let log = log.clone();
                move |(): ()| {
                    let _inner = log.on_drop("coroutine over");
                    log.add("coroutine sleeps");
                    sleep(ms(20));
                }
            });
            coroutine.switch(());
            log.add("not reached");
        }
    });
    until(|| parked_for("sleep") == 1);
    greenlet.kill();
    assert!(greenlet.get().unwrap_err().is_killed());
    // The coroutine waits for something else; it ends by itself, and its value goes nowhere.
    assert_eq!(log.take(), ["coroutine sleeps", "greenlet unwound"]);
    eventually(|| !log.lines().is_empty());
    assert_eq!(log.take(), ["coroutine over"]);
}

#[test]
fn a_timeout_is_raised_at_the_switch_of_its_owner() {
    let _guard = hang_guard();
    let log = Log::default();
    let coroutine = Coroutine::new({
        let log = log.clone();
        move |(): ()| {
            sleep(ms(40));
            log.add("slept");
        }
    });
    assert!(with_timeout(ms(10), || coroutine.switch(())).is_err());
    assert_eq!(log.take(), [""; 0]);
    assert!(!coroutine.is_dead());
    eventually(|| coroutine.is_dead());
    assert_eq!(log.take(), ["slept"]);
}

// ── Generators ──

/// An iterator over what `body` hands to its argument.
fn generate<T: 'static>(body: impl FnOnce(&dyn Fn(T)) + 'static) -> impl Iterator<Item = T> {
    let coroutine = Coroutine::new(|_: Option<T>| {
        body(&|item| {
            yield_up(Some(item));
        });
        None
    });
    std::iter::from_fn(move || if coroutine.is_dead() { None } else { coroutine.switch(None) })
}

#[test]
fn generators() {
    let _guard = hang_guard();
    let squares = generate(|give| (1..=4).for_each(|n| give(n * n)));
    assert_eq!(squares.collect::<Vec<u32>>(), [1, 4, 9, 16]);
    let endless = generate(|give| {
        let (mut a, mut b) = (0, 1);
        loop {
            give(a);
            (a, b) = (b, a + b);
        }
    });
    assert_eq!(endless.take(8).collect::<Vec<u32>>(), [0, 1, 1, 2, 3, 5, 8, 13]);
}

#[test]
fn generators_nest() {
    let _guard = hang_guard();
    /// The nodes of a binary tree of that depth, each named by its path, in order.
    fn walk(path: String, depth: usize, give: &dyn Fn(String)) {
        if depth > 0 {
            generate({
                let path = format!("{path}l");
                move |give| walk(path, depth - 1, give)
            })
            .for_each(give);
            give(path.clone());
            generate(move |give| walk(format!("{path}r"), depth - 1, give)).for_each(give);
        }
    }
    let paths: Vec<_> = generate(|give| walk(String::new(), 3, give)).collect();
    assert_eq!(paths, ["ll", "l", "lr", "", "rl", "r", "rr"]);
}

#[test]
fn generators_in_many_greenlets_at_once() {
    let _guard = hang_guard();
    let greenlets: Vec<_> = (0..20_u32)
        .map(|seed| {
            spawn(move || {
                let items = generate(move |give| {
                    for n in 0..20 {
                        if (n + seed) % 3 == 0 {
                            yield_now();
                        }
                        give(seed * 100 + n);
                    }
                });
                items.inspect(|_| yield_now()).collect::<Vec<_>>()
            })
        })
        .collect();
    for (seed, greenlet) in (0..).zip(greenlets) {
        let expected: Vec<u32> = (0..20).map(|n| seed * 100 + n).collect();
        assert_eq!(greenlet.get().unwrap(), expected);
    }
}

#[test]
fn many_coroutines_and_many_switches() {
    let _guard = hang_guard();
    let coroutines: Vec<_> = (0..1_000)
        .map(|number: u64| {
            Coroutine::new(move |mut v: u64| {
                for _ in 0..20 {
                    v = yield_up(v + number);
                }
                v
            })
        })
        .collect();
    for round in 0..20 {
        for (number, coroutine) in (0..).zip(&coroutines) {
            assert_eq!(coroutine.switch(round), round + number);
        }
    }
    for coroutine in coroutines {
        assert_eq!(coroutine.switch(1), 1);
        assert!(coroutine.is_dead());
    }
}
