//! `pthread_join`, patched: threads of std's and of C's, joined by greenlets.

#![allow(unsafe_code, reason = "functions of C are called")]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::os::unix::thread::JoinHandleExt;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io, ptr};

use greenloom::monkey::{self, Patch};
use greenloom::{JoinError, dump, idle, scope, sleep, spawn};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

/// A thread that ends when it is told to, and what tells it.
fn held<T: Send + 'static>(value: T) -> (JoinHandle<T>, Sender<()>) {
    let (sender, receiver): (_, Receiver<()>) = channel();
    let thread = thread::spawn(move || {
        let _ = receiver.recv();
        value
    });
    (thread, sender)
}

/// How many threads of the crate's wait for others.
fn waiting_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "greenloom-waits").count()
}

fn set_errno(errno: i32) {
    // SAFETY: the place of a thread's own `errno` is there as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = errno };
}

fn join(thread: libc::pthread_t, value: *mut *mut c_void) -> c_int {
    // SAFETY: the tests join threads that are there, or ask for an error that the C library tells.
    unsafe { libc::pthread_join(thread, value) }
}

extern "C" fn returns_its_argument(argument: *mut c_void) -> *mut c_void {
    argument
}

/// A thread of C's.
fn create(argument: *mut c_void) -> libc::pthread_t {
    let mut thread = 0;
    // SAFETY: a place for it, and a function that does nothing.
    let failed = unsafe {
        libc::pthread_create(&raw mut thread, ptr::null(), returns_its_argument, argument)
    };
    assert_eq!(failed, 0);
    thread
}

alone! {
    fn joins_of_many_greenlets_overlap() {
        monkey::patch_all();
        const N: usize = 8;
        let (threads, tell): (Vec<_>, Vec<_>) = (0..N).map(held).unzip();
        let threads: Vec<_> = threads.into_iter().map(|thread| RefCell::new(Some(thread))).collect();
        let joined = overlapping(
            N,
            move |n| threads[n].take().unwrap().join().unwrap(),
            || tell.iter().rev().for_each(|sender| sender.send(()).unwrap()),
        );
        assert_eq!(joined, (0..N).collect::<Vec<_>>());
    }

    /// Each ends only after the one that was asked for later has been joined: with a bound on the
    /// threads that join, the last would be behind the first in a queue, for ever.
    fn there_are_as_many_as_need_be() {
        monkey::patch_all();
        const N: usize = 100;
        let (threads, tell): (Vec<_>, Vec<_>) = (0..N).map(held).unzip();
        let tell = Rc::new(tell);
        let joiners: Vec<_> = threads
            .into_iter()
            .enumerate()
            .map(|(n, thread)| {
                let tell = Rc::clone(&tell);
                spawn(move || {
                    assert_eq!(thread.join().unwrap(), n);
                    if n > 0 {
                        tell[n - 1].send(()).unwrap();
                    }
                })
            })
            .collect();
        while waiting_threads() < N {
            idle(); // each gives itself its name when it begins
        }
        tell[N - 1].send(()).unwrap();
        for joiner in joiners {
            joiner.get().unwrap();
        }
    }

    /// A dump says what it waits for.
    fn a_join_is_seen() {
        monkey::patch_thread();
        let (thread, tell) = held("value");
        let joiner = spawn(|| thread.join().unwrap());
        idle();
        assert_eq!(dump().greenlets()[1].reason.as_deref(), Some("pthread_join"));
        tell.send(()).unwrap();
        assert_eq!(joiner.get().unwrap(), "value");
    }

    /// The thread's own stack waits as a greenlet does.
    fn the_main_greenlet_joins_too() {
        monkey::patch_thread();
        let (thread, tell) = held("value");
        let other = spawn(move || tell.send(()).unwrap());
        assert_eq!(thread.join().unwrap(), "value");
        assert!(other.is_finished());
    }

    fn a_panic_comes_through() {
        monkey::patch_all();
        let joiner = spawn(|| {
            let thread = thread::spawn(|| panic!("expected"));
            *thread.join().unwrap_err().downcast::<&str>().unwrap()
        });
        assert_eq!(joiner.get().unwrap(), "expected");
    }

    /// Borrows of the greenlets' own frames, by threads.
    fn scoped_threads_of_many_greenlets_overlap() {
        monkey::patch_all();
        const N: usize = 4;
        let (tell, told): (Vec<Sender<()>>, Vec<Receiver<()>>) = (0..N).map(|_| channel()).unzip();
        let told: Vec<_> = told.into_iter().map(Mutex::new).map(|told| RefCell::new(Some(told))).collect();
        let sums = overlapping(
            N,
            move |n| {
                let told = told[n].take().unwrap();
                let (mut half, numbers) = (n, [1, 2, 3]);
                thread::scope(|threads| {
                    let adds = threads.spawn(|| {
                        let _ = told.lock().unwrap().recv();
                        half += 1;
                        numbers.iter().sum::<usize>()
                    });
                    adds.join().unwrap()
                }) + half
            },
            || tell.iter().for_each(|sender| sender.send(()).unwrap()),
        );
        assert_eq!(sums, [7, 8, 9, 10]);
    }

    /// The end of a scope is a wait for a lock of std's; with it patched, it parks as well.
    fn scopes_that_nobody_joins_overlap() {
        monkey::patch_all();
        const N: usize = 4;
        let (tell, told): (Vec<Sender<()>>, Vec<Receiver<()>>) = (0..N).map(|_| channel()).unzip();
        let told: Vec<_> = told.into_iter().map(Mutex::new).collect();
        let sums = overlapping(
            N,
            move |n| {
                let mut sum = n;
                thread::scope(|threads| {
                    threads.spawn(|| {
                        let _ = told[n].lock().unwrap().recv();
                        sum += 1;
                    });
                });
                sum
            },
            || tell.iter().for_each(|sender| sender.send(()).unwrap()),
        );
        assert_eq!(sums, [1, 2, 3, 4]);
    }

    /// std takes it for granted that a join succeeds, and who has joined counts on what was borrowed.
    fn a_kill_waits_for_the_thread() {
        monkey::patch_all();
        let (thread, tell) = held("value");
        let joined = Rc::new(RefCell::new(None));
        let joiner = spawn({
            let joined = Rc::clone(&joined);
            move || {
                joined.replace(Some(thread.join().unwrap()));
                sleep(ms(60_000));
            }
        });
        idle();
        joiner.kill_nowait();
        for _ in 0..3 {
            idle();
        }
        assert!(!joiner.is_finished());
        tell.send(()).unwrap();
        assert!(matches!(joiner.get(), Err(JoinError::Killed)), "at the next wait");
        assert_eq!(*joined.borrow(), Some("value"));
    }

    /// A greenlet that waits when its thread ends is left, and the process goes on.
    fn a_join_that_is_left_holds_up_nobody() {
        monkey::patch_all();
        let (held, tell) = held(());
        thread::spawn(|| {
            spawn(|| held.join().unwrap());
            idle();
        })
        .join()
        .unwrap();
        tell.send(()).unwrap();
    }

    fn values_and_errors_are_those_of_the_c_library() {
        monkey::patch_all();
        let check = || {
            // SAFETY: it touches no memory.
            let oneself = unsafe { libc::pthread_self() };
            assert_eq!(join(oneself, ptr::null_mut()), libc::EDEADLK);

            let argument = ptr::without_provenance_mut(4711);
            let mut value = ptr::null_mut();
            assert_eq!(join(create(argument), &raw mut value), 0);
            assert_eq!(value, argument);
            assert_eq!(join(create(argument), ptr::null_mut()), 0);

            let (thread, tell) = held(());
            let id = thread.into_pthread_t();
            // SAFETY: a thread that runs, and is nobody else's to join.
            assert_eq!(unsafe { libc::pthread_detach(id) }, 0);
            assert_eq!(join(id, ptr::null_mut()), libc::EINVAL);
            tell.send(()).unwrap();
        };
        spawn(check).get().unwrap();
        thread::spawn(check).join().unwrap(); // and so does the C library itself
    }

    /// Errors are returned, and `errno` is left alone.
    fn errno_is_left_alone() {
        monkey::patch_all();
        let (thread, tell) = held(());
        let joiner = spawn(move || {
            set_errno(4711);
            assert_eq!(join(thread.into_pthread_t(), ptr::null_mut()), 0);
            io::Error::last_os_error().raw_os_error()
        });
        idle();
        tell.send(()).unwrap();
        assert_eq!(joiner.get().unwrap(), Some(4711));
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn unpatched_it_holds_up_the_thread() {
        monkey::patch_all_except([Patch::Thread]);
        assert_eq!(order(), ["joined", "other"]);
        assert_eq!(waiting_threads(), 0);
    }

    fn patched_it_does_not() {
        monkey::patch_thread();
        assert_eq!(order(), ["other", "joined"]);
        assert_eq!(waiting_threads(), 1);
    }

    fn outside_of_greenlets_it_is_the_c_librarys() {
        monkey::patch_all();
        let outside = thread::spawn(|| {
            let (thread, tell) = held("value");
            let teller = thread::spawn(move || {
                thread_sleep(ms(20));
                tell.send(()).unwrap();
            });
            let value = thread.join().unwrap();
            teller.join().unwrap();
            value
        });
        assert_eq!(outside.join().unwrap(), "value"); // no hub is here, either
        assert_eq!(waiting_threads(), 0);
    }
}

/// A greenlet joins a thread that takes its time, and another one runs.
fn order() -> Vec<&'static str> {
    let log = Rc::new(RefCell::new(Vec::new()));
    scope(|greenlets| {
        let log = Rc::clone(&log);
        let other = Rc::clone(&log);
        greenlets.spawn(move || {
            let thread = thread::spawn(|| thread_sleep(ms(50)));
            thread.join().unwrap();
            log.borrow_mut().push("joined");
        });
        greenlets.spawn(move || other.borrow_mut().push("other"));
    });
    log.take()
}

#[expect(clippy::disallowed_methods, reason = "on threads without greenlets")]
fn thread_sleep(time: Duration) {
    thread::sleep(time);
}
