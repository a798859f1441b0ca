//! Words for tests of jobs on threads: what a thread can wait for, and what may be dropped on it.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use std::{hint, thread};

use greenloom::sleep;

use super::{MINUTE, ms};

/// A door before which threads stand until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate::default()
    }

    /// Blocks the thread: for jobs.
    pub(crate) fn pass(&self) {
        let (is_open, opened) = &*self.0;
        let closed = is_open.lock().unwrap();
        let (_open, waited) = opened.wait_timeout_while(closed, MINUTE, |open| !*open).unwrap();
        assert!(!waited.timed_out(), "nobody opens");
    }

    pub(crate) fn open(&self) {
        let (is_open, opened) = &*self.0;
        *is_open.lock().unwrap() = true;
        opened.notify_all();
    }

    /// A job that stands before it, and then returns `value`.
    pub(crate) fn then<T: Send>(&self, value: T) -> impl FnOnce() -> T + Send + use<T> {
        let gate = self.clone();
        move || {
            gate.pass();
            value
        }
    }
}

/// Counts tokens that travel: how many were made, and how many dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<(AtomicUsize, AtomicUsize)>);

#[derive(Debug)]
pub(crate) struct Token(Tally);

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally::default()
    }

    pub(crate) fn token(&self) -> Token {
        self.0.0.fetch_add(1, SeqCst);
        Token(self.clone())
    }

    pub(crate) fn made(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.made() - self.dropped()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.1.fetch_add(1, SeqCst);
    }
}

/// What jobs have said, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<usize>>>);

impl Notes {
    pub(crate) fn new() -> Notes {
        Notes::default()
    }

    /// A job that says `n`.
    pub(crate) fn job(&self, n: usize) -> impl FnOnce() + Send + use<> {
        let notes = self.clone();
        move || notes.0.lock().unwrap().push(n)
    }

    pub(crate) fn list(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

/// Lets the others run until something holds that takes other threads some time.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(ms(1));
    }
}

/// As [`eventually`], but nobody else of this thread gets a turn.
pub(crate) fn meanwhile(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < MINUTE, "it never came true");
        thread::yield_now();
        hint::spin_loop();
    }
}
