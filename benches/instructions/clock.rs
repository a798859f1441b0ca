//! Time that depends on nothing but how often it is asked for: it goes on by a microsecond each
//! time.
//!
//! The hub measures how far apart switches are, so as to look at its timers and descriptors neither
//! too seldom nor too often. By this clock they are close to each other, as they are without
//! valgrind, and a timer that is due fires at the same turn every time. It is counted how often it
//! is read: this stand-in takes some ten instructions, and the system's own some sixty.

use std::sync::atomic::{AtomicU64, Ordering};

static READINGS: AtomicU64 = AtomicU64::new(0);

/// How often the process has asked for the time.
pub(crate) fn readings() -> u64 {
    READINGS.load(Ordering::Relaxed)
}

/// Takes the place of the C library's own, because a program's comes before a library's.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "it is called by its C name, and with a pointer")]
// SAFETY: it does what the system's does: fills in a time that never goes back.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(_: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    const BEGIN: u64 = 1_000_000; // std takes times near zero for errors on some systems
    let micros = BEGIN + READINGS.load(Ordering::Relaxed);
    READINGS.store(micros - BEGIN + 1, Ordering::Relaxed);
    let now = libc::timespec {
        tv_sec: (micros / 1_000_000) as libc::time_t,
        tv_nsec: (micros % 1_000_000 * 1_000) as libc::c_long,
    };
    // SAFETY: the caller has room for a time there, as it would need for the system's own.
    unsafe { time.write(now) };
    0
}
