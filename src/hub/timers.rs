//! Deadlines in order.
//!
//! Pure, generic, and without a clock: time is an argument. A heap with four children a node, which
//! knows where each entry stands, so that cancelling takes it out at once: most timers are timeouts
//! of work that succeeds, and a heap full of cancelled ones would only grow.
//!
//! Equal deadlines fire in the order in which they were set.

use std::time::Instant;

use slab::Slab;

/// Children of a node. Four lie in two cache lines, and the heap is half as deep as a binary one.
const CHILDREN: usize = 4;

/// Deadlines, each with a value.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: Vec<Entry>,
    slots: Slab<Slot<T>>,
    set: u64,
}

/// A deadline, to cancel it by. Void once it has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    /// Tells a slot's users apart: the low half of `order`.
    stamp: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    /// Tells equal deadlines apart: the count of timers set before.
    order: u64,
    slot: u32,
}

impl Entry {
    #[inline]
    fn before(&self, other: &Entry) -> bool {
        (self.at, self.order) < (other.at, other.order)
    }
}

#[derive(Debug)]
struct Slot<T> {
    place: u32,
    stamp: u32,
    value: T,
}

impl<T> Timers<T> {
    /// There is no deadline yet, and the time is `_now`.
    pub(crate) fn new(_now: Instant) -> Timers<T> {
        Timers { heap: Vec::new(), slots: Slab::new(), set: 0 }
    }

    pub(crate) fn insert(&mut self, at: Instant, value: T) -> TimerKey {
        let order = self.set;
        self.set += 1;
        let (place, stamp) = (self.heap.len(), order as u32);
        let slot = self.slots.insert(Slot { place: place as u32, stamp, value }) as u32;
        self.heap.push(Entry { at, order, slot });
        self.rise(place);
        TimerKey { slot, stamp }
    }

    /// The value, if it had not fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.stamp != key.stamp {
            return None;
        }
        Some(self.take(slot.place as usize))
    }

    pub(crate) fn contains(&self, key: TimerKey) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.stamp == key.stamp)
    }

    /// The earliest whose deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next_deadline()? > now { None } else { Some(self.take(0)) }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn take(&mut self, place: usize) -> T {
        let slot = self.heap.swap_remove(place).slot;
        if place < self.heap.len() {
            self.note(place);
            // The one that came from the end may belong further up or further down.
            self.sink(place);
            self.rise(place);
        }
        self.slots.remove(slot as usize).value
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if !self.heap[place].before(&self.heap[parent]) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let first = place * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) =
                children.reduce(|a, b| if self.heap[b].before(&self.heap[a]) { b } else { a })
            else {
                break;
            };
            if !self.heap[least].before(&self.heap[place]) {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, place: usize) {
        let slot = self.heap[place].slot as usize;
        self.slots[slot].place = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn start<T>() -> (Instant, Timers<T>) {
        let t0 = Instant::now();
        (t0, Timers::new(t0))
    }

    #[test]
    fn smoke() {
        let (t0, mut timers) = start();
        let late = timers.insert(t0 + ms(20), "late");
        timers.insert(t0 + ms(10), "early");
        assert_eq!(timers.next_deadline(), Some(t0 + ms(10)));
        assert_eq!(timers.cancel(late), Some("late"));
        assert_eq!(timers.cancel(late), None);
        assert_eq!(timers.pop_due(t0 + ms(9)), None);
        assert_eq!(timers.pop_due(t0 + ms(10)), Some("early"));
        assert_eq!(timers.pop_due(t0 + ms(30)), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set() {
        let (t0, mut timers) = start();
        for n in 0..1000 {
            timers.insert(t0, n);
        }
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(t0)).collect();
        assert_eq!(fired, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_old_key_does_not_name_a_newcomer() {
        let (t0, mut timers) = start();
        let old = timers.insert(t0, 1);
        timers.pop_due(t0);
        let new = timers.insert(t0, 2);
        assert!(!timers.contains(old) && timers.contains(new));
        assert_eq!(timers.cancel(old), None);
        assert_eq!(timers.pop_due(t0), Some(2));
    }

    #[test]
    fn any_mix_of_inserts_and_cancels_fires_in_order() {
        let (t0, mut timers) = start();
        let mut seed = 7_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        let mut keys = Vec::new();
        let mut live = 0;
        for _ in 0..10_000 {
            if random() % 3 == 0 && !keys.is_empty() {
                let key = keys.swap_remove(random() as usize % keys.len());
                live -= usize::from(timers.cancel(key).is_some());
            } else {
                let at = random() % 500;
                keys.push(timers.insert(t0 + ms(at), at));
                live += 1;
            }
        }
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(t0 + ms(500))).collect();
        assert_eq!(fired.len(), live);
        assert!(fired.is_sorted());
    }
}
