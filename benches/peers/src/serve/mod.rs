//! Echo servers, one for each peer, that do precisely the same work: read once, write back all that
//! was read, until the client has no more to say.
//!
//! All have the same listener (made here), buffers of the same size, `TCP_NODELAY`, and one thread
//! on one core, except where a thread for each connection is the point. Each is written as its
//! documentation would have it; what was chosen where there is a choice is said in its file.

mod blocking;
mod buffers;
mod epoll;
mod foreign;
mod greenloom;
mod life;
mod may;
mod smol;
mod threads;
mod tokio;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use clap::ValueEnum;
use socket2::{Domain, Socket, Type};

use crate::machine;
use crate::peer::Peer;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    peer: Peer,
    /// Where to listen, on 127.0.0.1; 0: the system picks one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The core to stay on [default: any]
    #[arg(long)]
    cpu: Option<usize>,
    /// Bytes of each connection's buffer. 0: none while it waits, if the peer can do that
    /// [default: 16384, or 0 with --mode idle]
    #[arg(long)]
    buffer: Option<usize>,
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What comes in goes back.
    Echo,
    /// What comes in is counted; at its end goes back how much it was (8 bytes, little-endian).
    Sink,
    /// Echo by handlers that need no buffer while they wait, if the peer can do that.
    Idle,
}

/// The buffer of those who say nothing else, and of those who have one only while they need it.
const BUFFER: usize = 16 * 1024;

const BACKLOG: i32 = 4096;

/// What is done for each connection.
#[derive(Clone, Copy, Debug)]
enum Duty {
    Echo {
        buffer: usize,
    },
    /// Echo without a buffer of one's own; see [`buffers`].
    LeanEcho,
    Sink {
        buffer: usize,
    },
}

impl Duty {
    /// For peers that cannot wait without a buffer.
    fn with_buffer(self) -> Duty {
        match self {
            Duty::LeanEcho => Duty::Echo { buffer: BUFFER },
            other => other,
        }
    }
}

impl Options {
    fn duty(&self) -> Duty {
        match (self.mode, self.buffer) {
            (Mode::Sink, buffer) => {
                Duty::Sink { buffer: buffer.filter(|&bytes| bytes > 0).unwrap_or(BUFFER) }
            }
            (Mode::Idle, None) | (_, Some(0)) => Duty::LeanEcho,
            (_, buffer) => Duty::Echo { buffer: buffer.unwrap_or(BUFFER) },
        }
    }
}

pub(crate) fn main(options: &Options) -> anyhow::Result<()> {
    if let Peer::Go | Peer::Gevent = options.peer {
        return Err(foreign::become_it(options));
    }
    if let Some(cpu) = options.cpu {
        machine::pin(cpu)?;
    }
    machine::raise_descriptor_limit();
    life::end_with_stdin()?;
    let listener = listen(options.port)?;
    announce(listener.local_addr()?)?;
    let duty = options.duty();
    match options.peer {
        Peer::Greenloom => greenloom::serve(listener, duty),
        Peer::Epoll => epoll::serve(listener, duty),
        Peer::Tokio => tokio::serve(listener, duty),
        Peer::May => may::serve(listener, duty),
        Peer::Smol => smol::serve(listener, duty),
        Peer::Threads => threads::serve(listener, duty),
        Peer::Go | Peer::Gevent => unreachable!("they are programs of their own"),
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The one line that whoever started us waits for.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening {address}")?;
    out.flush()
}

/// A client that went away before it was accepted is no reason to stop.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
