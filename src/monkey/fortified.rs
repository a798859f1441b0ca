//! The names under which checked builds of C call some of the others.
//!
//! With `_FORTIFY_SOURCE` the C library's headers turn `read(..)` into `__read_chk(..)` and the like
//! where the size of the buffer is known and the amount is not. Who asks for more than there is room
//! for is ended, by the C library; the rest goes the way of the plain function, by its name.

#[cfg(target_env = "gnu")]
pub(super) use checked::{FILE, SELECT, SOCKET};

/// Other C libraries check in their headers alone.
#[cfg(not(target_env = "gnu"))]
pub(super) const SOCKET: &[&str] = &[];
#[cfg(not(target_env = "gnu"))]
pub(super) const SELECT: &[&str] = &[];
#[cfg(not(target_env = "gnu"))]
pub(super) const FILE: &[&str] = &[];

#[cfg(target_env = "gnu")]
mod checked {
    use std::ffi::{c_int, c_void};

    use libc::{nfds_t, off_t, pollfd, sigset_t, sockaddr, socklen_t, timespec};

    pub(crate) const SOCKET: &[&str] = &["__read_chk", "__recv_chk", "__recvfrom_chk"];
    pub(crate) const SELECT: &[&str] = &["__poll_chk", "__ppoll_chk"];
    pub(crate) const FILE: &[&str] = &["__pread_chk", "__pread64_chk"];

    unsafe extern "C" {
        /// Ends the process with a line on standard error.
        safe fn __chk_fail() -> !;
    }

    fn check(asked: usize, room: usize) {
        if asked > room {
            __chk_fail();
        }
    }

    /// # Safety
    ///
    /// As for `read`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __read_chk(fd: c_int, buf: *mut c_void, len: usize, room: usize) -> isize {
        check(len, room);
        // SAFETY: the caller's arguments, as they are.
        unsafe { libc::read(fd, buf, len) }
    }

    /// # Safety
    ///
    /// As for `recv`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __recv_chk(
        fd: c_int,
        buf: *mut c_void,
        len: usize,
        room: usize,
        flags: c_int,
    ) -> isize {
        check(len, room);
        // SAFETY: as above.
        unsafe { libc::recv(fd, buf, len, flags) }
    }

    /// # Safety
    ///
    /// As for `recvfrom`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __recvfrom_chk(
        fd: c_int,
        buf: *mut c_void,
        len: usize,
        room: usize,
        flags: c_int,
        from: *mut sockaddr,
        from_len: *mut socklen_t,
    ) -> isize {
        check(len, room);
        // SAFETY: as above.
        unsafe { libc::recvfrom(fd, buf, len, flags, from, from_len) }
    }

    /// # Safety
    ///
    /// As for `poll`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __poll_chk(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: c_int,
        room: usize,
    ) -> c_int {
        check(count as usize, room / size_of::<pollfd>());
        // SAFETY: as above.
        unsafe { libc::poll(fds, count, timeout) }
    }

    /// # Safety
    ///
    /// As for `ppoll`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __ppoll_chk(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
        room: usize,
    ) -> c_int {
        check(count as usize, room / size_of::<pollfd>());
        // SAFETY: as above.
        unsafe { libc::ppoll(fds, count, timeout, mask) }
    }

    /// # Safety
    ///
    /// As for `pread`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __pread_chk(
        fd: c_int,
        buf: *mut c_void,
        len: usize,
        at: off_t,
        room: usize,
    ) -> isize {
        check(len, room);
        // SAFETY: as above.
        unsafe { libc::pread(fd, buf, len, at) }
    }

    /// # Safety
    ///
    /// As for `pread64`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __pread64_chk(
        fd: c_int,
        buf: *mut c_void,
        len: usize,
        at: off_t,
        room: usize,
    ) -> isize {
        check(len, room);
        // SAFETY: as above.
        unsafe { libc::pread64(fd, buf, len, at) }
    }
}
