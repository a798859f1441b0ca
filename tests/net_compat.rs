//! `use std::net` replaced by `use greenloom::net`: small programs that use std's documented surface
//! are compiled with both, run, and compared.

mod net_util;

use net_util::hang_guard;

/// The programs with std: a task is a thread.
mod with_std {
    use std::net;
    use std::os::unix::net as unix;
    use std::thread::{self, JoinHandle};

    struct Task<T>(JoinHandle<T>);

    fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        Task(thread::spawn(f))
    }

    impl<T> Task<T> {
        fn join(self) -> T {
            self.0.join().unwrap()
        }
    }

    fn pause(time: Duration) {
        let (_never, wait) = std::sync::mpsc::channel::<()>();
        let _ = wait.recv_timeout(time);
    }

    include!("net_compat/programs.rs");
}

/// The programs with ours: a task is a greenlet.
mod with_greenloom {
    use greenloom::Greenlet;
    use greenloom::net;
    use greenloom::net::unix;

    struct Task<T>(Greenlet<T>);

    fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> Task<T> {
        Task(greenloom::spawn(f))
    }

    impl<T: 'static> Task<T> {
        fn join(self) -> T {
            self.0.get().unwrap()
        }
    }

    fn pause(time: Duration) {
        greenloom::sleep(time);
    }

    include!("net_compat/programs.rs");
}

macro_rules! compare {
    ($($program:ident,)+) => {
        $(
            #[test]
            fn $program() {
                let _guard = hang_guard();
                let by_std = with_std::$program();
                assert!(by_std.len() > 0, "it has seen something");
                let by_std = format!("{by_std:#?}");
                let by_us = format!("{:#?}", with_greenloom::$program());
                assert_eq!(by_us, by_std, "on the thread's own stack");
                let by_greenlet = greenloom::spawn(with_greenloom::$program).get().unwrap();
                assert_eq!(format!("{by_greenlet:#?}"), by_std, "in a greenlet");
            }
        )+

        /// None is left out above.
        #[test]
        fn all_programs_are_compared() {
            let compared = [$(stringify!($program)),+];
            let all: Vec<_> = with_std::ALL.iter().map(|(name, _)| *name).collect();
            assert_eq!(compared[..], all);
        }
    };
}

compare! {
    echo_by_tcp,
    many_clients_of_a_loop_over_incoming,
    vectored_and_peek,
    options_and_time_limits,
    non_blocking_calls,
    half_close,
    reader_and_writer_by_clones,
    errors_of_tcp,
    exchange_by_udp,
    options_and_errors_of_udp,
    refusals_by_udp,
    unix_connections,
    unix_pairs,
    shutdown_wakes_who_waits,
    unix_datagrams,
    addresses,
    traits,
}

/// All of ours at the same time, in one thread.
#[test]
fn all_at_once() {
    let _guard = hang_guard();
    let running: Vec<_> = with_greenloom::ALL
        .iter()
        .map(|&(name, program)| (name, greenloom::spawn(program)))
        .collect();
    for (name, greenlet) in running {
        assert!(greenlet.get().unwrap().len() > 0, "{name} has seen nothing");
    }
}
