//! The conductor: everybody, in turn, round by round, while the machine is quiet.
//!
//! ```text
//!   catalogue: what there is       plan: in which order
//!        '-------------.--------------'
//!      for each turn: quiet -- before, after, again?
//!                       '--- network: serve + load, each a child on a core of its own
//!                       '--- micro: one child
//!                       '--- counts: serve under valgrind, strace or perf + load
//! ```

mod catalogue;
mod child;
mod counts;
mod network;
mod plan;
mod progress;
mod quiet;

use std::collections::{BTreeMap, HashMap};
use std::env::current_exe;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::machine;
use crate::peer::Peer;
use crate::report::{Results, Run};
use crate::sample::Sample;
use catalogue::{Listed, Wish};
use child::{Failure, Process, interrupted};
use counts::Tools;
use plan::{Scenario, Turn, Work, turns};
use progress::Progress;
use quiet::{Quiet, Seen};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often those are measured whose ratios matter most; others less often [default: 5, quick: 2].
    #[arg(long)]
    rounds: Option<u32>,
    /// How long a server is loaded [default: 1.5, quick: 0.6]. More rounds say more than longer
    /// ones: what disturbs comes and goes in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only these measures: `echo`, `echo/100x64`, `switch`, `count`, ...; see --list.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these peers; the raw loop comes along where it is the reference.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Where results.json, results.md and the plots go [default: peers-results, in the directory of
    /// builds].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Two minutes instead of fifteen: to see that all works, not to quote from.
    #[arg(long)]
    quick: bool,
    /// Does not measure; makes table and plots of a results.json anew.
    #[arg(long, value_name = "FILE")]
    render: Option<PathBuf>,
    /// Prints what would be measured, and how often.
    #[arg(long)]
    list: bool,
    /// Of the order in each round.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The core of servers and of what measures itself [default: the first].
    #[arg(long)]
    server_cpu: Option<usize>,
    /// The core of the load [default: one that shares no hardware with the server's].
    #[arg(long)]
    load_cpu: Option<usize>,
}

/// A micro measure that takes longer has gone wrong.
const MICRO: Duration = Duration::from_secs(120);

/// Exit status of a micro measure that a peer cannot do.
const NOT_MEASURED: i32 = 3;

/// A peer that has failed so often in a row at one measure is not asked again.
const GIVEN_UP: u32 = 2;

pub(crate) fn main(options: Options) -> anyhow::Result<()> {
    if let Some(file) = &options.render {
        let mut results = Results::read(file)?;
        let beside = file.parent().map(PathBuf::from).unwrap_or_default();
        results.write(options.out.as_ref().unwrap_or(&beside))?;
        print!("{}", results.text());
        return Ok(());
    }
    child::listen()?;
    let mut wish = options.wish();
    let versions: BTreeMap<_, _> = machine::versions().into_iter().collect();
    let installed =
        |peer: &Peer| versions.get(peer.name()).is_none_or(|said| said != "not installed");
    let (peers, absent) = wish.peers.into_iter().partition(installed);
    wish.peers = peers;
    let listed = list_micro()?;
    let scenarios = catalogue::scenarios(&wish, &listed);
    ensure!(!scenarios.is_empty(), "nothing of that name can be measured; see --list");
    if options.list {
        for scenario in &scenarios {
            let cast =
                scenario.cast.iter().map(|role| format!("{} {}x", role.peer.name(), role.rounds));
            println!("{:16} {}", scenario.measure, cast.collect::<Vec<_>>().join(", "));
        }
        return Ok(());
    }
    let mut conductor = Conductor::new(&options, wish, scenarios, versions)?;
    let remark = |peer: Peer| format!("{} is not installed and was left out", peer.name());
    conductor.results.remarks.extend(Vec::into_iter(absent).map(remark));
    conductor.results.remarks.extend(catalogue::remarks(&conductor.wish, &listed));
    conductor.conduct()?;
    let mut results = conductor.finish();
    let out = options.out.map_or_else(default_out, Ok)?;
    results.write(&out)?;
    print!("{}", results.text());
    eprintln!("\nresults.json, results.md and plots: {}", out.display());
    if interrupted() || !results.failures().is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

impl Options {
    fn wish(&self) -> Wish {
        let peers = if self.peers.is_empty() { Peer::ALL.to_vec() } else { self.peers.clone() };
        Wish {
            rounds: self.rounds.unwrap_or(if self.quick { 2 } else { 5 }).max(1),
            seconds: self.seconds.unwrap_or(if self.quick { 0.6 } else { 1.5 }).max(0.1),
            quick: self.quick,
            only: self.only.clone(),
            peers,
        }
    }
}

/// Beside the builds: a run is not to be committed by accident.
fn default_out() -> anyhow::Result<PathBuf> {
    let program = current_exe()?;
    let builds = program.parent().and_then(|directory| directory.parent());
    Ok(builds.context("a program stands in a directory")?.join("peers-results"))
}

fn list_micro() -> anyhow::Result<Vec<Listed>> {
    let mut command = Command::new(current_exe()?);
    command.args(["micro", "--list"]);
    let lines = Process::start(command)?.finish(MICRO).context("peers micro --list")?;
    let parsed = lines.iter().map(|line| serde_json::from_str(line));
    parsed.collect::<Result<_, _>>().context("peers micro --list")
}

struct Conductor {
    wish: Wish,
    scenarios: Vec<Scenario>,
    turns: Vec<Turn>,
    cores: [usize; 2],
    tools: Tools,
    quiet: Quiet,
    /// In a row.
    failures: HashMap<(usize, Peer), u32>,
    results: Results,
    begun: Instant,
}

impl Conductor {
    fn new(
        options: &Options,
        wish: Wish,
        scenarios: Vec<Scenario>,
        versions: BTreeMap<String, String>,
    ) -> anyhow::Result<Conductor> {
        machine::raise_descriptor_limit();
        let cores = cores(options)?;
        let turns = turns(&scenarios, options.seed);
        let (machine, versions) = versions.into_iter().partition(|(name, _)| {
            ["kernel", "processor", "cores", "memory"].contains(&name.as_str())
        });
        let mut results = Results {
            machine,
            versions,
            settings: BTreeMap::new(),
            remarks: Vec::new(),
            seconds: 0.0,
            runs: Vec::new(),
            summary: Vec::new(),
            targets: Vec::new(),
        };
        let [server, load] = cores;
        for (name, value) in [
            ("rounds", wish.rounds.to_string()),
            ("seconds of a load", wish.seconds.to_string()),
            ("seed", options.seed.to_string()),
            ("pinned", format!("server to core {server}, load to core {load}")),
        ] {
            results.settings.insert(name.to_owned(), value);
        }
        if !wish.only.is_empty() {
            results.settings.insert("only".to_owned(), wish.only.join(", "));
        }
        if server == load {
            results.remarks.push("one core only: load and server are in each other's way".into());
        }
        if wish.quick {
            results
                .remarks
                .push("a quick run: it shows that all works, and is not to quote from".into());
        }
        let tools = Tools::find();
        if scenarios.iter().any(|scenario| scenario.work == Work::Count) {
            results.remarks.extend(tools.remarks());
        }
        let quiet = Quiet::new(cores, turns.len());
        let (failures, begun) = (HashMap::new(), Instant::now());
        Ok(Conductor { wish, scenarios, turns, cores, tools, quiet, failures, results, begun })
    }

    fn conduct(&mut self) -> anyhow::Result<()> {
        let mut progress = Progress::new(self.turns.len());
        let rounds = self.turns.iter().map(|turn| turn.round + 1).max().unwrap_or(0);
        for turn in self.turns.clone() {
            if interrupted() {
                self.results.remarks.push("interrupted: what follows is of a part only".into());
                break;
            }
            let measure = &self.scenarios[turn.scenario].measure;
            let what = format!("round {} of {rounds}: {measure}", turn.round + 1);
            progress.begin(&what, turn.peer.name());
            if self.failures.get(&(turn.scenario, turn.peer)).is_none_or(|times| *times < GIVEN_UP)
            {
                self.take(turn, &progress)?;
            }
            progress.advance();
        }
        Ok(())
    }

    /// Measures one peer once; again, if the machine was disturbed.
    fn take(&mut self, turn: Turn, progress: &Progress) -> anyhow::Result<()> {
        let measure = self.scenarios[turn.scenario].measure.clone();
        for attempt in 1.. {
            let (scenario, wish) = (&self.scenarios[turn.scenario], &self.wish);
            let (tools, cores) = (self.tools, self.cores);
            let work = || one(scenario, turn.peer, wish, tools, cores);
            let (result, seen) = self.quiet.watch(work)?;
            if interrupted() {
                return Ok(());
            }
            let failures = self.failures.entry((turn.scenario, turn.peer)).or_insert(0);
            let (sample, note) = match result {
                Ok((mut sample, note)) => {
                    // JSON has no words for others.
                    sample.figures.retain(|_, value| value.is_finite());
                    (sample, note)
                }
                Err(error) if cannot(&error) => {
                    *failures = GIVEN_UP;
                    self.results.remarks.push(format!("{measure} {}: {error:#}", turn.peer.name()));
                    return Ok(());
                }
                Err(error) => {
                    *failures += 1;
                    let error = format!("{error:#}");
                    progress.say(&format!("{measure} {} failed: {error}", turn.peer.name()));
                    self.results.runs.push(Run::failed(&measure, turn.peer, turn.round, error));
                    return Ok(());
                }
            };
            *failures = 0;
            let seen = seen.or_better(&sample);
            let mut run = Run::new(sample, turn.round);
            // Counts are counts, however busy the machine is.
            let timed = scenario.work != Work::Count;
            run.note = note;
            run.probe_ns = seen.probe_ns;
            run.foreign_share = seen.foreign;
            run.noise = if timed { self.quiet.noise(&seen) } else { None };
            run.dropped = run.noise.is_some() && self.quiet.may_repeat(attempt);
            let again = run.dropped;
            self.results.runs.push(run);
            if !again {
                return Ok(());
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Results {
        // Some may have run in a slow spell before it was known how quick the machine can be.
        let best = self.quiet.best();
        let counted = |run: &Run| run.sample.measure == catalogue::COUNT;
        for run in self.results.runs.iter_mut().filter(|run| run.noise.is_none() && !counted(run)) {
            let seen = Seen { probe_ns: run.probe_ns, ..Seen::default() };
            run.noise = quiet::noise(&seen, best);
        }
        self.results.seconds = self.begun.elapsed().as_secs_f64();
        self.results
    }
}

/// One run of one peer.
fn one(
    scenario: &Scenario,
    peer: Peer,
    wish: &Wish,
    tools: Tools,
    cores: [usize; 2],
) -> anyhow::Result<(Sample, Option<String>)> {
    let measure = &scenario.measure;
    match &scenario.work {
        Work::Network(load) => Ok((network::measure(measure, peer, load, cores)?, None)),
        Work::Micro => Ok((micro(measure, peer, wish.quick, cores[0])?, None)),
        Work::Count => counts::count(measure, peer, tools, wish.quick, cores),
    }
}

fn micro(measure: &str, peer: Peer, quick: bool, core: usize) -> anyhow::Result<Sample> {
    let mut command = Command::new(current_exe()?);
    command.args(["micro", measure, peer.name(), "--cpu", &core.to_string()]);
    // Its own rounds are short, because ours repeat them.
    if !measure.starts_with("timers") {
        command.args(["--rounds", "3", "--round-ms", if quick { "30" } else { "60" }]);
    }
    network::sample(Process::start(command)?, MICRO)
}

/// It is not a failure to have no such thing.
fn cannot(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.code == Some(NOT_MEASURED))
}

/// The server's and the load's: two that share no hardware, if there are.
fn cores(options: &Options) -> anyhow::Result<[usize; 2]> {
    let all = machine::cpus();
    let server = options.server_cpu.or_else(|| all.first().copied()).context("no core is ours")?;
    let siblings = siblings(server);
    let apart = all.iter().find(|core| !siblings.contains(core));
    let other = all.iter().find(|core| **core != server);
    let load = options.load_cpu.or(apart.or(other).copied()).unwrap_or(server);
    Ok([server, load])
}

/// Those that share a core of silicon with it, and itself: `0-1`, or `0,4`.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let mut siblings = vec![core];
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            siblings.extend(first..=last);
        }
    }
    siblings
}
