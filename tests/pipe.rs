//! Pipes: what goes one way and the other, what becomes of it when an end is dropped, and that
//! nothing is lost when a receiver is killed or out of time.
//!
//! "pipe" is the paragraph of that name in the settled details of the design; K9, T4, ... are its
//! rules, which each test that is about one names.

mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use greenloom::queue::{Conn, GetError, PutError, pipe};
use greenloom::{
    Elapsed, Greenlet, catch_interrupt, joinall, shield, sleep, spawn, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, ms, reason_of, settle, spin,
    state_of, stuck, until, until_parked, waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, String>();
        here.send(7).unwrap();
        there.send(there.recv().unwrap().to_string()).unwrap();
        assert_eq!(here.recv().unwrap(), "7");
    });
}

// ------------------------------------------------------------------------ words

/// A pipe on which one end is shared by several greenlets.
fn shared() -> (Conn<u32, u32>, Rc<Conn<u32, u32>>) {
    let (here, there) = pipe();
    (here, Rc::new(there))
}

/// A greenlet that waits to receive one item.
fn receiver(conn: &Rc<Conn<u32, u32>>) -> Greenlet<Result<u32, GetError>> {
    let conn = conn.clone();
    parked(spawn(move || conn.recv()))
}

/// `greenlet`, once it waits.
fn parked<T: 'static>(greenlet: Greenlet<T>) -> Greenlet<T> {
    until(|| greenlet.is_finished() || state_of(greenlet.id()) == Some("parked"));
    greenlet
}

/// A greenlet that waits to receive, says what it got, and waits on until killed.
fn survivor(log: &Log, conn: &Rc<Conn<u32, u32>>) -> Greenlet<()> {
    let (log, conn) = (log.clone(), conn.clone());
    parked(spawn(move || {
        let received = conn.recv();
        log.say(format!("{received:?}"));
        sleep(HOUR);
        log.say("survived its next wait");
    }))
}

/// All that is there to receive.
fn drain<S, R>(conn: &Conn<S, R>) -> Vec<R> {
    let mut items = Vec::new();
    while let Ok(item) = conn.recv_timeout(ms(0)) {
        items.push(item);
    }
    items
}

// -------------------------------------------------------------------- both ways

#[test]
fn first_in_first_out_each_way() {
    within(MINUTE, || {
        let (here, there) = pipe();
        for n in 0..100 {
            here.send(n).unwrap();
            there.send(format!("{n}")).unwrap();
        }
        for n in 0..100 {
            assert_eq!(there.recv(), Ok(n));
            assert_eq!(here.recv(), Ok(format!("{n}")));
        }
    });
}

/// pipe: unbounded, so that sending waits for nobody. (It is a put like any other: it may yield.)
#[test]
fn sending_waits_for_nobody() {
    within(MINUTE, || {
        let (here, there) = pipe::<usize, ()>();
        for n in 0..100_000 {
            here.send(n).unwrap();
        }
        assert!((0..100_000).all(|n| there.recv() == Ok(n)));
    });
}

/// H5: what need not wait does not switch.
#[cfg(not(hard_switch))] // a fast path yields there
#[test]
fn what_need_not_wait_does_not() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let log = Log::new();
        let said = log.clone();
        spawn(move || said.say("another ran"));
        here.send(1).unwrap();
        here.send(2).unwrap();
        assert!(there.poll(HOUR));
        assert_eq!(there.recv(), Ok(1));
        assert_eq!(there.recv_timeout(HOUR), Ok(2));
        log.assert_empty();
    });
}

#[test]
fn ping_pong() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let echo = spawn(move || {
            let mut rounds = 0;
            while let Ok(n) = there.recv() {
                there.send(n + 1).unwrap();
                rounds += 1;
            }
            rounds
        });
        let mut n = 0;
        while n < 1000 {
            here.send(n).unwrap();
            n = here.recv().unwrap();
        }
        drop(here);
        assert_eq!(end_of(echo), End::Value(1000));
    });
}

#[test]
fn items_may_be_of_size_zero() {
    within(MINUTE, || {
        let (here, there) = pipe::<(), ()>();
        (0..1000).for_each(|_| here.send(()).unwrap());
        assert_eq!(drain(&there).len(), 1000);
    });
}

/// An end can be sent like anything else.
#[test]
fn an_end_may_be_an_item() {
    within(MINUTE, || {
        let (here, there) = pipe::<Conn<u32, u32>, ()>();
        let server = spawn(move || {
            while let Ok(answer) = there.recv() {
                let question = answer.recv().unwrap();
                answer.send(question * 2).unwrap();
            }
        });
        for n in 0..3 {
            let (mine, theirs) = pipe();
            here.send(theirs).unwrap();
            mine.send(n).unwrap();
            assert_eq!(mine.recv(), Ok(n * 2));
        }
        drop(here);
        server.join();
    });
}

/// Not even of items that have no `Debug`.
#[test]
fn debug_needs_nothing_of_the_items() {
    struct Silent;
    within(MINUTE, || {
        let (here, there) = pipe::<Silent, Silent>();
        here.send(Silent).ok().unwrap();
        assert!(!format!("{here:?} {there:?}").is_empty());
    });
}

// ---------------------------------------------------------------------- to receive

#[test]
fn receiving_waits() {
    within(MINUTE, || {
        let (here, there) = shared();
        let waiting = receiver(&there);
        here.send(1).unwrap();
        assert_eq!(waiting.get().unwrap(), Ok(1));
    });
}

/// M2, Q1: those who share an end are served in order of arrival.
#[test]
fn receivers_are_served_first_come_first_served() {
    within(MINUTE, || {
        let (here, there) = shared();
        let waiting: Vec<_> = (0..10).map(|_| receiver(&there)).collect();
        for n in 0..10 {
            here.send(n).unwrap();
        }
        for (n, waiting) in (0..).zip(waiting) {
            assert_eq!(waiting.get().unwrap(), Ok(n));
        }
    });
}

/// T8: not early, and whoever gave up gets nothing.
#[test]
fn receiving_may_give_up() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let start = Instant::now();
        assert_eq!(there.recv_timeout(ms(5)), Err(GetError::Elapsed));
        assert!(start.elapsed() >= ms(5));
        here.send(1).unwrap();
        assert_eq!(there.recv_timeout(ms(0)), Ok(1));
        assert_eq!(there.recv_timeout(ms(0)), Err(GetError::Elapsed));
    });
}

/// T1: an outer time passes through, whatever time the wait has of its own.
#[test]
fn an_outer_time_passes_through() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        assert_eq!(with_timeout(ms(1), || there.recv()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || there.recv_timeout(HOUR)), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || there.poll(HOUR)), Err(Elapsed));
        assert_eq!(with_timeout(HOUR, || there.recv_timeout(ms(1))), Ok(Err(GetError::Elapsed)));
        assert_eq!(with_timeout(HOUR, || there.poll(ms(1))), Ok(false));
        here.send(1).unwrap();
        assert_eq!(there.recv(), Ok(1));
    });
}

/// T4: what was sent in time is received, however late the receiver comes to look.
#[cfg(not(hard_switch))] // `send` yields there, before it sends
#[test]
fn sent_in_time_beats_the_timeout() {
    const SHORT: std::time::Duration = std::time::Duration::from_millis(5);
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let here = Rc::new(here);
        let send_late = || {
            let here = here.clone();
            spawn(move || {
                spin(2 * SHORT);
                here.send(1).unwrap();
            });
        };
        send_late();
        assert!(there.poll(SHORT));
        assert_eq!(there.recv(), Ok(1));
        send_late();
        assert_eq!(there.recv_timeout(SHORT), Ok(1));
        send_late();
        assert_eq!(with_timeout(SHORT, || there.recv()), Ok(Ok(1)));
    });
}

/// K2, T2: a wait that is killed or timed out from outside leaves nothing that may wake anybody.
#[test]
fn an_interrupted_wait_leaves_no_timer() {
    within(MINUTE, || {
        for wait in [waits::pipe_recv, waits::pipe_recv_timeout, waits::pipe_poll] {
            parked(spawn(wait)).kill();
            assert_eq!(with_timeout(ms(1), wait), Err(Elapsed));
        }
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

/// The reason that dumps and reports show.
#[test]
fn a_dump_names_the_pipe() {
    within(MINUTE, || {
        let (_here, there) = shared();
        let shown = reason_of(receiver(&there).id()).unwrap();
        assert!(shown.starts_with("recv of the pipe made at tests/pipe.rs:"), "{shown}");
    });
}

/// H13: with nobody left who could send, the main greenlet is told.
#[test]
fn to_receive_from_nobody_blocks_forever() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let report = blocks_forever(|| there.recv());
        assert!(report.contains("recv of the pipe made at tests/pipe.rs:"), "{report}");
        here.send(1).unwrap();
        assert_eq!(there.recv(), Ok(1));
    });
}

// ---------------------------------------------------------------------------- poll

/// pipe: `poll` says whether there is something, and takes nothing.
#[test]
fn poll_takes_nothing() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        assert!(!there.poll(ms(0)));
        here.send(1).unwrap();
        assert!(there.poll(ms(0)) && there.poll(HOUR));
        assert!(!here.poll(ms(0)), "that is the other way");
        assert_eq!(there.recv(), Ok(1));
        let start = Instant::now();
        assert!(!there.poll(ms(5)));
        assert!(start.elapsed() >= ms(5));
    });
}

#[test]
fn poll_waits() {
    within(MINUTE, || {
        let (here, there) = shared();
        let polling = {
            let there = there.clone();
            parked(spawn(move || there.poll(HOUR)))
        };
        here.send(1).unwrap();
        assert_eq!(end_of(polling), End::Value(true));
        assert_eq!(there.recv(), Ok(1));
    });
}

/// Queue: one who only looks does not stand in the way of one who takes.
#[test]
fn poll_holds_nobody_up() {
    within(MINUTE, || {
        let (here, there) = shared();
        let polling = {
            let there = there.clone();
            parked(spawn(move || there.poll(HOUR)))
        };
        let taking = receiver(&there);
        here.send(1).unwrap();
        here.send(2).unwrap();
        assert_eq!(taking.get().unwrap(), Ok(1));
        assert_eq!(end_of(polling), End::Value(true));
        assert_eq!(drain(&there), [2]);
    });
}

// ------------------------------------------------------------------- dropped ends

/// pipe: what was sent before an end is dropped is still received; then it is `ShutDown`, and
/// `poll` is true, because `recv` would not wait.
#[test]
fn what_was_sent_before_the_end_is_received() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        here.send(1).unwrap();
        here.send(2).unwrap();
        drop(here);
        assert_eq!(there.recv(), Ok(1));
        assert!(there.poll(ms(0)));
        assert_eq!(there.recv_timeout(HOUR), Ok(2));
        for _ in 0..3 {
            assert!(there.poll(ms(0)) && there.poll(HOUR));
            assert_eq!(there.recv(), Err(GetError::ShutDown));
            assert_eq!(there.recv_timeout(HOUR), Err(GetError::ShutDown));
        }
    });
}

/// pipe: what is sent to a dropped end comes back.
#[test]
fn nothing_can_be_sent_to_a_dropped_end() {
    within(MINUTE, || {
        let (here, there) = pipe::<String, ()>();
        here.send(String::from("before")).unwrap();
        drop(there);
        let refused = here.send(String::from("after"));
        assert_eq!(refused, Err(PutError::ShutDown(String::from("after"))));
        assert_eq!(refused.unwrap_err().into_inner(), "after");
    });
}

/// pipe: everybody who waits at the other end is told.
#[test]
fn a_dropped_end_wakes_those_who_wait() {
    within(MINUTE, || {
        let (here, there) = shared();
        let receivers = [receiver(&there), receiver(&there)];
        let limited = {
            let there = there.clone();
            parked(spawn(move || there.recv_timeout(HOUR)))
        };
        let polling = {
            let there = there.clone();
            parked(spawn(move || there.poll(HOUR)))
        };
        drop(here);
        for receiver in receivers {
            assert_eq!(receiver.get().unwrap(), Err(GetError::ShutDown));
        }
        assert_eq!(limited.get().unwrap(), Err(GetError::ShutDown));
        assert_eq!(end_of(polling), End::Value(true));
    });
}

/// What is sent to somebody who waits, right before the end, arrives.
#[test]
fn sent_and_dropped_in_one_turn() {
    within(MINUTE, || {
        let (here, there) = shared();
        let (served, told) = (receiver(&there), receiver(&there));
        here.send(1).unwrap();
        drop(here);
        assert_eq!(served.get().unwrap(), Ok(1));
        assert_eq!(told.get().unwrap(), Err(GetError::ShutDown));
    });
}

/// An end that goes down with its greenlet, by a kill or by a panic, is dropped like any other.
#[test]
fn an_end_goes_down_with_its_greenlet() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let holder = parked(spawn(move || {
            let _here = here;
            sleep(HOUR);
        }));
        holder.kill();
        assert_eq!(there.recv(), Err(GetError::ShutDown));
    });
}

/// Items that nobody will receive are dropped, and no later than both ends.
#[test]
fn what_nobody_receives_is_dropped() {
    within(MINUTE, || {
        let living = Living::new();
        let (here, there) = pipe();
        for _ in 0..3 {
            here.send(living.token()).ok().unwrap();
            there.send(living.token()).ok().unwrap();
        }
        drop(there.recv());
        assert_eq!(living.count(), 5);
        drop(there);
        assert_eq!(drain(&here).len(), 3);
        drop(here);
        assert_eq!(living.count(), 0);
    });
}

// ----------------------------------------------------------------------------- kills

/// K9: killed, and then sent, in one turn: the next in line has it.
#[test]
fn killed_and_then_sent() {
    within(MINUTE, || {
        let ((here, there), log) = (shared(), Log::new());
        let (first, second) = (survivor(&log, &there), receiver(&there));
        first.kill_nowait();
        here.send(1).unwrap();
        assert_eq!(second.get().unwrap(), Ok(1));
        assert_eq!(end_of(first), End::Killed);
        log.assert_empty();
    });
}

/// K9: as above, with nobody behind: it stays for whoever comes.
#[test]
fn killed_and_then_sent_to_nobody() {
    within(MINUTE, || {
        let (here, there) = shared();
        let only = receiver(&there);
        only.kill_nowait();
        here.send(1).unwrap();
        here.send(2).unwrap();
        assert_eq!([there.recv(), there.recv()], [Ok(1), Ok(2)]);
        assert_eq!(end_of(only), End::Killed);
    });
}

/// K9, K6: sent, and then killed, in one turn: he has received it, and the kill is raised at his
/// next wait.
#[cfg(not(hard_switch))] // `send` yields there, between the two
#[test]
fn sent_and_then_killed() {
    within(MINUTE, || {
        let ((here, there), log) = (shared(), Log::new());
        let (first, second) = (survivor(&log, &there), receiver(&there));
        here.send(1).unwrap();
        first.kill_nowait();
        settle();
        log.assert_is(["Ok(1)"]);
        assert_eq!(end_of(first), End::Killed);
        here.send(2).unwrap();
        assert_eq!(second.get().unwrap(), Ok(2));
    });
}

/// K6: the other end is dropped, and then he is killed, in one turn.
#[test]
fn told_of_the_end_and_then_killed() {
    within(MINUTE, || {
        let ((here, there), log) = (shared(), Log::new());
        let told = survivor(&log, &there);
        drop(here);
        told.kill_nowait();
        settle();
        log.assert_is(["Err(ShutDown)"]);
        assert_eq!(end_of(told), End::Killed);
    });
}

/// K9: one who polls takes nothing, whichever way he ends.
#[test]
fn a_killed_poll_takes_nothing() {
    within(MINUTE, || {
        let (here, there) = shared();
        let polling = {
            let there = there.clone();
            parked(spawn(move || there.poll(HOUR)))
        };
        polling.kill_nowait();
        here.send(1).unwrap();
        assert_eq!(there.recv(), Ok(1));
        assert_eq!(end_of(polling), End::Killed);
    });
}

/// K9, Q3: whichever comes first, the item is had once.
#[test]
fn an_item_at_the_last_moment_is_had_once() {
    within(MINUTE, || {
        for n in 0..50 {
            let (here, there) = shared();
            let receiver = {
                let there = there.clone();
                spawn(move || there.recv_timeout(ms(1)))
            };
            let sender = spawn(move || {
                sleep(ms(1));
                here.send(n).unwrap();
            });
            sender.join();
            match receiver.get().unwrap() {
                Ok(item) => assert_eq!((item, there.recv()), (n, Err(GetError::ShutDown))),
                Err(error) => assert_eq!((error, there.recv()), (GetError::Elapsed, Ok(n))),
            }
        }
    });
}

/// A kill that is held back lets a receiver have what it waits for.
#[test]
fn a_shielded_receiver_receives() {
    within(MINUTE, || {
        let (here, there) = shared();
        let received = Rc::new(Cell::new(None));
        let (conn, keep) = (there.clone(), received.clone());
        let shielded = parked(spawn(move || {
            keep.set(Some(shield(|| conn.recv())));
            sleep(HOUR);
        }));
        shielded.kill_nowait();
        settle();
        here.send(1).unwrap();
        shielded.join();
        assert_eq!(received.get(), Some(Ok(1)));
        assert_eq!(end_of(shielded), End::Killed);
    });
}

/// A receiver that was killed may say goodbye first.
#[test]
fn a_caught_kill_may_use_the_pipe() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let server = spawn(move || {
            if let Err(interrupt) = catch_interrupt(|| there.recv()) {
                there.send(0).unwrap();
                assert_eq!(there.recv(), Ok(1), "the answer");
                interrupt.resume();
            }
        });
        until_parked(server.id());
        server.kill_nowait();
        assert_eq!(here.recv(), Ok(0));
        here.send(1).unwrap();
        server.join();
        assert_eq!(end_of(server), End::Killed);
        assert_eq!(here.recv(), Err(GetError::ShutDown));
    });
}

// ------------------------------------------------------------------------ unwinding

/// While a greenlet unwinds, sending works as ever, and what would have to wait is refused.
#[test]
fn while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        let answers = Rc::new(RefCell::new(Vec::new()));
        let keep = answers.clone();
        let unwinding = parked(spawn(move || {
            let _guard = at_drop(move || {
                let mut keep = keep.borrow_mut();
                keep.push(there.recv());
                keep.push(there.recv());
                keep.push(there.recv_timeout(HOUR).map_err(|_| GetError::Empty));
                assert!(!there.poll(HOUR));
                there.send(7).unwrap();
            });
            sleep(HOUR);
        }));
        here.send(1).unwrap();
        unwinding.kill();
        assert_eq!(answers.take(), [Ok(1), Err(GetError::Empty), Err(GetError::Empty)]);
        assert_eq!(here.recv(), Ok(7));
        assert_eq!(here.recv(), Err(GetError::ShutDown));
    });
}

// ------------------------------------------------------------- items that misbehave

/// The destructor of an item may send through the pipe the item is in.
#[test]
fn a_dropped_item_may_use_the_pipe() {
    within(MINUTE, || {
        let (here, there) = pipe::<Box<dyn Any>, Box<dyn Any>>();
        let (here, log) = (Rc::new(here), Log::new());
        let (inner, said) = (Rc::downgrade(&here), log.clone());
        let item = at_drop(move || {
            let refused = inner.upgrade().is_some_and(|here| here.send(Box::new(())).is_err());
            said.say(format!("refused: {refused}"));
        });
        here.send(Box::new(item)).ok().unwrap();
        drop(there);
        drop(here.recv());
        drop(here);
        assert_eq!(log.len(), 1);
    });
}

/// A destructor that panics while an end is dropped is the dropper's affair; the other end is told
/// all the same.
#[test]
fn a_dropped_item_may_panic() {
    within(MINUTE, || {
        let (here, there) = pipe::<Box<dyn Any>, u32>();
        here.send(Box::new(at_drop(|| panic!("a destructor")))).ok().unwrap();
        let waiting = parked(spawn(move || here.recv()));
        let _ = util::swallow(|| drop(there));
        assert_eq!(waiting.get().unwrap(), Err(GetError::ShutDown));
        drop(util::reports());
    });
}

// --------------------------------------------------------------------- many, and ends

#[test]
fn many_share_both_ends() {
    within(MINUTE, || {
        let (here, there) = shared();
        let here = Rc::new(here);
        let senders: Vec<_> = (0..5)
            .map(|sender| {
                let here = here.clone();
                spawn(move || {
                    for n in 0..50 {
                        here.send(sender * 50 + n).unwrap();
                        yield_now();
                    }
                })
            })
            .collect();
        drop(here);
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let there = there.clone();
                spawn(move || std::iter::from_fn(|| there.recv().ok()).collect::<Vec<_>>())
            })
            .collect();
        joinall(&senders);
        drop(senders);
        let received = receivers.into_iter().flat_map(|receiver| receiver.get().unwrap());
        let mut received: Vec<_> = received.collect();
        received.sort_unstable();
        assert_eq!(received, (0..250).collect::<Vec<_>>());
    });
}

/// The end of a thread ends those who wait, and drops what was on its way.
#[test]
fn a_thread_may_end_while_some_wait() {
    within(MINUTE, || {
        let (here, there) = shared();
        let _receiving = receiver(&there);
        let _other = parked(spawn(move || here.recv()));
    });
}
