//! Waiting below frames of C, which nothing may unwind through; and being called from anywhere, the
//! hub's own code included.

use std::thread;
use std::time::Instant;

use super::current::{unless_at_work, with, with_existing};
use super::lookout::Lookout;
use super::park::{park, park_hard};
use super::task::REFUSALS;
use super::tasks::Tasks;
use super::ticket::{Reason, Ticket, Wake};
use crate::error::{Cause, Interruption, TimeoutId};
use crate::sys::native::is_native;
use crate::sys::patches;

/// May the code that runs wait by parking? Not without a hub, nor where the hub itself is at work
/// (in its loop, or between the filing of a ticket and the switch), nor while it unwinds.
#[inline]
pub(crate) fn may_park() -> bool {
    let Some(hub) = unless_at_work() else { return false };
    hub.tasks.may_park() && !is_native() && !thread::panicking()
}

/// Ends a wait, as [`unpark`](super::unpark). False: this thread's hub is at work, and cannot be
/// told now.
pub(crate) fn try_unpark(ticket: Ticket) -> bool {
    match unless_at_work() {
        Some(mut hub) => {
            hub.tasks.wake(ticket, 0);
            true
        }
        None => false,
    }
}

/// A wait was interrupted, and what has interrupted it will be raised later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Postponed;

/// As [`park`], where a frame of C is below: what ends the wait too early is kept, and raised at the
/// next wait that can be unwound.
///
/// # Errors
///
/// If the wait was interrupted, or could not begin. Then the ticket may still be filed.
pub(crate) fn park_foreign(
    reason: Reason,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Postponed> {
    if is_deaf() {
        return park_hard(reason, deadline, arm).map_err(|_| Postponed);
    }
    park(reason, deadline, arm).map_err(|interruption| {
        with_existing(|hub| hub.tasks.postpone(interruption));
        Postponed
    })
}

/// As [`park_foreign`], for calls of C that are made again and again until they have got what they
/// wait for, such as the lock of a mutex: what is to be raised is told once, and waited for hard from
/// then on, for the loop would only spin, and its thread stand still.
///
/// # Errors
///
/// As for [`park_foreign`].
pub(crate) fn park_stubborn(
    reason: Reason,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Postponed> {
    if with(|hub| hub.tasks.is_due()) {
        return park_hard(reason, deadline, arm).map_err(|_| Postponed);
    }
    park_foreign(reason, deadline, arm)
}

/// Has the current task been told so often of what cannot be raised here that it hears no more of it?
pub(crate) fn is_deaf() -> bool {
    with(|hub| hub.tasks.times_postponed(None)) >= REFUSALS
}

/// Has the current task been told of that timeout where it could not be raised, and not since?
#[inline(always)]
pub(crate) fn was_postponed(timeout: TimeoutId) -> bool {
    // Most programs patch nothing, and are not to pay for it.
    patches::is_any_on() && was_postponed_slow(timeout)
}

#[cold]
#[inline(never)]
fn was_postponed_slow(timeout: TimeoutId) -> bool {
    with_existing(|hub| hub.tasks.times_postponed(Some(timeout)) > 0).unwrap_or(false)
}

/// Keeps what was raised where a frame of C is below.
pub(crate) fn postpone(cause: Cause) {
    with_existing(|hub| hub.tasks.postpone(Interruption::Raised(cause)));
}

/// Are there other greenlets on this thread, which cannot run while it stands still?
pub(crate) fn has_others() -> bool {
    unless_at_work().is_some_and(|hub| hub.tasks.left() > 0)
}

/// Has this thread's hub ask `lookout` from now on. There is one.
pub(crate) fn post(lookout: Lookout) {
    with(|hub| hub.lookout.man(lookout));
}

impl Tasks {
    /// Would the current task's next wait be interrupted at once, or the thread's end keep it from
    /// waiting?
    fn is_due(&mut self) -> bool {
        let closing = self.closing;
        let task = self.running();
        let depth = task.shield;
        let is_raised = |(_, began): &(TimeoutId, u16)| *began >= depth;
        closing
            || task.kill_is_due()
            || task.extra.as_ref().is_some_and(|extra| extra.timeouts.iter().any(is_raised))
    }
}
