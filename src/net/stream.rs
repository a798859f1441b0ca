//! TCP connections.
//!
//! A stream stays in blocking mode as far as its descriptor goes: reads and writes say
//! `MSG_DONTWAIT` themselves. So whoever gets the descriptor by `as_fd`, `into_std` or inheritance
//! finds an ordinary socket, and nothing that others do to the shared mode can make us block.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg, send, sendmsg,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::hub::{SHORT_READS_TELL, Side};
use crate::source::{Source, Tried};
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
    shared: Rc<Stream>,
}

struct Stream {
    source: Source<net::TcpStream>,
    /// Is it a plain socket, where a short read says that there is no more? One that was made
    /// elsewhere may have a protocol of its own on top, which stops where it likes.
    is_plain: bool,
    read_timeout: Cell<Option<Duration>>,
    write_timeout: Cell<Option<Duration>>,
    nonblocking: Cell<bool>,
}

impl Stream {
    fn limit(&self, timeout: &Cell<Option<Duration>>) -> Limit {
        match timeout.get() {
            _ if self.nonblocking.get() => Limit::Never,
            None => Limit::Forever,
            Some(time) => Limit::Within(time),
        }
    }

    /// Receives by `receive`, into room for `room` bytes.
    fn read(
        &self,
        room: usize,
        mut receive: impl FnMut(&net::TcpStream) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        self.source.run(Side::Read, &"read", self.limit(&self.read_timeout), |stream| {
            let len = receive(stream)?;
            // None at all is the end of the stream, and stays so.
            let tells = self.is_plain && SHORT_READS_TELL && len > 0;
            Ok(if tells { transferred(len, room) } else { Tried::Done(len) })
        })
    }

    /// Sends `len` bytes by `transmit`.
    fn write(
        &self,
        len: usize,
        mut transmit: impl FnMut(&net::TcpStream) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        self.source.run(Side::Write, &"write", self.limit(&self.write_timeout), |stream| {
            Ok(transferred(transmit(stream)?, len))
        })
    }
}

/// Buffers that one system call takes (`IOV_MAX`); like std, we leave the rest for the next.
const BUFFERS: usize = 1024;

/// A peer that has gone is an error, not a signal. (Apple's systems have no flag for that; std
/// ignores the signal in the whole process.)
fn send_flags() -> SendFlags {
    let flags = SendFlags::DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    let flags = flags | SendFlags::NOSIGNAL;
    flags
}

fn transferred(done: usize, asked: usize) -> Tried<usize> {
    if done < asked { Tried::CutShort(done) } else { Tried::Done(done) }
}

impl TcpStream {
    pub(super) fn new(stream: net::TcpStream) -> TcpStream {
        TcpStream::with_plain(stream, true)
    }

    fn with_plain(stream: net::TcpStream, is_plain: bool) -> TcpStream {
        TcpStream {
            shared: Rc::new(Stream {
                source: Source::new(stream),
                is_plain,
                read_timeout: Cell::new(None),
                write_timeout: Cell::new(None),
                nonblocking: Cell::new(false),
            }),
        }
    }

    pub(super) fn std(&self) -> &net::TcpStream {
        self.shared.source.inner()
    }

    /// Opens a connection, to the first of the addresses that answers.
    ///
    /// A host name is looked up by the system before anything else, and blocks the thread while it
    /// is; addresses do not.
    ///
    /// # Errors
    ///
    /// Of the last address tried, as [`std::net::TcpStream::connect`]; `InvalidInput` if there was
    /// none.
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        let none =
            io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses");
        let mut result = Err(none);
        for addr in addr.to_socket_addrs()? {
            result = connect(&addr, Limit::Forever);
            if result.is_ok() {
                break;
            }
        }
        result
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

    /// Shuts down reading, writing or both. Greenlets that wait on that side go on: reads find the
    /// end of the stream, writes fail.
    ///
    /// # Errors
    ///
    /// As the system says, for instance `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.std().shutdown(how)
    }

    /// Another handle to the same connection, with the same time-outs.
    ///
    /// # Errors
    ///
    /// None; it returns a `Result` as std's does.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(self.clone())
    }

    /// Lets reads fail with `TimedOut` after so long. `None`: they wait for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a limit of zero.
    pub fn set_read_timeout(&self, d: Option<Duration>) -> io::Result<()> {
        self.shared.read_timeout.set(d.map(not_zero).transpose()?);
        Ok(())
    }

    /// Lets writes fail with `TimedOut` after so long. `None`: they wait for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a limit of zero.
    pub fn set_write_timeout(&self, d: Option<Duration>) -> io::Result<()> {
        self.shared.write_timeout.set(d.map(not_zero).transpose()?);
        Ok(())
    }

    /// The limit for reads.
    ///
    /// # Errors
    ///
    /// None; it returns a `Result` as std's does.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.read_timeout.get())
    }

    /// The limit for writes.
    ///
    /// # Errors
    ///
    /// None; it returns a `Result` as std's does.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.write_timeout.get())
    }

    /// Reads without taking anything out: the next read finds it again.
    ///
    /// # Errors
    ///
    /// As a read's.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        self.shared.source.run(
            Side::Read,
            &"read",
            self.shared.limit(&self.shared.read_timeout),
            |stream| {
                // What is left says nothing about what is to come: never "cut short".
                Ok(Tried::Done(recv(stream, &mut *buf, flags)?.1))
            },
        )
    }

    /// Returns when a read would not wait: there is data, the end of the stream, or an error.
    ///
    /// For handlers of many quiet connections, which then need no buffer until there is something
    /// to put into it.
    ///
    /// # Errors
    ///
    /// As a read's.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.peek(&mut [0]).map(|_| ())
    }

    /// Sends small pieces at once (`TCP_NODELAY`) instead of gathering them.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.std().set_nodelay(on)
    }

    /// Is `TCP_NODELAY` set?
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.std().nodelay()
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

    /// Lets calls fail with `WouldBlock` instead of waiting. All clones share the setting.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.std().set_nonblocking(on)?;
        self.shared.nonblocking.set(on);
        Ok(())
    }

    /// The same connection as std's type, blocking (unless set otherwise) and with the same
    /// time-outs: to send it to another thread, for instance.
    ///
    /// If there are clones, they go on with this descriptor, and std's gets a duplicate.
    ///
    /// # Errors
    ///
    /// As the system says, if a descriptor has to be duplicated or an option set.
    pub fn into_std(self) -> io::Result<net::TcpStream> {
        let (read, write) = (self.shared.read_timeout.get(), self.shared.write_timeout.get());
        let nonblocking = self.shared.nonblocking.get();
        let stream = match Rc::try_unwrap(self.shared) {
            Ok(stream) => stream.source.into_inner(),
            Err(shared) => shared.source.inner().try_clone()?,
        };
        stream.set_nonblocking(nonblocking)?;
        stream.set_read_timeout(read)?;
        stream.set_write_timeout(write)?;
        Ok(stream)
    }
}

/// The limits of std: nothing can be done in no time.
fn not_zero(d: Duration) -> io::Result<Duration> {
    if d.is_zero() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
    }
    Ok(d)
}

fn connect(addr: &SocketAddr, limit: Limit) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let begun = socket.connect(&(*addr).into());
    let stream = TcpStream::new(socket.into());
    match begun {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {
            stream.shared.source.run(Side::Write, &"connect", limit, is_connected)?;
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
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(Tried::Done(())),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error),
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.shared.read(buf.len(), |stream| Ok(recv(stream, &mut *buf, RecvFlags::DONTWAIT)?.1))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = bufs.len().min(BUFFERS);
        let bufs = &mut bufs[..count];
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.shared.read(room, |stream| {
            let mut control = RecvAncillaryBuffer::default();
            Ok(recvmsg(stream, bufs, &mut control, RecvFlags::DONTWAIT)?.bytes)
        })
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.shared.write(buf.len(), |stream| send(stream, buf, send_flags()))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(BUFFERS)];
        let len = bufs.iter().map(|buf| buf.len()).sum();
        let flags = send_flags();
        self.shared
            .write(len, |stream| sendmsg(stream, bufs, &mut SendAncillaryBuffer::default(), flags))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std().fmt(f)
    }
}

impl From<net::TcpStream> for TcpStream {
    /// Takes over std's time-outs; the mode is blocking, whatever it was.
    fn from(stream: net::TcpStream) -> TcpStream {
        let (read, write) = (stream.read_timeout(), stream.write_timeout());
        let ours = TcpStream::with_plain(stream, false);
        ours.shared.read_timeout.set(read.unwrap_or_default());
        ours.shared.write_timeout.set(write.unwrap_or_default());
        ours
    }
}

impl From<TcpStream> for net::TcpStream {
    /// # Panics
    ///
    /// If [`TcpStream::into_std`] fails.
    fn from(stream: TcpStream) -> net::TcpStream {
        stream.into_std().expect("a connection without clones has nothing that could fail")
    }
}

// As std's is: what a panic leaves behind is a socket, and not half of one.
impl UnwindSafe for TcpStream {}
impl RefUnwindSafe for TcpStream {}
