//! What the system call `futex` is given, and the wait for one.

use std::ffi::c_int;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use super::descriptor::{WOULD_BLOCK, address};
use super::gate::{CANCELLED, error, keeping_errno};
use super::lot::{self, Place};
use crate::hub::{self, Reason, Wake};
use crate::sys::real;

/// What the system call is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Futex([usize; 6]);

/// The word is of this process alone, as nearly all are.
pub(super) const PRIVATE: c_int = libc::FUTEX_PRIVATE_FLAG;
/// The time is that of the wall.
pub(super) const WALL: c_int = libc::FUTEX_CLOCK_REALTIME;

impl Futex {
    /// # Safety
    ///
    /// They are what somebody wants the kernel to be given.
    pub(super) unsafe fn new(arguments: [usize; 6]) -> Futex {
        Futex(arguments)
    }

    /// A wait until that time of the monotonic clock.
    pub(super) fn until(self, at: &libc::timespec) -> Futex {
        let [word, _, value, ..] = self.0;
        let operation = (libc::FUTEX_WAIT_BITSET | PRIVATE) as usize;
        Futex([word, operation, value, address(at), 0, self.mask() as usize])
    }

    pub(super) fn word(self) -> usize {
        self.0[0]
    }

    /// A second word, for operations that take two.
    pub(super) fn other(self) -> usize {
        self.0[4]
    }

    pub(super) fn operation(self) -> c_int {
        self.0[1] as c_int
    }

    /// What the word is expected to be, or how many are to be woken.
    pub(super) fn value(self) -> u32 {
        self.0[2] as u32
    }

    fn time(self) -> *const libc::timespec {
        std::ptr::with_exposed_provenance(self.0[3])
    }

    pub(super) fn is_limited(self) -> bool {
        self.0[3] != 0
    }

    pub(super) fn mask(self) -> lot::Mask {
        let is_masked = matches!(
            self.operation() & !(PRIVATE | WALL),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAKE_BITSET
        );
        if is_masked { self.0[5] as u32 } else { lot::ANY }
    }

    /// The kernel's answer.
    pub(super) fn call(self) -> isize {
        // SAFETY: either what the caller wants, or a wait for his word with a limit of ours, which is
        // there as long as the call.
        unsafe { real::call(libc::SYS_futex, self.0) }
    }
}

/// Until when is to be waited. The kernel looks at the arguments first.
///
/// # Errors
///
/// What the kernel says to a wait that is in vain or wrong.
pub(super) fn check(call: Futex) -> Result<Option<Instant>, isize> {
    let deadline = if call.is_limited() { Some(deadline(call)?) } else { None };
    if call.mask() == 0 {
        return Err(error(libc::EINVAL));
    }
    // Wakes none and moves none, but looks at the word: is it there, and as expected?
    let arguments = [
        call.word(),
        (libc::FUTEX_CMP_REQUEUE | PRIVATE) as usize,
        0,
        0,
        call.word(),
        call.value() as usize,
    ];
    // SAFETY: it reads the caller's word, if there is one.
    match unsafe { real::call(libc::SYS_futex, arguments) } {
        failed @ ..0 => Err(failed),
        _ => Ok(deadline),
    }
}

/// The caller's limit.
fn deadline(call: Futex) -> Result<Instant, isize> {
    static NEVER_ONE: AtomicU32 = AtomicU32::new(0);
    let wrong = Futex([
        NEVER_ONE.as_ptr().addr(),
        (libc::FUTEX_WAIT_BITSET | PRIVATE) as usize,
        1,
        call.0[3],
        0,
        lot::ANY as usize,
    ]);
    // It reads the time, and does not wait, because the word is not as expected.
    match wrong.call() {
        error if error == WOULD_BLOCK => {}
        error => return Err(error),
    }
    // SAFETY: the kernel has just read it.
    let time = unsafe { call.time().read_unaligned() };
    // The kernel takes no negative ones.
    let time = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    if call.operation() & !PRIVATE == libc::FUTEX_WAIT {
        return Ok(hub::after(time));
    }
    let is_wall = call.operation() & WALL != 0;
    let now = now(if is_wall { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC });
    Ok(hub::after(time.saturating_sub(now)))
}

/// What that clock says.
pub(super) fn now(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes a `timespec` to where there is room for one. These two clocks always are.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits at that place, and leaves it. Returns what the kernel would.
pub(super) fn stay(place: Place, verb: &'static &'static str, deadline: Option<Instant>) -> isize {
    hub::expect(); // other threads may end it
    let result = keeping_errno(|| {
        hub::park_stubborn(Reason::new(verb), deadline, |ticket| place.arm(ticket))
    });
    hub::has_come(1);
    match (place.leave(), result) {
        (true, _) | (_, Ok(Wake::Ready(_))) => 0,
        (_, Ok(Wake::Elapsed)) => error(libc::ETIMEDOUT),
        (_, Err(hub::Postponed)) => CANCELLED,
    }
}
