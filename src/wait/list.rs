//! `WaitList`: the one queue behind every primitive.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use crate::error::Interruption;
use crate::hub::{self, Line, LineKey, Reason, Ticket, Wake};

/// Those who wait for one thing, in order of arrival.
#[derive(Debug, Default)]
pub struct WaitList {
    line: RefCell<Line<Waiter>>,
}

/// Somebody in a line.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A wait of one task, to be woken with this number.
    Ticket(Ticket, u32),
    /// One who listens to many things over many waits, and knows this one by this number.
    Bell(Rc<Bell>, usize),
}

impl WaitList {
    /// Waits in this line, whatever is true already, until woken or until `deadline`.
    pub(crate) fn wait(
        &self,
        reason: Reason,
        deadline: Option<Instant>,
    ) -> Result<Wake, Interruption> {
        self.wait_with(reason, deadline, |_| ())
    }

    /// As [`wait`](WaitList::wait); `also` may file the ticket elsewhere, too.
    pub(crate) fn wait_with(
        &self,
        reason: Reason,
        deadline: Option<Instant>,
        also: impl FnOnce(Ticket),
    ) -> Result<Wake, Interruption> {
        let mut place = None;
        let result = hub::park(reason, deadline, |ticket| {
            place = Some(self.push(Waiter::Ticket(ticket, 0)));
            also(ticket);
        });
        self.leave_unless_served(result, place);
        result
    }

    /// As [`wait`](WaitList::wait), but nothing can interrupt it (see [`hub::park_hard`]).
    pub(crate) fn wait_hard(&self, reason: Reason) -> Result<Wake, Interruption> {
        let mut place = None;
        let arm = |ticket| place = Some(self.push(Waiter::Ticket(ticket, 0)));
        let result = hub::park_hard(reason, arm);
        self.leave_unless_served(result, place);
        result
    }

    fn leave_unless_served(&self, result: Result<Wake, Interruption>, place: Option<LineKey>) {
        match (result, place) {
            (Ok(Wake::Ready(0)), _) | (_, None) => {} // whoever woke us took us out
            (_, Some(place)) => self.remove(place),
        }
    }

    #[inline]
    pub(crate) fn push(&self, waiter: Waiter) -> LineKey {
        self.line.borrow_mut().push(waiter)
    }

    /// Leaves the line; nothing if already served.
    pub(crate) fn remove(&self, place: LineKey) {
        // Two statements: a bell that goes with its last place must not go under the borrow.
        let left = self.line.borrow_mut().remove(place);
        drop(left);
    }

    /// Wakes all who wait now, in order.
    pub(crate) fn wake_all(&self) {
        loop {
            let Some(waiter) = self.line.borrow_mut().pop() else { return };
            waiter.wake();
        }
    }
}

impl Waiter {
    fn wake(self) {
        match self {
            Waiter::Ticket(ticket, number) => {
                hub::unpark(ticket, number);
            }
            Waiter::Bell(bell, number) => bell.ring(number),
        }
    }
}

/// Collects, in order, what rang while its owner did or did not wait.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: RefCell<VecDeque<usize>>,
    owner: Cell<Option<Ticket>>,
}

impl Bell {
    pub(crate) fn ring(&self, number: usize) {
        self.rung.borrow_mut().push_back(number);
        if let Some(ticket) = self.owner.take() {
            hub::unpark(ticket, 0);
        }
    }

    /// The next that rang, waiting for it if need be.
    pub(crate) fn next(&self, reason: Reason) -> Result<usize, Interruption> {
        loop {
            if let Some(number) = self.rung.borrow_mut().pop_front() {
                return Ok(number);
            }
            hub::park(reason, None, |ticket| self.owner.set(Some(ticket)))?;
        }
    }
}
