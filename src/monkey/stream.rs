//! `read` and `write`, on sockets and on pipes.

pub(super) const NAMES: &[&str] = &[];
