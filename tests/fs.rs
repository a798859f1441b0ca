//! `fs`: std's functions and `File`, on the thread pool; and what only shows when a greenlet goes
//! while the pool is at work for it.

mod util;

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};

use greenloom::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use greenloom::threadpool::ThreadPool;
use greenloom::{Greenlet, catch_interrupt, joinall, scope, spawn, with_timeout};
use rustix::fs::{FileType, Mode};
use tempfile::TempDir;
use util::{End, Log, MINUTE, end_of, ms, settle, until_parked, within};

/// More than one job reads or writes.
const LARGE: usize = 1 << 20;

/// Bytes in which a lost, doubled or exchanged one shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// A directory of the test's own, and a name in it.
fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    (dir, path)
}

/// A file with that in it.
fn file_with(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let (dir, path) = scratch();
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

fn for_both(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

// ── A pool in which nothing goes on ──

/// As many threads do the work of `fs`.
const THREADS: usize = 64;

/// Every thread that works for `fs` is busy until it is dropped: what is handed in meanwhile waits.
///
/// They open a named pipe, and nobody else does.
struct Jam {
    dir: TempDir,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Jam {
    fn new() -> Jam {
        static ONE: Mutex<()> = Mutex::new(());
        let one = loop {
            // Not by waiting for the lock: another test's greenlets may need this thread.
            match ONE.try_lock() {
                Ok(guard) => break guard,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) => greenloom::sleep(ms(1)),
            }
        };
        let jam = Jam { dir: tempfile::tempdir().unwrap(), _one_at_a_time: one };
        let path = jam.pipe();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        for _ in 0..THREADS {
            let path = path.clone();
            let opener = spawn(move || drop(File::open(path)));
            until_parked(opener.id()); // handed in: what comes later is behind it
        }
        jam
    }

    fn pipe(&self) -> PathBuf {
        self.dir.path().join("pipe")
    }

    /// From any thread.
    fn open(pipe: &Path) {
        // For both, so that it does not wait. Who is about to open finds it open: it stays so.
        let both = std::fs::File::options().read(true).write(true).open(pipe);
        let _kept = both.map(IntoRawFd::into_raw_fd);
    }

    fn end(self) {
        drop(self);
    }
}

impl Drop for Jam {
    fn drop(&mut self) {
        Jam::open(&self.pipe());
    }
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let (dir, path) = scratch();
        fs::write(&path, "some text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "some text");
        let other = dir.path().join("other");
        fs::rename(&path, &other).unwrap();
        assert!(!fs::exists(&path).unwrap());
        assert_eq!(fs::read(&other).unwrap(), b"some text");
        fs::remove_file(&other).unwrap();
        assert_eq!(fs::read(&other).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

// ── std's functions, one by one ──

#[test]
fn functions_of_paths_do_what_std_s_do() {
    within(MINUTE, || {
        let (dir, path) = file_with("abc");
        let copied = dir.path().join("copy");
        assert_eq!(fs::copy(&path, &copied).unwrap(), 3);
        assert_eq!(std::fs::read(&copied).unwrap(), b"abc");

        let linked = dir.path().join("hard");
        fs::hard_link(&path, &linked).unwrap();
        std::fs::write(&path, "changed").unwrap();
        assert_eq!(std::fs::read(&linked).unwrap(), b"changed");

        let soft = dir.path().join("soft");
        std::os::unix::fs::symlink(&path, &soft).unwrap();
        assert_eq!(fs::read_link(&soft).unwrap(), path);
        assert_eq!(fs::canonicalize(&soft).unwrap(), std::fs::canonicalize(&path).unwrap());
        assert!(fs::symlink_metadata(&soft).unwrap().file_type().is_symlink());
        assert!(fs::metadata(&soft).unwrap().file_type().is_file());
        assert_eq!(fs::metadata(&soft).unwrap().len(), 7);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);

        std::fs::write(&copied, [0xFF]).unwrap();
        assert_eq!(fs::read_to_string(&copied).unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn directories_are_made_and_removed() {
    within(MINUTE, || {
        let (dir, _) = scratch();
        let top = dir.path().join("a");
        let deep = top.join("b/c");
        assert_eq!(fs::create_dir(&deep).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(&deep).unwrap(); // no error if it is there
        assert_eq!(fs::create_dir(&deep).unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::remove_dir(&deep).unwrap();
        fs::write(top.join("b/file"), "").unwrap();
        assert_eq!(fs::remove_dir(&top).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        fs::remove_dir_all(&top).unwrap();
        assert!(!fs::exists(&top).unwrap());

        let private = dir.path().join("private/inner");
        DirBuilder::new().recursive(true).mode(0o700).create(&private).unwrap();
        assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
    });
}

#[test]
fn a_directory_of_many_entries_is_listed_whole() {
    within(MINUTE, || {
        let (dir, _) = scratch();
        let mut expected: Vec<OsString> = (0..300).map(|n| format!("file-{n}").into()).collect();
        for name in &expected {
            std::fs::write(dir.path().join(name), name.as_encoded_bytes()).unwrap();
        }
        std::fs::create_dir(dir.path().join("directory")).unwrap();
        expected.push("directory".into());
        let mut names = Vec::new();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let std = std::fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(entry.path(), dir.path().join(entry.file_name()));
            assert_eq!(entry.file_type().unwrap(), std.file_type());
            assert_eq!(entry.metadata().unwrap().len(), std.len());
            assert_eq!(entry.ino(), std::os::unix::fs::MetadataExt::ino(&std));
            names.push(entry.file_name());
        }
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
        let missing = fs::read_dir(dir.path().join("missing"));
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

// ── `File`, as std's ──

#[test]
fn options_open_as_std_s_do() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        assert_eq!(File::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let mut file = File::create_new(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            (&File::open(&path).unwrap()).write(b"x").unwrap_err().raw_os_error(),
            (&std::fs::File::open(&path).unwrap()).write(b"x").unwrap_err().raw_os_error(),
        );
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b" two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one two");
        drop(File::create(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let private = path.with_extension("private");
        drop(File::options().write(true).create(true).mode(0o600).open(&private).unwrap());
        assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        let nothing = OpenOptions::new().open(&path);
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// The same calls on a file of ours and on one of std's, with the same results.
#[test]
fn a_file_does_what_std_s_does() {
    within(MINUTE, || {
        let (_dir, path) = file_with(pattern(10_000));
        let (_dir_of_std, path_of_std) = file_with(pattern(10_000));
        let mut ours = for_both(&path);
        let options = &mut std::fs::File::options();
        let mut std = options.read(true).write(true).open(&path_of_std).unwrap();
        let mut state = 42_u64;
        let mut random = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        for round in 0..300_u64 {
            let len = random(500) as usize;
            match random(8) {
                0 => {
                    let (mut a, mut b) = (vec![0; len], vec![0; len]);
                    assert_eq!(ours.read(&mut a).unwrap(), std.read(&mut b).unwrap());
                    assert_eq!(a, b);
                }
                1 => {
                    let text = vec![round as u8; len];
                    assert_eq!(ours.write(&text).unwrap(), std.write(&text).unwrap());
                }
                2 if round % 3 == 0 => {
                    let (mut a, mut b) = (vec![0; len], vec![0; len]);
                    assert_eq!(ours.read_exact(&mut a).is_ok(), std.read_exact(&mut b).is_ok());
                    assert_eq!(a, b);
                }
                2 => {
                    let to = SeekFrom::Current(random(400) as i64 - 200);
                    assert_eq!(ours.seek(to).ok(), std.seek(to).ok());
                }
                3 => {
                    let to = SeekFrom::End(-(random(1000) as i64));
                    assert_eq!(ours.seek(to).ok(), std.seek(to).ok());
                }
                4 => {
                    let to = SeekFrom::Start(random(12_000));
                    assert_eq!(ours.seek(to).unwrap(), std.seek(to).unwrap());
                }
                5 => {
                    let (at, text) = (random(10_000), vec![round as u8; len]);
                    ours.write_all_at(&text, at).unwrap();
                    std.write_all_at(&text, at).unwrap();
                }
                6 => {
                    let at = random(10_000);
                    let (mut a, mut b) = (vec![0; len], vec![0; len]);
                    assert_eq!(ours.read_at(&mut a, at).unwrap(), std.read_at(&mut b, at).unwrap());
                    assert_eq!(a, b);
                }
                _ => {
                    let size = 5_000 + random(8_000);
                    ours.set_len(size).unwrap();
                    std.set_len(size).unwrap();
                }
            }
            assert_eq!(ours.stream_position().unwrap(), std.stream_position().unwrap());
        }
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&path_of_std).unwrap());
    });
}

#[test]
fn large_files_pass_in_pieces() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let content = pattern(3 * LARGE + 17);
        let mut file = File::create_new(&path).unwrap();
        file.write_all(&content).unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        file.rewind().unwrap();
        let mut all = vec![7];
        assert_eq!(file.read_to_end(&mut all).unwrap(), content.len());
        assert!(all[1..] == content && all[0] == 7);
        assert_eq!(file.read_to_end(&mut all).unwrap(), 0);
        file.rewind().unwrap();
        let mut exact = vec![0; content.len()];
        file.read_exact(&mut exact).unwrap();
        assert!(exact == content);
        assert_eq!(file.read_exact(&mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(fs::read(&path).unwrap() == content);
    });
}

#[test]
fn text_is_read_by_lines() {
    within(MINUTE, || {
        let (_dir, path) = file_with("a\nb\r\nc");
        let lines: Vec<_> =
            BufReader::new(File::open(&path).unwrap()).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["a", "b", "c"]);
        let mut text = String::from("+");
        assert_eq!(File::open(&path).unwrap().read_to_string(&mut text).unwrap(), 6);
        assert_eq!(text, "+a\nb\r\nc");
    });
}

#[test]
fn what_is_known_of_a_file_can_be_asked_and_set() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abc");
        let file = for_both(&path);
        assert_eq!(file.metadata().unwrap().len(), 3);
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.set_modified(then).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), then);
        file.set_times(FileTimes::new().set_accessed(then)).unwrap();
        assert_eq!(file.metadata().unwrap().accessed().unwrap(), then);
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    });
}

#[test]
fn clones_share_the_cursor() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abcdef");
        let mut file = File::open(&path).unwrap();
        let mut clone = file.try_clone().unwrap();
        let mut two = [0; 2];
        file.read_exact(&mut two).unwrap();
        clone.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"cd");
        assert_eq!(file.stream_position().unwrap(), 4);
        drop(file);
        clone.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"ef");
    });
}

#[test]
fn files_come_from_std_and_go_back() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abcdef");
        let std = std::fs::File::open(&path).unwrap();
        let number = std.as_raw_fd();
        let mut ours = File::from(std);
        assert_eq!(ours.as_raw_fd(), number);
        ours.read_exact(&mut [0; 2]).unwrap();
        let mut std = ours.into_std().unwrap();
        assert_eq!(std.as_raw_fd(), number, "the last handle gives away its own");
        let mut rest = String::new();
        std.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "cdef");

        let ours = File::from(OwnedFd::from(std));
        let clone = ours.clone();
        let std = ours.into_std().unwrap();
        assert_ne!(std.as_raw_fd(), number, "a clone has that one still");
        drop(std);
        assert_eq!((&clone).stream_position().unwrap(), 6);
        assert_eq!(clone.into_raw_fd(), number);
    });
}

// ── Others run meanwhile ──

/// "10 greenlets do fs work while another ticks: it ticks meanwhile."
#[test]
fn others_run_while_files_are_worked_on() {
    within(MINUTE, || {
        let (dir, _) = scratch();
        let jam = Jam::new();
        let log = Log::new();
        let workers: Vec<_> = (0..10)
            .map(|n| {
                let (log, path) = (log.clone(), dir.path().join(format!("{n}")));
                spawn(move || {
                    fs::write(&path, "x").unwrap();
                    log.say("wrote");
                    assert_eq!(fs::read(&path).unwrap(), b"x");
                })
            })
            .collect();
        workers.iter().for_each(|worker| until_parked(worker.id()));
        for _ in 0..100 {
            log.say("tick");
            greenloom::yield_now();
        }
        jam.end();
        joinall(&workers);
        let mut expected = vec!["tick"; 100];
        expected.extend(["wrote"; 10]);
        log.assert_is(expected);
    });
}

/// Once what they waited for was in the queue behind them.
#[test]
fn jobs_of_all_threads_may_wait_for_their_turn_at_a_file() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let pool = ThreadPool::shared();
        let (begun, all_begun) = mpsc::channel();
        let (jobs, go): (Vec<_>, Vec<_>) = (0..pool.max_threads())
            .map(|_| {
                let (go, gone) = mpsc::channel::<()>();
                let (file, begun) = (file.clone(), begun.clone());
                let job = pool.spawn(move || {
                    begun.send(()).unwrap();
                    let _ = gone.recv();
                    (&file).write_all(b"job\n").unwrap();
                });
                (job, go)
            })
            .unzip();
        let mut count = 0;
        while count < jobs.len() {
            count += all_begun.try_iter().count();
            greenloom::sleep(ms(1));
        }
        let jam = Jam::new();
        let writer = spawn({
            let file = file.clone();
            move || (&file).write_all(b"green\n").unwrap()
        });
        until_parked(writer.id()); // it has its turn, and its job is queued
        drop(go);
        jam.end();
        writer.get().unwrap();
        let count = jobs.len();
        jobs.into_iter().for_each(|job| job.get().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("green\n{}", "job\n".repeat(count)));
    });
}

/// The same, at one remove: they wait for a greenlet, and that for a file.
#[test]
fn jobs_of_all_threads_may_wait_for_what_a_greenlet_reads() {
    within(MINUTE, || {
        let (_dir, path) = file_with("text");
        let pool = ThreadPool::shared();
        let (senders, jobs): (Vec<_>, Vec<_>) = (0..pool.max_threads())
            .map(|_| {
                let (sender, receiver) = mpsc::channel::<String>();
                (sender, pool.spawn(move || receiver.recv().unwrap().len()))
            })
            .unzip();
        for (sender, job) in senders.into_iter().zip(jobs) {
            sender.send(fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(job.get().unwrap(), 4);
        }
    });
}

/// Only the end of the file has to be asked for.
#[test]
fn others_run_while_the_end_of_a_file_is_looked_for() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abcdef");
        let mut file = File::open(&path).unwrap();
        let jam = Jam::new();
        assert_eq!(file.seek(SeekFrom::Start(2)).unwrap(), 2);
        let seeks = spawn({
            let mut file = file.clone();
            move || file.seek(SeekFrom::End(-1)).unwrap()
        });
        until_parked(seeks.id());
        jam.end();
        assert_eq!(seeks.get().unwrap(), 5);
        assert_eq!(file.stream_position().unwrap(), 5);
    });
}

// ── Greenlets that go while the pool is at work ──

#[test]
fn what_an_abandoned_read_has_read_is_there_for_the_next() {
    within(MINUTE, || {
        let (_dir, path) = file_with(pattern(1000));
        let file = File::open(&path).unwrap();
        let jam = Jam::new();
        let reader = spawn({
            let file = file.clone();
            move || (&file).read(&mut [0; 600]).unwrap()
        });
        until_parked(reader.id());
        reader.kill();
        assert_eq!(end_of(reader), End::Killed);
        jam.end();
        // The cursor is where the last call that returned has left it.
        let mut first = [0; 100];
        assert_eq!((&file).read(&mut first).unwrap(), 100);
        assert_eq!(first[..], pattern(1000)[..100]);
        assert_eq!((&file).stream_position().unwrap(), 100);
        let mut rest = Vec::new();
        (&file).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, pattern(1000)[100..]);
    });
}

/// Once, what it had read by then was lost with it.
#[test]
fn a_reader_of_many_pieces_that_is_killed_takes_none_of_them() {
    within(MINUTE, || {
        let read_to_end: fn(&File) = |mut file| drop(file.read_to_end(&mut Vec::new()));
        let read_to_string: fn(&File) = |mut file| drop(file.read_to_string(&mut String::new()));
        let read_exact: fn(&File) = |mut file| drop(file.read_exact(&mut vec![0; 2 * LARGE]));
        let text = "0123456789abcde\n".repeat(2 * LARGE / 16);
        let (_dir, path) = file_with(&text);
        let mut file = for_both(&path);
        for read in [read_to_end, read_to_string, read_exact] {
            // Whatever looks at the file then, it is as if nothing had been read since.
            for look in 0..4 {
                loop {
                    let reader = spawn({
                        let file = file.clone();
                        move || read(&file)
                    });
                    // The system's cursor.
                    while rustix::fs::tell(&file).unwrap() < 600_000 {
                        greenloom::yield_now();
                    }
                    reader.kill();
                    match end_of(reader) {
                        End::Value(()) => file.rewind().unwrap(), // too fast: it never waited
                        other => break assert_eq!(other, End::Killed),
                    }
                }
                let mut all = Vec::new();
                match look {
                    0 => assert_eq!(file.read_to_end(&mut all).unwrap(), text.len()),
                    1 => {
                        let mut piece = [0; 1000];
                        loop {
                            match file.read(&mut piece).unwrap() {
                                0 => break,
                                len => all.extend_from_slice(&piece[..len]),
                            }
                        }
                    }
                    2 => {
                        all.resize(text.len(), 0);
                        file.read_exact(&mut all).unwrap();
                        assert!(file.read_exact(&mut [0]).is_err());
                    }
                    _ => {
                        assert_eq!(file.stream_position().unwrap(), 0);
                        file.write_all(b"01234").unwrap();
                        all.extend_from_slice(b"01234");
                        file.read_to_end(&mut all).unwrap();
                    }
                }
                assert!(all == text.as_bytes());
                file.rewind().unwrap();
            }
        }
    });
}

/// Where there is no way back: a named pipe.
#[test]
fn pieces_of_a_pipe_are_not_lost_with_their_reader() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        let both = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let file = File::open(&path).unwrap();
        let reader = spawn({
            let file = file.clone();
            move || (&file).read_to_end(&mut Vec::new()).unwrap()
        });
        let (begun, has_begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let writer = thread::spawn(move || {
            let content = pattern(LARGE);
            (&both).write_all(&content[..LARGE / 2]).unwrap();
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            (&both).write_all(&content[LARGE / 2..]).unwrap();
            both // kept open, so that there is no end yet
        });
        // Then all is read but for what a pipe holds, and that is more than a piece.
        while has_begun.try_recv().is_err() {
            greenloom::yield_now();
        }
        until_parked(reader.id());
        reader.kill();
        assert_eq!(end_of(reader), End::Killed);
        go_on.send(()).unwrap();
        let mut all = vec![0; LARGE];
        (&file).read_exact(&mut all).unwrap();
        assert!(all == pattern(LARGE));
        drop(writer.join().unwrap());
    });
}

/// As above, for a time limit, and for everything that has to know where the cursor is.
#[test]
fn seeks_and_writes_take_account_of_what_was_left_over() {
    within(MINUTE, || {
        let (_dir, path) = file_with(pattern(1000));
        let mut file = for_both(&path);
        let abandon = |file: &File| {
            let jam = Jam::new();
            let late = with_timeout(ms(5), || (&*file).read(&mut [0; 600]));
            assert!(late.is_err());
            jam.end();
        };
        abandon(&file);
        assert_eq!(file.seek(SeekFrom::Current(10)).unwrap(), 10);
        abandon(&file);
        assert_eq!(file.seek(SeekFrom::Start(20)).unwrap(), 20);
        abandon(&file);
        assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 999);
        file.seek(SeekFrom::Start(20)).unwrap();
        abandon(&file);
        file.write_all(b"XY").unwrap();
        assert_eq!(file.stream_position().unwrap(), 22);
        abandon(&file);
        file.write_all_at(b"Z", 22).unwrap();
        let mut three = [0; 1];
        file.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"Z", "what was left over is not older than what was written since");
        abandon(&file);
        file.set_len(24).unwrap();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, pattern(1000)[23..24]);
        file.seek(SeekFrom::Start(3)).unwrap();
        abandon(&file);
        let error = file.seek(SeekFrom::Current(-4)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(file.stream_position().unwrap(), 3);
        abandon(&file);
        let mut std = file.into_std().unwrap();
        assert_eq!(std.stream_position().unwrap(), 3);
        let mut all = std::fs::read(&path).unwrap();
        all.truncate(23);
        assert_eq!(&all[20..], b"XYZ");
    });
}

#[test]
fn an_abandoned_write_is_over_before_the_next_call() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let jam = Jam::new();
        let writer = spawn({
            let file = file.clone();
            move || (&file).write_all(b"first ").unwrap()
        });
        until_parked(writer.id());
        writer.kill();
        let next = spawn({
            let file = file.clone();
            move || (&file).write_all(b"second").unwrap()
        });
        until_parked(next.id());
        jam.end();
        next.get().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first second");
    });
}

#[test]
fn calls_on_one_file_are_served_first_come_first_served() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let jam = Jam::new();
        let writers: Vec<_> = (0..10)
            .map(|n| {
                let file = file.clone();
                let writer = spawn(move || write!(&file, "{n}").unwrap());
                until_parked(writer.id());
                writer
            })
            .collect();
        writers[4].kill(); // while it waits for its turn: it writes nothing, and holds up nobody
        jam.end();
        joinall(&writers);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "012356789");
    });
}

/// The line of those who wait for a file goes through all threads.
#[test]
fn a_file_may_be_used_by_greenlets_of_several_threads() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let file = file.clone();
                thread::spawn(move || {
                    scope(|s| {
                        for _ in 0..5 {
                            s.spawn(|| {
                                for _ in 0..20 {
                                    (&file).write_all(b"0123456789").unwrap();
                                }
                            });
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0123456789".repeat(300));
    });
}

/// A thread that ends while its greenlet stands in line lets the next one in.
#[test]
fn a_thread_that_ends_in_line_holds_up_nobody() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let jam = Jam::new();
        let first = spawn({
            let file = file.clone();
            move || (&file).write_all(b"a").unwrap()
        });
        until_parked(first.id());
        thread::spawn({
            let file = file.clone();
            move || {
                let waits = spawn(move || (&file).write_all(b"b").unwrap());
                until_parked(waits.id());
            }
        })
        .join()
        .unwrap();
        let last = spawn({
            let file = file.clone();
            move || (&file).write_all(b"c").unwrap()
        });
        until_parked(last.id());
        jam.end();
        last.get().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ac");
    });
}

#[test]
fn an_abandoned_open_is_closed_again() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abc");
        let is_open = || {
            let own = std::fs::read_dir("/proc/self/fd").unwrap();
            own.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path))
        };
        let jam = Jam::new();
        let opener = spawn({
            let path = path.clone();
            move || File::open(path).unwrap()
        });
        until_parked(opener.id());
        opener.kill();
        jam.end();
        // Behind it in the queue, so it has been opened when this is.
        let file = File::open(&path).unwrap();
        assert!(is_open());
        drop(file);
        while is_open() {
            greenloom::sleep(ms(1));
        }
    });
}

#[test]
fn an_abandoned_call_is_completed() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abc");
        let jam = Jam::new();
        let late = with_timeout(ms(5), || fs::remove_file(&path));
        assert!(late.is_err());
        assert!(path.exists());
        jam.end();
        while path.exists() {
            greenloom::sleep(ms(1));
        }
        // Of a write, all of it.
        let content = pattern(LARGE);
        let jam = Jam::new();
        assert!(with_timeout(ms(5), || fs::write(&path, &content)).is_err());
        jam.end();
        while std::fs::metadata(&path).map_or(0, |metadata| metadata.len()) < LARGE as u64 {
            greenloom::sleep(ms(1));
        }
        assert!(std::fs::read(&path).unwrap() == content);
    });
}

#[test]
fn a_listing_that_was_interrupted_goes_on_without_a_gap() {
    within(MINUTE, || {
        let (dir, _) = scratch();
        for n in 0..500 {
            std::fs::write(dir.path().join(format!("{n}")), "").unwrap();
        }
        let mut listing = fs::read_dir(dir.path()).unwrap();
        let mut names = Vec::new();
        let mut interruptions = 0;
        loop {
            let jam = Jam::new();
            let in_time = with_timeout(ms(2), || {
                for entry in &mut listing {
                    names.push(entry.unwrap().file_name());
                }
            });
            jam.end();
            match in_time {
                Ok(()) => break,
                Err(_) => interruptions += 1,
            }
            // What the job has brought meanwhile, and the next one's beginning.
            names.extend(listing.next().map(|entry| entry.unwrap().file_name()));
        }
        assert!(interruptions > 1);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 500);
    });
}

// ── While a greenlet unwinds ──

struct RemovesItsFile(PathBuf);

impl Drop for RemovesItsFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn a_destructor_of_a_killed_greenlet_may_remove_a_file() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abc");
        let greenlet = spawn({
            let path = path.clone();
            move || {
                let _removes = RemovesItsFile(path);
                greenloom::sleep(util::HOUR);
            }
        });
        until_parked(greenlet.id());
        let jam = Jam::new(); // it is not done by the pool
        greenlet.kill();
        assert!(!path.exists());
        jam.end();
    });
}

#[test]
fn a_buffer_is_flushed_when_its_greenlet_is_killed() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let greenlet = spawn(move || {
            let mut buffer = BufWriter::new(file);
            buffer.write_all(b"not lost").unwrap();
            greenloom::sleep(util::HOUR);
        });
        until_parked(greenlet.id());
        greenlet.kill();
        assert_eq!(std::fs::read(&path).unwrap(), b"not lost");
    });
}

/// Writes to its file when it is dropped.
struct Footer(File, Rc<Cell<Option<Result<(), ErrorKind>>>>);

impl Drop for Footer {
    fn drop(&mut self) {
        self.1.set(Some(self.0.write_all(b"END").map_err(|error| error.kind())));
    }
}

/// A greenlet that writes `text` to the file, and a footer in the end.
fn with_footer(file: &File, text: &'static [u8]) -> (Greenlet<()>, FooterResult) {
    let result = Rc::new(Cell::new(None));
    let footer = Footer(file.clone(), result.clone());
    let greenlet = spawn(move || {
        (&footer.0).write_all(text).unwrap();
        greenloom::sleep(util::HOUR);
    });
    until_parked(greenlet.id());
    (greenlet, result)
}

type FooterResult = Rc<Cell<Option<Result<(), ErrorKind>>>>;

/// It failed if the greenlet's own call, which it had left, was still under way.
#[test]
fn a_destructor_waits_for_the_call_that_its_greenlet_has_left() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let jam = Jam::new();
        let (writes, footer) = with_footer(&file, b"body ");
        let next = spawn({
            let file = file.clone();
            move || (&file).write_all(b" next").unwrap()
        });
        until_parked(next.id()); // it is before the destructor in line, and cannot run meanwhile
        let pipe = jam.pipe();
        let opener = thread::spawn(move || {
            let (_kept, nobody) = mpsc::channel::<()>();
            let _ = nobody.recv_timeout(ms(30)); // the destructor has begun to wait, most likely
            Jam::open(&pipe);
        });
        writes.kill();
        assert_eq!(footer.take(), Some(Ok(())));
        next.get().unwrap();
        opener.join().unwrap();
        jam.end();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "body END next");
    });
}

/// What is promised to one who cannot run now is nobody's yet.
#[test]
fn a_destructor_goes_before_those_who_can_wait() {
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let jam = Jam::new();
        let (writes, footer) = with_footer(&file, b"body ");
        let others: Vec<_> = (0..3)
            .map(|n| {
                let file = file.clone();
                let other = spawn(move || write!(&file, "{n}").unwrap());
                until_parked(other.id());
                other
            })
            .collect();
        jam.end();
        while std::fs::read(&path).unwrap().is_empty() {
            thread::yield_now(); // it is written, and our hub has not heard of it
        }
        writes.kill_nowait();
        writes.join();
        assert_eq!(footer.take(), Some(Ok(())));
        joinall(&others);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "body END012");
    });
}

/// It would have to wait for the job of somebody else.
#[test]
fn a_call_that_would_wait_for_its_turn_fails_while_unwinding() {
    struct Writes(File, Rc<Cell<Option<ErrorKind>>>);
    impl Drop for Writes {
        fn drop(&mut self) {
            self.1.set((&self.0).write(b"x").err().map(|error| error.kind()));
        }
    }
    within(MINUTE, || {
        let (_dir, path) = scratch();
        let file = File::create_new(&path).unwrap();
        let error = Rc::new(Cell::new(None));
        let writes = spawn({
            let writes = Writes(file.clone(), error.clone());
            move || {
                let _writes = writes;
                greenloom::sleep(util::HOUR);
            }
        });
        until_parked(writes.id());
        let jam = Jam::new();
        let other = spawn(move || (&file).write_all(b"a").unwrap());
        until_parked(other.id());
        writes.kill();
        assert_eq!(error.get(), Some(ErrorKind::Other));
        jam.end();
        other.get().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a");
    });
}

/// An interrupt that is caught in the middle of a call leaves a file that can be used.
#[test]
fn a_caught_interrupt_leaves_the_file_usable() {
    within(MINUTE, || {
        let (_dir, path) = file_with("abc");
        let done = Log::new();
        let jam = Jam::new();
        let greenlet = spawn({
            let (path, done) = (path.clone(), done.clone());
            let file = File::from(std::fs::File::open(path).unwrap());
            move || {
                let interrupt = catch_interrupt(|| (&file).read(&mut [0; 2]));
                let Err(interrupt) = interrupt else { panic!("the pool is jammed") };
                let mut text = String::new();
                (&file).read_to_string(&mut text).unwrap();
                done.say(text);
                interrupt.resume();
            }
        });
        until_parked(greenlet.id());
        let killer = spawn(move || greenlet.kill());
        until_parked(killer.id());
        settle();
        jam.end();
        killer.get().unwrap();
        done.assert_is(["abc"]);
    });
}

#[test]
fn errors_come_back_as_they_are() {
    within(MINUTE, || {
        let (dir, path) = file_with("abc");
        assert_eq!(
            fs::create_dir(&path).unwrap_err().kind(),
            std::fs::create_dir(&path).unwrap_err().kind()
        );
        let directory = File::open(dir.path()).unwrap();
        assert_eq!((&directory).read(&mut [0]).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(
            (&directory).read_to_end(&mut Vec::new()).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
        let with_nul = fs::read(Path::new("a\0b")).unwrap_err();
        assert_eq!(with_nul.kind(), ErrorKind::InvalidInput);
    });
}
