//! Looks which ports of a machine are open: many connections at the same time, by a pool.
//!
//! ```text
//! cargo run --release --example portscan                            # 127.0.0.1, ports 1 to 1024
//! cargo run --release --example portscan -- 127.0.0.1:1-65535 --jobs 500
//! cargo run --release --example portscan -- [::1]:22,80,8000-8100
//! ```
//!
//! It tries what it is asked to and nothing else. A machine that is not yours should be asked about
//! only if its owner agrees.
//!
//! One probe is three lines of blocking code; `imap_unordered` keeps `--jobs` of them going, and hands
//! out what they found in the order in which they end, which is what a progress bar wants.

#![expect(clippy::print_stderr, reason = "what is wrong does not belong into the table")]

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use greenloom::pool::Pool;
use indicatif::{ProgressBar, ProgressStyle};

#[cfg(test)]
mod tests;

/// Looks which ports of a machine are open.
#[derive(Debug, Parser)]
struct Args {
    /// What to try: a name or an address, and ports, such as localhost:22,8000-8100
    #[arg(value_name = "HOST:PORTS", default_value = "127.0.0.1:1-1024")]
    target: Target,
    /// How many ports are tried at the same time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one())]
    jobs: usize,
    /// For how many milliseconds to wait for an answer
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = 1..)]
    timeout: i64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn main() -> ExitCode {
    match try_main(&Args::parse(), &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portscan: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the table to `out`.
fn try_main(args: &Args, out: &mut impl Write) -> Result<(), String> {
    let Args { target, jobs, timeout } = args;
    let ip = target.resolve().map_err(|error| error.to_string())?;
    let bar = progress_bar(target);
    let timeout = Duration::from_millis(timeout.unsigned_abs());
    let report = scan(ip, &target.ports, *jobs, timeout, &bar);
    bar.finish_and_clear();
    match write!(out, "{report}").and_then(|()| out.flush()) {
        // Whoever closes the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(format!("cannot print: {error}"));
        }
        _ => {}
    }
    match report.failures.first() {
        None => Ok(()),
        Some((port, error)) => {
            let count = report.failures.len();
            Err(format!("{count} ports could not be tried; port {port}: {error}"))
        }
    }
}

fn progress_bar(target: &Target) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} ports, {eta} left")
        .expect("the template is sound");
    ProgressBar::new(target.ports.count()).with_style(style)
}

// ------------------------------------------------------------------------------ what to try

/// A host and some of its ports.
#[derive(Clone, Debug)]
struct Target {
    host: String,
    ports: Ports,
}

impl Target {
    /// The address of the host; the first of them, if there are several.
    fn resolve(&self) -> io::Result<IpAddr> {
        let mut addresses = (self.host.as_str(), 0).to_socket_addrs()?;
        let nowhere = || io::Error::other(format!("{} has no address", self.host));
        let first = addresses.next().ok_or_else(nowhere)?;
        Ok(first.ip())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (host, ports) = text.rsplit_once(':').ok_or("there is no colon before the ports")?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => return Err("an IPv6 address stands in [brackets]".into()),
            None => host,
        };
        if host.is_empty() {
            return Err("there is no host before the colon".into());
        }
        Ok(Target { host: host.into(), ports: ports.parse()? })
    }
}

/// Ranges of ports that do not overlap, from the lowest to the highest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    fn count(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.end() - range.start()) + 1).sum()
    }

    fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        self.0.clone().into_iter().flatten()
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let port = |text: &str| match text.trim().parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a port, which is 1 to 65535")),
            Ok(port) => Ok(port),
        };
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("{part:?} ends before it begins"));
            }
            Ok(first..=last)
        };
        let mut ranges = text.split(',').map(range).collect::<Result<Vec<_>, String>>()?;
        ranges.sort_by_key(|range| *range.start());
        if ranges.windows(2).any(|pair| pair[0].end() >= pair[1].start()) {
            return Err("a port is named twice".into());
        }
        Ok(Ports(ranges))
    }
}

// ---------------------------------------------------------------------------------- trying

/// What came of one port.
#[derive(Debug)]
enum Answer {
    /// Somebody accepted, after so long.
    Open(Duration),
    /// The machine says that nobody listens there.
    Closed,
    /// Nothing came back in time: a firewall, most likely.
    Silent,
    /// It could not be tried.
    Failed(io::Error),
}

fn probe(address: SocketAddr, timeout: Duration) -> Answer {
    let start = Instant::now();
    match TcpStream::connect_timeout(&address, timeout) {
        // The system may have picked the very port that we knock at for our own end, and a socket
        // that calls itself answers.
        Ok(stream) if stream.local_addr().is_ok_and(|own| own == address) => Answer::Closed,
        Ok(_) => Answer::Open(start.elapsed()),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Answer::Closed,
            io::ErrorKind::TimedOut => Answer::Silent,
            _ => Answer::Failed(error),
        },
    }
}

/// Tries all `ports`, `jobs` of them at a time.
fn scan(ip: IpAddr, ports: &Ports, jobs: usize, timeout: Duration, bar: &ProgressBar) -> Report {
    let start = Instant::now();
    let pool = Pool::new(jobs);
    let answers = pool.imap_unordered(ports.iter(), move |port| {
        (port, probe(SocketAddr::new(ip, port), timeout))
    });

    let mut report = Report { host: ip.to_string(), services: services(), ..Report::default() };
    for (port, answer) in answers {
        bar.inc(1);
        match answer {
            Answer::Open(after) => report.open.push((port, after)),
            Answer::Closed => report.closed += 1,
            Answer::Silent => report.silent += 1,
            Answer::Failed(error) => report.failures.push((port, error)),
        }
    }
    report.open.sort_unstable();
    report.failures.sort_unstable_by_key(|(port, _)| *port);
    report.took = start.elapsed();
    report
}

// --------------------------------------------------------------------------------- telling

#[derive(Default)]
struct Report {
    host: String,
    /// Port, and how long it took to answer.
    open: Vec<(u16, Duration)>,
    closed: usize,
    silent: usize,
    failures: Vec<(u16, io::Error)>,
    took: Duration,
    services: HashMap<u16, String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.open.is_empty() {
            writeln!(f, "{:>5}  {:20}  ANSWERED IN", "PORT", "SERVICE")?;
        }
        for (port, after) in &self.open {
            let service = self.services.get(port).map_or("-", String::as_str);
            writeln!(f, "{port:>5}  {service:20}  {:.1} ms", after.as_secs_f64() * 1e3)?;
        }
        let Report { host, closed, silent, took, .. } = self;
        let (open, took) = (self.open.len(), took.as_secs_f64());
        writeln!(f, "{host}: {open} open, {closed} closed, {silent} silent, in {took:.2} s")
    }
}

/// What the ports are for, as the system knows it, or at least the best known of them.
fn services() -> HashMap<u16, String> {
    // A disk may be slow, and this thread has others to serve (if this were part of a larger program).
    let known = greenloom::offload(|| std::fs::read_to_string("/etc/services"));
    parse_services(known.as_deref().unwrap_or(WELL_KNOWN))
}

/// `name port/protocol aliases # comment`, a line each.
fn parse_services(text: &str) -> HashMap<u16, String> {
    let parse = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        Some((port.parse().ok()?, name.to_owned()))
    };
    // The first name of a port is the one to show.
    text.lines().rev().filter_map(parse).collect()
}

const WELL_KNOWN: &str = "
    ftp 21/tcp
    ssh 22/tcp
    telnet 23/tcp
    smtp 25/tcp
    domain 53/tcp
    http 80/tcp
    pop3 110/tcp
    imap2 143/tcp
    https 443/tcp
    mysql 3306/tcp
    postgresql 5432/tcp
    redis 6379/tcp
    http-alt 8080/tcp
";
