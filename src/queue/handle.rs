//! `Queue`: the handle.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Exchange, Verbs};
use super::order::{Fifo, Lifo, Order, Priority};
use crate::error::{GetError, PutError};
use crate::wait::sealed::HasLine;
use crate::wait::{Limit, WaitList, Waitable};

const QUEUE: Verbs = Verbs {
    what: "Queue",
    put: "put of the Queue",
    get: "get of the Queue",
    peek: "peek of the Queue",
    poll: "poll of the Queue",
    join: "join of the JoinableQueue",
};

const CHANNEL: Verbs = Verbs {
    what: "Channel",
    put: "put of the Channel",
    get: "get of the Channel",
    peek: "peek of the Channel",
    poll: "poll of the Channel",
    join: "join of the JoinableQueue",
};

/// Items on their way from those who put them to those who get them. A handle: clones name the same
/// queue.
///
/// `O` says in which order they leave: [`Fifo`], [`Lifo`] (a [`LifoQueue`]) or [`Priority`] (a
/// [`PriorityQueue`]). With a capacity of 0 it is a [`Channel`].
///
/// First come, first served, on both sides: an item goes to the getter who has waited longest, and a
/// place that becomes free to the putter who has. Who is killed or runs out of time while he waits
/// has taken nothing, and left nothing. As a [`Waitable`] it is ready when a `get` would not wait.
///
/// While the caller unwinds, calls that would have to wait fail at once: `put` with
/// [`PutError::Full`], `get` and `peek` with [`GetError::Empty`].
///
/// Where nothing else tells the compiler the order, name the item, and [`Fifo`] is meant:
/// `Queue::<Job>::new()`. [`bounded`] and [`unbounded`] spare that.
///
/// # Examples
///
/// ```
/// use greenloom::{queue, spawn};
///
/// let jobs = queue::bounded(2);
/// let results = queue::unbounded();
/// let workers = [(); 3].map(|()| {
///     let (jobs, results) = (jobs.clone(), results.clone());
///     spawn(move || {
///         for job in &jobs {
///             results.put(job * job).unwrap();
///         }
///     })
/// });
/// for job in 1..=10_u32 {
///     jobs.put(job).unwrap(); // waits while two are there
/// }
/// jobs.shutdown(); // ends the loops above, once the jobs are done
/// greenloom::joinall(workers);
/// results.shutdown();
/// assert_eq!(results.iter().sum::<u32>(), 385);
/// ```
pub struct Queue<T, O = Fifo> {
    exchange: Rc<Exchange<T, O>>,
}

/// A [`Queue`] whose youngest item leaves first: a stack.
pub type LifoQueue<T> = Queue<T, Lifo>;

/// A [`Queue`] whose smallest item leaves first, and equal ones in order of arrival.
///
/// Items are compared while the queue is in use, so their `Ord` must not wait, nor put or take, and
/// should not panic: an item that is on its way may be lost then.
pub type PriorityQueue<T> = Queue<T, Priority>;

/// A [`Queue`] of capacity 0, made by [`channel`] or [`bounded(0)`](Queue::bounded): a rendezvous.
///
/// `put` returns when somebody has taken the item, and lets him run first. It holds nothing, so its
/// length is 0, it is both empty and full, and there is nothing to `peek` at. An item that nobody
/// has taken when its putter is killed or runs out of time was never sent.
pub type Channel<T> = Queue<T, Fifo>;

/// A [`Queue`] of at most so many items, first in, first out: [`Queue::bounded`].
#[must_use]
#[track_caller]
pub fn bounded<T>(capacity: usize) -> Queue<T> {
    Queue::bounded(capacity)
}

/// A [`Queue`] of any number of items, first in, first out: [`Queue::new`].
#[must_use]
#[track_caller]
pub fn unbounded<T>() -> Queue<T> {
    Queue::new()
}

/// A [`Channel`].
///
/// # Examples
///
/// ```
/// use greenloom::{queue::channel, spawn};
///
/// let channel = channel();
/// let sender = channel.clone();
/// spawn(move || sender.put("hello"));
/// assert_eq!(channel.get(), Ok("hello"));
/// ```
#[must_use]
#[track_caller]
pub fn channel<T>() -> Channel<T> {
    Queue::bounded(0)
}

impl<T, O: Order<T>> Queue<T, O> {
    /// One that holds as many items as there is memory for.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Queue::with(None, &QUEUE)
    }

    /// One that holds at most so many. With 0 it is a [`Channel`].
    #[must_use]
    #[track_caller]
    pub fn bounded(capacity: usize) -> Self {
        Queue::with(Some(capacity), if capacity == 0 { &CHANNEL } else { &QUEUE })
    }

    #[track_caller]
    pub(super) fn with(capacity: Option<usize>, verbs: &'static Verbs) -> Self {
        Queue { exchange: Rc::new(Exchange::new(capacity, verbs)) }
    }

    /// Puts an item in, waiting while it is full.
    ///
    /// # Errors
    ///
    /// [`PutError::ShutDown`] after [`shutdown`](Queue::shutdown), also if that comes while it waits.
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.exchange.put(item, Limit::Forever)
    }

    /// As [`put`](Queue::put), but waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put), and [`PutError::Elapsed`] if the time was over first.
    #[track_caller]
    pub fn put_timeout(&self, item: T, d: Duration) -> Result<(), PutError<T>> {
        self.exchange.put(item, Limit::Within(d))
    }

    /// As [`put`](Queue::put), if there is room, or somebody waits for it. It never waits, and never
    /// switches.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put), and [`PutError::Full`].
    #[track_caller]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.exchange.put(item, Limit::Never)
    }

    /// Takes the next item, waiting while there is none.
    ///
    /// # Errors
    ///
    /// [`GetError::ShutDown`] after [`shutdown`](Queue::shutdown), once everything has been taken.
    #[track_caller]
    pub fn get(&self) -> Result<T, GetError> {
        self.exchange.get(Limit::Forever)
    }

    /// As [`get`](Queue::get), but waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get), and [`GetError::Elapsed`] if the time was over first.
    #[track_caller]
    pub fn get_timeout(&self, d: Duration) -> Result<T, GetError> {
        self.exchange.get(Limit::Within(d))
    }

    /// As [`get`](Queue::get), if there is an item that nobody in line is to have, or to look at
    /// first. It never waits, and never switches.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get), and [`GetError::Empty`].
    #[track_caller]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.exchange.get(Limit::Never)
    }

    /// A clone of the next item, which stays where it is; waits while there is none.
    ///
    /// Those who peek stand in line with those who get: an item wakes all who peek ahead of the
    /// first who gets.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get).
    #[track_caller]
    pub fn peek(&self) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.exchange.peek(Limit::Forever)
    }

    /// As [`peek`](Queue::peek), but waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](Queue::get_timeout).
    #[track_caller]
    pub fn peek_timeout(&self, d: Duration) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.exchange.peek(Limit::Within(d))
    }

    /// As [`peek`](Queue::peek), if there is an item. It never waits.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Queue::try_get).
    #[track_caller]
    pub fn try_peek(&self) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.exchange.peek(Limit::Never)
    }

    /// How many items are in it. Those of putters who wait for room are not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exchange.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is there no room for another?
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.exchange.has_room()
    }

    /// How many it can hold; `None` if there is no bound.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.exchange.capacity
    }

    /// Ends it: from now on nothing can be put in, and who waits to do so gets his item back. What
    /// is in it can still be taken; then whoever gets, or waits to, is told.
    pub fn shutdown(&self) {
        self.exchange.shutdown();
    }

    /// As [`shutdown`](Queue::shutdown), and drops what is in it.
    pub fn shutdown_now(&self) {
        self.exchange.shutdown_now();
    }

    /// Takes items until the queue is shut down and empty; waits for each. While the caller unwinds,
    /// it ends where it would have to wait.
    pub fn iter(&self) -> Iter<'_, T, O> {
        Iter { queue: self }
    }
}

impl<T, O> Queue<T, O> {
    pub(super) fn exchange(&self) -> &Exchange<T, O> {
        &self.exchange
    }
}

impl<T, O> Clone for Queue<T, O> {
    fn clone(&self) -> Self {
        Queue { exchange: Rc::clone(&self.exchange) }
    }
}

impl<T, O: Order<T>> Default for Queue<T, O> {
    #[track_caller]
    fn default() -> Self {
        Queue::new()
    }
}

impl<T, O> UnwindSafe for Queue<T, O> {}
impl<T, O> RefUnwindSafe for Queue<T, O> {}

impl<T, O> HasLine for Queue<T, O> {
    fn line(&self) -> &WaitList {
        self.exchange.watchers()
    }
}

impl<T, O> Waitable for Queue<T, O> {
    fn is_ready(&self) -> bool {
        self.exchange.is_ready()
    }
}

impl<T, O> fmt::Debug for Queue<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exchange.fmt(f)
    }
}

/// The items of a queue, as they come: see [`Queue::iter`].
pub struct Iter<'a, T, O> {
    queue: &'a Queue<T, O>,
}

impl<T, O: Order<T>> Iterator for Iter<'_, T, O> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.queue.get().ok()
    }
}

impl<'a, T, O: Order<T>> IntoIterator for &'a Queue<T, O> {
    type Item = T;
    type IntoIter = Iter<'a, T, O>;

    fn into_iter(self) -> Iter<'a, T, O> {
        self.iter()
    }
}

/// The items of a queue, as they come, for those who give their handle away: `for item in queue`.
pub struct IntoIter<T, O> {
    queue: Queue<T, O>,
}

impl<T, O: Order<T>> Iterator for IntoIter<T, O> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.queue.get().ok()
    }
}

impl<T, O: Order<T>> IntoIterator for Queue<T, O> {
    type Item = T;
    type IntoIter = IntoIter<T, O>;

    fn into_iter(self) -> IntoIter<T, O> {
        IntoIter { queue: self }
    }
}

impl<T, O> fmt::Debug for IntoIter<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntoIter").field(&self.queue).finish()
    }
}

impl<T, O> fmt::Debug for Iter<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(self.queue).finish()
    }
}
