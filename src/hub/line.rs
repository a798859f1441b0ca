//! A line of waiters: first come, first served, and anybody may leave from the middle.
//!
//! Pure data. Joining, leaving and serving cost O(1) whatever the length, because a million may
//! stand in one line and be killed in any order. The first in line stands in the struct itself: most
//! lines never have a second, and so never allocate.

use slab::Slab;

const NOBODY: u32 = u32::MAX;

/// Waiters in order of arrival.
#[derive(Debug)]
pub(crate) struct Line<T> {
    first: Option<Place<T>>,
    others: Option<Box<Others<T>>>,
    stamp: u32,
}

/// A place in a line, to leave it by. Void once its holder was served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineKey {
    stamp: u32,
    at: u32,
}

#[derive(Debug)]
struct Place<T> {
    stamp: u32,
    waiter: T,
}

/// The second and later ones, linked in order.
#[derive(Debug)]
struct Others<T> {
    places: Slab<Linked<T>>,
    front: u32,
    back: u32,
}

#[derive(Debug)]
struct Linked<T> {
    place: Place<T>,
    ahead: u32,
    behind: u32,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { first: None, others: None, stamp: 0 }
    }
}

impl<T> Line<T> {
    /// Joins at the end.
    #[inline]
    pub(crate) fn push(&mut self, waiter: T) -> LineKey {
        self.push_with(|| waiter)
    }

    /// As [`push`](Line::push). The waiter is made where he is to stand: what is written in parts and
    /// then moved as a whole stalls the processor.
    #[inline(always)]
    pub(crate) fn push_with(&mut self, waiter: impl FnOnce() -> T) -> LineKey {
        let stamp = self.stamp.wrapping_add(1);
        self.stamp = stamp;
        if self.first.is_none() {
            self.first = Some(Place { stamp, waiter: waiter() });
            return LineKey { stamp, at: NOBODY };
        }
        self.push_behind(stamp, waiter())
    }

    #[inline(never)]
    fn push_behind(&mut self, stamp: u32, waiter: T) -> LineKey {
        let place = Place { stamp, waiter };
        let at = self.others.get_or_insert_with(Box::default).push(place);
        LineKey { stamp, at }
    }

    /// The first in line, who stays there.
    pub(crate) fn first(&self) -> Option<&T> {
        self.first.as_ref().map(|place| &place.waiter)
    }

    /// The first in line leaves.
    #[inline(always)]
    pub(crate) fn drop_first(&mut self) {
        if self.has_one() {
            self.first = None;
        } else {
            drop(self.pop());
        }
    }

    /// Does nobody stand behind the first? (The box of the others stays when they are gone.)
    #[inline(always)]
    fn has_one(&self) -> bool {
        self.others.as_ref().is_none_or(|others| others.front == NOBODY)
    }

    /// The first in line, who leaves.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let served = self.first.take()?;
        self.first = self.others.as_mut().and_then(|others| others.remove(others.front));
        Some(served.waiter)
    }

    /// Leaves the line; `None` if already served.
    #[inline]
    pub(crate) fn remove(&mut self, key: LineKey) -> Option<T> {
        let is_first = self.first.as_ref().is_some_and(|place| place.stamp == key.stamp);
        if is_first && self.has_one() {
            return self.first.take().map(|place| place.waiter);
        }
        self.remove_among(is_first, key)
    }

    #[inline(never)]
    fn remove_among(&mut self, is_first: bool, key: LineKey) -> Option<T> {
        if is_first {
            return self.pop();
        }
        let others = self.others.as_mut()?;
        let there = others.places.get(key.at as usize);
        let here = there.is_some_and(|linked| linked.place.stamp == key.stamp);
        if here { others.remove(key.at).map(|place| place.waiter) } else { None }
    }

    /// Whoever stands at that place.
    pub(crate) fn get_mut(&mut self, key: LineKey) -> Option<&mut T> {
        match &mut self.first {
            Some(place) if place.stamp == key.stamp => Some(&mut place.waiter),
            _ => {
                let linked = self.others.as_mut()?.places.get_mut(key.at as usize)?;
                (linked.place.stamp == key.stamp).then_some(&mut linked.place.waiter)
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Everybody, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut at = self.others.as_ref().map_or(NOBODY, |others| others.front);
        let behind = std::iter::from_fn(move || {
            let linked = self.others.as_ref()?.places.get(at as usize)?;
            at = linked.behind;
            Some(&linked.place.waiter)
        });
        self.first().into_iter().chain(behind)
    }
}

impl<T> Default for Others<T> {
    fn default() -> Others<T> {
        Others { places: Slab::new(), front: NOBODY, back: NOBODY }
    }
}

impl<T> Others<T> {
    fn push(&mut self, place: Place<T>) -> u32 {
        let at = self.places.insert(Linked { place, ahead: self.back, behind: NOBODY }) as u32;
        match self.places.get_mut(self.back as usize) {
            Some(back) => back.behind = at,
            None => self.front = at,
        }
        self.back = at;
        at
    }

    fn remove(&mut self, at: u32) -> Option<Place<T>> {
        let Linked { place, ahead, behind } = self.places.try_remove(at as usize)?;
        match self.places.get_mut(ahead as usize) {
            Some(ahead) => ahead.behind = behind,
            None => self.front = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(behind) => behind.ahead = ahead,
            None => self.back = ahead,
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(line: &mut Line<u32>) -> Vec<u32> {
        let seen: Vec<_> = line.iter().copied().collect();
        let served: Vec<_> = pop_all(line);
        assert_eq!(seen, served);
        served
    }

    fn pop_all(line: &mut Line<u32>) -> Vec<u32> {
        std::iter::from_fn(|| line.pop()).collect()
    }

    #[test]
    fn smoke() {
        let mut line = Line::default();
        for n in 0..4 {
            line.push(n);
        }
        assert_eq!(line.first(), Some(&0));
        assert_eq!(drain(&mut line), [0, 1, 2, 3]);
        assert!(line.is_empty());
    }

    #[test]
    fn anybody_may_leave_whom_nobody_has_served() {
        for leaver in 0..5 {
            let mut line = Line::default();
            let keys: Vec<_> = (0..5).map(|n| line.push(n)).collect();
            assert_eq!(line.remove(keys[leaver]), Some(leaver as u32));
            assert_eq!(line.remove(keys[leaver]), None, "left already");
            let rest: Vec<_> = (0..5).filter(|n| *n != leaver as u32).collect();
            assert_eq!(drain(&mut line), rest);
        }
    }

    #[test]
    fn a_key_stays_good_when_its_holder_moves_up() {
        let mut line = Line::default();
        let keys: Vec<_> = (0..3).map(|n| line.push(n)).collect();
        line.pop();
        *line.get_mut(keys[1]).unwrap() = 10;
        *line.get_mut(keys[2]).unwrap() = 20;
        assert!(line.get_mut(keys[0]).is_none());
        assert_eq!(drain(&mut line), [10, 20]);
    }

    #[test]
    fn an_old_key_does_not_name_a_newcomer() {
        let mut line = Line::default();
        line.push(0);
        let old = line.push(1);
        line.pop();
        line.pop();
        line.push(2);
        line.push(3); // takes the slot that 1 had
        assert_eq!(line.remove(old), None);
        assert_eq!(drain(&mut line), [2, 3]);
    }
}
