//! Who runs next.
//!
//! A plain first-in first-out queue, with one exception: an explicit switch names who runs *next*,
//! before everybody else. Two who switch to each other for ever would starve the rest, so after
//! [`STREAK`] such turns in a row the queue gets one.
//!
//! And where a multitude is ready, whoever is woken by an event or a timer has a queue of his own,
//! which gets three of four turns: a million who have just been spawned would else let those who are
//! due wait until the last of them has begun.

use std::collections::VecDeque;

use super::ticket::TaskId;

/// Turns in a row that may be given out of order.
const STREAK: u32 = 64;

/// With so many ready, those who are due need not queue behind all of them.
const MULTITUDE: usize = 4096;

/// Turns in a row that those who are due get then. More than one, or they would never catch up with
/// those who begin at the same rate as others become due.
const DUE_TURNS: u32 = 3;

/// Tasks that could run now.
#[derive(Debug, Default)]
pub(crate) struct RunQueue {
    queue: Ring,
    next: VecDeque<TaskId>,
    /// Turns of those named next since the queue had one, which was its so many-th.
    streak: u32,
    streak_since: usize,
    due: VecDeque<TaskId>,
    /// Those who become due in the present look go there.
    has_lane: bool,
    /// Who became due before there was a multitude is in the ring, up to this count. The others go
    /// behind him.
    due_in_ring: usize,
    /// Turns of those who are due, since the queue had one.
    due_turns: u32,
    #[cfg(hard_switch)]
    dice: super::dice::Dice,
}

/// A queue in a ring of a power of two, where a place is one mask away: every switch goes through
/// it. (`VecDeque`, of any capacity, takes twice the instructions.)
#[derive(Debug, Default)]
struct Ring {
    places: Box<[TaskId]>,
    /// Counts of all that were ever taken out and put in.
    front: usize,
    back: usize,
}

impl Ring {
    /// Where the one of that count is.
    #[inline]
    fn place(&self, count: usize) -> usize {
        count & self.places.len().wrapping_sub(1)
    }

    #[inline(always)]
    fn push(&mut self, task: TaskId) {
        if self.len() == self.places.len() {
            self.grow();
        }
        let place = self.place(self.back);
        self.places[place] = task;
        self.back = self.back.wrapping_add(1);
    }

    #[inline]
    fn pop(&mut self) -> Option<TaskId> {
        if self.is_empty() {
            return None;
        }
        let task = self.places[self.place(self.front)];
        self.front = self.front.wrapping_add(1);
        Some(task)
    }

    #[cold]
    fn grow(&mut self) {
        let tasks = (0..self.len()).map(|n| self.places[self.place(self.front.wrapping_add(n))]);
        let room = (self.places.len() * 2).max(16);
        let mut places: Vec<_> = tasks.collect();
        let len = places.len();
        places.resize(room, TaskId::NOBODY);
        let (front, back) = (self.front, self.front.wrapping_add(len));
        let room = places.len();
        // Counts go on, because others remember them; so everybody has another place.
        places.rotate_right(front & (room - 1));
        *self = Ring { places: places.into(), front, back };
    }

    /// Takes out the one that came last, if that is it.
    fn forget_last(&mut self, task: TaskId) {
        let last = self.back.wrapping_sub(1);
        if !self.is_empty() && self.places[self.place(last)] == task {
            self.back = last;
        }
    }

    #[cfg(hard_switch)]
    fn swap_first(&mut self, other: usize) {
        let (first, other) = (self.place(self.front), self.place(self.front.wrapping_add(other)));
        self.places.swap(first, other);
    }

    #[inline]
    fn len(&self) -> usize {
        self.back.wrapping_sub(self.front)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.front == self.back
    }
}

impl RunQueue {
    #[inline]
    pub(crate) fn push(&mut self, task: TaskId) {
        self.queue.push(task);
    }

    /// Takes out a task that is dead, if that is easily done: one that was killed as soon as it was
    /// spawned, again and again by somebody who never waits, is not to fill the queue.
    pub(crate) fn forget_last(&mut self, task: TaskId) {
        self.queue.forget_last(task);
    }

    /// Before everybody in the queue, and behind those who were named next earlier.
    pub(crate) fn push_next(&mut self, task: TaskId) {
        self.next.push_back(task);
    }

    /// A look at events and timers begins.
    pub(crate) fn begin_look(&mut self) {
        self.has_lane = self.queue.len() > MULTITUDE || !self.due.is_empty();
    }

    /// For who is woken in it.
    #[inline(always)]
    pub(crate) fn push_due(&mut self, task: TaskId) {
        if self.has_lane { self.due.push_back(task) } else { self.queue.push(task) }
    }

    pub(crate) fn end_look(&mut self) {
        if !self.has_lane {
            self.due_in_ring = self.queue.back;
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TaskId> {
        if !self.next.is_empty() || !self.due.is_empty() {
            return self.pop_among();
        }
        self.shuffle();
        self.queue.pop()
    }

    #[inline(never)]
    fn pop_among(&mut self) -> Option<TaskId> {
        let others = !self.queue.is_empty() || !self.due.is_empty();
        if !self.next.is_empty() {
            if self.streak_since != self.queue.front {
                (self.streak, self.streak_since) = (0, self.queue.front);
            }
            self.streak += 1;
            if self.streak <= STREAK || !others {
                return self.next.pop_front();
            }
        }
        self.streak = 0;
        let is_their_turn = self.due_turns < DUE_TURNS && self.queue.front >= self.due_in_ring;
        if is_their_turn || self.queue.is_empty() {
            if let Some(due) = self.due.pop_front() {
                self.due_turns += 1;
                return Some(due);
            }
        }
        self.due_turns = 0;
        self.shuffle();
        self.queue.pop()
    }

    /// With `--cfg hard_switch` nobody can rely on an order that is not promised.
    #[inline]
    fn shuffle(&mut self) {
        #[cfg(hard_switch)]
        if self.queue.len() > 1 {
            let lucky = self.dice.below(self.queue.len().min(3));
            self.queue.swap_first(lucky);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.next.is_empty() && self.due.is_empty()
    }

    /// Does somebody wait who has so many before him?
    pub(crate) fn is_longer_than(&self, turns: usize) -> bool {
        self.queue.len() + self.due.len() > turns
    }

    /// Whose turn is about so many turns away, if nobody is named next meanwhile.
    #[inline(always)]
    pub(crate) fn ahead(&self, turns: usize) -> Option<TaskId> {
        if !self.due.is_empty() {
            return self.due.get(turns).copied();
        }
        if turns >= self.queue.len() {
            return None;
        }
        self.queue.places.get(self.queue.place(self.queue.front.wrapping_add(turns))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slot: u32) -> TaskId {
        TaskId::new(slot, 0)
    }

    fn look(run: &mut RunQueue, due: std::ops::Range<u32>) {
        run.begin_look();
        due.for_each(|slot| run.push_due(task(slot)));
        run.end_look();
    }

    #[cfg(not(hard_switch))]
    #[test]
    fn smoke() {
        let mut run = RunQueue::default();
        run.push(task(1));
        run.push(task(2));
        run.push_next(task(3));
        run.push_next(task(4));
        let order: Vec<_> = std::iter::from_fn(|| run.pop()).collect();
        assert_eq!(order, [task(3), task(4), task(1), task(2)]);
        assert!(run.is_empty());
    }

    #[test]
    fn those_named_next_cannot_starve_the_queue() {
        let mut run = RunQueue::default();
        run.push(task(1));
        for turn in 0..=STREAK {
            run.push_next(task(2));
            let expected = if turn < STREAK { 2 } else { 1 };
            assert_eq!(run.pop(), Some(task(expected)), "turn {turn}");
        }
    }

    #[test]
    fn those_who_are_due_queue_with_the_others_unless_these_are_a_multitude() {
        let mut run = RunQueue::default();
        run.push(task(1));
        look(&mut run, 2..3);
        run.push(task(3));
        #[cfg(not(hard_switch))]
        assert_eq!([run.pop(), run.pop()], [Some(task(1)), Some(task(2))]);
        let many = MULTITUDE as u32 + 10;
        (10..many).for_each(|slot| run.push(task(slot)));
        look(&mut run, many..many + 3);
        let turns: Vec<_> = (0..6).filter_map(|_| run.pop()).map(|task| task.slot()).collect();
        let due: Vec<_> = turns.iter().filter(|slot| **slot >= many as usize).collect();
        assert_eq!(
            due,
            [&(many as usize), &(many as usize + 1), &(many as usize + 2)],
            "{turns:?}"
        );
        while run.pop().is_some() {}
        assert!(run.is_empty());
        look(&mut run, 5..6);
        assert_eq!(run.pop(), Some(task(5)));
    }

    #[cfg(not(hard_switch))]
    #[test]
    fn those_who_are_due_stay_in_order_when_they_become_a_multitude() {
        let mut run = RunQueue::default();
        run.push(task(0));
        for hundred in 0..3 * MULTITUDE as u32 / 100 {
            look(&mut run, hundred * 100 + 1..hundred * 100 + 101);
        }
        run.push(task(7));
        let slots: Vec<_> = std::iter::from_fn(|| run.pop()).map(|task| task.slot()).collect();
        let due: Vec<_> = slots.iter().copied().filter(|slot| *slot != 7 && *slot != 0).collect();
        let last = 3 * MULTITUDE / 100 * 100;
        assert_eq!(due, (1..=last).filter(|slot| *slot != 7).collect::<Vec<_>>());
        assert_eq!(slots.len(), last + 2);
    }

    #[test]
    fn nobody_is_lost_or_doubled() {
        let mut run = RunQueue::default();
        for slot in 0..100 {
            run.push(task(slot));
        }
        let mut slots: Vec<_> = std::iter::from_fn(|| run.pop()).map(|task| task.slot()).collect();
        slots.sort_unstable();
        assert_eq!(slots, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_ring_keeps_the_order_when_it_grows_and_wraps() {
        let mut ring = Ring::default();
        let (mut put, mut taken) = (0, 0);
        for burst in [3, 20, 1, 70, 40] {
            for _ in 0..burst {
                ring.push(task(put));
                put += 1;
            }
            for _ in 0..burst * 2 / 3 {
                assert_eq!(ring.pop(), Some(task(taken)));
                taken += 1;
            }
        }
        ring.forget_last(task(put)); // not there
        ring.forget_last(task(put - 1));
        assert_eq!(ring.len() as u32, put - taken - 1);
        while let Some(next) = ring.pop() {
            assert_eq!(next, task(taken));
            taken += 1;
        }
        assert_eq!(taken, put - 1);
        ring.forget_last(task(taken)); // it was the last, and is not there any more
        assert!(ring.is_empty());
    }
}
