//! What the system knows of this process: processor time, page faults; and how to leave it.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

/// Of all threads, in the kernel and outside of it. By libc, because rustix looks for the kernel's
/// clock in a way that valgrind does not survive, and instructions are to be counted here, too.
pub(super) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours, and of the type that the system expects.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every process has that clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Pages that were given to the process, or back to it, without reading a disk.
pub(super) fn minor_faults() -> u64 {
    // SAFETY: all zeros is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is as large as the system expects.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(result, 0, "asking for oneself cannot fail");
    usage.ru_minflt as u64
}

/// How many memory maps the system lets a process have.
pub(super) fn max_memory_maps() -> usize {
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|limit| limit.trim().parse().ok())
        .unwrap_or(65_530)
}

/// Ends the process and takes nothing apart: a million tasks that still sleep take seconds.
pub(super) fn leave() -> ! {
    let _ = io::stdout().flush();
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(0) }
}
