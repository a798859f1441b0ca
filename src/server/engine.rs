//! What all servers have in common: a door, a handler, a bound, and a life.
//!
//! ```text
//!   New --start--> Serving --stop, or the door is broken--> Closed
//!    '------------------stop------------------------------->'
//! ```
//!
//! While it serves, one greenlet stands at the door, the *porter* (in `porter`); who is let in is a
//! *guest*, served in a greenlet of his own. A porter can be sent away and another come in his
//! place: `stop_accepting` and `start_accepting`. That is why he has a number.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

use super::accept::AcceptErrorKind;
use super::guests::{Guests, let_go};
use crate::error::caught;
use crate::greenlet;
use crate::hub::{self, Birth, Reason, TaskId};
use crate::pool::Pool;
use crate::sync::Event;
use crate::trace;

/// Where visitors come from.
pub(super) trait Door: 'static {
    /// Who comes, with all that the handler is to have.
    type Visitor: 'static;

    /// Waits for the next.
    fn next(&self) -> io::Result<Self::Visitor>;

    /// The next, if he has come already. It does not wait.
    fn next_at_once(&self) -> io::Result<Self::Visitor>;

    fn error_kind(&self, error: &io::Error) -> AcceptErrorKind;

    /// What his greenlet is called.
    fn name_of(&self, visitor: &Self::Visitor) -> String;

    /// What the server is called.
    fn title(&self) -> String;
}

type Handler<V> = Rc<dyn Fn(V)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    Serving,
    Closed,
}

pub(super) struct Engine<D: Door> {
    pub(super) phase: Cell<Phase>,
    pub(super) is_paused: Cell<bool>,
    door: RefCell<Option<Rc<D>>>,
    pub(super) handler: RefCell<Option<Handler<D::Visitor>>>,
    pool: RefCell<Option<Pool>>,
    most: Cell<usize>,
    /// How many at most stand at the door who have not been let in.
    pub(super) backlog: Cell<usize>,
    pub(super) guests: Rc<Guests>,
    /// The porter, and his number. One who has been sent away may not have gone yet.
    pub(super) porter: Cell<TaskId>,
    pub(super) round: Cell<u64>,
    pub(super) porters: Cell<usize>,
    /// When those inside are killed.
    pub(super) deadline: Cell<Option<Instant>>,
    pub(super) is_being_stopped: Cell<bool>,
    /// Who drops the door and the handler, while he does.
    pub(super) locks_up: Cell<Option<TaskId>>,
    /// Somebody had to be killed.
    pub(super) forced: Cell<bool>,
    /// It serves no more: for `serve_forever`.
    pub(super) served: Event,
    /// It has been stopped, and nobody is inside.
    pub(super) stopped: Event,
    /// Where the handler was given.
    site: Cell<&'static Location<'static>>,
}

impl<D: Door> Engine<D> {
    #[track_caller]
    pub(super) fn new(door: D) -> Rc<Engine<D>> {
        Rc::new(Engine {
            phase: Cell::new(Phase::New),
            is_paused: Cell::new(false),
            door: RefCell::new(Some(Rc::new(door))),
            handler: RefCell::new(None),
            pool: RefCell::new(None),
            most: Cell::new(usize::MAX),
            backlog: Cell::new(1024), // what `TcpListener::bind` asks for
            guests: Rc::default(),
            porter: Cell::new(TaskId::NOBODY),
            round: Cell::new(0),
            porters: Cell::new(0),
            deadline: Cell::new(None),
            is_being_stopped: Cell::new(false),
            locks_up: Cell::new(None),
            forced: Cell::new(false),
            served: Event::new(),
            stopped: Event::new(),
            site: Cell::new(Location::caller()),
        })
    }

    // ── what it is told ──

    #[track_caller]
    pub(super) fn set_handler(&self, handler: impl Fn(D::Visitor) + 'static) {
        if self.phase.get() != Phase::Closed {
            self.site.set(Location::caller());
            let before = self.handler.replace(Some(Rc::new(handler)));
            drop(before);
        }
    }

    pub(super) fn set_pool(&self, pool: &Pool) {
        let before = self.pool.replace(Some(pool.clone()));
        drop(before);
    }

    #[track_caller]
    pub(super) fn set_most(&self, most: usize) {
        assert!(most > 0, "a server that lets nobody in could never serve anybody");
        self.most.set(most);
        self.guests.room.wake_all();
    }

    // ── what it says ──

    pub(super) fn is_running(&self) -> bool {
        self.phase.get() == Phase::Serving
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    pub(super) fn door(&self) -> io::Result<Rc<D>> {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the server has been stopped");
        let door = self.door.borrow().clone();
        door.filter(|_| self.phase.get() != Phase::Closed).ok_or_else(closed)
    }

    fn title(&self) -> String {
        self.door().map_or_else(|_| "server".to_owned(), |door| door.title())
    }

    pub(super) fn reason(&self, verb: &'static &'static str) -> Reason {
        Reason::new(verb).made_at(self.site.get())
    }

    pub(super) fn report(&self, what: &str, error: &dyn fmt::Display) {
        let title = self.title();
        caught(|| trace::server_trouble(&title, what, error));
    }

    /// For `Debug`.
    pub(super) fn describe(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(kind)
            .field("phase", &self.phase.get())
            .field("stats", &self.guests.stats())
            .finish_non_exhaustive()
    }

    // ── letting in ──

    /// Nobody is let in by him any more, but for one who stands before him already.
    pub(super) fn dismiss_porter(&self) {
        self.round.set(self.round.get() + 1);
        hub::kill(self.porter.replace(TaskId::NOBODY));
    }

    /// Is that still the number of the porter?
    pub(super) fn is_at_door(&self, round: u64) -> bool {
        self.round.get() == round
    }

    /// Waits until there is room for one more.
    #[track_caller]
    pub(super) fn wait_for_room(&self) {
        loop {
            while !self.is_below_bound() {
                if let Err(interruption) =
                    self.guests.room.wait(self.reason(&"room in the server"), None)
                {
                    hub::raise(interruption);
                    return;
                }
            }
            let pool = self.pool.borrow().clone();
            match pool {
                Some(pool) if pool.is_full() => pool.wait_available(),
                _ => return,
            }
        }
    }

    /// Is there room for one more, without a wait?
    pub(super) fn has_room(&self) -> bool {
        let pool_has = self.pool.borrow().as_ref().is_none_or(|pool| !pool.is_full());
        pool_has && self.is_below_bound()
    }

    pub(super) fn is_below_bound(&self) -> bool {
        self.guests.active() < self.most.get()
    }

    /// Gives him a greenlet. It never waits: if others have taken the last slot of the pool, he is
    /// queued for the next.
    ///
    /// # Errors
    ///
    /// If there is no stack to be had, or the pool has been closed. He is dropped.
    pub(super) fn let_in(&self, door: &D, visitor: D::Visitor) -> io::Result<()> {
        let Some(handler) = self.handler.borrow().clone() else { return Ok(()) };
        let pool = self.pool.borrow().clone();
        let name = door.name_of(&visitor);
        let birth = Birth { site: self.site.get(), ..Birth::here(Some(name.into())) };
        let stay = self.guests.enter();
        let (guests, key) = (Rc::clone(&self.guests), stay.key);
        let body = move || guests.attend(key, handler, visitor);
        let spawned = match pool {
            None => greenlet::try_spawn_member(birth, body, ()),
            Some(pool) => pool.try_queue(birth, body),
        };
        match spawned {
            Ok(greenlet) => {
                stay.began(greenlet.task());
                greenlet.attach(stay);
                Ok(())
            }
            Err(error) => {
                stay.never_began();
                Err(error)
            }
        }
    }

    // ── closing ──

    /// The door is broken, says the porter. Who reads no log should hear of that, too: the server
    /// ends, and nobody has told it to.
    pub(super) fn fail(&self, error: &io::Error) {
        hub::report_current("cannot accept connections any more", error.to_string());
        self.close_door();
    }

    /// From now on nobody is let in. When the porter has gone, [`lock_up`](Engine::lock_up) is due.
    pub(super) fn close_door(&self) {
        self.phase.set(Phase::Closed);
        self.dismiss_porter();
    }

    /// If nobody will be let in any more: drops the door, so that whoever comes is refused, and the
    /// handler, which is of no use then and may own a handle to the server. (A porter who has been
    /// killed may still find that one stands before him.)
    ///
    /// Not to be called while the caller unwinds: destructors of the user's run here. They may wait,
    /// and what waits for the end waits for them as for a porter.
    pub(super) fn lock_up(&self) {
        if self.phase.get() != Phase::Closed || self.porters.get() > 0 {
            return;
        }
        self.porters.set(1);
        self.locks_up.set(Some(hub::current_task()));
        let door = self.door.take();
        let_go("panicked in the destructor of a listener", door);
        let handler = self.handler.take();
        let_go("panicked in the destructor of a handler", handler);
        self.locks_up.set(None);
        self.porters.set(0);
        if !self.is_being_stopped.get() {
            self.served.set(); // the door was broken
        }
        self.guests.goings.wake_all();
    }
}
