//! Address space for stacks: reserve, guard, give back.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};

/// `MADV_GUARD_INSTALL`, Linux 6.13 and later; too young for the tables of libc and rustix. It
/// marks pages as guards in the page tables alone, so that a million guards cost no memory map.
#[cfg(target_os = "linux")]
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// A range of private memory, all zero and untouched, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: NonNull<u8>,
    len: usize,
}

impl Reservation {
    /// Reserves `len` bytes of address space. Pages get memory when they are first touched and are
    /// not counted against overcommit before.
    pub(crate) fn new(len: usize) -> io::Result<Reservation> {
        let flags = MapFlags::PRIVATE;
        #[cfg(not(any(target_os = "freebsd", target_os = "dragonfly")))] // they never reserve
        let flags = flags | MapFlags::NORESERVE;
        #[cfg(target_os = "linux")]
        let flags = flags | MapFlags::STACK;
        // SAFETY: a null hint lets the kernel choose a range that nothing else uses.
        let start = unsafe {
            mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let reservation = Reservation { start, len };
        reservation.refuse_huge_pages();
        Ok(reservation)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A huge page would make a stack that uses 4 KiB cost 2 MiB. Advice only: a kernel without
    /// huge pages says no, and that is fine.
    fn refuse_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the range is ours, and the advice does not change what it holds.
            let _ = unsafe {
                mm::madvise(
                    self.start.as_ptr().cast::<c_void>(),
                    self.len,
                    mm::Advice::LinuxNoHugepage,
                )
            };
        }
    }

    fn at(&self, offset: usize, len: usize) -> *mut c_void {
        assert!(offset <= self.len && len <= self.len - offset, "outside of the reservation");
        self.start.as_ptr().wrapping_add(offset).cast::<c_void>()
    }

    /// Makes a range fault when touched, without a memory map of its own.
    ///
    /// Fails with anything but `OutOfMemory` where the kernel does not know how.
    ///
    /// # Safety
    ///
    /// Nothing of value lies in the range, and nobody holds a reference into it.
    pub(crate) unsafe fn guard(&self, offset: usize, len: usize) -> io::Result<()> {
        let at = self.at(offset, len);
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the range lies within our mapping, and the caller has no use for it.
            match unsafe { libc::madvise(at, len, MADV_GUARD_INSTALL) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = at;
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Makes a range fault when touched, by a memory map of its own: two maps a guard.
    ///
    /// # Safety
    ///
    /// As for [`guard`](Reservation::guard).
    pub(crate) unsafe fn protect(&self, offset: usize, len: usize) -> io::Result<()> {
        let at = self.at(offset, len);
        // SAFETY: the range lies within our mapping, and the caller has no use for it.
        unsafe { mm::mprotect(at, len, MprotectFlags::empty()) }?;
        Ok(())
    }

    /// Gives the memory behind a range back to the system; it reads as zero afterwards. Advice: on
    /// failure the memory merely stays.
    ///
    /// # Safety
    ///
    /// Nothing of value lies in the range, and nobody holds a reference into it.
    pub(crate) unsafe fn give_back(&self, offset: usize, len: usize) {
        let at = self.at(offset, len);
        #[cfg(target_os = "linux")]
        let advice = mm::Advice::LinuxDontNeed;
        #[cfg(not(target_os = "linux"))]
        let advice = mm::Advice::DontNeed;
        // SAFETY: the range lies within our mapping, and the caller has no use for its contents.
        let _ = unsafe { mm::madvise(at, len, advice) };
    }

    /// Where in a range the lowest word lies that is not zero: the offset of that word. What has been
    /// touched and holds nothing but zeros counts by the page; what has not been touched stays so.
    /// `None`: nothing has been touched.
    ///
    /// The range begins at a page and ends within the reservation, and no page of it is a guard.
    pub(crate) fn lowest_mark(&self, offset: usize, len: usize) -> Option<usize> {
        let page = page_size();
        let lowest = self.lowest_touched(offset, len, page)?;
        if cfg!(feature = "sanitizer") {
            return Some(lowest); // it watches who reads what, and dead frames are nobody's
        }
        let words = self.at(lowest, page.min(offset + len - lowest)).cast::<usize>();
        let count = page.min(offset + len - lowest) / size_of::<usize>();
        let marked = (0..count).find(|&n| {
            // SAFETY: the word lies within our mapping, aligned, and readable as no guard covers it;
            // it has a value, as the kernel has filled it with zeros before anybody could write to
            // it; and it is this thread that would do that, which is here.
            let word = unsafe { words.wrapping_add(n).read_volatile() };
            word != 0
        });
        Some(lowest + marked.unwrap_or(0) * size_of::<usize>())
    }

    /// The offset of the lowest page of a range that has memory. (One that was swapped out is not
    /// seen.)
    #[cfg(target_os = "linux")]
    fn lowest_touched(&self, offset: usize, len: usize, page: usize) -> Option<usize> {
        const AT_ONCE: usize = 64;
        for step in (offset..offset + len).step_by(AT_ONCE * page) {
            let len = (offset + len - step).min(AT_ONCE * page);
            let mut resident = [0; AT_ONCE];
            // SAFETY: the range lies within our mapping, and the answer takes a byte a page, of
            // which there is room for `AT_ONCE`.
            match unsafe { libc::mincore(self.at(step, len), len, resident.as_mut_ptr()) } {
                0 => {}
                _ => return Some(offset), // which is what a caller has to make of no answer
            }
            if let Some(at) = resident.iter().position(|page| page & 1 != 0) {
                return Some(step + at * page);
            }
        }
        None
    }

    /// Where the system cannot be asked for sure, reading has to do: it finds the lowest page with
    /// anything in it.
    #[cfg(not(target_os = "linux"))]
    fn lowest_touched(&self, offset: usize, len: usize, page: usize) -> Option<usize> {
        (offset..offset + len).step_by(page).find(|&step| {
            let words = self.at(step, page).cast::<usize>();
            (0..page / size_of::<usize>()).any(|n| {
                // SAFETY: as in `lowest_mark`.
                let word = unsafe { words.wrapping_add(n).read_volatile() };
                word != 0
            })
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and its owner is going.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
    }
}

/// How many memory maps a process may have, where there is such a limit.
pub(crate) fn max_memory_maps() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// The size of a page in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: `sysconf` only reads a constant.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
}
