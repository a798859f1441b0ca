//! A `tracing` span stays with the greenlet that entered it, whoever runs meanwhile.
//!
//! The subscriber is the process's: one that is set for a scope belongs to the thread.

mod util;

use std::sync::Once;

use greenloom::raw::Coroutine;
use greenloom::{idle, joinall, sleep, spawn, with_timeout, yield_now};
use tracing::{Span, info_span};
use util::{HOUR, MINUTE, ms, within};

/// The name of the span that an event would be logged under now.
fn span_now() -> Option<&'static str> {
    Span::current().metadata().map(|span| span.name())
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let silent = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        tracing::subscriber::set_global_default(silent).unwrap();
    });
}

#[test]
fn smoke() {
    within(MINUTE, || {
        listen();
        let main = info_span!("main").entered();
        let other = spawn(|| {
            assert_eq!(span_now(), None, "what main has entered is main's");
            let _mine = info_span!("mine").entered();
            sleep(ms(1));
            assert_eq!(span_now(), Some("mine"));
        });
        sleep(ms(5));
        assert_eq!(span_now(), Some("main"));
        other.get().unwrap();
        drop(main);
        assert_eq!(span_now(), None);
    });
}

#[test]
fn nested_spans_come_back_in_order() {
    within(MINUTE, || {
        listen();
        let nest = |outer: &'static str| {
            move || {
                let _outer = if outer == "a" { info_span!("a") } else { info_span!("b") }.entered();
                let inner = info_span!("inner").entered();
                for _ in 0..3 {
                    yield_now();
                    assert_eq!(span_now(), Some("inner"));
                }
                drop(inner);
                yield_now();
                assert_eq!(span_now(), Some(outer));
            }
        };
        let both = [spawn(nest("a")), spawn(nest("b"))];
        joinall(&both);
        assert!(both.iter().all(|greenlet| greenlet.is_successful()));
        assert_eq!(span_now(), None);
    });
}

#[test]
fn a_kill_and_a_timeout_leave_no_span_behind() {
    within(MINUTE, || {
        listen();
        let _main = info_span!("main").entered();
        let killed = spawn(|| {
            let _span = info_span!("killed").entered();
            sleep(HOUR);
        });
        idle();
        killed.kill();
        assert_eq!(span_now(), Some("main"));
        let timed_out = with_timeout(ms(1), || {
            let _span = info_span!("timed out").entered();
            sleep(HOUR);
        });
        assert!(timed_out.is_err());
        assert_eq!(span_now(), Some("main"));
    });
}

#[test]
fn a_switch_by_hand_carries_spans_too() {
    within(MINUTE, || {
        listen();
        let _main = info_span!("main").entered();
        let coroutine = Coroutine::new(|n: u32| {
            let _span = info_span!("coroutine").entered();
            let parent = Coroutine::current().parent().unwrap();
            let n = parent.switch(n + 1);
            assert_eq!(span_now(), Some("coroutine"));
            n + 1
        });
        assert_eq!(coroutine.switch(1), 2);
        assert_eq!(span_now(), Some("main"));
        assert_eq!(coroutine.switch(5), 6);
        assert_eq!(span_now(), Some("main"));
    });
}
