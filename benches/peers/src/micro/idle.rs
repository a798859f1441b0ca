//! What a parked task costs in memory: n of them sleep for an hour, nobody holds a handle.
//!
//! Bytes of a task are what the process has grown by, divided by n. A thread's stack in the kernel
//! (16 KiB) is not part of any process and not counted.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::{Measure, Plan, runtimes};
use crate::machine::{Memory, memory};
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure = Measure {
    name: "idle",
    sizes: &[10_000, 100_000, 1_000_000],
    tasks: |n| n,
    why_not: |_, _| None,
    run,
};

const AN_HOUR: Duration = Duration::from_secs(3_600);

/// Tasks that have begun to sleep, all but that.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

fn begun() -> usize {
    BEGUN.load(Relaxed)
}

fn run(peer: Peer, plan: Plan, sample: Sample) -> Sample {
    let before = now();
    let after = match peer {
        Peer::Greenloom => greenloom(plan),
        Peer::Tokio => tokio(plan),
        Peer::May => may(plan),
        Peer::Smol => smol(plan),
        Peer::Threads => threads(plan),
        Peer::Epoll | Peer::Go | Peer::Gevent => unreachable!("not measured here"),
    };
    let of_a_task = |after: u64, before: u64| (after as f64 - before as f64) / plan.n as f64;
    sample
        .with("rss_bytes", of_a_task(after.rss, before.rss))
        .with("page_table_bytes", of_a_task(after.page_tables, before.page_tables))
        .with("maps", after.maps as f64)
}

fn now() -> Memory {
    memory(std::process::id()).expect("a process may look at itself")
}

fn greenloom(plan: Plan) -> Memory {
    for _ in 0..plan.n {
        drop(greenloom::spawn(|| {
            BEGUN.fetch_add(1, Relaxed);
            greenloom::sleep(AN_HOUR);
        }));
    }
    while begun() < plan.n {
        greenloom::yield_now();
    }
    now()
}

fn tokio(plan: Plan) -> Memory {
    runtimes::tokio(async move {
        for _ in 0..plan.n {
            drop(tokio::spawn(async {
                BEGUN.fetch_add(1, Relaxed);
                tokio::time::sleep(AN_HOUR).await;
            }));
        }
        while begun() < plan.n {
            tokio::task::yield_now().await;
        }
        now()
    })
}

/// From outside: who yields in a coroutine until others have begun, waits for ever, because new ones
/// lie in a queue that is looked into when the other one is empty.
#[expect(clippy::disallowed_methods, reason = "may's coroutines have a thread of their own")]
fn may(plan: Plan) -> Memory {
    runtimes::may(0, || ());
    for _ in 0..plan.n {
        drop(may::go!(|| {
            BEGUN.fetch_add(1, Relaxed);
            may::coroutine::sleep(AN_HOUR);
        }));
    }
    while begun() < plan.n {
        thread::sleep(Duration::from_millis(1));
    }
    now()
}

fn smol(plan: Plan) -> Memory {
    runtimes::smol(move |executor| async move {
        for _ in 0..plan.n {
            executor
                .spawn(async {
                    BEGUN.fetch_add(1, Relaxed);
                    async_io::Timer::after(AN_HOUR).await;
                })
                .detach();
        }
        while begun() < plan.n {
            futures_lite::future::yield_now().await;
        }
        now()
    })
}

#[expect(clippy::disallowed_methods, reason = "whole threads are to sleep here")]
fn threads(plan: Plan) -> Memory {
    for _ in 0..plan.n {
        drop(thread::spawn(|| {
            BEGUN.fetch_add(1, Relaxed);
            thread::sleep(AN_HOUR);
        }));
    }
    while begun() < plan.n {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(10)); // the last has begun, but not to sleep
    now()
}
