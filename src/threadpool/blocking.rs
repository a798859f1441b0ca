//! Calls of the system that block and return a result: files, mostly.

use std::io;
use std::panic;
use std::sync::OnceLock;
use std::thread;

use super::pool::ThreadPool;
use crate::error::{JoinError, Unwinding};
use crate::hub;

/// As many as the shared pool has, and for the same reasons.
const THREADS: usize = 64;
const QUEUE: usize = 256;

/// Threads of their own, which nobody else's jobs run on.
///
/// A job of the user's may wait for a file: for its turn at a [`Gate`](super::Gate), or for a greenlet
/// that reads one. If such jobs had all the threads there are, what they wait for would be in the
/// queue behind them, for ever. The jobs in here are calls of the system and nothing else; none of
/// them waits for another job, a greenlet or a gate, so each of them ends when the system answers.
fn threads() -> &'static ThreadPool {
    static THREADS_FOR_FILES: OnceLock<ThreadPool> = OnceLock::new();
    THREADS_FOR_FILES.get_or_init(|| {
        let builder = ThreadPool::builder().name("greenloom-files");
        builder.max_threads(THREADS).queue(QUEUE).build()
    })
}

/// Has a thread run `f`, and waits for what it returns. `f` must do nothing but call the system: see
/// [`threads`].
///
/// While the caller unwinds it must not wait, and `f` runs at once, where it is: a destructor that
/// removes a file or flushes a buffer is not to fail, and holds up the thread for as long as the disk
/// takes. The same goes for the destructors of a thread, after its hub has ended; and for the threads
/// of the shared pool, which are there to be held up.
///
/// If the caller is killed or timed out while it waits, `f` runs on, and what it returns is dropped.
///
/// # Errors
///
/// Of the waiting alone: if the caller must not wait for another reason, if no thread can be started,
/// or if the job was dropped.
#[track_caller]
pub(crate) fn blocking<F, T>(f: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let pool = threads();
    let is_at_once = thread::panicking() || hub::has_ended();
    if is_at_once || pool.is_here() || ThreadPool::shared().is_here() {
        return Ok(f());
    }
    let job = pool.job(f)?;
    job.join();
    match job.try_get() {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(JoinError::Panicked(payload))) => panic::resume_unwind(payload),
        Ok(Err(JoinError::Killed)) => Err(io::Error::other("the job was dropped unrun")),
        Err(_under_way) => Err(Unwinding.into()),
    }
}
