//! The crawl of its own site, pages of all kinds, and servers that are none.

use super::*;
use greenloom::net::SocketAddr;
use greenloom::server::StreamServer;
use std::os::unix::net::UnixStream;

const HANG: Duration = Duration::from_secs(60);

fn crawl_own(arguments: &[&str]) -> Crawl {
    let site = own_site().unwrap();
    let args = Args::parse_from([&["crawler", "--rate", "1000"], arguments].concat());
    let start = site.url("/").parse().unwrap();
    greenloom::with_timeout(HANG, || crawl(&start, &args)).expect("it hangs")
}

fn paths(crawl: &Crawl) -> Vec<(usize, &str)> {
    let mut paths: Vec<_> = crawl.pages.iter().map(|page| (page.depth, page.url.path())).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn runs() {
    let crawl = crawl_own(&[]);
    assert_eq!(crawl.pages.len(), 13);
    let table = crawl.to_string();
    assert!(table.contains("  Room 2\n"), "{table}");
    assert!(table.contains("/exhibit/3-3  failed: 404 Not Found\n"), "{table}");
    assert!(table.contains("\n12 read, 1 failed, 0 left out; "), "{table}");
}

/// As with `| true`, and as on a disk that is full.
#[test]
fn nobody_reads_the_table() {
    let args = Args::parse_from(["crawler", "--depth", "0"]);
    let (mut closed, _) = UnixStream::pair().unwrap();
    let codes = greenloom::with_timeout(HANG, || {
        (try_main(&args, &mut closed), try_main(&args, &mut &mut [0; 0][..]))
    });
    let (quiet, full) = codes.expect("it hangs");
    assert_eq!(quiet, Ok(0));
    let error = full.unwrap_err();
    assert!(error.starts_with("cannot print: "), "{error}");
}

/// Why the only page at `address` cannot be read.
fn why_not(address: SocketAddr) -> String {
    let start = format!("http://{address}/").parse().unwrap();
    let crawl = greenloom::with_timeout(HANG, || crawl(&start, &Args::parse_from(["crawler"])));
    crawl.expect("it hangs").pages.remove(0).found.unwrap_err().reason
}

#[test]
fn what_fails_is_told_in_clear_words() {
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let closed = nobody.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(why_not(closed), "connection refused");

    let says = |words: &'static str| {
        let server = StreamServer::bind("127.0.0.1:0").unwrap().handle(move |mut stream, _| {
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(words.as_bytes())
        });
        server.start();
        let why = why_not(server.local_addr().unwrap());
        server.stop(Duration::ZERO);
        why
    };
    let other = says("220 mail.example ESMTP\r\n\r\n");
    assert!(other.starts_with("the answer is not HTTP: "), "{other}");
    let short = says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<a href");
    assert_eq!(short, "cut short: 7 of 100 bytes");
}

#[test]
fn it_stays_within_its_limits() {
    let crawl = crawl_own(&["--depth", "1"]);
    assert_eq!(paths(&crawl), [(0, "/"), (1, "/room/1"), (1, "/room/2"), (1, "/room/3")]);
    assert_eq!(crawl.left_out, 9);

    let crawl = crawl_own(&["--pages", "2"]);
    assert_eq!(paths(&crawl).len(), 2);
    assert!(crawl.left_out >= 2, "{}", crawl.left_out);
}

#[test]
fn pages_are_read() {
    let url: Url = "http://example.org/a/b?c=d".parse().unwrap();
    let text = "<TITLE>Fish &amp;\n chips</TITLE><a href=e>e</a><A HREF='/f#g'>f</A>
        <a name=h>h</a><a href='mailto:i@j'>k</a><script>'<a href=l>'</script>
        <!-- <a href=m> --><a href='//n.example/&quot;'>n</a>";
    let found = read(text, url.clone());
    assert_eq!(found.title, "Fish & chips");
    let links: Vec<_> = found.links.iter().map(Url::as_str).collect();
    assert_eq!(links, ["http://example.org/a/e", "http://example.org/f", "http://n.example/%22"]);
    let found = read("<title>a\u{1b}[2J\nb</title>", url.clone());
    assert_eq!(found.title, "a\u{fffd}[2J b", "a terminal is not to obey it");

    let found = read("<base href='/z/'><a href=y>y</a>", url);
    assert_eq!(found.links[0].as_str(), "http://example.org/z/y");
}

#[test]
fn the_pace_is_kept() {
    let (pace, started) = (Rc::new(Pace::new(100)), Instant::now());
    let runners: Vec<_> = (0..5)
        .map(|_| {
            let pace = Rc::clone(&pace);
            greenloom::spawn(move || pace.wait())
        })
        .collect();
    greenloom::joinall(&runners);
    assert!(started.elapsed() >= Duration::from_millis(40));
}
