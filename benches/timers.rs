//! What timers cost, alone and among a hundred thousand others that are not due.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenloom::{Greenlet, Timeout, joinall, killall, sleep, spawn, spawn_later, with_timeout};

const LONG: Duration = Duration::from_secs(3_600);

/// Not due before the benchmark is over.
fn others(count: u64) -> Vec<Greenlet<()>> {
    (0..count).map(|n| spawn_later(LONG + Duration::from_micros(n), || ())).collect()
}

/// One iteration inserts a timer and takes it out again.
fn insert_and_cancel(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/start and cancel, among");
    for count in [0, 100_000] {
        let others = others(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| Timeout::start(LONG / 2).cancel());
        });
        killall(&others);
    }
    group.finish();
}

/// One iteration is a body that ends in time, as nearly all do.
fn unused_timeouts(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/with_timeout in time, among");
    for count in [0, 100_000] {
        let others = others(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| with_timeout(LONG / 2, || 1));
        });
        killall(&others);
    }
    group.finish();
}

/// One iteration is one `sleep` of a nanosecond: a timer inserted, due, fired, and its greenlet
/// resumed, while 999 others do the same.
fn firing(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/sleep fires, among");
    for count in [0, 100_000] {
        let others = others(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(time_of_sleeps);
        });
        killall(&others);
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

criterion_group!(benches, insert_and_cancel, unused_timeouts, firing);
criterion_main!(benches);
