//! Panics: they end one greenlet, are told to who asks, and touch nobody else.

mod util;

use std::cell::{Cell, RefCell};
use std::panic::{self, panic_any, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once};
use std::thread;

use greenloom::{
    Builder, Greenlet, Hub, JoinError, catch_interrupt, joinall, scope, shield, sleep, spawn,
    spawn_later, with_timeout, yield_now,
};
use util::{
    End, HOUR, Living, Log, MINUTE, at_drop, blocks_forever, end_of, message, ms, reports, settle,
    stuck, swallow, until, until_parked, within,
};

#[test]
fn smoke() {
    within(MINUTE, || {
        assert_eq!(end_of(spawn(|| panic!("boom"))), End::<()>::Panicked(String::from("boom")));
        assert_eq!(reports().len(), 1);
    });
}

// ------------------------------------------------------------- one alone is ended

#[test]
fn the_others_go_on() {
    within(MINUTE, || {
        let before = spawn(|| {
            sleep(ms(2));
            "before"
        });
        let panics = spawn(|| {
            sleep(ms(1));
            panic!("boom")
        });
        let after = spawn(|| {
            sleep(ms(2));
            "after"
        });
        assert_eq!(end_of(before), End::Value("before"));
        assert_eq!(end_of(after), End::Value("after"));
        assert_eq!(end_of::<()>(panics), End::Panicked(String::from("boom")));
        assert_eq!(end_of(spawn(|| "new")), End::Value("new"));
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn its_destructors_run() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        let panics = spawn(move || {
            let _outer = said.at_drop("outer");
            let _inner = said.at_drop("inner");
            panic!("boom");
        });
        panics.join();
        log.assert_is(["inner", "outer"]);
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn a_thousand_panics() {
    within(MINUTE, || {
        // Without the hook, which would write a thousand messages.
        let all: Vec<Greenlet<()>> =
            (0..1000).map(|n| spawn(move || resume_unwind(Box::new(n)))).collect();
        for (n, greenlet) in (0..).zip(all) {
            let payload = greenlet.get().unwrap_err().into_panic();
            assert_eq!(payload.downcast_ref::<i32>(), Some(&n));
        }
        assert_eq!(reports().len(), 1000);
    });
}

/// A panic that is caught where it happens is nobody's business.
#[test]
fn a_caught_panic_is_no_end() {
    within(MINUTE, || {
        let greenlet = spawn(|| {
            let caught = swallow(|| {
                sleep(ms(1));
                panic!("boom")
            });
            sleep(ms(1));
            message(caught.unwrap_err().as_ref())
        });
        assert_eq!(greenlet.get().unwrap(), "boom");
        assert_eq!(reports(), []);
    });
}

/// Frames of `catch_unwind` of several greenlets are open at a time, and close out of order.
#[test]
fn each_catches_its_own() {
    within(MINUTE, || {
        let all: Vec<_> = (0..20)
            .map(|n| {
                spawn(move || {
                    let caught = swallow(|| {
                        for _ in 0..n % 7 {
                            yield_now();
                        }
                        let inner = swallow(|| {
                            sleep(ms(n % 3));
                            panic_any(n);
                        });
                        yield_now();
                        resume_unwind(inner.unwrap_err());
                    });
                    *caught.unwrap_err().downcast::<u64>().unwrap()
                })
            })
            .collect();
        for (n, greenlet) in (0..).zip(all) {
            assert_eq!(greenlet.get().unwrap(), n);
        }
    });
}

#[test]
fn a_panic_in_main_is_mains() {
    within(MINUTE, || {
        let greenlet = spawn(|| {
            sleep(ms(2));
            7
        });
        let caught = swallow(|| {
            sleep(ms(1));
            panic!("boom");
        });
        assert_eq!(message(caught.unwrap_err().as_ref()), "boom");
        assert_eq!(greenlet.get().unwrap(), 7);
        assert_eq!(reports(), []);
    });
}

#[test]
fn a_panic_leaves_a_with_timeout_a_shield_and_a_catch_interrupt() {
    within(MINUTE, || {
        let greenlet = spawn(|| {
            let _ = with_timeout(HOUR, || shield(|| catch_interrupt(|| panic!("boom"))));
        });
        assert_eq!(end_of(greenlet), End::Panicked(String::from("boom")));
        assert_eq!(reports().len(), 1);
        // None of the three is still in force.
        let stuck = stuck();
        blocks_forever(|| stuck.join());
    });
}

// ----------------------------------------------------------------- what get returns

#[test]
fn get_returns_the_payload() {
    #[derive(Debug, PartialEq)]
    struct Custom(u32);
    within(MINUTE, || {
        let payload = |greenlet: Greenlet<()>| greenlet.get().unwrap_err().into_panic();
        let literal = payload(spawn(|| panic!("literal")));
        assert_eq!(literal.downcast_ref::<&str>(), Some(&"literal"));
        let formatted = payload(spawn(|| panic!("{}", "formatted")));
        assert_eq!(message(formatted.as_ref()), "formatted");
        let custom = payload(spawn(|| panic_any(Custom(7))));
        assert_eq!(custom.downcast_ref::<Custom>(), Some(&Custom(7)));
        assert_eq!(reports().len(), 3);
    });
}

#[test]
fn the_payload_can_be_raised_again() {
    within(MINUTE, || {
        let inner = spawn(|| panic!("boom"));
        let outer = spawn(move || {
            if let Err(JoinError::Panicked(payload)) = inner.get() {
                resume_unwind(payload);
            }
        });
        assert_eq!(end_of(outer), End::Panicked(String::from("boom")));
        assert_eq!(reports().len(), 2);
    });
}

#[test]
fn a_join_error_speaks() {
    within(MINUTE, || {
        let panicked = spawn(|| panic!("boom")).get().map(|()| 7).unwrap_err();
        assert!(panicked.is_panic());
        assert!(!panicked.is_killed());
        assert!(panicked.to_string().contains("boom"), "{panicked}");
        assert!(format!("{panicked:?}").contains("boom"), "{panicked:?}");

        let victim = spawn(|| sleep(HOUR));
        until_parked(victim.id());
        victim.kill();
        let killed: Box<dyn std::error::Error> = Box::new(victim.get().unwrap_err());
        assert!(killed.to_string().contains("killed"), "{killed}");
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn a_kill_has_no_payload() {
    within(MINUTE, || {
        let victim = spawn_later(HOUR, || ());
        victim.kill();
        let error = victim.get().unwrap_err();
        assert!(swallow(|| error.into_panic()).is_err());
    });
}

// ------------------------------------------------------------------- the error hook

#[test]
fn the_hook_is_told_who_and_where_and_what() {
    within(MINUTE, || {
        let told = Rc::new(RefCell::new(Vec::new()));
        let tell = told.clone();
        Hub::current().on_error(move |error| tell.borrow_mut().push(error.clone()));
        let line = line!() + 1;
        let greenlet = Builder::new().name("worker").spawn(|| panic!("boom")).unwrap();
        greenlet.join();
        let told = told.borrow();
        let [error] = &told[..] else { panic!("told {} times", told.len()) };
        assert_eq!(error.name(), "worker");
        assert!(error.spawned_at().contains(&format!("panics.rs:{line}:")), "{error}");
        assert_eq!(error.what(), "panicked");
        assert_eq!(error.message(), "boom");
        let text = error.to_string();
        for part in ["worker", "panics.rs", "boom"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(end_of::<()>(greenlet), End::Panicked(String::from("boom")));
    });
}

/// H11: it is told of a panic even if nobody holds the handle, and when somebody does.
#[test]
fn the_hook_is_told_of_every_panic() {
    within(MINUTE, || {
        spawn(|| panic!("detached"));
        let held = spawn(|| panic!("held"));
        held.join();
        let texts: Vec<_> = reports().into_iter().map(|report| report.text).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts.iter().any(|text| text.contains("detached")), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("held")), "{texts:?}");
        assert_eq!(end_of::<()>(held), End::Panicked(String::from("held")));
        assert_eq!(reports(), [], "once is enough");
    });
}

#[test]
fn the_last_hook_counts() {
    within(MINUTE, || {
        let log = Log::new();
        for name in ["first", "second"] {
            let log = log.clone();
            Hub::current().on_error(move |_| log.say(name));
        }
        spawn(|| panic!("boom")).join();
        log.assert_is(["second"]);
        assert_eq!(reports(), []);
    });
}

/// H10: a hook that fails itself harms neither the hub nor what it was told.
#[test]
fn a_hook_that_panics_harms_nobody() {
    within(MINUTE, || {
        Hub::current().on_error(|_| panic!("hook"));
        let greenlet = spawn(|| panic!("body"));
        let other = spawn(|| 7);
        assert_eq!(end_of::<()>(greenlet), End::Panicked(String::from("body")));
        assert_eq!(end_of(other), End::Value(7));
        sleep(ms(1));
    });
}

#[test]
fn a_hook_may_use_the_hub() {
    within(MINUTE, || {
        let log = Log::new();
        let said = log.clone();
        Hub::current().on_error(move |error| {
            let (log, name) = (said.clone(), error.name().to_owned());
            spawn(move || {
                sleep(ms(1));
                log.say(name);
            });
            let _ = greenloom::dump().to_string();
        });
        Builder::new().name("failed").spawn(|| panic!("boom")).unwrap().join();
        until(|| log.len() == 1);
        log.assert_is(["failed"]);
    });
}

/// A hook may replace itself while it runs.
#[test]
fn a_hook_may_be_changed_by_a_hook() {
    within(MINUTE, || {
        let log = Log::new();
        let (first, second) = (log.clone(), log.clone());
        Hub::current().on_error(move |_| {
            first.say("first");
            let second = second.clone();
            Hub::current().on_error(move |_| second.say("second"));
        });
        joinall([spawn(|| panic!("one")), spawn(|| panic!("two"))]);
        log.assert_is(["first", "second"]);
    });
}

// ----------------------------------------------------------------- the panic hook

/// What the process's panic hook has been called with, and in which thread.
static PRINTED: Mutex<Vec<(thread::ThreadId, String)>> = Mutex::new(Vec::new());

/// What the panic hook was called with in this thread while `f` ran.
fn printed_during(f: impl FnOnce()) -> Vec<String> {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let line = (thread::current().id(), message(info.payload()));
            PRINTED.lock().unwrap().push(line);
            usual(info);
        }));
    });
    f();
    let me = thread::current().id();
    let printed = PRINTED.lock().unwrap();
    printed.iter().filter(|(thread, _)| *thread == me).map(|(_, text)| text.clone()).collect()
}

#[test]
fn a_panic_prints_as_panics_do() {
    within(MINUTE, || {
        let printed = printed_during(|| {
            let greenlet = spawn(|| panic!("for all to see"));
            greenlet.join();
            assert_eq!(end_of::<()>(greenlet), End::Panicked(String::from("for all to see")));
        });
        assert_eq!(printed, ["for all to see"]);
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn kills_and_timeouts_print_nothing() {
    within(MINUTE, || {
        let printed = printed_during(|| {
            let victim = spawn(|| sleep(HOUR));
            until_parked(victim.id());
            victim.kill();
            let unborn = spawn(|| ());
            unborn.kill();
            assert!(with_timeout(ms(1), || sleep(HOUR)).is_err());
            let resumes = spawn(|| {
                if let Err(interrupt) = catch_interrupt(|| sleep(HOUR)) {
                    interrupt.resume();
                }
            });
            until_parked(resumes.id());
            resumes.kill();
        });
        assert_eq!(printed, Vec::<String>::new());
        assert_eq!(reports(), []);
    });
}

// ------------------------------------------------- what an unwind must not touch

/// Makes a greenlet unwind, by a panic and by a kill, through a destructor that would like to wait,
/// while `stranger` runs and waits in another one, again and again.
fn amid_unwinds(stranger: impl Fn() + 'static) {
    let done = Rc::new(Cell::new(false));
    let bystander = {
        let done = done.clone();
        spawn(move || {
            until(|| {
                stranger();
                done.get()
            });
        })
    };
    let wishes_to_wait = || {
        at_drop(|| {
            yield_now();
            sleep(ms(1));
            spawn(|| sleep(ms(1))).join();
        })
    };
    for _ in 0..10 {
        let panics = spawn(move || {
            let _guard = wishes_to_wait();
            sleep(ms(1));
            resume_unwind(Box::new("boom"));
        });
        let victim = spawn(move || {
            let _guard = wishes_to_wait();
            sleep(HOUR);
        });
        until_parked(victim.id());
        victim.kill();
        panics.join();
        let late = with_timeout(ms(1), || {
            let _guard = wishes_to_wait();
            sleep(HOUR);
        });
        assert!(late.is_err());
    }
    done.set(true);
    bystander.get().unwrap();
    assert_eq!(reports().len(), 10);
}

/// `thread::panicking` is of the thread, so an unwind must be over before another has its turn.
#[test]
fn nobody_else_is_panicking() {
    within(MINUTE, || amid_unwinds(|| assert!(!thread::panicking())));
}

/// For whoever gives back a lock of std's while `panicking` is true, poisons it.
#[test]
fn the_mutex_of_a_stranger_is_not_poisoned() {
    within(MINUTE, || {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.clone();
        amid_unwinds(move || {
            let mut count = held.lock().unwrap();
            *count += 1;
            yield_now();
            *count += 1;
        });
        assert!(!mutex.is_poisoned());
        assert!(*mutex.lock().unwrap() > 0);
    });
}

/// std's own rule holds for who unwinds himself.
#[test]
fn a_mutex_held_by_one_that_unwinds_is_poisoned() {
    within(MINUTE, || {
        let mutex = Arc::new(Mutex::new(()));
        let held = mutex.clone();
        let victim = spawn(move || {
            let _held = held.lock().unwrap();
            sleep(HOUR);
        });
        until_parked(victim.id());
        victim.kill();
        assert!(mutex.is_poisoned());
    });
}

#[test]
fn nobody_is_panicking_afterwards() {
    within(MINUTE, || {
        spawn(|| panic!("boom")).join();
        assert!(!thread::panicking());
        assert!(!spawn(thread::panicking).get().unwrap());
        assert_eq!(reports().len(), 1);
    });
}

// -------------------------------------------------------------- awkward destructors

/// What a closure holds may panic when it is dropped, also when the closure never ran.
#[test]
fn a_closure_that_panics_when_dropped_unrun() {
    within(MINUTE, || {
        let guard = at_drop(|| panic!("dropped"));
        let greenlet = spawn(move || drop(guard));
        let raised = swallow(|| greenlet.kill_nowait());
        // Raised in the killer or reported: but the greenlet is dead and the hub is well.
        assert_eq!(raised.is_ok(), reports().len() == 1);
        assert!(greenlet.is_finished());
        assert_eq!(end_of(spawn(|| 7)), End::Value(7));
    });
}

/// As may the value that nobody took.
#[test]
fn a_value_that_panics_when_dropped() {
    within(MINUTE, || {
        let living = Living::new();
        let token = living.token();
        let greenlet = spawn(move || (token, at_drop(|| panic!("dropped"))));
        greenlet.join();
        assert!(swallow(|| drop(greenlet)).is_err(), "it is dropped here");
        assert_eq!(living.count(), 0);

        // Here nobody holds the handle, so it is dropped on the greenlet's own way out.
        spawn(|| at_drop(|| panic!("dropped too")));
        settle();
        assert_eq!(reports().len(), 1);
        assert_eq!(end_of(spawn(|| 7)), End::Value(7));
    });
}

// ---------------------------------------------------------------------- scopes

#[test]
fn a_panic_in_a_scope_is_raised_when_all_have_ended() {
    within(MINUTE, || {
        let log = Log::new();
        let panic = swallow(|| {
            scope(|s| {
                s.spawn(|| panic!("boom"));
                s.spawn(|| {
                    sleep(ms(2));
                    log.say("the other one ended");
                });
            });
        });
        assert!(panic.is_err());
        log.assert_is(["the other one ended"]);
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn a_panic_that_was_taken_is_not_raised() {
    within(MINUTE, || {
        let error = scope(|s| s.spawn(|| panic!("boom")).get().map(|()| 7).unwrap_err());
        assert_eq!(message(error.into_panic().as_ref()), "boom");
        assert_eq!(reports().len(), 1);
    });
}

#[test]
fn a_panic_of_the_body_ends_the_children() {
    within(MINUTE, || {
        let log = Log::new();
        let panic = swallow(|| {
            scope(|s| {
                s.spawn(|| {
                    log.say("child began");
                    let _guard = log.at_drop("child ended");
                    sleep(HOUR);
                });
                until(|| log.has("child began"));
                panic!("body");
            })
        });
        assert_eq!(message(panic.unwrap_err().as_ref()), "body");
        log.assert_is(["child began", "child ended"]);
    });
}
