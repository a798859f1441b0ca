//! Ports that are open, closed and answered by themselves; what is read, and what is told.

use super::*;
use greenloom::net::{Ipv4Addr, TcpListener};
use std::iter;
use std::os::unix::net::UnixStream;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MINUTE: Duration = Duration::from_secs(60);

fn ports(text: &str) -> Ports {
    text.parse().unwrap()
}

fn run(ports: &Ports, jobs: usize) -> Report {
    scan(LOCAL, ports, jobs, MINUTE, &ProgressBar::hidden())
}

fn open(report: &Report) -> Vec<u16> {
    report.open.iter().map(|(port, _)| *port).collect()
}

/// Some listeners, and their ports in order.
fn listeners(count: usize) -> (Vec<TcpListener>, Vec<u16>) {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = iter::repeat_with(bind).take(count).collect();
    let mut ports: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    ports.sort_unstable();
    (listeners, ports)
}

#[test]
fn runs() {
    let (_listeners, expected) = listeners(3);
    let list: Vec<_> = expected.iter().map(u16::to_string).collect();
    for jobs in [1, 2, 100] {
        let report = run(&ports(&list.join(",")), jobs);
        assert_eq!(open(&report), expected);
        assert_eq!((report.closed, report.silent, report.failures.len()), (0, 0, 0));
    }
}

/// A whole neighbourhood: every port of it has an answer, and ours is among the open ones.
#[test]
fn a_range() {
    let (_listeners, ours) = listeners(1);
    let first = ours[0].saturating_sub(200).max(1);
    let range = Ports(vec![first..=ours[0]]);
    let report = run(&range, 50);
    assert!(open(&report).contains(&ours[0]), "{report}");
    let answers = report.open.len() + report.closed + report.silent + report.failures.len();
    assert_eq!(answers as u64, range.count());
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

/// Nobody else gets a port while a socket is bound to it, and nobody listens at this one.
#[test]
fn a_closed_port() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(LOCAL, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let report = run(&ports(&port.to_string()), 1);
    assert_eq!((report.open.len(), report.closed), (0, 1));
    assert!(report.to_string().starts_with("127.0.0.1: 0 open, 1 closed, 0 silent"));
}

/// A socket that calls itself: what happens to one probe in some ten thousand.
#[test]
fn who_answers_himself_is_not_there() {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(LOCAL, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(&address).unwrap();
    let stream = std::net::TcpStream::from(socket);
    assert_eq!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    drop(stream);
    assert!(matches!(probe(address.as_socket().unwrap(), MINUTE), Answer::Closed));
}

#[test]
fn ports_are_read_from_the_command_line() {
    assert_eq!(ports("80").0, [80..=80]);
    assert_eq!(ports("1-1024").0, [1..=1024]);
    assert_eq!(ports("8000-8100,22, 80").0, [22..=22, 80..=80, 8000..=8100]);
    assert_eq!(ports("1-65535").count(), 65_535);
    assert_eq!(ports("7-9,1").iter().collect::<Vec<_>>(), [1, 7, 8, 9]);
    for wrong in ["", "0", "65536", "http", "9-7", "1,", "-", "1-2-3", "5,1-10", "80,80"] {
        assert!(wrong.parse::<Ports>().is_err(), "{wrong:?}");
    }
}

#[test]
fn targets_are_read_from_the_command_line() {
    let host = |text: &str| text.parse::<Target>().map(|target| target.host);
    assert_eq!(host("127.0.0.1:80").unwrap(), "127.0.0.1");
    assert_eq!(host("localhost:1-10").unwrap(), "localhost");
    assert_eq!(host("[::1]:80,81").unwrap(), "::1");
    for wrong in ["localhost", ":80", "::1:80", "localhost:", "[]:80", "80"] {
        assert!(host(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn services_are_known() {
    let known = parse_services(WELL_KNOWN);
    assert_eq!((known[&22].as_str(), known[&443].as_str()), ("ssh", "https"));
    let odd = parse_services("# c\n\na 1/tcp\nb 1/tcp x y\nc 2/udp\nd\ne /tcp\nf 3/tcp # 4/tcp");
    assert_eq!(odd, HashMap::from([(1, "a".to_owned()), (3, "f".to_owned())]));
    assert!(services().len() >= known.len());
}

#[test]
fn a_table_is_a_table() {
    let mut report = Report { host: LOCAL.to_string(), ..Report::default() };
    report.open = vec![(22, Duration::from_micros(1200)), (60_000, Duration::ZERO)];
    report.services = parse_services(WELL_KNOWN);
    assert_eq!(
        report.to_string(),
        " PORT  SERVICE               ANSWERED IN\n   \
         22  ssh                   1.2 ms\n\
         60000  -                     0.0 ms\n\
         127.0.0.1: 2 open, 0 closed, 0 silent, in 0.00 s\n"
    );
}

/// As with `| true`, and as on a disk that is full.
#[test]
fn nobody_reads_the_table() {
    let (_listeners, ours) = listeners(1);
    let args = Args::parse_from(["portscan", &format!("127.0.0.1:{}", ours[0])]);
    let (mut closed, _) = UnixStream::pair().unwrap();
    assert_eq!(try_main(&args, &mut closed), Ok(()));
    let error = try_main(&args, &mut &mut [0; 0][..]).unwrap_err();
    assert!(error.starts_with("cannot print: "), "{error}");
}

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory;
    Args::command().debug_assert();
    assert_eq!(Args::parse_from(["portscan"]).target.ports.count(), 1024);
}
