//! HTTP: [ureq]'s client on greenloom's sockets, https included (feature `ureq`).
//!
//! [`agent`] makes a [`ureq::Agent`] whose calls park the greenlet where ureq's own would block the
//! thread: while names are looked up, connections made, and requests and replies on their way. All
//! else is ureq's, and documented there.
//!
//! ```
//! use greenloom::{http, net::TcpListener, spawn};
//! use std::io::{BufRead, BufReader, Write};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/", listener.local_addr()?);
//! spawn(move || -> std::io::Result<()> {
//!     loop {
//!         let (mut stream, _) = listener.accept()?;
//!         let mut lines = BufReader::new(stream.clone()).lines();
//!         while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
//!         stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")?;
//!     }
//! });
//!
//! let agent = http::agent();
//! let pages: Vec<_> = (0..3)
//!     .map(|_| {
//!         let (agent, url) = (agent.clone(), url.clone());
//!         spawn(move || agent.get(&url).call()?.body_mut().read_to_string())
//!     })
//!     .collect();
//! for page in pages {
//!     assert_eq!(page.get().unwrap()?, "hello");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One agent for all
//!
//! An agent is a handle: its clones share connections that are kept alive. It is `Send + Sync`, so
//! all greenlets of a thread may share one, and so may several threads, each with a hub of its own.
//! A connection parks whoever uses it at the time, and belongs to no hub in between.
//! By default ureq keeps three idle connections to a host and ten in all. Where many greenlets ask
//! the same server, raise both
//! ([`max_idle_connections_per_host`](ureq::config::ConfigBuilder::max_idle_connections_per_host)),
//! or nearly every request makes a connection of its own.
//!
//! # Time limits and kills
//!
//! All of ureq's time limits work; none is set by default, so a server that says nothing is waited
//! for. [`with_timeout`](crate::with_timeout) around a call works as well, and so does a kill: both
//! unwind through ureq, and the connection that was in use is closed, not kept.
//!
//! # Stacks
//!
//! Built for debugging, a request by https takes some 130 KiB of stack for its handshake, and rustls
//! over a stream of ours some 50 KiB; optimised, a fifth of that. The usual 240 KiB are enough for
//! both. Do not go below 192 KiB by [`Builder::stack_size`](crate::Builder::stack_size) for greenlets
//! that fetch.
//!
//! # What is not here
//!
//! SOCKS proxies. ureq's connector for them makes blocking sockets of its own; where one is
//! configured (also by the environment, `ALL_PROXY`) requests fail with a clear error, rather than
//! go out unproxied or block the thread. CONNECT proxies work.
//!
//! ureq logs through the crate `log` while it holds a lock of the agent; a logger must not wait for
//! anything by means of this crate.

mod connector;
mod resolver;
mod transport;

pub use connector::Connector;
pub use resolver::Resolver;
pub use transport::Transport;
/// The client itself, in the version that this crate is built with.
#[doc(no_inline)]
pub use ureq;

use ureq::config::Config;
use ureq::unversioned::transport::Connector as _;
use ureq::unversioned::transport::{ConnectProxyConnector, RustlsConnector};

/// An agent with ureq's defaults, whose calls park the greenlet instead of blocking the thread.
///
/// Keep it and clone it: each call of this makes one that shares nothing with the others.
///
/// # Examples
///
/// ```no_run
/// let agent = greenloom::http::agent();
/// let page = agent.get("https://example.org/").call()?.body_mut().read_to_string()?;
/// # Ok::<(), greenloom::http::ureq::Error>(())
/// ```
#[must_use]
pub fn agent() -> ureq::Agent {
    agent_with(Config::default())
}

/// As [`agent`], with a configuration of ureq's: time limits, redirects, certificates ...
///
/// TLS is rustls's; the other that ureq knows cannot be had here, and https with it fails.
///
/// # Examples
///
/// ```
/// use greenloom::http;
/// use std::time::Duration;
///
/// let config = http::ureq::Agent::config_builder()
///     .timeout_global(Some(Duration::from_secs(10)))
///     .max_idle_connections(100)
///     .max_idle_connections_per_host(100);
/// let agent = http::agent_with(config.build());
/// assert_eq!(agent.config().timeouts().global, Some(Duration::from_secs(10)));
/// ```
#[must_use]
pub fn agent_with(config: Config) -> ureq::Agent {
    // Whoever has made a connection, those after it leave it as it is or wrap it. A CONNECT proxy
    // runs the whole chain once more, for the connection to itself.
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(Connector::new())
            .chain(RustlsConnector::default());
    ureq::Agent::with_parts(config, connector, Resolver::new())
}
