//! `Barrier`: waiting for each other.

use std::cell::Cell;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use crate::error::BrokenBarrier;
use crate::hub::{self, Reason, Wake};
use crate::wait::WaitList;

/// What those are told who wait at a barrier.
const PASS: u32 = 0;
const BROKEN: u32 = 1;

/// A place where so many greenlets wait for each other, again and again.
///
/// If one of them cannot come, because it is killed, runs out of time or calls
/// [`abort`](Barrier::abort), the barrier is *broken*: everybody gets an error, until it is
/// [`reset`](Barrier::reset). `threading.Barrier`.
///
/// # Examples
///
/// ```
/// use greenloom::{scope, sync::Barrier};
/// use std::cell::Cell;
///
/// let (barrier, leaders) = (Barrier::new(3), Cell::new(0));
/// scope(|s| {
///     for _ in 0..3 {
///         s.spawn(|| {
///             for _ in 0..5 {
///                 if barrier.wait().unwrap().is_leader() {
///                     leaders.set(leaders.get() + 1);
///                 }
///             }
///         });
///     }
/// });
/// assert_eq!(leaders.get(), 5); // one a round
/// ```
pub struct Barrier {
    parties: usize,
    waiting: Cell<usize>,
    is_broken: Cell<bool>,
    /// How often it has opened, for good or for bad.
    round: Cell<u64>,
    line: WaitList,
    site: &'static Location<'static>,
}

impl Barrier {
    /// One for so many. None is as good as one, as in std.
    #[must_use]
    #[track_caller]
    pub fn new(parties: usize) -> Barrier {
        Barrier {
            parties: parties.max(1),
            waiting: Cell::new(0),
            is_broken: Cell::new(false),
            round: Cell::new(0),
            line: WaitList::default(),
            site: Location::caller(),
        }
    }

    /// Waits until all have come. The last one to come does not wait, and is the leader.
    ///
    /// # Errors
    ///
    /// If the barrier is broken, or breaks meanwhile. A caller that unwinds and would have to wait
    /// breaks it.
    #[track_caller]
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_within(None)
    }

    /// As [`wait`](Barrier::wait), but waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait); and running out of time breaks the barrier.
    #[track_caller]
    pub fn wait_timeout(&self, d: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_within(Some(d))
    }

    #[track_caller]
    fn wait_within(&self, limit: Option<Duration>) -> Result<BarrierWaitResult, BrokenBarrier> {
        if self.is_broken() {
            return Err(BrokenBarrier);
        }
        if self.waiting.get() + 1 == self.parties {
            if !self.line.all_wait() {
                // Somebody has been killed, or has run out of time, and has not run since.
                self.abort();
                return Err(BrokenBarrier);
            }
            self.open(PASS);
            return Ok(BarrierWaitResult { is_leader: true });
        }
        self.waiting.set(self.waiting.get() + 1);
        let round = self.round.get();
        let reason = Reason::new(&"wait of the Barrier").made_at(self.site);
        match self.line.wait(reason, limit.map(hub::after)) {
            Ok(Wake::Ready(PASS)) => Ok(BarrierWaitResult { is_leader: false }),
            Ok(Wake::Ready(_)) => Err(BrokenBarrier),
            Ok(Wake::Elapsed) => {
                self.does_not_come(round);
                Err(BrokenBarrier)
            }
            Err(interruption) => {
                self.does_not_come(round);
                hub::raise(interruption);
                Err(BrokenBarrier)
            }
        }
    }

    /// Somebody has left who was waited for in that round. The others may be in another by now.
    fn does_not_come(&self, round: u64) {
        if round == self.round.get() {
            self.abort();
        }
    }

    /// Lets go all who wait, and makes it as new. Those who wait get an error.
    pub fn reset(&self) {
        self.open(BROKEN);
        self.is_broken.set(false);
    }

    /// Breaks it: all who wait get an error, and so does whoever comes, until
    /// [`reset`](Barrier::reset).
    pub fn abort(&self) {
        self.is_broken.set(true);
        self.open(BROKEN);
    }

    fn open(&self, told: u32) {
        self.waiting.set(0);
        self.round.set(self.round.get() + 1);
        self.line.wake_all_with(told);
    }

    /// How many it takes.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Is it broken?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken.get()
    }
}

impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting.get())
            .field("is_broken", &self.is_broken.get())
            .finish_non_exhaustive()
    }
}

/// What [`Barrier::wait`] returns.
#[derive(Debug)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// True for exactly one of those who passed together: the one that came last.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}
