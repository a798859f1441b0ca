//! The table at the end.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use super::reasons::printable;

/// How the fetch of one page went.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Of the last attempt, if it was answered.
    pub(crate) status: Option<u16>,
    /// How many of the body were read in the last attempt.
    pub(crate) bytes: u64,
    /// From the first attempt to the last.
    pub(crate) time: Duration,
    pub(crate) tries: u32,
    pub(crate) failure: Option<String>,
}

/// All that was asked for, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// In the order of the list; `None` while nothing is known.
    pages: Vec<(String, Option<Row>)>,
    took: Duration,
}

impl Report {
    pub(crate) fn new(urls: Vec<String>) -> Report {
        let pages = urls.into_iter().map(|url| (url, None)).collect();
        Report { pages, took: Duration::ZERO }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.pages.iter().map(|(url, _)| url.clone()).collect()
    }

    /// The `at`-th has come.
    pub(crate) fn add(&mut self, at: usize, row: Row) {
        self.pages[at].1 = Some(row);
    }

    /// Nothing more will come. It all took so long.
    pub(crate) fn ended(&mut self, took: Duration) {
        self.took = took;
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.pages.iter().filter_map(|(_, row)| row.as_ref())
    }

    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    pub(crate) fn failed(&self) -> usize {
        self.rows().filter(|row| row.failure.is_some()).count()
    }

    /// Every page was fetched.
    pub(crate) fn is_perfect(&self) -> bool {
        self.rows().count() == self.pages.len() && self.failed() == 0
    }

    /// The table, with `most` of the pages that were fetched and all that were not, and a summary.
    pub(crate) fn write(&self, out: &mut impl Write, most: usize) -> io::Result<()> {
        writeln!(out, "{:>6}  {:>10}  {:>8}  url", "status", "bytes", "time")?;
        let mut hidden = 0;
        let mut shown = 0;
        for (url, row) in &self.pages {
            let Some(row) = row else { continue };
            if row.failure.is_none() {
                if shown == most {
                    hidden += 1;
                    continue;
                }
                shown += 1;
            }
            let status = row.status.map_or(String::from("-"), |status| status.to_string());
            let (bytes, time) = (HumanCount(row.bytes).to_string(), brief(row.time));
            writeln!(out, "{status:>6}  {bytes:>10}  {time:>8}  {}", printable(url))?;
            if let Some(reason) = &row.failure {
                let tries = match row.tries {
                    1 => String::new(),
                    tries => format!(" ({tries} attempts)"),
                };
                writeln!(out, "{:28}  {}{tries}", "", printable(reason))?;
            }
        }
        if hidden > 0 {
            writeln!(out, "{:28}  and {hidden} more, all fetched", "")?;
        }
        self.write_summary(out)
    }

    fn write_summary(&self, out: &mut impl Write) -> io::Result<()> {
        let done = self.rows().count();
        let bytes = HumanBytes(self.rows().map(|row| row.bytes).sum());
        let requests: u32 = self.rows().map(|row| row.tries).sum();
        let rate = f64::from(requests) / self.took.as_secs_f64().max(f64::MIN_POSITIVE);
        let fetched = HumanCount((done - self.failed()) as u64);
        write!(out, "\n{fetched} fetched, {} failed", HumanCount(self.failed() as u64))?;
        if done < self.pages.len() {
            write!(out, ", {} not done", HumanCount((self.pages.len() - done) as u64))?;
        }
        let rate = HumanCount(rate.round() as u64);
        writeln!(out, "; {bytes} in {}, {rate} requests/s", brief(self.took))
    }
}

fn brief(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
