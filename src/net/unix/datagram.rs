//! Unix sockets for datagrams.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::RecvFlags;

use super::super::descriptor::{handle, time_limits};
use super::super::socket::{Kind, Socket};
use super::addr;
use super::pause::with_pauses;
use crate::hub::Side;
use crate::wait::Limit;

/// A Unix socket for datagrams: [`std::os::unix::net::UnixDatagram`], except that waiting parks the
/// greenlet.
///
/// Nothing is lost on the way: who sends waits while the receiver has too much in its queue. Any
/// number of greenlets may send and receive by it, through `&socket` or through clones; those who
/// receive are served first come, first served, a datagram each.
///
/// # Examples
///
/// ```
/// use greenloom::net::unix::UnixDatagram;
///
/// let (ours, theirs) = UnixDatagram::pair()?;
/// let echo = greenloom::spawn(move || {
///     let mut buf = [0; 100];
///     let len = theirs.recv(&mut buf)?;
///     theirs.send(&buf[..len].to_ascii_uppercase())
/// });
/// ours.send(b"hello")?;
/// let mut answer = [0; 5];
/// assert_eq!(ours.recv(&mut answer)?, 5);
/// assert_eq!(&answer, b"HELLO");
/// echo.get().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixDatagram {
    shared: Rc<Socket<net::UnixDatagram>>,
}

handle!(UnixDatagram, net::UnixDatagram);
time_limits!(UnixDatagram);

impl UnixDatagram {
    /// A socket that is bound to a new file at `path`.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixDatagram::bind`]: `AddrInUse`, if there is such a file.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        net::UnixDatagram::bind(path).map(UnixDatagram::from)
    }

    /// As [`bind`](UnixDatagram::bind), to an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// As [`bind`](UnixDatagram::bind).
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixDatagram> {
        net::UnixDatagram::bind_addr(addr).map(UnixDatagram::from)
    }

    /// A socket without an address: it can send, and nobody can answer.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn unbound() -> io::Result<UnixDatagram> {
        net::UnixDatagram::unbound().map(UnixDatagram::from)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from(one), UnixDatagram::from(other)))
    }

    /// Sets whom [`send`](UnixDatagram::send) sends to. Only what comes from there is received from
    /// now on.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixDatagram::connect`].
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.std().connect(path)
    }

    /// As [`connect`](UnixDatagram::connect), to an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// As [`connect`](UnixDatagram::connect).
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.std().connect_addr(addr)
    }

    /// The address it is bound to; it has no name, unless it was bound.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// The address it is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected`, or as the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }

    /// Receives a datagram: how long it is, and who sent it, which has no name unless the sender
    /// was bound. What does not fit into `buf` is lost.
    ///
    /// A sender whose path is so long that [`SocketAddr::from_pathname`] refuses it (108 bytes on
    /// Linux) counts as one without a name.
    ///
    /// After [`shutdown`](UnixDatagram::shutdown) of reading, when all that came before has been
    /// received, it returns an empty one without a sender.
    ///
    /// # Errors
    ///
    /// `TimedOut` after [the limit](UnixDatagram::set_read_timeout); else as the system says.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buf, RecvFlags::empty())
    }

    /// As [`recv_from`](UnixDatagram::recv_from), and leaves the datagram where it is. (Std's is
    /// unstable.)
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buf, RecvFlags::PEEK)
    }

    fn receive_from(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        let (len, sender) = self.shared.receive(buf, flags)?;
        // The datagram has been taken: no name is so odd that it would be an error.
        Ok((len, addr::to_std(sender).unwrap_or_else(addr::unnamed)))
    }

    /// As [`recv_from`](UnixDatagram::recv_from), and does not say who sent it.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.shared.receive(buf, RecvFlags::empty())?.0)
    }

    /// As [`recv`](UnixDatagram::recv), and leaves the datagram where it is. (Std's is unstable.)
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.shared.receive(buf, RecvFlags::PEEK)?.0)
    }

    /// Sends a datagram to the socket at `path`.
    ///
    /// While the receiver's queue is full, it tries again and again, after pauses that grow up to
    /// 20 ms: there is no event to wait for. Who has much to send to one receiver
    /// [connects](UnixDatagram::connect) to it, for then there is.
    ///
    /// # Errors
    ///
    /// `TimedOut` after [the limit](UnixDatagram::set_write_timeout); else as the system says.
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(buf, &SocketAddr::from_pathname(path)?)
    }

    /// As [`send_to`](UnixDatagram::send_to), to an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UnixDatagram::send_to).
    pub fn send_to_addr(&self, buf: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        let addr = addr::to_system(addr)?;
        // Out of the line of those who wait for events: one full receiver is not to hold up what
        // goes to others.
        with_pauses(&"send", self.shared.limit(Side::Write), || {
            self.shared.send_to(buf, &addr, Limit::Never)
        })
    }

    /// Sends a datagram to the socket it is connected to.
    ///
    /// # Errors
    ///
    /// `TimedOut` after [the limit](UnixDatagram::set_write_timeout); else as the system says, for
    /// instance that it is not connected.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.shared.send(buf)
    }

    /// Shuts down receiving, sending or both. Greenlets that wait on that side go on: those who
    /// receive get an empty datagram, sends fail.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shared.shutdown(how)
    }
}

impl From<net::UnixDatagram> for UnixDatagram {
    /// Takes over std's time limits; calls wait, whatever the mode was.
    fn from(socket: net::UnixDatagram) -> UnixDatagram {
        UnixDatagram { shared: Socket::adopt(socket, Kind::UnixDatagram) }
    }
}
