//! What once went wrong with patched calls.

#![expect(unsafe_code, reason = "C is called, as C calls it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CString, c_int};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{fs, mem, process, ptr, thread};

use greenloom::{dump, idle, joinall, monkey, sleep, spawn, with_timeout, yield_now};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

mod monkey_util;
use monkey_util::{alone, ms};

/// An allocator that takes a lock of std's, where it is told to.
struct Locking;

static COUNT: Mutex<u64> = Mutex::new(0);
static LOCKS: AtomicBool = AtomicBool::new(false);

// SAFETY: the system's, which is asked each time.
unsafe impl GlobalAlloc for Locking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if LOCKS.load(Ordering::Relaxed) {
            let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..200 {
                *count = black_box(*count + 1);
            }
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Locking = Locking;

fn read(fd: c_int) -> (isize, Option<i32>) {
    let mut buf = [0; 8];
    // SAFETY: there is room for what is read.
    let count = unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) };
    (count, (count < 0).then(|| io::Error::last_os_error().raw_os_error()).flatten())
}

/// The system's number of this thread.
fn current_thread() -> i32 {
    // SAFETY: it takes nothing.
    unsafe { libc::gettid() }
}

/// Waits until a thread is in that system call.
fn until_in(thread: i32, call: libc::c_long) {
    let path = format!("/proc/self/task/{thread}/syscall");
    while !fs::read_to_string(&path).unwrap().starts_with(&format!("{call} ")) {
        thread::yield_now();
    }
}

alone! {
    /// A wake-up goes to the kernel first: a thread that is about to wait may want memory.
    fn an_allocator_that_takes_a_lock_of_std_s() {
        monkey::patch_lock();
        LOCKS.store(true, Ordering::SeqCst);
        let threads: Vec<_> = (0..3)
            .map(|n| {
                thread::spawn(move || {
                    let allocate = || (0..5_000).for_each(|n| drop(black_box(Box::new(n))));
                    if n == 0 {
                        return allocate();
                    }
                    let greenlets: Vec<_> = (0..5).map(|_| spawn(allocate)).collect();
                    joinall(&greenlets);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        LOCKS.store(false, Ordering::SeqCst);
    }

    /// A wake-up is not for a greenlet alone whose thread stands still, whatever that waits for.
    fn a_wake_up_of_a_greenlet_whose_thread_stands_still() {
        monkey::patch_lock(); // and not sockets: reading stops the thread
        let lock = Arc::new(Mutex::new(()));
        for _ in 0..4 {
            let held = lock.lock().unwrap();
            let (mut writer, mut reader) = UnixStream::pair().unwrap();
            let (tell, told) = mpsc::channel();
            let green = Arc::clone(&lock);
            let parked = tell.clone();
            let hub = thread::spawn(move || {
                let first = spawn(move || drop(green.lock().unwrap()));
                idle();
                parked.send(current_thread()).unwrap();
                reader.read_exact(&mut [0]).unwrap();
                first.join();
            });
            let waiting = told.recv().unwrap();
            until_in(waiting, libc::SYS_recvfrom);
            let plain = Arc::clone(&lock);
            let other = thread::spawn(move || {
                tell.send(current_thread()).unwrap();
                drop(plain.lock().unwrap());
                writer.write_all(b"!").unwrap();
            });
            until_in(told.recv().unwrap(), libc::SYS_futex);
            drop(held);
            other.join().unwrap();
            hub.join().unwrap();
        }
    }

    /// A handler that has a stack of its own waits in the kernel: another greenlet's handler would
    /// begin at the same end of that stack.
    fn a_handler_with_a_stack_of_its_own_does_not_park() {
        extern "C" fn handler(signal: c_int) {
            let mut frame = [signal as u8; 256];
            let frame = black_box(&mut frame);
            let time = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            // SAFETY: it is given a time, and wants no other.
            unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
            if black_box(&*frame).iter().any(|byte| *byte != signal as u8) {
                process::abort();
            }
        }
        monkey::patch_all();
        for signal in [libc::SIGUSR1, libc::SIGUSR2] {
            // SAFETY: numbers, null pointers, and an empty set.
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            // SAFETY: a handler that does nothing which handlers must not do.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        }
        let raise = |signal| {
            // SAFETY: there is a handler for it.
            spawn(move || unsafe { libc::raise(signal) })
        };
        joinall(&[raise(libc::SIGUSR1), raise(libc::SIGUSR2)]);
    }

    /// Who waits by sharing a descriptor with another needs one for it, and waits until there is one.
    fn a_second_waiter_when_no_descriptor_is_left() {
        monkey::patch_all();
        let (here, mut there) = UnixStream::pair().unwrap();
        let here = Rc::new(here);
        spawn(|| sleep(ms(1))).join(); // the hub has what it needs
        let next = here.try_clone().unwrap().as_raw_fd();
        let limit = libc::rlimit { rlim_cur: next as u64, rlim_max: 4096 };
        // SAFETY: a limit that is there to be read.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let readers = [(); 2].map(|()| {
            let here = Rc::clone(&here);
            spawn(move || (&*here).read(&mut [0]).unwrap())
        });
        idle();
        there.write_all(b"ab").unwrap();
        readers.into_iter().for_each(|reader| assert_eq!(reader.get().unwrap(), 1));
    }

    /// What has come after all is not thrown away by a timeout that did not end the wait.
    fn a_late_message_is_not_lost() {
        monkey::patch_all();
        let (sender, receiver) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let other = thread::spawn(move || {
            begun.recv().unwrap();
            sender.send(7).unwrap();
        });
        let reader = spawn(move || {
            let message = with_timeout(ms(1), || receiver.recv());
            (message, receiver.try_recv())
        });
        sleep(ms(10)); // the time is over
        begin.send(()).unwrap();
        let (message, next) = reader.get().unwrap();
        assert!(message == Ok(Ok(7)) || next == Ok(7), "{message:?} {next:?}");
        other.join().unwrap();
    }

    /// Results of `syscall` that are negative and no errors.
    fn a_negative_result_is_no_error() {
        let memory = File::open("/proc/self/mem").unwrap();
        let place = -0x10_0000_i64;
        // SAFETY: it touches no memory.
        let result = unsafe { libc::syscall(libc::SYS_lseek, memory.as_raw_fd(), place, 0) };
        assert_eq!(result, place);
    }

    /// To a pipe without a writer the kernel says "end" and not "would block".
    fn a_named_pipe_without_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = CString::new(dir.path().join("pipe").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        // SAFETY: as above.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK) };
        assert_eq!(read(fd), (0, None));
        monkey::patch_all();
        assert_eq!(spawn(move || read(fd)).get().unwrap(), (0, None));
    }

    /// A terminal that waits for no byte, but for a tenth of a second.
    fn a_terminal_that_waits_for_nothing() {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        let mut settings = tcgetattr(&theirs).unwrap();
        settings.make_raw();
        settings.special_codes[SpecialCodeIndex::VMIN] = 0;
        settings.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(&theirs, OptionalActions::Now, &settings).unwrap();
        monkey::patch_all();
        assert_eq!(spawn(move || read(theirs.as_raw_fd())).get().unwrap(), (0, None));
    }

    /// A greenlet for which there is always something to be read lets others run.
    fn a_quick_peer_does_not_keep_others_from_running() {
        monkey::patch_all();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let reader = spawn(move || {
            for _ in 0..10_000 {
                here.write_all(b"!").unwrap();
                there.read_exact(&mut [0]).unwrap();
            }
        });
        let other = spawn(|| (0..10).for_each(|_| yield_now()));
        other.join();
        assert!(!reader.is_finished(), "it has run to its end alone");
        reader.join();
    }

    /// But not in the midst of calls that never wait: another runtime may make them.
    fn a_call_that_never_waits_lets_nobody_run() {
        monkey::patch_all();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        let reader = spawn(move || {
            for _ in 0..1_000 {
                here.write_all(b"!").unwrap();
                there.read_exact(&mut [0]).unwrap();
            }
        });
        let other = spawn({
            let reader = reader.id();
            move || dump().greenlets().iter().any(|entry| entry.id == reader && entry.state == "ready")
        });
        assert!(!other.get().unwrap(), "it has been interrupted");
        reader.join();
    }

    /// Who kills a greenlet that waits for a lock is told that this may take its time.
    fn a_kill_of_one_who_waits_for_a_lock_returns() {
        monkey::patch_all();
        let lock = Rc::new(Mutex::new(()));
        let held = lock.lock().unwrap();
        let waiting = Rc::clone(&lock);
        let waiter = spawn(move || {
            drop(waiting.lock().unwrap());
            yield_now();
            unreachable!("it is raised here");
        });
        idle();
        waiter.kill();
        assert!(!waiter.is_finished());
        drop(held);
        assert!(waiter.get().unwrap_err().is_killed());
    }
}
