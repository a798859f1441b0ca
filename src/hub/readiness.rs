//! What is known of a descriptor's two directions, and who waits in each.
//!
//! The kernel tells a *change* once; so readiness is stored, and only two things clear it: the
//! kernel's "would block", and a transfer that a stream socket cut short, which says the same without
//! another call. An event that comes before anybody waits is thereby not lost.
//!
//! ```text
//!                 event                         would block, or cut short (*)
//!   (not ready) --------> ready: calls are tried -----------------------------> (not ready)
//!        calls go to the line, the first in line is woken by the event
//!
//!   (*) not after the peer has hung up, or sent urgent data, or an error was seen: then there may
//!       be more, and no further event
//! ```
//!
//! The first in line keeps its place while it tries again, so that a newcomer cannot overtake it;
//! it leaves when it is served or gives up, and then passes on what readiness is left.
//!
//! Shared by the poller, which is told of events, and by whoever makes the calls: most of these need
//! not ask the hub for anything. Pure data, which hands out tickets and wakes nobody.

use std::cell::{Cell, RefCell};

use super::line::{Line, LineKey};
use super::ticket::Ticket;

/// One direction of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

#[derive(Debug, Default)]
pub(crate) struct Readiness {
    read: Direction,
    write: Direction,
}

#[derive(Debug)]
struct Direction {
    /// Of [`READY`], [`LASTS`] and [`LINED`], in one byte because most who ask need nothing else.
    flags: Cell<u8>,
    line: RefCell<Line<Ticket>>,
}

/// A call can be tried.
const READY: u8 = 1;

/// The peer hung up or sent urgent data, or an error was seen: readiness that a short transfer does
/// not use up.
const LASTS: u8 = 2;

/// Somebody is in line.
const LINED: u8 = 4;

impl Default for Direction {
    /// Ready until the kernel says otherwise: a first call is simply tried.
    fn default() -> Direction {
        Direction { flags: Cell::new(READY), line: RefCell::default() }
    }
}

impl Direction {
    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    /// Whoever is to try, if anybody is in line.
    #[inline]
    fn first(&self) -> Option<Ticket> {
        if self.has(LINED) { self.line.borrow().first().copied() } else { None }
    }
}

impl Readiness {
    #[inline(always)]
    fn side(&self, side: Side) -> &Direction {
        match side {
            Side::Read => &self.read,
            Side::Write => &self.write,
        }
    }

    /// May a newcomer try its call at once? Not if it would fail, and not past those who wait.
    #[inline(always)]
    pub(crate) fn may_try(&self, side: Side) -> bool {
        self.side(side).flags.get() & (READY | LINED) == READY
    }

    /// The kernel said "would block".
    pub(crate) fn would_block(&self, side: Side) {
        let direction = self.side(side);
        direction.flags.set(direction.flags.get() & !READY);
    }

    /// A stream socket transferred less than it was asked to.
    #[inline(always)]
    pub(crate) fn cut_short(&self, side: Side) {
        if !self.side(side).has(LASTS) {
            self.would_block(side);
        }
    }

    /// It has become ready, as the kernel says, or by what the kernel does not tell. Whoever is to
    /// try is returned.
    #[inline]
    pub(crate) fn became_ready(&self, side: Side, lasts: bool) -> Option<Ticket> {
        let direction = self.side(side);
        let flags = if lasts { READY | LASTS } else { READY };
        direction.flags.set(direction.flags.get() | flags);
        direction.first()
    }

    /// Joins the line.
    #[inline]
    pub(crate) fn join(&self, side: Side, ticket: Ticket) -> LineKey {
        let direction = self.side(side);
        direction.flags.set(direction.flags.get() | LINED);
        direction.line.borrow_mut().push(ticket)
    }

    /// Waits again, at the same place, under a new ticket.
    pub(crate) fn stay(&self, side: Side, key: LineKey, ticket: Ticket) {
        if let Some(place) = self.side(side).line.borrow_mut().get_mut(key) {
            *place = ticket;
        }
    }

    /// Leaves the line; with `cut_short`, after a [short transfer](Readiness::cut_short). Whoever is
    /// to try next is returned, if there is anything to try for.
    #[inline]
    pub(crate) fn leave(&self, side: Side, key: LineKey, cut_short: bool) -> Option<Ticket> {
        if cut_short {
            self.cut_short(side);
        }
        let direction = self.side(side);
        let mut line = direction.line.borrow_mut();
        line.remove(key);
        if line.is_empty() {
            direction.flags.set(direction.flags.get() & !LINED);
            return None;
        }
        if direction.has(READY) { line.first().copied() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ticket::TaskId;

    fn ticket(turn: u32) -> Ticket {
        Ticket::new(TaskId::MAIN, turn)
    }

    #[test]
    fn smoke() {
        let it = Readiness::default();
        assert!(it.may_try(Side::Read) && it.may_try(Side::Write));
        it.would_block(Side::Read);
        assert!(!it.may_try(Side::Read) && it.may_try(Side::Write));
        let key = it.join(Side::Read, ticket(1));
        assert_eq!(it.became_ready(Side::Read, false), Some(ticket(1)));
        assert!(!it.may_try(Side::Read), "the first in line has its turn");
        assert_eq!(it.leave(Side::Read, key, true), None);
        assert!(!it.may_try(Side::Read), "cut short");
        assert_eq!(it.became_ready(Side::Read, false), None);
        assert!(it.may_try(Side::Read));
    }

    #[test]
    fn who_leaves_passes_on_what_is_left() {
        let it = Readiness::default();
        it.would_block(Side::Write);
        let (first, _second) = (it.join(Side::Write, ticket(1)), it.join(Side::Write, ticket(2)));
        assert_eq!(it.became_ready(Side::Write, false), Some(ticket(1)));
        it.stay(Side::Write, first, ticket(3));
        assert_eq!(it.became_ready(Side::Write, false), Some(ticket(3)), "the same, a turn later");
        assert_eq!(it.leave(Side::Write, first, false), Some(ticket(2)));
    }

    #[test]
    fn what_lasts_is_not_used_up_by_a_short_transfer() {
        let it = Readiness::default();
        assert_eq!(it.became_ready(Side::Read, true), None);
        it.cut_short(Side::Read);
        assert!(it.may_try(Side::Read));
        it.would_block(Side::Read);
        assert!(!it.may_try(Side::Read), "but by the kernel's word it is");
    }
}
