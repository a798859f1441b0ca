//! Names looked up by parking.

use std::io;
use std::net::SocketAddr;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{self, DefaultResolver, ResolvedSocketAddrs};
use ureq::unversioned::transport::NextTimeout;

use crate::net::ToSocketAddrs;
use crate::timeout::with_timeout;

/// How many addresses of a host ureq takes.
const MOST: usize = 16;

/// Looks up names for a [`ureq::Agent`]: for agents that are not made by [`agent`](super::agent).
///
/// It asks the [resolver](crate::net::Resolve) of the thread in which the request is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolver(());

impl Resolver {
    /// A resolver. It has no state.
    #[must_use]
    pub fn new() -> Resolver {
        Resolver(())
    }
}

impl resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (host, port) = host_and_port(uri).ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let found = if timeout.after.is_not_happening() {
            look_up(&host, port)
        } else {
            with_timeout(*timeout.after, || look_up(&host, port))
                .map_err(|_| Error::Timeout(timeout.reason))?
        };
        let mut addrs = resolver::Resolver::empty(self);
        for addr in config.ip_family().keep_wanted(found?.into_iter()).take(MOST) {
            addrs.push(addr);
        }
        if addrs.is_empty() { Err(Error::HostNotFound) } else { Ok(addrs) }
    }
}

/// An address written as such is not looked up.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// Where to, with the scheme's port if the URI names none. An IPv6 address comes without brackets.
fn host_and_port(uri: &Uri) -> Option<(String, u16)> {
    let both = DefaultResolver::host_and_port(uri.scheme()?, uri.authority()?)?;
    let (host, port) = both.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((bare.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        let of = |uri: &str| host_and_port(&uri.parse().unwrap());
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(of("http://example.org/a:b"), is("example.org", 80));
        assert_eq!(of("https://example.org"), is("example.org", 443));
        assert_eq!(of("http://me:secret@example.org:81/"), is("example.org", 81));
        assert_eq!(of("http://[::1]/"), is("::1", 80));
        assert_eq!(of("https://[::1]:8443/"), is("::1", 8443));
        assert_eq!(of("gopher://example.org/"), None);
        assert_eq!(of("/just/a/path"), None);
    }
}
