//! Panels of bars that lie on their sides.

use super::canvas::{Canvas, FAINT, GRID, INK, Pen, Scale, colour, label};
use crate::peer::Peer;
use crate::report::rows::number;

pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) words: String,
    pub(crate) columns: usize,
    pub(crate) log: bool,
    /// A dashed line in each panel.
    pub(crate) mark: Option<f64>,
    pub(crate) panels: Vec<Panel>,
}

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

pub(crate) struct Bar {
    pub(crate) peer: Peer,
    /// None: it failed.
    pub(crate) value: Option<f64>,
    /// Lowest and highest.
    pub(crate) ends: Option<(f64, f64)>,
    /// Beside the bar.
    pub(crate) words: String,
}

const MARGIN: i32 = 24;
const GAP: i32 = 36;
const NAME: i32 = 84;
const BAR: i32 = 17;
const STEP: i32 = 23;
const HEAD: i32 = 30;
const AXIS: i32 = 26;
/// Roughly, of a letter of a value.
const LETTER: f64 = 7.2;

impl Bars {
    pub(crate) fn svg(&self, width: i32) -> anyhow::Result<String> {
        let columns = self.columns.min(self.panels.len()).max(1) as i32;
        let panel_width = (width - 2 * MARGIN - (columns - 1) * GAP) / columns;
        let rows: Vec<&[Panel]> = self.panels.chunks(columns as usize).collect();
        let height_of = |row: &[Panel]| {
            let longest = row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0) as i32;
            HEAD + longest * STEP + AXIS
        };
        let top = 78;
        let height =
            top + rows.iter().map(|row| height_of(row)).sum::<i32>() + 18 * (rows.len() as i32 - 1);
        Canvas::svg((width as u32, (height + 8) as u32), |canvas| {
            canvas.text((MARGIN, 28), &self.title, Pen::new(20, INK).bold(true))?;
            canvas.text((MARGIN, 52), &self.words, Pen::new(13, FAINT))?;
            let mut y = top;
            for row in &rows {
                for (at, panel) in row.iter().enumerate() {
                    let left = MARGIN + at as i32 * (panel_width + GAP);
                    self.panel(canvas, panel, (left, y), panel_width)?;
                }
                y += height_of(row) + 18;
            }
            Ok(())
        })
    }

    fn panel(
        &self,
        canvas: &Canvas<'_>,
        panel: &Panel,
        (left, top): (i32, i32),
        width: i32,
    ) -> anyhow::Result<()> {
        canvas.text((left, top + 8), &panel.title, Pen::new(14, INK).bold(true))?;
        let top = top + HEAD;
        let bottom = top + panel.bars.len() as i32 * STEP;
        let scale = self.scale(panel, left + NAME, left + width);
        for tick in scale.ticks() {
            let x = scale.x(tick);
            canvas.line((x, top - 4), (x, bottom), GRID, 1)?;
            canvas.text((x, bottom + 11), &axis(tick), Pen::new(11, FAINT).centred())?;
        }
        for (at, bar) in panel.bars.iter().enumerate() {
            let y = top + at as i32 * STEP;
            let middle = y + STEP / 2 - 1;
            let own = bar.peer == Peer::Greenloom;
            let ink = if own { colour(bar.peer) } else { INK };
            let name = Pen::new(13, ink).bold(own).to_the_left();
            canvas.text((left + NAME - 8, middle), label(bar.peer), name)?;
            let Some(value) = bar.value else {
                canvas.text((left + NAME + 5, middle), &bar.words, Pen::new(12, FAINT))?;
                continue;
            };
            let mut end = scale.x(value);
            let (upper, lower) = (middle - BAR / 2, middle + BAR / 2);
            canvas.bar((scale.left, upper), (end.max(scale.left + 1), lower), colour(bar.peer))?;
            if let Some((low, high)) =
                bar.ends.filter(|(low, high)| scale.x(*high) - scale.x(*low) > 3)
            {
                let ends = (scale.x(low), scale.x(high));
                canvas.line((ends.0, middle), (ends.1, middle), INK, 1)?;
                for x in [ends.0, ends.1] {
                    canvas.line((x, middle - 3), (x, middle + 3), INK, 1)?;
                }
                end = end.max(ends.1);
            }
            // A line through all panels would go through the words, too: they stand behind it.
            let words = if self.mark.is_some() { scale.right } else { end };
            canvas.text((words + 6, middle), &bar.words, Pen::new(12, ink).bold(own))?;
        }
        if let Some(mark) = self.mark {
            canvas.dashes(scale.x(mark), (top - 4, bottom), FAINT)?;
        }
        canvas.line((scale.left, top - 4), (scale.left, bottom), FAINT, 1)
    }

    /// Leaves room for what stands beside the longest bar.
    fn scale(&self, panel: &Panel, left: i32, right: i32) -> Scale {
        let values = || panel.bars.iter().filter_map(|bar| bar.value).filter(|value| *value > 0.0);
        let reach = |bar: &Bar| {
            Some(bar.ends.map_or(bar.value?, |(_, high)| high.max(bar.value.unwrap_or(high))))
        };
        let high = panel.bars.iter().filter_map(reach).fold(f64::MIN_POSITIVE, f64::max);
        let high = self.mark.map_or(high, |mark| high.max(mark));
        let low = if self.log {
            let lowest = values().fold(high, f64::min);
            10_f64.powf((lowest / 1.5).log10().floor())
        } else {
            0.0
        };
        let high = if self.log { high.max(low * 10.0) } else { high };
        let longest = panel.bars.iter().map(|bar| bar.words.chars().count()).max().unwrap_or(0);
        let words = (longest as f64 * LETTER) as i32 + 8;
        Scale { log: self.log, low, high, left, right: (right - words).max(left + 20) }
    }
}

/// 1k, 10M.
fn axis(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{}G", value / 1e9),
        _ if value >= 1e6 => format!("{}M", value / 1e6),
        _ if value >= 1e4 => format!("{}k", value / 1e3),
        _ if value >= 1e3 => number(value),
        // Free of what a sum of tenths leaves behind.
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_written_short() {
        let written = [0.0, 0.1 + 0.2, 5.0, 100.0, 2e3, 1e4, 1.5e6, 2e9].map(axis);
        assert_eq!(written, ["0", "0.3", "5", "100", "2,000", "10k", "1.5M", "2G"]);
    }
}
