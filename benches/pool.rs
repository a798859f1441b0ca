//! What a pool adds to the greenlets that run in it.
//!
//! All bodies are empty, so this is the whole cost of a job: its slot, its greenlet or its way to a
//! thread and back, its result.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use greenloom::joinall;
use greenloom::pool::{Group, Pool};
use greenloom::threadpool::ThreadPool;

/// Slots of a pool that is not to be full.
const SLOTS: usize = 16;

/// Items of one `map`.
const MAP: u64 = 1_000;

/// What one iteration is, and a function that does so many of them.
pub(crate) type Operation = (&'static str, fn(u64));

/// Each iteration is one greenlet, spawned by the caller.
pub(crate) const ONE_BY_ONE: &[Operation] = &[
    ("Group spawn + join", group_spawn),
    ("Pool spawn + join", pool_spawn),
    ("Pool spawn, waits for a slot", pool_spawn_when_full),
    ("Pool apply", pool_apply),
];

/// Each iteration is one item, spawned by the pool.
pub(crate) const ITEM_BY_ITEM: &[Operation] = &[
    ("item of a map of 1,000", map),
    ("item of an imap", imap),
    ("item of an imap_unordered", imap_unordered),
];

/// Each iteration is one job of a thread.
const ON_THREADS: &[Operation] = &[
    ("offload, one after the other", offload),
    ("job of a batch of 1,000 on a ThreadPool", thread_batch),
];

fn group_spawn(count: u64) {
    let group = Group::new();
    for _ in 0..count {
        group.spawn(|| ()).join();
    }
}

pub(crate) fn pool_spawn(count: u64) {
    let pool = Pool::new(SLOTS);
    for _ in 0..count {
        pool.spawn(|| ()).join();
    }
}

/// Each spawn but the first waits for the greenlet of the one before.
fn pool_spawn_when_full(count: u64) {
    let pool = Pool::new(1);
    for _ in 0..count {
        pool.spawn(|| ());
    }
    pool.join();
}

fn pool_apply(count: u64) {
    let pool = Pool::new(SLOTS);
    for item in 0..count {
        black_box(pool.apply(move || item));
    }
}

fn map(count: u64) {
    let pool = Pool::new(SLOTS);
    for first in (0..count).step_by(MAP as usize) {
        let items = first..count.min(first + MAP);
        black_box(pool.map(items, |item| item));
    }
}

fn imap(count: u64) {
    for item in Pool::new(SLOTS).imap(0..count, |item| item) {
        black_box(item);
    }
}

fn imap_unordered(count: u64) {
    for item in Pool::new(SLOTS).imap_unordered(0..count, |item| item) {
        black_box(item);
    }
}

fn offload(count: u64) {
    for item in 0..count {
        black_box(greenloom::offload(move || item));
    }
}

/// Their results come back together.
fn thread_batch(count: u64) {
    let pool = ThreadPool::builder().max_threads(2).unbounded_queue().build();
    for first in (0..count).step_by(MAP as usize) {
        let jobs: Vec<_> = (first..count.min(first + MAP)).map(|n| pool.spawn(move || n)).collect();
        joinall(&jobs);
    }
}

fn one_by_one(c: &mut Criterion) {
    measure(c, ONE_BY_ONE);
}

fn item_by_item(c: &mut Criterion) {
    measure(c, ITEM_BY_ITEM);
}

fn on_threads(c: &mut Criterion) {
    measure(c, ON_THREADS);
}

fn measure(c: &mut Criterion, operations: &[Operation]) {
    let mut group = c.benchmark_group("pool");
    for (name, operation) in operations {
        group.bench_function(*name, |b| {
            b.iter_custom(|iterations| {
                let start = Instant::now();
                operation(iterations);
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_by_one, item_by_item, on_threads);
criterion_main!(benches);
