//! Patched `read` and `write`: of pipes, terminals, and whatever else has a descriptor.

#![expect(unsafe_code, reason = "they are functions of C")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "how far it got, if it fails")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "each is a call of C with arguments in sight, some of them bad on purpose"
)]

use std::cell::Cell;
use std::ffi::{CString, c_int};
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Seek, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::{mem, ptr, thread};

use greenloom::{idle, monkey, spawn, with_timeout, yield_now};
use libc::{SOCK_DGRAM, SOCK_STREAM};

mod monkey_socket_util;
mod monkey_util;
use monkey_socket_util::*;
use monkey_util::{alone, ms, until_main_waits};

fn read_some(fd: RawFd) -> isize {
    unsafe { libc::read(fd, [0_u8; 4096].as_mut_ptr().cast(), 4096) }
}

fn read_vectors(fd: RawFd) -> isize {
    let (mut one, mut other) = ([0_u8; 16], [0_u8; 4096]);
    let vectors = [room(&mut one), room(&mut other)];
    unsafe { libc::readv(fd, vectors.as_ptr(), 2) }
}

fn write_some(fd: RawFd) -> isize {
    unsafe { libc::write(fd, b"some".as_ptr().cast(), 4) }
}

fn write_vectors(fd: RawFd) -> isize {
    unsafe { libc::writev(fd, [vector(b"so"), vector(b"me")].as_ptr(), 2) }
}

/// Both ends of a pipe that has a name, on which the kernel has no `RWF_NOWAIT`.
fn fifo() -> (OwnedFd, OwnedFd) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let reading = File::open(&path).unwrap();
    let writing = File::options().write(true).open(&path).unwrap();
    drop(both);
    (reading.into(), writing.into())
}

fn full_fifo() -> (OwnedFd, OwnedFd) {
    let (reading, writing) = fifo();
    fill(writing.as_raw_fd());
    (writing, reading)
}

/// A terminal, and who sits before it.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut user, mut program) = (0, 0);
    let none = ptr::null_mut();
    assert_eq!(
        unsafe { libc::openpty(&mut user, &mut program, none, ptr::null(), ptr::null()) },
        0
    );
    (fd(program), fd(user))
}

fn put_line(user: RawFd) {
    assert_eq!(unsafe { libc::write(user, b"\n".as_ptr().cast(), 1) }, 1);
}

fn eventfd() -> (OwnedFd, OwnedFd) {
    let made = fd(unsafe { libc::eventfd(0, 0) });
    (made.try_clone().unwrap(), made)
}

fn full_eventfd() -> (OwnedFd, OwnedFd) {
    let made = fd(unsafe { libc::eventfd(0, 0) });
    add(made.as_raw_fd(), u64::MAX - 1);
    (made.try_clone().unwrap(), made)
}

fn add(fd: RawFd, count: u64) -> isize {
    unsafe { libc::write(fd, (&raw const count).cast(), 8) }
}

fn timer() -> (OwnedFd, OwnedFd) {
    let made = fd(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) });
    (made.try_clone().unwrap(), made)
}

fn start_timer(fd: RawFd) {
    let mut time: libc::itimerspec = unsafe { mem::zeroed() };
    time.it_value.tv_nsec = 1;
    assert_eq!(unsafe { libc::timerfd_settime(fd, 0, &time, ptr::null_mut()) }, 0);
}

fn inotify() -> (OwnedFd, OwnedFd) {
    let made = fd(unsafe { libc::inotify_init() });
    (made.try_clone().unwrap(), made)
}

fn notify(fd: RawFd) {
    let folder = tempfile::tempdir().unwrap();
    let name = CString::new(folder.path().as_os_str().as_bytes()).unwrap();
    assert!(unsafe { libc::inotify_add_watch(fd, name.as_ptr(), libc::IN_CREATE) } >= 0);
    File::create(folder.path().join("new")).unwrap();
}

const CASES: &[Case] = &[
    Case {
        name: "read, socket",
        call: libc::SYS_read,
        ends: || pair(SOCK_STREAM),
        wait: read_some,
        end: put,
    },
    Case {
        name: "readv, socket",
        call: libc::SYS_readv,
        ends: || pair(SOCK_DGRAM),
        wait: read_vectors,
        end: put,
    },
    Case {
        name: "write, socket",
        call: libc::SYS_write,
        ends: || full(SOCK_STREAM),
        wait: write_some,
        end: drain,
    },
    Case {
        name: "writev, socket",
        call: libc::SYS_writev,
        ends: || full(SOCK_DGRAM),
        wait: write_vectors,
        end: drain,
    },
    Case { name: "read, pipe", call: libc::SYS_read, ends: pipe, wait: read_some, end: put },
    Case { name: "readv, pipe", call: libc::SYS_readv, ends: pipe, wait: read_vectors, end: put },
    Case {
        name: "write, pipe",
        call: libc::SYS_write,
        ends: full_pipe,
        wait: write_some,
        end: take,
    },
    Case {
        name: "writev, pipe",
        call: libc::SYS_writev,
        ends: full_pipe,
        wait: write_vectors,
        end: take,
    },
    Case { name: "read, fifo", call: libc::SYS_read, ends: fifo, wait: read_some, end: put },
    Case { name: "readv, fifo", call: libc::SYS_readv, ends: fifo, wait: read_vectors, end: put },
    Case {
        name: "write, fifo",
        call: libc::SYS_write,
        ends: full_fifo,
        wait: write_some,
        end: take,
    },
    Case {
        name: "writev, fifo",
        call: libc::SYS_writev,
        ends: full_fifo,
        wait: write_vectors,
        end: take,
    },
    Case {
        name: "read, terminal",
        call: libc::SYS_read,
        ends: terminal,
        wait: read_some,
        end: put_line,
    },
    Case {
        name: "read, eventfd",
        call: libc::SYS_read,
        ends: eventfd,
        wait: read_some,
        end: |fd| assert_eq!(add(fd, 1), 8),
    },
    Case {
        name: "write, eventfd",
        call: libc::SYS_write,
        ends: full_eventfd,
        wait: |fd| add(fd, 1),
        end: take,
    },
    Case {
        name: "read, timerfd",
        call: libc::SYS_read,
        ends: timer,
        wait: read_some,
        end: start_timer,
    },
    Case {
        name: "read, inotify",
        call: libc::SYS_read,
        ends: inotify,
        wait: read_some,
        end: notify,
    },
];

alone! {
    fn greenlets_wait_in_each_call_at_the_same_time() {
        overlap(CASES);
    }

    fn unpatched_and_outside_of_greenlets_each_call_is_the_kernels() {
        are_the_kernels_elsewhere(CASES);
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn what_the_user_has_made_non_blocking_does_not_wait() {
        monkey::patch_all();
        let turns = Rc::new(Cell::new(0));
        let seen = Rc::clone(&turns);
        let calls = spawn(move || {
            for case in CASES {
                let (waiting, _ending) = (case.ends)();
                let mode = mode(&waiting);
                unsafe { libc::fcntl(waiting.as_raw_fd(), libc::F_SETFL, mode | libc::O_NONBLOCK) };
                let before = seen.get();
                let result = outcome((case.wait)(waiting.as_raw_fd()));
                assert_eq!(seen.get(), before, "it waited: {}", case.name);
                assert_eq!(result, Err(libc::EAGAIN), "{}", case.name);
            }
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
            idle();
            assert_eq!(mode(&seen), before, "{}", case.name);
            (case.end)(ending.as_raw_fd());
            greenlet.get().unwrap();
            assert_eq!(mode(&seen), before, "{}", case.name);
        }
    }

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

    fn who_waits_for_what_is_closed_hears_of_it() {
        monkey::patch_all();
        for case in CASES {
            for by_thread in [false, true] {
                println!("{}, by a thread: {by_thread}", case.name);
                let (waiting, _ending) = (case.ends)();
                let number = waiting.into_raw_fd();
                let wait = case.wait;
                let waiting = spawn(move || outcome(wait(number)));
                idle();
                let close = move || assert_eq!(unsafe { libc::close(number) }, 0);
                if by_thread {
                    thread::spawn(close).join().unwrap();
                } else {
                    close();
                }
                assert_eq!(waiting.get().unwrap(), Err(libc::EBADF));
            }
        }
    }

    fn errors_and_errno_are_the_kernels() {
        are_told_the_same(errors);
    }
}

/// What the kernel says to calls that cannot be, or that are of nothing.
fn errors() -> Outcomes {
    let mut results = Vec::new();
    let bad = 16_usize;
    let folder = File::open("/").unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (zero, full) =
        (File::open("/dev/zero").unwrap(), File::options().write(true).open("/dev/full").unwrap());
    let alone = stream(libc::AF_INET);
    let path = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH) };
    let path = fd(path);
    let (reading, writing) = pipe();
    let (named, into_named) = fifo();
    let (socket, peer) = pair(SOCK_STREAM);
    let (datagrams, sender) = pair(SOCK_DGRAM);
    let (program, user) = terminal();
    let (event, _) = eventfd();
    for fd in [&writing, &into_named, &peer, &sender] {
        put(fd.as_raw_fd());
    }
    put_line(user.as_raw_fd());
    let all: [(&str, RawFd); 16] = [
        ("none", -1),
        ("no such", 999),
        ("folder", folder.as_raw_fd()),
        ("null", null.as_raw_fd()),
        ("zero", zero.as_raw_fd()),
        ("full", full.as_raw_fd()),
        ("alone", alone.as_raw_fd()),
        ("path", path.as_raw_fd()),
        ("reading", reading.as_raw_fd()),
        ("writing", writing.as_raw_fd()),
        ("named", named.as_raw_fd()),
        ("into named", into_named.as_raw_fd()),
        ("socket", socket.as_raw_fd()),
        ("datagrams", datagrams.as_raw_fd()),
        ("program", program.as_raw_fd()),
        ("event", event.as_raw_fd()),
    ];
    let mut buf = [0_u64; 2];
    let (place, good) =
        (buf.as_mut_ptr(), libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: 8 });
    let mut say = |what: &'static str, result: isize| results.push((what, outcome(result)));
    // A datagram that could not be read is gone, and so is a line.
    let put_back = |name: &str| match name {
        "datagrams" => put(sender.as_raw_fd()),
        "program" => put_line(user.as_raw_fd()),
        _ => {}
    };
    unsafe {
        for (name, fd) in all {
            // What waits for ever is left out: there is something to read where it would.
            let may_wait = name == "event";
            let bad_list = [libc::iovec { iov_base: bad as *mut _, iov_len: 8 }];
            let nothing = [libc::iovec { iov_base: place.cast(), iov_len: 0 }; 2];
            if !may_wait {
                say(name, libc::read(fd, bad as *mut _, 8));
                put_back(name);
                say(name, libc::readv(fd, bad_list.as_ptr(), 1));
                put_back(name);
            }
            say(name, libc::read(fd, place.cast(), 0));
            say(name, libc::readv(fd, nothing.as_ptr(), 2));
            say(name, libc::readv(fd, ptr::null(), 0));
            say(name, libc::readv(fd, ptr::null(), 1));
            say(name, libc::readv(fd, &good, -1));
            say(name, libc::readv(fd, vec![good; 1025].as_ptr(), 1025));
            say(name, libc::write(fd, bad as *const _, 8));
            say(name, libc::writev(fd, bad_list.as_ptr(), 1));
            say(name, libc::write(fd, place.cast(), 0));
            say(name, libc::writev(fd, nothing.as_ptr(), 2));
            say(name, libc::writev(fd, ptr::null(), 0));
            say(name, libc::writev(fd, ptr::null(), 1));
            say(name, libc::writev(fd, &good, -1));
            if !may_wait {
                say(name, libc::read(fd, place.cast(), 1));
            }
        }
        say(
            "null takes all",
            libc::write(null.as_raw_fd(), vec![0_u8; 1 << 20].as_ptr().cast(), 1 << 20),
        );
        say(
            "zero gives all",
            libc::read(zero.as_raw_fd(), vec![0_u8; 1 << 20].as_mut_ptr().cast(), 1 << 20),
        );
        say("full takes nothing", libc::write(full.as_raw_fd(), place.cast(), 8));
        say("too little for an event", libc::read(event.as_raw_fd(), place.cast(), 7));
    }
    results
}

// ── pipes ──

fn much() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Writes it into pipes with and without a name, of which somebody reads slowly.
fn writes_much(write: impl Fn(RawFd, &[u8]) -> isize) {
    monkey::patch_all();
    let much = much();
    for (reading, writing) in [pipe(), fifo()] {
        let mut reading = File::from(reading);
        let reader = spawn(move || {
            let (mut all, mut buf) = (Vec::new(), vec![0; 50_000]);
            loop {
                yield_now();
                match reading.read(&mut buf).unwrap() {
                    0 => break all,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        });
        assert_eq!(write(writing.as_raw_fd(), &much), much.len() as isize);
        drop(writing);
        assert!(reader.get().unwrap() == much);
    }
}

alone! {
    fn one_write_writes_it_all() {
        writes_much(|fd, all| unsafe { libc::write(fd, all.as_ptr().cast(), all.len()) });
    }

    fn one_writev_writes_it_all() {
        writes_much(|fd, all| {
            let mut vectors: Vec<_> = all.chunks(33_333).map(vector).collect();
            vectors.insert(3, vector::<u8>(&[]));
            unsafe { libc::writev(fd, vectors.as_ptr(), vectors.len() as c_int) }
        });
    }

    fn what_has_been_written_is_said_when_the_rest_fails() {
        monkey::patch_all();
        for (reading, writing) in [pipe(), fifo()] {
            let much = much();
            let mut writing = File::from(writing);
            let closing = spawn(move || {
                until_main_waits();
                drop(reading);
            });
            let part = writing.write(&much).unwrap();
            closing.get().unwrap();
            assert!(part > 0 && part < much.len(), "{part}");
            assert_eq!(writing.write(&much).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
        let (_reading, writing) = pipe();
        let mut writing = File::from(writing);
        let killed = spawn(move || {
            let part = writing.write(&much()).unwrap();
            assert!(part > 0 && part < much().len());
            assert_eq!(writing.write(b"x").unwrap_err().raw_os_error(), Some(libc::ECANCELED));
            yield_now();
            unreachable!("it is killed");
        });
        idle();
        killed.kill();
        assert!(matches!(killed.get(), Err(greenloom::JoinError::Killed)));
    }

    fn what_fits_into_a_pipe_at_once_is_never_torn() {
        monkey::patch_all();
        for (reading, writing) in [pipe(), fifo()] {
            let writing = Rc::new(writing);
            let writers: Vec<_> = (0..8_u8)
                .map(|n| {
                    let writing = Rc::clone(&writing);
                    spawn(move || {
                        for round in 0..40 {
                            let bytes = [n; libc::PIPE_BUF];
                            let result = if round % 2 == 0 {
                                unsafe { libc::write(writing.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) }
                            } else {
                                // More of them than are taken in a window.
                                let vectors: Vec<_> = bytes.chunks(100).map(vector).collect();
                                let count = vectors.len() as c_int;
                                unsafe { libc::writev(writing.as_raw_fd(), vectors.as_ptr(), count) }
                            };
                            assert_eq!(result, bytes.len() as isize);
                        }
                    })
                })
                .collect();
            drop(writing);
            let mut reading = File::from(reading);
            let mut buf = [0; libc::PIPE_BUF];
            for _ in 0..8 * 40 {
                reading.read_exact(&mut buf).unwrap();
                assert!(buf.iter().all(|byte| *byte == buf[0]), "torn");
            }
            assert_eq!(reading.read(&mut buf).unwrap(), 0);
            for writer in writers {
                writer.get().unwrap();
            }
        }
    }

    fn children_are_read_from_and_written_to_through_pipes() {
        monkey::patch_all();
        let greenlets: Vec<_> = (0..3)
            .map(|n: u8| {
                spawn(move || {
                    let mut child = Command::new("cat")
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()
                        .unwrap();
                    let mut into = child.stdin.take().unwrap();
                    let much = vec![n; 500_000];
                    let writer = spawn(move || into.write_all(&much).unwrap());
                    let mut back = Vec::new();
                    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
                    writer.get().unwrap();
                    assert!(child.wait().unwrap().success());
                    assert!(back == vec![n; 500_000]);
                })
            })
            .collect();
        for greenlet in greenlets {
            greenlet.get().unwrap();
        }
    }
}

// ── sockets, by way of `read` and `write` ──

alone! {
    fn to_read_nothing_takes_no_datagram_and_to_write_nothing_sends_one() {
        monkey::patch_all();
        let (one, other) = UnixDatagram::pair().unwrap();
        one.send(b"kept").unwrap();
        let fd = other.as_raw_fd();
        assert_eq!(unsafe { libc::read(fd, ptr::null_mut(), 0) }, 0);
        let mut nothing = [room(&mut []); 2];
        assert_eq!(unsafe { libc::readv(fd, nothing.as_mut_ptr(), 2) }, 0);
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 4);
        let fd = one.as_raw_fd();
        // As the kernel: a plain write of nothing is a datagram, of vectors it is nothing.
        assert_eq!(unsafe { libc::writev(fd, nothing.as_ptr(), 2) }, 0);
        assert_eq!(unsafe { libc::write(fd, ptr::null(), 0) }, 0);
        one.send(b"second").unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 0);
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 6);
        // Reading nothing from an empty socket does not wait.
        assert_eq!(unsafe { libc::read(other.as_raw_fd(), ptr::null_mut(), 0) }, 0);
    }

    fn a_datagram_is_written_whole_or_not_at_all() {
        monkey::patch_all();
        let (one, other) = UnixDatagram::pair().unwrap();
        let reader = spawn(move || (0..200).map(|_| other.recv(&mut [0; 4096]).unwrap()).sum::<usize>());
        for n in 0..200 {
            let bytes = vec![0; n];
            let half = bytes.split_at(n / 2);
            let vectors = [vector(half.0), vector(half.1)];
            let sent = if n % 2 == 1 {
                unsafe { libc::writev(one.as_raw_fd(), vectors.as_ptr(), 2) }
            } else {
                one.send(&bytes).unwrap() as isize
            };
            assert_eq!(sent, n as isize);
        }
        assert_eq!(reader.get().unwrap(), (0..200).sum::<usize>());
    }

    fn a_full_queue_that_others_have_filled_is_tried_again() {
        monkey::patch_all();
        // Of this the kernel tells nobody who is not connected: room for a datagram of another's.
        let listener = UnixDatagram::unbound().unwrap();
        bind(listener.as_raw_fd(), "a queue");
        let there = named("a queue");
        let to = move |fd: &UnixDatagram, flags: c_int| {
            let (fd, place) = (fd.as_raw_fd(), (&raw const there.0).cast());
            outcome(unsafe { libc::sendto(fd, b"x".as_ptr().cast(), 1, flags, place, there.1) })
        };
        let filling = UnixDatagram::unbound().unwrap();
        while to(&filling, libc::MSG_DONTWAIT).is_ok() {}
        let sender = spawn(move || to(&UnixDatagram::unbound().unwrap(), 0));
        idle();
        assert!(!sender.is_finished());
        for _ in 0..4 {
            listener.recv(&mut [0]).unwrap();
        }
        assert_eq!(sender.get().unwrap(), Ok(1));
    }
}

// ── the rest ──

alone! {
    fn files_are_what_they_are() {
        monkey::patch_all();
        spawn(|| {
            let mut file = tempfile::tempfile().unwrap();
            let much = much();
            assert_eq!(file.write(&much).unwrap(), much.len());
            let vectors = [IoSlice::new(b"one"), IoSlice::new(b"other")];
            assert_eq!(file.write_vectored(&vectors).unwrap(), 8);
            file.rewind().unwrap();
            let mut all = vec![0; much.len()];
            assert_eq!(file.read(&mut all).unwrap(), much.len());
            assert!(all == much);
            let mut rest = String::new();
            file.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "oneother");
            let mut byte = [0];
            file.read_exact_at(&mut byte, 1).unwrap();
            assert_eq!(byte[0], much[1]);
        })
        .get()
        .unwrap();
    }

    fn many_print_at_once() {
        monkey::patch_all();
        // The standard descriptors are the kernel's: under std's lock nobody waits.
        let greenlets: Vec<_> = (0..50)
            .map(|n| {
                spawn(move || {
                    println!("{n}");
                    eprintln!("{n}");
                    yield_now();
                })
            })
            .collect();
        for greenlet in greenlets {
            greenlet.get().unwrap();
        }
    }

    fn standard_input_is_the_kernels_whatever_it_is() {
        monkey::patch_all();
        let (reading, writing) = pipe();
        assert_eq!(unsafe { libc::dup2(reading.as_raw_fd(), 0) }, 0);
        let calls: [(c_int, fn() -> isize); 2] = [
            (libc::SYS_read as c_int, || spawn(|| read_some(0)).get().unwrap()),
            (libc::SYS_readv as c_int, || spawn(|| read_vectors(0)).get().unwrap()),
        ];
        for (number, call) in calls {
            assert_eq!(blocked_in(number.into(), call, || put(writing.as_raw_fd())), 1);
        }
    }
}
