//! `net::UdpSocket`: every method of std's type, and what only shows when many greenlets share one
//! thread: parking, lines of waiters, time limits, kills, budgets.

mod net_util;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use greenloom::net::UdpSocket;
use greenloom::{Greenlet, joinall, spawn, with_timeout, yield_now};
use net_util::{
    eventually, finish, hang_guard, in_child, in_line, is_child, ms, open_files, stderr_of,
    until_parked,
};

fn loopback() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Two sockets that are connected to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let (one, one_addr) = loopback();
    let (other, other_addr) = loopback();
    one.connect(other_addr).unwrap();
    other.connect(one_addr).unwrap();
    (one, other)
}

/// A socket that is connected to where nobody hears it, and what keeps that so: who is connected to
/// somebody else is not there for us, and has the port.
fn to_nobody() -> (UdpSocket, UdpSocket) {
    let ((socket, _), (deaf, deaf_addr)) = (loopback(), loopback());
    deaf.connect(deaf_addr).unwrap();
    socket.connect(deaf_addr).unwrap();
    (socket, deaf)
}

/// Waits until a datagram lies ready, so that receiving it does not have to wait.
fn until_arrived(socket: &UdpSocket) {
    socket.peek(&mut [0]).unwrap();
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let (server, addr) = loopback();
    let echo = spawn(move || {
        let mut buf = [0; 16];
        let (len, from) = server.recv_from(&mut buf).unwrap();
        assert_eq!(server.send_to(&buf[..len].to_ascii_uppercase(), from).unwrap(), len);
        from
    });
    let (client, client_addr) = loopback();
    assert_eq!(client.send_to(b"hello", addr).unwrap(), 5);
    let mut answer = [0; 16];
    assert_eq!(client.recv_from(&mut answer).unwrap(), (5, addr));
    assert_eq!(&answer[..5], b"HELLO");
    assert_eq!(echo.get().unwrap(), client_addr);
}

// ── std's methods, one by one ──

#[test]
fn a_connected_socket_hears_its_peer_only() {
    let _guard = hang_guard();
    let (one, other) = pair();
    assert_eq!(one.peer_addr().unwrap(), other.local_addr().unwrap());
    let (stranger, _) = loopback();
    stranger.send_to(b"stranger", one.local_addr().unwrap()).unwrap();
    assert_eq!(other.send(b"peer").unwrap(), 4);
    let mut buf = [0; 16];
    assert_eq!(one.recv(&mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"peer");
    one.set_read_timeout(Some(ms(20))).unwrap();
    assert_eq!(one.recv(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn who_is_not_connected_has_nobody_to_send_to() {
    let (socket, _) = loopback();
    assert_eq!(socket.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (ours, theirs) = (socket.send(b"x").unwrap_err(), theirs.send(b"x").unwrap_err());
    assert_eq!(ours.raw_os_error(), theirs.raw_os_error());
}

#[test]
fn addresses_are_tried_in_turn_and_none_is_invalid_input() {
    let _guard = hang_guard();
    let (taken, taken_addr) = loopback();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let bound = UdpSocket::bind(&[taken_addr, any][..]).unwrap();
    assert_ne!(bound.local_addr().unwrap(), taken_addr);
    let in_use = UdpSocket::bind(taken_addr).unwrap_err();
    assert_eq!(in_use.kind(), ErrorKind::AddrInUse);

    let six: SocketAddr = "[::1]:1".parse().unwrap();
    bound.connect(&[six, taken_addr][..]).unwrap();
    assert_eq!(bound.peer_addr().unwrap(), taken_addr);
    let none: &[SocketAddr] = &[];
    assert_eq!(UdpSocket::bind(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(taken.connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(taken.send_to(b"x", none).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn datagrams_keep_their_bounds() {
    let _guard = hang_guard();
    let (one, other) = pair();
    for text in ["first", "", "a longer one", "last"] {
        assert_eq!(one.send(text.as_bytes()).unwrap(), text.len());
    }
    let mut buf = [0; 8];
    assert_eq!(other.recv(&mut buf).unwrap(), 5);
    let from = one.local_addr().unwrap();
    assert_eq!(other.recv_from(&mut buf).unwrap(), (0, from), "an empty one is one, too");
    assert_eq!(other.recv(&mut buf).unwrap(), 8, "what does not fit is lost");
    assert_eq!(&buf, b"a longer");
    assert_eq!(other.recv(&mut []).unwrap(), 0, "and so is one without any room");
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn one_that_is_too_long_is_an_error_and_is_not_sent() {
    let _guard = hang_guard();
    let (one, other) = pair();
    let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = one.send(&[0; 70_000]).unwrap_err();
    let their_error = theirs.send_to(&[0; 70_000], other.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.raw_os_error(), their_error.raw_os_error());
    let longest = vec![7; 65_507];
    assert_eq!(one.send(&longest).unwrap(), longest.len());
    let mut buf = vec![0; 70_000];
    assert_eq!(other.recv(&mut buf).unwrap(), longest.len());
}

#[test]
fn peek_leaves_the_datagram_where_it_is() {
    let _guard = hang_guard();
    let (one, other) = pair();
    let peeker = spawn({
        let other = other.try_clone().unwrap();
        move || other.peek(&mut [0; 2]).unwrap()
    });
    until_parked(&peeker);
    one.send(b"abc").unwrap();
    assert_eq!(peeker.get().unwrap(), 2);
    let mut buf = [0; 8];
    assert_eq!(other.peek_from(&mut buf).unwrap(), (3, one.local_addr().unwrap()));
    assert_eq!(other.recv(&mut buf).unwrap(), 3);
    assert_eq!(&buf[..3], b"abc");
}

#[test]
fn options_read_back_as_they_were_set() {
    let (socket, _) = loopback();
    assert!(!socket.broadcast().unwrap());
    socket.set_broadcast(true).unwrap();
    assert!(socket.broadcast().unwrap());
    socket.set_multicast_loop_v4(false).unwrap();
    assert!(!socket.multicast_loop_v4().unwrap());
    socket.set_multicast_ttl_v4(17).unwrap();
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 17);
    socket.set_ttl(42).unwrap();
    assert_eq!(socket.ttl().unwrap(), 42);
    assert!(socket.take_error().unwrap().is_none());
    if let Ok(six) = UdpSocket::bind("[::1]:0") {
        six.set_multicast_loop_v6(false).unwrap();
        assert!(!six.multicast_loop_v6().unwrap());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn broadcasts_need_permission() {
    let _guard = hang_guard();
    let Ok(receiver) = UdpSocket::bind("127.255.255.255:0") else { return };
    let everybody = receiver.local_addr().unwrap();
    let (sender, _) = loopback();
    let refused = sender.send_to(b"x", everybody).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    sender.set_broadcast(true).unwrap();
    sender.send_to(b"to all", everybody).unwrap();
    let (len, from) = receiver.recv_from(&mut [0; 8]).unwrap();
    assert_eq!((len, from), (6, sender.local_addr().unwrap()));
}

#[test]
fn groups_are_joined_and_left_as_by_std() {
    let _guard = hang_guard();
    let kind = |result: io::Result<()>| result.map_err(|error| error.raw_os_error());
    let (four, four_group) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 213));
    let six_group = "ff01::d5".parse().unwrap();
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let joined = kind(ours.join_multicast_v4(&four_group, &four));
    assert_eq!(joined, kind(theirs.join_multicast_v4(&four_group, &four)));
    let left = kind(ours.leave_multicast_v4(&four_group, &four));
    assert_eq!(left, kind(theirs.leave_multicast_v4(&four_group, &four)));
    let not_joined = kind(ours.leave_multicast_v4(&four_group, &four));
    assert_eq!(not_joined, kind(theirs.leave_multicast_v4(&four_group, &four)));
    assert!(not_joined.is_err());

    let Ok(ours) = UdpSocket::bind("[::1]:0") else { return };
    let theirs = std::net::UdpSocket::bind("[::1]:0").unwrap();
    for interface in [1, u32::MAX] {
        let joined = kind(ours.join_multicast_v6(&six_group, interface));
        assert_eq!(joined, kind(theirs.join_multicast_v6(&six_group, interface)));
        let left = kind(ours.leave_multicast_v6(&six_group, interface));
        assert_eq!(left, kind(theirs.leave_multicast_v6(&six_group, interface)));
    }
}

#[test]
fn what_is_sent_to_a_group_reaches_its_members() {
    let _guard = hang_guard();
    let group = Ipv4Addr::new(224, 0, 0, 214);
    let Ok(member) = UdpSocket::bind((group, 0)) else { return };
    let port = member.local_addr().unwrap().port();
    // Not every loopback knows groups. Where std's sockets do, ours do.
    let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    member.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    member.set_read_timeout(Some(ms(1_000))).unwrap();
    let possible = theirs.send_to(b"theirs", (group, port)).is_ok()
        && member.recv(&mut [0; 8]).is_ok_and(|len| len == 6);
    if possible {
        let (ours, addr) = loopback();
        ours.send_to(b"ours", (group, port)).unwrap();
        assert_eq!(member.recv_from(&mut [0; 8]).unwrap(), (4, addr));
    }
}

#[test]
fn ipv6_and_its_scopes() {
    let _guard = hang_guard();
    let Ok(server) = UdpSocket::bind("[::1]:0") else { return };
    let addr = server.local_addr().unwrap();
    let client = UdpSocket::bind("[::1]:0").unwrap();
    // The loopback interface has number 1 on every system; a scope that is none is refused.
    let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, addr.port(), 0, 1);
    client.send_to(b"scoped", scoped).unwrap();
    let (len, from) = server.recv_from(&mut [0; 8]).unwrap();
    assert_eq!((len, from), (6, client.local_addr().unwrap()));
    let local = SocketAddrV6::new("fe80::1".parse().unwrap(), addr.port(), 0, 0xFFFF_FF00);
    let theirs = std::net::UdpSocket::bind("[::1]:0").unwrap();
    let (ours, theirs) = (client.send_to(b"x", local), theirs.send_to(b"x", local));
    assert_eq!(ours.unwrap_err().raw_os_error(), theirs.unwrap_err().raw_os_error());
}

#[test]
fn scopes_come_back_with_what_is_received() {
    // The sender's address has a scope if it is a link's own: seen with a group of the loopback
    // interface, where the system lets it have one.
    let _guard = hang_guard();
    let group: Ipv6Addr = "ff02::d7".parse().unwrap();
    let there = |port| SocketAddrV6::new(group, port, 0, 1);
    let Ok(theirs) = std::net::UdpSocket::bind("[::]:0") else { return };
    if theirs.join_multicast_v6(&group, 1).is_err() {
        return;
    }
    let port = theirs.local_addr().unwrap().port();
    let sender = UdpSocket::bind("[::]:0").unwrap();
    theirs.set_read_timeout(Some(ms(500))).unwrap();
    if sender.send_to(b"x", there(port)).is_err() {
        return;
    }
    let Ok((_, seen_by_std)) = theirs.recv_from(&mut [0]) else { return };
    let ours = UdpSocket::from(theirs);
    sender.send_to(b"x", there(port)).unwrap();
    assert_eq!(ours.recv_from(&mut [0]).unwrap(), (1, seen_by_std));
}

#[test]
fn nobody_there_shows_at_a_later_call() {
    let _guard = hang_guard();
    let (socket, _deaf) = to_nobody();
    let refused = ErrorKind::ConnectionRefused;
    // It had been sent before anybody could refuse it.
    socket.send(b"anybody?").unwrap();
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), refused);
    socket.send(b"really?").unwrap();
    let mut found = None;
    eventually(|| {
        found = socket.take_error().unwrap();
        found.is_some()
    });
    assert_eq!(found.unwrap().kind(), refused);
    socket.set_read_timeout(Some(ms(10))).unwrap();
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut, "told once");
}

#[test]
fn a_refusal_ends_the_wait_of_one_and_of_one_only() {
    let _guard = hang_guard();
    let (socket, _deaf) = to_nobody();
    let receivers = in_line(2, {
        let socket = socket.clone();
        move |_| socket.recv(&mut [0]).map_err(|error| error.kind())
    });
    socket.send(b"anybody?").unwrap();
    let [first, second] = &receivers[..] else { unreachable!() };
    first.join();
    assert!(!second.is_finished());
    socket.send(b"anybody?").unwrap();
    for receiver in receivers {
        assert_eq!(receiver.get().unwrap(), Err(ErrorKind::ConnectionRefused));
    }
}

#[test]
fn zero_limits_are_invalid_input_and_others_read_back() {
    let (socket, _) = loopback();
    for refused in [
        socket.set_read_timeout(Some(Duration::ZERO)),
        socket.set_write_timeout(Some(Duration::ZERO)),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    socket.set_read_timeout(Some(ms(1_500))).unwrap();
    socket.set_write_timeout(Some(ms(2_500))).unwrap();
    let clone = socket.try_clone().unwrap();
    assert_eq!(clone.read_timeout().unwrap(), Some(ms(1_500)));
    assert_eq!(clone.write_timeout().unwrap(), Some(ms(2_500)));
}

#[test]
fn a_limit_is_kept_and_the_socket_stays_usable() {
    let _guard = hang_guard();
    let (one, other) = pair();
    other.set_read_timeout(Some(ms(30))).unwrap();
    let mut buf = [0; 8];
    let start = Instant::now();
    assert_eq!(other.recv(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= ms(30));
    assert_eq!(other.recv_from(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(other.peek(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(other.peek_from(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= ms(120));
    other.set_read_timeout(None).unwrap();
    assert!(with_timeout(ms(10), || other.recv(&mut buf).is_ok()).is_err());
    one.send(b"late").unwrap();
    assert_eq!(other.recv(&mut buf).unwrap(), 4);
}

#[test]
fn a_socket_set_nonblocking_never_parks() {
    let _guard = hang_guard();
    let (one, other) = pair();
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(other.peek_from(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    other.set_nonblocking(false).unwrap();
    let receiver = spawn(move || other.recv(&mut [0; 8]).unwrap());
    until_parked(&receiver);
    one.send(b"abc").unwrap();
    assert_eq!(receiver.get().unwrap(), 3);
}

// ── In and out of std's type ──

#[test]
fn descriptors_go_in_and_out() {
    let _guard = hang_guard();
    let (socket, addr) = loopback();
    let number = socket.as_raw_fd();
    assert_eq!(socket.as_fd().as_raw_fd(), number);
    let socket = UdpSocket::from(OwnedFd::from(socket));
    assert_eq!(socket.local_addr().unwrap(), addr);
    // Left open on purpose: whoever takes the number is to close it.
    assert_eq!(socket.into_raw_fd(), number);
    assert_eq!(UdpSocket::bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn what_was_std_s_parks_and_what_becomes_std_s_blocks() {
    let _guard = hang_guard();
    let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    let addr = theirs.local_addr().unwrap();
    let ours = UdpSocket::from(theirs);
    assert_eq!(ours.read_timeout().unwrap(), Some(Duration::from_secs(100)));
    let receiver = spawn({
        let ours = ours.clone();
        move || ours.recv(&mut [0; 8]).unwrap()
    });
    until_parked(&receiver);
    loopback().0.send_to(b"abc", addr).unwrap();
    assert_eq!(receiver.get().unwrap(), 3);

    ours.set_read_timeout(Some(ms(20))).unwrap();
    for theirs in [ours.clone().into_std().unwrap(), std::net::UdpSocket::from(ours)] {
        let start = Instant::now();
        assert_eq!(theirs.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= ms(20), "a blocking socket waits out its limit");
    }
}

// ── Many greenlets on one socket ──

#[test]
fn receivers_are_served_first_come_first_served() {
    // N1.
    let _guard = hang_guard();
    let (one, other) = pair();
    let served = Rc::new(RefCell::new(Vec::new()));
    let receivers = in_line(4, {
        let served = Rc::clone(&served);
        move |number| {
            let mut byte = [0];
            other.recv(&mut byte).unwrap();
            served.borrow_mut().push((number, byte[0]));
        }
    });
    for byte in b'a'..b'c' {
        one.send(&[byte]).unwrap();
        let before = served.borrow().len();
        eventually(|| served.borrow().len() > before);
    }
    one.send(b"c").unwrap();
    one.send(b"d").unwrap();
    joinall(&receivers);
    assert_eq!(*served.borrow(), [(0, b'a'), (1, b'b'), (2, b'c'), (3, b'd')]);
}

#[test]
fn a_killed_receiver_leaves_its_place_and_the_datagram_to_the_next() {
    // K9.
    let _guard = hang_guard();
    let (one, other) = pair();
    let receivers = in_line(2, move |_| {
        let mut byte = [0];
        other.recv(&mut byte).unwrap();
        byte[0]
    });
    one.send(b"1").unwrap();
    receivers[0].kill();
    let results: Vec<_> = receivers.into_iter().map(Greenlet::get).collect();
    assert!(results[0].as_ref().unwrap_err().is_killed());
    assert_eq!(*results[1].as_ref().unwrap(), b'1');
}

#[test]
fn a_receiver_waits_without_stopping_the_others() {
    let _guard = hang_guard();
    let (socket, addr) = loopback();
    let receiver = spawn(move || {
        let mut buf = [0; 8];
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        socket.send_to(&buf[..len], from).unwrap();
    });
    until_parked(&receiver);
    let (one, other) = pair();
    one.send(b"meanwhile").unwrap();
    assert_eq!(other.recv(&mut [0; 16]).unwrap(), 9);
    let foreign = thread::spawn(move || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"foreign", addr).unwrap();
        socket.recv(&mut [0; 8]).unwrap()
    });
    assert_eq!(finish(foreign), 7);
    receiver.get().unwrap();
}

#[test]
fn many_serve_and_many_ask_by_one_socket_each() {
    let _guard = hang_guard();
    const EACH: usize = 50;
    let (server, addr) = loopback();
    let served = Rc::new(Cell::new(0));
    let servers = in_line(8, {
        let served = Rc::clone(&served);
        move |_| -> io::Result<()> {
            let mut buf = [0; 64];
            loop {
                let (len, from) = server.recv_from(&mut buf)?;
                served.set(served.get() + 1);
                server.send_to(&buf[..len].to_ascii_uppercase(), from)?;
            }
        }
    });
    let clients: Vec<_> = (0..8)
        .map(|client| {
            spawn(move || {
                let (socket, _) = loopback();
                socket.connect(addr).unwrap();
                for n in 0..EACH {
                    let question = format!("client {client} question {n}");
                    socket.send(question.as_bytes()).unwrap();
                    let mut answer = [0; 64];
                    let len = socket.recv(&mut answer).unwrap();
                    assert_eq!(answer[..len], *question.to_uppercase().as_bytes());
                }
            })
        })
        .collect();
    joinall(&clients);
    assert!(clients.iter().all(Greenlet::is_successful));
    assert_eq!(served.get(), 8 * EACH);
    greenloom::killall(&servers);
}

#[test]
fn calls_that_never_wait_let_the_others_run() {
    // H5.
    let _guard = hang_guard();
    const BUDGET: usize = 128;
    let (one, other) = pair();
    let done = Rc::new(Cell::new(0));
    let caller = spawn({
        let done = Rc::clone(&done);
        move || {
            for n in 1..=10 * BUDGET {
                one.send(b"x").unwrap();
                other.recv(&mut [0]).unwrap();
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
    assert!(longest <= BUDGET, "{longest} in a row");
}

// ── At the end ──

#[test]
fn descriptors_are_back_at_their_start() {
    let _guard = hang_guard();
    let child = in_child("child_counts_its_descriptors");
    assert!(child.status.success(), "{}", stderr_of(&child));
}

#[test]
#[ignore = "in a process of its own, by descriptors_are_back_at_their_start"]
fn child_counts_its_descriptors() {
    if !is_child() {
        return;
    }
    let round = || {
        let (one, other) = pair();
        let clone = other.clone();
        let killed = spawn(move || clone.recv(&mut [0]).map(drop));
        until_parked(&killed);
        killed.kill();
        assert!(with_timeout(ms(5), || other.recv(&mut [0]).is_ok()).is_err());
        one.send(b"x").unwrap();
        until_arrived(&other);
        drop((other.clone().into_std().unwrap(), other));
    };
    round();
    let before = open_files();
    (0..5).for_each(|_| round());
    assert_eq!(open_files(), before);
}
