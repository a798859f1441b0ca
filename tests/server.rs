//! Servers.

mod util;

use std::io::{Read, Write};
use std::time::Duration;

use greenloom::net::TcpStream;
use greenloom::server::StreamServer;
use util::{MINUTE, within};

#[test]
fn smoke() {
    within(MINUTE, || {
        let server = StreamServer::bind("127.0.0.1:0")
            .unwrap()
            .handle(|mut stream: TcpStream, _| stream.write_all(b"hello"));
        server.start();
        let mut greeting = String::new();
        let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        stream.read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, "hello");
        assert!(server.stop(Duration::from_secs(1)));
        assert_eq!(server.stats().finished, 1);
    });
}
