//! Sockets: receiving and sending.
//!
//! `MSG_DONTWAIT` says for one call what `O_NONBLOCK` says for all, so each call is made as it is,
//! with that flag. What is there is received, and what there is room for is sent, by one system
//! call.
//!
//! Twice the kernel goes on after it has waited: until all of a stream is sent, and until all that was
//! asked for is received (`MSG_WAITALL`). Here that takes several calls. An error that comes after a
//! part belongs to the next call of the user's; an attempt of ours would take it away. So the
//! socket is asked whether there is one before it is tried again.

use std::cell::Cell;
use std::ffi::{c_int, c_short, c_void};

use libc::{msghdr, sockaddr, socklen_t};

use super::descriptor::{WOULD_BLOCK, address, pending, retry};
use super::gate::{answer, error};
use super::transfer::{self, Buffers, MOST, all};
use crate::hub::Side;
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["recv", "recvfrom", "recvmsg", "send", "sendto", "sendmsg"];

type Verb = &'static &'static str;

// ── receiving ──

/// May receiving wait, and by parking? The kernel does not wait for errors and for urgent data.
pub(super) fn receives(fd: c_int, flags: c_int) -> bool {
    flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB) == 0
        && transfer::is_cooperative(fd)
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    let call = |done: usize, flags: c_int| {
        let arguments =
            [fd as usize, address(buf).wrapping_add(done), len - done, flags as usize, 0, 0];
        // SAFETY: the caller's arguments, less what is done.
        unsafe { real::call(libc::SYS_recvfrom, arguments) }
    };
    answer(receive(fd, &"recv", flags, || len.min(MOST), call))
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> isize {
    let call = |done: usize, flags: c_int| {
        let whom = if done == 0 { [address(from), address(from_len)] } else { [0; 2] };
        let (buf, len) = (address(buf).wrapping_add(done), len - done);
        let arguments = [fd as usize, buf, len, flags as usize, whom[0], whom[1]];
        // SAFETY: the caller's arguments, less what is done.
        unsafe { real::call(libc::SYS_recvfrom, arguments) }
    };
    answer(receive(fd, &"recvfrom", flags, || len.min(MOST), call))
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> isize {
    let call = |_, flags: c_int| {
        let arguments = [fd as usize, address(message), flags as usize, 0, 0, 0];
        // SAFETY: the caller's arguments.
        unsafe { real::call(libc::SYS_recvmsg, arguments) }
    };
    let goes_on = flags & libc::MSG_WAITALL != 0 && receives(fd, flags);
    answer(if goes_on && !message.is_null() {
        // SAFETY: a message of the caller's, which is not null.
        unsafe { receive_all_of_message(fd, message, flags) }
    } else {
        receive(
            fd,
            &"recvmsg",
            flags & !libc::MSG_WAITALL,
            || 0,
            |_, more| call(0, more | flags & libc::MSG_WAITALL),
        )
    })
}

/// `call` is told how much is done, and the flags.
fn receive(
    fd: c_int,
    verb: Verb,
    flags: c_int,
    total: impl Fn() -> usize,
    call: impl Fn(usize, c_int) -> isize,
) -> isize {
    if !receives(fd, flags) {
        return call(0, flags);
    }
    let attempt = || call(0, flags | libc::MSG_DONTWAIT);
    if flags & libc::MSG_WAITALL == 0 {
        return retry(fd, Side::Read, verb, attempt).unwrap_or_else(|| call(0, flags));
    }
    if flags & libc::MSG_PEEK != 0 {
        return peek_all(fd, verb, total(), attempt).unwrap_or_else(|| call(0, flags));
    }
    all(fd, Side::Read, verb, total, |done, waits| match may_go_on(fd, done) {
        true if waits => call(done, flags),
        true => call(done, flags | libc::MSG_DONTWAIT),
        false => 0,
    })
}

/// Is there neither urgent data, at which a call stops, nor an error that belongs to the next call?
fn may_go_on(fd: c_int, done: usize) -> bool {
    if done == 0 {
        return true;
    }
    let now = pending(fd, libc::POLLIN | libc::POLLPRI);
    now & libc::POLLPRI == 0 && (now & BROKEN != BROKEN || transfer::unread(fd) > 0)
}

/// What `poll` says of a connection that has ended by an error. (An error alone may be a message of
/// the kernel's own, of what it has sent.)
const BROKEN: c_short = libc::POLLERR | libc::POLLHUP;

/// Looks at what there is until that is all, or there will be no more.
#[cold]
fn peek_all(fd: c_int, verb: Verb, total: usize, attempt: impl Fn() -> isize) -> Option<isize> {
    let part = Cell::new(0);
    let seen = retry(fd, Side::Read, verb, || {
        let seen = attempt();
        let end = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
        let is_part = seen > 0 && (seen as usize) < total;
        if !is_part || transfer::keeps_messages(fd) || pending(fd, end) != 0 {
            return seen;
        }
        part.set(seen);
        WOULD_BLOCK
    });
    match seen {
        Some(failed) if failed < 0 && part.get() > 0 => Some(part.get()),
        other => other,
    }
}

/// `recvmsg` with `MSG_WAITALL`. A call ends with the part that brings descriptors, else they would
/// be mixed up with those of later parts.
///
/// # Safety
///
/// It is a message, and writable.
#[cold]
unsafe fn receive_all_of_message(fd: c_int, message: *mut msghdr, flags: c_int) -> isize {
    // SAFETY: the caller promises.
    let asked = unsafe { *message };
    let is_over = Cell::new(false);
    // SAFETY: so many buffers are in the caller's message.
    let buffers = unsafe { Buffers::new(asked.msg_iov, asked.msg_iovlen as _) };
    let total = || match buffers {
        Some(buffers) if !is_over.get() => buffers.total(),
        _ => 0,
    };
    let receive = |message: *mut msghdr, flags: c_int| {
        let arguments = [fd as usize, address(message), flags as usize, 0, 0, 0];
        // SAFETY: the caller's message, or one of its own buffers.
        unsafe { real::call(libc::SYS_recvmsg, arguments) }
    };
    if flags & libc::MSG_PEEK != 0 {
        let attempt = || {
            // SAFETY: the caller's, and what it was before the last attempt.
            unsafe { *message = asked };
            receive(message, flags | libc::MSG_DONTWAIT)
        };
        return peek_all(fd, &"recvmsg", total(), attempt)
            .unwrap_or_else(|| receive(message, flags));
    }
    all(fd, Side::Read, &"recvmsg", total, |done, waits| {
        let flags = if waits { flags } else { flags | libc::MSG_DONTWAIT };
        let result = match buffers {
            Some(buffers) if done > 0 => {
                if !may_go_on(fd, done) {
                    return 0;
                }
                let mut rest = buffers.rest(done, MOST - done);
                let mut more = rest.message();
                // SAFETY: the caller's message, which the kernel has filled in.
                let told = unsafe { *message };
                if told.msg_controllen == 0 {
                    (more.msg_control, more.msg_controllen) =
                        (asked.msg_control, asked.msg_controllen);
                }
                let result = receive(&raw mut more, flags);
                if result > 0 {
                    let flags = told.msg_flags | more.msg_flags;
                    let control = if told.msg_controllen == 0 {
                        more.msg_controllen
                    } else {
                        told.msg_controllen
                    };
                    let filled = msghdr { msg_controllen: control, msg_flags: flags, ..told };
                    // SAFETY: as above.
                    unsafe { *message = filled };
                }
                result
            }
            _ => receive(message, flags),
        };
        if result > 0 {
            // SAFETY: as above.
            is_over.set(unsafe { has_descriptors(message) });
        }
        result
    })
}

/// Has a message brought descriptors, or control data for which there was no room?
///
/// # Safety
///
/// The kernel has filled it in.
unsafe fn has_descriptors(message: *const msghdr) -> bool {
    // SAFETY: the caller promises.
    if unsafe { (*message).msg_flags } & libc::MSG_CTRUNC != 0 {
        return true;
    }
    // SAFETY: what the kernel has written there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: one of those that the kernel has written.
        let control = unsafe { &*next };
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            return true;
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    false
}

// ── sending ──

/// May sending wait, and by parking?
pub(super) fn sends(fd: c_int, flags: c_int) -> bool {
    flags & libc::MSG_DONTWAIT == 0 && transfer::is_cooperative(fd)
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
    // SAFETY: the caller's arguments; nobody is named.
    answer(unsafe { send_buffer(fd, &"send", (buf, len), flags, (0, 0)) })
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> isize {
    // SAFETY: the caller's arguments.
    answer(unsafe { send_buffer(fd, &"sendto", (buf, len), flags, (address(to), to_len as usize)) })
}

/// # Safety
///
/// As for the kernel's `sendmsg`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize {
    // SAFETY: the caller's arguments.
    answer(unsafe { send_message(fd, &"sendmsg", message, flags) })
}

/// Sends a buffer, to somebody or (0, 0).
///
/// # Safety
///
/// As for the kernel's `sendto`.
pub(super) unsafe fn send_buffer(
    fd: c_int,
    verb: Verb,
    (buf, len): (*const c_void, usize),
    flags: c_int,
    to: (usize, usize),
) -> isize {
    let call = |begun: Option<usize>, flags: c_int| {
        let (done, to) = (begun.unwrap_or(0), if begun.is_none() { to } else { (0, 0) });
        let (buf, len) = (address(buf).wrapping_add(done), len - done);
        // SAFETY: the caller's arguments, less what is done.
        unsafe { real::call(libc::SYS_sendto, [fd as usize, buf, len, flags as usize, to.0, to.1]) }
    };
    if !sends(fd, flags) {
        return call(None, flags);
    }
    send_all(fd, verb, flags, || len.min(MOST), call)
}

/// Sends a message.
///
/// # Safety
///
/// As for the kernel's `sendmsg`.
pub(super) unsafe fn send_message(
    fd: c_int,
    verb: Verb,
    message: *const msghdr,
    flags: c_int,
) -> isize {
    let send = |message: *const msghdr, flags: c_int| {
        let arguments = [fd as usize, address(message), flags as usize, 0, 0, 0];
        // SAFETY: the caller's message, or one of its own buffers.
        unsafe { real::call(libc::SYS_sendmsg, arguments) }
    };
    if !sends(fd, flags) {
        return send(message, flags);
    }
    let buffers = || {
        // SAFETY: the kernel has taken something of it, so that it is there.
        let message = unsafe { &*message };
        // SAFETY: as above.
        unsafe { Buffers::new(message.msg_iov, message.msg_iovlen as _) }
    };
    let total = || buffers().map_or(0, |buffers| buffers.total());
    send_all(fd, verb, flags, total, |begun, flags| {
        match begun.and_then(|done| {
            // What control data there was has gone with the first part.
            buffers().map(|buffers| buffers.rest(done, MOST - done))
        }) {
            None => send(message, flags),
            Some(mut rest) => {
                let rest = rest.message();
                send(&raw const rest, flags)
            }
        }
    })
}

/// Sends what is left of a message when so much of it is sent. Returns how much is then.
#[cold]
pub(super) fn send_rest(
    fd: c_int,
    verb: Verb,
    buffers: Buffers,
    done: usize,
    flags: c_int,
) -> usize {
    let call = |more: Option<usize>, flags: c_int| {
        let done = done + more.unwrap_or(0);
        let rest = buffers.rest(done, MOST.saturating_sub(done)).message();
        let arguments = [fd as usize, address(&raw const rest), flags as usize, 0, 0, 0];
        // SAFETY: a message of the caller's buffers.
        unsafe { real::call(libc::SYS_sendmsg, arguments) }
    };
    // Not the first part, so that no signal comes of it.
    let flags = flags | libc::MSG_NOSIGNAL;
    let more = send_all(fd, verb, flags, || buffers.total() - done, call);
    done + more.max(0) as usize
}

/// `call` is told how much is done, once it has begun, and the flags.
fn send_all(
    fd: c_int,
    verb: Verb,
    flags: c_int,
    total: impl Fn() -> usize,
    call: impl Fn(Option<usize>, c_int) -> isize,
) -> isize {
    let connects = Cell::new(false);
    let result = all(fd, Side::Write, verb, total, |done, waits| {
        let wait = if waits { 0 } else { libc::MSG_DONTWAIT };
        let has_begun = done > 0 || connects.get();
        if !has_begun {
            return match call(None, flags | wait) {
                // The first data was to go with the connecting (`MSG_FASTOPEN`), and goes after it.
                CONNECTING if !waits => {
                    connects.set(true);
                    WOULD_BLOCK
                }
                result => result,
            };
        }
        if done > 0 && !waits {
            let now = pending(fd, libc::POLLOUT);
            if now & BROKEN == BROKEN {
                return 0;
            }
            if now == 0 {
                return WOULD_BLOCK;
            }
        }
        // No signal comes after a part; the next call gets it.
        let signal = if done > 0 { libc::MSG_NOSIGNAL } else { 0 };
        call(Some(done), flags & !libc::MSG_FASTOPEN | signal | wait)
    });
    if result == WOULD_BLOCK && connects.get() { CONNECTING } else { result }
}

const CONNECTING: isize = error(libc::EINPROGRESS);
