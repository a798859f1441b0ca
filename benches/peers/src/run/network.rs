//! A server and its load, each in a process of its own and on a core of its own.

use std::env::current_exe;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::child::Process;
use super::plan::Load;
use crate::machine::Awake;
use crate::peer::Peer;
use crate::sample::Sample;

/// Until a server listens. Python takes a second; a server under valgrind takes several.
pub(crate) const START: Duration = Duration::from_secs(60);

/// Beyond the time that a load is to take.
const GRACE: Duration = Duration::from_secs(60);

pub(crate) fn measure(
    measure: &str,
    peer: Peer,
    load: &Load,
    [server_core, load_core]: [usize; 2],
) -> anyhow::Result<Sample> {
    let _awake = load.awake.then(|| Awake::keep(&[server_core, load_core]));
    let mut command = Command::new(current_exe()?);
    command.args(["serve", peer.name(), "--mode", load.serve]);
    command.args(["--cpu", &server_core.to_string()]);
    let (server, address) = serve(command)?;
    let mut command = loader(&address, peer, measure, load, load_core)?;
    command.args(["--server-pid", &server.id().to_string()]);
    if load.load != "stream" {
        command.args(["--seconds", &load.seconds.to_string()]);
        command.args(["--warm-up", &load.warm_up.to_string()]);
    }
    let patience = GRACE + Duration::from_secs_f64(load.seconds * 2.0 + load.warm_up);
    let sample = sample(Process::start(command)?, patience)?;
    server.end().context("the server")?;
    Ok(sample)
}

/// A server that is ready, and where it listens.
pub(crate) fn serve(command: Command) -> anyhow::Result<(Process, String)> {
    let mut server = Process::start(command)?;
    let line = server.line(START)?;
    let address = line.strip_prefix("listening ");
    let address = address.ok_or_else(|| anyhow!("the server said {line:?}"))?.to_owned();
    Ok((server, address))
}

/// The load generator, without what says how long.
pub(crate) fn loader(
    address: &str,
    peer: Peer,
    measure: &str,
    load: &Load,
    core: usize,
) -> anyhow::Result<Command> {
    let mut command = Command::new(current_exe()?);
    command.args(["load", address, "--mode", load.load]);
    command.args(["--connections", &load.connections.to_string()]);
    command.args(["--bytes", &load.bytes.to_string()]);
    command.args(["--cpu", &core.to_string()]);
    command.args(["--peer", peer.name(), "--measure", measure]);
    Ok(command)
}

/// The one line that a process prints.
pub(crate) fn sample(process: Process, patience: Duration) -> anyhow::Result<Sample> {
    let lines = process.finish(patience)?;
    let line = lines.last().context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))
}
