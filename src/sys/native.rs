//! Sections in which a lock of std's blocks the thread, as ever.
//!
//! Feature `monkey` lets greenlets wait for std's locks by parking. The crate's own must not: they
//! are held for some instructions, by another thread, and whoever takes one counts on it that
//! nobody of his own thread runs meanwhile.

#[cfg(feature = "monkey")]
use std::cell::Cell;

#[cfg(feature = "monkey")]
thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Does `f`, in which nothing waits by parking.
#[inline(always)]
pub(crate) fn natively<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "monkey")]
    let _section = Section::enter();
    f()
}

#[cfg(feature = "monkey")]
struct Section;

#[cfg(feature = "monkey")]
impl Section {
    #[inline(always)]
    fn enter() -> Section {
        super::local::with(&DEPTH, |depth| depth.set(depth.get() + 1));
        Section
    }
}

#[cfg(feature = "monkey")]
impl Drop for Section {
    #[inline(always)]
    fn drop(&mut self) {
        super::local::with(&DEPTH, |depth| depth.set(depth.get() - 1));
    }
}

/// Is this such a section?
#[cfg(feature = "monkey")]
#[inline(always)]
pub(crate) fn is_native() -> bool {
    super::local::with(&DEPTH, |depth| depth.get() > 0)
}
