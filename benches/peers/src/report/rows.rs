//! What is shown: which figures of which measures, in which order, called what.

use serde::{Deserialize, Serialize};

use super::stats::Spread;
use super::{Results, Run, pairs};
use crate::peer::Peer;

/// A figure of a measure: one line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) measure: String,
    pub(crate) figure: &'static str,
    pub(crate) label: String,
    pub(crate) better: Better,
    /// Figures are multiplied by it where they are shown.
    pub(crate) unit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Better {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Better::More => "more",
            Better::Less => "less",
        }
    }
}

/// What is known of one figure of one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) measure: String,
    pub(crate) figure: String,
    pub(crate) peer: Peer,
    pub(crate) value: Spread,
    /// This peer's in the raw loop's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to_epoll: Option<Spread>,
    /// greenloom's in this peer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) greenloom_to_it: Option<Spread>,
}

/// Name, words, what is better.
type Figure = (&'static str, &'static str, Better);

/// Kinds of measures as tables show them; each with its figures.
const FAMILIES: &[(&str, &[Figure])] = &[
    (
        "echo",
        &[
            ("messages_per_cpu_second", "messages / s of server CPU", Better::More),
            ("messages_per_second", "messages / s", Better::More),
            ("p50_us", "p50, µs", Better::Less),
            ("p99_us", "p99, µs", Better::Less),
            ("p999_us", "p99.9, µs", Better::Less),
        ],
    ),
    (
        "count",
        &[
            ("instructions_per_echo", "user instructions per echo", Better::Less),
            ("system_calls_per_echo", "system calls per echo", Better::Less),
        ],
    ),
    (
        "stream",
        &[
            ("bytes_per_cpu_second", "MB / s of server CPU", Better::More),
            ("bytes_per_second", "MB / s", Better::More),
        ],
    ),
    (
        "connect",
        &[
            ("connections_per_cpu_second", "connections / s of server CPU", Better::More),
            ("connections_per_second", "connections / s", Better::More),
        ],
    ),
    ("connections", &[("bytes_per_connection", "bytes each, all told", Better::Less)]),
    ("switch", &[("ns", "ns", Better::Less)]),
    ("spawn", &[("ns", "ns", Better::Less)]),
    ("queue", &[("ns", "ns", Better::Less)]),
    ("queue_unbounded", &[("ns", "ns", Better::Less)]),
    ("map", &[("ns", "ns an item", Better::Less)]),
    ("timer_cost", &[("ns", "ns to set and cancel", Better::Less)]),
    (
        "idle",
        &[
            ("rss_bytes", "RSS bytes each", Better::Less),
            ("page_table_bytes", "bytes of page tables each", Better::Less),
            ("maps", "memory maps in all", Better::Less),
        ],
    ),
    (
        "timers",
        &[
            ("warm_cpu_s", "CPU, s", Better::Less),
            ("warm_mean_late_ms", "mean lateness, ms", Better::Less),
            ("warm_minor_faults", "page faults", Better::Less),
            ("fresh_cpu_s", "CPU of the first round, s", Better::Less),
            ("fresh_minor_faults", "page faults of the first round", Better::Less),
        ],
    ),
];

/// Lines for whatever was measured, also for measures that nobody has put into the list.
pub(crate) fn rows(runs: &[Run]) -> Vec<Row> {
    let mut measures: Vec<&str> = Vec::new();
    for run in runs {
        if !measures.contains(&run.sample.measure.as_str()) {
            measures.push(&run.sample.measure);
        }
    }
    measures.sort_by_cached_key(|measure| sort_key(measure));
    let mut rows = Vec::new();
    for measure in measures {
        let figures = FAMILIES.iter().find(|(name, _)| *name == family(measure));
        for (figure, words, better) in figures.map_or(&[][..], |(_, figures)| figures) {
            let known = runs
                .iter()
                .any(|run| run.sample.measure == measure && run.figure(figure).is_some());
            if known {
                rows.push(Row {
                    measure: measure.to_owned(),
                    figure,
                    label: format!("{}: {words}", title(measure)),
                    better: *better,
                    unit: if words.starts_with("MB") { 1e-6 } else { 1.0 },
                });
            }
        }
    }
    rows
}

/// `echo/100x64` is of the family `echo`.
pub(crate) fn family(measure: &str) -> &str {
    measure.split('/').next().unwrap_or(measure)
}

/// Families as listed, then by the numbers in the name, bytes before connections.
fn sort_key(measure: &str) -> (usize, Vec<u64>, String) {
    let known = FAMILIES.iter().position(|(name, _)| *name == family(measure));
    let mut numbers: Vec<u64> = measure
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers.reverse();
    (known.unwrap_or(FAMILIES.len()), numbers, measure.to_owned())
}

/// `echo 100 x 64 B` for `echo/100x64`.
pub(crate) fn title(measure: &str) -> String {
    let Some((family, size)) = measure.split_once('/') else { return measure.to_owned() };
    match family {
        "switch" => return format!("yield, {} take turns", grouped(size)),
        "spawn" => return format!("spawn + join, {} at once", grouped(size)),
        "queue" => return "queue of one, hand-over".to_owned(),
        "queue_unbounded" => return "queue without bounds".to_owned(),
        "map" => return format!("map over {} items", grouped(size)),
        "timer_cost" => return format!("timeout, {} sleep", grouped(size)),
        "timers" => return format!("{} sleepers", grouped(size)),
        "idle" => return format!("{} idle", grouped(size)),
        "connections" => return format!("{} idle connections", grouped(size)),
        "connect" => {
            let at_a_time = size.split('x').next().unwrap_or(size);
            return format!("connect, echo, close, {at_a_time} at a time");
        }
        _ => {}
    }
    let size = match size.split_once('x') {
        Some((connections, bytes)) => match bytes.parse::<u64>() {
            Ok(bytes) => format!("{} x {}", grouped(connections), size_of(bytes)),
            Err(_) => size.to_owned(),
        },
        None => grouped(size),
    };
    format!("{family} {size}")
}

fn size_of(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1024) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// 1,000,000; words are left as they are.
pub(crate) fn grouped(digits: &str) -> String {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.to_owned();
    }
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that count, and no more: 0.0123, 4.56, 78.9, 1,234.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 99.95 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", grouped(&format!("{size:.0}")))
        }
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.9995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A ratio, and between which it lay: `0.97 (0.93..1.01)`.
pub(crate) fn ratio(spread: &Spread) -> String {
    match spread.count {
        1 => ratio_alone(spread.median),
        _ => format!(
            "{} ({}..{})",
            ratio_alone(spread.median),
            ratio_alone(spread.lowest),
            ratio_alone(spread.highest)
        ),
    }
}

/// Two digits behind the point, three where two would say nothing.
pub(crate) fn ratio_alone(value: f64) -> String {
    match value.abs() {
        size if size >= 99.5 => number(value),
        size if size >= 9.95 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

pub(crate) fn summary(results: &Results) -> Vec<Summary> {
    let runs = &results.runs;
    let mut all = Vec::new();
    for row in rows(runs) {
        let (measure, figure) = (&row.measure, row.figure);
        let ratios = |peer, other| Spread::of(&pairs::ratios(runs, measure, figure, peer, other));
        for peer in Peer::ALL {
            if let Some(value) = Spread::of(&pairs::values(runs, measure, peer, figure)) {
                all.push(Summary {
                    measure: measure.clone(),
                    figure: figure.to_owned(),
                    peer,
                    value,
                    to_epoll: ratios(peer, Peer::Epoll),
                    greenloom_to_it: match peer {
                        Peer::Greenloom => None,
                        _ => ratios(Peer::Greenloom, peer),
                    },
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn numbers_have_three_digits_and_no_more() {
        let written = [0.0, 0.012_34, 0.5, 4.1369, 9.999, 24.94, 99.99, 250.4, 212_345.6, -3000.0];
        let written: Vec<String> = written.into_iter().map(number).collect();
        assert_eq!(
            written,
            ["0.00", "0.012", "0.500", "4.14", "10.0", "24.9", "100", "250", "212,346", "-3,000"]
        );
    }

    #[test]
    fn titles_name_units() {
        assert_eq!(title("echo/8000x64"), "echo 8,000 x 64 B");
        assert_eq!(title("echo/100x16384"), "echo 100 x 16 KiB");
        assert_eq!(title("stream/1x1073741824"), "stream 1 x 1 GiB");
        assert_eq!(title("timers/1000000"), "1,000,000 sleepers");
        assert_eq!(title("connect"), "connect");
    }

    #[test]
    fn ratios_are_short() {
        let spread = Spread { median: 0.9712, lowest: 0.93, highest: 12.34, count: 3 };
        assert_eq!(ratio(&spread), "0.97 (0.93..12.3)");
        assert_eq!(ratio(&Spread { count: 1, ..spread }), "0.97");
        assert_eq!(ratio_alone(0.0123), "0.012");
    }

    #[test]
    fn rows_are_in_the_order_of_the_list_and_of_numbers() {
        let run = |measure: &str, figure| {
            Run::new(Sample::new(measure, Peer::Greenloom).with(figure, 1.0), 0)
        };
        let runs = [
            run("switch/1000", "ns"),
            run("switch/2", "ns"),
            run("echo/100x16384", "p99_us"),
            run("echo/1000x64", "p99_us"),
            run("echo/8x64", "unheard_of"),
        ];
        let rows: Vec<String> = rows(&runs).into_iter().map(|row| row.measure).collect();
        assert_eq!(rows, ["echo/1000x64", "echo/100x16384", "switch/2", "switch/1000"]);
    }
}
