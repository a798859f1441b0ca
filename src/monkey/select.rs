//! Several descriptors at once: `poll` and `select`.
//!
//! The kernel is asked first and last: its own call, with no time to wait, says what is ready, and
//! which arguments are wrong. In between the greenlet parks until something happens to one of the
//! descriptors, and asks again if that was not what the caller wants to hear of. It does not spin
//! where something else is there all the time (a poll for urgent data alone, and ordinary data that
//! nobody reads): the poller is told of a *change* once, so each wait is ended by something new.
//!
//! Left to the kernel, blocking, are a call that is to change the signal mask while it waits, which
//! parking cannot do at the same instant; one that names the three standard descriptors alone; and
//! one whose arguments the kernel will not take.
//!
//! `epoll_wait` is not here, and on purpose: it is what other runtimes wait by, which keep what they
//! know by thread.

use std::ffi::{c_int, c_short};
use std::ops::Range;
use std::time::{Duration, Instant};
use std::{io, mem, ptr};

use libc::{fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::descriptor::{LONGEST_PAUSE, Waited, Watcher, address, wait};
use super::gate::{CANCELLED, answer_int, error, is_cooperative};
use crate::hub::{self, Side};
use crate::sys::patches::Patch;
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["poll", "ppoll", "select", "pselect"];

// ── poll ──

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let parked = if timeout != 0 && is_cooperative(Patch::Select) {
        let limit = u64::try_from(timeout).ok().map(Duration::from_millis); // negative: for ever
        poll_parking(fds, count, limit, &"poll")
    } else {
        None
    };
    answer_int(parked.unwrap_or_else(|| poll_kernel(fds, count, timeout)))
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own.
    let mut time = unsafe { copied(timeout) };
    let parked = if mask.is_null() && waits(time.as_ref()) && is_cooperative(Patch::Select) {
        poll_parking(fds, count, time.map(duration_of), &"ppoll")
    } else {
        None
    };
    answer_int(parked.unwrap_or_else(|| ppoll_kernel(fds, count, time.as_mut(), mask)))
}

#[cfg(target_arch = "x86_64")]
fn poll_kernel(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> isize {
    let arguments = [address(fds), count as usize, timeout as usize, 0, 0, 0];
    // SAFETY: the caller's arguments, as they are.
    unsafe { real::call(libc::SYS_poll, arguments) }
}

/// Younger architectures have `ppoll` alone.
#[cfg(not(target_arch = "x86_64"))]
fn poll_kernel(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> isize {
    let limit = u64::try_from(timeout).ok().map(Duration::from_millis);
    let mut time = limit.map(timespec_of);
    ppoll_kernel(fds, count, time.as_mut(), ptr::null())
}

fn ppoll_kernel(
    fds: *mut pollfd,
    count: nfds_t,
    time: Option<&mut timespec>,
    mask: *const sigset_t,
) -> isize {
    let time = time.map_or(ptr::null_mut(), ptr::from_mut);
    let arguments = [address(fds), count as usize, address(time), address(mask), MASK_LEN, 0];
    // SAFETY: the caller's arguments; the kernel writes the time that is left to a copy of ours.
    unsafe { real::call(libc::SYS_ppoll, arguments) }
}

/// The bytes of a signal mask, as the kernel counts them.
const MASK_LEN: usize = 8;

/// `None`: it is the kernel's to wait.
fn poll_parking(
    fds: *mut pollfd,
    count: nfds_t,
    limit: Option<Duration>,
    verb: &'static &'static str,
) -> Option<isize> {
    let probe = || poll_kernel(fds, count, 0);
    match probe() {
        0 => {}
        result => return Some(result),
    }
    let mut asked = Vec::with_capacity(count as usize);
    for n in 0..count as usize {
        let place = fds.wrapping_add(n);
        // SAFETY: the kernel has just read and written so many there.
        let pollfd { fd, events, .. } = unsafe { place.read() };
        if fd >= 0 {
            asked.push(Asked { fd, sides: sides_of(events) });
        }
    }
    park(asked, verb, limit, probe)
}

fn sides_of(events: c_short) -> u8 {
    const WRITE_EVENTS: c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;
    // Told in any case, and in both directions.
    const ALWAYS: c_short = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    match (events & !WRITE_EVENTS & !ALWAYS != 0, events & WRITE_EVENTS != 0) {
        (true, true) => READ | WRITE,
        (false, true) => WRITE,
        (_, false) => READ,
    }
}

// ── select ──

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    let sets = [read, write, except];
    if timeout.is_null() {
        return select_in(count, sets, None, &"select");
    }
    // SAFETY: the caller's own; the C library reads it, too.
    let timeval { tv_sec, tv_usec } = unsafe { timeout.read() };
    if tv_sec < 0 || tv_usec < 0 {
        return answer_int(error(libc::EINVAL)); // the C library's, which leaves it as it is
    }
    // More microseconds than make a second are in order, for the C library though not for the kernel.
    let limit = Duration::from_secs(tv_sec as u64) + Duration::from_micros(tv_usec as u64);
    let mut time = timespec_of(limit);
    let result = select_in(count, sets, Some(&mut time), &"select");
    // The time that is left, after an error, too: so it is on Linux.
    let left = timeval { tv_sec: time.tv_sec, tv_usec: time.tv_nsec / 1000 };
    // SAFETY: the caller's own, to be written to.
    unsafe { timeout.write(left) };
    result
}

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own, which is not told of the time that is left.
    let mut time = unsafe { copied(timeout) };
    let sets = [read, write, except];
    if mask.is_null() {
        return select_in(count, sets, time.as_mut(), &"pselect");
    }
    answer_int(select_kernel(count, sets.map(|set| address(set)), time.as_mut(), mask))
}

/// `time` is what is left of it in the end.
fn select_in(
    count: c_int,
    sets: [*mut fd_set; 3],
    mut time: Option<&mut timespec>,
    verb: &'static &'static str,
) -> c_int {
    if waits(time.as_deref()) && is_cooperative(Patch::Select) {
        let (begun, limit) = (Instant::now(), time.as_deref().copied().map(duration_of));
        if let Some(result) = select_parking(count, sets, limit, verb) {
            if let (Some(time), Some(limit)) = (&mut time, limit) {
                **time = timespec_of(limit.saturating_sub(begun.elapsed()));
            }
            return answer_int(result);
        }
    }
    answer_int(select_kernel(count, sets.map(|set| address(set)), time, ptr::null()))
}

fn select_kernel(
    count: c_int,
    [read, write, except]: [usize; 3],
    time: Option<&mut timespec>,
    mask: *const sigset_t,
) -> isize {
    let time = time.map_or(ptr::null_mut(), ptr::from_mut);
    let mask = [address(mask), MASK_LEN];
    let arguments = [count as usize, read, write, except, address(time), address(&raw const mask)];
    // SAFETY: the caller's arguments, or copies of ours of his sets. Of the time there is a copy.
    unsafe { real::call(libc::SYS_pselect6, arguments) }
}

const BITS: usize = u64::BITS as usize;

/// No process has more descriptors, unless the system's own limit has been raised. The kernel, too,
/// looks no further than there can be one.
const MOST: c_int = 1 << 20;

/// Words in a set of the size that the C library gives it. (The kernel takes larger ones.)
const USUAL: usize = libc::FD_SETSIZE / BITS;

/// `None`: it is the kernel's to wait.
fn select_parking(
    count: c_int,
    given: [*mut fd_set; 3],
    limit: Option<Duration>,
    verb: &'static &'static str,
) -> Option<isize> {
    let count = count.min(MOST);
    let words = usize::try_from(count).ok()?.div_ceil(BITS);
    let (mut usual, mut larger);
    let room: &mut [u64] = if words <= USUAL {
        usual = [0; 6 * USUAL];
        &mut usual[..6 * words]
    } else {
        larger = vec![0; 6 * words];
        &mut larger
    };
    let mut sets = Sets::new(count, given, room)?;
    let result = match sets.probe() {
        0 => park(sets.listed(), verb, limit, || sets.probe())?,
        result => result,
    };
    if result >= 0 {
        sets.hand_over();
    }
    Some(result)
}

/// The caller's three sets, and copies of them, since the kernel writes what it has found to where it
/// has read what it is asked for.
struct Sets<'a> {
    count: c_int,
    given: [*mut fd_set; 3],
    /// One set after the other.
    asked: &'a mut [u64],
    found: &'a mut [u64],
}

impl<'a> Sets<'a> {
    /// `None`: one cannot be read, as the kernel will say.
    fn new(count: c_int, given: [*mut fd_set; 3], room: &'a mut [u64]) -> Option<Sets<'a>> {
        let (asked, found) = room.split_at_mut(room.len() / 2);
        let sets = Sets { count, given, asked, found };
        for (n, set) in given.iter().enumerate() {
            let range = sets.range(n);
            if !set.is_null() && !copy_in(*set, &mut sets.asked[range]) {
                return None;
            }
        }
        Some(sets)
    }

    /// Where the words of a set are.
    fn range(&self, set: usize) -> Range<usize> {
        let words = self.asked.len() / 3;
        set * words..(set + 1) * words
    }

    fn probe(&mut self) -> isize {
        self.found.copy_from_slice(self.asked);
        let mut copies = [0; 3];
        for (n, copy) in copies.iter_mut().enumerate() {
            if !self.given[n].is_null() {
                let range = self.range(n);
                *copy = address(self.found[range].as_mut_ptr());
            }
        }
        select_kernel(self.count, copies, Some(&mut timespec_of(Duration::ZERO)), ptr::null())
    }

    /// The descriptors that are asked for, after a probe that has found none.
    ///
    /// The kernel ignores numbers beyond those that the process has ever had, so a caller may give a
    /// count that his sets are too small for. What it has cleared is what it has looked at.
    fn listed(&self) -> Vec<Asked> {
        let words = self.asked.len() / 3;
        let looked_at = |set: usize, word: usize| {
            let at = set * words + word;
            self.asked[at] & !self.found[at]
        };
        let mut list = Vec::new();
        for word in 0..words {
            let read = looked_at(0, word) | looked_at(2, word);
            let write = looked_at(1, word);
            for bit in (0..BITS).filter(|bit| (read | write) >> bit & 1 != 0) {
                let fd = (word * BITS + bit) as c_int;
                let has = |set: u64, side| if set >> bit & 1 != 0 { side } else { 0 };
                if fd < self.count {
                    list.push(Asked { fd, sides: has(read, READ) | has(write, WRITE) });
                }
            }
        }
        list
    }

    /// Gives the caller what was found: of what the kernel would write, that which is not there yet.
    fn hand_over(&self) {
        let words = self.asked.len() / 3;
        for (at, (asked, found)) in self.asked.iter().zip(&*self.found).enumerate() {
            if asked != found {
                let place = self.given[at / words].cast::<u64>().wrapping_add(at % words);
                // SAFETY: in a set of the caller's, where the kernel would write it.
                unsafe { place.write_unaligned(*found) };
            }
        }
    }
}

/// Copies a set of the caller's. False: it cannot be read.
///
/// The kernel does the copying, so that a bad pointer is an error as ever, and no fault. If there is
/// more room than memory behind the pointer, that is an error in a set of the usual size only: see
/// [`listed`](Sets::listed).
fn copy_in(set: *const fd_set, to: &mut [u64]) -> bool {
    let len = mem::size_of_val(to);
    let (to, from) = ([address(to.as_mut_ptr()), len], [address(set), len]);
    // SAFETY: it says who we are, and takes nothing.
    let process = unsafe { real::call(libc::SYS_getpid, [0; 6]) } as usize;
    let arguments = [process, address(&raw const to), 1, address(&raw const from), 1, 0];
    // SAFETY: it writes to `to`, which is ours and as long as that.
    let copied = unsafe { real::call(libc::SYS_process_vm_readv, arguments) };
    copied >= len.min(size_of::<fd_set>()) as isize
}

// ── both ──

/// A descriptor, and where something is to be watched for.
struct Asked {
    fd: c_int,
    sides: u8,
}

const READ: u8 = 1;
const WRITE: u8 = 2;

impl Asked {
    fn watcher(&self) -> io::Result<Watcher> {
        let sides: &[Side] = match self.sides {
            READ => &[Side::Read],
            WRITE => &[Side::Write],
            _ => &[Side::Read, Side::Write],
        };
        Watcher::of(self.fd, sides)
    }
}

/// Watches them all. False: one of them cannot be watched, because there are too many or it is gone.
fn watch(asked: &[Asked]) -> (Vec<Watcher>, bool) {
    let mut watchers = Vec::with_capacity(asked.len());
    let mut all = true;
    for watcher in asked.iter().map(Asked::watcher) {
        match watcher {
            Ok(watcher) => watchers.push(watcher),
            // A regular file, to which nothing ever happens: what it is not now it never will be.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            Err(_) => all = false,
        }
    }
    (watchers, all)
}

/// Waits until `probe`, which has just found nothing, finds something. `None`: they are the kernel's.
///
/// Where one cannot be watched, the greenlet asks again after pauses: late, but it holds up nobody.
fn park(
    mut asked: Vec<Asked>,
    verb: &'static &'static str,
    limit: Option<Duration>,
    mut probe: impl FnMut() -> isize,
) -> Option<isize> {
    if !asked.is_empty() && asked.iter().all(|asked| asked.fd <= libc::STDERR_FILENO) {
        return None;
    }
    asked.sort_unstable_by_key(|asked| asked.fd);
    asked.dedup_by(|next, first| {
        let same = next.fd == first.fd;
        if same {
            first.sides |= next.sides;
        }
        same
    });
    let deadline = limit.map(hub::after);
    let (mut watchers, mut all) = watch(&asked);
    let mut pause = Duration::from_micros(500);
    loop {
        let next_look = if all { None } else { Some(hub::after(pause)) };
        let until = next_look.into_iter().chain(deadline).min();
        let waited = wait(&mut watchers, verb, until);
        if waited == Waited::Cancelled {
            return Some(CANCELLED);
        }
        let result = probe();
        if result != 0 || deadline.is_some_and(|at| Instant::now() >= at) {
            return Some(result);
        }
        if waited == Waited::Ready {
            // What has happened is not what was asked for.
            watchers.iter().for_each(Watcher::would_block);
            continue;
        }
        // What could not be watched may be by now; and the number of one that was closed may be
        // another descriptor's, or, if another thread closes it, be closed in a moment.
        drop(mem::take(&mut watchers));
        (watchers, all) = watch(&asked);
        all &= waited != Waited::Closed;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

// ── times ──

/// The caller's limit. (The kernel would write the time that is left to it, which is not for him.)
///
/// # Safety
///
/// It is null, or can be read.
unsafe fn copied(time: *const timespec) -> Option<timespec> {
    // SAFETY: as the caller says.
    (!time.is_null()).then(|| unsafe { time.read() })
}

/// Is there time to wait? Not with a limit of zero, nor one that the kernel refuses.
fn waits(time: Option<&timespec>) -> bool {
    time.is_none_or(|time| {
        let is_valid = time.tv_sec >= 0 && (0..1_000_000_000).contains(&time.tv_nsec);
        is_valid && (time.tv_sec, time.tv_nsec) != (0, 0)
    })
}

fn duration_of(time: timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timespec_of(time: Duration) -> timespec {
    let tv_sec = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    timespec { tv_sec, tv_nsec: time.subsec_nanos().into() }
}
