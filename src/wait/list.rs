//! `WaitList`: the one queue behind every primitive.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use crate::error::Interruption;
use crate::hub::{self, Line, LineKey, Reason, TaskId, Ticket, Wake};

/// Those who wait for one thing, in order of arrival.
#[derive(Debug, Default)]
pub struct WaitList {
    line: RefCell<Line<Waiter>>,
}

/// Somebody in a line.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A wait of one task. What the number says is between those who push and those who wake.
    Ticket(Ticket, u32),
    /// A task that has not begun, and begins when it is woken.
    Start(TaskId, u32),
    /// One who listens to many things over many waits, and knows this one by this number.
    Bell(Rc<Bell>, usize),
}

/// The number of one who waits for this thing alone, where nothing else is agreed on. (Of those who
/// wait for several, it is the index of the thing in their list.)
const ALONE: u32 = u32::MAX / 4;

impl WaitList {
    /// Waits in this line, whatever is true already, until woken or until `deadline`.
    #[inline(always)]
    pub(crate) fn wait(
        &self,
        reason: Reason,
        deadline: Option<Instant>,
    ) -> Result<Wake, Interruption> {
        self.wait_as(ALONE, reason, deadline)
    }

    /// As [`wait`](WaitList::wait), with that number for whoever wakes us to see.
    ///
    /// Inlined where it is used, because that is where the reason is made (see [`Line::push_with`]).
    #[inline(always)]
    pub(crate) fn wait_as(
        &self,
        number: u32,
        reason: Reason,
        deadline: Option<Instant>,
    ) -> Result<Wake, Interruption> {
        let mut place = None;
        let result = hub::park(reason, deadline, |ticket| {
            let key = self.line.borrow_mut().push_with(|| Waiter::Ticket(ticket, number));
            place = Some(key);
        });
        match (result, place) {
            (Ok(Wake::Ready(_)), _) | (_, None) => {} // whoever woke us took us out
            (_, Some(place)) => self.remove(place),
        }
        result
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
            place = Some(self.push(Waiter::Ticket(ticket, ALONE)));
            also(ticket);
        });
        if let Some(place) = place {
            self.remove(place);
        }
        result
    }

    /// As [`wait`](WaitList::wait), but nothing can interrupt it (see [`hub::park_hard`]).
    pub(crate) fn wait_hard(&self, reason: Reason) -> Result<Wake, Interruption> {
        let mut place = None;
        let arm = |ticket| place = Some(self.push(Waiter::Ticket(ticket, ALONE)));
        let result = hub::park_hard(reason, None, arm);
        if let (Err(_), Some(place)) = (result, place) {
            self.remove(place);
        }
        result
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

    /// Does nobody stand here? (Who does may have been killed, or have run out of time, and be about
    /// to leave: see [`first_waiting`](WaitList::first_waiting).)
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.line.borrow().is_empty()
    }

    /// The number of the first in line, who may be about to leave.
    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        self.line.borrow().first().map(Waiter::number)
    }

    /// The number of the first who waits still.
    pub(crate) fn first_waiting(&self) -> Option<u32> {
        loop {
            let waits = match self.line.borrow().first()? {
                Waiter::Ticket(ticket, number) => hub::waits(*ticket).then_some(*number),
                waiter @ (Waiter::Start(..) | Waiter::Bell(..)) => Some(waiter.number()),
            };
            if waits.is_some() {
                return waits;
            }
            drop(self.pop());
        }
    }

    /// Does everybody wait still who stands here?
    pub(crate) fn all_wait(&self) -> bool {
        self.line.borrow().iter().all(|waiter| match waiter {
            Waiter::Ticket(ticket, _) => hub::waits(*ticket),
            Waiter::Start(..) | Waiter::Bell(..) => true,
        })
    }

    #[inline]
    fn pop(&self) -> Option<Waiter> {
        self.line.borrow_mut().pop()
    }

    /// Takes out the first in line, and wakes him with `number`. False: he waits no more.
    #[inline(always)]
    pub(crate) fn wake_front(&self, number: u32) -> bool {
        match self.pop_ticket() {
            Some((ticket, _)) => hub::unpark(ticket, number),
            None => self.pop().is_some_and(|waiter| waiter.wake_with(number)),
        }
    }

    /// Takes out the first in line if he is what most are.
    #[inline(always)]
    fn pop_ticket(&self) -> Option<(Ticket, u32)> {
        let mut line = self.line.borrow_mut();
        let Some(&Waiter::Ticket(ticket, number)) = line.first() else { return None };
        line.drop_first();
        Some((ticket, number))
    }

    /// As [`wake_front`](WaitList::wake_front); he runs before everybody who is ready.
    #[inline(always)]
    pub(crate) fn wake_front_next(&self, number: u32) -> bool {
        match self.pop_ticket() {
            Some((ticket, _)) => hub::unpark_next(ticket, number),
            None => self.pop().is_some_and(|waiter| waiter.wake_with(number)),
        }
    }

    /// Wakes the first who waits still. False: nobody does.
    #[inline(always)]
    pub(crate) fn wake_one(&self) -> bool {
        while !self.is_empty() {
            if self.wake_front(0) {
                return true;
            }
        }
        false
    }

    /// Wakes the first who waits still, with his own number. Returns who that is, and the number.
    #[inline]
    pub(crate) fn wake_first(&self) -> Option<(TaskId, u32)> {
        loop {
            while let Some((ticket, number)) = self.pop_ticket() {
                if hub::unpark(ticket, number) {
                    return Some((ticket.task(), number));
                }
            }
            let waiter = self.pop()?;
            let (task, number) = (waiter.task(), waiter.number());
            if waiter.wake_with(number) {
                return Some((task, number));
            }
        }
    }

    /// Wakes all who wait now, in order.
    pub(crate) fn wake_all(&self) {
        self.wake_all_counting(ALONE);
    }

    /// As [`wake_all`](WaitList::wake_all). Returns how many of them had that number.
    pub(crate) fn wake_all_counting(&self, number: u32) -> u32 {
        let mut count = 0;
        while let Some(waiter) = self.pop() {
            let his = waiter.number();
            if waiter.wake_with(his) && his == number {
                count += 1;
            }
        }
        count
    }

    /// Wakes all who wait now with `number`, in order.
    pub(crate) fn wake_all_with(&self, number: u32) {
        while let Some(waiter) = self.pop() {
            waiter.wake_with(number);
        }
    }
}

impl Waiter {
    #[inline]
    fn number(&self) -> u32 {
        match self {
            Waiter::Ticket(_, number) | Waiter::Start(_, number) => *number,
            Waiter::Bell(_, number) => *number as u32,
        }
    }

    fn task(&self) -> TaskId {
        match self {
            Waiter::Ticket(ticket, _) => ticket.task(),
            Waiter::Start(task, _) => *task,
            Waiter::Bell(..) => TaskId::NOBODY,
        }
    }

    /// False if he waits no more.
    #[inline]
    fn wake_with(self, number: u32) -> bool {
        match self {
            Waiter::Ticket(ticket, _) => hub::unpark(ticket, number),
            Waiter::Start(task, _) => hub::start(task),
            Waiter::Bell(bell, number) => {
                bell.ring(number);
                true
            }
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

    /// The next that rang, waiting for it until `deadline` if need be.
    pub(crate) fn next(
        &self,
        reason: Reason,
        deadline: Option<Instant>,
    ) -> Result<Option<usize>, Interruption> {
        loop {
            let rung = self.rung.borrow_mut().pop_front();
            if rung.is_some() {
                return Ok(rung);
            }
            let woken = hub::park(reason, deadline, |ticket| self.owner.set(Some(ticket)))?;
            if woken == Wake::Elapsed {
                return Ok(self.rung.borrow_mut().pop_front());
            }
        }
    }
}
