//! `Condvar`: waiting for a change to what a mutex guards.

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use super::holding::must_not_wait;
use super::mutex::MutexGuard;
use crate::hub::{self, Reason, Wake};
use crate::wait::WaitList;

/// Waits, with a [`Mutex`](super::Mutex) released, until somebody says that what it guards has changed.
///
/// A notification wakes those who wait at that moment, in order of arrival; nobody wakes without
/// one. One that reaches a waiter who is killed or timed out before he has the lock again goes to
/// the next. `threading.Condition`.
///
/// # Examples
///
/// ```
/// use greenloom::sync::{Condvar, Mutex};
/// use greenloom::scope;
///
/// let (stock, delivered) = (Mutex::new(0), Condvar::new());
/// scope(|s| {
///     s.spawn(|| {
///         let mut stock = delivered.wait_while(stock.lock(), |stock| *stock < 3);
///         *stock -= 3;
///     });
///     for _ in 0..3 {
///         *stock.lock() += 1;
///         delivered.notify_one();
///     }
/// });
/// assert_eq!(stock.into_inner(), 0);
/// ```
pub struct Condvar {
    line: WaitList,
    site: &'static Location<'static>,
}

/// What those who wait are woken with: a notification for one is passed on if he cannot make use of
/// it; one for all is not, because nobody but those who waited then is meant.
const ONE: u32 = 0;
const ALL: u32 = 1;

/// How a wait ended that was not interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Notified,
    /// By the time that was over, or because the caller unwinds.
    No,
}

impl Condvar {
    /// One that nobody waits on.
    #[must_use]
    #[track_caller]
    pub fn new() -> Condvar {
        Condvar { line: WaitList::default(), site: Location::caller() }
    }

    /// Releases the mutex, waits for a notification, and takes the mutex again.
    ///
    /// A kill, or a timeout from outside, that ends the wait is raised when the mutex has been taken
    /// again. While the caller unwinds, it returns at once, with the mutex held all along.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// Waits until `condition` is false of what the mutex guards. It is asked first before the wait,
    /// then at each notification, with the mutex held. While the caller unwinds, it is asked once.
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        let mut told = Told::Notified;
        while told == Told::Notified && condition(&mut guard) {
            (guard, told) = self.wait_until(guard, None);
        }
        guard
    }

    /// As [`wait`](Condvar::wait), but at most so long, and however long it takes to get the mutex
    /// again. True: notified. False: the time was over, or the caller unwinds.
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        d: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, told) = self.wait_until(guard, Some(hub::after(d)));
        (guard, told == Told::Notified)
    }

    /// As [`wait_while`](Condvar::wait_while), but at most so long in all. True: `condition` is
    /// false. False: it is still true, and the time is over or the caller unwinds.
    #[track_caller]
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        d: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        let deadline = hub::after(d);
        let mut told = Told::Notified;
        while condition(&mut guard) {
            if told == Told::No {
                return (guard, false);
            }
            (guard, told) = self.wait_until(guard, Some(deadline));
        }
        (guard, true)
    }

    /// Wakes the first who waits, if anybody does. It never switches; the mutex need not be held.
    pub fn notify_one(&self) {
        self.line.wake_one();
    }

    /// Wakes the first `n` who wait, or as many as there are.
    pub fn notify(&self, n: usize) {
        let mut left = n;
        while left > 0 && self.line.wake_one() {
            left -= 1;
        }
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.line.wake_all_with(ALL);
    }

    #[track_caller]
    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, T>, Told) {
        if std::thread::panicking() {
            return (guard, Told::No);
        }
        let mutex = guard.mutex();
        drop(guard); // nobody runs before we stand in line
        let reason = Reason::new(&"wait of the Condvar").made_at(self.site);
        let woken = self.line.wait_as(ONE, reason, deadline);
        let interrupted = mutex.raw().acquire_again(&"lock of the Mutex", woken.err());
        let Some(interruption) = interrupted else {
            let told = if woken == Ok(Wake::Elapsed) { Told::No } else { Told::Notified };
            return (mutex.guard(), told);
        };
        if let Ok(Wake::Ready(ONE)) = woken {
            self.notify_one(); // it was for somebody who can make use of it
        }
        // Held if that can be, so that it is released like any other guard.
        let guard = mutex.raw().is_ours().then(|| mutex.guard());
        hub::raise(interruption);
        match guard {
            Some(guard) => (guard, Told::No),
            None => must_not_wait("Mutex", mutex.raw().holding().site(), "catch_interrupt"),
        }
    }
}

impl Default for Condvar {
    #[track_caller]
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
