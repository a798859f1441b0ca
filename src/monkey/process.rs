//! Children: waited for by their descriptors, and by threads where there is none.
//!
//! Whatever tells that a child has ended, the caller's own call, made so that it does not wait, finds
//! the child and reaps it, in the greenlet. So there is no moment at which a kill could lose one, and
//! all that is told of the child is the kernel's.
//!
//! One child whose end alone is of interest has a descriptor that becomes readable (`pidfd_open`,
//! Linux 5.3). For several, or for stops and continuations, a thread waits in a way that reaps nothing
//! (`WNOWAIT`).
//!
//! A child that this very process traces and that stops for its tracer is told of by waits for one
//! child with `__WALL` or `WUNTRACED` only, which a thread makes: its descriptor tells of its end alone.
//!
//! The road not taken: `SIGCHLD`, which may be the program's own, comes once for many, and not at all
//! for those who block it.

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{mem, ptr, slice};

use super::descriptor::{Waited, Watcher, address, is_nonblocking, wait as wait_at};
use super::gate::{CANCELLED, answer_int, error, is_cooperative};
use super::offload::{self, Pauses, Verb};
use crate::hub::Side;
use crate::sys::patches::Patch;
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["waitpid", "wait", "wait3", "wait4", "waitid"];

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn waitpid(pid: libc::pid_t, status: *mut c_int, options: c_int) -> libc::pid_t {
    // SAFETY: the caller's arguments, as they are.
    unsafe { wait_4(&"waitpid", pid, status, options, ptr::null_mut()) }
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wait(status: *mut c_int) -> libc::pid_t {
    // SAFETY: the caller's argument, as it is.
    unsafe { wait_4(&"wait", -1, status, 0, ptr::null_mut()) }
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wait3(
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> libc::pid_t {
    // SAFETY: the caller's arguments, as they are.
    unsafe { wait_4(&"wait3", -1, status, options, usage) }
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wait4(
    pid: libc::pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> libc::pid_t {
    // SAFETY: the caller's arguments, as they are.
    unsafe { wait_4(&"wait4", pid, status, options, usage) }
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn waitid(
    kind: libc::idtype_t,
    id: libc::id_t,
    info: *mut libc::siginfo_t,
    options: c_int,
) -> c_int {
    let call = |info: *mut libc::siginfo_t, options: c_int| {
        let arguments = [kind as usize, id as usize, address(info), options as usize, 0, 0];
        // SAFETY: the caller's arguments, or a place of ours for what is told.
        unsafe { real::call(libc::SYS_waitid, arguments) }
    };
    if options & libc::WNOHANG != 0 || !is_cooperative(Patch::Process) {
        return answer_int(call(info, options));
    }
    // It says 0 whether somebody was found or not; what it tells of him says which.
    // SAFETY: numbers and addresses, for which zero is good.
    let mut own: libc::siginfo_t = unsafe { mem::zeroed() };
    let info = if info.is_null() { &raw mut own } else { info };
    let attempt = || match call(info, options | libc::WNOHANG) {
        // SAFETY: the kernel has just written there.
        0 if unsafe { (*info).si_signo } == 0 => None,
        result => Some(result),
    };
    let found = until_found(&"waitid", Whom { kind, id }, options, attempt);
    answer_int(found.unwrap_or_else(|error| error))
}

/// What all of them are but `waitid`.
///
/// # Safety
///
/// As for the kernel's.
#[inline]
unsafe fn wait_4(
    verb: Verb,
    pid: libc::pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> libc::pid_t {
    let call = |options: c_int| {
        let arguments = [pid as usize, address(status), options as usize, address(usage), 0, 0];
        // SAFETY: the caller's arguments, as they are.
        unsafe { real::call(libc::SYS_wait4, arguments) }
    };
    if options & libc::WNOHANG != 0 || !is_cooperative(Patch::Process) {
        return answer_int(call(options));
    }
    let attempt = || match call(options | libc::WNOHANG) {
        0 => None,
        result => Some(result),
    };
    // The end is what they wait for without being told so.
    let found = until_found(verb, Whom::of(pid), options | libc::WEXITED, attempt);
    answer_int(found.unwrap_or_else(|error| error))
}

/// Who is waited for, as `waitid` is told.
#[derive(Clone, Copy)]
struct Whom {
    kind: libc::idtype_t,
    id: libc::id_t,
}

impl Whom {
    /// As the others are told.
    fn of(pid: libc::pid_t) -> Whom {
        match pid {
            -1 => Whom { kind: libc::P_ALL, id: 0 },
            1.. => Whom { kind: libc::P_PID, id: pid as libc::id_t },
            _ => Whom { kind: libc::P_PGID, id: pid.unsigned_abs() },
        }
    }

    /// Older kernels do not take 0 for the caller's own group, and whoever waits is to wait for that
    /// of now.
    fn with_group(self) -> Whom {
        if self.kind != libc::P_PGID || self.id != 0 {
            return self;
        }
        // SAFETY: it touches no memory.
        let group = unsafe { real::call(libc::SYS_getpgid, [0; 6]) };
        Whom { id: group as libc::id_t, ..self }
    }
}

/// Makes attempts, none of which waits, until one finds somebody or an error, and waits in between.
///
/// # Errors
///
/// [`CANCELLED`], if the greenlet was killed or timed out meanwhile.
fn until_found(
    verb: Verb,
    whom: Whom,
    options: c_int,
    mut attempt: impl FnMut() -> Option<isize>,
) -> Result<isize, isize> {
    if let Some(found) = attempt() {
        return Ok(found);
    }
    if options & !libc::WNOWAIT == libc::WEXITED {
        until_readable(verb, whom)?;
        if let Some(found) = attempt() {
            return Ok(found);
        }
    }
    let whom = whom.with_group();
    let mut pauses = Pauses::new();
    loop {
        // For another thread "the children of this thread" are not those that are meant.
        let is_told = options & libc::__WNOTHREAD == 0 && until_there_is(verb, whom, options)?;
        if let Some(found) = attempt() {
            return Ok(found);
        }
        // Somebody else was quicker; or nobody can tell us, and we have to look from time to time.
        if !is_told {
            pauses.pause(verb)?;
        }
    }
}

/// Waits until the descriptor of a child is readable, if it is one child, and has one.
fn until_readable(verb: Verb, whom: Whom) -> Result<(), isize> {
    match whom.kind {
        libc::P_PID => match ChildFd::open(whom.id) {
            Some(child) => until_readable_at(verb, child.0),
            None => Ok(()),
        },
        // Who has made it non-blocking is told so.
        libc::P_PIDFD if is_nonblocking(whom.id as c_int) => Err(error(libc::EAGAIN)),
        libc::P_PIDFD => until_readable_at(verb, whom.id as c_int),
        _ => Ok(()),
    }
}

fn until_readable_at(verb: Verb, fd: c_int) -> Result<(), isize> {
    let Ok(mut watcher) = Watcher::new(fd, Side::Read) else { return Ok(()) };
    match wait_at(slice::from_mut(&mut watcher), verb, None) {
        Waited::Cancelled => Err(CANCELLED),
        Waited::Ready | Waited::Elapsed | Waited::Closed => Ok(()),
    }
}

/// The descriptor of a child. It is opened and closed past all functions of the C library: nobody else
/// knows of it.
struct ChildFd(c_int);

impl ChildFd {
    /// `None`: an older kernel, or no descriptor left.
    fn open(pid: libc::id_t) -> Option<ChildFd> {
        // SAFETY: it touches no memory.
        let fd = unsafe { real::call(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0]) };
        (fd >= 0).then_some(ChildFd(fd as c_int))
    }
}

impl Drop for ChildFd {
    fn drop(&mut self) {
        // SAFETY: it is ours alone.
        unsafe { real::call(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Has a thread wait until there is somebody to be found, who is left for the caller to find. False:
/// the kernel does not let it.
fn until_there_is(verb: Verb, whom: Whom, options: c_int) -> Result<bool, isize> {
    /// Those whose greenlet was interrupted wait on, until a child ends.
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    const MOST: usize = 64;

    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let others = THREADS.fetch_add(1, Ordering::Relaxed);
    let counted = Counted;
    if others >= MOST {
        return Ok(false);
    }
    offload::interruptible(offload::for_ever(), verb, move || {
        let _counted = counted;
        let options = options | libc::WNOWAIT;
        let arguments = [whom.kind as usize, whom.id as usize, 0, options as usize, 0, 0];
        loop {
            // SAFETY: numbers, and null for the places of what it could tell.
            match unsafe { real::call(libc::SYS_waitid, arguments) } {
                INTERRUPTED => {} // a signal handler has run here, as it may on any thread
                result => return result >= 0,
            }
        }
    })
}

const INTERRUPTED: isize = error(libc::EINTR);
