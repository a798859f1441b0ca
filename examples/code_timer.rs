//! A door with a code that changes every few seconds, until somebody types it in time.
//!
//! ```text
//! cargo run --example code_timer
//! cargo run --example code_timer -- --renew-every 500
//! ```
//!
//! `Timer::every` renews the code beside everything else that goes on; the right code cancels it.

#![expect(clippy::print_stdout, reason = "shows the code and what is typed")]

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::sync::Timer;

/// Shows codes until the visitor is quick enough.
#[derive(Debug, Parser)]
struct Args {
    /// How long a code is good, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    renew_every: u64,
}

fn main() {
    let Args { renew_every } = Args::parse();
    let start = Instant::now();
    visit(Duration::from_millis(renew_every), move |news| {
        println!("{:5} ms  {news}", start.elapsed().as_millis());
    });
}

/// What the visitor sees and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Shows(Code),
    Types(Code),
    StaysShut,
    Opens,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Shows(code) => write!(f, "the code is {code}"),
            News::Types(code) => write!(f, "    the visitor types {code}"),
            News::StaysShut => f.write_str("    and it is wrong"),
            News::Opens => f.write_str("    and the door opens"),
        }
    }
}

/// A visitor who is slow at first: by the time the code is typed, there is another.
fn visit(period: Duration, tell: impl Fn(News) + Clone + 'static) {
    let door = Door::locked(period, {
        let tell = tell.clone();
        move |code| tell(News::Shows(code))
    });
    let type_in = |code| {
        tell(News::Types(code));
        tell(if door.try_open(code) { News::Opens } else { News::StaysShut });
    };

    let read = door.shown();
    while door.shown() == read {
        greenloom::sleep(period / 3);
    }
    type_in(read);

    greenloom::sleep(period / 3);
    type_in(door.shown());

    // From now on nothing happens.
    greenloom::sleep(period * 2);
}

/// A door that shows its code, and another one after each period.
struct Door {
    code: Rc<Cell<Code>>,
    renewal: Timer,
}

impl Door {
    /// `show` is called with every new code, the first included.
    fn locked(period: Duration, show: impl Fn(Code) + 'static) -> Door {
        let code = Rc::new(Cell::new(Code::random()));
        show(code.get());
        let renewal = Timer::every(period, {
            let code = code.clone();
            move || {
                code.set(code.get().next());
                show(code.get());
            }
        });
        Door { code, renewal }
    }

    fn shown(&self) -> Code {
        self.code.get()
    }

    /// The right code opens the door, and it is not renewed any more.
    fn try_open(&self, typed: Code) -> bool {
        let right = typed == self.shown();
        if right {
            self.renewal.cancel();
        }
        right
    }
}

/// A timer goes on when its handle is dropped, because handles come and go. The door does not.
impl Drop for Door {
    fn drop(&mut self) {
        self.renewal.cancel();
    }
}

/// Six digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code(u32);

impl Code {
    const COUNT: u32 = 1_000_000;

    /// As random as the keys of std's hash maps.
    fn random() -> Code {
        Code((RandomState::new().hash_one(()) % u64::from(Code::COUNT)) as u32)
    }

    /// Looks like any other, but the same one comes back only after all the others: a code that is
    /// over will not be right by chance.
    fn next(self) -> Code {
        Code((self.0 + 618_033) % Code::COUNT)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn transcript(period: Duration) -> Vec<News> {
        let all = Rc::new(RefCell::new(Vec::new()));
        let log = all.clone();
        visit(period, move |news| log.borrow_mut().push(news));
        all.take()
    }

    #[test]
    fn runs() {
        let all = transcript(Duration::from_millis(3));
        let mut shown = None;
        let mut verdicts = Vec::new();
        for pair in all.windows(2) {
            match *pair {
                [News::Shows(code), _] => shown = Some(code),
                [News::Types(code), verdict] => {
                    let right = shown == Some(code);
                    assert_eq!(verdict, if right { News::Opens } else { News::StaysShut });
                    verdicts.push(verdict);
                }
                _ => {}
            }
        }
        assert_eq!(verdicts, [News::StaysShut, News::Opens]);
        assert_eq!(all.last(), Some(&News::Opens), "the code is not renewed any more");
    }

    #[test]
    fn a_new_code_every_period_and_none_when_it_is_open() {
        let count = Rc::new(Cell::new(0));
        let door = Door::locked(Duration::from_millis(1), {
            let count = count.clone();
            move |_| count.set(count.get() + 1)
        });
        while count.get() < 4 {
            greenloom::sleep(Duration::from_millis(1));
        }
        assert!(!door.try_open(door.shown().next()));
        assert!(door.try_open(door.shown()));
        assert!(door.renewal.is_finished());
        let last = count.get();
        greenloom::sleep(Duration::from_millis(5));
        assert_eq!(count.get(), last);
        assert!(door.try_open(door.shown()), "it stays open");
    }

    #[test]
    fn a_door_that_is_gone_shows_nothing() {
        let count = Rc::new(Cell::new(0));
        let counter = count.clone();
        drop(Door::locked(Duration::from_millis(1), move |_| counter.set(counter.get() + 1)));
        greenloom::sleep(Duration::from_millis(5));
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn no_code_comes_twice() {
        let mut seen = vec![false; Code::COUNT as usize];
        let mut code = Code::random();
        for _ in 0..Code::COUNT {
            assert!(!std::mem::replace(&mut seen[code.0 as usize], true), "{code}");
            code = code.next();
        }
    }
}
