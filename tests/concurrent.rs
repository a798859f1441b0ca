//! Executors and futures: Python's `concurrent.futures`, its words and what they promise.
//!
//! The design has it in a few lines; each test here restates one of them, or one of Python's that
//! they refer to. P2, K9, T4, ... are the rules of the design that hold here, too.

mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use greenloom::concurrent::{
    ALL_COMPLETED, Executor, FIRST_COMPLETED, FIRST_EXCEPTION, Future, FutureError,
    GreenletPoolExecutor, ReturnWhen, ThreadPoolExecutor, Waited, as_completed, wait, wait_timeout,
};
use greenloom::queue::Queue;
use greenloom::sync::Event;
use greenloom::{
    Elapsed, Greenlet, Waitable, catch_interrupt, current, iwait, joinall, sleep, spawn, wait_any,
    wait_any_timeout, with_timeout, yield_now,
};
use util::jobs::{Gate, Notes, Tally, eventually, meanwhile};
use util::words::{never_switches, nothing_is_left, while_unwinding};
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, message, ms, reports, settle,
    spin, state_of, stuck, swallow, until, waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(2);
        let future = executor.submit(|| 6 * 7);
        assert!(!future.is_done());
        assert_eq!(future.result().unwrap(), 42);
        assert!(future.is_done());
        assert_eq!(executor.map(0..3, |n| n * 2).collect::<Vec<_>>(), [0, 2, 4]);
        executor.shutdown();
    });
}

// ------------------------------------------------------------------------ words

/// `greenlet`, once it waits.
fn parked<T: 'static>(greenlet: Greenlet<T>) -> Greenlet<T> {
    until(|| greenlet.is_finished() || state_of(greenlet.id()) == Some("parked"));
    greenlet
}

fn executor_of_one() -> GreenletPoolExecutor {
    GreenletPoolExecutor::new(1)
}

/// An executor with one worker, what its job waits for, and the future of that.
fn busy() -> (GreenletPoolExecutor, Event, Future<()>) {
    let (executor, gate) = (GreenletPoolExecutor::new(1), Event::new());
    let held = gate.clone();
    let job = executor.submit(move || held.wait());
    until(|| job.is_running());
    settle();
    (executor, gate, job)
}

/// Futures of jobs that run, each of which returns its number when its event is set.
fn gated<const N: usize>() -> ([Event; N], [Future<usize>; N]) {
    let executor = GreenletPoolExecutor::new(N);
    let gates = std::array::from_fn(|_| Event::new());
    let futures = std::array::from_fn(|n| {
        let gate: Event = Event::clone(&gates[n]);
        executor.submit(move || {
            gate.wait();
            n
        })
    });
    settle();
    (gates, futures)
}

/// A job that panics, which the panic hook need not print.
fn fail() -> u32 {
    resume_unwind(Box::new("failed"))
}

/// A job that is killed.
fn be_killed() -> u32 {
    current().kill_nowait();
    sleep(HOUR);
    7
}

fn is_killed<T>(result: &Result<T, FutureError>) -> bool {
    matches!(result, Err(FutureError::Killed))
}

fn is_cancelled<T>(result: &Result<T, FutureError>) -> bool {
    matches!(result, Err(FutureError::Cancelled))
}

/// The numbers of those that are done.
fn done<T: 'static>(futures: &[Future<T>]) -> Vec<usize> {
    (0..futures.len()).filter(|n| futures[*n].is_done()).collect()
}

/// The values of futures that are done.
fn values(futures: &[Future<usize>]) -> Vec<usize> {
    futures.iter().map(|future| future.try_result().unwrap().unwrap()).collect()
}

// ------------------------------------------------------------------- to submit a job

/// At most so many jobs run; the others are queued, and run in the order of their submission.
#[test]
fn at_most_so_many_run() {
    within(MINUTE, || {
        for workers in [1, 3] {
            let executor = GreenletPoolExecutor::new(workers);
            let (inside, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let futures: Vec<_> = (0..20)
                .map(|n| {
                    let (inside, most) = (inside.clone(), most.clone());
                    executor.submit(move || {
                        inside.set(inside.get() + 1);
                        most.set(most.get().max(inside.get()));
                        until(|| n >= workers || most.get() == workers);
                        yield_now();
                        inside.set(inside.get() - 1);
                        n
                    })
                })
                .collect();
            executor.shutdown();
            assert_eq!(most.get(), workers);
            assert_eq!(values(&futures), (0..20).collect::<Vec<_>>());
        }
    });
}

#[test]
fn queued_jobs_run_in_order() {
    within(MINUTE, || {
        let ((executor, gate, _), log) = (busy(), Log::new());
        for n in 0..10 {
            let log = log.clone();
            executor.submit(move || log.say(n));
        }
        gate.set();
        executor.shutdown();
        log.assert_is((0..10).map(|n| n.to_string()));
    });
}

/// `submit` never waits, and never switches.
#[test]
fn to_submit_is_not_to_wait() {
    within(MINUTE, || {
        let (executor, log) = (GreenletPoolExecutor::new(2), Log::new());
        let said = log.clone();
        spawn(move || said.say("another ran"));
        let futures: Vec<_> = (0..1000).map(|n| executor.submit(move || n)).collect();
        log.assert_empty();
        executor.shutdown();
        assert!(futures.iter().all(Future::is_done));
    });
}

#[test]
fn an_executor_needs_a_worker() {
    within(MINUTE, || {
        assert!(swallow(|| GreenletPoolExecutor::new(0)).is_err());
    });
}

/// Dropping the future, or the executor, lets the job run.
#[test]
fn a_job_outlives_its_handles() {
    within(MINUTE, || {
        let ((executor, gate, running), log) = (busy(), Log::new());
        let said = log.clone();
        drop(executor.submit(move || said.say("queued")));
        drop((executor, running));
        gate.set();
        settle();
        log.assert_is(["queued"]);
    });
}

/// Jobs may submit more.
#[test]
fn a_job_may_submit() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let inner = executor.clone();
        let outer = executor.submit(move || inner.submit(|| 7));
        let inner = outer.result().unwrap();
        assert_eq!(inner.result().unwrap(), 7);
    });
}

/// One that waits for what it has submitted waits for ever if it has the only worker.
#[test]
fn a_job_that_waits_for_its_own_executor_blocks_forever() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let inner = executor.clone();
        let outer = executor.submit(move || inner.submit(|| 7).result().unwrap());
        let report = blocks_forever(|| outer.result());
        assert!(report.contains("result of the Future"), "{report}");
    });
}

// -------------------------------------------------------------------- states, cancel

/// Pending, running, done: `is_running` and `is_done` exclude each other.
#[test]
fn the_states_of_a_future() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let pending = executor.submit(|| ());
        let states = |future: &Future<()>| {
            (future.is_running(), future.is_done(), future.is_cancelled(), future.is_ready())
        };
        assert_eq!(states(&running), (true, false, false, false));
        assert_eq!(states(&pending), (false, false, false, false));
        gate.set();
        running.result().unwrap();
        pending.result().unwrap();
        for done in [running, pending] {
            assert_eq!(states(&done), (false, true, false, true));
        }
        let (executor, _gate, _running) = busy();
        let cancelled = executor.submit(|| ());
        cancelled.cancel();
        assert_eq!(states(&cancelled), (false, true, true, true));
    });
}

/// `cancel`: true if it will not run, also the second time; false once it runs or has run.
#[test]
fn only_what_has_not_begun_can_be_cancelled() {
    within(MINUTE, || {
        let ((executor, gate, running), living) = (busy(), Living::new());
        let token = living.token();
        let pending = executor.submit(move || drop(token));
        let other = pending.clone();
        assert!(pending.cancel());
        assert!(pending.cancel() && other.cancel() && other.is_cancelled());
        assert_eq!(living.count(), 0, "the job was dropped, at once");
        assert!(is_cancelled(&pending.result()));
        assert!(!running.cancel());
        assert!(!running.is_cancelled() && running.is_running());
        gate.set();
        running.result().unwrap();
        assert!(!running.cancel());
        assert!(!running.is_cancelled());
    });
}

/// A job that has a worker, but has not had its turn, can be cancelled as well; P2: its worker is
/// free for the next.
#[test]
fn cancelled_before_its_first_turn() {
    within(MINUTE, || {
        let (executor, log) = (GreenletPoolExecutor::new(1), Log::new());
        let (first, second) = (log.clone(), log.clone());
        let cancelled = executor.submit(move || first.say("first"));
        let next = executor.submit(move || second.say("second"));
        assert!(cancelled.cancel());
        next.result().unwrap();
        log.assert_is(["second"]);
        executor.shutdown();
    });
}

/// Cancelled jobs never run, and leave the line.
#[test]
fn cancelled_jobs_leave_the_line() {
    within(MINUTE, || {
        let ((executor, gate, _), log) = (busy(), Log::new());
        let futures: Vec<_> = (0..10)
            .map(|n| {
                let log = log.clone();
                executor.submit(move || log.say(n))
            })
            .collect();
        let cancelled = futures.iter().step_by(2).filter(|future| future.cancel()).count();
        assert_eq!(cancelled, 5);
        gate.set();
        executor.shutdown();
        log.assert_is(["1", "3", "5", "7", "9"]);
        assert!(futures.iter().all(Future::is_done));
    });
}

/// A job cannot cancel itself: it runs.
#[test]
fn a_job_cannot_cancel_itself() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let slot = Rc::new(RefCell::new(None::<Future<bool>>));
        let own = slot.clone();
        let future = executor.submit(move || {
            let own = own.take().expect("the submitter runs on");
            own.is_running() && !own.is_done() && !own.cancel()
        });
        *slot.borrow_mut() = Some(future.clone());
        assert!(future.result().unwrap());
    });
}

/// Who waits for a result is told of the cancellation.
#[test]
fn to_cancel_wakes_those_who_wait() {
    within(MINUTE, || {
        let (executor, _gate, _running) = busy();
        let future = executor.submit(|| 7);
        let waiting = [(); 3].map(|()| {
            let future = future.clone();
            parked(spawn(move || is_cancelled(&future.result())))
        });
        assert!(future.cancel());
        for waiting in waiting {
            assert_eq!(end_of(waiting), End::Value(true));
        }
    });
}

/// The closure of a cancelled job is dropped, and may itself use the executor, wait, or panic.
#[test]
fn a_cancelled_job_may_do_things_as_it_is_dropped() {
    within(MINUTE, || {
        let ((executor, gate, _), log) = (busy(), Log::new());
        let (inner, said) = (executor.clone(), log.clone());
        let held = at_drop(move || drop(inner.submit(move || said.say("submitted"))));
        assert!(executor.submit(move || drop(held)).cancel());

        let bomb = at_drop(|| panic!("a destructor"));
        let future = executor.submit(move || drop(bomb));
        let _ = swallow(|| future.cancel());
        assert!(is_cancelled(&future.result()));
        gate.set();
        executor.shutdown();
        log.assert_is(["submitted"]);
        drop(reports());
    });
}

// ------------------------------------------------------------------------- results

/// Read many times, by many, and without waiting once it is there.
#[test]
fn a_result_can_be_read_many_times() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let future = executor.submit(|| String::from("value"));
        assert!(future.try_result().is_none());
        let readers = [(); 3].map(|()| {
            let future = future.clone();
            spawn(move || future.result().unwrap())
        });
        assert_eq!(future.result().unwrap(), "value");
        assert_eq!(future.result_timeout(ms(0)).unwrap().unwrap(), "value");
        assert_eq!(future.try_result().unwrap().unwrap(), "value");
        assert_eq!(future.result_ref().unwrap(), "value");
        assert!(future.exception().is_none());
        for reader in readers {
            assert_eq!(reader.get().unwrap(), "value");
        }
    });
}

/// What cannot be cloned can be looked at, and taken by the last who has a handle.
#[test]
fn a_result_can_be_lent_and_taken() {
    struct Unique(u32);
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let future = executor.submit(|| Unique(7));
        let future = future.try_unwrap().err().expect("it is not done");
        assert_eq!(future.result_ref().unwrap().0, 7);
        settle();
        let other = future.clone();
        let future = future.try_unwrap().err().expect("it is not the last");
        drop(other);
        let taken = future.try_unwrap().expect("it is done, and the last");
        assert_eq!(taken.ok().unwrap().0, 7);
    });
}

/// So can its error.
#[test]
fn an_error_can_be_taken() {
    within(MINUTE, || {
        let (executor, _gate, _running) = busy();
        let future = executor.submit(|| ());
        future.cancel();
        settle();
        assert!(is_cancelled(&future.try_unwrap().expect("it is done, and the last")));
    });
}

/// The value is dropped with the last handle, and no later.
#[test]
fn a_result_is_dropped_with_the_last_handle() {
    within(MINUTE, || {
        let (executor, living) = (GreenletPoolExecutor::new(1), Living::new());
        let token = living.token();
        let future = executor.submit(move || token);
        let other = future.clone();
        future.add_done_callback(|future| assert!(future.is_done()));
        executor.shutdown();
        settle();
        drop(future);
        assert_eq!(living.count(), 1);
        drop(other);
        assert_eq!(living.count(), 0);
        let token = living.token();
        drop(executor_of_one().submit(move || token));
        settle();
        assert_eq!(living.count(), 0);
    });
}

/// A panic is kept in the future, with its payload, and is nobody else's business.
#[test]
fn a_panic_is_kept_in_the_future() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let future = executor.submit(|| -> u32 { panic!("boom") });
        let error = future.result().unwrap_err();
        assert!(error.is_panic() && !error.is_killed() && !error.is_cancelled());
        assert_eq!(error.message(), "boom");
        let FutureError::Panicked(payload) = &error else { panic!("it panicked") };
        assert_eq!(message(payload.as_ref()), "boom");
        assert!(future.exception().unwrap().is_panic());
        assert!(future.result_ref().is_err());
        assert!(future.is_done() && !future.is_cancelled() && !future.cancel());
        assert_eq!(executor.submit(|| 7).result().unwrap(), 7, "the worker goes on");
        assert_eq!(reports(), []);
    });
}

/// So is a kill.
#[test]
fn a_kill_is_kept_in_the_future() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let future = executor.submit(be_killed);
        let error = future.result().unwrap_err();
        assert!(error.is_killed() && !error.is_panic() && !error.is_cancelled());
        assert!(future.exception().unwrap().is_killed());
        assert!(!future.is_running() && !future.cancel());
        assert_eq!(executor.submit(|| 7).result().unwrap(), 7, "the worker goes on");
        executor.shutdown();
    });
}

/// A timeout that the job does not catch is a panic of its own kind; one that it does is not.
#[test]
fn a_timeout_in_a_job() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let caught = executor.submit(|| with_timeout(ms(1), || sleep(HOUR)));
        assert_eq!(caught.result().unwrap(), Err(Elapsed));
        let uncaught = executor.submit(|| {
            let _timeout = greenloom::Timeout::start(ms(1));
            sleep(HOUR);
        });
        assert!(uncaught.result().unwrap_err().is_panic());
    });
}

#[test]
fn errors_read_like_the_end_of_a_sentence() {
    within(MINUTE, || {
        let (executor, gate, _) = busy();
        let cancelled = executor.submit(|| 1);
        cancelled.cancel();
        gate.set();
        let (killed, failed) = (executor.submit(be_killed), executor.submit(fail));
        let error = |future: &Future<u32>| future.exception().unwrap();
        assert_eq!(error(&cancelled).to_string(), "cancelled");
        assert_eq!(error(&killed).to_string(), "killed");
        assert_eq!(error(&failed).to_string(), "panicked: failed");
        let as_error: &dyn std::error::Error = &error(&failed);
        assert!(!format!("{as_error:?}").is_empty());
        assert!(error(&cancelled).is_cancelled() && error(&cancelled.clone()).is_cancelled());
        assert!(!format!("{executor:?} {failed:?} {killed:?}").is_empty());
    });
}

// -------------------------------------------------------------------- waiting for one

/// T8: `result_timeout` gives up, not early, and the job goes on.
#[test]
fn a_result_may_come_too_late() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let start = Instant::now();
        assert_eq!(running.result_timeout(ms(5)).err(), Some(Elapsed));
        assert!(start.elapsed() >= ms(5));
        assert!(running.is_running());
        assert_eq!(with_timeout(ms(1), || running.result().is_ok()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || running.result_timeout(HOUR).is_ok()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || running.exception().is_none()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || running.result_ref().is_ok()), Err(Elapsed));
        let own = with_timeout(HOUR, || running.result_timeout(ms(1)).is_ok());
        assert_eq!(own, Ok(false));
        gate.set();
        running.result().unwrap();
        executor.shutdown();
    });
}

/// T4: a result that is there in time wins, however late anybody looks.
#[test]
fn a_result_in_time_beats_the_timeout() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(1);
        let late = || executor.submit(|| spin(ms(10)));
        assert!(late().result_timeout(ms(5)).is_ok());
        let future = late();
        assert!(with_timeout(ms(5), || future.result().is_ok()).is_ok());
        let future = late();
        assert_eq!(wait_timeout([&future], ms(5), ALL_COMPLETED).done.len(), 1);
        late();
        assert!(executor.shutdown_timeout(ms(5)));
    });
}

/// K9: done and killed in one turn, in both orders; the callback runs in the turn in which it is
/// done, after those who wait have been woken.
#[test]
fn done_and_killed_in_one_turn() {
    const READS: [fn(&Future<u32>) -> bool; 4] = [
        |future| future.result().is_ok(),
        |future| future.result_timeout(HOUR).unwrap().is_ok(),
        |future| future.result_ref().is_ok(),
        |future| future.exception().is_none(),
    ];
    within(MINUTE, || {
        for read in READS {
            let (executor, gate, log) = (executor_of_one(), Event::new(), Log::new());
            let (killed_first, woken_first) = (doomed(), doomed());
            let (held, before, after) = (gate.clone(), killed_first.clone(), woken_first.clone());
            let future = executor.submit(move || {
                held.wait();
                kill(&before);
                7
            });
            future.add_done_callback(move |_| kill(&after));
            let reader = || {
                let (future, log) = (future.clone(), log.clone());
                parked(spawn(move || {
                    log.say(read(&future));
                    sleep(HOUR);
                    log.say("survived its next wait");
                }))
            };
            *killed_first.borrow_mut() = Some(reader());
            *woken_first.borrow_mut() = Some(reader());
            gate.set();
            settle();
            log.assert_is(["true"]);
            for reader in [killed_first, woken_first] {
                assert_eq!(end_of(reader.take().unwrap()), End::Killed);
            }
        }
    });
}

type Doomed = Rc<RefCell<Option<Greenlet<()>>>>;

fn doomed() -> Doomed {
    Rc::default()
}

fn kill(doomed: &Doomed) {
    doomed.borrow().as_ref().expect("it is there by now").kill_nowait();
}

/// K2: to kill one who waits does not touch the job.
#[test]
fn to_kill_a_reader_leaves_the_job() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let pending = executor.submit(|| 7);
        let (of_running, of_pending) = (running.clone(), pending.clone());
        let readers = [
            parked(spawn(move || of_running.result().is_ok())),
            parked(spawn(move || of_pending.result().is_ok())),
        ];
        for reader in readers {
            reader.kill();
            assert_eq!(end_of(reader), End::Killed);
        }
        gate.set();
        running.result().unwrap();
        assert_eq!(pending.result().unwrap(), 7);
    });
}

/// K2, T2: waits that are interrupted leave nothing that may wake anybody. (`kill.rs` and
/// `timeout.rs` ask the rest of every kind of wait.)
#[test]
fn an_interrupted_wait_leaves_no_timer() {
    const WAITS: [fn(&Future<()>); 5] = [
        |future| drop(future.result_timeout(HOUR)),
        |future| drop(future.result()),
        |future| drop(wait_timeout([future], HOUR, ALL_COMPLETED)),
        |future| drop(wait([future], FIRST_COMPLETED)),
        |future| drop(as_completed([future]).next()),
    ];
    within(MINUTE, || {
        let (executor, stuck) = (executor_of_one(), stuck());
        let held = stuck.clone();
        let future = executor.submit(move || held.join());
        for wait in WAITS {
            let waiting = future.clone();
            parked(spawn(move || wait(&waiting))).kill();
            assert_eq!(with_timeout(ms(1), || wait(&future)), Err(Elapsed));
        }
        blocks_forever(|| stuck.join());
        stuck.kill();
        future.result().unwrap();
    });
}

/// Waitable: a future is ready when it is done, and can be waited for with anything else.
#[test]
fn a_future_is_waitable() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let (queue, event) = (Queue::<u32>::new(), Event::new());
        assert_eq!(wait_any_timeout([&running], ms(1)), None);
        let opening = gate.clone();
        spawn(move || opening.set());
        assert_eq!(wait_any([&queue as &dyn Waitable, &event, &running]), 2);
        let cancelled = {
            let (busy, _gate, _) = busy();
            let cancelled = busy.submit(|| ());
            cancelled.cancel();
            cancelled
        };
        assert_eq!(wait_any([&cancelled]), 0, "cancelled is done");
        let futures = [executor.submit(|| 1), executor.submit(|| 2)];
        assert_eq!(iwait(&futures).collect::<Vec<_>>(), [0, 1]);
        joinall(&futures);
    });
}

/// While a greenlet unwinds, what is there can be read, and nothing waits.
#[test]
fn while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let pending = executor.submit(|| 7);
        let log = Log::new();
        let said = log.clone();
        let unwinding = parked(spawn(move || {
            let _guard = at_drop(move || {
                said.say(running.result_timeout(HOUR).is_err());
                said.say(wait([&running], ALL_COMPLETED).done.len());
                said.say(as_completed([&running]).next().is_none());
                said.say(executor.shutdown_timeout(HOUR));
                executor.shutdown();
                said.say(pending.cancel());
                said.say(pending.result().is_err());
            });
            sleep(HOUR);
        }));
        unwinding.kill();
        log.assert_is(["true", "0", "true", "false", "true", "true"]);
        gate.set();
    });
}

// ------------------------------------------------------------------------ callbacks

/// Callbacks run in the order in which they were added, once each, with the future.
#[test]
fn callbacks_run_in_order() {
    within(MINUTE, || {
        let ((executor, gate, _), log) = (busy(), Log::new());
        let future = executor.submit(|| 7);
        for n in 0..10 {
            let said = log.clone();
            future.add_done_callback(move |future| {
                assert!(future.is_done() && !future.is_running());
                said.say(format!("{n}: {}", future.result().unwrap()));
            });
        }
        settle();
        log.assert_empty();
        gate.set();
        executor.shutdown();
        settle();
        log.assert_is((0..10).map(|n| format!("{n}: 7")));
    });
}

/// Added to one that is done, a callback runs soon, but not at once; in order all the same.
#[test]
fn a_callback_may_come_late() {
    within(MINUTE, || {
        let (executor, log) = (executor_of_one(), Log::new());
        let future = executor.submit(|| 7);
        future.result().unwrap();
        for n in 0..5 {
            let said = log.clone();
            future.add_done_callback(move |_| said.say(n));
        }
        log.assert_empty();
        settle();
        log.assert_is(["0", "1", "2", "3", "4"]);
    });
}

/// However it ends: by a value, a panic, a kill, a cancellation before or after somebody waits.
#[test]
fn a_callback_is_told_of_every_end() {
    within(MINUTE, || {
        let (executor, gate, _) = busy();
        let log = Log::new();
        let tell = |future: &Future<u32>| {
            let said = log.clone();
            future.add_done_callback(move |future| {
                said.say(match future.try_result().unwrap() {
                    Ok(value) => value.to_string(),
                    Err(error) => error.to_string(),
                });
            });
        };
        let cancelled = executor.submit(|| 0);
        tell(&cancelled);
        assert!(cancelled.cancel());
        settle();
        log.assert_is(["cancelled"]);
        gate.set();
        for job in [|| 7, fail, be_killed] {
            let future = executor.submit(job);
            tell(&future);
            let _ = future.result();
            settle();
        }
        log.assert_is(["cancelled", "7", "panicked: failed", "killed"]);
        tell(&cancelled);
        settle();
        assert_eq!(log.lines()[4], "cancelled");
    });
}

/// One that panics is reported; the others run, and the result is none the worse.
#[test]
fn a_callback_may_panic() {
    within(MINUTE, || {
        let (executor, log) = (executor_of_one(), Log::new());
        let future = executor.submit(|| 7);
        let (before, after) = (log.clone(), log.clone());
        future.add_done_callback(move |_| before.say("before"));
        future.add_done_callback(|_| panic!("a callback"));
        future.add_done_callback(move |_| after.say("after"));
        assert_eq!(future.result().unwrap(), 7);
        assert_eq!(executor.submit(|| 8).result().unwrap(), 8, "the worker goes on");
        settle();
        log.assert_is(["before", "after"]);
        let reports = reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].text.contains("a callback"), "{}", reports[0].text);
    });
}

/// A kill that was meant for the job is not raised in the callbacks, whichever greenlet they run in.
#[test]
fn a_kill_is_not_meant_for_callbacks() {
    within(MINUTE, || {
        for job in [|| 7, be_killed] {
            let (executor, log) = (executor_of_one(), Log::new());
            let future = executor.submit(job);
            let said = log.clone();
            future.add_done_callback(move |_| {
                sleep(ms(1));
                said.say("first");
            });
            let said = log.clone();
            future.add_done_callback(move |_| said.say("second"));
            assert!(future.exception().is_none_or(|error| error.is_killed()));
            assert_eq!(executor.submit(|| 8).result().unwrap(), 8, "the worker goes on");
            until(|| log.len() == 2);
            log.assert_is(["first", "second"]);
        }
    });
}

/// A callback may wait, read and submit; those who wait for the result do not wait for it.
#[test]
fn a_callback_may_wait() {
    within(MINUTE, || {
        let (executor, log) = (GreenletPoolExecutor::new(2), Log::new());
        let (inner, said, gate) = (executor.clone(), log.clone(), Event::new());
        let held = gate.clone();
        let future = executor.submit(|| 7);
        future.add_done_callback(move |future| {
            held.wait();
            let value = future.result().unwrap();
            let next = inner.submit(move || value + 1);
            said.say(next.result().unwrap());
        });
        assert_eq!(future.result().unwrap(), 7);
        log.assert_empty();
        gate.set();
        until(|| log.len() == 1);
        log.assert_is(["8"]);
    });
}

/// Callbacks may add callbacks.
#[test]
fn a_callback_may_add_another() {
    within(MINUTE, || {
        let (executor, log) = (executor_of_one(), Log::new());
        let future = executor.submit(|| ());
        let said = log.clone();
        future.add_done_callback(move |future| {
            let inner = said.clone();
            future.add_done_callback(move |_| inner.say("added"));
            said.say("first");
        });
        executor.shutdown();
        settle();
        log.assert_is(["first", "added"]);
    });
}

// ------------------------------------------------------------------------------ wait

/// `wait` for the first: those that are done by then, and the others, each in the order given.
#[test]
fn wait_for_the_first() {
    within(MINUTE, || {
        let (gates, futures) = gated::<3>();
        let opening = gates.clone();
        spawn(move || opening[1].set());
        let Waited { done, not_done } = wait(&futures, FIRST_COMPLETED);
        assert_eq!(values(&done), [1]);
        assert_eq!(not_done.len(), 2);
        gates[2].set();
        settle();
        let Waited { done, not_done } = wait(futures.iter().rev(), FIRST_COMPLETED);
        assert_eq!((values(&done), not_done.len()), (vec![2, 1], 1));
    });
}

#[test]
fn wait_for_all() {
    within(MINUTE, || {
        let (gates, futures) = gated::<3>();
        let opening = gates.clone();
        spawn(move || {
            for n in [2, 0, 1] {
                opening[n].set();
                settle();
            }
        });
        let Waited { done, not_done } = wait(&futures, ALL_COMPLETED);
        assert_eq!((values(&done), not_done.len()), (vec![0, 1, 2], 0));
        let again = wait(&futures, ReturnWhen::AllCompleted);
        assert_eq!(again.done.len(), 3, "as often as one likes");
        assert!(!format!("{again:?}").is_empty());
    });
}

/// `wait` for the first that fails: a value or a cancellation is no reason to return.
#[test]
fn wait_for_the_first_failure() {
    within(MINUTE, || {
        for failure in [fail, be_killed] {
            let executor = GreenletPoolExecutor::new(3);
            let gates = [Event::new(), Event::new()];
            let held = gates.clone();
            let ends = |n: usize, end: fn() -> u32| {
                let gate = held[n].clone();
                executor.submit(move || {
                    gate.wait();
                    end()
                })
            };
            let endless = executor.submit(|| {
                sleep(HOUR);
                0
            });
            let (good, bad) = (ends(0, || 1), ends(1, failure));
            let cancelled = executor.submit(|| 2);
            let waiting = {
                let futures = [endless, good, cancelled.clone(), bad];
                parked(spawn(move || {
                    let waited = wait(&futures, FIRST_EXCEPTION);
                    (done(&futures), waited.done.len(), waited.not_done.len())
                }))
            };
            assert!(cancelled.cancel());
            gates[0].set();
            settle();
            assert!(!waiting.is_finished());
            gates[1].set();
            assert_eq!(end_of(waiting), End::Value((vec![1, 2, 3], 3, 1)));
        }
    });
}

/// Without a failure, it waits for all.
#[test]
fn wait_for_a_failure_that_does_not_come() {
    within(MINUTE, || {
        let (gates, futures) = gated::<2>();
        for gate in &gates {
            gate.set();
        }
        assert_eq!(wait(&futures, FIRST_EXCEPTION).done.len(), 2);
    });
}

/// A failure that is there already is not waited for.
#[test]
fn wait_for_a_failure_that_has_come() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(2);
        let unfinished = executor.submit(|| {
            sleep(HOUR);
            7
        });
        let failed = executor.submit(fail);
        assert!(failed.exception().is_some());
        let Waited { done, not_done } = wait([&failed, &unfinished], FIRST_EXCEPTION);
        assert_eq!((done.len(), not_done.len()), (1, 1));
    });
}

/// T8: out of time, it returns what there is.
#[test]
fn wait_may_give_up() {
    within(MINUTE, || {
        let (gates, futures) = gated::<3>();
        gates[1].set();
        let start = Instant::now();
        let Waited { done, not_done } = wait_timeout(&futures, ms(5), ALL_COMPLETED);
        assert!(start.elapsed() >= ms(5));
        assert_eq!((values(&done), not_done.len()), (vec![1], 2));
        let first = wait_timeout(&futures, HOUR, FIRST_COMPLETED);
        assert_eq!(first.done.len(), 1);
        let none = wait_timeout(&not_done, ms(1), FIRST_COMPLETED);
        assert_eq!((none.done.len(), none.not_done.len()), (0, 2));
        let outer = with_timeout(ms(1), || wait_timeout(&not_done, HOUR, ALL_COMPLETED).done.len());
        assert_eq!(outer, Err(Elapsed));
    });
}

/// To wait for nothing is not to wait.
#[test]
fn wait_for_nothing() {
    within(MINUTE, || {
        for when in [FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED] {
            let Waited { done, not_done } = wait::<u32>([], when);
            assert!(done.is_empty() && not_done.is_empty());
        }
        assert!(as_completed::<u32>([]).next().is_none());
    });
}

// ---------------------------------------------------------------------- as_completed

/// Those that are done already come first, in the order given; then in the order of their ends.
#[test]
fn as_completed_comes_in_the_order_of_ending() {
    within(MINUTE, || {
        let (gates, futures) = gated::<5>();
        for n in [3, 1] {
            gates[n].set();
            settle();
        }
        let mut ends = as_completed(&futures).map(|future| future.result().unwrap());
        for n in [0, 4, 2] {
            gates[n].set();
            settle();
        }
        assert_eq!(ends.by_ref().collect::<Vec<_>>(), [1, 3, 0, 4, 2]);
        assert_eq!(ends.next(), None);
    });
}

/// It waits for the next; the caller may do whatever he likes in between.
#[test]
fn as_completed_waits() {
    within(MINUTE, || {
        let (gates, futures) = gated::<3>();
        let mut got = Vec::new();
        spawn(move || {
            for n in [2, 0, 1] {
                gates[n].set();
                settle();
            }
        });
        for future in as_completed(&futures) {
            got.push(future.result().unwrap());
            sleep(ms(2));
        }
        assert_eq!(got, [2, 0, 1]);
    });
}

/// Every end is an end; each comes once.
#[test]
fn as_completed_tells_of_every_end() {
    within(MINUTE, || {
        let (executor, gate, _) = busy();
        let cancelled = executor.submit(|| 0);
        let futures = [executor.submit(|| 1), cancelled, executor.submit(fail)];
        let mut ends = as_completed(&futures);
        assert!(futures[1].cancel());
        assert!(ends.next().unwrap().is_cancelled());
        gate.set();
        assert_eq!(ends.next().unwrap().result().unwrap(), 1);
        assert!(ends.next().unwrap().exception().unwrap().is_panic());
        assert!(ends.next().is_none());
    });
}

/// K10: it may be left early, and leaves no trace.
#[test]
fn as_completed_may_be_left() {
    within(MINUTE, || {
        let (gates, futures) = gated::<3>();
        let mut ends = as_completed(&futures);
        gates[0].set();
        assert_eq!(ends.next().unwrap().result().unwrap(), 0);
        assert_eq!(with_timeout(ms(1), || ends.next().is_some()), Err(Elapsed));
        gates[2].set();
        assert_eq!(ends.next().unwrap().result().unwrap(), 2, "nothing was missed");
        drop(ends);
        gates[1].set();
        assert_eq!(futures[1].result().unwrap(), 1);
    });
}

/// K9: one who is killed in it takes nothing from others.
#[test]
fn as_completed_is_everybodys() {
    within(MINUTE, || {
        let (gates, futures) = gated::<2>();
        let reading = || {
            let futures = futures.clone();
            parked(spawn(move || as_completed(&futures).filter_map(|f| f.result().ok()).count()))
        };
        let (doomed, reader) = (reading(), reading());
        doomed.kill();
        for gate in gates {
            gate.set();
        }
        assert_eq!(end_of(reader), End::Value(2));
    });
}

// ------------------------------------------------------------------------------- map

/// In the order of the items, with panics at their places.
#[test]
fn map_is_in_order() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(2);
        let mut results = executor.map(0..5, |n| if n == 3 { fail() } else { n });
        assert_eq!(results.by_ref().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(swallow(|| results.next()).is_err());
        assert_eq!([results.next(), results.next()], [Some(4), None]);
        executor.shutdown();
        assert_eq!(reports(), []);
    });
}

/// All of the input is worked on, whether anybody reads or not; `shutdown` waits for it, and what is
/// done can be read afterwards.
#[test]
fn shutdown_waits_for_maps() {
    within(MINUTE, || {
        let (executor, log) = (GreenletPoolExecutor::new(2), Log::new());
        let said = log.clone();
        let results = executor.map(0..10, move |n| {
            yield_now();
            said.say(n);
            n
        });
        executor.shutdown();
        log.assert_has_all((0..10).map(|n| n.to_string()));
        assert!(results.eq(0..10));
    });
}

/// To drop the results ends a map, and lets the workers go.
#[test]
fn a_map_may_be_left() {
    within(MINUTE, || {
        let (executor, log) = (executor_of_one(), Log::new());
        let said = log.clone();
        let mut results = executor.map(0..10, move |n| {
            said.say(n);
            if n == 1 {
                sleep(HOUR);
            }
            n
        });
        assert_eq!(results.next(), Some(0));
        settle();
        drop(results);
        assert_eq!(executor.submit(|| 7).result().unwrap(), 7);
        executor.shutdown();
        log.assert_is(["0", "1"]);
    });
}

// -------------------------------------------------------------------------- shutdown

/// No more jobs; those it has are waited for.
#[test]
fn shutdown_waits_for_all() {
    within(MINUTE, || {
        let ((executor, gate, running), log) = (busy(), Log::new());
        let said = log.clone();
        let queued = executor.submit(move || said.say("ran"));
        let opening = gate.clone();
        let other = executor.clone();
        spawn(move || {
            assert!(swallow(|| other.submit(|| ())).is_err(), "it is shut already");
            opening.set();
        });
        executor.shutdown();
        assert!(running.is_done() && queued.is_done());
        log.assert_is(["ran"]);
        executor.shutdown();
        assert!(executor.shutdown_timeout(ms(0)));
        executor.shutdown_now();
        assert!(swallow(|| executor.submit(|| ())).is_err());
        assert!(swallow(|| executor.map(0..1, |n| n)).is_err());
    });
}

/// With a limit: not early, and everything goes on.
#[test]
fn shutdown_may_give_up() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let queued = executor.submit(|| 7);
        let start = Instant::now();
        assert!(!executor.shutdown_timeout(ms(5)));
        assert!(start.elapsed() >= ms(5));
        assert_eq!(with_timeout(ms(1), || executor.shutdown()), Err(Elapsed));
        assert!(swallow(|| executor.submit(|| ())).is_err());
        assert!(running.is_running() && !queued.is_done());
        gate.set();
        assert!(executor.shutdown_timeout(HOUR));
        assert_eq!(queued.result().unwrap(), 7);
    });
}

/// What has not begun is cancelled; what runs is waited for.
#[test]
fn shutdown_now_cancels_what_has_not_begun() {
    within(MINUTE, || {
        let ((executor, gate, running), living) = (busy(), Living::new());
        let queued: Vec<_> = (0..3)
            .map(|_| {
                let token = living.token();
                executor.submit(move || drop(token))
            })
            .collect();
        let ending = {
            let executor = executor.clone();
            parked(spawn(move || executor.shutdown_now()))
        };
        assert!(queued.iter().all(Future::is_cancelled));
        assert_eq!(living.count(), 0);
        assert!(running.is_running() && !ending.is_finished());
        gate.set();
        ending.join();
        running.result().unwrap();
    });
}

/// Also what has a worker, but has not had its turn.
#[test]
fn shutdown_now_cancels_what_is_about_to_begin() {
    within(MINUTE, || {
        let (executor, log) = (GreenletPoolExecutor::new(2), Log::new());
        let futures = [(); 3].map(|()| {
            let log = log.clone();
            executor.submit(move || log.say("ran"))
        });
        executor.shutdown_now();
        log.assert_empty();
        assert!(futures.iter().all(Future::is_cancelled));
    });
}

/// K2: to kill one who shuts down leaves the executor shut, and the jobs at work.
#[test]
fn a_killed_shutdown_leaves_the_jobs() {
    within(MINUTE, || {
        let (executor, gate, running) = busy();
        let queued = executor.submit(|| 7);
        let ending = {
            let executor = executor.clone();
            parked(spawn(move || executor.shutdown()))
        };
        ending.kill();
        assert!(running.is_running());
        assert!(swallow(|| executor.submit(|| ())).is_err());
        gate.set();
        assert_eq!(queued.result().unwrap(), 7);
    });
}

// ---------------------------------------------------------------------- the executors

/// Code that does not care where its jobs run.
#[test]
fn code_may_be_generic_over_executors() {
    fn sum_of_squares(executor: &impl Executor, up_to: u32) -> (u32, u32) {
        let futures: Vec<_> = (1..=up_to).map(|n| executor.submit(move || n * n)).collect();
        let submitted = futures.iter().map(|future| future.result().unwrap()).sum();
        let mapped = executor.map(1..=up_to, |n| n * n).sum();
        executor.shutdown();
        (submitted, mapped)
    }
    within(MINUTE, || {
        assert_eq!(sum_of_squares(&GreenletPoolExecutor::new(2), 4), (30, 30));
        assert_eq!(sum_of_squares(&ThreadPoolExecutor::new(2), 4), (30, 30));
    });
}

/// Where it is known to be of greenlets, jobs and results need not be `Send`.
#[test]
fn jobs_of_greenlets_need_not_be_send() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(2);
        let shared = Rc::new(Cell::new(0));
        let counting = shared.clone();
        let future = executor.submit(move || {
            counting.set(7);
            counting
        });
        assert_eq!(future.result().unwrap().get(), 7);
        assert_eq!(executor.map([shared], |cell| cell.get()).collect::<Vec<_>>(), [7]);
        let any: Future<Box<dyn Any>> = executor.submit(|| Box::new(1) as Box<dyn Any>);
        assert!(any.result_ref().unwrap().is::<i32>());
    });
}

/// P2: no worker is lost, however the jobs end.
#[test]
fn no_worker_is_lost() {
    within(MINUTE, || {
        let executor = GreenletPoolExecutor::new(2);
        let mut futures = Vec::new();
        for round in 0..40 {
            futures.push(executor.submit(match round % 4 {
                0 => || 1,
                1 => fail,
                2 => be_killed,
                _ => || u32::from(with_timeout(ms(1), || sleep(HOUR)).is_err()),
            }));
            if round % 5 == 0 {
                futures[round / 2].cancel();
            }
        }
        wait(&futures, ALL_COMPLETED);
        let (gates, held) = (Event::new(), Rc::new(Cell::new(0)));
        for _ in 0..2 {
            let (gates, held) = (gates.clone(), held.clone());
            executor.submit(move || {
                held.set(held.get() + 1);
                gates.wait();
            });
        }
        settle();
        assert_eq!(held.get(), 2, "both are there");
        gates.set();
        executor.shutdown();
    });
}

/// A job that is killed may clean up first; it is running until then, and killed afterwards.
#[test]
fn a_job_may_clean_up() {
    within(MINUTE, || {
        let (executor, log) = (executor_of_one(), Log::new());
        let said = log.clone();
        let future = executor.submit(move || {
            current().kill_nowait();
            if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
                sleep(ms(1));
                said.say("gone");
                interrupt.resume();
            }
        });
        assert!(is_killed(&future.result()));
        log.assert_is(["gone"]);
    });
}

/// The end of a thread ends the jobs and those who wait for them.
#[test]
fn a_thread_may_end_while_jobs_run() {
    within(MINUTE, || {
        let (executor, running) = waits::busy_executor();
        let queued = executor.submit(|| 7);
        let other = queued.clone();
        queued.add_done_callback(|_| ());
        let _reading = parked(spawn(move || drop(other.result())));
        let _waiting = parked(spawn(move || drop(wait([&running], ALL_COMPLETED))));
        let _ending = parked(spawn(move || executor.shutdown()));
    });
}

// ---------------------------------------------------------------- threads: submitting

/// An executor of one thread, which stands before a gate, and the future of that.
fn busy_thread() -> (ThreadPoolExecutor, Gate, Future<()>) {
    let (executor, gate) = (ThreadPoolExecutor::new(1), Gate::new());
    let job = executor.submit(gate.then(()));
    eventually(|| job.is_running());
    (executor, gate, job)
}

/// At most so many jobs run, on threads of their own; the others are queued, however many.
#[test]
fn jobs_run_on_threads() {
    within(MINUTE, || {
        for workers in [1, 3] {
            let executor = ThreadPoolExecutor::new(workers);
            let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let futures: Vec<_> = (0..200)
                .map(|_| {
                    let (inside, most) = (inside.clone(), most.clone());
                    executor.submit(move || {
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        thread::current().id()
                    })
                })
                .collect();
            for future in &futures {
                assert_ne!(future.result().unwrap(), thread::current().id());
            }
            assert!((1..=workers).contains(&most.load(SeqCst)));
            executor.shutdown();
        }
    });
}

#[test]
fn queued_jobs_run_in_order_on_a_thread() {
    within(MINUTE, || {
        let ((executor, gate, _), notes) = (busy_thread(), Notes::new());
        let futures: Vec<_> = (0..50).map(|n| executor.submit(notes.job(n))).collect();
        assert_eq!(notes.list(), []);
        gate.open();
        wait(&futures, ALL_COMPLETED);
        assert_eq!(notes.list(), (0..50).collect::<Vec<_>>());
    });
}

/// The queue has no bound, so nobody has to wait for a place in it.
#[test]
fn to_submit_to_a_thread_is_not_to_wait() {
    within(MINUTE, || {
        let (executor, gate, _) = busy_thread();
        never_switches(|| {
            for _ in 0..1_000 {
                executor.submit(|| ());
            }
        });
        gate.open();
        executor.shutdown();
    });
}

#[test]
fn a_thread_executor_needs_a_worker() {
    within(MINUTE, || {
        assert!(swallow(|| ThreadPoolExecutor::new(0)).is_err());
    });
}

/// Neither the future nor the executor need to be kept.
#[test]
fn a_job_on_a_thread_outlives_its_handles() {
    within(MINUTE, || {
        let ((executor, gate, first), notes) = (busy_thread(), Notes::new());
        let results = Tally::new();
        let token = results.token();
        drop(executor.submit(move || token));
        drop(executor.submit(notes.job(1)));
        drop((executor, first));
        gate.open();
        eventually(|| notes.list() == [1] && results.alive() == 0);
        nothing_is_left();
    });
}

/// H13: a job that runs may wake somebody; one that has ended cannot.
#[test]
fn a_job_on_a_thread_may_wake() {
    within(MINUTE, || {
        let (_executor, gate, job) = busy_thread();
        let (tell, told) = mpsc::channel::<()>();
        let opener = thread::spawn(move || {
            told.recv().unwrap();
            gate.open();
        });
        job.add_done_callback(|_| ());
        tell.send(()).unwrap();
        job.result().unwrap();
        opener.join().unwrap();
        settle();
        nothing_is_left();
    });
}

// ------------------------------------------------------ threads: states, cancel, results

#[test]
fn the_states_of_a_future_on_a_thread() {
    within(MINUTE, || {
        let (executor, gate, running) = busy_thread();
        let queued = executor.submit(|| 2);
        let states =
            |future: &Future<u32>| (future.is_running(), future.is_done(), future.is_cancelled());
        assert!(running.is_running() && !running.is_done());
        assert_eq!(states(&queued), (false, false, false));
        assert!(queued.try_result().is_none());
        gate.open();
        assert_eq!(queued.result().unwrap(), 2);
        assert_eq!(states(&queued), (false, true, false));

        let (executor, gate, _) = busy_thread();
        let cancelled = executor.submit(|| 3);
        assert!(cancelled.cancel());
        assert_eq!(states(&cancelled), (false, true, true));
        gate.open();
    });
}

/// Also on a thread, a job that has begun is not interrupted.
#[test]
fn only_what_has_not_begun_on_a_thread_can_be_cancelled() {
    within(MINUTE, || {
        let ((executor, gate, running), tally) = (busy_thread(), Tally::new());
        let token = tally.token();
        let queued = executor.submit(move || drop(token));
        let waiting = {
            let queued = queued.clone();
            parked(spawn(move || queued.result()))
        };
        assert!(!running.cancel());
        assert!(queued.cancel() && queued.cancel());
        assert!(is_cancelled(&queued.try_result().unwrap()));
        assert_eq!(tally.alive(), 0, "it is dropped, unrun");
        assert!(is_cancelled(&waiting.get().unwrap()));
        gate.open();
        running.result().unwrap();
        assert!(!running.cancel() && !running.is_cancelled());
        // The thread is none the worse for it.
        assert_eq!(executor.submit(|| 5).result().unwrap(), 5);
        nothing_is_left();
    });
}

#[test]
fn a_result_of_a_thread_can_be_read_many_times() {
    within(MINUTE, || {
        let (executor, tally) = (ThreadPoolExecutor::new(1), Tally::new());
        let token = tally.token();
        let future = executor.submit(move || (String::from("text"), token));
        assert_eq!(future.result_ref().unwrap().0, "text");
        assert_eq!(future.clone().result_ref().unwrap().0, "text");
        assert!(future.exception().is_none());
        settle();
        let (text, token) = future.try_unwrap().expect("the last handle").unwrap();
        assert_eq!((text.as_str(), tally.alive()), ("text", 1));
        drop(token);
        assert_eq!(tally.alive(), 0);
        // Nobody takes it: it goes with the last handle.
        let token = tally.token();
        let future = executor.submit(move || token);
        future.result_ref().unwrap();
        settle();
        drop(future);
        assert_eq!(tally.alive(), 0);
    });
}

#[test]
fn a_panic_on_a_thread_is_kept_in_the_future() {
    within(MINUTE, || {
        let executor = ThreadPoolExecutor::new(1);
        let future = executor.submit(fail);
        let error = future.result().unwrap_err();
        assert_eq!(error.to_string(), "panicked: failed");
        assert_eq!(future.exception().unwrap().to_string(), "panicked: failed");
        assert!(!is_cancelled(&future.result()) && !is_killed(&future.result()));
        assert_eq!(executor.submit(|| 1).result().unwrap(), 1);
        assert!(reports().is_empty(), "whoever reads the future is told");
    });
}

/// K13: to kill one who waits, or to let its time be over, leaves the job at work.
#[test]
fn who_waits_for_a_thread_may_be_interrupted() {
    within(MINUTE, || {
        let (executor, gate, _) = busy_thread();
        let future = executor.submit(|| 8);
        assert_eq!(future.result_timeout(ms(1)).unwrap_err(), Elapsed);
        assert_eq!(with_timeout(ms(1), || future.result()).unwrap_err(), Elapsed);
        let reader = {
            let future = future.clone();
            parked(spawn(move || future.result()))
        };
        let other = {
            let future = future.clone();
            parked(spawn(move || future.result()))
        };
        reader.kill();
        assert!(reader.get().unwrap_err().is_killed() && !future.is_done());
        gate.open();
        assert_eq!(future.result().unwrap(), 8);
        assert_eq!(other.get().unwrap().unwrap(), 8);
        nothing_is_left();
    });
}

/// The job has ended, and nobody has had a turn since: the result is dropped once.
#[test]
fn a_result_of_a_thread_may_meet_a_kill() {
    within(MINUTE, || {
        let (executor, gate, _) = busy_thread();
        let (tally, ran) = (Tally::new(), Notes::new());
        let (token, say) = (tally.token(), ran.job(1));
        let future = executor.submit(move || {
            say();
            token
        });
        let reader = parked(spawn(move || drop(future.result_ref())));
        gate.open();
        meanwhile(|| ran.list() == [1]);
        reader.kill();
        eventually(|| tally.alive() == 0);
        assert_eq!(tally.dropped(), 1);
        nothing_is_left();
    });
}

// ------------------------------------------------------------------ threads: callbacks

/// They run here, in order, in a greenlet; and they may wait.
#[test]
fn callbacks_run_where_the_job_was_submitted() {
    within(MINUTE, || {
        let (executor, gate, _) = busy_thread();
        let (here, log) = (thread::current().id(), Log::new());
        let future = executor.submit(|| 4);
        for n in 0..3 {
            let log = log.clone();
            future.add_done_callback(move |future| {
                assert_eq!(thread::current().id(), here);
                assert!(!current().is_main());
                sleep(ms(1));
                log.say(format!("{n}: {}", future.result().unwrap()));
            });
        }
        log.assert_empty();
        gate.open();
        until(|| log.len() == 3);
        log.assert_is(["0: 4", "1: 4", "2: 4"]);
        let said = log.clone();
        future.add_done_callback(move |_| said.say("late"));
        until(|| log.len() == 4);
    });
}

#[test]
fn a_callback_is_told_of_every_end_on_a_thread() {
    within(MINUTE, || {
        let ((executor, gate, _), log) = (busy_thread(), Log::new());
        let tell = |future: &Future<u32>, who: &'static str| {
            let log = log.clone();
            future.add_done_callback(move |future| {
                log.say(match future.result() {
                    Ok(value) => format!("{who}: {value}"),
                    Err(error) => format!("{who}: {error}"),
                });
            });
        };
        let (well, badly, not_at_all) =
            (executor.submit(|| 1), executor.submit(fail), executor.submit(|| 3));
        tell(&well, "well");
        tell(&badly, "badly");
        tell(&not_at_all, "not at all");
        not_at_all.cancel();
        gate.open();
        until(|| log.len() == 3);
        log.assert_has_all(["well: 1", "badly: panicked: failed", "not at all: cancelled"]);
    });
}

/// It is reported, and keeps nobody else from being called.
#[test]
fn a_callback_of_a_thread_may_panic() {
    within(MINUTE, || {
        let ((executor, gate, _), log) = (busy_thread(), Log::new());
        let future = executor.submit(|| ());
        future.add_done_callback(|_| resume_unwind(Box::new("in a callback")));
        let said = log.clone();
        future.add_done_callback(move |_| said.say("next"));
        gate.open();
        until(|| log.has("next"));
        settle();
        assert_eq!(reports().len(), 1);
    });
}

// --------------------------------------------------- threads: wait, as_completed, map

/// Futures are futures, wherever their jobs run.
#[test]
fn futures_of_threads_and_greenlets_mix() {
    within(MINUTE, || {
        let (threads, greenlets) = (ThreadPoolExecutor::new(2), GreenletPoolExecutor::new(2));
        let (gate, event) = (Gate::new(), Event::new());
        let held = event.clone();
        let on_greenlet = move |n| {
            held.wait();
            n
        };
        let futures = [
            threads.submit(gate.then(0)),
            greenlets.submit(move || on_greenlet(1)),
            threads.submit(|| 2),
            greenlets.submit(|| 3),
        ];
        let all = wait_timeout(&futures[2..], HOUR, ALL_COMPLETED);
        assert_eq!(values(&all.done), [2, 3]);
        assert_eq!(done(&futures), [2, 3]);
        let first = wait(&futures, FIRST_COMPLETED);
        assert_eq!((first.done.len(), first.not_done.len()), (2, 2));

        let mut order = as_completed(&futures).map(|future| future.result().unwrap());
        assert_eq!([order.next(), order.next()], [Some(2), Some(3)]);
        gate.open();
        assert_eq!(order.next(), Some(0));
        event.set();
        assert_eq!([order.next(), order.next()], [Some(1), None]);
        assert_eq!(wait_any([&futures[0] as &dyn Waitable, &event]), 0);
    });
}

#[test]
fn wait_for_the_first_failure_on_a_thread() {
    within(MINUTE, || {
        let (executor, gate, running) = busy_thread();
        let bad = executor.submit(|| resume_unwind(Box::new("failed")));
        let futures = [running, bad, executor.submit(|| ())];
        futures[2].cancel();
        let waiting = {
            let futures = futures.clone();
            parked(spawn(move || wait(&futures, FIRST_EXCEPTION).done.len()))
        };
        gate.open();
        assert_eq!(waiting.get().unwrap(), 3);
    });
}

/// In the order of the items; the panic of one is raised at its place.
#[test]
fn map_on_threads_is_in_order() {
    within(MINUTE, || {
        let executor = ThreadPoolExecutor::new(3);
        let doubled: Vec<_> = executor.map(0..500, |n| n * 2).collect();
        assert_eq!(doubled, (0..500).map(|n| n * 2).collect::<Vec<_>>());
        let mut odd = executor.map(0..4_u32, |n| if n == 2 { fail() } else { n });
        assert_eq!((odd.next(), odd.next()), (Some(0), Some(1)));
        assert_eq!(message(swallow(|| odd.next()).unwrap_err().as_ref()), "failed");
        assert_eq!((odd.next(), odd.next()), (Some(3), None));
    });
}

/// What has begun is done, what has not is cancelled.
#[test]
fn a_map_on_threads_may_be_left() {
    within(MINUTE, || {
        let (executor, gate, tally) = (ThreadPoolExecutor::new(1), Gate::new(), Tally::new());
        let items = (0..10).map(|n| (n, tally.token()));
        let held = gate.clone();
        let notes = Notes::new();
        let said = notes.clone();
        let mut mapped = executor.map(items, move |(n, token)| {
            said.job(n)();
            if n == 1 {
                held.pass();
            }
            token
        });
        drop(mapped.next().unwrap());
        eventually(|| notes.list() == [0, 1]);
        drop(mapped);
        assert_eq!(tally.alive(), 1, "the one that runs");
        gate.open();
        executor.shutdown();
        assert_eq!((notes.list(), tally.alive()), (vec![0, 1], 0));
    });
}

// ------------------------------------------------------------------- threads: shutdown

#[test]
fn shutdown_waits_for_the_threads() {
    within(MINUTE, || {
        let ((executor, gate, running), notes) = (busy_thread(), Notes::new());
        let queued = executor.submit(notes.job(1));
        let ending = {
            let executor = executor.clone();
            parked(spawn(move || executor.shutdown()))
        };
        assert!(swallow(|| executor.submit(|| ())).is_err());
        assert!(swallow(|| executor.map([()], |()| ()).count()).is_err());
        assert!(!executor.shutdown_timeout(ms(1)));
        assert!(!running.is_done());
        gate.open();
        ending.get().unwrap();
        assert_eq!(notes.list(), [1]);
        assert!(executor.shutdown_timeout(HOUR));
        executor.shutdown();
        // The futures have heard of it, too, as soon as anybody looks.
        running.result().unwrap();
        queued.result().unwrap();
        nothing_is_left();
    });
}

#[test]
fn shutdown_now_cancels_what_has_not_begun_on_a_thread() {
    within(MINUTE, || {
        let ((executor, gate, running), tally) = (busy_thread(), Tally::new());
        let queued: Vec<_> = (0..3)
            .map(|_| {
                let token = tally.token();
                executor.submit(move || drop(token))
            })
            .collect();
        let ending = {
            let executor = executor.clone();
            parked(spawn(move || executor.shutdown_now()))
        };
        assert_eq!(tally.alive(), 0);
        let waited = wait(&queued, ALL_COMPLETED);
        assert!(waited.done.iter().all(Future::is_cancelled));
        assert!(running.is_running() && !ending.is_finished());
        gate.open();
        ending.get().unwrap();
        running.result().unwrap();
        nothing_is_left();
    });
}

/// What is dropped unrun may panic as it is dropped; it is reported, and the others go as well.
#[test]
fn shutdown_now_may_drop_what_panics() {
    within(MINUTE, || {
        let ((executor, gate, _), tally) = (busy_thread(), Tally::new());
        let futures: Vec<_> = (0..3)
            .map(|_| {
                let token = tally.token();
                let bomb = Bomb;
                executor.submit(move || drop((bomb, token)))
            })
            .collect();
        let ending = {
            let executor = executor.clone();
            parked(spawn(move || executor.shutdown_now()))
        };
        assert_eq!(tally.alive(), 0);
        gate.open();
        ending.get().unwrap();
        wait(&futures, ALL_COMPLETED);
        assert!(futures.iter().all(Future::is_cancelled));
        assert!(!reports().is_empty());
    });
}

/// Panics as it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("a bomb"));
    }
}

/// K2, and K13.
#[test]
fn a_killed_shutdown_leaves_the_threads() {
    within(MINUTE, || {
        let (executor, gate, running) = busy_thread();
        let queued = executor.submit(|| 7);
        let ending = {
            let executor = executor.clone();
            parked(spawn(move || executor.shutdown()))
        };
        ending.kill();
        assert_eq!(with_timeout(ms(1), || executor.shutdown()), Err(Elapsed));
        assert!(running.is_running());
        assert!(swallow(|| executor.submit(|| ())).is_err());
        gate.open();
        assert_eq!(queued.result().unwrap(), 7);
        executor.shutdown();
    });
}

// --------------------------------------------------------------- threads: the ends

#[test]
fn while_one_unwinds_who_waits_for_a_thread() {
    within(MINUTE, || {
        while_unwinding(|| {
            let (executor, gate) = (ThreadPoolExecutor::new(1), Gate::new());
            let future = executor.submit(gate.then(3));
            assert_eq!(future.result_timeout(HOUR).unwrap_err(), Elapsed);
            assert!(swallow(|| future.result()).is_err());
            assert_eq!(wait([&future], ALL_COMPLETED).not_done.len(), 1);
            assert_eq!(as_completed([&future]).count(), 0);
            let queued = executor.submit(|| 4);
            assert!(queued.cancel());
            assert!(!executor.shutdown_timeout(HOUR));
            executor.shutdown();
            gate.open();
        });
        settle();
    });
}

/// The end of a thread leaves its jobs to run, and drops what they return.
#[test]
fn a_thread_may_end_while_threads_work_for_it() {
    within(MINUTE, || {
        let (gate, tally) = (Gate::new(), Tally::new());
        let (held, tokens) = (gate.clone(), tally.clone());
        let starter = thread::spawn(move || {
            let executor = ThreadPoolExecutor::new(1);
            let future = executor.submit(held.then(tokens.token()));
            let queued = executor.submit(held.then(tokens.token()));
            let other = queued.clone();
            queued.add_done_callback(|_| ());
            let _reading = parked(spawn(move || drop(other.result_ref())));
            let _waiting = parked(spawn(move || drop(wait([&future], ALL_COMPLETED))));
            let _ending = parked(spawn(move || executor.shutdown()));
        });
        eventually(|| starter.is_finished());
        starter.join().unwrap();
        gate.open();
        eventually(|| tally.alive() == 0);
        assert_eq!(tally.made(), 2);
    });
}
