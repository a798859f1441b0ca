//! Children: waited for by their descriptors.

pub(super) const NAMES: &[&str] = &[];
