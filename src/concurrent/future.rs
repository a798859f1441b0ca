//! `Future`: what a job will have returned.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Elapsed, FutureError, JoinError};
use crate::hub::{self, Birth, TaskId};
use crate::pool::End;
use crate::sync::Promise;
use crate::threadpool::{Expected, Handle};
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

/// What a job will have returned, or why it has not. A handle: clones name the same future.
///
/// It comes from [`GreenletPoolExecutor::submit`](super::GreenletPoolExecutor::submit) or
/// [`ThreadPoolExecutor::submit`](super::ThreadPoolExecutor::submit). As a [`Waitable`] it is ready
/// when it is done. Dropping it lets the job run on.
///
/// (It is Python's future, which is waited for, not std's, which is polled.)
///
/// # Examples
///
/// ```
/// use greenloom::concurrent::GreenletPoolExecutor;
///
/// let executor = GreenletPoolExecutor::new(1);
/// let answer = executor.submit(|| 6 * 7);
/// let failure = executor.submit(|| -> u32 { panic!("oh") });
/// assert_eq!(answer.result().unwrap(), 42);
/// assert_eq!(failure.result().unwrap_err().to_string(), "panicked: oh");
/// ```
pub struct Future<T> {
    shared: Rc<Shared<T>>,
}

struct Shared<T> {
    promise: Rc<Promise<Result<T, FutureError>>>,
    stage: Cell<Stage>,
    worker: OnceCell<Worker<T>>,
}

/// Who does the job.
enum Worker<T> {
    Greenlet(TaskId),
    Thread(Handle<T>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pending,
    Running,
    Done,
}

const RESULT: &str = "result of the Future";

impl<T: 'static> Future<T> {
    /// One that waits for its job, and the job.
    #[track_caller]
    pub(super) fn new() -> (Future<T>, Job<T>) {
        let shared = Shared::new();
        (Future { shared: Rc::clone(&shared) }, Job { shared })
    }

    /// Its job has a greenlet, which may not have begun.
    pub(super) fn is_done_by(&self, task: TaskId) {
        let _ = self.shared.worker.set(Worker::Greenlet(task));
    }

    /// Its job is queued for a thread.
    pub(super) fn is_done_on_a_thread(&self, handle: Handle<T>) {
        let _ = self.shared.worker.set(Worker::Thread(handle));
    }

    /// Keeps the job from running. False if it runs or has run: it is not interrupted. It never
    /// switches.
    pub fn cancel(&self) -> bool {
        match self.shared.worker.get() {
            _ if self.shared.stage.get() != Stage::Pending => {}
            Some(Worker::Greenlet(task)) => hub::kill(*task), // which drops the job, unrun
            Some(Worker::Thread(handle)) if handle.cancel() => {
                self.shared.end_elsewhere(FutureError::Cancelled);
            }
            Some(Worker::Thread(_)) | None => {}
        }
        self.is_cancelled()
    }

    /// Has it been cancelled?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.shared.promise.get(), Some(Err(FutureError::Cancelled)))
    }

    /// Does the job run now?
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self.shared.worker.get() {
            Some(Worker::Thread(handle)) => handle.is_started() && !self.is_done(),
            Some(Worker::Greenlet(_)) | None => self.shared.stage.get() == Stage::Running,
        }
    }

    /// Has the job ended, or been cancelled?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.promise.get().is_some()
    }

    /// Waits until it is done, and returns a clone of what the job returned.
    ///
    /// # Errors
    ///
    /// If the job panicked, was killed or was cancelled.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn result(&self) -> Result<T, FutureError>
    where
        T: Clone,
    {
        self.result_ref().cloned()
    }

    /// As [`result`](Future::result), but waits at most so long; not at all while the caller unwinds.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if the time was over first. Inside, as [`result`](Future::result).
    #[track_caller]
    pub fn result_timeout(&self, d: Duration) -> Result<Result<T, FutureError>, Elapsed>
    where
        T: Clone,
    {
        match self.shared.promise.wait(&RESULT, Some(hub::after(d))) {
            Ok(Some(result)) => Ok(result.clone()),
            Ok(None) | Err(_) => Err(Elapsed),
        }
    }

    /// As [`result`](Future::result), if it is done. It never waits, and never switches.
    #[must_use]
    pub fn try_result(&self) -> Option<Result<T, FutureError>>
    where
        T: Clone,
    {
        self.shared.promise.get().cloned()
    }

    /// As [`result`](Future::result), but lends what the job returned.
    ///
    /// # Errors
    ///
    /// As [`result`](Future::result).
    ///
    /// # Panics
    ///
    /// As [`result`](Future::result).
    #[track_caller]
    pub fn result_ref(&self) -> Result<&T, FutureError> {
        match self.shared.promise.wait(&RESULT, None) {
            Ok(Some(result)) => result.as_ref().map_err(Clone::clone),
            Ok(None) | Err(_) => panic!(
                "a greenlet that unwinds must not wait for a Future: use `try_result` where that \
                 may happen"
            ),
        }
    }

    /// Is it done, without a value?
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.shared.promise.get(), Some(Err(_)))
    }

    /// Hands over what the job returned, if it is done and this is the last handle.
    ///
    /// # Errors
    ///
    /// The handle, if not. Inside, as [`result`](Future::result).
    #[expect(clippy::missing_panics_doc, reason = "what is done has a result")]
    pub fn try_unwrap(self) -> Result<Result<T, FutureError>, Future<T>> {
        let is_last =
            Rc::strong_count(&self.shared) == 1 && Rc::strong_count(&self.shared.promise) == 1;
        if !self.is_done() || !is_last {
            return Err(self);
        }
        let shared = Rc::try_unwrap(self.shared).map_err(|shared| Future { shared })?;
        let value = Rc::into_inner(shared.promise).and_then(Promise::into_value);
        Ok(value.expect("it is done, and nobody else has it"))
    }

    /// Waits until it is done, and returns why there is no value, if so.
    ///
    /// # Panics
    ///
    /// As [`result`](Future::result).
    #[track_caller]
    pub fn exception(&self) -> Option<FutureError> {
        self.result_ref().err()
    }

    /// Calls `f` when it is done; soon, but not at once, if it is already.
    ///
    /// Callbacks are called in the order in which they were added: by the job's own greenlet, which
    /// keeps its place in the pool meanwhile, or in one of their own if the job did not come to its
    /// end, or a thread has done it. They may wait. A panic in one is reported through
    /// [`Hub::on_error`](crate::Hub::on_error) and does not keep the others from running.
    #[track_caller]
    pub fn add_done_callback(&self, f: impl FnOnce(&Future<T>) + 'static) {
        let future = self.clone(); // every future is done some time, and lets go of it
        self.shared.promise.link(Box::new(move |_| f(&future)));
    }
}

impl<T> Clone for Future<T> {
    fn clone(&self) -> Future<T> {
        Future { shared: Rc::clone(&self.shared) }
    }
}

impl<T> UnwindSafe for Future<T> {}
impl<T> RefUnwindSafe for Future<T> {}

impl<T> HasLine for Future<T> {
    fn line(&self) -> &WaitList {
        self.shared.promise.line()
    }
}

impl<T> Waitable for Future<T> {
    fn is_ready(&self) -> bool {
        self.shared.promise.get().is_some()
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Future").field("stage", &self.shared.stage.get()).finish_non_exhaustive()
    }
}

/// What a future waits for. Dropped without having run, it cancels the future.
pub(super) struct Job<T: 'static> {
    shared: Rc<Shared<T>>,
}

impl<T: 'static> Job<T> {
    pub(super) fn run(self, f: impl FnOnce() -> T) {
        self.shared.stage.set(Stage::Running);
        crate::pool::work(f, |end| match end {
            End::Value(value) => self.end(Ok(value)),
            End::Panicked(payload) => self.end(Err(FutureError::Panicked(payload.into()))),
            // Its greenlet is about to unwind, and cannot call anybody.
            End::Killed => self.shared.end_elsewhere(FutureError::Killed),
        });
    }

    fn end(&self, result: Result<T, FutureError>) {
        self.shared.stage.set(Stage::Done);
        // Nobody else sets it, so it is not refused.
        let _ = self.shared.promise.set(result);
        if hub::is_to_be_interrupted() {
            // What was meant for the job is not meant for the callbacks.
            self.shared.promise.call_links_elsewhere();
        } else {
            self.shared.promise.call_links();
        }
    }
}

impl<T: 'static> Shared<T> {
    #[track_caller]
    fn new() -> Rc<Shared<T>> {
        Rc::new(Shared {
            promise: Rc::new(Promise::new("Future")),
            stage: Cell::new(Stage::Pending),
            worker: OnceCell::new(),
        })
    }

    fn end_elsewhere(&self, error: FutureError) {
        self.stage.set(Stage::Done);
        let _ = self.promise.set(Err(error));
        self.promise.call_links_elsewhere();
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        if self.shared.stage.get() == Stage::Pending {
            self.shared.end_elsewhere(FutureError::Cancelled);
        }
    }
}

/// Brings what a thread has done to its future.
pub(super) struct Courier<T: 'static> {
    shared: Rc<Shared<T>>,
}

impl<T: 'static> Future<T> {
    /// One whose job a thread will do, and who is to be told when it has.
    #[track_caller]
    pub(super) fn by_courier() -> (Future<T>, Rc<Courier<T>>) {
        let shared = Shared::new();
        (Future { shared: Rc::clone(&shared) }, Rc::new(Courier { shared }))
    }
}

/// The thread it was submitted on ends first: nobody will be called any more.
impl<T> Drop for Courier<T> {
    fn drop(&mut self) {
        if self.shared.stage.get() != Stage::Done {
            self.shared.promise.drop_links();
        }
    }
}

impl<T: 'static> Courier<T> {
    fn hand_over(&self) {
        let Some(Worker::Thread(handle)) = self.shared.worker.get() else { return };
        if self.shared.stage.get() == Stage::Done {
            return; // cancelled
        }
        let result = handle.take().map_err(|error| match error {
            JoinError::Panicked(payload) => FutureError::Panicked(payload.into()),
            JoinError::Killed => FutureError::Cancelled,
        });
        self.shared.stage.set(Stage::Done);
        // Nobody else sets it, so it is not refused.
        let _ = self.shared.promise.set(result);
        self.shared.promise.call_links_elsewhere();
    }
}

impl<T: 'static> Expected for Courier<T> {
    fn come(self: Rc<Self>) {
        self.hand_over();
        if Rc::strong_count(&self.shared) == 1 {
            // Nobody has the future any more: the result is dropped, which is the user's business.
            drop_elsewhere(self);
        }
    }
}

/// Drops it in a greenlet of its own. Without a stack for that, it is leaked.
fn drop_elsewhere(what: impl Sized + 'static) {
    let what = Rc::new(Cell::new(Some(what)));
    let last = Rc::clone(&what);
    let body = move || hub::quietly("panicked in the destructor of a result", || drop(last.take()));
    if hub::spawn(Birth::here(Some("dropped result".into())), body).is_err() {
        #[expect(clippy::mem_forget, reason = "the hub's loop must not run its destructors")]
        mem::forget(what);
    }
}
