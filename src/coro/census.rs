//! How deep the stacks were used, by who used them: the books of the census.
//!
//! Nothing is painted. While a census is on, every stack that is leased has no memory but zeros, so
//! whatever is not zero when its coroutine has ended was written by that one. See
//! [`Stack::depth`](super::Stack::depth) for how the mark is read.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;

use super::size::StackSize;

/// Marks are kept in steps of so many bytes, so that a site has some hundred of them at the most,
/// and all but the deepest are told as the upper end of their step.
const STEP: usize = 64;

/// Who has used a stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// Where it was spawned.
    pub(crate) site: &'static Location<'static>,
    /// Coroutines are numbered as they are made.
    pub(crate) number: u64,
}

/// What is known of the stacks of one spawn site, of one size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) ended: usize,
    pub(crate) alive: usize,
    /// In bytes.
    pub(crate) deepest: usize,
    /// How many came to lie within a step.
    steps: BTreeMap<usize, usize>,
}

impl Marks {
    fn note(&mut self, depth: usize) {
        self.deepest = self.deepest.max(depth);
        *self.steps.entry(depth.div_ceil(STEP)).or_default() += 1;
    }

    /// Half of them went no deeper than this, in bytes. Nought if there are none.
    pub(crate) fn median(&self) -> usize {
        let half = self.steps.values().sum::<usize>().div_ceil(2);
        let mut seen = 0;
        let reaches_half = |(_, count): &(&usize, &usize)| {
            seen += **count;
            seen >= half
        };
        let step = self.steps.iter().find(reaches_half).map_or(0, |(step, _)| *step);
        (step * STEP).min(self.deepest)
    }
}

/// Marks by spawn site and size of stack.
#[derive(Clone, Debug)]
pub(crate) struct Census {
    /// The number of the last coroutine that was made before it began. Of their stacks nobody knows
    /// whose marks they bear.
    since: u64,
    /// How many want it to go on.
    pub(super) holders: usize,
    sites: HashMap<(&'static Location<'static>, StackSize), Marks>,
}

impl Census {
    pub(super) fn new(since: u64) -> Census {
        Census { since, holders: 1, sites: HashMap::new() }
    }

    /// Is that one made since it began?
    pub(crate) fn counts(&self, owner: Owner) -> bool {
        owner.number > self.since
    }

    pub(super) fn note_ended(&mut self, owner: Owner, size: StackSize, depth: usize) {
        let marks = self.marks(owner, size);
        marks.ended += 1;
        marks.note(depth);
    }

    /// To be called on a copy, because it may go deeper yet. No depth: it has not begun.
    pub(crate) fn note_alive(&mut self, owner: Owner, size: StackSize, depth: Option<usize>) {
        let marks = self.marks(owner, size);
        marks.alive += 1;
        if let Some(depth) = depth {
            marks.note(depth);
        }
    }

    fn marks(&mut self, owner: Owner, size: StackSize) -> &mut Marks {
        self.sites.entry((owner.site, size)).or_default()
    }

    /// All of it, in no order.
    pub(crate) fn into_sites(
        self,
    ) -> impl Iterator<Item = (&'static Location<'static>, StackSize, Marks)> {
        self.sites.into_iter().map(|((site, size), marks)| (site, size, marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let mut census = Census::new(7);
        let site = Location::caller();
        assert!(!census.counts(Owner { site, number: 7 }));
        let owner = Owner { site, number: 8 };
        assert!(census.counts(owner));
        census.note_ended(owner, StackSize::DEFAULT, 1000);
        census.note_alive(owner, StackSize::DEFAULT, Some(100));
        census.note_alive(owner, StackSize::DEFAULT, None);
        let sites: Vec<_> = census.into_sites().collect();
        let [(at, size, marks)] = &sites[..] else { panic!("{sites:?}") };
        assert_eq!((*at, *size), (site, StackSize::DEFAULT));
        assert_eq!((marks.ended, marks.alive, marks.deepest), (1, 2, 1000));
    }

    #[test]
    fn a_median_is_in_the_middle() {
        let median = |depths: &[usize]| {
            let mut marks = Marks::default();
            depths.iter().for_each(|depth| marks.note(*depth));
            marks.median()
        };
        assert_eq!(median(&[]), 0);
        assert_eq!(median(&[0]), 0);
        assert_eq!(median(&[700]), 700, "never beyond the deepest");
        assert_eq!(median(&[10, 100, 9000]), 128);
        assert_eq!(median(&[10, 100, 9000, 9000]), 128);
        assert_eq!(median(&[10, 9000, 9000, 9000]), 9000);
    }
}
