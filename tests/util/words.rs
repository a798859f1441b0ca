//! Words that tests of locks, events and the like have in common.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use greenloom::{Elapsed, Greenlet, greenlet_local, sleep, spawn, with_timeout};

use super::{
    End, HOUR, at_drop, blocks_forever, end_of, ms, reason_of, reports, settle, stuck, swallow,
    until, until_parked,
};

/// Spawns `f` with a handle of its own.
pub(crate) fn with<H, T>(handle: &H, f: impl FnOnce(&H) -> T + 'static) -> Greenlet<T>
where
    H: Clone + 'static,
    T: 'static,
{
    let handle = handle.clone();
    spawn(move || f(&handle))
}

/// As [`with`], and lets it come to its wait.
pub(crate) fn parked<H, T>(handle: &H, f: impl FnOnce(&H) -> T + 'static) -> Greenlet<T>
where
    H: Clone + 'static,
    T: 'static,
{
    let greenlet = with(handle, f);
    until_parked(greenlet.id());
    greenlet
}

/// In how many of some tries others have a turn while `f` runs.
pub(crate) fn switches_of(tries: usize, f: impl Fn()) -> usize {
    let switches = |_: &usize| {
        settle();
        let ran = Rc::new(Cell::new(false));
        let other = with(&ran, |ran| ran.set(true));
        f();
        let switched = ran.get();
        other.join();
        switched
    };
    (0..tries).filter(switches).count()
}

/// `f` gives nobody a turn.
#[track_caller]
pub(crate) fn never_switches(f: impl Fn()) {
    assert_eq!(switches_of(10, f), 0);
}

/// `f` need not give anybody a turn. (H5: from time to time it does.)
#[cfg(not(hard_switch))] // where every such call does
#[track_caller]
pub(crate) fn need_not_switch(f: impl Fn()) {
    const TRIES: usize = 100;
    assert!(switches_of(TRIES, f) < TRIES);
}

/// The ways in which a greenlet is unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwound {
    Panic,
    Kill,
    Timeout,
}

impl Unwound {
    pub(crate) const ALL: [Unwound; 3] = [Unwound::Panic, Unwound::Kill, Unwound::Timeout];

    /// Runs `f` in a greenlet which is then unwound; what `f` returned is dropped by that.
    pub(crate) fn after<T>(self, f: impl FnOnce() -> T + 'static) {
        let greenlet = spawn(move || {
            let returned = f();
            let end = move || {
                let _dropped = returned;
                match self {
                    Unwound::Panic => panic!("on purpose"),
                    Unwound::Kill | Unwound::Timeout => sleep(HOUR),
                }
            };
            match self {
                Unwound::Timeout => assert_eq!(with_timeout(ms(1), end), Err(Elapsed)),
                Unwound::Panic | Unwound::Kill => end(),
            }
        });
        until(|| greenlet.is_finished() || reason_of(greenlet.id()).as_deref() == Some("sleep"));
        match self {
            Unwound::Panic => {
                assert_eq!(end_of(greenlet), End::Panicked(String::from("on purpose")));
                assert_eq!(reports().len(), 1);
            }
            Unwound::Kill => {
                greenlet.kill();
                assert_eq!(end_of(greenlet), End::Killed);
            }
            Unwound::Timeout => greenlet.get().unwrap(),
        }
    }
}

/// Runs `f` in the destructor of a greenlet that unwinds.
pub(crate) fn while_unwinding(f: impl Fn() + Clone + 'static) {
    for unwound in Unwound::ALL {
        // What fails inside must not leave the destructor: that would end the process.
        let failed = Rc::new(RefCell::new(None));
        let (f, fails) = (f.clone(), failed.clone());
        unwound.after(move || at_drop(move || *fails.borrow_mut() = swallow(f).err()));
        if let Some(payload) = failed.take() {
            resume_unwind(payload);
        }
    }
}

greenlet_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = RefCell::new(Vec::new());
}

/// Runs `f` when the locals of the current greenlet are dropped.
pub(crate) fn with_the_locals(f: impl FnOnce() + 'static) {
    KEPT.with(|kept| kept.borrow_mut().push(Box::new(at_drop(f))));
}

/// Fails unless nothing is left that could ever wake anybody.
#[track_caller]
pub(crate) fn nothing_is_left() {
    let stuck = stuck();
    blocks_forever(|| stuck.join());
    stuck.kill();
}

/// Knuth's linear congruential generator: random enough for who is killed when.
pub(crate) struct Lcg {
    pub(crate) seed: u64,
    state: u64,
}

impl Lcg {
    /// The seed is moved by that of the run (`GREENLOOM_SEED`), if it has one.
    pub(crate) fn new(seed: u64) -> Lcg {
        let run = std::env::var("GREENLOOM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
        let seed = seed.wrapping_add(run.unwrap_or(0));
        Lcg { seed, state: seed }
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn micros_below(&mut self, n: u64) -> Duration {
        Duration::from_micros(self.below(n))
    }
}
