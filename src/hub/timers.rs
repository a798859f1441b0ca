//! Deadlines in order.
//!
//! Pure, generic, and without a clock: time is an argument. Most timers are timeouts of work that
//! succeeds, so setting one and cancelling it cost the same whatever the number of others: they lie
//! in the buckets of a [`Wheel`]. What is due within a tick or so is in a [`Heap`], in exact order.
//! The last one set is in neither before another is set: most are taken back at once.
//!
//! Equal deadlines fire in the order in which they were set.

use std::time::{Duration, Instant};

use super::heap::Heap;
use super::wheel::{BucketId, Entry, Wheel, tick};

/// So many need no wheel; and a bucket of so many is soon looked through.
const FEW: usize = 16;

/// The time of the epoch, in nanoseconds, so that there is room for 146 years before it. Whatever is
/// earlier than that or later than 438 years after it is not told apart any more.
const EPOCH: u64 = 1 << 62;

/// No slot, and no place in the heap.
const NIL: u32 = u32::MAX;

/// No deadline is so early.
const UNKNOWN: u64 = 0;

/// No deadline is so late.
const NEVER: u64 = u64::MAX;

/// In place of a place in the heap.
const FILED: u32 = u32::MAX;

const SECOND: u64 = 1_000_000_000;

/// Deadlines, each with a value.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    epoch: Instant,
    /// The tick of the latest time we were told of.
    seen: u64,
    /// The one set last, if it has not been filed yet: when, and its slot.
    latest: Option<(Instant, u32)>,
    /// What was not later than the wheel's cursor when it came here; and a few, if there is nothing
    /// in the wheel.
    near: Heap,
    /// Later than the cursor.
    wheel: Wheel,
    /// On their way from the wheel into the heap.
    due: Vec<Entry>,
    slots: Vec<Slot<T>>,
    /// Those slots that are not used, linked by their places.
    free: u32,
    /// The earliest deadline of all that are filed, or [`NEVER`], or [`UNKNOWN`]; and the same as it
    /// was given.
    soonest: u64,
    soonest_at: Instant,
    /// The last time asked about, and the same as a number.
    now: (Instant, u64),
    ahead: Ahead,
}

/// The cursor follows the clock; but it runs ahead of it to learn of a long bucket what is the
/// earliest in it. Then what is set before the cursor comes into the heap, and the heap gets large.
/// If the cursor was moved back at once, it might have to come again, and again.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    /// How many were moved for that.
    moved: u32,
    /// How many came into the heap that belonged into the wheel.
    early: u32,
}

/// A deadline, to cancel it by. Void once it has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    /// Tells a slot's users apart.
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    /// Its deadline, once it is filed.
    at: u64,
    /// In the heap; or [`FILED`], in the wheel.
    place: u32,
    generation: u32,
    value: T,
}

impl<T: Copy> Timers<T> {
    /// There is no deadline yet, and the time is `now`.
    pub(crate) fn new(now: Instant) -> Timers<T> {
        let seen = tick(EPOCH);
        Timers {
            epoch: now,
            seen,
            latest: None,
            near: Heap::default(),
            wheel: Wheel::new(seen),
            due: Vec::new(),
            slots: Vec::new(),
            soonest: NEVER,
            soonest_at: now,
            now: (now, EPOCH),
            free: NIL,
            ahead: Ahead::default(),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, at: Instant, value: T) -> TimerKey {
        self.file_latest();
        let key = self.occupy(value);
        self.latest = Some((at, key.slot));
        key
    }

    /// The value, if it had not fired.
    #[inline]
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        if self.latest.is_some_and(|(_, slot)| slot == key.slot) {
            self.latest = None;
        } else {
            self.unfile(key);
        }
        Some(self.vacate(key.slot))
    }

    #[inline]
    pub(crate) fn contains(&self, key: TimerKey) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.generation == key.generation)
    }

    /// The earliest whose deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.latest.is_some_and(|(at, _)| at <= now) {
            self.file_latest();
        }
        if self.soonest == NEVER || self.soonest != UNKNOWN && self.soonest_at > now {
            return None;
        }
        self.look_for_due(now)
    }

    #[inline(never)]
    fn look_for_due(&mut self, now: Instant) -> Option<T> {
        if self.now.0 != now {
            self.now = (now, self.nanos(now));
        }
        let now = self.now.1;
        if tick(now) > self.seen {
            self.has_come(tick(now));
        }
        loop {
            let first = self.near.first().unwrap_or(NEVER);
            match self.wheel.earliest() {
                Some((id, start)) if start <= tick(first.min(now)) => self.pour(id, start),
                _ if first <= now => return self.pop(),
                _ => return None,
            }
        }
    }

    /// Exactly: nobody is to wake up before it. So it may have to sort a bucket that is long.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        if self.soonest == UNKNOWN {
            self.find_soonest();
        }
        let latest = self.latest.map(|(at, _)| at);
        if self.soonest == NEVER {
            return latest;
        }
        Some(latest.map_or(self.soonest_at, |at| at.min(self.soonest_at)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.latest.is_none() && self.none_is_filed()
    }

    fn none_is_filed(&self) -> bool {
        self.near.is_empty() && self.wheel.is_empty()
    }

    #[inline(never)]
    fn find_soonest(&mut self) {
        self.soonest = loop {
            let first = self.near.first().unwrap_or(NEVER);
            match self.wheel.earliest() {
                Some((id, start)) if start <= tick(first) => {
                    let len = self.wheel.len(id);
                    if len as usize <= FEW {
                        break first.min(self.wheel.least(id, |entry| is_live(&self.slots, entry)));
                    }
                    self.ahead.moved = self.ahead.moved.saturating_add(len);
                    self.pour(id, start);
                }
                _ => break first,
            }
        };
        self.soonest_at = self.instant(self.soonest);
    }

    #[inline]
    fn file_latest(&mut self) {
        if let Some((at, slot)) = self.latest.take() {
            self.file(at, slot);
        }
    }

    #[inline(never)]
    fn file(&mut self, at: Instant, slot: u32) {
        let nanos = self.nanos(at);
        if nanos < self.soonest {
            (self.soonest, self.soonest_at) = (nanos, at);
        }
        self.slots[slot as usize].at = nanos;
        if self.belongs_into_the_wheel(tick(nanos)) {
            let generation = self.slots[slot as usize].generation;
            self.wheel.push(Entry { at: nanos, slot, generation });
        } else {
            let slots = &mut self.slots;
            self.near.push(nanos, slot, |slot, place| slots[slot as usize].place = place);
        }
    }

    #[inline(never)]
    fn unfile(&mut self, key: TimerKey) {
        let slot = &mut self.slots[key.slot as usize];
        let (at, place) = (slot.at, slot.place);
        let slots = &mut self.slots;
        if place == FILED {
            let entry = Entry { at, slot: key.slot, generation: key.generation };
            self.wheel.remove(entry, |other| *other != entry && is_live(slots, other));
        } else {
            self.near.remove(place, |slot, place| slots[slot as usize].place = place);
        }
        if self.soonest == at {
            self.soonest = if self.none_is_filed() { NEVER } else { UNKNOWN };
        }
    }

    fn has_come(&mut self, tick: u64) {
        self.seen = tick;
        let start = self.wheel.earliest().map_or(NEVER, |(_, start)| start);
        self.wheel.advance(tick.min(start - 1));
        if self.wheel.cursor() <= tick {
            self.ahead = Ahead::default();
        }
    }

    /// Otherwise into the heap.
    #[inline]
    fn belongs_into_the_wheel(&mut self, tick: u64) -> bool {
        if self.wheel.is_empty() && self.near.len() < FEW {
            return false;
        }
        tick > self.wheel.cursor() || tick > self.seen && self.has_gone_back()
    }

    /// What is set now lies before the cursor because that is ahead of the clock. Has it now been
    /// moved back?
    #[cold]
    fn has_gone_back(&mut self) -> bool {
        self.ahead.early = self.ahead.early.saturating_add(1);
        if self.ahead.early <= self.ahead.moved || self.near.len() < FEW {
            return false;
        }
        self.ahead = Ahead::default();
        self.wheel.rewind(self.seen);
        true
    }

    fn pour(&mut self, id: BucketId, cursor: u64) {
        let slots = &mut self.slots;
        self.wheel.pour(id, cursor, |entry| is_live(slots, entry), &mut self.due);
        for entry in self.due.drain(..) {
            self.near.push(entry.at, entry.slot, |slot, place| slots[slot as usize].place = place);
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        let slots = &mut self.slots;
        self.soonest = UNKNOWN;
        let slot = self.near.pop(|slot, place| slots[slot as usize].place = place)?;
        Some(self.vacate(slot))
    }

    #[inline]
    fn occupy(&mut self, value: T) -> TimerKey {
        let slot = self.free;
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return self.grow(value);
        };
        self.free = place.place;
        (place.place, place.value) = (FILED, value);
        TimerKey { slot, generation: place.generation }
    }

    #[cold]
    fn grow(&mut self, value: T) -> TimerKey {
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { at: 0, place: FILED, generation: 0, value });
        TimerKey { slot, generation: 0 }
    }

    /// Whoever has its key has nothing any more.
    #[inline]
    fn vacate(&mut self, slot: u32) -> T {
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1);
        place.place = self.free;
        self.free = slot;
        place.value
    }

    // ── time as a number ──

    #[inline]
    fn nanos(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.epoch) {
            Some(after) => EPOCH.saturating_add(in_nanos(after)).min(NEVER - 1),
            None => EPOCH.saturating_sub(in_nanos(self.epoch.duration_since(at))),
        }
    }

    fn instant(&self, nanos: u64) -> Instant {
        if nanos >= EPOCH {
            self.epoch + Duration::from_nanos(nanos - EPOCH)
        } else {
            self.epoch - Duration::from_nanos(EPOCH - nanos)
        }
    }
}

/// Is the entry's timer set?
#[inline]
fn is_live<T>(slots: &[Slot<T>], entry: &Entry) -> bool {
    slots[entry.slot as usize].generation == entry.generation
}

#[inline]
fn in_nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(SECOND);
    seconds.saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const HOUR: u64 = 3600 * SECOND;
    const YEAR: u64 = 365 * 24 * HOUR;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn ns(n: u64) -> Duration {
        Duration::from_nanos(n)
    }

    fn start<T: Copy>() -> (Instant, Timers<T>) {
        let t0 = Instant::now();
        (t0, Timers::new(t0))
    }

    fn all_due<T: Copy>(timers: &mut Timers<T>, now: Instant) -> Vec<T> {
        std::iter::from_fn(|| timers.pop_due(now)).collect()
    }

    /// Knuth's linear congruential generator.
    struct Lcg(u64);

    impl Lcg {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 20) % limit
        }

        /// Each power of two up to that one is as likely as the others.
        fn of_any_size(&mut self, bits: u64) -> u64 {
            let limit = 1 << self.below(bits);
            self.below(limit)
        }
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
        assert_eq!(timers.next_deadline(), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set() {
        let (t0, mut timers) = start();
        for n in 0..1000 {
            timers.insert(t0, n);
        }
        assert_eq!(all_due(&mut timers, t0), (0..1000).collect::<Vec<_>>());
    }

    /// However far away they are when they are set, and how near when others are.
    #[test]
    fn equals_stay_in_order_on_their_way() {
        for distance in [ms(1), ms(20), ms(2_000), ms(100_000), ms(40_000_000)] {
            let (t0, mut timers) = start();
            let (at, mut n) = (t0 + distance, 0);
            // Ever nearer, and 20 each time, that they come into the wheel.
            for step in 0..=18 {
                let now = at - distance / (1 << step);
                assert_eq!(timers.pop_due(now), None);
                for _ in 0..20 {
                    timers.insert(at, n);
                    n += 1;
                }
                if step % 3 == 0 {
                    assert_eq!(timers.next_deadline(), Some(at)); // lets the cursor run ahead
                    timers.insert(now, u32::MAX);
                    assert_eq!(timers.pop_due(now), Some(u32::MAX));
                }
            }
            assert_eq!(timers.pop_due(at - ns(1)), None);
            assert_eq!(all_due(&mut timers, at), (0..n).collect::<Vec<_>>(), "{distance:?}");
        }
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
        let mut random = Lcg(7);
        let mut keys = Vec::new();
        let mut live = 0;
        for _ in 0..10_000 {
            if random.below(3) == 0 && !keys.is_empty() {
                let key = keys.swap_remove(random.below(keys.len() as u64) as usize);
                live -= usize::from(timers.cancel(key).is_some());
            } else {
                let at = random.below(500);
                keys.push(timers.insert(t0 + ms(at), at));
                live += 1;
            }
        }
        let fired = all_due(&mut timers, t0 + ms(500));
        assert_eq!(fired.len(), live);
        assert!(fired.is_sorted());
    }

    #[test]
    fn what_is_beyond_the_numbers_is_set_all_the_same() {
        let (t0, mut timers) = start();
        let ages = ns(u64::MAX);
        for n in 0..20 {
            timers.insert(t0 + ages * 2, 100 + n);
            timers.insert(t0 - ages, n);
        }
        assert!(timers.next_deadline() < Some(t0));
        assert_eq!(all_due(&mut timers, t0), (0..20).collect::<Vec<_>>());
        let next = timers.next_deadline().unwrap();
        assert!(t0 + ns(YEAR) * 400 < next && next < t0 + ages);
        assert_eq!(all_due(&mut timers, next), (100..120).collect::<Vec<_>>());
        assert!(timers.is_empty());
    }

    // ── against a model ──

    /// The same twice: as it is, and as it is understood.
    struct Pair {
        timers: Timers<u64>,
        model: BTreeMap<(Instant, u64), ()>,
        keys: Vec<(TimerKey, Instant, u64)>,
        now: Instant,
        set: u64,
    }

    impl Pair {
        fn insert(&mut self, at: Instant) {
            self.model.insert((at, self.set), ());
            self.keys.push((self.timers.insert(at, self.set), at, self.set));
            self.set += 1;
        }

        fn cancel(&mut self, (key, at, order): (TimerKey, Instant, u64)) {
            let known = self.model.remove(&(at, order)).map(|()| order);
            assert_eq!(self.timers.contains(key), known.is_some());
            assert_eq!(self.timers.cancel(key), known);
        }

        fn step(&mut self, by: Duration) {
            self.now += by;
            while let Some(fired) = self.timers.pop_due(self.now) {
                let first = self.model.first_entry().expect("one more than was set");
                assert!(first.key().0 <= self.now, "early");
                assert_eq!(first.remove_entry().0.1, fired);
            }
            assert!(self.model.first_key_value().is_none_or(|(first, ())| first.0 > self.now));
        }

        fn compare(&mut self) {
            assert_eq!(self.timers.is_empty(), self.model.is_empty());
            let next = self.model.first_key_value().map(|(first, ())| first.0);
            assert_eq!(self.timers.next_deadline(), next);
        }
    }

    /// `asked`: how many of 16 operations are followed by the question for the next deadline, which
    /// moves the cursor.
    fn compare_with_model(seed: u64, asked: u64, size: u64, operations: u32) {
        let (t0, timers) = start();
        let mut random = Lcg(seed);
        let mut pair = Pair { timers, model: BTreeMap::new(), keys: vec![], now: t0, set: 0 };
        for _ in 0..operations {
            let full = pair.model.len() as u64 > size;
            match random.below(16) {
                0..=6 if !full => pair.insert(pair.now + ns(random.of_any_size(62))),
                7 if !full => pair.insert(pair.now - ns(random.of_any_size(45))),
                8 if !full => {
                    // As one that was set before, so equal to it if that is still there.
                    let some = random.below(pair.keys.len().max(1) as u64) as usize;
                    let at = pair.keys.get(some).map_or(pair.now, |key| key.1);
                    pair.insert(at);
                }
                9 if !full => {
                    for _ in 0..random.below(100) {
                        pair.insert(pair.now + ns(random.below(2 * SECOND)));
                    }
                }
                10..=12 if !pair.keys.is_empty() => {
                    let some = random.below(pair.keys.len() as u64) as usize;
                    let key = pair.keys.swap_remove(some);
                    pair.cancel(key);
                    if random.below(4) == 0 {
                        pair.keys.push(key); // to cancel it again
                    }
                }
                13 => pair.step(ns(random.of_any_size(31))),
                14 => pair.step(ns(random.of_any_size(44))),
                15 if random.below(50) == 0 => pair.step(ns(random.of_any_size(56))),
                _ => {}
            }
            if random.below(16) < asked {
                pair.compare();
            }
        }
        pair.compare();
        pair.step(ns(200 * YEAR));
        assert_eq!(pair.timers.next_deadline(), None);
        assert_nothing_is_left(&pair.timers);
    }

    fn assert_nothing_is_left<T: Copy>(timers: &Timers<T>) {
        assert!(timers.is_empty());
        timers.wheel.assert_all_is_free();
        let mut free = 0;
        let mut slot = timers.free;
        while slot != NIL {
            free += 1;
            slot = timers.slots[slot as usize].place;
        }
        assert_eq!(free, timers.slots.len());
    }

    #[test]
    fn as_the_model_when_the_next_is_asked_for_each_time() {
        for seed in 1..=20 {
            compare_with_model(seed, 16, 20 * seed * seed, 5_000);
        }
    }

    #[test]
    fn as_the_model_when_the_next_is_asked_for_now_and_then() {
        for seed in 21..=40 {
            compare_with_model(seed, 1, 1_000, 5_000);
        }
    }

    #[test]
    fn as_the_model_when_the_next_is_never_asked_for() {
        for seed in 41..=60 {
            compare_with_model(seed, 0, 1_000, 5_000);
        }
    }

    // ── what it costs ──

    /// Each is cancelled long before it is due, as that of a reader whose peer keeps talking.
    #[test]
    fn nothing_grows_when_timers_are_set_and_cancelled_for_ever() {
        let (t0, mut timers) = start();
        let mut keys = std::collections::VecDeque::new();
        for n in 0..200_000_u64 {
            let now = t0 + ns(n * 10_000);
            keys.push_back(timers.insert(now + ms(30_000), n));
            if keys.len() > 1_000 {
                assert!(timers.cancel(keys.pop_front().unwrap()).is_some());
            }
            match n % 50 {
                0 => assert!(timers.next_deadline() > Some(now)),
                1 => assert_eq!(timers.pop_due(now), None),
                _ => {}
            }
        }
        assert!(timers.slots.len() <= 1_001, "{} slots", timers.slots.len());
        assert!(timers.wheel.chunks() <= 300, "{} chunks", timers.wheel.chunks());
        assert!(timers.near.len() <= 1_000);
        for key in keys {
            assert!(timers.cancel(key).is_some());
        }
        assert_nothing_is_left(&timers);
    }

    /// Many that are far away, and the hub has slept: so the cursor is there. Then come many that are
    /// near, and not all of them into the heap.
    #[test]
    fn the_cursor_comes_back_for_many() {
        let (t0, mut timers) = start();
        for n in (0..100).rev() {
            timers.insert(t0 + ns(HOUR + n), HOUR + n);
        }
        for near in [0, 1].map(|n| timers.insert(t0, n)) {
            timers.cancel(near);
        }
        assert_eq!(timers.next_deadline(), Some(t0 + ns(HOUR)));
        assert!(timers.wheel.cursor() > tick(EPOCH));
        let mut random = Lcg(3);
        for _ in 0..10_000 {
            let at = random.below(SECOND);
            timers.insert(t0 + ns(at), at);
        }
        assert!(timers.near.len() < 2_000, "{} in the heap", timers.near.len());
        assert_eq!(timers.wheel.cursor(), tick(EPOCH));
        let fired = all_due(&mut timers, t0 + ns(2 * HOUR));
        assert_eq!(fired.len(), 10_100);
        assert!(fired.is_sorted());
        assert_nothing_is_left(&timers);
    }

    /// Again and again the cursor is led astray; it must not be sent to and fro each time.
    #[test]
    fn a_bucket_is_not_sorted_again_for_each_one_that_comes_before_it() {
        let (t0, mut timers) = start();
        for n in (0..1_000).rev() {
            timers.insert(t0 + ns(HOUR) + ms(n), n);
        }
        let mut sorted = 0;
        for n in 0..1_000 {
            let near: Vec<_> = (0..20).map(|_| timers.insert(t0 + ms(10), n)).collect();
            let cursor = timers.wheel.cursor();
            assert_eq!(timers.next_deadline(), Some(t0 + ms(10)));
            for key in near {
                timers.cancel(key);
            }
            assert_eq!(timers.next_deadline(), Some(t0 + ns(HOUR)));
            sorted += u32::from(timers.wheel.cursor() != cursor);
        }
        assert!((1..=20).contains(&sorted), "{sorted} times");
    }
}
