//! Two coroutines that play ball, each by naming the other: the switch beneath all greenlets.
//!
//! `opponent.switch(ball)` stops the caller where it stands and runs the opponent, whose own
//! pending `switch` returns the ball. No scheduler has a say in it.

#![expect(clippy::print_stdout, reason = "shows who has the ball")]

use std::rc::Rc;

use greenloom::raw::Coroutine;

fn main() {
    let ball = rally(Rc::new(Game {
        strokes: 6,
        umpire: Box::new(|player, stroke| println!("{stroke} {player}")),
    }));
    println!("game over after {ball} strokes");
}

/// Plays a game with a ball that counts its strokes, and returns the ball.
fn rally(game: Rc<Game>) -> u32 {
    let ping = Coroutine::new(move |ball| {
        let ping = Coroutine::current();
        let same_game = game.clone();
        let pong = Coroutine::new(move |ball| same_game.play("pong", &ping, ball));
        game.play("ping", &pong, ball)
    });
    ping.switch(0)
}

struct Game {
    strokes: u32,
    /// Told at each stroke whose it was and which.
    umpire: Box<dyn Fn(&'static str, u32)>,
}

impl Game {
    /// Hits the ball to `opponent` until the game is over.
    ///
    /// What a player returns goes to its parent, the one who created it: from `pong` to `ping`,
    /// who then sees that the game is over too, and from `ping` to `main`.
    fn play(&self, me: &'static str, opponent: &Coroutine<u32>, mut ball: u32) -> u32 {
        while ball < self.strokes {
            ball += 1;
            (self.umpire)(me, ball);
            ball = opponent.switch(ball);
        }
        ball
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// The ball at the end, and every stroke as the umpire saw it.
    fn transcript(strokes: u32) -> (u32, Vec<(&'static str, u32)>) {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sheet = seen.clone();
        let umpire = Box::new(move |player, stroke| sheet.borrow_mut().push((player, stroke)));
        let ball = rally(Rc::new(Game { strokes, umpire }));
        (ball, seen.take())
    }

    #[test]
    fn runs() {
        main();
    }

    #[test]
    fn the_last_stroke_is_pongs() {
        let (ball, strokes) = transcript(4);
        assert_eq!(strokes, [("ping", 1), ("pong", 2), ("ping", 3), ("pong", 4)]);
        assert_eq!(ball, 4);
    }

    /// Here `ping` ends while `pong` is still suspended.
    #[test]
    fn the_last_stroke_is_pings() {
        let (ball, strokes) = transcript(3);
        assert_eq!(strokes, [("ping", 1), ("pong", 2), ("ping", 3)]);
        assert_eq!(ball, 3);
    }

    /// Each player holds the other; still nobody is left behind when the game is over.
    #[test]
    fn the_players_go_home() {
        for strokes in [0, 3, 4] {
            let game = Rc::new(Game { strokes, umpire: Box::new(|_, _| ()) });
            rally(game.clone());
            assert_eq!(Rc::strong_count(&game), 1, "after {strokes} strokes");
        }
    }
}
