//! `AsyncResult`: a value or an error, set once.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use super::promise::Promise;
use crate::error::Elapsed;
use crate::hub;
use crate::links::LinkId;
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

/// A value, or an error, that is set once and read by many. A handle: clones name the same result.
///
/// Each reader gets a clone; put what is expensive to clone into an `Rc`. gevent's `AsyncResult`.
///
/// Where nothing else tells the type of the error, name the value, and an `Rc<dyn Error>` is meant:
/// `AsyncResult::<u32>::new()`.
///
/// # Examples
///
/// ```
/// use greenloom::{spawn, sync::AsyncResult};
///
/// let answer = AsyncResult::<u32, String>::new();
/// let oracle = answer.clone();
/// let readers = [(); 3].map(|()| {
///     let answer = answer.clone();
///     spawn(move || answer.get())
/// });
/// assert_eq!(oracle.set(42), Ok(()));
/// assert_eq!(oracle.set_error("too late".into()), Err("too late".into()));
/// for reader in readers {
///     assert_eq!(reader.get().unwrap(), Ok(42));
/// }
/// ```
pub struct AsyncResult<T, E = Rc<dyn Error>> {
    promise: Rc<Promise<Result<T, E>>>,
}

const GET: &str = "get of the AsyncResult";

impl<T: Clone + 'static, E: Clone + 'static> AsyncResult<T, E> {
    /// One that is not set.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        AsyncResult { promise: Rc::new(Promise::new("AsyncResult")) }
    }

    /// Sets the value, and wakes all who wait. It never switches.
    ///
    /// # Errors
    ///
    /// The value, if there is a value or an error already, which stays.
    pub fn set(&self, v: T) -> Result<(), T> {
        self.settle(Ok(v)).map_err(|refused| match refused {
            Ok(v) => v,
            Err(_) => unreachable!("it is a value that was refused"),
        })
    }

    /// Sets the error, and wakes all who wait. It never switches.
    ///
    /// # Errors
    ///
    /// The error, if there is a value or an error already, which stays.
    pub fn set_error(&self, e: E) -> Result<(), E> {
        self.settle(Err(e)).map_err(|refused| match refused {
            Err(e) => e,
            Ok(_) => unreachable!("it is an error that was refused"),
        })
    }

    fn settle(&self, result: Result<T, E>) -> Result<(), Result<T, E>> {
        self.promise.set(result)?;
        self.promise.call_links_elsewhere();
        Ok(())
    }

    /// Is there a value or an error?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.promise.get().is_some()
    }

    /// Is there a value?
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self.promise.get(), Some(Ok(_)))
    }

    /// Waits for the value or the error, and returns a clone of it.
    ///
    /// # Errors
    ///
    /// The error, if that is what was set.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn get(&self) -> Result<T, E> {
        match self.promise.wait(&GET, None) {
            Ok(Some(result)) => result.clone(),
            Ok(None) | Err(_) => panic!(
                "a greenlet that unwinds must not wait for an AsyncResult: use `try_get` where \
                 that may happen"
            ),
        }
    }

    /// As [`get`](AsyncResult::get), but waits at most so long; not at all while the caller unwinds.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if the time was over first. Inside, the error, if that is what was set.
    #[track_caller]
    pub fn get_timeout(&self, d: Duration) -> Result<Result<T, E>, Elapsed> {
        match self.promise.wait(&GET, Some(hub::after(d))) {
            Ok(Some(result)) => Ok(result.clone()),
            Ok(None) | Err(_) => Err(Elapsed),
        }
    }

    /// What was set, if anything was. It never waits, and never switches.
    #[must_use]
    pub fn try_get(&self) -> Option<Result<T, E>> {
        self.promise.get().cloned()
    }

    /// Waits until there is a value or an error. While the caller unwinds, it returns at once.
    #[track_caller]
    pub fn wait(&self) {
        let _ = self.promise.wait(&"wait of the AsyncResult", None);
    }

    /// As [`wait`](AsyncResult::wait), but at most so long. True: it is there.
    #[track_caller]
    pub fn wait_timeout(&self, d: Duration) -> bool {
        let _ = self.promise.wait(&"wait of the AsyncResult", Some(hub::after(d)));
        self.is_ready()
    }

    /// Calls `f` with what was set; soon, but not at once, if it is set already.
    ///
    /// Links are called in the order in which they were added, in a greenlet of their own. They may
    /// wait. A panic in one is reported through [`Hub::on_error`](crate::Hub::on_error) and does not
    /// keep the others from running.
    #[track_caller]
    pub fn link(&self, f: impl FnOnce(&Result<T, E>) + 'static) -> LinkId {
        self.promise.link(Box::new(f))
    }

    /// Takes a link back. False if it has been called, or is being called, or was never there.
    pub fn unlink(&self, id: LinkId) -> bool {
        self.promise.unlink(id)
    }
}

impl<T, E> Clone for AsyncResult<T, E> {
    fn clone(&self) -> Self {
        AsyncResult { promise: Rc::clone(&self.promise) }
    }
}

impl<T: Clone + 'static, E: Clone + 'static> Default for AsyncResult<T, E> {
    #[track_caller]
    fn default() -> Self {
        AsyncResult::new()
    }
}

impl<T, E> UnwindSafe for AsyncResult<T, E> {}
impl<T, E> RefUnwindSafe for AsyncResult<T, E> {}

impl<T, E> HasLine for AsyncResult<T, E> {
    fn line(&self) -> &WaitList {
        self.promise.line()
    }
}

impl<T, E> Waitable for AsyncResult<T, E> {
    fn is_ready(&self) -> bool {
        self.promise.get().is_some()
    }
}

impl<T, E> fmt::Debug for AsyncResult<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.promise.get() {
            None => "unset",
            Some(Ok(_)) => "value",
            Some(Err(_)) => "error",
        };
        f.debug_tuple("AsyncResult").field(&format_args!("{state}")).finish()
    }
}
