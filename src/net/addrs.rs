//! What stands for one or more addresses.

use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::option;
use std::slice;
use std::vec;

use super::resolve::lookup;

/// Whatever stands for one or more addresses: [`std::net::ToSocketAddrs`], except that looking up a
/// name parks the greenlet.
///
/// It is a trait of its own because std's looks the name up itself, and blocks the thread meanwhile.
/// It is implemented for the same types; what implements std's only can be passed as a list:
/// `&*std_addrs.to_socket_addrs()?.collect::<Vec<_>>()`.
///
/// # Examples
///
/// ```
/// use greenloom::net::ToSocketAddrs;
///
/// let addrs: Vec<_> = ("localhost", 443).to_socket_addrs()?.collect();
/// assert!(addrs.iter().all(|addr| addr.port() == 443));
/// # Ok::<(), std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not stand for addresses here",
    note = "this is `greenloom::net::ToSocketAddrs`, which looks names up without blocking the thread: \
            bound generic code by it in place of `std::net::ToSocketAddrs`"
)]
pub trait ToSocketAddrs {
    /// The addresses, one by one.
    type Iter: Iterator<Item = SocketAddr>;

    /// The addresses this stands for.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is neither an address nor a name with a port; else what the
    /// [resolver](super::Resolve) says.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;

    /// Does it stand for a host, all of whose addresses are as good? Then who connects need not try
    /// one after the other.
    #[doc(hidden)]
    fn is_name(&self) -> bool {
        false
    }
}

macro_rules! one_address {
    ($($type:ty: $this:ident => $addr:expr;)+) => {$(
        impl ToSocketAddrs for $type {
            type Iter = option::IntoIter<SocketAddr>;

            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                let $this = *self;
                Ok(Some(SocketAddr::from($addr)).into_iter())
            }
        }
    )+};
}

one_address! {
    SocketAddr: addr => addr;
    SocketAddrV4: addr => addr;
    SocketAddrV6: addr => addr;
    (IpAddr, u16): addr => addr;
    (Ipv4Addr, u16): addr => addr;
    (Ipv6Addr, u16): addr => addr;
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)].into_iter()),
            Err(_) => Ok(lookup(host, port)?.into_iter()),
        }
    }

    fn is_name(&self) -> bool {
        self.0.parse::<IpAddr>().is_err()
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (self.0.as_str(), self.1).to_socket_addrs()
    }

    fn is_name(&self) -> bool {
        (self.0.as_str(), self.1).is_name()
    }
}

/// `host:port`.
impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return Ok(vec![addr].into_iter());
        }
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let (host, port) =
            self.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
        let port = port.parse().map_err(|_| invalid("invalid port value"))?;
        (host, port).to_socket_addrs()
    }

    fn is_name(&self) -> bool {
        self.parse::<SocketAddr>().is_err()
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.as_str().to_socket_addrs()
    }

    fn is_name(&self) -> bool {
        self.as_str().is_name()
    }
}

/// To be tried in this order.
impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Cloned<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<T::Iter> {
        (**self).to_socket_addrs()
    }

    fn is_name(&self) -> bool {
        (**self).is_name()
    }
}

/// Tries the addresses in turn, until one will do.
///
/// # Errors
///
/// Of the last one; `InvalidInput` if there is none.
pub(super) fn first_that<T>(
    addrs: impl Iterator<Item = SocketAddr>,
    mut attempt: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut failure = None;
    for addr in addrs {
        match attempt(&addr) {
            Ok(value) => return Ok(value),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(no_address))
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
}
