//! What one process measured once: a line of JSON on its standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::peer::Peer;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// `echo/100x64`, `switch/2`, `timers/1000000`: what, and how many of it.
    pub(crate) measure: String,
    pub(crate) peer: Peer,
    /// By name; units are part of the name: `messages_per_second`, `p99_us`, `ns`, `rss_bytes`.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Sample {
    pub(crate) fn new(measure: impl Into<String>, peer: Peer) -> Sample {
        Sample { measure: measure.into(), peer, figures: BTreeMap::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: f64) -> Sample {
        self.figures.insert(name.to_owned(), value);
        self
    }

    /// Prints it as one line.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        writeln!(out)?;
        Ok(())
    }
}
