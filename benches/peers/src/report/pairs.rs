//! Ratios, always of runs that stood beside each other.
//!
//! A machine's speed changes within a minute, so a figure is held against figures of the same
//! round only. Where the raw epoll loop was measured, it ran just before and just after each run:
//! the mean of the two is the run's reference, and two peers are compared by their ratios to it.
//! Ratios of medians over all rounds were rejected: a slow minute that hit one of the two would
//! stand in them for ever. A run that was disturbed and counts nevertheless is held against others
//! that were, if there are any: in a slow spell all are slow.

use std::collections::BTreeMap;

use super::Run;
use super::stats::median;
use crate::peer::Peer;

/// Figures of one peer, one a run.
pub(crate) fn values(runs: &[Run], measure: &str, peer: Peer, figure: &str) -> Vec<f64> {
    let of = runs.iter().filter(|run| run.used() && run.is_of(measure, peer));
    of.filter_map(|run| run.figure(figure)).collect()
}

/// `peer`'s figure in that of `other`, one ratio a round (epoll to epoll: one a run).
pub(crate) fn ratios(
    runs: &[Run],
    measure: &str,
    figure: &str,
    peer: Peer,
    other: Peer,
) -> Vec<f64> {
    let through_epoll = !values(runs, measure, Peer::Epoll, figure).is_empty();
    if other == Peer::Epoll {
        return to_epoll(runs, measure, figure, peer).into_iter().map(|(_, ratio)| ratio).collect();
    }
    let by_round = |peer| {
        let found = if through_epoll {
            to_epoll(runs, measure, figure, peer)
        } else {
            by_round(runs, measure, figure, peer)
        };
        let mut rounds = BTreeMap::<u32, Vec<f64>>::new();
        for (round, value) in found {
            rounds.entry(round).or_default().push(value);
        }
        rounds
    };
    let others = by_round(other);
    let pair =
        |(round, mine): (u32, Vec<f64>)| quotient(median(&mine)?, median(others.get(&round)?)?);
    by_round(peer).into_iter().filter_map(pair).collect()
}

fn by_round(runs: &[Run], measure: &str, figure: &str, peer: Peer) -> Vec<(u32, f64)> {
    let of = runs.iter().filter(|run| run.used() && run.is_of(measure, peer));
    of.filter_map(|run| Some((run.round, run.figure(figure)?))).collect()
}

/// With the round of each.
fn to_epoll(runs: &[Run], measure: &str, figure: &str, peer: Peer) -> Vec<(u32, f64)> {
    let ratio = |(at, run): (usize, &Run)| {
        let value = run.figure(figure)?;
        Some((run.round, quotient(value, reference(runs, at, figure)?)?))
    };
    let of = runs.iter().enumerate().filter(|(_, run)| run.used() && run.is_of(measure, peer));
    of.filter_map(ratio).collect()
}

/// The raw loop's figure beside a run: the mean of the last one before and the first one after
/// that count, of the same measure and round; of those that were disturbed like it, or else of all.
fn reference(runs: &[Run], at: usize, figure: &str) -> Option<f64> {
    let run = &runs[at];
    let neighbours = |alike: bool| {
        let value = |other: &Run| {
            let beside = other.round == run.round
                && other.is_of(&run.sample.measure, Peer::Epoll)
                && other.used()
                && (!alike || other.noise.is_some() == run.noise.is_some());
            if beside { other.figure(figure) } else { None }
        };
        let before = runs[..at].iter().rev().find_map(value);
        let after = runs[at + 1..].iter().find_map(value);
        match (before, after) {
            (Some(before), Some(after)) => Some((before + after) / 2.0),
            (one, None) | (None, one) => one,
        }
    };
    neighbours(true).or_else(|| neighbours(false))
}

fn quotient(value: f64, reference: f64) -> Option<f64> {
    let quotient = value / reference;
    quotient.is_finite().then_some(quotient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn run(peer: Peer, round: u32, x: f64) -> Run {
        Run::new(Sample::new("echo/100x64", peer).with("x", x), round)
    }

    fn ratios_of(runs: &[Run], peer: Peer, other: Peer) -> Vec<f64> {
        ratios(runs, "echo/100x64", "x", peer, other)
    }

    #[test]
    fn reference_is_the_mean_of_the_neighbours_of_the_round() {
        let runs = [
            run(Peer::Epoll, 0, 1000.0),
            run(Peer::Epoll, 1, 100.0),
            run(Peer::Greenloom, 1, 75.0),
            run(Peer::Epoll, 1, 200.0),
            run(Peer::Tokio, 1, 75.0),
            run(Peer::Epoll, 2, 1.0),
        ];
        assert_eq!(ratios_of(&runs, Peer::Greenloom, Peer::Epoll), [0.5]);
        // Nobody stands behind tokio in its round.
        assert_eq!(ratios_of(&runs, Peer::Tokio, Peer::Epoll), [0.375]);
        assert_eq!(ratios_of(&runs, Peer::Greenloom, Peer::Tokio), [0.5 / 0.375]);
    }

    #[test]
    fn dropped_and_failed_runs_are_no_reference() {
        let mut runs = [
            run(Peer::Epoll, 0, 100.0),
            run(Peer::Epoll, 0, 5.0),
            run(Peer::Greenloom, 0, 50.0),
            run(Peer::Epoll, 0, 7.0),
            run(Peer::Epoll, 0, 300.0),
        ];
        runs[1].dropped = true;
        runs[3].error = Some("no".to_owned());
        assert_eq!(ratios_of(&runs, Peer::Greenloom, Peer::Epoll), [0.25]);
        runs[2].dropped = true;
        assert!(ratios_of(&runs, Peer::Greenloom, Peer::Epoll).is_empty());
    }

    #[test]
    fn disturbed_runs_are_held_against_disturbed_ones() {
        let mut runs = [
            run(Peer::Epoll, 0, 50.0),
            run(Peer::Epoll, 0, 100.0),
            run(Peer::Greenloom, 0, 25.0),
            run(Peer::Epoll, 0, 100.0),
        ];
        for at in [0, 2] {
            runs[at].noise = Some("slow".to_owned());
        }
        assert_eq!(ratios_of(&runs, Peer::Greenloom, Peer::Epoll), [0.5]);
        runs[0].noise = None;
        assert_eq!(ratios_of(&runs, Peer::Greenloom, Peer::Epoll), [0.25], "there is no such");
    }

    #[test]
    fn epoll_beside_epoll_shows_the_noise() {
        let runs =
            [run(Peer::Epoll, 0, 100.0), run(Peer::Epoll, 0, 110.0), run(Peer::Epoll, 0, 100.0)];
        assert_eq!(ratios_of(&runs, Peer::Epoll, Peer::Epoll), [100.0 / 110.0, 1.1, 100.0 / 110.0]);
    }

    #[test]
    fn without_epoll_rounds_are_paired() {
        let runs = [
            run(Peer::Greenloom, 0, 2.0),
            run(Peer::May, 0, 4.0),
            run(Peer::Greenloom, 1, 30.0),
            run(Peer::May, 2, 1.0),
        ];
        assert_eq!(ratios_of(&runs, Peer::Greenloom, Peer::May), [0.5]);
        assert!(ratios_of(&runs, Peer::Greenloom, Peer::Epoll).is_empty());
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let runs = [run(Peer::Greenloom, 0, 1.0), run(Peer::Tokio, 0, 0.0)];
        assert!(ratios_of(&runs, Peer::Greenloom, Peer::Tokio).is_empty());
    }
}
