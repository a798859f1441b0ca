//! In which order items leave.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;

/// In which order the items of a [`Queue`](super::Queue) leave it: [`Fifo`], [`Lifo`] or
/// [`Priority`]. The trait is sealed.
pub trait Order<T>: sealed::Arrange<T> {}

/// First in, first out.
#[derive(Clone, Copy, Debug)]
pub struct Fifo;

/// Last in, first out.
#[derive(Clone, Copy, Debug)]
pub struct Lifo;

/// Smallest first; equals in order of arrival.
#[derive(Clone, Copy, Debug)]
pub struct Priority;

impl<T> Order<T> for Fifo {}
impl<T> Order<T> for Lifo {}
impl<T: Ord> Order<T> for Priority {}

/// What lies in a queue: two containers, of which an order uses one. So a queue need not know its
/// order to be cloned, measured or dropped, and `Queue<T, O>` bounds neither.
pub struct Items<T> {
    line: VecDeque<T>,
    /// Made by the first `put`, which knows how to compare.
    heap: Option<BinaryHeap<Reverse<Ranked<T>>>>,
    /// How many have been put into the heap.
    arrived: u64,
}

impl<T> Items<T> {
    pub(super) fn new() -> Items<T> {
        Items { line: VecDeque::new(), heap: None, arrived: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.line.len() + self.heap.as_ref().map_or(0, BinaryHeap::len)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Items").field(&self.len()).finish()
    }
}

/// An item and when it came.
struct Ranked<T> {
    item: T,
    arrival: u64,
}

impl<T: Ord> Ord for Ranked<T> {
    fn cmp(&self, other: &Ranked<T>) -> Ordering {
        self.item.cmp(&other.item).then(self.arrival.cmp(&other.arrival))
    }
}

impl<T: Ord> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Ranked<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Ranked<T> {
    fn eq(&self, other: &Ranked<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: Ord> Eq for Ranked<T> {}

/// Taken out to be looked at, with what it takes to put it back where it was.
pub struct Lent<T> {
    pub(super) item: T,
    place: u64,
}

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

pub(super) mod sealed {
    use super::{Items, Lent};

    /// What an order does to a container.
    pub trait Arrange<T> {
        fn put(items: &mut Items<T>, item: T);
        fn take(items: &mut Items<T>) -> Option<T>;
        /// The item that `take` would return, until it is put back.
        fn lend(items: &mut Items<T>) -> Option<Lent<T>>;
        fn put_back(items: &mut Items<T>, lent: Lent<T>);
    }
}

use sealed::Arrange;

impl<T> Arrange<T> for Fifo {
    #[inline]
    fn put(items: &mut Items<T>, item: T) {
        items.line.push_back(item);
    }

    #[inline]
    fn take(items: &mut Items<T>) -> Option<T> {
        items.line.pop_front()
    }

    fn lend(items: &mut Items<T>) -> Option<Lent<T>> {
        items.line.pop_front().map(|item| Lent { item, place: 0 })
    }

    fn put_back(items: &mut Items<T>, lent: Lent<T>) {
        items.line.push_front(lent.item);
    }
}

impl<T> Arrange<T> for Lifo {
    fn put(items: &mut Items<T>, item: T) {
        items.line.push_back(item);
    }

    fn take(items: &mut Items<T>) -> Option<T> {
        items.line.pop_back()
    }

    fn lend(items: &mut Items<T>) -> Option<Lent<T>> {
        let item = items.line.pop_back()?;
        Some(Lent { item, place: items.line.len() as u64 })
    }

    /// Below what has come since.
    fn put_back(items: &mut Items<T>, lent: Lent<T>) {
        let place = items.line.len().min(lent.place as usize);
        items.line.insert(place, lent.item);
    }
}

impl<T: Ord> Arrange<T> for Priority {
    fn put(items: &mut Items<T>, item: T) {
        items.arrived += 1;
        let heap = items.heap.get_or_insert_with(BinaryHeap::new);
        heap.push(Reverse(Ranked { item, arrival: items.arrived }));
    }

    fn take(items: &mut Items<T>) -> Option<T> {
        items.heap.as_mut()?.pop().map(|Reverse(ranked)| ranked.item)
    }

    fn lend(items: &mut Items<T>) -> Option<Lent<T>> {
        let Reverse(Ranked { item, arrival }) = items.heap.as_mut()?.pop()?;
        Some(Lent { item, place: arrival })
    }

    fn put_back(items: &mut Items<T>, lent: Lent<T>) {
        let heap = items.heap.get_or_insert_with(BinaryHeap::new);
        heap.push(Reverse(Ranked { item: lent.item, arrival: lent.place }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain<T, O: Order<T>>(put: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items = Items::new();
        put.into_iter().for_each(|item| O::put(&mut items, item));
        std::iter::from_fn(|| O::take(&mut items)).collect()
    }

    #[test]
    fn smoke() {
        assert_eq!(drain::<_, Fifo>([2, 1, 3]), [2, 1, 3]);
        assert_eq!(drain::<_, Lifo>([2, 1, 3]), [3, 1, 2]);
        assert_eq!(drain::<_, Priority>([2, 1, 3]), [1, 2, 3]);
    }

    #[derive(PartialEq, Eq, Debug)]
    struct Job(u32, &'static str);

    impl Ord for Job {
        fn cmp(&self, other: &Job) -> Ordering {
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Job {
        fn partial_cmp(&self, other: &Job) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    #[test]
    fn equals_leave_in_order_of_arrival() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let left = drain::<_, Priority>(names.map(|name| Job(1, name)));
        assert_eq!(left.iter().map(|job| job.1).collect::<Vec<_>>(), names);
    }

    #[test]
    fn what_was_lent_goes_back_to_its_place() {
        fn check<O: Order<u32>>() {
            let mut items = Items::new();
            [5, 5, 7].into_iter().for_each(|item| O::put(&mut items, item));
            let lent = O::lend(&mut items).unwrap();
            let first = lent.item;
            O::put(&mut items, first);
            O::put_back(&mut items, lent);
            assert_eq!(items.len(), 4);
        }
        check::<Fifo>();
        check::<Priority>();

        let mut items = Items::new();
        for name in ["first", "second"] {
            Priority::put(&mut items, Job(1, name));
        }
        let lent = Priority::lend(&mut items).unwrap();
        Priority::put_back(&mut items, lent);
        assert_eq!(Priority::take(&mut items).unwrap().1, "first");
    }
}
