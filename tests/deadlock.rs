//! `BlocksForever`: main waits and nothing can ever wake it. Who is listed, that the hub lives on,
//! and everything that counts as "may still wake".

mod net_util;

use std::cell::{OnceCell, RefCell};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use greenloom::net::{TcpListener, TcpStream};
use greenloom::raw::Coroutine;
use greenloom::{
    BlocksForever, Builder, Greenlet, Hub, dump, joinall, killall, scope, sleep, spawn,
    spawn_later, wait_any, with_timeout,
};
use net_util::{
    Log, blocked_for_ever, finish, hang_guard, in_child, is_child, ms, our_pair, parked_for,
    stderr_of, this_thread, until, until_asleep,
};

/// Runs `f`, which blocks for ever, and returns the report.
fn report_of<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it should have panicked");
    payload.downcast_ref::<BlocksForever>().expect("it should block for ever").to_string()
}

/// Where the line below the call is, as reports show places.
#[track_caller]
fn next_line() -> String {
    let here = std::panic::Location::caller();
    format!("{}:{}:", here.file(), here.line() + 1)
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let blocked = blocked_for_ever();
    let report = report_of(|| blocked.join());
    assert!(report.contains("join"), "{report}");
}

// ── The report ──

#[test]
fn the_report_lists_every_parked_greenlet_with_its_reason_and_spawn_site() {
    let _guard = hang_guard();
    let blocked = Rc::new(blocked_for_ever());
    let joining = {
        let blocked = Rc::clone(&blocked);
        move || blocked.join()
    };
    let place_of_joiner = next_line();
    let _joiner = Builder::new().name("a joiner").spawn(joining).unwrap();
    let waiting = {
        let blocked = Rc::clone(&blocked);
        move || wait_any([&*blocked])
    };
    let place_of_waiter = next_line();
    let _waiter = Builder::new().name("a waiter").spawn(waiting).unwrap();

    let report = report_of(|| blocked.join());
    let line_of = |name: &str| {
        let line = report.lines().find(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("{name} is missing in: {report}")).to_owned()
    };
    let joiner = line_of("a joiner");
    assert!(joiner.contains("join"), "{joiner}");
    assert!(joiner.contains(&format!("spawned at {place_of_joiner}")), "{joiner}");
    let waiter = line_of("a waiter");
    assert!(waiter.contains("wait_any"), "{waiter}");
    assert!(waiter.contains(&format!("spawned at {place_of_waiter}")), "{waiter}");
    for entry in dump().greenlets().iter().filter(|entry| entry.state == "parked") {
        assert!(report.contains(&entry.name), "{} is missing in: {report}", entry.name);
    }
}

#[test]
fn it_is_main_s_wait_that_panics_and_the_others_stay_as_they_are() {
    let _guard = hang_guard();
    let log = Log::default();
    let blocked = Rc::new(blocked_for_ever());
    let bystander = spawn({
        let (blocked, log) = (Rc::clone(&blocked), log.clone());
        move || {
            let _noted = log.on_drop("unwound");
            blocked.join();
        }
    });
    report_of(|| bystander.join());
    assert_eq!(log.take(), [""; 0]);
    assert!(!bystander.is_finished());
    bystander.kill();
    assert_eq!(log.take(), ["unwound"]);
}

#[test]
fn the_hub_of_a_spawned_thread_reports_its_own() {
    let _guard = hang_guard();
    let thread = thread::spawn(|| {
        let blocked = blocked_for_ever();
        let name = blocked.name();
        catch_unwind(AssertUnwindSafe(|| blocked.join())).map_err(|payload| {
            let report = payload.downcast::<BlocksForever>().expect("it should block for ever");
            assert!(report.to_string().contains(&name), "{report}");
        })
    });
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn nobody_to_join_ends_the_thread_with_the_payload() {
    let _guard = hang_guard();
    let thread = thread::spawn(|| blocked_for_ever().join());
    assert!(thread.join().unwrap_err().is::<BlocksForever>());
}

#[test]
#[ignore = "run by the_report_is_printed in a process of its own"]
fn child_blocks_for_ever() {
    if is_child() {
        let blocked = Rc::new(blocked_for_ever());
        let joining = move || blocked.join();
        Builder::new().name("stuck for good").spawn(joining).unwrap().join();
    }
}

#[test]
fn the_report_is_printed() {
    let _guard = hang_guard();
    let child = in_child("child_blocks_for_ever");
    let stderr = stderr_of(&child);
    assert_eq!(child.status.code(), Some(101), "{stderr}");
    assert!(stderr.contains("stuck for good"), "{stderr}");
    assert!(stderr.contains("spawned at"), "{stderr}");
}

// ── Afterwards ──

#[test]
fn the_hub_is_usable_afterwards() {
    // H13, case 60.
    let _guard = hang_guard();
    let blocked = blocked_for_ever();
    report_of(|| blocked.join());
    sleep(ms(5));
    assert_eq!(spawn(|| 5).get().unwrap(), 5);
    let (mut ours, mut theirs) = our_pair();
    let reader = spawn(move || {
        let mut byte = [0];
        theirs.read_exact(&mut byte).unwrap();
        byte[0]
    });
    ours.write_all(b"x").unwrap();
    assert_eq!(reader.get().unwrap(), b'x');
}

#[test]
fn it_is_found_again_and_again() {
    let _guard = hang_guard();
    let blocked = blocked_for_ever();
    let reports: Vec<_> = (0..3).map(|_| report_of(|| blocked.join())).collect();
    assert!(reports.iter().all(|report| report.contains("join")));
}

#[test]
fn every_wait_of_main_finds_it() {
    let _guard = hang_guard();
    let blocked = blocked_for_ever();
    report_of(|| wait_any([&blocked]));
    report_of(|| joinall([&blocked]));
    report_of(|| greenloom::iwait([&blocked]).next());
    report_of(|| blocked.get());
}

#[test]
fn a_scope_of_main_takes_its_children_along() {
    let _guard = hang_guard();
    let log = Log::default();
    let blocked = blocked_for_ever();
    report_of(|| {
        scope(|s| {
            s.spawn(|| {
                let _noted = log.on_drop("child unwound");
                blocked.join();
            });
        });
    });
    assert_eq!(log.take(), ["child unwound"]);
}

#[test]
fn a_switch_of_main_finds_it_and_the_coroutine_stays_where_it_waits() {
    let _guard = hang_guard();
    let log = Log::default();
    let blocked = blocked_for_ever();
    let coroutine = Coroutine::new({
        let log = log.clone();
        move |(): ()| {
            let _noted = log.on_drop("coroutine unwound");
            blocked.join();
        }
    });
    let report = report_of(|| coroutine.switch(()));
    assert!(report.contains("switch"), "{report}");
    assert_eq!(log.take(), [""; 0]);
    assert!(!coroutine.is_dead());
}

#[test]
fn killing_what_is_blocked_resolves_it() {
    let _guard = hang_guard();
    let blocked: Vec<_> = (0..3).map(|_| blocked_for_ever()).collect();
    report_of(|| joinall(&blocked));
    killall(&blocked);
    assert!(blocked.iter().all(Greenlet::is_finished));
}

// ── Whatever may still wake is no deadlock ──

#[test]
fn not_while_a_timer_runs() {
    let _guard = hang_guard();
    let blocked = Rc::new(blocked_for_ever());
    // Main's own, another's, a timeout of another, a greenlet that starts later.
    sleep(ms(5));
    assert!(!blocked.join_timeout(ms(5)));
    assert!(with_timeout(ms(5), || blocked.join()).is_err());
    spawn(|| sleep(ms(10))).join();
    let gives_up = spawn({
        let blocked = Rc::clone(&blocked);
        move || with_timeout(ms(10), || blocked.join()).is_err()
    });
    assert!(gives_up.get().unwrap());
    spawn_later(ms(10), || ()).join();
}

#[test]
fn not_while_somebody_waits_for_a_socket() {
    let _guard = hang_guard();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let this = this_thread();
    let foreign = thread::spawn(move || {
        until_asleep(&this);
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        until_asleep(&this);
        stream.write_all(b"x").unwrap();
    });
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    server.join();
    finish(foreign);
}

#[test]
fn a_socket_nobody_waits_for_wakes_nobody() {
    let _guard = hang_guard();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (used, _peer) = our_pair();
    assert!(with_timeout(ms(5), || (&used).read(&mut [0]).is_ok()).is_err());
    let blocked = blocked_for_ever();
    report_of(|| blocked.join());
}

#[test]
fn not_while_somebody_holds_a_remote() {
    let _guard = hang_guard();
    // On a thread of its own, whose end closes the hub.
    let (send, receive) = mpsc::channel();
    thread_local! {
        static SAVED: OnceCell<Rc<Greenlet<()>>> = const { OnceCell::new() };
    }
    let hub = thread::spawn(move || {
        let blocked = Rc::new(blocked_for_ever());
        SAVED.with(|slot| slot.set(Rc::clone(&blocked)).expect("filed once"));
        send.send((this_thread(), Hub::current().remote())).unwrap();
        blocked.join();
    });
    let (thread, remote) = receive.recv().unwrap();
    until_asleep(&thread);
    remote.spawn(|| SAVED.with(|slot| slot.get().expect("filed above").kill_nowait())).unwrap();
    hub.join().unwrap();
}

#[test]
fn not_while_somebody_is_ready() {
    let _guard = hang_guard();
    let turns = Rc::new(RefCell::new(0));
    let busy = spawn({
        let turns = Rc::clone(&turns);
        move || {
            for _ in 0..100 {
                *turns.borrow_mut() += 1;
                greenloom::yield_now();
            }
        }
    });
    let waiting = spawn(move || busy.join());
    until(|| parked_for("join") == 1);
    waiting.join();
    assert_eq!(*turns.borrow(), 100);
}
