//! What an echo takes, counted: instructions in user space and system calls of the server.
//!
//! Each server is loaded twice under the tool, with so many messages and with twice as many; the
//! difference, divided by the number, is free of what the start, the connections and the end take.
//! Tools that slow the server down find it with more events at each look at the poller than it
//! would have in freedom; with a load generator that is as quick as the server the difference is
//! small, and the same for all.

use std::env::current_exe;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::child::Process;
use super::network::{loader, sample, serve};
use super::plan::Load;
use crate::peer::Peer;
use crate::sample::Sample;

/// Which tools there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    instructions: Option<Instructions>,
    strace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Instructions {
    /// The processor's own counters.
    Perf,
    Callgrind,
}

impl Tools {
    pub(crate) fn find() -> Tools {
        let perf = says("perf", &["stat", "-x,", "-e", "instructions:u", "true"]);
        let counts = perf.is_some_and(|said| perf_count(&said).is_some());
        let callgrind = says("valgrind", &["--tool=callgrind", "--version"]).is_some();
        let instructions = match (counts, callgrind) {
            (true, _) => Some(Instructions::Perf),
            (false, true) => Some(Instructions::Callgrind),
            (false, false) => None,
        };
        Tools { instructions, strace: says("strace", &["--version"]).is_some() }
    }

    pub(crate) fn remarks(self) -> Vec<String> {
        let mut remarks = Vec::new();
        match self.instructions {
            Some(Instructions::Perf) => remarks.push("instructions: counted by perf stat"),
            Some(Instructions::Callgrind) => {
                remarks.push(
                    "instructions: counted by valgrind's callgrind (perf does not count here)",
                );
            }
            None => remarks.push(
                "instructions: not counted, for neither perf counts here nor valgrind is installed \
                 (Debian: valgrind)",
            ),
        }
        remarks.push(match self.strace {
            true => "system calls: counted by strace -c",
            false => "system calls: not counted, for strace is not installed (Debian: strace)",
        });
        remarks.into_iter().map(str::to_owned).collect()
    }
}

/// What was counted of one server, and what a reader should know of it.
pub(crate) fn count(
    measure: &str,
    peer: Peer,
    tools: Tools,
    quick: bool,
    cores: [usize; 2],
) -> anyhow::Result<(Sample, Option<String>)> {
    let mut counted = Sample::new(measure, peer);
    let mut note = None;
    let times = if quick { 1 } else { 3 };
    match (tools.instructions, why_not(peer)) {
        (None, _) => {}
        (Some(Instructions::Callgrind), Some(why)) => {
            note = Some(format!("instructions of {} not counted: {why}", peer.name()));
        }
        (Some(tool), _) => {
            let messages = times * if tool == Instructions::Perf { 100_000 } else { 10_000 };
            let value = slope(messages, |messages| instructions(tool, peer, messages, cores));
            let value = value.context("under the counter of instructions")?;
            counted = counted.with("instructions_per_echo", value);
        }
    }
    if tools.strace {
        let value = slope(times * 5_000, |messages| system_calls(peer, messages, cores));
        counted = counted.with("system_calls_per_echo", value.context("under strace")?);
    }
    ensure!(!counted.figures.is_empty() || note.is_some(), "nothing that counts is installed");
    Ok((counted, note))
}

/// Why valgrind is of no use with it.
fn why_not(peer: Peer) -> Option<&'static str> {
    match peer {
        Peer::Go => Some("valgrind cannot run its programs"),
        Peer::Gevent => Some("under valgrind the interpreter takes minutes to start"),
        _ => None,
    }
}

fn slope(messages: u64, count: impl Fn(u64) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    Ok((count(2 * messages)? - count(messages)?) / messages as f64)
}

fn instructions(
    tool: Instructions,
    peer: Peer,
    messages: u64,
    cores: [usize; 2],
) -> anyhow::Result<f64> {
    let file = Scratch::new("instructions");
    let mut command;
    match tool {
        Instructions::Perf => {
            command = Command::new("perf");
            command.args(["stat", "-x,", "-e", "instructions:u", "-o"]).arg(&file.0).arg("--");
        }
        Instructions::Callgrind => {
            command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--quiet"]);
            let mut option = std::ffi::OsString::from("--callgrind-out-file=");
            option.push(&file.0);
            command.arg(option);
        }
    }
    exchange(command, peer, messages, cores)?;
    let text = file.read()?;
    let found = match tool {
        Instructions::Perf => perf_count(&text),
        Instructions::Callgrind => callgrind_count(&text),
    };
    found.with_context(|| format!("no count in what {tool:?} wrote"))
}

fn system_calls(peer: Peer, messages: u64, cores: [usize; 2]) -> anyhow::Result<f64> {
    let file = Scratch::new("calls");
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o"]).arg(&file.0);
    exchange(command, peer, messages, cores)?;
    strace_count(&file.read()?).context("no count in what strace wrote")
}

/// So many messages with a server that runs under `tool`.
fn exchange(mut tool: Command, peer: Peer, messages: u64, cores: [usize; 2]) -> anyhow::Result<()> {
    let [server_core, load_core] = cores;
    tool.arg(current_exe()?).args(["serve", peer.name(), "--cpu", &server_core.to_string()]);
    let (server, address) = serve(tool)?;
    let work = Load {
        serve: "echo",
        load: "echo",
        connections: 100,
        bytes: 64,
        seconds: 0.0,
        warm_up: 0.0,
        awake: false,
    };
    let mut command = loader(&address, peer, "count", &work, load_core)?;
    command.args(["--messages", &messages.to_string()]);
    sample(Process::start(command)?, Duration::from_secs(120))?;
    server.end().context("the server")
}

/// A file of ours that goes when we do.
struct Scratch(PathBuf);

impl Scratch {
    fn new(what: &str) -> Scratch {
        let name = format!("peers-{}-{what}", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    fn read(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.0).with_context(|| format!("{}", self.0.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// All that it said, if it is there and content.
fn says(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// `12345,,instructions:u,...`; or `<not supported>` where the number should be.
fn perf_count(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("instructions"))?;
    line.split(',').next()?.trim().parse().ok()
}

/// `summary: 12345` for a program that ended, `totals:` at the very end.
fn callgrind_count(text: &str) -> Option<f64> {
    let totals = text.lines().filter_map(|line| line.strip_prefix("totals:"));
    let sum = totals.filter_map(|number| number.trim().parse::<f64>().ok()).reduce(|a, b| a + b);
    sum.filter(|sum| *sum > 0.0)
}

/// The fourth column of the last line, which says `total`.
fn strace_count(text: &str) -> Option<f64> {
    let line = text.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_what_tools_write() {
        let perf = "# started on Mon\n\n12345,,instructions:u,99,100.00,,\n";
        assert_eq!(perf_count(perf), Some(12345.0));
        assert_eq!(perf_count("<not supported>,,instructions:u,0,100.00,,\n"), None);
        let callgrind =
            "# callgrind format\nevents: Ir\nsummary: 77\n\nfn=(1)\n0 77\n\ntotals: 77\n";
        assert_eq!(callgrind_count(callgrind), Some(77.0));
        assert_eq!(callgrind_count("events: Ir\n"), None);
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
                      ------ ----------- ----------- --------- --------- ----------------\n \
                      99.00    0.100000           9     10000           read\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      100.00    0.100000           9     20123        12 total\n";
        assert_eq!(strace_count(strace), Some(20123.0));
        assert_eq!(strace_count(""), None);
    }

    #[test]
    fn slope_is_free_of_what_is_constant() {
        let slope = slope(1000, |messages| Ok(1e6 + 2.5 * messages as f64)).unwrap();
        assert_eq!(slope, 2.5);
    }
}
