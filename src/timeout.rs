//! Time: sleeping, letting others run, and limits to how long something may take.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Cause, Elapsed, Interruption, TimeoutId};
use crate::hub::{self, TaskId, TimerKey};

/// Lets at least `d` pass while others run. `sleep(Duration::ZERO)` is [`yield_now`].
///
/// Never early; late by what the others take. Sleeps below a millisecond are true to some 0.1 ms.
/// A duration beyond what the clock can tell lasts for thirty years.
///
/// # Examples
///
/// ```
/// use greenloom::{sleep, spawn};
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let other = spawn(|| sleep(Duration::from_millis(20)));
/// sleep(Duration::from_millis(20)); // both at the same time
/// other.join();
/// assert!(start.elapsed() >= Duration::from_millis(20));
/// ```
#[track_caller]
pub fn sleep(d: Duration) {
    if d.is_zero() {
        return yield_now();
    }
    finish(hub::sleep_until(hub::after(d)).map(|_| ()));
}

/// Lets every other greenlet that is ready run once. gevent's `sleep(0)`.
#[inline(always)]
#[track_caller]
pub fn yield_now() {
    if let Err(interruption) = hub::yield_now() {
        hub::raise(interruption);
    }
}

/// Returns when nothing else is ready: for work that should only use spare time.
#[track_caller]
pub fn idle() {
    finish(hub::idle());
}

/// These have nothing to return: they unwind, or, if they unwind already, return at once.
#[track_caller]
fn finish(result: Result<(), Interruption>) {
    if let Err(interruption) = result {
        hub::raise(interruption);
    }
}

/// Runs `f`; if it still waits for something when `d` has passed, unwinds it and returns `Err`.
///
/// Only its own timeout is recognised: one from further out passes through, so nesting works. What
/// `f` does without waiting is not cut short, and work that is done in the same moment wins.
/// gevent's `with Timeout(d, False)`.
///
/// # Errors
///
/// [`Elapsed`] if the time was over.
///
/// # Examples
///
/// ```
/// use greenloom::{Elapsed, sleep, with_timeout};
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// assert_eq!(with_timeout(ms(5), || sleep(ms(10_000))), Err(Elapsed));
/// assert_eq!(with_timeout(ms(10_000), || "done"), Ok("done"));
/// ```
pub fn with_timeout<T>(d: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    Timeout::start(d).catch(f)
}

/// A limit to how long the current greenlet may take, as a guard: the raw form of
/// [`with_timeout`].
///
/// When the time is over it unwinds the greenlet that started it, at its present or first wait.
/// Dropping or cancelling it disarms it. It has an identity: [`catch`](Timeout::catch) takes its
/// own only. One that nothing catches ends its greenlet like a panic with [`Elapsed`] inside.
///
/// # Examples
///
/// ```
/// use greenloom::{Timeout, sleep};
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let whole = Timeout::start(ms(10));
/// let result = whole.catch(|| {
///     loop {
///         let part = Timeout::start(ms(1));
///         let _ = part.catch(|| sleep(ms(10_000))); // again and again, until `whole` is over
///     }
/// });
/// assert!(result.is_err());
/// ```
#[must_use = "a timeout is disarmed when it is dropped"]
pub struct Timeout {
    /// `None` if it was started when the hub had ended: nobody waits then.
    armed: Option<(TaskId, TimeoutId, TimerKey)>,
    _local: PhantomData<Rc<()>>,
}

impl Timeout {
    /// Starts it, from now. `Duration::ZERO` is over as soon as the greenlet waits for anything
    /// that is not ready.
    pub fn start(d: Duration) -> Timeout {
        Timeout { armed: hub::start_timeout(hub::after(d)), _local: PhantomData }
    }

    /// Disarms it. Nothing if it has been raised or cancelled already.
    pub fn cancel(&self) {
        if let Some((task, id, key)) = self.armed {
            hub::cancel_timeout(task, id, key);
        }
    }

    /// Will it still be raised?
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.armed.is_some_and(|(task, id, key)| hub::timeout_is_pending(task, id, key))
    }

    /// Runs `f`, catching this timeout alone.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if this timeout ended `f`.
    pub fn catch<T>(&self, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
        let result = {
            let _catching = hub::catching();
            panic::catch_unwind(AssertUnwindSafe(f))
        };
        #[cfg(feature = "monkey")]
        if result.is_ok() && self.was_postponed() {
            // Where nothing could be unwound it has ended a wait all the same, by an error, and what
            // `f` has made of that is not the result of its work.
            return Err(Elapsed);
        }
        result.map_err(|payload| match payload.downcast_ref::<Cause>() {
            Some(Cause::TimedOut(id)) if self.is(*id) => Elapsed,
            _ => panic::resume_unwind(payload),
        })
    }
}

impl Timeout {
    fn is(&self, id: TimeoutId) -> bool {
        self.armed.is_some_and(|(_, ours, _)| ours == id)
    }

    #[cfg(feature = "monkey")]
    fn was_postponed(&self) -> bool {
        self.armed.is_some_and(|(_, id, _)| hub::was_postponed(id))
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("is_pending", &self.is_pending()).finish()
    }
}
