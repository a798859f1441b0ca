//! `imap` and `imap_unordered`: one function over many items, results as an iterator.
//!
//! Three parties share a [`Flow`]: a feeder, which is a greenlet that pulls the input and starts the
//! work; those who work; and the reader, who holds the iterator.
//!
//! ```text
//!   input -> feeder -> at work -> results that nobody has read -> reader
//!              ^          '--------------- together ---------------'  |
//!              '---- waits while these are as many as the pool has slots
//! ```
//!
//! Everything is owned, because an iterator can be leaked. Dropping it kills the feeder and those
//! who work.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{self, Location, RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use slab::Slab;

use super::crew::{Crew, Errand};
use super::map::{End, pull, work};
use crate::greenlet;
use crate::hub::{self, Birth, Reason, TaskId};
use crate::wait::{self, Limit, WaitList};

/// All of the input is worked on, whether anybody reads or not.
pub(super) const UNBOUNDED: usize = usize::MAX;

struct Flow<T> {
    /// Results that nobody has read. In order, each stands at its place, behind those that are still
    /// worked on.
    results: RefCell<VecDeque<Option<End<T>>>>,
    is_ordered: bool,
    /// How many results have been read.
    read: Cell<usize>,
    started: Cell<usize>,
    /// How many may be started and not read.
    most_unread: usize,
    /// The feeder has ended; with the panic of the input, if that was why.
    is_fed: Cell<bool>,
    input_panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// The feeder, and those who work.
    tasks: RefCell<Slab<TaskId>>,
    is_dropped: Cell<bool>,
    reader: WaitList,
    feeder: WaitList,
}

impl<T> Flow<T> {
    fn is_through(&self) -> bool {
        self.is_fed.get() && self.read.get() == self.started.get()
    }

    fn deliver(&self, index: usize, end: End<T>) {
        if self.is_dropped.get() {
            return; // and `end` with it
        }
        {
            let mut results = self.results.borrow_mut();
            if self.is_ordered {
                let place = index - self.read.get();
                while results.len() <= place {
                    results.push_back(None);
                }
                results[place] = Some(end);
            } else {
                results.push_back(Some(end));
            }
        }
        self.reader.wake_all();
    }

    /// The next result, if it is there.
    fn take(&self) -> Option<End<T>> {
        let mut results = self.results.borrow_mut();
        let end = results.front_mut()?.take()?;
        results.pop_front();
        self.read.set(self.read.get() + 1);
        self.feeder.wake_all();
        Some(end)
    }

    #[track_caller]
    fn next(&self, verb: &'static &'static str) -> Option<T> {
        loop {
            if let Some(end) = self.take() {
                return Some(end.unwrap());
            }
            if self.is_through() {
                let panic = self.input_panic.take();
                return panic.map(|payload| panic::resume_unwind(payload));
            }
            if let Err(interruption) = self.reader.wait(Reason::new(verb), None) {
                hub::raise(interruption);
                return None;
            }
        }
    }

    fn abandon(&self) {
        self.is_dropped.set(true);
        let mut tasks: Vec<_> = self.tasks.borrow().iter().map(|(_, task)| *task).collect();
        tasks.retain(|task| *task != TaskId::NOBODY);
        tasks.into_iter().for_each(hub::kill);
        let unread = self.results.take();
        drop(unread); // outside of the borrow
    }
}

/// A task of a flow: in its list until dropped.
struct Listed<T> {
    flow: Rc<Flow<T>>,
    key: usize,
}

impl<T> Listed<T> {
    fn new(flow: &Rc<Flow<T>>) -> Listed<T> {
        let key = flow.tasks.borrow_mut().insert(TaskId::NOBODY);
        Listed { flow: Rc::clone(flow), key }
    }
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        self.flow.tasks.borrow_mut().remove(self.key);
    }
}

/// One item's work. Dropped without having told how it ended, it tells of a kill.
struct Work<T> {
    listed: Listed<T>,
    index: usize,
    has_told: bool,
}

impl<T> Work<T> {
    fn tell(&mut self, end: End<T>) {
        self.has_told = true;
        self.listed.flow.deliver(self.index, end);
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        if !self.has_told {
            self.tell(End::Killed);
        }
    }
}

/// Pulls the input. Dropped, there is nothing more to come.
struct Feeder<I, F, T> {
    items: I,
    f: Rc<F>,
    crew: Rc<Crew>,
    listed: Listed<T>,
    /// Without a bound, all of the input is worked on, and the crew is not idle before it is.
    _errand: Option<Errand>,
    /// Who asked for it: where the work is spawned from.
    site: &'static Location<'static>,
}

impl<I, F, T> Feeder<I, F, T>
where
    I: Iterator,
    I::Item: 'static,
    F: Fn(I::Item) -> T + 'static,
    T: 'static,
{
    fn run(mut self) {
        while self.wait_for_reader() {
            match pull(&mut self.items) {
                Ok(Some(item)) => self.start(item),
                Ok(None) => break,
                Err(payload) => {
                    let flow = &self.listed.flow;
                    flow.input_panic.replace(Some(payload));
                    break;
                }
            }
        }
    }

    /// Waits while too much is unread. False: nobody will read any more.
    fn wait_for_reader(&self) -> bool {
        wait::spend();
        let flow = &self.listed.flow;
        while flow.started.get() - flow.read.get() >= flow.most_unread {
            if let Err(interruption) = flow.feeder.wait(Reason::new(&"imap"), None) {
                hub::raise(interruption);
                return false;
            }
        }
        !flow.is_dropped.get()
    }

    fn start(&self, item: I::Item) {
        let flow = &self.listed.flow;
        let Ok(membership) = self.crew.enter(Limit::Forever) else { return };
        if flow.is_dropped.get() {
            return; // while we waited
        }
        let index = flow.started.get();
        flow.started.set(index + 1);
        let mut job = Work { listed: Listed::new(flow), index, has_told: false };
        let (key, f) = (job.listed.key, Rc::clone(&self.f));
        let birth = Birth { site: self.site, ..Birth::here(None) };
        let work = move || work(|| f(item), |end| job.tell(end));
        let greenlet = self.crew.spawn(birth, membership, work);
        if let Some(task) = flow.tasks.borrow_mut().get_mut(key) {
            *task = greenlet.task();
        }
    }
}

impl<I, F, T> Drop for Feeder<I, F, T> {
    fn drop(&mut self) {
        self.listed.flow.is_fed.set(true);
        self.listed.flow.reader.wake_all();
    }
}

#[track_caller]
fn start<I, F, T>(
    crew: &Rc<Crew>,
    items: I,
    f: F,
    most_unread: usize,
    is_ordered: bool,
) -> Rc<Flow<T>>
where
    I: IntoIterator,
    I::IntoIter: 'static,
    I::Item: 'static,
    F: Fn(I::Item) -> T + 'static,
    T: 'static,
{
    let flow = Rc::new(Flow {
        results: RefCell::default(),
        is_ordered,
        read: Cell::new(0),
        started: Cell::new(0),
        most_unread,
        is_fed: Cell::new(false),
        input_panic: RefCell::default(),
        tasks: RefCell::default(),
        is_dropped: Cell::new(false),
        reader: WaitList::default(),
        feeder: WaitList::default(),
    });
    let listed = Listed::new(&flow);
    let key = listed.key;
    let (items, f, crew) = (items.into_iter(), Rc::new(f), Rc::clone(crew));
    let birth = Birth::here(Some("imap".into()));
    let _errand = (most_unread == UNBOUNDED).then(|| Errand::new(&crew));
    let feeder = Feeder { items, f, crew, listed, _errand, site: birth.site };
    let greenlet = greenlet::spawn_member(birth, move || feeder.run(), ());
    flow.tasks.borrow_mut()[key] = greenlet.task();
    flow
}

macro_rules! results_of_a_flow {
    ($($(#[$doc:meta])* $name:ident, $is_ordered:literal, $verb:literal;)+) => {$(
        $(#[$doc])*
        #[must_use = "dropping it kills the work that has begun"]
        pub struct $name<T> {
            flow: Rc<Flow<T>>,
        }

        impl<T> $name<T> {
            #[track_caller]
            pub(super) fn new<I, F>(
                crew: &Rc<Crew>,
                items: I,
                f: F,
                most_unread: usize,
            ) -> $name<T>
            where
                I: IntoIterator,
                I::IntoIter: 'static,
                I::Item: 'static,
                F: Fn(I::Item) -> T + 'static,
                T: 'static,
            {
                $name { flow: start(crew, items, f, most_unread, $is_ordered) }
            }
        }

        impl<T: 'static> Iterator for $name<T> {
            type Item = T;

            /// Waits for the next result. Ends at once while the caller unwinds.
            ///
            /// # Panics
            ///
            /// With the panic of the item, or of the input, that it has come to; and if the work on
            /// an item was killed. It goes on behind that.
            #[track_caller]
            fn next(&mut self) -> Option<T> {
                self.flow.next(&$verb)
            }
        }

        impl<T> UnwindSafe for $name<T> {}
        impl<T> RefUnwindSafe for $name<T> {}

        impl<T> Drop for $name<T> {
            fn drop(&mut self) {
                self.flow.abandon();
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("started", &self.flow.started.get())
                    .field("read", &self.flow.read.get())
                    .finish_non_exhaustive()
            }
        }
    )+};
}

results_of_a_flow! {
    /// Results in the order of their items, from [`Pool::imap`](super::Pool::imap).
    Imap, true, "next of imap";
    /// Results as they come, from [`Pool::imap_unordered`](super::Pool::imap_unordered).
    ImapUnordered, false, "next of imap_unordered";
}
