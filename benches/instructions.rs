//! How many instructions the basic operations take in user space, and whether that is still what
//! `instructions.toml` says.
//!
//! ```text
//! cargo bench --bench instructions                    counts, compares, fails if anything differs
//! cargo bench --bench instructions -- --only echo     only what has "echo" in its name
//! cargo bench --bench instructions -- --keep          writes what it has counted into the file
//! ```
//!
//! On a shared machine, time says nothing about a few per cent. A count of instructions does, and
//! is the same every time. This program starts itself under valgrind's callgrind, twice for each
//! operation: to do it so many times, and to do it twice as often. The difference, divided, is one
//! operation; what it takes to begin and to end a process is not in it.
//!
//! Counted are instructions, system calls, and readings of the clock, because none of them shows in
//! the others. Each may differ from the file by 3 %. Less is a failure, too: what was won has to be
//! kept in the file, or it may be lost again unseen.
//!
//! What could make two counts of one program differ is taken out:
//!
//! - *Time and chance.* The hub looks at the world more often where switches are slow, as under
//!   valgrind they are; and hash tables have a seed. There are [stand-ins](stand_ins) for both.
//! - *The kernel.* Clients and servers are greenlets of one thread, so that their order is always
//!   the same; and loopback delivers before the call that sends has returned.
//! - *The processor.* The C library copies memory by whatever the processor does best. It is told
//!   to use what all have.
//! - *How code is dealt out.* The crates in question are compiled in one unit each: see
//!   `profile.bench` in Cargo.toml. That also makes it nearly the same whether or not the parts of a
//!   crate are optimised across (`.ci/run` does without, because it is quicker).
//!
//! What else figures depend on is stated in the file: the compiler, its target and flags, the C
//! library. Where it is not the same, and where there is no valgrind, nothing is compared; the program
//! says so, and does not fail.

#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]
#![expect(clippy::print_stderr, reason = "what could not be checked must be seen")]

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::{env, io, thread};

use clap::Parser;

use kept::{Figures, Kept, Setting};
use operations::{OPERATIONS, Operation};

#[path = "instructions/kept.rs"]
mod kept;
#[path = "instructions/operations.rs"]
mod operations;
#[path = "instructions/stand_ins.rs"]
mod stand_ins;

const HOW_TO_KEEP: &str = "cargo bench --bench instructions -- --keep";

/// Counts what the basic operations take, and compares it with benches/instructions.toml.
#[derive(Parser)]
struct Arguments {
    /// Write what was counted into the file
    #[arg(long)]
    keep: bool,
    /// Only the operations with this in their names
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only show that every operation runs
    #[arg(long)]
    test: bool,
    /// Do one operation so many times: what valgrind is given to count
    #[arg(long, num_args = 2, value_names = ["NAME", "COUNT"])]
    run: Option<Vec<String>>,
    /// What cargo tells every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// As `--only`, from `cargo bench NAME`
    #[arg(hide = true)]
    filter: Option<String>,
}

/// What is told when something cannot be done.
type Complaint = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.run {
        Some(run) => do_one(&run[0], &run[1]),
        None if arguments.test || !arguments.bench => Ok(do_each_a_little()),
        None => count_and_compare(&arguments),
    };
    done.unwrap_or_else(|complaint| {
        eprintln!("{complaint}");
        ExitCode::FAILURE
    })
}

/// In the process that is counted. It prints the one thing that valgrind does not know.
fn do_one(name: &str, count: &str) -> Result<ExitCode, Complaint> {
    let Some(operation) = OPERATIONS.iter().find(|operation| operation.name == name) else {
        return Err(format!("no operation is called {name:?}").into());
    };
    (operation.run)(count.parse()?);
    println!("{}", stand_ins::readings_of_the_clock());
    Ok(ExitCode::SUCCESS)
}

fn do_each_a_little() -> ExitCode {
    for operation in OPERATIONS {
        (operation.run)(operation.count / 10);
    }
    println!("{} operations run; none is counted without --bench", OPERATIONS.len());
    ExitCode::SUCCESS
}

fn count_and_compare(arguments: &Arguments) -> Result<ExitCode, Complaint> {
    let wanted = arguments.only.as_ref().or(arguments.filter.as_ref());
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted.as_str()));
    let setting = Setting::here()?;
    let kept = Kept::read()?;
    let obstacle = if !has_valgrind() {
        Some("there is no valgrind".to_owned())
    } else if arguments.keep {
        None
    } else {
        kept.setting.difference_to(&setting)
    };
    if let Some(obstacle) = obstacle {
        eprintln!("\n!!!!! NOT CHECKED: what the basic operations take: {obstacle} !!!!!");
        eprintln!("To count and to keep the figures of this setting: {HOW_TO_KEEP}\n");
        // Who wants something kept is not to think it was.
        return Ok(if arguments.keep { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let operations: Vec<_> = OPERATIONS.iter().filter(|one| is_wanted(one.name)).collect();
    if operations.is_empty() {
        return Err("no operation has that in its name".into());
    }
    let counted = count_all(&operations)?;
    let complaints = kept.compare(&counted, is_wanted);
    if arguments.keep {
        kept.replace(setting, counted, wanted.is_none())?;
        println!("\nkept in benches/instructions.toml");
        return Ok(ExitCode::SUCCESS);
    }
    if complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nFAILED:");
    complaints.iter().for_each(|complaint| eprintln!("  {complaint}"));
    eprintln!(
        "\nMore than was kept: find out what it is spent on. This shows it by function:\n  \
         valgrind --tool=callgrind {} --run NAME COUNT\n  callgrind_annotate callgrind.out.*\n\
         Less than was kept, or more for a good reason: {HOW_TO_KEEP}\n\
         and say why in the commit.\n",
        env::current_exe()?.display()
    );
    Ok(ExitCode::FAILURE)
}

// ── counting ──

fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// As many at a time as there are processors: unlike times, counts do not mind.
fn count_all(operations: &[&'static Operation]) -> Result<Vec<(String, Figures)>, Complaint> {
    let next = Mutex::new(operations.iter().enumerate());
    let counted = Mutex::new(Vec::new());
    let work = || -> Result<(), Complaint> {
        loop {
            let taken = next.lock().expect("nobody panics with it").next();
            let Some((place, operation)) = taken else { return Ok(()) };
            let figures = count(operation)?;
            counted.lock().expect("nobody panics with it").push((place, figures));
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, |number| number.get());
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it panics nowhere"))
    })?;
    let mut counted = counted.into_inner().expect("nobody panics with it");
    counted.sort_by_key(|(place, _)| *place);
    Ok(counted.into_iter().map(|(at, figures)| (operations[at].name.to_owned(), figures)).collect())
}

/// What one such operation takes.
fn count(operation: &Operation) -> Result<Figures, Complaint> {
    let some = totals(operation.name, operation.count)?;
    let more = totals(operation.name, 2 * operation.count)?;
    Ok(Figures::each(|index| (more[index] - some[index]) / operation.count as f64))
}

/// What the whole process takes that does so many of them.
fn totals(name: &str, count: u64) -> Result<[f64; 3], Complaint> {
    /// For the GNU C library on x86-64; others take no notice.
    const SIMPLE_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX512F,\
                                    -AVX512VL,-ERMS,-SSSE3,-BMI2";
    let output = Command::new("valgrind")
        .env_clear() // it lies where the stack begins
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", SIMPLE_PROCESSOR)
        .args(["--tool=callgrind", "--collect-systime=yes", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--run", name, &count.to_string()])
        .output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    let readings = String::from_utf8_lossy(&output.stdout);
    // "==4711== Collected : 2470480 6138 112", the last of which is the time of system calls.
    let numbers: Vec<_> = log
        .lines()
        .find_map(|line| line.split_once(" Collected : "))
        .map_or("", |(_, numbers)| numbers)
        .split_whitespace()
        .take(2)
        .chain(readings.split_whitespace())
        .filter_map(|number| number.parse().ok())
        .collect();
    match numbers.try_into() {
        Ok(totals) if output.status.success() => Ok(totals),
        _ => {
            let what = format!("{name}: it could not be counted ({})\n{log}", output.status);
            Err(io::Error::other(what).into())
        }
    }
}
