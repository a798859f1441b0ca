//! Is the machine quiet? Asked before and after each run.

use std::time::{Duration, Instant};

use super::child::nap;
use crate::machine;
use crate::sample::Sample;

/// A cache line that takes so many times longer than in the quickest moment: the cores are apart.
const SLOW: f64 = 3.0;

/// So much of the cores' time for others, or not given by the host, and a run is disturbed.
const FOREIGN: f64 = 0.12;
const STOLEN: f64 = 0.03;

/// How long a slow spell is waited for, and how long all of them. Some last a minute, and some
/// machines are never quiet; a run in one is marked.
const PATIENCE: Duration = Duration::from_secs(5);
const ALL_PATIENCE: Duration = Duration::from_secs(120);

/// Repeats may take this share of the runs, all told.
const REPEATS: f64 = 0.3;

/// A run is repeated at most so often.
pub(crate) const ATTEMPTS: u32 = 3;

pub(crate) struct Quiet {
    cores: [usize; 2],
    /// Nanoseconds of the best probe so far.
    best: f64,
    repeats_left: u32,
    patience_left: Duration,
}

/// What was seen of the machine while something ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) probe_ns: Option<[f64; 2]>,
    pub(crate) foreign: Option<f64>,
    pub(crate) stolen: Option<f64>,
}

impl Seen {
    /// A load looks for others, too, and only while it counts, not while processes start and end.
    pub(crate) fn or_better(self, sample: &Sample) -> Seen {
        let figure = |name| sample.figures.get(name).copied();
        Seen {
            foreign: figure("foreign_cpu_share").or(self.foreign),
            stolen: figure("stolen_cpu_share").or(self.stolen),
            ..self
        }
    }
}

impl Quiet {
    pub(crate) fn new(cores: [usize; 2], runs: usize) -> Quiet {
        let repeats_left = (runs as f64 * REPEATS).ceil() as u32;
        Quiet { cores, best: f64::INFINITY, repeats_left, patience_left: ALL_PATIENCE }
    }

    /// Does something and looks at the machine before, meanwhile and after. `own`: how much
    /// processor time those have used that were measured, in seconds.
    pub(crate) fn watch<T>(&mut self, work: impl FnOnce() -> T) -> anyhow::Result<(T, Seen)> {
        let before = self.wait();
        let (busy, own) = (machine::Busy::begin(&self.cores)?, children_cpu());
        let result = work();
        let disturbance = busy.end(children_cpu() - own)?;
        let after = self.probe();
        let seen = Seen {
            probe_ns: before.zip(after).map(|(before, after)| [before, after]),
            foreign: Some(disturbance.foreign),
            stolen: Some(disturbance.stolen),
        };
        Ok((result, seen))
    }

    /// Why a run is not to be trusted, if it is not.
    pub(crate) fn noise(&self, seen: &Seen) -> Option<String> {
        noise(seen, self.best)
    }

    /// May it be measured again? Repeats come out of a common purse, so that a machine that is
    /// never quiet does not keep us for ever.
    pub(crate) fn may_repeat(&mut self, attempt: u32) -> bool {
        let may = attempt < ATTEMPTS && self.repeats_left > 0;
        self.repeats_left -= u32::from(may);
        may
    }

    pub(crate) fn best(&self) -> f64 {
        self.best
    }

    /// Until the cores are close to each other again, but not for ever.
    fn wait(&mut self) -> Option<f64> {
        let begun = Instant::now();
        let patience = PATIENCE.min(self.patience_left);
        loop {
            let probe = self.probe()?;
            if !slow(probe, self.best) || begun.elapsed() >= patience {
                self.patience_left = self.patience_left.saturating_sub(begun.elapsed());
                return Some(probe);
            }
            nap(Duration::from_millis(100));
        }
    }

    /// None where there is but one core.
    fn probe(&mut self) -> Option<f64> {
        let [one, other] = self.cores;
        if one == other {
            return None;
        }
        let probe = machine::ping_pong_ns(one, other).ok()?;
        self.best = self.best.min(probe);
        Some(probe)
    }
}

fn slow(probe: f64, best: f64) -> bool {
    probe > SLOW * best
}

/// Also for the end of it all, when the best is known.
pub(crate) fn noise(seen: &Seen, best: f64) -> Option<String> {
    let worst = seen.probe_ns.map(|[before, after]| before.max(after));
    if let Some(worst) = worst.filter(|worst| slow(*worst, best)) {
        return Some(format!("a cache line took {worst:.0} ns, {best:.0} at best"));
    }
    if let Some(share) = seen.stolen.filter(|share| *share > STOLEN) {
        return Some(format!("the host kept {:.0} % of the cores", share * 100.0));
    }
    let share = seen.foreign.filter(|share| *share > FOREIGN)?;
    Some(format!("others used {:.0} % of the cores", share * 100.0))
}

/// Of children that have ended, and theirs; in seconds.
fn children_cpu() -> f64 {
    // SAFETY: all zeros is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes one `rusage` to where a live variable of that type is.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Seen =
        Seen { probe_ns: Some([45.0, 50.0]), foreign: Some(0.02), stolen: Some(0.0) };

    #[test]
    fn slow_spells_and_neighbours_are_noise() {
        assert_eq!(noise(&QUIET, 45.0), None);
        assert!(noise(&Seen { probe_ns: Some([45.0, 400.0]), ..QUIET }, 45.0).is_some());
        assert!(noise(&Seen { probe_ns: Some([400.0, 45.0]), ..QUIET }, 45.0).is_some());
        assert!(noise(&Seen { foreign: Some(0.3), ..QUIET }, 45.0).is_some());
        assert!(noise(&Seen { stolen: Some(0.3), ..QUIET }, 45.0).is_some());
        assert_eq!(noise(&Seen::default(), f64::INFINITY), None);
    }

    #[test]
    fn cores_that_are_always_apart_are_not_noise() {
        assert_eq!(noise(&Seen { probe_ns: Some([420.0, 500.0]), ..QUIET }, 400.0), None);
    }

    #[test]
    fn repeats_are_bounded() {
        let mut quiet = Quiet::new([0, 0], 6);
        assert!(quiet.may_repeat(1));
        assert!(!quiet.may_repeat(ATTEMPTS));
        assert!(quiet.may_repeat(2));
        assert!(!quiet.may_repeat(1), "two of six runs");
    }

    #[test]
    fn children_are_counted() {
        let before = children_cpu();
        let spin = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", spin]).status().unwrap();
        assert!(status.success());
        assert!(children_cpu() > before);
    }
}
