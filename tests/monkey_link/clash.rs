//! Has a function of the same name as one of the crate's, and so does not link.

use greenloom as _;

/// # Safety
///
/// It touches nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(_: i32, _: *mut u8, _: usize, _: i32) -> isize {
    -1
}

fn main() {
    greenloom::monkey::patch_all();
}
