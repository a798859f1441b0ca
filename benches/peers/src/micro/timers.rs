//! n tasks, each of which sleeps a random time of up to a second, and looks how late it woke.
//!
//! Two rounds in one process. In the first (`fresh_`) stacks and heaps are new, and much of the
//! time is the system's, which hands out pages for the first time; the second (`warm_`) is what a
//! program that runs for long sees. Page faults are counted, so one can tell.
//!
//! The deadline is computed by the task when it begins to sleep, so that nobody pays here for a
//! slow spawn. All peers sleep the same times, computed beforehand.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::laps::median;
use super::{Measure, Plan, process, runtimes};
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure = Measure {
    name: "timers",
    sizes: &[10_000, 100_000, 1_000_000],
    tasks: |n| n,
    why_not: |_, _| None,
    run,
};

/// One fresh, one warm.
const ROUNDS: usize = 2;

const SEED: u64 = 5;

fn run(peer: Peer, plan: Plan, sample: Sample) -> Sample {
    let course: &'static Course = Box::leak(Box::new(Course::new(plan)));
    match peer {
        Peer::Greenloom => greenloom(course),
        Peer::Tokio => tokio(course),
        Peer::May => may(course),
        Peer::Smol => smol(course),
        Peer::Threads => threads(course),
        Peer::Epoll | Peer::Go | Peer::Gevent => unreachable!("not measured here"),
    }
    course.figures(sample)
}

fn greenloom(course: &'static Course) {
    for _ in 0..course.rounds {
        let round = Round::begin(course);
        let sleepers: Vec<_> = (0..course.n())
            .map(|i| {
                greenloom::spawn(move || {
                    let nap = course.begin(i);
                    greenloom::sleep(nap.length);
                    course.woke(&nap);
                })
            })
            .collect();
        let spawned = process::cpu_time();
        greenloom::joinall(&sleepers);
        drop(sleepers);
        round.end(course, spawned);
    }
}

fn tokio(course: &'static Course) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("has a poller").block_on(async {
        for _ in 0..course.rounds {
            let round = Round::begin(course);
            let sleepers: Vec<_> = (0..course.n())
                .map(|i| {
                    tokio::spawn(async move {
                        let nap = course.begin(i);
                        tokio::time::sleep(nap.length).await;
                        course.woke(&nap);
                    })
                })
                .collect();
            let spawned = process::cpu_time();
            for sleeper in sleepers {
                sleeper.await.expect("it does not panic");
            }
            round.end(course, spawned);
        }
    });
}

fn may(course: &'static Course) {
    runtimes::may(course.n(), move || {
        for _ in 0..course.rounds {
            let round = Round::begin(course);
            let sleepers: Vec<_> = (0..course.n())
                .map(|i| {
                    may::go!(move || {
                        let nap = course.begin(i);
                        may::coroutine::sleep(nap.length);
                        course.woke(&nap);
                    })
                })
                .collect();
            let spawned = process::cpu_time();
            for sleeper in sleepers {
                sleeper.join().expect("it does not panic");
            }
            round.end(course, spawned);
        }
    });
}

fn smol(course: &'static Course) {
    runtimes::smol(move |executor| async move {
        for _ in 0..course.rounds {
            let round = Round::begin(course);
            let sleepers: Vec<_> = (0..course.n())
                .map(|i| {
                    executor.spawn(async move {
                        let nap = course.begin(i);
                        async_io::Timer::after(nap.length).await;
                        course.woke(&nap);
                    })
                })
                .collect();
            let spawned = process::cpu_time();
            for sleeper in sleepers {
                sleeper.await;
            }
            round.end(course, spawned);
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "whole threads are to sleep here")]
fn threads(course: &'static Course) {
    for _ in 0..course.rounds {
        let round = Round::begin(course);
        let sleepers: Vec<_> = (0..course.n())
            .map(|i| {
                thread::spawn(move || {
                    let nap = course.begin(i);
                    thread::sleep(nap.length);
                    course.woke(&nap);
                })
            })
            .collect();
        let spawned = process::cpu_time();
        for sleeper in sleepers {
            sleeper.join().expect("it does not panic");
        }
        round.end(course, spawned);
    }
}

/// What there is to sleep, and how it went.
struct Course {
    rounds: usize,
    naps: Vec<Duration>,
    /// Nanoseconds that each woke too late.
    late: Vec<AtomicU64>,
    begun: AtomicUsize,
    /// Processor time, in nanoseconds, when the last had begun.
    all_begun_cpu: AtomicU64,
    /// What each round came to, by name.
    results: Mutex<Vec<BTreeMap<&'static str, f64>>>,
}

/// One task's sleep.
struct Nap {
    task: usize,
    length: Duration,
    deadline: Instant,
}

impl Course {
    fn new(plan: Plan) -> Course {
        let mut random = Random(SEED);
        let nap = |_| Duration::from_nanos(random.next() % 1_000_000_000);
        Course {
            rounds: plan.rounds.unwrap_or(ROUNDS),
            naps: (0..plan.n).map(nap).collect(),
            // Not zero: its pages are to be there before the first round, not to be given in it.
            late: (0..plan.n).map(|_| AtomicU64::new(u64::MAX)).collect(),
            begun: AtomicUsize::new(0),
            all_begun_cpu: AtomicU64::new(0),
            results: Mutex::default(),
        }
    }

    fn n(&self) -> usize {
        self.naps.len()
    }

    /// Called by each task before it sleeps.
    #[inline]
    fn begin(&self, task: usize) -> Nap {
        if self.begun.fetch_add(1, Relaxed) + 1 == self.n() {
            self.all_begun_cpu.store(process::cpu_time().as_nanos() as u64, Relaxed);
        }
        let length = self.naps[task];
        Nap { task, length, deadline: Instant::now() + length }
    }

    /// Called by each task when it has slept.
    #[inline]
    fn woke(&self, nap: &Nap) {
        let late = Instant::now().saturating_duration_since(nap.deadline);
        self.late[nap.task].store(late.as_nanos() as u64, Relaxed);
    }

    /// The first round as it was; of the others the median.
    fn figures(&self, mut sample: Sample) -> Sample {
        let results = self.results.lock().expect("nobody panicked");
        let Some((fresh, warm)) = results.split_first() else { return sample };
        for (name, value) in fresh {
            sample = sample.with(&format!("fresh_{name}"), *value);
            let mut values: Vec<_> = warm.iter().map(|round| round[name]).collect();
            values.sort_by(f64::total_cmp);
            if !values.is_empty() {
                sample = sample.with(&format!("warm_{name}"), median(&values));
            }
        }
        sample
    }
}

/// What was used up when a round began.
struct Round {
    wall: Instant,
    cpu: Duration,
    faults: u64,
}

impl Round {
    fn begin(course: &Course) -> Round {
        course.begun.store(0, Relaxed);
        let (faults, cpu) = (process::minor_faults(), process::cpu_time());
        Round { wall: Instant::now(), cpu, faults }
    }

    /// All have been joined. `spawned` is the processor time when all had been spawned.
    fn end(self, course: &Course, spawned: Duration) {
        let wall = self.wall.elapsed().as_secs_f64();
        let cpu = process::cpu_time();
        let faults = process::minor_faults() - self.faults;
        let begun = Duration::from_nanos(course.all_begun_cpu.load(Relaxed));
        let mut late: Vec<_> = course.late.iter().map(|late| late.load(Relaxed)).collect();
        late.sort_unstable();
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let mean = late.iter().map(|late| ms(*late)).sum::<f64>() / late.len() as f64;
        let round = BTreeMap::from([
            ("wall_over_ms", (wall - 1.0) * 1e3),
            ("cpu_s", (cpu - self.cpu).as_secs_f64()),
            ("spawn_cpu_s", (spawned - self.cpu).as_secs_f64()),
            ("begin_cpu_s", begun.saturating_sub(self.cpu).as_secs_f64()),
            ("mean_late_ms", mean),
            ("p99_late_ms", ms(late[late.len() * 99 / 100])),
            ("max_late_ms", ms(late[late.len() - 1])),
            ("minor_faults", faults as f64),
        ]);
        course.results.lock().expect("nobody panicked").push(round);
    }
}

/// SplitMix64: short enough to be the same in every language here.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
