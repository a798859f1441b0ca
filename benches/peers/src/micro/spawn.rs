//! A task that does nothing: made, run, joined, gone. n at once, all made before the first is
//! joined.
//!
//! The first batch finds cold stacks and a small heap; it is shown for itself as `first_ns`.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use corosensei::Coroutine;
use corosensei::stack::DefaultStack;

use super::laps::{Count, Lap, Laps, with_laps};
use super::{Measure, Plan, runtimes};
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure =
    Measure { name: "spawn", sizes: &[10_000], tasks: |n| n, why_not: |_, _| None, run };

static SPAWNED: [Count; 1] = [Count::new()];

fn run(peer: Peer, plan: Plan, sample: Sample) -> Sample {
    let (first_ns, laps) = match peer {
        Peer::Greenloom => greenloom(plan),
        Peer::Tokio => tokio(plan),
        Peer::May => may(plan),
        Peer::Smol => smol(plan),
        Peer::Threads => threads(plan),
        Peer::Epoll | Peer::Go | Peer::Gevent => unreachable!("not measured here"),
    };
    let sample = with_laps(sample, "", &laps).with("first_ns", first_ns);
    if peer == Peer::Greenloom { with_laps(sample, "limit_", &limit(plan)) } else { sample }
}

/// Times the first batch, then as many as there is time for.
fn batches(plan: Plan, mut batch: impl FnMut()) -> (f64, Vec<Lap>) {
    let start = Instant::now();
    batch();
    let first = start.elapsed();
    let mut laps = Laps::of_batches(plan, plan.n, &SPAWNED);
    while laps.go_on() {
        batch();
    }
    (first.as_nanos() as f64 / plan.n as f64, laps.finish())
}

/// The same for those who must wait in an `async` function.
async fn batches_async(plan: Plan, mut batch: impl AsyncFnMut()) -> (f64, Vec<Lap>) {
    let start = Instant::now();
    batch().await;
    let first = start.elapsed();
    let mut laps = Laps::of_batches(plan, plan.n, &SPAWNED);
    while laps.go_on() {
        batch().await;
    }
    (first.as_nanos() as f64 / plan.n as f64, laps.finish())
}

fn greenloom(plan: Plan) -> (f64, Vec<Lap>) {
    let mut all = Vec::with_capacity(plan.n);
    batches(plan, || {
        all.extend((0..plan.n).map(|_| greenloom::spawn(|| ())));
        greenloom::joinall(&*all);
        all.clear();
    })
}

fn tokio(plan: Plan) -> (f64, Vec<Lap>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("has a poller").block_on(async {
        let mut all = Vec::with_capacity(plan.n);
        batches_async(plan, async || {
            all.extend((0..plan.n).map(|_| tokio::spawn(async {})));
            for task in all.drain(..) {
                task.await.expect("it does not panic");
            }
        })
        .await
    })
}

fn may(plan: Plan) -> (f64, Vec<Lap>) {
    runtimes::may(plan.n, move || {
        let mut all = Vec::with_capacity(plan.n);
        batches(plan, || {
            all.extend((0..plan.n).map(|_| may::go!(|| ())));
            for coroutine in all.drain(..) {
                coroutine.join().expect("it does not panic");
            }
        })
    })
}

fn smol(plan: Plan) -> (f64, Vec<Lap>) {
    runtimes::smol(move |executor| async move {
        let mut all = Vec::with_capacity(plan.n);
        batches_async(plan, async || {
            all.extend((0..plan.n).map(|_| executor.spawn(async {})));
            for task in all.drain(..) {
                task.await;
            }
        })
        .await
    })
}

fn threads(plan: Plan) -> (f64, Vec<Lap>) {
    let mut all = Vec::with_capacity(plan.n);
    batches(plan, || {
        all.extend((0..plan.n).map(|_| thread::spawn(|| ())));
        for thread in all.drain(..) {
            thread.join().expect("it does not panic");
        }
    })
}

/// The limit: a coroutine made on a stack that is warm, run to its end, taken apart again.
fn limit(plan: Plan) -> Vec<Lap> {
    static MADE: [Count; 1] = [Count::new()];
    let mut stack = Some(DefaultStack::default());
    let mut laps = Laps::new(plan, 1, &MADE);
    while laps.go_on() {
        let reused = stack.take().expect("it is put back below");
        let mut coroutine = Coroutine::<(), (), (), _>::with_stack(reused, |_, ()| ());
        black_box(coroutine.resume(()));
        stack = Some(coroutine.into_stack());
    }
    laps.finish()
}
