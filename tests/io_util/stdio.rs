//! The standard streams, in child processes: each test starts this binary again for one of the
//! ignored tests, with its input and output being a file, a pipe, a socket or a terminal.
//!
//! (The child's test harness writes to its standard output, too. What a child says begins with `>`.)

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, Write};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::{env, panic, thread};

use greenloom::io::{Stdin, stderr, stdin, stdout};
use greenloom::threadpool::ThreadPool;
use greenloom::{BlocksForever, Greenlet, joinall, spawn, with_timeout};
use rustix::fs::{FileType, Mode};
use tempfile::TempDir;

use super::{Ends, MORE_THAN_BUFFERS, Shape, is_nonblocking};
use crate::util::{MINUTE, message, ms, reason_of, state_of, swallow, until_parked, within};

// ── The parent's side ──

const CHILD: &str = "GREENLOOM_TEST_CHILD";

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Starts the ignored test `name` in a process of its own.
fn start(name: &str, input: impl Into<Stdio>, output: impl Into<Stdio>) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("io_util::stdio::{name}"), "--ignored", "--nocapture"])
        .arg("--test-threads=1")
        .env(CHILD, "1")
        .stdin(input)
        .stdout(output)
        .spawn()
        .unwrap()
}

fn assert_success(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

/// A child whose input and output are of that shape, as seen from outside.
struct Peer {
    child: Child,
    from: BufReader<File>,
    to: Option<File>,
    shape: Shape,
    /// Duplicates of the child's own: they share their mode.
    shared: [OwnedFd; 2],
}

impl Peer {
    fn start(name: &str, shape: Shape) -> Peer {
        Peer::start_with(name, shape, "")
    }

    /// With that in its input from the beginning.
    fn start_with(name: &str, shape: Shape, first: &str) -> Peer {
        let Ends { our_in, our_out, their_in, mut their_out } = shape.connect();
        their_out.write_all(first.as_bytes()).unwrap();
        let shared = [our_in.try_clone().unwrap(), our_out.try_clone().unwrap()];
        let child = start(name, our_in, our_out);
        Peer { child, from: BufReader::new(their_in), to: Some(their_out), shape, shared }
    }

    /// The next thing that the child says.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the child has gone");
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim_end().to_owned();
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.to.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn say_no_more(&mut self) {
        let mut to = self.to.take().unwrap();
        match self.shape {
            Shape::Pipe | Shape::NamedPipe => {}
            Shape::Socket => rustix::net::shutdown(&to, rustix::net::Shutdown::Write).unwrap(),
            Shape::Terminal => to.write_all(b"\x04").unwrap(),
        }
    }

    /// The open file descriptions that we share with the child are as they were.
    fn check_mode(&self) {
        assert!(!self.shared.iter().any(is_nonblocking), "{:?}", self.shape);
    }

    fn end(self) {
        let Peer { child, shared, .. } = self;
        assert_success(child);
        assert!(!shared.iter().any(is_nonblocking));
    }
}

fn file_with(content: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// What the child has said into that file.
fn said_in(mut file: File) -> Vec<String> {
    file.rewind().unwrap();
    let lines = BufReader::new(file).lines().map(Result::unwrap);
    lines.filter_map(|line| Some(line.strip_prefix("> ")?.to_owned())).collect()
}

// ── The child's side ──

/// In a child, with a hub of its own and a guard against hangs. Else nothing.
fn child(body: impl FnOnce() + Send + 'static) {
    if is_child() {
        within(MINUTE, || {
            writeln!(stdout()).unwrap(); // ends the line that the harness has begun
            body();
        });
    }
}

fn until_parked_or_over<T: 'static>(greenlet: &Greenlet<T>) {
    while !matches!(state_of(greenlet.id()), Some("parked") | None) {
        greenloom::yield_now();
    }
}

/// Every thread that works for files is busy until what this returns is dropped: opening a named
/// pipe.
fn jam() -> Jam {
    let jam = Jam(tempfile::tempdir().unwrap());
    let path = jam.pipe();
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    for _ in 0..64 {
        let path = path.clone();
        let opener = spawn(move || drop(greenloom::fs::File::open(path)));
        until_parked(opener.id()); // handed in: what comes later is behind it
    }
    jam
}

struct Jam(TempDir);

impl Jam {
    fn pipe(&self) -> PathBuf {
        self.0.path().join("pipe")
    }
}

impl Drop for Jam {
    fn drop(&mut self) {
        // For both, so that it does not wait. Who is about to open finds it open: it stays so.
        let both = File::options().read(true).write(true).open(self.pipe());
        let _kept = both.map(IntoRawFd::into_raw_fd);
    }
}

// ── The tests ──

#[test]
#[ignore = "runs in a process of its own"]
fn child_echoes() {
    child(|| {
        let echo = spawn(|| {
            for line in stdin().lines() {
                writeln!(stdout(), "> {}", line.unwrap().to_uppercase()).unwrap();
            }
        });
        until_parked_or_over(&echo);
        writeln!(stdout(), "> others run").unwrap();
        echo.get().unwrap();
        writeln!(stdout(), "> the end").unwrap();
    });
}

#[test]
fn lines_pass_in_every_shape_and_others_run_meanwhile() {
    within(MINUTE, || {
        for shape in Shape::ALL {
            let mut peer = Peer::start("child_echoes", shape);
            assert_eq!(peer.hear(), "others run", "{shape:?}");
            peer.check_mode();
            peer.say("one\n");
            assert_eq!(peer.hear(), "ONE");
            peer.say("two\nthree\n");
            assert_eq!(peer.hear(), "TWO");
            peer.check_mode();
            peer.say_no_more();
            assert_eq!(peer.hear(), "THREE");
            assert_eq!(peer.hear(), "the end");
            peer.end();
        }
    });
}

#[test]
fn files_are_read_and_written_too() {
    within(MINUTE, || {
        let (input, output) = (file_with("one\ntwo"), tempfile::tempfile().unwrap());
        let (input_too, output_too) = (input.try_clone().unwrap(), output.try_clone().unwrap());
        assert_success(start("child_echoes", input, output));
        let mut said = said_in(output_too.try_clone().unwrap());
        said.sort(); // "others run" is not in any order with the rest
        assert_eq!(said, ["ONE", "TWO", "others run", "the end"]);
        assert!(!is_nonblocking(input_too) && !is_nonblocking(output_too));
        // And what is always ready.
        assert_success(start("child_echoes", Stdio::null(), Stdio::null()));
    });
}

/// Lines that do not fit, of several greenlets in each of two threads.
#[test]
#[ignore = "runs in a process of its own"]
fn child_writes_long_lines() {
    child(|| {
        let write_lines = |first: u8| {
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    spawn(move || {
                        for _ in 0..10 {
                            let letter = char::from(first + n);
                            // In pieces, which it puts together.
                            let half = letter.to_string().repeat(4_000);
                            writeln!(stdout(), "> {half}{}{half}", letter).unwrap();
                        }
                    })
                })
                .collect();
            joinall(&writers);
            assert!(writers.iter().all(Greenlet::is_successful));
        };
        let other = thread::spawn(move || write_lines(b'a'));
        write_lines(b'k');
        other.join().unwrap();
        writeln!(stdout(), "> the end").unwrap();
    });
}

fn assert_lines_are_whole(lines: &[String]) {
    assert_eq!(lines.len(), 80);
    for line in lines {
        let first = line.as_bytes()[0];
        assert!(line.len() == 8_001 && line.bytes().all(|byte| byte == first), "torn: {line}");
    }
}

#[test]
fn no_line_is_torn_by_another() {
    within(MINUTE, || {
        for shape in Shape::ALL {
            let mut peer = Peer::start("child_writes_long_lines", shape);
            let lines: Vec<_> = (0..80).map(|_| peer.hear()).collect();
            assert_lines_are_whole(&lines);
            assert_eq!(peer.hear(), "the end");
            peer.end();
        }
        let output = tempfile::tempfile().unwrap();
        let output_too = output.try_clone().unwrap();
        assert_success(start("child_writes_long_lines", Stdio::null(), output));
        let mut said = said_in(output_too);
        assert_eq!(said.pop().unwrap(), "the end");
        assert_lines_are_whole(&said);
    });
}

fn read_line() -> String {
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    line
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_kills_readers() {
    child(|| {
        let reader = spawn(read_line);
        until_parked(reader.id());
        reader.kill();
        // The beginning of the line is in the buffer. It stays there.
        assert!(with_timeout(ms(2), || stdin().read_exact(&mut [0; 1000])).is_err());
        assert!(with_timeout(ms(2), || stdin().read_to_end(&mut Vec::new())).is_err());
        assert!(with_timeout(ms(2), || stdin().read_to_string(&mut String::new())).is_err());
        writeln!(stdout(), "> killed").unwrap();
        let line = read_line();
        let mut three = [0; 3];
        stdin().read_exact(&mut three).unwrap();
        let mut rest = String::new();
        stdin().read_to_string(&mut rest).unwrap();
        writeln!(stdout(), "> {line:?} {three:?} {rest:?}").unwrap();
        assert_eq!(stdin().read(&mut [0]).unwrap(), 0);
        let error = stdin().read_exact(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn killed_readers_of_stdin_lose_nothing() {
    within(MINUTE, || {
        for shape in [Shape::Pipe, Shape::NamedPipe, Shape::Socket] {
            let mut peer = Peer::start_with("child_kills_readers", shape, "half ");
            assert_eq!(peer.hear(), "killed");
            peer.say("a line\n\x01\x02\x03rest");
            peer.say_no_more();
            assert_eq!(peer.hear(), r#""half a line\n" [1, 2, 3] "rest""#);
            peer.end();
        }
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_kills_a_reader_of_a_file() {
    child(|| {
        let jammed = jam();
        let reader = spawn(read_line);
        until_parked(reader.id());
        reader.kill();
        let next = spawn(read_line);
        until_parked(next.id());
        assert_eq!(reason_of(next.id()).as_deref(), Some("turn at stdin"));
        drop(jammed);
        assert_eq!(next.get().unwrap(), "first\n");
        assert_eq!(read_line(), "second\n");
        assert_eq!(read_line(), "");
    });
}

#[test]
fn a_killed_reader_of_a_file_loses_nothing() {
    within(MINUTE, || {
        let input = file_with("first\nsecond\n");
        assert_success(start("child_kills_a_reader_of_a_file", input, Stdio::null()));
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_kills_a_writer_to_a_file() {
    child(|| {
        let jammed = jam();
        let writer = spawn(|| writeln!(stdout(), "> first"));
        until_parked(writer.id());
        writer.kill();
        let next = spawn(|| writeln!(stdout(), "> second"));
        until_parked(next.id());
        assert_eq!(reason_of(next.id()).as_deref(), Some("turn at stdout"));
        drop(jammed);
        next.get().unwrap().unwrap();
    });
}

#[test]
fn an_abandoned_write_to_a_file_comes_before_the_next() {
    within(MINUTE, || {
        let output = tempfile::tempfile().unwrap();
        let output_too = output.try_clone().unwrap();
        assert_success(start("child_kills_a_writer_to_a_file", Stdio::null(), output));
        assert_eq!(said_in(output_too), ["first", "second"]);
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_kills_a_writer_in_an_inner_lock() {
    child(|| {
        let jammed = jam();
        let writer = spawn(|| {
            let mut outer = stdout().lock();
            let mut inner = stdout().lock();
            let late = with_timeout(ms(2), || inner.write_all(b"> first\n"));
            assert!(late.is_err());
            // Waits for that one, although it is the same greenlet's.
            writeln!(outer, "> never").unwrap();
        });
        until_parked(writer.id());
        while reason_of(writer.id()).as_deref() != Some("turn at stdout") {
            greenloom::sleep(ms(1));
        }
        writer.kill();
        let next = spawn(|| writeln!(stdout(), "> second"));
        until_parked(next.id());
        assert_eq!(reason_of(next.id()).as_deref(), Some("turn at stdout"));
        drop(jammed);
        next.get().unwrap().unwrap();
        // Whichever of them goes first, the others have it still.
        let (outer, mut inner) = (stdout().lock(), stdout().lock());
        drop(outer);
        let waits = spawn(|| writeln!(stdout(), "> fourth"));
        until_parked(waits.id());
        writeln!(inner, "> third").unwrap();
        drop(inner);
        waits.get().unwrap().unwrap();
    });
}

/// Once, the write had no pass, and the next one did not wait for it.
#[test]
fn an_abandoned_write_in_an_inner_lock_comes_before_the_next() {
    within(MINUTE, || {
        let output = tempfile::tempfile().unwrap();
        let output_too = output.try_clone().unwrap();
        assert_success(start("child_kills_a_writer_in_an_inner_lock", Stdio::null(), output));
        assert_eq!(said_in(output_too), ["first", "second", "third", "fourth"]);
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_writes_from_all_threads() {
    child(|| {
        let pool = ThreadPool::shared();
        let (begun, all_begun) = mpsc::channel();
        let (jobs, go): (Vec<_>, Vec<_>) = (0..pool.max_threads())
            .map(|_| {
                let (go, gone) = mpsc::channel::<()>();
                let begun = begun.clone();
                let job = pool.spawn(move || {
                    begun.send(()).unwrap();
                    let _ = gone.recv();
                    writeln!(stdout(), "> job").unwrap();
                });
                (job, go)
            })
            .unzip();
        for _ in 0..jobs.len() {
            all_begun.recv().unwrap();
        }
        let jammed = jam();
        let writer = spawn(|| writeln!(stdout(), "> greenlet"));
        until_parked(writer.id()); // it has its turn, and its job is queued
        drop((go, jammed));
        writer.get().unwrap().unwrap();
        jobs.into_iter().for_each(|job| job.get().unwrap());
    });
}

/// Once, the write that they all waited for was in the queue behind them.
#[test]
fn jobs_of_all_threads_may_wait_for_their_turn_at_stdout() {
    within(MINUTE, || {
        let output = tempfile::tempfile().unwrap();
        let output_too = output.try_clone().unwrap();
        assert_success(start("child_writes_from_all_threads", Stdio::null(), output));
        let said = said_in(output_too);
        assert_eq!(said.len(), ThreadPool::shared().max_threads() + 1);
        assert_eq!(said[0], "greenlet");
        assert!(said[1..].iter().all(|said| said == "job"));
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_kills_a_writer_that_waits() {
    child(|| {
        let writer = spawn(|| stdout().write_all(&vec![b'.'; MORE_THAN_BUFFERS]));
        until_parked(writer.id());
        let next = spawn(|| writeln!(stdout(), "\n> the next"));
        until_parked(next.id());
        writer.kill();
        writeln!(stderr(), "> killed").unwrap();
        next.get().unwrap().unwrap();
    });
}

#[test]
fn a_killed_writer_lets_the_next_one_write() {
    within(MINUTE, || {
        for shape in [Shape::Pipe, Shape::NamedPipe, Shape::Socket] {
            let Ends { our_out, mut their_in, .. } = shape.connect();
            let shared = our_out.try_clone().unwrap();
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "io_util::stdio::child_kills_a_writer_that_waits"])
                .args(["--ignored", "--nocapture", "--test-threads=1"])
                .env(CHILD, "1")
                .stdin(Stdio::null())
                .stdout(our_out)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // Nobody has read anything yet.
            let mut word = [0; 8];
            child.stderr.take().unwrap().read_exact(&mut word).unwrap();
            assert_eq!(&word, b"> killed");
            assert!(!is_nonblocking(&shared));
            drop(shared);
            let mut all = String::new();
            their_in.read_to_string(&mut all).unwrap();
            assert_success(child);
            let dots = all.matches('.').count();
            assert!(dots < MORE_THAN_BUFFERS, "it was killed in the middle");
            assert!(all.contains(".\n> the next\n"));
        }
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_locks() {
    child(|| {
        // One that locks it again has it.
        let mut lock = stdout().lock();
        let other = spawn(|| writeln!(stdout(), "> c"));
        until_parked(other.id());
        writeln!(lock, "> a").unwrap();
        writeln!(stdout(), "> b").unwrap();
        stdout().flush().unwrap();
        drop(lock);
        other.get().unwrap().unwrap();

        // Input cannot be in two places.
        let lock = stdin().lock();
        let other = spawn(read_line);
        until_parked(other.id());
        let twice = swallow(|| stdin().lock()).unwrap_err();
        assert!(message(twice.as_ref()).contains("stdin"));
        let lines: Rc<RefCell<Vec<String>>> = Rc::default();
        lines.borrow_mut().extend(lock.lines().take(2).map(Result::unwrap));
        assert_eq!(*lines.borrow(), ["1", "2"]);
        assert_eq!(other.get().unwrap(), "3\n");
        let mut bytes = Vec::new();
        stdin().lock().read_until(b'4', &mut bytes).unwrap();
        assert_eq!(bytes, b"4");
        assert_eq!(
            stdin().read_line(&mut String::new()).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        assert!(!Stdin::is_terminal(&stdin()) && !stdout().is_terminal());
    });
}

#[test]
fn locks_are_for_one_at_a_time() {
    within(MINUTE, || {
        let mut peer = Peer::start("child_locks", Shape::Pipe);
        peer.to.as_mut().unwrap().write_all(b"1\n2\n3\n4\xFF\n").unwrap();
        assert_eq!([peer.hear(), peer.hear(), peer.hear()], ["a", "b", "c"]);
        peer.end();
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_waits_for_a_lock_that_is_never_free() {
    child(|| {
        let jammed = jam();
        let keeper = spawn(|| {
            let mut input = stdin().lock();
            input.read_line(&mut String::new()).unwrap();
            greenloom::sync::Event::new().wait();
        });
        until_parked(keeper.id());
        let killed = spawn(|| drop(stdin().lock()));
        let last = spawn(read_line);
        until_parked(last.id());
        // As long as a job has it, it may come back.
        let woken = with_timeout(ms(5), || drop(stdin().lock()));
        assert!(woken.is_err());
        drop(jammed);
        for _ in 0..2 {
            let stuck = panic::catch_unwind(|| drop(stdin().lock())).unwrap_err();
            assert!(stuck.is::<BlocksForever>());
            // Neither too much nor too little is expected from outside after it.
            assert_eq!(greenloom::offload(|| 7), 7);
            let stuck = panic::catch_unwind(|| greenloom::sync::Event::new().wait()).unwrap_err();
            assert!(stuck.is::<BlocksForever>());
            killed.kill();
        }
        keeper.kill();
        assert_eq!(last.get().unwrap(), "second\n");
        let stuck = panic::catch_unwind(|| greenloom::sync::Event::new().wait()).unwrap_err();
        assert!(stuck.is::<BlocksForever>());
    });
}

/// Once it waited in silence.
#[test]
fn a_lock_that_is_never_free_is_reported() {
    within(MINUTE, || {
        let input = file_with("first\nsecond\n");
        assert_success(start("child_waits_for_a_lock_that_is_never_free", input, Stdio::null()));
    });
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_reads_in_two_threads() {
    child(|| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read_lines = |lines: Arc<Mutex<Vec<String>>>| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let lines = Arc::clone(&lines);
                    spawn(move || {
                        loop {
                            match read_line() {
                                line if line.is_empty() => break,
                                line => lines.lock().unwrap().push(line),
                            }
                        }
                    })
                })
                .collect();
            joinall(&readers);
        };
        let other = thread::spawn({
            let lines = Arc::clone(&lines);
            move || read_lines(lines)
        });
        read_lines(Arc::clone(&lines));
        other.join().unwrap();
        let mut lines = lines.lock().unwrap();
        lines.sort();
        let all: String = lines.concat();
        let expected: String = (10_000..11_000).map(|n| format!("{n}\n")).collect();
        assert!(all == expected);
        writeln!(stdout(), "> all").unwrap();
    });
}

#[test]
fn each_line_is_read_once_whatever_the_thread() {
    within(MINUTE, || {
        for shape in Shape::ALL {
            let mut peer = Peer::start("child_reads_in_two_threads", shape);
            for n in (10_000..11_000).step_by(10) {
                let ten: String = (n..n + 10).map(|n| format!("{n}\n")).collect();
                peer.say(&ten);
            }
            if shape == Shape::Terminal {
                // Each reader is told of the end once.
                for _ in 0..5 {
                    peer.say("\x04");
                }
            }
            peer.say_no_more();
            assert_eq!(peer.hear(), "all");
            peer.end();
        }
        let all: String = (10_000..11_000).map(|n| format!("{n}\n")).collect();
        let input = file_with(&all);
        assert_success(start("child_reads_in_two_threads", input, Stdio::null()));
    });
}

/// One of everything, finished and abandoned.
fn use_descriptors() {
    use greenloom::fs;
    use greenloom::io::{Io, pipe};

    let (reader, mut writer) = pipe().unwrap();
    let abandoned = spawn({
        let mut reader = reader.clone();
        move || reader.read(&mut [0])
    });
    until_parked(abandoned.id());
    abandoned.kill();
    writer.write_all(b"x").unwrap();
    let shared = Io::shared(reader).unwrap();
    (&shared).read_exact(&mut [0]).unwrap();
    assert!(with_timeout(ms(1), read_line).is_err());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = fs::File::create_new(&path).unwrap();
    let abandoned = spawn({
        let mut file = file.clone();
        move || file.write_all(b"text")
    });
    until_parked_or_over(&abandoned); // the pool may be quicker than the eye
    abandoned.kill();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    file.sync_all().unwrap(); // after the abandoned call
    assert_eq!(fs::read(&path).unwrap(), b"text");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_counts_descriptors() {
    child(|| {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        use_descriptors(); // the hub and the pool keep what they have
        let before = open();
        for _ in 0..10 {
            use_descriptors();
        }
        assert_eq!(open(), before);
        writeln!(stdout(), "> as before").unwrap();
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    within(MINUTE, || {
        let mut peer = Peer::start("child_counts_descriptors", Shape::Pipe);
        assert_eq!(peer.hear(), "as before");
        peer.end();
    });
}

#[test]
fn handles_speak_for_their_descriptors() {
    use std::os::fd::AsRawFd;
    assert_eq!(stdin().as_raw_fd(), io::stdin().as_raw_fd());
    assert_eq!(stdout().as_raw_fd(), io::stdout().as_raw_fd());
    assert_eq!(stderr().as_raw_fd(), io::stderr().as_raw_fd());
    assert_eq!(stderr().lock().as_raw_fd(), io::stderr().as_raw_fd());
}
