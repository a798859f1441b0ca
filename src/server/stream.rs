//! `StreamServer`: a greenlet for each connection.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use super::accept::{Accept, AcceptErrorKind};
use super::engine::{Engine, Intake};
use super::stats::Stats;
use crate::net::{TcpListener, ToSocketAddrs};
use crate::pool::Pool;
use crate::wait::sealed::HasLine;
use crate::wait::{WaitList, Waitable};

/// A server that gives every connection a greenlet of its own. A handle: clones name the same
/// server, and dropping them leaves it running.
///
/// It is set up, then started; what is set later holds for those who come later. A server that has
/// been stopped does not start again. gevent's `StreamServer`.
///
/// # Handlers
///
/// A handler has the connection, and it closes when the handler lets go of it: by returning, by a
/// panic, or because it is killed. What it returns is nobody's business: its errors are its own, to
/// log or to ignore. (So `?` can be used in it; a closure that does has to name its error type
/// somewhere, as in the example.) Its greenlet is named after the peer.
///
/// # Examples
///
/// ```
/// use greenloom::net::TcpStream;
/// use greenloom::server::StreamServer;
/// use std::io::{self, Read, Write};
/// use std::time::Duration;
///
/// let server = StreamServer::bind("127.0.0.1:0")?
///     .max_connections(1000)
///     .idle_timeout(Duration::from_secs(60))
///     .handle(|mut stream, peer| -> io::Result<()> {
///         writeln!(stream, "hello, {peer}")
///     });
/// server.start(); // or serve_forever(), which returns when somebody calls stop()
///
/// let mut stream = TcpStream::connect(server.local_addr()?)?;
/// let mut greeting = String::new();
/// stream.read_to_string(&mut greeting)?;
/// assert!(greeting.starts_with("hello, 127.0.0.1:"));
///
/// assert!(server.stop(Duration::from_secs(5)), "nobody had to be killed");
/// assert_eq!(server.stats().finished, 1);
/// # Ok::<(), io::Error>(())
/// ```
///
/// It is [`Waitable`]: ready when it serves no more, that is when
/// [`serve_forever`](StreamServer::serve_forever) would return. So one can wait for its end and for
/// something else, whichever comes first:
///
/// ```
/// use greenloom::server::StreamServer;
/// use greenloom::signal::{SIGINT, SIGTERM, Signals};
/// use greenloom::{Waitable, wait_any};
/// use std::time::Duration;
///
/// let signals = Signals::new([SIGINT, SIGTERM])?;
/// let server = StreamServer::bind("127.0.0.1:0")?.handle(|_stream, _peer| ());
/// server.start();
/// # greenloom::signal::raise(SIGTERM)?;
/// match wait_any([&server as &dyn Waitable, &signals]) {
///     0 => eprintln!("the listener is broken"),
///     _ => drop(server.stop(Duration::from_secs(5))),
/// }
/// assert!(server.is_ready());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct StreamServer<L: Accept = TcpListener> {
    engine: Rc<Engine<StreamIntake<L>>>,
}

struct StreamIntake<L> {
    listener: L,
    idle: Cell<Option<Duration>>,
}

impl<L: Accept> StreamIntake<L> {
    fn prepared(&self, came: io::Result<(L::Stream, L::Peer)>) -> io::Result<(L::Stream, L::Peer)> {
        let (stream, peer) = came?;
        if let Some(d) = self.idle.get() {
            self.listener.set_idle_timeout(&stream, d)?;
        }
        Ok((stream, peer))
    }
}

impl<L: Accept> Intake for StreamIntake<L> {
    type Request = (L::Stream, L::Peer);
    type Address = L::Peer;

    fn next(&self) -> io::Result<Self::Request> {
        self.prepared(self.listener.accept())
    }

    fn next_at_once(&self) -> io::Result<Self::Request> {
        self.prepared(self.listener.try_accept())
    }

    fn error_kind(&self, error: &io::Error) -> AcceptErrorKind {
        self.listener.error_kind(error)
    }

    fn name_of(&self, (_, peer): &Self::Request) -> String {
        self.listener.name_of(peer)
    }

    fn local_addr(&self) -> io::Result<L::Peer> {
        self.listener.local_addr()
    }

    fn title(&self) -> String {
        match self.listener.local_addr() {
            Ok(address) => format!("server on {}", self.listener.name_of(&address)),
            Err(_) => "server".to_owned(),
        }
    }
}

impl StreamServer {
    /// One that listens on the first of the addresses that can be bound, by TCP.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind`].
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<StreamServer> {
        TcpListener::bind(addr).map(StreamServer::from_listener)
    }
}

impl<L: Accept> StreamServer<L> {
    /// One that serves what `listener` accepts: a [`TcpListener`], a listener on a Unix socket, or
    /// anything that implements [`Accept`].
    ///
    /// The server drops it when it is stopped. Where somebody else has a clone of it, the socket
    /// goes on listening. A listener of this crate may be in non-blocking mode: the server waits all
    /// the same.
    #[track_caller]
    pub fn from_listener(listener: L) -> StreamServer<L> {
        let intake = StreamIntake { listener, idle: Cell::new(None) };
        StreamServer { engine: Engine::new(intake) }
    }

    /// Sets what is called for each connection, in a greenlet of its own, with the stream and who is
    /// at the other end. What it returns is dropped.
    #[track_caller]
    pub fn handle<F, R>(self, f: F) -> StreamServer<L>
    where
        F: Fn(L::Stream, L::Peer) -> R + 'static,
        R: 'static,
    {
        self.engine.set_handler(move |(stream, peer)| drop(f(stream, peer)));
        self
    }

    /// Lets handlers run in `pool`, which may be shared with others. While it is full, the server
    /// accepts nothing.
    ///
    /// [`stop`](StreamServer::stop) waits for the server's own handlers, and kills no other member.
    /// If the pool is closed, connections are refused service: they are closed, and that is treated
    /// as lack of resources.
    pub fn pool(self, pool: &Pool) -> StreamServer<L> {
        self.engine.set_pool(pool);
        self
    }

    /// Lets at most `n` handlers run at a time. While they do, the server accepts nothing: whoever
    /// comes waits in the listener's backlog. Without this there is no bound but that of the pool,
    /// if there is one.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn max_connections(self, n: usize) -> StreamServer<L> {
        self.engine.set_most(n);
        self
    }

    /// Sets how many may wait to be accepted, as `listen(2)` does. The system has an upper bound of
    /// its own (`net.core.somaxconn` on Linux). [`bind`](StreamServer::bind) asks for 1,024.
    ///
    /// # Panics
    ///
    /// If the listener's descriptor is not one of a socket that listens.
    #[track_caller]
    pub fn backlog(self, n: u32) -> StreamServer<L>
    where
        L: AsFd,
    {
        if let Ok(intake) = self.engine.intake() {
            let n = i32::try_from(n).unwrap_or(i32::MAX);
            if let Err(error) = rustix::net::listen(&intake.listener, n) {
                panic!("a backlog is for a socket that listens: {error}");
            }
            self.engine.backlog.set(n as usize + 1); // the system holds one more than that
        }
        self
    }

    /// Lets each read and each write of a connection fail (with
    /// [`TimedOut`](io::ErrorKind::TimedOut)) that waits longer than `d`: a handler that passes the
    /// error on ends then, and does not keep a peer who says nothing. It may set other limits.
    ///
    /// # Panics
    ///
    /// If `d` is zero: nothing can be done in no time.
    #[track_caller]
    pub fn idle_timeout(self, d: Duration) -> StreamServer<L> {
        assert!(!d.is_zero(), "an idle timeout of no time at all");
        if let Ok(intake) = self.engine.intake() {
            intake.idle.set(Some(d));
        }
        self
    }

    /// Begins to serve, in the background, and returns at once. On a server that serves, or has
    /// served, it does nothing.
    ///
    /// # Panics
    ///
    /// If it has no handler; as [`spawn`](crate::spawn) else.
    #[track_caller]
    pub fn start(&self) {
        self.engine.start();
    }

    /// Serves until somebody calls [`stop`](StreamServer::stop), and that has come to its end. If
    /// the server has been stopped before, it returns at once; also if the listener is broken, which
    /// is reported through [`Hub::on_error`](crate::Hub::on_error).
    ///
    /// If the greenlet in this call is killed, or unwinds by a timeout, the server is stopped, with
    /// a grace of one second; the call does not wait for that.
    ///
    /// # Panics
    ///
    /// As [`start`](StreamServer::start).
    #[track_caller]
    pub fn serve_forever(&self) {
        self.engine.serve_forever();
    }

    /// Stops it: accepts nothing any more, waits until the handlers have ended, and after `grace`
    /// kills those that have not. Returns when all have ended; true if none had to be killed.
    ///
    /// Connections that wait in the backlog are still served, as far as there is room for them
    /// (unless `grace` is zero); then the listener is dropped, and new connections are refused. A
    /// handler that is killed may clean up for a second, and is left alone then (as by
    /// [`Greenlet::kill`](crate::Greenlet::kill) if it refuses; the report goes to `tracing`).
    ///
    /// The listener is dropped as soon as nothing is accepted any more, and the server's handler with
    /// it, or with the last that is served. Their destructors may wait, which is waited for here, too; a
    /// panic in one is reported through [`Hub::on_error`](crate::Hub::on_error).
    ///
    /// A handler can stop its own server: it waits for the others here, and has what is left of the
    /// time to end itself; it is killed last. Several may stop it: they wait for the same end, and
    /// the shortest grace counts. A caller that is killed meanwhile changes nothing, and while the
    /// caller unwinds this returns at once; the server is stopped all the same.
    #[track_caller]
    pub fn stop(&self, grace: Duration) -> bool {
        self.engine.stop(grace)
    }

    /// Accepts nothing until [`start_accepting`](StreamServer::start_accepting). The listener stays:
    /// those who come can connect, as far as its backlog goes, and wait. It never switches.
    pub fn stop_accepting(&self) {
        self.engine.stop_accepting();
    }

    /// Accepts again, after [`stop_accepting`](StreamServer::stop_accepting).
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn start_accepting(&self) {
        self.engine.start_accepting();
    }

    /// Has it been started, and not been stopped? (It may be told not to accept.)
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.engine.is_running()
    }

    /// Where it listens: with port 0, the one that the system has picked. When it has been stopped:
    /// where it did.
    ///
    /// # Errors
    ///
    /// `NotConnected` if it has been stopped, and the address could not be had then; before, as
    /// [`Accept::local_addr`].
    pub fn local_addr(&self) -> io::Result<L::Peer> {
        self.engine.local_addr()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.active.stats()
    }
}

impl<L: Accept> Clone for StreamServer<L> {
    fn clone(&self) -> StreamServer<L> {
        StreamServer { engine: Rc::clone(&self.engine) }
    }
}

impl<L: Accept> HasLine for StreamServer<L> {
    fn line(&self) -> &WaitList {
        self.engine.served.line()
    }

    fn keeps_its_word(&self) -> bool {
        self.engine.served.keeps_its_word()
    }
}

impl<L: Accept> Waitable for StreamServer<L> {
    fn is_ready(&self) -> bool {
        self.engine.served.is_ready()
    }
}

impl<L: Accept> UnwindSafe for StreamServer<L> {}
impl<L: Accept> RefUnwindSafe for StreamServer<L> {}

impl<L: Accept> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.describe("StreamServer", f)
    }
}
