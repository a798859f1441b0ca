//! Five philosophers, five forks, and two forks to a meal: how they starve, and how they do not.
//!
//! ```text
//! cargo run --example dining
//! ```
//!
//! If everybody takes the left fork and waits for the right one, nobody ever eats. The main greenlet
//! waits for them, and finds that nothing can wake it: its wait panics with `BlocksForever`, whose
//! report names every fork, who holds it and who waits for it. (The runtime prints the whole of it
//! to standard error; what matters is picked out here.) Then come the cures.

#![expect(clippy::print_stdout, reason = "shows who starves and who does not")]

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use greenloom::sync::{Barrier, Mutex, MutexGuard, RLock, Semaphore};
use greenloom::{BlocksForever, Builder, Greenlet};

const PHILOSOPHERS: [&str; SEATS] = ["Aristotle", "Buddha", "Confucius", "Diotima", "Epictetus"];
const SEATS: usize = 5;
const MEALS: usize = 3;

/// How long it takes to reach for the second fork: long enough for others to be in the way.
const REACH: Duration = Duration::from_millis(1);
/// How long a meal takes.
const CHEW: Duration = Duration::from_millis(1);
/// How long a patient philosopher waits for the second fork.
const PATIENCE: Duration = Duration::from_millis(2);

fn main() {
    println!("All take the left fork first:");
    show(dinner(left_first));
    println!("The fork with the lower number first:");
    show(dinner(lower_first));
    println!("Nobody without leave of the waiter, who keeps one seat free:");
    show(dinner(with_leave));
    println!("Whoever does not get the second fork in time puts the first one back:");
    show(dinner(giving_way));

    println!("Diogenes eats alone; left and right of his plate is the same fork, a Mutex:");
    show(lonely_dinner_with_mutex());
    println!("The same, and his fork is an RLock:");
    show(lonely_dinner_with_rlock());
}

fn show(end: Result<usize, BlocksForever>) {
    match end {
        Ok(meals) => println!("  meals: {meals}"),
        Err(report) => who_waits(&report).iter().for_each(|edge| println!("  {edge}")),
    }
}

/// One edge of the circle.
#[derive(Debug, PartialEq)]
struct Waits {
    who: String,
    for_what: String,
    held_by: String,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for the {}, held by {}", self.who, self.for_what, self.held_by)
    }
}

/// What the report says about locks. A line of it reads
/// `Buddha  parked  in lock of the Mutex made at FILE:LINE:COLUMN, held by Confucius, 0.003 s old ...`
fn who_waits(report: &BlocksForever) -> Vec<Waits> {
    let edge = |line: &str| {
        let (who, rest) = line.split_once(' ')?;
        let (_, rest) = rest.split_once(" in ")?;
        let (for_what, rest) = rest.split_once(", held by ")?;
        let (held_by, _) = rest.split_once(',')?;
        let [who, for_what, held_by] = [who, for_what, held_by].map(str::to_owned);
        Some(Waits { who, for_what, held_by })
    };
    report.to_string().lines().filter_map(edge).collect()
}

// ------------------------------------------------------------------------------------- the table

struct Table {
    forks: [Mutex<()>; SEATS],
    /// Brings about the worst moment.
    gong: Barrier,
    /// Gives leave to all but one.
    waiter: Semaphore,
    meals: Cell<usize>,
}

impl Table {
    fn laid() -> Table {
        // Reports tell locks apart by the place where they were made, so this is no loop.
        let forks = [
            Mutex::new(()), // left of Aristotle
            Mutex::new(()), // left of Buddha
            Mutex::new(()),
            Mutex::new(()),
            Mutex::new(()), // left of Epictetus, and right of him is the first
        ];
        let (gong, waiter) = (Barrier::new(SEATS), Semaphore::new(SEATS - 1));
        Table { forks, gong, waiter, meals: Cell::new(0) }
    }

    fn left_of(&self, seat: usize) -> &Mutex<()> {
        &self.forks[seat]
    }

    fn right_of(&self, seat: usize) -> &Mutex<()> {
        &self.forks[(seat + 1) % SEATS]
    }
}

/// How one eats one meal at one seat.
type Manners = fn(&Table, usize);

/// Five philosophers have all their meals, with the same manners; returns how many that were. Or
/// they do not, and then it returns why.
fn dinner(eat: Manners) -> Result<usize, BlocksForever> {
    let table = Rc::new(Table::laid());
    let sit_down = |(seat, name)| {
        let table = table.clone();
        philosopher(name, move || {
            for _ in 0..MEALS {
                eat(&table, seat);
                table.meals.set(table.meals.get() + 1);
            }
        })
    };
    let philosophers: Vec<_> = PHILOSOPHERS.into_iter().enumerate().map(sit_down).collect();
    let end = or_why_not(|| greenloom::joinall(&philosophers));
    greenloom::killall(&philosophers);
    end.map(|()| table.meals.get())
}

/// A greenlet that is called by its name in reports.
fn philosopher(name: &str, life: impl FnOnce() + 'static) -> Greenlet<()> {
    Builder::new().name(name).spawn(life).expect("there is memory for a stack")
}

/// Runs `wait`, which must be in the main greenlet, and catches the panic by which it ends if
/// nothing can ever wake it.
fn or_why_not<T>(wait: impl FnOnce() -> T) -> Result<T, BlocksForever> {
    panic::catch_unwind(AssertUnwindSafe(wait)).map_err(|payload| {
        match payload.downcast::<BlocksForever>() {
            Ok(report) => *report,
            Err(another) => panic::resume_unwind(another),
        }
    })
}

/// Holding two forks is all it takes.
fn chew(_one: MutexGuard<'_, ()>, _other: MutexGuard<'_, ()>) {
    greenloom::sleep(CHEW);
}

// ----------------------------------------------------------------------------------- the manners

/// Everybody has the left fork when the first of them reaches for the right one. In life it takes
/// years of bad luck; here, a barrier.
fn left_first(table: &Table, seat: usize) {
    let left = table.left_of(seat).lock();
    table.gong.wait().expect("nobody leaves before the meal");
    let right = table.right_of(seat).lock();
    chew(left, right);
}

/// A circle of people who wait for each other needs somebody who holds a higher fork and waits for
/// a lower one.
fn lower_first(table: &Table, seat: usize) {
    let (left, right) = (seat, (seat + 1) % SEATS);
    let lower = table.forks[left.min(right)].lock();
    greenloom::sleep(REACH);
    let higher = table.forks[left.max(right)].lock();
    chew(lower, higher);
}

/// With four at the table and five forks, one of them finds two.
fn with_leave(table: &Table, seat: usize) {
    let _leave = table.waiter.acquire();
    let left = table.left_of(seat).lock();
    greenloom::sleep(REACH);
    let right = table.right_of(seat).lock();
    chew(left, right);
}

/// Nobody waits for ever with a fork in hand.
fn giving_way(table: &Table, seat: usize) {
    for attempt in 1.. {
        let left = table.left_of(seat).lock();
        greenloom::sleep(REACH);
        if let Some(right) = table.right_of(seat).lock_timeout(PATIENCE) {
            return chew(left, right);
        }
        drop(left);
        // Each for another time, and longer at each attempt, or they would meet again for ever.
        greenloom::sleep(PATIENCE * attempt * (1 + seat as u32));
    }
}

// ------------------------------------------------------------------------------------- all alone

/// A mutex does not ask who you are: he waits for himself.
fn lonely_dinner_with_mutex() -> Result<usize, BlocksForever> {
    let fork = Mutex::new(());
    lonely_dinner(move || {
        let left = fork.lock();
        let right = fork.lock();
        chew(left, right);
    })
}

/// A reentrant lock does, and lets him take it as often as he likes.
fn lonely_dinner_with_rlock() -> Result<usize, BlocksForever> {
    let fork = RLock::new(());
    lonely_dinner(move || {
        let _left = fork.lock();
        let _right = fork.lock();
        greenloom::sleep(CHEW);
    })
}

fn lonely_dinner(eat: impl FnOnce() + 'static) -> Result<usize, BlocksForever> {
    let diogenes = philosopher("Diogenes", eat);
    let end = or_why_not(|| diogenes.join());
    diogenes.kill();
    end.map(|()| 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs() {
        main();
    }

    #[test]
    fn the_report_names_every_fork_its_holder_and_who_waits() {
        let report = dinner(left_first).expect_err("somebody has eaten");
        let edges = who_waits(&report);
        assert_eq!(edges.len(), SEATS, "{report}");
        for (seat, name) in PHILOSOPHERS.into_iter().enumerate() {
            let edge = edges.iter().find(|edge| edge.who == name).expect(name);
            assert_eq!(edge.held_by, PHILOSOPHERS[(seat + 1) % SEATS], "{report}");
            let place = edge.for_what.strip_prefix("lock of the Mutex made at ");
            assert!(place.is_some_and(|place| place.contains("dining.rs:")), "{edge}");
        }
        let forks: BTreeSet<_> = edges.iter().map(|edge| &edge.for_what).collect();
        assert_eq!(forks.len(), SEATS, "one is taken for another: {report}");
    }

    /// Everybody can be sent home, and the hub goes on.
    #[test]
    fn a_deadlock_leaves_nothing_behind() {
        for _ in 0..3 {
            assert!(dinner(left_first).is_err());
        }
        let left: Vec<_> = greenloom::dump().greenlets().iter().map(|g| g.name.clone()).collect();
        assert!(
            PHILOSOPHERS.iter().all(|name| !left.iter().any(|other| other == name)),
            "{left:?}"
        );
    }

    #[test]
    fn every_cure_feeds_everybody() {
        let cures: [(&str, Manners); 3] =
            [("order", lower_first), ("waiter", with_leave), ("timeout", giving_way)];
        for (cure, manners) in cures {
            assert_eq!(dinner(manners).expect(cure), SEATS * MEALS, "{cure}");
        }
    }

    #[test]
    fn who_waits_for_himself_is_named_as_his_own_holder() {
        let report = lonely_dinner_with_mutex().expect_err("a mutex is taken once");
        let [edge] = &who_waits(&report)[..] else { panic!("{report}") };
        assert_eq!((edge.who.as_str(), edge.held_by.as_str()), ("Diogenes", "Diogenes"));
    }

    #[test]
    fn a_reentrant_lock_can_be_taken_twice() {
        assert_eq!(lonely_dinner_with_rlock().expect("he knows himself"), 1);
    }
}
