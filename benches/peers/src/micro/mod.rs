//! One operation of one peer, measured in a process of its own.
//!
//! Each measure is one file with every peer's version side by side, so that one sees that the same
//! work is done. What a peer has no words for is not rebuilt for it: it is left out, and the reason
//! is said. Go's and gevent's versions are in `go/micro.go` and `gevent/micro.py`, of the same form.

mod external;
mod idle;
mod laps;
mod map;
mod process;
mod queue;
mod queue_unbounded;
mod runtimes;
mod spawn;
mod switch;
mod timer_cost;
mod timers;

use std::io::{self, Write};
use std::process::exit;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::machine::pin;
use crate::peer::Peer;
use crate::sample::Sample;

/// Exit status that says: this peer cannot be measured here, and standard error says why.
const NOT_MEASURED: i32 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is measured, and how many of it: `switch`, `switch/1000`, `timers/1000000`.
    #[arg(required_unless_present = "list")]
    measure: Option<String>,
    /// Who is measured.
    #[arg(value_enum, required_unless_present = "list")]
    peer: Option<Peer>,
    /// How many tasks or items; else what stands behind the slash, or the measure's first size.
    #[arg(long)]
    n: Option<usize>,
    /// Operations of a round, for those who count instructions; else a round takes --round-ms.
    #[arg(long)]
    operations: Option<u64>,
    /// Rounds that count; one before them warms up. Rounds of timers: the first counts, too.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a round lasts at least.
    #[arg(long, default_value_t = 100)]
    round_ms: u64,
    /// Pins the whole process to this processor.
    #[arg(long)]
    cpu: Option<usize>,
    /// Prints what can be measured of whom, and why something cannot, a line of JSON each.
    #[arg(long)]
    list: bool,
}

/// What every version of a measure is told.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Tasks, or items.
    n: usize,
    operations: Option<u64>,
    rounds: Option<usize>,
    round: Duration,
}

struct Measure {
    name: &'static str,
    /// The sizes that the conductor asks for.
    sizes: &'static [usize],
    /// How many tasks there are, for that size.
    tasks: fn(usize) -> usize,
    /// Why that peer cannot be measured with that size, if it cannot.
    why_not: fn(Peer, usize) -> Option<String>,
    /// Not called for Go and gevent, which are programs of their own.
    run: fn(Peer, Plan, Sample) -> Sample,
}

const MEASURES: &[Measure] = &[
    switch::MEASURE,
    spawn::MEASURE,
    idle::MEASURE,
    timers::MEASURE,
    timer_cost::MEASURE,
    queue::MEASURE,
    queue_unbounded::MEASURE,
    map::MEASURE,
];

pub(crate) fn main(options: &Options) -> anyhow::Result<()> {
    if options.list {
        return list();
    }
    let (Some(measure), Some(peer)) = (&options.measure, options.peer) else {
        bail!("name a measure and a peer, or --list");
    };
    let (measure, n) = parse(measure)?;
    let n = options.n.or(n).unwrap_or(measure.sizes[0]);
    if let Some(why) = measure.why_not(peer, n) {
        not_measured(&why);
    }
    if let Some(cpu) = options.cpu {
        pin(cpu)?;
    }
    let round = Duration::from_millis(options.round_ms);
    let plan = Plan { n, operations: options.operations, rounds: options.rounds, round };
    let sample = Sample::new(format!("{}/{n}", measure.name), peer);
    let sample = match peer {
        Peer::Go | Peer::Gevent => match external::run(peer, measure.name, plan, &sample)? {
            Ok(sample) => sample,
            Err(why) => not_measured(&why),
        },
        _ => (measure.run)(peer, plan, sample),
    };
    sample.print()?;
    process::leave()
}

fn parse(measure: &str) -> anyhow::Result<(&'static Measure, Option<usize>)> {
    let (name, n) = match measure.split_once('/') {
        Some((name, n)) => (name, Some(n.parse().context("not a number behind the slash")?)),
        None => (measure, None),
    };
    let known = || MEASURES.iter().map(|measure| measure.name).collect::<Vec<_>>().join(", ");
    let measure = MEASURES.iter().find(|measure| measure.name == name);
    Ok((measure.with_context(|| format!("unknown measure {name}; known are {}", known()))?, n))
}

fn not_measured(why: &str) -> ! {
    eprintln!("not measured: {why}");
    exit(NOT_MEASURED)
}

impl Measure {
    fn why_not(&self, peer: Peer, n: usize) -> Option<String> {
        (self.why_not)(peer, n).or_else(|| why_never(peer, (self.tasks)(n)))
    }
}

/// What stands in the way of so many tasks of a peer, whatever they do.
fn why_never(peer: Peer, tasks: usize) -> Option<String> {
    match peer {
        Peer::Epoll => Some("a loop over events has no tasks".into()),
        Peer::May if 2 * tasks + 1_000 > process::max_memory_maps() => {
            Some("two memory maps a stack are more than vm.max_map_count allows".into())
        }
        Peer::Threads if tasks > 10_000 => Some("too many threads for the system's limits".into()),
        Peer::Gevent if tasks > 100_000 => Some("takes 8 GB and minutes".into()),
        Peer::Go | Peer::Gevent => external::why_not(peer),
        _ => None,
    }
}

/// One line of `--list`.
#[derive(Serialize)]
struct Listed {
    measure: String,
    peer: Peer,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_measured: Option<String>,
}

fn list() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for measure in MEASURES {
        for n in measure.sizes {
            for peer in Peer::value_variants() {
                let not_measured = measure.why_not(*peer, *n);
                let measure = format!("{}/{n}", measure.name);
                let line = Listed { measure, peer: *peer, not_measured };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
        }
    }
    Ok(())
}
