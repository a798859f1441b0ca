//! What the system knows of this process: processor time, page faults, memory.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Also for threads that are started later, and for children.
pub(super) fn pin_to(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot be pinned to processor {cpu}"))
}

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

/// Memory of the process at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    pub(super) rss_bytes: f64,
    pub(super) page_table_bytes: f64,
    pub(super) maps: f64,
}

impl Footprint {
    pub(super) fn now() -> Footprint {
        let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
        let maps = fs::read_to_string("/proc/self/maps").expect("proc is mounted");
        let kilobytes = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).expect("the line is there, with a number")
        };
        Footprint {
            rss_bytes: kilobytes("VmRSS:") * 1024.0,
            page_table_bytes: kilobytes("VmPTE:") * 1024.0,
            maps: maps.lines().count() as f64,
        }
    }
}

/// Ends the process and takes nothing apart: a million tasks that still sleep take seconds.
pub(super) fn leave() -> ! {
    let _ = io::stdout().flush();
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(0) }
}
