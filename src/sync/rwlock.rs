//! `RwLock`: one writer, or any number of readers.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::holding::{Holding, must_not_wait};
use crate::hub::{self, Holder, TaskId, Wake};
use crate::wait::{self, WaitList};

/// What one stands in line for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Read = 1,
    Write = 2,
}

impl Want {
    fn verb(self) -> &'static &'static str {
        match self {
            Want::Read => &"read of the RwLock",
            Want::Write => &"write of the RwLock",
        }
    }
}

/// A value that one greenlet can change, or any number can look at, across waits.
///
/// Strictly first come, first served: a reader who comes while a writer waits stands behind him, so
/// writers do not starve. For the same reason a greenlet that reads must not read again before it
/// has dropped its first guard: a writer may have come in between. Not poisoned.
///
/// # Examples
///
/// ```
/// use greenloom::sync::RwLock;
///
/// let settings = RwLock::new(vec!["verbose"]);
/// {
///     let (one, other) = (settings.read(), settings.read());
///     assert_eq!(one.len() + other.len(), 2);
/// }
/// settings.write().push("dry-run");
/// assert_eq!(settings.into_inner().len(), 2);
/// ```
pub struct RwLock<T: ?Sized> {
    state: State,
    value: RefCell<T>,
}

struct State {
    readers: Cell<usize>,
    /// The readers' ids, added up: when one is left, it is his.
    readers_sum: Cell<u64>,
    writer: Cell<TaskId>,
    line: WaitList,
    holding: Holding,
}

impl State {
    /// May one go in now, if nobody stands in line?
    #[inline]
    fn admits(&self, want: Want) -> bool {
        let no_writer = self.writer.get() == TaskId::NOBODY;
        no_writer && (want == Want::Read || self.readers.get() == 0)
    }

    fn enter(&self, task: TaskId, want: Want) {
        match want {
            Want::Write => self.writer.set(task),
            Want::Read => {
                self.readers.set(self.readers.get() + 1);
                self.readers_sum.set(self.readers_sum.get().wrapping_add(task.number()));
            }
        }
    }

    #[inline]
    fn may_enter(&self, want: Want) -> bool {
        self.admits(want) && (self.line.is_empty() || self.line.first_waiting().is_none())
    }

    #[inline]
    fn try_enter(&self, want: Want) -> bool {
        let may = self.may_enter(want);
        if may {
            self.enter(hub::current_task(), want);
        }
        may
    }

    /// False: the time is over, or the caller unwinds.
    #[inline]
    #[track_caller]
    fn enter_within(&self, want: Want, limit: Option<Duration>) -> bool {
        if self.may_enter(want) {
            wait::spend();
            if self.try_enter(want) {
                return true;
            }
        }
        self.wait(want, limit)
    }

    #[cold]
    #[track_caller]
    fn wait(&self, want: Want, limit: Option<Duration>) -> bool {
        let reason = self.holding.reason(want.verb(), self.holder());
        match self.line.wait_as(want as u32, reason, limit.map(hub::after)) {
            Ok(Wake::Ready(_)) => true, // whoever left has let us in
            Ok(Wake::Elapsed) => {
                self.let_in(); // those behind us may have waited only because we did
                false
            }
            Err(interruption) => {
                self.let_in();
                hub::raise(interruption);
                false
            }
        }
    }

    fn leave(&self, task: TaskId, want: Want) {
        match want {
            Want::Write => self.writer.set(TaskId::NOBODY),
            Want::Read => {
                self.readers.set(self.readers.get() - 1);
                self.readers_sum.set(self.readers_sum.get().wrapping_sub(task.number()));
            }
        }
        if !self.line.is_empty() {
            self.let_in();
        }
    }

    /// Lets in whoever may go in, from the front of the line.
    fn let_in(&self) {
        while let Some(number) = self.line.first_waiting() {
            let want = if number == Want::Write as u32 { Want::Write } else { Want::Read };
            if !self.admits(want) {
                break;
            }
            if let Some((task, _)) = self.line.wake_first() {
                self.enter(task, want);
            }
        }
        self.holding.changed(self.holder());
    }

    fn holder(&self) -> Holder {
        match self.readers.get() {
            0 => Holder::One(self.writer.get()),
            1 => Holder::One(TaskId::from_number(self.readers_sum.get())),
            readers => Holder::Many(readers),
        }
    }
}

impl<T> RwLock<T> {
    /// One that guards `t`, and is free.
    #[track_caller]
    pub fn new(t: T) -> RwLock<T> {
        let state = State {
            readers: Cell::new(0),
            readers_sum: Cell::new(0),
            writer: Cell::new(TaskId::NOBODY),
            line: WaitList::default(),
            holding: Holding::new(),
        };
        RwLock { state, value: RefCell::new(t) }
    }

    /// What it guards. Nobody can hold it: it is not borrowed.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, and nobody waits to write who came before.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        if !self.state.enter_within(Want::Read, None) {
            must_not_wait("RwLock", self.state.holding.site(), "try_read");
        }
        self.read_guard()
    }

    /// Waits until nobody reads or writes, and nobody waits who came before.
    ///
    /// # Panics
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        if !self.state.enter_within(Want::Write, None) {
            must_not_wait("RwLock", self.state.holding.site(), "try_write");
        }
        self.write_guard()
    }

    /// As [`read`](RwLock::read), if it need not wait. It never switches.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.state.try_enter(Want::Read).then(|| self.read_guard())
    }

    /// As [`write`](RwLock::write), if it need not wait. It never switches.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.state.try_enter(Want::Write).then(|| self.write_guard())
    }

    /// As [`read`](RwLock::read), but waits at most so long; not at all while the caller unwinds.
    #[track_caller]
    pub fn read_timeout(&self, d: Duration) -> Option<RwLockReadGuard<'_, T>> {
        self.state.enter_within(Want::Read, Some(d)).then(|| self.read_guard())
    }

    /// As [`write`](RwLock::write), but waits at most so long; not at all while the caller unwinds.
    #[track_caller]
    pub fn write_timeout(&self, d: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        self.state.enter_within(Want::Write, Some(d)).then(|| self.write_guard())
    }

    /// What it guards, without locking: the caller has it all to himself.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// We are in.
    fn read_guard(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard {
            value: self.value.borrow(),
            state: &self.state,
            reader: hub::current_task(),
        }
    }

    /// We are in.
    fn write_guard(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard { value: self.value.borrow_mut(), state: &self.state }
    }
}

// As std's is; and a panic does not even poison it.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    #[track_caller]
    fn from(t: T) -> RwLock<T> {
        RwLock::new(t)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RwLock");
        // With the lock held: what is shown may wait, and so may whoever writes it down.
        match self.try_read() {
            Some(guard) => shown.field("value", &&*guard),
            None => shown.field("value", &format_args!("<locked>")),
        };
        shown.finish_non_exhaustive()
    }
}

/// Lets its holder look at what an [`RwLock`] guards, until it is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // Dropped after `drop` below has let others in; nobody runs in between.
    value: Ref<'a, T>,
    state: &'a State,
    /// Whoever drops it, this one has read.
    reader: TaskId,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.state.leave(self.reader, Want::Read);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Lets its holder change what an [`RwLock`] guards, until it is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // Dropped after `drop` below has let others in; nobody runs in between.
    value: RefMut<'a, T>,
    state: &'a State,
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.state.leave(TaskId::NOBODY, Want::Write);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
