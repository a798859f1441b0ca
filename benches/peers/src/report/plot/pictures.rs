//! Which pictures there are.

use super::Plot;
use super::bars::{Bar, Bars, Panel};
use super::ranges::{Range, Ranges};
use crate::peer::Peer;
use crate::report::rows::{Row, family, number, ratio_alone, rows, title};
use crate::report::stats::{Spread, median};
use crate::report::{Run, pairs};

const WIDTH: i32 = 1040;

pub(crate) fn all(runs: &[Run]) -> anyhow::Result<Vec<Plot>> {
    let bars = [
        ("echo.svg", echo(runs)),
        ("counts.svg", counts(runs)),
        ("operations.svg", operations(runs)),
        ("memory.svg", memory(runs)),
        ("timers.svg", timers(runs)),
    ];
    let mut plots = Vec::new();
    for (file, bars) in bars {
        if !bars.panels.is_empty() {
            plots.push(Plot { file, svg: bars.svg(WIDTH)?, title: bars.title });
        }
    }
    let latency = latency(runs);
    if !latency.panels.is_empty() {
        let svg = latency.svg(WIDTH)?;
        plots.insert(plots.len().min(1), Plot { file: "latency.svg", svg, title: latency.title });
    }
    Ok(plots)
}

fn echo(runs: &[Run]) -> Bars {
    const FIGURE: &str = "messages_per_cpu_second";
    let bar = |measure: &str, peer| {
        let ratios = pairs::ratios(runs, measure, FIGURE, peer, Peer::Epoll);
        let spread = Spread::of(&ratios)?;
        let absolute = median(&pairs::values(runs, measure, peer, FIGURE))?;
        let words = format!("{} · {} k/s", ratio_alone(spread.median), number(absolute / 1e3));
        let ends = Some((spread.lowest, spread.highest));
        Some(Bar { peer, value: Some(spread.median), ends, words })
    };
    Bars {
        title: "Echo: messages per second of server CPU, beside a raw epoll loop".to_owned(),
        words:
            "Ratio to the raw loop's runs just before and after (dashed: 1.00) · absolute median. \
                Longer is better; thin lines from the lowest to the highest run."
                .to_owned(),
        columns: 3,
        log: false,
        mark: Some(1.0),
        panels: panels(runs, &["echo"], FIGURE, bar),
    }
}

fn latency(runs: &[Run]) -> Ranges {
    let range = |measure: &str, peer| {
        let value = |name| median(&pairs::values(runs, measure, peer, name));
        Some(Range { peer, values: [value("p50_us")?, value("p99_us")?, value("p999_us")?] })
    };
    let panels = measures(runs, &["echo"], "p99_us").into_iter().map(|measure| {
        let ranges = Peer::ALL.into_iter().filter_map(|peer| range(&measure, peer)).collect();
        (title(&measure), ranges)
    });
    Ranges {
        title: "Echo: latency under full load".to_owned(),
        words: "From p50 to p99.9, the large dot is p99 (medians of the rounds; closed loop, \
                logarithmic). Further left is better."
            .to_owned(),
        panels: panels.collect(),
    }
}

fn counts(runs: &[Run]) -> Bars {
    let mut panels = Vec::new();
    for (figure, words) in [
        ("instructions_per_echo", "user-space instructions"),
        ("system_calls_per_echo", "system calls"),
    ] {
        for mut panel in plain(runs, &["count"], figure) {
            words.clone_into(&mut panel.title);
            panels.push(panel);
        }
    }
    Bars {
        title: "What one echo of 64 bytes takes, at 100 connections".to_owned(),
        words: "Counted, not timed. Shorter is better.".to_owned(),
        columns: 2,
        log: false,
        mark: None,
        panels,
    }
}

fn operations(runs: &[Run]) -> Bars {
    // Nine: the sizes between are in the table.
    let chosen = [
        "switch/2",
        "switch/1000",
        "switch/1000000",
        "spawn",
        "queue",
        "queue_unbounded",
        "map/1000",
        "timer_cost/1000",
        "timer_cost/1000000",
    ];
    Bars {
        title: "Operations: nanoseconds each".to_owned(),
        words: "Medians; thin lines from the lowest to the highest round. Logarithmic: shorter is \
                better, a step of the grid is ten times."
            .to_owned(),
        columns: 3,
        log: true,
        mark: None,
        panels: chosen.iter().flat_map(|measure| plain(runs, &[measure], "ns")).collect(),
    }
}

fn memory(runs: &[Run]) -> Bars {
    let mut panels = plain(runs, &["connections"], "bytes_per_connection");
    panels.extend(plain(runs, &["idle"], "rss_bytes"));
    Bars {
        title: "Memory: bytes for each that waits".to_owned(),
        words: "Idle connections with all they cost the server; greenlets, tasks, goroutines that \
                sleep: resident memory. Shorter is better."
            .to_owned(),
        columns: 2,
        log: false,
        mark: None,
        panels,
    }
}

fn timers(runs: &[Run]) -> Bars {
    let mut panels = Vec::new();
    for (figure, words) in [("warm_cpu_s", "CPU, s"), ("warm_mean_late_ms", "mean lateness, ms")] {
        for mut panel in plain(runs, &["timers"], figure) {
            panel.title = format!("{}: {words}", panel.title);
            panels.push(panel);
        }
    }
    Bars {
        title: "Timers: each sleeps a random time of up to a second".to_owned(),
        words: "The second round in a process: stacks and tables are warm. Logarithmic, shorter is better."
            .to_owned(),
        // A row for each figure, a column for each size.
        columns: (panels.len() / 2).clamp(1, 3),
        log: true,
        mark: None,
        panels,
    }
}

/// Panels of absolute medians.
fn plain(runs: &[Run], families: &[&str], figure: &'static str) -> Vec<Panel> {
    panels(runs, families, figure, |measure, peer| {
        let spread = Spread::of(&pairs::values(runs, measure, peer, figure))?;
        let ends = Some((spread.lowest, spread.highest));
        Some(Bar { peer, value: Some(spread.median), ends, words: number(spread.median) })
    })
}

fn panels(
    runs: &[Run],
    families: &[&str],
    figure: &'static str,
    bar: impl Fn(&str, Peer) -> Option<Bar>,
) -> Vec<Panel> {
    let panel = |measure: String| {
        let or_failed = |peer| {
            let failed = runs.iter().any(|run| run.is_of(&measure, peer) && run.error.is_some());
            let words = || "failed".to_owned();
            bar(&measure, peer)
                .or_else(|| failed.then(|| Bar { peer, value: None, ends: None, words: words() }))
        };
        let bars: Vec<Bar> = Peer::ALL.into_iter().filter_map(or_failed).collect();
        Panel { title: title(&measure), bars }
    };
    let panels = measures(runs, families, figure).into_iter().map(panel);
    panels.filter(|panel| panel.bars.iter().any(|bar| bar.value.is_some())).collect()
}

/// Of those families, or of those names; in the order of the tables.
fn measures(runs: &[Run], families: &[&str], figure: &str) -> Vec<String> {
    let known = rows(runs).into_iter().filter(|row| row.figure == figure);
    let asked =
        |row: &Row| [family(&row.measure), &row.measure].iter().any(|name| families.contains(name));
    known.filter(asked).map(|row| row.measure).collect()
}
