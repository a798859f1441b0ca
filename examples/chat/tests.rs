//! Visitors who talk, who do not listen, and who say strange things.

use super::*;
use greenloom::{sleep, spawn, with_timeout};

const HANG: Duration = Duration::from_secs(60);

fn chat(queue: usize) -> (StreamServer, Rc<Room>) {
    let args = Args { address: "127.0.0.1:0".to_owned(), max_members: 10, queue };
    let room = Rc::new(Room::new(queue));
    let (server, _) = open(&args, &room).unwrap();
    server.start();
    (server, room)
}

struct Visitor {
    stream: TcpStream,
    heard: BufReader<TcpStream>,
}

impl Visitor {
    fn come(server: &StreamServer, name: &str) -> Visitor {
        let stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let heard = BufReader::new(stream.clone());
        let mut visitor = Visitor { stream, heard };
        visitor.say(name);
        visitor
    }

    /// One who has been let in.
    fn enter(server: &StreamServer, name: &str) -> Visitor {
        let mut visitor = Visitor::come(server, name);
        let welcome = visitor.hear();
        assert!(welcome.contains("here are") && welcome.contains(name), "{welcome}");
        visitor
    }

    fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.heard.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

fn within_a_minute(test: impl FnOnce()) {
    with_timeout(HANG, test).expect("it hangs");
}

#[test]
fn runs() {
    within_a_minute(|| {
        let (server, room) = chat(100);
        let mut ann = Visitor::enter(&server, "Ann");
        let mut bob = Visitor::enter(&server, "Bob");
        assert_eq!(ann.hear(), "* Bob has come");
        ann.say("good morning");
        for visitor in [&mut ann, &mut bob] {
            assert_eq!(visitor.hear(), "Ann: good morning");
        }
        bob.say("\x1b[2Jhi");
        assert_eq!(ann.hear(), "Bob: [2Jhi");
        assert_eq!(bob.hear(), "Bob: [2Jhi");
        bob.say("/who");
        assert_eq!(bob.hear(), "* here are Ann, Bob");
        bob.say("/quit");
        assert_eq!(bob.hear(), "", "the end");
        assert_eq!(ann.hear(), "* Bob has gone");

        close(&server, &room, GRACE);
        assert_eq!(ann.hear(), "* the chat is closed");
        assert_eq!(ann.hear(), "");
        assert_eq!(server.stats().killed, 0);
    });
}

#[test]
fn names() {
    within_a_minute(|| {
        let (server, _) = chat(100);
        let _ann = Visitor::enter(&server, "Ann");
        let mut visitor = Visitor::come(&server, "Ann");
        assert_eq!(visitor.hear(), "your name? there is somebody of that name");
        for name in ["", "   ", "two words", "/who", "a.name.of.many.many.letters"] {
            visitor.say(name);
            assert_eq!(visitor.hear(), "your name? a name is one word of at most 20 letters");
        }
        visitor.say("  Zo\u{eb} ");
        assert_eq!(visitor.hear(), "your name? * here are Ann, Zo\u{eb}; /who asks, /quit leaves");
        server.stop(Duration::ZERO);
    });
}

/// One does not read; another says more than all buffers hold, and a third hears every word.
#[test]
fn who_reads_slowly_holds_up_nobody() {
    const LINES: usize = 12_000;
    within_a_minute(|| {
        let (server, room) = chat(1000);
        let mut slow = Visitor::enter(&server, "slow");
        socket2::SockRef::from(&slow.stream).set_recv_buffer_size(64 * 1024).unwrap();
        let mut good = Visitor::enter(&server, "good");
        let mut loud = Visitor::enter(&server, "loud");
        assert_eq!(good.hear(), "* loud has come");
        let listener = spawn(move || {
            let lines = (0..LINES).filter(|_| good.hear().starts_with("loud: x"));
            (lines.count(), good)
        });
        let mut ears = loud.heard;
        let loud_listens = spawn(move || io::copy(&mut ears, &mut io::sink()));
        let line = format!("{}\n", "x".repeat(900));
        for _ in 0..LINES {
            loud.stream.write_all(line.as_bytes()).unwrap();
        }
        let (heard, mut good) = listener.get().unwrap();
        assert_eq!(heard, LINES);
        let left_out = room.members.borrow()["slow"].left_out.get();
        assert!(left_out > 0, "all buffers together hold more than this says");

        // He begins to read, and is told what he has missed when somebody speaks again.
        let told = spawn(move || {
            let mut lines = 0;
            loop {
                let line = slow.hear();
                lines += usize::from(line.starts_with("loud: x"));
                if line.starts_with("* you have missed") {
                    return (lines, line);
                }
            }
        });
        while !told.is_finished() {
            good.say("slow, are you there?");
            sleep(Duration::from_millis(1));
        }
        let (lines, notice) = told.get().unwrap();
        let missed: usize = notice.split(' ').find_map(|word| word.parse().ok()).expect("a number");
        assert!(lines + missed >= LINES, "{lines} heard, {notice}");
        server.stop(Duration::ZERO);
        drop(loud_listens.get());
    });
}

/// Long lines come in pieces, and what is no text does no harm.
#[test]
fn lines_of_all_kinds() {
    within_a_minute(|| {
        let (server, _) = chat(100);
        let mut ann = Visitor::enter(&server, "Ann");
        ann.say(&"y".repeat(1500));
        assert_eq!(ann.hear(), format!("Ann: {}", "y".repeat(1000)));
        assert_eq!(ann.hear(), format!("Ann: {}", "y".repeat(500)));
        ann.stream.write_all(b"\xff!\r\n").unwrap();
        assert_eq!(ann.hear(), "Ann: \u{fffd}!");
        ann.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ann.hear(), "", "who hangs up is let go");
        assert!(server.stop(HANG));
    });
}
