//! Jobs on threads: what comes back from them, who waits for a place, and what is left behind.
//!
//! X1-X3, K13, P1, ... are the rules of the design that hold here; the numbered cases are gevent's.

mod net_util;
mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::net::{TcpListener, TcpStream};
use greenloom::sync::Event;
use greenloom::threadpool::{Job, ThreadPool};
use greenloom::{
    Builder, Elapsed, Greenlet, JoinError, Waitable, iwait, joinall, joinall_timeout, offload,
    sleep, spawn, wait_any, with_timeout, yield_now,
};
use net_util::{in_child, is_child, stderr_of, this_thread, until_asleep};
use util::jobs::{Gate, Notes, Tally, Token, eventually, meanwhile};
use util::words::{Lcg, Unwound, nothing_is_left, while_unwinding};
use util::{
    End, HOUR, Log, MINUTE, at_drop, end_of, message, ms, reason_of, settle, stuck, swallow, until,
    until_parked, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let pool = ThreadPool::new(2);
        assert_eq!(pool.apply(|| 6 * 7), 42);
        let job = pool.spawn(|| "done");
        assert_eq!(job.get().unwrap(), "done");
        assert_eq!(pool.map([1, 2, 3], |n| n * n), [1, 4, 9]);
        pool.shutdown();
        assert_eq!(pool.threads(), 0);
        assert_eq!(offload(|| 7), 7);
    });
}

// ------------------------------------------------------------------------ words

/// A pool of so many threads and places in the queue.
fn pool_of(threads: usize, queue: usize) -> ThreadPool {
    ThreadPool::builder().max_threads(threads).queue(queue).build()
}

/// Keeps `count` more threads of the pool busy, until the gate is opened.
fn keep_busy(pool: &ThreadPool, count: usize) -> (Gate, Vec<Job<()>>) {
    let gate = Gate::new();
    let running = pool.running() + count;
    let jobs: Vec<_> = (0..count).map(|_| pool.spawn(gate.then(()))).collect();
    eventually(|| pool.running() == running);
    (gate, jobs)
}

/// A pool of one thread, which is busy, and one place in the queue, which is taken by a job that
/// says 0. Whoever wants to hand in another one has to wait.
fn full() -> (ThreadPool, Gate, Notes) {
    let (pool, notes) = (pool_of(1, 1), Notes::new());
    let (gate, _) = keep_busy(&pool, 1);
    drop(pool.spawn(notes.job(0)));
    assert_eq!((pool.running(), pool.queued()), (1, 1));
    (pool, gate, notes)
}

/// A greenlet that is parked in `spawn` with this job.
fn parked_spawner<T: Send + 'static>(
    pool: &ThreadPool,
    job: impl FnOnce() -> T + Send + 'static,
) -> Greenlet<Job<T>> {
    let pool = pool.clone();
    let spawner = spawn(move || pool.spawn(job));
    until_parked(spawner.id());
    spawner
}

/// The text or the number of a panic's payload.
fn payload_of<T>(end: Result<T, JoinError>) -> Box<dyn Any + Send> {
    match end {
        Err(JoinError::Panicked(payload)) => payload,
        Err(JoinError::Killed) => panic!("it was cancelled"),
        Ok(_) => panic!("it returned"),
    }
}

// -------------------------------------------------------------------- results

#[test]
fn a_job_runs_on_a_thread_of_the_pool() {
    within(MINUTE, || {
        let here = thread::current().id();
        let pool = ThreadPool::builder().max_threads(2).name("crunch").build();
        assert_eq!(pool.threads(), 0, "nothing has been asked of it");
        for _ in 0..4 {
            let (id, name) = pool.apply(|| {
                let thread = thread::current();
                (thread.id(), thread.name().map(str::to_owned))
            });
            assert_ne!(id, here);
            let name = name.expect("they have names");
            let number = name.strip_prefix("crunch-").expect("the one that was asked for");
            assert!(number.parse::<usize>().is_ok(), "{name}");
        }
        assert!((1..=2).contains(&pool.threads()));
    });
}

/// Only the greenlet waits.
#[test]
fn others_run_meanwhile() {
    within(MINUTE, || {
        type Wait = fn(&ThreadPool, Gate);
        let waits: [Wait; 4] = [
            |pool, gate| pool.spawn(gate.then(())).join(),
            |pool, gate| pool.apply(gate.then(())),
            |pool, gate| drop(pool.map([gate], |gate| gate.pass())),
            |_, gate| offload(gate.then(())),
        ];
        for wait in waits {
            let (pool, gate) = (ThreadPool::new(1), Gate::new());
            let waiter = spawn({
                let gate = gate.clone();
                move || wait(&pool, gate)
            });
            until_parked(waiter.id());
            spawn(move || gate.open()).join();
            waiter.get().unwrap();
        }
    });
}

/// Case 56: neither arguments nor results are kept after use.
#[test]
fn nothing_is_kept() {
    within(MINUTE, || {
        let (pool, arguments, results) = (ThreadPool::new(1), Tally::new(), Tally::new());
        for _ in 0..10 {
            let (argument, result) = (arguments.token(), results.token());
            let job = pool.spawn(move || {
                drop(argument);
                result
            });
            let result = job.get().unwrap();
            assert_eq!((arguments.alive(), results.alive()), (0, 1));
            drop(result);
            assert_eq!(results.alive(), 0);
            // What the job holds and does not use goes before its result comes.
            let argument = arguments.token();
            pool.apply(move || {
                let _argument = &argument;
            });
            assert_eq!(arguments.alive(), 0);
        }
    });
}

/// The results of all, whichever thread they come from and however late.
#[test]
fn map_is_in_order() {
    within(MINUTE, || {
        let pool = ThreadPool::new(3);
        let gates: Vec<_> = (0..3).map(|_| Gate::new()).collect();
        let mapped = spawn({
            let (pool, gates) = (pool.clone(), gates.clone());
            move || {
                pool.map(gates.into_iter().enumerate(), |(n, gate)| {
                    gate.pass();
                    n
                })
            }
        });
        eventually(|| pool.running() == 3);
        for gate in gates.iter().rev() {
            gate.open();
            sleep(ms(1));
        }
        assert_eq!(mapped.get().unwrap(), [0, 1, 2]);
        // More than threads and queue together.
        assert_eq!(pool.map(0..100, |n| n * 2), (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(pool.map([0_u8; 0], |n| n), [0_u8; 0]);
    });
}

// --------------------------------------------------------------------- panics

/// X2: what a job panics with arrives at `get`, and is raised by those that return the value itself.
#[test]
fn a_panic_comes_back() {
    within(MINUTE, || {
        let pool = ThreadPool::new(1);
        let fail = || -> u8 { resume_unwind(Box::new(77_u32)) };
        let payload = payload_of(pool.spawn(fail).get());
        assert_eq!(payload.downcast_ref::<u32>(), Some(&77));
        let job = pool.spawn(fail);
        eventually(|| job.is_finished());
        assert_eq!(payload_of(job.try_get().unwrap()).downcast_ref::<u32>(), Some(&77));

        let applied = swallow(|| pool.apply(fail)).unwrap_err();
        assert_eq!(applied.downcast_ref::<u32>(), Some(&77));
        let offloaded = swallow(|| offload(fail)).unwrap_err();
        assert_eq!(offloaded.downcast_ref::<u32>(), Some(&77));

        // It did the thread no harm, nor the pool.
        assert_eq!(pool.apply(|| 5), 5);
        assert_eq!(pool.running(), 0);
        assert!(pool.threads() <= 1);
    });
}

/// With the text that the panic hook has printed.
#[test]
fn a_panic_has_its_text() {
    within(MINUTE, || {
        let fail = |n: u32| move || -> u32 { panic!("number {n}, on purpose") };
        let payload = payload_of(ThreadPool::new(1).spawn(fail(1)).get());
        assert_eq!(message(payload.as_ref()), "number 1, on purpose");
        // Raised in a greenlet, it ends it like its own.
        let greenlet = spawn(move || offload(fail(2)));
        assert_eq!(end_of(greenlet), End::Panicked("number 2, on purpose".into()));
        assert_eq!(util::reports().len(), 1);
    });
}

/// The panic of the first item that panicked, in their order and not in that of time; none is left
/// running behind it.
#[test]
fn map_raises_the_first_panic() {
    within(MINUTE, || {
        let (pool, tally) = (ThreadPool::new(3), Tally::new());
        let second_has_failed = Gate::new();
        let items = [0_usize, 1, 2].map(|n| (n, second_has_failed.clone(), tally.token()));
        let map = || {
            pool.map(items, |(n, second_has_failed, token)| {
                match n {
                    1 => second_has_failed.pass(),
                    2 => second_has_failed.open(),
                    _ => return token,
                }
                resume_unwind(Box::new(n))
            })
        };
        let payload = swallow(map).expect_err("two of them panicked");
        assert_eq!(payload.downcast_ref::<usize>(), Some(&1));
        eventually(|| pool.running() == 0);
        assert_eq!(tally.alive(), 0);
    });
}

/// A result whose destructor panics does so where it is dropped, and nothing else comes of it.
#[test]
fn a_result_may_panic_as_it_is_dropped() {
    struct Bomb(#[expect(dead_code, reason = "it is only there")] Token);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                resume_unwind(Box::new("a bomb"));
            }
        }
    }
    within(MINUTE, || {
        let (pool, tally) = (ThreadPool::new(1), Tally::new());
        for _ in 0..5 {
            // On the thread of the pool.
            let gate = Gate::new();
            drop(pool.spawn(gate.then(Bomb(tally.token()))));
            gate.open();
            assert_eq!(pool.apply(|| 1), 1);
        }
        eventually(|| tally.alive() == 0);
        // Here.
        let bomb = Bomb(tally.token());
        let job = pool.spawn(move || bomb);
        eventually(|| job.is_finished());
        let _ = swallow(|| drop(job));
        // The argument of a job that is cancelled.
        let (gate, _) = keep_busy(&pool, 1);
        let bomb = Bomb(tally.token());
        let job = pool.spawn(move || drop(bomb));
        let _ = swallow(|| job.cancel());
        drop(job);
        gate.open();
        assert_eq!(pool.apply(|| 2), 2);
        assert_eq!(tally.alive(), 0);
        util::reports();
        assert_eq!(pool.running(), 0);
        nothing_is_left();
    });
}

// ------------------------------------------------------------- X1, X2, X3, case 56

/// X1: a pool belongs to no thread (a job does: see its documentation).
#[test]
fn a_pool_is_everybodys() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<ThreadPool>();
    within(MINUTE, || {
        let pool = ThreadPool::new(2);
        let hubs: Vec<_> = (0..4)
            .map(|hub: u64| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let applied: Vec<_> = (0..100)
                        .map(|n| {
                            let pool = pool.clone();
                            spawn(move || pool.apply(move || hub * 1000 + n))
                        })
                        .collect();
                    applied.into_iter().map(|greenlet| greenlet.get().unwrap()).sum::<u64>()
                })
            })
            .collect();
        eventually(|| hubs.iter().all(|hub| hub.is_finished()));
        let sums: Vec<_> = hubs.into_iter().map(|hub| hub.join().unwrap()).collect();
        assert_eq!(sums, [4950, 104_950, 204_950, 304_950]);
        assert!(pool.threads() <= 2);
    });
}

/// X2: on a thread of the pool, `apply` runs where it is. Else a pool of one would wait for itself.
#[test]
fn apply_within_a_job_runs_inline() {
    fn depth(pool: &ThreadPool, left: usize) -> Vec<thread::ThreadId> {
        let mut ids = vec![thread::current().id()];
        if left > 0 {
            let inner = pool.clone();
            ids.extend(pool.apply(move || depth(&inner, left - 1)));
        }
        ids
    }
    within(MINUTE, || {
        let pool = pool_of(1, 0);
        let inner = pool.clone();
        let ids = pool.apply(move || depth(&inner, 5));
        assert_eq!(ids.len(), 6);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

        let (outer, inner) = offload(|| {
            let here = thread::current().id();
            (here, offload(|| thread::current().id()))
        });
        assert_eq!(outer, inner);

        // A panic passes through both.
        let inner = pool.clone();
        let fail = move || inner.apply(|| -> u8 { resume_unwind(Box::new("inside")) });
        assert_eq!(message(swallow(|| pool.apply(fail)).unwrap_err().as_ref()), "inside");
    });
}

#[test]
fn map_within_a_job_does_not_wait_for_itself() {
    within(MINUTE, || {
        let pool = pool_of(1, 0);
        let inner = pool.clone();
        assert_eq!(pool.apply(move || inner.map(0..10, |n| n + 1)), (1..11).collect::<Vec<_>>());
    });
}

/// Another pool has other threads.
#[test]
fn apply_within_the_job_of_another_pool_does_not() {
    within(MINUTE, || {
        let (pool, other) = (ThreadPool::new(1), ThreadPool::new(1));
        let inner = other.clone();
        let (outside, inside) =
            pool.apply(move || (thread::current().id(), inner.apply(|| thread::current().id())));
        assert_ne!(outside, inside);
    });
}

/// X2: a job may hand in others; those it does not wait for come when it is through.
#[test]
fn a_job_may_spawn() {
    within(MINUTE, || {
        let (pool, notes) = (ThreadPool::new(1), Notes::new());
        let (inner, later) = (pool.clone(), notes.clone());
        pool.apply(move || {
            drop(inner.spawn(later.job(2)));
            later.job(1)();
        });
        eventually(|| notes.list().len() == 2);
        assert_eq!(notes.list(), [1, 2]);
    });
}

/// X3: raising the bound lets queued jobs begin, and those go on who wait to hand one in.
#[test]
fn more_threads_let_more_jobs_run() {
    within(MINUTE, || {
        let pool = pool_of(1, 1);
        let gate = Gate::new();
        let _jobs = [pool.spawn(gate.then(0)), pool.spawn(gate.then(1))];
        eventually(|| pool.running() == 1);
        let spawners = [2, 3].map(|n| parked_spawner(&pool, gate.then(n)));
        assert_eq!((pool.running(), pool.queued(), pool.threads()), (1, 1, 1));

        pool.set_max_threads(2);
        eventually(|| pool.running() == 2);
        until(|| spawners[0].is_finished());
        assert!(!spawners[1].is_finished(), "running and queued, these are three jobs");

        pool.set_max_threads(4);
        assert_eq!(pool.max_threads(), 4);
        eventually(|| pool.running() == 4);
        gate.open();
        let ends = spawners.map(|spawner| spawner.get().unwrap().get().unwrap());
        assert_eq!(ends, [2, 3]);
    });
}

/// Case 56: without a thread jobs are queued; with one, they begin.
#[test]
fn no_thread_at_all_is_a_pause() {
    within(MINUTE, || {
        let (pool, notes) = (pool_of(1, 5), Notes::new());
        pool.set_max_threads(0);
        let jobs = [0, 1, 2].map(|n| pool.spawn(notes.job(n)));
        assert!(!joinall_timeout(&jobs, ms(20)));
        assert_eq!((pool.queued(), notes.list()), (3, vec![]));
        pool.set_max_threads(1);
        joinall(&jobs);
        assert_eq!(notes.list(), [0, 1, 2]);
    });
}

/// Fewer threads: those that are too many end when they are through with their job.
#[test]
fn fewer_threads_let_fewer_jobs_run() {
    within(MINUTE, || {
        let pool = pool_of(3, 100);
        let (gate, _) = keep_busy(&pool, 3);
        pool.set_max_threads(1);
        assert_eq!(pool.running(), 3, "nobody is interrupted");
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..50)
            .map(|_| {
                let (inside, most) = (inside.clone(), most.clone());
                pool.spawn(move || {
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                })
            })
            .collect();
        gate.open();
        eventually(|| pool.threads() <= 1);
        joinall(&jobs);
        assert_eq!(pool.threads(), 1);
        // They look at the bound before they take another.
        assert_eq!(most.load(SeqCst), 1);
    });
}

// ------------------------------------------------------------------- the bounds

#[test]
fn at_most_so_many_run() {
    within(MINUTE, || {
        for threads in [1, 3] {
            let pool = ThreadPool::new(threads);
            let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            pool.map(0..200, {
                let most = most.clone();
                move |_| {
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                }
            });
            assert!((1..=threads).contains(&most.load(SeqCst)));
            assert!(pool.threads() <= threads);
        }
    });
}

#[test]
fn a_pool_needs_a_thread() {
    for none in [|| ThreadPool::new(0), || ThreadPool::builder().max_threads(0).build()] {
        assert!(swallow(none).is_err());
    }
}

/// As many jobs as threads may run, and as many again wait in the queue.
#[test]
fn the_queue_has_a_bound() {
    within(MINUTE, || {
        let pool = ThreadPool::new(2);
        let (gate, _) = keep_busy(&pool, 2);
        let _queued = [pool.spawn(gate.then(())), pool.spawn(gate.then(()))];
        assert_eq!((pool.running(), pool.queued(), pool.threads()), (2, 2, 2));

        let refused = pool.try_spawn(|| 5).expect_err("there is no place");
        assert_eq!(refused(), 5, "it comes back whole");
        let refused = pool.spawn_timeout(|| 6, ms(1)).expect_err("there is no place");
        assert_eq!(refused(), 6);
        let spawner = parked_spawner(&pool, || 7);
        assert_eq!((pool.running(), pool.queued()), (2, 2));

        gate.open();
        assert_eq!(spawner.get().unwrap().get().unwrap(), 7);
        eventually(|| pool.running() == 0);
        assert_eq!(pool.try_spawn(|| 8).ok().expect("now there is").get().unwrap(), 8);
    });
}

/// With no queue, a job needs a thread that is free.
#[test]
fn a_queue_of_none() {
    within(MINUTE, || {
        let pool = pool_of(2, 0);
        let (gate, _) = keep_busy(&pool, 2);
        assert!(pool.try_spawn(|| ()).is_err());
        let spawner = parked_spawner(&pool, || 3);
        gate.open();
        assert_eq!(spawner.get().unwrap().get().unwrap(), 3);
    });
}

#[test]
fn a_queue_without_bound() {
    within(MINUTE, || {
        let pool = ThreadPool::builder().max_threads(1).unbounded_queue().build();
        let (gate, _) = keep_busy(&pool, 1);
        let jobs: Vec<_> = (0..10_000).map(|n| pool.try_spawn(move || n).ok().unwrap()).collect();
        assert_eq!(pool.queued(), 10_000);
        gate.open();
        let sum: u64 = jobs.into_iter().map(|job| job.get().unwrap()).sum();
        assert_eq!(sum, 49_995_000);
    });
}

/// P1: who has learned that a job has ended finds its place free.
#[test]
fn the_place_is_free_when_a_job_has_ended() {
    within(MINUTE, || {
        let pool = pool_of(1, 0);
        for n in 0..2_000 {
            let job = pool.try_spawn(move || n).ok().expect("the one before has ended");
            match n % 3 {
                0 => job.join(),
                1 => meanwhile(|| job.is_finished()),
                _ => assert_eq!(wait_any([&job]), 0),
            }
            assert_eq!(job.get().unwrap(), n);
        }
    });
}

// ------------------------------------------------------------- waiting for a place

/// First come, first served.
#[test]
fn spawners_are_let_in_in_order() {
    within(MINUTE, || {
        let (pool, gate, notes) = full();
        let spawners: Vec<_> = (1..10).map(|n| parked_spawner(&pool, notes.job(n))).collect();
        // Nobody overtakes the line, not even in the moment in which there is room.
        gate.open();
        meanwhile(|| notes.list().len() == 10);
        for spawner in spawners {
            spawner.get().unwrap().get().unwrap();
        }
        assert_eq!(notes.list(), (0..10).collect::<Vec<_>>());
    });
}

/// Also if they are of different threads: one line for all hubs.
#[test]
fn spawners_of_two_hubs_stand_in_one_line() {
    within(MINUTE, || {
        let (pool, gate, notes) = full();
        let (tell, told) = mpsc::channel::<usize>();
        let (answer, answered) = mpsc::channel();
        let other = thread::spawn({
            let (pool, notes) = (pool.clone(), notes.clone());
            move || {
                let mut spawners = Vec::new();
                for n in told {
                    spawners.push(parked_spawner(&pool, notes.job(n)));
                    answer.send(()).unwrap();
                }
                joinall(&spawners);
            }
        });
        let mut spawners = Vec::new();
        for n in 1..=10 {
            if n % 2 == 0 {
                tell.send(n).unwrap();
                answered.recv().unwrap();
            } else {
                spawners.push(parked_spawner(&pool, notes.job(n)));
            }
        }
        // The other hub is stuck in a `recv` of std's, and its jobs are begun all the same.
        gate.open();
        meanwhile(|| notes.list().len() == 11);
        assert_eq!(notes.list(), (0..11).collect::<Vec<_>>());
        drop(tell);
        eventually(|| other.is_finished());
        other.join().unwrap();
        joinall(&spawners);
    });
}

/// One who is killed, or whose time is over, while he waits for a place: his job never runs. It is
/// dropped at once, and those behind him keep their order.
#[test]
fn who_gives_up_waiting_for_a_place_has_not_handed_in() {
    within(MINUTE, || {
        let (pool, gate, notes) = full();
        let tally = Tally::new();
        let job = |n: usize| {
            let (token, say) = (tally.token(), notes.job(n));
            move || {
                say();
                drop(token);
            }
        };
        let killed = parked_spawner(&pool, job(1));
        let kept = parked_spawner(&pool, job(2));
        let limited = spawn({
            let (pool, job) = (pool.clone(), job(3));
            move || with_timeout(ms(5), || pool.spawn(job)).is_err()
        });
        let refused = spawn({
            let (pool, job) = (pool.clone(), job(4));
            move || pool.spawn_timeout(job, ms(5)).is_err()
        });
        let applies = spawn({
            let (pool, job) = (pool.clone(), job(5));
            move || pool.apply(job)
        });
        let last = parked_spawner(&pool, job(6));

        killed.kill();
        assert!(killed.get().unwrap_err().is_killed());
        assert!(limited.get().unwrap() && refused.get().unwrap());
        applies.kill();
        assert_eq!((tally.made(), tally.alive()), (6, 2), "four have been dropped");

        gate.open();
        for spawner in [kept, last] {
            spawner.get().unwrap().get().unwrap();
        }
        assert_eq!(notes.list(), [0, 2, 6]);
        assert_eq!(tally.alive(), 0);
        nothing_is_left();
    });
}

/// K9: his turn has come, but he has not run since; then he is killed. He had handed it in.
#[test]
fn who_is_killed_after_his_turn_has_handed_in() {
    within(MINUTE, || {
        for unwound in [Unwound::Kill, Unwound::Timeout] {
            let (pool, gate, notes) = full();
            let (tally, next) = (Tally::new(), Gate::new());
            let token = tally.token();
            // Long enough to come to the line below before it is over.
            let (start, soon) = (Instant::now(), ms(300));
            let limit = if unwound == Unwound::Timeout { soon } else { HOUR };
            let spawner = spawn({
                let (pool, job) = (pool.clone(), notes.job(1));
                let job = move || {
                    job();
                    token
                };
                move || with_timeout(limit, || pool.spawn(job)).map(drop)
            });
            until_parked(spawner.id());
            let behind = parked_spawner(&pool, next.then(()));
            gate.open();
            // No switch here: the hub has not heard of it yet.
            meanwhile(|| notes.list() == [0, 1]);
            match unwound {
                Unwound::Kill => spawner.kill_nowait(),
                _ => meanwhile(|| start.elapsed() > limit),
            }
            let end = end_of(spawner);
            assert!(matches!(end, End::Killed | End::Value(_)), "{end:?}");
            eventually(|| tally.alive() == 0);
            assert_eq!(notes.list(), [0, 1]);
            assert_eq!((tally.made(), tally.dropped()), (1, 1));
            next.open();
            behind.get().unwrap().get().unwrap();
            nothing_is_left();
        }
    });
}

/// The thread of one who waits for a place ends: his job is dropped, and the next is served.
#[test]
fn who_waits_for_a_place_may_end_with_his_thread() {
    within(MINUTE, || {
        let (pool, gate, notes) = full();
        let tally = Tally::new();
        let token = tally.token();
        let other = thread::spawn({
            let (pool, job) = (pool.clone(), notes.job(1));
            move || {
                drop(parked_spawner(&pool, move || {
                    let _token = token;
                    job();
                }));
            }
        });
        let behind = parked_spawner(&pool, notes.job(2));
        eventually(|| other.is_finished());
        other.join().unwrap();
        assert_eq!(tally.alive(), 0);
        gate.open();
        behind.get().unwrap().get().unwrap();
        assert_eq!(notes.list(), [0, 2]);
    });
}

/// A dump says what they wait for.
#[test]
fn a_dump_shows_who_waits_for_the_pool() {
    within(MINUTE, || {
        let (pool, gate, _) = full();
        let spawner = parked_spawner(&pool, || ());
        let reason = reason_of(spawner.id()).unwrap();
        assert!(reason.contains("ThreadPool"), "{reason}");
        let other = ThreadPool::new(1);
        let held = gate.then(());
        let waiter = spawn(move || other.apply(held));
        until_parked(waiter.id());
        let reason = reason_of(waiter.id()).unwrap();
        assert!(reason.contains("Job"), "{reason}");
        gate.open();
        joinall([&spawner as &dyn Waitable, &waiter]);
    });
}

// ------------------------------------------------------------- waiting for a result

#[test]
fn the_states_of_a_job() {
    within(MINUTE, || {
        let pool = ThreadPool::new(1);
        let (gate, busy) = keep_busy(&pool, 1);
        let job = pool.spawn(|| 3);
        assert!(busy[0].is_started() && !busy[0].is_finished());
        assert!(!job.is_started() && !job.is_finished() && !job.is_ready());
        let job = job.try_get().unwrap_err();
        assert!(!job.join_timeout(ms(1)));
        assert!(!job.join_timeout(Duration::ZERO));
        let job = job.get_timeout(ms(1)).unwrap_err();
        gate.open();
        assert!(job.join_timeout(HOUR));
        assert!(job.is_started() && job.is_finished() && job.is_ready());
        job.join();
        assert_eq!(job.get_timeout(HOUR).unwrap().unwrap(), 3);
        let job = pool.spawn(|| 4);
        job.join();
        assert_eq!(job.try_get().unwrap().unwrap(), 4);
    });
}

/// Any number of greenlets may wait for one job.
#[test]
fn a_job_has_many_waiters() {
    within(MINUTE, || {
        let (pool, gate, log) = (ThreadPool::new(1), Gate::new(), Log::new());
        let job = Rc::new(pool.spawn(gate.then(9)));
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let (job, log) = (job.clone(), log.clone());
                let waiter = spawn(move || {
                    job.join();
                    log.say(n);
                });
                until_parked(waiter.id());
                waiter
            })
            .collect();
        let impatient = spawn({
            let job = job.clone();
            move || job.join_timeout(ms(1))
        });
        assert!(!impatient.get().unwrap());
        log.assert_empty();
        gate.open();
        joinall(&waiters);
        log.assert_has_all(["0", "1", "2", "3", "4"]);
        assert_eq!(Rc::into_inner(job).unwrap().get().unwrap(), 9);
    });
}

/// Jobs, events and greenlets in one wait.
#[test]
fn a_job_is_waitable() {
    within(MINUTE, || {
        let pool = ThreadPool::new(2);
        let (first, second) = (Gate::new(), Gate::new());
        let jobs = [pool.spawn(first.then(())), pool.spawn(second.then(()))];
        let (event, greenlet) = (Event::new(), stuck());
        let all = || -> [&dyn Waitable; 4] { [&jobs[0], &jobs[1], &event, &*greenlet] };

        let opener = second.clone();
        spawn(move || opener.open());
        assert_eq!(wait_any(all()), 1);
        event.set();
        assert_eq!(wait_any(all()), 1, "the first in the list");
        assert_eq!(wait_any([&jobs[0] as &dyn Waitable, &event]), 1);

        let opener = first.clone();
        spawn(move || opener.open());
        greenlet.kill_nowait();
        let mut ends: Vec<_> = iwait(all()).collect();
        assert_eq!(ends[..2], [1, 2], "those that are ready already");
        ends.sort_unstable();
        assert_eq!(ends, [0, 1, 2, 3]);
        joinall(all());
        assert!(joinall_timeout(all(), Duration::ZERO));
    });
}

/// One wake-up for many: what has ended while the hub was busy is all there when it looks.
#[test]
fn many_results_come_at_once() {
    const JOBS: usize = 1_000;
    within(MINUTE, || {
        let pool = ThreadPool::builder().max_threads(2).unbounded_queue().build();
        let (gate, _) = keep_busy(&pool, 2);
        let count = Arc::new(AtomicUsize::new(0));
        let ended = Rc::new(Cell::new(0));
        let waiters: Vec<_> = (0..JOBS)
            .map(|_| {
                let (pool, count, ended) = (pool.clone(), count.clone(), ended.clone());
                let waiter = spawn(move || {
                    pool.apply(move || count.fetch_add(1, SeqCst));
                    ended.set(ended.get() + 1);
                });
                until_parked(waiter.id());
                waiter
            })
            .collect();
        gate.open();
        meanwhile(|| count.load(SeqCst) == JOBS && pool.idle_threads() == 2);
        assert_eq!(ended.get(), 0, "nobody had a turn");
        until(|| ended.get() > 0);
        let mut turns = 1;
        while ended.get() < JOBS {
            yield_now();
            turns += 1;
        }
        assert!(turns < 20, "{turns} turns for {JOBS} results");
        joinall(&waiters);
    });
}

// ---------------------------------------------------------------- nobody waits any more

/// The ways to wait for a job that will return a token.
type Wait = fn(&ThreadPool, Box<dyn FnOnce() -> Token + Send>);

const WAITS: [Wait; 8] = [
    |pool, f| pool.spawn(f).join(),
    |pool, f| drop(pool.spawn(f).get()),
    |pool, f| drop(pool.spawn(f).get_timeout(HOUR)),
    |pool, f| assert!(pool.spawn(f).join_timeout(HOUR)),
    |pool, f| drop(pool.apply(f)),
    |pool, f| {
        let f = Mutex::new(Some(f));
        drop(pool.map([()], move |()| f.lock().unwrap().take().unwrap()()));
    },
    |pool, f| assert_eq!(wait_any([pool.spawn(f)]), 0),
    |pool, f| assert_eq!(iwait([pool.spawn(f)]).next(), Some(0)),
];

/// K13: a kill or a timeout of who waits returns at once. The job runs on, its result is dropped,
/// once, and its place is free again.
#[test]
fn a_job_outlives_its_waiter() {
    within(MINUTE, || {
        for (wait, unwound) in WAITS.iter().flat_map(|wait| Unwound::ALL.map(|how| (wait, how))) {
            if unwound == Unwound::Panic {
                continue;
            }
            let (pool, gate) = (pool_of(1, 0), Gate::new());
            let (results, ran) = (Tally::new(), Arc::new(AtomicBool::new(false)));
            let job = {
                let (gate, token, ran) = (gate.clone(), results.token(), ran.clone());
                Box::new(move || {
                    gate.pass();
                    ran.store(true, SeqCst);
                    token
                })
            };
            let waiter = spawn({
                let pool = pool.clone();
                let limit = if unwound == Unwound::Timeout { ms(5) } else { HOUR };
                move || with_timeout(limit, || wait(&pool, job))
            });
            eventually(|| pool.running() == 1);
            match unwound {
                Unwound::Kill => {
                    waiter.kill();
                    assert_eq!(end_of(waiter), End::Killed);
                }
                _ => assert_eq!(end_of(waiter), End::Value(Err(Elapsed))),
            }
            assert!(!ran.load(SeqCst) && pool.running() == 1, "it still runs");
            assert!(pool.try_spawn(|| ()).is_err());

            gate.open();
            eventually(|| results.alive() == 0);
            assert!(ran.load(SeqCst));
            eventually(|| pool.running() == 0);
            assert_eq!(pool.try_spawn(|| 1).ok().expect("its place is free").get().unwrap(), 1);
            assert_eq!((results.made(), results.dropped()), (1, 1));
            nothing_is_left();
        }
    });
}

/// The job has ended, its waiter has not run since, and then he is killed, or his time is over: the
/// result is dropped once, or he has it; T4, work wins over a timeout where both are due.
#[test]
fn ended_and_interrupted_in_one_turn() {
    within(MINUTE, || {
        for wait in WAITS {
            for kill in [true, false] {
                let (pool, gate, results) = (ThreadPool::new(1), Gate::new(), Tally::new());
                let job = Box::new(gate.then(results.token()));
                let (start, limit) = (Instant::now(), if kill { HOUR } else { ms(20) });
                let waiter = spawn({
                    let pool = pool.clone();
                    move || with_timeout(limit, || wait(&pool, job))
                });
                eventually(|| pool.running() == 1);
                gate.open();
                meanwhile(|| pool.running() == 0);
                if kill {
                    waiter.kill();
                } else {
                    meanwhile(|| start.elapsed() > limit);
                }
                drop(end_of(waiter));
                assert_eq!((results.made(), results.dropped()), (1, 1));
                nothing_is_left();
            }
        }
    });
}

/// A timeout that is over leaves the job with its owner, who may wait again.
#[test]
fn one_may_wait_again() {
    within(MINUTE, || {
        let (pool, gate) = (ThreadPool::new(1), Gate::new());
        let job = pool.spawn(gate.then(5));
        assert_eq!(with_timeout(ms(1), || job.join()), Err(Elapsed));
        assert!(!job.join_timeout(ms(1)));
        let job = job.get_timeout(ms(1)).unwrap_err();
        gate.open();
        assert_eq!(job.get().unwrap(), 5);
    });
}

/// Dropping the handle leaves the job running; the result goes, wherever it is by then.
#[test]
fn a_job_outlives_its_handle() {
    within(MINUTE, || {
        let (pool, results) = (ThreadPool::new(1), Tally::new());
        // Before it has begun, while it runs, after it has ended.
        let (gate, busy) = keep_busy(&pool, 1);
        let queued = {
            let token = results.token();
            pool.spawn(move || token)
        };
        drop(queued);
        drop(busy);
        gate.open();
        eventually(|| results.dropped() == 1);

        let gate = Gate::new();
        drop(pool.spawn(gate.then(results.token())));
        gate.open();
        eventually(|| results.dropped() == 2);

        let token = results.token();
        let job = pool.spawn(move || token);
        eventually(|| job.is_finished());
        assert_eq!(results.dropped(), 2);
        drop(job);
        assert_eq!(results.dropped(), 3);
        nothing_is_left();
    });
}

/// The thread that started them ends at once: the jobs are done, and what they return is dropped.
#[test]
fn a_job_outlives_the_thread_that_started_it() {
    const JOBS: usize = 100;
    within(MINUTE, || {
        let (pool, gate) = (pool_of(2, JOBS), Gate::new());
        let (results, ran) = (Tally::new(), Arc::new(AtomicUsize::new(0)));
        let starter = thread::spawn({
            let (pool, gate, results, ran) =
                (pool.clone(), gate.clone(), results.clone(), ran.clone());
            move || {
                for n in 0..JOBS {
                    let (gate, token, ran) = (gate.clone(), results.token(), ran.clone());
                    let job = pool.spawn(move || {
                        gate.pass();
                        ran.fetch_add(1, SeqCst);
                        token
                    });
                    match n % 3 {
                        0 => drop(job),
                        1 => KEPT.with_borrow_mut(|kept| kept.push(Box::new(job))),
                        _ => drop(spawn(move || job.get())), // killed with its thread
                    }
                }
                yield_now();
            }
        });
        eventually(|| starter.is_finished());
        starter.join().unwrap();
        assert_eq!(ran.load(SeqCst), 0);
        gate.open();
        eventually(|| results.alive() == 0);
        assert_eq!((results.made(), ran.load(SeqCst)), (JOBS, JOBS));
        assert_eq!(pool.apply(|| 1), 1);
    });
}

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// The results come while the thread ends: whoever is last drops them.
#[test]
fn results_may_meet_the_end_of_the_thread() {
    within(MINUTE, || {
        let (pool, results) = (pool_of(2, 1000), Tally::new());
        for _ in 0..100 {
            let starter = thread::spawn({
                let (pool, results) = (pool.clone(), results.clone());
                move || {
                    for _ in 0..10 {
                        let token = results.token();
                        let job = pool.spawn(move || token);
                        spawn(move || job.join());
                    }
                    yield_now();
                }
            });
            eventually(|| starter.is_finished());
            starter.join().unwrap();
        }
        eventually(|| results.alive() == 0);
        assert_eq!(results.made(), 1000);
    });
}

// ---------------------------------------------------------------------- cancel

#[test]
fn only_what_has_not_begun_can_be_cancelled() {
    within(MINUTE, || {
        let (pool, notes, tally) = (pool_of(1, 3), Notes::new(), Tally::new());
        let (gate, busy) = keep_busy(&pool, 1);
        let token = tally.token();
        let cancelled = pool.spawn({
            let say = notes.job(1);
            move || {
                say();
                token
            }
        });
        let other = pool.spawn(notes.job(2));
        assert_eq!(pool.queued(), 2);
        assert!(cancelled.cancel());
        assert_eq!((pool.queued(), tally.alive()), (1, 0), "it is dropped, and its place is free");
        assert!(cancelled.is_finished() && !cancelled.is_started());
        assert!(cancelled.cancel(), "it still will not run");
        cancelled.join();
        assert!(cancelled.get().unwrap_err().is_killed());

        assert!(!busy[0].cancel(), "it runs");
        gate.open();
        other.join();
        assert!(!other.cancel(), "it has run");
        other.get().unwrap();
        assert_eq!(notes.list(), [2]);
        nothing_is_left();
    });
}

/// Those who wait for it go on, and so does the next who waits for a place.
#[test]
fn to_cancel_wakes_those_who_wait() {
    within(MINUTE, || {
        let pool = pool_of(1, 1);
        let (gate, _) = keep_busy(&pool, 1);
        let job = Rc::new(pool.spawn(|| 1));
        let waiter = spawn({
            let job = job.clone();
            move || job.join()
        });
        until_parked(waiter.id());
        let spawner = parked_spawner(&pool, || 2);
        assert!(job.cancel());
        waiter.get().unwrap();
        let next = spawner.get().unwrap();
        assert_eq!((pool.running(), pool.queued()), (1, 1));
        gate.open();
        assert_eq!(next.get().unwrap(), 2);
    });
}

/// It never switches.
#[test]
fn to_cancel_gives_nobody_a_turn() {
    within(MINUTE, || {
        let pool = pool_of(1, 20);
        let (gate, _) = keep_busy(&pool, 1);
        let jobs: Vec<_> = (0..20).map(|_| pool.spawn(|| ())).collect();
        settle();
        let ran = Rc::new(Cell::new(false));
        let other = spawn({
            let ran = ran.clone();
            move || ran.set(true)
        });
        assert!(jobs.iter().all(Job::cancel));
        assert!(!ran.get());
        other.join();
        gate.open();
    });
}

// -------------------------------------------------------------------- the threads

/// An idle thread is used before another is started, and none is started that is not needed.
#[test]
fn threads_are_started_as_they_are_needed() {
    within(MINUTE, || {
        let pool = ThreadPool::new(10);
        for _ in 0..50 {
            pool.apply(|| ());
            eventually(|| pool.idle_threads() == 1);
        }
        assert_eq!(pool.threads(), 1);
        let (gate, jobs) = keep_busy(&pool, 4);
        assert_eq!((pool.threads(), pool.idle_threads(), pool.queued()), (4, 0, 0));
        gate.open();
        joinall(&jobs);
        eventually(|| pool.idle_threads() == 4);
    });
}

/// Idle threads retire, and are started again when there is work.
#[test]
fn idle_threads_retire() {
    within(MINUTE, || {
        let pool = ThreadPool::builder().max_threads(3).idle_timeout(ms(10)).build();
        for _ in 0..3 {
            let (gate, jobs) = keep_busy(&pool, 3);
            gate.open();
            joinall(&jobs);
            eventually(|| pool.threads() == 0);
            assert_eq!((pool.idle_threads(), pool.running()), (0, 0));
        }
        assert_eq!(pool.apply(|| 1), 1);
    });
}

/// A thread that is about to retire still takes what comes.
#[test]
fn no_job_is_lost_between_two_threads() {
    within(MINUTE, || {
        let pool =
            ThreadPool::builder().max_threads(2).idle_timeout(Duration::from_micros(50)).build();
        for n in 0..500 {
            assert_eq!(pool.apply(move || n), n);
            util::spin(Duration::from_micros(40 + n % 20));
        }
        eventually(|| pool.threads() == 0);
    });
}

#[test]
fn trim_ends_what_is_idle() {
    within(MINUTE, || {
        let pool = ThreadPool::builder().max_threads(4).idle_timeout(HOUR).build();
        let (gate, _) = keep_busy(&pool, 3);
        let (other_gate, other) = keep_busy(&pool, 1);
        gate.open();
        eventually(|| pool.idle_threads() == 3);
        pool.trim();
        eventually(|| pool.threads() == 1);
        assert!(!other[0].is_finished());
        other_gate.open();
        other[0].join();
        // Only those that were idle then.
        eventually(|| pool.idle_threads() == 1);
        pool.trim();
        eventually(|| pool.threads() == 0);
        assert_eq!(pool.apply(|| 2), 2);
    });
}

/// It waits until all jobs are done and the threads have gone; from then on no job is taken.
#[test]
fn shutdown_waits_for_all() {
    within(MINUTE, || {
        let (pool, notes) = (pool_of(2, 10), Notes::new());
        let (gate, _) = keep_busy(&pool, 2);
        let jobs = [0, 1, 2].map(|n| pool.spawn(notes.job(n)));
        let closing = spawn({
            let pool = pool.clone();
            move || pool.shutdown()
        });
        until_parked(closing.id());
        assert!(pool.try_spawn(|| ()).is_err());
        assert!(swallow(|| pool.spawn(|| ())).is_err());
        assert!(swallow(|| pool.apply(|| ())).is_err());
        gate.open();
        closing.get().unwrap();
        assert_eq!((pool.threads(), pool.running(), pool.queued()), (0, 0, 0));
        assert!(jobs.iter().all(Job::is_finished));
        assert_eq!(notes.list().len(), 3);
        pool.shutdown(); // a second time it has nothing to wait for
        nothing_is_left();
    });
}

/// Those who wait for a place have come before, and are still served.
#[test]
fn shutdown_waits_for_those_in_line() {
    within(MINUTE, || {
        let (pool, gate, notes) = full();
        let spawners = [1, 2].map(|n| parked_spawner(&pool, notes.job(n)));
        let closing = spawn({
            let pool = pool.clone();
            move || pool.shutdown()
        });
        until_parked(closing.id());
        gate.open();
        closing.get().unwrap();
        assert_eq!(notes.list(), [0, 1, 2]);
        for spawner in spawners {
            spawner.get().unwrap().get().unwrap();
        }
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn a_killed_shutdown_leaves_the_jobs() {
    within(MINUTE, || {
        let pool = ThreadPool::new(1);
        let (gate, jobs) = keep_busy(&pool, 1);
        let queued = pool.spawn(|| 3);
        let closing = spawn({
            let pool = pool.clone();
            move || pool.shutdown()
        });
        until_parked(closing.id());
        closing.kill();
        assert_eq!(with_timeout(ms(5), || pool.shutdown()), Err(Elapsed));
        gate.open();
        joinall(&jobs);
        assert_eq!(queued.get().unwrap(), 3);
        pool.shutdown();
        assert_eq!(pool.threads(), 0);
    });
}

/// When the last handle is dropped, what was handed in is done, and the threads end.
#[test]
fn a_pool_ends_with_its_last_handle() {
    thread_local! {
        static MINE: RefCell<Option<Token>> = const { RefCell::new(None) };
    }
    within(MINUTE, || {
        let (threads, notes) = (Tally::new(), Notes::new());
        let pool = ThreadPool::builder().max_threads(1).queue(9).idle_timeout(HOUR).build();
        let token = threads.token();
        let gate = Gate::new();
        let held = gate.clone();
        let first = pool.spawn(move || {
            MINE.set(Some(token));
            held.pass();
        });
        let jobs = [1, 2, 3].map(|n| pool.spawn(notes.job(n)));
        eventually(|| pool.running() == 1);
        drop(pool.clone());
        assert_eq!(pool.queued(), 3, "there is still another handle");
        drop(pool);
        gate.open();
        first.join();
        joinall(&jobs);
        assert_eq!(notes.list(), [1, 2, 3]);
        eventually(|| threads.alive() == 0);
    });
}

/// The last handle may go with a job, on a thread of the pool itself.
#[test]
fn a_pool_may_end_within_its_own_job() {
    within(MINUTE, || {
        let (pool, tally, gate) = (ThreadPool::new(1), Tally::new(), Gate::new());
        let (inner, held, token) = (pool.clone(), gate.clone(), tally.token());
        let job = pool.spawn(move || {
            held.pass();
            drop(inner);
            token
        });
        drop(pool);
        gate.open();
        drop(job.get().unwrap());
        assert_eq!(tally.alive(), 0);
    });
}

// ------------------------------------------------------- what a job may do

/// X2: it may use its own hub: a thread of the pool is a thread like any other.
#[test]
fn a_job_may_use_greenlets() {
    within(MINUTE, || {
        let pool = ThreadPool::new(2);
        let sum = |n: u64| {
            move || {
                let greenlets: Vec<_> = (0..10)
                    .map(|m| {
                        spawn(move || {
                            sleep(ms(1));
                            n * m
                        })
                    })
                    .collect();
                greenlets.into_iter().map(|greenlet| greenlet.get().unwrap()).sum::<u64>()
            }
        };
        let jobs: Vec<_> = (0..10).map(|n| pool.spawn(sum(n))).collect();
        let sums: Vec<_> = jobs.into_iter().map(|job| job.get().unwrap()).collect();
        assert_eq!(sums, (0..10).map(|n| 45 * n).collect::<Vec<_>>());

        // It may be killed there, and time out.
        assert_eq!(pool.apply(|| with_timeout(ms(1), || sleep(HOUR))), Err(Elapsed));
        assert!(pool.apply(|| {
            let greenlet = spawn(|| sleep(HOUR));
            greenlet.kill();
            greenlet.get().unwrap_err().is_killed()
        }));
        // It may talk to the thread that waits for it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let job = pool.spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            stream.peer_addr().unwrap()
        });
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(job.get().unwrap(), stream.local_addr().unwrap());
        pool.shutdown();
    });
}

/// Greenlets that a job leaves behind end with their thread at the latest.
#[test]
fn what_a_job_leaves_behind_ends_with_its_thread() {
    within(MINUTE, || {
        let (pool, tally) = (ThreadPool::new(1), Tally::new());
        for _ in 0..3 {
            let token = tally.token();
            pool.apply(move || {
                spawn(move || {
                    let _token = token;
                    sleep(HOUR);
                });
                yield_now();
            });
        }
        pool.shutdown();
        eventually(|| tally.alive() == 0);
        assert_eq!(tally.made(), 3);
    });
}

// -------------------------------------------------------- may it wake anybody?

/// H13: a job that runs may wake somebody, so nobody waits for ever; when it has ended, it cannot.
#[test]
fn a_job_may_wake() {
    within(MINUTE, || {
        let (pool, gate, event) = (ThreadPool::new(1), Gate::new(), Event::new());
        let job = pool.spawn(gate.then(()));
        let waiter = spawn({
            let event = event.clone();
            move || {
                job.join();
                event.set();
            }
        });
        until_parked(waiter.id());
        let opener = open_when_asleep(&gate);
        event.wait(); // nothing but the job could bring it about
        waiter.get().unwrap();
        opener.join().unwrap();
        nothing_is_left();

        // Nor can one that is there, or was cancelled.
        let (gate, _) = keep_busy(&pool, 1);
        let cancelled = pool.spawn(|| ());
        assert!(cancelled.cancel());
        gate.open();
        let done = pool.spawn(|| ());
        done.join();
        nothing_is_left();
        drop((cancelled, done));
        nothing_is_left();
    });
}

/// So may the place in the queue that one waits for.
#[test]
fn a_place_may_come() {
    within(MINUTE, || {
        let (pool, gate) = (pool_of(1, 0), Gate::new());
        let starter = thread::spawn({
            let (pool, gate) = (pool.clone(), gate.clone());
            move || drop(pool.spawn(gate.then(()))) // another hub's: not ours to wait for
        });
        starter.join().unwrap();
        let opener = open_when_asleep(&gate);
        let job = pool.spawn(|| 4);
        opener.join().unwrap();
        assert_eq!(job.get().unwrap(), 4);
        nothing_is_left();
    });
}

/// And the end of the pool.
#[test]
fn the_end_of_a_pool_may_come() {
    within(MINUTE, || {
        let pool = ThreadPool::new(1);
        let (gate, jobs) = keep_busy(&pool, 1);
        drop(jobs);
        let opener = open_when_asleep(&gate);
        pool.shutdown();
        opener.join().unwrap();
        nothing_is_left();
    });
}

/// A thread that opens the gate once the calling one sleeps in the kernel.
fn open_when_asleep(gate: &Gate) -> thread::JoinHandle<()> {
    let (gate, this) = (gate.clone(), this_thread());
    thread::spawn(move || {
        until_asleep(&this);
        gate.open();
    })
}

// ------------------------------------------------------------------ while unwinding

/// While a greenlet unwinds, no call waits; those that need not wait work.
#[test]
fn while_a_greenlet_unwinds() {
    within(MINUTE, || {
        while_unwinding(|| {
            let (pool, gate, tally) = (pool_of(1, 1), Gate::new(), Tally::new());
            let running = pool.spawn(gate.then(tally.token()));
            meanwhile(|| pool.running() == 1);
            let queued = pool.spawn(|| 2);
            assert!(pool.try_spawn(|| ()).is_err());
            assert!(pool.spawn_timeout(|| (), HOUR).is_err());
            running.join();
            assert!(!running.join_timeout(HOUR) && !running.is_finished());
            let running = running.get_timeout(HOUR).expect_err("it cannot wait");
            assert!(swallow(|| running.get()).is_err(), "it has nothing else to return");
            assert!(swallow(|| queued.get()).is_err());
            let argument = tally.token();
            let here = thread::current().id();
            let apply = move || (drop(argument), thread::current().id());
            assert_eq!(pool.apply(apply).1, here, "what must be had now is done here");
            assert_eq!(offload(|| thread::current().id()), here);
            assert_eq!(pool.map(0..3, |n| n + 1), [1, 2, 3]);
            pool.shutdown();
            assert!(pool.threads() > 0);

            gate.open();
            meanwhile(|| pool.threads() == 0);
            assert_eq!(tally.alive(), 0, "what was handed in has been done");
        });
        while_unwinding(|| {
            let pool = ThreadPool::new(1);
            let job = pool.spawn(|| 3);
            meanwhile(|| job.is_finished());
            job.join();
            assert!(job.join_timeout(HOUR));
            assert_eq!(job.get().unwrap(), 3);
            let job = pool.spawn(|| 4);
            meanwhile(|| job.is_finished());
            assert_eq!(job.get_timeout(HOUR).unwrap().unwrap(), 4);
        });
        nothing_is_left();
    });
}

/// On a thread of the pool nothing has to wait, so nothing is refused.
#[test]
fn a_job_that_unwinds_may_apply() {
    within(MINUTE, || {
        let pool = pool_of(1, 0);
        let (tell, told) = mpsc::channel();
        let inner = pool.clone();
        let job = pool.spawn(move || {
            let _last = at_drop(move || tell.send(inner.apply(|| 8)).unwrap());
            resume_unwind(Box::new("on purpose"));
        });
        assert!(job.get().unwrap_err().is_panic());
        assert_eq!(told.try_recv(), Ok(8));
    });
}

/// gevent's `ThreadPool.join`: it waits until there is nothing to do, and the pool goes on.
#[test]
fn join_waits_for_rest() {
    within(MINUTE, || {
        let (pool, gate, notes) = full();
        let in_line = parked_spawner(&pool, notes.job(1));
        let joiner = spawn({
            let pool = pool.clone();
            move || pool.join()
        });
        until_parked(joiner.id());
        assert!(!pool.join_timeout(ms(1)));
        gate.open();
        joiner.get().unwrap();
        assert_eq!((pool.running(), pool.queued()), (0, 0));
        in_line.get().unwrap().get().unwrap();
        pool.join();
        assert_eq!(pool.apply(|| 2), 2);

        // What is taken out of the queue is not waited for.
        pool.set_max_threads(0);
        let queued = pool.spawn(|| ());
        let joiner = spawn({
            let pool = pool.clone();
            move || pool.join()
        });
        until_parked(joiner.id());
        assert!(queued.cancel());
        joiner.get().unwrap();
    });
}

// ------------------------------------------------------------------- what once went wrong

/// A shutdown of a pool that was to have no threads waited for ever for what nobody would do, or
/// did not wait for those in line.
#[test]
fn a_shutdown_sees_to_it_that_there_is_a_thread() {
    within(MINUTE, || {
        let pool = pool_of(1, 1);
        pool.set_max_threads(0);
        let queued = pool.spawn(|| 1);
        let in_line = parked_spawner(&pool, || 2);
        pool.shutdown();
        assert_eq!(queued.get().unwrap(), 1);
        assert_eq!(in_line.get().unwrap().get().unwrap(), 2);
        assert_eq!((pool.threads(), pool.queued()), (0, 0));
    });
}

/// The first job panicked inside of std, and no later one was ever done.
#[test]
#[should_panic(expected = "must not contain null bytes")]
fn a_name_that_no_thread_can_have() {
    let _ = ThreadPool::builder().name("a\0b");
}

/// The letter that announced results needed a stack; without one the tray was never emptied again.
#[test]
fn results_come_back_without_a_stack_to_be_had() {
    let child = in_child("child_without_stacks");
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{stdout}{}", stderr_of(&child));
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[test]
#[ignore = "run by results_come_back_without_a_stack_to_be_had in a process of its own"]
fn child_without_stacks() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |current| setrlimit(Resource::As, Rlimit { current, maximum: None }).unwrap();
    if !is_child() {
        return;
    }
    within(MINUTE, move || {
        let (pool, gate) = (ThreadPool::new(1), Gate::new());
        let job = pool.spawn(gate.then(7));
        meanwhile(|| pool.running() == 1);

        // What small allocations will come from, once the system gives no more.
        let mut reserve: Vec<_> = (0..200_000_u32).map(|n| Box::new([n; 16])).collect();
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        limit(Some(pages * 4096 + (256 << 20)));
        let (stop, mut all) = (Event::new(), Vec::new());
        for size in [16 << 20, 1 << 20, 64 << 10] {
            let park = |stop: Event| Builder::new().stack_size(size).spawn(move || stop.wait());
            all.extend(std::iter::from_fn(|| park(stop.clone()).ok()));
        }
        let mut keep = false;
        reserve.retain(|_| {
            keep = !keep;
            keep
        });
        gate.open();
        assert!(job.join_timeout(MINUTE), "it never came");
        assert!(Builder::new().spawn(|| ()).is_err(), "there was a stack after all");

        limit(None);
        stop.set();
        joinall(&all);
        assert_eq!((job.get().unwrap(), pool.apply(|| 8)), (7, 8));
    });
}

/// Thread-locals that outlive the hub: a look-up ended the process, and a file was not removed.
#[test]
fn what_thread_locals_do_at_the_very_end() {
    struct AtEnd(std::path::PathBuf, mpsc::Sender<(bool, bool)>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let looked_up = greenloom::net::lookup("localhost", 1).is_ok();
            let removed = greenloom::fs::remove_file(&self.0).is_ok();
            self.1.send((looked_up, removed)).unwrap();
        }
    }
    thread_local!(static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) });

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        yield_now(); // the hub comes first, and so ends last but one
        AT_END.set(Some(AtEnd(path.clone(), tell)));
        greenloom::fs::write(&path, "x").unwrap();
    });
    thread.join().unwrap();
    let (_, removed) = told.recv().unwrap();
    assert!(removed);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

// --------------------------------------------------------------- nothing is left behind

/// Threads, descriptors and greenlets are back to their start.
#[test]
fn nothing_is_left_in_the_process() {
    let child = in_child("child_counts_what_is_left");
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{stdout}{}", stderr_of(&child));
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[test]
#[ignore = "run by nothing_is_left_in_the_process in a process of its own"]
fn child_counts_what_is_left() {
    fn count(what: &str) -> usize {
        fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
    }
    fn work() {
        within(MINUTE, || {
            let pool = ThreadPool::new(4);
            let _ = with_timeout(ms(1), || pool.apply(|| sleep(ms(5))));
            let jobs: Vec<_> = (0..50).map(|_| pool.spawn(|| spawn(yield_now).join())).collect();
            joinall(&jobs[..25]);
            drop(jobs);
            pool.shutdown();
        });
        within(MINUTE, || drop(ThreadPool::new(2).spawn(yield_now)));
    }
    if !is_child() {
        return;
    }
    work();
    // The watchers of `within` may take a moment longer, and so does the pool that is not waited for.
    let settled = |fds: usize, tasks: usize| {
        let start = Instant::now();
        while (count("fd"), count("task")) != (fds, tasks) {
            let now = (count("fd"), count("task"));
            assert!(start.elapsed() < MINUTE, "{now:?} and not {:?}", (fds, tasks));
            thread::yield_now();
        }
    };
    meanwhile(|| count("task") == 2); // this one and that of the test harness
    let fds = count("fd");
    for _ in 0..5 {
        work();
        settled(fds, 2);
    }
}

// ------------------------------------------------------------------------- the soak

/// What must have become of a job's function, by what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    HandedIn,
    Refused,
    Cancelled,
}

/// One function that is handed in, or not.
struct Case {
    fate: Cell<Fate>,
    runs: Arc<AtomicUsize>,
}

/// Spawners, waiters and those who cancel, killed and timed out at random on two hubs that share a
/// pool. Each function ran once if it was handed in, and never if it was not; all arguments and
/// results are dropped, and the pool is as good as new.
#[test]
fn nothing_is_lost() {
    const ROUNDS: u64 = 150;
    let pool = pool_of(2, 2);
    let (arguments, results) = (Tally::new(), Tally::new());
    let hub = |seed: u64| {
        let (pool, arguments, results) = (pool.clone(), arguments.clone(), results.clone());
        move || {
            for round in 0..ROUNDS {
                play(&pool, &arguments, &results, seed * 10_000 + round);
            }
        }
    };
    let other = thread::spawn({
        let hub = hub(1);
        || within(MINUTE, hub)
    });
    within(MINUTE, hub(2));
    other.join().unwrap();
    within(MINUTE, move || {
        eventually(|| arguments.alive() == 0 && results.alive() == 0);
        assert!(results.made() > 1000);
        eventually(|| pool.running() == 0);
        assert_eq!(pool.queued(), 0);
        assert!(pool.threads() <= 2);
        assert_eq!(pool.map(0..10, |n| n), (0..10).collect::<Vec<_>>());
        pool.shutdown();
    });
}

/// One round of the soak.
fn play(pool: &ThreadPool, arguments: &Tally, results: &Tally, seed: u64) {
    let chance = Rc::new(RefCell::new(Lcg::new(seed)));
    let below = {
        let chance = chance.clone();
        move |n| chance.borrow_mut().below(n)
    };
    let cases: Rc<RefCell<Vec<Rc<Case>>>> = Rc::default();
    let players: Vec<_> = (0..6)
        .map(|_| {
            let (pool, below, cases) = (pool.clone(), below.clone(), cases.clone());
            let (arguments, results) = (arguments.clone(), results.clone());
            spawn(move || {
                for _ in 0..3 {
                    let case = Rc::new(Case { fate: Fate::Unknown.into(), runs: Arc::default() });
                    cases.borrow_mut().push(case.clone());
                    let (runs, argument, results) =
                        (case.runs.clone(), arguments.token(), results.clone());
                    let pause = Duration::from_micros(below(30));
                    let f = move || {
                        let _argument = argument;
                        runs.fetch_add(1, SeqCst);
                        util::spin(pause);
                        results.token()
                    };
                    let limit = Duration::from_micros(below(200));
                    let _ = with_timeout(if below(3) == 0 { limit } else { HOUR }, || {
                        act(&pool, &below, &case, f);
                    });
                }
            })
        })
        .collect();
    for _ in 0..below(12) {
        match below(3) {
            0 => yield_now(),
            1 => sleep(Duration::from_micros(below(100))),
            _ => players[below(6) as usize].kill_nowait(),
        }
    }
    joinall(&players);
    // What was handed in and left alone is done in its turn.
    let is_settled = |case: &Case| {
        let runs = case.runs.load(SeqCst);
        match case.fate.get() {
            Fate::Unknown => runs <= 1,
            Fate::HandedIn => runs == 1,
            Fate::Refused | Fate::Cancelled => runs == 0,
        }
    };
    let start = Instant::now();
    while let Some(case) = cases.borrow().iter().find(|case| !is_settled(case)) {
        let (fate, runs) = (case.fate.get(), case.runs.load(SeqCst));
        assert!(fate == Fate::HandedIn && runs == 0, "seed {seed}: {fate:?}, {runs} runs");
        assert!(start.elapsed() < MINUTE, "seed {seed}: it never ran");
        sleep(ms(1));
    }
}

/// Hands in `f` in some way, and does something with the job.
fn act<T: Send + 'static>(
    pool: &ThreadPool,
    below: &impl Fn(u64) -> u64,
    case: &Case,
    f: impl FnOnce() -> T + Send + 'static,
) {
    let limit = Duration::from_micros(below(100));
    let handed_in = match below(4) {
        0 => pool.try_spawn(f).map_err(drop),
        1 => pool.spawn_timeout(f, limit).map_err(drop),
        2 => Ok(pool.spawn(f)),
        _ => {
            pool.apply(f);
            case.fate.set(Fate::HandedIn);
            return;
        }
    };
    let Ok(job) = handed_in else {
        case.fate.set(Fate::Refused);
        return;
    };
    case.fate.set(Fate::HandedIn);
    match below(6) {
        0 => drop(job),
        1 => job.join(),
        2 => drop(job.get_timeout(limit)),
        3 => {
            job.join_timeout(limit);
        }
        4 => {
            if job.cancel() {
                case.fate.set(Fate::Cancelled);
            }
            job.join();
        }
        _ => drop(job.get()),
    }
}
