//! A value that is set once, waited for by many, and linked to: what results and futures are.

use std::cell::{OnceCell, RefCell};
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

use crate::error::Unwinding;
use crate::hub::{self, Reason, Wake};
use crate::links::{self, LinkId, Links};
use crate::wait::WaitList;

type Link<R> = Box<dyn FnOnce(&R)>;

pub(crate) struct Promise<R> {
    value: OnceCell<R>,
    line: WaitList,
    links: RefCell<Links<Link<R>>>,
    what: &'static str,
    site: &'static Location<'static>,
}

impl<R> Promise<R> {
    #[track_caller]
    pub(crate) fn new(what: &'static str) -> Promise<R> {
        Promise {
            value: OnceCell::new(),
            line: WaitList::default(),
            links: RefCell::default(),
            what,
            site: Location::caller(),
        }
    }

    /// Sets it, and wakes all who wait. The links are still to be called.
    ///
    /// # Errors
    ///
    /// The value, if there is one already.
    pub(crate) fn set(&self, value: R) -> Result<(), R> {
        self.value.set(value)?;
        self.line.wake_all();
        Ok(())
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&R> {
        self.value.get()
    }

    /// The value, once it is there. `Ok(None)`: `deadline` came first.
    ///
    /// # Errors
    ///
    /// If it would have to wait while the caller unwinds.
    #[track_caller]
    pub(crate) fn wait(
        &self,
        verb: &'static &'static str,
        deadline: Option<Instant>,
    ) -> Result<Option<&R>, Unwinding> {
        while self.value.get().is_none() {
            match self.line.wait(Reason::new(verb).made_at(self.site), deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => break,
                Err(interruption) => {
                    let unwinding = hub::raise(interruption);
                    return self.get().map(Some).ok_or(unwinding);
                }
            }
        }
        Ok(self.get())
    }

    pub(crate) fn line(&self) -> &WaitList {
        &self.line
    }

    pub(crate) fn into_value(self) -> Option<R> {
        self.value.into_inner()
    }

    pub(crate) fn is_linked(&self) -> bool {
        !self.links.borrow().are_through()
    }

    pub(crate) fn unlink(&self, id: LinkId) -> bool {
        let removed = self.links.borrow_mut().remove(id);
        removed.is_some()
    }

    /// Drops those that have not been called. They may hold whoever holds us.
    pub(crate) fn drop_links(&self) {
        let links = self.links.take();
        hub::quietly("panicked in the destructor of a link", || drop(links));
    }

    /// Calls them here and now, those that are added meanwhile included. They may wait.
    pub(crate) fn call_links(&self) {
        let Some(value) = self.get() else { return };
        loop {
            let Some(link) = self.links.borrow_mut().next() else { return };
            hub::quietly("panicked in a link", || link(value));
        }
    }
}

impl<R: 'static> Promise<R> {
    /// `f` is called once the value is there; soon, but not at once, if it is already.
    #[track_caller]
    pub(crate) fn link(self: &Rc<Self>, f: Link<R>) -> LinkId {
        let (id, late) = {
            let mut links = self.links.borrow_mut();
            (links.add(f), self.get().is_some() && links.has_no_runner())
        };
        if late {
            self.call_links_elsewhere();
        }
        id
    }

    /// Calls them in a greenlet of their own, if there are any.
    pub(crate) fn call_links_elsewhere(self: &Rc<Self>) {
        if !self.is_linked() || hub::has_ended() {
            return;
        }
        self.links.borrow_mut().claim();
        let site = self.links.borrow().site();
        links::run_elsewhere(&format!("the {}", self.what), site, || {
            let promise = Rc::clone(self);
            move || {
                promise.call_links();
                hub::quietly("panicked in the destructor of a result", || drop(promise));
            }
        });
    }
}
