//! Greenlets that may borrow from the caller.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use slab::Slab;

use crate::coro::{self, Lent};
use crate::error::{Cause, Interruption, JoinError};
use crate::hub::{self, Birth, Reason, TaskId};
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

use super::handle::Greenlet;
use super::spawn::{expect, spawn_with};

/// Calls `f` with a [`Scope`] whose greenlets may borrow whatever outlives this call. All of them
/// have ended when it returns, however it returns.
///
/// If `f` returns, they are waited for. If `f` panics, or the caller is killed or timed out while
/// it waits, they are killed and then waited for. [`std::thread::scope`], for greenlets.
///
/// # Panics
///
/// With the panic of `f`; or, if `f` returned, because a greenlet panicked whose result was not
/// taken by [`ScopedGreenlet::get`].
///
/// A greenlet that refuses to be killed may keep the scope from ever returning. If that leaves the
/// main greenlet with nothing to wait for, the process aborts: its borrows could not be kept valid.
///
/// # Examples
///
/// ```
/// let words = ["a", "quick", "fox"];
/// let longest = greenloom::scope(|s| {
///     let lengths: Vec<_> = words.iter().map(|word| s.spawn(|| word.len())).collect();
///     lengths.into_iter().map(|length| length.get().unwrap()).max()
/// });
/// assert_eq!(longest, Some(5));
/// ```
///
/// What is borrowed must outlive the scope:
///
/// ```compile_fail,E0373
/// greenloom::scope(|s| {
///     let word = String::from("short-lived");
///     s.spawn(|| println!("{word}"));
/// });
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let members = Rc::new(Members::default());
    let (result, interruption) = coro::lending(Rc::clone(&members), |scope| {
        let result = panic::catch_unwind(AssertUnwindSafe(|| f(scope)));
        let interruption = scope.members.end(result.is_err());
        (result, interruption)
    });
    match result {
        Err(payload) => panic::resume_unwind(payload),
        Ok(value) => {
            if let Some(interruption) = interruption {
                hub::raise(interruption);
            }
            assert!(members.panics.get() == 0, "a scoped greenlet panicked");
            value
        }
    }
}

/// Spawns greenlets that may borrow from `'env`; made by [`scope`].
pub type Scope<'scope, 'env> = coro::Scope<'scope, 'env, Rc<Members>>;

/// Those who live in a scope.
#[derive(Debug, Default)]
pub struct Members {
    alive: RefCell<Slab<Option<TaskId>>>,
    /// All are to be killed, whoever comes now included.
    is_dying: Cell<bool>,
    /// Panics that nobody has looked at.
    panics: Cell<usize>,
    /// Where the scope waits for the last of them.
    empty: WaitList,
}

impl Members {
    fn are_gone(&self) -> bool {
        self.alive.borrow().is_empty()
    }

    /// Waits for all, or kills them and waits for all. Returns what interrupted the wait, if
    /// anything did.
    fn end(&self, mut kill: bool) -> Option<Interruption> {
        let mut interrupted = None;
        while !kill && !self.are_gone() {
            if let Err(interruption) = self.empty.wait(Reason::new(&"scope"), None) {
                interrupted = Some(interruption);
                kill = true;
            }
        }
        if kill {
            self.kill();
        }
        while !self.are_gone() {
            // Nothing may end this wait but the end of the last of them.
            if self.empty.wait_hard(Reason::new(&"scope")).is_err() {
                // It never comes. There is no sound way on; `lending` says so.
                hub::report_current("waits for a scope that cannot end", "aborting".to_owned());
                break;
            }
        }
        interrupted
    }

    fn kill(&self) {
        self.is_dying.set(true);
        let alive: Vec<_> = self.alive.borrow().iter().filter_map(|(_, task)| *task).collect();
        alive.into_iter().for_each(hub::kill);
    }
}

/// A place in a scope, given up when dropped.
struct Membership {
    members: Rc<Members>,
    place: usize,
}

impl Membership {
    fn new(members: &Rc<Members>) -> Membership {
        let place = members.alive.borrow_mut().insert(None);
        Membership { members: Rc::clone(members), place }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.members.alive.borrow_mut().remove(self.place);
        if self.members.are_gone() {
            self.members.empty.wake_all();
        }
    }
}

/// Runs the body of a scoped greenlet, and counts its panic.
fn run(lent: Lent, members: &Members) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| lent.run())) {
        if !payload.is::<Cause>() {
            members.panics.set(members.panics.get() + 1);
        }
        panic::resume_unwind(payload);
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Makes a greenlet that may borrow what outlives the scope. As [`spawn`](crate::spawn) else.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        self.spawn_member(Birth::here(None), f, ())
    }

    /// As [`spawn_member`](super::spawn::spawn_member), in a scope.
    #[track_caller]
    pub(crate) fn spawn_member<F, T, M>(
        &'scope self,
        birth: Birth,
        f: F,
        membership: M,
    ) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
        M: 'static,
    {
        let value = Rc::new(Cell::new(None));
        let returned = Rc::clone(&value);
        let lent = self.lend(move || returned.set(Some(f())));
        let ours = Membership::new(&self.members);
        let place = ours.place;
        let members = Rc::clone(&self.members);
        // Dropped in this order: nobody goes on here before all others have been told.
        let memberships = (membership, ours);
        let greenlet = expect(spawn_with(birth, move || run(lent, &members), memberships));
        self.members.alive.borrow_mut()[place] = Some(greenlet.task());
        if self.members.is_dying.get() {
            greenlet.kill_nowait();
        }
        ScopedGreenlet { greenlet, value, members: &self.members }
    }
}

/// A handle to a greenlet of a [`scope`]. Dropping it lets the greenlet run on, until the scope
/// ends at the latest.
pub struct ScopedGreenlet<'scope, T> {
    greenlet: Greenlet<()>,
    value: Rc<Cell<Option<T>>>,
    members: &'scope Members,
}

impl<T> ScopedGreenlet<'_, T> {
    /// As [`Greenlet::join`].
    #[track_caller]
    pub fn join(&self) {
        self.greenlet.join();
    }

    /// As [`Greenlet::get`].
    ///
    /// # Errors
    ///
    /// As [`Greenlet::get`]. A panic that is taken here does not make the scope panic any more.
    #[track_caller]
    pub fn get(self) -> Result<T, JoinError> {
        self.greenlet.join();
        let has_ended = self.is_finished(); // or the caller unwinds, and cannot wait
        let result = self.greenlet.get();
        if has_ended && matches!(result, Err(JoinError::Panicked(_))) {
            self.members.panics.set(self.members.panics.get().saturating_sub(1));
        }
        // It returned, so it left its value.
        result.and_then(|()| self.value.take().ok_or(JoinError::Killed))
    }

    /// As [`Greenlet::kill`].
    #[track_caller]
    pub fn kill(&self) {
        self.greenlet.kill();
    }

    /// As [`Greenlet::kill_nowait`].
    pub fn kill_nowait(&self) {
        self.greenlet.kill_nowait();
    }

    /// As [`Greenlet::is_finished`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.greenlet.is_finished()
    }

    pub(crate) fn task(&self) -> TaskId {
        self.greenlet.task()
    }
}

impl<T> HasLine for ScopedGreenlet<'_, T> {
    fn line(&self) -> &WaitList {
        self.greenlet.line()
    }
}

impl<T> Waitable for ScopedGreenlet<'_, T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }
}

impl<T> fmt::Debug for ScopedGreenlet<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.greenlet.fmt(f)
    }
}
