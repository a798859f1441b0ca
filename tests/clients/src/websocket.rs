//! tungstenite, as client and, on threads, as server.

use tungstenite::{Message, accept, connect};

use crate::monkey_util::alone;
use crate::{all_at_once, serve, square};

/// So many questions on each connection.
const ROUNDS: usize = 3;

alone! {
    fn tungstenite() {
        let server = serve(|stream, barrier| {
            let mut socket = accept(stream).unwrap();
            while let Ok(message) = socket.read() {
                let Message::Text(number) = message else { continue };
                barrier.wait();
                let answer = square(number.parse().unwrap()).to_string();
                socket.send(Message::text(answer)).unwrap();
            }
        });
        let answers = all_at_once(move |number| {
            let (mut socket, _) = connect(format!("ws://{server}/")).unwrap();
            let mut last = 0;
            for round in 0..ROUNDS {
                socket.send(Message::text((number + round).to_string())).unwrap();
                last = socket.read().unwrap().to_text().unwrap().parse().unwrap();
                assert_eq!(last, square(number + round));
            }
            socket.close(None).unwrap();
            while socket.read().is_ok() {} // until the other side has said so as well
            last
        });
        assert!(answers.into_iter().eq((0..crate::CLIENTS).map(|n| square(n + ROUNDS - 1))));
    }
}
