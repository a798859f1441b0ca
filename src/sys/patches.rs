//! Which families of the C library's functions wait by parking.
//!
//! Down here, so that dumps can tell; the functions are in the room `monkey`.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::real;

/// A family of functions of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Patch {
    /// Sockets and pipes: `connect`, `accept`, `recv`, `send`, `read`, `write` ...
    Socket,
    /// `nanosleep`, `sleep`, `sched_yield` ...
    Time,
    /// `getaddrinfo`, `getnameinfo`.
    Dns,
    /// `poll`, `select` ...
    Select,
    /// `waitpid`, `waitid`, `wait4`.
    Process,
    /// `pthread_join`.
    Thread,
    /// Futexes: the locks, condition variables and channels of std, and `thread::park`.
    Lock,
    /// Regular files, by threads. The one that `patch_all` leaves out.
    File,
}

impl Patch {
    /// All there are.
    pub const ALL: &'static [Patch] = &[
        Patch::Socket,
        Patch::Time,
        Patch::Dns,
        Patch::Select,
        Patch::Process,
        Patch::Thread,
        Patch::Lock,
        Patch::File,
    ];

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Its name: `"socket"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Patch::Socket => "socket",
            Patch::Time => "time",
            Patch::Dns => "dns",
            Patch::Select => "select",
            Patch::Process => "process",
            Patch::Thread => "thread",
            Patch::Lock => "lock",
            Patch::File => "file",
        }
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A bit for each that is on, in the whole process.
static ON: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
pub(crate) fn is_on(patch: Patch) -> bool {
    // Relaxed: nothing else is published by it.
    ON.load(Ordering::Relaxed) & patch.bit() != 0
}

#[inline(always)]
pub(crate) fn is_any_on() -> bool {
    ON.load(Ordering::Relaxed) != 0
}

/// Those that are on.
pub(crate) fn on() -> Vec<Patch> {
    Patch::ALL.iter().copied().filter(|patch| is_on(*patch)).collect()
}

/// Who has patched.
static PROCESS: AtomicU32 = AtomicU32::new(0);

pub(crate) fn note_process() {
    PROCESS.store(real::process(), Ordering::Relaxed);
}

/// Is this a child that has the memory of the process that has patched?
pub(crate) fn is_child() -> bool {
    PROCESS.load(Ordering::Relaxed) != real::process()
}

pub(crate) fn turn_on(patch: Patch) {
    ON.fetch_or(patch.bit(), Ordering::Relaxed);
}

/// For the child of a `fork`, which must not use the hub of its parent.
pub(crate) extern "C" fn turn_all_off() {
    ON.store(0, Ordering::Relaxed);
}
