//! What a task costs that does nothing: made, run, joined, gone.

use std::time::{Duration, Instant};

use corosensei::Coroutine;
use corosensei::stack::DefaultStack;
use criterion::{Criterion, criterion_group, criterion_main};
use greenloom::{Greenlet, joinall, scope, spawn};

/// Greenlets alive at once in a batch.
const BATCH: u64 = 10_000;

/// The limit: a coroutine made on a stack that is warm, run to its end, taken apart again.
fn corosensei_on_a_reused_stack(c: &mut Criterion) {
    let mut stack = Some(DefaultStack::default());
    c.bench_function("spawn/corosensei on a reused stack", |b| {
        b.iter(|| {
            let reused = stack.take().expect("it is put back below");
            let mut coroutine = Coroutine::<(), (), (), _>::with_stack(reused, |_, ()| ());
            let result = coroutine.resume(());
            stack = Some(coroutine.into_stack());
            result
        });
    });
}

/// One iteration is one greenlet, joined before the next is spawned.
fn one_at_a_time(c: &mut Criterion) {
    c.bench_function("spawn/spawn and join", |b| b.iter(|| spawn(|| ()).join()));
    c.bench_function("spawn/spawn and get", |b| b.iter(|| spawn(|| 1).get()));
}

/// One iteration is one greenlet of ten thousand that are spawned, then joined.
fn in_batches(c: &mut Criterion) {
    c.bench_function("spawn/spawn and join, batches of 10,000", |b| {
        let mut batch = Vec::with_capacity(BATCH as usize);
        b.iter_custom(|iterations| in_whole_batches(iterations, || time_of_a_batch(&mut batch)));
    });
    c.bench_function("spawn/scope of 10,000", |b| {
        b.iter_custom(|iterations| in_whole_batches(iterations, time_of_a_scope));
    });
}

fn in_whole_batches(iterations: u64, mut time_of_one: impl FnMut() -> Duration) -> Duration {
    let batches = iterations.div_ceil(BATCH);
    let time: Duration = (0..batches).map(|_| time_of_one()).sum();
    time.mul_f64(iterations as f64 / (batches * BATCH) as f64)
}

fn time_of_a_batch(batch: &mut Vec<Greenlet<()>>) -> Duration {
    let start = Instant::now();
    batch.extend((0..BATCH).map(|_| spawn(|| ())));
    joinall(&*batch);
    batch.clear();
    start.elapsed()
}

fn time_of_a_scope() -> Duration {
    let start = Instant::now();
    scope(|s| {
        for _ in 0..BATCH {
            drop(s.spawn(|| ()));
        }
    });
    start.elapsed()
}

criterion_group!(benches, corosensei_on_a_reused_stack, one_at_a_time, in_batches);
criterion_main!(benches);
