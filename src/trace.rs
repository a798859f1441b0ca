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

/// A greenlet (or something it was told to run) failed and nobody is bound to look.
pub(crate) fn greenlet_failed(error: &dyn fmt::Display) {
    tracing::error!(target: "greenloom", "{error}");
}

/// Nothing can wake the main greenlet any more.
pub(crate) fn blocks_forever(report: &dyn fmt::Display) {
    tracing::error!(target: "greenloom", "{report}");
}

/// A thread ends although greenlets of it refuse to.
pub(crate) fn leaked(greenlets: usize) {
    tracing::error!(target: "greenloom", greenlets, "leaked: they would not end with their thread");
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

/// Takes the current greenlet's spans off the thread. Allocates only if one is entered.
pub(crate) fn leave_spans() -> Option<Spans> {
    dispatcher::get_default(|dispatch| {
        let mut entered = Vec::new();
        while let Some(id) = dispatch.current_span().id().cloned() {
            dispatch.exit(&id);
            // A subscriber that answers with the same span whatever is left must not hold us here.
            if entered.len() >= 256 {
                break;
            }
            entered.push(id);
        }
        if entered.is_empty() { None } else { Some(Spans { dispatch: dispatch.clone(), entered }) }
    })
}

impl Spans {
    /// Enters them again, outermost first.
    pub(crate) fn enter_again(self) {
        for id in self.entered.iter().rev() {
            self.dispatch.enter(id);
        }
    }
}
