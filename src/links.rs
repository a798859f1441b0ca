//! Callbacks that are called once, in order, when something has come about.
//!
//! The callbacks borrow what has come about, so there is one at a time who calls them: whoever has
//! a stack for them, which is the greenlet that brought it about, or one that is spawned for them.
//! They may wait, and add others.

use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hub::{self, Birth};

/// Names a callback, to take it back: see [`Greenlet::unlink`](crate::Greenlet::unlink) and
/// [`AsyncResult::unlink`](crate::sync::AsyncResult::unlink).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(u64);

impl LinkId {
    /// Not used before, for whatever: an id names one link and no other.
    fn next() -> LinkId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Callbacks that have not been called.
pub(crate) struct Links<L> {
    waiting: VecDeque<(LinkId, L)>,
    /// Somebody calls them, or is about to.
    has_runner: bool,
    /// Who added the last one: where those that come late are spawned from.
    site: Option<&'static Location<'static>>,
}

impl<L> Default for Links<L> {
    fn default() -> Links<L> {
        Links { waiting: VecDeque::new(), has_runner: false, site: None }
    }
}

impl<L> Links<L> {
    #[track_caller]
    pub(crate) fn add(&mut self, link: L) -> LinkId {
        let id = LinkId::next();
        self.waiting.push_back((id, link));
        self.site = Some(Location::caller());
        id
    }

    /// Takes one back. It is handed out, because it may own what this is part of.
    pub(crate) fn remove(&mut self, id: LinkId) -> Option<L> {
        let at = self.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        self.waiting.remove(at).map(|(_, link)| link)
    }

    /// Does nobody call them, or is about to?
    pub(crate) fn has_no_runner(&self) -> bool {
        !self.has_runner
    }

    /// Has all been called that is there to be called?
    pub(crate) fn are_through(&self) -> bool {
        self.waiting.is_empty() && !self.has_runner
    }

    /// The caller will call them.
    pub(crate) fn claim(&mut self) {
        self.has_runner = true;
    }

    /// The next one, to be called by the one runner there is.
    pub(crate) fn next(&mut self) -> Option<L> {
        let next = self.waiting.pop_front();
        self.has_runner = next.is_some();
        next.map(|(_, link)| link)
    }

    /// Where the last one was added.
    pub(crate) fn site(&self) -> Option<&'static Location<'static>> {
        self.site
    }
}

/// Runs `run` on a stack of its own, as a greenlet called `links of ...`; here, if there is no stack
/// to be had: late is better than never, and than lost.
pub(crate) fn run_elsewhere<R: FnOnce() + 'static>(
    of: &str,
    site: Option<&'static Location<'static>>,
    run: impl Fn() -> R,
) {
    let name: Rc<str> = format!("links of {of}").into();
    let mut birth = Birth::here(Some(name));
    birth.site = site.unwrap_or(birth.site);
    let links = run();
    let body = move || {
        hub::outlive(); // as on the stack of a greenlet that has ended: nobody's to kill
        links();
    };
    if hub::spawn(birth, body).is_err() {
        run()();
    }
}
