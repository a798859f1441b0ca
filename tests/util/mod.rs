//! What the tests share: a guard against hangs, a transcript of what happened, and words for the
//! states that a test wants to reach before it begins.
//!
//! Every test body runs under [`within`]: in an OS thread of its own, hence with a hub of its own,
//! which must also have ended cleanly before the test counts as passed.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file is a program of its own and uses a part of this"
)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::net::{TcpListener, TcpStream};
use greenloom::{BlocksForever, Greenlet, GreenletId, Hub, JoinError, Outcome};

/// How long a test may take before it counts as hung. No test is expected to come near.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Longer than any test: a wait of this length ends only from outside.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// `n` milliseconds.
pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ------------------------------------------------------------------ the guard

/// Runs `body` in a fresh OS thread and fails unless it has ended, with its hub, within `limit`.
///
/// An error that the hub reports during the test fails it too, unless the test has asked for it by
/// [`reports`]: what nobody expected must not go by unseen.
#[track_caller]
pub(crate) fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let worker = thread::spawn(move || {
        Hub::current().on_error(|error| {
            let report = Report { name: error.name().to_owned(), text: error.to_string() };
            REPORTS.with_borrow_mut(|reports| reports.push(report));
        });
        body();
        let unexpected = reports();
        assert!(unexpected.is_empty(), "nobody expected {unexpected:?}");
    });
    // The end of a thread takes its hub down, which can hang like anything else. So it is the
    // join that is waited for with a limit, by a thread that does nothing else.
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(worker.join()));
    match ended.recv_timeout(limit) {
        Ok(Ok(())) => {}
        Ok(Err(payload)) => panic::resume_unwind(payload),
        Err(RecvTimeoutError::Timeout) => panic!("still running after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => unreachable!("the watcher sends before it ends"),
    }
}

thread_local! {
    static REPORTS: RefCell<Vec<Report>> = const { RefCell::new(Vec::new()) };
}

/// Something the hub was told by a greenlet that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The greenlet's name.
    pub(crate) name: String,
    /// The whole sentence.
    pub(crate) text: String,
}

/// What has been reported in this thread since the last call.
pub(crate) fn reports() -> Vec<Report> {
    REPORTS.take()
}

// ------------------------------------------------------------- the transcript

/// What happened, in order. Clones write to the same transcript.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn new() -> Log {
        Log::default()
    }

    /// Adds a line.
    pub(crate) fn say(&self, line: impl ToString) {
        self.0.borrow_mut().push(line.to_string());
    }

    /// Adds `line` when the guard is dropped.
    pub(crate) fn at_drop(&self, line: &'static str) -> impl Drop + use<> {
        let log = self.clone();
        at_drop(move || log.say(line))
    }

    /// A link callback that adds how the greenlet ended.
    pub(crate) fn outcome<T>(&self) -> impl FnOnce(Outcome<'_, T>) + 'static + use<T> {
        let log = self.clone();
        move |outcome: Outcome<'_, T>| log.say(word(&outcome))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// How often `line` was said.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.0.borrow().iter().filter(|said| *said == line).count()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.count(line) > 0
    }

    /// Exactly these lines in exactly this order.
    #[track_caller]
    pub(crate) fn assert_is<S: AsRef<str>>(&self, expected: impl IntoIterator<Item = S>) {
        let expected: Vec<_> = expected.into_iter().map(|line| line.as_ref().to_owned()).collect();
        assert_eq!(self.lines(), expected);
    }

    /// Exactly these lines in whatever order.
    #[track_caller]
    pub(crate) fn assert_has_all<S: AsRef<str>>(&self, expected: impl IntoIterator<Item = S>) {
        let mut expected: Vec<_> =
            expected.into_iter().map(|line| line.as_ref().to_owned()).collect();
        let mut lines = self.lines();
        expected.sort();
        lines.sort();
        assert_eq!(lines, expected);
    }

    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.lines(), Vec::<String>::new());
    }
}

/// How a greenlet ended, in one word.
pub(crate) fn word<T>(outcome: &Outcome<'_, T>) -> &'static str {
    match outcome {
        Outcome::Value(_) => "value",
        Outcome::Killed => "killed",
        Outcome::Panicked(_) => "panicked",
    }
}

/// Runs `f` when it is dropped.
pub(crate) fn at_drop(f: impl FnOnce()) -> impl Drop {
    struct AtDrop<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for AtDrop<F> {
        fn drop(&mut self) {
            if let Some(f) = self.0.take() {
                f();
            }
        }
    }
    AtDrop(Some(f))
}

/// Counts how many of its tokens are alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Living(Rc<Cell<usize>>);

impl Living {
    pub(crate) fn new() -> Living {
        Living::default()
    }

    /// One more, until the token is dropped.
    pub(crate) fn token(&self) -> impl Drop + use<> {
        let living = self.0.clone();
        living.set(living.get() + 1);
        at_drop(move || living.set(living.get() - 1))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }
}

// ------------------------------------------------------------------- the ends

/// How a greenlet ended, comparable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End<T> {
    Value(T),
    Killed,
    Panicked(String),
}

/// Waits for `greenlet` and tells how it ended.
pub(crate) fn end_of<T: 'static>(greenlet: Greenlet<T>) -> End<T> {
    match greenlet.get() {
        Ok(value) => End::Value(value),
        Err(JoinError::Killed) => End::Killed,
        Err(JoinError::Panicked(payload)) => End::Panicked(message(payload.as_ref())),
    }
}

/// The text of a panic.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        String::from("(not a string)")
    }
}

/// Runs `f` as a `catch_unwind` in a user's program would: whatever unwinds it ends here.
pub(crate) fn swallow<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// The report with which `f` ends, because nothing can ever wake it.
#[track_caller]
pub(crate) fn blocks_forever<T>(f: impl FnOnce() -> T) -> String {
    let Err(payload) = swallow(f) else { panic!("it returned") };
    match payload.downcast::<BlocksForever>() {
        Ok(report) => report.to_string(),
        Err(other) => panic!("it ended by another panic: {}", message(other.as_ref())),
    }
}

// ----------------------------------------------------------------- the states

/// Lets the others run until `condition` holds.
pub(crate) fn until(condition: impl Fn() -> bool) {
    while !condition() {
        greenloom::yield_now();
    }
}

/// Lets the others run until greenlet `id` is parked.
pub(crate) fn until_parked(id: GreenletId) {
    until(|| state_of(id) == Some("parked"));
}

/// The state of greenlet `id` as a dump shows it; `None` once it has ended.
pub(crate) fn state_of(id: GreenletId) -> Option<&'static str> {
    greenloom::dump().greenlets().iter().find(|entry| entry.id == id).map(|entry| entry.state)
}

/// What greenlet `id` is parked for, as a dump shows it.
pub(crate) fn reason_of(id: GreenletId) -> Option<String> {
    let dump = greenloom::dump();
    dump.greenlets().iter().find(|entry| entry.id == id).and_then(|entry| entry.reason.clone())
}

/// Lets everything run that can run without the help of time or of the network.
pub(crate) fn settle() {
    greenloom::idle();
}

/// A greenlet that waits for itself: only a kill ends it, and it does not count as something that
/// may wake anybody.
pub(crate) fn stuck() -> Rc<Greenlet<()>> {
    let myself = Rc::new(RefCell::new(None::<Rc<Greenlet<()>>>));
    let stuck = Rc::new(greenloom::spawn({
        let myself = myself.clone();
        move || {
            let handle = myself.take().expect("the spawner runs on");
            handle.join();
        }
    }));
    *myself.borrow_mut() = Some(stuck.clone());
    until_parked(stuck.id());
    stuck
}

/// A greenlet that keeps itself ready until `done` is set.
pub(crate) fn spinner(done: &Rc<Cell<bool>>) -> Greenlet<()> {
    let done = done.clone();
    greenloom::spawn(move || until(|| done.get()))
}

/// Burns CPU time without a wait.
pub(crate) fn spin(d: Duration) {
    let start = Instant::now();
    while start.elapsed() < d {
        std::hint::spin_loop();
    }
}

/// Two ends of one connection.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// An address to which a connection neither succeeds nor fails: its backlog is full.
#[derive(Debug)]
pub(crate) struct FullListener {
    address: std::net::SocketAddr,
    _listener: socket2::Socket,
    _backlog: Vec<std::net::TcpStream>,
}

impl FullListener {
    pub(crate) fn new() -> FullListener {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any_port.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let backlog =
            std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, ms(50)).ok())
                .take(256)
                .collect();
        FullListener { address, _listener: listener, _backlog: backlog }
    }

    /// Where it listens, as long as it is there.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }
}

// ------------------------------------------------------------------ the waits

/// How a dump shows a greenlet in one of the [`waits`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shown {
    /// Parked, and this is the reason, or how it begins: a join says whom it waits for.
    For(&'static str),
    /// Parked, for a reason that is nobody's business.
    Parked,
    /// Waiting for nothing but its turn.
    Ready,
}

impl Shown {
    /// Lets the others run until greenlet `id` is shown so.
    pub(crate) fn wait(self, id: GreenletId) {
        match self {
            Shown::For(reason) => {
                until(|| reason_of(id).is_some_and(|shown| shown.starts_with(reason)));
            }
            Shown::Parked => until_parked(id),
            Shown::Ready => until(|| state_of(id) == Some("ready")),
        }
    }
}

/// Every kind of wait there is, each as a function that does not return by itself.
///
/// [`every_wait`] makes one test of each.
pub(crate) mod waits {
    use std::io::{Read, Write};

    use greenloom::net::{TcpListener, TcpStream};
    use greenloom::raw::Coroutine;
    use greenloom::{Greenlet, Waitable, spawn};

    use super::{FullListener, HOUR, tcp_pair};

    fn sleeper() -> Greenlet<()> {
        spawn(sleep)
    }

    /// A greenlet that a kill will not end for an hour, because it cleans up.
    fn slow_to_die() -> Greenlet<()> {
        let slow = spawn(|| {
            if let Err(interrupt) = greenloom::catch_interrupt(sleep) {
                sleep();
                interrupt.resume();
            }
        });
        super::until_parked(slow.id());
        slow
    }

    pub(crate) fn sleep() {
        greenloom::sleep(HOUR);
    }

    pub(crate) fn sleep_without_end() {
        greenloom::sleep(std::time::Duration::MAX);
    }

    pub(crate) fn yield_now() {
        loop {
            greenloom::yield_now();
        }
    }

    pub(crate) fn idle() {
        let _restless = spawn(yield_now);
        greenloom::idle();
    }

    pub(crate) fn join() {
        sleeper().join();
    }

    pub(crate) fn join_timeout() {
        sleeper().join_timeout(HOUR);
    }

    pub(crate) fn get() {
        let _ = sleeper().get();
    }

    pub(crate) fn joinall() {
        greenloom::joinall([sleeper(), sleeper()]);
    }

    pub(crate) fn joinall_timeout() {
        greenloom::joinall_timeout([sleeper(), sleeper()], HOUR);
    }

    pub(crate) fn wait_any() {
        let (a, b) = (sleeper(), sleeper());
        greenloom::wait_any([&a as &dyn Waitable, &b]);
    }

    pub(crate) fn wait_any_timeout() {
        greenloom::wait_any_timeout([sleeper(), sleeper()], HOUR);
    }

    pub(crate) fn iwait() {
        greenloom::iwait([sleeper(), sleeper()]).next();
    }

    pub(crate) fn kill() {
        slow_to_die().kill();
    }

    pub(crate) fn kill_timeout() {
        slow_to_die().kill_timeout(HOUR);
    }

    pub(crate) fn killall() {
        greenloom::killall(&[slow_to_die(), slow_to_die()]);
    }

    pub(crate) fn scope() {
        greenloom::scope(|s| {
            s.spawn(sleep);
        });
    }

    pub(crate) fn scoped_join() {
        greenloom::scope(|s| s.spawn(sleep).join());
    }

    pub(crate) fn raw_switch() {
        Coroutine::new(|()| sleep()).switch(());
    }

    pub(crate) fn with_timeout() {
        let _ = greenloom::with_timeout(HOUR, sleep);
    }

    pub(crate) fn catch_interrupt() {
        if let Err(interrupt) = greenloom::catch_interrupt(sleep) {
            interrupt.resume();
        }
    }

    pub(crate) fn read() {
        let (mut stream, _peer) = tcp_pair();
        let _ = stream.read(&mut [0]);
    }

    pub(crate) fn read_timeout() {
        let (mut stream, _peer) = tcp_pair();
        stream.set_read_timeout(Some(HOUR)).unwrap();
        let _ = stream.read(&mut [0]);
    }

    /// The loops of std around `read` must not take the interruption for something to retry.
    pub(crate) fn read_exact() {
        let (mut stream, _peer) = tcp_pair();
        let _ = stream.read_exact(&mut [0; 8]);
    }

    pub(crate) fn copy() {
        let (mut stream, _peer) = tcp_pair();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }

    pub(crate) fn peek() {
        let (stream, _peer) = tcp_pair();
        let _ = stream.peek(&mut [0]);
    }

    pub(crate) fn wait_readable() {
        let (stream, _peer) = tcp_pair();
        let _ = stream.wait_readable();
    }

    pub(crate) fn write() {
        let (mut stream, _peer) = tcp_pair();
        while stream.write_all(&[0; 1 << 16]).is_ok() {}
    }

    pub(crate) fn write_timeout() {
        let (mut stream, _peer) = tcp_pair();
        stream.set_write_timeout(Some(HOUR)).unwrap();
        while stream.write_all(&[0; 1 << 16]).is_ok() {}
    }

    pub(crate) fn accept() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _ = listener.accept();
    }

    pub(crate) fn connect() {
        let listener = FullListener::new();
        let _ = TcpStream::connect(listener.address());
    }

    pub(crate) fn connect_timeout() {
        let listener = FullListener::new();
        let _ = TcpStream::connect_timeout(&listener.address(), HOUR);
    }
}

/// `every_wait!(check)` makes a module `check` with one test for each of the [`waits`], which calls
/// `check(wait, shown)`: the wait, and how a dump shows a greenlet that is in it.
macro_rules! every_wait {
    ($check:ident) => {
        every_wait! { $check:
            sleep => For("sleep"),
            sleep_without_end => For("sleep"),
            yield_now => Ready,
            idle => For("idle"),
            join => For("join"),
            join_timeout => For("join"),
            get => For("join"),
            joinall => Parked,
            joinall_timeout => Parked,
            wait_any => For("wait_any"),
            wait_any_timeout => For("wait_any"),
            iwait => For("iwait"),
            kill => For("kill"),
            kill_timeout => For("kill"),
            killall => Parked,
            scope => For("scope"),
            scoped_join => For("join"),
            raw_switch => For("switch"),
            with_timeout => For("sleep"),
            catch_interrupt => For("sleep"),
            read => For("read"),
            read_timeout => For("read"),
            read_exact => For("read"),
            copy => For("read"),
            peek => For("read"),
            wait_readable => For("read"),
            write => For("write"),
            write_timeout => For("write"),
            accept => For("accept"),
            // A full backlog makes a connection wait on Linux; elsewhere it may be refused.
            #[cfg(target_os = "linux")] connect => For("connect"),
            #[cfg(target_os = "linux")] connect_timeout => For("connect"),
        }
    };
    ($check:ident: $($(#[$only:meta])* $wait:ident => $shown:expr,)+) => {
        mod $check {
            use crate::util::{MINUTE, Shown::*, waits, within};
            $(
                $(#[$only])*
                #[test]
                fn $wait() {
                    within(MINUTE, || super::$check(waits::$wait, $shown));
                }
            )+
        }
    };
}
pub(crate) use every_wait;
