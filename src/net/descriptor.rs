//! Sockets as owners of a descriptor: std's traits, for both types. (`FromRawFd` is in `raw_fd`.)

use std::net;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use super::listener::TcpListener;
use super::stream::TcpStream;

macro_rules! descriptor {
    ($type:ident) => {
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.std().as_fd()
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.std().as_raw_fd()
            }
        }

        impl IntoRawFd for $type {
            fn into_raw_fd(self) -> RawFd {
                net::$type::from(self).into_raw_fd()
            }
        }

        impl From<OwnedFd> for $type {
            fn from(fd: OwnedFd) -> $type {
                $type::from(net::$type::from(fd))
            }
        }

        impl From<$type> for OwnedFd {
            fn from(socket: $type) -> OwnedFd {
                net::$type::from(socket).into()
            }
        }
    };
}

descriptor!(TcpStream);
descriptor!(TcpListener);
