//! Members, and slots for them: what a [`Group`](super::Group) and a [`Pool`](super::Pool) are.
//!
//! Who wants to be a member needs a slot. A slot that becomes free is handed to the first in line,
//! who is either a greenlet that waits in `spawn` or a job that was queued by `apply_async`: a
//! greenlet that has not begun. So a free slot and a line exclude each other, except while a kill is
//! going on, when nobody is let in.
//!
//! A [`Membership`] goes with the body of its greenlet. It ends when nothing of the greenlet's own
//! runs any more and before anybody hears of its end, however it ends: that is why a bound is never
//! exceeded, a slot never lost, and why it is free by the time that `join` returns.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;

use slab::Slab;

use crate::greenlet::{self, Greenlet};
use crate::hub::{self, Birth, LineKey, Reason, Start, TaskId, Wake};
use crate::wait::{Limit, WaitList, Waiter};

/// The number of those in line who wait in a `spawn`; a queued job's is its place.
const SPAWNER: u32 = u32::MAX / 4;

/// Why somebody did not become a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Elapsed,
    /// He unwinds, and must not wait.
    Unwinding,
}

/// What waits here are called in a dump.
#[derive(Debug)]
pub(super) struct Verbs {
    pub(super) spawn: &'static str,
    pub(super) join: &'static str,
    pub(super) kill: &'static str,
    pub(super) available: &'static str,
}

pub(super) struct Crew {
    size: usize,
    pub(super) free: Cell<usize>,
    /// Members that have a slot.
    running: Cell<usize>,
    /// Jobs that wait for a slot.
    queued: Cell<usize>,
    /// Callbacks that are still to be called.
    errands: Cell<usize>,
    members: RefCell<Slab<Member>>,
    born: Cell<u64>,
    line: WaitList,
    /// Those who only want to know that there is a slot.
    pub(super) watchers: WaitList,
    /// Those who wait for all to be gone.
    joiners: WaitList,
    /// Those who have killed the members, and wait for one after the other to be gone.
    pub(super) killers: WaitList,
    pub(super) kills: Cell<usize>,
    is_closed: Cell<bool>,
    pub(super) verbs: &'static Verbs,
    site: &'static Location<'static>,
}

#[derive(Clone, Copy)]
struct Member {
    task: TaskId,
    stage: Stage,
    /// Where a queued job stands.
    in_line: Option<LineKey>,
    /// Who came first is killed first.
    born: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Inside,
    /// It runs on as nobody's member.
    Discarded,
}

impl Crew {
    #[track_caller]
    pub(super) fn new(size: usize, verbs: &'static Verbs) -> Rc<Crew> {
        Rc::new(Crew {
            size,
            free: Cell::new(size),
            running: Cell::new(0),
            queued: Cell::new(0),
            errands: Cell::new(0),
            members: RefCell::default(),
            born: Cell::new(0),
            line: WaitList::default(),
            watchers: WaitList::default(),
            joiners: WaitList::default(),
            killers: WaitList::default(),
            kills: Cell::new(0),
            is_closed: Cell::new(false),
            verbs,
            site: Location::caller(),
        })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn len(&self) -> usize {
        self.running.get()
    }

    pub(super) fn free(&self) -> usize {
        self.free.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(super) fn close(&self) {
        self.is_closed.set(true);
    }

    pub(super) fn reason(&self, verb: &'static &'static str) -> Reason {
        Reason::new(verb).made_at(self.site)
    }

    /// Is `task` one of those inside?
    pub(super) fn has(&self, task: TaskId) -> bool {
        let inside = |member: &Member| member.task == task && member.stage == Stage::Inside;
        self.members.borrow().iter().any(|(_, member)| inside(member))
    }

    // ── coming ──

    /// Could somebody enter who comes now?
    pub(super) fn admits(&self) -> bool {
        if self.kills.get() > 0 {
            // A member that cleans up must not wait for the kill, which waits for it.
            return self.free.get() > 0 && self.has(hub::current_task());
        }
        self.free.get() > 0 && (self.line.is_empty() || self.line.first_waiting().is_none())
    }

    /// A member that cleans up while all are killed, and so may wait for nobody.
    fn is_dying(&self) -> bool {
        self.kills.get() > 0 && self.has(hub::current_task())
    }

    /// Waits for a slot, and takes it.
    #[track_caller]
    pub(super) fn enter(self: &Rc<Self>, limit: Limit) -> Result<Membership, Refusal> {
        if self.admits() {
            self.free.set(self.free.get() - 1);
            return Ok(Membership::new(self, Stage::Inside));
        }
        if limit == Limit::Never || self.is_dying() {
            return Err(Refusal::Full);
        }
        match self.line.wait_as(SPAWNER, self.reason(&self.verbs.spawn), limit.deadline()) {
            Ok(Wake::Ready(_)) => Ok(Membership::new(self, Stage::Inside)), // the slot is ours
            Ok(Wake::Elapsed) => Err(Refusal::Elapsed),
            Err(interruption) => {
                hub::raise(interruption);
                Err(Refusal::Unwinding)
            }
        }
    }

    /// For crews without a bound: nobody waits for a slot of theirs, whatever goes on.
    pub(super) fn enter_at_once(self: &Rc<Self>) -> Membership {
        self.free.set(self.free.get() - 1);
        Membership::new(self, Stage::Inside)
    }

    /// A greenlet that is a member.
    #[track_caller]
    pub(super) fn spawn<F, T>(&self, birth: Birth, membership: Membership, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let place = membership.place;
        let greenlet = greenlet::spawn_member(birth, f, membership);
        self.began(place, greenlet.task());
        greenlet
    }

    /// A member has got its greenlet.
    pub(super) fn began(&self, place: usize, task: TaskId) {
        if let Some(member) = self.members.borrow_mut().get_mut(place) {
            member.task = task;
        }
        if self.kills.get() > 0 {
            self.killers.wake_all(); // here is another
        }
    }

    /// A greenlet that begins when there is a slot for it. It never waits.
    #[track_caller]
    pub(super) fn queue<F, T>(self: &Rc<Self>, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match self.try_queue(Birth::here(None), f) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("no stack for another greenlet: {error}"),
        }
    }

    /// As [`queue`](Crew::queue), for those who can do something about it that there is no stack.
    pub(super) fn try_queue<F, T>(self: &Rc<Self>, birth: Birth, f: F) -> io::Result<Greenlet<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        if let Ok(membership) = self.enter(Limit::Never) {
            let place = membership.place;
            let greenlet = greenlet::try_spawn_member(birth, f, membership)?;
            self.began(place, greenlet.task());
            return Ok(greenlet);
        }
        let membership = Membership::new(self, Stage::Queued);
        let place = membership.place;
        let birth = Birth { start: Start::Told, ..birth };
        let greenlet = greenlet::try_spawn_member(birth, f, membership)?;
        let in_line = self.line.push(Waiter::Start(greenlet.task(), place as u32));
        if let Some(member) = self.members.borrow_mut().get_mut(place) {
            member.task = greenlet.task();
            member.in_line = Some(in_line);
        }
        Ok(greenlet)
    }

    /// Makes a member of a greenlet that runs already. `None` if it is one.
    pub(super) fn adopt(self: &Rc<Self>, task: TaskId) -> Option<Membership> {
        if self.has(task) {
            return None;
        }
        let membership = self.enter_at_once();
        self.began(membership.place, task);
        Some(membership)
    }

    // ── leaving ──

    /// Lets a member go that runs on. False if it is none.
    pub(super) fn discard(&self, task: TaskId) -> bool {
        let found = {
            let mut members = self.members.borrow_mut();
            let mut all = members.iter_mut().map(|(_, member)| member);
            let member = all.find(|member| member.task == task && member.stage == Stage::Inside);
            member.map(|member| member.stage = Stage::Discarded).is_some()
        };
        if found {
            self.leave(Stage::Inside);
        }
        found
    }

    /// Somebody is gone who was at that stage.
    fn leave(&self, stage: Stage) {
        match stage {
            Stage::Inside => {
                self.running.set(self.running.get() - 1);
                self.give_back_slot();
            }
            Stage::Queued => self.queued.set(self.queued.get() - 1),
            Stage::Discarded => return,
        }
        self.killers.wake_all();
        self.tell_if_idle();
    }

    /// To the first in line. While a kill is going on nobody is let in.
    fn give_back_slot(&self) {
        if self.kills.get() == 0 && !self.line.is_empty() && self.let_one_in() {
            return;
        }
        self.free.set(self.free.get() + 1);
        if self.kills.get() == 0 {
            self.watchers.wake_all();
        }
    }

    /// Gives the first in line a slot that the caller has.
    pub(super) fn let_one_in(&self) -> bool {
        let Some((_, number)) = self.line.wake_first() else { return false };
        if number != SPAWNER {
            if let Some(member) = self.members.borrow_mut().get_mut(number as usize) {
                member.stage = Stage::Inside;
                self.queued.set(self.queued.get() - 1);
                self.running.set(self.running.get() + 1);
            }
        }
        true
    }

    // ── being empty ──

    /// All slots are free, and nobody is to have one.
    pub(super) fn is_idle(&self) -> bool {
        self.free.get() == self.size && self.queued.get() == 0 && self.errands.get() == 0
    }

    fn tell_if_idle(&self) {
        if self.is_idle() {
            self.joiners.wake_all();
        }
    }

    /// Waits until it is idle, or has been once since. False: the time is over, or the caller
    /// unwinds.
    #[track_caller]
    pub(super) fn join(&self, limit: Limit) -> bool {
        if self.is_idle() {
            return true;
        }
        match self.joiners.wait(self.reason(&self.verbs.join), limit.deadline()) {
            Ok(Wake::Ready(_)) => true,
            Ok(Wake::Elapsed) => self.is_idle(),
            Err(interruption) => {
                hub::raise(interruption);
                self.is_idle()
            }
        }
    }

    /// Waits until somebody could enter. False: the time is over, or the caller unwinds.
    #[track_caller]
    pub(super) fn wait_available(&self, limit: Limit) -> bool {
        let deadline = limit.deadline();
        while !self.admits() {
            if self.is_dying() {
                return false;
            }
            match self.watchers.wait(self.reason(&self.verbs.available), deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => return self.admits(),
                Err(interruption) => {
                    hub::raise(interruption);
                    return false;
                }
            }
        }
        true
    }

    /// Those at that stage, in the order in which they came.
    pub(super) fn tasks(&self, stage: Stage) -> Vec<TaskId> {
        let members = self.members.borrow();
        let at_stage = members.iter().map(|(_, member)| *member);
        let mut found: Vec<_> = at_stage.filter(|member| member.stage == stage).collect();
        found.sort_by_key(|member| member.born);
        found.into_iter().map(|member| member.task).filter(|task| *task != TaskId::NOBODY).collect()
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("len", &self.len())
            .field("queued", &self.queued.get())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A place among the members, and with it a slot unless it is queued. It is given up when dropped.
pub(super) struct Membership {
    crew: Rc<Crew>,
    pub(super) place: usize,
}

impl Membership {
    /// Of somebody who has a slot, or is queued for one.
    fn new(crew: &Rc<Crew>, stage: Stage) -> Membership {
        let count = if stage == Stage::Queued { &crew.queued } else { &crew.running };
        count.set(count.get() + 1);
        let born = crew.born.get();
        crew.born.set(born + 1);
        let member = Member { task: TaskId::NOBODY, stage, in_line: None, born };
        let place = crew.members.borrow_mut().insert(member);
        Membership { crew: Rc::clone(crew), place }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let member = self.crew.members.borrow_mut().remove(self.place);
        if let (Stage::Queued, Some(place)) = (member.stage, member.in_line) {
            self.crew.line.remove(place);
        }
        self.crew.leave(member.stage);
    }
}

/// A callback that is still to be called: until it is dropped, the crew is not idle.
pub(super) struct Errand {
    crew: Rc<Crew>,
}

impl Errand {
    pub(super) fn new(crew: &Rc<Crew>) -> Errand {
        crew.errands.set(crew.errands.get() + 1);
        Errand { crew: Rc::clone(crew) }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.crew.errands.set(self.crew.errands.get() - 1);
        self.crew.tell_if_idle();
    }
}
