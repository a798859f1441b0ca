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

pub(crate) mod jobs;
pub(crate) mod words;

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
    use std::rc::Rc;
    use std::sync::mpsc;

    use greenloom::concurrent::{
        self, ALL_COMPLETED, Future, GreenletPoolExecutor, ThreadPoolExecutor,
    };
    use greenloom::net::unix::{UnixDatagram, UnixListener, UnixStream};
    use greenloom::net::{TcpListener, TcpStream, UdpSocket};
    use greenloom::pool::{Group, Pool};
    use greenloom::process::{Child, Command, Stdio};
    use greenloom::queue::{JoinableQueue, LifoQueue, PriorityQueue, Queue, channel, pipe};
    use greenloom::raw::Coroutine;
    use greenloom::sync::{
        AsyncResult, Barrier, BoundedSemaphore, Condvar, Event, Mutex, RLock, RwLock, Semaphore,
    };
    use greenloom::threadpool::{Job, ThreadPool};
    use greenloom::{Greenlet, Waitable, signal, spawn};

    use super::{FullListener, HOUR, tcp_pair, until_parked};

    fn sleeper() -> Greenlet<()> {
        spawn(sleep)
    }

    /// Takes an hour to clean up after it was killed.
    fn die_slowly() {
        if let Err(interrupt) = greenloom::catch_interrupt(sleep) {
            sleep();
            interrupt.resume();
        }
    }

    /// A greenlet that a kill will not end for an hour.
    fn slow_to_die() -> Greenlet<()> {
        let slow = spawn(die_slowly);
        until_parked(slow.id());
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

    // Between greenlets.

    /// `lock`, while another greenlet does `hold`, which does not end.
    fn held<L: 'static>(lock: L, hold: fn(&L)) -> Rc<L> {
        let lock = Rc::new(lock);
        let holder = {
            let lock = Rc::clone(&lock);
            spawn(move || hold(&lock))
        };
        until_parked(holder.id());
        lock
    }

    pub(crate) fn held_mutex() -> Rc<Mutex<()>> {
        held(Mutex::new(()), |mutex| {
            let _held = mutex.lock();
            sleep();
        })
    }

    pub(crate) fn held_rlock() -> Rc<RLock<()>> {
        held(RLock::new(()), |rlock| {
            let _held = rlock.lock();
            sleep();
        })
    }

    pub(crate) fn read_locked() -> Rc<RwLock<()>> {
        held(RwLock::new(()), |rwlock| {
            let _held = rwlock.read();
            sleep();
        })
    }

    pub(crate) fn write_locked() -> Rc<RwLock<()>> {
        held(RwLock::new(()), |rwlock| {
            let _held = rwlock.write();
            sleep();
        })
    }

    pub(crate) fn event_wait() {
        Event::new().wait();
    }

    pub(crate) fn event_wait_timeout() {
        Event::new().wait_timeout(HOUR);
    }

    pub(crate) fn async_result_get() {
        let _ = AsyncResult::<(), ()>::new().get();
    }

    pub(crate) fn async_result_get_timeout() {
        let _ = AsyncResult::<(), ()>::new().get_timeout(HOUR);
    }

    pub(crate) fn async_result_wait() {
        AsyncResult::<(), ()>::new().wait();
    }

    pub(crate) fn async_result_wait_timeout() {
        AsyncResult::<(), ()>::new().wait_timeout(HOUR);
    }

    pub(crate) fn semaphore_acquire() {
        let _ = Semaphore::new(0).acquire();
    }

    pub(crate) fn semaphore_acquire_timeout() {
        let _ = Semaphore::new(0).acquire_timeout(HOUR);
    }

    pub(crate) fn bounded_semaphore_acquire() {
        let _ = BoundedSemaphore::new(0).acquire();
    }

    pub(crate) fn bounded_semaphore_acquire_timeout() {
        let _ = BoundedSemaphore::new(0).acquire_timeout(HOUR);
    }

    pub(crate) fn mutex_lock() {
        let _ = held_mutex().lock();
    }

    pub(crate) fn mutex_lock_timeout() {
        let _ = held_mutex().lock_timeout(HOUR);
    }

    pub(crate) fn rlock_lock() {
        let _ = held_rlock().lock();
    }

    pub(crate) fn rlock_lock_timeout() {
        let _ = held_rlock().lock_timeout(HOUR);
    }

    pub(crate) fn rwlock_read() {
        let _ = write_locked().read();
    }

    pub(crate) fn rwlock_read_timeout() {
        let _ = write_locked().read_timeout(HOUR);
    }

    pub(crate) fn rwlock_write() {
        let _ = write_locked().write();
    }

    pub(crate) fn rwlock_write_over_a_reader() {
        let _ = read_locked().write();
    }

    pub(crate) fn rwlock_write_timeout() {
        let _ = read_locked().write_timeout(HOUR);
    }

    pub(crate) fn condvar_wait() {
        let mutex = Mutex::new(());
        let _ = Condvar::new().wait(mutex.lock());
    }

    pub(crate) fn condvar_wait_while() {
        let mutex = Mutex::new(());
        let _ = Condvar::new().wait_while(mutex.lock(), |()| true);
    }

    pub(crate) fn condvar_wait_timeout() {
        let mutex = Mutex::new(());
        let _ = Condvar::new().wait_timeout(mutex.lock(), HOUR);
    }

    pub(crate) fn condvar_wait_timeout_while() {
        let mutex = Mutex::new(());
        let _ = Condvar::new().wait_timeout_while(mutex.lock(), HOUR, |()| true);
    }

    pub(crate) fn barrier_wait() {
        let _ = Barrier::new(2).wait();
    }

    pub(crate) fn barrier_wait_timeout() {
        let _ = Barrier::new(2).wait_timeout(HOUR);
    }

    pub(crate) fn full_queue() -> Queue<u32> {
        let full = Queue::bounded(1);
        full.try_put(0).unwrap();
        full
    }

    pub(crate) fn queue_get() {
        let _ = Queue::<u32>::new().get();
    }

    pub(crate) fn queue_get_timeout() {
        let _ = Queue::<u32>::new().get_timeout(HOUR);
    }

    pub(crate) fn queue_peek() {
        let _ = Queue::<u32>::new().peek();
    }

    pub(crate) fn queue_peek_timeout() {
        let _ = Queue::<u32>::new().peek_timeout(HOUR);
    }

    pub(crate) fn queue_put() {
        let _ = full_queue().put(1);
    }

    pub(crate) fn queue_put_timeout() {
        let _ = full_queue().put_timeout(1, HOUR);
    }

    pub(crate) fn queue_iter() {
        let _ = Queue::<u32>::new().iter().next();
    }

    pub(crate) fn lifo_queue_get() {
        let _ = LifoQueue::<u32>::new().get();
    }

    pub(crate) fn priority_queue_get() {
        let _ = PriorityQueue::<u32>::new().get();
    }

    pub(crate) fn with_one_item() -> JoinableQueue<u32> {
        let queue = JoinableQueue::new();
        queue.try_put(0).unwrap();
        queue
    }

    pub(crate) fn joinable_queue_join() {
        with_one_item().join();
    }

    pub(crate) fn joinable_queue_join_timeout() {
        with_one_item().join_timeout(HOUR);
    }

    pub(crate) fn channel_put() {
        let _ = channel().put(1);
    }

    pub(crate) fn channel_put_timeout() {
        let _ = channel().put_timeout(1, HOUR);
    }

    pub(crate) fn channel_get() {
        let _ = channel::<u32>().get();
    }

    pub(crate) fn channel_get_timeout() {
        let _ = channel::<u32>().get_timeout(HOUR);
    }

    pub(crate) fn pipe_recv() {
        let (here, _there) = pipe::<u32, u32>();
        let _ = here.recv();
    }

    pub(crate) fn pipe_recv_timeout() {
        let (here, _there) = pipe::<u32, u32>();
        let _ = here.recv_timeout(HOUR);
    }

    pub(crate) fn pipe_poll() {
        let (here, _there) = pipe::<u32, u32>();
        here.poll(HOUR);
    }

    pub(crate) fn wait_any_of_many_kinds() {
        let (event, queue, semaphore) = (Event::new(), Queue::<u32>::new(), Semaphore::new(0));
        greenloom::wait_any([&event as &dyn Waitable, &queue, &semaphore]);
    }

    pub(crate) fn iwait_of_many_kinds() {
        let (event, queue, semaphore) = (Event::new(), Queue::<u32>::new(), Semaphore::new(0));
        greenloom::iwait([&event as &dyn Waitable, &queue, &semaphore]).next();
    }

    pub(crate) fn full_pool() -> Pool {
        let full = Pool::new(1);
        full.spawn(sleep);
        full
    }

    pub(crate) fn pool_spawn() {
        full_pool().spawn(|| ());
    }

    pub(crate) fn pool_spawn_timeout() {
        let _ = full_pool().spawn_timeout(|| (), HOUR);
    }

    pub(crate) fn pool_wait_available() {
        full_pool().wait_available();
    }

    pub(crate) fn pool_wait_available_timeout() {
        full_pool().wait_available_timeout(HOUR);
    }

    pub(crate) fn pool_apply() {
        Pool::new(1).apply(sleep);
    }

    /// It waits for a slot, before it can wait for the result.
    pub(crate) fn pool_apply_when_full() {
        full_pool().apply(|| ());
    }

    pub(crate) fn pool_map() {
        Pool::new(2).map(0..4, |_| sleep());
    }

    pub(crate) fn pool_map_when_full() {
        full_pool().map(0..4, |_| ());
    }

    pub(crate) fn pool_imap() {
        Pool::new(2).imap(0..4, |_| sleep()).next();
    }

    pub(crate) fn pool_imap_unordered() {
        Pool::new(2).imap_unordered(0..4, |_| sleep()).next();
    }

    pub(crate) fn pool_join() {
        full_pool().join();
    }

    pub(crate) fn pool_join_timeout() {
        full_pool().join_timeout(HOUR);
    }

    /// A pool whose member takes an hour to die.
    pub(crate) fn slow_pool() -> Pool {
        let pool = Pool::new(1);
        until_parked(pool.spawn(die_slowly).id());
        pool
    }

    pub(crate) fn pool_kill() {
        slow_pool().kill();
    }

    pub(crate) fn pool_kill_timeout() {
        slow_pool().kill_timeout(HOUR);
    }

    /// A group whose member takes an hour to die, and will not end otherwise.
    pub(crate) fn slow_group() -> Group {
        let group = Group::new();
        until_parked(group.spawn(die_slowly).id());
        group
    }

    pub(crate) fn group_join() {
        slow_group().join();
    }

    pub(crate) fn group_join_timeout() {
        slow_group().join_timeout(HOUR);
    }

    pub(crate) fn group_kill() {
        slow_group().kill();
    }

    pub(crate) fn group_kill_timeout() {
        slow_group().kill_timeout(HOUR);
    }

    pub(crate) fn group_map() {
        Group::new().map(0..4, |_| sleep());
    }

    pub(crate) fn group_imap() {
        Group::new().imap(0..4, |_| sleep()).next();
    }

    /// An executor that is busy, with what keeps it so.
    pub(crate) fn busy_executor() -> (GreenletPoolExecutor, Future<()>) {
        let executor = GreenletPoolExecutor::new(1);
        let job = executor.submit(sleep);
        (executor, job)
    }

    pub(crate) fn future_result() {
        let _ = busy_executor().1.result();
    }

    pub(crate) fn future_result_timeout() {
        let _ = busy_executor().1.result_timeout(HOUR);
    }

    pub(crate) fn future_result_ref() {
        let _ = busy_executor().1.result_ref();
    }

    pub(crate) fn future_exception() {
        let _ = busy_executor().1.exception();
    }

    /// One that has not begun.
    pub(crate) fn future_result_in_line() {
        let _ = busy_executor().0.submit(|| ()).result();
    }

    pub(crate) fn concurrent_wait() {
        concurrent::wait([&busy_executor().1], ALL_COMPLETED);
    }

    pub(crate) fn concurrent_wait_timeout() {
        concurrent::wait_timeout([&busy_executor().1], HOUR, ALL_COMPLETED);
    }

    pub(crate) fn as_completed() {
        concurrent::as_completed([&busy_executor().1]).next();
    }

    pub(crate) fn executor_map() {
        GreenletPoolExecutor::new(1).map(0..4, |_| sleep()).next();
    }

    pub(crate) fn executor_shutdown() {
        busy_executor().0.shutdown();
    }

    pub(crate) fn executor_shutdown_timeout() {
        busy_executor().0.shutdown_timeout(HOUR);
    }

    pub(crate) fn executor_shutdown_now() {
        let (executor, job) = busy_executor();
        super::until(|| job.is_running());
        executor.shutdown_now();
    }

    // For threads.

    /// A pool whose only thread is busy, with this job, until the last of these is dropped.
    fn busy_thread() -> (ThreadPool, Job<bool>, mpsc::Sender<()>) {
        let pool = ThreadPool::builder().max_threads(1).queue(0).build();
        let (hold, held) = mpsc::channel::<()>();
        let job = pool.spawn(move || held.recv().is_ok());
        (pool, job, hold)
    }

    pub(crate) fn job_join() {
        let (_pool, job, _hold) = busy_thread();
        job.join();
    }

    pub(crate) fn job_join_timeout() {
        let (_pool, job, _hold) = busy_thread();
        job.join_timeout(HOUR);
    }

    pub(crate) fn job_get() {
        let (_pool, job, _hold) = busy_thread();
        let _ = job.get();
    }

    pub(crate) fn job_get_timeout() {
        let (_pool, job, _hold) = busy_thread();
        let _ = job.get_timeout(HOUR);
    }

    pub(crate) fn job_wait_any() {
        let (_pool, job, _hold) = busy_thread();
        greenloom::wait_any([&job]);
    }

    pub(crate) fn offload() {
        let (_hold, held) = mpsc::channel::<()>();
        greenloom::offload(move || held.recv().is_ok());
    }

    pub(crate) fn thread_pool_spawn() {
        let (pool, _job, _hold) = busy_thread();
        pool.spawn(|| ());
    }

    pub(crate) fn thread_pool_spawn_timeout() {
        let (pool, _job, _hold) = busy_thread();
        let _ = pool.spawn_timeout(|| (), HOUR);
    }

    pub(crate) fn thread_pool_apply_when_full() {
        let (pool, _job, _hold) = busy_thread();
        pool.apply(|| ());
    }

    pub(crate) fn thread_pool_map_when_full() {
        let (pool, _job, _hold) = busy_thread();
        pool.map([(), ()], |()| ());
    }

    pub(crate) fn thread_pool_shutdown() {
        let (pool, _job, _hold) = busy_thread();
        pool.shutdown();
    }

    pub(crate) fn thread_pool_shutdown_timeout() {
        let (pool, _job, _hold) = busy_thread();
        pool.shutdown_timeout(HOUR);
    }

    pub(crate) fn thread_executor_result() {
        let executor = ThreadPoolExecutor::new(1);
        let (_hold, held) = mpsc::channel::<()>();
        let _ = executor.submit(move || held.recv().is_ok()).result();
    }

    pub(crate) fn thread_executor_shutdown() {
        let executor = ThreadPoolExecutor::new(1);
        let (_hold, held) = mpsc::channel::<()>();
        let job = executor.submit(move || held.recv().is_ok());
        super::until(|| job.is_running());
        executor.shutdown_now();
    }

    // On the network.

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

    // On other descriptors.

    pub(crate) fn io_read() {
        let (mut reader, _writer) = greenloom::io::pipe().unwrap();
        let _ = reader.read(&mut [0]);
    }

    pub(crate) fn io_write() {
        let (_reader, mut writer) = greenloom::io::pipe().unwrap();
        while writer.write_all(&[0; 1 << 16]).is_ok() {}
    }

    pub(crate) fn io_shared_read() {
        let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let _ = greenloom::io::Io::shared(reader).unwrap().read(&mut [0]);
    }

    pub(crate) fn io_wait_readable() {
        let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let _ = greenloom::io::Io::new(reader).unwrap().wait_readable();
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

    pub(crate) fn udp_recv_from() {
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().recv_from(&mut [0]);
    }

    pub(crate) fn udp_peek() {
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().peek(&mut [0]);
    }

    pub(crate) fn unix_read() {
        let (mut stream, _peer) = UnixStream::pair().unwrap();
        let _ = stream.read(&mut [0]);
    }

    pub(crate) fn unix_write() {
        let (mut stream, _peer) = UnixStream::pair().unwrap();
        while stream.write_all(&[0; 1 << 16]).is_ok() {}
    }

    pub(crate) fn unix_accept() {
        let folder = tempfile::tempdir().unwrap();
        let _ = UnixListener::bind(folder.path().join("socket")).unwrap().accept();
    }

    /// Nobody accepts, and the backlog has no room for one more at some time.
    pub(crate) fn unix_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = socket2::SockAddr::unix(&path).unwrap();
        let listener = unix_socket();
        listener.bind(&address).unwrap();
        listener.listen(0).unwrap();
        let backlog = unix_socket();
        backlog.connect(&address).unwrap();
        let _ = UnixStream::connect(path);
    }

    fn unix_socket() -> socket2::Socket {
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap()
    }

    pub(crate) fn unix_datagram_recv() {
        let (socket, _peer) = UnixDatagram::pair().unwrap();
        let _ = socket.recv(&mut [0]);
    }

    pub(crate) fn unix_datagram_send() {
        let (socket, _peer) = UnixDatagram::pair().unwrap();
        while socket.send(&[0; 1 << 10]).is_ok() {}
    }

    /// Its receiver's queue is full, for which there is no event.
    pub(crate) fn unix_datagram_send_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        while socket.send_to(&[0], &path).is_ok() {}
    }

    // Signals, which nobody sends to a process of tests, and children.

    pub(crate) fn signal_wait() {
        signal::wait(signal::SIGWINCH);
    }

    pub(crate) fn signal_wait_timeout() {
        signal::wait_timeout(signal::SIGWINCH, HOUR);
    }

    pub(crate) fn signal_wait_any() {
        signal::wait_any([signal::SIGWINCH, signal::SIGURG]);
    }

    pub(crate) fn signals_next() {
        signal::Signals::new([signal::SIGWINCH]).unwrap().next();
    }

    /// A child that does not end by itself; it ends with what this returns.
    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
        }
    }

    fn sleeping_command() -> Command {
        let mut command = Command::new("sleep");
        command.arg("3600").stdin(Stdio::piped());
        command
    }

    fn sleeping_child() -> Sleeper {
        Sleeper(sleeping_command().spawn().unwrap())
    }

    pub(crate) fn child_wait() {
        let _ = sleeping_child().0.wait();
    }

    pub(crate) fn child_wait_timeout() {
        let _ = sleeping_child().0.wait_timeout(HOUR);
    }

    pub(crate) fn child_in_wait_any() {
        greenloom::wait_any([&sleeping_child().0]);
    }

    pub(crate) fn child_communicate() {
        let _ = sleeping_child().0.communicate(vec![0; 1 << 20]);
    }

    pub(crate) fn command_status() {
        let _ = sleeping_command().status();
    }

    pub(crate) fn command_output() {
        let _ = sleeping_command().output();
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
            event_wait => For("wait of the Event"),
            event_wait_timeout => For("wait of the Event"),
            async_result_get => For("get of the AsyncResult"),
            async_result_get_timeout => For("get of the AsyncResult"),
            async_result_wait => For("wait of the AsyncResult"),
            async_result_wait_timeout => For("wait of the AsyncResult"),
            semaphore_acquire => For("acquire of the Semaphore"),
            semaphore_acquire_timeout => For("acquire of the Semaphore"),
            bounded_semaphore_acquire => For("acquire of the BoundedSemaphore"),
            bounded_semaphore_acquire_timeout => For("acquire of the BoundedSemaphore"),
            mutex_lock => For("lock of the Mutex"),
            mutex_lock_timeout => For("lock of the Mutex"),
            rlock_lock => For("lock of the RLock"),
            rlock_lock_timeout => For("lock of the RLock"),
            rwlock_read => For("read of the RwLock"),
            rwlock_read_timeout => For("read of the RwLock"),
            rwlock_write => For("write of the RwLock"),
            rwlock_write_over_a_reader => For("write of the RwLock"),
            rwlock_write_timeout => For("write of the RwLock"),
            condvar_wait => For("wait of the Condvar"),
            condvar_wait_while => For("wait of the Condvar"),
            condvar_wait_timeout => For("wait of the Condvar"),
            condvar_wait_timeout_while => For("wait of the Condvar"),
            barrier_wait => For("wait of the Barrier"),
            barrier_wait_timeout => For("wait of the Barrier"),
            queue_get => For("get of the Queue"),
            queue_get_timeout => For("get of the Queue"),
            queue_peek => For("peek of the Queue"),
            queue_peek_timeout => For("peek of the Queue"),
            queue_put => For("put of the Queue"),
            queue_put_timeout => For("put of the Queue"),
            queue_iter => For("get of the Queue"),
            lifo_queue_get => For("get of the Queue"),
            priority_queue_get => For("get of the Queue"),
            joinable_queue_join => For("join of the JoinableQueue"),
            joinable_queue_join_timeout => For("join of the JoinableQueue"),
            channel_put => For("put of the Channel"),
            channel_put_timeout => For("put of the Channel"),
            channel_get => For("get of the Channel"),
            channel_get_timeout => For("get of the Channel"),
            pipe_recv => For("recv of the pipe"),
            pipe_recv_timeout => For("recv of the pipe"),
            pipe_poll => For("poll of the pipe"),
            wait_any_of_many_kinds => For("wait_any"),
            iwait_of_many_kinds => For("iwait"),
            pool_spawn => For("spawn of the Pool"),
            pool_spawn_timeout => For("spawn of the Pool"),
            pool_wait_available => For("wait_available of the Pool"),
            pool_wait_available_timeout => For("wait_available of the Pool"),
            pool_apply => For("join"),
            pool_apply_when_full => For("spawn of the Pool"),
            pool_map => For("spawn of the Pool"),
            pool_map_when_full => For("spawn of the Pool"),
            pool_imap => For("next of imap"),
            pool_imap_unordered => For("next of imap_unordered"),
            pool_join => For("join of the Pool"),
            pool_join_timeout => For("join of the Pool"),
            pool_kill => For("kill of the Pool"),
            pool_kill_timeout => For("kill of the Pool"),
            group_join => For("join of the Group"),
            group_join_timeout => For("join of the Group"),
            group_kill => For("kill of the Group"),
            group_kill_timeout => For("kill of the Group"),
            group_map => For("scope"),
            group_imap => For("next of imap"),
            future_result => For("result of the Future"),
            future_result_timeout => For("result of the Future"),
            future_result_ref => For("result of the Future"),
            future_exception => For("result of the Future"),
            future_result_in_line => For("result of the Future"),
            concurrent_wait => Parked,
            concurrent_wait_timeout => Parked,
            as_completed => For("as_completed"),
            executor_map => For("next of imap"),
            executor_shutdown => Parked,
            executor_shutdown_timeout => Parked,
            executor_shutdown_now => Parked,
            job_join => For("end of the Job"),
            job_join_timeout => For("end of the Job"),
            job_get => For("end of the Job"),
            job_get_timeout => For("end of the Job"),
            job_wait_any => For("wait_any"),
            offload => For("end of the Job"),
            thread_pool_spawn => For("place in the ThreadPool"),
            thread_pool_spawn_timeout => For("place in the ThreadPool"),
            thread_pool_apply_when_full => For("place in the ThreadPool"),
            thread_pool_map_when_full => For("place in the ThreadPool"),
            thread_pool_shutdown => For("shutdown of the ThreadPool"),
            thread_pool_shutdown_timeout => For("shutdown of the ThreadPool"),
            thread_executor_result => For("result of the Future"),
            thread_executor_shutdown => For("shutdown of the ThreadPool"),
            read => For("read"),
            read_timeout => For("read"),
            read_exact => For("read"),
            copy => For("read"),
            peek => For("read"),
            wait_readable => For("read"),
            io_read => For("read"),
            io_write => For("write"),
            io_shared_read => For("read"),
            io_wait_readable => For("read"),
            write => For("write"),
            write_timeout => For("write"),
            accept => For("accept"),
            signal_wait => For("signal"),
            signal_wait_timeout => For("signal"),
            signal_wait_any => For("signal"),
            signals_next => For("signal"),
            child_wait => For("wait of the Child"),
            child_wait_timeout => For("wait of the Child"),
            child_in_wait_any => For("wait_any"),
            child_communicate => For("write"),
            command_status => For("wait of the Child"),
            command_output => For("read"),
            // A full backlog makes a connection wait on Linux; elsewhere it may be refused.
            #[cfg(target_os = "linux")] connect => For("connect"),
            #[cfg(target_os = "linux")] connect_timeout => For("connect"),
            udp_recv_from => For("recv"),
            udp_peek => For("recv"),
            unix_read => For("read"),
            unix_write => For("write"),
            unix_accept => For("accept"),
            #[cfg(target_os = "linux")] unix_connect => For("connect"),
            unix_datagram_recv => For("recv"),
            unix_datagram_send => For("send"),
            #[cfg(target_os = "linux")] unix_datagram_send_to => For("send"),
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
