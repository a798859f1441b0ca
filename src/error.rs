//! Every error and every word of refusal, in one place.
//!
//! Public errors speak like the end of a sentence: lower case, no full stop. The two crate-private
//! types at the bottom are what the hub tells a wait that ended without what it waited for.

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

/// Why a greenlet, or a job on a thread, has no value.
///
/// Returned by [`Greenlet::get`](crate::Greenlet::get) and
/// [`Job::get`](crate::threadpool::Job::get).
pub enum JoinError {
    /// It was killed, before or while it ran; a job, that it was cancelled before it ran.
    Killed,
    /// It ended by a panic, whose payload is inside. A [`Timeout`](crate::Timeout) that nothing
    /// caught ends a greenlet in the same way, with [`Elapsed`] as the payload.
    Panicked(Box<dyn Any + Send + 'static>),
}

impl JoinError {
    /// Was it killed?
    #[must_use]
    pub fn is_killed(&self) -> bool {
        matches!(self, JoinError::Killed)
    }

    /// Did it panic?
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, JoinError::Panicked(_))
    }

    /// The payload of the panic, to inspect or to pass to [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the greenlet was killed: there is no payload then.
    #[must_use]
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self {
            JoinError::Panicked(payload) => payload,
            JoinError::Killed => panic!("it was killed or cancelled, and did not panic"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed => f.write_str("Killed"),
            JoinError::Panicked(payload) => {
                f.debug_tuple("Panicked").field(&panic_message(payload.as_ref())).finish()
            }
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed => f.write_str("killed"),
            JoinError::Panicked(payload) => {
                write!(f, "panicked: {}", panic_message(payload.as_ref()))
            }
        }
    }
}

impl std::error::Error for JoinError {}

/// The time given was over before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// What the main greenlet panics with when it waits and nothing can ever wake it.
///
/// It is the payload of the panic: `payload.downcast_ref::<BlocksForever>()`. `Display` lists every
/// parked greenlet with what it waits for and where it was spawned. The same text goes to standard
/// error, because a panic hook cannot print a payload that is not a string.
///
/// A timer, a socket somebody waits on, a job on a thread, a handler of signals or a listener to them,
/// a child somebody waits for, and a live [`Remote`](crate::Remote) each count as something that may
/// wake. gevent's `LoopExit`.
#[derive(Clone)]
pub struct BlocksForever {
    report: String,
}

impl BlocksForever {
    pub(crate) fn new(report: String) -> BlocksForever {
        BlocksForever { report }
    }
}

impl fmt::Debug for BlocksForever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlocksForever({})", self.report)
    }
}

impl fmt::Display for BlocksForever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

impl std::error::Error for BlocksForever {}

/// A permit was given back that nobody has taken: all of them are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyReleases;

impl fmt::Display for TooManyReleases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("released more often than acquired")
    }
}

impl std::error::Error for TooManyReleases {}

/// One of those whom a [`Barrier`](crate::sync::Barrier) waits for does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier;

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier is broken")
    }
}

impl std::error::Error for BrokenBarrier {}

/// An item could not be put into a queue. It is inside.
#[derive(PartialEq, Eq)]
pub enum PutError<T> {
    /// There was no room, and the call must not wait for any.
    Full(T),
    /// The time given was over before there was room.
    Elapsed(T),
    /// The queue has been shut down, or the other end of the pipe dropped.
    ShutDown(T),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item) | PutError::Elapsed(item) | PutError::ShutDown(item) => item,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "Full(..)",
            PutError::Elapsed(_) => "Elapsed(..)",
            PutError::ShutDown(_) => "ShutDown(..)",
        })
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "the queue is full",
            PutError::Elapsed(_) => "timed out waiting for room in the queue",
            PutError::ShutDown(_) => "the queue has been shut down",
        })
    }
}

impl<T> std::error::Error for PutError<T> {}

/// There is no item to be had from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError {
    /// There was none, and the call must not wait for any.
    Empty,
    /// The time given was over before there was one.
    Elapsed,
    /// The queue has been shut down, or the other end of the pipe dropped, and is empty.
    ShutDown,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetError::Empty => "the queue is empty",
            GetError::Elapsed => "timed out waiting for an item of the queue",
            GetError::ShutDown => "the queue has been shut down",
        })
    }
}

impl std::error::Error for GetError {}

/// More items were said to be done than were put into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyDone;

impl fmt::Display for TooManyDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more items were done than were put into the queue")
    }
}

impl std::error::Error for TooManyDone {}

/// A pool has not spawned what it was asked to. The closure is inside.
pub enum SpawnError<F> {
    /// There was no slot, and the call must not wait for one.
    Full(F),
    /// The time given was over before there was a slot.
    Elapsed(F),
    /// The pool has been closed.
    Closed(F),
}

impl<F> SpawnError<F> {
    /// The closure.
    pub fn into_inner(self) -> F {
        match self {
            SpawnError::Full(f) | SpawnError::Elapsed(f) | SpawnError::Closed(f) => f,
        }
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpawnError::Full(_) => "Full(..)",
            SpawnError::Elapsed(_) => "Elapsed(..)",
            SpawnError::Closed(_) => "Closed(..)",
        })
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpawnError::Full(_) => "the pool is full",
            SpawnError::Elapsed(_) => "timed out waiting for a slot of the pool",
            SpawnError::Closed(_) => "the pool has been closed",
        })
    }
}

impl<F> std::error::Error for SpawnError<F> {}

/// Why a [`Future`](crate::concurrent::Future) has no value. It can be cloned: a future can be read
/// many times.
#[derive(Clone)]
pub enum FutureError {
    /// It was cancelled before its job began.
    Cancelled,
    /// Its job was killed.
    Killed,
    /// Its job panicked with this payload.
    Panicked(Rc<dyn Any + Send>),
}

impl FutureError {
    /// Was it cancelled?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, FutureError::Cancelled)
    }

    /// Was its job killed?
    #[must_use]
    pub fn is_killed(&self) -> bool {
        matches!(self, FutureError::Killed)
    }

    /// Did its job panic?
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, FutureError::Panicked(_))
    }

    /// What the panic said; else the same as `Display`.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            FutureError::Cancelled => "cancelled".to_owned(),
            FutureError::Killed => "killed".to_owned(),
            FutureError::Panicked(payload) => panic_message(payload.as_ref()),
        }
    }
}

impl fmt::Debug for FutureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FutureError::Cancelled => f.write_str("Cancelled"),
            FutureError::Killed => f.write_str("Killed"),
            FutureError::Panicked(_) => f.debug_tuple("Panicked").field(&self.message()).finish(),
        }
    }
}

impl fmt::Display for FutureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FutureError::Cancelled | FutureError::Killed => f.write_str(&self.message()),
            FutureError::Panicked(_) => write!(f, "panicked: {}", self.message()),
        }
    }
}

impl std::error::Error for FutureError {}

/// The hub of that [`Remote`](crate::Remote) has ended with its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubClosed;

impl fmt::Display for HubClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hub has ended with its thread")
    }
}

impl std::error::Error for HubClosed {}

/// Something that went wrong in a greenlet where nobody is bound to look: what the hub's error hook
/// is told.
///
/// See [`Hub::on_error`](crate::Hub::on_error).
#[derive(Clone, Debug)]
pub struct GreenletError {
    pub(crate) name: String,
    pub(crate) spawned_at: String,
    pub(crate) what: &'static str,
    pub(crate) message: String,
}

impl GreenletError {
    /// The greenlet's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was spawned: `file:line:column`.
    #[must_use]
    pub fn spawned_at(&self) -> &str {
        &self.spawned_at
    }

    /// What happened, in a few words: `"panicked"`, `"panicked in a link"`, `"refuses to be
    /// killed"`.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The panic's message, or what else is known. May be empty.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for GreenletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "greenlet \"{}\" (spawned at {}) {}", self.name, self.spawned_at, self.what)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for GreenletError {}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else if payload.is::<Elapsed>() {
        "a timeout that nothing caught".to_owned()
    } else if let Some(blocks) = payload.downcast_ref::<BlocksForever>() {
        blocks.to_string()
    } else {
        "a payload that is not a string".to_owned()
    }
}

/// Runs `f`, whose panics nobody is left to be told of. True: there was none.
pub(crate) fn caught(f: impl FnOnce()) -> bool {
    match panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => true,
        Err(payload) => {
            #[expect(clippy::mem_forget, reason = "a payload may panic when it is dropped, too")]
            mem::forget(payload);
            false
        }
    }
}

/// Which [`Timeout`](crate::Timeout): nested ones must know their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) struct TimeoutId(pub(crate) u64);

/// What can be raised in a greenlet from outside, at one of its waits. It is also the payload that
/// unwinds the greenlet's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Killed,
    TimedOut(TimeoutId),
}

/// Why a wait ended without what was waited for and before its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// To be raised here.
    Raised(Cause),
    /// The main greenlet's wait: nothing can ever end it.
    Stuck,
    /// The greenlet unwinds already (or its thread is ending), so the wait did not even begin.
    Unwinding,
}

/// A call that would have had to wait while its greenlet unwinds. The source of the `io::Error`
/// that such a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unwinding;

impl fmt::Display for Unwinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the greenlet is unwinding and must not wait")
    }
}

impl std::error::Error for Unwinding {}

impl From<Unwinding> for io::Error {
    /// Never `ErrorKind::Interrupted`: `read_exact`, `io::copy` and their like retry on that one
    /// and would spin through the whole unwind.
    fn from(unwinding: Unwinding) -> io::Error {
        io::Error::other(unwinding)
    }
}
