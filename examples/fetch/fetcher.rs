//! One page: attempts, and the pauses between them.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use greenloom::fs::{self, File};
use greenloom::http::{self, ureq};
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::reasons::{self, Again, Failure, Stage};
use super::report::Row;

/// What a fetch may cost.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How many at the same time.
    pub(crate) jobs: usize,
    /// For each attempt.
    pub(crate) timeout: Duration,
    /// How many attempts after the first.
    pub(crate) retries: u32,
    pub(crate) max_bytes: u64,
    /// Certificates to trust, as PEM. `None`: those of the browsers.
    pub(crate) roots: Option<Vec<u8>>,
    /// Not by way of a proxy, even if the environment names one (`HTTP_PROXY` and the like).
    pub(crate) direct: bool,
    /// Where to save the bodies.
    pub(crate) folder: Option<PathBuf>,
}

pub(crate) struct Fetcher {
    limits: Limits,
    /// Shared by all greenlets, and with it the connections that are kept open.
    agent: ureq::Agent,
}

impl Fetcher {
    pub(crate) fn new(limits: Limits) -> Fetcher {
        let roots = match limits.roots.as_deref().map(certificates) {
            Some(Ok(roots)) => RootCerts::from(roots),
            _ => RootCerts::WebPki,
        };
        let proxy = if limits.direct { None } else { ureq::Proxy::try_from_env() };
        let config = ureq::Agent::config_builder()
            .proxy(proxy)
            .user_agent(concat!("greenloom-fetch/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(limits.timeout))
            // A status is an answer; what to do about it is up to us.
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            // Each job keeps a connection, whether to one host or to many; with ureq's own sizes
            // each would take a quarter of a megabyte for its buffers.
            .max_idle_connections(limits.jobs)
            .max_idle_connections_per_host(limits.jobs)
            .input_buffer_size(32 * 1024)
            .output_buffer_size(16 * 1024)
            // All headers have to fit into the buffer.
            .max_response_header_size(30 * 1024);
        Fetcher { agent: http::agent_with(config.build()), limits }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fetches `url`, the `at`-th of the list, if need be in several attempts.
    pub(crate) fn fetch(&self, at: usize, url: &str) -> Row {
        let started = Instant::now();
        let mut row = Row::default();
        let mut pauses = Pauses::default();
        let mut tries = 0;
        loop {
            tries += 1;
            let pause = match self.attempt(at, url, &mut row) {
                Ok(()) => {
                    row.failure = None;
                    break;
                }
                Err(failure) => {
                    let again = if tries > self.limits.retries { Again::No } else { failure.again };
                    row.failure = Some(failure.reason);
                    match again {
                        Again::No => break,
                        Again::Soon => pauses.next(),
                        Again::After(time) if time <= LONGEST => time,
                        Again::After(time) => {
                            let asks = format!(", and asks to wait {} s", time.as_secs());
                            row.failure.as_mut().expect("it is there").push_str(&asks);
                            break;
                        }
                    }
                }
            };
            greenloom::sleep(pause);
        }
        row.tries = tries;
        row.time = started.elapsed();
        row
    }

    /// One request and its answer, to the last byte.
    fn attempt(&self, at: usize, url: &str, row: &mut Row) -> Result<(), Failure> {
        (row.status, row.bytes) = (None, 0);
        let timeout = self.limits.timeout;
        let uri = reasons::checked(url)?;
        let answer = self.agent.get(&uri).call();
        let mut answer = answer.map_err(|error| Failure::of(error, Stage::Before { timeout }))?;
        let status = answer.status();
        row.status = Some(status.as_u16());

        let promised = answer.body().content_length();
        let mut file = match &self.limits.folder {
            Some(folder) if status.is_success() => {
                Some(Unfinished::create(folder.join(file_name(at, &uri)))?)
            }
            _ => None,
        };
        let mut body = answer.body_mut().as_reader();
        let mut piece = vec![0; 16 * 1024];
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let stage = Stage::Body { timeout, read: row.bytes, promised };
                    return Err(Failure::of(error.into(), stage));
                }
            };
            row.bytes += count as u64;
            if row.bytes > self.limits.max_bytes {
                let most = self.limits.max_bytes;
                return Err(Failure::for_good(format!("the body is longer than {most} bytes")));
            }
            if let Some(file) = &mut file {
                file.write(&piece[..count])?;
            }
        }
        if let Some(file) = file {
            file.finish()?;
        }
        if status.is_success() { Ok(()) } else { Err(Failure::of_status(&answer)) }
    }
}

/// The certificates in a PEM file.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(String::from("it is not PEM")),
        }
    }
    if found.is_empty() { Err(String::from("there is no certificate in it")) } else { Ok(found) }
}

// ------------------------------------------------------------------------------------- pauses

/// No pause is longer; who asks for more is not asked again.
const LONGEST: Duration = Duration::from_secs(20);

/// How long to wait before the next attempt: twice as long each time, and never quite the same, so
/// that those who failed together do not come back together.
pub(crate) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { next: Duration::from_millis(200) }
    }
}

impl Pauses {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(0.5 + chance() / 2.0)
    }
}

/// From 0 to 1. std has no dice, but each of its hash maps has a secret.
fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

// -------------------------------------------------------------------------------------- files

/// A file that has its name only once it is whole. Disks are waited for by parking, as networks are.
struct Unfinished {
    file: BufWriter<File>,
    part: Part,
    path: PathBuf,
}

/// Removes the file when it is dropped, unless it has gone.
struct Part(PathBuf);

impl Unfinished {
    fn create(path: PathBuf) -> Result<Unfinished, Failure> {
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = Part(PathBuf::from(part));
        // A kill comes after it: a file must not come to be when its guard has gone.
        let file = greenloom::shield(|| File::create(&part.0));
        let file = file.map_err(|error| Failure::to_save(&path, &error))?;
        Ok(Unfinished { file: BufWriter::with_capacity(64 * 1024, file), part, path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| Failure::to_save(&self.path, &error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let done = self.file.flush().and_then(|()| fs::rename(&self.part.0, &self.path));
        done.map_err(|error| Failure::to_save(&self.path, &error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// `0001-example.org-a-page.html`: in the order of the list, and nothing that is special anywhere.
fn file_name(at: usize, uri: &Uri) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let name: String =
        [uri.host().unwrap_or_default(), path].concat().chars().map(plain).take(100).collect();
    format!("{:04}-{}", at + 1, name.trim_matches(['-', '.']))
}
