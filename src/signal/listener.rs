//! `Signals`: listening without missing any.

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::number::{Set, Signal, catchable};
use super::service::{Heard, Service};
use crate::hub::{self, Reason, Wake};
use crate::wait::sealed::HasLine;
use crate::wait::{self, WaitList, Waitable};

/// Listens to signals: what comes between two waits is not missed.
///
/// Several of the same kind that come before it is looked at may count as one, as in the kernel.
/// Any number may listen to the same signal, in any number of threads, and each is told. It is an
/// iterator without end, and [`Waitable`]: ready when there is a signal to take.
///
/// # Examples
///
/// ```
/// use greenloom::signal::{self, SIGHUP, SIGTERM, Signals};
///
/// let signals = Signals::new([SIGHUP, SIGTERM])?;
/// # signal::raise(SIGHUP)?;
/// # signal::raise(SIGTERM)?;
/// for signal in &signals {
///     match signal {
///         SIGHUP => println!("reading the configuration again"),
///         _ => break,
///     }
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "it listens as long as it is not dropped"]
pub struct Signals {
    service: Rc<Service>,
    id: u64,
    heard: Rc<Heard>,
}

impl Signals {
    /// Begins to listen to these.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no signal or cannot be caught, and if there are none; else as the
    /// system says, for instance when there is no descriptor left. `Other` when the thread is
    /// ending.
    #[track_caller]
    pub fn new<I>(signals: I) -> io::Result<Signals>
    where
        I: IntoIterator,
        I::Item: TryInto<Signal, Error: std::error::Error>,
    {
        let mut wanted = Set::default();
        for signal in signals {
            wanted.insert(catchable(signal)?);
        }
        if wanted.is_empty() {
            let what = "no signal to listen to: none would ever come";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (service, id, heard) = Service::listen(wanted)?;
        Ok(Signals { service, id, heard })
    }

    /// Waits for the next. Of several that are there, the one with the lowest number. `None` at
    /// once while the caller unwinds, if there is none.
    #[track_caller]
    pub fn wait(&self) -> Option<Signal> {
        self.wait_until(None)
    }

    /// As [`wait`](Signals::wait), but at most so long.
    #[track_caller]
    pub fn wait_timeout(&self, d: Duration) -> Option<Signal> {
        self.wait_until(Some(hub::after(d)))
    }

    /// The next, if one has come.
    pub fn try_next(&self) -> Option<Signal> {
        self.service.look(); // there may be one that the greenlet has not had its turn for
        let mut pending = self.heard.pending.get();
        let next = pending.pop();
        self.heard.pending.set(pending);
        next
    }

    #[track_caller]
    fn wait_until(&self, deadline: Option<Instant>) -> Option<Signal> {
        if self.is_ready() {
            wait::spend();
        }
        loop {
            if let Some(signal) = self.try_next() {
                return Some(signal);
            }
            match self.heard.line.wait(Reason::new(&"signal"), deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => return self.try_next(),
                Err(interruption) => {
                    hub::raise(interruption);
                    return None;
                }
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.service.leave(self.id);
    }
}

impl HasLine for Signals {
    fn line(&self) -> &WaitList {
        &self.heard.line
    }
}

impl Waitable for Signals {
    fn is_ready(&self) -> bool {
        self.service.look();
        !self.heard.pending.get().is_empty()
    }
}

impl Iterator for Signals {
    type Item = Signal;

    /// `None` only while the caller unwinds.
    fn next(&mut self) -> Option<Signal> {
        self.wait()
    }
}

impl Iterator for &Signals {
    type Item = Signal;

    /// `None` only while the caller unwinds.
    fn next(&mut self) -> Option<Signal> {
        self.wait()
    }
}

impl UnwindSafe for Signals {}
impl RefUnwindSafe for Signals {}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("heard", &self.heard).finish_non_exhaustive()
    }
}
