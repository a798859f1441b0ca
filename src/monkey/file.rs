//! Regular files: read and written by threads. Not part of `patch_all`.
//!
//! The thread is lent the caller's memory, so nothing ends these waits but the disk's answer: a read
//! that was given up would have moved on the position in the file all the same, and what it has read
//! would be lost. A kill is raised at the next wait.
//!
//! A descriptor that is closed while a thread is at work on it is the caller's mistake, as it is
//! between threads. Rejected: a duplicate for each call, whose closing would give up the locks that
//! the process has on the file by `fcntl`.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use super::descriptor::address;
use super::gate::{answer, answer_int, error, is_cooperative};
use super::offload::{self, Pauses, Verb};
use crate::sys::patches::Patch;
use crate::sys::real;

/// Functions that are calls of the system on a descriptor, made by threads `if` that says so.
macro_rules! by_threads {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty: $number:ident, if $which:path;)+) => {
        pub(super) const NAMES: &[&str] = &[$(stringify!($name),)+ "flock"];

        $(
            /// # Safety
            ///
            /// As for the kernel's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(fd: c_int $(, $argument: $kind)*) -> $result {
                let mut arguments = [fd as usize, 0, 0, 0, 0, 0];
                let given: &[usize] = &[$($argument as usize),*];
                arguments[1..=given.len()].copy_from_slice(given);
                let result = if is_cooperative(Patch::File) && $which(fd) {
                    // SAFETY: the caller's arguments, as they are.
                    unsafe { by_thread(&stringify!($name), libc::$number, arguments) }
                } else {
                    // SAFETY: as above.
                    unsafe { real::call(libc::$number, arguments) }
                };
                answer(result) as $result
            }
        )+
    };
}

by_threads! {
    pread(buf: *mut c_void, len: usize, at: libc::off_t) -> isize: SYS_pread64, if is_regular;
    pread64(buf: *mut c_void, len: usize, at: libc::off_t) -> isize: SYS_pread64, if is_regular;
    pwrite(buf: *const c_void, len: usize, at: libc::off_t) -> isize: SYS_pwrite64, if is_regular;
    pwrite64(buf: *const c_void, len: usize, at: libc::off_t) -> isize: SYS_pwrite64, if is_regular;
    fsync() -> c_int: SYS_fsync, if is_not_standard;
    fdatasync() -> c_int: SYS_fdatasync, if is_not_standard;
}

/// Makes that call of the system: by a thread, if `fd` is a regular file, and files are patched. For
/// `read` and its like, which are in `stream`.
///
/// # Safety
///
/// What that call demands of its arguments, until this returns.
#[inline]
pub(super) unsafe fn call(
    fd: c_int,
    verb: Verb,
    number: libc::c_long,
    arguments: [usize; 6],
) -> isize {
    if is_cooperative(Patch::File) && is_regular(fd) {
        // SAFETY: the caller answers for the arguments.
        unsafe { by_thread(verb, number, arguments) }
    } else {
        // SAFETY: as above.
        unsafe { real::call(number, arguments) }
    }
}

/// # Safety
///
/// As [`call`].
#[cold]
unsafe fn by_thread(verb: Verb, number: libc::c_long, arguments: [usize; 6]) -> isize {
    offload::lent(verb, move || {
        // SAFETY: the arguments are good until `lent` returns, and it does not before this has.
        unsafe { real::call(number, arguments) }
    })
    .unwrap_or_else(|error| error)
}

/// The standard ones are left alone.
fn is_not_standard(fd: c_int) -> bool {
    fd > libc::STDERR_FILENO
}

fn is_regular(fd: c_int) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    let arguments = [fd as usize, address(status.as_mut_ptr()), 0, 0, 0, 0];
    // SAFETY: it writes a status to where there is room for one.
    if !is_not_standard(fd) || unsafe { real::call(libc::SYS_fstat, arguments) } < 0 {
        return false;
    }
    // SAFETY: it has been written.
    let status = unsafe { status.assume_init() };
    status.st_mode & libc::S_IFMT == libc::S_IFREG
}

/// Who has the lock may have it for minutes, and may be a greenlet of this very thread; so the wait
/// must be one that a kill ends, and no thread makes it. The kernel tells nobody when a lock is free:
/// we try again after pauses, which grow to 50 ms. Others who wait may overtake us.
///
/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    let call = |operation: c_int| {
        // SAFETY: the caller's arguments, which are numbers.
        unsafe { real::call(libc::SYS_flock, [fd as usize, operation as usize, 0, 0, 0, 0]) }
    };
    let waits = operation & libc::LOCK_NB == 0 && is_not_standard(fd);
    if !waits || !is_cooperative(Patch::File) {
        return answer_int(call(operation));
    }
    const IS_LOCKED: isize = error(libc::EWOULDBLOCK);
    let mut pauses = Pauses::new();
    loop {
        match call(operation | libc::LOCK_NB) {
            IS_LOCKED => {}
            result => return answer_int(result),
        }
        if let Err(cancelled) = pauses.pause(&"flock") {
            return answer_int(cancelled);
        }
    }
}
