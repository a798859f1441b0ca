//! Child processes: as std's, and cooperative; none is lost, and none left a zombie.

mod net_util;
mod util;

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Instant;
use std::{env, fs, process, thread};

use greenloom::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use greenloom::signal::{SIGKILL, SIGTERM, SIGUSR1};
use greenloom::sync::Event;
use greenloom::{
    Waitable, dump, iwait, joinall, joinall_timeout, sleep, spawn, wait_any, wait_any_timeout,
    with_timeout,
};
use net_util::{eventually, hang_guard, in_child, is_child, stderr_of};
use util::{HOUR, MINUTE, at_drop, ms, reason_of, reports, settle, until, until_parked, within};

/// More than a pipe holds, and than all that are in the way.
const MUCH: usize = 1 << 20;

fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell
}

fn sleeper() -> Child {
    Command::new("sleep").arg("3600").spawn().unwrap()
}

fn sleeper_in(group: i32) -> Child {
    Command::new("sleep").arg("3600").process_group(group).spawn().unwrap()
}

/// The letter that the system has for the state of a process; `None`: there is no such process.
fn state(id: u32) -> Option<char> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("State:\t"))?.chars().next()
}

fn is_zombie(id: u32) -> bool {
    state(id) == Some('Z')
}

/// Children of this process, in any state.
fn children() -> Vec<u32> {
    let parent = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    let ids = names.filter_map(|name| name.to_str()?.parse().ok());
    ids.filter(|&id| parent(id) == Some(process::id())).collect()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn tasks() -> usize {
    dump().greenlets().len()
}

/// Runs the ignored test `name`, which counts what belongs to the whole process, in one of its own.
fn alone(name: &str) {
    let child = in_child(name);
    assert!(child.status.success(), "{:?}: {}", child.status, stderr_of(&child));
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(stdout.contains("1 passed"), "no such test? {stdout}");
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let output = Command::new("echo").arg("hello").output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"hello\n");
        assert!(output.stderr.is_empty());
    });
}

// ── As std's ──

#[test]
fn statuses_are_std_s() {
    within(MINUTE, || {
        assert_eq!(shell("exit 7").status().unwrap().code(), Some(7));
        let killed: ExitStatus = shell("kill -USR1 $$").status().unwrap();
        assert_eq!((killed.code(), killed.signal()), (None, Some(SIGUSR1.as_raw())));
        assert!(shell("true").status().unwrap().success());
    });
}

/// gevent: "ENOENT"
#[test]
fn errors_of_the_start_are_std_s() {
    within(MINUTE, || {
        let ours = |program: &str| Command::new(program).spawn().unwrap_err();
        let std_s = |program: &str| std::process::Command::new(program).spawn().unwrap_err();
        for program in ["/no/such/program", "no-such-program", "/etc/passwd", "/"] {
            let (ours, std_s) = (ours(program), std_s(program));
            assert_eq!((ours.kind(), ours.to_string()), (std_s.kind(), std_s.to_string()));
        }
        assert_eq!(ours("/no/such/program").kind(), ErrorKind::NotFound);
        assert_eq!(Command::new("no-such").output().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Command::new("no-such").status().unwrap_err().kind(), ErrorKind::NotFound);
        let error = Command::new("true").current_dir("/no/such/place").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_is_set_reaches_the_child_and_can_be_read_back() {
    within(MINUTE, || {
        let mut command = shell("echo $0 $1 $A $B${C-none}; pwd");
        command.args(["zero", "one"]).env("A", "a").envs([("B", "b"), ("C", "c")]).env_remove("C");
        command.current_dir("/");
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "zero one a bnone\n/\n");

        assert_eq!(command.get_program(), "sh");
        assert_eq!(command.get_args().skip(2).collect::<Vec<_>>(), ["zero", "one"]);
        assert_eq!(command.get_envs().count(), 3);
        assert_eq!(command.get_current_dir().unwrap().to_str(), Some("/"));
        assert!(format!("{command:?}").contains("\"zero\" \"one\""));

        let output = Command::new("/usr/bin/env").env_clear().env("ONLY", "this").output().unwrap();
        assert_eq!(output.stdout, b"ONLY=this\n");
        let output = Command::new("sh").arg0("my-name").args(["-c", "echo $0"]).output().unwrap();
        assert_eq!(output.stdout, b"my-name\n");
        let output = shell("cut -d' ' -f5 /proc/$$/stat; echo $$").process_group(0).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], lines[1]); // it leads a group of its own
    });
}

#[test]
fn uid_and_gid_are_set() {
    within(MINUTE, || {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let output = shell("id -u; id -g").uid(uid).gid(gid).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{uid}\n{gid}\n"));
    });
}

/// The same command, started again and again in different ways, has std's defaults each time.
#[test]
fn defaults_of_output_do_not_stick() {
    within(MINUTE, || {
        let mut command = shell("cat; echo out; echo err >&2");
        for _ in 0..2 {
            let output = command.output().unwrap();
            assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
        }
        let output = command.output_with_input("in ").unwrap();
        assert_eq!(output.stdout, b"in out\n");
        let child = Command::new("true").spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        // What was set stays.
        command.stderr(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), Vec::new()));
        command.stdin(Stdio::null());
        let error = command.output_with_input("lost").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_command_of_std_s_and_a_child_of_std_s_are_taken() {
    within(MINUTE, || {
        let mut std = std::process::Command::new("cat");
        std.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Child::try_from(std.spawn().unwrap()).unwrap();
        assert_eq!(child.communicate("through").unwrap().stdout, b"through");
        assert_eq!(Command::from(std).output_with_input("again").unwrap().stdout, b"again");
    });
}

/// `process::Command` may be replaced by ours in code that moves the pipes out of the child.
#[test]
fn pipes_can_be_moved_out_of_a_child() {
    within(MINUTE, || {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.unwrap();
        write!(&stdin, "one ").unwrap();
        stdin.write_all_vectored_by_hand(&["two ", "three"]);
        stdin.flush().unwrap();
        drop(stdin);
        let mut text = String::new();
        child.stdout.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
        assert_eq!((&child.stderr.unwrap()).read(&mut [0; 1]).unwrap(), 0);
    });
}

/// What `write_all_vectored` does, which std has not settled yet.
trait WriteAllVectored {
    fn write_all_vectored_by_hand(&mut self, words: &[&str]);
}

impl<W: Write> WriteAllVectored for W {
    fn write_all_vectored_by_hand(&mut self, words: &[&str]) {
        let slices: Vec<_> = words.iter().map(|word| io::IoSlice::new(word.as_bytes())).collect();
        let len: usize = words.iter().map(|word| word.len()).sum();
        assert_eq!(self.write_vectored(&slices).unwrap(), len);
    }
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error() {
    within(MINUTE, || {
        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().unwrap();
        assert_eq!(stdin.write(b"anybody?").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// Programs expect descriptors that block: one child's output as another's input.
#[test]
fn our_ends_become_another_child_s_and_block_there() {
    within(MINUTE, || {
        let mode = |fd: i32| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:\t")).unwrap();
            u32::from_str_radix(flags.trim(), 8).unwrap() & rustix::fs::OFlags::NONBLOCK.bits()
        };
        let mut first =
            shell("echo one; sleep 0.02; echo two").stdout(Stdio::piped()).spawn().unwrap();
        let stdout = first.stdout.take().unwrap();
        assert_ne!(mode(stdout.as_raw_fd()), 0);
        let fd = OwnedFd::from(ChildStdout::try_from(OwnedFd::from(stdout)).unwrap());
        assert_eq!(mode(fd.as_raw_fd()), 0);
        // `cat` would fail with "Resource temporarily unavailable".
        let second = Command::new("cat").stdin(fd).output().unwrap();
        assert_eq!(second.stdout, b"one\ntwo\n");
        assert!(second.status.success() && second.stderr.is_empty());
        assert!(first.wait().unwrap().success());

        let mut third =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let status = shell("echo passed on").stdout(third.stdin.take().unwrap()).status().unwrap();
        assert!(status.success());
        assert_eq!(third.wait_with_output().unwrap().stdout, b"passed on\n");
    });
}

#[test]
#[ignore = "run by exec_replaces_the_process in a process of its own"]
fn child_replaces_itself() {
    if is_child() {
        spawn(|| sleep(HOUR));
        let error = Command::new("/no/such/program").exec();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        panic!("{}", shell("echo replaced; exit 9").exec());
    }
}

#[test]
fn exec_replaces_the_process() {
    let child = in_child("child_replaces_itself");
    assert_eq!(child.status.code(), Some(9), "{}", stderr_of(&child));
    assert!(String::from_utf8_lossy(&child.stdout).contains("replaced"));
}

// ── Waiting ──

#[test]
fn others_run_while_one_waits() {
    within(MINUTE, || {
        let turns = Rc::new(Cell::new(0));
        let counter = Rc::clone(&turns);
        let other = spawn(move || {
            loop {
                sleep(ms(1));
                counter.set(counter.get() + 1);
            }
        });
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let seen = Rc::clone(&turns);
        let closer = spawn(move || {
            until(|| seen.get() >= 10);
            drop(stdin);
        });
        assert!(child.wait().unwrap().success());
        assert!(turns.get() >= 10);
        closer.join();
        other.kill();
    });
}

#[test]
fn wait_closes_standard_input() {
    within(MINUTE, || {
        let start = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(start().wait().unwrap().success());
        assert!(start().wait_timeout(HOUR).unwrap().unwrap().success());
    });
}

#[test]
fn a_child_can_be_waited_for_again_and_again() {
    within(MINUTE, || {
        let mut child = shell("exit 3").spawn().unwrap();
        for _ in 0..3 {
            assert_eq!(child.wait().unwrap().code(), Some(3));
            assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(3));
            assert_eq!(child.wait_timeout(ms(0)).unwrap().unwrap().code(), Some(3));
        }
        assert_eq!(child.communicate([]).unwrap().status.code(), Some(3));
        // It has been reaped, and its number may be anybody's.
        child.kill().unwrap();
        child.terminate().unwrap();
        child.signal(SIGUSR1).unwrap();
    });
}

#[test]
fn wait_timeout_leaves_the_child_alone() {
    within(MINUTE, || {
        let mut child = sleeper();
        let start = Instant::now();
        assert_eq!(child.wait_timeout(ms(20)).unwrap(), None);
        assert!(start.elapsed() >= ms(20));
        assert_eq!(child.wait_timeout(ms(0)).unwrap(), None);
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(state(child.id()), Some('S'));
        child.terminate().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM.as_raw()));
    });
}

#[test]
fn signals_reach_the_child() {
    within(MINUTE, || {
        let mut child = sleeper();
        assert_eq!(child.signal(0).unwrap_err().kind(), ErrorKind::InvalidInput);
        child.signal(SIGUSR1).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGUSR1.as_raw()));
        let mut child = sleeper();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL.as_raw()));
    });
}

#[test]
fn signals_reach_a_whole_group() {
    within(MINUTE, || {
        let mut leader = sleeper_in(0);
        let mut member = sleeper_in(leader.id() as i32);
        let mut outsider = sleeper();
        let group = leader.id();
        greenloom::signal::send_to_group(group, SIGTERM).unwrap();
        assert_eq!(leader.wait().unwrap().signal(), Some(SIGTERM.as_raw()));
        assert_eq!(member.wait().unwrap().signal(), Some(SIGTERM.as_raw()));
        assert_eq!(outsider.try_wait().unwrap(), None);
        outsider.kill().unwrap();
        outsider.wait().unwrap();
        for nobody in [0, u32::MAX] {
            let error = greenloom::signal::send_to_group(nobody, SIGTERM).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}

/// gevent: "`wait([popen])` works"
#[test]
fn children_can_be_waited_for_among_other_things() {
    within(MINUTE, || {
        let mut children = [sleeper(), shell("exit 2").spawn().unwrap(), sleeper()];
        let event = Event::new();
        assert_eq!(wait_any([&event as &dyn Waitable, &children[0], &children[1]]), 2);
        assert!(children[1].is_ready() && !children[0].is_ready());
        assert_eq!(children[1].wait().unwrap().code(), Some(2));
        assert_eq!(wait_any_timeout([&children[0], &children[2]], ms(5)), None);
        assert!(!joinall_timeout(&children, ms(5)));
        event.set();
        assert_eq!(wait_any([&children[0] as &dyn Waitable, &event]), 1);
        for child in &mut children {
            child.kill().unwrap();
        }
        joinall(&children);
        let mut ended: Vec<_> = iwait(&children).collect();
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2]);
        // Also once it has been waited for by somebody else.
        assert_eq!(children[0].wait().unwrap().signal(), Some(SIGKILL.as_raw()));
        settle();
        assert_eq!(tasks(), 1);
    });
}

#[test]
fn who_watches_a_child_goes_with_it() {
    within(MINUTE, || {
        let child = sleeper();
        let id = child.id();
        assert!(!child.is_ready());
        settle();
        assert_eq!(tasks(), 2);
        drop(child);
        settle();
        assert_eq!(tasks(), 1);
        greenloom::signal::send(id, SIGKILL).unwrap();
    });
}

#[test]
fn a_child_can_be_watched_and_waited_for_at_the_same_time() {
    within(MINUTE, || {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        assert!(!child.is_ready());
        settle(); // the watcher is first in line
        let closer = spawn(move || drop(stdin));
        assert!(child.wait().unwrap().success());
        closer.join();
        settle();
        assert_eq!(tasks(), 1);
    });
}

/// gevent: "shell timeout returns in .1 s although grandchild holds the pipe"
#[test]
fn a_grandchild_that_holds_a_pipe_is_not_waited_for() {
    within(MINUTE, || {
        let mut child = shell("sleep 3600 & echo $!").stdout(Stdio::piped()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        // Its output does not end, of course.
        assert!(with_timeout(ms(20), || child.communicate([])).is_err());
        let (stdout, stderr) = child.take_output();
        assert!(stderr.is_empty());
        let grandchild = String::from_utf8(stdout).unwrap().trim().parse().unwrap();
        greenloom::signal::send(grandchild, SIGKILL).unwrap();
        assert_eq!(child.communicate([]).unwrap().stdout, b"");
    });
}

#[test]
fn what_one_waits_for_is_shown() {
    within(MINUTE, || {
        let waiter = spawn(|| Command::new("sleep").arg("3600").status());
        until_parked(waiter.id());
        assert!(reason_of(waiter.id()).unwrap().contains("Child"));
        waiter.kill();
    });
}

#[test]
fn a_wait_while_unwinding_fails_at_once() {
    within(MINUTE, || {
        let ends: Rc<Cell<Option<[Option<ErrorKind>; 4]>>> = Rc::default();
        let told = Rc::clone(&ends);
        let greenlet = spawn(move || {
            let _guard = at_drop(move || {
                let mut child = sleeper();
                let kind = |result: io::Result<()>| result.err().map(|error| error.kind());
                told.set(Some([
                    kind(child.wait().map(drop)),
                    kind(child.wait_timeout(HOUR).map(drop)),
                    kind(Command::new("sleep").arg("3600").status().map(drop)),
                    kind(shell("exec sleep 3600").output_with_input("x").map(drop)),
                ]));
                child.kill().unwrap();
            });
            panic!("on purpose");
        });
        greenlet.join();
        assert_eq!(ends.take().unwrap(), [Some(ErrorKind::Other); 4]);
        assert_eq!(reports().len(), 1);
    });
}

// ── Moving data ──

/// gevent: "communicate both ways > pipe buffer"
#[test]
fn much_goes_in_and_comes_out_at_the_same_time() {
    within(MINUTE, || {
        let input: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
        let output = shell("tee /dev/stderr").output_with_input(&input).unwrap();
        assert!(output.stdout == input, "{} bytes", output.stdout.len());
        assert!(output.stderr == input, "{} bytes", output.stderr.len());
        // Out of one pipe first, then out of the other.
        let script = format!("head -c {MUCH} /dev/zero >&2; head -c {MUCH} /dev/zero");
        let output = shell(&script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (MUCH, MUCH));
        let script = format!("head -c {MUCH} /dev/zero; head -c {MUCH} /dev/zero >&2");
        let output = shell(&script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (MUCH, MUCH));
    });
}

#[test]
fn a_child_that_does_not_read_its_input_is_no_error() {
    within(MINUTE, || {
        let output = shell("exec <&-; echo bye; exit 4").output_with_input(vec![b'x'; MUCH]);
        let output = output.unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(4), &b"bye\n"[..]));
    });
}

#[test]
fn every_combination_of_pipes() {
    within(MINUTE, || {
        for pipes in 0..8 {
            let cfg = |bit: u32| if pipes & bit == 0 { Stdio::null() } else { Stdio::piped() };
            let mut child = shell("cat; echo err >&2")
                .stdin(cfg(1))
                .stdout(cfg(2))
                .stderr(cfg(4))
                .spawn()
                .unwrap();
            let Output { status, stdout, stderr } = child.communicate("in").unwrap();
            assert!(status.success());
            assert_eq!(stdout, if pipes & 3 == 3 { "in" } else { "" }.as_bytes());
            assert_eq!(stderr, if pipes & 4 == 4 { "err\n" } else { "" }.as_bytes());
            assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        }
        settle();
        assert_eq!(tasks(), 1);
    });
}

/// gevent: "communicate can be retried", and "partial output"
#[test]
fn a_conversation_that_was_interrupted_goes_on() {
    within(MINUTE, || {
        let input = vec![b'x'; MUCH];
        // It reads no more than the half until it is told to.
        let mut child = shell(
            "head -c 524288; trap 'go=1' USR1; while [ -z \"$go\" ]; do sleep 0.01; done; cat; \
             echo done >&2",
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut so_far = 0;
        while so_far < 524_288 {
            assert!(with_timeout(ms(20), || child.communicate(&input)).is_err());
            so_far += child.take_output().0.len();
        }
        assert_eq!(so_far, 524_288);
        settle();
        assert_eq!(tasks(), 1); // those who read have gone with the wait
        // The trap may not be set yet, in which case the signal would end it.
        eventually(|| catches_usr1(child.id()));
        child.signal(SIGUSR1).unwrap();
        let output = child.communicate(&input).unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.iter().all(|byte| *byte == b'x'));
        assert_eq!(so_far + output.stdout.len(), MUCH);
        assert_eq!(output.stderr, b"done\n");
    });
}

fn catches_usr1(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (SIGUSR1.as_raw() - 1) != 0
}

#[test]
fn nothing_is_lost_when_a_reader_is_killed() {
    within(MINUTE, || {
        let mut command = shell("echo one; read x; echo two");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let stdout = Rc::new(child.stdout.take().unwrap());
        let mut line = [0; 4];
        (&*stdout).read_exact(&mut line).unwrap();
        let reader = {
            let stdout = Rc::clone(&stdout);
            spawn(move || (&*stdout).read(&mut [0; 64]))
        };
        until_parked(reader.id());
        reader.kill();
        stdin.write_all(b"go\n").unwrap();
        (&*stdout).read_exact(&mut line).unwrap();
        assert_eq!(&line, b"two\n");
        assert!(child.wait().unwrap().success());
    });
}

// ── What becomes of them ──

/// gevent: "run(timeout) kills"
#[test]
fn the_child_of_a_call_that_is_interrupted_is_killed_and_reaped() {
    within(MINUTE, || {
        let start: [fn(&mut Command) -> io::Result<()>; 3] = [
            |command| command.status().map(drop),
            |command| command.output().map(drop),
            |command| command.output_with_input(vec![0; MUCH]).map(drop),
        ];
        for call in start {
            let (mut listening, said) = greenloom::io::pipe().unwrap();
            let said = Rc::new(Cell::new(Some(said)));
            let run = move || {
                let mut command = shell("echo $$ >&2; exec sleep 3600");
                command.stderr(said.take().unwrap());
                call(&mut command)
            };
            let waiter = spawn(run);
            let mut id = String::new();
            while !id.ends_with('\n') {
                let mut byte = [0];
                listening.read_exact(&mut byte).unwrap();
                id.push(byte[0].into());
            }
            let id = id.trim().parse().unwrap();
            until_parked(waiter.id());
            assert!(state(id).is_some());
            waiter.kill();
            eventually(|| state(id).is_none());
            settle();
            assert_eq!(tasks(), 1);
        }
        assert!(with_timeout(ms(10), || shell("exec sleep 3600").output()).is_err());
    });
}

#[test]
fn a_dropped_child_runs_on_and_is_reaped_by_whoever_comes_next() {
    within(MINUTE, || {
        let mut children: Vec<_> =
            (0..3).map(|_| Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()).collect();
        let ids: Vec<_> = children.iter().map(Child::id).collect();
        let stdins: Vec<_> = children.iter_mut().map(|child| child.stdin.take()).collect();
        drop(children);
        assert!(ids.iter().all(|&id| matches!(state(id), Some(state) if state != 'Z')));
        drop(stdins);
        // Others of this process may come at any time, and do it; else they are zombies.
        eventually(|| ids.iter().all(|&id| matches!(state(id), None | Some('Z'))));
        Command::new("true").status().unwrap();
        assert!(!ids.iter().any(|&id| is_zombie(id)));
    });
}

#[test]
fn a_dropped_child_that_has_ended_is_reaped_at_once() {
    within(MINUTE, || {
        let child = Command::new("true").spawn().unwrap();
        let id = child.id();
        eventually(|| is_zombie(id));
        drop(child);
        assert_eq!(state(id), None);
    });
}

#[test]
fn children_of_a_thread_that_has_ended_are_reaped_by_others() {
    within(MINUTE, || {
        static IDS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
        thread::spawn(|| {
            let start = |n: usize| {
                let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                IDS.lock().unwrap().push(child.id());
                (n, child)
            };
            let (_, mut waited_for) = start(0);
            // Parked to the end, with an input that never ends.
            let _input = waited_for.stdin.take();
            spawn(move || waited_for.wait());
            let (_, watched) = start(1);
            assert!(!watched.is_ready());
            spawn(move || wait_any([&watched]));
            spawn(|| {
                let mut command = shell("echo $$ >&2; exec sleep 3600");
                command.stderr(Stdio::null());
                command.output()
            });
            greenloom::idle();
        })
        .join()
        .unwrap();
        let ids = IDS.lock().unwrap().clone();
        eventually(|| {
            Command::new("true").status().unwrap();
            ids.iter().all(|&id| state(id).is_none())
        });
    });
}

#[test]
fn what_a_call_has_started_is_reaped_when_its_thread_ends() {
    alone("child_ends_threads_with_children");
}

/// Nobody comes next who would sweep.
#[test]
#[ignore = "run by what_a_call_has_started_is_reaped_when_its_thread_ends in a process of its own"]
fn child_ends_threads_with_children() {
    if !is_child() {
        return;
    }
    let _guard = hang_guard();
    let ends: [fn(greenloom::Greenlet<io::Result<()>>); 3] = [
        // It still waits when the thread ends; or it has just been killed, and the one that reaps
        // has not begun; or that one waits.
        drop,
        |waiter| waiter.kill_nowait(),
        |waiter| waiter.kill(),
    ];
    let calls: [fn(&mut Command) -> io::Result<()>; 3] = [
        |command| command.status().map(drop),
        |command| command.output().map(drop),
        |command| command.output_with_input(vec![0; MUCH]).map(drop),
    ];
    for (end, call) in ends.into_iter().flat_map(|end| calls.map(|call| (end, call))) {
        let id = thread::spawn(move || {
            let before = children();
            let waiter = spawn(move || call(Command::new("sleep").arg("3600")));
            until_parked(waiter.id());
            let id = children().into_iter().find(|id| !before.contains(id)).unwrap();
            end(waiter);
            id
        });
        let id = id.join().unwrap();
        assert_eq!(state(id), None);
    }
    assert_eq!(children(), []);
}

/// "`Command` runs 200 children at once and collects all output and statuses; none is left a
/// zombie", and "descriptors, threads, tasks … are back to their start".
#[test]
fn two_hundred_at_once() {
    alone("child_runs_two_hundred_at_once");
}

#[test]
#[ignore = "run by two_hundred_at_once in a process of its own"]
fn child_runs_two_hundred_at_once() {
    if !is_child() {
        return;
    }
    // Not `within` threads that begin and end while they are counted.
    let _guard = hang_guard();
    const MANY: i32 = 200;
    let mut warm_up = sleeper(); // the hub has its poller
    assert_eq!(warm_up.wait_timeout(ms(1)).unwrap(), None);
    warm_up.kill().unwrap();
    warm_up.wait().unwrap();
    settle();
    let before = (descriptors(), tasks(), threads());
    // They meet at a pipe: none ends before all have begun.
    let (reader, writer) = greenloom::io::pipe().unwrap();
    let stdin = OwnedFd::try_from(reader).unwrap();
    let waiters: Vec<_> = (0..MANY)
        .map(|n| {
            let stdin = stdin.try_clone().unwrap();
            spawn(move || {
                let script =
                    format!("echo begun {n} >&2; cat; head -c 100000 /dev/zero; exit {}", n % 100);
                shell(&script).stdin(stdin).output().unwrap()
            })
        })
        .collect();
    waiters.iter().for_each(|waiter| until_parked(waiter.id()));
    assert_eq!(children().len(), MANY as usize);
    drop((stdin, writer));
    for (n, waiter) in (0..).zip(waiters) {
        let output = waiter.get().unwrap();
        assert_eq!(output.status.code(), Some(n % 100));
        assert_eq!(output.stdout.len(), 100_000);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("begun {n}\n"));
    }
    assert_eq!(children(), Vec::<u32>::new());
    settle();
    assert_eq!((descriptors(), tasks(), threads()), before);
}

#[test]
fn nothing_is_inherited_that_std_would_not_hand_down() {
    alone("child_looks_at_what_is_inherited");
}

#[test]
#[ignore = "run by nothing_is_inherited_that_std_would_not_hand_down in a process of its own"]
fn child_looks_at_what_is_inherited() {
    if !is_child() {
        return;
    }
    within(MINUTE, || {
        let list = || {
            let output = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let before = list();
        // Children with pipes, somebody who waits for one, signals, the poller.
        let _children: Vec<_> = (0..3)
            .map(|_| {
                let mut cat = Command::new("cat");
                cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                cat.spawn().unwrap()
            })
            .collect();
        let _signals = greenloom::signal::Signals::new([SIGUSR1]).unwrap();
        let waiter = spawn(|| Command::new("sleep").arg("3600").status());
        until_parked(waiter.id());
        assert_eq!(list(), before);
        let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), before);
        waiter.kill();
    });
}

#[test]
fn descriptors_run_out_without_a_hang() {
    alone("child_runs_out_of_descriptors");
}

#[test]
#[ignore = "run by descriptors_run_out_without_a_hang in a process of its own"]
fn child_runs_out_of_descriptors() {
    if !is_child() {
        return;
    }
    within(MINUTE, || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        sleep(ms(1));
        let closer = spawn(move || {
            sleep(ms(5));
            drop(stdin);
        });
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
        let error = Command::new("true").output().unwrap_err();
        // Neither a descriptor of the child nor a signal can be had: it is asked now and then.
        let status = child.wait();
        setrlimit(Resource::Nofile, before).unwrap();
        assert_eq!(error.raw_os_error(), Some(24), "{error}");
        assert!(status.unwrap().success());
        closer.join();
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(children(), Vec::<u32>::new());
    });
}

#[test]
fn what_runs_before_the_program_can_refuse() {
    within(MINUTE, || {
        let mut command = Command::new("true");
        // SAFETY: it makes an error of a number, and nothing else.
        #[expect(unsafe_code, reason = "this is what is tested")]
        unsafe {
            command.pre_exec(|| Err(io::Error::from_raw_os_error(1)));
        }
        assert_eq!(command.status().unwrap_err().raw_os_error(), Some(1));
        assert!(env::current_exe().is_ok());
    });
}

/// Files and standard streams of this crate take std's place here, too.
#[test]
fn files_and_standard_streams_as_input_and_output() {
    within(MINUTE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        greenloom::fs::write(&path, "from a file").unwrap();
        let input = greenloom::fs::File::open(&path).unwrap();
        let copy = folder.path().join("copy");
        let output = greenloom::fs::File::create(&copy).unwrap();
        let mut cat = Command::new("cat");
        cat.stdin(input).stdout(output).stderr(greenloom::io::stderr());
        assert!(cat.status().unwrap().success());
        assert_eq!(greenloom::fs::read_to_string(&copy).unwrap(), "from a file");
        let nothing = Command::new("true").stdout(greenloom::io::stdout()).status();
        assert!(nothing.unwrap().success());
    });
}
