//! `map`: one function over many items, both of which may borrow from the caller.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, Location};
use std::rc::Rc;
use std::thread;

use super::crew::Crew;
use crate::error::{Cause, Elapsed};
use crate::greenlet;
use crate::hub::Birth;
use crate::wait::Limit;

/// How the work on one item ended.
pub(crate) enum End<T> {
    Value(T),
    Panicked(Box<dyn Any + Send>),
    Killed,
}

impl<T> End<T> {
    /// What the work was for, or its panic.
    #[track_caller]
    pub(super) fn unwrap(self) -> T {
        match self {
            End::Value(value) => value,
            End::Panicked(payload) => panic::resume_unwind(payload),
            End::Killed => panic!("the work on an item was killed"),
        }
    }
}

/// Works on one item, and tells how that ended. A kill is told, too, and then goes on: it is meant
/// for the whole greenlet.
pub(crate) fn work<T>(f: impl FnOnce() -> T, tell: impl FnOnce(End<T>)) {
    match panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => tell(End::Value(value)),
        Err(payload) => match payload.downcast_ref::<Cause>() {
            Some(Cause::Killed) => {
                tell(End::Killed);
                panic::resume_unwind(payload);
            }
            Some(Cause::TimedOut(_)) => tell(End::Panicked(Box::new(Elapsed))),
            None => tell(End::Panicked(payload)),
        },
    }
}

/// The next item, or the panic of the input. What ends the caller himself passes through.
pub(super) fn pull<I: Iterator>(items: &mut I) -> Result<Option<I::Item>, Box<dyn Any + Send>> {
    match panic::catch_unwind(AssertUnwindSafe(|| items.next())) {
        Err(payload) if payload.is::<Cause>() => panic::resume_unwind(payload),
        pulled => pulled,
    }
}

/// Where the end of one item goes. Dropped without having been told of one, the work was killed.
struct Place<'a, T> {
    ends: &'a RefCell<Vec<End<T>>>,
    index: usize,
    failed: &'a Cell<bool>,
    has_told: bool,
}

impl<'a, T> Place<'a, T> {
    fn new(ends: &'a RefCell<Vec<End<T>>>, failed: &'a Cell<bool>) -> Place<'a, T> {
        let index = ends.borrow().len();
        ends.borrow_mut().push(End::Killed);
        Place { ends, index, failed, has_told: false }
    }

    fn tell(&mut self, end: End<T>) {
        self.has_told = true;
        self.failed.set(self.failed.get() || !matches!(end, End::Value(_)));
        self.ends.borrow_mut()[self.index] = end;
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if !self.has_told {
            self.failed.set(true);
        }
    }
}

#[track_caller]
pub(super) fn map<I, F, T>(crew: &Rc<Crew>, items: I, f: F) -> Vec<T>
where
    I: IntoIterator,
    F: Fn(I::Item) -> T,
{
    let site = Location::caller();
    let mut items = items.into_iter();
    if thread::panicking() {
        return items.map(f).collect(); // nobody can be waited for
    }
    let ends = RefCell::new(Vec::new());
    let failed = Cell::new(false);
    let mut input_panic = None;
    greenlet::scope(|s| {
        let (f, ends, failed) = (&f, &ends, &failed);
        while !failed.get() {
            let item = match pull(&mut items) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(payload) => {
                    input_panic = Some(payload);
                    break;
                }
            };
            let entered = crew.enter(Limit::Forever);
            if failed.get() {
                break; // while we waited
            }
            let mut place = Place::new(ends, failed);
            let Ok(membership) = entered else {
                work(|| f(item), |end| place.tell(end)); // nobody may wait here, so it is done here
                continue;
            };
            let member = membership.place;
            let birth = Birth { site, ..Birth::here(None) };
            let work = move || work(|| f(item), |end| place.tell(end));
            let greenlet = s.spawn_member(birth, work, membership);
            crew.began(member, greenlet.task());
        }
    });
    let values = ends.into_inner().into_iter().map(End::unwrap).collect();
    match input_panic {
        Some(payload) => panic::resume_unwind(payload),
        None => values,
    }
}
