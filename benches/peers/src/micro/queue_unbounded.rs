//! An item through a queue without bound to one who waits for it.
//!
//! Two tasks with a queue each way: one puts, the other gets it and puts it back. So each item finds
//! somebody waiting, and each is one hand-over; a turn of the loop has two. One task that puts as
//! fast as it can would measure how a queue grows.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;

use super::laps::{Count, Lap, Laps, with_laps};
use super::{Measure, Plan, runtimes};
use crate::machine::pin;
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure =
    Measure { name: "queue_unbounded", sizes: &[2], tasks: |n| n, why_not, run };

fn why_not(_peer: Peer, n: usize) -> Option<String> {
    (n != 2).then(|| "a hand-over is between two tasks".into())
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
    with_laps(sample, "", &laps)
}

static ITEMS: [Count; 1] = [Count::new()];

fn laps(plan: Plan) -> Laps {
    Laps::of_hand_overs(plan, 2, &ITEMS)
}

fn greenloom(plan: Plan) -> Vec<Lap> {
    runtimes::greenloom(move || {
        let (there, back) = (greenloom::queue::unbounded(), greenloom::queue::unbounded());
        let other = greenloom::spawn({
            let (there, back) = (there.clone(), back.clone());
            move || {
                while let Ok(item) = there.get() {
                    back.put(black_box::<u64>(item)).expect("nobody shuts it down");
                }
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            there.put(item).expect("nobody shuts it down but we");
            item = back.get().expect("nobody shuts it down") + 1;
        }
        there.shutdown();
        other.join();
        laps.finish()
    })
}

fn tokio(plan: Plan) -> Vec<Lap> {
    runtimes::tokio(async move {
        let (there, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        let (back, mut returns) = tokio::sync::mpsc::unbounded_channel();
        let other = tokio::spawn(async move {
            while let Some(item) = arrivals.recv().await {
                back.send(black_box::<u64>(item)).expect("it is waited for");
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            there.send(item).expect("the other is there");
            item = returns.recv().await.expect("the other is there") + 1;
        }
        drop(there);
        other.await.expect("it does not panic");
        laps.finish()
    })
}

fn may(plan: Plan) -> Vec<Lap> {
    runtimes::may(0, move || {
        let (there, arrivals) = may::sync::mpsc::channel();
        let (back, returns) = may::sync::mpsc::channel();
        let other = may::go!(move || {
            while let Ok(item) = arrivals.recv() {
                back.send(black_box::<u64>(item)).expect("it is waited for");
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            there.send(item).expect("the other is there");
            item = returns.recv().expect("the other is there") + 1;
        }
        drop(there);
        other.join().expect("it does not panic");
        laps.finish()
    })
}

fn smol(plan: Plan) -> Vec<Lap> {
    runtimes::smol(move |executor| async move {
        let (there, arrivals) = async_channel::unbounded();
        let (back, returns) = async_channel::unbounded();
        let other = executor.spawn(async move {
            while let Ok(item) = arrivals.recv().await {
                back.send(black_box::<u64>(item)).await.expect("it is waited for");
            }
        });
        let (mut laps, mut item) = (laps(plan), 0);
        while laps.go_on() {
            there.send(item).await.expect("the other is there");
            item = returns.recv().await.expect("the other is there") + 1;
        }
        drop(there);
        other.await;
        laps.finish()
    })
}

/// On one processor, like the others.
fn threads(plan: Plan) -> Vec<Lap> {
    pin(rustix::thread::sched_getcpu()).expect("it runs there already");
    let (there, arrivals) = mpsc::channel();
    let (back, returns) = mpsc::channel();
    let other = thread::spawn(move || {
        while let Ok(item) = arrivals.recv() {
            back.send(black_box::<u64>(item)).expect("it is waited for");
        }
    });
    let (mut laps, mut item) = (laps(plan), 0);
    while laps.go_on() {
        there.send(item).expect("the other is there");
        item = returns.recv().expect("the other is there") + 1;
    }
    drop(there);
    other.join().expect("it does not panic");
    laps.finish()
}
