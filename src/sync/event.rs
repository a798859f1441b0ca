//! `Event`: a flag that one can wait for.

use std::cell::Cell;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use crate::hub::{self, Reason, Wake};
use crate::wait::sealed::HasLine;
use crate::wait::{self, WaitList, Waitable};

/// The number in line of those who wait by [`Event::wait`], and say when they have run. Those of
/// `wait_any`, `joinall` and the like do not.
const WAITER: u32 = u32::MAX / 4 + 1;

/// A flag that greenlets can wait for. A handle: clones name the same event.
///
/// [`set`](Event::set) wakes everybody who waits at that moment, in order of arrival, even if the
/// event is cleared before they run. `threading.Event`, and gevent's.
///
/// # Examples
///
/// ```
/// use greenloom::{spawn, sync::Event};
///
/// let green = Event::new();
/// let light = green.clone();
/// let car = spawn(move || {
///     light.wait();
///     "off it goes"
/// });
/// green.set();
/// assert_eq!(car.get().unwrap(), "off it goes");
/// ```
#[derive(Clone)]
pub struct Event {
    inner: Rc<Inner>,
}

struct Inner {
    is_set: Cell<bool>,
    line: WaitList,
    /// How many have been woken, and how many of those have run since.
    woken: Cell<u64>,
    resumed: Cell<u64>,
    site: &'static Location<'static>,
}

impl Event {
    /// One that is not set.
    #[must_use]
    #[track_caller]
    pub fn new() -> Event {
        let inner = Inner {
            is_set: Cell::new(false),
            line: WaitList::default(),
            woken: Cell::new(0),
            resumed: Cell::new(0),
            site: Location::caller(),
        };
        Event { inner: Rc::new(inner) }
    }

    /// Sets it, and wakes all who wait now. It never switches: the caller runs on first.
    #[inline]
    pub fn set(&self) {
        self.inner.is_set.set(true);
        if !self.inner.line.is_empty() {
            let woken = self.inner.line.wake_all_counting(WAITER);
            self.inner.woken.set(self.inner.woken.get() + u64::from(woken));
        }
    }

    /// Makes it not set. Those who were woken by an earlier `set` are woken all the same.
    #[inline]
    pub fn clear(&self) {
        self.inner.is_set.set(false);
    }

    /// Is it set?
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.inner.is_set.get()
    }

    /// Waits until it is set; returns at once if it is. (Those who have waited longer and were woken
    /// go first.) While the caller unwinds, it returns at once in any case.
    #[inline]
    #[track_caller]
    pub fn wait(&self) {
        self.wait_within(None);
    }

    /// As [`wait`](Event::wait), but at most so long. True if it was set when this was called, or at
    /// some time since; false if the time is over, or the caller unwinds.
    #[inline]
    #[track_caller]
    pub fn wait_timeout(&self, d: Duration) -> bool {
        self.wait_within(Some(d))
    }

    #[inline]
    #[track_caller]
    fn wait_within(&self, limit: Option<Duration>) -> bool {
        if self.is_set() {
            wait::spend();
            if self.inner.resumed.get() < self.inner.woken.get() {
                self.inner.let_pass();
            }
            true
        } else {
            self.inner.wait(limit)
        }
    }
}

impl Inner {
    #[track_caller]
    fn wait(&self, limit: Option<Duration>) -> bool {
        let reason = Reason::new(&"wait of the Event").made_at(self.site);
        match self.line.wait_as(WAITER, reason, limit.map(hub::after)) {
            Ok(Wake::Ready(_)) => {
                self.resumed.set(self.resumed.get() + 1);
                true
            }
            Ok(Wake::Elapsed) => self.is_set.get(), // work wins: it is not too late yet
            Err(interruption) => {
                hub::raise(interruption);
                false
            }
        }
    }

    /// Lets those go first who have been woken by now: they have waited longer.
    #[cold]
    #[track_caller]
    fn let_pass(&self) {
        let ahead = self.woken.get();
        while self.resumed.get() < ahead {
            if let Err(interruption) = hub::yield_now() {
                hub::raise(interruption);
                return;
            }
        }
    }
}

impl Default for Event {
    #[track_caller]
    fn default() -> Event {
        Event::new()
    }
}

impl UnwindSafe for Event {}
impl RefUnwindSafe for Event {}

impl HasLine for Event {
    fn line(&self) -> &WaitList {
        &self.inner.line
    }

    fn keeps_its_word(&self) -> bool {
        true
    }
}

impl Waitable for Event {
    fn is_ready(&self) -> bool {
        self.is_set()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
