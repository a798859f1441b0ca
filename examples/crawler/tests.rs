//! The crawl of its own site, pages of all kinds, and servers that are none.

use super::*;

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
    assert!(table.contains("/exhibit/3-3  failed: http status: 404\n"), "{table}");
    assert!(table.contains("\n12 read, 1 failed, 0 left out; "), "{table}");
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
