//! Waiting for one, for all, for any, for each in turn.
//!
//! J3, K8, ... are the rules of the design, which each test that is about one names.

mod util;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use greenloom::{
    Greenlet, Waitable, catch_interrupt, iwait, joinall, joinall_timeout, killall, sleep, spawn,
    spawn_later, wait_any, wait_any_timeout, with_timeout, yield_now,
};
use util::{
    End, HOUR, Log, MINUTE, blocks_forever, end_of, ms, reports, stuck, swallow, until,
    until_parked, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let all = [spawn(|| ()), spawn(|| ())];
        joinall(&all);
        assert!(all.iter().all(Waitable::is_ready));
    });
}

/// A greenlet that does not end by itself.
fn endless() -> Greenlet<()> {
    spawn(|| sleep(HOUR))
}

fn finished() -> Greenlet<()> {
    let finished = spawn(|| ());
    finished.join();
    finished
}

/// Greenlets that have not begun and can therefore be ended, by [`end`], without their help.
fn unborn(count: usize) -> Rc<Vec<Greenlet<()>>> {
    Rc::new((0..count).map(|_| spawn_later(HOUR, || ())).collect())
}

/// As soon as the caller waits, ends these of `all`, one after the other, in one turn: whoever waits
/// for them finds them all finished when it comes to run.
fn end(all: &Rc<Vec<Greenlet<()>>>, order: &'static [usize]) {
    let all = all.clone();
    spawn(move || order.iter().for_each(|number| all[*number].kill_nowait()));
}

// ------------------------------------------------------------------------ join

#[test]
fn join_can_be_repeated() {
    within(MINUTE, || {
        let greenlet = spawn(|| {
            sleep(ms(1));
            7
        });
        for _ in 0..3 {
            greenlet.join();
            assert!(greenlet.join_timeout(HOUR));
        }
        assert_eq!(end_of(greenlet), End::Value(7));
    });
}

#[cfg(not(hard_switch))] // a fast path yields there
#[test]
fn to_wait_for_the_finished_is_not_to_wait() {
    within(MINUTE, || {
        let done = finished();
        let log = Log::new();
        let said = log.clone();
        spawn(move || said.say("ran"));
        done.join();
        assert!(done.join_timeout(HOUR));
        joinall([&done]);
        assert!(joinall_timeout([&done], HOUR));
        assert_eq!(wait_any([&done]), 0);
        assert_eq!(wait_any_timeout([&done], HOUR), Some(0));
        assert_eq!(iwait([&done]).collect::<Vec<_>>(), [0]);
        done.get().unwrap();
        log.assert_empty();
    });
}

#[test]
fn many_may_join_one() {
    within(MINUTE, || {
        let one = Rc::new(spawn(|| sleep(ms(2))));
        let joiners: Vec<_> = (0..100)
            .map(|_| {
                let one = one.clone();
                spawn(move || one.join())
            })
            .collect();
        joinall(&joiners);
        assert!(one.is_finished());
    });
}

#[test]
fn a_join_that_gives_up_can_be_tried_again() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let ready = go.clone();
        let greenlet = spawn(move || {
            while !ready.get() {
                sleep(ms(1));
            }
        });
        for _ in 0..3 {
            assert!(!greenlet.join_timeout(ms(2)));
        }
        go.set(true);
        assert!(greenlet.join_timeout(MINUTE));
    });
}

#[test]
fn a_join_does_not_care_how_it_ends() {
    within(MINUTE, || {
        let panics = spawn(|| panic!("boom"));
        let killed = endless();
        until_parked(killed.id());
        killed.kill_nowait();
        panics.join();
        killed.join();
        joinall([&panics as &dyn Waitable, &killed]);
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn a_ring_of_joins_is_found_out() {
    within(MINUTE, || {
        let stuck = stuck();
        let other = {
            let stuck = stuck.clone();
            spawn(move || stuck.join())
        };
        let report = blocks_forever(|| other.join());
        for name in [stuck.name(), other.name()] {
            assert!(report.contains(&name), "{name} is not in {report}");
        }
        assert!(report.contains("join"), "{report}");
        assert!(report.contains("wait.rs"), "{report}");
    });
}

// --------------------------------------------------------------------- joinall

#[test]
fn all_of_nothing_is_done() {
    within(MINUTE, || {
        joinall(Vec::<Greenlet<()>>::new());
        assert!(joinall_timeout(&[] as &[Greenlet<()>], HOUR));
        assert_eq!(iwait(Vec::<Greenlet<()>>::new()).next(), None);
        killall::<()>(&[]);
    });
}

#[test]
fn joinall_takes_what_can_be_iterated() {
    within(MINUTE, || {
        let (a, b) = (spawn(|| ()), spawn(|| ()));
        let vector = vec![spawn(|| ()), spawn(|| ())];
        joinall([&a, &b]);
        joinall(&vector);
        joinall(vector.iter().rev());
        joinall(vector.iter().chain([&a]));
        joinall(Some(&a));
        joinall(vector);
        joinall((0..3).map(|_| spawn(|| sleep(ms(1)))));
        joinall([Box::new(a), Box::new(b)]);
    });
}

#[test]
fn joinall_returns_when_the_last_has_finished() {
    within(MINUTE, || {
        let all: Vec<_> = (0..20).map(|n| spawn(move || sleep(ms(n % 5)))).collect();
        joinall(&all);
        assert!(all.iter().all(Greenlet::is_finished));
    });
}

/// J3.
#[test]
fn joinall_counts_one_thing_named_twice_once() {
    within(MINUTE, || {
        let a = spawn(|| sleep(ms(1)));
        joinall([&a, &a, &a]);
        assert!(joinall_timeout([&a, &a], HOUR));
    });
}

#[test]
fn joinall_of_very_many() {
    within(MINUTE, || {
        let all: Vec<_> = (0..10_000).map(|n| spawn(move || n)).collect();
        joinall(&all);
        let sum: u64 = all.into_iter().map(|greenlet| greenlet.get().unwrap()).sum();
        assert_eq!(sum, 9_999 * 10_000 / 2);
    });
}

/// J1: who failed is read from the greenlets.
#[test]
fn joinall_raises_nothing() {
    within(MINUTE, || {
        let (good, bad) = (spawn(|| sleep(ms(1))), spawn(|| panic!("boom")));
        joinall([&bad, &good]);
        assert!(good.is_successful());
        assert_eq!(end_of(bad), End::Panicked("boom".to_owned()));
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn joinall_with_a_limit() {
    within(MINUTE, || {
        let (done, quick, never) = (finished(), spawn(|| sleep(ms(1))), endless());
        assert!(!joinall_timeout([&done, &quick, &never], ms(10)));
        quick.join();
        assert!(!never.is_finished());
        assert!(joinall_timeout([&done, &quick], MINUTE));
    });
}

// ------------------------------------------------------------------- K8: killall

/// A greenlet that says when it is raised and when it has cleaned up.
fn tidy(log: &Log, name: &'static str) -> Greenlet<()> {
    let log = log.clone();
    let tidy = spawn(move || {
        let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) else { return };
        log.say(format!("{name} raised"));
        sleep(ms(1));
        log.say(format!("{name} clean"));
        interrupt.resume();
    });
    until_parked(tidy.id());
    tidy
}

/// K8b, K8c: raised in the order of the list, before the first has cleaned up; then all are awaited.
#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn killall_raises_in_all_before_it_waits() {
    within(MINUTE, || {
        let log = Log::new();
        let (c, b, a) = (tidy(&log, "c"), tidy(&log, "b"), tidy(&log, "a"));
        killall([&a, &b, &c]);
        assert_eq!(log.lines()[..3], ["a raised", "b raised", "c raised"]);
        assert_eq!(log.lines()[3..], ["a clean", "b clean", "c clean"]);
    });
}

#[test]
fn killall_waits_for_all() {
    within(MINUTE, || {
        let log = Log::new();
        let all = [tidy(&log, "a"), tidy(&log, "b"), tidy(&log, "c")];
        killall(&all);
        log.assert_has_all(["a raised", "b raised", "c raised", "a clean", "b clean", "c clean"]);
        assert!(all.iter().all(Greenlet::is_finished));
        assert!(!all.iter().any(Greenlet::is_successful));
    });
}

/// K8a: those that have not begun do not have to wait for the others.
#[test]
fn killall_cancels_the_unborn_at_once() {
    within(MINUTE, || {
        let log = Log::new();
        let slow = Rc::new(tidy(&log, "slow"));
        let unborn = Rc::new(spawn_later(HOUR, || ()));
        let killer = {
            let (slow, unborn) = (slow.clone(), unborn.clone());
            spawn(move || killall([&*slow, &*unborn]))
        };
        until(|| log.has("slow raised") || log.has("slow clean"));
        assert!(unborn.is_finished());
        killer.join();
        assert!(slow.is_finished());
        assert!(!unborn.is_started());
    });
}

#[test]
fn killall_takes_everybody() {
    within(MINUTE, || {
        let (done, unborn, ready) = (finished(), spawn(|| ()), spawn(|| until(|| false)));
        let parked = endless();
        until_parked(parked.id());
        let born_later = spawn_later(HOUR, || ());
        let just_spawned = spawn(|| ());
        killall([&done, &unborn, &ready, &parked, &born_later, &just_spawned, &parked]);
        for greenlet in [done, unborn, ready, parked, born_later, just_spawned] {
            assert!(greenlet.is_finished());
        }
    });
}

/// Whoever is killed while he kills has doomed them all the same.
#[test]
fn killall_dooms_all_before_it_can_be_killed() {
    within(MINUTE, || {
        let log = Log::new();
        let all = Rc::new([tidy(&log, "a"), tidy(&log, "b")]);
        let killer = {
            let all = all.clone();
            spawn(move || killall(all.iter()))
        };
        until(|| log.has("a raised") && log.has("b raised"));
        killer.kill();
        joinall(all.iter());
        log.assert_has_all(["a raised", "b raised", "a clean", "b clean"]);
        assert!(!all.iter().any(Greenlet::is_successful));
    });
}

#[test]
fn killall_does_not_wait_for_one_that_refuses() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let refuses = {
            let go = go.clone();
            spawn(move || {
                while !go.get() {
                    let _ = swallow(|| sleep(ms(1)));
                }
            })
        };
        until_parked(refuses.id());
        let obeys = endless();
        killall([&refuses, &obeys]);
        assert!(!refuses.is_finished());
        assert!(obeys.is_finished());
        assert_eq!(reports().len(), 1);
        go.set(true);
        refuses.join();
    });
}

// -------------------------------------------------------------------- wait_any

#[test]
fn any_names_the_first_to_finish() {
    within(MINUTE, || {
        let (never, quick) = (endless(), spawn(|| sleep(ms(1))));
        assert_eq!(wait_any([&never, &quick]), 1);
        assert!(quick.is_finished());
        assert!(!never.is_finished());
    });
}

#[test]
fn any_names_the_first_in_the_list_of_those_that_are_ready() {
    within(MINUTE, || {
        let (never, done, also_done) = (endless(), finished(), finished());
        assert_eq!(wait_any([&never, &done, &also_done]), 1);
        assert_eq!(wait_any([&also_done, &done, &never]), 0);
    });
}

/// When it comes to run, several have finished. The one that woke it is the first.
#[test]
fn any_names_the_one_that_woke_it() {
    within(MINUTE, || {
        let all = unborn(3);
        end(&all, &[2, 0, 1]);
        assert_eq!(wait_any(all.iter()), 2);
    });
}

#[test]
fn any_consumes_nothing() {
    within(MINUTE, || {
        let (a, b) = (spawn(|| 1), spawn(|| 2));
        joinall([&a, &b]);
        for _ in 0..3 {
            assert_eq!(wait_any([&a, &b]), 0);
        }
        assert_eq!((a.get().unwrap(), b.get().unwrap()), (1, 2));
    });
}

#[test]
fn any_of_one_thing_named_twice() {
    within(MINUTE, || {
        let greenlet = spawn(|| sleep(ms(1)));
        assert_eq!(wait_any([&greenlet, &greenlet]), 0);
    });
}

#[test]
fn any_of_nothing_is_a_mistake() {
    within(MINUTE, || {
        let mistake = swallow(|| wait_any(Vec::<Greenlet<()>>::new()));
        assert!(mistake.is_err());
        assert_eq!(wait_any([finished()]), 0);
    });
}

#[test]
fn any_with_a_limit() {
    within(MINUTE, || {
        let (never, done) = (endless(), finished());
        assert_eq!(wait_any_timeout([&never], ms(1)), None);
        assert_eq!(wait_any_timeout([&never, &done], ms(1)), Some(1));
        assert_eq!(wait_any_timeout([&never, &spawn(|| sleep(ms(1)))], MINUTE), Some(1));
    });
}

#[test]
fn many_may_wait_for_the_same() {
    within(MINUTE, || {
        let all = unborn(2);
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let all = all.clone();
                let waiter = spawn(move || wait_any(all.iter()));
                until_parked(waiter.id());
                waiter
            })
            .collect();
        end(&all, &[1]);
        for waiter in waiters {
            assert_eq!(waiter.get().unwrap(), 1);
        }
    });
}

// ---------------------------------------------------------------- mixed company

#[test]
fn things_of_different_types_can_be_waited_for_together() {
    within(MINUTE, || {
        let number = spawn(|| 7);
        let text = spawn(|| String::from("text"));
        let scope_free: Box<dyn Waitable> = Box::new(spawn(|| ()));
        joinall([&number as &dyn Waitable, &text, &scope_free]);
        assert_eq!(wait_any([&number as &dyn Waitable, &text]), 0);
        let order: Vec<_> = iwait([&text as &dyn Waitable, &number]).collect();
        assert_eq!(order, [0, 1]);
        assert_eq!(number.get().unwrap(), 7);
        assert_eq!(text.get().unwrap(), "text");
    });
}

#[test]
fn boxes_can_be_waited_for() {
    within(MINUTE, || {
        let boxes: Vec<Box<dyn Waitable>> =
            vec![Box::new(endless()), Box::new(spawn(|| sleep(ms(1))))];
        assert_eq!(wait_any(&boxes), 1);
        assert_eq!(wait_any_timeout(boxes.iter().take(1), ms(1)), None);
        assert_eq!(iwait(boxes).next(), Some(1));
    });
}

#[test]
fn a_greenlet_is_ready_when_it_has_finished() {
    within(MINUTE, || {
        let greenlet = spawn(|| ());
        assert!(!greenlet.is_ready());
        assert!(!(&&greenlet as &dyn Waitable).is_ready());
        greenlet.join();
        assert!(greenlet.is_ready());
        assert!(Box::new(&greenlet).is_ready());
    });
}

// ------------------------------------------------------------------------ iwait

/// J8: what is ready already comes in the order of the list, the others as they finish.
#[test]
fn each_comes_when_it_is_ready() {
    within(MINUTE, || {
        let all = unborn(4);
        all[3].kill_nowait();
        all[1].kill_nowait();
        end(&all, &[2, 0]);
        assert_eq!(iwait(all.iter()).collect::<Vec<_>>(), [1, 3, 2, 0]);
    });
}

/// All are finished when the waiter comes to run for the first time, and yet it learns the order.
#[test]
fn each_comes_in_the_order_in_which_it_became_ready() {
    within(MINUTE, || {
        let all = unborn(5);
        end(&all, &[3, 1, 4, 0, 2]);
        assert_eq!(iwait(all.iter()).collect::<Vec<_>>(), [3, 1, 4, 0, 2]);
    });
}

/// The order is that of the ends, also of those that come while the waiter is busy elsewhere.
#[test]
fn each_comes_in_order_though_the_waiter_was_away() {
    within(MINUTE, || {
        let all = unborn(4);
        let mut ready = iwait(all.iter());
        end(&all, &[2]);
        assert_eq!(ready.next(), Some(2));
        for number in [3, 1, 0] {
            all[number].kill_nowait();
        }
        sleep(ms(1));
        assert_eq!(ready.collect::<Vec<_>>(), [3, 1, 0]);
    });
}

/// J5: whatever the body waits for meanwhile.
#[test]
fn the_body_may_wait() {
    within(MINUTE, || {
        let all: Vec<_> = (0..4).map(|n| spawn(move || sleep(ms(n)))).collect();
        let mut seen = Vec::new();
        for index in iwait(&all) {
            assert!(all[index].is_finished());
            seen.push(index);
            sleep(ms(2));
            yield_now();
            spawn(|| sleep(ms(1))).join();
        }
        seen.sort();
        assert_eq!(seen, [0, 1, 2, 3]);
    });
}

/// J3.
#[test]
fn each_name_of_one_thing_comes_once() {
    within(MINUTE, || {
        let (a, b) = (spawn(|| sleep(ms(1))), finished());
        let mut order: Vec<_> = iwait([&a, &b, &a, &b]).collect();
        assert_eq!(order[..2], [1, 3]);
        order.sort();
        assert_eq!(order, [0, 1, 2, 3]);
    });
}

/// J7.
#[test]
fn after_the_last_comes_nothing() {
    within(MINUTE, || {
        let mut ready = iwait([finished()]);
        assert_eq!(ready.next(), Some(0));
        assert_eq!(ready.next(), None);
        assert_eq!(ready.next(), None);
    });
}

#[test]
fn an_iwait_under_a_timeout_can_go_on_afterwards() {
    within(MINUTE, || {
        let all = unborn(2);
        let mut ready = iwait(all.iter());
        assert!(with_timeout(ms(1), || ready.next()).is_err());
        end(&all, &[1, 0]);
        assert_eq!(ready.next(), Some(1));
        assert_eq!(ready.next(), Some(0));
        assert_eq!(ready.next(), None);
    });
}

/// Created in one greenlet, used in another: it waits in whoever asks.
#[test]
fn an_iwait_can_be_passed_on() {
    within(MINUTE, || {
        let mut ready = iwait([spawn(|| sleep(ms(2))), spawn(|| sleep(HOUR))]);
        let asker = spawn(move || ready.next());
        assert_eq!(asker.get().unwrap(), Some(0));
    });
}

// ------------------------------------------------ K10, J6: and leaves no trace

/// Waits that end without what they wait for, one way or another.
const ABANDONED: [fn(&[Greenlet<()>]); 8] = [
    |all| drop(iwait(all)),
    |all| assert!(with_timeout(ms(1), || iwait(all).next()).is_err()),
    |all| assert!(with_timeout(ms(1), || wait_any(all)).is_err()),
    |all| assert!(with_timeout(ms(1), || joinall(all)).is_err()),
    |all| assert!(with_timeout(ms(1), || all[1].join()).is_err()),
    |all| assert_eq!(wait_any_timeout(all, ms(1)), None),
    |all| assert!(!joinall_timeout(all, ms(1))),
    |all| assert!(!all[1].join_timeout(ms(1))),
];

/// Sleeps while all of them end, and sleeps its fill: none of those that were waited for before
/// comes to wake it.
fn sleep_while_they_end(all: &Rc<Vec<Greenlet<()>>>) {
    let start = Instant::now();
    end(all, &[0, 1]);
    sleep(ms(10));
    assert!(start.elapsed() >= ms(10));
    assert!(all.iter().all(Greenlet::is_finished));
}

#[test]
fn who_is_waited_for_no_more_wakes_nobody() {
    within(MINUTE, || {
        for abandoned in ABANDONED {
            let all = unborn(2);
            abandoned(&all);
            sleep_while_they_end(&all);
        }
    });
}

#[test]
fn who_is_waited_for_no_more_wakes_no_greenlet_either() {
    within(MINUTE, || {
        let waiters = ABANDONED.map(|abandoned| {
            spawn(move || {
                let all = unborn(2);
                abandoned(&all);
                sleep_while_they_end(&all);
            })
        });
        for waiter in waiters {
            waiter.get().unwrap();
        }
    });
}

#[test]
fn the_losers_of_a_race_wake_nobody() {
    within(MINUTE, || {
        let all = unborn(3);
        end(&all, &[2]);
        assert_eq!(wait_any(all.iter()), 2);
        sleep_while_they_end(&all);

        let all = unborn(3);
        end(&all, &[2]);
        assert_eq!(iwait(all.iter()).next(), Some(2));
        sleep_while_they_end(&all);
    });
}

#[test]
fn a_waiter_that_refused_a_kill_is_not_woken_by_what_it_waited_for() {
    within(MINUTE, || {
        for abandoned in [
            (|all| _ = wait_any(all)) as fn(&[Greenlet<()>]),
            |all| _ = iwait(all).next(),
            |all| joinall(all),
        ] {
            let all = unborn(2);
            let waiter = {
                let all = all.clone();
                spawn(move || {
                    // In the clean-up the wait that was interrupted is over and done with.
                    let interrupt = catch_interrupt(|| abandoned(&all)).unwrap_err();
                    sleep_while_they_end(&all);
                    interrupt.resume()
                })
            };
            until_parked(waiter.id());
            waiter.kill();
            assert_eq!(end_of::<()>(waiter), End::Killed);
        }
    });
}

#[test]
fn thousands_of_abandoned_waits_on_one() {
    within(MINUTE, || {
        let all = unborn(2);
        for _ in 0..10_000 {
            assert_eq!(wait_any([&all[0], &spawn(|| ())]), 1);
        }
        sleep_while_they_end(&all);
    });
}
