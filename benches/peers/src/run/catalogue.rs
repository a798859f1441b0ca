//! What there is to measure, and how much time each is worth.

use serde::Deserialize;

use super::plan::{Load, Role, Scenario, Work};
use crate::peer::Peer;

/// A line of `peers micro --list`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) measure: String,
    pub(crate) peer: Peer,
    #[serde(default)]
    pub(crate) not_measured: Option<String>,
}

/// What whoever called us wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) quick: bool,
    /// Empty: all. Else names of measures, or what they begin with up to a slash.
    pub(crate) only: Vec<String>,
    pub(crate) peers: Vec<Peer>,
}

pub(crate) const COUNT: &str = "count/100x64";

/// How often who takes part.
#[derive(Clone, Copy)]
struct Share {
    /// greenloom and those that it has to be held against.
    main: f64,
    others: f64,
}

const EVERY: Share = Share { main: 1.0, others: 0.4 };
const MOST: Share = Share { main: 0.6, others: 0.2 };
const FEW: Share = Share { main: 0.4, others: 0.2 };
const ONCE: Share = Share { main: 0.2, others: 0.2 };

pub(crate) fn scenarios(wish: &Wish, listed: &[Listed]) -> Vec<Scenario> {
    let mut all = network(wish);
    all.extend(micro(wish, listed));
    let counted =
        if wish.quick { &[Peer::Greenloom, Peer::Epoll, Peer::Tokio][..] } else { &Peer::ALL };
    let cast = wish.cast(ONCE, Peer::Tokio, |peer| counted.contains(&peer));
    all.push(Scenario { measure: COUNT.to_owned(), work: Work::Count, cast });
    all.retain(|scenario| wish.wants(&scenario.measure) && !scenario.cast.is_empty());
    all
}

fn network(wish: &Wish) -> Vec<Scenario> {
    let warm_up = (wish.seconds / 4.0).clamp(0.2, 1.0);
    let scenario = |measure: &str, serve, load, connections, bytes, share| {
        let awake = load == "echo" && connections < 100;
        let seconds = wish.seconds;
        let work = Load { serve, load, connections, bytes, seconds, warm_up, awake };
        let mut cast = wish.cast(share, Peer::Tokio, |_| true);
        // The reference is always there, as often as anybody.
        let most = cast.iter().map(|role| role.rounds).max().unwrap_or(0);
        cast.retain(|role| role.peer != Peer::Epoll);
        if most > 0 {
            cast.push(Role { peer: Peer::Epoll, rounds: most });
        }
        Scenario { measure: measure.to_owned(), work: Work::Network(work), cast }
    };
    vec![
        scenario("echo/1x64", "echo", "echo", 1, 64, EVERY),
        scenario("echo/10x64", "echo", "echo", 10, 64, ONCE),
        scenario("echo/100x64", "echo", "echo", 100, 64, EVERY),
        scenario("echo/1000x64", "echo", "echo", 1_000, 64, EVERY),
        scenario("echo/8000x64", "echo", "echo", 8_000, 64, EVERY),
        scenario("echo/100x16384", "echo", "echo", 100, 16_384, EVERY),
        scenario("stream/1x1073741824", "sink", "stream", 1, 1 << 30, MOST),
        scenario("connect/10x64", "echo", "connect", 10, 64, FEW),
        scenario("connections/8000", "idle", "idle", 8_000, 64, ONCE),
    ]
}

fn micro(wish: &Wish, listed: &[Listed]) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for line in listed {
        if scenarios.last().is_none_or(|last| last.measure != line.measure) {
            let can = |peer| {
                let mut lines = listed.iter();
                lines.any(|other| {
                    other.measure == line.measure
                        && other.peer == peer
                        && other.not_measured.is_none()
                })
            };
            let (family, n) = line.measure.split_once('/').unwrap_or((&line.measure, "0"));
            let n: u64 = n.parse().unwrap_or(0);
            if wish.quick && n > 100_000 {
                continue;
            }
            let share = match family {
                // What costs seconds each, and what is the same each time.
                "timers" | "timer_cost" | "map" => MOST,
                "idle" => FEW,
                _ => EVERY,
            };
            let cast = wish.cast(share, Peer::May, can);
            scenarios.push(Scenario { measure: line.measure.clone(), work: Work::Micro, cast });
        }
    }
    scenarios
}

impl Wish {
    /// `last`: the last one of those that matter most.
    fn cast(&self, share: Share, last: Peer, can: impl Fn(Peer) -> bool) -> Vec<Role> {
        let rounds = |share: f64| ((f64::from(self.rounds) * share).round() as u32).max(1);
        let peers = self.peers.iter().filter(|peer| can(**peer));
        let role = |&peer: &Peer| {
            let main = peer <= last;
            Role { peer, rounds: rounds(if main { share.main } else { share.others }) }
        };
        peers.map(role).collect()
    }

    fn wants(&self, measure: &str) -> bool {
        let named = |name: &String| {
            measure
                .strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.only.is_empty() || self.only.iter().any(named)
    }
}

/// What peers cannot do, a line for each reason.
pub(crate) fn remarks(wish: &Wish, listed: &[Listed]) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    let missing = listed.iter().filter(|line| {
        // The raw loop has no tasks and is not expected to.
        line.peer != Peer::Epoll && wish.peers.contains(&line.peer) && wish.wants(&line.measure)
    });
    for line in missing {
        let Some(why) = &line.not_measured else { continue };
        let reason = format!("{}: {why}", line.peer.name());
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, measures)) => measures.push(&line.measure),
            None => reasons.push((reason, vec![&line.measure])),
        }
    }
    let line = |(reason, measures): (String, Vec<&str>)| {
        format!("not measured: {} ({})", reason, measures.join(", "))
    };
    reasons.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(only: &[&str]) -> Wish {
        Wish {
            rounds: 5,
            seconds: 1.0,
            quick: false,
            only: only.iter().map(|&name| name.to_owned()).collect(),
            peers: vec![Peer::Greenloom, Peer::Tokio, Peer::Smol],
        }
    }

    fn listed(measure: &str, peer: Peer, why: Option<&str>) -> Listed {
        Listed { measure: measure.to_owned(), peer, not_measured: why.map(str::to_owned) }
    }

    #[test]
    fn names_are_whole_words() {
        let wish = wish(&["echo", "switch/2"]);
        assert!(wish.wants("echo/1x64") && wish.wants("switch/2"));
        assert!(!wish.wants("echoes") && !wish.wants("switch/20") && !wish.wants("switch"));
    }

    #[test]
    fn raw_loop_takes_part_unasked_where_it_is_the_reference() {
        let scenarios = scenarios(&wish(&["echo/100x64"]), &[]);
        let [scenario] = &scenarios[..] else { panic!("{scenarios:?}") };
        let rounds =
            |peer| scenario.cast.iter().find(|role| role.peer == peer).map(|role| role.rounds);
        assert_eq!(
            [Peer::Greenloom, Peer::Epoll, Peer::Smol].map(rounds),
            [Some(5), Some(5), Some(2)]
        );
        assert_eq!(rounds(Peer::Go), None);
    }

    #[test]
    fn who_cannot_is_left_out_and_named() {
        let listed = [
            listed("switch/2", Peer::Greenloom, None),
            listed("switch/2", Peer::Epoll, Some("has no tasks")),
            listed("switch/2", Peer::Smol, Some("is asleep")),
            listed("switch/1000", Peer::Greenloom, None),
            listed("switch/1000", Peer::Smol, Some("is asleep")),
        ];
        let wish = wish(&["switch"]);
        let scenarios = scenarios(&wish, &listed);
        assert_eq!(scenarios.len(), 2);
        assert!(scenarios.iter().all(|scenario| scenario.cast.len() == 1));
        let remarks = remarks(&wish, &listed);
        assert_eq!(remarks, ["not measured: smol: is asleep (switch/2, switch/1000)"]);
    }
}
