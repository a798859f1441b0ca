//! Sockets: several messages by one call.

use std::ffi::{c_int, c_uint};
use std::time::{Duration, Instant};

use libc::{mmsghdr, timespec};

use super::descriptor::{WOULD_BLOCK, address, pending, retry};
use super::gate::answer_int;
use super::socket::{receives, send_rest, sends};
use super::transfer::{Buffers, keeps_messages};
use crate::hub::{self, Side};
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["recvmmsg", "sendmmsg"];

/// The kernel takes no more of them.
const MOST: c_uint = 1024;

/// Waits for each of the messages, as the kernel does, and looks at the clock when one has come: the
/// limit alone ends no wait.
///
/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    limit: *mut timespec,
) -> c_int {
    let call = |done: isize, flags: c_int, limit: *mut timespec| {
        let rest = address(messages.wrapping_offset(done));
        let left = count.saturating_sub(done as c_uint) as usize;
        let arguments = [fd as usize, rest, left, flags as usize, address(limit), 0];
        // SAFETY: the caller's arguments, less what is done.
        unsafe { real::call(libc::SYS_recvmmsg, arguments) }
    };
    if !receives(fd, flags) {
        return answer_int(call(0, flags, limit));
    }
    let all = count.min(MOST) as isize;
    let (mut done, mut deadline) = (0, None);
    let mut attempt = |done: isize, flags: c_int| {
        let Some(at) = deadline else {
            let result = call(done, flags, limit);
            if result > 0 || result == WOULD_BLOCK {
                // SAFETY: the kernel has accepted it; what it may have put there is what is left.
                deadline = unsafe { limit.as_ref() }.map(|limit| hub::after(duration(limit)));
            }
            return result;
        };
        let mut left = timespec_of(at.saturating_duration_since(Instant::now()));
        let result = call(done, flags, &raw mut left);
        if result > 0 {
            // SAFETY: as above; and it tells the caller what is left.
            unsafe { *limit = left };
        }
        result
    };
    loop {
        let result = retry(fd, Side::Read, &"recvmmsg", || {
            // An error is for the next call, if there is something to return.
            if done > 0 && pending(fd, libc::POLLIN) & libc::POLLERR != 0 {
                return 0;
            }
            attempt(done, flags | libc::MSG_DONTWAIT)
        });
        let result = result.unwrap_or_else(|| attempt(done, flags));
        if result <= 0 {
            return answer_int(if done > 0 { done } else { result });
        }
        done += result;
        // SAFETY: as above.
        let is_late = unsafe { limit.as_ref() }.is_some_and(|left| duration(left).is_zero());
        // SAFETY: the kernel has just filled it in.
        let last = unsafe { *messages.wrapping_offset(done - 1) };
        let is_urgent = last.msg_hdr.msg_flags & libc::MSG_OOB != 0;
        if done >= all || flags & libc::MSG_WAITFORONE != 0 || is_late || is_urgent {
            return answer_int(done);
        }
    }
}

fn duration(time: &timespec) -> Duration {
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

fn timespec_of(time: Duration) -> timespec {
    timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() }
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    let call = |done: isize, flags: c_int| {
        let rest = address(messages.wrapping_offset(done));
        let left = count.min(MOST).saturating_sub(done as c_uint) as usize;
        // SAFETY: the caller's arguments, less what is done.
        unsafe { real::call(libc::SYS_sendmmsg, [fd as usize, rest, left, flags as usize, 0, 0]) }
    };
    if !sends(fd, flags) {
        return answer_int(call(0, flags));
    }
    let all = count.min(MOST) as isize;
    let mut done = 0;
    loop {
        let result = retry(fd, Side::Write, &"sendmmsg", || call(done, flags | libc::MSG_DONTWAIT))
            .unwrap_or_else(|| call(done, flags));
        if result <= 0 {
            return answer_int(if done > 0 { done } else { result });
        }
        done += result;
        // SAFETY: the kernel has just sent it, and said how much of it.
        let is_whole = unsafe { complete(fd, messages.wrapping_offset(done - 1), flags) };
        if done >= all || !is_whole {
            return answer_int(done);
        }
    }
}

/// The last message that was sent may have been cut short, on a stream: sends the rest of it. Is it
/// whole now?
///
/// # Safety
///
/// It is one, and writable.
unsafe fn complete(fd: c_int, message: *mut mmsghdr, flags: c_int) -> bool {
    // SAFETY: the caller promises.
    let sent = unsafe { *message };
    // SAFETY: the caller's own, which the kernel has used.
    let buffers = unsafe { Buffers::new(sent.msg_hdr.msg_iov, sent.msg_hdr.msg_iovlen as _) };
    let Some(buffers) = buffers else { return true };
    if sent.msg_len as usize >= buffers.total() || keeps_messages(fd) {
        return true;
    }
    let done = send_rest(fd, &"sendmmsg", buffers, sent.msg_len as usize, flags);
    let sent = mmsghdr { msg_len: done as c_uint, ..sent };
    // SAFETY: as above.
    unsafe { *message = sent };
    done >= buffers.total()
}
