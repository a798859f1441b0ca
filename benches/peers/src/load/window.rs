//! What was used by whom between two moments.

use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

use crate::machine::{self, Busy, CpuSplit, Disturbance, Memory, ProcessClock};
use crate::sample::Sample;

/// Knows whom to watch.
pub(super) struct Observer {
    server: Option<(u32, ProcessClock)>,
    /// All that we may use, which the server may use, too.
    cpus: Vec<usize>,
}

/// Between two moments.
pub(super) struct Window<'a> {
    observer: &'a Observer,
    busy: Busy,
    split: CpuSplit,
    server: Duration,
    client: Duration,
    begun: Instant,
}

/// What happened in a window.
#[derive(Debug)]
pub(super) struct Used {
    wall: f64,
    client: f64,
    server: Option<Server>,
    disturbance: Disturbance,
}

#[derive(Debug)]
struct Server {
    cpu: f64,
    split: CpuSplit,
    memory: Memory,
}

impl Observer {
    /// To be made before this thread is pinned.
    pub(super) fn new(server: Option<u32>) -> anyhow::Result<Observer> {
        let server = match server {
            Some(pid) => Some((pid, ProcessClock::of(pid)?)),
            None => None,
        };
        Ok(Observer { server, cpus: machine::cpus() })
    }

    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let (pid, _) = self.server.context("whose memory? --server-pid is missing")?;
        machine::memory(pid)
    }

    /// From now on. What takes long to ask for is asked for outside of the window.
    pub(super) fn begin(&self) -> anyhow::Result<Window<'_>> {
        let busy = Busy::begin(&self.cpus)?;
        let split = match self.server {
            Some((pid, _)) => machine::cpu_split(pid)?,
            None => CpuSplit::default(),
        };
        let server = self.clock()?;
        let client = machine::thread_cpu();
        Ok(Window { observer: self, busy, split, server, client, begun: Instant::now() })
    }

    fn clock(&self) -> anyhow::Result<Duration> {
        self.server.map_or(Ok(Duration::ZERO), |(_, clock)| clock.now())
    }
}

impl Window<'_> {
    pub(super) fn end(&self) -> anyhow::Result<Used> {
        let wall = self.begun.elapsed().as_secs_f64();
        let client = (machine::thread_cpu() - self.client).as_secs_f64();
        let cpu = (self.observer.clock()? - self.server).as_secs_f64();
        let disturbance = self.busy.end(client + cpu)?;
        let server = match self.observer.server {
            None => None,
            Some((pid, _)) => {
                let now = machine::cpu_split(pid)?;
                let split = CpuSplit {
                    user: now.user - self.split.user,
                    system: now.system - self.split.system,
                };
                Some(Server { cpu, split, memory: machine::memory(pid)? })
            }
        };
        Ok(Used { wall, client, server, disturbance })
    }
}

impl Used {
    /// `count` of `unit` ("messages") were done with that.
    pub(super) fn report(&self, sample: Sample, unit: &str, count: f64) -> Sample {
        let sample = sample
            .with(unit, count)
            .with(&format!("{unit}_per_second"), count / self.wall)
            .with("seconds", self.wall)
            .with("client_cpu_share", self.client / self.wall);
        let Some(server) = &self.server else { return sample };
        // Whose CPU is known by name is not foreign; without the server's nothing can be said.
        sample
            .with(&format!("{unit}_per_cpu_second"), count / server.cpu)
            .with("server_cpu_seconds", server.cpu)
            .with("server_user_seconds", server.split.user)
            .with("server_system_seconds", server.split.system)
            .with("server_cpu_share", server.cpu / self.wall)
            .with("server_rss_bytes", server.memory.rss as f64)
            .with("foreign_cpu_share", self.disturbance.foreign)
            .with("stolen_cpu_share", self.disturbance.stolen)
    }
}

/// How long something took, each time.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Latencies {
        // Up to a minute, in nanoseconds, to three digits.
        Latencies(Histogram::new_with_max(60_000_000_000, 3).expect("valid bounds"))
    }

    #[inline]
    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    pub(super) fn report(&self, sample: Sample) -> Sample {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        sample
            .with("p50_us", at(0.5))
            .with("p99_us", at(0.99))
            .with("p999_us", at(0.999))
            .with("max_us", self.0.max() as f64 / 1000.0)
    }
}
