//! Waiting below frames of C, which nothing may unwind through; and being called from anywhere, the
//! hub's own code included.

use std::thread;
use std::time::Instant;

use super::current::{allow, unless_at_work, with, with_existing};
use super::lookout::Lookout;
use super::park::{park, park_hard, shield, yield_now};
use super::scheduler::Scheduler;
use super::task::{Extra, REFUSALS, State, Task};
use super::tasks::Tasks;
use super::ticket::{Reason, TaskId, Ticket, Wake};
use crate::coro;
use crate::error::{Cause, Interruption, TimeoutId};
use crate::sys::native::is_native;
use crate::sys::patches;

/// May the code that runs wait by parking? Not without a hub, nor where the hub itself is at work
/// (in its loop, or between the filing of a ticket and the switch), nor while it unwinds, nor on a
/// stack that is not the greenlet's: that of a signal handler would be used by the next one.
#[inline]
pub(crate) fn may_park() -> bool {
    let Some(hub) = unless_at_work() else { return false };
    hub.tasks.may_park() && !is_native() && !thread::panicking() && coro::is_on_its_stack()
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
        tell_killers();
        return park_hard(reason, deadline, arm).map_err(|_| Postponed);
    }
    park(reason, deadline, arm).map_err(|interruption| {
        with_existing(|hub| hub.tasks.put_back(interruption));
        Postponed
    })
}

/// If the current task is to be killed, who waits for its death hears that this may take its time: it
/// is in a call that cannot be ended, and may come back to it again and again.
pub(crate) fn tell_killers() {
    with(|hub| {
        if hub.tasks.is_due() {
            hub.tasks.tell_killers();
        }
    });
}

/// Counts a call that need not wait, as [`spend`](super::spend), when the calls that were allowed have
/// been made. `may_switch` is asked when it is time for others to run.
///
/// # Errors
///
/// If something is to be raised, which is kept.
pub(crate) fn spend_foreign(may_switch: impl FnOnce() -> bool) -> Result<(), Postponed> {
    /// Until it is looked at again.
    const MORE: u32 = 32;
    let more = match with_existing(Scheduler::spend) {
        Some(more) => more,
        None => Some(MORE),
    };
    match more {
        Some(more) => allow(more - 1), // this call is one of them
        None if !may_switch() => allow(MORE),
        None => {
            // Who has been told so often hears no more of it, and the others get their turn.
            let _shield = is_deaf().then(shield);
            return yield_now().map_err(|interruption| {
                with_existing(|hub| hub.tasks.postpone(interruption));
                Postponed
            });
        }
    }
    Ok(())
}

/// Has the current task been told so often of what cannot be raised here that it hears no more of it?
fn is_deaf() -> bool {
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

    /// Does the current task run code that may wait?
    fn may_park(&self) -> bool {
        if self.closing && self.current == TaskId::MAIN {
            return false;
        }
        let runs = |task: &Task| task.state() == State::Running && !task.muted;
        self.all.get(self.current).is_some_and(runs)
    }

    /// The current task cannot be unwound from where it is: what has ended its wait is to be raised
    /// at the next one.
    fn postpone(&mut self, interruption: Interruption) {
        // A kill is raised again in any case.
        let Interruption::Raised(Cause::TimedOut(timeout)) = interruption else { return };
        self.put_back(interruption);
        let Extra { timeouts, postponed, .. } = self.running().extra();
        postponed.retain(|(id, _)| timeouts.iter().any(|(pending, _)| pending == id));
        match postponed.iter_mut().find(|(id, _)| *id == timeout) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => postponed.push((timeout, 1)),
        }
    }

    /// As `postpone`, for waits that are made again and go on: they have not been cut short, and what
    /// comes of them is no less good for it.
    fn put_back(&mut self, interruption: Interruption) {
        let Interruption::Raised(Cause::TimedOut(timeout)) = interruption else { return };
        let task = self.running();
        let depth = task.shield;
        task.attention = true;
        task.extra().timeouts.push((timeout, depth));
    }

    /// How often the current task was told of that timeout (any, if `None`) where it could not be
    /// raised; zero if it has been raised since, or taken back.
    fn times_postponed(&mut self, timeout: Option<TimeoutId>) -> u8 {
        let Some(Extra { timeouts, postponed, .. }) = self.running().extra.as_deref() else {
            return 0;
        };
        let asked = postponed.iter().filter(|(id, _)| timeout.is_none_or(|timeout| timeout == *id));
        let pending = asked.filter(|(id, _)| timeouts.iter().any(|(pending, _)| pending == id));
        pending.map(|(_, times)| *times).max().unwrap_or(0)
    }
}
