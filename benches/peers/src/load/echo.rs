//! One message after the other on each connection.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::pattern::Pattern;
use super::sockets::{Events, Ready, connect, receive, send_some};
use super::window::{Latencies, Observer};
use super::{Options, seconds};
use crate::sample::Sample;

pub(super) struct Echo {
    events: Events,
    flows: Flows,
}

/// All connections, and what is under way on them.
struct Flows {
    all: Vec<Flow>,
    pattern: Pattern,
    size: usize,
    /// An answer, and one byte more: so one that is too long is noticed.
    buffer: Vec<u8>,
    /// How many messages may still be begun.
    left: u64,
    under_way: u32,
    done: u64,
    latencies: Latencies,
    /// When the last answer was complete.
    now: Instant,
}

struct Flow {
    socket: OwnedFd,
    message: usize,
    sent: usize,
    received: usize,
    begun: Instant,
}

pub(super) fn measure(
    options: &Options,
    observer: &Observer,
    sample: Sample,
) -> anyhow::Result<Sample> {
    let mut echo = Echo::connect(options)?;
    echo.flows.left = options.messages.unwrap_or(u64::MAX);
    let warm_up = options.warm_up();
    if warm_up > Duration::ZERO {
        echo.flows.begin()?;
        echo.run(Some(Instant::now() + warm_up))?;
    }
    (echo.flows.done, echo.flows.latencies) = (0, Latencies::new());
    let window = observer.begin()?;
    if warm_up == Duration::ZERO {
        echo.flows.begin()?;
    }
    match options.messages {
        Some(_) => echo.run(None)?,
        None => echo.run(Some(Instant::now() + seconds(options.seconds)))?,
    }
    let used = window.end()?;
    Ok(echo.flows.latencies.report(used.report(sample, "messages", echo.flows.done as f64)))
}

/// Opens all connections, and leaves them open after one message on each.
pub(super) fn one_message_each(options: &Options) -> anyhow::Result<Echo> {
    let mut echo = Echo::connect(options)?;
    echo.flows.left = u64::from(options.connections);
    echo.flows.begin()?;
    echo.run(None)?;
    Ok(echo)
}

impl Echo {
    fn connect(options: &Options) -> anyhow::Result<Echo> {
        let size = usize::try_from(options.bytes)?;
        let (events, now) = (Events::new()?, Instant::now());
        let mut all = Vec::with_capacity(options.connections as usize);
        for number in 0..options.connections as usize {
            let socket = connect(options.address, number)?;
            events.watch(&socket, number)?;
            all.push(Flow { socket, message: 0, sent: size, received: size, begun: now });
        }
        let flows = Flows {
            all,
            pattern: Pattern::new(size),
            size,
            buffer: vec![0; size + 1],
            left: 0,
            under_way: 0,
            done: 0,
            latencies: Latencies::new(),
            now,
        };
        Ok(Echo { events, flows })
    }

    /// Until then, or until all messages have been answered.
    fn run(&mut self, until: Option<Instant>) -> anyhow::Result<()> {
        while self.flows.left > 0 || self.flows.under_way > 0 {
            if until.is_some_and(|until| self.flows.now >= until) {
                break;
            }
            self.events.wait()?;
            for ready in self.events.iter() {
                let went = self.flows.advance(ready);
                went.with_context(|| format!("connection {}", ready.number))?;
            }
        }
        Ok(())
    }
}

impl Flows {
    /// Sends the first message on each connection, as far as there are any.
    fn begin(&mut self) -> anyhow::Result<()> {
        for number in 0..self.all.len() {
            self.now = Instant::now();
            self.send_next(number)?;
        }
        Ok(())
    }

    #[inline]
    fn advance(&mut self, ready: Ready) -> anyhow::Result<()> {
        let number = ready.number;
        if self.all[number].sent < self.size {
            self.send_rest(number)?;
        }
        if !ready.readable {
            return Ok(());
        }
        loop {
            let flow = &mut self.all[number];
            let room = self.size - flow.received + 1;
            let Some(count) = receive(&flow.socket, &mut self.buffer[..room])? else {
                return Ok(());
            };
            if count == 0 {
                bail!("closed by the server, {} bytes into an answer", flow.received);
            }
            let expected = &self.pattern.message(number, flow.message)[flow.received..];
            ensure!(count <= expected.len(), "the server sent more than it got");
            ensure!(self.buffer[..count] == expected[..count], "another answer than expected");
            flow.received += count;
            if flow.received == self.size {
                self.now = Instant::now();
                self.latencies.record(self.now - flow.begun);
                self.done += 1;
                self.under_way -= 1;
                return self.send_next(number);
            }
            if count < room && !ready.ends {
                return Ok(()); // that was all; there will be an event with the next bytes
            }
        }
    }

    #[inline]
    fn send_next(&mut self, number: usize) -> anyhow::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        self.under_way += 1;
        let flow = &mut self.all[number];
        flow.message = flow.message.wrapping_add(1);
        (flow.sent, flow.received, flow.begun) = (0, 0, self.now);
        self.send_rest(number)
    }

    fn send_rest(&mut self, number: usize) -> anyhow::Result<()> {
        let flow = &mut self.all[number];
        let rest = &self.pattern.message(number, flow.message)[flow.sent..];
        flow.sent += send_some(&flow.socket, rest)?;
        Ok(())
    }
}
