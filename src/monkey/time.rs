//! Sleeping, and letting others run.
//!
//! Clocks by which nobody can wait but the kernel, those of the processor time that a process has
//! used, are left to it. A sleep to a moment of a clock that can be set ends no sooner than that clock
//! says; if it is set ahead meanwhile, the sleeper hears of it when its time by the old setting is up.
//!
//! What ends a sleep too early, a kill or a timeout, comes out as a signal would: `EINTR`, and no time
//! left, so that a loop which sleeps for what is left ends. (`ECANCELED`, which other calls give, is
//! no error of a sleep; std's takes it for a bug and panics.)

use std::ffi::{c_int, c_uint};
use std::ptr;
use std::time::Duration;

use libc::{clockid_t, timespec};

use super::descriptor::{Waited, address, pause};
use super::gate::{answer_int, error, is_cooperative, keeping_errno};
use crate::hub;
use crate::sys::patches::Patch;
use crate::sys::real;

pub(super) const NAMES: &[&str] =
    &["clock_nanosleep", "nanosleep", "usleep", "sleep", "sched_yield"];

/// Returns the number of the error, and leaves `errno` alone.
///
/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    left: *mut timespec,
) -> c_int {
    -sleep_on(clock, flags, request, left, &"clock_nanosleep") as c_int
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(request: *const timespec, left: *mut timespec) -> c_int {
    answer_int(sleep_on(libc::CLOCK_REALTIME, 0, request, left, &"nanosleep"))
}

/// # Safety
///
/// None is needed.
#[unsafe(no_mangle)]
unsafe extern "C" fn usleep(micros: c_uint) -> c_int {
    let request = timespec_of(Duration::from_micros(micros.into()));
    let request = &raw const request;
    answer_int(sleep_on(libc::CLOCK_REALTIME, 0, request, ptr::null_mut(), &"usleep"))
}

/// # Safety
///
/// None is needed.
#[unsafe(no_mangle)]
unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let mut time = timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    let time = &raw mut time;
    match answer_int(sleep_on(libc::CLOCK_REALTIME, 0, time, time, &"sleep")) {
        0 => 0,
        // SAFETY: it is there, and says what is left.
        _ => unsafe { time.read() }.tv_sec as c_uint,
    }
}

/// # Safety
///
/// None is needed.
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_yield() -> c_int {
    if is_cooperative(Patch::Time) {
        let_others_run();
        return 0;
    }
    // SAFETY: it takes nothing.
    answer_int(unsafe { real::call(libc::SYS_sched_yield, [0; 6]) })
}

/// Gives the others a turn, whatever is to be raised in this greenlet: code that waits for another's
/// move by yielding again and again would wait for ever, if it were told of a timeout each time
/// instead. A sleep or another wait will hear of it; and who has killed it does not wait for that.
fn let_others_run() {
    hub::tell_killers();
    let _shield = hub::shield();
    // Refused at the thread's end alone, and then there is nobody to be let run.
    let _ = keeping_errno(hub::yield_now);
}

/// What the kernel returns, or would.
#[inline]
fn sleep_on(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    left: *mut timespec,
    verb: &'static &'static str,
) -> isize {
    if is_cooperative(Patch::Time) {
        if let Some(result) = sleep_parking(clock, flags, request, left, verb) {
            return result;
        }
    }
    if clock == libc::CLOCK_THREAD_CPUTIME_ID {
        return error(libc::EINVAL); // the C library's; the kernel has another error for it
    }
    let arguments = [clock as usize, flags as usize, address(request), address(left), 0, 0];
    // SAFETY: the caller's arguments, as they are.
    unsafe { real::call(libc::SYS_clock_nanosleep, arguments) }
}

/// `None`: it is the kernel's to sleep, or to say what is wrong.
fn sleep_parking(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    left: *mut timespec,
    verb: &'static &'static str,
) -> Option<isize> {
    const KNOWN: &[clockid_t] =
        &[libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_TAI];
    if !KNOWN.contains(&clock) || !is_accepted(request) {
        return None;
    }
    // SAFETY: the kernel has just read it.
    let request = duration_of(unsafe { request.read() });
    let to_a_moment = flags & libc::TIMER_ABSTIME != 0;
    // How long a sleep is, is not changed by setting the clock.
    let settable = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_TAI;
    let clock = if settable && !to_a_moment { libc::CLOCK_MONOTONIC } else { clock };
    let start = if to_a_moment { Duration::ZERO } else { now(clock) };
    let moment = start.saturating_add(request);
    let mut time = moment.saturating_sub(now(clock));
    if time.is_zero() {
        let_others_run();
    }
    while !time.is_zero() {
        if pause(verb, Some(hub::after(time))) == Waited::Cancelled {
            if !to_a_moment && !left.is_null() {
                // SAFETY: the caller's own, to be told what is left.
                unsafe { left.write(timespec_of(Duration::ZERO)) };
            }
            return Some(error(libc::EINTR));
        }
        time = moment.saturating_sub(now(clock));
    }
    Some(0)
}

/// Would the kernel take that for a time? It is asked, so that a bad pointer is an error as ever: by
/// a wait for a word which has changed already, to which it is the limit.
fn is_accepted(request: *const timespec) -> bool {
    if request.is_null() {
        return false; // which would be no limit
    }
    let word = 0_u32;
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let arguments = [address(&raw const word), operation as usize, 1, address(request), 0, 0];
    // SAFETY: it reads a word of ours, which is not what it is said to be, and so does not wait.
    unsafe { real::call(libc::SYS_futex, arguments) == error(libc::EAGAIN) }
}

fn now(clock: clockid_t) -> Duration {
    let mut time = timespec_of(Duration::ZERO);
    // SAFETY: it writes to `time`. It does not fail with a clock that the system has.
    unsafe { libc::clock_gettime(clock, &mut time) };
    duration_of(time)
}

/// Of a time that the kernel accepts.
fn duration_of(time: timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timespec_of(time: Duration) -> timespec {
    timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}
