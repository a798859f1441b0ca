//! Runs the examples: the tests each of them brings along, and the two echo programs together.
//!
//! The examples are modules here, so server and client can be run in one process, on one thread.

#![allow(clippy::duplicate_mod, reason = "two examples bring the same small server along")]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use greenloom::net::{SocketAddr, TcpListener, TcpStream};
use greenloom::server::StreamServer;
use greenloom::signal::{self, SIGINT, SIGTERM, SIGUSR1};
use indicatif::ProgressBar;

#[path = "../examples/barrier.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod barrier;
#[path = "../examples/chat/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod chat;
#[path = "../examples/code_timer.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod code_timer;
#[path = "../examples/connect_retry.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod connect_retry;
#[path = "../examples/crawler/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod crawler;
#[path = "../examples/dining.rs"]
mod dining;
#[path = "../examples/echo_client.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod echo_client;
#[path = "../examples/echo_server.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod echo_server;
#[path = "../examples/fetch/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod fetch;
#[path = "../examples/million.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod million;
#[path = "../examples/ordered.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod ordered;
#[path = "../examples/pool.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod pool;
#[path = "../examples/portscan/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod portscan;
#[path = "../examples/priority.rs"]
mod priority;
#[path = "../examples/producer_consumer.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod producer_consumer;
#[path = "../examples/proxy.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod proxy;
#[path = "../examples/serving/mod.rs"]
#[expect(dead_code, reason = "the tests start no log")]
mod serving;
#[path = "../examples/shell/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod shell;
#[path = "../examples/sleepers.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod sleepers;
#[path = "../examples/socks5/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod socks5;
#[path = "../examples/switch.rs"]
mod switch;
#[path = "../examples/tls_echo.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod tls_echo;
#[path = "../examples/traffic_light.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod traffic_light;
#[path = "../examples/udp_echo.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod udp_echo;

/// Signals are for the whole process: one test at a time.
static SIGNALS: Mutex<()> = Mutex::new(());

/// No test takes this long; one that does hangs.
const HANG: Duration = Duration::from_secs(120);

/// The echo server as these options want it.
fn echo_server(options: &[&str]) -> StreamServer {
    let args = [&["echo_server", "127.0.0.1:0"], options].concat();
    echo_server::open(&echo_server::Args::parse_from(args)).unwrap()
}

/// Runs `test` beside an echo server that is there for it alone.
fn with_server(test: impl FnOnce(SocketAddr)) {
    let server = echo_server(&[]);
    server.start();
    let address = server.local_addr().unwrap();
    greenloom::with_timeout(HANG, || test(address)).expect("it hangs");
    assert!(server.is_running(), "the server gave up");
    server.stop(Duration::ZERO);
    assert_eq!(server.stats().panicked, 0);
}

/// Runs `visit` on a thread of the operating system while this thread serves it.
///
/// The thread holds a line to us for as long as it runs, so that we learn of its end (even by a
/// panic) by waiting on a socket.
fn elsewhere<T: Send + 'static>(visit: impl FnOnce() -> T + Send + 'static) -> T {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let _line = StdStream::connect(address).unwrap();
        visit()
    });
    let (mut line, _) = door.accept().unwrap();
    assert_eq!(line.read(&mut [0]).unwrap(), 0, "the line is only there to be closed");
    thread.join().unwrap()
}

fn run_clients(server: SocketAddr, clients: u32, messages: u32, size: u32) -> echo_client::Report {
    run_load(&echo_client::Load { server: vec![server], clients, messages, size, together: false })
}

fn run_load(load: &echo_client::Load) -> echo_client::Report {
    echo_client::run(load, &ProgressBar::hidden())
}

/// Everybody else is served well while (or after) somebody misbehaves.
fn assert_others_are_served(server: SocketAddr) {
    let report = run_clients(server, 5, 5, 50);
    assert!(report.is_perfect(), "{report}");
}

fn say(stream: &mut StdStream, words: &[u8]) {
    stream.write_all(words).unwrap();
}

fn hear(stream: &mut StdStream, count: usize) -> Vec<u8> {
    let mut heard = vec![0; count];
    stream.read_exact(&mut heard).unwrap();
    heard
}

#[test]
fn smoke() {
    with_server(|server| {
        let report = run_clients(server, 1, 1, 10);
        assert!(report.is_perfect(), "{report}");
        assert_eq!(report.correct, 1);
    });
}

/// Not more clients than fit into the 1024 descriptors that many systems allow, both ends counted.
#[test]
fn many_clients() {
    with_server(|server| {
        let report = run_clients(server, 200, 50, 64);
        assert!(report.is_perfect(), "{report}");
        assert_eq!((report.correct, report.wrong, report.lost), (10_000, 0, 0));
    });
}

/// Scaled down from ten thousand (see `echo_client --together`): all are connected, then all are
/// answered, then all leave.
#[test]
fn many_clients_at_the_same_time() {
    let server = echo_server(&[]);
    server.start();
    let load = echo_client::Load {
        server: vec![server.local_addr().unwrap()],
        clients: 200,
        messages: 3,
        size: 64,
        together: true,
    };
    let report = greenloom::with_timeout(HANG, || run_load(&load)).expect("it hangs");
    assert!(report.is_perfect(), "{report}");
    assert_eq!(server.stats().peak, 200);
    server.stop(Duration::ZERO);
}

/// More come than may be inside: nobody is turned away, all have to wait for their turn.
#[test]
fn a_full_house() {
    let server = echo_server(&["--max-connections", "3"]);
    server.start();
    let address = server.local_addr().unwrap();
    let report = greenloom::with_timeout(HANG, || run_clients(address, 50, 5, 64));
    let report = report.expect("it hangs");
    assert!(report.is_perfect(), "{report}");
    let stats = server.stats();
    assert_eq!((stats.peak, stats.accepted), (3, 50));
    server.stop(Duration::ZERO);
}

#[test]
fn a_visitor_who_says_nothing() {
    let server = echo_server(&["--idle-timeout", "1"]);
    server.start();
    let mut visitor = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let end = greenloom::with_timeout(HANG, || visitor.read(&mut [0]));
    assert_eq!(end.expect("it hangs").unwrap(), 0);
    server.stop(Duration::ZERO);
}

/// At SIGTERM nobody is let in any more, and those inside finish; a second one ends it.
#[test]
fn told_to_stop() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let server = echo_server(&[]);
    let address = server.local_addr().unwrap();
    echo_server::obey_signals(&server, HANG);
    let serving = greenloom::spawn({
        let server = server.clone();
        move || server.serve_forever()
    });
    let visit = || -> io::Result<()> {
        let mut polite = TcpStream::connect(address)?;
        let mut rude = TcpStream::connect(address)?;
        let mut answer = [0; 5];
        for visitor in [&mut polite, &mut rude] {
            visitor.write_all(b"hello")?;
            visitor.read_exact(&mut answer)?;
        }
        signal::raise(SIGUSR1)?; // does no harm
        signal::raise(SIGTERM)?;
        while server.is_running() {
            greenloom::yield_now();
        }
        for visitor in [&mut polite, &mut rude] {
            visitor.write_all(b"again")?;
            visitor.read_exact(&mut answer)?;
            assert_eq!(&answer, b"AGAIN");
        }
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        drop(polite);
        while server.stats().finished == 0 {
            greenloom::sleep(Duration::from_millis(1));
        }
        assert!(!serving.is_finished());
        signal::raise(SIGTERM)?;
        assert_eq!(rude.read(&mut answer)?, 0);
        serving.join();
        let stats = server.stats();
        assert_eq!((stats.finished, stats.killed), (1, 1));
        Ok(())
    };
    greenloom::with_timeout(HANG, visit).expect("it hangs").unwrap();
}

/// The other servers: what is left of the grace is said in words, and there is none the second time.
#[test]
fn told_to_stop_and_told_again() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let told = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&told);
    serving::obey_signals(Duration::from_secs(5), move |grace, when| {
        heard.borrow_mut().push((grace.as_secs(), when.to_owned()));
    });
    for (count, signal) in [(1, SIGTERM), (2, SIGINT)] {
        signal::raise(signal).unwrap();
        let wait = || {
            while told.borrow().len() < count {
                greenloom::yield_now();
            }
        };
        greenloom::with_timeout(HANG, wait).expect("it hangs");
    }
    assert_eq!(*told.borrow(), [(5, "in 5s".to_owned()), (0, "at once".to_owned())]);
}

/// One message is longer than all buffers between client and server.
#[test]
fn long_messages() {
    with_server(|server| {
        let report = run_clients(server, 2, 1, 16 * 1024 * 1024);
        assert!(report.is_perfect(), "{report}");
    });
}

#[test]
fn a_visitor_who_sends_byte_by_byte() {
    with_server(|server| {
        elsewhere(move || {
            let mut stream = StdStream::connect(server).unwrap();
            for byte in b"slowly" {
                say(&mut stream, &[*byte]);
                assert_eq!(hear(&mut stream, 1), [byte.to_ascii_uppercase()]);
            }
        });
        assert_others_are_served(server);
    });
}

/// All replies come before the end.
#[test]
fn a_visitor_who_half_closes() {
    with_server(|server| {
        let question: Vec<u8> = (0..200_000).map(|at: usize| b'a' + (at % 26) as u8).collect();
        let expected = question.to_ascii_uppercase();
        let answer = elsewhere(move || {
            let mut stream = StdStream::connect(server).unwrap();
            let mut asking = stream.try_clone().unwrap();
            let asker = thread::spawn(move || {
                say(&mut asking, &question);
                asking.shutdown(Shutdown::Write).unwrap();
            });
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            asker.join().unwrap();
            answer
        });
        assert!(answer == expected, "{} of {} bytes", answer.len(), expected.len());
        assert_others_are_served(server);
    });
}

/// Its greenlet is stuck in a write for as long as the visitor likes.
#[test]
fn a_visitor_who_never_reads() {
    with_server(|server| {
        let deaf = elsewhere(move || {
            let mut stream = StdStream::connect(server).unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut refusals = 0;
            while refusals < 3 {
                match stream.write(&[b'x'; 64 * 1024]) {
                    Ok(_) => refusals = 0,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        refusals += 1;
                        let others = StdStream::connect(server).unwrap();
                        greet(others);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            stream
        });
        assert_others_are_served(server);
        drop(deaf);
        assert_others_are_served(server);
    });
}

/// Closing a socket with an answer unread makes the kernel send a reset.
#[test]
fn a_visitor_who_resets() {
    with_server(|server| {
        elsewhere(move || {
            let mut stream = StdStream::connect(server).unwrap();
            say(&mut stream, b"never mind");
            stream.peek(&mut [0]).unwrap();
        });
        assert_others_are_served(server);
    });
}

fn greet(mut stream: StdStream) {
    say(&mut stream, b"hello");
    assert_eq!(hear(&mut stream, 5), b"HELLO");
}
