//! Where pictures are drawn: a white sheet, a few shapes, one colour for each peer.
//!
//! The chart builder of the plotting library was tried for and left: its labels stand at an axis,
//! away from what they name, and over each other where names are long.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::peer::Peer;

pub(crate) const INK: RGBColor = RGBColor(31, 41, 55);
pub(crate) const FAINT: RGBColor = RGBColor(107, 114, 128);
pub(crate) const GRID: RGBColor = RGBColor(229, 231, 235);

const FONT: &str = "Helvetica, Arial, DejaVu Sans, sans-serif";

/// The same in all pictures. greenloom is the one that is dark; the raw loop, the limit, is grey.
pub(crate) fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Greenloom => RGBColor(17, 122, 61),
        Peer::Epoll => RGBColor(156, 163, 175),
        Peer::Tokio => RGBColor(240, 168, 88),
        Peer::May => RGBColor(177, 156, 232),
        Peer::Smol => RGBColor(110, 193, 205),
        Peer::Threads => RGBColor(203, 190, 171),
        Peer::Go => RGBColor(126, 176, 236),
        Peer::Gevent => RGBColor(232, 150, 182),
    }
}

pub(crate) fn label(peer: Peer) -> &'static str {
    match peer {
        Peer::Epoll => "raw epoll",
        Peer::Go => "Go",
        peer => peer.name(),
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Pen {
    pub(crate) size: i32,
    pub(crate) colour: RGBColor,
    pub(crate) bold: bool,
    pub(crate) side: HPos,
}

impl Pen {
    pub(crate) fn new(size: i32, colour: RGBColor) -> Pen {
        Pen { size, colour, bold: false, side: HPos::Left }
    }

    pub(crate) fn bold(self, bold: bool) -> Pen {
        Pen { bold, ..self }
    }

    /// The point is where the text ends.
    pub(crate) fn to_the_left(self) -> Pen {
        Pen { side: HPos::Right, ..self }
    }

    pub(crate) fn centred(self) -> Pen {
        Pen { side: HPos::Center, ..self }
    }
}

pub(crate) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl Canvas<'_> {
    /// Lets `draw` draw on a sheet of that size.
    pub(crate) fn svg(
        size: (u32, u32),
        draw: impl FnOnce(&Canvas<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let mut svg = String::new();
        let canvas = Canvas(SVGBackend::with_string(&mut svg, size).into_drawing_area());
        // Opaque, so that a dark page does not swallow the ink.
        canvas.0.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        draw(&canvas)?;
        canvas.0.present().map_err(|error| anyhow!("{error}"))?;
        drop(canvas);
        Ok(svg)
    }

    /// `at`: its left end (or what the pen says), in the middle of its height.
    pub(crate) fn text(&self, at: (i32, i32), words: &str, pen: Pen) -> anyhow::Result<()> {
        let style = if pen.bold { FontStyle::Bold } else { FontStyle::Normal };
        // The library divides by that, to come from the height of a font to its letters.
        let font = (FONT, f64::from(pen.size) * 1.24, style).into_font();
        let style = TextStyle::from(font).color(&pen.colour).pos(Pos::new(pen.side, VPos::Center));
        self.draw(&Text::new(words.to_owned(), at, style))
    }

    pub(crate) fn bar(
        &self,
        from: (i32, i32),
        to: (i32, i32),
        colour: RGBColor,
    ) -> anyhow::Result<()> {
        self.draw(&Rectangle::new([from, to], colour.filled()))
    }

    pub(crate) fn line(
        &self,
        from: (i32, i32),
        to: (i32, i32),
        colour: RGBColor,
        width: u32,
    ) -> anyhow::Result<()> {
        self.draw(&PathElement::new([from, to], colour.stroke_width(width)))
    }

    /// From top to bottom.
    pub(crate) fn dashes(
        &self,
        x: i32,
        (top, bottom): (i32, i32),
        colour: RGBColor,
    ) -> anyhow::Result<()> {
        let mut y = top;
        while y < bottom {
            self.line((x, y), (x, (y + 4).min(bottom)), colour, 1)?;
            y += 7;
        }
        Ok(())
    }

    pub(crate) fn dot(&self, at: (i32, i32), radius: i32, colour: RGBColor) -> anyhow::Result<()> {
        self.draw(&Circle::new(at, radius, colour.filled()))
    }

    fn draw<'e, E>(&self, element: &'e E) -> anyhow::Result<()>
    where
        for<'b> &'b E: plotters::element::PointCollection<'b, (i32, i32)>,
        for<'a> E: plotters::element::Drawable<SVGBackend<'a>>,
    {
        let _ = element;
        self.0.draw(element).map_err(|error| anyhow!("{error}"))
    }
}

/// Where a value stands between two ends of a line, in pixels.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) log: bool,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) left: i32,
    pub(crate) right: i32,
}

impl Scale {
    pub(crate) fn x(&self, value: f64) -> i32 {
        let part = if self.log {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self.left + (part * f64::from(self.right - self.left)).round() as i32
    }

    /// Powers of ten, or up to six round numbers.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        if self.log {
            let first = self.low.log10().ceil() as i32;
            let last = (self.high.log10() + 1e-9).floor() as i32;
            let step = if last - first > 5 { 2 } else { 1 };
            return (first..=last).step_by(step).map(|power| 10_f64.powi(power)).collect();
        }
        let rough = (self.high - self.low) / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let count = ((self.high - self.low) / step + 1e-9).floor() as usize;
        (0..=count).map(|at| self.low + at as f64 * step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_stand_at_the_end() {
        let scale = Scale { log: true, low: 1.0, high: 100.0, left: 10, right: 110 };
        assert_eq!([0.0, 0.1, 1.0, 10.0, 1e9].map(|value| scale.x(value)), [10, 10, 10, 60, 110]);
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0]);
    }

    #[test]
    fn ticks_are_round_and_few() {
        let scale = Scale { log: false, low: 0.0, high: 1.13, left: 0, right: 100 };
        assert_eq!(scale.ticks(), [0.0, 0.5, 1.0]);
        let scale = Scale { high: 7_900.0, ..scale };
        assert_eq!(scale.ticks(), [0.0, 2_000.0, 4_000.0, 6_000.0]);
    }
}
