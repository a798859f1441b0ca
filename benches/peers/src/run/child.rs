//! Processes that are measured, and that measure: none of them outlives us.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

/// Lines of standard error that are kept.
const COMPLAINTS: usize = 20;

/// How often we look whether somebody has pressed Ctrl-C.
const GLANCE: Duration = Duration::from_millis(50);

/// How long a process may take to end that has nothing left to do.
const FAREWELL: Duration = Duration::from_secs(20);

/// A process with all that it starts. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Process> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: the terminal's Ctrl-C is for us, and we end all of the group.
        command.process_group(0);
        let ends_with_us =
            || set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into);
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        unsafe { command.pre_exec(ends_with_us) };
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&complaints);
        let readers = vec![
            each_line(stdout, move |line| drop(sender.send(line))),
            each_line(stderr, move |line| {
                let mut kept = kept.lock().expect("nobody panics with it");
                if kept.len() == COMPLAINTS {
                    kept.pop_front();
                }
                kept.push_back(line);
            }),
        ];
        Ok(Process { child, lines, readers, complaints })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self, patience: Duration) -> anyhow::Result<String> {
        match self.next_line(Instant::now() + patience)? {
            Some(line) => Ok(line),
            None => Err(self.ended()),
        }
    }

    /// None: its standard output has ended.
    fn next_line(&self, deadline: Instant) -> anyhow::Result<Option<String>> {
        loop {
            match self.lines.recv_timeout(GLANCE) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if interrupted() => bail!("interrupted"),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    bail!("took too long")
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Waits until it has ended by itself, well; what it printed.
    pub(crate) fn finish(mut self, patience: Duration) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + patience;
        let mut lines = Vec::new();
        while let Some(line) = self.next_line(deadline)? {
            lines.push(line);
        }
        let status = self.wait()?;
        if status.success() { Ok(lines) } else { Err(self.failure(status)) }
    }

    /// Ends a server: by closing its standard input.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.finish(FAREWELL).map(drop)
    }

    /// Why it is no more.
    fn ended(&mut self) -> anyhow::Error {
        match self.wait() {
            Ok(status) => self.failure(status),
            Err(error) => error,
        }
    }

    fn failure(&mut self, status: ExitStatus) -> anyhow::Error {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let complaints = self.complaints.lock().expect("nobody panics with it");
        let last = complaints.iter().rev().find(|line| !line.trim().is_empty());
        match last {
            Some(last) => Failure { code: status.code(), words: last.trim().to_owned() }.into(),
            None => anyhow!("{status}"),
        }
    }

    fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline && !interrupted() {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            nap(Duration::from_millis(2));
        }
        bail!("does not end")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only while it has not been waited for: its number may be another's afterwards.
        if matches!(self.child.try_wait(), Ok(None)) {
            if let Some(group) = Pid::from_raw(self.child.id() as i32) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// A process ended badly, and said why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Option<i32>,
    /// The last line of its standard error.
    pub(crate) words: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}

#[expect(clippy::disallowed_methods, reason = "there are no greenlets in this process")]
pub(crate) fn nap(duration: Duration) {
    thread::sleep(duration);
}

fn each_line(
    stream: impl Read + Send + 'static,
    mut take: impl FnMut(String) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            take(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    })
}

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on Ctrl-C and a request to end are for [`interrupted`]; a second one ends us at once.
pub(crate) fn listen() -> anyhow::Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).unwrap()
    }

    #[test]
    fn lines_are_handed_over_and_standard_input_ends_it() {
        let mut process = shell("echo listening; cat; echo gone");
        assert_eq!(process.line(PATIENCE).unwrap(), "listening");
        process.end().unwrap();
        assert_eq!(shell("echo a; echo b").finish(PATIENCE).unwrap(), ["a", "b"]);
    }

    #[test]
    fn last_complaint_is_the_reason() {
        let error = shell("echo first >&2; echo because >&2; echo >&2; exit 3").finish(PATIENCE);
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "because");
        assert_eq!(error.downcast_ref::<Failure>().unwrap().code, Some(3));
        let error = shell("echo so it is >&2; exit 1").line(PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "so it is");
    }

    #[test]
    fn who_takes_too_long_is_killed_with_all_it_started() {
        let mut process = shell("sleep 1000 & echo $!; wait");
        let grandchild: i32 = process.line(PATIENCE).unwrap().parse().unwrap();
        let error = process.finish(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), "took too long");
        let grandchild = Pid::from_raw(grandchild).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while alive(grandchild) {
            assert!(Instant::now() < deadline, "it lives on");
            nap(Duration::from_millis(5));
        }
    }

    /// A zombie is dead, though nobody may have taken note of it yet.
    fn alive(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }
}
