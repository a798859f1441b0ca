//! Standard output, and that for errors.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use super::calls::{Calls, Kind};
use super::pollable::Io;
use super::stdin::nothing_if_closed;
use crate::threadpool::{Gate, Pass, blocking};

/// At most so many bytes are written by one job on the pool, which has a copy of them.
const PIECE: usize = 256 << 10;

/// One of the two, of the whole process.
struct Stream {
    descriptor: fn() -> BorrowedFd<'static>,
    gate: LazyLock<Arc<Gate<()>>>,
}

static OUT: Stream = Stream {
    descriptor: || {
        static STDOUT: LazyLock<io::Stdout> = LazyLock::new(io::stdout);
        STDOUT.as_fd()
    },
    gate: LazyLock::new(|| Arc::new(Gate::new(&"turn at stdout", ()))),
};

static ERR: Stream = Stream {
    descriptor: || {
        static STDERR: LazyLock<io::Stderr> = LazyLock::new(io::stderr);
        STDERR.as_fd()
    },
    gate: LazyLock::new(|| Arc::new(Gate::new(&"turn at stderr", ()))),
};

/// A lock of one of the two.
struct Turn {
    stream: &'static Stream,
    /// `None` while a job has it, which may have been abandoned; and if it could not be waited for.
    pass: Option<Pass<()>>,
    /// The greenlet has it already, and this is a lock inside a lock.
    is_inner: bool,
    _local: PhantomData<Rc<()>>,
}

impl Turn {
    /// Waits for it. If the caller unwinds and it cannot be had, each write will say so.
    #[track_caller]
    fn of(stream: &'static Stream) -> Turn {
        let is_inner = stream.gate.is_mine();
        let pass = if is_inner { None } else { stream.gate.enter().ok() };
        Turn { stream, pass, is_inner, _local: PhantomData }
    }

    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.pass.is_none() && !self.is_inner {
            self.pass = Some(self.stream.gate.enter()?);
        }
        let fd = (self.stream.descriptor)();
        match Kind::of(fd) {
            // A terminal says that there is room, and may block all the same.
            Ok(Kind::File | Kind::Terminal) => self.write_on_the_pool(buf),
            Ok(kind) => Io::with(fd, Calls::new(kind, false), false).write(buf),
            Err(error) => nothing_if_closed(error, buf.len()),
        }
    }

    /// The lock goes along: if we are killed meanwhile, nobody else writes before this is written.
    #[track_caller]
    fn write_on_the_pool(&mut self, buf: &[u8]) -> io::Result<usize> {
        let piece = buf[..buf.len().min(PIECE)].to_vec();
        let fd = (self.stream.descriptor)();
        let write = move || loop {
            match rustix::io::write(fd, &piece) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result,
            }
        };
        let Some(pass) = self.pass.take() else { return Ok(blocking(write)??) };
        let (pass, result) = pass.lend(move |()| write())?;
        self.pass = Some(pass);
        Ok(result?)
    }
}

macro_rules! stream {
    (
        $(#[$docs:meta])* $function:ident, $handle:ident, $lock:ident, $stream:ident
    ) => {
        $(#[$docs])*
        #[must_use]
        pub fn $function() -> $handle {
            $handle(())
        }

        #[doc = concat!("A handle; see [`", stringify!($function), "`].")]
        #[derive(Debug)]
        pub struct $handle(());

        #[doc = concat!(
            "For one greenlet alone: from [`", stringify!($handle), "::lock`]."
        )]
        pub struct $lock<'a> {
            turn: Turn,
            _lifetime: PhantomData<&'a ()>,
        }

        impl $handle {
            /// Waits until nobody else writes, and returns what may be written to until it is
            /// dropped. The greenlet that has it may lock it again.
            #[track_caller]
            #[must_use = "it is unlocked when the lock is dropped"]
            pub fn lock(&self) -> $lock<'static> {
                $lock { turn: Turn::of(&$stream), _lifetime: PhantomData }
            }

            /// Is it a terminal?
            #[must_use]
            pub fn is_terminal(&self) -> bool {
                self.as_fd().is_terminal()
            }
        }

        impl Write for $lock<'_> {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.turn.write(buf)
            }

            /// Nothing is kept back: what was written is with the system.
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }

            #[track_caller]
            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                self.write_all(fmt::format(text).as_bytes())
            }
        }

        impl Write for &$handle {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.lock().write(buf)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }

            #[track_caller]
            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                self.lock().write_all(buf)
            }

            #[track_caller]
            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                // Before it is locked: what is shown may write something itself.
                let text = fmt::format(text);
                self.lock().write_all(text.as_bytes())
            }
        }

        impl Write for $handle {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (&*self).write(buf)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                (&*self).write_all(buf)
            }

            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                (&*self).write_fmt(text)
            }
        }

        impl AsFd for $handle {
            fn as_fd(&self) -> BorrowedFd<'_> {
                ($stream.descriptor)()
            }
        }

        impl AsRawFd for $handle {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl AsFd for $lock<'_> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                ($stream.descriptor)()
            }
        }

        impl AsRawFd for $lock<'_> {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }
    };
}

stream! {
    /// The standard output of the process: [`std::io::stdout`], except that waiting parks the
    /// greenlet.
    ///
    /// It may be a terminal, a pipe, a socket or a file, and is never set to non-blocking mode: the
    /// shell, and whoever else has it, would find it so. To terminals and files is written on the
    /// [thread pool](crate::threadpool).
    ///
    /// There is no buffer, so nothing is left in one when the process ends. (What std's `print!` has
    /// left in its own, flush first.) Each `write_all`, `write!` and `writeln!` is one piece: it is
    /// put together first, and nobody else of this process who writes here comes in between,
    /// neither greenlet nor thread, even if it has to wait in the middle for somebody to read. For a
    /// piece of several calls, [`lock`](Stdout::lock) it; for many small ones, put a
    /// [`BufWriter`](io::BufWriter) around the lock.
    ///
    /// When a greenlet is killed in the middle of a piece, what has been written stays written.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::io::{self, Write};
    ///
    /// greenloom::scope(|s| {
    ///     for n in 0..3 {
    ///         s.spawn(move || writeln!(io::stdout(), "line {n}"));
    ///     }
    /// });
    /// ```
    stdout, Stdout, StdoutLock, OUT
}

stream! {
    /// The standard error of the process: [`std::io::stderr`], except that waiting parks the
    /// greenlet. In all else it is like [`stdout`].
    stderr, Stderr, StderrLock, ERR
}
