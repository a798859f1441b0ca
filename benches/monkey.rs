//! What it costs that a function of the C library is ours: against the C library's own, and against
//! the bare system call.
//!
//! The calls are such as the kernel answers at once. The three are measured in turn, round by round,
//! and what is told are medians, of their differences too: where nothing is patched, where a thread
//! has no hub, and in a greenlet, for calls that need not wait. If `strace` is installed, it counts
//! the system calls of the last.

#![expect(unsafe_code, reason = "C is called, and the kernel")]
#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]

use std::env;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::hint::black_box;
use std::io::Write;
use std::mem::transmute;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::thread;
use std::time::Instant;

use greenloom::{monkey, spawn};

// ── The calls ──

type Recv = unsafe extern "C" fn(c_int, *mut c_void, usize, c_int) -> isize;
type Read = unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize;
type Poll = unsafe extern "C" fn(
    *mut libc::pollfd,
    libc::nfds_t,
    *const libc::timespec,
    *const libc::sigset_t,
) -> c_int;
type Syscall = unsafe extern "C" fn(c_long, ...) -> c_long;

/// One system call by name, by which of the three it is made, and with which arguments.
#[derive(Clone, Copy)]
struct Calls {
    recv: Recv,
    read: Read,
    ppoll: Poll,
    syscall: Syscall,
}

/// The program's own, which are the crate's.
const OURS: Calls =
    Calls { recv: libc::recv, read: libc::read, ppoll: libc::ppoll, syscall: libc::syscall };

/// Those the program would have had.
fn of_c() -> Calls {
    fn next(name: &CStr) -> *mut c_void {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        assert!(!found.is_null(), "{name:?}");
        found
    }
    Calls {
        // SAFETY: it is C's function of that name and type.
        recv: unsafe { transmute::<*mut c_void, Recv>(next(c"recv")) },
        // SAFETY: as above.
        read: unsafe { transmute::<*mut c_void, Read>(next(c"read")) },
        // SAFETY: as above.
        ppoll: unsafe { transmute::<*mut c_void, Poll>(next(c"ppoll")) },
        // SAFETY: as above.
        syscall: unsafe { transmute::<*mut c_void, Syscall>(next(c"syscall")) },
    }
}

/// The bare machine.
#[inline(always)]
fn raw(number: c_long, arguments: [usize; 4]) -> isize {
    let [a, b, c, d] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the kernel's convention; the arguments are good.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0, in("r9") 0,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") 0, in("x5") 0,
            options(nostack),
        );
    }
    result
}

/// What is called: by its name, bare, and by a function of C.
#[derive(Clone, Copy)]
struct Subject {
    name: &'static str,
    raw: fn(c_int),
    by: fn(&Calls, c_int),
}

const WAKE: c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

static NO_TIME: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

/// Nobody waits for it.
static WORD: u32 = 0;

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "recv, no descriptor",
        raw: |_| _ = raw(libc::SYS_recvfrom, [usize::MAX, 0, 0, 0]),
        // SAFETY: refused before anything is written.
        by: |calls, _| _ = unsafe { (calls.recv)(-1, null_mut(), 0, 0) },
    },
    Subject {
        name: "recv, data is there",
        raw: |fd| {
            let mut byte = 0_u8;
            let at = (&raw mut byte).addr();
            raw(libc::SYS_recvfrom, [fd as usize, at, 1, libc::MSG_PEEK as usize]);
            black_box(&byte);
        },
        by: |calls, fd| {
            let mut byte = 0_u8;
            // SAFETY: there is room for a byte.
            unsafe { (calls.recv)(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK) };
            black_box(&byte);
        },
    },
    Subject {
        name: "read, no descriptor",
        raw: |_| _ = raw(libc::SYS_read, [usize::MAX, 0, 0, 0]),
        // SAFETY: refused before anything is written.
        by: |calls, _| _ = unsafe { (calls.read)(-1, null_mut(), 0) },
    },
    Subject {
        name: "ppoll of nothing, no wait",
        raw: |_| _ = raw(libc::SYS_ppoll, [0, 0, (&raw const NO_TIME).addr(), 0]),
        // SAFETY: there are none, and the time is there.
        by: |calls, _| _ = unsafe { (calls.ppoll)(null_mut(), 0, &raw const NO_TIME, null()) },
    },
    Subject {
        name: "futex wake, nobody waits",
        raw: |_| _ = raw(libc::SYS_futex, [(&raw const WORD).addr(), WAKE as usize, 1, 0]),
        // SAFETY: the word is there, and only its address counts.
        by: |calls, _| _ = unsafe { (calls.syscall)(libc::SYS_futex, &raw const WORD, WAKE, 1) },
    },
];

// ── Measuring ──

struct Effort {
    rounds: usize,
    /// Calls a round.
    calls: u32,
}

/// Only `cargo bench` measures. Run as a test, or by `cargo bench -- --test`, it shows that it runs.
fn effort() -> Effort {
    let is_given = |wanted: &str| env::args().any(|argument| argument == wanted);
    if is_given("--bench") && !is_given("--test") {
        Effort { rounds: 41, calls: 100_000 }
    } else {
        Effort { rounds: 1, calls: 100 }
    }
}

/// Nanoseconds a call.
fn time_of(calls: u32, call: impl Fn()) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Measures all subjects where it is called, and prints them.
fn measure(place: &str) {
    let effort = effort();
    let (mut writer, reader) = UnixStream::pair().expect("sockets can be had");
    writer.write_all(b"!").expect("there is room");
    let fd = reader.as_raw_fd();
    let of_c = of_c();
    println!(
        "\n{place:<28} {:>8} {:>8} {:>8} {:>10} {:>10}",
        "bare", "C's", "ours", "over bare", "over C's"
    );
    for Subject { name, raw, by } in SUBJECTS {
        let mut times: [Vec<f64>; 5] = Default::default();
        // One round more, to warm up.
        for round in 0..=effort.rounds {
            let bare = time_of(effort.calls, || black_box(raw)(black_box(fd)));
            let theirs = time_of(effort.calls, || black_box(by)(black_box(&of_c), black_box(fd)));
            let ours = time_of(effort.calls, || black_box(by)(black_box(&OURS), black_box(fd)));
            if round > 0 {
                let all = [bare, theirs, ours, ours - bare, ours - theirs];
                times.iter_mut().zip(all).for_each(|(times, time)| times.push(time));
            }
        }
        let [bare, theirs, ours, over_bare, over_theirs] = times.map(median);
        let ratio = ours / bare;
        println!(
            "{name:<28} {bare:>8.1} {theirs:>8.1} {ours:>8.1} {over_bare:>10.1} {over_theirs:>10.1}   x {ratio:.3}"
        );
    }
}

// ── Counting ──

/// Set in the process that is counted: how many calls it is to make.
const COUNTED: &str = "GREENLOOM_BENCH_COUNTED";

/// Makes so many calls in a greenlet that find data, and nothing else.
fn make_calls(count: u64) {
    let (mut writer, reader) = UnixStream::pair().expect("sockets can be had");
    writer.write_all(b"!").expect("there is room");
    let fd = reader.as_raw_fd();
    spawn(move || (0..count).for_each(|_| (SUBJECTS[1].by)(&OURS, fd))).join();
}

/// How many system calls a process makes in all that makes so many of those.
fn system_calls(count: u64) -> Option<u64> {
    let summary = env::temp_dir().join(format!("greenloom-{}-{count}", std::process::id()));
    let strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&summary)
        .arg(env::current_exe().ok()?)
        .env(COUNTED, count.to_string())
        .status();
    let text = std::fs::read_to_string(&summary);
    let _ = std::fs::remove_file(&summary);
    if !strace.ok()?.success() {
        return None;
    }
    // The last line: 100.00, seconds, microseconds a call, calls, perhaps errors, "total".
    text.ok()?.lines().last()?.split_whitespace().nth(3)?.parse().ok()
}

fn main() {
    if let Some(count) = env::var(COUNTED).ok().and_then(|count| count.parse().ok()) {
        monkey::patch_all();
        return make_calls(count);
    }
    println!("Nanoseconds a call; medians, and of `over` medians of differences, round by round.");
    measure("nothing is patched");
    monkey::patch_all();
    measure("patched, thread has no hub");
    spawn(|| measure("patched, in a greenlet")).join();
    thread::spawn(|| measure("patched, another thread")).join().expect("it ends well");

    const CALLS: u64 = 1_000;
    match (system_calls(CALLS), system_calls(2 * CALLS)) {
        (Some(once), Some(twice)) => {
            let each = (twice - once) as f64 / CALLS as f64;
            println!("\nSystem calls of a recv in a greenlet that finds data: {each:.3}");
        }
        _ => println!("\nNOT COUNTED: strace is not installed, or may not trace"),
    }
}
