//! Regular files, patched: read, written, flushed and locked by greenlets.
//!
//! No regular file can be made to answer when it is told to. That calls overlap is shown by what runs
//! between the beginning of one and its end: all the others begin, because it is a thread that is at
//! work on it.

#![allow(unsafe_code, reason = "functions of C are called")]

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;
use std::{fs, ptr, thread};

use greenloom::monkey::{self, Patch};
use greenloom::{JoinError, dump, idle, sleep, spawn};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

const N: usize = 8;

/// A file for reading and writing that nobody else knows of.
fn file() -> File {
    tempfile::tempfile().unwrap()
}

/// Another description of the same file, with locks of its own.
fn again(file: &File) -> File {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn patch_files_too() {
    monkey::patch_all();
    monkey::patch_file();
}

fn check(result: isize) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

fn errno_of<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn set_errno(errno: i32) {
    // SAFETY: the place of a thread's own `errno` is there as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = errno };
}

type ReadAt = unsafe extern "C" fn(c_int, *mut c_void, usize, i64) -> isize;
type WriteAt = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;
type Flush = unsafe extern "C" fn(c_int) -> c_int;

const READS: [ReadAt; 2] = [libc::pread, libc::pread64];
const WRITES: [WriteAt; 2] = [libc::pwrite, libc::pwrite64];
const FLUSHES: [Flush; 2] = [libc::fsync, libc::fdatasync];

fn read_at(call: ReadAt, fd: RawFd, buf: &mut [u8], at: i64) -> io::Result<usize> {
    // SAFETY: a place for so many bytes.
    check(unsafe { call(fd, buf.as_mut_ptr().cast(), buf.len(), at) })
}

fn write_at(call: WriteAt, fd: RawFd, buf: &[u8], at: i64) -> io::Result<usize> {
    // SAFETY: so many bytes.
    check(unsafe { call(fd, buf.as_ptr().cast(), buf.len(), at) })
}

fn flush(call: Flush, fd: RawFd) -> io::Result<usize> {
    // SAFETY: it touches no memory.
    check(unsafe { call(fd) } as isize)
}

fn read(file: &File, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: a place for so many bytes.
    check(unsafe { libc::read(file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

fn write(file: &File, buf: &[u8]) -> io::Result<usize> {
    // SAFETY: so many bytes.
    check(unsafe { libc::write(file.as_raw_fd(), buf.as_ptr().cast(), buf.len()) })
}

fn readv(file: &File, bufs: &mut [[u8; 5]; 2]) -> io::Result<usize> {
    let list =
        bufs.each_mut().map(|buf| libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: 5 });
    // SAFETY: places for so many bytes.
    check(unsafe { libc::readv(file.as_raw_fd(), list.as_ptr(), 2) })
}

/// Writes nine bytes.
fn writev(file: &File) -> io::Result<usize> {
    let parts: [&[u8]; 2] = [b"world, ", b"yo"];
    let list = parts
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: so many bytes, which are read.
    check(unsafe { libc::writev(file.as_raw_fd(), list.as_ptr(), 2) })
}

fn flock(file: &File, operation: c_int) -> io::Result<usize> {
    // SAFETY: it touches no memory.
    check(unsafe { libc::flock(file.as_raw_fd(), operation) } as isize)
}

type Call = Box<dyn FnOnce() -> io::Result<usize>>;

/// Does another greenlet run while one is in that call?
fn lets_others_run(call: Call) -> bool {
    HAS_RUN.store(false, Relaxed);
    let caller = spawn(move || {
        call().unwrap();
        HAS_RUN.load(Relaxed)
    });
    let other = spawn(|| HAS_RUN.store(true, Relaxed));
    let result = caller.get().unwrap();
    other.get().unwrap();
    result
}

/// How many threads of the crate's there are. A thread looks, because to read that is to read files.
fn threads_of_ours() -> usize {
    let look = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let names = tasks.filter_map(|task| name(task.ok()?));
        names.filter(|name| name.starts_with("greenloom")).count()
    };
    thread::spawn(look).join().unwrap()
}

const ALL: [&str; 11] = [
    "read",
    "readv",
    "write",
    "writev",
    "pread",
    "pread64",
    "pwrite",
    "pwrite64",
    "fsync",
    "fdatasync",
    "flock",
];

static HAS_RUN: AtomicBool = AtomicBool::new(false);

/// Locks the file, unlocks it when another greenlet has run, or some time later if none can, and waits
/// for the lock.
fn contend(file: &File) -> io::Result<usize> {
    let other = again(file);
    flock(&other, libc::LOCK_EX).unwrap();
    let time = if monkey::is_patched(Patch::File) { ms(30_000) } else { ms(50) };
    thread::spawn(move || {
        let begun = Instant::now();
        while !HAS_RUN.load(Relaxed) && begun.elapsed() < time {
            #[expect(clippy::disallowed_methods, reason = "a thread without greenlets")]
            thread::sleep(ms(1));
        }
        drop(other);
    });
    flock(file, libc::LOCK_EX)
}

/// Which of the functions let others run.
fn those_that_let_others_run() -> Vec<&'static str> {
    let file = file();
    file.set_len(100).unwrap();
    let fd = file.as_raw_fd();
    let [one, two, three, four] = [(); 4].map(|()| again(&file));
    let calls: Vec<(_, Call)> = vec![
        ("read", Box::new(move || read(&one, &mut [0; 9]))),
        ("readv", Box::new(move || readv(&two, &mut [[0; 5]; 2]))),
        ("write", Box::new(move || write(&three, b"here"))),
        ("writev", Box::new(move || writev(&four))),
        ("pread", Box::new(move || read_at(libc::pread, fd, &mut [0; 9], 0))),
        ("pread64", Box::new(move || read_at(libc::pread64, fd, &mut [0; 9], 0))),
        ("pwrite", Box::new(move || write_at(libc::pwrite, fd, b"here", 0))),
        ("pwrite64", Box::new(move || write_at(libc::pwrite64, fd, b"here", 0))),
        ("fsync", Box::new(move || flush(libc::fsync, fd))),
        ("fdatasync", Box::new(move || flush(libc::fdatasync, fd))),
        ("flock", Box::new(move || contend(&file))),
    ];
    let lets_others_run = |(name, call)| lets_others_run(call).then_some(name);
    calls.into_iter().filter_map(lets_others_run).collect()
}

alone! {
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn reads_and_writes_at_offsets_overlap() {
        patch_files_too();
        let file = Rc::new(file());
        for (write, read) in WRITES.into_iter().zip(READS) {
            let fd = file.as_raw_fd();
            let at = |n: usize| n as i64 * 1000;
            let put = move |n: usize| write_at(write, fd, &[n as u8 + 1; 1000], at(n)).unwrap();
            assert_eq!(overlapping(N, put, || ()), [1000; N]);
            let get = move |n: usize| {
                let mut buf = [0; 1000];
                assert_eq!(read_at(read, fd, &mut buf, at(n)).unwrap(), 1000);
                buf
            };
            for (n, bytes) in overlapping(N, get, || ()).into_iter().enumerate() {
                assert_eq!(bytes, [n as u8 + 1; 1000]);
            }
            assert_eq!(file.metadata().unwrap().len(), 1000 * N as u64);
            file.set_len(0).unwrap();
        }
    }

    /// Each greenlet has a description of its own, and so a position.
    fn reads_and_writes_overlap() {
        patch_files_too();
        let file = file();
        let files = || -> Vec<_> { (0..N).map(|_| again(&file)).collect() };
        let (ours, theirs) = (files(), files());
        let put = move |n: usize| (write(&ours[n], b"hello ").unwrap(), writev(&ours[n]).unwrap());
        assert_eq!(overlapping(N, put, || ()), [(6, 9); N]);
        let get = move |n: usize| {
            let (mut one, mut others) = ([0; 6], [[0; 5], [0; 5]]);
            let count = read(&theirs[n], &mut one).unwrap() + readv(&theirs[n], &mut others).unwrap();
            let bytes = [&one[..], others.as_flattened()].concat();
            String::from_utf8(bytes[..count].to_vec()).unwrap()
        };
        assert_eq!(overlapping(N, get, || ()), ["hello world, yo"; N]);
    }

    fn flushes_overlap() {
        patch_files_too();
        for call in FLUSHES {
            let file = Rc::new(file());
            let flushed = Rc::clone(&file);
            file.write_all_at(b"something", 0).unwrap();
            let fd = flushed.as_raw_fd();
            assert_eq!(overlapping(N, move |_| flush(call, fd).unwrap(), || ()), [0; N]);
        }
    }

    /// Who has the lock is a greenlet of this thread, and it gives it up when all wait.
    fn locks_overlap() {
        patch_files_too();
        let file = file();
        flock(&file, libc::LOCK_EX).unwrap();
        let others: Vec<_> = (0..N).map(|_| again(&file)).collect();
        let lock = move |n: usize| flock(&others[n], libc::LOCK_SH).unwrap();
        assert_eq!(overlapping(N, lock, || drop(flock(&file, libc::LOCK_UN))), [0; N]);
    }

    /// An exclusive lock is one greenlet's at a time.
    fn a_lock_is_a_lock() {
        patch_files_too();
        let file = file();
        let inside = Rc::new(Cell::new(false));
        let greenlets: Vec<_> = (0..4)
            .map(|_| {
                let (file, inside) = (again(&file), Rc::clone(&inside));
                spawn(move || {
                    flock(&file, libc::LOCK_EX).unwrap();
                    assert!(!inside.replace(true));
                    sleep(ms(2));
                    inside.set(false);
                    flock(&file, libc::LOCK_UN).unwrap();
                })
            })
            .collect();
        for greenlet in greenlets {
            greenlet.get().unwrap();
        }
    }

    fn a_kill_ends_the_wait_for_a_lock() {
        patch_files_too();
        let file = file();
        flock(&file, libc::LOCK_EX).unwrap();
        let other = again(&file);
        let told = Rc::new(Cell::new(None));
        let greenlet = spawn({
            let told = Rc::clone(&told);
            move || {
                assert_eq!(errno_of(flock(&other, libc::LOCK_EX | libc::LOCK_NB)), Some(libc::EAGAIN));
                told.set(errno_of(flock(&other, libc::LOCK_EX)));
                sleep(ms(60_000));
            }
        });
        idle();
        assert_eq!(dump().greenlets()[1].reason.as_deref(), Some("flock"));
        greenlet.kill();
        assert!(matches!(greenlet.get(), Err(JoinError::Killed)));
        assert_eq!(told.get(), Some(libc::ECANCELED));
    }

    /// A read that has begun is not given up: the caller's memory is in use. The kill comes later.
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn a_kill_waits_for_a_read() {
        patch_files_too();
        let file = file();
        file.write_all_at(b"hello", 0).unwrap();
        let read = Rc::new(RefCell::new(None));
        let greenlet = spawn({
            let read = Rc::clone(&read);
            move || {
                let mut buf = [0; 5];
                file.read_exact_at(&mut buf, 0).unwrap();
                read.replace(Some(buf));
                sleep(ms(60_000));
            }
        });
        let killer = spawn({
            let read = Rc::clone(&read);
            move || {
                assert_eq!(*read.borrow(), None, "it is under way");
                greenlet.kill_nowait();
                greenlet.get()
            }
        });
        assert!(matches!(killer.get().unwrap(), Err(JoinError::Killed)));
        assert_eq!(*read.borrow(), Some(*b"hello"));
    }

    /// A thread that ends waits for what others do with its greenlets' memory.
    fn the_end_of_a_thread_waits_for_the_disk() {
        patch_files_too();
        const LEN: usize = 16 << 20;
        for _ in 0..5 {
            let file = file();
            let there = file.try_clone().unwrap();
            thread::spawn(move || {
                spawn(move || there.write_all_at(&vec![7; LEN], 0).unwrap());
                idle(); // it has begun
            })
            .join()
            .unwrap();
            assert_eq!(file.metadata().unwrap().len(), LEN as u64);
        }
    }

    fn errors_are_the_kernels() {
        patch_files_too();
        let errors = || {
            let file = file();
            let fd = file.as_raw_fd();
            let (reader, writer) = io::pipe().unwrap();
            let folder = File::open("/").unwrap();
            for (read, write) in READS.into_iter().zip(WRITES) {
                let mut buf = [0; 9];
                assert_eq!(errno_of(read_at(read, -1, &mut buf, 0)), Some(libc::EBADF));
                assert_eq!(errno_of(read_at(read, fd, &mut buf, -1)), Some(libc::EINVAL));
                assert_eq!(errno_of(write_at(write, fd, &buf, -1)), Some(libc::EINVAL));
                let pipe = read_at(read, reader.as_raw_fd(), &mut buf, 0);
                assert_eq!(errno_of(pipe), Some(libc::ESPIPE));
                let pipe = write_at(write, writer.as_raw_fd(), &buf, 0);
                assert_eq!(errno_of(pipe), Some(libc::ESPIPE));
                let folder = read_at(read, folder.as_raw_fd(), &mut buf, 0);
                assert_eq!(errno_of(folder), Some(libc::EISDIR));
                file.set_len(9).unwrap();
                // SAFETY: there is no place, which the kernel finds out.
                let result = unsafe { read(fd, ptr::without_provenance_mut(1), 9, 0) };
                assert_eq!(errno_of(check(result)), Some(libc::EFAULT));
                assert_eq!(read_at(read, fd, &mut [0; 9], 9).unwrap(), 0, "the end");
                assert_eq!(read_at(read, fd, &mut [0; 9], 5).unwrap(), 4, "up to the end");
                assert_eq!(read_at(read, fd, &mut [], 0).unwrap(), 0);
            }
            for call in FLUSHES {
                assert_eq!(errno_of(flush(call, -1)), Some(libc::EBADF));
                assert_eq!(errno_of(flush(call, reader.as_raw_fd())), Some(libc::EINVAL));
                assert_eq!(flush(call, folder.as_raw_fd()).unwrap(), 0);
            }
            assert_eq!(errno_of(flock(&file, 77)), Some(libc::EINVAL));
        };
        spawn(errors).get().unwrap();
        thread::spawn(errors).join().unwrap();
    }

    fn success_leaves_errno_alone() {
        patch_files_too();
        spawn(|| {
            let file = file();
            set_errno(4711);
            file.write_all_at(b"hello", 0).unwrap();
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(4711));
        })
        .get()
        .unwrap();
    }

    /// What std does with files.
    fn stds_files_work() {
        patch_files_too();
        let folder = tempfile::tempdir().unwrap();
        let greenlets: Vec<_> = (0..20_u8)
            .map(|n| {
                let path = folder.path().join(n.to_string());
                spawn(move || {
                    fs::write(&path, vec![n; 10_000]).unwrap();
                    assert_eq!(fs::read(&path).unwrap(), vec![n; 10_000]);
                    let mut file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
                    file.write_all(b"more").unwrap();
                    file.sync_all().unwrap();
                    file.sync_data().unwrap();
                    file.seek(io::SeekFrom::Start(9_999)).unwrap();
                    let mut rest = Vec::new();
                    file.read_to_end(&mut rest).unwrap();
                    assert_eq!(rest, [&[n][..], b"more"].concat());
                })
            })
            .collect();
        for greenlet in greenlets {
            greenlet.get().unwrap();
        }
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn a_read_is_seen() {
        patch_files_too();
        let file = file();
        let greenlet = spawn(move || file.read_at(&mut [0; 9], 0).unwrap());
        let seen = spawn(|| dump().greenlets()[1].reason.clone());
        assert_eq!(seen.get().unwrap().as_deref(), Some("pread64"));
        assert_eq!(greenlet.get().unwrap(), 0);
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn it_is_not_part_of_patch_all() {
        monkey::patch_all();
        assert!(!monkey::is_patched(Patch::File));
        assert_eq!(those_that_let_others_run(), [""; 0]);
    }

    fn patched_it_lets_others_run() {
        monkey::patch_file();
        assert_eq!(those_that_let_others_run(), ALL);
    }

    /// With sockets patched as well, which `read` and its like are tried on first.
    fn patched_with_all_else_it_does_so_too() {
        patch_files_too();
        assert_eq!(those_that_let_others_run(), ALL);
    }

    /// Pipes and sockets are no files, and are not sent to threads.
    fn what_is_no_file_is_left_alone() {
        monkey::patch_file();
        let (mut reader, mut writer) = io::pipe().unwrap();
        spawn(move || {
            writer.write_all(b"hello").unwrap();
            reader.read_exact(&mut [0; 5]).unwrap();
        })
        .get()
        .unwrap();
        assert_eq!(threads_of_ours(), 0);
    }

    fn outside_of_greenlets_it_is_the_kernels() {
        patch_files_too();
        let outside = thread::spawn(|| {
            let file = file();
            file.write_all_at(b"hello", 0).unwrap();
            file.sync_all().unwrap();
            let mut buf = [0; 5];
            file.read_exact_at(&mut buf, 0).unwrap();
            assert_eq!(buf, *b"hello");
            flock(&file, libc::LOCK_EX).unwrap();
        });
        outside.join().unwrap();
        assert_eq!(threads_of_ours(), 0);
    }
}
