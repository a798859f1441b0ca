//! Names: looked up by threads.

pub(super) const NAMES: &[&str] = &[];
