//! Sockets: making, connecting and accepting.
//!
//! There is no flag for these calls that says that they must not wait.
//!
//! *Accepting* asks `poll` first. Another thread or process that accepts from the same socket may
//! take the connection in between, and then the thread waits for the next one. gevent has its
//! listeners non-blocking, and for itself; here they are the program's, and their mode is not ours.
//!
//! *Connecting* sets `O_NONBLOCK` for the instant of the call where that can be seen by nobody (see
//! [`ours`]). Elsewhere a thread makes the call, by a duplicate of the descriptor, whose number stays
//! good whatever becomes of the caller's.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use libc::{sockaddr, sockaddr_storage, socklen_t};

use super::descriptor::{WOULD_BLOCK, address, pending, retry, socket_option};
use super::gate::{answer_int, error};
use super::transfer::is_cooperative;
use super::{offload, ours};
use crate::hub::Side;
use crate::sys::patches::{self, Patch};
use crate::sys::real;
use crate::threadpool::ThreadPool;

pub(super) const NAMES: &[&str] = &["socket", "connect", "accept", "accept4"];

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    let arguments = [family as usize, kind as usize, protocol as usize, 0, 0, 0];
    // SAFETY: the caller's arguments, and no memory.
    let result = unsafe { real::call(libc::SYS_socket, arguments) };
    if result >= 0 {
        let fd = result as c_int;
        let waits = matches!(kind & !libc::SOCK_CLOEXEC, libc::SOCK_STREAM | libc::SOCK_SEQPACKET);
        let is_known = matches!(family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX);
        if waits && is_known && patches::is_on(Patch::Socket) {
            ours::insert(fd);
        } else {
            ours::remove(fd); // its number may have been closed behind our back
        }
    }
    answer_int(result)
}

// ── connecting ──

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int {
    let call = || {
        // SAFETY: the caller's arguments.
        unsafe { connect_now(fd, to, len) }
    };
    let result = if !is_cooperative(fd) {
        call()
    } else if ours::contains(fd) {
        connect_ours(fd, call)
    } else {
        // SAFETY: the caller's arguments.
        unsafe { connect_others(fd, to, len) }
    };
    answer_int(result)
}

/// # Safety
///
/// As for the kernel's `connect`.
unsafe fn connect_now(fd: c_int, to: *const sockaddr, len: socklen_t) -> isize {
    let arguments = [fd as usize, address(to), len as usize, 0, 0, 0];
    // SAFETY: the caller's arguments.
    unsafe { real::call(libc::SYS_connect, arguments) }
}

/// What is called when it can be written to is `connect` again: only that makes the kernel forget
/// that it was connecting, and tells the result as its blocking call does.
fn connect_ours(fd: c_int, call: impl Fn() -> isize) -> isize {
    let first = Cell::new(0);
    let attempt = || {
        let Some(result) = without_waiting(fd, &call) else { return call() };
        match result {
            CONNECTING | ALREADY | WOULD_BLOCK => {
                if first.get() == 0 {
                    first.set(result);
                }
                WOULD_BLOCK
            }
            // Another greenlet has waited for the same connection, and was told before us.
            CONNECTED if matches!(first.get(), CONNECTING | ALREADY) => 0,
            result => result,
        }
    };
    let result = match retry(fd, Side::Write, &"connect", attempt) {
        // The limit has been reached: as the first call has told.
        Some(WOULD_BLOCK) if first.get() != 0 => first.get(),
        Some(result) => result,
        None => call(),
    };
    if result == 0 {
        ours::remove(fd);
    }
    result
}

const CONNECTING: isize = error(libc::EINPROGRESS);
const ALREADY: isize = error(libc::EALREADY);
const CONNECTED: isize = error(libc::EISCONN);

/// Makes a call in non-blocking mode. `None`: the user has set it, or it is no descriptor.
fn without_waiting(fd: c_int, call: impl Fn() -> isize) -> Option<isize> {
    let control = |command: c_int, flags: usize| {
        let arguments = [fd as usize, command as usize, flags, 0, 0, 0];
        // SAFETY: it reads or sets the mode, and touches no memory.
        unsafe { real::call(libc::SYS_fcntl, arguments) }
    };
    let flags = usize::try_from(control(libc::F_GETFL, 0)).ok()?;
    if flags & libc::O_NONBLOCK as usize != 0 {
        return None;
    }
    control(libc::F_SETFL, flags | libc::O_NONBLOCK as usize);
    let result = call();
    control(libc::F_SETFL, flags);
    Some(result)
}

/// Connects a socket that has come from elsewhere.
///
/// # Safety
///
/// As for the kernel's `connect`.
unsafe fn connect_others(fd: c_int, to: *const sockaddr, len: socklen_t) -> isize {
    let kind = socket_option(fd, libc::SO_TYPE, 0);
    let waits = matches!(kind, Some(libc::SOCK_STREAM | libc::SOCK_SEQPACKET));
    let is_odd = to.is_null() || len as usize > mem::size_of::<sockaddr_storage>();
    let by_thread = waits && !is_odd && !super::descriptor::is_nonblocking(fd);
    // SAFETY: it has a pointer and a length that the kernel would accept.
    let result = if by_thread { unsafe { connect_by_thread(fd, to, len) } } else { None };
    result.unwrap_or_else(|| {
        // SAFETY: the caller's arguments.
        unsafe { connect_now(fd, to, len) }
    })
}

/// An address, to be had elsewhere.
struct Address {
    bytes: sockaddr_storage,
    len: socklen_t,
}

/// `None`: no descriptor can be had for it.
///
/// A thread cannot be interrupted: if the greenlet is, the connecting goes on, as after a signal.
///
/// # Safety
///
/// There are `len` bytes at `to`, no more than an address may have.
#[cold]
unsafe fn connect_by_thread(fd: c_int, to: *const sockaddr, len: socklen_t) -> Option<isize> {
    // SAFETY: zeros are an address, if not a good one.
    let mut copy = Address { bytes: unsafe { mem::zeroed() }, len };
    let place = (&raw mut copy.bytes).cast::<u8>();
    // SAFETY: the caller promises; and there is room for them.
    unsafe { place.copy_from_nonoverlapping(to.cast(), len as usize) };
    let arguments = [fd as usize, libc::F_DUPFD_CLOEXEC as usize, 0, 0, 0, 0];
    // SAFETY: it makes a descriptor, and touches no memory.
    let duplicate = unsafe { real::call(libc::SYS_fcntl, arguments) };
    if duplicate < 0 {
        return None;
    }
    // SAFETY: it has just been made, for nobody else.
    let duplicate = unsafe { OwnedFd::from_raw_fd(duplicate as c_int) };
    let connected = offload::interruptible(threads(), &"connect", move || {
        let to = (&raw const copy.bytes).cast();
        // SAFETY: a descriptor and an address of our own.
        unsafe { connect_now(duplicate.as_raw_fd(), to, copy.len) }
    });
    Some(connected.unwrap_or_else(|error| error))
}

/// Threads of their own: who is not there may take minutes not to answer.
fn threads() -> &'static ThreadPool {
    static THREADS: OnceLock<ThreadPool> = OnceLock::new();
    THREADS.get_or_init(|| {
        let builder = ThreadPool::builder().name("greenloom-connect");
        builder.max_threads(32).unbounded_queue().build()
    })
}

// ── accepting ──

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept(fd: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the caller's arguments.
    answer_int(unsafe { take(fd, &"accept", from, len, 0) })
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept4(
    fd: c_int,
    from: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's arguments.
    answer_int(unsafe { take(fd, &"accept4", from, len, flags) })
}

/// # Safety
///
/// As for the kernel's `accept4`.
unsafe fn take(
    fd: c_int,
    verb: &'static &'static str,
    from: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> isize {
    let call = || {
        let arguments = [fd as usize, address(from), address(len), flags as usize, 0, 0];
        // SAFETY: the caller's arguments.
        unsafe { real::call(libc::SYS_accept4, arguments) }
    };
    let knows = flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) == 0;
    let result = if knows && is_cooperative(fd) {
        retry(fd, Side::Read, verb, || {
            // What is no listener is refused at once.
            let is_refused = || socket_option(fd, libc::SO_ACCEPTCONN, 0) != Some(1);
            if pending(fd, libc::POLLIN) != 0 || is_refused() { call() } else { WOULD_BLOCK }
        })
    } else {
        None
    };
    let result = result.unwrap_or_else(call);
    if let Ok(made) = c_int::try_from(result) {
        ours::remove(made); // its number may have been closed behind our back
    }
    result
}
