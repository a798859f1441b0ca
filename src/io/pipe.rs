//! Pipes of the system.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use super::pollable::Io;

/// A pipe: what is written into the one end comes out of the other, in order.
///
/// It holds so many bytes (64 KiB on Linux); whoever writes more waits until somebody has read. When
/// every handle to the writing end is dropped, reads find the end; when every handle to the reading
/// end is, writes fail with [`BrokenPipe`](io::ErrorKind::BrokenPipe). Either end can be given to
/// another process, and then is blocking, as processes expect. `std::io::pipe`, which std has since
/// Rust 1.87.
///
/// Within a thread, a [`queue`](crate::queue) passes things on faster, and any type of them.
///
/// # Errors
///
/// As the system says, when no descriptor is left.
///
/// # Examples
///
/// ```
/// use greenloom::io::{self, Read, Write};
///
/// let (mut reader, mut writer) = io::pipe()?;
/// let sender = greenloom::spawn(move || writer.write_all(b"through the pipe"));
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "through the pipe");
/// sender.get().unwrap()?;
/// # Ok::<(), io::Error>(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = new_pipe()?;
    Ok((PipeReader::try_from(reader)?, PipeWriter::try_from(writer)?))
}

/// Not to be inherited by children that are started meanwhile.
#[cfg(not(target_vendor = "apple"))]
fn new_pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}

#[cfg(target_vendor = "apple")]
fn new_pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    rustix::io::ioctl_fioclex(&reader)?;
    rustix::io::ioctl_fioclex(&writer)?;
    Ok((reader, writer))
}

/// The end of a [`pipe`] that is read from.
#[derive(Clone, Debug)]
pub struct PipeReader {
    io: Rc<Io<OwnedFd>>,
}

/// The end of a [`pipe`] that is written to.
#[derive(Clone, Debug)]
pub struct PipeWriter {
    io: Rc<Io<OwnedFd>>,
}

macro_rules! end {
    ($end:ident, $set_timeout:ident, $timeout:ident) => {
        impl $end {
            /// Another handle to the same end, with the same time-out.
            ///
            /// # Errors
            ///
            /// None; it returns a `Result` as std's does.
            pub fn try_clone(&self) -> io::Result<$end> {
                Ok(self.clone())
            }

            /// Lets calls fail with `TimedOut` after so long. `None`: they wait for ever.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for a limit of zero.
            pub fn set_timeout(&self, d: Option<Duration>) -> io::Result<()> {
                self.io.$set_timeout(d)
            }

            /// The limit for calls.
            #[must_use]
            pub fn timeout(&self) -> Option<Duration> {
                self.io.$timeout()
            }
        }

        impl TryFrom<OwnedFd> for $end {
            type Error = io::Error;

            /// As [`Io::new`]: the description must be ours alone.
            fn try_from(fd: OwnedFd) -> io::Result<$end> {
                Ok($end { io: Rc::new(Io::new(fd)?) })
            }
        }

        impl TryFrom<$end> for OwnedFd {
            type Error = io::Error;

            /// In blocking mode. If there are clones, they go on with this descriptor, and a
            /// duplicate is returned; the two share their mode, which then has to stay non-blocking
            /// for the clones' sake.
            fn try_from(end: $end) -> io::Result<OwnedFd> {
                match Rc::try_unwrap(end.io) {
                    Ok(io) => Ok(io.into_inner()),
                    Err(shared) => shared.get_ref().try_clone(),
                }
            }
        }

        impl From<$end> for Stdio {
            /// For a child, in blocking mode (but see the conversion to [`OwnedFd`]).
            ///
            /// # Panics
            ///
            /// If there are clones, and the system has no descriptor left.
            fn from(end: $end) -> Stdio {
                OwnedFd::try_from(end).expect("a descriptor is left for the child").into()
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.io.as_raw_fd()
            }
        }
    };
}

end!(PipeReader, set_read_timeout, read_timeout);
end!(PipeWriter, set_write_timeout, write_timeout);

impl Read for &PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.io).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self.io).read_vectored(bufs)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.io).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self.io).read_vectored(bufs)
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.io).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self.io).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.io).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self.io).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
