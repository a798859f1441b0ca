//! The way back: from a thread of the pool to the hub that waits.
//!
//! ```text
//!   hub's thread                         another thread
//!   expect(what) -> Returned  ---------> dropped when the work is done:
//!                                          its number goes into the tray;
//!   deliver: empties the tray, <--------   was it empty? then a letter wakes the hub
//!   calls what.come() for each
//! ```

use std::cell::RefCell;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use slab::Slab;

use crate::hub::{self, Remote};

/// What somebody on this thread expects from another one.
pub(crate) trait Expected {
    /// It has come. Called in a greenlet that has others to tell: it must not wait.
    fn come(self: Rc<Self>);
}

/// The other thread's end: dropping it says that the work is done. May be dropped anywhere, also
/// after the hub has ended.
#[derive(Debug)]
pub(crate) struct Returned {
    tray: Arc<Tray>,
    number: usize,
}

#[derive(Debug)]
struct Tray {
    numbers: Mutex<Vec<usize>>,
    hub: Remote,
}

/// This thread's end.
#[derive(Default)]
struct Desk {
    tray: Option<Arc<Tray>>,
    expected: Slab<Rc<dyn Expected>>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

impl Tray {
    fn put(&self, number: usize) -> bool {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.push(number);
        numbers.len() == 1
    }

    fn take(&self) -> Vec<usize> {
        mem::take(&mut *self.numbers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Returned {
    /// From now on the hub of this thread expects `what`, and will not say that nothing can ever
    /// wake it.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left to be woken by.
    pub(crate) fn expect(what: Rc<dyn Expected>) -> io::Result<Returned> {
        let known = DESK.try_with(|desk| desk.borrow().tray.clone());
        let tray = match known.map_err(|_| io::Error::other("the thread is ending"))? {
            Some(tray) => tray,
            None => {
                let hub = hub::quiet_remote()?;
                Arc::new(Tray { numbers: Mutex::default(), hub })
            }
        };
        hub::expect();
        let number = DESK.with_borrow_mut(|desk| {
            desk.tray = Some(Arc::clone(&tray));
            desk.expected.insert(what)
        });
        Ok(Returned { tray, number })
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if self.tray.put(self.number) {
            // An error means that the hub has ended, and nobody waits any more.
            let _ = self.tray.hub.spawn(deliver);
        }
    }
}

/// Tells those whose work is done.
fn deliver() {
    let tray = DESK.try_with(|desk| desk.borrow().tray.clone());
    let Ok(Some(tray)) = tray else { return };
    let numbers = tray.take();
    hub::has_come(numbers.len());
    for number in numbers {
        let what = DESK.with_borrow_mut(|desk| desk.expected.try_remove(number));
        // Whatever it holds goes with it.
        hub::quietly("panicked in the destructor of a result", || {
            if let Some(what) = what {
                what.come();
            }
        });
    }
}
