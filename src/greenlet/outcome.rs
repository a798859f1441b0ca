//! What a link is called with.

use std::any::Any;
use std::fmt;

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
