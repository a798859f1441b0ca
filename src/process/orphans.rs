//! Children whose `Child` was dropped before they had ended.
//!
//! Of the whole process, not of a thread: so they outlive the thread that made them, and whoever
//! comes next reaps them.

use std::process::Child;
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::sys::native::natively;

static ORPHANS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

pub(super) fn adopt(child: Child) {
    natively(|| ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)).push(child);
}

/// Reaps those that have ended.
pub(super) fn sweep() {
    let mut orphans = match ORPHANS.try_lock() {
        Ok(orphans) => orphans,
        Err(TryLockError::Poisoned(orphans)) => orphans.into_inner(),
        Err(TryLockError::WouldBlock) => return, // somebody does it now
    };
    // An error says that it is not our child any more.
    orphans.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}
