//! Waiting for several futures.

use std::fmt;
use std::time::{Duration, Instant};

use super::future::Future;
use crate::hub::{self, Reason};
use crate::wait::{self, Iwait};

/// When [`wait`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWhen {
    /// When one is done.
    FirstCompleted,
    /// When one has failed, or all are done. A cancelled one has not failed.
    FirstException,
    /// When all are done.
    AllCompleted,
}

/// [`ReturnWhen::FirstCompleted`].
pub const FIRST_COMPLETED: ReturnWhen = ReturnWhen::FirstCompleted;

/// [`ReturnWhen::FirstException`].
pub const FIRST_EXCEPTION: ReturnWhen = ReturnWhen::FirstException;

/// [`ReturnWhen::AllCompleted`].
pub const ALL_COMPLETED: ReturnWhen = ReturnWhen::AllCompleted;

/// What [`wait`] returns: each future in one of two lists, in the order given.
pub struct Waited<T> {
    /// Those that are done.
    pub done: Vec<Future<T>>,
    /// Those that are not.
    pub not_done: Vec<Future<T>>,
}

impl<T> fmt::Debug for Waited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waited")
            .field("done", &self.done)
            .field("not_done", &self.not_done)
            .finish()
    }
}

/// Waits for futures: for the first, for the first that fails, or for all. Python's
/// `concurrent.futures.wait`.
///
/// Without futures, and while the caller unwinds, it returns at once. One that is given twice is
/// returned twice.
///
/// # Examples
///
/// ```
/// use greenloom::concurrent::{FIRST_COMPLETED, GreenletPoolExecutor, wait};
/// use greenloom::sleep;
/// use std::time::Duration;
///
/// let executor = GreenletPoolExecutor::new(2);
/// let mirrors = [10_000, 1].map(|ms| executor.submit(move || sleep(Duration::from_millis(ms))));
/// let fastest = wait(&mirrors, FIRST_COMPLETED);
/// assert_eq!((fastest.done.len(), fastest.not_done.len()), (1, 1));
/// ```
#[track_caller]
pub fn wait<'a, T: 'static>(
    futures: impl IntoIterator<Item = &'a Future<T>>,
    when: ReturnWhen,
) -> Waited<T> {
    wait_until(futures, None, when)
}

/// As [`wait`], but at most so long.
#[track_caller]
pub fn wait_timeout<'a, T: 'static>(
    futures: impl IntoIterator<Item = &'a Future<T>>,
    d: Duration,
    when: ReturnWhen,
) -> Waited<T> {
    wait_until(futures, Some(hub::after(d)), when)
}

#[track_caller]
fn wait_until<'a, T: 'static>(
    futures: impl IntoIterator<Item = &'a Future<T>>,
    deadline: Option<Instant>,
    when: ReturnWhen,
) -> Waited<T> {
    let futures: Vec<_> = futures.into_iter().cloned().collect();
    let mut ends = wait::iwait(&futures);
    let reason = Reason::new(&"wait for Futures");
    while let Some(index) = ends.next_until(reason, deadline) {
        let is_enough = match when {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => {
                !futures[index].is_cancelled() && futures[index].has_failed()
            }
            ReturnWhen::AllCompleted => false,
        };
        if is_enough {
            break;
        }
    }
    drop(ends);
    let (done, not_done) = futures.into_iter().partition(Future::is_done);
    Waited { done, not_done }
}

/// The futures in the order in which they are done; those that are already come first, in the order
/// given. Python's `concurrent.futures.as_completed`.
///
/// Between two steps the caller may wait for whatever it likes. See the
/// [example](crate::concurrent) of this module.
pub fn as_completed<'a, T: 'static>(
    futures: impl IntoIterator<Item = &'a Future<T>>,
) -> AsCompleted<T> {
    AsCompleted { ends: wait::iwait(futures.into_iter().cloned()) }
}

/// What [`as_completed`] returns.
pub struct AsCompleted<T: 'static> {
    ends: Iwait<Future<T>>,
}

impl<T: 'static> Iterator for AsCompleted<T> {
    type Item = Future<T>;

    /// Ends at once while the caller unwinds.
    #[track_caller]
    fn next(&mut self) -> Option<Future<T>> {
        let index = self.ends.next_until(Reason::new(&"as_completed"), None)?;
        Some(self.ends.items()[index].clone())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ends.size_hint()
    }
}

impl<T: 'static> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsCompleted").field(&self.ends).finish()
    }
}
