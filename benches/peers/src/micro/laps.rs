//! Time by rounds: a loop that asks [`Laps::go_on`] before each operation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Plan, process};
use crate::sample::Sample;

/// Rounds that count, unless somebody asks for another number.
const ROUNDS: usize = 7;

/// Operations between two looks at the clock, which costs as much as a switch or more.
const OPERATIONS_A_LOOK: usize = 4096;

/// A count that only one thread changes, so it need not be locked, which would cost as much as a
/// switch. An atomic nevertheless, because some peers ask for `Send` though they have one thread.
#[derive(Debug)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) const fn new() -> Count {
        Count(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.get() + n, Relaxed);
    }

    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lap {
    wall: Duration,
    cpu: Duration,
    operations: u64,
}

/// Divides a loop into rounds. The first is not kept: it warms up caches, stacks and heaps.
#[derive(Debug)]
pub(super) struct Laps {
    plan: Plan,
    /// What has been done; the first is ours, and the others those of other threads.
    counts: &'static [Count],
    /// Operations between two calls of `go_on`.
    each: u64,
    looks: u64,
    look_after: u32,
    until_look: u32,
    since: Option<(Instant, Duration, u64)>,
    warm: bool,
    laps: Vec<Lap>,
}

impl Laps {
    /// Looks at the clock after some thousand operations, of which others do all but one in `of`.
    pub(super) fn new(plan: Plan, of: usize, counts: &'static [Count]) -> Laps {
        let look_after = (OPERATIONS_A_LOOK / of).max(1) as u32;
        let laps = Vec::with_capacity(plan.rounds.unwrap_or(ROUNDS));
        let (each, looks, until_look, since, warm) = (1, 0, 1, None, false);
        Laps { plan, counts, each, looks, look_after, until_look, since, warm, laps }
    }

    /// Each turn of the loop is so many operations, and long enough to look at the clock.
    pub(super) fn of_batches(plan: Plan, each: usize, counts: &'static [Count]) -> Laps {
        Laps { each: each as u64, ..Laps::new(plan, OPERATIONS_A_LOOK, counts) }
    }

    /// Each turn of the loop is so many operations, but short.
    pub(super) fn of_hand_overs(plan: Plan, each: usize, counts: &'static [Count]) -> Laps {
        Laps { each: each as u64, ..Laps::new(plan, each, counts) }
    }

    /// Is there more to do? Counts what is done next.
    #[inline]
    pub(super) fn go_on(&mut self) -> bool {
        self.until_look -= 1;
        if self.until_look == 0 && !self.look() {
            return false;
        }
        self.counts[0].add(self.each);
        true
    }

    #[cold]
    fn look(&mut self) -> bool {
        self.until_look = self.look_after;
        self.looks += 1;
        let now = Instant::now();
        let count = self.counts.iter().map(Count::get).sum();
        if let Some((start, cpu, before)) = self.since {
            let (wall, operations) = (now - start, count - before);
            if self.plan.operations.map_or(wall < self.plan.round, |wanted| operations < wanted) {
                return true;
            }
            let lap = Lap { wall, cpu: process::cpu_time() - cpu, operations };
            if std::mem::replace(&mut self.warm, true) {
                self.laps.push(lap);
            }
        }
        let cpu = process::cpu_time();
        self.since = Some((Instant::now(), cpu, count));
        self.laps.len() < self.plan.rounds.unwrap_or(ROUNDS)
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    /// How often the loop has turned, when it has ended.
    pub(super) fn turns(&self) -> u64 {
        (self.looks - 1) * u64::from(self.look_after)
    }

    pub(super) fn finish(self) -> Vec<Lap> {
        self.laps
    }
}

/// Nanoseconds of an operation: the median of the rounds, and the least, by the clock on the wall
/// and by processor time. `prefix` goes before the names.
pub(super) fn with_laps(sample: Sample, prefix: &str, laps: &[Lap]) -> Sample {
    let wall = each(laps, |lap| lap.wall);
    let cpu = each(laps, |lap| lap.cpu);
    sample
        .with(&format!("{prefix}ns"), median(&wall))
        .with(&format!("{prefix}ns_min"), wall[0])
        .with(&format!("{prefix}ns_cpu"), median(&cpu))
        .with(&format!("{prefix}ns_cpu_min"), cpu[0])
        .with(&format!("{prefix}rounds"), laps.len() as f64)
        .with(&format!("{prefix}operations"), laps[0].operations as f64)
}

/// Sorted.
fn each(laps: &[Lap], time: impl Fn(&Lap) -> Duration) -> Vec<f64> {
    let nanoseconds = |lap| time(lap).as_nanos() as f64 / lap.operations as f64;
    let mut each: Vec<_> = laps.iter().map(nanoseconds).collect();
    each.sort_by(f64::total_cmp);
    each
}

/// Of values in order.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}
