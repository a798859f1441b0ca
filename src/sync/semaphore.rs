//! `Semaphore` and `BoundedSemaphore`: so many at a time.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::holding::must_not_wait;
use crate::error::{TooManyReleases, caught};
use crate::hub::{self, Reason, Wake};
use crate::trace;
use crate::wait::sealed::HasLine;
use crate::wait::{self, WaitList, Waitable};

/// Permits, and those who want one.
///
/// While anybody waits for a permit, there is none: each that comes back is handed on at once.
struct Permits {
    available: Cell<usize>,
    bound: usize,
    waiters: WaitList,
    /// Those who only want to know that there is one.
    watchers: WaitList,
    what: &'static str,
    verb: &'static &'static str,
    site: &'static Location<'static>,
}

impl Permits {
    #[inline]
    fn try_take(&self) -> bool {
        match self.available.get() {
            0 => false,
            permits => {
                self.available.set(permits - 1);
                true
            }
        }
    }

    /// False: the time is over, or the caller unwinds.
    #[inline(always)]
    #[track_caller]
    fn take(&self, limit: Option<Duration>) -> bool {
        if self.available.get() > 0 {
            wait::spend();
            if self.try_take() {
                return true;
            }
        }
        self.wait(limit)
    }

    #[inline(always)]
    #[track_caller]
    fn wait(&self, limit: Option<Duration>) -> bool {
        let reason = Reason::new(self.verb).made_at(self.site);
        match self.waiters.wait_as(0, reason, limit.map(hub::after)) {
            Ok(Wake::Ready(_)) => true, // whoever gave it back has given it to us
            Ok(Wake::Elapsed) => false,
            Err(interruption) => {
                hub::raise(interruption);
                false
            }
        }
    }

    #[inline(always)]
    #[track_caller]
    fn acquire(&self) -> Permit<'_> {
        if !self.take(None) {
            must_not_wait(self.what, self.site, "try_acquire");
        }
        Permit { permits: self }
    }

    /// One more: to the first who waits for one.
    #[inline]
    fn put_back(&self) -> Result<(), TooManyReleases> {
        let available = self.available.get();
        if available >= self.bound {
            return Err(TooManyReleases);
        }
        if !self.waiters.wake_one() {
            self.available.set(available + 1);
            if !self.watchers.is_empty() {
                self.watchers.wake_all();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.what).field("available", &self.available.get()).finish_non_exhaustive()
    }
}

/// Permits for so many at a time: the number of greenlets that may do something together.
///
/// A permit that comes back goes to the first who waits for one. As a [`Waitable`] it is ready while
/// a permit is there to be taken; that takes none. `threading.Semaphore`.
///
/// # Examples
///
/// ```
/// use greenloom::sync::Semaphore;
/// use greenloom::{scope, yield_now};
/// use std::cell::Cell;
///
/// let (permits, inside, most) = (Semaphore::new(2), Cell::new(0), Cell::new(0));
/// scope(|s| {
///     for _ in 0..10 {
///         s.spawn(|| {
///             let _permit = permits.acquire();
///             inside.set(inside.get() + 1);
///             most.set(most.get().max(inside.get()));
///             yield_now();
///             inside.set(inside.get() - 1);
///         });
///     }
/// });
/// assert_eq!(most.get(), 2);
/// ```
pub struct Semaphore {
    permits: Permits,
}

impl Semaphore {
    /// One with so many permits. None at all is a start, too: for those who wait until others
    /// [`release`](Semaphore::release).
    #[must_use]
    #[track_caller]
    pub fn new(permits: usize) -> Semaphore {
        Semaphore {
            permits: Permits {
                available: Cell::new(permits),
                bound: usize::MAX,
                waiters: WaitList::default(),
                watchers: WaitList::default(),
                what: "Semaphore",
                verb: &"acquire of the Semaphore",
                site: Location::caller(),
            },
        }
    }

    /// Waits for a permit, which is given back when the [`Permit`] is dropped.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[inline(always)] // down to the switch: see `hub::yield_now`
    #[track_caller]
    pub fn acquire(&self) -> Permit<'_> {
        self.permits.acquire()
    }

    /// A permit, if there is one. It never waits, and never switches.
    #[inline]
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.permits.try_take().then(|| Permit { permits: &self.permits })
    }

    /// As [`acquire`](Semaphore::acquire), but waits at most so long; not at all while the caller
    /// unwinds.
    #[track_caller]
    pub fn acquire_timeout(&self, d: Duration) -> Option<Permit<'_>> {
        self.permits.take(Some(d)).then(|| Permit { permits: &self.permits })
    }

    /// One permit more, to the first who waits for one. It never switches.
    ///
    /// For permits that were [forgotten](Permit::forget), and for code in which one greenlet
    /// acquires and another releases.
    pub fn release(&self) {
        // usize::MAX permits are as good as one more.
        let _ = self.permits.put_back();
    }

    /// How many permits are there to be taken.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.available.get()
    }
}

/// As [`Semaphore`], for permits that come back as often as they were taken: one that comes back too
/// often is an error. `threading.BoundedSemaphore`.
///
/// # Examples
///
/// ```
/// use greenloom::sync::{BoundedSemaphore, TooManyReleases};
///
/// let permits = BoundedSemaphore::new(1);
/// permits.acquire().forget();
/// assert_eq!(permits.release(), Ok(()));
/// assert_eq!(permits.release(), Err(TooManyReleases));
/// ```
pub struct BoundedSemaphore {
    permits: Permits,
}

impl BoundedSemaphore {
    /// One with so many permits, and never more.
    #[must_use]
    #[track_caller]
    pub fn new(permits: usize) -> BoundedSemaphore {
        BoundedSemaphore {
            permits: Permits {
                available: Cell::new(permits),
                bound: permits,
                waiters: WaitList::default(),
                watchers: WaitList::default(),
                what: "BoundedSemaphore",
                verb: &"acquire of the BoundedSemaphore",
                site: Location::caller(),
            },
        }
    }

    /// As [`Semaphore::acquire`].
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn acquire(&self) -> Permit<'_> {
        self.permits.acquire()
    }

    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.permits.try_take().then(|| Permit { permits: &self.permits })
    }

    /// As [`Semaphore::acquire_timeout`].
    #[track_caller]
    pub fn acquire_timeout(&self, d: Duration) -> Option<Permit<'_>> {
        self.permits.take(Some(d)).then(|| Permit { permits: &self.permits })
    }

    /// Gives back a permit that was [forgotten](Permit::forget). It never switches.
    ///
    /// # Errors
    ///
    /// If all permits are there already.
    pub fn release(&self) -> Result<(), TooManyReleases> {
        self.permits.put_back()
    }

    /// How many permits are there to be taken.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.available.get()
    }
}

/// A permit of a [`Semaphore`] or [`BoundedSemaphore`], given back when it is dropped.
#[must_use = "the permit is given back when it is dropped"]
pub struct Permit<'a> {
    permits: &'a Permits,
}

impl Permit<'_> {
    /// Keeps the permit taken. It is given back by `release`.
    pub fn forget(self) {
        #[expect(clippy::mem_forget, reason = "its destructor is what this is to prevent")]
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.permits.put_back().is_err() {
            // Somebody has released it besides: the bound stands.
            caught(|| trace::permit_refused(self.permits.site));
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

macro_rules! waitable_for_a_permit {
    ($($semaphore:ident)+) => {$(
        impl HasLine for $semaphore {
            fn line(&self) -> &WaitList {
                &self.permits.watchers
            }
        }

        impl Waitable for $semaphore {
            fn is_ready(&self) -> bool {
                self.available() > 0
            }
        }

        impl UnwindSafe for $semaphore {}
        impl RefUnwindSafe for $semaphore {}

        impl fmt::Debug for $semaphore {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.permits.fmt(f)
            }
        }
    )+};
}

waitable_for_a_permit!(Semaphore BoundedSemaphore);
