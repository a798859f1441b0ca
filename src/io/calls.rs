//! Calls that do not block, also on descriptors in blocking mode.
//!
//! The mode belongs to the *open file description*, which duplicates, children and quite other
//! processes may share: standard input is the shell's, too. So it is set only where the description
//! is ours alone. Elsewhere each call says for itself that it must not wait, where the kernel knows
//! how; where it does not, the descriptor is asked first, and what is written is cut to what fits
//! then.
//!
//! | shared | read | write |
//! |---|---|---|
//! | socket | `MSG_DONTWAIT` | `MSG_DONTWAIT` |
//! | pipe, Linux 6.4 or later | `RWF_NOWAIT` | `RWF_NOWAIT` |
//! | named or older pipe | `poll` first | `poll` first, `PIPE_BUF` at most |
//! | terminal | `poll` first | `poll` first, a byte at a time |
//! | anything else | `RWF_NOWAIT`, or `poll` first | the same, `PIPE_BUF` at most |
//!
//! A terminal says that it can be written to when it has room for anything at all, and turns a line
//! feed into two bytes; it was measured (Linux 6.18) to block in the middle of 100 bytes. Opening it
//! anew by `/proc/self/fd` would give a description that is ours, but not where the terminal
//! belongs to another user (`su`), so there would have to be another way in any case.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, send};

use crate::hub::Side;
use crate::source::send_flags;

/// What a descriptor is, as far as waiting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Socket,
    Pipe,
    Terminal,
    /// It is always ready, and its calls take as long as they take.
    File,
    Other,
}

impl Kind {
    pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Kind> {
        Ok(match FileType::from_raw_mode(fstat(fd)?.st_mode) {
            FileType::Socket => Kind::Socket,
            FileType::Fifo => Kind::Pipe,
            FileType::RegularFile | FileType::Directory | FileType::BlockDevice => Kind::File,
            FileType::CharacterDevice if fd.is_terminal() => Kind::Terminal,
            _ => Kind::Other,
        })
    }
}

/// How to read from a descriptor, and to write to it, without waiting.
#[derive(Debug)]
pub(super) struct Calls {
    kind: Kind,
    /// The description is ours, and in non-blocking mode: calls are simply made.
    is_ours: bool,
    /// May the kernel know how to read, and to write, without waiting? Until it says no.
    reads_nowait: Cell<bool>,
    writes_nowait: Cell<bool>,
}

impl Calls {
    pub(super) fn new(kind: Kind, is_ours: bool) -> Calls {
        let nowait = || Cell::new(!is_ours && kind != Kind::Terminal);
        Calls { kind, is_ours, reads_nowait: nowait(), writes_nowait: nowait() }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }

    pub(super) fn read(&self, fd: BorrowedFd<'_>, buf: &mut [u8]) -> rustix::io::Result<usize> {
        if self.is_ours {
            return rustix::io::read(fd, buf);
        }
        if self.kind == Kind::Socket {
            return Ok(recv(fd, buf, RecvFlags::DONTWAIT)?.1);
        }
        if self.reads_nowait.get() {
            match read_nowait(fd, &mut *buf) {
                Err(error) if is_unknown(error) => self.reads_nowait.set(false),
                result => return result,
            }
        }
        ready(fd, Side::Read)?;
        rustix::io::read(fd, buf)
    }

    pub(super) fn write(&self, fd: BorrowedFd<'_>, buf: &[u8]) -> rustix::io::Result<usize> {
        if self.is_ours {
            return rustix::io::write(fd, buf);
        }
        if self.kind == Kind::Socket {
            return send(fd, buf, send_flags());
        }
        if self.writes_nowait.get() {
            match write_nowait(fd, buf) {
                Err(error) if is_unknown(error) => self.writes_nowait.set(false),
                result => return result,
            }
        }
        ready(fd, Side::Write)?;
        let room = if self.kind == Kind::Terminal { 1 } else { PIPE_BUF };
        rustix::io::write(fd, &buf[..buf.len().min(room)])
    }
}

/// Is the descriptor ready on that side, or failed, or hung up? Else "would block".
pub(super) fn ready(fd: BorrowedFd<'_>, side: Side) -> rustix::io::Result<()> {
    let wanted = match side {
        Side::Read => PollFlags::IN,
        Side::Write => PollFlags::OUT,
    };
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::from_borrowed_fd(fd, wanted)], Some(&now))? {
        0 => Err(Errno::WOULDBLOCK),
        _ => Ok(()),
    }
}

/// Does the kernel not know how to do that without waiting?
fn is_unknown(error: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS].contains(&error)
}

/// The offset that stands for "where the descriptor is", and for those that are nowhere.
#[cfg(target_os = "linux")]
const HERE: u64 = u64::MAX;

#[cfg(target_os = "linux")]
fn read_nowait(fd: impl AsFd, buf: &mut [u8]) -> rustix::io::Result<usize> {
    use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};
    preadv2(fd, &mut [IoSliceMut::new(buf)], HERE, ReadWriteFlags::NOWAIT)
}

#[cfg(target_os = "linux")]
fn write_nowait(fd: impl AsFd, buf: &[u8]) -> rustix::io::Result<usize> {
    use rustix::io::{IoSlice, ReadWriteFlags, pwritev2};
    pwritev2(fd, &[IoSlice::new(buf)], HERE, ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
fn read_nowait(_: impl AsFd, _: &mut [u8]) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

#[cfg(not(target_os = "linux"))]
fn write_nowait(_: impl AsFd, _: &[u8]) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

/// What a pipe takes for certain that says it can be written to.
const PIPE_BUF: usize = rustix::pipe::PIPE_BUF;
