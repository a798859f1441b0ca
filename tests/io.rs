//! `io`: descriptors that can be polled, pipes, and the standard streams in every shape that a
//! shell can give them.

mod io_util;
mod util;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use greenloom::io::{Io, PipeReader, PipeWriter, pipe};
use greenloom::{joinall, scope, spawn, with_timeout, yield_now};
use rustix::event::{EventfdFlags, eventfd};
use util::{End, HOUR, Log, MINUTE, end_of, ms, reason_of, settle, until_parked, within};

use io_util::{MORE_THAN_BUFFERS, Shape, is_nonblocking, pattern, pty, read_exactly};

fn read_byte(mut reader: impl Read) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A pipe in blocking mode.
fn blocking_pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let (mut reader, mut writer) = pipe().unwrap();
        let sender = spawn(move || writer.write_all(&pattern(MORE_THAN_BUFFERS)));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == pattern(MORE_THAN_BUFFERS));
        sender.get().unwrap().unwrap();
    });
}

// ── `Io::new`: a description that is ours ──

/// Whoever owns the descriptor, its own traits do not matter.
#[test]
fn any_owner_of_a_descriptor_will_do() {
    within(MINUTE, || {
        let (reader, writer) = blocking_pipe();
        let (mut reader, mut writer) =
            (Io::new(File::from(reader)).unwrap(), Io::new(writer).unwrap());
        writer.write_all(b"file").unwrap();
        let mut four = [0; 4];
        reader.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"file");

        let mut child = Command::new("tr")
            .args(["a-z", "A-Z"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = Io::new(child.stdin.take().unwrap()).unwrap();
        let mut from = Io::new(child.stdout.take().unwrap()).unwrap();
        let sender = spawn(move || to.write_all(&b"child".repeat(100_000)));
        let mut text = Vec::new();
        from.read_to_end(&mut text).unwrap();
        assert!(text == b"CHILD".repeat(100_000));
        sender.get().unwrap().unwrap();
        assert!(child.wait().unwrap().success());

        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = (Io::new(&a).unwrap(), Io::new(&b).unwrap());
        scope(|s| {
            s.spawn(|| (&a).write_all(&pattern(MORE_THAN_BUFFERS)).unwrap());
            let mut all = vec![0; MORE_THAN_BUFFERS];
            (&b).read_exact(&mut all).unwrap();
            assert!(all == pattern(MORE_THAN_BUFFERS));
        });
    });
}

#[test]
fn others_run_while_one_waits() {
    within(MINUTE, || {
        let (reader, mut writer) = pipe().unwrap();
        let log = Log::new();
        let waits = spawn({
            let log = log.clone();
            move || {
                let byte = read_byte(&reader).unwrap();
                log.say(format!("read {byte}"));
            }
        });
        until_parked(waits.id());
        assert_eq!(reason_of(waits.id()).as_deref(), Some("read"));
        for _ in 0..3 {
            log.say("tick");
            yield_now();
        }
        writer.write_all(&[7]).unwrap();
        waits.get().unwrap();
        log.assert_is(["tick", "tick", "tick", "read 7"]);
    });
}

#[test]
fn an_eventfd_counts_and_parks() {
    within(MINUTE, || {
        let counter = Rc::new(Io::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()).unwrap());
        let waits = spawn({
            let counter = counter.clone();
            move || {
                let mut count = [0; 8];
                (&*counter).read_exact(&mut count).unwrap();
                u64::from_ne_bytes(count)
            }
        });
        until_parked(waits.id());
        (&*counter).write_all(&5_u64.to_ne_bytes()).unwrap();
        assert_eq!(waits.get().unwrap(), 5);
        // Full: adding waits until somebody has read.
        (&*counter).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        let adds = spawn({
            let counter = counter.clone();
            move || (&*counter).write_all(&1_u64.to_ne_bytes())
        });
        until_parked(adds.id());
        (&*counter).read_exact(&mut [0; 8]).unwrap();
        adds.get().unwrap().unwrap();
    });
}

#[test]
fn inotify_tells_of_files() {
    use rustix::fs::inotify;
    within(MINUTE, || {
        let dir = tempfile::tempdir().unwrap();
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, dir.path(), inotify::WatchFlags::CREATE).unwrap();
        let watch = Io::new(watch).unwrap();
        let waits = spawn(move || {
            let mut events = [0; 4096];
            let len = (&watch).read(&mut events).unwrap();
            String::from_utf8_lossy(&events[..len]).into_owned()
        });
        until_parked(waits.id());
        std::fs::write(dir.path().join("a-new-file"), "").unwrap();
        assert!(waits.get().unwrap().contains("a-new-file"));
    });
}

#[test]
fn both_sides_of_a_pseudo_terminal_park() {
    within(MINUTE, || {
        let (master, slave) = pty();
        let (master, slave) = (Rc::new(Io::new(master).unwrap()), Io::new(slave).unwrap());
        let program = spawn(move || {
            let mut lines = BufReader::new(&slave).lines();
            let line = lines.next().unwrap().unwrap();
            (&slave).write_all(line.to_uppercase().repeat(10_000).as_bytes()).unwrap();
        });
        until_parked(program.id());
        (&*master).write_all(b"a line\n").unwrap();
        let mut text = Vec::new();
        let mut buf = [0; 4096];
        while text.len() < 60_000 {
            let len = (&*master).read(&mut buf).unwrap();
            text.extend_from_slice(&buf[..len]);
        }
        assert_eq!(text, "A LINE".repeat(10_000).as_bytes());
        program.get().unwrap();
        // The program has gone: that is what Linux says of it.
        assert_eq!(
            (&*master).read(&mut buf).unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::IO.raw_os_error())
        );
    });
}

#[test]
fn the_mode_is_set_and_given_back() {
    within(MINUTE, || {
        let (reader, _writer) = blocking_pipe();
        let io = Io::new(reader).unwrap();
        assert!(is_nonblocking(&io));
        assert_eq!(io.as_raw_fd(), io.get_ref().as_raw_fd());
        let reader = io.into_inner();
        assert!(!is_nonblocking(&reader));
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let reader = Io::new(reader).unwrap().into_inner();
        assert!(is_nonblocking(&reader), "as it came");
    });
}

#[test]
fn what_cannot_be_waited_for_is_sent_to_fs() {
    within(MINUTE, || {
        for file in [tempfile::tempfile().unwrap(), File::open("/").unwrap()] {
            for refused in [Io::new(&file).map(|_| ()), Io::shared(&file).map(|_| ())] {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.to_string().contains("greenloom::fs"), "{error}");
            }
            assert!(!is_nonblocking(&file));
        }
        // Never waits, and need not be polled.
        let mut null = Io::new(File::options().write(true).open("/dev/null").unwrap()).unwrap();
        null.write_all(&[0; 100]).unwrap();
    });
}

#[test]
fn the_end_and_a_reader_that_has_gone() {
    within(MINUTE, || {
        let (mut reader, writer) = pipe().unwrap();
        let waits = spawn(move || reader.read(&mut [0]));
        until_parked(waits.id());
        drop(writer);
        assert_eq!(waits.get().unwrap().unwrap(), 0);

        let (reader, mut writer) = pipe().unwrap();
        let waits = spawn(move || writer.write_all(&[0; MORE_THAN_BUFFERS]));
        until_parked(waits.id());
        assert_eq!(reason_of(waits.id()).as_deref(), Some("write"));
        drop(reader);
        assert_eq!(waits.get().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn many_buffers_at_once() {
    within(MINUTE, || {
        let (mut reader, mut writer) = pipe().unwrap();
        let sent = writer.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cde")]).unwrap();
        assert_eq!(sent, 5);
        let (mut a, mut b) = ([0; 3], [0; 3]);
        let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(reader.read_vectored(bufs).unwrap(), 5);
        assert_eq!((&a, &b), (b"abc", b"de\0"));

        let (reader, writer) = blocking_pipe();
        let (mut reader, mut writer) = (Io::shared(reader).unwrap(), Io::shared(writer).unwrap());
        let sent = writer.write_vectored(&[IoSlice::new(b""), IoSlice::new(b"cde")]).unwrap();
        assert_eq!(sent, 3);
        let (mut a, mut b) = ([0; 0], [0; 3]);
        let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(reader.read_vectored(bufs).unwrap(), 3);
        assert_eq!(&b, b"cde");
    });
}

// ── Waiting: lines, time limits, kills ──

#[test]
fn those_who_wait_are_served_first_come_first_served() {
    within(MINUTE, || {
        let (reader, mut writer) = pipe().unwrap();
        let log = Log::new();
        let readers: Vec<_> = (0..5)
            .map(|n| {
                let (reader, log) = (reader.clone(), log.clone());
                let waits = spawn(move || {
                    let byte = read_byte(&reader).unwrap();
                    log.say(format!("{n}: {byte}"));
                });
                until_parked(waits.id());
                waits
            })
            .collect();
        readers[2].kill();
        writer.write_all(&[10, 11, 12, 13]).unwrap();
        joinall(&readers);
        log.assert_is(["0: 10", "1: 11", "3: 12", "4: 13"]);
    });
}

#[test]
fn a_call_that_takes_too_long_says_so() {
    within(MINUTE, || {
        let (mut reader, mut writer) = pipe().unwrap();
        reader.set_timeout(Some(ms(2))).unwrap();
        assert_eq!(reader.timeout(), Some(ms(2)));
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        writer.set_timeout(Some(ms(2))).unwrap();
        let error = writer.write_all(&[1; MORE_THAN_BUFFERS]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let zero = reader.set_timeout(Some(ms(0)));
        assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
        reader.set_timeout(None).unwrap();
        assert_eq!(read_byte(&reader).unwrap(), 1);

        let io = Io::shared(blocking_pipe().0).unwrap();
        assert_eq!(io.read_timeout(), None);
        io.set_read_timeout(Some(ms(2))).unwrap();
        io.set_write_timeout(Some(ms(3))).unwrap();
        assert_eq!((io.read_timeout(), io.write_timeout()), (Some(ms(2)), Some(ms(3))));
    });
}

/// A reader that is killed, or out of time, has taken nothing.
#[test]
fn no_byte_is_lost_with_its_reader() {
    within(MINUTE, || {
        let (reader, mut writer) = pipe().unwrap();
        let killed = spawn({
            let reader = reader.clone();
            move || read_byte(&reader)
        });
        until_parked(killed.id());
        // Ready and killed in the same moment: the kill comes before it has run.
        writer.write_all(b"x").unwrap();
        killed.kill();
        let after_the_kill = match end_of(killed) {
            End::Killed => Some(read_byte(&reader).unwrap()),
            End::Value(byte) => Some(byte.unwrap()),
            End::Panicked(text) => panic!("{text}"),
        };
        assert_eq!(after_the_kill, Some(b'x'));

        assert!(with_timeout(ms(2), || read_byte(&reader)).is_err());
        writer.write_all(b"y").unwrap();
        assert_eq!(read_byte(&reader).unwrap(), b'y');
    });
}

#[test]
fn a_killed_writer_holds_up_nobody() {
    within(MINUTE, || {
        let (reader, writer) = pipe().unwrap();
        let writers: Vec<_> = (1..=2_u8)
            .map(|n| {
                let mut writer = writer.clone();
                let waits = spawn(move || writer.write_all(&vec![n; MORE_THAN_BUFFERS]));
                until_parked(waits.id());
                waits
            })
            .collect();
        drop(writer);
        writers[0].kill();
        let mut all = Vec::new();
        (&reader).read_to_end(&mut all).unwrap();
        assert_eq!(all.iter().filter(|&&byte| byte == 2).count(), MORE_THAN_BUFFERS);
        assert!(writers[1].is_successful());
    });
}

#[test]
fn while_unwinding_only_what_need_not_wait_works() {
    struct InDrop<F: FnMut()>(F);
    impl<F: FnMut()> Drop for InDrop<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    within(MINUTE, || {
        let (reader, _writer_of_it) = pipe().unwrap();
        let (fed_reader, fed_writer) = pipe().unwrap();
        let result = Rc::new(RefCell::new(Vec::new()));
        let greenlet = spawn({
            let result = result.clone();
            move || {
                let _at_the_end = InDrop(move || {
                    let mut result = result.borrow_mut();
                    result.push(read_byte(&reader).map_err(|error| error.kind()));
                    (&fed_writer).write_all(b"z").unwrap();
                    result.push(read_byte(&fed_reader).map_err(|error| error.kind()));
                });
                greenloom::sleep(HOUR);
            }
        });
        until_parked(greenlet.id());
        greenlet.kill();
        assert_eq!(*result.borrow(), [Err(ErrorKind::Other), Ok(b'z')]);
    });
}

#[test]
fn calls_of_one_s_own_and_readiness_alone() {
    within(MINUTE, || {
        for make in [Io::<UnixStream>::new, Io::<UnixStream>::shared] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            let ours = Rc::new(make(ours).unwrap());
            ours.wait_writable().unwrap();
            let calls = Rc::new(Cell::new(0));
            let waits = spawn({
                let (ours, calls) = (ours.clone(), calls.clone());
                move || {
                    ours.wait_readable().unwrap();
                    ours.read_with(|mut stream| {
                        calls.set(calls.get() + 1);
                        read_byte(&mut stream)
                    })
                }
            });
            until_parked(waits.id());
            assert_eq!(calls.get(), 0);
            (&theirs).write_all(b"q").unwrap();
            assert_eq!(waits.get().unwrap().unwrap(), b'q');
            assert_eq!(calls.get(), 1);
            let full = io::Error::from(ErrorKind::StorageFull);
            let mut full = Some(full);
            let error = ours.write_with(|_| Err::<(), _>(full.take().unwrap())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);

            // A call that would block waits, and is made again.
            let mut filled = 0;
            while let Ok(len) = (&theirs).write(&[0; 1 << 16]) {
                filled += len;
            }
            let tries = Rc::new(Cell::new(0));
            let writes = spawn({
                let (ours, tries) = (ours.clone(), tries.clone());
                move || {
                    ours.set_write_timeout(Some(HOUR)).unwrap();
                    while (&*ours).write(&[1; 1 << 16]).is_ok() {
                        tries.set(tries.get() + 1);
                    }
                }
            });
            until_parked(writes.id());
            assert!(tries.get() > 0);
            let mut drained = vec![0; filled];
            (&*ours).read_exact(&mut drained).unwrap();
            writes.kill();
        }
    });
}

// ── `Io::shared`: a description that others have, too ──

/// Whatever it is: no mode is set, reads wait and others run meanwhile, and what is written by one
/// comes out whole, also when there is not room for all of it at once.
#[test]
fn shared_descriptors_of_every_kind_park() {
    within(MINUTE, || {
        for shape in Shape::ALL {
            let ends = shape.connect();
            let (our_in, our_out) =
                (Io::shared(ends.our_in).unwrap(), Io::shared(ends.our_out).unwrap());
            let (our_in, our_out) = (Rc::new(our_in), Rc::new(our_out));
            let (mut their_in, mut their_out) = (ends.their_in, ends.their_out);
            let foreign = thread::spawn(move || {
                assert_eq!(read_exactly(&mut their_in, 2), b"ok");
                their_out.write_all(b"an answer\n").unwrap();
                (read_exactly(&mut their_in, shape.content().len()), their_in, their_out)
            });
            let reader = spawn({
                let our_in = our_in.clone();
                move || {
                    let mut line = Vec::new();
                    while !line.ends_with(b"\n") {
                        line.push(read_byte(&*our_in).unwrap());
                    }
                    line
                }
            });
            until_parked(reader.id()); // and so we run
            (&*our_out).write_all(b"ok").unwrap();
            assert_eq!(reader.get().unwrap(), b"an answer\n", "{shape:?}");
            let writer = spawn({
                let our_out = our_out.clone();
                move || (&*our_out).write_all(&shape.content())
            });
            writer.get().unwrap().unwrap();
            let (received, their_in, their_out) = io_util::finish(foreign);
            assert!(received == shape.content(), "{shape:?}");
            assert!(!is_nonblocking(&*our_in) && !is_nonblocking(&*our_out), "{shape:?}");
            drop((their_in, their_out)); // a terminal is hung up with them
        }
    });
}

/// Nobody reads: the writer parks, and is found parked, before the thread could block.
#[test]
fn a_full_shared_descriptor_parks_its_writer() {
    within(MINUTE, || {
        for shape in Shape::ALL {
            let ends = shape.connect();
            let out = Io::shared(ends.our_out).unwrap();
            let writer = spawn(move || (&out).write_all(&shape.content()));
            until_parked(writer.id());
            assert_eq!(reason_of(writer.id()).as_deref(), Some("write"), "{shape:?}");
            assert!(with_timeout(ms(2), || writer.join()).is_err());
            let len = shape.content().len();
            let foreign = thread::spawn(move || read_exactly(ends.their_in, len));
            assert!(io_util::finish(foreign) == shape.content(), "{shape:?}");
            writer.get().unwrap().unwrap();
            drop(ends.their_out);
        }
    });
}

/// Another process may take the data between the wake-up and the read; then the thread must not
/// block. (Here it is another thread, which takes whatever it can get. Nobody but us writes, so a
/// thread that blocks does so for ever.)
#[cfg(target_os = "linux")]
#[test]
fn data_that_somebody_else_takes_blocks_nobody() {
    const ROUNDS: usize = 2_000;
    within(MINUTE, || {
        let (reader, writer) = blocking_pipe();
        let rival = reader.try_clone().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let rival = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut taken = 0;
                while !stop.load(Ordering::Relaxed) {
                    taken += io_util::read_nowait(&rival);
                }
                taken
            }
        });
        let reader = Io::shared(reader).unwrap();
        reader.set_read_timeout(Some(Duration::from_micros(50))).unwrap();
        let mut writer = Io::shared(writer).unwrap();
        let mut ours = 0;
        for _ in 0..ROUNDS {
            writer.write_all(&[1]).unwrap();
            match read_byte(&reader) {
                Ok(_) => ours += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let theirs = io_util::finish(rival);
        while read_byte(&reader).is_ok() {
            ours += 1;
        }
        assert_eq!(ours + theirs, ROUNDS);
    });
}

// ── Pipes ──

#[test]
fn clones_of_an_end_keep_it_open() {
    within(MINUTE, || {
        let (mut reader, writer) = pipe().unwrap();
        let mut clone = writer.try_clone().unwrap();
        drop(writer);
        let waits = spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            all
        });
        settle();
        clone.write_all(b"the last").unwrap();
        assert!(!waits.is_finished());
        drop(clone);
        assert_eq!(waits.get().unwrap(), "the last");
    });
}

#[test]
fn an_end_for_a_child_is_in_blocking_mode() {
    within(MINUTE, || {
        let (mut reader, writer) = pipe().unwrap();
        let (input, mut output) = pipe().unwrap();
        assert!(is_nonblocking(&input));
        let mut child =
            Command::new("cat").stdin(input).stdout(Stdio::from(writer)).spawn().unwrap();
        let sender = spawn(move || output.write_all(&pattern(MORE_THAN_BUFFERS)));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == pattern(MORE_THAN_BUFFERS));
        sender.get().unwrap().unwrap();
        assert!(child.wait().unwrap().success());

        let (reader, writer) = pipe().unwrap();
        let kept = reader.clone();
        let number = reader.as_raw_fd();
        let duplicate = OwnedFd::try_from(reader).unwrap();
        assert_ne!(duplicate.as_raw_fd(), number);
        assert!(is_nonblocking(&kept), "for the clone's sake");
        drop(duplicate);
        let alone = OwnedFd::try_from(kept).unwrap();
        assert_eq!(alone.as_raw_fd(), number);
        assert!(!is_nonblocking(&alone));
        let reader = PipeReader::try_from(alone).unwrap();
        let writer = PipeWriter::try_from(OwnedFd::try_from(writer).unwrap()).unwrap();
        (&writer).write_all(b"w").unwrap();
        assert_eq!(read_byte(&reader).unwrap(), b'w');
        assert!(
            rustix::io::fcntl_getfd(reader.as_fd()).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
        );
    });
}

// ── The same descriptor more than once ──

/// How often this process has that file open; a pipe counts with both ends.
#[cfg(target_os = "linux")]
fn times_open(fd: &impl AsRawFd) -> usize {
    let link = |name: &std::ffi::OsStr| {
        std::fs::read_link(std::path::Path::new("/proc/self/fd").join(name)).ok()
    };
    let ours = link(fd.as_raw_fd().to_string().as_ref());
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|entry| link(&entry.file_name()) == ours).count()
}

/// Another owner of standard input, say: of the same number.
#[derive(Clone)]
struct Same(Rc<OwnedFd>);

impl AsFd for Same {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(target_os = "linux")]
#[test]
fn two_who_wait_for_the_same_descriptor_are_both_served() {
    within(MINUTE, || {
        let (reader, writer) = blocking_pipe();
        let reader = Same(Rc::new(reader));
        let start = || {
            let io = Io::shared(reader.clone()).unwrap();
            let waiter = spawn(move || read_byte(&io));
            until_parked(waiter.id());
            waiter
        };
        let waiters = [start(), start(), start()];
        assert_eq!(times_open(&*reader.0), 2 + 2, "one registered by itself, two by duplicates");
        rustix::io::write(&writer, b"xyz").unwrap();
        let mut read = waiters.map(|waiter| waiter.get().unwrap().unwrap());
        read.sort_unstable();
        assert_eq!(&read, b"xyz");
        assert_eq!(times_open(&*reader.0), 2);

        // Whoever registered first may go first, and leaves the number to the next.
        let mut waiters = [start(), start(), start()];
        waiters[0].kill();
        waiters[0] = start();
        rustix::io::write(&writer, b"abc").unwrap();
        let mut read = waiters.map(|waiter| waiter.get().unwrap().unwrap());
        read.sort_unstable();
        assert_eq!(&read, b"abc");

        // All of them notice the end.
        let waiters = [start(), start(), start()];
        drop(writer);
        assert!(waiters.map(|waiter| waiter.get().unwrap().is_err()).iter().all(|failed| *failed));
        assert_eq!(times_open(&*reader.0), 1);
    });
}
