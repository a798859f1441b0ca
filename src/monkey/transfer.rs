//! Calls that a stream may cut short: [`all`], and the buffers that are left then.
//!
//! A blocking `send` on a stream returns when all has been taken; the attempts that are made here
//! come back with what there was room for. What is asked of a socket on the way is here as well.

use std::ffi::c_int;
use std::{mem, slice};

use libc::iovec;

use super::descriptor::{IN_PART, WOULD_BLOCK, address, retry, socket_option};
use super::gate;
use crate::hub::Side;
use crate::sys::patches::Patch;
use crate::sys::real;

/// Standard error, and with it the last of those that are the kernel's at any time. What std prints
/// is printed under a lock that greenlets of one thread share, so that nobody must wait in there;
/// and they are the shell's, and whose not.
const LAST_STANDARD: c_int = 2;

/// May a call on that descriptor wait by parking?
#[inline(always)]
pub(super) fn is_cooperative(fd: c_int) -> bool {
    gate::is_cooperative(Patch::Socket) && fd > LAST_STANDARD
}

/// The kernel transfers no more at once.
pub(super) const MOST: usize = 0x7fff_f000;

/// Calls `part`, which is told how much is done and whether it may wait, until it has done all of
/// `total`; if it does not wait, this waits in between. For a stream, that is: what is cut short
/// elsewhere was a message. Returns what a blocking call would: how much, if it is anything.
///
/// A `part` that says 0 is the end of it. `total` is asked when the kernel has accepted the
/// arguments that it is computed from, and each time.
pub(super) fn all(
    fd: c_int,
    side: Side,
    verb: &'static &'static str,
    total: impl Fn() -> usize,
    mut part: impl FnMut(usize, bool) -> isize,
) -> isize {
    let mut done = 0;
    let mut is_stream = None;
    let result = retry(fd, side, verb, || {
        let before = done;
        loop {
            match part(done, false) {
                WOULD_BLOCK if done > before => return IN_PART,
                count @ 1.. => done += count as usize,
                result => return result,
            }
            if done >= total() || !*is_stream.get_or_insert_with(|| !keeps_messages(fd)) {
                return done as isize;
            }
        }
    });
    match result {
        Some(result) if result > 0 || done == 0 => result,
        Some(_) => done as isize,
        None => match part(done, true) {
            count @ 0.. => done as isize + count,
            _ if done > 0 => done as isize,
            error => error,
        },
    }
}

/// Buffers of the caller's, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    first: *const iovec,
    count: usize,
}

/// The most that the kernel takes.
const MOST_BUFFERS: usize = 1024;

impl Buffers {
    /// `None`: the kernel would not have them.
    ///
    /// # Safety
    ///
    /// `first`, if it is not null, points to `count` of them, as long as this is used.
    pub(super) unsafe fn new(first: *const iovec, count: usize) -> Option<Buffers> {
        (!first.is_null() && first.is_aligned() && count <= MOST_BUFFERS)
            .then_some(Buffers { first, count })
    }

    fn as_slice(&self) -> &[iovec] {
        // SAFETY: there are so many of them, as `new` was promised, and the kernel takes no more
        // than would fit into memory.
        unsafe { slice::from_raw_parts(self.first, self.count) }
    }

    /// How many bytes the kernel would transfer at the most.
    pub(super) fn total(&self) -> usize {
        let add = |sum: usize, buffer: &iovec| sum.saturating_add(buffer.iov_len);
        self.as_slice().iter().fold(0, add).min(MOST)
    }

    pub(super) fn list(&self) -> (usize, usize) {
        (address(self.first), self.count)
    }

    /// What is left of them when so much is done, or the first `most` of it.
    pub(super) fn rest(&self, done: usize, most: usize) -> Rest {
        let mut rest = Rest { buffers: [NOTHING; WINDOW], count: 0 };
        let (mut skipped, mut left) = (done, most);
        for buffer in self.as_slice() {
            let skip = skipped.min(buffer.iov_len);
            skipped -= skip;
            let len = (buffer.iov_len - skip).min(left);
            if len > 0 {
                let iov_base = buffer.iov_base.cast::<u8>().wrapping_add(skip).cast();
                rest.buffers[rest.count] = iovec { iov_base, iov_len: len };
                rest.count += 1;
                left -= len;
                if rest.count == WINDOW {
                    break;
                }
            }
        }
        rest
    }
}

/// A part of the buffers that are left. No more than these, so that they need no allocation: who
/// goes on after them goes on in any case.
#[derive(Debug)]
pub(super) struct Rest {
    buffers: [iovec; WINDOW],
    count: usize,
}

const WINDOW: usize = 16;

const NOTHING: iovec = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

impl Rest {
    pub(super) fn list(&self) -> (usize, usize) {
        (address(self.buffers.as_ptr()), self.count)
    }

    /// A message of them, and nothing else.
    pub(super) fn message(&mut self) -> libc::msghdr {
        message(self.buffers.as_mut_ptr(), self.count)
    }
}

/// A message of such buffers, and nothing else.
pub(super) fn message(buffers: *mut iovec, count: usize) -> libc::msghdr {
    // SAFETY: integers and pointers, for which zero is a good value, and padding.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = buffers;
    message.msg_iovlen = count as _;
    message
}

/// Is it a socket, whose messages are transferred whole, or what fits of them?
pub(super) fn keeps_messages(fd: c_int) -> bool {
    socket_option(fd, libc::SO_TYPE, 0).is_some_and(|kind| kind != libc::SOCK_STREAM)
}

/// How much there is to be received on a stream.
pub(super) fn unread(fd: c_int) -> c_int {
    let mut count: c_int = 0;
    let arguments = [fd as usize, libc::FIONREAD as usize, address(&raw mut count), 0, 0, 0];
    // SAFETY: it writes an `int` to where there is room for one.
    let result = unsafe { real::call(libc::SYS_ioctl, arguments) };
    if result >= 0 { count } else { 0 }
}
