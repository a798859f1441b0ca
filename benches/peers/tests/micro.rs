//! Every measure of every peer once, as small as it can be: what is printed is a sample, and what is
//! not measured says why.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Exit status of what cannot be measured.
const NOT_MEASURED: i32 = 3;

/// No measure takes that long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn micro(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
    command.arg("micro").args(arguments).stdin(Stdio::null());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(command.output()));
    let output = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("hangs: {arguments:?}"));
    output.expect("it can be started")
}

/// Lines of `--list`: measure, peer, why it is not measured.
fn list() -> Vec<(String, String, Option<String>)> {
    let output = micro(&["--list"]);
    assert!(output.status.success(), "{output:?}");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let parse = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        let (measure, peer) = (text(&line["measure"]), text(&line["peer"]));
        (measure.expect("has one"), peer.expect("has one"), text(&line["not_measured"]))
    };
    String::from_utf8(output.stdout).expect("it is text").lines().map(parse).collect()
}

/// The least that makes sense of it.
fn smallest(measure: &str) -> &'static str {
    if matches!(measure, "switch" | "queue" | "queue_unbounded") { "2" } else { "10" }
}

#[test]
fn smoke() {
    let output = micro(&["switch", "greenloom", "--operations=1000", "--rounds=1"]);
    assert!(output.status.success(), "{output:?}");
    let sample: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!((&sample["measure"], &sample["peer"]), (&"switch/2".into(), &"greenloom".into()));
    assert!(sample["figures"]["ns"].as_f64().is_some_and(|ns| ns > 0.0), "{sample}");
}

#[test]
fn whatever_is_listed_is_measured() {
    let mut done = Vec::new();
    for (measure, peer, why_not) in list() {
        let name = measure.split('/').next().expect("a name").to_owned();
        if why_not.is_some() || done.contains(&(name.clone(), peer.clone())) {
            continue;
        }
        let n = smallest(&name);
        let output =
            micro(&[&name, &peer, "--n", n, "--operations=200", "--rounds=2", "--round-ms=1"]);
        assert!(output.status.success(), "{name} of {peer}: {output:?}");
        let sample: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        assert_eq!(sample["measure"], format!("{name}/{n}"));
        assert_eq!(sample["peer"], peer);
        let figures = sample["figures"].as_object().expect("by name");
        assert!(!figures.is_empty(), "{sample}");
        // JSON has no infinity: what was divided by zero would be null.
        assert!(figures.values().all(Value::is_number), "{sample}");
        done.push((name, peer));
    }
    let of_greenloom = done.iter().filter(|(_, peer)| peer == "greenloom").count();
    assert_eq!(of_greenloom, 8, "{done:?}");
}

#[test]
fn what_is_not_measured_says_why() {
    for (measure, peer) in [("switch", "epoll"), ("queue", "may"), ("timer_cost", "threads")] {
        let output = micro(&[measure, peer]);
        assert_eq!(output.status.code(), Some(NOT_MEASURED), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("not measured: ") && said.len() > 20, "{said}");
    }
    let listed = list();
    let why = |measure: &str, peer: &str| {
        let line = listed.iter().find(|line| line.0 == measure && line.1 == peer);
        line.expect("every peer is listed with every measure").2.clone()
    };
    assert!(why("idle/1000000", "may").is_some());
    assert_eq!(why("idle/1000000", "greenloom"), None);
}

#[test]
fn an_unknown_measure_is_an_error() {
    let output = micro(&["bogus", "greenloom"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("known are switch, spawn"));
}
