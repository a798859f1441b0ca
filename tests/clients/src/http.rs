//! ureq, with and without TLS. The server is of threads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::monkey_util::alone;
use crate::{all_at_once, assert_squares, serve, square};

/// Answers requests for `/number`, each when all have asked, until the visitor leaves.
pub(crate) fn attend<S: Read + Write>(stream: S, barrier: &Barrier) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        while stream.read_line(&mut String::new()).unwrap() > "\r\n".len() {}
        let number = request.split(' ').nth(1).unwrap().trim_start_matches('/').parse().unwrap();
        barrier.wait();
        let body = square(number).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // In two pieces, so that it takes two calls to read it.
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        stream.get_mut().write_all(body.as_bytes()).unwrap();
        stream.get_mut().flush().unwrap();
    }
}

/// A server that talks TLS, at `localhost`, and its certificate.
pub(crate) fn serve_tls() -> (SocketAddr, rcgen::Certificate) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let server = serve(move |stream, barrier| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        attend(StreamOwned::new(session, stream), barrier);
    });
    (server, made.cert)
}

pub(crate) fn get(agent: &Agent, url: &str) -> Result<usize, ureq::Error> {
    Ok(agent.get(url).call()?.body_mut().read_to_string()?.parse().unwrap())
}

/// Keeps all connections, for all of them to meet again on these.
pub(crate) fn agent(tls: TlsConfig) -> Agent {
    let config = Agent::config_builder().proxy(None).tls_config(tls);
    config.max_idle_connections(1000).max_idle_connections_per_host(1000).build().into()
}

/// With two rounds: new connections, and those that were kept.
#[track_caller]
fn check(origin: String, agent: Agent) {
    let ask = move |number| get(&agent, &format!("{origin}/{number}")).unwrap();
    assert_squares(&all_at_once(ask.clone()));
    assert_squares(&all_at_once(ask));
}

alone! {
    fn ureq_http() {
        let server = serve(attend::<TcpStream>);
        check(format!("http://{server}"), agent(TlsConfig::default()));
    }

    /// By name, which a thread looks up.
    fn ureq_http_by_name() {
        let server = serve(attend::<TcpStream>);
        check(format!("http://localhost:{}", server.port()), agent(TlsConfig::default()));
    }

    fn ureq_https() {
        let (server, certificate) = serve_tls();
        let certificate = Certificate::from_der(certificate.der()).to_owned();
        let roots = RootCerts::from(vec![certificate]);
        let agent = agent(TlsConfig::builder().root_certs(roots).build());
        check(format!("https://localhost:{}", server.port()), agent);
    }
}
