//! Sleeping under patch: `clock_nanosleep`, `nanosleep`, `usleep`, `sleep`, `sched_yield`.

#![expect(unsafe_code, reason = "the functions under test are C's")]
#![expect(clippy::disallowed_methods, reason = "a patched `thread::sleep` lets the others run")]

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint};
use std::ops::RangeInclusive;
use std::os::unix::thread::JoinHandleExt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, ptr, thread};

use greenloom::{
    Elapsed, Greenlet, catch_interrupt, dump, idle, joinall, monkey, spawn, with_timeout, yield_now,
};
use libc::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_TAI, TIMER_ABSTIME, clockid_t, timespec,
};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

// ── the calls ──

fn timespec_of(time: Duration) -> timespec {
    timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

const NOTHING: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// Something that no call writes.
const MARK: timespec = timespec { tv_sec: 77, tv_nsec: 77 };

fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    left: &mut timespec,
) -> c_int {
    // SAFETY: null, a bad pointer and a good one are all in order for the kernel.
    unsafe { libc::clock_nanosleep(clock, flags, request, left) }
}

fn nanosleep(request: *const timespec, left: &mut timespec) -> Result<(), i32> {
    // SAFETY: as above.
    result(unsafe { libc::nanosleep(request, left) })
}

fn usleep(micros: c_uint) -> Result<(), i32> {
    // SAFETY: it takes no pointer.
    result(unsafe { libc::usleep(micros) })
}

fn sleep(seconds: c_uint) -> c_uint {
    // SAFETY: it takes no pointer.
    unsafe { libc::sleep(seconds) }
}

fn sched_yield() -> c_int {
    // SAFETY: it takes nothing.
    unsafe { libc::sched_yield() }
}

/// What it returns, or the error that it leaves.
fn result(returned: c_int) -> Result<(), i32> {
    match returned {
        0 => Ok(()),
        _ => Err(errno()),
    }
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

fn now(clock: clockid_t) -> Duration {
    let mut time = NOTHING;
    // SAFETY: it writes to `time`.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn left_of(time: timespec) -> (i64, i64) {
    (time.tv_sec, time.tv_nsec)
}

/// Those who sleep until they are killed.
fn asleep<T: 'static>(f: impl FnOnce() -> T + 'static) -> Greenlet<T> {
    let greenlet = spawn(f);
    idle();
    assert_eq!(dump().greenlets()[1].state, "parked", "it has to wait");
    greenlet
}

const HOUR: Duration = Duration::from_secs(3600);

// ── overlapping ──

/// `count` greenlets do that at the same time, each for as long as it takes.
fn overlap(sleeps: impl Fn(usize) + 'static) {
    monkey::patch_time();
    overlapping(20, sleeps, || {});
}

alone! {
    fn std_sleepers_overlap() {
        overlap(|n| thread::sleep(ms(10 + n as u64 % 3)));
    }

    fn clock_nanosleep_overlaps() {
        overlap(|n| {
            let clock = [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI][n % 4];
            let (mut left, time) = (MARK, timespec_of(ms(10)));
            assert_eq!(clock_nanosleep(clock, 0, &time, &mut left), 0);
            assert_eq!(left_of(left), left_of(MARK), "only an interrupted sleep says what is left");
        });
    }

    fn clock_nanosleep_to_a_moment_overlaps() {
        overlap(|n| {
            let clock = [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI][n % 4];
            let moment = now(clock) + ms(10);
            let time = timespec_of(moment);
            assert_eq!(clock_nanosleep(clock, TIMER_ABSTIME, &time, &mut MARK.clone()), 0);
            assert!(now(clock) >= moment, "too early");
        });
    }

    fn nanosleep_overlaps() {
        overlap(|_| {
            let mut left = MARK;
            assert_eq!(nanosleep(&timespec_of(ms(10)), &mut left), Ok(()));
            assert_eq!(left_of(left), left_of(MARK));
        });
    }

    fn usleep_overlaps() {
        overlap(|_| assert_eq!(usleep(10_000), Ok(())));
    }

    fn sleep_overlaps() {
        overlap(|_| assert_eq!(sleep(1), 0));
    }

    /// The thread's own stack is a greenlet, too.
    fn the_main_greenlet_lets_others_run() {
        monkey::patch_time();
        let done = Rc::new(Cell::new(false));
        let other = Rc::clone(&done);
        let greenlet = spawn(move || other.set(true));
        thread::sleep(ms(1));
        assert!(done.get());
        drop(greenlet);
    }
}

// ── how long ──

alone! {
    fn sleepers_wake_in_order_and_not_early() {
        monkey::patch_time();
        let order = Rc::new(RefCell::new(Vec::new()));
        let sleepers: Vec<_> = [60, 20, 40, 0]
            .into_iter()
            .map(|time| {
                let order = Rc::clone(&order);
                spawn(move || {
                    let begun = Instant::now();
                    thread::sleep(ms(time));
                    assert!(begun.elapsed() >= ms(time), "too early");
                    order.borrow_mut().push(time);
                })
            })
            .collect();
        joinall(&sleepers);
        assert_eq!(*order.borrow(), [0, 20, 40, 60]);
    }

    fn a_fraction_of_a_millisecond_is_slept() {
        monkey::patch_time();
        for micros in [1, 50, 300, 999, 1001] {
            let begun = Instant::now();
            thread::sleep(Duration::from_micros(micros));
            assert!(begun.elapsed() >= Duration::from_micros(micros), "{micros} us");
            let begun = Instant::now();
            assert_eq!(usleep(micros as u32), Ok(()));
            assert!(begun.elapsed() >= Duration::from_micros(micros), "{micros} us");
        }
        // More than a second's worth, which some systems refuse.
        let begun = Instant::now();
        assert_eq!(usleep(1_000_001), Ok(()));
        assert!(begun.elapsed() >= Duration::from_micros(1_000_001));
    }

    fn a_time_without_end_is_slept() {
        monkey::patch_time();
        let sleepers = [
            asleep(|| thread::sleep(Duration::MAX)),
            spawn(|| {
                let far = timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 };
                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &far, &mut MARK.clone());
            }),
            spawn(|| {
                let far = timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 };
                clock_nanosleep(CLOCK_BOOTTIME, 0, &far, &mut MARK.clone());
            }),
        ];
        thread::sleep(ms(5));
        assert!(sleepers.iter().all(|sleeper| !sleeper.is_finished()));
        greenloom::killall(&sleepers);
        assert!(sleepers.iter().all(Greenlet::is_finished));
    }

    /// A wait of no length gives each of the others one turn.
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn yielding_lets_the_others_run_once() {
        monkey::patch_time();
        let zero = || assert_eq!(clock_nanosleep(CLOCK_MONOTONIC, 0, &NOTHING, &mut MARK.clone()), 0);
        let past = || {
            let past = timespec_of(ms(1));
            assert_eq!(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, &mut MARK.clone()), 0);
        };
        let calls: [fn(); 6] = [
            || assert_eq!(sched_yield(), 0),
            thread::yield_now,
            zero,
            past,
            || assert_eq!(usleep(0), Ok(())),
            || assert_eq!(sleep(0), 0),
        ];
        for call in calls {
            let order = Rc::new(RefCell::new(String::new()));
            let greenlets = ["a", "b", "c"].map(|name| {
                let order = Rc::clone(&order);
                spawn(move || {
                    for _ in 0..3 {
                        order.borrow_mut().push_str(name);
                        call();
                    }
                })
            });
            joinall(&greenlets);
            assert_eq!(*order.borrow(), "abcabcabc");
        }
    }
}

// ── kills and timeouts ──

alone! {
    fn a_killed_sleeper_ends_at_once_and_hears_of_it_at_its_next_wait() {
        monkey::patch_time();
        let slept = Rc::new(Cell::new(false));
        let here = Rc::clone(&slept);
        let sleeper = asleep(move || {
            thread::sleep(HOUR);
            here.set(true); // it is unwound by no call of C
            yield_now();
            unreachable!("a wait of ours raises it");
        });
        sleeper.kill();
        assert!(slept.get() && sleeper.is_finished());
    }

    fn what_a_killed_sleeper_is_told() {
        monkey::patch_time();
        let told = Rc::new(Cell::new(0));
        let calls: [fn(); 6] = [
            || {
                let mut left = MARK;
                set_errno(7);
                let told = clock_nanosleep(CLOCK_MONOTONIC, 0, &timespec_of(HOUR), &mut left);
                assert_eq!((told, left_of(left), errno()), (libc::EINTR, (0, 0), 7));
            },
            || {
                let (mut left, time) = (MARK, timespec_of(now(CLOCK_BOOTTIME) + HOUR));
                let told = clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &time, &mut left);
                assert_eq!((told, left_of(left)), (libc::EINTR, left_of(MARK)));
            },
            || {
                let mut left = MARK;
                assert_eq!(nanosleep(&timespec_of(HOUR), &mut left), Err(libc::EINTR));
                assert_eq!(left_of(left), (0, 0));
            },
            || {
                // SAFETY: nobody is to be told what is left.
                let told = unsafe { libc::nanosleep(&timespec_of(HOUR), ptr::null_mut()) };
                assert_eq!(result(told), Err(libc::EINTR));
            },
            || assert_eq!(usleep(c_uint::MAX), Err(libc::EINTR)),
            || assert_eq!(sleep(c_uint::MAX), 0),
        ];
        for call in calls {
            let told = Rc::clone(&told);
            let sleeper = asleep(move || {
                call();
                told.set(told.get() + 1);
            });
            sleeper.kill();
        }
        assert_eq!(told.get(), 6);
    }

    fn a_timeout_ends_a_sleep() {
        monkey::patch_time();
        assert_eq!(with_timeout(ms(1), || thread::sleep(HOUR)), Err(Elapsed));
        // And one that comes when the sleep is over does not.
        assert_eq!(with_timeout(HOUR, || thread::sleep(ms(1))), Ok(()));
    }

    /// Eight times it hears of its kill, and then it is left alone: it sleeps.
    fn a_loop_that_tries_again_after_a_kill_does_not_spin() {
        monkey::patch_time();
        let tries = Rc::new(Cell::new(0));
        let here = Rc::clone(&tries);
        let sleeper = asleep(move || {
            let moment = timespec_of(now(CLOCK_MONOTONIC) + ms(50));
            loop {
                here.set(here.get() + 1);
                match clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, &mut MARK.clone()) {
                    0 => break,
                    told => assert_eq!(told, libc::EINTR),
                }
            }
        });
        greenloom::Hub::current().on_error(|_| ()); // that it refuses to be killed is no news
        sleeper.kill_nowait();
        assert!(sleeper.get().is_ok());
        assert_eq!(tries.get(), 9);
    }

    fn nor_does_one_after_a_timeout() {
        monkey::patch_time();
        let mut tries = 0;
        let ended = with_timeout(ms(1), || {
            let moment = timespec_of(now(CLOCK_MONOTONIC) + ms(50));
            loop {
                tries += 1;
                if clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, &mut MARK.clone()) == 0 {
                    break;
                }
            }
        });
        assert_eq!((ended, tries), (Err(Elapsed), 9));
    }

    /// Or a loop that waits for another's move by yielding would keep him from making it.
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn yielding_goes_on_after_a_kill_and_after_a_timeout() {
        monkey::patch_time();
        let moved = Rc::new(Cell::new(0));
        let here = Rc::clone(&moved);
        let yielder = spawn(move || {
            let told = catch_interrupt(|| {
                while here.get() < 100 {
                    assert_eq!((sched_yield(), usleep(0)), (0, Ok(())));
                }
                yield_now();
            });
            assert!(told.unwrap_err().is_kill(), "it has not been forgotten");
        });
        yield_now();
        yielder.kill_nowait();
        for _ in 0..100 {
            moved.set(moved.get() + 1);
            yield_now();
        }
        assert!(yielder.get().is_ok());

        let moved = Rc::new(Cell::new(0));
        let here = Rc::clone(&moved);
        let mover = spawn(move || {
            thread::sleep(ms(5));
            here.set(1);
        });
        let ended = with_timeout(ms(1), || {
            while moved.get() == 0 {
                thread::yield_now();
            }
            yield_now();
        });
        assert_eq!((ended, moved.get()), (Err(Elapsed), 1));
        mover.join();
    }
}

// ── errors ──

/// Every kind of wrong argument, and what the kernel says to it.
fn what_is_wrong_is_told() {
    let said = |clock, flags, request: *const timespec| {
        set_errno(7);
        let said = clock_nanosleep(clock, flags, request, &mut MARK.clone());
        assert_eq!(errno(), 7, "its errors are returned, and nothing else");
        said
    };
    let nowhere = ptr::without_provenance(8);
    let bad: [timespec; 4] = [
        timespec { tv_sec: -1, tv_nsec: 0 },
        timespec { tv_sec: 0, tv_nsec: -1 },
        timespec { tv_sec: 0, tv_nsec: 1_000_000_000 },
        timespec { tv_sec: i64::MIN, tv_nsec: i64::MIN },
    ];
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI] {
        for flags in [0, TIMER_ABSTIME] {
            assert_eq!(said(clock, flags, ptr::null()), libc::EFAULT);
            assert_eq!(said(clock, flags, nowhere), libc::EFAULT);
            for bad in &bad {
                assert_eq!(said(clock, flags, bad), libc::EINVAL);
            }
        }
        assert_eq!(said(clock, 6, &NOTHING), 0, "other flags are ignored");
    }
    for clock in [-1, 77, libc::CLOCK_THREAD_CPUTIME_ID] {
        assert_eq!(said(clock, 0, &NOTHING), libc::EINVAL);
        assert_eq!(said(clock, 0, &timespec_of(HOUR)), libc::EINVAL);
    }
    assert_eq!(said(libc::CLOCK_MONOTONIC_RAW, 0, &timespec_of(HOUR)), libc::EOPNOTSUPP);
    assert_eq!(said(libc::CLOCK_PROCESS_CPUTIME_ID, 0, &NOTHING), 0);
    assert_eq!(nanosleep(ptr::null(), &mut MARK.clone()), Err(libc::EFAULT));
    assert_eq!(nanosleep(nowhere, &mut MARK.clone()), Err(libc::EFAULT));
    for bad in &bad {
        assert_eq!(nanosleep(bad, &mut MARK.clone()), Err(libc::EINVAL));
    }
}

alone! {
    fn errors_are_the_kernel_s() {
        what_is_wrong_is_told(); // by the kernel
        monkey::patch_time();
        what_is_wrong_is_told(); // without a hub
        spawn(what_is_wrong_is_told).get().unwrap();
    }

    fn errno_is_left_alone() {
        monkey::patch_time();
        spawn(|| {
            let meddler = spawn(|| {
                for _ in 0..100 {
                    set_errno(99);
                    yield_now();
                }
            });
            let calls: [fn(); 6] = [
                || thread::sleep(ms(1)),
                || assert_eq!(sched_yield(), 0),
                || assert_eq!(usleep(0), Ok(())),
                || assert_eq!(usleep(100), Ok(())),
                || assert_eq!(nanosleep(&timespec_of(ms(1)), &mut MARK.clone()), Ok(())),
                || assert_eq!(sleep(0), 0),
            ];
            for call in calls {
                set_errno(7);
                call();
                assert_eq!(errno(), 7);
            }
            meddler.kill();
        })
        .get()
        .unwrap();
    }
}

// ── where it is the kernel's ──

/// One after the other: a call that is the kernel's holds up its thread.
fn in_turns(call: fn()) {
    let order = Rc::new(RefCell::new(String::new()));
    let greenlets = ["a", "b"].map(|name| {
        let order = Rc::clone(&order);
        spawn(move || {
            order.borrow_mut().push_str(name);
            call();
            order.borrow_mut().push_str(name);
        })
    });
    joinall(&greenlets);
    assert_eq!(*order.borrow(), "aabb");
}

const ALL: [fn(); 6] = [
    || thread::sleep(ms(2)),
    || assert_eq!(clock_nanosleep(CLOCK_REALTIME, 0, &timespec_of(ms(2)), &mut MARK.clone()), 0),
    || assert_eq!(nanosleep(&timespec_of(ms(2)), &mut MARK.clone()), Ok(())),
    || assert_eq!(usleep(2000), Ok(())),
    || assert_eq!(sleep(1), 0),
    || assert_eq!(sched_yield(), 0),
];

alone! {
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn unpatched_it_is_the_kernel_s() {
        monkey::patch_all_except([monkey::Patch::Time]);
        ALL.iter().for_each(|call| in_turns(*call));
        assert!(!monkey::is_patched(monkey::Patch::Time));
        assert!(monkey::report().to_string().contains("clock_nanosleep"));
    }

    /// A thread without a hub does not get one, and a signal ends its sleep.
    fn without_a_hub_it_is_the_kernel_s() {
        /// Of an hour. (A timer may be late by a little, which counts as left.)
        const MOST: RangeInclusive<i64> = 3500..=3600;
        extern "C" fn heard(_: c_int) {}
        monkey::patch_all();
        let handler = heard as extern "C" fn(c_int);
        // SAFETY: a handler that does nothing.
        unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        let calls: [fn(); 4] = [
            || {
                let mut left = MARK;
                let told = clock_nanosleep(CLOCK_MONOTONIC, 0, &timespec_of(HOUR), &mut left);
                assert_eq!(told, libc::EINTR);
                assert!(MOST.contains(&left.tv_sec));
            },
            || {
                let mut left = MARK;
                assert_eq!(nanosleep(&timespec_of(HOUR), &mut left), Err(libc::EINTR));
                assert!(MOST.contains(&left.tv_sec));
            },
            || assert_eq!(usleep(c_uint::MAX), Err(libc::EINTR)),
            || assert!(MOST.contains(&i64::from(sleep(3600)))),
        ];
        for call in calls {
            let sleeper = thread::spawn(call);
            // Again and again, because one that comes before it sleeps is lost.
            while !sleeper.is_finished() {
                // SAFETY: the thread has not been joined.
                unsafe { libc::pthread_kill(sleeper.as_pthread_t(), libc::SIGUSR1) };
                thread::yield_now();
            }
            sleeper.join().unwrap();
        }
        thread::spawn(|| assert_eq!(sched_yield(), 0)).join().unwrap();
    }

    /// Time that the process uses is the kernel's to count.
    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn by_the_time_that_is_used_it_is_the_kernel_s() {
        monkey::patch_time();
        in_turns(|| {
            thread::spawn(|| while now(libc::CLOCK_PROCESS_CPUTIME_ID) < HOUR {});
            let time = timespec_of(ms(2));
            let clock = libc::CLOCK_PROCESS_CPUTIME_ID;
            assert_eq!(clock_nanosleep(clock, 0, &time, &mut MARK.clone()), 0);
        });
    }
}
