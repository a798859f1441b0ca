//! Where greenlets wait for what any thread of the process may end: the change of a word, or the
//! closing of a descriptor.
//!
//! The hub's own lines belong to one thread. Here is a table for the whole process, in buckets with a
//! lock each, as the kernel has one for futexes; who wakes greenlets of another thread sends its hub
//! a letter. A waiter is taken out by whoever wakes him, under the lock, and that is what being woken
//! *is*: a wait that ends for another reason at the same moment finds its place gone, and knows that
//! it has been woken after all. So no wake-up is lost.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::hub::{self, Remote, Ticket};
use crate::sys::local;
use crate::sys::native::natively;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The word at that address is to change.
    Word(usize),
    /// Somebody is to unpark the thread that has its parker there.
    Parker(usize),
    /// That descriptor is to be closed.
    Descriptor(c_int),
}

/// Bits of what a waiter wants to hear of, and of what has happened: they meet if one is in both.
pub(super) type Mask = u32;

pub(super) const ANY: Mask = Mask::MAX;

struct Waiter {
    number: u64,
    key: Key,
    mask: Mask,
    /// `None` until it waits, which it is just about to.
    ticket: Option<Ticket>,
    /// Of [`this_thread`].
    thread: u64,
    hub: Remote,
}

struct Bucket {
    /// How many are in it, or about to be.
    count: AtomicUsize,
    waiters: Mutex<Vec<Waiter>>,
}

const BUCKETS: usize = 256;

static LOT: [Bucket; BUCKETS] = [const { Bucket::new() }; BUCKETS];

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A number that no other thread has or had: a place may be left behind by one that has ended.
fn this_thread() -> u64 {
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    local::with(&NUMBER, |number| {
        if number.get() == 0 {
            number.set(NUMBERS.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Key {
    fn bucket(self) -> &'static Bucket {
        let number = match self {
            // One bucket, so that one look tells that there is neither.
            Key::Word(address) | Key::Parker(address) => address as u64 >> 2,
            Key::Descriptor(fd) => fd as u64,
        };
        // The upper bits of a product with the golden ratio are well mixed.
        &LOT[(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % BUCKETS]
    }
}

impl Bucket {
    const fn new() -> Bucket {
        Bucket { count: AtomicUsize::new(0), waiters: Mutex::new(Vec::new()) }
    }

    /// To be called in a native section: see [`natively`].
    fn waiters(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the lot. Left when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    key: Key,
    number: u64,
}

impl Place {
    /// Takes a place, if `holds`, which is asked when whoever comes to wake would find it. From now
    /// on a wake-up is not missed; the current task is to wait at once, and to [arm](Place::arm) it.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left for this hub to be woken by.
    pub(super) fn take(
        key: Key,
        mask: Mask,
        holds: impl FnOnce() -> bool,
    ) -> std::io::Result<Option<Place>> {
        let hub = hub::quiet_remote()?;
        let thread = this_thread();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let bucket = key.bucket();
        Ok(natively(|| {
            let mut waiters = bucket.waiters();
            bucket.count.fetch_add(1, Ordering::SeqCst);
            // Pairs with the one in `is_empty`: either who changes the word sees us, or we see it
            // changed.
            fence(Ordering::SeqCst);
            if !holds() {
                bucket.count.fetch_sub(1, Ordering::SeqCst);
                return None;
            }
            waiters.push(Waiter { number, key, mask, ticket: None, thread, hub });
            Some(Place { key, number })
        }))
    }

    /// The current task waits, under that ticket.
    pub(super) fn arm(&self, ticket: Ticket) {
        let is_there = natively(|| {
            let mut waiters = self.key.bucket().waiters();
            match waiters.iter_mut().find(|waiter| waiter.number == self.number) {
                Some(waiter) => {
                    waiter.ticket = Some(ticket);
                    true
                }
                None => false,
            }
        });
        if !is_there {
            hub::unpark(ticket, 0); // somebody was quicker
        }
    }

    /// Leaves it. True: somebody has woken who had it.
    pub(super) fn leave(self) -> bool {
        // It has not to leave again.
        !ManuallyDrop::new(self).remove()
    }

    fn remove(&self) -> bool {
        let bucket = self.key.bucket();
        let waiter = natively(|| {
            let mut waiters = bucket.waiters();
            let at = waiters.iter().position(|waiter| waiter.number == self.number)?;
            bucket.count.fetch_sub(1, Ordering::SeqCst);
            Some(waiters.remove(at))
        });
        waiter.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Is it certain that nobody waits for that? Asked after what they wait for has happened.
#[inline]
pub(super) fn is_empty(key: Key) -> bool {
    fence(Ordering::SeqCst);
    key.bucket().count.load(Ordering::SeqCst) == 0
}

/// Wakes those who wait for `key`, first come, first served, and of each thread's greenlets `most` at
/// the most. Returns how many.
///
/// Of each thread's: one that is woken runs when its thread does, and if that stands still, for
/// whatever reason, those of others must not wait for it.
pub(super) fn wake(key: Key, mask: Mask, most: usize) -> usize {
    if is_empty(key) {
        return 0;
    }
    let mut told = Told::default();
    let mut woken = 0;
    let meant = |told: &Told, waiter: &Waiter| {
        waiter.key == key && waiter.mask & mask != 0 && told.of(waiter.thread) < most
    };
    while let Some(waiter) = first(key.bucket(), |waiter| meant(&told, waiter)) {
        let thread = waiter.thread;
        if waiter.wake() {
            told.count(thread);
            woken += 1;
        }
    }
    woken
}

/// How many greenlets of which threads have been woken. Of more threads than fit too many may be:
/// who waits for a word looks again in any case.
#[derive(Default)]
struct Told([(u64, usize); 8]);

impl Told {
    fn of(&self, thread: u64) -> usize {
        self.0.iter().find(|(number, _)| *number == thread).map_or(0, |(_, count)| *count)
    }

    fn count(&mut self, thread: u64) {
        let slot = self.0.iter_mut().find(|(number, _)| *number == thread || *number == 0);
        if let Some((number, count)) = slot {
            (*number, *count) = (thread, *count + 1);
        }
    }
}

/// Wakes everybody who waits for one of these descriptors, in whatever order.
pub(super) fn wake_descriptors(range: &RangeInclusive<c_int>) {
    fence(Ordering::SeqCst); // as in `is_empty`
    let meant = |waiter: &Waiter| matches!(waiter.key, Key::Descriptor(fd) if range.contains(&fd));
    for bucket in &LOT {
        while bucket.count.load(Ordering::SeqCst) > 0 {
            let Some(waiter) = first(bucket, meant) else { break };
            waiter.wake();
        }
    }
}

/// Takes out all of this thread who wait for `key`, and hands their tickets to `f`, which is to wake
/// them and must not come back here. For those who may be called by the hub at work.
pub(super) fn drain(key: Key, f: &mut dyn FnMut(Ticket)) {
    let bucket = key.bucket();
    natively(|| {
        bucket.waiters().retain(|waiter| {
            let Some(ticket) = waiter.ticket.filter(|_| waiter.key == key) else { return true };
            bucket.count.fetch_sub(1, Ordering::SeqCst);
            f(ticket);
            false
        });
    });
}

/// Takes out whoever is to be woken next.
fn first(bucket: &Bucket, meant: impl Fn(&Waiter) -> bool) -> Option<Waiter> {
    natively(|| {
        let mut waiters = bucket.waiters();
        let at = waiters.iter().position(meant)?;
        bucket.count.fetch_sub(1, Ordering::SeqCst);
        Some(waiters.remove(at))
    })
}

impl Waiter {
    /// False: there is nobody any more.
    fn wake(self) -> bool {
        match self.ticket {
            // It will find its place gone.
            None => true,
            Some(ticket) if self.thread == this_thread() && hub::try_unpark(ticket) => true,
            Some(ticket) => natively(|| self.hub.wake(ticket)).is_ok(),
        }
    }
}
