//! The end of a thread.

pub(super) const NAMES: &[&str] = &[];
