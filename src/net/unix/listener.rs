//! Unix listeners.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::rc::Rc;

use rustix::net::SocketAddrAny;

use super::super::descriptor::{connections, handle};
use super::super::socket::{Kind, Socket};
use super::addr;
use super::stream::UnixStream;
use crate::wait::Limit;

/// A Unix socket that listens: [`std::os::unix::net::UnixListener`], except that waiting parks the
/// greenlet.
///
/// As std's, it leaves the file it is bound to behind when it is dropped; and it cannot be bound to
/// one that is there.
///
/// # Examples
///
/// A server with a greenlet a connection:
///
/// ```no_run
/// use greenloom::net::unix::{UnixListener, UnixStream};
/// use std::io;
///
/// fn handle(stream: UnixStream) -> io::Result<u64> {
///     io::copy(&mut &stream, &mut &stream)
/// }
///
/// for stream in UnixListener::bind("/run/echo.socket")?.incoming() {
///     let stream = stream?;
///     drop(greenloom::spawn(move || handle(stream)));
/// }
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixListener {
    shared: Rc<Socket<net::UnixListener>>,
}

handle!(UnixListener, net::UnixListener);
connections!(UnixListener, UnixStream);

impl UnixListener {
    /// A socket that is bound to a new file at `path`, and listens.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixListener::bind`]: `AddrInUse`, if there is such a file.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        net::UnixListener::bind(path).map(UnixListener::from)
    }

    /// As [`bind`](UnixListener::bind), to an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// As [`bind`](UnixListener::bind).
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixListener> {
        net::UnixListener::bind_addr(addr).map(UnixListener::from)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Waits for a connection. Its address has no name, unless the other end was bound.
    ///
    /// # Errors
    ///
    /// As the system says. An error concerns one connection, or the state of the process (no
    /// descriptor left, say), and not the listener: a server reports it, waits a little, and goes
    /// on.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.shared.accept().map(accepted)
    }

    /// For the server that has it: this waits even if calls on it are not to.
    pub(crate) fn accept_for_server(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.shared.accept_within(Limit::Forever).map(accepted)
    }

    /// A connection that has come already; else `WouldBlock`. Nobody else runs before this returns.
    pub(crate) fn accept_at_once(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.shared.accept_at_once().map(accepted)
    }
}

/// The connection has been taken: no name is so odd that it would be an error.
fn accepted((stream, peer): (OwnedFd, Option<SocketAddrAny>)) -> (UnixStream, SocketAddr) {
    let stream = UnixStream::new(stream.into());
    let peer = addr::to_std(peer).or_else(|| stream.peer_addr().ok());
    (stream, peer.unwrap_or_else(addr::unnamed))
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

impl From<net::UnixListener> for UnixListener {
    /// # Panics
    ///
    /// If the system refuses to set the mode of an open socket, which none does.
    fn from(listener: net::UnixListener) -> UnixListener {
        UnixListener { shared: Socket::adopt(listener, Kind::Listener) }
    }
}
