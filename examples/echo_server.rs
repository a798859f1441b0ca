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

#![expect(clippy::print_stderr, reason = "says why it cannot begin, also where nothing is logged")]

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::net::{SocketAddr, TcpListener, TcpStream};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Sends every visitor's bytes back to them, ASCII letters in upper case.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; with port 0 the system picks one, and the log says which
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
}

fn main() -> ExitCode {
    let Args { address } = Args::parse();
    start_logging();
    match listen(&address) {
        Ok(listener) => serve(&listener),
        Err(error) => {
            eprintln!("echo_server: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    info!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Gives every visitor a greenlet, for ever.
pub(crate) fn serve(listener: &TcpListener) -> ! {
    let mut full_house = FullHouse::default();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if full_house.is_over() {
                    info!("all who ask are let in again");
                }
                greenloom::spawn(move || attend(&stream, peer));
            }
            Err(error) => {
                if full_house.has_begun() {
                    warn!(%error, "cannot accept connections, and will keep trying");
                }
                // Most likely we are out of file descriptors. The visitor still stands at the door,
                // so asking again at once would fail again at once: leave the others time to go.
                greenloom::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// A time in which visitors are turned away again and again. The log hears of its begin and its
/// end, not of each attempt.
#[derive(Default)]
struct FullHouse {
    /// `None` while all is well.
    last_refusal: Option<Instant>,
}

impl FullHouse {
    /// For so long nobody must have been refused. Of a queue at the door one is let in for each who
    /// leaves, and the next is refused: a single success does not end it.
    const CALM: Duration = Duration::from_secs(1);

    /// To be called at each refusal; true at the first.
    fn has_begun(&mut self) -> bool {
        self.last_refusal.replace(Instant::now()).is_none()
    }

    /// To be called at each success; true at the first after the last refusal.
    fn is_over(&mut self) -> bool {
        self.last_refusal.take_if(|last| last.elapsed() >= Self::CALM).is_some()
    }
}

/// One visitor, from greeting to farewell. The connection closes when `stream` is dropped.
fn attend(stream: &TcpStream, peer: SocketAddr) {
    info!(%peer, "connected");
    match shout_back(stream) {
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

// ------------------------------------------------------------------------------------- logging

/// Sends the log to standard error, at level `info` unless `RUST_LOG` says otherwise.
///
/// A terminal or a pipe can be slow, and whoever waits for it outside of `greenloom` holds up every
/// visitor. So the waiting is done by a thread that has nothing else to do.
fn start_logging() {
    let (log, lines) = mpsc::sync_channel::<Vec<u8>>(10_000);
    thread::spawn(move || lines.iter().try_for_each(|line| io::stderr().write_all(&line)));
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || LogWriter(log.clone()))
        .init();
}

/// Hands lines to the logging thread. When nobody takes them for long, new ones are dropped.
struct LogWriter(SyncSender<Vec<u8>>);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    /// The visitor is a program that knows nothing of greenlets: std's sockets on a thread.
    #[test]
    fn runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let visitor = thread::spawn(move || -> io::Result<Vec<u8>> {
            let mut stream = std::net::TcpStream::connect(address)?;
            stream.write_all(b"hello, ")?;
            stream.write_all("w\u{f6}rld\n".as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        });

        let served = greenloom::with_timeout(Duration::from_secs(60), || {
            let (stream, peer) = listener.accept().unwrap();
            attend(&stream, peer);
        });
        served.expect("it hangs");

        let answer = visitor.join().unwrap().unwrap();
        assert_eq!(answer, "HELLO, W\u{f6}RLD\n".as_bytes());
    }

    #[test]
    fn a_full_house_is_told_of_twice() {
        let mut full_house = FullHouse::default();
        assert!(!full_house.is_over());
        assert!(full_house.has_begun());
        assert!(!full_house.is_over(), "one was let in, but others still wait");
        assert!(!full_house.has_begun());

        full_house.last_refusal = Instant::now().checked_sub(FullHouse::CALM);
        assert!(full_house.is_over());
        assert!(!full_house.is_over());
        assert!(full_house.has_begun(), "and once more");
    }
}
