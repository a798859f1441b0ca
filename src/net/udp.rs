//! UDP sockets.

use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::RecvFlags;

use super::addrs::{ToSocketAddrs, first_that};
use super::descriptor::{handle, options, time_limits};
use super::socket::{Kind, Socket, flow_turned, ip_address};
use crate::hub::Side;
use crate::wait::Limit;

/// A UDP socket: [`std::net::UdpSocket`], except that waiting parks the greenlet.
///
/// Any number of greenlets may send and receive by it, through `&socket` or through clones; those
/// who receive are served first come, first served, a datagram each.
///
/// # Examples
///
/// ```
/// use greenloom::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let addr = server.local_addr()?;
/// let echo = greenloom::spawn(move || {
///     let mut buf = [0; 1500];
///     let (len, from) = server.recv_from(&mut buf)?;
///     server.send_to(&buf[..len].to_ascii_uppercase(), from)
/// });
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(addr)?;
/// client.send(b"hello")?;
/// let mut answer = [0; 5];
/// assert_eq!(client.recv(&mut answer)?, 5);
/// assert_eq!(&answer, b"HELLO");
/// echo.get().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UdpSocket {
    shared: Rc<Socket<net::UdpSocket>>,
}

handle!(UdpSocket, net::UdpSocket);
time_limits!(UdpSocket);
options! { UdpSocket:
    /// Lets it send to broadcast addresses (`SO_BROADCAST`).
    set_broadcast(bool);
    /// May it send to broadcast addresses?
    broadcast;

    /// Lets this host have what it sends to IPv4 groups (`IP_MULTICAST_LOOP`).
    set_multicast_loop_v4(bool);
    /// Does this host have what it sends to IPv4 groups?
    multicast_loop_v4;

    /// Sets how many hops what it sends to IPv4 groups may take (`IP_MULTICAST_TTL`): one, as at
    /// the start, does not leave the local network.
    set_multicast_ttl_v4(u32);
    /// How many hops what it sends to IPv4 groups may take.
    multicast_ttl_v4;

    /// Lets this host have what it sends to IPv6 groups (`IPV6_MULTICAST_LOOP`).
    set_multicast_loop_v6(bool);
    /// Does this host have what it sends to IPv6 groups?
    multicast_loop_v6;

    /// Sets how many hops a packet may take.
    set_ttl(u32);
    /// How many hops a packet may take.
    ttl;
}

impl UdpSocket {
    /// A socket that is bound to the first of the addresses that can be.
    ///
    /// # Errors
    ///
    /// Of the last address tried, as [`std::net::UdpSocket::bind`]; `InvalidInput` if there was
    /// none.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let socket = first_that(addr.to_socket_addrs()?, |addr| net::UdpSocket::bind(addr))?;
        Ok(UdpSocket::from(socket))
    }

    /// Sets whom [`send`](UdpSocket::send) sends to: the first of the addresses that is possible.
    /// Only what comes from there is received from now on.
    ///
    /// # Errors
    ///
    /// As [`std::net::UdpSocket::connect`]. That nobody is there shows later: a call that sends or
    /// receives then fails with `ConnectionRefused`, once.
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        first_that(addr.to_socket_addrs()?, |addr| self.std().connect(addr))
    }

    /// The address it is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected`, or as the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Receives a datagram: how long it is, and who sent it. What does not fit into `buf` is lost.
    ///
    /// # Errors
    ///
    /// `TimedOut` after [the limit](UdpSocket::set_read_timeout); else as the system says.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buf, RecvFlags::empty())
    }

    /// As [`recv_from`](UdpSocket::recv_from), and leaves the datagram where it is.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buf, RecvFlags::PEEK)
    }

    fn receive_from(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        let (len, sender) = self.shared.receive(buf, flags)?;
        Ok((len, ip_address(sender)?))
    }

    /// As [`recv_from`](UdpSocket::recv_from), for the server that has it: this waits for as long as
    /// it takes, whatever limit calls on it have.
    pub(crate) fn recv_for_server(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.shared.receive_within(Limit::Forever, buf, RecvFlags::empty());
        let (len, sender) = received?;
        Ok((len, ip_address(sender)?))
    }

    /// Receives a datagram from the address it is connected to. What does not fit into `buf` is
    /// lost.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.shared.receive(buf, RecvFlags::empty())?.0)
    }

    /// As [`recv`](UdpSocket::recv), and leaves the datagram where it is.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.shared.receive(buf, RecvFlags::PEEK)?.0)
    }

    /// Sends a datagram to the first of the addresses.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is none; `TimedOut` after
    /// [the limit](UdpSocket::set_write_timeout); else as the system says.
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let Some(addr) = addr.to_socket_addrs()?.next() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no addresses to send data to",
            ));
        };
        self.shared.send_to(buf, &flow_turned(addr), self.shared.limit(Side::Write))
    }

    /// Sends a datagram to the address it is connected to.
    ///
    /// # Errors
    ///
    /// `TimedOut` after [the limit](UdpSocket::set_write_timeout); else as the system says, for
    /// instance that there is no address.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.shared.send(buf)
    }

    /// Joins an IPv4 group, by the interface that has the address `interface`; by any, if that is
    /// [`Ipv4Addr::UNSPECIFIED`].
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.std().join_multicast_v4(group, interface)
    }

    /// Joins an IPv6 group, by the interface with that number; by any, if it is 0.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.std().join_multicast_v6(group, interface)
    }

    /// Leaves a group that was joined by [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.std().leave_multicast_v4(group, interface)
    }

    /// Leaves a group that was joined by [`join_multicast_v6`](UdpSocket::join_multicast_v6).
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.std().leave_multicast_v6(group, interface)
    }
}

impl From<net::UdpSocket> for UdpSocket {
    /// Takes over std's time limits; calls wait, whatever the mode was.
    fn from(socket: net::UdpSocket) -> UdpSocket {
        UdpSocket { shared: Socket::adopt(socket, Kind::Other) }
    }
}
