//! `Timer`: something to be done later, or again and again.

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::{Cause, Interruption};
use crate::hub::{self, Birth, Start, TaskId};
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

/// Calls a function when its time has come, in a greenlet of its own called `timer`.
///
/// A handle: clones name the same timer, and dropping them leaves it running. The function may wait.
/// A panic in it is reported through [`Hub::on_error`](crate::Hub::on_error). As a [`Waitable`] it
/// is ready when it is finished. `threading.Timer`; gevent's `spawn_later` for functions only.
///
/// # Examples
///
/// ```
/// use greenloom::{joinall, sync::Timer};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// let rings = Rc::new(Cell::new(0));
/// let bell = Rc::clone(&rings);
/// let timer = Timer::after(Duration::from_millis(1), move || bell.set(1));
/// let never = Timer::after(Duration::from_secs(10), || panic!("cancelled"));
/// assert!(never.cancel());
/// joinall([&timer]);
/// assert_eq!(rings.get(), 1);
/// assert!(!timer.cancel(), "it has run");
/// ```
#[derive(Clone)]
pub struct Timer {
    state: Rc<State>,
}

struct State {
    stage: Cell<Stage>,
    task: Cell<TaskId>,
    line: WaitList,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For its time to come.
    Waiting,
    /// It runs, and can be kept from running again.
    Running,
    /// It runs, and there is nothing left to cancel.
    Last,
    Finished,
}

impl Timer {
    /// Calls `f` once, when `d` has passed.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn after(d: Duration, f: impl FnOnce() + 'static) -> Timer {
        Timer::start(hub::after(d), move |run| run.once(f))
    }

    /// Calls `f` again and again: when `d` has passed, and then each `d` after that. Times that have
    /// gone by while `f` was running are left out, and not made up for.
    ///
    /// With `Duration::ZERO` it is called once each time that everybody else has run.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn every(d: Duration, f: impl FnMut() + 'static) -> Timer {
        let first = hub::after(d);
        Timer::start(first, move |run| run.again(first, d, f))
    }

    #[track_caller]
    fn start(first: Instant, body: impl FnOnce(&Run) + 'static) -> Timer {
        let state = Rc::new(State {
            stage: Cell::new(Stage::Waiting),
            task: Cell::new(TaskId::NOBODY),
            line: WaitList::default(),
        });
        let birth = Birth { start: Start::At(first), ..Birth::here(Some("timer".into())) };
        let job = Job { body: Some(body), run: Run { state: Rc::clone(&state) } };
        match hub::spawn(birth, move || job.run()) {
            Ok((task, _)) => state.task.set(task),
            Err(error) => panic!("no stack for a timer: {error}"),
        }
        Timer { state }
    }

    /// Keeps it from running, or from running again. True if it will not because of this call:
    /// false if it was finished or cancelled already, or if the function of [`after`](Timer::after)
    /// has begun.
    ///
    /// The timer is finished then. A call of the function that has begun is not interrupted. It
    /// never switches.
    pub fn cancel(&self) -> bool {
        match self.state.stage.get() {
            Stage::Waiting => {
                self.state.finish();
                // One that has not begun is dropped here, with what it captured.
                hub::kill(self.state.task.get());
                true
            }
            Stage::Running => {
                self.state.finish();
                true
            }
            Stage::Last | Stage::Finished => false,
        }
    }

    /// Has it run for the last time, or been cancelled?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state.stage.get() == Stage::Finished
    }
}

/// What runs in the timer's greenlet. Dropped unrun, it finishes the timer.
struct Job<F> {
    body: Option<F>,
    run: Run,
}

impl<F: FnOnce(&Run)> Job<F> {
    fn run(mut self) {
        if let Some(body) = self.body.take() {
            body(&self.run);
        }
    }
}

impl<F> Drop for Job<F> {
    fn drop(&mut self) {
        let body = self.body.take();
        hub::quietly("panicked in a destructor", move || drop(body));
    }
}

struct Run {
    state: Rc<State>,
}

impl Run {
    fn once(&self, f: impl FnOnce()) {
        self.state.stage.set(Stage::Last);
        hub::quietly("panicked in a timer", f);
    }

    fn again(&self, first: Instant, period: Duration, mut f: impl FnMut()) {
        let mut due = first;
        while self.state.stage.get() == Stage::Waiting {
            self.state.stage.set(Stage::Running);
            hub::quietly("panicked in a timer", &mut f);
            if self.state.stage.get() == Stage::Finished {
                break; // cancelled
            }
            self.state.stage.set(Stage::Waiting);
            due = next_after(due, period);
            // A timeout that the function has left behind is none of ours.
            let mut slept = hub::sleep_until(due);
            while let Err(Interruption::Raised(Cause::TimedOut(_))) = slept {
                slept = hub::sleep_until(due);
            }
            if slept.is_err() {
                break; // cancelled, or the thread ends
            }
        }
        hub::quietly("panicked in a destructor", move || drop(f));
    }
}

/// The first time of `due + n * period` that has not gone by.
fn next_after(due: Instant, period: Duration) -> Instant {
    let late = due.elapsed();
    let missed = late.as_nanos().checked_div(period.as_nanos()).unwrap_or(0);
    let ahead = u32::try_from(missed + 1).ok().and_then(|periods| period.checked_mul(periods));
    ahead.and_then(|ahead| due.checked_add(ahead)).unwrap_or_else(|| hub::after(period))
}

impl Drop for Run {
    fn drop(&mut self) {
        self.state.finish();
    }
}

impl State {
    fn finish(&self) {
        self.stage.set(Stage::Finished);
        self.line.wake_all();
    }
}

impl UnwindSafe for Timer {}
impl RefUnwindSafe for Timer {}

impl HasLine for Timer {
    fn line(&self) -> &WaitList {
        &self.state.line
    }
}

impl Waitable for Timer {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("stage", &self.state.stage.get()).finish()
    }
}
