//! Names for tasks and for waits: plain numbers, which may be kept as long as one likes.

use std::fmt;
use std::panic::Location;

/// A task of this hub. A slot is used again, a generation is not: the name of a task that has ended
/// names nothing.
///
/// One word, because it is written and read at every switch, and a processor is slow to read as one
/// what was written as two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskId(u64);

impl TaskId {
    /// The thread's own stack.
    pub(crate) const MAIN: TaskId = TaskId::new(0, 0);

    /// No task has this slot.
    pub(crate) const NOBODY: TaskId = TaskId::new(u32::MAX, u32::MAX);

    #[inline]
    pub(super) const fn new(slot: u32, generation: u32) -> TaskId {
        TaskId((generation as u64) << 32 | slot as u64)
    }

    /// As a plain number, to be added up with others, say.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_number(number: u64) -> TaskId {
        TaskId(number)
    }

    #[inline]
    pub(crate) const fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    #[inline]
    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({}, generation {})", self.slot(), self.generation())
    }
}

/// One wait of one task. It works once: when the wait has ended, for whatever reason, the ticket is
/// void, and whoever still holds it need not be told.
///
/// In halves of words, so that it fits with a number beside it into two: there may be a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    slot: u32,
    generation: u32,
    turn: u32,
}

impl Ticket {
    #[inline]
    pub(super) const fn new(task: TaskId, turn: u32) -> Ticket {
        Ticket { slot: task.0 as u32, generation: task.generation(), turn }
    }

    #[inline]
    pub(crate) const fn task(self) -> TaskId {
        TaskId::new(self.slot, self.generation)
    }

    #[inline]
    pub(super) const fn turn(self) -> u32 {
        self.turn
    }
}

/// Something that is held by somebody and waited for by others: an entry among the hub's holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldId(pub(super) u32);

/// What a wait is for, as shown by dumps. Open, so that upper floors invent their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason {
    verb: &'static &'static str,
    pub(super) object: Object,
}

/// What is waited for, as far as a dump can name it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object {
    Nothing,
    /// The end of a task.
    Task(TaskId),
    /// Something that was made there.
    Made(&'static Location<'static>),
    /// Something that is held by somebody.
    Held(HoldId),
}

impl Reason {
    /// By reference, because every task has one.
    pub(crate) const fn new(verb: &'static &'static str) -> Reason {
        Reason { verb, object: Object::Nothing }
    }

    pub(super) const fn verb(self) -> &'static str {
        self.verb
    }

    /// A wait for that task, which a dump then names.
    pub(crate) const fn of(self, task: TaskId) -> Reason {
        Reason { object: Object::Task(task), ..self }
    }

    /// A wait for something that was made there.
    pub(crate) const fn made_at(self, site: &'static Location<'static>) -> Reason {
        Reason { object: Object::Made(site), ..self }
    }

    /// A wait for something that somebody holds.
    pub(crate) const fn held(self, id: HoldId) -> Reason {
        Reason { object: Object::Held(id), ..self }
    }
}

/// How a wait ended that was not interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody used the ticket, and left this number.
    Ready(u32),
    /// The wait's own deadline came first.
    Elapsed,
}

/// The number of a greenlet: unique in its thread and never used again. The main greenlet is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GreenletId(pub(super) u64);

impl GreenletId {
    pub(crate) const MAIN: GreenletId = GreenletId(0);

    /// Its task, which has that slot.
    pub(crate) const fn task_in(self, slot: u32) -> TaskId {
        TaskId::new(slot, self.0 as u32)
    }

    /// What a greenlet is called that was given no name.
    pub(crate) fn default_name(self) -> String {
        format!("greenlet-{self}")
    }
}

impl fmt::Display for GreenletId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
