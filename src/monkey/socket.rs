//! Sockets.

use std::ffi::{c_int, c_void};

use super::descriptor::{address, retry};
use super::gate::{answer, is_cooperative};
use crate::hub::Side;
use crate::sys::patches::Patch;
use crate::sys::real;

pub(super) const NAMES: &[&str] = &["recv"];

/// # Safety
///
/// As for the kernel's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    let call = |flags: c_int| {
        let arguments = [fd as usize, address(buf), len, flags as usize, 0, 0];
        // SAFETY: the caller's arguments, as they are.
        unsafe { real::call(libc::SYS_recvfrom, arguments) }
    };
    let waits = flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) == 0;
    let result = if waits && is_cooperative(Patch::Socket) {
        retry(fd, Side::Read, &"recv", || call(flags | libc::MSG_DONTWAIT))
    } else {
        None
    };
    answer(result.unwrap_or_else(|| call(flags)))
}
