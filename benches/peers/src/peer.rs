//! Who is measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// In the order in which tables show them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    Greenloom,
    /// A loop over epoll and nothing else: the limit of what can be had.
    Epoll,
    /// current_thread.
    Tokio,
    /// One worker.
    May,
    /// async-io and a local executor on one thread.
    Smol,
    /// One thread of the system for each connection or task.
    Threads,
    /// GOMAXPROCS=1. Measured if `go` is installed.
    Go,
    /// Measured if `python3` can import it.
    Gevent,
}

impl Peer {
    /// All, in that order.
    pub(crate) const ALL: [Peer; 8] = [
        Peer::Greenloom,
        Peer::Epoll,
        Peer::Tokio,
        Peer::May,
        Peer::Smol,
        Peer::Threads,
        Peer::Go,
        Peer::Gevent,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Greenloom => "greenloom",
            Peer::Epoll => "epoll",
            Peer::Tokio => "tokio",
            Peer::May => "may",
            Peer::Smol => "smol",
            Peer::Threads => "threads",
            Peer::Go => "go",
            Peer::Gevent => "gevent",
        }
    }
}
