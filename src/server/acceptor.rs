//! The greenlet that accepts: it waits for room, then for a request, and has it served.

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use super::accept::AcceptErrorKind;
use super::backoff::Backoff;
use super::engine::{Engine, Intake, Phase};
use crate::greenlet;
use crate::hub::{self, Birth};
use crate::timeout::yield_now;

/// So many requests are taken in a row before other greenlets have their turn. (Our own intakes see
/// to that themselves; a listener of the user's may never wait.)
const IN_A_ROW: u32 = 100;

impl<I: Intake> Engine<I> {
    #[track_caller]
    pub(super) fn start(self: &Rc<Self>) {
        if self.phase.get() != Phase::New {
            return;
        }
        let ready = self.handler.borrow().is_some();
        assert!(ready, "the server has no handler: call `handle` before it starts");
        self.phase.set(Phase::Serving);
        self.spawn_acceptor();
    }

    pub(super) fn stop_accepting(&self) {
        self.is_paused.set(true);
        self.dismiss_acceptor();
    }

    #[track_caller]
    pub(super) fn start_accepting(self: &Rc<Self>) {
        if self.is_paused.replace(false) {
            self.spawn_acceptor();
        }
    }

    #[track_caller]
    fn spawn_acceptor(self: &Rc<Self>) {
        let Ok(intake) = self.intake() else { return };
        if !self.is_running() || self.is_paused.get() {
            return;
        }
        let round = self.round.get() + 1;
        self.round.set(round);
        let birth = Birth::here(Some(intake.title().into()));
        let acceptor = Acceptor::new(self, round);
        let greenlet = greenlet::spawn_member(birth, move || acceptor.run(), ());
        self.acceptor.set(greenlet.task());
    }
}

struct Acceptor<I: Intake> {
    engine: Rc<Engine<I>>,
    round: u64,
}

impl<I: Intake> Acceptor<I> {
    fn new(engine: &Rc<Engine<I>>, round: u64) -> Acceptor<I> {
        engine.acceptors.set(engine.acceptors.get() + 1);
        Acceptor { engine: Rc::clone(engine), round }
    }

    /// An acceptor ends by a kill, as a rule, or by a panic of the user's listener. That is caught
    /// here, because `release`, which may be called when the acceptor is dropped, must not run while
    /// the greenlet unwinds. (To wake it in another way than by a kill would not do: it may wait in a
    /// listener of the user's, and for anything.)
    fn run(self) {
        let result = hub::run_body(|| self.accept_all());
        hub::quietly("panicked in the destructor of a panic", move || drop(result));
    }

    fn accept_all(&self) {
        let (engine, mut backoff, mut in_a_row) = (&self.engine, Backoff::new(), 0);
        let Ok(intake) = engine.intake() else { return };
        self.wait_for_predecessors();
        while engine.is_current(self.round) {
            engine.wait_for_room();
            let (error, kind) = match intake.next() {
                // Meanwhile it was dismissed, and `stop` has served others from the backlog.
                Ok(_) if !engine.is_current(self.round) && !engine.is_below_bound() => return,
                Ok(request) => match engine.serve(&intake, request) {
                    Ok(()) => {
                        backoff.reset();
                        in_a_row += 1;
                        if in_a_row % IN_A_ROW == 0 {
                            yield_now();
                        }
                        continue;
                    }
                    Err(error) => (error, AcceptErrorKind::Resources),
                },
                Err(error) => {
                    let kind = intake.error_kind(&error);
                    (error, kind)
                }
            };
            if !engine.is_current(self.round) {
                return; // it may be an error because of that
            }
            engine.active.count_error();
            match kind {
                AcceptErrorKind::Connection if backoff.has_chance() => yield_now(),
                AcceptErrorKind::Connection | AcceptErrorKind::Resources => {
                    self.pause(&mut backoff, &error);
                }
                AcceptErrorKind::Listener => engine.fail(&error),
            }
        }
    }

    /// An acceptor that has been dismissed may still serve one request. If two accepted at the same
    /// time, they could exceed the bound by one.
    fn wait_for_predecessors(&self) {
        let engine = &self.engine;
        while engine.acceptors.get() > 1 && engine.is_current(self.round) {
            if let Err(interruption) = engine.active.endings.wait(engine.reason(&"accept"), None) {
                hub::raise(interruption);
                return;
            }
        }
    }

    /// Waits a little, or until a handler has ended: what it had may be what was missing.
    fn pause(&self, backoff: &mut Backoff, error: &io::Error) {
        if backoff.is_news(Instant::now()) {
            self.engine.report("cannot accept connections, and will keep trying", error);
        }
        let deadline = hub::after(backoff.pause());
        let reason = self.engine.reason(&"accept again");
        if let Err(interruption) = self.engine.active.room.wait(reason, Some(deadline)) {
            hub::raise(interruption);
        }
    }
}

impl<I: Intake> Drop for Acceptor<I> {
    fn drop(&mut self) {
        let engine = &self.engine;
        engine.acceptors.set(engine.acceptors.get() - 1);
        if engine.is_current(self.round) {
            // The listener has panicked, or the thread ends: no other acceptor will come.
            engine.close();
        }
        // An acceptor that has not begun to run is dropped in the call that dismisses it. If that
        // call unwinds, it is because of a stop, and the greenlet of the stop calls `release`.
        if !thread::panicking() {
            engine.release();
        }
        engine.active.endings.wake_all();
    }
}
