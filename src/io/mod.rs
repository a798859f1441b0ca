//! Input and output, name for name `std::io`: where std blocks the thread, these park the greenlet.
//!
//! | | |
//! |---|---|
//! | [`Io`] | any descriptor that can be polled: pipes, terminals, eventfd, timerfd, inotify, serial lines |
//! | [`pipe`] | a pipe of the system's, between two greenlets or to another process |
//! | [`stdin`], [`stdout`], [`stderr`] | what the process was started with, whatever it is |
//!
//! (Files are in [`fs`](crate::fs), sockets in [`net`](crate::net).)
//!
//! What of `std::io` never waits by itself (the traits, the buffers, the errors) is re-exported, so
//! `use std::io` can be replaced by `use greenloom::io`.

// This room waits by `source`, like every other that has descriptors; what is its own is how to make
// calls that do not block on descriptors that must stay in blocking mode.

mod calls;
mod pipe;
mod pollable;
mod stdin;
mod stdout;

#[doc(no_inline)]
pub use std::io::{
    BufRead, BufReader, BufWriter, Bytes, Chain, Cursor, Empty, Error, ErrorKind, IntoInnerError,
    IoSlice, IoSliceMut, IsTerminal, LineWriter, Lines, Read, Repeat, Result, Seek, SeekFrom, Sink,
    Split, Take, Write, WriterPanicked, copy, empty, prelude, read_to_string, repeat, sink,
};

pub use pipe::{PipeReader, PipeWriter, pipe};
pub use pollable::Io;
pub use stdin::{Stdin, StdinLock, stdin};
pub use stdout::{Stderr, StderrLock, Stdout, StdoutLock, stderr, stdout};
