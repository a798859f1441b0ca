//! Who is inside: one entry for each handler, from before its greenlet is made until it has ended.
//!
//! A [`Stay`] goes with the greenlet of a handler, as a membership of a pool does, and ends when
//! nothing of the greenlet's own runs any more and before anybody hears of its end. How the handler
//! ended is noted before, by [`Guests::attend`], where it is seen.

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
pub(super) struct Guests {
    all: RefCell<Slab<Guest>>,
    stats: Cell<Stats>,
    /// Where one waits for room: it is told when a guest has gone, and a descriptor with him, maybe.
    pub(super) room: WaitList,
    /// Where those wait who stop the server: they are told of each who goes.
    pub(super) goings: WaitList,
}

#[derive(Clone, Copy, Debug)]
struct Guest {
    task: TaskId,
    end: End,
    /// He stops the server himself, and waits for the others.
    stops: bool,
}

/// How it ended. As long as nothing is noted it was killed, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Finished,
    Panicked,
    /// There was no stack for him.
    NeverBegan,
}

impl Guests {
    pub(super) fn stats(&self) -> Stats {
        self.stats.get()
    }

    pub(super) fn active(&self) -> usize {
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

    /// One more, whose greenlet is about to be made.
    pub(super) fn enter(self: &Rc<Self>) -> Stay {
        self.count(|stats| {
            stats.accepted += 1;
            stats.active += 1;
            stats.peak = stats.peak.max(stats.active);
        });
        let guest = Guest { task: TaskId::NOBODY, end: End::Killed, stops: false };
        let key = self.all.borrow_mut().insert(guest);
        Stay { guests: Rc::clone(self), key }
    }

    /// Serves a guest, and notes how that ended.
    pub(super) fn attend<V>(&self, key: usize, handler: Rc<dyn Fn(V)>, visitor: V) {
        let result = panic::catch_unwind(AssertUnwindSafe(|| handler(visitor)));
        match &result {
            Ok(()) => self.note(key, End::Finished),
            Err(payload) if payload.downcast_ref() == Some(&Cause::Killed) => {}
            Err(_) => self.note(key, End::Panicked),
        }
        // He may be the last who has it, when the server has been stopped.
        let_go("panicked in the destructor of a handler", handler);
        if let Err(payload) = result {
            panic::resume_unwind(payload);
        }
    }

    fn note(&self, key: usize, end: End) {
        if let Some(guest) = self.all.borrow_mut().get_mut(key) {
            guest.end = end;
        }
    }

    /// Those inside: all, or without those who stop the server and wait for the others.
    pub(super) fn tasks(&self, with_stoppers: bool) -> Vec<TaskId> {
        let all = self.all.borrow();
        let counted = all.iter().filter(|(_, guest)| with_stoppers || !guest.stops);
        counted.map(|(_, guest)| guest.task).filter(|task| *task != TaskId::NOBODY).collect()
    }

    /// Is there anybody but those who stop the server?
    pub(super) fn are_others_inside(&self) -> bool {
        self.all.borrow().iter().any(|(_, guest)| !guest.stops)
    }

    /// If `task` is a guest: from now on he stops the server, until what this returns is dropped.
    pub(super) fn stops(&self, task: TaskId) -> Option<Stops<'_>> {
        let key = {
            let mut all = self.all.borrow_mut();
            let (key, guest) = all.iter_mut().find(|(_, guest)| guest.task == task)?;
            guest.stops = true;
            key
        };
        self.goings.wake_all(); // one less to wait for
        Some(Stops { guests: self, key })
    }
}

/// Drops something that has come from the user, and may have a destructor that panics or waits. A
/// kill does not cut that short. Nothing must unwind here: then nobody may wait, and a destructor
/// that panics ends the process.
pub(super) fn let_go(what: &'static str, theirs: impl Sized) {
    let _whole = hub::shield();
    hub::quietly(what, move || drop(theirs));
}

/// A guest who stops the server.
pub(super) struct Stops<'a> {
    guests: &'a Guests,
    key: usize,
}

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        if let Some(guest) = self.guests.all.borrow_mut().get_mut(self.key) {
            guest.stops = false;
        }
    }
}

/// A guest's place, until it is dropped.
pub(super) struct Stay {
    guests: Rc<Guests>,
    pub(super) key: usize,
}

impl Stay {
    /// Here is his greenlet.
    pub(super) fn began(&self, task: TaskId) {
        if let Some(guest) = self.guests.all.borrow_mut().get_mut(self.key) {
            guest.task = task;
        }
    }

    /// There is no greenlet for him.
    pub(super) fn never_began(self) {
        self.guests.note(self.key, End::NeverBegan);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let guest = self.guests.all.borrow_mut().remove(self.key);
        self.guests.count(|stats| {
            stats.active -= 1;
            match guest.end {
                End::Finished => stats.finished += 1,
                End::Panicked => stats.panicked += 1,
                End::Killed => stats.killed += 1,
                End::NeverBegan => stats.accepted -= 1,
            }
        });
        self.guests.room.wake_all();
        self.guests.goings.wake_all();
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}
