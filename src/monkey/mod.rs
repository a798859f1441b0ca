//! Blocking code of others made to wait by parking: gevent's `monkey.patch_all`.
//!
//! (The contract is written here: see issue.)

#![expect(unsafe_code, reason = "functions of C take the place of others, by name and by pointer")]

mod descriptor;
mod gate;
mod lot;

mod close;
mod dns;
mod file;
mod fortified;
mod lock;
mod process;
mod select;
mod socket;
mod stream;
mod thread;
mod time;

use std::fmt;
use std::sync::Once;

pub use crate::sys::patches::Patch;

use crate::sys::{patches, real};

/// Lets everything but files wait by parking: each of [`Patch::ALL`] except [`Patch::File`].
pub fn patch_all() {
    patch_all_except(&[]);
}

/// As [`patch_all`], leaving some out.
pub fn patch_all_except(except: &[Patch]) {
    for patch in Patch::ALL {
        if *patch != Patch::File && !except.contains(patch) {
            turn_on(*patch);
        }
    }
}

fn turn_on(patch: Patch) {
    static IN_CHILDREN: Once = Once::new();
    IN_CHILDREN.call_once(|| {
        // It fails only without memory. Then a child that goes on without `exec` must patch nothing.
        let _ = real::call_in_children(patches::turn_all_off);
    });
    patches::turn_on(patch);
}

/// Lets sockets and pipes wait by parking: [`Patch::Socket`].
pub fn patch_socket() {
    turn_on(Patch::Socket);
}

/// Lets sleeping wait by parking: [`Patch::Time`].
pub fn patch_time() {
    turn_on(Patch::Time);
}

/// Lets threads look up names while the greenlet parks: [`Patch::Dns`].
pub fn patch_dns() {
    turn_on(Patch::Dns);
}

/// Lets `poll` and `select` wait by parking: [`Patch::Select`].
pub fn patch_select() {
    turn_on(Patch::Select);
}

/// Lets waiting for children park: [`Patch::Process`].
pub fn patch_process() {
    turn_on(Patch::Process);
}

/// Lets joining threads park: [`Patch::Thread`].
pub fn patch_thread() {
    turn_on(Patch::Thread);
}

/// Lets the locks, condition variables and channels of std wait by parking: [`Patch::Lock`].
pub fn patch_lock() {
    turn_on(Patch::Lock);
}

/// Lets threads read and write regular files while the greenlet parks: [`Patch::File`].
pub fn patch_file() {
    turn_on(Patch::File);
}

/// Is that family patched?
#[must_use]
pub fn is_patched(patch: Patch) -> bool {
    patches::is_on(patch)
}

/// What is patched, and by which functions. `Display` prints a line for each family.
#[must_use]
pub fn report() -> Report {
    Report { entries: Patch::ALL.iter().map(|patch| (*patch, patches::is_on(*patch))).collect() }
}

/// What [`report`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    entries: Vec<(Patch, bool)>,
}

impl Report {
    /// Each family, and whether it is patched.
    #[must_use]
    pub fn entries(&self) -> &[(Patch, bool)] {
        &self.entries
    }

    /// The functions of the C library that belong to a family.
    #[must_use]
    pub fn functions(patch: Patch) -> Vec<&'static str> {
        let names: &[&[&str]] = match patch {
            Patch::Socket => &[socket::NAMES, stream::NAMES, close::NAMES],
            Patch::Time => &[time::NAMES],
            Patch::Dns => &[dns::NAMES],
            Patch::Select => &[select::NAMES],
            Patch::Process => &[process::NAMES],
            Patch::Thread => &[thread::NAMES],
            Patch::Lock => &[lock::NAMES],
            Patch::File => &[file::NAMES],
        };
        names.concat()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (patch, on)) in self.entries.iter().enumerate() {
            let state = if *on { "patched" } else { "not patched" };
            let functions = Report::functions(*patch).join(" ");
            write!(f, "{}{patch:<8} {state:<12} {functions}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
