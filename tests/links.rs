//! Links: what runs when a greenlet has ended, in which order, and what it may do.
//!
//! L1, L2, ... are the rules of the design, which each test that is about one names.

mod util;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenloom::{
    Greenlet, LinkId, Outcome, Timeout, catch_interrupt, current, joinall, sleep, spawn,
    spawn_later,
};
use util::{
    End, HOUR, Living, Log, MINUTE, end_of, message, ms, reports, settle, until, until_parked,
    within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| 7);
        greenlet.link(log.outcome());
        greenlet.join();
        log.assert_is(["value"]);
    });
}

/// Links `line` to `greenlet`.
fn link_line<T: 'static>(greenlet: &Greenlet<T>, log: &Log, line: impl ToString) -> LinkId {
    let (log, line) = (log.clone(), line.to_string());
    greenlet.link(move |_| log.say(line))
}

// ---------------------------------------------------------- what a link is shown

#[test]
fn a_link_sees_the_value() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| String::from("value"));
        let said = log.clone();
        greenlet.link(move |outcome| match outcome {
            Outcome::Value(value) => said.say(value),
            _ => said.say("something else"),
        });
        assert_eq!(greenlet.get().unwrap(), "value", "it was only lent");
        log.assert_is(["value"]);
    });
}

#[test]
fn a_link_sees_the_panic() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| panic!("boom"));
        let said = log.clone();
        greenlet.link(move |outcome| match outcome {
            Outcome::Panicked(payload) => said.say(message(payload)),
            _ => said.say("something else"),
        });
        assert_eq!(end_of(greenlet), End::Panicked(String::from("boom")), "it was only lent");
        log.assert_is(["boom"]);
        assert_eq!(reports().len(), 1);
    });
}

/// L7: a killed greenlet has ended like any other.
#[test]
fn a_link_sees_the_kill() {
    within(MINUTE, || {
        let log = Log::new();
        let running = spawn(|| sleep(HOUR));
        let unborn = spawn_later(HOUR, || ());
        until_parked(running.id());
        for greenlet in [running, unborn] {
            greenlet.link(log.outcome());
            greenlet.kill();
            settle();
        }
        log.assert_is(["killed", "killed"]);
    });
}

#[test]
fn a_link_may_keep_what_it_can_clone() {
    within(MINUTE, || {
        let kept = Rc::new(RefCell::new(None));
        let greenlet = spawn(|| vec![1, 2, 3]);
        let keep = kept.clone();
        greenlet.link(move |outcome| {
            if let Outcome::Value(value) = outcome {
                *keep.borrow_mut() = Some(value.clone());
            }
        });
        drop(greenlet);
        settle();
        assert_eq!(kept.take(), Some(vec![1, 2, 3]));
    });
}

// --------------------------------------------------------------------- L1: order

#[test]
fn a_thousand_links_run_in_order() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| ());
        for n in 0..1000 {
            link_line(&greenlet, &log, n);
        }
        greenlet.join();
        settle();
        log.assert_is((0..1000).map(|n| n.to_string()));
    });
}

#[test]
fn a_thousand_links_after_the_end_run_in_order() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| ());
        greenlet.join();
        for n in 0..1000 {
            link_line(&greenlet, &log, n);
        }
        settle();
        log.assert_is((0..1000).map(|n| n.to_string()));
    });
}

#[test]
fn links_do_not_run_before_the_end() {
    within(MINUTE, || {
        let log = Log::new();
        let go = Rc::new(Cell::new(false));
        let greenlet = {
            let (log, go) = (log.clone(), go.clone());
            spawn(move || {
                let _guard = log.at_drop("unwound");
                until(|| go.get());
                log.say("returns");
            })
        };
        link_line(&greenlet, &log, "link");
        settle_for_a_while();
        log.assert_empty();
        go.set(true);
        greenlet.join();
        log.assert_is(["returns", "unwound", "link"]);
    });
}

fn settle_for_a_while() {
    for _ in 0..10 {
        greenloom::yield_now();
    }
}

/// A link finds its greenlet finished.
#[test]
fn a_link_looks_back_on_a_finished_greenlet() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn(|| 7));
        let (back, said) = (Rc::downgrade(&greenlet), log.clone());
        greenlet.link(move |_| {
            let greenlet = back.upgrade().expect("its handle is alive");
            said.say(greenlet.is_finished());
            said.say(greenlet.is_successful());
            greenlet.join();
            greenlet.kill();
        });
        greenlet.join();
        log.assert_is(["true", "true"]);
    });
}

// ------------------------------------------------------------ L2: after the end

#[test]
fn a_link_to_the_finished_runs_later() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| 7);
        greenlet.join();
        for round in 1..=3 {
            greenlet.link(log.outcome());
            assert_eq!(log.len(), round - 1, "not during the call");
            settle();
            assert_eq!(log.len(), round);
        }
        assert_eq!(log.count("value"), 3);
    });
}

#[test]
fn a_link_to_the_panicked_or_killed_runs_later() {
    within(MINUTE, || {
        let log = Log::new();
        let panicked = spawn(|| panic!("boom"));
        panicked.join();
        let killed = spawn(|| ());
        killed.kill();
        panicked.link(log.outcome());
        log.assert_empty();
        settle();
        killed.link(log.outcome());
        settle();
        log.assert_is(["panicked", "killed"]);
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn a_link_outlives_the_handle() {
    within(MINUTE, || {
        let log = Log::new();
        spawn(|| 7).link(log.outcome());
        spawn(|| sleep(ms(1))).link(log.outcome());
        until(|| log.len() == 2);
        let finished = spawn(|| 7);
        finished.join();
        finished.link(log.outcome());
        drop(finished);
        settle();
        assert_eq!(log.count("value"), 3);
    });
}

/// The value is lent to the links, so nobody takes it away before they have seen it.
#[test]
fn get_comes_after_the_links() {
    within(MINUTE, || {
        let (log, go) = (Log::new(), Rc::new(Cell::new(false)));
        let greenlet = spawn(|| 7);
        let (said, gone) = (log.clone(), go.clone());
        greenlet.link(move |outcome| {
            until(|| gone.get());
            said.say(util::word(&outcome));
        });
        greenlet.join();
        assert!(greenlet.is_finished());
        log.assert_empty();
        let Err(greenlet) = greenlet.try_get() else { panic!("it is still lent") };
        log.assert_empty();
        go.set(true);
        assert_eq!(greenlet.get().unwrap(), 7);
        log.assert_is(["value"]);
    });
}

#[test]
fn get_comes_after_links_to_the_finished() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| 7);
        greenlet.join();
        let said = log.clone();
        greenlet.link(move |outcome| {
            sleep(ms(2));
            said.say(util::word(&outcome));
        });
        assert_eq!(greenlet.get().unwrap(), 7);
        log.assert_is(["value"]);
    });
}

// ----------------------------------------------------------------- L3: isolation

#[test]
fn a_link_that_panics_stops_nothing() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = greenloom::Builder::new().name("linked").spawn(|| 7).unwrap();
        for n in 0..3 {
            let log = log.clone();
            greenlet.link(move |_| {
                log.say(n);
                panic!("link {n}");
            });
        }
        greenlet.join();
        log.assert_is(["0", "1", "2"]);
        let reports = reports();
        assert_eq!(reports.len(), 3);
        for (n, report) in reports.iter().enumerate() {
            assert_eq!(report.name, "linked");
            assert!(report.text.contains("in a link"), "{}", report.text);
            assert!(report.text.contains(&format!("link {n}")), "{}", report.text);
        }
        assert!(greenlet.is_successful());
        assert_eq!(end_of(greenlet), End::Value(7));
    });
}

#[test]
fn a_link_to_the_finished_that_panics_stops_nothing() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| 7);
        greenlet.join();
        greenlet.link(|_| panic!("boom"));
        greenlet.link(log.outcome());
        settle();
        log.assert_is(["value"]);
        assert_eq!(reports().len(), 1);
        assert_eq!(end_of(greenlet), End::Value(7));
    });
}

/// The panic of the greenlet itself is one thing, that of its link another.
#[test]
fn a_link_that_panics_after_a_panic() {
    within(MINUTE, || {
        let greenlet = spawn(|| panic!("body"));
        greenlet.link(|_| panic!("link"));
        greenlet.join();
        let texts: Vec<_> = reports().into_iter().map(|report| report.text).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts.iter().any(|text| text.contains("body")), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("link")), "{texts:?}");
        assert_eq!(end_of::<()>(greenlet), End::Panicked(String::from("body")));
    });
}

// -------------------------------------------------------------------- L4: unlink

#[test]
fn an_unlinked_link_does_not_run() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| ());
        let links: Vec<_> = (0..5).map(|n| link_line(&greenlet, &log, n)).collect();
        assert!(greenlet.unlink(links[1]));
        assert!(greenlet.unlink(links[3]));
        assert!(!greenlet.unlink(links[3]));
        greenlet.join();
        log.assert_is(["0", "2", "4"]);
        assert!(!greenlet.unlink(links[0]), "it has run");
    });
}

#[test]
fn an_unlinked_link_is_dropped_there() {
    within(MINUTE, || {
        let living = Living::new();
        let token = living.token();
        let greenlet = spawn(|| sleep(HOUR));
        let link = greenlet.link(move |_| drop(token));
        assert_eq!(living.count(), 1);
        assert!(greenlet.unlink(link));
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_link_is_known_to_its_own_greenlet_alone() {
    within(MINUTE, || {
        let log = Log::new();
        let (a, b) = (spawn(|| ()), spawn(|| ()));
        let link = link_line(&a, &log, "a");
        link_line(&b, &log, "b");
        assert!(!b.unlink(link));
        joinall([&a, &b]);
        log.assert_has_all(["a", "b"]);
    });
}

#[test]
fn two_links_may_be_the_same_thing() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| ());
        let (one, other) = (link_line(&greenlet, &log, "x"), link_line(&greenlet, &log, "x"));
        assert_ne!(one, other);
        assert!(greenlet.unlink(one));
        greenlet.join();
        log.assert_is(["x"]);
    });
}

/// L4: a link that takes off a later one, while they run.
#[test]
fn a_link_may_unlink_a_later_one() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn(|| ()));
        let later = Rc::new(Cell::new(None));
        let (back, target, said) = (Rc::downgrade(&greenlet), later.clone(), log.clone());
        greenlet.link(move |_| {
            let greenlet = back.upgrade().expect("its handle is alive");
            let link = target.get().expect("linked below");
            said.say(greenlet.unlink(link));
            said.say(greenlet.unlink(link));
        });
        later.set(Some(link_line(&greenlet, &log, "unlinked")));
        link_line(&greenlet, &log, "last");
        greenlet.join();
        log.assert_is(["true", "false", "last"]);
    });
}

/// L4: nor can it take off itself, or one that has run.
#[test]
fn a_link_cannot_unlink_what_has_begun() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn(|| ()));
        let first = link_line(&greenlet, &log, "first");
        let itself = Rc::new(Cell::new(None));
        let (back, me, said) = (Rc::downgrade(&greenlet), itself.clone(), log.clone());
        itself.set(Some(greenlet.link(move |_| {
            let greenlet = back.upgrade().expect("its handle is alive");
            said.say(greenlet.unlink(first));
            said.say(greenlet.unlink(me.get().expect("set below")));
        })));
        greenlet.join();
        log.assert_is(["first", "false", "false"]);
    });
}

#[test]
fn a_link_to_the_finished_can_be_unlinked_before_it_runs() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| 7);
        greenlet.join();
        let link = link_line(&greenlet, &log, "unlinked");
        assert!(greenlet.unlink(link));
        settle();
        log.assert_empty();
        assert_eq!(end_of(greenlet), End::Value(7), "nobody waits for a link that is off");
    });
}

// ------------------------------------------------------ L5: linked meanwhile

#[test]
fn a_link_may_link() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn(|| ()));
        let (back, said) = (Rc::downgrade(&greenlet), log.clone());
        greenlet.link(move |_| {
            said.say("first");
            let greenlet = back.upgrade().expect("its handle is alive");
            link_line(&greenlet, &said, "linked by the first");
        });
        link_line(&greenlet, &log, "second");
        greenlet.join();
        settle();
        log.assert_is(["first", "second", "linked by the first"]);
    });
}

// --------------------------------------------------------- L6: links that wait

#[test]
fn a_link_may_wait() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| ());
        let said = log.clone();
        greenlet.link(move |_| {
            for _ in 0..3 {
                sleep(ms(1));
                spawn(|| sleep(ms(1))).join();
            }
            said.say("first");
        });
        link_line(&greenlet, &log, "second");
        greenlet.join();
        log.assert_empty();
        until(|| log.len() == 2);
        log.assert_is(["first", "second"]);
    });
}

/// A link that waits keeps the links after it back, and nobody else.
#[test]
fn a_link_that_waits_does_not_keep_those_who_join() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let greenlet = Rc::new(spawn(|| ()));
        let gone = go.clone();
        greenlet.link(move |_| until(|| gone.get()));
        let joiners: Vec<_> = (0..3)
            .map(|_| {
                let greenlet = greenlet.clone();
                spawn(move || greenlet.join())
            })
            .collect();
        joinall(&joiners);
        go.set(true);
        settle();
    });
}

/// Its greenlet has finished: there is nothing left of it to kill.
#[test]
fn a_kill_of_the_finished_does_not_reach_its_links() {
    within(MINUTE, || {
        let (log, go) = (Log::new(), Rc::new(Cell::new(false)));
        let greenlet = spawn(|| 7);
        let (said, gone) = (log.clone(), go.clone());
        greenlet.link(move |_| {
            said.say("began");
            until(|| gone.get());
            said.say("ended");
        });
        until(|| log.has("began"));
        greenlet.kill();
        greenlet.kill_nowait();
        go.set(true);
        assert_eq!(end_of(greenlet), End::Value(7));
        log.assert_is(["began", "ended"]);
    });
}

/// Nor does a kill that its greenlet did not live to see.
#[test]
fn a_kill_that_came_too_late_is_not_raised_in_a_link() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| {
            current().kill_nowait();
            7
        });
        let said = log.clone();
        greenlet.link(move |_| {
            sleep(ms(1));
            said.say("slept");
        });
        assert_eq!(end_of(greenlet), End::Value(7));
        log.assert_is(["slept"]);
    });
}

/// Nor does a timeout that its greenlet started, although the value keeps it armed.
#[test]
fn a_timeout_of_the_greenlet_is_not_raised_in_a_link() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| Timeout::start(ms(1)));
        let said = log.clone();
        greenlet.link(move |_| {
            sleep(ms(5));
            said.say("slept");
        });
        drop(greenlet.get().unwrap());
        log.assert_is(["slept"]);
    });
}

#[test]
fn a_link_of_the_killed_may_wait() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| sleep(HOUR));
        let said = log.clone();
        greenlet.link(move |outcome| {
            sleep(ms(1));
            said.say(util::word(&outcome));
        });
        until_parked(greenlet.id());
        greenlet.kill();
        assert_eq!(end_of(greenlet), End::Killed);
        log.assert_is(["killed"]);
    });
}

/// A link is nobody's greenlet to kill; a `catch_interrupt` in it has nothing to catch.
#[test]
fn a_link_runs_in_peace() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = spawn(|| sleep(HOUR));
        let said = log.clone();
        greenlet.link(move |_| {
            said.say(catch_interrupt(|| sleep(ms(1))).is_ok());
            said.say(!std::thread::panicking());
        });
        until_parked(greenlet.id());
        greenlet.kill();
        until(|| log.len() == 2);
        log.assert_is(["true", "true"]);
    });
}

// ------------------------------------------------------------ L8: those who wait

#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn joiners_are_woken_in_the_order_in_which_they_came() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn_later(ms(1), || ()));
        let joiners: Vec<_> = (0..10)
            .map(|n| {
                let (greenlet, log) = (greenlet.clone(), log.clone());
                let joiner = spawn(move || {
                    greenlet.join();
                    log.say(n);
                });
                until_parked(joiner.id());
                joiner
            })
            .collect();
        joinall(&joiners);
        log.assert_is((0..10).map(|n| n.to_string()));
    });
}

/// A link has run, if it need not wait, before any of those who joined has its turn.
#[test]
fn links_come_before_joiners() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn(|| ()));
        link_line(&greenlet, &log, "link");
        let joiner = {
            let (greenlet, log) = (greenlet.clone(), log.clone());
            spawn(move || {
                greenlet.join();
                log.say("joiner");
            })
        };
        joiner.join();
        log.assert_is(["link", "joiner"]);
    });
}

// ---------------------------------------------------------------------- lifetime

#[test]
fn a_link_is_dropped_when_it_has_run() {
    within(MINUTE, || {
        let living = Living::new();
        let greenlet = spawn(|| ());
        for _ in 0..10 {
            let token = living.token();
            greenlet.link(move |_| drop(token));
        }
        assert_eq!(living.count(), 10);
        greenlet.join();
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn links_of_many() {
    within(MINUTE, || {
        let ended = Rc::new(Cell::new(0));
        let all: Vec<_> = (0..1000).map(|n| spawn(move || sleep(ms(n % 3)))).collect();
        for greenlet in &all {
            let ended = ended.clone();
            greenlet.link(move |_| ended.set(ended.get() + 1));
        }
        joinall(&all);
        assert_eq!(ended.get(), 1000);
    });
}
