//! `dump()`: who there is on this thread, in which state, waiting for what, started where.

mod net_util;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use greenloom::net::{TcpListener, TcpStream};
use greenloom::{
    Builder, DumpEntry, Greenlet, GreenletId, current, dump, idle, iwait, killall, scope, shield,
    sleep, spawn, spawn_later, wait_any, yield_now,
};
use net_util::{hang_guard, ms, our_pair, until, until_parked};

const FOR_EVER: Duration = Duration::from_secs(3_600);

/// What the dump says of `id` now, made plain.
struct Seen {
    name: String,
    state: &'static str,
    reason: Option<String>,
    age: Duration,
    spawned_at: String,
}

fn seen(id: GreenletId) -> Option<Seen> {
    let dump = dump();
    let entry: &DumpEntry = dump.greenlets().iter().find(|entry| entry.id == id)?;
    Some(Seen {
        name: entry.name.clone(),
        state: entry.state,
        reason: entry.reason.clone(),
        age: entry.age,
        spawned_at: entry.spawned_at.clone(),
    })
}

fn state_of<T: 'static>(greenlet: &Greenlet<T>) -> &'static str {
    seen(greenlet.id()).expect("it lives").state
}

/// The place of the caller as the dump shows places, without the column.
#[track_caller]
fn this_line() -> String {
    let here = Location::caller();
    format!("{}:{}:", here.file(), here.line())
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let greenlet = Builder::new().name("dreamer").spawn(|| sleep(FOR_EVER)).unwrap();
    until_parked(&greenlet);
    let seen = seen(greenlet.id()).unwrap();
    assert_eq!((seen.name.as_str(), seen.state), ("dreamer", "parked"));
    assert_eq!(seen.reason.as_deref(), Some("sleep"));
    greenlet.kill();
}

// ── States ──

#[test]
fn unstarted_ready_parked_and_gone() {
    let _guard = hang_guard();
    let greenlet = spawn(|| {
        yield_now();
        sleep(FOR_EVER);
    });
    assert_eq!(state_of(&greenlet), "unstarted");
    assert_eq!(seen(greenlet.id()).unwrap().reason, None);
    until(|| greenlet.is_started());
    // It has yielded: main's turn comes while it stands in the queue, or it has gone on to sleep.
    let state = state_of(&greenlet);
    assert!(state == "ready" || state == "parked", "{state}");
    until_parked(&greenlet);
    assert_eq!(state_of(&greenlet), "parked");
    greenlet.kill();
    assert!(seen(greenlet.id()).is_none(), "finished greenlets are not listed");
}

#[test]
fn one_that_yields_is_ready() {
    let _guard = hang_guard();
    let greenlet = spawn(|| {
        loop {
            yield_now();
        }
    });
    until(|| greenlet.is_started());
    assert_eq!(state_of(&greenlet), "ready");
    greenlet.kill_nowait();
}

#[test]
fn one_that_starts_later_is_unstarted() {
    let _guard = hang_guard();
    let greenlet = spawn_later(FOR_EVER, || ());
    yield_now();
    assert_eq!(state_of(&greenlet), "unstarted");
    greenlet.kill();
    assert!(seen(greenlet.id()).is_none());
}

#[test]
fn the_caller_is_running_and_main_is_listed() {
    let _guard = hang_guard();
    let main = current().id();
    let own = seen(main).expect("main is listed");
    assert_eq!((own.name.as_str(), own.state), ("main", "running"));
    let greenlet = spawn(move || {
        let own = seen(current().id()).expect("so is the caller");
        (own.state, seen(main).expect("main is still listed").state)
    });
    let (own, main) = greenlet.get().unwrap();
    assert_eq!(own, "running");
    assert_eq!(main, "parked");
    let running = dump().greenlets().iter().filter(|entry| entry.state == "running").count();
    assert_eq!(running, 1);
}

// ── Reasons ──

/// What a greenlet that runs `wait` is parked for.
fn reason_of(wait: impl FnOnce() + 'static) -> String {
    let greenlet = spawn(wait);
    until_parked(&greenlet);
    let reason = seen(greenlet.id()).unwrap().reason.expect("who is parked has a reason");
    greenlet.kill_nowait();
    reason
}

#[test]
fn every_wait_of_the_crate_root_has_its_reason() {
    let _guard = hang_guard();
    let sleeper = Rc::new(spawn(|| sleep(FOR_EVER)));
    let with_sleeper = |wait: fn(&Greenlet<()>)| {
        let sleeper = Rc::clone(&sleeper);
        reason_of(move || wait(&sleeper))
    };
    assert_eq!(reason_of(|| sleep(FOR_EVER)), "sleep");
    let join = format!("join of {}", sleeper.name());
    assert_eq!(with_sleeper(|sleeper| sleeper.join()), join);
    assert_eq!(with_sleeper(|sleeper| assert!(sleeper.join_timeout(FOR_EVER))), join);
    assert_eq!(with_sleeper(|sleeper| assert_eq!(wait_any([sleeper]), 0)), "wait_any");
    assert_eq!(with_sleeper(|sleeper| assert_eq!(iwait([sleeper]).next(), Some(0))), "iwait");
    let over_a_sleeper = || {
        scope(|s| {
            s.spawn(|| sleep(FOR_EVER));
        });
    };
    assert_eq!(reason_of(over_a_sleeper), "scope");
    sleeper.kill();
}

#[test]
fn one_that_waits_for_a_kill_to_be_over_says_so() {
    let _guard = hang_guard();
    // Killing takes as long as the shield holds.
    let release = Rc::new(Cell::new(false));
    let shielded = Rc::new(spawn({
        let release = Rc::clone(&release);
        move || {
            shield(|| {
                while !release.get() {
                    yield_now();
                }
            });
        }
    }));
    until(|| shielded.is_started());
    let killing = Rc::clone(&shielded);
    let kill = format!("kill of {}", shielded.name());
    assert_eq!(reason_of(move || killing.kill()), kill);
    release.set(true);
    shielded.join();
}

#[test]
fn one_that_waits_for_idleness_says_so() {
    let _guard = hang_guard();
    // As long as somebody else is ready, idle does not return.
    let busy = spawn(|| {
        loop {
            yield_now();
        }
    });
    assert_eq!(reason_of(idle), "idle");
    busy.kill();
}

#[test]
fn every_wait_on_a_socket_has_its_reason() {
    let _guard = hang_guard();
    let (ours, _theirs) = our_pair();
    let ours = Rc::new(ours);
    let with_stream = |wait: fn(&TcpStream)| {
        let ours = Rc::clone(&ours);
        reason_of(move || wait(&ours))
    };
    assert_eq!(with_stream(|mut stream| drop(stream.read(&mut [0]))), "read");
    assert_eq!(with_stream(|stream| drop(stream.peek(&mut [0]))), "read");
    assert_eq!(with_stream(|stream| drop(stream.wait_readable())), "read");
    assert_eq!(with_stream(|mut stream| drop(stream.write_all(&vec![0; 64 << 20]))), "write");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(reason_of(move || drop(listener.accept())), "accept");
}

// ── The rest of an entry ──

#[test]
fn an_entry_names_the_place_that_spawned() {
    let _guard = hang_guard();
    let (here, greenlet) = (this_line(), spawn(|| ()));
    let (later_here, later) = (this_line(), spawn_later(FOR_EVER, || ()));
    let (built_here, built) = (this_line(), Builder::new().spawn(|| ()).unwrap());
    for (place, id) in [(here, greenlet.id()), (later_here, later.id()), (built_here, built.id())] {
        let spawned_at = seen(id).unwrap().spawned_at;
        assert!(spawned_at.starts_with(&place), "{spawned_at} is not {place}");
    }
    killall([&greenlet, &later, &built]);
}

#[test]
fn a_scoped_greenlet_names_the_place_in_the_scope() {
    let _guard = hang_guard();
    let place = RefCell::new(String::new());
    scope(|s| {
        let (here, child) = (this_line(), s.spawn(|| seen(current().id()).unwrap().spawned_at));
        *place.borrow_mut() = here;
        let spawned_at = child.get().unwrap();
        assert!(spawned_at.starts_with(&*place.borrow()), "{spawned_at}");
    });
}

#[test]
fn names_are_given_or_numbered() {
    let _guard = hang_guard();
    let unnamed = spawn(|| ());
    let named = Builder::new().name("Ann").spawn(|| ()).unwrap();
    let name = seen(unnamed.id()).unwrap().name;
    assert_eq!(name, unnamed.name());
    let number = name.strip_prefix("greenlet-").expect("a default name");
    assert!(number.parse::<u64>().is_ok(), "{name}");
    assert_eq!(seen(named.id()).unwrap().name, "Ann");
    killall([&unnamed, &named]);
}

#[test]
fn ages_grow() {
    let _guard = hang_guard();
    let greenlet = spawn(|| sleep(FOR_EVER));
    let young = seen(greenlet.id()).unwrap().age;
    sleep(ms(10));
    let older = seen(greenlet.id()).unwrap().age;
    assert!(older >= young + ms(10), "{young:?}, then {older:?}");
    greenlet.kill();
}

#[test]
fn the_text_says_what_the_entries_say() {
    let _guard = hang_guard();
    let parked = Builder::new().name("sleeper of the text").spawn(|| sleep(FOR_EVER)).unwrap();
    let unstarted = spawn_later(FOR_EVER, || ());
    until_parked(&parked);
    let dump = dump();
    let text = dump.to_string();
    for entry in dump.greenlets() {
        let line = text.lines().find(|line| line.contains(&entry.name));
        let line = line.unwrap_or_else(|| panic!("{} is missing in:\n{text}", entry.name));
        assert!(line.contains(entry.state) || text.contains(entry.state), "{line}");
        if let Some(reason) = &entry.reason {
            assert!(text.contains(reason.as_str()), "{reason} is missing in:\n{text}");
        }
        assert!(text.contains(&entry.spawned_at), "{} is missing in:\n{text}", entry.spawned_at);
    }
    killall([&parked, &unstarted]);
}

#[test]
fn a_dump_is_a_picture_that_does_not_change() {
    let _guard = hang_guard();
    let greenlet = spawn(|| ());
    let before = dump();
    greenlet.join();
    assert!(before.greenlets().iter().any(|entry| entry.id == greenlet.id()));
    assert!(seen(greenlet.id()).is_none());
    assert_eq!(before.greenlets().len(), dump().greenlets().len() + 1);
}
