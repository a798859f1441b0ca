//! Several descriptors at once: `poll` and `select`.

pub(super) const NAMES: &[&str] = &[];
