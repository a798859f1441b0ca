//! What every socket of ours is made of: a descriptor whose calls park, and the settings that its
//! clones share.
//!
//! The descriptor stays in blocking mode; calls say `MSG_DONTWAIT` themselves. So whoever gets it by
//! `as_fd`, `into_std` or inheritance finds an ordinary socket, and nothing that others do to the
//! shared mode can make us block. `accept` alone has no flag that says "do not wait": a listener is
//! non-blocking while it is ours.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SocketAddrAny, recv, recvfrom, recvmsg,
    send, sendmsg, sendto,
};
use socket2::SockRef;

use crate::hub::{SHORT_READS_TELL, Side};
use crate::source::{Source, Tried, send_flags};
use crate::wait::Limit;

/// Std's socket `S`, as all clones of ours share it.
pub(super) struct Socket<S: AsFd> {
    source: Source<S>,
    kind: Kind,
    /// How long calls may wait in each direction; both `Never` while it is not to block.
    read_limit: Cell<Limit>,
    write_limit: Cell<Limit>,
    read_timeout: Cell<Option<Duration>>,
    write_timeout: Cell<Option<Duration>>,
    nonblocking: Cell<bool>,
    /// A listener that lingered when it was adopted: what waited in its backlog does so still.
    has_lingered: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its descriptor is non-blocking, and it has no time limits.
    Listener,
    /// Nothing but TCP: there a short read says that there is no more. (A stream that was made
    /// elsewhere may have a protocol of its own on top, which stops where it likes; a Unix stream
    /// stops where a descriptor was sent along.)
    PlainTcp,
    /// One that is shut down has nothing more to give, which only a call that may wait is told.
    UnixDatagram,
    Other,
}

/// Buffers that one system call takes (`IOV_MAX`); like std, we leave the rest for the next.
const BUFFERS: usize = 1024;

/// The shortest limit that the system can be told; less would mean "none".
const SHORTEST: Duration = Duration::from_micros(1);

fn transferred(done: usize, asked: usize) -> Tried<usize> {
    if done < asked { Tried::CutShort(done) } else { Tried::Done(done) }
}

/// The limits of std: nothing can be done in no time.
pub(super) fn not_zero(d: Duration) -> io::Result<Duration> {
    if d.is_zero() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
    }
    Ok(d)
}

/// An address of IP, from the system. The flow of an IPv6 address is as the system has it, like
/// std's; rustix turns its bytes round.
pub(super) fn ip_address(addr: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let addr = addr.ok_or(io::ErrorKind::InvalidData)?;
    Ok(flow_turned(SocketAddr::try_from(addr)?))
}

/// The other way round: for rustix.
pub(super) fn flow_turned(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(mut six) => {
            six.set_flowinfo(six.flowinfo().to_be());
            six.into()
        }
    }
}

impl<S: AsFd + From<OwnedFd>> Socket<S> {
    pub(super) fn new(inner: S, kind: Kind) -> Rc<Socket<S>> {
        Rc::new(Socket {
            source: Source::new(inner),
            kind,
            read_limit: Cell::new(Limit::Forever),
            write_limit: Cell::new(Limit::Forever),
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
            nonblocking: Cell::new(false),
            has_lingered: Cell::new(false),
        })
    }

    /// One that was std's. Its time limits are taken over; its mode becomes ours; closing it will
    /// not wait.
    pub(super) fn adopt(inner: S, kind: Kind) -> Rc<Socket<S>> {
        let system = SockRef::from(&inner);
        let (read, write) = (system.read_timeout(), system.write_timeout());
        let has_lingered = linger_no_more(&system);
        if kind == Kind::Listener {
            system.set_nonblocking(true).expect("an open socket has a mode to set");
        }
        let socket = Socket::new(inner, kind);
        socket.has_lingered.set(has_lingered);
        if kind != Kind::Listener {
            socket.read_timeout.set(read.unwrap_or_default());
            socket.write_timeout.set(write.unwrap_or_default());
            socket.set_limits();
        }
        socket
    }

    /// Std's again, with our settings; a duplicate if there are clones.
    pub(super) fn into_std(self: Rc<Self>) -> io::Result<S> {
        let (read, write) = (self.timeout_of(Side::Read), self.timeout_of(Side::Write));
        let (kind, nonblocking) = (self.kind, self.nonblocking.get());
        let (inner, is_alone) = match Rc::try_unwrap(self) {
            Ok(socket) => (socket.source.into_inner(), true),
            Err(shared) => (S::from(shared.inner().as_fd().try_clone_to_owned()?), false),
        };
        let system = SockRef::from(&inner);
        if kind == Kind::Listener {
            // Duplicates share their mode; for the sake of the clones it has to stay as it is.
            if is_alone {
                system.set_nonblocking(nonblocking)?;
            }
        } else {
            system.set_nonblocking(nonblocking)?;
            system.set_read_timeout(read.map(|time| time.max(SHORTEST)))?;
            system.set_write_timeout(write.map(|time| time.max(SHORTEST)))?;
        }
        Ok(inner)
    }
}

impl<S: AsFd> Socket<S> {
    pub(super) fn inner(&self) -> &S {
        self.source.inner()
    }

    fn timeout(&self, side: Side) -> &Cell<Option<Duration>> {
        match side {
            Side::Read => &self.read_timeout,
            Side::Write => &self.write_timeout,
        }
    }

    pub(super) fn timeout_of(&self, side: Side) -> Option<Duration> {
        self.timeout(side).get()
    }

    pub(super) fn set_timeout_of(&self, side: Side, d: Option<Duration>) -> io::Result<()> {
        self.timeout(side).set(d.map(not_zero).transpose()?);
        self.set_limits();
        Ok(())
    }

    /// What calls ask for, from what was set.
    fn set_limits(&self) {
        let never = self.nonblocking.get();
        let limit = |time: Option<Duration>| if never { Limit::Never } else { time.into() };
        self.read_limit.set(limit(self.read_timeout.get()));
        self.write_limit.set(limit(self.write_timeout.get()));
    }

    pub(super) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        if self.kind != Kind::Listener {
            SockRef::from(self.inner()).set_nonblocking(on)?;
        }
        self.nonblocking.set(on);
        self.set_limits();
        Ok(())
    }

    /// How long a call in this direction may wait.
    #[inline]
    pub(super) fn limit(&self, side: Side) -> Limit {
        match side {
            Side::Read => self.read_limit.get(),
            Side::Write => self.write_limit.get(),
        }
    }

    /// As [`Source::run`], with a limit of the caller's.
    pub(super) fn run<T>(
        &self,
        side: Side,
        verb: &'static &'static str,
        limit: Limit,
        attempt: impl FnMut(&S) -> io::Result<Tried<T>>,
    ) -> io::Result<T> {
        self.source.run(side, verb, limit, attempt)
    }

    /// Those who wait on that side are told by us, because the system does not tell everybody: who
    /// has filled a Unix socket and closes it for writing hears nothing from `epoll`.
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(self.inner()).shutdown(how)?;
        if how != Shutdown::Write {
            self.source.nudge(Side::Read);
        }
        if how != Shutdown::Read {
            self.source.nudge(Side::Write);
        }
        Ok(())
    }
}

/// Streams of bytes.
impl<S: AsFd> Socket<S> {
    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        self.read_by(room, move |socket| Ok(recv(socket, &mut *buf, RecvFlags::DONTWAIT)?.1))
    }

    pub(super) fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = bufs.len().min(BUFFERS);
        let bufs = &mut bufs[..count];
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.read_by(room, |socket| {
            let mut control = RecvAncillaryBuffer::default();
            Ok(recvmsg(socket, bufs, &mut control, RecvFlags::DONTWAIT)?.bytes)
        })
    }

    pub(super) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.write_by(buf.len(), move |socket| send(socket, buf, send_flags()))
    }

    pub(super) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(BUFFERS)];
        let len = bufs.iter().map(|buf| buf.len()).sum();
        self.write_by(len, |socket| {
            sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), send_flags())
        })
    }

    /// Waits until a read would not.
    pub(super) fn wait_readable(&self) -> io::Result<()> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        self.source.wait_ready(Side::Read, &"read", self.limit(Side::Read), |socket| {
            recv(socket, &mut [0], flags)?;
            Ok(())
        })
    }

    pub(super) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        self.run(Side::Read, &"read", self.limit(Side::Read), |socket| {
            // What is left says nothing about what is to come: never "cut short".
            Ok(Tried::Done(recv(socket, &mut *buf, flags)?.1))
        })
    }

    /// Receives by `receive`, into room for `room` bytes.
    fn read_by(
        &self,
        room: usize,
        mut receive: impl FnMut(&S) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let kind = self.kind;
        self.run(Side::Read, &"read", self.limit(Side::Read), move |socket| {
            let len = receive(socket)?;
            // None at all is the end of the stream, and stays so.
            let tells = kind == Kind::PlainTcp && SHORT_READS_TELL && len > 0;
            Ok(if tells { transferred(len, room) } else { Tried::Done(len) })
        })
    }

    /// Sends `len` bytes by `transmit`.
    fn write_by(
        &self,
        len: usize,
        mut transmit: impl FnMut(&S) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        self.run(Side::Write, &"write", self.limit(Side::Write), move |socket| {
            Ok(transferred(transmit(socket)?, len))
        })
    }
}

/// Datagrams: one a call, whole or cut off, so that nothing follows from a length.
impl<S: AsFd> Socket<S> {
    /// Receives one. What does not fit into `buf` is lost. The sender is `None` if it has no name.
    pub(super) fn receive(
        &self,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<(usize, Option<SocketAddrAny>)> {
        self.receive_within(self.limit(Side::Read), buf, flags)
    }

    /// As [`receive`](Socket::receive), with a limit of the caller's.
    pub(super) fn receive_within(
        &self,
        limit: Limit,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<(usize, Option<SocketAddrAny>)> {
        let may_end = self.kind == Kind::UnixDatagram && limit != Limit::Never;
        self.run(Side::Read, &"recv", limit, |socket| {
            match recvfrom(socket, &mut *buf, flags | RecvFlags::DONTWAIT) {
                Ok((_, len, sender)) => Ok(Tried::Done((len, sender))),
                // As a call that blocks, which then ends with nothing.
                Err(Errno::AGAIN) if may_end && is_read_closed(socket)? => {
                    Ok(Tried::Done((0, None)))
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Sends one to the peer it is connected to.
    pub(super) fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.run(Side::Write, &"send", self.limit(Side::Write), |socket| {
            Ok(Tried::Done(send(socket, buf, send_flags())?))
        })
    }

    /// Sends one to `addr`.
    pub(super) fn send_to(
        &self,
        buf: &[u8],
        addr: &impl SocketAddrArg,
        limit: Limit,
    ) -> io::Result<usize> {
        self.run(Side::Write, &"send", limit, |socket| {
            Ok(Tried::Done(sendto(socket, buf, send_flags(), addr)?))
        })
    }
}

/// Listeners.
impl<S: AsFd> Socket<S> {
    /// Waits for a connection, and who it is from; `None` if that one has no name.
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
        self.accept_within(self.limit(Side::Read))
    }

    /// As [`accept`](Socket::accept), with a limit of the caller's.
    pub(super) fn accept_within(
        &self,
        limit: Limit,
    ) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
        self.run(Side::Read, &"accept", limit, |_| self.accept_at_once().map(Tried::Done))
    }

    /// A connection that has come already. Nobody else runs before this returns.
    pub(super) fn accept_at_once(&self) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
        let accepted = accept(self.inner())?;
        if self.has_lingered.get() {
            linger_no_more(&SockRef::from(&accepted.0));
        }
        Ok(accepted)
    }
}

/// A socket that lingers blocks the thread that closes it, whatever its mode. (Not for no time at
/// all, which resets the connection.) True: it did.
fn linger_no_more(socket: &SockRef<'_>) -> bool {
    let lingers = matches!(socket.linger(), Ok(Some(time)) if !time.is_zero());
    if lingers {
        let _ = socket.set_linger(None); // what can be asked for can be set
    }
    lingers
}

/// Will nothing more come?
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_read_closed(socket: &impl AsFd) -> rustix::io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(asked[0].revents().contains(PollFlags::RDHUP))
}

/// Elsewhere the call itself ends with nothing.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_read_closed(_socket: &impl AsFd) -> rustix::io::Result<bool> {
    Ok(false)
}

/// By a raw system call where there is one that takes the flags along.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn accept(listener: &impl AsFd) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    rustix::net::acceptfrom_with(listener, rustix::net::SocketFlags::CLOEXEC)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn accept(listener: &impl AsFd) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (stream, peer) = rustix::net::acceptfrom(listener)?;
    rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&stream, false)?; // some systems let it inherit the listener's mode
    Ok((stream, peer))
}
