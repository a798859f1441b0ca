//! `greenlet_local!`: one value a greenlet, made at its first use, dropped when the greenlet ends.

mod net_util;

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use greenloom::{Greenlet, greenlet_local, scope, sleep, spawn, yield_now};
use net_util::{Log, OnDrop, finish, hang_guard, until_parked};

const FOR_EVER: Duration = Duration::from_secs(3_600);

greenlet_local! {
    static COUNT: Cell<u32> = Cell::new(100);
}

fn bump() -> u32 {
    COUNT.with(|count| {
        count.set(count.get() + 1);
        count.get()
    })
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let greenlets: Vec<_> = (0..3).map(|_| spawn(|| [bump(), bump()])).collect();
    for greenlet in greenlets {
        assert_eq!(greenlet.get().unwrap(), [101, 102]);
    }
}

#[test]
fn main_has_its_own() {
    let _guard = hang_guard();
    assert_eq!(bump(), 101);
    assert_eq!(spawn(bump).get().unwrap(), 101);
    assert_eq!(bump(), 102);
}

#[test]
fn each_keeps_its_own_across_switches() {
    let _guard = hang_guard();
    let greenlets: Vec<_> = (0..10)
        .map(|n| {
            spawn(move || {
                COUNT.with(|count| count.set(n));
                for round in 1..=5 {
                    yield_now();
                    assert_eq!(bump(), n + round);
                }
            })
        })
        .collect();
    for greenlet in greenlets {
        greenlet.get().unwrap();
    }
}

#[test]
fn a_value_may_be_held_while_its_greenlet_waits() {
    let _guard = hang_guard();
    let hold = || {
        COUNT.with(|count| {
            count.set(1);
            yield_now();
            // The others have set theirs meanwhile.
            count.get() + bump()
        })
    };
    let greenlets = [spawn(hold), spawn(hold)];
    assert_eq!(greenlets.map(|greenlet| greenlet.get().unwrap()), [3, 3]);
}

#[test]
fn scoped_greenlets_have_theirs() {
    let _guard = hang_guard();
    COUNT.with(|count| count.set(7));
    let sum = scope(|s| {
        let children = [s.spawn(bump), s.spawn(bump)];
        children.map(|child| child.get().unwrap()).iter().sum::<u32>()
    });
    assert_eq!(sum, 202);
    assert_eq!(bump(), 8);
}

#[test]
fn a_thread_s_main_greenlets_have_theirs() {
    let _guard = hang_guard();
    bump();
    assert_eq!(finish(thread::spawn(bump)), 101);
}

// ── Making ──

thread_local! {
    static MADE: Cell<u32> = const { Cell::new(0) };
}

greenlet_local! {
    /// Counts, a thread, how often it was made.
    static COUNTED: u32 = MADE.with(|made| {
        made.set(made.get() + 1);
        made.get()
    });
    /// Made from another of them, across a switch.
    static DERIVED: String = COUNTED.with(|number| {
        yield_now();
        format!("from {number}")
    });
}

#[test]
fn a_value_is_made_at_the_first_use_and_once_a_greenlet() {
    let _guard = hang_guard();
    let made = || MADE.with(Cell::get);
    let uses_it = || COUNTED.with(|&number| (number, COUNTED.with(|&again| again)));
    spawn(|| ()).join();
    assert_eq!(made(), 0, "not before it is used");
    assert_eq!(spawn(uses_it).get().unwrap(), (1, 1));
    assert_eq!(spawn(uses_it).get().unwrap(), (2, 2));
    assert_eq!(made(), 2);
}

#[test]
fn making_one_may_use_another_and_even_wait() {
    let _guard = hang_guard();
    let derived = || DERIVED.with(String::clone);
    let greenlets = [spawn(derived), spawn(derived)];
    let mut texts = greenlets.map(|greenlet| greenlet.get().unwrap());
    texts.sort();
    assert_eq!(texts, ["from 1", "from 2"]);
}

// ── Dropping ──

greenlet_local! {
    /// Something with a destructor.
    static HELD: RefCell<Vec<OnDrop>> = RefCell::default();
}

/// A greenlet that holds a note in its local while it runs `rest`.
fn holder(log: &Log, rest: fn()) -> Greenlet<()> {
    let log = log.clone();
    spawn(move || {
        let dropped = log.on_drop("local dropped");
        HELD.with(|held| held.borrow_mut().push(dropped));
        rest();
        log.add("body over");
    })
}

#[test]
fn a_value_is_dropped_when_its_greenlet_ends_and_before_join_returns() {
    // X6.
    let _guard = hang_guard();
    let log = Log::default();
    let greenlet = holder(&log, yield_now);
    greenlet.join();
    log.add("joined");
    assert_eq!(log.take(), ["body over", "local dropped", "joined"]);
    assert!(greenlet.is_finished(), "the handle lives on");
}

#[test]
fn a_killed_greenlet_drops_its_values() {
    let _guard = hang_guard();
    let log = Log::default();
    let greenlet = holder(&log, || sleep(FOR_EVER));
    until_parked(&greenlet);
    greenlet.kill();
    log.add("killed");
    assert_eq!(log.take(), ["local dropped", "killed"]);
}

#[test]
fn a_panicking_greenlet_drops_its_values() {
    let _guard = hang_guard();
    let log = Log::default();
    let greenlet = holder(&log, || resume_unwind(Box::new("silent")));
    greenlet.join();
    assert_eq!(log.take(), ["local dropped"]);
}

#[test]
fn values_outlive_everything_on_the_greenlet_s_stack() {
    let _guard = hang_guard();
    let log = Log::default();
    let greenlet = spawn({
        let log = log.clone();
        move || {
            let dropped = log.on_drop("local dropped");
            HELD.with(|held| held.borrow_mut().push(dropped));
            let _on_stack = log.on_drop("stack dropped");
        }
    });
    greenlet.join();
    assert_eq!(log.take(), ["stack dropped", "local dropped"]);
}

/// Uses another local of its greenlet while it is dropped, and tells what it found there.
struct Last(Sender<u32>);

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.send(bump());
    }
}

greenlet_local! {
    static LAST: RefCell<Option<Last>> = RefCell::new(None);
}

#[test]
fn a_destructor_may_use_another_local() {
    let _guard = hang_guard();
    let (tell, told) = mpsc::channel();
    // Whichever of the two was made first, the destructor of one finds a value of the other.
    for count_first in [true, false] {
        let tell = tell.clone();
        let greenlet = spawn(move || {
            if count_first {
                bump();
            }
            LAST.with(|last| last.replace(Some(Last(tell))));
            if !count_first {
                bump();
            }
        });
        greenlet.get().unwrap();
        let found = told.try_recv().expect("dropped before the greenlet was over");
        assert!(found == 101 || found == 102, "{found}: its own or a new one");
    }
}

greenlet_local! {
    /// Made for the first time by a destructor, when the others are being dropped.
    static LATE: RefCell<Vec<OnDrop>> = RefCell::default();
    static EARLY: RefCell<Option<MakesLate>> = RefCell::new(None);
}

struct MakesLate(Log);

impl Drop for MakesLate {
    fn drop(&mut self) {
        self.0.add("early dropped");
        let noted = self.0.on_drop("late dropped");
        LATE.with(|late| late.borrow_mut().push(noted));
    }
}

#[test]
fn a_value_made_by_a_destructor_is_dropped_too() {
    let _guard = hang_guard();
    let log = Log::default();
    let greenlet = spawn({
        let log = log.clone();
        move || drop(EARLY.with(|early| early.replace(Some(MakesLate(log)))))
    });
    greenlet.get().unwrap();
    assert_eq!(log.take(), ["early dropped", "late dropped"]);
}

#[test]
fn main_s_values_are_dropped_with_its_thread() {
    let _guard = hang_guard();
    let (tell, told) = mpsc::channel();
    finish(thread::spawn(move || {
        bump();
        LAST.with(|last| drop(last.replace(Some(Last(tell)))));
    }));
    let found = told.try_recv().expect("dropped with the thread");
    assert!(found == 101 || found == 102, "{found}: its own or a new one");
}
