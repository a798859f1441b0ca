//! Two tasks whose sleeps overlap: together they take as long as the longer one.
//!
//! `greenloom::sleep` looks like the sleep of a thread, but only the greenlet that calls it waits.

#![expect(clippy::print_stdout, reason = "shows who sleeps when")]

use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_millis(400);
const SHORT: Duration = Duration::from_millis(100);

fn main() {
    let start = Instant::now();
    let tell = |event: String| println!("{:3} ms  {event}", start.elapsed().as_millis());
    sleep_together(&[("Ann", LONG), ("Bob", SHORT)], tell);
    tell(format!("together they slept for {:?}", LONG + SHORT));
}

/// Sends everybody to sleep at once and returns when all are awake.
///
/// Greenlets of a scope may borrow from whoever opened it: here, `tell`.
fn sleep_together(sleepers: &[(&str, Duration)], tell: impl Fn(String)) {
    greenloom::scope(|scope| {
        for &(name, nap) in sleepers {
            let tell = &tell;
            scope.spawn(move || {
                tell(format!("{name} falls asleep for {nap:?}"));
                greenloom::sleep(nap);
                tell(format!("{name} wakes up"));
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn runs() {
        let start = Instant::now();
        let events = RefCell::new(Vec::new());
        sleep_together(&[("Ann", LONG), ("Bob", SHORT)], |event| events.borrow_mut().push(event));

        let mut events = events.into_inner();
        // Both start ready; which of two that are ready goes first is not the point here.
        events[..2].sort();
        assert_eq!(
            events,
            [
                "Ann falls asleep for 400ms",
                "Bob falls asleep for 100ms",
                "Bob wakes up",
                "Ann wakes up",
            ]
        );
        assert!(start.elapsed() >= LONG, "nobody is woken early");
    }
}
