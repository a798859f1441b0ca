//! Asks databases fifty things at a time, by drivers that block: `redis` and `mysql`, unchanged.
//!
//! ```text
//! apt-get install redis-server mariadb-server-core   # as root, once; one of them is enough
//! cargo run --example monkey_db
//! ```
//!
//! Each query sleeps in the server for 200 ms, and each has a connection and a greenlet of its own.
//! One after the other fifty of them would take ten seconds. After `monkey::patch_all()` they take
//! little more than one, on one thread. The servers are started in folders of their own, see
//! `servers.rs`, and nothing of them is left.
//!
//! For PostgreSQL that works with every driver on top of its C library `libpq`, such as `diesel`. The
//! crate `postgres` is another matter: it looks like blocking code, but runs an event loop of its own
//! (tokio's) inside each call, and waits in there. Two of these loops cannot take turns on one
//! thread, so it is left alone: its answers are right, and come one at a time.
//!
//! Exit code: 0; 1 if an answer was wrong or missing; 2 if no server is installed.

#![expect(clippy::print_stdout, reason = "shows how long it took")]

use std::cell::Cell;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use greenloom::monkey;
use mysql::prelude::Queryable as _;

use servers::{Failure, Server};

#[cfg(test)]
#[path = "../../tests/monkey_util/mod.rs"]
mod monkey_util;
mod servers;

const QUERIES: u64 = 50;

/// How long each of them sleeps.
const NAP: Duration = Duration::from_millis(200);

/// Asks for the square of a number.
type Query = fn(server: &str, number: u64) -> Result<u64, Box<dyn Error>>;

/// A server, and how to ask it.
type Database = (&'static str, fn() -> Result<Server, Failure>, Query);

const DATABASES: [Database; 2] =
    [("Redis", servers::redis, ask_redis), ("MariaDB", servers::mariadb, ask_mariadb)];

fn main() -> ExitCode {
    monkey::patch_all();
    let mut code = 2;
    for (name, start, query) in DATABASES {
        match start() {
            Ok(server) => {
                println!("{name}: {QUERIES} queries, each of which takes {NAP:?}");
                let start = Instant::now();
                let Asked { right, at_once } = ask_all(&server, query);
                let took = start.elapsed();
                println!("{name}: {right} right answers, {at_once} at the same time, in {took:?}");
                code = if right == QUERIES && code != 1 { 0 } else { 1 };
            }
            Err(Failure::NotInstalled { package }) => println!("{name}: apt-get install {package}"),
            Err(failure) => {
                println!("{name}: {failure}");
                code = 1;
            }
        }
    }
    ExitCode::from(code)
}

struct Asked {
    /// So many answers were right.
    right: u64,
    /// So many of them were waited for at the same time.
    at_once: u64,
}

/// A greenlet for each query.
fn ask_all(server: &Server, query: Query) -> Asked {
    let (waiting, at_once) = (Cell::new(0), Cell::new(0));
    let is_right = |number| {
        waiting.set(waiting.get() + 1);
        at_once.set(at_once.get().max(waiting.get()));
        let answer = query(server.socket(), number);
        waiting.set(waiting.get() - 1);
        match answer {
            Ok(answer) => answer == number * number,
            Err(error) => {
                println!("no answer: {error}");
                false
            }
        }
    };
    let right = greenloom::scope(|scope| {
        let is_right = &is_right;
        let asked: Vec<_> =
            (0..QUERIES).map(|number| scope.spawn(move || is_right(number))).collect();
        asked.into_iter().map(|query| u64::from(query.get().expect("nobody kills it"))).sum()
    });
    Asked { right, at_once: at_once.get() }
}

/// Waits for something that nobody will put there, and has the answer sent along after that.
fn ask_redis(server: &str, number: u64) -> Result<u64, Box<dyn Error>> {
    let client = redis::Client::open(format!("redis+unix://{server}"))?;
    let mut connection = client.get_connection()?;
    let (answer,) = redis::pipe()
        .cmd("BLPOP")
        .arg(format!("empty:{number}"))
        .arg(NAP.as_secs_f64())
        .ignore()
        .cmd("ECHO")
        .arg(number * number)
        .query(&mut connection)?;
    Ok(answer)
}

fn ask_mariadb(server: &str, number: u64) -> Result<u64, Box<dyn Error>> {
    let options = mysql::OptsBuilder::new().socket(Some(server)).prefer_socket(true);
    let mut connection = mysql::Conn::new(options)?;
    let query = "SELECT ? * ? + SLEEP(?)"; // it sleeps, and that is nothing
    let answer = connection.exec_first(query, (number, number, NAP.as_secs_f64()))?;
    Ok(answer.ok_or("it is empty")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::monkey_util::alone;

    #[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
    fn check(name: &str) {
        monkey::patch_all();
        let (_, start, query) = DATABASES.into_iter().find(|database| database.0 == name).unwrap();
        match start() {
            Ok(server) => {
                let Asked { right, at_once } = ask_all(&server, query);
                assert_eq!((right, at_once), (QUERIES, QUERIES));
            }
            Err(Failure::NotInstalled { package }) => {
                eprintln!("\n!!!!! NOT CHECKED: {package} is not installed !!!!!\n");
            }
            Err(failure) => panic!("{name}: {failure}"),
        }
    }

    alone! {
        fn redis_runs() { check("Redis"); }

        fn mariadb_runs() { check("MariaDB"); }
    }
}
