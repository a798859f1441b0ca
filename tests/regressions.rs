//! What once went wrong: each test names a defect that somebody found by reading or by breaking.
//!
//! Where a defect took the process down, or where the test changes something that belongs to the
//! whole process, the scene is played in a process of its own: an ignored test of this very binary.

mod net_util;
mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::env;
use std::fs;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic;
use std::process::{self, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use greenloom::io::Io;
use greenloom::net::TcpStream;
use greenloom::raw::Coroutine;
use greenloom::{
    BlocksForever, Hub, Waitable, current, greenlet_local, joinall, pool, queue, scope, sleep,
    spawn, spawn_later, sync, wait_any, wait_any_timeout, yield_now,
};
use net_util::{hang_guard, in_child, is_child, parked_for, stderr_of};
use socket2::SockRef;
use tracing::{Event, Id, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use util::{
    HOUR, Living, Log, MINUTE, at_drop, message, ms, reports, settle, spin, stuck, swallow,
    tcp_pair, until, until_parked, within,
};

/// The greenlets of this thread can wait, and end, as ever.
#[track_caller]
fn all_is_well() {
    let greenlet = spawn(|| {
        sleep(ms(1));
        7
    });
    assert_eq!(greenlet.get().unwrap(), 7);
    sleep(ms(1));
    assert!(current().is_main());
}

/// Runs the ignored test `name` in a process of its own, which must pass.
#[track_caller]
fn passes_alone(name: &str) {
    let _guard = hang_guard();
    let child = in_child(name);
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{}: {stdout}{}", child.status, stderr_of(&child));
    assert!(stdout.contains("1 passed"), "{stdout}");
}

/// Runs the ignored test `name` in a process of its own, which must end with status 3.
#[track_caller]
fn exits_with_3(name: &str) {
    let _guard = hang_guard();
    let child = in_child(name);
    assert_eq!(child.status.code(), Some(3), "{}: {}", child.status, stderr_of(&child));
}

/// Does not like to be dropped.
#[derive(Debug)]
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("broken, on purpose");
    }
}

#[test]
fn smoke() {
    within(MINUTE, all_is_well);
}

// -------------------------------------------- a panic on its way out of a greenlet

#[test]
#[ignore = "run by a_failure_needs_no_standard_error in a process of its own"]
fn child_fails_with_a_closed_standard_error() {
    if is_child() {
        let greenlet = spawn(|| panic!("boom"));
        greenlet.join();
        assert!(greenlet.get().unwrap_err().is_panic());
        all_is_well();
        let stuck = stuck();
        let report = swallow(|| stuck.join()).unwrap_err();
        assert!(report.is::<BlocksForever>());
        all_is_well();
    }
}

/// The default error hook panicked when standard error was a closed pipe, and that panic came out
/// in the middle of the main greenlet's wait.
#[test]
fn a_failure_needs_no_standard_error() {
    let _guard = hang_guard();
    let (closed, peer) = UnixStream::pair().unwrap();
    drop(peer);
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_fails_with_a_closed_standard_error", "--ignored", "--nocapture"])
        .arg("--test-threads=1")
        .env("GREENLOOM_TEST_CHILD", "1")
        .stderr(Stdio::from(OwnedFd::from(closed)))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{}: {stdout}", child.status);
    assert!(stdout.contains("1 passed"), "{stdout}");
}

/// Calls a function with each thing a subscriber is told, in one word.
struct Told(fn(&'static str));

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        (self.0)("event");
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        (self.0)("enter");
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        (self.0)("exit");
    }
}

/// Makes it the subscriber of the whole process.
fn subscribe(told: fn(&'static str)) {
    tracing::subscriber::set_global_default(Registry::default().with(Told(told))).unwrap();
}

fn panics_at_events(word: &'static str) {
    assert!(word != "event", "the subscriber, on purpose");
}

#[test]
#[ignore = "run by a_subscriber_may_panic_at_a_failure in a process of its own"]
fn child_fails_and_the_subscriber_panics() {
    if is_child() {
        within(MINUTE, || {
            subscribe(panics_at_events);
            let greenlet = spawn(|| panic!("boom"));
            greenlet.join();
            assert!(greenlet.get().unwrap_err().is_panic());
            assert_eq!(reports().len(), 1, "the hook hears of it all the same");
            all_is_well();
        });
    }
}

/// A panic of the subscriber that was told of a panic came out in somebody else's wait.
#[test]
fn a_subscriber_may_panic_at_a_failure() {
    passes_alone("child_fails_and_the_subscriber_panics");
}

#[test]
#[ignore = "run by a_subscriber_may_panic_while_a_thread_ends in a process of its own"]
fn child_leaks_and_the_subscriber_panics() {
    if is_child() {
        subscribe(panics_at_events);
        let thread = thread::spawn(|| {
            let stubborn = spawn(|| {
                loop {
                    let _refused = swallow(|| sleep(HOUR));
                }
            });
            until_parked(stubborn.id());
        });
        thread.join().unwrap();
    }
}

/// So did one that was told of a leak, out of a thread-local destructor: the process aborted.
#[test]
fn a_subscriber_may_panic_while_a_thread_ends() {
    passes_alone("child_leaks_and_the_subscriber_panics");
}

#[test]
#[ignore = "run by a_hook_may_panic_with_a_fragile_payload in a process of its own"]
fn child_has_a_hook_with_a_fragile_payload() {
    if is_child() {
        within(MINUTE, || {
            Hub::current().on_error(|_| panic::panic_any(Fragile));
            let greenlet = spawn(|| panic!("boom"));
            greenlet.join();
            assert!(greenlet.get().unwrap_err().is_panic());
            all_is_well();
        });
    }
}

/// The panic of an error hook was caught, but not that of its payload's destructor.
#[test]
fn a_hook_may_panic_with_a_fragile_payload() {
    passes_alone("child_has_a_hook_with_a_fragile_payload");
}

#[test]
#[ignore = "run by a_fragile_value_may_be_left_in_a_switch in a process of its own"]
fn child_leaves_a_fragile_value_in_a_switch() {
    if is_child() {
        within(MINUTE, || {
            let coroutine = Coroutine::<Option<Fragile>>::new(|_| {
                sleep(ms(10));
                None
            });
            let again = coroutine.clone();
            let first = spawn(move || {
                coroutine.switch(None);
            });
            until_parked(first.id());
            // The coroutine waits for something else, and nobody will ever take the value.
            let second = spawn(move || {
                again.switch(Some(Fragile));
            });
            until_parked(second.id());
            first.kill();
            second.kill();
            drop((first, second));
            sleep(ms(30));
            all_is_well();
            reports();
        });
    }
}

/// A value that a killed greenlet had sent to a coroutine, in vain, panicked when it was dropped;
/// that came out in the main greenlet's wait.
#[test]
fn a_fragile_value_may_be_left_in_a_switch() {
    passes_alone("child_leaves_a_fragile_value_in_a_switch");
}

// ------------------------------------------------------- locals made after the end

greenlet_local! {
    static KEPT: RefCell<Option<Box<dyn Any>>> = RefCell::new(None);
    static MARK: Cell<u32> = Cell::new(0);
}

/// When a greenlet is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linked {
    BeforeItsEnd,
    AfterItsEnd,
}

/// Lets a link, which is called when its greenlet has ended, make a local that does `at_end` when
/// it is dropped.
fn keep_in_a_link(linked: Linked, at_end: impl FnOnce() + 'static) {
    let greenlet = spawn(yield_now);
    if linked == Linked::AfterItsEnd {
        greenlet.join();
    }
    greenlet.link(|_| KEPT.with(|kept| *kept.borrow_mut() = Some(Box::new(at_drop(at_end)))));
    greenlet.join();
    settle();
}

/// Locals that a link made were dropped in the loop: a destructor that waited ended the main
/// greenlet with "blocks forever".
#[test]
fn a_link_may_leave_a_local_that_waits() {
    within(MINUTE, || {
        for linked in [Linked::BeforeItsEnd, Linked::AfterItsEnd] {
            let log = Log::new();
            let said = log.clone();
            keep_in_a_link(linked, move || {
                said.say(current().is_main());
                sleep(ms(1));
                said.say("slept");
            });
            sleep(ms(5));
            until(|| log.len() == 2);
            log.assert_is(["false", "slept"]);
            all_is_well();
        }
    });
}

/// One that panicked did so in the main greenlet's wait.
#[test]
fn a_link_may_leave_a_local_that_panics() {
    within(MINUTE, || {
        for linked in [Linked::BeforeItsEnd, Linked::AfterItsEnd] {
            keep_in_a_link(linked, || panic!("broken, on purpose"));
            sleep(ms(5));
            let reports = reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].text.contains("broken, on purpose"), "{reports:?}");
            assert_ne!(reports[0].name, "main");
            all_is_well();
        }
    });
}

/// One that made a local of its own made it for whoever got the greenlet's slot next.
#[test]
fn a_local_made_at_the_end_is_not_inherited() {
    within(MINUTE, || {
        for linked in [Linked::BeforeItsEnd, Linked::AfterItsEnd] {
            keep_in_a_link(linked, || MARK.with(|mark| mark.set(99)));
            let heirs: Vec<_> = (0..8).map(|_| spawn(|| MARK.with(Cell::get))).collect();
            for heir in heirs {
                assert_eq!(heir.get().unwrap(), 0);
            }
            assert_eq!(MARK.with(Cell::get), 0);
        }
    });
}

// --------------------------------------------------- subscribers in the midst of waits

#[test]
#[ignore = "run by a_subscriber_may_wait_when_a_span_is_left in a process of its own"]
fn child_waits_when_a_span_is_left() {
    if is_child() {
        within(MINUTE, || {
            subscribe(|word| {
                if word == "exit" {
                    yield_now();
                }
            });
            let greenlet = spawn(|| {
                let span = info_span!("span");
                let _entered = span.enter();
                let sleeper = spawn(|| sleep(ms(20)));
                sleeper.join_timeout(HOUR)
            });
            assert!(greenlet.get().unwrap());
            all_is_well();
        });
    }
}

/// A wait leaves the spans that are entered. It did so when it had begun: a subscriber that waited
/// in `exit` took away its ticket, and it never ended.
#[test]
fn a_subscriber_may_wait_when_a_span_is_left() {
    passes_alone("child_waits_when_a_span_is_left");
}

/// Calls so far of a subscriber that acts once.
static CALLS: AtomicUsize = AtomicUsize::new(0);

#[test]
#[ignore = "run by a_subscriber_may_wait_when_a_span_is_entered_again in a process of its own"]
fn child_waits_when_a_span_is_entered_again() {
    if is_child() {
        within(MINUTE, || {
            subscribe(|word| {
                // The first is that of the scene itself.
                if word == "enter" && CALLS.fetch_add(1, Ordering::SeqCst) == 1 {
                    sleep(ms(1));
                }
            });
            let sleeper = spawn(|| sleep(ms(20)));
            let span = info_span!("span");
            let _entered = span.enter();
            assert_eq!(wait_any_timeout([&sleeper], HOUR), Some(0));
            assert!(CALLS.load(Ordering::SeqCst) > 2);
            all_is_well();
        });
    }
}

/// One that waited when they were entered again left its own answer in the place of the wait's: a
/// wait that had been served said that its time was over.
#[test]
fn a_subscriber_may_wait_when_a_span_is_entered_again() {
    passes_alone("child_waits_when_a_span_is_entered_again");
}

/// A scene in which the subscriber panics at the `nth` time that it is told `word`, at a wait.
fn panics_at_a_wait(told: fn(&'static str)) {
    within(MINUTE, move || {
        subscribe(told);
        let woken = Log::new();
        let said = woken.clone();
        let bystander = spawn(move || {
            sleep(ms(1));
            said.say("woken");
        });
        {
            let span = info_span!("span");
            let _entered = span.enter();
            sleep(ms(5));
        }
        assert!(CALLS.load(Ordering::SeqCst) > 1);
        bystander.join();
        woken.assert_is(["woken"]);
        all_is_well();
    });
}

#[test]
#[ignore = "run by a_subscriber_may_panic_when_a_span_is_left in a process of its own"]
fn child_panics_when_a_span_is_left() {
    if is_child() {
        panics_at_a_wait(|word| {
            assert!(
                word != "exit" || CALLS.fetch_add(1, Ordering::SeqCst) != 0,
                "the subscriber, on purpose"
            );
        });
    }
}

/// One that panicked in `exit` unwound a wait that had begun: the main greenlet was taken for
/// parked while it ran.
#[test]
fn a_subscriber_may_panic_when_a_span_is_left() {
    passes_alone("child_panics_when_a_span_is_left");
}

#[test]
#[ignore = "run by a_subscriber_may_panic_when_a_span_is_entered_again in a process of its own"]
fn child_panics_when_a_span_is_entered_again() {
    if is_child() {
        panics_at_a_wait(|word| {
            assert!(
                word != "enter" || CALLS.fetch_add(1, Ordering::SeqCst) != 1,
                "the subscriber, on purpose"
            );
        });
    }
}

/// One that panicked in `enter` unwound a wait whose answer nobody had read.
#[test]
fn a_subscriber_may_panic_when_a_span_is_entered_again() {
    passes_alone("child_panics_when_a_span_is_entered_again");
}

// ------------------------------------------------------------- the end of the process

#[test]
#[ignore = "run by exit_in_the_panic_hook_ends_the_process in a process of its own"]
fn child_exits_in_the_panic_hook() {
    if is_child() {
        panic::set_hook(Box::new(|_| process::exit(3)));
        let spinner = spawn(|| {
            loop {
                yield_now();
            }
        });
        until(|| spinner.is_started());
        panic!("on purpose");
    }
}

/// `exit` in a panic hook, while the main greenlet panicked, took the hub down on the way out, and
/// greenlets that would not end in such a state kept the process alive.
#[test]
fn exit_in_the_panic_hook_ends_the_process() {
    exits_with_3("child_exits_in_the_panic_hook");
}

#[test]
#[ignore = "run by exit_in_a_destructor_ends_the_process in a process of its own"]
fn child_exits_in_a_destructor() {
    if is_child() {
        let spinner = spawn(|| {
            loop {
                sleep(ms(0));
            }
        });
        until(|| spinner.is_started());
        let parked = spawn(|| sleep(HOUR));
        until_parked(parked.id());
        let _exits = at_drop(|| process::exit(3));
        panic!("on purpose");
    }
}

/// The same, from a destructor while the main greenlet unwinds.
#[test]
fn exit_in_a_destructor_ends_the_process() {
    exits_with_3("child_exits_in_a_destructor");
}

// ----------------------------------------------------------------------------- links

/// The last link was unlinked before its turn, the runner it had got was still to come, and the
/// next link got a second one: `get` found the result borrowed by the one that slept, and panicked.
#[test]
fn a_link_after_an_unlink_gets_no_second_runner() {
    within(MINUTE, || {
        let greenlet = spawn(|| 1);
        greenlet.join();
        let id = greenlet.link(|_| ());
        assert!(greenlet.unlink(id));
        let log = Log::new();
        let said = log.clone();
        greenlet.link(move |_| {
            said.say("began");
            sleep(ms(50));
            said.say("ended");
        });
        sleep(ms(10));
        assert_eq!(greenlet.get().unwrap(), 1);
        log.assert_is(["began", "ended"]);
    });
}

/// So links ran at the same time, too.
#[test]
fn links_never_overlap() {
    within(MINUTE, || {
        let greenlet = spawn(|| 1);
        greenlet.join();
        let (log, inside) = (Log::new(), Rc::new(Cell::new(0)));
        for round in 0..4 {
            let id = greenlet.link(|_| ());
            assert!(greenlet.unlink(id));
            for _ in 0..2 {
                let (log, inside) = (log.clone(), inside.clone());
                greenlet.link(move |_| {
                    inside.set(inside.get() + 1);
                    log.say(inside.get());
                    sleep(ms(2));
                    inside.set(inside.get() - 1);
                });
            }
            if round % 2 == 1 {
                sleep(ms(1));
            }
        }
        until(|| log.len() == 8);
        assert_eq!(greenlet.get().unwrap(), 1);
        log.assert_is(["1"; 8]);
    });
}

// --------------------------------------------------------------------------- sockets

/// A read that gives less than there was room for was taken to have emptied the socket. It had only
/// come to the mark that urgent data leaves, and what lay behind it was never announced again.
#[test]
fn urgent_data_does_not_stop_a_reader() {
    within(MINUTE, || {
        let (ours, mut theirs) = tcp_pair();
        theirs.set_read_timeout(Some(ms(10_000))).unwrap();
        let reader = spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), [0; 100]);
            while all.len() < 6 {
                let n = theirs.read(&mut buffer).unwrap();
                assert_ne!(n, 0);
                all.extend_from_slice(&buffer[..n]);
            }
            all
        });
        until_parked(reader.id());
        let socket = SockRef::from(&ours);
        socket.send(b"abc").unwrap();
        socket.send_out_of_band(b"X").unwrap();
        socket.send(b"def").unwrap();
        // Nothing more is to come, not even the end.
        assert_eq!(reader.get().unwrap(), b"abcdef");
        drop(ours);
    });
}

thread_local! {
    static LAST_WORDS: RefCell<Option<BufWriter<TcpStream>>> = const { RefCell::new(None) };
}

#[test]
#[ignore = "run by a_socket_may_be_written_after_the_hub in a process of its own"]
fn child_writes_after_the_hub() {
    if is_child() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            // Thread-locals go last made first, so this one outlives the hub.
            LAST_WORDS.with(|_| ());
            let stream = TcpStream::connect(address).unwrap();
            let mut out = BufWriter::new(stream);
            out.write_all(b"last words").unwrap();
            LAST_WORDS.set(Some(out));
        });
        let (mut peer, _) = listener.accept().unwrap();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        thread.join().unwrap();
        assert_eq!(heard, "last words");
    }
}

/// To write to a socket after the hub had ended panicked; in a thread-local's destructor, where
/// buffered writers do it, that aborts.
#[test]
fn a_socket_may_be_written_after_the_hub() {
    passes_alone("child_writes_after_the_hub");
}

// ---------------------------------------------------------------------------- timers

/// The hub looked at its timers at each 64th switch, however long those were.
#[test]
fn long_turns_do_not_hold_up_timers() {
    within(MINUTE, || {
        let (turns, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (turns, done) = (turns.clone(), done.clone());
                spawn(move || {
                    until(|| {
                        spin(ms(1));
                        turns.set(turns.get() + 1);
                        done.get()
                    });
                })
            })
            .collect();
        // The hub learns how long a turn takes.
        until(|| turns.get() >= 200);
        let late = (0..4).map(|_| {
            let before: usize = turns.get();
            sleep(ms(5));
            turns.get() - before
        });
        let late: Vec<_> = late.collect();
        done.set(true);
        joinall(&workers);
        assert!(late.iter().all(|turns| *turns <= 40), "{late:?} turns for sleeps of 5");
    });
}

// ---------------------------------------------------------------------------- scopes

/// What a child's destructor spawned into a scope that was killing its children was killed by
/// nobody: the scope waited for it.
#[test]
fn who_comes_into_a_dying_scope_is_killed() {
    within(MINUTE, || {
        let (log, living) = (Log::new(), Living::new());
        let body = swallow(|| {
            scope(|s| {
                let (spawned, newcomers) = (log.clone(), living.clone());
                s.spawn(move || {
                    let _spawns = at_drop(|| {
                        spawned.say("spawned");
                        let token = newcomers.token();
                        s.spawn(move || {
                            let _token = token;
                            sleep(HOUR);
                        });
                    });
                    sleep(HOUR);
                });
                until(|| parked_for("sleep") == 1);
                panic!("on purpose");
            });
        });
        assert_eq!(message(body.unwrap_err().as_ref()), "on purpose");
        log.assert_is(["spawned"]);
        assert_eq!(living.count(), 0);
        all_is_well();
    });
}

/// The same, when the one in whose body the scope is was killed.
#[test]
fn who_comes_into_a_killed_scope_is_killed() {
    within(MINUTE, || {
        let (log, living) = (Log::new(), Living::new());
        let parent = {
            let (log, living) = (log.clone(), living.clone());
            spawn(move || {
                scope(|s| {
                    s.spawn(|| {
                        let _spawns = at_drop(|| {
                            log.say("spawned");
                            let token = living.token();
                            s.spawn(move || {
                                let _token = token;
                                sleep(HOUR);
                            });
                        });
                        sleep(HOUR);
                    });
                });
            })
        };
        settle();
        parent.kill();
        log.assert_is(["spawned"]);
        assert_eq!(living.count(), 0);
        assert!(parent.get().unwrap_err().is_killed());
    });
}

// ------------------------------------------------------------- the end of a thread

#[test]
#[ignore = "run by letters_may_be_fragile in a process of its own"]
fn child_gets_fragile_letters() {
    if is_child() {
        let thread = thread::spawn(|| {
            let remote = Hub::current().remote();
            for _ in 0..3 {
                let fragile = Fragile;
                remote.spawn(move || drop(fragile)).unwrap();
            }
        });
        thread.join().unwrap();
    }
}

/// What had been sent from afar and was never begun was dropped in one go: a second destructor that
/// panicked met the panic of the first, and the process aborted.
#[test]
fn letters_may_be_fragile() {
    passes_alone("child_gets_fragile_letters");
}

greenlet_local! {
    static FRAGILE: RefCell<Option<Fragile>> = RefCell::new(None);
}

#[test]
#[ignore = "run by leaked_locals_may_be_fragile in a process of its own"]
fn child_leaks_fragile_locals() {
    if is_child() {
        let thread = thread::spawn(|| {
            for _ in 0..3 {
                let stubborn = spawn(|| {
                    FRAGILE.with(|local| *local.borrow_mut() = Some(Fragile));
                    loop {
                        let _refused = swallow(|| sleep(HOUR));
                    }
                });
                until_parked(stubborn.id());
            }
        });
        thread.join().unwrap();
    }
}

/// So were the locals of greenlets that would not end with their thread.
#[test]
fn leaked_locals_may_be_fragile() {
    passes_alone("child_leaks_fragile_locals");
}

// --------------------------------------------------- kills that are nobody's failure

/// What the hub of a thread reports, the end of the thread included.
fn reports_of_a_thread(body: fn()) -> Vec<String> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        Hub::current().on_error(move |error| tell.send(error.to_string()).unwrap());
        body();
    });
    thread.join().unwrap();
    told.try_iter().collect()
}

/// A link that waited when its thread ended was reported as one that panicked.
#[test]
fn a_link_that_ends_with_its_thread_is_no_failure() {
    within(MINUTE, || {
        let reports = reports_of_a_thread(|| {
            for linked in [Linked::BeforeItsEnd, Linked::AfterItsEnd] {
                let greenlet = spawn(|| ());
                if linked == Linked::AfterItsEnd {
                    greenlet.join();
                }
                greenlet.link(|_| sleep(HOUR));
                greenlet.join();
            }
            until(|| parked_for("sleep") == 2);
        });
        assert_eq!(reports, Vec::<String>::new());
    });
}

/// A kill that came too late for the body was raised in the destructor of its result, and reported
/// as a panic there.
#[test]
fn a_kill_in_the_destructor_of_a_result_is_no_failure() {
    within(MINUTE, || {
        let dropped = Log::new();
        let said = dropped.clone();
        drop(spawn(move || {
            current().kill_nowait();
            at_drop(move || {
                said.say("dropped");
                sleep(ms(1));
            })
        }));
        until(|| dropped.has("dropped"));
        sleep(ms(5));
        assert_eq!(reports(), []);
    });
}

// ----------------------------------------------------------------------------- memory

/// Kibibytes of memory this process really has.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "run by who_is_killed_at_once_leaves_nothing in a process of its own"]
fn child_spawns_and_kills() {
    if is_child() {
        within(MINUTE, || {
            let spawn_and_kill = |times| {
                for _ in 0..times {
                    spawn(|| ()).kill();
                    spawn_later(HOUR, || ()).kill();
                }
            };
            spawn_and_kill(1_000);
            let before = resident();
            spawn_and_kill(1_000_000);
            let grown = resident().saturating_sub(before);
            assert!(grown < 4 * 1024, "{grown} KiB more");
            all_is_well();
        });
    }
}

/// A run queue kept the names of those who were killed before their turn, until somebody waited.
#[test]
#[cfg(target_os = "linux")] // which has /proc
fn who_is_killed_at_once_leaves_nothing() {
    passes_alone("child_spawns_and_kills");
}

/// What a user looks for in a dump is a line of his own; it once was one of ours.
#[test]
fn spawn_sites_are_the_users() {
    within(MINUTE, || {
        let linked = spawn(|| ());
        linked.join();
        linked.link(|_| sleep(ms(1)));
        let switcher = spawn(|| {
            let coroutine = Coroutine::<u32>::new(|n| {
                sleep(ms(1));
                n
            });
            coroutine.switch(1)
        });
        greenloom::idle();
        let sites: Vec<_> =
            greenloom::dump().greenlets().iter().map(|entry| entry.spawned_at.clone()).collect();
        assert_eq!(sites.len(), 4, "main, the links, the switcher, the coroutine: {sites:?}");
        assert_eq!(sites[0], "the start of its thread");
        assert!(sites[1..].iter().all(|site| site.starts_with(file!())), "{sites:?}");
        switcher.get().unwrap();
    });
}

/// Sockets and handles can be used in `catch_unwind`, as std's can.
#[test]
fn handles_are_unwind_safe() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    fn both<T: UnwindSafe + RefUnwindSafe>() {}
    both::<greenloom::net::TcpStream>();
    both::<greenloom::net::TcpListener>();
    both::<greenloom::Greenlet<()>>();
    both::<Coroutine<u32>>();
}

/// An event counts those whom `set` has woken and who have not run yet, to let them go before late
/// comers. Those who waited by `joinall` never said that they had run, and the next `wait` let others
/// pass for ever.
#[test]
fn an_event_that_was_joined_can_be_waited_for_again() {
    within(MINUTE, || {
        let event = greenloom::sync::Event::new();
        let joined = spawn({
            let event = event.clone();
            move || greenloom::joinall([&event])
        });
        until_parked(joined.id());
        event.set();
        joined.join();
        event.wait();
    });
}

// ------------------------------------------------------------------ between greenlets

/// Lets others run when it is told that a span is left; what it does may end the wait that begins.
fn lets_others_run_at_exit(word: &'static str) {
    if word == "exit" {
        yield_now();
        sleep(ms(1));
        if let Some(ring) = AT_EXIT.take() {
            ring();
        }
    }
}

thread_local! {
    static AT_EXIT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

#[test]
#[ignore = "run by a_wait_is_not_missed_while_spans_are_left in a process of its own"]
fn child_waits_and_the_subscriber_rings() {
    if is_child() {
        within(MINUTE, || {
            subscribe(lets_others_run_at_exit);
            let waits: [fn(&sync::Event, &queue::Queue<u32>); 3] = [
                |event, _| event.wait(),
                |_, queue| assert_eq!(queue.get(), Ok(7)),
                |event, queue| assert!(wait_any([event as &dyn Waitable, queue]) < 2),
            ];
            for wait in waits {
                let (event, queue) = (sync::Event::new(), queue::unbounded());
                let (bell, items) = (event.clone(), queue.clone());
                let ring = move || {
                    bell.set();
                    items.put(7).unwrap();
                };
                let waiter = spawn(move || {
                    let _span = info_span!("waiting").entered();
                    AT_EXIT.set(Some(Box::new(ring)));
                    wait(&event, &queue);
                });
                waiter.get().unwrap();
            }
        });
    }
}

/// A subscriber was told that spans are left after a greenlet had found that it must wait, and before
/// it stood in line: what happened meanwhile was missed.
#[test]
fn a_wait_is_not_missed_while_spans_are_left() {
    passes_alone("child_waits_and_the_subscriber_rings");
}

/// Waits in its `Debug`, as one does who is written to a socket.
struct Slow(Cell<u32>);

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        yield_now();
        f.write_str("slow")
    }
}

/// `Debug` looked into a lock without holding it: whoever locked it meanwhile panicked, and it was
/// locked for ever.
#[test]
fn a_lock_may_be_shown_slowly() {
    within(MINUTE, || {
        let (mutex, lock) = (
            Rc::new(sync::Mutex::new(Slow(Cell::new(0)))),
            Rc::new(sync::RwLock::new(Slow(Cell::new(0)))),
        );
        let (others_mutex, others_lock) = (mutex.clone(), lock.clone());
        let other = spawn(move || {
            others_mutex.lock().0.set(1);
            others_lock.write().0.set(1);
        });
        assert!(format!("{mutex:?}").contains("slow"));
        assert!(format!("{lock:?}").contains("slow"));
        other.get().unwrap();
        assert!(!mutex.is_locked() && lock.try_write().is_some());
        let _held = mutex.lock();
        assert!(format!("{mutex:?}").contains("<locked>"));
    });
}

/// `Event::wait` let those pass who had been woken since it was called, too, and so for ever.
#[test]
fn others_who_wait_again_and_again_do_not_hold_up_a_set_event() {
    within(MINUTE, || {
        let (event, done) = (sync::Event::new(), Rc::new(Cell::new(false)));
        let (again, until_done) = (event.clone(), done.clone());
        let waiter = spawn(move || {
            while !until_done.get() {
                again.clear();
                again.wait();
            }
        });
        let (bell, until_done) = (event.clone(), done.clone());
        let ringer = spawn(move || {
            while !until_done.get() {
                bell.set();
                yield_now();
            }
            bell.set();
        });
        for _ in 0..10 {
            yield_now(); // until the two are at it
        }
        event.set();
        event.wait();
        done.set(true);
        joinall([&waiter, &ringer]);
    });
}

/// A member that spawned into its pool while cleaning up waited for the kill, which waited for it.
#[test]
fn a_member_may_spawn_while_its_pool_is_killed() {
    within(MINUTE, || {
        for size in [1, 4] {
            let (pool, log) = (pool::Pool::new(size), Log::new());
            let (inner, said) = (pool.clone(), log.clone());
            let member = pool.spawn(move || {
                if let Err(interrupt) = greenloom::catch_interrupt(|| sleep(HOUR)) {
                    let child = inner.spawn(|| ());
                    said.say("spawned");
                    drop(child);
                    interrupt.resume();
                }
            });
            until_parked(member.id());
            pool.kill();
            log.assert_is(["spawned"]);
            assert!(member.is_finished());
            pool.join();
            assert_eq!(pool.free_count(), size);
        }
    });
}

/// One whose destructor spawned into the group that was being killed was killed within its killing,
/// and so on, down to the end of the stack.
#[test]
fn destructors_may_spawn_into_a_group_that_is_killed() {
    struct Respawn(pool::Group, u32);
    impl Drop for Respawn {
        fn drop(&mut self) {
            if self.1 > 0 {
                let next = Respawn(self.0.clone(), self.1 - 1);
                self.0.spawn(move || drop(next));
            }
        }
    }
    within(MINUTE, || {
        let group = pool::Group::new();
        let first = Respawn(group.clone(), 20_000);
        group.spawn(move || drop(first));
        group.kill();
        assert!(group.is_empty());
    });
}

greenlet_local! {
    static FAREWELL: RefCell<Option<Box<dyn Any>>> = RefCell::new(None);
}

/// A scope, and `map`, returned when the closures of their greenlets had ended, and not the
/// destructors of their locals.
#[test]
fn a_scope_waits_for_the_locals_of_its_greenlets() {
    within(MINUTE, || {
        let leave = |log: &Log| {
            let log = log.clone();
            let slow = at_drop(move || {
                sleep(ms(1));
                log.say("gone");
            });
            FAREWELL.with(|farewell| farewell.replace(Some(Box::new(slow))));
        };
        let log = Log::new();
        scope(|s| {
            s.spawn(|| leave(&log));
        });
        log.assert_is(["gone"]);

        let (pool, log) = (pool::Pool::new(2), Log::new());
        pool.map(0..3, |_| leave(&log));
        assert_eq!((log.count("gone"), pool.len()), (3, 0));
    });
}

/// `joinall` pulled its items one after the other, each when the one before had ended.
#[test]
fn joinall_starts_what_it_joins_at_once() {
    within(MINUTE, || {
        let event = sync::Event::new();
        let started = Rc::new(Cell::new(0));
        let (bell, count) = (event.clone(), started.clone());
        let items = (0..4).map(move |_| {
            let (bell, count) = (bell.clone(), count.clone());
            spawn(move || {
                count.set(count.get() + 1);
                bell.wait();
            })
        });
        let joiner = spawn(move || joinall(items));
        until(|| started.get() == 4);
        event.set();
        joiner.get().unwrap();
    });
}

/// `map` started further items after one had been killed before it began.
#[test]
fn map_stops_at_an_item_that_never_began() {
    within(MINUTE, || {
        let (pool, ran) = (pool::Pool::new(2), Rc::new(Cell::new(0)));
        let killer = pool.clone();
        let killer = spawn(move || killer.kill());
        let ended = swallow(|| pool.map(0..10, |_| ran.set(ran.get() + 1)));
        assert!(message(ended.unwrap_err().as_ref()).contains("was killed"));
        assert!(ran.get() <= 2, "{} items ran", ran.get());
        killer.get().unwrap();
    });
}

/// `Timer::every` took a timeout that its function had left armed for its own end.
#[test]
fn a_timer_outlives_a_timeout_that_it_was_left() {
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let count = runs.clone();
        let timer = sync::Timer::every(ms(1), move || {
            count.set(count.get() + 1);
            Box::leak(Box::new(greenloom::Timeout::start(ms(0))));
        });
        until(|| {
            sleep(ms(1));
            runs.get() >= 3
        });
        assert!(timer.cancel());
    });
}

/// A destructor that read a socket while its greenlet unwound was refused what had come since the
/// hub had last looked.
#[cfg(not(hard_switch))] // there every call looks
#[test]
fn who_unwinds_finds_what_has_come() {
    struct ReadsAtDrop(TcpStream, Rc<Cell<u8>>);
    impl Drop for ReadsAtDrop {
        fn drop(&mut self) {
            let mut last = [0];
            if self.0.read(&mut last).is_ok() {
                self.1.set(last[0]);
            }
        }
    }
    within(MINUTE, || {
        let (stream, mut peer) = tcp_pair();
        let found = Rc::new(Cell::new(0));
        let reads = ReadsAtDrop(stream, found.clone());
        let reader = spawn(move || (&reads.0).read(&mut [0]).map(|_| ()));
        until_parked(reader.id());
        peer.write_all(b"x").unwrap();
        reader.kill();
        assert_eq!(found.get(), b'x');
    });
}

/// Bodies that had not begun when their thread ended were all dropped at once: two destructors that
/// panicked were one too many.
#[test]
fn bodies_that_a_last_destructor_leaves_behind_are_dropped_one_by_one() {
    struct Bomb(Rc<Cell<usize>>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic::resume_unwind(Box::new("on purpose"));
        }
    }
    struct AtTheEnd;
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let dropped = Rc::new(Cell::new(0));
            for _ in 0..2 {
                let bomb = Bomb(dropped.clone());
                let body = move |value| {
                    let _bomb = &bomb;
                    value
                };
                let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| {
                    Coroutine::<u8>::new(body).switch(1)
                }));
            }
        }
    }
    greenloom::greenlet_local! {
        static LAST: AtTheEnd = AtTheEnd;
    }
    let thread = std::thread::spawn(|| {
        LAST.with(|_| ());
        sleep(ms(0));
    });
    assert!(thread.join().is_ok());
}

/// Who asks for a descriptor may be shown another one at the end than at the start: that one's owner
/// was not told of events any more, or the drop panicked.
#[test]
fn an_owner_that_shows_another_descriptor_at_the_end_harms_nobody() {
    struct Shows<'a>(UnixStream, &'a UnixStream, Cell<bool>);
    impl AsFd for Shows<'_> {
        fn as_fd(&self) -> BorrowedFd<'_> {
            if self.2.get() { self.1.as_fd() } else { self.0.as_fd() }
        }
    }
    within(MINUTE, || {
        let (other, mut peer) = UnixStream::pair().unwrap();
        let (ours, _quiet) = UnixStream::pair().unwrap();
        let other = Rc::new(Io::new(other).unwrap());
        let theirs = other.clone();
        let reader = spawn(move || (&*theirs).read(&mut [0]).unwrap());
        until_parked(reader.id());
        let shows = Io::new(Shows(ours, other.get_ref(), Cell::new(false))).unwrap();
        shows.set_read_timeout(Some(ms(1))).unwrap();
        assert!(shows.wait_readable().is_err());
        shows.get_ref().2.set(true);
        drop(shows);
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.get().unwrap(), 1);
    });
}
