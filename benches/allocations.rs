//! How often each operation of `sync`, `queue` and `pool` asks for memory, once it is warm.
//!
//! Not a benchmark by the clock: a count, the same on every machine, and a test. The program fails
//! if anything allocates that must not: a call that need not wait, or a hand-over between two. What
//! spawns a greenlet has no limit and is shown for its own sake.

#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]
#![expect(unsafe_code, reason = "an allocator that counts has to be an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

#[path = "pool.rs"]
#[allow(dead_code, reason = "its operations are counted here, not timed")]
mod pool;
#[path = "queue.rs"]
#[allow(dead_code, reason = "its operations are counted here, not timed")]
mod queue;
#[path = "sync.rs"]
#[allow(dead_code, reason = "its operations are counted here, not timed")]
mod sync;

/// The system's allocator, and a count of the times it was asked for memory.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count_one() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every method passes its arguments on to `System` and returns what that returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller promises us what `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller promises us what `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller promises us what `System` asks for, and `memory` came from there.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller promises us what `System` asks for, and `memory` came from there.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What one operation is, and a function that does so many of them.
type Operation = (&'static str, fn(u64));

/// Operations, and how many allocations each of them may make.
const SUBJECTS: &[(&[Operation], Option<u64>)] = &[
    (sync::UNCONTENDED, Some(0)),
    (sync::BETWEEN_TWO, Some(0)),
    (queue::WITHIN_ONE, Some(0)),
    (queue::BETWEEN_TWO, Some(0)),
    (pool::ONE_BY_ONE, None),
    (pool::ITEM_BY_ITEM, None),
];

/// Operations that are counted together.
const MANY: u64 = 10_000;

fn main() -> ExitCode {
    let mut passed = true;
    println!("{:<32} {:>16} {:>8}", "operation", "allocations each", "at most");
    for (operations, at_most) in SUBJECTS {
        for (name, operation) in *operations {
            let counted = allocations_of_many(*operation);
            let too_many = at_most.is_some_and(|limit| counted > limit * MANY);
            passed &= !too_many;
            println!(
                "{name:<32} {:>16.4} {:>8}{}",
                counted as f64 / MANY as f64,
                at_most.map_or(String::new(), |limit| limit.to_string()),
                if too_many { "  too many" } else { "" },
            );
        }
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What so many more of it allocate: what is made once, to have something to operate on, does not
/// count, nor do queues and stacks that grow at first.
fn allocations_of_many(operation: fn(u64)) -> u64 {
    operation(2 * MANY); // warms up
    let some = allocations_during(|| operation(MANY));
    let more = allocations_during(|| operation(2 * MANY));
    more.saturating_sub(some)
}

fn allocations_during(f: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    f();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}
