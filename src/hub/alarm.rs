//! What a timer is for.

use super::ticket::{TaskId, Ticket};
use crate::error::TimeoutId;

/// What becomes due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    /// A sleep is over. (That is work, and comes before limits of the same moment.)
    Sleep(Ticket),
    /// A task is to start.
    Start(TaskId),
    /// A wait's own deadline.
    Deadline(Ticket),
    /// A `Timeout` of a task, begun under so many shields.
    Timeout(TaskId, TimeoutId, u16),
}

impl Alarm {
    pub(super) fn is_work(self) -> bool {
        matches!(self, Alarm::Sleep(_) | Alarm::Start(_))
    }
}

/// What a wait's deadline is to the one who waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AlarmKind {
    /// What it waits for.
    Sleep,
    /// A limit to it.
    Deadline,
}
