//! `waitpid`, `wait`, `wait3`, `wait4` and `waitid`, patched: children of std's, waited for by greenlets.

#![allow(unsafe_code, reason = "functions of C are called")]
#![allow(clippy::zombie_processes, reason = "most are waited for by functions of C")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_int;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::{fs, mem, ptr, thread};

use greenloom::monkey::{self, Patch};
use greenloom::{Greenlet, JoinError, dump, idle, sleep, spawn};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

const N: usize = 5;

/// A child that ends, with that status, when its standard input says so.
fn held(status: usize) -> Child {
    let script = format!("read line; exit {status}");
    Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

fn pid_of(child: &Child) -> libc::pid_t {
    child.id() as libc::pid_t
}

/// Several of them, and what tells them.
fn many() -> (Vec<Child>, Vec<ChildStdin>) {
    let mut children: Vec<_> = (0..N).map(held).collect();
    let tell = children.iter_mut().map(|child| child.stdin.take().unwrap()).collect();
    (children, tell)
}

fn tell_all(tell: Vec<ChildStdin>) {
    for mut stdin in tell.into_iter().rev() {
        stdin.write_all(b"\n").unwrap();
    }
}

fn pids(children: &[Child]) -> Vec<libc::pid_t> {
    children.iter().map(pid_of).collect()
}

fn no_children_are_left() {
    // SAFETY: no memory is touched.
    assert_eq!(unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG | libc::__WALL) }, -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ECHILD));
}

/// How many threads of the crate's wait for others, or have.
fn waiting_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "greenloom-waits").count()
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What a call has returned, and what it has told.
fn waitpid(pid: libc::pid_t, options: c_int) -> io::Result<(libc::pid_t, ExitStatus)> {
    let mut status = 0;
    // SAFETY: a place for the status.
    let found = unsafe { libc::waitpid(pid, &raw mut status, options) };
    if found < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((found, ExitStatus::from_raw(status)))
    }
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, options: c_int) -> io::Result<libc::siginfo_t> {
    // SAFETY: numbers and addresses, for which zero is good.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: a place for what is told.
    let failed = unsafe { libc::waitid(kind, id, &raw mut info, options) };
    if failed < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

/// Which child, and its status.
fn told_of(info: &libc::siginfo_t) -> (libc::pid_t, c_int) {
    // SAFETY: what is told of a child has it.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    (pid, unsafe { info.si_status() })
}

unsafe extern "C" {
    fn wait(status: *mut c_int) -> libc::pid_t;
    fn wait3(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t;
    fn wait4(
        pid: libc::pid_t,
        status: *mut c_int,
        options: c_int,
        usage: *mut libc::rusage,
    ) -> libc::pid_t;
}

fn usage() -> libc::rusage {
    // SAFETY: numbers.
    unsafe { mem::zeroed() }
}

fn errno_of<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

/// Sends a signal to a child.
fn signal(pid: libc::pid_t, number: c_int) {
    // SAFETY: it touches no memory.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0);
}

/// Several greenlets wait for any child, each by `call`, and get all of them.
fn any_of_many(call: fn(*mut c_int) -> libc::pid_t) {
    monkey::patch_all();
    let (children, tell) = many();
    let found = overlapping(
        N,
        move |_| {
            let mut status = 0;
            (call(&raw mut status), ExitStatus::from_raw(status).code().unwrap())
        },
        || tell_all(tell),
    );
    let expected: BTreeSet<_> = pids(&children).into_iter().zip(0..).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    no_children_are_left();
}

alone! {
    fn stds_waits_overlap() {
        monkey::patch_all();
        let (children, tell) = many();
        let children: Vec<_> = children.into_iter().map(RefCell::new).collect();
        let found = overlapping(
            N,
            move |n| children[n].borrow_mut().wait().unwrap().code().unwrap(),
            || tell_all(tell),
        );
        assert_eq!(found, [0, 1, 2, 3, 4]);
        assert_eq!(waiting_threads(), 0, "each child has a descriptor");
        no_children_are_left();
    }

    fn waitpid_overlaps() {
        monkey::patch_all();
        let before = descriptors();
        let (children, tell) = many();
        let pids = pids(&children);
        let asked = pids.clone();
        let found = overlapping(N, move |n| waitpid(asked[n], 0).unwrap(), || tell_all(tell));
        for (n, (pid, status)) in found.into_iter().enumerate() {
            assert_eq!((pid, status.code()), (pids[n], Some(n as i32)));
        }
        drop(children);
        // The hub's own are two: what it waits with, and what it is woken by.
        assert!(descriptors() <= before + 2, "those of the children are closed");
        no_children_are_left();
    }

    fn waitid_overlaps() {
        monkey::patch_all();
        let (children, tell) = many();
        let pids = pids(&children);
        let asked = pids.clone();
        let wait = move |n: usize| waitid(libc::P_PID, asked[n] as libc::id_t, libc::WEXITED);
        let found = overlapping(N, move |n| wait(n).unwrap(), || tell_all(tell));
        for (n, info) in found.into_iter().enumerate() {
            let (pid, status) = told_of(&info);
            assert_eq!((info.si_signo, info.si_code), (libc::SIGCHLD, libc::CLD_EXITED));
            assert_eq!((pid, status), (pids[n], n as i32));
        }
        no_children_are_left();
    }

    /// As std does for children that were started with a descriptor.
    fn waitid_by_descriptors_overlaps() {
        monkey::patch_all();
        let (children, tell) = many();
        let open = |child: &Child, flags: c_int| {
            // SAFETY: it touches no memory.
            unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), flags) as libc::id_t }
        };
        let fds: Vec<_> = children.iter().map(|child| open(child, 0)).collect();
        let nonblocking = open(&children[0], libc::O_NONBLOCK);
        if nonblocking != libc::id_t::MAX {
            let told = spawn(move || waitid(libc::P_PIDFD, nonblocking, libc::WEXITED));
            let told = told.get().unwrap();
            assert_eq!(errno_of(told.map(|info| info.si_signo)), Some(libc::EAGAIN));
        }
        let wait = move |n: usize| waitid(libc::P_PIDFD, fds[n], libc::WEXITED).unwrap();
        let found = overlapping(N, wait, || tell_all(tell));
        for (n, info) in found.into_iter().enumerate() {
            let (pid, status) = told_of(&info);
            assert_eq!((pid, status), (pid_of(&children[n]), n as i32));
        }
        no_children_are_left();
    }

    /// With nowhere to tell anything.
    fn waitid_may_tell_nothing() {
        monkey::patch_all();
        let (children, tell) = many();
        let pids = pids(&children);
        let wait = move |n: usize| {
            // SAFETY: there is no place for anything.
            unsafe { libc::waitid(libc::P_PID, pids[n] as u32, ptr::null_mut(), libc::WEXITED) }
        };
        assert_eq!(overlapping(N, wait, || tell_all(tell)), [0; N]);
        no_children_are_left();
    }

    fn wait4_overlaps_and_tells_of_the_usage() {
        monkey::patch_all();
        let (children, tell) = many();
        let pids = pids(&children);
        let wait = move |n: usize| {
            let (mut status, mut usage) = (0, usage());
            // SAFETY: places for what is told.
            let pid = unsafe { wait4(pids[n], &raw mut status, 0, &raw mut usage) };
            assert!(usage.ru_maxrss > 0);
            assert_eq!(pid, pids[n]);
            ExitStatus::from_raw(status).code().unwrap()
        };
        assert_eq!(overlapping(N, wait, || tell_all(tell)), [0, 1, 2, 3, 4]);
        no_children_are_left();
    }

    fn wait_overlaps() {
        // SAFETY: a place for the status.
        any_of_many(|status| unsafe { wait(status) });
    }

    fn wait3_overlaps() {
        any_of_many(|status| {
            let mut usage = usage();
            // SAFETY: places for what is told.
            let pid = unsafe { wait3(status, 0, &raw mut usage) };
            assert!(usage.ru_maxrss > 0);
            pid
        });
    }

    fn waitpid_for_any_overlaps() {
        // SAFETY: a place for the status.
        any_of_many(|status| unsafe { libc::waitpid(-1, status, 0) });
    }

    fn waitpid_for_ones_own_group_overlaps() {
        // SAFETY: a place for the status.
        any_of_many(|status| unsafe { libc::waitpid(0, status, 0) });
    }

    /// What no thread of ours could wait for in the caller's place.
    fn waitpid_for_the_threads_own_children_overlaps() {
        // SAFETY: a place for the status.
        any_of_many(|status| unsafe { libc::waitpid(-1, status, libc::__WNOTHREAD) });
    }

    fn a_group_is_waited_for() {
        monkey::patch_all();
        let mut one = held(1);
        let mut other = Command::new("sh");
        let other = other.args(["-c", "read line; exit 2"]).stdin(Stdio::piped());
        let mut other = other.process_group(0).spawn().unwrap();
        let (pid, group) = (pid_of(&other), -pid_of(&other));
        let waiter = spawn(move || waitpid(group, 0).unwrap());
        idle();
        one.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(waitpid(pid_of(&one), 0).unwrap().1.code(), Some(1)); // in another group
        assert!(!waiter.is_finished());
        other.stdin.take().unwrap().write_all(b"\n").unwrap();
        let (found, status) = waiter.get().unwrap();
        assert_eq!((found, status.code()), (pid, Some(2)));
        no_children_are_left();
    }

    /// Stops and continuations, which no descriptor tells of.
    fn stops_are_waited_for() {
        monkey::patch_all();
        let mut child = held(3);
        let pid = pid_of(&child);
        let wait = |options: c_int| {
            let waiter = spawn(move || waitpid(pid, options).unwrap().1);
            idle();
            assert!(!waiter.is_finished());
            waiter
        };
        let stopped = wait(libc::WUNTRACED);
        signal(pid, libc::SIGSTOP);
        assert_eq!(stopped.get().unwrap().stopped_signal(), Some(libc::SIGSTOP));
        let continued = wait(libc::WCONTINUED);
        signal(pid, libc::SIGCONT);
        assert!(continued.get().unwrap().continued());

        let id = pid as libc::id_t;
        let stopped = spawn(move || waitid(libc::P_PID, id, libc::WSTOPPED).unwrap());
        idle();
        assert!(!stopped.is_finished());
        signal(pid, libc::SIGSTOP);
        let info = stopped.get().unwrap();
        assert_eq!((info.si_code, told_of(&info)), (libc::CLD_STOPPED, (pid, libc::SIGSTOP)));
        signal(pid, libc::SIGCONT);
        let ended = wait(0);
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(ended.get().unwrap().code(), Some(3));
        no_children_are_left();
    }

    /// A stop is not what somebody waits for who has not said so.
    fn stops_are_not_ends() {
        monkey::patch_all();
        let child = held(0);
        let pid = pid_of(&child);
        let waiter = spawn(move || waitpid(pid, 0).unwrap().1);
        idle();
        signal(pid, libc::SIGSTOP);
        waitid(libc::P_PID, pid as libc::id_t, libc::WSTOPPED | libc::WNOWAIT).unwrap();
        assert!(!waiter.is_finished());
        signal(pid, libc::SIGKILL);
        assert_eq!(waiter.get().unwrap().signal(), Some(libc::SIGKILL));
    }

    /// Looked at and left there, in a greenlet as elsewhere.
    fn a_child_may_be_left_where_it_is() {
        monkey::patch_all();
        let mut child = held(4);
        let id = child.id();
        let look = spawn(move || waitid(libc::P_PID, id, libc::WEXITED | libc::WNOWAIT).unwrap());
        idle();
        assert!(!look.is_finished());
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(told_of(&look.get().unwrap()).1, 4);
        assert_eq!(child.wait().unwrap().code(), Some(4));
    }

    fn errors_are_the_kernels() {
        monkey::patch_all();
        let check = || {
            assert_eq!(errno_of(waitpid(1, 0)), Some(libc::ECHILD), "it is not ours");
            assert_eq!(errno_of(waitpid(-1, 0)), Some(libc::ECHILD), "there is none");
            assert_eq!(errno_of(waitpid(-1, 0x100)), Some(libc::EINVAL));
            assert_eq!(errno_of(waitpid(i32::MIN, 0)), Some(libc::ESRCH));
            let code = |result: io::Result<libc::siginfo_t>| errno_of(result.map(|_| ()));
            assert_eq!(code(waitid(libc::P_PID, 1, libc::WEXITED)), Some(libc::ECHILD));
            assert_eq!(code(waitid(libc::P_ALL, 0, 0)), Some(libc::EINVAL));
            assert_eq!(code(waitid(libc::P_PID, 0, libc::WEXITED)), Some(libc::EINVAL));
            assert_eq!(code(waitid(libc::P_PIDFD, 9999, libc::WEXITED)), Some(libc::EBADF));
        };
        spawn(check).get().unwrap();
        thread::spawn(check).join().unwrap();
    }

    /// The kernel looks at the address when it has somebody to tell of, and so do we not.
    fn bad_addresses_are_the_kernels() {
        monkey::patch_all();
        let check = || {
            let mut child = held(0);
            let pid = pid_of(&child);
            let tell = child.stdin.take().unwrap();
            let nowhere: *mut c_int = ptr::without_provenance_mut(1);
            let waiter = move || {
                // SAFETY: there is no place, which the kernel finds out.
                let result = unsafe { libc::waitpid(pid, nowhere, 0) };
                (result, io::Error::last_os_error().raw_os_error())
            };
            drop(tell);
            assert_eq!(waiter(), (-1, Some(libc::EFAULT)));
            // SAFETY: as above.
            let result = unsafe { libc::waitid(libc::P_ALL, 0, nowhere.cast(), libc::WEXITED) };
            let told = io::Error::last_os_error().raw_os_error();
            // Newer kernels tell of the address first, whatever there is.
            assert!(result == -1 && [Some(libc::EFAULT), Some(libc::ECHILD)].contains(&told));
        };
        spawn(check).get().unwrap();
        no_children_are_left();
    }

    /// Nobody is lost with the greenlet that has waited for him.
    fn a_kill_loses_no_child() {
        monkey::patch_all();
        for whom in ["one", "any", "stops"] {
            let mut child = held(6);
            let pid = pid_of(&child);
            let told = Rc::new(RefCell::new(None));
            let waiter = spawn({
                let told = Rc::clone(&told);
                move || {
                    let result = match whom {
                        "one" => waitpid(pid, 0),
                        "any" => waitpid(-1, 0),
                        _ => waitpid(pid, libc::WUNTRACED),
                    };
                    told.replace(errno_of(result));
                    sleep(ms(60_000));
                }
            });
            idle();
            waiter.kill();
            assert!(matches!(waiter.get(), Err(JoinError::Killed)));
            assert_eq!(*told.borrow(), Some(libc::ECANCELED), "{whom}");
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(6));
        }
        no_children_are_left();
    }

    /// Somebody else takes the child that two wait for.
    fn only_one_gets_a_child() {
        monkey::patch_all();
        let mut child = held(0);
        let pid = pid_of(&child);
        let waiters: Vec<Greenlet<_>> =
            [pid, -1].map(|whom| spawn(move || waitpid(whom, 0).map(|(pid, _)| pid))).into();
        idle();
        drop(child.stdin.take());
        let found: Vec<_> = waiters.into_iter().map(|waiter| waiter.get().unwrap()).collect();
        let (got, told): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        assert_eq!(got.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [pid]);
        assert_eq!(told.into_iter().map(errno_of).collect::<Vec<_>>(), [Some(libc::ECHILD)]);
    }

    /// A child that is gone by itself, because the program does not want to hear of it.
    fn children_that_are_not_to_be_waited_for() {
        monkey::patch_all();
        let mut child = held(0);
        // SAFETY: nobody handles it.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let waiters = [pid_of(&child), -1].map(|whom| spawn(move || errno_of(waitpid(whom, 0))));
        idle();
        drop(child.stdin.take());
        for waiter in waiters {
            assert_eq!(waiter.get().unwrap(), Some(libc::ECHILD));
        }
    }

    /// Without a descriptor for the child a thread waits.
    fn when_there_are_no_descriptors_left() {
        monkey::patch_all();
        let mut child = held(7);
        let pid = pid_of(&child);
        spawn(|| sleep(ms(1))).join(); // the hub has what it needs
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let mut before = limit;
        // SAFETY: places for limits.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) }, 0);
        let warm = spawn(|| waitpid(-1, libc::WUNTRACED));
        idle();
        let limit = libc::rlimit { rlim_max: before.rlim_max, ..limit };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let waiter = spawn(move || waitpid(pid, 0).unwrap().1.code());
        idle();
        assert!(!waiter.is_finished());
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const before) }, 0);
        warm.kill();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(waiter.get().unwrap(), Some(7));
    }

    fn a_wait_is_seen() {
        monkey::patch_process();
        let mut child = held(0);
        let stdin = child.stdin.take();
        let waiter = spawn(move || child.wait().unwrap().code());
        idle();
        assert_eq!(dump().greenlets()[1].reason.as_deref(), Some("waitpid"));
        drop(stdin);
        assert_eq!(waiter.get().unwrap(), Some(0));
    }

    fn the_main_greenlet_waits_too() {
        monkey::patch_process();
        let mut child = held(0);
        let mut stdin = child.stdin.take().unwrap();
        let other = spawn(move || stdin.write_all(b"\n").unwrap());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(other.is_finished());
    }

    /// All that `Command::output` does: it polls two pipes, reads them, and waits for the child.
    fn stds_outputs_overlap() {
        monkey::patch_all();
        let (inputs, tell): (Vec<_>, Vec<_>) = (0..N).map(|_| io::pipe().unwrap()).unzip();
        let inputs: Vec<_> = inputs.into_iter().map(|input| Cell::new(Some(input))).collect();
        let outputs = overlapping(
            N,
            move |n| {
                let script = format!("read line; echo {n}; exit {n}");
                let mut command = Command::new("sh");
                command.args(["-c", &script]).stdin(inputs[n].take().unwrap());
                let output = command.output().unwrap();
                (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
            },
            || {
                for mut writer in tell {
                    writer.write_all(b"\n").unwrap();
                }
            },
        );
        let expected: Vec<_> = (0..N as i32).map(|n| (format!("{n}\n"), n)).collect();
        assert_eq!(outputs, expected);
        no_children_are_left();
    }

    /// The rest of std's `process`, from many greenlets at a time.
    fn stds_commands_work() {
        monkey::patch_all();
        let greenlets: Vec<_> = (0..8)
            .map(|n| {
                spawn(move || {
                    let script = format!("echo out{n}; echo err{n} >&2; exit {n}");
                    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                    assert_eq!(output.stdout, format!("out{n}\n").as_bytes());
                    assert_eq!(output.stderr, format!("err{n}\n").as_bytes());
                    assert_eq!(output.status.code(), Some(n));
                    let status = Command::new("sh").args(["-c", "kill -9 $$"]).status().unwrap();
                    assert_eq!(status.signal(), Some(9));
                    let mut cat = Command::new("cat");
                    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                    let mut stdin = cat.stdin.take().unwrap();
                    stdin.write_all(&[n as u8; 1000]).unwrap();
                    drop(stdin);
                    assert_eq!(cat.wait_with_output().unwrap().stdout, [n as u8; 1000]);
                    assert!(Command::new("no such program").status().is_err());
                    let mut killed = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                    killed.kill().unwrap();
                    assert_eq!(killed.wait().unwrap().signal(), Some(9));
                })
            })
            .collect();
        for greenlet in greenlets {
            greenlet.get().unwrap();
        }
        no_children_are_left();
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn unpatched_it_holds_up_the_thread() {
        monkey::patch_all_except([Patch::Process]);
        assert_eq!(order(), ["waited", "other"]);
    }

    fn patched_it_does_not() {
        monkey::patch_process();
        assert_eq!(order(), ["other", "waited"]);
    }

    fn outside_of_greenlets_it_is_the_kernels() {
        monkey::patch_all();
        let outside = thread::spawn(|| {
            let (children, tell) = many();
            tell_all(tell);
            let found: BTreeSet<_> = (0..N).map(|_| waitpid(-1, 0).unwrap().0).collect();
            assert_eq!(found, pids(&children).into_iter().collect());
        });
        outside.join().unwrap();
        assert_eq!(waiting_threads(), 0);
        no_children_are_left();
    }
}

/// A greenlet waits for a child that takes its time, and another one runs.
fn order() -> Vec<&'static str> {
    let log = Rc::new(RefCell::new(Vec::new()));
    let [one, two] = [(); 2].map(|()| Rc::clone(&log));
    let waiter = spawn(move || {
        Command::new("sleep").arg("0.05").status().unwrap();
        one.borrow_mut().push("waited");
    });
    let other = spawn(move || two.borrow_mut().push("other"));
    waiter.get().unwrap();
    other.get().unwrap();
    log.take()
}
