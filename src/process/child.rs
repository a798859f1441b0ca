//! `Child`: one that runs, or has ended.

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::process::{self, ExitStatus, Output};
use std::time::Duration;

use super::handle::Handle;
use super::stdio::{ChildStderr, ChildStdin, ChildStdout};
use super::talk::Talk;
use crate::signal::{SIGTERM, Signal};
use crate::wait::sealed::HasLine;
use crate::wait::{Limit, WaitList, Waitable};

/// A child process: [`std::process::Child`], except that waiting parks the greenlet.
///
/// Dropped, it runs on, and is reaped some time after it has ended (see
/// [the module](super#no-zombies)). It is [`Waitable`]: ready when it has ended.
///
/// # Examples
///
/// ```
/// use greenloom::process::{Command, Stdio};
/// use std::io::{Read, Write};
///
/// let mut child = Command::new("tr").args(["a-z", "A-Z"])
///     .stdin(Stdio::piped())
///     .stdout(Stdio::piped())
///     .spawn()?;
/// child.stdin.take().unwrap().write_all(b"hello")?; // and is closed
/// let mut answer = String::new();
/// child.stdout.take().unwrap().read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO");
/// assert!(child.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The first of several to end:
///
/// ```
/// use greenloom::{process::Command, wait_any};
///
/// let start = |time| Command::new("sleep").arg(time).spawn();
/// let mut children = [start("60")?, start("0")?];
/// assert_eq!(wait_any(&children), 1);
/// children[0].kill()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Child {
    /// The pipe to its standard input, if it was asked for by
    /// [`Stdio::piped`](std::process::Stdio::piped). To close it, take it.
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output, if it was asked for.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error, if it was asked for.
    pub stderr: Option<ChildStderr>,
    handle: Handle,
    talk: Talk,
}

impl Child {
    /// The number that the system knows it by.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.handle.id()
    }

    /// Ends it, by `SIGKILL`. It is a zombie until it is [waited](Child::wait) for. If it has been,
    /// nothing happens.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.handle.kill()
    }

    /// Asks it to end, by `SIGTERM`. If it has been waited for, nothing happens.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn terminate(&mut self) -> io::Result<()> {
        self.signal(SIGTERM)
    }

    /// Sends it a signal. If it has been waited for, nothing happens: its number may be another
    /// process's by then.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no signal; else as the system says.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::{process::Command, signal};
    /// use std::os::unix::process::ExitStatusExt;
    ///
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// child.signal(signal::SIGUSR1)?;
    /// assert_eq!(child.wait()?.signal(), Some(signal::SIGUSR1.as_raw()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn signal<S>(&mut self, signal: S) -> io::Result<()>
    where
        S: TryInto<Signal, Error: std::error::Error>,
    {
        self.handle.signal(signal)
    }

    /// Waits until it has ended. Its standard input is closed first, so that it does not wait for
    /// us; what others hold open (a grandchild that has its output, say) is not waited for.
    ///
    /// # Errors
    ///
    /// As the system says; [`Other`](io::ErrorKind::Other) while the greenlet unwinds.
    #[track_caller]
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.handle.wait(Limit::Forever)
    }

    /// As [`wait`](Child::wait), but at most so long. `None`: it runs on.
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::process::Command;
    /// use std::time::Duration;
    ///
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// if child.wait_timeout(Duration::from_millis(20))?.is_none() {
    ///     child.kill()?;
    /// }
    /// assert!(!child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn wait_timeout(&mut self, d: Duration) -> io::Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        match self.handle.wait(Limit::Within(d)) {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its status, if it has ended. It never waits.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.handle.try_wait()
    }

    /// Closes its standard input, reads all that comes from the pipes, both at the same time, and
    /// waits until it has ended.
    ///
    /// If the caller is killed or runs out of time, the child runs on, without anybody who reads;
    /// [`communicate`](Child::communicate) keeps hold of it, and [`Command::output`] ends it.
    ///
    /// [`Command::output`]: super::Command::output
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.communicate([])
    }

    /// Writes `input` to its standard input and closes that, reads all that comes from the pipes,
    /// and waits until it has ended; all at the same time, so however much it is in whatever
    /// direction, nobody waits for the other. gevent's and Python's `communicate`.
    ///
    /// Without a pipe for its standard input, `input` is dropped. A child that does not read to the
    /// end is no error.
    ///
    /// It may be interrupted by a kill or a timeout, and be called again with the same input: it
    /// goes on where it was, and nothing is sent twice or lost. What has been read in the meantime
    /// can be had by [`take_output`](Child::take_output).
    ///
    /// # Errors
    ///
    /// As the system says; [`Other`](io::ErrorKind::Other) while the greenlet unwinds.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::{process::{Command, Stdio}, with_timeout};
    /// use std::time::Duration;
    ///
    /// let mut child = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// match with_timeout(Duration::from_secs(10), || child.communicate("b\na\n")) {
    ///     Ok(output) => assert_eq!(output?.stdout, b"a\nb\n"),
    ///     Err(_) => child.kill()?,
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn communicate(&mut self, input: impl AsRef<[u8]>) -> io::Result<Output> {
        let (stdout, stderr) = (self.stdout.as_ref(), self.stderr.as_ref());
        self.talk.run(input.as_ref(), &mut self.stdin, stdout, stderr)?;
        let status = self.handle.wait(Limit::Forever)?;
        drop((self.stdout.take(), self.stderr.take()));
        let (stdout, stderr) = self.talk.take();
        Ok(Output { status, stdout, stderr })
    }

    /// What [`communicate`](Child::communicate) has read from standard output and standard error
    /// before it was interrupted. What is taken here, it will not return.
    #[must_use]
    pub fn take_output(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.talk.take()
    }

    /// Ends it at once, and sees to it that it is reaped. It does not wait.
    pub(super) fn put_down(self) {
        self.handle.put_down();
    }
}

impl TryFrom<process::Child> for Child {
    type Error = io::Error;

    /// One that std has started.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn try_from(mut child: process::Child) -> io::Result<Child> {
        let stdin = child.stdin.take().map(ChildStdin::try_from).transpose();
        let stdout = child.stdout.take().map(ChildStdout::try_from).transpose();
        let stderr = child.stderr.take().map(ChildStderr::try_from).transpose();
        let handle = Handle::new(child); // from here on it is reaped, whatever happens
        let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
        Ok(Child { stdin, stdout, stderr, handle, talk: Talk::default() })
    }
}

impl HasLine for Child {
    fn line(&self) -> &WaitList {
        self.handle.line()
    }
}

impl Waitable for Child {
    /// Has it ended? The first to ask makes a small greenlet that watches it, until it has ended
    /// or the `Child` is dropped.
    fn is_ready(&self) -> bool {
        self.handle.is_ready()
    }
}

impl UnwindSafe for Child {}
impl RefUnwindSafe for Child {}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}
