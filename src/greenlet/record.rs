//! What is known of a greenlet outside of its stack: how it ended, who waits for that, and what is
//! to be called then.
//!
//! ```text
//!   Unstarted --runs--> Running --returns--> Returned
//!       |                  |------panics---> Panicked
//!       '--killed--> Unrun '------killed---> Killed
//! ```
//!
//! At the end, in this order: the result is stored, those who wait are made ready, and the links
//! run. They run on the ending greenlet's own stack and may wait, which is why the result, which
//! they borrow, is handed over by `get` only when they are through.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::{fmt, mem};

use crate::error::JoinError;
use crate::hub::{self, GreenletId, TaskId};
use crate::links::{self, LinkId, Links};
use crate::wait::WaitList;

use super::outcome::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Unstarted,
    Running,
    Returned,
    Panicked,
    Killed,
    /// Killed before it began.
    Unrun,
}

pub(super) struct Record<T> {
    stage: Cell<Stage>,
    /// Taken out while links look at it.
    result: Cell<Option<Result<T, JoinError>>>,
    joiners: WaitList,
    rare: OnceCell<Box<RefCell<Rare<T>>>>,
    /// Set once the greenlet is made, which is before anybody sees the record. With `stage` they
    /// make two words; there may be a million.
    id: Cell<GreenletId>,
    slot: Cell<u32>,
}

/// What most greenlets never have.
struct Rare<T> {
    name: Option<Rc<str>>,
    /// What is to end with the greenlet: see [`Record::attach`].
    attached: Vec<Box<dyn Any>>,
    links: Links<Link<T>>,
}

impl<T> Default for Rare<T> {
    fn default() -> Rare<T> {
        Rare { name: None, attached: Vec::new(), links: Links::default() }
    }
}

type Link<T> = Box<dyn FnOnce(Outcome<'_, T>)>;

impl<T> Record<T> {
    #[inline]
    pub(super) fn new(name: Option<Rc<str>>) -> Record<T> {
        let rare = OnceCell::new();
        if name.is_some() {
            let _ = rare.set(Box::new(RefCell::new(Rare { name, ..Rare::default() }))); // it is empty
        }
        Record {
            stage: Cell::new(Stage::Unstarted),
            result: Cell::new(None),
            joiners: WaitList::default(),
            rare,
            id: Cell::new(GreenletId::MAIN),
            slot: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn born(&self, task: TaskId, id: GreenletId) {
        self.id.set(id);
        self.slot.set(task.slot() as u32);
    }

    pub(super) fn task(&self) -> TaskId {
        self.id().task_in(self.slot.get())
    }

    pub(super) fn id(&self) -> GreenletId {
        self.id.get()
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub(super) fn is_finished(&self) -> bool {
        !matches!(self.stage(), Stage::Unstarted | Stage::Running)
    }

    pub(super) fn joiners(&self) -> &WaitList {
        &self.joiners
    }

    pub(super) fn name(&self) -> String {
        let rare = self.rare.get().map(|rare| rare.borrow());
        let given = rare.as_ref().and_then(|rare| rare.name.as_deref());
        given.map_or_else(|| self.id().default_name(), str::to_owned)
    }

    /// Do links still need the result, or are they about to?
    fn is_linked(&self) -> bool {
        self.rare.get().is_some_and(|rare| !rare.borrow().links.are_through())
    }

    /// The result, if it is there and no link needs it any more. Taken once, by the one handle.
    pub(super) fn take_result(&self) -> Option<Result<T, JoinError>> {
        if self.is_finished() && !self.is_linked() { self.result.take() } else { None }
    }

    /// `membership` is dropped when the greenlet ends, before anybody hears of it. Its destructor
    /// must not panic.
    pub(super) fn attach(&self, membership: Box<dyn Any>) {
        self.rare().borrow_mut().attached.push(membership);
    }

    fn rare(&self) -> &RefCell<Rare<T>> {
        self.rare.get_or_init(Box::default)
    }

    /// Has it anything that most have not?
    fn is_rare(&self) -> bool {
        self.rare.get().is_some()
    }

    fn drop_attached(&self) {
        let attached = self.rare.get().map(|rare| mem::take(&mut rare.borrow_mut().attached));
        drop(attached);
    }

    fn finish(&self, stage: Stage, result: Result<T, JoinError>) {
        self.stage.set(stage);
        self.result.set(Some(result));
        self.joiners.wake_all();
    }

    /// The next link, to be called by the one runner there is.
    fn next_link(&self) -> Option<Link<T>> {
        self.rare.get()?.borrow_mut().links.next()
    }

    /// The caller will call the links.
    fn claim_links(&self) {
        if let Some(rare) = self.rare.get() {
            rare.borrow_mut().links.claim();
        }
    }

    /// Calls the links in order, those that are added meanwhile included.
    fn run_links(&self) {
        // Nobody else looks for it meanwhile: `take_result` waits for the links.
        let result = self.result.take();
        while let Some(link) = self.next_link() {
            let outcome = match result.as_ref() {
                Some(Ok(value)) => Outcome::Value(value),
                Some(Err(JoinError::Panicked(payload))) => Outcome::Panicked(payload.as_ref()),
                Some(Err(JoinError::Killed)) | None => Outcome::Killed,
            };
            hub::quietly("panicked in a link", || link(outcome));
        }
        self.result.set(result);
        self.joiners.wake_all(); // those who wait for the result itself
    }
}

impl<T: 'static> Record<T> {
    #[track_caller]
    pub(super) fn link(self: &Rc<Self>, link: Link<T>) -> LinkId {
        let (id, late) = {
            let links = &mut self.rare().borrow_mut().links;
            (links.add(link), self.is_finished() && links.has_no_runner())
        };
        if late {
            self.run_links_elsewhere();
        }
        id
    }

    pub(super) fn unlink(&self, id: LinkId) -> bool {
        let removed = {
            let rare = self.rare.get().map(|rare| rare.borrow_mut());
            rare.and_then(|mut rare| rare.links.remove(id))
        };
        let found = removed.is_some();
        drop(removed); // outside of the borrow: it may own a handle to this very greenlet
        if found && self.is_finished() && !self.is_linked() {
            self.joiners.wake_all();
        }
        found
    }

    /// The greenlet has ended without having a stack (any more) for its links: they get one.
    fn run_links_elsewhere(self: &Rc<Self>) {
        if hub::has_ended() {
            return; // and with it everybody who could have called them
        }
        self.claim_links();
        let site = self.rare.get().and_then(|rare| rare.borrow().links.site());
        links::run_elsewhere(&self.name(), site, || {
            let record = Rc::clone(self);
            move || {
                record.run_links();
                hub::quietly("panicked in the destructor of its result", || drop(record));
            }
        });
    }
}

/// Small enough for what allocators are quickest with, also where many are alive: a record is most of
/// what a spawn allocates.
const _: () = assert!(mem::size_of::<Record<()>>() <= 120 - 2 * mem::size_of::<usize>());

impl<T> fmt::Debug for Record<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greenlet")
            .field("name", &self.name())
            .field("stage", &self.stage())
            .finish()
    }
}

/// What a greenlet runs, together with the record of it. Dropped unrun, it records a kill.
pub(super) struct Body<F, T: 'static, M> {
    f: Option<F>,
    /// Whatever is to end with the greenlet: a place in a pool, say. It is dropped when nothing of
    /// the greenlet's own runs any more, and before anybody hears of its end.
    membership: Option<M>,
    record: Rc<Record<T>>,
}

impl<F, T, M> Body<F, T, M>
where
    F: FnOnce() -> T,
{
    pub(super) fn new(f: F, membership: M, record: Rc<Record<T>>) -> Body<F, T, M> {
        Body { f: Some(f), membership: Some(membership), record }
    }

    /// Never panics: there is nobody below to catch it.
    pub(super) fn run(mut self) {
        let Some(f) = self.f.take() else { return };
        self.record.stage.set(Stage::Running);
        let result = hub::run_body(f);
        let is_rare = self.record.is_rare();
        self.end_membership(is_rare);
        let stage = match &result {
            Ok(_) => Stage::Returned,
            Err(JoinError::Killed) => Stage::Killed,
            Err(JoinError::Panicked(_)) => Stage::Panicked,
        };
        self.record.finish(stage, result);
        let is_linked = is_rare && self.record.is_linked();
        let is_last = Rc::strong_count(&self.record) == 1;
        if is_linked || is_last {
            hub::outlive();
        }
        if is_linked {
            self.record.claim_links();
            self.record.run_links();
        }
        if is_last || Rc::strong_count(&self.record) == 1 {
            // Nobody has the handle any more: the result goes, and may have a destructor.
            hub::quietly("panicked in the destructor of its result", || drop(self));
        }
    }
}

impl<F, T, M> Body<F, T, M> {
    #[inline]
    fn end_membership(&mut self, is_rare: bool) {
        if mem::needs_drop::<M>() {
            drop(self.membership.take());
        }
        if is_rare {
            self.record.drop_attached();
        }
    }
}

impl<F, T, M> Drop for Body<F, T, M> {
    fn drop(&mut self) {
        let Some(f) = self.f.take() else { return };
        // What it captured goes first: who hears of the end may rely on that.
        hub::quietly("panicked in a destructor", || drop(f));
        self.end_membership(self.record.is_rare());
        self.record.finish(Stage::Unrun, Err(JoinError::Killed));
        if self.record.is_linked() {
            self.record.run_links_elsewhere();
        }
    }
}
