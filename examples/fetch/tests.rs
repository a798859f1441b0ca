//! Servers that nobody here wrote, and servers that misbehave.

use super::*;
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use greenloom::net::{SocketAddr, TcpStream};
use greenloom::server::StreamServer;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::report::Row;

const HANG: Duration = Duration::from_secs(120);

fn limits() -> Limits {
    Limits {
        jobs: 100,
        timeout: Duration::from_secs(60),
        retries: 0,
        max_bytes: 1 << 20,
        roots: None,
        direct: true,
        folder: None,
    }
}

/// A timeout that is over soon.
fn impatient() -> Limits {
    Limits { timeout: Duration::from_millis(300), ..limits() }
}

fn fetch_all(urls: Vec<String>, limits: Limits) -> Report {
    let report = Rc::new(RefCell::new(Report::new(urls)));
    let work = start(Fetcher::new(limits), Rc::clone(&report), ProgressBar::hidden());
    greenloom::with_timeout(HANG, || work.get()).expect("it hangs").unwrap();
    report.take()
}

fn fetch_one(url: &str, limits: Limits) -> Row {
    Fetcher::new(limits).fetch(0, url)
}

/// Why it failed, which is one line.
#[track_caller]
fn reason(url: &str, limits: Limits) -> String {
    let fetched = greenloom::with_timeout(HANG, || fetch_one(url, limits)).expect("it hangs");
    let reason = fetched.failure.expect("it must fail");
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
    reason
}

/// The program as from the command line: its exit code and what it prints.
fn program(arguments: &[&str]) -> (u8, String) {
    let args = Args::parse_from([&["fetch", "--no-proxy"], arguments].concat());
    let mut out = Vec::new();
    let code = try_main(&args, &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

#[test]
fn runs() {
    let (code, out) = program(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("200 fetched, 0 failed;"), "{out}");
    assert!(out.contains("and 195 more, all fetched"), "{out}");
}

// ------------------------------------------------------------------------- servers of others

/// A server in a process of its own. It ends with us, however we end: the shell around it waits for
/// the end of a pipe that we hold.
struct Foreign {
    shell: Child,
}

impl Foreign {
    fn start(command: &[&str]) -> Foreign {
        let script = r#""$@" & read -r _; kill $!; wait"#;
        let shell = Command::new("sh")
            .args([&["-c", script, "sh"], command].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        Foreign { shell }
    }

    /// The first line it prints.
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        let out = self.shell.stdout.as_mut().expect("it is piped");
        BufReader::new(out).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

const FILES: usize = 1000;

/// A folder with a thousand pages; the n-th is of n bytes.
fn pages() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..FILES {
        fs::write(folder.path().join(n.to_string()), vec![b'x'; n]).unwrap();
    }
    folder
}

fn assert_fetches_all(server: SocketAddr) {
    let urls = (0..FILES).map(|n| format!("http://{server}/{n}")).collect();
    // These servers may have a short backlog, and a connection that found it full is tried again
    // by the system after a second, and then after two.
    let report = fetch_all(urls, Limits { retries: 3, ..limits() });
    let mut table = Vec::new();
    report.write(&mut table, 0).unwrap();
    assert!(report.is_perfect(), "{}", String::from_utf8_lossy(&table));
    let fetched = report.rows().map(|row| (row.status, row.bytes));
    assert!(fetched.eq((0..FILES as u64).map(|n| (Some(200), n))));
}

#[test]
fn a_thousand_pages_of_pythons_server() {
    let folder = pages();
    let path = folder.path().to_str().unwrap();
    let python = ["python3", "-u", "-m", "http.server", "0", "-b", "127.0.0.1", "-d", path];
    let mut server = Foreign::start(&python);
    // Serving HTTP on 127.0.0.1 port 41397 (http://127.0.0.1:41397/) ...
    let line = server.first_line();
    let port =
        line.split(' ').skip_while(|word| *word != "port").nth(1).and_then(|n| n.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("this says no port: {line:?}"));
    assert_fetches_all(SocketAddr::from(([127, 0, 0, 1], port)));
}

#[test]
#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
fn a_thousand_pages_of_nginx() {
    let folder = pages();
    let Some((_server, address)) = nginx(folder.path()) else {
        eprintln!("\n!!!!! NOT CHECKED: fetch against nginx, which is not installed !!!!!\n");
        return;
    };
    assert_fetches_all(address);
}

/// Debian's nginx, serving `folder`.
fn nginx(folder: &Path) -> Option<(Foreign, SocketAddr)> {
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"]
        .into_iter()
        .find(|program| Path::new(program).exists())?;
    let home = folder.join(".nginx");
    fs::create_dir(&home).unwrap();
    // It wants to be told its port, so it can be that somebody else is quicker.
    for _ in 0..20 {
        let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = String::from("daemon off; master_process off; pid nginx.pid;\n");
        config.push_str("error_log stderr; events { worker_connections 1000; }\n");
        config.push_str("http { access_log off; default_type text/plain;\n");
        for temp in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(config, "{temp}_temp_path {temp};").unwrap();
        }
        writeln!(config, "server {{ listen {address}; root {}; }} }}", folder.display()).unwrap();
        let file = home.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let (home, file) = (home.to_str().unwrap(), file.to_str().unwrap());
        let mut server = Foreign::start(&[program, "-p", home, "-c", file]);
        for _ in 0..500 {
            if fetch_one(&format!("http://{address}/7"), impatient()).bytes == 7 {
                return Some((server, address));
            }
            if server.shell.try_wait().unwrap().is_some() {
                break;
            }
            greenloom::sleep(Duration::from_millis(10));
        }
    }
    panic!("nginx is there and does not serve");
}

// ----------------------------------------------------------------------- servers that misbehave

/// A server that hears a request, then says `words`, then does `after`.
fn saying(words: impl Into<Vec<u8>>, after: impl Fn(&TcpStream) + 'static) -> Server {
    let words = words.into();
    Server::start(move |mut stream| {
        hear(stream)?;
        stream.write_all(&words)?;
        after(stream);
        Ok(())
    })
}

fn hangs_up(_: &TcpStream) {}

fn waits(mut stream: &TcpStream) {
    let _ = io::copy(&mut stream, &mut io::sink());
}

struct Server(StreamServer);

impl Server {
    fn start(attend: impl Fn(&TcpStream) -> io::Result<()> + 'static) -> Server {
        let server = StreamServer::bind("127.0.0.1:0").unwrap();
        let server = server.handle(move |stream, _| attend(&stream));
        server.start();
        Server(server)
    }

    fn url(&self) -> String {
        format!("http://{}/", self.0.local_addr().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.stop(Duration::ZERO);
    }
}

/// The head of one request.
fn hear(stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().ok_or(io::ErrorKind::UnexpectedEof)??.is_empty() {}
    Ok(())
}

/// Issue 4: "wrong URLs, refused ports, slow and endless answers, truncated bodies, bad
/// certificates each end as a clear line, never a hang".
#[test]
fn wrong_urls() {
    for (url, why) in [
        ("nonsense", "not a URL: it has to begin with http:// or https://"),
        ("ftp://example.org/", "not a URL: it has to begin with http:// or https://"),
        ("http://", "not a URL: empty string"),
        ("http:///page", "not a URL: invalid format"),
        ("http://a b/", "not a URL: invalid uri character"),
        ("http://host:port/", "not a URL: its port is not a number"),
        ("http://me@host:66000/", "not a URL: its port is not a number"),
        ("http://:80/", "not a URL: it names no host"),
    ] {
        assert_eq!(reason(url, limits()), why, "{url}");
    }
    let unknown = reason("http://no-such-host.invalid/", limits());
    assert!(unknown.starts_with("cannot look up no-such-host.invalid: "), "{unknown}");
}

#[test]
fn refused() {
    let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(reason(&format!("http://{address}/"), limits()), "connection refused");
}

#[test]
fn answers_that_are_broken() {
    let endless_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
    let table: [(&str, &str); 12] = [
        ("", "the server hung up without an answer"),
        ("HTTP/1.1 200 O", "the server hung up without an answer"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "cut short: 5 of 10 bytes"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "cut short after 5 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nshort\r\n",
            "the body is not as HTTP wants it: ",
        ),
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "the answer is not HTTP: "),
        ("\u{1}\u{2}\u{3}\u{4}\r\n\r\n", "the answer is not HTTP: "),
        ("HTTP/1.1 999999 What\r\n\r\n", "the answer is not HTTP: "),
        (&endless_head, "the headers have no end"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "404 Not Found"),
        ("HTTP/1.1 599 Whatever\r\nContent-Length: 0\r\n\r\n", "599"),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            "redirected more than 10 times",
        ),
    ];
    for (words, why) in table {
        let server = saying(words, hangs_up);
        let reason = reason(&server.url(), limits());
        assert!(reason.starts_with(why), "{words:.80?} gave {reason:?}");
    }
}

#[test]
fn answers_that_take_too_long() {
    let silent = saying("", waits);
    assert_eq!(reason(&silent.url(), impatient()), "no answer within 300ms");

    let half = saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", waits);
    assert_eq!(reason(&half.url(), impatient()), "still coming after 300ms: 4 bytes so far");

    // A byte at a time, each in good time, for ever.
    let drip = |mut stream: &TcpStream| {
        while stream.write_all(b"x").is_ok() {
            greenloom::sleep(Duration::from_millis(1));
        }
    };
    let body = saying("HTTP/1.1 200 OK\r\n\r\n", drip);
    let why = reason(&body.url(), impatient());
    assert!(why.starts_with("still coming after 300ms: "), "{why}");
    let head = saying("HTTP/1.1 200 OK\r\nX: ", drip);
    assert_eq!(reason(&head.url(), impatient()), "no answer within 300ms");
}

#[test]
fn answers_without_end() {
    let flood = |mut stream: &TcpStream| while stream.write_all(&[b'x'; 10_000]).is_ok() {};
    let server = saying("HTTP/1.1 200 OK\r\n\r\n", flood);
    assert_eq!(reason(&server.url(), limits()), "the body is longer than 1048576 bytes");
}

// ------------------------------------------------------------------------------------ retries

/// Answers each request with the next of `statuses`, then with 200.
fn moody(statuses: &'static [&'static str]) -> Server {
    let next = Cell::new(0);
    Server::start(move |mut stream| {
        hear(stream)?;
        let status = statuses.get(next.replace(next.get() + 1)).unwrap_or(&"200 OK");
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody")
    })
}

#[test]
fn what_may_heal_is_tried_again() {
    let retries = |retries| Limits { retries, ..limits() };
    let row = fetch_one(&moody(&["503 No", "502 No"]).url(), retries(2));
    assert_eq!((row.status, row.tries, row.failure), (Some(200), 3, None));

    let row = fetch_one(&moody(&["503 No", "502 No"]).url(), retries(1));
    assert_eq!((row.status, row.tries), (Some(502), 2));
    assert_eq!(row.failure.unwrap(), "502 Bad Gateway");

    let row = fetch_one(&moody(&["404 No"]).url(), retries(5));
    assert_eq!((row.status, row.tries), (Some(404), 1), "that does not heal");
}

/// A connection that is cut, with part of the answer, and one that works.
#[test]
fn a_cut_connection_is_tried_again() {
    let first = Cell::new(true);
    let server = Server::start(move |mut stream| {
        hear(stream)?;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
        let cut = if first.replace(false) { 3 } else { 0 };
        stream.write_all(&answer[..answer.len() - cut])
    });
    let row = fetch_one(&server.url(), Limits { retries: 1, ..limits() });
    assert_eq!((row.status, row.bytes, row.tries, row.failure), (Some(200), 5, 2, None));
}

#[test]
fn servers_that_ask_for_a_pause() {
    let retries = Limits { retries: 1, ..limits() };
    let started = Instant::now();
    let row = fetch_one(&moody(&["429 Slow\r\nRetry-After: 1"]).url(), retries.clone());
    assert_eq!((row.status, row.tries), (Some(200), 2));
    assert!(started.elapsed() >= Duration::from_secs(1));

    let row = fetch_one(&moody(&["503 Later\r\nRetry-After: 3600"]).url(), retries.clone());
    assert_eq!(row.failure.unwrap(), "503 Service Unavailable, and asks to wait 3600 s");

    // A date is not understood, and does no harm.
    let date = "503 Later\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT";
    let leaked: &'static [&'static str] = Box::leak(Box::new([date]));
    assert_eq!(fetch_one(&moody(leaked).url(), retries).status, Some(200));
}

#[test]
fn pauses_grow_and_differ() {
    let mut pauses = fetcher_pauses();
    let [first, second]: [Duration; 2] = [pauses.next().unwrap(), pauses.next().unwrap()];
    assert!((100..=200).contains(&first.as_millis()), "{first:?}");
    assert!((200..=400).contains(&second.as_millis()), "{second:?}");
    let much_later = pauses.nth(100).unwrap();
    assert!((10..=20).contains(&much_later.as_secs()), "{much_later:?}");
    let firsts: Vec<Duration> = (0..10).map(|_| fetcher_pauses().next().unwrap()).collect();
    assert!(firsts.iter().any(|pause| *pause != firsts[0]), "{firsts:?}");
}

fn fetcher_pauses() -> impl Iterator<Item = Duration> {
    let mut pauses = fetcher::Pauses::default();
    std::iter::repeat_with(move || pauses.next())
}

// ---------------------------------------------------------------------------------------- TLS

struct Identity {
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Identity {
    /// For whoever calls himself `name`, until `year`.
    fn of(name: &str, year: i32) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        Identity { certificate: rcgen::CertifiedKey { cert, signing_key: key } }
    }

    fn pem(&self) -> Vec<u8> {
        self.certificate.cert.pem().into_bytes()
    }

    /// An https server; the rest is done by the same code as for http.
    fn server(&self) -> (Server, String) {
        let key = PrivatePkcs8KeyDer::from(self.certificate.signing_key.serialize_der());
        let chain = vec![self.certificate.cert.der().clone()];
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from(key))
            .unwrap();
        let config = Arc::new(config);
        let server = Server::start(move |stream| {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.clone());
            let mut head = [0; 4096];
            let _ = stream.read(&mut head)?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")?;
            stream.conn.send_close_notify();
            stream.flush()
        });
        let url = server.url().replace("http:", "https:");
        (server, url)
    }
}

#[test]
fn https() {
    let identity = Identity::of("127.0.0.1", 2100);
    let (_server, url) = identity.server();
    let trusting = Limits { roots: Some(identity.pem()), ..limits() };
    let row = fetch_one(&url, trusting);
    assert_eq!((row.status, row.bytes, row.failure), (Some(200), 6, None));
}

#[test]
fn bad_certificates() {
    let good = Identity::of("127.0.0.1", 2100);
    let of = |identity: &Identity, roots: Option<Vec<u8>>| {
        let (_server, url) = identity.server();
        reason(&url, Limits { roots, ..limits() })
    };
    let untrusted = "the certificate is not good: nobody we trust has signed it";
    assert_eq!(of(&good, None), untrusted);
    let other = Identity::of("example.org", 2100);
    assert_eq!(of(&good, Some(other.pem())), untrusted);
    assert_eq!(
        of(&other, Some(other.pem())),
        "the certificate is not good: it is for another name"
    );
    let old = Identity::of("127.0.0.1", 2001);
    assert_eq!(of(&old, Some(old.pem())), "the certificate is not good: it has expired");

    let plain = saying("HTTP/1.1 400 Bad Request\r\n\r\n", hangs_up);
    let url = plain.url().replace("http:", "https:");
    let silent = Server::start(|mut stream| stream.write_all(b"220 mail.example.org ESMTP\r\n"));
    assert_eq!(
        reason(&silent.url().replace("http:", "https:"), limits()),
        "the server does not speak TLS"
    );
    assert!(!reason(&url, impatient()).is_empty());
}

// -------------------------------------------------------------------------------- the program

#[test]
fn a_stop_keeps_what_is_done() {
    let quick = Site::start(Duration::ZERO, |_| Some(String::from("page"))).unwrap();
    let slow = Site::start(HANG, |_| None).unwrap();
    let urls = vec![quick.url("/"), slow.url("/"), quick.url("/"), slow.url("/")];
    let report = Rc::new(RefCell::new(Report::new(urls)));
    let work = start(Fetcher::new(limits()), Rc::clone(&report), ProgressBar::hidden());
    while report.borrow().rows().count() < 2 {
        greenloom::yield_now();
    }
    work.kill();
    let mut table = Vec::new();
    report.borrow().write(&mut table, usize::MAX).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("\n2 fetched, 0 failed, 2 not done; 8 B in "), "{table}");
}

#[test]
fn exit_codes_and_lists() {
    let site =
        Site::start(Duration::ZERO, |path| (path != "/no").then(|| path.to_owned())).unwrap();
    let (yes, no) = (site.url("/yes"), site.url("/no"));
    let (code, out) = program(&[&yes]);
    assert!(code == 0 && out.contains("1 fetched, 0 failed;"), "{out}");
    let (code, out) = program(&[&yes, &no]);
    assert!(code == 1 && out.contains("1 fetched, 1 failed;"), "{out}");
    assert!(out.contains("404 Not Found\n"), "{out}");

    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    fs::write(&list, format!("# a list\n\n  {yes}  \n{yes}\n")).unwrap();
    let list = list.to_str().unwrap();
    let (code, out) = program(&["--file", list, "--jobs", "1", "--rows", "1"]);
    assert!(code == 0 && out.contains("and 1 more, all fetched"), "{out}");

    let fails = |arguments: &[&str]| {
        let args = Args::parse_from([&["fetch"], arguments].concat());
        try_main(&args, &mut io::sink()).unwrap_err()
    };
    assert!(fails(&["--file", "/no/such/file"]).starts_with("cannot read /no/such/file: "));
    fs::write(list, "# nothing\n").unwrap();
    assert_eq!(fails(&["--file", list]), "there is no URL in what was given");
    let not = fails(&["--cacert", list, &yes]);
    assert_eq!(not, format!("cannot use {list}: there is no certificate in it"));
}

#[test]
fn wrong_options() {
    for wrong in [["--jobs", "0"], ["--timeout", "0"], ["--timeout", "inf"], ["--retries", "-1"]] {
        let error = Args::try_parse_from([&["fetch"], &wrong[..]].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong:?}");
    }
}

/// Bodies are saved under names of their own; of what failed nothing is left.
#[test]
fn bodies_are_saved() {
    let site = Site::start(Duration::ZERO, |path| (path != "/no").then(|| path.repeat(3))).unwrap();
    let cut = saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", hangs_up);
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("a/new/one");
    let urls = vec![site.url("/../a?b=c"), site.url("/no"), cut.url(), site.url("/")];
    fetch_all(urls, Limits { folder: Some(made_folder(&new).unwrap()), ..limits() });
    let mut saved: Vec<_> = fs::read_dir(&new)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    saved.sort();
    let expected =
        [("0001-127.0.0.1-..-a-b-c", "/../a?b=c".repeat(3)), ("0004-127.0.0.1", "/".repeat(3))];
    assert!(
        saved.iter().map(|(name, body)| (name.as_str(), body.clone())).eq(expected),
        "{saved:?}"
    );
}

/// What a server or a list says does not act on the terminal.
#[test]
fn control_characters_are_not_printed() {
    let mut report = Report::new(vec![String::from("http://\u{1b}[31mred/")]);
    report.add(0, fetch_one("http://\u{1b}[31mred/", limits()));
    let mut table = Vec::new();
    report.write(&mut table, 9).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(!table.contains('\u{1b}') && table.contains("http://\u{fffd}[31mred/"), "{table}");
}

/// The others are fetched while one takes its time.
#[test]
fn one_that_is_slow_delays_nobody() {
    let quick = Site::start(Duration::ZERO, |_| Some(String::from("page"))).unwrap();
    let silent = saying("", waits);
    let waiting = greenloom::spawn({
        let url = silent.url();
        move || fetch_one(&url, limits())
    });
    let row = fetch_one(&quick.url("/"), limits());
    assert_eq!(row.failure, None);
    assert!(!waiting.is_finished());
    waiting.kill();
}
