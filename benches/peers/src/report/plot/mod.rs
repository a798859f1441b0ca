//! Pictures of it all, as SVG: small panels of bars, each bar with its name and its value beside
//! it, so that no legend is needed and nothing depends on colours alone.

mod bars;
mod canvas;
mod pictures;
mod ranges;

use super::Run;

/// A picture, ready to be written.
pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) title: String,
    pub(crate) svg: String,
}

/// All for which there are figures.
pub(crate) fn all(runs: &[Run]) -> anyhow::Result<Vec<Plot>> {
    pictures::all(runs)
}
