//! How long to wait before what has failed is tried again, and what to say about it.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// For so long nothing must have failed before the next failure is worth a word. It is longer than
/// any pause. When connections wait for descriptors, one is accepted for each that ends and the
/// next fails; a success in between does not make that news.
const CALM: Duration = Duration::from_secs(5);

/// So many connections may fail in a row before that is taken for a failure to accept any. Some do
/// fail together, by one fault of the network; but what says so for ever must not keep us busy.
const CHANCES: u32 = 12;

/// Failures in a row, and how they are spaced: 10 ms, 20, 40, and so on up to a second.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    last_failure: Option<Instant>,
    chances: u32,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST, last_failure: None, chances: CHANCES }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
        self.chances = CHANCES;
    }

    /// One connection failed: may the next be tried at once?
    pub(super) fn has_chance(&mut self) -> bool {
        let has = self.chances > 0;
        self.chances = self.chances.saturating_sub(1);
        has
    }

    /// It failed: how long to wait.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }

    /// It failed at `now`: is that news?
    pub(super) fn is_news(&mut self, now: Instant) -> bool {
        let before = self.last_failure.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.pause(), FIRST);
    }

    #[test]
    fn a_dozen_in_a_row_may_fail() {
        let mut backoff = Backoff::new();
        for _ in 0..2 {
            assert!((0..12).all(|_| backoff.has_chance()));
            assert!(!backoff.has_chance());
            assert!(!backoff.has_chance());
            backoff.reset();
        }
    }

    #[test]
    fn failures_close_to_each_other_are_told_of_once() {
        let mut backoff = Backoff::new();
        let start = Instant::now();
        assert!(backoff.is_news(start));
        assert!(!backoff.is_news(start + LONGEST));
        backoff.reset();
        assert!(!backoff.is_news(start + LONGEST * 2), "one success does not end it");
        assert!(backoff.is_news(start + LONGEST * 2 + CALM));
    }
}
