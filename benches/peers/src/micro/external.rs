//! Peers that are not written in Rust: programs of their own, which are told the same and print a
//! sample of the same form.

use std::env::current_exe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, ensure};

use super::{NOT_MEASURED, Plan};
use crate::peer::Peer;
use crate::sample::Sample;

/// Where the sources are.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Asks once.
pub(super) fn why_not(peer: Peer) -> Option<String> {
    static GO: OnceLock<bool> = OnceLock::new();
    static GEVENT: OnceLock<bool> = OnceLock::new();
    match peer {
        Peer::Go => (!*GO.get_or_init(|| succeeds("go", &["version"])))
            .then(|| "go is not installed (Debian: golang-go)".into()),
        Peer::Gevent => (!*GEVENT.get_or_init(|| succeeds("python3", &["-c", "import gevent"])))
            .then(|| "python3 has no gevent (PyPI: pip install gevent)".into()),
        _ => None,
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What it measured; in the inner result why it did not.
pub(super) fn run(
    peer: Peer,
    measure: &str,
    plan: Plan,
    sample: &Sample,
) -> anyhow::Result<Result<Sample, String>> {
    let mut command = match peer {
        Peer::Go => Command::new(build_go()?),
        _ => python(),
    };
    command
        .arg(measure)
        .arg(plan.n.to_string())
        .arg(plan.operations.unwrap_or(0).to_string())
        .arg(plan.rounds.unwrap_or(0).to_string())
        .arg(plan.round.as_nanos().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if output.status.code() == Some(NOT_MEASURED) {
        return Ok(Err(format!("{} has no such thing", peer.name())));
    }
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let measured: Sample = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{command:?} printed no sample"))?;
    ensure!(measured.measure == sample.measure && measured.peer == peer, "{measured:?}");
    Ok(Ok(measured))
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(HERE).join("gevent/micro.py"));
    command
}

/// Beside our own program. Go knows itself whether there is anything to build.
fn build_go() -> anyhow::Result<PathBuf> {
    let program = current_exe()?.with_file_name("go-micro");
    let mut build = Command::new("go");
    build.current_dir(Path::new(HERE).join("go")).arg("build").arg("-o").arg(&program);
    let status = build.arg("micro.go").status().context("cannot start go")?;
    ensure!(status.success(), "go build: {status}");
    Ok(program)
}
