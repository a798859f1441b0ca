//! `thread::park`, by more than one greenlet of a thread.
//!
//! std's parker is one word for each thread, and its owner alone is supposed to park by it:
//!
//! ```text
//!   EMPTY 0, NOTIFIED 1 (somebody has unparked), PARKED -1
//!   park:    subtract 1; was it NOTIFIED? return.      } twice in a row, and the word is -2, for
//!            wait while PARKED; NOTIFIED -> EMPTY?      } which nobody waits and which nobody
//!            return, else wait again                    } changes: the second would spin for ever
//!   timeout: the same, once, and EMPTY at the end, whatever it was
//!   unpark:  swap in NOTIFIED; was it PARKED? wake the futex
//! ```
//!
//! Channels, `thread::scope` and most executors wait by it. Here all greenlets of a thread stand in
//! one line, and an unpark is for all of them: each returns, looks whether what it waits for has
//! come, and parks again if not. (`park` may return for nothing.)
//!
//! # What the word says
//!
//! *While a greenlet runs, EMPTY or NOTIFIED.* So who parks finds a word as it should be. An unpark
//! by another thread is then a silent one: nothing but the word tells of it.
//!
//! *While the hub sleeps, and there is a line, PARKED.* An unpark is then loud: it wakes the futex,
//! and so the hub, by a place in the lot. The hub asks [`lookout`] before it sleeps, which turns
//! EMPTY into PARKED or finds it NOTIFIED, and after, and at each look in passing.
//!
//! Whoever finds NOTIFIED wakes the line. A greenlet that leaves the line turns EMPTY into NOTIFIED,
//! because std demands that of whoever comes out of the wait, and std turns it back.
//!
//! An unpark comes before a park as well: then it must return at once. What was taken out of the word
//! for the sake of the line is counted, and each greenlet knows what the count was when it last
//! left; if it has changed, it does not wait.
//!
//! # No unpark is lost
//!
//! Loud ones arrive, as said. A silent one stays in the word until somebody takes it out. If we do,
//! or a greenlet that does not come back to wait, so be it: we have woken the line. But std takes it
//! out as well, without a word to us: a greenlet of this thread that parks and finds NOTIFIED returns
//! at once, and so does one that has just been let out while another unpark falls onto its NOTIFIED.
//! What it was meant for may stand in the line. There is no way to see that: the word goes from
//! EMPTY through NOTIFIED to EMPTY while nobody but std looks.
//!
//! So nobody stands in the line unlooked-after. All are woken for nothing, to look for themselves:
//! before the hub sleeps, when an unpark was heard or somebody has joined them who may have taken
//! what was theirs; from then on after a millisecond, after two, after four, and so on. As each of
//! them looks after the taking, what was taken is made good. What is taken while they look is made
//! good by the next time, which is as far away as they have stood there by then; but they look for
//! less than a microsecond each, and after an hour it was two dozen times. Rejected: a fixed period,
//! since who is idle is to be idle; and waking each other at every return, which for two greenlets
//! never ends.
//!
//! So this is quick where greenlets are unparked by other threads, and where those who unpark a
//! greenlet of their own thread then wait for something else. It is slow, with longer and longer
//! pauses, where greenlets of one thread do nothing but unpark each other and park: each takes what
//! it has just given, and nothing tells that from two who look in vain.
//!
//! # Channels within one thread
//!
//! `std::sync::mpsc` (and `crossbeam-channel`, from which it comes) wakes no receiver of the sender's
//! own thread: it takes for granted that who sends is not waiting at the same time, and passes over
//! those whose thread it is, which it tells by the address of a thread-local. No unpark is made, so
//! nothing can be done about it here: a message from a greenlet of the same thread lies in the
//! channel until the receiver looks, which it does when a message of another thread comes, at its
//! time limit, or when the last sender is dropped. The same holds for a full channel with room
//! again.
//!
//! # Whose word it is
//!
//! Nothing tells that a futex is a parker. So when a greenlet waits for a word to change from PARKED,
//! this thread unparks itself, by std. Does that wake the very word? Then it is its parker, and the
//! wait is over: `park` returns for nothing, once. If not, it is nobody's that we know, and it is
//! waited for as any other.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::descriptor::WOULD_BLOCK;
use super::futex::stay;
use super::lot::{self, Key, Place};
use crate::hub::{self, Asked, LocalKey, Ticket};
use crate::sys::local;

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = u32::MAX;

/// What is known of this thread's parker.
#[derive(Debug)]
struct Parker {
    /// Its word; zero if it is not known.
    word: Cell<usize>,
    /// A wake-up of this word is not to be made, but noted, by setting it to zero.
    heard: Cell<usize>,
    /// How many stand in line.
    standing: Cell<usize>,
    /// How many times NOTIFIED was taken out of the word for the sake of the line.
    taken: Cell<u64>,
    /// How many times the lookout has been asked: in between, a greenlet that comes back has done
    /// nothing but look.
    looks: Cell<u64>,
    /// How many times anybody has come or gone.
    visits: Cell<u64>,
    /// When those who stand there are to be woken for nothing.
    due: Cell<Option<Instant>>,
    /// How long after the last time.
    pause: Cell<Duration>,
}

thread_local! {
    static PARKER: Parker = const {
        Parker {
            word: Cell::new(0),
            heard: Cell::new(0),
            standing: Cell::new(0),
            taken: Cell::new(0),
            looks: Cell::new(0),
            visits: Cell::new(0),
            due: Cell::new(None),
            pause: Cell::new(ALONE),
        }
    };
}

/// The first pause that is one.
const SHORTEST: Duration = Duration::from_millis(1);

/// The first pause where no other greenlet is known to park.
const ALONE: Duration = Duration::from_millis(10);

/// So that it can be added to a moment.
const LONGEST: Duration = Duration::from_secs(1 << 24);

/// What a greenlet that has parked knows of its last time.
#[derive(Debug, Default)]
struct Visit {
    /// The value of `taken` when it left.
    taken: Cell<u64>,
    /// The value of `looks` when it left.
    looks: Cell<u64>,
    /// The value of `visits` when it left.
    visits: Cell<u64>,
}

// ── whose word it is ──

/// Is that word, which is waited for to change from `value`, this thread's parker?
#[inline]
pub(super) fn is_parker(word: &AtomicU32, value: u32) -> bool {
    value == PARKED && local::with(&PARKER, |parker| parker.is_at(word))
}

/// A futex is woken. Was that only to find out which one it is?
#[inline]
pub(super) fn hears(word: usize) -> bool {
    local::with(&PARKER, |parker| {
        let is_meant = parker.heard.get() == word && word != 0;
        if is_meant {
            parker.heard.set(0);
        }
        is_meant
    })
}

/// The thread waits for that word as a whole, and if it is its parker, takes out of it what may be
/// meant for the line.
#[inline]
pub(super) fn may_have_taken(word: usize) {
    local::with(&PARKER, |parker| {
        if parker.word.get() == word {
            parker.pause.set(Duration::ZERO);
        }
    });
}

impl Parker {
    fn is_at(&self, word: &AtomicU32) -> bool {
        let at = word.as_ptr().addr();
        if self.word.get() != 0 {
            return self.word.get() == at;
        }
        self.heard.set(at);
        thread::current().unpark();
        // Another thread's unpark may have been first, and ours have woken nothing. Then the word is
        // NOTIFIED, and it is found out the next time.
        if self.heard.replace(0) != 0 {
            return false;
        }
        self.word.set(at);
        hub::post(lookout);
        true
    }

    fn key(&self) -> Key {
        Key::Parker(self.word.get())
    }

    /// Wakes the line, in which `wake` ends a wait.
    fn wake_line(&self, wake: &mut dyn FnMut(Ticket)) {
        self.due.set(None);
        lot::drain(self.key(), wake);
    }

    /// NOTIFIED was found in the word.
    fn hear(&self, wake: &mut dyn FnMut(Ticket)) {
        self.taken.set(self.taken.get() + 1);
        self.pause.set(Duration::ZERO);
        self.wake_line(wake);
    }
}

// ── waiting ──

/// Waits by the parker of this thread, at which a greenlet has just found or put PARKED. `None`: it
/// cannot be waited for here.
pub(super) fn wait(word: &AtomicU32, deadline: Option<Instant>) -> Option<isize> {
    local::with(&PARKER, |parker| {
        let visit = visit();
        let exchange = word.compare_exchange(PARKED, EMPTY, Ordering::AcqRel, Ordering::Acquire);
        if exchange.is_err() || visit.taken.get() != parker.taken.get() {
            parker.let_out(word, &visit);
            return Some(WOULD_BLOCK);
        }
        let Ok(place) = Place::take(parker.key(), lot::ANY, || true) else {
            // To the kernel, which waits for PARKED; or it is NOTIFIED by now.
            let _ = word.compare_exchange(EMPTY, PARKED, Ordering::AcqRel, Ordering::Acquire);
            return None;
        };
        parker.come(&visit);
        let result = place.map(|place| stay(place, &"park", deadline));
        parker.standing.set(parker.standing.get() - 1);
        parker.let_out(word, &visit);
        result
    })
}

/// What the current greenlet knows of its last time.
fn visit() -> Rc<Visit> {
    static KEY: u8 = 0;
    let key = LocalKey::Static((&raw const KEY).addr());
    if let Some(visit) = hub::local(key).and_then(|visit| visit.downcast().ok()) {
        return visit;
    }
    let visit = Rc::new(Visit::default());
    hub::set_local(key, Rc::clone(&visit) as _);
    visit
}

impl Parker {
    /// The current greenlet joins the line.
    fn come(&self, visit: &Visit) {
        let is_alone = visit.visits.get() == self.visits.get() && self.standing.get() == 0;
        let came_back_at_once = visit.looks.get() == self.looks.get() && visit.visits.get() > 0;
        // Else who knows what it has taken, or had taken from it.
        if !came_back_at_once {
            self.pause.set(if is_alone { self.pause.get().min(ALONE) } else { Duration::ZERO });
            self.due.set(None);
        }
        self.visits.set(self.visits.get() + 1);
        self.standing.set(self.standing.get() + 1);
    }

    /// The current greenlet goes back to std, which lets it out if the word is NOTIFIED.
    fn let_out(&self, word: &AtomicU32, visit: &Visit) {
        let exchange = word.compare_exchange(EMPTY, NOTIFIED, Ordering::AcqRel, Ordering::Acquire);
        if exchange == Err(NOTIFIED) {
            // Somebody has unparked, and that is for all.
            self.hear(&mut |ticket| _ = hub::try_unpark(ticket));
        }
        self.visits.set(self.visits.get() + 1);
        visit.visits.set(self.visits.get());
        visit.taken.set(self.taken.get());
        visit.looks.set(self.looks.get());
    }
}

// ── looking after those who wait ──

/// What the hub asks.
fn lookout(asked: Asked, wake: &mut dyn FnMut(Ticket)) -> Option<Instant> {
    local::with(&PARKER, |parker| {
        parker.looks.set(parker.looks.get() + 1);
        if parker.standing.get() == 0 { None } else { parker.look(asked, wake) }
    })
}

impl Parker {
    fn look(&self, asked: Asked, wake: &mut dyn FnMut(Ticket)) -> Option<Instant> {
        let word: *const AtomicU32 = std::ptr::with_exposed_provenance(self.word.get());
        // SAFETY: the word belongs to this thread, which runs.
        let word = unsafe { &*word };
        let exchange = |from, to| {
            word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire) == Ok(from)
        };
        // Awake, from now on or still.
        let _ = exchange(PARKED, EMPTY);
        if exchange(NOTIFIED, EMPTY) {
            self.hear(wake);
            return None;
        }
        let now = Instant::now();
        let pause = self.pause.get();
        let due = self.due.get().unwrap_or(now + pause);
        if due <= now {
            self.pause.set((pause * 2).clamp(SHORTEST, LONGEST));
            self.wake_line(wake);
            return None;
        }
        self.due.set(Some(due));
        if asked == Asked::BeforeSleep && !exchange(EMPTY, PARKED) {
            let _ = exchange(NOTIFIED, EMPTY); // in this very moment
            self.hear(wake);
            return None;
        }
        Some(due)
    }
}
