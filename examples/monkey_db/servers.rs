//! Database servers for whoever has none at hand: each in a folder of its own, on a Unix socket in
//! there, with nothing in it and open to nobody else. They go when they are dropped.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use tempfile::TempDir;

/// Why there is no server.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Debian has it in that package.
    NotInstalled {
        package: &'static str,
    },
    NotStarted(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotInstalled { package } => {
                write!(f, "not installed (apt-get install {package})")
            }
            Failure::NotStarted(why) => write!(f, "it does not start: {why}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::NotStarted(error.to_string())
    }
}

/// A server in a process of its own. It ends with us, however we end: the shell around it waits for
/// the end of a pipe that we hold.
#[derive(Debug)]
pub(crate) struct Server {
    shell: Child,
    folder: TempDir,
    socket: PathBuf,
}

impl Server {
    /// Runs `command` in `folder`, until it answers on `socket`; `signal` is what ends it.
    pub(crate) fn start(
        command: &mut Command,
        folder: TempDir,
        socket: &str,
        signal: &str,
    ) -> Result<Server, Failure> {
        let log = folder.path().join("log");
        let script = format!(r#""$@" & read -r _; kill -{signal} $!; wait"#);
        let shell = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()?;
        let socket = folder.path().join(socket);
        let server = Server { shell, folder, socket };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&self) -> Result<(), Failure> {
        let start = Instant::now();
        while UnixStream::connect(&self.socket).is_err() {
            if start.elapsed() > Duration::from_secs(30) {
                let log = fs::read_to_string(self.folder.path().join("log"))?;
                return Err(Failure::NotStarted(log));
            }
            greenloom::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &str {
        self.socket.to_str().expect("folders for what is temporary have names that can be read")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Redis.
pub(crate) fn redis() -> Result<Server, Failure> {
    let program = find("redis-server", "redis-server")?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(["--port", "0", "--unixsocket", "socket", "--save", "", "--maxclients", "500"]);
    command.args(["--hz", "100"]); // how often it looks whose time is up
    Server::start(&mut command, folder, "socket", "TERM")
}

/// MariaDB, which is what Debian has for MySQL. It does without the tables that say who may do what,
/// and so it starts in an empty folder.
pub(crate) fn mariadb() -> Result<Server, Failure> {
    let program = find("mariadbd", "mariadb-server-core")?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(["--no-defaults", "--user=root", "--skip-grant-tables", "--skip-networking"]);
    command.args(["--datadir=.", "--socket=socket", "--max-connections=500"]);
    command.args(["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"]);
    Server::start(&mut command, folder, "socket", "TERM")
}

/// A program that may be where only root looks for it.
pub(crate) fn find(program: &str, package: &'static str) -> Result<PathBuf, Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).to_owned()))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or(Failure::NotInstalled { package })
}
