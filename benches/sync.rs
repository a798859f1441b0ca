//! What the instruments of `sync` cost: when nobody is in the way, and when two greenlets hand over
//! to each other.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use greenloom::sync::{Event, Mutex, RLock, RwLock, Semaphore};
use greenloom::{idle, scope};

/// What one iteration is, and a function that does so many of them.
pub(crate) type Operation = (&'static str, fn(u64));

/// Nothing here ever waits, but for the turn that others get after 128 such calls.
pub(crate) const UNCONTENDED: &[Operation] = &[
    ("Mutex lock + unlock", mutex),
    ("RLock lock + unlock", rlock),
    ("RwLock read + unlock", rwlock_read),
    ("RwLock write + unlock", rwlock_write),
    ("Semaphore acquire + release", semaphore),
    ("Event set + clear", event_set_and_clear),
    ("Event wait, set already", event_wait),
];

/// Each iteration is one wait, begun by one of two greenlets and ended by the other.
pub(crate) const BETWEEN_TWO: &[Operation] = &[
    ("Mutex hand-over", mutex_hand_over),
    ("Semaphore hand-over", semaphore_hand_over),
    ("Event set + wake", event_wake),
];

pub(crate) fn mutex(count: u64) {
    let mutex = Mutex::new(0_u64);
    for _ in 0..count {
        *black_box(&mutex).lock() += 1;
    }
}

fn rlock(count: u64) {
    let lock = RLock::new(0_u64);
    for _ in 0..count {
        black_box(*black_box(&lock).lock());
    }
}

fn rwlock_read(count: u64) {
    let lock = RwLock::new(0_u64);
    for _ in 0..count {
        black_box(*black_box(&lock).read());
    }
}

fn rwlock_write(count: u64) {
    let lock = RwLock::new(0_u64);
    for _ in 0..count {
        *black_box(&lock).write() += 1;
    }
}

fn semaphore(count: u64) {
    let semaphore = Semaphore::new(1);
    for _ in 0..count {
        drop(black_box(&semaphore).acquire());
    }
}

fn event_set_and_clear(count: u64) {
    let event = Event::new();
    for _ in 0..count {
        black_box(&event).set();
        black_box(&event).clear();
    }
}

fn event_wait(count: u64) {
    let event = Event::new();
    event.set();
    for _ in 0..count {
        black_box(&event).wait();
    }
}

fn mutex_hand_over(count: u64) {
    let mutex = Mutex::new(());
    contend(mutex.lock(), || drop(mutex.lock()), count);
}

pub(crate) fn semaphore_hand_over(count: u64) {
    let semaphore = Semaphore::new(1);
    contend(semaphore.acquire(), || drop(semaphore.acquire()), count);
}

/// Two greenlets take and give back, `count` times in all. Both stand in line before `held` is let
/// go. So whoever gives back hands over to the other, and has to wait when it comes again.
fn contend(held: impl Sized, take_and_give_back: impl Fn(), count: u64) {
    scope(|s| {
        for share in halves(count) {
            let turn = &take_and_give_back;
            drop(s.spawn(move || (0..share).for_each(|_| turn())));
        }
        idle();
        drop(held);
    });
}

/// Two greenlets with an event each, who wake each other in turn.
fn event_wake(count: u64) {
    let (ping, pong) = (Event::new(), Event::new());
    let [more, less] = halves(count);
    scope(|s| {
        drop(s.spawn(|| wake_in_turn(&ping, &pong, more)));
        drop(s.spawn(|| wake_in_turn(&pong, &ping, less)));
        idle();
        ping.set();
    });
}

fn wake_in_turn(mine: &Event, other: &Event, times: u64) {
    for _ in 0..times {
        mine.wait();
        mine.clear();
        other.set();
    }
}

/// The greater half first.
fn halves(count: u64) -> [u64; 2] {
    [count.div_ceil(2), count / 2]
}

fn uncontended(c: &mut Criterion) {
    measure(c, UNCONTENDED);
}

fn between_two(c: &mut Criterion) {
    measure(c, BETWEEN_TWO);
}

fn measure(c: &mut Criterion, operations: &[Operation]) {
    let mut group = c.benchmark_group("sync");
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

criterion_group!(benches, uncontended, between_two);
criterion_main!(benches);
