//! What the servers among the examples have in common: they say what they do, and stop when they are
//! told to.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use greenloom::signal::{self, SIGINT, SIGTERM};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// At the first SIGINT (control-C) or SIGTERM, `stop` is to stop within `grace`; at the next, at
/// once. It gets that in words, too.
pub(crate) fn obey_signals(grace: Duration, stop: impl Fn(Duration, &str) + 'static) {
    let (grace, stop) = (Rc::new(Cell::new(grace)), Rc::new(stop));
    for signal in [SIGINT, SIGTERM] {
        let (grace, stop) = (Rc::clone(&grace), Rc::clone(&stop));
        signal::on(signal, move |_| {
            let grace = grace.take(); // leaves none for the next
            let within = if grace.is_zero() { "at once".into() } else { format!("in {grace:?}") };
            stop(grace, &within);
        });
    }
}

/// Sends the log to standard error, at level `info` unless `RUST_LOG` says otherwise.
///
/// A terminal or a pipe can be slow, and whoever waits for it outside of `greenloom` holds up all
/// visitors. So a thread that has nothing else to do waits for it. If nobody reads the log any more,
/// the server goes on without.
pub(crate) fn start_logging() -> Log {
    let (lines, to_write) = mpsc::sync_channel::<Option<Vec<u8>>>(10_000);
    let writer = thread::spawn(move || {
        to_write.iter().map_while(|line| line).try_for_each(|line| io::stderr().write_all(&line))
    });
    let log = Log { lines, writer };
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let lines = LogWriter(log.lines.clone());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || lines.clone())
        .init();
    log
}

pub(crate) struct Log {
    lines: SyncSender<Option<Vec<u8>>>,
    writer: JoinHandle<io::Result<()>>,
}

impl Log {
    /// Returns when the last line is written.
    pub(crate) fn close(self) {
        // It fails if the thread has ended, because nobody reads what it writes.
        let _ = self.lines.send(None);
        let _ = self.writer.join();
    }
}

/// Hands lines to the logging thread. When nobody takes them for long, new ones are dropped.
#[derive(Clone)]
struct LogWriter(SyncSender<Option<Vec<u8>>>);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Some(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
