//! Sockets, name for name `std::net`: where std blocks the thread, these park the greenlet.
//!
//! `use std::net` replaced by `use greenloom::net` compiles and does the same. What differs:
//!
//! - A time-out (`set_read_timeout` and its like) is an error of kind
//!   [`TimedOut`](std::io::ErrorKind::TimedOut) everywhere; std's kind depends on the platform.
//! - Names are looked up by the thread's [resolver](Resolve), which parks; so [`ToSocketAddrs`] is a
//!   trait of our own, for the same types.
//! - `try_clone` shares the descriptor by counting, and cannot fail.
//! - They are local to their thread; [`into_std`](TcpStream::into_std) makes one that may travel.
//!
//! What std has not, or not yet: [`TcpOptions`], for what has to be said before a socket listens or
//! connects, [`set_keepalive`](TcpStream::set_keepalive), [`wait_readable`](TcpStream::wait_readable).

// This room holds next to no waiting code: every call that may wait is one line on `source`. What
// all sockets share is in `socket`, what their types have in common word for word in `descriptor`.

mod addrs;
mod eyeballs;
mod resolve;

mod descriptor;
mod socket;

mod listener;
mod options;
mod stream;
mod udp;
pub mod unix;

mod raw_fd;

#[doc(no_inline)]
pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
};

pub use addrs::ToSocketAddrs;

pub use listener::{Incoming, TcpListener};
pub use options::TcpOptions;
pub use resolve::{Resolve, SystemResolver, lookup, set_resolver};
pub use stream::TcpStream;
pub use udp::UdpSocket;

#[cfg(feature = "ureq")]
pub(crate) use eyeballs::race;
#[cfg(feature = "monkey")]
pub(crate) use resolve::threads as threads_for_names;
