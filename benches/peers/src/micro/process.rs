//! What the system knows of this process: processor time, page faults; and how to leave it.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Of all threads, in the kernel and outside of it.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
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
