//! Killing a whole crew.

use std::rc::Rc;
use std::time::Instant;

use super::crew::{Crew, Stage};
use crate::hub::{self, REFUSED, TaskId, Wake};
use crate::wait::{self, Limit};

impl Crew {
    /// Kills all members, those who come meanwhile included, and waits until they are gone. The
    /// caller, if he is one, goes last. False: the time is over, some refuse, or the caller unwinds.
    #[track_caller]
    pub(super) fn kill(self: &Rc<Self>, limit: Limit) -> bool {
        let me = hub::current_task();
        let all_gone = {
            let _kill = Kill::begin(self);
            for job in self.tasks(Stage::Queued) {
                hub::kill(job);
            }
            self.kill_others(me, limit.deadline())
        };
        if self.has(me) {
            hub::kill(me);
            if let Err(interruption) = hub::yield_now() {
                hub::raise(interruption);
            }
            return false;
        }
        all_gone
    }

    /// Kills what has not begun: queued jobs, and members whose first turn has not come.
    pub(super) fn kill_unrun(&self) {
        let mut tasks = self.tasks(Stage::Queued);
        tasks.extend(self.tasks(Stage::Inside));
        tasks.into_iter().filter(|task| hub::has_not_begun(*task)).for_each(hub::kill);
    }

    #[track_caller]
    fn kill_others(&self, me: TaskId, deadline: Option<Instant>) -> bool {
        loop {
            let mut others = self.tasks(Stage::Inside);
            others.retain(|task| *task != me);
            if others.is_empty() {
                return true;
            }
            others.iter().copied().for_each(hub::kill);
            if others.iter().all(|task| !self.has(*task)) {
                wait::spend();
                continue; // they had not begun; but what they left may have brought others
            }
            let listen = |ticket| {
                // Not `any`: each is to be listened to.
                let dying = others.iter().filter(|task| hub::watch_refusal(**task, ticket)).count();
                if dying == 0 {
                    hub::unpark(ticket, REFUSED); // they have all refused already
                }
            };
            match self.killers.wait_with(self.reason(&self.verbs.kill), deadline, listen) {
                Ok(Wake::Ready(REFUSED)) if others.iter().all(|task| hub::has_refused(*task)) => {
                    return false;
                }
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => return false,
                Err(interruption) => {
                    hub::raise(interruption);
                    return false;
                }
            }
        }
    }
}

/// A kill that is going on. Afterwards those are let in who have waited.
struct Kill<'a> {
    crew: &'a Crew,
}

impl<'a> Kill<'a> {
    fn begin(crew: &'a Crew) -> Kill<'a> {
        crew.kills.set(crew.kills.get() + 1);
        Kill { crew }
    }
}

impl Drop for Kill<'_> {
    fn drop(&mut self) {
        let crew = self.crew;
        crew.kills.set(crew.kills.get() - 1);
        if crew.kills.get() > 0 {
            return;
        }
        while crew.free.get() > 0 && crew.let_one_in() {
            crew.free.set(crew.free.get() - 1);
        }
        if crew.free.get() > 0 {
            crew.watchers.wake_all();
        }
    }
}
