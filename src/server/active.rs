//! What is being served: one entry for each handler, from before its greenlet is made until it has
//! ended.
//!
//! A [`Membership`] goes with the greenlet of a handler, as a membership of a pool does, and ends
//! when nothing of the greenlet's own runs any more and before anybody hears of its end. How the
//! handler ended is noted before, by [`Active::run`], where it is seen.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use slab::Slab;

use super::stats::Stats;
use crate::error::Cause;
use crate::hub::{self, TaskId};
use crate::wait::WaitList;

#[derive(Default)]
pub(super) struct Active {
    all: RefCell<Slab<Entry>>,
    stats: Cell<Stats>,
    /// Where the acceptor waits for room: woken when a handler has ended, which may have freed a
    /// descriptor, too.
    pub(super) room: WaitList,
    /// Where those wait who stop the server: woken when a handler, or an acceptor, has ended.
    pub(super) endings: WaitList,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    task: TaskId,
    end: End,
    /// The handler is in a call of `stop` of its own server, and waits for the others.
    stops: bool,
}

/// How it ended. As long as nothing is noted it was killed, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Finished,
    Panicked,
    /// There was no stack for its greenlet.
    NeverBegan,
}

impl Active {
    pub(super) fn stats(&self) -> Stats {
        self.stats.get()
    }

    pub(super) fn len(&self) -> usize {
        self.stats.get().active
    }

    fn count(&self, what: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        what(&mut stats);
        self.stats.set(stats);
    }

    pub(super) fn count_error(&self) {
        self.count(|stats| stats.accept_errors += 1);
    }

    /// Enters one more handler, whose greenlet is about to be made.
    pub(super) fn enter(self: &Rc<Self>) -> Membership {
        self.count(|stats| {
            stats.accepted += 1;
            stats.active += 1;
            stats.peak = stats.peak.max(stats.active);
        });
        let entry = Entry { task: TaskId::NOBODY, end: End::Killed, stops: false };
        let key = self.all.borrow_mut().insert(entry);
        Membership { active: Rc::clone(self), key }
    }

    /// Runs the handler, and notes how that ended.
    pub(super) fn run<R>(&self, key: usize, handler: Rc<dyn Fn(R)>, request: R) {
        let result = panic::catch_unwind(AssertUnwindSafe(|| handler(request)));
        match &result {
            Ok(()) => self.note(key, End::Finished),
            Err(payload) if payload.downcast_ref() == Some(&Cause::Killed) => {}
            Err(_) => self.note(key, End::Panicked),
        }
        // This may be the last handle to it, when the server has been stopped.
        let_go("panicked in the destructor of a handler", handler);
        if let Err(payload) = result {
            panic::resume_unwind(payload);
        }
    }

    fn note(&self, key: usize, end: End) {
        if let Some(entry) = self.all.borrow_mut().get_mut(key) {
            entry.end = end;
        }
    }

    /// The greenlets of the handlers: all, or without those that stop the server and wait for the
    /// others.
    pub(super) fn tasks(&self, with_stoppers: bool) -> Vec<TaskId> {
        let all = self.all.borrow();
        let counted = all.iter().filter(|(_, entry)| with_stoppers || !entry.stops);
        counted.map(|(_, entry)| entry.task).filter(|task| *task != TaskId::NOBODY).collect()
    }

    /// Is there a handler besides those that stop the server?
    pub(super) fn has_others(&self) -> bool {
        self.all.borrow().iter().any(|(_, entry)| !entry.stops)
    }

    /// If `task` runs a handler: it counts as one that stops the server until what this returns is
    /// dropped.
    pub(super) fn stops(&self, task: TaskId) -> Option<Stops<'_>> {
        let key = {
            let mut all = self.all.borrow_mut();
            let (key, entry) = all.iter_mut().find(|(_, entry)| entry.task == task)?;
            entry.stops = true;
            key
        };
        self.endings.wake_all(); // one less to wait for
        Some(Stops { active: self, key })
    }
}

/// Drops something that has come from the user, and may have a destructor that panics or waits. A
/// kill does not cut that short. Nothing must unwind here: then nobody may wait, and a destructor
/// that panics ends the process.
pub(super) fn let_go(what: &'static str, theirs: impl Sized) {
    let _whole = hub::shield();
    hub::quietly(what, move || drop(theirs));
}

/// While it lives, the entry counts as one that stops the server.
pub(super) struct Stops<'a> {
    active: &'a Active,
    key: usize,
}

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.active.all.borrow_mut().get_mut(self.key) {
            entry.stops = false;
        }
    }
}

/// Keeps an entry in its place until it is dropped.
pub(super) struct Membership {
    active: Rc<Active>,
    pub(super) key: usize,
}

impl Membership {
    /// Its greenlet has been made.
    pub(super) fn began(&self, task: TaskId) {
        if let Some(entry) = self.active.all.borrow_mut().get_mut(self.key) {
            entry.task = task;
        }
    }

    /// Its greenlet could not be made.
    pub(super) fn never_began(self) {
        self.active.note(self.key, End::NeverBegan);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let entry = self.active.all.borrow_mut().remove(self.key);
        self.active.count(|stats| {
            stats.active -= 1;
            match entry.end {
                End::Finished => stats.finished += 1,
                End::Panicked => stats.panicked += 1,
                End::Killed => stats.killed += 1,
                End::NeverBegan => stats.accepted -= 1,
            }
        });
        self.active.room.wake_all();
        self.active.endings.wake_all();
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}
