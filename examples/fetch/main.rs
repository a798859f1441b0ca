//! Fetches many pages at once: the concurrent HTTP fetcher.
//!
//! ```text
//! cargo run --release --example fetch
//! cargo run --release --example fetch -- https://example.org/ https://www.rust-lang.org/
//! cargo run --release --example fetch -- --file urls.txt --jobs 50 --timeout 10 --retries 3
//! ```
//!
//! Without arguments it brings a server along, with 200 pages that take 100 ms each, and fetches all
//! of them in little more than 100 ms, on one thread.
//!
//! Each page is fetched by a greenlet of a `Pool`, in plain blocking code: a request is sent, the
//! answer is read, and the pause before another attempt is slept. It is in `fetcher.rs`, and the
//! place to read next; `reasons.rs` makes one clear line of whatever may go wrong.
//!
//! Exit code: 0 if every page was fetched, 1 if not, 2 if it could not begin (no such file, no such
//! option), 130 if it was stopped by ^C, after the table of what was done until then.

#![expect(clippy::print_stderr, reason = "says why it cannot begin")]

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::pool::Pool;
use greenloom::{Greenlet, signal};
use indicatif::{ProgressBar, ProgressStyle};

use fetcher::{Fetcher, Limits};
use report::Report;
use site::Site;

mod fetcher;
mod reasons;
mod report;
mod site;
#[cfg(test)]
mod tests;

/// Fetches pages, many at once, and tells how each of them went.
///
/// Without any URL it serves 200 pages of 100 ms each to itself, and fetches them.
///
/// Exit code: 0 if every page was fetched, 1 if not, 2 if it could not begin, 130 after ^C.
#[derive(Debug, Parser)]
struct Args {
    /// What to fetch: http:// or https://. `-` reads them from standard input, one a line
    urls: Vec<String>,
    /// Read URLs from this file, one a line; empty lines and those that begin with # are skipped
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// How many at the same time; 100 if not given, and 200 for the pages of its own
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    jobs: Option<u32>,
    /// How long one attempt may take, from the name's look-up to the last byte
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// How often to try again what may heal: connections that fail, timeouts, 429, 502, 503, 504
    #[arg(long, value_name = "N", default_value_t = 2)]
    retries: u32,
    /// The largest body to read
    #[arg(long, value_name = "BYTES", default_value_t = 100 << 20)]
    max_bytes: u64,
    /// Save the bodies in this folder, which is made if it is not there
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Trust the certificates in this PEM file, and no others
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Do not ask proxies, even if the environment names one (HTTP_PROXY and the like)
    #[arg(long)]
    no_proxy: bool,
    /// List so many of the pages that were fetched, and all that were not
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("not a number"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(String::from("must be more than 0, and not endless")),
    }
}

fn main() -> ExitCode {
    match try_main(&Args::parse(), &mut io::stdout()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("fetch: {error}");
            ExitCode::from(2)
        }
    }
}

/// Writes the table to `out`, and returns the exit code.
fn try_main(args: &Args, out: &mut impl Write) -> Result<u8, String> {
    let given = !args.urls.is_empty() || !args.file.is_empty();
    let (urls, site) = if given { (list(args)?, None) } else { own_pages(out)? };

    let fetcher = Fetcher::new(Limits {
        jobs: args.jobs.unwrap_or(if given { 100 } else { 200 }) as usize,
        timeout: args.timeout,
        retries: args.retries,
        max_bytes: args.max_bytes,
        roots: args.cacert.as_deref().map(read_certificates).transpose()?,
        direct: args.no_proxy || site.is_some(),
        folder: args.output.as_deref().map(made_folder).transpose()?,
    });

    let bar = progress_bar(urls.len() as u64);
    let report = Rc::new(RefCell::new(Report::new(urls)));
    let started = Instant::now();
    let work = Rc::new(start(fetcher, Rc::clone(&report), bar.clone()));
    let stopped = Rc::new(Cell::new(false));
    let at_interrupt = signal::try_on(signal::SIGINT, {
        let (work, stopped) = (Rc::clone(&work), Rc::clone(&stopped));
        move |_| {
            stopped.set(true);
            work.kill();
        }
    });
    let at_interrupt = at_interrupt.map_err(|error| format!("cannot listen for ^C: {error}"))?;
    work.join();
    at_interrupt.cancel();
    report.borrow_mut().ended(started.elapsed());
    bar.finish_and_clear();

    let report = report.borrow();
    let rows = args.rows.unwrap_or(if given { usize::MAX } else { 5 });
    let written = report.write(out, rows).and_then(|()| match site {
        Some(_) if report.is_perfect() => boast(out, &report),
        _ => Ok(()),
    });
    match written {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the table: {error}"))
        }
        _ if stopped.get() => Ok(130),
        _ => Ok(u8::from(!report.is_perfect())),
    }
}

/// Fetches everything that `report` lists, in a greenlet: what is done is in the report, also when
/// that is killed half-way.
fn start(fetcher: Fetcher, report: Rc<RefCell<Report>>, bar: ProgressBar) -> Greenlet<()> {
    greenloom::spawn(move || {
        let urls = report.borrow().urls().into_iter().enumerate();
        let pool = Pool::new(fetcher.limits().jobs);
        let fetched = pool.imap_unordered(urls, move |(at, url)| (at, fetcher.fetch(at, &url)));
        for (at, row) in fetched {
            report.borrow_mut().add(at, row);
            bar.inc(1);
        }
    })
}

/// On standard error, and only where that is a terminal.
fn progress_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len}  {eta} left")
        .expect("a template that indicatif knows");
    ProgressBar::new(length).with_style(style)
}

// ------------------------------------------------------------------------------------ the list

/// What was asked for, in that order: the arguments, then the files.
fn list(args: &Args) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    for url in &args.urls {
        if url == "-" { urls.extend(read_list(Path::new("-"))?) } else { urls.push(url.clone()) }
    }
    for file in &args.file {
        urls.extend(read_list(file)?);
    }
    if urls.is_empty() { Err(String::from("there is no URL in what was given")) } else { Ok(urls) }
}

/// The lines of a file, or of standard input. Nothing else runs yet, so it may block.
fn read_list(file: &Path) -> Result<Vec<String>, String> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::stdin())
            .map_err(|error| format!("cannot read standard input: {error}"))?
    } else {
        fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?
    };
    let lines = text.lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

fn read_certificates(file: &Path) -> Result<Vec<u8>, String> {
    let pem = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    match fetcher::certificates(&pem) {
        Ok(_) => Ok(pem),
        Err(error) => Err(format!("cannot use {}: {error}", file.display())),
    }
}

fn made_folder(folder: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder.to_owned())
}

// ----------------------------------------------------------------------------- its own pages

const PAGES: usize = 200;
const DELAY: Duration = Duration::from_millis(100);

/// A server in this very thread, and what there is to fetch from it.
fn own_pages(out: &mut impl Write) -> Result<(Vec<String>, Option<Site>), String> {
    let page = |path: &str| path.strip_prefix("/page/").map(|number| format!("page {number}\n"));
    let site = Site::start(DELAY, page).map_err(|error| format!("cannot serve pages: {error}"))?;
    let urls = (1..=PAGES).map(|number| site.url(&format!("/page/{number}"))).collect();
    // If nobody reads it, the table will say so.
    let _ = writeln!(
        out,
        "No URL was given, so here is a server: {PAGES} pages, each of which takes {DELAY:?}.\n\
         One after the other they would take {:?}; they are fetched all at once.\n",
        DELAY * PAGES as u32
    );
    Ok((urls, Some(site)))
}

fn boast(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let took = report.took().as_millis();
    writeln!(
        out,
        "\n{PAGES} pages of {DELAY:?} each in {took} ms; client and server are greenlets of one thread."
    )
}
