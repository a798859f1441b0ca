//! The smallest thing that shows the whole: std's blocking sockets, read and written by greenlets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use greenloom::{Elapsed, dump, idle, monkey, sleep, spawn, with_timeout};

mod monkey_util;
use monkey_util::{alone, ms};

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

alone! {
    fn a_timeout_that_ended_a_call_by_an_error_is_not_forgotten() {
        monkey::patch_all();
        let (_here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        let ended = with_timeout(ms(1), || there.read(&mut [0; 1]).unwrap_err().raw_os_error());
        assert_eq!(ended, Err(Elapsed));
        // Nor is one of further out, by one that is nested.
        let ended = with_timeout(ms(1), || {
            let inner = with_timeout(ms(60_000), || there.read(&mut [0; 1]).is_err());
            assert_eq!(inner, Ok(true));
            sleep(ms(60_000));
        });
        assert_eq!(ended, Err(Elapsed));
    }

    fn one_that_is_not_heeded_does_not_make_a_loop_spin() {
        monkey::patch_all();
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        let writer = spawn(move || {
            sleep(ms(20));
            here.write_all(b"!").unwrap();
        });
        let mut attempts = 0;
        let ended = with_timeout(ms(1), || {
            loop {
                attempts += 1;
                if let Ok(read) = there.read(&mut [0; 1]) {
                    break read;
                }
            }
        });
        assert_eq!((ended, attempts), (Err(Elapsed), 9), "eight errors, and then it waits");
        writer.join();
    }
}
