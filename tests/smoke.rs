//! The first thing to run after a change: one small program for each part, nothing deep.

mod util;

use std::cell::Cell;
use std::io::{Read, Write};
use std::time::Instant;

use greenloom::net::{TcpListener, TcpStream};
use greenloom::raw::Coroutine;
use greenloom::{
    Elapsed, catch_interrupt, current, dump, iwait, joinall, killall, scope, shield, sleep, spawn,
    spawn_later, wait_any, with_timeout, yield_now,
};
use util::{End, HOUR, Log, MINUTE, end_of, ms, until, until_parked, within};

#[test]
fn smoke() {
    within(MINUTE, || assert_eq!(spawn(|| 7).get().unwrap(), 7));
}

#[test]
fn a_thread_that_never_waits_needs_nothing() {
    within(MINUTE, || {
        assert!(current().is_main());
        assert_eq!(current().name(), "main");
    });
}

#[test]
fn main_waits_like_anyone() {
    within(MINUTE, || {
        let start = Instant::now();
        sleep(ms(5));
        assert!(start.elapsed() >= ms(5));
        yield_now();
    });
}

#[test]
fn waits_overlap() {
    within(MINUTE, || {
        let log = Log::new();
        let (slow, quick) = (log.clone(), log.clone());
        let slow = spawn(move || {
            sleep(ms(40));
            slow.say("slow");
        });
        let quick = spawn(move || {
            sleep(ms(1));
            quick.say("quick");
        });
        joinall([&slow, &quick]);
        log.assert_is(["quick", "slow"]);
    });
}

#[test]
fn a_killed_greenlet_unwinds() {
    within(MINUTE, || {
        let log = Log::new();
        let guard = log.at_drop("unwound");
        let sleeper = spawn(move || {
            let _guard = guard;
            sleep(HOUR);
        });
        until_parked(sleeper.id());
        sleeper.kill();
        log.assert_is(["unwound"]);
        assert_eq!(end_of(sleeper), End::Killed);
    });
}

#[test]
fn a_timeout_ends_a_wait() {
    within(MINUTE, || {
        assert_eq!(with_timeout(ms(1), || sleep(HOUR)), Err(Elapsed));
        assert_eq!(with_timeout(HOUR, || 7), Ok(7));
    });
}

#[test]
fn a_shield_lets_the_work_finish() {
    within(MINUTE, || {
        let done = with_timeout(ms(1), || {
            shield(|| sleep(ms(5)));
            "done"
        });
        assert_eq!(done, Ok("done"));
    });
}

#[test]
fn an_interrupt_can_be_looked_at_and_passed_on() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let sleeper = spawn(move || {
            if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
                said.say(format!("kill: {}", interrupt.is_kill()));
                sleep(ms(1));
                said.say("cleaned up");
                interrupt.resume();
            }
        });
        until_parked(sleeper.id());
        sleeper.kill();
        log.assert_is(["kill: true", "cleaned up"]);
        assert_eq!(end_of(sleeper), End::Killed);
    });
}

#[test]
fn the_first_of_many_is_found() {
    within(MINUTE, || {
        let slow = spawn(|| sleep(HOUR));
        let quick = spawn(|| sleep(ms(1)));
        assert_eq!(wait_any([&slow, &quick]), 1);
        assert_eq!(iwait([&slow, &quick]).next(), Some(1));
        killall([&slow]);
        assert!(slow.is_finished());
    });
}

#[test]
fn a_greenlet_starts_later() {
    within(MINUTE, || assert_eq!(spawn_later(ms(1), || 7).get().unwrap(), 7));
}

#[test]
fn a_scope_may_borrow() {
    within(MINUTE, || {
        let mut words = vec!["one", "two"];
        let lengths = scope(|s| {
            let lengths: Vec<_> = words.iter().map(|word| s.spawn(|| word.len())).collect();
            lengths.into_iter().map(|length| length.get().unwrap()).sum::<usize>()
        });
        assert_eq!(lengths, 6);
        words.clear();
    });
}

#[test]
fn a_link_sees_the_value() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| 7);
        greenlet.link(log.outcome());
        greenlet.join();
        log.assert_is(["value"]);
    });
}

#[test]
fn explicit_switch() {
    within(MINUTE, || {
        let double = Coroutine::new(|mut n: u32| {
            let main = Coroutine::<u32>::current().parent().expect("it was made by main");
            while n < 100 {
                n = main.switch(n * 2);
            }
            n
        });
        assert_eq!(double.switch(1), 2);
        assert_eq!(double.switch(5), 10);
        assert_eq!(double.switch(100), 100);
        assert!(double.is_dead());
    });
}

greenloom::greenlet_local! {
    static COUNT: Cell<u32> = Cell::new(0);
}

#[test]
fn a_local_for_each_greenlet() {
    within(MINUTE, || {
        COUNT.with(|count| count.set(7));
        assert_eq!(spawn(|| COUNT.with(Cell::get)).get().unwrap(), 0);
        assert_eq!(COUNT.with(Cell::get), 7);
    });
}

#[test]
fn a_dump_shows_who_waits() {
    within(MINUTE, || {
        let sleeper = spawn(|| sleep(HOUR));
        until(|| !dump().greenlets().iter().any(|entry| entry.state == "unstarted"));
        let dump = dump();
        let entry = dump.greenlets().iter().find(|entry| entry.id == sleeper.id()).unwrap();
        assert_eq!(entry.state, "parked");
        assert_eq!(entry.reason.as_deref(), Some("sleep"));
        assert!(entry.spawned_at.contains("smoke.rs"), "{}", entry.spawned_at);
        assert!(dump.to_string().contains(&sleeper.name()));
    });
}

#[test]
fn an_echo() {
    within(MINUTE, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(greenloom::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
        server.get().unwrap();
    });
}
