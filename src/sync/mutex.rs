//! `Mutex`: one at a time.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::holding::must_not_wait;
use super::lock::Lock;

const LOCK: &str = "lock of the Mutex";

/// A value that one greenlet at a time can use, across waits.
///
/// First come, first served; not poisoned; not reentrant (see [`RLock`](super::RLock)). Share it by
/// `Rc`, or lend it to a [`scope`](crate::scope). `threading.Lock`, with what it guards inside.
///
/// A greenlet that locks a mutex it holds already waits for itself. If nothing else can go on, the
/// report says so: [`BlocksForever`](crate::BlocksForever) names each lock that is waited for, by
/// the place it was made at, and who holds it.
///
/// # Examples
///
/// ```
/// use greenloom::sync::Mutex;
/// use greenloom::{scope, yield_now};
///
/// let balance = Mutex::new(100);
/// scope(|s| {
///     for _ in 0..10 {
///         s.spawn(|| {
///             let mut balance = balance.lock();
///             let before = *balance;
///             yield_now(); // others run, but not with the balance
///             *balance = before - 10;
///         });
///     }
/// });
/// assert_eq!(balance.into_inner(), 0);
/// ```
pub struct Mutex<T: ?Sized> {
    lock: Lock,
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// One that guards `t`, and is free.
    #[track_caller]
    pub fn new(t: T) -> Mutex<T> {
        Mutex { lock: Lock::new(), value: RefCell::new(t) }
    }

    /// What it guards. Nobody can hold it: it is not borrowed.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until it is the caller's, and returns a guard that releases it when it is dropped.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if !self.lock.acquire(&LOCK, None) {
            must_not_wait("Mutex", self.lock.holding().site(), "try_lock");
        }
        self.guard()
    }

    /// As [`lock`](Mutex::lock), if it is free. It never waits, and never switches.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.lock.try_acquire().then(|| self.guard())
    }

    /// As [`lock`](Mutex::lock), but waits at most so long; not at all while the caller unwinds.
    #[track_caller]
    pub fn lock_timeout(&self, d: Duration) -> Option<MutexGuard<'_, T>> {
        self.lock.acquire(&LOCK, Some(d)).then(|| self.guard())
    }

    /// Does somebody hold it?
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// What it guards, without locking: the caller has it all to himself.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    pub(super) fn raw(&self) -> &Lock {
        &self.lock
    }

    /// The lock is ours.
    #[inline]
    pub(super) fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { value: self.value.borrow_mut(), mutex: self }
    }
}

// As std's is; and a panic does not even poison it.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    #[track_caller]
    fn from(t: T) -> Mutex<T> {
        Mutex::new(t)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        // With the lock held: what is shown may wait, and so may whoever writes it down.
        match self.try_lock() {
            Some(guard) => shown.field("value", &&*guard),
            None => shown.field("value", &format_args!("<locked>")),
        };
        shown.finish_non_exhaustive()
    }
}

/// Holds a [`Mutex`] until it is dropped.
#[must_use = "the mutex is released when the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped after `drop` below has handed the lock on; nobody runs in between.
    value: RefMut<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.lock.release();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
