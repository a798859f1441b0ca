//! Descriptors whose mode we may set for an instant: stream sockets that were made here and are not
//! connected yet.
//!
//! There is no flag by which a single `connect` could be told not to wait. `O_NONBLOCK` tells it,
//! but belongs to the open file description, which others may be using under other numbers or in
//! other processes: they would be told of a mode that they have not set. An unconnected stream socket
//! can be used by nobody for anything that waits, except for connecting it. So its mode may be
//! changed for as long as one system call takes, if only it is certain that it is such a socket, and
//! nobody's but the program's: that it was made by `socket`, here, and not closed since.
//!
//! It is all that is remembered of descriptors: a bit for each number, set by `socket`, cleared by
//! whatever connects or closes it. One that is missing costs a thread (see `connect`).

use std::ffi::c_int;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Numbers beyond are not ours.
const MOST: usize = 1 << 20;

/// 128 KiB of addresses, and of memory what is touched of it.
static OURS: [AtomicU64; MOST / 64] = [const { AtomicU64::new(0) }; MOST / 64];

/// The highest number that has ever been ours.
static HIGHEST: AtomicI32 = AtomicI32::new(-1);

fn word(fd: c_int) -> Option<(&'static AtomicU64, u64)> {
    let number = usize::try_from(fd).ok()?;
    Some((OURS.get(number / 64)?, 1 << (number % 64)))
}

/// It has just been made, as a blocking stream socket.
pub(super) fn insert(fd: c_int) {
    if let Some((word, bit)) = word(fd) {
        HIGHEST.fetch_max(fd, Ordering::Relaxed);
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

/// It is connected, or will be closed.
#[inline]
pub(super) fn remove(fd: c_int) {
    if let Some((word, bit)) = word(fd) {
        if word.load(Ordering::Relaxed) & bit != 0 {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

/// All of these will be closed.
pub(super) fn remove_all(range: &RangeInclusive<c_int>) {
    let last = HIGHEST.load(Ordering::Relaxed).min(*range.end());
    (*range.start()..=last).for_each(remove);
}

pub(super) fn contains(fd: c_int) -> bool {
    // Relaxed: who uses a descriptor that another thread has made has heard of it from there.
    word(fd).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
}
