//! `Io`: any descriptor that can be polled.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::calls::{Calls, Kind, ready};
use crate::hub::Side;
use crate::source::{Source, Tried};
use crate::wait::Limit;

/// A descriptor whose calls park the greenlet instead of blocking the thread.
///
/// For whatever can be polled: pipes, terminals and pseudo-terminals, `eventfd`, `timerfd`,
/// `inotify`, serial lines, sockets of families that [`net`](crate::net) does not know. `S` is
/// whoever owns the descriptor (an [`OwnedFd`](std::os::fd::OwnedFd), a [`File`](std::fs::File), a
/// [`ChildStdin`](std::process::ChildStdin)); reads and writes are system calls on the descriptor
/// and nothing of `S`'s own.
///
/// It may be read by one greenlet and written by another at the same time, through `&io` (put it into
/// an [`Rc`]); several in one direction are served first come, first served. A greenlet that is killed
/// or runs out of time while it waits has taken nothing. When the other end is closed, reads find the
/// end and writes fail with [`BrokenPipe`](io::ErrorKind::BrokenPipe). gevent's `FileObjectPosix`.
///
/// # Ours, or shared
///
/// Whether a descriptor blocks is a property of what was opened, which duplicates of the descriptor
/// and other processes may share. [`Io::new`] sets it, so the thing must be ours alone.
/// [`Io::shared`] never does, and costs some calls more.
///
/// # Examples
///
/// A terminal, as a program that runs others in it would use it:
///
/// ```no_run
/// use greenloom::io::{Io, Read, Write};
/// use std::fs::File;
///
/// let terminal = Io::new(File::options().read(true).write(true).open("/dev/ttyUSB0")?)?;
/// (&terminal).write_all(b"AT\r")?;
/// let mut answer = [0; 64];
/// let len = (&terminal).read(&mut answer)?; // the others run meanwhile
/// # let _ = len;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It is local to its thread:
///
/// ```compile_fail,E0277
/// let io = greenloom::io::Io::new(std::os::unix::net::UnixStream::pair().unwrap().0).unwrap();
/// std::thread::spawn(move || io.wait_readable()); // cannot be sent between threads
/// ```
pub struct Io<S: AsFd> {
    source: Source<S>,
    calls: Calls,
    /// Was it in blocking mode before it was ours?
    was_blocking: bool,
    read_timeout: Cell<Option<Duration>>,
    write_timeout: Cell<Option<Duration>>,
    /// The hub that watches it is this thread's.
    _local: PhantomData<Rc<()>>,
}

impl<S: AsFd> Io<S> {
    /// Takes over a descriptor whose open file description is ours alone, and sets it to
    /// non-blocking mode (`O_NONBLOCK`).
    ///
    /// Nobody else may use it: a duplicate of the descriptor, or another process that inherited it,
    /// would find its calls failing with `WouldBlock`, and could set the mode back and block us.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a file, a directory or a disk, which cannot be waited for: those are the
    /// business of [`fs`](crate::fs). Else as the system says.
    pub fn new(inner: S) -> io::Result<Io<S>> {
        let kind = pollable(inner.as_fd())?;
        let flags = fcntl_getfl(&inner)?;
        let was_blocking = !flags.contains(OFlags::NONBLOCK);
        if was_blocking {
            fcntl_setfl(&inner, flags | OFlags::NONBLOCK)?;
        }
        Ok(Io::with(inner, Calls::new(kind, true), was_blocking))
    }

    /// Takes a descriptor that others may use as well, and never touches its mode: what was
    /// inherited from the parent process, for instance.
    ///
    /// Its calls do not block, in whatever mode it is, where the kernel has calls that say so
    /// themselves: on sockets, and on Linux 6.4 or later on pipes (`RWF_NOWAIT`). Elsewhere the
    /// descriptor is asked whether it is ready, and then the call is made. What can go wrong then:
    ///
    /// - Somebody else takes the data between the two calls. Then a read blocks the thread until there
    ///   is more. Only one process at a time should read from a terminal or a named pipe.
    /// - Somebody else fills a named pipe between the two calls. Then a write blocks the thread until
    ///   there is room. Alone, it does not: no more is written at once than fits when there is room at
    ///   all, which is 4 KiB on Linux, and a single byte for a terminal (for which
    ///   [`stdout`](std::io::stdout), or opening it anew for [`Io::new`], are better ways).
    /// - Adding to an `eventfd` more than its count has room for.
    ///
    /// # Errors
    ///
    /// As [`Io::new`].
    pub fn shared(inner: S) -> io::Result<Io<S>> {
        let kind = pollable(inner.as_fd())?;
        Ok(Io::with(inner, Calls::new(kind, false), false))
    }

    pub(super) fn with(inner: S, calls: Calls, was_blocking: bool) -> Io<S> {
        Io {
            source: Source::new(inner),
            calls,
            was_blocking,
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
            _local: PhantomData,
        }
    }

    /// Whoever owns the descriptor.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        self.source.inner()
    }

    /// Whoever owns the descriptor, which is in the mode again in which it came.
    #[must_use]
    pub fn into_inner(self) -> S {
        let was_blocking = self.was_blocking;
        let inner = self.source.into_inner();
        if was_blocking {
            // The description is open, and the two calls have worked on it before.
            if let Ok(flags) = fcntl_getfl(&inner) {
                let _ = fcntl_setfl(&inner, flags - OFlags::NONBLOCK);
            }
        }
        inner
    }

    /// Lets reads fail with `TimedOut` after so long. `None`: they wait for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a limit of zero.
    pub fn set_read_timeout(&self, d: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set(d.map(not_zero).transpose()?);
        Ok(())
    }

    /// Lets writes fail with `TimedOut` after so long. `None`: they wait for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a limit of zero.
    pub fn set_write_timeout(&self, d: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set(d.map(not_zero).transpose()?);
        Ok(())
    }

    /// The limit for reads.
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout.get()
    }

    /// The limit for writes.
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout.get()
    }

    /// Calls `f` until it does not say `WouldBlock`, and waits in between until there is something to
    /// read: for calls that are not `read`, such as taking an event out of a library's descriptor.
    ///
    /// `f` must neither block nor wait: what becomes ready while it waits would be forgotten when it
    /// then says `WouldBlock`. For a descriptor that is [`shared`](Io::shared), it is called only when
    /// there is something to read.
    ///
    /// # Errors
    ///
    /// What `f` says; `TimedOut` after the limit for reads.
    #[track_caller]
    pub fn read_with<T>(&self, f: impl FnMut(&S) -> io::Result<T>) -> io::Result<T> {
        self.with_side(Side::Read, &"read", f)
    }

    /// As [`read_with`](Io::read_with), for writing.
    ///
    /// # Errors
    ///
    /// What `f` says; `TimedOut` after the limit for writes.
    #[track_caller]
    pub fn write_with<T>(&self, f: impl FnMut(&S) -> io::Result<T>) -> io::Result<T> {
        self.with_side(Side::Write, &"write", f)
    }

    #[track_caller]
    fn with_side<T>(
        &self,
        side: Side,
        verb: &'static &'static str,
        mut f: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        self.run(side, verb, |inner| {
            if !self.calls.is_ours() {
                ready(inner.as_fd(), side)?;
            }
            f(inner)
        })
    }

    /// Waits until a read would not have to wait: there is something, or the end, or an error.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the limit for reads; else as the system says.
    #[track_caller]
    pub fn wait_readable(&self) -> io::Result<()> {
        self.run(Side::Read, &"read", |inner| Ok(ready(inner.as_fd(), Side::Read)?))
    }

    /// Waits until a write would not have to wait: there is some room, or an error.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the limit for writes; else as the system says.
    #[track_caller]
    pub fn wait_writable(&self) -> io::Result<()> {
        self.run(Side::Write, &"write", |inner| Ok(ready(inner.as_fd(), Side::Write)?))
    }

    #[track_caller]
    fn run<T>(
        &self,
        side: Side,
        verb: &'static &'static str,
        mut attempt: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        let timeout = match side {
            Side::Read => &self.read_timeout,
            Side::Write => &self.write_timeout,
        };
        let limit = timeout.get().map_or(Limit::Forever, Limit::Within);
        // Never "cut short": a pipe of packets, or a terminal, stops where it likes.
        self.source.run(side, verb, limit, |inner| attempt(inner).map(Tried::Done))
    }
}

/// What it is, if one can wait for it.
fn pollable(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    match Kind::of(fd)? {
        Kind::File => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a file is always ready and cannot be waited for: use `greenloom::fs`, which reads and \
             writes on a thread pool",
        )),
        kind => Ok(kind),
    }
}

/// The limits of std: nothing can be done in no time.
pub(super) fn not_zero(d: Duration) -> io::Result<Duration> {
    if d.is_zero() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
    }
    Ok(d)
}

impl<S: AsFd> Read for &Io<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.run(Side::Read, &"read", |inner| Ok(self.calls.read(inner.as_fd(), buf)?))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.calls.is_ours() {
            return self.run(Side::Read, &"read", |inner| Ok(rustix::io::readv(inner, bufs)?));
        }
        match bufs.iter_mut().find(|buf| !buf.is_empty()) {
            Some(buf) => self.read(buf),
            None => Ok(0),
        }
    }
}

impl<S: AsFd> Write for &Io<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.run(Side::Write, &"write", |inner| Ok(self.calls.write(inner.as_fd(), buf)?))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.calls.is_ours() {
            return self.run(Side::Write, &"write", |inner| Ok(rustix::io::writev(inner, bufs)?));
        }
        match bufs.iter().find(|buf| !buf.is_empty()) {
            Some(buf) => self.write(buf),
            None => Ok(0),
        }
    }

    /// Nothing is kept back: what was written is with the system.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: AsFd> Read for Io<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl<S: AsFd> Write for Io<S> {
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

impl<S: AsFd> AsFd for Io<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<S: AsFd> AsRawFd for Io<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<S: AsFd + fmt::Debug> fmt::Debug for Io<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Io").field(self.get_ref()).finish()
    }
}

// What a panic leaves behind is a descriptor, and not half of one.
impl<S: AsFd + UnwindSafe> UnwindSafe for Io<S> {}
impl<S: AsFd + RefUnwindSafe> RefUnwindSafe for Io<S> {}
