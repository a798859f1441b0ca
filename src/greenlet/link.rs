//! What a link is called with, and named by.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a greenlet ended, as a link sees it.
pub enum Outcome<'a, T> {
    /// It returned this.
    Value(&'a T),
    /// It was killed.
    Killed,
    /// It panicked with this payload.
    Panicked(&'a (dyn Any + Send)),
}

impl<T: fmt::Debug> fmt::Debug for Outcome<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Outcome::Killed => f.write_str("Killed"),
            Outcome::Panicked(payload) => {
                f.debug_tuple("Panicked").field(&crate::error::panic_message(*payload)).finish()
            }
        }
    }
}

/// Names a link, to [`unlink`](crate::Greenlet::unlink) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(u64);

impl LinkId {
    /// Not used before, by whichever greenlet: an id names one link and no other.
    pub(super) fn next() -> LinkId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
