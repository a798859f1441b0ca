// Programs for std's sockets. Compiled twice: `net` and `unix` are std's modules, or ours; `spawn`
// starts a thread, or a greenlet. Each returns what it saw, without what differs from run to run.
//
// Nothing in here knows which it is. So this is what one may rely on: std's names, types, traits and
// outcomes. Where ours differ by intent, the program says so.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
    TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
};
use unix::{UnixDatagram, UnixListener, UnixStream};

/// What a program saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(Vec<String>);

impl Seen {
    fn note(&mut self, what: &str, value: impl Debug) {
        self.0.push(format!("{what}: {value:?}"));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

const SHORT: Duration = Duration::from_millis(20);

/// The kind of an error, or that there was none. The one that ours and std's time limits give is
/// documented to differ.
fn outcome<T>(result: io::Result<T>) -> Result<(), ErrorKind> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut),
        Err(error) => Err(error.kind()),
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn connected() -> (TcpStream, TcpStream) {
    let (listener, addr) = listener();
    let client = TcpStream::connect(addr).unwrap();
    (client, listener.accept().unwrap().0)
}

pub(super) fn echo_by_tcp() -> Seen {
    fn handle(mut stream: TcpStream) -> io::Result<u64> {
        let mut buf = [0; 512];
        let mut bytes = 0;
        loop {
            match stream.read(&mut buf)? {
                0 => return Ok(bytes),
                len => stream.write_all(&buf[..len].to_ascii_uppercase())?,
            }
            bytes += 1;
        }
    }
    let mut seen = Seen::default();
    let (listener, addr) = listener();
    let server = spawn(move || {
        let (stream, peer) = listener.accept()?;
        let same = stream.peer_addr()? == peer && stream.local_addr()? == addr;
        handle(stream).map(|turns| (turns > 0, same))
    });
    let mut stream = TcpStream::connect(addr).unwrap();
    for word in ["one", "two", "three"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).unwrap();
        seen.note("answer", String::from_utf8(answer));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    seen.note("end", stream.read(&mut [0]).unwrap());
    drop(stream);
    seen.note("server", server.join().unwrap());
    seen
}

/// A server as the documentation of `TcpListener` has it, and clients at the same time.
pub(super) fn many_clients_of_a_loop_over_incoming() -> Seen {
    let mut seen = Seen::default();
    let (listener, addr) = listener();
    let server = spawn(move || {
        let mut incoming: net::Incoming<'_> = listener.incoming();
        let sessions: Vec<_> = (0..5)
            .map(|_| {
                let mut stream = incoming.next().unwrap().unwrap();
                spawn(move || {
                    let mut line = String::new();
                    BufReader::new(&stream).read_line(&mut line).unwrap();
                    write!(stream, "you said {line}").unwrap();
                })
            })
            .collect();
        sessions.into_iter().for_each(Task::join);
    });
    let clients: Vec<_> = (0..5)
        .map(|n| {
            spawn(move || {
                let stream = TcpStream::connect(addr).unwrap();
                let mut writer = BufWriter::new(&stream);
                writeln!(writer, "hello {n}").unwrap();
                writer.flush().unwrap();
                let mut answer = String::new();
                (&stream).read_to_string(&mut answer).unwrap();
                answer
            })
        })
        .collect();
    for client in clients {
        seen.note("answer", client.join());
    }
    server.join();
    seen
}

pub(super) fn vectored_and_peek() -> Seen {
    let mut seen = Seen::default();
    let (mut client, mut server) = connected();
    let parts = [IoSlice::new(b"green"), IoSlice::new(b""), IoSlice::new(b"loom")];
    seen.note("written", client.write_vectored(&parts).unwrap());
    let mut peeked = [0; 3];
    seen.note("peeked", (server.peek(&mut peeked).unwrap(), peeked));
    let (mut head, mut tail) = ([0; 4], [0; 9]);
    let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    let read = server.read_vectored(&mut buffers).unwrap();
    seen.note("read", (read, head, tail));
    client.flush().unwrap();
    seen
}

pub(super) fn options_and_time_limits() -> Seen {
    let mut seen = Seen::default();
    let (mut client, server) = connected();
    seen.note("nodelay", client.nodelay());
    client.set_nodelay(true).unwrap();
    client.set_ttl(77).unwrap();
    seen.note("nodelay, ttl", (client.nodelay(), client.ttl()));
    seen.note("limits", (client.read_timeout(), client.write_timeout()));
    seen.note("zero", outcome(client.set_read_timeout(Some(Duration::ZERO))));
    client.set_read_timeout(Some(SHORT)).unwrap();
    client.set_write_timeout(Some(SHORT)).unwrap();
    seen.note("limits", (client.read_timeout(), client.write_timeout()));
    seen.note("read", outcome(client.read(&mut [0])));
    seen.note("peek", outcome(client.peek(&mut [0])));
    seen.note("write", outcome(client.write_all(&vec![0; 64 << 20])));
    client.set_read_timeout(None).unwrap();
    seen.note("limits", (client.read_timeout(), client.write_timeout()));
    seen.note("pending", client.take_error().unwrap().is_some());
    server.set_nonblocking(true).unwrap();
    server.set_nonblocking(false).unwrap();

    let (listener, addr) = listener();
    listener.set_ttl(33).unwrap();
    seen.note("listener", (listener.ttl(), listener.take_error().unwrap().is_none()));
    listener.set_nonblocking(true).unwrap();
    seen.note("nobody", listener.accept().map(drop).map_err(|error| error.kind()));
    listener.set_nonblocking(false).unwrap();
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(60));
    seen.note("within a minute", outcome(stream));
    let zero = TcpStream::connect_timeout(&addr, Duration::ZERO);
    seen.note("within no time", outcome(zero));
    seen
}

pub(super) fn non_blocking_calls() -> Seen {
    let mut seen = Seen::default();
    let kind = |result: io::Result<usize>| result.map_err(|error| error.kind());
    let (mut client, mut server) = connected();
    client.set_nonblocking(true).unwrap();
    seen.note("nothing yet", kind(client.read(&mut [0])));
    server.write_all(b"x").unwrap();
    while client.peek(&mut [0]).is_err() {}
    seen.note("something", kind(client.read(&mut [0; 8])));
    drop(server);
    while client.peek(&mut [0]).is_err() {}
    seen.note("the end", kind(client.read(&mut [0; 8])));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    seen.note("no datagram", kind(socket.recv(&mut [0])));
    let (stream, _peer) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    seen.note("no byte", kind((&stream).read(&mut [0])));
    seen
}

pub(super) fn half_close() -> Seen {
    let mut seen = Seen::default();
    let (mut client, mut server) = connected();
    let reader = spawn(move || {
        let mut question = String::new();
        server.read_to_string(&mut question).unwrap();
        server.write_all(question.to_uppercase().as_bytes()).unwrap();
        question
    });
    client.write_all(b"no more from me").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    seen.note("write", outcome(client.write(b"x")));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    seen.note("answer", answer);
    seen.note("question", reader.join());
    seen.note("shutdown", outcome(client.shutdown(Shutdown::Both)));
    seen
}

/// One reads and one writes, each by a clone.
pub(super) fn reader_and_writer_by_clones() -> Seen {
    const LEN: usize = 1 << 20;
    let mut seen = Seen::default();
    let (client, server) = connected();
    let mut copying = (server.try_clone().unwrap(), server);
    let echo = spawn(move || io::copy(&mut copying.0, &mut copying.1).unwrap());
    let mut writing = client.try_clone().unwrap();
    let writer = spawn(move || {
        writing.write_all(&vec![b'w'; LEN]).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let mut reading = client.try_clone().unwrap();
    let reader = spawn(move || {
        let mut all = Vec::new();
        reading.read_to_end(&mut all).unwrap();
        (all.len(), all.iter().all(|&byte| byte == b'w'))
    });
    writer.join();
    seen.note("read", reader.join());
    seen.note("copied", echo.join());
    seen.note("open still", client.peer_addr().is_ok());
    seen
}

pub(super) fn errors_of_tcp() -> Seen {
    let mut seen = Seen::default();
    let (_listener, addr) = listener();
    seen.note("taken", outcome(TcpListener::bind(addr)));
    // The port of a client is taken, and nobody listens there.
    let (client, _server) = connected();
    let closed = client.local_addr().unwrap();
    seen.note("refused", outcome(TcpStream::connect(closed)));
    let within = Duration::from_secs(60);
    seen.note("refused", outcome(TcpStream::connect_timeout(&closed, within)));
    let none: &[SocketAddr] = &[];
    seen.note("none", (outcome(TcpStream::connect(none)), outcome(TcpListener::bind(none))));
    seen.note("not ours", outcome(TcpListener::bind("192.0.2.1:0")));
    let (client, server) = connected();
    drop(server);
    let mut client = client;
    seen.note("end", client.read(&mut [0]).unwrap());
    let lost = (0..1_000).find_map(|_| client.write_all(&[0; 1_000]).err()).unwrap().kind();
    let ways = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    seen.note("lost", ways.contains(&lost));
    seen
}

pub(super) fn exchange_by_udp() -> Seen {
    let mut seen = Seen::default();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let echo = spawn(move || {
        let mut buf = [0; 64];
        for _ in 0..4 {
            let (len, from) = server.recv_from(&mut buf).unwrap();
            server.send_to(&buf[..len], from).unwrap();
        }
    });
    let client = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    seen.note("peer", client.peer_addr().map_err(|error| error.kind()));
    seen.note("sent", client.send_to(b"unconnected", addr).unwrap());
    let mut buf = [0; 8];
    let (len, from) = client.peek_from(&mut buf).unwrap();
    seen.note("peeked", (len, buf, from == addr));
    let (len, from) = client.recv_from(&mut buf).unwrap();
    seen.note("cut off", (len, buf, from == addr));
    client.connect(addr).unwrap();
    seen.note("peer", client.peer_addr().unwrap() == addr);
    for datagram in ["", "connected", "last"] {
        seen.note("sent", client.send(datagram.as_bytes()).unwrap());
        let mut buf = [0; 64];
        seen.note("peeked", client.peek(&mut buf).unwrap());
        let len = client.recv(&mut buf).unwrap();
        seen.note("received", std::str::from_utf8(&buf[..len]));
    }
    echo.join();
    client.set_read_timeout(Some(SHORT)).unwrap();
    client.set_write_timeout(Some(SHORT)).unwrap();
    seen.note("limits", (client.read_timeout(), client.write_timeout()));
    // The server has gone: the system may tell so before the time is over.
    seen.note("nothing more", client.recv_from(&mut buf).is_err());
    seen
}

pub(super) fn options_and_errors_of_udp() -> Seen {
    let mut seen = Seen::default();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_multicast_loop_v4(false).unwrap();
    socket.set_multicast_ttl_v4(9).unwrap();
    socket.set_ttl(19).unwrap();
    seen.note("broadcast", socket.broadcast());
    seen.note("multicast", (socket.multicast_loop_v4(), socket.multicast_ttl_v4()));
    seen.note("ttl", (socket.ttl(), socket.take_error().unwrap().is_none()));
    let (group, interface) = (Ipv4Addr::new(224, 0, 0, 215), Ipv4Addr::LOCALHOST);
    seen.note("join", outcome(socket.join_multicast_v4(&group, &interface)));
    seen.note("leave", outcome(socket.leave_multicast_v4(&group, &interface)));
    seen.note("again", outcome(socket.leave_multicast_v4(&group, &interface)));
    let none: &[SocketAddr] = &[];
    seen.note("none", (outcome(socket.send_to(b"", none)), outcome(socket.connect(none))));
    seen.note("to whom", outcome(socket.send(b"x")));
    seen.note("too long", outcome(socket.send_to(&[0; 70_000], "127.0.0.1:9")));
    let here = socket.local_addr().unwrap();
    seen.note("taken", outcome(UdpSocket::bind(here)));
    let clone = socket.try_clone().unwrap();
    drop(socket);
    seen.note("the clone's", clone.local_addr().unwrap() == here);
    clone.connect(clone.local_addr().unwrap()).unwrap();
    clone.send(b"to myself").unwrap();
    seen.note("from myself", clone.recv(&mut [0; 16]).unwrap());

    if let Ok(six) = UdpSocket::bind(("::1", 0)) {
        six.set_multicast_loop_v6(false).unwrap();
        seen.note("multicast", six.multicast_loop_v6());
        let group = "ff01::d7".parse::<Ipv6Addr>().unwrap();
        seen.note("join", outcome(six.join_multicast_v6(&group, 1)));
        seen.note("leave", outcome(six.leave_multicast_v6(&group, 1)));
    }
    seen
}

pub(super) fn refusals_by_udp() -> Seen {
    let mut seen = Seen::default();
    // Who is connected to somebody else is not there for us.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    deaf.connect(deaf.local_addr().unwrap()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(deaf.local_addr().unwrap()).unwrap();
    seen.note("sent", outcome(socket.send(b"anybody?")));
    seen.note("refused", outcome(socket.recv(&mut [0])));
    socket.set_read_timeout(Some(SHORT)).unwrap();
    seen.note("told once", outcome(socket.recv(&mut [0])));
    seen
}

pub(super) fn unix_connections() -> Seen {
    let mut seen = Seen::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    seen.note("named", listener.local_addr().unwrap().as_pathname() == Some(path.as_path()));
    seen.note("taken", outcome(UnixListener::bind(&path)));
    let server = spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
        drop(stream);
        let mut incoming: unix::Incoming<'_> = listener.incoming();
        incoming.next().unwrap().unwrap().write_all(b"by incoming").unwrap();
        for stream in (&listener).into_iter().take(1) {
            stream.unwrap().write_all(b"by a loop").unwrap();
        }
        (peer.is_unnamed(), listener.take_error().unwrap().is_none())
    });
    let mut client = UnixStream::connect(&path).unwrap();
    seen.note("here", client.local_addr().unwrap().is_unnamed());
    seen.note("there", client.peer_addr().unwrap().as_pathname() == Some(path.as_path()));
    client.write_all(b"echo").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
    let addr = unix::SocketAddr::from_pathname(&path).unwrap();
    UnixStream::connect_addr(&addr).unwrap().read_to_string(&mut text).unwrap();
    seen.note("text", text);
    seen.note("server", server.join());
    seen.note("refused", outcome(UnixStream::connect(&path)));
    std::fs::remove_file(&path).unwrap();
    seen.note("not found", outcome(UnixStream::connect(&path)));
    seen.note("bound again", outcome(UnixListener::bind_addr(&addr)));
    seen
}

pub(super) fn unix_pairs() -> Seen {
    let mut seen = Seen::default();
    let (mut one, mut other) = UnixStream::pair().unwrap();
    seen.note("names", (one.local_addr().unwrap(), one.peer_addr().unwrap()));
    let echo = spawn(move || {
        let mut lines = BufReader::new(other.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            writeln!(other, "{}", line.to_uppercase()).unwrap();
        }
    });
    one.write_all(b"a line\nand another\n").unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    let lines: Vec<_> = BufReader::new(&one).lines().map(Result::unwrap).collect();
    seen.note("lines", lines);
    echo.join();
    seen.note("broken", outcome(one.write(b"x")));
    let (mut one, _other) = UnixStream::pair().unwrap();
    one.set_read_timeout(Some(SHORT)).unwrap();
    one.set_write_timeout(Some(SHORT)).unwrap();
    seen.note("limits", (one.read_timeout(), one.write_timeout()));
    seen.note("zero", outcome(one.set_write_timeout(Some(Duration::ZERO))));
    seen.note("read", outcome(one.read(&mut [0])));
    seen.note("write", outcome(one.write_all(&vec![0; 16 << 20])));
    seen.note("pending", one.take_error().unwrap().is_some());
    seen
}

/// Who waits is told that his side has been shut down.
pub(super) fn shutdown_wakes_who_waits() -> Seen {
    let mut seen = Seen::default();
    let (tcp, _tcp_peer) = connected();
    let (unix, _unix_peer) = UnixStream::pair().unwrap();
    let (datagrams, _receiver) = UnixDatagram::pair().unwrap();
    let (a, b) = (tcp.try_clone().unwrap(), tcp.try_clone().unwrap());
    let (c, d) = (unix.try_clone().unwrap(), unix.try_clone().unwrap());
    let (e, f) = (datagrams.try_clone().unwrap(), datagrams.try_clone().unwrap());
    let big = || vec![0; 64 << 20];
    let waiters = [
        spawn(move || outcome((&a).read(&mut [0]))),
        spawn(move || outcome((&b).write_all(&big()))),
        spawn(move || outcome((&c).read(&mut [0]))),
        spawn(move || outcome((&d).write_all(&big()))),
        spawn(move || outcome(e.recv(&mut [0]))),
        spawn(move || outcome((0..).try_for_each(|_| f.send(&[0; 1_000]).map(drop)))),
    ];
    pause(Duration::from_millis(200));
    for how in [Shutdown::Write, Shutdown::Read] {
        tcp.shutdown(how).unwrap();
        unix.shutdown(how).unwrap();
        datagrams.shutdown(how).unwrap();
    }
    for waiter in waiters {
        seen.note("woken", waiter.join());
    }
    seen
}

pub(super) fn unix_datagrams() -> Seen {
    let mut seen = Seen::default();
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let receiver = UnixDatagram::bind(&there).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    seen.note("sent", sender.send_to(b"unnamed", &there).unwrap());
    let mut buf = [0; 4];
    let (len, from) = receiver.recv_from(&mut buf).unwrap();
    seen.note("cut off", (len, buf, from));
    let sender = UnixDatagram::bind_addr(&unix::SocketAddr::from_pathname(&here).unwrap()).unwrap();
    sender.connect(&there).unwrap();
    for datagram in ["one", "", "two"] {
        sender.send(datagram.as_bytes()).unwrap();
        let (len, from) = receiver.recv_from(&mut buf).unwrap();
        seen.note("named", (len, from.as_pathname() == Some(here.as_path())));
        receiver.send_to_addr(b"back", &from).unwrap();
        seen.note("back", sender.recv(&mut buf).unwrap());
    }
    seen.note("names", sender.peer_addr().unwrap().as_pathname() == Some(there.as_path()));
    seen.note("no peer", receiver.peer_addr().map_err(|error| error.kind()));
    seen.note("to whom", outcome(receiver.send(b"x")));
    seen.note("nobody", outcome(receiver.send_to(b"x", folder.path().join("nobody"))));
    receiver.connect_addr(&sender.local_addr().unwrap()).unwrap();
    receiver.send(b"connected").unwrap();
    seen.note("connected", sender.recv(&mut [0; 16]).unwrap());

    let (one, other) = UnixDatagram::pair().unwrap();
    let clone = other.try_clone().unwrap();
    let task = spawn(move || clone.recv(&mut [0; 8]).unwrap());
    one.send(b"pair").unwrap();
    seen.note("pair", task.join());
    one.set_read_timeout(Some(SHORT)).unwrap();
    one.set_write_timeout(Some(SHORT)).unwrap();
    seen.note("limits", (one.read_timeout(), one.write_timeout()));
    seen.note("nothing", outcome(one.recv(&mut buf)));
    seen.note("full", outcome((0..).try_for_each(|_| one.send(&[0; 1_000]).map(drop))));
    one.shutdown(Shutdown::Both).unwrap();
    seen.note("shut", (outcome(one.recv(&mut buf)), outcome(one.send(b"x"))));
    seen.note("pending", one.take_error().unwrap().is_some());
    seen
}

/// Everything that std counts as an address.
pub(super) fn addresses() -> Seen {
    fn all(addrs: impl ToSocketAddrs) -> Result<Vec<SocketAddr>, ErrorKind> {
        addrs.to_socket_addrs().map(Iterator::collect).map_err(|error| error.kind())
    }
    fn first<A: ToSocketAddrs<Iter = I>, I: Iterator<Item = SocketAddr>>(
        addrs: &A,
    ) -> Option<SocketAddr> {
        addrs.to_socket_addrs().ok()?.next()
    }
    let mut seen = Seen::default();
    let (four, six) = (Ipv4Addr::new(127, 0, 0, 3), Ipv6Addr::LOCALHOST);
    let four_addr = SocketAddrV4::new(four, 80);
    let six_addr = SocketAddrV6::new(six, 80, 7, 3);
    seen.note("v4", (all(four_addr), all(SocketAddr::V4(four_addr)), all((four, 80))));
    seen.note("v6", (all(six_addr), all(SocketAddr::from(six_addr)), all((six, 80))));
    seen.note("ip", (all((IpAddr::V4(four), 80)), all((IpAddr::V6(six), 80))));
    seen.note("text", (all("127.0.0.1:80"), all("[::1]:80"), all(String::from("127.0.0.1:80"))));
    seen.note("text, port", (all(("127.0.0.1", 80)), all(("::1", 80))));
    seen.note("string, port", all((String::from("127.0.0.1"), 80)));
    seen.note("scoped", all("[fe80::1%3]:80"));
    seen.note("slice", all(&[four_addr.into(), six_addr.into()][..]));
    let (to_addr, to_text): (&SocketAddrV4, &&str) = (&four_addr, &"127.0.0.1:80");
    seen.note("reference", (all(to_addr), all(to_text)));
    seen.note("first", (first(&four_addr), first(&"[::1]:80")));
    seen.note("no port", (all("127.0.0.1"), all("127.0.0.1:")));
    seen.note("no number", (all("127.0.0.1:x"), all("127.0.0.1:70000")));
    let local: BTreeSet<_> = all("localhost:80").unwrap().into_iter().collect();
    seen.note("name", (local.is_empty(), local.iter().all(|addr| addr.ip().is_loopback())));
    let parsed: Result<IpAddr, AddrParseError> = "::x".parse();
    seen.note("parsed", parsed.is_err());
    seen
}

/// What the types are besides their methods.
pub(super) fn traits() -> Seen {
    fn of_a_socket<T>(socket: T) -> bool
    where
        T: AsFd + AsRawFd + IntoRawFd + FromRawFd + From<OwnedFd> + Into<OwnedFd>,
        T: Debug + UnwindSafe + RefUnwindSafe + 'static,
    {
        let number = socket.as_raw_fd();
        let same = socket.as_fd().as_raw_fd() == number;
        let owned: OwnedFd = socket.into();
        let socket = T::from(owned);
        let kept = same && socket.as_raw_fd() == number;
        let owned: OwnedFd = socket.into();
        kept && owned.as_raw_fd() == number
    }
    fn of_a_stream<T>(stream: T) -> bool
    where
        T: Read + Write,
        for<'a> &'a T: Read + Write,
    {
        (&stream).flush().is_ok()
    }
    /// Numbers differ from run to run.
    fn without_numbers(value: impl Debug) -> String {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        text.replace(|c: char| c.is_ascii_digit(), "")
    }
    let mut seen = Seen::default();
    let (tcp_listener, _) = listener();
    let (client, server) = connected();
    let (unix, unix_peer) = UnixStream::pair().unwrap();
    let (datagrams, _) = UnixDatagram::pair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unix_listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    seen.note("shown", without_numbers((&tcp_listener, &client, &udp)));
    seen.note("shown", without_numbers((&unix, &datagrams)));
    seen.note("shown", without_numbers(tcp_listener.incoming()).contains("Incoming"));
    seen.note("streams", (of_a_stream(server), of_a_stream(unix_peer)));
    seen.note("sockets", (of_a_socket(tcp_listener), of_a_socket(client), of_a_socket(udp)));
    let unix = (of_a_socket(unix_listener), of_a_socket(unix), of_a_socket(datagrams));
    seen.note("sockets", unix);
    seen
}

pub(super) type Program = fn() -> Seen;

/// All of them, by name.
pub(super) const ALL: &[(&str, Program)] = &[
    ("echo_by_tcp", echo_by_tcp),
    ("many_clients_of_a_loop_over_incoming", many_clients_of_a_loop_over_incoming),
    ("vectored_and_peek", vectored_and_peek),
    ("options_and_time_limits", options_and_time_limits),
    ("non_blocking_calls", non_blocking_calls),
    ("half_close", half_close),
    ("reader_and_writer_by_clones", reader_and_writer_by_clones),
    ("errors_of_tcp", errors_of_tcp),
    ("exchange_by_udp", exchange_by_udp),
    ("options_and_errors_of_udp", options_and_errors_of_udp),
    ("refusals_by_udp", refusals_by_udp),
    ("unix_connections", unix_connections),
    ("unix_pairs", unix_pairs),
    ("shutdown_wakes_who_waits", shutdown_wakes_who_waits),
    ("unix_datagrams", unix_datagrams),
    ("addresses", addresses),
    ("traits", traits),
];
