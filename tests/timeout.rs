//! Timeouts: whose they are, what they end, what beats them, and that none outlives its use.
//!
//! T1, T2, ... are the rules of the design, which each test that is about one names.

mod util;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::concurrent::{self, ALL_COMPLETED, GreenletPoolExecutor};
use greenloom::pool::{Pool, SpawnError};
use greenloom::queue::{GetError, JoinableQueue, PutError, Queue, channel, pipe};
use greenloom::sync::{
    AsyncResult, Barrier, BoundedSemaphore, BrokenBarrier, Condvar, Event, Mutex, RwLock, Semaphore,
};
use greenloom::{
    Elapsed, Greenlet, JoinError, Timeout, catch_interrupt, joinall, joinall_timeout, scope,
    shield, sleep, spawn, wait_any_timeout, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, Shown, at_drop, blocks_forever, end_of, every_wait, ms,
    reports, settle, spin, state_of, stuck, swallow, tcp_pair, until, until_parked, waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        assert_eq!(with_timeout(ms(1), || sleep(HOUR)), Err(Elapsed));
        assert_eq!(with_timeout(HOUR, || 7), Ok(7));
    });
}

// --------------------------------------------- T1: an outer timeout is not lost

every_wait!(outer_timeout_is_not_lost);

/// T1: every wait lets through a timeout that is not its own, with no limit or with one of an hour,
/// and can be begun again afterwards.
fn outer_timeout_is_not_lost(wait: fn(), _: Shown) {
    for _ in 0..2 {
        let living = Living::new();
        let token = living.token();
        let ended = with_timeout(ms(2), move || {
            let _token = token;
            wait();
        });
        assert_eq!(ended, Err(Elapsed));
        assert_eq!(living.count(), 0);
    }
    sleep(ms(1));
}

every_wait!(in_a_greenlet);

/// T1: as above, in a greenlet, and from under an inner timeout, which must not take it for its own.
fn in_a_greenlet(wait: fn(), _: Shown) {
    let target = spawn(move || with_timeout(ms(2), || with_timeout(HOUR, wait)));
    assert_eq!(target.get().unwrap(), Err(Elapsed));
}

// ------------------------------------------------------------------ T2: nesting

#[test]
fn the_inner_one_fires_first() {
    within(MINUTE, || {
        let outer = with_timeout(HOUR, || {
            assert_eq!(with_timeout(ms(1), || sleep(HOUR)), Err(Elapsed));
            sleep(ms(1));
            "goes on"
        });
        assert_eq!(outer, Ok("goes on"));
    });
}

#[test]
fn the_outer_one_fires_first() {
    within(MINUTE, || {
        let log = Log::new();
        let outer = with_timeout(ms(1), || {
            let inner = with_timeout(HOUR, || sleep(HOUR));
            log.say(format!("not for the inner one: {inner:?}"));
        });
        assert_eq!(outer, Err(Elapsed));
        log.assert_empty();
    });
}

/// T2: the timeout that ended the inside is over with it; that of the inside as well.
#[test]
fn nothing_is_left_of_either() {
    within(MINUTE, || {
        assert_eq!(with_timeout(ms(5), || with_timeout(ms(1), || sleep(HOUR))), Ok(Err(Elapsed)));
        assert_eq!(with_timeout(ms(1), || with_timeout(ms(5), || sleep(HOUR))), Err(Elapsed));
        sleep(ms(20));
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

#[test]
fn both_at_once() {
    within(MINUTE, || {
        for _ in 0..50 {
            // Both are over when the hub looks. Whichever is raised, the other one must not come
            // after it is gone.
            let _ = with_timeout(ms(1), || {
                let inner = with_timeout(ms(1), || {
                    spawn(|| spin(ms(2)));
                    sleep(HOUR);
                });
                assert_eq!(inner, Err(Elapsed));
            });
        }
        // It would be raised here, where nothing catches it.
        sleep(ms(5));
    });
}

#[test]
fn ten_deep() {
    /// The innermost has the least time.
    fn nest(depth: u64, log: &Log) {
        if depth == 0 {
            return sleep(HOUR);
        }
        let ended = with_timeout(ms(depth), || {
            nest(depth - 1, log);
            sleep(HOUR);
        });
        assert_eq!(ended, Err(Elapsed));
        log.say(depth);
    }
    within(MINUTE, || {
        let log = Log::new();
        nest(9, &log);
        // On a busy machine several may be over at once, and an outer one take the inner along.
        let ended: Vec<u64> = log.lines().iter().map(|line| line.parse().unwrap()).collect();
        assert!(ended.is_sorted(), "{ended:?}");
        assert_eq!(ended.last(), Some(&9));
    });
}

#[test]
fn an_outer_one_ends_all_inside() {
    within(MINUTE, || {
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            let _a = log.at_drop("a");
            let _ = with_timeout(HOUR, || {
                let _b = log.at_drop("b");
                let _ = with_timeout(HOUR, || {
                    let _c = log.at_drop("c");
                    sleep(HOUR);
                });
            });
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_is(["c", "b", "a"]);
    });
}

// -------------------------------------------------- T3: raised at a wait, no sooner

#[test]
fn work_without_a_wait_is_not_interrupted() {
    within(MINUTE, || {
        let worked = with_timeout(ms(1), || {
            spin(ms(5));
            "done"
        });
        assert_eq!(worked, Ok("done"));
    });
}

#[test]
fn it_is_raised_at_the_first_wait_after_its_time() {
    within(MINUTE, || {
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            spin(ms(5));
            log.say("worked");
            sleep(HOUR);
            log.say("went on");
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_is(["worked"]);
    });
}

#[test]
fn each_greenlet_has_its_own() {
    within(MINUTE, || {
        let all: Vec<_> = (0..100)
            .map(|n| {
                spawn(move || {
                    let (limit, work) = if n % 2 == 0 { (ms(1), HOUR) } else { (HOUR, ms(1)) };
                    with_timeout(limit, || sleep(work)).is_err()
                })
            })
            .collect();
        for (n, timed_out) in all.into_iter().enumerate() {
            assert_eq!(timed_out.get().unwrap(), n % 2 == 0);
        }
    });
}

/// A timeout is of the greenlet that starts it: those that it spawns inside are not concerned.
#[test]
fn children_are_not_concerned() {
    within(MINUTE, || {
        let child = Rc::new(Cell::new(None));
        let ended = with_timeout(ms(1), || {
            child.set(Some(spawn(|| {
                sleep(ms(5));
                7
            })));
            sleep(HOUR);
        });
        assert_eq!(ended, Err(Elapsed));
        assert_eq!(end_of(child.take().unwrap()), End::Value(7));
    });
}

/// K11: but those of a scope are ended, because it is left.
#[test]
fn children_of_a_scope_are_ended() {
    within(MINUTE, || {
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            scope(|s| {
                s.spawn(|| {
                    let _guard = log.at_drop("child");
                    sleep(HOUR);
                });
            });
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_is(["child"]);
    });
}

// -------------------------------------------------------- T4: work beats timeouts

/// The limit of the waits below.
const LIMIT: Duration = Duration::from_millis(20);

/// A greenlet that works past that limit without a wait, then does `last`. It has its turn as soon
/// as the caller waits.
fn late_after<T: 'static>(last: impl FnOnce() -> T + 'static) -> Greenlet<T> {
    spawn(move || {
        spin(2 * LIMIT);
        last()
    })
}

#[test]
fn a_join_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let work = late_after(|| 7);
        assert_eq!(with_timeout(LIMIT, || work.get().unwrap()), Ok(7));
        assert!(late_after(|| ()).join_timeout(LIMIT));
        assert!(joinall_timeout([late_after(|| ())], LIMIT));
        assert_eq!(wait_any_timeout([late_after(|| ())], LIMIT), Some(0));
    });
}

#[test]
fn a_death_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let victim = spawn(|| {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            spin(2 * LIMIT);
            interrupt.resume();
        });
        until_parked(victim.id());
        assert!(victim.kill_timeout(LIMIT));
    });
}

/// T4: even a sleep that was to last longer: both are over in the same turn.
#[test]
fn a_sleep_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let _busy = late_after(|| ());
        assert_eq!(with_timeout(LIMIT, || sleep(LIMIT + ms(5))), Ok(()));
    });
}

#[test]
fn a_wake_up_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let event = Event::new();
        late_after({
            let event = event.clone();
            move || event.set()
        });
        assert!(event.wait_timeout(LIMIT));

        let result = AsyncResult::<u32, ()>::new();
        late_after({
            let result = result.clone();
            move || result.set(7).unwrap()
        });
        assert_eq!(result.get_timeout(LIMIT), Ok(Ok(7)));

        let semaphore = Rc::new(Semaphore::new(0));
        late_after({
            let semaphore = semaphore.clone();
            move || semaphore.release()
        });
        assert!(semaphore.acquire_timeout(LIMIT).is_some());

        let future = GreenletPoolExecutor::new(1).submit(|| {
            spin(2 * LIMIT);
            7
        });
        assert_eq!(future.result_timeout(LIMIT).unwrap().unwrap(), 7);
    });
}

/// T4: whoever leaves room is heard before the limit, too.
#[test]
fn an_item_and_a_place_beat_a_timeout_that_is_due() {
    within(MINUTE, || {
        let queue = Queue::<u32>::bounded(1);
        late_after({
            let queue = queue.clone();
            move || queue.try_put(1).unwrap()
        });
        assert_eq!(queue.get_timeout(LIMIT), Ok(1));

        queue.put(2).unwrap();
        late_after({
            let queue = queue.clone();
            move || assert_eq!(queue.try_get(), Ok(2))
        });
        assert_eq!(queue.put_timeout(3, LIMIT), Ok(()));

        let pool = Pool::new(1);
        pool.spawn(|| spin(2 * LIMIT));
        assert!(pool.spawn_timeout(|| (), LIMIT).is_ok());
    });
}

#[test]
fn data_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let (mut here, mut there) = tcp_pair();
        let mut byte = [0];
        let mut write = there.try_clone().unwrap();
        late_after(move || write.write_all(b"x").unwrap());
        assert_eq!(with_timeout(LIMIT, || here.read(&mut byte).unwrap()), Ok(1));

        here.set_read_timeout(Some(LIMIT)).unwrap();
        late_after(move || there.write_all(b"y").unwrap());
        assert_eq!(here.read(&mut byte).unwrap(), 1);
        assert_eq!(byte, *b"y");
    });
}

/// T4: a kill, too, that comes when the hub has not yet noticed that time is up.
#[test]
fn a_kill_beats_a_timeout_that_is_due() {
    within(MINUTE, || {
        let target = loop {
            let target = spawn(|| with_timeout(ms(5), || sleep(HOUR)));
            yield_now();
            // On a busy machine it may be over already.
            if state_of(target.id()) == Some("parked") {
                break target;
            }
        };
        spin(ms(10));
        target.kill();
        assert!(target.get().unwrap_err().is_killed());
    });
}

// ------------------------------------------------------------- T5: no time at all

#[test]
fn no_time_is_enough_for_what_need_not_wait() {
    within(MINUTE, || {
        assert_eq!(with_timeout(Duration::ZERO, || 7), Ok(7));
        assert_eq!(with_timeout(Duration::ZERO, || spawn(|| 7)).unwrap().get().unwrap(), 7);
    });
}

#[cfg(not(hard_switch))] // a fast path yields there
#[test]
fn no_time_is_enough_to_look_at_the_finished() {
    within(MINUTE, || {
        let done = spawn(|| 7);
        done.join();
        assert_eq!(with_timeout(Duration::ZERO, || joinall([&done])), Ok(()));
        assert_eq!(with_timeout(Duration::ZERO, || greenloom::wait_any([&done])), Ok(0));
        assert_eq!(with_timeout(Duration::ZERO, || done.get().unwrap()), Ok(7));
    });
}

#[test]
fn no_time_ends_the_first_wait() {
    within(MINUTE, || {
        assert_eq!(with_timeout(Duration::ZERO, || sleep(HOUR)), Err(Elapsed));
        assert_eq!(with_timeout(Duration::ZERO, || spawn(|| sleep(HOUR)).join()), Err(Elapsed));
    });
}

/// J4: a limit of zero asks whether it is done.
#[test]
fn no_time_is_a_question() {
    within(MINUTE, || {
        let done = spawn(|| ());
        done.join();
        let not = spawn(|| sleep(HOUR));
        until_parked(not.id());
        assert!(done.join_timeout(Duration::ZERO));
        assert!(!not.join_timeout(Duration::ZERO));
        assert!(joinall_timeout([&done], Duration::ZERO));
        assert!(!joinall_timeout([&done, &not], Duration::ZERO));
        assert_eq!(wait_any_timeout([&not, &done], Duration::ZERO), Some(1));
        assert_eq!(wait_any_timeout([&not], Duration::ZERO), None);
        assert!(done.kill_timeout(Duration::ZERO));
    });
}

/// As above, of everything that can be had or not.
#[test]
fn no_time_is_a_question_to_every_instrument() {
    within(MINUTE, || {
        let event = Event::new();
        assert!(!event.wait_timeout(Duration::ZERO));
        event.set();
        assert!(event.wait_timeout(Duration::ZERO));

        let result = AsyncResult::<u32, ()>::new();
        assert_eq!(result.get_timeout(Duration::ZERO), Err(Elapsed));
        assert!(!result.wait_timeout(Duration::ZERO));
        result.set(7).unwrap();
        assert_eq!(result.get_timeout(Duration::ZERO), Ok(Ok(7)));

        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire_timeout(Duration::ZERO);
        assert!(permit.is_some());
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_none());

        let mutex = Mutex::new(7);
        assert_eq!(*mutex.lock_timeout(Duration::ZERO).unwrap(), 7);
        assert!(waits::held_mutex().lock_timeout(Duration::ZERO).is_none());
        let rwlock = RwLock::new(7);
        assert_eq!(*rwlock.write_timeout(Duration::ZERO).unwrap(), 7);
        assert!(waits::read_locked().read_timeout(Duration::ZERO).is_some());
        assert!(waits::read_locked().write_timeout(Duration::ZERO).is_none());

        let queue = Queue::<u32>::bounded(1);
        assert_eq!(queue.get_timeout(Duration::ZERO), Err(GetError::Elapsed));
        assert_eq!(queue.put_timeout(1, Duration::ZERO), Ok(()));
        assert_eq!(queue.put_timeout(2, Duration::ZERO), Err(PutError::Elapsed(2)));
        assert_eq!(queue.peek_timeout(Duration::ZERO), Ok(1));
        assert_eq!(queue.get_timeout(Duration::ZERO), Ok(1));

        let pool = Pool::new(1);
        assert!(pool.join_timeout(Duration::ZERO));
        assert!(pool.spawn_timeout(|| sleep(HOUR), Duration::ZERO).is_ok());
        assert!(matches!(pool.spawn_timeout(|| (), Duration::ZERO), Err(SpawnError::Elapsed(_))));
        assert!(!pool.wait_available_timeout(Duration::ZERO));
        assert!(!pool.join_timeout(Duration::ZERO));
    });
}

/// T5: it is raised when the hub has nothing better to do, so a yield may still pass.
#[cfg(not(hard_switch))]
#[test]
fn no_time_lets_a_yield_pass() {
    within(MINUTE, || {
        let yielded = with_timeout(Duration::ZERO, || {
            yield_now();
            yield_now();
        });
        assert_eq!(yielded, Ok(()));
    });
}

// --------------------------------------------- T6: the raw form, armed and disarmed

#[test]
fn a_raw_timeout_catches_itself() {
    within(MINUTE, || {
        let timeout = Timeout::start(ms(1));
        assert!(timeout.is_pending());
        assert_eq!(timeout.catch(|| sleep(HOUR)), Err(Elapsed));
        assert!(!timeout.is_pending());
        sleep(ms(1));
    });
}

#[test]
fn a_raw_timeout_that_is_not_due_lets_the_value_through() {
    within(MINUTE, || {
        let timeout = Timeout::start(HOUR);
        assert_eq!(timeout.catch(|| 7), Ok(7));
        assert!(timeout.is_pending(), "it is still armed");
        timeout.cancel();
        assert!(!timeout.is_pending());
    });
}

/// T1: a raw timeout knows itself, too.
#[test]
fn a_raw_timeout_does_not_catch_another() {
    within(MINUTE, || {
        let (outer, inner) = (Timeout::start(ms(1)), Timeout::start(HOUR));
        let log = Log::new();
        let caught = outer.catch(|| {
            let _ = inner.catch(|| sleep(HOUR));
            log.say("the inner one took it");
        });
        assert_eq!(caught, Err(Elapsed));
        log.assert_empty();
        assert!(inner.is_pending());
        assert!(!outer.is_pending());
    });
}

#[test]
fn cancelled_it_is_not_raised() {
    within(MINUTE, || {
        let timeout = Timeout::start(ms(1));
        timeout.cancel();
        timeout.cancel();
        sleep(ms(5));
        assert!(!timeout.is_pending());
    });
}

#[test]
fn cancelled_when_it_is_due_it_is_not_raised_either() {
    within(MINUTE, || {
        let timeout = Timeout::start(ms(1));
        spin(ms(5));
        timeout.cancel();
        sleep(ms(1));
    });
}

#[test]
fn dropped_it_is_not_raised() {
    within(MINUTE, || {
        for _ in 0..1000 {
            drop(Timeout::start(ms(1)));
        }
        sleep(ms(5));
    });
}

/// T6: and leaves no timer behind.
#[test]
fn dropped_it_wakes_nobody() {
    within(MINUTE, || {
        for _ in 0..1000 {
            drop(Timeout::start(HOUR));
            assert_eq!(with_timeout(HOUR, || ()), Ok(()));
        }
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

#[test]
fn dropped_by_a_panic_it_is_not_raised() {
    within(MINUTE, || {
        let panic = swallow(|| with_timeout(ms(1), || panic!("boom"))).unwrap_err();
        assert_eq!(util::message(panic.as_ref()), "boom");
        let panic = swallow(|| {
            let _timeout = Timeout::start(ms(1));
            panic!("boom");
        })
        .unwrap_err();
        assert_eq!(util::message(panic.as_ref()), "boom");
        sleep(ms(5));
    });
}

#[test]
fn a_raw_timeout_may_be_cancelled_by_another() {
    within(MINUTE, || {
        let timeout = Rc::new(Timeout::start(ms(50)));
        let canceller = {
            let timeout = timeout.clone();
            spawn(move || timeout.cancel())
        };
        canceller.join();
        assert!(!timeout.is_pending());
        sleep(ms(60));
    });
}

/// It is raised in the greenlet that started it, wherever the handle is.
#[test]
fn a_raw_timeout_belongs_to_who_started_it() {
    within(MINUTE, || {
        let timeout = Timeout::start(ms(1));
        let raised = Rc::new(Cell::new(false));
        let holder = {
            let raised = raised.clone();
            spawn(move || {
                until(|| raised.get());
                timeout.is_pending()
            })
        };
        assert!(swallow(|| sleep(HOUR)).is_err());
        assert_eq!(reports().len(), 1, "in main nobody but the user would have caught it");
        raised.set(true);
        assert!(!holder.get().unwrap());
    });
}

#[test]
fn a_raw_timeout_of_the_dead_is_raised_in_nobody() {
    within(MINUTE, || {
        let timeout = spawn(|| Timeout::start(ms(1))).get().unwrap();
        // Whoever is spawned next may well be given what the dead one left: stack, place, number.
        let heirs: Vec<_> = (0..10).map(|_| spawn(|| sleep(ms(10)))).collect();
        sleep(ms(10));
        for heir in heirs {
            heir.get().unwrap();
        }
        drop(timeout);
        let timeout = spawn(|| Timeout::start(HOUR)).get().unwrap();
        drop(timeout);
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

#[test]
fn a_raw_timeout_that_nothing_catches_ends_the_greenlet() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            let _guard = said.at_drop("unwound");
            let _timeout = Timeout::start(ms(1));
            sleep(HOUR);
        });
        target.join();
        log.assert_is(["unwound"]);
        assert!(!target.is_successful());
        match target.get().unwrap_err() {
            JoinError::Panicked(payload) => assert!(payload.is::<Elapsed>()),
            JoinError::Killed => panic!("nobody killed it"),
        }
        let _whether_reported_or_not = reports();
    });
}

/// It is one raise, not a state: swallowed, it is gone.
#[test]
fn a_raw_timeout_is_raised_once() {
    within(MINUTE, || {
        let greenlet = spawn(|| {
            let timeout = Timeout::start(ms(1));
            assert!(swallow(|| sleep(HOUR)).is_err());
            assert!(!timeout.is_pending());
            sleep(ms(5));
            yield_now();
        });
        greenlet.get().unwrap();
    });
}

// ---------------------------------------------------------- T8: what expiry looks like

#[test]
fn every_limit_says_so_in_its_own_way() {
    within(MINUTE, || {
        let other = spawn(|| {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            sleep(HOUR);
            interrupt.resume();
        });
        until_parked(other.id());
        assert!(!other.join_timeout(ms(1)));
        assert!(!joinall_timeout([&other], ms(1)));
        assert_eq!(wait_any_timeout([&other], ms(1)), None);
        assert!(!other.kill_timeout(ms(1)));
        let (mut here, _there) = tcp_pair();
        here.set_read_timeout(Some(ms(1))).unwrap();
        assert_eq!(here.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        here.set_write_timeout(Some(ms(1))).unwrap();
        let full = loop {
            if let Err(error) = here.write_all(&[0; 1 << 16]) {
                break error.kind();
            }
        };
        assert_eq!(full, io::ErrorKind::TimedOut);
        assert_eq!(with_timeout(ms(1), || other.join()), Err(Elapsed));
    });
}

#[test]
fn every_limit_of_an_instrument_says_so_in_its_own_way() {
    within(MINUTE, || {
        assert!(!Event::new().wait_timeout(ms(1)));
        assert_eq!(AsyncResult::<u32, ()>::new().get_timeout(ms(1)), Err(Elapsed));
        assert!(!AsyncResult::<u32, ()>::new().wait_timeout(ms(1)));
        assert!(Semaphore::new(0).acquire_timeout(ms(1)).is_none());
        assert!(BoundedSemaphore::new(0).acquire_timeout(ms(1)).is_none());
        assert!(waits::held_mutex().lock_timeout(ms(1)).is_none());
        assert!(waits::held_rlock().lock_timeout(ms(1)).is_none());
        assert!(waits::write_locked().read_timeout(ms(1)).is_none());
        assert!(waits::read_locked().write_timeout(ms(1)).is_none());

        let (mutex, condvar) = (Mutex::new(7), Condvar::new());
        let (guard, notified) = condvar.wait_timeout(mutex.lock(), ms(1));
        assert_eq!((*guard, notified), (7, false));
        let (guard, notified) = condvar.wait_timeout_while(guard, ms(1), |_| true);
        assert_eq!((*guard, notified), (7, false));
        let barrier = Barrier::new(2);
        assert_eq!(barrier.wait_timeout(ms(1)).err(), Some(BrokenBarrier));

        assert_eq!(Queue::<u32>::new().get_timeout(ms(1)), Err(GetError::Elapsed));
        assert_eq!(Queue::<u32>::new().peek_timeout(ms(1)), Err(GetError::Elapsed));
        assert_eq!(waits::full_queue().put_timeout(1, ms(1)), Err(PutError::Elapsed(1)));
        assert_eq!(channel().put_timeout(1, ms(1)), Err(PutError::Elapsed(1)));
        assert_eq!(channel::<u32>().get_timeout(ms(1)), Err(GetError::Elapsed));
        assert!(!waits::with_one_item().join_timeout(ms(1)));
        assert!(JoinableQueue::<u32>::new().join_timeout(ms(1)));
        let (here, _there) = pipe::<u32, u32>();
        assert_eq!(here.recv_timeout(ms(1)), Err(GetError::Elapsed));
        assert!(!here.poll(ms(1)));
        assert_eq!(wait_any_timeout([Event::new()], ms(1)), None);

        let pool = waits::slow_pool();
        assert!(matches!(pool.spawn_timeout(|| (), ms(1)), Err(SpawnError::Elapsed(_))));
        assert!(!pool.wait_available_timeout(ms(1)));
        assert!(!pool.join_timeout(ms(1)));
        assert!(!pool.kill_timeout(ms(1)));
        let group = waits::slow_group();
        assert!(!group.join_timeout(ms(1)));
        assert!(!group.kill_timeout(ms(1)));

        let (executor, job) = waits::busy_executor();
        assert_eq!(job.result_timeout(ms(1)).err(), Some(Elapsed));
        assert_eq!(concurrent::wait_timeout([&job], ms(1), ALL_COMPLETED).not_done.len(), 1);
        assert!(!executor.shutdown_timeout(ms(1)));
    });
}

/// None of them is early.
#[test]
fn no_limit_is_early() {
    within(MINUTE, || {
        let other = spawn(|| sleep(HOUR));
        let (mut here, _there) = tcp_pair();
        here.set_read_timeout(Some(ms(10))).unwrap();
        let (queue, full, pool) = (Queue::<u32>::new(), waits::full_queue(), waits::full_pool());
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let limits: [&mut dyn FnMut(); 14] = [
            &mut || assert!(!other.join_timeout(ms(10))),
            &mut || assert!(!joinall_timeout([&other], ms(10))),
            &mut || assert_eq!(wait_any_timeout([&other], ms(10)), None),
            &mut || assert!(with_timeout(ms(10), || sleep(HOUR)).is_err()),
            &mut || assert!(here.read(&mut [0]).is_err()),
            &mut || assert!(!Event::new().wait_timeout(ms(10))),
            &mut || assert!(Semaphore::new(0).acquire_timeout(ms(10)).is_none()),
            &mut || assert!(!condvar.wait_timeout(mutex.lock(), ms(10)).1),
            &mut || assert!(Barrier::new(2).wait_timeout(ms(10)).is_err()),
            &mut || assert!(queue.get_timeout(ms(10)).is_err()),
            &mut || assert!(full.put_timeout(1, ms(10)).is_err()),
            &mut || assert!(pool.spawn_timeout(|| (), ms(10)).is_err()),
            &mut || assert!(!pool.wait_available_timeout(ms(10))),
            &mut || assert!(!pool.join_timeout(ms(10))),
        ];
        for limit in limits {
            let start = Instant::now();
            limit();
            assert!(start.elapsed() >= ms(10));
        }
    });
}

#[test]
fn elapsed_speaks() {
    assert_eq!(Elapsed.to_string(), "timed out");
    let error: Box<dyn std::error::Error> = Box::new(Elapsed);
    assert!(error.source().is_none());
}

// ---------------------------------------- T9: ordinary error handling cannot swallow it

#[test]
fn an_ignored_result_does_not_ignore_the_timeout() {
    within(MINUTE, || {
        let (mut here, _there) = tcp_pair();
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            let _ = here.read(&mut [0]);
            let _ = here.read_to_end(&mut Vec::new());
            log.say("went on");
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_empty();
    });
}

// ---------------------------------------------------------------- H6: from now on

#[test]
fn the_time_counts_from_the_start_of_the_timeout() {
    within(MINUTE, || {
        spin(ms(30));
        // Had it begun when the hub last looked at the clock, it would be over already.
        let start = Instant::now();
        assert_eq!(with_timeout(ms(20), || sleep(HOUR)), Err(Elapsed));
        assert!(start.elapsed() >= ms(20));

        spin(ms(30));
        let start = Instant::now();
        sleep(ms(20));
        assert!(start.elapsed() >= ms(20));
    });
}

#[test]
fn the_longest_time_there_is() {
    within(MINUTE, || {
        assert_eq!(with_timeout(Duration::MAX, || sleep(ms(1))), Ok(()));
        assert_eq!(with_timeout(ms(1), || sleep(Duration::MAX)), Err(Elapsed));
        assert!(spawn(|| ()).join_timeout(Duration::MAX));
        assert_eq!(wait_any_timeout([spawn(|| ())], Duration::MAX), Some(0));
        drop(Timeout::start(Duration::MAX));
    });
}

// --------------------------------------------------------- timeouts and shields

#[test]
fn a_shield_holds_a_timeout_back() {
    within(MINUTE, || {
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            shield(|| {
                sleep(ms(5));
                spawn(|| sleep(ms(1))).join();
                log.say("inside");
            });
            log.say("outside");
            sleep(HOUR);
            log.say("went on");
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_is(["inside", "outside"]);
    });
}

#[test]
fn a_timeout_held_back_to_the_end_is_too_late() {
    within(MINUTE, || {
        let done = with_timeout(ms(1), || {
            shield(|| sleep(ms(5)));
            7
        });
        assert_eq!(done, Ok(7));
        sleep(ms(5));
    });
}

#[test]
fn a_timeout_of_the_inside_works_inside() {
    within(MINUTE, || {
        let log = Log::new();
        let target = {
            let log = log.clone();
            spawn(move || {
                shield(|| {
                    log.say("inside");
                    assert_eq!(with_timeout(ms(2), || sleep(HOUR)), Err(Elapsed));
                    let raw = Timeout::start(ms(2));
                    assert_eq!(raw.catch(|| sleep(HOUR)), Err(Elapsed));
                    log.say("timed out twice");
                });
                sleep(HOUR);
            })
        };
        until(|| log.has("inside"));
        // With a kill outside the door all the while.
        target.kill();
        log.assert_is(["inside", "timed out twice"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

#[test]
fn a_limit_of_the_inside_works_inside() {
    within(MINUTE, || {
        let other = spawn(|| sleep(HOUR));
        let done = with_timeout(ms(1), || {
            shield(|| {
                assert!(!other.join_timeout(ms(5)));
                assert!(!other.join_timeout(ms(5)));
            });
        });
        assert_eq!(done, Ok(()));
    });
}

/// The inner shield is down, the outer is not, and the timeout is from between the two.
#[test]
fn between_two_shields() {
    within(MINUTE, || {
        let log = Log::new();
        let done = with_timeout(ms(1), || {
            shield(|| {
                let between = with_timeout(ms(5), || {
                    shield(|| sleep(ms(10)));
                    log.say("inner shield down");
                    sleep(HOUR);
                });
                assert_eq!(between, Err(Elapsed));
                sleep(ms(1));
                log.say("outer shield still up");
            });
            "done"
        });
        assert_eq!(done, Ok("done"));
        log.assert_is(["inner shield down", "outer shield still up"]);
    });
}

// ------------------------------------------------------- timeouts and interrupts

#[test]
fn a_timeout_from_outside_can_be_caught_and_resumed() {
    within(MINUTE, || {
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
                assert!(interrupt.is_timeout());
                assert!(!interrupt.is_kill());
                sleep(ms(5));
                log.say("cleaned up");
                interrupt.resume();
            }
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_is(["cleaned up"]);
    });
}

#[test]
fn a_kill_during_the_clean_up_after_a_timeout() {
    within(MINUTE, || {
        let log = Log::new();
        let target = {
            let log = log.clone();
            spawn(move || {
                let ended = with_timeout(ms(1), || {
                    let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
                    log.say("cleans up");
                    sleep(HOUR);
                    interrupt.resume();
                });
                log.say(format!("the kill became {ended:?}"));
            })
        };
        until(|| log.has("cleans up"));
        until_parked(target.id());
        target.kill();
        log.assert_is(["cleans up"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

/// A kill passes through a `with_timeout` as a kill.
#[test]
fn a_kill_is_not_a_timeout() {
    within(MINUTE, || {
        let log = Log::new();
        let target = {
            let log = log.clone();
            spawn(move || {
                let ended = with_timeout(HOUR, || sleep(HOUR));
                log.say(format!("the kill became {ended:?}"));
            })
        };
        until_parked(target.id());
        target.kill();
        log.assert_empty();
        assert_eq!(end_of(target), End::Killed);
    });
}

// ------------------------------------------------------------------ destructors

#[test]
fn what_is_inside_is_dropped_before_it_returns() {
    within(MINUTE, || {
        let living = Living::new();
        let tokens: Vec<_> = (0..10).map(|_| living.token()).collect();
        let ended = with_timeout(ms(1), move || {
            let _tokens = tokens;
            sleep(HOUR);
        });
        assert_eq!(ended, Err(Elapsed));
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_destructor_may_use_a_timeout_of_its_own() {
    within(MINUTE, || {
        let log = Log::new();
        let ended = with_timeout(ms(1), || {
            let _clean_up = at_drop(|| {
                // It does not wait, hence is not late.
                log.say(with_timeout(HOUR, || 7).is_ok());
                drop(Timeout::start(HOUR));
            });
            sleep(HOUR);
        });
        assert_eq!(ended, Err(Elapsed));
        log.assert_is(["true"]);
        settle();
    });
}

#[test]
fn many_at_a_time() {
    within(MINUTE, || {
        let living = Living::new();
        let all: Vec<_> = (0..1000)
            .map(|n| {
                let token = living.token();
                spawn(move || {
                    let _token = token;
                    with_timeout(ms(1 + n % 7), || sleep(HOUR))
                })
            })
            .collect();
        joinall(&all);
        assert_eq!(living.count(), 0);
        assert!(all.into_iter().all(|timed_out| timed_out.get().unwrap() == Err(Elapsed)));
    });
}
