//! `map`, `imap` and `imap_unordered` of pools and groups: orders, bounds, borrows, and what becomes
//! of everything when an item, the input or the caller goes wrong.
//!
//! P7, P8, P9, ... are the rules of the design, and "case 52" its list of cases, which each test that
//! is about one names; "map" and "imap" are the paragraph of that name in its settled details.

mod util;

use std::cell::{Cell, RefCell};
use std::iter;
use std::panic::resume_unwind;
use std::rc::Rc;

use greenloom::pool::{Group, Imap, ImapUnordered, Pool};
use greenloom::queue::Queue;
use greenloom::sync::Event;
use greenloom::{
    Elapsed, Greenlet, catch_interrupt, current, dump, idle, sleep, spawn, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, message, ms, reports, settle,
    state_of, stuck, swallow, until, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        assert_eq!(pool.map([1, 2, 3], |n| n * 2), [2, 4, 6]);
        assert_eq!(pool.imap([1, 2, 3], |n| n * 2).collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(pool.imap_unordered([1, 2, 3], |n| n * 2).sum::<i32>(), 12);
    });
}

// ------------------------------------------------------------------------ words

/// `greenlet`, once it waits.
fn parked<T: 'static>(greenlet: Greenlet<T>) -> Greenlet<T> {
    until(|| greenlet.is_finished() || state_of(greenlet.id()) == Some("parked"));
    greenlet
}

/// Nobody is inside, and every slot is free and works.
#[track_caller]
fn assert_whole(pool: &Pool) {
    assert_eq!((pool.len(), pool.free_count()), (0, pool.size()));
    let members: Vec<_> =
        (0..pool.size()).map(|_| pool.try_spawn(|| sleep(HOUR)).ok().unwrap()).collect();
    assert!(pool.try_spawn(|| ()).is_err());
    greenloom::killall(&members);
    assert_eq!((pool.len(), pool.free_count()), (0, pool.size()));
}

/// Work whose items begin when they may and end when they are told to, and that keeps count.
#[derive(Clone, Default)]
struct Work(Rc<Books>);

#[derive(Default)]
struct Books {
    /// One for each item, made when it is first asked for.
    gates: RefCell<Vec<Event>>,
    begun: RefCell<Vec<usize>>,
    ended: RefCell<Vec<usize>>,
    inside: Cell<usize>,
    most_inside: Cell<usize>,
}

impl Work {
    fn new() -> Work {
        Work::default()
    }

    fn gate(&self, n: usize) -> Event {
        let mut gates = self.0.gates.borrow_mut();
        while gates.len() <= n {
            gates.push(Event::new());
        }
        gates[n].clone()
    }

    /// The work on item `n`: it ends when it is released, or is unwound.
    fn on(&self, n: usize) -> usize {
        let books = self.0.clone();
        books.begun.borrow_mut().push(n);
        books.inside.set(books.inside.get() + 1);
        books.most_inside.set(books.most_inside.get().max(books.inside.get()));
        let left = books.clone();
        let _inside = at_drop(move || left.inside.set(left.inside.get() - 1));
        self.gate(n).wait();
        books.ended.borrow_mut().push(n);
        n
    }

    /// As `on`, as a closure that can be given away.
    fn job(&self) -> impl Fn(usize) -> usize + use<> {
        let work = self.clone();
        move |n| work.on(n)
    }

    /// Lets these end, one after the other.
    fn release(&self, order: impl IntoIterator<Item = usize>) {
        for n in order {
            self.gate(n).set();
            until(|| self.0.ended.borrow().contains(&n));
        }
    }

    /// Lets these end when they like.
    fn open(&self, which: impl IntoIterator<Item = usize>) {
        which.into_iter().for_each(|n| self.gate(n).set());
    }

    /// A greenlet that lets these end, one after the other.
    fn releasing<const N: usize>(&self, order: [usize; N]) -> Greenlet<()> {
        let work = self.clone();
        spawn(move || work.release(order))
    }

    /// Those that have begun, in the order of the items.
    fn begun(&self) -> Vec<usize> {
        let mut begun = self.0.begun.borrow().clone();
        begun.sort_unstable();
        begun
    }

    /// Those that have ended by themselves, in the order in which they have.
    fn ended(&self) -> Vec<usize> {
        self.0.ended.borrow().clone()
    }

    /// How many are being worked on.
    fn inside(&self) -> usize {
        self.0.inside.get()
    }

    /// How many ever were at a time.
    fn most_inside(&self) -> usize {
        self.0.most_inside.get()
    }
}

/// Ends the work on an item by a panic that the panic hook need not print.
fn fail(why: &'static str) -> ! {
    resume_unwind(Box::new(why))
}

/// The text of the panic by which `f` ends.
#[track_caller]
fn failure_of<T>(f: impl FnOnce() -> T) -> String {
    match swallow(f) {
        Ok(_) => panic!("it returned"),
        Err(payload) => message(payload.as_ref()),
    }
}

/// Waits for a kill and then cleans up for a while.
fn die_slowly(log: &Log) {
    if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
        sleep(ms(2));
        log.say("gone");
        interrupt.resume();
    }
}

/// An input that yields what is put into the queue and ends when that is shut down.
fn input_from<T: 'static>(queue: &Queue<T>) -> impl Iterator<Item = T> + 'static + use<T> {
    let queue = queue.clone();
    iter::from_fn(move || queue.get().ok())
}

// ----------------------------------------------------------------------- map: order

/// map: results in the order of the items, whatever the order in which they end.
#[test]
fn map_keeps_the_order() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(3), Work::new());
        let _releasing = work.releasing([2, 0, 3, 1]);
        assert_eq!(pool.map(0..4, |n| work.on(n)), [0, 1, 2, 3]);
        assert_eq!(work.ended(), [2, 0, 3, 1]);
        assert_whole(&pool);
    });
}

/// P7: also of nothing, and of what is of size zero.
#[test]
fn map_of_nothing() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        assert_eq!(pool.map(iter::empty::<u32>(), |n| n), []);
        assert_eq!(pool.map([(), (), ()], |()| ()), [(), (), ()]);
        assert_eq!(Group::new().map(Vec::<u32>::new(), |n| n), []);
        assert_whole(&pool);
    });
}

/// map: `f`, the items and the results may borrow from the caller.
#[test]
fn map_borrows() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let (words, total) = (["a", "quick", "fox"].map(String::from), Cell::new(0));
        let longest = words.iter().max_by_key(|word| word.len()).unwrap();
        let measured: Vec<(&str, bool)> = pool.map(&words, |word| {
            yield_now();
            total.set(total.get() + word.len());
            (word.as_str(), word == longest)
        });
        assert_eq!(measured, [("a", false), ("quick", true), ("fox", false)]);
        assert_eq!(total.get(), 9);

        let mut numbers = vec![1, 2, 3];
        Group::new().map(numbers.iter_mut(), |n| *n += 1);
        assert_eq!(numbers, [2, 3, 4]);
    });
}

/// The bound is never exceeded, and reached.
#[test]
fn map_runs_at_most_so_many() {
    within(MINUTE, || {
        for size in [1, 2, 7] {
            let (pool, work) = (Pool::new(size), Work::new());
            work.open(0..50);
            let squares = pool.map(0..50, |n| {
                yield_now();
                assert!(pool.len() <= size);
                let n = work.on(n);
                yield_now();
                n * n
            });
            assert!(squares.into_iter().eq((0..50).map(|n| n * n)));
            assert!(work.most_inside() <= size);
            assert_whole(&pool);
        }
        let (pool, work) = (Pool::new(3), Work::new());
        let opening = work.clone();
        spawn(move || {
            until(|| opening.inside() == 3);
            opening.open(0..5);
        });
        pool.map(0..5, |n| work.on(n));
        assert_eq!(work.most_inside(), 3);
    });
}

/// A group has no bound: all are at work at once.
#[test]
fn map_of_a_group_runs_all_at_once() {
    within(MINUTE, || {
        let (group, work) = (Group::new(), Work::new());
        let opening = work.clone();
        let (counted, len) = (group.clone(), Rc::new(Cell::new(0)));
        let seen = len.clone();
        spawn(move || {
            until(|| opening.inside() == 50);
            seen.set(counted.len());
            opening.release((0..50).rev());
        });
        assert!(group.map(0..50, |n| work.on(n)).into_iter().eq(0..50));
        assert_eq!((len.get(), group.len()), (50, 0));
    });
}

/// Many items, few slots.
#[test]
fn map_of_many() {
    within(MINUTE, || {
        let pool = Pool::new(8);
        let doubled = pool.map(0..10_000_u32, |n| {
            if n.is_multiple_of(7) {
                yield_now();
            }
            n * 2
        });
        assert!(doubled.into_iter().eq((0..10_000).map(|n| n * 2)));
        assert_whole(&pool);
    });
}

/// map: the input is pulled as slots become free.
#[test]
fn map_pulls_as_it_goes() {
    within(MINUTE, || {
        let (pool, pulled, work) = (Pool::new(2), Rc::new(Cell::new(0)), Work::new());
        let (counting, opening) = (pulled.clone(), work.clone());
        spawn(move || {
            for n in 0..10 {
                until(|| opening.begun().contains(&n));
                settle();
                assert!(counting.get() <= n + 3, "{} pulled", counting.get());
                opening.release([n]);
            }
        });
        let input = (0..10).inspect(|_| pulled.set(pulled.get() + 1));
        assert_eq!(pool.map(input, |n| work.on(n)).len(), 10);
    });
}

/// Case 54: an input that waits, also after its last item; the work goes on meanwhile.
#[test]
fn case_54_an_input_of_map_may_wait() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(2), Log::new());
        let input = (0..4).inspect(|_| sleep(ms(1))).chain(iter::from_fn(|| {
            until(|| log.len() == 4);
            None
        }));
        let results = pool.map(input, |n| {
            log.say(n);
            n
        });
        assert_eq!(results, [0, 1, 2, 3]);
        assert_whole(&pool);
    });
}

/// Others use the pool at the same time; the bound holds for all together.
#[test]
fn maps_share_a_pool() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(3), Work::new());
        work.open(0..30);
        let mapping = || {
            let (pool, work) = (pool.clone(), work.clone());
            spawn(move || {
                pool.map(0..30, |n| {
                    yield_now();
                    work.on(n)
                })
            })
        };
        let maps = [mapping(), mapping(), mapping()];
        let single = pool.apply(|| 7);
        for map in maps {
            assert!(map.get().unwrap().into_iter().eq(0..30));
        }
        assert_eq!(single, 7);
        assert!(work.most_inside() <= 3);
        assert_whole(&pool);
    });
}

/// A map in a map, each with a pool of its own; and in one pool with slots enough.
#[test]
fn maps_may_be_nested() {
    within(MINUTE, || {
        let (outer, inner) = (Pool::new(2), Pool::new(2));
        let table = outer.map(1..=3, |row| inner.map(1..=3, |column| row * column));
        assert_eq!(table, [[1, 2, 3], [2, 4, 6], [3, 6, 9]]);
        let group = Group::new();
        let table = group.map(1..=3, |row| group.map(1..=3, |column| row * column));
        assert_eq!(table, [[1, 2, 3], [2, 4, 6], [3, 6, 9]]);
        let one = Pool::new(3);
        let table = one.map(1..=2, |row| one.map(1..=3, |column| row * column));
        assert_eq!(table, [[1, 2, 3], [2, 4, 6]]);
        assert_whole(&one);
    });
}

/// P3: a map by a member of a full pool waits like anyone; if that can never end, the report names
/// the pool. What had begun is unwound with it.
#[test]
fn a_map_in_a_full_pool_blocks_forever() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let report = blocks_forever(|| pool.map([1], |n| pool.map([n], |n| n)));
        assert!(report.contains("of the Pool made at tests/pool_map.rs:"), "{report}");
        assert_whole(&pool);
    });
}

#[test]
fn a_closed_pool_maps_nothing() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        pool.close();
        assert!(swallow(|| pool.map([1], |n| n)).is_err());
        assert!(swallow(|| pool.imap([1], |n| n)).is_err());
        assert!(swallow(|| pool.imap_unordered([1], |n| n)).is_err());
    });
}

// ---------------------------------------------------------------------- map: panics

/// map: after a panic no further item is started, those running end by themselves, then the panic at
/// the lowest place is raised.
#[test]
fn the_panic_at_the_lowest_place_is_raised() {
    fn check(pool: impl Fn(std::ops::Range<usize>, &dyn Fn(usize) -> usize) -> Vec<usize>) {
        let work = Work::new();
        let _releasing = work.releasing([2, 1, 0]);
        let job = |n| match work.on(n) {
            1 => fail("one"),
            2 => fail("two"),
            n => n,
        };
        assert_eq!(failure_of(|| pool(0..3, &job)), "one");
        assert_eq!(work.ended(), [2, 1, 0], "those that ran were waited for");
    }
    within(MINUTE, || {
        let pool = Pool::new(3);
        check(|items, job| pool.map(items, job));
        assert_whole(&pool);
        check(|items, job| Group::new().map(items, job));
        assert_eq!(reports(), [], "they are the caller's");
    });
}

/// map: as above; of a longer input nothing more is started.
#[test]
fn after_a_panic_nothing_is_started() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let _releasing = work.releasing([1, 0]);
        let failure = failure_of(|| {
            pool.map(0.., |n| match work.on(n) {
                1 => fail("one"),
                n => n,
            })
        });
        assert_eq!(failure, "one");
        assert_eq!(work.begun(), [0, 1]);
        assert_whole(&pool);
    });
}

/// map: a panic keeps its payload.
#[test]
fn a_panic_keeps_its_payload() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let payload = swallow(|| pool.map([1], |_| resume_unwind(Box::new(7_u8)))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&7_u8));
        assert_whole(&pool);
    });
}

/// map, case 54: a panic of the input is raised likewise, once those who had begun have ended.
#[test]
fn case_54_a_panic_of_the_input_of_map() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(4), Work::new());
        let _releasing = work.releasing([1, 0]);
        let input = || (0..2).chain(iter::from_fn(|| fail("the input")));
        assert_eq!(failure_of(|| pool.map(input(), |n| work.on(n))), "the input");
        assert_eq!(work.ended(), [1, 0]);
        assert_whole(&pool);
        // It is behind the items.
        let failure = failure_of(|| {
            pool.map(input(), |n| match n {
                1 => fail("an item"),
                n => yield_now_and(n),
            })
        });
        assert_eq!(failure, "an item");
        assert_whole(&pool);
    });
}

fn yield_now_and<T>(value: T) -> T {
    yield_now();
    value
}

/// map: so is the end of an item that was killed, which has no panic of its own.
#[test]
fn an_item_that_is_killed_is_a_failure() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let failure = failure_of(|| {
            pool.map(0..3, |n| {
                if n == 1 {
                    current().kill_nowait();
                }
                yield_now();
                n
            })
        });
        assert!(failure.contains("was killed"), "{failure}");
        assert_whole(&pool);
    });
}

/// map, Pool: a kill of the pool ends the items of a map, and the map.
#[test]
fn a_kill_of_the_pool_ends_its_maps() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let (mapped, job) = (pool.clone(), work.job());
        let mapping = parked(spawn(move || failure_of(|| mapped.map(0..10, job))));
        until(|| work.inside() == 2);
        settle();
        pool.kill();
        let End::Value(failure) = end_of(mapping) else { panic!("it was not killed itself") };
        assert!(failure.contains("was killed"), "{failure}");
        assert_eq!(work.inside(), 0);
        assert!(work.begun().len() <= 3, "{:?}", work.begun());
        pool.join();
        assert_whole(&pool);
    });
}

/// Pool: an item may kill its pool, and goes down with it; so does the map.
#[test]
fn an_item_may_kill_its_pool() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(3), Work::new());
        let failure = failure_of(|| {
            pool.map(0..10, |n| {
                if n == 2 {
                    pool.kill();
                }
                work.on(n)
            })
        });
        assert!(failure.contains("was killed"), "{failure}");
        assert_eq!((work.inside(), work.ended()), (0, vec![]));
        pool.join();
        assert_whole(&pool);
    });
}

/// Nothing of the items and results is left over after a panic.
#[test]
fn a_failed_map_drops_everything() {
    within(MINUTE, || {
        let (pool, living) = (Pool::new(2), Living::new());
        let items: Vec<_> = (0..10).map(|n| (n, living.token())).collect();
        let failure = failure_of(|| {
            pool.map(items, |(n, token)| {
                if n == 4 {
                    fail("four");
                }
                token
            })
        });
        assert_eq!(failure, "four");
        assert_eq!(living.count(), 0);
        assert_whole(&pool);
    });
}

/// The destructor of an item may panic: it is the item's panic.
#[test]
fn an_item_of_a_map_may_panic_as_it_is_dropped() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let items = [at_drop(|| panic!("a destructor"))];
        assert_eq!(failure_of(|| pool.map(items, drop)), "a destructor");
        assert_whole(&pool);
    });
}

// ----------------------------------------------------------------------- map: kills

/// map, K11: to kill the caller is to kill the items; all have ended when he unwinds.
#[test]
fn a_killed_map_ends_with_its_items() {
    within(MINUTE, || {
        let (pool, log, living) = (Pool::new(2), Log::new(), Living::new());
        let (mapped, said, tokens) = (pool.clone(), log.clone(), living.clone());
        let caller = parked(spawn(move || {
            let _guard = said.at_drop("unwound");
            let items: Vec<_> = (0..4).map(|_| tokens.token()).collect();
            mapped.map(items, |token| {
                die_slowly(&said);
                drop(token);
            });
        }));
        settle();
        caller.kill();
        log.assert_is(["gone", "gone", "unwound"]);
        assert_eq!(living.count(), 0);
        assert_eq!(end_of(caller), End::Killed);
        assert_whole(&pool);
    });
}

/// map, T1: so it is to time him out.
#[test]
fn a_map_out_of_time_ends_with_its_items() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        assert!(with_timeout(ms(5), || pool.map(0..4, |n| work.on(n))).is_err());
        assert_eq!(work.inside(), 0);
        assert_whole(&pool);
        let group = Group::new();
        assert!(with_timeout(ms(5), || group.map(4..8, |n| work.on(n))).is_err());
        assert_eq!((work.inside(), group.len()), (0, 0));
        assert_eq!(work.ended(), []);
    });
}

/// K9: killed while it waits for a slot, or for its input, it takes nothing with it.
#[test]
fn a_map_killed_in_line_leaves_the_line() {
    within(MINUTE, || {
        let (pool, gate) = (Pool::new(1), Event::new());
        let held = gate.clone();
        pool.spawn(move || held.wait());
        let mapped = pool.clone();
        let in_line = parked(spawn(move || mapped.map([1], |n| n)));
        let next = pool.apply_async(|| 7);
        in_line.kill();
        gate.set();
        assert_eq!(next.get().unwrap(), 7);
        assert_whole(&pool);

        let (input, mapped) = (Queue::<u32>::new(), pool.clone());
        let items = input_from(&input);
        let for_input = parked(spawn(move || mapped.map(items, |n| n)));
        for_input.kill();
        input.try_put(1).unwrap();
        assert_eq!(input.try_get(), Ok(1));
        assert_whole(&pool);
    });
}

/// K2: a map that was killed leaves nothing that may wake anybody.
#[test]
fn an_interrupted_map_leaves_nothing() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let mapped = pool.clone();
        parked(spawn(move || mapped.map(0..4, |_| sleep(HOUR)))).kill();
        assert!(with_timeout(ms(1), || pool.map(0..4, |_| sleep(HOUR))).is_err());
        drop(pool.imap(0..4, |_| sleep(HOUR)));
        settle();
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

// ---------------------------------------------------------------------- imap: order

/// Case 52: in order for every size.
#[test]
fn case_52_imap_keeps_the_order() {
    within(MINUTE, || {
        for size in 1..=4 {
            let (pool, work) = (Pool::new(size), Work::new());
            work.open([1, 2, 0]);
            assert_eq!(pool.imap(0..3, work.job()).collect::<Vec<_>>(), [0, 1, 2]);
            assert_whole(&pool);
        }
        let (pool, work) = (Pool::new(3), Work::new());
        let results = pool.imap(0..3, work.job());
        let _releasing = work.releasing([1, 2, 0]);
        assert_eq!(results.collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(work.ended(), [1, 2, 0]);
        assert_whole(&pool);
    });
}

/// Case 52: as they finish; with one slot that is in order.
#[test]
fn case_52_imap_unordered_comes_as_it_finishes() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(3), Work::new());
        let mut results = pool.imap_unordered(0..3, work.job());
        for n in [1, 2, 0] {
            work.release([n]);
            assert_eq!(results.next(), Some(n));
        }
        assert_eq!(results.next(), None);
        assert_whole(&pool);

        let (pool, work) = (Pool::new(1), Work::new());
        work.open(0..3);
        assert_eq!(pool.imap_unordered(0..3, work.job()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_whole(&pool);
    });
}

/// With two slots, the third item begins when the first that ends makes room.
#[test]
fn case_52_imap_unordered_with_two_slots() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let results = pool.imap_unordered(0..3, work.job());
        let _releasing = work.releasing([1, 2, 0]);
        assert_eq!(results.collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(work.most_inside(), 2);
    });
}

/// Both have no end but the input's, and stay at it.
#[test]
fn an_exhausted_imap_stays_so() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let mut results = pool.imap(0..2, |n| n);
        let mut unordered = pool.imap_unordered(0..2, |n| n);
        assert_eq!((results.by_ref().count(), unordered.by_ref().count()), (2, 2));
        for _ in 0..3 {
            assert_eq!((results.next(), unordered.next()), (None, None));
        }
        assert_whole(&pool);
    });
}

/// Group: the same, with no bound on what is started.
#[test]
fn imap_of_a_group_starts_all() {
    within(MINUTE, || {
        let (group, work) = (Group::new(), Work::new());
        let results = group.imap(0..20, work.job());
        until(|| work.inside() == 20);
        assert_eq!(group.len(), 20);
        work.release((0..20).rev());
        assert!(results.eq(0..20));

        let work = Work::new();
        let mut results = group.imap_unordered(0..3, work.job());
        for n in [2, 0, 1] {
            work.release([n]);
            assert_eq!(results.next(), Some(n));
        }
        assert_eq!(results.next(), None);
    });
}

/// What the items and results own may be anything.
#[test]
fn imap_of_values_that_cannot_be_cloned() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let boxes = (0..3).map(Box::new).collect::<Vec<_>>();
        let prefix = String::from("n");
        let named = pool.imap(boxes, move |n| Rc::new(format!("{prefix}{n}")));
        assert_eq!(named.map(|name| name.to_string()).collect::<Vec<_>>(), ["n0", "n1", "n2"]);
        assert_eq!(pool.imap_unordered([(), ()], |()| ()).count(), 2);
    });
}

#[test]
fn an_imap_can_be_shown() {
    within(MINUTE, || {
        struct Silent;
        let pool = Pool::new(1);
        let shown = (pool.imap([1], |_| Silent), pool.imap_unordered([1], |_| Silent));
        assert!(!format!("{shown:?}").is_empty());
    });
}

// --------------------------------------------------------------------- imap: bounds

/// imap: it is fed from a greenlet of its own, which has a name, and begins before anybody asks for
/// a result.
#[test]
fn imap_begins_at_once() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let results = pool.imap(0..5, work.job());
        settle();
        assert_eq!(work.begun(), [0, 1]);
        assert!(dump().greenlets().iter().any(|greenlet| greenlet.name == "imap"));
        drop(results);
    });
}

/// imap itself does not run anything of the caller's, and does not switch.
#[test]
fn to_call_imap_is_not_to_wait() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let (pulled, began) = (log.clone(), log.clone());
        let input = (0..3).inspect(move |_| pulled.say("pulled"));
        let results = pool.imap(input, move |_| began.say("began"));
        log.assert_empty();
        drop(results);
        settle();
        log.assert_empty();
        assert_whole(&pool);
    });
}

/// P8, case 53, imap: what is started and unread is bounded, at all times, however slow the reader.
#[test]
fn case_53_imap_is_bounded() {
    fn check(ordered: bool, size: usize) {
        let (pool, begun) = (Pool::new(size), Rc::new(Cell::new(0)));
        let (counting, watched) = (begun.clone(), pool.clone());
        let job = move |n: usize| {
            counting.set(counting.get() + 1);
            assert!(watched.len() <= watched.size());
            yield_now();
            n
        };
        let mut results: Box<dyn Iterator<Item = usize>> = if ordered {
            Box::new(pool.imap(0..100, job))
        } else {
            Box::new(pool.imap_unordered(0..100, job))
        };
        let mut got = Vec::new();
        for read in 0..100 {
            settle();
            assert!(begun.get() <= read + 2 * size, "{} begun, {read} read", begun.get());
            assert!(begun.get() >= (read + size).min(100), "{} begun, {read} read", begun.get());
            let unread = begun.get() - read - pool.len();
            assert!(unread <= size, "{unread} finished and not read");
            got.extend(results.next());
        }
        assert_eq!(results.next(), None);
        got.sort_unstable();
        assert!(got.into_iter().eq(0..100));
        assert_eq!(begun.get(), 100);
        assert_whole(&pool);
    }
    within(MINUTE, || {
        for size in [1, 2, 5] {
            check(true, size);
            check(false, size);
        }
    });
}

/// imap: where the first is slow, the others do not run ahead of it without limit.
#[test]
fn imap_does_not_run_ahead() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        work.open(1..100);
        let mut results = pool.imap(0..100, work.job());
        settle();
        assert_eq!(work.inside(), 1, "only the first is still at it");
        assert!(work.begun().len() <= 4, "{:?}", work.begun());
        work.release([0]);
        assert!(results.by_ref().eq(0..100));
        assert_whole(&pool);
    });
}

/// imap: it may therefore be endless.
#[test]
fn an_input_may_be_endless() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        assert_eq!(pool.imap(0.., |n| n * 2).nth(1000), Some(2000));
        let sum: usize = pool.imap_unordered(0.., |n| n).take(10).sum();
        assert!(sum >= 45);
        settle();
        assert_whole(&pool);
    });
}

/// Everything that runs in a pool shares its slots.
#[test]
fn imaps_share_a_pool() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(3), Work::new());
        work.open(0..50);
        let job = || {
            let job = work.job();
            move |n| job(yield_now_and(n))
        };
        let (mut one, two) = (pool.imap(0..50, job()), pool.imap_unordered(0..50, job()));
        let mapped = pool.map(0..50, job());
        assert_eq!(one.by_ref().zip(two).count(), 50);
        assert_eq!(one.next(), None);
        assert!(mapped.into_iter().eq(0..50));
        assert!(work.most_inside() <= 3);
        assert_whole(&pool);
    });
}

/// A pool that others keep full lets an imap in when they go.
#[test]
fn imap_waits_for_a_slot() {
    within(MINUTE, || {
        let (pool, gate) = (Pool::new(1), Event::new());
        let held = gate.clone();
        pool.spawn(move || held.wait());
        let mut results = pool.imap(0..2, |n| n);
        settle();
        assert_eq!(with_timeout(ms(1), || results.next()), Err(Elapsed));
        gate.set();
        assert_eq!([results.next(), results.next(), results.next()], [Some(0), Some(1), None]);
        assert_whole(&pool);
    });
}

/// The input of one is another: what flows through is bounded all the way.
#[test]
fn imaps_make_a_pipeline() {
    within(MINUTE, || {
        let (first, second) = (Pool::new(2), Pool::new(3));
        let pulled = Rc::new(Cell::new(0));
        let counting = pulled.clone();
        let source = (0..).inspect(move |_| counting.set(counting.get() + 1));
        let doubled = first.imap(source, |n: usize| yield_now_and(n * 2));
        let mut named = second.imap(doubled, |n| yield_now_and(format!("{n}")));
        for n in 0..50 {
            assert_eq!(named.next(), Some(format!("{}", n * 2)));
            settle();
            assert!(pulled.get() <= n + 1 + 2 * (2 + 3) + 2, "{} pulled", pulled.get());
        }
        drop(named);
        settle();
        assert_whole(&first);
        assert_whole(&second);
    });
}

// ---------------------------------------------------------------------- imap: inputs

/// P7, case 54: an empty input, one that waits, one that waits after its last item, one that ends
/// long after all the work.
#[test]
fn case_54_inputs_that_end_in_their_own_way() {
    fn check(collect: impl Fn(Box<dyn Iterator<Item = u32>>) -> Vec<u32>) {
        assert_eq!(collect(Box::new(iter::empty())), []);
        let late_empty = iter::from_fn(|| {
            sleep(ms(1));
            None
        });
        assert_eq!(collect(Box::new(late_empty)), []);
        assert_eq!(collect(Box::new((0..3).inspect(|_| sleep(ms(1))))), [0, 1, 2]);
        let late_end = iter::once_with(|| sleep(ms(5))).flat_map(|()| None);
        assert_eq!(collect(Box::new((0..3).chain(late_end))), [0, 1, 2]);
    }
    within(MINUTE, || {
        for size in [1, 2, 10] {
            let pool = Pool::new(size);
            check(|input| pool.imap(input, |n| n).collect());
            check(|input| {
                let mut results: Vec<_> = pool.imap_unordered(input, |n| n).collect();
                results.sort_unstable();
                results
            });
            assert_whole(&pool);
        }
        check(|input| Group::new().imap(input, |n| n).collect());
    });
}

/// An input that waits holds up nothing that has begun.
#[test]
fn results_can_be_read_while_the_input_waits() {
    within(MINUTE, || {
        let (pool, input) = (Pool::new(2), Queue::new());
        let mut results = pool.imap(input_from(&input), |n: u32| n);
        for n in 0..5 {
            input.put(n).unwrap();
            assert_eq!(results.next(), Some(n));
        }
        let closing = input.clone();
        spawn(move || closing.shutdown());
        assert_eq!(results.next(), None);
        assert_whole(&pool);
    });
}

/// P9, case 54: a panic of the input ends it: `imap` raises it at that place, with all results before
/// it.
#[test]
fn case_54_a_panic_of_the_input_of_imap() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(4), Work::new());
        let input = (0..2).chain(iter::from_fn(|| fail("the input")));
        let mut results = pool.imap(input, work.job());
        settle();
        work.release([1, 0]);
        assert_eq!([results.next(), results.next()], [Some(0), Some(1)]);
        assert_eq!(failure_of(|| results.next()), "the input");
        assert_eq!([results.next(), results.next()], [None, None]);
        assert_whole(&pool);
        assert_eq!(reports(), [], "it is the reader's");
    });
}

/// imap: and `imap_unordered` after the results of what was started.
#[test]
fn a_panic_of_the_input_of_imap_unordered_comes_last() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(4), Work::new());
        let input = (0..2).chain(iter::from_fn(|| fail("the input")));
        let mut results = pool.imap_unordered(input, work.job());
        settle();
        work.release([1]);
        assert_eq!(results.next(), Some(1));
        work.release([0]);
        assert_eq!(results.next(), Some(0));
        assert_eq!(failure_of(|| results.next()), "the input");
        assert_eq!(results.next(), None);
        assert_whole(&pool);
    });
}

/// A panicking input at once, with nothing before it.
#[test]
fn an_input_that_panics_at_once() {
    within(MINUTE, || {
        let pool = Pool::new(1);
        let mut results = pool.imap(iter::from_fn(|| fail("the input")), |n: u32| n);
        assert_eq!(failure_of(|| results.next()), "the input");
        assert_eq!(results.next(), None);
        let mut results = pool.imap_unordered(iter::from_fn(|| fail("the input")), |n: u32| n);
        assert_eq!(failure_of(|| results.next()), "the input");
        assert_eq!(results.next(), None);
    });
}

/// A panic passes through a pipeline: what is an item's panic to one is the input's to the next.
#[test]
fn a_panic_passes_through_a_pipeline() {
    within(MINUTE, || {
        let (first, second) = (Pool::new(2), Pool::new(2));
        let source = first.imap(0..5, |n| if n == 2 { fail("two") } else { n });
        let mut results = second.imap(source, |n| n * 10);
        assert_eq!([results.next(), results.next()], [Some(0), Some(10)]);
        assert_eq!(failure_of(|| results.next()), "two");
        assert_eq!(results.next(), None);
        settle();
        assert_whole(&first);
        assert_whole(&second);
    });
}

// ---------------------------------------------------------------------- imap: panics

/// P9, case 54: an item's panic is raised by the `next` that reaches it; the rest goes on.
#[test]
fn case_54_a_panic_is_raised_at_its_place() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let mut results = pool.imap(0..5, |n| match n {
            1 | 3 => fail("odd"),
            n => n,
        });
        assert_eq!(results.next(), Some(0));
        assert_eq!(failure_of(|| results.next()), "odd");
        assert_eq!(results.next(), Some(2));
        assert_eq!(failure_of(|| results.next()), "odd");
        assert_eq!([results.next(), results.next()], [Some(4), None]);
        assert_whole(&pool);
        assert_eq!(reports(), [], "they are the reader's");
    });
}

/// P9: by `imap_unordered` as it comes.
#[test]
fn a_panic_of_imap_unordered_comes_as_it_comes() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(3), Work::new());
        let job = work.job();
        let mut results = pool.imap_unordered(0..3, move |n| match job(n) {
            2 => fail("two"),
            n => n,
        });
        work.release([2]);
        assert_eq!(failure_of(|| results.next()), "two");
        work.release([0]);
        assert_eq!(results.next(), Some(0));
        work.release([1]);
        assert_eq!([results.next(), results.next()], [Some(1), None]);
        assert_whole(&pool);
    });
}

/// P9: so is an item that was killed, which has no panic of its own.
#[test]
fn a_killed_item_of_imap_is_a_failure_at_its_place() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let mut results = pool.imap(0..3, |n| {
            if n == 1 {
                current().kill_nowait();
            }
            yield_now_and(n)
        });
        assert_eq!(results.next(), Some(0));
        let failure = failure_of(|| results.next());
        assert!(failure.contains("was killed"), "{failure}");
        assert_eq!([results.next(), results.next()], [Some(2), None]);
        assert_whole(&pool);
    });
}

/// P6, P9: a kill of the pool ends the items that run; those that come later go on afterwards.
#[test]
fn imap_goes_on_after_a_kill_of_its_pool() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(1), Work::new());
        let mut results = pool.imap(0..3, work.job());
        settle();
        pool.kill();
        let failure = failure_of(|| results.next());
        assert!(failure.contains("was killed"), "{failure}");
        work.open([1, 2]);
        assert_eq!([results.next(), results.next(), results.next()], [Some(1), Some(2), None]);
        assert_whole(&pool);
    });
}

/// P2 for all the ways in which an item ends: no slot is lost.
#[test]
fn an_imap_of_failures_keeps_the_slots() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let mut results = pool.imap_unordered(0..40, |n| match n % 4 {
            0 => fail("an item"),
            1 => {
                current().kill_nowait();
                yield_now();
            }
            2 => assert!(with_timeout(ms(1), || sleep(HOUR)).is_err()),
            _ => {}
        });
        let (mut good, mut bad) = (0, 0);
        loop {
            match swallow(|| results.next()) {
                Ok(Some(())) => good += 1,
                Ok(None) => break,
                Err(_) => bad += 1,
            }
        }
        assert_eq!((good, bad), (20, 20));
        assert_whole(&pool);
    });
}

// ------------------------------------------------------------- imap: time, kills, drops

/// K9, T1: a `next` that is interrupted loses no result.
#[test]
fn an_interrupted_next_loses_nothing() {
    fn check(mut results: impl Iterator<Item = usize>, work: &Work) {
        assert_eq!(with_timeout(ms(1), || results.next()), Err(Elapsed));
        work.release([0]);
        assert_eq!(results.next(), Some(0));
        assert_eq!(with_timeout(ms(1), || results.next()), Err(Elapsed));
        work.release([1]);
        assert_eq!([results.next(), results.next()], [Some(1), None]);
    }
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        check(pool.imap(0..2, work.job()), &work);
        let work = Work::new();
        check(pool.imap_unordered(0..2, work.job()), &work);
        assert_whole(&pool);
    });
}

/// K9: a result comes and the reader is killed, in one turn or about one: he has it, or whoever
/// reads on has it.
#[test]
fn a_result_and_a_kill_at_the_same_time() {
    fn kill(doomed: &RefCell<Option<Greenlet<()>>>) {
        doomed.borrow().as_ref().expect("it is there by now").kill_nowait();
    }
    within(MINUTE, || {
        for order in 0..3 {
            let (pool, log, doomed) = (Pool::new(1), Log::new(), Rc::new(RefCell::new(None)));
            let (gate, bell) = (Event::new(), Event::new());
            let killer = {
                let (bell, doomed) = (bell.clone(), doomed.clone());
                parked(spawn(move || {
                    bell.wait();
                    kill(&doomed);
                }))
            };
            let (held, target) = (gate.clone(), doomed.clone());
            let results = Rc::new(RefCell::new(pool.imap(0..2, move |n| {
                held.wait();
                match (n, order) {
                    (0, 0) => kill(&target),
                    (0, 1) => bell.set(),
                    _ => {}
                }
                n
            })));
            let (reading, said) = (results.clone(), log.clone());
            let reader = parked(spawn(move || {
                let read = reading.borrow_mut().next();
                said.say(format!("{read:?}"));
                sleep(HOUR);
            }));
            *doomed.borrow_mut() = Some(reader);
            gate.set();
            settle();
            if order == 2 {
                kill(&doomed);
            }
            settle();
            let mut all = log.lines();
            all.extend(results.borrow_mut().by_ref().map(|n| format!("{:?}", Some(n))));
            assert_eq!(all, ["Some(0)", "Some(1)"]);
            killer.kill();
            assert_whole(&pool);
        }
    });
}

/// imap: dropping it starts nothing more and kills what runs; everything it owned is dropped.
#[test]
fn dropping_an_imap_ends_it() {
    type Input = Box<dyn Iterator<Item = usize>>;
    type Job = Box<dyn Fn(usize) -> usize>;
    fn check<R>(imap: fn(&Pool, Input, Job) -> R) {
        let (pool, work, living) = (Pool::new(2), Work::new(), Living::new());
        let (of_input, of_job, job) = (living.token(), living.token(), work.job());
        let input = Box::new((0..).inspect(move |_| {
            let _ = &of_input;
        }));
        let job = Box::new(move |n| {
            let _ = &of_job;
            job(n)
        });
        let results = imap(&pool, input, job);
        settle();
        assert_eq!((work.inside(), living.count()), (2, 2));
        drop(results);
        settle();
        assert_eq!(work.begun(), [0, 1]);
        assert_eq!((work.inside(), living.count()), (0, 0));
        assert_whole(&pool);
    }
    within(MINUTE, || {
        check::<Imap<usize>>(|pool, input, job| pool.imap(input, job));
        check::<ImapUnordered<usize>>(|pool, input, job| pool.imap_unordered(input, job));
    });
}

/// imap: dropped while its feeder waits for the input, for a slot, for the reader; before it began;
/// and after its end.
#[test]
fn an_imap_may_be_dropped_at_any_time() {
    within(MINUTE, || {
        let (pool, input) = (Pool::new(1), Queue::<u32>::new());
        let for_input = pool.imap(input_from(&input), |n| n);
        settle();
        drop(for_input);
        input.try_put(1).unwrap();
        settle();
        assert_eq!(input.try_get(), Ok(1), "nobody pulls any more");
        assert_whole(&pool);

        let gate = Event::new();
        let held = gate.clone();
        pool.spawn(move || held.wait());
        let for_a_slot = pool.imap(0..3, |n| n);
        settle();
        drop(for_a_slot);
        gate.set();
        pool.join();
        assert_whole(&pool);

        let mut for_the_reader = pool.imap_unordered(0..100, |n| n);
        assert_eq!(for_the_reader.next(), Some(0));
        settle();
        drop(for_the_reader);
        settle();
        assert_whole(&pool);

        drop(pool.imap(0..3, |n| n));
        settle();
        assert_whole(&pool);

        let mut at_its_end = pool.imap(0..3, |n| n);
        assert_eq!(at_its_end.by_ref().count(), 3);
        drop(at_its_end);
        assert_whole(&pool);
    });
}

/// Results that nobody has read are dropped with it, and may panic at that.
#[test]
fn unread_results_are_dropped() {
    within(MINUTE, || {
        let (pool, living) = (Pool::new(2), Living::new());
        let tokens = living.clone();
        let results = pool.imap(0..10, move |_| tokens.token());
        settle();
        assert!(living.count() >= 2);
        drop(results);
        settle();
        assert_eq!(living.count(), 0);
        assert_whole(&pool);

        let bombs = pool.imap(0..2, |n| at_drop(move || assert_eq!(n, 0, "a destructor")));
        settle();
        assert!(swallow(|| drop(bombs)).is_err());
        settle();
        assert_whole(&pool);
    });
}

/// A result that is dropped may use the pool.
#[test]
fn an_unread_result_may_use_the_pool() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let (inner, said) = (pool.clone(), log.clone());
        let results = pool.imap(0..1, move |_| {
            let (pool, log) = (inner.clone(), said.clone());
            at_drop(move || log.say(pool.apply(|| 7)))
        });
        settle();
        drop(results);
        log.assert_is(["7"]);
        pool.join();
        assert_whole(&pool);
    });
}

/// The kill of the reader drops his imap, and thereby ends it.
#[test]
fn a_killed_reader_ends_his_imap() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let (mapped, job) = (pool.clone(), work.job());
        let reader = parked(spawn(move || mapped.imap(0.., job).count()));
        settle();
        assert_eq!(work.inside(), 2);
        reader.kill();
        settle();
        assert_eq!((work.inside(), work.begun().len()), (0, 2));
        assert_whole(&pool);
        let mut results = pool.imap(2.., work.job());
        assert_eq!(with_timeout(ms(1), move || results.next()), Err(Elapsed));
        settle();
        assert_eq!(work.inside(), 0);
        assert_whole(&pool);
    });
}

/// An item may drop the imap it belongs to, which ends itself.
#[test]
fn an_item_may_drop_its_imap() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let slot = Rc::new(RefCell::new(None::<Imap<()>>));
        let (own, said) = (slot.clone(), log.clone());
        let results = pool.imap(0..3, move |_| {
            drop(own.take());
            said.say("dropped");
            yield_now();
            said.say("survived");
        });
        *slot.borrow_mut() = Some(results);
        settle();
        log.assert_is(["dropped"]);
        assert_whole(&pool);
    });
}

/// So may its input.
#[test]
fn an_input_may_drop_its_imap() {
    within(MINUTE, || {
        let (pool, log) = (Pool::new(1), Log::new());
        let slot = Rc::new(RefCell::new(None::<Imap<()>>));
        let (own, pulled, began) = (slot.clone(), log.clone(), log.clone());
        let input = (0..3).inspect(move |_| {
            drop(own.take());
            pulled.say("pulled");
        });
        let results = pool.imap(input, move |_| began.say("began"));
        *slot.borrow_mut() = Some(results);
        settle();
        log.assert_is(["pulled"]);
        assert_whole(&pool);
    });
}

/// A leaked one is no danger: what has begun ends by itself, and gives its slots back.
#[test]
fn an_imap_may_be_leaked() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let results = pool.imap(0..100, work.job());
        settle();
        #[expect(clippy::mem_forget, reason = "that is the point")]
        std::mem::forget(results);
        work.open(0..100);
        pool.join();
        idle();
        assert!(work.begun().len() <= 4, "{:?}", work.begun());
        assert_eq!(work.inside(), 0);
        assert_whole(&pool);
    });
}

/// An iterator goes wherever it is sent: made here, read there.
#[test]
fn an_imap_may_be_read_by_another() {
    within(MINUTE, || {
        let pool = Pool::new(2);
        let results = pool.imap(0..10, yield_now_and);
        let reader = spawn(move || results.collect::<Vec<_>>());
        assert!(reader.get().unwrap().into_iter().eq(0..10));
        assert_whole(&pool);
    });
}

/// By an item, of its own pool, as long as there are slots; and nested in another's.
#[test]
fn imaps_may_be_nested() {
    within(MINUTE, || {
        let (outer, inner) = (Pool::new(2), Pool::new(2));
        let rows = outer.imap(1..=3, move |row| {
            inner.imap(1..=3, move |column| row * column).collect::<Vec<_>>()
        });
        assert_eq!(rows.collect::<Vec<_>>(), [[1, 2, 3], [2, 4, 6], [3, 6, 9]]);
        assert_whole(&outer);
    });
}

/// While a greenlet unwinds, `next` gives what is there and does not wait for more.
#[test]
fn next_while_a_greenlet_unwinds() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        work.open([0]);
        let mut results = pool.imap(0..2, work.job());
        settle();
        let log = Log::new();
        let said = log.clone();
        let unwinding = parked(spawn(move || {
            let _guard = at_drop(move || {
                said.say(format!("{:?} {:?}", results.next(), results.next()));
            });
            sleep(HOUR);
        }));
        unwinding.kill();
        log.assert_is(["Some(0) None"]);
        settle();
        assert_whole(&pool);
    });
}

/// The end of a thread ends maps and imaps, whoever waits for whom.
#[test]
fn a_thread_may_end_in_the_middle() {
    within(MINUTE, || {
        let (pool, work) = (Pool::new(2), Work::new());
        let (mapped, job) = (pool.clone(), work.job());
        let _mapping = parked(spawn(move || mapped.map(0..10, job)));
        let (mapped, job) = (pool.clone(), work.job());
        let _reading = parked(spawn(move || mapped.imap(0.., job).count()));
        let _unread = pool.imap_unordered(0.., work.job());
        settle();
    });
}
