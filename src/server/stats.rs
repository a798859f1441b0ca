//! `Stats`: a server in numbers.

use std::fmt;

/// A server in numbers, from [`StreamServer::stats`](super::StreamServer::stats) or
/// [`DatagramServer::stats`](super::DatagramServer::stats).
///
/// What was accepted is being served still or has ended in one of three ways: `accepted` is the sum
/// of `active`, `finished`, `panicked` and `killed`.
///
/// # Examples
///
/// ```
/// let stats = greenloom::server::Stats::default();
/// assert_eq!(stats.to_string(), "0 active (at most 0), 0 accepted, 0 finished");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections (or datagrams) that were given to a handler.
    pub accepted: u64,
    /// Handlers that run, or wait for a slot of a pool.
    pub active: usize,
    /// The most that ever did at a time.
    pub peak: usize,
    /// Handlers that returned.
    pub finished: u64,
    /// Handlers that ended by a panic, or by a timeout that nothing caught.
    pub panicked: u64,
    /// Handlers that were killed, before or while they ran.
    pub killed: u64,
    /// Attempts to accept that failed.
    pub accept_errors: u64,
}

/// For a line of a log. What has never happened is left out.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { accepted, active, peak, finished, panicked, killed, accept_errors } = self;
        write!(f, "{active} active (at most {peak}), {accepted} accepted, {finished} finished")?;
        let rare =
            [(*panicked, "panicked"), (*killed, "killed"), (*accept_errors, "accept errors")];
        for (count, what) in rare.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn a_line_says_what_has_happened() {
        let stats = Stats { accepted: 9, active: 1, peak: 4, finished: 5, ..Stats::default() };
        assert_eq!(stats.to_string(), "1 active (at most 4), 9 accepted, 5 finished");
        let stats = Stats { panicked: 2, killed: 1, accept_errors: 3, ..stats };
        let line =
            "1 active (at most 4), 9 accepted, 5 finished, 2 panicked, 1 killed, 3 accept errors";
        assert_eq!(stats.to_string(), line);
    }
}
