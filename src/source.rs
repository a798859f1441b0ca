//! Try, else wait, try again: descriptors that wait by parking.
//!
//! [`Source`] is the only place where a call is tried, found to block, and tried again. Whatever has
//! a descriptor that can be polled is wrapped in one; the rooms above say which call, in which
//! direction, and for how long.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use rustix::net::SendFlags;

use crate::error::Unwinding;
use crate::hub::{self, LineKey, Reason, Side, SourceId, Wake};
use crate::wait::Limit;

/// What a call that did not block came to.
#[derive(Debug)]
pub(crate) enum Tried<T> {
    Done(T),
    /// Done, and the kernel transferred less than it was asked to: it has no more for now.
    CutShort(T),
}

/// A descriptor whose calls park the greenlet instead of blocking the thread.
///
/// The calls themselves must not block: by `MSG_DONTWAIT`, or because the descriptor is ours and
/// non-blocking.
#[derive(Debug)]
pub(crate) struct Source<S: AsFd> {
    /// `None` only while `into_inner` takes it out.
    inner: Option<S>,
    /// With the poller since the first call that would have blocked; many never do.
    id: Cell<Option<SourceId>>,
}

impl<S: AsFd> Source<S> {
    pub(crate) fn new(inner: S) -> Source<S> {
        Source { inner: Some(inner), id: Cell::new(None) }
    }

    pub(crate) fn inner(&self) -> &S {
        self.inner.as_ref().expect("only into_inner takes it, and self with it")
    }

    /// The descriptor's owner, no longer watched.
    pub(crate) fn into_inner(mut self) -> S {
        self.forget_source();
        self.inner.take().expect("only into_inner takes it, and self with it")
    }

    /// Has the poller watch the descriptor from now on, as it else does when a call would block: for
    /// those who have to know beforehand that they can wait.
    ///
    /// # Errors
    ///
    /// As the system says; `Other` when the thread is ending.
    pub(crate) fn watch(&self) -> io::Result<SourceId> {
        if hub::has_ended() {
            return Err(Unwinding.into());
        }
        let id = match self.id.get() {
            Some(id) => id,
            None => hub::poller(|poller| poller.register(self.inner().as_fd()))?,
        };
        self.id.set(Some(id));
        Ok(id)
    }

    /// Calls `attempt` until it does not say `WouldBlock`, waiting in between. Those who wait for the
    /// same direction are served first come, first served.
    ///
    /// # Errors
    ///
    /// What `attempt` says; `TimedOut` after `limit`; `Other` while the greenlet unwinds.
    pub(crate) fn run<T>(
        &self,
        side: Side,
        verb: &'static &'static str,
        limit: Limit,
        mut attempt: impl FnMut(&S) -> io::Result<Tried<T>>,
    ) -> io::Result<T> {
        if let Err(interruption) = hub::spend() {
            return Err(hub::raise(interruption).into());
        }
        let mut turn = Turn { source: self, side, verb, deadline: None, place: None };
        // Who unwinds must not wait, but may find what has come since somebody last looked.
        if limit != Limit::Never && !turn.may_try() && !thread::panicking() {
            turn.wait(limit)?;
        }
        loop {
            match attempt(self.inner()) {
                Ok(Tried::Done(value)) => return Ok(value),
                Ok(Tried::CutShort(value)) => {
                    if let Some(id) = self.id.get() {
                        hub::existing_poller(|poller| poller.cut_short(id, side));
                    }
                    return Ok(value);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && limit != Limit::Never =>
                {
                    turn.would_block()?;
                    turn.wait(limit)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until a call in that direction would not block, without making one: `look`, a call that
    /// takes nothing, is made only if it is not known already that it would block. Who is woken by
    /// the event is told all there is to know, and the call that follows finds out if that was not so.
    ///
    /// # Errors
    ///
    /// What `look` says; else as [`run`](Source::run).
    pub(crate) fn wait_ready(
        &self,
        side: Side,
        verb: &'static &'static str,
        limit: Limit,
        mut look: impl FnMut(&S) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Err(interruption) = hub::spend() {
            return Err(hub::raise(interruption).into());
        }
        let mut turn = Turn { source: self, side, verb, deadline: None, place: None };
        if limit != Limit::Never && !turn.may_try() && !thread::panicking() {
            return turn.wait(limit);
        }
        loop {
            match look(self.inner()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && limit != Limit::Never =>
                {
                    turn.would_block()?;
                    return turn.wait(limit);
                }
                seen => return seen,
            }
        }
    }

    /// Lets those who wait on that side try again: something has happened that the kernel does not
    /// tell.
    pub(crate) fn nudge(&self, side: Side) {
        let Some(id) = self.id.get() else { return };
        let first = hub::existing_poller(|poller| poller.nudge(id, side)).flatten();
        if let Some(ticket) = first {
            hub::unpark(ticket, 0);
        }
    }

    fn forget_source(&self) {
        if let Some(id) = self.id.take() {
            hub::existing_poller(|poller| poller.deregister(id, self.inner().as_fd()));
        }
    }
}

impl<S: AsFd> Drop for Source<S> {
    fn drop(&mut self) {
        self.forget_source();
    }
}

/// One call's turn at a descriptor: from its first wait until the end it has a place in line.
struct Turn<'a, S: AsFd> {
    source: &'a Source<S>,
    side: Side,
    verb: &'static &'static str,
    deadline: Option<Instant>,
    place: Option<(SourceId, LineKey)>,
}

impl<S: AsFd> Turn<'_, S> {
    /// Is there hope, and nobody who waits already?
    #[inline]
    fn may_try(&self) -> bool {
        let side = self.side;
        let Some(id) = self.source.id.get() else { return true };
        hub::existing_poller(|poller| poller.may_try(id, side)).unwrap_or(true)
    }

    /// The kernel said so. From now on the poller watches the descriptor, if it did not before.
    fn would_block(&self) -> io::Result<()> {
        let id = self.source.watch()?;
        hub::poller(|poller| poller.would_block(id, self.side));
        Ok(())
    }

    /// Waits for its turn to try.
    fn wait(&mut self, limit: Limit) -> io::Result<()> {
        let Some(id) = self.source.id.get() else { return Ok(()) };
        if self.deadline.is_none() {
            self.deadline = limit.deadline();
        }
        let (side, place) = (self.side, &mut self.place);
        let woken = hub::park(Reason::new(self.verb), self.deadline, |ticket| {
            hub::poller(|poller| match place {
                Some((_, key)) => poller.stay(id, side, *key, ticket),
                None => *place = poller.join(id, side, ticket).map(|key| (id, key)),
            });
        });
        match woken {
            Ok(Wake::Ready(_)) => Ok(()),
            Ok(Wake::Elapsed) => Err(io::ErrorKind::TimedOut.into()),
            Err(interruption) => {
                // Left before unwinding: the next in line may be what everybody waits for.
                self.leave();
                Err(hub::raise(interruption).into())
            }
        }
    }

    fn leave(&mut self) {
        if let Some((id, key)) = self.place.take() {
            hub::leave_source(id, self.side, key);
        }
    }
}

impl<S: AsFd> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// How a socket is sent to without waiting. A peer that has gone is an error, not a signal. (Apple's systems have no flag for that; std
/// ignores the signal in the whole process.)
pub(crate) fn send_flags() -> SendFlags {
    let flags = SendFlags::DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    let flags = flags | SendFlags::NOSIGNAL;
    flags
}
