//! What is measured of whom, how often, and in which order.

use crate::peer::Peer;

/// One thing to measure.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// As samples name it: `echo/100x64`.
    pub(crate) measure: String,
    pub(crate) work: Work,
    pub(crate) cast: Vec<Role>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// One process serves, another loads it.
    Network(Load),
    /// One process measures itself.
    Micro,
    /// A server under tools that count.
    Count,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) serve: &'static str,
    pub(crate) load: &'static str,
    pub(crate) connections: u32,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    /// Keeps the cores from idling: a virtual machine gives an idle core back, and gets it again
    /// microseconds later, which with few connections is most of what one would measure.
    pub(crate) awake: bool,
}

/// Who takes part, and in how many of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Role {
    pub(crate) peer: Peer,
    pub(crate) rounds: u32,
}

/// One process to start, or two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) round: u32,
    /// Which of the scenarios.
    pub(crate) scenario: usize,
    pub(crate) peer: Peer,
}

/// Those whose ratios decide: the raw loop stands directly on both sides of each of their runs.
const CLOSE: [Peer; 2] = [Peer::Greenloom, Peer::Tokio];

/// Everything in the order in which it is done: round by round, in each scenario by scenario, in
/// each peer by peer. Each round begins with another scenario and shuffles the peers anew, so that
/// nobody always follows the same one, nor always has the machine's first minute.
pub(crate) fn turns(scenarios: &[Scenario], seed: u64) -> Vec<Turn> {
    let roles = scenarios.iter().flat_map(|scenario| &scenario.cast);
    let rounds = roles.map(|role| role.rounds).max().unwrap_or(0);
    let mut dice = Dice(seed);
    let mut turns = Vec::new();
    for round in 0..rounds {
        for at in 0..scenarios.len() {
            let scenario =
                (at + round as usize * scenarios.len() / rounds as usize) % scenarios.len();
            let peers = peers(&scenarios[scenario], round, rounds, &mut dice);
            turns.extend(peers.into_iter().map(|peer| Turn { round, scenario, peer }));
        }
    }
    turns
}

/// The peers of a scenario in one round, shuffled; with the raw loop between them where it is the
/// reference.
fn peers(scenario: &Scenario, round: u32, rounds: u32, dice: &mut Dice) -> Vec<Peer> {
    let takes_part = |role: &&Role| takes_part(role.rounds, round, rounds);
    let mut peers: Vec<Peer> =
        scenario.cast.iter().filter(takes_part).map(|role| role.peer).collect();
    dice.shuffle(&mut peers);
    let network = matches!(scenario.work, Work::Network(_));
    if !network || !peers.contains(&Peer::Epoll) {
        return peers;
    }
    peers.retain(|peer| *peer != Peer::Epoll);
    let mut order = vec![Peer::Epoll];
    // Others stand two and two: half of the time would else go to the raw loop.
    let mut waiting: Vec<Peer> = Vec::new();
    for peer in peers {
        if CLOSE.contains(&peer) {
            order.extend([peer, Peer::Epoll]);
        } else if let Some(first) = waiting.pop() {
            order.extend([first, peer, Peer::Epoll]);
        } else {
            waiting.push(peer);
        }
    }
    if let Some(last) = waiting.pop() {
        order.extend([last, Peer::Epoll]);
    }
    order
}

/// Spreads fewer rounds evenly among all; the first is always one of them.
fn takes_part(own: u32, round: u32, rounds: u32) -> bool {
    let share = |round: u32| (round * own).div_ceil(rounds.max(1));
    own > 0 && share(round) < share(round + 1)
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(work: Work, cast: &[(Peer, u32)]) -> Scenario {
        let cast = cast.iter().map(|&(peer, rounds)| Role { peer, rounds }).collect();
        Scenario { measure: "x".to_owned(), work, cast }
    }

    fn load() -> Work {
        Work::Network(Load {
            serve: "echo",
            load: "echo",
            connections: 1,
            bytes: 64,
            seconds: 1.0,
            warm_up: 1.0,
            awake: false,
        })
    }

    #[test]
    fn raw_loop_stands_on_both_sides_of_those_that_matter() {
        let cast = Peer::ALL.map(|peer| (peer, 4));
        let scenarios = [scenario(load(), &cast)];
        let turns = turns(&scenarios, 7);
        for round in 0..4 {
            let peers: Vec<Peer> =
                turns.iter().filter(|turn| turn.round == round).map(|turn| turn.peer).collect();
            assert_eq!(peers.first(), Some(&Peer::Epoll));
            assert_eq!(peers.last(), Some(&Peer::Epoll));
            for peer in Peer::ALL {
                assert!(peers.contains(&peer), "{peer:?} is missing in {peers:?}");
            }
            for three in peers.windows(3) {
                if CLOSE.contains(&three[1]) {
                    assert_eq!((three[0], three[2]), (Peer::Epoll, Peer::Epoll), "{peers:?}");
                }
                assert!(three.contains(&Peer::Epoll), "nobody's reference is far: {peers:?}");
            }
        }
    }

    #[test]
    fn rounds_differ_and_the_seed_repeats_them() {
        let cast = Peer::ALL.map(|peer| (peer, 3));
        let scenarios = [scenario(Work::Micro, &cast), scenario(Work::Micro, &cast)];
        let one = turns(&scenarios, 1);
        assert_eq!(one, turns(&scenarios, 1));
        assert_ne!(one, turns(&scenarios, 2));
        let round = |round, scenario| {
            let of =
                one.iter().filter(move |turn| turn.round == round && turn.scenario == scenario);
            of.map(|turn| turn.peer).collect::<Vec<_>>()
        };
        assert_ne!(round(0, 0), round(1, 0));
        assert_eq!(one.len(), 2 * 3 * 8);
        assert_ne!(one[0].scenario, one[2 * 16].scenario, "the third round begins with the other");
    }

    #[test]
    fn fewer_rounds_are_spread() {
        let of = |own, rounds| {
            (0..rounds).filter(|&round| takes_part(own, round, rounds)).collect::<Vec<_>>()
        };
        assert_eq!(of(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(of(1, 5), [0]);
        assert_eq!(of(2, 5), [0, 2]);
        assert_eq!(of(3, 5), [0, 1, 3]);
        assert!(of(0, 5).is_empty());
    }

    #[test]
    fn who_stands_alone_needs_no_reference() {
        let scenarios = [scenario(load(), &[(Peer::Greenloom, 1)])];
        assert_eq!(turns(&scenarios, 1).len(), 1);
        assert!(turns(&[], 1).is_empty());
    }
}
