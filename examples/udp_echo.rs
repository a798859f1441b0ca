//! Echo by UDP: what comes in goes back, a greenlet a datagram.
//!
//! ```text
//! cargo run --release --example udp_echo                 # listens on 127.0.0.1:8080
//! cargo run --release --example udp_echo -- --client     # in another terminal
//! ```
//!
//! Datagrams get lost, without a word: in the network, or because the server has its hands full. So
//! the client numbers what it sends, waits a little for each answer, and asks again.

#![expect(clippy::print_stderr, reason = "says why it cannot begin, or go on")]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use greenloom::pool::Pool;
use greenloom::server::DatagramServer;
use tracing::info;

#[path = "serving/mod.rs"]
mod serving;

/// How long those who are being answered may take when the server is told to stop.
const GRACE: Duration = Duration::from_secs(1);

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
    match if args.client { be_client(&args, &mut io::stdout()) } else { serve(&args) } {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("udp_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

// --------------------------------------------------------------------------------------- server

fn serve(args: &Args) -> Result<bool, String> {
    let (server, address) =
        open(args).map_err(|error| format!("cannot listen on {}: {error}", args.address))?;
    let log = serving::start_logging();
    let told = server.clone();
    serving::obey_signals(GRACE, move |grace, when| {
        info!("told to stop, {when}: {}", told.stats());
        told.stop(grace); // `serve_forever` returns when this has come to its end
    });
    info!("listening on {address}");
    server.serve_forever();
    info!("stopped: {}", server.stats());
    log.close();
    Ok(true)
}

/// The server, not yet started, and where it is.
fn open(args: &Args) -> io::Result<(DatagramServer, SocketAddr)> {
    let server = DatagramServer::bind(&args.address)?.max_handlers(args.max_handlers).handle(echo);
    let address = server.local_addr()?;
    Ok((server, address))
}

fn echo(socket: &UdpSocket, bytes: &[u8], peer: SocketAddr) -> io::Result<usize> {
    socket.send_to(bytes, peer)
}

// --------------------------------------------------------------------------------------- client

/// Prints the summary, and returns whether all was answered.
fn be_client(args: &Args, out: &mut impl Write) -> Result<bool, String> {
    let start = Instant::now();
    let Summary { answered, again } =
        ask_all(args).map_err(|error| format!("{}: {error}", args.address))?;
    let (took, asked) = (start.elapsed(), args.questions);
    let line = format!("{answered} of {asked} answered in {took:.2?}, {again} asked again");
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        // Whoever closes the pipe does not want to know.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot print: {error}"))
        }
        _ => Ok(answered == asked),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    answered: u32,
    /// How often a question had to be repeated.
    again: u32,
}

fn ask_all(args: &Args) -> io::Result<Summary> {
    let pool = Pool::new(args.at_once);
    let server: Vec<_> = args.address.to_socket_addrs()?.collect(); // once, and not a thousand times
    let patience = Duration::from_millis(args.patience);
    let mut summary = Summary::default();
    for asked in pool.map(0..args.questions, |number| ask(&server, number, patience)) {
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
fn ask(server: &[SocketAddr], number: u32, patience: Duration) -> io::Result<u32> {
    let is_v6 = server.iter().all(SocketAddr::is_ipv6);
    let socket = UdpSocket::bind(if is_v6 { "[::]:0" } else { "0.0.0.0:0" })?;
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
    use greenloom::net::{Resolve, set_resolver};
    use std::cell::Cell;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    fn args(address: &str, words: &[&str]) -> Args {
        Args::parse_from([&["udp_echo", address], words].concat())
    }

    fn within_a_minute<T>(test: impl FnOnce() -> T) -> T {
        greenloom::with_timeout(Duration::from_secs(60), test).expect("it hangs")
    }

    #[test]
    fn runs() {
        let (server, address) = open(&args("127.0.0.1:0", &["--max-handlers", "3"])).unwrap();
        server.start();
        let client = args(
            &address.to_string(),
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

    /// As with `| true`, and as on a disk that is full.
    #[test]
    fn nobody_reads_the_summary() {
        let (server, address) = open(&args("127.0.0.1:0", &[])).unwrap();
        server.start();
        let client = args(&address.to_string(), &["--client", "--questions", "1"]);
        let (mut closed, _) = UnixStream::pair().unwrap();
        assert_eq!(within_a_minute(|| be_client(&client, &mut closed)), Ok(true));
        let full = within_a_minute(|| be_client(&client, &mut &mut [0; 0][..]));
        assert!(full.unwrap_err().starts_with("cannot print: "));
        server.stop(Duration::ZERO);
    }

    /// Who looks names up may be slow, or tired of the same question.
    #[test]
    fn a_name_is_looked_up_once() {
        struct Counting(Rc<Cell<u32>>, SocketAddr);
        impl Resolve for Counting {
            fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                self.0.set(self.0.get() + 1);
                Ok(vec![self.1])
            }
        }
        let (server, address) = open(&args("127.0.0.1:0", &[])).unwrap();
        server.start();
        let count = Rc::new(Cell::new(0));
        set_resolver(Counting(Rc::clone(&count), address));
        let client = args("echo.example:7", &["--client", "--questions", "10"]);
        let summary = within_a_minute(|| ask_all(&client)).unwrap();
        assert_eq!((summary.answered, count.get()), (10, 1));
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
