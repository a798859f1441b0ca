//! `JoinableQueue`: one can wait until all of its items are done.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::handle::{Iter, Queue};
use super::order::{Fifo, Order};
use crate::error::TooManyDone;
use crate::wait::sealed::HasLine;
use crate::wait::{Limit, WaitList, Waitable};

/// A [`Queue`] that knows which of its items are done: whoever gets one says so when it is. A
/// handle. Python's `queue.Queue` with `task_done` and `join`.
///
/// As with [`Queue`], name the item where nothing else tells the order: `JoinableQueue::<Job>::new()`.
///
/// # Examples
///
/// ```
/// use greenloom::{queue::JoinableQueue, spawn, yield_now};
///
/// let jobs: JoinableQueue<u32> = JoinableQueue::new();
/// let todo = jobs.clone();
/// spawn(move || {
///     for _job in &todo {
///         yield_now(); // work
///         todo.task_done().unwrap();
///     }
/// });
/// for job in 0..5 {
///     jobs.put(job).unwrap();
/// }
/// jobs.join();
/// assert_eq!(jobs.unfinished(), 0);
/// ```
pub struct JoinableQueue<T, O = Fifo> {
    queue: Queue<T, O>,
}

impl<T, O: Order<T>> JoinableQueue<T, O> {
    /// As [`Queue::new`].
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        JoinableQueue { queue: Queue::new() }
    }

    /// As [`Queue::bounded`].
    #[must_use]
    #[track_caller]
    pub fn bounded(capacity: usize) -> Self {
        JoinableQueue { queue: Queue::bounded(capacity) }
    }

    /// An item that was taken is done.
    ///
    /// # Errors
    ///
    /// If there is none: it was called more often than items were put in.
    pub fn task_done(&self) -> Result<(), TooManyDone> {
        self.queue.exchange().task_done()
    }

    /// How many items have been put in and are not done.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.queue.exchange().unfinished()
    }

    /// Waits until every item is done; at once if there was none. Items that
    /// [`shutdown_now`](Queue::shutdown_now) drops are done. While the caller unwinds, it returns at
    /// once.
    #[track_caller]
    pub fn join(&self) {
        self.queue.exchange().join(Limit::Forever);
    }

    /// As [`join`](JoinableQueue::join), but waits at most so long. True: every item was done.
    #[track_caller]
    pub fn join_timeout(&self, d: Duration) -> bool {
        self.queue.exchange().join(Limit::Within(d))
    }
}

impl<T, O> Deref for JoinableQueue<T, O> {
    type Target = Queue<T, O>;

    fn deref(&self) -> &Queue<T, O> {
        &self.queue
    }
}

impl<T, O> Clone for JoinableQueue<T, O> {
    fn clone(&self) -> Self {
        JoinableQueue { queue: self.queue.clone() }
    }
}

impl<T, O: Order<T>> Default for JoinableQueue<T, O> {
    #[track_caller]
    fn default() -> Self {
        JoinableQueue::new()
    }
}

impl<T, O> HasLine for JoinableQueue<T, O> {
    fn line(&self) -> &WaitList {
        self.queue.line()
    }
}

/// As a [`Queue`]: ready when a `get` would not wait.
impl<T, O> Waitable for JoinableQueue<T, O> {
    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

impl<'a, T, O: Order<T>> IntoIterator for &'a JoinableQueue<T, O> {
    type Item = T;
    type IntoIter = Iter<'a, T, O>;

    fn into_iter(self) -> Iter<'a, T, O> {
        self.queue.iter()
    }
}

impl<T, O> fmt::Debug for JoinableQueue<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("queue", &self.queue)
            .field("unfinished", &self.queue.exchange().unfinished())
            .finish()
    }
}
