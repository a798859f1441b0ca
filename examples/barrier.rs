//! Runners who wait for each other at the end of every lap.
//!
//! ```text
//! cargo run --example barrier
//! cargo run --example barrier -- --injured-in 3      # and what becomes of the others then
//! ```
//!
//! A `Barrier` opens when all of them have arrived. It makes one of them the leader, who announces
//! the lap. If somebody cannot come any more, the barrier is broken, and everybody learns of it.

#![expect(clippy::print_stdout, reason = "shows who is where")]

use std::fmt;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::sync::{Barrier, BrokenBarrier};

/// Sends four runners around the field.
#[derive(Debug, Parser)]
struct Args {
    /// How many laps they run
    #[arg(long, default_value_t = 4)]
    laps: u32,
    /// In which lap one of them is hurt, and cannot go on
    #[arg(long, value_name = "LAP")]
    injured_in: Option<u32>,
}

fn main() {
    let Args { laps, injured_in } = Args::parse();
    let runner = |name, pace| Runner { name, pace: Duration::from_millis(pace), injured_in: None };
    let runners = [
        runner("Ann", 120),
        Runner { injured_in, ..runner("Bob", 200) },
        runner("Cleo", 80),
        runner("Dan", 160),
    ];

    let start = Instant::now();
    let finished =
        race(&runners, laps, |news| println!("{:4} ms  {news}", start.elapsed().as_millis()));
    match finished.as_slice() {
        [] => println!("nobody has finished"),
        names => println!("{} have finished", names.join(", ")),
    }
}

struct Runner {
    name: &'static str,
    /// How long a lap takes.
    pace: Duration,
    injured_in: Option<u32>,
}

/// What one sees from the stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    Arrives { name: &'static str, lap: u32 },
    LapIsOver(u32),
    IsHurt(&'static str),
    WalksHome(&'static str),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Arrives { name, .. } => write!(f, "{name} is here"),
            News::LapIsOver(lap) => write!(f, "lap {lap} is over"),
            News::IsHurt(name) => write!(f, "{name} is hurt"),
            News::WalksHome(name) => write!(f, "{name} walks home"),
        }
    }
}

/// Lets them all run, and returns who has finished.
fn race(runners: &[Runner], laps: u32, tell: impl Fn(News)) -> Vec<&'static str> {
    let meeting = Barrier::new(runners.len());
    greenloom::scope(|scope| {
        let (meeting, tell) = (&meeting, &tell);
        let running: Vec<_> = runners
            .iter()
            .map(|runner| scope.spawn(move || runner.run(laps, meeting, tell)))
            .collect();
        let ends = running.into_iter().map(|runner| runner.get().expect("runners do not panic"));
        runners.iter().zip(ends).filter(|(_, end)| end.is_ok()).map(|(who, _)| who.name).collect()
    })
}

impl Runner {
    /// All the laps of one runner, if nothing happens to anybody.
    fn run(&self, laps: u32, meeting: &Barrier, tell: impl Fn(News)) -> Result<(), BrokenBarrier> {
        let run_all = || {
            for lap in 1..=laps {
                greenloom::sleep(self.pace);
                if self.injured_in == Some(lap) {
                    tell(News::IsHurt(self.name));
                    meeting.abort(); // or the others would wait for ever
                    return Err(BrokenBarrier);
                }
                tell(News::Arrives { name: self.name, lap });
                if meeting.wait()?.is_leader() {
                    tell(News::LapIsOver(lap));
                }
                // Once more, or fast runners would be off before the announcement.
                meeting.wait()?;
            }
            Ok(())
        };
        run_all().inspect_err(|BrokenBarrier| tell(News::WalksHome(self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    /// Four runners of whom the first is the slowest; `b` may be hurt.
    fn transcript(laps: u32, injured_in: Option<u32>) -> (Vec<&'static str>, Vec<News>) {
        let runners = NAMES.map(|name| Runner {
            name,
            pace: Duration::from_millis(if name == "a" { 2 } else { 0 }),
            injured_in: injured_in.filter(|_| name == "b"),
        });
        let news = RefCell::new(Vec::new());
        let finished = race(&runners, laps, |item| news.borrow_mut().push(item));
        (finished, news.into_inner())
    }

    /// Between two announcements everybody arrives once, and nobody else.
    #[track_caller]
    fn assert_is_lap(news: &[News], lap: u32) {
        let [arrivals @ .., announcement] = news else { panic!("nothing in lap {lap}") };
        assert_eq!(*announcement, News::LapIsOver(lap));
        let mut arrivals = arrivals.to_vec();
        arrivals.sort();
        assert_eq!(arrivals, NAMES.map(|name| News::Arrives { name, lap }));
    }

    #[test]
    fn runs() {
        let (finished, news) = transcript(5, None);
        assert_eq!(finished, NAMES);
        assert_eq!(news.len(), 5 * (NAMES.len() + 1));
        for (news, lap) in news.chunks(NAMES.len() + 1).zip(1..) {
            assert_is_lap(news, lap);
        }
    }

    #[test]
    fn an_injury_ends_it_for_all() {
        let (finished, news) = transcript(5, Some(2));
        assert_eq!(finished, [""; 0]);
        let (first_lap, rest) = news.split_at(NAMES.len() + 1);
        assert_is_lap(first_lap, 1);
        assert!(rest.contains(&News::IsHurt("b")), "{rest:?}");
        assert!(!rest.iter().any(|news| matches!(news, News::LapIsOver(_))), "{rest:?}");
        for name in NAMES {
            assert!(rest.contains(&News::WalksHome(name)), "{name} in {rest:?}");
        }
    }

    #[test]
    fn nobody_runs() {
        assert!(race(&[], 3, |news| panic!("{news}")).is_empty());
    }
}
