//! Deadlines by and by: buckets of a width that grows with the distance.
//!
//! A hierarchical timing wheel (Varghese and Lauck, 1987). Time is cut into ticks, a tick's number
//! into digits of six bits. A timer lies in the bucket of the highest digit in which its tick
//! differs from the *cursor*'s, and of the value of that digit; so in a lower level lies what is
//! earlier, and in a level the earlier in the lower bucket. When the cursor comes to a bucket, that
//! is emptied, and what was in it goes to lower levels, or, if its tick has come, out of the wheel.
//!
//! A bucket is a list of chunks, in which entries stand in the order in which they were filed. An
//! entry that is taken back stays where it is until half of its bucket is such, or it is passed on.
//! Rejected: a doubly linked list through the timers themselves. It is simpler, but emptying a
//! bucket follows it from one cache miss to the next: a third of a second for a million.

/// The width of a tick, as a power of two in nanoseconds: 0.26 ms.
const TICK: u32 = 18;

/// Bits of a digit: a level's buckets are as many as a word has bits.
const DIGIT: u32 = 6;

const BUCKETS: usize = 1 << DIGIT;

/// As many as make up all ticks of 64 bits of nanoseconds.
const LEVELS: usize = (u64::BITS - TICK).div_ceil(DIGIT) as usize;

/// Entries of a chunk; with what else is in it, 512 bytes.
const CHUNK: usize = 31;

/// So many entries taken back are left alone.
const FEW: u32 = 8;

/// No chunk.
const NIL: u32 = u32::MAX;

/// The tick of a deadline.
#[inline]
pub(super) fn tick(at: u64) -> u64 {
    at >> TICK
}

/// A deadline, and whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Chunk {
    entries: [Entry; CHUNK],
    len: u32,
    next: u32,
}

/// What it holds means nothing while its bit is not set.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    first: u32,
    last: u32,
    /// How many entries, and how many of them have been taken back: not all.
    len: u32,
    dead: u32,
}

/// A bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketId {
    level: usize,
    digit: usize,
}

impl BucketId {
    #[inline]
    fn index(self) -> usize {
        self.level * BUCKETS + self.digit
    }
}

/// Where a tick lies that is not the cursor's.
#[inline]
fn bucket_of(tick: u64, cursor: u64) -> BucketId {
    let level = (tick ^ cursor).ilog2() / DIGIT;
    let digit = tick >> (level * DIGIT) & (BUCKETS as u64 - 1);
    BucketId { level: level as usize, digit: digit as usize }
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// Nothing in the wheel has this tick or an earlier one.
    cursor: u64,
    /// A bit for each level that is not empty.
    levels: u32,
    /// A bit for each bucket that is not empty.
    bits: [u64; LEVELS],
    /// Level by level. None at all before the first entry: most hubs never have so many timers.
    buckets: Box<[Bucket]>,
    chunks: Vec<Chunk>,
    /// Those not used, linked.
    free: u32,
}

impl Wheel {
    pub(super) fn new(cursor: u64) -> Wheel {
        Wheel {
            cursor,
            levels: 0,
            bits: [0; LEVELS],
            buckets: Box::default(),
            chunks: Vec::new(),
            free: NIL,
        }
    }

    #[inline]
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.levels == 0
    }

    /// Files an entry whose tick is later than the cursor, behind those that were filed before.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        self.append(bucket_of(tick(entry.at), self.cursor), entry);
    }

    #[inline]
    fn append(&mut self, id: BucketId, entry: Entry) {
        let bit = 1 << id.digit;
        let index = id.index();
        if self.bits[id.level] & bit == 0 {
            self.bits[id.level] |= bit;
            self.levels |= 1 << id.level;
            if self.buckets.is_empty() {
                self.build();
            }
            let chunk = self.vacant_chunk();
            self.buckets[index] = Bucket { first: chunk, last: chunk, len: 0, dead: 0 };
        } else if self.chunks[self.buckets[index].last as usize].len as usize == CHUNK {
            let chunk = self.vacant_chunk();
            let last = &mut self.buckets[index].last;
            self.chunks[*last as usize].next = chunk;
            *last = chunk;
        }
        let bucket = &mut self.buckets[index];
        bucket.len += 1;
        let chunk = &mut self.chunks[bucket.last as usize];
        chunk.entries[chunk.len as usize] = entry;
        chunk.len += 1;
    }

    #[cold]
    fn build(&mut self) {
        self.buckets = vec![Bucket::default(); LEVELS * BUCKETS].into_boxed_slice();
    }

    #[inline]
    fn vacant_chunk(&mut self) -> u32 {
        let free = self.free;
        match self.chunks.get_mut(free as usize) {
            Some(chunk) => {
                self.free = chunk.next;
                (chunk.len, chunk.next) = (0, NIL);
                free
            }
            None => self.grow(),
        }
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        self.chunks.push(Chunk { entries: [Entry::default(); CHUNK], len: 0, next: NIL });
        self.chunks.len() as u32 - 1
    }

    /// Takes an entry back, which `is_live` no longer.
    #[inline]
    pub(super) fn remove(&mut self, entry: Entry, is_live: impl Fn(&Entry) -> bool) {
        let id = bucket_of(tick(entry.at), self.cursor);
        let bucket = &mut self.buckets[id.index()];
        let last = &mut self.chunks[bucket.last as usize];
        // Most are the last ones set.
        if last.len > 0 && last.entries[last.len as usize - 1] == entry {
            last.len -= 1;
            bucket.len -= 1;
        } else {
            bucket.dead += 1;
        }
        if bucket.len == bucket.dead {
            self.clear(id);
        } else if bucket.dead > FEW && bucket.dead > bucket.len / 2 {
            self.sweep(id, is_live);
        }
    }

    /// Makes it empty.
    fn clear(&mut self, id: BucketId) {
        self.unmark(id);
        let Bucket { first, last, .. } = self.buckets[id.index()];
        self.chunks[last as usize].next = self.free;
        self.free = first;
    }

    #[inline]
    fn unmark(&mut self, id: BucketId) {
        self.bits[id.level] &= !(1 << id.digit);
        self.levels &= !(u32::from(self.bits[id.level] == 0) << id.level);
    }

    /// Leaves in it what is live.
    #[inline(never)]
    fn sweep(&mut self, id: BucketId, is_live: impl Fn(&Entry) -> bool) {
        self.empty(id, is_live, |wheel, entry| wheel.append(id, entry));
    }

    /// Empties it, and passes on what was live in it, in the order in which it was filed.
    #[inline]
    fn empty(
        &mut self,
        id: BucketId,
        is_live: impl Fn(&Entry) -> bool,
        mut pass: impl FnMut(&mut Wheel, Entry),
    ) {
        self.unmark(id);
        let Bucket { mut first, dead, .. } = self.buckets[id.index()];
        while first != NIL {
            // A copy, so that it can be used again at once, while it is in the cache.
            let chunk = self.chunks[first as usize];
            self.chunks[first as usize].next = self.free;
            self.free = first;
            first = chunk.next;
            for entry in &chunk.entries[..chunk.len as usize] {
                if dead == 0 || is_live(entry) {
                    pass(self, *entry);
                }
            }
        }
    }

    /// The earliest bucket, and the first tick that can be in it.
    #[inline]
    pub(super) fn earliest(&self) -> Option<(BucketId, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let digit = self.bits[level].trailing_zeros() as usize;
        let shift = level as u32 * DIGIT;
        // The cursor's higher digits, this one, and zeros.
        let above = self.cursor >> shift >> DIGIT << DIGIT;
        Some((BucketId { level, digit }, (above | digit as u64) << shift))
    }

    /// How many entries are in it, live or not.
    #[inline]
    pub(super) fn len(&self, id: BucketId) -> u32 {
        self.buckets[id.index()].len
    }

    /// The earliest deadline in a bucket.
    #[inline]
    pub(super) fn least(&self, id: BucketId, is_live: impl Fn(&Entry) -> bool) -> u64 {
        let mut least = u64::MAX;
        let mut next = self.buckets[id.index()].first;
        while let Some(chunk) = self.chunks.get(next as usize) {
            for entry in &chunk.entries[..chunk.len as usize] {
                if entry.at < least && is_live(entry) {
                    least = entry.at;
                }
            }
            next = chunk.next;
        }
        least
    }

    /// Moves the cursor where nothing is in its way.
    #[inline]
    pub(super) fn advance(&mut self, to: u64) {
        debug_assert!(self.earliest().is_none_or(|(_, start)| to < start));
        self.cursor = self.cursor.max(to);
    }

    /// Moves the cursor to the beginning of the earliest bucket, or further into it, and empties
    /// that. What is not later than the cursor is added to `out`, in the order in which it was
    /// filed.
    #[inline]
    pub(super) fn pour(
        &mut self,
        id: BucketId,
        cursor: u64,
        is_live: impl Fn(&Entry) -> bool,
        out: &mut Vec<Entry>,
    ) {
        self.cursor = cursor;
        self.empty(id, is_live, |wheel, entry| {
            if tick(entry.at) <= cursor { out.push(entry) } else { wheel.push(entry) }
        });
    }

    /// Moves the cursor back. What is in the levels that it has opened comes into the bucket it was
    /// in: equal deadlines are in one bucket already, so their order stays.
    #[cold]
    pub(super) fn rewind(&mut self, to: u64) {
        let whole = bucket_of(self.cursor, to);
        self.cursor = to;
        while let Some((id, _)) = self.earliest().filter(|(id, _)| id.level < whole.level) {
            self.unmark(id);
            let part = self.buckets[id.index()];
            let bucket = &mut self.buckets[whole.index()];
            if self.bits[whole.level] & 1 << whole.digit == 0 {
                self.bits[whole.level] |= 1 << whole.digit;
                self.levels |= 1 << whole.level;
                *bucket = part;
            } else {
                self.chunks[bucket.last as usize].next = part.first;
                bucket.last = part.last;
                bucket.len += part.len;
                bucket.dead += part.dead;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    #[cfg(test)]
    pub(super) fn assert_all_is_free(&self) {
        assert_eq!((self.levels, self.bits), (0, [0; LEVELS]));
        let next = |free: &u32| self.chunks.get(*free as usize).map(|chunk| chunk.next);
        let free = std::iter::successors(Some(self.free), next).take_while(|free| *free != NIL);
        assert_eq!(free.count(), self.chunks.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS: u64 = 1 << TICK;

    fn entry(tick: u64, slot: u32) -> Entry {
        Entry { at: tick * TICKS + 7, slot, generation: 0 }
    }

    /// Empties the wheel, bucket by bucket.
    fn drain(wheel: &mut Wheel) -> Vec<Entry> {
        drain_live(wheel, |_| true)
    }

    fn drain_live(wheel: &mut Wheel, is_live: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut out = Vec::new();
        while let Some((id, start)) = wheel.earliest() {
            assert!(start > wheel.cursor());
            wheel.pour(id, start, &is_live, &mut out);
        }
        out
    }

    #[test]
    fn smoke() {
        let mut wheel = Wheel::new(0);
        for (slot, tick) in (0..).zip([5000, 1, 70, 64, 63, u64::MAX >> TICK, 5000]) {
            wheel.push(entry(tick, slot));
        }
        wheel.remove(entry(64, 3), |entry| entry.slot != 3);
        let slots: Vec<_> = drain(&mut wheel).iter().map(|entry| entry.slot).collect();
        assert_eq!(slots, [1, 4, 2, 0, 6, 5]);
        wheel.assert_all_is_free();
    }

    /// From a cursor whose digits are all at their ends, too.
    #[test]
    fn every_tick_has_its_bucket() {
        for cursor in [0, 1, 63, 64, 0xFFF, 0x1000, 0x3FFF_FFFF, (1 << 44) - 1] {
            let mut wheel = Wheel::new(cursor);
            let ticks: Vec<_> =
                (0..45).flat_map(|bit| [1, 2, 3].map(|n| cursor + (n << bit))).collect();
            for (slot, tick) in (0..).zip(&ticks) {
                wheel.push(entry(*tick, slot));
            }
            let mut sorted = ticks.clone();
            sorted.sort_unstable();
            let out: Vec<_> = drain(&mut wheel).iter().map(|entry| tick(entry.at)).collect();
            assert_eq!(out, sorted);
        }
    }

    #[test]
    fn the_cursor_can_go_back_and_come_again() {
        for back in [0, 1, 100, 4_000, 250_000] {
            let mut wheel = Wheel::new(back);
            for (slot, n) in (0..1_000).zip([0, 1, 2, 63, 64, 65, 4_096].iter().cycle()) {
                wheel.push(entry(300_000 + n, slot));
            }
            let (id, start) = wheel.earliest().unwrap();
            wheel.pour(id, start, |_| true, &mut Vec::new());
            assert!(wheel.cursor() > back);
            let is_live = |entry: &Entry| entry.slot != 6;
            wheel.remove(entry(304_096, 6), is_live);
            wheel.rewind(back);
            wheel.push(entry(back + 1, 1_000));
            let out = drain_live(&mut wheel, is_live);
            assert_eq!(out.len(), 1_000);
            assert_eq!(out[0].slot, 1_000);
            // By tick, and equals as they were filed.
            assert!(out.is_sorted_by_key(|entry| (entry.at, entry.slot)));
        }
    }

    #[test]
    fn what_is_taken_back_makes_room() {
        let mut wheel = Wheel::new(0);
        let is_live = |entry: &Entry| entry.slot % 10 == 0;
        for slot in 0..1_000 {
            wheel.push(entry(100, slot));
        }
        let full = wheel.chunks();
        for slot in (0..1_000).filter(|slot| slot % 10 != 0) {
            wheel.remove(entry(100, slot), is_live);
        }
        for slot in 1_000..1_700 {
            wheel.push(entry(100, slot * 10));
        }
        assert!(wheel.chunks() <= full);
        let (id, start) = wheel.earliest().unwrap();
        let mut out = Vec::new();
        wheel.pour(id, start, is_live, &mut out);
        out.append(&mut drain(&mut wheel));
        assert_eq!(out.len(), 800);
    }
}
