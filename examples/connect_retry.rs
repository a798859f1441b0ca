//! A client that is there before its server: it tries again until somebody answers, or until it is
//! told to stop.
//!
//! ```text
//! cargo run --example connect_retry
//! cargo run --example connect_retry -- --up-after 5000 --stop-after 1000
//! ```
//!
//! Between two attempts the client sleeps, each time for longer. It does so by waiting for an
//! `Event`, "stop", with a timeout: the timeout is the sleep, and who sets the event ends it early.

#![expect(clippy::print_stdout, reason = "shows each attempt and how it ends")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::net::{TcpListener, TcpStream};
use greenloom::sync::Event;
use socket2::{Domain, Socket, Type};

/// Connects to a server that takes its time.
#[derive(Debug, Parser)]
struct Args {
    /// When the server comes up, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    up_after: u64,
    /// When the client is told to stop, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    stop_after: u64,
}

fn main() -> io::Result<()> {
    let Args { up_after, stop_after } = Args::parse();
    run(Duration::from_millis(up_after), Duration::from_millis(stop_after))
}

fn run(up_after: Duration, stop_after: Duration) -> io::Result<()> {
    let closed = ClosedDoor::new()?;
    let address = closed.address;
    let server = greenloom::spawn_later(up_after, move || greet_one(&closed.open()?));

    let stop = Event::new();
    let stopper = greenloom::spawn_later(stop_after, {
        let stop = stop.clone();
        move || stop.set()
    });

    let start = Instant::now();
    let connected = connect(address, &stop, Pauses::default(), |error, pause| {
        println!("{:5} ms  {error}; again in {pause:?}", start.elapsed().as_millis());
    });
    let now = start.elapsed().as_millis();
    match connected {
        Some(stream) => println!("{now:5} ms  the server says: {}", hear_out(stream)?),
        None => println!("{now:5} ms  told to stop"),
    }
    greenloom::killall([&stopper]);
    server.kill();
    Ok(())
}

/// How long to wait after each failure.
#[derive(Clone, Copy)]
struct Pauses {
    /// After the first.
    first: Duration,
    /// Each is twice as long as the one before, but not longer than this.
    longest: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { first: Duration::from_millis(50), longest: Duration::from_secs(5) }
    }
}

/// Connects to `address`, however often it takes, and tells `failed` of every failure and the pause
/// after it. `None`: it was told to `stop` before.
fn connect(
    address: SocketAddr,
    stop: &Event,
    pauses: Pauses,
    mut failed: impl FnMut(io::Error, Duration),
) -> Option<TcpStream> {
    let mut pause = pauses.first.min(pauses.longest);
    while !stop.is_set() {
        match TcpStream::connect(address) {
            Ok(stream) => return Some(stream),
            Err(error) => failed(error, pause),
        }
        // True would mean that `stop` was set; the loop sees that for itself.
        stop.wait_timeout(pause);
        pause = (pause * 2).min(pauses.longest);
    }
    None
}

/// All that comes until the connection is closed.
fn hear_out(mut stream: TcpStream) -> io::Result<String> {
    let mut words = String::new();
    stream.read_to_string(&mut words)?;
    Ok(words)
}

// ------------------------------------------------------------------------------------ the server

/// An address that is ours, so that nobody else gets it, and where nobody answers yet.
struct ClosedDoor {
    socket: Socket,
    address: SocketAddr,
}

impl ClosedDoor {
    fn new() -> io::Result<ClosedDoor> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().expect("it is bound to one");
        Ok(ClosedDoor { socket, address })
    }

    fn open(self) -> io::Result<TcpListener> {
        self.socket.listen(16)?;
        Ok(TcpListener::from(StdListener::from(self.socket)))
    }
}

/// Says hello to the first visitor, and that is all.
fn greet_one(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"good morning")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const SHORT: Pauses =
        Pauses { first: Duration::from_millis(1), longest: Duration::from_millis(4) };

    #[test]
    fn runs() {
        run(Duration::from_millis(60), Duration::from_secs(60)).unwrap();
    }

    /// The server comes up after the fifth failure, whenever that is.
    #[test]
    fn it_tries_until_the_server_is_up() {
        let closed = ClosedDoor::new().unwrap();
        let address = closed.address;
        let door = RefCell::new(Some(closed));
        let mut server = None;
        let mut pauses = Vec::new();
        let stream = connect(address, &Event::new(), SHORT, |error, pause| {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            pauses.push(pause.as_millis());
            if pauses.len() == 5 {
                let listener = door.take().expect("it is opened once").open().unwrap();
                server = Some(greenloom::spawn(move || greet_one(&listener).unwrap()));
            }
        });
        assert_eq!(hear_out(stream.expect("nobody said stop")).unwrap(), "good morning");
        assert_eq!(pauses, [1, 2, 4, 4, 4]);
        server.expect("it was opened").get().unwrap();
    }

    /// Nobody waits an hour to be stopped.
    #[test]
    fn stop_ends_the_pause() {
        let closed = ClosedDoor::new().unwrap();
        let address = closed.address;
        let stop = Event::new();
        let client = greenloom::spawn({
            let stop = stop.clone();
            move || {
                let hour = Duration::from_secs(3600);
                let mut failures = 0;
                let pauses = Pauses { first: hour, longest: hour };
                let stream = connect(address, &stop, pauses, |_, _| failures += 1);
                (stream.is_some(), failures)
            }
        });
        let until_it_pauses = || {
            while !pauses(&client) {
                greenloom::yield_now();
            }
        };
        greenloom::with_timeout(Duration::from_secs(60), until_it_pauses).expect("it hangs");
        stop.set();
        assert_eq!(client.get().unwrap(), (false, 1));
    }

    fn pauses<T: 'static>(client: &greenloom::Greenlet<T>) -> bool {
        let dump = greenloom::dump();
        let entry = dump.greenlets().iter().find(|entry| entry.id == client.id());
        let reason = entry.and_then(|entry| entry.reason.as_deref());
        reason.is_some_and(|reason| reason.starts_with("wait of the Event"))
    }

    #[test]
    fn who_is_told_before_does_not_begin() {
        let closed = ClosedDoor::new().unwrap();
        let stop = Event::new();
        stop.set();
        let stream = connect(closed.address, &stop, SHORT, |error, _| panic!("{error}"));
        assert!(stream.is_none());
    }
}
