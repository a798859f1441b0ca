//! The handlers of all peers that let one write plain blocking code: greenloom, may, and threads.

use std::io::{self, Read, Write};

use super::Duty;

/// What is to be done for a connection, but for the lean echo, which each peer does in its own way.
pub(super) fn attend(stream: impl Read + Write, duty: Duty) -> io::Result<()> {
    match duty.with_buffer() {
        Duty::Echo { buffer } => echo(stream, buffer),
        Duty::Sink { buffer } => sink(stream, buffer),
        Duty::LeanEcho => unreachable!("it was given a buffer"),
    }
}

fn echo(mut stream: impl Read + Write, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn sink(mut stream: impl Read + Write, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut total: u64 = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&total.to_le_bytes()),
            count => total += count as u64,
        }
    }
}
