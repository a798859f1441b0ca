//! The other side: one thread that keeps a server busy, and prints what it saw as a [`Sample`].
//!
//! A closed loop: on each connection one message is under way, and the next is sent when all of the
//! answer is there and is what was sent. So the server decides how fast it goes, unless this side is
//! the slower one: `client_cpu_share` near 1 says so, and then only figures per second of the
//! server's CPU say something about the server.

mod connect;
mod echo;
mod pattern;
mod sockets;
mod stream;
mod window;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::machine;
use crate::peer::Peer;
use crate::sample::Sample;
use window::Observer;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where the server listens
    address: SocketAddr,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Bytes of a message; of the whole stream with --mode stream
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    bytes: u64,
    /// How long to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long to load before that
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Measures so many messages (connections with --mode connect) instead, from the first on
    #[arg(long)]
    messages: Option<u64>,
    /// The core to stay on [default: any]
    #[arg(long)]
    cpu: Option<usize>,
    /// The server, to see what it uses
    #[arg(long)]
    server_pid: Option<u32>,
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,
    /// Whose sample it is
    #[arg(long, value_enum)]
    peer: Peer,
    /// What it is a sample of [default: the mode, connections and bytes]
    #[arg(long)]
    measure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One message after the other on each connection.
    Echo,
    /// Bytes one way, as fast as they are taken, to a server with --mode sink.
    Stream,
    /// Connect, send a message, read the answer, close; so many at a time.
    Connect,
    /// One message on each connection, and then what the server occupies.
    Idle,
}

/// A server that says nothing for so long has lost something.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn main(options: &Options) -> anyhow::Result<()> {
    let observer = Observer::new(options.server_pid)?;
    if let Some(cpu) = options.cpu {
        machine::pin(cpu)?;
    }
    machine::raise_descriptor_limit();
    let sample = Sample::new(options.measure(), options.peer);
    let sample = match options.mode {
        Mode::Echo => echo::measure(options, &observer, sample)?,
        Mode::Stream => stream::measure(options, &observer, sample)?,
        Mode::Connect => connect::measure(options, &observer, sample)?,
        Mode::Idle => idle(options, &observer, sample)?,
    };
    sample.print()
}

/// What connections cost that wait for the next message after the first.
fn idle(options: &Options, observer: &Observer, sample: Sample) -> anyhow::Result<Sample> {
    let before = observer.memory()?;
    let open = echo::one_message_each(options)?;
    // Whoever gives memory back after the last message has the time to.
    #[expect(clippy::disallowed_methods, reason = "there are no greenlets on this side")]
    thread::sleep(Duration::from_millis(200));
    let after = observer.memory()?;
    drop(open);
    let count = f64::from(options.connections);
    let each = |before: u64, after: u64| (after as f64 - before as f64) / count;
    let rss = each(before.rss, after.rss);
    let page_tables = each(before.page_tables, after.page_tables);
    Ok(sample
        .with("connections", count)
        .with("rss_before_bytes", before.rss as f64)
        .with("rss_bytes", after.rss as f64)
        .with("rss_bytes_per_connection", rss)
        .with("page_table_bytes_per_connection", page_tables)
        .with("bytes_per_connection", rss + page_tables)
        .with("maps", after.maps as f64)
        .with("threads", after.threads as f64))
}

impl Options {
    fn measure(&self) -> String {
        match &self.measure {
            Some(name) => name.clone(),
            None => {
                let mode = self.mode.to_possible_value().expect("all have a name");
                format!("{}/{}x{}", mode.get_name(), self.connections, self.bytes)
            }
        }
    }

    fn warm_up(&self) -> Duration {
        // Counted messages are all there are.
        if self.messages.is_some() { Duration::ZERO } else { seconds(self.warm_up) }
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(Duration::ZERO)
}
