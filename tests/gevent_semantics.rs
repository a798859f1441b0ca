//! gevent's documented contract as an oracle: what its documentation promises and its tests check,
//! restated in our words and types. No code is ported.
//!
//! Each test names the number of its case in the design's list. The other files test the same
//! ground more deeply; here each contract stands in its own small form, so that who knows gevent
//! can read what holds and what differs.

mod util;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use greenloom::{
    Elapsed, Greenlet, Hub, LinkId, Outcome, Timeout, Waitable, catch_interrupt, current, iwait,
    joinall, joinall_timeout, killall, scope, sleep, spawn, spawn_later, wait_any,
    wait_any_timeout, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, blocks_forever, end_of, message, ms, reports, settle, spin,
    spinner, state_of, stuck, swallow, tcp_pair, until, until_parked, within,
};

#[test]
fn smoke() {
    within(MINUTE, || assert_eq!(spawn(|| 5).get().unwrap(), 5));
}

// ------------------------------------------------------- spawning, order, links

/// Case 1. Spawned greenlets run first in, first out; a child runs after those spawned before it,
/// and nothing runs before the spawner waits.
#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn case_1_spawn_order() {
    within(MINUTE, || {
        let log = Log::new();
        let speaker = |line: &'static str| {
            let log = log.clone();
            spawn(move || log.say(line))
        };
        let a0 = {
            let log = log.clone();
            spawn(move || {
                log.say("a0");
                spawn(move || log.say("child"));
            })
        };
        let (a1, a2) = (speaker("a1"), speaker("a2"));
        log.say("main");
        joinall([&a0, &a1, &a2]);
        settle();
        log.assert_is(["main", "a0", "a1", "a2", "child"]);
    });
}

/// Case 2. To yield is a strict round robin.
#[cfg(not(hard_switch))] // asserts the order of equals
#[test]
fn case_2_round_robin() {
    within(MINUTE, || {
        let log = Log::new();
        let walker = |name: u32| {
            let log = log.clone();
            spawn(move || {
                log.say(format!("{name}A"));
                yield_now();
                log.say(format!("{name}B"));
            })
        };
        joinall([walker(1), walker(2)]);
        log.assert_is(["1A", "2A", "1B", "2B"]);
    });
}

/// Case 3. A loop of yields does not starve a timer, neither in the greenlet itself nor in another,
/// nor does an endless chain of spawns.
#[test]
fn case_3_yields_do_not_starve_a_timer() {
    within(MINUTE, || {
        assert_eq!(with_timeout(ms(10), || until(|| false)), Err(Elapsed));

        let done = Rc::new(Cell::new(false));
        let spinning = spinner(&done);
        assert_eq!(with_timeout(ms(10), || spinning.join()), Err(Elapsed));
        done.set(true);
        spinning.join();

        fn chain(done: Rc<Cell<bool>>) {
            if !done.get() {
                spawn(move || chain(done));
            }
        }
        let done = Rc::new(Cell::new(false));
        chain(done.clone());
        sleep(ms(1));
        done.set(true);
    });
}

/// Case 4. The states before, in and after a run, for a value and for a panic.
#[test]
fn case_4_states() {
    within(MINUTE, || {
        let myself = Rc::new(RefCell::new(None::<Rc<Greenlet<i32>>>));
        let seen_inside = Rc::new(Cell::new(None));
        let good = {
            let (myself, seen) = (myself.clone(), seen_inside.clone());
            Rc::new(spawn(move || {
                let me = myself.take().expect("the spawner runs on");
                seen.set(Some((me.is_started(), me.is_finished(), me.is_successful())));
                5
            }))
        };
        *myself.borrow_mut() = Some(good.clone());
        assert_eq!((good.is_started(), good.is_finished()), (false, false));
        good.join();
        assert_eq!(seen_inside.get(), Some((true, false, false)));
        assert!(good.is_finished() && good.is_successful());
        assert_eq!(end_of(Rc::into_inner(good).unwrap()), End::Value(5));

        let bad = spawn(|| panic!("E"));
        bad.join();
        assert!(bad.is_finished() && !bad.is_successful());
        assert_eq!(end_of::<()>(bad), End::Panicked(String::from("E")));
        assert_eq!(reports().len(), 1);
    });
}

/// Case 5. One run, however often it is waited for. (gevent: however often it is started; here
/// `spawn` is the only start.)
#[test]
fn case_5_runs_once() {
    within(MINUTE, || {
        let runs = Rc::new(Cell::new(0));
        let count = runs.clone();
        let greenlet = spawn(move || count.set(count.get() + 1));
        for _ in 0..3 {
            greenlet.join();
            joinall([&greenlet, &greenlet]);
        }
        greenlet.get().unwrap();
        assert_eq!(runs.get(), 1);
    });
}

/// Case 6. A handle keeps nothing alive that has ended, and its end keeps nothing alive either.
/// (gevent frees an unstarted greenlet with its handle; here there is none: it runs.)
#[test]
fn case_6_a_dropped_handle() {
    within(MINUTE, || {
        let living = Living::new();
        let holder = || {
            let token = living.token();
            spawn(move || drop(token))
        };
        let ran = holder();
        drop(ran);
        settle();
        assert_eq!(living.count(), 0);

        let killed = holder();
        killed.kill_nowait();
        drop(killed);
        settle();
        assert_eq!(living.count(), 0);

        let finished = holder();
        finished.join();
        assert_eq!(living.count(), 0, "although the handle lives");
    });
}

/// Case 7. The form with a scope: a normal end joins, an error in the body ends the others first.
/// (gevent does not raise what the greenlet raised; here a scope raises it as std's does, unless
/// somebody took it.)
#[test]
fn case_7_the_scope_form() {
    within(MINUTE, || {
        let log = Log::new();
        scope(|s| {
            s.spawn(|| {
                sleep(ms(1));
                log.say("joined");
            });
        });
        log.assert_is(["joined"]);

        let error = swallow(|| {
            scope(|s| {
                s.spawn(|| {
                    log.say("began");
                    let _guard = log.at_drop("killed");
                    sleep(HOUR);
                });
                until(|| log.has("began"));
                panic!("suite");
            })
        });
        assert_eq!(message(error.unwrap_err().as_ref()), "suite");
        log.assert_is(["joined", "began", "killed"]);

        let raised = swallow(|| {
            scope(|s| {
                s.spawn(|| panic!("child"));
            })
        });
        assert!(raised.is_err());
        assert!(scope(|s| s.spawn(|| panic!("child")).get().map(|()| 7)).is_err());
        assert_eq!(reports().len(), 2);
    });
}

/// Case 8. Links fire for each kind of end; three times over on the finished, each time later.
#[test]
fn case_8_links() {
    within(MINUTE, || {
        let unborn = spawn_later(HOUR, || 7);
        unborn.kill_nowait();
        for (greenlet, kind) in
            [(spawn(|| 7), "value"), (spawn(|| panic!("E")), "panicked"), (unborn, "killed")]
        {
            let log = Log::new();
            for _ in 0..10 {
                greenlet.link(log.outcome());
            }
            greenlet.join();
            settle();
            assert_eq!((log.len(), log.count(kind)), (10, 10));
            for round in 1..=3 {
                greenlet.link(log.outcome());
                assert_eq!(log.len(), 10 + round - 1);
                settle();
                assert_eq!(log.count(kind), 10 + round);
            }
        }
        assert_eq!(reports().len(), 1);
    });
}

/// Case 10. Two links that unlink each other: the first to run wins, and a third runs all the same.
#[test]
fn case_10_unlink_during_notification() {
    within(MINUTE, || {
        let log = Log::new();
        let greenlet = Rc::new(spawn(|| ()));
        let links = [Rc::new(Cell::new(None::<LinkId>)), Rc::new(Cell::new(None))];
        for (mine, other) in [(0, 1), (1, 0)] {
            let (back, victim) = (Rc::downgrade(&greenlet), links[other].clone());
            let log = log.clone();
            let link = greenlet.link(move |_| {
                log.say("one of two");
                let greenlet = back.upgrade().expect("its handle is alive");
                greenlet.unlink(victim.get().expect("both are linked"));
                panic!("unlinker");
            });
            links[mine].set(Some(link));
        }
        let third = log.clone();
        greenlet.link(move |_| third.say("third"));
        greenlet.join();
        log.assert_is(["one of two", "third"]);
        assert_eq!(reports().len(), 1);
    });
}

/// Case 11. Links run in the order in which they were made.
#[test]
fn case_11_order_of_links() {
    within(MINUTE, || {
        let order = Rc::new(RefCell::new(Vec::new()));
        let greenlet = spawn(|| ());
        for n in 0..1000 {
            let order = order.clone();
            greenlet.link(move |_| order.borrow_mut().push(n));
        }
        greenlet.join();
        assert!(order.borrow().iter().copied().eq(0..1000));
    });
}

// ------------------------------------------------------------------------- kill

/// Case 13. Whether not begun, due later, or parked: killed with or without a wait, alone or with
/// others, it does not run on, its link fires once, and a second kill changes nothing.
#[test]
fn case_13_kill_matrix() {
    /// Makes a greenlet whose body must not run to its end.
    type Make = fn(&Log) -> Greenlet<()>;
    const MAKE: [Make; 3] = [
        |log| {
            let log = log.clone();
            spawn(move || log.say("ran"))
        },
        |log| {
            let log = log.clone();
            spawn_later(ms(1), move || log.say("ran"))
        },
        |log| {
            let log = log.clone();
            let parked = spawn(move || {
                sleep(HOUR);
                log.say("ran");
            });
            until_parked(parked.id());
            parked
        },
    ];
    const KILL: [fn(&Greenlet<()>); 4] = [
        |greenlet| greenlet.kill(),
        |greenlet| greenlet.kill_nowait(),
        |greenlet| assert!(greenlet.kill_timeout(MINUTE)),
        |greenlet| killall([greenlet]),
    ];
    within(MINUTE, || {
        for (make, kill) in MAKE.iter().flat_map(|make| KILL.iter().map(move |kill| (make, kill))) {
            let log = Log::new();
            let greenlet = make(&log);
            greenlet.link(log.outcome());
            kill(&greenlet);
            greenlet.join();
            kill(&greenlet);
            sleep(ms(2));
            assert!(greenlet.is_finished() && !greenlet.is_successful());
            log.assert_is(["killed"]);
            assert_eq!(end_of(greenlet), End::Killed);
        }
    });
}

/// Case 14. When `kill` returns, the clean-up is complete.
#[test]
fn case_14_kill_waits_for_clean_up() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let dormant = spawn(move || {
            said.say("start");
            if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
                said.say("except");
                sleep(ms(5));
                said.say("finished");
                interrupt.resume();
            }
        });
        until_parked(dormant.id());
        dormant.kill();
        log.assert_is(["start", "except", "finished"]);
    });
}

/// Case 15. A limit bounds the wait for the clean-up, not the clean-up.
#[test]
fn case_15_kill_with_a_limit() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let gone = go.clone();
        let slow = spawn(move || {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            until(|| gone.get());
            interrupt.resume();
        });
        until_parked(slow.id());
        assert!(!slow.kill_timeout(ms(5)));
        assert!(!slow.is_finished());
        go.set(true);
        assert_eq!(end_of::<()>(slow), End::Killed);
    });
}

/// Case 16. To kill oneself ends there; without waiting, at the next wait; with none, never.
#[test]
fn case_16_kill_oneself() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let at_next_wait = spawn(move || {
            current().kill_nowait();
            said.say("went on");
            sleep(ms(1));
            said.say("survived");
        });
        assert_eq!(end_of(at_next_wait), End::Killed);
        log.assert_is(["went on"]);

        let never = spawn(|| {
            current().kill_nowait();
            "value"
        });
        assert_eq!(end_of(never), End::Value("value"));

        let myself = Rc::new(RefCell::new(None::<Greenlet<()>>));
        let (mine, said) = (myself.clone(), log.clone());
        let there = spawn(move || {
            mine.take().expect("the spawner runs on").kill();
            said.say("survived");
        });
        there.link(log.outcome());
        *myself.borrow_mut() = Some(there);
        settle();
        log.assert_is(["went on", "killed"]);
    });
}

/// Case 17. A resumption that is on its way comes first; the kill is raised at the next wait.
#[test]
fn case_17_kill_and_a_scheduled_resumption() {
    within(MINUTE, || {
        let (log, go) = (Log::new(), Rc::new(Cell::new(false)));
        let (said, gone) = (log.clone(), go.clone());
        let greenlet = spawn(move || {
            until(|| gone.get());
            said.say("after the yield");
            yield_now();
            said.say("after the kill");
        });
        until(|| state_of(greenlet.id()) == Some("ready"));
        go.set(true);
        greenlet.kill_nowait();
        assert_eq!(end_of(greenlet), End::Killed);
        log.assert_is(["after the yield"]);
    });
}

/// Case 19. Killing several: those that have not begun are dead at once; those that clean up are
/// still alive when a limit has passed. (gevent's `killall` takes the limit; here
/// `joinall_timeout` does.)
#[test]
fn case_19_kill_several_with_a_limit() {
    within(MINUTE, || {
        let unborn = [spawn(|| ()), spawn(|| ())];
        unborn.iter().for_each(Greenlet::kill_nowait);
        assert!(unborn.iter().all(Greenlet::is_finished));

        let go = Rc::new(Cell::new(false));
        let slow: Vec<_> = (0..2)
            .map(|_| {
                let gone = go.clone();
                let slow = spawn(move || {
                    let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
                    until(|| gone.get());
                    interrupt.resume();
                });
                until_parked(slow.id());
                slow
            })
            .collect();
        slow.iter().for_each(Greenlet::kill_nowait);
        assert!(!joinall_timeout(&slow, ms(5)));
        assert!(!slow.iter().any(|slow: &Greenlet<()>| slow.is_finished()));
        go.set(true);
        killall(&slow);
        assert!(slow.iter().all(Greenlet::is_finished));
    });
}

/// Case 22. One that is killed while it kills ends, and its victim still dies.
#[test]
fn case_22_kill_a_killer() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let gone = go.clone();
        let victim = Rc::new(spawn(move || {
            let interrupt = catch_interrupt(|| sleep(HOUR)).unwrap_err();
            until(|| gone.get());
            interrupt.resume()
        }));
        until_parked(victim.id());
        let target: Rc<Greenlet<()>> = victim.clone();
        let killer = spawn(move || target.kill());
        until_parked(killer.id());
        killer.kill();
        assert!(killer.is_finished() && !victim.is_finished());
        go.set(true);
        victim.join();
        assert!(!victim.is_successful());
    });
}

// --------------------------------------------------------------------- timeouts

/// Case 23. A timeout from outside passes through an operation that has a limit of its own.
#[test]
fn case_23_an_outer_timeout_is_not_lost() {
    within(MINUTE, || {
        let never = Rc::new(spawn(|| sleep(HOUR)));
        let (mut here, _there) = tcp_pair();
        here.set_read_timeout(Some(HOUR)).unwrap();
        let outer = |operation: &mut dyn FnMut()| with_timeout(ms(1), operation);
        assert_eq!(outer(&mut || sleep(HOUR)), Err(Elapsed));
        assert_eq!(outer(&mut || _ = never.join_timeout(HOUR)), Err(Elapsed));
        assert_eq!(outer(&mut || _ = joinall_timeout([&*never], HOUR)), Err(Elapsed));
        assert_eq!(outer(&mut || _ = wait_any_timeout([&*never], HOUR)), Err(Elapsed));
        assert_eq!(outer(&mut || _ = iwait([&*never]).next()), Err(Elapsed));
        assert_eq!(outer(&mut || _ = here.read(&mut [0])), Err(Elapsed));
        assert_eq!(outer(&mut || _ = with_timeout(HOUR, || never.join())), Err(Elapsed));
    });
}

/// Case 24. The shorter of two ends its own block alone; the outer one, if it is the shorter, ends
/// both, and the inner one is disarmed.
#[test]
fn case_24_nesting() {
    within(MINUTE, || {
        let outer = Timeout::start(HOUR);
        let inner = Timeout::start(ms(1));
        assert_eq!(outer.catch(|| inner.catch(|| sleep(HOUR))), Ok(Err(Elapsed)));
        assert!(outer.is_pending() && !inner.is_pending());
        outer.cancel();

        let outer = with_timeout(ms(1), || {
            let inner = Timeout::start(HOUR);
            inner.catch(|| sleep(HOUR))
        });
        assert_eq!(outer, Err(Elapsed));
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

/// Case 25. Cancelled, it does not fire; it can be used again after it has fired, and after it was
/// cancelled. (Here: another one is started.)
#[test]
fn case_25_forms() {
    within(MINUTE, || {
        let cancelled = Timeout::start(ms(1));
        cancelled.cancel();
        sleep(ms(3));
        for _ in 0..2 {
            let fires = Timeout::start(ms(1));
            assert_eq!(fires.catch(|| sleep(HOUR)), Err(Elapsed));
        }
        assert_eq!(with_timeout(HOUR, || "no exception"), Ok("no exception"));
    });
}

/// Case 26. Time counts from the start of the timeout, not from when the hub last looked.
#[test]
fn case_26_the_base_is_now() {
    within(MINUTE, || {
        yield_now();
        spin(ms(200));
        assert_eq!(with_timeout(ms(100), || sleep(ms(50))), Ok(()));
    });
}

/// Case 27. What has come and what is overdue in the same turn: what has come wins.
#[test]
fn case_27_work_beats_timeout() {
    within(MINUTE, || {
        let (mut here, mut there) = tcp_pair();
        spawn(move || {
            there.write_all(b"x").unwrap();
            spin(ms(40));
        });
        let mut byte = [0];
        assert_eq!(with_timeout(ms(20), || here.read(&mut byte).unwrap()), Ok(1));
    });
}

/// Case 28. `with_timeout` answers for its own expiry; that of another passes through.
#[test]
fn case_28_with_timeout() {
    within(MINUTE, || {
        assert_eq!(with_timeout(ms(1), || sleep(HOUR)), Err(Elapsed));
        let foreign = Timeout::start(ms(1));
        let passed = foreign.catch(|| {
            let own = with_timeout(HOUR, || sleep(HOUR));
            unreachable!("it took another's: {own:?}");
        });
        assert_eq!(passed, Err::<(), _>(Elapsed));
    });
}

// --------------------------------------------------------- waiting, and the hub

/// Case 57. The failure that came first is not that of the first in the list. (gevent's `joinall`
/// raises it; here it is read from the greenlets, in the order in which they ended.)
#[test]
fn case_57_order_of_failures() {
    within(MINUTE, || {
        let go = Rc::new(Cell::new(false));
        let gone = go.clone();
        let late = spawn(move || {
            until(|| gone.get());
            panic!("late")
        });
        let early = spawn(|| panic!("early"));
        let all: [Greenlet<()>; 2] = [late, early];
        let mut ended = iwait(&all);
        assert_eq!(ended.next(), Some(1));
        assert!(!all[0].is_finished(), "the count is one");
        go.set(true);
        assert_eq!(ended.next(), Some(0));
        assert_eq!(reports().len(), 2);
    });
}

/// Case 58. Some of several: the first two of three; those that were ready when time was up; each
/// thing once for each time it is named.
#[test]
fn case_58_some_of_several() {
    within(MINUTE, || {
        let (a, b, never) = (spawn(|| ()), spawn(|| 7), spawn(|| sleep(HOUR)));
        let things = || [&a as &dyn Waitable, &never, &b];
        let mut two: Vec<_> = iwait(things()).take(2).collect();
        two.sort();
        assert_eq!(two, [0, 2]);

        let mut some = Vec::new();
        let all = with_timeout(ms(5), || some.extend(iwait(things())));
        assert_eq!(all, Err(Elapsed));
        assert_eq!(some, [0, 2]);

        assert_eq!(iwait([&a, &a]).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(wait_any(things()), 0);
        assert!(!joinall_timeout(things(), ms(1)));
    });
}

/// Case 59. A body that waits between the items loses none; one that leaves early leaves no trace.
#[test]
fn case_59_iwait_with_a_body_that_waits() {
    within(MINUTE, || {
        let all: Vec<_> = (0..4).map(|_| spawn(yield_now)).collect();
        let mut count = 0;
        for _ in iwait(&all) {
            count += 1;
            sleep(ms(1));
        }
        assert_eq!(count, 4);

        let all: Vec<_> = (0..4).map(|n| spawn(move || sleep(n * ms(5)))).collect();
        assert_eq!(iwait(&all).next(), Some(0));
        joinall(&all);
        sleep(ms(1));
    });
}

/// Case 60. When nothing can ever wake main, its wait says so, names who is stuck, and the hub can
/// be used afterwards, again and again.
#[test]
fn case_60_blocks_forever_and_goes_on() {
    within(MINUTE, || {
        let stuck = stuck();
        for _ in 0..3 {
            let report = blocks_forever(|| stuck.join());
            assert!(report.contains(&stuck.name()), "{report}");
            sleep(ms(1));
            assert_eq!(spawn(|| 7).get().unwrap(), 7);
            assert!(!stuck.is_finished(), "it stays as it is");
        }
    });
}

/// Case 65. Another thread wakes a sleeping hub; while it may, main does not wait in vain.
#[test]
fn case_65_woken_from_another_thread() {
    within(MINUTE, || {
        let remote = Hub::current().remote();
        let stuck = stuck();
        let (asleep, is_asleep) = mpsc::channel();
        let waker = thread::spawn(move || {
            is_asleep.recv().unwrap();
            let (tell, told) = mpsc::channel();
            remote.spawn(move || tell.send(current().is_main()).unwrap()).unwrap();
            let in_main = told.recv().unwrap();
            // The last remote goes with this thread.
            drop(remote);
            in_main
        });
        asleep.send(()).unwrap();
        // Without the remote this would be the end at once; with it, it is when the remote is gone.
        blocks_forever(|| stuck.join());
        assert!(!waker.join().unwrap(), "it ran in a greenlet");
    });
}

/// Case 65. What the remote brings is answered by a link or a value like anything else.
#[test]
fn case_65_a_remote_result() {
    within(MINUTE, || {
        thread_local! {
            static ARRIVED: Cell<u32> = const { Cell::new(0) };
        }
        let remote = Hub::current().remote();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let remote = remote.clone();
                thread::spawn(move || {
                    for _ in 0..100 {
                        remote.spawn(|| ARRIVED.set(ARRIVED.get() + 1)).unwrap();
                    }
                })
            })
            .collect();
        until(|| ARRIVED.get() == 400);
        for worker in workers {
            worker.join().unwrap();
        }
        let log = Log::new();
        let done = spawn(|| ARRIVED.get());
        let said = log.clone();
        done.link(move |outcome| {
            if let Outcome::Value(arrived) = outcome {
                said.say(arrived);
            }
        });
        done.join();
        log.assert_is(["400"]);
    });
}
