//! Connecting to a host that has several addresses: "happy eyeballs", RFC 8305.
//!
//! A host may have an address that is dead for us, of the other family as a rule. Trying one after
//! the other would wait for a dead one as long as the system does, which is minutes. So each is given
//! a head start of 250 ms, then the next is tried as well, and the first connection that stands is
//! taken. The two families take turns; the resolver's first address goes first.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::addrs::no_address;
use crate::error::Unwinding;
use crate::greenlet::{Builder, Greenlet};
use crate::hub;
use crate::wait::{Limit, wait_any, wait_any_timeout};

/// What the RFC recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to one of `addrs`, by `connect`, which may wait. The others are given up: their greenlets
/// are killed, and what they have got so far is dropped.
///
/// # Errors
///
/// `TimedOut` after `limit`; if all fail, the error of the last to do so; `InvalidInput` if there is
/// none.
#[track_caller]
pub(crate) fn race<T: 'static>(
    addrs: Vec<SocketAddr>,
    limit: Limit,
    connect: impl Fn(&SocketAddr) -> io::Result<T> + 'static,
) -> io::Result<T> {
    let deadline = limit.deadline();
    let connect = Rc::new(connect);
    let mut addrs = taking_turns(addrs).into_iter().peekable();
    let mut runners = Runners(Vec::new());
    let mut result = Err(no_address());
    loop {
        if let Some(addr) = addrs.next() {
            let connect = Rc::clone(&connect);
            let runner = Builder::new().name(format!("connect to {addr}"));
            runners.0.push(runner.spawn(move || connect(&addr))?);
        }
        // An end of one is followed by the next at once, as long as there are any.
        while !runners.0.is_empty() {
            let head_start = addrs.peek().map(|_| hub::after(HEAD_START));
            let until = head_start.into_iter().chain(deadline).min();
            let Some(at) = runners.first(until) else {
                if until.is_none_or(|until| Instant::now() < until) {
                    return Err(Unwinding.into()); // the time is not over: we must not wait
                }
                break;
            };
            match runners.0.remove(at).try_get() {
                Ok(Ok(Ok(value))) => return Ok(value),
                Ok(Ok(Err(error))) => result = Err(error),
                Ok(Err(failed)) => result = Err(io::Error::other(failed.to_string())),
                Err(_unwinding) => return Err(Unwinding.into()),
            }
            if addrs.peek().is_some() {
                break;
            }
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if runners.0.is_empty() && addrs.peek().is_none() {
            return result;
        }
    }
}

/// Those who are under way.
struct Runners<T: 'static>(Vec<Greenlet<io::Result<T>>>);

impl<T> Runners<T> {
    /// The first to arrive, whether it has got there or fallen. `None`: the time is over.
    #[track_caller]
    fn first(&self, deadline: Option<Instant>) -> Option<usize> {
        match deadline {
            None => Some(wait_any(&self.0)),
            Some(at) => wait_any_timeout(&self.0, at.saturating_duration_since(Instant::now())),
        }
    }
}

impl<T> Drop for Runners<T> {
    fn drop(&mut self) {
        self.0.iter().for_each(Greenlet::kill_nowait);
    }
}

/// One of the one family, one of the other, each in its own order.
fn taking_turns(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv6() == begins_with_v6);
    let mut second = second.into_iter();
    let mut turns = Vec::new();
    for addr in first {
        turns.push(addr);
        turns.extend(second.next());
    }
    turns.extend(second);
    turns
}
