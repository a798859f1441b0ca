//! How large a stack is, and what of it is nobody's to use.

use std::io;

/// Bytes of guard below every stack. Rust code probes every page it grows by, for which one page
/// would do; C code does not, and 16 KiB stops most of what it steps over with.
pub(super) const GUARD: usize = 16 * 1024;

/// Bytes at the high end of every stack that its coroutine keeps for itself.
pub(super) const HEADER: usize = 128;

/// Stacks begin at so many different offsets in a page, a cache line apart. Without this the tops of
/// all stacks would compete for the same few sets of the cache; with more, a greenlet that does
/// little would touch a second page.
pub(super) const COLOURS: usize = 32;
pub(super) const COLOUR_STEP: usize = 64;

/// A size class: slots of `1 << n` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StackSize(pub(super) u8);

impl StackSize {
    /// 256 KiB of address space, of which one page is touched by a greenlet that does little.
    pub(crate) const DEFAULT: StackSize = StackSize(18);
    const MIN: u8 = 16;

    /// The smallest class with room for `bytes` of frames.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if no address space could hold it.
    pub(crate) fn for_bytes(bytes: usize) -> io::Result<StackSize> {
        bytes
            .checked_add(GUARD + COLOURS * COLOUR_STEP + HEADER)
            .and_then(usize::checked_next_power_of_two)
            .filter(|slot| *slot <= isize::MAX as usize)
            .map(|slot| StackSize((slot.trailing_zeros() as u8).max(StackSize::MIN)))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "stack size is too large"))
    }

    pub(super) fn slot(self) -> usize {
        1 << self.0
    }

    /// Bytes that frames may use.
    pub(crate) fn usable(self) -> usize {
        self.slot() - GUARD - COLOURS * COLOUR_STEP - HEADER
    }
}
