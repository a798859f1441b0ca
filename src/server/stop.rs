//! The end of a server.
//!
//! The caller of `stop` closes the server at once. The rest is done by a greenlet of its own, so that
//! it is done whatever becomes of the caller: it may be killed, be one of the handlers, or unwind.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::accept::AcceptErrorKind;
use super::engine::{Engine, Intake};
use crate::greenlet;
use crate::hub::{self, Birth, REFUSED, TaskId, Wake};

/// The grace that handlers have when the greenlet in `serve_forever` is killed. gevent's.
const GRACE: Duration = Duration::from_secs(1);

/// How long handlers that have been killed may clean up. gevent's.
const CLEAN_UP: Duration = Duration::from_secs(1);

/// In `serve_forever`.
struct StopsWhenUnwound<'a, I: Intake>(&'a Rc<Engine<I>>);

impl<I: Intake> Drop for StopsWhenUnwound<'_, I> {
    fn drop(&mut self) {
        if thread::panicking() && !hub::has_ended() {
            self.0.begin_stop(GRACE);
        }
    }
}

impl<I: Intake> Engine<I> {
    /// Starts it, and waits until it serves no more.
    #[track_caller]
    pub(super) fn serve_forever(self: &Rc<Self>) {
        self.start();
        let _end = StopsWhenUnwound(self);
        self.served.wait();
    }

    /// Stops it, and waits for the end. True: all handlers ended by themselves.
    #[track_caller]
    pub(super) fn stop(self: &Rc<Self>, grace: Duration) -> bool {
        self.begin_stop(grace);
        if self.releaser.get() == Some(hub::current_task()) {
            return !self.forced.get(); // in a destructor, which the end waits for
        }
        let active = &self.active;
        let Some(_stops) = active.stops(hub::current_task()) else {
            self.stopped.wait();
            return self.stopped.is_set() && !self.forced.get();
        };
        let is_over = || self.stopped.is_set() && self.forced.get(); // some have refused to end
        while (self.acceptors.get() > 0 || active.has_others()) && !is_over() {
            if let Err(interruption) = active.endings.wait(self.reason(&"stop of the server"), None)
            {
                hub::raise(interruption);
                return false;
            }
        }
        !self.forced.get()
    }

    /// Stops it, without a wait. If it is stopped twice, the sooner deadline counts.
    #[track_caller]
    pub(super) fn begin_stop(self: &Rc<Self>, grace: Duration) {
        let deadline = hub::after(grace);
        if self.deadline.get().is_none_or(|before| deadline < before) {
            self.deadline.set(Some(deadline));
            self.active.endings.wake_all();
        }
        if self.is_running() && !self.is_paused() && !grace.is_zero() && !thread::panicking() {
            // A listener of the user's may do what it likes; the server is stopped all the same.
            hub::quietly("panicked in a listener", || self.drain_backlog());
        }
        let is_second = self.is_being_stopped.replace(true);
        self.close();
        if is_second {
            return;
        }
        // A caller that unwinds must not release; unless nobody else ever will.
        let may_release = !thread::panicking() || hub::has_ended();
        if may_release {
            self.release();
        }
        if self.is_empty() && may_release {
            self.end();
            return;
        }
        let (engine, birth) = (Rc::clone(self), Birth::here(Some("stop of a server".into())));
        if greenlet::try_spawn_member(birth, move || engine.finish(), ()).is_err() {
            // Not even a stack for that: there is no way to wait.
            self.kill_all(true);
            self.release();
            self.end();
        }
    }

    /// Serves the requests that came before the stop, as far as there is room. It takes no more than
    /// the backlog holds, because others may come while this goes on.
    fn drain_backlog(&self) {
        let Ok(intake) = self.intake() else { return };
        for _ in 0..self.backlog.get() {
            if !self.has_room() {
                return;
            }
            match intake.next_at_once() {
                Ok(request) => {
                    if self.serve(&intake, request).is_err() {
                        return;
                    }
                }
                Err(error) if intake.error_kind(&error) == AcceptErrorKind::Connection => {}
                Err(_) => return,
            }
        }
    }

    /// Have all handlers and acceptors ended?
    fn is_empty(&self) -> bool {
        self.acceptors.get() == 0 && self.active.len() == 0
    }

    fn end(&self) {
        self.stopped.set();
        self.served.set();
        self.active.endings.wake_all();
    }

    /// Waits until all have ended, and kills the handlers that have not at the deadline; those that
    /// stop the server themselves last.
    fn finish(&self) {
        self.release(); // an acceptor would do that when it ends, but there may be none
        while !self.is_empty() {
            let deadline = self.deadline.get();
            match self.active.endings.wait(self.reason(&"stop of the server"), deadline) {
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
            let left = format!("{} of its greenlets", self.active.len() + self.acceptors.get());
            self.report("has been stopped, but would not end", &left);
        }
        self.end();
    }

    /// Kills the handlers. Returns those that have not ended by that.
    fn kill_all(&self, with_stoppers: bool) -> Vec<TaskId> {
        let all = self.active.tasks(with_stoppers);
        if !all.is_empty() {
            self.forced.set(true);
        }
        all.into_iter().for_each(hub::kill);
        self.active.tasks(with_stoppers) // those that had not begun have ended
    }

    /// Kills the handlers and waits for their ends; not for those that refuse, and not for ever.
    fn see_killed(&self, with_stoppers: bool) {
        let deadline = Some(hub::after(CLEAN_UP));
        loop {
            let left = self.kill_all(with_stoppers);
            if left.is_empty() && self.acceptors.get() == 0 {
                return;
            }
            let listen = |ticket| {
                // Not `any`: each is to be listened to.
                let dying = left.iter().filter(|task| hub::watch_refusal(**task, ticket)).count();
                if dying == 0 && self.acceptors.get() == 0 {
                    hub::unpark(ticket, REFUSED); // they have all refused already
                }
            };
            let reason = self.reason(&"stop of the server");
            match self.active.endings.wait_with(reason, deadline, listen) {
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
