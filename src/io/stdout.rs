//! Standard output, and that for errors.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};
use std::thread::LocalKey;

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
    held: &'static LocalKey<RefCell<Weak<Held>>>,
}

/// Where a greenlet keeps the pass for all its locks of a stream, so that a lock inside a lock can
/// send it along with a job, too. Empty while a job has it, which may have been abandoned; and if it
/// could not be waited for.
type Held = Cell<Option<Pass<()>>>;

thread_local! {
    /// Where the pass was put last on this thread.
    static HELD_OUT: RefCell<Weak<Held>> = const { RefCell::new(Weak::new()) };
    static HELD_ERR: RefCell<Weak<Held>> = const { RefCell::new(Weak::new()) };
}

static OUT: Stream = Stream {
    descriptor: || {
        static STDOUT: LazyLock<io::Stdout> = LazyLock::new(io::stdout);
        STDOUT.as_fd()
    },
    gate: LazyLock::new(|| Arc::new(Gate::new(&"turn at stdout", ()))),
    held: &HELD_OUT,
};

static ERR: Stream = Stream {
    descriptor: || {
        static STDERR: LazyLock<io::Stderr> = LazyLock::new(io::stderr);
        STDERR.as_fd()
    },
    gate: LazyLock::new(|| Arc::new(Gate::new(&"turn at stderr", ()))),
    held: &HELD_ERR,
};

/// A lock of one of the two.
struct Turn {
    stream: &'static Stream,
    held: Rc<Held>,
}

impl UnwindSafe for Turn {}
impl RefUnwindSafe for Turn {}

impl Turn {
    /// Waits for it. If the caller unwinds and it cannot be had, each write will say so.
    #[track_caller]
    fn of(stream: &'static Stream) -> Turn {
        let mut turn = Turn { stream, held: Rc::default() };
        let _ = turn.enter();
        turn
    }

    /// Waits for it, unless the greenlet has it: by this lock, or by another that it is inside of.
    #[track_caller]
    fn enter(&mut self) -> io::Result<()> {
        if self.stream.gate.is_mine() {
            let held = self.stream.held.try_with(|held| held.borrow().upgrade());
            if let Ok(Some(held)) = held {
                self.held = held;
            }
            return Ok(());
        }
        self.held.set(Some(self.stream.gate.enter()?));
        let here = Rc::downgrade(&self.held);
        let before = self.stream.held.try_with(|held| held.replace(here));
        drop(before);
        Ok(())
    }

    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.enter()?;
        let fd = (self.stream.descriptor)();
        match Kind::of(fd) {
            // A terminal says that there is room, and may block all the same.
            Ok(Kind::File | Kind::Terminal) => self.write_on_the_pool(buf),
            Ok(kind) => Io::with(fd, Calls::new(kind, false), false).write(buf),
            Err(error) => nothing_if_closed(error, buf.len()),
        }
    }

    /// The pass goes along: if we are killed meanwhile, nobody else writes before this is written.
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
        // It is elsewhere if this thread is ending, and its locals are gone.
        let Some(pass) = self.held.take() else { return Ok(blocking(write)??) };
        let (pass, result) = pass.lend(move |()| write())?;
        self.held.set(Some(pass));
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
