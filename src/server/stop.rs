//! The end of a server.
//!
//! Whoever calls `stop` closes the door at once; the rest is done by a greenlet of its own, so that
//! it is done whatever becomes of the caller: he may be killed, be a guest himself, or unwind.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::accept::AcceptErrorKind;
use super::engine::{Door, Engine};
use crate::greenlet;
use crate::hub::{self, Birth, REFUSED, TaskId, Wake};

/// What those inside are given when the greenlet in `serve_forever` is killed. gevent's.
const GRACE: Duration = Duration::from_secs(1);

/// How long those who have been killed may clean up. gevent's.
const CLEAN_UP: Duration = Duration::from_secs(1);

/// In `serve_forever`.
struct StopsWhenUnwound<'a, D: Door>(&'a Rc<Engine<D>>);

impl<D: Door> Drop for StopsWhenUnwound<'_, D> {
    fn drop(&mut self) {
        if thread::panicking() && !hub::has_ended() {
            self.0.begin_stop(GRACE);
        }
    }
}

impl<D: Door> Engine<D> {
    /// Starts it, and waits until it serves no more.
    #[track_caller]
    pub(super) fn serve_forever(self: &Rc<Self>) {
        self.start();
        let _end = StopsWhenUnwound(self);
        self.served.wait();
    }

    /// Stops it, and waits for the end. True: all went by themselves.
    #[track_caller]
    pub(super) fn stop(self: &Rc<Self>, grace: Duration) -> bool {
        self.begin_stop(grace);
        if self.locks_up.get() == Some(hub::current_task()) {
            return !self.forced.get(); // in a destructor, which the end waits for
        }
        let guests = &self.guests;
        let Some(_stops) = guests.stops(hub::current_task()) else {
            self.stopped.wait();
            return self.stopped.is_set() && !self.forced.get();
        };
        let is_over = || self.stopped.is_set() && self.forced.get(); // some have refused to go
        while (self.porters.get() > 0 || guests.are_others_inside()) && !is_over() {
            if let Err(interruption) = guests.goings.wait(self.reason(&"stop of the server"), None)
            {
                hub::raise(interruption);
                return false;
            }
        }
        !self.forced.get()
    }

    /// Stops it, without a wait. Of two who do, the sooner deadline counts.
    #[track_caller]
    pub(super) fn begin_stop(self: &Rc<Self>, grace: Duration) {
        let deadline = hub::after(grace);
        if self.deadline.get().is_none_or(|before| deadline < before) {
            self.deadline.set(Some(deadline));
            self.guests.goings.wake_all();
        }
        if self.is_running() && !self.is_paused() && !grace.is_zero() && !thread::panicking() {
            // A listener of the user's may do what it likes; the server is stopped all the same.
            hub::quietly("panicked in a listener", || self.let_in_who_stand_there());
        }
        let is_second = self.is_being_stopped.replace(true);
        self.close_door();
        if is_second {
            return;
        }
        // Who unwinds must not lock up; unless nobody else ever will.
        let may_lock_up = !thread::panicking() || hub::has_ended();
        if may_lock_up {
            self.lock_up();
        }
        if self.is_empty() && may_lock_up {
            self.end();
            return;
        }
        let (engine, birth) = (Rc::clone(self), Birth::here(Some("stop of a server".into())));
        if greenlet::try_spawn_member(birth, move || engine.see_out(), ()).is_err() {
            // Not even a stack for that: there is no way to wait.
            self.kill_all(true);
            self.lock_up();
            self.end();
        }
    }

    /// Those who came before the end are served, as far as there is room. The bound is there
    /// because others may come while this goes on.
    fn let_in_who_stand_there(&self) {
        let Ok(door) = self.door() else { return };
        for _ in 0..self.backlog.get() {
            if !self.has_room() {
                return;
            }
            match door.next_at_once() {
                Ok(visitor) => {
                    if self.let_in(&door, visitor).is_err() {
                        return;
                    }
                }
                Err(error) if door.error_kind(&error) == AcceptErrorKind::Connection => {}
                Err(_) => return,
            }
        }
    }

    /// Is everybody gone?
    fn is_empty(&self) -> bool {
        self.porters.get() == 0 && self.guests.active() == 0
    }

    fn end(&self) {
        self.stopped.set();
        self.served.set();
        self.guests.goings.wake_all();
    }

    /// Waits until all have gone, and kills those who are inside after the time they were given;
    /// who has stopped the server himself goes last.
    fn see_out(&self) {
        self.lock_up(); // if there is no porter, who would do that when he goes
        while !self.is_empty() {
            let deadline = self.deadline.get();
            match self.guests.goings.wait(self.reason(&"stop of the server"), deadline) {
                Ok(Wake::Elapsed) if self.deadline.get() == deadline => break,
                Ok(_) => {}
                Err(interruption) => {
                    hub::raise(interruption);
                    return;
                }
            }
        }
        self.see_killed(false);
        self.see_killed(true);
        if !self.is_empty() {
            let left = format!("{} of its greenlets", self.guests.active() + self.porters.get());
            self.report("has been stopped, but would not end", &left);
        }
        self.end();
    }

    /// Kills those inside. Returns those who take a while to die.
    fn kill_all(&self, with_stoppers: bool) -> Vec<TaskId> {
        let all = self.guests.tasks(with_stoppers);
        if !all.is_empty() {
            self.forced.set(true);
        }
        all.into_iter().for_each(hub::kill);
        self.guests.tasks(with_stoppers) // those who had not begun are gone
    }

    /// Kills those inside and waits for their ends; not for those who refuse, and not for ever.
    fn see_killed(&self, with_stoppers: bool) {
        let deadline = Some(hub::after(CLEAN_UP));
        loop {
            let left = self.kill_all(with_stoppers);
            if left.is_empty() && self.porters.get() == 0 {
                return;
            }
            let listen = |ticket| {
                // Not `any`: each is to be listened to.
                let dying = left.iter().filter(|task| hub::watch_refusal(**task, ticket)).count();
                if dying == 0 && self.porters.get() == 0 {
                    hub::unpark(ticket, REFUSED); // they have all refused already
                }
            };
            let reason = self.reason(&"stop of the server");
            match self.guests.goings.wait_with(reason, deadline, listen) {
                Ok(Wake::Ready(REFUSED)) if left.iter().all(|task| hub::has_refused(*task)) => {
                    return;
                }
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => return,
                Err(interruption) => {
                    hub::raise(interruption);
                    return;
                }
            }
        }
    }
}
