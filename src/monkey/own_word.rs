//! Futexes that belong to a thread and not to what is waited for, and waits in which a thread stands
//! still.
//!
//! A lock of `parking_lot` has no futex. Who waits for it hangs a node into a queue, and waits for a
//! word in that node; and the node is a thread-local. If a second greenlet of the thread waited as
//! well, the same node would be hung in twice and the queue be torn; and when the call arrives here
//! the node is in the queue already. So a greenlet must not let others run in such a wait: its thread
//! stands still, as it did before anything was patched.
//!
//! Such a word is told by where it lies: in the block of thread-locals of the calling thread, which
//! each object of the program (the program itself, and each shared library) has one of. std's own
//! words never lie there, and say `FUTEX_WAIT_BITSET`, so they are not asked about.
//!
//! A lock of that kind that is held by another greenlet of the same thread is never given up while
//! the thread stands still. That is a deadlock, and would be a silent one: so when a thread that has
//! other greenlets has stood still for a second, it is reported.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::time::Duration;

use super::futex::{Futex, now};
use super::gate::error;
use crate::hub;
use crate::sys::local;

thread_local! {
    /// The word that was last asked about, and the answer.
    static LAST: Cell<(usize, bool)> = const { Cell::new((0, false)) };
    /// The greenlet that was last reported.
    static REPORTED: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Is that address among the thread-locals of this thread?
pub(super) fn is_own(word: usize) -> bool {
    let (last, answer) = local::with(&LAST, Cell::get);
    if last == word {
        return answer;
    }
    let mut search = Search { word, found: false };
    // SAFETY: the function fits what it is given, which is there as long as the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    local::with(&LAST, |last| last.set((word, search.found)));
    search.found
}

struct Search {
    word: usize,
    found: bool,
}

/// Does it lie in this object's block?
unsafe extern "C" fn look(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    search: *mut c_void,
) -> c_int {
    // SAFETY: the loader hands a description of one object.
    let object = unsafe { &*object };
    // SAFETY: what `is_own` has passed.
    let search = unsafe { &mut *search.cast::<Search>() };
    let block = object.dlpi_tls_data.addr();
    if block == 0 || object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: an object has so many headers there.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    let size = headers.iter().find(|header| header.p_type == libc::PT_TLS);
    let size = size.map_or(0, |header| header.p_memsz as usize);
    search.found = (block..block + size).contains(&search.word);
    c_int::from(search.found)
}

const LONG: Duration = Duration::from_secs(1);

/// The kernel's wait; it is reported if it lasts.
pub(super) fn stand(call: Futex) -> isize {
    if call.is_limited() || !hub::has_others() {
        return call.call();
    }
    let until = now(libc::CLOCK_MONOTONIC) + LONG;
    let until = libc::timespec {
        tv_sec: until.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(until.subsec_nanos()),
    };
    match call.until(&until).call() {
        result if result == error(libc::ETIMEDOUT) => {
            report(hub::current_task().number());
            call.call()
        }
        result => result,
    }
}

/// Once for each greenlet.
fn report(greenlet: u64) {
    if local::with(&REPORTED, |last| last.replace(greenlet)) == greenlet {
        return;
    }
    hub::report_current(
        "stops its thread",
        "for a second it has waited for a lock for which a greenlet cannot park: one of \
         parking_lot, say, or one that a destructor takes while its greenlet unwinds. If another \
         greenlet of this thread holds it, none of them will ever run again"
            .to_owned(),
    );
}
