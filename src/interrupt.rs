//! Holding interruptions back, and catching them.
//!
//! A kill or a [`Timeout`](crate::Timeout) unwinds the greenlet from the call that waits, as a
//! panic would, but with a payload that prints nothing. Code that must not be cut in two runs under
//! [`shield`]; clean-up that has to wait goes after [`catch_interrupt`].

use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use crate::error::Cause;
use crate::hub::{self, TaskId};

/// Runs `f` with kills and timeouts held back until it returns; then they are raised at the next
/// wait.
///
/// Timeouts that are started inside work inside. A shield holds as long as its thread lives: when
/// the thread ends, what waits under it is unwound all the same.
///
/// # Examples
///
/// ```
/// use greenloom::{idle, shield, sleep, spawn};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// let written = Rc::new(Cell::new(0));
/// let seen = Rc::clone(&written);
/// let greenlet = spawn(move || {
///     shield(|| {
///         seen.set(1);
///         sleep(Duration::from_millis(1)); // killed here, and none the wiser
///         seen.set(2);
///     });
///     sleep(Duration::from_secs(10)); // raised here
///     seen.set(3);
/// });
/// idle(); // let it begin
/// greenlet.kill();
/// assert_eq!(written.get(), 2);
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    let _shield = hub::shield();
    f()
}

/// Catches a kill, or a timeout from outside, that passes through `f`.
///
/// Afterwards the greenlet may wait again, to clean up. Then it should call
/// [`Interrupt::resume`]. A kill whose `Interrupt` is dropped instead is raised again at the next
/// wait.
///
/// # Errors
///
/// The interrupt, if one ended `f`. Panics are not caught.
///
/// # Examples
///
/// ```
/// use greenloom::{catch_interrupt, idle, sleep, spawn};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// let said_goodbye = Rc::new(Cell::new(false));
/// let done = Rc::clone(&said_goodbye);
/// let greenlet = spawn(move || {
///     let work = catch_interrupt(|| sleep(Duration::from_secs(10)));
///     if let Err(interrupt) = work {
///         sleep(Duration::from_millis(1)); // say goodbye to a peer, say
///         done.set(true);
///         interrupt.resume();
///     }
/// });
/// idle(); // let it begin
/// greenlet.kill();
/// assert!(said_goodbye.get());
/// ```
pub fn catch_interrupt<T>(f: impl FnOnce() -> T) -> Result<T, Interrupt> {
    let result = {
        let _catching = hub::catching();
        panic::catch_unwind(AssertUnwindSafe(f))
    };
    result.map_err(|payload| match payload.downcast::<Cause>() {
        Ok(cause) => Interrupt::caught(*cause),
        Err(panic) => panic::resume_unwind(panic),
    })
}

/// A kill or a timeout on its way through a greenlet, caught.
#[must_use = "dropping it swallows a timeout, and raises a kill again at the next wait"]
pub struct Interrupt {
    cause: Cause,
    task: TaskId,
    _local: PhantomData<Rc<()>>,
}

impl Interrupt {
    fn caught(cause: Cause) -> Interrupt {
        if cause == Cause::Killed {
            hub::hold_kill();
        }
        Interrupt { cause, task: hub::current().0, _local: PhantomData }
    }

    /// Is it a kill?
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.cause == Cause::Killed
    }

    /// Is it a timeout, of a scope further out?
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, Cause::TimedOut(_))
    }

    /// Goes on unwinding.
    pub fn resume(self) -> ! {
        let cause = self.cause;
        drop(self);
        hub::raise_cause(cause)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if self.cause == Cause::Killed {
            hub::release_kill(self.task);
        }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_kill() { "Kill" } else { "Timeout" };
        f.debug_tuple("Interrupt").field(&kind).finish()
    }
}
