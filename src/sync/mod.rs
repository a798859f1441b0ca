//! Events, results, locks: what greenlets of one thread talk to each other by.
//!
//! | | |
//! |---|---|
//! | [`Event`] | a flag that one can wait for |
//! | [`AsyncResult`] | a value, or an error, that is set once and read by many |
//! | [`Mutex`], [`RLock`], [`RwLock`] | one at a time; one at a time, and again; one writer or many readers |
//! | [`Semaphore`], [`BoundedSemaphore`] | so many at a time |
//! | [`Condvar`] | waiting for a change to what a mutex guards |
//! | [`Barrier`] | waiting for each other |
//! | [`Timer`] | something to be done later, or again and again |
//!
//! # First come, first served
//!
//! A lock that is released, or a permit, is *handed* to the first who waits, at once; nobody who
//! comes by meanwhile can snatch it. Those who contend for a lock in a loop therefore get the same
//! number of turns. (gevent's semaphores may be overtaken, and starve.)
//!
//! Nothing is lost on the way. Who is killed or runs out of time while he waits leaves the line, and
//! the next is served. To whom something was handed just before he was killed, he has it: the call
//! returns, and the kill is raised at his next wait, where his guard gives it back.
//!
//! # Between greenlets, not threads
//!
//! Greenlets switch only where they wait, so data that is not used across a wait needs no lock at
//! all. All of these types are local to their thread, and none of them ever blocks it:
//!
//! ```compile_fail,E0277
//! let mutex = std::sync::Arc::new(greenloom::sync::Mutex::new(0));
//! std::thread::spawn(move || *mutex.lock() += 1); // cannot be shared between threads
//! ```
//!
//! The locks are not poisoned by a panic. A lock that is held when its greenlet unwinds is released
//! like any other guard.
//!
//! # While unwinding
//!
//! A greenlet that unwinds must not wait (see the crate's documentation). A call that can say so
//! returns without what it was called for: the forms with `try_` and `_timeout` return `None`,
//! [`Barrier::wait`] an error. [`Mutex::lock`], [`RLock::lock`], [`RwLock::read`] and `write`,
//! [`Semaphore::acquire`], and [`AsyncResult::get`] have no other answer than what they were asked
//! for, and panic, which in a destructor ends the process; there, use `try_lock` and its like.

mod holding;
mod promise;

mod async_result;
mod barrier;
mod condvar;
mod event;
mod lock;
mod mutex;
mod rlock;
mod rwlock;
mod semaphore;
mod timer;

pub use crate::error::{BrokenBarrier, TooManyReleases};
pub use async_result::AsyncResult;
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};
pub use timer::Timer;

pub(crate) use promise::Promise;
