//! From a host's name to its addresses.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::Unwinding;
use crate::threadpool::{Job, ThreadPool};

/// Finds the addresses of a host.
///
/// Everything of this crate that takes a name asks the resolver of its thread: a
/// [`SystemResolver`], unless [`set_resolver`] has put another in its place. Addresses written as such
/// (`"127.0.0.1:80"`, `"[::1]:80"`) never get here.
///
/// # Examples
///
/// One that knows a host of its own, and leaves the rest to the system:
///
/// ```
/// use greenloom::net::{Resolve, SocketAddr, SystemResolver, TcpListener, TcpStream, set_resolver};
/// use std::io;
///
/// struct Hosts;
///
/// impl Resolve for Hosts {
///     fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
///         match host {
///             "db.internal" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
///             _ => SystemResolver::new().resolve(host, port),
///         }
///     }
/// }
///
/// set_resolver(Hosts);
/// let listener = TcpListener::bind("db.internal:0")?;
/// TcpStream::connect(("db.internal", listener.local_addr()?.port()))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Resolve {
    /// The addresses of `host`, each with `port`, the best first. It runs in the greenlet that asks,
    /// and may wait; several greenlets may ask at the same time.
    ///
    /// # Errors
    ///
    /// If there are none. The error should name the host.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own resolver (`getaddrinfo`), asked by threads: it knows what the system is set to
/// know, `/etc/hosts` and the like included.
///
/// At most 32 look-ups are under way at a time, in the whole process; more wait for their turn. Nothing
/// is cached here.
#[derive(Clone, Debug, Default)]
pub struct SystemResolver {
    timeout: Option<Duration>,
}

/// Threads of their own, so that names that take their time do not hold up files.
const THREADS: usize = 32;

/// Their queue has no bound: who looks up a name has but one in it, and `monkey` could not wait for a
/// place below frames of C.
pub(crate) fn threads() -> &'static ThreadPool {
    static THREADS_FOR_NAMES: OnceLock<ThreadPool> = OnceLock::new();
    THREADS_FOR_NAMES.get_or_init(|| {
        let builder = ThreadPool::builder().name("greenloom-names");
        builder.max_threads(THREADS).unbounded_queue().build()
    })
}

impl SystemResolver {
    /// One that waits for as long as the system takes to answer.
    #[must_use]
    pub fn new() -> SystemResolver {
        SystemResolver::default()
    }

    /// It gives up on an answer after so long, with an error of kind `TimedOut`. (The system itself
    /// gives up some time, usually after 5 to 30 seconds.)
    #[must_use]
    pub fn timeout(mut self, d: Duration) -> SystemResolver {
        self.timeout = Some(d);
        self
    }
}

impl Resolve for SystemResolver {
    #[track_caller]
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let name = host.to_owned();
        let ask = move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        let job = match self.timeout {
            None => {
                let job = threads().job(ask)?;
                job.join();
                job
            }
            // To wait for a place is to wait, too: those before us may be slow.
            Some(d) => {
                let start = Instant::now();
                let job = threads().job_timeout(ask, d)?.ok_or_else(|| late(host, d))?;
                if !job.join_timeout(d.saturating_sub(start.elapsed())) {
                    job.cancel();
                    return Err(late(host, d));
                }
                job
            }
        };
        answer(job).map_err(|error| {
            io::Error::new(error.kind(), NotFound { host: host.to_owned(), error })
        })
    }
}

/// Why there is no answer in time.
fn late(host: &str, d: Duration) -> io::Error {
    if std::thread::panicking() {
        return Unwinding.into();
    }
    let error = format!("looking up {host} took longer than {d:?}");
    io::Error::new(io::ErrorKind::TimedOut, error)
}

fn answer(job: Job<io::Result<Vec<SocketAddr>>>) -> io::Result<Vec<SocketAddr>> {
    match job.try_get() {
        Ok(Ok(found)) => found,
        Ok(Err(failed)) => Err(io::Error::other(failed.to_string())),
        Err(_unwinding) => Err(Unwinding.into()),
    }
}

/// Says which host the system found no address for: its own error does not.
#[derive(Debug)]
struct NotFound {
    host: String,
    error: io::Error,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot look up {}: {}", self.host, self.error)
    }
}

impl std::error::Error for NotFound {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

thread_local! {
    static RESOLVER: RefCell<Option<Rc<dyn Resolve>>> = const { RefCell::new(None) };
}

/// Sets who is asked for names on this thread.
///
/// See [`Resolve`].
pub fn set_resolver(resolver: impl Resolve + 'static) {
    let resolver: Rc<dyn Resolve> = Rc::new(resolver);
    let before = RESOLVER.try_with(|present| present.borrow_mut().replace(resolver));
    drop(before); // its destructors are the user's, and run under no borrow
}

/// Asks this thread's resolver for the addresses of `host`, each with `port`, the best first.
///
/// # Errors
///
/// If there are none, or it cannot be found out.
///
/// # Examples
///
/// ```
/// let addrs = greenloom::net::lookup("localhost", 80)?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let resolver = RESOLVER.try_with(|resolver| resolver.borrow().clone());
    match resolver.ok().flatten() {
        Some(resolver) => resolver.resolve(host, port),
        None => SystemResolver::new().resolve(host, port),
    }
}
