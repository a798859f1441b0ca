//! An echo server that shouts, and its client, over TLS: rustls on greenloom's streams, unchanged.
//!
//! ```text
//! cargo run --example tls_echo                                   # both, in one process
//! cargo run --example tls_echo -- serve --certificate cert.pem   # in one terminal
//! cargo run --example tls_echo -- ask --certificate cert.pem     # in another; type something
//! openssl s_client -quiet -connect 127.0.0.1:8443 -CAfile cert.pem   # or by somebody else's client
//! ```
//!
//! `rustls::StreamOwned` wants something to read from and to write to, and a greenloom `TcpStream`
//! is that. Where rustls waits for its peer, in a handshake or in the middle of a message, it is a
//! greenlet that waits, and the others of the thread run on.

#![expect(clippy::print_stderr, reason = "says why it cannot go on")]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, result};

use clap::{Parser, Subcommand};
use greenloom::net::{TcpStream, ToSocketAddrs};
use greenloom::server::StreamServer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tracing::{info, warn};

#[path = "serving/mod.rs"]
mod serving;

/// How long visitors may go on when the server is told to stop.
const GRACE: Duration = Duration::from_secs(1);

type Result<T> = result::Result<T, Box<dyn Error>>;

/// Echoes lines in upper case, over TLS. Without a command it does both sides, in one process.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a certificate, write it where clients find it, and serve until ^C
    Serve {
        /// Where to listen; with port 0 the system picks one, and the log says which
        #[arg(default_value = "127.0.0.1:8443")]
        address: String,
        /// Where to write the certificate
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Send the lines of standard input, and print what comes back
    Ask {
        /// Where the server listens
        #[arg(default_value = "127.0.0.1:8443")]
        address: String,
        /// The only certificate to trust
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Whose certificate that must be
        #[arg(long, default_value = "localhost")]
        name: String,
    },
}

fn main() -> ExitCode {
    let out = &mut io::stdout();
    let done = match Args::parse().command {
        None => show(3, out),
        Some(Command::Serve { address, certificate }) => serve(&address, &certificate),
        Some(Command::Ask { address, certificate, name }) => {
            connect_to(&address, &certificate, &name)
                .and_then(|mut server| ask(&mut server, io::stdin().lock(), out))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. `false`: nobody wants any more of them.
fn print(out: &mut impl Write, line: &str) -> Result<bool> {
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot print: {error}").into()),
    }
}

/// Server and clients in one thread.
fn show(clients: usize, out: &mut impl Write) -> Result<()> {
    let identity = Identity::of_localhost()?;
    let server = open("127.0.0.1:0", &identity)?;
    server.start();
    let address = server.local_addr()?;
    let clients: Vec<_> = (1..=clients)
        .map(|number| {
            let config = trusting(identity.certificate.clone());
            greenloom::spawn(move || -> io::Result<String> {
                let mut server = connect(config?, "localhost", address)?;
                let answer = question(&mut server, &format!("client {number} says hello"))?;
                goodbye(&mut server)?;
                Ok(answer)
            })
        })
        .collect();
    for client in clients {
        if !print(out, &client.get()??)? {
            break;
        }
    }
    server.stop(Duration::from_secs(1));
    Ok(())
}

// ------------------------------------------------------------------------------------ the server

/// Who the server is: a certificate made on the spot, and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    /// The same as files have it.
    pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    fn of_localhost() -> Result<Identity> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        Ok(Identity { certificate, pem: made.cert.pem(), config: Arc::new(config) })
    }
}

fn serve(address: &str, certificate: &Path) -> Result<()> {
    let identity = Identity::of_localhost()?;
    let file = certificate.display();
    let server =
        open(address, &identity).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    fs::write(certificate, &identity.pem)
        .map_err(|error| format!("cannot write {file}: {error}"))?;
    let address = server.local_addr()?;
    let log = serving::start_logging();
    let told = server.clone();
    serving::obey_signals(GRACE, move |grace, when| {
        info!("told to stop, {when}: {}", told.stats());
        told.stop(grace); // `serve_forever` returns when this has come to its end
    });
    info!("listening on {address}; trust {file}");
    server.serve_forever();
    info!("stopped: {}", server.stats());
    log.close();
    Ok(())
}

/// The server, not yet started. A greenlet for each connection, and the handshake is done in there: one that fails, or takes its
/// time, is nobody else's business.
fn open(address: &str, identity: &Identity) -> io::Result<StreamServer> {
    let config = Arc::clone(&identity.config);
    let server = StreamServer::bind(address)?.idle_timeout(Duration::from_secs(60));
    Ok(server.handle(move |stream, peer| {
        if let Err(error) = attend(stream, &config) {
            warn!(%peer, %error, "connection lost");
        }
    }))
}

fn attend(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream); // shakes hands at the first read
    let mut heard = [0; 4096];
    loop {
        let count = stream.read(&mut heard)?;
        if count == 0 {
            stream.conn.send_close_notify();
            return stream.flush();
        }
        heard[..count].make_ascii_uppercase();
        stream.write_all(&heard[..count])?;
    }
}

// ----------------------------------------------------------------------------------- the client

type Server = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn connect_to(address: &str, certificate: &Path, name: &str) -> Result<Server> {
    let pem = CertificateDer::from_pem_file(certificate)
        .map_err(|error| format!("cannot use {}: {error}", certificate.display()))?;
    Ok(connect(trusting(pem)?, name, address).map_err(|error| format!("{address}: {error}"))?)
}

/// There is nobody else in this thread, so `lines` and `out` may block it.
fn ask(server: &mut Server, lines: impl BufRead, out: &mut impl Write) -> Result<()> {
    for line in lines.lines() {
        if !print(out, &question(server, &line?)?)? {
            break;
        }
    }
    Ok(goodbye(server)?)
}

/// Trusts this certificate and no other.
fn trusting(certificate: CertificateDer<'static>) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(io::Error::other)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Connects and shakes hands, so that what is wrong with the certificate is known at once.
fn connect(
    config: Arc<ClientConfig>,
    name: &str,
    address: impl ToSocketAddrs,
) -> io::Result<Server> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, TcpStream::connect(address)?);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(BufReader::new(stream))
}

/// One line there, and one back.
fn question(server: &mut Server, line: &str) -> io::Result<String> {
    writeln!(server.get_mut(), "{line}")?;
    let mut answer = String::new();
    match server.read_line(&mut answer)? {
        0 => Err(io::Error::other("the server hung up")),
        _ => Ok(answer.trim_end().to_owned()),
    }
}

/// Says that this is the end, and hears the same: what ends without that has been cut off.
fn goodbye(server: &mut Server) -> io::Result<()> {
    server.get_mut().conn.send_close_notify();
    server.get_mut().flush()?;
    match server.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came back than was sent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const HANG: Duration = Duration::from_secs(60);

    #[test]
    fn runs() {
        let mut out = Vec::new();
        greenloom::with_timeout(HANG, || show(20, &mut out)).expect("it hangs").unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().count(), 20);
        assert!(out.ends_with("\nCLIENT 20 SAYS HELLO\n"), "{out}");
    }

    /// As with `| head -1`, and as on a disk that is full.
    #[test]
    fn nobody_reads_what_was_said() {
        let show = |mut out: &mut dyn Write| {
            greenloom::with_timeout(HANG, || show(3, &mut out)).expect("it hangs")
        };
        let (mut closed, _) = UnixStream::pair().unwrap();
        show(&mut closed).unwrap();
        let error = show(&mut &mut [0; 0][..]).unwrap_err().to_string();
        assert!(error.starts_with("cannot print: "), "{error}");
    }

    #[test]
    fn lines_are_answered_until_there_are_no_more() {
        let identity = Identity::of_localhost().unwrap();
        let server = open("127.0.0.1:0", &identity).unwrap();
        server.start();
        let mut out = Vec::new();
        greenloom::with_timeout(HANG, || -> Result<()> {
            let config = trusting(identity.certificate)?;
            let mut stream = connect(config, "localhost", server.local_addr()?)?;
            ask(&mut stream, &b"one\ntwo"[..], &mut out)
        })
        .expect("it hangs")
        .unwrap();
        assert_eq!(out, b"ONE\nTWO\n");
        server.stop(Duration::ZERO);
    }

    /// As with the other servers and clients.
    #[test]
    fn the_address_needs_no_option() {
        for command in ["serve", "ask"] {
            let words = ["tls_echo", command, "127.0.0.1:9", "--certificate", "cert.pem"];
            let (Some(Command::Serve { address, .. }) | Some(Command::Ask { address, .. })) =
                Args::try_parse_from(words).unwrap().command
            else {
                panic!("there is a command");
            };
            assert_eq!(address, "127.0.0.1:9");
        }
    }

    fn why(certificate: CertificateDer<'static>, name: &str, server: &StreamServer) -> String {
        let address = server.local_addr().unwrap();
        let connected = greenloom::with_timeout(HANG, || {
            connect(trusting(certificate).unwrap(), name, address).map(drop)
        });
        connected.expect("it hangs").unwrap_err().to_string()
    }

    /// The client says what is wrong, and the server goes on.
    #[test]
    fn certificates_that_do_not_fit() {
        let identity = Identity::of_localhost().unwrap();
        let server = open("127.0.0.1:0", &identity).unwrap();
        server.start();
        let name = why(identity.certificate.clone(), "example.org", &server);
        assert!(name.contains("not valid for name"), "{name}");
        let other = Identity::of_localhost().unwrap();
        let issuer = why(other.certificate, "localhost", &server);
        assert!(issuer.contains("invalid peer certificate"), "{issuer}");

        let config = trusting(identity.certificate).unwrap();
        let mut good = connect(config, "localhost", server.local_addr().unwrap()).unwrap();
        assert_eq!(question(&mut good, "still there?").unwrap(), "STILL THERE?");
        goodbye(&mut good).unwrap();
        server.stop(HANG);
        assert_eq!(server.stats().finished, 3);
    }
}
