//! Nothing is left behind: descriptors and memory maps come back, and a hub that has nothing to do
//! does nothing.
//!
//! What is counted belongs to the whole process, so each count is taken in a process of its own: an
//! ignored test of this very binary.

mod net_util;

use std::fs;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use greenloom::net::{TcpListener, TcpStream};
use greenloom::raw::Coroutine;
use greenloom::{Greenlet, dump, joinall, killall, scope, sleep, spawn, spawn_later, yield_now};
use net_util::{
    finish, hang_guard, in_child, is_child, ms, our_pair, parked_for, stderr_of, until,
    until_parked,
};

const FOR_EVER: Duration = Duration::from_secs(3_600);

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn memory_maps() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Bytes of memory this process really has.
fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// How often this thread went to sleep in the kernel so far.
fn voluntary_switches() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("Linux counts them").trim().parse().unwrap()
}

/// Runs the ignored test `name` in a process of its own, which must pass.
fn passes_alone(name: &str) {
    let _guard = hang_guard();
    let child = in_child(name);
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{stdout}{}", stderr_of(&child));
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let before = dump().greenlets().len();
    let greenlets: Vec<_> = (0..100).map(|_| spawn(yield_now)).collect();
    assert_eq!(dump().greenlets().len(), before + 100);
    joinall(&greenlets);
    assert_eq!(dump().greenlets().len(), before, "also while the handles live");
}

// ── Descriptors ──

#[test]
#[ignore = "run by descriptors_come_back in a process of its own"]
fn child_counts_descriptors() {
    if is_child() {
        use_sockets_in_every_way(); // Once for what the hub opens and keeps.
        let before = open_descriptors();
        for _ in 0..5 {
            use_sockets_in_every_way();
        }
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn descriptors_come_back() {
    passes_alone("child_counts_descriptors");
}

fn use_sockets_in_every_way() {
    // Talked over, cloned, turned into std's and back.
    for _ in 0..20 {
        let (mut ours, mut theirs) = our_pair();
        let mut clone = ours.try_clone().unwrap();
        let reader = spawn(move || clone.read(&mut [0]).unwrap());
        until_parked(&reader);
        theirs.write_all(b"x").unwrap();
        reader.join();
        let std_stream: std::net::TcpStream = theirs.into();
        let theirs = TcpStream::from(std_stream);
        drop(theirs.into_std().unwrap());
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }
    // Killed while they wait: readers, writers, acceptors, and their sockets with them.
    let killed: Vec<_> = (0..20)
        .map(|n| {
            let (mut ours, theirs) = our_pair();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let greenlet = match n % 3 {
                0 => spawn(move || ours.read(&mut [0]).map(|_| ())),
                1 => spawn(move || ours.write_all(&vec![0; 64 << 20])),
                _ => spawn(move || listener.accept().map(|_| ())),
            };
            until_parked(&greenlet);
            (greenlet, theirs)
        })
        .collect();
    killall(killed.iter().map(|(greenlet, _)| greenlet));
    // Refused, timed out.
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(TcpStream::connect(addr).is_err());
    let (ours, _theirs) = our_pair();
    ours.set_read_timeout(Some(ms(1))).unwrap();
    assert!((&ours).read(&mut [0]).is_err());
}

#[test]
#[ignore = "run by descriptors_of_ended_hubs_come_back in a process of its own"]
fn child_counts_descriptors_of_hubs() {
    if is_child() {
        let before = open_descriptors();
        for _ in 0..5 {
            let hub = thread::spawn(|| {
                use_sockets_in_every_way();
                let (mut ours, _theirs) = our_pair();
                let reader = spawn(move || ours.read(&mut [0]).map(|_| ()));
                until_parked(&reader);
                // The thread ends while somebody still waits.
            });
            hub.join().unwrap();
        }
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn descriptors_of_ended_hubs_come_back() {
    passes_alone("child_counts_descriptors_of_hubs");
}

#[test]
#[ignore = "run by greenlets_alone_need_no_descriptor in a process of its own"]
fn child_uses_no_descriptor() {
    if is_child() {
        let before = open_descriptors();
        let greenlets: Vec<_> = (0..100).map(|_| spawn(|| sleep(ms(5)))).collect();
        until(|| parked_for("sleep") == 100);
        assert_eq!(open_descriptors(), before);
        joinall(&greenlets);
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn greenlets_alone_need_no_descriptor() {
    passes_alone("child_uses_no_descriptor");
}

// ── Memory ──

/// Greenlets alive at once in one round.
const CROWD: usize = 5_000;

/// Greenlets that end in every way there is.
fn use_greenlets_in_every_way() {
    let returning: Vec<_> = (0..CROWD).map(|_| spawn(yield_now)).collect();
    joinall(&returning);
    let killed: Vec<_> = (0..CROWD).map(|_| spawn(|| sleep(FOR_EVER))).collect();
    until(|| parked_for("sleep") == CROWD);
    killall(&killed);
    let never_run: Vec<_> = (0..CROWD).map(|_| spawn_later(FOR_EVER, || ())).collect();
    killall(&never_run);
    for _ in 0..10 {
        let panicking: Greenlet<()> = spawn(|| resume_unwind(Box::new("silent")));
        assert!(panicking.get().unwrap_err().is_panic());
    }
    scope(|s| {
        for _ in 0..100 {
            s.spawn(|| sleep(ms(1)));
        }
    });
    for _ in 0..100 {
        let suspended = Coroutine::new(|(): ()| {
            // Not in one expression: a body that holds a handle to itself keeps itself alive.
            let parent = Coroutine::<()>::current().parent().expect("made by another");
            parent.switch(());
        });
        suspended.switch(());
    }
}

#[test]
#[ignore = "run by memory_comes_back in a process of its own"]
fn child_measures_memory() {
    if is_child() {
        // The first rounds fill the pools that are kept on purpose.
        for _ in 0..2 {
            use_greenlets_in_every_way();
        }
        let (maps, bytes) = (memory_maps(), resident_bytes());
        for _ in 0..5 {
            use_greenlets_in_every_way();
        }
        assert!(memory_maps() <= maps + 2, "{maps} maps became {}", memory_maps());
        let grown = resident_bytes().saturating_sub(bytes);
        assert!(grown < 4 << 20, "{grown} bytes more in 5 rounds");
    }
}

#[test]
fn memory_comes_back() {
    passes_alone("child_measures_memory");
}

#[test]
#[ignore = "run by a_crowd_needs_few_memory_maps in a process of its own"]
fn child_counts_maps_of_a_crowd() {
    if is_child() {
        let before = memory_maps();
        let crowd: Vec<_> = (0..2 * CROWD).map(|_| spawn(|| sleep(FOR_EVER))).collect();
        until(|| parked_for("sleep") == crowd.len());
        let grown = memory_maps().saturating_sub(before);
        // One each would be the end at 65,530 of them; those of arenas and the heap are few.
        assert!(grown < 100, "{grown} maps for {} greenlets", crowd.len());
        killall(&crowd);
    }
}

#[test]
fn a_crowd_needs_few_memory_maps() {
    passes_alone("child_counts_maps_of_a_crowd");
}

#[test]
#[ignore = "run by memory_of_ended_hubs_comes_back in a process of its own"]
fn child_measures_memory_of_hubs() {
    if is_child() {
        let hub = || {
            let crowd: Vec<_> = (0..1_000).map(|_| spawn(|| sleep(FOR_EVER))).collect();
            until(|| parked_for("sleep") == crowd.len());
            // The thread ends with all of them alive.
        };
        // The first rounds fill what the C library keeps: stacks of threads, arenas of its heap.
        for _ in 0..3 {
            finish(thread::spawn(hub));
        }
        let (maps, bytes) = (memory_maps(), resident_bytes());
        for _ in 0..10 {
            finish(thread::spawn(hub));
        }
        assert!(memory_maps() <= maps + 4, "{maps} maps became {}", memory_maps());
        let grown = resident_bytes().saturating_sub(bytes);
        assert!(grown < 4 << 20, "{grown} bytes more in 10 rounds");
    }
}

#[test]
fn memory_of_ended_hubs_comes_back() {
    passes_alone("child_measures_memory_of_hubs");
}

// ── Shared values ──

#[test]
fn nothing_holds_on_to_what_greenlets_held() {
    let _guard = hang_guard();
    let held = Rc::new(());
    let hold = |end: fn()| {
        let held = Rc::clone(&held);
        spawn(move || {
            let _held = held;
            end();
        })
    };
    let returned = hold(yield_now);
    let killed = hold(|| sleep(FOR_EVER));
    let panicked = hold(|| resume_unwind(Box::new("silent")));
    let unstarted = hold(yield_now);
    unstarted.kill();
    until_parked(&killed);
    killed.kill();
    joinall([&returned, &panicked]);
    assert_eq!(Rc::strong_count(&held), 1, "although all handles live");
    let caught = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            let held = Rc::clone(&held);
            s.spawn(move || drop(held));
            resume_unwind(Box::new("silent"));
        })
    }));
    assert!(caught.is_err());
    assert_eq!(Rc::strong_count(&held), 1);
}

// ── Idle ──

#[test]
#[ignore = "run by an_idle_hub_sleeps in a process of its own"]
fn child_counts_switches_while_idle() {
    if is_child() {
        const SOCKETS: usize = 500;
        let pairs = (0..SOCKETS / 2).map(|_| our_pair());
        let ends: Vec<_> = pairs.flat_map(<[_; 2]>::from).map(Rc::new).collect();
        // Two on each socket: a thousand.
        let _readers: Vec<_> = ends
            .iter()
            .chain(&ends)
            .map(|end| {
                let end = Rc::clone(end);
                spawn(move || (&*end).read(&mut [0]).map(|_| ()))
            })
            .collect();
        let _sleeper = spawn(|| sleep(FOR_EVER));
        until(|| parked_for("read") == 1_000 && parked_for("sleep") == 1);
        sleep(ms(10));

        let before = voluntary_switches();
        sleep(Duration::from_secs(5));
        let switches = voluntary_switches() - before;
        assert!(switches <= 3, "{switches} in 5 s of nothing to do");
    }
}

#[test]
fn an_idle_hub_sleeps() {
    passes_alone("child_counts_switches_while_idle");
}
