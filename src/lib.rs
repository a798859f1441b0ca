//! Green threads: plain blocking code, many at a time, on one thread. What gevent is to Python.
//!
//! ```no_run
//! use greenloom::net::{TcpListener, TcpStream};
//! use std::io::{Read, Write};
//!
//! fn main() -> std::io::Result<()> {
//!     for stream in TcpListener::bind("127.0.0.1:8080")?.incoming() {
//!         let stream = stream?;
//!         greenloom::spawn(move || shout(stream));
//!     }
//!     Ok(())
//! }
//!
//! fn shout(mut stream: TcpStream) -> std::io::Result<()> {
//!     let mut buffer = [0; 4096];
//!     loop {
//!         let n = stream.read(&mut buffer)?; // parks this greenlet, not the thread
//!         if n == 0 {
//!             return Ok(());
//!         }
//!         buffer[..n].make_ascii_uppercase();
//!         stream.write_all(&buffer[..n])?;
//!     }
//! }
//! ```
//!
//! There is no `async`, no executor to start and no attribute on `main`. [`spawn`] makes a
//! *greenlet*: a function with a stack of its own, pinned to its thread. Whenever a call of this
//! crate would block ([`net`], [`sync`], [`queue`], [`sleep`], [`Greenlet::join`] ...), the greenlet
//! parks and the thread runs the others. The thread's own stack is the *main greenlet*, and waits like
//! any other.
//!
//! # How it works
//!
//! Each thread has a *hub*, which comes to be when it is first needed. A greenlet that waits files a
//! ticket where the event will be noticed, and switches to the hub's loop; the loop resumes whoever
//! is ready, and asks the kernel for events when nobody is. A switch costs some ten nanoseconds and
//! no system call. One that waits costs a page of memory and nothing else: a million fit into five
//! gigabytes. Switching happens at calls of this crate only, so code between two of them is not
//! interrupted, and needs no locks.
//!
//! # Cancellation
//!
//! [`Greenlet::kill`], and a [`Timeout`] that is over, unwind the greenlet from the call that waits:
//! every destructor runs, and no panic is printed. Ordinary error handling cannot swallow them. A
//! kill that a `catch_unwind` has caught is raised again at the next wait, eight times at most.
//! [`shield`] holds them back, [`catch_interrupt`] catches them where clean-up has to wait.
//!
//! While a greenlet unwinds (by a panic, a kill or a timeout), no call of it waits. Those that would
//! have to fail at once if they return a `Result` (with [`ErrorKind::Other`](std::io::ErrorKind::Other)
//! in I/O), and return at once if they do not; the few that have nothing to return but what they
//! would wait for, such as [`Mutex::lock`](sync::Mutex::lock), panic, and say so. Those that need not
//! wait work as ever: a buffer can still be flushed into a socket that has room. What a thread would
//! do ([`offload`], files) is done in place.
//!
//! # Panics
//!
//! A panic ends its greenlet alone. The panic hook prints it, a line with the greenlet's name
//! follows (see [`Hub::on_error`]), and [`Greenlet::get`] returns it. If the main greenlet waits and
//! nothing can ever wake it, its wait panics with [`BlocksForever`], which lists who waits for what.
//!
//! # Threads
//!
//! Greenlets, their handles, sockets and locks are local to their thread, and the compiler sees to it;
//! each thread can have a hub. What may cross threads is [`Remote`], by which others start greenlets
//! here, and a [`ThreadPool`](threadpool::ThreadPool), to which jobs are sent and whose results come
//! back.
//!
//! What blocks without this crate's knowing (`std::thread::sleep`, `std::net`, `std::fs`, a lock of
//! std's that another greenlet holds) blocks the whole thread. `monkey::patch_all()` makes most of it
//! wait by parking, if the feature `monkey` is on; [`offload`] has another thread do the rest.
//! A `RefCell` or a lock that is borrowed across a call that waits can be met by another greenlet
//! meanwhile.
//!
//! # Stacks
//!
//! A greenlet has 240 KiB of stack, less a little; [`Builder::stack_size`] changes that. Address
//! space is reserved, memory is used a page at a time. An overflow ends the process with a line that
//! names the greenlet.
//!
//! # Between greenlets
//!
//! Code between two waits is never interrupted, so plain `Rc`, `Cell` and `RefCell` go a long way.
//! What has to hold across a wait takes a lock, an event or a semaphore from [`sync`]; what is passed
//! on, a [`queue`]; how many run at a time, a [`pool`]. All of them serve first come, first served,
//! hand what is released to the first who waits, and lose nothing when a waiter is killed. A
//! deadlock of the main greenlet is reported with who waits for which lock, and who holds it.
//!
//! # The world outside
//!
//! [`net`] has std's sockets, [`fs`] its files, [`process`] its children and [`io`] the standard
//! streams and any other descriptor, each name for name: `use std::net` becomes `use greenloom::net`
//! and all else stays (what std has got since Rust 1.85, file locks for instance, is not there yet). Where the kernel can tell when a call would go through, the
//! greenlet waits for that; where it cannot (files, looking up names), a [thread](threadpool) makes
//! the call. [`server`] accepts connections, so many at a time, and ends gracefully; [`signal`] says
//! when.
//!
//! # Features
//!
//! - `monkey`: `monkey::patch_all`, after which blocking code of std, other crates and C libraries waits
//!   by parking, unchanged. Linux on x86_64 and aarch64.
//! - `ureq`: `http`, the HTTP client ureq on these sockets.
//! - `sanitizer`: tells AddressSanitizer about switches, for builds with `-Zsanitizer=address`.
//!
//! # For those who know gevent
//!
//! | gevent | here |
//! |---|---|
//! | `spawn`, `spawn_later`, `Greenlet` | [`spawn`], [`spawn_later`], [`Greenlet`], [`Builder`] |
//! | `g.join(t)`, `g.get()`, `g.kill()` | [`Greenlet::join_timeout`], [`Greenlet::get`], [`Greenlet::kill`] |
//! | `g.link(f)`, `g.ready()`, `g.successful()` | [`Greenlet::link`], [`Greenlet::is_finished`], [`Greenlet::is_successful`] |
//! | `joinall`, `killall`, `iwait`, `wait(count=1)` | [`joinall`], [`killall`], [`iwait`], [`wait_any`] |
//! | `sleep(s)`, `sleep(0)`, `idle()` | [`sleep`], [`yield_now`], [`idle`] |
//! | `Timeout`, `with_timeout` | [`Timeout`], [`with_timeout`] |
//! | `getcurrent()`, `local.local` | [`current`], [`greenlet_local!`] |
//! | `util.print_run_info()`, `LoopExit` | [`dump`], [`BlocksForever`] |
//! | `event.Event`, `event.AsyncResult` | [`sync::Event`], [`sync::AsyncResult`] |
//! | `lock.Semaphore`, `lock.BoundedSemaphore`, `lock.RLock` | [`sync::Semaphore`], [`sync::BoundedSemaphore`], [`sync::RLock`] |
//! | `threading.Lock`, `Condition`, `Barrier`, `Timer` | [`sync::Mutex`], [`sync::Condvar`], [`sync::Barrier`], [`sync::Timer`]; also [`sync::RwLock`] |
//! | `queue.Queue`, `LifoQueue`, `PriorityQueue`, `JoinableQueue` | [`queue::Queue`], [`queue::LifoQueue`], [`queue::PriorityQueue`], [`queue::JoinableQueue`] |
//! | `queue.Channel`, `multiprocessing.Pipe()` | [`queue::channel`], [`queue::pipe`] |
//! | `pool.Group`, `pool.Pool` | [`pool::Group`], [`pool::Pool`] |
//! | `p.map`, `p.imap`, `p.imap_unordered`, `p.apply_cb` | [`Pool::map`](pool::Pool::map), [`imap`](pool::Pool::imap), [`imap_unordered`](pool::Pool::imap_unordered), [`apply_cb`](pool::Pool::apply_cb) |
//! | `concurrent.futures` | [`concurrent::GreenletPoolExecutor`], [`concurrent::ThreadPoolExecutor`], [`concurrent::Future`], [`concurrent::wait`], [`concurrent::as_completed`] |
//! | `get_hub()`, `hub.handle_error` | [`Hub::current`], [`Hub::on_error`] |
//! | `hub.loop.run_callback_threadsafe` | [`Remote::spawn`] |
//! | `greenlet.greenlet`, `switch`, `throw` | [`raw::Coroutine`] |
//! | `socket`, `getaddrinfo`, `hub.resolver` | [`net`], [`net::lookup`], [`net::set_resolver`] |
//! | `server.StreamServer`, `server.DatagramServer` | [`server::StreamServer`], [`server::DatagramServer`] |
//! | `threadpool.ThreadPool`, `threadpool.apply` | [`threadpool::ThreadPool`], [`offload`] |
//! | `fileobject.FileObjectPosix`, `FileObjectThread` | [`io::Io`], [`fs::File`] |
//! | `subprocess.Popen`, `run`, `communicate` | [`process::Command`], [`process::Child`] |
//! | `signal_handler` | [`signal::on`], [`signal::wait`], [`signal::Signals`] |
//! | `monkey.patch_all()`, `patch_socket()` ... | `monkey::patch_all`, `monkey::patch_socket` ... (feature `monkey`) |

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(panic = "abort")]
compile_error!(
    "greenloom needs `panic = \"unwind\"`: a killed or timed-out greenlet is unwound so that its \
     destructors run, and with `panic = \"abort\"` that would end the process instead"
);

#[cfg(not(unix))]
compile_error!("greenloom runs on Unix-like systems only");

// From the ground up; each floor knows only those before it. See ARCHITECTURE.md.

mod error;
mod sys;
mod trace;

mod coro;

mod hub;

mod interrupt;
mod links;
mod timeout;
mod wait;

mod greenlet;
mod local;
pub mod queue;
pub mod raw;
mod source;
pub mod sync;
pub mod threadpool;

pub mod fs;
pub mod io;
pub mod net;
pub mod pool;
pub mod signal;

pub mod concurrent;
#[cfg(feature = "ureq")]
#[cfg_attr(docsrs, doc(cfg(feature = "ureq")))]
pub mod http;
pub mod observe;
pub mod process;
pub mod server;

#[cfg(feature = "monkey")]
#[cfg_attr(docsrs, doc(cfg(feature = "monkey")))]
pub mod monkey;

pub use error::{BlocksForever, Elapsed, GreenletError, HubClosed, JoinError};
pub use greenlet::{
    Builder, Current, Greenlet, Outcome, Scope, ScopedGreenlet, current, killall, scope, spawn,
    spawn_later,
};
pub use hub::{GreenletId, Hub, Remote};
pub use interrupt::{Interrupt, catch_interrupt, shield};
pub use links::LinkId;
pub use local::GreenletLocal;
#[doc(inline)]
pub use observe::{Dump, DumpEntry, dump};
pub use threadpool::offload;
pub use timeout::{Timeout, idle, sleep, with_timeout, yield_now};
pub use wait::{Iwait, Waitable, iwait, joinall, joinall_timeout, wait_any, wait_any_timeout};
