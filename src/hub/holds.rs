//! Who holds what others wait for, so that a dump can say so.
//!
//! Pure data. A lock has an entry here from the first time that somebody waits for it until it is
//! dropped. It is kept up to date only while somebody waits: nobody asks at other times.

use std::panic::Location;

use slab::Slab;

use super::ticket::{HoldId, TaskId};

/// Who holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    One(TaskId),
    /// So many share it, for reading.
    Many(usize),
}

#[derive(Debug)]
pub(super) struct Hold {
    /// Where the thing was made.
    pub(super) site: &'static Location<'static>,
    pub(super) holder: Holder,
}

/// What is held, and waited for.
#[derive(Debug, Default)]
pub(super) struct Holds(Slab<Hold>);

impl Holds {
    pub(super) fn insert(&mut self, site: &'static Location<'static>, holder: Holder) -> HoldId {
        HoldId(self.0.insert(Hold { site, holder }) as u32)
    }

    pub(super) fn get(&self, id: HoldId) -> Option<&Hold> {
        self.0.get(id.0 as usize)
    }

    pub(super) fn set(&mut self, id: HoldId, holder: Holder) {
        if let Some(hold) = self.0.get_mut(id.0 as usize) {
            hold.holder = holder;
        }
    }

    pub(super) fn remove(&mut self, id: HoldId) {
        self.0.try_remove(id.0 as usize);
    }
}
