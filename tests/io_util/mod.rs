//! What the tests of `io` share: pairs of descriptors of every kind that a shell gives to a program.

#![allow(dead_code, reason = "each test file uses its own part of this")]

mod stdio;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags, fcntl_getfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// More than any of them holds.
pub(crate) const MORE_THAN_BUFFERS: usize = 1 << 20;

/// Bytes in which a lost, doubled or exchanged one shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

pub(crate) fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// A pseudo-terminal, by lines and without echo: the side of the terminal's user, and the program's.
pub(crate) fn pty() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(&*name, flags, Mode::empty()).unwrap();
    let mut settings = tcgetattr(&slave).unwrap();
    settings.local_modes.remove(rustix::termios::LocalModes::ECHO);
    tcsetattr(&slave, OptionalActions::Now, &settings).unwrap();
    (master.into(), slave.into())
}

/// What a descriptor can be that two programs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Pipe,
    NamedPipe,
    Socket,
    Terminal,
}

/// Both ends of a connection, in blocking mode.
pub(crate) struct Ends {
    pub(crate) our_in: OwnedFd,
    pub(crate) our_out: OwnedFd,
    pub(crate) their_in: File,
    pub(crate) their_out: File,
}

impl Shape {
    pub(crate) const ALL: [Shape; 4] =
        [Shape::Pipe, Shape::NamedPipe, Shape::Socket, Shape::Terminal];

    pub(crate) fn connect(self) -> Ends {
        let (our_in, their_out) = self.one_way();
        let (our_out, their_in) = match self {
            Shape::Pipe | Shape::NamedPipe => {
                let (reader, writer) = self.one_way();
                (OwnedFd::from(writer), File::from(reader))
            }
            Shape::Socket | Shape::Terminal => {
                (our_in.try_clone().unwrap(), their_out.try_clone().unwrap())
            }
        };
        Ends { our_in, our_out, their_in, their_out }
    }

    /// Something to read from, and what others write into for that.
    fn one_way(self) -> (OwnedFd, File) {
        match self {
            Shape::Pipe => {
                let flags = rustix::pipe::PipeFlags::CLOEXEC;
                let (reader, writer) = rustix::pipe::pipe_with(flags).unwrap();
                (reader, writer.into())
            }
            Shape::NamedPipe => named_pipe(),
            Shape::Socket => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                (ours.into(), OwnedFd::from(theirs).into())
            }
            Shape::Terminal => {
                let (master, slave) = pty();
                (slave.into(), master)
            }
        }
    }

    /// More than fits, and nothing that a terminal would change.
    pub(crate) fn content(self) -> Vec<u8> {
        // To a shared terminal is written a byte at a time.
        let len = if self == Shape::Terminal { 100_000 } else { MORE_THAN_BUFFERS };
        (0..len).map(|n| b'a' + (n % 23) as u8).collect()
    }
}

fn named_pipe() -> (OwnedFd, File) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    // For both directions first, so that neither of the others waits for its peer.
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(both);
    (reader.into(), writer)
}

/// Waits for a foreign thread without stopping the greenlets of this one.
pub(crate) fn finish<T>(foreign: JoinHandle<T>) -> T {
    while !foreign.is_finished() {
        greenloom::sleep(std::time::Duration::from_millis(1));
    }
    foreign.join().expect("the foreign thread ended well")
}

/// Reads that much, and no more.
pub(crate) fn read_exactly(mut from: impl Read, len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    from.read_exact(&mut all).unwrap();
    all
}

/// Takes a byte if there is one: 1, else 0.
#[cfg(target_os = "linux")]
pub(crate) fn read_nowait(fd: impl AsFd) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut byte = [0];
    let bufs = &mut [std::io::IoSliceMut::new(&mut byte)];
    preadv2(fd, bufs, u64::MAX, ReadWriteFlags::NOWAIT).unwrap_or(0)
}
