//! Deadlines in exact order: a heap with four children a node.
//!
//! It is told where each entry stands, and passes that on, so that any can be taken out at once.
//! Entries of 16 bytes: four children lie in one cache line or two, and the heap is half as deep as
//! a binary one.

/// Children of a node.
const CHILDREN: usize = 4;

/// Deadlines, each with the slot of its timer.
#[derive(Debug, Default)]
pub(super) struct Heap {
    entries: Vec<Entry>,
    /// The order of the next entry.
    order: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    /// Tells equal deadlines apart: those that came earlier come first.
    order: u32,
    slot: u32,
}

impl Entry {
    #[inline]
    fn before(&self, other: &Entry) -> bool {
        // As one number each, so that the compiler compares without jumps.
        self.rank() < other.rank()
    }

    #[inline]
    fn rank(&self) -> u128 {
        u128::from(self.at) << 32 | u128::from(self.order)
    }
}

impl Heap {
    #[inline]
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.at)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a deadline. `note` is told of each slot where it stands now.
    #[inline]
    pub(super) fn push(&mut self, at: u64, slot: u32, mut note: impl FnMut(u32, u32)) {
        if self.entries.is_empty() {
            self.order = 0;
        } else if self.order == u32::MAX {
            self.number_anew(&mut note);
        }
        let entry = Entry { at, order: self.order, slot };
        self.order += 1;
        self.entries.push(entry);
        self.rise(self.entries.len() - 1, entry, &mut note);
    }

    /// Takes the first out.
    #[inline]
    pub(super) fn pop(&mut self, mut note: impl FnMut(u32, u32)) -> Option<u32> {
        let slot = self.entries.first()?.slot;
        self.fill(0, &mut note);
        Some(slot)
    }

    /// Takes the one out that stands there.
    #[inline]
    pub(super) fn remove(&mut self, place: u32, mut note: impl FnMut(u32, u32)) {
        self.fill(place as usize, &mut note);
    }

    /// The last entry fills the hole that is left at `place`.
    #[inline]
    fn fill(&mut self, place: usize, note: &mut impl FnMut(u32, u32)) {
        let Some(last) = self.entries.pop() else { return };
        if place == self.entries.len() {
            return;
        }
        // It may belong further up or further down.
        if place > 0 && last.before(&self.entries[(place - 1) / CHILDREN]) {
            self.rise(place, last, note);
        } else {
            self.sink(place, last, note);
        }
    }

    /// Those in the way are moved down, and `entry` is written where it belongs.
    #[inline]
    fn rise(&mut self, mut place: usize, entry: Entry, note: &mut impl FnMut(u32, u32)) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            let above = self.entries[parent];
            if !entry.before(&above) {
                break;
            }
            self.put(place, above, note);
            place = parent;
        }
        self.put(place, entry, note);
    }

    #[inline]
    fn sink(&mut self, mut place: usize, entry: Entry, note: &mut impl FnMut(u32, u32)) {
        loop {
            let first = place * CHILDREN + 1;
            let end = (first + CHILDREN).min(self.entries.len());
            let Some(children) = self.entries.get(first..end) else { break };
            let mut least = entry;
            let mut at = place;
            for (n, child) in children.iter().enumerate() {
                if child.before(&least) {
                    (least, at) = (*child, first + n);
                }
            }
            if at == place {
                break;
            }
            self.put(place, least, note);
            place = at;
        }
        self.put(place, entry, note);
    }

    #[inline]
    fn put(&mut self, place: usize, entry: Entry, note: &mut impl FnMut(u32, u32)) {
        self.entries[place] = entry;
        note(entry.slot, place as u32);
    }

    /// Once in four thousand million entries, if it never was empty meanwhile.
    #[cold]
    fn number_anew(&mut self, note: &mut impl FnMut(u32, u32)) {
        self.entries.sort_unstable_by_key(Entry::rank); // what is sorted is a heap, too
        for place in 0..self.entries.len() {
            let entry = Entry { order: place as u32, ..self.entries[place] };
            self.put(place, entry, note);
        }
        self.order = self.entries.len() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places by slot, as the heap has told them.
    fn note(places: &mut [u32]) -> impl FnMut(u32, u32) {
        |slot, place| places[slot as usize] = place
    }

    fn drain(heap: &mut Heap, places: &mut [u32]) -> Vec<u32> {
        std::iter::from_fn(|| heap.pop(note(places))).collect()
    }

    #[test]
    fn smoke() {
        let (mut heap, mut places) = (Heap::default(), [0; 100]);
        for slot in 0..100_u32 {
            heap.push(u64::from(slot * 37 % 100 / 2), slot, note(&mut places));
        }
        for gone in [50, 99, 0, 1] {
            heap.remove(places[gone], note(&mut places));
        }
        let mut sorted: Vec<_> = (0..100).filter(|slot| ![50, 99, 0, 1].contains(slot)).collect();
        sorted.sort_by_key(|slot| slot * 37 % 100 / 2);
        assert_eq!(drain(&mut heap, &mut places), sorted);
        assert!(heap.is_empty());
    }

    #[test]
    fn the_order_of_equals_outlives_its_numbers() {
        let (mut heap, mut places) = (Heap::default(), [0; 50]);
        heap.push(0, 0, note(&mut places));
        heap.order = u32::MAX - 20;
        for slot in 1..50 {
            heap.push(1, slot, note(&mut places));
        }
        heap.remove(places[30], note(&mut places));
        let sorted: Vec<_> = (0..50).filter(|slot| *slot != 30).collect();
        assert_eq!(drain(&mut heap, &mut places), sorted);
    }
}
