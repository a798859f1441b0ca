//! What a stack that is too small looks like: one line that says whose it was, how large, and how
//! to get a larger one, and an abort. And whatever is no overflow of a greenlet stays std's.
//!
//! Each case dies, so each runs in a process of its own: an ignored test of this very binary.

mod net_util;

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Output};
use std::thread;

use greenloom::raw::Coroutine;
use greenloom::{Builder, spawn, yield_now};
use net_util::{hang_guard, in_child, is_child, stderr_of};

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

/// Uses more stack than there is, a little at a time.
#[inline(never)]
fn dig(depth: usize) -> usize {
    let frame = black_box([depth; 64]);
    if depth == usize::MAX { 0 } else { dig(black_box(depth + 1)) + frame[depth % 64] }
}

/// Uses more stack than there is in one step, further than any guard is wide.
#[inline(never)]
fn leap() -> u8 {
    let frame = black_box([1_u8; 1 << 20]);
    frame[black_box(frame.len() / 2)]
}

fn spin() {
    loop {
        yield_now();
    }
}

/// The one line that a child which overflowed a greenlet's stack leaves behind.
fn report_of(child: &Output) -> String {
    let stderr = stderr_of(child);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{stderr}");
    // The stack may be full in the middle of a line of somebody's output, so it begins a new one.
    let lines: Vec<_> = stderr.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(stderr.ends_with('\n'), "{stderr}");
    assert!(stderr.contains("Builder::stack_size"), "{stderr}");
    lines[0].to_owned()
}

/// The number before `KiB`.
fn kibibytes_in(report: &str) -> usize {
    let before = report.split(" KiB").next().expect("split yields something");
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a size in KiB")
}

#[test]
#[ignore = "run by smoke in a process of its own"]
fn child_overflows_a_named_greenlet() {
    if is_child() {
        let digger = Builder::new().name("digger").stack_size(256 << 10);
        digger.spawn(|| dig(0)).unwrap().join();
    }
}

#[test]
fn smoke() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_a_named_greenlet"));
    assert!(report.contains("digger"), "{report}");
    assert!((256..1024).contains(&kibibytes_in(&report)), "{report}");
}

#[test]
#[ignore = "run by an_unnamed_greenlet_is_reported_by_its_number in a process of its own"]
fn child_overflows_an_unnamed_greenlet() {
    if is_child() {
        spawn(|| dig(0)).join();
    }
}

#[test]
fn an_unnamed_greenlet_is_reported_by_its_number() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_an_unnamed_greenlet"));
    assert!(report.contains("greenlet-"), "{report}");
}

#[test]
#[ignore = "run by the_one_that_overflowed_is_named_among_many in a process of its own"]
fn child_overflows_one_of_many() {
    if is_child() {
        let innocent = |n| Builder::new().name(format!("innocent-{n}")).spawn(spin).unwrap();
        let _innocents: Vec<_> = (0..50).map(innocent).collect();
        let guilty = Builder::new().name("guilty").spawn(|| {
            yield_now();
            dig(0)
        });
        guilty.unwrap().join();
    }
}

#[test]
fn the_one_that_overflowed_is_named_among_many() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_one_of_many"));
    assert!(report.contains("guilty") && !report.contains("innocent"), "{report}");
}

#[test]
#[ignore = "run by one_huge_frame_is_caught_too in a process of its own"]
fn child_overflows_with_one_huge_frame() {
    if is_child() {
        Builder::new().name("leaper").spawn(leap).unwrap().join();
    }
}

#[test]
fn one_huge_frame_is_caught_too() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_with_one_huge_frame"));
    assert!(report.contains("leaper"), "{report}");
}

#[test]
#[ignore = "run by a_reused_stack_is_reported_under_its_new_name in a process of its own"]
fn child_overflows_a_reused_stack() {
    if is_child() {
        Builder::new().name("before").spawn(|| ()).unwrap().join();
        Builder::new().name("after").spawn(|| dig(0)).unwrap().join();
    }
}

#[test]
fn a_reused_stack_is_reported_under_its_new_name() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_a_reused_stack"));
    assert!(report.contains("after") && !report.contains("before"), "{report}");
}

#[test]
#[ignore = "run by greenlets_of_other_threads_are_reported_alike in a process of its own"]
fn child_overflows_on_another_thread() {
    if is_child() {
        spawn(|| ()).join();
        let thread = thread::spawn(|| {
            Builder::new().name("abroad").spawn(|| dig(0)).unwrap().join();
        });
        let _ = thread.join();
    }
}

#[test]
fn greenlets_of_other_threads_are_reported_alike() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_on_another_thread"));
    assert!(report.contains("abroad"), "{report}");
}

#[test]
#[ignore = "run by raw_coroutines_are_reported_too in a process of its own"]
fn child_overflows_a_raw_coroutine() {
    if is_child() {
        let digger = Coroutine::new(dig);
        black_box(digger.switch(0));
    }
}

#[test]
fn raw_coroutines_are_reported_too() {
    let _guard = hang_guard();
    let report = report_of(&in_child("child_overflows_a_raw_coroutine"));
    assert!(kibibytes_in(&report) > 0, "{report}");
}

#[test]
fn a_larger_stack_holds_what_a_smaller_one_does_not() {
    let _guard = hang_guard();
    let large = Builder::new().stack_size(16 << 20).spawn(leap).unwrap();
    assert_eq!(large.get().unwrap(), 1);
}

// ── What is not ours stays as it was ──

#[test]
#[ignore = "run by a_thread_that_overflows_keeps_std_s_report in a process of its own"]
fn child_overflows_a_thread() {
    if is_child() {
        // Our handler is in place by now; it must know that this stack is none of ours.
        spawn(|| ()).join();
        let thread = thread::Builder::new().name("plain".into()).spawn(|| dig(0)).unwrap();
        let _ = thread.join();
    }
}

#[test]
fn a_thread_that_overflows_keeps_std_s_report() {
    let _guard = hang_guard();
    let child = in_child("child_overflows_a_thread");
    let stderr = stderr_of(&child);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{stderr}");
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
    assert!(!stderr.contains("Builder::stack_size"), "{stderr}");
}

#[test]
#[ignore = "run by a_main_greenlet_that_overflows_keeps_std_s_report in a process of its own"]
fn child_overflows_its_main_greenlet() {
    if is_child() {
        spawn(|| ()).join();
        black_box(dig(0));
    }
}

#[test]
fn a_main_greenlet_that_overflows_keeps_std_s_report() {
    let _guard = hang_guard();
    let child = in_child("child_overflows_its_main_greenlet");
    let stderr = stderr_of(&child);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{stderr}");
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
    assert!(!stderr.contains("Builder::stack_size"), "{stderr}");
}

#[test]
#[ignore = "run by any_other_segfault_kills_as_ever in a process of its own"]
fn child_is_sent_a_segfault() {
    if is_child() {
        let greenlet = spawn(|| {
            let kill = format!("kill -SEGV {}", process::id());
            // A signal that somebody sends does not come back by itself as a fault would: std
            // takes its handler away at the first one and dies of the next. Two that come close
            // together count as one, so there are more than enough.
            for _ in 0..100 {
                Command::new("sh").args(["-c", &kill]).status().unwrap();
            }
        });
        greenlet.join();
    }
}

#[test]
fn any_other_segfault_kills_as_ever() {
    let _guard = hang_guard();
    let child = in_child("child_is_sent_a_segfault");
    assert_eq!(child.status.signal(), Some(SIGSEGV), "{}", stderr_of(&child));
    assert_eq!(stderr_of(&child), "");
}
