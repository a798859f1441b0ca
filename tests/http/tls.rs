//! rustls over our streams, unchanged: `StreamOwned<_, TcpStream>`, and https by the agent.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use greenloom::http;
use greenloom::http::ureq::tls::{Certificate, RootCerts, TlsConfig};
use greenloom::http::ureq::{Agent, Error, Proxy};
use greenloom::net::{SocketAddr, TcpListener, TcpStream};
use greenloom::server::StreamServer;
use greenloom::spawn;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::agent::connect_proxy;
use crate::server::Server;
use crate::util::{End, HOUR, MINUTE, end_of, ms, until, until_parked, within};

// ------------------------------------------------------------------------------- who is who

/// A certificate for `localhost` that nobody has signed but itself, and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    server: Arc<ServerConfig>,
}

/// One and the same for all tests.
fn localhost() -> &'static Identity {
    static LOCALHOST: OnceLock<Identity> = OnceLock::new();
    LOCALHOST.get_or_init(|| {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], PrivateKeyDer::from(key))
            .unwrap();
        Identity { certificate, server: Arc::new(server) }
    })
}

/// Trusts `localhost`, and nobody else.
fn trusting() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(localhost().certificate.clone()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn trusting_nobody() -> Arc<ClientConfig> {
    let roots = RootCertStore::empty();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

type Serving = StreamOwned<ServerConnection, TcpStream>;
type Visiting = StreamOwned<ClientConnection, TcpStream>;

fn serving(stream: TcpStream) -> Serving {
    StreamOwned::new(ServerConnection::new(localhost().server.clone()).unwrap(), stream)
}

fn visiting(config: Arc<ClientConfig>, name: &str, address: SocketAddr) -> Visiting {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(config, name).unwrap();
    StreamOwned::new(session, TcpStream::connect(address).unwrap())
}

/// Shakes hands; what came of it.
fn handshake(stream: &mut Visiting) -> io::Result<()> {
    stream.conn.complete_io(&mut stream.sock).map(drop)
}

/// Sends back what it hears, and says goodbye.
fn echo(stream: TcpStream) -> io::Result<()> {
    let mut stream = serving(stream);
    let mut heard = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut heard)?;
        if count == 0 {
            stream.conn.send_close_notify();
            return stream.flush();
        }
        stream.write_all(&heard[..count])?;
    }
}

/// A server of [`echo`], and how its handlers ended.
fn echo_server() -> (StreamServer, SocketAddr, Rc<RefCell<Vec<Option<ErrorKind>>>>) {
    let ends = Rc::new(RefCell::new(Vec::new()));
    let server = StreamServer::bind("127.0.0.1:0").unwrap().handle({
        let ends = ends.clone();
        move |stream, _| {
            let end = echo(stream);
            ends.borrow_mut().push(end.err().map(|error| error.kind()));
        }
    });
    server.start();
    let address = server.local_addr().unwrap();
    (server, address, ends)
}

fn tls_error(error: &io::Error) -> &rustls::Error {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref())
        .unwrap_or_else(|| panic!("not an error of TLS: {error}"))
}

// ---------------------------------------------------------------------------- plain sockets

/// 1 MiB there and back, and each side hears the other's goodbye.
#[test]
fn a_mebibyte_both_ways() {
    within(MINUTE, || {
        let (_server, address, ends) = echo_server();
        let mut stream = visiting(trusting(), "localhost", address);
        let all: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 253) as u8).collect();
        let mut back = vec![0; 16 * 1024];
        for piece in all.chunks(back.len()) {
            stream.write_all(piece).unwrap();
            stream.read_exact(&mut back).unwrap();
            assert!(back == piece);
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        assert_eq!(stream.read(&mut back).unwrap(), 0, "a proper end");
        until(|| ends.borrow().len() == 1);
        assert_eq!(ends.take(), [None]);
    });
}

#[test]
fn many_at_once() {
    const MANY: usize = 50;
    within(MINUTE, || {
        let (server, address, ends) = echo_server();
        let config = trusting();
        let clients: Vec<_> = (0..MANY)
            .map(|number| {
                let config = config.clone();
                spawn(move || {
                    let mut stream = visiting(config, "localhost", address);
                    let words = number.to_string().repeat(1000);
                    stream.write_all(words.as_bytes()).unwrap();
                    let mut back = vec![0; words.len()];
                    stream.read_exact(&mut back).unwrap();
                    assert!(back == words.as_bytes());
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                })
            })
            .collect();
        for client in clients {
            client.get().unwrap();
        }
        until(|| ends.borrow().len() == MANY);
        assert!(ends.borrow().iter().all(Option::is_none), "{ends:?}");
        assert_eq!(server.stats().finished, MANY as u64);
    });
}

/// Who goes without a goodbye may have been cut off, and TLS says so.
#[test]
fn an_end_without_goodbye() {
    within(MINUTE, || {
        let (_server, address, ends) = echo_server();
        let mut stream = visiting(trusting(), "localhost", address);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        drop(stream);
        until(|| ends.borrow().len() == 1);
        assert_eq!(ends.take(), [Some(ErrorKind::UnexpectedEof)]);
    });
}

#[test]
fn the_wrong_name() {
    within(MINUTE, || {
        let (_server, address, ends) = echo_server();
        let error = handshake(&mut visiting(trusting(), "example.org", address)).unwrap_err();
        let tls = tls_error(&error);
        assert!(tls.to_string().contains("not valid for name"), "{tls}");
        until(|| ends.borrow().len() == 1);
        assert_eq!(ends.take(), [Some(ErrorKind::InvalidData)], "it was told by an alert");
    });
}

#[test]
fn an_unknown_issuer() {
    within(MINUTE, || {
        let (_server, address, _) = echo_server();
        let error = handshake(&mut visiting(trusting_nobody(), "localhost", address)).unwrap_err();
        let expected = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(*tls_error(&error), expected);
    });
}

/// gevent's V8: a handshake that fails ends that connection, and the next is served.
#[test]
fn a_handshake_that_fails_is_contained() {
    within(MINUTE, || {
        let (server, address, ends) = echo_server();
        // No TLS at all, nothing at all, a good beginning, and a client that trusts nobody.
        TcpStream::connect(address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        drop(TcpStream::connect(address).unwrap());
        TcpStream::connect(address).unwrap().write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        assert!(handshake(&mut visiting(trusting_nobody(), "localhost", address)).is_err());

        let mut good = visiting(trusting(), "localhost", address);
        good.write_all(b"still there?").unwrap();
        let mut back = [0; 12];
        good.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"still there?");
        drop(good);
        until(|| ends.borrow().len() == 5);
        assert!(ends.borrow().iter().all(Option::is_some), "{ends:?}");
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.finished), (5, 5), "none of them panicked");
    });
}

/// Killed while it waits for the other's part of the handshake, on either side.
#[test]
fn a_kill_in_the_middle_of_a_handshake() {
    within(MINUTE, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let client = spawn(move || handshake(&mut visiting(trusting(), "localhost", address)));
        let (mut there, _) = listener.accept().unwrap();
        until_parked(client.id());
        client.kill();
        assert!(matches!(client.get(), Err(error) if error.is_killed()));
        let mut hello = Vec::new();
        there.read_to_end(&mut hello).unwrap();
        assert_eq!(hello[0], 22, "a handshake had begun");

        let mut there = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let server = spawn(move || echo(stream));
        there.write_all(&hello[..hello.len() / 2]).unwrap();
        until_parked(server.id());
        server.kill();
        assert!(matches!(server.get(), Err(error) if error.is_killed()));
        // It had not said anything yet, so the end is all there is.
        assert_eq!(there.read(&mut [0; 9]).unwrap_or(0), 0);
    });
}

/// A limit to reading is ours, and rustls hands it on; afterwards the session is as good as before.
#[test]
fn a_limit_to_reading() {
    within(MINUTE, || {
        let (_server, address, _) = echo_server();
        let mut stream = visiting(trusting(), "localhost", address);
        handshake(&mut stream).unwrap();
        stream.sock.set_read_timeout(Some(ms(20))).unwrap();
        let mut back = [0; 4];
        assert_eq!(stream.read(&mut back).unwrap_err().kind(), ErrorKind::TimedOut);
        stream.sock.set_read_timeout(Some(HOUR)).unwrap();
        stream.write_all(b"more").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"more");
    });
}

// -------------------------------------------------------------------------- https by the agent

fn agent(roots: RootCerts, proxy: Option<Proxy>) -> Agent {
    let tls = TlsConfig::builder().root_certs(roots).build();
    http::agent_with(Agent::config_builder().proxy(proxy).tls_config(tls).build())
}

/// Trusts what [`localhost`] says.
fn trusting_agent(proxy: Option<Proxy>) -> Agent {
    let ours = Certificate::from_der(&localhost().certificate).to_owned();
    agent(RootCerts::from(vec![ours]), proxy)
}

/// Answers requests with `body`, by https.
fn https_server(body: &'static str) -> Server {
    Server::start(move |visit, _| {
        let mut stream = serving(visit.stream.clone());
        let mut heard = [0; 4096];
        while stream.read(&mut heard)? > 0 {
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
        Ok(())
    })
}

fn get(agent: &Agent, server: &Server, host: &str) -> Result<String, Error> {
    let url = format!("https://{host}:{}/", server.address.port());
    agent.get(url).call()?.body_mut().read_to_string()
}

#[test]
fn https_by_the_agent() {
    within(MINUTE, || {
        let server = https_server("secret");
        let agent = trusting_agent(None);
        for _ in 0..3 {
            assert_eq!(get(&agent, &server, "127.0.0.1").unwrap(), "secret");
        }
        assert_eq!(server.accepted(), 1, "connections are kept");
        drop(agent);
        until(|| server.open() == 0);
    });
}

#[test]
fn https_that_is_not_to_be_trusted() {
    within(MINUTE, || {
        let server = https_server("secret");
        let why = |result: Result<String, Error>| match result {
            Err(Error::Io(error)) => tls_error(&error).to_string(),
            other => panic!("{other:?}"),
        };
        let unknown = why(get(&agent(RootCerts::WebPki, None), &server, "127.0.0.1"));
        assert!(unknown.contains("UnknownIssuer"), "{unknown}");
        // The same server by another name.
        let name = why(get(&trusting_agent(None), &server, "[::ffff:127.0.0.1]"));
        assert!(name.contains("not valid for name"), "{name}");
    });
}

/// The proxy sees where to, and nothing else.
#[test]
fn https_through_a_proxy() {
    within(MINUTE, || {
        let server = https_server("secret");
        let asked = Rc::new(RefCell::new(Vec::new()));
        let proxy = connect_proxy(asked.clone(), &server);
        let through = Proxy::new(&format!("http://{}", proxy.address)).unwrap();
        let page = get(&trusting_agent(Some(through)), &server, "localhost").unwrap();
        assert_eq!(page, "secret");
        let port = server.address.port();
        assert_eq!(asked.take(), [format!("CONNECT localhost:{port} HTTP/1.1")]);
    });
}

/// Killed in the handshake, in the request or in the answer: the connection is gone each time.
#[test]
fn https_killed() {
    within(MINUTE, || {
        let silent = Server::start(|visit, _| {
            visit.until_gone();
            Ok(())
        });
        let mute = Server::start(|visit, _| {
            let mut stream = serving(visit.stream.clone());
            let _ = io::copy(&mut stream, &mut io::sink());
            Ok(())
        });
        let agent = trusting_agent(None);
        for server in [&silent, &mute] {
            let (agent, address) = (agent.clone(), server.address);
            let client = spawn(move || {
                let url = format!("https://{address}/");
                agent.get(url).call().map(drop)
            });
            until(|| server.open() == 1);
            // So that both have done what they can without the other.
            greenloom::idle();
            until_parked(client.id());
            client.kill();
            assert!(matches!(end_of(client), End::Killed));
            until(|| server.open() == 0);
        }
    });
}
