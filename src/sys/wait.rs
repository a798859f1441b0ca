//! Waiting shorter than a millisecond.
//!
//! Both may return early: after a signal, or because the system had no better idea. The caller
//! looks at the clock.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until `fd` is readable or `time` has passed, to the nanosecond where the system can.
pub(crate) fn readable_within(fd: &impl AsRawFd, time: Duration) {
    // SAFETY: `fd` is borrowed for the whole call, so its descriptor stays open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timespec(time)));
}

/// Waits until `time` has passed; `None`: until a signal comes.
pub(crate) fn pause(time: Option<Duration>) {
    let _ = poll(&mut [], time.map(timespec).as_ref());
}

fn timespec(time: Duration) -> Timespec {
    let tv_sec = time.as_secs().try_into().unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() }
}
