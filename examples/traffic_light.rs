//! A traffic light: cars that come while it is red wait for green, and then all go at once.
//!
//! ```text
//! cargo run --example traffic_light
//! ```
//!
//! The light is an `Event`. While it is set, `wait` returns at once; while it is clear, whoever
//! waits for it waits until it is set the next time.

#![expect(clippy::print_stdout, reason = "shows what happens at the crossing")]

use std::fmt;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::sync::Event;

/// Lets cars over a crossing.
#[derive(Debug, Parser)]
struct Args {
    /// How many cars come
    #[arg(long, default_value_t = 9)]
    cars: u32,
    /// How long the light is red, and how long it is green, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 300)]
    phase: u32,
}

fn main() {
    let Args { cars, phase } = Args::parse();
    let start = Instant::now();
    let tell = |sight: Sight| println!("{:5} ms  {sight}", start.elapsed().as_millis());
    watch(cars, Duration::from_millis(phase.into()), tell);
}

/// What one sees at the crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Red,
    Green,
    Arrives(u32),
    Crosses(u32),
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sight::Red => f.write_str("the light is red"),
            Sight::Green => f.write_str("the light is green"),
            Sight::Arrives(car) => write!(f, "    car {car} arrives"),
            Sight::Crosses(car) => write!(f, "    car {car} crosses"),
        }
    }
}

/// Runs the light until every car is on the other side.
fn watch(cars: u32, phase: Duration, tell: impl Fn(Sight)) {
    let green = Event::new();
    greenloom::scope(|scope| {
        let (green, tell) = (&green, &tell);
        let light = scope.spawn(move || change_for_ever(green, phase, tell));
        let cars: Vec<_> = (1..=cars)
            .map(|car| {
                scope.spawn(move || {
                    greenloom::sleep(phase * car * 2 / 5); // five come in two phases
                    tell(Sight::Arrives(car));
                    green.wait();
                    tell(Sight::Crosses(car));
                })
            })
            .collect();
        for car in cars {
            car.join();
        }
        light.kill();
    });
}

/// Red, green, red, green. Ends by being killed, like everything that goes on for ever.
fn change_for_ever(green: &Event, phase: Duration, tell: impl Fn(Sight)) {
    loop {
        tell(Sight::Red);
        green.clear();
        greenloom::sleep(phase);
        tell(Sight::Green);
        green.set();
        greenloom::sleep(phase);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn transcript(cars: u32, phase: Duration) -> Vec<Sight> {
        let sights = RefCell::new(Vec::new());
        watch(cars, phase, |sight| sights.borrow_mut().push(sight));
        sights.into_inner()
    }

    /// Where the only such sight is.
    #[track_caller]
    fn place_of(sight: Sight, sights: &[Sight]) -> usize {
        let places: Vec<_> = (0..sights.len()).filter(|&at| sights[at] == sight).collect();
        let [place] = *places else { panic!("{sight:?} {} times", places.len()) };
        place
    }

    /// The light before the sight at `place`.
    fn light_at(place: usize, sights: &[Sight]) -> Sight {
        let is_light = |sight: &&Sight| matches!(sight, Sight::Red | Sight::Green);
        *sights[..place].iter().rfind(is_light).unwrap_or(&Sight::Red)
    }

    /// It was green when the car came, or has become so before it went.
    #[track_caller]
    fn assert_saw_green(car: u32, sights: &[Sight]) {
        let arrival = place_of(Sight::Arrives(car), sights);
        let crossing = place_of(Sight::Crosses(car), sights);
        assert!(arrival < crossing, "{sights:?}");
        let meanwhile = &sights[arrival..crossing];
        let saw_green =
            light_at(arrival, sights) == Sight::Green || meanwhile.contains(&Sight::Green);
        assert!(saw_green, "car {car}: {sights:?}");
    }

    #[test]
    fn runs() {
        let sights = transcript(9, Duration::from_millis(5));
        for car in 1..=9 {
            assert_saw_green(car, &sights);
        }
        let lights: Vec<_> =
            sights.iter().filter(|sight| matches!(sight, Sight::Red | Sight::Green)).collect();
        for (index, light) in lights.into_iter().enumerate() {
            assert_eq!(*light, [Sight::Red, Sight::Green][index % 2]);
        }
    }

    /// The light is red for an hour, as far as the first car is concerned.
    #[test]
    fn nobody_crosses_at_red() {
        let crossed = RefCell::new(0);
        let hour = Duration::from_secs(3600);
        let green = Event::new();
        greenloom::scope(|scope| {
            let light = scope.spawn(|| change_for_ever(&green, hour, |_| ()));
            let car = scope.spawn(|| {
                green.wait();
                *crossed.borrow_mut() += 1;
            });
            greenloom::idle();
            assert_eq!(*crossed.borrow(), 0);
            green.set();
            car.join();
            assert_eq!(*crossed.borrow(), 1);
            light.kill();
        });
    }

    #[test]
    fn no_cars() {
        assert!(!transcript(0, Duration::from_millis(1)).contains(&Sight::Crosses(1)));
    }
}
