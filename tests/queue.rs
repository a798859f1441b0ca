//! Queues: in which order items leave, who waits in which line, what is handed to whom, and that
//! nothing is lost by time, kills, shutdown, or items that misbehave.
//!
//! Q1, K9, T4, ... are the rules of the design, and "case 39" its list of cases, which each test
//! that is about one names; "Queue" is the paragraph of that name in its settled details.

mod util;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::iter;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom::queue::{
    Channel, Fifo, GetError, JoinableQueue, Lifo, LifoQueue, Order, Priority, PriorityQueue,
    PutError, Queue, TooManyDone, channel,
};
use greenloom::sync::Event;
use greenloom::{
    Elapsed, Greenlet, Waitable, iwait, joinall, joinall_timeout, killall, shield, sleep, spawn,
    wait_any, wait_any_timeout, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, ms, reason_of, reports,
    settle, spin, state_of, stuck, swallow, until, waits, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let queue: Queue<u32> = Queue::new();
        let taker = getter(&queue);
        queue.put(7).unwrap();
        assert_eq!(taker.get().unwrap(), Ok(7));
    });
}

// ------------------------------------------------------------------------ words

fn unbounded<T>() -> Queue<T> {
    Queue::new()
}

fn bounded<T>(capacity: usize) -> Queue<T> {
    Queue::bounded(capacity)
}

/// A queue that holds these and nothing more.
fn full<T>(items: impl IntoIterator<Item = T>) -> Queue<T> {
    let items: Vec<_> = items.into_iter().collect();
    let queue = Queue::bounded(items.len());
    fill(&queue, items);
    queue
}

fn fill<T, O: Order<T>>(queue: &Queue<T, O>, items: impl IntoIterator<Item = T>) {
    for item in items {
        assert!(queue.try_put(item).is_ok(), "there is room");
    }
}

/// Takes out what is there.
fn drain<T, O: Order<T>>(queue: &Queue<T, O>) -> Vec<T> {
    iter::from_fn(|| queue.try_get().ok()).collect()
}

/// A greenlet that waits for one item.
fn getter<T, O>(queue: &Queue<T, O>) -> Greenlet<Result<T, GetError>>
where
    T: 'static,
    O: Order<T> + 'static,
{
    let queue = queue.clone();
    parked(spawn(move || queue.get()))
}

/// A greenlet that waits for one item to look at.
fn peeker<T, O>(queue: &Queue<T, O>) -> Greenlet<Result<T, GetError>>
where
    T: Clone + 'static,
    O: Order<T> + 'static,
{
    let queue = queue.clone();
    parked(spawn(move || queue.peek()))
}

/// A greenlet that waits for a place for `item`.
fn putter<T, O>(queue: &Queue<T, O>, item: T) -> Greenlet<Result<(), PutError<T>>>
where
    T: 'static,
    O: Order<T> + 'static,
{
    let queue = queue.clone();
    parked(spawn(move || queue.put(item)))
}

/// `greenlet`, once it waits; or has ended, if its time is short and the machine is slow.
fn parked<T: 'static>(greenlet: Greenlet<T>) -> Greenlet<T> {
    until(|| greenlet.is_finished() || state_of(greenlet.id()) == Some("parked"));
    greenlet
}

/// Does `f` when a time of [`SHORT`] that begins now is over, and before the loop can notice that.
fn just_too_late(f: impl FnOnce() + 'static) {
    spawn(move || {
        spin(2 * SHORT);
        f();
    });
}

/// A time that is over when [`just_too_late`] comes.
const SHORT: Duration = Duration::from_millis(5);

/// A greenlet that waits in `operation`, says what it got from that, and waits on until killed.
fn survivor<T: std::fmt::Debug + 'static>(
    log: &Log,
    operation: impl FnOnce() -> T + 'static,
) -> Greenlet<()> {
    let log = log.clone();
    parked(spawn(move || {
        let result = operation();
        log.say(format!("{result:?}"));
        sleep(HOUR);
        log.say("survived its next wait");
    }))
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

/// Compares by `rank` alone.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    rank: u32,
    name: char,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

fn names(ranked: Vec<Ranked>) -> String {
    ranked.into_iter().map(|ranked| ranked.name).collect()
}

// ----------------------------------------------------------------- orders, sizes

#[test]
fn first_in_first_out() {
    within(MINUTE, || {
        let queue = unbounded();
        for n in 0..100 {
            queue.put(n).unwrap();
        }
        assert!((0..100).all(|n| queue.get() == Ok(n)));
        assert!(queue.is_empty());
    });
}

#[test]
fn last_in_first_out() {
    within(MINUTE, || {
        let stack = LifoQueue::new();
        fill(&stack, [1, 2]);
        assert_eq!(stack.get(), Ok(2));
        fill(&stack, [3, 4]);
        assert_eq!(drain(&stack), [4, 3, 1]);
    });
}

#[test]
fn smallest_first() {
    within(MINUTE, || {
        let queue = PriorityQueue::new();
        fill(&queue, [5, 1, 4, 1, 3]);
        assert_eq!(queue.get(), Ok(1));
        fill(&queue, [2, 0]);
        assert_eq!(drain(&queue), [0, 1, 2, 3, 4, 5]);

        let largest_first = PriorityQueue::new();
        fill(&largest_first, [5, 1, 4].map(Reverse));
        assert_eq!(drain(&largest_first), [5, 4, 1].map(Reverse));
    });
}

/// Also where other items come and go in between, and over more than a heap's few levels.
#[test]
fn equals_leave_in_order_of_arrival() {
    within(MINUTE, || {
        let queue = PriorityQueue::new();
        let ranked = |rank, name| Ranked { rank, name };
        fill(&queue, [ranked(2, 'c'), ranked(1, 'a'), ranked(2, 'd'), ranked(1, 'b')]);
        assert_eq!(queue.get().unwrap().name, 'a');
        fill(&queue, [ranked(2, 'e'), ranked(0, 'z')]);
        assert_eq!(names(drain(&queue)), "zbcde");

        let alphabet: String = ('a'..='z').collect();
        fill(&queue, alphabet.chars().map(|name| ranked(0, name)));
        assert_eq!(names(drain(&queue)), alphabet);
    });
}

/// Whatever is written for one order works for all.
#[test]
fn the_order_is_a_parameter() {
    fn sorted<O: Order<u32>>(queue: &Queue<u32, O>) -> Vec<u32> {
        fill(queue, [2, 3, 1]);
        let mut items = drain(queue);
        items.sort_unstable();
        items
    }
    within(MINUTE, || {
        assert_eq!(sorted(&Queue::<u32, Fifo>::new()), [1, 2, 3]);
        assert_eq!(sorted(&Queue::<u32, Lifo>::bounded(3)), [1, 2, 3]);
        assert_eq!(sorted(&Queue::<u32, Priority>::default()), [1, 2, 3]);
        assert_eq!(sorted(&JoinableQueue::<u32, Lifo>::default()), [1, 2, 3]);
    });
}

#[test]
fn an_unbounded_queue_is_never_full() {
    within(MINUTE, || {
        let queue = unbounded();
        assert_eq!(queue.capacity(), None);
        assert!(queue.is_empty() && !queue.is_full());
        fill(&queue, 0..1000);
        assert_eq!(queue.len(), 1000);
        assert!(!queue.is_empty() && !queue.is_full());
    });
}

#[test]
fn a_bounded_queue_is_full_at_its_bound() {
    within(MINUTE, || {
        let queue = bounded(2);
        assert_eq!((queue.capacity(), queue.len()), (Some(2), 0));
        queue.put(1).unwrap();
        assert!(!queue.is_empty() && !queue.is_full());
        queue.put(2).unwrap();
        assert!(queue.is_full());
        assert_eq!(queue.try_put(3), Err(PutError::Full(3)));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.get(), Ok(1));
        assert!(!queue.is_full());
    });
}

#[test]
fn handles_are_of_one_queue() {
    within(MINUTE, || {
        let one = full([1]);
        let other = one.clone();
        assert!(other.is_full());
        drop(one);
        assert_eq!(other.try_get(), Ok(1));
        other.clone().shutdown();
        assert_eq!(other.try_get(), Err(GetError::ShutDown));
    });
}

#[test]
fn items_may_be_of_size_zero() {
    within(MINUTE, || {
        let queue = unbounded();
        fill(&queue, iter::repeat_n((), 100_000));
        assert_eq!(queue.len(), 100_000);
        assert_eq!(drain(&queue).len(), 100_000);

        let ranked = PriorityQueue::bounded(2);
        fill(&ranked, [(), ()]);
        assert_eq!(ranked.try_put(()), Err(PutError::Full(())));
        assert_eq!(ranked.get(), Ok(()));
    });
}

/// Not even of items that have no `Debug`.
#[test]
fn debug_needs_nothing_of_the_items() {
    struct Silent;
    within(MINUTE, || {
        let queue = full([Silent]);
        assert!(!format!("{queue:?}").is_empty());
        assert!(!format!("{:?}", queue.iter()).is_empty());
        assert!(!format!("{:?}", JoinableQueue::<Silent>::new()).is_empty());
    });
}

#[test]
fn dropping_the_last_handle_drops_the_items() {
    within(MINUTE, || {
        let living = Living::new();
        let queue = full([living.token(), living.token()]);
        let other = queue.clone();
        drop(queue);
        assert_eq!(living.count(), 2);
        drop(other);
        assert_eq!(living.count(), 0);
    });
}

// ------------------------------------------------------------------- the try forms

/// H5: the `try_` forms never switch, however often they are called and whatever they do.
#[test]
fn the_try_forms_never_switch() {
    within(MINUTE, || {
        let (queue, meeting) = (bounded(1), channel());
        let (taker, giver) = (getter(&queue), putter(&meeting, 0));
        let log = Log::new();
        let said = log.clone();
        spawn(move || said.say("another ran"));
        fill(&queue, [0]);
        assert_eq!(meeting.try_get(), Ok(0));
        for n in 0..1000 {
            queue.try_put(n).unwrap();
            assert_eq!(queue.try_put(n), Err(PutError::Full(n)));
            assert_eq!(queue.try_peek(), Ok(n));
            assert_eq!(queue.try_get(), Ok(n));
            assert_eq!(queue.try_get(), Err(GetError::Empty));
            assert_eq!(queue.try_peek(), Err(GetError::Empty));
        }
        queue.shutdown();
        log.assert_empty();
        assert_eq!(taker.get().unwrap(), Ok(0));
        assert_eq!(giver.get().unwrap(), Ok(()));
    });
}

/// H5: nor do the others where they need not wait.
#[cfg(not(hard_switch))] // a fast path yields there
#[test]
fn what_need_not_wait_does_not() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::bounded(1);
        let log = Log::new();
        let said = log.clone();
        spawn(move || said.say("another ran"));
        queue.join();
        queue.put(1).unwrap();
        assert_eq!(queue.peek(), Ok(1));
        assert_eq!(queue.get(), Ok(1));
        queue.put_timeout(2, HOUR).unwrap();
        assert_eq!(queue.peek_timeout(HOUR), Ok(2));
        assert_eq!(queue.iter().next(), Some(2));
        log.assert_empty();
    });
}

/// H5: but not for ever.
#[test]
fn a_loop_of_ready_calls_lets_the_others_run() {
    within(MINUTE, || {
        let queue = unbounded();
        let ran = Rc::new(Cell::new(false));
        let run = ran.clone();
        spawn(move || run.set(true));
        let rounds = (0..10_000).take_while(|_| !ran.get());
        for n in rounds {
            queue.put(n).unwrap();
            queue.get().unwrap();
        }
        assert!(ran.get());
    });
}

// ---------------------------------------------------------------------- the lines

/// Case 39; Q1: what waits for a place has it before the `get` that made it returns.
#[test]
fn case_39_max_size() {
    within(MINUTE, || {
        let queue = bounded(2);
        let log = Log::new();
        let putting = {
            let (queue, log) = (queue.clone(), log.clone());
            parked(spawn(move || {
                for item in ["a", "b", "c"] {
                    queue.put(item).unwrap();
                    log.say(item);
                }
            }))
        };
        log.assert_is(["a", "b"]);
        assert_eq!(queue.get(), Ok("a"));
        assert_eq!(queue.len(), 2);
        putting.join();
        log.assert_is(["a", "b", "c"]);
        assert_eq!(drain(&queue), ["b", "c"]);
    });
}

/// Case 40: as many getters go on as items come.
#[test]
fn case_40_n_waiters_n_items() {
    within(MINUTE, || {
        let queue = unbounded();
        let getters: Vec<_> = (0..4).map(|_| getter(&queue)).collect();
        let mut finished = Vec::new();
        for count in [1, 1, 2] {
            fill(&queue, 0..count);
            settle();
            finished.push(getters.iter().filter(|getter| getter.is_finished()).count());
        }
        assert_eq!(finished, [1, 2, 4]);
    });
}

/// Q1: those who wait for an item are served in order of arrival.
#[test]
fn getters_are_served_first_come_first_served() {
    within(MINUTE, || {
        let queue = unbounded();
        let getters: Vec<_> = (0..100).map(|_| getter(&queue)).collect();
        fill(&queue, 0..100);
        for (n, getter) in getters.into_iter().enumerate() {
            assert_eq!(getter.get().unwrap(), Ok(n));
        }
    });
}

/// Q1: those who wait for a place are, too, whatever the order of the items.
#[test]
fn putters_are_served_first_come_first_served() {
    fn check<O: Order<u32> + 'static>(queue: &Queue<u32, O>) {
        fill(queue, [100]);
        let putters: Vec<_> = (0..100).rev().map(|n| putter(queue, n)).collect();
        let got: Vec<_> = (0..=100).map(|_| queue.get().unwrap()).collect();
        assert_eq!(got, (0..=100).rev().collect::<Vec<_>>());
        joinall(&putters);
    }
    within(MINUTE, || {
        check(&Queue::<u32, Fifo>::bounded(1));
        check(&Queue::<u32, Lifo>::bounded(1));
        check(&Queue::<u32, Priority>::bounded(1));
    });
}

/// Q2, the hand-off: what is put while somebody waits is his, and nobody overtakes him.
#[test]
fn an_item_goes_to_the_first_who_waits() {
    within(MINUTE, || {
        let queue = unbounded();
        let first = getter(&queue);
        fill(&queue, [1]);
        assert_eq!(queue.try_get(), Err(GetError::Empty), "it is promised");
        fill(&queue, [2]);
        assert_eq!(queue.try_get(), Ok(2), "and this one is not");
        assert_eq!(first.get().unwrap(), Ok(1));
    });
}

/// Q2, the hand-off: a place goes to the first who waits for one, before anybody else can take it.
#[test]
fn a_place_goes_to_the_first_who_waits() {
    within(MINUTE, || {
        let queue = full(["a"]);
        let first = putter(&queue, "b");
        assert_eq!(queue.try_get(), Ok("a"));
        assert_eq!(queue.try_put("c"), Err(PutError::Full("c")));
        assert_eq!(queue.try_get(), Ok("b"), "it is in already");
        assert_eq!(first.get().unwrap(), Ok(()));
    });
}

/// Q2, the hand-off: what has gone to somebody who waits takes no place in the queue.
#[test]
fn what_is_handed_over_takes_no_place() {
    within(MINUTE, || {
        let queue = bounded(1);
        let getters = [getter(&queue), getter(&queue)];
        fill(&queue, [0, 1, 2]);
        assert_eq!(queue.try_put(3), Err(PutError::Full(3)));
        for (n, getter) in getters.into_iter().enumerate() {
            assert_eq!(getter.get().unwrap(), Ok(n));
        }
        assert_eq!(drain(&queue), [2]);
    });
}

/// Q2, the hand-off, by greenlets that come back for more: each gets every second item.
#[test]
fn two_getters_take_turns() {
    within(MINUTE, || {
        let queue = unbounded();
        let taker = || {
            let queue = queue.clone();
            parked(spawn(move || queue.iter().collect::<Vec<_>>()))
        };
        let takers = [taker(), taker()];
        for n in 0..10 {
            fill(&queue, [n]);
            settle();
        }
        queue.shutdown();
        let [even, odd] = takers.map(|taker| taker.get().unwrap());
        assert_eq!((even, odd), (vec![0, 2, 4, 6, 8], vec![1, 3, 5, 7, 9]));
    });
}

/// The bound holds at every moment, seen by everybody who has a turn.
#[test]
fn the_bound_is_never_exceeded() {
    const PUTTERS: usize = 10;
    const EACH: usize = 50;
    within(MINUTE, || {
        let queue = bounded(3);
        let putters: Vec<_> = (0..PUTTERS)
            .map(|putter| {
                let queue = queue.clone();
                spawn(move || {
                    for n in 0..EACH {
                        queue.put((putter, n)).unwrap();
                        assert!(queue.len() <= 3);
                    }
                })
            })
            .collect();
        let mut next = [0; PUTTERS];
        for _ in 0..PUTTERS * EACH {
            assert!(queue.len() <= 3);
            let (putter, n) = queue.get().unwrap();
            assert_eq!(n, next[putter], "each putter's items in their order");
            next[putter] += 1;
            yield_now();
        }
        joinall(&putters);
        assert!(queue.is_empty());
    });
}

// --------------------------------------------------------------------------- peek

/// Case 43; Q6: peeking takes nothing, waits like `get`, and several see one item.
#[test]
fn case_43_peek() {
    within(MINUTE, || {
        let queue = unbounded();
        assert_eq!(queue.try_peek(), Err(GetError::Empty));
        assert_eq!(queue.peek_timeout(ms(1)), Err(GetError::Elapsed));
        let peekers = [peeker(&queue), peeker(&queue)];
        queue.put(1).unwrap();
        for peeker in peekers {
            assert_eq!(peeker.get().unwrap(), Ok(1));
        }
        assert_eq!(queue.peek(), Ok(1));
        assert_eq!(queue.len(), 1);
        assert_eq!(drain(&queue), [1]);
    });
}

/// Case 43; H13: where nobody is left to put anything, the main greenlet is told.
#[test]
fn to_peek_where_nobody_puts_blocks_forever() {
    within(MINUTE, || {
        let queue = unbounded::<u32>();
        let report = blocks_forever(|| queue.peek());
        assert!(report.contains("peek of the Queue made at tests/queue.rs:"), "{report}");
        fill(&queue, [1]);
        assert_eq!(queue.peek(), Ok(1), "none the worse");
    });
}

/// Queue: peekers stand in the same line as getters; an item wakes all peekers ahead of the first
/// getter.
#[test]
fn peekers_stand_in_the_line_of_the_getters() {
    within(MINUTE, || {
        let queue = unbounded();
        let ahead = [peeker(&queue), peeker(&queue)];
        let taker = getter(&queue);
        let behind = peeker(&queue);
        fill(&queue, [1]);
        for peeker in ahead {
            assert_eq!(peeker.get().unwrap(), Ok(1));
        }
        assert_eq!(taker.get().unwrap(), Ok(1));
        settle();
        assert!(!behind.is_finished());
        fill(&queue, [2]);
        assert_eq!(behind.get().unwrap(), Ok(2));
        assert_eq!(drain(&queue), [2]);
    });
}

/// What is next to leave is what is seen.
#[test]
fn a_peek_sees_what_is_next() {
    within(MINUTE, || {
        let fifo = full([2, 1, 3]);
        assert_eq!((fifo.peek(), fifo.get()), (Ok(2), Ok(2)));
        let lifo = LifoQueue::new();
        fill(&lifo, [2, 1, 3]);
        assert_eq!((lifo.peek(), lifo.get()), (Ok(3), Ok(3)));
        let priority = PriorityQueue::new();
        fill(&priority, [2, 1, 3]);
        assert_eq!((priority.peek(), priority.get()), (Ok(1), Ok(1)));
    });
}

/// To look makes no place for those who wait for one.
#[test]
fn a_peek_lets_nobody_in() {
    within(MINUTE, || {
        let queue = full([1]);
        let waiting = putter(&queue, 2);
        assert_eq!(queue.peek(), Ok(1));
        settle();
        assert!(!waiting.is_finished());
        assert_eq!(queue.get(), Ok(1));
        assert_eq!(queue.get(), Ok(2));
        waiting.join();
    });
}

// --------------------------------------------------------------------------- time

/// Q3, Q4, T8: who gives up is told so, not early, and is in no line any more.
#[test]
fn who_gives_up_leaves_the_line() {
    within(MINUTE, || {
        let queue = bounded(1);
        let start = Instant::now();
        assert_eq!(queue.get_timeout(ms(5)), Err(GetError::Elapsed));
        assert_eq!(queue.peek_timeout(ms(5)), Err(GetError::Elapsed));
        assert!(start.elapsed() >= ms(10));
        fill(&queue, [1]);
        let start = Instant::now();
        assert_eq!(queue.put_timeout(2, ms(5)), Err(PutError::Elapsed(2)));
        assert!(start.elapsed() >= ms(5));
        assert_eq!(drain(&queue), [1], "nobody took it, and nothing came in");
    });
}

#[test]
fn the_item_comes_back_with_every_refusal() {
    within(MINUTE, || {
        let queue = full([String::from("first")]);
        let item = || String::from("second");
        assert_eq!(queue.try_put(item()).unwrap_err().into_inner(), "second");
        assert_eq!(queue.put_timeout(item(), ms(1)).unwrap_err().into_inner(), "second");
        queue.shutdown();
        assert_eq!(queue.put(item()).unwrap_err().into_inner(), "second");
    });
}

/// T5: no time at all is enough for what is there, and for nothing else.
#[test]
fn no_time_at_all() {
    within(MINUTE, || {
        let queue = full([1]);
        assert_eq!(queue.peek_timeout(ms(0)), Ok(1));
        assert_eq!(queue.put_timeout(2, ms(0)), Err(PutError::Elapsed(2)));
        assert_eq!(queue.get_timeout(ms(0)), Ok(1));
        assert_eq!(queue.get_timeout(ms(0)), Err(GetError::Elapsed));
        assert_eq!(queue.put_timeout(2, ms(0)), Ok(()));
    });
}

/// A wait whose end is past the end of time.
#[test]
fn all_the_time_there_is() {
    within(MINUTE, || {
        let queue = bounded(1);
        let taker = {
            let queue = queue.clone();
            parked(spawn(move || queue.get_timeout(Duration::MAX)))
        };
        queue.put_timeout(1, Duration::MAX).unwrap();
        assert_eq!(taker.get().unwrap(), Ok(1));
    });
}

/// Case 41: those who gave up are passed over; what they waited for goes to one who still waits, or
/// remains.
#[test]
fn case_41_dying_waiters() {
    within(MINUTE, || {
        let queue = unbounded();
        let dying = |d| {
            let queue = queue.clone();
            parked(spawn(move || queue.get_timeout(d)))
        };
        let (first, second) = (dying(ms(1)), dying(ms(2)));
        let lives = getter(&queue);
        joinall([&first, &second]);
        fill(&queue, [1, 2]);
        assert_eq!(first.get().unwrap(), Err(GetError::Elapsed));
        assert_eq!(second.get().unwrap(), Err(GetError::Elapsed));
        assert_eq!(lives.get().unwrap(), Ok(1));
        assert_eq!(drain(&queue), [2]);
    });
}

/// Case 44: a put or a get that time interrupts leaves every kind of queue as it was, whether the
/// time is its own or that of somebody outside.
#[test]
fn case_44_interrupted_by_time() {
    fn check<O: Order<u32>>(queue: &Queue<u32, O>) {
        let before = queue.len();
        assert_eq!(queue.put_timeout(9, ms(1)), Err(PutError::Elapsed(9)));
        assert_eq!(queue.try_put(9), Err(PutError::Full(9)));
        assert_eq!(with_timeout(ms(1), || queue.put(9)), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || queue.put_timeout(9, HOUR)), Err(Elapsed));
        assert_eq!(queue.len(), before);
        assert!(drain(queue).iter().all(|item| *item != 9));

        assert_eq!(queue.get_timeout(ms(1)), Err(GetError::Elapsed));
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        assert_eq!(with_timeout(ms(1), || queue.get()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || queue.get_timeout(HOUR)), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || queue.peek()), Err(Elapsed));
        assert_eq!(with_timeout(ms(1), || queue.peek_timeout(HOUR)), Err(Elapsed));
        assert_eq!(queue.len(), 0);
    }
    within(MINUTE, || {
        check(&full([1, 2]));
        let lifo = LifoQueue::bounded(2);
        fill(&lifo, [1, 2]);
        check(&lifo);
        let priority = PriorityQueue::bounded(2);
        fill(&priority, [1, 2]);
        check(&priority);
        check(&channel());
        let joinable: JoinableQueue<u32> = JoinableQueue::bounded(2);
        fill(&joinable, [1, 2]);
        check(&joinable);
    });
}

/// T1: of two times the one that is over says so, in its own way.
#[test]
fn the_shorter_time_wins() {
    within(MINUTE, || {
        let queue = unbounded::<u32>();
        assert_eq!(with_timeout(HOUR, || queue.get_timeout(ms(1))), Ok(Err(GetError::Elapsed)));
        assert_eq!(with_timeout(ms(1), || queue.get_timeout(HOUR)), Err(Elapsed));
        let inner = with_timeout(ms(1), || with_timeout(HOUR, || queue.get()));
        assert_eq!(inner, Err(Elapsed));
        let outer = with_timeout(HOUR, || with_timeout(ms(1), || queue.get()));
        assert_eq!(outer, Ok(Err(Elapsed)));
    });
}

/// T4: an item that comes in the turn in which the time is over wins, whoever's time it is.
#[test]
fn an_item_in_time_beats_the_timeout() {
    within(MINUTE, || {
        let queue = unbounded();
        let put_late = || {
            let queue = queue.clone();
            just_too_late(move || queue.try_put(1).unwrap());
        };
        put_late();
        assert_eq!(queue.peek_timeout(SHORT), Ok(1));
        assert_eq!(queue.try_get(), Ok(1));
        put_late();
        assert_eq!(queue.get_timeout(SHORT), Ok(1));
        put_late();
        assert_eq!(with_timeout(SHORT, || queue.get()), Ok(Ok(1)));
    });
}

/// T4: so does a place.
#[test]
fn a_place_in_time_beats_the_timeout() {
    within(MINUTE, || {
        let queue = full([0]);
        let get_late = || {
            let queue = queue.clone();
            just_too_late(move || assert!(queue.try_get().is_ok()));
        };
        get_late();
        assert_eq!(queue.put_timeout(1, SHORT), Ok(()));
        get_late();
        assert_eq!(with_timeout(SHORT, || queue.put(2)), Ok(Ok(())));
        assert_eq!(drain(&queue), [2]);
    });
}

/// T4: so does a peer on the other side of a channel.
#[cfg(not(hard_switch))] // a call yields there before it waits, and is not met yet
#[test]
fn a_peer_in_time_beats_the_timeout() {
    within(MINUTE, || {
        let channel = channel();
        let (getting, putting) = (channel.clone(), channel.clone());
        just_too_late(move || assert_eq!(getting.try_get(), Ok(1)));
        assert_eq!(channel.put_timeout(1, SHORT), Ok(()));
        settle();
        just_too_late(move || putting.try_put(2).unwrap());
        assert_eq!(channel.get_timeout(SHORT), Ok(2));
    });
}

/// Q3, K9: whichever of the two comes first, the item is had by the getter or by the queue.
#[test]
fn an_item_at_the_last_moment_is_had_once() {
    within(MINUTE, || {
        for n in 0..50 {
            let queue = unbounded();
            let taker = {
                let queue = queue.clone();
                spawn(move || queue.get_timeout(ms(1)))
            };
            let giver = {
                let queue = queue.clone();
                spawn(move || {
                    sleep(ms(1));
                    queue.try_put(n).unwrap();
                })
            };
            giver.join();
            match taker.get().unwrap() {
                Ok(item) => assert_eq!((item, drain(&queue)), (n, vec![])),
                Err(error) => assert_eq!((error, drain(&queue)), (GetError::Elapsed, vec![n])),
            }
        }
    });
}

/// Q3, K9: one who was timed out and has not had his turn since is passed over.
#[test]
fn timed_out_and_then_woken_in_one_turn() {
    within(MINUTE, || {
        let queue = unbounded();
        let log = Log::new();
        let impatient = {
            let queue = queue.clone();
            parked(spawn(move || queue.get_timeout(ms(1))))
        };
        let patient = getter(&queue);
        // When the loop looks at its timers again, both this sleep and the wait above are over.
        spawn(|| spin(ms(5)));
        sleep(ms(1));
        log.say("awake");
        fill(&queue, [1]);
        match impatient.get().unwrap() {
            Ok(item) => {
                assert_eq!(item, 1);
                fill(&queue, [2]);
                assert_eq!(patient.get().unwrap(), Ok(2));
            }
            Err(error) => {
                assert_eq!(error, GetError::Elapsed);
                assert_eq!(patient.get().unwrap(), Ok(1));
            }
        }
        assert!(queue.is_empty());
    });
}

// ------------------------------------------------------------- what waits look like

/// K2, T2: a wait that is killed or timed out from outside leaves nothing that may wake anybody.
/// (`kill.rs` and `timeout.rs` ask the rest of every kind of wait.)
#[test]
fn an_interrupted_wait_leaves_no_timer() {
    const WAITS: [fn(); 7] = [
        waits::queue_get_timeout,
        waits::queue_peek_timeout,
        waits::queue_put_timeout,
        waits::channel_get_timeout,
        waits::channel_put_timeout,
        waits::joinable_queue_join_timeout,
        waits::wait_any_of_many_kinds,
    ];
    within(MINUTE, || {
        for wait in WAITS {
            parked(spawn(wait)).kill();
            assert_eq!(with_timeout(ms(1), wait), Err(Elapsed));
        }
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

/// A kill that is held back does not end a wait, and an item that comes then does.
#[test]
fn a_shielded_getter_gets() {
    within(MINUTE, || {
        let (queue, log) = (unbounded(), Log::new());
        let shielded = {
            let queue = queue.clone();
            survivor(&log, move || shield(|| queue.get()))
        };
        shielded.kill_nowait();
        settle();
        assert!(!shielded.is_finished());
        fill(&queue, [1]);
        settle();
        log.assert_is(["Ok(1)"]);
        assert_eq!(end_of(shielded), End::Killed);
    });
}

/// The reasons that a dump and a report of a deadlock show: what is waited for, and where it was
/// made.
#[test]
fn a_dump_names_the_operation_and_the_queue() {
    within(MINUTE, || {
        let (empty, full) = (unbounded::<u32>(), full([1]));
        let jobs: JoinableQueue<u32> = JoinableQueue::new();
        fill(&jobs, [1]);
        let joiner = parked(spawn(move || jobs.join()));
        let expected = [
            (getter(&empty).id(), "get of the Queue made at tests/queue.rs:"),
            (peeker(&empty).id(), "peek of the Queue made at tests/queue.rs:"),
            (putter(&full, 2).id(), "put of the Queue made at tests/queue.rs:"),
            (joiner.id(), "join of the JoinableQueue made at tests/queue.rs:"),
        ];
        for (id, reason) in expected {
            let shown = reason_of(id).unwrap();
            assert!(shown.starts_with(reason), "{shown:?} should begin with {reason:?}");
        }
    });
}

/// H13: the report lists everybody who waits, by what they wait for.
#[test]
fn a_deadlock_report_names_the_queue() {
    within(MINUTE, || {
        let queue = unbounded::<u32>();
        let _other = getter(&queue);
        let report = blocks_forever(|| queue.get());
        assert_eq!(
            report.matches("get of the Queue made at tests/queue.rs:").count(),
            2,
            "{report}"
        );
    });
}

// -------------------------------------------------------------------------- kills

/// K9, case 21: a getter that is killed before an item comes has nothing to do with it.
#[test]
fn a_killed_getter_takes_nothing() {
    within(MINUTE, || {
        let queue = unbounded();
        let (first, second) = (getter(&queue), getter(&queue));
        first.kill();
        fill(&queue, [1]);
        assert_eq!(second.get().unwrap(), Ok(1));
        assert_eq!(end_of(first), End::Killed);
        assert!(queue.is_empty());
    });
}

/// K9, case 21: a kill and then an item, in one turn: the next in line has it.
#[test]
fn killed_and_then_handed_an_item() {
    within(MINUTE, || {
        let (queue, log) = (unbounded(), Log::new());
        let first = {
            let queue = queue.clone();
            survivor(&log, move || queue.get())
        };
        let second = getter(&queue);
        first.kill_nowait();
        fill(&queue, [1]);
        assert_eq!(queue.try_get(), Err(GetError::Empty), "it is the second's");
        assert_eq!(second.get().unwrap(), Ok(1));
        assert_eq!(end_of(first), End::Killed);
        log.assert_empty();
    });
}

/// K9: as above, with nobody behind him: it is there for whoever comes.
#[test]
fn killed_and_then_an_item_for_nobody() {
    within(MINUTE, || {
        let queue = unbounded();
        let only = getter(&queue);
        only.kill_nowait();
        fill(&queue, [1, 2]);
        assert_eq!(queue.try_get(), Ok(1), "at once");
        settle();
        assert_eq!(drain(&queue), [2]);
        assert_eq!(end_of(only), End::Killed);
    });
}

/// K9, K6, case 21: an item and then a kill, in one turn: he has received it, and the kill is raised
/// at his next wait.
#[test]
fn handed_an_item_and_then_killed() {
    within(MINUTE, || {
        let (queue, log) = (unbounded(), Log::new());
        let first = {
            let queue = queue.clone();
            survivor(&log, move || queue.get())
        };
        let second = getter(&queue);
        fill(&queue, [1]);
        first.kill_nowait();
        settle();
        log.assert_is(["Ok(1)"]);
        assert_eq!(end_of(first), End::Killed);
        assert!(!second.is_finished());
        fill(&queue, [2]);
        assert_eq!(second.get().unwrap(), Ok(2));
    });
}

/// Queue: whoever of the getters is killed in whichever turn, what is left keeps its order.
#[test]
fn what_a_killed_getter_leaves_keeps_its_place() {
    fn check<O: Order<u32> + 'static>(queue: &Queue<u32, O>, order: [u32; 3]) {
        let doomed = [getter(queue), getter(queue)];
        killall(&doomed);
        let doomed = getter(queue);
        doomed.kill_nowait();
        fill(queue, [2, 1, 3]);
        settle();
        assert_eq!(drain(queue), order);
    }
    within(MINUTE, || {
        check(&Queue::<u32, Fifo>::new(), [2, 1, 3]);
        check(&Queue::<u32, Lifo>::new(), [3, 1, 2]);
        check(&Queue::<u32, Priority>::new(), [1, 2, 3]);
    });
}

/// K9: the item of a putter that is killed does not come in; it is dropped with him.
#[test]
fn a_killed_putter_puts_nothing() {
    within(MINUTE, || {
        let living = Living::new();
        let queue = full([living.token()]);
        let (first, second) = (putter(&queue, living.token()), putter(&queue, living.token()));
        assert_eq!(living.count(), 3);
        first.kill();
        assert_eq!(living.count(), 2);
        drop(queue.try_get());
        assert!(second.get().unwrap().is_ok());
        assert_eq!(drain(&queue).len(), 1);
        assert_eq!(living.count(), 0);
    });
}

/// K9: a kill and then a place, in one turn: the next in line has it.
#[test]
fn killed_and_then_handed_a_place() {
    within(MINUTE, || {
        let (queue, log) = (full(["a"]), Log::new());
        let first = {
            let queue = queue.clone();
            survivor(&log, move || queue.put("b"))
        };
        let second = putter(&queue, "c");
        first.kill_nowait();
        assert_eq!(queue.try_get(), Ok("a"));
        assert_eq!(queue.try_get(), Ok("c"));
        assert_eq!(second.get().unwrap(), Ok(()));
        assert_eq!(end_of(first), End::Killed);
        log.assert_empty();
    });
}

/// K9, K6: a place and then a kill, in one turn: his item is in, and the kill is raised at his next
/// wait.
#[test]
fn handed_a_place_and_then_killed() {
    within(MINUTE, || {
        let (queue, log) = (full(["a"]), Log::new());
        let first = {
            let queue = queue.clone();
            survivor(&log, move || queue.put("b"))
        };
        let second = putter(&queue, "c");
        assert_eq!(queue.try_get(), Ok("a"));
        first.kill_nowait();
        settle();
        log.assert_is(["Ok(())"]);
        assert_eq!(end_of(first), End::Killed);
        assert!(!second.is_finished());
        assert_eq!([queue.try_get(), queue.try_get()], [Ok("b"), Ok("c")]);
    });
}

/// K9, Q6: a peeker takes nothing whichever way he ends.
#[test]
fn a_peeker_that_is_killed_or_woken_takes_nothing() {
    within(MINUTE, || {
        let (queue, log) = (unbounded(), Log::new());
        let peeking = || {
            let queue = queue.clone();
            survivor(&log, move || queue.peek())
        };
        let (killed_first, woken_first) = (peeking(), peeking());
        killed_first.kill_nowait();
        fill(&queue, [1]);
        woken_first.kill_nowait();
        settle();
        log.assert_is(["Ok(1)"]);
        assert_eq!(end_of(killed_first), End::Killed);
        assert_eq!(end_of(woken_first), End::Killed);
        assert_eq!(drain(&queue), [1]);
    });
}

/// K9: the getter behind a killed peeker is not held up by him.
#[test]
fn a_killed_peeker_holds_nobody_up() {
    within(MINUTE, || {
        let queue = unbounded();
        let (ahead, taker) = (peeker(&queue), getter(&queue));
        ahead.kill_nowait();
        fill(&queue, [1]);
        assert_eq!(taker.get().unwrap(), Ok(1));
        assert!(queue.is_empty());
    });
}

/// K9: the whole line is killed, the queue goes on.
#[test]
fn a_line_that_is_killed_leaves_no_trace() {
    within(MINUTE, || {
        let living = Living::new();
        let queue = full([living.token()]);
        let putters: Vec<_> = (0..100).map(|_| putter(&queue, living.token())).collect();
        killall(&putters);
        assert_eq!(living.count(), 1);
        drop(drain(&queue));
        let getters: Vec<_> = (0..100).map(|_| getter(&queue)).collect();
        killall(&getters);
        fill(&queue, [living.token()]);
        assert_eq!(living.count(), 1);
        drop((putters, getters));
        drop(queue);
        assert_eq!(living.count(), 0, "nobody has kept the queue");
    });
}

/// K9 over chance: getters and putters come, give up and are killed in every order, and what was
/// put is in the end what was got, what came back, and what is left.
#[test]
fn nothing_is_lost_and_nothing_is_doubled() {
    within(MINUTE, || {
        let seed = 0x5EED_u64;
        for round in 0..200 {
            one_round_of_chance(seed + round);
        }
    });
}

fn one_round_of_chance(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (queue, living) = (bounded(dice.below(3)), Living::new());
    let (put, got) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut greenlets = Vec::new();
    for _ in 0..30 {
        let queue = queue.clone();
        let impatient = dice.below(2) == 0;
        greenlets.push(if dice.below(2) == 0 {
            let got = got.clone();
            spawn(move || {
                let item = if impatient { queue.get_timeout(ms(1)) } else { queue.get() };
                got.set(got.get() + usize::from(item.is_ok()));
            })
        } else {
            let (put, token) = (put.clone(), living.token());
            spawn(move || {
                let end =
                    if impatient { queue.put_timeout(token, ms(1)) } else { queue.put(token) };
                put.set(put.get() + usize::from(end.is_ok()));
            })
        });
        match dice.below(4) {
            0 => greenlets[dice.below(greenlets.len())].kill_nowait(),
            1 => yield_now(),
            2 => spin(ms(1) / 8),
            _ => {}
        }
    }
    joinall_timeout(&greenlets, ms(2));
    killall(&greenlets);
    let left = queue.len();
    assert_eq!(put.get(), got.get() + left, "seed {seed}");
    assert_eq!(living.count(), left, "seed {seed}");
    assert_eq!(drain(&queue).len(), left, "seed {seed}");
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

// ----------------------------------------------------------------------- shutdown

/// Case 47, Q8: `put` fails from now on, `get` drains and then fails.
#[test]
fn case_47_shutdown_drains() {
    within(MINUTE, || {
        let queue = full([1, 2, 3]);
        queue.shutdown();
        queue.shutdown();
        assert_eq!(queue.put(4), Err(PutError::ShutDown(4)));
        assert_eq!(queue.put_timeout(4, HOUR), Err(PutError::ShutDown(4)));
        assert_eq!(queue.try_put(4), Err(PutError::ShutDown(4)));
        assert_eq!(queue.len(), 3);
        assert_eq!([queue.peek(), queue.get()], [Ok(1), Ok(1)]);
        assert_eq!([queue.try_peek(), queue.try_get()], [Ok(2), Ok(2)]);
        assert_eq!([queue.peek_timeout(HOUR), queue.get_timeout(HOUR)], [Ok(3), Ok(3)]);
        let drained = Err(GetError::ShutDown);
        assert_eq!([queue.get(), queue.try_get(), queue.get_timeout(HOUR)], [drained; 3]);
        assert_eq!([queue.peek(), queue.try_peek(), queue.peek_timeout(HOUR)], [drained; 3]);
    });
}

/// Case 47, Q8: everybody who waits is told.
#[test]
fn case_47_shutdown_wakes_those_who_wait() {
    within(MINUTE, || {
        for shutdown in [Queue::shutdown, Queue::shutdown_now] {
            let empty = unbounded::<u32>();
            let waiting = [getter(&empty), peeker(&empty), getter(&empty)];
            shutdown(&empty);
            for waiting in waiting {
                assert_eq!(waiting.get().unwrap(), Err(GetError::ShutDown));
            }
            let full = full([1]);
            let waiting = [putter(&full, 2), putter(&full, 3)];
            shutdown(&full);
            for (n, waiting) in (2..).zip(waiting) {
                assert_eq!(waiting.get().unwrap(), Err(PutError::ShutDown(n)));
            }
        }
    });
}

/// Q8: those who waited with a time of their own are told the same.
#[test]
fn shutdown_wakes_those_who_wait_with_a_limit() {
    within(MINUTE, || {
        let queue = unbounded::<u32>();
        let get = {
            let queue = queue.clone();
            parked(spawn(move || queue.get_timeout(HOUR)))
        };
        let next = {
            let queue = queue.clone();
            parked(spawn(move || queue.iter().next()))
        };
        queue.shutdown();
        assert_eq!(get.get().unwrap(), Err(GetError::ShutDown));
        assert_eq!(next.get().unwrap(), None);
    });
}

/// Q8: a place that comes free after the shutdown is not for those who had waited for one.
#[test]
fn what_waits_at_shutdown_does_not_come_in() {
    within(MINUTE, || {
        let queue = full([1]);
        let waiting = putter(&queue, 2);
        queue.shutdown();
        assert_eq!(queue.try_get(), Ok(1));
        assert_eq!(queue.try_get(), Err(GetError::ShutDown));
        assert_eq!(waiting.get().unwrap(), Err(PutError::ShutDown(2)));
    });
}

/// Q8, case 47: `shutdown_now` also drops what is in it.
#[test]
fn case_47_shutdown_now_empties() {
    within(MINUTE, || {
        let living = Living::new();
        let queue = full([living.token(), living.token()]);
        queue.shutdown_now();
        assert_eq!((living.count(), queue.len()), (0, 0));
        assert!(matches!(queue.get(), Err(GetError::ShutDown)));
        queue.shutdown_now();
    });
}

/// Q8: first the one and then the other.
#[test]
fn shutdown_now_after_shutdown_empties() {
    within(MINUTE, || {
        let queue = full([1, 2]);
        queue.shutdown();
        queue.shutdown_now();
        assert_eq!(queue.get(), Err(GetError::ShutDown));
    });
}

/// K9: what was handed over before the shutdown, in the same turn, has been received.
#[test]
fn what_was_handed_over_before_the_shutdown_arrives() {
    within(MINUTE, || {
        for shutdown in [Queue::shutdown, Queue::shutdown_now] {
            let queue = unbounded();
            let (served, not_served) = (getter(&queue), getter(&queue));
            fill(&queue, [1]);
            shutdown(&queue);
            assert_eq!(served.get().unwrap(), Ok(1));
            assert_eq!(not_served.get().unwrap(), Err(GetError::ShutDown));

            let queue = full([1]);
            let (served, not_served) = (putter(&queue, 2), putter(&queue, 3));
            assert_eq!(queue.try_get(), Ok(1));
            shutdown(&queue);
            assert_eq!(served.get().unwrap(), Ok(()));
            assert_eq!(not_served.get().unwrap(), Err(PutError::ShutDown(3)));
        }
    });
}

/// Q6, Q8: a peeker who has been told to look, and a getter behind him, when it is shut down in the
/// same turn.
#[test]
fn shutdown_while_somebody_is_about_to_look() {
    within(MINUTE, || {
        let queue = unbounded();
        let (looking, taking, last) = (peeker(&queue), getter(&queue), getter(&queue));
        fill(&queue, [1]);
        queue.shutdown();
        assert_eq!(looking.get().unwrap(), Ok(1));
        assert_eq!(taking.get().unwrap(), Ok(1));
        assert_eq!(last.get().unwrap(), Err(GetError::ShutDown));

        let queue = unbounded();
        let (looking, taking) = (peeker(&queue), getter(&queue));
        fill(&queue, [1]);
        queue.shutdown_now();
        assert_eq!(looking.get().unwrap(), Err(GetError::ShutDown), "there is nothing to see");
        assert_eq!(taking.get().unwrap(), Err(GetError::ShutDown));
    });
}

/// K6, K9: shutdown and kill in one turn: the first of the two is what he is told.
#[test]
fn shutdown_and_kill_in_one_turn() {
    within(MINUTE, || {
        let (queue, log) = (unbounded::<u32>(), Log::new());
        let getting = || {
            let queue = queue.clone();
            survivor(&log, move || queue.get())
        };
        let (told, killed) = (getting(), getting());
        killed.kill_nowait();
        queue.shutdown();
        told.kill_nowait();
        settle();
        log.assert_is(["Err(ShutDown)"]);
        assert_eq!(end_of(told), End::Killed);
        assert_eq!(end_of(killed), End::Killed);
    });
}

// ---------------------------------------------------------------------- iteration

#[test]
fn iteration_takes_and_ends_at_shutdown() {
    within(MINUTE, || {
        let queue = bounded(2);
        let producer = {
            let queue = queue.clone();
            spawn(move || {
                for n in 0..10 {
                    queue.put(n).unwrap();
                }
                queue.shutdown();
            })
        };
        let mut got = Vec::new();
        for n in &queue {
            got.push(n);
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
        assert!(producer.is_finished() || producer.join_timeout(HOUR));
        assert_eq!(queue.iter().next(), None);
    });
}

#[test]
fn iteration_may_stop_and_go_on() {
    within(MINUTE, || {
        let queue = full(0..6);
        assert_eq!(queue.iter().take(2).collect::<Vec<_>>(), [0, 1]);
        let mut iter = queue.iter();
        assert_eq!(iter.next(), Some(2));
        assert_eq!(queue.get(), Ok(3), "between two steps anybody may take");
        assert_eq!(iter.next(), Some(4));
        queue.shutdown();
        assert_eq!(iter.by_ref().collect::<Vec<_>>(), [5]);
        assert_eq!(iter.next(), None);
    });
}

#[test]
fn iterations_share_the_items() {
    within(MINUTE, || {
        let queue = full(0..100);
        queue.shutdown();
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                spawn(move || queue.iter().inspect(|_| yield_now()).collect::<Vec<_>>())
            })
            .collect();
        let mut all: Vec<_> = takers.into_iter().flat_map(|taker| taker.get().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    });
}

/// `shutdown_now` ends it even where something was left.
#[test]
fn iteration_ends_at_once_at_shutdown_now() {
    within(MINUTE, || {
        let queue = full(0..100);
        let mut got = Vec::new();
        for n in &queue {
            got.push(n);
            if n == 2 {
                queue.shutdown_now();
            }
        }
        assert_eq!(got, [0, 1, 2]);
    });
}

// ------------------------------------------------------------------ JoinableQueue

/// Case 46, Q9.
#[test]
fn case_46_join_and_task_done() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        queue.join();
        assert_eq!(queue.task_done(), Err(TooManyDone));
        fill(&queue, [1, 2, 3]);
        assert_eq!(queue.unfinished(), 3);
        let joiner = {
            let queue = queue.clone();
            parked(spawn(move || queue.join()))
        };
        for _ in 0..2 {
            queue.get().unwrap();
            queue.task_done().unwrap();
        }
        assert!(!queue.join_timeout(ms(1)));
        assert!(!joiner.is_finished());
        queue.get().unwrap();
        assert_eq!((queue.len(), queue.unfinished()), (0, 1), "taken is not done");
        queue.task_done().unwrap();
        joiner.join();
        assert!(queue.join_timeout(HOUR));
        assert_eq!(queue.task_done(), Err(TooManyDone));
        assert_eq!(queue.unfinished(), 0);
    });
}

/// Work that makes more work is waited for.
#[test]
fn join_waits_for_what_is_put_meanwhile() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        fill(&queue, [3]);
        let done = Rc::new(Cell::new(0));
        let worker = {
            let (queue, done) = (queue.clone(), done.clone());
            spawn(move || {
                for n in queue.iter() {
                    yield_now();
                    if n > 0 {
                        queue.put(n - 1).unwrap();
                        queue.put(n - 1).unwrap();
                    }
                    done.set(done.get() + 1);
                    queue.task_done().unwrap();
                }
            })
        };
        queue.join();
        assert_eq!(done.get(), 1 + 2 + 4 + 8);
        queue.shutdown();
        worker.join();
    });
}

#[test]
fn all_joiners_are_woken() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        fill(&queue, [1]);
        let joiners: Vec<_> = (0..10)
            .map(|_| {
                let queue = queue.clone();
                parked(spawn(move || queue.join()))
            })
            .collect();
        queue.task_done().unwrap();
        assert!(joinall_timeout(&joiners, HOUR));
    });
}

/// Whichever handle puts it, and whether it meets a getter or a place: what is in counts.
#[test]
fn every_item_that_comes_in_is_counted() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::bounded(1);
        let plain: Queue<u32> = Queue::clone(&queue);
        let taker = getter(&plain);
        plain.put(1).unwrap();
        assert_eq!(queue.unfinished(), 1, "handed to a getter");
        plain.try_put(2).unwrap();
        assert_eq!(queue.unfinished(), 2);
        let waiting = putter(&plain, 3);
        assert_eq!(queue.try_get(), Ok(2));
        assert_eq!(queue.unfinished(), 3, "came in from the line");
        assert_eq!(taker.get().unwrap(), Ok(1));
        waiting.join();
        assert_eq!(queue.peek(), Ok(3));
        assert_eq!(queue.unfinished(), 3, "looking is not putting");
    });
}

/// What does not come in does not count.
#[test]
fn what_was_refused_is_not_counted() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::bounded(1);
        fill(&queue, [1]);
        assert!(queue.try_put(2).is_err());
        assert!(queue.put_timeout(2, ms(1)).is_err());
        assert!(with_timeout(ms(1), || queue.put(2)).is_err());
        putter(&queue, 2).kill();
        let waiting = putter(&queue, 2);
        queue.shutdown();
        assert!(queue.put(2).is_err());
        assert!(waiting.get().unwrap().is_err());
        assert_eq!(queue.get(), Ok(1));
        queue.task_done().unwrap();
        queue.join();
        assert_eq!(queue.task_done(), Err(TooManyDone));
    });
}

/// Q8, Queue: `shutdown_now` counts what it drops as done; what was taken is still awaited.
#[test]
fn shutdown_now_counts_what_it_drops_as_done() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::bounded(3);
        fill(&queue, [1, 2, 3]);
        let waiting = putter(&queue, 4);
        assert_eq!(queue.try_get(), Ok(1));
        settle();
        assert_eq!(waiting.get().unwrap(), Ok(()));
        assert_eq!(queue.unfinished(), 4);
        let joiner = {
            let queue = queue.clone();
            parked(spawn(move || queue.join()))
        };
        queue.shutdown_now();
        assert_eq!(queue.unfinished(), 1);
        settle();
        assert!(!joiner.is_finished(), "one was taken and is not done");
        queue.task_done().unwrap();
        joiner.join();
        assert_eq!(queue.task_done(), Err(TooManyDone));
    });
}

/// Items may be said to be done before they are taken; what is dropped then is not done twice.
#[test]
fn done_before_it_is_taken() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        fill(&queue, [1, 2]);
        queue.task_done().unwrap();
        assert_eq!((queue.len(), queue.unfinished()), (2, 1));
        queue.shutdown_now();
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        queue.join();
        assert_eq!(queue.task_done(), Err(TooManyDone));
    });
}

/// Q8, case 47: `shutdown_now` completes a join where everything was still in the queue.
#[test]
fn case_47_shutdown_now_completes_join() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::bounded(2);
        fill(&queue, [1, 2]);
        let waiting = putter(&queue, 3);
        let joiner = {
            let queue = queue.clone();
            parked(spawn(move || queue.join()))
        };
        queue.shutdown_now();
        joiner.join();
        assert!(waiting.get().unwrap().is_err());
        assert_eq!(queue.unfinished(), 0);
    });
}

/// Q8: a plain `shutdown` completes nothing.
#[test]
fn shutdown_leaves_join_waiting() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        fill(&queue, [1]);
        queue.shutdown();
        assert!(!queue.join_timeout(ms(1)));
        queue.get().unwrap();
        queue.task_done().unwrap();
        queue.join();
    });
}

/// K9: the last `task_done` and a kill in one turn, in both orders.
#[test]
fn done_and_killed_in_one_turn() {
    within(MINUTE, || {
        let (queue, log) = (JoinableQueue::<u32>::new(), Log::new());
        fill(&queue, [1]);
        let joining = || {
            let queue = queue.clone();
            survivor(&log, move || queue.join_timeout(HOUR))
        };
        let (woken_first, killed_first) = (joining(), joining());
        killed_first.kill_nowait();
        queue.task_done().unwrap();
        woken_first.kill_nowait();
        settle();
        log.assert_is(["true"]);
        assert_eq!(end_of(woken_first), End::Killed);
        assert_eq!(end_of(killed_first), End::Killed);
    });
}

/// T4: done in time is done, whoever's time it is.
#[test]
fn done_in_time_beats_the_timeout() {
    const JOINS: [fn(&JoinableQueue<u32>) -> bool; 2] =
        [|queue| queue.join_timeout(SHORT), |queue| with_timeout(SHORT, || queue.join()).is_ok()];
    within(MINUTE, || {
        let queue = JoinableQueue::new();
        for join in JOINS {
            fill(&queue, [1]);
            let finishing = queue.clone();
            just_too_late(move || finishing.task_done().unwrap());
            assert!(join(&queue));
        }
    });
}

#[test]
fn a_joinable_queue_has_an_order_and_a_bound() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32, Priority> = JoinableQueue::bounded(3);
        fill(&queue, [3, 1, 2]);
        assert!(queue.is_full());
        assert_eq!(drain(&queue), [1, 2, 3]);
        assert_eq!(queue.unfinished(), 3);
    });
}

/// Q0: with no capacity, an item counts from when it is taken until it is done.
#[test]
fn a_joinable_channel_counts() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::bounded(0);
        let waiting = putter(&queue, 1);
        assert_eq!(queue.get(), Ok(1));
        assert_eq!(queue.unfinished(), 1);
        queue.task_done().unwrap();
        queue.join();
        waiting.join();
    });
}

// ------------------------------------------------------------------------ Channel

/// Q0, Channel: `bounded(0)` is one, whatever the order; its length is 0, it is empty and full,
/// always; and both sides meet, whoever comes first.
#[test]
fn no_capacity_is_a_rendezvous() {
    fn check<O: Order<u32> + 'static>(channel: &Queue<u32, O>) {
        let looks_like_a_channel = || {
            assert_eq!((channel.capacity(), channel.len()), (Some(0), 0));
            assert!(channel.is_empty() && channel.is_full());
        };
        looks_like_a_channel();
        assert_eq!(channel.try_put(1), Err(PutError::Full(1)));
        assert_eq!(channel.try_get(), Err(GetError::Empty));

        let givers = [putter(channel, 2), putter(channel, 1)];
        looks_like_a_channel();
        assert_eq!([channel.get(), channel.get()], [Ok(2), Ok(1)], "by arrival");
        joinall(&givers);

        let takers = [getter(channel), getter(channel)];
        looks_like_a_channel();
        channel.put(4).unwrap();
        channel.put(3).unwrap();
        assert_eq!(takers.map(|taker| taker.get().unwrap()), [Ok(4), Ok(3)], "by arrival");
    }
    within(MINUTE, || {
        check(&channel());
        check(&Queue::<u32, Fifo>::bounded(0));
        check(&Queue::<u32, Lifo>::bounded(0));
        check(&Queue::<u32, Priority>::bounded(0));
    });
}

/// Q7, case 45: the receiver runs before the sender goes on.
#[test]
fn case_45_channel_order() {
    within(MINUTE, || {
        let (channel, log) = (channel(), Log::new());
        let receiver = {
            let (channel, log) = (channel.clone(), log.clone());
            spawn(move || {
                for _ in 0..2 {
                    log.say(channel.get().unwrap());
                }
            })
        };
        log.say("sending");
        for word in ["hello", "world"] {
            channel.put(word).unwrap();
            log.say(format!("sent {word}"));
        }
        receiver.join();
        log.assert_is(["sending", "hello", "sent hello", "world", "sent world"]);
    });
}

/// Q7, Channel: a `put` that meets a waiting taker lets him run before it returns.
#[test]
fn a_taker_that_waits_runs_first() {
    within(MINUTE, || {
        let (channel, log) = (channel(), Log::new());
        for n in 0..10 {
            let (taking, said) = (channel.clone(), log.clone());
            let taker = parked(spawn(move || {
                taking.get().unwrap();
                said.say(format!("taken {n}"));
            }));
            channel.put(n).unwrap();
            log.say(format!("sent {n}"));
            taker.join();
        }
        log.assert_is((0..10).flat_map(|n| [format!("taken {n}"), format!("sent {n}")]));
    });
}

/// Q0: `put` returns when a taker has the item, and not before.
#[test]
fn a_sender_waits_for_a_taker() {
    within(MINUTE, || {
        let channel = channel();
        let sender = putter(&channel, 1);
        settle();
        assert!(!sender.is_finished());
        assert_eq!(channel.get(), Ok(1));
        assert_eq!(sender.get().unwrap(), Ok(()));
    });
}

/// Q5, case 42: the forms that do not wait meet those who do.
#[test]
fn case_42_try_forms_meet_those_who_wait() {
    within(MINUTE, || {
        let channel = channel();
        let sender = putter(&channel, 1);
        assert_eq!(channel.try_get(), Ok(1));
        assert_eq!(channel.try_get(), Err(GetError::Empty));
        assert_eq!(sender.get().unwrap(), Ok(()));
        let taker = getter(&channel);
        assert_eq!(channel.try_put(2), Ok(()));
        assert_eq!(channel.try_put(3), Err(PutError::Full(3)));
        assert_eq!(taker.get().unwrap(), Ok(2));

        let queue = full([1]);
        let sender = putter(&queue, 2);
        assert_eq!([queue.try_get(), queue.try_get()], [Ok(1), Ok(2)]);
        assert_eq!(sender.get().unwrap(), Ok(()));
    });
}

/// Q7: the item of a sender who was killed or gave up is withdrawn.
#[test]
fn a_sender_that_leaves_takes_his_item_along() {
    within(MINUTE, || {
        let channel = channel();
        assert_eq!(channel.put_timeout(1, ms(1)), Err(PutError::Elapsed(1)));
        assert_eq!(with_timeout(ms(1), || channel.put(2)), Err(Elapsed));
        putter(&channel, 3).kill();
        assert_eq!(channel.try_get(), Err(GetError::Empty));
        let (killed, next) = (putter(&channel, 4), putter(&channel, 5));
        killed.kill_nowait();
        assert_eq!(channel.try_get(), Ok(5));
        next.join();
        assert_eq!(end_of(killed), End::Killed);
    });
}

/// K9, for both sides of a channel: met and then killed, in one turn, is met.
#[test]
fn met_and_then_killed() {
    within(MINUTE, || {
        let (channel, log) = (channel(), Log::new());
        let sender = {
            let channel = channel.clone();
            survivor(&log, move || channel.put(1))
        };
        assert_eq!(channel.try_get(), Ok(1));
        sender.kill_nowait();
        settle();
        log.assert_is(["Ok(())"]);
        assert_eq!(end_of(sender), End::Killed);

        let taker = {
            let channel = channel.clone();
            survivor(&log, move || channel.get())
        };
        channel.try_put(2).unwrap();
        taker.kill_nowait();
        settle();
        log.assert_is(["Ok(())", "Ok(2)"]);
        assert_eq!(end_of(taker), End::Killed);
    });
}

/// K9, for both sides of a channel: killed and then met, in one turn, is passed over.
#[test]
fn killed_and_then_met() {
    within(MINUTE, || {
        let (channel, log) = (channel(), Log::new());
        let sender = {
            let channel = channel.clone();
            survivor(&log, move || channel.put(1))
        };
        sender.kill_nowait();
        assert_eq!(channel.try_get(), Err(GetError::Empty));
        let taker = {
            let channel = channel.clone();
            survivor(&log, move || channel.get())
        };
        taker.kill_nowait();
        assert_eq!(channel.try_put(2), Err(PutError::Full(2)));
        settle();
        log.assert_empty();
        assert_eq!(end_of(sender), End::Killed);
        assert_eq!(end_of(taker), End::Killed);
    });
}

/// K6: a sender that lets his taker run, and is killed by him, has sent.
#[test]
fn a_taker_may_kill_the_sender() {
    within(MINUTE, || {
        let (channel, log) =
            (Channel::<Rc<RefCell<Option<Greenlet<()>>>>>::clone(&channel()), Log::new());
        let slot = Rc::new(RefCell::new(None));
        let taking = channel.clone();
        let taker = parked(spawn(move || {
            let sender = taking.get().unwrap();
            sender.borrow().as_ref().expect("it was filled").kill_nowait();
        }));
        let (sending, sent, said) = (channel, slot.clone(), log.clone());
        *slot.borrow_mut() = Some(spawn(move || {
            let _ = sending.put(sent).is_ok();
            said.say("sent");
            sleep(HOUR);
            said.say("survived its next wait");
        }));
        taker.join();
        settle();
        log.assert_is(["sent"]);
        assert!(slot.borrow().as_ref().unwrap().is_finished());
    });
}

/// Case 45, Q8: iteration over a channel ends at shutdown, and a sender who waits is told.
#[test]
fn a_channel_iterates_and_shuts_down() {
    within(MINUTE, || {
        let channel = channel();
        let sender = {
            let channel = channel.clone();
            spawn(move || {
                for n in 0..10 {
                    channel.put(n).unwrap();
                }
                channel.shutdown();
            })
        };
        assert_eq!(channel.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        sender.join();
        assert_eq!(channel.put(1), Err(PutError::ShutDown(1)));

        let channel = greenloom::queue::channel();
        let (sender, other) = (putter(&channel, 1), channel.clone());
        other.shutdown();
        assert_eq!(sender.get().unwrap(), Err(PutError::ShutDown(1)), "it was not in yet");
        assert_eq!(channel.get(), Err(GetError::ShutDown));
    });
}

/// Whatever a peek sees in a channel, it takes nothing.
#[test]
fn to_peek_into_a_channel_takes_nothing() {
    within(MINUTE, || {
        let channel = channel();
        let sender = putter(&channel, 1);
        let _ = channel.try_peek();
        settle();
        assert!(!sender.is_finished());
        assert_eq!(channel.try_get(), Ok(1));
        assert_eq!(sender.get().unwrap(), Ok(()));
    });
}

#[test]
fn many_meet_many() {
    within(MINUTE, || {
        let channel = channel();
        let senders: Vec<_> = (0..10)
            .map(|sender| {
                let channel = channel.clone();
                spawn(move || (0..20).for_each(|n| channel.put(sender * 20 + n).unwrap()))
            })
            .collect();
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let channel = channel.clone();
                spawn(move || channel.iter().collect::<Vec<_>>())
            })
            .collect();
        joinall(&senders);
        channel.shutdown();
        let mut all: Vec<_> = takers.into_iter().flat_map(|taker| taker.get().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
    });
}

// ------------------------------------------------------------------------- select

/// Waitable: a queue is ready while an item is there; to wait for it takes nothing.
#[test]
fn a_queue_is_ready_while_an_item_is_there() {
    within(MINUTE, || {
        let queue = unbounded();
        assert!(!queue.is_ready());
        assert_eq!(wait_any_timeout([&queue], ms(1)), None);
        fill(&queue, [1]);
        assert!(queue.is_ready());
        for _ in 0..3 {
            assert_eq!(wait_any([&queue]), 0);
        }
        joinall([&queue]);
        assert_eq!(drain(&queue), [1]);
        assert!(!queue.is_ready());
    });
}

/// Waitable: `wait_any` over queues, events and greenlets is a select; what it names is there.
#[test]
fn a_select_loop() {
    within(MINUTE, || {
        let (numbers, words, bell) = (unbounded(), channel(), Event::new());
        let log = Log::new();
        let source = {
            let (numbers, words, bell) = (numbers.clone(), words.clone(), bell.clone());
            spawn(move || {
                for n in 0..3 {
                    numbers.put(n).unwrap();
                    yield_now();
                    words.put("word").unwrap();
                }
                bell.set();
                sleep(ms(1));
            })
        };
        loop {
            match wait_any([&numbers as &dyn Waitable, &words, &bell, &source]) {
                0 => log.say(numbers.try_get().unwrap()),
                1 => log.say(words.try_get().unwrap()),
                2 => {
                    log.say("bell");
                    bell.clear();
                }
                _ => break,
            }
        }
        log.assert_has_all(["0", "1", "2", "word", "word", "word", "bell"]);
        assert!(source.is_finished());
    });
}

/// Waitable: who waits for any queue waits on if somebody else has taken the item meanwhile.
#[test]
fn who_waits_for_any_queue_may_come_too_late() {
    within(MINUTE, || {
        let queue = unbounded();
        let selecting = {
            let queue = queue.clone();
            parked(spawn(move || wait_any([&queue])))
        };
        fill(&queue, [1]);
        assert_eq!(queue.try_get(), Ok(1), "nobody has claimed it");
        settle();
        assert!(!selecting.is_finished());
        fill(&queue, [2]);
        assert_eq!(end_of(selecting), End::Value(0));
        assert_eq!(drain(&queue), [2]);
    });
}

/// Waitable: an item is a getter's before it is anybody's who only looks, wherever they stand.
#[test]
fn who_waits_for_any_queue_takes_nothing_from_a_getter() {
    within(MINUTE, || {
        let queue = unbounded();
        let selecting = {
            let queue = queue.clone();
            parked(spawn(move || wait_any([&queue])))
        };
        let taker = getter(&queue);
        fill(&queue, [1]);
        assert_eq!(taker.get().unwrap(), Ok(1));
        settle();
        assert!(!selecting.is_finished());
        fill(&queue, [2]);
        assert_eq!(end_of(selecting), End::Value(0));
    });
}

/// Waitable: after shutdown a `get` would not wait, so neither does a wait for it.
#[test]
fn a_queue_that_is_shut_down_is_ready() {
    within(MINUTE, || {
        let (queue, other) = (unbounded::<u32>(), unbounded());
        let selecting = {
            let (queue, other) = (queue.clone(), other.clone());
            parked(spawn(move || wait_any([&queue, &other])))
        };
        other.shutdown();
        assert_eq!(end_of(selecting), End::Value(1));
        assert!(other.is_ready() && !queue.is_ready());
    });
}

/// Waitable: a channel is ready while a sender waits.
#[test]
fn a_channel_is_ready_while_a_sender_waits() {
    within(MINUTE, || {
        let channel = channel();
        let selecting = {
            let channel = channel.clone();
            parked(spawn(move || {
                wait_any([&channel]);
                channel.try_get()
            }))
        };
        assert!(!channel.is_ready());
        assert_eq!(channel.try_put(0), Err(PutError::Full(0)), "who selects does not take");
        channel.put(1).unwrap();
        assert_eq!(selecting.get().unwrap(), Ok(1));
        let sender = putter(&channel, 2);
        assert!(channel.is_ready());
        sender.kill();
        assert!(!channel.is_ready());
    });
}

/// Waitable, J5: `iwait` names each queue once, in the order in which they got something.
#[test]
fn iwait_takes_queues() {
    within(MINUTE, || {
        let queues = [unbounded(), full([0]), unbounded()];
        let mut waits = iwait(&queues);
        assert_eq!(waits.next(), Some(1));
        fill(&queues[2], [2]);
        fill(&queues[0], [0]);
        assert_eq!(waits.collect::<Vec<_>>(), [2, 0]);
    });
}

/// K9, K10: a kill of one who waits for any queue takes nothing and leaves nothing.
#[test]
fn a_selecting_greenlet_that_is_killed_takes_nothing() {
    within(MINUTE, || {
        let (queue, log) = (unbounded(), Log::new());
        let selecting = || {
            let queue = queue.clone();
            survivor(&log, move || wait_any([&queue]))
        };
        let (killed_first, woken_first) = (selecting(), selecting());
        killed_first.kill_nowait();
        fill(&queue, [1]);
        woken_first.kill_nowait();
        settle();
        log.assert_is(["0"]);
        assert_eq!(end_of(killed_first), End::Killed);
        assert_eq!(end_of(woken_first), End::Killed);
        assert_eq!(drain(&queue), [1]);
    });
}

// ---------------------------------------------------------------------- unwinding

/// While a greenlet unwinds, what need not wait works, and what would have to wait is refused.
#[test]
fn while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let queue = full([1]);
        assert_eq!(ask(&queue, |queue| queue.put(2)), Err(PutError::Full(2)));
        assert!(ask(&queue, |queue| queue.put_timeout(2, HOUR)).is_err());
        assert_eq!(ask(&queue, |queue| queue.peek()), Ok(1));
        assert_eq!(ask(&queue, |queue| queue.get()), Ok(1));
        assert_eq!(ask(&queue, |queue| queue.get()), Err(GetError::Empty));
        assert_eq!(ask(&queue, |queue| queue.peek()), Err(GetError::Empty));
        assert!(ask(&queue, |queue| queue.get_timeout(HOUR)).is_err());
        assert!(ask(&queue, |queue| queue.peek_timeout(HOUR)).is_err());
        assert_eq!(ask(&queue, |queue| queue.iter().next()), None);
        assert_eq!(ask(&queue, |queue| queue.put(3)), Ok(()));
        assert_eq!(drain(&queue), [3]);
        let taker = getter(&queue);
        assert_eq!(ask(&queue, |queue| queue.put(4)), Ok(()));
        assert_eq!(taker.get().unwrap(), Ok(4));
    });
}

/// What `call` returns to a destructor that makes it while its greenlet unwinds.
fn ask<T: 'static>(queue: &Queue<u32>, call: impl FnOnce(&Queue<u32>) -> T + 'static) -> T {
    let queue = queue.clone();
    while_unwinding(move || call(&queue))
}

/// Also of channels, whose senders cannot let their takers run first then.
#[test]
fn a_channel_while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let channel: Channel<u32> = channel();
        assert_eq!(ask(&channel, |channel| channel.put(1)), Err(PutError::Full(1)));
        assert_eq!(ask(&channel, |channel| channel.get()), Err(GetError::Empty));
        let taker = getter(&channel);
        assert_eq!(ask(&channel, |channel| channel.put(2)), Ok(()));
        assert_eq!(taker.get().unwrap(), Ok(2));
        let sender = putter(&channel, 3);
        assert_eq!(ask(&channel, |channel| channel.get()), Ok(3));
        assert_eq!(sender.get().unwrap(), Ok(()));
    });
}

#[test]
fn join_while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        fill(&queue, [1]);
        let joined = {
            let queue = queue.clone();
            while_unwinding(move || {
                queue.join();
                queue.join_timeout(HOUR)
            })
        };
        assert!(!joined);
        assert_eq!(queue.unfinished(), 1);
    });
}

/// Refusals in an unwinding greenlet leave nothing in any line.
#[test]
fn an_unwinding_greenlet_is_in_no_line() {
    within(MINUTE, || {
        let queue = bounded(1);
        let _ = ask(&queue, |queue| queue.get());
        fill(&queue, [1]);
        let _ = ask(&queue, |queue| queue.put(2));
        assert_eq!(drain(&queue), [1]);
    });
}

// ------------------------------------------------------------ items that misbehave

/// A queue of anything, also of things that hold the queue themselves.
type Things = Queue<Box<dyn Any>>;

fn thing(at_its_end: impl FnOnce() + 'static) -> Box<dyn Any> {
    Box::new(at_drop(at_its_end))
}

/// A destructor that runs in `shutdown_now` may use the queue.
#[test]
fn a_dropped_item_may_use_the_queue() {
    within(MINUTE, || {
        let (queue, log) = (Things::new(), Log::new());
        for n in 0..3 {
            let (inner, log) = (queue.clone(), log.clone());
            let using = thing(move || {
                assert!(matches!(inner.try_get(), Err(GetError::ShutDown)));
                assert!(matches!(inner.get(), Err(GetError::ShutDown)));
                let refused = inner.put(Box::new(n)).unwrap_err();
                assert!(refused.into_inner().is::<i32>());
                inner.shutdown_now();
                log.say(format!("{n}: {}", inner.len()));
            });
            fill(&queue, [using]);
        }
        queue.shutdown_now();
        log.assert_has_all(["0: 0", "1: 0", "2: 0"]);
    });
}

/// So may the destructor of an item that was on its way in.
#[test]
fn an_item_dropped_on_its_way_in_may_use_the_queue() {
    within(MINUTE, || {
        let (queue, log) = (Things::bounded(1), Log::new());
        fill(&queue, [Box::new(()) as Box<dyn Any>]);
        let (inner, said) = (queue.clone(), log.clone());
        let sender = putter(
            &queue,
            thing(move || {
                said.say(format!("full: {}", inner.is_full()));
                drop(inner.try_get());
                said.say(format!("full: {}", inner.is_full()));
            }),
        );
        sender.kill();
        log.assert_is(["full: true", "full: false"]);
    });
}

/// A destructor that runs in `shutdown_now` may wait, and others may come meanwhile.
#[test]
fn a_dropped_item_may_wait() {
    within(MINUTE, || {
        let (queue, log) = (Things::new(), Log::new());
        let (inner, said) = (queue.clone(), log.clone());
        let slow = thing(move || {
            let other = spawn(move || inner.get().is_err());
            assert!(other.get().unwrap());
            said.say("dropped");
        });
        fill(&queue, [slow]);
        queue.shutdown_now();
        log.assert_is(["dropped"]);
    });
}

/// A destructor that panics in `shutdown_now` is its caller's affair, and nobody else's.
#[test]
fn a_dropped_item_may_panic() {
    within(MINUTE, || {
        let (queue, log) = (Things::bounded(3), Log::new());
        let said = log.clone();
        fill(
            &queue,
            [thing(|| ()), thing(|| panic!("a destructor")), thing(move || said.say("last"))],
        );
        let waiting = putter(&queue, thing(|| ()));
        assert!(swallow(|| queue.shutdown_now()).is_err());
        log.assert_is(["last"]);
        assert_eq!(queue.len(), 0);
        assert!(matches!(queue.try_get(), Err(GetError::ShutDown)));
        assert!(waiting.get().unwrap().is_err());
    });
}

/// `shutdown_now` of a joinable queue counts also the items whose destructors panic.
#[test]
fn a_dropped_item_that_panics_is_done() {
    within(MINUTE, || {
        let queue: JoinableQueue<Box<dyn Any>> = JoinableQueue::new();
        fill(&queue, [thing(|| panic!("a destructor")), thing(|| ())]);
        assert!(swallow(|| queue.shutdown_now()).is_err());
        assert_eq!(queue.unfinished(), 0);
        queue.join();
    });
}

/// A `clone` that panics in `peek` leaves the item where it was.
#[test]
fn a_clone_may_panic() {
    #[derive(Debug)]
    struct Unique(u32);
    impl Clone for Unique {
        fn clone(&self) -> Unique {
            panic!("a clone of {}", self.0)
        }
    }
    within(MINUTE, || {
        let queue = full([Unique(1)]);
        assert!(swallow(|| queue.peek()).is_err());
        assert!(swallow(|| queue.try_peek()).is_err());
        assert_eq!(queue.get().unwrap().0, 1);

        let (looking, taking) = (peeker(&queue), getter(&queue));
        queue.put(Unique(2)).unwrap();
        assert_eq!(taking.get().unwrap().unwrap().0, 2, "it is not held up");
        assert!(matches!(end_of(looking), End::Panicked(_)), "it is his clone that panics");
        assert_eq!(reports().len(), 1);
    });
}

/// A `clone` may use the queue.
#[test]
fn a_clone_may_use_the_queue() {
    #[derive(Debug)]
    struct Nosy(Queue<Nosy>, u32);
    impl Clone for Nosy {
        fn clone(&self) -> Nosy {
            assert!(self.0.len() <= 2);
            let _ = self.0.try_put(Nosy(self.0.clone(), self.1 + 1));
            Nosy(self.0.clone(), self.1)
        }
    }
    within(MINUTE, || {
        let queue = bounded(2);
        fill(&queue, [Nosy(queue.clone(), 1)]);
        assert_eq!(queue.peek().unwrap().1, 1);
        assert_eq!(drain(&queue).into_iter().map(|nosy| nosy.1).collect::<Vec<_>>(), [1, 2]);
    });
}

/// An item whose `clone` does what it is told.
struct Told(u32, Rc<dyn Fn()>);

impl Clone for Told {
    fn clone(&self) -> Told {
        (self.1)();
        Told(self.0, self.1.clone())
    }
}

impl PartialEq for Told {
    fn eq(&self, other: &Told) -> bool {
        self.0 == other.0
    }
}

impl Eq for Told {}

impl PartialOrd for Told {
    fn partial_cmp(&self, other: &Told) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Told {
    fn cmp(&self, other: &Told) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// What comes in while an item is looked at takes the place that is its own in the order.
#[test]
fn what_comes_while_somebody_looks_finds_its_place() {
    fn check<O: Order<Told> + 'static>(queue: &Queue<Told, O>, order: [u32; 3]) {
        let putting = queue.clone();
        let put_two = Rc::new(move || {
            fill(&putting, [0, 3].map(|n| Told(n, Rc::new(|| ()))));
        });
        fill(queue, [Told(2, put_two)]);
        assert_eq!(queue.peek().ok().unwrap().0, 2);
        let left: Vec<_> = drain(queue).iter().map(|told| told.0).collect();
        assert_eq!(left, order);
    }
    within(MINUTE, || {
        check(&Queue::<Told, Fifo>::new(), [2, 0, 3]);
        check(&Queue::<Told, Lifo>::new(), [3, 0, 2]);
        check(&Queue::<Told, Priority>::new(), [0, 2, 3]);
    });
}

/// A `clone` may wait; others wait for it, and lose nothing, also if it is killed.
#[test]
fn a_clone_may_wait() {
    within(MINUTE, || {
        let (queue, gate) = (Queue::<Told>::bounded(2), Event::new());
        let held = gate.clone();
        fill(&queue, [Told(1, Rc::new(move || held.wait()))]);
        let (killed, patient) = (peeker(&queue), peeker(&queue));
        killed.kill();
        let taking = getter(&queue);
        fill(&queue, [Told(2, Rc::new(|| ()))]);
        assert!(queue.is_full(), "what is looked at is still in it");
        gate.set();
        assert_eq!(patient.get().unwrap().ok().unwrap().0, 1);
        assert_eq!(taking.get().unwrap().ok().unwrap().0, 1);
        assert_eq!(drain(&queue).len(), 1);
    });
}

/// What is looked at while all is dropped is dropped with it.
#[test]
fn a_clone_may_shut_the_queue_down() {
    within(MINUTE, || {
        let queue: JoinableQueue<Told> = JoinableQueue::new();
        let shutting = Queue::clone(&queue);
        fill(&queue, [Told(1, Rc::new(move || shutting.shutdown_now()))]);
        let _ = queue.peek();
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        assert_eq!(queue.get().err(), Some(GetError::ShutDown));
        queue.join();
    });
}

/// An item of a priority queue whose comparison does what it is told.
struct Moody {
    rank: u32,
    mood: Rc<dyn Fn()>,
}

impl PartialEq for Moody {
    fn eq(&self, other: &Moody) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Moody {}

impl PartialOrd for Moody {
    fn partial_cmp(&self, other: &Moody) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moody {
    fn cmp(&self, other: &Moody) -> Ordering {
        (self.mood)();
        self.rank.cmp(&other.rank)
    }
}

/// A comparison that panics harms who called, and loses none of the others' items.
#[test]
fn a_comparison_may_panic() {
    within(MINUTE, || {
        let (queue, angry, living) =
            (PriorityQueue::new(), Rc::new(Cell::new(false)), Living::new());
        let moody = |rank| {
            let (angry, token) = (angry.clone(), living.token());
            let mood = Rc::new(move || {
                let _ = &token;
                assert!(!angry.get(), "a comparison");
            });
            Moody { rank, mood }
        };
        for rank in [2, 1, 3] {
            fill(&queue, [moody(rank)]);
        }
        angry.set(true);
        assert!(swallow(|| queue.put(moody(0)).is_ok()).is_err());
        angry.set(false);
        let ranks: Vec<_> = drain(&queue).iter().map(|moody| moody.rank).collect();
        assert_eq!(ranks.iter().filter(|rank| **rank != 0).count(), 3, "{ranks:?}");
        drop(queue);
        assert_eq!(living.count(), 0);
    });
}

/// As above; the books of a joinable queue agree with what is in it.
#[test]
fn a_comparison_that_panics_does_not_upset_the_count() {
    within(MINUTE, || {
        let queue: JoinableQueue<Moody, Priority> = JoinableQueue::new();
        let angry = Rc::new(Cell::new(false));
        let moody = |rank| {
            let angry = angry.clone();
            Moody { rank, mood: Rc::new(move || assert!(!angry.get(), "a comparison")) }
        };
        fill(&queue, [moody(1)]);
        angry.set(true);
        assert!(swallow(|| queue.try_put(moody(2)).is_ok()).is_err());
        angry.set(false);
        assert_eq!(queue.unfinished(), queue.len());
        queue.shutdown_now();
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        queue.join();
    });
}

/// As above, where the comparison is made because a place has come free for one who waited.
#[test]
fn a_comparison_may_panic_on_the_way_in() {
    within(MINUTE, || {
        let (queue, angry, living) =
            (PriorityQueue::bounded(3), Rc::new(Cell::new(false)), Living::new());
        let moody = |rank| {
            let (angry, token) = (angry.clone(), living.token());
            let mood = Rc::new(move || {
                let _ = &token;
                assert!(!angry.get(), "a comparison");
            });
            Moody { rank, mood }
        };
        fill(&queue, [moody(1), moody(2), moody(3)]);
        let waiting = putter(&queue, moody(4));
        angry.set(true);
        drop(swallow(|| drop(queue.try_get())));
        settle();
        angry.set(false);
        let rest = drain(&queue);
        assert!(rest.len() >= 2, "the others are there");
        drop(rest);
        assert!(waiting.join_timeout(HOUR), "nobody waits for a place in an empty queue");
        drop(reports());
        drop((waiting, queue));
        assert_eq!(living.count(), 0);
    });
}

/// A comparison may look at the queue.
#[test]
fn a_comparison_may_use_the_queue() {
    within(MINUTE, || {
        let queue = PriorityQueue::bounded(4);
        let looked = Rc::new(Cell::new(0));
        let moody = |rank| {
            let (queue, looked) = (queue.clone(), looked.clone());
            let mood = Rc::new(move || {
                assert!(queue.len() <= 4);
                let _: bool = queue.is_full();
                looked.set(looked.get() + 1);
            });
            Moody { rank, mood }
        };
        for rank in [3, 1, 4, 2] {
            assert!(queue.put(moody(rank)).is_ok());
        }
        let ranks: Vec<_> = drain(&queue).iter().map(|moody| moody.rank).collect();
        assert_eq!(ranks, [1, 2, 3, 4]);
        assert!(looked.get() > 0);
    });
}

/// An item may be a queue, a greenlet, or the very queue it is in.
#[test]
fn an_item_may_be_what_it_likes() {
    within(MINUTE, || {
        let (inner, outer) = (unbounded(), unbounded());
        outer.put(inner.clone()).unwrap();
        inner.put(1).unwrap();
        assert_eq!(outer.get().unwrap().get(), Ok(1));

        let workers = unbounded();
        workers.put(spawn(|| 7)).unwrap();
        assert_eq!(workers.get().unwrap().get().unwrap(), 7);

        let itself = Things::new();
        itself.put(Box::new(itself.clone())).unwrap();
        assert!(itself.get().unwrap().is::<Things>());
    });
}

// ------------------------------------------------------------------ ends of greenlets

/// A queue whose waiters are gone is a queue like any other; who waits keeps it alive.
#[test]
fn a_parked_greenlet_keeps_its_queue() {
    within(MINUTE, || {
        let living = Living::new();
        let queue = full([living.token()]);
        let waiting = putter(&queue, living.token());
        drop(queue);
        assert_eq!(living.count(), 2);
        waiting.kill();
        drop(waiting);
        assert_eq!(living.count(), 0);
    });
}

/// The end of a thread ends those who wait, shielded or not, and drops what was on its way.
#[test]
fn a_thread_may_end_while_some_wait() {
    within(MINUTE, || {
        let (empty, full, meeting) = (unbounded::<u32>(), full([1]), channel());
        let (_get, _put, _send) = (getter(&empty), putter(&full, 2), putter(&meeting, 3));
        let _shielded = {
            let empty = empty.clone();
            parked(spawn(move || shield(|| empty.get())))
        };
        let jobs: JoinableQueue<u32> = JoinableQueue::new();
        fill(&jobs, [1]);
        let _join = parked(spawn(move || jobs.join()));
        let _any = parked(spawn(move || wait_any([&empty])));
    });
}

/// A greenlet that panics with items in its hands loses those and nothing else.
#[test]
fn a_panic_of_a_worker_leaves_the_queue_whole() {
    within(MINUTE, || {
        let queue: JoinableQueue<u32> = JoinableQueue::new();
        fill(&queue, 0..10);
        queue.shutdown();
        let worker = || {
            let queue = queue.clone();
            spawn(move || {
                for n in queue.iter() {
                    let _done = at_drop(|| queue.task_done().unwrap());
                    assert_ne!(n, 3, "three");
                    yield_now();
                }
            })
        };
        let workers = [worker(), worker()];
        queue.join();
        assert!(queue.is_empty());
        joinall(&workers);
        assert_eq!(reports().len(), 1);
        until(|| workers.iter().all(Waitable::is_ready));
    });
}
