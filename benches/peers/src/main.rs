//! greenloom measured side by side with others of its kind. Start with `benches/peers/run`.
//!
//! ```text
//!   run (the conductor)                     one process a measurement, so that nobody finds another's
//!    |- serve PEER  <---- load              heap, stacks or caches; pinned to a core each
//!    |- micro MEASURE PEER
//!    '- report: table, JSON, plots
//! ```

mod load;
mod machine;
mod micro;
mod peer;
mod report;
mod run;
mod sample;
mod serve;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures everybody in interleaved rounds; prints a table, writes JSON and plots.
    Run(run::Options),
    /// Serves echo with one peer. Prints `listening ADDRESS`; ends when standard input does.
    Serve(serve::Options),
    /// Loads an echo server and prints a sample as JSON.
    Load(load::Options),
    /// Measures one operation of one peer and prints a sample as JSON.
    Micro(micro::Options),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Run(options) => run::main(options),
        Command::Serve(options) => serve::main(&options),
        Command::Load(options) => load::main(&options),
        Command::Micro(options) => micro::main(&options),
    }
}
