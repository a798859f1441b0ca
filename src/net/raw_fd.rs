//! `FromRawFd`: std's trait is `unsafe` to call, so implementing it takes the word. Nothing else is
//! in here.

#![expect(unsafe_code, reason = "the trait's one method is declared `unsafe fn`")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::listener::TcpListener;
use super::stream::TcpStream;
use super::udp::UdpSocket;
use super::unix::{UnixDatagram, UnixListener, UnixStream};

macro_rules! from_raw_fd {
    ($($type:ident),+) => {$(
        impl FromRawFd for $type {
            unsafe fn from_raw_fd(fd: RawFd) -> $type {
                // SAFETY: the caller promises an open descriptor that nobody else owns.
                $type::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }
    )+};
}

from_raw_fd!(TcpStream, TcpListener, UdpSocket, UnixStream, UnixListener, UnixDatagram);
