//! Having a thread make a call while the greenlet parks.
//!
//! Some calls cannot be tried without waiting, nor has the kernel an event for them. A thread makes
//! those, and there are two ways to wait for it:
//!
//! - [`interruptible`]: the call owns all it touches. If the greenlet is killed or timed out, it goes
//!   on, and what it returns is dropped, on whichever of the two threads knows of it last.
//! - [`uninterruptible`]: nothing ends the wait but the call, because it must not fail where it never
//!   did, or because it is [`lent`] the caller's memory.
//!
//! # Why memory may be lent
//!
//! Whoever calls `read` keeps the buffer alive until `read` returns, and it returns when the thread is
//! through: the wait is hard (see [`hub::park_hard`]), and should it fail or unwind all the same, a
//! guard holds up the thread until then. One case is left: the thread of the greenlet ends. A greenlet
//! that waits hard is not unwound then, its stack is leaked, and so are the borrows on it; but what
//! they point to may be a thread-local, which goes with the thread. Hence a loan, which each such call
//! has until it is made, and the end of the hub waits for all loans.
//!
//! Rejected: to have the thread read into memory of its own. It would cost a copy, and the bytes of a
//! read that nobody takes any more would be lost, although the position in the file has moved on.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::descriptor::{Waited, pause};
use super::gate::{CANCELLED, error, keeping_errno};
use crate::hub::{self, Reason, Ticket};
use crate::sys::native::natively;
use crate::sys::{self, real};
use crate::threadpool::{Expected, Handle, ThreadPool};

/// What a dump says of those who wait.
pub(super) type Verb = &'static &'static str;

/// Threads for calls that end when the disk has answered.
pub(super) fn for_files() -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| {
        // As many as for our own files. Nobody waits for a place: that could be interrupted.
        let builder = ThreadPool::builder().name("greenloom-patched-files");
        builder.max_threads(64).unbounded_queue().build()
    })
}

/// Threads for calls that may never end: as many as there are calls. With a bound, those who wait for
/// ever would have all the threads, and what the others wait for would happen unseen; and if one
/// waits for a thread that waits for what somebody in the queue will do, nobody would ever go on.
///
/// (When the system has no thread left, there is a queue after all.)
pub(super) fn for_ever() -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let builder = ThreadPool::builder().name("greenloom-waits");
        builder.max_threads(usize::MAX).unbounded_queue().build()
    })
}

/// Somebody whose call a thread makes.
#[derive(Default)]
struct Caller {
    ticket: Cell<Option<Ticket>>,
    has_come: Cell<bool>,
}

impl Expected for Caller {
    fn come(self: Rc<Self>) {
        self.has_come.set(true);
        if let Some(ticket) = self.ticket.take() {
            hub::unpark(ticket, 0);
        }
    }
}

impl Caller {
    /// Has `pool` make the call.
    ///
    /// # Errors
    ///
    /// If no thread can be had: the call itself.
    fn submit<F, T>(pool: &ThreadPool, call: F) -> Result<(Rc<Caller>, Handle<T>), F>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let caller = Rc::new(Caller::default());
        let handle = pool.try_submit(call, Rc::clone(&caller) as _)?;
        Ok((caller, handle))
    }
}

/// What the thread has left. `EIO` in place of a result that was lost with its thread, which no call
/// of ours does.
fn result<T>(handle: &Handle<T>) -> Result<T, isize> {
    handle.take().map_err(|_| error(libc::EIO))
}

/// Has a thread of `pool` make a call that owns all it touches. It leaves `errno` alone. If no thread
/// can be had, the call is made in place.
///
/// # Errors
///
/// [`CANCELLED`], if the greenlet was killed or timed out meanwhile.
pub(super) fn interruptible<F, T>(pool: &ThreadPool, verb: Verb, call: F) -> Result<T, isize>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    keeping_errno(|| {
        let (caller, handle) = match Caller::submit(pool, call) {
            Ok(submitted) => submitted,
            Err(call) => return Ok(natively(call)),
        };
        while !caller.has_come.get() {
            let arm = |ticket| caller.ticket.set(Some(ticket));
            if hub::park_foreign(Reason::new(verb), None, arm).is_err() {
                handle.cancel(); // as long as no thread has begun with it, none needs to
                return Err(CANCELLED);
            }
        }
        result(&handle)
    })
}

/// Has a thread of `pool` make a call, and waits for nothing but its end. As [`interruptible`] else.
///
/// # Errors
///
/// If there is no result, see [`result`].
pub(super) fn uninterruptible<F, T>(pool: &ThreadPool, verb: Verb, call: F) -> Result<T, isize>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    keeping_errno(|| {
        let (caller, handle) = match Caller::submit(pool, call) {
            Ok(submitted) => submitted,
            Err(call) => return Ok(natively(call)),
        };
        let until_the_end = UntilTheEnd(&handle);
        while !caller.has_come.get() {
            let arm = |ticket| caller.ticket.set(Some(ticket));
            if hub::park_hard(Reason::new(verb), None, arm).is_err() {
                break; // who may park when it begins can; but nothing is to depend on that
            }
        }
        drop(until_the_end);
        result(&handle)
    })
}

/// Holds up the thread until the call has ended, if it has not.
struct UntilTheEnd<'a, T>(&'a Handle<T>);

impl<T> Drop for UntilTheEnd<'_, T> {
    fn drop(&mut self) {
        while !self.0.is_finished() {
            sys::wait::pause(Some(GLANCE));
        }
    }
}

/// Between two looks of a thread that is held up.
const GLANCE: Duration = Duration::from_millis(1);

/// As [`uninterruptible`], for a call that uses memory of the caller's, which it is lent until it is
/// made: see the [module](self).
pub(super) fn lent<F, T>(verb: Verb, call: F) -> Result<T, isize>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let loan = Loan::new();
    uninterruptible(for_files(), verb, move || {
        let result = call();
        drop(loan);
        result
    })
}

/// Alive as long as a call uses memory of this thread.
struct Loan(#[expect(dead_code, reason = "that it is there is what counts")] Arc<()>);

thread_local! {
    /// What all loans of this thread share. Without a destructor: it goes with the hub.
    static LOANS: RefCell<ManuallyDrop<Option<Arc<()>>>> = const {
        RefCell::new(ManuallyDrop::new(None))
    };
}

impl Loan {
    fn new() -> Loan {
        let shared = sys::local::with(&LOANS, |loans| (**loans.borrow()).clone());
        Loan(shared.unwrap_or_else(|| {
            let shared = Arc::new(());
            sys::local::with(&LOANS, |loans| **loans.borrow_mut() = Some(Arc::clone(&shared)));
            hub::call_at_end(settle);
            shared
        }))
    }
}

/// Waits until this thread has no loans any more. The hub has ended.
fn settle() {
    let loans = sys::local::with(&LOANS, |loans| loans.borrow_mut().take());
    while loans.as_ref().is_some_and(|shared| Arc::strong_count(shared) > 1) {
        sys::wait::pause(Some(GLANCE));
    }
    fence(Ordering::Acquire); // with the last one gone, all it has done is done
}

/// Pauses between attempts at what the kernel has no event for: each twice as long as the one before.
pub(super) struct Pauses {
    next: Duration,
}

const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl Pauses {
    pub(super) fn new() -> Pauses {
        Pauses { next: Duration::from_millis(1) }
    }

    /// # Errors
    ///
    /// [`CANCELLED`], if the greenlet was killed or timed out meanwhile.
    pub(super) fn pause(&mut self, verb: Verb) -> Result<(), isize> {
        let until = hub::after(self.next);
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        if pause(verb, Some(until)) == Waited::Cancelled { Err(CANCELLED) } else { Ok(()) }
    }
}

/// A function of the C library whose name is ours now. Looked up once.
pub(super) struct Original {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Original {
    pub(super) const fn new(name: &'static CStr) -> Original {
        Original { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Null: there is none.
    #[inline]
    pub(super) fn find(&self) -> *mut c_void {
        // Relaxed: the function was there before us, and nothing else is published by it.
        let found = self.found.load(Ordering::Relaxed);
        if found.is_null() { self.look_up() } else { found }
    }

    #[cold]
    fn look_up(&self) -> *mut c_void {
        let found = real::next(self.name);
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// The number of an error that a call has come to, for those who return it as it is.
pub(super) fn number(error: isize) -> c_int {
    -error as c_int
}
