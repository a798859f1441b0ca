//! Clients that are waited for no longer. What ends their waits is an error to them, whether they are
//! written in Rust or in C, and they clean up as they do for any error.

use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Barrier, Mutex};
use std::{io, net::SocketAddr};

use ::curl::easy::Easy;
use greenloom::{JoinError, spawn, with_timeout};
use ureq::tls::TlsConfig;

use crate::monkey_util::{alone, ms};
use crate::{CLIENTS, all_at_once, curl, http, serve};

/// A server that hears and never answers. It tells of each visitor who has gone.
fn silent() -> (SocketAddr, Receiver<()>) {
    let (gone, left) = mpsc::channel();
    let gone = Mutex::new(gone);
    let server = serve(move |mut stream: TcpStream, _: &Barrier| {
        io::copy(&mut stream, &mut io::sink()).ok();
        gone.lock().unwrap().send(()).unwrap();
    });
    (server, left)
}

alone! {
    /// Each is told that its time is over, and each connection is closed.
    fn ureq_times_out() {
        let (server, left) = silent();
        let over = all_at_once(move |_| {
            let agent = http::agent(TlsConfig::default());
            with_timeout(ms(100), || http::get(&agent, &format!("http://{server}/"))).is_err()
        });
        assert_eq!(over, [true; CLIENTS]);
        assert_eq!(left.iter().take(CLIENTS).count(), CLIENTS);
    }

    fn libcurl_times_out() {
        let (server, left) = silent();
        let over = all_at_once(move |_| {
            let url = format!("http://{server}/");
            with_timeout(ms(100), || curl::get(&mut Easy::new(), &url)).is_err()
        });
        assert_eq!(over, [true; CLIENTS]);
        assert_eq!(left.iter().take(CLIENTS).count(), CLIENTS);
    }

    /// A kill is raised when libcurl has come to its end.
    fn libcurl_is_killed() {
        let (server, left) = silent();
        let killed = all_at_once(move |_| {
            let url = format!("http://{server}/");
            let asks = spawn(move || {
                let error = curl::get(&mut Easy::new(), &url).unwrap_err();
                greenloom::yield_now();
                panic!("it was killed, and runs on: {error}");
            });
            greenloom::sleep(ms(50));
            asks.kill();
            matches!(asks.get(), Err(JoinError::Killed))
        });
        assert_eq!(killed, [true; CLIENTS]);
        assert_eq!(left.iter().take(CLIENTS).count(), CLIENTS);
    }
}
