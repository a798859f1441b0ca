//! What the tests of sockets, scopes, threads and processes share.
//!
//! *Foreign* means: nothing of this crate. Foreign peers are std's blocking sockets, foreign
//! threads have no hub, and a child process is this very test binary, started again for one test.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::cell::{OnceCell, RefCell};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs, mem, process};

use greenloom::net::{TcpListener, TcpStream};
use greenloom::{Greenlet, dump, sleep, spawn, yield_now};

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ── Hangs ──

/// No test of ours runs so long; only one that hangs does.
const HANG: Duration = Duration::from_secs(180);

/// Ends the process, with a word about why, unless it is dropped in time.
#[derive(Debug)]
pub(crate) struct HangGuard {
    _alive: Sender<()>,
}

/// Stands guard over the rest of the calling test, also when its whole thread is stuck.
pub(crate) fn hang_guard() -> HangGuard {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (alive, dropped) = mpsc::channel::<()>();
    thread::spawn(move || {
        if dropped.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            let _ = writeln!(io::stderr(), "{name} hangs");
            process::abort();
        }
    });
    HangGuard { _alive: alive }
}

// ── Waiting for the others ──

/// Lets the others run until `condition` holds. For what greenlets alone bring about.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        yield_now();
    }
    panic!("the others never got there");
}

/// As [`until`], for what takes the kernel or another thread some time.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANG / 2, "it never came true");
        sleep(ms(1));
    }
}

/// Lets the others run until `greenlet` waits for something.
pub(crate) fn until_parked<T: 'static>(greenlet: &Greenlet<T>) {
    let id = greenlet.id();
    until(|| dump().greenlets().iter().any(|entry| entry.id == id && entry.state == "parked"));
}

/// Greenlets that came to wait in the order of their numbers.
pub(crate) fn in_line<T: 'static>(count: u8, wait: impl Fn(u8) -> T + 'static) -> Vec<Greenlet<T>> {
    let wait = Rc::new(wait);
    let begin = |number| {
        let wait = Rc::clone(&wait);
        let greenlet = spawn(move || wait(number));
        until_parked(&greenlet);
        greenlet
    };
    (0..count).map(begin).collect()
}

/// How many greenlets of this thread wait for such a thing: `"join"`, of whomever.
pub(crate) fn parked_for(what: &str) -> usize {
    let waits = |reason: &str| reason.split(' ').next() == Some(what);
    dump().greenlets().iter().filter(|entry| entry.reason.as_deref().is_some_and(waits)).count()
}

/// A greenlet that can never end by itself: it joins one that joins one that joins it.
#[track_caller]
pub(crate) fn blocked_for_ever() -> Greenlet<()> {
    let first: Rc<OnceCell<Greenlet<()>>> = Rc::default();
    let join_first = |first: Rc<OnceCell<Greenlet<()>>>| {
        move || first.get().expect("filed before anybody runs").join()
    };
    let second = spawn(join_first(Rc::clone(&first)));
    first.set(spawn(move || second.join())).expect("filed once");
    spawn(join_first(first))
}

// ── What happened, in order ──

/// Lines written by several greenlets of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    /// Writes `line` when what it returns is dropped.
    pub(crate) fn on_drop(&self, line: impl Into<String>) -> OnDrop {
        OnDrop { log: self.clone(), line: line.into() }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// The lines so far; none are left.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A destructor that is seen to run.
#[derive(Debug)]
pub(crate) struct OnDrop {
    log: Log,
    line: String,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.log.add(mem::take(&mut self.line));
    }
}

// ── Foreign threads and peers ──

/// The calling thread, for [`until_asleep`].
pub(crate) fn this_thread() -> PathBuf {
    Path::new("/proc").join(fs::read_link("/proc/thread-self").expect("Linux has /proc"))
}

/// Returns once that thread sleeps in the kernel. For foreign threads: it does not park.
pub(crate) fn until_asleep(thread: &Path) {
    let asleep = || {
        let status = fs::read_to_string(thread.join("status")).expect("the thread lives");
        status.lines().any(|line| line.starts_with("State:\tS"))
    };
    while !asleep() {
        thread::yield_now();
    }
}

/// A connection over loopback: our end and a foreign one.
pub(crate) fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let addr = listener.local_addr().expect("a bound listener has an address");
    // The kernel completes the connection before anybody accepts it.
    let foreign = std::net::TcpStream::connect(addr).expect("somebody listens");
    let (ours, _) = listener.accept().expect("a connection waits");
    (ours, foreign)
}

/// A connection over loopback whose two ends both are ours.
pub(crate) fn our_pair() -> (TcpStream, TcpStream) {
    let (ours, foreign) = pair();
    (ours, TcpStream::from(foreign))
}

/// Waits for a foreign thread without stopping the greenlets of this one.
pub(crate) fn finish<T>(foreign: JoinHandle<T>) -> T {
    eventually(|| foreign.is_finished());
    foreign.join().expect("the foreign thread ended well")
}

/// Reads and writes in upper case until the peer has no more to say.
pub(crate) fn upper_case_echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buf = [0; 1024];
    loop {
        let len = stream.read(&mut buf)?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..len].to_ascii_uppercase())?;
    }
}

/// One question and its answer, over a connection that [`upper_case_echo`] serves.
pub(crate) fn ask(mut stream: impl Read + Write, question: &str) -> String {
    stream.write_all(question.as_bytes()).expect("the peer takes it");
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).expect("the peer answers");
    String::from_utf8(answer).expect("as the question was")
}

// ── Child processes ──

/// Set in such a process.
pub(crate) const CHILD: &str = "GREENLOOM_TEST_CHILD";

/// Runs the ignored test `name` of this binary alone, in a process of its own.
pub(crate) fn in_child(name: &str) -> Output {
    Command::new(env::current_exe().expect("this binary has a path"))
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the child starts")
}

/// Whether this is such a process. What is meant to die with its process asks first, so that
/// `--include-ignored` does no harm.
pub(crate) fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// What the child wrote to its standard error.
pub(crate) fn stderr_of(child: &Output) -> String {
    String::from_utf8_lossy(&child.stderr).into_owned()
}

/// How many descriptors this process has open. Only in a process of one test: others open theirs.
pub(crate) fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}
