//! Futexes, and the locks that std makes of them, in greenlets.

#![expect(unsafe_code, reason = "calls of the C library's own functions")]

use std::cell::{Cell, RefCell};
use std::ffi::c_long;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::{Elapsed, Hub, dump, idle, joinall, monkey, sleep, spawn, with_timeout};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;

/// The system call, by libc's function. Returns -errno for an error.
fn futex(
    word: *const AtomicU32,
    operation: i32,
    value: u32,
    time: *const libc::timespec,
    other: *const AtomicU32,
    mask: u32,
) -> c_long {
    // SAFETY: whatever the addresses are, the kernel looks at them first.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word, operation, value, time, other, mask) };
    if result < 0 { -c_long::from(errno()) } else { result }
}

fn wait(word: &AtomicU32, value: u32) -> c_long {
    futex(word, libc::FUTEX_WAIT | PRIVATE, value, std::ptr::null(), std::ptr::null(), 0)
}

fn wait_for(word: &AtomicU32, value: u32, time: Duration) -> c_long {
    let time = timespec(time);
    futex(word, libc::FUTEX_WAIT | PRIVATE, value, &raw const time, std::ptr::null(), 0)
}

fn wait_masked(word: &AtomicU32, value: u32, mask: u32) -> c_long {
    let operation = libc::FUTEX_WAIT_BITSET | PRIVATE;
    futex(word, operation, value, std::ptr::null(), std::ptr::null(), mask)
}

fn wake(word: &AtomicU32, count: u32) -> c_long {
    futex(word, libc::FUTEX_WAKE | PRIVATE, count, std::ptr::null(), std::ptr::null(), 0)
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() }
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = timespec(Duration::ZERO);
    // SAFETY: it writes to where there is room.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Tells others when a thread sleeps in the kernel for a futex.
#[derive(Clone, Default)]
struct Sleeper(Arc<AtomicI32>);

impl Sleeper {
    /// It is about to.
    fn is_me(&self) {
        // SAFETY: it touches no memory.
        self.0.store(unsafe { libc::gettid() }, Ordering::SeqCst);
    }

    fn sleeps(&self) -> bool {
        let path = format!("/proc/self/task/{}/syscall", self.0.load(Ordering::SeqCst));
        let call = std::fs::read_to_string(path).unwrap_or_default();
        call.split(' ').next() == Some(&libc::SYS_futex.to_string())
    }

    fn wait_until_it_sleeps(&self) {
        while !self.sleeps() {
            thread::yield_now();
        }
    }
}

/// Greenlets that wait for `verb`.
fn waiting(verb: &str) -> usize {
    dump().greenlets().iter().filter(|entry| entry.reason.as_deref() == Some(verb)).count()
}

// ── the call itself ──

alone! {
    /// Whatever is no futex is the kernel's, patched or not, in a greenlet or not.
    fn other_system_calls_pass() {
        fn check() {
            let call = |number, arguments: [usize; 6]| {
                let [a, b, c, d, e, f] = arguments;
                // SAFETY: none of these touches memory, but for one that fills a buffer.
                unsafe { libc::syscall(number, a, b, c, d, e, f) }
            };
            let none = [0; 6];
            assert_eq!(call(libc::SYS_getpid, none), c_long::from(std::process::id()));
            assert!(call(libc::SYS_gettid, none) > 0);
            let mut bytes = [0_u8; 64];
            let buffer = [bytes.as_mut_ptr().expose_provenance(), 64, 0, 0, 0, 0];
            assert_eq!(call(libc::SYS_getrandom, buffer), 64);
            assert_ne!(bytes, [0; 64]);
            assert_eq!(call(100_000, none), -1);
            assert_eq!(errno(), libc::ENOSYS);
            assert_eq!(call(libc::SYS_pidfd_open, [usize::MAX, 0, 0, 0, 0, 0]), -1);
            assert_eq!(errno(), libc::EINVAL);
            assert!(call(libc::SYS_getppid, none) > 0);
            assert_eq!(errno(), libc::EINVAL, "a success leaves it alone");
            // Six arguments.
            let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
            let rights = (libc::PROT_READ | libc::PROT_WRITE) as usize;
            let page = call(libc::SYS_mmap, [0, 4096, rights, flags, usize::MAX, 0]);
            assert!(page > 0);
            assert_eq!(call(libc::SYS_munmap, [page as usize, 4096, 0, 0, 0, 0]), 0);
        }
        check();
        monkey::patch_all();
        check();
        spawn(check).get().unwrap();
        thread::spawn(check).join().unwrap();
        assert_eq!(monkey::Report::functions(monkey::Patch::Lock), ["syscall"]);
    }

    fn errors_are_the_kernels() {
        fn check() {
            let word = AtomicU32::new(7);
            let none = std::ptr::null();
            let bad: *const AtomicU32 = std::ptr::without_provenance(64);
            let both = [libc::FUTEX_WAIT | PRIVATE, libc::FUTEX_WAIT_BITSET | PRIVATE];
            for operation in both {
                let call = |word, value, time| futex(word, operation, value, time, none, !0);
                let refused = |error: i32| -c_long::from(error);
                assert_eq!(call(&word, 8, std::ptr::null()), refused(libc::EAGAIN));
                assert_eq!(call(bad, 7, std::ptr::null()), refused(libc::EFAULT));
                let odd = (&raw const word).wrapping_byte_add(1);
                assert_eq!(call(odd, 7, std::ptr::null()), refused(libc::EINVAL));
                assert_eq!(call(&word, 7, bad.cast()), refused(libc::EFAULT));
                let wrong = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
                assert_eq!(call(&word, 7, &wrong), refused(libc::EINVAL));
                let wrong = libc::timespec { tv_sec: -1, tv_nsec: 0 };
                assert_eq!(call(&word, 7, &wrong), refused(libc::EINVAL));
                let zero = timespec(Duration::ZERO);
                assert_eq!(call(&word, 7, &zero), refused(libc::ETIMEDOUT));
            }
            let masked = libc::FUTEX_WAIT_BITSET | PRIVATE;
            assert_eq!(futex(&word, masked, 7, std::ptr::null(), none, 0), -22);
            assert_eq!(futex(&word, libc::FUTEX_WAKE_BITSET | PRIVATE, 1, std::ptr::null(), none, 0), -22);
            assert_eq!(wake(&word, 1), 0);
            assert_eq!(futex(&word, 99 | PRIVATE, 1, std::ptr::null(), none, 0), -c_long::from(libc::ENOSYS));
        }
        check();
        monkey::patch_lock();
        check();
        spawn(check).get().unwrap();
        thread::spawn(check).join().unwrap();
    }

    fn futexes_wait_and_wake() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(1));
        let (a, b) = (Arc::clone(&word), Arc::clone(&word));
        // All at once; the kind of time is another for each.
        let results = overlapping(
            4,
            move |n| {
                let far = Duration::from_secs(1000);
                let wall = libc::FUTEX_WAIT_BITSET | PRIVATE | libc::FUTEX_CLOCK_REALTIME;
                let at = timespec(clock(libc::CLOCK_REALTIME) + far);
                match n {
                    0 => wait(&a, 1),
                    1 => wait_for(&a, 1, far),
                    2 => wait_masked(&a, 1, !0),
                    _ => futex(&*a, wall, 1, &at, std::ptr::null(), !0),
                }
            },
            move || {
                assert_eq!(waiting("futex"), 4);
                b.store(2, Ordering::SeqCst);
                assert_eq!(wake(&b, 3), 3);
                assert_eq!(wake(&b, u32::MAX >> 1), 1);
                assert_eq!(wake(&b, 1), 0);
            },
        );
        assert_eq!(results, [0; 4]);
    }

    fn first_come_first_served_and_by_mask() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(0));
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiters: Vec<_> = (0..4_u32)
            .map(|n| {
                let (word, order) = (Arc::clone(&word), Rc::clone(&order));
                spawn(move || {
                    assert_eq!(wait_masked(&word, 0, 1 << (n % 2)), 0);
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        idle();
        let masked = |mask| {
            let operation = libc::FUTEX_WAKE_BITSET | PRIVATE;
            let woken = futex(&*word, operation, 1, std::ptr::null(), std::ptr::null(), mask);
            idle();
            woken
        };
        assert_eq!(masked(4), 0);
        assert_eq!(masked(2), 1);
        assert_eq!(masked(!0), 1);
        assert_eq!(masked(3), 1);
        assert_eq!(masked(2), 1);
        joinall(&waiters);
        assert_eq!(*order.borrow(), [1, 0, 2, 3]);
    }

    fn time_limits() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(0));
        let gone = Rc::new(Cell::new(0));
        let waiters: Vec<_> = [30, 10, 20]
            .into_iter()
            .enumerate()
            .map(|(n, limit)| {
                let (word, gone) = (Arc::clone(&word), Rc::clone(&gone));
                spawn(move || {
                    let id = if n == 1 { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
                    let clock_flag = if n == 1 { libc::FUTEX_CLOCK_REALTIME } else { 0 };
                    let (begun, until) = (Instant::now(), timespec(clock(id) + ms(limit)));
                    let operation = libc::FUTEX_WAIT_BITSET | PRIVATE | clock_flag;
                    let result = if n == 0 {
                        wait_for(&word, 0, ms(limit))
                    } else {
                        futex(&*word, operation, 0, &until, std::ptr::null(), !0)
                    };
                    assert_eq!(result, -c_long::from(libc::ETIMEDOUT));
                    assert!(begun.elapsed() >= ms(limit - 1));
                    gone.set(gone.get() + 1);
                    gone.get()
                })
            })
            .collect();
        let order: Vec<_> = waiters.into_iter().map(|waiter| waiter.get().unwrap()).collect();
        assert_eq!(order, [3, 1, 2]);
        assert_eq!(wake(&word, 9), 0, "they have left their places");
    }

    /// A time limit and a wake-up by another thread at once: whom the waker counts, he has woken.
    fn a_wake_up_counts_whatever_else_ends_the_wait() {
        monkey::patch_lock();
        sleep(ms(1)); // from now on there is a hub: a wait in the kernel is counted by itself
        let word = Arc::new(AtomicU32::new(0));
        let (a, over) = (Arc::clone(&word), Arc::new(AtomicBool::new(false)));
        let b = Arc::clone(&over);
        let waker = thread::spawn(move || {
            let mut count = 0;
            while !b.load(Ordering::SeqCst) {
                count += wake(&a, 1);
                if count % 3 == 0 {
                    thread::yield_now();
                }
            }
            count
        });
        let mut count = 0;
        for round in 0..20_000 {
            count += c_long::from(wait_for(&word, 0, Duration::from_nanos(round % 3)) == 0);
        }
        over.store(true, Ordering::SeqCst);
        assert_eq!(waker.join().unwrap(), count);
    }

    /// Those who would be moved from word to word are woken, so that none of them is forgotten.
    fn requeueing_wakes() {
        monkey::patch_lock();
        for operation in [libc::FUTEX_REQUEUE, libc::FUTEX_CMP_REQUEUE] {
            let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let (a, b) = (Arc::clone(&words), Arc::clone(&words));
            let results = overlapping(
                3,
                move |_| wait(&a[0], 0),
                move || {
                    let most: *const libc::timespec = std::ptr::without_provenance(9);
                    let result = futex(&b[0], operation | PRIVATE, 0, most, &b[1], 0);
                    assert_eq!(result, 0);
                },
            );
            assert_eq!(results, [0; 3]);
        }
    }

    fn unpatched_and_outside_it_is_the_kernels() {
        let blocked = |begin: fn()| {
            let done = Arc::new(AtomicBool::new(false));
            let word = Arc::new(AtomicU32::new(0));
            let (a, b) = (Arc::clone(&word), Arc::clone(&done));
            let sleeper = Sleeper::default();
            let c = sleeper.clone();
            let thread = thread::spawn(move || {
                begin();
                c.is_me();
                let result = wait(&a, 0);
                b.store(true, Ordering::SeqCst);
                result
            });
            sleeper.wait_until_it_sleeps();
            assert!(!done.load(Ordering::SeqCst));
            word.store(1, Ordering::SeqCst);
            assert_eq!(wake(&word, 1), 1);
            assert_eq!(thread.join().unwrap(), 0);
        };
        let others = || {
            let _: greenloom::Greenlet<()> = spawn(|| ());
            idle();
        };
        blocked(|| ());
        blocked(others);
        monkey::patch_all_except([monkey::Patch::Lock]);
        blocked(others);
        monkey::patch_all();
        blocked(|| ());
    }

    /// What another process might end is the kernel's.
    fn shared_words_are_the_kernels() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(0));
        let a = Arc::clone(&word);
        let thread = thread::spawn(move || {
            let waiter = {
                let a = Arc::clone(&a);
                spawn(move || {
                    futex(&*a, libc::FUTEX_WAIT, 0, std::ptr::null(), std::ptr::null(), 0)
                })
            };
            waiter.get().unwrap()
        });
        let woken = || futex(&*word, libc::FUTEX_WAKE, 1, std::ptr::null(), std::ptr::null(), 0);
        while woken() == 0 {
            thread::yield_now();
        }
        assert_eq!(thread.join().unwrap(), 0);
    }

    /// `n` of those in greenlets and `n` of those in threads: neither is passed over for the other.
    fn threads_and_greenlets_wait_for_one_word() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(0));
        let plain = Arc::new(AtomicUsize::new(0));
        let sleepers = [(); 3].map(|()| Sleeper::default());
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let sleeper = sleepers[n].clone();
                let (word, plain) = (Arc::clone(&word), Arc::clone(&plain));
                thread::spawn(move || {
                    sleeper.is_me();
                    assert_eq!(wait(&word, 0), 0);
                    plain.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        let green = Rc::new(Cell::new(0));
        let greenlets: Vec<_> = (0..3)
            .map(|_| {
                let (word, green) = (Arc::clone(&word), Rc::clone(&green));
                spawn(move || {
                    assert_eq!(wait(&word, 0), 0);
                    green.set(green.get() + 1);
                })
            })
            .collect();
        idle();
        sleepers.iter().for_each(Sleeper::wait_until_it_sleeps);
        // Of either kind: the greenlets could not run if their thread stood still.
        assert_eq!(wake(&word, 2), 2);
        while (plain.load(Ordering::SeqCst), green.get()) != (2, 2) {
            idle();
        }
        assert_eq!(wake(&word, 5), 2);
        joinall(&greenlets);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

// ── std's ──

alone! {
    fn mutex() {
        monkey::patch_lock();
        let lock = Arc::new(Mutex::new(0));
        let (a, b) = (Arc::clone(&lock), Arc::clone(&lock));
        let guard = RefCell::new(Some(b.lock().unwrap()));
        overlapping(20, move |_| *a.lock().unwrap() += 1, || drop(guard.take()));
        assert_eq!(*lock.lock().unwrap(), 20);
        assert!(!lock.is_poisoned());
    }

    /// A guard is kept while its greenlet sleeps, and the others wait for it.
    fn mutex_held_across_a_wait() {
        monkey::patch_lock();
        let lock = Arc::new(Mutex::new((0, false)));
        let greenlets: Vec<_> = (0..10)
            .map(|_| {
                let lock = Arc::clone(&lock);
                spawn(move || {
                    let mut state = lock.lock().unwrap();
                    assert!(!std::mem::replace(&mut state.1, true));
                    sleep(ms(1));
                    state.0 += 1;
                    state.1 = false;
                })
            })
            .collect();
        joinall(&greenlets);
        assert_eq!(lock.lock().unwrap().0, 10);
    }

    fn rwlock() {
        monkey::patch_lock();
        let lock = Arc::new(RwLock::new(0));
        let (a, b) = (Arc::clone(&lock), Arc::clone(&lock));
        let guard = RefCell::new(Some(b.write().unwrap()));
        overlapping(
            20,
            move |n| {
                if n % 2 == 0 {
                    *a.write().unwrap() += 1;
                } else {
                    let _ = *a.read().unwrap();
                }
            },
            || drop(guard.take()),
        );
        assert_eq!(*lock.read().unwrap(), 10);
        let b = RefCell::new(Some(lock.read().unwrap()));
        let a = Arc::clone(&lock);
        overlapping(5, move |_| *a.write().unwrap() += 1, || drop(b.take()));
        assert_eq!(*lock.read().unwrap(), 15);
    }

    fn condvar() {
        monkey::patch_lock();
        let pair = Arc::new((Mutex::new(usize::MAX), Condvar::new()));
        let (a, b) = (Arc::clone(&pair), Arc::clone(&pair));
        overlapping(
            20,
            move |n| {
                let (lock, changed) = &*a;
                let guard = lock.lock().unwrap();
                if n % 2 == 0 {
                    drop(changed.wait_while(guard, |turn| *turn != n).unwrap());
                } else {
                    let far = Duration::from_secs(1000);
                    let is_other = |turn: &mut usize| *turn != n;
                    let (guard, limit) = changed.wait_timeout_while(guard, far, is_other).unwrap();
                    assert!(!limit.timed_out());
                    drop(guard);
                }
                *lock.lock().unwrap() += 1;
                changed.notify_all();
            },
            move || {
                *b.0.lock().unwrap() = 0;
                b.1.notify_all();
            },
        );
        assert_eq!(*pair.0.lock().unwrap(), 20);
        let (_guard, limit) = pair.1.wait_timeout(pair.0.lock().unwrap(), ms(2)).unwrap();
        assert!(limit.timed_out());
    }

    fn initialisers_that_wait() {
        static ONCE: Once = Once::new();
        static CELL: OnceLock<usize> = OnceLock::new();
        static LAZY: LazyLock<usize> = LazyLock::new(|| {
            sleep(ms(2));
            3
        });
        monkey::patch_lock();
        let runs = Rc::new(Cell::new(0));
        let greenlets: Vec<_> = (0..10)
            .map(|_| {
                let runs = Rc::clone(&runs);
                spawn(move || {
                    let run = || {
                        sleep(ms(2));
                        runs.set(runs.get() + 1);
                    };
                    ONCE.call_once(run);
                    assert!(runs.get() > 0);
                    let two = *CELL.get_or_init(|| {
                        run();
                        2
                    });
                    two + *LAZY
                })
            })
            .collect();
        let sum: usize = greenlets.into_iter().map(|greenlet| greenlet.get().unwrap()).sum();
        assert_eq!((sum, runs.get()), (50, 2));
    }

    fn barrier() {
        monkey::patch_lock();
        let barrier = Arc::new(Barrier::new(21));
        let (a, b) = (Arc::clone(&barrier), Arc::clone(&barrier));
        let leaders = overlapping(
            20,
            move |_| a.wait().is_leader(),
            move || _ = thread::spawn(move || b.wait()),
        );
        assert!(leaders.into_iter().filter(|is_leader| *is_leader).count() <= 1);
    }

    #[expect(clippy::print_stdout, reason = "this is what is tested")]
    fn println_from_many() {
        monkey::patch_all();
        let greenlets: Vec<_> = (0..50)
            .map(|n| {
                spawn(move || {
                    for line in 0..20 {
                        println!("{n} {line}");
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "{n} {line}").unwrap();
                        sleep(Duration::ZERO);
                    }
                })
            })
            .collect();
        joinall(&greenlets);
        assert!(greenlets.into_iter().all(|greenlet| greenlet.get().is_ok()));
    }

    fn a_thread_with_a_hub_and_one_without() {
        monkey::patch_lock();
        let pair = Arc::new((Mutex::new(0_u32), Condvar::new()));
        let rounds = 1000;
        let other = Arc::clone(&pair);
        let plain = thread::spawn(move || {
            for _ in 0..rounds {
                let odd = |turn: &mut u32| *turn % 2 == 0;
                let mut turn = other.1.wait_while(other.0.lock().unwrap(), odd).unwrap();
                *turn += 1;
                drop(turn);
                other.1.notify_one();
            }
        });
        let green = {
            let pair = Arc::clone(&pair);
            spawn(move || {
                for _ in 0..rounds {
                    let even = |turn: &mut u32| *turn % 2 == 1;
                    let mut turn = pair.1.wait_while(pair.0.lock().unwrap(), even).unwrap();
                    *turn += 1;
                    drop(turn);
                    pair.1.notify_one();
                }
            })
        };
        green.get().unwrap();
        plain.join().unwrap();
        assert_eq!(*pair.0.lock().unwrap(), 2 * rounds);
    }
}

/// In all, of the rounds of a stress test.
const ROUNDS: usize = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };

alone! {
    /// A mutex under load, by greenlets of two threads and by two plain ones. A lost wake-up stops it.
    fn no_wake_up_of_a_mutex_is_lost() {
        monkey::patch_lock();
        let lock = Arc::new(Mutex::new((0, false)));
        fn work(lock: &Mutex<(usize, bool)>, share: usize, wait: impl Fn(usize)) {
            for round in 0..share {
                let mut state = lock.lock().unwrap();
                assert!(!std::mem::replace(&mut state.1, true), "two have it");
                if round % 64 == 0 {
                    wait(round);
                }
                state.0 += 1;
                state.1 = false;
            }
        }
        const EACH: usize = 8;
        const SHARE: usize = ROUNDS / (2 * EACH + 2);
        let hub = |lock: Arc<Mutex<(usize, bool)>>| {
            let greenlets: Vec<_> = (0..EACH)
                .map(|_| {
                    let lock = Arc::clone(&lock);
                    spawn(move || work(&lock, SHARE, |_| sleep(Duration::ZERO)))
                })
                .collect();
            joinall(&greenlets);
            assert!(greenlets.into_iter().all(|greenlet| greenlet.get().is_ok()));
        };
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || match n {
                    0 => hub(lock),
                    _ => work(&lock, SHARE, |_| thread::yield_now()),
                })
            })
            .collect();
        hub(Arc::clone(&lock));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(lock.lock().unwrap().0, (2 * EACH + 2) * SHARE);
    }

    /// Tokens go round through a condition variable: each notification must reach somebody.
    fn no_notification_is_lost() {
        monkey::patch_lock();
        const EACH: usize = 4;
        let pair = Arc::new((Mutex::new(0_usize), Condvar::new()));
        fn work(pair: &(Mutex<usize>, Condvar), me: usize) {
            let all = 2 * EACH;
            loop {
                let not_mine = |turn: &mut usize| *turn < ROUNDS / 20 && *turn % all != me;
                let mut turn = pair.1.wait_while(pair.0.lock().unwrap(), not_mine).unwrap();
                if *turn >= ROUNDS / 20 {
                    return;
                }
                *turn += 1;
                pair.1.notify_all();
            }
        }
        let threads: Vec<_> = (0..EACH)
            .map(|n| {
                let pair = Arc::clone(&pair);
                thread::spawn(move || work(&pair, n))
            })
            .collect();
        let greenlets: Vec<_> = (EACH..2 * EACH)
            .map(|n| {
                let pair = Arc::clone(&pair);
                spawn(move || work(&pair, n))
            })
            .collect();
        joinall(&greenlets);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

// ── being interrupted ──

alone! {
    /// Told once; it does not spin until it has the lock; and the kill is raised after it.
    fn a_kill_waits_for_the_lock() {
        monkey::patch_lock();
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock().unwrap();
        let (got, after) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let victim = {
            let (lock, got, after) = (Arc::clone(&lock), Rc::clone(&got), Rc::clone(&after));
            spawn(move || {
                let guard = lock.lock().unwrap();
                got.set(true);
                drop(guard);
                sleep(ms(0));
                after.set(true);
            })
        };
        idle();
        assert_eq!(waiting("futex"), 1);
        victim.kill_nowait();
        idle();
        idle();
        assert_eq!(waiting("futex"), 1);
        assert!(!got.get());
        drop(guard);
        assert!(victim.get().is_err());
        assert!(got.get() && !after.get());
        assert!(!lock.is_poisoned() && lock.try_lock().is_ok());
    }

    fn a_timeout_waits_for_the_lock() {
        monkey::patch_lock();
        let lock = Arc::new(Mutex::new(()));
        let holder = {
            let lock = Arc::clone(&lock);
            spawn(move || {
                let _guard = lock.lock().unwrap();
                sleep(ms(20));
            })
        };
        idle();
        let got = Cell::new(false);
        let ended = with_timeout(ms(1), || {
            drop(lock.lock().unwrap());
            got.set(true);
            sleep(ms(60_000));
        });
        assert_eq!(ended, Err(Elapsed));
        assert!(got.get());
        holder.get().unwrap();
        assert!(!lock.is_poisoned());
    }

    /// The call itself says so, once for each time something is raised.
    fn a_call_is_cancelled_once() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(0));
        let results = Rc::new(RefCell::new(Vec::new()));
        let victim = {
            let (word, results) = (Arc::clone(&word), Rc::clone(&results));
            spawn(move || {
                for _ in 0..2 {
                    let result = wait(&word, 0);
                    results.borrow_mut().push(result);
                }
                sleep(ms(60_000));
            })
        };
        idle();
        victim.kill_nowait();
        idle();
        assert_eq!(*results.borrow(), [-c_long::from(libc::ECANCELED)]);
        assert_eq!(waiting("futex"), 1, "the second is hard");
        assert_eq!(wake(&word, 9), 1);
        assert!(victim.get().is_err());
        assert_eq!(results.borrow()[1..], [0]);
        // And a timeout, in a greenlet that had one before.
        for _ in 0..2 {
            let ended = with_timeout(ms(1), || {
                assert_eq!(wait(&word, 0), -c_long::from(libc::ECANCELED));
                sleep(ms(60_000));
            });
            assert_eq!(ended, Err(Elapsed));
        }
        assert_eq!(wake(&word, 9), 0);
    }

    /// Killed in the line and woken in the same moment: the wake-up is not kept from the others.
    fn a_killed_waiter_passes_nothing_over() {
        monkey::patch_lock();
        for _ in 0..100 {
            let lock = Arc::new(Mutex::new(0));
            let guard = lock.lock().unwrap();
            let greenlets: Vec<_> = (0..4)
                .map(|_| {
                    let lock = Arc::clone(&lock);
                    spawn(move || {
                        *lock.lock().unwrap() += 1;
                        sleep(ms(0));
                    })
                })
                .collect();
            idle();
            greenlets[0].kill_nowait();
            drop(guard);
            joinall(&greenlets);
            assert_eq!(*lock.lock().unwrap(), 4);
        }
    }

    fn a_panic_poisons_and_parking_does_not() {
        monkey::patch_lock();
        let lock = Arc::new(Mutex::new(()));
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let lock = Arc::clone(&lock);
                spawn(move || {
                    let _guard = lock.lock().unwrap();
                    sleep(ms(1));
                })
            })
            .collect();
        idle();
        let panicking = spawn(|| panic!("on purpose"));
        assert!(panicking.get().is_err());
        joinall(&waiters);
        assert!(waiters.into_iter().all(|waiter| waiter.get().is_ok()));
        assert!(!lock.is_poisoned());
        let other = Arc::clone(&lock);
        let panicking = spawn(move || {
            let _guard = other.lock().unwrap();
            sleep(ms(1));
            panic!("on purpose");
        });
        idle();
        assert!(lock.lock().is_err(), "it was waited for while it panicked");
        assert!(panicking.get().is_err());
    }
}

// ── the end of a thread ──

alone! {
    /// Those who wait for a lock of another thread are left behind, and the thread ends; those who
    /// wait for one that is given up meanwhile get it, and are unwound.
    fn a_thread_ends_while_greenlets_wait_for_locks() {
        monkey::patch_lock();
        let never = Arc::new(Mutex::new(()));
        let guard = never.lock().unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (a, b) = (Arc::clone(&never), Arc::clone(&events));
        let thread = thread::spawn(move || {
            let local = Arc::new(Mutex::new(()));
            struct Noting(&'static str, Arc<Mutex<Vec<&'static str>>>);
            impl Drop for Noting {
                fn drop(&mut self) {
                    self.1.lock().unwrap().push(self.0);
                }
            }
            let (c, d) = (Arc::clone(&local), Arc::clone(&b));
            let _holder: greenloom::Greenlet<()> = spawn(move || {
                let _note = Noting("holder", d);
                let _guard = c.lock();
                sleep(ms(60_000));
            });
            let (c, d) = (Arc::clone(&local), Arc::clone(&b));
            let _second: greenloom::Greenlet<()> = spawn(move || {
                let _note = Noting("second", d);
                let _guard = c.lock();
                sleep(ms(60_000));
            });
            let _stuck: greenloom::Greenlet<()> = spawn(move || {
                let _note = Noting("stuck", b);
                let _guard = a.lock();
            });
            idle();
            assert_eq!(waiting("futex"), 2);
        });
        thread.join().unwrap();
        assert_eq!(*events.lock().unwrap(), ["holder", "second"]);
        drop(guard);
        drop(never.lock().unwrap()); // whom that wakes has gone
    }

    fn who_is_woken_when_the_hub_has_gone() {
        monkey::patch_lock();
        let word = Arc::new(AtomicU32::new(0));
        let a = Arc::clone(&word);
        thread::spawn(move || {
            let _left: greenloom::Greenlet<()> = spawn(move || {
                while wait(&a, 0) != 0 {}
            });
            idle();
        })
        .join()
        .unwrap();
        let b = Arc::clone(&word);
        let waiter = spawn(move || wait(&b, 0));
        idle();
        assert_eq!(wake(&word, 1), 1, "it is not given to who has gone");
        assert_eq!(waiter.get().unwrap(), 0);
    }
}

// ── locks that cannot be parked for ──

alone! {
    /// parking_lot between threads is as it was: a greenlet's thread stands still.
    fn parking_lot_blocks_its_thread() {
        monkey::patch_all();
        let lock = Arc::new(parking_lot::Mutex::new(0));
        const SHARE: usize = ROUNDS / 40;
        let work = |lock: Arc<parking_lot::Mutex<usize>>| {
            for _ in 0..SHARE {
                *lock.lock() += 1;
            }
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || work(lock))
            })
            .collect();
        let greenlets: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                spawn(move || work(lock))
            })
            .collect();
        joinall(&greenlets);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock(), 6 * SHARE);
        // Its condition variable, too; it moves those who wait from queue to queue.
        let pair = Arc::new((parking_lot::Mutex::new(0), parking_lot::Condvar::new()));
        let other = Arc::clone(&pair);
        let thread = thread::spawn(move || {
            for n in 0..100 {
                let mut turn = other.0.lock();
                while *turn != 2 * n + 1 {
                    other.1.wait(&mut turn);
                }
                *turn += 1;
                other.1.notify_all();
            }
        });
        let green = spawn(move || {
            for n in 0..100 {
                let mut turn = pair.0.lock();
                while *turn != 2 * n {
                    pair.1.wait(&mut turn);
                }
                *turn += 1;
                pair.1.notify_all();
            }
        });
        green.get().unwrap();
        thread.join().unwrap();
    }

    /// A lock of its that another greenlet holds is a deadlock; it is told of.
    fn a_standstill_is_reported() {
        monkey::patch_all();
        let (told, reports) = mpsc::channel();
        let lock = Arc::new(parking_lot::Mutex::new(()));
        let a = Arc::clone(&lock);
        thread::spawn(move || {
            Hub::current().on_error(move |error| told.send(error.to_string()).unwrap());
            let b = Arc::clone(&a);
            let _holder: greenloom::Greenlet<()> = spawn(move || {
                let _guard = b.lock();
                sleep(ms(60_000));
            });
            idle();
            drop(a.lock());
        });
        let report = reports.recv().unwrap();
        assert!(report.contains("stops its thread"), "{report}");
        assert!(report.contains("parking_lot"), "{report}");
    }

    /// A destructor that locks a mutex while its greenlet unwinds stops its thread; another greenlet
    /// of that thread, which is first in line, must not be the one that is woken instead.
    fn a_thread_that_stands_still_is_woken() {
        monkey::patch_lock();
        struct Locks(Arc<Mutex<()>>);
        impl Drop for Locks {
            fn drop(&mut self) {
                assert!(thread::panicking());
                drop(self.0.lock());
            }
        }
        for _ in 0..50 {
            let lock = Arc::new(Mutex::new(()));
            let guard = lock.lock().unwrap();
            let (a, sleeper) = (Arc::clone(&lock), Sleeper::default());
            let asleep = sleeper.clone();
            let was_late = Arc::new(AtomicBool::new(false));
            let late = Arc::clone(&was_late);
            let (told, tells) = mpsc::channel();
            let thread = thread::spawn(move || {
                Hub::current().on_error(move |_| late.store(true, Ordering::SeqCst));
                let b = Arc::clone(&a);
                let first = spawn(move || drop(b.lock()));
                idle();
                let victim = spawn(move || {
                    let _locks = Locks(a);
                    sleep(ms(60_000));
                });
                idle();
                asleep.is_me();
                told.send(()).unwrap();
                victim.kill();
                first.get().unwrap();
            });
            tells.recv().unwrap();
            sleeper.wait_until_it_sleeps();
            drop(guard);
            thread.join().unwrap();
            assert!(!was_late.load(Ordering::SeqCst), "it had to look for itself");
        }
    }
}
