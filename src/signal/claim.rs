//! Signals of the whole process: which of them somebody here wants, so that the others keep doing
//! what they do by default.
//!
//! A handler that has been installed stays: neither the system nor `signal-hook` has a safe way to
//! take one away, because somebody else may have put his on top. So the handler itself does what
//! the signal would do by default, while nobody claims the signal; that is what
//! `flag::register_conditional_default` is for. It is installed only where that was what the signal
//! did before: one that was ignored (`nohup` ignores SIGHUP, Rust programs SIGPIPE) is ignored
//! again, and one that another handler was there for is left to that one.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::flag;

use super::number::Signal;
use crate::sys::disposition::{Disposition, disposition};
use crate::sys::native::natively;

/// Every signal that has been claimed once.
static KNOWN: Mutex<BTreeMap<Signal, Known>> = Mutex::new(BTreeMap::new());

struct Known {
    claims: usize,
    /// Read by the handler.
    is_unclaimed: Arc<AtomicBool>,
}

/// As long as it lives, the signal does nothing by itself.
#[derive(Debug)]
pub(super) struct Claim(Signal);

fn known() -> MutexGuard<'static, BTreeMap<Signal, Known>> {
    natively(|| KNOWN.lock().unwrap_or_else(PoisonError::into_inner)) // it is in order at any moment
}

/// To be called before any other handler is installed for that signal: notes what it does by
/// default, and goes on doing it.
pub(super) fn keep_default(signal: Signal) -> io::Result<()> {
    let mut known = known();
    if known.contains_key(&signal) {
        return Ok(());
    }
    let is_unclaimed = Arc::new(AtomicBool::new(true));
    if disposition(signal.as_raw())? == Disposition::Default {
        let (number, condition) = (signal.as_raw(), Arc::clone(&is_unclaimed));
        match signal.name() {
            Some(_) => flag::register_conditional_default(number, condition)?,
            // Those without a name (real-time signals, for instance) end the process by default.
            // A status is as near as one gets to that.
            None => flag::register_conditional_shutdown(number, 128 + number, condition)?,
        };
    }
    known.insert(signal, Known { claims: 0, is_unclaimed });
    Ok(())
}

impl Claim {
    /// [`keep_default`] has been called for that signal.
    pub(super) fn new(signal: Signal) -> Claim {
        if let Some(known) = known().get_mut(&signal) {
            known.claims += 1;
            known.is_unclaimed.store(false, Ordering::SeqCst);
        }
        Claim(signal)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(known) = known().get_mut(&self.0) {
            known.claims -= 1;
            known.is_unclaimed.store(known.claims == 0, Ordering::SeqCst);
        }
    }
}
