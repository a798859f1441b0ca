//! A picture of a hub: who is there, and who waits for what. Owned text and numbers, to be looked
//! at when the hub runs on.

use std::fmt;
use std::time::{Duration, Instant};

use super::holds::{Hold, Holder};
use super::scheduler::Scheduler;
use super::task::{State, Task};
use super::ticket::{GreenletId, Object, TaskId};
use crate::coro::{self, Census};
use crate::error::BlocksForever;
#[cfg(feature = "monkey")]
use crate::sys::patches::{self, Patch};

/// Every greenlet of a thread at one moment. `Display` prints a line for each.
///
/// Made by [`dump`](crate::dump).
#[derive(Clone, Debug)]
pub struct Dump {
    greenlets: Vec<DumpEntry>,
    #[cfg(feature = "monkey")]
    patches: Vec<Patch>,
}

/// One greenlet in a [`Dump`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DumpEntry {
    /// Its number.
    pub id: GreenletId,
    /// Its name: the one given, or `greenlet-` and its number.
    pub name: String,
    /// `"unstarted"`, `"ready"`, `"running"` or `"parked"`.
    pub state: &'static str,
    /// What it waits for, if it is parked.
    pub reason: Option<String>,
    /// How long it has existed. As exact as the hub's clock, which is read once a turn of its loop.
    pub age: Duration,
    /// Where it was spawned: `file:line:column`; for the main greenlet, in words.
    pub spawned_at: String,
}

impl Dump {
    /// All of them, the main greenlet first, then in order of their numbers.
    #[must_use]
    pub fn greenlets(&self) -> &[DumpEntry] {
        &self.greenlets
    }

    /// The families of the C library's functions that wait by parking, in the whole process: see
    /// [`monkey`](crate::monkey). `Display` names them in a last line, if there are any.
    #[cfg(feature = "monkey")]
    #[cfg_attr(docsrs, doc(cfg(feature = "monkey")))]
    #[must_use]
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries = self.greenlets.iter();
        if let Some(first) = entries.next() {
            first.fmt(f)?;
        }
        entries.try_for_each(|entry| write!(f, "\n{entry}"))?;
        #[cfg(feature = "monkey")]
        if !self.patches.is_empty() {
            let names: Vec<_> = self.patches.iter().map(|patch| patch.name()).collect();
            write!(f, "\npatched: {}", names.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for DumpEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<9}", self.name, self.state)?;
        if let Some(reason) = &self.reason {
            write!(f, " in {reason},")?;
        }
        write!(f, " {:.3} s old, spawned at {}", self.age.as_secs_f64(), self.spawned_at)
    }
}

impl Scheduler {
    pub(super) fn dump(&self) -> Dump {
        let now = self.nanos(Instant::now());
        let mut greenlets: Vec<_> =
            self.tasks.all.iter().map(|(_, task)| self.entry(task, now)).collect();
        greenlets.sort_by_key(|entry| entry.id);
        Dump {
            greenlets,
            #[cfg(feature = "monkey")]
            patches: patches::on(),
        }
    }

    fn entry(&self, task: &Task, now: u64) -> DumpEntry {
        let state = match task.state() {
            State::Later | State::Unstarted => "unstarted",
            State::Ready => "ready",
            State::Running => "running",
            State::Parked => "parked",
            State::Gone => "gone",
        };
        let reason = (task.state() == State::Parked).then(|| self.reason(task));
        let age = Duration::from_nanos(now.saturating_sub(task.born.nanos()));
        DumpEntry {
            id: task.id,
            name: task.name(),
            state,
            reason,
            age,
            spawned_at: task.spawned_at(),
        }
    }

    fn reason(&self, task: &Task) -> String {
        let verb = task.reason.verb();
        match task.reason.object {
            Object::Nothing => verb.to_owned(),
            Object::Task(object) => match self.tasks.all.get(object) {
                Some(object) => format!("{verb} of {}", object.name()),
                None => verb.to_owned(),
            },
            Object::Made(site) => format!("{verb} made at {site}"),
            Object::Held(id) => match self.holds.get(id) {
                Some(hold) => format!("{verb} made at {}, {}", hold.site, self.held_by(hold)),
                None => verb.to_owned(),
            },
        }
    }

    fn held_by(&self, hold: &Hold) -> String {
        match hold.holder {
            Holder::One(task) => match self.tasks.all.get(task) {
                Some(task) => format!("held by {}", task.name()),
                None => "held by a greenlet that has ended".to_owned(),
            },
            Holder::Many(readers) => format!("held by {readers} readers"),
        }
    }

    /// The main greenlet's wait can never end: writes down why, and ends it.
    pub(super) fn note_stuck(&mut self) {
        let dump = self.dump();
        let report = format!(
            "the main greenlet would wait for ever: no greenlet is ready, and there is no timer, \
             no descriptor or signal waited on, and no job or other thread that could wake one\n{dump}"
        );
        self.stuck = Some(BlocksForever::new(report));
        self.tasks.current = TaskId::MAIN;
        self.tasks.running().set_state(State::Running);
    }
}

impl Scheduler {
    fn begin_census(&mut self) {
        self.stacks.begin_census(self.births);
    }

    /// The books as they stand, and those who are alive.
    fn census(&self) -> Option<Census> {
        let mut census = self.stacks.census()?.clone();
        for (id, task) in self.tasks.all.iter() {
            if !census.counts(task.owner()) {
                continue;
            }
            let used = match &task.coro {
                Some(coro) => Some(coro.stack_use()),
                None if id == self.tasks.current => {
                    coro::running_stack().map(|(size, depth)| (size, Some(depth)))
                }
                None if task.body.is_some() => Some((task.size, None)),
                None => None,
            };
            if let Some((size, depth)) = used {
                census.note_alive(task.owner(), size, depth);
            }
        }
        Some(census)
    }
}

/// Begins to note how deep the stacks of this thread's greenlets are used.
pub(crate) fn begin_census() {
    super::current::with(Scheduler::begin_census);
}

/// Ends that, and forgets it.
pub(crate) fn end_census() {
    super::current::with_existing(|hub| hub.stacks.end_census());
}

/// What has been noted so far. `None`: nothing is noted.
pub(crate) fn census() -> Option<Census> {
    super::current::with_existing(|hub| hub.census()).flatten()
}

/// A picture of this thread's hub.
pub(crate) fn dump() -> Dump {
    super::current::with(|hub| hub.dump())
}
