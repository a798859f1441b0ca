//! `FromRawFd`: std's trait is `unsafe` to call, so implementing it takes the word. Nothing else is
//! in here.

#![expect(unsafe_code, reason = "the trait's one method is declared `unsafe fn`")]

use std::fs;
use std::os::fd::{FromRawFd, RawFd};

use super::file::File;

impl FromRawFd for File {
    unsafe fn from_raw_fd(fd: RawFd) -> File {
        // SAFETY: the caller promises an open descriptor that nobody else owns.
        File::from(unsafe { fs::File::from_raw_fd(fd) })
    }
}
