//! `net::TcpListener` and `net::TcpStream`: every method of std's types, and what only shows when
//! many greenlets share one thread: parking, lines of waiters, timeouts, kills, budgets.

mod net_util;

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use greenloom::net::{Shutdown, SocketAddr, TcpListener, TcpOptions, TcpStream};
use greenloom::{joinall, scope, spawn, with_timeout, yield_now};
use net_util::{
    ask, eventually, finish, hang_guard, ms, our_pair, pair, until_parked, upper_case_echo,
};
use socket2::SockRef;

/// After so many calls that need not wait, the next one lets the others run (H5).
const BUDGET: usize = 128;

/// More than the kernel buffers for one connection that nobody reads.
const MORE_THAN_BUFFERS: usize = 64 << 20;

fn loopback() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// An address that refuses connections and goes on doing so as long as the socket is kept: its port
/// is taken, but nobody listens.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// Bytes in which a lost, doubled or exchanged one shows.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Waits until `len` bytes lie ready in `stream`, so that no read of them has to wait.
fn until_arrived(stream: &TcpStream, len: usize) {
    let mut buf = vec![0; len];
    eventually(|| stream.peek(&mut buf).unwrap() == len);
}

fn read_byte(mut stream: &TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let server = spawn(move || {
        let (stream, peer) = listener.accept().unwrap();
        upper_case_echo(stream).unwrap();
        peer
    });
    let mut client = TcpStream::connect(addr).unwrap();
    assert_eq!(ask(&client, "hello"), "HELLO");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.get().unwrap(), client.local_addr().unwrap());
}

// ── std's methods, one by one ──

#[test]
fn addresses_of_both_ends_agree() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let client = TcpStream::connect(addr).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(client.peer_addr().unwrap(), addr);
    assert_eq!(server.local_addr().unwrap(), addr);
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(peer, client.local_addr().unwrap());
}

#[test]
fn a_bound_port_cannot_be_bound_again() {
    let (_listener, addr) = loopback();
    assert_eq!(TcpListener::bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn a_port_can_be_bound_again_while_old_connections_linger() {
    let _guard = hang_guard();
    let bind_again = || {
        let (listener, addr) = loopback();
        let client = TcpStream::connect(addr).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first keeps the port in TIME_WAIT.
        drop(server);
        drop(listener);
        drop(client);
        TcpListener::bind(addr)
    };
    // Another test may get the free port before us, but not every time.
    assert!((0..10).any(|_| bind_again().is_ok()));
}

#[test]
fn bind_takes_the_first_address_that_can_be_bound() {
    let (_listener, taken) = loopback();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let bound = TcpListener::bind(&[taken, any][..]).unwrap();
    assert_ne!(bound.local_addr().unwrap(), taken);
}

#[test]
fn incoming_yields_one_connection_after_the_other() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let server = spawn(move || {
        for stream in listener.incoming().take(3) {
            upper_case_echo(stream.unwrap()).unwrap();
        }
    });
    for word in ["one", "two", "three"] {
        let client = TcpStream::connect(addr).unwrap();
        assert_eq!(ask(&client, word), word.to_uppercase());
    }
    server.get().unwrap();
}

#[test]
fn ipv6() {
    let _guard = hang_guard();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // This machine has no IPv6, for nobody.
    }
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let addr = listener.local_addr().unwrap();
    assert!(addr.is_ipv6());
    let server = spawn(move || upper_case_echo(listener.accept().unwrap().0).unwrap());
    let client = TcpStream::connect(addr).unwrap();
    assert!(client.peer_addr().unwrap().ip().is_loopback());
    assert_eq!(ask(&client, "six"), "SIX");
    drop(client);
    server.get().unwrap();
}

#[test]
fn a_refused_port_is_an_error_of_connect() {
    let _guard = hang_guard();
    let (_socket, addr) = refusing();
    let refused = ErrorKind::ConnectionRefused;
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), refused);
    assert_eq!(TcpStream::connect_timeout(&addr, ms(10_000)).unwrap_err().kind(), refused);
}

#[test]
fn connect_tries_one_address_after_the_other() {
    let _guard = hang_guard();
    let (_socket, refused) = refusing();
    let (_listener, open) = loopback();
    let stream = TcpStream::connect(&[refused, open][..]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
    let last_error = TcpStream::connect(&[refused, refused][..]).unwrap_err();
    assert_eq!(last_error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn no_address_at_all_is_invalid_input() {
    let none: &[SocketAddr] = &[];
    assert_eq!(TcpStream::connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(TcpListener::bind(none).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn names_resolve_as_in_std() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let server = spawn(move || upper_case_echo(listener.accept().unwrap().0).unwrap());
    let client = TcpStream::connect(("localhost", addr.port())).unwrap();
    assert_eq!(ask(&client, "name"), "NAME");
    drop(client);
    server.get().unwrap();
}

#[test]
fn connect_timeout_connects() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let client = TcpStream::connect_timeout(&addr, ms(10_000)).unwrap();
    let (server, _) = listener.accept().unwrap();
    (&server).write_all(b"!").unwrap();
    assert_eq!(read_byte(&client).unwrap(), b'!');
}

#[test]
fn connect_timeout_gives_up_in_time_and_not_before() {
    let _guard = hang_guard();
    let full = FullListener::new();
    let start = Instant::now();
    let error = TcpStream::connect_timeout(&full.addr, ms(30)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= ms(30));
}

#[test]
fn zero_timeouts_are_invalid_input() {
    let _guard = hang_guard();
    let (_listener, addr) = loopback();
    let connect = TcpStream::connect_timeout(&addr, Duration::ZERO).unwrap_err();
    assert_eq!(connect.kind(), ErrorKind::InvalidInput);
    let (stream, _peer) = pair();
    for refused in [
        stream.set_read_timeout(Some(Duration::ZERO)),
        stream.set_write_timeout(Some(Duration::ZERO)),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(stream.read_timeout().unwrap(), None);
    assert_eq!(stream.write_timeout().unwrap(), None);
}

#[test]
fn timeouts_read_back_as_they_were_set() {
    let (stream, _peer) = pair();
    stream.set_read_timeout(Some(ms(1_500))).unwrap();
    stream.set_write_timeout(Some(ms(2_500))).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), Some(ms(1_500)));
    assert_eq!(stream.write_timeout().unwrap(), Some(ms(2_500)));
    stream.set_read_timeout(None).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), None);
    assert_eq!(stream.write_timeout().unwrap(), Some(ms(2_500)));
}

#[test]
fn peek_leaves_the_bytes_where_they_are() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = pair();
    let peeker = spawn({
        let stream = stream.try_clone().unwrap();
        move || {
            let mut seen = [0; 8];
            let len = stream.peek(&mut seen).unwrap();
            seen[..len].to_vec()
        }
    });
    until_parked(&peeker);
    peer.write_all(b"abc").unwrap();
    assert_eq!(peeker.get().unwrap(), b"abc");
    let mut read = [0; 3];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"abc");
}

#[test]
fn options_read_back_as_they_were_set() {
    let (listener, _) = loopback();
    let (stream, _peer) = pair();
    assert!(!stream.nodelay().unwrap());
    stream.set_nodelay(true).unwrap();
    assert!(stream.nodelay().unwrap());
    stream.set_ttl(42).unwrap();
    assert_eq!(stream.ttl().unwrap(), 42);
    listener.set_ttl(43).unwrap();
    assert_eq!(listener.ttl().unwrap(), 43);
}

#[test]
fn a_healthy_socket_has_no_error() {
    let (listener, _) = loopback();
    let (stream, _peer) = pair();
    assert!(stream.take_error().unwrap().is_none());
    assert!(listener.take_error().unwrap().is_none());
}

#[test]
fn take_error_takes_what_the_peer_did() {
    let _guard = hang_guard();
    let (stream, peer) = pair();
    reset(&stream, peer);
    let mut found = None;
    eventually(|| {
        found = stream.take_error().unwrap();
        found.is_some()
    });
    assert_eq!(found.unwrap().kind(), ErrorKind::ConnectionReset);
    assert!(stream.take_error().unwrap().is_none());
}

#[test]
fn a_socket_set_nonblocking_never_parks() {
    let _guard = hang_guard();
    let (listener, _) = loopback();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    let (mut stream, mut peer) = pair();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let chunk = vec![0; 1 << 20];
    let full = loop {
        if let Err(error) = stream.write_all(&chunk) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);

    stream.set_nonblocking(false).unwrap();
    let reader = spawn(move || {
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| byte[0])
    });
    until_parked(&reader);
    peer.write_all(b"x").unwrap();
    assert_eq!(reader.get().unwrap().unwrap(), b'x');
}

#[test]
fn vectored_reads_and_writes_use_all_their_buffers() {
    let _guard = hang_guard();
    let (mut ours, mut theirs) = our_pair();
    let parts = [IoSlice::new(b"green"), IoSlice::new(b""), IoSlice::new(b"loom")];
    assert_eq!(ours.write_vectored(&parts).unwrap(), 9);
    until_arrived(&theirs, 9);
    let (mut head, mut tail) = ([0; 4], [0; 8]);
    let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    assert_eq!(theirs.read_vectored(&mut buffers).unwrap(), 9);
    assert_eq!((&head, &tail[..5]), (b"gree", &b"nloom"[..]));
    // By reference too.
    assert_eq!((&theirs).write_vectored(&[IoSlice::new(b"re")]).unwrap(), 2);
    assert_eq!((&ours).read_vectored(&mut [IoSliceMut::new(&mut head)]).unwrap(), 2);
}

#[test]
fn more_buffers_than_the_system_takes_are_no_error() {
    // std gives the system as many as it takes, and so do we.
    let _guard = hang_guard();
    let (mut ours, mut theirs) = pair();
    let parts = [IoSlice::new(b"x"); 3000];
    let sent = ours.write_vectored(&parts).unwrap();
    assert!((1..=3000).contains(&sent), "{sent}");
    let mut room = vec![[0]; 3000];
    let mut buffers: Vec<_> = room.iter_mut().map(|byte| IoSliceMut::new(byte)).collect();
    let got = theirs.read_vectored(&mut buffers).unwrap();
    assert!((1..=sent).contains(&got), "{got}");
}

#[test]
fn a_shared_reference_reads_and_writes() {
    let _guard = hang_guard();
    let (ours, theirs) = our_pair();
    let echo = spawn(move || io::copy(&mut &theirs, &mut &theirs).unwrap());
    (&ours).write_all(b"first\nsecond\n").unwrap();
    (&ours).flush().unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let lines: Vec<String> = BufReader::new(&ours).lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["first", "second"]);
    assert_eq!(echo.get().unwrap(), 13);
}

#[test]
fn a_clone_is_the_same_socket_with_the_same_settings() {
    let _guard = hang_guard();
    let (mut stream, peer) = our_pair();
    let clone = stream.try_clone().unwrap();
    clone.set_read_timeout(Some(ms(20))).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), Some(ms(20)));
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(clone.peer_addr().unwrap(), stream.peer_addr().unwrap());
    // The connection stays open until the last of them is dropped.
    drop(clone);
    stream.write_all(b"still here").unwrap();
    drop(stream);
    let mut text = String::new();
    (&peer).read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
}

#[test]
fn a_listener_and_its_clone_accept_from_one_line() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let clone = listener.try_clone().unwrap();
    let on_clone = spawn(move || clone.accept().unwrap().1);
    until_parked(&on_clone);
    let first = TcpStream::connect(addr).unwrap();
    assert_eq!(on_clone.get().unwrap(), first.local_addr().unwrap());
    let second = TcpStream::connect(addr).unwrap();
    assert_eq!(listener.accept().unwrap().1, second.local_addr().unwrap());
}

#[test]
fn descriptors_go_in_and_out() {
    let _guard = hang_guard();
    let (ours, mut peer) = pair();
    let number = ours.as_raw_fd();
    assert_eq!(ours.as_fd().as_raw_fd(), number);
    let owned = OwnedFd::from(ours);
    assert_eq!(owned.as_raw_fd(), number);
    let mut ours = TcpStream::from(owned);
    peer.write_all(b"x").unwrap();
    ours.read_exact(&mut [0]).unwrap();

    let (listener, addr) = loopback();
    let number = listener.as_raw_fd();
    assert_eq!(listener.as_fd().as_raw_fd(), number);
    let listener = TcpListener::from(OwnedFd::from(listener));
    assert_eq!(listener.as_raw_fd(), number);
    assert_eq!(listener.local_addr().unwrap(), addr);

    // Left open on purpose: whoever takes the number is to close it.
    assert_eq!(listener.into_raw_fd(), number);
    assert!(std::net::TcpStream::connect(addr).is_ok());
    let number = ours.as_raw_fd();
    assert_eq!(ours.into_raw_fd(), number);
    assert!(peer.write_all(b"x").is_ok());
}

#[test]
fn a_stream_that_was_std_s_parks_greenlets_and_not_the_thread() {
    let _guard = hang_guard();
    let (ours, mut peer) = pair();
    let std_stream: std::net::TcpStream = ours.into_std().unwrap();
    let mut ours = TcpStream::from(std_stream);
    let reader = spawn(move || {
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        byte[0]
    });
    until_parked(&reader);
    peer.write_all(b"y").unwrap();
    assert_eq!(reader.get().unwrap(), b'y');
}

#[test]
fn a_listener_that_was_std_s_parks_greenlets_and_not_the_thread() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let std_listener: std::net::TcpListener = listener.into_std().unwrap();
    let listener = TcpListener::from(std_listener);
    let acceptor = spawn(move || listener.accept().unwrap().1);
    until_parked(&acceptor);
    let client = TcpStream::connect(addr).unwrap();
    assert_eq!(acceptor.get().unwrap(), client.local_addr().unwrap());
}

#[test]
fn a_stream_that_becomes_std_s_blocks() {
    let _guard = hang_guard();
    for convert in [std::net::TcpStream::from, |ours: TcpStream| ours.into_std().unwrap()] {
        let (ours, mut peer) = pair();
        let reader = spawn({
            let ours = ours.try_clone().unwrap();
            move || (&ours).read(&mut [0]).unwrap()
        });
        until_parked(&reader);
        reader.kill(); // It has waited once; that must not show any more.
        let mut std_stream = convert(ours);
        std_stream.set_read_timeout(Some(ms(20))).unwrap();
        let start = Instant::now();
        assert_eq!(std_stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= ms(20), "a blocking socket waits out its timeout");
        peer.write_all(b"z").unwrap();
        std_stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_listener_that_becomes_std_s_blocks() {
    let _guard = hang_guard();
    for convert in [std::net::TcpListener::from, |ours: TcpListener| ours.into_std().unwrap()] {
        let (listener, addr) = loopback();
        let std_listener = convert(listener);
        let acceptor = thread::spawn(move || std_listener.accept().unwrap().1);
        let client = TcpStream::connect(addr).unwrap();
        assert_eq!(finish(acceptor), client.local_addr().unwrap());
    }
}

// ── Parking: one waits, the others go on ──

#[test]
fn a_reader_waits_without_stopping_the_others() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = pair();
    let reader = spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    for part in ["one", "two"] {
        until_parked(&reader);
        peer.write_all(part.as_bytes()).unwrap();
    }
    drop(peer);
    assert_eq!(reader.get().unwrap(), "onetwo");
}

#[test]
fn accept_waits_without_stopping_the_others() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let acceptor = spawn(move || listener.accept().unwrap().1);
    until_parked(&acceptor);
    let client = std::net::TcpStream::connect(addr).unwrap();
    assert_eq!(acceptor.get().unwrap(), client.local_addr().unwrap());
}

#[test]
fn connect_waits_without_stopping_the_others() {
    let _guard = hang_guard();
    let full = FullListener::new();
    let addr = full.addr;
    let connecting = spawn(move || TcpStream::connect(addr).unwrap().local_addr().unwrap());
    until_parked(&connecting);
    // Room again: the kernel lets the next attempt in.
    let listener = full.into_empty();
    let client = connecting.get().unwrap();
    assert!(listener.incoming().any(|stream| stream.unwrap().peer_addr().unwrap() == client));
}

#[test]
fn a_peer_that_never_reads_stops_only_its_writer() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = pair();
    let writer = spawn(move || stream.write_all(&vec![7; MORE_THAN_BUFFERS]));
    until_parked(&writer);

    let (ours, theirs) = our_pair();
    let echo = spawn(move || upper_case_echo(theirs).unwrap());
    for word in ["does", "no", "harm"] {
        assert_eq!(ask(&ours, word), word.to_uppercase());
    }
    drop(ours);
    echo.get().unwrap();
    assert!(!writer.is_finished());

    let reader = thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    writer.get().unwrap().unwrap();
    assert_eq!(finish(reader), MORE_THAN_BUFFERS as u64);
}

#[test]
fn a_peer_that_sends_one_byte_at_a_time_is_understood() {
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    let echo = spawn(move || upper_case_echo(stream).unwrap());
    let line = "slowly, but all of it\n";
    let slow = thread::spawn(move || {
        peer.set_nodelay(true).unwrap();
        for byte in line.bytes() {
            peer.write_all(&[byte]).unwrap();
            let mut answer = [0];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(answer[0], byte.to_ascii_uppercase());
        }
    });
    let (ours, theirs) = our_pair();
    let other_echo = spawn(move || upper_case_echo(theirs).unwrap());
    assert_eq!(ask(&ours, "quick"), "QUICK");
    drop(ours);
    finish(slow);
    joinall([&echo, &other_echo]);
    assert!(echo.is_successful() && other_echo.is_successful());
}

#[test]
fn half_close_ends_one_direction_only() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = pair();
    let server = spawn(move || {
        let mut question = String::new();
        stream.read_to_string(&mut question).unwrap();
        stream.write_all(question.to_uppercase().as_bytes()).unwrap();
    });
    until_parked(&server);
    peer.write_all(b"no more from me").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    server.get().unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "NO MORE FROM ME");
}

/// Makes the peer reset the connection: what it has not read is answered so when it closes.
fn reset(mut stream: &TcpStream, peer: std::net::TcpStream) {
    stream.write_all(b"never read").unwrap();
    peer.peek(&mut [0]).unwrap();
    drop(peer);
}

#[test]
fn a_peer_that_resets_wakes_the_reader_with_an_error() {
    let _guard = hang_guard();
    let (stream, peer) = pair();
    let reader = spawn({
        let stream = stream.try_clone().unwrap();
        move || (&stream).read(&mut [0]).map_err(|error| error.kind())
    });
    until_parked(&reader);
    reset(&stream, peer);
    assert_eq!(reader.get().unwrap(), Err(ErrorKind::ConnectionReset));
    let write = (&stream).write(b"x").map_err(|error| error.kind());
    assert_eq!(write, Err(ErrorKind::BrokenPipe));
}

#[test]
fn a_peer_that_vanishes_wakes_the_writer_with_an_error() {
    let _guard = hang_guard();
    let (mut stream, peer) = pair();
    let writer = spawn(move || stream.write_all(&vec![7; MORE_THAN_BUFFERS]));
    until_parked(&writer);
    drop(peer);
    let error = writer.get().unwrap().unwrap_err().kind();
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

#[test]
fn wait_readable_returns_when_a_read_would_not_wait() {
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    let stream = Rc::new(stream);
    let watch = || {
        let stream = Rc::clone(&stream);
        spawn(move || stream.wait_readable().unwrap())
    };
    let watcher = watch();
    until_parked(&watcher);
    peer.write_all(b"data").unwrap();
    watcher.get().unwrap();
    // It took nothing, and with data there it does not wait.
    stream.wait_readable().unwrap();
    let mut data = [0; 4];
    (&*stream).read_exact(&mut data).unwrap();
    assert_eq!(&data, b"data");
    // With the data read, it waits again; the end of the stream counts as readable.
    let watcher = watch();
    until_parked(&watcher);
    drop(peer);
    watcher.get().unwrap();
    assert_eq!((&*stream).read(&mut data).unwrap(), 0);
}

// ── Timeouts ──

#[test]
fn a_read_times_out_not_early_and_the_socket_stays_usable() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = pair();
    stream.set_read_timeout(Some(ms(30))).unwrap();
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= ms(30));
    }
    assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    peer.write_all(b"late").unwrap();
    stream.set_read_timeout(None).unwrap();
    let mut late = [0; 4];
    stream.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"late");
}

#[test]
fn a_write_times_out_when_the_peer_never_reads() {
    let _guard = hang_guard();
    let (mut stream, _peer) = pair();
    stream.set_write_timeout(Some(ms(30))).unwrap();
    let start = Instant::now();
    let error = stream.write_all(&vec![7; MORE_THAN_BUFFERS]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= ms(30));
}

#[test]
fn each_direction_has_its_own_timeout() {
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    stream.set_write_timeout(Some(ms(20))).unwrap();
    let reader = spawn({
        let stream = stream.try_clone().unwrap();
        move || read_byte(&stream).unwrap()
    });
    let error = (&stream).write_all(&vec![7; MORE_THAN_BUFFERS]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    until_parked(&reader);
    peer.write_all(b"r").unwrap();
    assert_eq!(reader.get().unwrap(), b'r');
}

#[test]
fn data_that_is_there_beats_a_timeout_that_is_due() {
    // T4: both happened while the thread was busy; the work wins.
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    stream.set_read_timeout(Some(ms(20))).unwrap();
    let reader = spawn(move || read_byte(&stream));
    until_parked(&reader);
    peer.write_all(b"w").unwrap();
    busy_for(ms(60));
    assert_eq!(reader.get().unwrap().unwrap(), b'w');
}

#[test]
fn with_timeout_reaches_into_every_wait() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    assert!(with_timeout(ms(10), || listener.accept().is_ok()).is_err());
    let client = TcpStream::connect(addr).unwrap();
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());

    let (stream, mut peer) = pair();
    assert!(with_timeout(ms(10), || (&stream).read(&mut [0]).is_ok()).is_err());
    assert!(with_timeout(ms(10), || stream.wait_readable().is_ok()).is_err());
    peer.write_all(b"x").unwrap();
    (&stream).read_exact(&mut [0]).unwrap();
    let chunk = vec![7; MORE_THAN_BUFFERS];
    assert!(with_timeout(ms(10), || (&stream).write_all(&chunk).is_ok()).is_err());

    let full = FullListener::new();
    assert!(with_timeout(ms(10), || TcpStream::connect(full.addr).is_ok()).is_err());
}

// ── Many greenlets on one socket ──

#[test]
fn readers_of_one_socket_are_served_first_come_first_served() {
    // N1.
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    let stream = Rc::new(stream);
    let served = Rc::new(RefCell::new(Vec::new()));
    let readers: Vec<_> = (0..4)
        .map(|number| {
            let (stream, served) = (Rc::clone(&stream), Rc::clone(&served));
            let reader = spawn(move || {
                let mut byte = [0];
                (&*stream).read_exact(&mut byte).unwrap();
                served.borrow_mut().push((number, byte[0]));
            });
            until_parked(&reader);
            reader
        })
        .collect();
    for byte in b'a'..b'c' {
        peer.write_all(&[byte]).unwrap();
        let before = served.borrow().len();
        eventually(|| served.borrow().len() > before);
    }
    peer.write_all(b"cd").unwrap();
    joinall(&readers);
    assert_eq!(*served.borrow(), [(0, b'a'), (1, b'b'), (2, b'c'), (3, b'd')]);
}

#[test]
fn acceptors_of_one_listener_are_served_first_come_first_served() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let listener = Rc::new(listener);
    let acceptors: Vec<_> = (0..3)
        .map(|_| {
            let listener = Rc::clone(&listener);
            let acceptor = spawn(move || listener.accept().unwrap().1);
            until_parked(&acceptor);
            acceptor
        })
        .collect();
    let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    for (acceptor, client) in acceptors.into_iter().zip(&clients) {
        assert_eq!(acceptor.get().unwrap(), client.local_addr().unwrap());
    }
}

#[test]
fn a_killed_reader_leaves_its_place_to_the_next() {
    // K9: it never takes a byte with it.
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    let stream = Rc::new(stream);
    let reader = || {
        let stream = Rc::clone(&stream);
        let reader = spawn(move || read_byte(&stream).unwrap());
        until_parked(&reader);
        reader
    };
    let (first, second) = (reader(), reader());
    peer.write_all(b"1").unwrap();
    first.kill();
    assert!(first.get().unwrap_err().is_killed());
    assert_eq!(second.get().unwrap(), b'1');
}

#[test]
fn shutdown_wakes_the_waiters_of_that_side() {
    // N2.
    let _guard = hang_guard();
    let (stream, _peer) = pair();
    let stream = Rc::new(stream);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let stream = Rc::clone(&stream);
            spawn(move || (&*stream).read(&mut [0]).unwrap())
        })
        .collect();
    let writer = spawn({
        let stream = Rc::clone(&stream);
        move || (&*stream).write_all(&vec![7; MORE_THAN_BUFFERS]).map_err(|error| error.kind())
    });
    readers.iter().for_each(until_parked);
    until_parked(&writer);

    stream.shutdown(Shutdown::Read).unwrap();
    for reader in readers {
        assert_eq!(reader.get().unwrap(), 0);
    }
    assert!(!writer.is_finished());

    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(writer.get().unwrap(), Err(ErrorKind::BrokenPipe));
}

#[test]
fn one_reads_and_one_writes_at_once_through_references() {
    let _guard = hang_guard();
    const LEN: usize = 4 << 20;
    let (ours, theirs) = our_pair();
    let (there, back) = (pattern(LEN, 1), pattern(LEN, 2));
    let read_all = |mut stream: &TcpStream| {
        let mut read = vec![0; LEN];
        stream.read_exact(&mut read).unwrap();
        read
    };
    scope(|s| {
        let received = s.spawn(|| read_all(&theirs));
        let returned = s.spawn(|| read_all(&ours));
        s.spawn(|| (&ours).write_all(&there).unwrap());
        s.spawn(|| (&theirs).write_all(&back).unwrap());
        assert!(received.get().unwrap() == there, "the way there");
        assert!(returned.get().unwrap() == back, "the way back");
    });
}

#[test]
fn one_reads_and_one_writes_at_once_through_a_clone() {
    let _guard = hang_guard();
    const LEN: usize = 4 << 20;
    let (mut stream, mut peer) = pair();
    let foreign = thread::spawn(move || {
        let mut sending = peer.try_clone().unwrap();
        let sender = thread::spawn(move || sending.write_all(&pattern(LEN, 3)).unwrap());
        let mut received = vec![0; LEN];
        peer.read_exact(&mut received).unwrap();
        sender.join().unwrap();
        received
    });
    let mut clone = stream.try_clone().unwrap();
    let writer = spawn(move || clone.write_all(&pattern(LEN, 4)).unwrap());
    let mut received = vec![0; LEN];
    stream.read_exact(&mut received).unwrap();
    writer.get().unwrap();
    assert!(received == pattern(LEN, 3), "what the peer sent");
    assert!(finish(foreign) == pattern(LEN, 4), "what the peer got");
}

// ── Kills ──

#[test]
fn killed_in_read_and_the_bytes_stay_for_the_next() {
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    let stream = Rc::new(stream);
    let reader = spawn({
        let stream = Rc::clone(&stream);
        move || (&*stream).read(&mut [0; 16]).unwrap()
    });
    until_parked(&reader);
    // The bytes are there before the kill is raised, and still the killed one does not get them.
    peer.write_all(b"unread").unwrap();
    reader.kill();
    assert!(reader.get().unwrap_err().is_killed());
    assert_eq!(Rc::strong_count(&stream), 1);
    let mut bytes = [0; 6];
    (&*stream).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"unread");
}

#[test]
fn killed_in_write_and_the_next_writer_goes_on_behind_it() {
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    let stream = Rc::new(stream);
    let writer = spawn({
        let stream = Rc::clone(&stream);
        move || (&*stream).write_all(&vec![b'-'; MORE_THAN_BUFFERS]).unwrap()
    });
    until_parked(&writer);
    writer.kill();
    assert!(writer.get().unwrap_err().is_killed());
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let stream = Rc::into_inner(stream).expect("the killed writer has let go of it");
    (&stream).write_all(b"end").unwrap();
    drop(stream);
    let all = finish(reader);
    let (dashes, end) = all.split_at(all.len() - 3);
    assert_eq!(end, b"end");
    assert!(dashes.len() < MORE_THAN_BUFFERS && dashes.iter().all(|&byte| byte == b'-'));
}

#[test]
fn killed_in_accept_and_the_connection_stays_for_the_next() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let listener = Rc::new(listener);
    let acceptor = spawn({
        let listener = Rc::clone(&listener);
        move || listener.accept().map(drop)
    });
    until_parked(&acceptor);
    let client = std::net::TcpStream::connect(addr).unwrap();
    acceptor.kill();
    assert!(acceptor.get().unwrap_err().is_killed());
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn killed_in_connect_and_the_attempt_is_given_up() {
    let _guard = hang_guard();
    let full = FullListener::new();
    let addr = full.addr;
    let connecting = spawn(move || TcpStream::connect(addr).map(drop));
    until_parked(&connecting);
    connecting.kill();
    assert!(connecting.get().unwrap_err().is_killed());
    // The listener has seen none of it.
    let listener = full.into_empty();
    let client = TcpStream::connect(addr).unwrap();
    let accepted = listener.accept().unwrap().1;
    assert_eq!(accepted, client.local_addr().unwrap());
}

#[test]
fn calls_of_a_greenlet_that_unwinds_fail_at_once() {
    let _guard = hang_guard();
    /// Says goodbye in its destructor, as many a protocol does.
    struct Session {
        stream: TcpStream,
        farewell: Rc<RefCell<Vec<ErrorKind>>>,
    }
    impl Drop for Session {
        fn drop(&mut self) {
            let read = self.stream.read(&mut [0]).unwrap_err();
            let write = self.stream.write_all(&vec![7; MORE_THAN_BUFFERS]).unwrap_err();
            self.farewell.borrow_mut().extend([read.kind(), write.kind()]);
        }
    }
    let (stream, _peer) = pair();
    let farewell: Rc<RefCell<Vec<ErrorKind>>> = Rc::default();
    let greenlet = spawn({
        let farewell = Rc::clone(&farewell);
        move || {
            let mut session = Session { stream, farewell };
            session.stream.read(&mut [0]).map(drop)
        }
    });
    until_parked(&greenlet);
    greenlet.kill();
    // Not Interrupted: std's read_exact and friends would try again for ever.
    assert_eq!(*farewell.borrow(), [ErrorKind::Other, ErrorKind::Other]);
}

// ── The budget ──

/// The longest run of `calls` that others saw between two turns of their own.
fn longest_run(calls: usize, mut call: impl FnMut() + 'static) -> usize {
    let done = Rc::new(Cell::new(0));
    let caller = spawn({
        let done = Rc::clone(&done);
        move || {
            for n in 1..=calls {
                call();
                done.set(n);
            }
        }
    });
    let (mut seen, mut longest) = (0, 0);
    while !caller.is_finished() {
        yield_now();
        longest = longest.max(done.get() - seen);
        seen = done.get();
    }
    caller.get().unwrap();
    longest
}

#[test]
fn reads_that_never_wait_let_the_others_run() {
    // H5.
    let _guard = hang_guard();
    const CALLS: usize = 10 * BUDGET;
    let (mut stream, mut peer) = pair();
    peer.write_all(&[7; CALLS]).unwrap();
    until_arrived(&stream, CALLS);
    let longest = longest_run(CALLS, move || stream.read_exact(&mut [0]).unwrap());
    assert!(longest <= BUDGET, "{longest} reads in a row");
    if cfg!(not(hard_switch)) {
        assert!(longest > 1, "a read that need not wait costs no switch");
    }
}

#[test]
fn writes_that_never_wait_let_the_others_run() {
    let _guard = hang_guard();
    let (mut stream, _peer) = pair();
    let longest = longest_run(10 * BUDGET, move || stream.write_all(&[7]).unwrap());
    assert!(longest <= BUDGET, "{longest} writes in a row");
}

#[test]
#[cfg(not(hard_switch))] // whose shuffled queue lets one have several turns before another has one
fn reads_that_never_wait_but_take_long_let_the_others_run_sooner() {
    // H5: 2 ms, if they pass before 128 calls.
    let _guard = hang_guard();
    const CALLS: usize = 8;
    let (mut stream, mut peer) = pair();
    peer.write_all(&[7; CALLS]).unwrap();
    until_arrived(&stream, CALLS);
    let longest = longest_run(CALLS, move || {
        stream.read_exact(&mut [0]).unwrap();
        busy_for(ms(5));
    });
    assert!(longest <= 2, "{longest} calls of 5 ms in a row");
}

fn busy_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

// ── Descriptors that come back under another name ──

#[test]
fn a_new_socket_never_gets_the_wake_of_the_one_whose_number_it_has() {
    let _guard = hang_guard();
    // Other tests open sockets too and may take the number first; then we try again.
    let fresh = (0..1_000).find_map(|_| socket_with_the_number_of_a_killed_one());
    let (fresh, mut peer) = fresh.expect("a number that is free is soon used again");
    let too_early = with_timeout(ms(30), || fresh.wait_readable());
    assert!(too_early.is_err(), "woken without a byte to read");
    peer.write_all(b"mine").unwrap();
    let mut mine = [0; 4];
    (&fresh).read_exact(&mut mine).unwrap();
    assert_eq!(&mine, b"mine");
}

/// A new connection whose descriptor has the number of one that was dropped with a reader parked
/// on it and with bytes there that the poller has not told us of.
fn socket_with_the_number_of_a_killed_one() -> Option<(TcpStream, std::net::TcpStream)> {
    let (listener, addr) = loopback();
    let connect = || std::net::TcpStream::connect(addr).unwrap();
    let mut old_peer = connect();
    let (old, _) = listener.accept().unwrap();
    let number = old.as_raw_fd();
    let reader = spawn(move || (&old).read(&mut [0]).map(drop));
    until_parked(&reader);
    // Those that wait to be accepted are there before the number is free.
    let peers: Vec<_> = (0..8).map(|_| connect()).collect();
    old_peer.write_all(b"for the old one").unwrap();
    reader.kill();
    let accepted = peers.into_iter().map(|peer| (listener.accept().unwrap().0, peer));
    // Kept until the number is found: each takes the lowest that is free.
    let mut others = Vec::new();
    for (stream, peer) in accepted {
        if stream.as_raw_fd() == number {
            return Some((stream, peer));
        }
        others.push((stream, peer));
    }
    None
}

// ── A listener whose line of unaccepted connections is full ──

/// Connecting to it parks: the kernel answers nobody until somebody accepts.
struct FullListener {
    listener: TcpListener,
    addr: SocketAddr,
    /// Those that fill the line.
    line: Vec<std::net::TcpStream>,
}

impl FullListener {
    fn new() -> FullListener {
        let (socket, addr) = refusing();
        socket.listen(1).unwrap();
        let listener = TcpListener::from(std::net::TcpListener::from(socket));
        let mut line = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, ms(50)) {
            line.push(stream);
        }
        FullListener { listener, addr, line }
    }

    /// Accepts those that fill the line.
    fn into_empty(self) -> TcpListener {
        for _ in &self.line {
            self.listener.accept().unwrap();
        }
        self.listener
    }
}

// ── Options ──

const ANY: &str = "127.0.0.1:0";

#[test]
fn options_without_anything_said_are_bind_and_connect() {
    let _guard = hang_guard();
    let listener = TcpOptions::new().listen(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let server = spawn(move || upper_case_echo(listener.accept().unwrap().0).unwrap());
    let client = TcpOptions::new().connect(addr).unwrap();
    assert_eq!(ask(&client, "plain"), "PLAIN");
    assert!(!client.nodelay().unwrap() && !client.keepalive().unwrap());
    assert!(!SockRef::from(&client).reuse_address().unwrap());
    drop(client);
    server.get().unwrap();
}

#[test]
fn options_are_those_of_the_socket_and_of_what_it_accepts() {
    let _guard = hang_guard();
    let mut options = TcpOptions::new();
    options
        .nodelay(true)
        .keepalive(Some(ms(1_500)))
        .keepalive_interval(Duration::from_secs(7))
        .keepalive_retries(3)
        .ttl(42)
        .recv_buffer_size(32 << 10)
        .send_buffer_size(48 << 10);
    let check = |socket: SockRef<'_>| {
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(2), "rounded up");
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.ttl_v4().unwrap(), 42);
        // Linux doubles them.
        assert!([32 << 10, 64 << 10].contains(&socket.recv_buffer_size().unwrap()));
        assert!([48 << 10, 96 << 10].contains(&socket.send_buffer_size().unwrap()));
    };
    let listener = options.listen(ANY).unwrap();
    check(SockRef::from(&listener));
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    if cfg!(target_os = "linux") {
        check(SockRef::from(&listener.accept().unwrap().0));
    }
    drop(client);
    check(SockRef::from(&options.connect(listener.local_addr().unwrap()).unwrap()));
}

#[test]
fn keep_alive_can_be_said_afterwards_and_unsaid() {
    let (stream, _peer) = pair();
    assert!(!stream.keepalive().unwrap());
    stream.set_keepalive(true).unwrap();
    assert!(stream.keepalive().unwrap());
    let listener = TcpOptions::new().keepalive(None).listen(ANY).unwrap();
    assert!(!SockRef::from(&listener).keepalive().unwrap());
}

#[test]
fn lingering_would_block_so_there_is_none_or_a_reset() {
    let _guard = hang_guard();
    let (stream, mut peer) = pair();
    assert_eq!(stream.linger().unwrap(), None);
    let refused = stream.set_linger(Some(Duration::from_secs(1))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    assert_eq!(stream.linger().unwrap(), Some(Duration::ZERO));
    drop(stream);
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Of what was std's too, and of all that comes from it; what resets stays.
#[test]
fn what_was_std_s_does_not_linger_and_block_the_thread() {
    let _guard = hang_guard();
    let set = |socket: socket2::SockRef<'_>, time| socket.set_linger(Some(time)).unwrap();
    let (second, reset) = (Duration::from_secs(1), Duration::ZERO);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    set((&listener).into(), 5 * second);
    let _before = std::net::TcpStream::connect(addr).unwrap();
    let listener = TcpListener::from(listener);
    let _after = std::net::TcpStream::connect(addr).unwrap();
    for _ in 0..2 {
        assert_eq!(listener.accept().unwrap().0.linger().unwrap(), None);
    }

    let stream = std::net::TcpStream::connect(addr).unwrap();
    set((&stream).into(), 5 * second);
    let stream = TcpStream::from(stream);
    assert_eq!(stream.linger().unwrap(), None);

    let resetting = std::net::TcpStream::connect(addr).unwrap();
    set((&resetting).into(), reset);
    let resetting = TcpStream::from(resetting);
    assert_eq!(resetting.linger().unwrap(), Some(reset));
    let listener = listener.into_std().unwrap();
    set((&listener).into(), reset);
    let listener = TcpListener::from(listener);
    let _client = std::net::TcpStream::connect(addr).unwrap();
    let lingers: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0.linger().unwrap()).collect();
    assert_eq!(lingers, [None, None, Some(reset)]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_backlog_of_none_takes_one_connection_and_then_lets_wait() {
    let _guard = hang_guard();
    let listener = TcpOptions::new().backlog(0).listen(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let _first = TcpStream::connect(addr).unwrap();
    let second = TcpOptions::new().timeout(ms(50)).connect(addr).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_port_is_shared_by_those_who_say_so() {
    let _guard = hang_guard();
    let mut shared = TcpOptions::new();
    shared.reuse_port(true);
    let one = shared.listen(ANY).unwrap();
    let addr = one.local_addr().unwrap();
    let other = shared.listen(addr).unwrap();
    assert_eq!(other.local_addr().unwrap(), addr);
    assert_eq!(TcpListener::bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
    // Whoever gets them, none is lost.
    let accepted = Rc::new(Cell::new(0));
    for listener in [one, other] {
        let accepted = Rc::clone(&accepted);
        drop(spawn(move || {
            for stream in listener.incoming() {
                accepted.set(accepted.get() + usize::from(stream.is_ok()));
            }
        }));
    }
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect();
    eventually(|| accepted.get() == clients.len());
}

#[test]
fn whether_an_old_port_can_be_bound_again_is_said_by_reuse_address() {
    let _guard = hang_guard();
    let lingering = || {
        let (listener, addr) = loopback();
        let client = TcpStream::connect(addr).unwrap();
        // The side that closes first keeps the port in TIME_WAIT.
        drop(listener.accept().unwrap());
        drop(listener);
        drop(client);
        addr
    };
    // Another test may get the free port before us, but not every time.
    assert!((0..10).any(|_| TcpOptions::new().listen(lingering()).is_ok()));
    let refused = TcpOptions::new().reuse_address(false).listen(lingering()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
}

#[test]
#[allow(deprecated, reason = "std has it, and so have we")]
fn ipv6_only_leaves_the_port_to_ipv4() {
    let _guard = hang_guard();
    let mut only = TcpOptions::new();
    only.only_v6(true);
    let Ok(six) = only.listen("[::]:0") else { return }; // no IPv6 here, for nobody
    assert!(six.only_v6().unwrap());
    assert!(six.set_only_v6(false).is_err(), "too late");
    let port = six.local_addr().unwrap().port();
    let both = TcpOptions::new().only_v6(false).listen("[::]:0").unwrap();
    assert!(!both.only_v6().unwrap());
    let client = TcpStream::connect(("127.0.0.1", both.local_addr().unwrap().port())).unwrap();
    let (_, peer) = both.accept().unwrap();
    assert_eq!(peer.port(), client.local_addr().unwrap().port());
    assert!(peer.is_ipv6(), "an IPv4 address as IPv6 has it");
    // For an IPv4 address there is nothing to say.
    assert!(only.listen(ANY).is_ok());
    assert!(std::net::TcpStream::connect(("::1", port)).is_ok());
}

#[test]
fn a_connection_comes_from_where_it_was_bound() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let mut from = TcpOptions::new();
    from.bind("127.0.0.1:0".parse().unwrap()).ttl(33);
    let client = from.connect(addr).unwrap();
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    // A taken port is an error, and so is an address of the other family.
    let taken = TcpOptions::new().bind(addr).connect(addr).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    assert!(TcpOptions::new().bind("[::1]:0".parse().unwrap()).connect(addr).is_err());
}

#[test]
fn options_connect_as_connect_does() {
    let _guard = hang_guard();
    let (_socket, refused) = refusing();
    let (_listener, open) = loopback();
    let options = TcpOptions::new();
    assert_eq!(options.connect(&[refused, open][..]).unwrap().peer_addr().unwrap(), open);
    let error = options.connect(refused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let none: &[SocketAddr] = &[];
    assert_eq!(options.connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(options.listen(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    let by_name = TcpOptions::new().timeout(ms(30_000)).connect(("localhost", open.port()));
    assert_eq!(by_name.unwrap().peer_addr().unwrap(), open);
    let no_time = TcpOptions::new().timeout(Duration::ZERO).connect(open).unwrap_err();
    assert_eq!(no_time.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_time_to_connect_is_that_of_all_addresses_together() {
    let _guard = hang_guard();
    let full = FullListener::new();
    let (_listener, open) = loopback();
    let start = Instant::now();
    let addrs = [full.addr, open];
    let error = TcpOptions::new().timeout(ms(60)).connect(&addrs[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "nothing is left for the one that is open");
    assert!(start.elapsed() >= ms(60));
}

// ── All together ──

#[test]
fn many_foreign_clients_at_once_get_every_answer_and_only_their_own() {
    let _guard = hang_guard();
    const THREADS: usize = 4;
    const CLIENTS: usize = 50; // a thread
    const MESSAGES: usize = 20; // a client
    let (listener, addr) = loopback();
    let server = spawn(move || {
        let streams = listener.incoming().take(THREADS * CLIENTS);
        let sessions: Vec<_> = streams
            .map(|stream| {
                let stream = stream.unwrap();
                spawn(move || upper_case_echo(stream).unwrap())
            })
            .collect();
        joinall(&sessions);
        sessions.iter().filter(|session| session.is_successful()).count()
    });
    let clients: Vec<_> = (0..THREADS)
        .map(|thread| thread::spawn(move || foreign_clients(addr, thread, CLIENTS, MESSAGES)))
        .collect();
    for thread in clients {
        assert_eq!(finish(thread), CLIENTS * MESSAGES);
    }
    assert_eq!(server.get().unwrap(), THREADS * CLIENTS);
}

/// Holds `clients` connections at once and talks over all of them in turn. The number of answers.
fn foreign_clients(addr: SocketAddr, thread: usize, clients: usize, messages: usize) -> usize {
    let mut streams: Vec<_> =
        (0..clients).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    let mut answers = 0;
    for message in 0..messages {
        let text = |client: usize| format!("thread {thread} client {client} message {message};");
        for (client, stream) in streams.iter_mut().enumerate() {
            stream.write_all(text(client).as_bytes()).unwrap();
        }
        for (client, stream) in streams.iter_mut().enumerate() {
            let mut answer = vec![0; text(client).len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(String::from_utf8(answer).unwrap(), text(client).to_uppercase());
            answers += 1;
        }
    }
    answers
}

#[test]
fn bad_clients_do_the_good_ones_no_harm() {
    let _guard = hang_guard();
    let (listener, addr) = loopback();
    let server = spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // What the bad ones do ends as an error here, and that is all it does.
            drop(spawn(move || upper_case_echo(stream)));
        }
    });
    let connect = || std::net::TcpStream::connect(addr).unwrap();
    let silent = connect();
    let mut resets = connect();
    resets.write_all(&[b'r'; 4096]).unwrap();
    let mut never_reads = connect();
    never_reads.set_nonblocking(true).unwrap();
    let mut sent = 0;
    eventually(|| {
        // Both directions fill up: the server's answers, then our own questions.
        let written = never_reads.write(&vec![b'n'; 1 << 20]);
        sent += written.as_ref().copied().unwrap_or(0);
        written.is_err() && sent > 1 << 20
    });
    let half_closed = connect();
    half_closed.shutdown(Shutdown::Write).unwrap();
    drop(resets);

    let good = TcpStream::connect(addr).unwrap();
    for word in ["good", "clients", "are", "served"] {
        assert_eq!(ask(&good, word), word.to_uppercase());
    }
    drop((silent, never_reads, half_closed));
    server.kill();
    assert!(server.get().unwrap_err().is_killed());
}
