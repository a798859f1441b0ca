//! Closing: whoever waits for a descriptor hears of it.

pub(super) const NAMES: &[&str] = &[];
