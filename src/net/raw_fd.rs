//! `FromRawFd`: std's trait is `unsafe` to call, so implementing it takes the word. Nothing else is
//! in here.

#![expect(unsafe_code, reason = "the trait's one method is declared `unsafe fn`")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::listener::TcpListener;
use super::stream::TcpStream;

impl FromRawFd for TcpStream {
    unsafe fn from_raw_fd(fd: RawFd) -> TcpStream {
        // SAFETY: the caller promises an open descriptor that nobody else owns.
        TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl FromRawFd for TcpListener {
    unsafe fn from_raw_fd(fd: RawFd) -> TcpListener {
        // SAFETY: the caller promises an open descriptor that nobody else owns.
        TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
