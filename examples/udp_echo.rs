//! Echo by UDP: what comes in goes back, a greenlet a datagram.
//!
//! ```text
//! cargo run --release --example udp_echo                 # listens on 127.0.0.1:8080
//! cargo run --release --example udp_echo -- --client     # in another terminal
//! ```
//!
//! Datagrams get lost, without a word: in the network, or because the server has its hands full. So
//! the client numbers what it sends, waits a little for each answer, and asks again.

#![expect(clippy::print_stdout, reason = "the summary is what the client is for")]
#![expect(clippy::print_stderr, reason = "says why it cannot begin, or go on")]

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{SocketAddr, UdpSocket};
use greenloom::pool::Pool;
use greenloom::server::DatagramServer;
use greenloom::signal::{self, SIGINT, SIGTERM};

/// Sends every datagram back to whom it came from; or, with --client, sends some.
#[derive(Debug, Parser)]
struct Args {
    /// Where the server listens
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
    /// How many datagrams the server works on at a time; others wait in the kernel, or are lost
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one())]
    max_handlers: usize,
    /// Be a client
    #[arg(long)]
    client: bool,
    /// How many questions a client asks
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "client")]
    questions: u32,
    /// How many of them at a time
    #[arg(long, value_name = "N", default_value_t = 50, requires = "client")]
    #[arg(value_parser = at_least_one())]
    at_once: usize,
    /// How long a client waits for an answer before it asks again
    #[arg(long, value_name = "MS", default_value_t = 200, requires = "client")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn main() -> ExitCode {
    let args = Args::parse();
    match if args.client { be_client(&args) } else { serve(&args) } {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("udp_echo: {}: {error}", args.address);
            ExitCode::FAILURE
        }
    }
}

// --------------------------------------------------------------------------------------- server

fn serve(args: &Args) -> io::Result<bool> {
    let server = open(args)?;
    eprintln!("udp_echo: listening on {}", server.local_addr()?);
    for signal in [SIGINT, SIGTERM] {
        let server = server.clone();
        signal::on(signal, move |_| {
            server.stop(Duration::from_secs(1));
        });
    }
    server.serve_forever();
    eprintln!("udp_echo: {}", server.stats());
    Ok(true)
}

fn open(args: &Args) -> io::Result<DatagramServer> {
    Ok(DatagramServer::bind(&args.address)?.max_handlers(args.max_handlers).handle(echo))
}

fn echo(socket: &UdpSocket, bytes: &[u8], peer: SocketAddr) -> io::Result<usize> {
    socket.send_to(bytes, peer)
}

// --------------------------------------------------------------------------------------- client

fn be_client(args: &Args) -> io::Result<bool> {
    let start = Instant::now();
    let summary = ask_all(args)?;
    let took = start.elapsed();
    println!(
        "{} of {} answered in {took:.2?}, {} asked again",
        summary.answered, args.questions, summary.again
    );
    Ok(summary.answered == args.questions)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    answered: u32,
    /// How often a question had to be repeated.
    again: u32,
}

fn ask_all(args: &Args) -> io::Result<Summary> {
    let pool = Pool::new(args.at_once);
    let patience = Duration::from_millis(args.patience);
    let mut summary = Summary::default();
    for asked in pool.map(0..args.questions, |number| ask(&args.address, number, patience)) {
        match asked {
            Ok(attempts) => {
                summary.answered += 1;
                summary.again += attempts - 1;
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => summary.again += ATTEMPTS - 1,
            Err(error) => return Err(error),
        }
    }
    Ok(summary)
}

const ATTEMPTS: u32 = 5;

/// Asks until there is an answer; returns how often it did.
///
/// # Errors
///
/// `TimedOut` if none has come; `ConnectionRefused` if nobody is there.
fn ask(server: &str, number: u32, patience: Duration) -> io::Result<u32> {
    let socket = UdpSocket::bind(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    let question = number.to_be_bytes();
    for attempt in 1..=ATTEMPTS {
        socket.send(&question)?;
        let mut answer = [0; 5];
        match socket.recv(&mut answer) {
            Ok(count) if answer[..count] == question => return Ok(attempt),
            Ok(_) => return Err(io::Error::other("an answer to what was not asked")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn args(address: &str, words: &[&str]) -> Args {
        Args::parse_from([&["udp_echo", address], words].concat())
    }

    fn within_a_minute<T>(test: impl FnOnce() -> T) -> T {
        greenloom::with_timeout(Duration::from_secs(60), test).expect("it hangs")
    }

    #[test]
    fn runs() {
        let server = open(&args("127.0.0.1:0", &["--max-handlers", "3"])).unwrap();
        server.start();
        let address = server.local_addr().unwrap().to_string();
        let client = args(
            &address,
            &["--client", "--questions", "100", "--at-once", "10", "--patience", "5000"],
        );
        let summary = within_a_minute(|| ask_all(&client)).unwrap();
        assert_eq!(summary, Summary { answered: 100, again: 0 });
        assert!(within_a_minute(|| server.stop(Duration::from_secs(60))));
        assert_eq!(server.stats().finished, 100);
    }

    /// A server that hears only every third word.
    #[test]
    fn lost_questions_are_asked_again() {
        let heard = Cell::new(0);
        let server = DatagramServer::bind("127.0.0.1:0").unwrap().handle(
            move |socket: &UdpSocket, bytes: &[u8], peer| {
                heard.set(heard.get() + 1);
                if heard.get() % 3 == 0 { echo(socket, bytes, peer) } else { Ok(0) }
            },
        );
        server.start();
        let address = server.local_addr().unwrap().to_string();
        let client =
            args(&address, &["--client", "--questions", "2", "--at-once", "1", "--patience", "20"]);
        let summary = within_a_minute(|| ask_all(&client)).unwrap();
        assert_eq!(summary, Summary { answered: 2, again: 4 });
        server.stop(Duration::ZERO);
    }

    #[test]
    fn nobody_is_there() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let client = args(&free, &["--client", "--questions", "1"]);
        let error = within_a_minute(|| ask_all(&client)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
