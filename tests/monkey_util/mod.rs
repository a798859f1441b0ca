//! What the tests of patched calls share. Patching is for a whole process, so each test has one.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file is a program of its own and uses a part of this"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "who watches a test is a thread of the system, and says what is wrong"
)]

use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use std::{env, panic, process, thread};

use greenloom::{Greenlet, dump, idle, joinall, spawn, yield_now};

/// `n` milliseconds.
pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Set in the process of a test.
const ALONE: &str = "GREENLOOM_TEST_ALONE";

/// A test whose body runs in a process of its own, of which it is the only test:
///
/// ```text
/// alone! {
///     /// What it shows.
///     fn name() { body }
/// }
/// ```
macro_rules! alone {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)+) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            crate::monkey_util::run_alone(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    )+ };
}
pub(crate) use alone;

/// Runs `body` if this is the process of that test, else starts that process and looks how it ends.
pub(crate) fn run_alone(path: &str, body: impl FnOnce()) {
    let (_, name) = path.split_once("::").expect("a path begins with the name of the program");
    if env::var_os(ALONE).is_some() {
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(60)); // this thread has no hub: it is the kernel's
            eprintln!("the test hangs");
            process::abort();
        });
        return body();
    }
    let child = Command::new(env::current_exe().expect("this program has a path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("the process starts");
    let (out, err) =
        (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{}\n{out}\n{err}", child.status);
    assert!(out.contains("1 passed"), "it ran no test of that name\n{out}");
}

/// `count` greenlets call `wait`; when all of them are inside, `end` ends their waits. Returns what
/// `wait` has returned to each.
///
/// # Panics
///
/// If one was through before the last had begun: then the first has held up the thread.
pub(crate) fn overlapping<T: 'static>(
    count: usize,
    wait: impl Fn(usize) -> T + 'static,
    end: impl FnOnce(),
) -> Vec<T> {
    let (begun, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let wait = Rc::new(wait);
    let greenlets: Vec<Greenlet<T>> = (0..count)
        .map(|n| {
            let (begun, ended, wait) = (Rc::clone(&begun), Rc::clone(&ended), Rc::clone(&wait));
            spawn(move || {
                begun.set(begun.get() + 1);
                let result = wait(n);
                assert_eq!(begun.get(), count, "it was through before all had begun");
                ended.set(ended.get() + 1);
                result
            })
        })
        .collect();
    while begun.get() < count {
        idle();
    }
    end();
    let results =
        greenlets.into_iter().map(|greenlet| greenlet.get().expect("it ends well")).collect();
    assert_eq!(ended.get(), count);
    results
}

/// Lets the others run until the main greenlet waits.
pub(crate) fn until_main_waits() {
    while dump().greenlets()[0].state != "parked" {
        yield_now();
    }
}
