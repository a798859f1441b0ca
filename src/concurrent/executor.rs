//! Those who run jobs.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::future::Future;
use crate::pool::{Imap, Pool};

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
        F: Fn(I::Item) -> T + Send + 'static,
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
        future.began(greenlet.task());
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
        F: Fn(I::Item) -> T + Send + 'static,
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
