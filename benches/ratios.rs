//! What the basic operations cost in round trips of the bare machine, and what is built on them in
//! `yield_now`s, all measured in one run.
//!
//! Nanoseconds change with the machine and its mood; these ratios change much less, because all
//! sides are measured in turn, round by round, and compared by their medians.

#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]

use std::time::{Duration, Instant};
use std::{env, iter};

use corosensei::Coroutine;

#[path = "instructions/operations.rs"]
#[allow(dead_code, reason = "only some of its operations are measured here")]
mod operations;
#[path = "pool.rs"]
#[allow(dead_code, reason = "only some of its operations are measured here")]
mod pool;
#[path = "queue.rs"]
#[allow(dead_code, reason = "only some of its operations are measured here")]
mod queue;
#[path = "sync.rs"]
#[allow(dead_code, reason = "only some of its operations are measured here")]
mod sync;

/// How much is done to measure it.
struct Effort {
    rounds: usize,
    /// Operations a round.
    operations: u64,
}

/// What is measured: its name, how to do it so many times, in what its cost is told, and how much
/// of that it may be.
struct Subject {
    name: &'static str,
    run: fn(u64),
    unit: Unit,
    at_most: Option<f64>,
}

/// A subject that others are measured in.
#[derive(Clone, Copy)]
enum Unit {
    RoundTrip,
    YieldNow,
}

impl Unit {
    /// Its place among the subjects.
    const fn subject(self) -> usize {
        match self {
            Unit::RoundTrip => 0,
            Unit::YieldNow => 1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Unit::RoundTrip => "round trips",
            Unit::YieldNow => "yield_now",
        }
    }
}

const SUBJECTS: &[Subject] = &[
    in_round_trips("corosensei round trip", round_trips, None),
    in_round_trips("yield_now, 2 greenlets", operations::yields::<2>, Some(6.0)),
    in_round_trips("yield_now, 1,000 greenlets", operations::yields::<1_000>, None),
    in_round_trips("spawn + join, one by one", operations::spawns_one_by_one, Some(40.0)),
    in_round_trips("spawn + join, by 1,000", operations::spawns_in_batches, Some(40.0)),
    in_yields("queue hand-over, bounded(1)", queue::hand_over_one_by_one, Some(3.0)),
    // Whoever takes goes first, so each item takes two switches.
    in_yields("queue hand-over, Channel", queue::hand_over_by_channel, Some(5.0)),
    in_yields("Semaphore hand-over", sync::semaphore_hand_over, None),
    in_yields("Mutex lock + unlock", sync::mutex, None),
    in_yields("Pool spawn + join", pool::pool_spawn, None),
];

const fn in_round_trips(name: &'static str, run: fn(u64), at_most: Option<f64>) -> Subject {
    Subject { name, run, unit: Unit::RoundTrip, at_most }
}

const fn in_yields(name: &'static str, run: fn(u64), at_most: Option<f64>) -> Subject {
    Subject { name, run, unit: Unit::YieldNow, at_most }
}

fn round_trips(count: u64) {
    let mut coroutine = Coroutine::<(), (), ()>::new(|yielder, ()| {
        loop {
            yielder.suspend(());
        }
    });
    for _ in 0..count {
        coroutine.resume(());
    }
}

fn main() {
    let medians = medians(&effort());
    println!("{:<28} {:>10} {:>8}  {:<12} {:>7}", "", "ns each", "costs", "", "at most");
    for (subject, nanoseconds) in iter::zip(SUBJECTS, &medians) {
        let ratio = nanoseconds / medians[subject.unit.subject()];
        let unit = subject.unit.name();
        let at_most = subject.at_most.map_or(String::new(), |limit| format!("{limit:.0}"));
        println!("{:<28} {nanoseconds:>10.1} {ratio:>8.2}  {unit:<12} {at_most:>7}", subject.name);
    }
}

/// Only `cargo bench` measures. Run as a test, or by `cargo bench -- --test`, it shows that it runs.
fn effort() -> Effort {
    let is_given = |wanted: &str| env::args().any(|argument| argument == wanted);
    if is_given("--bench") && !is_given("--test") {
        Effort { rounds: 21, operations: 1_000_000 }
    } else {
        Effort { rounds: 1, operations: 1_000 }
    }
}

/// Nanoseconds an operation of each subject, in the middle of all rounds.
fn medians(effort: &Effort) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(effort.rounds); SUBJECTS.len()];
    // One round more, for caches and stacks to warm up.
    for round in 0..=effort.rounds {
        for (subject, times) in iter::zip(SUBJECTS, &mut times) {
            let time = time_of(|| (subject.run)(effort.operations));
            if round > 0 {
                times.push(time.as_secs_f64() * 1e9 / effort.operations as f64);
            }
        }
    }
    times.into_iter().map(median).collect()
}

fn time_of(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
