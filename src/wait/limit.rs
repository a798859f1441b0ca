//! How long a call may wait.

use std::time::{Duration, Instant};

use crate::hub;

/// What a call does when it would have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// It fails instead.
    Never,
    Within(Duration),
    Forever,
}

impl From<Option<Duration>> for Limit {
    /// `None`: it waits for ever, as with std's time limits.
    fn from(time: Option<Duration>) -> Limit {
        time.map_or(Limit::Forever, Limit::Within)
    }
}

impl Limit {
    /// When it gives up, if it begins to wait now.
    #[inline]
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Within(time) => Some(hub::after(time)),
            Limit::Never | Limit::Forever => None,
        }
    }
}
