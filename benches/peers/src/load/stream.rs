//! Bytes one way. The server counts them and tells at the end how many there were; nothing else
//! would keep up with it.

use std::net::Shutdown;
use std::os::fd::OwnedFd;

use anyhow::{Context, bail, ensure};

use super::Options;
use super::pattern::Pattern;
use super::sockets::{Events, Ready, connect, receive, send_some};
use super::window::Observer;
use crate::sample::Sample;

/// Bytes handed to the system at once.
const PIECE: usize = 256 * 1024;

struct Stream {
    socket: OwnedFd,
    size: u64,
    sent: u64,
    /// The server's count, as far as it has come.
    count: Vec<u8>,
}

pub(super) fn measure(
    options: &Options,
    observer: &Observer,
    sample: Sample,
) -> anyhow::Result<Sample> {
    let pieces = Pattern::new(PIECE);
    let mut events = Events::new()?;
    let all = u64::from(options.connections);
    let mut streams = Vec::new();
    for number in 0..all {
        let socket = connect(options.address, number as usize)?;
        let size = options.bytes / all + u64::from(number < options.bytes % all);
        streams.push(Stream { socket, size, sent: 0, count: Vec::new() });
    }
    let window = observer.begin()?;
    for (number, stream) in streams.iter().enumerate() {
        events.watch(&stream.socket, number)?; // and the first event is that it can be written to
    }
    let mut left = streams.len();
    while left > 0 {
        events.wait()?;
        for ready in events.iter() {
            let is_over = streams[ready.number].advance(&pieces, ready);
            let is_over = is_over.with_context(|| format!("connection {}", ready.number))?;
            left -= usize::from(is_over);
        }
    }
    let used = window.end()?;
    Ok(used.report(sample, "bytes", options.bytes as f64))
}

impl Stream {
    /// Whether this has been the end of it.
    fn advance(&mut self, pieces: &Pattern, ready: Ready) -> anyhow::Result<bool> {
        while self.sent < self.size {
            let piece = &pieces.message(0, 0)[..PIECE.min((self.size - self.sent) as usize)];
            let count = send_some(&self.socket, piece)?;
            self.sent += count as u64;
            if self.sent == self.size {
                socket2::SockRef::from(&self.socket).shutdown(Shutdown::Write)?;
            }
            if count < piece.len() {
                break;
            }
        }
        while ready.readable && self.count.len() < 8 {
            let mut buffer = [0; 9];
            match receive(&self.socket, &mut buffer)? {
                None => return Ok(false),
                Some(0) => bail!("closed by the server without an answer"),
                Some(count) => self.count.extend_from_slice(&buffer[..count]),
            }
            ensure!(self.sent == self.size, "an answer before the end");
            if let Ok(answer) = <[u8; 8]>::try_from(self.count.as_slice()) {
                let counted = u64::from_le_bytes(answer);
                ensure!(counted == self.size, "the server got {counted} bytes of {}", self.size);
                return Ok(true);
            }
            ensure!(self.count.len() < 8, "more than an answer");
        }
        Ok(false)
    }
}
