//! Who holds a lock, told to the hub for dumps: only while somebody waits for it.

use std::cell::Cell;
use std::panic::Location;

use crate::hub::{self, HoldId, Holder, Reason};

/// Where a lock was made, and the hub's note of who holds it.
#[derive(Debug)]
pub(super) struct Holding {
    site: &'static Location<'static>,
    /// From the first wait on.
    noted: Cell<Option<HoldId>>,
}

impl Holding {
    #[track_caller]
    pub(super) const fn new() -> Holding {
        Holding { site: Location::caller(), noted: Cell::new(None) }
    }

    pub(super) fn site(&self) -> &'static Location<'static> {
        self.site
    }

    /// The reason of a wait for what `holder` holds.
    pub(super) fn reason(&self, verb: &'static &'static str, holder: Holder) -> Reason {
        match self.noted.get() {
            Some(id) => hub::change_holder(id, holder),
            None => self.noted.set(hub::note_hold(self.site, holder)),
        }
        let reason = Reason::new(verb);
        self.noted.get().map_or(reason.made_at(self.site), |id| reason.held(id))
    }

    /// It has gone to somebody else, and others may wait still.
    pub(super) fn changed(&self, holder: Holder) {
        if let Some(id) = self.noted.get() {
            hub::change_holder(id, holder);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(id) = self.noted.get() {
            hub::forget_hold(id);
        }
    }
}

/// For calls that cannot return without what they were called for.
#[cold]
#[track_caller]
pub(super) fn must_not_wait(what: &str, site: &Location<'_>, instead: &str) -> ! {
    panic!(
        "a greenlet that unwinds must not wait for the {what} made at {site}: \
         use `{instead}` where that may happen"
    )
}
