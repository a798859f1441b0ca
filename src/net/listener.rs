//! TCP listeners.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::SocketAddrAny;
use socket2::SockRef;

use super::addrs::{ToSocketAddrs, first_that};
use super::descriptor::{connections, handle, options};
use super::socket::{Kind, Socket, ip_address};
use super::stream::TcpStream;
use crate::wait::Limit;

/// A TCP socket that listens: [`std::net::TcpListener`], except that waiting parks the greenlet.
///
/// # Examples
///
/// A server with a greenlet a connection:
///
/// ```no_run
/// use greenloom::net::{TcpListener, TcpStream};
/// use std::io;
///
/// fn handle(stream: TcpStream) -> io::Result<u64> {
///     io::copy(&mut &stream, &mut &stream)
/// }
///
/// for stream in TcpListener::bind("127.0.0.1:8080")?.incoming() {
///     let stream = stream?;
///     drop(greenloom::spawn(move || handle(stream)));
/// }
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpListener {
    shared: Rc<Socket<net::TcpListener>>,
}

/// One thread accepts for all, between other things it does. Who finds no room tries again after a
/// second, of his own accord.
pub(super) const BACKLOG: i32 = 1024;

handle!(TcpListener, net::TcpListener);
connections!(TcpListener, TcpStream);
options! { TcpListener:
    /// Sets how many hops a packet may take.
    set_ttl(u32);
    /// How many hops a packet may take.
    ttl;
}

impl TcpListener {
    /// A socket that is bound to the first of the addresses that can be, and listens. Up to 1,024
    /// connections may wait to be accepted, if the system allows it (std asks for 128; see
    /// [`TcpOptions::backlog`](super::TcpOptions::backlog)).
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpListener::bind`].
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let listener = first_that(addr.to_socket_addrs()?, |addr| net::TcpListener::bind(addr))?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(TcpListener::from(listener))
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Sets whether it speaks IPv6 only, which the system refuses once it is bound.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[deprecated(note = "it is too late for that: say it by `TcpOptions::only_v6`")]
    pub fn set_only_v6(&self, on: bool) -> io::Result<()> {
        SockRef::from(self.std()).set_only_v6(on)
    }

    /// Does it speak IPv6 only?
    ///
    /// # Errors
    ///
    /// As the system says.
    #[deprecated(note = "deprecated in std, too; of one's own listener one knows it")]
    pub fn only_v6(&self) -> io::Result<bool> {
        SockRef::from(self.std()).only_v6()
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// As the system says. An error concerns one connection, or the state of the process (no
    /// descriptor left, say), and not the listener: a server reports it, waits a little, and goes
    /// on.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        accepted(self.shared.accept()?)
    }

    /// For the server that has it: this waits even if calls on it are not to.
    pub(crate) fn accept_for_server(&self) -> io::Result<(TcpStream, SocketAddr)> {
        accepted(self.shared.accept_within(Limit::Forever)?)
    }

    /// A connection that has come already; else `WouldBlock`. Nobody else runs before this returns.
    pub(crate) fn accept_at_once(&self) -> io::Result<(TcpStream, SocketAddr)> {
        accepted(self.shared.accept_at_once()?)
    }
}

/// The address comes with the connection. If one asked for it afterwards, who has gone meanwhile would
/// have none.
fn accepted(
    (stream, peer): (OwnedFd, Option<SocketAddrAny>),
) -> io::Result<(TcpStream, SocketAddr)> {
    Ok((TcpStream::new(stream.into()), ip_address(peer)?))
}

impl From<net::TcpListener> for TcpListener {
    /// A [linger](TcpStream::set_linger) of some time is taken away, also from the connections that
    /// wait already: closing them would block the thread.
    ///
    /// # Panics
    ///
    /// If the system refuses to set the mode of an open socket, which none does.
    fn from(listener: net::TcpListener) -> TcpListener {
        TcpListener { shared: Socket::adopt(listener, Kind::Listener) }
    }
}
