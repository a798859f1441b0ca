//! (being written)

#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn main(_options: &Options) -> anyhow::Result<()> {
    Ok(())
}
