//! Who runs next.
//!
//! A plain first-in first-out queue, with one exception: an explicit switch names who runs *next*,
//! before everybody else. Two who switch to each other for ever would starve the rest, so after
//! [`STREAK`] such turns in a row the queue gets one.

use std::collections::VecDeque;

use super::ticket::TaskId;

/// Turns in a row that may be given out of order.
const STREAK: u32 = 64;

/// Tasks that could run now.
#[derive(Debug, Default)]
pub(crate) struct RunQueue {
    queue: VecDeque<TaskId>,
    next: VecDeque<TaskId>,
    streak: u32,
    #[cfg(hard_switch)]
    dice: super::dice::Dice,
}

impl RunQueue {
    #[inline]
    pub(crate) fn push(&mut self, task: TaskId) {
        self.queue.push_back(task);
    }

    /// Takes out a task that is dead, if that is easily done: one that was killed as soon as it was
    /// spawned, again and again by somebody who never waits, is not to fill the queue.
    pub(crate) fn forget_last(&mut self, task: TaskId) {
        if self.queue.back() == Some(&task) {
            self.queue.pop_back();
        }
    }

    /// Before everybody in the queue, and behind those who were named next earlier.
    pub(crate) fn push_next(&mut self, task: TaskId) {
        self.next.push_back(task);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TaskId> {
        if !self.next.is_empty() {
            self.streak += 1;
            if self.streak <= STREAK || self.queue.is_empty() {
                return self.next.pop_front();
            }
        }
        self.streak = 0;
        self.shuffle();
        self.queue.pop_front()
    }

    /// With `--cfg hard_switch` nobody can rely on an order that is not promised.
    #[inline]
    fn shuffle(&mut self) {
        #[cfg(hard_switch)]
        if self.queue.len() > 1 {
            let lucky = self.dice.below(self.queue.len().min(3));
            self.queue.swap(0, lucky);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.next.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slot: u32) -> TaskId {
        TaskId::new(slot, 0)
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
    fn nobody_is_lost_or_doubled() {
        let mut run = RunQueue::default();
        for slot in 0..100 {
            run.push(task(slot));
        }
        let mut slots: Vec<_> = std::iter::from_fn(|| run.pop()).map(|task| task.slot()).collect();
        slots.sort_unstable();
        assert_eq!(slots, (0..100).collect::<Vec<_>>());
    }
}
