//! Regular files: read and written by threads.

pub(super) const NAMES: &[&str] = &[];
