//! A SOCKS proxy: it connects its clients to wherever they ask for (RFC 1928, and the names and
//! passwords of RFC 1929).
//!
//! ```text
//! cargo run --example socks5
//! curl --proxy socks5h://127.0.0.1:1080 http://example.org/       # in another terminal
//!
//! cargo run --example socks5 -- 127.0.0.1:1080 --user alice:secret
//! curl --proxy socks5h://alice:secret@127.0.0.1:1080 http://example.org/
//! ```
//!
//! Every client has a greenlet, by `StreamServer`, which reads its words one after the other, as the
//! protocol lists them: there is no state to keep between two of them but where the program stands.
//! One `with_timeout` around a whole conversation is enough to be rid of those who dawdle.

#![expect(clippy::print_stderr, reason = "says why it cannot begin, also where nothing is logged")]

use std::fmt;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use greenloom::server::StreamServer;
use greenloom::{scope, with_timeout};
use tracing::{info, warn};

#[path = "../serving/mod.rs"]
mod serving;
#[cfg(test)]
mod tests;

/// How long those who are inside may go on when the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Connects its clients to wherever they ask for: SOCKS version 5.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; with port 0 the system picks one, and the log says which
    #[arg(default_value = "127.0.0.1:1080")]
    address: String,
    /// Serve only those who know this name and password
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<User>,
    /// How many clients are served at a time; more have to wait
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = at_least_one())]
    max_clients: usize,
    /// How many seconds a client may take to say what it wants, and a server to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = 1..)]
    patience: i64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn main() -> ExitCode {
    let Args { address, user, max_clients, patience } = Args::parse();
    let log = serving::start_logging();
    let is_for_all = user.is_none();
    let rules = Rules { user, patience: Duration::from_secs(patience.unsigned_abs()) };
    let opened = open(&address, rules, max_clients);
    match &opened {
        Ok((server, address)) => {
            let told = server.clone();
            serving::obey_signals(GRACE, move |grace, when| {
                info!("told to stop, {when}: {}", told.stats());
                told.stop(grace); // `serve_forever` returns when this has come to its end
            });
            info!("listening on {address}");
            if is_for_all && !address.ip().is_loopback() {
                warn!("whoever can reach {address} can use this proxy; --user asks for a password");
            }
            server.serve_forever();
            info!("stopped: {}", server.stats());
        }
        Err(error) => eprintln!("socks5: cannot listen on {address}: {error}"),
    }
    log.close();
    if opened.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Who is served, and how long it may take.
struct Rules {
    /// `None`: everybody.
    user: Option<User>,
    patience: Duration,
}

/// The server, not yet started, and where it is.
fn open(address: &str, rules: Rules, max_clients: usize) -> io::Result<(StreamServer, SocketAddr)> {
    let server = StreamServer::bind(address)?
        .max_connections(max_clients)
        .handle(move |client, peer| attend(&client, peer, &rules));
    let address = server.local_addr()?;
    Ok((server, address))
}

/// One client, from hello to the end. The connections close when they are dropped.
fn attend(client: &TcpStream, peer: SocketAddr, rules: &Rules) {
    match negotiate(client, rules) {
        Ok((target, server)) => {
            info!(%peer, "connected to {target}");
            let (up, down) = relay(client, &server);
            info!(%peer, up, down, "{target} is done");
        }
        Err(refusal) => {
            info!(%peer, "sent away: {}", refusal.why);
            dismiss(client, &refusal.answer);
        }
    }
}

/// From the first word to a connection.
fn negotiate(mut client: &TcpStream, rules: &Rules) -> Result<(Target, TcpStream), Refusal> {
    let talk = || {
        introduce(client, rules.user.as_ref())?;
        Target::read(client)
    };
    let target = with_timeout(rules.patience, talk)
        .unwrap_or_else(|_| Err(Refusal::new([], "it took too long to say what it wants")))?;

    let server = with_timeout(rules.patience, || target.connect())
        .unwrap_or_else(|elapsed| Err((Answer::HostUnreachable, elapsed.into())))
        .map_err(|(answer, error)| {
            Refusal::new(answer.encode(None), format!("{target}: {error}"))
        })?;
    client.write_all(&Answer::Granted.encode(Some(server.local_addr()?)))?;
    Ok((target, server))
}

// --------------------------------------------------------------------------------- the protocol

const VERSION: u8 = 5;
const CONNECT: u8 = 1;

/// Ways to say who one is.
const NO_QUESTIONS: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_OF_THESE: u8 = 0xFF;

/// The version of the talk about names and passwords, and its two answers.
const PASSWORD_VERSION: u8 = 1;
const WELCOME: u8 = 0;
const WRONG: u8 = 1;

/// Kinds of addresses.
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// The answers to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Granted = 0,
    Failure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    UnknownCommand = 7,
    UnknownAddress = 8,
}

impl Answer {
    /// As it is sent; `bound` is our end of the connection, if there is one.
    fn encode(self, bound: Option<SocketAddr>) -> Vec<u8> {
        let bound = bound.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let (kind, ip) = match bound.ip() {
            IpAddr::V4(ip) => (V4, ip.octets().to_vec()),
            IpAddr::V6(ip) => (V6, ip.octets().to_vec()),
        };
        [&[VERSION, self as u8, 0, kind], &ip[..], &bound.port().to_be_bytes()].concat()
    }

    /// What to say of a connection that failed so.
    fn of(error: &io::Error) -> Answer {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Answer::Refused,
            io::ErrorKind::NetworkUnreachable => Answer::NetworkUnreachable,
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Answer::HostUnreachable,
            io::ErrorKind::PermissionDenied => Answer::NotAllowed,
            _ => Answer::Failure,
        }
    }
}

/// Why a client is sent away, and the last it hears.
#[derive(Debug)]
struct Refusal {
    answer: Vec<u8>,
    why: String,
}

impl Refusal {
    fn new(answer: impl Into<Vec<u8>>, why: impl Into<String>) -> Refusal {
        Refusal { answer: answer.into(), why: why.into() }
    }
}

/// The connection failed; there is nobody to answer to.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::new([], error.to_string())
    }
}

/// How to greet is agreed on, and whoever has to say who he is has said so.
fn introduce(mut client: &TcpStream, user: Option<&User>) -> Result<(), Refusal> {
    let [version] = take(client)?;
    if version != VERSION {
        return Err(Refusal::new([], format!("it does not speak version 5, but {version}")));
    }
    let methods = take_short(client)?;
    let method = if user.is_some() { PASSWORD } else { NO_QUESTIONS };
    if !methods.contains(&method) {
        let why = if user.is_some() { "it has no password" } else { "it wants to be asked" };
        return Err(Refusal::new([VERSION, NONE_OF_THESE], why));
    }
    client.write_all(&[VERSION, method])?;

    let Some(user) = user else { return Ok(()) };
    let [version] = take(client)?;
    if version != PASSWORD_VERSION {
        return Err(Refusal::new([PASSWORD_VERSION, WRONG], "it says its password otherwise"));
    }
    let (name, password) = (take_short(client)?, take_short(client)?);
    if (name, password) != (user.name.as_bytes().into(), user.password.as_bytes().into()) {
        return Err(Refusal::new([PASSWORD_VERSION, WRONG], "a wrong name or password"));
    }
    client.write_all(&[PASSWORD_VERSION, WELCOME])?;
    Ok(())
}

/// What a client wants to be connected to.
#[derive(Debug)]
enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

impl Target {
    fn read(client: &TcpStream) -> Result<Target, Refusal> {
        let refuse = |answer: Answer, why: String| Err(Refusal::new(answer.encode(None), why));

        let [version, command, _reserved, kind] = take(client)?;
        if version != VERSION {
            return refuse(Answer::Failure, format!("a request of version {version}"));
        }
        let host = match kind {
            V4 => Ok(IpAddr::from(Ipv4Addr::from(take::<4>(client)?))),
            V6 => Ok(IpAddr::from(Ipv6Addr::from(take::<16>(client)?))),
            NAME => Err(take_short(client)?),
            _ => return refuse(Answer::UnknownAddress, format!("an address of kind {kind}")),
        };
        let port = u16::from_be_bytes(take(client)?);
        if command != CONNECT {
            return refuse(Answer::UnknownCommand, format!("command {command} is not CONNECT"));
        }
        match host.map_err(String::from_utf8) {
            Ok(ip) => Ok(Target::Address(SocketAddr::new(ip, port))),
            Err(Ok(name)) => Ok(Target::Name(name, port)),
            Err(Err(_)) => refuse(Answer::Failure, String::from("a name that is no text")),
        }
    }

    /// The connection, or what to tell the client and why.
    fn connect(&self) -> Result<TcpStream, (Answer, io::Error)> {
        match self {
            Target::Address(address) => TcpStream::connect(address),
            // Of several addresses the first that answers.
            Target::Name(name, port) => TcpStream::connect((name.as_str(), *port)),
        }
        .map_err(|error| match (self, Answer::of(&error)) {
            // A name that could not be looked up; the system itself has seen no error.
            (Target::Name(..), Answer::Failure) if error.raw_os_error().is_none() => {
                (Answer::HostUnreachable, error)
            }
            (_, answer) => (answer, error),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name(name, port) => write!(f, "{}:{port}", name.escape_default()),
        }
    }
}

/// So many bytes. One by one as they are due, and not through a buffer: what comes after the last of
/// them is for the server.
fn take<const N: usize>(mut client: &TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// As many bytes as the first one says.
fn take_short(mut client: &TcpStream) -> io::Result<Vec<u8>> {
    let [len] = take(client)?;
    let mut bytes = vec![0; len.into()];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The one who may use the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    password: String,
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<User, &'static str> {
        let (name, password) = text.split_once(':').ok_or("there is no colon in it")?;
        // One byte says how long each is.
        if [name, password].iter().any(|word| word.is_empty() || word.len() > 255) {
            return Err("name and password have 1 to 255 bytes each");
        }
        Ok(User { name: name.into(), password: password.into() })
    }
}

// --------------------------------------------------------------------------------- after the talk

/// Passes on what either side says, until both have no more to say. Returns how many bytes went up
/// to the server, and down to the client.
fn relay(client: &TcpStream, server: &TcpStream) -> (u64, u64) {
    scope(|s| {
        let up = s.spawn(|| pour(client, server));
        let down = pour(server, client);
        (up.get().unwrap_or(0), down)
    })
}

/// Copies to the end of `from`, and passes that on, too. If either side is lost, both are.
fn pour(from: &TcpStream, to: &TcpStream) -> u64 {
    let mut count = 0;
    let copied = copy(from, to, &mut count);
    // An error here means that it is closed already.
    let _ = match copied {
        Ok(()) => to.shutdown(Shutdown::Write),
        Err(_) => from.shutdown(Shutdown::Both).and(to.shutdown(Shutdown::Both)),
    };
    count
}

/// As `io::copy`, which does not say how much it was if it fails in the end.
fn copy(mut from: &TcpStream, mut to: &TcpStream, count: &mut u64) -> io::Result<()> {
    let mut buffer = [0; 8 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
        *count += read as u64;
    }
}

/// Tells a client why it is not served, and hears it out for a second: if anything it said were left
/// unread, the kernel would end the connection by a reset, and the answer could be lost.
fn dismiss(client: &TcpStream, answer: &[u8]) {
    let _ = with_timeout(Duration::from_secs(1), || -> io::Result<()> {
        let mut client = client;
        client.write_all(answer)?;
        client.shutdown(Shutdown::Write)?;
        io::copy(&mut client, &mut io::sink()).map(drop)
    });
}
