//! `BlocksForever` and `dump` among those who wait for each other: every edge of a knot is shown,
//! that is who waits, for which thing made where, and who holds it at that moment. A knot can be
//! untied, and the hub is none the worse.
//!
//! What main finds when nothing can wake it is H13 and case 60 of gevent's rules, P3 that of a pool.

mod util;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use greenloom::pool::Pool;
use greenloom::queue::{self, JoinableQueue, LifoQueue, PriorityQueue, Queue};
use greenloom::sync::{
    AsyncResult, Barrier, BoundedSemaphore, Condvar, Event, Mutex, RLock, RwLock, Semaphore,
};
use greenloom::{Builder, Elapsed, Greenlet, dump, joinall, killall, sleep, spawn, with_timeout};
use util::{
    End, HOUR, Log, MINUTE, blocks_forever, end_of, ms, reason_of, settle, until, until_parked,
    within,
};

// --------------------------------------------------------------------- words

/// Something that greenlets share, and the place where it was made, as dumps show places, up to the
/// column.
struct Made<T> {
    thing: Rc<T>,
    place: String,
}

/// Makes a thing here.
macro_rules! made {
    ($make:expr) => {
        Made { thing: Rc::new($make), place: format!("{}:{}:", file!(), line!()) }
    };
}

impl<T: 'static> Made<T> {
    /// Spawns `f` with the thing under a name, and lets it come to its wait.
    fn parked<R: 'static>(&self, name: &str, f: impl FnOnce(&T) -> R + 'static) -> Greenlet<R> {
        let thing = self.thing.clone();
        parked(name, move || f(&thing))
    }
}

/// Spawns `f` under a name, and lets it come to its wait.
fn parked<R: 'static>(name: &str, f: impl FnOnce() -> R + 'static) -> Greenlet<R> {
    let greenlet = Builder::new().name(name).spawn(f).unwrap();
    until_parked(greenlet.id());
    greenlet
}

/// What a dump says that `name` waits for.
#[track_caller]
fn reason_of_name(name: &str) -> String {
    let dump = dump();
    let entry = dump.greenlets().iter().find(|entry| entry.name == name);
    let reason = entry.and_then(|entry| entry.reason.clone());
    reason.unwrap_or_else(|| panic!("{name} does not wait:\n{dump}"))
}

/// A report of main, which can wait for ever.
struct Report(String);

impl Report {
    /// The report with which `f` ends.
    #[track_caller]
    fn of<T>(f: impl FnOnce() -> T) -> Report {
        Report(blocks_forever(f))
    }

    /// The line about `name`.
    #[track_caller]
    fn line(&self, name: &str) -> &str {
        let Report(text) = self;
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}"))
    }

    /// `name` waits for what `waits` says, in the report and in a dump taken now.
    #[track_caller]
    fn shows(&self, name: &str, waits: &Waits<'_>) {
        let reason = reason_of_name(name);
        waits.check(&reason);
        let line = self.line(name);
        assert!(line.contains(&reason), "not {reason:?} in {line:?}");
    }

    /// Main waited for what `waits` says.
    #[track_caller]
    fn shows_main(&self, waits: &Waits<'_>) {
        let line = self.line("main");
        let (reason, _) = line.split_once(" s old").expect("its age is there");
        let (reason, _age) = reason.rsplit_once(", ").expect("behind the reason");
        let (_, reason) = reason.split_once(" in ").expect("main waits for something");
        waits.check(reason);
    }
}

/// What somebody is expected to wait for: an edge in the picture of who waits for whom.
struct Waits<'a> {
    /// "lock of the Mutex"
    what: &'a str,
    /// Where it was made.
    place: &'a str,
    /// Who holds it, if that can be said.
    holder: Option<&'a str>,
}

impl<'a> Waits<'a> {
    fn new<T>(what: &'a str, made: &'a Made<T>) -> Waits<'a> {
        Waits { what, place: &made.place, holder: None }
    }

    fn held_by(self, holder: &'a str) -> Waits<'a> {
        Waits { holder: Some(holder), ..self }
    }

    #[track_caller]
    fn check(&self, reason: &str) {
        let begins = format!("{} made at {}", self.what, self.place);
        assert!(reason.starts_with(&begins), "not {begins:?} in {reason:?}");
        // What follows the line is the column, and then the holder.
        let rest = reason[begins.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        let expected = self.holder.map(|holder| format!(", held by {holder}"));
        assert_eq!(rest, expected.unwrap_or_default(), "{reason:?}");
    }
}

/// The first and short form, for locks.
fn lock<T>(made: &Made<Mutex<T>>) -> Waits<'_> {
    Waits::new("lock of the Mutex", made)
}

/// A greenlet for each name, each with the lock of its place, and waiting for the next one's; the
/// last waits for the first one's.
fn knot(names: &[&'static str], locks: &[&Made<Mutex<()>>]) -> Vec<Greenlet<()>> {
    let go = Event::new();
    let next = locks.iter().cycle().skip(1);
    let members: Vec<_> = names
        .iter()
        .zip(locks)
        .zip(next)
        .map(|((name, mine), next)| {
            let (mine, next, go) = (mine.thing.clone(), next.thing.clone(), go.clone());
            parked(name, move || {
                let _mine = mine.lock();
                go.wait();
                let _next = next.lock();
            })
        })
        .collect();
    go.set();
    settle();
    members
}

/// Sleep, spawn and join work as ever, and so do locks.
#[track_caller]
fn all_is_well() {
    sleep(ms(1));
    let mutex = Rc::new(Mutex::new(0));
    let adders = [1, 2, 3].map(|n| {
        let mutex = mutex.clone();
        spawn(move || {
            let mut guard = mutex.lock();
            sleep(ms(1));
            *guard += n;
        })
    });
    joinall(&adders);
    assert_eq!(*mutex.lock(), 6);
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let guard = mutex.thing.lock();
        let waiter = mutex.parked("Ann", |mutex| drop(mutex.lock()));
        let report = Report::of(|| waiter.join());
        report.shows("Ann", &lock(&mutex).held_by("main"));
        drop(guard);
        waiter.get().unwrap();
    });
}

// --------------------------------------------------------------------- knots

/// Two mutexes: both edges are shown, again and again; a kill unties it.
#[test]
fn two_mutexes() {
    within(MINUTE, || {
        let one = made!(Mutex::new(()));
        let two = made!(Mutex::new(()));
        let members = knot(&["Ann", "Bob"], &[&one, &two]);
        for _ in 0..3 {
            let report = Report::of(|| joinall(&members));
            report.shows("Ann", &lock(&two).held_by("Bob"));
            report.shows("Bob", &lock(&one).held_by("Ann"));
            all_is_well();
        }
        members[0].kill();
        members[1].join();
        assert!(!members[0].is_successful() && members[1].is_successful());
        assert!(!one.thing.is_locked() && !two.thing.is_locked());
        all_is_well();
    });
}

/// Three mutexes: all three edges.
#[test]
fn three_mutexes() {
    within(MINUTE, || {
        let one = made!(Mutex::new(()));
        let two = made!(Mutex::new(()));
        let three = made!(Mutex::new(()));
        let members = knot(&["Ann", "Bob", "Cid"], &[&one, &two, &three]);
        let report = Report::of(|| members[0].join());
        report.shows("Ann", &lock(&two).held_by("Bob"));
        report.shows("Bob", &lock(&three).held_by("Cid"));
        report.shows("Cid", &lock(&one).held_by("Ann"));
        members[1].kill();
        joinall(&members);
        let successful: Vec<_> = members.iter().map(Greenlet::is_successful).collect();
        assert_eq!(successful, [true, false, true]);
        all_is_well();
    });
}

/// A knot that is none of main's business is seen in a dump, and main goes on.
#[test]
fn a_knot_among_others() {
    within(MINUTE, || {
        let one = made!(Mutex::new(()));
        let two = made!(Mutex::new(()));
        let members = knot(&["Ann", "Bob"], &[&one, &two]);
        all_is_well();
        lock(&two).held_by("Bob").check(&reason_of_name("Ann"));
        lock(&one).held_by("Ann").check(&reason_of_name("Bob"));
        assert!(dump().to_string().contains(&reason_of_name("Ann")));
        killall(&members);
    });
}

/// One that gives up after a while unties the knot by itself, so there is nothing to report.
#[test]
fn a_limit_unties_a_knot() {
    within(MINUTE, || {
        let one = made!(Mutex::new(()));
        let two = made!(Mutex::new(()));
        let go = Event::new();
        let (first, second, goes) = (one.thing.clone(), two.thing.clone(), go.clone());
        let gives_up = parked("Ann", move || {
            let _mine = first.lock();
            goes.wait();
            second.lock_timeout(ms(5)).is_some()
        });
        let (first, second, goes) = (one.thing.clone(), two.thing.clone(), go.clone());
        let waits = parked("Bob", move || {
            let _mine = second.lock();
            goes.wait();
            with_timeout(HOUR, || drop(first.lock()))
        });
        go.set();
        waits.join();
        assert!(!gives_up.get().unwrap());
        assert_eq!(waits.get().unwrap(), Ok::<_, Elapsed>(()));
    });
}

/// Main is a member like another: its own edge is in the report. Afterwards it is in line no more.
#[test]
fn a_knot_with_main_in_it() {
    within(MINUTE, || {
        let one = made!(Mutex::new(()));
        let two = made!(Mutex::new(()));
        let guard = one.thing.lock();
        let other = {
            let first = one.thing.clone();
            two.parked("Ann", move |second| {
                let _mine = second.lock();
                drop(first.lock());
            })
        };
        for _ in 0..2 {
            let report = Report::of(|| two.thing.lock());
            report.shows_main(&lock(&two).held_by("Ann"));
            report.shows("Ann", &lock(&one).held_by("main"));
        }
        drop(guard);
        other.get().unwrap();
        assert!(two.thing.try_lock().is_some(), "main does not wait for it any more");
    });
}

/// The panic that tells main of it releases what main holds, which unties the knot.
#[test]
fn a_knot_that_main_leaves_by_the_panic() {
    within(MINUTE, || {
        let one = made!(Mutex::new(()));
        let two = made!(Mutex::new(()));
        let first = one.thing.clone();
        let other = Rc::new(Cell::new(None));
        let spawned = other.clone();
        let report = Report::of(|| {
            let _guard = first.lock();
            let again = first.clone();
            spawned.set(Some(two.parked("Ann", move |second| {
                let _mine = second.lock();
                drop(again.lock());
            })));
            drop(two.thing.lock());
        });
        report.shows_main(&lock(&two).held_by("Ann"));
        other.take().unwrap().get().unwrap();
        assert!(!one.thing.is_locked() && !two.thing.is_locked());
    });
}

/// Case 38: one who waits for himself.
#[test]
fn a_knot_of_one() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let twice = mutex.parked("Ann", |mutex| {
            let _first = mutex.lock();
            let _second = mutex.lock();
        });
        let report = Report::of(|| twice.join());
        report.shows("Ann", &lock(&mutex).held_by("Ann"));
        twice.kill();
        let guard = mutex.thing.lock();
        let report = Report::of(|| mutex.thing.lock());
        report.shows_main(&lock(&mutex).held_by("main"));
        drop(guard);
        assert!(mutex.thing.try_lock().is_some());
    });
}

/// One edge may be a lock, the next one a queue, the end of a greenlet, or a condition.
#[test]
fn a_knot_of_several_kinds() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let queue = made!(Queue::<u32>::new());
        let getter = {
            let queue = queue.thing.clone();
            mutex.parked("Ann", move |mutex| {
                let _guard = mutex.lock();
                _ = queue.get();
            })
        };
        let putter = {
            let queue = queue.thing.clone();
            mutex.parked("Bob", move |mutex| {
                let _guard = mutex.lock();
                queue.put(1).unwrap();
            })
        };
        let putter = Rc::new(putter);
        let joiner = {
            let putter = putter.clone();
            parked("Cid", move || putter.join())
        };
        let report = Report::of(|| joiner.join());
        report.shows("Ann", &Waits::new("get of the Queue", &queue));
        report.shows("Bob", &lock(&mutex).held_by("Ann"));
        assert!(report.line("Cid").contains("join of Bob"));
        queue.thing.put(0).unwrap();
        joinall([&getter, &joiner]);
        assert!(putter.is_successful());
    });
}

// ------------------------------------------------------------- who holds it now

/// Handed on, it is held by whom it was handed to.
#[test]
fn the_holder_is_the_present_one() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let go = Event::new();
        let goes = go.clone();
        let first = mutex.parked("Ann", move |mutex| {
            let _guard = mutex.lock();
            goes.wait();
        });
        let second = mutex.parked("Bob", move |mutex| {
            let _guard = mutex.lock();
            Event::new().wait();
        });
        let third = mutex.parked("Cid", |mutex| drop(mutex.lock()));
        lock(&mutex).held_by("Ann").check(&reason_of_name("Bob"));
        lock(&mutex).held_by("Ann").check(&reason_of_name("Cid"));
        go.set();
        first.join();
        until_parked(second.id());
        let report = Report::of(|| third.join());
        report.shows("Cid", &lock(&mutex).held_by("Bob"));
        assert!(report.line("Bob").contains("wait of the Event made at"));
        second.kill();
        third.get().unwrap();
    });
}

/// From the moment it is handed over, even before he has run; and main shows as holder, too.
#[test]
fn the_holder_changes_when_it_is_released() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let guard = mutex.thing.lock();
        let waiters = ["Ann", "Bob"].map(|name| mutex.parked(name, |mutex| drop(mutex.lock())));
        lock(&mutex).held_by("main").check(&reason_of_name("Bob"));
        drop(guard);
        lock(&mutex).held_by("Ann").check(&reason_of_name("Bob"));
        joinall(&waiters);
        // Free, and then with another one.
        let holder = mutex.parked("Cid", |mutex| {
            let _guard = mutex.lock();
            sleep(HOUR);
        });
        let waiter = mutex.parked("Dan", |mutex| drop(mutex.lock()));
        lock(&mutex).held_by("Cid").check(&reason_of_name("Dan"));
        holder.kill();
        waiter.get().unwrap();
    });
}

/// K12: a guard that was leaked by one who has ended.
#[test]
#[expect(clippy::mem_forget, reason = "a guard that is leaked is what this is about")]
fn a_holder_who_has_ended() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let thing = mutex.thing.clone();
        spawn(move || std::mem::forget(thing.lock())).join();
        let waiter = mutex.parked("Ann", |mutex| drop(mutex.lock()));
        let report = Report::of(|| waiter.join());
        report.shows("Ann", &lock(&mutex).held_by("a greenlet that has ended"));
        // Whoever is spawned next is not taken for him.
        let heirs: Vec<_> = (0..10).map(|_| spawn(|| sleep(HOUR))).collect();
        settle();
        let held = lock(&mutex).held_by("a greenlet that has ended");
        held.check(&reason_of_name("Ann"));
        killall(&heirs);
        waiter.kill();
    });
}

/// M8.
#[test]
fn an_rlock() {
    within(MINUTE, || {
        let rlock = made!(RLock::new(()));
        let holder = rlock.parked("Ann", |rlock| {
            let _outer = rlock.lock();
            drop(rlock.lock());
            Event::new().wait();
        });
        let waiters = ["Bob", "Cid"].map(|name| {
            rlock.parked(name, |rlock| {
                let _guard = rlock.lock();
                Event::new().wait();
            })
        });
        let waits = || Waits::new("lock of the RLock", &rlock);
        let report = Report::of(|| joinall(&waiters));
        report.shows("Bob", &waits().held_by("Ann"));
        report.shows("Cid", &waits().held_by("Ann"));
        holder.kill();
        until(|| reason_of(waiters[0].id()).is_some_and(|reason| reason.contains("Event")));
        let report = Report::of(|| rlock.thing.lock());
        report.shows_main(&waits().held_by("Bob"));
        report.shows("Cid", &waits().held_by("Bob"));
        killall(&waiters);
        assert!(rlock.thing.try_lock().is_some());
    });
}

/// "RwLock": the writer, the only reader, or how many readers there are.
#[test]
fn an_rwlock() {
    within(MINUTE, || {
        let rwlock = made!(RwLock::new(()));
        let read = || Waits::new("read of the RwLock", &rwlock);
        let write = || Waits::new("write of the RwLock", &rwlock);
        let inside = Event::new();

        let writer = {
            let inside = inside.clone();
            rwlock.parked("Ann", move |rwlock| {
                let _guard = rwlock.write();
                inside.wait();
            })
        };
        let reads = |name: &str| {
            let inside = inside.clone();
            rwlock.parked(name, move |rwlock| {
                let _guard = rwlock.read();
                inside.wait();
            })
        };
        let readers = ["Bob", "Cid", "Dan"].map(reads);
        let report = Report::of(|| joinall(&readers));
        for name in ["Bob", "Cid", "Dan"] {
            report.shows(name, &read().held_by("Ann"));
        }
        let report = Report::of(|| rwlock.thing.write());
        report.shows_main(&write().held_by("Ann"));

        writer.kill();
        let in_line = rwlock.parked("Eve", |rwlock| drop(rwlock.write()));
        let report = Report::of(|| in_line.join());
        report.shows("Eve", &write().held_by("3 readers"));
        let report = Report::of(|| rwlock.thing.read());
        report.shows_main(&read().held_by("3 readers"));

        let [bob, cid, dan] = readers;
        bob.kill();
        write().held_by("2 readers").check(&reason_of_name("Eve"));
        dan.kill();
        let report = Report::of(|| in_line.join());
        report.shows("Eve", &write().held_by("Cid"));
        inside.set();
        joinall([&cid, &in_line]);
        assert!(rwlock.thing.try_write().is_some());
    });
}

/// "RwLock": readers and a writer in a knot: he waits for them, and one of them for him, because he
/// is in line before.
#[test]
fn a_knot_around_an_rwlock() {
    within(MINUTE, || {
        let rwlock = made!(RwLock::new(()));
        let go = Event::new();
        let goes = go.clone();
        let reader = rwlock.parked("Ann", move |rwlock| {
            let _first = rwlock.read();
            goes.wait();
            drop(rwlock.read());
        });
        let writer = rwlock.parked("Bob", |rwlock| drop(rwlock.write()));
        go.set();
        let report = Report::of(|| reader.join());
        report.shows("Ann", &Waits::new("read of the RwLock", &rwlock).held_by("Ann"));
        report.shows("Bob", &Waits::new("write of the RwLock", &rwlock).held_by("Ann"));
        writer.kill();
        reader.get().unwrap();
    });
}

/// A condition variable: who waits to be told, and who has been and waits for the lock.
#[test]
fn a_condvar() {
    within(MINUTE, || {
        let mutex = made!(Mutex::new(()));
        let condvar = made!(Condvar::new());
        let waiters = ["Ann", "Bob"].map(|name| {
            let mutex = mutex.thing.clone();
            condvar.parked(name, move |condvar| drop(condvar.wait(mutex.lock())))
        });
        let report = Report::of(|| joinall(&waiters));
        report.shows("Ann", &Waits::new("wait of the Condvar", &condvar));
        report.shows("Bob", &Waits::new("wait of the Condvar", &condvar));
        let guard = mutex.thing.lock();
        condvar.thing.notify_one();
        let report = Report::of(|| joinall(&waiters));
        report.shows("Ann", &lock(&mutex).held_by("main"));
        report.shows("Bob", &Waits::new("wait of the Condvar", &condvar));
        // Whoever is killed takes the lock again, too, before he goes.
        waiters[1].kill_nowait();
        let report = Report::of(|| waiters[1].kill());
        report.shows("Bob", &lock(&mutex).held_by("main"));
        assert!(report.line("main").contains("kill of Bob"));
        drop(guard);
        joinall(&waiters);
        assert!(waiters[0].is_successful() && !waiters[1].is_successful());
        assert!(!mutex.thing.is_locked());
    });
}

// -------------------------------------------------------- every wait has its name

/// A wait that lasts, and how it is shown.
struct Case {
    what: &'static str,
    place: String,
    wait: Box<dyn Fn()>,
}

impl Case {
    fn new<T: 'static>(what: &'static str, made: Made<T>, wait: impl Fn(&T) + 'static) -> Case {
        let Made { thing, place } = made;
        Case { what, place, wait: Box::new(move || wait(&thing)) }
    }

    fn waits(&self) -> Waits<'_> {
        Waits { what: self.what, place: &self.place, holder: None }
    }
}

/// A queue with room for one, which is taken.
fn fill(queue: &Queue<u32>) -> &Queue<u32> {
    _ = queue.try_put(0);
    queue
}

/// A pool whose only member stays.
fn occupy(pool: &Pool) -> &Pool {
    if pool.is_empty() {
        pool.spawn(|| Event::new().wait());
        settle();
    }
    pool
}

/// Those that nobody in particular can be said to hold.
fn cases() -> Vec<Case> {
    type Answer = AsyncResult<u32, ()>;
    vec![
        Case::new("wait of the Event", made!(Event::new()), |event| event.wait()),
        Case::new("wait of the AsyncResult", made!(Answer::new()), |result| result.wait()),
        Case::new("acquire of the Semaphore", made!(Semaphore::new(0)), |semaphore| {
            semaphore.acquire().forget();
        }),
        Case::new("acquire of the BoundedSemaphore", made!(BoundedSemaphore::new(0)), |bounded| {
            bounded.acquire().forget();
        }),
        Case::new("wait of the Condvar", made!(Condvar::new()), |condvar| {
            drop(condvar.wait(Mutex::new(()).lock()));
        }),
        Case::new("wait of the Barrier", made!(Barrier::new(2)), |barrier| {
            barrier.reset();
            _ = barrier.wait();
        }),
        Case::new("get of the Queue", made!(Queue::<u32>::new()), |queue| _ = queue.get()),
        Case::new("peek of the Queue", made!(Queue::<u32>::new()), |queue| _ = queue.peek()),
        Case::new("put of the Queue", made!(Queue::<u32>::bounded(1)), |queue| {
            _ = fill(queue).put(1);
        }),
        Case::new("get of the Queue", made!(LifoQueue::<u32>::new()), |queue| _ = queue.get()),
        Case::new("get of the Queue", made!(PriorityQueue::<u32>::new()), |q| _ = q.get()),
        Case::new("put of the Channel", made!(queue::channel::<u32>()), |channel| {
            _ = channel.put(1)
        }),
        Case::new("get of the Channel", made!(queue::channel::<u32>()), |channel| {
            _ = channel.get();
        }),
        Case::new("join of the JoinableQueue", made!(JoinableQueue::<u32>::new()), |queue| {
            _ = queue.try_put(1);
            queue.join();
        }),
        Case::new("recv of the pipe", made!(queue::pipe::<u32, u32>()), |ends| _ = ends.0.recv()),
        Case::new("spawn of the Pool", made!(Pool::new(1)), |pool| {
            occupy(pool).spawn(|| ());
        }),
        Case::new("join of the Pool", made!(Pool::new(1)), |pool| occupy(pool).join()),
    ]
}

/// Each in a greenlet, all in one report.
#[test]
fn every_wait_is_shown_with_the_place_of_what_it_waits_for() {
    within(MINUTE, || {
        let cases: Vec<_> = cases().into_iter().map(Rc::new).collect();
        let waiting: Vec<_> = cases
            .iter()
            .enumerate()
            .map(|(n, case)| {
                let case = case.clone();
                parked(&format!("case-{n}"), move || (case.wait)())
            })
            .collect();
        let report = Report::of(|| joinall(&waiting));
        for (n, case) in cases.iter().enumerate() {
            report.shows(&format!("case-{n}"), &case.waits());
        }
        killall(&waiting);
        all_is_well();
    });
}

/// Each in main, which is told of it and can go on.
#[test]
fn every_wait_of_main_finds_that_it_would_never_end() {
    within(MINUTE, || {
        for case in cases() {
            for _ in 0..2 {
                Report::of(|| (case.wait)()).shows_main(&case.waits());
            }
            all_is_well();
        }
    });
}

/// And what main waited for in vain is none the worse.
#[test]
fn what_main_waited_for_in_vain_can_be_used_afterwards() {
    within(MINUTE, || {
        let event = Event::new();
        blocks_forever(|| event.wait());
        event.set();
        event.wait();

        let semaphore = Semaphore::new(0);
        blocks_forever(|| semaphore.acquire());
        semaphore.release();
        assert_eq!(semaphore.available(), 1);

        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        blocks_forever(|| drop(condvar.wait(mutex.lock())));
        assert!(!mutex.is_locked());
        condvar.notify_one();

        let barrier = Barrier::new(2);
        blocks_forever(|| barrier.wait());
        assert!(barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);

        let queue = Queue::<u32>::bounded(1);
        blocks_forever(|| queue.get());
        queue.put(1).unwrap();
        blocks_forever(|| queue.put(2));
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.get(), Ok(1));
        assert!(queue.is_empty());

        let pool = Pool::new(1);
        let member = pool.spawn(|| Event::new().wait());
        let ran = Rc::new(Cell::new(false));
        let runs = ran.clone();
        blocks_forever(|| pool.spawn(move || runs.set(true)));
        blocks_forever(|| pool.join());
        member.kill();
        pool.join();
        assert!(!ran.get());
        assert_eq!(pool.spawn(|| 7).get().unwrap(), 7);
    });
}

/// P3: a member of a full pool that spawns into it waits for itself; the report names the pool.
#[test]
fn a_member_of_a_full_pool_that_spawns_into_it() {
    within(MINUTE, || {
        let pool = made!(Pool::new(2));
        let log = Log::new();
        let members = ["one", "two"].map(|name| {
            let (inner, log) = (pool.thing.clone(), log.clone());
            pool.thing.spawn(move || {
                // All slots are to be taken before the first of them asks for another one.
                sleep(ms(1));
                let child = inner.spawn(|| ());
                child.join();
                log.say(name);
            })
        });
        let report = Report::of(|| pool.thing.join());
        for member in &members {
            report.shows(&member.name(), &Waits::new("spawn of the Pool", &pool));
        }
        report.shows_main(&Waits::new("join of the Pool", &pool));
        members[0].kill();
        members[1].join();
        pool.thing.join();
        log.assert_is(["two"]);
        assert_eq!(pool.thing.free_count(), 2);
        all_is_well();
    });
}

/// A limit makes the waits of main end by themselves: no report.
#[test]
fn a_limit_is_something_that_may_wake() {
    within(MINUTE, || {
        let mutex = Mutex::new(());
        let _guard = mutex.lock();
        assert!(mutex.lock_timeout(ms(1)).is_none());
        assert!(with_timeout(ms(1), || drop(mutex.lock())).is_err());
        assert!(Semaphore::new(0).acquire_timeout(ms(1)).is_none());
        assert!(!Event::new().wait_timeout(ms(1)));
        assert!(Barrier::new(2).wait_timeout(Duration::ZERO).is_err());
    });
}

/// A knot is no leak: its members are unwound when their thread ends.
#[test]
fn a_knot_ends_with_its_thread() {
    let (tell, told) = std::sync::mpsc::channel();
    within(MINUTE, move || {
        let locks = [Rc::new(Mutex::new(())), Rc::new(Mutex::new(()))];
        for (mine, next) in [(0, 1), (1, 0)] {
            let (mine, next, tell) = (locks[mine].clone(), locks[next].clone(), tell.clone());
            spawn(move || {
                let _unwound = util::at_drop(move || tell.send(()).unwrap());
                let _mine = mine.lock();
                sleep(ms(1));
                let _next = next.lock();
            });
        }
        sleep(ms(5));
    });
    assert_eq!(told.iter().count(), 2);
}

/// Thousands of locks, each held and waited for once: what is known of a lock goes with the wait.
#[test]
fn thousands_of_locks_one_after_the_other() {
    within(MINUTE, || {
        for round in 0..2000 {
            let mutex = made!(Mutex::new(round));
            let guard = mutex.thing.lock();
            let waiter = mutex.parked("Ann", |mutex| *mutex.lock());
            lock(&mutex).held_by("main").check(&reason_of_name("Ann"));
            drop(guard);
            if round % 2 == 0 {
                assert_eq!(waiter.get().unwrap(), round);
            } else {
                waiter.kill();
                assert_eq!(end_of(waiter), End::Value(round), "it was handed over before");
            }
        }
    });
}
