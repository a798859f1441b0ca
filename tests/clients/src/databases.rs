//! redis and mysql: drivers in Rust, on std's sockets. The servers are Debian's.

use std::cell::Cell;
use std::rc::Rc;

use greenloom::{monkey, sleep, spawn};
use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, Pool, PoolConstraints, PoolOpts};

use crate::monkey_util::{alone, ms};
use crate::servers::{self, Failure, Server};
use crate::{CLIENTS, all_at_once, assert_squares, square};

/// Does `test` with a server, if it is installed.
pub(crate) fn with(started: Result<Server, Failure>, test: impl FnOnce(String)) {
    match started {
        Ok(server) => test(server.socket().to_owned()),
        Err(Failure::NotInstalled { package }) => {
            eprintln!("\n!!!!! NOT CHECKED: {package} is not installed !!!!!\n");
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// Asks the server, as long as it takes, how many of its clients wait: until all do.
pub(crate) fn until_all_wait(mut waiting: impl FnMut() -> usize) {
    while waiting() < CLIENTS {
        sleep(ms(5));
    }
}

fn redis(server: &str) -> redis::Connection {
    redis::Client::open(format!("redis+unix://{server}")).unwrap().get_connection().unwrap()
}

fn mysql(server: &str) -> OptsBuilder {
    OptsBuilder::new().socket(Some(server)).prefer_socket(true)
}

alone! {
    /// Each waits for a letter in a box of its own. When all wait, the last gets his first.
    fn redis_blocks() {
        monkey::patch_all();
        with(servers::redis(), |server| {
            let postman = spawn({
                let server = server.clone();
                move || {
                    let mut post = redis(&server);
                    until_all_wait(|| {
                        let info: redis::InfoDict =
                            redis::cmd("INFO").arg("clients").query(&mut post).unwrap();
                        info.get("blocked_clients").unwrap()
                    });
                    for number in (0..CLIENTS).rev() {
                        let (key, letter) = (format!("box:{number}"), square(number));
                        let _: usize =
                            redis::cmd("RPUSH").arg(key).arg(letter).query(&mut post).unwrap();
                    }
                }
            });
            let answers = all_at_once(move |number| {
                let mut connection = redis(&server);
                let key = format!("box:{number}");
                let (from, letter): (String, usize) =
                    redis::cmd("BLPOP").arg(&key).arg(0).query(&mut connection).unwrap();
                assert_eq!(from, key);
                letter
            });
            postman.get().unwrap();
            assert_squares(&answers);
        });
    }

    /// A lock on the table holds all of them back, until the server says that all wait for it.
    fn mysql_blocks() {
        monkey::patch_all();
        with(servers::mariadb(), |server| {
            let mut owner = Conn::new(mysql(&server)).unwrap();
            owner.query_drop("CREATE DATABASE d").unwrap();
            owner.query_drop("CREATE TABLE d.squares (n INT, square INT)").unwrap();
            let rows = (0..CLIENTS).map(|number| (number, square(number)));
            owner.exec_batch("INSERT INTO d.squares VALUES (?, ?)", rows).unwrap();
            owner.query_drop("LOCK TABLES d.squares WRITE").unwrap();
            let doorman = spawn({
                let server = server.clone();
                move || {
                    let mut watch = Conn::new(mysql(&server)).unwrap();
                    until_all_wait(|| {
                        let query = "SELECT COUNT(*) FROM information_schema.processlist \
                                     WHERE state LIKE 'Waiting for table%lock'";
                        watch.query_first(query).unwrap().unwrap()
                    });
                    owner.query_drop("UNLOCK TABLES").unwrap();
                }
            });
            let answers = all_at_once(move |number| {
                let mut connection = Conn::new(mysql(&server)).unwrap();
                let query = "SELECT square FROM d.squares WHERE n = ?";
                connection.exec_first(query, (number,)).unwrap().unwrap()
            });
            doorman.get().unwrap();
            assert_squares(&answers);
        });
    }

    /// Ten connections for all of them: who finds none waits for one, at a condition variable.
    fn mysql_pool() {
        monkey::patch_all();
        with(servers::mariadb(), |server| {
            let ten = PoolOpts::new().with_constraints(PoolConstraints::new(10, 10).unwrap());
            let pool = Pool::new(mysql(&server).pool_opts(ten)).unwrap();
            let (inside, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let peak = Rc::clone(&most);
            let answers = all_at_once(move |number| {
                let mut connection = pool.get_conn().unwrap();
                inside.set(inside.get() + 1);
                most.set(most.get().max(inside.get()));
                let query = "SELECT ? + SLEEP(0.02)";
                let answer = connection.exec_first(query, (square(number),)).unwrap().unwrap();
                inside.set(inside.get() - 1);
                answer
            });
            assert_squares(&answers);
            assert_eq!(peak.get(), 10);
        });
    }
}
