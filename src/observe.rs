//! Looking at a hub from above.

pub use crate::hub::{Dump, DumpEntry};

/// Every greenlet of this thread: name, state, what it waits for, age, and where it was spawned.
///
/// # Examples
///
/// ```
/// use greenloom::{dump, idle, sleep, spawn};
/// use std::time::Duration;
///
/// let sleeper = spawn(|| sleep(Duration::from_secs(10)));
/// idle(); // let it begin
/// let dump = dump();
/// let entry = dump.greenlets().iter().find(|entry| entry.id == sleeper.id()).unwrap();
/// assert_eq!((entry.state, entry.reason.as_deref()), ("parked", Some("sleep")));
/// println!("{dump}");
/// ```
#[must_use]
pub fn dump() -> Dump {
    crate::hub::dump()
}
