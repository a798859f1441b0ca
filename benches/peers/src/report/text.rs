//! The report in words and tables: for a terminal, and as Markdown.

use super::pairs::{ratios, values};
use super::plot::Plot;
use super::rows::{self, Better, Row};
use super::stats::Spread;
use super::table::Table;
use super::{Results, targets};
use crate::peer::Peer;

pub(crate) fn plain(results: &Results) -> String {
    let mut text = String::new();
    // Who wants everybody's figures finds them in results.md: here they would push the ratios away.
    for part in parts(results).into_iter().filter(|part| part.title != EVERYONE) {
        text += &format!("\n{}\n", part.title);
        if !part.words.is_empty() {
            text += &format!("{}\n", part.words);
        }
        text += "\n";
        text += &part.table.plain();
    }
    let notes = notes(results);
    if !notes.is_empty() {
        text += &format!("\n{}\n", notes.join("\n"));
    }
    text
}

pub(crate) fn markdown(results: &Results, plots: &[Plot]) -> String {
    let mut text = "# greenloom beside others\n\n".to_owned();
    for (name, value) in results.machine.iter().chain(&results.settings) {
        text += &format!("- {name}: {value}\n");
    }
    let versions: Vec<String> =
        results.versions.iter().map(|(name, value)| format!("{name} {value}")).collect();
    text += &format!("- versions: {}\n", versions.join(", "));
    for note in notes(results) {
        text += &format!("- {note}\n");
    }
    for part in parts(results) {
        text += &format!("\n## {}\n\n", part.title);
        if !part.words.is_empty() {
            text += &format!("{}\n\n", part.words);
        }
        text += &part.table.markdown();
    }
    if !plots.is_empty() {
        text += "\n## Plots\n";
    }
    for plot in plots {
        text += &format!("\n![{}]({})\n", plot.title, plot.file);
    }
    text
}

const EVERYONE: &str = "Medians of everyone";

struct Part {
    title: &'static str,
    words: &'static str,
    table: Table,
}

fn parts(results: &Results) -> Vec<Part> {
    let rows = rows::rows(&results.runs);
    let parts = [
        Part {
            title: "greenloom, and its ratio to others",
            words: "Medians; in brackets the lowest and the highest of the rounds. \"/ tokio 1.05\" \
                    is 1.05 times tokio's figure, taken within a round; where the raw epoll loop \
                    was measured, through the runs of it just before and just after each.",
            table: beside(results, &rows),
        },
        Part {
            title: EVERYONE,
            words: "The best is bold. The column of the raw loop shows in brackets how far runs of it lie from those \
                    of it beside them: nothing smaller than that is established.",
            table: everyone(results, &rows),
        },
        Part { title: "What it must show", words: "", table: goals(results) },
    ];
    parts.into_iter().filter(|part| !part.table.rows.is_empty()).collect()
}

fn beside(results: &Results, rows: &[Row]) -> Table {
    let others = &Peer::ALL[1..];
    let head = ["measure", "better", "greenloom"].map(str::to_owned);
    let mut table =
        Table::new(head.into_iter().chain(others.iter().map(|peer| format!("/ {}", peer.name()))));
    table.left = vec![0, 1];
    for row in rows {
        let Some(own) = spread(results, row, Peer::Greenloom) else { continue };
        let mut cells = vec![
            row.label.clone(),
            row.better.name().to_owned(),
            rows::number(own.median * row.unit),
        ];
        for &other in others {
            let found = ratios(&results.runs, &row.measure, row.figure, Peer::Greenloom, other);
            // Brackets for those who are ratios of every round: others would only widen the table.
            cells.push(match Spread::of(&found) {
                None => missing(results, row, other),
                Some(spread) if other <= Peer::May => rows::ratio(&spread),
                Some(spread) => rows::ratio_alone(spread.median),
            });
        }
        table.push(cells);
    }
    table.without_empty_columns()
}

fn everyone(results: &Results, rows: &[Row]) -> Table {
    let head = ["measure".to_owned(), "better".to_owned()];
    let mut table =
        Table::new(head.into_iter().chain(Peer::ALL.iter().map(|peer| peer.name().to_owned())));
    table.left = vec![0, 1];
    for row in rows {
        let best = Peer::ALL
            .iter()
            .filter_map(|&peer| Some((peer, spread(results, row, peer)?.median)))
            .min_by(|(_, a), (_, b)| match row.better {
                Better::Less => a.total_cmp(b),
                Better::More => b.total_cmp(a),
            });
        let cell = |&peer: &Peer| {
            let Some(value) = spread(results, row, peer) else {
                return missing(results, row, peer);
            };
            let mut cell = rows::number(value.median * row.unit);
            let found = ratios(&results.runs, &row.measure, row.figure, peer, peer);
            let own = Spread::of(&found).filter(|own| peer == Peer::Epoll && own.count > 1);
            if let Some(own) = own {
                let ends = [own.lowest, own.highest].map(rows::ratio_alone);
                cell += &format!(" ({}..{})", ends[0], ends[1]);
            }
            if best.is_some_and(|(best, _)| best == peer) { format!("**{cell}**") } else { cell }
        };
        let mut cells = vec![row.label.clone(), row.better.name().to_owned()];
        cells.extend(Peer::ALL.iter().map(cell));
        table.push(cells);
    }
    table.without_empty_columns()
}

fn goals(results: &Results) -> Table {
    let mut table = Table::new(["target", "measured", "limit", "verdict"]);
    table.left = vec![0, 3];
    // What nobody asked for is not missing.
    let partial = results.settings.contains_key("only");
    for outcome in targets::outcomes(&results.runs) {
        if outcome.met().is_some() || !partial {
            table.push(outcome.cells());
        }
    }
    table
}

fn spread(results: &Results, row: &Row, peer: Peer) -> Option<Spread> {
    Spread::of(&values(&results.runs, &row.measure, peer, row.figure))
}

/// Nobody asked, or it did not work.
fn missing(results: &Results, row: &Row, peer: Peer) -> String {
    let failed =
        results.runs.iter().any(|run| run.is_of(&row.measure, peer) && run.error.is_some());
    if failed { "failed".to_owned() } else { "-".to_owned() }
}

/// What a reader must know before he believes a figure.
fn notes(results: &Results) -> Vec<String> {
    let runs = &results.runs;
    let count = |of: fn(&super::Run) -> bool| runs.iter().filter(|run| of(run)).count();
    let dropped = count(|run| run.dropped);
    let doubtful = count(|run| run.used() && run.noise.is_some());
    let mut notes = vec![format!(
        "{} runs in {:.1} minutes; {dropped} dropped and measured again because the machine was \
         disturbed, {doubtful} kept although it was",
        runs.len(),
        results.seconds / 60.0
    )];
    notes.extend(results.remarks.iter().cloned());
    notes.extend(busy_clients(results));
    let mut tools: Vec<&str> = runs.iter().filter_map(|run| run.note.as_deref()).collect();
    tools.sort_unstable();
    tools.dedup();
    notes.extend(tools.into_iter().map(str::to_owned));
    notes.extend(results.failures().into_iter().map(|failure| format!("failed: {failure}")));
    notes
}

/// A load generator above this share of a core is the limit itself.
const BUSY: f64 = 0.97;

/// Where the client was the bottleneck, messages a second are the client's, not the server's.
fn busy_clients(results: &Results) -> Option<String> {
    let mut cells = Vec::new();
    for row in rows::rows(&results.runs) {
        if row.figure != "messages_per_second" {
            continue;
        }
        for peer in Peer::ALL {
            let shares = values(&results.runs, &row.measure, peer, "client_cpu_share");
            if super::median(&shares).is_some_and(|share| share >= BUSY) {
                cells.push(format!("{} {}", rows::title(&row.measure), peer.name()));
            }
        }
    }
    (!cells.is_empty()).then(|| {
        format!(
            "the load generator was the bottleneck (its core was busy for {:.0} % or more), so that \
             messages / s understate the server: {}",
            BUSY * 100.0,
            cells.join(", ")
        )
    })
}
