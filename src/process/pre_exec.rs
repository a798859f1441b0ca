//! What runs in the child between `fork` and `exec`, which no compiler can check.

#![expect(unsafe_code, reason = "std's method is unsafe, and so is ours")]

use std::io;
use std::os::unix::process::CommandExt as _;

use super::command::Command;

impl Command {
    /// Calls `f` in the child, after it was forked and before the program begins.
    /// [`std::os::unix::process::CommandExt::pre_exec`].
    ///
    /// If it returns an error, so does [`spawn`](Command::spawn).
    ///
    /// # Safety
    ///
    /// As for std's: the child is a copy of a process with many threads, of which only this one
    /// goes on, so a lock that another one held is held for ever. `f` must call nothing but
    /// async-signal-safe functions: it must not allocate, lock, panic, or call anything of this
    /// crate.
    pub unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: what std asks for is what our caller has promised.
        unsafe { self.std_mut().pre_exec(f) };
        self
    }
}
