//! Where a misuse panics is a line of the user's, not one of the crate's.
//!
//! It is the panic hook that is told of the place, and the hook is the process's: hence one test in
//! a binary of its own.

use std::cell::RefCell;
use std::panic;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use greenloom::raw::Coroutine;
use greenloom::{Greenlet, idle, spawn, wait_any};

#[test]
fn smoke() {
    let place = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&place);
    panic::set_hook(Box::new(move |info| {
        *seen.lock().unwrap() = info.location().unwrap().file().to_owned();
    }));
    let misuses: [fn(); 3] = [wait_for_nobody, be_ones_own_parent, wait_for_ever];
    for (number, misuse) in misuses.into_iter().enumerate() {
        place.lock().unwrap().clear();
        assert!(panic::catch_unwind(misuse).is_err(), "misuse {number}");
        assert_eq!(*place.lock().unwrap(), file!(), "misuse {number}");
    }
}

fn wait_for_nobody() {
    let nobody: [&Greenlet<()>; 0] = [];
    wait_any(nobody);
}

fn be_ones_own_parent() {
    let own = Coroutine::<()>::new(|()| ());
    own.set_parent(&own);
}

/// A greenlet that joins itself, and one that joins that.
fn wait_for_ever() {
    let own = Rc::new(RefCell::new(None::<Rc<Greenlet<()>>>));
    let seen = Rc::clone(&own);
    let greenlet = Rc::new(spawn(move || {
        let own = seen.borrow().clone();
        own.unwrap().join();
    }));
    *own.borrow_mut() = Some(Rc::clone(&greenlet));
    idle();
    greenlet.join();
}
