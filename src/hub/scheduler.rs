//! The clockwork itself: the tasks, and everything that can wake one.
//!
//! Plain state with methods that return what is to be done; it never switches stacks, never looks
//! at thread-locals and never calls a stranger's code, because all of it happens under one borrow
//! (see `current`). Whatever has a destructor of the user's inside is handed out to be dropped
//! there.

use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, mem};

use super::alarm::{Alarm, AlarmKind};
use super::holds::Holds;
use super::inbox::{Inbox, Letter};
use super::line::{Line, LineKey};
use super::lookout::{Asked, Post};
use super::poller::Poller;
use super::task::{Answer, State};
use super::tasks::{Killed, Lane, Tasks};
use super::ticket::{GreenletId, TaskId, Ticket};
use super::timers::{TimerKey, Timers};
use crate::coro::{Body, Coro, Label, Resumed, StackPool, StackSize};
use crate::error::{BlocksForever, TimeoutId};
use crate::sys::fault::HandlerStack;

/// Switches after which the hub looks at timers and descriptors although somebody could run, at the
/// most. It is fewer where switches are far apart: see [`Scheduler::pace`].
const LOOK_EVERY: u32 = 64;

/// How far apart such looks should be at the most.
const PACE: Duration = Duration::from_millis(1);

/// With so many ready, descriptors are left to the kernel for a while, as for [`PACE`] at the most:
/// who is woken later finds more of what he needs in the cache.
const CROWD: usize = 64;

/// Calls in a row that need not wait, after which one yields all the same.
const BUDGET: u32 = 128;

/// How long such calls may go on without a look.
const SLICE: Duration = Duration::from_millis(2);

/// The clock is asked at each 32nd of these calls at the least.
const LAZIEST_ASK: u32 = 32;

/// Why the loop has nobody to resume right now. One word, like everything that passes between the
/// loop and the scheduler at every switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It is the main greenlet's turn.
    Main,
    /// Something has come from another thread: [`Scheduler::arrivals`].
    Arrivals,
    /// The main greenlet waits and nothing can wake anybody.
    Stuck,
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
    /// When somebody says so.
    Told,
}

pub(crate) struct Scheduler {
    pub(super) tasks: Tasks,
    /// Those who wait for nothing else to be ready.
    idlers: Line<Ticket>,
    timers: Timers<Alarm>,
    pub(super) holds: Holds,
    pub(super) poller: Poller,
    inbox: Option<Inbox>,
    /// How many things other threads are at work on, and will send.
    pub(super) expected: usize,
    /// To be called when the hub has ended.
    pub(super) at_end: Vec<fn()>,
    pub(super) lookout: Post,
    pub(super) stacks: StackPool,
    opened: Instant,
    /// The time of the last look, and the same in nanoseconds since `opened`.
    now: Instant,
    now_nanos: u64,
    /// The time of the last look at descriptors, or before it.
    polled_nanos: u64,
    switches: u32,
    look_after: u32,
    /// Calls since the last switch that did not wait.
    spent: u32,
    /// After so many of them the clock is asked.
    allowance: u32,
    pub(super) births: u64,
    timeouts: u64,
    /// The report of a wait that nothing could end, on its way to be raised.
    pub(super) stuck: Option<BlocksForever>,
    arrived: Vec<Letter>,
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
        Scheduler {
            tasks: Tasks::new(site),
            idlers: Line::default(),
            timers: Timers::new(now),
            holds: Holds::default(),
            poller: Poller::default(),
            inbox: None,
            expected: 0,
            at_end: Vec::new(),
            lookout: Post::default(),
            stacks: StackPool::default(),
            opened: now,
            now,
            now_nanos: 0,
            polled_nanos: 0,
            switches: 0,
            look_after: 8,
            spent: 0,
            allowance: 1,
            births: 0,
            timeouts: 0,
            stuck: None,
            arrived: Vec::new(),
            pause: Pause::Main,
            _handler_stack: handler_stack,
        }
    }

    // ── beginning and ending ──

    /// Puts `body` into the run queue, or among the timers, and promises it a stack of its own.
    ///
    /// The body is left with the caller if there is no stack for it, because
    /// dropping it here would run destructors of the user's under the borrow.
    pub(super) fn spawn(
        &mut self,
        birth: Birth,
        body: &mut Option<Body>,
    ) -> io::Result<(TaskId, GreenletId)> {
        self.stacks.promise(birth.size)?;
        self.births += 1;
        let id = GreenletId(self.births);
        let is_later = matches!(birth.start, Start::At(_) | Start::Told);
        let state = if is_later { State::Later } else { State::Unstarted };
        let (slot, task) = self.tasks.all.vacant(birth.site);
        let task_id = TaskId::new(slot, self.births as u32);
        task.begin(state, id, birth.site, self.now_nanos);
        task.body = body.take();
        task.size = birth.size;
        if birth.name.is_some() {
            task.extra().name = birth.name;
        }
        match birth.start {
            Start::InTurn => self.tasks.run.push(task_id),
            Start::Next => self.tasks.run.push_next(task_id),
            Start::Told => {}
            Start::At(at) => {
                task.extra().start = Some(self.timers.insert(at, Alarm::Start(task_id)));
            }
        }
        Ok((task_id, id))
    }

    /// The current task has suspended. Who is next?
    #[inline]
    pub(super) fn suspended(&mut self, coro: Coro) -> Option<Coro> {
        self.tasks.running().coro = Some(coro);
        self.next()
    }

    /// The current task has ended. Who is next?
    #[inline]
    pub(super) fn ended(&mut self, coro: Coro) -> Option<Coro> {
        if let Some(stack) = coro.into_stack() {
            self.stacks.put_back(stack, || self.tasks.running().owner());
        }
        self.tasks.all.remove(self.tasks.current);
        self.next()
    }

    // ── time ──

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

    /// As many calls that need not wait as were last allowed have been made, by whomever. So many
    /// more are allowed; `None`: it is time to yield.
    ///
    /// The clock is asked each time, which costs as much as several calls of the quicker kind; so the
    /// more seldom, the quicker they have been.
    pub(super) fn spend(&mut self) -> Option<u32> {
        let is_first = self.spent == 0; // it has just got its turn
        self.spent += self.allowance;
        let since_look = self.now.elapsed();
        if since_look >= SLICE {
            self.allowance = 1;
            if !is_first {
                self.look_after = 0; // a look is overdue, too
                return None;
            }
        }
        if since_look < SLICE / 8 {
            self.allowance = (self.allowance * 2).min(LAZIEST_ASK);
        }
        let left = BUDGET.saturating_sub(self.spent);
        if cfg!(hard_switch) || left == 0 { None } else { Some(self.allowance.min(left)) }
    }

    /// As [`Tasks::kill`]; one that was to start later is taken from the timers, too.
    pub(super) fn kill(&mut self, id: TaskId, next: bool) -> Killed {
        let killed = self.tasks.kill(id, next);
        if let Killed::Unrun(unrun) = &killed {
            self.stacks.release(unrun.size);
            if let Some(start) = unrun.start {
                self.timers.cancel(start);
            }
        }
        killed
    }

    /// Arms a timeout for the current task.
    pub(super) fn start_timeout(&mut self, at: Instant) -> (TimeoutId, TimerKey) {
        self.timeouts += 1;
        let (id, task) = (TimeoutId(self.timeouts), self.tasks.current);
        let depth = self.tasks.running().shield;
        (id, self.timers.insert(at, Alarm::Timeout(task, id, depth)))
    }

    /// As [`Tasks::outlive`].
    pub(super) fn outlive(&mut self) {
        let armed = (!self.timers.is_empty()).then_some(TimeoutId(self.timeouts));
        self.tasks.outlive(armed);
    }

    /// True if it had not been raised.
    pub(super) fn cancel_timeout(&mut self, task: TaskId, id: TimeoutId, key: TimerKey) -> bool {
        if self.timers.cancel(key).is_some() {
            return true;
        }
        let Some(pending) = self.tasks.pending_timeouts(task) else { return false };
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
                .tasks
                .pending_timeouts(task)
                .is_some_and(|pending| pending.iter().any(|(at, _)| *at == id))
    }

    // ── the loop ──

    /// Chooses who runs next; waits for events if nobody can.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Coro> {
        if self.switches < self.look_after {
            if let Some(turn) = self.tasks.run.pop().and_then(|id| self.take_turn(id)) {
                return turn;
            }
        }
        self.next_after_a_look()
    }

    /// As `next`, when it is time to look at the world, or nobody is ready.
    #[inline(never)]
    fn next_after_a_look(&mut self) -> Option<Coro> {
        loop {
            if self.switches >= self.look_after {
                self.pace();
                if self.have_arrived() {
                    self.pause = Pause::Arrivals;
                    return None;
                }
            }
            while let Some(id) = self.tasks.run.pop() {
                if let Some(turn) = self.take_turn(id) {
                    return turn;
                }
            }
            self.switches += 1;
            if let Some(pause) = self.idle() {
                self.pause = pause;
                return None;
            }
        }
    }

    /// It is that task's turn, if it is still there.
    #[inline(always)]
    fn take_turn(&mut self, id: TaskId) -> Option<Option<Coro>> {
        let coro = self.tasks.take_turn(id)?.coro.take();
        self.switches += 1;
        self.spent = 0;
        Some(if coro.is_some() { coro } else { self.take_first_turn(id) })
    }

    /// That task, whose turn it is, gets its stack. `None`: it is the main greenlet, who has one.
    fn take_first_turn(&mut self, id: TaskId) -> Option<Coro> {
        let task = self.tasks.running();
        let Some(body) = task.body.take() else {
            debug_assert_eq!(id, TaskId::MAIN);
            self.pause = Pause::Main;
            return None;
        };
        let name = task.extra.as_ref().and_then(|extra| extra.name.clone());
        let label = Label { number: task.id.0, name };
        Some(Coro::new(self.stacks.lease(task.size), label, body))
    }

    /// Nobody can run.
    #[cold]
    fn idle(&mut self) -> Option<Pause> {
        if self.have_arrived() {
            return Some(Pause::Arrivals);
        }
        if !self.idlers.is_empty() {
            self.look(Some(Duration::ZERO));
            if self.tasks.run.is_empty() {
                if let Some(ticket) = self.idlers.pop() {
                    self.tasks.wake(ticket, 0);
                }
            }
            return None;
        }
        let nobody_can_come = self.timers.is_empty()
            && !self.poller.is_waited_on()
            && self.expected == 0
            && self.inbox.as_ref().is_none_or(|inbox| !inbox.is_open());
        if nobody_can_come {
            return Some(Pause::Stuck);
        }
        let at = self.timers.next_deadline().into_iter().chain(self.stacks.wants_reaping()).min();
        let next = self.lookout.ask(Asked::BeforeSleep, &mut self.tasks);
        if !self.tasks.run.is_empty() {
            return None;
        }
        let at = at.into_iter().chain(next).min();
        self.look(at.map(|at| at.saturating_duration_since(Instant::now())));
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
    pub(super) fn arrivals(&mut self) -> Vec<Letter> {
        mem::take(&mut self.arrived)
    }

    /// Looks at the world in passing, and measures how long the switches since the last look took:
    /// a timer is not to wait for 64 turns of a millisecond each, nor is the clock to be read at
    /// each of 64 turns of ten nanoseconds.
    fn pace(&mut self) {
        let (before, switches) = (self.now_nanos, self.switches);
        self.look(Some(Duration::ZERO));
        let (took, pace) = (self.now_nanos - before, PACE.as_nanos() as u64);
        self.look_after = if took <= pace {
            (self.look_after * 2).clamp(1, LOOK_EVERY)
        } else {
            let apart = took / u64::from(switches.max(1));
            (pace / apart.max(1)).clamp(1, LOOK_EVERY.into()) as u32
        };
    }

    /// Looks at the world, waiting for it at most so long: descriptors first, timers last, so that
    /// work wins over a timeout that is due in the same moment.
    fn look(&mut self, time: Option<Duration>) {
        self.switches = 0;
        self.tasks.run.begin_look();
        let tasks = &mut self.tasks;
        let is_late = self.now_nanos - self.polled_nanos >= PACE.as_nanos() as u64;
        if is_late || !tasks.run.is_longer_than(CROWD) {
            self.polled_nanos = self.now_nanos;
            self.poller.wait(time, tasks);
        }
        self.now = Instant::now();
        self.now_nanos = self.nanos(self.now);
        if self.timers.next_deadline().is_some_and(|at| at <= self.now) {
            self.ring();
        }
        self.tasks.run.end_look();
        self.lookout.ask(Asked::AfterLook, &mut self.tasks);
        self.stacks.reap(self.now);
    }

    /// The hub's own time.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.opened).as_nanos() as u64
    }

    /// Fires what is due: work first, in order, then limits to work.
    fn ring(&mut self) {
        let mut limits = Vec::new();
        while let Some(alarm) = self.timers.pop_due(self.now) {
            if alarm.is_work() { self.fire(alarm) } else { limits.push(alarm) }
        }
        for alarm in limits {
            self.fire(alarm);
        }
    }

    fn fire(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Start(id) => {
                self.tasks.start(id);
            }
            Alarm::Timeout(task, id, depth) => self.tasks.time_out(task, id, depth),
            Alarm::Sleep(ticket) | Alarm::Deadline(ticket) => {
                self.tasks.answer(ticket, Answer::ELAPSED, Lane::Due);
            }
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
    pub(super) fn begin_closing(&mut self) -> Vec<Letter> {
        self.tasks.closing = true;
        let mut letters = self.arrivals();
        letters.append(&mut self.inbox.as_ref().map(Inbox::close).unwrap_or_default());
        letters
    }

    /// As `next`, for those only who are ready.
    pub(super) fn next_ready(&mut self) -> Option<Coro> {
        while let Some(id) = self.tasks.run.pop() {
            if id == TaskId::MAIN {
                continue; // it is what calls this
            }
            if let Some(Some(coro)) = self.take_turn(id) {
                return Some(coro);
            }
        }
        self.tasks.current = TaskId::MAIN;
        None
    }

    /// As `suspended` and `ended`, without choosing who is next.
    pub(super) fn take_back(&mut self, coro: Coro, how: Resumed) {
        match how {
            Resumed::Suspended => self.tasks.running().coro = Some(coro),
            Resumed::Done => {
                if let Some(stack) = coro.into_stack() {
                    self.stacks.put_back(stack, || self.tasks.running().owner());
                }
                self.tasks.all.remove(self.tasks.current);
            }
        }
        self.tasks.current = TaskId::MAIN;
    }
}
