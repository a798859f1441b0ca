//! An item through a queue with room for one, put by one task and got by another.
//!
//! The getter ends when the queue does. may has no bounded queue.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;

use super::laps::{Count, Lap, Laps, with_laps};
use super::{Measure, Plan, runtimes};
use crate::machine::pin;
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure =
    Measure { name: "queue", sizes: &[2], tasks: |n| n, why_not, run };

fn why_not(peer: Peer, n: usize) -> Option<String> {
    match peer {
        _ if n != 2 => Some("a hand-over is between two tasks".into()),
        Peer::May => Some("has no bounded queue".into()),
        _ => None,
    }
}

fn run(peer: Peer, plan: Plan, sample: Sample) -> Sample {
    let laps = match peer {
        Peer::Greenloom => greenloom(plan),
        Peer::Tokio => tokio(plan),
        Peer::Smol => smol(plan),
        Peer::Threads => threads(plan),
        _ => unreachable!("not measured here"),
    };
    with_laps(sample, "", &laps)
}

static ITEMS: [Count; 1] = [Count::new()];

fn laps(plan: Plan) -> Laps {
    Laps::new(plan, 1, &ITEMS)
}

fn greenloom(plan: Plan) -> Vec<Lap> {
    runtimes::greenloom(move || {
        let queue = greenloom::queue::bounded(1);
        let getter = greenloom::spawn({
            let queue = queue.clone();
            move || {
                while let Ok(item) = queue.get() {
                    black_box::<u64>(item);
                }
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            queue.put(item).expect("nobody shuts it down but we");
            item += 1;
        }
        queue.shutdown();
        getter.join();
        laps.finish()
    })
}

fn tokio(plan: Plan) -> Vec<Lap> {
    runtimes::tokio(async move {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let getter = tokio::spawn(async move {
            while let Some(item) = receiver.recv().await {
                black_box::<u64>(item);
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            sender.send(item).await.expect("the getter is there");
            item += 1;
        }
        drop(sender);
        getter.await.expect("it does not panic");
        laps.finish()
    })
}

fn smol(plan: Plan) -> Vec<Lap> {
    runtimes::smol(move |executor| async move {
        let (sender, receiver) = async_channel::bounded(1);
        let getter = executor.spawn(async move {
            while let Ok(item) = receiver.recv().await {
                black_box::<u64>(item);
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            sender.send(item).await.expect("the getter is there");
            item += 1;
        }
        drop(sender);
        getter.await;
        laps.finish()
    })
}

/// On one processor, like the others.
fn threads(plan: Plan) -> Vec<Lap> {
    pin(rustix::thread::sched_getcpu()).expect("it runs there already");
    let (sender, receiver) = mpsc::sync_channel(1);
    let getter = thread::spawn(move || {
        while let Ok(item) = receiver.recv() {
            black_box::<u64>(item);
        }
    });
    let (mut laps, mut item) = (laps(plan), 0);
    while laps.go_on() {
        sender.send(item).expect("the getter is there");
        item += 1;
    }
    drop(sender);
    getter.join().expect("it does not panic");
    laps.finish()
}
