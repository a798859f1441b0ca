//! `scope`: greenlets that borrow from the one that started them, and are over when it goes on,
//! however it goes on.

mod net_util;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use greenloom::{dump, scope, shield, sleep, spawn, with_timeout, yield_now};
use net_util::{Log, hang_guard, ms, parked_for, until, until_parked};

/// Longer than any test takes; nobody waits it out.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// Runs `f`, which panics, and returns what it panicked with.
fn panic_of<T>(f: impl FnOnce() -> T) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it should have panicked");
    payload.downcast_ref::<&'static str>().copied().unwrap_or("another payload")
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let words = ["borrowed", "from", "here"].map(String::from);
    let lengths: Vec<usize> = scope(|s| {
        let children: Vec<_> = words.iter().map(|word| s.spawn(|| word.len())).collect();
        children.into_iter().map(|child| child.get().unwrap()).collect()
    });
    assert_eq!(lengths, [8, 4, 4]);
}

// ── Borrowing and results ──

#[test]
fn children_write_to_different_parts_of_one_value() {
    let _guard = hang_guard();
    let mut counts = [0; 4];
    scope(|s| {
        for (number, count) in counts.iter_mut().enumerate() {
            s.spawn(move || {
                for _ in 0..=number {
                    *count += 1;
                    yield_now();
                }
            });
        }
    });
    assert_eq!(counts, [1, 2, 3, 4]);
}

#[test]
fn the_scope_returns_what_its_closure_returns() {
    let _guard = hang_guard();
    let text = String::from("outer");
    let slice: &str = scope(|s| {
        let child = s.spawn(|| &text[1..]);
        child.get().unwrap()
    });
    assert_eq!(slice, "uter");
}

#[test]
fn children_start_after_their_spawner_waits() {
    // H1, for scopes.
    let _guard = hang_guard();
    let log = Log::default();
    scope(|s| {
        s.spawn(|| log.add("child"));
        log.add("closure");
    });
    log.add("after");
    assert_eq!(log.take(), ["closure", "child", "after"]);
}

#[test]
fn children_whose_handles_are_dropped_are_waited_for() {
    let _guard = hang_guard();
    let ended = Cell::new(0);
    scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                sleep(ms(5));
                ended.set(ended.get() + 1);
            });
        }
    });
    assert_eq!(ended.get(), 3);
}

#[test]
fn children_whose_handles_are_leaked_are_waited_for() {
    // What made the scoped threads of old unsound: nothing may hang on a destructor running.
    let _guard = hang_guard();
    let ended = Cell::new(0);
    scope(|s| {
        for _ in 0..3 {
            let _leaked = ManuallyDrop::new(s.spawn(|| {
                sleep(ms(5));
                ended.set(ended.get() + 1);
            }));
        }
    });
    assert_eq!(ended.get(), 3);
}

#[test]
fn join_waits_and_leaves_the_result_for_get() {
    let _guard = hang_guard();
    scope(|s| {
        let child = s.spawn(|| {
            sleep(ms(5));
            "result"
        });
        assert!(!child.is_finished());
        child.join();
        assert!(child.is_finished());
        assert_eq!(child.get().unwrap(), "result");
    });
}

#[test]
fn children_join_children() {
    let _guard = hang_guard();
    let sum = scope(|s| {
        let first = s.spawn(|| 1);
        let second = s.spawn(move || first.get().unwrap() + 1);
        let third = s.spawn(move || second.get().unwrap() + 1);
        third.get().unwrap()
    });
    assert_eq!(sum, 3);
}

#[test]
fn children_spawn_children() {
    let _guard = hang_guard();
    let count = Cell::new(0);
    let count = &count;
    scope(|s| {
        s.spawn(move || {
            count.set(count.get() + 1);
            s.spawn(move || {
                sleep(ms(5));
                count.set(count.get() + 10);
                s.spawn(move || count.set(count.get() + 100));
            });
        });
    });
    assert_eq!(count.get(), 111);
}

#[test]
fn scopes_nest() {
    let _guard = hang_guard();
    let log = Log::default();
    let outer = String::from("outer");
    scope(|s| {
        s.spawn(|| {
            let inner = String::from("inner");
            scope(|s| {
                s.spawn(|| {
                    sleep(ms(5));
                    log.add(format!("child of {inner} and {outer}"));
                });
            });
            log.add("inner over");
        });
    });
    log.add("outer over");
    assert_eq!(log.take(), ["child of inner and outer", "inner over", "outer over"]);
}

#[test]
#[cfg(not(hard_switch))] // which makes what need not wait yield all the same
fn a_scope_without_children_does_not_wait() {
    let _guard = hang_guard();
    let log = Log::default();
    let other = spawn({
        let log = log.clone();
        move || log.add("other")
    });
    assert_eq!(scope(|_| 5), 5);
    assert_eq!(log.take(), [""; 0]);
    other.join();
}

#[test]
fn a_long_scope_keeps_nothing_of_its_short_lived_children() {
    let _guard = hang_guard();
    let ended = Cell::new(0);
    scope(|s| {
        for n in 0..10_000 {
            s.spawn(|| ended.set(ended.get() + 1));
            if n % 100 == 0 {
                until(|| ended.get() > n);
                let greenlets = dump().greenlets().len();
                assert!(greenlets < 10, "{greenlets} greenlets after {n} have ended");
            }
        }
    });
    assert_eq!(ended.get(), 10_000);
}

// ── Children that do not end well ──

#[test]
fn a_killed_child_leaves_the_others_and_the_scope_alone() {
    let _guard = hang_guard();
    let log = Log::default();
    let result = scope(|s| {
        let victim = s.spawn(|| {
            let _noted = log.on_drop("unwound");
            sleep(FOR_EVER);
        });
        let other = s.spawn(|| {
            sleep(ms(5));
            "well"
        });
        until(|| parked_for("sleep") == 2);
        victim.kill();
        assert_eq!(log.take(), ["unwound"]);
        assert!(victim.get().unwrap_err().is_killed());
        other.get().unwrap()
    });
    assert_eq!(result, "well");
}

#[test]
fn a_child_killed_before_it_ran_never_runs() {
    // K1.
    let _guard = hang_guard();
    let ran = Cell::new(false);
    scope(|s| {
        let child = s.spawn(|| ran.set(true));
        child.kill();
        assert!(child.is_finished());
    });
    assert!(!ran.get());
}

#[test]
fn the_panic_of_a_child_is_kept_for_get() {
    let _guard = hang_guard();
    scope(|s| {
        let child = s.spawn(|| panic_any("child's own"));
        let payload = child.get().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<&'static str>().unwrap(), "child's own");
    });
}

#[test]
fn a_panic_that_nobody_took_is_the_scope_s_once_all_have_ended() {
    let _guard = hang_guard();
    let log = Log::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            s.spawn(|| panic!("on purpose"));
            s.spawn(|| {
                sleep(ms(10));
                log.add("sibling ended");
            });
            log.add("closure ended");
        });
    }));
    assert!(outcome.is_err());
    assert_eq!(log.take(), ["closure ended", "sibling ended"]);
}

#[test]
fn a_child_that_swallows_a_kill_is_still_waited_for() {
    let _guard = hang_guard();
    let log = Log::default();
    let owner = spawn({
        let log = log.clone();
        move || {
            let data = String::from("still valid");
            scope(|s| {
                s.spawn(|| {
                    let _swallowed = catch_unwind(AssertUnwindSafe(|| sleep(FOR_EVER)));
                    log.add(data.as_str());
                });
            });
        }
    });
    until_parked(&owner);
    owner.kill();
    log.add("owner dead");
    assert_eq!(log.take(), ["still valid", "owner dead"]);
}

#[test]
fn a_shielded_child_finishes_before_its_killed_owner_does() {
    let _guard = hang_guard();
    let log = Log::default();
    let owner = spawn({
        let log = log.clone();
        move || {
            let data = String::from("saved");
            scope(|s| {
                s.spawn(|| {
                    shield(|| {
                        log.add("saving");
                        sleep(ms(20));
                        log.add(data.as_str());
                    });
                });
            });
        }
    });
    until(|| log.lines() == ["saving"]);
    owner.kill();
    log.add("owner dead");
    assert_eq!(log.take(), ["saving", "saved", "owner dead"]);
}

// ── Owners that do not end well (K11) ──

#[test]
fn a_panic_in_the_closure_kills_the_children_and_waits_for_them() {
    let _guard = hang_guard();
    let log = Log::default();
    let payload = panic_of(|| {
        scope(|s| {
            for name in ["first", "second"] {
                let log = &log;
                s.spawn(move || {
                    let _noted = log.on_drop(name);
                    sleep(FOR_EVER);
                });
            }
            // The third will not have run when the panic comes.
            until(|| parked_for("sleep") == 2);
            s.spawn(|| log.add("third ran"));
            panic_any("owner's own");
        })
    });
    assert_eq!(payload, "owner's own");
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines, ["first", "second"]);
}

#[test]
fn the_closure_s_panic_wins_over_a_child_s() {
    let _guard = hang_guard();
    let payload = panic_of(|| {
        scope(|s| {
            let child = s.spawn(|| panic_any("child's"));
            child.join();
            panic_any("owner's");
        })
    });
    assert_eq!(payload, "owner's");
}

/// A greenlet that owns a scope with one child, which has a destructor; `wait` runs in the closure.
fn owner_of_a_child(log: &Log, wait: fn()) -> greenloom::Greenlet<()> {
    let log = log.clone();
    spawn(move || {
        let _owner = log.on_drop("owner unwound");
        scope(|s| {
            s.spawn(|| {
                let _child = log.on_drop("child unwound");
                log.add("child runs");
                sleep(FOR_EVER);
            });
            wait();
            log.add("closure over");
        });
        log.add("never here");
    })
}

#[test]
fn an_owner_killed_while_it_waits_for_its_children_takes_them_along() {
    let _guard = hang_guard();
    let log = Log::default();
    let owner = owner_of_a_child(&log, || {});
    until(|| log.lines() == ["closure over", "child runs"]);
    owner.kill();
    assert_eq!(log.take()[2..], ["child unwound", "owner unwound"]);
    assert!(owner.get().unwrap_err().is_killed());
}

#[test]
fn an_owner_killed_in_its_closure_takes_its_children_along() {
    let _guard = hang_guard();
    let log = Log::default();
    let owner = owner_of_a_child(&log, || sleep(FOR_EVER));
    until(|| log.lines() == ["child runs"]);
    owner.kill();
    assert_eq!(log.take()[1..], ["child unwound", "owner unwound"]);
    assert!(owner.get().unwrap_err().is_killed());
}

#[test]
fn a_timeout_over_a_scope_takes_the_children_along() {
    let _guard = hang_guard();
    let log = Log::default();
    let outcome = with_timeout(ms(20), || {
        scope(|s| {
            s.spawn(|| {
                let _child = log.on_drop("child unwound");
                sleep(FOR_EVER);
            });
        })
    });
    assert!(outcome.is_err());
    assert_eq!(log.take(), ["child unwound"]);
}

#[test]
fn a_kill_reaches_through_nested_scopes_from_the_inside_out() {
    let _guard = hang_guard();
    let log = Log::default();
    let owner = spawn({
        let log = log.clone();
        move || {
            let _owner = log.on_drop("owner");
            scope(|s| {
                s.spawn(|| {
                    let _child = log.on_drop("child");
                    scope(|s| {
                        s.spawn(|| {
                            let _grandchild = log.on_drop("grandchild");
                            log.add("deep");
                            sleep(FOR_EVER);
                        });
                    });
                });
            });
        }
    });
    until(|| log.lines() == ["deep"]);
    owner.kill();
    assert_eq!(log.take(), ["deep", "grandchild", "child", "owner"]);
}

#[test]
fn a_panic_of_the_owner_that_is_resumed_keeps_its_payload() {
    let _guard = hang_guard();
    let ended = Rc::new(RefCell::new(false));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            let ended = Rc::clone(&ended);
            s.spawn(move || {
                yield_now();
                *ended.borrow_mut() = true;
            });
            resume_unwind(Box::new(42_u8));
        })
    }));
    let payload = outcome.map(|()| "no panic").unwrap_err();
    assert_eq!(*payload.downcast::<u8>().unwrap(), 42);
    assert!(!*ended.borrow(), "it was killed before it ran");
}
