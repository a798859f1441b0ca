//! `RLock`: one at a time, and he again.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::holding::must_not_wait;
use super::lock::Lock;

const LOCK: &str = "lock of the RLock";

/// A reentrant lock: the greenlet that holds it may lock it again, and it is free when all of its
/// guards are gone.
///
/// Since there may be several guards, they give `&T`; put a `Cell` or a `RefCell` inside for what is
/// to change. First come, first served; not poisoned. `threading.RLock`.
///
/// # Examples
///
/// ```
/// use greenloom::sync::RLock;
/// use std::cell::Cell;
///
/// struct Account(RLock<Cell<i32>>);
///
/// impl Account {
///     fn add(&self, amount: i32) {
///         let balance = self.0.lock();
///         balance.set(balance.get() + amount);
///     }
///     fn add_with_bonus(&self, amount: i32) {
///         let _whole = self.0.lock();
///         self.add(amount); // locks again
///         self.add(1);
///     }
/// }
///
/// let account = Account(RLock::new(Cell::new(0)));
/// account.add_with_bonus(10);
/// assert_eq!(account.0.lock().get(), 11);
/// ```
pub struct RLock<T: ?Sized> {
    lock: Lock,
    /// How often its owner holds it.
    depth: Cell<usize>,
    value: T,
}

impl<T> RLock<T> {
    /// One that guards `t`, and is free.
    #[track_caller]
    pub fn new(t: T) -> RLock<T> {
        RLock { lock: Lock::new(), depth: Cell::new(0), value: t }
    }

    /// What it guards.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: ?Sized> RLock<T> {
    /// Waits until it is the caller's, unless it is already.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn lock(&self) -> RLockGuard<'_, T> {
        match self.lock_within(None) {
            Some(guard) => guard,
            None => must_not_wait("RLock", self.lock.holding().site(), "try_lock"),
        }
    }

    /// As [`lock`](RLock::lock), if it is free or the caller's. It never waits, and never switches.
    pub fn try_lock(&self) -> Option<RLockGuard<'_, T>> {
        (self.lock.is_ours() || self.lock.try_acquire()).then(|| self.guard())
    }

    /// As [`lock`](RLock::lock), but waits at most so long; not at all while the caller unwinds.
    #[track_caller]
    pub fn lock_timeout(&self, d: Duration) -> Option<RLockGuard<'_, T>> {
        self.lock_within(Some(d))
    }

    #[track_caller]
    fn lock_within(&self, limit: Option<Duration>) -> Option<RLockGuard<'_, T>> {
        (self.lock.is_ours() || self.lock.acquire(&LOCK, limit)).then(|| self.guard())
    }

    /// Does somebody hold it?
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// What it guards, without locking: the caller has it all to himself.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// The lock is ours.
    fn guard(&self) -> RLockGuard<'_, T> {
        self.depth.set(self.depth.get() + 1);
        RLockGuard { lock: self }
    }
}

// As std's locks are; and a panic does not even poison it.
impl<T: ?Sized> UnwindSafe for RLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RLock<T> {}

impl<T: Default> Default for RLock<T> {
    #[track_caller]
    fn default() -> RLock<T> {
        RLock::new(T::default())
    }
}

impl<T> From<T> for RLock<T> {
    #[track_caller]
    fn from(t: T) -> RLock<T> {
        RLock::new(t)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock").field("value", &&self.value).finish_non_exhaustive()
    }
}

/// Holds an [`RLock`] until it, and every other guard of the same greenlet, is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RLockGuard<'a, T: ?Sized> {
    lock: &'a RLock<T>,
}

impl<T: ?Sized> Deref for RLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lock.value
    }
}

impl<T: ?Sized> Drop for RLockGuard<'_, T> {
    fn drop(&mut self) {
        let depth = self.lock.depth.get() - 1;
        self.lock.depth.set(depth);
        if depth == 0 {
            self.lock.lock.release();
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
