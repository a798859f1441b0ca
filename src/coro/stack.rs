//! Stacks: slots carved from arenas, each with a guard at its low end, kept warm in a pool.
//!
//! An *arena* is one reservation of address space cut into slots of equal size. Arenas double in
//! size as they are asked for, so a million stacks need a handful of memory maps. A slot's guard is
//! installed when it is carved, and stays for good.
//!
//! The pool is keyed by size class and last-in first-out, so that a stack is used again while its
//! top pages are still in the cache. What is free is bounded in two ways: beyond [`WARM`] stacks of
//! a class, a stack gives its memory back when it is returned; and [`StackPool::reap`], called now
//! and then, takes it from those that nobody has asked for since the last time. Memory is given
//! back, address space is kept: it costs nothing.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use corosensei::stack::valgrind::ValgrindStackRegistration;

use crate::sys::memory::{self, Reservation};

/// Bytes of guard below every stack. Rust code probes every page it grows by, for which one page
/// would do; C code does not, and 16 KiB stops most of what it steps over with.
pub(super) const GUARD: usize = 16 * 1024;

/// Bytes at the high end of every stack that its coroutine keeps for itself.
pub(super) const HEADER: usize = 128;

/// Stacks begin at so many different offsets in a page, a cache line apart. Without this the tops of
/// all stacks would compete for the same few sets of the cache; with more, a greenlet that does
/// little would touch a second page.
const COLOURS: usize = 32;
const COLOUR_STEP: usize = 64;

/// Free stacks of one class that keep their memory: at one touched page each, 64 MiB.
const WARM: usize = 16 * 1024;

/// Stacks that one call of [`StackPool::reap`] takes memory from, at a system call each.
const REAP_AT_ONCE: usize = 256;

/// Slots in the first arena of a class. Each further one has twice as many.
const FIRST_ARENA: usize = 16;

/// A size class: slots of `1 << n` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackSize(u8);

impl StackSize {
    /// 256 KiB of address space, of which one page is touched by a greenlet that does little.
    pub(crate) const DEFAULT: StackSize = StackSize(18);
    const MIN: u8 = 16;

    /// The smallest class with room for `bytes` of frames.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if no address space could hold it.
    pub(crate) fn for_bytes(bytes: usize) -> io::Result<StackSize> {
        bytes
            .checked_add(GUARD + COLOURS * COLOUR_STEP + HEADER)
            .and_then(usize::checked_next_power_of_two)
            .filter(|slot| *slot <= isize::MAX as usize)
            .map(|slot| StackSize((slot.trailing_zeros() as u8).max(StackSize::MIN)))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "stack size is too large"))
    }

    fn slot(self) -> usize {
        1 << self.0
    }
}

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

    /// Bytes that frames may use.
    pub(super) fn usable(&self) -> usize {
        self.arena.size.slot() - GUARD - COLOURS * COLOUR_STEP - HEADER
    }

    /// Gives back the memory of a stack that nobody uses.
    fn cool(&mut self) {
        let offset = self.start.as_ptr().addr() - self.arena.memory.start().as_ptr().addr();
        // SAFETY: `&mut self` in a pool: no coroutine lives on this stack. The guard is left out.
        unsafe { self.arena.memory.give_back(offset + GUARD, self.arena.size.slot() - GUARD) };
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
        if class.promised >= class.free.len() + class.fresh.len() {
            let stack = class.carve()?;
            class.fresh.push(stack);
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
        class.pop().expect("as many stacks are kept as were promised")
    }

    /// Takes a stack back that no coroutine lives on.
    #[inline]
    pub(crate) fn put_back(&mut self, mut stack: Stack) {
        let class = self.class(stack.arena.size);
        if class.free.len() >= WARM {
            stack.cool();
        }
        class.free.push(stack);
    }

    /// Takes the memory of stacks that were free ever since the last call, some at a time.
    pub(crate) fn reap(&mut self) {
        for class in &mut self.classes {
            let until =
                class.unasked.min(WARM).min(class.cold + REAP_AT_ONCE).min(class.free.len());
            for stack in class.free.iter_mut().take(until).skip(class.cold) {
                stack.cool();
            }
            class.cold = class.cold.max(until);
            class.unasked = class.free.len();
        }
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
        self.classes.push(Class::new(size));
        self.classes.len() - 1
    }
}

#[derive(Debug)]
struct Class {
    size: StackSize,
    /// The last one is the warmest.
    free: Vec<Stack>,
    /// Those that were never used.
    fresh: Vec<Stack>,
    /// For so many of both somebody has a promise.
    promised: usize,
    /// How many at the front of `free` were not asked for since the last reaping.
    unasked: usize,
    /// How many at the front of `free` have given their memory back already.
    cold: usize,
    /// What is being carved, and its next slot.
    arena: Option<(Rc<Arena>, usize)>,
    next_arena: usize,
}

impl Class {
    fn new(size: StackSize) -> Class {
        let (free, fresh, arena) = (Vec::new(), Vec::new(), None);
        Class {
            size,
            free,
            fresh,
            promised: 0,
            unasked: 0,
            cold: 0,
            arena,
            next_arena: FIRST_ARENA,
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Stack> {
        let Some(stack) = self.free.pop() else { return self.fresh.pop() };
        self.unasked = self.unasked.min(self.free.len());
        self.cold = self.cold.min(self.free.len());
        Some(stack)
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
        assert!(stack.usable() >= 236 * 1024 && stack.usable() < 256 * 1024);
        let start = stack.start();
        pool.put_back(stack);
        assert_eq!(pool.stack(StackSize::DEFAULT).unwrap().start(), start, "last in, first out");
    }

    #[test]
    fn a_class_has_room_for_what_was_asked() {
        for bytes in [0, 1, 48 * 1024, 64 * 1024, 256 * 1024, 1 << 20] {
            let size = StackSize::for_bytes(bytes).unwrap();
            let stack = StackPool::default().stack(size).unwrap();
            assert!(stack.usable() >= bytes, "{bytes}");
        }
        assert!(StackSize::for_bytes(usize::MAX).is_err());
        assert!(StackSize::for_bytes(usize::MAX / 2).is_err());
    }

    #[test]
    fn classes_do_not_mix() {
        let mut pool = StackPool::default();
        let small = pool.stack(StackSize::for_bytes(1).unwrap()).unwrap();
        let start = small.start();
        pool.put_back(small);
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

    #[test]
    fn the_pool_reaps_what_nobody_asks_for() {
        let mut pool = StackPool::default();
        let stack = pool.stack(StackSize::DEFAULT).unwrap();
        // SAFETY: the top of a stack that nobody else uses, here and below.
        let top = unsafe { stack.end().sub(8) }.cast::<u64>();
        // SAFETY: see above.
        unsafe { top.write(7) };
        pool.put_back(stack);
        pool.reap(); // first notices it ...
        // SAFETY: see above.
        assert_eq!(unsafe { top.read() }, 7);
        pool.reap(); // ... then, as nobody has asked meanwhile, takes it.
        // SAFETY: see above.
        assert_eq!(unsafe { top.read() }, 0);
    }
}
