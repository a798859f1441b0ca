//! Timers: none early, all in the order of their deadlines, however many there are.

mod util;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::{joinall, killall, sleep, spawn, spawn_later, with_timeout};
use util::{HOUR, Living, MINUTE, blocks_forever, ms, stuck, until_parked, within};

#[test]
fn smoke() {
    within(MINUTE, || {
        let start = Instant::now();
        sleep(ms(5));
        assert!(start.elapsed() >= ms(5));
    });
}

/// Knuth's linear congruential generator: random enough for lengths of sleeps, and the same on
/// every machine for the same seed.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    fn duration_below(&mut self, limit: Duration) -> Duration {
        Duration::from_nanos(self.next() * 4 % u64::try_from(limit.as_nanos()).unwrap())
    }
}

/// What is known of one sleep.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    /// Its deadline is not before this.
    earliest: Instant,
    /// Nor after this.
    latest: Instant,
    /// When it was over.
    woke: Instant,
}

/// Lets `count` greenlets sleep for a random time each; returns their sleeps in the order in which
/// they woke. When all have begun, the thread is kept busy for the time of `burn`.
fn sleep_at_random(seed: u64, count: usize, limit: Duration, burn: Duration) -> Vec<Sleep> {
    let mut random = Lcg(seed);
    let order = Rc::new(RefCell::new(Vec::with_capacity(count)));
    // The deadline is made inside `sleep`, after `before` and before the next greenlet begins.
    let begun = Rc::new(RefCell::new(Vec::with_capacity(count)));
    let all: Vec<_> = (0..count)
        .map(|_| {
            let length = random.duration_below(limit);
            let (order, begun) = (order.clone(), begun.clone());
            spawn(move || {
                let me = {
                    let mut begun = begun.borrow_mut();
                    begun.push(Instant::now());
                    begun.len() - 1
                };
                sleep(length);
                order.borrow_mut().push((me, length, Instant::now()));
            })
        })
        .collect();
    spawn(move || util::spin(burn));
    joinall(&all);
    let (begun, order) = (begun.borrow(), order.borrow());
    let sleeps = order.iter().map(|(me, length, woke)| {
        // The next to begin; or, of the last, whatever came afterwards.
        let after = begun.get(me + 1).unwrap_or(woke);
        Sleep { earliest: begun[*me] + *length, latest: *after + *length, woke: *woke }
    });
    sleeps.collect()
}

#[test]
fn a_hundred_thousand_wake_in_order() {
    const SEED: u64 = 0x5EED_0001;
    within(2 * MINUTE, || {
        let sleeps = sleep_at_random(SEED, 100_000, ms(2000), Duration::ZERO);
        assert_eq!(sleeps.len(), 100_000);
        let early = sleeps.iter().filter(|sleep| sleep.woke < sleep.earliest).count();
        assert_eq!(early, 0, "none may be early, seed {SEED:#x}");
        if cfg!(not(hard_switch)) {
            assert_in_order(&sleeps, SEED);
        }
    });
}

/// Nobody woke after one whose deadline was certainly later.
fn assert_in_order(sleeps: &[Sleep], seed: u64) {
    let mut latest_so_far = sleeps[0].earliest;
    for (place, sleep) in sleeps.iter().enumerate() {
        assert!(
            latest_so_far <= sleep.latest,
            "number {place} was {:?} behind one that was due later, seed {seed:#x}",
            latest_so_far - sleep.latest
        );
        latest_so_far = latest_so_far.max(sleep.earliest);
    }
}

/// As many deadlines in the past as there are when the hub comes to look.
#[cfg(not(hard_switch))] // asserts the order of what is woken in one turn
#[test]
fn those_that_are_overdue_together_wake_in_order() {
    const SEED: u64 = 0x5EED_0002;
    within(MINUTE, || {
        let sleeps = sleep_at_random(SEED, 1000, ms(50), ms(60));
        assert_in_order(&sleeps, SEED);
    });
}

/// H7: of equal deadlines the first to be started comes first.
#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn equals_wake_in_the_order_in_which_they_began() {
    within(MINUTE, || {
        let log = util::Log::new();
        // The same length started one after the other: equal, or later by a moment.
        let all: Vec<_> = (0..100)
            .map(|n| {
                let log = log.clone();
                spawn(move || {
                    sleep(ms(3));
                    log.say(n);
                })
            })
            .collect();
        joinall(&all);
        log.assert_is((0..100).map(|n| n.to_string()));
    });
}

#[test]
fn short_sleeps_are_not_early() {
    const SEED: u64 = 0x5EED_0003;
    within(MINUTE, || {
        let mut random = Lcg(SEED);
        for _ in 0..500 {
            let length = random.duration_below(ms(2));
            let start = Instant::now();
            sleep(length);
            let slept = start.elapsed();
            assert!(slept >= length, "{slept:?} instead of {length:?}, seed {SEED:#x}");
        }
    });
}

/// A timer that comes to stand before the one the hub is waiting for.
#[test]
fn a_nearer_timer_is_not_forgotten_for_a_farther_one() {
    within(MINUTE, || {
        let far = spawn(|| sleep(HOUR));
        until_parked(far.id());
        let near = spawn_later(ms(2), || spawn(|| sleep(ms(1))).get());
        near.get().unwrap().unwrap();
        assert!(!far.is_finished());
    });
}

#[test]
fn a_sleeper_in_a_loop_is_never_early() {
    within(MINUTE, || {
        let all: Vec<_> = (1..=10)
            .map(|n| {
                spawn(move || {
                    let start = Instant::now();
                    for round in 1..=10 {
                        sleep(ms(n));
                        assert!(start.elapsed() >= ms(n) * round);
                    }
                })
            })
            .collect();
        for greenlet in all {
            greenlet.get().unwrap();
        }
    });
}

/// Far ones, among which the hub has looked for the first while it slept, are not in the way.
#[test]
fn short_ones_wake_in_order_among_many_that_are_far() {
    const SEED: u64 = 0x5EED_0006;
    within(2 * MINUTE, || {
        let mut random = Lcg(SEED);
        let far: Vec<_> =
            (0..1000).map(|_| spawn_later(HOUR + random.duration_below(HOUR), || ())).collect();
        for first in far.iter().take(10) {
            // The first of the far ones is another each time, and nothing else is left to wait for.
            first.kill();
            sleep(ms(2));
            let sleeps = sleep_at_random(SEED + 1, 1000, ms(20), Duration::ZERO);
            assert!(sleeps.iter().all(|sleep| sleep.woke >= sleep.earliest));
            if cfg!(not(hard_switch)) {
                assert_in_order(&sleeps, SEED);
            }
        }
        assert!(far[10..].iter().all(|greenlet| !greenlet.is_finished()));
        killall(&far);
    });
}

// ------------------------------------------------------------------ cancellation

/// Timers that were not needed after all are gone: nothing is left that could wake anybody.
#[test]
fn ten_thousand_cancelled_timers_leave_nothing() {
    const SEED: u64 = 0x5EED_0004;
    within(MINUTE, || {
        let mut random = Lcg(SEED);
        let living = Living::new();
        let sleepers: Vec<_> = (0..10_000)
            .map(|_| {
                let (token, length) = (living.token(), HOUR + random.duration_below(HOUR));
                spawn(move || {
                    let _token = token;
                    sleep(length);
                })
            })
            .collect();
        until_parked(sleepers.last().unwrap().id());
        killall(&sleepers);
        assert_eq!(living.count(), 0);
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

/// Cancelled and kept, all mixed: those that are kept fire, and those alone.
#[test]
fn cancelled_among_kept() {
    const SEED: u64 = 0x5EED_0005;
    within(MINUTE, || {
        let mut random = Lcg(SEED);
        let fired = Rc::new(Cell::new(0));
        let (mut kept, mut cancelled) = (Vec::new(), Vec::new());
        for _ in 0..2000 {
            let fired = fired.clone();
            let length = ms(50) + random.duration_below(ms(50));
            let later = spawn_later(length, move || fired.set(fired.get() + 1));
            if random.next() % 2 == 0 { &mut kept } else { &mut cancelled }.push(later);
        }
        killall(&cancelled);
        joinall(&kept);
        assert_eq!(fired.get(), kept.len());
        sleep(ms(60));
        assert_eq!(fired.get(), kept.len());
    });
}

/// Timers that are set and taken back at once, as a server does for every request.
#[test]
fn timeouts_that_never_fire() {
    within(MINUTE, || {
        let all: Vec<_> = (0..100)
            .map(|_| {
                spawn(|| {
                    for round in 0..100 {
                        let ended = with_timeout(HOUR, || {
                            if round % 10 == 0 {
                                sleep(Duration::from_micros(10));
                            }
                            round
                        });
                        assert_eq!(ended, Ok(round));
                    }
                })
            })
            .collect();
        for greenlet in all {
            greenlet.get().unwrap();
        }
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}
