//! Panels of percentiles: a line from p50 to p99.9 for each peer, and the figures beside it.

use super::canvas::{Canvas, FAINT, GRID, INK, Pen, Scale, colour, label};
use crate::peer::Peer;
use crate::report::rows::number;

pub(crate) struct Ranges {
    pub(crate) title: String,
    pub(crate) words: String,
    pub(crate) panels: Vec<(String, Vec<Range>)>,
}

/// Of one peer: p50, p99, p99.9.
pub(crate) struct Range {
    pub(crate) peer: Peer,
    pub(crate) values: [f64; 3],
}

const MARGIN: i32 = 24;
const GAP: i32 = 40;
const NAME: i32 = 84;
const COLUMN: i32 = 56;
const STEP: i32 = 21;
const HEAD: i32 = 30;
const AXIS: i32 = 26;
const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];

impl Ranges {
    pub(crate) fn svg(&self, width: i32) -> anyhow::Result<String> {
        let columns = 2.min(self.panels.len()).max(1) as i32;
        let panel_width = (width - 2 * MARGIN - (columns - 1) * GAP) / columns;
        let rows: Vec<_> = self.panels.chunks(columns as usize).collect();
        let height_of = |row: &[(String, Vec<Range>)]| {
            HEAD + row.iter().map(|(_, ranges)| ranges.len()).max().unwrap_or(0) as i32 * STEP
                + AXIS
        };
        let top = 78;
        let height =
            top + rows.iter().map(|row| height_of(row)).sum::<i32>() + 18 * (rows.len() as i32 - 1);
        Canvas::svg((width as u32, (height + 8) as u32), |canvas| {
            canvas.text((MARGIN, 28), &self.title, Pen::new(20, INK).bold(true))?;
            canvas.text((MARGIN, 52), &self.words, Pen::new(13, FAINT))?;
            let mut y = top;
            for row in &rows {
                for (at, (title, ranges)) in row.iter().enumerate() {
                    let left = MARGIN + at as i32 * (panel_width + GAP);
                    panel(canvas, title, ranges, (left, y), panel_width)?;
                }
                y += height_of(row) + 18;
            }
            Ok(())
        })
    }
}

fn panel(
    canvas: &Canvas<'_>,
    title: &str,
    ranges: &[Range],
    (left, top): (i32, i32),
    width: i32,
) -> anyhow::Result<()> {
    let column = |at: usize| left + width - (2 - at as i32) * COLUMN;
    let all = || ranges.iter().flat_map(|range| range.values).filter(|value| *value > 0.0);
    let highest = all().fold(0.0, f64::max);
    let lowest = all().fold(f64::INFINITY, f64::min);
    let in_ms = lowest >= 1e3 || highest >= 1e6;
    let (unit, words) = if in_ms { (1e-3, "ms") } else { (1.0, "µs") };
    canvas.text((left, top + 8), &format!("{title}, {words}"), Pen::new(14, INK).bold(true))?;
    for (at, name) in NAMES.iter().enumerate() {
        canvas.text((column(at), top + 8), name, Pen::new(11, FAINT).to_the_left())?;
    }
    let top = top + HEAD;
    let bottom = top + ranges.len() as i32 * STEP;
    let scale = Scale {
        log: true,
        low: lowest / 1.15,
        high: highest * 1.15,
        left: left + NAME,
        right: column(0) - COLUMN + 2,
    };
    for tick in ticks(&scale) {
        let x = scale.x(tick);
        canvas.line((x, top - 4), (x, bottom), GRID, 1)?;
        canvas.text((x, bottom + 11), &time(tick), Pen::new(11, FAINT).centred())?;
    }
    for (at, range) in ranges.iter().enumerate() {
        let middle = top + at as i32 * STEP + STEP / 2 - 1;
        let own = range.peer == Peer::Greenloom;
        let ink = if own { colour(range.peer) } else { INK };
        canvas.text(
            (left + NAME - 8, middle),
            label(range.peer),
            Pen::new(13, ink).bold(own).to_the_left(),
        )?;
        let [p50, p99, p999] = range.values.map(|value| scale.x(value));
        canvas.line((p50, middle), (p999, middle), colour(range.peer), if own { 4 } else { 3 })?;
        canvas.dot((p50, middle), 3, colour(range.peer))?;
        canvas.dot((p99, middle), 6, colour(range.peer))?;
        canvas.dot((p999, middle), 3, colour(range.peer))?;
        for (at, value) in range.values.into_iter().enumerate() {
            let bold = own && at == 1;
            canvas.text(
                (column(at), middle),
                &number(value * unit),
                Pen::new(12, ink).bold(bold).to_the_left(),
            )?;
        }
    }
    Ok(())
}

/// As many as stand beside each other with ease: 1, 2 and 5 times powers of ten, 1 and 3 times, or
/// those alone.
fn ticks(scale: &Scale) -> Vec<f64> {
    let first = scale.low.log10().floor() as i32;
    let last = scale.high.log10().ceil() as i32;
    let choices: [&[f64]; 2] = [&[1.0, 2.0, 5.0], &[1.0, 3.0]];
    for choice in choices {
        let powers = (first..=last).map(|power| 10_f64.powi(power));
        let all = powers.flat_map(|power| choice.iter().map(move |times| times * power));
        let inside = all.filter(|tick| *tick >= scale.low && *tick <= scale.high);
        let ticks: Vec<f64> = inside.collect();
        if ticks.len() <= 4 {
            return ticks;
        }
    }
    scale.ticks()
}

/// Of microseconds.
fn time(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} s", value / 1e6),
        _ if value >= 1e3 => format!("{} ms", value / 1e3),
        _ => format!("{value} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_neither_many_nor_none() {
        let scale = |low, high| Scale { log: true, low, high, left: 0, right: 200 };
        assert_eq!(ticks(&scale(9.0, 35.0)), [10.0, 20.0]);
        assert_eq!(ticks(&scale(600.0, 70_000.0)), [1e3, 3e3, 1e4, 3e4]);
        assert_eq!(ticks(&scale(30.0, 150_000.0)), [1e2, 1e3, 1e4, 1e5]);
    }
}
