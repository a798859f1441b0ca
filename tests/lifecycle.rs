//! The life of a greenlet as a matrix: every verb in every state, one test a cell.
//!
//! A cell is the transcript of what happens. Words of the greenlet: *began*, *resumed* (it was
//! ready and has had its turn), *woke* (its sleep is over), *dropped* (what its closure held is
//! gone); then how it ended, as a link sees it: *value*, *killed*, *panicked*. All others are words
//! of whoever applies the verb; *returned* means that the call did.

mod util;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenloom::{Elapsed, Greenlet, JoinError, sleep, spawn, spawn_later, with_timeout};
use util::{
    HOUR, Log, MINUTE, blocks_forever, ms, reports, settle, stuck, until, until_parked, within,
};

/// Where a greenlet stands when the verb is applied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Spawned, not yet run.
    Unstarted,
    /// Spawned to start later, and the time has not come.
    Later,
    /// It runs as soon as it has its turn.
    Ready,
    /// In a sleep.
    Parked,
    /// It applies the verb to itself.
    Running,
    Finished,
    Panicked,
    Killed,
}

/// How long it sleeps before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nap {
    /// Till a moment after the verb.
    Short,
    /// Longer than the test.
    Long,
}
use Nap::{Long, Short};

/// A greenlet, as each cell has one.
#[derive(Clone)]
struct Subject {
    state: State,
    nap: Nap,
    /// What it shall do to itself in the state `Running`.
    verb: fn(Greenlet<u32>, &Log),
    /// Its own handle, for that.
    myself: Rc<RefCell<Option<Greenlet<u32>>>>,
    /// The verb is about to be applied. Until then one that shall be ready keeps itself so, and one
    /// that shall be parked goes back to sleep.
    now: Rc<Cell<bool>>,
    /// The verb has been applied, and its call has returned.
    applied: Rc<Cell<bool>>,
    log: Log,
}

impl Subject {
    /// Applies `verb` in `state` and returns the transcript.
    fn put_to(state: State, nap: Nap, verb: fn(Greenlet<u32>, &Log)) -> Log {
        let log = Log::new();
        let subject = Subject {
            state,
            nap,
            verb,
            myself: Rc::default(),
            now: Rc::default(),
            applied: Rc::default(),
            log: log.clone(),
        };
        let greenlet = subject.clone().spawn();
        greenlet.link(log.outcome());
        subject.bring(greenlet);
        if subject.nap == Short {
            until(|| subject.has_ended());
        }
        settle();
        log
    }

    fn spawn(self) -> Greenlet<u32> {
        let guard = self.log.at_drop("dropped");
        let (state, nap) = (self.state, self.nap);
        let live = move || {
            let _guard = guard;
            self.live()
        };
        match (state, nap) {
            (State::Later, Short) => spawn_later(ms(1), live),
            (State::Later, Long) => spawn_later(HOUR, live),
            _ => spawn(live),
        }
    }

    /// What it does, given the time.
    fn live(self) -> u32 {
        self.log.say("began");
        match self.state {
            State::Ready => {
                until(|| self.now.get());
                self.log.say("resumed");
            }
            State::Running => {
                let myself = self.myself.take().expect("the spawner runs on");
                self.apply(myself);
            }
            State::Finished => return 7,
            State::Panicked => panic!("boom"),
            _ => {}
        }
        self.nap();
        self.log.say("woke");
        7
    }

    fn nap(&self) {
        match self.nap {
            Long => sleep(HOUR),
            Short => loop {
                sleep(ms(1));
                if self.now.get() {
                    break;
                }
            },
        }
    }

    fn apply(&self, greenlet: Greenlet<u32>) {
        self.now.set(true);
        (self.verb)(greenlet, &self.log);
        self.applied.set(true);
    }

    /// Brings `greenlet` into the state in question and applies the verb there.
    fn bring(&self, greenlet: Greenlet<u32>) {
        match self.state {
            State::Unstarted | State::Later => {}
            State::Ready => until(|| self.log.has("began")),
            State::Parked => until_parked(greenlet.id()),
            State::Running => {
                *self.myself.borrow_mut() = Some(greenlet);
                until(|| self.applied.get() || self.has_ended());
                return;
            }
            State::Finished => greenlet.join(),
            State::Panicked => {
                greenlet.join();
                assert_eq!(reports().len(), 1);
            }
            State::Killed => {
                until_parked(greenlet.id());
                greenlet.kill();
            }
        }
        self.apply(greenlet);
    }

    fn has_ended(&self) -> bool {
        ["value", "killed", "panicked"].iter().any(|end| self.log.has(end))
    }
}

/// `lifecycle! { verb(nap): state: "transcript", .. }` makes a module `verb` with a test per state.
macro_rules! lifecycle {
    ($($verb:ident($nap:expr) {
        $($(#[$only:meta])* $test:ident $state:ident: $transcript:literal,)+
    })+) => {$(
        mod $verb {
            use super::*;
            $(
                $(#[$only])*
                #[test]
                fn $test() {
                    within(MINUTE, || {
                        let log = Subject::put_to(State::$state, $nap, super::verbs::$verb);
                        assert_eq!(log.lines().join(", "), $transcript);
                    });
                }
            )+
        }
    )+};
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let log = Subject::put_to(State::Parked, Short, verbs::join);
        log.assert_is(["began", "woke", "dropped", "value", "returned"]);
    });
}

// One that dies before its first turn has nothing to unwind: its links run later, though, so
// whether before or after a `kill` that has nothing to wait for is a question of turns. With
// `hard_switch` such a call yields.
lifecycle! {
    kill(Long) {
        #[cfg(not(hard_switch))] unstarted Unstarted: "dropped, returned, killed",
        #[cfg(not(hard_switch))] later Later: "dropped, returned, killed",
        ready     Ready:     "began, resumed, dropped, killed, returned",
        parked    Parked:    "began, dropped, killed, returned",
        running   Running:   "began, dropped, killed",
        finished  Finished:  "began, dropped, value, returned",
        panicked  Panicked:  "began, dropped, panicked, returned",
        killed    Killed:    "began, dropped, killed, returned",
    }
    kill_nowait(Long) {
        unstarted Unstarted: "dropped, returned, killed",
        later     Later:     "dropped, returned, killed",
        ready     Ready:     "began, returned, resumed, dropped, killed",
        parked    Parked:    "began, returned, dropped, killed",
        running   Running:   "began, returned, dropped, killed",
        finished  Finished:  "began, dropped, value, returned",
        panicked  Panicked:  "began, dropped, panicked, returned",
        killed    Killed:    "began, dropped, killed, returned",
    }
    kill_timeout(Long) {
        #[cfg(not(hard_switch))] unstarted Unstarted: "dropped, true, killed",
        #[cfg(not(hard_switch))] later Later: "dropped, true, killed",
        ready     Ready:     "began, resumed, dropped, killed, true",
        parked    Parked:    "began, dropped, killed, true",
        running   Running:   "began, dropped, killed",
        finished  Finished:  "began, dropped, value, true",
        panicked  Panicked:  "began, dropped, panicked, true",
        killed    Killed:    "began, dropped, killed, true",
    }
    // On itself: see `join_on_itself`.
    join(Short) {
        unstarted Unstarted: "began, woke, dropped, value, returned",
        later     Later:     "began, woke, dropped, value, returned",
        ready     Ready:     "began, resumed, woke, dropped, value, returned",
        parked    Parked:    "began, woke, dropped, value, returned",
        finished  Finished:  "began, dropped, value, returned",
        panicked  Panicked:  "began, dropped, panicked, returned",
        killed    Killed:    "began, dropped, killed, returned",
    }
    join_timeout(Short) {
        unstarted Unstarted: "began, woke, dropped, value, true",
        later     Later:     "began, woke, dropped, value, true",
        ready     Ready:     "began, resumed, woke, dropped, value, true",
        parked    Parked:    "began, woke, dropped, value, true",
        finished  Finished:  "began, dropped, value, true",
        panicked  Panicked:  "began, dropped, panicked, true",
        killed    Killed:    "began, dropped, killed, true",
    }
    join_timeout_too_short(Long) {
        unstarted Unstarted: "began, false",
        later     Later:     "false",
        ready     Ready:     "began, resumed, false",
        parked    Parked:    "began, false",
        running   Running:   "began, false",
        finished  Finished:  "began, dropped, value, true",
        panicked  Panicked:  "began, dropped, panicked, true",
        killed    Killed:    "began, dropped, killed, true",
    }
    // On itself: see `get_on_itself`.
    get(Short) {
        unstarted Unstarted: "began, woke, dropped, value, got 7",
        later     Later:     "began, woke, dropped, value, got 7",
        ready     Ready:     "began, resumed, woke, dropped, value, got 7",
        parked    Parked:    "began, woke, dropped, value, got 7",
        finished  Finished:  "began, dropped, value, got 7",
        panicked  Panicked:  "began, dropped, panicked, got boom",
        killed    Killed:    "began, dropped, killed, got nothing",
    }
    try_get(Long) {
        unstarted Unstarted: "not yet, began",
        later     Later:     "not yet",
        ready     Ready:     "began, not yet, resumed",
        parked    Parked:    "began, not yet",
        running   Running:   "began, not yet",
        finished  Finished:  "began, dropped, value, got 7",
        panicked  Panicked:  "began, dropped, panicked, got boom",
        killed    Killed:    "began, dropped, killed, got nothing",
    }
    link(Short) {
        unstarted Unstarted: "returned, began, woke, dropped, value, linked: value",
        later     Later:     "returned, began, woke, dropped, value, linked: value",
        ready     Ready:     "began, returned, resumed, woke, dropped, value, linked: value",
        parked    Parked:    "began, returned, woke, dropped, value, linked: value",
        running   Running:   "began, returned, woke, dropped, value, linked: value",
        finished  Finished:  "began, dropped, value, returned, linked: value",
        panicked  Panicked:  "began, dropped, panicked, returned, linked: panicked",
        killed    Killed:    "began, dropped, killed, returned, linked: killed",
    }
    unlink(Short) {
        unstarted Unstarted: "true, false, began, woke, dropped, value",
        later     Later:     "true, false, began, woke, dropped, value",
        ready     Ready:     "began, true, false, resumed, woke, dropped, value",
        parked    Parked:    "began, true, false, woke, dropped, value",
        running   Running:   "began, true, false, woke, dropped, value",
        finished  Finished:  "began, dropped, value, true, false",
        panicked  Panicked:  "began, dropped, panicked, true, false",
        killed    Killed:    "began, dropped, killed, true, false",
    }
    is_started(Long) {
        unstarted Unstarted: "false, began",
        later     Later:     "false",
        ready     Ready:     "began, true, resumed",
        parked    Parked:    "began, true",
        running   Running:   "began, true",
        finished  Finished:  "began, dropped, value, true",
        panicked  Panicked:  "began, dropped, panicked, true",
        killed    Killed:    "began, dropped, killed, true",
    }
    is_finished(Long) {
        unstarted Unstarted: "false, began",
        later     Later:     "false",
        ready     Ready:     "began, false, resumed",
        parked    Parked:    "began, false",
        running   Running:   "began, false",
        finished  Finished:  "began, dropped, value, true",
        panicked  Panicked:  "began, dropped, panicked, true",
        killed    Killed:    "began, dropped, killed, true",
    }
    is_successful(Long) {
        unstarted Unstarted: "false, began",
        later     Later:     "false",
        ready     Ready:     "began, false, resumed",
        parked    Parked:    "began, false",
        running   Running:   "began, false",
        finished  Finished:  "began, dropped, value, true",
        panicked  Panicked:  "began, dropped, panicked, false",
        killed    Killed:    "began, dropped, killed, false",
    }
}

/// The verbs of the table.
mod verbs {
    use super::*;

    pub(crate) fn kill(greenlet: Greenlet<u32>, log: &Log) {
        greenlet.kill();
        log.say("returned");
    }

    pub(crate) fn kill_nowait(greenlet: Greenlet<u32>, log: &Log) {
        greenlet.kill_nowait();
        log.say("returned");
    }

    pub(crate) fn kill_timeout(greenlet: Greenlet<u32>, log: &Log) {
        log.say(greenlet.kill_timeout(MINUTE));
    }

    pub(crate) fn join(greenlet: Greenlet<u32>, log: &Log) {
        greenlet.join();
        log.say("returned");
    }

    pub(crate) fn join_timeout(greenlet: Greenlet<u32>, log: &Log) {
        log.say(greenlet.join_timeout(MINUTE));
    }

    pub(crate) fn join_timeout_too_short(greenlet: Greenlet<u32>, log: &Log) {
        log.say(greenlet.join_timeout(ms(1)));
    }

    pub(crate) fn get(greenlet: Greenlet<u32>, log: &Log) {
        say_result(greenlet.get(), log);
    }

    pub(crate) fn try_get(greenlet: Greenlet<u32>, log: &Log) {
        match greenlet.try_get() {
            Ok(result) => say_result(result, log),
            Err(_the_handle) => log.say("not yet"),
        }
    }

    fn say_result(result: Result<u32, JoinError>, log: &Log) {
        match result {
            Ok(value) => log.say(format!("got {value}")),
            Err(JoinError::Killed) => log.say("got nothing"),
            Err(panic) => log.say(format!("got {}", util::message(panic.into_panic().as_ref()))),
        }
    }

    pub(crate) fn link(greenlet: Greenlet<u32>, log: &Log) {
        let linked = log.clone();
        greenlet.link(move |outcome| linked.say(format!("linked: {}", util::word(&outcome))));
        log.say("returned");
    }

    pub(crate) fn unlink(greenlet: Greenlet<u32>, log: &Log) {
        let never = log.clone();
        let link = greenlet.link(move |_| never.say("the link ran"));
        log.say(greenlet.unlink(link));
        log.say(greenlet.unlink(link));
    }

    pub(crate) fn is_started(greenlet: Greenlet<u32>, log: &Log) {
        log.say(greenlet.is_started());
    }

    pub(crate) fn is_finished(greenlet: Greenlet<u32>, log: &Log) {
        log.say(greenlet.is_finished());
    }

    pub(crate) fn is_successful(greenlet: Greenlet<u32>, log: &Log) {
        log.say(greenlet.is_successful());
    }
}

// ------------------------------------------------- the cells that need more room

/// It waits for itself; when everybody waits, that is the end.
#[test]
fn join_on_itself() {
    within(MINUTE, || {
        let stuck = stuck();
        let report = blocks_forever(|| stuck.join());
        assert!(report.contains(&stuck.name()), "{report}");
        stuck.kill();
        assert!(stuck.is_finished());
    });
}

#[test]
fn get_on_itself() {
    within(MINUTE, || {
        let myself = Rc::new(RefCell::new(None::<Greenlet<&str>>));
        let log = Log::new();
        let greenlet = spawn({
            let (myself, log) = (myself.clone(), log.clone());
            move || {
                let me = myself.take().expect("the spawner runs on");
                let mine = with_timeout(ms(1), || me.get());
                log.say(matches!(mine, Err(Elapsed)));
                "not mine to take"
            }
        });
        greenlet.link(log.outcome());
        *myself.borrow_mut() = Some(greenlet);
        until(|| log.len() == 2);
        log.assert_is(["true", "value"]);
    });
}

/// Killed before its time, one that never began has not started, has finished, and has no value.
#[test]
fn a_life_that_never_began() {
    within(MINUTE, || {
        for greenlet in [spawn(|| 7), spawn_later(HOUR, || 7)] {
            greenlet.kill_nowait();
            assert!(!greenlet.is_started());
            assert!(greenlet.is_finished());
            assert!(!greenlet.is_successful());
            settle();
            assert!(!greenlet.is_started());
            assert!(greenlet.get().unwrap_err().is_killed());
        }
    });
}
