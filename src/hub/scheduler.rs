//! The clockwork itself: who runs, who waits, and what ends a wait.
//!
//! Plain state with methods that return what is to be done; it never switches stacks, never looks
//! at thread-locals and never calls a stranger's code, because all of it happens under one borrow
//! (see `current`). Whatever has a destructor of the user's inside is handed out to be dropped
//! there.
//!
//! Four things end a wait: somebody uses its ticket ([`wake`](Scheduler::wake)), its deadline or a
//! timeout comes ([`look`](Scheduler::look)), or it is interrupted ([`kill`](Scheduler::kill)).
//! All come through `wake`, where the first wins and the others find the ticket void.

use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, mem};

use slab::Slab;

use super::inbox::{Inbox, Job};
use super::line::{Line, LineKey};
use super::poller::Poller;
use super::run_queue::RunQueue;
use super::task::{Answer, Extra, Kill, REFUSALS, State, Task};
use super::ticket::{GreenletId, Reason, TaskId, Ticket, Wake};
use super::timers::{TimerKey, Timers};
use crate::coro::{Coro, Label, Resumed, Stack, StackPool, StackSize};
use crate::error::{BlocksForever, Cause, Interruption, TimeoutId};
use crate::sys::fault::HandlerStack;

/// Switches after which the hub looks at timers and descriptors although somebody could run.
const LOOK_EVERY: u32 = 64;

/// Calls in a row that need not wait, after which one yields all the same.
const BUDGET: u32 = 128;

/// How long such calls may go on without a look.
const SLICE: Duration = Duration::from_millis(2);

/// How often free stacks are asked for their memory.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// The number that killers are woken with when their target refuses to die.
pub(crate) const REFUSED: u32 = u32::MAX / 2;

/// What becomes due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    /// A sleep is over: that is work, and comes before timeouts of the same moment.
    Sleep(Ticket),
    /// A task is to start.
    Start(TaskId),
    /// A wait's own deadline.
    Deadline(Ticket),
    /// A `Timeout` of a task, begun under so many shields.
    Timeout(TaskId, TimeoutId, u16),
}

/// What a wait's deadline is to the one who waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AlarmKind {
    /// What it waits for.
    Sleep,
    /// A limit to it.
    Deadline,
}

/// Why the loop has nobody to resume right now. One word, like everything that passes between the
/// loop and the scheduler at every switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It is the main greenlet's turn.
    Main,
    /// Something has come from another thread: [`Scheduler::arrivals`].
    Arrivals,
    /// A task has left something to be dropped outside of the borrow: [`Scheduler::remains`].
    Remains,
    /// The main greenlet waits and nothing can wake anybody.
    Stuck,
}

/// What a kill has to finish outside of the borrow.
#[derive(Debug)]
pub(crate) enum Killed {
    /// Nothing: it is dead, or marked, or has been woken.
    Marked,
    /// It had not begun. Its body is in here.
    Unrun(Coro, Option<Box<Extra>>),
}

/// A wait that may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Interruption(Interruption),
    /// Its kill was refused for the last time: to be reported. Then the wait may begin.
    GivesUp,
}

/// What `spawn` is told about a task.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) size: StackSize,
    pub(crate) name: Option<Rc<str>>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) start: Start,
}

/// When a task first runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// After those who are ready.
    InTurn,
    /// Before those who are ready.
    Next,
    At(Instant),
}

pub(crate) struct Scheduler {
    pub(super) tasks: Slab<Task>,
    pub(super) current: TaskId,
    run: RunQueue,
    /// Those who wait for nothing else to be ready.
    idlers: Line<Ticket>,
    timers: Timers<Alarm>,
    pub(super) poller: Poller,
    inbox: Option<Inbox>,
    pub(super) stacks: StackPool,
    opened: Instant,
    /// The time of the last look, and the same in nanoseconds since `opened`.
    now: Instant,
    now_nanos: u64,
    reaped: Instant,
    switches: u32,
    /// Calls since the last switch that did not wait.
    spent: u32,
    births: u64,
    timeouts: u64,
    /// The thread is ending.
    pub(super) closing: bool,
    /// The report of a wait that nothing could end, on its way to be raised.
    pub(super) stuck: Option<BlocksForever>,
    woken: Vec<Ticket>,
    /// Of tasks that have ended.
    remains: Option<Box<Extra>>,
    arrived: Vec<Job>,
    /// Why `next` has named nobody.
    pub(super) pause: Pause,
    _handler_stack: Option<HandlerStack>,
}

impl Scheduler {
    pub(super) fn new(
        site: &'static Location<'static>,
        handler_stack: Option<HandlerStack>,
    ) -> Scheduler {
        let now = Instant::now();
        let mut tasks = Slab::new();
        let mut main = Task::new(State::Unstarted, GreenletId(0), site, 0);
        main.set_state(State::Running);
        main.extra().name = Some("main".into());
        let slot = tasks.insert(main);
        debug_assert_eq!(slot, TaskId::MAIN.slot());
        Scheduler {
            tasks,
            current: TaskId::MAIN,
            run: RunQueue::default(),
            idlers: Line::default(),
            timers: Timers::default(),
            poller: Poller::default(),
            inbox: None,
            stacks: StackPool::default(),
            opened: now,
            now,
            now_nanos: 0,
            reaped: now,
            switches: 0,
            spent: 0,
            births: 0,
            timeouts: 0,
            closing: false,
            stuck: None,
            woken: Vec::new(),
            remains: None,
            arrived: Vec::new(),
            pause: Pause::Main,
            _handler_stack: handler_stack,
        }
    }

    // ── tasks ──

    #[inline]
    pub(super) fn task(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(id.slot()).filter(|task| task.generation() == id.generation())
    }

    /// The one that runs.
    #[inline]
    pub(super) fn running(&mut self) -> &mut Task {
        &mut self.tasks[self.current.slot()]
    }

    /// Puts `body` on a stack of its own and into the run queue, or among the timers.
    ///
    /// The body must not panic. It is left with the caller if there is no stack for it, because
    /// dropping it here would run destructors of the user's under the borrow.
    #[inline]
    pub(super) fn spawn<F>(
        &mut self,
        birth: Birth,
        body: &mut Option<F>,
    ) -> io::Result<(TaskId, GreenletId)>
    where
        F: FnOnce() + 'static,
    {
        let stack = self.stacks.lease(birth.size)?;
        let Some(body) = body.take() else { return Err(io::ErrorKind::InvalidInput.into()) };
        self.births += 1;
        let (generation, id) = (self.births as u32, GreenletId(self.births));
        let label = Label { number: self.births, name: birth.name.clone() };
        let is_later = matches!(birth.start, Start::At(_));
        let state = if is_later { State::Later } else { State::Unstarted };
        let mut task = Task::new(state, id, birth.site, self.now_nanos);
        task.coro = Some(Coro::new(stack, label, body));
        if birth.name.is_some() {
            task.extra().name = birth.name;
        }
        let slot = self.tasks.vacant_key() as u32;
        let task_id = TaskId::new(slot, generation);
        match birth.start {
            Start::InTurn => self.run.push(task_id),
            Start::Next => self.run.push_next(task_id),
            Start::At(at) => {
                task.extra().start = Some(self.timers.insert(at, Alarm::Start(task_id)))
            }
        }
        self.tasks.insert(task);
        Ok((task_id, id))
    }

    /// The current task has suspended. Who is next?
    #[inline]
    pub(super) fn suspended(&mut self, coro: Coro) -> Option<Coro> {
        self.running().coro = Some(coro);
        self.next()
    }

    /// The current task has ended. Who is next?
    #[inline]
    pub(super) fn ended(&mut self, coro: Coro) -> Option<Coro> {
        if let Some(stack) = coro.into_stack() {
            self.stacks.put_back(stack);
        }
        let extra = self.tasks.remove(self.current.slot()).extra;
        if extra.is_some() {
            self.remains = extra;
            self.pause = Pause::Remains;
            return None;
        }
        self.next()
    }

    /// What the task that has just ended has left.
    pub(super) fn remains(&mut self) -> Option<Box<Extra>> {
        self.remains.take()
    }

    pub(super) fn put_back(&mut self, stack: Stack) {
        self.stacks.put_back(stack);
    }

    pub(super) fn name_of(&self, id: TaskId) -> String {
        self.tasks.get(id.slot()).map(Task::name).unwrap_or_default()
    }

    pub(super) fn site_of(&self, id: TaskId) -> String {
        self.tasks.get(id.slot()).map(Task::spawned_at).unwrap_or_default()
    }

    // ── waiting: the current task's side ──

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
        if closing {
            // The thread ends: neither a shield nor clean-up may wait any longer.
            task.shield = 0;
            if let Kill::Held(times) = task.kill {
                task.kill = Kill::Raise(times);
            }
            if task.kill == Kill::No {
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

    /// The current task is about to suspend, and may not be woken before it has.
    #[inline]
    pub(super) fn begin_wait(&mut self, reason: Reason) -> Ticket {
        let id = self.current;
        let task = self.running();
        task.set_state(State::Parked);
        task.reason = reason;
        task.next_turn(id)
    }

    /// Ends the wait of `ticket` at that time, if nothing else does.
    pub(super) fn set_alarm(&mut self, ticket: Ticket, at: Instant, kind: AlarmKind) -> TimerKey {
        let alarm = match kind {
            AlarmKind::Sleep => Alarm::Sleep(ticket),
            AlarmKind::Deadline => Alarm::Deadline(ticket),
        };
        self.timers.insert(at, alarm)
    }

    pub(super) fn cancel_alarm(&mut self, key: TimerKey) {
        self.timers.cancel(key);
    }

    /// The current task runs again after a wait.
    #[inline]
    pub(super) fn end_wait(&mut self) -> Result<Wake, Interruption> {
        let answer = self.running().answer;
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

    /// The current task runs again right after whoever was named next.
    pub(super) fn begin_yield_next(&mut self) {
        let id = self.current;
        self.running().set_state(State::Ready);
        self.run.push_next(id);
    }

    /// Counts a call that need not wait. True: it is time to yield.
    #[inline]
    pub(super) fn spend(&mut self) -> bool {
        self.spent += 1;
        if self.spent % 8 != 0 {
            return cfg!(hard_switch);
        }
        self.spent >= BUDGET || self.now.elapsed() >= SLICE || cfg!(hard_switch)
    }

    // ── waking: everybody else's side ──

    /// Ends the wait named by `ticket`, unless something else ended it first.
    #[inline]
    pub(super) fn wake(&mut self, ticket: Ticket, number: u32) -> bool {
        self.answer(ticket, Answer::ready(number), false)
    }

    /// As `wake`; the task runs before everybody who is ready.
    pub(super) fn wake_next(&mut self, ticket: Ticket) -> bool {
        self.answer(ticket, Answer::ready(0), true)
    }

    #[inline]
    fn answer(&mut self, ticket: Ticket, answer: Answer, next: bool) -> bool {
        let Some(task) = self.task(ticket.task) else { return false };
        if task.state() != State::Parked || task.turn != ticket.turn {
            return false;
        }
        task.answer = answer;
        task.set_state(State::Ready);
        if next {
            self.run.push_next(ticket.task)
        } else {
            self.run.push(ticket.task)
        }
        true
    }

    fn raise(&mut self, id: TaskId, cause: Cause, next: bool) {
        let Some(task) = self.task(id) else { return };
        let ticket = Ticket { task: id, turn: task.turn };
        let answer = match cause {
            Cause::Killed => Answer::KILLED,
            Cause::TimedOut(timeout) => {
                task.extra().raised = Some(timeout);
                Answer::TIMED_OUT
            }
        };
        self.answer(ticket, answer, next);
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
        let mut task = self.tasks.remove(id.slot());
        if let Some(start) = task.extra.as_ref().and_then(|extra| extra.start) {
            self.timers.cancel(start);
        }
        match task.coro.take() {
            Some(coro) => Killed::Unrun(coro, task.extra),
            None => Killed::Marked,
        }
    }

    /// `ticket` is to hear (with [`REFUSED`]) if `target` refuses to die. False: it has refused.
    pub(super) fn watch_refusal(&mut self, target: TaskId, ticket: Ticket) -> bool {
        match self.task(target) {
            Some(task) if task.kill == Kill::GivenUp => false,
            Some(task) => {
                task.extra().killers.push(ticket);
                true
            }
            None => true,
        }
    }

    /// The current task is left alone from now on; those who wait for its death hear of it.
    pub(super) fn tell_killers(&mut self) {
        let killers = self.running().extra.as_mut().map(|extra| mem::take(&mut extra.killers));
        for ticket in killers.unwrap_or_default() {
            self.wake(ticket, REFUSED);
        }
    }

    // ── timeouts ──

    /// Arms a timeout for the current task.
    pub(super) fn start_timeout(&mut self, at: Instant) -> (TimeoutId, TimerKey) {
        self.timeouts += 1;
        let (id, task) = (TimeoutId(self.timeouts), self.current);
        let depth = self.running().shield;
        (id, self.timers.insert(at, Alarm::Timeout(task, id, depth)))
    }

    /// True if it had not been raised.
    pub(super) fn cancel_timeout(&mut self, task: TaskId, id: TimeoutId, key: TimerKey) -> bool {
        if self.timers.cancel(key).is_some() {
            return true;
        }
        let Some(pending) = self.pending_timeouts(task) else { return false };
        let before = pending.len();
        pending.retain(|(pending, _)| *pending != id);
        pending.len() < before
    }

    pub(super) fn timeout_is_pending(
        &mut self,
        task: TaskId,
        id: TimeoutId,
        key: TimerKey,
    ) -> bool {
        self.timers.contains(key)
            || self
                .pending_timeouts(task)
                .is_some_and(|pending| pending.iter().any(|(at, _)| *at == id))
    }

    fn pending_timeouts(&mut self, task: TaskId) -> Option<&mut Vec<(TimeoutId, u16)>> {
        Some(&mut self.task(task)?.extra.as_mut()?.timeouts)
    }

    // ── the loop's side ──

    /// Chooses who runs next; waits for events if nobody can.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Coro> {
        loop {
            self.switches += 1;
            if self.switches >= LOOK_EVERY {
                self.look(Some(Duration::ZERO));
                if self.have_arrived() {
                    self.pause = Pause::Arrivals;
                    return None;
                }
            }
            while let Some(id) = self.run.pop() {
                // It may have been killed before it began, and its slot be somebody else's by now.
                let Some(task) = self.task(id) else { continue };
                task.set_state(State::Running);
                let coro = task.coro.take();
                self.current = id;
                self.spent = 0;
                if coro.is_none() {
                    self.pause = Pause::Main;
                }
                return coro;
            }
            if let Some(pause) = self.idle() {
                self.pause = pause;
                return None;
            }
        }
    }

    /// Nobody can run.
    #[cold]
    fn idle(&mut self) -> Option<Pause> {
        if self.have_arrived() {
            return Some(Pause::Arrivals);
        }
        if !self.idlers.is_empty() {
            self.look(Some(Duration::ZERO));
            if self.run.is_empty() {
                if let Some(ticket) = self.idlers.pop() {
                    self.wake(ticket, 0);
                }
            }
            return None;
        }
        let nobody_can_come = self.timers.is_empty()
            && !self.poller.is_waited_on()
            && self.inbox.as_ref().is_none_or(|inbox| !inbox.is_open());
        if nobody_can_come {
            return Some(Pause::Stuck);
        }
        let time =
            self.timers.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        self.look(time);
        None
    }

    /// Has anything come from other threads?
    fn have_arrived(&mut self) -> bool {
        if let Some(inbox) = &self.inbox {
            self.arrived.append(&mut inbox.take());
        }
        !self.arrived.is_empty()
    }

    /// What has come from other threads.
    pub(super) fn arrivals(&mut self) -> Vec<Job> {
        mem::take(&mut self.arrived)
    }

    /// Looks at the world, waiting for it at most so long: descriptors first, timers last, so that
    /// work wins over a timeout that is due in the same moment.
    fn look(&mut self, time: Option<Duration>) {
        self.switches = 0;
        let mut woken = mem::take(&mut self.woken);
        self.poller.wait(time, &mut woken);
        for ticket in woken.drain(..) {
            self.wake(ticket, 0);
        }
        self.woken = woken;
        self.now = Instant::now();
        self.now_nanos = self.nanos(self.now);
        if self.timers.next_deadline().is_some_and(|at| at <= self.now) {
            self.ring();
        }
        if self.now - self.reaped >= REAP_EVERY {
            self.reaped = self.now;
            self.stacks.reap();
        }
    }

    /// The hub's own time.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.opened).as_nanos() as u64
    }

    fn ring(&mut self) {
        let mut timeouts = Vec::new();
        while let Some(alarm) = self.timers.pop_due(self.now) {
            match alarm {
                Alarm::Sleep(ticket) => {
                    self.answer(ticket, Answer::ELAPSED, false);
                }
                Alarm::Start(id) => self.start(id),
                Alarm::Deadline(_) | Alarm::Timeout(..) => timeouts.push(alarm),
            }
        }
        for alarm in timeouts {
            match alarm {
                Alarm::Timeout(task, id, depth) => self.time_out(task, id, depth),
                Alarm::Deadline(ticket) | Alarm::Sleep(ticket) => {
                    self.answer(ticket, Answer::ELAPSED, false);
                }
                Alarm::Start(id) => self.start(id),
            }
        }
    }

    fn start(&mut self, id: TaskId) {
        if let Some(task) = self.task(id) {
            task.set_state(State::Unstarted);
            self.run.push(id);
        }
    }

    /// A timeout is due. Its task hears of it now if it waits, else at its next wait: one that was
    /// just woken has its work first.
    fn time_out(&mut self, id: TaskId, timeout: TimeoutId, depth: u16) {
        let Some(task) = self.task(id) else { return };
        if task.state() == State::Parked && task.timeout_is_due(depth) {
            self.raise(id, Cause::TimedOut(timeout), false);
        } else {
            task.attention = true;
            task.extra().timeouts.push((timeout, depth));
        }
    }

    // ── the rest ──

    /// Joins those who wait for nothing else to be ready.
    pub(super) fn join_idlers(&mut self, ticket: Ticket) -> LineKey {
        self.idlers.push(ticket)
    }

    pub(super) fn leave_idlers(&mut self, key: LineKey) {
        self.idlers.remove(key);
    }

    pub(super) fn inbox(&mut self) -> io::Result<&Inbox> {
        match &mut self.inbox {
            Some(inbox) => Ok(inbox),
            empty => {
                let waker = self.poller.waker()?;
                Ok(empty.insert(Inbox::new(waker)))
            }
        }
    }

    // ── the end ──

    /// From now on nobody waits. Returns what had been sent and not been begun.
    pub(super) fn begin_closing(&mut self) -> Vec<Job> {
        self.closing = true;
        let mut letters = self.arrivals();
        letters.append(&mut self.inbox.as_ref().map(Inbox::close).unwrap_or_default());
        letters
    }

    /// The tasks that have not begun.
    pub(super) fn unrun(&self) -> Vec<TaskId> {
        let unrun = |task: &Task| matches!(task.state(), State::Later | State::Unstarted);
        let id = |(slot, task): (usize, &Task)| TaskId::new(slot as u32, task.generation());
        self.tasks.iter().filter(|(_, task)| unrun(task)).map(id).collect()
    }

    /// Raises a kill in all who wait, whatever holds it back, save where a borrow depends on it.
    pub(super) fn kill_all(&mut self) {
        let waiting = |(slot, task): (usize, &mut Task)| {
            if task.state() != State::Parked || task.hard || task.kill == Kill::GivenUp {
                return None;
            }
            task.attention = true;
            task.shield = 0;
            task.kill = match task.kill {
                Kill::Raise(times) | Kill::Held(times) => Kill::Raise(times + 1),
                Kill::No | Kill::GivenUp => Kill::Raise(1),
            };
            Some(TaskId::new(slot as u32, task.generation()))
        };
        let all: Vec<_> = self.tasks.iter_mut().filter_map(waiting).collect();
        for id in all {
            if id != TaskId::MAIN {
                self.raise(id, Cause::Killed, false);
            }
        }
    }

    /// As `next`, for those only who are ready.
    pub(super) fn next_ready(&mut self) -> Option<Coro> {
        while let Some(id) = self.run.pop() {
            let Some(task) = self.task(id) else { continue };
            if let Some(coro) = task.coro.take() {
                task.set_state(State::Running);
                self.current = id;
                return Some(coro);
            }
        }
        self.current = TaskId::MAIN;
        None
    }

    /// As `suspended` and `ended`, without choosing who is next.
    pub(super) fn take_back(&mut self, coro: Coro, how: Resumed) -> Option<Box<Extra>> {
        let extra = match how {
            Resumed::Suspended => {
                self.running().coro = Some(coro);
                None
            }
            Resumed::Done => {
                if let Some(stack) = coro.into_stack() {
                    self.stacks.put_back(stack);
                }
                self.tasks.remove(self.current.slot()).extra
            }
        };
        self.current = TaskId::MAIN;
        extra
    }

    /// Those who are still there, the main greenlet apart.
    pub(super) fn left(&self) -> usize {
        self.tasks.len() - 1
    }
}
