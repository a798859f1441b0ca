//! What all servers have in common: an intake, a handler, a bound, and a life.
//!
//! ```text
//!   New --start--> Serving --stop, or the intake is broken--> Closed
//!   '--------------------------stop------------------------->'
//! ```
//!
//! A *request* is what a handler is called for: a connection, or a datagram. While the server runs,
//! one greenlet takes requests from the intake, the *acceptor* (in `acceptor`); each is served in a
//! greenlet of its own, and has an entry in `active`. `stop_accepting` dismisses the acceptor, and
//! `start_accepting` makes another before the first may have ended. So acceptors are told apart by
//! the number of their round.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

use super::accept::AcceptErrorKind;
use super::active::{Active, let_go};
use crate::error::caught;
use crate::greenlet;
use crate::hub::{self, Birth, Reason, TaskId};
use crate::pool::Pool;
use crate::sync::Event;
use crate::trace;

/// Where requests come from.
pub(super) trait Intake: 'static {
    /// A connection or a datagram, with all that the handler is to have.
    type Request: 'static;
    type Address: Clone + 'static;

    /// Waits for the next.
    fn next(&self) -> io::Result<Self::Request>;

    /// The next, if it has come already; else `WouldBlock`. It does not wait.
    fn next_at_once(&self) -> io::Result<Self::Request>;

    fn error_kind(&self, error: &io::Error) -> AcceptErrorKind;

    /// What the greenlet that serves it is called.
    fn name_of(&self, request: &Self::Request) -> String;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<Self::Address>;

    /// What the server is called.
    fn title(&self) -> String;
}

type Handler<R> = Rc<dyn Fn(R)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    Serving,
    Closed,
}

pub(super) struct Engine<I: Intake> {
    pub(super) phase: Cell<Phase>,
    pub(super) is_paused: Cell<bool>,
    intake: RefCell<Option<Rc<I>>>,
    /// Where the intake listened, when it has been released.
    last_address: RefCell<Option<Rc<I::Address>>>,
    pub(super) handler: RefCell<Option<Handler<I::Request>>>,
    pool: RefCell<Option<Pool>>,
    most: Cell<usize>,
    /// How many requests at most have come and have not been accepted.
    pub(super) backlog: Cell<usize>,
    pub(super) active: Rc<Active>,
    /// The acceptor, the number of its round, and how many there are: one that has been dismissed
    /// may not have ended yet. (While `release` runs it counts as one.)
    pub(super) acceptor: Cell<TaskId>,
    pub(super) round: Cell<u64>,
    pub(super) acceptors: Cell<usize>,
    /// When the handlers that have not ended are killed.
    pub(super) deadline: Cell<Option<Instant>>,
    pub(super) is_being_stopped: Cell<bool>,
    /// The greenlet in `release`, while it drops the intake and the handler.
    pub(super) releaser: Cell<Option<TaskId>>,
    /// A handler had to be killed.
    pub(super) forced: Cell<bool>,
    /// It serves no more: for `serve_forever`, and for those who wait for the server itself.
    pub(super) served: Event,
    /// It has been stopped, and no handler runs.
    pub(super) stopped: Event,
    /// Where the handler was given.
    site: Cell<&'static Location<'static>>,
}

impl<I: Intake> Engine<I> {
    #[track_caller]
    pub(super) fn new(intake: I) -> Rc<Engine<I>> {
        Rc::new(Engine {
            phase: Cell::new(Phase::New),
            is_paused: Cell::new(false),
            intake: RefCell::new(Some(Rc::new(intake))),
            last_address: RefCell::new(None),
            handler: RefCell::new(None),
            pool: RefCell::new(None),
            most: Cell::new(usize::MAX),
            backlog: Cell::new(1024), // what `TcpListener::bind` asks for
            active: Rc::default(),
            acceptor: Cell::new(TaskId::NOBODY),
            round: Cell::new(0),
            acceptors: Cell::new(0),
            deadline: Cell::new(None),
            is_being_stopped: Cell::new(false),
            releaser: Cell::new(None),
            forced: Cell::new(false),
            served: Event::new(),
            stopped: Event::new(),
            site: Cell::new(Location::caller()),
        })
    }

    // ── what it is told ──

    #[track_caller]
    pub(super) fn set_handler(&self, handler: impl Fn(I::Request) + 'static) {
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
        assert!(most > 0, "a server that may run no handler could never serve anybody");
        self.most.set(most);
        self.active.room.wake_all();
    }

    // ── what it says ──

    pub(super) fn is_running(&self) -> bool {
        self.phase.get() == Phase::Serving
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    pub(super) fn intake(&self) -> io::Result<Rc<I>> {
        let intake = self.intake.borrow().clone();
        intake.filter(|_| self.phase.get() != Phase::Closed).ok_or_else(has_been_stopped)
    }

    pub(super) fn local_addr(&self) -> io::Result<I::Address> {
        let intake = self.intake.borrow().clone();
        if let Some(intake) = intake {
            return intake.local_addr();
        }
        let last = self.last_address.borrow().clone(); // the handle: its clones are the user's
        last.map(|last| (*last).clone()).ok_or_else(has_been_stopped)
    }

    fn title(&self) -> String {
        self.intake().map_or_else(|_| "server".to_owned(), |intake| intake.title())
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
            .field("stats", &self.active.stats())
            .finish_non_exhaustive()
    }

    // ── serving ──

    /// The acceptor serves no more, but for a request that it has been woken for already.
    pub(super) fn dismiss_acceptor(&self) {
        self.round.set(self.round.get() + 1);
        hub::kill(self.acceptor.replace(TaskId::NOBODY));
    }

    /// Is that still the round of the acceptor? If not, it has been dismissed.
    pub(super) fn is_current(&self, round: u64) -> bool {
        self.round.get() == round
    }

    /// Waits until there is room for one more handler.
    #[track_caller]
    pub(super) fn wait_for_room(&self) {
        loop {
            while !self.is_below_bound() {
                if let Err(interruption) =
                    self.active.room.wait(self.reason(&"room in the server"), None)
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

    /// Is there room for one more handler, without a wait?
    pub(super) fn has_room(&self) -> bool {
        let pool_has = self.pool.borrow().as_ref().is_none_or(|pool| !pool.is_full());
        pool_has && self.is_below_bound()
    }

    pub(super) fn is_below_bound(&self) -> bool {
        self.active.len() < self.most.get()
    }

    /// Gives the request a greenlet. It never waits: if others have taken the last slot of the pool,
    /// the greenlet is queued for the next.
    ///
    /// # Errors
    ///
    /// If there is no stack to be had, or the pool has been closed. The request is dropped.
    pub(super) fn serve(&self, intake: &I, request: I::Request) -> io::Result<()> {
        let Some(handler) = self.handler.borrow().clone() else { return Ok(()) };
        let pool = self.pool.borrow().clone();
        let name = intake.name_of(&request);
        let birth = Birth { site: self.site.get(), ..Birth::here(Some(name.into())) };
        let membership = self.active.enter();
        let (active, key) = (Rc::clone(&self.active), membership.key);
        let body = move || active.run(key, handler, request);
        let spawned = match pool {
            None => greenlet::try_spawn_member(birth, body, ()),
            Some(pool) => pool.try_queue(birth, body),
        };
        match spawned {
            Ok(greenlet) => {
                membership.began(greenlet.task());
                greenlet.attach(membership);
                Ok(())
            }
            Err(error) => {
                membership.never_began();
                Err(error)
            }
        }
    }

    // ── closing ──

    /// Ends the server, because the acceptor has found that the intake is broken. That goes to the
    /// hub's error hook, not only to the log: the server ends, and nobody has told it to.
    pub(super) fn fail(&self, error: &io::Error) {
        hub::report_current("cannot accept connections any more", error.to_string());
        self.close();
    }

    /// From now on nothing is accepted. When the acceptor has ended, [`release`](Engine::release) is
    /// due.
    pub(super) fn close(&self) {
        self.phase.set(Phase::Closed);
        self.dismiss_acceptor();
    }

    /// If nothing will be accepted any more: drops the intake, so that new connections are refused,
    /// and the handler, which is of no use then and may own a handle to the server. (While there is
    /// an acceptor it does nothing: one that has been killed may still have a request to serve.)
    ///
    /// Not to be called while the caller unwinds: destructors of the user's run here. They may wait,
    /// and what waits for the end waits for them as for an acceptor.
    pub(super) fn release(&self) {
        if self.phase.get() != Phase::Closed || self.acceptors.get() > 0 {
            return;
        }
        self.acceptors.set(1);
        self.releaser.set(Some(hub::current_task()));
        self.remember_address();
        let intake = self.intake.take();
        let_go("panicked in the destructor of a listener", intake);
        let handler = self.handler.take();
        let_go("panicked in the destructor of a handler", handler);
        self.releaser.set(None);
        self.acceptors.set(0);
        if !self.is_being_stopped.get() {
            self.served.set(); // the intake was broken
        }
        self.active.endings.wake_all();
    }

    /// A listener of the user's is asked here; it may do what its destructor may.
    fn remember_address(&self) {
        let Some(intake) = self.intake.borrow().clone() else { return };
        let _whole = hub::shield();
        hub::quietly("panicked in a listener", || {
            if let Ok(address) = intake.local_addr() {
                self.last_address.replace(Some(Rc::new(address)));
            }
        });
    }
}

fn has_been_stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server has been stopped")
}
