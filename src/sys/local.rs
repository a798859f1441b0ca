//! Thread-locals without a destructor, at the price of one address.

use std::cell::RefCell;
use std::mem;
use std::ptr;
use std::thread::LocalKey;

/// As [`LocalKey::with`], for values that have nothing to drop: nothing is to be checked, as they
/// are there as long as their thread runs, during the destructors of others included.
///
/// (`LocalKey::with` itself is a call through a pointer as soon as `f` is too large to be inlined
/// into it, which at a few nanoseconds each would be a good part of a switch.)
#[inline(always)]
pub(crate) fn with<T, R>(key: &'static LocalKey<T>, f: impl FnOnce(&T) -> R) -> R {
    const { assert!(!mem::needs_drop::<T>(), "a destructor would end it before its thread") };
    let value = key.with(|value| ptr::from_ref(value));
    // SAFETY: it belongs to the running thread, which cannot end while it runs `f`, and without a
    // destructor a thread-local is not ended before its thread.
    f(unsafe { &*value })
}

/// The cell itself, for those whose closure is too large to be inlined into [`with`] at each of its
/// callers: a call, with all it saves and restores, is a third of what most of them do.
#[inline(always)]
pub(crate) fn cell<T>(key: &'static LocalKey<RefCell<T>>) -> &'static RefCell<T> {
    const { assert!(!mem::needs_drop::<T>(), "a destructor would end it before its thread") };
    let cell = key.with(ptr::from_ref);
    // SAFETY: without a destructor it lasts as long as the running thread, and no longer; but a
    // reference to a cell, which is not `Sync`, cannot leave that thread.
    unsafe { &*cell }
}
