//! Readiness of descriptors, and who waits for it.
//!
//! Every source is registered once, for both directions, edge-triggered. The kernel then tells a
//! *change* once; so readiness is stored, and only two things clear it: the kernel's "would block",
//! and a transfer that a stream socket cut short, which says the same without another call. An
//! event that comes before anybody waits is thereby not lost.
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
//! This file hands out tickets; it wakes nobody.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::line::{Line, LineKey};
use super::ticket::Ticket;
use crate::sys;

/// Events taken from the kernel at once; what is left comes with the next look.
const BATCH: usize = 1024;

/// The token of the inbox's waker.
const WAKER: Token = Token(usize::MAX);

/// mio waits in whole milliseconds, rounded up. What is nearer is waited for in nanoseconds.
const COARSE: Duration = Duration::from_millis(1);

/// One direction of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// A registered descriptor. Its number is not used again, so a late event of an earlier source in
/// the same slot is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceId {
    slot: u32,
    generation: u32,
}

impl SourceId {
    fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.slot as usize)
    }

    fn from_token(token: Token) -> SourceId {
        SourceId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "greenloom keeps a slot and a generation in one event token: it needs 64-bit pointers"
);

/// The sources of one hub.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    /// Opened when it is first needed: a hub that only sleeps and switches has no descriptor.
    system: Option<System>,
    sources: Slab<Source>,
    /// The numbers under which the system watches somebody's descriptor.
    watched: HashSet<RawFd>,
    generation: u32,
    /// Tickets in all lines.
    waiting: usize,
}

#[derive(Debug)]
struct System {
    poll: Poll,
    events: Events,
}

#[derive(Debug)]
struct Source {
    generation: u32,
    /// What is watched in place of a descriptor that another source has already.
    duplicate: Option<OwnedFd>,
    read: Direction,
    write: Direction,
}

#[derive(Debug)]
struct Direction {
    ready: bool,
    /// The peer hung up or sent urgent data, or an error was seen: readiness that a short transfer
    /// does not use up.
    lasts: bool,
    line: Line<Ticket>,
}

impl Default for Direction {
    /// Ready until the kernel says otherwise: a first call is simply tried.
    fn default() -> Direction {
        Direction { ready: true, lasts: false, line: Line::default() }
    }
}

impl Source {
    fn side(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }
}

impl Poller {
    fn system(&mut self) -> io::Result<&mut System> {
        match &mut self.system {
            Some(system) => Ok(system),
            empty => {
                let system = System { poll: Poll::new()?, events: Events::with_capacity(BATCH) };
                Ok(empty.insert(system))
            }
        }
    }

    /// Several sources may have the same descriptor, standard input say. The system watches each
    /// number once (`epoll` refuses the second, `kqueue` forgets the first); so the later ones are
    /// watched by duplicates. The road not taken: one registration that they share would outlive
    /// the owner who closes the descriptor, and be found again by whoever gets the number next.
    ///
    /// # Errors
    ///
    /// As the kernel says: no descriptor left for the poller or a duplicate, too many watches, or a
    /// file that cannot be polled.
    pub(crate) fn register(&mut self, fd: BorrowedFd<'_>) -> io::Result<SourceId> {
        self.generation = self.generation.wrapping_add(1) & 0x7FFF_FFFF; // never WAKER's
        let generation = self.generation;
        let slot = self.sources.vacant_key() as u32;
        let id = SourceId { slot, generation };
        let is_watched = self.watched.contains(&fd.as_raw_fd());
        let duplicate = if is_watched { Some(fd.try_clone_to_owned()?) } else { None };
        let number = duplicate.as_ref().map_or(fd, AsFd::as_fd).as_raw_fd();
        let registry = self.system()?.poll.registry();
        registry.register(&mut SourceFd(&number), id.token(), interest())?;
        self.watched.insert(number);
        let (read, write) = (Direction::default(), Direction::default());
        self.sources.insert(Source { generation, duplicate, read, write });
        Ok(id)
    }

    /// To be called before the descriptor is closed: a duplicate elsewhere would keep the
    /// registration alive, and nobody could remove it any more.
    pub(crate) fn deregister(&mut self, id: SourceId, fd: BorrowedFd<'_>) {
        if self.source(id).is_none() {
            return;
        }
        let source = self.sources.remove(id.slot as usize);
        debug_assert!(source.read.line.is_empty() && source.write.line.is_empty());
        let number = source.duplicate.as_ref().map_or(fd, AsFd::as_fd).as_raw_fd();
        self.watched.remove(&number);
        if let Some(system) = &self.system {
            // It fails only if the descriptor is gone already, and the registration with it.
            let _ = system.poll.registry().deregister(&mut SourceFd(&number));
        }
    }

    #[inline]
    fn source(&mut self, id: SourceId) -> Option<&mut Source> {
        let source = self.sources.get_mut(id.slot as usize)?;
        (source.generation == id.generation).then_some(source)
    }

    /// May a newcomer try its call at once? Not if it would fail, and not past those who wait.
    #[inline]
    pub(crate) fn may_try(&mut self, id: SourceId, side: Side) -> bool {
        self.source(id).is_none_or(|source| {
            let direction = source.side(side);
            direction.ready && direction.line.is_empty()
        })
    }

    /// The kernel said "would block".
    pub(crate) fn would_block(&mut self, id: SourceId, side: Side) {
        if let Some(source) = self.source(id) {
            source.side(side).ready = false;
        }
    }

    /// A stream socket transferred less than it was asked to.
    #[inline]
    pub(crate) fn cut_short(&mut self, id: SourceId, side: Side) {
        if let Some(source) = self.source(id) {
            let direction = source.side(side);
            direction.ready &= direction.lasts;
        }
    }

    /// Something has happened that the kernel does not tell. Whoever is to try is returned.
    pub(crate) fn nudge(&mut self, id: SourceId, side: Side) -> Option<Ticket> {
        let direction = self.source(id)?.side(side);
        direction.ready = true;
        direction.line.first().copied()
    }

    /// Joins the line. The source must be registered.
    #[inline]
    pub(crate) fn join(&mut self, id: SourceId, side: Side, ticket: Ticket) -> Option<LineKey> {
        let source = self.source(id)?;
        let key = source.side(side).line.push(ticket);
        self.waiting += 1;
        Some(key)
    }

    /// Waits again, at the same place, under a new ticket.
    pub(crate) fn stay(&mut self, id: SourceId, side: Side, key: LineKey, ticket: Ticket) {
        let place = self.source(id).and_then(|source| source.side(side).line.get_mut(key));
        if let Some(place) = place {
            *place = ticket;
        }
    }

    /// Leaves the line; with `cut_short`, after a [short transfer](Poller::cut_short). Whoever is to
    /// try next is returned, if there is anything to try for.
    #[inline]
    pub(crate) fn leave(
        &mut self,
        id: SourceId,
        side: Side,
        key: LineKey,
        cut_short: bool,
    ) -> Option<Ticket> {
        let direction = self.source(id)?.side(side);
        direction.ready &= !cut_short | direction.lasts;
        let left = direction.line.remove(key).is_some();
        let next = if direction.ready { direction.line.first().copied() } else { None };
        self.waiting -= usize::from(left);
        next
    }

    /// Does anybody wait for a descriptor?
    pub(crate) fn is_waited_on(&self) -> bool {
        self.waiting > 0
    }

    /// A handle by which other threads end a wait.
    pub(crate) fn waker(&mut self) -> io::Result<Arc<Waker>> {
        let registry = self.system()?.poll.registry();
        Ok(Arc::new(Waker::new(registry, WAKER)?))
    }

    /// Waits until something happens or `time` has passed (`None`: however long), and hands the
    /// tickets it calls for to `wake`.
    ///
    /// May return early and empty-handed: after a signal, or when what is left of `time` is less
    /// than a millisecond and deserves a finer wait.
    pub(crate) fn wait(&mut self, time: Option<Duration>, mut wake: impl FnMut(Ticket)) {
        let Some(system) = &mut self.system else {
            if time != Some(Duration::ZERO) {
                sys::wait::pause(time);
            }
            return;
        };
        let time = match time {
            Some(time) if time >= COARSE => {
                Some(Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
            }
            Some(time) if time > Duration::ZERO => {
                sys::wait::readable_within(&system.poll, time);
                Some(Duration::ZERO)
            }
            other => other,
        };
        match system.poll.poll(&mut system.events, time) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("waiting for events failed: {error}"),
        }
        let sources = &mut self.sources;
        for event in &system.events {
            let id = SourceId::from_token(event.token());
            let Some(source) = sources.get_mut(id.slot as usize) else { continue };
            if source.generation != id.generation || event.token() == WAKER {
                continue; // of a source that is gone, or only to end the wait
            }
            let (end, failed) = (event.is_read_closed(), event.is_error());
            let lasts = end || failed || event.is_priority();
            if lasts || event.is_readable() {
                source.read.became_ready(lasts).map(&mut wake);
            }
            // Closed for writing means hung up, which closes reading, or an error.
            let lasts = lasts && (failed || event.is_write_closed());
            if lasts || event.is_writable() {
                source.write.became_ready(lasts).map(&mut wake);
            }
        }
    }
}

/// Both directions; and urgent data, at whose mark a read stops short of what has arrived.
fn interest() -> Interest {
    let both = Interest::READABLE | Interest::WRITABLE;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let both = both | Interest::PRIORITY;
    both
}

/// Does a short read say that there is no more? Only where urgent data is announced.
pub(crate) const SHORT_READS_TELL: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl Direction {
    /// Whoever is to try is returned.
    #[inline]
    fn became_ready(&mut self, lasts: bool) -> Option<Ticket> {
        self.ready = true;
        self.lasts |= lasts;
        self.line.first().copied()
    }
}
