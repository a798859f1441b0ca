//! `ThreadPool`: handing in.

use std::fmt;
use std::io;
use std::panic;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::job::{Content, Handle, Job, Waiters, Work};
use super::tray::{Expected, Returned, Word};
use super::work::{JobId, Refused, Run, Shared};
use crate::error::{Interruption, JoinError};
use crate::hub;

/// Threads for jobs that block, so many at most. A handle: clones name the same pool, from whatever
/// thread.
///
/// Threads are started as they are needed, and end when they have been idle for a while. When all are
/// busy, jobs wait in a queue, and when that is full, those who hand in more are parked until their
/// job's turn has come: first come, first served, whatever threads they are on.
///
/// When the last handle is dropped, the jobs that were handed in are done, and the threads end.
/// gevent's `ThreadPool`.
///
/// # Examples
///
/// ```
/// use greenloom::threadpool::ThreadPool;
///
/// let pool = ThreadPool::new(4);
/// let jobs: Vec<_> = (1..=3).map(|n: u64| pool.spawn(move || n.pow(2))).collect();
/// let squares: Vec<_> = jobs.into_iter().map(|job| job.get().unwrap()).collect();
/// assert_eq!(squares, [1, 4, 9]);
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    owner: Arc<Owner>,
}

/// What the handles share, and the threads do not.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

const TURN: &str = "place in the ThreadPool";
const REST: &str = "join of the ThreadPool";
const END: &str = "shutdown of the ThreadPool";

/// How long a job may wait for a place.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl ThreadPool {
    pub(super) fn with(shared: Arc<Shared>) -> ThreadPool {
        ThreadPool { owner: Arc::new(Owner(shared)) }
    }

    fn pool(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    /// Is the calling thread one of its own?
    pub(super) fn is_here(&self) -> bool {
        self.pool().is_here()
    }

    /// Hands in a job. If the queue is full, it waits until the job's turn has come.
    ///
    /// If the caller is killed or timed out while it waits, the job is dropped, unless its turn has
    /// come already. While the caller unwinds, it does not wait, and the job is done in its turn.
    ///
    /// # Panics
    ///
    /// After [`shutdown`](ThreadPool::shutdown), and if no thread at all can be started.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> Job<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.job(f).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`spawn`](ThreadPool::spawn), for those who can say that there is no thread.
    #[track_caller]
    pub(crate) fn job<F, T>(&self, f: F) -> io::Result<Job<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in(f, Patience::Endless).map_err(|(f, refused)| {
            drop(f);
            refused.into_error()
        })
    }

    /// As [`job`](ThreadPool::job), but waits at most so long for a place. `None`: the time is over, or
    /// the caller unwinds.
    #[track_caller]
    pub(crate) fn job_timeout<F, T>(&self, f: F, d: Duration) -> io::Result<Option<Job<T>>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.hand_in(f, Patience::Until(hub::after(d))) {
            Ok(job) => Ok(Some(job)),
            Err((_, Refused::Full)) => Ok(None),
            Err((_, refused)) => Err(refused.into_error()),
        }
    }

    /// As [`spawn`](ThreadPool::spawn), but waits at most so long for a place.
    ///
    /// # Errors
    ///
    /// `f`, if the time is over first, or the caller unwinds.
    ///
    /// # Panics
    ///
    /// As [`spawn`](ThreadPool::spawn).
    #[track_caller]
    pub fn spawn_timeout<F, T>(&self, f: F, d: Duration) -> Result<Job<T>, F>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in(f, Patience::Until(hub::after(d))).map_err(|(f, refused)| match refused {
            Refused::Full => f,
            other => refused_to(other),
        })
    }

    /// As [`spawn`](ThreadPool::spawn), if there is a place. It never waits.
    ///
    /// # Errors
    ///
    /// `f`, if the queue is full, the pool has been shut down, or no thread can be started.
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> Result<Job<T>, F>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in(f, Patience::None).map_err(|(f, _)| f)
    }

    /// Has a thread run `f`, and waits for what it returns. On a thread of this very pool `f` runs at
    /// once, where it is; so it does while the caller unwinds, who must not wait.
    ///
    /// # Panics
    ///
    /// With the panic of `f`, if it panics; else as [`spawn`](ThreadPool::spawn).
    #[track_caller]
    pub fn apply<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.must_run_here() {
            return f();
        }
        match self.spawn(f).get() {
            Ok(value) => value,
            Err(JoinError::Panicked(payload)) => panic::resume_unwind(payload),
            Err(JoinError::Killed) => panic!("the job was dropped before it began"),
        }
    }

    /// Has threads call `f` for every item, and returns what it returned, in the order of the items.
    ///
    /// # Panics
    ///
    /// With the panic of the first item that panicked, once all have ended; else as
    /// [`apply`](ThreadPool::apply).
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> Vec<T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let f = Arc::new(f);
        if self.must_run_here() {
            return items.into_iter().map(|item| f(item)).collect();
        }
        let jobs: Vec<_> = items
            .into_iter()
            .map(|item| {
                let f = Arc::clone(&f);
                self.spawn(move || f(item))
            })
            .collect();
        jobs.iter().for_each(Job::join);
        jobs.into_iter()
            .map(|job| match job.get() {
                Ok(value) => value,
                Err(JoinError::Panicked(payload)) => panic::resume_unwind(payload),
                Err(JoinError::Killed) => panic!("the job was dropped before it began"),
            })
            .collect()
    }

    /// Would it be wrong to wait for a thread? For oneself, while unwinding, or after the hub's end.
    pub(super) fn must_run_here(&self) -> bool {
        self.is_here() || thread::panicking() || hub::has_ended()
    }

    /// At most so many threads.
    #[must_use]
    pub fn max_threads(&self) -> usize {
        self.pool().counts().max_threads
    }

    /// Sets how many threads there are at most. If it is more than before, jobs and those who wait
    /// to hand one in go on; if it is less, threads end when they are through with their job. With 0,
    /// nothing runs until it is set again.
    pub fn set_max_threads(&self, count: usize) {
        self.pool().set_max_threads(count);
    }

    /// How many threads there are now.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool().counts().threads
    }

    /// How many of them have nothing to do.
    #[must_use]
    pub fn idle_threads(&self) -> usize {
        self.pool().counts().idle
    }

    /// How many jobs run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.pool().counts().running
    }

    /// How many jobs wait in the queue for a thread.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.pool().counts().queued
    }

    /// Ends the threads that have nothing to do now, without waiting for their time to be over.
    pub fn trim(&self) {
        self.pool().trim();
    }

    /// Waits until there is nothing to do: no job runs, is queued or waits for its place. The pool goes
    /// on as before. While the caller unwinds, it does not wait. A job must not call it for its own
    /// pool.
    #[track_caller]
    pub fn join(&self) {
        self.join_by(None);
    }

    /// As [`join`](ThreadPool::join), but waits at most so long. True: there was nothing to do at some
    /// time.
    #[track_caller]
    pub fn join_timeout(&self, d: Duration) -> bool {
        self.join_by(Some(hub::after(d)))
    }

    #[track_caller]
    fn join_by(&self, deadline: Option<Instant>) -> bool {
        self.told_by(|pool, told| pool.tell_at_rest(told), &REST, deadline)
    }

    /// Waits for what `tell` will have it told of.
    #[track_caller]
    fn told_by(
        &self,
        tell: impl FnOnce(&Shared, Returned),
        verb: &'static &'static str,
        deadline: Option<Instant>,
    ) -> bool {
        let (word, told) = Word::awaited();
        let Ok(told) = told else { return false };
        tell(self.pool(), told);
        word.wait(verb, deadline).unwrap_or_else(|interruption| {
            hub::raise(interruption);
            false
        })
    }

    /// Takes no more jobs, and waits until those it has are done and its threads are gone. (If there may
    /// be no threads at all, one is started for them.) While the
    /// caller unwinds, it does not wait. A job must not call it for its own pool, which waits for it.
    #[track_caller]
    pub fn shutdown(&self) {
        self.shutdown_by(None);
    }

    /// As [`shutdown`](ThreadPool::shutdown), but waits at most so long. True: all is done.
    #[track_caller]
    pub fn shutdown_timeout(&self, d: Duration) -> bool {
        self.shutdown_by(Some(hub::after(d)))
    }

    #[track_caller]
    fn shutdown_by(&self, deadline: Option<Instant>) -> bool {
        self.pool().shut_down();
        self.told_by(|pool, told| pool.tell_at_the_end(told), &END, deadline)
    }

    /// Takes no more jobs.
    pub(crate) fn refuse_more(&self) {
        self.pool().shut_down();
    }

    /// Takes the jobs out that have not begun, and drops them.
    pub(crate) fn cancel_all(&self) {
        // One by one: their destructors may panic, and two panics at a time would end the process.
        for unrun in self.pool().take_out_all() {
            hub::quietly("panicked in the destructor of a cancelled job", move || drop(unrun));
        }
    }

    #[track_caller]
    fn hand_in<F, T>(&self, f: F, patience: Patience) -> Result<Job<T>, (F, Refused)>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let waiters = Waiters::new();
        let handle = self.hand_in_for(f, Rc::clone(&waiters) as _, patience)?;
        Ok(Job::new(handle, waiters))
    }

    /// Hands in a job whose end `whom` is told of. It never waits if the queue has no bound.
    ///
    /// # Panics
    ///
    /// As [`spawn`](ThreadPool::spawn).
    #[track_caller]
    pub(crate) fn submit<F, T>(&self, f: F, whom: Rc<dyn Expected>) -> Handle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in_for(f, whom, Patience::Endless).unwrap_or_else(|(f, refused)| {
            drop(f);
            refused_to(refused)
        })
    }

    /// As [`submit`](ThreadPool::submit), for those who do it themselves if no thread does. It never
    /// waits, panics or unwinds.
    ///
    /// # Errors
    ///
    /// What was to be done, if it is not taken.
    #[cfg(feature = "monkey")]
    pub(crate) fn try_submit<F, T>(&self, f: F, whom: Rc<dyn Expected>) -> Result<Handle<T>, F>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in_for(f, whom, Patience::None).map_err(|(f, _)| f)
    }

    #[track_caller]
    fn hand_in_for<F, T>(
        &self,
        f: F,
        whom: Rc<dyn Expected>,
        patience: Patience,
    ) -> Result<Handle<T>, (F, Refused)>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let id = self.pool().next_id();
        let (handle, outlet) = Handle::new(self.pool(), id);
        // What is not taken is given back: it lies in a box that both sides can open.
        let content = Content::new(f);
        let taken = Returned::expect(whom).map_err(Refused::NoThread).and_then(|told| {
            let work = Work { content: content.clone(), outlet, told };
            self.in_turn(id, Box::new(move |has_run| work.run(has_run)), patience)
        });
        match taken {
            Ok(()) => Ok(handle),
            Err(refused) => match content.take() {
                Some(f) => Err((f, refused)),
                None => unreachable!("only a job that was taken opens it"),
            },
        }
    }

    /// Hands in a job, and waits for its turn if need be.
    #[track_caller]
    fn in_turn(&self, id: JobId, run: Run, patience: Patience) -> Result<(), Refused> {
        let pool = self.pool();
        let run = match (pool.hand_in(id, run, None), patience) {
            (Ok(_), _) => return Ok(()),
            (Err((run, Refused::Full)), Patience::Until(_) | Patience::Endless) => run,
            (Err((_, refused)), _) => return Err(refused),
        };
        let (turn, told) = Word::awaited();
        let told = told.map_err(Refused::NoThread)?;
        match pool.hand_in(id, run, Some(told)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err((_, refused)) => return Err(refused),
        }
        let deadline = match patience {
            Patience::Until(deadline) => Some(deadline),
            Patience::None | Patience::Endless => None,
        };
        match turn.wait(&TURN, deadline) {
            Ok(true) => Ok(()),
            // Nobody waits while he unwinds. What he wants done is done when its turn comes.
            Err(Interruption::Unwinding) if deadline.is_none() => Ok(()),
            given_up => {
                let unrun = pool.take_out_of_line(id);
                let is_out = unrun.is_some();
                hub::quietly("panicked in the destructor of a job", move || drop(unrun));
                if let Err(interruption) = given_up {
                    hub::raise(interruption);
                }
                if is_out { Err(Refused::Full) } else { Ok(()) }
            }
        }
    }
}

#[cold]
#[track_caller]
fn refused_to(refused: Refused) -> ! {
    panic!("{}", refused.into_error())
}

impl Refused {
    fn into_error(self) -> io::Error {
        match self {
            Refused::ShutDown => io::Error::other("the thread pool has been shut down"),
            Refused::NoThread(error) => {
                io::Error::new(error.kind(), format!("no thread for the pool: {error}"))
            }
            Refused::Full => io::Error::other("the queue of the thread pool is full"),
        }
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.pool().counts();
        f.debug_struct("ThreadPool")
            .field("name", &self.pool().name)
            .field("max_threads", &counts.max_threads)
            .field("threads", &counts.threads)
            .field("running", &counts.running)
            .field("queued", &counts.queued)
            .finish_non_exhaustive()
    }
}
