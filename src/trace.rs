//! The only file that names `tracing`: one function an event, plain data in.
//!
//! Nothing here is called while the hub is borrowed, because a subscriber is a stranger's code and
//! may well call back into this crate.
//!
//! It also carries *spans* over a switch. A span that a greenlet has entered sits on a stack that
//! belongs to the thread; left there, it would become the parent of whatever the other greenlets
//! log. So a wait takes the spans off ([`leave_spans`]) and puts them back on its way out.

use std::fmt;

use tracing::{Dispatch, Id, dispatcher};

use crate::error::caught;

/// A greenlet (or something it was told to run) failed and nobody is bound to look.
pub(crate) fn greenlet_failed(error: &dyn fmt::Display) {
    tracing::error!(target: "greenloom", "{error}");
}

/// Nothing can wake the main greenlet any more.
pub(crate) fn blocks_forever(report: &dyn fmt::Display) {
    tracing::error!(target: "greenloom", "{report}");
}

/// A permit is dropped that somebody has released already.
#[cold]
pub(crate) fn permit_refused(semaphore: &dyn fmt::Display) {
    tracing::error!(target: "greenloom", made_at = %semaphore, "permit dropped after too many releases");
}

/// A thread ends although greenlets of it refuse to.
pub(crate) fn leaked(greenlets: usize) {
    tracing::error!(target: "greenloom", greenlets, "leaked: they would not end with their thread");
}

/// A server has a trouble that is nobody's fault in particular, and goes on, or does not.
#[cold]
pub(crate) fn server_trouble(server: &str, what: &str, error: &dyn fmt::Display) {
    tracing::warn!(target: "greenloom", server, "{what}: {error}");
}

/// The spans a waiting greenlet has entered, outermost last.
pub(crate) struct Spans {
    dispatch: Dispatch,
    entered: Vec<Id>,
}

/// Was a subscriber ever set? If not, there are no spans to care about, and this load is all that
/// they cost.
#[inline]
pub(crate) fn is_listened_to() -> bool {
    dispatcher::has_been_set()
}

/// Takes the current greenlet's spans off the thread. Allocates only if one is entered. A subscriber
/// that panics when it is told misses that one span, and no other.
pub(crate) fn leave_spans() -> Option<Spans> {
    let mut dispatch = None;
    caught(|| {
        dispatch = dispatcher::get_default(|dispatch| current(dispatch).map(|_| dispatch.clone()))
    });
    let dispatch = dispatch?;
    let mut entered = Vec::new();
    // A subscriber that answers with the same span whatever is left must not hold us here.
    while let Some(id) = current(&dispatch).filter(|_| entered.len() < 256) {
        caught(|| dispatch.exit(&id));
        entered.push(id);
    }
    Some(Spans { dispatch, entered })
}

fn current(dispatch: &Dispatch) -> Option<Id> {
    let mut id = None;
    caught(|| id = dispatch.current_span().id().cloned());
    id
}

impl Spans {
    /// Enters them again, outermost first.
    pub(crate) fn enter_again(self) {
        for id in self.entered.iter().rev() {
            caught(|| self.dispatch.enter(id));
        }
    }
}
