//! `read` and `write`, on whatever they are called.
//!
//! A descriptor is taken for a socket first, for which one call is enough; if it is none, the kernel
//! is asked what it is. (`preadv2` with `RWF_NOWAIT` would do for both, but on sockets since
//! Linux 6.4 only, and regular files it may cut short.)
//!
//! | | read | write |
//! |---|---|---|
//! | socket | `MSG_DONTWAIT` | `MSG_DONTWAIT`, until all is sent |
//! | pipe, Linux 6.4 or later | `RWF_NOWAIT` | `RWF_NOWAIT`, until all is written |
//! | named or older pipe | `poll` first | `poll` first, `PIPE_BUF` at a time |
//! | terminal | `poll` first | the kernel's own |
//! | regular file, directory, disk | the kernel's own, see [`file`] | the same |
//! | anything else | `RWF_NOWAIT`, or `poll` first | the same |
//!
//! "Poll first" is wrong if somebody else reads or writes in between: then the thread waits. Where
//! there is a better way it is taken.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem;

use libc::iovec;

use super::descriptor::{WOULD_BLOCK, address, is_nonblocking, pending, retry};
use super::file;
use super::gate::{answer, error};
use super::socket::{send_buffer, send_message};
use super::transfer::{self, Buffers, MOST, all, is_cooperative};
use crate::hub::Side;
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["read", "readv", "write", "writev"];

type Verb = &'static &'static str;

/// What a descriptor is, as far as waiting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Socket,
    Pipe,
    Terminal,
    /// It is always ready, and its calls take as long as they take.
    File,
    Other,
}

/// What it is. `None`: not even a descriptor.
pub(super) fn kind(fd: c_int) -> Option<Kind> {
    // SAFETY: numbers and padding, for which zero is a good value.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    let arguments = [fd as usize, address(&raw mut status), 0, 0, 0, 0];
    // SAFETY: it writes a `stat` to where there is room for one.
    let result = unsafe { real::call(libc::SYS_fstat, arguments) };
    (result >= 0).then(|| match status.st_mode & libc::S_IFMT {
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Kind::File,
        libc::S_IFCHR if is_terminal(fd) => Kind::Terminal,
        _ => Kind::Other,
    })
}

fn is_terminal(fd: c_int) -> bool {
    terminal(fd).is_some()
}

/// Does reading from a terminal wait for a line, or for a byte at least?
fn waits_for_bytes(fd: c_int) -> bool {
    terminal(fd).is_none_or(|settings| {
        settings.c_lflag & libc::ICANON != 0 || settings.c_cc[libc::VMIN] > 0
    })
}

/// Its settings, if it is one.
fn terminal(fd: c_int) -> Option<libc::termios2> {
    // SAFETY: as above.
    let mut settings: libc::termios2 = unsafe { mem::zeroed() };
    let place = address(&raw mut settings);
    // SAFETY: it writes settings to where there is room for them: these are larger than those it
    // writes.
    let result = unsafe {
        real::call(libc::SYS_ioctl, [fd as usize, libc::TCGETS as usize, place, 0, 0, 0])
    };
    (result >= 0).then_some(settings)
}

const NO_SOCKET: isize = error(libc::ENOTSOCK);

// ── reading ──

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, len: usize) -> isize {
    let call = || {
        // SAFETY: the caller's arguments.
        unsafe {
            file::call(fd, &"read", libc::SYS_read, [fd as usize, address(buf), len, 0, 0, 0])
        }
    };
    if !is_cooperative(fd) {
        return answer(call());
    }
    let flags = libc::MSG_DONTWAIT as usize;
    let receive = || {
        // SAFETY: the caller's arguments.
        unsafe { real::call(libc::SYS_recvfrom, [fd as usize, address(buf), len, flags, 0, 0]) }
    };
    // To read nothing is not to receive nothing, which would take a datagram.
    let result = if len > 0 { retry(fd, Side::Read, &"read", receive) } else { Some(NO_SOCKET) };
    answer(match result {
        Some(NO_SOCKET) => {
            let buffer = iovec { iov_base: buf, iov_len: len };
            // SAFETY: the caller's buffer.
            let buffers = unsafe { Buffers::new(&raw const buffer, 1) };
            buffers.map_or_else(call, |buffers| read_others(fd, &"read", buffers, call))
        }
        Some(result) => result,
        None => call(),
    })
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn readv(fd: c_int, first: *const iovec, count: c_int) -> isize {
    let call = || {
        let arguments = [fd as usize, address(first), count as usize, 0, 0, 0];
        // SAFETY: the caller's arguments.
        unsafe { file::call(fd, &"readv", libc::SYS_readv, arguments) }
    };
    if !is_cooperative(fd) {
        return answer(call());
    }
    // SAFETY: as the caller promises.
    let Some(buffers) = (unsafe { not_empty(first, count) }) else { return answer(call()) };
    let receive = || {
        let mut message = transfer::message(first.cast_mut(), count as usize);
        let flags = libc::MSG_DONTWAIT as usize;
        let arguments = [fd as usize, address(&raw mut message), flags, 0, 0, 0];
        // SAFETY: a message of the caller's buffers.
        unsafe { real::call(libc::SYS_recvmsg, arguments) }
    };
    answer(match retry(fd, Side::Read, &"readv", receive) {
        Some(NO_SOCKET) => read_others(fd, &"readv", buffers, call),
        Some(result) => result,
        None => call(),
    })
}

/// Buffers, if anything is to be transferred, and the kernel would have them. Else it says so at
/// once; but sockets would receive or send an empty message.
///
/// # Safety
///
/// `first` points to `count` buffers, or is null.
unsafe fn not_empty(first: *const iovec, count: c_int) -> Option<Buffers> {
    let count = usize::try_from(count).ok()?;
    // SAFETY: the caller promises.
    unsafe { Buffers::new(first, count) }.filter(|buffers| buffers.total() > 0)
}

/// Reads what is no socket. `call` is the caller's, which may wait.
fn read_others(fd: c_int, verb: Verb, buffers: Buffers, call: impl Fn() -> isize) -> isize {
    let knows = match kind(fd) {
        None | Some(Kind::Socket | Kind::File) => return call(),
        // What nothing is to be read from says what it has to say at once.
        Some(_) if buffers.total() == 0 => return call(),
        // It waits for no byte, or for a time of its own.
        Some(Kind::Terminal) if !waits_for_bytes(fd) => return call(),
        Some(Kind::Terminal) => false,
        Some(Kind::Pipe | Kind::Other) => true,
    };
    let knows = Cell::new(knows);
    let attempt = || {
        if knows.get() {
            // SAFETY: the caller's buffers.
            let result = unsafe { at_once(libc::SYS_preadv2, fd, buffers.list()) };
            if !is_unknown(result) {
                return result;
            }
            knows.set(false);
        }
        // Of a pipe without a writer the kernel says more than that it is not ready.
        let is_tried = pending(fd, libc::POLLIN) != 0 || is_nonblocking(fd);
        if is_tried { call() } else { WOULD_BLOCK }
    };
    retry(fd, Side::Read, verb, attempt).unwrap_or_else(call)
}

/// Reads or writes where the descriptor is, and does not wait.
///
/// # Safety
///
/// As for the kernel's `preadv2` or `pwritev2`.
unsafe fn at_once(number: libc::c_long, fd: c_int, (first, count): (usize, usize)) -> isize {
    const HERE: usize = usize::MAX;
    let arguments = [fd as usize, first, count, HERE, HERE, libc::RWF_NOWAIT as usize];
    // SAFETY: the caller's arguments.
    unsafe { real::call(number, arguments) }
}

/// Does the kernel not know how to do that without waiting?
fn is_unknown(result: isize) -> bool {
    const UNKNOWN: [isize; 2] = [error(libc::EOPNOTSUPP), error(libc::ENOSYS)];
    UNKNOWN.contains(&result)
}

// ── writing ──

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: usize) -> isize {
    let call = || {
        // SAFETY: the caller's arguments.
        unsafe {
            file::call(fd, &"write", libc::SYS_write, [fd as usize, address(buf), len, 0, 0, 0])
        }
    };
    if !is_cooperative(fd) {
        return answer(call());
    }
    // SAFETY: the caller's arguments; nobody is named.
    let result = unsafe { send_buffer(fd, &"write", (buf, len), 0, (0, 0)) };
    answer(if result == NO_SOCKET {
        let buffer = iovec { iov_base: buf.cast_mut(), iov_len: len };
        // SAFETY: the caller's buffer.
        let buffers = unsafe { Buffers::new(&raw const buffer, 1) };
        buffers.map_or_else(call, |buffers| write_others(fd, &"write", buffers, call))
    } else {
        result
    })
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, first: *const iovec, count: c_int) -> isize {
    let call = || {
        let arguments = [fd as usize, address(first), count as usize, 0, 0, 0];
        // SAFETY: the caller's arguments.
        unsafe { file::call(fd, &"writev", libc::SYS_writev, arguments) }
    };
    if !is_cooperative(fd) {
        return answer(call());
    }
    // SAFETY: as the caller promises.
    let Some(buffers) = (unsafe { not_empty(first, count) }) else { return answer(call()) };
    let message = transfer::message(first.cast_mut(), count as usize);
    // SAFETY: a message of the caller's buffers.
    let result = unsafe { send_message(fd, &"writev", &raw const message, 0) };
    answer(if result == NO_SOCKET { write_others(fd, &"writev", buffers, call) } else { result })
}

/// Writes what is no socket. `call` is the caller's, which may wait.
fn write_others(fd: c_int, verb: Verb, buffers: Buffers, call: impl Fn() -> isize) -> isize {
    let is_pipe = match kind(fd) {
        None | Some(Kind::Socket | Kind::File | Kind::Terminal) => return call(),
        Some(_) if buffers.total() == 0 => return call(), // as above
        Some(kind) => kind == Kind::Pipe,
    };
    let knows = Cell::new(true);
    let write = |number: libc::c_long, list: (usize, usize)| {
        // SAFETY: the caller's buffers.
        unsafe { real::call(number, [fd as usize, list.0, list.1, 0, 0, 0]) }
    };
    // What is no pipe takes what it is given as one thing, or says how much it has taken.
    let total = || if is_pipe { buffers.total() } else { 0 };
    all(fd, Side::Write, verb, total, |done, waits| {
        let whole = done == 0;
        if waits {
            let rest = buffers.rest(done, MOST);
            return if whole { call() } else { write(libc::SYS_writev, rest.list()) };
        }
        if knows.get() {
            let rest = buffers.rest(done, MOST);
            let list = if whole { buffers.list() } else { rest.list() };
            // SAFETY: the caller's buffers.
            let result = unsafe { at_once(libc::SYS_pwritev2, fd, list) };
            if !is_unknown(result) {
                return result;
            }
            knows.set(false);
        }
        if pending(fd, libc::POLLOUT) == 0 {
            return WOULD_BLOCK;
        }
        // A pipe that can be written to takes so much for certain.
        if whole && (!is_pipe || buffers.total() <= libc::PIPE_BUF) {
            return call();
        }
        write(libc::SYS_writev, buffers.rest(done, libc::PIPE_BUF).list())
    })
}
