//! A chat: everybody hears what anybody says.
//!
//! ```text
//! cargo run --release --example chat          # listens on 127.0.0.1:8080
//! nc 127.0.0.1 8080                           # in as many terminals as you like
//! ```
//!
//! Each member has two greenlets: one reads what he says and passes it on to all, the other writes
//! to him what was passed on, and between them is a queue. So nobody waits for anybody else's
//! connection: who speaks only puts lines into queues.
//!
//! A queue has a bound, or a member who does not read would fill the memory with it. When it is
//! full, lines are left out, and the member is told how many as soon as there is room: a moment of a
//! bad connection should not cost him his place, and he should know what he has missed. One who
//! takes nothing at all for half a minute is gone in all but name, and is sent away.

#![expect(clippy::print_stderr, reason = "says why it cannot begin, also where nothing is logged")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::net::{Shutdown, SocketAddr, TcpStream};
use greenloom::queue::{self, Queue};
use greenloom::server::StreamServer;
use greenloom::{scope, yield_now};
use tracing::info;

#[path = "../serving/mod.rs"]
mod serving;
#[cfg(test)]
mod tests;

/// For so long a member may take nothing of what is written to him.
const PATIENCE: Duration = Duration::from_secs(30);

/// For so long members may read what has been said when the chat is told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes. What is longer arrives as several lines.
const LONGEST_LINE: u64 = 1000;

/// A place to chat.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
    /// How many members at a time; others wait at the door
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one())]
    max_members: usize,
    /// How many lines may wait for a member who reads slowly
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one())]
    queue: usize,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let log = serving::start_logging();
    let room = Rc::new(Room::new(args.queue));
    let opened = open(&args, &room);
    match &opened {
        Ok((server, address)) => {
            let told = server.clone();
            serving::obey_signals(GRACE, move |grace, when| {
                info!("told to stop, {when}: {}", told.stats());
                close(&told, &room, grace);
            });
            info!("listening on {address}");
            server.serve_forever();
            info!("stopped: {}", server.stats());
        }
        Err(error) => eprintln!("chat: cannot listen on {}: {error}", args.address),
    }
    log.close();
    if opened.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The chat as the arguments want it, not yet started, and where it is.
fn open(args: &Args, room: &Rc<Room>) -> io::Result<(StreamServer, SocketAddr)> {
    let room = Rc::clone(room);
    let server = StreamServer::bind(&args.address)?
        .max_connections(args.max_members)
        .handle(move |stream, _| attend(&room, &stream));
    let address = server.local_addr()?;
    Ok((server, address))
}

/// Everybody hears of it, and has a moment to do so.
fn close(server: &StreamServer, room: &Room, grace: Duration) {
    server.stop_accepting();
    room.tell_all("* the chat is closed");
    room.send_all_away();
    server.stop(grace);
}

// --------------------------------------------------------------------------------------- the room

/// Who is there, by name.
#[derive(Debug)]
struct Room {
    members: RefCell<BTreeMap<String, Rc<Member>>>,
    queue: usize,
}

/// What waits to be written to a member.
#[derive(Debug)]
struct Member {
    lines: Queue<Rc<str>>,
    /// How many found no room since the last that did.
    left_out: Cell<u32>,
}

impl Room {
    fn new(queue: usize) -> Room {
        Room { members: RefCell::default(), queue }
    }

    /// A new member, unless there is one of that name.
    fn enter(self: &Rc<Self>, name: &str) -> Option<Membership> {
        if self.members.borrow().contains_key(name) {
            return None;
        }
        self.tell_all(&format!("* {name} has come"));
        let member = Rc::new(Member { lines: queue::bounded(self.queue), left_out: Cell::new(0) });
        self.members.borrow_mut().insert(name.to_owned(), Rc::clone(&member));
        Some(Membership { room: Rc::clone(self), name: name.to_owned(), member })
    }

    fn names(&self) -> String {
        self.members.borrow().keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Nothing in here waits, so all hear everything in the same order.
    fn tell_all(&self, line: &str) {
        let line = Rc::from(line);
        self.members.borrow().values().for_each(|member| member.tell(&line));
    }

    fn send_all_away(&self) {
        self.members.borrow().values().for_each(|member| member.lines.shutdown());
    }
}

impl Member {
    /// A line for him, if there is room for it.
    fn tell(&self, line: &Rc<str>) {
        if let missed @ 1.. = self.left_out.get() {
            let notice = format!("* you have missed {missed} lines, because you read too slowly");
            if self.lines.try_put(notice.into()).is_ok() {
                self.left_out.set(0);
            }
        }
        if self.lines.try_put(Rc::clone(line)).is_err() {
            self.left_out.set(self.left_out.get() + 1);
        }
    }
}

/// Being a member. It ends when this is dropped, however that comes about.
struct Membership {
    room: Rc<Room>,
    name: String,
    member: Rc<Member>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.members.borrow_mut().remove(&self.name);
        self.room.tell_all(&format!("* {} has gone", self.name));
    }
}

// ------------------------------------------------------------------------------------- one member

/// One connection, from the first question to the last line.
fn attend(room: &Rc<Room>, stream: &TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut heard = BufReader::new(stream);
    let Some(membership) = introduce(room, stream, &mut heard)? else { return Ok(()) };
    let member = &membership.member;
    scope(|s| {
        s.spawn(|| {
            let written = write_lines(stream, &member.lines);
            // Nothing more can be written, or is to be: who reads need not wait any more.
            let _ = stream.shutdown(Shutdown::Both);
            written
        });
        let said = pass_on(room, &membership.name, &mut heard, member);
        member.lines.shutdown(); // what is in it is still written
        said
    })
}

/// Asks for a name until there is one that nobody has. `None` if the visitor leaves.
fn introduce(
    room: &Rc<Room>,
    mut stream: &TcpStream,
    heard: &mut impl BufRead,
) -> io::Result<Option<Membership>> {
    loop {
        stream.write_all(b"your name? ")?;
        let Some(name) = hear(heard)? else { return Ok(None) };
        let name = name.trim();
        let fits = (1..=20).contains(&name.chars().count());
        if !fits || name.contains(char::is_whitespace) || name.starts_with('/') {
            stream.write_all(b"a name is one word of at most 20 letters\n")?;
            continue;
        }
        let Some(membership) = room.enter(name) else {
            stream.write_all(b"there is somebody of that name\n")?;
            continue;
        };
        let others = room.names();
        membership.member.tell(&format!("* here are {others}; /who asks, /quit leaves").into());
        return Ok(Some(membership));
    }
}

/// Tells all what one says, until he has no more to say.
fn pass_on(room: &Room, name: &str, heard: &mut impl BufRead, member: &Member) -> io::Result<()> {
    while let Some(line) = hear(heard)? {
        match line.as_str() {
            "" => {}
            "/quit" => break,
            "/who" => member.tell(&format!("* here are {}", room.names()).into()),
            line => room.tell_all(&format!("{name}: {line}")),
        }
        yield_now(); // who says much at once must not fill the queues before anybody has written
    }
    Ok(())
}

/// The next line, without its end. `None`: there are no more.
fn hear(heard: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if heard.take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    // What would move the cursors of others, or clear their screens, does not get through.
    let printable = |c: &char| !c.is_control();
    Ok(Some(String::from_utf8_lossy(&line).chars().filter(printable).collect()))
}

/// Writes what there is in one go, then waits for more.
fn write_lines(mut stream: &TcpStream, lines: &Queue<Rc<str>>) -> io::Result<()> {
    let mut text = String::new();
    while let Ok(line) = lines.get() {
        text.push_str(&line);
        text.push('\n');
        while let Ok(line) = lines.try_get() {
            text.push_str(&line);
            text.push('\n');
        }
        stream.write_all(text.as_bytes())?;
        text.clear();
    }
    Ok(())
}
