//! Connections of the client's.
//!
//! They are closed by a reset: else each would keep its port for a minute after its end, and a
//! run that opens thousands a second would soon find none free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// Connections with one address of ours: a port each, of the 28,000 that are handed out.
const PER_ADDRESS: usize = 20_000;

/// The connection of that number. Whether it blocks does not matter: see [`receive`] and
/// [`send_some`].
pub(super) fn connect(to: SocketAddr, number: usize) -> anyhow::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)
        .with_context(|| format!("connection {number}"))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    let further = (number / PER_ADDRESS) as u32;
    if further > 0 && to.ip().is_loopback() && to.is_ipv4() {
        let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + further);
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
    }
    socket.connect(&to.into()).with_context(|| format!("connection {number} to {to}"))?;
    Ok(socket.into())
}

/// `None`: there is nothing now.
#[inline]
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((count, _)) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How much of it there was room for.
#[inline]
pub(super) fn send_some(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(count) => Ok(count),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Who has something to do. Edge-triggered, both directions.
pub(super) struct Events {
    epoll: OwnedFd,
    batch: Vec<Event>,
}

const BATCH: usize = 1024;

impl Events {
    pub(super) fn new() -> anyhow::Result<Events> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Events { epoll, batch: Vec::with_capacity(BATCH) })
    }

    pub(super) fn watch(&self, socket: &OwnedFd, number: usize) -> io::Result<()> {
        let both = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(number as u64), both)?)
    }

    /// At least one, or the server has fallen silent.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        let patience = Timespec::try_from(PATIENCE)?;
        self.batch.clear();
        loop {
            let room = rustix::buffer::spare_capacity(&mut self.batch);
            match epoll::wait(&self.epoll, room, Some(&patience)) {
                Ok(0) => bail!("the server has been silent for {PATIENCE:?}"),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Ready> {
        self.batch.iter().map(|event| {
            let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
            let flags = event.flags;
            Ready {
                number: event.data.u64() as usize,
                readable: flags.intersects(ends | EventFlags::IN),
                ends: flags.intersects(ends),
            }
        })
    }
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// Of which connection.
    pub(super) number: usize,
    pub(super) readable: bool,
    /// There will be no further event: what there is must be read to its end.
    pub(super) ends: bool,
}
