//! Unix connections.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Type};

use super::super::descriptor::{bytes, handle, time_limits};
use super::super::socket::{Kind, Socket};
use super::addr;
use super::pause::with_pauses;
use crate::hub::Side;
use crate::source::Tried;
use crate::wait::Limit;

/// A connection between two processes, or two greenlets: [`std::os::unix::net::UnixStream`], except
/// that waiting parks the greenlet.
///
/// It may be read by one greenlet and written by another at the same time, through `&stream` or
/// through a clone; several in one direction are served first come, first served. Dropping the last
/// clone closes it.
///
/// # Examples
///
/// ```
/// use greenloom::net::unix::UnixStream;
/// use std::io::{Read, Write};
///
/// let (mut ours, mut theirs) = UnixStream::pair()?;
/// let echo = greenloom::spawn(move || {
///     let mut word = [0; 5];
///     theirs.read_exact(&mut word)?;
///     theirs.write_all(&word.to_ascii_uppercase())
/// });
/// ours.write_all(b"hello")?;
/// let mut answer = String::new();
/// ours.read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO");
/// echo.get().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixStream {
    shared: Rc<Socket<net::UnixStream>>,
}

handle!(UnixStream, net::UnixStream);
time_limits!(UnixStream);
bytes!(UnixStream);

impl UnixStream {
    /// One that we made, and nobody else has seen.
    pub(super) fn new(stream: net::UnixStream) -> UnixStream {
        UnixStream { shared: Socket::new(stream, Kind::Other) }
    }

    /// Opens a connection to the listener at `path`.
    ///
    /// While its backlog is full, it tries again and again, after pauses that grow up to 20 ms:
    /// there is no event to wait for.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixStream::connect`].
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// As [`connect`](UnixStream::connect), to an address, which may be an abstract name.
    ///
    /// # Errors
    ///
    /// As [`connect`](UnixStream::connect).
    pub fn connect_addr(addr: &SocketAddr) -> io::Result<UnixStream> {
        let addr = addr::to_system(addr)?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let stream = UnixStream::new(socket.into());
        with_pauses(&"connect", Limit::Forever, || {
            stream.shared.run(Side::Write, &"connect", Limit::Never, |stream| {
                Ok(Tried::Done(rustix::net::connect(stream, &addr)?))
            })
        })?;
        stream.std().set_nonblocking(false)?;
        Ok(stream)
    }

    /// Two ends of one connection.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::new(one), UnixStream::new(other)))
    }

    /// The address of this end; it has no name, unless it was bound.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.std().local_addr()
    }

    /// The address of the other end; that of a listener is its own.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.std().peer_addr()
    }
}

impl From<net::UnixStream> for UnixStream {
    /// Takes over std's time limits; calls wait, whatever the mode was.
    fn from(stream: net::UnixStream) -> UnixStream {
        UnixStream { shared: Socket::adopt(stream, Kind::Other) }
    }
}
