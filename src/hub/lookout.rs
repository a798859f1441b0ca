//! What a hub asks around its sleep, about something that its poller cannot see.

use std::fmt;
use std::time::Instant;

use super::task::Answer;
use super::tasks::{Lane, Tasks};
use super::ticket::Ticket;

/// When a [`Lookout`] is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The hub is about to sleep.
    BeforeSleep,
    /// It has slept, or looked at the world in passing.
    AfterLook,
}

/// Looks after something that other threads change without telling anybody who is awake. It is
/// called under the borrow, so it must not come back to the hub: whom it wakes it names to the
/// function it is given. It returns when it is to be asked again at the latest.
pub(crate) type Lookout = fn(Asked, &mut dyn FnMut(Ticket)) -> Option<Instant>;

/// Where one may be posted.
#[derive(Default)]
pub(super) struct Post(Option<Lookout>);

impl Post {
    #[cfg(feature = "monkey")]
    pub(super) fn man(&mut self, lookout: Lookout) {
        self.0 = Some(lookout);
    }

    #[inline(always)]
    pub(super) fn ask(&self, asked: Asked, tasks: &mut Tasks) -> Option<Instant> {
        self.0?(asked, &mut |ticket| {
            tasks.answer(ticket, Answer::ready(0), Lane::InTurn);
        })
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Post").field(&self.0.is_some()).finish()
    }
}
