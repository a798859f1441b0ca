//! PostgreSQL: by libpq, which is written in C, and by the crate `postgres`, which runs an event loop
//! of its own. The server is Debian's.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use greenloom::{monkey, spawn, with_timeout};
use postgres::{Client, NoTls};

use crate::databases::{until_all_wait, with};
use crate::monkey_util::{alone, ms};
use crate::servers::{Failure, Server};
use crate::{CLIENTS, all_at_once, assert_squares};

/// Where Debian has its programs.
fn programs() -> Result<PathBuf, Failure> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .find(|folder| folder.join("initdb").is_file())
        .ok_or(Failure::NotInstalled { package: "postgresql" })
}

/// It refuses to be run by root, so it is not.
fn not_as_root(program: &Path, folder: &Path) -> Command {
    if fs::metadata("/proc/self").is_ok_and(|us| us.uid() != 0) {
        return Command::new(program);
    }
    const NOBODY: u32 = 65534;
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    command.arg("--clear-groups").arg(program);
    command
}

fn start() -> Result<Server, Failure> {
    let programs = programs()?;
    let folder = tempfile::tempdir()?;
    let made = not_as_root(&programs.join("initdb"), folder.path())
        .args(["--pgdata=data", "--username=postgres", "--auth=trust", "--no-sync"])
        .args(["--encoding=UTF8", "--no-locale"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()?;
    if !made.status.success() {
        return Err(Failure::NotStarted(String::from_utf8_lossy(&made.stderr).into_owned()));
    }
    let mut command = not_as_root(&programs.join("postgres"), folder.path());
    let here = folder.path().to_str().unwrap().to_owned();
    command.args(["-D", "data", "-F", "-h", "", "-k", &here, "-c", "max_connections=100"]);
    let server = Server::start(&mut command, folder, ".s.PGSQL.5432", "QUIT")?;
    // At first it answers that it has not begun yet.
    while PgConnection::establish(&address(server.socket())).is_err() {
        greenloom::sleep(ms(10));
    }
    Ok(server)
}

/// How both of them are told where it is.
fn address(server: &str) -> String {
    let folder = Path::new(server).parent().unwrap().display();
    format!("host={folder} user=postgres dbname=postgres")
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn ask(connection: &mut PgConnection, query: &str) -> usize {
    let numbers: Vec<Number> = sql_query(query).load(connection).unwrap();
    numbers[0].number as usize
}

alone! {
    /// A lock holds all of them back, until the server says that all wait for it.
    fn diesel_by_libpq() {
        monkey::patch_all();
        with(start(), |server| {
            let server = address(&server);
            let mut owner = PgConnection::establish(&server).unwrap();
            owner.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
            let doorman = spawn(move || {
                until_all_wait(|| {
                    let query = "SELECT COUNT(*) AS number FROM pg_stat_activity \
                                 WHERE wait_event_type = 'Lock'";
                    ask(&mut owner, query)
                });
                owner.batch_execute("SELECT pg_advisory_unlock(1)").unwrap();
            });
            let answers = all_at_once(move |number| {
                let mut connection = PgConnection::establish(&server).unwrap();
                connection.batch_execute("SELECT pg_advisory_lock_shared(1)").unwrap();
                ask(&mut connection, &format!("SELECT {number}::BIGINT * {number} AS number"))
            });
            doorman.get().unwrap();
            assert_squares(&answers);
        });
    }

    /// libpq gives up a query whose time is over, and its connection with it.
    fn libpq_times_out() {
        monkey::patch_all();
        with(start(), |server| {
            let server = address(&server);
            let over = all_at_once(move |_| {
                let mut connection = PgConnection::establish(&server).unwrap();
                let sleeps = || connection.batch_execute("SELECT pg_sleep(1000)");
                with_timeout(ms(100), sleeps).is_err()
            });
            assert_eq!(over, [true; CLIENTS]);
        });
    }

    /// Its answers are right, but nobody else of the thread runs until one has got his.
    fn the_crate_postgres_goes_one_at_a_time() {
        monkey::patch_all();
        with(start(), |server| {
            let server = address(&server);
            let inside = Rc::new(Cell::new(0));
            let answers = all_at_once(move |number| {
                inside.set(inside.get() + 1);
                assert_eq!(inside.get(), 1, "it waits alone");
                let mut client = Client::connect(&server, NoTls).unwrap();
                let query = "SELECT $1::BIGINT * $1, pg_sleep(0.001)::TEXT";
                let row = client.query_one(query, &[&(number as i64)]).unwrap();
                client.close().unwrap();
                inside.set(inside.get() - 1);
                row.get::<_, i64>(0) as usize
            });
            assert_squares(&answers);
        });
    }
}
