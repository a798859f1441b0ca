//! Our ends of a child's pipes. Each is a description of its own, so it is in non-blocking mode
//! while it is here; the child's end is another, and stays as programs expect it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::process::{self, Stdio};
use std::rc::Rc;

use rustix::buffer::spare_capacity;

use crate::io::Io;

macro_rules! end {
    ($(#[$what:meta])* $end:ident) => {
        $(#[$what])*
        pub struct $end {
            io: Rc<Io<process::$end>>,
            /// All handles know when it has become somebody else's, and is not ours to wait for.
            is_gone: Rc<Cell<bool>>,
        }

        impl TryFrom<process::$end> for $end {
            type Error = io::Error;

            /// # Errors
            ///
            /// As [`Io::new`].
            fn try_from(end: process::$end) -> io::Result<$end> {
                Ok($end { io: Rc::new(Io::new(end)?), is_gone: Rc::default() })
            }
        }

        impl TryFrom<OwnedFd> for $end {
            type Error = io::Error;

            /// # Errors
            ///
            /// As [`Io::new`].
            fn try_from(fd: OwnedFd) -> io::Result<$end> {
                $end::try_from(process::$end::from(fd))
            }
        }

        impl From<$end> for OwnedFd {
            /// In blocking mode.
            ///
            /// # Panics
            ///
            /// If a greenlet that was killed in [`Child::communicate`](super::Child::communicate)
            /// has not had its turn since, and the system has no descriptor left for a duplicate.
            fn from(end: $end) -> OwnedFd {
                match Rc::try_unwrap(end.io) {
                    Ok(io) => io.into_inner().into(),
                    Err(shared) => {
                        let fd = shared.as_fd().try_clone_to_owned();
                        let fd = fd.expect("a descriptor is left for a duplicate");
                        // The one that still holds it may have been woken before it was killed.
                        end.is_gone.set(true);
                        let _ = rustix::io::ioctl_fionbio(&fd, false);
                        fd
                    }
                }
            }
        }

        impl From<$end> for Stdio {
            /// For another child, in blocking mode.
            fn from(end: $end) -> Stdio {
                OwnedFd::from(end).into()
            }
        }

        impl IntoRawFd for $end {
            /// In blocking mode.
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
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

        impl UnwindSafe for $end {}
        impl RefUnwindSafe for $end {}

        impl fmt::Debug for $end {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end)).finish_non_exhaustive()
            }
        }
    };
}

end! {
    /// The writing end of the pipe to a child's standard input. Dropping it tells the child that
    /// there is no more. [`std::process::ChildStdin`]'s counterpart.
    ChildStdin
}

end! {
    /// The reading end of the pipe from a child's standard output.
    /// [`std::process::ChildStdout`]'s counterpart.
    ChildStdout
}

end! {
    /// The reading end of the pipe from a child's standard error.
    /// [`std::process::ChildStderr`]'s counterpart.
    ChildStderr
}

impl Write for ChildStdin {
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

impl Write for &ChildStdin {
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

macro_rules! reads {
    ($end:ident) => {
        impl Read for $end {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                (&*self.io).read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self.io).read_vectored(bufs)
            }
        }

        impl Read for &$end {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                (&*self.io).read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self.io).read_vectored(bufs)
            }
        }

        impl Pipe for $end {
            fn share(&self) -> $end {
                $end { io: Rc::clone(&self.io), is_gone: Rc::clone(&self.is_gone) }
            }

            fn read_into(&self, buffer: &RefCell<Vec<u8>>) -> io::Result<usize> {
                self.io.read_with(|pipe| {
                    if self.is_gone.get() {
                        return Ok(0); // it blocks now, and what comes is for somebody else
                    }
                    let buffer = &mut *buffer.borrow_mut();
                    buffer.reserve(AT_ONCE);
                    Ok(rustix::io::read(pipe, spare_capacity(buffer))?)
                })
            }
        }
    };
}

reads!(ChildStdout);
reads!(ChildStderr);

/// Room for so much is made before a read.
const AT_ONCE: usize = 8 * 1024;

/// Either of the two that are read from.
pub(super) trait Pipe: 'static {
    /// Another handle to the same end, for a greenlet of ours that reads it.
    fn share(&self) -> Self;

    /// Appends what there is to `buffer`, waiting for it if need be. What was read is there, even
    /// if the caller is killed: the buffer is borrowed, but not while it waits.
    fn read_into(&self, buffer: &RefCell<Vec<u8>>) -> io::Result<usize>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::greenlet::spawn;
    use crate::hub::idle;

    #[test]
    fn an_end_that_was_given_away_is_not_read_any_more() {
        let (reader, writer) = rustix::pipe::pipe().expect("descriptors are left");
        let end = ChildStdout::try_from(reader).expect("a pipe");
        let taken = Rc::new(RefCell::new(Vec::new()));
        let (share, into) = (end.share(), Rc::clone(&taken));
        let waiter = spawn(move || share.read_into(&into));
        idle().expect("nobody kills it");
        let reader = OwnedFd::from(end);
        rustix::io::write(&writer, b"theirs").expect("there is room");
        assert_eq!(waiter.get().expect("it has not panicked").expect("it was woken"), 0);
        assert!(taken.borrow().is_empty());
        let mut read = [0; 6];
        rustix::io::read(&reader, &mut read).expect("it is there");
        assert_eq!(&read, b"theirs");
    }
}
