//! Letters from other threads: the one way into a hub from outside.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use super::ticket::Ticket;
use crate::error::HubClosed;
use crate::sys::native::natively;

/// Something to run as a greenlet.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What another thread has sent.
pub(crate) enum Letter {
    Spawn(Job),
    /// Called by the loop itself, which needs no stack: it must not wait, nor run anything of the
    /// user's.
    Call(fn()),
    /// Ends that wait, if it still goes on.
    #[cfg_attr(not(feature = "monkey"), expect(dead_code, reason = "only monkey sends it"))]
    Wake(Ticket),
}

/// A handle to the hub of another thread: the only thing of this crate that may cross threads.
///
/// Made by [`Hub::remote`](crate::Hub::remote). As long as one is alive, the hub counts on being
/// woken through it and never panics with [`BlocksForever`](crate::BlocksForever).
pub struct Remote {
    shared: Arc<Shared>,
    /// Does the hub count on it? One that only brings back what the hub has been told to expect is
    /// not counted: see [`expect`](super::expect).
    counts: bool,
}

/// The hub's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` once the hub has ended.
    letters: Mutex<Option<Vec<Letter>>>,
    /// Counted apart from the `Arc`: the last one to go has to tell the hub, and must know that it
    /// is the last.
    remotes: AtomicUsize,
    waker: Arc<Waker>,
}

impl Shared {
    fn letters(&self) -> MutexGuard<'_, Option<Vec<Letter>>> {
        // Nothing panics while it is held, and a list of jobs is in order at any moment.
        natively(|| self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An error here means that the hub and its poller are gone, and nobody waits any more.
    fn wake(&self) {
        natively(|| _ = self.waker.wake());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("remotes", &self.remotes).finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new(waker: Arc<Waker>) -> Inbox {
        let letters = Mutex::new(Some(Vec::new()));
        Inbox { shared: Arc::new(Shared { letters, remotes: AtomicUsize::new(0), waker }) }
    }

    pub(crate) fn remote(&self) -> Remote {
        self.shared.remotes.fetch_add(1, Ordering::Relaxed);
        Remote { shared: Arc::clone(&self.shared), counts: true }
    }

    /// One that the hub does not count on.
    pub(crate) fn quiet_remote(&self) -> Remote {
        Remote { shared: Arc::clone(&self.shared), counts: false }
    }

    /// Takes what has arrived.
    pub(crate) fn take(&self) -> Vec<Letter> {
        self.shared.letters().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Could anything still arrive?
    pub(crate) fn is_open(&self) -> bool {
        // Acquire: with the last remote gone, all its letters are to be seen.
        self.shared.remotes.load(Ordering::Acquire) > 0
            || self.shared.letters().as_ref().is_some_and(|letters| !letters.is_empty())
    }

    /// From now on senders get an error. What had arrived and was not taken is returned, to be
    /// dropped where its destructors may run.
    pub(crate) fn close(&self) -> Vec<Letter> {
        self.shared.letters().take().unwrap_or_default()
    }
}

impl Remote {
    /// Runs `f` as a greenlet of that hub, which is woken if it sleeps.
    ///
    /// A panic of `f` is reported there, through the hub's error hook.
    ///
    /// # Errors
    ///
    /// [`HubClosed`] if the hub's thread has ended; `f` is dropped. A job that was accepted and
    /// had not begun when the thread ended is dropped unrun.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let remote = greenloom::Hub::current().remote();
    /// std::thread::spawn(move || remote.spawn(|| println!("back on the first thread")));
    /// greenloom::sleep(Duration::from_millis(10));
    /// ```
    pub fn spawn<F>(&self, f: F) -> Result<(), HubClosed>
    where
        F: FnOnce() + Send + 'static,
    {
        self.send(Letter::Spawn(Box::new(f)))
    }

    /// Has the loop of that hub call `f` itself. See [`Letter::Call`].
    pub(crate) fn call(&self, f: fn()) -> Result<(), HubClosed> {
        self.send(Letter::Call(f))
    }

    /// Ends a wait of that hub, if it still goes on.
    #[cfg(feature = "monkey")]
    pub(crate) fn wake(&self, ticket: Ticket) -> Result<(), HubClosed> {
        self.send(Letter::Wake(ticket))
    }

    fn send(&self, letter: Letter) -> Result<(), HubClosed> {
        let first = match self.shared.letters().as_mut() {
            None => return Err(HubClosed),
            Some(letters) => {
                letters.push(letter);
                letters.len() == 1
            }
        };
        // Whoever put the first letter has woken the hub, and it takes all of them at once.
        if first {
            self.shared.wake();
        }
        Ok(())
    }
}

impl Clone for Remote {
    fn clone(&self) -> Remote {
        if self.counts {
            self.shared.remotes.fetch_add(1, Ordering::Relaxed);
        }
        Remote { shared: Arc::clone(&self.shared), counts: self.counts }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if self.counts && self.shared.remotes.fetch_sub(1, Ordering::Release) == 1 {
            // The hub may be waiting for nothing but us.
            self.shared.wake();
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
