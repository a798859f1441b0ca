//! Stacks: slots carved from arenas, each with a guard at its low end, kept warm in a pool.
//!
//! An *arena* is one reservation of address space cut into slots of equal size. Arenas double in
//! size as they are asked for, so a million stacks need a handful of memory maps. A slot's guard is
//! installed when it is carved, and stays for good.
//!
//! The pool is keyed by size class and last-in first-out, so that a stack is used again while its
//! top pages are still in the cache. Memory of free stacks is bounded in two ways. By time: what
//! nobody has asked for during a whole second gives it back, a bounded number of stacks at each call
//! of [`StackPool::reap`]. And by number: beyond [`WARM`] stacks of a class, a stack gives it back
//! when it is returned. Address space is kept: it costs nothing. (Page tables are, too: half a
//! kilobyte a stack.)
//!
//! ```text
//!   free:  | cold: no memory | to be reaped | not asked for yet | asked for in this second |
//!          0               cold            due               unasked               len, the top
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use corosensei::stack::valgrind::ValgrindStackRegistration;

use super::census::{Census, Owner};
use super::size::{COLOUR_STEP, COLOURS, GUARD, HEADER, StackSize};
use crate::sys::memory::{self, Reservation};
use crate::sys::prefetch::prefetch;

/// Free stacks of one class that keep their memory, for a second or two. So many, because they had
/// it while they were in use; and a crowd that comes again at once is spared a page fault each, which
/// is most of what a fresh stack costs.
const WARM: usize = 1 << 20;

/// Free stacks that keep their memory although nobody asks for them, as long as their hub sleeps: it
/// is not woken for a megabyte.
const SPARE: usize = 256;

/// Stacks that one call of [`StackPool::reap`] takes memory from, at a system call each: a third of
/// a millisecond.
const REAP_AT_ONCE: usize = 256;

/// How long a stack has to be free for that.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// How long the hub has before the next such call, if there is more to take: that may take a tenth of
/// its time, and takes the memory of 60,000 stacks in a second.
const REAP_AGAIN: Duration = Duration::from_millis(4);

/// So many promised, and stacks are fetched into the cache before they are leased.
const CROWD: usize = 256;

/// How many leases ahead.
const AHEAD: usize = 4;

/// Cache lines at the top of a stack that a coroutine uses in any case: its header and first frames.
const TOP_LINES: usize = 8;

/// Slots in the first arena of a class. Each further one has twice as many.
const FIRST_ARENA: usize = 16;

/// One slot, owned. Two words, so that it travels in registers.
#[derive(Debug)]
pub(crate) struct Stack {
    start: NonNull<u8>,
    arena: Rc<Arena>,
}

impl Stack {
    /// The low end, where the guard is.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The high end: that of the slot, less the stack's colour. A multiple of 64.
    #[inline]
    pub(super) fn end(&self) -> NonNull<u8> {
        let number = self.start.as_ptr().addr() >> self.arena.size.0;
        let colour = number % COLOURS * COLOUR_STEP;
        // SAFETY: the slot is `slot()` bytes long, of which a colour is a small part.
        unsafe { self.start.add(self.arena.size.slot() - colour) }
    }

    /// Addresses that mean an overflow.
    pub(super) fn guards(&self, address: usize) -> bool {
        let start = self.start.as_ptr().addr();
        (start..start + GUARD).contains(&address)
    }

    /// Is that address on it?
    #[cfg(feature = "monkey")]
    pub(super) fn contains(&self, address: usize) -> bool {
        let start = self.start.as_ptr().addr();
        (start..start + self.arena.size.slot()).contains(&address)
    }

    pub(super) fn size(&self) -> StackSize {
        self.arena.size
    }

    /// Bytes from the base of the stack down to the lowest one that is not zero: how deep it has been
    /// used, if it had given its memory back before. Exact to a word for frames that write what is
    /// not zero; a frame at the very bottom that has only touched its room, or written zeros, counts
    /// to the end of the page.
    pub(super) fn depth(&self) -> usize {
        let (start, len) = (self.offset(), self.arena.size.slot());
        let base = self.end().as_ptr().addr() - HEADER - self.arena.memory.start().as_ptr().addr();
        let lowest = self.arena.memory.lowest_mark(start + GUARD, len - GUARD);
        lowest.map_or(0, |lowest| base.saturating_sub(lowest))
    }

    /// Where in its arena it starts.
    fn offset(&self) -> usize {
        self.start.as_ptr().addr() - self.arena.memory.start().as_ptr().addr()
    }

    /// Gives back the memory of a stack that nobody uses.
    fn cool(&mut self) {
        let (offset, len) = (self.offset(), self.arena.size.slot());
        // SAFETY: `&mut self` in a pool: no coroutine lives on this stack. The guard is left out.
        unsafe { self.arena.memory.give_back(offset + GUARD, len - GUARD) };
    }
}

/// A reservation, cut into slots. Lives as long as one of its stacks, or as long as the pool still
/// carves from it.
#[derive(Debug)]
struct Arena {
    memory: Reservation,
    size: StackSize,
    /// Guards in it that count against [`GuardMode::Protect`]'s limit.
    protected: Cell<usize>,
    /// Tells valgrind, if it watches, that these are stacks.
    registrations: RefCell<Vec<ValgrindStackRegistration>>,
}

impl Arena {
    fn new(size: StackSize, slots: usize) -> io::Result<Arena> {
        let len = size.slot().checked_mul(slots).ok_or(io::ErrorKind::OutOfMemory)?;
        let (protected, registrations) = (Cell::default(), RefCell::default());
        Ok(Arena { memory: Reservation::new(len)?, size, protected, registrations })
    }

    fn slots(&self) -> usize {
        self.memory.len() / self.size.slot()
    }

    fn carve(self: &Rc<Self>, slot: usize, mode: GuardMode) -> io::Result<Stack> {
        assert!(slot < self.slots());
        let offset = slot * self.size.slot();
        match mode {
            // SAFETY: the slot has not been handed out, so nothing lies in it.
            GuardMode::Kernel => unsafe { self.memory.guard(offset, GUARD) }?,
            GuardMode::Protect => {
                claim_protected_guard()?;
                self.protected.set(self.protected.get() + 1);
                // SAFETY: as above.
                unsafe { self.memory.protect(offset, GUARD) }?;
            }
        }
        // SAFETY: `offset` lies within the reservation.
        let start = unsafe { self.memory.start().add(offset) };
        let registration = ValgrindStackRegistration::new(start.as_ptr(), self.size.slot());
        self.registrations.borrow_mut().push(registration);
        Ok(Stack { start, arena: Rc::clone(self) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        PROTECTED_GUARDS.fetch_sub(self.protected.get(), Relaxed);
    }
}

/// How a guard is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardMode {
    /// In the page tables, without a memory map of its own (Linux 6.13 and later).
    Kernel,
    /// By `mprotect`: two memory maps a stack, of which a process may have some 65,000.
    Protect,
}

/// Set once the kernel has said that it does not know the better way.
static KERNEL_HAS_NO_GUARDS: AtomicBool = AtomicBool::new(cfg!(not(target_os = "linux")));

/// Guards of [`GuardMode::Protect`] in the whole process.
static PROTECTED_GUARDS: AtomicUsize = AtomicUsize::new(0);

/// Counts a guard by `mprotect`, unless that would use up the memory maps of the process: past
/// their limit every `malloc` of every thread may fail, and a refused greenlet is the smaller harm.
fn claim_protected_guard() -> io::Result<()> {
    static LIMIT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    // Two maps a guard, and a quarter of all maps left to everybody else.
    let limit =
        *LIMIT.get_or_init(|| memory::max_memory_maps().map_or(usize::MAX, |maps| maps / 8 * 3));
    if PROTECTED_GUARDS.fetch_add(1, Relaxed) < limit {
        return Ok(());
    }
    PROTECTED_GUARDS.fetch_sub(1, Relaxed);
    Err(io::Error::new(
        io::ErrorKind::OutOfMemory,
        "no memory map left to guard another stack: raise vm.max_map_count, \
         or use Linux 6.13 or later, where guards need none",
    ))
}

/// Free stacks, by size class.
#[derive(Debug, Default)]
pub(crate) struct StackPool {
    /// Few, so a search beats a table. The default class is asked for first and so stays in front.
    classes: Vec<Class>,
    reap_at: Option<Instant>,
    /// While it is on, what lies in the pool has no memory, and no stack is kept warm.
    census: Option<Box<Census>>,
}

impl StackPool {
    /// Sees to it that there is a stack of that class for one coroutine more, and keeps it for
    /// whoever [leases](StackPool::lease) one. It has no memory yet.
    ///
    /// # Errors
    ///
    /// What the system says when it has no address space left, and `OutOfMemory` where guards cost
    /// memory maps and too few are left.
    #[inline]
    pub(crate) fn promise(&mut self, size: StackSize) -> io::Result<()> {
        let class = self.class(size);
        if class.promised >= class.free.len() {
            let stack = class.carve()?;
            class.push_cold(stack);
        }
        class.promised += 1;
        Ok(())
    }

    /// The opposite: the stack will not be asked for.
    pub(crate) fn release(&mut self, size: StackSize) {
        self.class(size).promised -= 1;
    }

    /// A stack of that class that was promised: the one that was used last.
    #[inline]
    pub(crate) fn lease(&mut self, size: StackSize) -> Stack {
        let class = self.class(size);
        class.promised -= 1;
        if class.promised > CROWD {
            class.prefetch();
        }
        class.pop().expect("as many stacks are kept as were promised")
    }

    /// Takes a stack back that no coroutine lives on. A census asks who has used it.
    #[inline]
    pub(crate) fn put_back(&mut self, stack: Stack, owner: impl FnOnce() -> Owner) {
        let class = self.class(stack.arena.size);
        if class.free.len() - class.cold < class.warm {
            class.free.push(stack);
        } else {
            self.put_back_cool(stack, owner);
        }
    }

    /// There are enough, or there is a census: no memory is kept. A census takes its marks here, and
    /// so costs nothing while there is none.
    #[cold]
    #[inline(never)]
    fn put_back_cool(&mut self, mut stack: Stack, owner: impl FnOnce() -> Owner) {
        if let Some(census) = &mut self.census {
            let owner = owner();
            if census.counts(owner) {
                census.note_ended(owner, stack.size(), stack.depth());
            }
        }
        stack.cool();
        self.class(stack.arena.size).push_cold(stack);
    }

    /// Takes the memory of stacks that nobody has asked for during a second, some at a time, if it is
    /// time for that.
    #[inline]
    pub(crate) fn reap(&mut self, now: Instant) {
        if self.reap_at.is_none_or(|at| at <= now) {
            self.reap_at = Some(now + self.reap_some());
        }
    }

    /// Returns for how long that was enough.
    #[cold]
    fn reap_some(&mut self) -> Duration {
        if !self.is_reaping() {
            self.classes.iter_mut().for_each(Class::begin_second);
        }
        let mut room = REAP_AT_ONCE;
        for class in &mut self.classes {
            room -= class.reap(room);
        }
        if self.is_reaping() { REAP_AGAIN } else { REAP_EVERY }
    }

    fn is_reaping(&self) -> bool {
        self.classes.iter().any(|class| class.cold < class.due)
    }

    /// When a hub that sleeps is to be woken for that: if there is much memory that nobody uses. Some
    /// seconds later there is not, and it sleeps as long as nothing happens.
    pub(crate) fn wants_reaping(&self) -> Option<Instant> {
        let much = self.classes.iter().any(Class::has_much);
        much.then(|| self.reap_at.unwrap_or_else(Instant::now))
    }

    /// From now on it is noted how deep stacks are used, by coroutines with greater numbers than
    /// `since`. What is free gives its memory back first, at a system call a warm stack.
    pub(crate) fn begin_census(&mut self, since: u64) {
        if let Some(census) = &mut self.census {
            census.holders += 1;
            return;
        }
        self.census = Some(Box::new(Census::new(since)));
        for class in &mut self.classes {
            class.warm = 0;
            class.cool(class.free.len());
        }
    }

    /// To be called as often as `begin_census`.
    pub(crate) fn end_census(&mut self) {
        match &mut self.census {
            Some(census) if census.holders > 1 => {
                census.holders -= 1;
                return;
            }
            census => *census = None,
        }
        self.classes.iter_mut().for_each(|class| class.warm = WARM);
    }

    pub(crate) fn census(&self) -> Option<&Census> {
        self.census.as_deref()
    }

    #[inline]
    fn class(&mut self, size: StackSize) -> &mut Class {
        let at = match self.classes.iter().position(|class| class.size == size) {
            Some(at) => at,
            None => self.add_class(size),
        };
        &mut self.classes[at]
    }

    #[cold]
    fn add_class(&mut self, size: StackSize) -> usize {
        let warm = if self.census.is_some() { 0 } else { WARM };
        self.classes.push(Class::new(size, warm));
        self.classes.len() - 1
    }
}

#[derive(Debug)]
struct Class {
    size: StackSize,
    /// The last one is the warmest.
    free: Vec<Stack>,
    /// For so many of them somebody has a promise.
    promised: usize,
    /// So many of them keep their memory.
    warm: usize,
    /// How many at the front of `free` have not been asked for in the present second.
    unasked: usize,
    /// How many at the front of `free` were not asked for in a whole one, and are to be reaped.
    due: usize,
    /// How many at the front of `free` have no memory.
    cold: usize,
    /// What is being carved, and its next slot.
    arena: Option<(Rc<Arena>, usize)>,
    next_arena: usize,
}

impl Class {
    fn new(size: StackSize, warm: usize) -> Class {
        let (free, arena, next_arena) = (Vec::new(), None, FIRST_ARENA);
        Class { size, free, promised: 0, warm, unasked: 0, due: 0, cold: 0, arena, next_arena }
    }

    /// Has the processor fetch the top of a stack that is leased soon, if those that are leased until
    /// then stay out.
    #[inline]
    fn prefetch(&self) {
        if let Some(stack) = self.free.len().checked_sub(AHEAD).and_then(|at| self.free.get(at)) {
            let end = stack.end().as_ptr();
            for line in 1..=TOP_LINES {
                prefetch(end.wrapping_sub(line * 64));
            }
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Stack> {
        let stack = self.free.pop()?;
        self.unasked = self.unasked.min(self.free.len());
        self.due = self.due.min(self.free.len());
        self.cold = self.cold.min(self.free.len());
        Some(stack)
    }

    /// It changes places with the coldest of those that have memory, so that whoever asks gets one
    /// that has.
    fn push_cold(&mut self, stack: Stack) {
        let last = self.free.len();
        self.free.push(stack);
        self.free.swap(self.cold, last);
        self.cold += 1;
    }

    /// Takes the memory of those before `until`.
    fn cool(&mut self, until: usize) {
        self.free.iter_mut().take(until).skip(self.cold).for_each(Stack::cool);
        self.cold = self.cold.max(until);
    }

    fn has_much(&self) -> bool {
        self.free.len() - self.cold > SPARE
    }

    fn begin_second(&mut self) {
        self.due = self.unasked;
        self.unasked = self.free.len();
    }

    /// Takes the memory of those that are due, of so many at the most. Returns of how many.
    fn reap(&mut self, most: usize) -> usize {
        let count = self.due.saturating_sub(self.cold).min(most);
        self.cool(self.cold + count);
        count
    }

    #[cold]
    fn carve(&mut self) -> io::Result<Stack> {
        let (arena, slot) = match self.arena.take() {
            Some((arena, slot)) if slot < arena.slots() => (arena, slot),
            _ => (Rc::new(self.grow()?), 0),
        };
        let stack = guarded(&arena, slot);
        let next = if stack.is_ok() { slot + 1 } else { slot };
        self.arena = Some((arena, next));
        stack
    }

    /// Twice the last arena, or as much less as can be had: under a strict limit of address space
    /// many small arenas still fit where one large does not.
    fn grow(&mut self) -> io::Result<Arena> {
        loop {
            match Arena::new(self.size, self.next_arena) {
                Ok(arena) => {
                    self.next_arena = self.next_arena.saturating_mul(2);
                    return Ok(arena);
                }
                Err(error) if self.next_arena == 1 => return Err(error),
                Err(_) => self.next_arena = (self.next_arena / 4).max(1),
            }
        }
    }
}

fn guarded(arena: &Rc<Arena>, slot: usize) -> io::Result<Stack> {
    if !KERNEL_HAS_NO_GUARDS.load(Relaxed) {
        match arena.carve(slot, GuardMode::Kernel) {
            Err(error) if error.kind() != io::ErrorKind::OutOfMemory => {
                // It does not know how, or a filter does not let us ask.
                KERNEL_HAS_NO_GUARDS.store(true, Relaxed);
            }
            carved => return carved,
        }
    }
    arena.carve(slot, GuardMode::Protect)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose stack it was, where there is no census to ask.
    fn nobody() -> Owner {
        unreachable!("nobody asks")
    }

    impl StackPool {
        fn stack(&mut self, size: StackSize) -> io::Result<Stack> {
            self.promise(size)?;
            Ok(self.lease(size))
        }
    }

    #[test]
    fn smoke() {
        let mut pool = StackPool::default();
        let stack = pool.stack(StackSize::DEFAULT).unwrap();
        assert!(stack.size().usable() >= 236 * 1024 && stack.size().usable() < 256 * 1024);
        let start = stack.start();
        pool.put_back(stack, nobody);
        assert_eq!(pool.stack(StackSize::DEFAULT).unwrap().start(), start, "last in, first out");
    }

    #[test]
    fn a_class_has_room_for_what_was_asked() {
        for bytes in [0, 1, 48 * 1024, 64 * 1024, 256 * 1024, 1 << 20] {
            let size = StackSize::for_bytes(bytes).unwrap();
            let stack = StackPool::default().stack(size).unwrap();
            assert!(stack.size().usable() >= bytes, "{bytes}");
        }
        assert!(StackSize::for_bytes(usize::MAX).is_err());
        assert!(StackSize::for_bytes(usize::MAX / 2).is_err());
    }

    #[test]
    fn classes_do_not_mix() {
        let mut pool = StackPool::default();
        let small = pool.stack(StackSize::for_bytes(1).unwrap()).unwrap();
        let start = small.start();
        pool.put_back(small, nobody);
        assert_ne!(pool.stack(StackSize::DEFAULT).unwrap().start(), start);
    }

    #[test]
    fn slots_are_distinct_over_many_arenas() {
        let mut pool = StackPool::default();
        let stacks: Vec<_> = (0..1000).map(|_| pool.stack(StackSize::DEFAULT).unwrap()).collect();
        let mut starts: Vec<_> = stacks.iter().map(|stack| stack.start()).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 1000);
    }

    #[test]
    fn guards_by_mprotect_work_too() {
        let arena = Rc::new(Arena::new(StackSize::DEFAULT, 4).unwrap());
        let before = PROTECTED_GUARDS.load(Relaxed);
        let stack = arena.carve(3, GuardMode::Protect).unwrap();
        assert!(PROTECTED_GUARDS.load(Relaxed) > before);
        // SAFETY: still within the stack.
        let top = unsafe { stack.end().sub(8) }.cast::<u64>();
        // SAFETY: nobody else uses that stack.
        unsafe { top.write(7) };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let guard = format!(
            "{:x}-{:x} ---p",
            stack.start().as_ptr().addr(),
            stack.start().as_ptr().addr() + GUARD
        );
        assert!(maps.is_empty() || maps.contains(&guard), "no map {guard}");
    }

    /// A word at the top of a stack that nobody uses.
    fn top(stack: &Stack) -> *mut u64 {
        stack.end().as_ptr().wrapping_sub(8).cast::<u64>()
    }

    /// As a coroutine would leave it.
    fn used(pool: &mut StackPool) -> Stack {
        let stack = pool.stack(StackSize::DEFAULT).unwrap();
        // SAFETY: within a stack that nobody else uses.
        unsafe { top(&stack).write(7) };
        stack
    }

    fn is_warm(stack: &Stack) -> bool {
        // SAFETY: within a stack that nobody else uses.
        unsafe { top(stack).read() == 7 }
    }

    fn warm(pool: &StackPool) -> usize {
        pool.classes.iter().flat_map(|class| &class.free).filter(|stack| is_warm(stack)).count()
    }

    /// Would a hub be woken for what is there?
    fn much(pool: &StackPool) -> bool {
        pool.classes.iter().any(Class::has_much)
    }

    #[test]
    fn the_pool_reaps_what_nobody_asks_for() {
        let mut pool = StackPool::default();
        let stacks: Vec<_> = (0..REAP_AT_ONCE + 50).map(|_| used(&mut pool)).collect();
        stacks.into_iter().for_each(|stack| pool.put_back(stack, nobody));
        assert_eq!(pool.reap_some(), REAP_EVERY, "first it notices them ...");
        assert!(!pool.is_reaping() && much(&pool));
        assert_eq!(warm(&pool), REAP_AT_ONCE + 50);
        let stacks: Vec<_> = (0..50).map(|_| used(&mut pool)).collect();
        stacks.into_iter().for_each(|stack| pool.put_back(stack, nobody));
        assert_eq!(pool.reap_some(), REAP_EVERY, "... then it takes what nobody has asked for");
        assert_eq!(warm(&pool), 50);
        assert!(!pool.is_reaping() && !much(&pool));
        assert_eq!(pool.reap_some(), REAP_EVERY);
        assert_eq!(warm(&pool), 0);
    }

    #[test]
    fn what_is_reaped_at_once_is_bounded() {
        let mut pool = StackPool::default();
        let stacks: Vec<_> = (0..3 * REAP_AT_ONCE).map(|_| used(&mut pool)).collect();
        stacks.into_iter().for_each(|stack| pool.put_back(stack, nobody));
        pool.reap_some();
        for left in [2, 1] {
            assert_eq!(pool.reap_some(), REAP_AGAIN);
            assert_eq!(warm(&pool), left * REAP_AT_ONCE);
            assert!(pool.is_reaping());
        }
        assert_eq!(pool.reap_some(), REAP_EVERY);
        assert_eq!(warm(&pool), 0);
    }

    /// A crowd that was larger than what is kept leaves cold stacks behind. Who comes later gets a
    /// warm one all the same, and it stays warm.
    #[test]
    fn cold_stacks_lie_below_warm_ones() {
        let mut pool = StackPool::default();
        pool.add_class(StackSize::DEFAULT);
        pool.classes[0].warm = 3;
        let stacks: Vec<_> = (0..10).map(|_| used(&mut pool)).collect();
        stacks.into_iter().for_each(|stack| pool.put_back(stack, nobody));
        assert_eq!(warm(&pool), 3);
        for _ in 0..3 {
            let three: Vec<_> = (0..3).map(|_| pool.stack(StackSize::DEFAULT).unwrap()).collect();
            assert!(three.iter().all(is_warm));
            three.into_iter().for_each(|stack| pool.put_back(stack, nobody));
            assert_eq!(warm(&pool), 3);
        }
    }

    #[test]
    fn a_census_begins_and_goes_on_without_a_trace_of_others() {
        let mut pool = StackPool::default();
        let owner = Owner { site: std::panic::Location::caller(), number: 1 };
        let dirty = used(&mut pool);
        pool.put_back(dirty, nobody);
        pool.begin_census(0);
        pool.begin_census(0); // shared
        for _ in 0..3 {
            assert_eq!(warm(&pool), 0);
            let stack = used(&mut pool);
            let deep = top(&stack).wrapping_sub(1000);
            // SAFETY: well within a stack that nobody else uses.
            unsafe { deep.write(7) };
            assert_eq!(stack.depth(), 8 * 1001 - HEADER);
            pool.put_back(stack, || owner);
        }
        pool.end_census();
        let census = pool.census().unwrap().clone();
        let ended: Vec<_> = census.into_sites().map(|(_, _, marks)| marks.ended).collect();
        assert_eq!(ended, [3]);
        pool.end_census();
        assert!(pool.census().is_none());
        let stack = used(&mut pool);
        pool.put_back(stack, nobody);
        assert_eq!(warm(&pool), 1);
    }

    #[test]
    fn a_depth_is_told_to_a_word() {
        for size in [0, 300_000] {
            let stack = StackPool::default().stack(StackSize::for_bytes(size).unwrap()).unwrap();
            assert_eq!(stack.depth(), 0, "nothing has been touched");
            let word = |down: usize| top(&stack).wrapping_sub((HEADER + down) / 8);
            for depth in [0, 8, 4096, 30_000] {
                // SAFETY: within a stack that nobody else uses.
                unsafe { word(depth).write(1) };
                assert_eq!(stack.depth(), depth + 8);
            }
            // SAFETY: as above. What is merely touched counts to the end of its page.
            unsafe { word(40_000).write_volatile(0) };
            let page = memory::page_size();
            let depth = stack.depth();
            assert!((40_008..40_008 + page).contains(&depth), "{depth}");
        }
    }
}
