//! Calls of the system that block and return a result: files, mostly.

use std::io;
use std::panic;
use std::thread;

use super::pool::ThreadPool;
use crate::error::{JoinError, Unwinding};
use crate::hub;

/// Has a thread of the shared pool run `f`, and waits for what it returns.
///
/// While the caller unwinds it must not wait, and `f` runs at once, where it is: a destructor that
/// removes a file or flushes a buffer is not to fail, and holds up the thread for as long as the disk
/// takes. The same goes for the destructors of a thread, after its hub has ended.
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
    let pool = ThreadPool::shared();
    if thread::panicking() || hub::has_ended() || pool.is_here() {
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
