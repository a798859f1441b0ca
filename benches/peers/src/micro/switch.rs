//! `yield`, by n tasks in turn: what one gives up and gets its turn again costs.
//!
//! n - 1 tasks yield until they are told to stop, and one more yields and looks at the clock. They
//! count together how often they did.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use corosensei::Coroutine;

use super::laps::{Count, Lap, Laps, with_laps};
use super::{Measure, Plan, runtimes};
use crate::machine::pin;
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure =
    Measure { name: "switch", sizes: &[2, 1_000, 100_000, 1_000_000], tasks: |n| n, why_not, run };

/// More coroutines with a default stack than this are more memory maps than a process may have.
const LIMIT_OF_THE_LIMIT: usize = 10_000;

fn why_not(peer: Peer, n: usize) -> Option<String> {
    (peer == Peer::Threads && n > 2).then(|| "with more it measures the system's scheduler".into())
}

fn run(peer: Peer, plan: Plan, sample: Sample) -> Sample {
    let laps = match peer {
        Peer::Greenloom => greenloom(plan),
        Peer::Tokio => tokio(plan),
        Peer::May => may(plan),
        Peer::Smol => smol(plan),
        Peer::Threads => threads(plan),
        Peer::Epoll | Peer::Go | Peer::Gevent => unreachable!("not measured here"),
    };
    let sample = with_laps(sample, "", &laps);
    if peer == Peer::Greenloom && plan.n <= LIMIT_OF_THE_LIMIT {
        with_laps(sample, "limit_", &limit(plan))
    } else {
        sample
    }
}

static YIELDS: [Count; 2] = [const { Count::new() }; 2];
static STOP: AtomicBool = AtomicBool::new(false);

/// For those who do not look at the clock.
#[inline]
fn go_on() -> bool {
    YIELDS[0].add(1);
    !STOP.load(Relaxed)
}

fn laps(plan: Plan) -> Laps {
    Laps::new(plan, plan.n, &YIELDS[..1])
}

fn stop(laps: Laps) -> Vec<Lap> {
    STOP.store(true, Relaxed);
    // Who yields to itself alone is fast.
    let share = laps.turns() as f64 * laps.plan().n as f64 / YIELDS[0].get() as f64;
    assert!((0.5..2.0).contains(&share), "one of {} had {share} turns of its share", laps.plan().n);
    laps.finish()
}

fn greenloom(plan: Plan) -> Vec<Lap> {
    for _ in 1..plan.n {
        drop(greenloom::spawn(|| {
            while go_on() {
                greenloom::yield_now();
            }
        }));
    }
    runtimes::greenloom(move || {
        let mut laps = laps(plan);
        while laps.go_on() {
            greenloom::yield_now();
        }
        stop(laps)
    })
}

fn tokio(plan: Plan) -> Vec<Lap> {
    runtimes::tokio(async move {
        for _ in 1..plan.n {
            drop(tokio::spawn(async {
                while go_on() {
                    tokio::task::yield_now().await;
                }
            }));
        }
        let mut laps = laps(plan);
        while laps.go_on() {
            tokio::task::yield_now().await;
        }
        stop(laps)
    })
}

/// New coroutines lie in a queue that its worker does not look into while others yield: so all meet
/// first, or one would yield to itself.
fn may(plan: Plan) -> Vec<Lap> {
    let all_are_here = Arc::new(may::sync::Barrier::new(plan.n));
    runtimes::may(plan.n, move || {
        for _ in 1..plan.n {
            let all_are_here = Arc::clone(&all_are_here);
            drop(may::go!(move || {
                all_are_here.wait();
                while go_on() {
                    may::coroutine::yield_now();
                }
            }));
        }
        all_are_here.wait();
        let mut laps = laps(plan);
        while laps.go_on() {
            may::coroutine::yield_now();
        }
        stop(laps)
    })
}

fn smol(plan: Plan) -> Vec<Lap> {
    runtimes::smol(move |executor| async move {
        for _ in 1..plan.n {
            executor
                .spawn(async {
                    while go_on() {
                        futures_lite::future::yield_now().await;
                    }
                })
                .detach();
        }
        let mut laps = laps(plan);
        while laps.go_on() {
            futures_lite::future::yield_now().await;
        }
        stop(laps)
    })
}

/// Two on one processor: on two there would be nobody to yield to. Each has a count of its own.
fn threads(plan: Plan) -> Vec<Lap> {
    pin(rustix::thread::sched_getcpu()).expect("it runs there already");
    thread::scope(|s| {
        s.spawn(|| {
            while !STOP.load(Relaxed) {
                YIELDS[1].add(1);
                thread::yield_now();
            }
        });
        let mut laps = Laps::new(plan, plan.n, &YIELDS);
        while laps.go_on() {
            thread::yield_now();
        }
        STOP.store(true, Relaxed);
        laps.finish()
    })
}

/// The limit: resume and suspend, and nobody to choose who is next.
fn limit(plan: Plan) -> Vec<Lap> {
    static ROUND_TRIPS: [Count; 1] = [Count::new()];
    let mut coroutines: Vec<_> = (0..plan.n)
        .map(|_| {
            Coroutine::<(), (), ()>::new(|yielder, ()| {
                loop {
                    yielder.suspend(());
                }
            })
        })
        .collect();
    let mut laps = Laps::new(plan, 1, &ROUND_TRIPS);
    'all: loop {
        for coroutine in &mut coroutines {
            if !laps.go_on() {
                break 'all;
            }
            black_box(coroutine.resume(()));
        }
    }
    // They never end, and to unwind them takes longer than to measure them.
    coroutines.into_iter().for_each(std::mem::forget);
    laps.finish()
}
