//! Waiting for descriptors that are not ours: their mode is never touched, and nothing is remembered
//! of them from one call to the next.
//!
//! Each call is tried in a way that does not wait. What would block is looked at closer: if the user
//! has made the descriptor non-blocking, it has told him so; if there is a time limit on it, that is
//! ours; and then the poller watches it for as long as this one wait takes. The kernel is asked each
//! time, because it alone knows: mode and limits belong to the open file description, which may have
//! other numbers, and may be changed by other processes and by code that calls the kernel directly.
//! So there is no state that could be wrong after a `close`, and nothing to keep in step by
//! interposing `fcntl`, `ioctl`, `setsockopt` and `dup` as well.

use std::ffi::{c_int, c_short};
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::gate::{CANCELLED, error, keeping_errno};
use super::lot::{self, Key, Place};
use crate::hub::{self, LineKey, Reason, Side, Ticket, Wake, Watched};
use crate::sys::real;

/// One direction of a descriptor, or both, watched.
#[derive(Debug)]
pub(super) struct Watcher {
    fd: c_int,
    sides: &'static [Side],
    watched: Watched,
    /// One for each side, while it waits.
    keys: [Option<LineKey>; 2],
    place: Option<Place>,
}

impl Watcher {
    /// To be called when a call has just been told that it would block.
    ///
    /// # Errors
    ///
    /// If it cannot be watched: not to be polled, or too many are.
    pub(super) fn new(fd: c_int, side: Side) -> std::io::Result<Watcher> {
        match side {
            Side::Read => Watcher::of(fd, &[Side::Read]),
            Side::Write => Watcher::of(fd, &[Side::Write]),
        }
    }

    /// As `new`; both directions take one registration, where two watchers would need a duplicate of
    /// the descriptor.
    ///
    /// # Errors
    ///
    /// As those of `new`.
    pub(super) fn of(fd: c_int, sides: &'static [Side]) -> std::io::Result<Watcher> {
        if fd < 0 {
            return Err(std::io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the poller is given the number, which the caller's own caller wants to wait for. If
        // it is no descriptor, or is closed meanwhile, the system says so, or stops watching.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let watched = hub::watch(borrowed)?;
        let watcher = Watcher { fd, sides, watched, keys: [None; 2], place: None };
        watcher.would_block();
        Ok(watcher)
    }

    /// A call has been tried again, in vain.
    pub(super) fn would_block(&self) {
        for side in self.sides {
            self.watched.readiness.would_block(*side);
        }
    }

    fn is_ready(&self) -> bool {
        self.sides.iter().any(|side| self.watched.readiness.may_try(*side))
    }

    fn join(&mut self, ticket: Ticket) {
        for (side, key) in self.sides.iter().zip(&mut self.keys) {
            *key = Some(self.watched.readiness.join(*side, ticket));
        }
        if let Some(place) = &self.place {
            place.arm(ticket);
        }
    }

    fn leave(&mut self) -> bool {
        for (side, key) in self.sides.iter().zip(&mut self.keys) {
            if let Some(key) = key.take() {
                let _ = self.watched.readiness.leave(*side, key, false); // nobody else is in line
            }
        }
        self.place.take().is_some_and(Place::leave)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.leave();
        hub::unwatch(&self.watched);
    }
}

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// It is worth trying again.
    Ready,
    Elapsed,
    /// The greenlet was killed or timed out.
    Cancelled,
    /// One of the descriptors was closed.
    Closed,
}

/// Waits until one of them is ready, or closed.
pub(super) fn wait(
    watchers: &mut [Watcher],
    verb: &'static &'static str,
    deadline: Option<Instant>,
) -> Waited {
    for watcher in &mut *watchers {
        // Without a place it is not told of the closing, that is all.
        let place = Place::take(Key::Descriptor(watcher.fd), lot::ANY, || true);
        watcher.place = place.ok().flatten();
    }
    let result = if watchers.iter().any(Watcher::is_ready) {
        Ok(Wake::Ready(0))
    } else {
        hub::expect(); // the poller does not know that somebody waits
        let result = keeping_errno(|| {
            hub::park_foreign(Reason::new(verb), deadline, |ticket| {
                for watcher in &mut *watchers {
                    watcher.join(ticket);
                }
            })
        });
        hub::has_come(1);
        result
    };
    let mut was_closed = false;
    for watcher in &mut *watchers {
        was_closed |= watcher.leave();
    }
    match result {
        _ if was_closed => Waited::Closed,
        Ok(Wake::Ready(_)) => Waited::Ready,
        Ok(Wake::Elapsed) => Waited::Elapsed,
        Err(hub::Postponed) => Waited::Cancelled,
    }
}

/// Waits, as a call that is not tied to a descriptor.
pub(super) fn pause(verb: &'static &'static str, deadline: Option<Instant>) -> Waited {
    pause_and(verb, deadline, |_| ())
}

/// As [`pause`], before the next attempt on that descriptor: its number may be somebody else's by
/// then.
fn pause_at(fd: c_int, verb: &'static &'static str, until: Instant) -> Waited {
    let place = Place::take(Key::Descriptor(fd), lot::ANY, || true).ok().flatten();
    let waited = pause_and(verb, Some(until), |ticket| {
        if let Some(place) = &place {
            place.arm(ticket);
        }
    });
    if place.is_some_and(Place::leave) { Waited::Closed } else { waited }
}

fn pause_and(
    verb: &'static &'static str,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Waited {
    hub::expect();
    let result = keeping_errno(|| hub::park_foreign(Reason::new(verb), deadline, arm));
    hub::has_come(1);
    match result {
        Ok(_) => Waited::Elapsed,
        Err(hub::Postponed) => Waited::Cancelled,
    }
}

/// Has the user made it non-blocking? (A number that is no descriptor has told its error already.)
pub(super) fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: it is asked for its flags, which touches no memory.
    let flags =
        unsafe { real::call(libc::SYS_fcntl, [fd as usize, libc::F_GETFL as usize, 0, 0, 0, 0]) };
    flags >= 0 && flags & libc::O_NONBLOCK as isize != 0
}

/// The limit that the user has put on that direction of a socket.
pub(super) fn limit(fd: c_int, side: Side) -> Option<Duration> {
    let option = match side {
        Side::Read => libc::SO_RCVTIMEO,
        Side::Write => libc::SO_SNDTIMEO,
    };
    let time = socket_option(fd, option, libc::timeval { tv_sec: 0, tv_usec: 0 })?;
    let time = Duration::new(time.tv_sec.max(0) as u64, time.tv_usec.max(0) as u32 * 1000);
    (time > Duration::ZERO).then_some(time)
}

/// An option of a socket, of level `SOL_SOCKET`, that has the type of `value`: numbers, and nothing
/// else. `None`: it has none, or is no socket.
pub(super) fn socket_option<T: Copy>(fd: c_int, name: c_int, mut value: T) -> Option<T> {
    let mut len = mem::size_of::<T>() as libc::socklen_t;
    let arguments = [
        fd as usize,
        libc::SOL_SOCKET as usize,
        name as usize,
        address(&raw mut value),
        address(&raw mut len),
        0,
    ];
    // SAFETY: it writes no more than `len` bytes of numbers to where there is room for them.
    let result = unsafe { real::call(libc::SYS_getsockopt, arguments) };
    (result >= 0).then_some(value)
}

/// The longest time between two attempts at what the kernel has no event for.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// Calls `attempt`, which does not wait, until it does not say that it would block, and waits in
/// between as a blocking call would: for as long as the user's limit says. Returns what the kernel
/// would; `None`: it cannot be waited for here, and the blocking call is to be made.
#[inline]
pub(super) fn retry(
    fd: c_int,
    side: Side,
    verb: &'static &'static str,
    mut attempt: impl FnMut() -> isize,
) -> Option<isize> {
    if !hub::is_allowed() && keeping_errno(|| let_others_run(fd)).is_err() {
        return Some(CANCELLED);
    }
    match attempt() {
        WOULD_BLOCK | IN_PART => blocked(fd, side, verb, attempt),
        result => Some(result),
    }
}

/// Now and then, also where there is always something to be had: a peer that is quick enough would
/// else keep everybody from running. Not in calls that never wait, which other runtimes make, for
/// whom nobody may run in between.
#[cold]
fn let_others_run(fd: c_int) -> Result<(), hub::Postponed> {
    hub::spend_foreign(|| !is_nonblocking(fd))
}

pub(super) const WOULD_BLOCK: isize = error(libc::EAGAIN);

/// What an attempt says that has got something through, and would block on the rest. (The kernel
/// never says that.)
pub(super) const IN_PART: isize = isize::MIN;

#[cold]
fn blocked(
    fd: c_int,
    side: Side,
    verb: &'static &'static str,
    mut attempt: impl FnMut() -> isize,
) -> Option<isize> {
    if is_nonblocking(fd) {
        return Some(WOULD_BLOCK);
    }
    let deadline = limit(fd, side).map(hub::after);
    let mut pause = Duration::from_millis(1);
    let mut watcher = loop {
        match Watcher::new(fd, side) {
            Ok(watcher) => break watcher,
            // What is no matter for polls is always ready, so that it has not got here; or it is.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return None,
            // No descriptor is left, say, for the poller or a second who waits: another greenlet may
            // give one up, if it is let run.
            Err(_) => {}
        }
        if let Err(result) = rest(fd, verb, pause, deadline) {
            return Some(result);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        match attempt() {
            WOULD_BLOCK | IN_PART => {}
            result => return Some(result),
        }
    };
    loop {
        match wait(std::slice::from_mut(&mut watcher), verb, deadline) {
            Waited::Ready => {}
            Waited::Elapsed => return Some(WOULD_BLOCK),
            Waited::Cancelled => return Some(CANCELLED),
            Waited::Closed => return Some(error(libc::EBADF)),
        }
        let mut in_vain = 0;
        loop {
            match attempt() {
                WOULD_BLOCK => in_vain += 1,
                IN_PART => in_vain = 0,
                result => return Some(result),
            }
            watcher.would_block();
            if !is_said_to_be_ready(fd, side) {
                break;
            }
            // Else there will be no event: what is full is the queue of a peer (of a Unix socket),
            // of which the kernel does not tell. Or it has become ready this very moment.
            if in_vain < 2 {
                continue;
            }
            let longer = Duration::from_millis(1 << (in_vain - 2).min(10)).min(LONGEST_PAUSE);
            if let Err(result) = rest(fd, verb, longer, deadline) {
                return Some(result);
            }
        }
    }
}

/// Lets so much time pass before the next attempt, but no more than the user's limit.
///
/// # Errors
///
/// What the call is to return instead.
fn rest(
    fd: c_int,
    verb: &'static &'static str,
    time: Duration,
    deadline: Option<Instant>,
) -> Result<(), isize> {
    if deadline.is_some_and(|at| Instant::now() >= at) {
        return Err(WOULD_BLOCK);
    }
    let until = hub::after(time);
    match pause_at(fd, verb, deadline.map_or(until, |deadline| until.min(deadline))) {
        Waited::Ready | Waited::Elapsed => Ok(()),
        Waited::Cancelled => Err(CANCELLED),
        Waited::Closed => Err(error(libc::EBADF)),
    }
}

fn is_said_to_be_ready(fd: c_int, side: Side) -> bool {
    let wanted = match side {
        Side::Read => libc::POLLIN,
        Side::Write => libc::POLLOUT,
    };
    pending(fd, wanted) & wanted != 0
}

/// What `poll` says of a descriptor now. Zero: nothing.
pub(super) fn pending(fd: c_int, events: c_short) -> c_short {
    const INTERRUPTED: isize = error(libc::EINTR);
    let mut asked = libc::pollfd { fd, events, revents: 0 };
    loop {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let arguments = [address(&raw mut asked), 1, address(&raw mut now), 0, 0, 0];
        // SAFETY: it writes to a `pollfd` and a `timespec`, which are there.
        match unsafe { real::call(libc::SYS_ppoll, arguments) } {
            INTERRUPTED => {} // the answer to a signal that comes at that moment
            0 => return 0,
            1.. => return asked.revents,
            _ => return libc::POLLNVAL,
        }
    }
}

/// A buffer's address, as a system call takes it.
pub(super) fn address<T>(pointer: *const T) -> usize {
    // The kernel will use it, so that the compiler has to take it as used.
    pointer.expose_provenance()
}
