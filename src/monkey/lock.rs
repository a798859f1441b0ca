//! Futexes, and with them what std makes of them: `Mutex`, `RwLock`, `Condvar`, `Once`, `Barrier`,
//! channels, `thread::park`.
//!
//! std calls the kernel for them by libc's `syscall`, which is replaced here; every other number goes
//! to the kernel at once. A greenlet's `FUTEX_WAIT` takes a place in the [`lot`], if the word is as
//! expected, and parks. Anybody's `FUTEX_WAKE` looks there as well as at the kernel's.
//!
//! # No wake-up is lost
//!
//! Who wakes has changed the word before. Who waits is counted in its bucket, and then looks at the
//! word, both under the bucket's lock; a fence stands between the two on either side. So either the
//! word is seen to have changed, and nobody waits; or the count is seen, and whoever wakes comes to
//! the lock, under which the waiter is then to be found. To be woken is to be taken out of the lot:
//! a wait that a kill, a time limit or the hub's end has ended meanwhile finds its place gone, and
//! answers that it was woken, so a wake-up that it was given is not kept from others.
//!
//! `FUTEX_WAKE` of `n` wakes `n` of the kernel's, and `n` of the greenlets of each thread. Not `n` in
//! all: a greenlet that is woken runs when its thread does, and if that stands still, for this or for
//! something else (a destructor that locks a mutex while it unwinds, a mutex of C's), nobody would
//! ever go on. A futex may wake for nothing, and whoever is woken looks at the word.
//!
//! # Being interrupted
//!
//! The lock of a mutex cannot fail, and std makes the call again and again until it has it. So the
//! call tells of a kill or a timeout once (`ECANCELED`, which to std is a wake-up for nothing), and
//! further waits are hard until it has been raised, by a wait that can be unwound: a kill never ends
//! the wait for a lock, but it ends what comes after it. When a thread ends, those who still wait for
//! a lock that nobody of the thread gives up are left behind, with what lies on their stacks.
//!
//! # What is left to the kernel
//!
//! * A wait without `FUTEX_PRIVATE_FLAG`: another process may end it.
//! * Words that belong to this thread: see [`own_word`](super::own_word).
//! * `FUTEX_REQUEUE` and the like move those who wait from word to word. All of ours are woken, and
//!   look again. The kind with priorities (`PI`), which has an owner in the word, and the newer
//!   system calls (`futex_wait`, `futex_waitv`).
//!
//! The parker of std is a word that all greenlets of a thread share: see [`parker`](super::parker).

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::descriptor::WOULD_BLOCK;
use super::futex::{Futex, PRIVATE, WALL, check, stay};
use super::gate::{answer, is_cooperative};
use super::lot::{self, Key, Place};
use super::{own_word, parker};
use crate::sys::native::is_native;
use crate::sys::patches::{self, Patch};
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["syscall"];

/// Variadic in C, where those whose arguments are integers are called in the same way as others, on
/// both of the architectures that we know.
///
/// # Safety
///
/// As for the system call of that number.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let arguments = [a, b, c, d, e, f];
    let result = if number == libc::SYS_futex && patches::is_on(Patch::Lock) {
        // SAFETY: the caller's arguments, as they are.
        futex(unsafe { Futex::new(arguments) })
    } else {
        // SAFETY: the caller's arguments, as they are.
        unsafe { real::call(number, arguments) }
    };
    answer(result) as c_long
}

#[inline(never)]
fn futex(call: Futex) -> isize {
    // Locks of our own, the lot's among them.
    if is_native() {
        return call.call();
    }
    match call.operation() {
        shared if shared & PRIVATE == 0 => call.call(),
        private => match private & !PRIVATE {
            libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => wake(call),
            libc::FUTEX_WAIT => wait(call),
            other if other & !WALL == libc::FUTEX_WAIT_BITSET => wait(call),
            libc::FUTEX_REQUEUE
            | libc::FUTEX_CMP_REQUEUE
            | libc::FUTEX_CMP_REQUEUE_PI
            | libc::FUTEX_WAKE_OP => {
                let result = call.call();
                // Afterwards, because one of them changes a word first.
                for word in [call.word(), call.other()] {
                    lot::wake(Key::Word(word), lot::ANY, usize::MAX);
                }
                result
            }
            _ => call.call(),
        },
    }
}

// ── waking ──

fn wake(call: Futex) -> isize {
    let key = Key::Word(call.word());
    if parker::hears(call.word()) {
        return 0;
    }
    // The kernel first: a thread that waits there may hold what is needed to wake the others, if it
    // allocates, say, and this is the unlocking of the allocator's mutex.
    let theirs = call.call();
    if theirs < 0 || lot::is_empty(key) {
        return theirs;
    }
    // Whoever has a parker there hears of it whoever else is woken: it is not for one greenlet.
    lot::wake(Key::Parker(call.word()), lot::ANY, 1);
    // As in the kernel, where a request for none wakes one.
    let most = (call.value() as c_int).max(1) as usize;
    let ours = lot::wake(key, call.mask(), most);
    (theirs as usize).saturating_add(ours).min(most) as isize
}

// ── waiting ──

fn wait(call: Futex) -> isize {
    let is_masked = call.operation() & libc::FUTEX_WAIT_BITSET == libc::FUTEX_WAIT_BITSET;
    let parks = is_cooperative(Patch::Lock) && (is_masked || !own_word::is_own(call.word()));
    if !parks {
        parker::may_have_taken(call.word());
        return own_word::stand(call);
    }
    match check(call) {
        Ok(deadline) => park(call, deadline).unwrap_or_else(|| call.call()),
        Err(error) => error,
    }
}

/// `None`: it cannot be waited for here.
fn park(call: Futex, deadline: Option<Instant>) -> Option<isize> {
    let word: *const AtomicU32 = std::ptr::with_exposed_provenance(call.word());
    // SAFETY: the kernel has just read it, so it is there, and aligned; and whoever waits for it
    // keeps it, or it could not be woken.
    let word = unsafe { &*word };
    if call.mask() == lot::ANY && parker::is_parker(word, call.value()) {
        return parker::wait(word, deadline);
    }
    let is_as_expected = || word.load(Ordering::SeqCst) == call.value();
    match Place::take(Key::Word(call.word()), call.mask(), is_as_expected) {
        Ok(Some(place)) => Some(stay(place, &"futex", deadline)),
        Ok(None) => Some(WOULD_BLOCK),
        Err(_) => None,
    }
}
