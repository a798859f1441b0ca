//! Names: who is asked for the addresses of a host, who waits meanwhile, and which of the addresses
//! a connection is made to.

mod net_util;
mod util;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::net::{
    Ipv4Addr, Ipv6Addr, Resolve, SocketAddr, SystemResolver, TcpListener, TcpStream, ToSocketAddrs,
    UdpSocket, lookup, set_resolver,
};
use greenloom::sync::{Barrier, Event};
use greenloom::{Elapsed, dump, joinall, offload, sleep, spawn, spawn_later, with_timeout};
use net_util::{in_child, is_child, stderr_of};
use socket2::{Domain, Socket, Type};
use util::jobs::{Gate, Tally, eventually, meanwhile};
use util::words::{nothing_is_left, switches_of, while_unwinding};
use util::{
    FullListener, HOUR, Living, Log, MINUTE, ms, settle, swallow, until, until_parked, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        assert!(lookup("localhost", 80).unwrap().iter().all(|addr| addr.ip().is_loopback()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (hosts, port) = (Hosts::new(), listener.local_addr().unwrap().port());
        hosts.know("here", [local(1), local(port)]); // nobody listens at port 1
        let stream = TcpStream::connect(("here", port)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), local(port));
        assert_eq!(hosts.asked(), [("here".to_owned(), port)]);
    });
}

// ------------------------------------------------------------------------- words

/// 127.0.0.1, and this port.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A resolver that knows what it was told, and remembers what it was asked.
#[derive(Clone, Default)]
struct Hosts(Rc<Known>);

#[derive(Default)]
struct Known {
    addresses: RefCell<HashMap<String, Vec<SocketAddr>>>,
    asked: RefCell<Vec<(String, u16)>>,
}

impl Hosts {
    /// From now on this thread asks it.
    fn new() -> Hosts {
        let hosts = Hosts::default();
        set_resolver(hosts.clone());
        hosts
    }

    fn know<const N: usize>(&self, host: &str, addresses: [SocketAddr; N]) {
        self.0.addresses.borrow_mut().insert(host.to_owned(), addresses.into());
    }

    fn asked(&self) -> Vec<(String, u16)> {
        self.0.asked.take()
    }
}

/// Ports are part of what it was told: what is asked for does not matter.
impl Resolve for Hosts {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.0.asked.borrow_mut().push((host.to_owned(), port));
        let addresses = self.0.addresses.borrow();
        addresses.get(host).cloned().ok_or_else(|| io::Error::other(format!("who is {host}?")))
    }
}

/// A resolver that is a function.
struct By<F>(F);

impl<F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>>> Resolve for By<F> {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (self.0)(host, port)
    }
}

fn resolve_by(f: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + 'static) {
    set_resolver(By(f));
}

/// An address where nobody listens, and which nobody else gets as long as this is there.
struct Closed {
    address: SocketAddr,
    _socket: Socket,
}

impl Closed {
    fn new() -> Closed {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&local(0).into()).unwrap();
        Closed { address: socket.local_addr().unwrap().as_socket().unwrap(), _socket: socket }
    }
}

/// Somebody who listens, and where.
fn open() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// As [`FullListener`], at `::1`. `None` where there is no IPv6.
fn full_listener_v6() -> Option<(SocketAddr, Socket, Vec<std::net::TcpStream>)> {
    let listener = Socket::new(Domain::IPV6, Type::STREAM, None).ok()?;
    listener.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()).ok()?;
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, ms(50)).ok();
    let backlog = std::iter::from_fn(connect).take(256).collect();
    Some((address, listener, backlog))
}

/// The addresses that are being connected to, in the order in which that began.
fn attempts() -> Vec<String> {
    let dump = dump();
    let mut attempts: Vec<_> = dump
        .greenlets()
        .iter()
        .filter_map(|entry| Some((entry.id, entry.name.strip_prefix("connect to ")?.to_owned())))
        .collect();
    attempts.sort_unstable();
    attempts.into_iter().map(|(_, address)| address).collect()
}

/// A greenlet that connects to `host` and tells to which of its addresses.
fn connecting(host: &'static str) -> greenloom::Greenlet<io::Result<SocketAddr>> {
    spawn(move || TcpStream::connect((host, 7))?.peer_addr())
}

// ------------------------------------------------------------------ who is asked

/// The system's resolver knows what std's does.
#[test]
fn the_system_knows_what_it_knows() {
    within(MINUTE, || {
        let std_says: Vec<_> =
            std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 443)).unwrap().collect();
        assert_eq!(lookup("localhost", 443).unwrap(), std_says);
        assert_eq!(SystemResolver::new().resolve("localhost", 443).unwrap(), std_says);
        assert_eq!(lookup("127.0.0.1", 80).unwrap(), [local(80)]);
        assert_eq!(lookup("::1", 80).unwrap(), [SocketAddr::from((Ipv6Addr::LOCALHOST, 80))]);
    });
}

/// What std's trait takes, in all its forms; and what it refuses, for the same reasons.
#[test]
fn everything_that_stands_for_addresses() {
    fn all(addr: impl ToSocketAddrs) -> Vec<SocketAddr> {
        addr.to_socket_addrs().unwrap().collect()
    }
    within(MINUTE, || {
        let hosts = Hosts::new();
        let two = [local(8), local(9)];
        hosts.know("two", two);
        assert_eq!(all("two:80"), two);
        assert_eq!(all(String::from("two:80")), two);
        let text = String::from("two:80");
        assert_eq!(all(&text), two);
        assert_eq!(all(("two", 80)), two);
        assert_eq!(all((String::from("two"), 80)), two);
        assert_eq!(hosts.asked(), vec![("two".to_owned(), 80); 5]);

        // Addresses are nothing to ask for.
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
        for address in ["127.0.0.1:80", "[::1]:80"] {
            assert_eq!(all(address), [address.parse().unwrap()]);
        }
        assert_eq!(all(("127.0.0.1", 80)), [local(80)]);
        assert_eq!(all((String::from("::1"), 80)), [v6]);
        assert_eq!(all((Ipv6Addr::LOCALHOST, 80)), [v6]);
        assert_eq!(all(local(80)), [local(80)]);
        assert_eq!(all(&two[..]), two);
        for wrong in ["two", "", "two:", "two:http", "two:65536", "two:80:80x", "127.0.0.1"] {
            let ours = wrong.to_socket_addrs().expect_err(wrong);
            let stds = std::net::ToSocketAddrs::to_socket_addrs(wrong).expect_err(wrong);
            assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
        }
        assert_eq!(hosts.asked(), []);
    });
}

/// Everything in `net` that takes a name asks the resolver.
#[test]
fn all_who_take_names_ask() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        hosts.know("any", [local(0)]);
        let listener = TcpListener::bind("any:1").unwrap();
        hosts.know("listener", [listener.local_addr().unwrap()]);
        TcpStream::connect("listener:2").unwrap();
        let socket = UdpSocket::bind(("any", 3)).unwrap();
        let other = UdpSocket::bind("any:4").unwrap();
        hosts.know("socket", [socket.local_addr().unwrap()]);
        other.send_to(b"one", ("socket", 5)).unwrap();
        other.connect("socket:6").unwrap();
        other.send(b"two").unwrap();
        let mut buffer = [0; 9];
        for expected in [b"one", b"two"] {
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..count], from), (&expected[..], other.local_addr().unwrap()));
        }
        let ports: Vec<_> = hosts.asked().into_iter().map(|(_, port)| port).collect();
        assert_eq!(ports, [1, 2, 3, 4, 5, 6]);
    });
}

/// Each thread has a resolver of its own.
#[test]
fn a_resolver_belongs_to_its_thread() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        hosts.know("localhost", [local(1)]);
        let elsewhere = offload(|| lookup("localhost", 2)).unwrap();
        assert!(elsewhere.iter().all(|addr| addr.port() == 2));
        assert_eq!(hosts.asked(), []);
        assert_eq!(lookup("localhost", 2).unwrap(), [local(1)]);
        // All greenlets of the thread have the same.
        let other = spawn(|| lookup("localhost", 3));
        assert_eq!(other.get().unwrap().unwrap(), [local(1)]);
    });
}

/// One that takes the place of another: those who are being served are served to the end.
#[test]
fn a_resolver_may_be_replaced() {
    within(MINUTE, || {
        let (living, event) = (Living::new(), Event::new());
        let (token, held) = (living.token(), event.clone());
        resolve_by(move |_, _| {
            let _token = &token;
            held.wait();
            Ok(vec![local(1)])
        });
        let asking = spawn(|| lookup("host", 0));
        until_parked(asking.id());
        resolve_by(|_, _| Ok(vec![local(2)]));
        assert_eq!(lookup("host", 0).unwrap(), [local(2)]);
        assert_eq!(living.count(), 1);
        event.set();
        assert_eq!(asking.get().unwrap().unwrap(), [local(1)]);
        assert_eq!(living.count(), 0);
    });
}

/// It is the user's code, and may do as it likes.
#[test]
fn a_resolver_may_do_anything() {
    within(MINUTE, || {
        resolve_by(|host, port| match host {
            "alias" => lookup("real", port),
            "real" => Ok(vec![local(port)]),
            "system" => SystemResolver::new().resolve("127.0.0.1", port),
            "other" => {
                resolve_by(|_, _| Ok(vec![]));
                lookup("replaced", port)
            }
            _ => resume_unwind(Box::new("no idea")),
        });
        assert_eq!(lookup("alias", 5).unwrap(), [local(5)]);
        assert_eq!(lookup("system", 6).unwrap(), [local(6)]);
        assert!(swallow(|| lookup("else", 1)).is_err());
        assert!(swallow(|| TcpStream::connect("else:1")).is_err());
        assert_eq!(lookup("other", 7).unwrap(), []);
        // Its destructor may ask, too.
        struct Asks;
        impl Resolve for Asks {
            fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![local(1)])
            }
        }
        impl Drop for Asks {
            fn drop(&mut self) {
                assert_eq!(lookup("from a destructor", 0).unwrap(), [local(2)]);
            }
        }
        set_resolver(Asks);
        resolve_by(|_, _| Ok(vec![local(2)]));
    });
}

// ------------------------------------------------------------------------- errors

/// An error says which host it is about.
#[test]
fn an_unknown_host_is_named() {
    within(MINUTE, || {
        for error in [
            lookup("nowhere.invalid", 80).unwrap_err(),
            TcpStream::connect("nowhere.invalid:80").unwrap_err(),
            TcpListener::bind(("nowhere.invalid", 0)).unwrap_err(),
        ] {
            assert!(error.to_string().contains("nowhere.invalid"), "{error}");
        }
        let error = lookup("with\0zero", 80).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    });
}

#[test]
fn what_a_resolver_says_is_passed_on() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        for error in [
            TcpStream::connect("nobody:80").unwrap_err(),
            TcpListener::bind("nobody:80").unwrap_err(),
            lookup("nobody", 80).unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "who is nobody?");
        }
        // A host without an address is none to connect to.
        hosts.know("empty", []);
        assert_eq!(TcpStream::connect("empty:80").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(TcpListener::bind("empty:80").unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// The time a look-up may take is the resolver's own business.
#[test]
fn the_system_may_take_too_long() {
    within(MINUTE, || {
        let hasty = SystemResolver::new().timeout(Duration::ZERO);
        // A thread may have the answer before anybody can wait for it, but not each time.
        let error = loop {
            match hasty.resolve("localhost", 80) {
                Ok(_) => greenloom::yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("localhost"), "{error}");
        let patient = SystemResolver::new().timeout(HOUR);
        assert!(!patient.resolve("localhost", 80).unwrap().is_empty());
        // What was given up holds up nobody.
        assert!(!lookup("localhost", 80).unwrap().is_empty());
        set_resolver(hasty);
        let error = loop {
            match TcpListener::bind("localhost:0") {
                Ok(_) => greenloom::yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        eventually(nobody_is_expected);
    });
}

/// Whether nothing is left that could wake anybody.
fn nobody_is_expected() -> bool {
    swallow(nothing_is_left).is_ok()
}

// ------------------------------------------------------------------- who waits

/// The line: a look-up that takes 2 s delays only the greenlet that asked.
#[test]
fn a_slow_look_up_delays_only_who_asked() {
    within(MINUTE, || {
        let (listener, address) = open();
        resolve_by(move |host, _| {
            if host == "slow" {
                sleep(Duration::from_secs(2));
            }
            Ok(vec![address])
        });
        let log = Log::new();
        let start = Instant::now();
        let slow = spawn({
            let log = log.clone();
            move || {
                TcpStream::connect("slow:80").unwrap();
                log.say("slow");
            }
        });
        until_parked(slow.id());
        let server = spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                spawn(move || io::copy(&mut stream.clone(), &mut stream));
            }
        });
        for _ in 0..20 {
            let mut stream = TcpStream::connect("fast:80").unwrap();
            stream.write_all(b"hello").unwrap();
            let mut word = [0; 5];
            stream.read_exact(&mut word).unwrap();
            log.say("fast");
        }
        slow.get().unwrap();
        assert!(start.elapsed() >= Duration::from_secs(2));
        assert_eq!(log.count("fast"), 20);
        assert_eq!(log.lines()[20], "slow", "it came last");
        server.kill();
    });
}

/// Also the system is asked in such a way that others run.
#[test]
fn the_system_delays_only_who_asks() {
    within(MINUTE, || {
        // Not each time: a thread may have the answer before anybody has to wait for it.
        let with_a_turn_for_others = switches_of(100, || drop(lookup("localhost", 80)));
        assert!(with_a_turn_for_others >= 10, "{with_a_turn_for_others}");
    });
}

/// Several look-ups are under way at a time: each of these ends only when all have begun.
#[test]
fn look_ups_overlap() {
    within(MINUTE, || {
        const MANY: usize = 20;
        let all_are_here = Rc::new(Barrier::new(MANY));
        resolve_by(move |_, port| {
            all_are_here.wait().unwrap();
            Ok(vec![local(port)])
        });
        let asking: Vec<_> =
            (0..MANY as u16).map(|port| spawn(move || lookup("host", port))).collect();
        for (port, asking) in (0..).zip(asking) {
            assert_eq!(asking.get().unwrap().unwrap(), [local(port)]);
        }
    });
}

/// More than there are threads for.
#[test]
fn many_ask_the_system() {
    within(MINUTE, || {
        let asking: Vec<_> =
            (0..300).map(|port| spawn(move || lookup("127.0.0.1", port))).collect();
        for (port, asking) in (0..).zip(asking) {
            assert_eq!(asking.get().unwrap().unwrap(), [local(port)]);
        }
        settle();
        nothing_is_left();
    });
}

/// Killed while it looks a name up: that ends at once, and what is found is dropped.
#[test]
fn who_asks_may_be_killed() {
    within(MINUTE, || {
        // In greenlets, where all that the resolver has borrowed is given back,
        let living = Living::new();
        let tokens = living.clone();
        resolve_by(move |_, _| {
            let _token = tokens.token();
            sleep(HOUR);
            Ok(vec![])
        });
        assert_interrupted();
        assert_eq!(living.count(), 0);
        // and in threads, which go on.
        let (gate, tally) = (Gate::new(), Tally::new());
        let (held, tokens) = (gate.clone(), tally.clone());
        resolve_by(move |_, _| {
            drop(offload(held.then(tokens.token())));
            Ok(vec![])
        });
        assert_interrupted();
        assert_eq!(tally.alive(), 4);
        gate.open();
        eventually(|| tally.alive() == 0);
        nothing_is_left();
    });
}

/// Kills two who ask, and lets the time of two others be over.
fn assert_interrupted() {
    let killed =
        [spawn(|| drop(lookup("host", 80))), spawn(|| drop(TcpStream::connect("host:80")))];
    for asking in killed {
        until_parked(asking.id());
        asking.kill();
        assert!(asking.get().unwrap_err().is_killed());
    }
    assert_eq!(with_timeout(ms(5), || drop(lookup("host", 80))), Err(Elapsed));
    assert_eq!(with_timeout(ms(5), || drop(TcpStream::connect("host:80"))), Err(Elapsed));
}

/// The same for the system's own, at every moment of a look-up.
#[test]
fn who_asks_the_system_may_be_killed_at_any_moment() {
    within(MINUTE, || {
        for round in 0..200 {
            let asking = spawn(|| lookup("localhost", 80).map(|found| found.len()));
            if round % 2 == 0 {
                until_parked_or_done(&asking);
            }
            util::spin(Duration::from_micros(round % 50));
            asking.kill();
        }
        assert!(!lookup("localhost", 80).unwrap().is_empty());
        eventually(nobody_is_expected);
    });
}

fn until_parked_or_done<T: 'static>(greenlet: &greenloom::Greenlet<T>) {
    until(|| greenlet.is_finished() || util::state_of(greenlet.id()) == Some("parked"));
}

/// While a greenlet unwinds nothing waits: what is not there at once is an error.
#[test]
fn while_a_greenlet_unwinds() {
    fn must_not_wait<T>(result: io::Result<T>) {
        if let Err(error) = result {
            let at_once = [ErrorKind::Other, ErrorKind::ConnectionRefused];
            assert!(at_once.contains(&error.kind()), "{error}");
        }
    }
    within(MINUTE, || {
        let listener = FullListener::new();
        let silent = listener.address();
        while_unwinding(move || {
            // A thread may have the answer before anybody asks.
            must_not_wait(lookup("localhost", 80));
            must_not_wait(TcpStream::connect("localhost:80"));
            assert_eq!("127.0.0.1:80".to_socket_addrs().unwrap().next(), Some(local(80)));
            let (hosts, (_listener, address)) = (Hosts::new(), open());
            hosts.know("one", [address]);
            hosts.know("some", [silent, silent, address]);
            assert_eq!(lookup("one", 80).unwrap(), [address]);
            must_not_wait(TcpStream::connect("one:80"));
            let connected = TcpStream::connect("some:80");
            assert_eq!(connected.unwrap_err().kind(), ErrorKind::Other);
            set_resolver(SystemResolver::new());
        });
        settle();
        assert_eq!(attempts(), [""; 0]);
        drop(listener);
    });
}

// ------------------------------------------------------------ which address it is

/// One after the other is refused: the next is tried at once, and not after a head start each.
#[test]
fn the_next_one_is_tried_when_one_is_refused() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let (closed, (_listener, address)) = (Closed::new(), open());
        let mut addresses = [closed.address; 101];
        addresses[100] = address;
        hosts.know("host", addresses);
        // A hundred head starts would be 25 seconds.
        let log = Log::new();
        let said = log.clone();
        let clock = spawn_later(Duration::from_secs(20), move || said.say("20 seconds"));
        assert_eq!(connecting("host").get().unwrap().unwrap(), address);
        log.assert_empty();
        clock.kill();
        assert_eq!(attempts(), [""; 0]);
    });
}

/// RFC 8305: one that does not answer has a head start of 250 ms, and then the next is tried as well.
/// Who is late is given up.
#[test]
#[cfg(target_os = "linux")] // where a full backlog is silent
fn the_next_one_is_tried_when_one_is_silent() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let (silent, (listener, address)) = (FullListener::new(), open());
        hosts.know("host", [silent.address(), address]);
        let start = Instant::now();
        let connecting = connecting("host");
        until(|| attempts() == [silent.address().to_string()]);
        assert_eq!(connecting.get().unwrap().unwrap(), address);
        assert!(start.elapsed() >= ms(250));
        listener.accept().unwrap();
        settle();
        assert_eq!(attempts(), [""; 0], "the one who lost has gone");
        nothing_is_left();
    });
}

/// The last one is waited for as long as it takes.
#[test]
#[cfg(target_os = "linux")]
fn the_last_one_is_waited_for() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let (silent, closed) = (FullListener::new(), Closed::new());
        hosts.know("host", [closed.address, silent.address(), closed.address]);
        let connecting = connecting("host");
        eventually(|| attempts() == [silent.address().to_string()]);
        sleep(ms(300));
        assert_eq!(attempts(), [silent.address().to_string()], "both others have failed");
        assert!(!connecting.is_finished());
        connecting.kill();
        settle();
        assert_eq!(attempts(), [""; 0]);
    });
}

/// RFC 8305, 4: the families take turns, beginning with that of the first address.
#[test]
#[cfg(target_os = "linux")]
fn families_take_turns() {
    within(MINUTE, || {
        let [v4a, v4b] = [FullListener::new(), FullListener::new()];
        let (Some(v6a), Some(v6b)) = (full_listener_v6(), full_listener_v6()) else { return };
        let [a, b, c, d] = [v4a.address(), v4b.address(), v6a.0, v6b.0];
        let hosts = Hosts::new();
        for (given, tried) in [
            ([a, b, c, d], [a, c, b, d]),
            ([c, d, a, b], [c, a, d, b]),
            ([a, c, d, b], [a, c, b, d]),
        ] {
            hosts.know("host", given);
            let connecting = connecting("host");
            eventually(|| attempts().len() == 4);
            assert_eq!(attempts(), tried.map(|address| address.to_string()));
            connecting.kill();
            settle();
            assert_eq!(attempts(), [""; 0]);
        }
        // More of one family than of the other.
        hosts.know("host", [a, b, c]);
        let connecting = connecting("host");
        eventually(|| attempts().len() == 3);
        assert_eq!(attempts(), [a, c, b].map(|address| address.to_string()));
        connecting.kill();
    });
}

/// If all fail, it is the last who says why.
#[test]
fn all_may_fail() {
    within(MINUTE, || {
        let (hosts, closed) = (Hosts::new(), Closed::new());
        // An address of a link, without saying which: nobody can be asked about that.
        let senseless = "[fe80::1]:80".parse().unwrap();
        hosts.know("refused", [senseless, closed.address]);
        hosts.know("senseless", [closed.address, senseless]);
        let refused = connecting("refused").get().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let senseless = connecting("senseless").get().unwrap().unwrap_err();
        assert_ne!(senseless.kind(), ErrorKind::ConnectionRefused);
        assert!(senseless.raw_os_error().is_some(), "the system's own word: {senseless}");
        assert_eq!(attempts(), [""; 0]);
    });
}

/// A list of addresses is not a host: its order is the caller's, and one is tried after the other.
#[test]
#[cfg(target_os = "linux")]
fn a_list_is_tried_in_turn() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let (silent, closed, (_listener, address)) = (FullListener::new(), Closed::new(), open());
        let stream = TcpStream::connect(&[closed.address, address][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let list = [silent.address(), address];
        let connecting = spawn(move || TcpStream::connect(&list[..]).map(drop));
        sleep(ms(400));
        assert!(!connecting.is_finished(), "nobody answers, and nobody else is asked");
        connecting.kill();
        assert_eq!(hosts.asked(), []);
    });
}

/// Whoever connects may be killed, or run out of time, whatever is under way by then: nothing of it
/// is left.
#[test]
#[cfg(target_os = "linux")]
fn who_connects_may_be_killed() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let silent = FullListener::new();
        hosts.know("host", [silent.address(); 3]);
        for count in 1..=3 {
            let connecting = connecting("host");
            eventually(|| attempts().len() == count);
            connecting.kill();
            settle();
            assert_eq!(attempts(), [""; 0]);
        }
        assert!(with_timeout(ms(300), || TcpStream::connect("host:80")).is_err());
        settle();
        assert_eq!(attempts(), [""; 0]);
        nothing_is_left();
    });
}

/// The connection stands, and before anybody has had a turn the caller is killed.
#[test]
fn connected_and_killed_in_one_turn() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let (listener, address) = open();
        hosts.know("host", [address]);
        for round in 0..50 {
            let connecting = connecting("host");
            for _ in 0..round % 5 {
                greenloom::yield_now();
            }
            connecting.kill();
            settle();
            assert_eq!(attempts(), [""; 0]);
        }
        // Whatever came to stand has been closed: all that can be accepted is at its end.
        listener.set_nonblocking(true).unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
        nothing_is_left();
    });
}

/// Many hosts at the same time, each with an address that is dead.
#[test]
fn many_connect_by_name() {
    within(MINUTE, || {
        let hosts = Hosts::new();
        let (closed, (_listener, address)) = (Closed::new(), open());
        hosts.know("host", [closed.address, address, closed.address]);
        let connecting: Vec<_> = (0..100).map(|_| connecting("host")).collect();
        joinall(&connecting);
        for connecting in connecting {
            assert_eq!(connecting.get().unwrap().unwrap(), address);
        }
        assert_eq!(hosts.asked().len(), 100);
    });
}

// ----------------------------------------------------------- nothing is left behind

#[test]
#[cfg(target_os = "linux")]
fn descriptors_come_back() {
    let child = in_child("child_counts_descriptors");
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{stdout}{}", stderr_of(&child));
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[test]
#[ignore = "run by descriptors_come_back in a process of its own"]
fn child_counts_descriptors() {
    fn count() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }
    fn race() {
        let hosts = Hosts::new();
        let (silent, closed, (_listener, address)) = (FullListener::new(), Closed::new(), open());
        // One who loses, one who falls, one who wins.
        hosts.know("host", [silent.address(), closed.address, address]);
        drop(TcpStream::connect("host:80").unwrap());
        // All fall; all are silent, and the caller is killed.
        hosts.know("host", [closed.address; 3]);
        TcpStream::connect("host:80").unwrap_err();
        hosts.know("host", [silent.address(); 2]);
        let connecting = connecting("host");
        eventually(|| attempts().len() == 2);
        connecting.kill();
        set_resolver(SystemResolver::new());
        lookup("localhost", 80).unwrap();
        settle();
    }
    if !is_child() {
        return;
    }
    within(MINUTE, || {
        race(); // once for what the hub and the threads for names open and keep
        let before = count();
        for _ in 0..3 {
            race();
        }
        meanwhile(|| count() == before);
    });
}

// ── What once went wrong ──

/// Without a descriptor or a thread to look it up by, connecting by name panicked.
#[test]
fn a_look_up_without_a_descriptor_is_an_error() {
    let child = in_child("child_without_descriptors");
    assert!(child.status.success(), "{}", stderr_of(&child));
}

#[test]
#[ignore = "run by a_look_up_without_a_descriptor_is_an_error in a process of its own"]
fn child_without_descriptors() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if !is_child() {
        return;
    }
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    for error in [
        TcpStream::connect("localhost:1").err(),
        greenloom::net::lookup("localhost", 1).err(),
        greenloom::fs::metadata("/").err(),
    ] {
        let error = error.expect("there is nothing to be woken by").to_string();
        assert!(error.contains("Too many open files"), "{error}");
    }
    drop(all);
    assert!(greenloom::net::lookup("localhost", 1).is_ok());
}
