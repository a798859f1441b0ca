//! Coroutines: a stack of one's own, and a switch that carries no data.
//!
//! [`Coro::resume`] runs a body until it calls [`suspend`] or returns. Nothing travels with the
//! switch; whoever wants to pass a value leaves it where the other side looks. So this room knows
//! no tasks, results or errors, and could be moved onto another switching library without anybody
//! above noticing. It is the only one that names `corosensei`.
//!
//! ```text
//!   high addresses
//!   +------------------+ <- end of the slot
//!   | Header           |    the coroutine's own bookkeeping; a `Coro` is a pointer to it
//!   +------------------+ <- base of the stack
//!   | body, frames ... |    grows down; pages get memory when first touched
//!   |        v         |
//!   +------------------+
//!   | guard (16 KiB)   |    faults when touched; `overflow` reports it
//!   +------------------+ <- start of the slot, a power of two below its end
//!   low addresses
//! ```
//!
//! Because the header lies in the stack's own first page, a parked coroutine costs that page and
//! eight bytes for its `Coro`, and no other memory.
//!
//! **Law.** A stack with a live frame on it is never freed: a suspended [`Coro`] that is dropped is
//! leaked, frames and all, for others may hold borrows into them. Ending a body is the business of
//! the floors above, which make its waits fail until it has unwound.

#![expect(unsafe_code, reason = "switching stacks is what this room is for")]

mod body;
mod size;

mod census;

mod stack;

mod coroutine;

mod overflow;

mod lend;

pub(crate) use body::Body;
pub(crate) use census::{Census, Marks, Owner};
#[cfg(feature = "monkey")]
pub(crate) use coroutine::is_on_its_stack;
pub(crate) use coroutine::{Coro, Label, Resumed, on_thread_stack, running_stack, suspend};
#[expect(unreachable_pub, reason = "reached as `greenlet::Scope`")]
pub use lend::Scope;
pub(crate) use lend::{Lent, lending};
pub(crate) use overflow::catch_overflows;
pub(crate) use size::StackSize;
pub(crate) use stack::StackPool;
