//! What greenlets keep each other out by: semaphores, mutexes, reentrant and read-write locks.
//!
//! What all of them have in common is tested of all of them, by the tests under "every lock"; what
//! is special about one follows in its own part. Each test names the line it restates: M1 .. M8, K9,
//! K12, T4, T8 are gevent's rules, "case" a case of its test-suite, "hand-off" the first difference
//! from it, and a name such as "RwLock" that line of our semantics.

mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use greenloom::sync::{
    Barrier, BoundedSemaphore, Event, Mutex, MutexGuard, Permit, RLock, RwLock, Semaphore,
    TooManyReleases,
};
use greenloom::{
    Elapsed, Greenlet, Waitable, catch_interrupt, iwait, joinall, joinall_timeout, killall, scope,
    shield, sleep, spawn, wait_any, wait_any_timeout, with_timeout, yield_now,
};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use util::words::*;
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, message, ms, reason_of,
    reports, settle, spin, state_of, swallow, until, until_parked, within,
};

// -------------------------------------------------------------------- words

/// The limit of waits that are meant to run out.
const LIMIT: Duration = Duration::from_millis(10);

/// Something that guards may outlive any function with.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// How many rounds there are in a test that leaves it to chance who is killed when.
const ROUNDS: usize = 10_000;

#[test]
fn smoke() {
    within(MINUTE, || {
        let total = Rc::new(Mutex::new(0));
        let adders: Vec<_> = (0..10)
            .map(|_| {
                with(&total, |total| {
                    for _ in 0..10 {
                        let mut guard = total.lock();
                        let before = *guard;
                        yield_now();
                        *guard = before + 1;
                    }
                })
            })
            .collect();
        joinall(&adders);
        assert_eq!(*total.lock(), 100);
    });
}

// ---------------------------------------------------------------- every lock

/// What is held until it is dropped.
trait Held {}
impl<T> Held for T {}

type Guard<'a> = Box<dyn Held + 'a>;

/// Something that only so many can hold at a time.
trait Lock: Sized + 'static {
    /// How many.
    const ROOM: usize = 1;
    /// May one who holds it take it again?
    const IS_REENTRANT: bool = false;
    /// What a dump says of who waits for it.
    const REASON: &'static str;

    fn new() -> Self;
    fn take(&self) -> Guard<'_>;
    fn try_take(&self) -> Option<Guard<'_>>;
    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>>;
}

/// A box for the guard of whichever lock.
fn held<'a>(guard: impl Held + 'a) -> Guard<'a> {
    Box::new(guard)
}

impl Lock for Semaphore {
    const REASON: &'static str = "acquire of the Semaphore made at";

    fn new() -> Semaphore {
        Semaphore::new(1)
    }

    fn take(&self) -> Guard<'_> {
        held(self.acquire())
    }

    fn try_take(&self) -> Option<Guard<'_>> {
        self.try_acquire().map(held)
    }

    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>> {
        self.acquire_timeout(d).map(held)
    }
}

/// A semaphore of three.
struct Three(Semaphore);

impl Lock for Three {
    const ROOM: usize = 3;
    const REASON: &'static str = Semaphore::REASON;

    fn new() -> Three {
        Three(Semaphore::new(3))
    }

    fn take(&self) -> Guard<'_> {
        held(self.0.acquire())
    }

    fn try_take(&self) -> Option<Guard<'_>> {
        self.0.try_acquire().map(held)
    }

    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>> {
        self.0.acquire_timeout(d).map(held)
    }
}

impl Lock for BoundedSemaphore {
    const REASON: &'static str = "acquire of the BoundedSemaphore made at";

    fn new() -> BoundedSemaphore {
        BoundedSemaphore::new(1)
    }

    fn take(&self) -> Guard<'_> {
        held(self.acquire())
    }

    fn try_take(&self) -> Option<Guard<'_>> {
        self.try_acquire().map(held)
    }

    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>> {
        self.acquire_timeout(d).map(held)
    }
}

impl Lock for Mutex<()> {
    const REASON: &'static str = "lock of the Mutex made at";

    fn new() -> Mutex<()> {
        Mutex::new(())
    }

    fn take(&self) -> Guard<'_> {
        held(self.lock())
    }

    fn try_take(&self) -> Option<Guard<'_>> {
        self.try_lock().map(held)
    }

    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>> {
        self.lock_timeout(d).map(held)
    }
}

impl Lock for RLock<()> {
    const IS_REENTRANT: bool = true;
    const REASON: &'static str = "lock of the RLock made at";

    fn new() -> RLock<()> {
        RLock::new(())
    }

    fn take(&self) -> Guard<'_> {
        held(self.lock())
    }

    fn try_take(&self) -> Option<Guard<'_>> {
        self.try_lock().map(held)
    }

    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>> {
        self.lock_timeout(d).map(held)
    }
}

/// As those see it who write.
impl Lock for RwLock<()> {
    const REASON: &'static str = "write of the RwLock made at";

    fn new() -> RwLock<()> {
        RwLock::new(())
    }

    fn take(&self) -> Guard<'_> {
        held(self.write())
    }

    fn try_take(&self) -> Option<Guard<'_>> {
        self.try_write().map(held)
    }

    fn take_timeout(&self, d: Duration) -> Option<Guard<'_>> {
        self.write_timeout(d).map(held)
    }
}

/// Makes a module for each lock, with a test for each function.
macro_rules! tests_of {
    ($($lock:ident: $type:ty),+ => $tests:tt) => {
        $(tests_of! { @ $lock, $type, $tests })+
    };
    (@ $lock:ident, $type:ty, { $($(#[$only:meta])* $test:ident,)+ }) => {
        mod $lock {
            use super::*;
            $(
                $(#[$only])*
                #[test]
                fn $test() {
                    within(MINUTE, super::$test::<$type>);
                }
            )+
        }
    };
}

tests_of! {
    semaphore: Semaphore,
    bounded_semaphore: BoundedSemaphore,
    mutex: Mutex<()>,
    rlock: RLock<()>,
    rwlock: RwLock<()> => {
        one_at_a_time,
        first_come_first_served,
        handed_over_at_once,
        a_passer_by_does_not_win,
        taking_turns,
        held_over_a_wait,
        #[cfg(not(hard_switch))] // where every call that need not wait switches
        a_free_one_need_not_switch,
        trying_never_switches,
        taken_again_and_again_it_lets_others_run,
        not_in_time,
        an_abandoned_wait_leaves_no_trace,
        killed_while_waiting,
        an_outer_timeout_while_waiting,
        released_then_killed,
        killed_then_released,
        many_killed_and_released_in_one_turn,
        released_when_due,
        released_too_late,
        a_kill_that_is_swallowed_comes_again,
        held_back_by_a_shield,
        released_by_unwinding,
        released_after_catch_interrupt,
        leaked,
        while_it_unwinds,
        in_a_link_and_in_the_destructor_of_a_local,
        taken_twice,
        waited_for_when_the_thread_ends,
        used_when_the_hub_has_ended,
        fair,
        nothing_is_lost,
    }
}

tests_of! {
    semaphore_of_three: Three => {
        fair,
        nothing_is_lost,
    }
}

/// Can somebody else take it?
fn is_free<L: Lock>(lock: &Rc<L>) -> bool {
    with(lock, |lock| lock.try_take().is_some()).get().unwrap()
}

/// A greenlet in line for `lock`, which says `line` when it has it.
fn in_line<L: Lock>(lock: &Rc<L>, log: &Log, line: impl ToString) -> Greenlet<()> {
    let (log, line) = (log.clone(), line.to_string());
    parked(lock, move |lock| {
        let _guard = lock.take();
        log.say(line);
    })
}

fn one_at_a_time<L: Lock>() {
    let lock = Rc::new(L::new());
    assert!(is_free(&lock));
    let takes: [fn(&L) -> Guard<'_>; 2] = [L::take, |lock| lock.try_take().unwrap()];
    for take in takes {
        let guard = take(&lock);
        assert!(!is_free(&lock));
        let waiter = parked(&lock, |lock| drop(lock.take()));
        drop(guard);
        waiter.get().unwrap();
        assert!(is_free(&lock));
    }
    assert!(lock.take_timeout(Duration::ZERO).is_some(), "no time is enough for what is free");
}

/// M1.
fn first_come_first_served<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let waiters: Vec<_> = (0..20)
        .map(|n| match n % 2 {
            0 => in_line(&lock, &log, n),
            _ => {
                let log = log.clone();
                parked(&lock, move |lock| {
                    let _guard = lock.take_timeout(HOUR).unwrap();
                    log.say(n);
                })
            }
        })
        .collect();
    drop(guard);
    joinall(&waiters);
    log.assert_is((0..20).map(|n| n.to_string()));
}

/// M2, hand-off: it belongs to the first in line from the moment it is released.
fn handed_over_at_once<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let waiter = in_line(&lock, &log, "waited");
    drop(guard);
    log.assert_empty();
    assert!(lock.try_take().is_none(), "it is his already");
    assert!(lock.take_timeout(Duration::ZERO).is_none() || log.has("waited"));
    waiter.get().unwrap();
    assert!(is_free(&lock));
}

/// M2, hand-off: to release it and take it again without a wait between gets one behind the line.
fn a_passer_by_does_not_win<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let waiters = [in_line(&lock, &log, "first"), in_line(&lock, &log, "second")];
    drop(guard);
    let _guard = lock.take();
    log.say("again");
    joinall(&waiters);
    log.assert_is(["first", "second", "again"]);
}

/// M2, case 36: two who take it over and over take turns, whether they wait while they hold it or
/// never wait at all.
fn taking_turns<L: Lock>() {
    for waits in [true, false] {
        let (lock, log) = (Rc::new(L::new()), Log::new());
        let guard = lock.take();
        let takers = ["ping", "pong"].map(|name| {
            parked(&(lock.clone(), log.clone()), move |(lock, log)| {
                for _ in 0..50 {
                    let _guard = lock.take();
                    log.say(name);
                    if waits {
                        yield_now();
                    }
                }
            })
        });
        drop(guard);
        joinall(&takers);
        log.assert_is(["ping", "pong"].into_iter().cycle().take(100));
    }
}

/// Case 36: it may be held over any wait.
fn held_over_a_wait<L: Lock>() {
    let (lock, inside) = (Rc::new(L::new()), Rc::new(Cell::new(0)));
    let holders: Vec<_> = (0..10)
        .map(|n| {
            with(&(lock.clone(), inside.clone()), move |(lock, inside)| {
                let _guard = lock.take();
                assert_eq!(inside.replace(1), 0);
                match n % 3 {
                    0 => yield_now(),
                    1 => sleep(ms(1)),
                    _ => spawn(|| sleep(ms(1))).join(),
                }
                inside.set(0);
            })
        })
        .collect();
    for holder in holders {
        holder.get().unwrap();
    }
}

#[cfg(not(hard_switch))]
fn a_free_one_need_not_switch<L: Lock>() {
    let lock = L::new();
    need_not_switch(|| drop(lock.take()));
    need_not_switch(|| assert!(lock.take_timeout(HOUR).is_some()));
}

/// H5: nor does giving it back, to whomever.
fn trying_never_switches<L: Lock>() {
    let log = Log::new();
    let locks: Vec<_> = (0..10).map(|_| Rc::new(L::new())).collect();
    never_switches(|| assert!(locks[0].try_take().is_some()));
    let guards = RefCell::new(locks.iter().map(|lock| lock.take()).collect::<Vec<_>>());
    let waiters: Vec<_> = locks.iter().map(|lock| in_line(lock, &log, "waited")).collect();
    never_switches(|| assert_eq!(locks[0].try_take().is_some(), L::IS_REENTRANT));
    never_switches(|| drop(guards.borrow_mut().pop()));
    joinall(&waiters);
    assert_eq!(log.count("waited"), 10);
}

/// H5: who takes what is free over and over lets others run after 128 times at the latest.
fn taken_again_and_again_it_lets_others_run<L: Lock>() {
    let lock = L::new();
    settle();
    let ran = Rc::new(Cell::new(false));
    let other = with(&ran, |ran| ran.set(true));
    let calls = (1..).find(|_| {
        drop(lock.take());
        ran.get()
    });
    assert!(calls <= Some(129), "{calls:?}");
    other.join();
}

/// T8, case 34: none in time, and not before.
fn not_in_time<L: Lock>() {
    let lock = Rc::new(L::new());
    let guard = lock.take();
    let waiter = with(&lock, |lock| {
        let start = Instant::now();
        assert!(lock.take_timeout(LIMIT).is_none());
        assert!(start.elapsed() >= LIMIT);
        assert!(lock.take_timeout(Duration::ZERO).is_none());
        assert!(lock.try_take().is_none());
    });
    waiter.get().unwrap();
    nothing_is_left();
    drop(guard);
    assert!(is_free(&lock));
}

/// M4, case 34, K10: who gave up is in line no more.
fn an_abandoned_wait_leaves_no_trace<L: Lock>() {
    type Abandon<L> = fn(&Rc<L>);
    let abandon: [Abandon<L>; 2] = [
        |lock| assert!(lock.take_timeout(ms(1)).is_none()),
        |lock| assert!(with_timeout(ms(1), || drop(lock.take())).is_err()),
    ];
    for abandon in abandon {
        let lock = Rc::new(L::new());
        let guard = lock.take();
        let gone = with(&lock, move |lock| {
            abandon(lock);
            // Nobody comes to end this wait before its time.
            let start = Instant::now();
            sleep(LIMIT);
            assert!(start.elapsed() >= LIMIT);
        });
        until(|| reason_of(gone.id()).as_deref() == Some("sleep"));
        drop(guard);
        assert!(is_free(&lock));
        gone.get().unwrap();
    }
}

/// K2: it unwinds from its wait, and those behind it move up.
fn killed_while_waiting<L: Lock>() {
    let waits: [fn(&Rc<L>); 2] = [|lock| drop(lock.take()), |lock| drop(lock.take_timeout(HOUR))];
    for wait in waits {
        let (lock, log) = (Rc::new(L::new()), Log::new());
        let guard = lock.take();
        let target = parked(&(lock.clone(), log.clone()), move |(lock, log)| {
            let _unwound = log.at_drop("unwound");
            wait(lock);
            log.say("went on");
        });
        let behind = in_line(&lock, &log, "behind");
        let shown = reason_of(target.id()).expect("who is parked has a reason");
        assert!(shown.starts_with(L::REASON), "{shown}");
        target.kill();
        log.assert_is(["unwound"]);
        assert_eq!(end_of(target), End::Killed);
        drop(guard);
        behind.get().unwrap();
        assert!(is_free(&lock));
    }
}

/// T1, case 23: a timeout that is not its own ends the wait, from under an inner one too.
fn an_outer_timeout_while_waiting<L: Lock>() {
    let lock = Rc::new(L::new());
    let guard = lock.take();
    let waiter = with(&lock, |lock| {
        assert_eq!(with_timeout(ms(1), || drop(lock.take())), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || drop(lock.take_timeout(HOUR))), Err(Elapsed));
        let inner = || with_timeout(HOUR, || drop(lock.take()));
        assert_eq!(with_timeout(ms(1), inner), Err(Elapsed));
    });
    waiter.get().unwrap();
    drop(guard);
    assert!(is_free(&lock));
}

/// K9, case 21, hand-off: handed over, then killed in the same turn: he has received it, and gives it back
/// when the kill reaches him at his next wait.
fn released_then_killed<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let target = parked(&(lock.clone(), log.clone()), |(lock, log)| {
        let _guard = lock.take();
        log.say("received");
        sleep(HOUR);
        log.say("went on");
    });
    let behind = in_line(&lock, &log, "behind");
    drop(guard);
    target.kill_nowait();
    assert!(lock.try_take().is_none());
    behind.get().unwrap();
    log.assert_is(["received", "behind"]);
    assert_eq!(end_of(target), End::Killed);
    assert!(is_free(&lock));
}

/// K9, case 21, hand-off: killed, then released in the same turn, before he has run: it is not for him.
fn killed_then_released<L: Lock>() {
    for someone_behind in [true, false] {
        let (lock, log) = (Rc::new(L::new()), Log::new());
        let guard = lock.take();
        let target = in_line(&lock, &log, "never");
        let behind = someone_behind.then(|| in_line(&lock, &log, "behind"));
        target.kill_nowait();
        drop(guard);
        assert_eq!(lock.try_take().is_none(), someone_behind);
        joinall(&behind);
        assert_eq!(end_of(target), End::Killed);
        assert_eq!(log.lines(), behind.map(|_| "behind").as_slice());
        assert!(is_free(&lock));
    }
}

/// K9: so it is however many of those in line have been killed before.
fn many_killed_and_released_in_one_turn<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let waiters: Vec<_> = (0..20).map(|n| in_line(&lock, &log, n)).collect();
    for killed in waiters.iter().step_by(3).chain(waiters.iter().skip(1).step_by(3)) {
        killed.kill_nowait();
    }
    drop(guard);
    joinall(&waiters);
    log.assert_is((0..20).skip(2).step_by(3).map(|n: usize| n.to_string()));
    assert!(is_free(&lock));
}

/// T4, M5: released in time, when the time was over before anybody looked.
fn released_when_due<L: Lock>() {
    let waits: [fn(&Rc<L>) -> bool; 2] = [
        |lock| lock.take_timeout(LIMIT).is_some(),
        |lock| with_timeout(LIMIT, || drop(lock.take())).is_ok(),
    ];
    for wait in waits {
        let lock = Rc::new(L::new());
        loop {
            let guard = lock.take();
            let waiter = with(&lock, wait);
            settle();
            let in_time = state_of(waiter.id()) == Some("parked");
            spin(LIMIT);
            drop(guard);
            let taken = waiter.get().unwrap();
            assert!(is_free(&lock));
            // On a busy machine the time may be over before we begin.
            if in_time {
                assert!(taken);
                break;
            }
        }
    }
}

/// M5, hand-off: released when his time was up, before he has run: it goes to the next.
fn released_too_late<L: Lock>() {
    let waits: [fn(&Rc<L>) -> bool; 2] = [
        |lock| lock.take_timeout(LIMIT).is_some(),
        |lock| with_timeout(LIMIT, || drop(lock.take())).is_ok(),
    ];
    for wait in waits {
        let (lock, log) = (Rc::new(L::new()), Log::new());
        let late = too_late(&lock, wait, |lock| in_line(lock, &log, "behind"));
        assert!(!late);
        log.assert_is(["behind"]);
        assert!(is_free(&lock));
    }
}

/// Lets the time of `wait` be up when, in the same turn, `lock` is released by somebody
/// who runs first. What `wait` returned, when all have ended, also the one that `line_up` put behind
/// it.
///
/// A hub that has slept too long ends sleeps before limits: so it is released when the limit has
/// ended the wait, and the waiter has not run. (On a busy machine or under `hard_switch` it may
/// have.)
fn too_late<L: Lock, T: 'static>(
    lock: &Rc<L>,
    wait: impl FnOnce(&Rc<L>) -> T + 'static,
    line_up: impl FnOnce(&Rc<L>) -> Greenlet<()>,
) -> T {
    let go = Event::new();
    let holder = parked(&(lock.clone(), go.clone()), move |(lock, go)| {
        let _guard = lock.take();
        go.wait();
        sleep(2 * LIMIT);
    });
    let late = with(lock, wait);
    settle();
    let behind = line_up(lock);
    go.set();
    settle();
    spin(3 * LIMIT);
    joinall([&holder, &behind]);
    late.get().unwrap()
}

/// K4: whoever catches the kill and tries again is told again, and has not got it.
fn a_kill_that_is_swallowed_comes_again<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let stubborn = parked(&(lock.clone(), log.clone()), |(lock, log)| {
        for _ in 0..3 {
            assert!(swallow(|| lock.take()).is_err());
            log.say("swallowed");
        }
        assert!(swallow(|| lock.take_timeout(HOUR)).is_err());
        drop(lock.take());
    });
    stubborn.kill();
    assert_eq!(log.count("swallowed"), 3);
    drop(guard);
    assert!(is_free(&lock));
}

/// Under a shield the wait goes on, and the kill comes at the next one.
fn held_back_by_a_shield<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let shielded = parked(&(lock.clone(), log.clone()), |(lock, log)| {
        shield(|| {
            let _guard = lock.take();
            log.say("received");
        });
        sleep(HOUR);
        log.say("went on");
    });
    shielded.kill_nowait();
    settle();
    log.assert_empty();
    drop(guard);
    assert_eq!(end_of(shielded), End::Killed);
    log.assert_is(["received"]);
    assert!(is_free(&lock));
}

/// K12, "Panics": however its holder ends, it is released, goes to the next, and is none the worse.
fn released_by_unwinding<L: Lock>() {
    for unwound in Unwound::ALL {
        let (lock, log) = (leak(Rc::new(L::new())), Log::new());
        let next = Rc::new(Cell::new(None));
        let (line, said) = (next.clone(), log.clone());
        unwound.after(move || {
            let guard = lock.take();
            line.set(Some(in_line(lock, &said, "next")));
            guard
        });
        joinall(next.take());
        log.assert_is(["next"]);
        assert!(is_free(lock));
    }
}

/// K12: caught and resumed, the guard has long been dropped.
fn released_after_catch_interrupt<L: Lock>() {
    let lock = Rc::new(L::new());
    let go = Event::new();
    let holder = parked(&(lock.clone(), go.clone()), |(lock, go)| {
        let caught = catch_interrupt(|| {
            let _guard = lock.take();
            sleep(HOUR);
        });
        let interrupt = caught.unwrap_err();
        go.wait();
        interrupt.resume()
    });
    holder.kill_nowait();
    until(|| reason_of(holder.id()).is_some_and(|reason| reason.contains("Event")));
    assert!(is_free(&lock), "while it cleans up");
    go.set();
    assert_eq!(end_of::<()>(holder), End::Killed);
}

/// K12: a guard that is never dropped is held for ever, whether its greenlet lives or not.
fn leaked<L: Lock>() {
    let lock = Rc::new(L::new());
    hold_for_ever(&lock);
    assert!(!is_free(&lock));
    assert!(lock.try_take().is_none());
    assert!(lock.take_timeout(ms(1)).is_none());
    assert!(with_timeout(ms(1), || drop(lock.take())).is_err());
    let report = blocks_forever(|| lock.take());
    assert!(report.contains(L::REASON), "{report}");
}

/// M7: no call waits while its greenlet unwinds: a free one is taken; one that is held is not, and
/// `take`, which cannot return without it, says why.
fn while_it_unwinds<L: Lock>() {
    let (free, taken) = (Rc::new(L::new()), Rc::new(L::new()));
    let guard = taken.take();
    let things = (free.clone(), taken.clone());
    while_unwinding(move || {
        let (free, taken) = &things;
        drop(free.take());
        assert!(free.take_timeout(HOUR).is_some());
        assert!(free.try_take().is_some());
        assert!(taken.try_take().is_none());
        assert!(taken.take_timeout(HOUR).is_none());
        let panic = swallow(|| drop(taken.take())).unwrap_err();
        let panic = message(panic.as_ref());
        assert!(panic.contains("unwind"), "{panic}");
    });
    assert!(is_free(&free));
    drop(guard);
    assert!(is_free(&taken), "nobody is in line");
}

/// X6: links, and destructors that run on their own greenlet's stack, may wait for it.
fn in_a_link_and_in_the_destructor_of_a_local<L: Lock>() {
    let (lock, log) = (Rc::new(L::new()), Log::new());
    let guard = lock.take();
    let say = |line: &'static str| {
        let (lock, log) = (lock.clone(), log.clone());
        move || {
            let _guard = lock.take();
            log.say(line);
        }
    };
    let (destructor, link) = (say("destructor"), say("link"));
    let greenlet = spawn(move || with_the_locals(destructor));
    greenlet.link(move |_| link());
    settle();
    assert!(!greenlet.is_finished());
    log.assert_empty();
    drop(guard);
    until(|| log.len() == 2);
    log.assert_is(["destructor", "link"]);
    settle();
    assert!(is_free(&lock));
}

/// Case 38: one who holds it and takes it again waits for himself, unless it is reentrant; main is
/// told, and is in line no more afterwards.
fn taken_twice<L: Lock>() {
    let lock = Rc::new(L::new());
    let guard = lock.take();
    assert_eq!(lock.try_take().is_some(), L::IS_REENTRANT);
    assert_eq!(lock.take_timeout(ms(1)).is_some(), L::IS_REENTRANT);
    if !L::IS_REENTRANT {
        let report = blocks_forever(|| lock.take());
        assert!(report.contains(L::REASON), "{report}");
    }
    drop(guard);
    assert!(is_free(&lock));
}

/// The end of a thread unwinds whoever holds it and whoever waits, in whatever order.
fn waited_for_when_the_thread_ends<L: Lock>() {
    let lock = Rc::new(L::new());
    for _ in 0..10 {
        parked(&lock, |lock| {
            let _guard = lock.take();
            sleep(HOUR);
        });
    }
}

thread_local! {
    /// Made before the hub of its thread, and therefore dropped after it.
    static AFTER_THE_HUB: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
}

/// When the hub of a thread has ended, nobody waits there any more: what is free can be taken, and
/// what is not cannot.
fn used_when_the_hub_has_ended<L: Lock>() {
    let failed = Arc::new(StdMutex::new(Some("it did not run")));
    let fails = failed.clone();
    // A thread that ends with a panic in a destructor would take the process along.
    let used = move |lock: Rc<L>, held: Rc<L>| {
        let right = swallow(|| {
            drop(lock.take());
            drop(lock.try_take().unwrap());
            drop(lock.take_timeout(HOUR).unwrap());
            assert!(held.try_take().is_none());
            assert!(held.take_timeout(HOUR).is_none());
        });
        *fails.lock().unwrap() = right.err().map(|_| "it panicked");
    };
    let thread = std::thread::spawn(move || {
        AFTER_THE_HUB.set(None);
        let (lock, held) = (Rc::new(L::new()), Rc::new(L::new()));
        hold_for_ever(&held);
        let waiter = parked(&held, |held| drop(held.take()));
        AFTER_THE_HUB.set(Some(Box::new(at_drop(move || used(lock, held)))));
        waiter.kill();
    });
    thread.join().unwrap();
    assert_eq!(*failed.lock().unwrap(), None);
}

/// Takes `lock` and leaks the guard.
#[expect(clippy::mem_forget, reason = "a guard that is leaked is what is wanted")]
fn hold_for_ever<L: Lock>(lock: &Rc<L>) {
    with(lock, |lock| std::mem::forget(lock.take())).get().unwrap();
}

/// Fairness: so many contend until so many turns have been taken; each has got his share, give or
/// take one. None of them ever waits for anything but the lock.
fn fair<L: Lock>() {
    const GREENLETS: usize = 100;
    const TURNS: usize = 100_000;
    let lock = Rc::new(L::new());
    let turns = Rc::new(RefCell::new((0, [0_usize; GREENLETS])));
    // Held until all are in line: they are to contend from the first turn on.
    let guards: Vec<_> = (0..L::ROOM).map(|_| lock.take()).collect();
    let contenders: Vec<_> = (0..GREENLETS)
        .map(|me| {
            parked(&(lock.clone(), turns.clone()), move |(lock, turns)| {
                loop {
                    let _guard = lock.take();
                    let (total, each) = &mut *turns.borrow_mut();
                    if *total == TURNS {
                        return;
                    }
                    *total += 1;
                    each[me] += 1;
                }
            })
        })
        .collect();
    drop(guards);
    joinall(&contenders);
    let (total, each) = &*turns.borrow();
    assert_eq!(*total, TURNS);
    let share = TURNS / GREENLETS;
    // Several who are ready together are shuffled by `hard_switch`, at each of a thousand turns.
    let difference = if cfg!(hard_switch) && L::ROOM > 1 { 5 } else { 1 };
    assert!(each.iter().all(|turns| turns.abs_diff(share) <= difference), "{each:?}");
}

/// How a greenlet of the test below takes a lock, in at most so much time; false if it did not get
/// it.
type Take<L> = fn(&L, Duration, &Holders) -> bool;

/// How many hold it, checked at every turn; and how long they do.
#[derive(Default)]
struct Holders {
    now: Cell<usize>,
    ever: Cell<usize>,
}

impl Holders {
    /// Has taken it and holds it for a while.
    fn hold<L: Lock>(&self, guard: Guard<'_>, d: Duration) -> bool {
        self.now.set(self.now.get() + 1);
        self.ever.set(self.ever.get() + 1);
        assert!(self.now.get() <= L::ROOM);
        let _leaves = at_drop(|| {
            self.now.set(self.now.get() - 1);
            drop(guard);
        });
        match d.subsec_micros() % 4 {
            0 => {}
            1 => sleep(d),
            _ => yield_now(),
        }
        true
    }
}

/// K9, M5: greenlets come and go, served, killed, or out of time, at any moment. If ever there is
/// room and somebody waits all the same, something was lost; and at the end it is as it was.
fn nothing_is_lost<L: Lock>() {
    let takes: [Take<L>; 4] = [
        |lock, d, holders| holders.hold::<L>(lock.take(), d),
        |lock, d, holders| lock.take_timeout(d).is_some_and(|guard| holders.hold::<L>(guard, d)),
        |lock, d, holders| with_timeout(d, || holders.hold::<L>(lock.take(), d)).is_ok(),
        |lock, d, holders| lock.try_take().is_some_and(|guard| holders.hold::<L>(guard, d)),
    ];
    let mut random = Lcg::new(0x10C5_0001);
    let (lock, holders) = (Rc::new(L::new()), Rc::new(Holders::default()));
    let mut greenlets = Vec::<Greenlet<bool>>::new();
    for round in 0..ROUNDS {
        for _ in 0..random.below(4) {
            let (take, d) = (takes[random.below(4) as usize], random.micros_below(100));
            let things = (lock.clone(), holders.clone());
            greenlets.push(with(&things, move |(lock, holders)| take(lock, d, holders)));
        }
        let guard = random.one_in(2).then(|| lock.try_take()).flatten();
        if random.one_in(2) {
            settle();
        }
        spin(random.micros_below(50));
        // In one turn: some are killed, it is released, some are killed.
        greenlets.iter().filter(|_| random.one_in(6)).for_each(Greenlet::kill_nowait);
        drop(guard);
        greenlets.iter().filter(|_| random.one_in(6)).for_each(Greenlet::kill_nowait);
        settle();
        greenlets.retain(|greenlet| !greenlet.is_finished());
        if holders.now.get() < L::ROOM {
            let waiting = greenlets.iter().filter(|greenlet| is_in_line::<L>(greenlet)).count();
            assert_eq!(waiting, 0, "round {round}, seed {:#x}", random.seed);
        }
    }
    joinall(&greenlets);
    assert!(greenlets.iter().all(|greenlet| greenlet.is_finished()));
    assert_eq!(holders.now.get(), 0, "seed {:#x}", random.seed);
    assert!(holders.ever.get() > 1000, "seed {:#x}", random.seed);
    let guards: Vec<_> = (0..L::ROOM).map(|_| lock.try_take().expect("all are back")).collect();
    assert!(!is_free(&lock), "and no more than there were, seed {:#x}", random.seed);
    drop(guards);
}

/// Does it wait for the lock, and nothing has ended that yet?
fn is_in_line<L: Lock>(greenlet: &Greenlet<bool>) -> bool {
    reason_of(greenlet.id()).is_some_and(|reason| reason.starts_with(L::REASON))
}

// ---------------------------------------------------------------- Semaphore

#[test]
fn a_semaphore_counts() {
    within(MINUTE, || {
        let semaphore = Semaphore::new(3);
        assert_eq!(semaphore.available(), 3);
        let one = semaphore.acquire();
        let two = semaphore.try_acquire().unwrap();
        let three = semaphore.acquire_timeout(Duration::ZERO).unwrap();
        assert_eq!(semaphore.available(), 0);
        assert!(semaphore.try_acquire().is_none());
        assert!(semaphore.acquire_timeout(ms(1)).is_none());
        for (back, permit) in [two, one, three].into_iter().enumerate() {
            drop(permit);
            assert_eq!(semaphore.available(), back + 1);
        }
    });
}

/// Code ported from Python: permits without guards, and more of them than there were.
#[test]
fn a_semaphore_without_guards() {
    within(MINUTE, || {
        let semaphore = Semaphore::new(0);
        assert!(semaphore.try_acquire().is_none());
        semaphore.release();
        semaphore.release();
        assert_eq!(semaphore.available(), 2);
        semaphore.acquire().forget();
        assert_eq!(semaphore.available(), 1);
        semaphore.release();
        semaphore.release();
        assert_eq!(semaphore.available(), 3);
    });
}

/// M3: each release serves one, none of them has to have run meanwhile; what is left over stays.
#[test]
fn several_releases_serve_as_many() {
    within(MINUTE, || {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::new());
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                parked(&(semaphore.clone(), log.clone()), move |(semaphore, log)| {
                    semaphore.acquire().forget();
                    log.say(n);
                })
            })
            .collect();
        for _ in 0..3 {
            semaphore.release();
            assert_eq!(semaphore.available(), 0);
        }
        settle();
        log.assert_has_all(["0", "1", "2"]);
        for _ in 0..4 {
            semaphore.release();
        }
        assert_eq!(semaphore.available(), 2);
        joinall(&waiters);
        log.assert_has_all((0..5).map(|n| n.to_string()));
        assert_eq!(semaphore.available(), 2);
    });
}

/// K9: several releases and several kills in one turn, in whatever order.
#[test]
fn releases_and_kills_in_one_turn() {
    within(MINUTE, || {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::new());
        let waiters: Vec<_> = (0..4)
            .map(|n| {
                parked(&(semaphore.clone(), log.clone()), move |(semaphore, log)| {
                    let _permit = semaphore.acquire();
                    log.say(n);
                    sleep(HOUR);
                })
            })
            .collect();
        waiters[0].kill_nowait();
        semaphore.release(); // for the second
        waiters[1].kill_nowait(); // too late
        waiters[2].kill_nowait();
        semaphore.release(); // for the fourth
        settle();
        // The second has given his back; nobody waits for it.
        log.assert_has_all(["1", "3"]);
        assert_eq!(semaphore.available(), 1);
        killall(&waiters);
        assert_eq!(semaphore.available(), 2);
    });
}

/// H5.
#[test]
fn release_never_switches() {
    within(MINUTE, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let waiters: Vec<_> =
            (0..20).map(|_| parked(&semaphore, |semaphore| semaphore.acquire().forget())).collect();
        never_switches(|| {
            semaphore.release();
            semaphore.release();
        });
        joinall(&waiters);
        never_switches(|| semaphore.release());
    });
}

/// A permit may be given back by whoever has it.
#[test]
fn a_permit_may_change_hands() {
    within(MINUTE, || {
        let semaphore = Semaphore::new(1);
        scope(|s| {
            let permit = semaphore.acquire();
            let other = s.spawn(|| drop(semaphore.acquire()));
            s.spawn(move || drop(permit)).get().unwrap();
            other.get().unwrap();
        });
        assert_eq!(semaphore.available(), 1);
    });
}

/// M6, case 37: to wait for a permit is not to take it.
#[test]
fn waiting_for_a_semaphore_takes_nothing() {
    fn check(semaphore: &impl Waitable, available: impl Fn() -> usize) {
        assert!(semaphore.is_ready());
        for _ in 0..2 {
            assert_eq!(wait_any([semaphore]), 0);
            assert_eq!(wait_any_timeout([semaphore], Duration::ZERO), Some(0));
            joinall([semaphore, semaphore]);
            assert_eq!(iwait([semaphore, semaphore]).collect::<Vec<_>>(), [0, 1]);
        }
        assert_eq!(available(), 1);
    }
    within(MINUTE, || {
        let (semaphore, bounded) = (Semaphore::new(1), BoundedSemaphore::new(1));
        check(&semaphore, || semaphore.available());
        check(&bounded, || bounded.available());
        let _permit = semaphore.acquire();
        assert!(!semaphore.is_ready());
        assert_eq!(wait_any_timeout([&semaphore], ms(1)), None);
        assert!(!joinall_timeout([&semaphore], ms(1)));
    });
}

/// Everything that only watches a semaphore, as a function that waits until it is ready.
const WATCH: [fn(&Rc<Semaphore>); 4] = [
    |semaphore| assert_eq!(wait_any([semaphore.as_ref()]), 0),
    |semaphore| joinall([semaphore.as_ref()]),
    |semaphore| assert_eq!(iwait([semaphore.as_ref()]).next(), Some(0)),
    |semaphore| assert_eq!(wait_any([&Event::new() as &dyn Waitable, semaphore.as_ref()]), 1),
];

#[test]
fn those_who_watch_a_semaphore_are_woken_by_a_release() {
    within(MINUTE, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let watchers = WATCH.map(|watch| parked(&semaphore, watch));
        semaphore.release();
        for watcher in watchers {
            watcher.get().unwrap();
        }
        assert_eq!(semaphore.available(), 1);
    });
}

/// M6: those who watch do not stand in the way of those who take, wherever they are in line; and
/// they are told when there is a permit to be had.
#[test]
fn those_who_watch_a_semaphore_do_not_keep_those_who_take() {
    within(MINUTE, || {
        for watch in [WATCH[0], WATCH[1], WATCH[3]] {
            let semaphore = Rc::new(Semaphore::new(0));
            let before = parked(&semaphore, watch);
            let taker = parked(&semaphore, |semaphore| semaphore.acquire().forget());
            let after = parked(&semaphore, watch);
            semaphore.release();
            taker.get().unwrap();
            settle();
            assert!(!before.is_finished() && !after.is_finished(), "there is none for them");
            semaphore.release();
            joinall([&before, &after]);
            assert_eq!(semaphore.available(), 1);
        }
    });
}

/// M6: `wait_any` tells what is so when it returns: somebody took the permit meanwhile, so it waits
/// on.
#[test]
fn a_permit_that_is_gone_again_is_not_told_of() {
    within(MINUTE, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let watcher = parked(&semaphore, |semaphore| wait_any([semaphore.as_ref()]));
        semaphore.release();
        let permit = semaphore.try_acquire().expect("nobody is in line for it");
        settle();
        assert!(!watcher.is_finished());
        drop(permit);
        assert_eq!(watcher.get().unwrap(), 0);
        assert_eq!(semaphore.available(), 1);
    });
}

/// K9: a permit that comes back from one who was killed is told of, too.
#[test]
fn a_permit_that_comes_back_is_told_of() {
    within(MINUTE, || {
        for kill_first in [true, false] {
            let semaphore = Rc::new(Semaphore::new(0));
            let watcher = parked(&semaphore, |semaphore| wait_any([semaphore.as_ref()]));
            let taker = parked(&semaphore, |semaphore| {
                let _permit = semaphore.acquire();
                sleep(HOUR);
            });
            if kill_first {
                taker.kill_nowait();
                semaphore.release();
            } else {
                semaphore.release();
                taker.kill_nowait();
            }
            assert_eq!(watcher.get().unwrap(), 0);
            taker.join();
            assert_eq!(semaphore.available(), 1);
        }
    });
}

/// K9: whoever watches and is killed takes nothing along.
#[test]
fn a_watcher_that_is_killed_takes_nothing() {
    within(MINUTE, || {
        for watch in WATCH {
            let semaphore = Rc::new(Semaphore::new(0));
            let watcher = parked(&semaphore, watch);
            let taker = parked(&semaphore, |semaphore| drop(semaphore.acquire()));
            semaphore.release();
            watcher.kill_nowait();
            taker.get().unwrap();
            watcher.join();
            assert_eq!(semaphore.available(), 1);
        }
    });
}

/// Case 35, L9: one release is one call for each who watches, and none when he has gone.
#[test]
fn those_who_watch_are_told_once() {
    within(MINUTE, || {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::new());
        let watch = |line: &'static str| {
            parked(&(semaphore.clone(), log.clone()), move |(semaphore, log)| {
                for _ in iwait([semaphore.as_ref()]) {
                    log.say(line);
                }
            })
        };
        let first = watch("first");
        semaphore.release();
        first.join();
        semaphore.acquire().forget();
        let second = watch("second");
        semaphore.release();
        second.join();
        semaphore.release();
        settle();
        log.assert_is(["first", "second"]);
    });
}

/// Case 36: the fair or hangs.
#[test]
fn fair_or_hangs() {
    within(MINUTE, || {
        let semaphore = Rc::new(Semaphore::new(1));
        let workers = [0, 1].map(|_| {
            with(&semaphore, |semaphore| {
                for _ in 0..100 {
                    semaphore.acquire().forget();
                    yield_now();
                    semaphore.release();
                    yield_now();
                }
            })
        });
        joinall(&workers);
        assert_eq!(semaphore.available(), 1);
    });
}

// --------------------------------------------------------- BoundedSemaphore

/// Case 38, "BoundedSemaphore": a release beyond the bound is an error, and adds nothing.
#[test]
fn a_bounded_semaphore_has_a_bound() {
    within(MINUTE, || {
        let semaphore = BoundedSemaphore::new(2);
        assert_eq!(semaphore.release(), Err(TooManyReleases));
        assert_eq!(semaphore.available(), 2);
        semaphore.acquire().forget();
        assert_eq!(semaphore.available(), 1);
        assert_eq!(semaphore.release(), Ok(()));
        assert_eq!(semaphore.release(), Err(TooManyReleases));
        assert_eq!(semaphore.available(), 2);
        assert!(!TooManyReleases.to_string().is_empty());
        let none = BoundedSemaphore::new(0);
        assert!(none.try_acquire().is_none());
        assert_eq!(none.release(), Err(TooManyReleases));
        assert_eq!(none.available(), 0);
    });
}

/// As long as somebody has a permit, a release is one of those that are out, and goes to the first
/// in line.
#[test]
fn a_release_of_a_bounded_semaphore_is_handed_over() {
    within(MINUTE, || {
        let semaphore = Rc::new(BoundedSemaphore::new(1));
        semaphore.acquire().forget();
        let waiter = parked(&semaphore, |semaphore| drop(semaphore.acquire()));
        assert_eq!(semaphore.release(), Ok(()));
        assert_eq!(semaphore.available(), 0);
        assert!(semaphore.try_acquire().is_none());
        waiter.get().unwrap();
        assert_eq!(semaphore.available(), 1);
        assert_eq!(semaphore.release(), Err(TooManyReleases));
    });
}

/// Collects the levels of what is traced.
#[derive(Clone, Default)]
struct Traced(Arc<StdMutex<Vec<Level>>>);

impl<S: Subscriber> Layer<S> for Traced {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.0.lock().unwrap().push(*event.metadata().level());
    }
}

/// "BoundedSemaphore": a permit that is dropped when the bound is already full is not added, and
/// traced as an error.
#[test]
fn a_permit_too_many_is_traced() {
    within(MINUTE, || {
        let traced = Traced::default();
        let semaphore = BoundedSemaphore::new(1);
        let permit = semaphore.acquire();
        assert_eq!(semaphore.release(), Ok(()));
        tracing::subscriber::with_default(Registry::default().with(traced.clone()), || {
            drop(permit);
        });
        assert_eq!(*traced.0.lock().unwrap(), [Level::ERROR]);
        assert_eq!(semaphore.available(), 1);
        assert_eq!(semaphore.release(), Err(TooManyReleases));
    });
}

/// "BoundedSemaphore": the same while it unwinds.
#[test]
fn a_permit_too_many_dropped_by_unwinding() {
    within(MINUTE, || {
        for unwound in Unwound::ALL {
            let semaphore = leak(BoundedSemaphore::new(1));
            unwound.after(|| {
                let permit = semaphore.acquire();
                semaphore.release().unwrap();
                permit
            });
            assert_eq!(semaphore.available(), 1);
        }
    });
}

// -------------------------------------------------------------------- Mutex

#[test]
fn a_mutex_guards_a_value() {
    within(MINUTE, || {
        let mut mutex = Mutex::new(vec![1]);
        assert!(!mutex.is_locked());
        mutex.get_mut().push(2);
        {
            let mut guard = mutex.lock();
            guard.push(3);
            assert_eq!(*guard, [1, 2, 3]);
            assert!(mutex.is_locked());
            assert!(mutex.try_lock().is_none());
        }
        assert!(!mutex.is_locked());
        mutex.try_lock().unwrap().push(4);
        mutex.lock_timeout(Duration::ZERO).unwrap().push(5);
        assert_eq!(mutex.into_inner(), [1, 2, 3, 4, 5]);
    });
}

/// Hand-off: it is never unlocked on its way to the next.
#[test]
fn a_mutex_stays_locked_when_it_is_handed_over() {
    within(MINUTE, || {
        let mutex = Rc::new(Mutex::new(0));
        let mut guard = mutex.lock();
        let waiter = parked(&mutex, |mutex| {
            let mut guard = mutex.lock();
            assert_eq!(*guard, 1);
            *guard += 1;
        });
        *guard += 1;
        drop(guard);
        assert!(mutex.is_locked());
        waiter.get().unwrap();
        assert!(!mutex.is_locked());
        assert_eq!(*mutex.lock(), 2);
    });
}

/// "Panics": not poisoned; what was written stays.
#[test]
fn a_mutex_is_not_poisoned() {
    within(MINUTE, || {
        let mutex = Rc::new(Mutex::new(0));
        let panics = with(&mutex, |mutex| {
            let mut guard = mutex.lock();
            *guard = 7;
            panic!("on purpose");
        });
        assert_eq!(end_of::<()>(panics), End::Panicked(String::from("on purpose")));
        assert_eq!(reports().len(), 1);
        assert!(!mutex.is_locked());
        assert_eq!(*mutex.lock(), 7);
    });
}

/// A guard that a function of the caller's own drops while it panics: main is a greenlet like
/// another.
#[test]
fn a_mutex_of_main_is_released_by_a_panic() {
    within(MINUTE, || {
        let (mutex, log) = (Rc::new(Mutex::new(0)), Log::new());
        let waiter = RefCell::new(None);
        let panic = swallow(|| {
            let _guard = mutex.lock();
            *waiter.borrow_mut() = Some(parked(&(mutex.clone(), log.clone()), |(mutex, log)| {
                let _guard = mutex.lock();
                log.say("next");
            }));
            panic!("on purpose");
        });
        assert!(panic.is_err());
        assert!(mutex.is_locked(), "handed over");
        joinall(waiter.borrow().iter());
        log.assert_is(["next"]);
    });
}

#[test]
fn a_mutex_may_hold_what_has_no_size() {
    within(MINUTE, || {
        let mutex: Rc<Mutex<[u8]>> = Rc::new(Mutex::new([1, 2, 3]));
        let waiter = {
            let _guard = mutex.lock();
            parked(&mutex, |mutex| mutex.lock()[0] = 9)
        };
        waiter.get().unwrap();
        assert_eq!(*mutex.lock(), [9, 2, 3]);
        let text: &Mutex<dyn ToString> = &Mutex::new(7);
        assert_eq!(text.lock().to_string(), "7");
    });
}

/// What it holds goes with it, once, also if it is still locked.
#[test]
#[expect(clippy::mem_forget, reason = "a guard that is leaked is what this is about")]
fn a_locked_mutex_may_be_dropped() {
    within(MINUTE, || {
        let living = Living::new();
        let mutex = Mutex::new(living.token());
        std::mem::forget(mutex.lock());
        assert!(mutex.is_locked());
        drop(mutex);
        assert_eq!(living.count(), 0);
        let mutex = RwLock::new(living.token());
        std::mem::forget(mutex.read());
        drop(mutex);
        assert_eq!(living.count(), 0);
    });
}

/// A lock that is dropped when those who waited for it have been killed.
#[test]
fn a_mutex_goes_with_the_last_who_waited() {
    within(MINUTE, || {
        let living = Living::new();
        let mutex = Rc::new(Mutex::new(living.token()));
        let holder = parked(&mutex, |mutex| {
            let _guard = mutex.lock();
            sleep(HOUR);
        });
        let waiters = [0, 1].map(|_| parked(&mutex, |mutex| drop(mutex.lock())));
        drop(mutex);
        killall(&waiters);
        assert_eq!(living.count(), 1);
        holder.kill();
        drop((holder, waiters));
        assert_eq!(living.count(), 0);
    });
}

/// A mutex whose value waits when it is dropped, and uses the mutex's neighbours.
#[test]
fn what_a_mutex_holds_may_wait_when_it_is_dropped() {
    within(MINUTE, || {
        let (log, gate) = (Log::new(), Rc::new(Mutex::new(())));
        let held = gate.lock();
        let value = {
            let (log, gate) = (log.clone(), gate.clone());
            at_drop(move || {
                let _guard = gate.lock();
                log.say("dropped");
            })
        };
        let dropper = spawn(move || drop(Mutex::new(value).into_inner()));
        until_parked(dropper.id());
        log.assert_empty();
        drop(held);
        dropper.get().unwrap();
        log.assert_is(["dropped"]);
    });
}

/// A guard may be moved, stored and mapped like any value; it is its drop that counts.
#[test]
fn a_guard_may_be_kept_and_given_away() {
    within(MINUTE, || {
        let mutex = Mutex::new(1);
        scope(|s| {
            let kept = RefCell::new(Vec::<MutexGuard<'_, i32>>::new());
            kept.borrow_mut().push(mutex.lock());
            let waiter = s.spawn(|| *mutex.lock());
            let kept = s.spawn(move || {
                yield_now();
                *kept.borrow_mut()[0] = 2;
                drop(kept);
            });
            kept.get().unwrap();
            assert_eq!(waiter.get().unwrap(), 2);
        });
        assert!(!mutex.is_locked());
    });
}

/// A chain: who waits for one holds another, and each release sets the next one free.
#[test]
fn released_one_after_the_other() {
    within(MINUTE, || {
        let locks: Rc<Vec<_>> = Rc::new((0..10).map(|_| Mutex::new(())).collect());
        let log = Log::new();
        let first = locks[0].lock();
        let links: Vec<_> = (1..10)
            .map(|n| {
                parked(&(locks.clone(), log.clone()), move |(locks, log)| {
                    let _mine = locks[n].lock();
                    let _next = locks[n - 1].lock();
                    log.say(n);
                })
            })
            .collect();
        drop(first);
        joinall(&links);
        log.assert_is((1..10).map(|n| n.to_string()));
    });
}

// -------------------------------------------------------------------- RLock

/// M8, case 38: who holds it may take it again, and nobody else may; it is free when the last guard
/// is dropped, in whatever order.
#[test]
fn an_rlock_is_reentrant() {
    within(MINUTE, || {
        let lock = Rc::new(RLock::new(7));
        let one = lock.lock();
        let two = lock.try_lock().unwrap();
        let three = lock.lock_timeout(Duration::ZERO).unwrap();
        assert_eq!(*one + *two + *three, 21);
        let others = || with(&lock, |lock| lock.lock_timeout(ms(1)).is_some()).get().unwrap();
        for guard in [two, one] {
            assert!(!others());
            drop(guard);
        }
        assert!(!others());
        assert!(lock.try_lock().is_some(), "still its owner");
        assert!(!others());
        drop(three);
        assert!(others());
        assert_eq!(Rc::into_inner(lock).unwrap().into_inner(), 7);
    });
}

/// M8: the second time is not for the line, which would never move.
#[test]
fn an_rlock_taken_again_does_not_wait_in_line() {
    within(MINUTE, || {
        let (lock, log) = (Rc::new(RLock::new(())), Log::new());
        let outer = lock.lock();
        let waiter = in_line(&lock, &log, "waited");
        for _ in 0..10 {
            let _inner = lock.lock();
            let _innermost = lock.lock_timeout(HOUR).unwrap();
        }
        log.say("inside");
        drop(outer);
        assert!(lock.try_lock().is_none(), "handed over, and so no longer ours");
        waiter.get().unwrap();
        log.assert_is(["inside", "waited"]);
    });
}

/// M8: whoever it is handed to owns it.
#[test]
fn an_rlock_that_was_handed_over_has_a_new_owner() {
    within(MINUTE, || {
        let lock = Rc::new(RLock::new(()));
        let guard = lock.lock();
        let owner = parked(&lock, |lock| {
            let _outer = lock.lock();
            let _inner = lock.lock();
            yield_now();
            drop(lock.lock());
            sleep(HOUR);
        });
        drop(guard);
        until(|| reason_of(owner.id()).as_deref() == Some("sleep"));
        assert!(lock.try_lock().is_none());
        owner.kill();
        assert!(lock.try_lock().is_some());
    });
}

/// K12: however many guards its owner had.
#[test]
fn an_rlock_is_released_by_unwinding() {
    fn dig(lock: &RLock<()>, depth: usize) {
        let _guard = lock.lock();
        match depth {
            0 => sleep(HOUR),
            _ => dig(lock, depth - 1),
        }
    }
    within(MINUTE, || {
        let (lock, log) = (Rc::new(RLock::new(())), Log::new());
        let owner = parked(&lock, |lock| dig(lock, 50));
        let waiter = in_line(&lock, &log, "next");
        owner.kill();
        waiter.get().unwrap();
        log.assert_is(["next"]);
    });
}

/// An owner is a greenlet, not a thread and not a closure: a scope's child is another one.
#[test]
fn an_rlock_is_owned_by_a_greenlet() {
    within(MINUTE, || {
        let lock = RLock::new(Cell::new(0));
        let guard = lock.lock();
        scope(|s| {
            let child = s.spawn(|| lock.try_lock().is_some());
            assert!(!child.get().unwrap());
        });
        guard.set(1);
        // A guard that is given away still counts for the one who took it.
        let second = lock.lock();
        scope(|s| s.spawn(move || drop(second)).get().unwrap());
        scope(|s| assert!(!s.spawn(|| lock.try_lock().is_some()).get().unwrap()));
        drop(guard);
        scope(|s| assert!(s.spawn(|| lock.try_lock().is_some()).get().unwrap()));
        assert_eq!(lock.into_inner().get(), 1);
    });
}

/// While it unwinds, its owner may take it again.
#[test]
fn an_rlock_is_reentrant_while_unwinding() {
    within(MINUTE, || {
        let lock = leak(RLock::new(()));
        for unwound in Unwound::ALL {
            unwound.after(move || {
                let guard = lock.lock();
                at_drop(move || {
                    drop(lock.lock());
                    drop(guard);
                })
            });
            assert!(lock.try_lock().is_some());
        }
    });
}

// ------------------------------------------------------------------- RwLock

/// A greenlet that reads as long as its event is not set.
fn reader(lock: &Rc<RwLock<()>>, done: &Event) -> Greenlet<()> {
    let reader = with(&(lock.clone(), done.clone()), |(lock, done)| {
        let _guard = lock.read();
        done.wait();
    });
    settle();
    reader
}

/// In line to read, says `line` when it may.
fn reads(lock: &Rc<RwLock<()>>, log: &Log, line: &'static str) -> Greenlet<()> {
    parked(&(lock.clone(), log.clone()), move |(lock, log)| {
        let _guard = lock.read();
        log.say(line);
    })
}

/// In line to write, says `line` when it may.
fn writes(lock: &Rc<RwLock<()>>, log: &Log, line: &'static str) -> Greenlet<()> {
    in_line(lock, log, line)
}

#[test]
fn readers_share_and_writers_do_not() {
    within(MINUTE, || {
        let lock = RwLock::new(1);
        {
            let (one, two, three) = (lock.read(), lock.try_read(), lock.read_timeout(ms(1)));
            assert_eq!(*one + *two.unwrap() + *three.unwrap(), 3);
            assert!(lock.try_write().is_none());
            assert!(lock.write_timeout(ms(1)).is_none());
        }
        *lock.write() += 1;
        *lock.try_write().unwrap() += 1;
        {
            let mut guard = lock.write_timeout(ms(1)).unwrap();
            *guard += 1;
            assert!(lock.try_read().is_none() && lock.try_write().is_none());
            assert!(lock.read_timeout(ms(1)).is_none());
        }
        assert_eq!(*lock.read(), 4);
        assert_eq!(lock.into_inner(), 4);
    });
}

/// "RwLock": a reader that comes while a writer waits queues behind him.
#[test]
fn a_reader_does_not_overtake_a_writer_who_waits() {
    within(MINUTE, || {
        let (lock, log, done) = (Rc::new(RwLock::new(())), Log::new(), Event::new());
        let inside = reader(&lock, &done);
        let writer = writes(&lock, &log, "writes");
        assert!(lock.try_read().is_none());
        assert!(lock.read_timeout(ms(1)).is_none());
        assert!(with_timeout(ms(1), || drop(lock.read())).is_err());
        let late = reads(&lock, &log, "reads");
        settle();
        log.assert_empty();
        done.set();
        joinall([&inside, &writer, &late]);
        log.assert_is(["writes", "reads"]);
    });
}

/// "RwLock": strictly first come, first served; readers next to each other go in together.
#[test]
fn readers_next_to_each_other_go_in_together() {
    within(MINUTE, || {
        let (lock, log) = (Rc::new(RwLock::new(())), Log::new());
        let guard = lock.write();
        let mut line = Vec::new();
        for (readers, name) in [(3, "after the readers"), (2, "last")] {
            // Each set can only leave when all of it is inside.
            let all_inside = Rc::new(Barrier::new(readers));
            for _ in 0..readers {
                let things = (lock.clone(), log.clone(), all_inside.clone());
                line.push(parked(&things, |(lock, log, all_inside)| {
                    let _guard = lock.read();
                    all_inside.wait().unwrap();
                    log.say("reads");
                }));
            }
            line.push(writes(&lock, &log, name));
        }
        drop(guard);
        joinall(&line);
        let (r, w) = ("reads", "after the readers");
        log.assert_is([r, r, r, w, r, r, "last"]);
    });
}

/// "RwLock", K9, K2: without the writer, the readers behind him are let in at once, while others
/// still read.
#[test]
fn when_the_writer_gives_up_the_readers_behind_him_are_let_in() {
    type Leave = fn(&Rc<RwLock<()>>);
    within(MINUTE, || {
        let leave: [Leave; 3] = [
            |lock| drop(lock.write()), // killed
            |lock| assert!(lock.write_timeout(LIMIT).is_none()),
            |lock| assert!(with_timeout(LIMIT, || drop(lock.write())).is_err()),
        ];
        for (how, leave) in leave.into_iter().enumerate() {
            let (lock, log, done) = (Rc::new(RwLock::new(())), Log::new(), Event::new());
            let inside = reader(&lock, &done);
            let writer = with(&lock, leave);
            settle();
            let behind = ["one", "two"].map(|line| {
                let reads = with(&(lock.clone(), log.clone()), move |(lock, log)| {
                    let _guard = lock.read();
                    log.say(line);
                });
                settle();
                reads
            });
            if how == 0 {
                log.assert_empty();
                writer.kill();
            } else {
                writer.get().unwrap();
            }
            joinall(&behind);
            log.assert_has_all(["one", "two"]);
            assert!(!inside.is_finished());
            assert!(lock.try_read().is_some());
            done.set();
            inside.join();
            assert!(lock.try_write().is_some());
        }
    });
}

/// "RwLock": only up to the next writer.
#[test]
fn the_next_writer_still_keeps_those_behind_him() {
    within(MINUTE, || {
        let (lock, log, done) = (Rc::new(RwLock::new(())), Log::new(), Event::new());
        let inside = reader(&lock, &done);
        let first = writes(&lock, &log, "never");
        let between = reads(&lock, &log, "between");
        let second = writes(&lock, &log, "second");
        let behind = reads(&lock, &log, "behind");
        first.kill();
        between.get().unwrap();
        settle();
        log.assert_is(["between"]);
        assert!(lock.try_read().is_none());
        done.set();
        joinall([&inside, &second, &behind]);
        log.assert_is(["between", "second", "behind"]);
    });
}

/// "RwLock": a reader behind a writer who is killed changes nothing for the writer.
#[test]
fn a_reader_that_gives_up_lets_nobody_in() {
    within(MINUTE, || {
        let (lock, log, done) = (Rc::new(RwLock::new(())), Log::new(), Event::new());
        let inside = reader(&lock, &done);
        let writer = writes(&lock, &log, "writes");
        let killed = reads(&lock, &log, "never");
        let behind = reads(&lock, &log, "reads");
        killed.kill();
        settle();
        log.assert_empty();
        done.set();
        joinall([&inside, &writer, &behind]);
        log.assert_is(["writes", "reads"]);
    });
}

/// Hand-off: the last reader hands it to the writer, the writer to all readers at the head of the
/// line; nobody comes between.
#[test]
fn an_rwlock_is_handed_over_at_once() {
    within(MINUTE, || {
        let (lock, log) = (Rc::new(RwLock::new(())), Log::new());
        let guards = [lock.read(), lock.read()];
        let writer = writes(&lock, &log, "writes");
        let readers = [reads(&lock, &log, "reads"), reads(&lock, &log, "reads")];
        drop(guards);
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        writer.get().unwrap();
        joinall(&readers);
        log.assert_is(["writes", "reads", "reads"]);
        let guard = lock.write();
        let readers = [reads(&lock, &log, "reads"), reads(&lock, &log, "reads")];
        drop(guard);
        assert!(lock.try_write().is_none(), "the readers are inside");
        assert!(lock.try_read().is_some(), "and nobody waits behind them");
        joinall(&readers);
        assert!(lock.try_write().is_some());
    });
}

/// K9: a reader who is let in and then killed, and the other way round, in one turn.
#[test]
fn a_reader_and_a_kill_in_one_turn() {
    within(MINUTE, || {
        for kill_first in [true, false] {
            let (lock, log) = (Rc::new(RwLock::new(())), Log::new());
            let guard = lock.write();
            let target = parked(&(lock.clone(), log.clone()), |(lock, log)| {
                let _guard = lock.read();
                log.say("received");
                sleep(HOUR);
            });
            let writer = writes(&lock, &log, "writes");
            if kill_first {
                target.kill_nowait();
                drop(guard);
            } else {
                drop(guard);
                target.kill_nowait();
            }
            writer.get().unwrap();
            assert_eq!(end_of(target), End::Killed);
            assert_eq!(log.has("received"), !kill_first);
            assert!(lock.try_write().is_some());
        }
    });
}

/// K2, T1, T8: the wait of a reader ends like any other.
#[test]
fn a_reader_who_waits_can_be_killed_or_run_out_of_time() {
    within(MINUTE, || {
        let (lock, log) = (Rc::new(RwLock::new(())), Log::new());
        let guard = lock.write();
        let start = Instant::now();
        assert!(lock.read_timeout(LIMIT).is_none());
        assert!(start.elapsed() >= LIMIT);
        assert!(lock.read_timeout(Duration::ZERO).is_none());
        let waits: [fn(&RwLock<()>); 2] =
            [|lock| drop(lock.read()), |lock| drop(lock.read_timeout(HOUR))];
        for wait in waits {
            assert_eq!(with_timeout(ms(1), || wait(&lock)), Err(Elapsed));
            let inner = || with_timeout(HOUR, || wait(&lock));
            assert_eq!(with_timeout(ms(1), inner), Err(Elapsed));
            let target = parked(&(lock.clone(), log.clone()), move |(lock, log)| {
                let _unwound = log.at_drop("unwound");
                wait(lock);
                log.say("went on");
            });
            let shown = reason_of(target.id()).unwrap();
            assert!(shown.starts_with("read of the RwLock made at"), "{shown}");
            target.kill();
            assert_eq!(end_of(target), End::Killed);
        }
        log.assert_is(["unwound", "unwound"]);
        drop(guard);
        assert!(lock.try_write().is_some());
    });
}

/// T4, M5: a reader who is let in when his time was over before anybody looked, and one whose time
/// was up before.
#[test]
fn a_reader_let_in_when_his_time_is_up() {
    within(MINUTE, || {
        let lock = Rc::new(RwLock::new(()));
        loop {
            let guard = lock.write();
            let waiter = with(&lock, |lock| lock.read_timeout(LIMIT).is_some());
            settle();
            let in_time = state_of(waiter.id()) == Some("parked");
            spin(LIMIT);
            drop(guard);
            let read = waiter.get().unwrap();
            assert!(lock.try_write().is_some());
            if in_time {
                assert!(read);
                break;
            }
        }
        let log = Log::new();
        let late = too_late(
            &lock,
            |lock| lock.read_timeout(LIMIT).is_some(),
            |lock| writes(lock, &log, "writes"),
        );
        assert!(!late);
        log.assert_is(["writes"]);
        assert!(lock.try_write().is_some());
    });
}

/// "RwLock": strictly first come, first served has its price: who reads already and reads again
/// while a writer waits would wait for himself.
#[test]
fn to_read_twice_is_to_wait_for_oneself_when_a_writer_waits() {
    within(MINUTE, || {
        let (lock, log) = (Rc::new(RwLock::new(())), Log::new());
        let first = lock.read();
        let second = lock.read();
        drop(second);
        let writer = writes(&lock, &log, "writes");
        let report = blocks_forever(|| lock.read());
        assert!(report.contains("read of the RwLock made at"), "{report}");
        drop(first);
        writer.get().unwrap();
        assert!(lock.try_write().is_some());
    });
}

/// Nor is there a way from reading to writing.
#[test]
fn to_read_and_to_write_is_to_wait_for_oneself() {
    within(MINUTE, || {
        let lock = RwLock::new(());
        let guard = lock.read();
        assert!(lock.write_timeout(ms(1)).is_none());
        blocks_forever(|| lock.write());
        assert!(lock.try_read().is_some(), "no writer is in line any more");
        drop(guard);
        let guard = lock.write();
        assert!(lock.read_timeout(ms(1)).is_none());
        blocks_forever(|| lock.read());
        drop(guard);
        assert!(lock.try_write().is_some());
    });
}

/// A reader's place is given back by whoever drops the guard.
#[test]
fn a_read_guard_may_change_hands() {
    within(MINUTE, || {
        let lock = RwLock::new(0);
        scope(|s| {
            let (first, second) = (lock.read(), lock.read());
            let writer = s.spawn(|| *lock.write() += 1);
            s.spawn(move || drop(first)).get().unwrap();
            assert!(!writer.is_finished());
            s.spawn(move || drop(second)).get().unwrap();
            writer.get().unwrap();
        });
        assert_eq!(*lock.try_read().unwrap(), 1);
    });
}

/// K12: a read guard that is never dropped keeps writers out, and readers not.
#[test]
#[expect(clippy::mem_forget, reason = "a guard that is leaked is what this is about")]
fn a_leaked_read_guard() {
    within(MINUTE, || {
        let lock = RwLock::new(());
        std::mem::forget(lock.read());
        drop(lock.read());
        assert!(lock.try_write().is_none());
        assert!(lock.write_timeout(ms(1)).is_none());
        assert!(lock.try_read().is_some());
    });
}

/// K12, "Panics": a reader that is unwound is out, and a writer that is leaves nothing poisoned.
#[test]
fn an_rwlock_is_released_by_unwinding() {
    within(MINUTE, || {
        let lock = leak(RwLock::new(0));
        for unwound in Unwound::ALL {
            unwound.after(|| (lock.read(), lock.read()));
            unwound.after(|| {
                let mut guard = lock.write();
                *guard += 1;
                guard
            });
            assert!(lock.try_write().is_some());
        }
        assert_eq!(*lock.read(), 3);
    });
}

/// No call waits while its greenlet unwinds.
#[test]
fn a_reader_while_unwinding() {
    within(MINUTE, || {
        let lock = Rc::new(RwLock::new(()));
        let guard = lock.write();
        let destructor = lock.clone();
        while_unwinding(move || {
            assert!(destructor.try_read().is_none());
            assert!(destructor.read_timeout(HOUR).is_none());
            let panic = swallow(|| drop(destructor.read())).unwrap_err();
            let panic = message(panic.as_ref());
            assert!(panic.contains("unwind"), "{panic}");
        });
        drop(guard);
        let destructor = lock.clone();
        while_unwinding(move || drop((destructor.read(), destructor.read_timeout(HOUR).unwrap())));
        assert!(lock.try_write().is_some());
    });
}

/// H5: trying to read never switches, and reading over and over lets others run.
#[test]
fn reading_and_the_others() {
    within(MINUTE, || {
        let lock = RwLock::new(());
        never_switches(|| assert!(lock.try_read().is_some()));
        settle();
        let ran = Rc::new(Cell::new(false));
        let other = with(&ran, |ran| ran.set(true));
        let calls = (1..).find(|_| {
            drop(lock.read());
            ran.get()
        });
        assert!(calls <= Some(129), "{calls:?}");
        other.join();
        let guard = lock.write();
        never_switches(|| assert!(lock.try_read().is_none()));
        drop(guard);
    });
}

/// Who is inside.
#[derive(Default)]
struct Inside {
    readers: Cell<usize>,
    writers: Cell<usize>,
    ever: Cell<usize>,
}

impl Inside {
    /// Is inside for a while as one of `kind`, with a guard.
    fn stay(&self, kind: &Cell<usize>, guard: impl Sized, d: Duration) {
        kind.set(kind.get() + 1);
        self.ever.set(self.ever.get() + 1);
        assert!(self.writers.get() == 0 || (self.writers.get(), self.readers.get()) == (1, 0));
        let _leaves = at_drop(|| {
            kind.set(kind.get() - 1);
            drop(guard);
        });
        match d.subsec_micros() % 4 {
            0 => {}
            1 => sleep(d),
            _ => yield_now(),
        }
    }
}

/// K9, M5, "RwLock": as with every lock, for readers and writers together. If ever it is free and
/// somebody waits, or only readers are inside and no writer waits but readers do, something was
/// lost.
#[test]
fn nothing_is_lost_among_readers_and_writers() {
    type Visit = fn(&RwLock<()>, Duration, &Inside);
    const VISITS: [Visit; 6] = [
        |lock, d, inside| inside.stay(&inside.readers, lock.read(), d),
        |lock, d, inside| {
            if let Some(guard) = lock.read_timeout(d) {
                inside.stay(&inside.readers, guard, d);
            }
        },
        |lock, d, inside| {
            _ = with_timeout(d, || inside.stay(&inside.readers, lock.read(), d));
        },
        |lock, d, inside| inside.stay(&inside.writers, lock.write(), d),
        |lock, d, inside| {
            if let Some(guard) = lock.write_timeout(d) {
                inside.stay(&inside.writers, guard, d);
            }
        },
        |lock, d, inside| {
            _ = with_timeout(d, || inside.stay(&inside.writers, lock.write(), d));
        },
    ];
    within(2 * MINUTE, || {
        let mut random = Lcg::new(0x10C5_0002);
        let things = (Rc::new(RwLock::new(())), Rc::new(Inside::default()));
        let (lock, inside) = &things;
        let mut greenlets = Vec::<Greenlet<()>>::new();
        for round in 0..ROUNDS {
            for _ in 0..random.below(4) {
                let (visit, d) = (VISITS[random.below(6) as usize], random.micros_below(100));
                greenlets.push(with(&things, move |(lock, inside)| visit(lock, d, inside)));
            }
            let guard = random.one_in(3).then(|| lock.try_write()).flatten();
            if random.one_in(2) {
                settle();
            }
            spin(random.micros_below(50));
            greenlets.iter().filter(|_| random.one_in(6)).for_each(Greenlet::kill_nowait);
            drop(guard);
            greenlets.iter().filter(|_| random.one_in(6)).for_each(Greenlet::kill_nowait);
            settle();
            greenlets.retain(|greenlet| !greenlet.is_finished());
            let in_line = |what: &str| {
                let waits = |greenlet: &&Greenlet<()>| {
                    reason_of(greenlet.id()).is_some_and(|reason| reason.starts_with(what))
                };
                greenlets.iter().filter(waits).count()
            };
            let at = format!("round {round}, seed {:#x}", random.seed);
            if inside.writers.get() == 0 {
                let (readers, writers) = (in_line("read of"), in_line("write of"));
                assert!(writers > 0 || readers == 0, "{at}");
                assert!(inside.readers.get() > 0 || writers == 0, "{at}");
            }
        }
        joinall(&greenlets);
        assert_eq!((inside.readers.get(), inside.writers.get()), (0, 0));
        assert!(inside.ever.get() > 1000, "seed {:#x}", random.seed);
        assert!(lock.try_write().is_some(), "seed {:#x}", random.seed);
    });
}

// -------------------------------------------------------------------- Debug

/// Looking at one neither waits nor panics, whatever is going on with it.
#[test]
fn all_can_be_shown() {
    within(MINUTE, || {
        let semaphore = Semaphore::new(1);
        let bounded = BoundedSemaphore::new(1);
        let (mutex, rlock, rwlock) = (Mutex::new("m"), RLock::new("r"), RwLock::new("w"));
        let show_all = || {
            let shown = [
                (format!("{semaphore:?}"), "Semaphore"),
                (format!("{bounded:?}"), "BoundedSemaphore"),
                (format!("{mutex:?}"), "Mutex"),
                (format!("{rlock:?}"), "RLock"),
                (format!("{rwlock:?}"), "RwLock"),
                (format!("{TooManyReleases:?}"), "TooManyReleases"),
            ];
            for (text, name) in shown {
                assert!(text.starts_with(name), "{text}");
            }
        };
        never_switches(show_all);
        let value_is_shown = |text: String, value: &str| assert!(text.contains(value), "{text}");
        value_is_shown(format!("{mutex:?}"), "\"m\"");
        value_is_shown(format!("{rwlock:?}"), "\"w\"");
        {
            let permits: [Permit<'_>; 2] = [semaphore.acquire(), bounded.acquire()];
            let (m, r, w) = (mutex.lock(), rlock.lock(), rwlock.write());
            never_switches(show_all);
            assert!(!format!("{permits:?}").is_empty());
            value_is_shown(format!("{m:?}"), "\"m\"");
            value_is_shown(format!("{r:?}"), "\"r\"");
            value_is_shown(format!("{w:?}"), "\"w\"");
            scope(|s| s.spawn(show_all).get().unwrap());
        }
        let w = rwlock.read();
        never_switches(show_all);
        value_is_shown(format!("{w:?}"), "\"w\"");
    });
}
