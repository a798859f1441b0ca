//! The clockwork of one thread: who runs, who waits, and for what.
//!
//! Floors above wait by [`park`] and wake by [`unpark`]; what they file in between is a [`Ticket`],
//! which is a number and works once. This room does not know what a result, a socket's data or a
//! lock is, and stores no closure and no waker of anybody's.
//!
//! Within the room, each file may know those before it: ticket, holds, heap and wheel; then line,
//! run_queue, timers, inbox, readiness, task and poller; then tasks, lookout, scheduler, current, park,
//! descriptor, foreign and snapshot. **Law:** the scheduler is
//! borrowed in a leaf and a value is returned; no borrow lives across a switch, and no code of the
//! user's (a body, a destructor, a hook, a subscriber) runs under one.

mod heap;
mod ticket;
mod wheel;

mod alarm;
#[cfg(hard_switch)]
mod dice;
mod holds;
mod inbox;
mod line;
mod readiness;
mod run_queue;
mod timers;

mod poller;
mod task;

mod table;
mod tasks;

mod lookout;

mod scheduler;

mod snapshot;

mod current;

mod park;

mod descriptor;

#[cfg(feature = "monkey")]
mod foreign;

pub use current::Hub;
pub use inbox::Remote;
pub use snapshot::{Dump, DumpEntry};
pub use ticket::GreenletId;

pub(crate) use current::{
    drop_locals, has_ended, is_allowed, quietly, report_current, report_panic, run_body, spawn,
};
pub(crate) use descriptor::{Awaited, await_readiness, park_at_descriptor, unwatch, watch};
#[cfg(feature = "monkey")]
pub(crate) use foreign::{
    Postponed, has_others, may_park, park_foreign, park_stubborn, post, spend_foreign,
    tell_killers, try_unpark, was_postponed,
};
pub(crate) use holds::Holder;
pub(crate) use line::{Line, LineKey};
#[cfg(feature = "monkey")]
pub(crate) use lookout::Asked;
pub(crate) use park::{
    after, call_at_end, cancel_timeout, catching, change_holder, current, current_task, expect,
    forget_hold, has_come, has_not_begun, has_refused, hold_kill, idle, is_to_be_interrupted, kill,
    kill_next, local, name_of, note_hold, outlive, park, park_hard, quiet_remote, raise,
    raise_cause, release_kill, set_local, shield, sleep_until, spend, start, start_timeout,
    timeout_is_pending, unpark, unpark_next, waits, watch_refusal, yield_now, yield_to_next,
};
pub(crate) use poller::{SHORT_READS_TELL, Watched};
pub(crate) use readiness::{Readiness, Side};
pub(crate) use scheduler::{Birth, Start};
pub(crate) use snapshot::{begin_census, census, dump, end_census};
pub(crate) use task::LocalKey;
pub(crate) use tasks::REFUSED;
pub(crate) use ticket::{HoldId, Reason, TaskId, Ticket, Wake};
pub(crate) use timers::TimerKey;
