//! Bytes to and fro by parking.
//!
//! ureq wants connections that may go to another thread, and ours are local to theirs. So the stream
//! is std's, and a [`Source`] is made for each operation: it meets the poller of whatever thread the
//! operation is done in, only if it has to wait, and leaves it before it returns. That is two system
//! calls more for each wait than a stream of ours makes, and needs no unsafe promise.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustix::net::{RecvFlags, recv, send};
use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::transport::{self, Buffers, LazyBuffers, NextTimeout};

use crate::hub::Side;
use crate::source::{Source, Tried, send_flags};
use crate::wait::Limit;

/// A connection in ureq's hands.
///
/// Its descriptor stays in blocking mode; each call says `MSG_DONTWAIT`.
pub struct Transport {
    /// Shared with the agent, which can shut it down from another thread.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    /// A write was begun and not finished: nobody knows how much of it went out.
    is_torn: bool,
}

impl Transport {
    pub(super) fn new(stream: Arc<TcpStream>, config: &Config) -> Transport {
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Transport { stream, buffers, is_torn: false }
    }
}

impl transport::Transport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let limit = limit(&timeout)?;
        if self.is_torn {
            let why = "an earlier write was interrupted half-way";
            return Err(Error::Io(io::Error::new(io::ErrorKind::BrokenPipe, why)));
        }
        // Until it is through. An error, a kill or a timeout leaves it so: TLS would begin its
        // record anew, and the other side would find the beginning twice.
        self.is_torn = true;
        let mut rest = &self.buffers.output()[..amount];
        // The whole loop is one attempt, which goes on where it has stopped: one place in line, and
        // one limit for all of it.
        Source::new(&*self.stream)
            .run(Side::Write, &"write", limit, |stream| {
                while !rest.is_empty() {
                    let sent = send(stream, rest, send_flags())?;
                    rest = &rest[sent..];
                }
                Ok(Tried::Done(()))
            })
            .map_err(|error| explained(error, &timeout))?;
        self.is_torn = false;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = limit(&timeout)?;
        let room = self.buffers.input_append_buf();
        let count = Source::new(&*self.stream)
            .run(Side::Read, &"read", limit, |stream| {
                Ok(Tried::Done(recv(stream, &mut *room, RecvFlags::DONTWAIT)?.1))
            })
            .map_err(|error| explained(error, &timeout))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Is it good for another request? Asked by ureq under the lock of its pool, so that this must
    /// not wait, nor let anybody else run.
    fn is_open(&mut self) -> bool {
        // What comes unasked, and the end of the stream, are as bad as an error.
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let looked = recv(&*self.stream, &mut [0], flags);
        !self.is_torn && looked.err() == Some(rustix::io::Errno::WOULDBLOCK)
    }
}

/// # Errors
///
/// If no time is left.
pub(super) fn limit(timeout: &NextTimeout) -> Result<Limit, Error> {
    if timeout.after.is_not_happening() {
        Ok(Limit::Forever)
    } else if timeout.after.is_zero() {
        Err(Error::Timeout(timeout.reason))
    } else {
        Ok(Limit::Within(*timeout.after))
    }
}

/// Our own limit says which of ureq's it was; the system's (a peer that does not acknowledge) is an
/// error like any other.
pub(super) fn explained(error: io::Error, timeout: &NextTimeout) -> Error {
    if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
        Error::Timeout(timeout.reason)
    } else {
        Error::Io(error)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("addr", &self.stream.peer_addr().ok()).finish()
    }
}
