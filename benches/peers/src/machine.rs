//! The machine under all this: cores and limits, clocks and memory of other processes, and what
//! may have disturbed a measurement. Linux only.

#![allow(dead_code, reason = "until the conductor, which is being written, uses all of it")]

use std::fs;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores this thread may run on.
pub(crate) fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("every thread has an affinity");
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Ties the calling thread, and all it will start, to one core.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {cpu}"))
}

/// As many descriptors as the system lets us have without asking; returns how many.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Nothing is lost where it fails: whoever runs out of descriptors says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The CPU time of a whole process, ours or another's, in nanoseconds. What a thread has used that
/// runs on another core right now is known as of the last tick of that core (4 ms at 250 Hz).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessClock(libc::clockid_t);

impl ProcessClock {
    pub(crate) fn of(pid: u32) -> anyhow::Result<ProcessClock> {
        let mut id = 0;
        // SAFETY: it writes one number to where a live variable of that type is.
        let error = unsafe { libc::clock_getcpuclockid(pid.try_into()?, &mut id) };
        if error != 0 {
            let error = io::Error::from_raw_os_error(error);
            return Err(error).with_context(|| format!("no CPU clock of process {pid}"));
        }
        Ok(ProcessClock(id))
    }

    pub(crate) fn now(self) -> anyhow::Result<Duration> {
        read_clock(self.0).context("a process that is measured has ended")
    }
}

/// The CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID).expect("every thread has a clock")
}

fn read_clock(id: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one `timespec` to where a live variable of that type is.
    if unsafe { libc::clock_gettime(id, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// What the kernel's ticks found a process doing, since its start. Exact in the sum only over many
/// ticks; for a sum alone there is [`ProcessClock`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuSplit {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

pub(crate) fn cpu_split(pid: u32) -> anyhow::Result<CpuSplit> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in brackets, which may itself contain anything.
    let (_, rest) = text.rsplit_once(')').with_context(|| path.clone())?;
    let ticks = |field: usize| -> anyhow::Result<f64> {
        let word = rest.split_ascii_whitespace().nth(field - 3).with_context(|| path.clone())?;
        Ok(word.parse::<f64>()? / rustix::param::clock_ticks_per_second() as f64)
    };
    Ok(CpuSplit { user: ticks(14)?, system: ticks(15)? })
}

/// What a process occupies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident, in bytes.
    pub(crate) rss: u64,
    /// Page tables, in bytes; they are not part of `rss`.
    pub(crate) page_tables: u64,
    /// Mappings of address space, of which the kernel allows some 65,000.
    pub(crate) maps: u64,
    /// Threads.
    pub(crate) threads: u64,
}

pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| path)
    };
    let status = read("status")?;
    // `VmRSS` is the sum of counters that each core keeps for itself for a while, up to half a
    // megabyte off; the roll-up counts pages.
    let rss = match read("smaps_rollup") {
        Ok(exact) => number_after(&exact, "Rss:"),
        Err(_) => number_after(&status, "VmRSS:"),
    };
    Ok(Memory {
        rss: rss.context("VmRSS")? * 1024,
        page_tables: number_after(&status, "VmPTE:").context("VmPTE")? * 1024,
        maps: read("maps")?.lines().count() as u64,
        threads: number_after(&status, "Threads:").context("Threads")?,
    })
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Nanoseconds in which a cache line goes from one core to the other, the median of short spells:
/// half a round trip between two threads that write to it by turns.
///
/// The cores of a virtual machine are moved about by its host: now they share a cache, now they do
/// not (ten times as long), and everything that two processes do together follows. A measurement
/// with a slow spell before or after it is no measurement.
pub(crate) fn ping_pong_ns(one: usize, other: usize) -> anyhow::Result<f64> {
    const SPELLS: usize = 21;
    const ROUND_TRIPS: u32 = 500;
    const LAST: u32 = SPELLS as u32 * ROUND_TRIPS * 2;
    #[repr(align(128))] // prefetched in pairs of lines
    struct Ball(AtomicU32);

    let ball = Arc::new(Ball(AtomicU32::new(0)));
    let theirs = Arc::clone(&ball);
    let partner = thread::spawn(move || -> anyhow::Result<()> {
        let pinned = pin(other);
        // Plays on wherever it runs: somebody waits for it.
        let mut odd = 1;
        while odd < LAST {
            while theirs.0.load(Ordering::Acquire) != odd {
                std::hint::spin_loop();
            }
            theirs.0.store(odd + 1, Ordering::Release);
            odd += 2;
        }
        pinned
    });
    let before = sched_getaffinity(None)?;
    let pinned = pin(one);
    let mut spells = Vec::with_capacity(SPELLS);
    let mut count = 0;
    for _ in 0..SPELLS {
        let begun = Instant::now();
        for _ in 0..ROUND_TRIPS {
            ball.0.store(count + 1, Ordering::Release);
            count += 2;
            while ball.0.load(Ordering::Acquire) != count {
                std::hint::spin_loop();
            }
        }
        spells.push(begun.elapsed().as_nanos() as f64 / f64::from(ROUND_TRIPS * 2));
    }
    sched_setaffinity(None, &before)?;
    pinned?;
    partner.join().expect("it does not panic")?;
    spells.sort_by(f64::total_cmp);
    Ok(spells[SPELLS / 2])
}

/// How busy some cores are, from now on: by everybody. What is left after taking away what the
/// measured processes used is foreign.
#[derive(Debug)]
pub(crate) struct Busy {
    cpus: Vec<usize>,
    since: Instant,
    before: Ticks,
}

/// In seconds since the machine was started.
#[derive(Clone, Copy, Debug, Default)]
struct Ticks {
    busy: f64,
    stolen: f64,
}

/// Shares of the cores' time; 1.0 is one core of one, or two of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance {
    /// What others used. A little below zero is rounding, for the kernel counts ticks.
    pub(crate) foreign: f64,
    /// What the host did not give.
    pub(crate) stolen: f64,
}

impl Busy {
    pub(crate) fn begin(cpus: &[usize]) -> anyhow::Result<Busy> {
        Ok(Busy { cpus: cpus.to_vec(), since: Instant::now(), before: ticks(cpus)? })
    }

    /// `own`: CPU time that the measured processes used meanwhile, in seconds.
    pub(crate) fn end(&self, own: f64) -> anyhow::Result<Disturbance> {
        let (after, wall) = (ticks(&self.cpus)?, self.since.elapsed().as_secs_f64());
        let all = wall * self.cpus.len() as f64;
        Ok(Disturbance {
            foreign: (after.busy - self.before.busy - own) / all,
            stolen: (after.stolen - self.before.stolen) / all,
        })
    }
}

fn ticks(cpus: &[usize]) -> anyhow::Result<Ticks> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let mut sum = Ticks::default();
    for &cpu in cpus {
        let label = format!("cpu{cpu} ");
        let line = text.lines().find_map(|line| line.strip_prefix(label.as_str()));
        let line = line.with_context(|| format!("no core {cpu} in /proc/stat"))?;
        let seconds: Vec<f64> = line
            .split_ascii_whitespace()
            .map(|word| {
                word.parse::<f64>().unwrap_or(0.0) / rustix::param::clock_ticks_per_second() as f64
            })
            .collect();
        // user, nice, system, idle, iowait, irq, softirq, steal. "Nice" is left out: so runs what
        // only keeps a core awake.
        let [user, _, system, _, _, irq, softirq, steal, ..] = seconds[..] else {
            bail!("/proc/stat says too little of core {cpu}");
        };
        sum.busy += user + system + irq + softirq;
        sum.stolen += steal;
    }
    Ok(sum)
}

/// Keeps cores from idling until it is dropped: threads that run when nobody else wants to
/// (`SCHED_IDLE`).
///
/// A virtual machine whose core has nothing to do gives it back to the host, and gets it again some
/// microseconds after it asks. With one connection that is most of what one would measure.
#[derive(Debug)]
pub(crate) struct Awake {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    pub(crate) fn keep(cpus: &[usize]) -> Awake {
        let enough = Arc::new(AtomicBool::new(false));
        let threads = cpus.iter().map(|&cpu| {
            let enough = Arc::clone(&enough);
            thread::spawn(move || {
                // One that would compete with what is measured must not run at all.
                if pin(cpu).is_err() || run_when_idle().is_err() {
                    return;
                }
                while !enough.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        Awake { threads: threads.collect(), enough }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads one `sched_param`, which is live; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // For the kernel's books: `Busy` does not count what is nice.
    rustix::process::nice(19)?;
    Ok(())
}

/// What a reader has to know to compare: name and value, in the order in which to show them.
pub(crate) fn versions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    add("kernel", format!("Linux {}", release.trim()));
    add("processor", processor());
    add("cores", cpus().len().to_string());
    add("memory", memory_size());
    // Some of them pace what they send, over loopback, too.
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    add("TCP congestion control", congestion.unwrap_or_default().trim().to_owned());
    for (name, program, args) in [
        ("rustc", "rustc", &["--version"][..]),
        ("go", "go", &["version"]),
        ("python", "python3", &["--version"]),
        ("gevent", "python3", &["-c", "import gevent; print(gevent.__version__)"]),
    ] {
        add(name, said_by(program, args).unwrap_or_else(|| "not installed".to_owned()));
    }
    for name in ["greenloom", "mio", "tokio", "may", "async-executor", "async-io", "corosensei"] {
        add(name, locked(name).unwrap_or_else(|| "?".to_owned()));
    }
    all
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |label: &str| {
        let line = text.lines().find(|line| line.starts_with(label))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = value("model name").unwrap_or_else(|| "?".to_owned());
    match (value("cpu family"), value("model\t")) {
        (Some(family), Some(number)) => format!("{model} (family {family}, model {number})"),
        _ => model,
    }
}

fn memory_size() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match number_after(&text, "MemTotal:") {
        Some(kib) => format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)),
        None => "?".to_owned(),
    }
}

fn said_by(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// The version of a crate that was compiled in.
fn locked(name: &str) -> Option<String> {
    let label = format!("name = \"{name}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| *line == label)?;
    Some(lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_seen() {
        let me = std::process::id();
        let clock = ProcessClock::of(me).unwrap();
        let (process, thread) = (clock.now().unwrap(), thread_cpu());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        assert!(thread_cpu() > thread);
        assert!(clock.now().unwrap() > process);
        assert!(cpu_split(me).unwrap().user > 0.0);
    }

    #[test]
    fn memory_grows_by_what_is_touched() {
        const SIZE: usize = 32 << 20;
        let me = std::process::id();
        let before = memory(me).unwrap();
        let touched = vec![1_u8; SIZE];
        let after = memory(me).unwrap();
        assert!(after.rss >= before.rss + SIZE as u64, "{before:?}, then {after:?}");
        assert!(after.maps > 1 && after.threads >= 1 && after.page_tables > 0, "{after:?}");
        drop(touched);
    }

    #[test]
    fn the_ball_comes_back_and_the_thread_is_not_left_pinned() {
        let cpus = cpus();
        let [one, other, ..] = cpus[..] else { return };
        assert!(ping_pong_ns(one, other).unwrap() > 1.0);
        assert_eq!(super::cpus(), cpus);
    }

    #[test]
    fn who_is_not_subtracted_is_foreign() {
        let cpus = cpus();
        let busy = Busy::begin(&cpus).unwrap();
        let begun = thread_cpu();
        while thread_cpu() < begun + Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        let seen = busy.end(0.0).unwrap();
        assert!(seen.foreign > 0.0, "{seen:?}");
    }

    #[test]
    fn versions_are_found_in_the_lock_file() {
        assert!(locked("tokio").is_some_and(|version| version.starts_with("1.")));
        assert_eq!(locked("no such crate"), None);
    }
}
