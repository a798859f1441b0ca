//! The contract of `monkey`: what is never touched, what the patched code sees, kills and timeouts.

#![expect(unsafe_code, reason = "some of it can only be seen by calling C")]
#![expect(clippy::disallowed_methods, reason = "std's sleep is one of the patched calls")]

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use greenloom::monkey::{self, Patch};
use greenloom::{
    Elapsed, JoinError, dump, idle, joinall, shield, sleep, spawn, with_timeout, yield_now,
};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

const FOR_EVER: Duration = Duration::from_secs(3_600);

// ── Tools ──

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn read_one(mut stream: &UnixStream) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).map(|()| byte[0])
}

fn write_one(mut stream: &UnixStream, byte: u8) {
    stream.write_all(&[byte]).unwrap();
}

/// C's `recv`: what it returns, and the error if that is -1.
fn recv(fd: RawFd, flags: c_int) -> Result<usize, i32> {
    let mut buf = [0_u8; 8];
    // SAFETY: it writes to the buffer, for which there is room.
    let got = unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), flags) };
    usize::try_from(got).map_err(|_| errno())
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

fn set_errno(errno: i32) {
    // SAFETY: it is always there.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own.
    unsafe { *place = errno };
}

fn is_nonblocking(fd: RawFd) -> bool {
    // SAFETY: it only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags & libc::O_NONBLOCK != 0
}

fn thread_id() -> i32 {
    // SAFETY: it only asks.
    unsafe { libc::gettid() }
}

/// Sends a signal, which has a handler, to a thread of this process.
fn signal(thread: i32, signal: c_int) {
    // SAFETY: numbers, and no memory.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, signal) };
    assert_eq!(sent, 0);
}

/// Returns when that thread of this process sleeps in the kernel.
fn until_asleep(thread: i32) {
    loop {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')) {
            return;
        }
        thread::yield_now();
    }
}

/// Calls `call`, which waits until `end` is called: by another thread, once this one sleeps. Returns
/// what it has returned, and whether other greenlets have run meanwhile.
fn waiting<T>(call: impl FnOnce() -> T, end: impl FnOnce() + Send + 'static) -> (T, bool) {
    let others = Rc::new(Cell::new(false));
    let ran = Rc::clone(&others);
    let other = spawn(move || ran.set(true));
    let me = thread_id();
    let ender = thread::spawn(move || {
        until_asleep(me);
        end();
    });
    let result = call();
    let have_run = others.get();
    drop((ender, other));
    (result, have_run)
}

/// When it is dropped it runs a closure.
struct Then<F: FnMut()>(F);

impl<F: FnMut()> Drop for Then<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// ── Where and when ──

alone! {
    fn sockets_made_before_patching_are_like_those_made_after_it() {
        let (here, there) = pair();
        let reader = spawn(move || read_one(&there).unwrap());
        monkey::patch_all();
        idle();
        assert_eq!(dump().greenlets()[1].state, "parked");
        write_one(&here, 7);
        assert_eq!(reader.get().unwrap(), 7);
    }

    fn a_thread_blocks_until_it_has_a_hub() {
        monkey::patch_all();
        let (here, there) = pair();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            tell.send(thread_id()).unwrap();
            let first = read_one(&there).unwrap(); // the kernel's
            let (one, other) = pair();
            let writer = spawn(move || write_one(&one, first + 1));
            let second = read_one(&other).unwrap(); // by parking, or it would wait for ever
            writer.join();
            second
        });
        until_asleep(told.recv().unwrap());
        write_one(&here, 1);
        assert_eq!(thread.join().unwrap(), 2);
    }

    fn the_threads_own_stack_runs_the_others_while_it_waits() {
        monkey::patch_all();
        let (here, there) = pair();
        let echo = spawn(move || {
            for _ in 0..3 {
                write_one(&there, read_one(&there).unwrap() + 1);
            }
        });
        for n in 0..3 {
            write_one(&here, n);
            assert_eq!(read_one(&here).unwrap(), n + 1);
        }
        echo.join();
    }
}

// ── What is never touched ──

alone! {
    fn destructors_block_while_a_panic_unwinds() {
        monkey::patch_all();
        let (here, there) = pair();
        let here = RefCell::new(Some(here));
        let seen = Rc::new(Cell::new(None));
        let tell = Rc::clone(&seen);
        let greenlet = spawn(move || {
            let _last = Then(move || {
                let here = here.take().unwrap();
                let (read, others) = waiting(|| read_one(&there), move || write_one(&here, 5));
                let bad = recv(-1, 0);
                tell.set(Some((read.unwrap(), others, bad)));
            });
            std::panic::resume_unwind(Box::new("a panic"));
        });
        greenlet.join();
        assert_eq!(seen.get(), Some((5, false, Err(libc::EBADF))));
    }

    fn destructors_block_while_a_kill_unwinds() {
        monkey::patch_all();
        let (here, there) = pair();
        let here = RefCell::new(Some(here));
        let seen = Rc::new(Cell::new(None));
        let tell = Rc::clone(&seen);
        let greenlet = spawn(move || {
            let _last = Then(move || {
                let here = here.take().unwrap();
                let (read, others) = waiting(|| read_one(&there), move || write_one(&here, 5));
                tell.set(Some((read.unwrap(), others)));
            });
            sleep(FOR_EVER);
        });
        idle();
        greenlet.kill();
        assert_eq!(seen.get(), Some((5, false)));
    }

    fn descriptors_0_to_2_are_left_alone() {
        monkey::patch_all();
        for standard in 0..=2 {
            let (here, there) = pair();
            // SAFETY: it touches no memory.
            let saved = unsafe { libc::dup(standard) };
            // SAFETY: as above.
            unsafe { libc::dup2(there.as_raw_fd(), standard) };
            let reader = spawn(move || waiting(|| recv(standard, 0), move || write_one(&here, 1)));
            reader.join();
            // SAFETY: as above.
            unsafe { libc::dup2(saved, standard) };
            let (got, others) = reader.get().unwrap();
            assert_eq!((got, others), (Ok(1), false), "{standard}");
        }
    }

    fn a_descriptor_that_is_non_blocking_says_so() {
        monkey::patch_all();
        let (here, there) = pair();
        there.set_nonblocking(true).unwrap();
        let fd = there.as_raw_fd();
        let reader = spawn(move || (recv(fd, 0), recv(fd, libc::MSG_DONTWAIT)));
        assert_eq!(reader.get().unwrap(), (Err(libc::EAGAIN), Err(libc::EAGAIN)));
        // And again when it is not.
        there.set_nonblocking(false).unwrap();
        assert_eq!(spawn(move || recv(fd, libc::MSG_DONTWAIT)).get().unwrap(), Err(libc::EAGAIN));
        let reader = spawn(move || recv(fd, 0));
        idle();
        assert!(!reader.is_finished());
        write_one(&here, 0);
        assert_eq!(reader.get().unwrap(), Ok(1));
    }

    fn the_mode_of_a_descriptor_stays_what_it_was_while_somebody_waits() {
        monkey::patch_all();
        let (here, there) = pair();
        let fd = there.as_raw_fd();
        let reader = spawn(move || read_one(&there).unwrap());
        idle();
        assert!(!is_nonblocking(fd) && !reader.is_finished());
        write_one(&here, 3);
        assert_eq!(reader.get().unwrap(), 3);
    }

    fn a_number_that_is_used_again_starts_clean() {
        monkey::patch_all();
        let (here, there) = pair();
        let number = there.as_raw_fd();
        there.set_nonblocking(true).unwrap();
        there.set_read_timeout(Some(ms(1))).unwrap();
        let tried = spawn(move || read_one(&there).map_err(|error| error.kind()));
        assert_eq!(tried.get().unwrap(), Err(ErrorKind::WouldBlock));
        drop(here);
        let (one, other) = pair();
        let (here, there) = if one.as_raw_fd() == number { (other, one) } else { (one, other) };
        assert_eq!(there.as_raw_fd(), number);
        let reader = spawn(move || read_one(&there).unwrap());
        idle();
        sleep(ms(5));
        assert!(!reader.is_finished(), "the limit was the other one's");
        write_one(&here, 3);
        assert_eq!(reader.get().unwrap(), 3);
    }

    /// The child must leave its parent's hub alone, and its poller.
    fn the_child_of_a_fork_uses_the_kernels() {
        monkey::patch_all();
        let (here, there) = pair();
        let parent = spawn(move || {
            // SAFETY: the child does nothing but make system calls and end.
            match unsafe { libc::fork() } {
                0 => {
                    let got = recv(there.as_raw_fd(), 0); // nobody would resume it if it parked
                    let is_right = got == Ok(1) && !monkey::is_patched(Patch::Socket);
                    // SAFETY: it ends the process and does nothing else.
                    unsafe { libc::_exit(if is_right { 42 } else { 1 }) }
                }
                child => child,
            }
        });
        let child = parent.get().unwrap();
        assert!(child > 0);
        until_process_asleep(child);
        write_one(&here, 1);
        let mut status = 0;
        // SAFETY: it writes to a number.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 42);
        assert!(monkey::is_patched(Patch::Socket), "here it is as it was");
    }
}

fn until_process_asleep(process: i32) {
    loop {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        if let Some(Some('S' | 'Z')) = state {
            return;
        }
        thread::yield_now();
    }
}

// ── The end of a thread ──

type Last = Then<Box<dyn FnMut()>>;

thread_local! {
    static EARLY: RefCell<Option<Last>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<Last>> = const { RefCell::new(None) };
}

alone! {
    fn thread_locals_that_outlive_the_hub_block_in_their_destructors() {
        monkey::patch_all();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let at_end = |name: &'static str| -> Last {
                let tell = tell.clone();
                Then(Box::new(move || {
                    let (here, there) = pair();
                    let me = thread_id();
                    let ender = thread::spawn(move || {
                        until_asleep(me);
                        write_one(&here, 9);
                    });
                    let got = read_one(&there).unwrap();
                    thread::sleep(ms(1));
                    ender.join().unwrap();
                    tell.send((name, got)).unwrap();
                }))
            };
            EARLY.set(Some(at_end("early"))); // one is dropped before the hub, one after it
            spawn(yield_now).join();
            LATE.set(Some(at_end("late")));
        });
        thread.join().unwrap();
        let mut told: Vec<_> = told.iter().collect();
        told.sort_unstable();
        assert_eq!(told, [("early", 9), ("late", 9)]);
    }

    fn calls_that_wait_when_their_thread_ends_are_given_up() {
        monkey::patch_all();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            spawn(move || {
                let (_here, there) = pair();
                let _last = Then({
                    let tell = tell.clone();
                    move || tell.send(None).unwrap()
                });
                tell.send(read_one(&there).unwrap_err().raw_os_error()).unwrap();
                yield_now();
                unreachable!("it unwinds there");
            });
            idle();
        });
        thread.join().unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), [Some(libc::ECANCELED), None]);
    }

    fn a_loop_that_gives_up_nothing_does_not_hold_up_the_end_of_its_thread() {
        monkey::patch_all();
        static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
        let thread = thread::spawn(|| {
            spawn(|| {
                let (_here, there) = pair();
                while read_one(&there).is_err() {
                    ATTEMPTS.fetch_add(1, Ordering::Relaxed);
                }
            });
            idle();
        });
        thread.join().unwrap();
        assert!(ATTEMPTS.load(Ordering::Relaxed) <= 9, "{ATTEMPTS:?}");
    }
}

// ── What the patched code sees ──

alone! {
    fn success_leaves_errno_alone_whoever_has_run_meanwhile() {
        monkey::patch_all();
        let (here, there) = pair();
        let reader = spawn(move || {
            set_errno(libc::EXDEV);
            let got = recv(there.as_raw_fd(), 0);
            (got, errno())
        });
        let other = spawn(|| (recv(-1, 0), errno()));
        assert_eq!(other.get().unwrap(), (Err(libc::EBADF), libc::EBADF));
        set_errno(libc::ENOTTY);
        write_one(&here, 1);
        assert_eq!(reader.get().unwrap(), (Ok(1), libc::EXDEV));
    }

    fn errors_are_the_kernels() {
        monkey::patch_all();
        let null = fs::File::open("/dev/null").unwrap();
        let (here, there) = pair();
        write_one(&here, 1);
        let errors = spawn(move || {
            let fd = there.as_raw_fd();
            // SAFETY: the kernel refuses the address.
            let got = unsafe { libc::recv(fd, std::ptr::without_provenance_mut(1), 8, 0) };
            let bad_address = if got < 0 { Err(errno()) } else { Ok(got as usize) };
            [bad_address, recv(-1, 0), recv(9_999, 0), recv(null.as_raw_fd(), 0)]
        });
        let expected = [libc::EFAULT, libc::EBADF, libc::EBADF, libc::ENOTSOCK].map(Err);
        assert_eq!(errors.get().unwrap(), expected);
    }

    fn limits_of_the_socket_hold() {
        monkey::patch_all();
        let results = overlapping(
            5,
            |_| {
                let (_here, there) = pair();
                there.set_read_timeout(Some(ms(10))).unwrap();
                assert!(there.read_timeout().unwrap() >= Some(ms(10))); // in ticks of the kernel
                read_one(&there).unwrap_err().kind()
            },
            || (),
        );
        assert_eq!(results, [ErrorKind::WouldBlock; 5]);
    }

    fn signals_do_not_interrupt_a_call_that_has_parked() {
        static HANDLED: AtomicU32 = AtomicU32::new(0);
        extern "C" fn handle(_: c_int) {
            HANDLED.fetch_add(1, Ordering::SeqCst);
        }
        monkey::patch_all();
        let handler: extern "C" fn(c_int) = handle;
        // SAFETY: all zero is a valid value: no flags, so that calls are not begun again.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        // SAFETY: the handler only counts.
        unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };

        let (here, there) = pair();
        let fd = there.as_raw_fd();
        let reader = spawn(move || recv(fd, 0));
        idle();
        // SAFETY: its handler is the one above.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(HANDLED.load(Ordering::SeqCst), 1);
        idle();
        assert!(!reader.is_finished());
        // The hub sleeps in the kernel, and wakes for a moment.
        let me = thread_id();
        let signaller = thread::spawn(move || {
            until_asleep(me);
            signal(me, libc::SIGUSR1);
            while HANDLED.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            until_asleep(me);
            write_one(&here, 1);
            here
        });
        assert_eq!(reader.get().unwrap(), Ok(1));
        assert_eq!(HANDLED.load(Ordering::SeqCst), 2);

        // Outside of greenlets it does.
        let _here = signaller.join().unwrap();
        let (tell, told) = mpsc::channel();
        let plain = thread::spawn(move || {
            tell.send(thread_id()).unwrap();
            recv(fd, 0)
        });
        let id = told.recv().unwrap();
        until_asleep(id);
        signal(id, libc::SIGUSR1);
        assert_eq!(plain.join().unwrap(), Err(libc::EINTR));
        drop(there);
    }

    fn readers_of_one_descriptor_take_turns() {
        monkey::patch_all();
        let (here, there) = pair();
        let there = Rc::new(there);
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let there = Rc::clone(&there);
                spawn(move || read_one(&there).unwrap())
            })
            .collect();
        idle();
        (&here).write_all(&[0, 1, 2, 3, 4]).unwrap();
        let mut got: Vec<_> = readers.into_iter().map(|reader| reader.get().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4]);
    }
}

// ── Kills and timeouts ──

alone! {
    fn a_kill_is_an_error_first_and_unwinds_at_the_next_wait() {
        monkey::patch_all();
        let (_here, there) = pair();
        let steps = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&steps);
        let greenlet = spawn(move || {
            log.borrow_mut().push(read_one(&there).unwrap_err().raw_os_error());
            let _last = Then(|| log.borrow_mut().push(None));
            yield_now();
            log.borrow_mut().push(Some(0)); // not reached
        });
        idle();
        greenlet.kill();
        assert!(matches!(greenlet.get(), Err(JoinError::Killed)));
        assert_eq!(*steps.borrow(), [Some(libc::ECANCELED), None]);
    }

    fn who_gives_up_at_the_error_ends_by_itself() {
        monkey::patch_all();
        let (_here, there) = pair();
        let greenlet = spawn(move || read_one(&there).map_err(|error| error.raw_os_error()));
        idle();
        greenlet.kill();
        assert_eq!(greenlet.get().unwrap(), Err(Some(libc::ECANCELED)));
    }

    fn who_tries_again_after_every_error_is_left_alone_in_the_end() {
        monkey::patch_all();
        let (here, there) = pair();
        let attempts = Rc::new(Cell::new(0));
        let count = Rc::clone(&attempts);
        let greenlet = spawn(move || {
            loop {
                count.set(count.get() + 1);
                if let Ok(byte) = read_one(&there) {
                    break byte;
                }
            }
        });
        idle();
        greenlet.kill(); // returns, because it is given up
        assert_eq!((greenlet.is_finished(), attempts.get()), (false, 9));
        idle();
        assert_eq!(attempts.get(), 9, "it waits and does not spin");
        write_one(&here, 6);
        assert_eq!(greenlet.get().unwrap(), 6);
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn a_kill_that_comes_before_the_call_is_told_by_it() {
        monkey::patch_all();
        let (here, there) = pair();
        let (greenlet, results) = {
            let results = Rc::new(RefCell::new(Vec::new()));
            let log = Rc::clone(&results);
            let greenlet = spawn(move || {
                let _ = catch_unwind(AssertUnwindSafe(|| sleep(FOR_EVER)));
                // It need not wait, and so does not fail.
                write_one(&here, 1);
                log.borrow_mut().push(recv(there.as_raw_fd(), 0));
                log.borrow_mut().push(recv(there.as_raw_fd(), 0));
            });
            (greenlet, results)
        };
        idle();
        greenlet.kill();
        assert_eq!(*results.borrow(), [Ok(1), Err(libc::ECANCELED)]);
    }

    fn a_shield_holds_both_back() {
        monkey::patch_all();
        let (here, there) = pair();
        let greenlet = spawn(move || {
            let got = with_timeout(ms(1), || {
                let got = shield(|| read_one(&there).unwrap());
                let raised = catch_unwind(AssertUnwindSafe(yield_now)).is_err();
                (got, raised)
            });
            assert_eq!(got, Ok((4, true)), "it was killed, and that came first");
        });
        idle();
        greenlet.kill_nowait();
        sleep(ms(20));
        assert!(!greenlet.is_finished());
        write_one(&here, 4);
        greenlet.join();
        assert!(greenlet.get().is_ok());
    }

    fn a_timeout_around_code_of_std_ends_it() {
        monkey::patch_all();
        let (_here, there) = pair();
        let ended = with_timeout(ms(1), || read_one(&there).is_err());
        assert_eq!(ended, Err(Elapsed));
        // The time is over, and nothing is left of it.
        yield_now();
        let (here, there) = pair();
        write_one(&here, 2);
        assert_eq!(with_timeout(FOR_EVER, || read_one(&there).unwrap()), Ok(2));
    }

    fn a_timeout_is_raised_at_the_next_wait() {
        monkey::patch_all();
        let (_here, there) = pair();
        let error = Cell::new(None);
        let ended = with_timeout(ms(1), || {
            error.set(read_one(&there).unwrap_err().raw_os_error());
            sleep(FOR_EVER);
        });
        assert_eq!((ended, error.get()), (Err(Elapsed), Some(libc::ECANCELED)));
    }

    fn of_two_timeouts_each_ends_its_own_scope() {
        monkey::patch_all();
        let (_here, there) = pair();
        let outer = with_timeout(ms(20), || {
            let inner = with_timeout(ms(1), || read_one(&there).is_err());
            assert_eq!(inner, Err(Elapsed));
            let inner = with_timeout(FOR_EVER, || read_one(&there).is_err());
            assert_eq!(inner, Ok(true), "it was the outer one's");
        });
        assert_eq!(outer, Err(Elapsed));
    }

    fn killing_many_leaves_nothing_behind() {
        monkey::patch_all();
        let before = fs::read_dir("/proc/self/fd").unwrap().count();
        for _ in 0..3 {
            let greenlets: Vec<_> = (0..20)
                .map(|_| {
                    spawn(|| {
                        let (_here, there) = pair();
                        read_one(&there).unwrap_err().raw_os_error()
                    })
                })
                .collect();
            idle();
            greenloom::killall(&greenlets);
            joinall(&greenlets);
            for greenlet in greenlets {
                assert_eq!(greenlet.get().unwrap(), Some(libc::ECANCELED));
            }
        }
        let after = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(after <= before + 3, "{before} to {after}: what the hub itself has opened");
    }
}
