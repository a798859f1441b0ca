//! `Gate`: something that greenlets of any thread use one after the other, and may take along to a
//! thread of the pool meanwhile.
//!
//! A lock of `sync` is local to its thread, and its guard cannot go anywhere. Here the guard *is*
//! what is guarded: whoever has the [`Pass`] has the value itself, and can [lend](Pass::lend) it to a
//! job. If he is killed while the job runs, the job has the pass, and gives it back when it is done;
//! until then nobody else gets in. That is how an abandoned read keeps its bytes, and an abandoned
//! write is over before the next begins.
//!
//! First come, first served. A pass that is given back while somebody waits is *promised* to the
//! first of them; who leaves instead of taking it promises it to the next.
//!
//! Who unwinds cannot stand in line, but he can hold up his thread for a moment. So he takes what is
//! promised and not taken yet, before the one it is promised to, who then waits once more; and he
//! waits for a job that was abandoned, which ends whatever this thread does. For a job that somebody
//! waits for he does not wait: that one may be of this very thread, and have the pass in his hands as
//! soon as he runs.
//!
//! # Who counts on whom
//!
//! What a job or another thread has will come back from outside, and the hub [expects](hub::expect)
//! it. What a greenlet of the same thread has will not: if all that is left is to wait for him, and
//! he waits for ever, that is a deadlock, and is to be reported. So those who stand in line are not
//! counted while somebody of their own thread has the pass. All that is counted here is of the
//! current thread, whoever else stands in line.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::blocking::blocking;
use super::tray::{Expected, Returned};
use crate::error::Unwinding;
use crate::hub::{self, Reason, TaskId};
use crate::sys::native::natively;
use crate::wait::WaitList;

/// See the [module](self).
pub(crate) struct Gate<T> {
    verb: &'static &'static str,
    state: Mutex<State<T>>,
    /// It has been given back, for those who hold up their threads.
    is_back: Condvar,
}

struct State<T> {
    /// Here, if nobody has it.
    value: Option<T>,
    /// Who has it; `None` if nobody does, or a job.
    holder: Option<(ThreadId, TaskId)>,
    /// How often it was taken.
    turn: u64,
    /// A job has it that nobody waits for.
    is_abandoned: bool,
    /// Who may take it, before anybody else who can wait.
    promised: Option<Promise>,
    line: VecDeque<InLine>,
    /// How many of a thread are in line.
    threads: Vec<(ThreadId, usize)>,
    /// The number of the next who has to wait.
    next: u64,
    /// So many hold up their threads for it.
    urgent: usize,
}

struct InLine {
    number: u64,
    thread: ThreadId,
    /// Dropping it tells him.
    told: Returned,
}

struct Promise {
    to: u64,
    /// If he has been told, has looked, and has not found it.
    told: Option<Returned>,
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
            turn: 0,
            is_abandoned: false,
            promised: None,
            line: VecDeque::new(),
            threads: Vec::new(),
            next: 0,
            urgent: 0,
        };
        Gate { verb, state: Mutex::new(state), is_back: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held.
        natively(|| self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does the current greenlet have it?
    pub(crate) fn is_mine(&self) -> bool {
        self.state().holder == Some(me())
    }

    /// Waits for the caller's turn. If he unwinds, or the hub has ended, it is his turn at once, and
    /// he waits for abandoned jobs alone, by holding up the thread.
    ///
    /// # Errors
    ///
    /// If it would have to wait for anything else while the caller unwinds; if the system has no
    /// descriptor left to be woken by.
    #[track_caller]
    pub(crate) fn enter(self: &Arc<Gate<T>>) -> io::Result<Pass<T>> {
        if thread::panicking() || hub::has_ended() {
            return self.enter_at_once();
        }
        if let Err(interruption) = hub::spend() {
            return Err(hub::raise(interruption).into());
        }
        if let Some(pass) = self.try_enter() {
            return Ok(pass);
        }
        let bell = Rc::new(Bell::default());
        let to_be_told = || Returned::expect(Rc::clone(&bell) as Rc<dyn Expected>);
        let mut place = Place { gate: self, number: Some(self.join(to_be_told()?)) };
        loop {
            match place.look() {
                Look::Pass(pass) => return Ok(pass),
                Look::Overtaken => {
                    place.wait_once_more(to_be_told()?);
                    continue;
                }
                Look::Waits => {}
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
    fn try_enter(self: &Arc<Gate<T>>) -> Option<Pass<T>> {
        let mut state = self.state();
        if state.promised.is_some() || state.urgent > 0 {
            return None;
        }
        self.pass(state.take())
    }

    fn enter_at_once(self: &Arc<Gate<T>>) -> io::Result<Pass<T>> {
        let mut state = self.state();
        if state.is_abandoned {
            state.urgent += 1;
            while state.value.is_none() {
                state = self.is_back.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.urgent -= 1;
        }
        self.pass(state.take()).ok_or_else(|| Unwinding.into())
    }

    fn pass(self: &Arc<Gate<T>>, value: Option<T>) -> Option<Pass<T>> {
        let value = value?;
        Some(Pass { gate: Arc::clone(self), value: Some(value) })
    }

    fn join(&self, told: Returned) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let thread = thread::current().id();
        state.line.push_back(InLine { number, thread, told });
        *state.of_thread(thread) += 1;
        if state.is_held_here() {
            hub::has_come(1);
        }
        // It may have been given back since it was looked at.
        let first = if state.promised.is_none() { state.call() } else { None };
        drop(state);
        drop(first);
        number
    }

    fn give_back(&self, value: T) {
        let mut state = self.state();
        state.let_go();
        state.is_abandoned = false;
        state.value = Some(value);
        let first = state.call();
        let is_urgent = state.urgent > 0;
        drop(state);
        if is_urgent {
            self.is_back.notify_all();
        }
        drop(first); // which tells him
    }

    /// He waits no more.
    fn leave(&self, number: u64) {
        let mut state = self.state();
        let (his, first) = match &mut state.promised {
            Some(promise) if promise.to == number => {
                let his = promise.told.take();
                state.promised = None;
                (his, state.call())
            }
            _ => {
                let his = state.take_out(number);
                if his.is_some() && state.is_held_here() {
                    expect(1); // his leaving comes by the same way
                }
                (his, None)
            }
        };
        drop(state);
        drop((his, first));
    }

    /// Nobody waits any more for the job that has it, if it has it still.
    fn abandon(&self, turn: u64) {
        let mut state = self.state();
        if state.turn == turn && state.value.is_none() && state.holder.is_none() {
            state.is_abandoned = true;
        }
    }
}

impl<T> State<T> {
    /// The current greenlet has it from now on.
    fn take(&mut self) -> Option<T> {
        let value = self.value.take()?;
        self.turn += 1;
        self.hold();
        Some(value)
    }

    fn hold(&mut self) {
        let me = me();
        self.holder = Some(me);
        hub::has_come(*self.of_thread(me.0));
    }

    /// It goes to a job, or back.
    fn let_go(&mut self) {
        if let Some((thread, _)) = self.holder.take() {
            debug_assert_eq!(thread, thread::current().id(), "a pass is sent by lending it");
            expect(*self.of_thread(thread));
        }
    }

    /// Does somebody of this thread have it?
    fn is_held_here(&self) -> bool {
        self.holder.is_some_and(|(thread, _)| thread == thread::current().id())
    }

    /// How many of that thread are in line.
    fn of_thread(&mut self, thread: ThreadId) -> &mut usize {
        let at = self.threads.iter().position(|(its, _)| *its == thread).unwrap_or_else(|| {
            self.threads.retain(|(_, count)| *count > 0);
            self.threads.push((thread, 0));
            self.threads.len() - 1
        });
        &mut self.threads[at].1
    }

    /// If it is here, says so to the one it is promised to, or promises it to the first in line. He
    /// is told when what this returns is dropped.
    fn call(&mut self) -> Option<Returned> {
        if self.value.is_none() || self.urgent > 0 {
            return None; // when it comes back
        }
        if let Some(promise) = &mut self.promised {
            return promise.told.take();
        }
        let InLine { number, thread, told } = self.line.pop_front()?;
        *self.of_thread(thread) -= 1;
        self.promised = Some(Promise { to: number, told: None });
        Some(told)
    }

    fn take_out(&mut self, number: u64) -> Option<Returned> {
        let at = self.line.iter().position(|his| his.number == number)?;
        let InLine { thread, told, .. } = self.line.remove(at)?;
        *self.of_thread(thread) -= 1;
        Some(told)
    }
}

fn expect(count: usize) {
    if !hub::has_ended() {
        (0..count).for_each(|_| hub::expect());
    }
}

/// Somebody's place in line.
struct Place<'a, T> {
    gate: &'a Arc<Gate<T>>,
    number: Option<u64>,
}

enum Look<T> {
    Pass(Pass<T>),
    /// It is promised, and somebody who could not wait was faster: who looks must be told again.
    Overtaken,
    Waits,
}

impl<T> Place<'_, T> {
    fn look(&mut self) -> Look<T> {
        let mut state = self.gate.state();
        let is_urgent = state.urgent > 0;
        let was_told = match &state.promised {
            Some(promise) if Some(promise.to) == self.number => promise.told.is_none(),
            _ => return Look::Waits,
        };
        let value = if is_urgent { None } else { state.take() };
        match self.gate.pass(value) {
            Some(pass) => {
                let told = state.promised.take();
                drop(state);
                drop(told);
                self.number = None;
                Look::Pass(pass)
            }
            None if was_told => Look::Overtaken,
            None => Look::Waits,
        }
    }

    /// He is to be told when what he was promised is back.
    fn wait_once_more(&mut self, told: Returned) {
        let mut state = self.gate.state();
        if let Some(promise) = &mut state.promised {
            promise.told = Some(told);
        }
        let is_back = state.call();
        drop(state);
        drop(is_back);
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

impl<T: Send + 'static> Pass<T> {
    /// Has a thread of the files' pool call `f`, which has it to itself meanwhile, and waits for
    /// what it returns.
    ///
    /// If the caller is killed or timed out while he waits, the job gives the pass back when it is
    /// done.
    ///
    /// # Errors
    ///
    /// As [`blocking`].
    #[track_caller]
    pub(crate) fn lend<R: Send + 'static>(
        mut self,
        f: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> io::Result<(Pass<T>, R)> {
        // One who has many jobs done, each of them faster than he looks, never waits.
        if let Err(interruption) = hub::spend() {
            drop(self);
            return Err(hub::raise(interruption).into());
        }
        let lent = Lent::to_a_job(&self.gate);
        let (pass, result) = blocking(move || {
            let result = f(&mut self);
            (self, result)
        })?;
        lent.came_back();
        Ok((pass, result))
    }
}

/// A job has it, and somebody waits for the job, until this is dropped.
struct Lent<T> {
    /// `None` if it is back.
    gate: Option<Arc<Gate<T>>>,
    turn: u64,
}

impl<T> Lent<T> {
    fn to_a_job(gate: &Arc<Gate<T>>) -> Lent<T> {
        let mut state = gate.state();
        state.let_go();
        Lent { gate: Some(Arc::clone(gate)), turn: state.turn }
    }

    fn came_back(mut self) {
        if let Some(gate) = self.gate.take() {
            gate.state().hold();
        }
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.abandon(self.turn);
        }
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
