//! `thread::park`, and with it the channels of std, in greenlets: many on one parker.

#![expect(unsafe_code, reason = "the use of the processor is asked of C")]
#![expect(clippy::disallowed_methods, reason = "patched, they let the others run")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use greenloom::{Elapsed, Greenlet, dump, idle, joinall, monkey, sleep, spawn, with_timeout};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

/// Greenlets that wait in the line of the parker.
fn parked() -> usize {
    dump().greenlets().iter().filter(|entry| entry.reason.as_deref() == Some("park")).count()
}

/// Receivers, each to be taken by a greenlet.
type Receivers<T> = RefCell<Vec<Option<Receiver<T>>>>;

fn channels<T>(count: usize) -> (Vec<Sender<T>>, Receivers<T>) {
    let (sends, receives): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel()).unzip();
    (sends, RefCell::new(receives.into_iter().map(Some).collect()))
}

/// Has some greenlets wait in the line for what never comes, but for now and then a spurious wake-up.
fn bystanders(count: usize) -> Rc<Cell<bool>> {
    let over = Rc::new(Cell::new(false));
    for _ in 0..count {
        let over = Rc::clone(&over);
        spawn(move || {
            while !over.get() {
                thread::park();
            }
        });
    }
    over
}

// ── the parker ──

alone! {
    /// An unpark by a greenlet of the thread is for all who are parked.
    fn an_unpark_by_the_same_thread() {
        monkey::patch_lock();
        let done = Rc::new(Cell::new(false));
        let (me, flag) = (thread::current(), Rc::clone(&done));
        let wait = move |n: usize| {
            while !done.get() {
                if n % 2 == 0 {
                    thread::park();
                } else {
                    thread::park_timeout(Duration::from_secs(1000));
                }
            }
        };
        overlapping(20, wait, move || {
            assert!(parked() > 0);
            flag.set(true);
            me.unpark();
        });
    }

    fn an_unpark_by_another_thread() {
        monkey::patch_lock();
        let done = Arc::new(AtomicBool::new(false));
        let (me, flag) = (thread::current(), Arc::clone(&done));
        let wait = move |_| {
            while !done.load(Ordering::SeqCst) {
                thread::park();
            }
        };
        overlapping(20, wait, move || {
            thread::spawn(move || {
                flag.store(true, Ordering::SeqCst);
                me.unpark();
            });
        });
    }

    /// Nobody who is asleep waits for being looked after.
    fn an_unpark_wakes_a_hub_that_sleeps() {
        monkey::patch_lock();
        let over = bystanders(3);
        let (send, receive) = mpsc::channel();
        let receiver = spawn(move || {
            let sent: Instant = receive.recv().unwrap();
            sent.elapsed()
        });
        let me = thread::current();
        let thread = thread::spawn(move || {
            thread::sleep(ms(1100)); // the next look after those who wait is in nearly a second
            send.send(Instant::now()).unwrap();
        });
        let took = receiver.get().unwrap();
        assert!(took < ms(200), "{took:?}");
        thread.join().unwrap();
        over.set(true);
        me.unpark();
    }

    /// What was given before is there; one is as good as many.
    fn a_token_is_kept() {
        monkey::patch_lock();
        spawn(|| {
            for _ in 0..3 {
                thread::park_timeout(Duration::ZERO);
            }
            thread::current().unpark();
            thread::current().unpark();
            thread::park();
            // One is one. (It may return for nothing, but not for ever.)
            let (begun, mut returns) = (Instant::now(), 0);
            while begun.elapsed() < ms(20) {
                thread::park_timeout(ms(20).saturating_sub(begun.elapsed()));
                returns += 1;
            }
            assert!(returns < 10, "{returns}");
        })
        .get()
        .unwrap();
        // Taken out of the word for another who waits, it is still there for who comes later.
        let over = bystanders(1);
        idle();
        let (me, went) = (thread::current(), Rc::new(Cell::new(false)));
        let late = {
            let went = Rc::clone(&went);
            spawn(move || {
                while !went.get() {
                    thread::park(); // its first, which may be for nothing
                    went.set(true);
                }
                me.unpark();
                sleep(ms(2)); // the hub looks
                thread::park();
            })
        };
        late.get().unwrap();
        over.set(true);
        thread::current().unpark();
        idle();
    }

    fn time_limits() {
        monkey::patch_lock();
        let over = bystanders(3);
        let begun = Instant::now();
        let greenlets: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|limit| {
                spawn(move || {
                    // park_timeout may return for nothing.
                    while begun.elapsed() < ms(limit) {
                        thread::park_timeout(ms(limit).saturating_sub(begun.elapsed()));
                    }
                    begun.elapsed()
                })
            })
            .collect();
        let times: Vec<_> =
            greenlets.into_iter().map(|greenlet| greenlet.get().unwrap()).collect();
        assert!(times[1] <= times[2] && times[2] <= times[0]);
        over.set(true);
        thread::current().unpark();
        idle();
        assert_eq!(parked(), 0);
    }

    /// Greenlets that unpark one another by one handle, and park in the same breath.
    fn ping_pong_on_one_parker() {
        monkey::patch_lock();
        let turn = Rc::new(Cell::new(0));
        let me = thread::current();
        let players: Vec<_> = (0..2)
            .map(|n| {
                let (turn, me) = (Rc::clone(&turn), me.clone());
                spawn(move || {
                    while turn.get() < 8 {
                        if turn.get() % 2 == n {
                            turn.set(turn.get() + 1);
                            me.unpark();
                        } else {
                            thread::park();
                        }
                    }
                })
            })
            .collect();
        joinall(&players);
        assert_eq!(turn.get(), 8);
    }

    fn scopes() {
        monkey::patch_all();
        let greenlets: Vec<_> = (0..10)
            .map(|n| {
                spawn(move || {
                    let mut squares = [0; 4];
                    thread::scope(|scope| {
                        for (i, square) in squares.iter_mut().enumerate() {
                            scope.spawn(move || *square = (n + i) * (n + i));
                        }
                    });
                    squares.into_iter().sum::<usize>()
                })
            })
            .collect();
        for (n, greenlet) in greenlets.into_iter().enumerate() {
            assert_eq!(greenlet.get().unwrap(), (n..n + 4).map(|i| i * i).sum::<usize>());
        }
    }

    /// A scope's end parks its greenlet, and not the thread.
    fn scopes_overlap() {
        monkey::patch_all();
        let gate = Arc::new(Barrier::new(11));
        let (a, b) = (Arc::clone(&gate), Arc::clone(&gate));
        overlapping(
            10,
            move |_| thread::scope(|scope| _ = scope.spawn(|| _ = a.wait())),
            move || _ = b.wait(),
        );
    }

    fn unpatched_and_outside_it_blocks() {
        fn check(patched: bool) {
            let thread = thread::spawn(move || {
                let ran = Rc::new(Cell::new(false));
                let other = {
                    let ran = Rc::clone(&ran);
                    spawn(move || ran.set(true))
                };
                thread::current().unpark();
                thread::park();
                let begun = Instant::now();
                while begun.elapsed() < ms(5) {
                    thread::park_timeout(ms(5).saturating_sub(begun.elapsed()));
                }
                // Is the other greenlet run while this one waits?
                assert_eq!(ran.get(), patched);
                other.get().unwrap();
            });
            thread.join().unwrap();
        }
        check(false);
        monkey::patch_all_except([monkey::Patch::Lock]);
        check(false);
        monkey::patch_lock();
        check(true);
        // Without a hub.
        let thread = thread::spawn(|| {
            thread::park();
            7
        });
        thread.thread().unpark();
        assert_eq!(thread.join().unwrap(), 7);
    }
}

// ── channels ──

alone! {
    fn channels_from_a_thread() {
        monkey::patch_lock();
        let (sends, receives) = channels(20);
        let results = overlapping(
            20,
            move |n| {
                let receive = receives.borrow_mut()[n].take().unwrap();
                match n % 2 {
                    0 => receive.recv().unwrap(),
                    _ => receive.recv_timeout(Duration::from_secs(1000)).unwrap(),
                }
            },
            || {
                thread::spawn(move || {
                    for (n, send) in sends.iter().enumerate() {
                        send.send(n).unwrap();
                    }
                });
            },
        );
        assert_eq!(results, (0..20).collect::<Vec<_>>());
    }

    /// Full, and with no room at all: the one who sends waits as well.
    fn bounded_channels_to_a_thread() {
        monkey::patch_lock();
        for room in [0, 1, 3] {
            let (send, receive) = mpsc::sync_channel(room);
            let thread = thread::spawn(move || receive.iter().sum::<usize>());
            let greenlets: Vec<_> = (0..10)
                .map(|n| {
                    let send = send.clone();
                    spawn(move || (0..50).for_each(|i| send.send(n * i).unwrap()))
                })
                .collect();
            drop(send);
            joinall(&greenlets);
            assert_eq!(thread.join().unwrap(), 45 * (49 * 50 / 2));
        }
    }

    fn disconnection_and_time_limits() {
        monkey::patch_lock();
        let (send, receive) = mpsc::channel::<()>();
        let over = bystanders(2);
        let limited = spawn(move || {
            assert_eq!(receive.recv_timeout(ms(5)), Err(RecvTimeoutError::Timeout));
            receive.recv()
        });
        sleep(ms(10));
        drop(send); // by a greenlet of the same thread
        assert!(limited.get().unwrap().is_err());
        over.set(true);
        thread::current().unpark();
        idle();
    }

    /// What std passes over, as `parker` says: who waits in the sender's own thread. A message is not
    /// lost, but nobody is woken for it.
    fn channels_within_one_thread() {
        monkey::patch_lock();
        let (send, receive) = mpsc::channel();
        let limited = spawn(move || (receive.recv_timeout(ms(30)), receive.recv(), receive.recv()));
        idle();
        send.send(1).unwrap();
        send.send(2).unwrap();
        sleep(ms(60)); // it has had its limit, and found both
        assert!(!limited.is_finished());
        send.send(3).unwrap();
        drop(send);
        assert_eq!(limited.get().unwrap(), (Ok(1), Ok(2), Ok(3)));
    }

    /// A kill ends no `recv`; it is raised after it.
    fn a_kill_waits_for_the_message() {
        monkey::patch_lock();
        let (send, receive) = mpsc::channel();
        let got = Rc::new(Cell::new(0));
        let victim = {
            let got = Rc::clone(&got);
            spawn(move || {
                got.set(receive.recv().unwrap());
                sleep(ms(0));
                got.set(0);
            })
        };
        idle();
        assert_eq!(parked(), 1);
        victim.kill_nowait();
        for _ in 0..3 {
            sleep(ms(3));
            idle();
            assert_eq!((parked(), got.get()), (1, 0));
        }
        thread::spawn(move || send.send(5).unwrap()).join().unwrap();
        assert!(victim.get().is_err());
        assert_eq!(got.get(), 5);
        // A timeout likewise; and a park of one's own is ended by it.
        let ended = with_timeout(ms(2), || {
            thread::park();
            thread::park();
            sleep(ms(60_000));
        });
        assert_eq!(ended, Err(Elapsed));
    }
}

// ── under load ──

/// Messages in all.
const ROUNDS: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

alone! {
    /// Greenlets of two threads and a plain thread, each with a channel of its own, send a number
    /// round a ring in which neighbours are of different threads.
    fn no_message_is_lost_in_a_ring() {
        monkey::patch_lock();
        const RING: usize = 6;
        let (sends, receives) = channels::<usize>(RING);
        let receives = receives.into_inner();
        let mut works: [Vec<Box<dyn FnOnce() + Send>>; 3] = Default::default();
        for (n, receive) in receives.into_iter().enumerate() {
            let (receive, send) = (receive.unwrap(), sends[(n + 1) % RING].clone());
            works[n % 3].push(Box::new(move || {
                while let Ok(left) = receive.recv() {
                    let _ = send.send(left.saturating_sub(1));
                    if left == 0 {
                        break;
                    }
                }
            }));
        }
        sends[0].send(ROUNDS / 20).unwrap();
        drop(sends);
        let [here, there, plain] = works;
        fn run(works: Vec<Box<dyn FnOnce() + Send>>) {
            let greenlets: Vec<_> = works.into_iter().map(spawn).collect();
            joinall(&greenlets);
        }
        let mut threads: Vec<_> = plain.into_iter().map(thread::spawn).collect();
        threads.push(thread::spawn(move || run(there)));
        run(here);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// Many greenlets of a thread that receive, with limits and without, and others that only park;
    /// two plain threads send as fast as they can, and then wait for an answer to each last one.
    fn no_message_is_lost_in_a_crowd() {
        monkey::patch_lock();
        const CROWD: usize = 8;
        let (sends, receives) = channels::<Option<usize>>(CROWD);
        let (answer, answers) = mpsc::channel();
        let over = bystanders(2);
        let greenlets: Vec<Greenlet<()>> = receives
            .into_inner()
            .into_iter()
            .enumerate()
            .map(|(n, receive)| {
                let (receive, answer) = (receive.unwrap(), answer.clone());
                spawn(move || {
                    loop {
                        let limit = Duration::from_micros(n as u64 * 50);
                        let message = match n % 3 {
                            0 => receive.recv().unwrap(),
                            1 => match receive.recv_timeout(limit) {
                                Ok(message) => message,
                                Err(_) => continue,
                            },
                            _ => receive.recv_timeout(Duration::from_secs(1000)).unwrap(),
                        };
                        match message {
                            Some(number) => answer.send((n, number)).unwrap(),
                            None => return,
                        }
                    }
                })
            })
            .collect();
        drop(answer);
        let plain = thread::spawn(move || {
            let mut sent = 0;
            let mut open = [0_usize; CROWD];
            for round in 0..ROUNDS / 10 {
                let to = round * 7 % CROWD;
                sends[to].send(Some(round)).unwrap();
                (sent, open[to]) = (sent + 1, open[to] + 1);
                // Now and then all of it has to come back before anything more is sent.
                if round % 5 == 0 || round + 1 == ROUNDS / 10 {
                    while sent > 0 {
                        let (from, _) = answers.recv().unwrap();
                        (sent, open[from]) = (sent - 1, open[from] - 1);
                    }
                }
            }
            sends.iter().for_each(|send| send.send(None).unwrap());
        });
        joinall(&greenlets);
        plain.join().unwrap();
        over.set(true);
        thread::current().unpark();
        idle();
    }

    /// One consumer beside a plain one, on a channel under load.
    fn a_channel_under_load() {
        monkey::patch_lock();
        let (send, receive) = mpsc::channel();
        let (back, backs) = mpsc::sync_channel(16);
        let plain = thread::spawn(move || {
            let mut sum = 0;
            for n in 0..ROUNDS {
                send.send(n).unwrap();
                if n % 8 == 0 {
                    sum += backs.recv().unwrap();
                }
            }
            drop(send);
            sum
        });
        let green = spawn(move || {
            let mut sum = 0;
            for n in receive {
                sum += n;
                if n % 8 == 0 {
                    back.send(n).unwrap();
                }
            }
            sum
        });
        let over = bystanders(3);
        assert_eq!(green.get().unwrap(), (0..ROUNDS).sum::<usize>());
        plain.join().unwrap();
        over.set(true);
        thread::current().unpark();
        idle();
    }

    /// Threads that do nothing but unpark; greenlets that do nothing but park. In the end each has
    /// seen each word of the others.
    fn no_unpark_is_lost() {
        monkey::patch_lock();
        const EACH: usize = 6;
        let words: Arc<Vec<AtomicUsize>> = Arc::new((0..EACH).map(|_| AtomicUsize::new(0)).collect());
        let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..EACH).map(|_| AtomicUsize::new(0)).collect());
        let rounds = ROUNDS / 50;
        let me: Thread = thread::current();
        let threads: Vec<_> = (0..2)
            .map(|half| {
                let (words, seen, me) = (Arc::clone(&words), Arc::clone(&seen), me.clone());
                thread::spawn(move || {
                    for round in 1..=rounds {
                        let mine = (0..EACH).filter(|n| n % 2 == half);
                        for n in mine.clone() {
                            words[n].store(round, Ordering::SeqCst);
                            me.unpark();
                        }
                        // Not further before all have seen it: else the next makes good what is lost.
                        for n in mine {
                            while seen[n].load(Ordering::SeqCst) < round {
                                thread::yield_now();
                            }
                        }
                    }
                })
            })
            .collect();
        let greenlets: Vec<_> = (0..EACH)
            .map(|n| {
                let (words, seen) = (Arc::clone(&words), Arc::clone(&seen));
                spawn(move || {
                    let mut last = 0;
                    while last < rounds {
                        match words[n].load(Ordering::SeqCst) {
                            word if word == last => match n % 3 {
                                0 => thread::park_timeout(Duration::from_secs(1000)),
                                _ => thread::park(),
                            },
                            word => {
                                last = word;
                                seen[n].store(word, Ordering::SeqCst);
                                if last % 5 == n {
                                    sleep(Duration::ZERO);
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        joinall(&greenlets);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// Who waits and hears nothing uses next to nothing of the processor.
    fn idle_is_idle() {
        monkey::patch_lock();
        let _over = bystanders(50);
        let (_send, receive) = mpsc::channel::<()>();
        spawn(move || receive.recv());
        idle();
        sleep(ms(50));
        let used = || {
            // SAFETY: all zeros are times, and then it writes some there.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: there is room for it.
            unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
            usage.ru_nvcsw
        };
        let before = used();
        sleep(ms(300));
        assert!(used() - before < 20, "it slept {} times", used() - before);
    }
}
