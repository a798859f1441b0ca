//! Trying again after a pause, where the kernel has no event for what is waited for.
//!
//! A connection to a Unix listener whose backlog is full, and a datagram to a receiver whose queue
//! is full, fail with `EAGAIN`; `poll` says of both that the socket is writable, or that it is not
//! connected. The roads not taken: a blocking call on a thread of a pool holds that thread for as
//! long as the other side likes, cannot be given up when its greenlet is killed, and would still
//! connect or send then; and a socket that is connected to the receiver for no other purpose than to
//! poll it tells of room once, to everybody, so that all but one need a new one each time.

use std::io;
use std::time::{Duration, Instant};

use crate::hub::{self, Reason};
use crate::wait::Limit;

/// Whoever takes up greenlets of the same thread needs no more than a turn.
const SHORTEST: Duration = Duration::from_micros(50);

/// Fifty tries a second cost nothing, and nobody is this much too late twice.
const LONGEST: Duration = Duration::from_millis(20);

/// Makes `attempt`, which does not wait, until it does not say `WouldBlock`, at growing intervals.
///
/// # Errors
///
/// What `attempt` says; `TimedOut` after `limit`; `Other` while the greenlet unwinds.
pub(super) fn with_pauses<T>(
    verb: &'static &'static str,
    limit: Limit,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut pause = SHORTEST;
    let mut deadline = None;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && limit != Limit::Never => {}
            result => return result,
        }
        let now = Instant::now();
        if deadline.is_none() {
            deadline = limit.deadline();
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let next = deadline.map_or(now + pause, |deadline| deadline.min(now + pause));
        if let Err(interruption) = hub::park(Reason::new(verb), Some(next), |_| ()) {
            return Err(hub::raise(interruption).into());
        }
        pause = (pause * 2).min(LONGEST);
    }
}
