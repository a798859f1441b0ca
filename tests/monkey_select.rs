//! Several descriptors at once, under patch: `poll`, `ppoll`, `select`, `pselect`.

#![expect(unsafe_code, reason = "the functions under test are C's")]

use std::cell::RefCell;
use std::ffi::{c_int, c_short};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::thread::JoinHandleExt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, iter, ptr, thread};

use greenloom::{
    Elapsed, Greenlet, Hub, catch_interrupt, dump, idle, joinall, monkey, sleep, spawn,
    with_timeout, yield_now,
};
use libc::{
    POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP, fd_set, pollfd, sigset_t,
    timespec, timeval,
};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

// ── the calls ──

/// What a call returns, or the error that it leaves.
fn result(returned: c_int) -> Result<c_int, i32> {
    if returned < 0 { Err(errno()) } else { Ok(returned) }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

fn set_errno(errno: i32) {
    // SAFETY: the place of this thread's `errno`.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = errno };
}

fn poll(fds: &mut [pollfd], timeout: c_int) -> Result<c_int, i32> {
    // SAFETY: so many are there.
    result(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, timeout) })
}

fn ppoll(
    fds: &mut [pollfd],
    timeout: Option<timespec>,
    mask: Option<&sigset_t>,
) -> Result<c_int, i32> {
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mask = mask.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: so many are there; the others are null or good.
    result(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as _, timeout, mask) })
}

fn asking(fd: &impl AsRawFd, events: c_short) -> pollfd {
    pollfd { fd: fd.as_raw_fd(), events, revents: 0x55 }
}

/// Polls one, and returns what there is. Nothing: the time is up.
fn poll_one(fd: &impl AsRawFd, events: c_short, timeout: c_int) -> Result<c_short, i32> {
    let mut fds = [asking(fd, events)];
    let ready = poll(&mut fds, timeout)?;
    assert_eq!(ready, c_int::from(fds[0].revents != 0));
    Ok(fds[0].revents)
}

/// A set of any size.
#[derive(Clone, Debug, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn of(fds: &[RawFd]) -> Set {
        let words = fds.iter().max().map_or(0, |fd| *fd as usize / 64 + 1);
        let mut set = Set(vec![0; words.max(16)]);
        for fd in fds {
            set.0[*fd as usize / 64] |= 1 << (fd % 64);
        }
        set
    }

    fn has(&self, fd: RawFd) -> bool {
        self.0[fd as usize / 64] >> (fd % 64) & 1 == 1
    }

    fn pointer(set: Option<&mut Set>) -> *mut fd_set {
        set.map_or(ptr::null_mut(), |set| set.0.as_mut_ptr().cast())
    }
}

type Sets<'a> = [Option<&'a mut Set>; 3];

fn select(count: c_int, sets: Sets<'_>, time: Option<&mut timeval>) -> Result<c_int, i32> {
    let [read, write, except] = sets.map(Set::pointer);
    let time = time.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: sets are as large as the count says; the time is null or good.
    result(unsafe { libc::select(count, read, write, except, time) })
}

fn pselect(
    count: c_int,
    sets: Sets<'_>,
    time: Option<timespec>,
    mask: Option<&sigset_t>,
) -> Result<c_int, i32> {
    let [read, write, except] = sets.map(Set::pointer);
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mask = mask.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: as above.
    result(unsafe { libc::pselect(count, read, write, except, time, mask) })
}

fn timeval_of(time: Duration) -> timeval {
    timeval { tv_sec: time.as_secs() as i64, tv_usec: time.subsec_micros().into() }
}

fn timespec_of(time: Duration) -> timespec {
    timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

const HOUR: Duration = Duration::from_secs(3600);
const FOR_EVER: c_int = -1;

/// A pair of sockets that is never to be closed.
fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

/// Begun, and waiting in that call.
fn waiting<T: 'static>(verb: &str, f: impl FnOnce() -> T + 'static) -> Greenlet<T> {
    let greenlet = spawn(f);
    idle();
    assert!(waits_in(verb, &greenlet), "{}", dump());
    greenlet
}

fn waits_in<T: 'static>(verb: &str, greenlet: &Greenlet<T>) -> bool {
    let dump = dump();
    let mut entries = dump.greenlets().iter();
    entries.any(|entry| entry.id == greenlet.id() && entry.reason.as_deref() == Some(verb))
}

type Call = fn(&UnixStream, Duration) -> Result<c_int, i32>;

/// Four ways to wait until a socket can be read; the longest time is for ever.
const CALLS: [(&str, Call); 4] = [
    ("poll", |socket, time| {
        let mut fds = [asking(socket, POLLIN)];
        let ready = poll(&mut fds, c_int::try_from(time.as_millis()).unwrap_or(FOR_EVER))?;
        assert_eq!(fds[0].revents, if ready == 1 { POLLIN } else { 0 });
        Ok(ready)
    }),
    ("ppoll", |socket, time| {
        let mut fds = [asking(socket, POLLIN)];
        let time = (time < Duration::MAX).then(|| timespec_of(time));
        let ready = ppoll(&mut fds, time, None)?;
        assert_eq!(fds[0].revents, if ready == 1 { POLLIN } else { 0 });
        Ok(ready)
    }),
    ("select", |socket, time| {
        let (fd, mut time) = (socket.as_raw_fd(), (time < Duration::MAX).then(|| timeval_of(time)));
        let mut set = Set::of(&[fd]);
        let ready = select(fd + 1, [Some(&mut set), None, None], time.as_mut())?;
        assert_eq!(set, if ready == 1 { Set::of(&[fd]) } else { Set::of(&[]) });
        Ok(ready)
    }),
    ("pselect", |socket, time| {
        let (fd, time) = (socket.as_raw_fd(), (time < Duration::MAX).then(|| timespec_of(time)));
        let mut set = Set::of(&[fd]);
        let ready = pselect(fd + 1, [Some(&mut set), None, None], time, None)?;
        assert_eq!(set, if ready == 1 { Set::of(&[fd]) } else { Set::of(&[]) });
        Ok(ready)
    }),
];

// ── overlapping ──

/// Twenty greenlets wait for a socket each, by that call; then all are written to.
fn overlap(call: usize) {
    monkey::patch_select();
    let (mut here, there): (Vec<_>, Vec<_>) = (0..20).map(|_| pair()).unzip();
    let wait = move |n: usize| CALLS[call].1(&there[n], Duration::MAX);
    let results = overlapping(20, wait, || {
        idle();
        assert_eq!(dump().greenlets()[1].reason.as_deref(), Some(CALLS[call].0));
        for socket in &mut here {
            socket.write_all(b"!").unwrap();
        }
    });
    assert_eq!(results, [Ok(1); 20]);
}

alone! {
    fn poll_overlaps() {
        overlap(0);
    }

    fn ppoll_overlaps() {
        overlap(1);
    }

    fn select_overlaps() {
        overlap(2);
    }

    fn pselect_overlaps() {
        overlap(3);
    }

    fn many_wait_for_one() {
        monkey::patch_select();
        let (mut here, there) = pair();
        let wait = move |n: usize| CALLS[n % 4].1(&there, HOUR);
        let results = overlapping(20, wait, || here.write_all(b"!").unwrap());
        assert_eq!(results, [Ok(1); 20]);
    }

    fn the_main_greenlet_waits_as_the_others_do() {
        monkey::patch_select();
        for (_, call) in CALLS {
            let (mut here, there) = pair();
            let writer = spawn(move || {
                here.write_all(b"!").unwrap();
                here // closed no sooner
            });
            assert_eq!(call(&there, HOUR), Ok(1));
            writer.join();
        }
    }
}

// ── times ──

/// They end in the order of their times, and not too early.
fn elapse_in_order(call: impl Fn(Duration) -> Result<c_int, i32> + Copy + 'static) {
    let order = Rc::new(RefCell::new(Vec::new()));
    let greenlets: Vec<_> = [45, 15, 30]
        .into_iter()
        .map(|time| {
            let order = Rc::clone(&order);
            spawn(move || {
                let begun = Instant::now();
                assert_eq!(call(ms(time)), Ok(0));
                assert!(begun.elapsed() >= ms(time), "too early");
                order.borrow_mut().push(time);
            })
        })
        .collect();
    joinall(&greenlets);
    assert!(greenlets.iter().all(Greenlet::is_successful));
    assert_eq!(*order.borrow(), [15, 30, 45]);
}

alone! {
    fn times_elapse_in_order() {
        monkey::patch_select();
        for (_, call) in CALLS {
            elapse_in_order(move |time| {
                let (_here, there) = pair();
                call(&there, time)
            });
        }
    }

    /// Nothing to wait for, and so a sleep.
    fn without_descriptors_it_sleeps() {
        monkey::patch_select();
        elapse_in_order(|time| {
            // SAFETY: it is given nothing.
            result(unsafe { libc::poll(ptr::null_mut(), 0, time.as_millis() as c_int) })
        });
        elapse_in_order(|time| ppoll(&mut [], Some(timespec_of(time)), None));
        elapse_in_order(|time| select(0, [None, None, None], Some(&mut timeval_of(time))));
        elapse_in_order(|time| pselect(0, [None, None, None], Some(timespec_of(time)), None));
        // An empty set, and descriptors that are to be ignored.
        elapse_in_order(|time| {
            select(64, [Some(&mut Set::of(&[])), None, None], Some(&mut timeval_of(time)))
        });
        elapse_in_order(|time| {
            let mut fds = [pollfd { fd: -1, events: POLLIN, revents: 0x55 }; 2];
            let ready = poll(&mut fds, time.as_millis() as c_int);
            assert_eq!(fds.map(|fd| fd.revents), [0, 0]);
            ready
        });
    }

    fn parts_of_a_millisecond_are_waited() {
        monkey::patch_select();
        spawn(|| {
            for micros in [1, 300, 1001] {
                let time = Duration::from_micros(micros);
                let begun = Instant::now();
                assert_eq!(ppoll(&mut [], Some(timespec_of(time)), None), Ok(0));
                assert!(begun.elapsed() >= time);
                let begun = Instant::now();
                assert_eq!(select(0, [None, None, None], Some(&mut timeval_of(time))), Ok(0));
                assert!(begun.elapsed() >= time);
            }
        })
        .get()
        .unwrap();
    }

    /// `select` says what is left of the time, as Linux does; the others do not.
    fn select_says_what_is_left() {
        let look = || {
            let (mut here, there) = pair();
            let fd = there.as_raw_fd();
            let left = |count, time: &mut timeval| {
                let said = select(count, [Some(&mut Set::of(&[fd])), None, None], Some(time));
                (said, time.tv_sec, time.tv_usec)
            };
            assert_eq!(left(fd + 1, &mut timeval { tv_sec: 0, tv_usec: 2000 }), (Ok(0), 0, 0));
            assert_eq!(left(fd + 1, &mut timeval { tv_sec: 0, tv_usec: 0 }), (Ok(0), 0, 0));
            here.write_all(b"!").unwrap();
            assert_eq!(left(fd + 1, &mut timeval { tv_sec: 0, tv_usec: 0 }), (Ok(1), 0, 0));
            let near = |(said, sec, usec): (_, i64, i64), right, whole: i64| {
                assert!((whole - 50..whole).contains(&sec), "{sec}");
                assert!((0..1_000_000).contains(&usec), "{usec}");
                assert_eq!(said, right);
            };
            near(left(fd + 1, &mut timeval { tv_sec: 100, tv_usec: 0 }), Ok(1), 100);
            near(left(fd + 1, &mut timeval { tv_sec: 100, tv_usec: 2_000_000 }), Ok(1), 102);
            near(left(-1, &mut timeval { tv_sec: 100, tv_usec: 0 }), Err(libc::EINVAL), 100);
            let wrong = left(fd + 1, &mut timeval { tv_sec: 100, tv_usec: -1 });
            assert_eq!(wrong, (Err(libc::EINVAL), 100, -1));
            let wrong = left(fd + 1, &mut timeval { tv_sec: -1, tv_usec: 1 });
            assert_eq!(wrong, (Err(libc::EINVAL), -1, 1));
            let time = timespec_of(HOUR);
            let mut set = Set::of(&[fd]);
            assert_eq!(pselect(fd + 1, [Some(&mut set), None, None], Some(time), None), Ok(1));
            assert_eq!((time.tv_sec, time.tv_nsec), (3600, 0));
        };
        look(); // the kernel
        monkey::patch_select();
        spawn(look).get().unwrap();
        // After a wait, too.
        let (mut here, there) = pair();
        let waiter = waiting("select", move || {
            let (fd, mut time) = (there.as_raw_fd(), timeval_of(HOUR));
            let ready = select(fd + 1, [Some(&mut Set::of(&[fd])), None, None], Some(&mut time));
            (ready, time.tv_sec)
        });
        here.write_all(b"!").unwrap();
        let (ready, left) = waiter.get().unwrap();
        assert_eq!(ready, Ok(1));
        assert!((3500..3600).contains(&left));
    }
}

// ── what is ready ──

alone! {
    fn each_is_told_what_there_is() {
        monkey::patch_select();
        let sockets: Vec<_> = (0..5).map(|_| pair()).collect();
        let mut fds: Vec<_> = sockets.iter().map(|(_, there)| asking(there, POLLIN)).collect();
        fds.push(pollfd { fd: -7, events: POLLIN, revents: 0x55 });
        fds.push(asking(&sockets[3].1, POLLIN)); // once more
        let waiter = waiting("poll", move || {
            let ready = poll(&mut fds, FOR_EVER);
            (ready, fds.iter().map(|fd| fd.revents).collect::<Vec<_>>())
        });
        (&sockets[1].0).write_all(b"!").unwrap();
        sockets[3].0.shutdown(std::net::Shutdown::Both).unwrap();
        let (ready, revents) = waiter.get().unwrap();
        let gone = POLLIN | POLLHUP;
        assert_eq!((ready, revents), (Ok(3), vec![0, POLLIN, 0, gone, 0, 0, gone]));
    }

    /// One asks whether it can be written, the other for both.
    fn room_to_write_is_waited_for() {
        monkey::patch_select();
        let (here, mut there) = pair();
        here.set_nonblocking(true).unwrap();
        while (&here).write(&[0; 4096]).is_ok() {}
        let here = Rc::new(here);
        let (polling, selecting) = (Rc::clone(&here), Rc::clone(&here));
        let asked = |fd: &UnixStream, events| poll_one(fd, events, FOR_EVER);
        let one = waiting("poll", move || asked(&here, POLLOUT));
        let both = waiting("poll", move || asked(&polling, POLLIN | POLLOUT));
        let set = waiting("select", move || {
            let fd = selecting.as_raw_fd();
            let (mut read, mut write, mut except) =
                (Set::of(&[fd]), Set::of(&[fd]), Set::of(&[fd]));
            let sets = [Some(&mut read), Some(&mut write), Some(&mut except)];
            let ready = select(fd + 1, sets, None);
            (ready, [read.has(fd), write.has(fd), except.has(fd)])
        });
        while waits_in("poll", &one) {
            there.read_exact(&mut [0; 4096]).unwrap();
            idle();
        }
        assert_eq!(one.get().unwrap(), Ok(POLLOUT));
        assert_eq!(both.get().unwrap(), Ok(POLLOUT));
        assert_eq!(set.get().unwrap(), (Ok(1), [false, true, false]));
    }

    /// A socket of datagrams has room again when the other side has read.
    fn so_is_room_in_another_s_queue() {
        monkey::patch_select();
        let (here, there) = UnixDatagram::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        while here.send(b"!").is_ok() {}
        let waiter = waiting("poll", move || poll_one(&here, POLLOUT, FOR_EVER));
        while !waiter.is_finished() {
            there.recv(&mut [0; 16]).unwrap();
            idle();
        }
        assert_eq!(waiter.get().unwrap(), Ok(POLLOUT));
    }

    /// And of two that were asked for, what comes first.
    fn either_direction_ends_it() {
        monkey::patch_select();
        let (here, mut there) = pair();
        here.set_nonblocking(true).unwrap();
        while (&here).write(&[0; 4096]).is_ok() {}
        let waiter = waiting("poll", move || poll_one(&here, POLLIN | POLLOUT, FOR_EVER));
        there.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), Ok(POLLIN));
    }

    /// A broken pipe is told to one who asks for nothing.
    fn the_end_is_told_without_being_asked_for() {
        monkey::patch_select();
        let (here, there) = pair();
        let waiter = waiting("poll", move || poll_one(&there, 0, FOR_EVER));
        (&here).write_all(b"!").unwrap();
        idle();
        assert!(waits_in("poll", &waiter));
        drop(here);
        assert_eq!(waiter.get().unwrap(), Ok(POLLHUP));

        let (reader, writer) = io::pipe().unwrap();
        let fd = writer.as_raw_fd();
        // SAFETY: the flags of a pipe of ours.
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
        while (&writer).write(&[0; 4096]).is_ok() {}
        let waiter = waiting("poll", move || poll_one(&writer, 0, FOR_EVER));
        drop(reader);
        assert_eq!(waiter.get().unwrap(), Ok(POLLERR));
    }

    /// Ordinary data, which nobody has asked for and nobody reads, does not make the call spin: the
    /// others get to be idle, again and again, while it waits.
    fn what_is_not_asked_for_does_not_keep_it_awake() {
        monkey::patch_select();
        for events in [POLLPRI, POLLRDHUP, POLLPRI | POLLRDHUP] {
            let (mut here, there) = tcp_pair();
            here.write_all(b"before").unwrap();
            let waiter = waiting("poll", move || {
                let found = poll_one(&there, events, FOR_EVER);
                drop(there);
                found
            });
            for _ in 0..20 {
                here.write_all(b"more").unwrap();
                idle();
                assert!(waits_in("poll", &waiter));
            }
            if events & POLLPRI != 0 {
                let fd = here.as_raw_fd();
                // SAFETY: a byte is there.
                let sent = unsafe { libc::send(fd, b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
                assert_eq!(sent, 1);
                assert_eq!(waiter.get().unwrap(), Ok(POLLPRI));
            } else {
                here.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(waiter.get().unwrap(), Ok(POLLRDHUP));
            }
        }
        // And its time elapses.
        let (mut here, there) = tcp_pair();
        here.write_all(b"before").unwrap();
        assert_eq!(poll_one(&there, POLLPRI, 5), Ok(0));
    }

    fn urgent_data_is_an_exception_to_select() {
        monkey::patch_select();
        let (mut here, there) = tcp_pair();
        here.write_all(b"before").unwrap();
        let waiter = waiting("select", move || {
            let fd = there.as_raw_fd();
            let mut set = Set::of(&[fd]);
            let ready = select(fd + 1, [None, None, Some(&mut set)], None);
            (ready, set.has(fd))
        });
        here.write_all(b"more").unwrap();
        idle();
        assert!(waits_in("select", &waiter));
        // SAFETY: a byte is there.
        unsafe { libc::send(here.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
        assert_eq!(waiter.get().unwrap(), (Ok(1), true));
    }

    /// Nothing happens to a regular file. One that is to be read is ready, and for other things it is
    /// waited in vain.
    fn regular_files_are_as_ready_as_they_will_be() {
        monkey::patch_select();
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(poll_one(&file, POLLIN, FOR_EVER), Ok(POLLIN));
        elapse_in_order(|time| {
            let file = File::open("/proc/self/exe").unwrap();
            poll_one(&file, POLLPRI, time.as_millis() as c_int).map(c_int::from)
        });
        let (mut here, there) = pair();
        let waiter = waiting("poll", move || {
            let mut fds = [asking(&file, POLLPRI), asking(&there, POLLIN)];
            (poll(&mut fds, FOR_EVER), fds.map(|fd| fd.revents))
        });
        here.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), (Ok(1), [0, POLLIN]));
    }

    fn other_kinds_are_watched_as_well() {
        monkey::patch_select();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let waiter = waiting("poll", move || poll_one(&listener, POLLIN, FOR_EVER));
        TcpStream::connect(there).unwrap();
        assert_eq!(waiter.get().unwrap(), Ok(POLLIN));

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = socket.local_addr().unwrap();
        let waiter = waiting("poll", move || poll_one(&socket, POLLIN, FOR_EVER));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"!", there).unwrap();
        assert_eq!(waiter.get().unwrap(), Ok(POLLIN));

        let (reader, mut writer) = io::pipe().unwrap();
        let waiter = waiting("poll", move || poll_one(&reader, POLLIN, FOR_EVER));
        writer.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), Ok(POLLIN));
    }
}

// ── closing ──

fn close(fd: RawFd) {
    // SAFETY: the caller has given it up.
    assert_eq!(unsafe { libc::close(fd) }, 0);
}

alone! {
    /// By another greenlet, or by another thread: it is no descriptor any more.
    fn one_that_is_closed_is_none() {
        monkey::patch_all();
        for by_thread in [false, true] {
            let (_here, there) = pair();
            let (_other, silent) = pair();
            let (fd, silent) = (there.into_raw_fd(), silent.into_raw_fd());
            let polls = waiting("poll", move || {
                let mut fds = [asking(&fd, POLLIN), asking(&silent, POLLIN)];
                (poll(&mut fds, FOR_EVER), fds.map(|fd| fd.revents))
            });
            let selects = waiting("select", move || {
                let mut set = Set::of(&[fd, silent]);
                let said = select(fd.max(silent) + 1, [Some(&mut set), None, None], None);
                (said, set == Set::of(&[fd, silent]))
            });
            if by_thread {
                thread::spawn(move || close(fd));
            } else {
                close(fd);
            }
            assert_eq!(polls.get().unwrap(), (Ok(1), [POLLNVAL, 0]));
            assert_eq!(selects.get().unwrap(), (Err(libc::EBADF), true));
            close(silent);
        }
    }

    /// The number may be another's by the time it looks: then it is that one's readiness it tells.
    fn one_that_is_replaced_is_the_new_one() {
        monkey::patch_all();
        let (mut here, there) = pair();
        let (mut new, other) = pair();
        let fd = there.into_raw_fd();
        let waiter = waiting("poll", move || poll_one(&fd, POLLIN, FOR_EVER));
        // SAFETY: descriptors of ours.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
        assert!(here.write_all(b"!").is_err(), "it was the last of the old one");
        sleep(ms(5));
        assert!(waits_in("poll", &waiter));
        new.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), Ok(POLLIN));
    }

    /// What has woken it is gone when it looks, because somebody else has read it: it waits on.
    fn what_another_has_taken_is_not_there() {
        monkey::patch_all();
        let (mut here, there) = pair();
        let there = Rc::new(there);
        let polling = |there: &Rc<UnixStream>| {
            let there = Rc::clone(there);
            waiting("poll", move || poll_one(&*there, POLLIN, FOR_EVER))
        };
        // One before and one after the taker: whom the kernel wakes first is its affair.
        let before = polling(&there);
        let taken = Rc::clone(&there);
        let taker = waiting("recv", move || (&*taken).read(&mut [0; 16]).unwrap());
        let after = polling(&there);
        here.write_all(b"!").unwrap();
        idle();
        assert_eq!(taker.get().unwrap(), 1);
        assert!(waits_in("poll", &before) || waits_in("poll", &after), "{}", dump());
        here.write_all(b"!").unwrap();
        assert_eq!((before.get().unwrap(), after.get().unwrap()), (Ok(POLLIN), Ok(POLLIN)));
    }
}

// ── sets of all sizes ──

alone! {
    fn sets_may_be_larger_than_the_usual() {
        const FAR: RawFd = 2500;
        monkey::patch_select();
        let most = libc::rlimit { rlim_cur: 3000, rlim_max: 3000 };
        // SAFETY: it reads the limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &most) }, 0);
        let (mut here, there) = pair();
        // SAFETY: descriptors of ours.
        assert_eq!(unsafe { libc::dup2(there.as_raw_fd(), FAR) }, FAR);
        let (_other, silent) = pair();
        let waiter = waiting("select", move || {
            let silent = silent.as_raw_fd();
            let mut set = Set::of(&[silent, FAR]);
            let ready = select(FAR + 1, [Some(&mut set), None, None], None);
            (ready, set == Set::of(&[FAR]))
        });
        here.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), (Ok(1), true));
    }

    /// The kernel looks at as much of a set as there can be descriptors, and so some give whatever
    /// limit the system has for a count. What is behind the set is nobody's to write, nor to read.
    fn a_count_may_be_larger_than_the_sets() {
        monkey::patch_select();
        let (mut here, there) = pair();
        let waiter = waiting("select", move || {
            let fd = there.as_raw_fd();
            let (page, flags) = (4096, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: new memory.
            let place = unsafe {
                libc::mmap(ptr::null_mut(), 2 * page, libc::PROT_NONE, flags, -1, 0)
            };
            assert_ne!(place, libc::MAP_FAILED);
            let writable = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: the first of its two pages.
            assert_eq!(unsafe { libc::mprotect(place, page, writable) }, 0);
            let set = place.wrapping_byte_add(page - size_of::<fd_set>()).cast::<fd_set>();
            // Behind the set in the sense of the kernel: it is in the page, but no process of this
            // size has such descriptors.
            let behind = set.wrapping_byte_add(64).cast::<u64>();
            // SAFETY: in the page.
            unsafe { behind.write(0x1234) };
            // SAFETY: it has the usual size.
            unsafe { libc::FD_SET(fd, set) };
            let (none, mut time) = (ptr::null_mut(), timeval_of(HOUR));
            // SAFETY: a set, though smaller than the count says.
            let ready = result(unsafe { libc::select(c_int::MAX, set, none, none, &mut time) });
            // SAFETY: as above.
            let (is_set, behind) = (unsafe { libc::FD_ISSET(fd, set) }, unsafe { behind.read() });
            (ready, is_set, behind)
        });
        here.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), (Ok(1), true, 0x1234));
    }

    /// Those of the last word that are beyond the count are nobody's.
    fn a_count_ends_within_a_word() {
        monkey::patch_select();
        let (mut here, there) = pair();
        let (mut unheard, beyond) = pair();
        let (fd, last) = (there.as_raw_fd(), beyond.as_raw_fd());
        assert!(fd < last && last < 64);
        let waiter = waiting("select", move || {
            let mut set = Set::of(&[fd, last]);
            let ready = select(fd + 1, [Some(&mut set), None, None], None);
            (ready, set)
        });
        unheard.write_all(b"!").unwrap();
        idle();
        assert!(waits_in("select", &waiter));
        here.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), (Ok(1), Set::of(&[fd])));
    }
}

// ── errors ──

fn what_is_wrong_is_told() {
    let (_here, there) = pair();
    let fd = there.as_raw_fd();
    let closed = {
        let (gone, _) = pair();
        gone.as_raw_fd() + 20
    };
    // poll
    let nowhere = ptr::without_provenance_mut::<pollfd>(8);
    // SAFETY: the kernel looks whether it is good.
    assert_eq!(result(unsafe { libc::poll(nowhere, 1, FOR_EVER) }), Err(libc::EFAULT));
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    // SAFETY: as above; there cannot be so many.
    let many = unsafe { libc::poll(nowhere, limit.rlim_cur + 1, FOR_EVER) };
    assert_eq!(result(many), Err(libc::EINVAL));
    let mut fds = [asking(&there, POLLIN), pollfd { fd: closed, events: POLLIN, revents: 0 }];
    assert_eq!(poll(&mut fds, FOR_EVER), Ok(1));
    assert_eq!(fds.map(|fd| fd.revents), [0, POLLNVAL]);
    // ppoll
    for (tv_sec, tv_nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        let wrong = Some(timespec { tv_sec, tv_nsec });
        assert_eq!(ppoll(&mut [asking(&there, POLLIN)], wrong, None), Err(libc::EINVAL));
        assert_eq!(pselect(0, [None, None, None], wrong, None), Err(libc::EINVAL));
    }
    // select
    let nowhere = ptr::without_provenance_mut::<fd_set>(8);
    let (none, mut set) = (ptr::null_mut(), Set::of(&[fd]));
    // SAFETY: the kernel looks whether they are good.
    let said = unsafe { libc::select(fd + 1, nowhere, none, none, &mut timeval_of(HOUR)) };
    assert_eq!(result(said), Err(libc::EFAULT));
    let good = set.0.as_mut_ptr().cast();
    // SAFETY: as above.
    let said = unsafe { libc::pselect(fd + 1, good, none, nowhere, ptr::null(), ptr::null()) };
    assert_eq!(result(said), Err(libc::EFAULT));
    assert_eq!(select(-1, [Some(&mut set), None, None], None), Err(libc::EINVAL));
    assert_eq!(set, Set::of(&[fd]), "after an error a set is what it was");
    let mut set = Set::of(&[fd, closed]);
    assert_eq!(select(closed + 1, [Some(&mut set), None, None], None), Err(libc::EBADF));
    assert_eq!(set, Set::of(&[fd, closed]));
}

alone! {
    fn errors_are_the_kernel_s() {
        what_is_wrong_is_told(); // by the kernel
        monkey::patch_select();
        what_is_wrong_is_told(); // without a hub
        spawn(what_is_wrong_is_told).get().unwrap();
    }

    fn errno_is_left_alone() {
        monkey::patch_select();
        spawn(|| {
            let meddler = spawn(|| {
                for _ in 0..1000 {
                    set_errno(99);
                    yield_now();
                }
            });
            let (_here, there) = pair();
            for (_, call) in CALLS {
                for time in [ms(0), ms(1)] {
                    set_errno(7);
                    assert_eq!(call(&there, time), Ok(0));
                    assert_eq!(errno(), 7);
                }
            }
            meddler.kill();
        })
        .get()
        .unwrap();
    }

    fn a_kill_and_a_timeout_are_an_error() {
        monkey::patch_select();
        for (verb, call) in CALLS {
            let (_here, there) = pair();
            let told = waiting(verb, move || {
                let told = catch_interrupt(|| {
                    assert_eq!(call(&there, HOUR), Err(libc::ECANCELED));
                    yield_now();
                });
                told.unwrap_err().is_kill()
            });
            told.kill_nowait();
            assert!(told.get().unwrap(), "raised at the next wait of ours");

            let (_here, there) = pair();
            let ended = with_timeout(ms(1), || call(&there, HOUR));
            assert_eq!(ended, Err(Elapsed));
        }
        // Sets are left as they were, and of the time there is some.
        let (_here, there) = pair();
        let fd = there.as_raw_fd();
        let (mut set, mut time) = (Set::of(&[fd]), timeval_of(HOUR));
        let ended = with_timeout(ms(1), || {
            let sets = [Some(&mut set), None, None];
            assert_eq!(select(fd + 1, sets, Some(&mut time)), Err(libc::ECANCELED));
        });
        assert_eq!((ended, &set), (Err(Elapsed), &Set::of(&[fd])));
        assert!((3500..3600).contains(&time.tv_sec));
    }

    /// Eight times, and then it is left alone: the loop that tries again does not spin.
    fn a_loop_that_tries_again_does_not_spin() {
        monkey::patch_select();
        Hub::current().on_error(|_| ());
        for (verb, call) in CALLS {
            let (mut here, there) = pair();
            let tries = waiting(verb, move || {
                iter::from_fn(|| call(&there, HOUR).err()).count()
            });
            tries.kill_nowait();
            sleep(ms(1));
            here.write_all(b"!").unwrap();
            assert_eq!(tries.get().unwrap(), 8);
        }
    }
}

// ── where it is the kernel's, in part or whole ──

/// Does that call let others run?
fn lets_others_run(call: impl FnOnce() + 'static) -> bool {
    let order = Rc::new(RefCell::new(String::new()));
    let (one, other) = (Rc::clone(&order), Rc::clone(&order));
    let caller = spawn(move || {
        call();
        one.borrow_mut().push('a');
    });
    let witness = spawn(move || other.borrow_mut().push('b'));
    assert!(caller.get().is_ok() && witness.get().is_ok());
    let order = order.borrow();
    order.as_str() == "ba"
}

/// Puts a socket in the place of a standard descriptor.
fn replace(standard: RawFd, by: &UnixStream) {
    // SAFETY: descriptors of ours; nothing is read there by this process.
    assert_eq!(unsafe { libc::dup2(by.as_raw_fd(), standard) }, standard);
}

alone! {
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn unpatched_it_is_the_kernel_s() {
        monkey::patch_all_except([monkey::Patch::Select]);
        for (_, call) in CALLS {
            let (_here, there) = pair();
            assert!(!lets_others_run(move || assert_eq!(call(&there, ms(2)), Ok(0))));
        }
        monkey::patch_select();
        for (_, call) in CALLS {
            let (_here, there) = pair();
            assert!(lets_others_run(move || assert_eq!(call(&there, ms(2)), Ok(0))));
        }
    }

    /// A thread without a hub does not get one, and a signal ends its wait.
    fn without_a_hub_it_is_the_kernel_s() {
        extern "C" fn heard(_: c_int) {}
        monkey::patch_all();
        let handler = heard as extern "C" fn(c_int);
        // SAFETY: a handler that does nothing.
        unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        for (_, call) in CALLS {
            let (mut here, there) = pair();
            let waiter = thread::spawn(move || {
                assert_eq!(call(&there, HOUR), Err(libc::EINTR));
                there
            });
            // Again and again, because one that comes before it waits is lost.
            while !waiter.is_finished() {
                // SAFETY: the thread has not been joined.
                unsafe { libc::pthread_kill(waiter.as_pthread_t(), libc::SIGUSR1) };
                thread::yield_now();
            }
            let there = waiter.join().unwrap();
            assert_eq!(call(&there, ms(1)), Ok(0));
            here.write_all(b"!").unwrap();
            assert_eq!(call(&there, HOUR), Ok(1));
        }
    }

    /// The mask is to change, and the wait to begin, in one.
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn with_a_mask_it_is_the_kernel_s() {
        monkey::patch_select();
        // SAFETY: a set of signals is plain data.
        let mut mask: sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: it is ours.
        unsafe { libc::sigemptyset(&mut mask) };
        let time = Some(timespec_of(ms(2)));
        assert!(!lets_others_run(move || {
            let (_here, there) = pair();
            assert_eq!(ppoll(&mut [asking(&there, POLLIN)], time, Some(&mask)), Ok(0));
        }));
        assert!(!lets_others_run(move || {
            let (_here, there) = pair();
            let mut set = Set::of(&[there.as_raw_fd()]);
            let sets = [Some(&mut set), None, None];
            assert_eq!(pselect(there.as_raw_fd() + 1, sets, time, Some(&mask)), Ok(0));
        }));
    }

    /// But together with others they are waited for, too.
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn the_standard_descriptors_alone_are_the_kernel_s() {
        monkey::patch_select();
        let (mut here, there) = pair();
        replace(0, &there);
        assert!(!lets_others_run(|| assert_eq!(poll_one(&0, POLLIN, 2), Ok(0))));
        assert!(!lets_others_run(|| {
            let mut time = timeval_of(ms(2));
            assert_eq!(select(1, [Some(&mut Set::of(&[0])), None, None], Some(&mut time)), Ok(0));
        }));
        let (_other, silent) = pair();
        let waiter = waiting("poll", move || {
            let mut fds = [asking(&0, POLLIN), asking(&silent, POLLIN)];
            (poll(&mut fds, FOR_EVER), fds.map(|fd| fd.revents))
        });
        here.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), (Ok(1), [POLLIN, 0]));
    }

    /// Late, because it has to be asked for now and then, but nobody is held up.
    fn where_nothing_can_be_watched_it_asks_again() {
        monkey::patch_select();
        let (mut here, there) = pair();
        let there = Rc::new(there);
        let other = Rc::clone(&there);
        let watched = waiting("poll", move || poll_one(&*there, POLLIN, FOR_EVER));
        // The second needs a descriptor of its own, and there is none.
        let none = libc::rlimit { rlim_cur: 1, rlim_max: 4096 };
        let mut before = none;
        // SAFETY: it writes the limit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) }, 0);
        let waiter = spawn(move || {
            let (fd, mut time) = (other.as_raw_fd(), timeval_of(HOUR));
            let mut set = Set::of(&[fd]);
            // SAFETY: it reads the limit.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) }, 0);
            select(fd + 1, [Some(&mut set), None, None], Some(&mut time))
        });
        sleep(ms(20));
        assert!(waits_in("select", &waiter));
        here.write_all(b"!").unwrap();
        assert_eq!(waiter.get().unwrap(), Ok(1));
        assert_eq!(watched.get().unwrap(), Ok(POLLIN));
        // Its time elapses, too.
        let (_held, other) = {
            let raised = libc::rlimit { rlim_cur: 256, rlim_max: 4096 };
            // SAFETY: it reads the limit.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) }, 0);
            let pair = pair();
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) }, 0);
            pair
        };
        let other = Rc::new(other);
        let first = Rc::clone(&other);
        let first = waiting("select", move || CALLS[2].1(&first, ms(40)));
        assert_eq!(CALLS[2].1(&other, ms(20)), Ok(0));
        assert_eq!(first.get().unwrap(), Ok(0));
    }
}
