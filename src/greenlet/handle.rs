//! `Greenlet<T>`: the handle.

use std::any::Any;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::JoinError;
use crate::hub::{self, GreenletId, REFUSED, Reason, TaskId, Wake};
use crate::links::LinkId;
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

use super::outcome::Outcome;
use super::record::{Record, Stage};

/// A handle to a greenlet, from [`spawn`](crate::spawn).
///
/// Dropping it detaches the greenlet, which runs on. It is local to its thread:
///
/// ```compile_fail,E0277
/// let greenlet = greenloom::spawn(|| ());
/// std::thread::spawn(move || greenlet.join()); // cannot be sent between threads
/// ```
pub struct Greenlet<T> {
    pub(super) record: Rc<Record<T>>,
}

impl<T: 'static> Greenlet<T> {
    /// Waits until it has ended, however it ended. While the caller unwinds, it returns at once.
    #[track_caller]
    pub fn join(&self) {
        self.join_until(None);
    }

    /// As [`join`](Greenlet::join), but at most so long. True: it has ended.
    #[track_caller]
    pub fn join_timeout(&self, d: Duration) -> bool {
        self.is_finished() || self.join_until(Some(hub::after(d)))
    }

    /// Waits until it has ended, and hands over what it returned.
    ///
    /// Links that are registered run first, because they borrow the value.
    ///
    /// # Errors
    ///
    /// [`JoinError::Killed`] or [`JoinError::Panicked`], if that is how it ended. While the caller
    /// unwinds it does not wait; if there is no value then, the error is a `Panicked` that says so.
    ///
    /// # Examples
    ///
    /// ```
    /// let answer = greenloom::spawn(|| 6 * 7);
    /// assert_eq!(answer.get().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn get(self) -> Result<T, JoinError> {
        loop {
            if let Some(result) = self.record.take_result() {
                return result;
            }
            let reason = Reason::new(&"join").of(self.record.task());
            if let Err(interruption) = self.record.joiners().wait(reason, None) {
                let unwinding = hub::raise(interruption);
                return Err(JoinError::Panicked(Box::new(unwinding.to_string())));
            }
        }
    }

    /// The result if it has ended, the handle back if not (or if links still borrow the result).
    ///
    /// # Errors
    ///
    /// The handle.
    pub fn try_get(self) -> Result<Result<T, JoinError>, Greenlet<T>> {
        self.record.take_result().ok_or(self)
    }

    /// Kills it, and returns when it has ended.
    ///
    /// It unwinds from its present wait, or from its next one if it is about to run: every
    /// destructor runs, no panic is printed. One that has not begun never will. It may clean up
    /// with calls that wait (see [`catch_interrupt`](crate::catch_interrupt)), and `kill` waits for
    /// that. One that catches the kill time and again is left alone after the eighth: this returns
    /// then, and the hub's error hook is told.
    ///
    /// A greenlet that kills itself unwinds from this call. On one that has ended it does nothing.
    #[track_caller]
    pub fn kill(&self) {
        self.kill_until(None);
    }

    /// As [`kill`](Greenlet::kill), but does not wait, and never switches. On itself: raised at the
    /// next wait.
    pub fn kill_nowait(&self) {
        if !self.is_finished() {
            hub::kill(self.record.task());
        }
    }

    /// As [`kill`](Greenlet::kill), but waits at most so long. False: it is still alive.
    #[track_caller]
    pub fn kill_timeout(&self, d: Duration) -> bool {
        self.kill_until(Some(hub::after(d)))
    }

    /// `membership` ends with the greenlet: see [`spawn_member`](super::spawn_member).
    pub(crate) fn attach(&self, membership: impl Any) {
        self.record.attach(Box::new(membership));
    }

    /// What it returned, if it has ended and no link needs that any more. Once.
    pub(crate) fn take_result(&self) -> Option<Result<T, JoinError>> {
        self.record.take_result()
    }

    pub(crate) fn task(&self) -> TaskId {
        self.record.task()
    }

    #[track_caller]
    fn kill_until(&self, deadline: Option<Instant>) -> bool {
        self.kill_nowait();
        if self.is_finished() {
            return true;
        }
        if hub::current().0 == self.record.task() {
            // Its own: raised by the next wait, which is this one. (It returns only if the greenlet
            // unwinds already, holds its kill back, or was left alone.)
            if let Err(interruption) = hub::yield_now() {
                hub::raise(interruption);
            }
            return false;
        }
        self.dead_until(deadline)
    }

    /// True: it has ended. False: `deadline` came first, it refuses to be killed, or the caller
    /// unwinds.
    #[inline(always)]
    #[track_caller]
    pub(super) fn join_until(&self, deadline: Option<Instant>) -> bool {
        let reason = Reason::new(&"join").of(self.record.task());
        while !self.is_finished() {
            match self.record.joiners().wait(reason, deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => break,
                Err(interruption) => {
                    hub::raise(interruption);
                    break;
                }
            }
        }
        self.is_finished()
    }

    /// As [`join_until`](Greenlet::join_until), but not for one that refuses to be killed.
    #[track_caller]
    fn dead_until(&self, deadline: Option<Instant>) -> bool {
        let task = self.record.task();
        let reason = Reason::new(&"kill").of(task);
        let listen = |ticket| {
            if !hub::watch_refusal(task, ticket) {
                hub::unpark(ticket, REFUSED); // it has refused already
            }
        };
        while !self.is_finished() {
            match self.record.joiners().wait_with(reason, deadline, listen) {
                Ok(Wake::Ready(REFUSED)) | Ok(Wake::Elapsed) => break,
                Ok(Wake::Ready(_)) => {}
                Err(interruption) => {
                    hub::raise(interruption);
                    break;
                }
            }
        }
        self.is_finished()
    }

    /// Has it begun to run? It stays true after the end, and is false for one that was killed
    /// before. (gevent's `started` also counts those that are scheduled; here all are.)
    #[must_use]
    pub fn is_started(&self) -> bool {
        !matches!(self.record.stage(), Stage::Unstarted | Stage::Unrun)
    }

    /// Has it ended, however?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.record.is_finished()
    }

    /// Has it ended by returning?
    #[must_use]
    pub fn is_successful(&self) -> bool {
        self.record.stage() == Stage::Returned
    }

    /// Its name: the one given to [`Builder::name`](crate::Builder::name), or `greenlet-` and its
    /// number.
    #[must_use]
    pub fn name(&self) -> String {
        self.record.name()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> GreenletId {
        self.record.id()
    }

    /// Calls `f` with the outcome once it has ended; soon, but not at once, if it has already.
    ///
    /// Links are called in the order in which they were added, after those who
    /// [`join`](Greenlet::join) were made ready. They may wait. A panic in one is reported through
    /// [`Hub::on_error`](crate::Hub::on_error) and does not keep the others from running.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::{Outcome, spawn};
    ///
    /// let greenlet = spawn(|| 42);
    /// greenlet.link(|outcome| assert!(matches!(outcome, Outcome::Value(42))));
    /// greenlet.join();
    /// ```
    #[track_caller]
    pub fn link(&self, f: impl FnOnce(Outcome<'_, T>) + 'static) -> LinkId {
        self.record.link(Box::new(f))
    }

    /// Takes a link back. False if it has been called, or is being called, or was never there.
    pub fn unlink(&self, id: LinkId) -> bool {
        self.record.unlink(id)
    }
}

// As std's handles are.
impl<T> UnwindSafe for Greenlet<T> {}
impl<T> RefUnwindSafe for Greenlet<T> {}

impl<T> HasLine for Greenlet<T> {
    fn line(&self) -> &WaitList {
        self.record.joiners()
    }
}

impl<T: 'static> Waitable for Greenlet<T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }
}

impl<T> fmt::Debug for Greenlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}
