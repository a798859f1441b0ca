//! The servers against a client that knows nothing of the load generator, and the load generator
//! against servers that answer wrongly. (`cargo test` in `benches/peers`.)

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Those that are compiled in.
const PEERS: [&str; 6] = ["greenloom", "epoll", "tokio", "may", "smol", "threads"];

/// Nobody here waits so long, unless for ever.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(peer: &str, more: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_peers"))
            .args(["serve", peer])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").unwrap().parse().unwrap();
        Server { child, address }
    }

    /// Lets standard input end.
    fn stop(mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn load(address: SocketAddr, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(["load", &address.to_string(), "--peer", "epoll"])
        .args(args)
        .output()
        .unwrap()
}

/// The value of one figure of a sample.
fn figure(output: &Output, name: &str) -> f64 {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sample: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    sample["figures"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {sample}"))
}

fn chance_bytes(count: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// More than buffers on the way hold: the writer is blocked while nobody reads, and so is the
/// server, in the middle of a write.
#[test]
fn everything_comes_back_to_a_client_that_reads_late_and_closes_one_half() {
    for peer in PEERS {
        for more in [&[][..], &["--mode", "idle"]] {
            let server = Server::start(peer, more);
            let mut reader = server.connect();
            let mut writer = reader.try_clone().unwrap();
            let sent = chance_bytes(24 << 20);
            let expected = sent.clone();
            let writing = thread::spawn(move || {
                for piece in sent.chunks(70_001) {
                    writer.write_all(piece).unwrap();
                }
                writer.shutdown(Shutdown::Write).unwrap();
            });
            #[expect(clippy::disallowed_methods, reason = "there are no greenlets on this side")]
            thread::sleep(Duration::from_millis(100));
            assert!(!writing.is_finished(), "{peer}: more fits on the way than this test sends");
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            assert!(received == expected, "{peer} {more:?}: {} bytes came back", received.len());
            writing.join().unwrap();
            assert!(server.stop().success(), "{peer}");
        }
    }
}

#[test]
fn a_byte_at_a_time() {
    for peer in PEERS {
        let server = Server::start(peer, &["--buffer", "7"]);
        let mut stream = server.connect();
        stream.set_nodelay(true).unwrap();
        for byte in chance_bytes(100) {
            stream.write_all(&[byte]).unwrap();
            let mut back = [0];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, [byte], "{peer}");
        }
        // As long as the buffer, and a multiple of that.
        for size in [7, 70] {
            let sent = chance_bytes(size);
            stream.write_all(&sent).unwrap();
            let mut back = vec![0; size];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, sent, "{peer}");
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{peer}");
    }
}

#[test]
fn ends_with_its_standard_input_and_by_a_signal() {
    for peer in PEERS {
        let server = Server::start(peer, &[]);
        let _open = server.connect();
        assert!(server.stop().success(), "{peer}");
        for signal in [Signal::TERM, Signal::INT] {
            let mut server = Server::start(peer, &[]);
            kill_process(Pid::from_child(&server.child), signal).unwrap();
            assert!(server.child.wait().unwrap().success(), "{peer} {signal:?}");
        }
    }
}

#[test]
fn all_are_loaded_in_every_mode() {
    for peer in PEERS {
        let server = Server::start(peer, &[]);
        let pid = server.child.id().to_string();
        let echo = ["--connections", "20", "--server-pid", &pid];
        let counted = load(server.address, &[&echo[..], &["--messages", "1001"]].concat());
        assert_eq!(figure(&counted, "messages"), 1001.0, "{peer}");
        assert!(figure(&counted, "server_cpu_seconds") > 0.0, "{peer}");
        let large = ["--bytes", "300000", "--seconds", "0.05", "--warm-up", "0.05"];
        let timed = load(server.address, &[&echo[..], &large].concat());
        assert!(figure(&timed, "p50_us") <= figure(&timed, "max_us"), "{peer}");
        let visits = ["--mode", "connect", "--messages", "333"];
        let visited = load(server.address, &[&echo[..], &visits].concat());
        assert_eq!(figure(&visited, "connections"), 333.0, "{peer}");
        let idle = load(server.address, &[&echo[..], &["--mode", "idle"]].concat());
        assert!(figure(&idle, "rss_bytes") > 0.0, "{peer}");

        let sink = Server::start(peer, &["--mode", "sink"]);
        let stream = ["--mode", "stream", "--connections", "3", "--bytes", "10000001"];
        assert_eq!(figure(&load(sink.address, &stream), "bytes"), 10_000_001.0, "{peer}");
    }
}

/// A server that answers as `answer` says, given all that has come on the first two connections.
fn liar(answer: fn(Vec<u8>, Vec<u8>) -> [Vec<u8>; 2]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || -> io::Result<[TcpStream; 2]> {
        let (mut one, _) = listener.accept()?;
        let (mut other, _) = listener.accept()?;
        let (mut first, mut second) = (vec![0; 64], vec![0; 64]);
        one.read_exact(&mut first)?;
        other.read_exact(&mut second)?;
        let [first, second] = answer(first, second);
        one.write_all(&first)?;
        let _ = other.write_all(&second); // who has found out by the first is gone
        if first.len() < 64 {
            let _ = one.shutdown(Shutdown::Write);
        }
        Ok([one, other])
    });
    let output = load(address, &["--connections", "2", "--messages", "2"]);
    drop(serving.join().unwrap().unwrap()); // open till then: closing is another fault
    output
}

#[test]
fn who_answers_wrongly_is_found_out() {
    let honest = liar(|one, other| [one, other]);
    assert_eq!(figure(&honest, "messages"), 2.0);

    let complaint = |output: Output| {
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let mixed_up = complaint(liar(|one, other| [other, one]));
    assert!(mixed_up.contains("another answer"), "{mixed_up}");
    let last_byte = complaint(liar(|one, mut other| {
        other[63] ^= 1;
        [one, other]
    }));
    assert!(last_byte.contains("another answer"), "{last_byte}");
    let too_long = complaint(liar(|one, other| [[one, vec![0]].concat(), other]));
    assert!(too_long.contains("more than it got"), "{too_long}");
    let too_short = complaint(liar(|one, other| [one[..63].to_vec(), other]));
    assert!(too_short.contains("closed by the server, 63 bytes"), "{too_short}");
}

#[test]
fn a_server_that_loses_bytes_of_a_stream_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let count = io::copy(&mut stream, &mut io::sink()).unwrap();
        stream.write_all(&(count - 1).to_le_bytes()).unwrap();
    });
    let output = load(address, &["--mode", "stream", "--bytes", "100000"]);
    serving.join().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("got 99999 bytes of 100000"), "{complaint}");
}
