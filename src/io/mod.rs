//! Descriptors that wait by parking.
//!
//! [`Io`] is the only place where a call is tried, found to block, and tried again. Whatever has a
//! descriptor that can be polled is wrapped in one; the rooms above say which call, in which
//! direction, and for how long.

mod source;

pub(crate) use source::{Io, Tried};
