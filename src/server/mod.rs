//! Servers: each connection or datagram is served in a greenlet of its own, so many at a time.
//!
//! A [`StreamServer`] takes connections from whatever [accepts](Accept) them: a
//! [`TcpListener`](crate::net::TcpListener), a listener on a Unix socket, or something of the
//! user's. A [`DatagramServer`] takes datagrams from a UDP socket. What they have in common:
//!
//! - *Back-pressure.* While as many are served as may be, nothing is accepted: the kernel holds what
//!   comes, in the listener's backlog or the socket's buffer. A bound is a number of their own
//!   ([`max_connections`](StreamServer::max_connections)), or a [`Pool`](crate::pool::Pool) that they
//!   may share with others.
//! - *Trouble.* An error of one connection is that connection's, if it is not the rule. When the
//!   process or the system has run out of something (descriptors, memory, stacks), the server says
//!   so once (by `tracing`) and tries again after 10 ms, 20, 40 and so on up to a second, or when one
//!   of its own connections has ended. What says that the listener itself is broken ends the server,
//!   and is reported through [`Hub::on_error`](crate::Hub::on_error).
//! - *Panics.* One in a handler is reported through [`Hub::on_error`](crate::Hub::on_error), and ends
//!   the greenlet of that handler and no other.
//! - *The end.* [`stop`](StreamServer::stop) accepts nothing any more, gives the handlers that run
//!   some time, and kills those that are left.
//!
//! gevent's `gevent.server`.

mod accept;
mod backoff;
mod stats;

mod active;

mod engine;

mod stop;

mod acceptor;

mod stream;

mod datagram;

pub use accept::{Accept, AcceptErrorKind};
pub use datagram::DatagramServer;
pub use stats::Stats;
pub use stream::StreamServer;
