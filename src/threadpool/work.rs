//! The threads, and the queue they work on.
//!
//! A job is in one of three places. In the *line*: its greenlet is parked, because the queue is full.
//! In the *queue*: it will run. With a *thread*. When a thread takes a job from the queue, the first
//! in line moves up into the queue at that moment, whatever its greenlet does meanwhile; so nobody
//! overtakes anybody, whichever hubs they belong to.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::tray::Returned;
use crate::sys::native::natively;

/// Runs a job, calls the function, leaves the result where it belongs, and returns who is to be told.
/// Never unwinds.
///
/// The function makes its place free. Whoever sees the result, or is told of it, finds it so.
pub(super) type Run = Box<dyn FnOnce(&mut dyn FnMut()) -> Returned + Send>;

/// Which job of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobId(u64);

/// A job in the queue. Taken out of it, it will not run: its destructors are the user's, and run
/// wherever it is dropped.
pub(super) struct Queued {
    id: JobId,
    run: Run,
}

/// A job whose greenlet waits for it to be queued.
struct InLine {
    job: Queued,
    /// Dropped when it moves up into the queue.
    moved_up: Returned,
}

/// What all handles and threads of a pool share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is a job, or a reason to end.
    news: Condvar,
    next: AtomicU64,
    pub(super) name: String,
    idle_timeout: Duration,
}

struct State {
    queue: VecDeque<Queued>,
    line: VecDeque<InLine>,
    threads: usize,
    idle: usize,
    running: usize,
    max_threads: usize,
    /// Jobs that may wait in the queue; `None`: any number.
    room: Option<usize>,
    stage: Stage,
    /// A thread that has been idle since before this last changed ends.
    trimmed: u64,
    /// Threads are given numbers, for their names.
    named: usize,
    /// Told when there is nothing to do.
    at_rest: Vec<Returned>,
    /// Told when the last thread has gone after the shutdown.
    at_the_end: Vec<Returned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// What it has will be done, and no more be taken.
    ShutDown,
}

/// How many there are, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) max_threads: usize,
    pub(super) threads: usize,
    pub(super) idle: usize,
    pub(super) running: usize,
    pub(super) queued: usize,
}

/// Why a job was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Full,
    ShutDown,
    NoThread(io::Error),
}

impl Shared {
    pub(super) fn new(
        name: String,
        max_threads: usize,
        room: Option<usize>,
        idle_timeout: Duration,
    ) -> Arc<Shared> {
        let state = State {
            queue: VecDeque::new(),
            line: VecDeque::new(),
            threads: 0,
            idle: 0,
            running: 0,
            max_threads,
            room,
            stage: Stage::Open,
            trimmed: 0,
            named: 0,
            at_rest: Vec::new(),
            at_the_end: Vec::new(),
        };
        Arc::new(Shared {
            state: Mutex::new(state),
            news: Condvar::new(),
            next: AtomicU64::new(0),
            name,
            idle_timeout,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        natively(|| self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The name of the next job.
    pub(super) fn next_id(&self) -> JobId {
        JobId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Is the calling thread one of this pool's?
    pub(super) fn is_here(&self) -> bool {
        POOL_OF_THIS_THREAD.get() == ptr::from_ref(self)
    }

    /// Queues a job, if there is room; else puts it in line, if `moved_up` says whom to tell when
    /// its turn has come. True: it is queued.
    ///
    /// # Errors
    ///
    /// The job, which is not taken, and why.
    pub(super) fn hand_in(
        self: &Arc<Self>,
        id: JobId,
        run: Run,
        moved_up: Option<Returned>,
    ) -> Result<bool, (Run, Refused)> {
        let mut state = self.state();
        if state.stage == Stage::ShutDown {
            return Err((run, Refused::ShutDown));
        }
        let job = Queued { id, run };
        if state.line.is_empty() && state.fits_one_more() {
            state.queue.push_back(job);
            let has_thread = self.see_to_threads(state);
            drop(moved_up); // there is nobody to tell
            return match has_thread {
                Ok(()) => Ok(true),
                Err(error) => match self.take_out(id) {
                    Some(unrun) => Err((unrun.run, Refused::NoThread(error))),
                    None => Ok(true), // a thread has come from somewhere
                },
            };
        }
        match moved_up {
            Some(moved_up) => {
                state.line.push_back(InLine { job, moved_up });
                Ok(false)
            }
            None => Err((job.run, Refused::Full)),
        }
    }

    /// Wakes a thread for what is queued, or starts one.
    ///
    /// # Errors
    ///
    /// If there is no thread at all, and none can be started.
    fn see_to_threads(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> io::Result<()> {
        if state.idle >= state.queue.len() {
            self.news.notify_one();
            return Ok(());
        }
        if state.threads >= state.max_threads {
            return Ok(()); // they are at work, and look when they are through
        }
        state.threads += 1;
        state.named += 1;
        let name = format!("{}-{}", self.name, state.named);
        drop(state);
        let shared = Arc::clone(self);
        let started = thread::Builder::new().name(name).spawn(move || shared.work());
        match started {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut state = self.state();
                state.threads -= 1;
                let (is_none_left, at_the_end) = (state.threads == 0, state.at_an_end());
                drop(state);
                drop(at_the_end);
                // Those that are there will do it, only later.
                if is_none_left { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Takes a job out of the queue, or out of the line. `None`: a thread has begun with it.
    pub(super) fn take_out(&self, id: JobId) -> Option<Queued> {
        let mut state = self.state();
        let Some(at) = state.queue.iter().position(|job| job.id == id) else {
            drop(state);
            return self.take_out_of_line(id);
        };
        let job = state.queue.remove(at);
        let told = (state.move_up(), state.at_an_end());
        drop(state);
        drop(told);
        job
    }

    /// Takes a job out of the line. `None`: its turn has come.
    pub(super) fn take_out_of_line(&self, id: JobId) -> Option<Queued> {
        let mut state = self.state();
        let at = state.line.iter().position(|waiting| waiting.job.id == id)?;
        let waiting = state.line.remove(at);
        let at_the_end = state.at_an_end();
        drop(state);
        drop(at_the_end);
        waiting.map(|waiting| waiting.job)
    }

    /// What a thread does.
    fn work(self: Arc<Self>) {
        POOL_OF_THIS_THREAD.set(Arc::as_ptr(&self));
        while let Some(job) = self.next() {
            let mut others = None;
            let told = (job.run)(&mut || others = Some(self.state().has_run()));
            drop((told, others));
        }
    }

    /// The next job. `None`: the thread is to end.
    fn next(&self) -> Option<Queued> {
        let mut state = self.state();
        let trimmed = state.trimmed;
        loop {
            if state.threads > state.max_threads {
                return self.leave(state);
            }
            if let Some(job) = state.queue.pop_front() {
                state.running += 1;
                return Some(job);
            }
            if state.stage == Stage::ShutDown || state.trimmed != trimmed {
                return self.leave(state);
            }
            state.idle += 1;
            let (woken, waited) = self
                .news
                .wait_timeout(state, self.idle_timeout)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                return self.leave(state);
            }
        }
    }

    fn leave(&self, mut state: MutexGuard<'_, State>) -> Option<Queued> {
        state.threads -= 1;
        let at_the_end = state.at_an_end();
        drop(state);
        drop(at_the_end);
        None
    }

    // ── settings ──

    pub(super) fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            max_threads: state.max_threads,
            threads: state.threads,
            idle: state.idle,
            running: state.running,
            queued: state.queue.len(),
        }
    }

    pub(super) fn set_max_threads(self: &Arc<Self>, max_threads: usize) {
        let mut state = self.state();
        state.max_threads = max_threads;
        let moved_up: Vec<_> = std::iter::from_fn(|| state.move_up()).collect();
        let more = state.queue.len().min(max_threads.saturating_sub(state.threads));
        drop(state);
        drop(moved_up);
        self.news.notify_all(); // there may be too many of them now
        for _ in 0..more {
            // If there are none at all, the next who hands in a job is told.
            let _ = self.see_to_threads(self.state());
        }
    }

    pub(super) fn trim(&self) {
        self.state().trimmed += 1;
        self.news.notify_all();
    }

    /// Takes no more jobs. Those in line have come before, and are still taken; so there must be a
    /// thread to do them.
    pub(super) fn shut_down(self: &Arc<Self>) {
        let mut state = self.state();
        state.stage = Stage::ShutDown;
        let most = state.max_threads.max(1);
        drop(state);
        self.set_max_threads(most); // which tells the threads, too
    }

    /// Drops `told` when there is nothing to do.
    pub(super) fn tell_at_rest(&self, told: Returned) {
        let mut state = self.state();
        if state.is_at_rest() {
            drop(state);
            drop(told);
        } else {
            state.at_rest.push(told);
        }
    }

    /// Drops `told` when all is done and the threads have gone, after the shutdown.
    pub(super) fn tell_at_the_end(&self, told: Returned) {
        let mut state = self.state();
        if state.is_at_the_end() {
            drop(state);
            drop(told);
        } else {
            state.at_the_end.push(told);
        }
    }

    /// Takes all jobs out that have not begun.
    pub(super) fn take_out_all(&self) -> Vec<Queued> {
        let mut state = self.state();
        let queue = mem::take(&mut state.queue);
        let line = mem::take(&mut state.line);
        let at_the_end = state.at_an_end();
        drop(state);
        drop(at_the_end);
        queue.into_iter().chain(line.into_iter().map(|waiting| waiting.job)).collect()
    }
}

impl State {
    /// Is there a thread for one more, or a place in the queue?
    fn fits_one_more(&self) -> bool {
        self.room.is_none_or(|room| {
            self.running + self.queue.len() < self.max_threads.saturating_add(room)
        })
    }

    /// A thread is through with its job. Returned is who is to be told: that he has moved up, or that
    /// all is done.
    fn has_run(&mut self) -> (Option<Returned>, Vec<Returned>) {
        self.running -= 1;
        (self.move_up(), self.at_an_end())
    }

    /// The first in line moves up into the queue, if there is room. Returned is who is to be told.
    fn move_up(&mut self) -> Option<Returned> {
        if !self.fits_one_more() {
            return None;
        }
        let InLine { job, moved_up } = self.line.pop_front()?;
        self.queue.push_back(job);
        Some(moved_up)
    }

    fn is_at_rest(&self) -> bool {
        self.running == 0 && self.queue.is_empty() && self.line.is_empty()
    }

    fn is_at_the_end(&self) -> bool {
        self.stage == Stage::ShutDown && self.threads == 0 && self.is_at_rest()
    }

    /// Those who wait for there to be nothing to do, or for the end, if it has come. To be asked
    /// whenever a job or a thread has gone.
    fn at_an_end(&mut self) -> Vec<Returned> {
        let mut told = Vec::new();
        if self.is_at_rest() {
            told.append(&mut self.at_rest);
        }
        if self.is_at_the_end() {
            told.append(&mut self.at_the_end);
        }
        told
    }
}

thread_local! {
    /// Whose thread this is. It is only compared, and the pool lives as long as its threads.
    static POOL_OF_THIS_THREAD: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}
