//! Asks an upper-casing echo server many questions at once and checks every answer.
//!
//! ```text
//! cargo run --release --example echo_server
//! cargo run --release --example echo_client -- --clients 1000 --messages 100
//! ```
//!
//! With `--together` nobody asks before all are connected, and nobody leaves before all have been
//! answered: ten thousand connections held open at the same time, say.
//!
//! Every client is a greenlet with a connection of its own. All of them share one report without a
//! lock: they take turns on one thread, and a turn ends only where a call waits.

#![expect(clippy::print_stdout, reason = "the summary is what this program is for")]
#![expect(clippy::print_stderr, reason = "says why it cannot begin")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedI64ValueParser;
use greenloom::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use greenloom::sync::Barrier;
use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressState, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// An answer that takes longer than this is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Many clients at once; every answer is checked byte for byte.
#[derive(Debug, Parser)]
struct Args {
    /// How many clients, all at the same time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one())]
    clients: u32,
    /// How many messages each of them sends, one after the other
    #[arg(long, value_name = "M", default_value_t = 100, value_parser = at_least_one())]
    messages: u32,
    /// How long a message is
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = at_least_one())]
    size: u32,
    /// Connect all before anybody asks, and stay until all are answered
    #[arg(long)]
    together: bool,
    /// Where the server listens
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
}

fn at_least_one() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn main() -> ExitCode {
    match try_main(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("echo_client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn try_main(args: Args) -> Result<bool, Box<dyn Error>> {
    let Args { clients, messages, size, together, address } = args;
    raise_limit_of_descriptors();
    let server = address
        .to_socket_addrs()
        .map_err(|error| format!("no such address, {address}: {error}"))?
        .collect();
    let load = Load { server, clients, messages, size, together };

    let bar = progress_bar(load.questions())?;
    let report = run(&load, &bar);
    bar.finish_and_clear();

    println!("{load} to {address}\n{report}");
    Ok(report.is_perfect())
}

/// Each client takes a descriptor. If this fails, connections will, and say why.
fn raise_limit_of_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// On standard error, and only where that is a terminal.
fn progress_bar(length: u64) -> Result<ProgressBar, Box<dyn Error>> {
    let style = "{wide_bar} {human_pos}/{human_len}  {rate}/s  {eta} left";
    let style = ProgressStyle::with_template(style)?.with_key(
        "rate", // its own `per_sec` has four decimals
        |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", HumanCount(state.per_sec().round() as u64));
        },
    );
    Ok(ProgressBar::new(length).with_style(style))
}

/// "1 client", "2 clients", "1,000 clients".
fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", HumanCount(count))
}

/// What is asked of the server.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) server: Vec<SocketAddr>,
    pub(crate) clients: u32,
    pub(crate) messages: u32,
    pub(crate) size: u32,
    pub(crate) together: bool,
}

impl Load {
    fn questions(&self) -> u64 {
        u64::from(self.clients) * u64::from(self.messages)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = counted(self.clients, "client");
        let messages = counted(self.messages, "message");
        let size = counted(self.size, "byte");
        write!(f, "{clients} x {messages} x {size}")
    }
}

/// Runs all clients at once and returns when the last has gone.
pub(crate) fn run(load: &Load, bar: &ProgressBar) -> Report {
    let started = Instant::now();
    let report = RefCell::new(Report::new(load));
    let together = load.together.then(|| Barrier::new(load.clients as usize));
    greenloom::scope(|scope| {
        for id in 0..load.clients {
            let (report, together) = (&report, together.as_ref());
            scope.spawn(move || client(id, load, together, report, bar));
        }
    });
    Report { took: started.elapsed(), ..report.into_inner() }
}

/// One client: every answer, and every one that did not come, is in the report when it returns.
fn client(
    id: u32,
    load: &Load,
    together: Option<&Barrier>,
    report: &RefCell<Report>,
    bar: &ProgressBar,
) {
    let mut answers = 0;
    let result = converse(id, load, together, |correct, latency| {
        answers += 1;
        report.borrow_mut().answered(correct, latency);
        bar.inc(1);
    });
    if let Err(error) = result {
        if let Some(together) = together {
            together.abort(); // the others need not wait for this one
        }
        report.borrow_mut().failed(load.messages - answers, &error);
    }
}

/// Asks all questions of one client, and tells `heard` of each answer whether it was correct and
/// how long it took.
fn converse(
    id: u32,
    load: &Load,
    together: Option<&Barrier>,
    mut heard: impl FnMut(bool, Duration),
) -> io::Result<()> {
    let wait_for_the_others = || {
        // A barrier that is broken lets everybody through: somebody has failed, and said so.
        let _ = together.map(Barrier::wait);
    };
    let mut stream = TcpStream::connect(&load.server[..])?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    wait_for_the_others();

    let mut question = vec![0; load.size as usize];
    let mut answer = question.clone();
    for message in 0..load.messages {
        invent(&mut question, id, message);
        let asked = Instant::now();
        ask(&mut stream, &question, &mut answer)?;
        let latency = asked.elapsed();
        question.make_ascii_uppercase();
        heard(answer == question, latency);
    }

    wait_for_the_others();
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came back than was sent")),
    }
}

/// Sends `question` and fills `answer`.
///
/// A long question goes in pieces. The server answers while it is still being asked: if we did not
/// read until the end, the buffers between us would fill up and both sides wait for the other.
fn ask(stream: &mut TcpStream, question: &[u8], answer: &mut [u8]) -> io::Result<()> {
    const PIECE: usize = 16 * 1024;
    for (question, answer) in question.chunks(PIECE).zip(answer.chunks_mut(PIECE)) {
        stream.write_all(question)?;
        stream.read_exact(answer).map_err(|error| match error.kind() {
            // What it says of itself, "failed to fill whole buffer", is our side of it.
            io::ErrorKind::UnexpectedEof => io::Error::other("the server closed the connection"),
            _ => error,
        })?;
    }
    Ok(())
}

/// Fills `question` with bytes of every kind that depend on who asks and on how often they did, so
/// that an answer meant for another question does not pass for the right one.
fn invent(question: &mut [u8], client: u32, message: u32) {
    let mut state = (u64::from(client) << 32) | u64::from(message);
    for byte in question {
        // Knuth's linear congruential generator; its high bits are the good ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
}

/// What became of the questions.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) correct: u64,
    pub(crate) wrong: u64,
    pub(crate) lost: u64,
    /// What went wrong with connections, and with how many.
    pub(crate) failures: BTreeMap<String, u32>,
    latencies: Histogram<u64>,
    took: Duration,
    message_size: u32,
}

impl Report {
    fn new(load: &Load) -> Report {
        Report {
            correct: 0,
            wrong: 0,
            lost: 0,
            failures: BTreeMap::new(),
            latencies: Histogram::new_with_max(nanoseconds(2 * PATIENCE), 3)
                .expect("a minute to three digits is within its means"),
            took: Duration::ZERO,
            message_size: load.size,
        }
    }

    fn answered(&mut self, correct: bool, latency: Duration) {
        *(if correct { &mut self.correct } else { &mut self.wrong }) += 1;
        self.latencies.saturating_record(nanoseconds(latency));
    }

    fn failed(&mut self, unanswered: u32, error: &io::Error) {
        self.lost += u64::from(unanswered);
        *self.failures.entry(error.to_string()).or_default() += 1;
    }

    /// Every question had its answer, and every connection its proper end.
    pub(crate) fn is_perfect(&self) -> bool {
        self.wrong == 0 && self.lost == 0 && self.failures.is_empty()
    }

    fn latency_at(&self, percentile: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_percentile(percentile))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { correct, wrong, lost, took, .. } = self;
        let answers = correct + wrong;
        let rate = answers as f64 / took.as_secs_f64();
        let bytes = HumanBytes((rate * f64::from(self.message_size)) as u64);
        let [correct, wrong, lost] = [*correct, *wrong, *lost].map(HumanCount);
        write!(f, "answers     {correct} correct, {wrong} wrong, {lost} lost")?;
        for (failure, &count) in &self.failures {
            write!(f, "\n            {} failed: {failure}", counted(count, "connection"))?;
        }
        if answers == 0 {
            return Ok(()); // nothing was measured
        }
        let rate = HumanCount(rate.round() as u64);
        write!(f, "\nthroughput  {rate}/s, {bytes}/s each way, in {took:.2?}")?;
        write!(f, "\nlatency     ")?;
        for percentile in [50.0, 90.0, 99.0, 99.9] {
            write!(f, "p{percentile} {:.1?}  ", self.latency_at(percentile))?;
        }
        write!(f, "max {:.1?}", Duration::from_nanos(self.latencies.max()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;
    use std::thread;

    /// A server for one visitor that knows nothing of greenlets: std's sockets on a thread.
    /// `reply` makes the answer of what was heard; `None` hangs up.
    fn server(reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Load {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = vec![listener.local_addr().unwrap()];
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut heard = [0; 100];
            while let count @ 1.. = stream.read(&mut heard)? {
                match reply(&heard[..count]) {
                    Some(answer) => stream.write_all(&answer)?,
                    None => break,
                }
            }
            Ok(())
        });
        Load { server, clients: 1, messages: 10, size: 100, together: false }
    }

    fn run_quietly(load: &Load) -> Report {
        run(load, &ProgressBar::hidden())
    }

    #[test]
    fn runs() {
        let report = run_quietly(&server(|heard| Some(heard.to_ascii_uppercase())));
        assert!(report.is_perfect(), "{report}");
        assert_eq!(report.correct, 10);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        let load =
            Load { server: vec![], clients: 1, messages: 1_000, size: 65_536, together: false };
        assert_eq!(load.to_string(), "1 client x 1,000 messages x 65,536 bytes");

        let mut report = Report::new(&load);
        report.failed(1_000, &io::Error::other("oh"));
        assert_eq!(
            report.to_string(),
            "answers     0 correct, 0 wrong, 1,000 lost\n            1 connection failed: oh",
            "and no table of latencies, because there are none"
        );
        report.took = Duration::from_secs(1);
        for _ in 0..2_000 {
            report.answered(false, Duration::from_millis(1));
        }
        let text = report.to_string();
        assert!(text.contains("2,000 wrong") && text.contains("  2,000/s, 125.00 MiB/s"), "{text}");
        assert!(text.contains("latency     p50 1.0ms"), "{text}");
    }

    #[test]
    fn latencies_are_summed_up() {
        let mut report = Report::new(&Load {
            server: vec![],
            clients: 1,
            messages: 100,
            size: 1,
            together: false,
        });
        for ms in 1..=100 {
            report.answered(true, Duration::from_millis(ms));
        }
        for (percentile, expected) in [(50.0, 50), (90.0, 90), (100.0, 100)] {
            let difference =
                report.latency_at(percentile).abs_diff(Duration::from_millis(expected));
            assert!(difference < Duration::from_millis(1), "{report}");
        }
    }

    #[test]
    fn wrong_answers_are_seen() {
        let report = run_quietly(&server(|heard| Some(heard.to_ascii_lowercase())));
        assert!(!report.is_perfect());
        assert_eq!((report.correct, report.wrong, report.lost), (0, 10, 0));
    }

    #[test]
    fn lost_answers_are_counted() {
        let report = run_quietly(&server(|_| None));
        assert!(!report.is_perfect());
        assert_eq!((report.correct, report.wrong, report.lost), (0, 0, 10));
        assert_eq!(report.failures, [("the server closed the connection".into(), 1)].into());
    }

    #[test]
    fn too_much_of_an_answer_is_seen() {
        let report = run_quietly(&server(|heard| Some(heard.to_ascii_uppercase().repeat(2))));
        assert!(!report.is_perfect());
    }

    #[test]
    fn nobody_listens() {
        // Bound, so that nobody else gets the port, but not listening.
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = closed.local_addr().unwrap().as_socket().unwrap();

        for together in [false, true] {
            let server = vec![address];
            let load = Load { server, clients: 3, messages: 10, size: 100, together };
            let report = run_quietly(&load);
            assert!(!report.is_perfect());
            assert_eq!(report.lost, 30);
            assert_eq!(report.failures.values().sum::<u32>(), 3);
        }
    }
}
