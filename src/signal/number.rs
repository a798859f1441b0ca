//! `Signal`: which one.

use std::fmt;
use std::io;
use std::str::FromStr;

use signal_hook::consts;
use signal_hook::low_level::signal_name;

/// A signal, such as [`SIGTERM`].
///
/// The constants of this module are of this type. A plain number, such as `libc::SIGTERM`, is taken
/// as well by every function here; it is checked.
///
/// # Examples
///
/// ```
/// use greenloom::signal::{SIGTERM, Signal};
///
/// assert_eq!(Signal::from_raw(15)?, SIGTERM);
/// assert_eq!(SIGTERM.to_string(), "SIGTERM");
/// assert!(Signal::from_raw(0).is_err());
/// assert_eq!("term".parse::<Signal>()?, SIGTERM);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// How many signals there can be, as far as we are concerned.
const MOST: i32 = 64;

impl Signal {
    /// The signal with that number.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is not from 1 to 64. (Whether there is a signal of that number, the
    /// system says when it is used.)
    pub fn from_raw(number: i32) -> io::Result<Signal> {
        if (1..=MOST).contains(&number) {
            Ok(Signal(number))
        } else {
            let what = format!("there is no signal {number}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        }
    }

    /// The number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        self.0
    }

    /// Its name, if it has one: `"SIGTERM"`.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        signal_name(self.0)
    }

    /// Can a program be told of it, and go on? Not of [`SIGKILL`] and [`SIGSTOP`], which the system
    /// keeps to itself, nor of those that mean a fault of the running code ([`SIGSEGV`] and the
    /// like): that code would fault again before any greenlet had its turn.
    #[must_use]
    pub fn can_be_caught(self) -> bool {
        ![SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL].contains(&self)
    }
}

/// By its name, with or without `SIG` (`"SIGTERM"`, `"term"`), or its number.
impl FromStr for Signal {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Signal> {
        if let Ok(number) = text.parse() {
            return Signal::from_raw(number);
        }
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let is_it =
            |signal: &Signal| signal.name().and_then(|its| its.strip_prefix("SIG")) == Some(name);
        let unknown =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("there is no signal {text:?}"));
        (1..=MOST).map(Signal).find(is_it).ok_or_else(unknown)
    }
}

impl TryFrom<i32> for Signal {
    type Error = io::Error;

    fn try_from(number: i32) -> io::Result<Signal> {
        Signal::from_raw(number)
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.as_raw()
    }
}

/// Its name; `signal 40` if it has none.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! signals {
    ($($(#[$what:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$what])*
            pub const $name: Signal = Signal(consts::$name);
        )*
    };
}

signals! {
    /// The process is to abort.
    SIGABRT,
    /// The time of `alarm` is over.
    SIGALRM,
    /// A fault of memory. It cannot be caught here, only sent.
    SIGBUS,
    /// A child has ended or stopped. Ignored by default.
    SIGCHLD,
    /// The process goes on after a stop.
    SIGCONT,
    /// A fault of arithmetic. It cannot be caught here, only sent.
    SIGFPE,
    /// The terminal has gone; daemons read their configuration again.
    SIGHUP,
    /// An instruction that there is none. It cannot be caught here, only sent.
    SIGILL,
    /// Control-C.
    SIGINT,
    /// Ends the process at once. It cannot be caught, only sent.
    SIGKILL,
    /// Somebody wrote to a pipe that nobody reads. Rust programs ignore it, and see an error
    /// instead.
    SIGPIPE,
    /// A timer for profiling.
    SIGPROF,
    /// Control-backslash.
    SIGQUIT,
    /// A fault of memory. It cannot be caught here, only sent.
    SIGSEGV,
    /// Stops the process. It cannot be caught, only sent.
    SIGSTOP,
    /// A system call that there is none.
    SIGSYS,
    /// Please end.
    SIGTERM,
    /// A trap of a debugger.
    SIGTRAP,
    /// Control-Z.
    SIGTSTP,
    /// A process in the background has read from the terminal.
    SIGTTIN,
    /// A process in the background has written to the terminal.
    SIGTTOU,
    /// Urgent data on a socket. Ignored by default.
    SIGURG,
    /// Whatever the program likes.
    SIGUSR1,
    /// Whatever the program likes.
    SIGUSR2,
    /// A timer of processor time.
    SIGVTALRM,
    /// The terminal has changed its size. Ignored by default.
    SIGWINCH,
    /// The limit of processor time is reached.
    SIGXCPU,
    /// The limit of a file's size is reached.
    SIGXFSZ,
    /// A descriptor is ready for what was asked of it. Ignored by some systems by default.
    SIGIO,
}

/// # Errors
///
/// `InvalidInput` for what is no signal.
pub(super) fn named<S>(signal: S) -> io::Result<Signal>
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    let refused = |error: S::Error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    signal.try_into().map_err(refused)
}

/// # Errors
///
/// `InvalidInput` for what is no signal, and for those that nobody can be told of.
pub(super) fn catchable<S>(signal: S) -> io::Result<Signal>
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    let signal = named(signal)?;
    if signal.can_be_caught() {
        Ok(signal)
    } else {
        let what = format!("{signal} cannot be caught");
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }
}

/// Some signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) fn insert(&mut self, signal: Signal) {
        self.0 |= Set::bit(signal);
    }

    pub(super) fn contains(self, signal: Signal) -> bool {
        self.0 & Set::bit(signal) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    pub(super) fn or(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// Takes out the one with the lowest number.
    pub(super) fn pop(&mut self) -> Option<Signal> {
        let first = self.iter().next()?;
        self.0 &= !Set::bit(first);
        Some(first)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Signal> {
        (1..=MOST).map(Signal).filter(move |&signal| self.contains(signal))
    }

    fn bit(signal: Signal) -> u64 {
        1 << (signal.0 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_was_put_in_from_the_lowest() {
        let mut set = Set::default();
        for signal in [SIGTERM, SIGINT, Signal(MOST), SIGINT] {
            set.insert(signal);
        }
        let out: Vec<_> = std::iter::from_fn(|| set.pop()).collect();
        assert_eq!(out, [SIGINT, SIGTERM, Signal(MOST)]);
        assert!(set.is_empty());
    }

    #[test]
    fn numbers_are_checked() {
        for wrong in [i32::MIN, -1, 0, 65, i32::MAX] {
            let error = Signal::from_raw(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&wrong.to_string()), "{error}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written_and_otherwise() {
        for signal in (1..=MOST).filter_map(|n| Signal(n).name().map(|_| Signal(n))) {
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
        for text in ["SIGHUP", "hup", "Hup", "1"] {
            assert_eq!(text.parse::<Signal>().unwrap(), SIGHUP);
        }
        for text in ["", "SIG", "SIGSIGHUP", "0", "65", "-1", "no"] {
            let error = text.parse::<Signal>().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
