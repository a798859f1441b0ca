//! A small shell: runs pipelines of programs, many at once, and tells how each has ended.
//!
//! ```text
//! cargo run --example shell -- 'echo hello | tr a-z A-Z' 'sleep 1' 'ls /nowhere'
//! cargo run --example shell -- --jobs 4 --file commands.txt
//! seq 20 | sed 's/^/expr 7 \\* /' | cargo run --example shell
//! ```
//!
//! Every job has a greenlet of its own, and one more for each pipe that is read; a `Pool` says how
//! many jobs run at a time. Whoever waits for a child waits for "stop" as well, because both are
//! `Waitable`. Control-C sets that: the children get the signal, and are killed if they do not end.

#![expect(clippy::print_stderr, reason = "says why it cannot begin")]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::pool::Pool;
use greenloom::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use greenloom::signal::{self, SIGINT, SIGKILL, SIGTERM, Signal};
use greenloom::sync::Event;
use greenloom::{Greenlet, Waitable, joinall, joinall_timeout, killall, spawn, wait_any};

#[cfg(test)]
mod tests;

/// Runs commands and pipelines, many at once.
#[derive(Debug, Parser)]
struct Args {
    /// What to run: programs with arguments, joined by `|`. One a line from standard input, if
    /// there are none
    commands: Vec<String>,
    /// Reads commands from a file, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "commands")]
    file: Option<PathBuf>,
    /// How many run at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    jobs: usize,
}

/// How long those who were told to end may take, before they are killed.
const GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    let pipelines = match read_commands(&args) {
        Ok(pipelines) => pipelines,
        Err(error) => {
            eprintln!("shell: {error}");
            return ExitCode::from(2);
        }
    };
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM] {
        let stop = stop.clone();
        signal::on(signal, move |signal| stop.set(signal));
    }
    let printer = Printer::new(io::stdout(), &stop);
    let reports = run(pipelines, args.jobs, &printer, &stop);
    printer.print(&table(&reports));
    if let Some(error) = &*printer.failure.borrow() {
        eprintln!("shell: cannot print: {error}");
    }
    exit_code(&reports, &printer, &stop)
}

fn exit_code(reports: &[Report], printer: &Printer, stop: &Stop) -> ExitCode {
    match stop.signal.get() {
        Some(signal) => ExitCode::from(128 + signal.as_raw() as u8),
        None if printer.failure.borrow().is_some() => ExitCode::FAILURE,
        None if reports.iter().all(Report::is_success) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

// ---------------------------------------------------------------------------------- the commands

/// Programs with their arguments; the output of each is the input of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pipeline {
    text: String,
    stages: Vec<Vec<String>>,
}

/// All are read, and understood, before the first is run.
fn read_commands(args: &Args) -> Result<Vec<Pipeline>, String> {
    let (place, lines) = if !args.commands.is_empty() {
        ("argument", args.commands.clone())
    } else if let Some(path) = &args.file {
        let file = File::open(path).and_then(|file| BufReader::new(file).lines().collect());
        ("line", file.map_err(|error| format!("cannot read {}: {error}", path.display()))?)
    } else {
        if io::stdin().is_terminal() {
            eprintln!("one command a line; control-D ends");
        }
        let lines = io::stdin().lines().collect::<io::Result<_>>();
        ("line", lines.map_err(|error| format!("cannot read standard input: {error}"))?)
    };
    let mut pipelines = Vec::new();
    for (number, line) in (1..).zip(lines) {
        match parse(&line) {
            Ok(Some(pipeline)) => pipelines.push(pipeline),
            Ok(None) => {}
            Err(error) => return Err(format!("{place} {number}: {error}: {line}")),
        }
    }
    if pipelines.is_empty() { Err("there is nothing to run".to_owned()) } else { Ok(pipelines) }
}

/// Words are divided by spaces, and stages by bars, except in quotes and after a backslash. `None`:
/// an empty line, or a comment.
fn parse(line: &str) -> Result<Option<Pipeline>, String> {
    let mut stages = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let stage = stages.last_mut().expect("there is one from the start");
        match c {
            '#' if word.is_none() => break,
            '|' => {
                stage.extend(word.take());
                if stage.is_empty() {
                    return Err("a program is missing".to_owned());
                }
                stages.push(Vec::new());
            }
            c if c.is_whitespace() => stage.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(inside) => word.push(inside),
                        None => return Err(format!("the quote {c} is not closed")),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("a backslash at the end".to_owned()),
            },
            '<' | '>' | '&' | ';' | '$' | '`' | '(' | ')' | '*' | '?' => {
                return Err(format!("{c} is not known here; quote it, or run `sh -c '...'`"));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    let last = stages.last_mut().expect("there is one from the start");
    last.extend(word);
    match (last.is_empty(), stages.len()) {
        (true, 1) => Ok(None),
        (true, _) => Err("a program is missing".to_owned()),
        (false, _) => Ok(Some(Pipeline { text: line.trim().to_owned(), stages })),
    }
}

// --------------------------------------------------------------------------------------- the jobs

/// Told to stop, and by which signal.
#[derive(Clone, Default)]
struct Stop {
    event: Event,
    signal: Rc<Cell<Option<Signal>>>,
}

impl Stop {
    fn set(&self, signal: Signal) {
        self.signal.set(self.signal.get().or(Some(signal)));
        self.event.set();
    }
}

/// How one stage has ended.
#[derive(Debug)]
enum End {
    Exited(ExitStatus),
    Failed(io::Error),
    NotRun,
}

#[derive(Debug)]
struct Report {
    text: String,
    ends: Vec<End>,
    took: Duration,
}

impl Report {
    fn is_success(&self) -> bool {
        self.ends.iter().all(|end| matches!(end, End::Exited(status) if status.success()))
    }
}

/// Runs all of them, so many at a time. The reports are in the order of the commands.
fn run(pipelines: Vec<Pipeline>, jobs: usize, printer: &Rc<Printer>, stop: &Stop) -> Vec<Report> {
    Pool::new(jobs).map((1..).zip(pipelines), |(number, pipeline): (usize, Pipeline)| {
        let start = Instant::now();
        let ends = if stop.event.is_set() {
            pipeline.stages.iter().map(|_| End::NotRun).collect()
        } else {
            run_one(number, &pipeline, printer, stop)
        };
        Report { text: pipeline.text, ends, took: start.elapsed() }
    })
}

fn run_one(number: usize, pipeline: &Pipeline, printer: &Rc<Printer>, stop: &Stop) -> Vec<End> {
    let mut readers = Vec::new();
    let mut children: Vec<io::Result<Child>> = Vec::new();
    let mut group = 0; // the first makes one, and the others join it
    let mut input = Stdio::null();
    for stage in &pipeline.stages {
        let child = Command::new(&stage[0])
            .args(&stage[1..])
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(group)
            .spawn();
        input = Stdio::null();
        match child {
            Ok(mut child) => {
                group = if group == 0 { child.id() as i32 } else { group };
                if let Some(errors) = child.stderr.take() {
                    readers.push(relay(format!("[{number}!]"), errors, printer));
                }
                match child.stdout.take() {
                    Some(output) if children.len() + 1 == pipeline.stages.len() => {
                        readers.push(relay(format!("[{number}]"), output, printer));
                    }
                    Some(output) => input = output.into(),
                    None => {}
                }
                children.push(Ok(child));
            }
            Err(error) => {
                printer.print(&format!("[{number}!] {}: {error}\n", stage[0]));
                children.push(Err(error));
            }
        }
    }
    drop(input);
    let ends = wait_for(children, group as u32, stop);
    if stop.event.is_set() {
        // Somebody who has left the group may hold a pipe open.
        joinall_timeout(&readers, GRACE);
        killall(&readers);
    } else {
        joinall(&readers);
    }
    ends
}

/// Waits for all of them. Told to stop, it passes the signal on to the whole group.
fn wait_for(children: Vec<io::Result<Child>>, group: u32, stop: &Stop) -> Vec<End> {
    let mut is_told = false;
    let wait = |child: io::Result<Child>| {
        let mut child = child?;
        if !is_told && wait_any([&child as &dyn Waitable, &stop.event]) == 1 {
            is_told = true;
            // It has not been waited for, so there is the group still.
            signal::send_to_group(group, stop.signal.get().unwrap_or(SIGTERM))?;
        }
        if is_told && child.wait_timeout(GRACE)?.is_none() {
            signal::send_to_group(group, SIGKILL)?;
        }
        child.wait()
    };
    children.into_iter().map(wait).map(|end| end.map_or_else(End::Failed, End::Exited)).collect()
}

/// Prints what comes, line by line, with the job's number in front.
fn relay(prefix: String, pipe: impl Read + 'static, printer: &Rc<Printer>) -> Greenlet<()> {
    let printer = Rc::clone(printer);
    spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match pipe.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line);
                    printer.print(&format!("{prefix} {}\n", text.trim_end_matches('\n')));
                }
                Err(error) => {
                    printer.print(&format!("{prefix} its output cannot be read: {error}\n"));
                    break;
                }
            }
        }
    })
}

// ------------------------------------------------------------------------------------- the output

/// Where all lines go. When nobody wants them any more, there is no point in going on.
struct Printer {
    out: RefCell<Box<dyn Write>>,
    failure: RefCell<Option<io::Error>>,
    stop: Stop,
}

impl Printer {
    fn new(out: impl Write + 'static, stop: &Stop) -> Rc<Printer> {
        let out = RefCell::new(Box::new(out) as Box<dyn Write>);
        Rc::new(Printer { out, failure: RefCell::default(), stop: stop.clone() })
    }

    fn print(&self, text: &str) {
        let mut out = self.out.borrow_mut();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written {
            // Whoever closes the pipe has seen enough.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failure.borrow_mut().get_or_insert(error);
            }
            self.stop.event.set();
        }
    }
}

fn table(reports: &[Report]) -> String {
    let statuses: Vec<_> = reports.iter().map(statuses).collect();
    let width = statuses.iter().map(String::len).fold("status".len(), usize::max);
    let mut text = format!("\n job  {:width$}  {:>8}  command\n", "status", "time");
    for (number, (report, status)) in (1..).zip(reports.iter().zip(&statuses)) {
        let seconds = report.took.as_secs_f64();
        text += &format!("{number:4}  {status:width$}  {seconds:7.2}s  {}\n", report.text);
    }
    text
}

fn statuses(report: &Report) -> String {
    report.ends.iter().map(End::to_string).collect::<Vec<_>>().join(" | ")
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => match (status.code(), status.signal().map(Signal::from_raw)) {
                (Some(code), _) => write!(f, "{code}"),
                (None, Some(Ok(signal))) => write!(f, "{signal}"),
                (None, _) => write!(f, "{status}"),
            },
            End::Failed(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("not found")
            }
            End::Failed(error) => write!(f, "{error}"),
            End::NotRun => f.write_str("not run"),
        }
    }
}
