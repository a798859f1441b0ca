//! The smallest thing that shows the whole: std's blocking sockets, read and written by greenlets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use greenloom::{dump, idle, monkey, spawn};

mod monkey_util;
use monkey_util::alone;

alone! {
    fn smoke() {
        monkey::patch_all();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let reader = spawn(move || {
            let mut buf = [0; 5];
            other.read_exact(&mut buf).unwrap();
            other.write_all(&buf).unwrap();
            buf
        });
        idle();
        assert_eq!(dump().greenlets()[1].reason.as_deref(), Some("recv"));
        one.write_all(b"hello").unwrap();
        let mut buf = [0; 5];
        one.read_exact(&mut buf).unwrap();
        assert_eq!(reader.get().unwrap(), *b"hello");
    }
}
