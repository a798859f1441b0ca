//! Nothing is lost: every waiting operation under thousands of rounds of random kills, timeouts and
//! wake-ups, before, in and after the same turn; afterwards the totals are exact.
//!
//! semantics.md, M2/Q1/Q2 (a wake-up goes to the first who waits) and K9 (who is killed or timed out
//! in the same turn has received what he was given, or the next one has; never neither, never both);
//! gevent K9, M5, Q3, Q4, P2.
//!
//! Each test is one operation, played for [`ROUNDS`] rounds. A [`Round`] has some players, who use
//! the thing in question, and chance, which meddles with them. Its seed is printed when it fails:
//! `GREENLOOM_TEST_SEED=n` begins with that round.

mod util;

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::panic;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use greenloom::concurrent::{self, ALL_COMPLETED, FIRST_COMPLETED, Future, GreenletPoolExecutor};
use greenloom::pool::{Pool, SpawnError};
use greenloom::queue::{
    Channel, Conn, Fifo, GetError, JoinableQueue, Lifo, Order, Priority, PutError, Queue,
    TooManyDone, channel, pipe,
};
use greenloom::sync::{
    AsyncResult, Barrier, BoundedSemaphore, Condvar, Event, Mutex, RLock, RwLock, Semaphore,
    TooManyReleases,
};
use greenloom::{
    BlocksForever, Elapsed, Greenlet, Waitable, catch_interrupt, current, dump, idle, iwait,
    joinall, shield, sleep, spawn, wait_any, wait_any_timeout, with_timeout, yield_now,
};
use util::{Living, MINUTE, at_drop, message, reports, spin, swallow, within};

/// How many rounds each operation is put through.
const ROUNDS: u64 = 15_000;

#[test]
fn smoke() {
    within(MINUTE, || {
        let round = Round::new(7, &Rc::default());
        let scene = Rc::new(Semaphore::new(0));
        round.players(&scene, |_, semaphore| {
            drop(semaphore.acquire());
            true
        });
        scene.release();
        round.end();
        assert_eq!(scene.available(), 1);
    });
}

// ------------------------------------------------------------------- the rounds

/// Plays all rounds, and says which one failed or hung. What happens in them must be of all kinds.
fn rounds(play: impl Fn(&Round) + Send + 'static) {
    let playing = Arc::new(AtomicU64::new(first_seed()));
    let all_rounds = {
        let playing = Arc::clone(&playing);
        move || {
            let fates = Rc::new(Fates::default());
            for _ in 0..ROUNDS {
                play(&Round::new(playing.load(Relaxed), &fates));
                playing.fetch_add(1, Relaxed);
            }
            fates.assert_all_kinds();
        }
    };
    if let Err(payload) = swallow(|| within(MINUTE, all_rounds)) {
        let text = match payload.downcast::<BlocksForever>() {
            Ok(report) => report.to_string(),
            Err(other) => message(other.as_ref()),
        };
        panic!("{text}\nGREENLOOM_TEST_SEED={} begins with this round", playing.load(Relaxed));
    }
}

/// The seed of the first round: the user's, or another one each time.
fn first_seed() -> u64 {
    match env::var("GREENLOOM_TEST_SEED") {
        Ok(seed) => seed.parse().expect("GREENLOOM_TEST_SEED is a number"),
        Err(_) => RandomState::new().hash_one(()) % 1_000_000_000,
    }
}

/// What became of the calls, over all rounds: a test in which nobody was ever killed shows nothing.
#[derive(Debug, Default)]
struct Fates {
    /// Got what they waited for.
    served: Cell<u64>,
    /// Their own time was over.
    gave_up: Cell<u64>,
    /// A timeout from outside ended them.
    cut_off: Cell<u64>,
    killed: Cell<u64>,
}

impl Fates {
    fn assert_all_kinds(&self) {
        let each = [&self.served, &self.gave_up, &self.cut_off, &self.killed];
        assert!(each.iter().all(|fate| fate.get() > ROUNDS / 100), "{self:?}");
    }
}

fn increment(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// One round: chance, and those who are at its mercy.
#[derive(Clone)]
struct Round(Rc<Play>);

struct Play {
    chance: Cell<u64>,
    players: RefCell<Vec<Rc<Greenlet<()>>>>,
    fates: Rc<Fates>,
    /// How many have failed on purpose.
    failures: Cell<u64>,
}

impl Round {
    fn new(seed: u64, fates: &Rc<Fates>) -> Round {
        Round(Rc::new(Play {
            chance: Cell::new(seed),
            players: RefCell::default(),
            fates: Rc::clone(fates),
            failures: Cell::new(0),
        }))
    }

    // Chance.

    /// A number from 0 to `n` - 1.
    fn below(&self, n: u64) -> u64 {
        // SplitMix64: neighbouring seeds have nothing in common.
        let state = self.0.chance.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.chance.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % n
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// 1, 2 or 3.
    fn a_few(&self) -> usize {
        1 + self.below(3) as usize
    }

    /// Hardly any time, and mostly none.
    fn moment(&self) -> Duration {
        match self.below(16) {
            0 => Duration::from_micros(self.below(20)),
            1 | 2 => Duration::from_nanos(self.below(2000)),
            _ => Duration::ZERO,
        }
    }

    /// Whatever may happen between two lines of a program: others run, time passes, somebody is
    /// killed. The last of these may well happen in the turn in which the program goes on.
    fn anything(&self) {
        for _ in 0..self.below(4) {
            match self.below(16) {
                0..=6 => yield_now(),
                7..=9 => sleep(Duration::from_nanos(1)), // till the hub has looked at the clock
                10 => spin(Duration::from_micros(self.below(3))),
                _ => self.kill_somebody(),
            }
        }
    }

    fn kill_somebody(&self) {
        let players = self.0.players.borrow();
        let victim = Rc::clone(&players[self.below(players.len() as u64) as usize]);
        // With this released: one that has not begun is dropped here.
        drop(players);
        victim.kill_nowait();
    }

    /// Fails by a panic, of which the hub hears; without its message, or there would be thousands.
    fn fail(&self) -> ! {
        increment(&self.0.failures);
        panic::resume_unwind(Box::new("failed on purpose"));
    }

    /// Waits as long as it takes, or a moment only.
    fn wait<T>(&self, long: impl FnOnce() -> T, short: impl FnOnce(Duration) -> T) -> T {
        if self.one_in(2) { long() } else { short(self.moment()) }
    }

    /// As `wait`, for what gives nothing to him who waits as long as it takes.
    fn wait_until(&self, long: impl FnOnce(), short: impl FnOnce(Duration) -> bool) -> bool {
        let long = || {
            long();
            true
        };
        self.wait(long, short)
    }

    /// Lets it take as long as it takes, or cuts it off from outside.
    fn perhaps_cut_off<T>(&self, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
        if self.one_in(3) { with_timeout(self.moment(), f) } else { Ok(f()) }
    }

    // Players.

    /// Some players who `act` in this scene a few times each, under timeouts from outside or not.
    /// `act` returns whether it got what it wanted.
    fn players<S: 'static>(
        &self,
        scene: &Rc<S>,
        act: impl Fn(&Round, &S) -> bool + Copy + 'static,
    ) {
        for _ in 0..2 + self.a_few() {
            let (round, scene) = (self.clone(), Rc::clone(scene));
            self.expose(spawn(move || {
                for _ in 0..round.a_few() {
                    round.anything();
                    round.one_act(|| act(&round, &scene));
                }
                round.anything();
            }));
        }
    }

    /// From now on it may be killed like any player.
    fn expose(&self, greenlet: impl Into<Rc<Greenlet<()>>>) {
        self.0.players.borrow_mut().push(greenlet.into());
    }

    fn one_act(&self, act: impl FnOnce() -> bool) {
        let act = || match self.below(16) {
            0 => shield(act),
            1 => self.clean_up_after(act),
            _ => act(),
        };
        increment(match self.perhaps_cut_off(act) {
            Ok(true) => &self.0.fates.served,
            Ok(false) => &self.0.fates.gave_up,
            Err(_) => &self.0.fates.cut_off,
        });
    }

    /// If it is interrupted, goes on for a while before it gives in.
    fn clean_up_after<T>(&self, act: impl FnOnce() -> T) -> T {
        catch_interrupt(act).unwrap_or_else(|interrupt| {
            self.anything();
            interrupt.resume()
        })
    }

    // The course of it.

    /// Lets it go on for a while, doing `wake` and killing somebody now and then; till nobody can
    /// go on without the clock's help.
    fn play(&self, wake: impl Fn()) {
        for _ in 0..1 + self.a_few() {
            // All of these in one turn, if `wake` does not wait.
            for _ in 0..self.a_few() {
                if self.one_in(3) { self.kill_somebody() } else { wake() }
            }
            match self.below(4) {
                0 => sleep(Duration::from_nanos(1)),
                1 => idle(),
                _ => yield_now(),
            }
        }
        idle();
    }

    /// Waits for all. Were one of them forgotten, this would block for ever, and say who.
    fn end(&self) {
        let players = &self.0.players;
        let unfinished = || players.borrow().iter().find(|player| !player.is_finished()).cloned();
        while let Some(player) = unfinished() {
            player.join();
        }
        for _ in players.borrow().iter().filter(|player| !player.is_successful()) {
            increment(&self.0.fates.killed);
        }
        idle(); // till what was to end with them has ended, too
        let reports = reports();
        assert_eq!(reports.len() as u64, self.0.failures.get(), "{reports:?}");
        assert_eq!(dump().greenlets().len(), 1, "somebody is left: {}", dump());
    }
}

// ---------------------------------------------------------------- keeping count

/// Those who are inside of something, which must never be more than so many.
struct Inside {
    living: Living,
    most: usize,
}

impl Inside {
    fn at_most(most: usize) -> Inside {
        Inside { living: Living::new(), most }
    }

    fn enter(&self) -> impl Drop + use<> {
        let token = self.living.token();
        assert!(self.count() <= self.most, "{} are inside, not {}", self.count(), self.most);
        token
    }

    fn count(&self) -> usize {
        self.living.count()
    }
}

/// Those who are in a call, each with a note of how things stood when it began.
#[derive(Default)]
struct Callers<N = ()>(Rc<RefCell<Vec<Rc<N>>>>);

impl<N: Copy + 'static> Callers<N> {
    fn during<R>(&self, note: N, call: impl FnOnce() -> R) -> R {
        let (callers, note) = (Rc::clone(&self.0), Rc::new(note));
        callers.borrow_mut().push(Rc::clone(&note));
        let _left = at_drop(move || callers.borrow_mut().retain(|other| !Rc::ptr_eq(other, &note)));
        call()
    }

    fn count(&self) -> usize {
        self.0.borrow().len()
    }

    fn notes(&self) -> Vec<N> {
        self.0.borrow().iter().map(|note| **note).collect()
    }
}

// ------------------------------------------------------------------------ locks

#[test]
fn mutex() {
    rounds(|round| {
        let scene = Rc::new((Mutex::new(0), Inside::at_most(1), Cell::new(0)));
        round.players(&scene, |round, (mutex, inside, entries)| {
            let guard = round.wait(|| Some(mutex.lock()), |d| mutex.lock_timeout(d));
            let Some(mut value) = guard else { return false };
            let _inside = inside.enter();
            *value += 1;
            increment(entries);
            round.anything();
            true
        });
        round.play(|| ());
        round.end();
        let (mutex, _, entries) = &*scene;
        assert_eq!(*mutex.try_lock().expect("nobody is left to hold it"), entries.get());
    });
}

#[test]
fn rlock() {
    rounds(|round| {
        let scene = Rc::new((RLock::new(()), Inside::at_most(1)));
        round.players(&scene, |round, (rlock, inside)| {
            let guard = round.wait(|| Some(rlock.lock()), |d| rlock.lock_timeout(d));
            let Some(first) = guard else { return false };
            let inside = inside.enter();
            round.anything();
            let again = rlock.try_lock().expect("it is ours");
            round.anything();
            drop(first);
            round.anything();
            drop(inside);
            drop(again);
            true
        });
        round.play(|| ());
        round.end();
        assert!(scene.0.try_lock().is_some(), "nobody is left to hold it");
    });
}

#[test]
fn rwlock() {
    struct Scene {
        rwlock: RwLock<u64>,
        readers: Inside,
        writers: Inside,
        reading: Callers,
        writing: Callers,
        written: Cell<u64>,
    }

    fn read(round: &Round, scene: &Scene) -> bool {
        let rwlock = &scene.rwlock;
        let read = || round.wait(|| Some(rwlock.read()), |d| rwlock.read_timeout(d));
        let guard = scene.reading.during((), read);
        let Some(value) = guard else { return false };
        let _inside = scene.readers.enter();
        assert_eq!(scene.writers.count(), 0);
        let before = *value;
        round.anything();
        assert_eq!(*value, before);
        true
    }

    fn write(round: &Round, scene: &Scene) -> bool {
        let rwlock = &scene.rwlock;
        let write = || round.wait(|| Some(rwlock.write()), |d| rwlock.write_timeout(d));
        let guard = scene.writing.during((), write);
        let Some(mut value) = guard else { return false };
        let _inside = scene.writers.enter();
        assert_eq!(scene.readers.count(), 0);
        *value += 1;
        increment(&scene.written);
        round.anything();
        true
    }

    rounds(|round| {
        let scene = Rc::new(Scene {
            rwlock: RwLock::new(0),
            readers: Inside::at_most(usize::MAX),
            writers: Inside::at_most(1),
            reading: Callers::default(),
            writing: Callers::default(),
            written: Cell::new(0),
        });
        // One who reads all the time, so that writers wait all the time, and readers behind them.
        let held = round.one_in(2).then(|| scene.rwlock.try_read().expect("it is new"));
        round.players(&scene, |round, scene| {
            if round.one_in(2) { read(round, scene) } else { write(round, scene) }
        });
        round.play(|| ());
        let writers = scene.writers.count() + scene.writing.count();
        assert!(scene.reading.count() == 0 || writers > 0, "readers who wait for nobody");
        drop(held);
        round.end();
        let value = scene.rwlock.try_write().expect("nobody is left to hold it");
        assert_eq!(*value, scene.written.get());
    });
}

// ------------------------------------------------------------------- semaphores

#[test]
fn semaphore() {
    rounds(|round| {
        let permits = round.a_few();
        let scene = Rc::new((Semaphore::new(0), Inside::at_most(permits), Callers::default()));
        round.players(&scene, |round, (semaphore, inside, waiting)| {
            let permit = waiting.during((), || {
                round.wait(|| Some(semaphore.acquire()), |d| semaphore.acquire_timeout(d))
            });
            let Some(permit) = permit else { return false };
            let inside = inside.enter();
            round.anything();
            drop(inside);
            if round.one_in(4) {
                permit.forget();
                semaphore.release();
            }
            true
        });
        // The permits come one after the other, between the kills.
        let (semaphore, _, waiting) = &*scene;
        let held_back = Cell::new(permits);
        let release = || {
            if held_back.get() > 0 {
                held_back.set(held_back.get() - 1);
                semaphore.release();
            }
        };
        round.play(release);
        assert!(semaphore.available() == 0 || waiting.count() == 0);
        (0..permits).for_each(|_| release());
        round.end();
        assert_eq!(semaphore.available(), permits);
    });
}

#[test]
fn bounded_semaphore() {
    rounds(|round| {
        let permits = round.a_few();
        let scene =
            Rc::new((BoundedSemaphore::new(permits), Inside::at_most(permits), Callers::default()));
        let (semaphore, _, waiting) = &*scene;
        (0..permits).for_each(|_| semaphore.try_acquire().expect("it is new").forget());
        round.players(&scene, |round, (semaphore, inside, waiting)| {
            let permit = waiting.during((), || {
                round.wait(|| Some(semaphore.acquire()), |d| semaphore.acquire_timeout(d))
            });
            let Some(permit) = permit else { return false };
            let inside = inside.enter();
            round.anything();
            drop(inside);
            if round.one_in(4) {
                permit.forget();
                semaphore.release().expect("we had one");
            }
            true
        });
        let held_back = Cell::new(permits);
        let release = || {
            if held_back.get() > 0 {
                held_back.set(held_back.get() - 1);
                semaphore.release().expect("we have taken them all");
            }
        };
        round.play(release);
        assert!(semaphore.available() == 0 || waiting.count() == 0);
        (0..permits).for_each(|_| release());
        round.end();
        assert_eq!(semaphore.available(), permits);
        assert_eq!(semaphore.release(), Err(TooManyReleases));
    });
}

// ------------------------------------------------- events, results, conditions

/// gevent E1: whoever waits when it is set is woken, though it be cleared at once.
#[test]
fn event() {
    /// With the number of times it has been set.
    #[derive(Default)]
    struct Scene {
        event: Event,
        sets: Cell<u64>,
        waiting: Callers<u64>,
    }

    rounds(|round| {
        let scene = Rc::new(Scene::default());
        round.players(&scene, |round, Scene { event, sets, waiting }| {
            let (was_set, before) = (event.is_set(), sets.get());
            let joins = round.one_in(4);
            let woken = waiting.during(before, || {
                let wait = || if joins { joinall([event]) } else { event.wait() };
                round.wait_until(wait, |d| event.wait_timeout(d))
            });
            let has_been_set = was_set || sets.get() > before;
            assert!(has_been_set || !woken, "woken for nothing");
            assert!(woken || !was_set, "it was set");
            woken
        });
        let set = || {
            increment(&scene.sets);
            scene.event.set();
        };
        round.play(|| {
            set();
            if !round.one_in(4) {
                scene.event.clear();
            }
        });
        // Those who still wait have begun since.
        assert!(!scene.event.is_set() || scene.waiting.count() == 0);
        assert!(scene.waiting.notes().iter().all(|before| *before == scene.sets.get()));
        set();
        round.end();
    });
}

#[test]
fn async_result() {
    rounds(|round| {
        let scene = Rc::new((AsyncResult::<u64, u64>::new(), Callers::<()>::default()));
        round.players(&scene, |round, (result, waiting)| {
            let got =
                waiting.during((), || round.wait(|| Ok(result.get()), |d| result.get_timeout(d)));
            assert!(got.is_err() || got == Ok(Ok(7)) || got == Ok(Err(8)));
            got.is_ok()
        });
        let (result, waiting) = &*scene;
        let set = || {
            let was_set = result.is_ready();
            let good = round.one_in(2);
            let set = if good { result.set(7).is_ok() } else { result.set_error(8).is_ok() };
            assert_eq!(set, !was_set, "the first value stays");
        };
        round.play(|| {
            if round.one_in(4) {
                set()
            }
        });
        assert!(!result.is_ready() || waiting.count() == 0);
        set();
        round.end();
    });
}

/// semantics.md, Condvar: a notification that is given to one who is killed or timed out in the same
/// turn goes to the next. As a counter of goods: nobody waits while there are any.
#[test]
fn condvar() {
    #[derive(Default)]
    struct Scene {
        goods: Mutex<u64>,
        more: Condvar,
        waiting: Callers,
        taken: Cell<u64>,
    }

    impl Scene {
        fn take(&self, round: &Round) -> bool {
            let mut goods = self.goods.lock();
            goods = self.waiting.during((), || {
                let none = |goods: &mut u64| *goods == 0;
                if round.one_in(2) {
                    self.more.wait_while(goods, none)
                } else {
                    self.more.wait_timeout_while(goods, round.moment(), none).0
                }
            });
            if *goods == 0 {
                return false;
            }
            *goods -= 1;
            increment(&self.taken);
            round.anything(); // with the lock in hand
            true
        }

        fn bring(&self, round: &Round) -> u64 {
            let many = round.a_few();
            let mut goods = self.goods.lock();
            *goods += many as u64;
            let held = round.one_in(2).then_some(goods);
            match round.below(3) {
                0 => (0..many).for_each(|_| self.more.notify_one()),
                1 => self.more.notify(many),
                _ => self.more.notify_all(),
            }
            if held.is_some() {
                round.anything(); // while those who were notified wait for the lock
            }
            many as u64
        }
    }

    rounds(|round| {
        let scene = Rc::new(Scene::default());
        round.players(&scene, |round, scene| scene.take(round));
        let brought = Cell::new(0);
        round.play(|| brought.set(brought.get() + scene.bring(round)));
        let left = *scene.goods.try_lock().expect("nobody is left to hold it");
        assert!(left == 0 || scene.waiting.count() == 0, "{left} left, and somebody waits");
        assert_eq!(brought.get(), scene.taken.get() + left);
        // For those who still wait.
        *scene.goods.lock() += 100;
        scene.more.notify_all();
        round.end();
    });
}

/// semantics.md, Barrier: all pass or none, and one of those who pass leads.
#[test]
fn barrier() {
    struct Scene {
        barrier: Barrier,
        waiting: Callers,
        passed: Cell<u64>,
        leaders: Cell<u64>,
    }

    rounds(|round| {
        let parties = round.a_few();
        let scene = Rc::new(Scene {
            barrier: Barrier::new(parties),
            waiting: Callers::default(),
            passed: Cell::new(0),
            leaders: Cell::new(0),
        });
        round.players(&scene, |round, scene| {
            let Scene { barrier, waiting, .. } = scene;
            let result =
                waiting.during((), || round.wait(|| barrier.wait(), |d| barrier.wait_timeout(d)));
            let Ok(passed) = result else { return false };
            increment(&scene.passed);
            if passed.is_leader() {
                increment(&scene.leaders);
            }
            true
        });
        let barrier = &scene.barrier;
        round.play(|| {
            if barrier.is_broken() || round.one_in(8) {
                barrier.reset();
            }
        });
        assert!(!barrier.is_broken() || scene.waiting.count() == 0);
        assert!(scene.waiting.count() < parties);
        assert_eq!(barrier.waiting(), scene.waiting.count());
        barrier.abort();
        round.end();
        assert_eq!(scene.passed.get(), scene.leaders.get() * parties as u64);
        assert_eq!(barrier.waiting(), 0);
    });
}

// ----------------------------------------------------------------------- queues

/// What has become of each item of a round.
#[derive(Default)]
struct Ledger(RefCell<Vec<Rc<Record>>>);

#[derive(Debug, Default)]
struct Record {
    /// The queue has said that it took it. It has not if it gave it back, or if its putter was
    /// interrupted.
    accepted: Cell<bool>,
    received: Cell<bool>,
}

impl Ledger {
    fn item(&self, number: u64) -> Item {
        let record = Rc::<Record>::default();
        self.0.borrow_mut().push(Rc::clone(&record));
        Item { number, record: Some(record) }
    }

    /// Everything that was accepted has been received, and nothing else.
    fn assert_balanced(&self) {
        self.assert_only_accepted_were_received();
        let all_received =
            self.0.borrow().iter().all(|record| record.received.get() || !record.accepted.get());
        assert!(all_received, "accepted, and lost");
    }

    fn assert_only_accepted_were_received(&self) {
        let none_else =
            self.0.borrow().iter().all(|record| record.accepted.get() || !record.received.get());
        assert!(none_else, "not accepted, and yet received");
    }
}

/// Something to put into a queue.
#[derive(Debug)]
struct Item {
    number: u64,
    /// None if it is only a picture.
    record: Option<Rc<Record>>,
}

impl Item {
    /// Lets `put` try. Whether it was accepted.
    fn put(self, put: impl FnOnce(Item) -> Result<(), PutError<Item>>) -> bool {
        let record = self.record.clone().expect("it is new");
        match put(self) {
            Ok(()) => record.accepted.set(true),
            Err(error) => {
                let back = error.into_inner().record.expect("it is the same");
                assert!(Rc::ptr_eq(&record, &back));
            }
        }
        record.accepted.get()
    }

    fn received(self) {
        let record = self.record.expect("it was taken, not looked at");
        assert!(!record.received.replace(true), "received twice");
    }
}

/// A picture of it, for `peek`.
impl Clone for Item {
    fn clone(&self) -> Item {
        Item { number: self.number, record: None }
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.number == other.number
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> Ordering {
        self.number.cmp(&other.number)
    }
}

/// A queue, and who does what at it.
struct Shop<O> {
    queue: Queue<Item, O>,
    ledger: Ledger,
    getting: Callers,
    putting: Callers,
}

impl<O: Order<Item> + 'static> Shop<O> {
    fn new(queue: Queue<Item, O>) -> Rc<Shop<O>> {
        let (ledger, getting, putting) = Default::default();
        Rc::new(Shop { queue, ledger, getting, putting })
    }

    fn visit(&self, round: &Round) -> bool {
        let done = match round.below(8) {
            0..=2 => self.get(round),
            3..=5 => self.put(round),
            6 if !self.is_rendezvous() => self.peek(round),
            _ => self.try_both(round),
        };
        if let Some(capacity) = self.queue.capacity() {
            assert!(self.queue.len() <= capacity);
        }
        done
    }

    fn get(&self, round: &Round) -> bool {
        let queue = &self.queue;
        let get = || round.wait(|| queue.get(), |d| queue.get_timeout(d));
        self.getting.during((), get).map(Item::received).is_ok()
    }

    fn put(&self, round: &Round) -> bool {
        let queue = &self.queue;
        let short = round.one_in(2).then(|| round.moment());
        let put = |item| match short {
            None => queue.put(item),
            Some(d) => queue.put_timeout(item, d),
        };
        self.putting.during((), || self.item(round).put(put))
    }

    fn peek(&self, round: &Round) -> bool {
        let queue = &self.queue;
        let peek = || round.wait(|| queue.peek(), |d| queue.peek_timeout(d));
        self.getting.during((), peek).is_ok_and(|seen| seen.record.is_none())
    }

    fn try_both(&self, round: &Round) -> bool {
        let got = self.queue.try_get().map(Item::received).is_ok();
        let put = self.item(round).put(|item| self.queue.try_put(item));
        got || put
    }

    /// One with nothing in it, ever: nothing to peek at.
    fn is_rendezvous(&self) -> bool {
        self.queue.capacity() == Some(0)
    }

    fn item(&self, round: &Round) -> Item {
        self.ledger.item(round.below(100))
    }

    /// Nobody waits for what is there.
    fn assert_nobody_forgotten(&self) {
        let Shop { queue, getting, putting, .. } = self;
        let (getting, putting) = (getting.count(), putting.count());
        assert!(getting == 0 || putting == 0, "{getting} who get and {putting} who put");
        if !self.is_rendezvous() {
            assert!(getting == 0 || queue.is_empty(), "{getting} wait, and {} there", queue.len());
            assert!(putting == 0 || queue.is_full(), "{putting} wait, and there is room");
        }
    }

    fn play(self: Rc<Self>, round: &Round) {
        round.players(&self, |round, shop| shop.visit(round));
        round.play(|| _ = self.try_both(round));
        self.assert_nobody_forgotten();
        self.queue.shutdown();
        round.end();
        while let Ok(left) = self.queue.try_get() {
            left.received();
        }
        assert_eq!(self.queue.len(), 0);
        self.ledger.assert_balanced();
    }
}

/// A queue for a few items, or for any number.
fn some_queue<O: Order<Item>>(round: &Round) -> Queue<Item, O> {
    if round.one_in(4) { Queue::new() } else { Queue::bounded(round.a_few()) }
}

#[test]
fn queue() {
    rounds(|round| Shop::<Fifo>::new(some_queue(round)).play(round));
}

#[test]
fn lifo_queue() {
    rounds(|round| Shop::<Lifo>::new(some_queue(round)).play(round));
}

#[test]
fn priority_queue() {
    rounds(|round| Shop::<Priority>::new(some_queue(round)).play(round));
}

#[test]
fn rendezvous() {
    rounds(|round| Shop::new(channel()).play(round));
}

/// A pipe takes all that is sent, so it is those who receive that wait.
#[test]
fn pipe_ends() {
    struct Scene {
        here: Conn<Item, Item>,
        there: RefCell<Option<Rc<Conn<Item, Item>>>>,
        ledger: Ledger,
        receiving: Callers,
    }

    impl Scene {
        fn receive(&self, round: &Round) -> bool {
            let here = &self.here;
            self.receiving.during((), || {
                if round.one_in(4) {
                    here.poll(round.moment())
                } else {
                    let recv = round.wait(|| here.recv(), |d| here.recv_timeout(d));
                    recv.map(Item::received).is_ok()
                }
            })
        }

        fn send(&self, round: &Round) -> bool {
            let Some(there) = self.there.borrow().clone() else { return false };
            self.ledger.item(round.below(100)).put(|item| there.send(item))
        }
    }

    rounds(|round| {
        let (here, there) = pipe();
        let scene = Rc::new(Scene {
            here,
            there: RefCell::new(Some(Rc::new(there))),
            ledger: Ledger::default(),
            receiving: Callers::default(),
        });
        round.players(&scene, |round, scene| {
            if round.one_in(4) { scene.send(round) } else { scene.receive(round) }
        });
        round.play(|| _ = scene.send(round));
        let there_is_something = scene.here.poll(Duration::ZERO);
        assert!(!there_is_something || scene.receiving.count() == 0);
        drop(scene.there.take());
        round.end();
        while let Ok(left) = scene.here.recv() {
            left.received();
        }
        scene.ledger.assert_balanced();
    });
}

/// gevent Q9: whoever joins when nothing is left to do is woken, whatever is put afterwards.
#[test]
fn joinable_queue_join() {
    #[derive(Default)]
    struct Scene {
        queue: JoinableQueue<()>,
        /// How often everything was done.
        finished: Cell<u64>,
        joining: Callers<u64>,
    }

    impl Scene {
        fn work(&self, round: &Round) -> bool {
            let Ok(()) = self.queue.try_get() else { return false };
            let _done = at_drop(|| self.done());
            round.anything();
            true
        }

        fn done(&self) {
            self.queue.task_done().expect("it was put");
            if self.queue.unfinished() == 0 {
                increment(&self.finished);
            }
        }

        fn join(&self, round: &Round) -> bool {
            let Scene { queue, finished, joining } = self;
            let (idle, before) = (queue.unfinished() == 0, finished.get());
            let joined = joining
                .during(before, || round.wait_until(|| queue.join(), |d| queue.join_timeout(d)));
            let has_been_idle = idle || finished.get() > before;
            assert!(has_been_idle || !joined, "joined too soon");
            assert!(joined || !idle, "there was nothing to wait for");
            joined
        }
    }

    rounds(|round| {
        let scene = Rc::new(Scene::default());
        let Scene { queue, finished, joining } = &*scene;
        queue.try_put(()).expect("there is room");
        round.players(
            &scene,
            |round, scene| {
                if round.one_in(2) { scene.work(round) } else { scene.join(round) }
            },
        );
        round.play(|| queue.try_put(()).expect("there is room"));
        assert!(queue.unfinished() > 0 || joining.count() == 0);
        assert!(joining.notes().iter().all(|before| *before == finished.get()));
        while let Ok(()) = queue.try_get() {
            scene.done();
        }
        round.end();
        assert_eq!(queue.unfinished(), 0);
        assert_eq!(queue.task_done(), Err(TooManyDone));
    });
}

// ------------------------------------------------------------------------ pools

/// A pool, and what goes on in it.
struct Workshop {
    pool: Pool,
    inside: Rc<Inside>,
    /// Jobs that have neither ended nor been dropped.
    jobs: Living,
    spawning: Callers,
}

impl Workshop {
    fn new(round: &Round) -> Rc<Workshop> {
        let size = round.a_few();
        Rc::new(Workshop {
            pool: Pool::new(size),
            inside: Rc::new(Inside::at_most(size)),
            jobs: Living::new(),
            spawning: Callers::default(),
        })
    }

    /// Something to do that takes a while, or not.
    fn job(&self, round: &Round) -> impl FnOnce() + use<> {
        let (round, inside) = (round.clone(), Rc::clone(&self.inside));
        let token = self.jobs.token();
        move || {
            let _token = token;
            let _inside = inside.enter();
            round.anything();
        }
    }

    /// As a job, but it may fail.
    fn risky_job(&self, round: &Round) -> impl FnOnce() + use<> {
        let (job, round) = (self.job(round), round.clone());
        move || {
            job();
            if round.one_in(8) {
                round.fail();
            }
        }
    }

    fn perhaps_kill_all(&self, round: &Round) {
        if round.one_in(8) {
            self.pool.kill();
        }
    }

    /// Nobody waits for a slot that is free.
    fn assert_nobody_forgotten(&self) {
        let (waiting, free) = (self.spawning.count(), self.pool.free_count());
        assert!(waiting == 0 || free == 0, "{waiting} wait, and {free} slots are free");
    }

    /// Everybody has gone, and left everything as it was.
    fn assert_in_order(&self) {
        self.pool.join();
        assert_eq!((self.pool.len(), self.pool.free_count()), (0, self.pool.size()));
        assert_eq!((self.jobs.count(), self.inside.count()), (0, 0));
    }
}

/// gevent P2, K9: each slot returns exactly once; who is killed in `spawn` takes none.
#[test]
fn pool_spawn() {
    struct Scene {
        shop: Rc<Workshop>,
        /// What was offered, in the words of the queues above.
        offers: Ledger,
    }

    impl Scene {
        fn spawn(&self, round: &Round) -> bool {
            let Scene { shop, offers } = self;
            let (offer, job) = (offers.item(0), shop.risky_job(round));
            let record = offer.record.clone().expect("it is new");
            let job = move || {
                offer.received();
                job();
            };
            let spawned = shop.spawning.during((), || match round.below(4) {
                0 => shop.pool.try_spawn(job),
                1 => shop.pool.spawn_timeout(job, round.moment()),
                _ => Ok(shop.pool.spawn(job)),
            });
            match spawned {
                Ok(greenlet) => {
                    record.accepted.set(true);
                    round.expose(greenlet);
                    true
                }
                Err(SpawnError::Full(_unrun) | SpawnError::Elapsed(_unrun)) => false,
                Err(SpawnError::Closed(_)) => panic!("nobody has closed it"),
            }
        }
    }

    rounds(|round| {
        let scene = Rc::new(Scene { shop: Workshop::new(round), offers: Ledger::default() });
        round.players(&scene, |round, scene| scene.spawn(round));
        let shop = &scene.shop;
        round.play(|| {
            if let Ok(greenlet) = shop.pool.try_spawn(shop.risky_job(round)) {
                round.expose(greenlet);
            }
            shop.perhaps_kill_all(round);
        });
        shop.assert_nobody_forgotten();
        round.end();
        shop.assert_in_order();
        // Not every job that was accepted has run: some were killed first.
        scene.offers.assert_only_accepted_were_received();
    });
}

/// Whoever waits for a slot without taking it does not stand in anybody's way.
#[test]
fn pool_wait_available() {
    rounds(|round| {
        let shop = Workshop::new(round);
        round.players(&shop, |round, shop| {
            let Workshop { pool, spawning, .. } = shop;
            let available = spawning.during((), || {
                round.wait_until(|| pool.wait_available(), |d| pool.wait_available_timeout(d))
            });
            if round.one_in(2) {
                round.expose(spawning.during((), || pool.spawn(shop.job(round))));
            }
            available
        });
        round.play(|| ());
        shop.assert_nobody_forgotten();
        round.end();
        shop.assert_in_order();
    });
}

/// semantics.md, Pool: to kill the caller of `apply` is to kill the job.
#[test]
fn pool_apply() {
    rounds(|round| {
        let shop = Workshop::new(round);
        round.players(&shop, |round, shop| {
            let apply = || shop.pool.apply(shop.job(round));
            shop.spawning.during((), || round.perhaps_cut_off(apply)).is_ok()
        });
        round.play(|| ());
        round.end();
        shop.assert_in_order();
    });
}

/// What `apply_async` is given waits in line by itself, and can be killed there.
#[test]
fn pool_apply_async() {
    rounds(|round| {
        let shop = Workshop::new(round);
        round.players(&shop, |round, shop| {
            let job = Rc::new(shop.pool.apply_async(shop.risky_job(round)));
            round.expose(Rc::clone(&job));
            round.wait_until(|| job.join(), |d| job.join_timeout(d))
        });
        round.play(|| {
            round.expose(shop.pool.apply_async(shop.job(round)));
            shop.perhaps_kill_all(round);
        });
        round.end();
        shop.assert_in_order();
    });
}

/// semantics.md, map: all have ended when it returns, also when it unwinds.
#[test]
fn pool_map() {
    rounds(|round| {
        let scene = Rc::new((Workshop::new(round), Cell::new(0)));
        round.players(&scene, |round, (shop, escaped)| {
            let (jobs, running) = (round.a_few() as u64 + 1, Living::new());
            let _all_ended = at_drop(|| escaped.set(escaped.get() + running.count()));
            let map = || {
                shop.pool.map(0..jobs, |n| {
                    let _running = running.token();
                    shop.job(round)();
                    n * n
                })
            };
            let Ok(squares) = round.perhaps_cut_off(map) else { return false };
            assert!(squares.into_iter().eq((0..jobs).map(|n| n * n)));
            true
        });
        round.play(|| ());
        round.end();
        let (shop, escaped) = &*scene;
        shop.assert_in_order();
        assert_eq!(escaped.get(), 0, "some outlived what they borrow");
    });
}

/// A `next` that is cut off loses no result, and what is left behind is ended.
#[test]
fn pool_imap() {
    rounds(|round| {
        let shop = Workshop::new(round);
        round.players(&shop, |round, shop| {
            let items = round.below(5);
            let results = shop.pool.imap(0..items, working(round, shop));
            read_all(round, items, results, |seen| assert!(seen.is_sorted()))
        });
        round.play(|| ());
        round.end();
        shop.assert_in_order();
    });
}

#[test]
fn pool_imap_unordered() {
    rounds(|round| {
        let shop = Workshop::new(round);
        round.players(&shop, |round, shop| {
            let items = round.below(5);
            let results = shop.pool.imap_unordered(0..items, working(round, shop));
            read_all(round, items, results, |_| ())
        });
        round.play(|| ());
        round.end();
        shop.assert_in_order();
    });
}

/// Does a job of this workshop for each number, and returns the number.
fn working(round: &Round, shop: &Workshop) -> impl Fn(u64) -> u64 + use<> {
    let (round, inside) = (round.clone(), Rc::clone(&shop.inside));
    move |number| {
        let _inside = inside.enter();
        round.anything();
        number
    }
}

/// Reads the results of `0..items`, going on after each timeout, or not.
fn read_all(
    round: &Round,
    items: u64,
    mut results: impl Iterator<Item = u64>,
    check: impl Fn(&[u64]),
) -> bool {
    let mut seen = Vec::new();
    loop {
        match round.perhaps_cut_off(|| results.next()) {
            Ok(Some(number)) => seen.push(number),
            Ok(None) => break,
            Err(_) if round.one_in(4) => return false,
            Err(_) => yield_now(),
        }
        check(&seen);
        round.anything();
    }
    let all: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!((seen.len() as u64, all), (items, (0..items).collect()), "each comes once");
    true
}

// ---------------------------------------------------------------------- futures

/// Whoever waits for a future that is done is woken, and one that was cancelled has not run.
#[test]
fn future_result() {
    struct Scene {
        executor: GreenletPoolExecutor,
        futures: Vec<Future<usize>>,
        runs: Rc<Vec<Cell<u64>>>,
        waiting: Callers<usize>,
    }

    impl Scene {
        fn new(round: &Round) -> Scene {
            let executor = GreenletPoolExecutor::new(round.a_few());
            let jobs = 1 + round.a_few();
            let runs: Rc<Vec<_>> = Rc::new((0..jobs).map(|_| Cell::new(0)).collect());
            let submit = |number: usize| {
                let (round, runs) = (round.clone(), Rc::clone(&runs));
                executor.submit(move || {
                    increment(&runs[number]);
                    round.anything();
                    if round.one_in(8) {
                        current().kill_nowait();
                        yield_now();
                    }
                    number
                })
            };
            let futures = (0..jobs).map(submit).collect();
            Scene { executor, futures, runs, waiting: Callers::default() }
        }

        fn await_one(&self, round: &Round) -> bool {
            let number = round.below(self.futures.len() as u64) as usize;
            let future = &self.futures[number];
            self.waiting.during(number, || match round.below(5) {
                0 => {
                    assert!(!future.cancel() || self.runs[number].get() == 0, "it runs");
                    true
                }
                1 => {
                    let moment = round.moment();
                    concurrent::wait_timeout([future], moment, ALL_COMPLETED).not_done.is_empty()
                }
                2 => concurrent::as_completed([future]).next().is_some(),
                _ => {
                    let result = round.wait(|| Ok(future.result()), |d| future.result_timeout(d));
                    assert!(result.as_ref().is_err() || future.is_done());
                    result.is_ok()
                }
            })
        }
    }

    rounds(|round| {
        let scene = Rc::new(Scene::new(round));
        round.players(&scene, |round, scene| scene.await_one(round));
        round.play(|| ());
        let Scene { executor, futures, runs, waiting } = &*scene;
        assert!(waiting.notes().iter().all(|number| !futures[*number].is_done()));
        executor.shutdown();
        round.end();
        for (number, (future, runs)) in futures.iter().zip(runs.iter()).enumerate() {
            assert_eq!(u64::from(!future.is_cancelled()), runs.get());
            match future.result() {
                Ok(value) => assert_eq!(value, number),
                Err(error) => assert!(error.is_cancelled() || error.is_killed(), "{error}"),
            }
        }
        assert_eq!(concurrent::wait(futures, FIRST_COMPLETED).done.len(), futures.len());
    });
}

// ----------------------------------------------------------------------- select

/// `wait_any` over several things, whose users go on undisturbed; what it names is there.
#[test]
fn wait_any_of_several() {
    struct Scene {
        queue: Queue<Item>,
        rendezvous: Channel<Item>,
        semaphore: Semaphore,
        event: Event,
        ledger: Ledger,
        /// How many permits there are, free or taken.
        permits: Cell<usize>,
        selecting: Callers,
        using: [Callers; 3],
    }

    impl Scene {
        fn new() -> Scene {
            Scene {
                queue: Queue::bounded(2),
                rendezvous: channel(),
                semaphore: Semaphore::new(0),
                event: Event::new(),
                ledger: Ledger::default(),
                permits: Cell::new(0),
                selecting: Callers::default(),
                using: Default::default(),
            }
        }

        fn things(&self) -> [&dyn Waitable; 4] {
            [&self.queue, &self.rendezvous, &self.semaphore, &self.event]
        }

        fn select(&self, round: &Round) -> bool {
            let select = || {
                let things = self.things();
                if round.one_in(4) {
                    return round.perhaps_cut_off(|| iwait(things).next()).ok().flatten();
                }
                round.wait(|| Some(wait_any(things)), |d| wait_any_timeout(things, d))
            };
            let Some(ready) = self.selecting.during((), select) else { return false };
            if round.one_in(4) {
                return true; // it has looked, and wants nothing
            }
            match ready {
                0 => receive(&self.queue),
                1 => receive(&self.rendezvous),
                2 => {
                    let permit = self.semaphore.try_acquire().expect("a permit was there");
                    round.anything();
                    drop(permit);
                }
                _ => {}
            }
            true
        }

        /// What the others do who use these things one at a time.
        fn use_one(&self, round: &Round) -> bool {
            let [getting, meeting, acquiring] = &self.using;
            match round.below(3) {
                0 => getting.during((), || get(round, &self.queue)),
                1 => meeting.during((), || get(round, &self.rendezvous)),
                _ => {
                    let semaphore = &self.semaphore;
                    let acquire = || {
                        round.wait(|| Some(semaphore.acquire()), |d| semaphore.acquire_timeout(d))
                    };
                    let permit = acquiring.during((), acquire);
                    round.anything();
                    permit.is_some()
                }
            }
        }

        fn offer(&self, round: &Round) -> bool {
            let to = if round.one_in(2) { &self.queue } else { &self.rendezvous };
            self.ledger.item(0).put(|item| to.put_timeout(item, round.moment()))
        }

        fn wake(&self, round: &Round) {
            match round.below(8) {
                0 => {
                    self.event.set();
                    self.event.clear();
                }
                1 | 2 => {
                    self.permits.set(self.permits.get() + 1);
                    self.semaphore.release();
                }
                3 | 4 => {
                    if let Some(permit) = self.semaphore.try_acquire() {
                        self.permits.set(self.permits.get() - 1);
                        permit.forget();
                    }
                }
                5 => drop(self.queue.try_get().map(Item::received)),
                _ => _ = self.ledger.item(0).put(|item| self.queue.try_put(item)),
            }
        }

        fn assert_nobody_forgotten(&self) {
            let ready = self.things().map(|thing| thing.is_ready());
            assert!(self.selecting.count() == 0 || !ready.contains(&true), "{ready:?}");
            for (ready, using) in ready.iter().zip(&self.using) {
                assert!(using.count() == 0 || !ready, "somebody waits for what is there");
            }
        }
    }

    /// What it was said to have.
    fn receive(queue: &Queue<Item>) {
        match queue.try_get() {
            Ok(item) => item.received(),
            Err(error) => assert_eq!(error, GetError::ShutDown),
        }
    }

    fn get(round: &Round, queue: &Queue<Item>) -> bool {
        let got = round.wait(|| queue.get(), |d| queue.get_timeout(d));
        got.map(Item::received).is_ok()
    }

    rounds(|round| {
        let scene = Rc::new(Scene::new());
        round.players(&scene, |round, scene| match round.below(4) {
            0 | 1 => scene.select(round),
            2 => scene.use_one(round),
            _ => scene.offer(round),
        });
        round.play(|| scene.wake(round));
        scene.assert_nobody_forgotten();
        scene.event.set();
        scene.queue.shutdown();
        scene.rendezvous.shutdown();
        (0..100).for_each(|_| scene.semaphore.release());
        round.end();
        assert_eq!(scene.semaphore.available(), scene.permits.get() + 100);
        while let Ok(left) = scene.queue.try_get() {
            left.received();
        }
        scene.ledger.assert_balanced();
    });
}
