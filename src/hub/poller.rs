//! Readiness of descriptors, and who waits for it.
//!
//! Every source is registered once, for both directions, edge-triggered. What the kernel tells is
//! kept in its [`Readiness`], which the source and the poller share.
//!
//! This file hands out tickets; it wakes nobody.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::readiness::{Readiness, Side};
use super::ticket::Ticket;
use crate::sys;

/// Events taken from the kernel at once; what is left comes with the next look. No more, because the
/// kernel and we touch for each what those who are woken will soon use: of a thousand the first would
/// have left the cache by the time of their turn.
const BATCH: usize = 128;

/// The token of the inbox's waker.
const WAKER: Token = Token(usize::MAX);

/// mio waits in whole milliseconds, rounded up. What is nearer is waited for in nanoseconds.
const COARSE: Duration = Duration::from_millis(1);

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

/// Who is handed the tickets that events call for. (A trait, because no closure can be made to be
/// inlined, and this is done for every event.)
pub(crate) trait Wakes {
    fn event(&mut self, ticket: Ticket);
}

/// The sources of one hub.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    /// Opened when it is first needed: a hub that only sleeps and switches has no descriptor.
    system: Option<System>,
    sources: Slab<Source>,
    watched: Numbers,
    generation: u32,
    /// How many wait for a descriptor, or have been woken and not run yet.
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
    /// The number that is watched.
    number: RawFd,
    /// What is watched in place of a descriptor that another source has already.
    duplicate: Option<OwnedFd>,
    readiness: Rc<Readiness>,
}

/// A descriptor that is watched, as its owner knows it.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    id: SourceId,
    pub(crate) readiness: Rc<Readiness>,
}

/// The numbers under which the system watches somebody's descriptor: a bit each. The system gives
/// the lowest number that is free, so there are about as many bits as descriptors.
#[derive(Debug, Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    fn place(number: RawFd) -> (usize, u64) {
        (number as usize / 64, 1 << (number % 64))
    }

    fn contains(&self, number: RawFd) -> bool {
        let (word, bit) = Numbers::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn insert(&mut self, number: RawFd) {
        let (word, bit) = Numbers::place(number);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    fn remove(&mut self, number: RawFd) {
        let (word, bit) = Numbers::place(number);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
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
    pub(crate) fn register(&mut self, fd: BorrowedFd<'_>) -> io::Result<Watched> {
        self.generation = self.generation.wrapping_add(1) & 0x7FFF_FFFF; // never WAKER's
        let generation = self.generation;
        let slot = self.sources.vacant_key() as u32;
        let id = SourceId { slot, generation };
        let is_watched = self.watched.contains(fd.as_raw_fd());
        let duplicate = if is_watched { Some(fd.try_clone_to_owned()?) } else { None };
        let number = duplicate.as_ref().map_or(fd, AsFd::as_fd).as_raw_fd();
        let registry = self.system()?.poll.registry();
        registry.register(&mut SourceFd(&number), id.token(), interest())?;
        self.watched.insert(number);
        let readiness = Rc::<Readiness>::default();
        let shared = Rc::clone(&readiness);
        self.sources.insert(Source { generation, number, duplicate, readiness: shared });
        Ok(Watched { id, readiness })
    }

    /// To be called before the descriptor is closed: a duplicate elsewhere would keep the
    /// registration alive, and nobody could remove it any more.
    pub(crate) fn deregister(&mut self, watched: &Watched) {
        let id = watched.id;
        let there = self.sources.get(id.slot as usize);
        if there.is_none_or(|source| source.generation != id.generation) {
            return; // it was watched by a hub that has ended
        }
        let source = self.sources.remove(id.slot as usize);
        self.watched.remove(source.number);
        if let Some(system) = &self.system {
            // It fails only if the descriptor is gone already, and the registration with it.
            let _ = system.poll.registry().deregister(&mut SourceFd(&source.number));
        }
        drop(source.duplicate);
    }

    /// Somebody is about to wait for a descriptor.
    #[inline]
    pub(crate) fn begin_waiting(&mut self) {
        self.waiting += 1;
    }

    /// He runs again.
    #[inline]
    pub(crate) fn end_waiting(&mut self) {
        self.waiting -= 1;
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
    /// tickets it calls for to `whom`.
    ///
    /// May return early and empty-handed: after a signal, or when what is left of `time` is less
    /// than a millisecond and deserves a finer wait.
    pub(crate) fn wait(&mut self, time: Option<Duration>, whom: &mut impl Wakes) {
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
                if let Some(ticket) = source.readiness.became_ready(Side::Read, lasts) {
                    whom.event(ticket);
                }
            }
            // Closed for writing means hung up, which closes reading, or an error.
            let lasts = lasts && (failed || event.is_write_closed());
            if lasts || event.is_writable() {
                if let Some(ticket) = source.readiness.became_ready(Side::Write, lasts) {
                    whom.event(ticket);
                }
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
