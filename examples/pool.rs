//! A crawler that never has more than a few pages on the way: all the ways to give work to a `Pool`.
//!
//! ```text
//! cargo run --example pool
//! cargo run --example pool -- --at-once 1
//! ```
//!
//! The site is made up and needs no network, but it is as slow as a real one, and it counts how many
//! visitors it has at the same time.

#![expect(clippy::print_stdout, reason = "shows what was found")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use greenloom::pool::Pool;
use greenloom::queue::Queue;

/// Crawls a made-up site.
#[derive(Debug, Parser)]
struct Args {
    /// How many pages are fetched at the same time, at most
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one())]
    at_once: usize,
    /// How long a page of weight 1 takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100)]
    latency: u64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn main() {
    let Args { at_once, latency } = Args::parse();
    let site = Rc::new(Site::new(Duration::from_millis(latency)));
    let pool = Pool::new(at_once);
    let start = Instant::now();
    let now = || start.elapsed().as_millis();

    let Crawl { pages, dead } = crawl(&site, &pool);
    println!("{:5} ms  {} pages, and {} is missing", now(), pages.len(), dead.join(", "));

    println!("         from the lightest to the heaviest, more or less:");
    for page in weigh(&site, &pool, &pages) {
        println!("{:5} ms  weight {} of {}", now(), page.weight, page.path);
    }

    println!("         and what happens to one who follows every link:");
    let links: Vec<_> = pages.iter().flat_map(|page| page.links).copied().collect();
    for (link, error) in check(&site, &pool, &links).broken {
        println!("{:5} ms  {link}: {error}", now());
    }

    println!("at most {} at once", site.busiest());
}

// ------------------------------------------------------------------------------------ the crawler

type Path = &'static str;

/// What a crawl has found, in the order of the distance from the front page.
#[derive(Debug)]
struct Crawl {
    pages: Vec<Page>,
    dead: Vec<Path>,
}

/// Follows every link there is.
///
/// `map` waits until all have been fetched, so what it runs may borrow: here, the site.
fn crawl(site: &Site, pool: &Pool) -> Crawl {
    let mut found = Crawl { pages: Vec::new(), dead: Vec::new() };
    let mut seen = BTreeSet::from(["/"]);
    let mut next = vec!["/"];
    while !next.is_empty() {
        let fetched = pool.map(&next, |path| site.fetch(path).ok_or(*path));
        next.clear();
        for result in fetched {
            match result {
                Ok(page) => {
                    next.extend(page.links.iter().filter(|link| seen.insert(link)));
                    found.pages.push(page);
                }
                Err(path) => found.dead.push(path),
            }
        }
    }
    found
}

/// Fetches all `pages` anew and gives each out as soon as it is there.
///
/// Nothing is borrowed, because the caller may put the iterator aside. The pages after those that
/// were asked for are under way meanwhile, but not many: it is fed as it is read.
fn weigh(site: &Rc<Site>, pool: &Pool, pages: &[Page]) -> impl Iterator<Item = Page> + use<> {
    let site = site.clone();
    let paths: Vec<_> = pages.iter().map(|page| page.path).collect();
    pool.imap_unordered(paths, move |path| site.fetch(path).expect("it was there before"))
}

/// Which links work.
#[derive(Debug, Default)]
struct LinkReport {
    good: Vec<Path>,
    broken: Vec<(Path, String)>,
}

/// Tries every link, and returns when it knows about all.
///
/// `apply_cb` does not wait, however full the pool is. One of the two callbacks is called in the
/// end: the second if the job has panicked (or was killed), as it does here at a dead link.
fn check(site: &Rc<Site>, pool: &Pool, links: &[Path]) -> LinkReport {
    let verdicts: Queue<(Path, Result<Page, String>)> = Queue::new();
    for &link in links {
        let site = site.clone();
        let (good, bad) = (verdicts.clone(), verdicts.clone());
        pool.apply_cb(
            move || site.fetch(link).expect("a link leads somewhere"),
            move |page| good.put((link, Ok(page))).expect("it has room for all"),
            move |error| bad.put((link, Err(error.to_string()))).expect("it has room for all"),
        );
    }

    let mut report = LinkReport::default();
    for _ in links {
        match verdicts.get().expect("every job has a verdict") {
            (link, Ok(_)) => report.good.push(link),
            (link, Err(error)) => report.broken.push((link, error)),
        }
    }
    report
}

// --------------------------------------------------------------------------------------- the site

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    path: Path,
    /// How much longer than the shortest it takes to fetch.
    weight: u32,
    links: &'static [Path],
}

const fn page(path: Path, weight: u32, links: &'static [Path]) -> Page {
    Page { path, weight, links }
}

const PAGES: [Page; 9] = [
    page("/", 1, &["/birds", "/fish", "/about"]),
    page("/birds", 2, &["/", "/birds/owl", "/birds/heron", "/birds/wren"]),
    page("/birds/owl", 5, &["/birds"]),
    page("/birds/heron", 3, &["/birds", "/fish/trout"]),
    page("/birds/wren", 1, &["/birds", "/birds/owl"]),
    page("/fish", 2, &["/", "/fish/trout", "/fish/pike"]),
    page("/fish/trout", 4, &["/fish"]),
    page("/fish/pike", 1, &["/fish", "/fish/trout", "/fish/dodo"]), // which is none
    page("/about", 1, &["/"]),
];

/// A slow web site.
struct Site {
    latency: Duration,
    visitors: Cell<usize>,
    busiest: Cell<usize>,
}

impl Site {
    fn new(latency: Duration) -> Site {
        Site { latency, visitors: Cell::new(0), busiest: Cell::new(0) }
    }

    /// `None`: there is no such page. To find that out takes time, too.
    fn fetch(&self, path: &str) -> Option<Page> {
        let page = PAGES.into_iter().find(|page| page.path == path);
        self.visitors.set(self.visitors.get() + 1);
        self.busiest.set(self.busiest.get().max(self.visitors.get()));
        greenloom::sleep(self.latency * page.map_or(1, |page| page.weight));
        self.visitors.set(self.visitors.get() - 1);
        page
    }

    /// How many visitors it had at the same time, at most.
    fn busiest(&self) -> usize {
        self.busiest.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick_site() -> Rc<Site> {
        Rc::new(Site::new(Duration::from_millis(3)))
    }

    fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort();
        items
    }

    fn paths(pages: impl IntoIterator<Item = Page>) -> Vec<Path> {
        pages.into_iter().map(|page| page.path).collect()
    }

    #[test]
    fn runs() {
        let (site, pool) = (quick_site(), Pool::new(3));
        let Crawl { pages, dead } = crawl(&site, &pool);
        // Breadth first, and among equals in the order of the links: `map` keeps it.
        assert_eq!(
            paths(pages),
            [
                "/",
                "/birds",
                "/fish",
                "/about",
                "/birds/owl",
                "/birds/heron",
                "/birds/wren",
                "/fish/trout",
                "/fish/pike",
            ]
        );
        assert_eq!(dead, ["/fish/dodo"]);
        assert_eq!(site.busiest(), 3);
        assert!(pool.is_empty());
    }

    #[test]
    fn the_bound_holds_for_every_way_in() {
        for size in [1, 2, 4] {
            let pool = Pool::new(size);
            let links: Vec<_> = PAGES.iter().flat_map(|page| page.links).copied().collect();

            let site = quick_site();
            crawl(&site, &pool);
            assert_eq!(site.busiest(), size, "map");
            let site = quick_site();
            assert_eq!(weigh(&site, &pool, &PAGES).count(), PAGES.len());
            assert_eq!(site.busiest(), size, "imap_unordered");
            let site = quick_site();
            check(&site, &pool, &links);
            assert_eq!(site.busiest(), size, "apply_cb");
        }
    }

    #[test]
    fn every_page_is_weighed_once() {
        let (site, pool) = (quick_site(), Pool::new(3));
        let pages: Vec<_> = weigh(&site, &pool, &PAGES).collect();
        assert_eq!(sorted(paths(pages)), sorted(paths(PAGES)));
    }

    /// A reader who has seen enough: what is under way is given up.
    #[test]
    fn not_all_pages_are_weighed() {
        let (site, pool) = (quick_site(), Pool::new(3));
        assert_eq!(weigh(&site, &pool, &PAGES).take(2).count(), 2);
        pool.join();
        assert!(pool.is_empty());
    }

    #[test]
    fn one_link_is_broken_and_says_why() {
        let (site, pool) = (quick_site(), Pool::new(3));
        let links = ["/", "/fish/dodo", "/birds"];
        let LinkReport { good, broken } = check(&site, &pool, &links);
        assert_eq!(sorted(good), ["/", "/birds"]);
        let [("/fish/dodo", error)] = &broken[..] else { panic!("{broken:?}") };
        assert!(error.contains("a link leads somewhere"), "{error}");
    }
}
