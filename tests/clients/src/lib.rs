//! Clients that know nothing of greenlets: fifty of each at the same time, on one thread.
//!
//! ```text
//! apt-get install redis-server mariadb-server-core postgresql    # as root, once
//! apt-get install pkg-config libcurl4-openssl-dev libpq-dev
//! cd tests/clients && cargo test
//! ```
//!
//! That they are there at the same time is shown without a clock: their server answers nobody before
//! it has heard all of them. Where the server is one that nobody here wrote, it is asked itself how
//! many wait. A client that stopped the thread would wait for ever, and the test would say that it
//! hangs.
//!
//! The crates and the C libraries are as they were published, and built as by anybody else.

#![cfg(test)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;

use greenloom::{Greenlet, monkey, spawn};

#[path = "../../monkey_util/mod.rs"]
mod monkey_util;
#[path = "../../../examples/monkey_db/servers.rs"]
mod servers;

mod cancelled;
mod curl;
mod databases;
mod ftp;
mod http;
mod postgres;
mod websocket;

/// So many clients of each kind.
const CLIENTS: usize = 50;

/// A greenlet for each client. Returns what they have brought, in order.
fn all_at_once<T: 'static>(client: impl Fn(usize) -> T + Clone + 'static) -> Vec<T> {
    monkey::patch_all();
    let greenlets: Vec<Greenlet<T>> = (0..CLIENTS)
        .map(|number| {
            let client = client.clone();
            spawn(move || client(number))
        })
        .collect();
    greenlets.into_iter().map(|greenlet| greenlet.get().expect("it ends well")).collect()
}

/// What client `number` is to be told, by whatever server. It tells one from the other.
fn square(number: usize) -> usize {
    number * number
}

#[track_caller]
fn assert_squares(answers: &[usize]) {
    assert!(answers.iter().copied().eq((0..CLIENTS).map(square)), "{answers:?}");
}

/// A server that knows nothing of greenlets either: a thread for each visitor. `attend` is to hear
/// what the visitor wants, then to wait at the barrier, where all others are awaited, and then to
/// answer.
fn serve(attend: impl Fn(TcpStream, &Barrier) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it has an address");
    let shared = Arc::new((attend, Barrier::new(CLIENTS)));
    thread::spawn(move || {
        for visitor in listener.incoming() {
            let (visitor, shared) = (visitor.expect("one comes"), Arc::clone(&shared));
            thread::spawn(move || (shared.0)(visitor, &shared.1));
        }
    });
    address
}
