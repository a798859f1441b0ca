//! Peers of other languages: programs of their own, with the same options. We become them.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::Options;
use crate::peer::Peer;

/// Does not return unless it fails.
pub(super) fn become_it(options: &Options) -> anyhow::Error {
    match command(options.peer) {
        Ok(mut command) => {
            let error = command.args(arguments(options)).exec();
            anyhow::Error::new(error).context(format!("cannot start {command:?}"))
        }
        Err(error) => error,
    }
}

fn arguments(options: &Options) -> Vec<String> {
    let mode = options.mode.to_possible_value().expect("all have a name");
    let mut all = vec![format!("--port={}", options.port), format!("--mode={}", mode.get_name())];
    all.extend(options.cpu.map(|cpu| format!("--cpu={cpu}")));
    all.extend(options.buffer.map(|bytes| format!("--buffer={bytes}")));
    all
}

fn command(peer: Peer) -> anyhow::Result<Command> {
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    if peer == Peer::Gevent {
        let mut python = Command::new("python3");
        python.arg(sources.join("gevent/echo.py"));
        return Ok(python);
    }
    // Beside ourselves, in the target directory, and anew only if the source is newer: Go knows that
    // itself, but asking it would be counted under a tool that counts.
    let program = env::current_exe()?.with_file_name("go-echo");
    let source = sources.join("go/echo.go");
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if time(&program) < time(&source) {
        let mut build = Command::new("go");
        build.current_dir(sources.join("go")).arg("build").arg("-o").arg(&program).arg(&source);
        let built = build.status().context("go is not installed (apt-get install golang-go)")?;
        if !built.success() {
            bail!("go build failed");
        }
    }
    Ok(Command::new(program))
}
