//! Waiting for things: one, all, the first, or each as it comes.
//!
//! Whatever can be waited for is [`Waitable`]: it says whether it is ready, and has a [`WaitList`].
//! The functions here are written on that trait, so they take greenlets, and whatever later floors
//! make waitable, in any mixture.

mod limit;
mod list;

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub(crate) use limit::Limit;
pub(crate) use list::{Bell, WaitList, Waiter};

use self::sealed::HasLine as _;
use crate::hub::{self, LineKey, Reason, Wake};

/// Anything one can wait for.
///
/// Greenlets are (ready when they have ended), and what is made of them or runs in them: futures and
/// timers; also jobs on threads, children, signals listened
/// to, and servers (ready when they serve no more). So are events, results, semaphores (ready when a permit is there), queues and the ends of
/// pipes (ready when a `get` need not wait); and references to and boxes of all these, also as
/// `&dyn Waitable`. A lock is not: that it is free now says nothing once others have run.
///
/// Waiting consumes nothing. The trait is sealed.
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

        /// Does it count that somebody was woken, whatever is true by the time he runs? (An event
        /// that was set has been set; an item that was there may be somebody else's by now.)
        #[doc(hidden)]
        fn keeps_its_word(&self) -> bool {
            false
        }
    }

    impl<W: HasLine + ?Sized> HasLine for &W {
        fn line(&self) -> &super::WaitList {
            (**self).line()
        }

        fn keeps_its_word(&self) -> bool {
            (**self).keeps_its_word()
        }
    }

    impl<W: HasLine + ?Sized> HasLine for Box<W> {
        fn line(&self) -> &super::WaitList {
            (**self).line()
        }

        fn keeps_its_word(&self) -> bool {
            (**self).keeps_its_word()
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

/// Is what somebody was woken for still true?
fn is_it(item: &impl Waitable) -> bool {
    item.keeps_its_word() || item.is_ready()
}

/// Counts a call that need not wait; now and then it lets others run. Inside, the caller may be
/// killed or timed out, so nothing is taken before.
#[inline]
#[track_caller]
pub(crate) fn spend() {
    if let Err(interruption) = hub::spend() {
        hub::raise(interruption);
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

/// One after the other: that wakes the caller no more often than waiting for all at once would. But
/// what may be ready for a moment only has to be listened to all along.
#[track_caller]
fn join_until<I>(items: I, deadline: Option<Instant>) -> bool
where
    I: IntoIterator,
    I::Item: Waitable,
{
    let items: Vec<_> = items.into_iter().collect(); // now, because what makes them may start them
    if items.len() > 1 && items.iter().any(sealed::HasLine::keeps_its_word) {
        let (all, mut ends) = (items.len(), iwait(items));
        let ready = std::iter::from_fn(|| ends.next_until(JOIN, deadline)).count();
        return ready == all;
    }
    items.iter().all(|item| wait_until(item, deadline))
}

const JOIN: Reason = Reason::new(&"join");

/// Waits for one; false if `deadline` came first, or if the caller unwinds.
#[track_caller]
fn wait_until(item: &impl Waitable, deadline: Option<Instant>) -> bool {
    while !item.is_ready() {
        match item.line().wait(JOIN, deadline) {
            Ok(Wake::Ready(_)) if item.keeps_its_word() => return true,
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
/// nothing. What it returns is ready when it returns: if somebody else takes the item of a queue
/// before the caller runs, it waits on. (An [`Event`](crate::sync::Event) that was set meanwhile
/// counts, even if it has been cleared since.) While the caller unwinds, it returns 0 at once.
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
///
/// Things of different kinds, as in a `select`:
///
/// ```
/// use greenloom::{Waitable, queue, spawn, sync::Event, wait_any};
///
/// let (jobs, stop) = (queue::unbounded(), Event::new());
/// let (producer, stopper) = (jobs.clone(), stop.clone());
/// spawn(move || producer.put("a job").map(|()| stopper.set()));
/// assert_eq!(wait_any([&jobs as &dyn Waitable, &stop]), 0);
/// assert_eq!(jobs.try_get(), Ok("a job"));
/// assert_eq!(wait_any([&jobs as &dyn Waitable, &stop]), 1);
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
    let mut places = Vec::with_capacity(items.len());
    loop {
        if let Some(first) = items.iter().position(Waitable::is_ready) {
            return Some(first);
        }
        let result = hub::park(Reason::new(&"wait_any"), deadline, |ticket| {
            places.extend(
                (0_u32..).zip(&items).map(|(n, item)| item.line().push(Waiter::Ticket(ticket, n))),
            );
        });
        for (item, place) in items.iter().zip(places.drain(..)) {
            item.line().remove(place);
        }
        match result {
            Ok(Wake::Ready(index)) if is_it(&items[index as usize]) => return Some(index as usize),
            Ok(Wake::Ready(_)) => {}
            Ok(Wake::Elapsed) => return items.iter().position(Waitable::is_ready),
            Err(interruption) => {
                hub::raise(interruption);
                return None;
            }
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
    let left = items.len();
    let mut iwait = Iwait { items, places: vec![None; left], bell: Rc::default(), left };
    for index in 0..left {
        if iwait.items[index].is_ready() {
            iwait.bell.ring(index);
        } else {
            iwait.places[index] = Some(iwait.listen(index));
        }
    }
    iwait
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
        self.next_until(Reason::new(&"iwait"), None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<W: Waitable> Iwait<W> {
    /// As `next`; `None` also if `deadline` came first.
    #[track_caller]
    pub(crate) fn next_until(
        &mut self,
        reason: Reason,
        deadline: Option<Instant>,
    ) -> Option<usize> {
        while self.left > 0 {
            match self.bell.next(reason, deadline) {
                Ok(Some(index)) if is_it(&self.items[index]) => {
                    self.left -= 1;
                    self.places[index] = None;
                    return Some(index);
                }
                Ok(Some(index)) => self.places[index] = Some(self.listen(index)),
                Ok(None) => return None,
                Err(interruption) => {
                    hub::raise(interruption);
                    return None;
                }
            }
        }
        None
    }

    pub(crate) fn items(&self) -> &[W] {
        &self.items
    }

    fn listen(&self, index: usize) -> LineKey {
        self.items[index].line().push(Waiter::Bell(Rc::clone(&self.bell), index))
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
