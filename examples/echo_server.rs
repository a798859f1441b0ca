//! An echo server that shouts: what comes in goes back at once, its ASCII letters in upper case.
//!
//! ```text
//! cargo run --release --example echo_server          # listens on 127.0.0.1:8080
//! nc 127.0.0.1 8080                                  # in another terminal; type something
//! ```
//!
//! Every connection has a greenlet of its own, and a greenlet is plain blocking code: it reads, it
//! writes, and while it waits the thread runs the others. There is one thread, so there is nothing
//! to lock; there is no `async`, so every line does what it says.
//!
//! SIGINT (control-C) and SIGTERM close the door and let those who are inside finish, for as long as
//! `--grace` says; a second one ends it at once. SIGUSR1 writes a line of statistics to the log.

#![expect(clippy::print_stderr, reason = "says why it cannot begin, also where nothing is logged")]

#[path = "serving/mod.rs"]
mod serving; // the log, and signals

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use greenloom::net::{SocketAddr, TcpStream};
use greenloom::server::StreamServer;
use greenloom::signal::{self, SIGUSR1};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Sends every visitor's bytes back to them, ASCII letters in upper case.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Where to listen; with port 0 the system picks one, and the log says which
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
    /// How many visitors at a time; others wait at the door [default: as many as come]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_connections: Option<usize>,
    /// Sends visitors away who say nothing for so long [default: they may]
    #[arg(long, value_name = "SECS", value_parser = at_least_one)]
    idle_timeout: Option<usize>,
    /// How long visitors may go on when the server is told to stop
    #[arg(long, value_name = "SECS", default_value_t = 5)]
    grace: u32,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it has to be one at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let log = serving::start_logging();
    raise_limit_of_descriptors();
    let result = open(&args);
    match &result {
        Ok(server) => {
            obey_signals(server, Duration::from_secs(args.grace.into()));
            info!("listening on {}", server.local_addr().expect("it listens"));
            server.serve_forever();
            info!("stopped: {}", server.stats());
        }
        Err(error) => eprintln!("echo_server: cannot listen on {}: {error}", args.address),
    }
    log.close();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The server as the arguments want it, not yet started.
pub(crate) fn open(args: &Args) -> io::Result<StreamServer> {
    let mut server = StreamServer::bind(&args.address)?.backlog(4096).handle(attend);
    if let Some(most) = args.max_connections {
        server = server.max_connections(most);
    }
    if let Some(seconds) = args.idle_timeout {
        server = server.idle_timeout(Duration::from_secs(seconds as u64));
    }
    Ok(server)
}

/// What signals ask for is done by greenlets, which may wait like any other.
pub(crate) fn obey_signals(server: &StreamServer, grace: Duration) {
    let stopped = server.clone();
    serving::obey_signals(grace, move |grace, within| {
        info!("told to stop, {within}: {}", stopped.stats());
        stopped.stop(grace); // `serve_forever` returns when this has come to its end
    });
    let server = server.clone();
    signal::on(SIGUSR1, move |_| info!("{}", server.stats()));
}

/// Each visitor takes a descriptor. Many systems allow a thousand unless a program asks for more.
fn raise_limit_of_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// One visitor, from greeting to farewell. The connection closes when `stream` is dropped.
fn attend(stream: TcpStream, peer: SocketAddr) {
    info!(%peer, "connected");
    match shout_back(&stream) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => info!(%peer, "sent away"),
        Ok(bytes) => info!(%peer, bytes, "disconnected"),
        Err(error) => warn!(%peer, %error, "connection lost"),
    }
}

/// Answers until the visitor has no more to say; returns how many bytes that was.
fn shout_back(mut stream: &TcpStream) -> io::Result<usize> {
    stream.set_nodelay(true)?; // answers are small and must not wait for company
    let mut buffer = [0; 4096];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        let heard = &mut buffer[..count];
        heard.make_ascii_uppercase();
        stream.write_all(heard)?;
        total += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::thread;

    fn args(words: &[&str]) -> Args {
        Args::parse_from([&["echo_server", "127.0.0.1:0"], words].concat())
    }

    /// The visitor is a program that knows nothing of greenlets: std's sockets on a thread.
    #[test]
    fn runs() {
        let server = open(&args(&["--max-connections", "1", "--idle-timeout", "60"])).unwrap();
        let address = server.local_addr().unwrap();
        let visitor = thread::spawn(move || -> io::Result<Vec<u8>> {
            let mut stream = std::net::TcpStream::connect(address)?;
            stream.write_all(b"hello, ")?;
            stream.write_all("w\u{f6}rld\n".as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        });

        server.start();
        let served = greenloom::with_timeout(Duration::from_secs(60), || {
            while server.stats().finished == 0 {
                greenloom::sleep(Duration::from_millis(1));
            }
            server.stop(Duration::from_secs(60))
        });
        assert!(served.expect("it hangs"));

        let answer = visitor.join().unwrap().unwrap();
        assert_eq!(answer, "HELLO, W\u{f6}RLD\n".as_bytes());
    }

    #[test]
    fn nothing_is_not_enough() {
        for option in ["--max-connections", "--idle-timeout"] {
            assert!(Args::try_parse_from(["echo_server", option, "0"]).is_err());
            assert!(Args::try_parse_from(["echo_server", option, "some"]).is_err());
            assert!(Args::try_parse_from(["echo_server", option, "3"]).is_ok());
        }
    }
}
