//! Stacks as they are seen from outside: how deep they were used, what they cost while they are in
//! use, and that their memory is given back.

mod net_util;

use std::hint::black_box;
use std::rc::Rc;
use std::thread;

use greenloom::observe::{SiteStacks, StackCensus};
use greenloom::sync::Event;
use greenloom::{Builder, Greenlet, idle, joinall, killall, spawn, spawn_later, yield_now};
use net_util::{hang_guard, ms};

/// Goes so many bytes deep at least, and no more than a frame beyond. Returns how far the address of
/// a local is below `top`.
#[inline(never)]
fn dig(top: usize, bytes: usize) -> usize {
    let frame = black_box([usize::MAX; 32]);
    let depth = top - black_box(&raw const frame).addr();
    if depth >= bytes { depth } else { dig(top, bytes).max(frame[depth % 32] & 1) }
}

/// As [`dig`], from here.
#[inline(never)]
fn dig_from_here(bytes: usize) -> usize {
    let here = black_box(0_usize);
    dig((&raw const here).addr(), bytes)
}

/// What else is on the stack: the frames of a greenlet's own above, and those of a call below.
const BESIDE: usize = 8 * 1024;

/// The only site there is.
fn only(census: &StackCensus) -> SiteStacks {
    let report = census.report();
    let [site] = report.sites() else { panic!("{report}") };
    site.clone()
}

#[test]
fn smoke() {
    let census = StackCensus::start();
    let line = line!() + 1;
    let depth = spawn(|| dig_from_here(30_000)).get().unwrap();
    assert!(depth >= 30_000);
    let site = only(&census);
    assert!(site.spawned_at.starts_with(&format!("tests/stacks.rs:{line}:")), "{site:?}");
    assert_eq!((site.ended, site.alive), (1, 0));
    assert!(site.deepest >= depth && site.deepest <= depth + BESIDE, "{site:?}, {depth}");
    assert_eq!(site.median, site.deepest);
    assert!(site.size > 230 * 1024 && site.size < 240 * 1024);
    assert!(site.enough >= 2 * depth && site.enough < site.size, "{site:?}");
}

#[test]
fn every_depth_is_found() {
    let census = StackCensus::start();
    for bytes in [1000, 10_000, 30_000, 60_000, 120_000, 200_000] {
        let depth = spawn(move || dig_from_here(bytes)).get().unwrap();
        let site = only(&census);
        assert!(site.deepest >= depth && site.deepest <= depth + BESIDE, "{site:?}, {depth}");
    }
    let site = only(&census);
    assert_eq!(site.ended, 6);
    assert!(site.median >= 30_000 && site.median <= 30_000 + BESIDE, "{site:?}");
    assert!(site.enough > 2 * site.deepest, "{site:?}");
}

#[test]
fn sites_and_sizes_are_told_apart() {
    let census = StackCensus::start();
    let deep = |bytes| move || assert!(dig_from_here(bytes) >= bytes);
    for size in [0, 100_000, 1_000_000] {
        for _ in 0..3 {
            Builder::new().stack_size(size).spawn(deep(20_000)).unwrap().join();
        }
    }
    spawn(deep(40_000)).join();
    let report = census.report();
    let [deepest, smallest, middle, largest] = report.sites() else { panic!("{report}") };
    assert_eq!(deepest.ended, 1);
    assert!(deepest.deepest >= 40_000);
    assert_ne!(deepest.spawned_at, smallest.spawned_at);
    for site in [smallest, middle, largest] {
        assert_eq!((site.ended, site.alive), (3, 0));
        assert_eq!(site.spawned_at, smallest.spawned_at);
        assert!(site.deepest >= 20_000 && site.deepest <= 20_000 + BESIDE, "{site:?}");
    }
    assert!(smallest.size < 48 * 1024 && middle.size >= 100_000 && largest.size >= 1_000_000);
}

/// What is told to be enough is, if it goes no deeper than before.
#[test]
fn enough_is_enough() {
    for bytes in [100, 30_000, 100_000] {
        let census = StackCensus::start();
        spawn(move || dig_from_here(bytes)).join();
        let enough = only(&census).enough;
        let greenlet = Builder::new().stack_size(enough).spawn(move || dig_from_here(2 * bytes));
        assert!(greenlet.unwrap().get().unwrap() >= 2 * bytes);
    }
}

#[test]
fn those_who_are_alive_are_counted() {
    let before = spawn(|| dig_from_here(90_000));
    let _parked_before = parked(90_000, Rc::new(Event::new()));
    let census = StackCensus::start();
    before.join();
    assert!(census.report().sites().is_empty(), "they were there before");

    let event = Rc::new(Event::new());
    let waiting: Vec<_> = (0..20).map(|n| parked(n * 1000, Rc::clone(&event))).collect();
    let unstarted = only(&census);
    assert_eq!((unstarted.ended, unstarted.alive, unstarted.deepest), (0, 20, 0));
    idle();
    let site = only(&census);
    assert_eq!((site.ended, site.alive), (0, 20));
    assert!(site.deepest >= 19_000 && site.deepest <= 19_000 + BESIDE, "{site:?}");
    event.set();
    joinall(&waiting);
    let site = only(&census);
    assert_eq!((site.ended, site.alive), (20, 0));
    assert!(site.deepest >= 19_000 && site.deepest <= 19_000 + BESIDE, "{site:?}");
}

#[test]
fn those_who_have_not_begun_say_nothing_of_depth() {
    let census = StackCensus::start();
    let dig = |wait: u64| spawn_later(ms(wait), || dig_from_here(30_000));
    let digger = dig(0);
    digger.join();
    let queued: Vec<_> = (0..20).map(|_| dig(3_600_000)).collect();
    let site = only(&census);
    assert_eq!((site.ended, site.alive), (1, 20));
    assert!(site.median >= 30_000, "{site:?}");
    killall(&queued);
}

/// Goes deep, comes back, and waits.
fn parked(bytes: usize, event: Rc<Event>) -> Greenlet<()> {
    spawn(move || {
        black_box(dig_from_here(bytes));
        event.wait();
    })
}

#[test]
fn one_may_look_at_oneself() {
    let census = StackCensus::start();
    spawn(move || {
        let depth = dig_from_here(30_000);
        let site = only(&census);
        assert_eq!((site.ended, site.alive), (0, 1));
        assert!(site.deepest >= depth && site.deepest <= depth + BESIDE, "{site:?}");
    })
    .get()
    .unwrap();
}

#[test]
fn who_never_ran_has_used_nothing() {
    let census = StackCensus::start();
    let killed: Vec<_> = (0..10).map(|_| spawn(|| dig_from_here(10_000))).collect();
    killed.iter().for_each(Greenlet::kill);
    assert!(census.report().sites().is_empty(), "{}", census.report());
    let panicked = spawn(|| std::panic::resume_unwind(Box::new("quietly")));
    let killed = spawn(|| greenloom::sleep(ms(3_600_000)));
    idle();
    killed.kill();
    assert!(panicked.get().is_err() && killed.get().is_err());
    let report = census.report();
    assert_eq!(report.sites().iter().map(|site| site.ended).sum::<usize>(), 2, "{report}");
}

/// A stack that was used deep by one is no deeper for the next.
#[test]
fn marks_are_not_carried_over() {
    let census = StackCensus::start();
    for _ in 0..50 {
        let deep: Vec<_> = (0..20).map(|_| spawn(|| dig_from_here(50_000))).collect();
        joinall(&deep);
        let flat: Vec<_> = (0..20).map(|_| spawn(yield_now)).collect();
        joinall(&flat);
    }
    let report = census.report();
    let [deep, flat] = report.sites() else { panic!("{report}") };
    assert_eq!((deep.ended, flat.ended), (1000, 1000));
    assert!(deep.median >= 50_000 && flat.deepest < BESIDE, "{report}");
}

#[test]
fn nothing_is_noted_while_it_is_off() {
    let census = StackCensus::start();
    let second = StackCensus::start();
    spawn(|| dig_from_here(10_000)).join();
    drop(census);
    assert_eq!(only(&second).ended, 1, "they share their books ...");
    drop(second);
    spawn(|| dig_from_here(50_000)).join();
    let parked = spawn(|| {
        dig_from_here(50_000);
        greenloom::sleep(ms(3_600_000));
    });
    idle();
    let census = StackCensus::start();
    assert!(census.report().sites().is_empty(), "... which are closed with the last");
    spawn(|| ()).join();
    parked.kill();
    parked.join();
    let site = only(&census);
    assert!(site.ended == 1 && site.deepest < BESIDE, "{site:?}");
}

#[test]
fn it_is_of_one_thread() {
    let census = StackCensus::start();
    thread::spawn(|| {
        spawn(|| dig_from_here(10_000)).join();
        assert!(StackCensus::start().report().sites().is_empty());
    })
    .join()
    .unwrap();
    assert!(census.report().sites().is_empty());
}

#[test]
fn a_crowd_is_counted() {
    const COUNT: usize = 10_000;
    let _guard = hang_guard();
    let census = StackCensus::start();
    let crowd: Vec<_> = (0..COUNT).map(|n| spawn(move || dig_from_here(n % 10 * 1000))).collect();
    joinall(&crowd);
    let site = only(&census);
    assert_eq!((site.ended, site.alive), (COUNT, 0));
    assert!(site.deepest >= 9000 && site.deepest <= 9000 + BESIDE, "{site:?}");
    assert!(site.median >= 4000 && site.median <= 5000 + BESIDE, "{site:?}");
}

#[test]
fn a_report_is_a_table() {
    let census = StackCensus::start();
    assert_eq!(census.report().to_string().lines().count(), 1);
    for _ in 0..3 {
        spawn(|| dig_from_here(70_000)).join();
    }
    Builder::new().stack_size(1 << 20).spawn(|| ()).unwrap().join();
    let table = census.report().to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
    assert!(lines[0].starts_with("spawned at") && lines[0].ends_with("enough"), "{table}");
    let words: Vec<_> = lines[1].split_whitespace().collect();
    assert!(words[0].starts_with("tests/stacks.rs:"), "{table}");
    assert_eq!(words[1..3], ["3", "0"], "{table}");
    assert_eq!(words[3..5], ["237.9", "KiB"], "{table}");
    assert!((68.0..80.0).contains(&words[7].parse::<f64>().unwrap()), "{table}");
}

// ── What is given back, and what is kept ──

/// What is counted belongs to the whole process, so each is counted in a process of its own.
#[cfg(target_os = "linux")]
mod memory {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::net_util::{in_child, is_child, stderr_of};

    /// A number from a status file of `/proc`.
    pub(crate) fn status(file: &str, field: &str) -> usize {
        let status = fs::read_to_string(file).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// KiB of memory this process has.
    pub(crate) fn resident() -> usize {
        status("/proc/self/status", "VmRSS:")
    }

    fn passes_alone(name: &str) {
        let _guard = hang_guard();
        let child = in_child(name);
        let stdout = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{stdout}{}", stderr_of(&child));
        assert!(stdout.contains("1 passed"), "{stdout}");
    }

    /// So many at a time, who then end. Returns by how many KiB the process has grown meanwhile.
    fn burst(count: usize) -> usize {
        let before = resident();
        let gate = Rc::new(Event::new());
        let crowd: Vec<_> = (0..count)
            .map(|_| {
                let gate = Rc::clone(&gate);
                spawn(move || gate.wait())
            })
            .collect();
        idle();
        let grown = resident() - before;
        gate.set();
        joinall(&crowd);
        grown
    }

    /// Waits for that, half a minute at the most.
    fn resident_once_below(limit: usize, pause: impl Fn()) -> usize {
        let began = Instant::now();
        loop {
            let left = resident();
            if left <= limit || began.elapsed() > Duration::from_secs(30) {
                return left;
            }
            pause();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a thread of its own is to sleep")]
    fn doze(time: Duration) {
        thread::sleep(time);
    }

    /// The hub waits for something that comes from outside, with no timer of anybody's. It wakes for
    /// the sake of the memory, and when that is given back, no more.
    #[test]
    #[ignore = "run by a_burst_is_given_back_by_a_hub_that_sleeps in a process of its own"]
    fn child_bursts_and_sleeps() {
        if !is_child() {
            return;
        }
        let before = resident();
        let stopped = greenloom::threadpool::ThreadPool::new(1);
        let hub = "/proc/thread-self/status";
        let hub = fs::canonicalize(hub).unwrap().to_str().unwrap().to_owned();
        let grown = burst(50_000);
        assert!(grown > 50_000 * 4, "{grown} KiB");
        let limit = before + grown / 10;
        let left = stopped.apply(move || {
            let left = resident_once_below(limit, || doze(ms(50)));
            // It may still be at the last of it.
            let sleeps = |_| {
                let before = status(&hub, "voluntary_ctxt_switches:");
                doze(ms(2500));
                status(&hub, "voluntary_ctxt_switches:") == before
            };
            (left, (0..4).any(sleeps))
        });
        let (left, sleeps) = left;
        assert!(left <= limit, "{before} KiB before, {grown} more, {left} left");
        assert!(sleeps, "a hub that has nothing to do wakes up");
    }

    #[test]
    fn a_burst_is_given_back_by_a_hub_that_sleeps() {
        passes_alone("memory::child_bursts_and_sleeps");
    }

    /// The same by a hub that is never idle: then it happens between turns.
    #[test]
    #[ignore = "run by a_burst_is_given_back_by_a_busy_hub in a process of its own"]
    fn child_bursts_and_is_busy() {
        if !is_child() {
            return;
        }
        let before = resident();
        let grown = burst(20_000);
        let limit = before + grown / 10;
        let busy = spawn(|| {
            loop {
                yield_now();
            }
        });
        let left = resident_once_below(limit, || greenloom::sleep(ms(50)));
        busy.kill();
        assert!(left <= limit, "{before} KiB before, {grown} more, {left} left");
    }

    #[test]
    fn a_burst_is_given_back_by_a_busy_hub() {
        passes_alone("memory::child_bursts_and_is_busy");
    }

    /// One crowd after the other: the second finds the memory of the first, and needs none of its
    /// own.
    #[test]
    #[ignore = "run by a_crowd_that_comes_again_is_spared_the_page_faults in a process of its own"]
    fn child_bursts_twice() {
        if !is_child() {
            return;
        }
        const COUNT: usize = 50_000;
        let faults = || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let numbers = stat.rsplit_once(") ").unwrap().1;
            numbers.split(' ').nth(7).unwrap().parse::<usize>().unwrap()
        };
        let start = faults();
        burst(COUNT);
        let first = faults() - start;
        burst(COUNT);
        let second = faults() - start - first;
        assert!(first > COUNT && second < COUNT / 10, "{first} page faults, then {second}");
    }

    #[test]
    fn a_crowd_that_comes_again_is_spared_the_page_faults() {
        passes_alone("memory::child_bursts_twice");
    }
}

// ── Quiet connections ──

/// With optimisation: the stacks of a debug build are deeper.
#[cfg(all(target_os = "linux", not(debug_assertions), not(hard_switch)))]
mod quiet {
    use std::env;
    use std::io::{self, BufRead, BufReader, Read, Write, stderr, stdout};
    use std::net::{SocketAddr, TcpStream as StdStream};
    use std::process::{Command, Stdio};

    use greenloom::net::TcpStream;
    use greenloom::server::StreamServer;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::memory::{resident, status};
    use super::*;
    use crate::net_util::{CHILD, is_child};

    const COUNT: usize = 8000;
    const MOST: usize = 6 * 1024;

    /// Issue 5: eight thousand idle connections, at most 6 KiB each all told, memory and page
    /// tables. All of them have talked before, as idle connections have.
    #[test]
    fn connections_in_6_kib_each() {
        if !may_open(COUNT + 100) {
            let why = "NOT CHECKED: quiet connections; the limit of descriptors is too low";
            writeln!(stderr(), "{why}").unwrap();
            return;
        }
        let _guard = hang_guard();
        let mut server = Command::new(env::current_exe().unwrap())
            .args(["--exact", "quiet::child_serves", "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut hear = |what: &str| {
            let mut said =
                lines.by_ref().filter_map(|line| Some(line.split_once(what)?.1.to_owned()));
            said.next().unwrap()
        };
        let address: SocketAddr = hear("address ").parse().unwrap();
        let clients: Vec<_> = (0..COUNT)
            .map(|n| {
                let mut client = StdStream::connect(address).unwrap();
                let mut answer = [0; 1000];
                client.write_all(&[n as u8; 1000]).unwrap();
                client.read_exact(&mut answer).unwrap();
                assert_eq!(answer, [n as u8; 1000]);
                client
            })
            .collect();
        drop(server.stdin.take());
        let bytes: usize = hear("bytes ").parse().unwrap();
        assert!(server.wait().unwrap().success());
        drop(clients);
        assert!(bytes <= MOST, "{bytes} bytes a connection");
    }

    #[test]
    #[ignore = "run by connections_in_6_kib_each in a process of its own"]
    fn child_serves() {
        if !is_child() {
            return;
        }
        assert!(may_open(COUNT + 100));
        let all_told = || 1024 * (resident() + status("/proc/self/status", "VmPTE:"));
        let server = StreamServer::bind("127.0.0.1:0").unwrap().backlog(4096).handle(serve);
        server.start();
        idle();
        let before = all_told();
        writeln!(stdout(), "\naddress {}", server.local_addr().unwrap()).unwrap();
        let mut nothing = Vec::new();
        greenloom::io::stdin().lock().read_to_end(&mut nothing).unwrap();
        assert_eq!(server.stats().peak, COUNT);
        writeln!(stdout(), "bytes {}", (all_told() - before) / COUNT).unwrap();
    }

    fn serve(mut stream: TcpStream, _peer: greenloom::net::SocketAddr) {
        while stream.wait_readable().is_ok() && matches!(answer(&mut stream), Ok(1..)) {}
    }

    #[inline(never)]
    fn answer(stream: &mut TcpStream) -> io::Result<usize> {
        let mut buffer = vec![0; 16 * 1024];
        let len = stream.read(&mut buffer)?;
        stream.write_all(&buffer[..len])?;
        Ok(len)
    }

    /// Raises the limit of descriptors. False: it cannot be raised so far.
    fn may_open(count: usize) -> bool {
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum;
        let raised = Rlimit { current: most, maximum: most };
        most.is_none_or(|most| most >= count as u64) && setrlimit(Resource::Nofile, raised).is_ok()
    }
}
