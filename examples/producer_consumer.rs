//! Two producers fill a shelf and five consumers empty it.
//!
//! ```text
//! cargo run --example producer_consumer
//! ```
//!
//! The shelf is a bounded `Queue`. Who finds it full waits for room, who finds it empty waits for a
//! product, and nobody has to ask whether it is one or the other. When the producers go home the
//! queue is shut down: what is left is still taken, and then every consumer's loop ends.

#![expect(clippy::print_stdout, reason = "the totals are what this program is for")]

use std::cell::Cell;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::queue::Queue;

/// Runs a shop for a day, and counts.
#[derive(Debug, Parser)]
struct Args {
    /// How many products are on the shelf to begin with. It has room for as many
    #[arg(long, value_name = "N", default_value_t = 500)]
    stock: usize,
    /// How many producers there are
    #[arg(long, value_name = "N", default_value_t = 2)]
    producers: usize,
    /// How many products each of them makes
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    each: usize,
    /// How many consumers there are
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one())]
    consumers: usize,
    /// How long a consumer enjoys a product, in microseconds
    #[arg(long, value_name = "US", default_value_t = 500)]
    enjoy: u64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn main() {
    let args = Args::parse();
    let day = run_shop(&args);
    println!("{} products at first and {} made", args.stock, day.made);
    println!("{} on the shelf at most", day.fullest);
    for (number, products) in (1..).zip(&day.consumed) {
        println!("consumer {number} had {}", products.len());
    }
    let total: usize = day.consumed.iter().map(Vec::len).sum();
    println!("{total} in all");
    assert_eq!(total, args.stock + day.made, "nothing is lost and nothing is had twice");
}

/// What has happened in a day.
#[derive(Debug)]
struct Day {
    /// By the producers.
    made: usize,
    /// The most that a producer has seen on the shelf.
    fullest: usize,
    /// The numbers of the products that each consumer had.
    consumed: Vec<Vec<usize>>,
}

fn run_shop(args: &Args) -> Day {
    let shelf: Queue<usize> = Queue::bounded(args.stock);
    for product in 0..args.stock {
        shelf.try_put(product).expect("the shelf has room for these");
    }
    let factory = Factory { next: Cell::new(args.stock), fullest: Cell::new(args.stock) };

    let consumed = greenloom::scope(|scope| {
        let (shelf, factory) = (&shelf, &factory);
        let consumers: Vec<_> = (0..args.consumers)
            .map(|_| scope.spawn(|| consume(shelf, Duration::from_micros(args.enjoy))))
            .collect();
        let producers: Vec<_> = (0..args.producers)
            .map(|_| scope.spawn(|| factory.produce(args.each, shelf)))
            .collect();
        for producer in producers {
            producer.join();
        }
        shelf.shutdown();
        consumers.into_iter().map(|consumer| consumer.get().expect("nobody kills it")).collect()
    });

    Day { made: factory.next.get() - args.stock, fullest: factory.fullest.get(), consumed }
}

/// What the producers have in common.
struct Factory {
    /// The number of the next product.
    next: Cell<usize>,
    fullest: Cell<usize>,
}

impl Factory {
    /// One producer.
    fn produce(&self, count: usize, shelf: &Queue<usize>) {
        for _ in 0..count {
            let product = self.next.get();
            self.next.set(product + 1);
            shelf.put(product).expect("the shop is open while producers work");
            self.fullest.set(self.fullest.get().max(shelf.len()));
        }
    }
}

/// One consumer, who returns what it had.
fn consume(shelf: &Queue<usize>, enjoy: Duration) -> Vec<usize> {
    let mut had = Vec::new();
    for product in shelf {
        had.push(product);
        greenloom::sleep(enjoy);
    }
    had
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shop where a product is gone in no time.
    fn shop(stock: usize, producers: usize, each: usize, consumers: usize) -> Day {
        run_shop(&Args { stock, producers, each, consumers, enjoy: 0 })
    }

    /// Every product was had once.
    #[track_caller]
    fn assert_adds_up(day: &Day, total: usize) {
        let mut products = day.consumed.concat();
        products.sort_unstable();
        assert!(products.iter().copied().eq(0..total), "{} of {total}", products.len());
    }

    #[test]
    fn runs() {
        let day = shop(500, 2, 1_000, 5);
        assert_eq!(day.made, 2_000);
        assert_adds_up(&day, 2_500);
        assert_eq!(day.fullest, 500, "it was full, and never more than that");
        assert_eq!(day.consumed.len(), 5);
        assert!(day.consumed.iter().all(|products| !products.is_empty()), "{day:?}");
    }

    #[test]
    fn what_is_left_at_the_end_is_still_taken() {
        assert_adds_up(&shop(500, 0, 0, 5), 500);
        assert_adds_up(&shop(500, 2, 1, 1), 502);
    }

    /// A shelf without room: products go from hand to hand.
    #[test]
    fn from_hand_to_hand() {
        let day = shop(0, 2, 100, 5);
        assert_adds_up(&day, 200);
        assert_eq!(day.fullest, 0);
    }
}
