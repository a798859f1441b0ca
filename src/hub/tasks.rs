//! The tasks of a hub: who runs, who is ready, and what ends a wait.
//!
//! Four things end a wait: somebody uses its ticket, its deadline comes, a timeout does, or it is
//! killed. All come through [`answer`](Tasks::answer), where the first wins and the others find the
//! ticket void.
//!
//! What a kill may do to a task depends on what it is doing:
//!
//! ```text
//!   has not begun      taken out; its body is dropped unrun
//!   waits              raised now, unless a shield or a hard wait holds it back
//!   ready, or running  marked: raised at its next wait
//!   has caught it      raised at each further wait, eight times in all; then left alone
//! ```

use std::mem;
use std::panic::Location;

use super::poller::Wakes;
use super::run_queue::RunQueue;
use super::table::Table;
use super::task::{Answer, Kill, REFUSALS, State, Task};
use super::ticket::{GreenletId, Reason, TaskId, Ticket, Wake};
use super::timers::TimerKey;
use crate::coro::{Body, StackSize};
use crate::error::{Cause, Interruption, TimeoutId};

/// So many tasks, and the turns to come are fetched ahead.
const MANY: usize = 256;

/// How many turns ahead a task, its head, and its frames are fetched.
const FAR: usize = 8;
const NEARER: usize = 4;
const NEAR: usize = 2;

/// The number that killers are woken with when their target refuses to die.
pub(crate) const REFUSED: u32 = u32::MAX / 2;

/// What a kill has to finish outside of the borrow.
pub(crate) enum Killed {
    /// Nothing: it is dead, or marked, or has been woken.
    Marked,
    /// It had not begun.
    Unrun(Unrun),
}

/// What is left of a task that was taken out before it began.
pub(crate) struct Unrun {
    pub(super) body: Body,
    /// Of the stack that was promised to it.
    pub(super) size: StackSize,
    /// The timer that was to start it.
    pub(super) start: Option<TimerKey>,
}

/// A wait that may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Interruption(Interruption),
    /// Its kill was refused for the last time: to be reported. Then the wait may begin.
    GivesUp,
}

/// Where somebody who is woken queues.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    InTurn,
    /// Before everybody who is ready.
    Next,
    /// With those whom an event or a timer has woken.
    Due,
}

#[derive(Debug)]
pub(crate) struct Tasks {
    pub(super) all: Table,
    pub(super) current: TaskId,
    /// The answer to the last wait of the current task.
    answer: Answer,
    pub(super) run: RunQueue,
    /// The thread is ending: nobody waits any more.
    pub(super) closing: bool,
}

impl Tasks {
    /// With the main greenlet, which runs.
    pub(super) fn new(site: &'static Location<'static>) -> Tasks {
        let mut all = Table::default();
        let (slot, main) = all.vacant(site);
        debug_assert_eq!(slot as usize, TaskId::MAIN.slot());
        main.begin(State::Unstarted, GreenletId::MAIN, site, 0);
        main.set_state(State::Running);
        main.extra().name = Some("main".into());
        let (current, answer) = (TaskId::MAIN, Answer::ready(0));
        Tasks { all, current, answer, run: RunQueue::default(), closing: false }
    }

    #[inline]
    pub(super) fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        self.all.get_mut(id)
    }

    /// The one that runs.
    #[inline]
    pub(super) fn running(&mut self) -> &mut Task {
        self.all.there(self.current)
    }

    pub(super) fn name_of(&self, id: TaskId) -> String {
        self.all.get(id).map(Task::name).unwrap_or_default()
    }

    pub(super) fn site_of(&self, id: TaskId) -> String {
        self.all.get(id).map(Task::spawned_at).unwrap_or_default()
    }

    // ── waiting: the running one's side ──

    /// The current task is about to suspend, and may not be woken before it has.
    #[inline]
    pub(super) fn begin_wait(&mut self, reason: Reason) -> Ticket {
        let id = self.current;
        let task = self.running();
        task.set_state(State::Parked);
        task.reason = reason;
        task.next_turn(id)
    }

    /// As `begin_wait`, if nothing is to be looked at first.
    #[inline(always)]
    pub(super) fn try_begin_wait(&mut self, reason: Reason) -> Option<Ticket> {
        let (id, closing) = (self.current, self.closing);
        let task = self.running();
        if task.attention || closing {
            return None;
        }
        task.set_state(State::Parked);
        task.reason = reason;
        Some(task.next_turn(id))
    }

    /// Has the processor fetch what the turns to come will read first. With many greenlets each turn
    /// finds nothing in the cache: neither the task, nor the head of its stack, nor its frames, and
    /// each of the three says where the next is.
    #[inline(always)]
    fn prefetch(&self) {
        if self.all.slots() < MANY {
            return; // the cache holds them all
        }
        let Some(far) = self.run.ahead(FAR) else { return };
        self.all.prefetch(far);
        let coro = |turns| self.all.get(self.run.ahead(turns)?)?.coro.as_ref();
        if let Some(coro) = coro(NEARER) {
            coro.prefetch();
        }
        if let Some(coro) = coro(NEAR) {
            coro.prefetch_frames();
        }
    }

    /// Has somebody used the ticket of the current task's last wait?
    #[inline(always)]
    pub(super) fn was_woken(&self) -> bool {
        self.answer.number().is_some()
    }

    /// It is that task's turn. `None`: there is no such task; it may have been killed before it began,
    /// and its slot be somebody else's by now.
    #[inline(always)]
    pub(super) fn take_turn(&mut self, id: TaskId) -> Option<&mut Task> {
        self.prefetch();
        let task = self.all.get_mut(id)?;
        task.set_state(State::Running);
        self.current = id;
        self.answer = task.answer;
        Some(task)
    }

    /// The current task runs again after a wait.
    #[inline]
    pub(super) fn end_wait(&mut self) -> Result<Wake, Interruption> {
        let answer = self.answer;
        match answer.number() {
            Some(number) => Ok(Wake::Ready(number)),
            None if answer == Answer::ELAPSED => Ok(Wake::Elapsed),
            None => Err(Interruption::Raised(self.raised(answer))),
        }
    }

    #[cold]
    fn raised(&mut self, answer: Answer) -> Cause {
        if answer == Answer::KILLED {
            return Cause::Killed;
        }
        let timeout = self.running().extra().raised.take();
        Cause::TimedOut(timeout.expect("whoever answers so says which"))
    }

    /// The current task goes to the end of the run queue. False: something is to be looked at
    /// first.
    #[inline]
    pub(super) fn try_yield(&mut self) -> bool {
        let (id, closing) = (self.current, self.closing);
        let task = self.running();
        if task.attention || closing {
            return false;
        }
        self.begin_yield(id);
        true
    }

    #[inline]
    pub(super) fn begin_yield(&mut self, id: TaskId) {
        self.running().set_state(State::Ready);
        self.run.push(id);
    }

    /// As `begin_yield_next`. False: nobody may switch any more.
    #[inline(always)]
    pub(super) fn try_yield_next(&mut self) -> bool {
        let may = !self.closing && !self.running().muted;
        if may {
            self.begin_yield_next();
        }
        may
    }

    /// The current task is about to suspend, and a subscriber is told so, which may do as it likes
    /// but wait. Returns what is to be given to `unmute`.
    pub(super) fn mute(&mut self) -> bool {
        let task = self.running();
        task.muted = true;
        mem::replace(&mut task.attention, true)
    }

    pub(super) fn unmute(&mut self, attention: bool) {
        let task = self.running();
        task.muted = false;
        task.attention = attention || task.kill != Kill::No;
    }

    /// The current task runs again right after whoever was named next.
    #[inline(always)]
    pub(super) fn begin_yield_next(&mut self) {
        let id = self.current;
        self.running().set_state(State::Ready);
        self.run.push_next(id);
    }

    /// Why the current task may not wait now, if so. Counts as a raise.
    #[inline]
    pub(super) fn refusal(&mut self) -> Option<Refusal> {
        if self.running().attention || self.closing { self.refusal_slow() } else { None }
    }

    #[cold]
    fn refusal_slow(&mut self) -> Option<Refusal> {
        let closing = self.closing;
        if closing && self.current == TaskId::MAIN {
            return Some(Refusal::Interruption(Interruption::Unwinding));
        }
        let task = self.running();
        if task.muted {
            return Some(Refusal::Interruption(Interruption::Unwinding));
        }
        if closing {
            // The thread ends: neither a shield nor clean-up may wait any longer.
            task.shield = 0;
            if let Kill::Held(times) = task.kill {
                task.kill = Kill::Raise(times);
            }
            if matches!(task.kill, Kill::No | Kill::Outlived) {
                task.kill = Kill::Raise(0);
            }
        }
        if task.kill_is_due() {
            if matches!(task.kill, Kill::Raise(times) if times >= REFUSALS) {
                task.kill = Kill::GivenUp;
                return Some(Refusal::GivesUp);
            }
            task.count_kill();
            return Some(Refusal::Interruption(Interruption::Raised(Cause::Killed)));
        }
        let depth = task.shield;
        let pending = &mut task.extra.as_mut()?.timeouts;
        let due = pending.iter().position(|(_, began)| *began >= depth)?;
        let (timeout, _) = pending.remove(due);
        Some(Refusal::Interruption(Interruption::Raised(Cause::TimedOut(timeout))))
    }

    // ── waking: everybody else's side ──

    /// Ends the wait named by `ticket`, unless something else ended it first.
    #[inline]
    pub(super) fn wake(&mut self, ticket: Ticket, number: u32) -> bool {
        self.answer(ticket, Answer::ready(number), Lane::InTurn)
    }

    /// As `wake`; the task runs before everybody who is ready.
    #[inline]
    pub(super) fn wake_next(&mut self, ticket: Ticket, number: u32) -> bool {
        self.answer(ticket, Answer::ready(number), Lane::Next)
    }

    #[inline(always)]
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer, lane: Lane) -> bool {
        let Some(task) = self.task(ticket.task()) else { return false };
        if task.state() != State::Parked || task.turn != ticket.turn() {
            return false;
        }
        task.answer = answer;
        task.set_state(State::Ready);
        match lane {
            Lane::InTurn => self.run.push(ticket.task()),
            Lane::Next => self.run.push_next(ticket.task()),
            Lane::Due => self.run.push_due(ticket.task()),
        }
        true
    }

    fn raise(&mut self, id: TaskId, cause: Cause, next: bool) {
        let Some(task) = self.task(id) else { return };
        let ticket = Ticket::new(id, task.turn);
        let answer = match cause {
            Cause::Killed => Answer::KILLED,
            Cause::TimedOut(timeout) => {
                task.extra().raised = Some(timeout);
                Answer::TIMED_OUT
            }
        };
        self.answer(ticket, answer, if next { Lane::Next } else { Lane::InTurn });
    }

    /// Marks a task for death, and raises it if the task waits; with `next`, it then runs before
    /// those who are ready. One that has not begun is taken out.
    pub(super) fn kill(&mut self, id: TaskId, next: bool) -> Killed {
        let Some(task) = self.task(id) else { return Killed::Marked };
        if matches!(task.state(), State::Later | State::Unstarted) {
            return self.take_out(id);
        }
        if task.kill == Kill::No {
            task.kill = Kill::Raise(0);
            task.attention = true;
            if task.state() == State::Parked && task.kill_is_due() {
                task.count_kill();
                self.raise(id, Cause::Killed, next);
            }
        }
        Killed::Marked
    }

    /// Removes a task that has not begun. A run queue may still name it, in vain.
    fn take_out(&mut self, id: TaskId) -> Killed {
        let Some(task) = self.task(id) else { return Killed::Marked };
        let (body, size) = (task.body.take(), task.size);
        let start = task.extra.as_ref().and_then(|extra| extra.start);
        self.all.remove(id);
        self.run.forget_last(id);
        body.map_or(Killed::Marked, |body| Killed::Unrun(Unrun { body, size, start }))
    }

    /// `ticket` is to hear (with [`REFUSED`]) if `target` refuses to die. False: it has refused.
    pub(super) fn watch_refusal(&mut self, target: TaskId, ticket: Ticket) -> bool {
        match self.task(target) {
            Some(task) if task.kill == Kill::GivenUp => false,
            Some(task) => {
                let mut killers = mem::take(&mut task.extra().killers);
                if killers.len().is_power_of_two() {
                    killers.retain(|killer| self.waits(*killer)); // some gave up waiting
                }
                killers.push(ticket);
                if let Some(task) = self.task(target) {
                    task.extra().killers = killers;
                }
                true
            }
            None => true,
        }
    }

    /// Is that wait still going on?
    pub(super) fn waits(&mut self, ticket: Ticket) -> bool {
        self.task(ticket.task())
            .is_some_and(|task| task.state() == State::Parked && task.turn == ticket.turn())
    }

    /// What the current task was for has ended: kills and timeouts that were meant for it go
    /// nowhere. `armed` is the youngest timeout there is, if there is any.
    pub(super) fn outlive(&mut self, armed: Option<TimeoutId>) {
        let task = self.running();
        task.kill = Kill::Outlived;
        task.attention = false;
        task.shield = 0;
        if let Some(extra) = &mut task.extra {
            extra.timeouts.clear();
        }
        if let Some(last) = armed {
            task.extra().outlived = last;
        }
    }

    /// The current task is left alone from now on; those who wait for its death hear of it.
    pub(super) fn tell_killers(&mut self) {
        let killers = self.running().extra.as_mut().map(|extra| mem::take(&mut extra.killers));
        for ticket in killers.unwrap_or_default() {
            self.wake(ticket, REFUSED);
        }
    }

    // ── what becomes due ──

    /// The time of a task has come. False: it was killed before.
    pub(super) fn start(&mut self, id: TaskId) -> bool {
        let Some(task) = self.task(id) else { return false };
        task.set_state(State::Unstarted);
        self.run.push(id);
        true
    }

    /// A timeout is due. Its task hears of it now if it waits, else at its next wait: one that was
    /// just woken has its work first.
    pub(super) fn time_out(&mut self, id: TaskId, timeout: TimeoutId, depth: u16) {
        let Some(task) = self.task(id) else { return };
        if task.extra.as_ref().is_some_and(|extra| timeout <= extra.outlived) {
            return;
        }
        if task.state() == State::Parked && task.timeout_is_due(depth) {
            self.raise(id, Cause::TimedOut(timeout), false);
        } else {
            task.attention = true;
            task.extra().timeouts.push((timeout, depth));
        }
    }

    /// The timeouts of a task that are due and have not been raised.
    pub(super) fn pending_timeouts(&mut self, id: TaskId) -> Option<&mut Vec<(TimeoutId, u16)>> {
        Some(&mut self.task(id)?.extra.as_mut()?.timeouts)
    }

    // ── the end ──

    /// The tasks that have not begun.
    pub(super) fn unrun(&self) -> Vec<TaskId> {
        let unrun = |task: &Task| matches!(task.state(), State::Later | State::Unstarted);
        self.all.iter().filter(|(_, task)| unrun(task)).map(|(id, _)| id).collect()
    }

    /// Raises a kill in all who wait, whatever holds it back, save where a borrow depends on it.
    pub(super) fn kill_all(&mut self) {
        let all: Vec<_> = self.all.iter().map(|(id, _)| id).collect();
        for id in all {
            let Some(task) = self.task(id) else { continue };
            let waits = task.state() == State::Parked && !task.hard && task.kill != Kill::GivenUp;
            if !waits || id == TaskId::MAIN {
                continue;
            }
            task.attention = true;
            task.shield = 0;
            task.kill = match task.kill {
                Kill::Raise(times) | Kill::Held(times) => Kill::Raise(times + 1),
                Kill::No | Kill::GivenUp | Kill::Outlived => Kill::Raise(1),
            };
            self.raise(id, Cause::Killed, false);
        }
    }

    /// Lets go of those who are still there, destructors unrun: with a stack is leaked what lies on
    /// it and what belongs to it, and with a body what it has captured.
    pub(super) fn leak_left(&mut self) {
        let left: Vec<_> =
            self.all.iter().map(|(id, _)| id).filter(|id| *id != TaskId::MAIN).collect();
        for id in left {
            let left = self.task(id).map(|task| (task.extra.take(), task.body.take()));
            #[expect(clippy::mem_forget, reason = "leaked on purpose, see above")]
            mem::forget(left);
        }
    }

    /// Those who are still there, the main greenlet apart.
    pub(super) fn left(&self) -> usize {
        self.all.len() - 1
    }
}

impl Wakes for Tasks {
    /// As `wake`, among those who are due.
    #[inline(always)]
    fn event(&mut self, ticket: Ticket) {
        self.answer(ticket, Answer::ready(0), Lane::Due);
    }
}
