//! `Gate`: something that greenlets of any thread use one after the other, and may take along to a
//! thread of the pool meanwhile.
//!
//! A lock of `sync` is local to its thread, and its guard cannot go anywhere. Here the guard *is*
//! what is guarded: whoever has the [`Pass`] has the value itself, and can move it into a job. If he
//! is killed while the job runs, the job has the pass, and gives it back when it is done; until then
//! nobody else gets in. That is how an abandoned read keeps its bytes, and an abandoned write is over
//! before the next begins.
//!
//! First come, first served. A pass that is given back while somebody waits is *promised* to the
//! first of them; who leaves instead of taking it promises it to the next.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::tray::{Expected, Returned};
use crate::hub::{self, Reason, TaskId};
use crate::wait::WaitList;

/// See the [module](self).
pub(crate) struct Gate<T> {
    verb: &'static &'static str,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Here, if nobody has it.
    value: Option<T>,
    /// Who has it; `None` if nobody does, or a job.
    holder: Option<(ThreadId, TaskId)>,
    /// Who may take it, before anybody else.
    promised: Option<u64>,
    /// Dropping what is in it tells its owner.
    line: VecDeque<(u64, Returned)>,
    /// The number of the next who has to wait.
    next: u64,
}

fn me() -> (ThreadId, TaskId) {
    (thread::current().id(), hub::current_task())
}

impl<T> Gate<T> {
    /// `verb` is what a dump says of those who wait.
    pub(crate) fn new(verb: &'static &'static str, value: T) -> Gate<T> {
        let state = State {
            value: Some(value),
            holder: None,
            promised: None,
            line: VecDeque::new(),
            next: 0,
        };
        Gate { verb, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the current greenlet have it?
    pub(crate) fn is_mine(&self) -> bool {
        self.state().holder == Some(me())
    }

    /// Waits for the caller's turn.
    ///
    /// # Errors
    ///
    /// If it would have to wait while the caller unwinds; if the system has no descriptor left to be
    /// woken by.
    #[track_caller]
    pub(crate) fn enter(self: &Arc<Gate<T>>) -> io::Result<Pass<T>> {
        if let Err(interruption) = hub::spend() {
            return Err(hub::raise(interruption).into());
        }
        if let Some(pass) = self.try_enter() {
            return Ok(pass);
        }
        let bell = Rc::new(Bell::default());
        let told = Returned::expect(Rc::clone(&bell) as Rc<dyn Expected>)?;
        let mut place = Place { gate: self, number: Some(self.join(told)) };
        loop {
            if let Some(pass) = place.take() {
                return Ok(pass);
            }
            // Nobody of this thread rings between the look and the wait.
            if let Err(interruption) = bell.0.wait(Reason::new(self.verb), None) {
                // What was promised just now goes to the next.
                drop(place);
                return Err(hub::raise(interruption).into());
            }
        }
    }

    /// As [`enter`](Gate::enter), if nobody is inside or waits.
    pub(crate) fn try_enter(self: &Arc<Gate<T>>) -> Option<Pass<T>> {
        let mut state = self.state();
        if state.promised.is_some() {
            return None;
        }
        let value = state.value.take()?;
        state.holder = Some(me());
        drop(state);
        Some(Pass { gate: Arc::clone(self), value: Some(value) })
    }

    fn join(&self, told: Returned) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.line.push_back((number, told));
        // It may have been given back since it was looked at.
        let first =
            if state.value.is_some() && state.promised.is_none() { state.promise() } else { None };
        drop(state);
        drop(first);
        number
    }

    fn give_back(&self, value: T) {
        let mut state = self.state();
        state.value = Some(value);
        state.holder = None;
        let first = state.promise();
        drop(state);
        drop(first); // which tells him
    }

    /// He waits no more.
    fn leave(&self, number: u64) {
        let mut state = self.state();
        let told = if state.promised == Some(number) {
            state.promise()
        } else {
            let place = state.line.iter().position(|(his, _)| *his == number);
            place.and_then(|place| state.line.remove(place)).map(|(_, told)| told)
        };
        drop(state);
        drop(told);
    }
}

impl<T> State<T> {
    /// Promises it to the first in line, who is told when what this returns is dropped.
    fn promise(&mut self) -> Option<Returned> {
        let first = self.line.pop_front();
        self.promised = first.as_ref().map(|(number, _)| *number);
        first.map(|(_, told)| told)
    }
}

/// Somebody's place in line.
struct Place<'a, T> {
    gate: &'a Arc<Gate<T>>,
    number: Option<u64>,
}

impl<T> Place<'_, T> {
    fn take(&mut self) -> Option<Pass<T>> {
        let mut state = self.gate.state();
        if state.promised != self.number {
            return None;
        }
        let value = state.value.take()?;
        state.promised = None;
        state.holder = Some(me());
        drop(state);
        self.number = None;
        Some(Pass { gate: Arc::clone(self.gate), value: Some(value) })
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.gate.leave(number);
        }
    }
}

/// Wakes one who stands in line.
#[derive(Default)]
struct Bell(WaitList);

impl Expected for Bell {
    fn come(self: Rc<Self>) {
        self.0.wake_all();
    }
}

/// The right to use what a [`Gate`] guards, and the thing itself. Dropping it lets the next one in.
pub(crate) struct Pass<T> {
    gate: Arc<Gate<T>>,
    /// `None` only while it is given back.
    value: Option<T>,
}

impl<T> Pass<T> {
    /// A job takes it along: for now it is nobody's.
    pub(crate) fn leaves(&self) {
        self.gate.state().holder = None;
    }

    /// The current greenlet has it again.
    pub(crate) fn returns(&self) {
        self.gate.state().holder = Some(me());
    }
}

impl<T> Deref for Pass<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("only its drop takes it")
    }
}

impl<T> DerefMut for Pass<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("only its drop takes it")
    }
}

impl<T> Drop for Pass<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.gate.give_back(value);
        }
    }
}

impl<T> fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("verb", self.verb).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Pass<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}
