//! `net::unix`: what Unix sockets do that TCP and UDP do not, and every wait of theirs.

mod net_util;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use greenloom::net::Shutdown;
use greenloom::net::unix::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use greenloom::{Greenlet, joinall, sleep, spawn, with_timeout, yield_now};
use net_util::{
    ask, eventually, finish, hang_guard, in_child, in_line, is_child, ms, open_files, stderr_of,
    until, until_parked, upper_case_echo,
};

/// More than the kernel buffers for one connection that nobody reads.
const MORE_THAN_BUFFERS: usize = 16 << 20;

/// A folder for sockets, which goes when it is dropped.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("echo");
    let listener = UnixListener::bind(&path).unwrap();
    let server = spawn(move || upper_case_echo(listener.accept().unwrap().0).unwrap());
    let mut client = UnixStream::connect(&path).unwrap();
    assert_eq!(ask(&client, "hello"), "HELLO");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    server.get().unwrap();
}

// ── std's methods, one by one ──

#[test]
fn addresses_are_those_of_std() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("named");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    let client = UnixStream::connect(&path).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert!(peer.is_unnamed());
    assert!(client.local_addr().unwrap().is_unnamed());
    assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(path.as_path()));
    assert_eq!(server.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    assert!(server.peer_addr().unwrap().is_unnamed());
}

/// A foreign socket that is bound to `from` and connected to `to`; not even closed by std.
fn bound_and_connected(kind: socket2::Type, from: &Path, to: &Path) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, kind, None).unwrap();
    // Not by socket2, which has no address for a path that fills the structure.
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(from).unwrap()).unwrap();
    socket.connect(&socket2::SockAddr::unix(to).unwrap()).unwrap();
    socket
}

#[test]
fn a_peer_that_is_bound_is_known_by_its_name() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let (here, there) = (folder.path("here"), folder.path("there"));
    let listener = UnixListener::bind(&there).unwrap();
    let _peer = bound_and_connected(socket2::Type::STREAM, &here, &there);
    assert_eq!(listener.accept().unwrap().1.as_pathname(), Some(here.as_path()));
}

/// A path in `folder` of so many bytes.
fn path_of(len: usize, folder: &Folder) -> PathBuf {
    let path = folder.path(&"x".repeat(len - folder.path("").as_os_str().len()));
    assert_eq!(path.as_os_str().len(), len);
    path
}

/// 107 bytes: all of the system's structure but for the zero. 108: all of it.
#[test]
#[cfg(target_os = "linux")]
fn a_peer_whose_path_fills_the_structure_is_accepted_and_named_as_by_std() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let there = folder.path("there");
    let listener = UnixListener::bind(&there).unwrap();
    for len in [106, 107, 108] {
        let here = path_of(len, &folder);
        let peer = bound_and_connected(socket2::Type::STREAM, &here, &there);
        let (mut stream, name) = listener.accept().unwrap();
        assert_eq!(name.as_pathname(), Some(here.as_path()), "{len}");
        assert_eq!(stream.peer_addr().unwrap().as_pathname(), name.as_pathname());
        stream.write_all(b"!").unwrap();
        (&peer).read_exact(&mut [0]).unwrap();
    }
}

/// Of 108 bytes, std makes no address but its own.
#[test]
#[cfg(target_os = "linux")]
fn a_datagram_is_not_lost_by_the_name_of_its_sender() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let there = folder.path("there");
    let receiver = UnixDatagram::bind(&there).unwrap();
    for len in [106, 107, 108] {
        let here = path_of(len, &folder);
        let sender = bound_and_connected(socket2::Type::DGRAM, &here, &there);
        sender.send(b"abc").unwrap();
        for receive in [UnixDatagram::peek_from, UnixDatagram::recv_from] {
            let (received, name) = receive(&receiver, &mut [0; 8]).unwrap();
            assert_eq!(received, 3);
            assert_eq!(name.as_pathname(), (len < 108).then_some(here.as_path()), "{len}");
            assert_eq!(name.is_unnamed(), len == 108);
        }
    }
}

/// One may be bound to names that are no text, have zeros inside, or are empty.
#[test]
#[cfg(target_os = "linux")]
fn odd_names_are_those_of_std() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;

    let _guard = hang_guard();
    let folder = Folder::new();
    let there = folder.path("there");
    let listener = UnixListener::bind(&there).unwrap();
    let receiver = UnixDatagram::bind(folder.path("receiver")).unwrap();

    let path = folder.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    let _peer = bound_and_connected(socket2::Type::STREAM, &path, &there);
    assert_eq!(listener.accept().unwrap().1.as_pathname(), Some(path.as_path()));

    let number = format!("greenloom{}", std::process::id());
    for name in [format!("{number}\0b\0"), format!("{number:x<107}")] {
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let system = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let peer = socket(socket2::Type::STREAM);
        rustix::net::bind(&peer, &system).unwrap();
        peer.connect(&socket2::SockAddr::unix(&there).unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1.as_abstract_name(), Some(name.as_bytes()));
        drop(peer);

        let sender = std_unix::UnixDatagram::bind_addr(&addr).unwrap();
        sender.send_to(b"abc", folder.path("receiver")).unwrap();
        let (len, from) = receiver.recv_from(&mut [0; 8]).unwrap();
        assert_eq!((len, from.as_abstract_name()), (3, Some(name.as_bytes())));
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> SocketAddr {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("greenloom {name} {}", std::process::id());
    SocketAddr::from_abstract_name(name).unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_names_need_no_file() {
    use std::os::linux::net::SocketAddrExt as _;
    let _guard = hang_guard();
    let there = abstract_address("listener");
    let listener = UnixListener::bind_addr(&there).unwrap();
    let server = spawn(move || upper_case_echo(listener.accept().unwrap().0).unwrap());
    let client = UnixStream::connect_addr(&there).unwrap();
    let peer = client.peer_addr().unwrap();
    assert_eq!(peer.as_abstract_name(), there.as_abstract_name());
    assert_eq!(ask(&client, "abstract"), "ABSTRACT");
    drop(client);
    server.get().unwrap();

    let (one, two) = (abstract_address("one"), abstract_address("two"));
    let receiver = UnixDatagram::bind_addr(&one).unwrap();
    let sender = UnixDatagram::bind_addr(&two).unwrap();
    sender.send_to_addr(b"name", &one).unwrap();
    let (len, from) = receiver.recv_from(&mut [0; 8]).unwrap();
    assert_eq!((len, from.as_abstract_name()), (4, two.as_abstract_name()));
    receiver.connect_addr(&from).unwrap();
    receiver.send(b"answer").unwrap();
    assert_eq!(sender.recv(&mut [0; 8]).unwrap(), 6);
}

#[test]
fn nobody_there_is_an_error_at_once() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let connect = |name| UnixStream::connect(folder.path(name)).unwrap_err().kind();
    assert_eq!(connect("never was"), ErrorKind::NotFound);
    drop(UnixListener::bind(folder.path("left behind")).unwrap());
    assert_eq!(connect("left behind"), ErrorKind::ConnectionRefused);
    let again = UnixListener::bind(folder.path("left behind")).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    let too_long = "x".repeat(200);
    assert_eq!(connect(&too_long), ErrorKind::InvalidInput);
    let sender = UnixDatagram::unbound().unwrap();
    let send_to = |name| sender.send_to(b"x", folder.path(name)).unwrap_err().kind();
    assert_eq!(send_to("never was"), ErrorKind::NotFound);
    assert_eq!(send_to(&too_long), ErrorKind::InvalidInput);
}

#[test]
fn incoming_and_a_loop_over_the_listener_yield_connections() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("loop");
    let listener = UnixListener::bind(&path).unwrap();
    let server = spawn(move || {
        for stream in listener.incoming().take(2) {
            upper_case_echo(stream.unwrap()).unwrap();
        }
        for stream in (&listener).into_iter().take(1) {
            upper_case_echo(stream.unwrap()).unwrap();
        }
    });
    for word in ["one", "two", "three"] {
        assert_eq!(ask(UnixStream::connect(&path).unwrap(), word), word.to_uppercase());
    }
    server.get().unwrap();
}

#[test]
fn time_limits_are_kept_and_read_back() {
    let _guard = hang_guard();
    let (mut stream, _peer) = UnixStream::pair().unwrap();
    let (datagrams, _receiver) = UnixDatagram::pair().unwrap();
    for refused in [
        stream.set_read_timeout(Some(Duration::ZERO)),
        stream.set_write_timeout(Some(Duration::ZERO)),
        datagrams.set_read_timeout(Some(Duration::ZERO)),
        datagrams.set_write_timeout(Some(Duration::ZERO)),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    stream.set_read_timeout(Some(ms(30))).unwrap();
    stream.set_write_timeout(Some(ms(40))).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), Some(ms(30)));
    assert_eq!(stream.write_timeout().unwrap(), Some(ms(40)));
    let start = Instant::now();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    let full = stream.write_all(&vec![7; MORE_THAN_BUFFERS]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= ms(100));

    datagrams.set_read_timeout(Some(ms(30))).unwrap();
    assert_eq!(datagrams.recv(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(datagrams.peek_from(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    datagrams.set_write_timeout(Some(ms(30))).unwrap();
    let full = (0..).find_map(|_| datagrams.send(&[7; 1000]).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_socket_set_nonblocking_never_parks() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let would_block = ErrorKind::WouldBlock;
    let listener = UnixListener::bind(folder.path("listener")).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), would_block);

    let (mut stream, _peer) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), would_block);
    let full = stream.write_all(&vec![7; MORE_THAN_BUFFERS]).unwrap_err();
    assert_eq!(full.kind(), would_block);

    let receiver = UnixDatagram::bind(folder.path("receiver")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    receiver.set_nonblocking(true).unwrap();
    sender.set_nonblocking(true).unwrap();
    assert_eq!(receiver.recv(&mut [0]).unwrap_err().kind(), would_block);
    let send = || sender.send_to(b"x", folder.path("receiver"));
    assert_eq!((0..).find_map(|_| send().err()).unwrap().kind(), would_block);
}

#[test]
fn vectored_reads_and_writes_use_all_their_buffers() {
    let _guard = hang_guard();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let parts = [IoSlice::new(b"green"), IoSlice::new(b""), IoSlice::new(b"loom")];
    assert_eq!(ours.write_vectored(&parts).unwrap(), 9);
    let (mut head, mut tail) = ([0; 4], [0; 8]);
    let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    assert_eq!(theirs.read_vectored(&mut buffers).unwrap(), 9);
    assert_eq!((&head, &tail[..5]), (b"gree", &b"nloom"[..]));
}

#[test]
fn peek_and_wait_readable_take_nothing() {
    let _guard = hang_guard();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let watcher = spawn({
        let ours = ours.clone();
        move || ours.wait_readable().unwrap()
    });
    until_parked(&watcher);
    theirs.write_all(b"abc").unwrap();
    watcher.get().unwrap();
    let mut seen = [0; 8];
    assert_eq!(ours.peek(&mut seen).unwrap(), 3);
    assert_eq!(ours.read(&mut seen).unwrap(), 3);
    assert_eq!(&seen[..3], b"abc");
}

#[test]
fn take_error_and_settings_of_clones() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let clone = stream.try_clone().unwrap();
    clone.set_read_timeout(Some(ms(70))).unwrap();
    assert_eq!(stream.read_timeout().unwrap(), Some(ms(70)));
    assert!(stream.take_error().unwrap().is_none());
    let (datagrams, _receiver) = UnixDatagram::pair().unwrap();
    assert!(datagrams.try_clone().unwrap().take_error().unwrap().is_none());
}

#[test]
fn a_descriptor_that_arrives_does_not_end_the_stream_early() {
    // A Unix stream stops a read where a descriptor was sent along: fewer bytes than there was room
    // for do not mean that there are no more.
    let _guard = hang_guard();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let reader = spawn(move || {
        let mut all = String::new();
        ours.read_to_string(&mut all).unwrap();
        all
    });
    until_parked(&reader);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let sent_along = [theirs.as_fd()];
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&sent_along)));
    let flags = rustix::net::SendFlags::empty();
    let with = [IoSlice::new(b"with a descriptor, ")];
    rustix::net::sendmsg(&theirs, &with, &mut control, flags).unwrap();
    (&theirs).write_all(b"and without").unwrap();
    drop(theirs);
    assert_eq!(reader.get().unwrap(), "with a descriptor, and without");
}

// ── In and out of std's types ──

#[test]
fn descriptors_go_in_and_out() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    assert_eq!(ours.as_fd().as_raw_fd(), number);
    let mut ours = UnixStream::from(OwnedFd::from(ours));
    assert_eq!(ours.as_raw_fd(), number);
    ours.write_all(b"x").unwrap();
    theirs.read_exact(&mut [0]).unwrap();

    let listener = UnixListener::bind(folder.path("listener")).unwrap();
    let number = listener.as_raw_fd();
    let listener = UnixListener::from(OwnedFd::from(listener));
    assert_eq!(listener.into_raw_fd(), number); // Left open: whoever takes it is to close it.
    assert!(std_unix::UnixStream::connect(folder.path("listener")).is_ok());

    let (one, other) = UnixDatagram::pair().unwrap();
    let one = UnixDatagram::from(OwnedFd::from(one));
    one.send(b"y").unwrap();
    assert_eq!(other.recv(&mut [0]).unwrap(), 1);
}

#[test]
fn what_was_std_s_parks_greenlets_and_not_the_thread() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("listener");
    let listener = UnixListener::from(std_unix::UnixListener::bind(&path).unwrap());
    let accepting = spawn(move || listener.accept().unwrap());
    until_parked(&accepting);
    let mut peer = std_unix::UnixStream::connect(&path).unwrap();
    let (stream, _) = accepting.get().unwrap();

    let mut stream = UnixStream::from(stream.into_std().unwrap());
    let reading = spawn(move || stream.read(&mut [0]).unwrap());
    until_parked(&reading);
    peer.write_all(b"x").unwrap();
    assert_eq!(reading.get().unwrap(), 1);

    let (one, other) = std_unix::UnixDatagram::pair().unwrap();
    one.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    let one = UnixDatagram::from(one);
    assert_eq!(one.read_timeout().unwrap(), Some(Duration::from_secs(100)));
    let receiving = spawn(move || one.recv(&mut [0; 8]).unwrap());
    until_parked(&receiving);
    other.send(b"abc").unwrap();
    assert_eq!(receiving.get().unwrap(), 3);
}

#[test]
fn what_becomes_std_s_blocks_and_keeps_its_limits() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let waited = spawn({
        let listener = listener.clone();
        move || listener.accept().map(drop)
    });
    until_parked(&waited);
    waited.kill(); // It has waited once; that must not show any more.
    let listener = listener.into_std().unwrap();
    let accepting = thread::spawn(move || listener.accept().map(drop));
    let _client = UnixStream::connect(&path).unwrap();
    finish(accepting).unwrap();

    let (stream, _peer) = UnixStream::pair().unwrap();
    stream.set_read_timeout(Some(ms(20))).unwrap();
    let start = Instant::now();
    let mut stream = std_unix::UnixStream::from(stream);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= ms(20), "a blocking socket waits out its limit");
    // Less than the system can be told is not "for ever".
    let (datagrams, _peer) = UnixDatagram::pair().unwrap();
    datagrams.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
    let datagrams = datagrams.into_std().unwrap();
    assert_eq!(datagrams.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

// ── Parking: one waits, the others go on ──

#[test]
fn a_peer_that_never_reads_stops_only_its_writer() {
    let _guard = hang_guard();
    let (mut stream, mut peer) = UnixStream::pair().unwrap();
    let writer = spawn(move || stream.write_all(&vec![7; MORE_THAN_BUFFERS]));
    until_parked(&writer);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let echo = spawn(move || upper_case_echo(theirs).unwrap());
    assert_eq!(ask(&ours, "goes on"), "GOES ON");
    drop(ours);
    echo.get().unwrap();
    let read = spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    writer.get().unwrap().unwrap();
    assert_eq!(read.get().unwrap(), MORE_THAN_BUFFERS as u64);
}

#[test]
fn readers_and_acceptors_are_served_first_come_first_served() {
    // N1.
    let _guard = hang_guard();
    let folder = Folder::new();
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let served = Rc::new(RefCell::new(Vec::new()));
    let readers = in_line(4, {
        let served = Rc::clone(&served);
        move |number| {
            let mut byte = [0];
            (&stream).read_exact(&mut byte).unwrap();
            served.borrow_mut().push((number, byte[0]));
        }
    });
    peer.write_all(b"abcd").unwrap();
    joinall(&readers);
    assert_eq!(*served.borrow(), [(0, b'a'), (1, b'b'), (2, b'c'), (3, b'd')]);

    let path = folder.path("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let served = Rc::new(RefCell::new(Vec::new()));
    let acceptors = in_line(3, {
        let served = Rc::clone(&served);
        move |number| {
            let (mut stream, _) = listener.accept().unwrap();
            served.borrow_mut().push(number);
            stream.write_all(&[b'0' + number]).unwrap();
        }
    });
    for number in b'0'..b'3' {
        let mut client = UnixStream::connect(&path).unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte[0], number);
    }
    joinall(&acceptors);
    assert_eq!(*served.borrow(), [0, 1, 2]);
}

#[test]
fn shutdown_wakes_the_waiters_of_that_side() {
    // N2. `epoll` does not tell a writer that its own end has been closed for writing.
    let _guard = hang_guard();
    let (stream, _peer) = UnixStream::pair().unwrap();
    let readers = [(); 3].map(|()| {
        let mut stream = stream.clone();
        spawn(move || stream.read(&mut [0]).unwrap())
    });
    let writers = [(); 3].map(|()| {
        let mut stream = stream.clone();
        spawn(move || stream.write_all(&vec![7; MORE_THAN_BUFFERS]).map_err(|error| error.kind()))
    });
    readers.iter().for_each(until_parked);
    writers.iter().for_each(until_parked);

    stream.shutdown(Shutdown::Write).unwrap();
    for writer in writers {
        assert_eq!(writer.get().unwrap(), Err(ErrorKind::BrokenPipe));
    }
    assert!(readers.iter().all(|reader| !reader.is_finished()));

    stream.shutdown(Shutdown::Read).unwrap();
    for reader in readers {
        assert_eq!(reader.get().unwrap(), 0);
    }
}

#[test]
fn a_peer_that_vanishes_wakes_both_sides() {
    let _guard = hang_guard();
    let (stream, peer) = UnixStream::pair().unwrap();
    let reader = spawn({
        let mut stream = stream.clone();
        move || stream.read(&mut [0]).map_err(|error| error.kind())
    });
    let writer = spawn({
        let mut stream = stream.clone();
        move || stream.write_all(&vec![7; MORE_THAN_BUFFERS]).map_err(|error| error.kind())
    });
    until_parked(&reader);
    until_parked(&writer);
    drop(peer);
    // With bytes that the peer never read, the connection is reset.
    assert_eq!(reader.get().unwrap(), Err(ErrorKind::ConnectionReset));
    assert_eq!(writer.get().unwrap(), Err(ErrorKind::BrokenPipe));
}

#[test]
fn a_killed_reader_leaves_its_place_and_the_bytes_to_the_next() {
    // K9.
    let _guard = hang_guard();
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let read = |stream: &UnixStream| {
        let mut stream = stream.clone();
        let reader = spawn(move || {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            byte[0]
        });
        until_parked(&reader);
        reader
    };
    let (first, second) = (read(&stream), read(&stream));
    peer.write_all(b"1").unwrap();
    first.kill();
    assert!(first.get().unwrap_err().is_killed());
    assert_eq!(second.get().unwrap(), b'1');
}

// ── A listener whose backlog is full ──

/// Connecting to it would block: nobody accepts, and there is no room for one more.
struct FullListener {
    path: PathBuf,
    listener: UnixListener,
    /// Those that fill the backlog.
    line: Vec<std_unix::UnixStream>,
}

impl FullListener {
    fn new(folder: &Folder) -> FullListener {
        let path = folder.path("full");
        let socket = socket(socket2::Type::STREAM);
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(1).unwrap();
        let connect = || {
            let socket = self::socket(socket2::Type::STREAM);
            socket.set_nonblocking(true).unwrap();
            let connected = socket.connect(&socket2::SockAddr::unix(&path).unwrap());
            connected.ok().map(|()| std_unix::UnixStream::from(OwnedFd::from(socket)))
        };
        let line = std::iter::from_fn(connect).collect();
        let listener = UnixListener::from(OwnedFd::from(socket));
        FullListener { path, listener, line }
    }

    fn connect(&self) -> Greenlet<io::Result<UnixStream>> {
        let path = self.path.clone();
        let connecting = spawn(move || UnixStream::connect(path));
        until_parked(&connecting);
        connecting
    }

    /// Accepts those that fill the backlog.
    fn make_room(&self) {
        for _ in &self.line {
            self.listener.accept().unwrap();
        }
    }
}

fn socket(kind: socket2::Type) -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::UNIX, kind, None).unwrap()
}

#[test]
fn connect_waits_for_room_in_the_backlog_without_stopping_the_others() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let full = FullListener::new(&folder);
    let connecting: Vec<_> = (0..10).map(|_| full.connect()).collect();
    let turns = Rc::new(Cell::new(0));
    let other = spawn({
        let turns = Rc::clone(&turns);
        move || (0..100).for_each(|n| (turns.set(n), yield_now()).1)
    });
    other.join();
    assert_eq!(turns.get(), 99);
    // Long enough for the pauses to have grown: it is not by haste that they get in.
    sleep(ms(100));
    assert!(connecting.iter().all(|greenlet| !greenlet.is_finished()));
    full.make_room();
    let accepting =
        spawn(move || (0..10).map(|_| full.listener.accept().unwrap().0).collect::<Vec<_>>());
    let mut ours: Vec<_> =
        connecting.into_iter().map(|greenlet| greenlet.get().unwrap().unwrap()).collect();
    for (stream, n) in ours.iter_mut().zip(0..) {
        stream.write_all(&[n]).unwrap();
    }
    let mut heard: Vec<_> = accepting.get().unwrap().iter().map(read_byte).collect();
    heard.sort_unstable();
    assert_eq!(heard, (0..10).collect::<Vec<u8>>());
}

fn read_byte(mut stream: &UnixStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

#[test]
fn a_connect_that_waits_for_room_can_be_killed_and_timed_out() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let full = FullListener::new(&folder);
    let connecting = full.connect();
    connecting.kill();
    assert!(connecting.get().unwrap_err().is_killed());
    let start = Instant::now();
    let timed_out = with_timeout(ms(60), || UnixStream::connect(&full.path).map(drop));
    assert!(timed_out.is_err());
    assert!(start.elapsed() >= ms(60));
    // The listener has seen none of it.
    full.make_room();
    let last = full.connect_now();
    let (mut accepted, _) = full.listener.accept().unwrap();
    accepted.write_all(b"!").unwrap();
    assert_eq!(read_byte(&last), b'!');
}

impl FullListener {
    /// When there is room.
    fn connect_now(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }
}

#[test]
fn a_listener_that_goes_away_refuses_those_who_wait_for_room() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let full = FullListener::new(&folder);
    let connecting = full.connect();
    drop(full);
    let error = connecting.get().unwrap().unwrap_err().kind();
    assert!(matches!(error, ErrorKind::ConnectionRefused | ErrorKind::NotFound), "{error}");
}

// ── Datagrams ──

#[test]
fn datagrams_keep_their_bounds() {
    let _guard = hang_guard();
    let (one, other) = UnixDatagram::pair().unwrap();
    for text in ["first", "", "a longer one", "last"] {
        assert_eq!(one.send(text.as_bytes()).unwrap(), text.len());
    }
    let mut buf = [0; 8];
    assert_eq!(other.peek(&mut buf).unwrap(), 5);
    assert_eq!(other.recv(&mut buf).unwrap(), 5);
    assert_eq!(other.recv(&mut buf).unwrap(), 0, "an empty one is one, too");
    let (len, from) = other.recv_from(&mut buf).unwrap();
    assert_eq!((len, &buf), (8, b"a longer"), "what does not fit is lost");
    assert!(from.is_unnamed());
    assert_eq!(other.recv(&mut buf).unwrap(), 4);
}

#[test]
fn senders_are_known_if_they_have_a_name() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let (here, there) = (folder.path("here"), folder.path("there"));
    let receiver = UnixDatagram::bind(&there).unwrap();
    let named = UnixDatagram::bind(&here).unwrap();
    named.send_to(b"named", &there).unwrap();
    let mut buf = [0; 8];
    let (_, from) = receiver.peek_from(&mut buf).unwrap();
    assert_eq!(from.as_pathname(), Some(here.as_path()));
    let (_, from) = receiver.recv_from(&mut buf).unwrap();
    assert_eq!(from.as_pathname(), Some(here.as_path()));
    assert_eq!(receiver.send_to_addr(b"back", &from).unwrap(), 4);
    assert_eq!(named.recv(&mut buf).unwrap(), 4);

    UnixDatagram::unbound().unwrap().send_to(b"nobody", &there).unwrap();
    let (_, nobody) = receiver.recv_from(&mut buf).unwrap();
    assert!(nobody.is_unnamed());
    let error = receiver.send_to_addr(b"back", &nobody).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(receiver.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(receiver.send(b"to whom").unwrap_err().kind(), ErrorKind::NotConnected);
}

/// More than the queue of one receiver takes (`net.unix.max_dgram_qlen`).
const MORE_THAN_A_QUEUE: u32 = 2_000;

/// Sends that many numbers.
fn send_numbers(send: impl Fn(&[u8]) -> io::Result<usize>) {
    for number in 0..MORE_THAN_A_QUEUE {
        assert_eq!(send(&number.to_be_bytes()).unwrap(), 4);
    }
}

fn recv_number(socket: &UnixDatagram) -> u32 {
    let mut buf = [0; 4];
    assert_eq!(socket.recv(&mut buf).unwrap(), 4);
    u32::from_be_bytes(buf)
}

#[test]
fn a_full_queue_holds_up_its_senders_and_loses_nothing() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("receiver");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(&path).unwrap();
    let by_event = spawn(move || send_numbers(|bytes| connected.send(bytes)));
    until_parked(&by_event);
    for number in 0..MORE_THAN_A_QUEUE {
        assert_eq!(recv_number(&receiver), number);
    }
    by_event.get().unwrap();

    let unconnected = UnixDatagram::unbound().unwrap();
    let to = path.clone();
    let by_pauses = spawn(move || send_numbers(|bytes| unconnected.send_to(bytes, &to)));
    until_parked(&by_pauses);
    for number in 0..MORE_THAN_A_QUEUE {
        assert_eq!(recv_number(&receiver), number);
    }
    by_pauses.get().unwrap();
}

#[test]
fn many_who_send_to_a_full_queue_all_get_through() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let path = folder.path("receiver");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let senders: Vec<_> = (0..6)
        .map(|n| {
            let sender = UnixDatagram::unbound().unwrap();
            sender.connect(&path).unwrap();
            let path = path.clone();
            let second = sender.clone();
            let send = move |bytes: &[u8]| match n % 2 {
                0 => second.send(bytes),
                _ => second.send_to(bytes, &path),
            };
            [spawn(move || send_numbers(|bytes| sender.send(bytes))), spawn(|| send_numbers(send))]
        })
        .collect();
    let mut sum = 0;
    for _ in 0..12 * MORE_THAN_A_QUEUE {
        sum += u64::from(recv_number(&receiver));
    }
    joinall(senders.iter().flatten());
    let each = u64::from(MORE_THAN_A_QUEUE) * u64::from(MORE_THAN_A_QUEUE - 1) / 2;
    assert_eq!(sum, 12 * each);
}

/// A receiver whose queue is full, and its path.
fn full_receiver(folder: &Folder) -> (UnixDatagram, PathBuf) {
    let path = folder.path("full");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"filler", &path).is_ok() {}
    (receiver, path)
}

#[test]
fn one_full_receiver_does_not_hold_up_what_goes_to_others() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let (_full, path) = full_receiver(&folder);
    let other = UnixDatagram::bind(folder.path("other")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let stuck = spawn({
        let sender = sender.clone();
        move || sender.send_to(b"stuck", path)
    });
    until_parked(&stuck);
    sender.send_to(b"through", folder.path("other")).unwrap();
    assert_eq!(other.recv(&mut [0; 8]).unwrap(), 7);
    assert!(!stuck.is_finished());
}

#[test]
fn a_send_to_a_full_queue_can_be_killed_and_timed_out_and_then_was_not_sent() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let (receiver, path) = full_receiver(&folder);
    for connects in [false, true] {
        let sender = UnixDatagram::unbound().unwrap();
        if connects {
            sender.connect(&path).unwrap();
        }
        sender.set_write_timeout(Some(ms(50))).unwrap();
        let to = path.clone();
        let send =
            move || if connects { sender.send(b"late") } else { sender.send_to(b"late", &to) };
        let start = Instant::now();
        assert_eq!(send().unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= ms(50));
        assert!(with_timeout(ms(10), || send().is_ok()).is_err());
        let killed = spawn(move || send().map(drop));
        until_parked(&killed);
        killed.kill();
        assert!(killed.get().unwrap_err().is_killed());
    }
    receiver.set_read_timeout(Some(ms(20))).unwrap();
    let mut buf = [0; 8];
    let mut received = Vec::new();
    while let Ok(len) = receiver.recv(&mut buf) {
        received.push(buf[..len].to_vec());
    }
    assert!(received.len() > 1 && received.iter().all(|bytes| bytes == b"filler"));
}

#[test]
fn a_receiver_that_goes_away_wakes_those_who_send_to_it() {
    let _guard = hang_guard();
    let folder = Folder::new();
    let (receiver, path) = full_receiver(&folder);
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(&path).unwrap();
    let by_event = spawn(move || connected.send(b"x").map_err(|error| error.kind()));
    let unconnected = UnixDatagram::unbound().unwrap();
    let by_pauses = spawn(move || unconnected.send_to(b"x", path).map_err(|error| error.kind()));
    until_parked(&by_event);
    until_parked(&by_pauses);
    drop(receiver);
    let refused = Err(ErrorKind::ConnectionRefused);
    assert_eq!((by_event.get().unwrap(), by_pauses.get().unwrap()), (refused, refused));
}

#[test]
fn shutdown_ends_the_waits_of_datagrams_as_std_s() {
    // N2. Std's blocked `recv` returns nothing; a call that does not block is told to come again.
    let _guard = hang_guard();
    let (one, other) = UnixDatagram::pair().unwrap();
    let receivers = in_line(3, {
        let one = one.clone();
        move |_| assert_eq!(one.recv(&mut [0; 8]).unwrap(), 0)
    });
    let sender = spawn({
        let one = one.clone();
        move || (0..).find_map(|_| one.send(&[7; 1000]).err()).unwrap().kind()
    });
    until_parked(&sender);
    one.shutdown(Shutdown::Write).unwrap();
    assert_eq!(sender.get().unwrap(), ErrorKind::BrokenPipe);
    assert!(receivers.iter().all(|receiver| !receiver.is_finished()));

    one.shutdown(Shutdown::Read).unwrap();
    joinall(&receivers);
    assert!(receivers.iter().all(Greenlet::is_successful));
    let (len, from) = one.recv_from(&mut [0; 8]).unwrap();
    assert_eq!((len, from.is_unnamed()), (0, true));
    assert_eq!(other.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

    let (theirs, _other) = std_unix::UnixDatagram::pair().unwrap();
    theirs.shutdown(Shutdown::Read).unwrap();
    assert_eq!(theirs.recv(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn receivers_are_served_first_come_first_served_and_a_killed_one_takes_nothing() {
    // N1 and K9.
    let _guard = hang_guard();
    let (one, other) = UnixDatagram::pair().unwrap();
    let served = Rc::new(RefCell::new(Vec::new()));
    let receivers = in_line(4, {
        let served = Rc::clone(&served);
        move |number| {
            let mut byte = [0];
            other.recv(&mut byte).unwrap();
            served.borrow_mut().push((number, byte[0]));
        }
    });
    one.send(b"a").unwrap();
    receivers[0].kill();
    one.send(b"b").unwrap();
    one.send(b"c").unwrap();
    joinall(&receivers);
    assert_eq!(*served.borrow(), [(1, b'a'), (2, b'b'), (3, b'c')]);
}

#[test]
fn chance_kills_and_times_out_and_every_datagram_is_received_once() {
    // K9: whoever is killed or timed out has received, or has not; nothing is lost between.
    let _guard = hang_guard();
    const COUNT: u32 = 3_000;
    let (one, other) = UnixDatagram::pair().unwrap();
    let received = Rc::new(RefCell::new(Vec::new()));
    let receiver = || {
        let (other, received) = (other.clone(), Rc::clone(&received));
        spawn(move || {
            loop {
                let mut buf = [0; 4];
                // What was received is kept before anything can end this greenlet.
                if let Ok(Ok(4)) = with_timeout(ms(1), || other.recv(&mut buf)) {
                    received.borrow_mut().push(u32::from_be_bytes(buf));
                }
            }
        })
    };
    let mut receivers: Vec<Greenlet<()>> = (0..4).map(|_| receiver()).collect();
    let mut state = 12_345_u32;
    let mut chance = |of: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % of
    };
    for number in 0..COUNT {
        one.send(&number.to_be_bytes()).unwrap();
        match chance(8) {
            0 => {
                let place = chance(4) as usize;
                std::mem::replace(&mut receivers[place], receiver()).kill_nowait();
            }
            1 => sleep(Duration::from_micros(u64::from(chance(2_000)))),
            2 | 3 => yield_now(),
            _ => {}
        }
    }
    eventually(|| received.borrow().len() >= COUNT as usize);
    greenloom::killall(&receivers);
    let mut numbers = received.take();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn what_is_no_such_socket_says_so_and_hangs_nobody() {
    let _guard = hang_guard();
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    assert!(UnixListener::from(file()).accept().is_err());
    assert!(UnixStream::from(file()).read(&mut [0]).is_err());
    assert!(UnixStream::from(file()).write(&[0]).is_err());
    assert!(UnixDatagram::from(file()).recv_from(&mut [0]).is_err());
    // One that does not listen, and one of another family.
    let (stream, _peer) = UnixStream::pair().unwrap();
    assert!(UnixListener::from(OwnedFd::from(stream)).accept().is_err());
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path("unix")).unwrap();
    let _client = UnixStream::connect(folder.path("unix")).unwrap();
    let mistaken = greenloom::net::TcpListener::from(OwnedFd::from(listener));
    assert!(mistaken.accept().is_err());
}

// ── At the end ──

#[test]
fn nothing_waits_while_a_greenlet_unwinds() {
    let _guard = hang_guard();
    /// Says goodbye in its destructor, as many a protocol does.
    struct Farewell(Option<Box<dyn FnOnce()>>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.0.take().unwrap()();
        }
    }
    let folder = Folder::new();
    let full = FullListener::new(&folder);
    let queue = Folder::new();
    let (_receiver, to) = full_receiver(&queue);
    let errors = Rc::new(RefCell::new(Vec::new()));
    let greenlet = spawn({
        let (errors, path) = (Rc::clone(&errors), full.path.clone());
        move || {
            let (stream, _peer) = UnixStream::pair().unwrap();
            let datagrams = UnixDatagram::unbound().unwrap();
            let farewell = move || {
                let read = (&stream).read(&mut [0]).unwrap_err();
                let connect = UnixStream::connect(path).unwrap_err();
                let send = datagrams.send_to(b"x", to).unwrap_err();
                errors.borrow_mut().extend([read.kind(), connect.kind(), send.kind()]);
            };
            let _farewell = Farewell(Some(Box::new(farewell)));
            sleep(Duration::from_secs(3600));
        }
    });
    until_parked(&greenlet);
    greenlet.kill();
    assert_eq!(*errors.borrow(), [ErrorKind::Other; 3]);
}

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
        let folder = Folder::new();
        let full = FullListener::new(&folder);
        let connecting = full.connect();
        connecting.kill();
        assert!(with_timeout(ms(5), || UnixStream::connect(&full.path).map(drop)).is_err());
        full.make_room();
        let mut client = full.connect_now();
        let (server, _) = full.listener.accept().unwrap();
        let clone = server.clone();
        let reader = spawn(move || (&clone).read(&mut [0]).map(drop));
        until_parked(&reader);
        reader.kill();
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let (one, other) = UnixDatagram::pair().unwrap();
        let receiver = spawn(move || other.recv(&mut [0]).unwrap());
        until_parked(&receiver);
        one.send(b"x").unwrap();
        receiver.get().unwrap();
        until(|| receiver_is_gone(&one));
    };
    round();
    let before = open_files();
    (0..5).for_each(|_| round());
    assert_eq!(open_files(), before);
}

/// Its socket was dropped with the greenlet that had it.
fn receiver_is_gone(sender: &UnixDatagram) -> bool {
    sender.send(b"x").is_err()
}
