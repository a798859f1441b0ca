//! The lock itself, without what it guards: an owner, and a line of those who want to be it.

use std::cell::Cell;
use std::time::Duration;

use super::holding::Holding;
use crate::error::Interruption;
use crate::hub::{self, Holder, TaskId, Wake};
use crate::wait::{self, WaitList};

#[derive(Debug)]
pub(super) struct Lock {
    owner: Cell<TaskId>,
    line: WaitList,
    holding: Holding,
}

impl Lock {
    #[track_caller]
    pub(super) fn new() -> Lock {
        Lock {
            owner: Cell::new(TaskId::NOBODY),
            line: WaitList::default(),
            holding: Holding::new(),
        }
    }

    pub(super) fn holding(&self) -> &Holding {
        &self.holding
    }

    pub(super) fn is_locked(&self) -> bool {
        self.owner.get() != TaskId::NOBODY
    }

    /// Is it the current greenlet's?
    pub(super) fn is_ours(&self) -> bool {
        self.owner.get() == hub::current_task()
    }

    /// If it is free, nobody waits for it: it would be his.
    #[inline]
    pub(super) fn try_acquire(&self) -> bool {
        let is_free = !self.is_locked();
        if is_free {
            self.owner.set(hub::current_task());
        }
        is_free
    }

    /// Takes it, waiting for it at most so long if it has to be waited for. False: it is not ours,
    /// because the time is over or the caller unwinds.
    #[inline]
    #[track_caller]
    pub(super) fn acquire(&self, verb: &'static &'static str, limit: Option<Duration>) -> bool {
        if !self.is_locked() {
            wait::spend(); // who has to wait stands in line at once, or somebody would overtake him
            if self.try_acquire() {
                return true;
            }
        }
        self.wait(verb, limit)
    }

    #[inline(always)]
    #[track_caller]
    fn wait(&self, verb: &'static &'static str, limit: Option<Duration>) -> bool {
        match self.wait_in_line(verb, limit) {
            Ok(Wake::Ready(_)) => true, // whoever released it has made it ours
            Ok(Wake::Elapsed) => false,
            Err(interruption) => {
                hub::raise(interruption);
                false
            }
        }
    }

    #[inline(always)]
    fn wait_in_line(
        &self,
        verb: &'static &'static str,
        limit: Option<Duration>,
    ) -> Result<Wake, Interruption> {
        let reason = self.holding.reason(verb, Holder::One(self.owner.get()));
        self.line.wait_as(0, reason, limit.map(hub::after))
    }

    /// Takes it whatever happens, and returns what is to be raised when that is done: what has
    /// `interrupted` the caller before, or does so now. (One at a time: whatever else may come
    /// meanwhile is held back, or it would be lost.) It is not ours afterwards if the caller must not
    /// wait at all.
    pub(super) fn acquire_again(
        &self,
        verb: &'static &'static str,
        mut interrupted: Option<Interruption>,
    ) -> Option<Interruption> {
        if self.try_acquire() {
            return interrupted;
        }
        if interrupted.is_none() {
            match self.wait_in_line(verb, None) {
                Ok(_) => return None,
                Err(interruption) => interrupted = Some(interruption),
            }
        }
        if let Some(Interruption::Raised(_)) = interrupted {
            let _shield = hub::shield();
            if !self.try_acquire() {
                // Only the end of the thread interrupts this, and then nobody needs it any more.
                let _ = self.wait_in_line(verb, None);
            }
        }
        interrupted
    }

    /// Hands it to the first who waits for it, if anybody does.
    #[inline]
    pub(super) fn release(&self) {
        if self.line.is_empty() {
            self.owner.set(TaskId::NOBODY);
        } else {
            self.hand_on();
        }
    }

    #[inline(never)]
    fn hand_on(&self) {
        match self.line.wake_first() {
            Some((task, _)) => {
                self.owner.set(task);
                self.holding.changed(Holder::One(task));
            }
            None => self.owner.set(TaskId::NOBODY),
        }
    }
}
