//! What a whole run found, kept as JSON, and what is made of it: tables, targets, plots.
//!
//! ```text
//!   results.json -- runs, each with its round and whether it was dropped
//!        |
//!      pairs: ratios of runs that stood beside each other      stats: median, lowest, highest
//!        |
//!      rows: what is shown, in which order and unit
//!        |------- table: text, Markdown     targets: what it must show     plot: SVG
//! ```

mod pairs;
mod plot;
mod rows;
mod stats;
mod table;
mod targets;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::sample::Sample;

pub(crate) use stats::median;

/// Everything there is to know about a run of the conductor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Processor, cores, memory, kernel, and when it was.
    pub(crate) machine: BTreeMap<String, String>,
    /// Of the compiler, of each peer, of the tools that count.
    pub(crate) versions: BTreeMap<String, String>,
    /// How it was measured: rounds, seconds, seed, cores.
    pub(crate) settings: BTreeMap<String, String>,
    /// Who was not measured and why, what is doubtful.
    pub(crate) remarks: Vec<String>,
    /// How long the whole took.
    pub(crate) seconds: f64,
    /// In the order in which they were made: a reference is looked for beside a run.
    pub(crate) runs: Vec<Run>,
    /// Made from the runs, for those who read the file and not the table.
    #[serde(default)]
    pub(crate) summary: Vec<rows::Summary>,
    #[serde(default)]
    pub(crate) targets: Vec<targets::Outcome>,
}

/// One process measured once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) sample: Sample,
    pub(crate) round: u32,
    /// Nanoseconds of a cache line's way from core to core and back, just before and just after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe_ns: Option<[f64; 2]>,
    /// Of the processor's time while it ran, what went to strangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) foreign_share: Option<f64>,
    /// Why the run is not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) noise: Option<String>,
    /// It was measured again, so it counts for nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dropped: bool,
    /// It failed; the last line of what it complained of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What a reader should know: which tool counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Run {
    pub(crate) fn new(sample: Sample, round: u32) -> Run {
        Run {
            sample,
            round,
            probe_ns: None,
            foreign_share: None,
            noise: None,
            dropped: false,
            error: None,
            note: None,
        }
    }

    pub(crate) fn failed(measure: &str, peer: Peer, round: u32, error: String) -> Run {
        Run { error: Some(error), ..Run::new(Sample::new(measure, peer), round) }
    }

    /// Does it count?
    pub(crate) fn used(&self) -> bool {
        !self.dropped && self.error.is_none()
    }

    pub(crate) fn is_of(&self, measure: &str, peer: Peer) -> bool {
        self.sample.peer == peer && self.sample.measure == measure
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.sample.figures.get(name).copied().filter(|value| value.is_finite())
    }
}

impl Results {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Results> {
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
    }

    /// Who failed, where, and what they said; each once.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for run in &self.runs {
            if let Some(error) = &run.error {
                let line = format!("{} {}: {error}", run.sample.measure, run.sample.peer.name());
                if !failures.contains(&line) {
                    failures.push(line);
                }
            }
        }
        failures
    }

    /// Writes `results.json`, `results.md` and the plots into `directory`.
    pub(crate) fn write(&mut self, directory: &Path) -> anyhow::Result<()> {
        self.summary = rows::summary(self);
        self.targets = targets::outcomes(&self.runs);
        fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("{}", path.display()))
        };
        write("results.json", &(serde_json::to_string_pretty(self)? + "\n"))?;
        let plots = plot::all(&self.runs)?;
        for plot in &plots {
            write(plot.file, &plot.svg)?;
        }
        write("results.md", &text::markdown(self, &plots))
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        text::plain(self)
    }
}
