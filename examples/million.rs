//! A million greenlets, all waiting at the same time, and what each of them costs.
//!
//! ```text
//! cargo run --release --example million              # or as many as you say: -- 10000
//! ```
//!
//! Half of them wait for a gate to open and finish when it does. The others sleep until they are
//! killed. Each carries luggage whose destructor counts: at the end all of it must be there, so no
//! stack was merely thrown away.

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::Greenlet;
use indicatif::{HumanBytes, HumanCount};

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Parks many greenlets at once and prints what each of them costs.
#[derive(Debug, Parser)]
struct Args {
    /// How many
    #[arg(default_value_t = 1_000_000)]
    greenlets: usize,
}

fn main() {
    let Args { greenlets } = Args::parse();

    let crowd = Crowd::gather(greenlets);
    println!("{}", crowd.census);

    let start = Instant::now();
    let farewell = crowd.disperse();
    println!(
        "{} finished, {} killed, {} run, in {:.2?}",
        HumanCount(farewell.finished as u64),
        HumanCount(farewell.killed as u64),
        counted(farewell.destructors_run, "destructor"),
        start.elapsed(),
    );
    assert_eq!(farewell, Farewell::proper(greenlets), "somebody was left behind");
}

/// "1 greenlet", "2 greenlets", "1,000 greenlets".
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", HumanCount(count as u64))
}

/// Many parked greenlets.
struct Crowd {
    gate: Rc<Greenlet<()>>,
    at_the_gate: Vec<Greenlet<()>>,
    asleep: Vec<Greenlet<()>>,
    destructors_run: Rc<Cell<usize>>,
    census: Census,
}

impl Crowd {
    /// Spawns `count` greenlets and returns when every one of them waits.
    fn gather(count: usize) -> Crowd {
        let gate = Rc::new(greenloom::spawn(|| greenloom::sleep(A_DAY)));
        greenloom::idle();

        // From here on, so that what the thread needs for its first greenlet is not part of it.
        let before = Memory::now();
        let start = Instant::now();
        let destructors_run = Rc::new(Cell::new(0));
        let mut at_the_gate = Vec::new();
        let mut asleep = Vec::new();
        for index in 0..count {
            let luggage = Luggage(destructors_run.clone());
            if index % 2 == 0 {
                let gate = gate.clone();
                at_the_gate.push(greenloom::spawn(move || {
                    let _luggage = luggage;
                    gate.join();
                }));
            } else {
                asleep.push(greenloom::spawn(move || {
                    let _luggage = luggage;
                    greenloom::sleep(A_DAY);
                }));
            }
        }
        greenloom::idle();

        let took = start.elapsed();
        assert!(at_the_gate.iter().chain(&asleep).all(|greenlet| greenlet.is_started()));
        assert_eq!(destructors_run.get(), 0, "nobody leaves before the count");
        let memory = before.zip(Memory::now());
        let census = Census { count, took, memory };
        Crowd { gate, at_the_gate, asleep, destructors_run, census }
    }

    /// Opens the gate and kills the sleepers; returns when all have ended.
    fn disperse(self) -> Farewell {
        self.gate.kill();
        greenloom::joinall(&self.at_the_gate);
        greenloom::killall(&self.asleep);

        let (mut finished, mut killed) = (0, 0);
        for greenlet in self.at_the_gate.into_iter().chain(self.asleep) {
            match greenlet.get() {
                Ok(()) => finished += 1,
                Err(error) => killed += usize::from(error.is_killed()),
            }
        }
        Farewell { finished, killed, destructors_run: self.destructors_run.get() }
    }
}

/// What every greenlet carries. It is put down only when the greenlet's stack is unwound.
struct Luggage(Rc<Cell<usize>>);

impl Drop for Luggage {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// How the greenlets of a crowd ended.
#[derive(Debug, PartialEq)]
struct Farewell {
    finished: usize,
    killed: usize,
    destructors_run: usize,
}

impl Farewell {
    /// How `count` of them should.
    fn proper(count: usize) -> Farewell {
        let killed = count / 2;
        Farewell { finished: count - killed, killed, destructors_run: count }
    }
}

/// What it took to gather a crowd.
#[derive(Debug)]
struct Census {
    count: usize,
    took: Duration,
    /// Before and with the crowd.
    memory: Option<(Memory, Memory)>,
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census { count, took, memory } = self;
        write!(f, "{}", counted(*count, "greenlet"))?;
        match count {
            0 => return Ok(()), // and what each of them costs nobody can say
            1 => writeln!(f, ", waiting")?,
            _ => writeln!(f, ", all waiting at once")?,
        }
        let count = *count as f64;
        write!(f, "time to spawn    {took:.2?}, {:.2?} each", took.div_f64(count))?;
        let Some((before, with)) = memory else {
            return write!(f, "\nmemory           this system does not say");
        };
        let resident = with.resident.saturating_sub(before.resident);
        let page_tables = with.page_tables.saturating_sub(before.page_tables);
        for (what, bytes) in [
            ("resident memory", resident),
            ("page tables", page_tables),
            ("both", resident + page_tables),
        ] {
            let each = bytes as f64 / count / 1024.0;
            write!(f, "\n{what:<16} {}, {each:.2} KiB each", HumanBytes(bytes))?;
        }
        write!(f, "\nmemory maps      {} (before: {})", with.maps, before.maps)
    }
}

/// What the kernel says about the memory of this process.
#[derive(Debug)]
struct Memory {
    /// Bytes.
    resident: u64,
    /// Bytes.
    page_tables: u64,
    /// Mapped regions, of which the kernel allows only so many.
    maps: usize,
}

impl Memory {
    /// `None` where there is no Linux to ask.
    fn now() -> Option<Memory> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let bytes = |field: &str| -> Option<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(field))?;
            let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib * 1024)
        };
        Some(Memory {
            resident: bytes("VmRSS:")?,
            page_tables: bytes("VmPTE:")?,
            maps: fs::read_to_string("/proc/self/maps").ok()?.lines().count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs() {
        let crowd = Crowd::gather(10_000);
        assert!(crowd.census.to_string().starts_with("10,000 greenlets"));
        assert_eq!(crowd.disperse(), Farewell::proper(10_000));
    }

    #[test]
    fn a_crowd_of_nobody() {
        let crowd = Crowd::gather(0);
        assert_eq!(crowd.census.to_string(), "0 greenlets");
        assert_eq!(crowd.disperse(), Farewell::proper(0));
    }

    #[test]
    fn a_crowd_of_one() {
        let crowd = Crowd::gather(1);
        assert!(crowd.census.to_string().starts_with("1 greenlet, waiting\n"));
        assert_eq!(crowd.disperse(), Farewell::proper(1));
    }
}
