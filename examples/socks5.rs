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

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use greenloom::server::StreamServer;
use greenloom::signal::{self, SIGINT, SIGTERM};
use greenloom::{scope, with_timeout};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

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
    start_logging();
    let rules = Rules { user, patience: Duration::from_secs(patience.unsigned_abs()) };
    match open(&address, rules, max_clients) {
        Ok(server) => {
            stop_at_signals(&server);
            server.serve_forever();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("socks5: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Who is served, and how long it may take.
struct Rules {
    /// `None`: everybody.
    user: Option<User>,
    patience: Duration,
}

/// The server, not yet started.
fn open(address: &str, rules: Rules, max_clients: usize) -> io::Result<StreamServer> {
    let is_for_all = rules.user.is_none();
    let server = StreamServer::bind(address)?
        .max_connections(max_clients)
        .handle(move |client, peer| attend(&client, peer, &rules));
    let address = server.local_addr()?;
    info!("listening on {address}");
    if is_for_all && !address.ip().is_loopback() {
        warn!("whoever can reach {address} can use this proxy; --user asks for a password");
    }
    Ok(server)
}

/// The first signal lets those go on for a while who are inside, the second does not.
fn stop_at_signals(server: &StreamServer) {
    let grace = Rc::new(Cell::new(Duration::from_secs(5)));
    for signal in [SIGINT, SIGTERM] {
        let (server, grace) = (server.clone(), Rc::clone(&grace));
        signal::on(signal, move |_| {
            let grace = grace.take();
            info!("told to stop, in {grace:?}");
            server.stop(grace); // `serve_forever` returns when this has come to its end
        });
    }
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
        let mut bytes = vec![VERSION, self as u8, 0];
        match bound.ip() {
            IpAddr::V4(ip) => {
                bytes.push(V4);
                bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(V6);
                bytes.extend(ip.octets());
            }
        }
        bytes.extend(bound.port().to_be_bytes());
        bytes
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
    let result = io::copy(&mut &*from, &mut Counting { inner: to, count: &mut count });
    // An error here means that it is closed already.
    let _ = match result {
        Ok(_) => to.shutdown(Shutdown::Write),
        Err(_) => from.shutdown(Shutdown::Both).and(to.shutdown(Shutdown::Both)),
    };
    count
}

/// Counts what is written, also if the whole fails in the end.
struct Counting<'a> {
    inner: &'a TcpStream,
    count: &'a mut u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        *self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
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

// ------------------------------------------------------------------------------------- logging

/// Sends the log to standard error, at level `info` unless `RUST_LOG` says otherwise. A thread of its
/// own waits for the terminal, or all clients would.
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
    use greenloom::net::{Resolve, TcpListener, set_resolver};
    use greenloom::spawn;

    /// No test takes this long; one that does hangs.
    const HANG: Duration = Duration::from_secs(60);

    /// Runs `test` beside a proxy that is there for it alone.
    fn with_proxy(user: Option<&str>, test: impl FnOnce(SocketAddr)) {
        let user = user.map(|user| user.parse().unwrap());
        with_rules(Rules { user, patience: HANG }, 10, test);
    }

    fn with_rules(rules: Rules, max_clients: usize, test: impl FnOnce(SocketAddr)) {
        let proxy = open("127.0.0.1:0", rules, max_clients).unwrap();
        proxy.start();
        with_timeout(HANG, || test(proxy.local_addr().unwrap())).expect("it hangs");
        assert!(proxy.is_running(), "the proxy gave up");
        proxy.stop(Duration::ZERO);
    }

    /// A server that answers every byte, in upper case, until there are no more.
    fn shouter(address: &str) -> SocketAddr {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                spawn(move || -> io::Result<()> {
                    let mut buffer = [0; 4096];
                    loop {
                        let count = stream.read(&mut buffer)?;
                        if count == 0 {
                            return Ok(());
                        }
                        buffer.make_ascii_uppercase();
                        stream.write_all(&buffer[..count])?;
                    }
                });
            }
        });
        address
    }

    /// Where nobody listens; nobody else gets the port while we hold it.
    fn closed_door() -> (socket2::Socket, SocketAddr) {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    fn say(mut stream: &TcpStream, words: &[u8]) {
        stream.write_all(words).unwrap();
    }

    /// All that comes before the end, which must come.
    fn hear_out(mut stream: &TcpStream) -> Vec<u8> {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard
    }

    /// A request, without the greeting before it.
    fn request(command: u8, kind: u8, host: &[u8], port: u16) -> Vec<u8> {
        [&[VERSION, command, 0, kind], host, &port.to_be_bytes()].concat()
    }

    fn request_for(address: SocketAddr) -> Vec<u8> {
        match address.ip() {
            IpAddr::V4(ip) => request(CONNECT, V4, &ip.octets(), address.port()),
            IpAddr::V6(ip) => request(CONNECT, V6, &ip.octets(), address.port()),
        }
    }

    fn request_by_name(name: &str, port: u16) -> Vec<u8> {
        let host = [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
        request(CONNECT, NAME, &host, port)
    }

    /// Greets, and is welcome without questions.
    fn greet(proxy: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(proxy).unwrap();
        say(&stream, &[VERSION, 2, 1, NO_QUESTIONS]);
        assert_eq!(take(&stream).unwrap(), [VERSION, NO_QUESTIONS]);
        stream
    }

    /// Sends `request`, and returns the code and the address of the answer.
    fn ask(stream: &TcpStream, request: &[u8]) -> (u8, SocketAddr) {
        say(stream, request);
        let [version, code, _reserved, kind] = take(stream).unwrap();
        assert_eq!(version, VERSION);
        let ip = match kind {
            V4 => IpAddr::from(take::<4>(stream).unwrap()),
            V6 => IpAddr::from(take::<16>(stream).unwrap()),
            _ => panic!("the answer has an address of kind {kind}"),
        };
        (code, SocketAddr::new(ip, u16::from_be_bytes(take(stream).unwrap())))
    }

    /// Is refused so, and hears nothing else.
    fn assert_refused(proxy: SocketAddr, request: &[u8], answer: Answer) {
        let stream = greet(proxy);
        assert_eq!(ask(&stream, request).0, answer as u8);
        assert_eq!(hear_out(&stream), [0_u8; 0]);
    }

    fn assert_shouts(stream: &TcpStream) {
        say(stream, b"hello");
        assert_eq!(&take::<5>(stream).unwrap(), b"HELLO");
    }

    #[test]
    fn runs() {
        with_proxy(None, |proxy| {
            let server = shouter("127.0.0.1:0");
            let stream = greet(proxy);
            let (code, bound) = ask(&stream, &request_for(server));
            assert_eq!(code, 0);
            assert!(bound.ip().is_loopback() && bound != server);
            assert_shouts(&stream);
            // Who has no more to say still hears the rest.
            say(&stream, b"bye");
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(hear_out(&stream), b"BYE");
        });
    }

    #[test]
    fn by_name() {
        with_proxy(None, |proxy| {
            let server = shouter("127.0.0.1:0");
            for name in ["localhost", "127.0.0.1"] {
                let stream = greet(proxy);
                assert_eq!(ask(&stream, &request_by_name(name, server.port())).0, 0);
                assert_shouts(&stream);
            }
        });
    }

    #[test]
    fn to_ipv6() {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            return; // this machine has none
        }
        with_proxy(None, |proxy| {
            let server = shouter("[::1]:0");
            let stream = greet(proxy);
            let (code, bound) = ask(&stream, &request_for(server));
            assert_eq!((code, bound.is_ipv6()), (0, true));
            assert_shouts(&stream);
        });
    }

    /// All that a client says may come in one piece, with the first words for the server behind it.
    #[test]
    fn all_at_once() {
        with_proxy(None, |proxy| {
            let server = shouter("127.0.0.1:0");
            let stream = TcpStream::connect(proxy).unwrap();
            say(&stream, &[&[VERSION, 1, NO_QUESTIONS][..], &request_for(server), b"now"].concat());
            stream.shutdown(Shutdown::Write).unwrap();
            let heard = hear_out(&stream);
            assert_eq!(heard[..4], [VERSION, NO_QUESTIONS, VERSION, 0]);
            assert_eq!(heard[heard.len() - 3..], *b"NOW");
        });
    }

    /// More than all buffers on the way hold, both ways at the same time.
    #[test]
    fn a_long_talk() {
        with_proxy(None, |proxy| {
            let server = shouter("127.0.0.1:0");
            let stream = greet(proxy);
            ask(&stream, &request_for(server));
            let words: Vec<u8> = (0..8_000_000).map(|at: usize| b'a' + (at % 26) as u8).collect();
            let heard = scope(|s| {
                s.spawn(|| {
                    say(&stream, &words);
                    stream.shutdown(Shutdown::Write).unwrap();
                });
                hear_out(&stream)
            });
            assert!(heard == words.to_ascii_uppercase(), "{} bytes", heard.len());
        });
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        /// Knows one host, where nobody listens.
        struct Hosts(SocketAddr);
        impl Resolve for Hosts {
            fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                match host {
                    "closed.example" => Ok(vec![self.0; 2]),
                    _ => Err(io::Error::other(format!("who is {host}?"))),
                }
            }
        }
        with_proxy(None, |proxy| {
            let (_door, closed) = closed_door();
            set_resolver(Hosts(closed));
            assert_refused(proxy, &request_for(closed), Answer::Refused);
            assert_refused(proxy, &request_by_name("closed.example", 80), Answer::Refused);
            for nobody in ["nowhere.example", ""] {
                let request = request_by_name(nobody, 80);
                assert_refused(proxy, &request, Answer::HostUnreachable);
            }
        });
    }

    #[test]
    fn what_it_does_not_do_is_refused() {
        with_proxy(None, |proxy| {
            let server = shouter("127.0.0.1:0");
            let (bind, udp_associate) = (2, 3);
            for command in [0, bind, udp_associate, 77] {
                let request = request(command, V4, &[127, 0, 0, 1], server.port());
                assert_refused(proxy, &request, Answer::UnknownCommand);
            }
            let strange = request(CONNECT, 2, &[1; 300], 80);
            assert_refused(proxy, &strange, Answer::UnknownAddress);
            let no_text = request(CONNECT, NAME, &[2, 0xFF, 0xFE], 80);
            assert_refused(proxy, &no_text, Answer::Failure);
            let mut other_version = request_for(server);
            other_version[0] = 4;
            assert_refused(proxy, &other_version, Answer::Failure);
        });
    }

    /// It hears nothing: neither this proxy nor version 4 has an answer to that.
    #[test]
    fn who_speaks_something_else_is_sent_away() {
        with_proxy(None, |proxy| {
            for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 127, 0, 0, 1, 0]] {
                let stream = TcpStream::connect(proxy).unwrap();
                say(&stream, words);
                assert_eq!(hear_out(&stream), [0_u8; 0]);
            }
        });
    }

    #[test]
    fn who_knows_the_password_is_served() {
        with_proxy(Some("alice:open:sesame"), |proxy| {
            let server = shouter("127.0.0.1:0");
            let stream = TcpStream::connect(proxy).unwrap();
            say(&stream, &[VERSION, 2, NO_QUESTIONS, PASSWORD]);
            assert_eq!(take(&stream).unwrap(), [VERSION, PASSWORD]);
            say(&stream, b"\x01\x05alice\x0bopen:sesame");
            assert_eq!(take(&stream).unwrap(), [PASSWORD_VERSION, WELCOME]);
            assert_eq!(ask(&stream, &request_for(server)).0, 0);
            assert_shouts(&stream);
        });
    }

    #[test]
    fn who_does_not_know_the_password_is_not() {
        with_proxy(Some("alice:secret"), |proxy| {
            let guesses: [&[u8]; 4] = [
                b"\x01\x05alice\x05wrong",
                b"\x01\x03bob\x06secret",
                b"\x01\x00\x00",
                b"\x02\x05alice\x06secret",
            ];
            for guess in guesses {
                let stream = TcpStream::connect(proxy).unwrap();
                say(&stream, &[VERSION, 1, PASSWORD]);
                assert_eq!(take(&stream).unwrap(), [VERSION, PASSWORD]);
                say(&stream, guess);
                assert_eq!(hear_out(&stream), [PASSWORD_VERSION, WRONG]);
            }
        });
    }

    #[test]
    fn whom_it_cannot_agree_with_is_told() {
        let gssapi = 1;
        with_proxy(Some("alice:secret"), |proxy| {
            for methods in [&[][..], &[NO_QUESTIONS], &[gssapi, NO_QUESTIONS]] {
                assert_no_method(proxy, methods);
            }
        });
        with_proxy(None, |proxy| {
            for methods in [&[][..], &[PASSWORD], &[gssapi, PASSWORD]] {
                assert_no_method(proxy, methods);
            }
        });
    }

    fn assert_no_method(proxy: SocketAddr, methods: &[u8]) {
        let stream = TcpStream::connect(proxy).unwrap();
        say(&stream, &[&[VERSION, methods.len() as u8], methods].concat());
        assert_eq!(hear_out(&stream), [VERSION, NONE_OF_THESE]);
    }

    #[test]
    fn who_dawdles_is_sent_away() {
        let rules = Rules { user: None, patience: Duration::from_millis(20) };
        with_rules(rules, 10, |proxy| {
            let silent = TcpStream::connect(proxy).unwrap();
            let half_a_word = TcpStream::connect(proxy).unwrap();
            say(&half_a_word, &[VERSION, 3, NO_QUESTIONS]);
            assert_eq!(hear_out(&silent), [0_u8; 0]);
            assert_eq!(hear_out(&half_a_word), [0_u8; 0]);
        });
    }

    /// When one side is lost, so is the other.
    #[test]
    fn who_vanishes_leaves_nothing_behind() {
        with_proxy(None, |proxy| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let stream = greet(proxy);
            ask(&stream, &request_for(address));
            let (server, _) = listener.accept().unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream); // by a reset
            assert_eq!(hear_out(&server), [0_u8; 0]);
        });
    }

    #[test]
    fn who_finds_no_room_waits_at_the_door() {
        let rules = Rules { user: None, patience: HANG };
        with_rules(rules, 1, |proxy| {
            let server = shouter("127.0.0.1:0");
            let first = greet(proxy);
            ask(&first, &request_for(server));
            let second = TcpStream::connect(proxy).unwrap();
            say(&second, &[VERSION, 1, NO_QUESTIONS]);
            // The first is served all the while, and the second hears nothing.
            for _ in 0..10 {
                assert_shouts(&first);
            }
            second.set_nonblocking(true).unwrap();
            assert_eq!(second.peek(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            second.set_nonblocking(false).unwrap();
            drop(first);
            assert_eq!(take(&second).unwrap(), [VERSION, NO_QUESTIONS]);
        });
    }

    #[test]
    fn users_are_read_from_the_command_line() {
        let user = |text: &str| text.parse::<User>();
        let alice = User { name: "alice".into(), password: "a:b".into() };
        assert_eq!(user("alice:a:b"), Ok(alice));
        let long = format!("alice:{}", "x".repeat(256));
        for wrong in ["alice", "alice:", ":secret", "", &long] {
            assert!(user(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
