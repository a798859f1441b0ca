//! `Pool`: a group of at most so many.

use std::fmt;
use std::io;
use std::panic::{self, RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::crew::{Crew, Errand, Refusal, Verbs};
use super::imap::{Imap, ImapUnordered, UNBOUNDED};
use super::map;
use crate::error::{JoinError, SpawnError};
use crate::greenlet::{self, Greenlet};
use crate::hub::{self, Birth};
use crate::wait::Limit;

const VERBS: Verbs = Verbs {
    spawn: "spawn of the Pool",
    join: "join of the Pool",
    kill: "kill of the Pool",
    available: "wait_available of the Pool",
};

/// A group of at most `size` greenlets. A handle: clones name the same pool.
///
/// Whoever wants to spawn while so many run waits for a slot, first come, first served. A slot is
/// free again when its greenlet has ended, however it has ended, before anybody hears of that.
/// gevent's `pool.Pool`; `multiprocessing.pool`'s words.
///
/// A member that spawns into its own full pool waits like anybody else; if all do, they wait for
/// ever, and the report of [`BlocksForever`](crate::BlocksForever) names the pool. ([`Pool::apply`]
/// runs its function in place there.)
///
/// # Examples
///
/// ```
/// use greenloom::{pool::Pool, sleep};
/// use std::time::Duration;
///
/// let fetch = |page: u64| {
///     sleep(Duration::from_millis(page));
///     format!("page {page}")
/// };
/// let pool = Pool::new(10); // ten at a time
/// assert_eq!(pool.map(0..20, fetch)[7], "page 7");
/// assert_eq!(pool.imap_unordered(1..=20, fetch).count(), 20);
/// ```
#[derive(Clone)]
pub struct Pool {
    crew: Rc<Crew>,
}

impl Pool {
    /// One with so many slots, all free.
    ///
    /// # Panics
    ///
    /// If `size` is 0: nobody could ever run in it.
    #[must_use]
    #[track_caller]
    pub fn new(size: usize) -> Pool {
        assert!(size > 0, "a pool needs at least one slot");
        Pool { crew: Crew::new(size, &VERBS) }
    }

    #[track_caller]
    fn check_open(&self) {
        assert!(!self.is_closed(), "the pool has been closed");
    }

    /// As [`spawn`](crate::spawn), once there is a slot. While the caller unwinds it does not wait
    /// for one: the greenlet is queued, as by [`apply_async`](Pool::apply_async). So it is for a
    /// member that cleans up while the pool is being killed.
    ///
    /// # Panics
    ///
    /// If the pool has been closed; as [`spawn`](crate::spawn) else.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.check_open();
        match self.crew.enter(Limit::Forever) {
            Ok(membership) => self.crew.spawn(Birth::here(None), membership, f),
            Err(_) => self.crew.queue(f),
        }
    }

    /// As [`spawn`](Pool::spawn), if there is a slot. It never waits, and never switches.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Full`] or [`SpawnError::Closed`], with `f` inside.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> Result<Greenlet<T>, SpawnError<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.spawn_within(f, Limit::Never)
    }

    /// As [`spawn`](Pool::spawn), but waits at most so long.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Elapsed`] if the time was over before there was a slot, [`SpawnError::Full`] if
    /// there is none while the caller unwinds, or [`SpawnError::Closed`]; with `f` inside.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn_timeout<F, T>(&self, f: F, d: Duration) -> Result<Greenlet<T>, SpawnError<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.spawn_within(f, Limit::Within(d))
    }

    #[track_caller]
    fn spawn_within<F, T>(&self, f: F, limit: Limit) -> Result<Greenlet<T>, SpawnError<F>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        if self.is_closed() {
            return Err(SpawnError::Closed(f));
        }
        match self.crew.enter(limit) {
            Ok(membership) => Ok(self.crew.spawn(Birth::here(None), membership, f)),
            Err(Refusal::Elapsed) => Err(SpawnError::Elapsed(f)),
            Err(Refusal::Full | Refusal::Unwinding) => Err(SpawnError::Full(f)),
        }
    }

    /// Calls `f` for every item, each in a greenlet of the pool, and returns what it returned, in the
    /// order of the items.
    ///
    /// `f` and the items may borrow from the caller: all have ended when this returns, also when it
    /// unwinds. The input is pulled as slots become free. While the caller unwinds, `f` is called in
    /// place.
    ///
    /// # Panics
    ///
    /// If `f` panics: no further item is started, those that run end by themselves, and the panic of
    /// the first of them, in the order of the items, is raised here. Likewise if the input panics,
    /// or the work on an item is killed.
    ///
    /// # Examples
    ///
    /// ```
    /// let words = ["a", "quick", "fox"];
    /// let pool = greenloom::pool::Pool::new(2);
    /// assert_eq!(pool.map(&words, |word| word.len()), [1, 5, 3]);
    /// ```
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> Vec<T>
    where
        I: IntoIterator,
        F: Fn(I::Item) -> T,
    {
        self.check_open();
        map::map(&self.crew, items, f)
    }

    /// As [`map`](Pool::map), but what is returned is an iterator over the results, in the order of
    /// the items, and everything is owned.
    ///
    /// A greenlet of its own pulls the input and starts the work, at once and not only when results
    /// are asked for. At most `size` items are at work or have results that nobody has read; one more
    /// may have been pulled from the input, which may be endless, and may wait. So nothing more is
    /// started while nobody reads, and [`join`](Pool::join) does not wait for that.
    ///
    /// A panic of `f` is raised by the `next` that comes to its item, and one of the input in its
    /// place; then it goes on. Dropping the iterator starts nothing more and kills what runs.
    ///
    /// # Panics
    ///
    /// If the pool has been closed.
    #[track_caller]
    pub fn imap<I, F, T>(&self, items: I, f: F) -> Imap<T>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        F: Fn(I::Item) -> T + 'static,
        T: 'static,
    {
        self.check_open();
        Imap::new(&self.crew, items, f, self.size())
    }

    /// As [`imap`](Pool::imap), but all of the input is worked on, whether results are read or not.
    #[track_caller]
    pub(crate) fn imap_all<I, F, T>(&self, items: I, f: F) -> Imap<T>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        F: Fn(I::Item) -> T + 'static,
        T: 'static,
    {
        Imap::new(&self.crew, items, f, UNBOUNDED)
    }

    /// As [`imap`](Pool::imap), but results come as they are ready. A panic of the input is raised
    /// after them.
    ///
    /// # Panics
    ///
    /// If the pool has been closed.
    #[track_caller]
    pub fn imap_unordered<I, F, T>(&self, items: I, f: F) -> ImapUnordered<T>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        F: Fn(I::Item) -> T + 'static,
        T: 'static,
    {
        self.check_open();
        ImapUnordered::new(&self.crew, items, f, self.size())
    }

    /// Runs `f` in the pool, and waits for what it returns. If the caller is killed meanwhile, so is
    /// the job. A member of the pool, and a caller that unwinds, run `f` in place.
    ///
    /// # Panics
    ///
    /// With the panic of `f`; if the job is killed; if the pool has been closed.
    #[track_caller]
    pub fn apply<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        if thread::panicking() || self.crew.has(hub::current_task()) {
            return f();
        }
        self.check_open();
        let job = KillOnDrop(self.spawn(f));
        job.0.join();
        match job.into_result() {
            Ok(value) => value,
            Err(JoinError::Panicked(payload)) => panic::resume_unwind(payload),
            Err(JoinError::Killed) => panic!("the job was killed"),
        }
    }

    /// Runs `f` in the pool, as soon as there is a slot. It never waits: a job that finds no slot is
    /// queued, in the same line as those who wait in [`spawn`](Pool::spawn). (A queued job has its
    /// stack already, and so a page of memory.)
    ///
    /// # Panics
    ///
    /// If the pool has been closed; as [`spawn`](crate::spawn) else.
    #[track_caller]
    pub fn apply_async<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.check_open();
        self.crew.queue(f)
    }

    /// As [`apply_async`](Pool::apply_async), for those who say how it is born and can do something
    /// about it that there is no stack, or that the pool has been closed.
    pub(crate) fn try_queue<F, T>(&self, birth: Birth, f: F) -> io::Result<Greenlet<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        if self.is_closed() {
            return Err(io::Error::other("the pool has been closed"));
        }
        self.crew.try_queue(birth, f)
    }

    /// As [`apply_async`](Pool::apply_async); with the end of the job, one of the two is called:
    /// `callback` with what `f` returned, or `error` with why it did not.
    ///
    /// It is called in a greenlet of its own, outside of the pool, and may wait. [`join`](Pool::join)
    /// waits for it, too. A panic in it is reported as that of any greenlet.
    ///
    /// # Panics
    ///
    /// As [`apply_async`](Pool::apply_async).
    #[track_caller]
    pub fn apply_cb<F, T>(
        &self,
        f: F,
        callback: impl FnOnce(T) + 'static,
        error: impl FnOnce(JoinError) + 'static,
    ) where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let job = self.apply_async(f);
        let errand = Errand::new(&self.crew);
        let wait = move || match job.get() {
            Ok(value) => callback(value),
            Err(why) => error(why),
        };
        greenlet::spawn_member(Birth::here(Some("callback".into())), wait, errand);
    }

    /// How many slots there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.crew.size()
    }

    /// How many greenlets run in it. Queued jobs do not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.crew.len()
    }

    /// Do none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many slots are free.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.crew.free()
    }

    /// Is none?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free_count() == 0
    }

    /// Waits until a `spawn` would not have to wait. It takes no slot. While the caller unwinds, it
    /// returns at once.
    #[track_caller]
    pub fn wait_available(&self) {
        self.crew.wait_available(Limit::Forever);
    }

    /// As [`wait_available`](Pool::wait_available), but at most so long. True: there is a slot.
    #[track_caller]
    pub fn wait_available_timeout(&self, d: Duration) -> bool {
        self.crew.wait_available(Limit::Within(d))
    }

    /// From now on nothing can be spawned or applied. What is in the pool goes on; so do those who
    /// wait in `spawn` already, queued jobs, and the `map` and `imap` that have begun.
    pub fn close(&self) {
        self.crew.close();
    }

    /// Has it been [closed](Pool::close)?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.crew.is_closed()
    }

    /// Waits until nothing runs in the pool and nothing is queued, or has been so at some time since;
    /// callbacks of [`apply_cb`](Pool::apply_cb) included. The pool need not be closed. While the
    /// caller unwinds, it returns at once.
    #[track_caller]
    pub fn join(&self) {
        self.crew.join(Limit::Forever);
    }

    /// As [`join`](Pool::join), but at most so long. True: nothing was left.
    #[track_caller]
    pub fn join_timeout(&self, d: Duration) -> bool {
        self.crew.join(Limit::Within(d))
    }

    /// Kills what has not begun, and lets what runs go on.
    pub(crate) fn kill_unrun(&self) {
        self.crew.kill_unrun();
    }

    /// Kills all that run in the pool, in the order in which they came, and all that is queued, and
    /// waits until they have ended. `multiprocessing.pool`'s `terminate`, except that the pool can
    /// be used afterwards.
    ///
    /// While this goes on nobody is let in; those who wait in `spawn` go on waiting, and are let in
    /// afterwards. A member that kills its pool goes last. One that refuses is left alone after a
    /// while (see [`Greenlet::kill`]).
    #[track_caller]
    pub fn kill(&self) {
        self.crew.kill(Limit::Forever);
    }

    /// As [`kill`](Pool::kill), but waits at most so long. False: some are still alive.
    #[track_caller]
    pub fn kill_timeout(&self, d: Duration) -> bool {
        self.crew.kill(Limit::Within(d))
    }
}

/// A job that is of no use to anybody but the one who waits for it.
struct KillOnDrop<T: 'static>(Greenlet<T>);

impl<T> KillOnDrop<T> {
    /// How it ended; it has.
    #[track_caller]
    fn into_result(self) -> Result<T, JoinError> {
        // It has ended, so that the kill at the end of this does nothing.
        self.0.take_result().unwrap_or(Err(JoinError::Killed))
    }
}

impl<T> Drop for KillOnDrop<T> {
    fn drop(&mut self) {
        self.0.kill_nowait();
    }
}

impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
