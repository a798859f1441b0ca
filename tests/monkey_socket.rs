//! Patched sockets, called by std and by C.

#![expect(unsafe_code, reason = "they are functions of C")]
#![expect(clippy::print_stdout, reason = "how far it got, if it fails")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "each is a call of C with arguments in sight, some of them bad on purpose"
)]

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;
use std::{io, mem, ptr, thread};

use greenloom::{idle, monkey, spawn, with_timeout, yield_now};
use libc::{SOCK_DGRAM, SOCK_STREAM};

mod monkey_socket_util;
mod monkey_util;
use monkey_socket_util::*;
use monkey_util::{alone, ms, until_main_waits};

fn listener() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.try_clone().unwrap().into(), listener.into())
}

fn come(listener: RawFd) {
    let stream = stream(libc::AF_INET);
    assert_eq!(connect(stream.as_raw_fd(), &address_of(listener)), 0);
}

fn receive_one(fd: RawFd) -> isize {
    unsafe { libc::recv(fd, [0_u8; 4].as_mut_ptr().cast(), 4, 0) }
}

fn receive_message(fd: RawFd) -> isize {
    let mut buf = [0_u8; 4];
    unsafe { libc::recvmsg(fd, &mut message(&mut [room(&mut buf)]), 0) }
}

fn receive_messages(fd: RawFd) -> isize {
    let mut buf = [0_u8; 4];
    let mut vectors = [room(&mut buf)];
    let mut one = libc::mmsghdr { msg_hdr: message(&mut vectors), msg_len: 0 };
    unsafe { libc::recvmmsg(fd, &mut one, 1, 0, ptr::null_mut()) as isize }
}

fn send_message(fd: RawFd) -> isize {
    unsafe { libc::sendmsg(fd, &message(&mut [vector(b"some")]), 0) }
}

fn send_messages(fd: RawFd) -> isize {
    let mut vectors = [vector(b"some")];
    let mut one = libc::mmsghdr { msg_hdr: message(&mut vectors), msg_len: 0 };
    unsafe { libc::sendmmsg(fd, &mut one, 1, 0) as isize }
}

/// A socket that is to be connected to a listener whose queue is full.
fn waiting_to_connect() -> (OwnedFd, OwnedFd) {
    let (listener, name) = full_listener();
    let connecting = stream(libc::AF_UNIX);
    bind(connecting.as_raw_fd(), &format!("to {name}"));
    (connecting, listener)
}

/// As [`waiting_to_connect`]; that the socket was made here cannot be known.
fn others_waiting_to_connect() -> (OwnedFd, OwnedFd) {
    let (connecting, listener) = waiting_to_connect();
    (connecting.try_clone().unwrap(), listener)
}

/// Connects a socket to where its name says.
fn connect_there(fd: RawFd) -> isize {
    let name = name_of(fd);
    connect(fd, &named(name.strip_prefix("to ").unwrap()))
}

const CASES: &[Case] = &[
    Case {
        name: "recv",
        call: libc::SYS_recvfrom,
        ends: || pair(SOCK_STREAM),
        wait: receive_one,
        end: put,
    },
    Case {
        name: "recvfrom",
        call: libc::SYS_recvfrom,
        ends: || pair(SOCK_DGRAM),
        wait: |fd| unsafe {
            let (mut from, mut len): (libc::sockaddr_un, _) = (mem::zeroed(), 110);
            let from = (&raw mut from).cast();
            libc::recvfrom(fd, [0_u8; 4].as_mut_ptr().cast(), 4, 0, from, &mut len)
        },
        end: put,
    },
    Case {
        name: "recvmsg",
        call: libc::SYS_recvmsg,
        ends: || pair(SOCK_STREAM),
        wait: receive_message,
        end: put,
    },
    Case {
        name: "recvmmsg",
        call: libc::SYS_recvmmsg,
        ends: || pair(SOCK_DGRAM),
        wait: receive_messages,
        end: put,
    },
    Case {
        name: "send",
        call: libc::SYS_sendto,
        ends: || full(SOCK_STREAM),
        wait: |fd| unsafe { libc::send(fd, b"some".as_ptr().cast(), 4, 0) },
        end: drain,
    },
    Case {
        name: "sendto",
        call: libc::SYS_sendto,
        ends: || full(SOCK_DGRAM),
        wait: |fd| unsafe { libc::sendto(fd, b"some".as_ptr().cast(), 4, 0, ptr::null(), 0) },
        end: drain,
    },
    Case {
        name: "sendmsg",
        call: libc::SYS_sendmsg,
        ends: || full(SOCK_STREAM),
        wait: send_message,
        end: drain,
    },
    Case {
        name: "sendmmsg",
        call: libc::SYS_sendmmsg,
        ends: || full(SOCK_DGRAM),
        wait: send_messages,
        end: drain,
    },
    Case {
        name: "accept",
        call: libc::SYS_accept4,
        ends: listener,
        wait: |fd| unsafe { libc::accept(fd, ptr::null_mut(), ptr::null_mut()) as isize },
        end: come,
    },
    Case {
        name: "accept4",
        call: libc::SYS_accept4,
        ends: listener,
        wait: |fd| unsafe {
            let (mut from, mut len): (libc::sockaddr_in, _) = (mem::zeroed(), 16);
            libc::accept4(fd, (&raw mut from).cast(), &mut len, libc::SOCK_CLOEXEC) as isize
        },
        end: come,
    },
    Case {
        name: "connect",
        call: libc::SYS_connect,
        ends: waiting_to_connect,
        wait: connect_there,
        end: accept,
    },
    Case {
        name: "connect of a socket from elsewhere",
        call: libc::SYS_connect,
        ends: others_waiting_to_connect,
        wait: connect_there,
        end: accept,
    },
];

alone! {
    fn greenlets_wait_in_each_call_at_the_same_time() {
        overlap(CASES);
    }

    fn unpatched_and_outside_of_greenlets_each_call_is_the_kernels() {
        are_the_kernels_elsewhere(CASES);
    }
}

// ── whole streams ──

/// So much that it goes through in many parts, and each byte tells where it belongs.
fn much() -> Vec<u8> {
    (0..6_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Reads slowly, and looks that it is all.
fn reads_much(mut from: impl Read + 'static) -> greenloom::Greenlet<()> {
    spawn(move || {
        let (mut all, mut buf) = (Vec::new(), vec![0; 100_000]);
        loop {
            yield_now();
            match from.read(&mut buf).unwrap() {
                0 => break,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
        assert!(all == much(), "{} bytes of {}, or others", all.len(), much().len());
    })
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

/// Sends it to a slow reader, over TCP and over a Unix stream.
fn sends_much(send: impl Fn(RawFd, &[u8]) -> isize) {
    monkey::patch_all();
    let much = much();
    let (one, other) = tcp();
    let reader = reads_much(other);
    assert_eq!(send(one.as_raw_fd(), &much), much.len() as isize);
    drop(one);
    reader.get().unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    let reader = reads_much(other);
    assert_eq!(send(one.as_raw_fd(), &much), much.len() as isize);
    drop(one);
    reader.get().unwrap();
}

alone! {
    fn one_send_sends_it_all() {
        sends_much(|fd, all| unsafe { libc::send(fd, all.as_ptr().cast(), all.len(), 0) });
    }

    fn one_sendmsg_sends_it_all() {
        sends_much(|fd, all| {
            // More buffers than are sent at a time, some of them empty.
            let mut vectors: Vec<_> = all.chunks(100_001).map(vector).collect();
            vectors.insert(7, vector::<u8>(&[]));
            unsafe { libc::sendmsg(fd, &message(&mut vectors), 0) }
        });
    }

    fn one_sendmmsg_sends_all_of_its_messages() {
        sends_much(|fd, all| {
            let mut vectors: Vec<_> = all.chunks(1_700_000).map(|part| [vector(part)]).collect();
            let mut messages: Vec<_> = vectors
                .iter_mut()
                .map(|vector| libc::mmsghdr { msg_hdr: message(vector), msg_len: 0 })
                .collect();
            let count = messages.len() as isize;
            let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count as _, 0) as isize };
            assert_eq!(sent, count);
            messages.iter().map(|message| message.msg_len as isize).sum()
        });
    }

    fn one_write_sends_it_all() {
        sends_much(|fd, all| unsafe { libc::write(fd, all.as_ptr().cast(), all.len()) });
    }

    fn one_writev_sends_it_all() {
        sends_much(|fd, all| {
            let vectors: Vec<_> = all.chunks(33_333).map(vector).collect();
            unsafe { libc::writev(fd, vectors.as_ptr(), vectors.len() as c_int) }
        });
    }

    fn descriptors_go_with_the_first_part_of_a_message() {
        monkey::patch_all();
        let (one, other) = UnixStream::pair().unwrap();
        let (kept, passed) = pipe();
        let reader = spawn(move || {
            let mut space = [0_u64; 8];
            let (mut all, mut got, mut buf) = (0, Vec::new(), vec![0_u8; 100_000]);
            loop {
                let mut vectors = [room(&mut buf)];
                let mut message = message(&mut vectors);
                message.msg_control = space.as_mut_ptr().cast();
                message.msg_controllen = mem::size_of_val(&space);
                let n = unsafe { libc::recvmsg(other.as_raw_fd(), &mut message, 0) };
                if n <= 0 {
                    break (all, got);
                }
                all += n;
                let control = unsafe { libc::CMSG_FIRSTHDR(&message) };
                if !control.is_null() {
                    let data = unsafe { libc::CMSG_DATA(control) }.cast::<c_int>();
                    got.push(fd(unsafe { data.read_unaligned() }));
                }
            }
        });
        let much = much();
        let sent = send_with(&one, &much, &passed);
        assert_eq!(sent, much.len() as isize);
        drop((one, passed));
        let (all, got) = reader.get().unwrap();
        assert_eq!((all, got.len()), (much.len() as isize, 1));
        put(got[0].as_raw_fd());
        take(kept.as_raw_fd());
    }

    fn what_has_been_sent_is_said_when_the_rest_fails() {
        monkey::patch_all();
        // By the limit.
        let (mut one, _other) = tcp();
        one.set_write_timeout(Some(ms(30))).unwrap();
        let much = much();
        let part = one.write(&much).unwrap();
        assert!(part > 0 && part < much.len(), "{part}");
        // There may have come to be some more room.
        assert_eq!(last_of_writing(&mut one).kind(), ErrorKind::WouldBlock);
        // By a kill.
        let (mut one, _other) = tcp();
        let sent = Rc::new(Cell::new(0));
        let seen = Rc::clone(&sent);
        let killed = spawn(move || {
            let much = self::much();
            seen.set(one.write(&much).unwrap());
            assert_eq!(last_of_writing(&mut one).raw_os_error(), Some(libc::ECANCELED));
            yield_now();
            unreachable!("it is killed");
        });
        idle();
        killed.kill();
        killed.join();
        assert!(sent.get() > 0 && sent.get() < much.len());
        // By the end of the connection, of which the next call is told.
        catch_signals();
        let (mut one, other) = tcp();
        let closing = spawn(move || {
            until_main_waits();
            (&other).read_exact(&mut [0; 10]).unwrap();
            drop(other); // there is more to read: the peer is reset
        });
        let part = one.write(&much).unwrap();
        closing.get().unwrap();
        assert!(part > 0 && part < much.len(), "{part}");
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
        assert_eq!(one.write(&much).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
        let plain = |fd: RawFd| unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) };
        assert_eq!(outcome(plain(one.as_raw_fd())), Err(libc::EPIPE));
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 1);
        // By a peer that has read it, and closes without an error.
        let (one, other) = UnixStream::pair().unwrap();
        let closing = spawn(move || {
            until_main_waits();
            drain(other.as_raw_fd());
        });
        let write = || unsafe { libc::write(one.as_raw_fd(), much.as_ptr().cast(), much.len()) };
        let part = write();
        closing.get().unwrap();
        assert!(part > 0 && part < much.len() as isize, "{part}");
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 1);
        assert_eq!(outcome(write()), Err(libc::EPIPE));
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 2);
    }
}

/// The error with which writing to somebody who does not read ends.
fn last_of_writing(to: &mut TcpStream) -> io::Error {
    loop {
        if let Err(error) = to.write(&much()) {
            break error;
        }
    }
}

/// Sends bytes, and a descriptor with them.
fn send_with(to: &impl AsRawFd, bytes: &[u8], passed: &OwnedFd) -> isize {
    let mut space = [0_u64; 8];
    let mut vectors = [vector(bytes)];
    let mut message = message(&mut vectors);
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    let control = unsafe { &mut *libc::CMSG_FIRSTHDR(&message) };
    control.cmsg_level = libc::SOL_SOCKET;
    control.cmsg_type = libc::SCM_RIGHTS;
    control.cmsg_len = unsafe { libc::CMSG_LEN(4) } as _;
    unsafe { libc::CMSG_DATA(control).cast::<c_int>().write_unaligned(passed.as_raw_fd()) };
    unsafe { libc::sendmsg(to.as_raw_fd(), &message, 0) }
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// Counts signals that say that nobody reads.
fn catch_signals() {
    extern "C" fn count(_: c_int) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    let count = count as extern "C" fn(c_int) as *const () as usize;
    unsafe { libc::signal(libc::SIGPIPE, count) };
}

alone! {
    fn the_signal_that_nobody_reads_comes_as_ever() {
        monkey::patch_all();
        catch_signals();
        let broken = || UnixStream::pair().unwrap().0;
        let send = move |flags: c_int| {
            let stream = broken();
            outcome(unsafe { libc::send(stream.as_raw_fd(), b"x".as_ptr().cast(), 1, flags) })
        };
        spawn(move || {
            assert_eq!(send(libc::MSG_NOSIGNAL), Err(libc::EPIPE));
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
            assert_eq!(send(0), Err(libc::EPIPE));
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 1);
            let write = |fd: RawFd| outcome(unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) });
            assert_eq!(write(broken().as_raw_fd()), Err(libc::EPIPE));
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 2);
            let writev = |fd: RawFd| outcome(unsafe { libc::writev(fd, &vector(b"x"), 1) });
            assert_eq!(writev(broken().as_raw_fd()), Err(libc::EPIPE));
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 3);
            let (reading, writing) = pipe();
            drop(reading);
            assert_eq!(write(writing.as_raw_fd()), Err(libc::EPIPE));
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 4);
            // std asks for none.
            assert_eq!(broken().write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 4);
        })
        .get()
        .unwrap();
    }
}

// ── all that was asked for ──

fn receive(fd: &impl AsRawFd, buf: &mut [u8], flags: c_int) -> Result<isize, c_int> {
    outcome(unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) })
}

/// `recvmsg` into two buffers.
fn receive_two(fd: &impl AsRawFd, buf: &mut [u8], flags: c_int) -> Result<isize, c_int> {
    let (one, other) = buf.split_at_mut(buf.len() / 3);
    let mut vectors = [room(one), room(other)];
    outcome(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message(&mut vectors), flags) })
}

alone! {
    fn waitall_waits_for_all_and_returns_what_there_was_at_the_end() {
        monkey::patch_all();
        type Receive<S> = fn(&S, &mut [u8], c_int) -> Result<isize, c_int>;
        for receive in [receive as Receive<TcpStream>, receive_two] {
            let (mut one, other) = tcp();
            let waiting = spawn(move || {
                let mut buf = [0; 10];
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(10));
                assert_eq!(&buf, b"0123456789");
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL | libc::MSG_PEEK), Ok(10));
                assert_eq!(&buf, b"abcdefghij");
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(10));
                assert_eq!(&buf, b"abcdefghij");
                set_limit(&other, libc::SO_RCVTIMEO, 20);
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(3), "the limit");
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Err(libc::EAGAIN));
                set_limit(&other, libc::SO_RCVTIMEO, 0);
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(4), "the end");
                assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(0));
            });
            for part in ["0", "1234", "567", "89", "abc", "def", "ghij", "xyz"] {
                idle();
                one.write_all(part.as_bytes()).unwrap();
            }
            greenloom::sleep(ms(80));
            one.write_all(b"ends").unwrap();
            idle();
            drop(one);
            waiting.get().unwrap();
        }
    }

    fn waitall_ends_with_the_part_that_brings_descriptors() {
        monkey::patch_all();
        let (mut one, other) = UnixStream::pair().unwrap();
        let waiting = spawn(move || {
            let (mut space, mut buf) = ([0_u64; 8], [0_u8; 6]);
            let mut lens = Vec::new();
            for _ in 0..3 {
                let mut vectors = [room(&mut buf)];
                let mut message = message(&mut vectors);
                message.msg_control = space.as_mut_ptr().cast();
                message.msg_controllen = mem::size_of_val(&space);
                let fd = other.as_raw_fd();
                let n = unsafe { libc::recvmsg(fd, &mut message, libc::MSG_WAITALL) };
                let control = unsafe { libc::CMSG_FIRSTHDR(&message) };
                lens.push((n, !control.is_null()));
            }
            lens
        });
        let (_, passed) = pipe();
        one.write_all(b"ab").unwrap();
        for part in [b"cd", b"ef"] {
            idle();
            assert_eq!(send_with(&one, part, &passed), 2);
        }
        idle();
        one.write_all(b"ghij").unwrap();
        drop(one);
        assert_eq!(waiting.get().unwrap(), [(4, true), (2, true), (4, false)]);
    }

    fn the_first_data_may_go_with_the_connecting() {
        monkey::patch_all();
        let (listener, _filling) = silent();
        let there = address_of(listener.as_raw_fd());
        let made = stream(libc::AF_INET);
        let order = Rc::new(RefCell::new(Vec::new()));
        let sent = Rc::clone(&order);
        let sending = spawn(move || {
            let (place, flags) = ((&raw const there.0).cast(), libc::MSG_FASTOPEN);
            let bytes = b"first".as_ptr().cast();
            let fd = made.as_raw_fd();
            let result = unsafe { libc::sendto(fd, bytes, 5, flags, place, there.1) };
            sent.borrow_mut().push("sent");
            (outcome(result), made)
        });
        idle();
        order.borrow_mut().push("others");
        thread::spawn(move || {
            loop {
                accept(listener.as_raw_fd());
            }
        });
        assert_eq!(sending.get().unwrap().0, Ok(5));
        assert_eq!(*order.borrow(), ["others", "sent"]);
    }

    fn an_error_after_a_part_is_left_for_the_next_call() {
        monkey::patch_all();
        let (one, other) = tcp();
        (&other).write_all(b"never read").unwrap();
        let waiting = spawn(move || {
            let mut buf = [0; 10];
            assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(4));
            assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Err(libc::ECONNRESET));
            assert_eq!(receive(&other, &mut buf, libc::MSG_WAITALL), Ok(0));
        });
        (&one).write_all(b"part").unwrap();
        idle();
        drop(one);
        waiting.get().unwrap();
    }

    fn waitall_returns_one_message_where_there_are_messages() {
        monkey::patch_all();
        let (one, other) = UnixDatagram::pair().unwrap();
        let waiting = spawn(move || {
            assert_eq!(receive(&other, &mut [0; 10], libc::MSG_WAITALL), Ok(3));
            assert_eq!(receive_two(&other, &mut [0; 10], libc::MSG_WAITALL), Ok(0));
        });
        idle();
        one.send(b"abc").unwrap();
        one.send(b"").unwrap();
        waiting.get().unwrap();
    }

    fn several_messages_are_waited_for_one_after_the_other() {
        monkey::patch_all();
        let (one, other) = UnixDatagram::pair().unwrap();
        let receive = move |count: usize, flags: c_int, limit: Option<i64>| {
            let mut bufs = vec![[0_u8; 8]; count];
            let mut vectors: Vec<_> = bufs.iter_mut().map(|buf| [room(buf)]).collect();
            let mut messages: Vec<_> = vectors
                .iter_mut()
                .map(|vector| libc::mmsghdr { msg_hdr: message(vector), msg_len: 0 })
                .collect();
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: limit.unwrap_or(0) * 1_000_000 };
            let time = if limit.is_some() { &raw mut time } else { ptr::null_mut() };
            let (fd, first) = (other.as_raw_fd(), messages.as_mut_ptr());
            let got = unsafe { libc::recvmmsg(fd, first, count as _, flags as _, time) };
            let lens: Vec<_> = messages.iter().take(got as usize).map(|it| it.msg_len).collect();
            let left = unsafe { time.as_ref() }.map(|left| left.tv_nsec / 1_000_000);
            (lens, left)
        };
        let waiting = spawn(move || {
            assert_eq!(receive(3, 0, None), (vec![1, 2, 3], None));
            assert_eq!(receive(3, libc::MSG_WAITFORONE, None), (vec![1, 2], None));
            let (lens, left) = receive(2, 0, Some(999));
            assert_eq!(lens, [1, 2]);
            assert!(left.unwrap() < 999);
            // The limit is looked at when a message has come.
            assert_eq!(receive(3, 0, Some(20)), (vec![1, 2], Some(0)));
            assert_eq!(receive(3, 0, Some(0)), (vec![5], Some(0)));
        });
        let send = |len: usize| one.send(&[0; 3][..len]).unwrap();
        for len in [1, 2, 3] {
            idle();
            send(len);
        }
        idle();
        send(1);
        send(2);
        idle();
        send(1);
        idle();
        send(2);
        idle();
        send(1);
        greenloom::sleep(ms(60));
        send(2);
        one.send(&[0; 5]).unwrap();
        waiting.get().unwrap();
    }
}

// ── the user's view ──

alone! {
    fn limits_of_the_users_end_waits() {
        monkey::patch_all();
        spawn(|| {
            let would_block = |error: io::Error| assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let (mut one, _other) = tcp();
            one.set_read_timeout(Some(ms(10))).unwrap();
            would_block(one.read(&mut [0]).unwrap_err());
            would_block(one.peek(&mut [0]).unwrap_err());
            let (full, _reader) = full(SOCK_STREAM);
            let mut full = UnixStream::from(full);
            full.set_write_timeout(Some(ms(10))).unwrap();
            would_block(full.write(b"x").unwrap_err());
            would_block(full.write_vectored(&[io::IoSlice::new(b"x")]).unwrap_err());
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            udp.set_read_timeout(Some(ms(10))).unwrap();
            would_block(udp.recv_from(&mut [0]).unwrap_err());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            set_limit(&listener, libc::SO_RCVTIMEO, 10);
            would_block(listener.accept().unwrap_err());
            // A limit that is changed counts from the next call.
            one.set_read_timeout(Some(ms(20))).unwrap();
            would_block(one.read(&mut [0]).unwrap_err());
            let (connecting, _listener) = waiting_to_connect();
            set_limit(&connecting, libc::SO_SNDTIMEO, 10);
            let result = connect_there(connecting.as_raw_fd());
            assert_eq!(outcome(result), Err(libc::EAGAIN));
        })
        .get()
        .unwrap();
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn what_the_user_has_made_non_blocking_does_not_wait() {
        monkey::patch_all();
        let by_ioctl = |fd: &OwnedFd| {
            let mut on: c_int = 1;
            unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw mut on) };
        };
        let by_fcntl = |fd: &OwnedFd| {
            let mode = mode(fd) | libc::O_NONBLOCK;
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, mode) };
        };
        let turns = Rc::new(Cell::new(0));
        let seen = Rc::clone(&turns);
        let calls = spawn(move || {
            for set in [&by_ioctl as &dyn Fn(&OwnedFd), &by_fcntl] {
                for case in CASES {
                    let (waiting, _ending) = (case.ends)();
                    set(&waiting);
                    let before = seen.get();
                    let result = outcome((case.wait)(waiting.as_raw_fd()));
                    assert_eq!(seen.get(), before, "it waited: {}", case.name);
                    assert_eq!(result, Err(libc::EAGAIN), "{}", case.name);
                    assert_ne!(mode(&waiting) & libc::O_NONBLOCK, 0);
                }
            }
            let made = fd(unsafe { libc::socket(libc::AF_INET, SOCK_STREAM | libc::SOCK_NONBLOCK, 0) });
            let (listener, _) = listener();
            let result = connect(made.as_raw_fd(), &address_of(listener.as_raw_fd()));
            assert_eq!(outcome(result), Err(libc::EINPROGRESS));
            let (one, _other) = pair(SOCK_STREAM | libc::SOCK_NONBLOCK);
            assert_eq!(outcome(receive_one(one.as_raw_fd())), Err(libc::EAGAIN));
        });
        while !calls.is_finished() {
            turns.set(turns.get() + 1);
            yield_now();
        }
        calls.get().unwrap();
    }

    fn the_mode_that_others_see_is_never_another() {
        monkey::patch_all();
        for case in CASES {
            let (waiting, ending) = (case.ends)();
            let seen = waiting.try_clone().unwrap();
            let before = mode(&seen);
            let wait = case.wait;
            let greenlet = spawn(move || assert!(wait(waiting.as_raw_fd()) >= 0));
            for _ in 0..5 {
                yield_now();
                assert_eq!(mode(&seen), before, "{}", case.name);
            }
            greenloom::sleep(ms(5)); // a thread may have begun by now
            assert_eq!(mode(&seen), before, "{}", case.name);
            (case.end)(ending.as_raw_fd());
            greenlet.get().unwrap();
            assert_eq!(mode(&seen), before, "{}", case.name);
        }
    }

    fn the_mode_of_what_is_not_ours_is_never_set() {
        monkey::patch_all();
        let (ends, told) = mpsc::channel::<(Case, RawFd)>();
        thread::spawn(move || told.iter().for_each(|(case, fd)| (case.end)(fd)));
        let cases = CASES.iter().filter(|case| case.name != "connect");
        let cases: Vec<_> = cases.map(|case| (case, (case.ends)())).collect();
        forbid_modes();
        for (case, (waiting, ending)) in cases {
            println!("{}", case.name);
            let wait = case.wait;
            let greenlet = spawn(move || assert!(wait(waiting.as_raw_fd()) >= 0));
            idle();
            ends.send((*case, ending.as_raw_fd())).unwrap();
            greenlet.get().unwrap();
        }
    }

    fn errors_and_errno_are_the_kernels() {
        are_told_the_same(errors);
    }

    fn success_leaves_errno_alone() {
        monkey::patch_all();
        spawn(|| {
            for case in CASES {
                let (waiting, ending) = (case.ends)();
                let ender = spawn(move || {
                    (case.end)(ending.as_raw_fd());
                    unsafe { *libc::__errno_location() = libc::EXDEV };
                    ending
                });
                unsafe { *libc::__errno_location() = libc::ELOOP };
                let result = (case.wait)(waiting.as_raw_fd());
                let errno = io::Error::last_os_error().raw_os_error();
                assert!(result >= 0);
                assert_eq!(errno, Some(libc::ELOOP), "{}", case.name);
                ender.get().unwrap();
            }
        })
        .get()
        .unwrap();
    }
}

/// What the kernel says to calls that cannot be.
fn errors() -> Outcomes {
    let bad = 16 as *mut c_void;
    let mut buf = [0_u8; 8];
    let buf = buf.as_mut_ptr().cast::<c_void>();
    let (one, other) = pair(SOCK_STREAM);
    put(other.as_raw_fd());
    let here = one.as_raw_fd();
    let unconnected = stream(libc::AF_INET);
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let udp = fd(unsafe { libc::socket(libc::AF_INET, SOCK_DGRAM, 0) });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let there = address_of(listener.as_raw_fd());
    let refused = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        address_of(gone.as_raw_fd())
    };
    let refused6 = {
        let gone = TcpListener::bind("[::1]:0").unwrap();
        address_of(gone.as_raw_fd())
    };
    // No packet leaves: a stream cannot be connected to everybody.
    let mut everybody: libc::sockaddr_in = unsafe { mem::zeroed() };
    everybody.sin_family = libc::AF_INET as _;
    everybody.sin_port = 9_u16.to_be();
    everybody.sin_addr.s_addr = u32::MAX;
    let everybody_at = |fd: RawFd| unsafe {
        libc::connect(fd, (&raw const everybody).cast(), mem::size_of_val(&everybody) as _) as isize
    };
    let duplicate = |fd: &OwnedFd| fd.try_clone().unwrap(); // from elsewhere, as far as it is known
    let (many, no_fd, regular, alone) =
        ([vector(b"x"); 1025], -1, file.as_raw_fd(), unconnected.as_raw_fd());
    let mut results = Vec::new();
    macro_rules! each {
        ($($call:expr;)*) => { $( results.push((stringify!($call), outcome($call as isize))); )* };
    }
    use libc::{accept, accept4, connect as join, recv, recvfrom, recvmsg, send, sendmsg, sendto};
    unsafe {
        each! {
            recv(no_fd, buf, 8, 0);
            recv(regular, buf, 8, 0);
            recv(alone, buf, 8, 0);
            recv(here, bad, 8, 0);
            recv(here, ptr::null_mut(), 0, libc::MSG_PEEK);
            recv(here, buf, 8, libc::MSG_OOB);
            recv(connected.as_raw_fd(), buf, 8, libc::MSG_OOB);
            recv(connected.as_raw_fd(), buf, 8, libc::MSG_ERRQUEUE);
            recv(here, buf, 8, libc::MSG_PEEK | libc::MSG_TRUNC);
            recvfrom(no_fd, buf, 8, 0, ptr::null_mut(), ptr::null_mut());
            recvfrom(here, buf, 8, libc::MSG_PEEK, buf.cast(), bad.cast());
            recvmsg(here, ptr::null_mut(), 0);
            recvmsg(here, bad.cast(), 0);
            recvmsg(regular, &mut message(&mut [vector(b"")]), 0);
            recvmsg(no_fd, &mut message(&mut [vector(b"")]), libc::MSG_WAITALL);
            recvmsg(here, ptr::null_mut(), libc::MSG_WAITALL);
            send(no_fd, buf, 8, 0);
            send(regular, buf, 8, 0);
            send(alone, buf, 8, libc::MSG_NOSIGNAL);
            send(here, bad, 8, 0);
            send(here, buf, 0, 0);
            sendto(udp.as_raw_fd(), buf, 8, 0, ptr::null(), 0);
            sendto(udp.as_raw_fd(), buf, 70_000, 0, (&raw const there.0).cast(), there.1);
            sendto(here, buf, 8, 0, (&raw const there.0).cast(), there.1);
            sendmsg(here, ptr::null(), 0);
            sendmsg(here, bad.cast(), 0);
            sendmsg(here, &message(&mut many.clone()), 0);
            sendmsg(here, &message(&mut []), 0);
            libc::recvmmsg(here, bad.cast(), 1, 0, ptr::null_mut());
            libc::recvmmsg(here, bad.cast(), 0, 0, ptr::null_mut());
            libc::recvmmsg(no_fd, bad.cast(), 1, 0, ptr::null_mut());
            libc::recvmmsg(here, bad.cast(), 1, 0, bad.cast());
            libc::sendmmsg(here, bad.cast(), 1, 0);
            libc::sendmmsg(here, bad.cast(), 0, 0);
            libc::sendmmsg(regular, bad.cast(), 1, 0);
            accept(no_fd, ptr::null_mut(), ptr::null_mut());
            accept(regular, ptr::null_mut(), ptr::null_mut());
            accept(here, ptr::null_mut(), ptr::null_mut());
            accept(alone, ptr::null_mut(), ptr::null_mut());
            accept(connected.as_raw_fd(), ptr::null_mut(), ptr::null_mut());
            accept(udp.as_raw_fd(), ptr::null_mut(), ptr::null_mut());
            accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), 1);
            join(no_fd, (&raw const there.0).cast(), there.1);
            join(regular, (&raw const there.0).cast(), there.1);
            join(alone, ptr::null(), 16);
            join(alone, bad.cast(), 16);
            join(duplicate(&unconnected).as_raw_fd(), ptr::null(), 16);
            join(alone, (&raw const there.0).cast(), 1);
            join(alone, (&raw const there.0).cast(), 1000);
            join(duplicate(&unconnected).as_raw_fd(), (&raw const there.0).cast(), 1000);
            connect(connected.as_raw_fd(), &there);
            connect(listener.as_raw_fd(), &there);
            connect(alone, &refused);
            connect(alone, &refused);
            connect(stream(libc::AF_INET6).as_raw_fd(), &refused6);
            connect(duplicate(&unconnected).as_raw_fd(), &refused);
            everybody_at(alone);
            everybody_at(duplicate(&unconnected).as_raw_fd());
            everybody_at(udp.as_raw_fd());
            connect(alone, &there);
            connect(alone, &there);
            connect(udp.as_raw_fd(), &there);
            connect(here, &there);
            libc::socket(-1, SOCK_STREAM, 0);
            libc::socket(libc::AF_INET, -1, 0);
            libc::close(-1);
            libc::dup2(-1, here);
            libc::dup2(here, -1);
            libc::dup2(-1, -1);
            libc::dup3(here, here, 0);
            libc::dup3(here, 900, 7);
            libc::dup3(-1, here, 0);
            libc::close_range(7, 6, 0);
            libc::close_range(70_000, 70_001, 99);
            recv(here, buf, 1, 0);
        }
    }
    results
}

// ── std ──

alone! {
    fn std_connects_or_says_why_not() {
        monkey::patch_all();
        spawn(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let there = listener.local_addr().unwrap();
            let mut stream = TcpStream::connect_timeout(&there, ms(5_000)).unwrap();
            let (mut served, from) = listener.accept().unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
            let reader = spawn(move || {
                let mut text = String::new();
                served.read_to_string(&mut text).unwrap();
                text
            });
            idle();
            stream.write_all(b"whole").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(reader.get().unwrap(), "whole");
            drop(listener);
            for there in [there, "[::1]:1".parse().unwrap()] {
                let refused = TcpStream::connect(there).unwrap_err().kind();
                assert_eq!(refused, ErrorKind::ConnectionRefused);
                let refused = TcpStream::connect_timeout(&there, ms(5_000)).unwrap_err().kind();
                assert_eq!(refused, ErrorKind::ConnectionRefused);
            }
        })
        .get()
        .unwrap();
    }

    fn std_exchanges_datagrams_and_unix_streams() {
        monkey::patch_all();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = udp.local_addr().unwrap();
        let echo = spawn(move || {
            let mut buf = [0; 16];
            for _ in 0..2 {
                let (n, from) = udp.recv_from(&mut buf).unwrap();
                udp.send_to(&buf[..n], from).unwrap();
            }
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        idle();
        client.send_to(b"one", there).unwrap();
        assert_eq!(client.recv_from(&mut [0; 16]).unwrap(), (3, there));
        client.connect(there).unwrap();
        client.send(b"other").unwrap();
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
        echo.get().unwrap();
        let (one, other) = UnixDatagram::pair().unwrap();
        let reader = spawn(move || {
            assert_eq!(other.recv(&mut [0; 16]).unwrap(), 0, "an empty one is one");
            other.recv(&mut [0; 16]).unwrap()
        });
        idle();
        one.send(b"").unwrap();
        one.send(b"three").unwrap();
        assert_eq!(reader.get().unwrap(), 5);
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let server = spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut buf = [0; 4];
                stream.read_exact(&mut buf).unwrap();
                stream.write_all(&buf).unwrap();
            }
        });
        for _ in 0..2 {
            let mut stream = UnixStream::connect(folder.path().join("socket")).unwrap();
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
        }
        server.get().unwrap();
    }
}

// ── connecting ──

/// A TCP listener that answers nobody, for some time: its queue is full.
fn silent() -> (OwnedFd, Vec<OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let there = address_of(listener.as_raw_fd());
    let fill = || {
        let made = fd(unsafe { libc::socket(libc::AF_INET, SOCK_STREAM | libc::SOCK_NONBLOCK, 0) });
        connect(made.as_raw_fd(), &there);
        made
    };
    (listener.into(), (0..3).map(|_| fill()).collect())
}

alone! {
    fn connecting_waits_for_the_answer_and_others_run() {
        monkey::patch_all();
        let (listener, _filling) = silent();
        let there = address_of(listener.as_raw_fd());
        let made = stream(libc::AF_INET);
        let (seen, before) = (made.try_clone().unwrap(), mode(&made));
        let elsewhere = stream(libc::AF_INET).try_clone().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let (one, two) = (Rc::clone(&order), Rc::clone(&order));
        let connecting = spawn(move || {
            let result = outcome(connect(made.as_raw_fd(), &there));
            one.borrow_mut().push("connected");
            assert_eq!(result, Ok(0));
            // As after a blocking call, the kernel knows that this is over.
            assert_eq!(outcome(connect(made.as_raw_fd(), &there)), Err(libc::EISCONN));
        });
        let threaded = spawn(move || {
            assert_eq!(outcome(connect(elsewhere.as_raw_fd(), &there)), Ok(0));
            two.borrow_mut().push("connected");
        });
        idle();
        order.borrow_mut().push("others");
        assert_eq!(mode(&seen), before);
        // Who calls it a second time meanwhile waits as well.
        let seconds = seen.try_clone().unwrap();
        let second = spawn(move || outcome(connect(seconds.as_raw_fd(), &there)));
        // They ask again after a second, and find room.
        thread::spawn(move || {
            loop {
                accept(listener.as_raw_fd());
            }
        });
        connecting.get().unwrap();
        threaded.get().unwrap();
        assert_eq!(second.get().unwrap(), Ok(0));
        assert_eq!(*order.borrow(), ["others", "connected", "connected"]);
        assert_eq!(mode(&seen), before);
    }

    fn connecting_ends_at_the_users_limit() {
        monkey::patch_all();
        let (listener, _filling) = silent();
        let there = address_of(listener.as_raw_fd());
        spawn(move || {
            let made = stream(libc::AF_INET);
            set_limit(&made, libc::SO_SNDTIMEO, 20);
            let begun = Instant::now();
            assert_eq!(outcome(connect(made.as_raw_fd(), &there)), Err(libc::EINPROGRESS));
            assert!(begun.elapsed() >= ms(20));
            assert_eq!(outcome(connect(made.as_raw_fd(), &there)), Err(libc::EALREADY));
            assert_eq!(mode(&made) & libc::O_NONBLOCK, 0);
            let elsewhere = stream(libc::AF_INET).try_clone().unwrap();
            set_limit(&elsewhere, libc::SO_SNDTIMEO, 20);
            assert_eq!(outcome(connect(elsewhere.as_raw_fd(), &there)), Err(libc::EINPROGRESS));
            let std_there = std_address(&there);
            let late = TcpStream::connect_timeout(&std_there, ms(20)).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
        })
        .get()
        .unwrap();
    }

    fn a_socket_made_before_patching_is_connected_by_a_thread() {
        let made = stream(libc::AF_INET);
        monkey::patch_all();
        let (listener, other) = listener();
        spawn(move || {
            assert_eq!(connect(made.as_raw_fd(), &address_of(listener.as_raw_fd())), 0);
        })
        .get()
        .unwrap();
        accept(other.as_raw_fd());
    }
}

fn std_address(address: &(libc::sockaddr_storage, libc::socklen_t)) -> std::net::SocketAddr {
    let address = unsafe { (&raw const address.0).cast::<libc::sockaddr_in>().read() };
    (u32::from_be(address.sin_addr.s_addr).to_be_bytes(), u16::from_be(address.sin_port)).into()
}

// ── closing ──

type Close = fn(RawFd);

/// Ways to close a descriptor.
const CLOSINGS: &[(&str, Close)] = &[
    ("close", |fd| assert_eq!(unsafe { libc::close(fd) }, 0)),
    ("dup2", |fd| {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), fd) }, fd);
    }),
    ("dup3", |fd| {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(unsafe { libc::dup3(null.as_raw_fd(), fd, libc::O_CLOEXEC) }, fd);
    }),
    ("close_range", |fd| {
        assert_eq!(unsafe { libc::close_range(fd as _, fd as _, 0) }, 0);
    }),
];

alone! {
    fn who_waits_for_what_is_closed_hears_of_it() {
        monkey::patch_all();
        // Those that a thread connects wait for the thread.
        let cases = CASES.iter().filter(|case| !case.name.contains("elsewhere"));
        for case in cases {
            for (name, close) in CLOSINGS {
                for by_thread in [false, true] {
                    println!("{name} during {}, by a thread: {by_thread}", case.name);
                    let (waiting, _ending) = (case.ends)();
                    let number = waiting.into_raw_fd();
                    let wait = case.wait;
                    let waiting = [(); 2].map(|()| spawn(move || outcome(wait(number))));
                    idle();
                    if by_thread {
                        let close = *close;
                        thread::spawn(move || close(number)).join().unwrap();
                    } else {
                        close(number);
                    }
                    for greenlet in waiting {
                        assert_eq!(greenlet.get().unwrap(), Err(libc::EBADF));
                    }
                    unsafe { libc::close(number) };
                }
            }
        }
    }

    fn what_closes_nothing_disturbs_nobody() {
        monkey::patch_all();
        let (waiting, ending) = pair(SOCK_STREAM);
        let number = waiting.as_raw_fd();
        let greenlet = spawn(move || receive_one(waiting.as_raw_fd()));
        idle();
        assert_eq!(unsafe { libc::dup2(number, number) }, number);
        assert_eq!(unsafe { libc::dup2(-1, number) }, -1);
        assert_eq!(unsafe { libc::dup3(number, number, 0) }, -1);
        assert_eq!(unsafe { libc::dup3(ending.as_raw_fd(), number, 99) }, -1);
        let cloexec = libc::CLOSE_RANGE_CLOEXEC as c_int;
        assert_eq!(unsafe { libc::close_range(3, u32::MAX, cloexec) }, 0);
        drop(waiting_duplicate(number));
        idle();
        assert!(!greenlet.is_finished());
        put(ending.as_raw_fd());
        assert_eq!(greenlet.get().unwrap(), 1);
    }

    fn a_number_that_is_given_out_again_starts_clean() {
        monkey::patch_all();
        let (waiting, _ending) = pair(SOCK_STREAM);
        set_limit(&waiting, libc::SO_RCVTIMEO, 60_000);
        let number = waiting.into_raw_fd();
        let greenlet = spawn(move || outcome(receive_one(number)));
        idle();
        unsafe { libc::close(number) };
        let (new, other) = UnixDatagram::pair().unwrap();
        assert_eq!(new.as_raw_fd(), number, "the lowest that is free");
        other.send(b"for the new one").unwrap();
        assert_eq!(greenlet.get().unwrap(), Err(libc::EBADF));
        assert_eq!(new.read_timeout().unwrap(), None);
        assert_eq!(new.recv(&mut [0; 32]).unwrap(), 15);
        let greenlet = spawn(move || new.recv(&mut [0; 32]).unwrap());
        idle();
        other.send(b"more").unwrap();
        assert_eq!(greenlet.get().unwrap(), 4);
    }

    fn a_number_that_was_a_stream_of_ours_is_not_taken_for_one() {
        monkey::patch_all();
        // Ours by number; then somebody else's, whose mode is seen elsewhere.
        let (elsewhere, listener) = waiting_to_connect();
        let there = named(name_of(elsewhere.as_raw_fd()).strip_prefix("to ").unwrap());
        forbid_modes();
        for (name, close) in CLOSINGS {
            let number = stream(libc::AF_UNIX).into_raw_fd();
            close(number);
            // As if it had come from another process.
            let raw = unsafe { libc::syscall(libc::SYS_dup3, elsewhere.as_raw_fd(), number, 0) };
            assert_eq!(raw, i64::from(number), "{name}");
            let connecting = spawn(move || outcome(connect(number, &there)));
            idle();
            assert!(!connecting.is_finished());
            connecting.kill();
            connecting.join();
            unsafe { libc::close(number) };
        }
        accept(listener.as_raw_fd());
    }

    fn closing_all_descriptors_does_not_look_at_each_number() {
        monkey::patch_all();
        let (waiting, _ending) = pair(SOCK_STREAM);
        let number = waiting.as_raw_fd();
        let high = unsafe { libc::fcntl(number, libc::F_DUPFD, 500) };
        let greenlet = spawn(move || outcome(receive_one(high)));
        idle();
        assert_eq!(unsafe { libc::close_range(500, u32::MAX, 0) }, 0);
        assert_eq!(greenlet.get().unwrap(), Err(libc::EBADF));
        assert_eq!(unsafe { libc::fcntl(high, libc::F_GETFD) }, -1);
    }
}

/// A duplicate of a descriptor, whose closing is nobody's business.
fn waiting_duplicate(number: RawFd) -> OwnedFd {
    fd(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) })
}

// ── being interrupted ──

alone! {
    fn a_kill_ends_each_call_by_an_error_and_is_raised_at_the_next_wait() {
        monkey::patch_all();
        for case in CASES {
            println!("{}", case.name);
            let (waiting, _ending) = (case.ends)();
            let reached = Rc::new(Cell::new(None));
            let seen = Rc::clone(&reached);
            let wait = case.wait;
            let greenlet = spawn(move || {
                seen.set(Some(outcome(wait(waiting.as_raw_fd()))));
                yield_now();
                seen.set(None);
            });
            idle();
            greenlet.kill();
            greenlet.join();
            assert_eq!(reached.get(), Some(Err(libc::ECANCELED)), "{}", case.name);
        }
    }

    fn a_timeout_ends_each_call_by_an_error_and_then_its_scope() {
        monkey::patch_all();
        for case in CASES {
            println!("{}", case.name);
            let (waiting, _ending) = (case.ends)();
            let seen = Cell::new(None);
            let result = with_timeout(ms(5), || {
                seen.set(Some(outcome((case.wait)(waiting.as_raw_fd()))));
                yield_now();
                seen.set(None);
            });
            assert!(result.is_err(), "{}", case.name);
            assert_eq!(seen.get(), Some(Err(libc::ECANCELED)), "{}", case.name);
        }
    }
}

// ── what it costs, and where it does not apply ──

alone! {
    #[cfg_attr(hard_switch, ignore = "each call is asked whether others may run")]
    fn a_call_that_need_not_wait_is_one_system_call() {
        monkey::patch_all();
        let (one, other) = pair(SOCK_STREAM);
        let (here, there) = (one.as_raw_fd(), other.as_raw_fd());
        let mut buf = [0_u8; 8];
        let mut all_calls = move || unsafe {
            let buf = buf.as_mut_ptr().cast::<c_void>();
            assert_eq!(libc::send(here, b"some".as_ptr().cast(), 4, 0), 4);
            assert_eq!(libc::recv(there, buf, 4, 0), 4);
            assert_eq!(libc::sendto(here, b"some".as_ptr().cast(), 4, 0, ptr::null(), 0), 4);
            assert_eq!(libc::recvfrom(there, buf, 4, 0, ptr::null_mut(), ptr::null_mut()), 4);
            assert_eq!(send_message(here), 4);
            assert_eq!(receive_message(there), 4);
            assert_eq!(send_messages(here), 1);
            assert_eq!(receive_messages(there), 1);
            assert_eq!(libc::write(here, b"some".as_ptr().cast(), 4), 4);
            assert_eq!(libc::read(there, buf, 4), 4);
            assert_eq!(libc::writev(here, &vector(b"some"), 1), 4);
            assert_eq!(libc::readv(there, &room(&mut [0_u8; 4]), 1), 4);
            assert_eq!(libc::send(here, b"some".as_ptr().cast(), 4, 0), 4);
            assert_eq!(libc::recv(there, buf, 4, libc::MSG_WAITALL), 4);
        };
        spawn(move || {
            all_calls();
            // Whatever else might be asked of a descriptor ends the process from now on.
            forbid(&[
                libc::SYS_epoll_ctl,
                libc::SYS_epoll_pwait,
                libc::SYS_epoll_pwait2,
                libc::SYS_ppoll,
                libc::SYS_fcntl,
                libc::SYS_ioctl,
                libc::SYS_fstat,
                libc::SYS_newfstatat,
                libc::SYS_getsockopt,
                libc::SYS_preadv2,
                libc::SYS_pwritev2,
                libc::SYS_read,
                libc::SYS_readv,
                libc::SYS_writev,
            ]);
            all_calls();
            // The test's own end would need some of these.
            println!("1 passed");
            unsafe { libc::_exit(0) };
        })
        .get()
        .unwrap();
    }

    fn descriptors_zero_to_two_are_the_kernels() {
        monkey::patch_all();
        let (waiting, ending) = pair(SOCK_STREAM);
        assert_eq!(unsafe { libc::dup2(waiting.as_raw_fd(), 0) }, 0);
        let calls: [fn() -> isize; 2] = [
            || spawn(|| receive_one(0)).get().unwrap(),
            || spawn(|| unsafe { libc::read(0, [0_u8; 4].as_mut_ptr().cast(), 4) }).get().unwrap(),
        ];
        for (call, number) in calls.into_iter().zip([libc::SYS_recvfrom, libc::SYS_read]) {
            assert_eq!(blocked_in(number, call, || put(ending.as_raw_fd())), 1);
        }
    }

    fn while_a_greenlet_unwinds_calls_are_the_kernels() {
        struct Reads(OwnedFd);
        impl Drop for Reads {
            fn drop(&mut self) {
                assert_eq!(receive_one(self.0.as_raw_fd()), 1);
            }
        }
        monkey::patch_all();
        let (waiting, ending) = pair(SOCK_STREAM);
        let unwinding = move || {
            let reads = Reads(waiting);
            let killed = spawn(move || {
                let _reads = reads;
                greenloom::sleep(ms(60_000));
            });
            idle();
            killed.kill();
            killed.join();
        };
        blocked_in(libc::SYS_recvfrom, unwinding, || put(ending.as_raw_fd()));
    }
}
