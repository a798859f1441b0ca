//! Futexes, and with them what std makes of them.

pub(super) const NAMES: &[&str] = &[];
