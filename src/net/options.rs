//! TCP sockets with options that have to be set before they are bound or connected.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use super::addrs::{ToSocketAddrs, first_that};
use super::listener::{BACKLOG, TcpListener};
use super::socket::not_zero;
use super::stream::{TcpStream, connect_by, connect_with, tcp_socket};
use crate::wait::Limit;

/// How a TCP socket is to be made, in the manner of [`std::fs::OpenOptions`]: say what is to be
/// different, then [`listen`](TcpOptions::listen) or [`connect`](TcpOptions::connect).
///
/// What is not said is as [`TcpListener::bind`] and [`TcpStream::connect`] do it. Connections that a
/// listener accepts begin with its options (`nodelay`, `keepalive`, `ttl` and the sizes of buffers;
/// so it is on Linux and the BSDs).
///
/// Not in std; gevent leaves this to `setsockopt`.
///
/// # Examples
///
/// ```
/// use greenloom::net::TcpOptions;
/// use std::time::Duration;
///
/// let listener = TcpOptions::new().backlog(4096).nodelay(true).listen("127.0.0.1:0")?;
///
/// let stream = TcpOptions::new()
///     .nodelay(true)
///     .keepalive(Some(Duration::from_secs(60)))
///     .timeout(Duration::from_secs(5))
///     .connect(listener.local_addr()?)?;
/// assert!(stream.nodelay()? && stream.keepalive()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TcpOptions {
    backlog: Option<u32>,
    reuse_address: Option<bool>,
    reuse_port: bool,
    only_v6: Option<bool>,
    nodelay: Option<bool>,
    keepalive: Option<Option<Duration>>,
    keepalive_interval: Option<Duration>,
    keepalive_retries: Option<u32>,
    ttl: Option<u32>,
    recv_buffer_size: Option<usize>,
    send_buffer_size: Option<usize>,
    timeout: Option<Duration>,
    bind: Option<SocketAddr>,
}

impl TcpOptions {
    /// Nothing said yet.
    #[must_use]
    pub fn new() -> TcpOptions {
        TcpOptions::default()
    }

    /// Sets how many connections may wait to be accepted. Unless said, 1,024. The system has a limit
    /// of its own (`net.core.somaxconn` on Linux).
    pub fn backlog(&mut self, connections: u32) -> &mut TcpOptions {
        self.backlog = Some(connections);
        self
    }

    /// Lets it be bound to a port on which old connections linger (`SO_REUSEADDR`). Unless said, a
    /// listener may, and others may not.
    pub fn reuse_address(&mut self, on: bool) -> &mut TcpOptions {
        self.reuse_address = Some(on);
        self
    }

    /// Lets several sockets be bound to one port, which all have to say so (`SO_REUSEPORT`): the
    /// system deals out connections among those that listen. Meant for a listener in each thread.
    pub fn reuse_port(&mut self, on: bool) -> &mut TcpOptions {
        self.reuse_port = on;
        self
    }

    /// Keeps a socket that is bound to an IPv6 address from speaking IPv4 too (`IPV6_V6ONLY`).
    /// Unless said, the system decides: on Linux, `[::]` takes both. Of no effect on IPv4 addresses.
    pub fn only_v6(&mut self, on: bool) -> &mut TcpOptions {
        self.only_v6 = Some(on);
        self
    }

    /// Has small pieces sent at once (`TCP_NODELAY`) instead of gathered.
    pub fn nodelay(&mut self, on: bool) -> &mut TcpOptions {
        self.nodelay = Some(on);
        self
    }

    /// Has the system ask a peer that has been quiet for so long whether it is still there
    /// (`SO_KEEPALIVE`). `None`: it never asks. Times are rounded up to whole seconds.
    pub fn keepalive(&mut self, after: Option<Duration>) -> &mut TcpOptions {
        self.keepalive = Some(after);
        self
    }

    /// Sets how long it waits for an answer before it asks again, if it [asks](Self::keepalive) at
    /// all. Rounded up to whole seconds; systems that cannot be told ignore it.
    pub fn keepalive_interval(&mut self, time: Duration) -> &mut TcpOptions {
        self.keepalive_interval = Some(time);
        self
    }

    /// Sets after how many questions without an answer the connection is given up, if it
    /// [asks](Self::keepalive) at all. Systems that cannot be told ignore it.
    pub fn keepalive_retries(&mut self, questions: u32) -> &mut TcpOptions {
        self.keepalive_retries = Some(questions);
        self
    }

    /// Sets how many hops a packet may take (`IP_TTL`, and `IPV6_UNICAST_HOPS` for IPv6).
    pub fn ttl(&mut self, hops: u32) -> &mut TcpOptions {
        self.ttl = Some(hops);
        self
    }

    /// Sets the size of the system's buffer for what has arrived (`SO_RCVBUF`), in bytes, and keeps
    /// the system from adapting it. Linux doubles the number, for its own needs.
    pub fn recv_buffer_size(&mut self, bytes: usize) -> &mut TcpOptions {
        self.recv_buffer_size = Some(bytes);
        self
    }

    /// Sets the size of the system's buffer for what is to be sent (`SO_SNDBUF`), in bytes, and
    /// keeps the system from adapting it. Linux doubles the number, for its own needs.
    pub fn send_buffer_size(&mut self, bytes: usize) -> &mut TcpOptions {
        self.send_buffer_size = Some(bytes);
        self
    }

    /// Sets how long [`connect`](TcpOptions::connect) may take, with looking up a name, and for all
    /// addresses together.
    pub fn timeout(&mut self, time: Duration) -> &mut TcpOptions {
        self.timeout = Some(time);
        self
    }

    /// Sets the address [`connect`](TcpOptions::connect) comes from; port 0 for any. Of no effect
    /// on [`listen`](TcpOptions::listen), which is told where.
    pub fn bind(&mut self, local: SocketAddr) -> &mut TcpOptions {
        self.bind = Some(local);
        self
    }

    /// A socket that is bound to the first of the addresses that can be, and listens.
    ///
    /// # Errors
    ///
    /// Of the last address tried: as [`TcpListener::bind`], or that an option is not possible;
    /// `InvalidInput` if there was no address.
    pub fn listen<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpListener> {
        first_that(addr.to_socket_addrs()?, |addr| {
            let socket = self.socket(addr, true)?;
            socket.bind(&(*addr).into())?;
            let most = |backlog| i32::try_from(backlog).unwrap_or(i32::MAX);
            socket.listen(self.backlog.map_or(BACKLOG, most))?;
            Ok(TcpListener::from(std::net::TcpListener::from(socket)))
        })
    }

    /// Opens a connection, as [`TcpStream::connect`] does: to the first of the addresses that
    /// answers; those of a host are raced.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::connect`], or that an option is not possible; `TimedOut` when
    /// [the time](TcpOptions::timeout) is over; `InvalidInput` for no time at all.
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpStream> {
        let limit = match self.timeout {
            Some(time) => Limit::Within(not_zero(time)?),
            None => Limit::Forever,
        };
        let options = self.clone();
        connect_with(addr, limit, move |addr, limit| {
            if limit == Limit::Within(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into()); // spent on those before it
            }
            let socket = options.socket(addr, false)?;
            if let Some(local) = options.bind {
                socket.bind(&local.into())?;
            }
            connect_by(socket, addr, limit)
        })
    }

    /// A socket with everything that has been said.
    fn socket(&self, addr: &SocketAddr, listens: bool) -> io::Result<Socket> {
        let socket = tcp_socket(addr)?;
        socket.set_reuse_address(self.reuse_address.unwrap_or(listens))?;
        if self.reuse_port {
            reuse_port(&socket)?;
        }
        if let Some(on) = self.only_v6.filter(|_| addr.is_ipv6()) {
            socket.set_only_v6(on)?;
        }
        if let Some(on) = self.nodelay {
            socket.set_tcp_nodelay(on)?;
        }
        self.set_keepalive(&socket)?;
        if let Some(hops) = self.ttl {
            if addr.is_ipv6() {
                socket.set_unicast_hops_v6(hops)?;
                // For the IPv4 it may speak as well; where it cannot be told, it speaks none.
                let _ = socket.set_ttl_v4(hops);
            } else {
                socket.set_ttl_v4(hops)?;
            }
        }
        if let Some(bytes) = self.recv_buffer_size {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer_size {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(socket)
    }

    fn set_keepalive(&self, socket: &Socket) -> io::Result<()> {
        let Some(after) = self.keepalive else { return Ok(()) };
        let Some(after) = after else { return socket.set_keepalive(false) };
        let params = TcpKeepalive::new().with_time(whole_seconds(after));
        #[cfg(not(any(target_os = "openbsd", target_os = "haiku", target_os = "solaris")))]
        let params = {
            let params = match self.keepalive_interval {
                Some(time) => params.with_interval(whole_seconds(time)),
                None => params,
            };
            match self.keepalive_retries {
                Some(questions) => params.with_retries(questions),
                None => params,
            }
        };
        socket.set_tcp_keepalive(&params)
    }
}

#[cfg(not(any(target_os = "solaris", target_os = "illumos")))]
fn reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(any(target_os = "solaris", target_os = "illumos"))]
fn reuse_port(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The system counts in seconds, and refuses none at all.
fn whole_seconds(time: Duration) -> Duration {
    let more = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(more).max(1))
}
