//! A task: a coroutine and what the hub knows about it.
//!
//! ```text
//!            spawn            pop               park              wake: event, deadline, interrupt
//!  (nothing) -----> Unstarted -----> Running --------> Parked(turn n) --------------------> Ready
//!      |              ^ |  ^            |  ^   yield                (only a ticket of turn n counts) |
//!      | spawn_later  | |  |            |  +-------------------------- pop ------------------+
//!      +----> Later --+ | kill          | return
//!              | kill   v               v
//!              +---> Gone (the stack goes back to the pool, the slot is free)
//! ```
//!
//! The main greenlet (the thread's own stack) is a task like the others, except that it has no
//! coroutine, is running when the hub comes to be, and is never removed.

use std::any::Any;
use std::panic::Location;
use std::rc::Rc;
use std::{fmt, mem};

use super::ticket::{GreenletId, Reason, TaskId, Ticket};
use super::timers::TimerKey;
use crate::coro::{Body, Coro, Owner, StackSize};
use crate::error::TimeoutId;

/// How often a kill is raised before its target is left alone: somebody catches it each time.
pub(super) const REFUSALS: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Spawned for a later time, by [`Extra::start`].
    Later,
    /// In the run queue, for the first time.
    Unstarted,
    /// In the run queue.
    Ready,
    /// The one of its thread that runs.
    Running,
    /// Waits under the ticket of the present turn.
    Parked,
    /// Removed; its slot is free.
    Gone,
}

impl State {
    /// Every arrow of the picture above, and no other.
    fn may_become(self, next: State) -> bool {
        use State::{Gone, Later, Parked, Ready, Running, Unstarted};
        matches!(
            (self, next),
            (Later, Unstarted)
                | (Unstarted | Ready, Running)
                | (Running, Parked | Ready)
                | (Parked, Ready | Running)
                | (Later | Unstarted | Running, Gone)
                | (Gone, Later | Unstarted)
        )
    }
}

/// How the last wait ended, in one word: it is written by the one and read by the other side of
/// every wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer(u32);

impl Answer {
    pub(super) const ELAPSED: Answer = Answer(u32::MAX);
    pub(super) const KILLED: Answer = Answer(u32::MAX - 1);
    /// Which one, is in [`Extra::raised`].
    pub(super) const TIMED_OUT: Answer = Answer(u32::MAX - 2);

    pub(super) fn ready(number: u32) -> Answer {
        debug_assert!(number < Answer::TIMED_OUT.0);
        Answer(number)
    }

    /// The number it was woken with, if it is none of the three.
    #[inline]
    pub(super) fn number(self) -> Option<u32> {
        if self.0 < Answer::TIMED_OUT.0 { Some(self.0) } else { None }
    }
}

/// A moment of the hub's own time, to a microsecond: in six bytes, which fit into a gap that a task
/// has, and last for nine years.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment([u16; 3]);

impl Moment {
    #[inline]
    fn at(nanos: u64) -> Moment {
        let ticks = nanos >> 10;
        Moment([ticks as u16, (ticks >> 16) as u16, (ticks >> 32) as u16])
    }

    pub(super) fn nanos(self) -> u64 {
        let [low, middle, high] = self.0.map(u64::from);
        (high << 32 | middle << 16 | low) << 10
    }
}

/// What is looked at in a switch comes first, and makes one cache line; the rest makes another.
#[repr(C, align(64))]
pub(crate) struct Task {
    /// `None` before it runs and while it does, and for the main greenlet.
    pub(super) coro: Option<Coro>,
    /// Its low half is the generation of its slot.
    pub(super) id: GreenletId,
    pub(super) turn: u32,
    pub(super) answer: Answer,
    state: State,
    /// Something is to be raised at a wait, now or when it is no longer held back: look closer.
    pub(super) attention: bool,
    pub(super) kill: Kill,
    /// The present wait lets nothing be raised: somebody's borrow depends on its being answered.
    pub(super) hard: bool,
    /// A subscriber is being told that it waits: it must not wait for anything else now.
    pub(super) muted: bool,
    /// Depth of `shield`s.
    pub(super) shield: u16,
    /// Frames that would catch what is raised here.
    pub(super) catchers: u16,
    pub(super) reason: Reason,
    // ── the second line ──
    /// Until it has begun. A stack is promised to it, and given when its turn comes: a crowd that
    /// ends one by one needs one stack, and that stays in the cache.
    pub(super) body: Option<Body>,
    pub(super) site: &'static Location<'static>,
    /// When it was spawned, by the hub's own time, which is read once in a while.
    pub(super) born: Moment,
    pub(super) size: StackSize,
    pub(super) extra: Option<Box<Extra>>,
}

const _: () = assert!(mem::offset_of!(Task, body) == 64 && mem::size_of::<Task>() == 128);

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).field("state", &self.state).finish()
    }
}

/// Where a task stands with being killed. The flag is sticky: it is raised until it has its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    No,
    /// To be raised; has been, so many times.
    Raise(u8),
    /// Caught by `catch_interrupt`, whose holder is cleaning up. Raised before, so many times.
    Held(u8),
    /// Refused too often; left alone.
    GivenUp,
    /// What was to be killed has ended. What still runs on its stack is nobody's to kill.
    Outlived,
}

/// What most tasks never need.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(super) name: Option<Rc<str>>,
    pub(super) locals: Locals,
    /// Timeouts that were due while the task did not wait, with the depth of shields they began at.
    pub(super) timeouts: Vec<(TimeoutId, u16)>,
    /// Timeouts up to this one were meant for what has ended here.
    pub(super) outlived: TimeoutId,
    /// The one that has ended its last wait.
    pub(super) raised: Option<TimeoutId>,
    /// Who waits for this task to be dead, and must hear if it refuses.
    pub(super) killers: Vec<Ticket>,
    /// When it is to start.
    pub(super) start: Option<TimerKey>,
    /// Timeouts that came where nothing could be raised, and how often each has.
    #[cfg(feature = "monkey")]
    pub(super) postponed: Vec<(TimeoutId, u8)>,
}

/// What a value that belongs to one task is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalKey {
    /// The address of a `static`.
    Static(usize),
    /// One a type.
    Type(std::any::TypeId),
}

/// Values that belong to one task. Few, so a search beats a table.
#[derive(Default)]
pub(crate) struct Locals(Vec<(LocalKey, Rc<dyn Any>)>);

impl Locals {
    pub(super) fn get(&self, key: LocalKey) -> Option<Rc<dyn Any>> {
        self.0.iter().find(|(at, _)| *at == key).map(|(_, value)| Rc::clone(value))
    }

    /// What was there before is returned, to be dropped where its destructor may run.
    pub(super) fn set(&mut self, key: LocalKey, value: Rc<dyn Any>) -> Option<Rc<dyn Any>> {
        match self.0.iter_mut().find(|(at, _)| *at == key) {
            Some((_, present)) => Some(std::mem::replace(present, value)),
            None => {
                self.0.push((key, value));
                None
            }
        }
    }

    /// The one that was set last.
    pub(super) fn pop(&mut self) -> Option<Rc<dyn Any>> {
        self.0.pop().map(|(_, value)| value)
    }
}

impl std::fmt::Debug for Locals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Locals").field(&self.0.len()).finish()
    }
}

impl Task {
    /// One that holds nothing and names nothing, to be [begun](Task::begin).
    pub(super) fn gone(site: &'static Location<'static>) -> Task {
        Task {
            coro: None,
            id: GreenletId::MAIN,
            turn: 0,
            answer: Answer::ready(0),
            state: State::Gone,
            attention: false,
            kill: Kill::No,
            hard: false,
            muted: false,
            shield: 0,
            catchers: 0,
            reason: Reason::new(&""),
            body: None,
            site,
            born: Moment::at(0),
            size: StackSize::DEFAULT,
            extra: None,
        }
    }

    /// Makes it another. What the last one left that must not be found again is set anew; `turn`
    /// goes on, and `reason` is set by the first wait.
    #[inline]
    pub(super) fn begin(
        &mut self,
        state: State,
        id: GreenletId,
        site: &'static Location<'static>,
        born: u64,
    ) {
        self.set_state(state);
        self.id = id;
        self.site = site;
        self.born = Moment::at(born);
        self.attention = false;
        self.kill = Kill::No;
        self.hard = false;
        self.muted = false;
        self.shield = 0;
        self.catchers = 0;
    }

    /// Tells it from others that had its slot before.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.id.0 as u32
    }

    #[inline]
    pub(super) fn state(&self) -> State {
        self.state
    }

    #[inline]
    pub(super) fn set_state(&mut self, next: State) {
        debug_assert!(self.state.may_become(next), "{:?} -> {next:?}", self.state);
        self.state = next;
    }

    /// Begins a wait: older tickets are void from here on.
    #[inline]
    pub(super) fn next_turn(&mut self, task: TaskId) -> Ticket {
        self.turn = self.turn.wrapping_add(1);
        Ticket::new(task, self.turn)
    }

    /// Clears what it holds. Its generation becomes the main greenlet's, which no other slot has.
    #[inline]
    pub(super) fn retire(&mut self) {
        self.set_state(State::Gone);
        self.id = GreenletId::MAIN;
        debug_assert!(self.coro.is_none(), "a stack is taken back before its task goes");
        debug_assert!(self.body.is_none(), "a body is run, or handed out to be dropped");
        if let Some(mut extra) = self.extra.take() {
            // Dropped by the task itself as one of its last acts. Destructors of what is left all
            // the same must not run here, under the borrow.
            #[expect(clippy::mem_forget, reason = "see above")]
            std::mem::forget(std::mem::take(&mut extra.locals));
        }
    }

    pub(super) fn name(&self) -> String {
        let given = self.extra.as_ref().and_then(|extra| extra.name.as_deref());
        given.map_or_else(|| self.id.default_name(), str::to_owned)
    }

    /// `file:line:column`.
    pub(super) fn spawned_at(&self) -> String {
        if self.id == GreenletId::MAIN {
            "the start of its thread".to_owned()
        } else {
            self.site.to_string()
        }
    }

    /// Whose stack it is, for a census.
    pub(super) fn owner(&self) -> Owner {
        Owner { site: self.site, number: self.id.0 }
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// May a kill be raised at its present wait?
    pub(super) fn kill_is_due(&self) -> bool {
        matches!(self.kill, Kill::Raise(_)) && self.shield == 0 && !self.hard
    }

    /// May a timeout that began under so many shields be raised at its present wait?
    pub(super) fn timeout_is_due(&self, depth: u16) -> bool {
        depth >= self.shield && !self.hard
    }

    /// Notes that a kill is raised now.
    pub(super) fn count_kill(&mut self) {
        if let Kill::Raise(times) = self.kill {
            self.kill = Kill::Raise(times + 1);
        }
    }
}
