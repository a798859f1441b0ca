//! What a timeout costs that is not needed, while n tasks sleep.
//!
//! Three figures. `ready_`: a body that is done at once. `waiting_`: a body that gives up its turn
//! once, so that the timeout is really set and taken back; tokio and smol do not set it earlier.
//! `yield_`: that turn alone, to be subtracted. `ns` is what remains, waiting less yield: a timer
//! set and taken back.
//!
//! Sleepers and timeouts are due at random in the same minute, after all is over: a timeout belongs
//! somewhere in the middle.
//!
//! may can limit single operations only, threads nothing at all.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::laps::{Count, Lap, Laps, with_laps};
use super::timers::Random;
use super::{Measure, Plan, runtimes};
use crate::peer::Peer;
use crate::sample::Sample;

pub(super) const MEASURE: Measure = Measure {
    name: "timer_cost",
    sizes: &[1_000, 10_000, 100_000, 1_000_000],
    tasks: |n| n,
    why_not,
    run,
};

/// Different timeouts. A power of two.
const TIMEOUTS: usize = 1024;

fn why_not(peer: Peer, _n: usize) -> Option<String> {
    match peer {
        Peer::May => Some("has timeouts of single operations only".into()),
        Peer::Threads => Some("has no timeouts".into()),
        _ => None,
    }
}

fn run(peer: Peer, plan: Plan, sample: Sample) -> Sample {
    let [yields, ready, waiting] = match peer {
        Peer::Greenloom => greenloom(plan),
        Peer::Tokio => tokio(plan),
        Peer::Smol => smol(plan),
        _ => unreachable!("not measured here"),
    };
    let sample = with_laps(sample, "yield_", &yields);
    let sample = with_laps(sample, "ready_", &ready);
    let sample = with_laps(sample, "waiting_", &waiting);
    let ns = sample.figures["waiting_ns"] - sample.figures["yield_ns"];
    sample.with("ns", ns)
}

static BEGUN: AtomicUsize = AtomicUsize::new(0);
static DONE: [Count; 1] = [Count::new()];

fn laps(plan: Plan) -> Laps {
    Laps::new(plan, 1, &DONE)
}

/// Times between two and three minutes from now.
struct Far(Random);

impl Far {
    fn new() -> Far {
        Far(Random(7))
    }

    fn next(&mut self) -> Duration {
        Duration::from_secs(120) + Duration::from_nanos(self.0.next() % 60_000_000_000)
    }

    /// Some of them, again and again.
    fn cycle(mut self) -> impl FnMut() -> Duration {
        let some: Vec<_> = (0..TIMEOUTS).map(|_| self.next()).collect();
        let mut at = 0;
        move || {
            at = (at + 1) % TIMEOUTS;
            some[at]
        }
    }
}

fn greenloom(plan: Plan) -> [Vec<Lap>; 3] {
    runtimes::greenloom(move || {
        let mut far = Far::new();
        for _ in 0..plan.n {
            let nap = far.next();
            drop(greenloom::spawn(move || {
                BEGUN.fetch_add(1, Relaxed);
                greenloom::sleep(nap);
            }));
        }
        while BEGUN.load(Relaxed) < plan.n {
            greenloom::yield_now();
        }
        let mut next = far.cycle();

        let mut yields = laps(plan);
        while yields.go_on() {
            greenloom::yield_now();
        }
        let mut ready = laps(plan);
        while ready.go_on() {
            let result = greenloom::with_timeout(next(), || black_box(()));
            result.expect("it is done at once");
        }
        let mut waiting = laps(plan);
        while waiting.go_on() {
            let result = greenloom::with_timeout(next(), greenloom::yield_now);
            result.expect("its turn comes soon");
        }
        [yields.finish(), ready.finish(), waiting.finish()]
    })
}

fn tokio(plan: Plan) -> [Vec<Lap>; 3] {
    runtimes::tokio(async move {
        let mut far = Far::new();
        for _ in 0..plan.n {
            let nap = far.next();
            drop(tokio::spawn(async move {
                BEGUN.fetch_add(1, Relaxed);
                tokio::time::sleep(nap).await;
            }));
        }
        while BEGUN.load(Relaxed) < plan.n {
            tokio::task::yield_now().await;
        }
        let mut next = far.cycle();

        let mut yields = laps(plan);
        while yields.go_on() {
            tokio::task::yield_now().await;
        }
        let mut ready = laps(plan);
        while ready.go_on() {
            let result = tokio::time::timeout(next(), async { black_box(()) }).await;
            result.expect("it is done at once");
        }
        let mut waiting = laps(plan);
        while waiting.go_on() {
            let result = tokio::time::timeout(next(), tokio::task::yield_now()).await;
            result.expect("its turn comes soon");
        }
        [yields.finish(), ready.finish(), waiting.finish()]
    })
}

fn smol(plan: Plan) -> [Vec<Lap>; 3] {
    runtimes::smol(move |executor| async move {
        let mut far = Far::new();
        for _ in 0..plan.n {
            let nap = far.next();
            executor
                .spawn(async move {
                    BEGUN.fetch_add(1, Relaxed);
                    async_io::Timer::after(nap).await;
                })
                .detach();
        }
        while BEGUN.load(Relaxed) < plan.n {
            futures_lite::future::yield_now().await;
        }
        let mut next = far.cycle();

        let mut yields = laps(plan);
        while yields.go_on() {
            futures_lite::future::yield_now().await;
        }
        let mut ready = laps(plan);
        while ready.go_on() {
            let result = smol_timeout(next(), async { black_box(()) }).await;
            result.expect("it is done at once");
        }
        let mut waiting = laps(plan);
        while waiting.go_on() {
            let result = smol_timeout(next(), futures_lite::future::yield_now()).await;
            result.expect("its turn comes soon");
        }
        [yields.finish(), ready.finish(), waiting.finish()]
    })
}

/// It has none; this is how its users write it.
async fn smol_timeout<T>(d: Duration, body: impl Future<Output = T>) -> Option<T> {
    let late = async {
        async_io::Timer::after(d).await;
        None
    };
    futures_lite::future::or(async { Some(body.await) }, late).await
}
