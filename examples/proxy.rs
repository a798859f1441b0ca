//! A TCP forwarder: whoever connects here is connected to somewhere else, and does not notice.
//!
//! ```text
//! cargo run --release --example echo_server                              # on port 8080
//! cargo run --release --example proxy -- 127.0.0.1:8081 127.0.0.1:8080   # in another terminal
//! nc 127.0.0.1 8081                                                      # in a third
//! ```
//!
//! A connection is two one-way streets, and each has a greenlet: it reads at one end and writes at
//! the other until there is no more to read, and says so to the other end. So a client that has
//! asked all its questions can hang up that half, and still hear the answers. A fast end cannot run
//! away from a slow one, because whoever writes to the slow one waits.

#![expect(clippy::print_stderr, reason = "says why it cannot begin, also where nothing is logged")]

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{Shutdown, SocketAddr, TcpStream};
use greenloom::server::StreamServer;
use greenloom::{scope, with_timeout};
use indicatif::HumanBytes;
use tracing::{info, warn};

#[path = "serving/mod.rs"]
mod serving;

/// Forwards TCP connections.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; with port 0 the system picks one, and the log says which
    listen: String,
    /// Where to forward to; a name is looked up anew for each connection
    #[arg(value_name = "HOST:PORT", value_parser = host_and_port)]
    target: String,
    /// How many connections at a time; others wait at the door
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one())]
    max_connections: usize,
    /// How long a connection to the target may take to come about
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    connect_timeout: u64,
    /// How long connections may go on at SIGINT (control-C) or SIGTERM; a second one ends them
    #[arg(long, value_name = "SECS", default_value_t = 5)]
    grace: u64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Something to connect to. Whether it is there will be seen for each connection.
fn host_and_port(text: &str) -> Result<String, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("there is no colon before the port")?;
    if host.is_empty() {
        return Err("there is no host before the colon");
    }
    if host.contains([':', '[']) && text.parse::<SocketAddr>().is_err() {
        return Err("an IPv6 address stands in [brackets]");
    }
    match port.parse() {
        Ok(1..=u16::MAX) => Ok(text.to_owned()),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let log = serving::start_logging();
    let totals = Rc::new(Totals::default());
    let opened = open(&args, &totals);
    match &opened {
        Ok((server, address)) => {
            let (told, so_far) = (server.clone(), Rc::clone(&totals));
            serving::obey_signals(Duration::from_secs(args.grace), move |grace, when| {
                info!("told to stop, {when}: {}; {}", told.stats(), so_far.line());
                told.stop(grace); // `serve_forever` returns when this has come to its end
            });
            info!("listening on {address}, which leads to {}", args.target);
            server.serve_forever();
            info!("stopped: {}; {}", server.stats(), totals.line());
        }
        Err(error) => eprintln!("proxy: cannot listen on {}: {error}", args.listen),
    }
    log.close();
    if opened.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The proxy as the arguments want it, not yet started, and where it is.
fn open(args: &Args, totals: &Rc<Totals>) -> io::Result<(StreamServer, SocketAddr)> {
    let patience = Duration::from_secs(args.connect_timeout);
    let (target, totals) = (args.target.clone(), Rc::clone(totals));
    let server = StreamServer::bind(&args.listen)?
        .max_connections(args.max_connections)
        .handle(move |client, peer| forward(&client, peer, &target, patience, &totals));
    let address = server.local_addr()?;
    Ok((server, address))
}

/// What has passed through.
#[derive(Debug, Default)]
struct Totals {
    to_target: Cell<u64>,
    to_client: Cell<u64>,
    /// Connections to the target that did not come about.
    refused: Cell<u64>,
}

impl Totals {
    fn line(&self) -> String {
        let [there, back] = [&self.to_target, &self.to_client].map(|bytes| HumanBytes(bytes.get()));
        format!("{there} there, {back} back, {} without a target", self.refused.get())
    }
}

/// One client, for as long as either side has something to say. Both connections close at the end.
fn forward(
    client: &TcpStream,
    peer: SocketAddr,
    target: &str,
    patience: Duration,
    totals: &Totals,
) {
    let connected = with_timeout(patience, || TcpStream::connect(target));
    let server = match connected.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(server) => server,
        Err(error) => {
            totals.refused.set(totals.refused.get() + 1);
            warn!(%peer, target, %error, "cannot connect");
            return;
        }
    };
    // Whoever wants small pieces to be sent at once would have said so to the other end.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let pass_on = |from, to, total| {
        if let Err(error) = one_way(from, to, total) {
            info!(%peer, %error, "connection lost");
        }
    };
    scope(|s| {
        s.spawn(|| pass_on(client, &server, &totals.to_target));
        pass_on(&server, client, &totals.to_client);
    });
}

/// Passes on all that `from` has to say, and that it has no more. If either end is lost, both are.
fn one_way(from: &TcpStream, to: &TcpStream, total: &Cell<u64>) -> io::Result<()> {
    let result = copy(from, to, total);
    let how = if result.is_ok() { Shutdown::Write } else { Shutdown::Both };
    // It fails where the other end has hung up already, which comes to the same.
    let _ = to.shutdown(how);
    if result.is_err() {
        let _ = from.shutdown(how);
    }
    result
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, total: &Cell<u64>) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        total.set(total.get() + count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenloom::net::TcpListener;
    use greenloom::spawn;

    const HANG: Duration = Duration::from_secs(60);

    fn proxy(target: String, max_connections: usize) -> (StreamServer, Rc<Totals>) {
        let totals = Rc::new(Totals::default());
        let listen = "127.0.0.1:0".to_owned();
        let args = Args { listen, target, max_connections, connect_timeout: 60, grace: 0 };
        let (server, _) = open(&args, &totals).unwrap();
        server.start();
        (server, totals)
    }

    /// Answers when it has heard all, with how much that was and the same backwards.
    fn backwards() -> StreamServer {
        let server = StreamServer::bind("127.0.0.1:0").unwrap().handle(|mut stream, _| {
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard)?;
            write!(stream, "{} ", heard.len())?;
            heard.reverse();
            stream.write_all(&heard)
        });
        server.start();
        server
    }

    /// Says all, hangs up that half, and hears the answer.
    fn ask(proxy: &StreamServer, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.local_addr()?)?;
        stream.write_all(question)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn within_a_minute(test: impl FnOnce()) {
        with_timeout(HANG, test).expect("it hangs");
    }

    #[test]
    fn runs() {
        within_a_minute(|| {
            let target = backwards();
            let (proxy, totals) = proxy(target.local_addr().unwrap().to_string(), 2);
            let clients: Vec<_> = (0..5)
                .map(|_| {
                    let proxy = proxy.clone();
                    spawn(move || ask(&proxy, b"abc").unwrap())
                })
                .collect();
            for client in clients {
                assert_eq!(client.get().unwrap(), b"3 cba");
            }
            let long: Vec<u8> = (0..3_000_000).map(|n: u32| n as u8).collect();
            let answer = ask(&proxy, &long).unwrap();
            assert!(answer.iter().rev().eq(long.iter().chain(b" 0000003")));
            assert!(proxy.stop(HANG));
            assert_eq!(proxy.stats().peak, 2);
            assert_eq!(totals.to_target.get(), 3_000_015);
            assert_eq!(totals.line(), "2.86 MiB there, 2.86 MiB back, 0 without a target");
            target.stop(HANG);
        });
    }

    #[test]
    fn nobody_is_there() {
        within_a_minute(|| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (proxy, totals) = proxy(free.to_string(), 10);
            let mut client = TcpStream::connect(proxy.local_addr().unwrap()).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            assert_eq!(totals.refused.get(), 1);
            assert!(proxy.stop(HANG));
        });
    }

    #[test]
    fn a_target_without_a_port_is_refused_at_once() {
        for good in ["localhost:80", "127.0.0.1:65535", "[::1]:80", "[fe80::1%2]:80"] {
            let args = Args::try_parse_from(["proxy", "127.0.0.1:0", good]);
            assert_eq!(args.unwrap().target, good);
        }
        let no_port = ["noport", "host:", "host:0", "host:65536", "host:http", "host:-1"];
        let no_host = [":80", "::1:80", "[::1]", "[]:80", "[::1:80", "[host]:80", ""];
        for wrong in no_port.iter().chain(&no_host) {
            let args = Args::try_parse_from(["proxy", "127.0.0.1:0", wrong]);
            assert!(args.is_err(), "{wrong:?}");
        }
    }

    /// A target that resets the connection: the client hears of it instead of waiting for ever.
    #[test]
    fn the_target_is_lost() {
        within_a_minute(|| {
            let target = TcpListener::bind("127.0.0.1:0").unwrap();
            let (proxy, _) = proxy(target.local_addr().unwrap().to_string(), 10);
            let mut client = TcpStream::connect(proxy.local_addr().unwrap()).unwrap();
            client.write_all(b"unread").unwrap();
            let (there, _) = target.accept().unwrap();
            there.wait_readable().unwrap();
            drop(there); // with something unread: that is a reset
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
            assert!(proxy.stop(HANG));
        });
    }
}
