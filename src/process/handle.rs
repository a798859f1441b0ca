//! A child as the system knows it: its status, and how to wait for that.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{self, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::orphans;
use crate::error::Unwinding;
use crate::greenlet::{Builder, Greenlet};
use crate::hub::{self, Side};
use crate::signal::{self, SIGCHLD, Signal, Signals};
use crate::source::{Source, Tried};
use crate::wait::{self, Limit, WaitList};

/// Dropped before the child has ended, it leaves the child to those who sweep.
#[derive(Debug)]
pub(super) struct Handle {
    state: Rc<State>,
    /// Tells those who wait in `line` when the child has ended; there since the first of them came.
    watcher: RefCell<Option<Greenlet<()>>>,
}

#[derive(Debug)]
struct State {
    id: u32,
    /// `None` once the handle is gone.
    child: RefCell<Option<process::Child>>,
    status: Cell<Option<ExitStatus>>,
    /// Readable when it has ended. There from the first wait to the end.
    descriptor: RefCell<Option<Rc<Source<OwnedFd>>>>,
    /// Those who wait for it among other things.
    line: WaitList,
}

/// How often a child is asked whether it has ended, if nothing at all would tell.
const ASK_EVERY: Duration = Duration::from_millis(20);

impl Handle {
    pub(super) fn new(child: process::Child) -> Handle {
        let state = State {
            id: child.id(),
            child: RefCell::new(Some(child)),
            status: Cell::new(None),
            descriptor: RefCell::default(),
            line: WaitList::default(),
        };
        Handle { state: Rc::new(state), watcher: RefCell::default() }
    }

    pub(super) fn id(&self) -> u32 {
        self.state.id
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        self.state.child.borrow_mut().as_mut().map_or(Ok(()), process::Child::kill)
    }

    /// Sends a signal, unless the child has been reaped: its number may be somebody else's then.
    pub(super) fn signal<S>(&self, signal: S) -> io::Result<()>
    where
        S: TryInto<Signal, Error: std::error::Error>,
    {
        if self.state.status.get().is_some() { Ok(()) } else { signal::send(self.id(), signal) }
    }

    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.state.try_wait()
    }

    /// # Errors
    ///
    /// `TimedOut` after `limit`; else as the system says.
    #[track_caller]
    pub(super) fn wait(&self, limit: Limit) -> io::Result<ExitStatus> {
        orphans::sweep();
        wait::spend();
        self.state.wait(limit)
    }

    /// Kills the child, and sees to it that it is reaped as soon as it has ended. For destructors:
    /// it does not wait, unless no greenlet can do so any more.
    pub(super) fn put_down(self) {
        let is_killed = self.kill().is_ok();
        let lives = matches!(self.try_wait(), Ok(None));
        let dying = Dying { handle: self, is_killed };
        if lives && !hub::has_ended() {
            let _ = Builder::new().name("reaper").spawn(move || dying.reap());
        }
    }

    pub(super) fn line(&self) -> &WaitList {
        &self.state.line
    }

    /// Has it ended? If not, those who wait in the line will be told.
    #[track_caller]
    pub(super) fn is_ready(&self) -> bool {
        // An error is for `wait` to tell.
        let has_ended = !matches!(self.state.try_wait(), Ok(None));
        if !has_ended && self.watcher.borrow().is_none() && !hub::has_ended() {
            let state = Rc::clone(&self.state);
            let watcher = crate::greenlet::spawn(move || {
                let _ = state.wait(Limit::Forever);
                state.line.wake_all();
            });
            self.watcher.replace(Some(watcher));
        }
        has_ended
    }
}

/// A child that was put down, and may not have ended yet.
struct Dying {
    handle: Handle,
    /// Not if it has become another user's. Then it may run on, and is one for those who sweep.
    is_killed: bool,
}

impl Dying {
    fn reap(&self) -> io::Result<()> {
        self.handle.wait(Limit::Forever).map(drop)
    }
}

impl Drop for Dying {
    /// If it has not ended by now, the reaper had no stack or its hub is closing. That may be the
    /// last of the process, and nobody would ever sweep; so the thread waits. After `SIGKILL` that
    /// does not take long.
    fn drop(&mut self) {
        if let (true, Some(child)) = (self.is_killed, &mut *self.handle.state.child.borrow_mut()) {
            let _ = child.wait();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.kill_nowait();
        }
        let lives = matches!(self.state.try_wait(), Ok(None));
        if let (true, Some(child)) = (lives, self.state.child.take()) {
            orphans::adopt(child);
        }
    }
}

impl State {
    fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        if self.status.get().is_none() {
            let mut child = self.child.borrow_mut();
            let Some(child) = child.as_mut() else { return Ok(None) };
            self.status.set(child.try_wait()?);
        }
        let status = self.status.get();
        if status.is_some() {
            let descriptor = self.descriptor.take();
            drop(descriptor);
            self.line.wake_all();
        }
        Ok(status)
    }

    #[track_caller]
    fn wait(&self, limit: Limit) -> io::Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        match self.descriptor() {
            Some(descriptor) => descriptor.run(Side::Read, &"wait of the Child", limit, |_| {
                match self.try_wait()? {
                    Some(status) => Ok(Tried::Done(status)),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                }
            }),
            None => self.wait_by_signal(limit.deadline()),
        }
    }

    /// Without a descriptor there is only "some child has ended".
    #[track_caller]
    fn wait_by_signal(&self, deadline: Option<Instant>) -> io::Result<ExitStatus> {
        // Not even that when the process has no descriptor left; then one can ask.
        let signals = Signals::new([SIGCHLD]).ok();
        loop {
            // It is looked at after the signal has been listened to: none is missed.
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if hub::has_ended() || std::thread::panicking() {
                return Err(Unwinding.into());
            }
            match (&signals, left) {
                (Some(signals), None) => drop(signals.wait()),
                (Some(signals), Some(left)) => drop(signals.wait_timeout(left)),
                (None, left) => {
                    let nap = left.map_or(ASK_EVERY, |left| left.min(ASK_EVERY));
                    if let Err(interruption) = hub::sleep_until(hub::after(nap)) {
                        return Err(hub::raise(interruption).into());
                    }
                }
            }
        }
    }

    /// `None`: the system has none, or none left.
    fn descriptor(&self) -> Option<Rc<Source<OwnedFd>>> {
        let mut descriptor = self.descriptor.borrow_mut();
        if descriptor.is_none() {
            *descriptor = open(self.id).map(|descriptor| Rc::new(Source::new(descriptor)));
        }
        descriptor.clone()
    }
}

#[cfg(test)]
thread_local! {
    /// Lets this thread do without descriptors of children.
    pub(super) static BY_SIGNAL: Cell<bool> = const { Cell::new(false) };
}

/// Nobody has reaped the child, so the number is its own.
#[cfg(target_os = "linux")]
fn open(id: u32) -> Option<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    #[cfg(test)]
    if BY_SIGNAL.get() {
        return None;
    }
    let id = i32::try_from(id).ok().and_then(Pid::from_raw)?;
    pidfd_open(id, PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_: u32) -> Option<OwnedFd> {
    None
}
