//! The limit: a loop over epoll and nothing else. A server that does only this can hardly do it
//! with less.
//!
//! Edge-triggered, and registered once for both directions, so that an echo is one read, one write,
//! and its share of a wait; a read that fills less than the buffer has emptied the socket, and the
//! next event comes with the next bytes. One buffer serves all; only what a client does not take
//! is copied.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::{BUFFER, Duty, is_passing};

const BATCH: usize = 1024;

/// Reads of one connection before it is the others' turn. Without that, one with a fast client
/// whose messages fill the buffer would be served alone.
const TURN: usize = 64;

const BOTH: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

struct Connection {
    socket: OwnedFd,
    /// What the client has not taken yet. Nothing is read before that is gone.
    rest: Vec<u8>,
    /// Bytes received, of a sink.
    total: u64,
}

/// What became of a connection for now.
enum Next {
    /// For an event.
    Wait,
    /// Behind all others that are ready.
    Queue,
    Close,
}

pub(super) fn serve(listener: TcpListener, duty: Duty) -> anyhow::Result<()> {
    let (echoes, size) = match duty {
        Duty::Echo { buffer } => (true, buffer),
        Duty::LeanEcho => (true, BUFFER),
        Duty::Sink { buffer } => (false, buffer),
    };
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let door = listener.as_raw_fd() as u64;
    epoll::add(&epoll, &listener, EventData::new_u64(door), EventFlags::IN)?;
    // By descriptor: the kernel hands out the lowest numbers.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; size];
    let mut events = Vec::with_capacity(BATCH);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let number = event.data.u64();
            if number == door {
                accept_all(&listener, &epoll, &mut connections)?;
                continue;
            }
            let slot = &mut connections[number as usize];
            let Some(connection) = slot else { continue };
            let next = if echoes {
                connection.echo(event.flags, &mut buffer)
            } else {
                connection.sink(&mut buffer)
            };
            match next {
                Ok(Next::Wait) => {}
                // The kernel looks again, and tells what it finds as if it were new.
                Ok(Next::Queue) => epoll::modify(&epoll, &connection.socket, event.data, BOTH)?,
                Ok(Next::Close) | Err(_) => *slot = None, // which takes it out of epoll, too
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    epoll: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) if is_passing(&error.into()) => continue,
            Err(error) => return Err(error.into()),
        };
        set_tcp_nodelay(&socket, true)?;
        let number = socket.as_raw_fd() as usize;
        epoll::add(epoll, &socket, EventData::new_u64(number as u64), BOTH)?;
        if connections.len() <= number {
            connections.resize_with(number + 1, || None);
        }
        connections[number] = Some(Connection { socket, rest: Vec::new(), total: 0 });
    }
}

impl Connection {
    #[inline]
    fn echo(&mut self, flags: EventFlags, buffer: &mut [u8]) -> Result<Next, Errno> {
        if !self.rest.is_empty() && !self.send_rest()? {
            return Ok(Next::Wait);
        }
        // Of the end there is no further event: it must be read to.
        let ends = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        for _ in 0..TURN {
            let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Next::Close),
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                Err(error) => return Err(error),
            };
            let sent = match send(&self.socket, &buffer[..received], SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => 0,
                Err(error) => return Err(error),
            };
            if sent < received {
                self.rest.extend_from_slice(&buffer[sent..received]);
                return Ok(Next::Wait); // and the event that lets it go on goes on reading
            }
            if received < buffer.len() && !ends {
                return Ok(Next::Wait);
            }
        }
        Ok(Next::Queue)
    }

    /// Whether all of it went.
    #[cold]
    fn send_rest(&mut self) -> Result<bool, Errno> {
        match send(&self.socket, &self.rest, SendFlags::NOSIGNAL) {
            Ok(sent) => drop(self.rest.drain(..sent)),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
        Ok(self.rest.is_empty())
    }

    fn sink(&mut self, buffer: &mut [u8]) -> Result<Next, Errno> {
        for _ in 0..TURN {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => {
                    // Eight bytes into a buffer where nothing is: they fit.
                    send(&self.socket, &self.total.to_le_bytes(), SendFlags::NOSIGNAL)?;
                    return Ok(Next::Close);
                }
                Ok((received, _)) => self.total += received as u64,
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Queue)
    }
}
