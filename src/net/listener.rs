//! TCP listeners.
//!
//! `accept` has no flag that says "do not wait", so a listener is non-blocking while it is ours.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{self, SocketAddr, ToSocketAddrs};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use super::stream::TcpStream;
use crate::hub::Side;
use crate::source::{Source, Tried};
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
    shared: Rc<Listener>,
}

struct Listener {
    source: Source<net::TcpListener>,
    nonblocking: Cell<bool>,
}

impl TcpListener {
    /// A socket that is bound to the first of the addresses that can be, and listens.
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpListener::bind`].
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        net::TcpListener::bind(addr).map(TcpListener::from)
    }

    pub(super) fn std(&self) -> &net::TcpListener {
        self.shared.source.inner()
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    ///
    /// None; it returns a `Result` as std's does.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(self.clone())
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// As the system says. An error concerns one connection, or the state of the process (no
    /// descriptor left, say), and not the listener: a server reports it, waits a little, and goes
    /// on.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let limit = if self.shared.nonblocking.get() { Limit::Never } else { Limit::Forever };
        self.shared.source.run(Side::Read, &"accept", limit, |listener| {
            let (stream, peer) = accept(listener)?;
            Ok(Tried::Done((TcpStream::new(stream), peer)))
        })
    }

    /// Connections as they come, without end.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Sets how many hops a packet may take.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.std().set_ttl(ttl)
    }

    /// How many hops a packet may take.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.std().ttl()
    }

    /// Takes the error that is pending on the socket, if there is one.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.std().take_error()
    }

    /// Lets `accept` fail with `WouldBlock` instead of waiting. All clones share the setting.
    ///
    /// # Errors
    ///
    /// None; it returns a `Result` as std's does.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.shared.nonblocking.set(on);
        Ok(())
    }

    /// The same socket as std's type: to send it to another thread, for instance. Blocking, unless
    /// set otherwise.
    ///
    /// If there are clones, they go on with this descriptor and std's gets a duplicate. The two
    /// share their mode, which then has to stay non-blocking for the clones' sake.
    ///
    /// # Errors
    ///
    /// As the system says, if a descriptor has to be duplicated or the mode set.
    pub fn into_std(self) -> io::Result<net::TcpListener> {
        let nonblocking = self.shared.nonblocking.get();
        match Rc::try_unwrap(self.shared) {
            Ok(listener) => {
                let listener = listener.source.into_inner();
                listener.set_nonblocking(nonblocking)?;
                Ok(listener)
            }
            Err(shared) => shared.source.inner().try_clone(),
        }
    }
}

/// By a raw system call where there is one that takes the flags along.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    let (stream, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((stream.into(), peer.ok_or(io::ErrorKind::InvalidData)?))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(false)?; // some systems let it inherit the listener's mode
    Ok((stream, peer))
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std().fmt(f)
    }
}

impl From<net::TcpListener> for TcpListener {
    /// # Panics
    ///
    /// If the system refuses to set the mode of an open socket, which none does.
    fn from(listener: net::TcpListener) -> TcpListener {
        listener.set_nonblocking(true).expect("an open socket has a mode to set");
        TcpListener {
            shared: Rc::new(Listener {
                source: Source::new(listener),
                nonblocking: Cell::new(false),
            }),
        }
    }
}

impl From<TcpListener> for net::TcpListener {
    /// # Panics
    ///
    /// If [`TcpListener::into_std`] fails.
    fn from(listener: TcpListener) -> net::TcpListener {
        listener.into_std().expect("a listener without clones has nothing that could fail")
    }
}

/// The connections of a listener, from [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}

// As std's is.
impl UnwindSafe for TcpListener {}
impl RefUnwindSafe for TcpListener {}
