//! Threads for what cannot be waited for by parking: calls that block and know no better.
//!
//! Looking up a name, reading a file, a C library, or a computation of many milliseconds would stop
//! every greenlet of the thread. [`offload`] has a thread do it while the greenlet parks:
//!
//! ```
//! let sum = greenloom::offload(|| (1..=1_000_000_u64).sum::<u64>()); // others run meanwhile
//! assert_eq!(sum, 500_000_500_000);
//! ```
//!
//! [`offload`] uses the [`ThreadPool`] that the whole process shares. One's own has its own bounds,
//! which is a way to have at most so many of something at a time: connections to a database that
//! blocks, say. What is sent to a thread must be [`Send`]; greenlets, sockets and locks of this crate
//! are not, and stay where they are.
//!
//! # What happens when the greenlet is killed meanwhile
//!
//! A thread cannot be interrupted. The job runs on, and what it returns is dropped. A job that has
//! not begun can be [cancelled](Job::cancel).
//!
//! # How results come back
//!
//! Each thread with a hub has a tray. Who finishes a job lays its number there, and wakes the hub
//! only if the tray was empty: many results are one wake-up.

mod blocking;
mod builder;
mod gate;
mod job;
mod pool;
mod tray;
mod work;

pub use builder::ThreadPoolBuilder;
pub use job::Job;
pub use pool::ThreadPool;

pub(crate) use blocking::blocking;
pub(crate) use gate::{Gate, Pass};
pub(crate) use job::Handle;
pub(crate) use tray::Expected;

/// Runs `f` on a thread of the process's [shared](ThreadPool::shared) pool, and waits for what it
/// returns. The others run meanwhile.
///
/// If all threads are busy and the queue is full, it first waits for a place. On a thread of that
/// pool `f` runs at once, where it is; so it does while the caller unwinds, who must not wait.
///
/// If the caller is killed or timed out, `f` runs on and its result is dropped.
///
/// # Panics
///
/// With the panic of `f`, if it panics; if no thread can be started. gevent's `threadpool.apply`.
///
/// # Examples
///
/// ```
/// let text = greenloom::offload(|| std::fs::read_to_string("Cargo.toml"))?;
/// assert!(text.contains("[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn offload<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    ThreadPool::shared().apply(f)
}
