//! Hubs and threads: each thread has its own hub, `Remote` is the one door between them, and a
//! thread that ends takes its greenlets with it.

mod net_util;

use std::cell::{OnceCell, RefCell};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use std::{process, thread};

use greenloom::net::{TcpListener, TcpStream};
use greenloom::raw::Coroutine;
use greenloom::{
    BlocksForever, Builder, Greenlet, Hub, current, joinall, scope, shield, sleep, spawn,
    spawn_later, yield_now,
};
use net_util::{
    blocked_for_ever, eventually, finish, hang_guard, in_child, is_child, our_pair, parked_for,
    stderr_of, this_thread, until, until_asleep, until_parked,
};

const FOR_EVER: Duration = Duration::from_secs(3_600);

/// A greenlet that sleeps until [`wake`] ends it.
fn sleeper() -> Rc<Greenlet<()>> {
    let sleeper = Rc::new(spawn(|| sleep(FOR_EVER)));
    SLEEPER.with(|slot| slot.set(Rc::clone(&sleeper)).expect("one sleeper a thread"));
    sleeper
}

/// Ends the sleeper of the thread on whose hub this runs.
fn wake() {
    SLEEPER.with(|slot| slot.get().expect("this thread has a sleeper").kill_nowait());
}

thread_local! {
    static SLEEPER: OnceCell<Rc<Greenlet<()>>> = const { OnceCell::new() };
}

fn bump(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let remote = Hub::current().remote();
    let sleeper = sleeper();
    let foreign = thread::spawn(move || remote.spawn(wake));
    sleeper.join();
    finish(foreign).unwrap();
}

// ── Two hubs ──

#[test]
fn hubs_of_two_threads_know_nothing_of_each_other() {
    let _guard = hang_guard();
    let run = |mine: u64| {
        move || {
            let greenlets: Vec<_> = (0..100)
                .map(|n| {
                    spawn(move || {
                        yield_now();
                        mine + n
                    })
                })
                .collect();
            joinall(&greenlets);
            let sum: u64 = greenlets.into_iter().map(|greenlet| greenlet.get().unwrap()).sum();
            (sum, current().is_main(), greenloom::dump().greenlets().len())
        }
    };
    let threads = [thread::spawn(run(0)), thread::spawn(run(1_000))];
    let results = threads.map(|thread| thread.join().unwrap());
    assert_eq!(results.map(|result| result.0), [4_950, 104_950]);
    assert!(results.iter().all(|&(_, is_main, _)| is_main));
    assert_eq!(results[0].2, results[1].2);
}

#[test]
fn hubs_talk_over_sockets() {
    let _guard = hang_guard();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let other = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let (mut stream, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut stream, b"across").unwrap();
    drop(stream);
    assert_eq!(finish(other), "across");
}

// ── Remote ──

#[test]
fn a_remote_spawn_wakes_a_hub_that_sleeps() {
    let _guard = hang_guard();
    let this = this_thread();
    let remote = Hub::current().remote();
    let sleeper = sleeper();
    let foreign = thread::spawn(move || {
        for _ in 0..100 {
            until_asleep(&this);
            let (answer, answered) = mpsc::channel();
            remote.spawn(move || answer.send(()).unwrap()).unwrap();
            answered.recv().unwrap();
        }
        remote.spawn(wake).unwrap();
    });
    sleeper.join();
    finish(foreign);
}

#[test]
fn what_is_spawned_from_afar_is_a_greenlet_like_any_other() {
    let _guard = hang_guard();
    let remote = Hub::current().remote();
    let sleeper = sleeper();
    let here = thread::current().id();
    let foreign = thread::spawn(move || {
        remote.spawn(move || {
            assert_eq!(thread::current().id(), here);
            assert!(!current().is_main());
            // It may wait, and start others.
            let child = spawn(|| sleep(Duration::from_millis(5)));
            child.join();
            wake();
        })
    });
    sleeper.join();
    finish(foreign).unwrap();
}

#[test]
fn nothing_spawned_from_many_threads_is_lost() {
    let _guard = hang_guard();
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let remote = Hub::current().remote();
    let count = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (remote, count) = (remote.clone(), Arc::clone(&count));
            thread::spawn(move || {
                for _ in 0..EACH {
                    let count = Arc::clone(&count);
                    remote.spawn(move || bump(&count)).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(finish);
    eventually(|| count.load(Ordering::SeqCst) == THREADS * EACH);
}

#[test]
#[cfg(not(hard_switch))] // which shuffles what becomes ready together
fn what_one_thread_spawns_runs_in_its_order() {
    let _guard = hang_guard();
    let remote = Hub::current().remote();
    let (tell, told) = mpsc::channel();
    let foreign = thread::spawn(move || {
        for n in 0..100 {
            let tell = tell.clone();
            remote.spawn(move || tell.send(n).unwrap()).unwrap();
        }
    });
    finish(foreign);
    let mut order = Vec::new();
    eventually(|| {
        order.extend(told.try_iter());
        order.len() == 100
    });
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_remote_works_from_its_own_thread_too() {
    let _guard = hang_guard();
    let (tell, told) = mpsc::channel();
    Hub::current().remote().spawn(move || tell.send("here").unwrap()).unwrap();
    let mut heard = None;
    eventually(|| {
        heard = told.try_recv().ok();
        heard.is_some()
    });
    assert_eq!(heard, Some("here"));
}

#[test]
fn a_live_remote_may_wake_and_the_last_one_dropped_may_not() {
    // H13: somebody who may still call is no deadlock; when nobody can any more, it is one.
    let _guard = hang_guard();
    let this = this_thread();
    let blocked = blocked_for_ever();
    let remote = Hub::current().remote();
    let other = remote.clone();
    let (tell, told) = mpsc::channel();
    let foreign = thread::spawn(move || {
        until_asleep(&this);
        drop(remote);
        // The second still counts: what it sends is run.
        until_asleep(&this);
        other.spawn(move || tell.send("still open").unwrap()).unwrap();
        assert_eq!(told.recv().unwrap(), "still open");
        until_asleep(&this);
        drop(other);
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| blocked.join()));
    assert!(outcome.unwrap_err().is::<BlocksForever>());
    finish(foreign);
}

#[test]
fn a_remote_of_a_hub_that_has_ended_says_so() {
    let _guard = hang_guard();
    let ended = thread::spawn(|| {
        spawn(|| ()).join();
        Hub::current().remote()
    });
    let remote = finish(ended);
    let inside = Arc::new(());
    let kept = Arc::clone(&inside);
    assert!(remote.spawn(move || drop(kept)).is_err());
    assert_eq!(Arc::strong_count(&inside), 1, "the closure is dropped here");
}

#[test]
fn what_was_spawned_too_late_to_run_is_dropped_with_the_hub() {
    let _guard = hang_guard();
    let ran = Arc::new(AtomicUsize::new(0));
    let in_closure = Arc::clone(&ran);
    let thread = thread::spawn(move || {
        let remote = Hub::current().remote();
        // The thread ends without ever waiting.
        remote.spawn(move || bump(&in_closure))
    });
    finish(thread).unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&ran), 1);
}

// ── A thread ends while greenlets live ──

/// Tells over a channel, because the thread is gone when one looks, that it was dropped.
struct Note(Sender<&'static str>, &'static str);

impl Drop for Note {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

/// Runs `body` on a thread that ends with it; what the notes it made said, in order.
fn notes_of_a_thread(body: fn(&dyn Fn(&'static str) -> Note)) -> Vec<&'static str> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || body(&|text| Note(tell.clone(), text)));
    finish(thread);
    told.try_iter().collect()
}

#[test]
fn parked_greenlets_are_unwound() {
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let inner = note("inner");
        let outer = note("outer");
        let greenlet = spawn(move || {
            let _outer = outer;
            let _inner = inner;
            sleep(FOR_EVER);
        });
        until_parked(&greenlet);
    });
    assert_eq!(notes, ["inner", "outer"]);
}

#[test]
fn ready_greenlets_are_unwound() {
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let (held, after) = (note("unwound"), note("closure"));
        let greenlet = spawn(move || {
            let _after = after;
            let _held = held;
            loop {
                yield_now();
            }
        });
        until(|| greenlet.is_started());
    });
    assert_eq!(notes, ["unwound", "closure"]);
}

#[test]
fn unstarted_greenlets_are_dropped_and_never_run() {
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let (dropped, ran) = (note("dropped"), note("ran"));
        drop(spawn(move || {
            let _dropped = dropped;
            drop(ran);
            sleep(FOR_EVER);
        }));
    });
    // Fields drop in the order of capture; had it run, "ran" would come first.
    assert_eq!(notes, ["dropped", "ran"]);
}

#[test]
fn later_greenlets_are_dropped_and_never_run() {
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let dropped = note("dropped");
        drop(spawn_later(FOR_EVER, move || drop(dropped)));
        yield_now();
    });
    assert_eq!(notes, ["dropped"]);
}

#[test]
fn scopes_are_unwound_children_first() {
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let (owner, first, second) = (note("owner"), note("child"), note("child"));
        let _owner = spawn(move || {
            let borrowed = owner;
            scope(|s| {
                for held in [first, second] {
                    let borrowed = &borrowed;
                    s.spawn(move || {
                        let _held = (held, borrowed);
                        sleep(FOR_EVER);
                    });
                }
            });
        });
        until(|| parked_for("sleep") == 2);
    });
    assert_eq!(notes, ["child", "child", "owner"]);
}

#[test]
fn shielded_greenlets_are_unwound() {
    // There is nobody left to wait for: their waits end at once, and then the kill is raised.
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let held = note("unwound");
        let greenlet = spawn(move || {
            let _held = held;
            shield(|| sleep(FOR_EVER));
            sleep(FOR_EVER);
        });
        until_parked(&greenlet);
    });
    assert_eq!(notes, ["unwound"]);
}

#[test]
fn a_greenlet_that_refuses_every_kill_is_leaked_and_the_thread_still_ends() {
    let _guard = hang_guard();
    let notes = notes_of_a_thread(|note| {
        let (never, other) = (note("dropped under a living stack"), note("other unwound"));
        let stubborn = spawn(move || {
            let _never = never;
            loop {
                let _refused = catch_unwind(AssertUnwindSafe(|| sleep(FOR_EVER)));
            }
        });
        let obedient = spawn(move || {
            let _other = other;
            sleep(FOR_EVER);
        });
        until_parked(&stubborn);
        until_parked(&obedient);
    });
    assert_eq!(notes, ["other unwound"]);
}

#[test]
fn greenlets_on_sockets_are_unwound_and_the_peer_sees_the_end() {
    let _guard = hang_guard();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let reader = spawn(move || stream.read(&mut [0]).unwrap());
        until_parked(&reader);
    });
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    finish(thread);
}

#[test]
fn destructors_may_spawn_and_wait_while_the_thread_ends() {
    let _guard = hang_guard();
    struct Busy {
        _note: Note,
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            let _started_too_late = spawn(|| sleep(FOR_EVER));
            sleep(FOR_EVER);
            yield_now();
        }
    }
    let notes = notes_of_a_thread(|note| {
        let busy = Busy { _note: note("busy") };
        let greenlet = spawn(move || {
            let _busy = busy;
            sleep(FOR_EVER);
        });
        until_parked(&greenlet);
    });
    assert_eq!(notes, ["busy"]);
}

/// Everything a thread may keep past its hub.
#[derive(Default)]
struct Kept {
    greenlets: Vec<Greenlet<()>>,
    sockets: Vec<TcpStream>,
    coroutines: Vec<Coroutine<()>>,
    hubs: Vec<Hub>,
}

impl Kept {
    fn fill(&mut self) {
        let finished = spawn(|| ());
        finished.join();
        let parked = spawn(|| sleep(FOR_EVER));
        until_parked(&parked);
        self.greenlets.extend([finished, parked, spawn(|| ())]);
        let (ours, theirs) = our_pair();
        self.sockets.extend([ours, theirs]);
        let suspended = Coroutine::new(|(): ()| {
            Coroutine::<()>::current().parent().expect("it was made by main").switch(());
        });
        suspended.switch(());
        self.coroutines.extend([suspended, Coroutine::new(|(): ()| ())]);
        self.hubs.push(Hub::current());
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

#[test]
fn handles_that_outlive_their_hub_do_nothing() {
    let _guard = hang_guard();
    // Thread-locals are dropped last made first: once before the hub and once after it.
    let made_before_the_hub = || KEPT.with_borrow_mut(Kept::fill);
    let made_after_the_hub = || {
        spawn(|| ()).join();
        KEPT.with_borrow_mut(Kept::fill);
    };
    finish(thread::spawn(made_before_the_hub));
    finish(thread::spawn(made_after_the_hub));
}

#[test]
fn many_threads_come_and_go() {
    let _guard = hang_guard();
    let dropped = Arc::new(AtomicUsize::new(0));
    /// Counts instead of noting: there are many.
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            bump(&self.0);
        }
    }
    for _ in 0..20 {
        let dropped = Arc::clone(&dropped);
        finish(thread::spawn(move || {
            for _ in 0..20 {
                let count = Count(Arc::clone(&dropped));
                drop(spawn(move || {
                    let _count = count;
                    sleep(FOR_EVER);
                }));
            }
            until(|| parked_for("sleep") == 20);
        }));
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 400);
}

// ── A process ends while greenlets live ──

#[test]
#[ignore = "run by exit_from_inside_a_greenlet_ends_the_process in a process of its own"]
fn child_exits_from_inside_a_greenlet() {
    if is_child() {
        let _parked = spawn(|| sleep(FOR_EVER));
        let exiting = spawn(|| {
            yield_now();
            process::exit(7)
        });
        exiting.join();
    }
}

#[test]
fn exit_from_inside_a_greenlet_ends_the_process() {
    let _guard = hang_guard();
    let child = in_child("child_exits_from_inside_a_greenlet");
    assert_eq!(child.status.code(), Some(7), "{}", stderr_of(&child));
    assert_eq!(stderr_of(&child), "");
}

#[test]
#[ignore = "run by a_panic_in_main_unwinds_the_others_and_fails in a process of its own"]
fn child_panics_in_main() {
    if is_child() {
        struct Farewell(&'static str);
        impl Drop for Farewell {
            fn drop(&mut self) {
                let _ = std::io::Write::write_all(&mut std::io::stderr(), self.0.as_bytes());
            }
        }
        let parked = spawn(|| {
            let _farewell = Farewell("parked unwound\n");
            sleep(FOR_EVER);
        });
        until_parked(&parked);
        let _farewell = Farewell("main unwound\n");
        let _unstarted = Builder::new().name("unstarted").spawn(|| ()).unwrap();
        panic!("in main, on purpose");
    }
}

#[test]
fn a_panic_in_main_unwinds_the_others_and_fails() {
    let _guard = hang_guard();
    let child = in_child("child_panics_in_main");
    let stderr = stderr_of(&child);
    // 101 is what a panic makes of the exit code; an abort would be a signal.
    assert_eq!(child.status.code(), Some(101), "{stderr}");
    let position = |text: &str| stderr.find(text).unwrap_or_else(|| panic!("{text}: {stderr}"));
    assert!(position("in main, on purpose") < position("main unwound"));
    assert!(position("main unwound") < position("parked unwound"));
}

/// X1: what gevent says at run time, the compiler says. Were one of these `Send`, two impls would
/// fit and this would not compile.
#[test]
fn everything_but_a_remote_is_local_to_its_thread() {
    trait NotIfSend<Which> {
        fn is_local() {}
    }
    impl<T: ?Sized> NotIfSend<()> for T {}
    impl<T: ?Sized + Send> NotIfSend<u8> for T {}

    <greenloom::Greenlet<()> as NotIfSend<_>>::is_local();
    <greenloom::ScopedGreenlet<'_, ()> as NotIfSend<_>>::is_local();
    <greenloom::Scope<'_, '_> as NotIfSend<_>>::is_local();
    <greenloom::Current as NotIfSend<_>>::is_local();
    <greenloom::Timeout as NotIfSend<_>>::is_local();
    <greenloom::Interrupt as NotIfSend<_>>::is_local();
    <greenloom::Iwait<greenloom::Greenlet<()>> as NotIfSend<_>>::is_local();
    <greenloom::Hub as NotIfSend<_>>::is_local();
    <greenloom::raw::Coroutine<()> as NotIfSend<_>>::is_local();
    <greenloom::net::TcpStream as NotIfSend<_>>::is_local();
    <greenloom::net::TcpListener as NotIfSend<_>>::is_local();
    <greenloom::net::Incoming<'_> as NotIfSend<_>>::is_local();

    fn travels<T: Send + Sync + Clone>() {}
    travels::<greenloom::Remote>();
}
