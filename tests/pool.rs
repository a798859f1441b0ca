//! Groups and pools: who is inside, who waits to come in, and that no slot is ever lost or doubled,
//! however a greenlet ends. (`pool_map.rs` is about `map` and `imap`.)
//!
//! P1, K9, ... are the rules of the design, and "case 48" its list of cases, which each test that is
//! about one names; "Pool" is the paragraph of that name in its settled details.

mod util;

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Instant;

use greenloom::pool::{Group, Pool, SpawnError};
use greenloom::sync::Event;
use greenloom::{
    Elapsed, Greenlet, Hub, JoinError, catch_interrupt, current, joinall, killall, scope, shield,
    sleep, spawn, spawn_later, wait_any, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, message, ms, reason_of,
    reports, settle, spin, state_of, stuck, swallow, until, waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let member = pool.spawn(|| 7);
        assert_eq!((pool.len(), pool.free_count()), (1, 1));
        assert_eq!(member.get().unwrap(), 7);
        assert_whole(&pool);
    });
}

// ------------------------------------------------------------------------ words

/// A full pool, whose members end when the event is set.
fn busy(size: usize) -> (Pool, Event) {
    let (pool, gate) = (Pool::new(size), Event::new());
    for _ in 0..size {
        let gate = gate.clone();
        pool.spawn(move || gate.wait());
    }
    settle();
    (pool, gate)
}

/// A greenlet that waits to spawn `f` in `pool`, and returns what it spawned.
fn spawner<T: 'static>(pool: &Pool, f: impl FnOnce() -> T + 'static) -> Greenlet<Greenlet<T>> {
    let pool = pool.clone();
    parked(spawn(move || pool.spawn(f)))
}

/// `greenlet`, once it waits; or has ended, if its time is short and the machine is slow.
fn parked<T: 'static>(greenlet: Greenlet<T>) -> Greenlet<T> {
    until(|| greenlet.is_finished() || state_of(greenlet.id()) == Some("parked"));
    greenlet
}

/// One that was let in.
#[track_caller]
fn let_in<T, F>(result: Result<Greenlet<T>, SpawnError<F>>) -> Greenlet<T> {
    match result {
        Ok(greenlet) => greenlet,
        Err(_) => panic!("it was not let in"),
    }
}

/// Nobody is inside, and there are as many slots as there should be: none is lost, none doubled.
#[track_caller]
fn assert_whole(pool: &Pool) {
    assert_eq!((pool.len(), pool.free_count()), (0, pool.size()));
    assert!(pool.is_empty() && !pool.is_full());
    let members: Vec<_> =
        (0..pool.size()).map(|_| let_in(pool.try_spawn(|| sleep(HOUR)))).collect();
    assert!(pool.is_full());
    assert!(matches!(pool.try_spawn(|| ()), Err(SpawnError::Full(_))));
    killall(&members);
    assert_eq!((pool.len(), pool.free_count()), (0, pool.size()));
}

/// How many are in it now, and how many there ever were at a time.
#[derive(Clone, Debug, Default)]
struct Gauge(Rc<Cell<(usize, usize)>>);

impl Gauge {
    /// One more, until the token is dropped.
    fn enter(&self) -> impl Drop + use<> {
        let gauge = self.0.clone();
        let (now, most) = gauge.get();
        gauge.set((now + 1, most.max(now + 1)));
        at_drop(move || gauge.set((gauge.get().0 - 1, gauge.get().1)))
    }

    fn most(&self) -> usize {
        self.0.get().1
    }
}

/// Waits for a kill, and then for `clean_up`, whoever kills it again meanwhile.
fn die_after(clean_up: impl FnOnce(), log: &Log) {
    if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
        clean_up();
        log.say("gone");
        interrupt.resume();
    }
}

/// A pool of one, whose member is killed in vain until the event is set.
fn tough(log: &Log) -> (Pool, Event) {
    let (pool, gate, log) = (Pool::new(1), Event::new(), log.clone());
    let held = gate.clone();
    parked(pool.spawn(move || die_after(|| held.wait(), &log)));
    (pool, gate)
}

/// Sets `event` as soon as the caller waits.
fn set_soon(event: &Event) {
    let event = event.clone();
    spawn(move || event.set());
}

/// What `f` returns to a destructor that calls it while its greenlet unwinds.
fn while_unwinding<T: 'static>(f: impl FnOnce() -> T + 'static) -> T {
    let answer = Rc::new(RefCell::new(None));
    let kept = answer.clone();
    let unwinding = parked(spawn(move || {
        let _guard = at_drop(move || *kept.borrow_mut() = Some(f()));
        sleep(HOUR);
    }));
    unwinding.kill();
    answer.take().expect("the destructor has run")
}

/// What a greenlet that is yet to be spawned will be known by.
type Known<T> = Rc<OnceCell<Greenlet<T>>>;

fn unknown<T>() -> Known<T> {
    Rc::new(OnceCell::new())
}

fn known<T>(known: &Known<T>) -> &Greenlet<T> {
    known.get().expect("it is spawned by now")
}

// ------------------------------------------------------------------ Group: joining

#[test]
fn a_group_joins_all() {
    within(MINUTE, || {
        let (group, log) = (Group::new(), Log::new());
        for n in [3, 1, 2] {
            let log = log.clone();
            group.spawn(move || {
                sleep(ms(n));
                log.say(n);
            });
        }
        assert_eq!(group.len(), 3);
        group.join();
        assert!(group.is_empty());
        log.assert_has_all(["1", "2", "3"]);
    });
}

/// P1: a member has left before its end can be known to anybody.
#[test]
fn a_member_leaves_before_its_end_is_known() {
    within(MINUTE, || {
        let group = Group::new();
        group.spawn(|| ()).join();
        assert_eq!(group.len(), 0);
        group.spawn(|| ()).get().unwrap();
        assert_eq!(group.len(), 0);
        wait_any([&group.spawn(|| ())]);
        assert_eq!(group.len(), 0);
        let inside = Rc::new(Cell::new(None));
        let (counted, keep) = (group.clone(), inside.clone());
        group.spawn(|| ()).link(move |_| keep.set(Some(counted.len())));
        settle();
        assert_eq!(inside.get(), Some(0));
    });
}

/// Case 55, T8: to join nobody is to return at once; to join with a limit says how it went.
#[test]
fn case_55_join_of_a_group() {
    within(MINUTE, || {
        let group = Group::new();
        group.join();
        assert!(group.join_timeout(ms(0)));
        let start = Instant::now();
        let endless = group.spawn(|| sleep(HOUR));
        assert!(!group.join_timeout(ms(5)));
        assert!(start.elapsed() >= ms(5));
        assert_eq!(with_timeout(ms(1), || group.join()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || group.join_timeout(HOUR)), Err(Elapsed));
        endless.kill();
        assert!(group.join_timeout(HOUR));
    });
}

/// P5, case 55: those whom members spawn meanwhile are awaited.
#[test]
fn case_55_children_of_members_are_awaited() {
    fn descend(group: Group, depth: usize, log: Log) {
        yield_now();
        if depth > 0 {
            let (inner, said) = (group.clone(), log.clone());
            group.spawn(move || descend(inner, depth - 1, said));
        }
        log.say(depth);
    }
    within(MINUTE, || {
        let (group, log) = (Group::new(), Log::new());
        let (inner, said) = (group.clone(), log.clone());
        group.spawn(move || descend(inner, 3, said));
        group.join();
        log.assert_is(["3", "2", "1", "0"]);
    });
}

/// P5: it was empty once; that others have come since does not matter.
#[test]
fn join_returns_if_it_was_empty_once() {
    within(MINUTE, || {
        let (group, gate) = (Group::new(), Event::new());
        let held = gate.clone();
        let last = group.spawn(move || held.wait());
        let refill = group.clone();
        last.link(move |_| drop(refill.spawn(|| sleep(HOUR))));
        let joiner = {
            let group = group.clone();
            parked(spawn(move || group.join()))
        };
        gate.set();
        joiner.join();
        assert_eq!(group.len(), 1);
    });
}

#[test]
fn a_group_is_joined_by_many() {
    within(MINUTE, || {
        let (group, gate) = (Group::default(), Event::new());
        let held = gate.clone();
        group.spawn(move || held.wait());
        let joiners: Vec<_> = (0..10)
            .map(|_| {
                let group = group.clone();
                parked(spawn(move || group.join()))
            })
            .collect();
        gate.set();
        joinall(&joiners);
    });
}

/// A member that waits for its own group waits for itself.
#[test]
fn a_member_that_joins_its_group_blocks_forever() {
    within(MINUTE, || {
        let group = Group::new();
        let inner = group.clone();
        let member = group.spawn(move || inner.join());
        let report = blocks_forever(|| member.join());
        assert!(report.contains("join of the Group made at tests/pool.rs:"), "{report}");
        let reason = reason_of(member.id()).unwrap();
        assert!(reason.starts_with("join of the Group made at tests/pool.rs:"), "{reason}");
    });
}

// ---------------------------------------------------------- Group: add, discard, drop

/// P4: to a group, which has no bound that it could exceed; a pool takes none.
#[test]
fn a_running_greenlet_can_be_added() {
    within(MINUTE, || {
        let group = Group::new();
        let greenlet = parked(spawn(|| sleep(HOUR)));
        group.add(&greenlet);
        group.add(&greenlet);
        assert_eq!(group.len(), 1, "once");
        assert!(!group.join_timeout(ms(1)));
        group.kill();
        assert!(greenlet.is_finished() && group.is_empty());
        group.add(&greenlet);
        assert_eq!(group.len(), 0, "there is nothing left to wait for");
    });
}

#[test]
fn one_that_has_not_begun_can_be_added() {
    within(MINUTE, || {
        let group = Group::new();
        let (ready, later) = (spawn(|| 1), spawn_later(HOUR, || 2));
        group.add(&ready);
        group.add(&later);
        assert_eq!(group.len(), 2);
        later.kill();
        group.join();
        assert_eq!(end_of(ready), End::Value(1));
    });
}

/// Members may return whatever they like, and be in several groups.
#[test]
fn a_greenlet_may_be_in_several_groups() {
    within(MINUTE, || {
        let (one, two, pool) = (Group::new(), Group::new(), Pool::new(1));
        let greenlet = pool.spawn(|| {
            sleep(HOUR);
            String::new()
        });
        one.add(&greenlet);
        two.add(&greenlet);
        one.spawn(|| 1_u8);
        one.kill();
        assert_eq!((one.len(), two.len()), (0, 0));
        two.join();
        assert_whole(&pool);
    });
}

#[test]
fn a_discarded_member_is_nobodys_business() {
    within(MINUTE, || {
        let group = Group::new();
        let (stays, leaves) = (group.spawn(|| sleep(HOUR)), group.spawn(|| sleep(HOUR)));
        let stranger = spawn(|| ());
        assert!(group.discard(&leaves));
        assert!(!group.discard(&leaves), "it is out already");
        assert!(!group.discard(&stranger));
        assert_eq!(group.len(), 1);
        group.kill();
        assert!(stays.is_finished());
        assert!(!leaves.is_finished());
        leaves.kill();
        assert_eq!(group.len(), 0, "whoever is out does not leave again");
        assert!(!group.discard(&stays), "who has ended is out");
    });
}

/// P1: a member that was added leaves when it ends, whatever its links do.
#[test]
fn an_added_member_leaves_when_it_ends() {
    within(MINUTE, || {
        let group = Group::new();
        let greenlet = spawn(|| ());
        greenlet.link(|_| sleep(HOUR));
        group.add(&greenlet);
        greenlet.join();
        assert_eq!(group.len(), 0);
        assert!(group.join_timeout(ms(1)) && group.kill_timeout(ms(1)));
    });
}

/// P2: one who is added again after he was discarded is a member once.
#[test]
fn a_discarded_member_may_come_back() {
    within(MINUTE, || {
        let group = Group::new();
        let greenlet = group.spawn(|| sleep(HOUR));
        for _ in 0..3 {
            assert!(group.discard(&greenlet));
            assert_eq!(group.len(), 0);
            group.add(&greenlet);
            assert_eq!(group.len(), 1);
        }
        group.kill();
        assert!(greenlet.is_finished());
        assert_eq!(group.len(), 0);
    });
}

/// The last member to be discarded leaves a group that is empty.
#[test]
fn to_discard_the_last_ends_a_join() {
    within(MINUTE, || {
        let group = Group::new();
        let member = group.spawn(|| sleep(HOUR));
        let joiner = {
            let group = group.clone();
            parked(spawn(move || group.join()))
        };
        group.discard(&member);
        joiner.join();
        assert!(!member.is_finished());
    });
}

#[test]
fn members_outlive_their_group() {
    within(MINUTE, || {
        let log = Log::new();
        let (group, said) = (Group::new(), log.clone());
        let member = group.spawn(move || {
            sleep(ms(1));
            said.say("ran");
        });
        drop(group);
        member.join();
        log.assert_is(["ran"]);
    });
}

/// The group keeps nothing of a member that has ended.
#[test]
fn nothing_is_kept_of_former_members() {
    within(MINUTE, || {
        let (group, living) = (Group::new(), Living::new());
        for _ in 0..100 {
            let token = living.token();
            drop(group.spawn(move || token));
        }
        group.join();
        assert_eq!(living.count(), 0);
        for _ in 0..100 {
            let token = living.token();
            group.spawn(move || token).kill();
        }
        assert_eq!((living.count(), group.len()), (0, 0));
    });
}

// --------------------------------------------------------------------- Group: kill

#[test]
fn a_group_kills_all_and_waits_for_that() {
    within(MINUTE, || {
        let (group, log) = (Group::new(), Log::new());
        group.kill();
        for n in [1, 5] {
            let log = log.clone();
            parked(group.spawn(move || die_after(|| sleep(ms(n)), &log)));
        }
        let unborn = group.spawn(|| ());
        group.kill();
        log.assert_is(["gone", "gone"]);
        assert_eq!(group.len(), 0);
        assert_eq!(end_of(unborn), End::Killed);
    });
}

/// Case 18, K7: each member is raised once, however often the group is killed.
#[test]
fn case_18_a_group_shoots_once() {
    within(MINUTE, || {
        let (group, log, gate) = (Group::new(), Log::new(), Event::new());
        let members = [(); 2].map(|()| {
            let (log, held) = (log.clone(), gate.clone());
            parked(group.spawn(move || die_after(|| held.wait(), &log)))
        });
        assert!(!group.kill_timeout(ms(1)));
        assert!(!group.kill_timeout(ms(1)));
        assert_eq!(with_timeout(ms(1), || group.kill()), Err(Elapsed));
        members[0].kill_nowait();
        settle();
        assert_eq!(group.len(), 2, "they are at it");
        log.assert_empty();
        set_soon(&gate);
        group.kill();
        log.assert_is(["gone", "gone"]);
        assert!(group.kill_timeout(ms(0)));
    });
}

/// K8: all are marked in one turn; none of them can do anything for another any more.
#[test]
fn members_are_killed_in_one_turn() {
    within(MINUTE, || {
        let (group, log) = (Group::new(), Log::new());
        let rings: Vec<Event> = (0..3).map(|_| Event::new()).collect();
        for n in 0..3 {
            let (mine, next) = (rings[n].clone(), rings[(n + 1) % 3].clone());
            let said = log.clone();
            parked(group.spawn(move || {
                let _guard = at_drop(move || next.set());
                mine.wait();
                said.say("rung");
            }));
        }
        group.kill();
        log.assert_empty();
    });
}

/// K5: a member that kills its group goes last.
#[test]
fn a_member_may_kill_its_group() {
    within(MINUTE, || {
        let (group, log) = (Group::new(), Log::new());
        for _ in 0..2 {
            let said = log.clone();
            parked(group.spawn(move || die_after(|| sleep(ms(1)), &said)));
        }
        let (inner, said) = (group.clone(), log.clone());
        let member = group.spawn(move || {
            let _guard = said.at_drop("the killer");
            inner.kill();
            said.say("survived");
        });
        group.join();
        log.assert_is(["gone", "gone", "the killer"]);
        assert_eq!(end_of(member), End::Killed);
    });
}

/// K2, K4: a member that refuses for good is reported and left alone, and the kill returns without
/// him; he is a member until he ends.
#[test]
fn a_member_that_refuses_is_left() {
    within(MINUTE, || {
        let (group, pool, done) = (Group::new(), Pool::new(1), Rc::new(Cell::new(false)));
        let mule = || {
            let done = done.clone();
            move || {
                while !done.get() {
                    let _ = swallow(|| sleep(ms(1)));
                }
            }
        };
        let members = [parked(group.spawn(mule())), parked(pool.spawn(mule()))];
        group.kill();
        pool.kill();
        assert!(members.iter().all(|member| !member.is_finished()));
        assert_eq!((group.len(), pool.free_count()), (1, 0));
        assert_eq!(reports().len(), 2);
        done.set(true);
        group.join();
        pool.join();
        assert_whole(&pool);
    });
}

// ----------------------------------------------------------------- Pool: who is let in

/// P10, case 55: a pool that could never let anybody in is refused. (gevent: it is always full.)
#[test]
fn a_pool_of_none_is_refused() {
    within(MINUTE, || {
        assert!(swallow(|| Pool::new(0)).is_err());
    });
}

/// Case 48, P1: the third waits until one has ended.
#[test]
fn case_48_blocking_spawn() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(2), Log::new());
        let gates = [Event::new(), Event::new(), Event::new()];
        let spawning = {
            let (pool, gates, log) = (pool.clone(), gates.clone(), log.clone());
            parked(spawn(move || {
                for (n, gate) in gates.into_iter().enumerate() {
                    pool.spawn(move || gate.wait());
                    log.say(format!("{n}: {} free", pool.free_count()));
                }
            }))
        };
        log.assert_is(["0: 1 free", "1: 0 free"]);
        assert!(pool.is_full());
        gates[1].set();
        spawning.join();
        assert_eq!(log.lines()[2], "2: 0 free");
        gates[0].set();
        gates[2].set();
        pool.join();
        assert_whole(&pool);
    });
}

/// Sizes and counts agree with each other at every step.
#[test]
fn counts() {
    within(MINUTE, || {
        let (pool, gate) = (Pool::new(3), Event::new());
        for n in 0..3 {
            assert_eq!((pool.size(), pool.len(), pool.free_count()), (3, n, 3 - n));
            assert_eq!((pool.is_empty(), pool.is_full()), (n == 0, false));
            let gate = gate.clone();
            pool.spawn(move || gate.wait());
        }
        assert_eq!((pool.size(), pool.len(), pool.free_count()), (3, 3, 0));
        assert!(pool.is_full() && !pool.is_empty());
        let clone = pool.clone();
        gate.set();
        clone.join();
        assert_whole(&pool);
    });
}

/// H1: what is let in does not run before its spawner waits; H5: and to be let in is not to wait.
#[cfg(not(hard_switch))] // a fast path yields there
#[test]
fn spawning_into_a_free_slot_does_not_switch() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(4), Log::new());
        for _ in 0..3 {
            let said = log.clone();
            pool.spawn(move || said.say("ran"));
        }
        assert!(pool.spawn_timeout(|| (), HOUR).is_ok());
        log.assert_empty();
        pool.join();
        log.assert_is(["ran"; 3]);
        pool.join();
        assert!(pool.join_timeout(HOUR));
    });
}

/// Nor does `try_spawn`, nor `apply_async`, whether there is a slot or not.
#[test]
fn what_never_waits_does_not_switch() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(2), Log::new());
        let said = log.clone();
        spawn(move || said.say("another ran"));
        let first = let_in(pool.try_spawn(|| 1));
        let queued: Vec<_> = (0..1000).map(|n| pool.apply_async(move || n)).collect();
        for _ in 0..1000 {
            assert!(matches!(pool.try_spawn(|| 3), Err(SpawnError::Full(_))));
        }
        log.assert_empty();
        assert_eq!(first.get().unwrap(), 1);
        for (n, job) in queued.into_iter().enumerate() {
            assert_eq!(job.get().unwrap(), n);
        }
        assert_whole(&pool);
    });
}

/// Pool: parked spawners and queued jobs are let in in order of arrival, all in one line.
#[test]
fn first_come_first_served() {
    within(MINUTE, || {
        let ((pool, gate), log) = (busy(1), Log::new());
        let say = |n: usize| {
            let log = log.clone();
            move || log.say(n)
        };
        let mut spawners = Vec::new();
        let mut queued = Vec::new();
        for n in 0..10 {
            match n % 3 {
                0 => queued.push(pool.apply_async(say(n))),
                1 => spawners.push(spawner(&pool, say(n))),
                _ => {
                    let (pool, job) = (pool.clone(), say(n));
                    spawners.push(parked(spawn(move || let_in(pool.spawn_timeout(job, HOUR)))));
                }
            }
        }
        gate.set();
        pool.join();
        log.assert_is((0..10).map(|n| n.to_string()));
        joinall(&spawners);
        joinall(&queued);
        assert_whole(&pool);
    });
}

/// M2 for slots: one that comes free goes to the first in line, and nobody overtakes him.
#[test]
fn a_slot_goes_to_the_first_who_waits() {
    within(MINUTE, || {
        let (pool, gate) = (Pool::new(1), Event::new());
        let held = gate.clone();
        let member = pool.spawn(move || held.wait());
        let waiting = spawner(&pool, || 1);
        let refused = Rc::new(Cell::new(None));
        let (overtaking, keep) = (pool.clone(), refused.clone());
        member.link(move |_| keep.set(Some(overtaking.try_spawn(|| 2).is_err())));
        gate.set();
        assert_eq!(waiting.get().unwrap().get().unwrap(), 1);
        assert_eq!(refused.get(), Some(true));
        pool.join();
        assert_whole(&pool);
    });
}

/// The forms that may fail give the closure back, with the reason.
#[test]
fn what_is_not_let_in_comes_back() {
    within(MINUTE, || {
        let (pool, gate) = busy(1);
        let Err(SpawnError::Full(job)) = pool.try_spawn(|| 1) else { panic!("it is full") };
        let start = Instant::now();
        let Err(SpawnError::Elapsed(job)) = pool.spawn_timeout(job, ms(5)) else {
            panic!("it is full")
        };
        assert!(start.elapsed() >= ms(5));
        pool.close();
        let Err(SpawnError::Closed(job)) = pool.try_spawn(job) else { panic!("it is closed") };
        let Err(SpawnError::Closed(job)) = pool.spawn_timeout(job, HOUR) else {
            panic!("it is closed")
        };
        assert_eq!(job(), 1);
        assert_eq!(pool.len(), 1);
        gate.set();
    });
}

/// `SpawnError` can be shown, though a closure cannot.
#[test]
fn errors_and_handles_can_be_shown() {
    within(MINUTE, || {
        let (pool, _gate) = busy(1);
        let error = pool.try_spawn(|| ()).map(drop).unwrap_err();
        assert!(format!("{error:?}").contains("Full"));
        assert!(!format!("{pool:?} {:?}", Group::new()).is_empty());
    });
}

/// P4, case 50, K9, T1: time that runs out leaves the pool as it was.
#[test]
fn case_50_out_of_time() {
    within(MINUTE, || {
        let (pool, gate) = busy(1);
        let log = Log::new();
        let say = || {
            let log = log.clone();
            move || log.say("ran")
        };
        assert!(with_timeout(ms(1), || pool.spawn(say())).is_err());
        assert!(with_timeout(ms(1), || pool.spawn_timeout(say(), HOUR).is_ok()).is_err());
        let own = with_timeout(HOUR, || pool.spawn_timeout(say(), ms(1)).is_ok());
        assert_eq!(own, Ok(false));
        assert!(pool.spawn_timeout(say(), ms(0)).is_err());
        assert_eq!(pool.len(), 1);
        gate.set();
        pool.join();
        log.assert_empty();
        assert_whole(&pool);
    });
}

/// T4: a slot that comes in time is taken, however late the spawner comes to look.
#[test]
fn a_slot_in_time_beats_the_timeout() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let late = || pool.spawn(|| spin(ms(10)));
        late();
        let_in(pool.spawn_timeout(|| (), ms(5))).join();
        late();
        with_timeout(ms(5), || pool.spawn(|| ())).unwrap().join();
        late();
        assert!(pool.wait_available_timeout(ms(5)));
        late();
        assert!(pool.join_timeout(ms(5)));
        assert_whole(&pool);
    });
}

// ---------------------------------------------------------- Pool: slots come back once

/// P1, P2, case 49: however a member ends, its slot is free before its end is known, and once.
#[test]
fn case_49_a_slot_is_free_before_the_end_is_known() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        assert_eq!(pool.spawn(|| 1).get().unwrap(), 1);
        assert_whole(&pool);

        assert!(pool.spawn(|| panic!("a job")).get().unwrap_err().is_panic());
        assert_whole(&pool);

        pool.spawn(|| ()).join();
        assert_whole(&pool);

        parked(pool.spawn(|| sleep(HOUR))).kill();
        assert_whole(&pool);

        pool.spawn(|| ()).kill();
        assert_whole(&pool);

        pool.spawn(|| current().kill_nowait()).join();
        assert_whole(&pool);

        assert_eq!(pool.spawn(|| with_timeout(ms(1), || sleep(HOUR))).get().unwrap(), Err(Elapsed));
        assert_whole(&pool);

        wait_any([&pool.spawn(|| ())]);
        assert_whole(&pool);
        assert_eq!(reports().len(), 1);
    });
}

/// Case 49, H10: so it is where even the report of its panic panics.
#[test]
fn case_49_a_hook_that_panics_keeps_no_slot() {
    within(MINUTE, || {
        Hub::current().on_error(|_| panic!("the hook"));
        let pool = Pool::new(1);
        assert!(pool.spawn(|| panic!("a job")).get().unwrap_err().is_panic());
        assert_whole(&pool);
        assert_eq!(pool.apply(|| 7), 7);
    });
}

/// P1, also as a link sees it.
#[test]
fn a_slot_is_free_when_links_run() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let free = Rc::new(Cell::new(None));
        let (counted, keep) = (pool.clone(), free.clone());
        pool.spawn(|| ()).link(move |_| keep.set(Some(counted.free_count())));
        settle();
        assert_eq!(free.get(), Some(1));
    });
}

/// P1: an end frees its slot though nobody has a handle.
#[test]
fn a_detached_member_gives_its_slot_back() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        for _ in 0..10 {
            drop(pool.spawn(yield_now));
        }
        pool.join();
        assert_whole(&pool);
    });
}

/// P2, case 49: so does an end that goes wrong twice, and a kill of one that holds what panics.
#[test]
fn a_panicking_destructor_gives_the_slot_back() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let bomb = || at_drop(|| panic!("a destructor"));

        let held = bomb();
        pool.spawn(move || drop(held)).join();
        assert_whole(&pool);

        let held = bomb();
        let unborn = pool.spawn(move || drop(held));
        let _ = swallow(|| unborn.kill());
        pool.join();
        assert_whole(&pool);

        let held = bomb();
        let _ = swallow(|| drop(pool.spawn(move || held).get()));
        pool.join();
        assert_whole(&pool);

        let held = bomb();
        drop(pool.spawn(move || held));
        pool.join();
        assert_whole(&pool);

        let member = pool.spawn(|| ());
        member.link(|_| panic!("a link"));
        member.join();
        settle();
        assert_whole(&pool);
        drop(reports());
    });
}

/// P2: a member that has gone is gone, whoever kills it again.
#[test]
fn to_kill_the_dead_gives_nothing_back() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let dead = pool.spawn(|| ());
        dead.join();
        dead.kill();
        pool.kill();
        dead.kill_nowait();
        assert_whole(&pool);
    });
}

/// P2: a closure that was never run is dropped, and may itself use the pool.
#[test]
fn a_closure_dropped_unrun_may_use_the_pool() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let (inner, said) = (pool.clone(), log.clone());
        let held = at_drop(move || {
            let free = inner.free_count();
            said.say(format!("at most one: {}", free <= 1));
            let said = said.clone();
            inner.apply_async(move || said.say("ran"));
        });
        pool.spawn(move || drop(held)).kill();
        pool.join();
        log.assert_is(["at most one: true", "ran"]);
        assert_whole(&pool);
    });
}

/// P2: a slot that comes back is given on, whoever of the members goes and however.
#[test]
fn every_end_lets_the_next_in() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let ends: [fn(); 4] = [
            || (),
            || panic!("a job"),
            || current().kill_nowait(),
            || assert!(with_timeout(ms(1), || sleep(HOUR)).is_err()),
        ];
        for end in ends {
            let gate = Event::new();
            let held = gate.clone();
            pool.spawn(move || {
                held.wait();
                end();
            });
            let next = spawner(&pool, || 7);
            gate.set();
            assert_eq!(next.get().unwrap().get().unwrap(), 7);
        }
        let member = parked(pool.spawn(|| sleep(HOUR)));
        let next = spawner(&pool, || 7);
        member.kill();
        assert_eq!(next.get().unwrap().get().unwrap(), 7);
        assert_eq!(reports().len(), 1);
        assert_whole(&pool);
    });
}

// ------------------------------------------------------------- Pool: kills of who waits

/// K9, P2, case 21: who is killed while he waits to spawn takes no slot, and his closure is dropped.
#[test]
fn a_killed_spawner_takes_no_slot() {
    within(MINUTE, || {
        let ((pool, gate), living) = (busy(1), Living::new());
        let token = living.token();
        let (first, second) = (spawner(&pool, move || drop(token)), spawner(&pool, || 2));
        first.kill();
        assert_eq!(living.count(), 0);
        gate.set();
        assert_eq!(second.get().unwrap().get().unwrap(), 2);
        pool.join();
        assert_whole(&pool);
    });
}

/// A pool of one whose member does `first` and ends, and then, in the same turn, `then` is done.
fn a_turn(first: impl FnOnce() + 'static, then: impl FnOnce() + 'static) -> (Pool, Event) {
    let (pool, gate) = (Pool::new(1), Event::new());
    let held = gate.clone();
    let member = pool.spawn(move || {
        held.wait();
        first();
    });
    member.link(move |_| then());
    settle();
    (pool, gate)
}

/// A greenlet that does `operation`, says that, and waits on until killed.
fn survivor(log: &Log, operation: impl FnOnce() + 'static) -> Greenlet<()> {
    let log = log.clone();
    parked(spawn(move || {
        operation();
        log.say("served");
        sleep(HOUR);
        log.say("survived its next wait");
    }))
}

/// K9, case 21: killed, and then a slot, in one turn: the next in line has it.
#[test]
fn killed_and_then_handed_a_slot() {
    within(MINUTE, || {
        let (log, doomed) = (Log::new(), unknown());
        let target = doomed.clone();
        let (pool, gate) = a_turn(move || known(&target).kill_nowait(), || ());
        let (spawning, said) = (pool.clone(), log.clone());
        let first = survivor(&log, move || drop(spawning.spawn(move || said.say("first ran"))));
        let second = spawner(&pool, || 2);
        doomed.set(first).unwrap();
        gate.set();
        assert_eq!(second.get().unwrap().get().unwrap(), 2);
        settle();
        assert!(known(&doomed).is_finished());
        log.assert_empty();
        assert_whole(&pool);
    });
}

/// K9, K6, case 21: a slot, and then killed, in one turn: he has it, what he spawned runs, and the
/// kill is raised at his next wait.
#[test]
fn handed_a_slot_and_then_killed() {
    within(MINUTE, || {
        let (log, doomed) = (Log::new(), unknown());
        let target = doomed.clone();
        let (pool, gate) = a_turn(|| (), move || known(&target).kill_nowait());
        let (spawning, said) = (pool.clone(), log.clone());
        let first = survivor(&log, move || drop(spawning.spawn(move || said.say("first ran"))));
        let second = spawner(&pool, || 2);
        doomed.set(first).unwrap();
        gate.set();
        assert_eq!(second.get().unwrap().get().unwrap(), 2);
        settle();
        assert!(known(&doomed).is_finished());
        log.assert_has_all(["served", "first ran"]);
        assert_whole(&pool);
    });
}

/// K9: the same two orders for those who wait for a slot without taking it, for the end of all, and
/// with limits of their own.
#[test]
fn killed_before_or_after_the_end_of_a_wait() {
    const WAITS: [fn(&Pool); 4] = [
        Pool::wait_available,
        |pool| assert!(pool.wait_available_timeout(HOUR)),
        Pool::join,
        |pool| assert!(pool.join_timeout(HOUR)),
    ];
    within(MINUTE, || {
        for wait in WAITS {
            let (log, killed_first, woken_first) = (Log::new(), unknown(), unknown());
            let (before, after) = (killed_first.clone(), woken_first.clone());
            let (pool, gate) =
                a_turn(move || known(&before).kill_nowait(), move || known(&after).kill_nowait());
            let waiting = || {
                let pool = pool.clone();
                survivor(&log, move || wait(&pool))
            };
            killed_first.set(waiting()).unwrap();
            woken_first.set(waiting()).unwrap();
            gate.set();
            settle();
            assert!(known(&killed_first).is_finished() && known(&woken_first).is_finished());
            log.assert_is(["served"]);
            assert_whole(&pool);
        }
    });
}

/// K2, T2: a wait that is killed or timed out from outside leaves nothing that may wake anybody.
/// (`kill.rs` and `timeout.rs` ask the rest of every kind of wait.)
#[test]
fn an_interrupted_wait_leaves_no_timer() {
    const WAITS: [fn(&Pool); 5] = [
        |pool| assert!(pool.spawn_timeout(|| (), HOUR).is_err()),
        |pool| assert!(pool.wait_available_timeout(HOUR)),
        |pool| assert!(pool.join_timeout(HOUR)),
        |pool| drop(pool.spawn(|| ())),
        |pool| pool.apply(|| ()),
    ];
    within(MINUTE, || {
        let pool = Pool::new(1);
        let stuck = stuck();
        let held = stuck.clone();
        let member = pool.spawn(move || held.join());
        for wait in WAITS {
            let waiting = pool.clone();
            parked(spawn(move || wait(&waiting))).kill();
            assert_eq!(with_timeout(ms(1), || wait(&pool)), Err(Elapsed));
        }
        blocks_forever(|| stuck.join());
        member.kill();
        pool.join();
        assert_whole(&pool);
    });
}

/// K9 for slots, by time: whichever comes first, the slot is had by one.
#[test]
fn a_slot_at_the_last_moment_is_had_once() {
    within(MINUTE, || {
        for _ in 0..50 {
            let pool = Pool::new(1);
            pool.spawn(|| sleep(ms(1)));
            let spawned = pool.spawn_timeout(|| (), ms(1)).map(drop).is_ok();
            pool.join();
            assert_whole(&pool);
            let member = pool.spawn(|| sleep(ms(1)));
            let available = pool.wait_available_timeout(ms(1));
            member.join();
            assert_whole(&pool);
            let _: (bool, bool) = (spawned, available);
        }
    });
}

/// A kill that is held back lets a spawner have his slot.
#[test]
fn a_shielded_spawner_spawns() {
    within(MINUTE, || {
        let ((pool, gate), log) = (busy(1), Log::new());
        let (spawning, said) = (pool.clone(), log.clone());
        let shielded = survivor(&log, move || {
            shield(|| drop(spawning.spawn(move || said.say("ran"))));
        });
        shielded.kill_nowait();
        settle();
        assert!(!shielded.is_finished());
        gate.set();
        shielded.join();
        pool.join();
        log.assert_has_all(["served", "ran"]);
        assert_whole(&pool);
    });
}

// -------------------------------------------------------- Pool: deadlocks and their names

/// P3: a member of a full pool that spawns waits like anyone; if that can never end, the report
/// names the pool.
#[test]
fn a_member_of_a_full_pool_that_spawns_blocks_forever() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let inner = pool.clone();
        let member = pool.spawn(move || drop(inner.spawn(|| ())));
        let report = blocks_forever(|| member.join());
        assert!(report.contains("spawn of the Pool made at tests/pool.rs:"), "{report}");
        member.kill();
        assert_whole(&pool);
    });
}

/// P3: where somebody else can end, it does not.
#[test]
fn a_member_of_a_full_pool_may_spawn() {
    within(MINUTE, || {
        let (pool, gate) = (Pool::new(2), Event::new());
        let held = gate.clone();
        pool.spawn(move || held.wait());
        let inner = pool.clone();
        let member = parked(pool.spawn(move || inner.spawn(|| 7).get().unwrap()));
        gate.set();
        assert_eq!(end_of(member), End::Value(7));
        assert_whole(&pool);
    });
}

#[test]
fn a_dump_names_the_operation_and_the_pool() {
    within(MINUTE, || {
        let (pool, _gate) = busy(1);
        let joiner = {
            let pool = pool.clone();
            parked(spawn(move || pool.join()))
        };
        let limited = {
            let pool = pool.clone();
            parked(spawn(move || pool.spawn_timeout(|| (), HOUR).is_ok()))
        };
        let expected = [
            (spawner(&pool, || ()).id(), "spawn of the Pool made at tests/pool.rs:"),
            (limited.id(), "spawn of the Pool made at tests/pool.rs:"),
            (joiner.id(), "join of the Pool made at tests/pool.rs:"),
        ];
        for (id, reason) in expected {
            let shown = reason_of(id).unwrap();
            assert!(shown.starts_with(reason), "{shown:?} should begin with {reason:?}");
        }
    });
}

// ------------------------------------------------------------------ Pool: apply and kin

#[test]
fn apply_returns_the_value() {
    within(MINUTE, || {
        let (pool, gauge) = (Pool::new(1), Gauge::default());
        let callers: Vec<_> = (0..10)
            .map(|n| {
                let (pool, gauge) = (pool.clone(), gauge.clone());
                spawn(move || {
                    pool.apply(move || {
                        let _inside = gauge.enter();
                        yield_now();
                        n * 2
                    })
                })
            })
            .collect();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.get().unwrap(), n * 2);
        }
        assert_eq!(gauge.most(), 1);
        assert_whole(&pool);
    });
}

/// Pool: `apply` raises the job's panic, with its payload.
#[test]
fn apply_raises_the_panic() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let payload = swallow(|| pool.apply(|| panic!("boom"))).unwrap_err();
        assert_eq!(message(payload.as_ref()), "boom");
        let payload = swallow(|| pool.apply(|| resume_unwind(Box::new(7_u8)))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&7_u8));
        assert_eq!(pool.apply(|| 7), 7);
        assert_whole(&pool);
        drop(reports());
    });
}

/// P3, case 51: from a member it runs inline, so that a full pool is no obstacle.
#[test]
fn case_51_apply_from_a_member_runs_inline() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let inner = pool.clone();
        let (outer_id, inner_id, value) = pool.apply(move || {
            let (id, value) = inner.apply({
                let innermost = inner.clone();
                move || (current().id(), innermost.apply(|| 5) + 1)
            });
            (current().id(), id, value)
        });
        assert_eq!((outer_id, value), (inner_id, 6));
        assert_whole(&pool);
    });
}

/// P3: a panic in what runs inline is raised where it was applied.
#[test]
fn a_panic_of_an_inline_apply_can_be_caught() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let inner = pool.clone();
        let caught = pool.apply(move || swallow(|| inner.apply(|| panic!("boom"))).is_err());
        assert!(caught);
        assert_whole(&pool);
    });
}

/// P3: only members do. Somebody whom a member has spawned elsewhere is none, and a member of
/// another pool is a stranger here.
#[test]
fn apply_from_a_stranger_takes_a_slot() {
    within(MINUTE, || {
        let (pool, other) = (Pool::new(2), Pool::new(1));
        let (inner, foreign) = (pool.clone(), other.clone());
        let lens = pool.apply(move || {
            let counted = foreign.clone();
            let in_other = foreign.apply(move || counted.len());
            let counted = inner.clone();
            let child = spawn(move || inner.apply(move || counted.len()));
            (in_other, child.get().unwrap())
        });
        assert_eq!(lens, (1, 2));
        assert_whole(&pool);
        assert_whole(&other);
    });
}

/// Pool: to kill the caller is to kill the job; so it is to time him out.
#[test]
fn the_job_of_a_killed_caller_is_killed() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let job = || {
            let log = log.clone();
            move || {
                let _guard = log.at_drop("unwound");
                sleep(HOUR);
                log.say("went on");
            }
        };
        let (applying, applied) = (pool.clone(), job());
        let caller = parked(spawn(move || applying.apply(applied)));
        until(|| pool.len() == 1);
        settle();
        caller.kill();
        assert!(pool.join_timeout(HOUR));
        let applied = job();
        assert_eq!(with_timeout(ms(20), || pool.apply(applied)), Err(Elapsed));
        assert!(pool.join_timeout(HOUR));
        log.assert_is(["unwound", "unwound"]);
        assert_whole(&pool);
    });
}

/// K9: the caller is killed while the job waits for a slot: it never runs.
#[test]
fn the_job_of_a_caller_killed_in_line_never_runs() {
    within(MINUTE, || {
        let ((pool, gate), log) = (busy(1), Log::new());
        let (applying, said) = (pool.clone(), log.clone());
        let caller = parked(spawn(move || applying.apply(move || said.say("ran"))));
        caller.kill();
        let said = log.clone();
        assert!(with_timeout(ms(1), || pool.apply(move || said.say("ran"))).is_err());
        gate.set();
        pool.join();
        settle();
        log.assert_empty();
        assert_whole(&pool);
    });
}

/// Whoever kills the job: `apply` has no value to return, and does not wait for one.
#[test]
fn apply_of_a_job_that_is_killed_does_not_return() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let applying = pool.clone();
        let caller = parked(spawn(move || swallow(|| applying.apply(|| sleep(HOUR))).is_err()));
        until(|| pool.len() == 1);
        settle();
        pool.kill();
        assert_eq!(end_of(caller), End::Value(true));
        assert_whole(&pool);
    });
}

/// Pool: `apply_async` on a full pool queues what has not begun; `len` counts the running; `join`
/// waits for it, too.
#[test]
fn apply_async_queues() {
    within(MINUTE, || {
        let ((pool, gate), log) = (busy(1), Log::new());
        let jobs: Vec<_> = (0..3)
            .map(|n| {
                let said = log.clone();
                pool.apply_async(move || {
                    said.say(n);
                    n
                })
            })
            .collect();
        settle();
        assert_eq!((pool.len(), pool.free_count()), (1, 0));
        assert!(jobs.iter().all(|job| !job.is_started() && !job.is_finished()));
        log.assert_empty();
        gate.set();
        pool.join();
        log.assert_is(["0", "1", "2"]);
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.get().unwrap(), n);
        }
        assert_whole(&pool);
    });
}

/// A handle of a queued job is a handle like any other; without one it runs all the same.
#[test]
fn a_queued_job_may_be_detached_or_waited_for() {
    within(MINUTE, || {
        let ((pool, gate), log) = (busy(1), Log::new());
        let said = log.clone();
        drop(pool.apply_async(move || said.say("detached")));
        let job = pool.apply_async(|| 7);
        job.link(log.outcome());
        assert!(!job.join_timeout(ms(1)));
        drop(pool);
        gate.set();
        assert_eq!(wait_any([&job]), 0);
        assert_eq!(job.get().unwrap(), 7);
        settle();
        log.assert_is(["detached", "value"]);
    });
}

/// K1, P2: a queued job that is killed has ended at once, never runs, and leaves its place.
#[test]
fn a_queued_job_can_be_killed() {
    within(MINUTE, || {
        let ((pool, gate), log, living) = (busy(1), Log::new(), Living::new());
        let said = log.clone();
        let token = living.token();
        let doomed = pool.apply_async(move || {
            let _token = token;
            said.say("ran");
        });
        doomed.link(log.outcome());
        let next = pool.apply_async(|| 2);
        let waiting = spawner(&pool, || 3);
        doomed.kill();
        assert_eq!(living.count(), 0);
        assert_eq!(end_of(doomed), End::Killed);
        gate.set();
        assert_eq!(next.get().unwrap(), 2);
        assert_eq!(waiting.get().unwrap().get().unwrap(), 3);
        pool.join();
        log.assert_is(["killed"]);
        assert_whole(&pool);
    });
}

/// Case 55: a queue whose every job is killed is no reason to wait.
#[test]
fn join_does_not_wait_for_queued_jobs_that_were_killed() {
    within(MINUTE, || {
        let (pool, gate) = busy(1);
        let jobs: Vec<_> = (0..3).map(|_| pool.apply_async(|| ())).collect();
        let joiner = {
            let pool = pool.clone();
            parked(spawn(move || pool.join()))
        };
        gate.set();
        killall(&jobs);
        joiner.join();
        assert_whole(&pool);
    });
}

/// K9, P2: a queued job is killed and a slot comes free in one turn, in both orders.
#[test]
fn a_queued_job_killed_before_or_after_its_slot() {
    within(MINUTE, || {
        let (killed_first, slot_first) = (unknown::<()>(), unknown::<()>());
        let (before, after) = (killed_first.clone(), slot_first.clone());
        let (pool, gate) =
            a_turn(move || known(&before).kill_nowait(), move || known(&after).kill_nowait());
        let log = Log::new();
        let say = || {
            let log = log.clone();
            move || log.say("ran")
        };
        killed_first.set(pool.apply_async(say())).unwrap();
        slot_first.set(pool.apply_async(say())).unwrap();
        let next = pool.apply_async(|| 3);
        gate.set();
        assert_eq!(next.get().unwrap(), 3);
        assert!(known(&killed_first).is_finished() && known(&slot_first).is_finished());
        log.assert_empty();
        assert_whole(&pool);
    });
}

/// `apply_cb` calls one of the two, once, with how the job ended; `join` waits for that, too.
#[test]
fn a_callback_gets_the_end() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let apply = |job: fn() -> u32| {
            let (value, error) = (log.clone(), log.clone());
            pool.apply_cb(
                job,
                move |n| value.say(format!("value {n}")),
                move |end| {
                    error.say(match end {
                        JoinError::Killed => String::from("killed"),
                        JoinError::Panicked(payload) => message(payload.as_ref()),
                    });
                },
            );
            pool.join();
        };
        apply(|| 7);
        apply(|| panic!("boom"));
        apply(|| {
            current().kill_nowait();
            yield_now();
            0
        });
        apply(|| 8);
        log.assert_is(["value 7", "boom", "killed", "value 8"]);
        assert_whole(&pool);
        drop(reports());
    });
}

/// A queued job that is killed with its pool is told of as well.
#[test]
fn a_callback_is_told_of_a_kill_in_line() {
    within(MINUTE, || {
        let ((pool, _gate), log) = (busy(1), Log::new());
        let said = log.clone();
        pool.apply_cb(|| (), |()| (), move |end| said.say(end.is_killed()));
        pool.kill();
        settle();
        log.assert_is(["true"]);
        assert_whole(&pool);
    });
}

/// H8, P2: a callback may wait, and use the pool; the slot is not its concern.
#[test]
fn a_callback_may_wait_and_use_the_pool() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let (inner, said) = (pool.clone(), log.clone());
        pool.apply_cb(
            || 1,
            move |n| {
                sleep(ms(1));
                said.say(inner.spawn(move || n + 1).get().unwrap());
            },
            |_| (),
        );
        until(|| log.len() == 1);
        log.assert_is(["2"]);
        pool.join();
        assert_whole(&pool);
    });
}

/// A callback that panics is reported, and stops nothing.
#[test]
fn a_callback_may_panic() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        pool.apply_cb(|| (), |()| panic!("a callback"), |_| ());
        assert_eq!(pool.apply(|| 7), 7);
        settle();
        assert!(reports().iter().any(|report| report.text.contains("a callback")));
        assert_whole(&pool);
    });
}

// -------------------------------------------------------------- Pool: wait_available

/// T8: `wait_available` waits for a slot and does not take it.
#[test]
fn to_wait_for_a_slot_takes_none() {
    within(MINUTE, || {
        let (pool, gate) = busy(2);
        assert!(!pool.wait_available_timeout(ms(1)));
        assert_eq!(with_timeout(ms(1), || pool.wait_available()), Err(Elapsed));
        let waiting = {
            let pool = pool.clone();
            parked(spawn(move || {
                pool.wait_available();
                pool.free_count()
            }))
        };
        gate.set();
        assert!(waiting.get().unwrap() > 0);
        pool.wait_available();
        assert!(pool.wait_available_timeout(ms(0)));
        pool.join();
        assert_whole(&pool);
    });
}

/// Who only waits for a slot does not keep it from one who takes it.
#[test]
fn who_waits_for_a_slot_waits_on_if_it_is_taken() {
    within(MINUTE, || {
        let (pool, gate) = busy(1);
        let waiting = {
            let pool = pool.clone();
            parked(spawn(move || {
                pool.wait_available();
                pool.free_count()
            }))
        };
        let second = Event::new();
        let held = second.clone();
        let spawning = spawner(&pool, move || held.wait());
        gate.set();
        spawning.join();
        settle();
        second.set();
        assert_eq!(end_of(waiting), End::Value(1));
        assert_whole(&pool);
    });
}

// --------------------------------------------------------------------- Pool: close

/// Pool: no more spawns once it is closed; those inside, those parked and those queued go on.
#[test]
fn a_closed_pool_lets_nobody_else_in() {
    within(MINUTE, || {
        let (pool, gate) = busy(1);
        let (waiting, queued) = (spawner(&pool, || 1), pool.apply_async(|| 2));
        pool.close();
        pool.close();
        assert!(swallow(|| pool.spawn(|| ())).is_err());
        assert!(swallow(|| pool.apply_async(|| ())).is_err());
        assert!(swallow(|| pool.apply(|| ())).is_err());
        assert!(matches!(pool.try_spawn(|| ()), Err(SpawnError::Closed(_))));
        assert_eq!(pool.len(), 1);
        gate.set();
        assert_eq!(waiting.get().unwrap().get().unwrap(), 1);
        assert_eq!(queued.get().unwrap(), 2);
        pool.join();
        assert_eq!(pool.free_count(), 1);
        assert!(swallow(|| pool.spawn(|| ())).is_err(), "also where there is room");
        assert_eq!(pool.free_count(), 1);
    });
}

/// A closed pool can still be killed, and joined.
#[test]
fn a_closed_pool_can_be_killed() {
    within(MINUTE, || {
        let (pool, _gate) = busy(2);
        let queued = pool.apply_async(|| ());
        pool.close();
        pool.kill();
        assert!(pool.is_empty());
        assert_eq!(end_of(queued), End::Killed);
        pool.join();
    });
}

// ---------------------------------------------------------------------- Pool: join

/// Case 55, T8.
#[test]
fn case_55_join_of_a_pool() {
    within(MINUTE, || {
        let (pool, gate) = (Pool::new(2), Event::new());
        pool.join();
        assert!(pool.join_timeout(ms(0)));
        let held = gate.clone();
        pool.spawn(move || held.wait());
        let start = Instant::now();
        assert!(!pool.join_timeout(ms(5)));
        assert!(start.elapsed() >= ms(5));
        assert_eq!(with_timeout(ms(1), || pool.join()), Err(Elapsed));
        gate.set();
        assert!(pool.join_timeout(HOUR));
        assert_whole(&pool);
    });
}

/// P5, case 55: those whom members spawn meanwhile are awaited.
#[test]
fn case_55_children_of_members_of_a_pool_are_awaited() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(2), Log::new());
        let (inner, said) = (pool.clone(), log.clone());
        pool.spawn(move || {
            let said = said.clone();
            inner.spawn(move || {
                sleep(ms(1));
                said.say("child");
            });
        });
        pool.join();
        log.assert_is(["child"]);
    });
}

/// P5: it was empty once; that others have come since does not matter.
#[test]
fn join_of_a_pool_returns_if_it_was_empty_once() {
    within(MINUTE, || {
        let refill = Rc::new(OnceCell::<Pool>::new());
        let refilled = refill.clone();
        let (pool, gate) =
            a_turn(|| (), move || drop(refilled.get().unwrap().spawn(|| sleep(HOUR))));
        refill.set(pool.clone()).ok().unwrap();
        let joiner = {
            let pool = pool.clone();
            parked(spawn(move || pool.join()))
        };
        gate.set();
        joiner.join();
        assert_eq!(pool.len(), 1);
    });
}

/// Pool: it is not empty while somebody is in line.
#[test]
fn join_waits_for_the_line() {
    within(MINUTE, || {
        let ((pool, gate), log) = (busy(1), Log::new());
        let (by_spawner, by_queue) = (log.clone(), log.clone());
        let spawning = spawner(&pool, move || by_spawner.say("spawner"));
        drop(pool.apply_async(move || by_queue.say("queued")));
        gate.set();
        pool.join();
        log.assert_is(["spawner", "queued"]);
        spawning.join();
    });
}

// ---------------------------------------------------------------------- Pool: kill

#[test]
fn a_pool_kills_all_and_waits_for_that() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(3), Log::new());
        pool.kill();
        for n in [1, 5] {
            let log = log.clone();
            parked(pool.spawn(move || die_after(|| sleep(ms(n)), &log)));
        }
        let unborn = pool.spawn(|| ());
        let queued = pool.apply_async(|| ());
        pool.kill();
        log.assert_is(["gone", "gone"]);
        assert_eq!(end_of(unborn), End::Killed);
        assert_eq!(end_of(queued), End::Killed);
        assert_whole(&pool);
    });
}

/// P6: while it runs no parked spawner is let in; they go on afterwards.
#[test]
fn nobody_is_let_in_while_a_kill_runs() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(2), Log::new());
        for n in [1, 5] {
            let log = log.clone();
            parked(pool.spawn(move || die_after(|| sleep(ms(n)), &log)));
        }
        let spawners = [(); 3].map(|()| {
            let said = log.clone();
            spawner(&pool, move || said.say("let in"))
        });
        pool.kill();
        log.assert_is(["gone", "gone"]);
        for spawner in spawners {
            spawner.get().unwrap().join();
        }
        log.assert_is(["gone", "gone", "let in", "let in", "let in"]);
        pool.join();
        assert_whole(&pool);
    });
}

/// P6: nor are they, where all members die at once.
#[test]
fn a_kill_does_not_kill_those_who_wait() {
    within(MINUTE, || {
        let (pool, _gate) = busy(2);
        let spawners = [1, 2, 3].map(|n| spawner(&pool, move || n));
        pool.kill();
        let values = spawners.map(|spawner| spawner.get().unwrap().get().unwrap());
        assert_eq!(values, [1, 2, 3]);
        assert_whole(&pool);
    });
}

/// P6, T8: a kill whose time is over lets the line go on.
#[test]
fn a_kill_that_gives_up_lets_the_line_go_on() {
    within(MINUTE, || {
        let log = Log::new();
        let (pool, gate) = tough(&log);
        let waiting = spawner(&pool, || 7);
        assert!(!pool.kill_timeout(ms(1)));
        assert_eq!(with_timeout(ms(1), || pool.kill()), Err(Elapsed));
        gate.set();
        assert_eq!(waiting.get().unwrap().get().unwrap(), 7);
        log.assert_is(["gone"]);
        assert_whole(&pool);
        assert!(pool.kill_timeout(ms(0)));
    });
}

/// P6, case 22: a killer that is killed himself lets the line go on; the others die all the same.
#[test]
fn a_killer_that_is_killed_lets_the_line_go_on() {
    within(MINUTE, || {
        let log = Log::new();
        let (pool, gate) = tough(&log);
        let waiting = spawner(&pool, || 7);
        let killing = pool.clone();
        let killer = parked(spawn(move || killing.kill()));
        killer.kill();
        gate.set();
        assert_eq!(waiting.get().unwrap().get().unwrap(), 7);
        log.assert_is(["gone"]);
        assert_whole(&pool);
    });
}

/// P6: several at a time; nobody is let in before the last of them.
#[test]
fn a_pool_may_be_killed_by_several() {
    within(MINUTE, || {
        let log = Log::new();
        let (pool, gate) = tough(&log);
        let waiting = spawner(&pool, || 7);
        let killers = [(); 3].map(|()| {
            let pool = pool.clone();
            parked(spawn(move || pool.kill()))
        });
        killers[0].kill();
        set_soon(&gate);
        pool.kill();
        joinall(&killers);
        assert_eq!(waiting.get().unwrap().get().unwrap(), 7);
        log.assert_is(["gone"]);
        assert_whole(&pool);
    });
}

/// Pool, K5: from a member it kills the others, itself last; and whoever waits goes on afterwards.
#[test]
fn a_member_may_kill_its_pool() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(3), Log::new());
        for _ in 0..2 {
            let said = log.clone();
            parked(pool.spawn(move || die_after(|| sleep(ms(1)), &said)));
        }
        let (inner, said, gate) = (pool.clone(), log.clone(), Event::new());
        let held = gate.clone();
        let member = pool.spawn(move || {
            let _guard = said.at_drop("the killer");
            held.wait();
            inner.kill();
            said.say("survived");
        });
        let said = log.clone();
        let waiting = spawner(&pool, move || said.say("let in"));
        let queued = pool.apply_async(|| ());
        gate.set();
        waiting.get().unwrap().join();
        log.assert_is(["gone", "gone", "the killer", "let in"]);
        assert_eq!(end_of(member), End::Killed);
        assert_eq!(end_of(queued), End::Killed);
        pool.join();
        assert_whole(&pool);
    });
}

/// P6: whoever comes while a kill goes on waits for its end, queued or parked, and is not killed.
#[test]
fn who_comes_during_a_kill_waits_for_its_end() {
    within(MINUTE, || {
        let (pool, log, gate) = (Pool::new(2), Log::new(), Event::new());
        let (said, held) = (log.clone(), gate.clone());
        parked(pool.spawn(move || die_after(|| held.wait(), &said)));
        let killing = pool.clone();
        let killer = parked(spawn(move || killing.kill()));
        assert!(matches!(pool.try_spawn(|| ()), Err(SpawnError::Full(_))));
        assert!(!pool.wait_available_timeout(ms(1)));
        let (parked, queued) = (spawner(&pool, || 1), pool.apply_async(|| 2));
        settle();
        assert!(!parked.is_finished() && !queued.is_finished());
        gate.set();
        killer.join();
        assert_eq!(parked.get().unwrap().get().unwrap(), 1);
        assert_eq!(queued.get().unwrap(), 2);
        pool.join();
        assert_whole(&pool);
    });
}

/// P2: what a dying member spawns into its own group or pool does not keep the kill from its end.
#[test]
fn a_dying_member_may_leave_a_successor() {
    within(MINUTE, || {
        let group = Group::new();
        let inner = group.clone();
        parked(group.spawn(move || {
            let _guard = at_drop(move || drop(inner.spawn(|| sleep(HOUR))));
            sleep(HOUR);
        }));
        group.kill();
        assert_eq!(group.len(), 0, "he is killed, too");

        let (pool, log) = (Pool::new(1), Log::new());
        let (inner, said) = (pool.clone(), log.clone());
        parked(pool.spawn(move || {
            let _guard = at_drop(move || drop(inner.spawn(move || said.say("let in"))));
            sleep(HOUR);
        }));
        pool.kill();
        log.assert_empty();
        pool.join();
        log.assert_is(["let in"]);
        assert_whole(&pool);
    });
}

/// P6: a member that cleans up and thereby uses its pool does not wait for the kill, which waits for
/// it.
#[test]
fn a_dying_member_may_use_its_pool() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let (inner, said) = (pool.clone(), log.clone());
        parked(pool.spawn(move || {
            let clean_up = || {
                drop(inner.spawn(|| ()));
                assert!(inner.spawn_timeout(|| (), HOUR).is_err());
                assert!(!inner.wait_available_timeout(HOUR));
                inner.wait_available();
                assert_eq!(inner.apply(|| 7), 7);
            };
            die_after(clean_up, &said);
        }));
        let waiting = spawner(&pool, || 7);
        pool.kill();
        log.assert_is(["gone"]);
        assert_eq!(waiting.get().unwrap().get().unwrap(), 7);
        pool.join();
        assert_whole(&pool);
    });
}

/// K7: each member is raised once, however often the pool is killed.
#[test]
fn a_pool_shoots_once() {
    within(MINUTE, || {
        let log = Log::new();
        let (pool, gate) = tough(&log);
        assert!(!pool.kill_timeout(ms(1)));
        assert!(!pool.kill_timeout(ms(1)));
        log.assert_empty();
        set_soon(&gate);
        pool.kill();
        log.assert_is(["gone"]);
        assert_whole(&pool);
    });
}

// ----------------------------------------------------------------------- unwinding

/// While a greenlet unwinds, `spawn` into a full pool queues, and nothing waits.
#[test]
fn while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let (pool, gate) = busy(1);
        let inner = pool.clone();
        let job = while_unwinding(move || inner.spawn(|| 7));
        assert!(!job.is_started());
        let inner = pool.clone();
        let refused = while_unwinding(move || {
            inner.wait_available();
            inner.join();
            inner.join_timeout(HOUR) || inner.wait_available_timeout(HOUR)
        });
        assert!(!refused);
        let inner = pool.clone();
        assert!(while_unwinding(move || inner.spawn_timeout(|| (), HOUR).map(drop).is_err()));
        gate.set();
        assert_eq!(job.get().unwrap(), 7);
        let inner = pool.clone();
        assert_eq!(while_unwinding(move || inner.spawn(|| 8)).get().unwrap(), 8);
        pool.join();
        assert_whole(&pool);
    });
}

/// A pool that is killed by a destructor is dead, if not at once.
#[test]
fn a_destructor_may_kill_a_pool_or_a_group() {
    within(MINUTE, || {
        let (pool, _gate) = busy(2);
        let inner = pool.clone();
        while_unwinding(move || inner.kill());
        assert!(pool.join_timeout(HOUR));
        assert_whole(&pool);

        let group = Group::new();
        group.spawn(|| sleep(HOUR));
        let inner = group.clone();
        while_unwinding(move || inner.kill());
        assert!(group.join_timeout(HOUR));
    });
}

// --------------------------------------------------------------------- over chance

/// The bound holds at every moment and no slot is lost, whoever comes, gives up, panics or is killed
/// in whichever order.
#[test]
fn no_slot_is_lost_and_none_is_doubled() {
    within(MINUTE, || {
        for seed in 1..100 {
            one_round_of_chance(seed);
        }
        drop(reports());
    });
}

fn one_round_of_chance(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (size, gauge, living) = (1 + dice.below(3), Gauge::default(), Living::new());
    let pool = Pool::new(size);
    let mut callers: Vec<Greenlet<()>> = Vec::new();
    let mut jobs: Vec<Greenlet<()>> = Vec::new();
    for _ in 0..30 {
        let (gauge, token, end) = (gauge.clone(), living.token(), dice.below(5));
        let job = move || {
            let (_inside, _token) = (gauge.enter(), token);
            match end {
                0 => {}
                1 => yield_now(),
                2 => sleep(ms(1) / 4),
                3 => resume_unwind(Box::new("a quiet panic")),
                _ => assert!(with_timeout(ms(1) / 4, || sleep(HOUR)).is_err()),
            }
        };
        let (pool, detach) = (pool.clone(), dice.below(2) == 0);
        match dice.below(5) {
            0 => jobs.push(pool.apply_async(job)),
            1 => jobs.extend(pool.try_spawn(job).ok()),
            2 => callers.push(spawn(move || pool.apply(job))),
            3 => callers.push(spawn(move || drop(pool.spawn_timeout(job, ms(1) / 4).map(drop)))),
            _ => callers.push(spawn(move || {
                let job = pool.spawn(job);
                if !detach {
                    job.join();
                }
            })),
        }
        match dice.below(5) {
            0 if !jobs.is_empty() => jobs[dice.below(jobs.len())].kill_nowait(),
            1 if !callers.is_empty() => callers[dice.below(callers.len())].kill_nowait(),
            2 => yield_now(),
            3 => spin(ms(1) / 8),
            _ => {}
        }
    }
    if dice.below(3) == 0 {
        pool_kill_of_chance(&mut dice, &callers, &jobs);
    }
    joinall(&callers);
    joinall(&jobs);
    pool.join();
    assert!(gauge.most() <= size, "seed {seed}: {} of {size}", gauge.most());
    assert_whole(&pool);
    drop((callers, jobs));
    assert_eq!(living.count(), 0, "seed {seed}");
}

/// Kills all of one side in one turn.
fn pool_kill_of_chance(dice: &mut Dice, callers: &[Greenlet<()>], jobs: &[Greenlet<()>]) {
    killall(if dice.below(2) == 0 { callers } else { jobs });
}

/// A xorshift generator.
struct Dice(u64);

impl Dice {
    /// A number from 0 to `n` - 1.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

// ------------------------------------------------------------------ ends and oddities

/// Jobs may be of size zero, or hold a pool themselves, or be the last to hold it.
#[test]
fn a_job_may_hold_its_pool() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let inner = pool.clone();
        let job = pool.spawn(move || {
            yield_now();
            inner.len()
        });
        drop(pool);
        assert_eq!(job.get().unwrap(), 1);
    });
}

/// Results of any kind, also such as cannot be cloned.
#[test]
fn results_of_any_kind() {
    within(MINUTE, || {
        let pool = Pool::new(4);
        let boxed: Greenlet<Box<dyn Any>> = pool.spawn(|| Box::new(1) as Box<dyn Any>);
        assert!(boxed.get().unwrap().is::<i32>());
        assert_eq!(pool.spawn(|| pool_in_a_pool(3)).get().unwrap(), 3);
        pool.spawn(|| ()).get().unwrap();
        assert_whole(&pool);
    });
}

fn pool_in_a_pool(size: usize) -> usize {
    let pool = Pool::new(size);
    (0..size).for_each(|_| drop(pool.spawn(|| sleep(HOUR))));
    let len = pool.len();
    pool.kill();
    len
}

/// A scope's greenlets may use a pool, and leave in any way.
#[test]
fn a_scope_may_use_a_pool() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let total = Cell::new(0);
        scope(|s| {
            for n in 0..5 {
                let (pool, total) = (&pool, &total);
                s.spawn(move || {
                    let applied = pool.apply(move || n);
                    total.set(total.get() + applied);
                });
            }
        });
        assert_eq!(total.get(), 10);
        assert_whole(&pool);
    });
}

/// The end of a thread ends the members, those who wait, and those in line.
#[test]
fn a_thread_may_end_with_a_full_pool() {
    within(MINUTE, || {
        let (pool, _gate) = busy(2);
        let _spawning = spawner(&pool, || ());
        let _queued = pool.apply_async(|| ());
        let applying = pool.clone();
        let _applying = parked(spawn(move || applying.apply(|| ())));
        let _joining = parked(spawn(move || pool.join()));
        let _slow = waits::slow_pool();
    });
}
