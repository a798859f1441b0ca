//! TCP connections.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Type};

use super::addrs::{ToSocketAddrs, first_that};
use super::descriptor::{bytes, handle, options, time_limits};
use super::eyeballs::race;
use super::socket::{Kind, Socket, not_zero};
use crate::hub::Side;
use crate::source::Tried;
use crate::timeout::with_timeout;
use crate::wait::Limit;

/// A TCP connection: [`std::net::TcpStream`], except that waiting parks the greenlet.
///
/// It may be read by one greenlet and written by another at the same time, through `&stream` or
/// through a clone; several in one direction are served first come, first served. Dropping the last
/// clone closes it.
///
/// # Examples
///
/// ```
/// use greenloom::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let server = greenloom::spawn(move || {
///     let (mut stream, _) = listener.accept()?;
///     let mut word = [0; 5];
///     stream.read_exact(&mut word)?;
///     stream.write_all(&word.to_ascii_uppercase())
/// });
///
/// let mut stream = TcpStream::connect(addr)?;
/// stream.write_all(b"hello")?;
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO");
/// server.get().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It is local to its thread:
///
/// ```compile_fail,E0277
/// # let stream = greenloom::net::TcpStream::connect("127.0.0.1:1").unwrap();
/// std::thread::spawn(move || stream.peer_addr()); // cannot be sent between threads
/// ```
#[derive(Clone)]
pub struct TcpStream {
    shared: Rc<Socket<net::TcpStream>>,
}

handle!(TcpStream, net::TcpStream);
time_limits!(TcpStream);
bytes!(TcpStream);
options! { TcpStream:
    /// Sends small pieces at once (`TCP_NODELAY`) instead of gathering them.
    set_nodelay(bool);
    /// Is `TCP_NODELAY` set?
    nodelay;

    /// Sets how many hops a packet may take.
    set_ttl(u32);
    /// How many hops a packet may take.
    ttl;
}

impl TcpStream {
    /// One that we made, and nobody else has seen.
    pub(super) fn new(stream: net::TcpStream) -> TcpStream {
        TcpStream { shared: Socket::new(stream, Kind::PlainTcp) }
    }

    /// Opens a connection, to the first of the addresses that answers.
    ///
    /// A name is looked up by the thread's [resolver](super::Resolve). If the host has several
    /// addresses, each is given a head start of 250 ms before the next is tried as well, the two
    /// families by turns, and the first connection that stands is taken (RFC 8305). Addresses in a
    /// list are tried one after the other, as std's are.
    ///
    /// # Errors
    ///
    /// Of the last address tried, as [`std::net::TcpStream::connect`]; `InvalidInput` if there was
    /// none; of the resolver.
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        connect_with(addr, Limit::Forever, connect)
    }

    /// Opens a connection within a time limit.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the time is over; `InvalidInput` for a limit of zero; else as
    /// [`connect`](TcpStream::connect).
    pub fn connect_timeout(addr: &SocketAddr, d: Duration) -> io::Result<TcpStream> {
        connect(addr, Limit::Within(not_zero(d)?))
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// As the system says, for instance `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Has the system ask a quiet peer whether it is still there (`SO_KEEPALIVE`), as often as the
    /// system is set to: after two hours, on most. (Not in std; see [`TcpOptions`] for the times.)
    ///
    /// [`TcpOptions`]: super::TcpOptions::keepalive
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        SockRef::from(self.std()).set_keepalive(on)
    }

    /// Is `SO_KEEPALIVE` set?
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn keepalive(&self) -> io::Result<bool> {
        SockRef::from(self.std()).keepalive()
    }

    /// Sets what becomes of bytes that have not been sent when the last handle is dropped
    /// (`SO_LINGER`). `None`, as at the start: the system goes on sending them, and closing does
    /// not wait. `Some(Duration::ZERO)`: they are thrown away, and the connection is reset.
    ///
    /// Any other time makes *closing* wait, which blocks the whole thread, and no greenlet but the
    /// closing one would expect it; so it is refused, and taken away from a stream or listener that
    /// was std's. To wait for the peer, shut down writing and read to the end. (Std's is unstable.)
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time that is not zero; else as the system says.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        if linger.is_some_and(|time| !time.is_zero()) {
            let why = "closing would block the thread: only None and zero are possible";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        SockRef::from(self.std()).set_linger(linger)
    }

    /// What becomes of bytes that have not been sent: see [`set_linger`](TcpStream::set_linger).
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self.std()).linger()
    }
}

/// Connects by `connect` to one of the addresses; looking them up is part of the limit.
#[track_caller]
pub(super) fn connect_with<A: ToSocketAddrs>(
    addr: A,
    limit: Limit,
    connect: impl Fn(&SocketAddr, Limit) -> io::Result<TcpStream> + 'static,
) -> io::Result<TcpStream> {
    let deadline = limit.deadline();
    let rest = move || match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
        None => limit,
        Some(rest) => Limit::Within(rest),
    };
    let is_name = addr.is_name();
    let addrs = match limit {
        Limit::Within(d) if is_name => with_timeout(d, || addr.to_socket_addrs())??,
        _ => addr.to_socket_addrs()?,
    };
    if is_name {
        let addrs: Vec<_> = addrs.collect();
        if let [addr] = addrs[..] {
            return connect(&addr, rest());
        }
        return race(addrs, rest(), move |addr| connect(addr, rest()));
    }
    first_that(addrs, |addr| connect(addr, rest()))
}

fn connect(addr: &SocketAddr, limit: Limit) -> io::Result<TcpStream> {
    connect_by(tcp_socket(addr)?, addr, limit)
}

/// A socket for such an address.
pub(super) fn tcp_socket(addr: &SocketAddr) -> io::Result<socket2::Socket> {
    socket2::Socket::new(Domain::for_address(*addr), Type::STREAM, Some(Protocol::TCP))
}

/// Connects a socket, which must be fresh: it is non-blocking meanwhile.
pub(super) fn connect_by(
    socket: socket2::Socket,
    addr: &SocketAddr,
    limit: Limit,
) -> io::Result<TcpStream> {
    rustix::io::ioctl_fionbio(&socket, true)?; // one call, where socket2 makes two
    let begun = socket.connect(&(*addr).into());
    let stream = TcpStream::new(socket.into());
    match begun {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {
            stream.shared.run(Side::Write, &"connect", limit, is_connected)?;
        }
        Err(error) => return Err(error),
    }
    stream.std().set_nonblocking(false)?;
    Ok(stream)
}

/// Not done, and not failed either. (After a signal the connection goes on by itself.)
fn is_under_way(error: &io::Error) -> bool {
    let in_progress = rustix::io::Errno::INPROGRESS.raw_os_error();
    error.raw_os_error() == Some(in_progress) || error.kind() == io::ErrorKind::Interrupted
}

fn is_connected(stream: &net::TcpStream) -> io::Result<Tried<()>> {
    match stream.peer_addr() {
        Ok(_) => Ok(Tried::Done(())),
        // Not yet, or not at all.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(stream.take_error()?.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
        }
        Err(error) => Err(error),
    }
}

impl From<net::TcpStream> for TcpStream {
    /// Takes over std's time limits; calls wait, whatever the mode was. Closing does not: a
    /// [linger](TcpStream::set_linger) of some time is taken away, for good.
    fn from(stream: net::TcpStream) -> TcpStream {
        TcpStream { shared: Socket::adopt(stream, Kind::Other) }
    }
}
