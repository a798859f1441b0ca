//! Clients that behave, clients that do not, and servers that vanish.

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
    let (proxy, address) = open("127.0.0.1:0", rules, max_clients).unwrap();
    proxy.start();
    with_timeout(HANG, || test(address)).expect("it hangs");
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
