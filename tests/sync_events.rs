//! What greenlets tell each other by: events, results, condition variables, barriers, timers.
//!
//! Each test names the line it restates: E1 .. E7, K9, T4, T8 are gevent's rules, "case" a case of
//! its test-suite, and a name such as "Condvar" that line of our semantics. M9 (a fork in the
//! middle of a notification) has no counterpart: after a fork a child must not use the hub.

mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use greenloom::sync::{
    AsyncResult, Barrier, BarrierWaitResult, BrokenBarrier, Condvar, Event, Mutex, MutexGuard,
    Semaphore, Timer,
};
use greenloom::{
    Elapsed, Greenlet, Outcome, Waitable, current, iwait, joinall, joinall_timeout, killall, sleep,
    spawn, wait_any, wait_any_timeout, with_timeout, yield_now,
};
use util::words::*;
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, message, ms, reason_of,
    reports, settle, spin, state_of, swallow, until, until_parked, within,
};

// -------------------------------------------------------------------- words

/// The limit of waits that are meant to run out.
const LIMIT: Duration = Duration::from_millis(10);

/// A result that a test can compare.
type Answer = AsyncResult<u32, &'static str>;

/// As many as `count`, in line in this order.
fn line_of<H, T>(count: usize, handle: &H, f: impl Fn(usize, &H) -> T + 'static) -> Vec<Greenlet<T>>
where
    H: Clone + 'static,
    T: 'static,
{
    let f = Rc::new(f);
    (0..count)
        .map(|n| {
            let f = f.clone();
            parked(handle, move |handle| f(n, handle))
        })
        .collect()
}

/// Which of two came first that came in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Wake,
    Kill,
}

/// Lets a greenlet come to its wait, then wakes it and kills it in one turn. What the wait returned,
/// if it did; in any case the kill is raised at the latest by the next wait.
fn in_one_turn<H, T>(
    first: First,
    handle: &H,
    wait: impl FnOnce(&H) -> T + 'static,
    wake: impl FnOnce(&H),
) -> Option<T>
where
    H: Clone + 'static,
    T: 'static,
{
    let returned = Rc::new(Cell::new(None));
    let target = {
        let returned = returned.clone();
        parked(handle, move |handle| {
            returned.set(Some(wait(handle)));
            sleep(HOUR);
        })
    };
    match first {
        First::Wake => {
            wake(handle);
            target.kill_nowait();
        }
        First::Kill => {
            target.kill_nowait();
            wake(handle);
        }
    }
    assert_eq!(end_of(target), End::Killed);
    returned.take()
}

/// What `wait` returns that is woken in time, but when its limit has passed before anybody looked
/// at the clock.
fn woken_when_due<H, T>(
    handle: &H,
    wait: impl Fn(&H, Duration) -> T + Clone + 'static,
    wake: impl Fn(&H),
) -> T
where
    H: Clone + 'static,
    T: 'static,
{
    loop {
        let wait = wait.clone();
        let target = with(handle, move |handle| wait(handle, LIMIT));
        settle();
        if state_of(target.id()) == Some("parked") {
            spin(LIMIT);
            wake(handle);
            return target.get().unwrap();
        }
        // On a busy machine the time was over before we began.
        target.join();
    }
}

/// Lets the time of `wait` be up and, in the same turn, `wake` be called by somebody who runs
/// first. What `wake` returned.
///
/// A hub that has slept too long ends sleeps before limits: so `wake` is called when the limit has
/// ended the wait, and the waiter has not run. (On a busy machine or under `hard_switch` it may
/// have.)
fn woken_too_late<H, T, R>(
    handle: &H,
    wait: impl FnOnce(&H, Duration) -> T + 'static,
    wake: impl FnOnce(&H) -> R + 'static,
) -> R
where
    H: Clone + 'static,
    T: 'static,
    R: 'static,
{
    let target = with(handle, |handle| wait(handle, LIMIT));
    settle();
    let waker = with(handle, |handle| {
        sleep(2 * LIMIT);
        wake(handle)
    });
    settle();
    spin(3 * LIMIT);
    target.get().unwrap();
    waker.get().unwrap()
}

/// How many rounds there are in a test that leaves it to chance who is killed when.
const ROUNDS: usize = 10_000;

#[test]
fn smoke() {
    within(MINUTE, || {
        let event = Event::new();
        let waiter = parked(&event, |event| event.wait());
        event.set();
        waiter.get().unwrap();
        assert!(event.is_set());
    });
}

// ---------------------------------------------------------- what every wait must do

/// Makes a module for each wait, with the tests that all must pass. Given are the wait, which does
/// not return by itself, and what a dump says of a greenlet that is in it.
macro_rules! every_wait {
    ($($name:ident, $reason:literal => $wait:expr;)+) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn killed() {
                    within(MINUTE, || killed_in($wait, $reason));
                }

                #[test]
                fn an_outer_timeout_is_not_lost() {
                    within(MINUTE, || ended_from_outside($wait));
                }
            }
        )+
    };
}

every_wait! {
    event_wait, "wait of the Event made at" => || Event::new().wait();
    event_wait_timeout, "wait of the Event made at" => || _ = Event::new().wait_timeout(HOUR);
    event_joinall, "" => || joinall([Event::new(), Event::new()]);
    event_wait_any, "wait_any" => || _ = wait_any([Event::new(), Event::new()]);
    event_iwait, "iwait" => || _ = iwait([Event::new(), Event::new()]).next();
    result_get, "of the AsyncResult made at" => || _ = Answer::new().get();
    result_get_timeout, "of the AsyncResult made at" => || _ = Answer::new().get_timeout(HOUR);
    result_wait, "wait of the AsyncResult made at" => || Answer::new().wait();
    result_wait_timeout, "wait of the AsyncResult made at" =>
        || _ = Answer::new().wait_timeout(HOUR);
    result_joinall, "" => || joinall([Answer::new()]);
    result_wait_any, "wait_any" => || _ = wait_any([Answer::new(), Answer::new()]);
    result_iwait, "iwait" => || _ = iwait([Answer::new()]).next();
    condvar_wait, "wait of the Condvar made at" => || {
        let mutex = Mutex::new(());
        drop(Condvar::new().wait(mutex.lock()));
    };
    condvar_wait_while, "wait of the Condvar made at" => || {
        let mutex = Mutex::new(());
        drop(Condvar::new().wait_while(mutex.lock(), |()| true));
    };
    condvar_wait_timeout, "wait of the Condvar made at" => || {
        let mutex = Mutex::new(());
        drop(Condvar::new().wait_timeout(mutex.lock(), HOUR));
    };
    condvar_wait_timeout_while, "wait of the Condvar made at" => || {
        let mutex = Mutex::new(());
        drop(Condvar::new().wait_timeout_while(mutex.lock(), HOUR, |()| true));
    };
    barrier_wait, "wait of the Barrier made at" => || _ = Barrier::new(2).wait();
    barrier_wait_timeout, "wait of the Barrier made at" =>
        || _ = Barrier::new(2).wait_timeout(HOUR);
    timer_joinall, "" => || joinall([Timer::after(HOUR, || ())]);
    timer_wait_any, "wait_any" => || _ = wait_any([Timer::every(HOUR, || ())]);
    timer_iwait, "iwait" => || _ = iwait([Timer::after(HOUR, || ())]).next();
}

/// K2: killed while it waits it unwinds from there, at once.
fn killed_in(wait: fn(), reason: &str) {
    let log = Log::new();
    let target = with(&log, move |log| {
        let _guard = log.at_drop("unwound");
        wait();
        log.say("went on");
    });
    until_parked(target.id());
    let shown = reason_of(target.id()).expect("who is parked has a reason");
    assert!(shown.contains(reason), "{shown}");
    target.kill();
    log.assert_is(["unwound"]);
    assert_eq!(end_of(target), End::Killed);
}

/// T1, case 23: it lets a timeout through that is not its own, and can be begun again; in the main
/// greenlet, and in another one from under an inner timeout.
fn ended_from_outside(wait: fn()) {
    for _ in 0..2 {
        assert_eq!(with_timeout(ms(1), wait), Err(Elapsed));
    }
    let target = spawn(move || with_timeout(ms(1), || with_timeout(HOUR, wait)));
    assert_eq!(target.get().unwrap(), Err(Elapsed));
}

// --------------------------------------------------------------------- Event

#[test]
fn an_event_is_set_until_it_is_cleared() {
    within(MINUTE, || {
        for event in [Event::new(), Event::default()] {
            assert!(!event.is_set() && !event.is_ready());
            event.set();
            event.set();
            assert!(event.is_set() && event.is_ready());
            event.wait();
            assert!(event.wait_timeout(Duration::ZERO), "nobody takes it");
            event.clear();
            event.clear();
            assert!(!event.is_set() && !event.is_ready());
        }
    });
}

#[test]
fn an_event_is_a_handle() {
    within(MINUTE, || {
        let event = Event::new();
        let other = event.clone();
        let waiter = parked(&event, |event| event.wait());
        drop(event);
        other.set();
        waiter.get().unwrap();
    });
}

/// E1, case 30: whoever waits when it is set is woken, even if it is cleared before he runs; who
/// comes later waits.
#[test]
fn set_then_clear_wakes_all_who_waited() {
    within(MINUTE, || {
        for count in [1, 100, 1000] {
            let event = Event::new();
            let waiters: Vec<_> = (0..count)
                .map(|n| {
                    with(&event, move |event| match n % 2 {
                        0 => event.wait_timeout(HOUR),
                        _ => {
                            event.wait();
                            true
                        }
                    })
                })
                .collect();
            settle();
            event.set();
            event.clear();
            for waiter in waiters {
                assert!(waiter.get().unwrap());
            }
            assert!(!event.wait_timeout(ms(1)));
        }
    });
}

/// E2, case 31: one that clears it when it is woken, and waits again, is not woken again by the
/// same `set`.
#[test]
fn who_waits_again_is_not_woken_by_the_same_set() {
    within(MINUTE, || {
        let event = Event::new();
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                with(&event, |event| {
                    event.wait();
                    event.clear();
                    event.wait_timeout(ms(1))
                })
            })
            .collect();
        settle();
        event.set();
        for waiter in waiters {
            assert!(!waiter.get().unwrap());
        }
    });
}

/// E2: but by the next one.
#[test]
fn who_waits_again_is_woken_by_the_next_set() {
    within(MINUTE, || {
        let (event, rounds) = (Event::new(), Rc::new(Cell::new(0)));
        let waiter = {
            let rounds = rounds.clone();
            with(&event, move |event| {
                loop {
                    event.wait();
                    event.clear();
                    rounds.set(rounds.get() + 1);
                }
            })
        };
        for round in 1..=100 {
            until_parked(waiter.id());
            event.set();
            until(|| rounds.get() == round);
        }
        waiter.kill();
        let _: End<()> = end_of(waiter);
        assert_eq!(rounds.get(), 100);
    });
}

/// E3, case 32: one who finds it set goes behind those who were woken before and have not yet run.
#[cfg(not(hard_switch))] // asserts the order of those who are ready
#[test]
fn a_late_waiter_goes_behind_those_who_were_woken() {
    within(MINUTE, || {
        let late: [fn(&Event); 2] = [
            |event| event.wait(),
            |event| {
                assert!(event.wait_timeout(HOUR));
            },
        ];
        for late in late {
            let (event, log) = (Event::new(), Log::new());
            let waiters = line_of(2, &(event.clone(), log.clone()), |n, (event, log)| {
                event.wait();
                log.say(n);
            });
            event.set();
            late(&event);
            log.say("late");
            joinall(&waiters);
            log.assert_is(["0", "1", "late"]);
        }
    });
}

/// E3, H5: also one who was ready before they were.
#[cfg(not(hard_switch))] // asserts the order of those who are ready
#[test]
fn a_late_waiter_that_was_ready_before_goes_behind_them() {
    within(MINUTE, || {
        let things = (Event::new(), Log::new());
        let waiters = line_of(2, &things, |n, (event, log)| {
            event.wait();
            log.say(n);
        });
        let setter = with(&things, |(event, _)| event.set());
        let late = with(&things, |(event, log)| {
            event.wait();
            log.say("late");
        });
        joinall([&setter, &late]);
        joinall(&waiters);
        things.1.assert_is(["0", "1", "late"]);
    });
}

/// E3: when there is nobody to go behind, the wait on a set event need not switch.
#[cfg(not(hard_switch))]
#[test]
fn a_wait_on_a_set_event_need_not_switch() {
    within(MINUTE, || {
        let event = Event::new();
        event.set();
        need_not_switch(|| event.wait());
        need_not_switch(|| assert!(event.wait_timeout(HOUR)));
    });
}

/// E4, H5: whoever sets it goes on first.
#[test]
fn set_and_clear_never_switch() {
    within(MINUTE, || {
        let event = Event::new();
        let waiters = line_of(3, &event, |_, event| event.wait());
        never_switches(|| {
            event.set();
            event.clear();
            assert!(!event.is_set());
        });
        joinall(&waiters);
    });
}

/// E4.
#[cfg(not(hard_switch))] // asserts the order of those who are ready
#[test]
fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
    within(MINUTE, || {
        let (event, log) = (Event::new(), Log::new());
        let waiters = line_of(100, &(event.clone(), log.clone()), |n, (event, log)| {
            event.wait();
            log.say(n);
        });
        event.set();
        joinall(&waiters);
        log.assert_is((0..100).map(|n| n.to_string()));
    });
}

/// E5, case 32: waiting for a set event takes nothing from it.
#[test]
fn a_set_event_can_be_waited_for_again_and_again() {
    within(MINUTE, || {
        let event = Event::new();
        event.set();
        for _ in 0..2 {
            assert_eq!(wait_any([&event]), 0);
            joinall([&event, &event]);
            assert!(joinall_timeout([&event], Duration::ZERO));
            assert_eq!(iwait([&event, &event]).collect::<Vec<_>>(), [0, 1]);
            event.wait();
        }
    });
}

/// T8: false when the time is over, and not before.
#[test]
fn an_event_that_is_not_set_in_time() {
    within(MINUTE, || {
        let event = Event::new();
        let start = Instant::now();
        assert!(!event.wait_timeout(LIMIT));
        assert!(start.elapsed() >= LIMIT);
        assert!(!event.wait_timeout(Duration::ZERO));
        let waiter = with(&event, |event| event.wait_timeout(LIMIT));
        assert!(!waiter.get().unwrap());
        nothing_is_left();
    });
}

/// K9, case 21.
#[test]
fn an_event_set_and_a_kill_in_one_turn() {
    within(MINUTE, || {
        let event = Event::new();
        let woken = in_one_turn(First::Wake, &event, |event| event.wait_timeout(HOUR), Event::set);
        assert_eq!(woken, Some(true));
        event.clear();
        let woken = in_one_turn(First::Wake, &event, Event::wait, |event| {
            event.set();
            event.clear();
        });
        assert_eq!(woken, Some(()));
        let woken = in_one_turn(First::Kill, &event, Event::wait, Event::set);
        assert_eq!(woken, None);
    });
}

/// T4: `set` in time beats a limit that nobody has noticed yet, also with `clear` after it (E1).
#[test]
fn an_event_set_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let event = Event::new();
        let set_and_clear = |event: &Event| {
            event.set();
            event.clear();
        };
        assert!(woken_when_due(&event, Event::wait_timeout, set_and_clear));
        let outer = |event: &Event, limit| with_timeout(limit, || event.wait());
        assert_eq!(woken_when_due(&event, outer, set_and_clear), Ok(()));
    });
}

/// E1: set when time is up, before the one whose time it was has run: true all the same. Set when the
/// call has returned: false.
#[test]
fn an_event_set_when_time_is_up() {
    within(MINUTE, || {
        let (event, returned) = (Event::new(), Rc::new(Cell::new(None)));
        let returns = returned.clone();
        let seen = woken_too_late(
            &event,
            move |event, limit| returns.set(Some(event.wait_timeout(limit))),
            {
                let returned = returned.clone();
                move |event| {
                    let seen = returned.get();
                    event.set();
                    seen
                }
            },
        );
        assert_eq!(returned.get(), Some(seen.unwrap_or(true)));
    });
}

/// K10: a wait that was given up leaves no trace: `set` does not come to end another one.
#[test]
fn an_abandoned_wait_for_an_event_leaves_no_trace() {
    within(MINUTE, || {
        let abandoned: [fn(&Event); 6] = [
            |event| assert!(!event.wait_timeout(ms(1))),
            |event| assert!(with_timeout(ms(1), || event.wait()).is_err()),
            |event| assert_eq!(wait_any_timeout([event], ms(1)), None),
            |event| assert!(!joinall_timeout([event], ms(1))),
            |event| assert!(with_timeout(ms(1), || iwait([event]).next()).is_err()),
            |event| drop(iwait([event])),
        ];
        for abandoned in abandoned {
            let event = Event::new();
            abandoned(&event);
            let setter = with(&event, Event::set);
            let start = Instant::now();
            sleep(LIMIT);
            assert!(start.elapsed() >= LIMIT);
            assert!(setter.is_finished());
        }
    });
}

/// E1, "Settled in detail": an event that was set while it was waited for counts, cleared or not.
#[test]
fn set_then_clear_ends_every_kind_of_wait() {
    within(MINUTE, || {
        let waits: [fn(&(Event, Event)); 7] = [
            |(event, _)| assert_eq!(wait_any([event]), 0),
            |(event, never)| assert_eq!(wait_any([never, event]), 1),
            |(event, never)| assert_eq!(wait_any_timeout([never, event], HOUR), Some(1)),
            |(event, never)| assert_eq!(iwait([never, event]).next(), Some(1)),
            |(event, _)| joinall([event]),
            |(event, _)| assert!(joinall_timeout([event, event], HOUR)),
            |(event, _)| assert_eq!(wait_any([Box::new(event) as Box<dyn Waitable>]), 0),
        ];
        for wait in waits {
            let events = (Event::new(), Event::new());
            let waiter = parked(&events, wait);
            events.0.set();
            events.0.clear();
            waiter.get().unwrap();
        }
    });
}

/// E1: `joinall` waits for all of them at once.
#[test]
fn joinall_sees_each_event_that_was_set_meanwhile() {
    within(MINUTE, || {
        let events = [Event::new(), Event::new()];
        let waiter = parked(&events, |events| joinall(events));
        for event in events.iter().rev() {
            event.set();
            event.clear();
            yield_now();
        }
        waiter.get().unwrap();
    });
}

/// One that was waited for by several means, and by several waits of one greenlet.
#[test]
fn an_event_wakes_whatever_kind_of_waiter() {
    within(MINUTE, || {
        let (event, never) = (Event::new(), Event::new());
        let both = (event.clone(), never);
        let waiters = [
            with(&both, |(event, never)| wait_any([never, event])),
            with(&both, |(event, never)| iwait([never, event]).next().unwrap()),
            with(&both, |(event, _)| usize::from(event.wait_timeout(HOUR))),
            with(&both, |(event, never)| wait_any([never, event, event])),
        ];
        settle();
        event.set();
        for waiter in waiters {
            assert_eq!(waiter.get().unwrap(), 1);
        }
    });
}

/// E3: whoever was woken has gone; nobody waits for him any more.
#[test]
fn those_who_were_woken_hold_up_nobody_when_they_have_run() {
    within(MINUTE, || {
        let waits: [fn(&Event); 5] = [
            |event| event.wait(),
            |event| assert!(event.wait_timeout(HOUR)),
            |event| joinall([event]),
            |event| assert_eq!(wait_any([event]), 0),
            |event| assert_eq!(iwait([event]).next(), Some(0)),
        ];
        for wait in waits {
            let event = Event::new();
            let waiters = [parked(&event, wait), parked(&event, wait)];
            event.set();
            waiters[0].kill_nowait();
            joinall(&waiters);
            event.wait();
            assert!(event.wait_timeout(HOUR));
        }
    });
}

/// A select over things of every kind.
#[test]
fn wait_any_takes_a_mixture() {
    within(MINUTE, || {
        let (event, result, semaphore) = (Event::new(), Answer::new(), Semaphore::new(0));
        let timer = Timer::after(HOUR, || ());
        let greenlet = spawn(|| sleep(HOUR));
        let all = || [&event as &dyn Waitable, &result, &semaphore, &timer, &greenlet];
        assert_eq!(wait_any_timeout(all(), ms(1)), None);
        greenlet.kill();
        assert_eq!(wait_any(all()), 4);
        assert!(timer.cancel());
        assert_eq!(wait_any(all()), 3, "of several that are ready the first");
        semaphore.release();
        assert_eq!(wait_any(all()), 2);
        result.set(7).unwrap();
        assert_eq!(wait_any(all()), 1);
        event.set();
        assert_eq!(wait_any(all()), 0);
        assert_eq!(iwait(all()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        joinall(all());
        assert_eq!(semaphore.available(), 1, "nothing was taken");
    });
}

/// No call waits while its greenlet unwinds; what need not wait works.
#[test]
fn an_event_while_unwinding() {
    within(MINUTE, || {
        let (unset, set, told) = (Event::new(), Event::new(), Event::new());
        set.set();
        let teller = told.clone();
        while_unwinding(move || {
            unset.wait();
            assert!(!unset.wait_timeout(HOUR));
            set.wait();
            assert!(set.wait_timeout(HOUR));
            teller.set();
        });
        assert!(told.is_set());
    });
}

/// A link may wait for an event, and set one.
#[test]
fn an_event_in_a_link() {
    within(MINUTE, || {
        let (go, gone) = (Event::new(), Event::new());
        let greenlet = spawn(|| ());
        let (waits, sets) = (go.clone(), gone.clone());
        greenlet.link(move |_| {
            waits.wait();
            sets.set();
        });
        greenlet.join();
        settle();
        assert!(!gone.is_set());
        go.set();
        gone.wait();
    });
}

/// X6: so may the destructor of a greenlet's local.
#[test]
fn an_event_in_the_destructor_of_a_local() {
    within(MINUTE, || {
        let (go, gone) = (Event::new(), Event::new());
        let greenlet = with(&(go.clone(), gone.clone()), |events| {
            let (go, gone) = events.clone();
            with_the_locals(move || {
                go.wait();
                gone.set();
            });
        });
        until_parked(greenlet.id());
        assert!(!gone.is_set());
        go.set();
        greenlet.join();
        assert!(gone.is_set());
    });
}

#[test]
fn those_who_wait_are_unwound_when_their_thread_ends() {
    let (tell, told) = std::sync::mpsc::channel();
    within(MINUTE, move || {
        let event = Event::new();
        for _ in 0..3 {
            let tell = tell.clone();
            parked(&event, move |event| {
                let _guard = at_drop(move || tell.send(()).unwrap());
                event.wait();
            });
        }
    });
    assert_eq!(told.iter().count(), 3);
}

/// K9, E1: in each round some are killed before it is set, some after; whoever was not killed
/// before has been woken.
#[test]
fn an_event_forgets_nobody() {
    within(MINUTE, || {
        let mut random = Lcg::new(0xE0E0_0001);
        let waits: [fn(&Event); 4] = [
            |event| event.wait(),
            |event| assert!(event.wait_timeout(HOUR)),
            |event| assert_eq!(wait_any([event]), 0),
            |event| joinall([event]),
        ];
        for round in 0..ROUNDS {
            let event = Event::new();
            let waiters: Vec<_> = (0..random.below(5))
                .map(|_| with(&event, waits[random.below(4) as usize]))
                .collect();
            settle();
            let before: Vec<_> = waiters.iter().map(|_| random.one_in(3)).collect();
            for (waiter, _) in waiters.iter().zip(&before).filter(|(_, killed)| **killed) {
                waiter.kill_nowait();
            }
            event.set();
            event.clear();
            waiters.iter().filter(|_| random.one_in(3)).for_each(Greenlet::kill_nowait);
            for (waiter, killed) in waiters.into_iter().zip(before) {
                let end = if killed { End::Killed } else { End::Value(()) };
                assert_eq!(end_of(waiter), end, "round {round}, seed {:#x}", random.seed);
            }
        }
    });
}

// ---------------------------------------------------------------- AsyncResult

#[test]
fn a_result_is_set_once_and_read_by_many() {
    within(MINUTE, || {
        let result = Answer::new();
        let readers = line_of(3, &result, |_, result| result.get());
        assert!(!result.is_ready() && !result.is_successful());
        assert_eq!(result.set(7), Ok(()));
        assert!(result.is_ready() && result.is_successful());
        for reader in readers {
            assert_eq!(reader.get().unwrap(), Ok(7));
        }
        for _ in 0..2 {
            assert_eq!(result.get(), Ok(7));
            assert_eq!(result.try_get(), Some(Ok(7)));
            assert_eq!(result.get_timeout(Duration::ZERO), Ok(Ok(7)));
            result.wait();
            assert!(result.wait_timeout(Duration::ZERO));
        }
    });
}

/// Case 33: an error is a result like another: it does not raise, and it ends every wait.
#[test]
fn a_result_may_be_an_error() {
    within(MINUTE, || {
        let result = Answer::default();
        let readers = line_of(3, &result, |_, result| result.get());
        let waiters = [parked(&result, |result| result.wait_timeout(HOUR))];
        assert_eq!(result.set_error("no"), Ok(()));
        assert!(result.is_ready() && !result.is_successful());
        for reader in readers {
            assert_eq!(reader.get().unwrap(), Err("no"));
        }
        for waiter in waiters {
            assert!(waiter.get().unwrap());
        }
        result.wait();
        assert_eq!(result.get_timeout(HOUR), Ok(Err("no")));
        assert_eq!(result.try_get(), Some(Err("no")));
    });
}

/// E6: everybody gets the same error.
#[test]
fn everybody_gets_the_same_error() {
    within(MINUTE, || {
        let result: AsyncResult<u32> = AsyncResult::new();
        let readers = line_of(3, &result, |_, result| result.get().unwrap_err());
        let error: Rc<dyn Error> = Rc::from(Box::<dyn Error>::from("no"));
        assert!(result.set_error(error.clone()).is_ok());
        for reader in readers {
            assert!(Rc::ptr_eq(&reader.get().unwrap(), &error));
        }
        assert!(Rc::ptr_eq(&result.get().unwrap_err(), &error));
    });
}

/// "AsyncResult": any second `set` or `set_error` is an error, and the first stays.
#[test]
fn a_result_stays_what_it_is() {
    within(MINUTE, || {
        let value = Answer::new();
        value.set(1).unwrap();
        assert_eq!(value.set(2), Err(2));
        assert_eq!(value.set(1), Err(1));
        assert_eq!(value.set_error("no"), Err("no"));
        assert_eq!(value.get(), Ok(1));
        let error = Answer::new();
        error.set_error("no").unwrap();
        assert_eq!(error.set_error("never"), Err("never"));
        assert_eq!(error.set(1), Err(1));
        assert_eq!(error.get(), Err("no"));
    });
}

/// "AsyncResult": also before those who wait have seen the first.
#[test]
fn a_result_stays_what_those_who_wait_will_see() {
    within(MINUTE, || {
        let result = Answer::new();
        let reader = parked(&result, |result| result.get());
        result.set(1).unwrap();
        assert_eq!(result.set(2), Err(2));
        assert_eq!(result.set_error("no"), Err("no"));
        assert_eq!(reader.get().unwrap(), Ok(1));
    });
}

/// E7, T8: no result yet, and none in time.
#[test]
fn a_result_that_does_not_come_in_time() {
    within(MINUTE, || {
        let result = Answer::new();
        assert_eq!(result.try_get(), None);
        let start = Instant::now();
        assert_eq!(result.get_timeout(LIMIT), Err(Elapsed));
        assert!(start.elapsed() >= LIMIT);
        assert!(!result.wait_timeout(LIMIT));
        assert!(start.elapsed() >= 2 * LIMIT);
        assert_eq!(result.get_timeout(Duration::ZERO), Err(Elapsed));
        let reader = with(&result, |result| result.get_timeout(LIMIT));
        assert_eq!(reader.get().unwrap(), Err(Elapsed));
        nothing_is_left();
        result.set(7).unwrap();
        assert_eq!(result.get_timeout(LIMIT), Ok(Ok(7)));
    });
}

/// E4, E7, H5.
#[test]
fn what_need_not_wait_for_a_result_does_not_switch() {
    within(MINUTE, || {
        let results = RefCell::new((0..10).map(|_| Answer::new()).collect::<Vec<_>>());
        let waiters: Vec<_> = results
            .borrow()
            .iter()
            .map(|result| {
                result.link(|_| ());
                parked(result, Answer::wait)
            })
            .collect();
        never_switches(|| {
            let result = results.borrow_mut().pop().unwrap();
            assert_eq!(result.try_get(), None);
            result.set(1).unwrap();
            result.set_error("no").unwrap_err();
            assert_eq!(result.try_get(), Some(Ok(1)));
        });
        joinall(&waiters);
    });
}

#[cfg(not(hard_switch))]
#[test]
fn to_read_a_result_that_is_there_need_not_switch() {
    within(MINUTE, || {
        let result = Answer::new();
        result.set(7).unwrap();
        need_not_switch(|| assert_eq!(result.get(), Ok(7)));
        need_not_switch(|| assert_eq!(result.get_timeout(HOUR), Ok(Ok(7))));
        need_not_switch(|| result.wait());
        need_not_switch(|| assert!(result.wait_timeout(HOUR)));
    });
}

/// E4.
#[cfg(not(hard_switch))] // asserts the order of those who are ready
#[test]
fn readers_are_woken_in_the_order_in_which_they_came() {
    within(MINUTE, || {
        let (result, log) = (Answer::new(), Log::new());
        let readers = line_of(10, &(result.clone(), log.clone()), |n, (result, log)| {
            result.get().unwrap();
            log.say(n);
        });
        result.set(7).unwrap();
        joinall(&readers);
        log.assert_is((0..10).map(|n| n.to_string()));
    });
}

/// K9, case 21.
#[test]
fn a_result_and_a_kill_in_one_turn() {
    within(MINUTE, || {
        let set = |result: &Answer| result.set(7).unwrap();
        for (first, got) in [(First::Wake, Some(Ok(7))), (First::Kill, None)] {
            assert_eq!(in_one_turn(first, &Answer::new(), Answer::get, set), got);
            let get = |result: &Answer| result.get_timeout(HOUR).unwrap();
            assert_eq!(in_one_turn(first, &Answer::new(), get, set), got);
            let wait = |result: &Answer| result.wait_timeout(HOUR);
            assert_eq!(in_one_turn(first, &Answer::new(), wait, set), got.map(|_| true));
            assert_eq!(in_one_turn(first, &Answer::new(), Answer::wait, set), got.map(|_| ()));
        }
    });
}

/// T4.
#[test]
fn a_result_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        // If the limit came too early after all, the result is there at the second try.
        let set = |result: &Answer| _ = result.set(7);
        let result = Answer::new();
        assert_eq!(woken_when_due(&result, Answer::get_timeout, set), Ok(Ok(7)));
        assert!(woken_when_due(&Answer::new(), Answer::wait_timeout, set));
        let outer = |result: &Answer, limit| with_timeout(limit, || result.get());
        assert_eq!(woken_when_due(&Answer::new(), outer, set), Ok(Ok(7)));
    });
}

/// K9: whoever is killed takes nothing from the others.
#[test]
fn a_result_reaches_everybody_who_lives() {
    within(MINUTE, || {
        let mut random = Lcg::new(0xE0E0_0002);
        type Read = fn(&Answer) -> Result<u32, &'static str>;
        let reads: [Read; 4] = [
            |result| result.get(),
            |result| result.get_timeout(HOUR).unwrap(),
            |result| {
                result.wait();
                result.try_get().unwrap()
            },
            |result| {
                joinall([result]);
                result.get()
            },
        ];
        for round in 0..ROUNDS {
            let result = Answer::new();
            let readers: Vec<_> = (0..random.below(5))
                .map(|_| with(&result, reads[random.below(4) as usize]))
                .collect();
            settle();
            let before: Vec<_> = readers.iter().map(|_| random.one_in(3)).collect();
            for (reader, _) in readers.iter().zip(&before).filter(|(_, killed)| **killed) {
                reader.kill_nowait();
            }
            let expected = if random.one_in(2) { Ok(7) } else { Err("no") };
            match expected {
                Ok(value) => result.set(value).unwrap(),
                Err(error) => result.set_error(error).unwrap(),
            }
            for (reader, killed) in readers.into_iter().zip(before) {
                let end = if killed { End::Killed } else { End::Value(expected) };
                assert_eq!(end_of(reader), end, "round {round}, seed {:#x}", random.seed);
            }
        }
    });
}

/// The value is kept once, and goes with the last handle.
#[test]
fn a_result_goes_with_its_last_handle() {
    within(MINUTE, || {
        let living = Living::new();
        let result: AsyncResult<Rc<dyn Any>, ()> = AsyncResult::new();
        let other = result.clone();
        assert!(result.set(Rc::new(living.token())).is_ok());
        let read = result.get().unwrap();
        drop(result);
        drop(read);
        assert_eq!(living.count(), 1);
        drop(other);
        assert_eq!(living.count(), 0);
    });
}

/// Case 33: the end of a greenlet as a result.
#[test]
fn a_result_as_the_target_of_a_link() {
    /// What a greenlet's end is to those who read it.
    fn set(result: Answer) -> impl FnOnce(Outcome<'_, u32>) {
        move |outcome| match outcome {
            Outcome::Value(value) => result.set(*value).unwrap(),
            Outcome::Killed => result.set_error("killed").unwrap(),
            Outcome::Panicked(_) => result.set_error("panicked").unwrap(),
        }
    }
    within(MINUTE, || {
        let of = |greenlet: Greenlet<u32>| {
            let result = Answer::new();
            greenlet.link(set(result.clone()));
            result.get()
        };
        assert_eq!(of(spawn(|| 7)), Ok(7));
        assert_eq!(of(spawn(|| panic!("on purpose"))), Err("panicked"));
        assert_eq!(reports().len(), 1);
        let unborn = spawn(|| 7);
        unborn.kill();
        assert_eq!(of(unborn), Err("killed"));
    });
}

/// A link that writes what it was shown.
fn write_to(log: &Log) -> impl FnOnce(&Result<u32, &'static str>) + 'static {
    let log = log.clone();
    move |result| log.say(format!("{result:?}"))
}

/// Links `line` to `result`.
fn link_line(result: &Answer, log: &Log, line: impl ToString) -> greenloom::LinkId {
    let (log, line) = (log.clone(), line.to_string());
    result.link(move |_| log.say(line))
}

/// L1, L2: links see the value or the error, in order, later, also when it is there already.
#[test]
fn links_of_a_result() {
    within(MINUTE, || {
        let (value, error, log) = (Answer::new(), Answer::new(), Log::new());
        value.link(write_to(&log));
        error.link(write_to(&log));
        settle();
        log.assert_empty();
        value.set(7).unwrap();
        log.assert_empty();
        settle();
        error.set_error("no").unwrap();
        settle();
        log.assert_is(["Ok(7)", "Err(\"no\")"]);
        for _ in 0..3 {
            let before = log.len();
            value.link(write_to(&log));
            assert_eq!(log.len(), before, "not during the call");
            settle();
            assert_eq!(log.len(), before + 1);
        }
    });
}

/// L1.
#[test]
fn links_of_a_result_run_in_order() {
    within(MINUTE, || {
        let (result, log) = (Answer::new(), Log::new());
        for n in 0..1000 {
            link_line(&result, &log, n);
        }
        result.set(7).unwrap();
        until(|| log.len() == 1000);
        log.assert_is((0..1000).map(|n| n.to_string()));
        for n in 0..1000 {
            link_line(&result, &log, n);
        }
        until(|| log.len() == 2000);
        log.assert_is((0..1000).chain(0..1000).map(|n| n.to_string()));
    });
}

/// L6: they may wait, and the next one waits for its turn.
#[test]
fn links_of_a_result_may_wait() {
    within(MINUTE, || {
        let (result, log, go) = (Answer::new(), Log::new(), Event::new());
        let (waits, said) = (go.clone(), log.clone());
        result.link(move |_| {
            waits.wait();
            sleep(ms(1));
            said.say("first");
        });
        link_line(&result, &log, "second");
        result.set(7).unwrap();
        settle();
        log.assert_empty();
        assert_eq!(result.get(), Ok(7), "those who read do not wait for links");
        go.set();
        until(|| log.len() == 2);
        log.assert_is(["first", "second"]);
    });
}

/// L3, "Panics": each panic is reported, and stops nothing.
#[test]
fn links_of_a_result_that_panic() {
    within(MINUTE, || {
        let (result, log) = (Answer::new(), Log::new());
        for n in 0..3 {
            let log = log.clone();
            result.link(move |_| {
                log.say(n);
                panic!("link {n}");
            });
        }
        result.set(7).unwrap();
        until(|| log.len() == 3);
        settle();
        log.assert_is(["0", "1", "2"]);
        let reports = reports();
        assert_eq!(reports.len(), 3);
        for (n, report) in reports.iter().enumerate() {
            assert!(report.text.contains("panicked in a link"), "{}", report.text);
            assert!(report.text.contains(&format!("link {n}")), "{}", report.text);
        }
        assert_eq!(result.get(), Ok(7));
    });
}

/// L4: an unlinked link does not run, also when the result is there and links are about to run.
#[test]
fn links_of_a_result_can_be_taken_back() {
    within(MINUTE, || {
        let (result, log, living) = (Answer::new(), Log::new(), Living::new());
        let links: Vec<_> = (0..4).map(|n| link_line(&result, &log, n)).collect();
        let token = living.token();
        let dropped = result.link(move |_| drop(token));
        assert!(result.unlink(dropped));
        assert_eq!(living.count(), 0, "what it holds goes there");
        assert!(result.unlink(links[1]));
        assert!(!result.unlink(links[1]));
        result.set(7).unwrap();
        assert!(result.unlink(links[2]), "they have not run yet");
        settle();
        log.assert_is(["0", "3"]);
        assert!(!result.unlink(links[0]), "it has run");
        assert!(!Answer::new().unlink(links[0]), "each result knows its own");
    });
}

/// L4, L5: a link that takes off a later one, and adds one.
#[test]
fn links_of_a_result_may_change_the_links() {
    within(MINUTE, || {
        let (result, log) = (Answer::new(), Log::new());
        let later = Rc::new(Cell::new(None));
        let (target, handle, said) = (later.clone(), result.clone(), log.clone());
        result.link(move |_| {
            said.say(handle.unlink(target.get().expect("linked below")));
            link_line(&handle, &said, "added");
        });
        later.set(Some(link_line(&result, &log, "unlinked")));
        link_line(&result, &log, "last");
        result.set(7).unwrap();
        until(|| log.len() == 3);
        settle();
        log.assert_is(["true", "last", "added"]);
    });
}

/// Links run though nobody holds the result any more; without a result they go with it.
#[test]
fn links_of_a_result_and_its_last_handle() {
    within(MINUTE, || {
        let (log, living) = (Log::new(), Living::new());
        let result = Answer::new();
        result.link(write_to(&log));
        result.set(7).unwrap();
        drop(result);
        settle();
        log.assert_is(["Ok(7)"]);
        let (never, token) = (Answer::new(), living.token());
        never.link(move |_| drop(token));
        drop(never);
        assert_eq!(living.count(), 0);
    });
}

/// A link is a place like any other to wait for the next result.
#[test]
fn a_chain_of_results() {
    within(MINUTE, || {
        let results: Vec<_> = (0..10).map(|_| Answer::new()).collect();
        for pair in results.windows(2) {
            let next = pair[1].clone();
            pair[0].link(move |result| next.set(result.unwrap() + 1).unwrap());
        }
        results[0].set(1).unwrap();
        assert_eq!(results[9].get(), Ok(10));
    });
}

/// No call waits while its greenlet unwinds. `get` cannot return without a result, and says so.
#[test]
fn a_result_while_unwinding() {
    within(MINUTE, || {
        let (unset, set, told) = (Answer::new(), Answer::new(), Answer::new());
        set.set(7).unwrap();
        let teller = told.clone();
        while_unwinding(move || {
            unset.wait();
            assert!(!unset.wait_timeout(HOUR));
            assert_eq!(unset.get_timeout(HOUR), Err(Elapsed));
            assert_eq!(unset.try_get(), None);
            let panic = swallow(|| unset.get()).unwrap_err();
            let panic = message(panic.as_ref());
            assert!(panic.contains("unwind"), "{panic}");
            assert_eq!(set.get(), Ok(7));
            assert_eq!(set.get_timeout(HOUR), Ok(Ok(7)));
            _ = teller.set(8);
        });
        assert_eq!(told.get(), Ok(8));
    });
}

// -------------------------------------------------------------------- Condvar

/// A number under a lock, and a way to tell that it has changed.
struct Shared {
    number: Mutex<u32>,
    changed: Condvar,
}

impl Shared {
    fn new() -> Rc<Shared> {
        Rc::new(Shared { number: Mutex::new(0), changed: Condvar::default() })
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.number.lock()
    }

    fn is_locked(&self) -> bool {
        self.number.is_locked()
    }

    /// Waits once.
    fn wait(&self) -> MutexGuard<'_, u32> {
        self.changed.wait(self.lock())
    }
}

/// Does it wait to be told, and nothing has ended that yet?
fn is_waiting<T: 'static>(greenlet: &Greenlet<T>) -> bool {
    reason_of(greenlet.id()).is_some_and(|reason| reason.starts_with("wait of the Condvar"))
}

/// A line of `count` who wait once each, and say their number when they are through.
fn waiters(count: usize, shared: &Rc<Shared>, log: &Log) -> Vec<Greenlet<()>> {
    let log = log.clone();
    line_of(count, shared, move |n, shared| {
        let _guard = shared.wait();
        log.say(n);
    })
}

/// Case 38: the lock is free while one waits, and held when the wait is over.
#[test]
fn the_lock_is_given_back_for_the_time_of_the_wait() {
    within(MINUTE, || {
        let shared = Shared::new();
        let waiter = parked(&shared, |shared| {
            let mut guard = shared.wait();
            assert!(shared.is_locked());
            *guard += 1;
            *guard
        });
        assert!(!shared.is_locked());
        let mut guard = shared.lock();
        *guard = 41;
        shared.changed.notify_one();
        settle();
        assert!(!waiter.is_finished(), "we hold the lock");
        drop(guard);
        assert_eq!(waiter.get().unwrap(), 42);
        assert!(!shared.is_locked());
    });
}

/// Case 38: each `notify` wakes so many, first come, first served.
#[test]
fn so_many_are_woken_in_the_order_in_which_they_came() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiters = waiters(7, &shared, &log);
        let woken = |count: usize| {
            settle();
            assert_eq!(log.len(), count);
        };
        woken(0);
        shared.changed.notify_one();
        woken(1);
        log.assert_is(["0"]);
        shared.changed.notify(0);
        woken(1);
        shared.changed.notify(2);
        woken(3);
        shared.changed.notify_one();
        woken(4);
        assert_eq!(log.lines()[3], "3");
        shared.changed.notify_all();
        woken(7);
        joinall(&waiters);
        log.assert_has_all((0..7).map(|n| n.to_string()));
    });
}

/// Case 38: those who are woken together get the lock in order.
#[cfg(not(hard_switch))] // asserts the order of those who are ready
#[test]
fn those_who_are_woken_together_get_the_lock_in_order() {
    within(MINUTE, || {
        for locked in [true, false] {
            let (shared, log) = (Shared::new(), Log::new());
            let waiters = waiters(10, &shared, &log);
            let guard = locked.then(|| shared.lock());
            shared.changed.notify_all();
            drop(guard);
            joinall(&waiters);
            log.assert_is((0..10).map(|n| n.to_string()));
        }
    });
}

/// One that is woken stands in the line for the lock behind those who are there already.
#[test]
fn who_waits_for_the_lock_already_goes_first() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiters = waiters(1, &shared, &log);
        let guard = shared.lock();
        let locker = parked(&(shared.clone(), log.clone()), |(shared, log)| {
            let _guard = shared.lock();
            log.say("locks");
        });
        shared.changed.notify_one();
        settle();
        drop(guard);
        joinall(&waiters);
        locker.join();
        log.assert_is(["locks", "0"]);
    });
}

/// A notification for nobody is not kept for anybody.
#[test]
fn a_notification_for_nobody_is_nothing() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        shared.changed.notify_one();
        shared.changed.notify(5);
        shared.changed.notify_all();
        let waiters = waiters(1, &shared, &log);
        settle();
        log.assert_empty();
        shared.changed.notify(5);
        joinall(&waiters);
        let (guard, notified) = shared.changed.wait_timeout(shared.lock(), ms(1));
        drop(guard);
        assert!(!notified);
    });
}

/// No spurious wake-ups: neither the lock, nor time, nor another condition ends the wait.
#[test]
fn nothing_but_a_notification_ends_the_wait() {
    within(MINUTE, || {
        let (shared, log, other) = (Shared::new(), Log::new(), Condvar::new());
        let waiters = waiters(3, &shared, &log);
        for _ in 0..100 {
            *shared.lock() += 1;
            other.notify_all();
            yield_now();
        }
        sleep(ms(1));
        log.assert_empty();
        shared.changed.notify_all();
        joinall(&waiters);
    });
}

/// H5.
#[test]
fn notify_never_switches() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiters = waiters(30, &shared, &log);
        never_switches(|| {
            shared.changed.notify_one();
            shared.changed.notify(2);
        });
        joinall(&waiters);
        never_switches(|| shared.changed.notify_all());
    });
}

#[test]
fn wait_while_does_not_wait_for_what_is_so_already() {
    within(MINUTE, || {
        let shared = Shared::new();
        let mut asked = 0;
        let guard = shared.changed.wait_while(shared.lock(), |number| {
            asked += 1;
            assert!(shared.is_locked());
            *number != 0
        });
        assert_eq!((asked, *guard), (1, 0));
        drop(guard);
        let guard = shared.lock();
        let (guard, notified) = shared.changed.wait_timeout_while(guard, HOUR, |_| false);
        assert!(notified);
        drop(guard);
        assert!(!shared.is_locked());
    });
}

/// Case 38: it goes on waiting when it is woken for nothing.
#[test]
fn wait_while_takes_no_notification_for_an_answer() {
    within(MINUTE, || {
        let shared = Shared::new();
        let waits: [fn(&Rc<Shared>) -> u32; 2] = [
            |shared| *shared.changed.wait_while(shared.lock(), |number| *number % 10 != 0),
            |shared| {
                let condition = |number: &mut u32| *number % 10 != 0;
                let (guard, so) = shared.changed.wait_timeout_while(shared.lock(), HOUR, condition);
                assert!(so);
                *guard
            },
        ];
        for wait in waits {
            *shared.lock() = 1;
            let waiter = parked(&shared, wait);
            for _ in 0..8 {
                *shared.lock() += 1;
                shared.changed.notify_one();
                settle();
                assert!(!waiter.is_finished());
            }
            *shared.lock() += 1;
            settle();
            assert!(!waiter.is_finished(), "nobody has told it");
            shared.changed.notify_one();
            assert_eq!(waiter.get().unwrap(), 10);
        }
    });
}

/// The condition may change what is under the lock.
#[test]
fn the_condition_may_take_what_it_finds() {
    within(MINUTE, || {
        let shared = Shared::new();
        let take = |number: &mut u32| match number.checked_sub(2) {
            Some(rest) => {
                *number = rest;
                false
            }
            None => true,
        };
        let taker = parked(&shared, move |shared| {
            drop(shared.changed.wait_while(shared.lock(), take));
        });
        *shared.lock() = 5;
        shared.changed.notify_one();
        taker.join();
        assert_eq!(*shared.lock(), 3);
    });
}

/// "Panics": a condition that panics gives the lock back, and the condition variable is none the
/// worse.
#[test]
fn a_condition_may_panic() {
    within(MINUTE, || {
        let shared = Shared::new();
        for at_once in [true, false] {
            let panicking = with(&shared, move |shared| {
                let mut asked = 0;
                drop(shared.changed.wait_while(shared.lock(), |_| {
                    asked += 1;
                    assert!(!at_once && asked == 1, "on purpose");
                    true
                }));
            });
            settle();
            shared.changed.notify_one();
            assert_eq!(end_of(panicking), End::Panicked(String::from("on purpose")));
            assert_eq!(reports().len(), 1);
            assert!(!shared.is_locked());
        }
        let (log, changed) = (Log::new(), &shared.changed);
        let waiters = waiters(1, &shared, &log);
        changed.notify_one();
        joinall(&waiters);
    });
}

/// T8: false when the time is over, not before, and with the lock.
#[test]
fn a_notification_that_does_not_come_in_time() {
    within(MINUTE, || {
        let shared = Shared::new();
        let start = Instant::now();
        let (guard, notified) = shared.changed.wait_timeout(shared.lock(), LIMIT);
        assert!(start.elapsed() >= LIMIT);
        assert!(!notified && shared.is_locked());
        let (guard, so) = shared.changed.wait_timeout_while(guard, LIMIT, |_| true);
        assert!(start.elapsed() >= 2 * LIMIT);
        assert!(!so && shared.is_locked());
        let (guard, notified) = shared.changed.wait_timeout(guard, Duration::ZERO);
        assert!(!notified && shared.is_locked());
        drop(guard);
        assert!(!shared.is_locked());
        nothing_is_left();
    });
}

/// T8: told in time is true. The lock takes as long as it takes.
#[test]
fn a_notification_in_time_and_a_lock_too_late() {
    within(MINUTE, || {
        let shared = Shared::new();
        let (notified, waited) = loop {
            let waiter = with(&shared, |shared| {
                let start = Instant::now();
                let (guard, notified) = shared.changed.wait_timeout(shared.lock(), LIMIT);
                drop(guard);
                (notified, start.elapsed())
            });
            settle();
            let guard = shared.lock();
            if is_waiting(&waiter) {
                shared.changed.notify_one();
                sleep(2 * LIMIT);
                drop(guard);
                break waiter.get().unwrap();
            }
            // On a busy machine the time was over before we began.
            drop(guard);
            waiter.join();
        };
        assert!(notified);
        assert!(waited >= 2 * LIMIT);
    });
}

/// Time that is over while somebody else holds the lock does not shorten the wait for it.
#[test]
fn who_runs_out_of_time_waits_for_the_lock() {
    within(MINUTE, || {
        let shared = Shared::new();
        loop {
            let waiter = with(&shared, |shared| {
                let (guard, notified) = shared.changed.wait_timeout(shared.lock(), LIMIT);
                assert!(shared.is_locked());
                drop(guard);
                notified
            });
            settle();
            if is_waiting(&waiter) {
                waits_for_the_lock(&shared, &waiter);
                assert!(!waiter.get().unwrap());
                break;
            }
            // On a busy machine the time was over before we began.
            waiter.join();
        }
    });
}

/// `wait_timeout_while` is true if it is so in the end, told or not.
#[test]
fn a_condition_that_holds_when_time_is_up() {
    within(MINUTE, || {
        let shared = Shared::new();
        let waiter = with(&shared, |shared| {
            let condition = |number: &mut u32| *number == 0;
            shared.changed.wait_timeout_while(shared.lock(), LIMIT, condition).1
        });
        settle();
        *shared.lock() = 1; // nobody is told
        assert!(waiter.get().unwrap());
    });
}

/// M4: whoever gave up takes no notification from those behind him.
#[test]
fn who_ran_out_of_time_takes_no_notification() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let gives_up: [fn(&Rc<Shared>); 3] = [
            |shared| assert!(!shared.changed.wait_timeout(shared.lock(), ms(1)).1),
            |shared| assert!(!shared.changed.wait_timeout_while(shared.lock(), ms(1), |_| true).1),
            |shared| assert!(with_timeout(ms(1), || drop(shared.wait())).is_err()),
        ];
        for gives_up in gives_up {
            let first = with(&shared, gives_up);
            settle();
            let waiters = waiters(1, &shared, &log);
            first.get().unwrap();
            shared.changed.notify_one();
            joinall(&waiters);
        }
    });
}

/// "Condvar", K9: killed before it is told, it takes nothing.
#[test]
fn a_notification_after_a_kill_goes_to_the_next() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiters = waiters(2, &shared, &log);
        waiters[0].kill_nowait();
        shared.changed.notify_one();
        joinall(&waiters);
        log.assert_is(["1"]);
    });
}

/// "Condvar", K9: told and then killed in the same turn, he has received it, or the next one has;
/// never neither, never both.
#[test]
fn a_notification_before_a_kill_is_received_once() {
    within(MINUTE, || {
        for locked in [true, false] {
            let (shared, log) = (Shared::new(), Log::new());
            let waiters = waiters(3, &shared, &log);
            let guard = locked.then(|| shared.lock());
            shared.changed.notify_one();
            waiters[0].kill_nowait();
            drop(guard);
            settle();
            assert_eq!(log.len(), 1, "{:?}", log.lines());
            assert!(waiters[0].is_finished() && !waiters[2].is_finished());
            killall(&waiters);
            assert!(!shared.is_locked());
        }
    });
}

/// "Condvar": told, and killed when it waits for the lock: the notification goes to the next.
#[test]
fn a_notification_of_one_killed_at_the_lock_goes_to_the_next() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiters = waiters(2, &shared, &log);
        let guard = shared.lock();
        shared.changed.notify_one();
        settle();
        waiters[0].kill_nowait();
        settle();
        log.assert_empty();
        drop(guard);
        joinall(&waiters);
        log.assert_is(["1"]);
    });
}

/// No spurious wake-ups: what all were told is for those who waited then. One of them who is killed
/// at the lock does not pass it on to somebody who came later.
#[test]
fn a_notification_for_all_is_not_for_those_who_come_later() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let told = waiters(2, &shared, &log);
        let guard = shared.lock();
        shared.changed.notify_all();
        settle();
        let later = parked(&shared, |shared| drop(shared.wait()));
        told[0].kill_nowait();
        settle();
        drop(guard);
        settle();
        log.assert_is(["1"]);
        assert!(told[0].is_finished() && is_waiting(&later));
        shared.changed.notify_one();
        later.get().unwrap();
    });
}

/// "Condvar", T4: told in time, when the time was over before anybody looked.
#[test]
fn a_notification_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let wait = |shared: &Rc<Shared>, limit| shared.changed.wait_timeout(shared.lock(), limit).1;
        let notify = |shared: &Rc<Shared>| shared.changed.notify_one();
        assert!(woken_when_due(&Shared::new(), wait, notify));
    });
}

/// "Condvar": told when its time was over, before it has run: the notification goes to the next.
#[test]
fn a_notification_after_the_time_goes_to_the_next() {
    within(MINUTE, || {
        let waits: [fn(&Rc<Shared>, Duration) -> bool; 2] = [
            |shared, limit| shared.changed.wait_timeout(shared.lock(), limit).1,
            |shared, limit| with_timeout(limit, || drop(shared.wait())).is_ok(),
        ];
        for wait in waits {
            let (shared, log) = (Shared::new(), Log::new());
            let first = with(&shared, move |shared| wait(shared, LIMIT));
            settle();
            let behind = waiters(1, &shared, &log);
            let waker = with(&shared, |shared| {
                sleep(2 * LIMIT);
                shared.changed.notify_one();
            });
            settle();
            spin(3 * LIMIT);
            waker.join();
            assert!(!first.get().unwrap());
            joinall(&behind);
            log.assert_is(["0"]);
        }
    });
}

/// A kill takes as long as the lock: it is taken again before the unwind goes on, and given back.
#[test]
fn who_is_killed_takes_the_lock_again() {
    within(MINUTE, || {
        let shared = Shared::new();
        let waiter = parked(&shared, |shared| drop(shared.wait()));
        waiter.kill_nowait();
        waits_for_the_lock(&shared, &waiter);
        assert_eq!(end_of(waiter), End::Killed);
        assert!(!shared.is_locked());
    });
}

/// So does a timeout from outside.
#[test]
fn who_is_timed_out_from_outside_takes_the_lock_again() {
    within(MINUTE, || {
        let shared = Shared::new();
        loop {
            let waiter = with(&shared, |shared| with_timeout(LIMIT, || drop(shared.wait())));
            settle();
            if is_waiting(&waiter) {
                waits_for_the_lock(&shared, &waiter);
                assert_eq!(waiter.get().unwrap(), Err(Elapsed));
                break;
            }
            // On a busy machine the time was over before we began.
            waiter.join();
        }
        assert!(!shared.is_locked());
    });
}

/// `waiter` is about to be unwound, and first waits for as long as we have the lock.
#[track_caller]
fn waits_for_the_lock<T: 'static>(shared: &Rc<Shared>, waiter: &Greenlet<T>) {
    let guard = shared.number.try_lock().expect("nobody runs in between");
    sleep(3 * LIMIT);
    settle(); // on a busy machine our time and his may be over in one turn
    assert!(!waiter.is_finished());
    let shown = reason_of(waiter.id()).unwrap();
    assert!(shown.starts_with("lock of the Mutex made at"), "{shown}");
    drop(guard);
    waiter.join();
}

/// Not even a second kill, or a timeout from further out, makes it go on without the lock.
#[test]
fn nothing_ends_the_wait_for_the_lock() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiter = parked(&(shared.clone(), log.clone()), |(shared, log)| {
            let _outer = log.at_drop("outer");
            _ = with_timeout(2 * LIMIT, || {
                let _inner = log.at_drop("inner");
                drop(shared.wait());
            });
        });
        let guard = shared.lock();
        waiter.kill_nowait();
        settle();
        waiter.kill_nowait();
        assert!(!waiter.kill_timeout(3 * LIMIT));
        log.assert_empty();
        drop(guard);
        assert_eq!(end_of(waiter), End::Killed);
        log.assert_is(["inner", "outer"]);
        assert!(!shared.is_locked());
    });
}

/// No call waits while its greenlet unwinds: the guard comes back at once.
#[test]
fn a_condvar_while_unwinding() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let waiters = waiters(2, &shared, &log);
        let destructor = shared.clone();
        while_unwinding(move || {
            let changed = &destructor.changed;
            let guard = changed.wait(destructor.lock());
            assert!(destructor.is_locked());
            let (guard, notified) = changed.wait_timeout(guard, HOUR);
            assert!(!notified && destructor.is_locked());
            drop(guard);
            assert!(!destructor.is_locked());
            changed.notify_one();
        });
        joinall(&waiters);
    });
}

/// Nor does it give the lock to those in line for it, and so have to wait for it.
#[test]
fn a_condvar_while_unwinding_keeps_the_lock() {
    within(MINUTE, || {
        let (shared, log): (&'static Rc<Shared>, _) =
            (Box::leak(Box::new(Shared::new())), Log::new());
        let said = log.clone();
        let unwinding = spawn(move || {
            let guard = shared.lock();
            let locks = parked(&(shared.clone(), said.clone()), |(shared, log)| {
                let _guard = shared.lock();
                log.say("has the lock");
            });
            let _unwinding = at_drop(move || {
                let back = swallow(|| shared.changed.wait(guard));
                let at_once = back.is_ok() && !locks.is_finished();
                said.say(if at_once { "back at once" } else { "had to wait" });
            });
            panic!("on purpose");
        });
        assert_eq!(end_of::<()>(unwinding), End::Panicked(String::from("on purpose")));
        assert_eq!(reports().len(), 1);
        settle();
        log.assert_is(["back at once", "has the lock"]);
    });
}

/// While it unwinds, a condition that is not so does not keep it.
#[test]
fn wait_while_while_unwinding() {
    within(MINUTE, || {
        let shared = Shared::new();
        while_unwinding(move || {
            let guard = shared.changed.wait_while(shared.lock(), |_| true);
            let (guard, so) = shared.changed.wait_timeout_while(guard, HOUR, |_| true);
            assert!(!so);
            drop(guard);
            assert!(!shared.is_locked());
        });
    });
}

#[test]
fn a_condvar_in_a_link_and_in_the_destructor_of_a_local() {
    within(MINUTE, || {
        let (shared, log) = (Shared::new(), Log::new());
        let linked = with(&(shared.clone(), log.clone()), |things| {
            let (shared, log) = things.clone();
            with_the_locals(move || {
                drop(shared.wait());
                log.say("destructor");
            });
        });
        let (waits, said) = (shared.clone(), log.clone());
        linked.link(move |_| {
            drop(waits.wait());
            said.say("link");
        });
        for count in 1..=2 {
            settle();
            shared.changed.notify_one();
            until(|| log.len() == count);
        }
        log.assert_is(["destructor", "link"]);
    });
}

/// One condition for two mutexes, in turn.
#[test]
fn a_condvar_is_bound_to_no_mutex() {
    within(MINUTE, || {
        let things = Rc::new((Mutex::new(1), Mutex::new(2), Condvar::new()));
        let one = parked(&things, |things| *things.2.wait(things.0.lock()));
        things.2.notify_one();
        assert_eq!(one.get().unwrap(), 1);
        let other = parked(&things, |things| *things.2.wait(things.1.lock()));
        things.2.notify_one();
        assert_eq!(other.get().unwrap(), 2);
    });
}

/// How a consumer of the test below waits for something to take.
const TAKE: [fn(&Shared, Duration) -> bool; 3] = [
    |shared, _| {
        *shared.changed.wait_while(shared.lock(), |number| *number == 0) -= 1;
        true
    },
    |shared, limit| {
        let condition = |number: &mut u32| *number == 0;
        let (mut guard, so) = shared.changed.wait_timeout_while(shared.lock(), limit, condition);
        *guard -= u32::from(so);
        so
    },
    |shared, limit| with_timeout(limit, || TAKE[0](shared, limit)).is_ok(),
];

/// "Condvar", K9, M5: consumers come and go, killed, out of time, or served, and each item is told
/// of once. If ever an item lies there and somebody waits for it, a notification was lost.
#[test]
fn no_notification_is_lost() {
    within(2 * MINUTE, || {
        let mut random = Lcg::new(0xE0E0_0003);
        let (shared, taken) = (Shared::new(), Rc::new(Cell::new(0)));
        let (mut put, mut consumers) = (0, Vec::<Greenlet<()>>::new());
        for round in 0..ROUNDS {
            for _ in 0..random.below(4) {
                let (take, taken) = (TAKE[random.below(3) as usize], taken.clone());
                let limit = Duration::from_micros(random.below(200));
                consumers.push(with(&shared, move |shared| {
                    let took = u32::from(take(shared, limit));
                    taken.set(taken.get() + took);
                }));
            }
            if random.one_in(2) {
                settle();
            }
            spin(Duration::from_micros(random.below(50)));
            // In one turn: some are killed, some items are put, some are killed. Or with time in
            // between for those who were told to come to the lock, which is held.
            let guard = shared.number.try_lock();
            consumers.iter().filter(|_| random.one_in(5)).for_each(Greenlet::kill_nowait);
            if let Some(mut guard) = guard {
                for _ in 0..random.below(4) {
                    put += 1;
                    *guard += 1;
                    shared.changed.notify_one();
                }
                match random.below(4) {
                    0 => settle(),
                    1 => sleep(Duration::from_micros(random.below(200))),
                    _ => {}
                }
                consumers.iter().filter(|_| random.one_in(5)).for_each(Greenlet::kill_nowait);
            }
            settle();
            consumers.retain(|consumer| !consumer.is_finished());
            // Whatever nobody was there for goes, or nobody would ever wait.
            let left = std::mem::take(&mut *shared.lock());
            assert_eq!(taken.get() + left, put, "round {round}, seed {:#x}", random.seed);
            let waiting = consumers.iter().filter(|waiter| is_waiting(waiter)).count();
            assert!(left == 0 || waiting == 0, "round {round}, seed {:#x}", random.seed);
            put -= left;
        }
        killall(&consumers);
        assert!(taken.get() > 1000, "seed {:#x}", random.seed);
    });
}

// -------------------------------------------------------------------- Barrier

/// How a party got through: as the leader or not, or not at all.
type Passage = Result<bool, BrokenBarrier>;

/// What a party got, made plain.
fn leads(passed: Result<BarrierWaitResult, BrokenBarrier>) -> Passage {
    passed.map(|passed| passed.is_leader())
}

/// Greenlets that wait at `barrier`, and have come there.
fn parties(count: usize, barrier: &Rc<Barrier>) -> Vec<Greenlet<Passage>> {
    line_of(count, barrier, |_, barrier| leads(barrier.wait()))
}

/// How those who waited got through.
fn passages(waiters: Vec<Greenlet<Passage>>) -> Vec<Passage> {
    waiters.into_iter().map(|waiter| waiter.get().unwrap()).collect()
}

/// All have passed, and one of them as the leader.
#[track_caller]
fn assert_passed(passages: &[Passage]) {
    let leaders = passages.iter().filter(|passed| **passed == Ok(true)).count();
    assert!(passages.iter().all(Result::is_ok), "{passages:?}");
    assert_eq!(leaders, 1, "{passages:?}");
}

/// None has passed.
#[track_caller]
fn assert_broken(passages: &[Passage]) {
    assert!(passages.iter().all(|passed| *passed == Err(BrokenBarrier)), "{passages:?}");
}

/// Case 38: nobody passes before all have come; then all do, one of them as the leader.
#[test]
fn a_barrier_waits_for_the_last() {
    within(MINUTE, || {
        for count in [2, 3, 10, 100] {
            let barrier = Rc::new(Barrier::new(count));
            assert_eq!((barrier.parties(), barrier.waiting()), (count, 0));
            let waiters = parties(count - 1, &barrier);
            settle();
            assert_eq!(barrier.waiting(), count - 1);
            assert!(!waiters.iter().any(Greenlet::is_finished));
            let last = leads(barrier.wait());
            let mut passages = passages(waiters);
            passages.push(last);
            assert_passed(&passages);
            assert_eq!(barrier.waiting(), 0);
            assert!(!barrier.is_broken());
        }
    });
}

/// As std's: a barrier for nobody is one for one.
#[test]
fn a_barrier_for_one_holds_nobody_up() {
    within(MINUTE, || {
        for parties in [0, 1] {
            let barrier = Barrier::new(parties);
            for _ in 0..3 {
                assert_eq!(leads(barrier.wait()), Ok(true));
                assert_eq!(leads(barrier.wait_timeout(Duration::ZERO)), Ok(true));
            }
        }
    });
}

/// Case 38: it can be used again and again; nobody comes to the next round before all have left the
/// one before.
#[test]
fn a_barrier_can_be_used_again() {
    const PARTIES: usize = 5;
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(PARTIES));
        let at = Rc::new(RefCell::new([0; PARTIES]));
        let things = (barrier, at);
        let walkers: Vec<_> = (0..PARTIES)
            .map(|me| {
                with(&things, move |(barrier, at)| {
                    let mut led = 0;
                    for round in 0..100 {
                        at.borrow_mut()[me] = round;
                        led += usize::from(barrier.wait().unwrap().is_leader());
                        let at = *at.borrow();
                        assert!(at.iter().all(|at| (round..=round + 1).contains(at)), "{at:?}");
                        if (round + me).is_multiple_of(3) {
                            yield_now();
                        }
                    }
                    led
                })
            })
            .collect();
        let led: usize = walkers.into_iter().map(|walker| walker.get().unwrap()).sum();
        assert_eq!(led, 100);
    });
}

/// More come than there are parties: each full set passes by itself.
#[test]
fn more_than_the_parties_are_several_rounds() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(2));
        let waiters: Vec<_> =
            (0..5).map(|_| with(&barrier, |barrier| leads(barrier.wait()))).collect();
        settle();
        let (through, waiting): (Vec<_>, Vec<_>) =
            waiters.into_iter().partition(Greenlet::is_finished);
        let passages = passages(through);
        assert_eq!(passages.len(), 4);
        assert_eq!(passages.iter().filter(|passed| **passed == Ok(true)).count(), 2);
        assert_eq!(barrier.waiting(), 1);
        killall(&waiting);
    });
}

/// "Barrier", T8: who is killed or runs out of time breaks it for all, also for those who come
/// later.
#[test]
fn who_does_not_wait_for_the_others_breaks_it() {
    type Leave = fn(&Rc<Barrier>);
    within(MINUTE, || {
        let leave: [Leave; 4] = [
            |barrier| {
                let killed = parked(barrier, |barrier| drop(barrier.wait()));
                killed.kill();
            },
            |barrier| assert_eq!(leads(barrier.wait_timeout(ms(1))), Err(BrokenBarrier)),
            |barrier| assert_eq!(leads(barrier.wait_timeout(Duration::ZERO)), Err(BrokenBarrier)),
            |barrier| assert!(with_timeout(ms(1), || drop(barrier.wait())).is_err()),
        ];
        for leave in leave {
            let barrier = Rc::new(Barrier::new(4));
            let before = parties(1, &barrier);
            leave(&barrier);
            assert!(barrier.is_broken());
            assert_eq!(barrier.waiting(), 0);
            assert_broken(&passages(before));
            assert_eq!(leads(barrier.wait()), Err(BrokenBarrier));
            assert_eq!(leads(barrier.wait_timeout(HOUR)), Err(BrokenBarrier));
            nothing_is_left();
        }
    });
}

/// T8: not before the time is over.
#[test]
fn a_barrier_with_a_limit_is_not_broken_early() {
    within(MINUTE, || {
        let barrier = Barrier::new(2);
        let start = Instant::now();
        assert_eq!(leads(barrier.wait_timeout(LIMIT)), Err(BrokenBarrier));
        assert!(start.elapsed() >= LIMIT);
    });
}

/// The last one has no need to wait, so no time is enough.
#[test]
fn the_last_one_needs_no_time() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let waiters = parties(2, &barrier);
        let last = leads(barrier.wait_timeout(Duration::ZERO));
        let mut passages = passages(waiters);
        passages.push(last);
        assert_passed(&passages);
    });
}

/// Case 38: `abort` breaks it, with or without somebody waiting.
#[test]
fn abort_breaks_it() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let waiters = parties(2, &barrier);
        barrier.abort();
        assert!(barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
        assert_broken(&passages(waiters));
        barrier.abort();
        assert_eq!(leads(barrier.wait()), Err(BrokenBarrier));
        let unused = Barrier::new(1);
        unused.abort();
        assert_eq!(leads(unused.wait()), Err(BrokenBarrier));
    });
}

/// "Barrier": `reset` gives those who wait an error, and the barrier is whole.
#[test]
fn reset_makes_it_whole() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let waiters = parties(2, &barrier);
        barrier.reset();
        assert!(!barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
        assert_broken(&passages(waiters));
        assert!(!barrier.is_broken(), "those who were sent away have not broken it");
        for then in [Barrier::abort, Barrier::reset] {
            then(&barrier);
            barrier.reset();
            let waiters = parties(2, &barrier);
            let last = leads(barrier.wait());
            let mut passages = passages(waiters);
            passages.push(last);
            assert_passed(&passages);
        }
    });
}

/// "Barrier": it is whole at once, before those who were sent away have run.
#[test]
fn reset_separates_the_rounds() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let old = parties(2, &barrier);
        barrier.reset();
        let new: Vec<_> = (0..2).map(|_| with(&barrier, |barrier| leads(barrier.wait()))).collect();
        let last = leads(barrier.wait());
        assert_broken(&passages(old));
        let mut passages = passages(new);
        passages.push(last);
        assert_passed(&passages);
        assert!(!barrier.is_broken());
    });
}

/// "Barrier": one of those who are sent away was killed in the same turn, or its time was up: that
/// does not break the new round.
#[test]
fn reset_forgets_who_was_killed() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let old = parties(2, &barrier);
        old[0].kill_nowait();
        barrier.reset();
        let new: Vec<_> = (0..2).map(|_| with(&barrier, |barrier| leads(barrier.wait()))).collect();
        settle();
        assert!(!barrier.is_broken());
        let last = leads(barrier.wait());
        let mut passages = passages(new);
        passages.push(last);
        assert_passed(&passages);
        assert!(old.iter().all(Greenlet::is_finished));

        let wait = |barrier: &Rc<Barrier>, limit| {
            assert_eq!(leads(barrier.wait_timeout(limit)), Err(BrokenBarrier));
        };
        woken_too_late(&barrier, wait, |barrier| barrier.reset());
        assert!(!barrier.is_broken());
    });
}

/// Those who have been let through have passed, whatever happens to the barrier in the same turn.
#[test]
fn who_is_through_is_through() {
    within(MINUTE, || {
        for then in [Barrier::abort, Barrier::reset] {
            let barrier = Rc::new(Barrier::new(3));
            let waiters = parties(2, &barrier);
            let last = with(&barrier, move |barrier| {
                let passed = leads(barrier.wait());
                then(barrier);
                passed
            });
            let mut passages = passages(waiters);
            passages.push(last.get().unwrap());
            assert_passed(&passages);
        }
    });
}

/// H5.
#[test]
fn abort_and_reset_never_switch() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let waiters = parties(2, &barrier);
        never_switches(|| {
            barrier.abort();
            barrier.reset();
        });
        assert_broken(&passages(waiters));
    });
}

/// K9: let through and then killed, it has passed, and nothing is broken.
#[test]
fn a_barrier_and_a_kill_in_one_turn() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(2));
        let passed = in_one_turn(
            First::Wake,
            &barrier,
            |barrier| barrier.wait().is_ok(),
            |barrier| assert!(barrier.wait().is_ok()),
        );
        assert_eq!(passed, Some(true));
        assert!(!barrier.is_broken());
        assert_passed(&{
            let waiters = parties(1, &barrier);
            let last = leads(barrier.wait());
            let mut passages = passages(waiters);
            passages.push(last);
            passages
        });
    });
}

/// "Barrier": killed before the last one comes, it has broken the barrier, whether it has run since
/// or not; and only that round.
#[test]
fn a_kill_and_the_last_one_in_one_turn() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let waiters = parties(2, &barrier);
        waiters[0].kill_nowait();
        assert_eq!(leads(barrier.wait()), Err(BrokenBarrier));
        assert!(barrier.is_broken());
        let [killed, other] = <[_; 2]>::try_from(waiters).unwrap();
        assert_eq!(end_of(killed), End::Killed);
        assert_eq!(other.get().unwrap(), Err(BrokenBarrier));
    });
}

/// T4.
#[cfg(not(hard_switch))] // where the last one lets others run first
#[test]
fn the_last_one_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(2));
        let wait = |barrier: &Rc<Barrier>, limit| {
            barrier.reset(); // the time may have been over once before
            leads(barrier.wait_timeout(limit))
        };
        let last = |barrier: &Rc<Barrier>| assert!(barrier.wait().is_ok());
        assert!(woken_when_due(&barrier, wait, last).is_ok());
        assert!(!barrier.is_broken());
    });
}

/// "Barrier", K9: the last one comes when the time of another is up, which has broken the barrier
/// whether he has run since or not.
#[test]
fn the_last_one_comes_when_time_is_up() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(2));
        let wait = |barrier: &Rc<Barrier>, limit| {
            assert_eq!(leads(barrier.wait_timeout(limit)), Err(BrokenBarrier));
        };
        let last = woken_too_late(&barrier, wait, |barrier| leads(barrier.wait()));
        assert_eq!(last, Err(BrokenBarrier));
        assert!(barrier.is_broken());
    });
}

/// No call waits while its greenlet unwinds: it cannot wait for the others, so the barrier breaks.
#[test]
fn a_barrier_while_unwinding() {
    within(MINUTE, || {
        let barrier = Rc::new(Barrier::new(3));
        let destructor = barrier.clone();
        while_unwinding(move || {
            destructor.reset();
            assert_eq!(leads(destructor.wait()), Err(BrokenBarrier));
            assert!(destructor.is_broken());
            destructor.reset();
            assert_eq!(leads(destructor.wait_timeout(HOUR)), Err(BrokenBarrier));
            assert!(destructor.is_broken());
        });
        barrier.reset();
        let waiters = parties(2, &barrier);
        let last = barrier.clone();
        let passed = Rc::new(Cell::new(None));
        let passes = passed.clone();
        let unwinding = spawn(move || {
            let _guard = at_drop(move || passes.set(Some(leads(last.wait()))));
            panic!("on purpose");
        });
        assert_eq!(end_of::<()>(unwinding), End::Panicked(String::from("on purpose")));
        assert_eq!(reports().len(), 1);
        let mut passages = passages(waiters);
        passages.push(passed.take().unwrap());
        assert_passed(&passages);
    });
}

/// "Barrier", K9: in each round it is all or none; a round that was broken is put right, and does
/// not hurt the next.
#[test]
fn a_barrier_lets_all_through_or_none() {
    within(2 * MINUTE, || {
        let mut random = Lcg::new(0xE0E0_0004);
        let waits: [fn(&Rc<Barrier>) -> Passage; 2] =
            [|barrier| leads(barrier.wait()), |barrier| leads(barrier.wait_timeout(HOUR))];
        let barrier = Rc::new(Barrier::new(4));
        let mut broken = 0;
        for round in 0..ROUNDS {
            let seed = random.seed;
            let mut waiters: Vec<_> =
                (0..3).map(|_| with(&barrier, waits[random.below(2) as usize])).collect();
            settle();
            let victim = random.one_in(3).then(|| random.below(3) as usize);
            if let Some(victim) = victim {
                waiters[victim].kill_nowait();
            }
            let last = leads(barrier.wait());
            if let Some(victim) = victim {
                assert_eq!(end_of(waiters.remove(victim)), End::Killed, "seed {seed:#x}");
            }
            let mut passages = passages(waiters);
            passages.push(last);
            let expected = if victim.is_some() { 0 } else { 4 };
            let passed = passages.iter().filter(|passed| passed.is_ok()).count();
            assert_eq!(passed, expected, "round {round}, seed {seed:#x}");
            let leaders = passages.iter().filter(|passed| **passed == Ok(true)).count();
            assert_eq!(leaders, expected / 4, "round {round}, seed {seed:#x}");
            assert_eq!(barrier.is_broken(), victim.is_some(), "round {round}, seed {seed:#x}");
            broken += usize::from(victim.is_some());
            barrier.reset();
        }
        assert!((1000..9000).contains(&broken), "seed {:#x}", random.seed);
    });
}

// ---------------------------------------------------------------------- Timer

/// Counts the runs of a timer's callback.
fn counted(runs: &Rc<Cell<usize>>) -> impl FnMut() + 'static {
    let runs = runs.clone();
    move || runs.set(runs.get() + 1)
}

#[test]
fn a_timer_runs_once_and_not_early() {
    within(MINUTE, || {
        let (ran, start) = (Event::new(), Instant::now());
        let tell = ran.clone();
        let timer = Timer::after(LIMIT, move || {
            assert!(start.elapsed() >= LIMIT);
            assert_eq!(current().name(), "timer");
            tell.set();
        });
        assert!(!timer.is_finished());
        ran.wait();
        joinall([&timer]);
        assert!(timer.is_finished());
        assert!(!timer.cancel(), "too late");
        ran.clear();
        assert!(!ran.wait_timeout(2 * LIMIT));
        nothing_is_left();
    });
}

/// Not even with no time at all does it run during the call.
#[test]
fn a_timer_without_delay_runs_soon() {
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let timer = Timer::after(Duration::ZERO, counted(&runs));
        assert_eq!(runs.get(), 0);
        joinall([&timer]);
        assert_eq!(runs.get(), 1);
    });
}

/// "Timer": cancelled is finished, what it holds is dropped, and no time is kept.
#[test]
fn a_cancelled_timer_does_not_run() {
    within(MINUTE, || {
        let (runs, living) = (Rc::new(Cell::new(0)), Living::new());
        let holding = || {
            let (token, mut run) = (living.token(), counted(&runs));
            move || {
                let _ = &token;
                run();
            }
        };
        let timers = [
            Timer::after(HOUR, holding()),
            Timer::every(HOUR, holding()),
            Timer::after(Duration::MAX, holding()),
            Timer::every(Duration::MAX, holding()),
            Timer::after(Duration::ZERO, holding()),
            Timer::every(Duration::ZERO, holding()),
        ];
        for (cancelled, timer) in timers.iter().enumerate() {
            assert_eq!(living.count(), timers.len() - cancelled);
            assert!(!timer.is_finished());
            assert!(timer.cancel());
            assert!(timer.is_finished());
            assert!(!timer.cancel(), "there was nothing left to cancel");
        }
        assert_eq!(living.count(), 0);
        joinall(&timers);
        nothing_is_left();
        assert_eq!(runs.get(), 0);
    });
}

/// "Timer": cancelled when it is due and has not run.
#[test]
fn a_timer_may_be_cancelled_when_it_is_due() {
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let timers = [Timer::after(ms(1), counted(&runs)), Timer::every(ms(1), counted(&runs))];
        spin(ms(3));
        assert!(timers.iter().all(Timer::cancel));
        sleep(ms(3));
        assert_eq!(runs.get(), 0);
    });
}

/// "Timer": one who runs in the same turn cancels it, or comes too late, and knows which.
#[test]
fn a_timer_and_its_canceller_in_one_turn() {
    within(MINUTE, || {
        for timer_first in [true, false] {
            let runs = Rc::new(Cell::new(0));
            let start = || Timer::after(ms(2), counted(&runs));
            let early = timer_first.then(start);
            let slot = Rc::new(RefCell::new(early));
            let canceller = with(&slot, |slot| {
                sleep(ms(2));
                slot.borrow().as_ref().is_some_and(Timer::cancel)
            });
            settle();
            if !timer_first {
                *slot.borrow_mut() = Some(start());
            }
            spin(ms(5));
            let cancelled = canceller.get().unwrap();
            sleep(ms(3));
            assert_eq!(runs.get(), usize::from(!cancelled));
        }
    });
}

/// "Timer": inside its own `after` it is too late to cancel, and it is not finished yet.
#[test]
fn a_timer_cannot_cancel_its_own_run() {
    within(MINUTE, || {
        let slot = Rc::new(RefCell::new(None::<Timer>));
        let log = Log::new();
        let (own, said) = (slot.clone(), log.clone());
        let timer = Timer::after(ms(1), move || {
            let timer = own.take().expect("kept below");
            said.say(timer.cancel());
            said.say(timer.is_finished());
            sleep(ms(1));
            said.say("went on");
        });
        *slot.borrow_mut() = Some(timer.clone());
        joinall([&timer]);
        log.assert_is(["false", "false", "went on"]);
        assert!(timer.is_finished());
    });
}

/// "Timer": nor can anybody else, once it runs.
#[test]
fn a_timer_that_runs_cannot_be_cancelled() {
    within(MINUTE, || {
        let (begun, go, ran) = (Event::new(), Event::new(), Rc::new(Cell::new(0)));
        let (tell, waits, mut run) = (begun.clone(), go.clone(), counted(&ran));
        let timer = Timer::after(ms(1), move || {
            tell.set();
            waits.wait();
            run();
        });
        begun.wait();
        assert!(!timer.cancel());
        assert!(!timer.is_finished());
        go.set();
        joinall([&timer]);
        assert_eq!(ran.get(), 1);
    });
}

/// "Timer": `every` can be cancelled by its own callback, which goes on to its end.
#[test]
fn a_timer_that_repeats_can_cancel_itself() {
    within(MINUTE, || {
        let slot = Rc::new(RefCell::new(None::<Timer>));
        let (log, living) = (Log::new(), Living::new());
        let (own, said, token) = (slot.clone(), log.clone(), living.token());
        let timer = Timer::every(ms(1), move || {
            let _ = &token;
            said.say("run");
            if said.len() == 3 {
                let timer = own.take().expect("kept below");
                said.say(timer.cancel());
                said.say(timer.cancel());
                sleep(ms(3));
                said.say("end");
            }
        });
        *slot.borrow_mut() = Some(timer.clone());
        until(|| log.has("end"));
        sleep(ms(5));
        log.assert_is(["run", "run", "run", "true", "false", "end"]);
        assert!(timer.is_finished());
        assert_eq!(living.count(), 0);
        nothing_is_left();
    });
}

/// "Timer": and by others while its callback waits; that run is not cut short.
#[test]
fn a_timer_that_repeats_can_be_cancelled_while_it_runs() {
    within(MINUTE, || {
        let (begun, go, runs) = (Event::new(), Event::new(), Rc::new(Cell::new(0)));
        let (tell, waits, mut run) = (begun.clone(), go.clone(), counted(&runs));
        let timer = Timer::every(ms(1), move || {
            tell.set();
            waits.wait();
            run();
        });
        begun.wait();
        assert!(timer.cancel());
        assert!(!timer.cancel());
        go.set();
        until(|| runs.get() == 1);
        sleep(ms(5));
        assert_eq!(runs.get(), 1);
        assert!(timer.is_finished());
    });
}

/// `every`: first after its time, then at a fixed rate, never ahead of it.
#[test]
fn a_timer_repeats_at_a_fixed_rate() {
    within(MINUTE, || {
        let (start, runs) = (Instant::now(), Rc::new(Cell::new(0_u32)));
        let count = runs.clone();
        let timer = Timer::every(ms(2), move || {
            count.set(count.get() + 1);
            assert!(start.elapsed() >= ms(2) * count.get());
            if count.get().is_multiple_of(3) {
                sleep(ms(1));
            }
        });
        until(|| runs.get() >= 10);
        assert!(!timer.is_finished());
        assert!(timer.cancel());
    });
}

/// `every`: runs that were missed are left out.
#[test]
fn a_timer_does_not_catch_up() {
    const PERIOD: Duration = Duration::from_millis(10);
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let timer = Timer::every(PERIOD, counted(&runs));
        spin(20 * PERIOD);
        let busy_until = Instant::now();
        until(|| runs.get() > 0);
        sleep(ms(1));
        // One that was due all along, and what the time since then has room for.
        let room = busy_until.elapsed().as_millis() / PERIOD.as_millis();
        let most = 2 + u32::try_from(room).unwrap();
        assert!(runs.get() as u32 <= most, "{} runs, and not {most}", runs.get());
        assert!(timer.cancel());
    });
}

/// Two runs of one callback never overlap, even if one takes longer than the time between.
#[test]
fn a_slow_callback_is_not_run_twice_at_once() {
    within(MINUTE, || {
        let (running, runs) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (inside, mut run) = (running.clone(), counted(&runs));
        let timer = Timer::every(ms(1), move || {
            assert!(!inside.replace(true));
            sleep(ms(3));
            inside.set(false);
            run();
        });
        until(|| runs.get() >= 5);
        assert!(timer.cancel());
        until(|| !running.get());
    });
}

/// Without any time between them the runs still let everybody else have a turn.
#[test]
fn a_timer_without_a_period_starves_nobody() {
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let timer = Timer::every(Duration::ZERO, counted(&runs));
        for _ in 0..10 {
            sleep(ms(1));
            yield_now();
        }
        until(|| runs.get() >= 10);
        assert!(timer.cancel());
    });
}

/// "Panics", "Timer": reported, and `every` goes on.
#[test]
fn a_timer_whose_callback_panics() {
    within(MINUTE, || {
        let once = Timer::after(ms(1), || panic!("on purpose"));
        joinall([&once]);
        settle();
        assert!(once.is_finished() && !once.cancel());
        let reported = reports();
        assert_eq!(reported.len(), 1);
        assert_eq!(reported[0].name, "timer");
        let text = &reported[0].text;
        assert!(text.contains("panicked in a timer") && text.contains("on purpose"), "{text}");
        let runs = Rc::new(Cell::new(0));
        let mut run = counted(&runs);
        let timer = Timer::every(ms(1), move || {
            run();
            panic!("on purpose");
        });
        until(|| runs.get() == 3);
        assert!(!timer.is_finished());
        assert!(timer.cancel());
        settle();
        assert_eq!(reports().len(), 3);
    });
}

/// A callback that is killed has ended, like any greenlet; that is nothing to report.
#[test]
fn a_timer_whose_callback_is_killed() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let timer = Timer::after(ms(1), move || {
            current().kill_nowait();
            sleep(HOUR);
            said.say("went on");
        });
        joinall([&timer]);
        assert!(timer.is_finished());
        log.assert_empty();
        assert_eq!(reports(), []);
    });
}

/// Dropping the handle leaves it running; clones name the same one.
#[test]
fn a_timer_is_a_handle() {
    within(MINUTE, || {
        let ran = Event::new();
        let tell = ran.clone();
        drop(Timer::after(ms(1), move || tell.set()));
        ran.wait();
        let timer = Timer::after(HOUR, || ());
        let other = timer.clone();
        drop(timer);
        assert!(!other.is_finished());
        assert!(other.clone().cancel());
        assert!(other.is_finished());
    });
}

/// H13: a timer may wake somebody, as long as it has not run for the last time.
#[test]
fn a_timer_counts_as_somebody_who_may_wake_others() {
    within(MINUTE, || {
        let event = Event::new();
        let sets = || {
            let event = event.clone();
            move || event.set()
        };
        let _once = Timer::after(ms(5), sets());
        event.wait();
        event.clear();
        blocks_forever(|| event.wait());
        let repeats = Timer::every(ms(5), sets());
        for _ in 0..3 {
            event.wait();
            event.clear();
        }
        repeats.cancel();
        blocks_forever(|| event.wait());
    });
}

/// H7: those that are due together run in the order in which they were started.
#[cfg(not(hard_switch))] // asserts the order of those who are ready
#[test]
fn equal_timers_run_in_order() {
    within(MINUTE, || {
        let log = Log::new();
        let start = |n: usize| {
            let log = log.clone();
            Timer::after(ms(1), move || log.say(n))
        };
        let timers: Vec<_> = (0..10).map(start).collect();
        spin(ms(3));
        joinall(&timers);
        log.assert_is((0..10).map(|n| n.to_string()));
    });
}

/// What is waited for is the end of the callback, or the cancelling.
#[test]
fn a_timer_can_be_waited_for() {
    within(MINUTE, || {
        let never = Timer::after(HOUR, || ());
        let ran = Rc::new(Cell::new(0));
        let mut run = counted(&ran);
        let timer = Timer::after(ms(1), move || {
            sleep(ms(1));
            run();
        });
        assert_eq!(wait_any([&never, &timer]), 1);
        assert_eq!(ran.get(), 1);
        assert_eq!(wait_any_timeout([&never], ms(1)), None);
        let waiter = parked(&never, |timer| iwait([timer]).next());
        assert!(never.cancel());
        assert_eq!(waiter.get().unwrap(), Some(0));
        assert!(timer.is_ready() && never.is_ready());
    });
}

/// A timer that renews itself, as in the examples.
#[test]
fn a_timer_may_start_another() {
    within(MINUTE, || {
        /// Says `n`, and starts the one that says the next, down to none.
        fn count_down(n: usize, log: &Log) {
            log.say(n);
            if n > 0 {
                let log = log.clone();
                Timer::after(ms(1), move || count_down(n - 1, &log));
            }
        }
        let log = Log::new();
        count_down(3, &log);
        until(|| log.len() == 4);
        log.assert_is(["3", "2", "1", "0"]);
        nothing_is_left();
    });
}

/// Neither starting nor cancelling one waits, so both work while unwinding, and never switch.
#[test]
fn a_timer_while_unwinding() {
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let count = runs.clone();
        while_unwinding(move || {
            Timer::after(ms(1), counted(&count));
            assert!(Timer::every(ms(1), || ()).cancel());
        });
        until(|| runs.get() == 2);
        never_switches(|| assert!(Timer::after(HOUR, || ()).cancel()));
    });
}

/// Those that have not run are dropped with their thread, and what they hold with them.
#[test]
fn timers_end_with_their_thread() {
    let (tell, told) = std::sync::mpsc::channel();
    within(MINUTE, move || {
        for start in
            [|f: Box<dyn Fn()>| Timer::after(HOUR, f), |f: Box<dyn Fn()>| Timer::every(HOUR, f)]
        {
            let tell = tell.clone();
            let guard = at_drop(move || tell.send(()).unwrap());
            start(Box::new(move || _ = &guard));
        }
    });
    assert_eq!(told.iter().count(), 2);
}

// ---------------------------------------------------------- after the hub's end

thread_local! {
    /// Made before the hub of its thread, and therefore dropped after it.
    static AFTER_THE_HUB: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
}

/// Does `f` in a destructor of its thread that runs when the hub has ended.
fn after_the_hub(make: impl FnOnce() -> Box<dyn FnOnce()> + Send + 'static) {
    let failed = Arc::new(StdMutex::new(Some("it did not run")));
    let fails = failed.clone();
    let thread = std::thread::spawn(move || {
        AFTER_THE_HUB.set(None);
        let f = make();
        let last = at_drop(move || {
            // A panic that left this destructor would take the process along.
            *fails.lock().unwrap() = swallow(f).err().map(|_| "it panicked");
        });
        AFTER_THE_HUB.set(Some(Box::new(last)));
        sleep(ms(1));
    });
    thread.join().unwrap();
    assert_eq!(*failed.lock().unwrap(), None);
}

/// Nobody waits where the hub has ended: whatever would have to returns at once.
#[test]
fn all_can_be_used_when_the_hub_has_ended() {
    within(MINUTE, || {
        after_the_hub(|| {
            let (event, result, shared) = (Event::new(), Answer::new(), Shared::new());
            let (barrier, timer) = (Barrier::new(2), Timer::after(HOUR, || ()));
            result.link(|_| ());
            parked(&event, |event| event.wait());
            parked(&result, |result| result.wait());
            parked(&shared, |shared| drop(shared.wait()));
            Box::new(move || {
                event.wait();
                assert!(!event.wait_timeout(HOUR));
                event.set();
                event.wait();
                assert!(!result.wait_timeout(HOUR));
                assert_eq!(result.get_timeout(HOUR), Err(Elapsed));
                result.set(7).unwrap();
                assert_eq!(result.get(), Ok(7));
                drop(shared.wait());
                assert!(!shared.changed.wait_timeout(shared.lock(), HOUR).1);
                drop(shared.changed.wait_while(shared.lock(), |_| true));
                shared.changed.notify_all();
                assert!(!shared.is_locked());
                assert_eq!(leads(barrier.wait()), Err(BrokenBarrier));
                barrier.reset();
                assert!(!timer.cancel(), "it went with the hub");
                assert!(timer.is_finished());
            })
        });
    });
}

// ------------------------------------------------------------------- Debug

/// Looking at one neither waits nor panics, whatever is going on with it.
#[test]
fn all_can_be_shown() {
    within(MINUTE, || {
        let (event, result, shared) = (Event::new(), Answer::new(), Shared::new());
        let (barrier, timer) = (Rc::new(Barrier::new(2)), Timer::after(HOUR, || ()));
        let show_all = || {
            let shown = [
                (format!("{event:?}"), "Event"),
                (format!("{result:?}"), "AsyncResult"),
                (format!("{:?}", shared.changed), "Condvar"),
                (format!("{barrier:?}"), "Barrier"),
                (format!("{timer:?}"), "Timer"),
                (format!("{:?}", event.clone()), "Event"),
                (format!("{BrokenBarrier:?} {BrokenBarrier}"), "BrokenBarrier"),
            ];
            for (text, name) in shown {
                assert!(text.starts_with(name), "{text}");
            }
        };
        never_switches(show_all);
        let waiters = [
            parked(&event, |event| event.wait()),
            parked(&result, |result| result.wait()),
            parked(&shared, |shared| drop(shared.wait())),
            parked(&barrier, |barrier| drop(barrier.wait())),
        ];
        never_switches(show_all);
        killall(&waiters);
        event.set();
        result.set(7).unwrap();
        timer.cancel();
        never_switches(show_all);
    });
}
