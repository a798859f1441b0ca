//! The greenlet at the door: it waits for room, then for a visitor, and lets him in.

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use super::accept::AcceptErrorKind;
use super::backoff::Backoff;
use super::engine::{Door, Engine};
use crate::hub;
use crate::timeout::yield_now;

/// So many are let in before others have their turn. (Doors of ours see to that themselves; one of
/// the user's may never wait.)
const IN_A_ROW: u32 = 100;

pub(super) struct Porter<D: Door> {
    engine: Rc<Engine<D>>,
    round: u64,
    /// `None` at the very end: the door must have been let go before anybody hears of that.
    door: Option<Rc<D>>,
}

impl<D: Door> Porter<D> {
    pub(super) fn new(engine: &Rc<Engine<D>>, round: u64, door: Rc<D>) -> Porter<D> {
        engine.porters.set(engine.porters.get() + 1);
        Porter { engine: Rc::clone(engine), round, door: Some(door) }
    }

    pub(super) fn run(self) {
        let (engine, mut backoff, mut in_a_row) = (&self.engine, Backoff::new(), 0);
        let Some(door) = &self.door else { return };
        while engine.is_at_door(self.round) {
            engine.wait_for_room();
            let (error, kind) = match door.next() {
                Ok(visitor) => match engine.let_in(door, visitor) {
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
                AcceptErrorKind::Connection => yield_now(),
                AcceptErrorKind::Resources => self.pause(&mut backoff, &error),
                AcceptErrorKind::Listener => {
                    engine.fail("cannot accept connections any more", &error);
                }
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
        drop(self.door.take());
        engine.porters.set(engine.porters.get() - 1);
        if hub::has_ended() {
            engine.close_door(); // nobody will open it again
        } else if engine.is_at_door(self.round) && thread::panicking() {
            engine
                .fail("cannot accept connections any more", &"the greenlet at the door has ended");
        } else {
            engine.forget_handler();
        }
        engine.guests.goings.wake_all();
    }
}
