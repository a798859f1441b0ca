//! `DatagramServer`: a greenlet for each datagram.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use super::accept::AcceptErrorKind;
use super::engine::{Engine, Intake};
use super::stats::Stats;
use crate::net::{ToSocketAddrs, UdpSocket};
use crate::pool::Pool;
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

/// Room for the longest datagram that UDP can carry.
const LONGEST: usize = 65_536;

/// A server that gives every datagram that comes to a UDP socket a greenlet of its own. A handle:
/// clones name the same server, and dropping them leaves it running.
///
/// While as many handlers run as may, it receives nothing. Then datagrams membership in the socket's
/// buffer, and when that is full the kernel drops what comes, as UDP does. Without a bound
/// ([`max_handlers`](DatagramServer::max_handlers), or a [`pool`](DatagramServer::pool)) there are as
/// many handlers as have not ended.
///
/// It begins, runs and ends as a [`StreamServer`](super::StreamServer) does, can be waited for as
/// that can, and treats errors and panics alike. gevent's `DatagramServer`.
///
/// # Examples
///
/// ```
/// use greenloom::net::{SocketAddr, UdpSocket};
/// use greenloom::server::DatagramServer;
/// use std::time::Duration;
///
/// let server = DatagramServer::bind("127.0.0.1:0")?.max_handlers(100).handle(
///     |socket: &UdpSocket, bytes: &[u8], peer: SocketAddr| {
///         socket.send_to(&bytes.to_ascii_uppercase(), peer)
///     },
/// );
/// server.start();
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.local_addr()?)?;
/// let mut answer = [0; 5];
/// client.recv_from(&mut answer)?;
/// assert_eq!(&answer, b"HELLO");
/// assert!(server.stop(Duration::from_secs(1)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct DatagramServer {
    engine: Rc<Engine<DatagramIntake>>,
}

struct DatagramIntake {
    socket: UdpSocket,
    /// Empty while the acceptor receives into it.
    buffer: RefCell<Vec<u8>>,
}

struct Datagram {
    socket: UdpSocket,
    bytes: Box<[u8]>,
    peer: SocketAddr,
}

impl Intake for DatagramIntake {
    type Request = Datagram;
    type Address = SocketAddr;

    fn next(&self) -> io::Result<Datagram> {
        let mut buffer = self.buffer.take();
        buffer.resize(LONGEST, 0);
        let received = self.socket.recv_for_server(&mut buffer);
        let datagram = received.map(|(len, peer)| Datagram {
            socket: self.socket.clone(),
            bytes: buffer[..len].into(),
            peer,
        });
        self.buffer.replace(buffer);
        datagram
    }

    /// What has come and not been received may be lost, as it may be on its way.
    fn next_at_once(&self) -> io::Result<Datagram> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn error_kind(&self, error: &io::Error) -> AcceptErrorKind {
        match error.kind() {
            // What somebody has sent by this socket has not arrived.
            io::ErrorKind::ConnectionRefused => AcceptErrorKind::Connection,
            _ => AcceptErrorKind::of(error),
        }
    }

    fn name_of(&self, datagram: &Datagram) -> String {
        datagram.peer.to_string()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn title(&self) -> String {
        match self.socket.local_addr() {
            Ok(address) => format!("server on {address}, UDP"),
            Err(_) => "server".to_owned(),
        }
    }
}

impl DatagramServer {
    /// One whose socket is bound to the first of the addresses that can be.
    ///
    /// # Errors
    ///
    /// As [`UdpSocket::bind`].
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<DatagramServer> {
        UdpSocket::bind(addr).map(DatagramServer::from_socket)
    }

    /// One that serves what `socket` receives. The server waits for that as long as it takes, even if
    /// the socket has a time limit or is in non-blocking mode; handlers get it as it is.
    #[track_caller]
    pub fn from_socket(socket: UdpSocket) -> DatagramServer {
        DatagramServer {
            engine: Engine::new(DatagramIntake { socket, buffer: RefCell::default() }),
        }
    }

    /// Sets what is called for each datagram, in a greenlet of its own, with the socket to answer
    /// by, what has come, and from whom. What it returns is dropped.
    #[track_caller]
    pub fn handle<F, R>(self, f: F) -> DatagramServer
    where
        F: Fn(&UdpSocket, &[u8], SocketAddr) -> R + 'static,
        R: 'static,
    {
        self.engine.set_handler(move |datagram: Datagram| {
            drop(f(&datagram.socket, &datagram.bytes, datagram.peer));
        });
        self
    }

    /// Lets handlers run in `pool`, as
    /// [`StreamServer::pool`](super::StreamServer::pool). While it is full, nothing is received.
    pub fn pool(self, pool: &Pool) -> DatagramServer {
        self.engine.set_pool(pool);
        self
    }

    /// Lets at most `n` handlers run at a time. While they do, nothing is received.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn max_handlers(self, n: usize) -> DatagramServer {
        self.engine.set_most(n);
        self
    }

    /// As [`StreamServer::start`](super::StreamServer::start).
    ///
    /// # Panics
    ///
    /// If it has no handler; as [`spawn`](crate::spawn) else.
    #[track_caller]
    pub fn start(&self) {
        self.engine.start();
    }

    /// As [`StreamServer::serve_forever`](super::StreamServer::serve_forever).
    ///
    /// # Panics
    ///
    /// As [`start`](DatagramServer::start).
    #[track_caller]
    pub fn serve_forever(&self) {
        self.engine.serve_forever();
    }

    /// As [`StreamServer::stop`](super::StreamServer::stop): nothing more is received, handlers have
    /// `grace` to end, and whoever has not is killed. True if nobody had to be.
    ///
    /// The socket closes with the last handler. What was in its buffer is lost.
    #[track_caller]
    pub fn stop(&self, grace: Duration) -> bool {
        self.engine.stop(grace)
    }

    /// Has it been started, and not been stopped?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.engine.is_running()
    }

    /// The address it is bound to: with port 0, the one that the system has picked. When it has been
    /// stopped: the one it was bound to.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.engine.local_addr()
    }

    /// What it has done so far; `accepted` counts datagrams.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.active.stats()
    }
}

impl HasLine for DatagramServer {
    fn line(&self) -> &WaitList {
        self.engine.served.line()
    }

    fn keeps_its_word(&self) -> bool {
        self.engine.served.keeps_its_word()
    }
}

impl Waitable for DatagramServer {
    fn is_ready(&self) -> bool {
        self.engine.served.is_ready()
    }
}

impl UnwindSafe for DatagramServer {}
impl RefUnwindSafe for DatagramServer {}

impl fmt::Debug for DatagramServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.describe("DatagramServer", f)
    }
}
