//! `Job`: what a thread of the pool is at work on, seen from the thread that waits for it.

use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::tray::{Expected, Returned};
use super::work::{JobId, Shared};
use crate::error::{JoinError, Unwinding, caught};
use crate::hub::{self, Reason, Wake};
use crate::sys::native::natively;
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

/// A job on a [`ThreadPool`](super::ThreadPool): a handle to what it will return.
///
/// As a [`Waitable`] it is ready when the job has ended. Dropping it leaves the job running; what the
/// job returns is then dropped, on whichever of the two threads is the last to know of it.
///
/// It is local to the thread that started it:
///
/// ```compile_fail,E0277
/// let job = greenloom::threadpool::ThreadPool::new(1).spawn(|| ());
/// std::thread::spawn(move || job.join()); // cannot be sent between threads
/// ```
///
/// # Examples
///
/// ```
/// use greenloom::threadpool::ThreadPool;
///
/// let pool = ThreadPool::new(2);
/// let (a, b) = (pool.spawn(|| 6 * 7), pool.spawn(|| "text".len()));
/// greenloom::joinall([&a as &dyn greenloom::Waitable, &b]);
/// assert_eq!((a.get().unwrap(), b.get().unwrap()), (42, 4));
/// ```
pub struct Job<T> {
    handle: Handle<T>,
    waiters: Rc<Waiters>,
}

/// A job, as far as it does not concern those who wait for it.
pub(crate) struct Handle<T> {
    desk: Arc<Desk<T>>,
    pool: Weak<Shared>,
    id: JobId,
}

/// Where the thread leaves the result.
struct Desk<T> {
    stage: AtomicU8,
    result: Mutex<Option<Result<T, JoinError>>>,
}

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
/// It has ended without having begun.
const DROPPED: u8 = 3;

/// Those who wait for it here.
pub(super) struct Waiters {
    line: WaitList,
    site: &'static Location<'static>,
}

impl Expected for Waiters {
    fn come(self: Rc<Self>) {
        self.line.wake_all();
    }
}

const JOIN: &str = "end of the Job";

/// The job's end of its handle. Dropped unused, it says that the job will not run.
pub(super) struct Outlet<T>(Arc<Desk<T>>);

impl<T> Desk<T> {
    fn result(&self) -> MutexGuard<'_, Option<Result<T, JoinError>>> {
        natively(|| self.result.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Outlet<T> {
    /// Runs `f` here, on a thread of the pool, calls `has_run`, and leaves what `f` returned. It never
    /// unwinds.
    pub(super) fn of(self, f: impl FnOnce() -> T, has_run: &mut dyn FnMut()) {
        self.0.stage.store(RUNNING, Ordering::Relaxed);
        let result = panic::catch_unwind(AssertUnwindSafe(f)).map_err(JoinError::Panicked);
        *self.0.result() = Some(result);
        has_run();
        // If nobody is left to take it, it is dropped here, and its destructor may panic.
        caught(move || drop(self));
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        let has_begun = self.0.stage.load(Ordering::Relaxed) == RUNNING;
        self.0.stage.store(if has_begun { DONE } else { DROPPED }, Ordering::Release);
    }
}

impl<T> Handle<T> {
    pub(super) fn new(pool: &Arc<Shared>, id: JobId) -> (Handle<T>, Outlet<T>) {
        let desk = Arc::new(Desk { stage: AtomicU8::new(QUEUED), result: Mutex::new(None) });
        (Handle { desk: Arc::clone(&desk), pool: Arc::downgrade(pool), id }, Outlet(desk))
    }

    pub(crate) fn is_started(&self) -> bool {
        matches!(self.desk.stage.load(Ordering::Acquire), RUNNING | DONE)
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.desk.stage.load(Ordering::Acquire), DONE | DROPPED)
    }

    /// What became of it, to be asked once when it has ended.
    pub(crate) fn take(&self) -> Result<T, JoinError> {
        let result = self.desk.result().take();
        result.unwrap_or(Err(JoinError::Killed))
    }

    pub(crate) fn cancel(&self) -> bool {
        match self.pool.upgrade().and_then(|pool| pool.take_out(self.id)) {
            Some(unrun) => {
                hub::quietly("panicked in the destructor of a cancelled job", move || drop(unrun));
                true
            }
            // Out of the queue already: by us, or by a thread.
            None => self.desk.stage.load(Ordering::Acquire) == DROPPED,
        }
    }
}

impl Waiters {
    #[track_caller]
    pub(super) fn new() -> Rc<Waiters> {
        Rc::new(Waiters { line: WaitList::default(), site: Location::caller() })
    }
}

impl<T> Job<T> {
    pub(super) fn new(handle: Handle<T>, waiters: Rc<Waiters>) -> Job<T> {
        Job { handle, waiters }
    }

    /// Waits until it has ended. While the caller unwinds, it returns at once.
    #[track_caller]
    pub fn join(&self) {
        let _ = self.wait(None);
    }

    /// As [`join`](Job::join), but waits at most so long. True: it has ended.
    #[track_caller]
    pub fn join_timeout(&self, d: Duration) -> bool {
        let _ = self.wait(Some(hub::after(d)));
        self.is_finished()
    }

    /// Waits until it has ended, and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`] if it panicked; [`JoinError::Killed`] if it was cancelled.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn get(self) -> Result<T, JoinError> {
        if self.wait(None).is_err() {
            panic!("a greenlet that unwinds must not wait for a Job: use `try_get` there");
        }
        self.handle.take()
    }

    /// As [`get`](Job::get), but waits at most so long; not at all while the caller unwinds.
    ///
    /// # Errors
    ///
    /// The job itself if the time is over first. Inside, as [`get`](Job::get).
    #[track_caller]
    pub fn get_timeout(self, d: Duration) -> Result<Result<T, JoinError>, Job<T>> {
        let _ = self.wait(Some(hub::after(d)));
        self.try_get()
    }

    /// As [`get`](Job::get), if it has ended. It never waits, and never switches.
    ///
    /// # Errors
    ///
    /// The job itself if it has not ended. Inside, as [`get`](Job::get).
    pub fn try_get(self) -> Result<Result<T, JoinError>, Job<T>> {
        if self.is_finished() { Ok(self.handle.take()) } else { Err(self) }
    }

    /// Does a thread work on it, or has one?
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.handle.is_started()
    }

    /// Has it ended, or been cancelled?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Takes it out of the queue, and drops it. False if a thread has begun with it: it is not
    /// interrupted. It never switches.
    pub fn cancel(&self) -> bool {
        self.handle.cancel()
    }

    /// Waits for its end or until `deadline`.
    #[track_caller]
    fn wait(&self, deadline: Option<Instant>) -> Result<(), Unwinding> {
        let reason = Reason::new(&JOIN).made_at(self.waiters.site);
        while !self.is_finished() {
            match self.waiters.line.wait(reason, deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => break,
                Err(interruption) => {
                    let unwinding = hub::raise(interruption);
                    return if self.is_finished() { Ok(()) } else { Err(unwinding) };
                }
            }
        }
        Ok(())
    }
}

impl<T> HasLine for Job<T> {
    fn line(&self) -> &WaitList {
        &self.waiters.line
    }
}

impl<T> Waitable for Job<T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }
}

impl<T> UnwindSafe for Job<T> {}
impl<T> RefUnwindSafe for Job<T> {}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("is_started", &self.is_started())
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// What a job does, until it is taken by whoever does it, or given back.
pub(super) struct Content<F>(Arc<Mutex<Option<F>>>);

impl<F> Clone for Content<F> {
    fn clone(&self) -> Content<F> {
        Content(Arc::clone(&self.0))
    }
}

impl<F> Content<F> {
    pub(super) fn new(f: F) -> Content<F> {
        Content(Arc::new(Mutex::new(Some(f))))
    }

    pub(super) fn take(&self) -> Option<F> {
        natively(|| self.0.lock().unwrap_or_else(PoisonError::into_inner)).take()
    }
}

/// A job on its way. If it is dropped unrun, its handle is told first, and those who wait then.
pub(super) struct Work<F, T> {
    pub(super) content: Content<F>,
    pub(super) outlet: Outlet<T>,
    pub(super) told: Returned,
}

impl<F: FnOnce() -> T, T> Work<F, T> {
    pub(super) fn run(self, has_run: &mut dyn FnMut()) -> Returned {
        let Work { content, outlet, told } = self;
        match content.take() {
            Some(f) => outlet.of(f, has_run),
            None => has_run(),
        }
        told
    }
}
