//! Threads: joined by other threads.
//!
//! First the join itself, with a time limit that is over: it makes all the checks of a join (of oneself,
//! of a thread that is detached), and takes the value of a thread that has ended. Only if there is
//! nothing but to wait, a thread waits; so "oneself" is never that one. (Two threads that join each
//! other may go unnoticed if a greenlet is one of the two: it is not its thread that waits. Not every C
//! library notices them at all.)
//!
//! Nothing but the end of the thread ends the wait: std asserts that joining succeeds, and who has
//! joined a scoped thread counts on its borrows being over. A kill is raised at the next wait.
//!
//! The roads not taken: waiting for the word that the kernel clears at a thread's end, which is at no
//! place that is promised; and taking the place of `pthread_create`, to be told of each end.

#![cfg_attr(target_feature = "crt-static", expect(dead_code, reason = "see `dns`"))]

use std::ffi::{c_int, c_void};
use std::{mem, ptr};

use super::gate::{is_cooperative, keeping_errno};
use super::offload::{self, Original};
use crate::sys::patches::Patch;

pub(super) const NAMES: &[&str] =
    if cfg!(target_feature = "crt-static") { &[] } else { &["pthread_join"] };

type Join = unsafe extern "C" fn(libc::pthread_t, *mut *mut c_void) -> c_int;

fn original() -> Option<Join> {
    static PTHREAD_JOIN: Original = Original::new(c"pthread_join");
    // SAFETY: it is the C library's function of that name, which is of that type, or null.
    unsafe { mem::transmute::<*mut c_void, Option<Join>>(PTHREAD_JOIN.find()) }
}

/// # Safety
///
/// As for the C library's.
#[cfg_attr(not(target_feature = "crt-static"), unsafe(no_mangle))]
unsafe extern "C" fn pthread_join(thread: libc::pthread_t, value: *mut *mut c_void) -> c_int {
    let Some(join) = original() else { return libc::ENOSYS };
    if !is_cooperative(Patch::Thread) {
        // SAFETY: the caller's arguments, as they are.
        return unsafe { join(thread, value) };
    }
    let over = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above, and a time.
    let at_once = || unsafe { libc::pthread_timedjoin_np(thread, value, &over) };
    match keeping_errno(at_once) {
        libc::ETIMEDOUT => {}
        result => return result,
    }
    let thread = thread as usize; // it may be a pointer
    let joined = offload::uninterruptible(offload::for_ever(), &"pthread_join", move || {
        let mut value = ptr::null_mut();
        // SAFETY: the caller's thread, which he is to leave alone until this has returned, and a place
        // for its value.
        let result = unsafe { join(thread as libc::pthread_t, &raw mut value) };
        (result, value.expose_provenance())
    });
    match joined {
        Ok((0, left)) => {
            if !value.is_null() {
                // SAFETY: the caller has a place there for the value.
                unsafe { value.write(ptr::with_exposed_provenance_mut(left)) };
            }
            0
        }
        Ok((error, _)) => error,
        Err(error) => offload::number(error),
    }
}
