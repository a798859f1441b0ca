//! What timers cost, alone and among up to a million others that are not due.
//!
//! The others are timeouts of the one greenlet that measures, so that nothing is measured but timers.
//! A million greenlets that sleep are measured beside the peers, in `benches/peers`.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenloom::{Timeout, joinall, sleep, spawn, with_timeout};

const LONG: Duration = Duration::from_secs(3_600);

/// How many others there are.
const AMONG: [u64; 6] = [0, 10, 1_000, 10_000, 100_000, 1_000_000];

/// Not due before the benchmark is over.
fn others(count: u64) -> Vec<Timeout> {
    (0..count).map(|n| Timeout::start(LONG + Duration::from_micros(n))).collect()
}

/// One iteration inserts a timer and takes it out again.
fn insert_and_cancel(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/start and cancel, among");
    for count in AMONG {
        let _others = others(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| Timeout::start(LONG / 2).cancel());
        });
    }
    group.finish();
}

/// One iteration is a body that ends in time, as nearly all do.
fn unused_timeouts(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/with_timeout in time, among");
    for count in AMONG {
        let _others = others(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| with_timeout(LONG / 2, || 1));
        });
    }
    group.finish();
}

/// One iteration is one `sleep` of a nanosecond: a timer inserted, due, fired, and its greenlet
/// resumed, while 999 others do the same.
fn firing(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/sleep fires, among");
    for count in AMONG {
        let _others = others(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(time_of_sleeps);
        });
    }
    group.finish();
}

fn time_of_sleeps(iterations: u64) -> Duration {
    const SLEEPERS: u64 = 1_000;
    let each = (iterations / SLEEPERS).max(10);
    let sleepers: Vec<_> = (0..SLEEPERS)
        .map(|_| {
            spawn(move || {
                for _ in 0..each {
                    sleep(Duration::from_nanos(1));
                }
            })
        })
        .collect();
    let start = Instant::now();
    joinall(&sleepers);
    start.elapsed().mul_f64(iterations as f64 / (each * SLEEPERS) as f64)
}

/// One iteration takes a timer back and sets it anew, one after the other: what a server does that
/// limits how long its connections are silent.
fn rearming(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/set anew, of");
    for count in &AMONG[2..] {
        let mut timeouts = others(*count);
        let mut oldest = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                timeouts[oldest] = Timeout::start(LONG);
                oldest = (oldest + 1) % timeouts.len();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, insert_and_cancel, unused_timeouts, firing, rearming);
criterion_main!(benches);
