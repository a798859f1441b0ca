//! Killing: at every kind of wait, before there is one, during another kill, and against refusal.
//!
//! K1, K2, ... are the rules of the design, which each test that is about one names.

mod util;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::rc::Rc;

use greenloom::concurrent::{self, ALL_COMPLETED};
use greenloom::net::{TcpListener, TcpStream};
use greenloom::pool::SpawnError;
use greenloom::queue::{GetError, PutError, Queue, channel, pipe};
use greenloom::sync::{
    AsyncResult, Barrier, BrokenBarrier, Condvar, Event, Mutex, RwLock, Semaphore,
};
use greenloom::{
    Greenlet, Waitable, catch_interrupt, current, idle, joinall, joinall_timeout, killall, scope,
    shield, sleep, spawn, spawn_later, wait_any_timeout, with_timeout, yield_now,
};
use util::{
    End, FullListener, HOUR, Living, Log, MINUTE, Shown, at_drop, blocks_forever, end_of,
    every_wait, ms, reports, settle, state_of, stuck, swallow, tcp_pair, until, until_parked,
    waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let sleeper = spawn(|| sleep(HOUR));
        until_parked(sleeper.id());
        sleeper.kill();
        assert_eq!(end_of(sleeper), End::Killed);
    });
}

// ------------------------------------------------- K2: raised at the present wait

every_wait!(kill_in);

/// K2: it unwinds from where it waits, and what comes after the wait is never reached.
fn kill_in(wait: fn(), shown: Shown) {
    let log = Log::new();
    let target = {
        let log = log.clone();
        spawn(move || {
            let _guard = log.at_drop("unwound");
            wait();
            log.say("went on");
        })
    };
    shown.wait(target.id());
    assert!(!target.is_finished());
    target.kill();
    log.assert_is(["unwound"]);
    assert!(target.is_finished());
    assert!(!target.is_successful());
    assert_eq!(end_of(target), End::Killed);
    // Whatever was registered for the wait is gone with it: nothing comes to call.
    sleep(ms(1));
}

/// K2: the registrations of the wait are gone too, so nothing is left that may wake anybody.
#[test]
fn a_killed_sleeper_leaves_no_timer() {
    within(MINUTE, || {
        let sleepers: Vec<_> = (0..100).map(|_| spawn(|| sleep(HOUR))).collect();
        settle();
        killall(&sleepers);
        spawn_later(HOUR, || ()).kill();
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

/// K2: as above, for a socket.
#[test]
fn a_killed_reader_leaves_the_socket() {
    within(MINUTE, || {
        let (here, mut there) = tcp_pair();
        let mut again = here.try_clone().unwrap();
        let reader = spawn(move || (&here).read(&mut [0]));
        until_parked(reader.id());
        reader.kill();
        let stuck = stuck();
        blocks_forever(|| stuck.join());
        // The connection is none the worse.
        there.write_all(b"x").unwrap();
        let mut byte = [0];
        again.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    });
}

#[test]
fn every_frame_unwinds() {
    fn dig(depth: usize, living: &Living) {
        let _token = living.token();
        match depth {
            0 => sleep(HOUR),
            _ => dig(depth - 1, living),
        }
    }
    within(MINUTE, || {
        let living = Living::new();
        let counted = living.clone();
        let target = spawn(move || dig(100, &counted));
        until_parked(target.id());
        assert_eq!(living.count(), 101);
        target.kill();
        assert_eq!(living.count(), 0);
    });
}

/// K2: finishing by a kill is no success, and no panic either.
#[test]
fn a_kill_is_neither_value_nor_panic() {
    within(MINUTE, || {
        let target = spawn(|| sleep(HOUR));
        until_parked(target.id());
        target.kill();
        assert!(!target.is_successful());
        let error = target.get().unwrap_err();
        assert!(error.is_killed());
        assert!(!error.is_panic());
        assert_eq!(reports(), [], "a kill is nothing to report");
    });
}

// ---------------------------------------------------------- K1: before it began

#[test]
fn one_that_has_not_begun_never_does() {
    within(MINUTE, || {
        let log = Log::new();
        let doomed = |spawned: Greenlet<()>| {
            spawned.link(log.outcome());
            spawned.kill_nowait();
            assert!(spawned.is_finished(), "at once");
            spawned
        };
        let (guard, later_guard) = (log.at_drop("dropped"), log.at_drop("dropped"));
        let began = log.clone();
        let target = doomed(spawn(move || {
            let _guard = guard;
            began.say("began");
        }));
        let began = log.clone();
        let later = doomed(spawn_later(ms(1), move || {
            let _guard = later_guard;
            began.say("began");
        }));
        assert_eq!(log.lines(), ["dropped", "dropped"], "the closures at once, the links later");
        sleep(ms(5));
        log.assert_is(["dropped", "dropped", "killed", "killed"]);
        assert_eq!(end_of(target), End::Killed);
        assert_eq!(end_of(later), End::Killed);
    });
}

#[test]
fn one_that_has_not_begun_frees_who_waits_for_it() {
    within(MINUTE, || {
        let later = Rc::new(spawn_later(HOUR, || ()));
        let joiner = {
            let later = later.clone();
            spawn(move || later.join())
        };
        until_parked(joiner.id());
        later.kill_nowait();
        joiner.get().unwrap();
    });
}

/// What the closure holds may itself kill and wait when it is dropped.
#[test]
fn a_closure_dropped_unrun_may_call_back() {
    within(MINUTE, || {
        let other = Rc::new(spawn(|| sleep(HOUR)));
        until_parked(other.id());
        let guard = {
            let other = other.clone();
            at_drop(move || {
                spawn(|| ());
                other.kill();
            })
        };
        let target = spawn(move || drop(guard));
        target.kill();
        other.join();
        assert!(target.is_finished());
    });
}

// ------------------------------------------------------------- K3: again and again

#[test]
fn to_kill_the_dead_changes_nothing() {
    within(MINUTE, || {
        let target = spawn(|| 7);
        target.join();
        for _ in 0..3 {
            target.kill();
            target.kill_nowait();
            assert!(target.kill_timeout(HOUR));
        }
        assert!(target.is_successful());
        assert_eq!(end_of(target), End::Value(7));
    });
}

#[cfg(not(hard_switch))] // a fast path yields there
#[test]
fn to_kill_the_dead_does_not_wait() {
    within(MINUTE, || {
        let target = spawn(|| ());
        target.join();
        let log = Log::new();
        let said = log.clone();
        spawn(move || said.say("ran"));
        target.kill();
        assert!(target.kill_timeout(HOUR));
        killall([&target]);
        log.assert_empty();
    });
}

#[test]
fn the_dead_may_be_killed_by_many() {
    within(MINUTE, || {
        let target = Rc::new(spawn(|| sleep(HOUR)));
        until_parked(target.id());
        let killers: Vec<_> = (0..10)
            .map(|_| {
                let target = target.clone();
                spawn(move || target.kill())
            })
            .collect();
        joinall(&killers);
        assert!(killers.iter().all(Greenlet::is_successful));
        assert!(target.is_finished());
    });
}

// ------------------------------------------------------- K4: clean-up that waits

/// Cleans up when interrupted, which is over once `done` is set; then passes the interrupt on.
fn slow_to_die(log: &Log, done: &Rc<Cell<bool>>) -> Greenlet<()> {
    let (log, done) = (log.clone(), done.clone());
    let slow = spawn(move || {
        let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) else { return };
        log.say("cleans up");
        until(|| done.get());
        log.say("clean");
        interrupt.resume();
    });
    until_parked(slow.id());
    slow
}

#[test]
fn a_kill_waits_for_the_clean_up() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            said.say("start");
            if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
                said.say("interrupted");
                for _ in 0..5 {
                    sleep(ms(1));
                    yield_now();
                    spawn(|| sleep(ms(1))).join();
                }
                said.say("finished");
                interrupt.resume();
            }
        });
        until_parked(target.id());
        target.kill();
        log.assert_is(["start", "interrupted", "finished"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

#[test]
fn a_kill_with_a_limit_leaves_the_clean_up_alone() {
    within(MINUTE, || {
        let (log, done) = (Log::new(), Rc::new(Cell::new(false)));
        let target = slow_to_die(&log, &done);
        assert!(!target.kill_timeout(ms(5)));
        assert!(!target.is_finished());
        log.assert_is(["cleans up"]);
        done.set(true);
        target.join();
        log.assert_is(["cleans up", "clean"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

// -------------------------------------------------------------- K5: on oneself

/// A greenlet that is given its own handle.
fn on_itself<T: 'static>(f: impl FnOnce(&Greenlet<T>) -> T + 'static) -> Rc<Greenlet<T>> {
    let myself = Rc::new(RefCell::new(None::<Rc<Greenlet<T>>>));
    let greenlet = {
        let myself = myself.clone();
        spawn(move || {
            let me = myself.take().expect("the spawner runs on");
            f(&me)
        })
    };
    let greenlet = Rc::new(greenlet);
    *myself.borrow_mut() = Some(greenlet.clone());
    greenlet
}

#[test]
fn a_kill_of_oneself_unwinds_here() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = on_itself(move |me| {
            let _guard = said.at_drop("unwound");
            me.kill();
            said.say("went on");
        });
        target.join();
        log.assert_is(["unwound"]);
        assert!(!target.is_successful());
    });
}

#[test]
fn a_kill_of_oneself_without_a_wait_is_raised_at_the_next_wait() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = on_itself(move |me| {
            me.kill_nowait();
            said.say("still here");
            sleep(ms(1));
            said.say("went on");
        });
        target.join();
        log.assert_is(["still here"]);
        assert!(!target.is_successful());
    });
}

#[test]
fn a_kill_of_oneself_is_too_late_if_no_wait_follows() {
    within(MINUTE, || {
        let target = spawn(|| {
            current().kill_nowait();
            7
        });
        assert_eq!(end_of(target), End::Value(7));
    });
}

// ------------------------------------------- K6: a resumption that is on its way

/// A greenlet that is ready, and stays so until `go`.
fn ready(go: &Rc<Cell<bool>>, then: impl FnOnce() -> u32 + 'static) -> Greenlet<u32> {
    let go = go.clone();
    let ready = spawn(move || {
        until(|| go.get());
        then()
    });
    until(|| state_of(ready.id()) == Some("ready"));
    ready
}

#[test]
fn one_that_is_ready_is_resumed_first() {
    within(MINUTE, || {
        let (log, go) = (Log::new(), Rc::new(Cell::new(false)));
        let said = log.clone();
        let target = ready(&go, move || {
            said.say("resumed");
            sleep(ms(1));
            said.say("went on");
            7
        });
        go.set(true);
        target.kill();
        log.assert_is(["resumed"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

#[test]
fn one_that_is_ready_and_waits_no_more_ends_as_it_likes() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let target = ready(&go, || 7);
        go.set(true);
        target.kill();
        assert_eq!(end_of(target), End::Value(7));
    });
}

/// K9: the answer came before the kill, so the wait has been answered.
#[test]
fn one_whose_wait_is_over_is_not_robbed() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let awaited = Rc::new(ready(&go, || 7));
        let target = {
            let awaited = awaited.clone();
            Rc::new(spawn(move || {
                awaited.join();
                "answered"
            }))
        };
        until_parked(target.id());
        // Links run when those who wait have been made ready and have not yet run.
        let victim = target.clone();
        awaited.link(move |_| victim.kill_nowait());
        go.set(true);
        target.join();
        assert!(target.is_successful());
    });
}

// ------------------------------------------------------------------- K7: twice

#[test]
fn a_second_kill_adds_nothing() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            said.say("raised");
            // The second kill comes while the first is being dealt with.
            sleep(ms(20));
            said.say("clean");
            interrupt.resume();
        });
        until_parked(target.id());
        target.kill_nowait();
        target.kill_nowait();
        until(|| log.has("raised"));
        target.kill_nowait();
        target.kill();
        log.assert_is(["raised", "clean"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

// --------------------------------------- K9: the killed take nothing with them

#[test]
fn a_killed_acceptor_takes_no_connection() {
    within(MINUTE, || {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let acceptor = || {
            let listener = listener.clone();
            let acceptor = spawn(move || listener.accept().unwrap().1);
            until_parked(acceptor.id());
            acceptor
        };
        let (first, second) = (acceptor(), acceptor());
        // By a call that gives nobody a turn: the connection is there, and both are still parked.
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        first.kill_nowait();
        let peer = second.get().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        first.join();
    });
}

#[test]
fn a_killed_reader_takes_no_bytes() {
    within(MINUTE, || {
        let (here, mut there) = tcp_pair();
        let reader = || {
            let mut here = here.try_clone().unwrap();
            let reader = spawn(move || {
                let mut bytes = [0; 4];
                here.read_exact(&mut bytes).unwrap();
                bytes
            });
            until_parked(reader.id());
            reader
        };
        let (first, second) = (reader(), reader());
        there.write_all(b"four").unwrap();
        first.kill_nowait();
        assert_eq!(second.get().unwrap(), *b"four");
        assert_eq!(end_of(first), End::Killed);
    });
}

// --------------------------------------------------------- K11: the next of kin

#[test]
fn children_live_on() {
    within(MINUTE, || {
        let child = Rc::new(RefCell::new(None));
        let parent = {
            let child = child.clone();
            spawn(move || {
                *child.borrow_mut() = Some(spawn(|| {
                    sleep(ms(1));
                    7
                }));
                sleep(HOUR);
            })
        };
        until_parked(parent.id());
        parent.kill();
        assert_eq!(end_of(child.take().unwrap()), End::Value(7));
    });
}

#[test]
fn children_of_a_scope_go_first() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let parent = spawn(move || {
            let _guard = said.at_drop("parent");
            scope(|s| {
                s.spawn(|| {
                    let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) else { return };
                    sleep(ms(1));
                    said.say("child");
                    interrupt.resume();
                });
            });
        });
        settle(); // until the child sleeps, too
        parent.kill();
        log.assert_is(["child", "parent"]);
        assert_eq!(end_of(parent), End::Killed);
    });
}

/// K11: as well when it is the body of the scope that is killed.
#[test]
fn a_kill_in_the_body_of_a_scope_takes_the_children_along() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let parent = spawn(move || {
            scope(|s| {
                s.spawn(|| {
                    let _guard = said.at_drop("child");
                    sleep(HOUR);
                });
                sleep(HOUR);
            });
        });
        settle(); // until the child sleeps, too
        parent.kill();
        log.assert_is(["child"]);
        assert_eq!(end_of(parent), End::Killed);
    });
}

// ------------------------------------------------------- kills that meet kills

/// Case 22: who is killed while he kills dies, and so does his victim.
#[test]
fn a_killer_can_be_killed() {
    within(MINUTE, || {
        let (log, done) = (Log::new(), Rc::new(Cell::new(false)));
        let victim = Rc::new(slow_to_die(&log, &done));
        let killer = {
            let victim = victim.clone();
            spawn(move || victim.kill())
        };
        until_parked(killer.id());
        killer.kill();
        assert_eq!(end_of(killer), End::Killed);
        assert!(!victim.is_finished());
        done.set(true);
        victim.join();
        log.assert_is(["cleans up", "clean"]);
        assert!(!victim.is_successful());
    });
}

#[test]
fn a_killed_joiner_leaves_the_joined_alone() {
    within(MINUTE, || {
        let ready = Rc::new(Cell::new(false));
        let joined = {
            let ready = ready.clone();
            Rc::new(spawn(move || until(|| ready.get())))
        };
        let joiner = {
            let joined = joined.clone();
            spawn(move || joined.join())
        };
        until_parked(joiner.id());
        joiner.kill();
        assert!(!joined.is_finished());
        ready.set(true);
        joined.join();
        assert!(joined.is_successful());
    });
}

#[test]
fn two_may_kill_each_other() {
    within(MINUTE, || {
        let pair: Rc<RefCell<Vec<Rc<Greenlet<()>>>>> = Rc::default();
        let both_began = Rc::new(Cell::new(false));
        let killer_of = |other: usize| {
            let (pair, both_began) = (pair.clone(), both_began.clone());
            spawn(move || {
                until(|| both_began.get());
                let victim = pair.borrow()[other].clone();
                victim.kill();
                sleep(HOUR);
            })
        };
        let (a, b) = (Rc::new(killer_of(1)), Rc::new(killer_of(0)));
        pair.borrow_mut().extend([a.clone(), b.clone()]);
        until(|| a.is_started() && b.is_started());
        both_began.set(true);
        joinall([&*a, &*b]);
        assert!(!a.is_successful() && !b.is_successful());
        pair.borrow_mut().clear();
    });
}

// ---------------------------------------------------------------- refusing a kill

/// A greenlet that swallows what is raised in its sleeps, `refusals` times at most.
fn refuser(log: &Log, refusals: usize) -> Greenlet<()> {
    let log = log.clone();
    let refuser = spawn(move || {
        for _ in 0..refusals {
            if swallow(|| sleep(HOUR)).is_err() {
                log.say("refused");
            }
        }
        sleep(HOUR);
    });
    until_parked(refuser.id());
    refuser
}

/// K4: `catch_unwind` does not end the matter; the kill is raised again at each further wait.
#[test]
fn a_swallowed_kill_is_raised_again() {
    within(MINUTE, || {
        for refusals in 1..8 {
            let log = Log::new();
            let target = refuser(&log, refusals);
            target.kill();
            assert_eq!(log.count("refused"), refusals);
            assert_eq!(end_of(target), End::Killed);
        }
    });
}

#[test]
fn a_kill_swallowed_for_good_leaves_the_value() {
    within(MINUTE, || {
        let target = spawn(|| {
            let _ = swallow(|| sleep(HOUR));
            7
        });
        until_parked(target.id());
        target.kill();
        assert!(target.is_successful());
        assert_eq!(end_of(target), End::Value(7));
    });
}

/// K4: after the eighth refusal it is reported and left alone, and its killer goes on.
#[test]
fn one_that_refuses_eight_times_is_left_alone() {
    within(MINUTE, || {
        let (log, done) = (Log::new(), Rc::new(Cell::new(false)));
        let target = {
            let (log, done) = (log.clone(), done.clone());
            greenloom::Builder::new()
                .name("mule")
                .spawn(move || {
                    while !done.get() {
                        if swallow(|| sleep(ms(1))).is_err() {
                            log.say("refused");
                        }
                    }
                    7
                })
                .unwrap()
        };
        until_parked(target.id());
        target.kill();
        assert_eq!(log.count("refused"), 8);
        assert!(!target.is_finished());
        let reports = reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!(reports[0].name, "mule");
        assert!(reports[0].text.contains("refuses to be killed"), "{}", reports[0].text);

        // It lives, sleeps and ends as if nothing had been.
        sleep(ms(5));
        assert_eq!(log.count("refused"), 8);
        done.set(true);
        assert_eq!(end_of(target), End::Value(7));
    });
}

#[test]
fn everyone_who_waits_for_a_refused_kill_goes_on() {
    within(MINUTE, || {
        let done = Rc::new(Cell::new(false));
        let target = {
            let done = done.clone();
            Rc::new(spawn(move || {
                while !done.get() {
                    let _ = swallow(|| sleep(ms(1)));
                }
            }))
        };
        until_parked(target.id());
        let killers: Vec<_> = (0..3)
            .map(|_| {
                let target = target.clone();
                spawn(move || target.kill())
            })
            .collect();
        joinall(&killers);
        assert!(!target.kill_timeout(MINUTE), "it is still alive");
        assert_eq!(reports().len(), 1, "once is enough");
        done.set(true);
        target.join();
    });
}

/// Main can be killed and can refuse like anyone.
#[test]
fn main_can_be_killed() {
    within(MINUTE, || {
        current().kill_nowait();
        for _ in 0..8 {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            assert!(interrupt.is_kill());
        }
        assert_eq!(reports(), []);
        sleep(ms(1));
        let reports = reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!(reports[0].name, "main");
    });
}

#[test]
fn who_refuses_does_not_starve_the_others() {
    within(MINUTE, || {
        let done = Rc::new(Cell::new(false));
        let target = {
            let done = done.clone();
            spawn(move || {
                while !done.get() {
                    let _ = swallow(yield_now);
                }
            })
        };
        until(|| target.is_started());
        target.kill_nowait();
        sleep(ms(5));
        done.set(true);
        target.join();
        assert_eq!(reports().len(), 1);
    });
}

// ------------------------------------------------------------- catch_interrupt

#[test]
fn catch_interrupt_is_transparent_to_values_and_panics() {
    within(MINUTE, || {
        assert_eq!(catch_interrupt(|| 7).unwrap(), 7);
        assert_eq!(catch_interrupt(|| with_timeout(ms(1), || sleep(HOUR))).unwrap().ok(), None);
        let panic = swallow(|| catch_interrupt(|| panic!("boom"))).unwrap_err();
        assert_eq!(util::message(panic.as_ref()), "boom");
    });
}

#[test]
fn an_interrupt_says_what_it_is() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            said.say(interrupt.is_kill());
            said.say(interrupt.is_timeout());
            said.say(format!("{interrupt:?}").is_empty());
            interrupt.resume()
        });
        until_parked(target.id());
        target.kill();
        log.assert_is(["true", "false", "false"]);
        assert_eq!(end_of::<()>(target), End::Killed);
    });
}

#[test]
fn what_is_caught_may_be_caught_again_further_out() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            let outer = catch_interrupt(|| {
                let inner = catch_interrupt(|| sleep(HOUR)).unwrap_err();
                sleep(ms(1));
                said.say("inner");
                inner.resume()
            });
            let Err::<(), _>(outer) = outer else { return };
            sleep(ms(1));
            said.say("outer");
            outer.resume()
        });
        until_parked(target.id());
        target.kill();
        log.assert_is(["inner", "outer"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

/// To drop an interrupt is to refuse it: a kill comes again.
#[test]
fn a_kill_that_is_caught_and_dropped_is_raised_again() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            drop(catch_interrupt(|| sleep(HOUR)).unwrap_err());
            said.say("dropped");
            sleep(ms(1));
            said.say("went on");
        });
        until_parked(target.id());
        target.kill();
        log.assert_is(["dropped"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

#[test]
fn destructors_inside_run_before_the_clean_up() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let target = spawn(move || {
            let _outside = said.at_drop("outside");
            let interrupt = catch_interrupt(|| {
                let _inside = said.at_drop("inside");
                sleep(HOUR);
            })
            .unwrap_err();
            said.say("clean-up");
            interrupt.resume();
        });
        until_parked(target.id());
        target.kill();
        log.assert_is(["inside", "clean-up", "outside"]);
    });
}

// ---------------------------------------------------------------------- shield

#[test]
fn a_shield_holds_a_kill_back() {
    within(MINUTE, || {
        let (log, done) = (Log::new(), Rc::new(Cell::new(false)));
        let target = {
            let (log, done) = (log.clone(), done.clone());
            spawn(move || {
                shield(|| {
                    log.say("inside");
                    until(|| done.get());
                    sleep(ms(1));
                    spawn(|| ()).join();
                    log.say("still inside");
                });
                log.say("outside");
                sleep(ms(1));
                log.say("went on");
            })
        };
        until(|| log.has("inside"));
        assert!(!target.kill_timeout(ms(5)));
        log.assert_is(["inside"]);
        done.set(true);
        target.kill();
        log.assert_is(["inside", "still inside", "outside"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

#[test]
fn a_kill_held_back_to_the_end_is_too_late() {
    within(MINUTE, || {
        let target = spawn(|| {
            shield(|| sleep(ms(2)));
            7
        });
        until_parked(target.id());
        target.kill();
        assert_eq!(end_of(target), End::Value(7));
    });
}

#[test]
fn the_outermost_shield_counts() {
    within(MINUTE, || {
        let (log, done) = (Log::new(), Rc::new(Cell::new(false)));
        let target = {
            let (log, done) = (log.clone(), done.clone());
            spawn(move || {
                shield(|| {
                    shield(|| until(|| done.get()));
                    sleep(ms(1));
                    log.say("inner shield down");
                });
                sleep(ms(1));
                log.say("went on");
            })
        };
        until(|| target.is_started());
        target.kill_nowait();
        done.set(true);
        target.join();
        log.assert_is(["inner shield down"]);
        assert_eq!(end_of(target), End::Killed);
    });
}

/// A shield that is left by a panic is down.
#[test]
fn a_panic_lowers_the_shield() {
    within(MINUTE, || {
        let target = spawn(|| {
            let panic = swallow(|| shield(|| panic!("boom"))).unwrap_err();
            assert_eq!(util::message(panic.as_ref()), "boom");
            sleep(HOUR);
        });
        until_parked(target.id());
        target.kill();
        assert_eq!(end_of(target), End::Killed);
    });
}

/// A shield is worn by one greenlet, not by those it spawns.
#[test]
fn a_shield_does_not_cover_the_children() {
    within(MINUTE, || {
        let child = Rc::new(RefCell::new(None));
        let target = {
            let child = child.clone();
            spawn(move || shield(|| *child.borrow_mut() = Some(spawn(|| sleep(HOUR)))))
        };
        target.join();
        let child = child.take().unwrap();
        until_parked(child.id());
        child.kill();
        assert_eq!(end_of(child), End::Killed);
    });
}

// ------------------------------------------------------ calls during an unwind

/// What unwinds a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Kill,
    Panic,
    Timeout,
}

/// Lets a greenlet unwind for each cause and make a call from a destructor meanwhile. The call must
/// answer `expected` before anybody else has had a turn. `prepare` makes the call.
fn calls_while_unwinding<R, C>(prepare: impl Fn() -> C, expected: R)
where
    R: std::fmt::Debug,
    C: FnOnce() -> R + 'static,
{
    let expected = format!("{expected:?}");
    for cause in [Cause::Kill, Cause::Panic, Cause::Timeout] {
        let (log, unwinding) = (Log::new(), Rc::new(Cell::new(false)));
        let clean_up = {
            let (log, unwinding, call) = (log.clone(), unwinding.clone(), prepare());
            at_drop(move || {
                // An assertion that failed here would abort the process, so it is made below.
                unwinding.set(true);
                log.say(format!("{:?}", call()));
                unwinding.set(false);
            })
        };
        let target = spawn(move || {
            let end = move || {
                let _clean_up = clean_up;
                if cause == Cause::Panic {
                    panic!("boom");
                }
                sleep(HOUR);
            };
            match cause {
                Cause::Kill | Cause::Panic => end(),
                Cause::Timeout => assert!(with_timeout(ms(1), end).is_err()),
            }
        });
        let done = Rc::new(Cell::new(false));
        let bystander = {
            let done = done.clone();
            spawn(move || {
                until(|| {
                    assert!(!unwinding.get(), "it waited while it was unwinding");
                    done.get()
                });
            })
        };
        if cause == Cause::Kill {
            until_parked(target.id());
            target.kill();
        }
        target.join();
        log.assert_is([&expected]);
        done.set(true);
        bystander.get().unwrap();
        assert_eq!(reports().len(), usize::from(cause == Cause::Panic));
    }
}

fn sleeper() -> Greenlet<()> {
    let sleeper = spawn(|| sleep(HOUR));
    until_parked(sleeper.id());
    sleeper
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Uses one end of a connection whose other end stays open meanwhile.
fn on<R>(pair: &(TcpStream, TcpStream), f: impl FnOnce(&TcpStream) -> R) -> R {
    f(&pair.0)
}

/// `while_unwinding! { module: test: prepared call => answer; .. }`
macro_rules! while_unwinding {
    ($module:ident: $($name:ident: $prepare:expr => $expected:expr;)+) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $name() {
                    within(MINUTE, || calls_while_unwinding($prepare, $expected));
                }
            )+
        }
    };
}

while_unwinding! { while_unwinding:
    sleep_returns: || || sleep(HOUR) => ();
    yield_now_returns: || || yield_now() => ();
    idle_returns: || || idle() => ();
    join_returns: || {
        let other = sleeper();
        move || {
            other.join();
            other.is_finished()
        }
    } => false;
    join_timeout_is_false: || {
        let other = sleeper();
        move || other.join_timeout(HOUR)
    } => false;
    get_is_an_error: || {
        let other = sleeper();
        move || other.get().is_err()
    } => true;
    try_get_works: || {
        let other = spawn(|| 7);
        other.join();
        move || other.try_get().unwrap().unwrap()
    } => 7;
    joinall_returns: || {
        let others = [sleeper(), sleeper()];
        move || joinall(&others)
    } => ();
    joinall_timeout_is_false: || {
        let others = [sleeper(), sleeper()];
        move || joinall_timeout(&others, HOUR)
    } => false;
    wait_any_timeout_is_none: || {
        let others = [sleeper(), sleeper()];
        move || wait_any_timeout(others.iter().map(|other| other as &dyn Waitable), HOUR)
    } => None::<usize>;
    // The victim is doomed, but it has not had its turn yet.
    kill_returns: || {
        let other = sleeper();
        move || {
            other.kill();
            other.is_finished()
        }
    } => false;
    kill_timeout_is_false: || {
        let other = sleeper();
        move || other.kill_timeout(HOUR)
    } => false;
    killall_returns: || {
        let others = [sleeper(), sleeper()];
        move || {
            killall(&others);
            others.iter().any(Greenlet::is_finished)
        }
    } => false;
    spawn_works: || || spawn(|| 7).is_finished() => false;
    shield_returns: || || shield(|| sleep(HOUR)) => ();
    catch_interrupt_returns: || || catch_interrupt(|| sleep(HOUR)).is_ok() => true;
    with_timeout_returns: || || with_timeout(ms(1), || sleep(HOUR)).is_ok() => true;
    read_is_an_error: || {
        let pair = tcp_pair();
        move || on(&pair, |mut stream| kind(stream.read(&mut [0])))
    } => Some(io::ErrorKind::Other);
    // The loops of std must not spin on it.
    read_exact_is_an_error: || {
        let pair = tcp_pair();
        move || on(&pair, |mut stream| kind(stream.read_exact(&mut [0; 8])))
    } => Some(io::ErrorKind::Other);
    copy_is_an_error: || {
        let pair = tcp_pair();
        move || on(&pair, |mut stream| kind(io::copy(&mut stream, &mut io::sink())))
    } => Some(io::ErrorKind::Other);
    write_is_an_error: || {
        let pair = tcp_pair();
        move || on(&pair, |mut stream| {
            loop {
                if let Err(error) = stream.write_all(&[0; 1 << 16]) {
                    break error.kind();
                }
            }
        })
    } => io::ErrorKind::Other;
    accept_is_an_error: || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        move || kind(listener.accept())
    } => Some(io::ErrorKind::Other);
}

/// Whether `f` fails by a panic, because it has nothing to return.
fn panics<T>(f: impl FnOnce() -> T) -> bool {
    swallow(f).is_err()
}

while_unwinding! { instruments_while_unwinding:
    event_wait_returns: || {
        let event = Event::new();
        move || {
            event.wait();
            event.is_set()
        }
    } => false;
    event_wait_timeout_is_false: || || Event::new().wait_timeout(HOUR) => false;
    async_result_wait_returns: || || AsyncResult::<u32, ()>::new().wait() => ();
    async_result_get_works: || {
        || {
            let result = AsyncResult::<u32, ()>::new();
            result.set(7).unwrap();
            result.get()
        }
    } => Ok::<u32, ()>(7);
    async_result_wait_timeout_is_false: || {
        || AsyncResult::<u32, ()>::new().wait_timeout(HOUR)
    } => false;
    async_result_get_panics: || || panics(|| AsyncResult::<u32, ()>::new().get()) => true;
    async_result_get_timeout_is_an_error: || {
        || AsyncResult::<u32, ()>::new().get_timeout(HOUR).is_err()
    } => true;
    acquire_panics: || || panics(|| drop(Semaphore::new(0).acquire())) => true;
    acquire_timeout_is_none: || || Semaphore::new(0).acquire_timeout(HOUR).is_none() => true;
    acquire_works: || || Semaphore::new(1).acquire().forget() => ();
    lock_panics: || {
        let mutex = waits::held_mutex();
        move || panics(|| drop(mutex.lock()))
    } => true;
    lock_timeout_is_none: || {
        let mutex = waits::held_mutex();
        move || mutex.lock_timeout(HOUR).is_none()
    } => true;
    lock_works: || || *Mutex::new(7).lock() => 7;
    rlock_panics: || {
        let rlock = waits::held_rlock();
        move || panics(|| drop(rlock.lock()))
    } => true;
    rlock_timeout_is_none: || {
        let rlock = waits::held_rlock();
        move || rlock.lock_timeout(HOUR).is_none()
    } => true;
    read_lock_panics: || {
        let rwlock = waits::write_locked();
        move || panics(|| drop(rwlock.read()))
    } => true;
    read_lock_timeout_is_none: || {
        let rwlock = waits::write_locked();
        move || rwlock.read_timeout(HOUR).is_none()
    } => true;
    write_lock_panics: || {
        let rwlock = waits::read_locked();
        move || panics(|| drop(rwlock.write()))
    } => true;
    write_lock_timeout_is_none: || {
        let rwlock = waits::read_locked();
        move || rwlock.write_timeout(HOUR).is_none()
    } => true;
    rwlock_works: || {
        || {
            let rwlock = RwLock::new(7);
            *rwlock.write() += 1;
            *rwlock.read()
        }
    } => 8;
    condvar_wait_returns_the_guard: || {
        let mutex = Mutex::new(7);
        move || *Condvar::new().wait(mutex.lock())
    } => 7;
    condvar_wait_timeout_was_not_notified: || {
        let mutex = Mutex::new(7);
        move || Condvar::new().wait_timeout(mutex.lock(), HOUR).1
    } => false;
    barrier_wait_breaks_the_barrier: || {
        let barrier = Barrier::new(2);
        move || (barrier.wait().err(), barrier.is_broken())
    } => (Some(BrokenBarrier), true);
    queue_get_finds_it_empty: || || Queue::<u32>::new().get() => Err::<u32, _>(GetError::Empty);
    queue_peek_finds_it_empty: || || Queue::<u32>::new().peek() => Err::<u32, _>(GetError::Empty);
    queue_get_timeout_is_an_error: || || Queue::<u32>::new().get_timeout(HOUR).is_err() => true;
    queue_put_finds_it_full: || {
        let full = waits::full_queue();
        move || full.put(1)
    } => Err::<(), _>(PutError::Full(1));
    queue_put_timeout_gives_it_back: || {
        let full = waits::full_queue();
        move || full.put_timeout(1, HOUR).map_err(PutError::into_inner)
    } => Err::<(), _>(1);
    queue_put_and_get_work: || {
        || {
            let queue = Queue::<u32>::new();
            queue.put(7).unwrap();
            queue.get()
        }
    } => Ok::<_, GetError>(7);
    queue_iteration_ends: || || Queue::<u32>::new().iter().next() => None::<u32>;
    channel_put_finds_it_full: || || channel().put(1) => Err::<(), _>(PutError::Full(1));
    channel_get_finds_it_empty: || || channel::<u32>().get() => Err::<u32, _>(GetError::Empty);
    queue_join_returns: || {
        let queue = waits::with_one_item();
        move || {
            queue.join();
            queue.unfinished()
        }
    } => 1;
    queue_join_timeout_is_false: || {
        let queue = waits::with_one_item();
        move || queue.join_timeout(HOUR)
    } => false;
    pipe_recv_finds_it_empty: || {
        let (here, there) = pipe::<u32, u32>();
        move || {
            let received = here.recv();
            drop(there);
            received
        }
    } => Err::<u32, _>(GetError::Empty);
    pipe_poll_is_false: || {
        let (here, there) = pipe::<u32, u32>();
        move || {
            let polled = here.poll(HOUR);
            drop(there);
            polled
        }
    } => false;
    wait_any_timeout_of_many_kinds_is_none: || {
        || {
            let (event, queue) = (Event::new(), Queue::<u32>::new());
            wait_any_timeout([&event as &dyn Waitable, &queue], HOUR)
        }
    } => None::<usize>;
    pool_spawn_joins_the_line: || {
        let full = waits::full_pool();
        move || full.spawn(|| ()).is_finished()
    } => false;
    pool_spawn_timeout_gives_it_back: || {
        let full = waits::full_pool();
        move || match full.spawn_timeout(|| 7, HOUR) {
            Err(SpawnError::Full(f) | SpawnError::Elapsed(f)) => f(),
            Ok(_) | Err(SpawnError::Closed(_)) => 0,
        }
    } => 7;
    pool_wait_available_returns: || {
        let full = waits::full_pool();
        move || full.wait_available()
    } => ();
    pool_wait_available_timeout_is_false: || {
        let full = waits::full_pool();
        move || full.wait_available_timeout(HOUR)
    } => false;
    pool_join_returns: || {
        let full = waits::full_pool();
        move || full.join()
    } => ();
    pool_join_timeout_is_false: || {
        let full = waits::full_pool();
        move || full.join_timeout(HOUR)
    } => false;
    pool_kill_returns: || {
        let slow = waits::slow_pool();
        move || slow.kill()
    } => ();
    pool_kill_timeout_is_false: || {
        let slow = waits::slow_pool();
        move || slow.kill_timeout(HOUR)
    } => false;
    group_join_returns: || {
        let slow = waits::slow_group();
        move || slow.join()
    } => ();
    group_kill_timeout_is_false: || {
        let slow = waits::slow_group();
        move || slow.kill_timeout(HOUR)
    } => false;
    future_result_panics: || {
        let (_, job) = waits::busy_executor();
        move || panics(|| job.result())
    } => true;
    future_result_timeout_is_an_error: || {
        let (_, job) = waits::busy_executor();
        move || job.result_timeout(HOUR).is_err()
    } => true;
    concurrent_wait_returns: || {
        let (_, job) = waits::busy_executor();
        move || {
            let waited = concurrent::wait([&job], ALL_COMPLETED);
            (waited.done.len(), waited.not_done.len())
        }
    } => (0, 1);
    as_completed_ends: || {
        let (_, job) = waits::busy_executor();
        move || concurrent::as_completed([&job]).next().is_none()
    } => true;
    executor_shutdown_returns: || {
        let (executor, _) = waits::busy_executor();
        move || executor.shutdown()
    } => ();
    executor_shutdown_timeout_is_false: || {
        let (executor, _) = waits::busy_executor();
        move || executor.shutdown_timeout(HOUR)
    } => false;
}

#[cfg(target_os = "linux")] // elsewhere a full backlog may refuse
#[test]
fn connect_while_unwinding_is_an_error() {
    within(MINUTE, || {
        let prepare = || {
            let listener = FullListener::new();
            move || kind(TcpStream::connect(listener.address()))
        };
        calls_while_unwinding(prepare, Some(io::ErrorKind::Other));
    });
}

/// A scope in a destructor: its children are not left behind, though nobody may wait for them.
#[test]
fn a_scope_while_unwinding_leaves_no_child_behind() {
    within(MINUTE, || {
        let living = Living::new();
        let counted = living.clone();
        let prepare = move || {
            let living = counted.clone();
            move || {
                scope(|s| {
                    let token = living.token();
                    s.spawn(move || {
                        let _token = token;
                        sleep(HOUR);
                    });
                });
                living.count()
            }
        };
        calls_while_unwinding(prepare, 0);
        assert_eq!(living.count(), 0);
    });
}

/// The destructor of one unwinding greenlet may end another one, which unwinds in its own time.
#[test]
fn unwinding_may_spread() {
    within(MINUTE, || {
        let log = Log::new();
        let mut next: Option<Greenlet<()>> = None;
        for name in ["c", "b", "a"] {
            let (log, victim) = (log.clone(), next.take());
            let chain = spawn(move || {
                let _clean_up = at_drop(|| {
                    log.say(name);
                    victim.iter().for_each(Greenlet::kill);
                });
                sleep(HOUR);
            });
            until_parked(chain.id());
            next = Some(chain);
        }
        next.unwrap().kill();
        settle();
        log.assert_is(["a", "b", "c"]);
    });
}
