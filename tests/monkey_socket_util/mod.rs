//! What the tests of patched sockets and streams share.

#![allow(dead_code, reason = "each test file is a program of its own and uses a part of this")]

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, io, mem, ptr, thread};

use greenloom::{monkey, spawn};

use crate::monkey_util::overlapping;

/// A call that waits, on one end of something, and what ends it, on the other.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The system call that a blocking call of it is.
    pub(crate) call: c_long,
    /// Who waits, and what ends it.
    pub(crate) ends: fn() -> (OwnedFd, OwnedFd),
    pub(crate) wait: fn(RawFd) -> isize,
    pub(crate) end: fn(RawFd),
}

/// Greenlets wait in each of them at the same time.
pub(crate) fn overlap(cases: &[Case]) {
    monkey::patch_all();
    for case in cases {
        println!("{}", case.name);
        let (waiting, ending): (Vec<_>, Vec<_>) = (0..3).map(|_| (case.ends)()).unzip();
        let end = || ending.iter().for_each(|fd| (case.end)(fd.as_raw_fd()));
        let wait = case.wait;
        let results = overlapping(3, move |n| wait(waiting[n].as_raw_fd()), end);
        assert!(results.iter().all(|result| *result >= 0), "{}: {results:?}", case.name);
    }
}

/// Each of them blocks its thread where nothing is patched, and where there is no greenlet.
pub(crate) fn are_the_kernels_elsewhere(cases: &[Case]) {
    for case in cases {
        println!("{} in a greenlet, unpatched", case.name);
        blocks(*case, |wait| spawn(wait).get().unwrap());
    }
    monkey::patch_all();
    for case in cases {
        println!("{} in a thread without a hub", case.name);
        blocks(*case, |wait| wait());
    }
}

type Wait = Box<dyn FnOnce() -> isize + Send>;

fn blocks(case: Case, run: fn(Wait) -> isize) {
    let (waiting, ending) = (case.ends)();
    let wait = case.wait;
    let call = move || run(Box::new(move || wait(waiting.as_raw_fd())));
    let result = blocked_in(case.call, call, || (case.end)(ending.as_raw_fd()));
    assert!(result >= 0, "{}", case.name);
}

/// Calls `wait` on a thread, and `end` when that thread has been seen to block in a system call.
///
/// # Panics
///
/// If it does not block in that one.
pub(crate) fn blocked_in<T: Send + 'static>(
    call: c_long,
    wait: impl FnOnce() -> T + Send + 'static,
    end: impl FnOnce(),
) -> T {
    let (sender, receiver) = mpsc::channel();
    let waiting = thread::spawn(move || {
        sender.send(unsafe { libc::gettid() }).unwrap();
        wait()
    });
    let path = format!("/proc/self/task/{}/syscall", receiver.recv().unwrap());
    let begun = Instant::now();
    loop {
        let now = fs::read_to_string(&path).unwrap_or_else(|_| "it has ended".to_owned());
        if now.split(' ').next() == Some(&call.to_string()) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "not in {call}, but {now}");
        thread::yield_now();
    }
    end();
    waiting.join().unwrap()
}

/// What a call of C has returned, and `errno` if that is -1.
pub(crate) fn outcome(result: isize) -> Result<isize, c_int> {
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error().raw_os_error().unwrap()) }
}

pub(crate) fn fd(result: c_int) -> OwnedFd {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    unsafe { OwnedFd::from_raw_fd(result) }
}

pub(crate) fn pair(kind: c_int) -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }, 0);
    (fd(fds[0]), fd(fds[1]))
}

pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    assert_eq!(unsafe { libc::pipe(fds.as_mut_ptr()) }, 0);
    (fd(fds[0]), fd(fds[1]))
}

/// A pipe, to be written to.
pub(crate) fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reading, writing) = pipe();
    fill(writing.as_raw_fd());
    (writing, reading)
}

/// Sockets of a kind, the first of which has no room for more.
pub(crate) fn full(kind: c_int) -> (OwnedFd, OwnedFd) {
    let (one, other) = pair(kind);
    let bytes = [0_u8; 1024];
    let send = |len: usize| unsafe {
        libc::send(one.as_raw_fd(), bytes.as_ptr().cast(), len, libc::MSG_DONTWAIT)
    };
    while send(1024) > 0 {}
    while send(1) > 0 {}
    (one, other)
}

/// Writes to a pipe what there is room for.
pub(crate) fn fill(writing: RawFd) {
    assert!(unsafe { libc::fcntl(writing, libc::F_SETPIPE_SZ, 4096) } > 0);
    assert_eq!(unsafe { libc::write(writing, [0_u8; 4096].as_ptr().cast(), 4096) }, 4096);
}

/// Takes out what is there.
pub(crate) fn drain(fd: RawFd) {
    let mut buf = [0_u8; 65536];
    while unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) } > 0 {}
}

pub(crate) fn put(fd: RawFd) {
    assert_eq!(unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) }, 1);
}

pub(crate) fn take(fd: RawFd) {
    let mut buf = [0_u8; 4096];
    assert!(unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) } > 0);
}

pub(crate) fn vector<T>(bytes: &[T]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: mem::size_of_val(bytes),
    }
}

/// As [`vector`], to be written to.
pub(crate) fn room(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

pub(crate) fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    message
}

/// The mode of a descriptor.
pub(crate) fn mode(fd: &impl AsRawFd) -> c_int {
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }
}

/// Sets a time limit on a socket.
pub(crate) fn set_limit(fd: &impl AsRawFd, option: c_int, ms: i64) {
    let limit = libc::timeval { tv_sec: ms / 1000, tv_usec: ms % 1000 * 1000 };
    let len = mem::size_of_val(&limit) as libc::socklen_t;
    let place = (&raw const limit).cast();
    let level = libc::SOL_SOCKET;
    assert_eq!(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, place, len) }, 0);
}

/// An address of any family.
pub(crate) type Address = (libc::sockaddr_storage, libc::socklen_t);

const NAME_AT: usize = mem::offset_of!(libc::sockaddr_un, sun_path) + 1;

/// An address of the Unix family that is a name, and no file.
pub(crate) fn named(name: &str) -> Address {
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    address.ss_family = libc::AF_UNIX as _;
    let place = (&raw mut address).cast::<u8>().wrapping_add(NAME_AT);
    unsafe { place.copy_from_nonoverlapping(name.as_ptr(), name.len()) };
    (address, (NAME_AT + name.len()) as _)
}

pub(crate) fn name_of(fd: RawFd) -> String {
    let (address, len) = address_of(fd);
    let place = (&raw const address).cast::<u8>().wrapping_add(NAME_AT);
    let bytes = unsafe { std::slice::from_raw_parts(place, len as usize - NAME_AT) };
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn bind(fd: RawFd, name: &str) {
    let (address, len) = named(name);
    assert_eq!(unsafe { libc::bind(fd, (&raw const address).cast(), len) }, 0);
}

pub(crate) fn address_of(fd: RawFd) -> Address {
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut len = mem::size_of_val(&address) as libc::socklen_t;
    assert_eq!(unsafe { libc::getsockname(fd, (&raw mut address).cast(), &raw mut len) }, 0);
    (address, len)
}

pub(crate) fn stream(family: c_int) -> OwnedFd {
    fd(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })
}

pub(crate) fn connect(fd: RawFd, to: &Address) -> isize {
    unsafe { libc::connect(fd, (&raw const to.0).cast(), to.1) as isize }
}

/// A Unix listener whose queue is full, and its name. What fills it lasts as long as the process.
pub(crate) fn full_listener() -> (OwnedFd, String) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let listener = stream(libc::AF_UNIX);
    let name = format!("{} {}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    bind(listener.as_raw_fd(), &name);
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let filling = stream(libc::AF_UNIX);
    assert_eq!(connect(filling.as_raw_fd(), &named(&name)), 0);
    let _ = filling.into_raw_fd();
    (listener, name)
}

/// Accepts a connection, of which there is one, and closes it.
pub(crate) fn accept(fd: RawFd) {
    drop(self::fd(unsafe { libc::accept(fd, ptr::null_mut(), ptr::null_mut()) }));
}

/// What calls have come to, each with what it was.
pub(crate) type Outcomes = Vec<(&'static str, Result<isize, c_int>)>;

/// A thread, a greenlet and the main greenlet are told the same by each of these calls.
pub(crate) fn are_told_the_same(calls: fn() -> Outcomes) {
    monkey::patch_all();
    let in_a_thread = thread::spawn(calls).join().unwrap();
    let in_a_greenlet = spawn(calls).get().unwrap();
    let differ = |others: Outcomes| {
        let both = in_a_thread.iter().zip(others).enumerate();
        both.filter(|(_, (one, other))| *one != other)
            .map(|it| format!("{it:?}\n"))
            .collect::<String>()
    };
    assert_eq!(differ(in_a_greenlet), "");
    assert_eq!(differ(calls()), "", "the main greenlet");
}

/// Lets this thread, and those that it starts, make these system calls no more.
pub(crate) fn forbid(calls: &[c_long]) {
    let mut program = vec![load(0)];
    for call in calls {
        program.extend([skip_unless(1, *call as u32), KILL]);
    }
    filter(&mut program);
}

/// As [`forbid`], of setting the mode of a descriptor.
pub(crate) fn forbid_modes() {
    filter(&mut [
        load(0), // the number of the call
        skip_unless(3, libc::SYS_fcntl as u32),
        load(24), // its second argument
        skip_unless(1, libc::F_SETFL as u32),
        KILL,
        load(0),
        skip_unless(3, libc::SYS_ioctl as u32),
        load(24),
        skip_unless(1, libc::FIONBIO as u32),
        KILL,
    ]);
}

const KILL: libc::sock_filter =
    operation(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_KILL_PROCESS);

const fn operation(code: u32, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf, k }
}

fn load(at: u32) -> libc::sock_filter {
    operation(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, at)
}

fn skip_unless(count: u8, value: u32) -> libc::sock_filter {
    operation(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, count, value)
}

/// What the program says nothing of is allowed.
fn filter(program: &mut [libc::sock_filter]) {
    let allow = operation(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW);
    let mut program = [program, &mut [allow]].concat();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, 0);
}
