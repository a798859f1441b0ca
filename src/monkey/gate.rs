//! What every interposed function asks first, and how it answers: [`is_cooperative`], [`answer`].
//!
//! ```text
//!   C or std: recv(..)
//!     -> is that family patched, and may the code that runs here wait by parking?
//!          no:  the kernel's own call, and nothing else
//!          yes: tried without waiting; if it would block, the greenlet parks and tries again
//! ```
//!
//! Results travel as the kernel returns them, an error being the negative of its number, and become
//! -1 and `errno` at the very end.

use std::ffi::c_int;

use crate::hub;
use crate::sys::patches::{self, Patch};
use crate::sys::real;

/// May a call of that family wait by parking, here and now?
#[inline(always)]
pub(super) fn is_cooperative(patch: Patch) -> bool {
    patches::is_on(patch) && hub::may_park()
}

/// What a function of C returns for what the kernel would return: -1 for an error, with `errno` set.
#[inline]
pub(super) fn answer(result: isize) -> isize {
    // Some calls return other negative numbers, which are no errors.
    if (-4095..0).contains(&result) {
        real::set_errno(-result as c_int);
        return -1;
    }
    result
}

/// As [`answer`], for functions that return an `int`.
#[inline]
pub(super) fn answer_int(result: isize) -> c_int {
    answer(result) as c_int
}

/// What a system call is told for an error of that number.
pub(super) const fn error(errno: c_int) -> isize {
    -(errno as isize)
}

/// What a call is told that was given up because its greenlet was killed or timed out.
pub(super) const CANCELLED: isize = error(libc::ECANCELED);

/// Does `f`, which waits, and puts this thread's `errno` back: others have run meanwhile, and a call
/// that succeeds leaves it alone.
pub(super) fn keeping_errno<T>(f: impl FnOnce() -> T) -> T {
    let before = real::errno();
    let result = f();
    real::set_errno(before);
    result
}
