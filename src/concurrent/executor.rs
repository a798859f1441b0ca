//! Those who run jobs.

use std::fmt;
use std::panic::{self, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::future::Future;
use crate::error::JoinError;
use crate::pool::{Imap, Pool};
use crate::threadpool::{Job, ThreadPool};

/// Runs the jobs it is handed: for code that does not care where.
///
/// A job that may run anywhere must be [`Send`]. [`GreenletPoolExecutor`] has methods of the same
/// names that do not ask for that, because its jobs stay on their thread.
pub trait Executor {
    /// Hands in a job. It does not wait for it.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](Executor::shutdown).
    #[track_caller]
    fn submit<F, T>(&self, f: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static;

    /// Calls `f` for every item, and yields what it returns, in the order of the items.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](Executor::shutdown).
    #[track_caller]
    fn map<I, F, T>(&self, items: I, f: F) -> impl Iterator<Item = T>
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static;

    /// Takes no more jobs, and waits for those it has.
    #[track_caller]
    fn shutdown(&self);
}

/// Runs jobs in greenlets of this thread, so many at a time. A handle: clones name the same
/// executor.
///
/// A job that finds no free worker is queued. Dropping the executor lets its jobs run on.
///
/// # Examples
///
/// ```
/// use greenloom::concurrent::GreenletPoolExecutor;
///
/// let executor = GreenletPoolExecutor::new(4);
/// let squares: Vec<_> = executor.map(1..=3, |n| n * n).collect();
/// assert_eq!(squares, [1, 4, 9]);
///
/// let job = executor.submit(|| "done");
/// executor.shutdown();
/// assert!(job.is_done());
/// ```
#[derive(Clone)]
pub struct GreenletPoolExecutor {
    pool: Pool,
}

impl GreenletPoolExecutor {
    /// One with so many workers.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    #[track_caller]
    pub fn new(max_workers: usize) -> GreenletPoolExecutor {
        assert!(max_workers > 0, "an executor needs at least one worker");
        GreenletPoolExecutor { pool: Pool::new(max_workers) }
    }

    /// Hands in a job, which runs as soon as there is a worker for it. It never waits.
    ///
    /// A panic of the job is kept in its future.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](GreenletPoolExecutor::shutdown); as [`spawn`](crate::spawn) else.
    #[track_caller]
    pub fn submit<F, T>(&self, f: F) -> Future<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.check_open();
        let (future, job) = Future::new();
        let greenlet = self.pool.apply_async(move || job.run(f));
        future.is_done_by(greenlet.task());
        future
    }

    /// Calls `f` for every item, and yields what it returns, in the order of the items.
    ///
    /// As in Python, all of the input is worked on as workers become free, whether results are read
    /// or not, and [`shutdown`](GreenletPoolExecutor::shutdown) waits for it; so it must have an end.
    /// (See [`Pool::imap`] for one that is fed as it is read, and for panics.) Dropping the iterator
    /// starts nothing more and kills what runs.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](GreenletPoolExecutor::shutdown).
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> Imap<T>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        F: Fn(I::Item) -> T + 'static,
        T: 'static,
    {
        self.check_open();
        self.pool.imap_all(items, f)
    }

    #[track_caller]
    fn check_open(&self) {
        assert!(!self.pool.is_closed(), "the executor has been shut down");
    }

    /// Takes no more jobs, and waits until all it has are done. While the caller unwinds, it does not
    /// wait.
    #[track_caller]
    pub fn shutdown(&self) {
        self.pool.close();
        self.pool.join();
    }

    /// As [`shutdown`](GreenletPoolExecutor::shutdown), but waits at most so long. True: all are done.
    #[track_caller]
    pub fn shutdown_timeout(&self, d: Duration) -> bool {
        self.pool.close();
        self.pool.join_timeout(d)
    }

    /// Takes no more jobs, cancels those that have not begun, and waits for those that have.
    #[track_caller]
    pub fn shutdown_now(&self) {
        self.pool.close();
        self.pool.kill_unrun();
        self.pool.join();
    }
}

impl Executor for GreenletPoolExecutor {
    #[track_caller]
    fn submit<F, T>(&self, f: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit(f)
    }

    #[track_caller]
    fn map<I, F, T>(&self, items: I, f: F) -> impl Iterator<Item = T>
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        self.map(items, f)
    }

    #[track_caller]
    fn shutdown(&self) {
        self.shutdown();
    }
}

impl UnwindSafe for GreenletPoolExecutor {}
impl RefUnwindSafe for GreenletPoolExecutor {}

impl fmt::Debug for GreenletPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GreenletPoolExecutor").field(&self.pool).finish()
    }
}

/// Runs jobs on threads of its own, so many at a time: for what blocks, or takes long. A handle:
/// clones name the same executor.
///
/// A job that finds no free thread is queued; the queue has no bound, as Python's. (A
/// [`ThreadPool`] has one, and makes those wait who hand in too much.) A thread cannot be interrupted:
/// a job that has begun is done. Dropping the executor lets its jobs run on.
///
/// # Examples
///
/// ```
/// use greenloom::concurrent::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new(4);
/// let len = executor.submit(|| std::fs::read("Cargo.toml").map(|text| text.len()).ok());
/// assert!(len.result().unwrap().is_some());
/// executor.shutdown();
/// ```
#[derive(Clone)]
pub struct ThreadPoolExecutor {
    pool: ThreadPool,
}

impl ThreadPoolExecutor {
    /// One with at most so many threads, which are started as they are needed.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    #[track_caller]
    pub fn new(max_workers: usize) -> ThreadPoolExecutor {
        assert!(max_workers > 0, "an executor needs at least one worker");
        let builder = ThreadPool::builder().max_threads(max_workers).unbounded_queue();
        ThreadPoolExecutor { pool: builder.name("greenloom-executor").build() }
    }

    /// Hands in a job, which runs as soon as there is a thread for it. It never waits.
    ///
    /// A panic of the job is kept in its future.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](ThreadPoolExecutor::shutdown), and if no thread at all can be started.
    #[track_caller]
    pub fn submit<F, T>(&self, f: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (future, courier) = Future::by_courier();
        future.is_done_on_a_thread(self.pool.submit(f, courier));
        future
    }

    /// Calls `f` for every item, and yields what it returns, in the order of the items.
    ///
    /// As in Python, the whole input is taken at once, and worked on whether results are read or not.
    /// Dropping the iterator cancels what has not begun.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](ThreadPoolExecutor::shutdown). The iterator raises the panic of an item at
    /// its place.
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> impl Iterator<Item = T> + use<I, F, T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let f = Arc::new(f);
        let submit = |item| {
            let f = Arc::clone(&f);
            self.pool.spawn(move || f(item)) // which never waits, as the queue has no bound
        };
        let jobs: Vec<_> = items.into_iter().map(submit).collect();
        Results { jobs: jobs.into_iter() }
    }

    /// Takes no more jobs, and waits until all it has are done. While the caller unwinds, it does not
    /// wait.
    #[track_caller]
    pub fn shutdown(&self) {
        self.pool.shutdown();
    }

    /// As [`shutdown`](ThreadPoolExecutor::shutdown), but waits at most so long. True: all are done.
    #[track_caller]
    pub fn shutdown_timeout(&self, d: Duration) -> bool {
        self.pool.shutdown_timeout(d)
    }

    /// Takes no more jobs, cancels those that have not begun, and waits for those that have.
    #[track_caller]
    pub fn shutdown_now(&self) {
        self.pool.refuse_more();
        self.pool.cancel_all();
        self.pool.shutdown();
    }
}

impl Executor for ThreadPoolExecutor {
    #[track_caller]
    fn submit<F, T>(&self, f: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit(f)
    }

    #[track_caller]
    fn map<I, F, T>(&self, items: I, f: F) -> impl Iterator<Item = T>
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        self.map(items, f)
    }

    #[track_caller]
    fn shutdown(&self) {
        self.shutdown();
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadPoolExecutor").field(&self.pool).finish()
    }
}

/// What a `map` on threads returns, item by item.
struct Results<T> {
    jobs: std::vec::IntoIter<Job<T>>,
}

impl<T> Iterator for Results<T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        match self.jobs.next()?.get() {
            Ok(value) => Some(value),
            Err(JoinError::Panicked(payload)) => panic::resume_unwind(payload),
            Err(JoinError::Killed) => panic!("the item was cancelled by a shutdown"),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.jobs.size_hint()
    }
}

impl<T> Drop for Results<T> {
    fn drop(&mut self) {
        for job in self.jobs.by_ref() {
            job.cancel();
        }
    }
}
