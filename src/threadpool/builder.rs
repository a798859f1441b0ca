//! How a pool is to be, and the making of one.

use std::sync::OnceLock;
use std::time::Duration;

use super::pool::ThreadPool;
use super::work::Shared;

/// Settings for a [`ThreadPool`], from [`ThreadPool::builder`].
///
/// # Examples
///
/// ```
/// use greenloom::threadpool::ThreadPool;
/// use std::time::Duration;
///
/// let database = ThreadPool::builder()
///     .name("database")
///     .max_threads(4)
///     .queue(100)
///     .idle_timeout(Duration::from_secs(60))
///     .build();
/// assert_eq!(database.apply(|| "row"), "row");
/// ```
#[derive(Clone, Debug)]
#[must_use = "it has no effect until `build`"]
pub struct ThreadPoolBuilder {
    max_threads: usize,
    queue: Queue,
    idle_timeout: Duration,
    name: String,
}

#[derive(Clone, Copy, Debug)]
enum Queue {
    /// As many jobs as there may be threads.
    AsThreads,
    Bounded(usize),
    Unbounded,
}

impl ThreadPoolBuilder {
    pub(super) fn new() -> ThreadPoolBuilder {
        ThreadPoolBuilder {
            max_threads: 10,
            queue: Queue::AsThreads,
            idle_timeout: Duration::from_secs(5),
            name: "greenloom".to_owned(),
        }
    }

    /// At most so many threads; 10 if nothing is said.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn max_threads(mut self, count: usize) -> ThreadPoolBuilder {
        assert!(count > 0, "a pool needs at least one thread");
        self.max_threads = count;
        self
    }

    /// So many jobs may wait for a thread, before those who hand in more have to wait themselves. If
    /// nothing is said, as many as there may be threads.
    pub fn queue(mut self, jobs: usize) -> ThreadPoolBuilder {
        self.queue = Queue::Bounded(jobs);
        self
    }

    /// Any number of jobs may wait for a thread: nobody has to wait to hand one in, and nothing but
    /// memory bounds what piles up.
    pub fn unbounded_queue(mut self) -> ThreadPoolBuilder {
        self.queue = Queue::Unbounded;
        self
    }

    /// A thread that has had nothing to do for so long ends; 5 seconds if nothing is said.
    pub fn idle_timeout(mut self, d: Duration) -> ThreadPoolBuilder {
        self.idle_timeout = d;
        self
    }

    /// What the threads are called, with a number behind; `greenloom` if nothing is said.
    ///
    /// # Panics
    ///
    /// If there is a null byte in it, which the name of a thread must not have.
    pub fn name(mut self, name: impl Into<String>) -> ThreadPoolBuilder {
        self.name = name.into();
        assert!(!self.name.contains('\0'), "the name of a thread must not contain null bytes");
        self
    }

    /// The pool. It starts threads as they are needed.
    #[must_use]
    pub fn build(self) -> ThreadPool {
        let room = match self.queue {
            Queue::AsThreads => Some(self.max_threads),
            Queue::Bounded(jobs) => Some(jobs),
            Queue::Unbounded => None,
        };
        ThreadPool::with(Shared::new(self.name, self.max_threads, room, self.idle_timeout))
    }
}

/// The pool of the process: threads enough for many slow look-ups at once, and not so many that
/// their stacks and switches matter.
const SHARED_THREADS: usize = 64;
const SHARED_QUEUE: usize = 256;

impl ThreadPool {
    /// A pool of at most so many threads, and a queue for as many jobs again.
    ///
    /// # Panics
    ///
    /// If there are to be none.
    #[must_use]
    pub fn new(max_threads: usize) -> ThreadPool {
        ThreadPool::builder().max_threads(max_threads).build()
    }

    /// Settings for a pool.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    /// The pool that the whole process shares, for [`offload`](super::offload): at most 64 threads, and
    /// a queue of 256 jobs. (Files and names have threads of their own.)
    #[must_use]
    pub fn shared() -> ThreadPool {
        static SHARED: OnceLock<ThreadPool> = OnceLock::new();
        let pool = SHARED.get_or_init(|| {
            let builder = ThreadPool::builder().name("greenloom-pool");
            builder.max_threads(SHARED_THREADS).queue(SHARED_QUEUE).build()
        });
        pool.clone()
    }
}
