//! Connections made by parking.

use std::io;
use std::net;
use std::sync::Arc;

use ureq::unversioned::transport::{self, ConnectionDetails, Either};
use ureq::{Error, ProxyProtocol};

use super::transport::{Transport, explained, limit};
use crate::net::{TcpStream, race};
use crate::wait::Limit;

/// Makes connections for a [`ureq::Agent`]: for chains of connectors other than that of
/// [`agent`](super::agent).
///
/// If one before it in the chain has made a connection, it leaves that alone, as ureq's
/// `TcpConnector` does. TLS is put on top by the next, for instance ureq's `RustlsConnector`.
///
/// # Examples
///
/// ```
/// use greenloom::http::{Connector, Resolver, ureq};
/// use ureq::unversioned::transport::Connector as _;
///
/// // Plain http and nothing else.
/// let connector = ().chain(Connector::new());
/// let agent = ureq::Agent::with_parts(ureq::config::Config::default(), connector, Resolver::new());
/// assert!(agent.get("http://127.0.0.1:1/").call().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Connector(());

impl Connector {
    /// A connector. It has no state.
    #[must_use]
    pub fn new() -> Connector {
        Connector(())
    }
}

impl<In: transport::Transport> transport::Connector<In> for Connector {
    type Out = Either<In, Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(connection) = chained {
            return Ok(Some(Either::A(connection)));
        }
        refuse_socks(details)?;
        let stream = Arc::new(connect(details)?);
        let handle = Arc::downgrade(&stream);
        (details.register_shutdown)(handle)?;
        Ok(Some(Either::B(Transport::new(stream, details.config))))
    }
}

/// A proxy that was asked for and is not used is worse than an error.
fn refuse_socks(details: &ConnectionDetails<'_>) -> Result<(), Error> {
    let Some(proxy) = details.config.proxy() else { return Ok(()) };
    match proxy.protocol() {
        // Direct, or by the connector before us in the chain.
        ProxyProtocol::Http | ProxyProtocol::Https => Ok(()),
        _ if proxy.is_no_proxy(details.uri) => Ok(()),
        _ => {
            let why = "a SOCKS proxy is configured, and greenloom's connector does not speak SOCKS";
            Err(Error::Io(io::Error::new(io::ErrorKind::Unsupported, why)))
        }
    }
}

/// To the first of the addresses that answers; in blocking mode, as every stream of ours.
fn connect(details: &ConnectionDetails<'_>) -> Result<net::TcpStream, Error> {
    let limit = limit(&details.timeout)?;
    let connected = match (&details.addrs[..], limit) {
        ([addr], Limit::Within(time)) => TcpStream::connect_timeout(addr, time),
        ([addr], _) => TcpStream::connect(addr),
        (addrs, _) => race(addrs.to_vec(), limit, |addr| TcpStream::connect(addr)),
    };
    let stream = connected.map_err(|error| explained(error, &details.timeout))?;
    if details.config.no_delay() {
        stream.set_nodelay(true)?;
    }
    Ok(stream.into_std()?)
}
