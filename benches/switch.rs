//! What it costs to hand over to somebody else: the bare machine below, then each way on top of it.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenloom::raw::Coroutine;
use greenloom::{Greenlet, joinall, spawn, yield_now};

/// The limit: one resume and one suspend, nothing else.
fn corosensei_round_trip(c: &mut Criterion) {
    let mut coroutine = corosensei::Coroutine::<(), (), ()>::new(|yielder, ()| {
        loop {
            yielder.suspend(());
        }
    });
    c.bench_function("switch/corosensei round trip", |b| b.iter(|| coroutine.resume(())));
}

/// One iteration is one `yield_now`, by one of so many greenlets that do nothing else.
fn yielding(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch/yield_now");
    for greenlets in [1, 2, 1_000] {
        group.bench_function(BenchmarkId::from_parameter(greenlets), |b| {
            b.iter_custom(|iterations| time_of_yields(greenlets, iterations));
        });
    }
    group.finish();
}

fn time_of_yields(greenlets: u64, iterations: u64) -> Duration {
    // Many each, so that starting and ending them does not count.
    let each = (iterations / greenlets).max(1_000);
    let spinners: Vec<_> = (0..greenlets)
        .map(|_| {
            spawn(move || {
                for _ in 0..each {
                    yield_now();
                }
            })
        })
        .collect();
    let start = Instant::now();
    joinall(&spinners);
    start.elapsed().mul_f64(iterations as f64 / (each * greenlets) as f64)
}

/// One iteration is there and back again, with a value each way.
fn raw_ping_pong(c: &mut Criterion) {
    let pong = Coroutine::new(|mut ball: u64| {
        let ping = Coroutine::<u64>::current().parent().expect("it was made by main");
        loop {
            ball = ping.switch(ball + 1);
        }
    });
    let mut ball = 0;
    c.bench_function("switch/raw::Coroutine ping-pong", |b| {
        b.iter(|| ball = black_box(pong.switch(black_box(ball))));
    });
}

/// One iteration is a greenlet woken from `join`, which ends and so wakes the next: a chain of
/// greenlets that all are parked when the clock starts.
fn waking(c: &mut Criterion) {
    const LINKS: u64 = 10_000;
    c.bench_function("switch/wake the joiner", |b| {
        b.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(LINKS);
            let time: Duration = (0..rounds).map(|_| time_of_a_chain(LINKS)).sum();
            time.mul_f64(iterations as f64 / (rounds * LINKS) as f64)
        });
    });
}

fn time_of_a_chain(links: u64) -> Duration {
    let (parked, go) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let first = spawn({
        let go = Rc::clone(&go);
        move || {
            while !go.get() {
                yield_now();
            }
        }
    });
    let last = (0..links).fold(first, |before: Greenlet<()>, _| {
        let parked = Rc::clone(&parked);
        spawn(move || {
            parked.set(parked.get() + 1);
            before.join();
        })
    });
    while parked.get() < links {
        yield_now();
    }
    go.set(true);
    let start = Instant::now();
    last.join();
    start.elapsed()
}

criterion_group!(benches, corosensei_round_trip, yielding, raw_ping_pong, waking);
criterion_main!(benches);
