//! Waiting for descriptors: as `park` does, in the line of a [`Readiness`].

use std::io;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Instant;

use super::current::{self, with, with_existing};
use super::line::LineKey;
use super::park::{park, switch};
use super::poller::Watched;
use super::readiness::{Readiness, Side};
use super::ticket::{Reason, Ticket, Wake};
use crate::error::Interruption;
use crate::trace;

/// Has the poller of this thread's hub watch a descriptor.
///
/// # Errors
///
/// As the system says.
pub(crate) fn watch(fd: BorrowedFd<'_>) -> io::Result<Watched> {
    with(|hub| hub.poller.register(fd))
}

/// The opposite, before the descriptor is closed.
pub(crate) fn unwatch(watched: &Watched) {
    with_existing(|hub| hub.poller.deregister(watched));
}

/// What a wait in the line of a descriptor came to.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// It has not begun: something is to be looked at first, by [`park_at_descriptor`].
    Not,
    /// It is the caller's turn.
    Woken(LineKey),
    /// Something else ended it. The place in line is still there.
    Ended(LineKey, Result<Wake, Interruption>),
}

/// Joins the line of a descriptor and waits in it: [`park`] for what a server does most, all in
/// sight of the compiler.
#[inline(always)]
pub(crate) fn await_readiness(readiness: &Readiness, side: Side, reason: Reason) -> Awaited {
    if thread::panicking() || trace::is_listened_to() {
        return Awaited::Not;
    }
    let Some(mut hub) = current::existing() else { return Awaited::Not };
    let Some(ticket) = hub.tasks.try_begin_wait(reason) else { return Awaited::Not };
    hub.poller.begin_waiting();
    drop(hub);
    let key = readiness.join(side, ticket);
    if let Err(interruption) = switch() {
        return was_stuck(key, interruption);
    }
    if let Some(mut hub) = current::existing() {
        if hub.tasks.was_woken() {
            hub.poller.end_waiting();
            return Awaited::Woken(key);
        }
    }
    was_interrupted(key) // and the hub is not borrowed any more
}

#[cold]
fn was_stuck(key: LineKey, interruption: Interruption) -> Awaited {
    with_existing(|hub| hub.poller.end_waiting());
    Awaited::Ended(key, Err(interruption))
}

#[cold]
fn was_interrupted(key: LineKey) -> Awaited {
    let how = with_existing(|hub| {
        hub.poller.end_waiting();
        hub.tasks.end_wait()
    });
    Awaited::Ended(key, how.unwrap_or(Err(Interruption::Unwinding)))
}

/// As [`park`]; `arm` files the ticket in the line of a descriptor.
pub(crate) fn park_at_descriptor(
    reason: Reason,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Interruption> {
    let mut is_counted = false;
    let result = park(reason, deadline, |ticket| {
        with(|hub| hub.poller.begin_waiting());
        is_counted = true;
        arm(ticket);
    });
    if is_counted {
        with_existing(|hub| hub.poller.end_waiting());
    }
    result
}
