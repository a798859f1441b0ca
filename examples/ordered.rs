//! Three tasks that take turns, strictly: A, B, C, A, B, C.
//!
//! ```text
//! cargo run --example ordered                        # or as many rounds as you say: -- 10
//! ```
//!
//! Everybody has a lock of its own to wait at, and opens the next one's when its turn is over.

#![expect(clippy::print_stdout, reason = "shows whose turn it is")]

use clap::Parser;
use greenloom::sync::Semaphore;

/// Lets A, B and C speak in turn.
#[derive(Debug, Parser)]
struct Args {
    /// How often each of them speaks
    #[arg(default_value_t = 5)]
    rounds: usize,
}

fn main() {
    let Args { rounds } = Args::parse();
    take_turns(&["A", "B", "C"], rounds, |name| print!("{name} "));
    println!();
}

/// Each of `names` speaks `rounds` times, always in the order of the list.
///
/// The locks are semaphores with one permit among them all: it is the right to speak. One greenlet
/// takes it and another gets it, which the guard of a `Mutex` cannot do, because that is returned to
/// where it was taken. Hence `forget` and `release`.
fn take_turns<'a>(names: &[&'a str], rounds: usize, speak: impl Fn(&'a str)) {
    let turns: Vec<_> = names.iter().map(|_| Semaphore::new(0)).collect();
    greenloom::scope(|scope| {
        // Backwards, so that nobody thinks that the order comes from here.
        for (index, &name) in names.iter().enumerate().rev() {
            let mine = &turns[index];
            let next = &turns[(index + 1) % turns.len()];
            let speak = &speak;
            scope.spawn(move || {
                for _ in 0..rounds {
                    mine.acquire().forget();
                    speak(name);
                    next.release();
                }
            });
        }
        if let Some(first) = turns.first() {
            first.release();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn speech(names: &[&str], rounds: usize) -> String {
        let said = RefCell::new(String::new());
        take_turns(names, rounds, |name| said.borrow_mut().push_str(name));
        said.into_inner()
    }

    #[test]
    fn runs() {
        assert_eq!(speech(&["A", "B", "C"], 4), "ABCABCABCABC");
    }

    #[test]
    fn whoever_speaks_may_wait() {
        let said = RefCell::new(String::new());
        take_turns(&["A", "B", "C"], 2, |name| {
            greenloom::yield_now();
            said.borrow_mut().push_str(name);
            greenloom::yield_now();
        });
        assert_eq!(said.into_inner(), "ABCABC");
    }

    #[test]
    fn one_speaks_alone_and_nobody_is_silent() {
        assert_eq!(speech(&["A"], 3), "AAA");
        assert_eq!(speech(&[], 3), "");
        assert_eq!(speech(&["A", "B"], 0), "");
    }
}
