//! Many patched connections that say nothing cost nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use greenloom::{dump, idle, monkey, sleep, spawn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod monkey_util;
use monkey_util::alone;

const CONNECTIONS: usize = 1_000;

/// How often threads of this process have gone to sleep in the kernel so far.
fn voluntary_switches() -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let switches = threads.map(|thread| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("Linux counts them").trim().parse::<u64>().unwrap()
    });
    switches.sum()
}

/// How many greenlets wait in that call.
fn waiting_in(call: &str) -> usize {
    let waits = |reason: &Option<String>| reason.as_deref() == Some(call);
    dump().greenlets().iter().filter(|greenlet| waits(&greenlet.reason)).count()
}

/// A textbook server of std's, but for `spawn`.
fn echo_server(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        spawn(move || -> io::Result<()> {
            let mut buffer = [0; 100];
            loop {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..length])?;
            }
        });
    }
    Ok(())
}

/// Each says something else, all of them before the first answer is read.
fn all_are_answered(clients: &[TcpStream], round: usize) {
    let word = |n: usize| format!("{round} {n:05}");
    for (n, mut client) in clients.iter().enumerate() {
        client.write_all(word(n).as_bytes()).unwrap();
    }
    for (n, mut client) in clients.iter().enumerate() {
        let mut answer = vec![0; word(n).len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, word(n).as_bytes());
    }
}

alone! {
    fn a_thousand_connections_of_std_sleep() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        monkey::patch_all();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        spawn(move || echo_server(listener));
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let client = TcpStream::connect(server).unwrap();
                idle(); // it is accepted: the listener's queue is short
                client
            })
            .collect();
        all_are_answered(&clients, 1);
        while waiting_in("recv") < CONNECTIONS {
            idle();
        }
        // What was used for the first time is put in order during the first seconds.
        sleep(Duration::from_millis(2_500));
        let before = voluntary_switches();
        sleep(Duration::from_secs(3));
        let switches = voluntary_switches() - before;
        // The sleep itself takes one or two: to the millisecond, and for the rest of it.
        assert!(switches <= 3, "{switches} in 3 s of nothing to do");
        all_are_answered(&clients, 2);
    }
}
