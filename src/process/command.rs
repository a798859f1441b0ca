//! `Command`: what is to be started, and how.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

use super::child::Child;
use super::orphans;
use crate::sys::native::natively;

/// A program to be started: [`std::process::Command`], except that waiting for it parks the
/// greenlet.
///
/// # Examples
///
/// Many at once, at most ten at a time:
///
/// ```
/// use greenloom::{pool::Pool, process::Command};
///
/// let squares = Pool::new(10).map(1..=30, |n| {
///     let output = Command::new("expr").args([n.to_string(), "*".into(), n.to_string()]).output()?;
///     Ok::<_, std::io::Error>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
/// });
/// assert_eq!(squares[11].as_deref().unwrap(), "144");
/// ```
pub struct Command {
    std: process::Command,
    /// What was asked for; the rest depends on how it is started.
    has_stdin: bool,
    has_stdout: bool,
    has_stderr: bool,
}

impl Command {
    /// A command for the program at that path, or of that name, which is looked for in `PATH`.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        let std = process::Command::new(program);
        Command { std, has_stdin: false, has_stdout: false, has_stderr: false }
    }

    pub(super) fn std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds several arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets a variable of its environment, which is else that of this process.
    pub fn env<K, V>(&mut self, key: K, val: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.env(key, val);
        self
    }

    /// Sets several variables of its environment.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Gives it none of this process's environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the directory that it works in.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Sets its standard input. By default it is this process's, and nothing for
    /// [`output`](Command::output).
    pub fn stdin<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.std.stdin(cfg);
        self.has_stdin = true;
        self
    }

    /// Sets its standard output. By default it is this process's, and a pipe for
    /// [`output`](Command::output).
    pub fn stdout<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.std.stdout(cfg);
        self.has_stdout = true;
        self
    }

    /// Sets its standard error. By default it is this process's, and a pipe for
    /// [`output`](Command::output).
    pub fn stderr<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.std.stderr(cfg);
        self.has_stderr = true;
        self
    }

    /// Starts it. This blocks the thread until the system has, usually within a millisecond.
    ///
    /// # Errors
    ///
    /// As [`std::process::Command::spawn`]: `NotFound` if there is no such program, for instance.
    pub fn spawn(&mut self) -> io::Result<Child> {
        orphans::sweep();
        Child::try_from(natively(|| self.std.spawn())?)
    }

    /// Starts it, reads all that it writes, and waits until it has ended.
    ///
    /// Standard output and standard error are read at the same time. If the caller is killed or runs
    /// out of time, or if a pipe fails, the child is killed and reaped, as nobody else could.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn); as the system says.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::process::Command;
    ///
    /// let output = Command::new("echo").arg("hello").output()?;
    /// assert!(output.status.success());
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn output(&mut self) -> io::Result<Output> {
        let child = self.spawn_with(Stdio::null)?;
        let mut child = Owned(Some(child));
        child.with(|child| {
            drop(child.stdin.take());
            child.communicate([])
        })
    }

    /// As [`output`](Command::output), with something on its standard input, which is a pipe then
    /// unless it was set otherwise. See [`Child::communicate`].
    ///
    /// # Errors
    ///
    /// As [`output`](Command::output); `InvalidInput` if its standard input was set to something that
    /// is not a pipe.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenloom::process::Command;
    ///
    /// let output = Command::new("tr").args(["a-z", "A-Z"]).output_with_input("hello")?;
    /// assert_eq!(output.stdout, b"HELLO");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn output_with_input(&mut self, input: impl AsRef<[u8]>) -> io::Result<Output> {
        let child = self.spawn_with(Stdio::piped)?;
        let mut child = Owned(Some(child));
        child.with(|child| {
            if child.stdin.is_none() {
                let what = "the input has no pipe: standard input was set to something else";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            child.communicate(input)
        })
    }

    /// Starts it, and waits until it has ended.
    ///
    /// If the caller is killed or runs out of time, the child is killed and reaped, as nobody else
    /// could.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn); as the system says.
    #[track_caller]
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let mut child = Owned(Some(self.spawn()?));
        child.with(Child::wait)
    }

    /// With pipes, and that standard input, where nothing else was asked for.
    fn spawn_with(&mut self, stdin: fn() -> Stdio) -> io::Result<Child> {
        if !self.has_stdin {
            self.std.stdin(stdin());
        }
        if !self.has_stdout {
            self.std.stdout(Stdio::piped());
        }
        if !self.has_stderr {
            self.std.stderr(Stdio::piped());
        }
        let child = self.spawn();
        // As it was, for whoever uses it again.
        if !self.has_stdin {
            self.std.stdin(Stdio::inherit());
        }
        if !self.has_stdout {
            self.std.stdout(Stdio::inherit());
        }
        if !self.has_stderr {
            self.std.stderr(Stdio::inherit());
        }
        child
    }

    /// The program.
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// The arguments, without the program.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// What is set or removed (`None`) of the environment.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// The directory that it will work in, if one is set.
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    // ── what std has in `CommandExt` ──

    /// Sets the user that it runs as.
    pub fn uid(&mut self, id: u32) -> &mut Command {
        self.std.uid(id);
        self
    }

    /// Sets the group that it runs as.
    pub fn gid(&mut self, id: u32) -> &mut Command {
        self.std.gid(id);
        self
    }

    /// Sets what it is told to be called, which is else the program.
    pub fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg0(arg);
        self
    }

    /// Sets its process group; 0: a new one of its own. A terminal's control-C reaches the
    /// foreground group only.
    pub fn process_group(&mut self, pgroup: i32) -> &mut Command {
        self.std.process_group(pgroup);
        self
    }

    /// Replaces this process by it: returns only if that fails. No destructor runs, of whatever
    /// greenlet.
    pub fn exec(&mut self) -> io::Error {
        self.std.exec()
    }
}

/// A child that nobody else has a handle to: it ends with the call that made it.
struct Owned(Option<Child>);

impl Owned {
    #[track_caller]
    fn with<T>(&mut self, f: impl FnOnce(&mut Child) -> io::Result<T>) -> io::Result<T> {
        let Some(child) = &mut self.0 else { return Err(io::ErrorKind::NotFound.into()) };
        let value = f(child)?;
        self.0 = None;
        Ok(value)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            child.put_down();
        }
    }
}

impl From<process::Command> for Command {
    /// What was set for its standard streams is not known any more: [`output`](Command::output)
    /// takes it that nothing was.
    fn from(std: process::Command) -> Command {
        Command { std, has_stdin: false, has_stdout: false, has_stderr: false }
    }
}

impl UnwindSafe for Command {}
impl RefUnwindSafe for Command {}

impl fmt::Debug for Command {
    /// As std's: the command as one would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
