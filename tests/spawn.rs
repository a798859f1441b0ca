//! Spawning and taking turns: who runs when, under which name, and that nobody is starved.

mod util;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::{
    Builder, Current, Greenlet, current, dump, idle, joinall, killall, sleep, spawn, spawn_later,
    yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, end_of, ms, settle, spinner, state_of, tcp_pair, until,
    until_parked, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let greenlet = spawn(|| "value");
        assert_eq!(greenlet.get().unwrap(), "value");
    });
}

// ------------------------------------------------------------------- H1: order

/// A greenlet that writes `line` when it runs.
fn speaker(log: &Log, line: impl ToString) -> Greenlet<()> {
    let (log, line) = (log.clone(), line.to_string());
    spawn(move || log.say(line))
}

#[test]
fn spawn_does_not_run_the_closure() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = speaker(&log, "ran");
        log.assert_empty();
        assert!(!greenlet.is_started());
        greenlet.join();
        log.assert_is(["ran"]);
        assert!(greenlet.is_started());
    });
}

#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn greenlets_start_in_the_order_of_their_spawns() {
    within(MINUTE, || {
        let log = Log::new();
        let all: Vec<_> = (0..100).map(|n| speaker(&log, n)).collect();
        joinall(&all);
        log.assert_is((0..100).map(|n| n.to_string()));
    });
}

#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn a_child_runs_after_those_spawned_before_it() {
    within(MINUTE, || {
        let log = Log::new();
        let parent = {
            let log = log.clone();
            spawn(move || {
                log.say("parent");
                speaker(&log, "child").join();
            })
        };
        let sibling = speaker(&log, "sibling");
        joinall([&parent, &sibling]);
        log.assert_is(["parent", "sibling", "child"]);
    });
}

#[test]
fn a_dropped_handle_detaches() {
    within(MINUTE, || {
        let log = Log::new();
        drop(speaker(&log, "ran all the same"));
        log.assert_empty();
        settle();
        log.assert_is(["ran all the same"]);
    });
}

#[test]
fn what_the_closure_holds_is_dropped_with_its_end() {
    within(MINUTE, || {
        let living = Living::new();
        let token = living.token();
        let greenlet = spawn(move || {
            sleep(ms(1));
            drop(token);
        });
        assert_eq!(living.count(), 1);
        greenlet.join();
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_value_nobody_takes_is_dropped_with_the_handle() {
    within(MINUTE, || {
        let living = Living::new();
        let token = living.token();
        let greenlet = spawn(move || token);
        greenlet.join();
        assert_eq!(living.count(), 1);
        drop(greenlet);
        assert_eq!(living.count(), 0);

        let token = living.token();
        drop(spawn(move || token));
        settle();
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn greenlets_spawn_greenlets() {
    fn fibonacci(n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let (a, b) = (spawn(move || fibonacci(n - 1)), spawn(move || fibonacci(n - 2)));
        a.get().unwrap() + b.get().unwrap()
    }
    within(MINUTE, || assert_eq!(fibonacci(12), 144));
}

// ----------------------------------------------------------------- spawn_later

#[test]
fn later_is_not_earlier() {
    within(MINUTE, || {
        let start = Instant::now();
        let begun = spawn_later(ms(20), Instant::now).get().unwrap();
        assert!(begun - start >= ms(20));
    });
}

#[test]
fn later_has_not_started_until_its_time() {
    within(MINUTE, || {
        let later = spawn_later(HOUR, || ());
        sleep(ms(1));
        assert!(!later.is_started());
        assert!(!later.is_finished());
        assert_eq!(state_of(later.id()), Some("unstarted"));
    });
}

#[test]
fn later_by_no_time_at_all_still_does_not_run_at_once() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let later = spawn_later(Duration::ZERO, move || said.say("ran"));
        log.assert_empty();
        later.join();
        log.assert_is(["ran"]);
    });
}

#[cfg(not(hard_switch))] // on a busy machine several are due in one turn
#[test]
fn later_starts_in_the_order_of_the_times() {
    within(MINUTE, || {
        let log = Log::new();
        let speak_at = |at| {
            let log = log.clone();
            spawn_later(ms(at), move || log.say(at))
        };
        joinall([speak_at(60), speak_at(1), speak_at(30)]);
        log.assert_is(["1", "30", "60"]);
    });
}

#[test]
fn later_can_be_detached() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        drop(spawn_later(ms(1), move || said.say("ran")));
        until(|| log.has("ran"));
    });
}

/// K1: the wait for the time to come is over, and so is what the closure held.
#[test]
fn later_can_be_killed_before_its_time() {
    within(MINUTE, || {
        let log = Log::new();
        let guard = log.at_drop("dropped");
        let later = spawn_later(HOUR, move || drop(guard));
        later.kill();
        log.assert_is(["dropped"]);
        assert!(!later.is_started());
        assert_eq!(end_of(later), End::Killed);
    });
}

#[test]
fn the_far_future_is_a_time() {
    within(MINUTE, || {
        let never = spawn_later(Duration::MAX, || ());
        assert!(!never.join_timeout(ms(1)));
        never.kill();
        assert_eq!(end_of(never), End::Killed);
    });
}

// --------------------------------------------------------------------- Builder

#[test]
fn a_builder_gives_a_name() {
    within(MINUTE, || {
        let greenlet = Builder::new().name("worker").spawn(|| current().name()).unwrap();
        assert_eq!(greenlet.name(), "worker");
        assert_eq!(greenlet.get().unwrap(), "worker");
    });
}

#[test]
fn a_builder_without_wishes_is_spawn() {
    within(MINUTE, || {
        let greenlet = Builder::new().spawn(|| 7).unwrap();
        assert!(greenlet.name().starts_with("greenlet-"), "{}", greenlet.name());
        assert_eq!(greenlet.get().unwrap(), 7);
    });
}

#[test]
fn names_need_not_differ() {
    within(MINUTE, || {
        let twin = || Builder::new().name("twin").spawn(|| sleep(HOUR)).unwrap();
        let (a, b) = (twin(), twin());
        assert_ne!(a.id(), b.id());
        a.kill();
        assert!(a.is_finished());
        assert!(!b.is_finished());
    });
}

/// Needs `kib` KiB of stack at least.
fn dig(kib: usize) -> usize {
    let floor = black_box([1u8; 1024]);
    match kib {
        0 => 0,
        _ => dig(kib - 1) + usize::from(floor[kib % floor.len()]),
    }
}

#[test]
fn a_builder_gives_a_deep_stack() {
    within(MINUTE, || {
        let deep = Builder::new().stack_size(32 << 20).spawn(|| dig(4 << 10)).unwrap();
        assert_eq!(deep.get().unwrap(), 4 << 10);
    });
}

#[test]
fn the_smallest_stack_is_a_stack() {
    within(MINUTE, || {
        for bytes in [0, 1, 4096] {
            let small = Builder::new().stack_size(bytes).spawn(|| 7).unwrap();
            assert_eq!(small.get().unwrap(), 7);
        }
    });
}

#[test]
fn a_stack_that_cannot_be_had_is_an_error() {
    within(MINUTE, || {
        let living = Living::new();
        let token = living.token();
        let refused = Builder::new().stack_size(usize::MAX).spawn(move || drop(token));
        assert!(refused.is_err());
        assert_eq!(living.count(), 0, "the closure goes with the error");
        assert_eq!(spawn(|| 7).get().unwrap(), 7);
    });
}

// ------------------------------------------------------------- names, ids, self

#[test]
fn a_default_name_is_the_number_of_the_greenlet() {
    within(MINUTE, || {
        let greenlet = spawn(|| ());
        let number: String =
            format!("{:?}", greenlet.id()).chars().filter(char::is_ascii_digit).collect();
        assert_eq!(greenlet.name(), format!("greenlet-{number}"));
    });
}

#[test]
fn ids_of_the_living_differ() {
    within(MINUTE, || {
        let all: Vec<_> = (0..1000).map(|_| spawn(|| sleep(HOUR))).collect();
        let mut ids: Vec<_> = all.iter().map(Greenlet::id).collect();
        ids.push(current().id());
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1001);
    });
}

#[test]
fn id_and_name_outlive_the_greenlet() {
    within(MINUTE, || {
        let greenlet = Builder::new().name("gone").spawn(|| current().id()).unwrap();
        greenlet.join();
        // Whoever comes after must not be taken for it, even on the same stack.
        let other = spawn(|| ());
        assert_ne!(other.id(), greenlet.id());
        assert_eq!(greenlet.name(), "gone");
        let id = greenlet.id();
        assert_eq!(greenlet.get().unwrap(), id);
    });
}

#[test]
fn current_is_the_one_that_runs() {
    within(MINUTE, || {
        let main = current();
        assert!(main.is_main());
        assert_eq!(main.name(), "main");
        let greenlet = spawn(|| {
            let before = current();
            yield_now();
            let after = current();
            assert_eq!(before.id(), after.id());
            assert!(!after.is_main());
            after.id()
        });
        let id = greenlet.id();
        assert_eq!(greenlet.get().unwrap(), id);
        assert_ne!(id, main.id());
        assert_eq!(current().id(), main.id());
    });
}

/// A [`Current`] is a handle like any other: it may be passed on, and outlives what it names.
#[test]
fn a_current_can_be_killed_from_elsewhere() {
    within(MINUTE, || {
        let post = Rc::new(RefCell::new(None::<Current>));
        let target = {
            let post = post.clone();
            spawn(move || {
                *post.borrow_mut() = Some(current());
                sleep(HOUR);
            })
        };
        until_parked(target.id());
        let current = post.take().unwrap();
        assert_eq!(current.id(), target.id());
        current.kill_nowait();
        target.join();
        current.clone().kill_nowait();
        assert_eq!(end_of(target), End::Killed);
    });
}

#[test]
fn every_thread_has_a_main() {
    within(MINUTE, || {
        let main = current().name();
        let other = std::thread::spawn(|| (current().is_main(), current().name()));
        let (is_main, name) = other.join().unwrap();
        assert!(is_main);
        assert_eq!(name, main);
    });
}

// ----------------------------------------------------------------- H2: yielding

#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn yielding_is_a_round_robin() {
    within(MINUTE, || {
        let log = Log::new();
        let walker = |name: &'static str| {
            let log = log.clone();
            spawn(move || {
                for step in 1..=3 {
                    log.say(format!("{name}{step}"));
                    yield_now();
                }
            })
        };
        let all = [walker("a"), walker("b"), walker("c")];
        joinall(&all);
        log.assert_is(["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"]);
    });
}

#[cfg(not(hard_switch))] // whose shuffling may bring the caller's turn before the others'
#[test]
fn every_other_ready_greenlet_runs_once_during_a_yield() {
    within(MINUTE, || {
        let done = Rc::new(Cell::new(false));
        let rounds: Vec<_> = (0..50).map(|_| Rc::new(Cell::new(0))).collect();
        for count in &rounds {
            let (count, done) = (count.clone(), done.clone());
            spawn(move || {
                until(|| {
                    count.set(count.get() + 1);
                    done.get()
                });
            });
        }
        for turn in 1..=20 {
            yield_now();
            for count in &rounds {
                assert_eq!(count.get(), turn);
            }
        }
        done.set(true);
        settle();
    });
}

#[cfg(not(hard_switch))] // as above
#[test]
fn to_sleep_no_time_at_all_is_to_yield() {
    within(MINUTE, || {
        let log = Log::new();
        let speaker = speaker(&log, "other");
        sleep(Duration::ZERO);
        log.assert_is(["other"]);
        assert!(speaker.is_finished());
    });
}

#[test]
fn to_yield_alone_returns() {
    within(MINUTE, || {
        for _ in 0..1000 {
            yield_now();
        }
    });
}

// ------------------------------------------------------------------ H3: fairness

/// Greenlets that yield for ever, while `body` runs.
fn amid_a_yield_storm(body: impl FnOnce()) {
    let done = Rc::new(Cell::new(false));
    let storm: Vec<_> = (0..4).map(|_| spinner(&done)).collect();
    body();
    done.set(true);
    joinall(&storm);
}

#[test]
fn a_yield_storm_does_not_starve_a_timer() {
    within(MINUTE, || amid_a_yield_storm(|| sleep(ms(1))));
}

#[test]
fn a_yield_storm_does_not_starve_spawn_later() {
    within(MINUTE, || amid_a_yield_storm(|| spawn_later(ms(1), || ()).join()));
}

#[test]
fn a_yield_storm_does_not_starve_a_timeout() {
    within(MINUTE, || {
        amid_a_yield_storm(|| {
            let spinning = greenloom::with_timeout(ms(1), || until(|| false));
            assert!(spinning.is_err());
        });
    });
}

#[test]
fn a_yield_storm_does_not_starve_a_socket() {
    within(MINUTE, || {
        amid_a_yield_storm(|| {
            let (mut here, mut there) = tcp_pair();
            let reader = spawn(move || {
                let mut byte = [0];
                here.read_exact(&mut byte).unwrap();
                byte[0]
            });
            until_parked(reader.id());
            there.write_all(b"x").unwrap();
            // No timer is pending: only the storm itself can remember to look at the socket.
            assert_eq!(reader.get().unwrap(), b'x');
        });
    });
}

#[test]
fn an_endless_chain_of_spawns_does_not_starve_a_timer() {
    fn chain(done: Rc<Cell<bool>>, links: Rc<Cell<u64>>) {
        if !done.get() {
            links.set(links.get() + 1);
            spawn(move || chain(done, links));
        }
    }
    within(MINUTE, || {
        let (done, links) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        chain(done.clone(), links.clone());
        sleep(ms(5));
        done.set(true);
        settle();
        assert!(links.get() > 1);
    });
}

#[test]
fn an_endless_chain_of_spawns_does_not_starve_a_greenlet() {
    within(MINUTE, || {
        fn chain(done: Rc<Cell<bool>>) {
            if !done.get() {
                spawn(move || chain(done));
            }
        }
        let done = Rc::new(Cell::new(false));
        chain(done.clone());
        for _ in 0..1000 {
            yield_now();
        }
        done.set(true);
    });
}

/// H5, where we differ from gevent: a socket that always has data does not starve the others.
#[test]
fn a_call_that_never_has_to_wait_yields_now_and_then() {
    const BYTES: usize = 2000;
    /// After so many calls in a row, at the latest, the others have their turn.
    const BUDGET: usize = 128;
    within(MINUTE, || {
        let (mut here, mut there) = tcp_pair();
        there.write_all(&[1; BYTES]).unwrap();
        let turns = Rc::new(Cell::new(0));
        let done = Rc::new(Cell::new(false));
        let (count, stop) = (turns.clone(), done.clone());
        let other = spawn(move || {
            until(|| {
                count.set(count.get() + 1);
                stop.get()
            });
        });
        for _ in 0..BYTES {
            here.read_exact(&mut [0]).unwrap();
        }
        assert!(turns.get() >= BYTES / (BUDGET + 1), "it had {} turns", turns.get());
        done.set(true);
        other.join();
    });
}

// ------------------------------------------------------------------------ idle

#[test]
fn idle_returns_at_once_when_nothing_is_ready() {
    within(MINUTE, || {
        let sleeper = spawn(|| sleep(HOUR));
        idle();
        assert_eq!(state_of(sleeper.id()), Some("parked"));
        idle();
    });
}

#[test]
fn idle_lets_all_that_is_ready_run_out() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        spawn(move || {
            for _ in 0..10 {
                yield_now();
            }
            spawn(move || {
                yield_now();
                said.say("grandchild");
            });
        });
        idle();
        log.assert_is(["grandchild"]);
    });
}

#[test]
fn many_may_idle() {
    within(MINUTE, || {
        let done = Rc::new(Cell::new(false));
        let busy = spinner(&done);
        let idlers: Vec<_> = (0..10).map(|_| spawn(idle)).collect();
        for _ in 0..100 {
            yield_now();
        }
        assert!(idlers.iter().all(|idler| !idler.is_finished()), "somebody was ready all along");
        done.set(true);
        joinall(&idlers);
        assert!(busy.is_finished());
    });
}

// --------------------------------------------------------------------- the dump

#[test]
fn a_dump_shows_each_state() {
    within(MINUTE, || {
        let done = Rc::new(Cell::new(false));
        let parked = spawn(|| sleep(HOUR));
        let ready = spinner(&done);
        let finished = spawn(|| ());
        until(|| finished.is_finished());
        until_parked(parked.id());
        let unstarted = spawn(|| ());
        let later = spawn_later(HOUR, || ());

        assert_eq!(state_of(parked.id()), Some("parked"));
        assert_eq!(state_of(ready.id()), Some("ready"));
        assert_eq!(state_of(finished.id()), None);
        assert_eq!(state_of(unstarted.id()), Some("unstarted"));
        assert_eq!(state_of(later.id()), Some("unstarted"));
        assert_eq!(state_of(current().id()), Some("running"));
        done.set(true);
        killall([&parked, &ready, &unstarted, &later]);
    });
}

#[test]
fn a_dump_shows_where_each_was_spawned() {
    within(MINUTE, || {
        let here = line!() + 1;
        let greenlet = spawn(|| sleep(HOUR));
        let dump = dump();
        let entry = dump.greenlets().iter().find(|entry| entry.id == greenlet.id()).unwrap();
        assert!(
            entry.spawned_at.contains(&format!("spawn.rs:{here}:")),
            "it says {}",
            entry.spawned_at
        );
        assert_eq!(entry.name, greenlet.name());
    });
}
