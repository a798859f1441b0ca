//! The way back: from a thread of the pool to the hub that waits.
//!
//! ```text
//!   hub's thread                         another thread
//!   expect(what) -> Returned  ---------> dropped when the work is done:
//!                                          its number goes into the tray;
//!   deliver: empties the tray, <--------   was it empty? then a letter wakes the hub,
//!   calls what.come() for each             whose loop calls deliver
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slab::Slab;

use crate::error::Interruption;
use crate::hub::{self, Reason, Remote, Wake};
use crate::sys;
use crate::sys::native::natively;
use crate::wait::WaitList;

/// What somebody on this thread expects from another one.
pub(crate) trait Expected {
    /// It has come. Called by the hub's loop: it must neither wait nor run anything of the user's,
    /// and dropping it must not, either.
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
struct Desk {
    tray: Option<Arc<Tray>>,
    expected: Slab<Rc<dyn Expected>>,
}

impl Desk {
    const EMPTY: Desk = Desk { tray: None, expected: Slab::new() };
}

thread_local! {
    /// It goes with the hub, and not when the turn of this destructor comes: greenlets that are left
    /// when their thread ends may still use it.
    static DESK: RefCell<ManuallyDrop<Desk>> = const { RefCell::new(ManuallyDrop::new(Desk::EMPTY)) };
}

fn with_desk<R>(f: impl FnOnce(&mut Desk) -> R) -> R {
    sys::local::with(&DESK, |desk| f(&mut desk.borrow_mut()))
}

/// The hub has ended, and what has not come never will.
fn clear() {
    let desk = with_desk(|desk| mem::replace(desk, Desk::EMPTY));
    drop(desk);
}

impl Tray {
    fn numbers(&self) -> MutexGuard<'_, Vec<usize>> {
        natively(|| self.numbers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, number: usize) -> bool {
        let mut numbers = self.numbers();
        numbers.push(number);
        numbers.len() == 1
    }

    fn take(&self) -> Vec<usize> {
        mem::take(&mut *self.numbers())
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
        if hub::has_ended() {
            return Err(io::Error::other("the thread is ending"));
        }
        let tray = match with_desk(|desk| desk.tray.clone()) {
            Some(tray) => tray,
            None => {
                let tray = Arc::new(Tray { numbers: Mutex::default(), hub: hub::quiet_remote()? });
                with_desk(|desk| desk.tray = Some(Arc::clone(&tray)));
                hub::call_at_end(clear);
                tray
            }
        };
        hub::expect();
        let number = with_desk(|desk| desk.expected.insert(what));
        Ok(Returned { tray, number })
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if self.tray.put(self.number) {
            // An error means that the hub has ended, and nobody waits any more.
            let _ = self.tray.hub.call(deliver);
        }
    }
}

/// Tells those whose work is done. Called by the hub's loop, so that it can never fail for want of a
/// stack: a tray that is not emptied would wake nobody any more.
fn deliver() {
    let Some(tray) = with_desk(|desk| desk.tray.clone()) else { return };
    let numbers = tray.take();
    hub::has_come(numbers.len());
    for number in numbers {
        if let Some(what) = with_desk(|desk| desk.expected.try_remove(number)) {
            what.come();
        }
    }
}

/// Somebody who waits for what another thread will say once.
pub(super) struct Word {
    line: WaitList,
    has_come: Cell<bool>,
}

impl Word {
    pub(super) fn awaited() -> (Rc<Word>, io::Result<Returned>) {
        let word = Rc::new(Word { line: WaitList::default(), has_come: false.into() });
        let returned = Returned::expect(Rc::clone(&word) as Rc<dyn Expected>);
        (word, returned)
    }

    /// False: `deadline` came first.
    pub(super) fn wait(
        &self,
        verb: &'static &'static str,
        deadline: Option<Instant>,
    ) -> Result<bool, Interruption> {
        while !self.has_come.get() {
            if self.line.wait(Reason::new(verb), deadline)? == Wake::Elapsed {
                return Ok(self.has_come.get());
            }
        }
        Ok(true)
    }
}

impl Expected for Word {
    fn come(self: Rc<Self>) {
        self.has_come.set(true);
        self.line.wake_all();
    }
}
