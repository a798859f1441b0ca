//! ureq's client and rustls's TLS on our sockets.

#[path = "../util/mod.rs"]
mod util;

mod agent;
mod server;
mod tls;
