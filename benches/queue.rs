//! What an item costs on its way through a queue: put and got by one greenlet, and handed over from
//! one to another.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use greenloom::queue::{Fifo, JoinableQueue, LifoQueue, Order, PriorityQueue, Queue, channel};
use greenloom::{joinall, spawn};

/// Items that are in the queue all the time while one greenlet puts and gets others: putting several
/// in order is what a `PriorityQueue` is for.
const BACKLOG: u64 = 16;

const OPEN: &str = "nobody shuts it down";

/// What one iteration is, and a function that does so many of them.
pub(crate) type Operation = (&'static str, fn(u64));

/// Nothing here ever waits, but for the turn that others get after 128 such calls.
pub(crate) const WITHIN_ONE: &[Operation] = &[
    ("Queue put + get", |count| put_and_get(&Queue::<_, Fifo>::new(), count)),
    ("LifoQueue put + get", |count| put_and_get(&LifoQueue::new(), count)),
    ("PriorityQueue put + get", |count| put_and_get(&PriorityQueue::new(), count)),
    ("JoinableQueue put + get + done", put_get_and_be_done),
];

/// Each iteration is one item, put by one of two greenlets and got by the other.
pub(crate) const BETWEEN_TWO: &[Operation] = &[
    ("Queue hand-over, bounded(1)", hand_over_one_by_one),
    ("Queue hand-over, bounded(16)", |count| hand_over(&Queue::bounded(16), count)),
    ("Queue hand-over, unbounded", |count| hand_over(&Queue::new(), count)),
    ("Channel hand-over", hand_over_by_channel),
];

fn put_and_get<O: Order<u64>>(queue: &Queue<u64, O>, count: u64) {
    for item in 0..BACKLOG {
        queue.put(item).expect(OPEN);
    }
    for item in 0..count {
        black_box(queue).put(item).expect(OPEN);
        black_box(black_box(queue).get().expect(OPEN));
    }
}

fn put_get_and_be_done(count: u64) {
    let queue = JoinableQueue::<_, Fifo>::new();
    for item in 0..count {
        black_box(&queue).put(item).expect(OPEN);
        black_box(black_box(&queue).get().expect(OPEN));
        queue.task_done().expect("there was one to be done");
    }
}

pub(crate) fn hand_over_one_by_one(count: u64) {
    hand_over(&Queue::bounded(1), count);
}

pub(crate) fn hand_over_by_channel(count: u64) {
    hand_over(&channel(), count);
}

fn hand_over(queue: &Queue<u64>, count: u64) {
    let giver = queue.clone();
    let taker = queue.clone();
    let take = move || {
        for _ in 0..count {
            black_box(taker.get().expect(OPEN));
        }
    };
    let give = move || {
        for item in 0..count {
            giver.put(item).expect(OPEN);
        }
    };
    joinall(&[spawn(take), spawn(give)]);
}

fn within_one(c: &mut Criterion) {
    measure(c, WITHIN_ONE);
}

fn between_two(c: &mut Criterion) {
    measure(c, BETWEEN_TWO);
}

fn measure(c: &mut Criterion, operations: &[Operation]) {
    let mut group = c.benchmark_group("queue");
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

criterion_group!(benches, within_one, between_two);
criterion_main!(benches);
