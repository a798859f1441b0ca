//! Tasks by slot.
//!
//! What a slab is, except that a task's fields are written and cleared where they lie: copying a
//! whole task in and out shows in what a spawn costs.

use std::panic::Location;

use super::task::{State, Task};
use super::ticket::TaskId;
use crate::sys::prefetch::prefetch;

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Task>,
    free: Vec<u32>,
}

impl Table {
    /// A slot to begin a task in.
    #[inline]
    pub(super) fn vacant(&mut self, site: &'static Location<'static>) -> (u32, &mut Task) {
        let slot = self.free.pop().unwrap_or_else(|| self.grow(site));
        (slot, &mut self.slots[slot as usize])
    }

    #[cold]
    fn grow(&mut self, site: &'static Location<'static>) -> u32 {
        self.slots.push(Task::gone(site));
        self.slots.len() as u32 - 1
    }

    /// Removes a task. Its name names nothing from now on.
    #[inline]
    pub(super) fn remove(&mut self, id: TaskId) {
        self.free.push(id.slot() as u32);
        self.slots[id.slot()].retire();
    }

    #[inline]
    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        self.slots.get(id.slot()).filter(|task| task.generation() == id.generation())
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.slots.get_mut(id.slot()).filter(|task| task.generation() == id.generation())
    }

    /// One that is known to be there, as the running one is.
    #[inline]
    pub(super) fn there(&mut self, id: TaskId) -> &mut Task {
        &mut self.slots[id.slot()]
    }

    /// As many as there ever were at once.
    #[inline(always)]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Its slot will be looked at soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, id: TaskId) {
        prefetch(self.slots.as_ptr().wrapping_add(id.slot()));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.slots.iter().enumerate().filter(is_there).map(|(slot, task)| (name(slot, task), task))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

fn is_there((_, task): &(usize, &Task)) -> bool {
    task.state() != State::Gone
}

fn name(slot: usize, task: &Task) -> TaskId {
    TaskId::new(slot as u32, task.generation())
}
