//! The narrow waist: every wait of this crate goes through [`park`], and ends by [`unpark`], by its
//! deadline, or by an interruption.
//!
//! A wait in three steps. `park` gives the current task a new turn and hands the ticket of that
//! turn to `arm`, which files it wherever the event in question will be noticed. The task suspends.
//! Whoever comes first with the ticket wakes it, and the others' copies are void.
//!
//! ```text
//!   stream.read(buf)          io: tried, "would block"
//!     -> park                 new turn, state Parked, arm(ticket) puts it into the socket's line
//!       -> suspend            the loop runs others; nobody left: waits for events
//!   look                      the socket is readable: its ticket comes back from the poller
//!     -> wake(ticket)         same turn? Ready, into the run queue.  (a late timer or kill: void)
//!   resume                    park returns Ok: read tries again
//! ```
//!
//! `park` never unwinds; it returns an [`Interruption`], so that its caller can leave its line
//! first. What that looks like to the user is decided in one place, [`raise`].

use std::io;
use std::panic::{self, Location};
use std::thread;
use std::time::{Duration, Instant};

use super::alarm::AlarmKind;
use super::current::{self, report_current, with, with_existing};
use super::holds::Holder;
use super::inbox::{Inbox, Remote};
use super::scheduler::Scheduler;
use super::task::{Kill, LocalKey, State, Task};
use super::tasks::{Killed, Refusal};
use super::ticket::{GreenletId, HoldId, Reason, TaskId, Ticket, Wake};
use super::timers::TimerKey;
use crate::error::{BlocksForever, Cause, Interruption, TimeoutId, Unwinding, caught};
use crate::trace;

/// Calls that need not wait between two looks whether there is a hub by now.
const NOBODY_ELSE: u32 = 32;

/// Waits until somebody uses the ticket that `arm` files, or until `deadline`.
///
/// # Errors
///
/// When the wait was interrupted, or could not begin. Then the ticket may still be filed.
///
/// Always inlined, down to the switch, for the reason given at [`yield_now`].
#[inline(always)]
pub(crate) fn park(
    reason: Reason,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Interruption> {
    let plain = deadline.is_none() && !thread::panicking() && !trace::is_listened_to();
    let ticket = if plain { with_existing(|hub| hub.tasks.try_begin_wait(reason)) } else { None };
    match ticket {
        Some(Some(ticket)) => {
            arm(ticket);
            switch()?;
            with(|hub| hub.tasks.end_wait())
        }
        _ => park_slow(reason, deadline, arm),
    }
}

/// There is no hub yet, or not any more, or something is to be looked at first.
#[inline(never)]
fn park_slow(
    reason: Reason,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Interruption> {
    may_wait()?;
    match deadline {
        None => wait(reason, arm),
        Some(at) => wait_until(reason, at, AlarmKind::Deadline, arm),
    }
}

/// As [`park`], but nothing can interrupt it: for waits that somebody's borrow depends on. Not to
/// be used where the answer is not certain to come.
pub(crate) fn park_hard(
    reason: Reason,
    deadline: Option<Instant>,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Interruption> {
    if thread::panicking() || with(|hub| hub.tasks.running().muted) {
        return Err(Interruption::Unwinding);
    }
    let before = with(|hub| std::mem::replace(&mut hub.tasks.running().hard, true));
    let result = match deadline {
        None => wait(reason, arm),
        Some(at) => wait_until(reason, at, AlarmKind::Deadline, arm),
    };
    with(|hub| hub.tasks.running().hard = before);
    result
}

/// Waits for a moment to come: that is what the task does, not a limit to it.
pub(crate) fn sleep_until(at: Instant) -> Result<Wake, Interruption> {
    may_wait()?;
    wait_until(Reason::new(&"sleep"), at, AlarmKind::Sleep, |_| ())
}

/// Lets every other ready task run once.
///
/// Always inlined, down to the switch: a processor predicts that a function returns to its caller,
/// and is wrong for each function that was entered on one stack and is left after a switch.
#[inline(always)]
pub(crate) fn yield_now() -> Result<(), Interruption> {
    let plain = !thread::panicking() && !trace::is_listened_to();
    if plain && with_existing(|hub| hub.tasks.try_yield()) == Some(true) {
        switch()
    } else {
        yield_slow()
    }
}

/// There is no hub yet, or not any more, or something is to be looked at first.
#[cold]
fn yield_slow() -> Result<(), Interruption> {
    may_wait()?;
    if with(|hub| hub.tasks.closing) {
        // Left alone after too many refusals, in a thread that ends: it is not to spin.
        return wait(Reason::new(&"yield"), |_| ()).map(|_| ());
    }
    without_spans(|| {
        with(|hub| hub.tasks.begin_yield(hub.tasks.current));
        switch()
    })
}

/// Lets those run who were named next, and nobody else, if switching is possible at all. For
/// destructors: nothing is raised here.
#[inline(always)]
pub(crate) fn yield_to_next() {
    let plain = !thread::panicking() && !trace::is_listened_to();
    if plain && with_existing(|hub| hub.tasks.try_yield_next()) == Some(true) {
        // Who yields is ready, and so cannot be stuck.
        let _ = switch();
    } else {
        yield_to_next_slow();
    }
}

#[inline(never)]
fn yield_to_next_slow() {
    let free = |hub: &mut Scheduler| !hub.tasks.closing && !hub.tasks.running().muted;
    let possible = !thread::panicking() && with_existing(free).unwrap_or(false);
    if possible {
        without_spans(|| {
            with(|hub| hub.tasks.begin_yield_next());
            // The main greenlet is ready, and so cannot be stuck.
            let _ = switch();
        });
    }
}

/// Waits until nothing else is ready.
pub(crate) fn idle() -> Result<(), Interruption> {
    may_wait()?;
    let mut place = None;
    let arm = |ticket| place = Some(with(|hub| hub.join_idlers(ticket)));
    let result = wait(Reason::new(&"idle"), arm);
    if let (Err(_), Some(key)) = (&result, place) {
        with(|hub| hub.leave_idlers(key));
    }
    result.map(|_| ())
}

/// Counts a call that need not wait. After some of these in a row, or some time, others get a turn.
///
/// # Errors
///
/// When that turn was used to interrupt the caller.
#[inline(always)]
pub(crate) fn spend() -> Result<(), Interruption> {
    if current::is_allowed() { Ok(()) } else { spend_slow() }
}

#[cold]
fn spend_slow() -> Result<(), Interruption> {
    let more = match with_existing(Scheduler::spend) {
        Some(None) => None,
        Some(more) => more,
        None => Some(NOBODY_ELSE), // without a hub there is nobody else to run
    };
    if let Some(more) = more {
        current::allow(more - 1); // this call is one of them
        return Ok(());
    }
    match yield_now() {
        // It need not wait, so that it may not wait is no reason to fail.
        Err(Interruption::Unwinding) => Ok(()),
        other => other,
    }
}

/// May the current task wait? Not while it unwinds: `thread::panicking()` would then be true for
/// every other greenlet of the thread, and a `std::sync::Mutex` that one of them unlocks meanwhile
/// would be poisoned.
#[inline]
fn may_wait() -> Result<(), Interruption> {
    if thread::panicking() {
        return Err(Interruption::Unwinding);
    }
    match with_existing(|hub| hub.tasks.refusal()) {
        Some(Some(refusal)) => refuse(refusal),
        Some(None) => Ok(()),
        None if current::has_ended() => Err(Interruption::Unwinding),
        None => Ok(()),
    }
}

#[cold]
fn refuse(refusal: Refusal) -> Result<(), Interruption> {
    match refusal {
        Refusal::Interruption(interruption) => Err(interruption),
        Refusal::GivesUp => {
            report_current("refuses to be killed", String::new());
            with(|hub| hub.tasks.tell_killers());
            Ok(())
        }
    }
}

/// Spans are taken off the thread when the ticket has been filed. A subscriber is told of that, and
/// what it does may be what ends this very wait; if it were told before, that would be lost. It must
/// not wait there: a task waits for one thing at a time. They are put back when the answer has been
/// read, and there it may.
#[inline]
fn wait(reason: Reason, arm: impl FnOnce(Ticket)) -> Result<Wake, Interruption> {
    let ticket = with(|hub| hub.tasks.begin_wait(reason));
    arm(ticket);
    let spans = if trace::is_listened_to() { leave_spans() } else { None };
    let result = switch().and_then(|()| with(|hub| hub.tasks.end_wait()));
    if let Some(spans) = spans {
        spans.enter_again();
    }
    result
}

#[inline(never)]
fn leave_spans() -> Option<trace::Spans> {
    let attention = with(|hub| hub.tasks.mute());
    let spans = trace::leave_spans();
    with(|hub| hub.tasks.unmute(attention));
    spans
}

/// Takes the tracing spans off the thread, does `f`, which switches and waits for nothing, and puts
/// them back. A subscriber is told of both, and may do as it likes, waiting included.
fn without_spans<T>(f: impl FnOnce() -> T) -> T {
    if !trace::is_listened_to() {
        return f();
    }
    let spans = trace::leave_spans();
    let result = f();
    if let Some(spans) = spans {
        spans.enter_again();
    }
    result
}

fn wait_until(
    reason: Reason,
    at: Instant,
    kind: AlarmKind,
    arm: impl FnOnce(Ticket),
) -> Result<Wake, Interruption> {
    let mut alarm = None;
    let result = wait(reason, |ticket| {
        alarm = Some(with(|hub| hub.set_alarm(ticket, at, kind)));
        arm(ticket);
    });
    if let Some(alarm) = alarm {
        with(|hub| hub.cancel_alarm(alarm)); // it may not be what ended the wait
    }
    result
}

#[inline(always)]
pub(super) fn switch() -> Result<(), Interruption> {
    match current::switch_out() {
        Ok(()) => Ok(()),
        Err(current::Stuck) => Err(stuck()),
    }
}

#[cold]
fn stuck() -> Interruption {
    with(Scheduler::note_stuck);
    Interruption::Stuck
}

/// Turns an interruption into what the user sees: the current greenlet unwinds from here, with a
/// payload that prints nothing. While it unwinds already, the call merely fails.
///
/// # Panics
///
/// With [`BlocksForever`] if nothing can ever end the main greenlet's wait.
#[cold]
#[track_caller]
pub(crate) fn raise(interruption: Interruption) -> Unwinding {
    match interruption {
        Interruption::Unwinding => Unwinding,
        Interruption::Raised(cause) => raise_cause(cause),
        Interruption::Stuck => {
            let report =
                with(|hub| hub.stuck.take()).unwrap_or_else(|| BlocksForever::new(String::new()));
            caught(|| trace::blocks_forever(&report));
            current::print(&report);
            panic::panic_any(report)
        }
    }
}

/// Unwinds the current greenlet.
pub(crate) fn raise_cause(cause: Cause) -> ! {
    let nobody_catches =
        with(|hub| hub.tasks.current == TaskId::MAIN && hub.tasks.running().catchers == 0);
    if nobody_catches {
        // Without this line a program would end with status 101 and not a word.
        let what = match cause {
            Cause::Killed => "was killed",
            Cause::TimedOut(_) => "was ended by a timeout that nothing caught",
        };
        report_current(what, String::new());
    }
    panic::resume_unwind(Box::new(cause))
}

// ── waking ──

/// Ends the wait named by `ticket`, unless something else ended it first: then false.
#[inline]
pub(crate) fn unpark(ticket: Ticket, number: u32) -> bool {
    with_existing(|hub| hub.tasks.wake(ticket, number)).unwrap_or(false)
}

/// As [`unpark`]; the task runs before everybody who is ready.
#[inline]
pub(crate) fn unpark_next(ticket: Ticket, number: u32) -> bool {
    with_existing(|hub| hub.tasks.wake_next(ticket, number)).unwrap_or(false)
}

/// Is that wait still going on?
pub(crate) fn waits(ticket: Ticket) -> bool {
    with_existing(|hub| hub.tasks.waits(ticket)).unwrap_or(false)
}

/// Lets a task begin that was made to be [told](super::Start::Told). False: it was killed before.
pub(crate) fn start(task: TaskId) -> bool {
    with_existing(|hub| hub.tasks.start(task)).unwrap_or(false)
}

/// Raises a kill in a task, at its present or next wait. One that has not begun is dropped, here.
pub(crate) fn kill(task: TaskId) {
    kill_and(task, false);
}

/// As [`kill`]; if it waits, it runs before everybody who is ready.
pub(crate) fn kill_next(task: TaskId) {
    kill_and(task, true);
}

fn kill_and(task: TaskId, next: bool) {
    if let Some(killed @ Killed::Unrun(..)) = with_existing(|hub| hub.kill(task, next)) {
        current::discard(killed);
    }
}

/// What the current task was for has ended: kills and timeouts that were meant for it go nowhere.
pub(crate) fn outlive() {
    with_existing(Scheduler::outlive);
}

/// `ticket` is to hear if `target` refuses to die. False: it has refused.
pub(crate) fn watch_refusal(target: TaskId, ticket: Ticket) -> bool {
    with(|hub| hub.tasks.watch_refusal(target, ticket))
}

/// May something be raised at the next wait of the current task?
pub(crate) fn is_to_be_interrupted() -> bool {
    with_existing(|hub| hub.tasks.running().attention).unwrap_or(false)
}

/// Has `task` not had its first turn?
pub(crate) fn has_not_begun(task: TaskId) -> bool {
    let unrun = |task: &mut Task| matches!(task.state(), State::Later | State::Unstarted);
    with_existing(|hub| hub.tasks.task(task).is_some_and(unrun)).unwrap_or(false)
}

/// Has `task` refused to be killed, and is left alone?
pub(crate) fn has_refused(task: TaskId) -> bool {
    with_existing(|hub| hub.tasks.task(task).is_some_and(|task| task.kill == Kill::GivenUp))
        .unwrap_or(false)
}

// ── timeouts, shields, and catching ──

/// `None`: the hub has ended, and nobody waits any more.
pub(crate) fn start_timeout(at: Instant) -> Option<(TaskId, TimeoutId, TimerKey)> {
    let start = |hub: &mut Scheduler| {
        let (id, key) = hub.start_timeout(at);
        (hub.tasks.current, id, key)
    };
    if current::has_ended() { None } else { Some(with(start)) }
}

/// True if it had not been raised.
pub(crate) fn cancel_timeout(task: TaskId, id: TimeoutId, key: TimerKey) -> bool {
    with_existing(|hub| hub.cancel_timeout(task, id, key)).unwrap_or(false)
}

pub(crate) fn timeout_is_pending(task: TaskId, id: TimeoutId, key: TimerKey) -> bool {
    with_existing(|hub| hub.timeout_is_pending(task, id, key)).unwrap_or(false)
}

/// Holds interruptions back from the current greenlet until the guard is dropped.
pub(crate) fn shield() -> impl Drop {
    struct Shield;
    impl Drop for Shield {
        fn drop(&mut self) {
            with_existing(|hub| {
                let task = hub.tasks.running();
                task.shield = task.shield.saturating_sub(1); // none is left when the thread ends
            });
        }
    }
    if !current::has_ended() {
        with(|hub| hub.tasks.running().shield += 1);
    }
    Shield
}

/// Notes that what is raised in the current greenlet will be caught, until the guard is dropped.
pub(crate) fn catching() -> impl Drop {
    struct Catching;
    impl Drop for Catching {
        fn drop(&mut self) {
            with_existing(|hub| hub.tasks.running().catchers -= 1);
        }
    }
    if !current::has_ended() {
        with(|hub| hub.tasks.running().catchers += 1);
    }
    Catching
}

/// The current greenlet has caught a kill, and cleans up: it may wait.
pub(crate) fn hold_kill() {
    with(|hub| {
        let task = hub.tasks.running();
        if let Kill::Raise(times) = task.kill {
            task.kill = Kill::Held(times);
        }
    });
}

/// The clean-up is over: the kill is raised again at the next wait of that task.
pub(crate) fn release_kill(task: TaskId) {
    with_existing(|hub| {
        let Some(task) = hub.tasks.task(task) else { return };
        if let Kill::Held(times) = task.kill {
            task.kill = Kill::Raise(times);
        }
    });
}

// ── the current greenlet ──

pub(crate) fn current() -> (TaskId, GreenletId) {
    if current::has_ended() {
        return (TaskId::MAIN, GreenletId::MAIN);
    }
    with(|hub| (hub.tasks.current, hub.tasks.running().id))
}

/// As [`current`], for those who need no more of it.
#[inline]
pub(crate) fn current_task() -> TaskId {
    with_existing(|hub| hub.tasks.current).unwrap_or(TaskId::MAIN)
}

/// The name of a task; empty if it has ended.
pub(crate) fn name_of(task: TaskId) -> String {
    with_existing(|hub| {
        if hub.tasks.task(task).is_some() { hub.tasks.name_of(task) } else { String::new() }
    })
    .unwrap_or_default()
}

pub(crate) fn local(key: LocalKey) -> Option<std::rc::Rc<dyn std::any::Any>> {
    with(|hub| hub.tasks.running().extra.as_ref().and_then(|extra| extra.locals.get(key)))
}

pub(crate) fn set_local(key: LocalKey, value: std::rc::Rc<dyn std::any::Any>) {
    let before = with(|hub| hub.tasks.running().extra().locals.set(key, value));
    drop(before);
}

/// A moment so far from now. What no clock can tell is thirty years away.
pub(crate) fn after(time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

// ── who holds what ──

/// Somebody will wait for something that was made at `site` and is held by `holder`. `None`: there
/// is no hub any more, and nobody waits.
pub(crate) fn note_hold(site: &'static Location<'static>, holder: Holder) -> Option<HoldId> {
    if current::has_ended() { None } else { Some(with(|hub| hub.holds.insert(site, holder))) }
}

/// It is held by somebody else.
pub(crate) fn change_holder(id: HoldId, holder: Holder) {
    with_existing(|hub| hub.holds.set(id, holder));
}

/// It is no more.
pub(crate) fn forget_hold(id: HoldId) {
    with_existing(|hub| hub.holds.remove(id));
}

// ── other threads ──

/// A way in for other threads, by which they send what has been [`expect`]ed.
///
/// # Errors
///
/// If the system has no descriptor left to be woken by.
pub(crate) fn quiet_remote() -> io::Result<Remote> {
    with(|hub| hub.inbox().map(Inbox::quiet_remote))
}

/// Another thread is at work on something, and will send it: waiting for it is not waiting for ever.
pub(crate) fn expect() {
    with(|hub| hub.expected += 1);
}

/// Calls `f` when this thread's hub has ended, with its thread.
pub(crate) fn call_at_end(f: fn()) {
    with(|hub| hub.at_end.push(f));
}

/// So many such things have come.
pub(crate) fn has_come(count: usize) {
    with_existing(|hub| hub.expected = hub.expected.saturating_sub(count));
}
