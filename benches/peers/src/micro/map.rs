//! n tiny items through a pool of a hundred, and all results in order.
//!
//! greenloom and gevent have that as `Pool::map`, a task for each item. The others do what their
//! users write. tokio: a task for each item, and a semaphore with a hundred permits. Who has queues:
//! a hundred workers that get from one and put into another, started once for all rounds; greenloom
//! is measured in that way, too, as `workers_`. Go's queues have bounds, of a hundred here.

use std::hint::black_box;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::laps::{Count, Lap, Laps, with_laps};
use super::{Measure, Plan, runtimes};
use crate::machine::pin;
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure = Measure {
    name: "map",
    sizes: &[1_000, 100_000],
    tasks: |_| POOL + 1,
    why_not: |_, _| None,
    run,
};

const POOL: usize = 100;

static MAPPED: [Count; 1] = [Count::new()];

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
    if peer == Peer::Greenloom {
        with_laps(sample, "workers_", &greenloom_workers(plan))
    } else {
        sample
    }
}

fn laps(plan: Plan) -> Laps {
    Laps::of_batches(plan, plan.n, &MAPPED)
}

/// What is done with each item.
fn tiny(item: usize) -> usize {
    black_box(item) + 1
}

fn check(results: &[usize]) {
    assert!(results.iter().enumerate().all(|(i, result)| *result == i + 1));
}

fn greenloom(plan: Plan) -> Vec<Lap> {
    runtimes::greenloom(move || {
        let pool = greenloom::pool::Pool::new(POOL);
        let mut laps = laps(plan);
        while laps.go_on() {
            let results = pool.map(0..plan.n, tiny);
            check(&results);
        }
        laps.finish()
    })
}

/// The same as those have who have no pool.
fn greenloom_workers(plan: Plan) -> Vec<Lap> {
    runtimes::greenloom(move || {
        let (jobs, results) = (greenloom::queue::unbounded(), greenloom::queue::unbounded());
        for _ in 0..POOL {
            let (jobs, results) = (jobs.clone(), results.clone());
            drop(greenloom::spawn(move || {
                while let Ok(item) = jobs.get() {
                    results.put((item, tiny(item))).expect("nobody shuts it down");
                }
            }));
        }
        let mut laps = laps(plan);
        while laps.go_on() {
            for item in 0..plan.n {
                jobs.put(item).expect("nobody shuts it down");
            }
            let mut all = vec![0; plan.n];
            for _ in 0..plan.n {
                let (item, result) = results.get().expect("nobody shuts it down");
                all[item] = result;
            }
            check(&all);
        }
        jobs.shutdown();
        laps.finish()
    })
}

fn tokio(plan: Plan) -> Vec<Lap> {
    runtimes::tokio(async move {
        let permits = Arc::new(Semaphore::new(POOL));
        let mut laps = laps(plan);
        while laps.go_on() {
            let mut tasks = JoinSet::new();
            for item in 0..plan.n {
                let permit = Arc::clone(&permits).acquire_owned().await.expect("it is open");
                tasks.spawn(async move {
                    let result = tiny(item);
                    drop(permit);
                    (item, result)
                });
            }
            let mut results = vec![0; plan.n];
            while let Some(done) = tasks.join_next().await {
                let (item, result) = done.expect("it does not panic");
                results[item] = result;
            }
            check(&results);
        }
        laps.finish()
    })
}

fn may(plan: Plan) -> Vec<Lap> {
    runtimes::may(0, move || {
        let (jobs, jobs_of_workers) = may::sync::mpmc::channel();
        let (results_of_workers, results) = may::sync::mpsc::channel();
        for _ in 0..POOL {
            let (jobs, results) = (jobs_of_workers.clone(), results_of_workers.clone());
            drop(may::go!(move || {
                while let Ok(item) = jobs.recv() {
                    results.send((item, tiny(item))).expect("it is waited for");
                }
            }));
        }
        let mut laps = laps(plan);
        while laps.go_on() {
            for item in 0..plan.n {
                jobs.send(item).expect("workers wait");
            }
            let mut all = vec![0; plan.n];
            for _ in 0..plan.n {
                let (item, result) = results.recv().expect("workers are there");
                all[item] = result;
            }
            check(&all);
        }
        laps.finish()
    })
}

fn smol(plan: Plan) -> Vec<Lap> {
    runtimes::smol(move |executor| async move {
        let (jobs, jobs_of_workers) = async_channel::unbounded();
        let (results_of_workers, results) = async_channel::unbounded();
        for _ in 0..POOL {
            let (jobs, results) = (jobs_of_workers.clone(), results_of_workers.clone());
            executor
                .spawn(async move {
                    while let Ok(item) = jobs.recv().await {
                        results.send((item, tiny(item))).await.expect("it is waited for");
                    }
                })
                .detach();
        }
        let mut laps = laps(plan);
        while laps.go_on() {
            for item in 0..plan.n {
                jobs.send(item).await.expect("workers wait");
            }
            let mut all = vec![0; plan.n];
            for _ in 0..plan.n {
                let (item, result) = results.recv().await.expect("workers are there");
                all[item] = result;
            }
            check(&all);
        }
        laps.finish()
    })
}

/// On one processor, like the others. Their queue has one getter at a time, who holds a lock.
fn threads(plan: Plan) -> Vec<Lap> {
    pin(rustix::thread::sched_getcpu()).expect("it runs there already");
    let (jobs, jobs_of_workers) = mpsc::channel();
    let (results_of_workers, results) = mpsc::channel();
    let jobs_of_workers = Arc::new(Mutex::new(jobs_of_workers));
    for _ in 0..POOL {
        let (jobs, results) = (Arc::clone(&jobs_of_workers), results_of_workers.clone());
        let next = move || jobs.lock().expect("nobody panics").recv();
        drop(thread::spawn(move || {
            while let Ok(item) = next() {
                results.send((item, tiny(item))).expect("it is waited for");
            }
        }));
    }
    let mut laps = laps(plan);
    while laps.go_on() {
        for item in 0..plan.n {
            jobs.send(item).expect("workers wait");
        }
        let mut all = vec![0; plan.n];
        for _ in 0..plan.n {
            let (item, result) = results.recv().expect("workers are there");
            all[item] = result;
        }
        check(&all);
    }
    laps.finish()
}
