//! `Accept`: what a server takes its connections from.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use crate::net::unix::{self, UnixListener, UnixStream};
use crate::net::{TcpListener, TcpStream};

/// Anything that accepts connections, for a [`StreamServer`](super::StreamServer) to serve.
///
/// The listeners of this crate do. Of one's own, only [`accept`](Accept::accept) has to be written;
/// the rest says what the server can do beyond that.
///
/// `accept` is called by one greenlet, over and over. Whatever takes the other end's cooperation (a
/// TLS handshake, say) belongs into the handler: done here it would hold up all that come after. To
/// stop, the server kills that greenlet while it waits, so `accept` should not have taken anything
/// that it cannot give back by its destructors when it waits.
///
/// # Examples
///
/// Connections that somebody else has accepted, handed over by a queue:
///
/// ```
/// use greenloom::net::{TcpListener, TcpStream};
/// use greenloom::queue::{self, Queue};
/// use greenloom::server::{Accept, StreamServer};
/// use std::io::{self, Read, Write};
/// use std::time::Duration;
///
/// struct Inbox(Queue<TcpStream>);
///
/// impl Accept for Inbox {
///     type Stream = TcpStream;
///     type Peer = ();
///
///     fn accept(&self) -> io::Result<(TcpStream, ())> {
///         Ok((self.0.get().map_err(io::Error::other)?, ()))
///     }
/// }
///
/// let inbox = queue::unbounded();
/// let server = StreamServer::from_listener(Inbox(inbox.clone()))
///     .handle(|mut stream: TcpStream, ()| stream.write_all(b"hello"));
/// server.start();
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// inbox.put(listener.accept()?.0).unwrap();
/// let mut greeting = String::new();
/// client.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// server.stop(Duration::from_secs(1));
/// # Ok::<(), io::Error>(())
/// ```
pub trait Accept: 'static {
    /// A connection. It closes when it is dropped, which is when the handler returns as a rule.
    type Stream: 'static;
    /// Who is at the other end.
    type Peer: Clone + 'static;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What [`error_kind`](Accept::error_kind) sorts.
    fn accept(&self) -> io::Result<(Self::Stream, Self::Peer)>;

    /// A connection that has come already. It must not wait.
    ///
    /// A server that stops serves what waits in the backlog, as far as it has room for it; it asks
    /// for that here. If this is not written, there never is anything.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; else as [`accept`](Accept::accept).
    fn try_accept(&self) -> io::Result<(Self::Stream, Self::Peer)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Where it listens, in the words in which it tells who calls.
    ///
    /// # Errors
    ///
    /// `Unsupported` if this is not written; else as the system says.
    fn local_addr(&self) -> io::Result<Self::Peer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The name of the greenlet that serves `peer`, for dumps and reports. (Asked of
    /// [`local_addr`](Accept::local_addr) it is part of the server's.)
    fn name_of(&self, peer: &Self::Peer) -> String {
        let _ = peer;
        "connection".to_owned()
    }

    /// Lets every read and write of `stream` fail that waits longer than `d`. For
    /// [`StreamServer::idle_timeout`](super::StreamServer::idle_timeout).
    ///
    /// # Errors
    ///
    /// `Unsupported` if this is not written; the connection is closed then, and the error reported
    /// as one of `accept`.
    fn set_idle_timeout(&self, stream: &Self::Stream, d: Duration) -> io::Result<()> {
        let _ = (stream, d);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What an error of [`accept`](Accept::accept) is about. By default
    /// [`AcceptErrorKind::of`] says so.
    fn error_kind(&self, error: &io::Error) -> AcceptErrorKind {
        AcceptErrorKind::of(error)
    }
}

/// What an error of `accept` is about, and so what a server does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptErrorKind {
    /// One connection, which is gone: the server asks for the next at once. After a dozen in a row
    /// it treats them as lack of resources, until one is served.
    Connection,
    /// The process or the system has run out of something, which will take a moment. Connections in
    /// the backlog stay there.
    Resources,
    /// The listener: it will not accept anything any more. The server ends, and reports the error
    /// through [`Hub::on_error`](crate::Hub::on_error).
    Listener,
}

impl AcceptErrorKind {
    /// What an error of the system's `accept` is about. What is not known to be about one
    /// connection, or the listener, counts as lack of resources: a pause does no harm, and keeps the
    /// server from spinning.
    #[must_use]
    pub fn of(error: &io::Error) -> AcceptErrorKind {
        match Errno::from_io_error(error) {
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK) => AcceptErrorKind::Listener,
            // Aborted before it was accepted, or before somebody asked who it is; forbidden by a
            // firewall; or the network's errors, which Linux passes on from the new connection (see
            // accept(2)).
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::NOTCONN
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::INTR,
            ) => AcceptErrorKind::Connection,
            // Some systems give a connection that was aborted no address.
            None if error.kind() == io::ErrorKind::InvalidData => AcceptErrorKind::Connection,
            _ => AcceptErrorKind::Resources,
        }
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_for_server()
    }

    fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_at_once()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }

    fn name_of(&self, peer: &SocketAddr) -> String {
        peer.to_string()
    }

    fn set_idle_timeout(&self, stream: &TcpStream, d: Duration) -> io::Result<()> {
        stream.set_read_timeout(Some(d))?;
        stream.set_write_timeout(Some(d))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    type Peer = unix::SocketAddr;

    fn accept(&self) -> io::Result<(UnixStream, unix::SocketAddr)> {
        self.accept_for_server()
    }

    fn try_accept(&self) -> io::Result<(UnixStream, unix::SocketAddr)> {
        self.accept_at_once()
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        UnixListener::local_addr(self)
    }

    /// Its path; most clients have none.
    fn name_of(&self, peer: &unix::SocketAddr) -> String {
        peer.as_pathname().map_or_else(|| "unnamed".to_owned(), |path| path.display().to_string())
    }

    fn set_idle_timeout(&self, stream: &UnixStream, d: Duration) -> io::Result<()> {
        stream.set_read_timeout(Some(d))?;
        stream.set_write_timeout(Some(d))
    }
}

/// For a listener that somebody else has a handle to.
impl<L: Accept> Accept for Rc<L> {
    type Stream = L::Stream;
    type Peer = L::Peer;

    fn accept(&self) -> io::Result<(L::Stream, L::Peer)> {
        (**self).accept()
    }

    fn try_accept(&self) -> io::Result<(L::Stream, L::Peer)> {
        (**self).try_accept()
    }

    fn local_addr(&self) -> io::Result<L::Peer> {
        (**self).local_addr()
    }

    fn name_of(&self, peer: &L::Peer) -> String {
        (**self).name_of(peer)
    }

    fn set_idle_timeout(&self, stream: &L::Stream, d: Duration) -> io::Result<()> {
        (**self).set_idle_timeout(stream, d)
    }

    fn error_kind(&self, error: &io::Error) -> AcceptErrorKind {
        (**self).error_kind(error)
    }
}
