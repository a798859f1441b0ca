//! Sleeping.

pub(super) const NAMES: &[&str] = &[];
