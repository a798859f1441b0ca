//! Select: `wait_any`, `iwait` and `joinall` over things of many kinds at once.
//!
//! They only look. Nothing is consumed, those that were not first notice nothing, and what is named
//! is there when it is named: a permit or an item that somebody else has taken meanwhile does not
//! count (a *level*), whereas an event that was set has been set, though it be cleared (an *edge*).

mod util;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::concurrent::GreenletPoolExecutor;
use greenloom::queue::{GetError, LifoQueue, PriorityQueue, PutError, Queue, channel, pipe};
use greenloom::sync::{AsyncResult, BoundedSemaphore, Event, Semaphore, Timer};
use greenloom::{
    Greenlet, Waitable, iwait, joinall, joinall_timeout, killall, sleep, spawn, spawn_later,
    wait_any, wait_any_timeout, with_timeout, yield_now,
};
use util::{
    End, HOUR, Log, MINUTE, blocks_forever, end_of, ms, reason_of, settle, state_of, stuck, until,
    until_parked, waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        queue.try_put(7).unwrap();
        assert_eq!(wait_any([&event as &dyn Waitable, &queue]), 1);
        assert_eq!(queue.try_get(), Ok(7));
        assert_eq!(wait_any_timeout([&event as &dyn Waitable, &queue], ms(1)), None);
    });
}

/// A greenlet that does `f` and has come to wait in it.
fn parked<T: 'static>(f: impl FnOnce() -> T + 'static) -> Greenlet<T> {
    let greenlet = spawn(f);
    until_parked(greenlet.id());
    greenlet
}

/// Does it wait still, when all have run that can?
fn still_waits<T: 'static>(greenlet: &Greenlet<T>) -> bool {
    settle();
    state_of(greenlet.id()) == Some("parked")
}

// ----------------------------------------------------------- all kinds of things

/// Waits for `thing` in every way, beside something that never comes, and lets `make_ready` come
/// when all wait.
fn is_waited_for<W: Waitable + 'static>(thing: W, make_ready: impl FnOnce(&W)) {
    let (thing, never) = (Rc::new(thing), Event::new());
    assert!(!thing.is_ready());
    assert_eq!(wait_any_timeout([&*thing], Duration::ZERO), None);
    assert!(!joinall_timeout([&*thing], Duration::ZERO));

    let selects = {
        let (thing, never) = (Rc::clone(&thing), never.clone());
        parked(move || wait_any([&never as &dyn Waitable, &*thing]))
    };
    let listens = {
        let (thing, never) = (Rc::clone(&thing), never.clone());
        parked(move || iwait([&never as &dyn Waitable, &*thing]).next())
    };
    let joins = {
        let thing = Rc::clone(&thing);
        parked(move || joinall([&*thing]))
    };
    make_ready(&thing);
    assert_eq!(selects.get().unwrap(), 1);
    assert_eq!(listens.get().unwrap(), Some(1));
    joins.get().unwrap();

    // Nobody has taken anything.
    assert!(thing.is_ready());
    assert_eq!(wait_any([&never as &dyn Waitable, &*thing]), 1);
    assert_eq!(wait_any_timeout([&*thing], Duration::ZERO), Some(0));
    assert!(joinall_timeout([&*thing, &*thing], Duration::ZERO));
    assert_eq!(iwait([&*thing, &*thing]).collect::<Vec<_>>(), [0, 1]);
}

/// `each_kind! { name: thing, what makes it ready; .. }`
macro_rules! each_kind {
    ($($name:ident: $thing:expr, $make_ready:expr;)+) => {
        mod each_kind {
            use super::*;
            $(
                #[test]
                fn $name() {
                    within(MINUTE, || is_waited_for($thing, $make_ready));
                }
            )+
        }
    };
}

each_kind! {
    greenlet: spawn(|| sleep(ms(1))), |_| ();
    killed_greenlet: spawn_later(HOUR, || ()), |greenlet| greenlet.kill_nowait();
    event: Event::new(), |event| event.set();
    async_result: AsyncResult::<u32, ()>::new(), |result| result.set(7).unwrap();
    failed_async_result: AsyncResult::<(), u32>::new(), |result| result.set_error(7).unwrap();
    semaphore: Semaphore::new(0), |semaphore| semaphore.release();
    bounded_semaphore: {
        let semaphore = BoundedSemaphore::new(1);
        semaphore.try_acquire().unwrap().forget();
        semaphore
    }, |semaphore| semaphore.release().unwrap();
    queue: Queue::<u32>::new(), |queue| queue.try_put(7).unwrap();
    lifo_queue: LifoQueue::<u32>::new(), |queue| queue.try_put(7).unwrap();
    priority_queue: PriorityQueue::<u32>::new(), |queue| queue.try_put(7).unwrap();
    bounded_queue: Queue::<u32>::bounded(1), |queue| queue.try_put(7).unwrap();
    // A `get` would not wait, but fail.
    shut_queue: Queue::<u32>::new(), |queue| queue.shutdown();
    // It is ready while somebody has come with an item.
    offered_channel: channel::<u32>(), |channel| {
        let channel = channel.clone();
        parked(move || channel.put(7).unwrap());
    };
    shut_channel: channel::<u32>(), |channel| channel.shutdown();
    timer: Timer::after(ms(1), || ()), |_| ();
    cancelled_timer: Timer::after(HOUR, || ()), |timer| assert!(timer.cancel());
    future: GreenletPoolExecutor::new(1).submit(|| sleep(ms(1))), |_| ();
    cancelled_future: waits::busy_executor().0.submit(|| ()), |future| assert!(future.cancel());
    boxed: Box::new(spawn(|| sleep(ms(1)))) as Box<dyn Waitable>, |_| ();
}

#[test]
fn the_end_of_a_pipe_is_ready_when_something_was_sent() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        is_waited_for(here, |_| there.send(7).unwrap());
    });
}

#[test]
fn the_end_of_a_pipe_is_ready_when_the_other_is_dropped() {
    within(MINUTE, || {
        let (here, there) = pipe::<u32, u32>();
        is_waited_for(here, |_| drop(there));
    });
}

/// What a `get` finds there is what was put.
#[test]
fn what_was_waited_for_is_all_there() {
    within(MINUTE, || {
        let (queue, semaphore) = (Queue::<u32>::new(), Semaphore::new(0));
        let result = AsyncResult::<u32, ()>::new();
        queue.try_put(7).unwrap();
        semaphore.release();
        result.set(8).unwrap();
        for _ in 0..3 {
            joinall([&queue as &dyn Waitable, &semaphore, &result]);
            assert_eq!(wait_any([&semaphore as &dyn Waitable, &queue]), 0);
            assert_eq!(iwait([&result as &dyn Waitable, &queue]).collect::<Vec<_>>(), [0, 1]);
        }
        assert_eq!((queue.len(), semaphore.available()), (1, 1));
        assert_eq!((queue.get(), result.get()), (Ok(7), Ok(8)));
    });
}

// -------------------------------------------------------------- the select loop

/// Jobs by a queue, orders by a channel, a tick, a limit to how many are worked on, and an end.
#[test]
fn a_select_loop() {
    struct Desk {
        quit: Event,
        orders: Queue<&'static str>,
        jobs: Queue<u32>,
        free_hands: Semaphore,
    }
    within(MINUTE, || {
        let desk = Rc::new(Desk {
            quit: Event::new(),
            orders: channel(),
            jobs: Queue::new(),
            free_hands: Semaphore::new(2),
        });
        let log = Log::new();
        let clerk = {
            let (desk, log) = (Rc::clone(&desk), log.clone());
            parked(move || {
                loop {
                    let Desk { quit, orders, jobs, .. } = &*desk;
                    match wait_any([orders as &dyn Waitable, jobs, quit]) {
                        0 => log.say(orders.try_get().unwrap()),
                        1 => {
                            let job = jobs.try_get().unwrap();
                            let hand = desk.free_hands.acquire();
                            log.say(format!("job {job}"));
                            drop(hand);
                        }
                        _ => break log.say("quits"),
                    }
                }
            })
        };
        for n in 0..3 {
            desk.jobs.put(n).unwrap();
        }
        desk.orders.put("an order").unwrap();
        desk.jobs.put(3).unwrap();
        until(|| log.len() == 5);
        // What was there before the end is done before the end.
        desk.jobs.try_put(4).unwrap();
        desk.quit.set();
        clerk.get().unwrap();
        log.assert_has_all(["job 0", "job 1", "job 2", "an order", "job 3", "job 4", "quits"]);
        assert_eq!(log.lines()[5..], ["job 4", "quits"]);
        assert_eq!(desk.free_hands.available(), 2);
    });
}

/// A timer that rings a queue: as many ticks as were asked for, between the other things.
#[test]
fn a_select_loop_with_a_clock() {
    within(MINUTE, || {
        let (ticks, quit) = (Queue::<()>::new(), Event::new());
        let timer = {
            let ticks = ticks.clone();
            Timer::every(ms(1), move || ticks.try_put(()).unwrap())
        };
        let mut seen = 0;
        while wait_any([&quit as &dyn Waitable, &ticks]) == 1 {
            ticks.try_get().unwrap();
            seen += 1;
            if seen == 3 {
                assert!(timer.cancel());
                quit.set();
            }
        }
        assert_eq!(seen, 3);
    });
}

/// Both ends of a conversation that is served by whoever has time.
#[test]
fn a_select_loop_over_pipes() {
    within(MINUTE, || {
        let (served, clients): (Vec<_>, Vec<_>) = (0..3).map(|_| pipe::<u32, u32>()).unzip();
        let server = spawn(move || {
            let (mut open, mut answers) = (served, 0);
            while !open.is_empty() {
                let ready = wait_any(&open);
                match open[ready].recv() {
                    Ok(question) => {
                        open[ready].send(question + 1).unwrap();
                        answers += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, GetError::ShutDown);
                        open.remove(ready);
                    }
                }
            }
            answers
        });
        let askers: Vec<_> = (0..)
            .zip(clients)
            .map(|(n, client)| {
                spawn(move || {
                    for question in 0..=n {
                        client.send(question).unwrap();
                        assert_eq!(client.recv(), Ok(question + 1));
                    }
                })
            })
            .collect();
        joinall(&askers);
        assert!(askers.iter().all(Greenlet::is_successful));
        assert_eq!(server.get().unwrap(), 1 + 2 + 3);
    });
}

// -------------------------------------------------------------- which is first

#[test]
fn of_those_that_are_ready_the_first_in_the_list() {
    within(MINUTE, || {
        let (event, queue, semaphore) = (Event::new(), Queue::<u32>::new(), Semaphore::new(1));
        queue.try_put(7).unwrap();
        event.set();
        assert_eq!(wait_any([&queue as &dyn Waitable, &event, &semaphore]), 0);
        assert_eq!(wait_any([&semaphore as &dyn Waitable, &queue, &event]), 0);
        assert_eq!(wait_any([&event as &dyn Waitable, &semaphore, &queue]), 0);
    });
}

/// Several are ready when it comes to run: it names the one that woke it.
#[test]
fn of_those_that_become_ready_the_first_to_be() {
    within(MINUTE, || {
        let things = Rc::new((Event::new(), Queue::<u32>::new(), Semaphore::new(0)));
        let selector = {
            let things = Rc::clone(&things);
            parked(move || wait_any([&things.0 as &dyn Waitable, &things.1, &things.2]))
        };
        let (event, queue, semaphore) = &*things;
        queue.try_put(7).unwrap();
        semaphore.release();
        event.set();
        assert_eq!(selector.get().unwrap(), 1);
    });
}

#[test]
fn one_thing_named_twice() {
    within(MINUTE, || {
        let queue = Queue::<u32>::new();
        let selector = {
            let queue = queue.clone();
            parked(move || wait_any([&queue, &queue, &queue]))
        };
        queue.try_put(7).unwrap();
        assert_eq!(selector.get().unwrap(), 0);
        assert_eq!(queue.len(), 1);
    });
}

#[test]
fn one_of_very_many() {
    within(MINUTE, || {
        let queues: Rc<Vec<_>> = Rc::new((0..1000).map(|_| Queue::<u32>::new()).collect());
        for chosen in [999, 0, 500] {
            let selector = {
                let queues = Rc::clone(&queues);
                parked(move || wait_any(queues.iter()))
            };
            queues[chosen].try_put(7).unwrap();
            assert_eq!(selector.get().unwrap(), chosen);
            assert_eq!(queues[chosen].try_get(), Ok(7));
        }
        assert!(queues.iter().all(Queue::is_empty));
    });
}

// ------------------------------------------------------------- level and edge

/// A greenlet that selects between an event and a queue.
fn select_event_or_queue(event: &Event, queue: &Queue<u32>) -> Greenlet<usize> {
    let (event, queue) = (event.clone(), queue.clone());
    parked(move || wait_any([&event as &dyn Waitable, &queue]))
}

/// Level: the item was there, and is somebody else's by the time the selector runs.
#[test]
fn an_item_that_was_taken_meanwhile_does_not_count() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let selector = select_event_or_queue(&event, &queue);
        queue.try_put(7).unwrap();
        assert_eq!(queue.try_get(), Ok(7), "a selector is promised nothing");
        assert!(still_waits(&selector));
        // It waits as before, for both.
        queue.try_put(8).unwrap();
        assert_eq!(selector.get().unwrap(), 1);
        assert_eq!(queue.try_get(), Ok(8));
    });
}

#[test]
fn a_permit_that_was_taken_meanwhile_does_not_count() {
    within(MINUTE, || {
        let things = Rc::new((Semaphore::new(0), Event::new()));
        let selector = {
            let things = Rc::clone(&things);
            parked(move || wait_any([&things.0 as &dyn Waitable, &things.1]))
        };
        let (semaphore, event) = &*things;
        semaphore.release();
        let permit = semaphore.try_acquire().expect("a selector is promised nothing");
        assert!(still_waits(&selector));
        event.set();
        assert_eq!(selector.get().unwrap(), 1);
        drop(permit);
        assert_eq!(semaphore.available(), 1);
    });
}

/// gevent E1: edge.
#[test]
fn an_event_that_was_cleared_meanwhile_counts() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let selector = select_event_or_queue(&event, &queue);
        let joiner = {
            let event = event.clone();
            parked(move || joinall([&event]))
        };
        event.set();
        event.clear();
        assert_eq!(selector.get().unwrap(), 0);
        joiner.get().unwrap();
        assert_eq!(wait_any_timeout([&event], Duration::ZERO), None);
    });
}

/// gevent E3: a wait on a set event lets those go first who were woken, and no more than that: those
/// who wait for it in company, or by other names, hold up nobody.
#[test]
fn those_who_select_an_event_do_not_hold_up_who_waits() {
    within(MINUTE, || {
        let event = Event::new();
        let all: [fn(&Event); 4] = [
            |event| event.wait(),
            |event| joinall([event]),
            |event| assert_eq!(wait_any([event]), 0),
            |event| assert_eq!(iwait([event]).next(), Some(0)),
        ];
        let waiters: Vec<_> = all
            .into_iter()
            .map(|wait| {
                let event = event.clone();
                parked(move || wait(&event))
            })
            .collect();
        event.set();
        event.wait();
        joinall(&waiters);
        all.iter().for_each(|wait| wait(&event));
    });
}

/// An edge is for those who waited; who comes later sees the level.
#[test]
fn an_event_that_was_cleared_before_does_not_count() {
    within(MINUTE, || {
        let event = Event::new();
        event.set();
        event.clear();
        assert_eq!(wait_any_timeout([&event], ms(1)), None);
        assert!(!joinall_timeout([&event], ms(1)));
    });
}

/// The limit is one for the whole wait, not for each time it is woken in vain.
#[test]
fn a_limit_is_not_extended_by_what_others_took() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let snatcher = {
            let queue = queue.clone();
            spawn(move || {
                loop {
                    queue.try_put(7).unwrap();
                    queue.try_get().unwrap();
                    sleep(ms(1));
                }
            })
        };
        let start = Instant::now();
        assert_eq!(wait_any_timeout([&event as &dyn Waitable, &queue], ms(20)), None);
        assert!(start.elapsed() >= ms(20));
        snatcher.kill();
    });
}

/// gevent E5.
#[test]
fn what_is_ready_stays_so() {
    within(MINUTE, || {
        let event = Event::new();
        event.set();
        for _ in 0..3 {
            assert_eq!(wait_any([&event]), 0);
        }
    });
}

// ------------------------------------------------- selectors and other people

/// Q2: an item goes to the first who gets, and a selector does not get.
#[test]
fn who_gets_comes_before_who_selects() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let selector = select_event_or_queue(&event, &queue);
        let getter = {
            let queue = queue.clone();
            parked(move || queue.get())
        };
        queue.try_put(7).unwrap();
        assert_eq!(getter.get().unwrap(), Ok(7));
        assert!(still_waits(&selector));
        event.set();
        assert_eq!(selector.get().unwrap(), 0);
    });
}

#[test]
fn who_acquires_comes_before_who_selects() {
    within(MINUTE, || {
        let semaphore = Rc::new(Semaphore::new(0));
        let selector = {
            let semaphore = Rc::clone(&semaphore);
            parked(move || wait_any([&*semaphore]))
        };
        let acquirer = {
            let semaphore = Rc::clone(&semaphore);
            parked(move || semaphore.acquire().forget())
        };
        semaphore.release();
        acquirer.get().unwrap();
        assert!(still_waits(&selector));
        semaphore.release();
        assert_eq!(selector.get().unwrap(), 0);
        assert_eq!(semaphore.available(), 1);
    });
}

/// Whoever selects and then turns away has stood in nobody's way.
#[test]
fn who_selects_need_not_take() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let selector = select_event_or_queue(&event, &queue);
        queue.try_put(7).unwrap();
        assert_eq!(selector.get().unwrap(), 1);
        let getter = {
            let queue = queue.clone();
            spawn(move || queue.get())
        };
        assert_eq!(getter.get().unwrap(), Ok(7));
    });
}

/// Several who select on one queue, and take: each item is somebody's, and what is named is there.
#[test]
fn several_selectors_share_a_queue() {
    within(MINUTE, || {
        let (queue, quit) = (Queue::<u32>::new(), Event::new());
        let taken: Rc<RefCell<Vec<u32>>> = Rc::default();
        let selectors: Vec<_> = (0..5)
            .map(|_| {
                let (queue, quit, taken) = (queue.clone(), quit.clone(), Rc::clone(&taken));
                parked(move || {
                    let mut mine = 0;
                    while wait_any([&queue as &dyn Waitable, &quit]) == 0 {
                        taken.borrow_mut().push(queue.try_get().expect("it was named"));
                        mine += 1;
                        yield_now();
                    }
                    mine
                })
            })
            .collect();
        for n in 0..100 {
            queue.try_put(n).unwrap();
            if n % 7 == 0 {
                yield_now();
            }
        }
        settle();
        assert!(queue.is_empty());
        quit.set();
        let shares: Vec<u32> = selectors.into_iter().map(|one| one.get().unwrap()).collect();
        assert_eq!(shares.iter().sum::<u32>(), 100);
        assert_eq!(*taken.borrow(), (0..100).collect::<Vec<_>>());
    });
}

/// One item is no news to the second of two selectors if the first has taken it.
#[test]
fn one_item_for_one_of_several_selectors() {
    within(MINUTE, || {
        let queue = Queue::<u32>::new();
        let taken = Rc::new(Cell::new(0));
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let (queue, taken) = (queue.clone(), Rc::clone(&taken));
                parked(move || {
                    wait_any([&queue]);
                    taken.set(taken.get() + queue.try_get().expect("it was named"));
                })
            })
            .collect();
        for n in 1..=3 {
            queue.try_put(1).unwrap();
            settle();
            assert_eq!(taken.get(), n);
            let waiting = takers.iter().filter(|taker| !taker.is_finished()).count();
            assert_eq!(waiting as u32, 3 - n);
        }
        assert!(takers.iter().all(Greenlet::is_successful));
    });
}

/// Q7: a selector is no taker. A `try_put` finds nobody; a `put` waits until somebody takes.
#[test]
fn a_selector_on_a_channel_is_no_taker() {
    within(MINUTE, || {
        let channel = channel::<u32>();
        let selector = {
            let channel = channel.clone();
            parked(move || wait_any([&channel]))
        };
        assert_eq!(channel.try_put(1), Err(PutError::Full(1)));
        assert!(still_waits(&selector));
        let putter = {
            let channel = channel.clone();
            parked(move || channel.put(2))
        };
        assert_eq!(selector.get().unwrap(), 0);
        assert!(still_waits(&putter));
        assert_eq!(channel.try_get(), Ok(2));
        assert_eq!(putter.get().unwrap(), Ok(()));
        assert!(!channel.is_ready());
    });
}

/// A putter that is killed takes his item along, so there is nothing to select.
#[test]
fn a_channel_whose_putter_was_killed_is_not_ready() {
    within(MINUTE, || {
        let channel = channel::<u32>();
        let putter = {
            let channel = channel.clone();
            parked(move || channel.put(1))
        };
        assert!(channel.is_ready());
        putter.kill_nowait();
        assert!(!channel.is_ready(), "though he has not run yet");
        assert_eq!(channel.try_get(), Err(GetError::Empty));
        assert_eq!(wait_any_timeout([&channel], ms(1)), None);
        assert!(end_of(putter) == End::Killed);
    });
}

// ------------------------------------------------------- the losers of a select

/// What was waited for and did not come first has forgotten about it.
#[test]
fn the_losers_notice_nothing() {
    within(MINUTE, || {
        let things = Rc::new((Event::new(), Queue::<u32>::new(), Semaphore::new(0)));
        let (event, queue, semaphore) = &*things;
        let selector = {
            let things = Rc::clone(&things);
            parked(move || {
                let (event, queue, semaphore) = &*things;
                let first = wait_any([event as &dyn Waitable, queue, semaphore]);
                // Nothing of this wait ends the next one.
                let start = Instant::now();
                sleep(ms(10));
                assert!(start.elapsed() >= ms(10));
                first
            })
        };
        event.set();
        yield_now();
        queue.try_put(7).unwrap();
        semaphore.release();
        assert_eq!(selector.get().unwrap(), 0);
        assert_eq!((queue.len(), semaphore.available()), (1, 1));
        // Both go on as if nobody had ever looked.
        assert_eq!(queue.try_get(), Ok(7));
        let getter = {
            let queue = queue.clone();
            parked(move || queue.get())
        };
        queue.try_put(8).unwrap();
        assert_eq!(getter.get().unwrap(), Ok(8));
        assert!(semaphore.try_acquire().is_some());
    });
}

/// gevent K9, K10: who is killed or timed out in a select takes nothing along.
#[test]
fn who_is_woken_and_killed_in_the_same_turn_takes_nothing_along() {
    within(MINUTE, || {
        for kill_first in [false, true] {
            let things = Rc::new((Queue::<u32>::new(), Semaphore::new(0)));
            let (queue, semaphore) = &*things;
            let selector = {
                let things = Rc::clone(&things);
                parked(move || {
                    wait_any([&things.0 as &dyn Waitable, &things.1]);
                    sleep(HOUR);
                })
            };
            if kill_first {
                selector.kill_nowait();
            }
            queue.try_put(7).unwrap();
            semaphore.release();
            selector.kill_nowait();
            assert_eq!(end_of(selector), End::Killed);
            assert_eq!((queue.len(), semaphore.available()), (1, 1));
            assert_eq!(wait_any([queue as &dyn Waitable, semaphore]), 0);
        }
    });
}

#[test]
fn a_select_under_a_timeout_leaves_no_trace() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        for _ in 0..3 {
            assert!(with_timeout(ms(1), || wait_any([&event as &dyn Waitable, &queue])).is_err());
            assert_eq!(wait_any_timeout([&event as &dyn Waitable, &queue], ms(1)), None);
        }
        let start = Instant::now();
        spawn(move || {
            event.set();
            queue.try_put(7).unwrap();
        });
        sleep(ms(10));
        assert!(start.elapsed() >= ms(10));
    });
}

// ------------------------------------------------------------------------ iwait

/// J8: what is ready comes first, in the order of the list; the others as they become ready.
#[test]
fn each_comes_as_it_becomes_ready() {
    within(MINUTE, || {
        let things = (Event::new(), Queue::<u32>::new(), Semaphore::new(1), channel::<u32>());
        let (event, queue, semaphore, channel) = &things;
        let greenlet = spawn(|| ());
        greenlet.join();
        let mut ready = iwait([event as &dyn Waitable, &greenlet, queue, semaphore, channel]);
        assert_eq!(ready.next(), Some(1));
        assert_eq!(ready.next(), Some(3));
        queue.try_put(7).unwrap();
        assert_eq!(ready.next(), Some(2));
        let putter = {
            let channel = channel.clone();
            parked(move || channel.put(8))
        };
        assert_eq!(ready.next(), Some(4));
        event.set();
        assert_eq!(ready.next(), Some(0));
        assert_eq!(ready.next(), None);
        // It has only looked.
        assert_eq!((queue.try_get(), channel.try_get()), (Ok(7), Ok(8)));
        putter.get().unwrap().unwrap();
        assert!(semaphore.try_acquire().is_some());
    });
}

/// In the order in which they became ready while it was looking elsewhere.
#[test]
fn each_comes_in_order_though_nobody_was_waiting() {
    within(MINUTE, || {
        let (event, queue, semaphore) = (Event::new(), Queue::<u32>::new(), Semaphore::new(0));
        let ready = iwait([&event as &dyn Waitable, &queue, &semaphore]);
        semaphore.release();
        event.set();
        queue.try_put(7).unwrap();
        assert_eq!(ready.collect::<Vec<_>>(), [2, 0, 1]);
    });
}

/// Each comes once, however often it becomes ready.
#[test]
fn each_comes_once() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let mut ready = iwait([&event as &dyn Waitable, &queue]);
        for _ in 0..3 {
            event.set();
            event.clear();
        }
        queue.try_put(7).unwrap();
        queue.try_put(8).unwrap();
        assert_eq!(ready.next(), Some(0));
        assert_eq!(ready.next(), Some(1));
        assert_eq!(ready.next(), None);
    });
}

/// Level, as for `wait_any`: it goes on listening for what somebody else has taken.
#[test]
fn each_comes_when_it_is_there() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let listener = {
            let (event, queue) = (event.clone(), queue.clone());
            parked(move || iwait([&event as &dyn Waitable, &queue]).collect::<Vec<_>>())
        };
        queue.try_put(7).unwrap();
        assert_eq!(queue.try_get(), Ok(7));
        assert!(still_waits(&listener));
        event.set();
        event.clear();
        assert!(still_waits(&listener), "for the queue");
        queue.try_put(8).unwrap();
        assert_eq!(listener.get().unwrap(), [0, 1]);
        assert_eq!(queue.try_get(), Ok(8));
    });
}

/// K10: an `iwait` that is dropped leaves no trace in what has not come.
#[test]
fn a_dropped_iwait_leaves_no_trace() {
    within(MINUTE, || {
        let things = (Event::new(), Queue::<u32>::new(), Semaphore::new(0), channel::<u32>());
        let (event, queue, semaphore, channel) = &things;
        let all = || [event as &dyn Waitable, queue, semaphore, channel];
        drop(iwait(all()));
        assert!(with_timeout(ms(1), || iwait(all()).next()).is_err());
        let mut begun = iwait(all());
        event.set();
        assert_eq!(begun.next(), Some(0));
        drop(begun);

        let getter = {
            let queue = queue.clone();
            parked(move || queue.get())
        };
        queue.try_put(7).unwrap();
        assert_eq!(getter.get().unwrap(), Ok(7));
        semaphore.release();
        assert_eq!(semaphore.available(), 1);
        assert_eq!(channel.try_put(8), Err(PutError::Full(8)));
        let start = Instant::now();
        queue.try_put(9).unwrap();
        sleep(ms(10));
        assert!(start.elapsed() >= ms(10));
    });
}

#[test]
fn a_killed_iwait_leaves_no_trace() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let listeners: Vec<_> = (0..3)
            .map(|_| {
                let (event, queue) = (event.clone(), queue.clone());
                parked(move || iwait([&event as &dyn Waitable, &queue]).count())
            })
            .collect();
        killall(&listeners);
        let (event_handles, stuck) = (event.clone(), stuck());
        event.set();
        queue.try_put(7).unwrap();
        assert_eq!(queue.try_get(), Ok(7));
        assert!(event_handles.is_set());
        // Nothing is left that could wake anybody.
        blocks_forever(|| stuck.join());
    });
}

// ---------------------------------------------------------------------- joinall

#[test]
fn joinall_waits_for_each_of_them() {
    within(MINUTE, || {
        let things = Rc::new((Event::new(), Queue::<u32>::new(), Semaphore::new(0)));
        let (event, queue, semaphore) = &*things;
        let joiner = {
            let things = Rc::clone(&things);
            parked(move || joinall([&things.0 as &dyn Waitable, &things.1, &things.2]))
        };
        semaphore.release();
        assert!(still_waits(&joiner));
        event.set();
        assert!(still_waits(&joiner));
        queue.try_put(7).unwrap();
        joiner.get().unwrap();
        assert_eq!((queue.len(), semaphore.available()), (1, 1));
    });
}

#[test]
fn joinall_with_a_limit_over_many_kinds() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        event.set();
        assert!(!joinall_timeout([&event as &dyn Waitable, &queue], ms(1)));
        queue.try_put(7).unwrap();
        assert!(joinall_timeout([&event as &dyn Waitable, &queue], Duration::ZERO));
    });
}

// ------------------------------------------------------------------ the report

#[test]
fn a_select_that_can_never_end_is_found_out() {
    within(MINUTE, || {
        let (event, queue) = (Event::new(), Queue::<u32>::new());
        let selector = select_event_or_queue(&event, &queue);
        assert_eq!(reason_of(selector.id()).as_deref(), Some("wait_any"));
        let report = blocks_forever(|| wait_any([&event as &dyn Waitable, &queue]));
        assert!(report.contains("wait_any"), "{report}");
        assert!(report.contains(&selector.name()), "{report}");
        blocks_forever(|| iwait([&event as &dyn Waitable, &queue]).next());
        // All is well when it can.
        event.set();
        assert_eq!(selector.get().unwrap(), 0);
    });
}
