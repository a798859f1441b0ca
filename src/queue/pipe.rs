//! `pipe`: two ends that send to each other.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::exchange::Verbs;
use super::handle::Queue;
use crate::error::{GetError, PutError};
use crate::wait::sealed::HasLine;
use crate::wait::{Limit, WaitList, Waitable};

const PIPE: Verbs = Verbs {
    what: "pipe",
    put: "send of the pipe",
    get: "recv of the pipe",
    peek: "peek of the pipe",
    poll: "poll of the pipe",
    join: "join of the pipe",
};

/// Two ends that send `A` one way and `B` the other. `multiprocessing.Pipe`.
///
/// It holds as many items as there is memory for. When an end is dropped, the other receives what
/// was sent before, and is then told.
///
/// # Examples
///
/// ```
/// use greenloom::{queue::{GetError, pipe}, spawn};
///
/// let (parent, child) = pipe::<u32, String>();
/// spawn(move || {
///     while let Ok(number) = child.recv() {
///         child.send(format!("{number}!")).unwrap();
///     }
/// });
/// parent.send(42).unwrap();
/// assert_eq!(parent.recv().unwrap(), "42!");
/// ```
#[must_use]
#[track_caller]
pub fn pipe<A, B>() -> (Conn<A, B>, Conn<B, A>) {
    let (there, back) = (Queue::with(None, &PIPE), Queue::with(None, &PIPE));
    let one = Conn { outgoing: there.clone(), incoming: back.clone() };
    (one, Conn { outgoing: back, incoming: there })
}

/// One end of a [`pipe`]: sends `S`, receives `R`.
///
/// As a [`Waitable`] it is ready when [`recv`](Conn::recv) would not wait.
pub struct Conn<S, R> {
    outgoing: Queue<S>,
    incoming: Queue<R>,
}

impl<S, R> Conn<S, R> {
    /// Sends an item. It waits for nobody to receive it.
    ///
    /// # Errors
    ///
    /// [`PutError::ShutDown`] if the other end has been dropped.
    #[track_caller]
    pub fn send(&self, item: S) -> Result<(), PutError<S>> {
        self.outgoing.put(item)
    }

    /// Receives the next item, waiting for it if need be.
    ///
    /// # Errors
    ///
    /// [`GetError::ShutDown`] if the other end has been dropped and everything it sent has been
    /// received. [`GetError::Empty`] if it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn recv(&self) -> Result<R, GetError> {
        self.incoming.get()
    }

    /// As [`recv`](Conn::recv), but waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`recv`](Conn::recv), and [`GetError::Elapsed`] if the time was over first.
    #[track_caller]
    pub fn recv_timeout(&self, d: Duration) -> Result<R, GetError> {
        self.incoming.get_timeout(d)
    }

    /// As [`recv`](Conn::recv), if an item is there. It never waits, and never switches.
    ///
    /// # Errors
    ///
    /// As [`recv`](Conn::recv), and [`GetError::Empty`].
    #[track_caller]
    pub fn try_recv(&self) -> Result<R, GetError> {
        self.incoming.try_get()
    }

    /// Waits at most so long until there is something to receive, or the other end has been dropped.
    /// True: [`recv`](Conn::recv) would return at once.
    #[track_caller]
    pub fn poll(&self, d: Duration) -> bool {
        self.incoming.exchange().poll(Limit::Within(d))
    }
}

impl<S, R> Drop for Conn<S, R> {
    fn drop(&mut self) {
        self.outgoing.shutdown();
        self.incoming.shutdown_now(); // nobody will receive what is in it
    }
}

impl<S, R> UnwindSafe for Conn<S, R> {}
impl<S, R> RefUnwindSafe for Conn<S, R> {}

impl<S, R> HasLine for Conn<S, R> {
    fn line(&self) -> &WaitList {
        self.incoming.line()
    }
}

impl<S, R> Waitable for Conn<S, R> {
    fn is_ready(&self) -> bool {
        self.incoming.is_ready()
    }
}

impl<S, R> fmt::Debug for Conn<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("incoming", &self.incoming.len()).finish_non_exhaustive()
    }
}
