//! The greenlet at the door: it waits for room, then for a visitor, and lets him in.

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use super::accept::AcceptErrorKind;
use super::backoff::Backoff;
use super::engine::{Door, Engine, Phase};
use crate::greenlet;
use crate::hub::{self, Birth};
use crate::timeout::yield_now;

/// So many are let in before others have their turn. (Doors of ours see to that themselves; one of
/// the user's may never wait.)
const IN_A_ROW: u32 = 100;

impl<D: Door> Engine<D> {
    #[track_caller]
    pub(super) fn start(self: &Rc<Self>) {
        if self.phase.get() != Phase::New {
            return;
        }
        let ready = self.handler.borrow().is_some();
        assert!(ready, "the server has no handler: call `handle` before it starts");
        self.phase.set(Phase::Serving);
        self.send_porter();
    }

    pub(super) fn stop_accepting(&self) {
        self.is_paused.set(true);
        self.dismiss_porter();
    }

    #[track_caller]
    pub(super) fn start_accepting(self: &Rc<Self>) {
        if self.is_paused.replace(false) {
            self.send_porter();
        }
    }

    #[track_caller]
    fn send_porter(self: &Rc<Self>) {
        let Ok(door) = self.door() else { return };
        if !self.is_running() || self.is_paused.get() {
            return;
        }
        let round = self.round.get() + 1;
        self.round.set(round);
        let birth = Birth::here(Some(door.title().into()));
        let porter = Porter::new(self, round);
        let greenlet = greenlet::spawn_member(birth, move || porter.run(), ());
        self.porter.set(greenlet.task());
    }
}

struct Porter<D: Door> {
    engine: Rc<Engine<D>>,
    round: u64,
}

impl<D: Door> Porter<D> {
    fn new(engine: &Rc<Engine<D>>, round: u64) -> Porter<D> {
        engine.porters.set(engine.porters.get() + 1);
        Porter { engine: Rc::clone(engine), round }
    }

    /// A porter ends by a kill, as a rule, or by a panic of the user's listener. It is caught here:
    /// who locks up after him must not unwind. (To wake him in another way would not do: he may
    /// wait in a listener of the user's, and for anything.)
    fn run(self) {
        let result = hub::run_body(|| self.stand_at_door());
        hub::quietly("panicked in the destructor of a panic", move || drop(result));
    }

    fn stand_at_door(&self) {
        let (engine, mut backoff, mut in_a_row) = (&self.engine, Backoff::new(), 0);
        let Ok(door) = engine.door() else { return };
        self.wait_for_others_to_leave();
        while engine.is_at_door(self.round) {
            engine.wait_for_room();
            let (error, kind) = match door.next() {
                // Meanwhile he was sent away, and others were let in for the last time.
                Ok(_) if !engine.is_at_door(self.round) && !engine.is_below_bound() => return,
                Ok(visitor) => match engine.let_in(&door, visitor) {
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
                    let kind = door.error_kind(&error);
                    (error, kind)
                }
            };
            if !engine.is_at_door(self.round) {
                return; // it may be an error because of that
            }
            engine.guests.count_error();
            match kind {
                AcceptErrorKind::Connection if backoff.has_chance() => yield_now(),
                AcceptErrorKind::Connection | AcceptErrorKind::Resources => {
                    self.pause(&mut backoff, &error);
                }
                AcceptErrorKind::Listener => engine.fail(&error),
            }
        }
    }

    /// One who has been sent away may still let one in: two at the door could let in one too many.
    fn wait_for_others_to_leave(&self) {
        let engine = &self.engine;
        while engine.porters.get() > 1 && engine.is_at_door(self.round) {
            if let Err(interruption) = engine.guests.goings.wait(engine.reason(&"accept"), None) {
                hub::raise(interruption);
                return;
            }
        }
    }

    /// Waits a little, or until a guest has gone: what he had may be what was missing.
    fn pause(&self, backoff: &mut Backoff, error: &io::Error) {
        if backoff.is_news(Instant::now()) {
            self.engine.report("cannot accept connections, and will keep trying", error);
        }
        let deadline = hub::after(backoff.pause());
        let reason = self.engine.reason(&"accept again");
        if let Err(interruption) = self.engine.guests.room.wait(reason, Some(deadline)) {
            hub::raise(interruption);
        }
    }
}

impl<D: Door> Drop for Porter<D> {
    fn drop(&mut self) {
        let engine = &self.engine;
        engine.porters.set(engine.porters.get() - 1);
        if engine.is_at_door(self.round) {
            // The listener has panicked, or the thread ends: nobody else will stand there.
            engine.close_door();
        }
        // One who has not begun goes where he is dismissed. If that unwinds, it is for a stop, which
        // goes on elsewhere.
        if !thread::panicking() {
            engine.lock_up();
        }
        engine.guests.goings.wake_all();
    }
}
