//! What the process does when a signal comes, as far as the kernel has been told.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What has been told the kernel about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Nothing: it does what this signal does by itself, which ends most processes.
    Default,
    Ignored,
    /// Somebody's function is called.
    Handled,
}

/// # Errors
///
/// `InvalidInput` if there is no such signal.
pub(crate) fn disposition(signal: i32) -> io::Result<Disposition> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is set, and what is told is written where there is room for it.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so it has written all of it.
    let action = unsafe { action.assume_init() };
    Ok(match action.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Handled,
    })
}
