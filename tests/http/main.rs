//! ureq's client and rustls's TLS on our sockets.

#[path = "../net_util/mod.rs"]
mod net_util;
#[path = "../util/mod.rs"]
mod util;

mod agent;
mod leak;
mod server;
mod tls;
