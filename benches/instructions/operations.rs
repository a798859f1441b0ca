//! What is counted.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use greenloom::net::{TcpListener, TcpStream};
use greenloom::queue::Queue;
use greenloom::sync::{Event, Mutex, Semaphore};
use greenloom::{
    Greenlet, Timeout, idle, joinall, monkey, scope, sleep, spawn, with_timeout, yield_now,
};

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// How often it is done to be counted, and twice as often.
    pub(crate) count: u64,
    pub(crate) run: fn(u64),
}

/// A count is a multiple of ten thousand or so because of what happens at each 64th or 128th
/// operation only; less where one takes many instructions itself.
pub(crate) const OPERATIONS: &[Operation] = &[
    operation("yield_now, 2 greenlets", 12_800, yields::<2>),
    operation("yield_now, 1,000 greenlets", 64_000, yields::<1_000>),
    operation("spawn + join, one by one", 12_800, spawns_one_by_one),
    operation("spawn + join, by 1,000", 20_000, spawns_in_batches),
    operation("Event set + wake", 12_800, event_wake),
    operation("Semaphore hand-over", 12_800, semaphore_hand_over),
    operation("Queue hand-over, bounded(1)", 12_800, hand_over_one_by_one),
    operation("Queue hand-over, unbounded", 12_800, hand_over_in_bulk),
    operation("with_timeout in time", 12_800, unused_timeouts::<0>),
    operation("with_timeout in time, among 100,000", 12_800, unused_timeouts::<100_000>),
    operation("sleep fires, among 1,000", 20_000, sleeps),
    operation("Mutex lock + unlock", 12_800, mutex),
    operation("echo, 1 connection", 1_280, echo::<1>),
    operation("echo, 100 connections", 12_800, echo::<100>),
    operation("connect, accept, close", 640, connections),
    operation("std: send + recv, not patched", 12_800, std_transfers),
    operation("std: send + recv, patched", 12_800, patched_transfers),
    operation("std: echo, patched, 100 connections", 12_800, patched_echo),
];

const fn operation(name: &'static str, count: u64, run: fn(u64)) -> Operation {
    Operation { name, count, run }
}

pub(crate) fn yields<const GREENLETS: u64>(count: u64) {
    let spin = move || {
        for _ in 0..count / GREENLETS {
            yield_now();
        }
    };
    let spinners: Vec<_> = (0..GREENLETS).map(|_| spawn(spin)).collect();
    joinall(&spinners);
}

pub(crate) fn spawns_one_by_one(count: u64) {
    for _ in 0..count {
        spawn(|| ()).join();
    }
}

pub(crate) fn spawns_in_batches(count: u64) {
    const BATCH: u64 = 1_000;
    for _ in 0..count / BATCH {
        let batch: Vec<_> = (0..BATCH).map(|_| spawn(|| ())).collect();
        joinall(&batch);
    }
}

/// Two greenlets with an event each, who wake each other in turn.
fn event_wake(count: u64) {
    let (ping, pong) = (Event::new(), Event::new());
    let wake_in_turn = |mine: &Event, other: &Event| {
        for _ in 0..count / 2 {
            mine.wait();
            mine.clear();
            other.set();
        }
    };
    scope(|s| {
        drop(s.spawn(|| wake_in_turn(&ping, &pong)));
        drop(s.spawn(|| wake_in_turn(&pong, &ping)));
        idle();
        ping.set();
    });
}

/// Two greenlets stand in line; whoever gives back hands over to the other.
fn semaphore_hand_over(count: u64) {
    let semaphore = Semaphore::new(1);
    let held = semaphore.acquire();
    scope(|s| {
        for _ in 0..2 {
            let turn = || drop(semaphore.acquire());
            drop(s.spawn(move || (0..count / 2).for_each(|_| turn())));
        }
        idle();
        drop(held);
    });
}

fn hand_over_one_by_one(count: u64) {
    hand_over(&Queue::bounded(1), count);
}

/// The giver goes on until it has to give others a turn.
fn hand_over_in_bulk(count: u64) {
    hand_over(&Queue::new(), count);
}

fn hand_over(queue: &Queue<u64>, count: u64) {
    const OPEN: &str = "nobody shuts it down";
    let (giver, taker) = (queue.clone(), queue.clone());
    let take = move || {
        for _ in 0..count {
            black_box(taker.get().expect(OPEN));
        }
    };
    let give = move || {
        for item in 0..count {
            giver.put(item).expect(OPEN);
        }
    };
    joinall(&[spawn(take), spawn(give)]);
}

/// Not over before the program is.
const LONG: Duration = Duration::from_secs(3_600);

/// Set and cancelled, among so many others that are due later.
fn unused_timeouts<const OTHERS: u64>(count: u64) {
    let others: Vec<_> =
        (0..OTHERS).map(|n| Timeout::start(LONG + Duration::from_micros(n))).collect();
    for _ in 0..count {
        black_box(with_timeout(LONG / 2, || black_box(1)).expect("it does nothing"));
    }
    drop(others);
}

/// Inserted, due, fired, its greenlet resumed.
fn sleeps(count: u64) {
    const SLEEPERS: u64 = 1_000;
    let doze = move || {
        for _ in 0..count / SLEEPERS {
            sleep(Duration::from_nanos(1));
        }
    };
    let sleepers: Vec<_> = (0..SLEEPERS).map(|_| spawn(doze)).collect();
    joinall(&sleepers);
}

fn mutex(count: u64) {
    let mutex = Mutex::new(0_u64);
    for _ in 0..count {
        *black_box(&mutex).lock() += 1;
    }
}

const MESSAGE: [u8; 64] = [b'm'; 64];

/// More than a message, so that a read that fills less knows that there is no more.
type Buffer = [u8; 1_024];

/// One message there and back: written and read by a client, read and written by its server.
fn echo<const CONNECTIONS: u64>(count: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let addr = listener.local_addr().expect("it is bound");
    let accept = move || -> Vec<Greenlet<()>> {
        let streams = listener.incoming().take(CONNECTIONS as usize);
        streams.map(|stream| serve(stream.expect("clients connect"))).collect()
    };
    let listening = spawn(accept);
    let clients: Vec<_> =
        (0..CONNECTIONS).map(|_| spawn(move || ask(addr, count / CONNECTIONS))).collect();
    joinall(&clients);
    joinall(listening.get().expect("it does not panic"));
}

fn serve(mut stream: TcpStream) -> Greenlet<()> {
    spawn(move || {
        let mut buffer: Buffer = [0; 1_024];
        loop {
            match stream.read(&mut buffer).expect("the client lives") {
                0 => return,
                len => assert_eq!(stream.write(&buffer[..len]).expect("the client reads"), len),
            }
        }
    })
}

fn ask(addr: SocketAddr, count: u64) {
    let mut stream = TcpStream::connect(addr).expect("the server listens");
    let mut buffer: Buffer = [0; 1_024];
    for _ in 0..count {
        assert_eq!(stream.write(&MESSAGE).expect("the server reads"), MESSAGE.len());
        let len = stream.read(&mut buffer).expect("the server answers");
        assert_eq!(buffer[..len], MESSAGE);
    }
}

/// One connection there and gone again: the server closes it at once, the client when it sees that.
fn connections(count: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let addr = listener.local_addr().expect("it is bound");
    let accept = move || listener.incoming().take(count as usize).for_each(drop);
    let listening = spawn(accept);
    for _ in 0..count {
        let mut stream = TcpStream::connect(addr).expect("the server listens");
        assert_eq!(stream.read(&mut [0; 64]).expect("the server hangs up"), 0);
    }
    listening.join();
}

/// Bytes that are there when they are asked for, through a socket of std's: two calls of the C
/// library.
fn std_transfers(count: u64) {
    let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
    let mut message = [7; 64];
    for _ in 0..count {
        here.write_all(&message).expect("there is room");
        there.read_exact(&mut message).expect("it has been sent");
    }
}

/// The same in a greenlet, for which these calls would park.
fn patched_transfers(count: u64) {
    monkey::patch_all();
    spawn(move || std_transfers(count)).join();
}

/// As [`echo`], by std's sockets: one wait for each message on either side.
fn patched_echo(count: u64) {
    const CONNECTIONS: u64 = 100;
    monkey::patch_all();
    let talk = move |mut stream: UnixStream, begins: bool| {
        let mut message = [7; 64];
        if begins {
            stream.write_all(&message).expect("there is room");
        }
        for _ in 0..count / CONNECTIONS {
            stream.read_exact(&mut message).expect("the other side answers");
            stream.write_all(&message).expect("there is room");
        }
    };
    let mut talkers = Vec::new();
    for _ in 0..CONNECTIONS {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        talkers.push(spawn(move || talk(here, true)));
        talkers.push(spawn(move || talk(there, false)));
    }
    joinall(&talkers);
}
