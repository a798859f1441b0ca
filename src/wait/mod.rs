//! Waiting for things: one, all, the first, or each as it comes.
//!
//! Whatever can be waited for is [`Waitable`]: it says whether it is ready, and has a [`WaitList`].
//! The functions here are written on that trait, so they take greenlets, and whatever later floors
//! make waitable, in any mixture.

mod list;

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub(crate) use list::{Bell, WaitList, Waiter};

use self::sealed::HasLine as _;
use crate::hub::{self, LineKey, Reason, Wake};

/// Anything one can wait for.
///
/// Greenlets are, and references to and boxes of waitable things, also as `&dyn Waitable`. The
/// trait is sealed.
///
/// # Examples
///
/// ```
/// use greenloom::{Waitable, joinall, spawn};
///
/// let number = spawn(|| 1);
/// let text = spawn(|| "one");
/// joinall([&number as &dyn Waitable, &text]);
/// assert!(number.is_ready() && text.is_ready());
/// ```
pub trait Waitable: sealed::HasLine {
    /// Would waiting for it return at once?
    fn is_ready(&self) -> bool;
}

pub(crate) mod sealed {
    /// Where one waits for it.
    pub trait HasLine {
        #[doc(hidden)]
        fn line(&self) -> &super::WaitList;
    }

    impl<W: HasLine + ?Sized> HasLine for &W {
        fn line(&self) -> &super::WaitList {
            (**self).line()
        }
    }

    impl<W: HasLine + ?Sized> HasLine for Box<W> {
        fn line(&self) -> &super::WaitList {
            (**self).line()
        }
    }
}

impl<W: Waitable + ?Sized> Waitable for &W {
    fn is_ready(&self) -> bool {
        (**self).is_ready()
    }
}

impl<W: Waitable + ?Sized> Waitable for Box<W> {
    fn is_ready(&self) -> bool {
        (**self).is_ready()
    }
}

/// Waits until all are ready.
///
/// Failures are not raised here: read them from the greenlets. While the caller unwinds, it returns
/// at once. gevent's `joinall`.
///
/// # Examples
///
/// ```
/// use greenloom::{joinall, sleep, spawn};
/// use std::time::Duration;
///
/// let greenlets: Vec<_> = (0..3).map(|n| spawn(move || sleep(Duration::from_millis(n)))).collect();
/// joinall(&greenlets);
/// assert!(greenlets.iter().all(|greenlet| greenlet.is_finished()));
/// ```
#[track_caller]
pub fn joinall<I>(items: I)
where
    I: IntoIterator,
    I::Item: Waitable,
{
    join_until(items, None);
}

/// As [`joinall`], but at most so long. True: all are ready.
#[track_caller]
pub fn joinall_timeout<I>(items: I, d: Duration) -> bool
where
    I: IntoIterator,
    I::Item: Waitable,
{
    join_until(items, Some(hub::after(d)))
}

/// One after the other: that wakes the caller no more often than waiting for all at once would.
#[track_caller]
fn join_until<I>(items: I, deadline: Option<Instant>) -> bool
where
    I: IntoIterator,
    I::Item: Waitable,
{
    for item in items {
        if !wait_until(&item, deadline) {
            return false;
        }
    }
    true
}

/// Waits for one; false if `deadline` came first, or if the caller unwinds.
#[track_caller]
fn wait_until(item: &impl Waitable, deadline: Option<Instant>) -> bool {
    while !item.is_ready() {
        match item.line().wait(Reason::new(&"join"), deadline) {
            Ok(Wake::Ready(_)) => {}
            Ok(Wake::Elapsed) => return item.is_ready(),
            Err(interruption) => {
                hub::raise(interruption);
                return item.is_ready();
            }
        }
    }
    true
}

/// Waits until one is ready, and returns its index.
///
/// If several are ready at once, the first in the list. Nothing is consumed, and the others notice
/// nothing. While the caller unwinds, it returns 0 at once.
///
/// # Panics
///
/// If there are no items: none of them can ever be ready.
///
/// # Examples
///
/// ```
/// use greenloom::{sleep, spawn, wait_any};
/// use std::time::Duration;
///
/// let slow = spawn(|| sleep(Duration::from_secs(10)));
/// let fast = spawn(|| ());
/// assert_eq!(wait_any([&slow, &fast]), 1);
/// ```
#[track_caller]
pub fn wait_any<I>(items: I) -> usize
where
    I: IntoIterator,
    I::Item: Waitable,
{
    any_until(items, None).unwrap_or(0)
}

/// As [`wait_any`], but at most so long.
///
/// # Panics
///
/// If there are no items.
#[track_caller]
pub fn wait_any_timeout<I>(items: I, d: Duration) -> Option<usize>
where
    I: IntoIterator,
    I::Item: Waitable,
{
    any_until(items, Some(hub::after(d)))
}

/// One ticket in every line: whoever uses it first leaves the index of his.
#[track_caller]
fn any_until<I>(items: I, deadline: Option<Instant>) -> Option<usize>
where
    I: IntoIterator,
    I::Item: Waitable,
{
    let items: Vec<_> = items.into_iter().collect();
    assert!(!items.is_empty(), "wait_any on an empty list would wait for ever");
    if let Some(first) = items.iter().position(Waitable::is_ready) {
        return Some(first);
    }
    let mut places = Vec::with_capacity(items.len());
    let result = hub::park(Reason::new(&"wait_any"), deadline, |ticket| {
        places.extend(
            (0_u32..).zip(&items).map(|(n, item)| item.line().push(Waiter::Ticket(ticket, n))),
        );
    });
    for (item, place) in items.iter().zip(places) {
        item.line().remove(place);
    }
    match result {
        Ok(Wake::Ready(index)) => Some(index as usize),
        Ok(Wake::Elapsed) => None,
        Err(interruption) => {
            hub::raise(interruption);
            None
        }
    }
}

/// The indices of the items in the order in which they become ready.
///
/// Those that are ready already come first, in the order of the list. Between two steps the caller
/// may do whatever it likes, waiting included; nothing is missed. Dropping the iterator early
/// leaves no trace in the items. gevent's `iwait`.
///
/// # Examples
///
/// ```
/// use greenloom::{iwait, sleep, spawn};
/// use std::time::Duration;
///
/// let greenlets = [30, 10, 20].map(|ms| spawn(move || sleep(Duration::from_millis(ms))));
/// assert_eq!(iwait(&greenlets).collect::<Vec<_>>(), [1, 2, 0]);
/// ```
pub fn iwait<I>(items: I) -> Iwait<I::Item>
where
    I: IntoIterator,
    I::Item: Waitable,
{
    let items: Vec<_> = items.into_iter().collect();
    let bell = Rc::new(Bell::default());
    let places = items.iter().enumerate().map(|(index, item)| {
        if item.is_ready() {
            bell.ring(index);
            None
        } else {
            Some(item.line().push(Waiter::Bell(Rc::clone(&bell), index)))
        }
    });
    let places: Vec<_> = places.collect();
    Iwait { left: items.len(), items, places, bell }
}

/// What [`iwait`] returns.
pub struct Iwait<W: Waitable> {
    items: Vec<W>,
    places: Vec<Option<LineKey>>,
    bell: Rc<Bell>,
    left: usize,
}

impl<W: Waitable> Iterator for Iwait<W> {
    type Item = usize;

    /// Ends at once while the caller unwinds.
    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        match self.bell.next(Reason::new(&"iwait")) {
            Ok(index) => {
                self.left -= 1;
                self.places[index] = None;
                Some(index)
            }
            Err(interruption) => {
                hub::raise(interruption);
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<W: Waitable> Drop for Iwait<W> {
    fn drop(&mut self) {
        for (item, place) in self.items.iter().zip(&self.places) {
            if let Some(place) = place {
                item.line().remove(*place);
            }
        }
    }
}

impl<W: Waitable> fmt::Debug for Iwait<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iwait").field("items", &self.items.len()).field("left", &self.left).finish()
    }
}
