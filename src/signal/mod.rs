//! Signals, taken by greenlets.
//!
//! [`on`] calls a function whenever a signal comes, in a greenlet of its own, where it may do what
//! any code may do, waiting included; [`wait`] waits for one; [`Signals`] listens to several without
//! missing any in between.
//!
//! ```no_run
//! use greenloom::signal::{self, SIGINT, SIGTERM, SIGUSR1};
//!
//! signal::on(SIGUSR1, |_| println!("all is well"));
//! let signal = signal::wait_any([SIGINT, SIGTERM]);
//! println!("{signal}: shutting down");
//! ```
//!
//! # What a signal does otherwise
//!
//! A signal that nobody here is interested in does what it does in any program: SIGINT ends the
//! process. That is suspended as long as there is a handler, a listener or somebody who waits,
//! anywhere in the process, and is back when the last of them has gone. (A signal that comes in just
//! that moment may be taken for one that came before, and do nothing.) So a loop that calls [`wait`]
//! again and again is exposed in between; `Signals` is not. And a program that has waited for one
//! control-C, and is slow to shut down, is ended by a second.
//!
//! Handlers that others have installed before, in Rust or in C, are called as well. Programs that
//! install some *later*, by another way than this module, should keep a listener of this module for
//! the same signal alive; else what it does by default is done when the last interest has gone.
//!
//! # Merged, not lost
//!
//! As in the kernel, several signals of one kind that come close together may be delivered as one;
//! but there is always a delivery after the last of them was sent. Whoever counts on each must be
//! told in another way.
//!
//! # How, and why not otherwise
//!
//! A handler (of the crate `signal-hook`) sets a flag and writes a byte into a socket, which wakes
//! the hub; it does so in whatever thread the signal arrives. Linux's signalfd was rejected: it is told
//! only of signals that are *blocked in every thread*, which a library cannot promise for threads
//! that others make, and which every child would inherit through `exec`, so that none could be
//! stopped by control-C. Handlers are reset by `exec`.
//!
//! A process that was made by a bare `fork` (not by [`process::Command`](crate::process)) shares
//! those sockets with its parent, and must not use the hub of its parent in any case.

mod claim;
mod listener;
mod number;
mod service;

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Weak;
use std::time::Duration;

pub use listener::Signals;
pub use number::*;
use rustix::process::{Pid, kill_process, kill_process_group};

use self::service::Service;

/// Calls `f` each time that `signal` comes, in a greenlet of its own.
///
/// `f` may wait; if the signal comes again meanwhile, a second greenlet runs beside the first (so it is
/// `Fn` and not `FnMut`). What it returns is dropped. A panic in it is reported through the hub's error hook, and the handler stays. It belongs to the
/// calling thread's hub and is gone when that thread ends, or when it is
/// [cancelled](Registration::cancel). Dropping the [`Registration`] does nothing. While it is there,
/// the hub counts on being woken and never panics with [`BlocksForever`](crate::BlocksForever).
/// gevent's `signal_handler`.
///
/// # Panics
///
/// If `signal` is no signal or cannot be caught (as [`SIGKILL`]), or if the system has no descriptor
/// left for it. [`try_on`] returns an error instead.
///
/// # Examples
///
/// ```
/// use greenloom::{signal, sync::Event};
///
/// let told = Event::new();
/// let tell = told.clone();
/// signal::on(signal::SIGUSR1, move |_| tell.set());
///
/// signal::raise(signal::SIGUSR1)?;
/// told.wait();
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn on<S, F, R>(signal: S, f: F) -> Registration
where
    S: TryInto<Signal, Error: std::error::Error>,
    F: Fn(Signal) -> R + 'static,
    R: 'static,
{
    match try_on(signal, f) {
        Ok(registration) => registration,
        Err(error) => panic!("no handler for a signal: {error}"),
    }
}

/// As [`on`], for those who want to know if it fails.
///
/// # Errors
///
/// `InvalidInput` for what is no signal, or cannot be caught; else as the system says. `Other` when
/// the thread is ending.
#[track_caller]
pub fn try_on<S, F, R>(signal: S, f: F) -> io::Result<Registration>
where
    S: TryInto<Signal, Error: std::error::Error>,
    F: Fn(Signal) -> R + 'static,
    R: 'static,
{
    let signal = number::catchable(signal)?;
    let (service, id) = Service::handle(signal, Box::new(move |signal| drop(f(signal))))?;
    Ok(Registration { signal, service: std::rc::Rc::downgrade(&service), id })
}

/// A handler that was installed by [`on`]. Dropping it leaves the handler where it is.
///
/// A handle: clones name the same handler.
#[derive(Clone)]
pub struct Registration {
    signal: Signal,
    service: Weak<Service>,
    id: u64,
}

impl Registration {
    /// Takes the handler away. True if that was because of this call.
    ///
    /// From now on it is not called any more; calls that have begun run on. It never switches.
    pub fn cancel(&self) -> bool {
        self.service.upgrade().is_some_and(|service| service.leave(self.id))
    }

    /// Is the handler still installed?
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.service.upgrade().is_some_and(|service| service.has(self.id))
    }

    /// Which signal it is for.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }
}

impl UnwindSafe for Registration {}
impl RefUnwindSafe for Registration {}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("signal", &self.signal)
            .field("is_active", &self.is_active())
            .finish()
    }
}

/// Waits for a signal. While the caller unwinds, it returns at once.
///
/// What comes before it is called, or between two calls, does what it does otherwise; see
/// [`Signals`].
///
/// # Panics
///
/// As [`on`].
///
/// # Examples
///
/// ```no_run
/// greenloom::signal::wait(greenloom::signal::SIGTERM);
/// ```
#[track_caller]
pub fn wait<S>(signal: S)
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    listen([signal]).wait();
}

/// As [`wait`], but at most so long. True: it came.
///
/// # Panics
///
/// As [`on`].
#[track_caller]
pub fn wait_timeout<S>(signal: S, d: Duration) -> bool
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    listen([signal]).wait_timeout(d).is_some()
}

/// Waits for the first of several signals. As [`wait`] else.
///
/// # Panics
///
/// As [`on`]; if there are none, as none of them would ever come; and while the caller unwinds,
/// because there is no signal that it could return.
#[track_caller]
pub fn wait_any<I>(signals: I) -> Signal
where
    I: IntoIterator,
    I::Item: TryInto<Signal, Error: std::error::Error>,
{
    match listen(signals).wait() {
        Some(signal) => signal,
        None => panic!("a greenlet that unwinds cannot wait for a signal"),
    }
}

#[track_caller]
fn listen<I>(signals: I) -> Signals
where
    I: IntoIterator,
    I::Item: TryInto<Signal, Error: std::error::Error>,
{
    match Signals::new(signals) {
        Ok(signals) => signals,
        Err(error) => panic!("nobody can listen to that signal: {error}"),
    }
}

/// Sends a signal to this very process. Any signal; what [cannot be caught](Signal::can_be_caught)
/// as well.
///
/// # Errors
///
/// `InvalidInput` for what is no signal; else as the system says.
pub fn raise<S>(signal: S) -> io::Result<()>
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    signal_hook::low_level::raise(number::named(signal)?.as_raw())
}

/// Sends a signal to another process, by its number.
///
/// For children, prefer [`Child::signal`](crate::process::Child::signal): it never hits somebody
/// else who has got the number of a child that has ended.
///
/// # Errors
///
/// `InvalidInput` for what is no signal and no process; `Unsupported` for signals without a name;
/// else as the system says, for instance `PermissionDenied`.
pub fn send<S>(pid: u32, signal: S) -> io::Result<()>
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    let (pid, signal) = (process(pid)?, sendable(number::named(signal)?)?);
    Ok(kill_process(pid, signal)?)
}

/// Sends a signal to all processes of a group, which is named by the process that leads or has led
/// it: see [`Command::process_group`](crate::process::Command::process_group).
///
/// # Errors
///
/// As [`send`].
pub fn send_to_group<S>(group: u32, signal: S) -> io::Result<()>
where
    S: TryInto<Signal, Error: std::error::Error>,
{
    let (group, signal) = (process(group)?, sendable(number::named(signal)?)?);
    Ok(kill_process_group(group, signal)?)
}

/// Zero would be our own process group, and what is negative another one.
fn process(number: u32) -> io::Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("there is no process {number}"))
    })
}

fn sendable(signal: Signal) -> io::Result<rustix::process::Signal> {
    rustix::process::Signal::from_named_raw(signal.as_raw())
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}
