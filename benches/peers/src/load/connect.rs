//! Connect, send a message, read the answer, close; so many at a time.
//!
//! Both sides of a handshake are this side's work (the server's kernel answers in the same call),
//! so this side is the slower one for most servers: look at connections per second of *its* CPU.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::pattern::Pattern;
use super::sockets::{self, Events, Ready, receive, send_some};
use super::window::{Latencies, Observer};
use super::{Options, seconds};
use crate::sample::Sample;

struct Visits<'a> {
    options: &'a Options,
    pattern: Pattern,
    size: usize,
    buffer: Vec<u8>,
    /// By place; `None` when no more are to be begun.
    places: Vec<Option<Visit>>,
    begun: u64,
    done: u64,
    latencies: Latencies,
    now: Instant,
}

struct Visit {
    socket: OwnedFd,
    number: usize,
    sent: usize,
    received: usize,
    begun: Instant,
}

pub(super) fn measure(
    options: &Options,
    observer: &Observer,
    sample: Sample,
) -> anyhow::Result<Sample> {
    let size = usize::try_from(options.bytes)?;
    let mut events = Events::new()?;
    let mut visits = Visits {
        options,
        pattern: Pattern::new(size),
        size,
        buffer: vec![0; size + 1],
        places: Vec::new(),
        begun: 0,
        done: 0,
        latencies: Latencies::new(),
        now: Instant::now(),
    };
    visits.places.resize_with(options.connections as usize, || None);
    let warm_up = options.warm_up();
    if warm_up > Duration::ZERO {
        visits.begin(&events)?;
        visits.run(&mut events, Some(Instant::now() + warm_up))?;
    }
    (visits.done, visits.latencies) = (0, Latencies::new());
    let window = observer.begin()?;
    if warm_up == Duration::ZERO {
        visits.begin(&events)?;
    }
    match options.messages {
        Some(_) => visits.run(&mut events, None)?,
        None => visits.run(&mut events, Some(Instant::now() + seconds(options.seconds)))?,
    }
    let used = window.end()?;
    Ok(visits.latencies.report(used.report(sample, "connections", visits.done as f64)))
}

impl Visits<'_> {
    fn begin(&mut self, events: &Events) -> anyhow::Result<()> {
        (0..self.places.len()).try_for_each(|place| self.enter(events, place))
    }

    fn run(&mut self, events: &mut Events, until: Option<Instant>) -> anyhow::Result<()> {
        loop {
            let is_over = match until {
                Some(until) => self.now >= until,
                None => self.options.messages == Some(self.done),
            };
            if is_over {
                return Ok(());
            }
            events.wait()?;
            for ready in events.iter() {
                let place = ready.number;
                if self.advance(ready).with_context(|| format!("place {place}"))? {
                    self.places[place] = None; // closed before the next is opened
                    self.enter(events, place)?;
                }
            }
        }
    }

    fn enter(&mut self, events: &Events, place: usize) -> anyhow::Result<()> {
        if self.options.messages.is_some_and(|most| self.begun >= most) {
            return Ok(());
        }
        let number = self.begun as usize;
        self.begun += 1;
        let begun = Instant::now();
        let socket = sockets::connect(self.options.address, place)?;
        let sent = send_some(&socket, self.pattern.message(number, 0))?;
        events.watch(&socket, place)?;
        self.places[place] = Some(Visit { socket, number, sent, received: 0, begun });
        Ok(())
    }

    /// Whether it is over.
    fn advance(&mut self, ready: Ready) -> anyhow::Result<bool> {
        let Some(visit) = &mut self.places[ready.number] else { return Ok(false) };
        let message = self.pattern.message(visit.number, 0);
        if visit.sent < self.size {
            visit.sent += send_some(&visit.socket, &message[visit.sent..])?;
        }
        if !ready.readable {
            return Ok(false);
        }
        loop {
            let expected = &message[visit.received..];
            let room = expected.len() + 1;
            let Some(count) = receive(&visit.socket, &mut self.buffer[..room])? else {
                return Ok(false);
            };
            if count == 0 {
                bail!("closed by the server, {} bytes into an answer", visit.received);
            }
            ensure!(count <= expected.len(), "the server sent more than it got");
            ensure!(self.buffer[..count] == expected[..count], "another answer than expected");
            visit.received += count;
            if visit.received == self.size {
                self.now = Instant::now();
                self.latencies.record(self.now - visit.begun);
                self.done += 1;
                return Ok(true);
            }
            if count < room && !ready.ends {
                return Ok(false); // that was all; there will be an event with the next bytes
            }
        }
    }
}
