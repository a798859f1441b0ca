//! What the process that is counted is given in place of the system's clock and dice.
//!
//! Both come before the C library's own, because a program's functions come before a library's.

use std::sync::atomic::{AtomicU64, Ordering};

static READINGS: AtomicU64 = AtomicU64::new(0);

/// How often the process has asked for the time.
pub(crate) fn readings_of_the_clock() -> u64 {
    READINGS.load(Ordering::Relaxed)
}

/// Time that depends on nothing but how often it is asked for: it goes on by a microsecond each
/// time.
///
/// The hub measures how far apart switches are, so as to look at its timers and descriptors neither
/// too seldom nor too often. By this clock they are close to each other, as they are without
/// valgrind, and what is due is seen to be due at the same turn every time. How often it is read
/// is a figure of its own: this takes some ten instructions, and the system's clock some sixty.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "it is called by its C name, and with a pointer")]
// SAFETY: as the system's, it fills in a time that never goes back.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(_: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    const BEGIN: u64 = 1_000_000; // so that there is a time before it
    let micros = BEGIN + READINGS.fetch_add(1, Ordering::Relaxed);
    let now = libc::timespec {
        tv_sec: (micros / 1_000_000) as libc::time_t,
        tv_nsec: (micros % 1_000_000 * 1_000) as libc::c_long,
    };
    // SAFETY: the caller has room for a time there, as it would need for the system's.
    unsafe { time.write(now) };
    0
}

/// The same bytes every time. std's hash tables are seeded with them, and how often keys collide
/// depends on the seed.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "it is called by its C name, and with a pointer")]
// SAFETY: as the system's, it fills in as many bytes as were asked for, and says so.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    len: libc::size_t,
    _: libc::c_uint,
) -> libc::ssize_t {
    // SAFETY: the caller has room for so many bytes there, as it would need for the system's.
    unsafe { buffer.cast::<u8>().write_bytes(0x5A, len) };
    len as libc::ssize_t
}
