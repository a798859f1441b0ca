//! Blocking code of others made to wait by parking: gevent's `monkey.patch_all()`.
//!
//! ```standalone_crate
//! use greenloom::{joinall, monkey, spawn};
//! use std::io::{self, Read, Write};
//! use std::net::{SocketAddr, TcpListener, TcpStream};
//! use std::thread;
//! use std::time::Duration;
//!
//! fn main() -> io::Result<()> {
//!     monkey::patch_all(); // everything below is plain std, written for threads
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let server = listener.local_addr()?;
//!     spawn(move || {
//!         for stream in listener.incoming().flatten() {
//!             spawn(move || serve(stream));
//!         }
//!     });
//!     let jobs = ["/one", "/two", "/three"].map(|page| spawn(move || get(server, page)));
//!     joinall(&jobs); // all three in the time of one, on this very thread
//!     for job in jobs {
//!         let page = job.get().unwrap()?;
//!         println!("{} bytes", page.len());
//!         # assert!(page.starts_with("a page of /"));
//!     }
//!     Ok(())
//! }
//!
//! fn get(server: SocketAddr, page: &str) -> io::Result<String> {
//!     let mut stream = TcpStream::connect(server)?;
//!     writeln!(stream, "{page}")?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text)?;
//!     Ok(text)
//! }
//!
//! fn serve(mut stream: TcpStream) -> io::Result<()> {
//!     let mut buffer = [0; 100];
//!     let length = stream.read(&mut buffer)?;
//!     thread::sleep(Duration::from_millis(100)); // a slow page
//!     write!(stream, "a page of {}", String::from_utf8_lossy(&buffer[..length]))
//! }
//! ```
//!
//! `get` could as well be `ureq::get`, a client of a database, or a C library: whatever calls the C
//! library's functions to wait.
//!
//! # What is patched, what cannot be
//!
//! This page is the contract: [what it does](#what-it-does), [what is patched](#what-is-patched),
//! [what is never touched](#what-is-never-touched), [what the patched code
//! sees](#what-the-patched-code-sees), [kills and timeouts](#kills-and-timeouts), [what cannot be
//! patched](#what-cannot-be-patched), [stacks](#stacks), [what to mind](#what-to-mind),
//! [linking](#linking), and [how to see that something blocked](#did-something-block-the-hub).
//!
//! # What it does
//!
//! The crate brings functions of its own that have the names of the C library's (`recv`, `poll`,
//! `nanosleep` ...), and the linker prefers them: for std, for all crates, and for the shared
//! libraries the program uses. Nothing is loaded, nothing is rewritten at run time, and there is no
//! build script. With the feature on and nothing patched they make the very system call that the C
//! library would. Where a family is patched, and a greenlet calls, they try without waiting; what
//! would block parks the greenlet until the kernel says that it is worth trying again.
//!
//! The thread's own stack is a greenlet too: once a thread has a hub, which its first
//! [`spawn`](crate::spawn) brings, blocking calls of `main` let the others run. Nothing has to be
//! wrapped around `main`.
//!
//! # What is patched
//!
//! | family | functions | what waits, and how |
//! |---|---|---|
//! | [`Socket`](Patch::Socket) | `socket`, `connect`, `accept`, `accept4`, `recv`, `recvfrom`, `recvmsg`, `send`, `sendto`, `sendmsg`, `recvmmsg`, `sendmmsg`, `read`, `readv`, `write`, `writev`, `close`, `dup2`, `dup3`, `close_range`, `__read_chk`, `__recv_chk`, `__recvfrom_chk` | Sockets, pipes, terminals that are read: tried without waiting; what would block waits for the poller. The limits set by `SO_RCVTIMEO` and `SO_SNDTIMEO` hold. A thread connects a socket that has come from elsewhere. Closing a descriptor ends the waits for it. |
//! | [`Time`](Patch::Time) | `clock_nanosleep`, `nanosleep`, `usleep`, `sleep`, `sched_yield` | A timer of the hub. `sched_yield` lets every other greenlet run once, and so does a sleep of no time. |
//! | [`Dns`](Patch::Dns) | `getaddrinfo`, `getnameinfo` | A thread makes the call. What is an address in figures needs none. |
//! | [`Select`](Patch::Select) | `poll`, `ppoll`, `select`, `pselect`, `__poll_chk`, `__ppoll_chk` | All descriptors are watched at once, with the limit as a timer. Those that change the signal mask meanwhile are the kernel's. |
//! | [`Process`](Patch::Process) | `waitpid`, `wait`, `wait3`, `wait4`, `waitid` | A descriptor of the child (`pidfd`) is waited for; for several children, or stops, a thread waits. The caller's own call reaps. |
//! | [`Thread`](Patch::Thread) | `pthread_join` | A thread joins it. |
//! | [`Lock`](Patch::Lock) | `syscall` | `syscall(SYS_futex, ..)`, which is what std's `Mutex`, `RwLock`, `Condvar`, `Once`, `Barrier` and `thread::park` wait by: between greenlets of one thread, and across threads. Channels (`mpsc`): across threads only, see [below](#what-cannot-be-patched). |
//! | [`File`](Patch::File) | `pread`, `pread64`, `pwrite`, `pwrite64`, `fsync`, `fdatasync`, `flock`, `__pread_chk`, `__pread64_chk` | A thread makes the call; so it does for `read`, `readv`, `write` and `writev` of regular files. Not part of [`patch_all`]. |
//!
//! [`report()`] prints which of them are on.
//!
//! # What is never touched
//!
//! The kernel's own call is made, with the caller's very arguments, whenever the caller
//!
//! - runs on a thread that has no hub, or no more;
//! - unwinds, by a panic, a kill or a timeout: destructors block as they would in a thread;
//! - is the hub itself, or what it calls;
//! - is a child of `fork`: nothing is patched there, because it must not use its parent's hub (a
//!   daemon patches after it has forked);
//! - runs on a stack that is not the greenlet's: a signal handler with an alternate stack, a
//!   coroutine of C's;
//! - uses descriptor 0, 1 or 2: they are shared with other programs, and std's `println!` writes to
//!   them under a lock that would let in a second greenlet of the thread;
//! - uses a descriptor that its user has made non-blocking, or says so in that call
//!   (`MSG_DONTWAIT`): `EAGAIN` is then the answer;
//! - calls a function of a family that is not patched.
//!
//! No mode of a descriptor is changed: `O_NONBLOCK` belongs to everybody who shares the open file.
//! (The one exception can be seen by nobody: a stream socket that the program has made itself, and
//! not connected yet, is non-blocking for the instant in which `connect` is called.) Nothing is
//! remembered about a descriptor from one call to the next, but for that one bit. The kernel is
//! asked when there is something to wait for; so a number that is used again starts clean, sockets
//! made before patching are like those made after it, and code that makes system calls of its own
//! cannot mislead us.
//!
//! # What the patched code sees
//!
//! - **Modes and limits**: `fcntl(F_GETFL)`, `ioctl(FIONBIO)`, `getsockopt` tell what the user has
//!   set.
//! - **Errors**: the numbers of the kernel, in `errno`, which a call that succeeds leaves alone,
//!   also if others have run meanwhile.
//! - **Results**: those of the kernel, partial reads and writes as well. Each call that has parked
//!   is made again by the caller's own thread, with the caller's own buffer.
//! - **Signals** do not interrupt a parked call: it is as if another thread had taken the signal. A
//!   handler runs all the same. So `EINTR` is seen only where the kernel's own call is made. A
//!   handler must not make a call that waits: on the stack of the greenlet that it has interrupted
//!   it would park it, with the signal blocked for all the others, in the midst of whatever it was
//!   doing. Calls that need not wait are as safe there as ever; what is closed in a handler may not
//!   be told those who wait for it.
//! - **Closing** ends the waits for that descriptor with `EBADF`, as in gevent. The kernel would
//!   let a thread wait on, and its number may be somebody else's the next moment. (A deliberate
//!   difference.)
//! - **Order**: of several greenlets that read from one descriptor all are told, in the order of
//!   their calls, and whoever runs first gets what is there.
//!
//! # Kills and timeouts
//!
//! Nothing unwinds through frames of C. A [kill](crate::Greenlet::kill), or a
//! [`Timeout`](crate::Timeout) that is over, makes the call that waits return an error,
//! `ECANCELED`, and is raised at the greenlet's next wait by a call of this crate. Most code gives
//! up at such an error by itself. If it ends, and with it the scope of the
//! [`with_timeout`](crate::with_timeout), then that returns `Elapsed` and drops what the closure
//! has returned:
//!
//! ```standalone_crate
//! use greenloom::{Elapsed, monkey, with_timeout};
//! use std::io::Read;
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//!
//! monkey::patch_all();
//! let (mut stream, _peer) = UnixStream::pair()?;
//! let result = with_timeout(Duration::from_millis(5), || stream.read(&mut [0; 100]));
//! assert!(matches!(result, Err(Elapsed)));
//! # std::io::Result::Ok(())
//! ```
//!
//! - Sleeping ends early. `nanosleep` says `EINTR` and that no time is left, since std sleeps again
//!   for what is left. `getaddrinfo` says `EAI_SYSTEM`, and `ECANCELED` in `errno`.
//! - Waits for std's locks and condition variables, for channels and `park`, joins of threads and
//!   work on files cannot be interrupted: std does not expect it, and waits again. They end first,
//!   and what was to be raised is raised at the next wait; `kill` returns before that. The same goes
//!   for a loop that waits by `sched_yield`. What came of such a wait is kept, even if it came after
//!   a timeout: a message that was received late is not thrown away.
//! - Code that tries again after every error is told eight times. Then it is left alone and waits
//!   as long as it likes, so that it does not spin; a kill gives up on it
//!   ([`Greenlet::kill`](crate::Greenlet::kill)), a timeout counts when its scope ends.
//!
//! # What cannot be patched
//!
//! What does not call the C library by name blocks the thread, as it did before:
//!
//! - **System calls in assembly**: `rustix` with its own backend, which is the default on Linux,
//!   and so `polling` and whatever waits by it; its feature `use-libc` helps. Code in Go, and other
//!   objects that bring their own system calls.
//! - **Calls from inside the C library**: its `FILE`s (`fread`, `printf`), `dlopen`, `system`,
//!   `pclose`. `getaddrinfo` opens sockets of its own there, which is why a thread makes that call.
//! - **`io_uring`**, and everything the kernel does without being called.
//! - **`epoll_wait`**, on purpose: a loop that waits for events is a runtime, with a thread of its
//!   own as a rule. A tokio runtime with threads of its own, and `reqwest::blocking`, which waits
//!   for one, are fine: their threads are theirs, and the caller waits for a channel, by parking.
//!   One that runs its loop in the caller blocks the thread while it waits: `block_on` of a
//!   current-thread runtime, which is what the `postgres` crate does. (Those that are built on
//!   `libpq`, such as `diesel`, are fine.)
//! - **`pthread_mutex_lock`, `pthread_cond_wait` and semaphores of C**: they make their system
//!   calls inside the C library. A C library that holds one across a call that parks can block its
//!   thread for good when another greenlet wants it.
//! - **`parking_lot`**: whoever waits for a lock of its stands in a queue, with one place for each
//!   thread. So the thread stands still, as before, and so it does in crates built on it, `r2d2`
//!   for one. If that lasts for a second while other greenlets are there,
//!   [`Hub::on_error`](crate::Hub::on_error) is told, for the lock may be held by one of them. (It
//!   yields while it holds locks of its own, when its tables grow: a family `Time` that is patched
//!   can make such a deadlock there, if rarely.)
//! - **Channels between greenlets of one thread** (`std::sync::mpsc`): whoever sends wakes no
//!   receiver of his own thread, because to std a thread that sends does not wait. The message is
//!   there, but whoever is waiting for it already sleeps on, until another thread sends, the last
//!   sender goes, or his `recv_timeout` is over; likewise a sender to a full `sync_channel`. There is
//!   no call in it that could be patched. Channels of this crate ([`queue`](crate::queue)) are made
//!   for it.
//! - **Calls that wait and are not in the table**: `splice`, `sendfile` (std's `io::copy` from a pipe
//!   to a socket uses them; from a file to a socket it does not), `preadv`, `pwritev`,
//!   `fcntl(F_SETLKW)`, `open` of a named pipe, `sigwait`, `pause`, message queues.
//! - **What the kernel can only wait for**: of named pipes and terminals it is asked first whether
//!   a call would wait, and likewise of listeners. If another thread or process is quicker in
//!   between, the call waits for the next one. Writing to terminals blocks; so does all that has no
//!   event, regular files above all (see [`patch_file`]).
//! - **Futexes shared by processes** (without `FUTEX_PRIVATE_FLAG`), and those with priority
//!   inheritance.
//! - **A lock of std's taken while unwinding**: a destructor must not park, so it waits as a thread
//!   would.
//! - **Children of `vfork`**: they share our memory, and should do nothing but close, duplicate and
//!   `exec`, as ever.
//! - **Waiting for any child**: a thread waits as long as it takes, also when the greenlet has been
//!   interrupted. From 64 such threads on the others look every 50 ms.
//! - **`pthread_cancel`**: our system calls are no cancellation points.
//! - **Shared libraries** opened with `RTLD_DEEPBIND`, and those that bring a C library of their
//!   own.
//! - **This crate inside a shared library** (a Python module, a `cdylib`): the names of the program
//!   that loads it come first. Calls inside the library itself may be patched or not, depending on
//!   how it is linked; those of others are not. [`Report::elsewhere`] says which.
//! - **Static programs** (musl): untested.
//!
//! # Stacks
//!
//! A greenlet has 240 KiB of stack, a thread some megabytes, and C libraries are written for the
//! latter. Most clients stay far below (TLS handshakes take 30 to 60 KiB). For what goes deeper
//! [`Builder::stack_size`](crate::Builder::stack_size) costs address space only, and
//! [`StackCensus`](crate::observe::StackCensus) says how deep it went:
//!
//! ```
//! let greenlet = greenloom::Builder::new().stack_size(2 << 20).spawn(|| {
//!     // a call into a large C library
//! })?;
//! # greenlet.join();
//! # std::io::Result::Ok(())
//! ```
//!
//! Compilers of C do not probe stacks as Rust's does. The guard below each stack is 16 KiB; a C
//! function with a larger frame can step over it.
//!
//! # What to mind
//!
//! - **What belongs to a thread** is shared by its greenlets: thread-locals of Rust and of C, the
//!   queue of errors of OpenSSL, `thread::current()`. A `RefCell` in a thread-local that is
//!   borrowed across a call that now parks can be met by another greenlet.
//! - **Locks held across a call that parks** are held as long as that takes. With [`Patch::Lock`]
//!   other greenlets wait for them by parking; without it they block the thread, and with it the
//!   greenlet that holds the lock.
//! - **Reentrant locks** (std's of standard output, `ReentrantMutex`) know threads, not greenlets:
//!   two greenlets of a thread are both let in. That is why writes to descriptors 0, 1 and 2 never
//!   park.
//! - **`thread::park`**, and channels with it, are a thread's, and so all its greenlets wait by the
//!   same word. An unpark lets each of them look whether it was meant, and they look after pauses
//!   that grow, too, from a millisecond on; so a channel that is waited for at length wakes the
//!   thread now and then. The queues of this crate do not.
//! - **`thread::sleep(0)`, spin loops** with `sched_yield` let others run; those that only spin do
//!   not.
//! - **Shutting down**: what waits when its thread ends is given up with `ECANCELED`, as by a kill.
//!   Destructors of thread-locals that run after the hub has ended block as they would in any
//!   thread.
//! - **Fairness**: sockets and pipes whose data is always there let the others run after 128 calls
//!   or some milliseconds, as those of this crate do. Other calls that need not wait do not switch.
//!
//! # Linking
//!
//! Nothing has to be said: it works with rust-lld and with GNU ld, with and without optimisation
//! and LTO, also in a program that names the crate only by `use greenloom as _;`. Two objects that
//! define the same names in one program do not link:
//!
//! ```text
//! rust-lld: error: duplicate symbol: recv
//! /usr/bin/ld: multiple definition of `recv'
//! ```
//!
//! The other one is another interposer in the program itself: a coroutine runtime with hooks, a
//! profiler of I/O, an allocator that hooks `close`. One of them has to go: build without the
//! feature `monkey`, or without the hooks of the other. `-Wl,--allow-multiple-definition` takes
//! whichever comes first, and is no cure. Those that are loaded as a shared library (`LD_PRELOAD`)
//! do not clash: the program's own names come first, ours, and since we call the kernel directly
//! they see nothing of those calls.
//!
//! # Did something block the hub?
//!
//! While one call blocks, nobody runs. From the inside, a greenlet that only sleeps tells how late
//! it wakes:
//!
//! ```standalone_crate
//! use greenloom::{sleep, spawn};
//! use std::time::{Duration, Instant};
//!
//! let heartbeat = spawn(|| {
//!     const BEAT: Duration = Duration::from_millis(10);
//!     let mut latest = Duration::ZERO;
//!     for _ in 0..5 {
//!         let due = Instant::now() + BEAT;
//!         sleep(BEAT);
//!         latest = latest.max(due.elapsed());
//!     }
//!     latest // in a server: a loop for ever, and a line in the log if it is more than 50 ms
//! });
//! // Nothing is patched here, so this is what a call looks like that cannot be:
//! let culprit = spawn(|| std::thread::sleep(Duration::from_millis(80)));
//! let latest = heartbeat.get().unwrap();
//! assert!(latest > Duration::from_millis(50), "somebody blocked this thread: {latest:?}");
//! # culprit.join();
//! ```
//!
//! From the outside, while it hangs, the kernel names the system call in which each thread is, and
//! `strace` says how long calls take:
//!
//! ```text
//! head /proc/<pid>/task/*/{syscall,wchan}
//! strace -f -T -e 'trace=!epoll_wait,ppoll' -p <pid>
//! ```
//!
//! A hub that has nothing to do is in `epoll_wait` or in `ppoll`. In anything else (`futex`,
//! `recvfrom`, `clock_nanosleep` ...) it is held up, and a debugger's backtrace of that thread says
//! by whom.
//!
//! [`dump()`](crate::dump) shows, in a running program, which greenlet waits in which call (`parked
//! in recv`), and in its last line which families are patched. Who is *not* parked there although
//! he should be has blocked the thread. [`report()`] names the functions.
//!
//! What blocks on purpose: regular files (unless [`patch_file`]), descriptors 0 to 2, calls while
//! unwinding, and what is listed [above](#what-cannot-be-patched). [`offload`](crate::offload) has
//! a thread do it.

#![expect(unsafe_code, reason = "functions of C take the place of others, by name and by pointer")]

mod descriptor;
mod futex;
mod gate;
mod lot;
mod offload;
mod own_word;
mod parker;

mod close;
mod connect;
mod dns;
mod file;
mod fortified;
mod lock;
mod many;
mod ours;
mod process;
mod select;
mod socket;
mod stream;
mod thread;
mod time;
mod transfer;

use std::ffi::CString;
use std::fmt;
use std::sync::Once;

pub use crate::sys::patches::Patch;

use crate::sys::{patches, real};

/// Lets everything but files wait by parking: each of [`Patch::ALL`] except [`Patch::File`].
///
/// To be called at the start of `main`, before there are threads that could be in the middle of
/// something. It may be called later, again, and from any thread: what is patched is patched in the
/// whole process, for calls that begin from then on, on whatever socket, and stays so.
/// gevent's `monkey.patch_all()`.
///
/// # Examples
///
/// Two sleeps of std's that overlap: who began later and sleeps less wakes first.
///
/// ```standalone_crate
/// use greenloom::{joinall, monkey, spawn};
/// use std::sync::mpsc::channel;
/// use std::thread;
/// use std::time::Duration;
///
/// monkey::patch_all();
/// let (done, order) = channel();
/// let sleepers = [60, 20, 40].map(|ms| {
///     let done = done.clone();
///     spawn(move || {
///         thread::sleep(Duration::from_millis(ms));
///         done.send(ms).unwrap();
///     })
/// });
/// joinall(&sleepers);
/// drop(done);
/// assert_eq!(order.iter().collect::<Vec<_>>(), [20, 40, 60]);
/// ```
pub fn patch_all() {
    patch_all_except([]);
}

/// As [`patch_all`], leaving some out: those that something else in the program takes care of.
/// gevent's `patch_all(thread=False)`.
///
/// A family that is patched already stays so.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch};
///
/// monkey::patch_all_except([Patch::Lock, Patch::Process]);
/// assert!(monkey::is_patched(Patch::Socket));
/// assert!(!monkey::is_patched(Patch::Lock));
/// ```
pub fn patch_all_except(except: impl IntoIterator<Item = Patch>) {
    let except: Vec<_> = except.into_iter().chain([Patch::File]).collect();
    Patch::ALL.iter().filter(|patch| !except.contains(patch)).copied().for_each(turn_on);
}

fn turn_on(patch: Patch) {
    static IN_CHILDREN: Once = Once::new();
    IN_CHILDREN.call_once(|| {
        // It fails only without memory. Then a child that goes on without `exec` must patch nothing.
        let _ = real::call_in_children(patches::turn_all_off);
        patches::note_process();
    });
    patches::turn_on(patch);
}

/// Lets sockets and pipes wait by parking: [`Patch::Socket`]. gevent's `patch_socket()`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// monkey::patch_socket();
/// let (mut one, mut other) = UnixStream::pair()?;
/// let shouter = spawn(move || {
///     let mut word = [0; 5];
///     other.read_exact(&mut word)?; // parks this greenlet, until `main` has written
///     word.make_ascii_uppercase();
///     other.write_all(&word)
/// });
/// one.write_all(b"hello")?;
/// let mut word = [0; 5];
/// one.read_exact(&mut word)?; // parks `main`, until that greenlet has answered
/// assert_eq!(&word, b"HELLO");
/// shouter.get().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub fn patch_socket() {
    turn_on(Patch::Socket);
}

/// Lets sleeping wait by parking: [`Patch::Time`]. gevent's `patch_time()`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{dump, idle, monkey, spawn};
/// use std::thread;
/// use std::time::Duration;
///
/// monkey::patch_time();
/// let sleeper = spawn(|| thread::sleep(Duration::from_millis(10)));
/// idle(); // it has begun
/// assert_eq!(dump().greenlets()[1].state, "parked"); // and this thread has not stopped
/// sleeper.join();
/// ```
pub fn patch_time() {
    turn_on(Patch::Time);
}

/// Has threads look up names while the greenlet parks: [`Patch::Dns`]. gevent's `patch_dns()`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey;
/// use std::net::ToSocketAddrs;
///
/// monkey::patch_dns();
/// assert!("localhost:80".to_socket_addrs()?.any(|address| address.ip().is_loopback()));
/// # std::io::Result::Ok(())
/// ```
pub fn patch_dns() {
    turn_on(Patch::Dns);
}

/// Lets `poll` and `select` wait by parking: [`Patch::Select`]. gevent's `patch_select()`.
///
/// Needed for `TcpStream::connect_timeout` of std, which polls, and by most C libraries.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch};
///
/// monkey::patch_select();
/// monkey::patch_select(); // once more changes nothing
/// assert!(monkey::is_patched(Patch::Select));
/// ```
pub fn patch_select() {
    turn_on(Patch::Select);
}

/// Lets waiting for children park: [`Patch::Process`]. gevent's `patch_subprocess()`.
///
/// What is read from their pipes is [`Patch::Socket`]'s, and `Command::output` needs
/// [`Patch::Select`] as well.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::process::Command;
///
/// monkey::patch_process();
/// let child = spawn(|| Command::new("sleep").arg("0.02").status());
/// assert!(child.get().unwrap()?.success()); // others would have run meanwhile
/// # std::io::Result::Ok(())
/// ```
pub fn patch_process() {
    turn_on(Patch::Process);
}

/// Lets joining threads park: [`Patch::Thread`]. gevent's `patch_thread()`, which also replaces
/// threads; here they stay threads.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::thread;
/// use std::time::Duration;
///
/// monkey::patch_thread();
/// let thread = thread::spawn(|| {
///     thread::sleep(Duration::from_millis(10)); // no hub here: it is the kernel's
///     6 * 7
/// });
/// let joiner = spawn(move || thread.join().unwrap());
/// assert_eq!(joiner.get().unwrap(), 42);
/// ```
pub fn patch_thread() {
    turn_on(Patch::Thread);
}

/// Lets the locks and condition variables of std wait by parking, and its channels, where the other
/// end is in another thread: [`Patch::Lock`].
///
/// # Examples
///
/// A mutex that one greenlet holds while it waits for something else: without this the next one to
/// lock it would stop both for good.
///
/// ```standalone_crate
/// use greenloom::{joinall, monkey, sleep, spawn};
/// use std::rc::Rc;
/// use std::sync::Mutex;
/// use std::time::Duration;
///
/// monkey::patch_lock();
/// let count = Rc::new(Mutex::new(0));
/// let counters = [(); 3].map(|()| {
///     let count = Rc::clone(&count);
///     spawn(move || {
///         let mut count = count.lock().unwrap();
///         sleep(Duration::from_millis(1));
///         *count += 1;
///     })
/// });
/// joinall(&counters);
/// assert_eq!(*count.lock().unwrap(), 3);
/// ```
pub fn patch_lock() {
    turn_on(Patch::Lock);
}

/// Has threads read and write regular files while the greenlet parks: [`Patch::File`], the one that
/// [`patch_all`] leaves out.
///
/// Most reads of files are answered from memory, in less time than it takes to send them to a
/// thread. This is for files on slow disks and on the network.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::fs;
///
/// monkey::patch_file();
/// let reader = spawn(|| fs::read_to_string("Cargo.toml"));
/// assert!(reader.get().unwrap()?.contains("[package]"));
/// # std::io::Result::Ok(())
/// ```
pub fn patch_file() {
    turn_on(Patch::File);
}

/// Is that family patched? gevent's `is_module_patched`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch};
///
/// assert!(!monkey::is_patched(Patch::Time));
/// monkey::patch_all();
/// assert!(monkey::is_patched(Patch::Time));
/// assert!(!monkey::is_patched(Patch::File)); // only `patch_file` does that
/// ```
#[must_use]
pub fn is_patched(patch: Patch) -> bool {
    patches::is_on(patch)
}

/// What is patched, and by which functions.
///
/// [`dump`](crate::dump) has the names of the families too, in a last line.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch, Report};
///
/// monkey::patch_socket();
/// let report = monkey::report();
/// assert!(report.entries().contains(&(Patch::Socket, true)));
/// assert!(report.to_string().starts_with("socket   patched"));
/// assert!(Report::functions(Patch::Socket).contains(&"recv"));
/// assert_eq!(report.elsewhere(), [""; 0]); // all of them are ours
/// ```
#[must_use]
pub fn report() -> Report {
    let entries = Patch::ALL.iter().map(|patch| (*patch, patches::is_on(*patch))).collect();
    let names = Patch::ALL.iter().flat_map(|patch| Report::functions(*patch));
    let is_elsewhere =
        |name: &&str| CString::new(*name).is_ok_and(|name| !real::is_in_this_object(&name));
    Report { entries, elsewhere: names.filter(is_elsewhere).collect() }
}

/// What [`report`] returns. `Display` prints a paragraph for each family:
///
/// ```text
/// socket   patched      recv ...
/// time     patched      nanosleep ...
/// file     not patched  pread64 ...
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    entries: Vec<(Patch, bool)>,
    elsewhere: Vec<&'static str>,
}

impl Report {
    /// Each family, and whether it is patched.
    #[must_use]
    pub fn entries(&self) -> &[(Patch, bool)] {
        &self.entries
    }

    /// The functions of the C library that belong to a family.
    #[must_use]
    pub fn functions(patch: Patch) -> Vec<&'static str> {
        let names: &[&[&str]] = match patch {
            Patch::Socket => &[
                connect::NAMES,
                socket::NAMES,
                many::NAMES,
                stream::NAMES,
                close::NAMES,
                fortified::SOCKET,
            ],
            Patch::Time => &[time::NAMES],
            Patch::Dns => &[dns::NAMES],
            Patch::Select => &[select::NAMES, fortified::SELECT],
            Patch::Process => &[process::NAMES],
            Patch::Thread => &[thread::NAMES],
            Patch::Lock => &[lock::NAMES],
            Patch::File => &[file::NAMES, fortified::FILE],
        };
        names.concat()
    }

    /// Those of them that the program's shared libraries get from elsewhere, so that calls of theirs
    /// block as ever. None, unless this crate is part of a shared library itself: then those of the
    /// program that has loaded it come first.
    #[must_use]
    pub fn elsewhere(&self) -> &[&'static str] {
        &self.elsewhere
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (patch, on)) in self.entries.iter().enumerate() {
            let state = if *on { "patched" } else { "not patched" };
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{patch:<8} {state:<12}")?;
            write_names(f, &Report::functions(*patch))?;
        }
        if !self.elsewhere.is_empty() {
            write!(f, "\n{:<21}", "not ours:")?;
            write_names(f, &self.elsewhere)?;
        }
        Ok(())
    }
}

/// Writes names behind the first columns of a paragraph, and below each other when a line is full.
fn write_names(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    const LEFT: usize = 21;
    const RIGHT: usize = 96;
    let mut column = LEFT;
    for name in names {
        if column + 1 + name.len() > RIGHT {
            write!(f, "\n{:LEFT$}", "")?;
            column = LEFT;
        }
        write!(f, " {name}")?;
        column += 1 + name.len();
    }
    Ok(())
}
