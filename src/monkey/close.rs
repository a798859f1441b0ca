//! Closing: whoever waits for a descriptor hears of it.
//!
//! The kernel lets a thread that waits for a descriptor wait on when another closes it. Here its call
//! returns `EBADF`, as gevent has it (a deliberate difference): the number may be given out again the
//! next moment, and who has waited for the old one must never be served from the new one.
//!
//! They are woken before the closing; each has left the place at which it was waiting by then, and
//! that is what tells it, so it does not matter when it comes to run. A thread that begins to wait
//! between the two waits on, as the kernel's would; the other way round, somebody who waits for the
//! number's new owner could be woken.

use std::ffi::{c_int, c_uint};

use super::gate::{answer_int, error};
use super::lot::{self, Key};
use super::ours;
use crate::sys::native::is_native;
use crate::sys::patches::{self, Patch};
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["close", "dup2", "dup3", "close_range"];

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    ends(fd, || true);
    // SAFETY: the caller's argument; the memory of others is no concern of this call.
    answer_int(unsafe { real::call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) })
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(from: c_int, to: c_int) -> c_int {
    if from == to {
        // The one case in which `dup3`, which every processor's kernel has, does something else.
        return answer_int(if is_open(from) { from as isize } else { error(libc::EBADF) });
    }
    // SAFETY: the caller's arguments.
    answer_int(unsafe { replace(from, to, 0) })
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments.
    answer_int(unsafe { replace(from, to, flags) })
}

/// # Safety
///
/// As for the kernel's `dup3`.
unsafe fn replace(from: c_int, to: c_int, flags: c_int) -> isize {
    // If it fails, nothing is closed.
    ends(to, || from != to && flags & !libc::O_CLOEXEC == 0 && is_open(from));
    let arguments = [from as usize, to as usize, flags as usize, 0, 0, 0];
    // SAFETY: the caller's arguments, and no memory.
    unsafe { real::call(libc::SYS_dup3, arguments) }
}

fn is_open(fd: c_int) -> bool {
    let arguments = [fd as usize, libc::F_GETFD as usize, 0, 0, 0, 0];
    // SAFETY: it is asked for a flag, and touches no memory.
    let flags = unsafe { real::call(libc::SYS_fcntl, arguments) };
    flags >= 0
}

/// That descriptor is about to be closed, if it `will`.
#[inline]
fn ends(fd: c_int, will: impl FnOnce() -> bool) {
    ours::remove(fd);
    let key = Key::Descriptor(fd);
    if patches::is_on(Patch::Socket) && !lot::is_empty(key) && tells() && will() {
        lot::wake(key, lot::ANY, usize::MAX);
    }
}

/// Is anybody to hear of it? Not by a signal handler that has interrupted this thread where it holds
/// a lock of ours, which it would wait for for ever: it is the kernel's call then. And not by a child
/// of `vfork`, which has its parent's memory and descriptors of its own.
#[cold]
fn tells() -> bool {
    !is_native() && !patches::is_child()
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let closes = flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0;
    if let (true, Ok(first)) = (closes, c_int::try_from(first)) {
        let range = first..=c_int::try_from(last).unwrap_or(c_int::MAX);
        ours::remove_all(&range);
        if patches::is_on(Patch::Socket) && tells() {
            lot::wake_descriptors(&range);
        }
    }
    let arguments = [first as usize, last as usize, flags as usize, 0, 0, 0];
    // SAFETY: the caller's arguments; the memory of others is no concern of this call.
    answer_int(unsafe { real::call(libc::SYS_close_range, arguments) })
}
