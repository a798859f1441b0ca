//! Signals: handlers in greenlets, waits, listeners; what is installed, and that it goes again.
//!
//! Signals are the whole process's. So every test runs in a process of its own, which is this very
//! binary, started again for that one test; some of them are to die there.

mod net_util;
mod util;

use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{self, Command, Output};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{env, fs, io, thread};

use greenloom::signal::{
    self, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE,
    SIGQUIT, SIGSEGV, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signal, Signals,
};
use greenloom::sync::Event;
use greenloom::{Waitable, dump, sleep, spawn, wait_any, with_timeout};
use net_util::{eventually, is_child, stderr_of};
use util::{
    HOUR, Living, Log, MINUTE, at_drop, blocks_forever, message, ms, reports, settle, swallow,
    until, until_parked, within,
};

/// Runs `body` in a process of its own: `name` is that of the calling test.
fn alone(name: &str, body: impl FnOnce() + Send + 'static) -> Option<Output> {
    if is_child() {
        within(MINUTE, body);
        return None;
    }
    // Whoever runs the tests in the background of a shell has them ignore SIGINT, and the child too.
    let mut program = Command::new("env");
    program.arg("--default-signal").arg(env::current_exe().unwrap());
    Some(start(program, name))
}

fn start(mut program: Command, name: &str) -> Output {
    program
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("GREENLOOM_TEST_CHILD", "1")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

/// The body is to come to its end.
fn passes(name: &str, body: impl FnOnce() + Send + 'static) {
    if let Some(child) = alone(name, body) {
        assert!(child.status.success(), "{:?}: {}", child.status, stderr_of(&child));
        let stdout = String::from_utf8_lossy(&child.stdout);
        assert!(stdout.contains("1 passed"), "no such test? {stdout}");
    }
}

/// The body is to be ended by that signal.
fn dies_of(signal: Signal, name: &str, body: impl FnOnce() + Send + 'static) {
    let body = || {
        body();
        // Not by a panic, which would be another end.
        io::Write::write_all(&mut io::stderr(), b"it lives").unwrap();
    };
    if let Some(child) = alone(name, body) {
        assert_eq!(child.status.signal(), Some(signal.as_raw()), "{}", stderr_of(&child));
    }
}

fn raise(signal: Signal) {
    signal::raise(signal).unwrap();
}

/// A handler that counts.
fn counting(signal: Signal) -> (signal::Registration, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    (signal::on(signal, move |_| counter.set(counter.get() + 1)), count)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    dump().greenlets().len()
}

/// Everything is back to where it was, once those who were told to go have had their turn.
#[track_caller]
fn leaves_nothing(body: impl FnOnce()) {
    signal::wait_timeout(SIGWINCH, ms(0)); // the hub has its poller
    settle();
    let before = (descriptors(), tasks());
    body();
    settle();
    assert_eq!((descriptors(), tasks()), before);
}

#[test]
fn smoke() {
    passes("smoke", || {
        let (_, count) = counting(SIGUSR1);
        for n in 1..=3 {
            raise(SIGUSR1);
            until(|| count.get() == n);
        }
    });
}

// ── Handlers ──

/// X5: "signal handler greenlet may block; handler stays installed"
#[test]
fn a_handler_runs_in_a_greenlet_of_its_own_and_may_wait() {
    passes("a_handler_runs_in_a_greenlet_of_its_own_and_may_wait", || {
        let log = Log::new();
        let handler_log = log.clone();
        let gate = Event::new();
        let waits_for = gate.clone();
        signal::on(SIGUSR1, move |signal| {
            handler_log.say(format!("{signal} in {}", greenloom::current().name()));
            waits_for.wait();
            handler_log.say("on");
        });
        raise(SIGUSR1);
        until(|| log.len() == 1);
        raise(SIGUSR1); // beside the first
        until(|| log.len() == 2);
        gate.set();
        until(|| log.len() == 4);
        log.assert_is(["SIGUSR1 in on SIGUSR1", "SIGUSR1 in on SIGUSR1", "on", "on"]);
    });
}

#[test]
fn handlers_are_called_in_the_order_in_which_they_came() {
    passes("handlers_are_called_in_the_order_in_which_they_came", || {
        let log = Log::new();
        for name in ["first", "second", "third"] {
            let log = log.clone();
            signal::on(SIGUSR1, move |_| log.say(name));
        }
        raise(SIGUSR1);
        until(|| log.len() == 3);
        if cfg!(hard_switch) {
            log.assert_has_all(["first", "second", "third"]);
        } else {
            log.assert_is(["first", "second", "third"]);
        }
    });
}

/// X5: "exception in it" is reported, and "handler stays installed"
#[test]
fn a_panic_of_a_handler_is_reported_and_the_handler_stays() {
    passes("a_panic_of_a_handler_is_reported_and_the_handler_stays", || {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        signal::on(SIGUSR1, move |_| {
            counter.set(counter.get() + 1);
            assert!(counter.get() > 2, "not yet");
        });
        for n in 1..=3 {
            raise(SIGUSR1);
            until(|| count.get() == n);
        }
        settle();
        let reports = reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports.iter().all(|report| report.name == "on SIGUSR1"), "{reports:?}");
        assert!(reports.iter().all(|report| report.text.ends_with("panicked: not yet")));
    });
}

/// gevent's watcher lives as long as its object; ours until it is cancelled.
#[test]
fn a_dropped_registration_leaves_the_handler_where_it_is() {
    passes("a_dropped_registration_leaves_the_handler_where_it_is", || {
        let (registration, count) = counting(SIGUSR1);
        drop(registration);
        settle();
        raise(SIGUSR1);
        until(|| count.get() == 1);
    });
}

/// Semantics 78: "cancel → not called"
#[test]
fn a_cancelled_handler_is_not_called() {
    passes("a_cancelled_handler_is_not_called", || {
        let (registration, count) = counting(SIGWINCH);
        let (_, other) = counting(SIGWINCH);
        let clone = registration.clone();
        assert!(registration.is_active());
        assert_eq!(registration.signal(), SIGWINCH);
        assert!(clone.cancel());
        assert!(!registration.cancel() && !registration.is_active());
        raise(SIGWINCH);
        until(|| other.get() == 1);
        settle();
        assert_eq!(count.get(), 0);
    });
}

#[test]
fn what_has_not_begun_when_it_is_cancelled_never_does() {
    passes("what_has_not_begun_when_it_is_cancelled_never_does", || {
        let (registration, count) = counting(SIGWINCH);
        let (_, other) = counting(SIGWINCH);
        let listener = Signals::new([SIGWINCH]).unwrap();
        raise(SIGWINCH);
        assert!(listener.is_ready()); // by now the handlers' greenlets are made
        registration.cancel();
        until(|| other.get() == 1);
        settle();
        assert_eq!(count.get(), 0);
    });
}

#[test]
fn a_handler_can_cancel_itself_and_install_another() {
    passes("a_handler_can_cancel_itself_and_install_another", || {
        let log = Log::new();
        let (first_log, own) = (log.clone(), Rc::new(RefCell::new(None::<signal::Registration>)));
        let myself = Rc::clone(&own);
        let registration = signal::on(SIGWINCH, move |_| {
            first_log.say("first");
            let second_log = first_log.clone();
            signal::on(SIGWINCH, move |_| second_log.say("second"));
            assert!(myself.take().unwrap().cancel());
        });
        own.replace(Some(registration));
        raise(SIGWINCH);
        until(|| log.len() == 1);
        raise(SIGWINCH);
        until(|| log.len() == 2);
        log.assert_is(["first", "second"]);
    });
}

#[test]
fn what_a_handler_has_captured_goes_when_it_is_cancelled() {
    passes("what_a_handler_has_captured_goes_when_it_is_cancelled", || {
        let living = Living::new();
        let token = living.token();
        let registration = signal::on(SIGWINCH, move |_| {
            let _ = &token;
        });
        settle();
        assert_eq!(living.count(), 1);
        registration.cancel();
        assert_eq!(living.count(), 0);

        // Also when the destructor panics; nobody is the worse for it.
        let bomb = at_drop(|| panic!("in a destructor"));
        let registration = signal::on(SIGWINCH, move |_| {
            let _ = &bomb;
        });
        registration.cancel();
        assert_eq!(reports().len(), 1);
    });
}

/// Several of a kind may be merged; none is lost altogether.
#[test]
fn there_is_a_delivery_after_the_last_of_a_burst() {
    passes("there_is_a_delivery_after_the_last_of_a_burst", || {
        const BURST: usize = 20_000;
        let sent = Arc::new(AtomicUsize::new(0));
        let (reader, seen) = (Arc::clone(&sent), Rc::new(Cell::new(0)));
        let (last_seen, deliveries) = (Rc::clone(&seen), Rc::new(Cell::new(0)));
        let counter = Rc::clone(&deliveries);
        signal::on(SIGUSR1, move |_| {
            last_seen.set(reader.load(Ordering::SeqCst));
            counter.set(counter.get() + 1);
        });
        let sender = thread::spawn(move || {
            for _ in 0..BURST {
                sent.fetch_add(1, Ordering::SeqCst);
                signal::send(process::id(), SIGUSR1).unwrap();
            }
        });
        eventually(|| seen.get() == BURST);
        sender.join().unwrap();
        assert!((1..=BURST).contains(&deliveries.get()));
    });
}

// ── Waits ──

#[test]
fn everybody_who_waits_is_told() {
    passes("everybody_who_waits_is_told", || {
        let waiters: Vec<_> = (0..5).map(|_| spawn(|| signal::wait(SIGUSR1))).collect();
        waiters.iter().for_each(|waiter| until_parked(waiter.id()));
        let (_, count) = counting(SIGUSR1);
        raise(SIGUSR1);
        greenloom::joinall(&waiters);
        until(|| count.get() == 1);
    });
}

#[test]
fn every_hub_that_is_interested_is_told() {
    passes("every_hub_that_is_interested_is_told", || {
        let (tell, ready) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let tell = tell.clone();
                thread::spawn(move || {
                    let signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
                    tell.send(()).unwrap();
                    let mut heard = [signals.wait(), signals.wait()];
                    heard.sort();
                    heard
                })
            })
            .collect();
        threads.iter().for_each(|_| ready.recv().unwrap());
        raise(SIGUSR1);
        raise(SIGUSR2);
        let mut both = [Some(SIGUSR1), Some(SIGUSR2)];
        both.sort();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), both);
        }
    });
}

#[test]
fn whatever_thread_gets_the_signal_the_greenlet_is_told() {
    passes("whatever_thread_gets_the_signal_the_greenlet_is_told", || {
        let waiter = spawn(|| signal::wait(SIGUSR1));
        until_parked(waiter.id());
        // `raise` sends it to the thread that calls it, which has no hub.
        thread::spawn(|| raise(SIGUSR1)).join().unwrap();
        waiter.join();
    });
}

#[test]
fn a_hub_that_sleeps_in_the_kernel_is_woken() {
    passes("a_hub_that_sleeps_in_the_kernel_is_woken", || {
        let me = net_util::this_thread();
        let sender = thread::spawn(move || {
            net_util::until_asleep(&me);
            signal::send(process::id(), SIGTERM).unwrap();
        });
        signal::wait(SIGTERM);
        sender.join().unwrap();
    });
}

#[test]
fn wait_any_returns_which_it_was() {
    passes("wait_any_returns_which_it_was", || {
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            let waiter = spawn(|| signal::wait_any([SIGINT, SIGTERM, SIGHUP]));
            until_parked(waiter.id());
            raise(signal);
            assert_eq!(waiter.get().unwrap(), signal);
        }
    });
}

#[test]
fn plain_numbers_are_taken_too() {
    passes("plain_numbers_are_taken_too", || {
        let waiter = spawn(|| signal::wait_any([15, 2]));
        until_parked(waiter.id());
        signal::raise(15).unwrap();
        assert_eq!(waiter.get().unwrap(), SIGTERM);
        let waiter = spawn(|| signal::wait_timeout(SIGUSR1.as_raw(), HOUR));
        until_parked(waiter.id());
        signal::send(process::id(), 10_i32).unwrap();
        assert!(waiter.get().unwrap());
    });
}

#[test]
fn wait_timeout_tells_whether_it_came() {
    passes("wait_timeout_tells_whether_it_came", || {
        let start = std::time::Instant::now();
        assert!(!signal::wait_timeout(SIGUSR1, ms(20)));
        assert!(start.elapsed() >= ms(20));
        let waiter = spawn(|| signal::wait_timeout(SIGUSR1, HOUR));
        until_parked(waiter.id());
        raise(SIGUSR1);
        assert!(waiter.get().unwrap());
    });
}

/// T: "work wins over a timeout that is due in the same turn"
#[test]
fn a_signal_wins_over_the_end_of_the_time() {
    passes("a_signal_wins_over_the_end_of_the_time", || {
        let waiter = spawn(|| signal::wait_timeout(SIGUSR1, ms(10)));
        until_parked(waiter.id());
        raise(SIGUSR1);
        util::spin(ms(20)); // nobody has looked since
        assert!(waiter.get().unwrap());
    });
}

#[test]
fn a_wait_while_unwinding_returns_at_once() {
    passes("a_wait_while_unwinding_returns_at_once", || {
        let log = Log::new();
        let at_end = log.clone();
        let greenlet = spawn(move || {
            let _guard = at_drop(move || {
                signal::wait(SIGUSR1);
                at_end.say(format!("{}", signal::wait_timeout(SIGUSR1, HOUR)));
                at_end.say(format!("{:?}", Signals::new([SIGUSR1]).unwrap().wait()));
            });
            panic!("on purpose");
        });
        greenlet.join();
        log.assert_is(["false", "None"]);
        assert_eq!(reports().len(), 1);
    });
}

// ── Listeners ──

#[test]
fn a_listener_misses_nothing_between_two_waits() {
    passes("a_listener_misses_nothing_between_two_waits", || {
        let signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
        assert_eq!(signals.try_next(), None);
        raise(SIGUSR2);
        raise(SIGUSR1);
        raise(SIGUSR2);
        assert_eq!(signals.try_next(), Some(SIGUSR1)); // the lowest number first
        assert_eq!(signals.wait(), Some(SIGUSR2));
        assert_eq!(signals.wait_timeout(ms(1)), None);
        raise(SIGUSR1);
        sleep(ms(1));
        let heard: Vec<_> = (&signals).take(1).collect();
        assert_eq!(heard, [SIGUSR1]);
        assert_eq!(signals.try_next(), None);
    });
}

#[test]
fn a_listener_hears_only_what_it_listens_to() {
    passes("a_listener_hears_only_what_it_listens_to", || {
        let (one, other) = (Signals::new([SIGUSR1]).unwrap(), Signals::new([SIGUSR2]).unwrap());
        raise(SIGUSR1);
        assert_eq!(one.wait(), Some(SIGUSR1));
        assert_eq!(other.try_next(), None);
    });
}

#[test]
fn a_listener_can_be_waited_for_with_other_things() {
    passes("a_listener_can_be_waited_for_with_other_things", || {
        let (signals, stop) = (Signals::new([SIGUSR1]).unwrap(), Event::new());
        let signals = Rc::new(signals);
        let waiter = {
            let (signals, stop) = (Rc::clone(&signals), stop.clone());
            spawn(move || wait_any([&stop as &dyn Waitable, &*signals]))
        };
        until_parked(waiter.id());
        assert!(!signals.is_ready());
        raise(SIGUSR1);
        assert_eq!(waiter.get().unwrap(), 1);
        assert!(signals.is_ready()); // nothing was consumed
        assert_eq!(signals.wait(), Some(SIGUSR1));
        assert!(!signals.is_ready());
        stop.set();
        assert_eq!(wait_any([&stop as &dyn Waitable, &*signals]), 0);
    });
}

#[test]
fn several_greenlets_share_a_listener() {
    passes("several_greenlets_share_a_listener", || {
        let signals = Rc::new(Signals::new([SIGUSR1]).unwrap());
        let count = Rc::new(Cell::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (signals, count) = (Rc::clone(&signals), Rc::clone(&count));
                spawn(move || {
                    assert_eq!(signals.wait(), Some(SIGUSR1));
                    count.set(count.get() + 1);
                })
            })
            .collect();
        for n in 1..=3 {
            waiters.iter().filter(|waiter| !waiter.is_finished()).for_each(|waiter| {
                until_parked(waiter.id());
            });
            raise(SIGUSR1);
            until(|| count.get() == n);
            settle();
            assert_eq!(count.get(), n); // each signal is taken once
        }
    });
}

// ── What cannot be had ──

#[test]
fn what_cannot_be_caught_is_refused() {
    passes("what_cannot_be_caught_is_refused", || {
        for signal in [SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL] {
            assert!(!signal.can_be_caught());
            let error = signal::try_on(signal, |_| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("{signal} cannot be caught"));
            assert!(Signals::new([SIGUSR1, signal]).is_err());
            let Err(payload) = swallow(|| signal::wait(signal)) else { panic!("it waited") };
            assert!(message(&*payload).contains("cannot be caught"));
            let Err(payload) = swallow(|| signal::on(signal, |_| ())) else { panic!("it is on") };
            assert!(message(&*payload).contains("cannot be caught"));
        }
        for number in [0, -1, 65, 1000] {
            let error = signal::try_on(number, |_| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(signal::raise(number).is_err());
        }
        assert!(Signals::new::<[Signal; 0]>([]).is_err());
        assert!(swallow(|| signal::wait_any::<[Signal; 0]>([])).is_err());
        for pid in [0, u32::MAX] {
            assert!(signal::send(pid, SIGCONT).is_err());
        }
        settle();
        assert_eq!(tasks(), 1);
    });
}

#[test]
fn what_fails_halfway_leaves_nothing() {
    passes("what_fails_halfway_leaves_nothing", || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        leaves_nothing(|| {
            // Two for the pair, one for each signal: each of them is refused in turn.
            let mut refusals = 0;
            for limit in 3.. {
                let limit = Rlimit { current: Some(limit), ..before };
                setrlimit(Resource::Nofile, limit).unwrap();
                let result = Signals::new([SIGUSR1, SIGUSR2]).map(drop);
                setrlimit(Resource::Nofile, before).unwrap();
                settle();
                match result {
                    Ok(()) => break,
                    Err(_) => refusals += 1,
                }
            }
            assert!(refusals >= 3, "{refusals}");
        });
    });
}

/// However few descriptors are left, whoever is not refused hears; also on a hub that has waited
/// for nothing yet, whose poller needs one as well.
#[test]
fn what_is_not_refused_hears() {
    passes("what_is_not_refused_hears", || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        let round = move |left: u64| {
            let lowest = fs::File::open("/dev/null").unwrap();
            let lowest = std::os::fd::AsRawFd::as_raw_fd(&lowest) as u64; // free again
            let limit = Rlimit { current: Some(lowest + left), ..before };
            let heard = Rc::new(Cell::new(0));
            let hear = Rc::clone(&heard);
            setrlimit(Resource::Nofile, limit).unwrap();
            let result = signal::try_on(SIGUSR1, move |_| hear.set(hear.get() + 1));
            let listener = Signals::new([SIGUSR1]);
            settle(); // so that the one that reads begins
            setrlimit(Resource::Nofile, before).unwrap();
            if let Ok(listener) = &listener {
                assert!(result.is_ok(), "{left} were enough for the second, and not for the first");
                raise(SIGUSR1);
                assert_eq!(listener.wait(), Some(SIGUSR1));
                until(|| heard.get() == 1);
            }
            if let Ok(registration) = result {
                assert!(registration.is_active(), "{left}");
                raise(SIGUSR1);
                eventually(|| heard.get() > 0);
            }
            drop(listener);
            heard.get() > 0
        };
        let mut refusals = 0;
        for left in 0.. {
            if thread::spawn(move || round(left)).join().unwrap() {
                break;
            }
            refusals += 1;
        }
        // The pair; what the poller has; one for the signal.
        assert!(refusals >= 3, "{refusals}");
    });
}

// ── What is installed, and that it goes again ──

#[test]
fn descriptors_and_tasks_are_back_to_their_start() {
    passes("descriptors_and_tasks_are_back_to_their_start", || {
        leaves_nothing(|| {
            let (registration, count) = counting(SIGUSR1);
            let signals = Signals::new([SIGUSR1, SIGTERM]).unwrap();
            let waiter = spawn(|| signal::wait(SIGUSR1));
            until_parked(waiter.id());
            raise(SIGUSR1);
            until(|| count.get() == 1);
            waiter.join();
            drop(signals);
            registration.cancel();
        });
        // Again and again, without a turn in between.
        leaves_nothing(|| {
            for _ in 0..100 {
                let (registration, _) = counting(SIGUSR1);
                registration.cancel();
            }
        });
    });
}

#[test]
fn a_waiter_that_is_killed_or_timed_out_leaves_nothing() {
    passes("a_waiter_that_is_killed_or_timed_out_leaves_nothing", || {
        leaves_nothing(|| {
            let waiter = spawn(|| signal::wait_any([SIGUSR1, SIGUSR2]));
            until_parked(waiter.id());
            waiter.kill();
            assert!(with_timeout(ms(1), || signal::wait(SIGUSR1)).is_err());
            assert!(!signal::wait_timeout(SIGUSR1, ms(1)));
            let shared = Rc::new(Signals::new([SIGUSR1]).unwrap());
            let both = [Rc::clone(&shared), shared].map(|shared| {
                spawn(move || {
                    shared.wait();
                })
            });
            both.iter().for_each(|waiter| until_parked(waiter.id()));
            both[0].kill();
            raise(SIGUSR1);
            both[1].join();
        });
    });
}

/// H12: "SIGINT keeps its default action unless `signal::on` is used."
#[test]
fn sigint_ends_a_program_that_does_not_ask_for_it() {
    dies_of(SIGINT, "sigint_ends_a_program_that_does_not_ask_for_it", || {
        let _other = signal::on(SIGTERM, |_| ());
        spawn(|| sleep(HOUR));
        sleep(ms(1));
        raise(SIGINT);
    });
}

#[test]
fn the_default_is_back_when_a_wait_is_over() {
    dies_of(SIGTERM, "the_default_is_back_when_a_wait_is_over", || {
        assert!(!signal::wait_timeout(SIGTERM, ms(1)));
        raise(SIGTERM);
    });
}

#[test]
fn the_default_is_back_when_a_handler_is_cancelled() {
    dies_of(SIGALRM, "the_default_is_back_when_a_handler_is_cancelled", || {
        let (registration, count) = counting(SIGALRM);
        raise(SIGALRM);
        until(|| count.get() == 1);
        registration.cancel();
        raise(SIGALRM);
    });
}

#[test]
fn the_default_is_back_when_a_waiter_is_killed() {
    dies_of(SIGQUIT, "the_default_is_back_when_a_waiter_is_killed", || {
        let waiter = spawn(|| signal::wait(SIGQUIT));
        until_parked(waiter.id());
        waiter.kill();
        raise(SIGQUIT);
    });
}

#[test]
fn the_default_is_back_when_a_thread_has_ended() {
    dies_of(SIGUSR1, "the_default_is_back_when_a_thread_has_ended", || {
        thread::spawn(|| {
            signal::on(SIGUSR1, |_| ());
        })
        .join()
        .unwrap();
        raise(SIGUSR1);
    });
}

#[test]
fn the_default_is_not_back_while_another_hub_is_interested() {
    dies_of(SIGUSR1, "the_default_is_not_back_while_another_hub_is_interested", || {
        let (_registration, count) = counting(SIGUSR1);
        thread::spawn(|| {
            signal::on(SIGUSR1, |_| ());
        })
        .join()
        .unwrap();
        raise(SIGUSR1);
        until(|| count.get() == 1);
        _registration.cancel();
        raise(SIGUSR1);
    });
}

#[test]
fn a_signal_without_a_name_is_taken_and_given_back() {
    let name = "a_signal_without_a_name_is_taken_and_given_back";
    let child = alone(name, || {
        let signal = Signal::from_raw(40).unwrap();
        assert_eq!(signal.to_string(), "signal 40");
        let (registration, count) = counting(signal);
        raise(signal);
        until(|| count.get() == 1);
        registration.cancel();
        raise(signal);
        panic!("it lives");
    });
    if let Some(child) = child {
        assert_eq!(child.status.code(), Some(128 + 40), "{}", stderr_of(&child));
    }
}

#[test]
fn what_was_ignored_is_ignored_again() {
    let name = "what_was_ignored_is_ignored_again";
    if is_child() {
        within(MINUTE, || {
            // Rust's start-up ignores SIGPIPE, and the shell below SIGHUP.
            for signal in [SIGPIPE, SIGHUP] {
                let (registration, count) = counting(signal);
                raise(signal);
                until(|| count.get() == 1);
                registration.cancel();
                raise(signal);
            }
            // SIGCHLD, SIGWINCH and SIGCONT do nothing by default.
            for signal in [SIGCHLD, SIGWINCH, SIGCONT] {
                assert!(!signal::wait_timeout(signal, ms(1)));
                raise(signal);
            }
        });
        return;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    let child = start(shell, name);
    assert!(child.status.success(), "{:?}: {}", child.status, stderr_of(&child));
}

#[test]
fn handlers_of_others_are_called_as_well() {
    passes("handlers_of_others_are_called_as_well", || {
        let others = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
        let register = |flag: &Arc<AtomicBool>| {
            signal_hook::flag::register(SIGUSR1.as_raw(), Arc::clone(flag)).unwrap();
        };
        let both = || others.iter().all(|flag| flag.swap(false, Ordering::SeqCst));
        register(&others[0]);
        let (registration, count) = counting(SIGUSR1);
        register(&others[1]);
        raise(SIGUSR1);
        until(|| count.get() == 1);
        assert!(both());
        // And go on being called when we are gone: they were there before us.
        registration.cancel();
        raise(SIGUSR1);
        assert!(both());
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn children_inherit_neither_a_mask_nor_a_handler() {
    passes("children_inherit_neither_a_mask_nor_a_handler", || {
        let status = || {
            let output = Command::new("grep").args(["^Sig", "/proc/self/status"]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let wanted = ["SigBlk", "SigIgn", "SigCgt"];
            text.lines()
                .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = status();
        assert_eq!(before.len(), 3);
        let (_registration, _) = counting(SIGTERM);
        let _signals = Signals::new([SIGINT, SIGHUP, SIGCHLD]).unwrap();
        settle();
        assert_eq!(status(), before);
        let suicide = Command::new("sh").args(["-c", "kill -TERM $$"]).status().unwrap();
        assert_eq!(suicide.signal(), Some(SIGTERM.as_raw()));
    });
}

#[test]
fn a_thread_that_ends_takes_its_handlers_and_waiters_along() {
    passes("a_thread_that_ends_takes_its_handlers_and_waiters_along", || {
        let before = descriptors();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        thread::spawn(move || {
            let token = at_drop(move || {
                count.fetch_add(1, Ordering::SeqCst);
            });
            signal::on(SIGUSR1, move |_| {
                let _ = &token;
            });
            let waiter = spawn(|| signal::wait(SIGUSR2));
            until_parked(waiter.id());
            // In a destructor of a thread-local, when the hub may be gone.
            thread_local! {
                static LATE: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) };
            }
            let late = at_drop(|| {
                signal::wait_timeout(SIGUSR1, ms(0));
            });
            LATE.set(Some(Box::new(Late(Some(late)))));
        })
        .join()
        .unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(descriptors(), before);
    });
}

/// Something with a destructor, as `Any`.
struct Late<D>(Option<D>);

/// H13: "a signal handler someone waits for: each counts as 'may wake'"
#[test]
fn whoever_may_be_woken_by_a_signal_is_not_stuck() {
    passes("whoever_may_be_woken_by_a_signal_is_not_stuck", || {
        let (registration, gate) = (Rc::new(RefCell::new(None)), Event::new());
        let (myself, opens) = (Rc::clone(&registration), gate.clone());
        registration.replace(Some(signal::on(SIGWINCH, move |_| {
            opens.set();
            assert!(myself.take().is_some_and(|own: signal::Registration| own.cancel()));
        })));
        let me = net_util::this_thread();
        let sender = thread::spawn(move || {
            net_util::until_asleep(&me);
            raise(SIGWINCH);
        });
        gate.wait();
        sender.join().unwrap();
        gate.clear();
        settle();
        let report = blocks_forever(|| gate.wait());
        assert!(report.contains("Event"), "{report}");
    });
}
