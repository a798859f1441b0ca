//! What yielding and spawning cost in round trips of the bare machine, measured in one run.
//!
//! Nanoseconds change with the machine and its mood; these ratios change much less, because all
//! sides are measured in turn, round by round, and compared by their medians.

#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]

use std::time::{Duration, Instant};
use std::{env, iter};

use corosensei::Coroutine;
use greenloom::{joinall, spawn, yield_now};

/// How much is done to measure it.
struct Effort {
    rounds: usize,
    /// Operations a round.
    operations: u32,
}

/// What is measured: its name, how to do it so many times, and how many round trips it may cost.
struct Subject {
    name: &'static str,
    run: fn(u32),
    at_most: Option<f64>,
}

const SUBJECTS: &[Subject] = &[
    Subject { name: "corosensei round trip", run: round_trips, at_most: None },
    Subject { name: "yield_now, 2 greenlets", run: yields::<2>, at_most: Some(6.0) },
    Subject { name: "yield_now, 1,000 greenlets", run: yields::<1_000>, at_most: None },
    Subject { name: "spawn + join, one by one", run: spawns_one_by_one, at_most: Some(40.0) },
    Subject { name: "spawn + join, by 1,000", run: spawns_in_batches, at_most: Some(40.0) },
];

fn round_trips(count: u32) {
    let mut coroutine = Coroutine::<(), (), ()>::new(|yielder, ()| {
        loop {
            yielder.suspend(());
        }
    });
    for _ in 0..count {
        coroutine.resume(());
    }
}

fn yields<const GREENLETS: u32>(count: u32) {
    let spin = move || {
        for _ in 0..count / GREENLETS {
            yield_now();
        }
    };
    let spinners: Vec<_> = (0..GREENLETS).map(|_| spawn(spin)).collect();
    joinall(&spinners);
}

fn spawns_one_by_one(count: u32) {
    for _ in 0..count {
        spawn(|| ()).join();
    }
}

fn spawns_in_batches(count: u32) {
    const BATCH: u32 = 1_000;
    for _ in 0..count / BATCH {
        let batch: Vec<_> = (0..BATCH).map(|_| spawn(|| ())).collect();
        joinall(&batch);
    }
}

fn main() {
    // `cargo test` runs benchmarks too, only to see that they run.
    let measure = env::args().any(|argument| argument == "--bench");
    let effort = if measure {
        Effort { rounds: 21, operations: 1_000_000 }
    } else {
        Effort { rounds: 1, operations: 1_000 }
    };
    let medians = medians(&effort);
    println!("{:<28} {:>10} {:>12} {:>9}", "", "ns each", "round trips", "at most");
    for (subject, nanoseconds) in iter::zip(SUBJECTS, &medians) {
        let ratio = nanoseconds / medians[0];
        let at_most = subject.at_most.map_or(String::new(), |limit| format!("{limit:.0}"));
        println!("{:<28} {nanoseconds:>10.1} {ratio:>12.1} {at_most:>9}", subject.name);
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
                times.push(time.as_secs_f64() * 1e9 / f64::from(effort.operations));
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
