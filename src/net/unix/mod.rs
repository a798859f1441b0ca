//! Unix sockets, name for name `std::os::unix::net`: where std blocks the thread, these park the
//! greenlet.
//!
//! What differs from std is what differs in [`net`](super): the kind of a time-out, clones that
//! count, types that stay in their thread. Addresses are std's own type, abstract names included.
//!
//! # Where the system tells nobody
//!
//! Linux has no event for two things one may wait for here: room in a listener's backlog, and room
//! in the queue of a datagram socket one is not connected to. There a call tries again, after
//! pauses that grow up to 20 ms, and those who wait so are not served in order.
//!
//! Nor has it one for a peer that has shut down reading and left its socket open, with unread bytes
//! up to the brim: who waits to write to it goes on waiting, until the peer closes or
//! [a limit](UnixStream::set_write_timeout) is over. Std's blocked write is woken.

mod addr;
mod pause;

mod datagram;
mod listener;
mod stream;

#[doc(no_inline)]
pub use std::os::unix::net::SocketAddr;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use stream::UnixStream;
