//! Child processes, name for name `std::process`: where std blocks the thread, these park the
//! greenlet.
//!
//! ```
//! use greenloom::process::Command;
//!
//! let greetings: Vec<_> = ["one", "two", "three"]
//!     .map(|word| greenloom::spawn(move || Command::new("echo").arg(word).output()))
//!     .into_iter()
//!     .map(|greenlet| greenlet.get().unwrap())
//!     .collect::<Result<_, _>>()?;
//! assert_eq!(greetings[2].stdout, b"three\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What of `std::process` never waits is re-exported, so `use std::process` can be replaced by
//! `use greenloom::process`.
//!
//! # Time limits, and what becomes of the child
//!
//! [`Child::wait_timeout`] leaves the child alone when the time is over, and so do a kill and
//! [`with_timeout`](crate::with_timeout) around any method of a [`Child`]: whoever has the `Child`
//! decides. In [`Command::output`] and [`Command::status`] nobody has; there the child is killed
//! (`SIGKILL`) and reaped. So this runs a program for at most a second:
//!
//! ```
//! use greenloom::{process::Command, with_timeout};
//! use std::time::Duration;
//!
//! let result = with_timeout(Duration::from_millis(50), || Command::new("sleep").arg("60").status());
//! assert!(result.is_err()); // and the child is no more
//! ```
//!
//! # No zombies
//!
//! A `Child` that is dropped runs on, as std's does. When it has ended, it is reaped at the next
//! [`spawn`](Command::spawn) or [`wait`](Child::wait) of anybody in the process; until then it is a
//! zombie, which has a number and nothing else. Only children that were started here are reaped.
//!
//! # How a child's end is noticed
//!
//! By a descriptor of the child (`pidfd_open`, Linux 5.3), which is there only while somebody waits
//! for it. Where the system has none, by `SIGCHLD`, through [`signal`](crate::signal).
//!
//! Starting a child blocks the thread until the system has done so, usually within a millisecond.
//!
//! # `fork`
//!
//! A `Command` is safe to use anywhere, as std's is. A bare `fork` (by `libc`, or another library)
//! that is not followed by `exec` is another thing. The child gets a copy of the memory, with a copy
//! of every greenlet in it, but one thread; and it *shares* with its parent what the kernel keeps:
//! the hub's epoll instance, sockets, the place in files. If it used the hub, parent and child would
//! take away each other's events, and each greenlet would do its work twice. So it must not call
//! anything of this crate that waits, and should end by `exec` or `_exit`. There is no
//! counterpart of gevent's `fork` and `reinit`, because nothing could make the greenlets of others
//! fit for that. To use several processors, use threads, each of which may have a hub; to start
//! another program, `Command`.

mod child;
mod command;
mod handle;
mod orphans;
mod pre_exec;
mod redirect;
mod stdio;
mod talk;

#[doc(no_inline)]
pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id,
};

pub use child::Child;
pub use command::Command;
pub use stdio::{ChildStderr, ChildStdin, ChildStdout};

/// Where the system has no descriptors of children. All else is tested in `tests/process.rs`.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::greenlet::spawn;
    use crate::timeout::with_timeout;
    use crate::wait::{iwait, wait_any};

    const MINUTE: Duration = Duration::from_secs(60);

    fn by_signal(body: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(move || {
            handle::BY_SIGNAL.set(true);
            with_timeout(MINUTE, body).expect("it hangs");
        });
        thread.join().expect("it has failed");
    }

    fn start(program: &str, arg: &str) -> Child {
        Command::new(program).arg(arg).spawn().expect("it is there")
    }

    #[test]
    fn many_children_at_once() {
        by_signal(|| {
            let waiters: Vec<_> = (0..50)
                .map(|n: i32| {
                    spawn(move || {
                        let mut shell = Command::new("sh");
                        let output = shell.args(["-c", &format!("echo {n}; exit {n}")]).output();
                        let output = output.expect("there is a shell");
                        assert_eq!(output.status.code(), Some(n));
                        assert_eq!(output.stdout, format!("{n}\n").as_bytes());
                    })
                })
                .collect();
            for waiter in waiters {
                waiter.get().expect("its child was as it should be");
            }
        });
    }

    #[test]
    fn a_child_that_is_waited_for_in_every_way() {
        by_signal(|| {
            let mut child = start("sleep", "60");
            let limit = Duration::from_millis(5);
            assert!(child.wait_timeout(limit).expect("it is ours").is_none());
            assert!(with_timeout(limit, || child.wait()).is_err());
            assert!(child.try_wait().expect("it is ours").is_none());
            child.kill().expect("it is ours");
            assert!(!child.wait().expect("it is ours").success());
            assert!(child.wait_timeout(limit).expect("it is ours").is_some());
            assert!(child.wait().is_ok());

            let mut children = [start("sleep", "60"), start("sleep", "0"), start("sleep", "0.01")];
            assert_ne!(wait_any(&children), 0); // which of the others is first, the system says
            children[0].kill().expect("it is ours");
            let mut ended: Vec<_> = iwait(&children).collect();
            ended.sort_unstable();
            assert_eq!(ended, [0, 1, 2]);
        });
    }
}
