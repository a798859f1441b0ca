//! Try, else wait, try again: descriptors that wait by parking.
//!
//! [`Source`] is the only place where a call is tried, found to block, and tried again. Whatever has
//! a descriptor that can be polled is wrapped in one; the rooms above say which call, in which
//! direction, and for how long.

use std::cell::OnceCell;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use rustix::net::SendFlags;

use crate::error::{Interruption, Unwinding};
use crate::hub::{self, Awaited, LineKey, Readiness, Reason, Side, Wake, Watched};
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
    watched: OnceCell<Watched>,
}

impl<S: AsFd> Source<S> {
    pub(crate) fn new(inner: S) -> Source<S> {
        Source { inner: Some(inner), watched: OnceCell::new() }
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
    pub(crate) fn watch(&self) -> io::Result<()> {
        self.readiness().map(|_| ())
    }

    fn readiness(&self) -> io::Result<&Readiness> {
        if hub::has_ended() {
            return Err(Unwinding.into());
        }
        if self.watched.get().is_none() {
            let watched = hub::watch(self.inner().as_fd())?;
            let _ = self.watched.set(watched); // nobody runs in between
        }
        Ok(&self.watched.get().expect("it was empty, and has been set").readiness)
    }

    /// Calls `attempt` until it does not say `WouldBlock`, waiting in between. Those who wait for the
    /// same direction are served first come, first served.
    ///
    /// What happens most is inlined here: one attempt, after one wait or none. The rest is behind
    /// calls, so that this much stays in registers.
    ///
    /// # Errors
    ///
    /// What `attempt` says; `TimedOut` after `limit`; `Other` while the greenlet unwinds.
    #[inline]
    pub(crate) fn run<T>(
        &self,
        side: Side,
        verb: &'static &'static str,
        limit: Limit,
        mut attempt: impl FnMut(&S) -> io::Result<Tried<T>>,
    ) -> io::Result<T> {
        let mut key = None;
        match self.watched.get() {
            Some(watched) if !watched.readiness.may_try(side) => {
                if limit != Limit::Forever {
                    // A limit needs a timer, and to fail at once no line.
                    return Call { source: self, side, verb, limit }.slowly(attempt);
                }
                match hub::await_readiness(&watched.readiness, side, Reason::new(verb)) {
                    Awaited::Woken(place) => key = Some(place),
                    Awaited::Ended(place, how) => return Err(self.give_up(side, place, how)),
                    Awaited::Not => {
                        return Call { source: self, side, verb, limit }.slowly(attempt);
                    }
                }
            }
            _ if hub::is_allowed() => {}
            _ => return Call { source: self, side, verb, limit }.slowly(attempt),
        }
        let place = Place { source: self, side, key }; // should the attempt panic
        let result = attempt(self.inner());
        let key = place.keep();
        match result {
            Ok(tried) => Ok(self.served(side, key, tried)),
            Err(error) => Call { source: self, side, verb, limit }.again(key, None, error, attempt),
        }
    }

    /// A wait has ended, but not because it is our turn.
    #[cold]
    fn give_up(&self, side: Side, key: LineKey, how: Result<Wake, Interruption>) -> io::Error {
        match outcome(Place { source: self, side, key: Some(key) }, how) {
            Ok(_) => io::ErrorKind::WouldBlock.into(), // not to be expected
            Err(error) => error,
        }
    }

    /// A call has succeeded: it leaves its place in line, if it has one.
    #[inline(always)]
    fn served<T>(&self, side: Side, key: Option<LineKey>, tried: Tried<T>) -> T {
        let (value, cut_short) = match tried {
            Tried::Done(value) => (value, false),
            Tried::CutShort(value) => (value, true),
        };
        match (self.watched.get(), key) {
            (Some(watched), Some(key)) => leave(&watched.readiness, side, key, cut_short),
            (Some(watched), None) if cut_short => watched.readiness.cut_short(side),
            (None, _) if cut_short => self.watch_early(side),
            _ => {}
        }
        value
    }

    /// The next call would be told that it blocks. That it is spared, because from now on the poller
    /// knows; whatever has come meanwhile it is told at once.
    #[cold]
    fn watch_early(&self, side: Side) {
        // Where it cannot be watched the next call is tried, and says so if it has to wait.
        if let Ok(readiness) = self.readiness() {
            readiness.cut_short(side);
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
        let call = Call { source: self, side, verb, limit };
        if let Some(readiness) = call.to_wait_for() {
            return call.wait(call.place(None), readiness, limit.deadline()).map(drop);
        }
        loop {
            match look(self.inner()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && limit != Limit::Never =>
                {
                    let readiness = self.readiness()?;
                    readiness.would_block(side);
                    return call.wait(call.place(None), readiness, limit.deadline()).map(drop);
                }
                seen => return seen,
            }
        }
    }

    /// Lets those who wait on that side try again: something has happened that the kernel does not
    /// tell.
    pub(crate) fn nudge(&self, side: Side) {
        let Some(watched) = self.watched.get() else { return };
        if let Some(ticket) = watched.readiness.became_ready(side, false) {
            hub::unpark(ticket, 0);
        }
    }

    fn forget_source(&mut self) {
        if let Some(watched) = self.watched.take() {
            hub::unwatch(&watched);
        }
    }
}

impl<S: AsFd> Drop for Source<S> {
    fn drop(&mut self) {
        self.forget_source();
    }
}

/// A call at a descriptor, as it was asked for. Made where it is needed, because what is given to a
/// function that is not inlined has to be in memory, also when that function is not called.
#[derive(Debug)]
struct Call<'a, S: AsFd> {
    source: &'a Source<S>,
    side: Side,
    verb: &'static &'static str,
    limit: Limit,
}

impl<'a, S: AsFd> Call<'a, S> {
    fn place(&self, key: Option<LineKey>) -> Place<'a, S> {
        Place { source: self.source, side: self.side, key }
    }

    /// What is to be waited for before the first attempt: there is no hope yet, or somebody waits
    /// already. Who unwinds must not wait, but may find what has come since somebody last looked.
    fn to_wait_for(&self) -> Option<&'a Readiness> {
        let readiness = &self.source.watched.get()?.readiness;
        let waits = self.limit != Limit::Never && !hub::has_ended() && !thread::panicking();
        (waits && !readiness.may_try(self.side)).then_some(readiness)
    }

    /// All of it, for those who are not as most are: others may get a turn first, and there may be a
    /// limit.
    #[cold]
    #[inline(never)]
    fn slowly<T>(self, mut attempt: impl FnMut(&S) -> io::Result<Tried<T>>) -> io::Result<T> {
        if let Err(interruption) = hub::spend() {
            return Err(hub::raise(interruption).into());
        }
        let (mut place, mut deadline) = (self.place(None), None);
        if let Some(readiness) = self.to_wait_for() {
            deadline = self.limit.deadline();
            place = self.wait(place, readiness, deadline)?;
        }
        match attempt(self.source.inner()) {
            Ok(tried) => Ok(self.source.served(self.side, place.keep(), tried)),
            Err(error) => self.again(place.keep(), deadline, error, attempt),
        }
    }

    /// An attempt has failed. Returns when one has not.
    #[cold]
    #[inline(never)]
    fn again<T>(
        self,
        key: Option<LineKey>,
        mut deadline: Option<Instant>,
        mut error: io::Error,
        mut attempt: impl FnMut(&S) -> io::Result<Tried<T>>,
    ) -> io::Result<T> {
        let mut place = self.place(key);
        loop {
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if self.limit != Limit::Never => {
                    // From now on the poller watches the descriptor, if it did not before.
                    let readiness = self.source.readiness()?;
                    readiness.would_block(self.side);
                    deadline = deadline.or_else(|| self.limit.deadline());
                    place = self.wait(place, readiness, deadline)?;
                }
                _ => return Err(error),
            }
            match attempt(self.source.inner()) {
                Ok(tried) => return Ok(self.source.served(self.side, place.keep(), tried)),
                Err(another) => error = another,
            }
        }
    }

    /// Waits for its turn to try.
    fn wait(
        &self,
        mut place: Place<'a, S>,
        readiness: &Readiness,
        deadline: Option<Instant>,
    ) -> io::Result<Place<'a, S>> {
        let (reason, key) = (Reason::new(self.verb), &mut place.key);
        let how = hub::park_at_descriptor(reason, deadline, |ticket| match key {
            Some(key) => readiness.stay(self.side, *key, ticket),
            None => *key = Some(readiness.join(self.side, ticket)),
        });
        outcome(place, how)
    }
}

/// What a wait for a turn came to.
fn outcome<S: AsFd>(
    place: Place<'_, S>,
    how: Result<Wake, Interruption>,
) -> io::Result<Place<'_, S>> {
    match how {
        Ok(Wake::Ready(_)) => Ok(place),
        Ok(Wake::Elapsed) => Err(io::ErrorKind::TimedOut.into()),
        Err(interruption) => {
            drop(place); // before unwinding: the next in line may be what everybody waits for
            Err(hub::raise(interruption).into())
        }
    }
}

/// A place in the line of a descriptor, if there is one. Left when it is dropped.
struct Place<'a, S: AsFd> {
    source: &'a Source<S>,
    side: Side,
    key: Option<LineKey>,
}

impl<S: AsFd> Place<'_, S> {
    /// The place is the caller's to leave.
    #[inline(always)]
    fn keep(mut self) -> Option<LineKey> {
        self.key.take()
    }

    #[cold]
    fn leave(source: &Source<S>, side: Side, key: LineKey) {
        if let Some(watched) = source.watched.get() {
            leave(&watched.readiness, side, key, false);
        }
    }
}

impl<S: AsFd> Drop for Place<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(key) = self.key {
            Place::leave(self.source, self.side, key);
        }
    }
}

#[inline(always)]
fn leave(readiness: &Readiness, side: Side, key: LineKey, cut_short: bool) {
    if let Some(next) = readiness.leave(side, key, cut_short) {
        hub::unpark(next, 0);
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
