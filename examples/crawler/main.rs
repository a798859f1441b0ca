//! A crawler: from one page to those it links to, and on, within one host.
//!
//! ```text
//! cargo run --example crawler                                    # a small site of its own
//! cargo run --example crawler -- https://example.org/ --depth 2 --pages 50
//! ```
//!
//! Greenlets of a `Pool` fetch pages; what they bring is read here, in the greenlet that called
//! `imap_unordered`, one page at a time and while the others are still on their way. So whatever the
//! crawler knows (which pages it has seen, what it will say of them) belongs to one greenlet, and is
//! a plain `HashSet` and a plain `Vec`.
//!
//! It is polite: it sends so many requests at a time and so many a second, and no more. It does not
//! read `robots.txt`; send it to sites that are yours.
//!
//! Exit code: 0; 1 if not even the first page could be read; 2 if it could not begin, or not print.

#![expect(clippy::print_stderr, reason = "says why it cannot begin")]

use std::collections::HashSet;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedI64ValueParser;
use greenloom::http::{self, ureq};
use greenloom::pool::Pool;
use greenloom::sync::Mutex;
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, Token, Tokenizer};
use ureq::ResponseExt as _;
use url::Url;

use reasons::{Failure, Stage, printable};
use site::Site;

#[path = "../fetch/reasons.rs"]
#[expect(dead_code, reason = "`fetch` tries again, and saves what it has got")]
mod reasons;
#[path = "../fetch/site.rs"]
mod site;
#[cfg(test)]
mod tests;

/// Follows the links of a page, and theirs, within one host.
///
/// Without a URL it crawls a small site of its own.
#[derive(Debug, Parser)]
struct Args {
    /// Where to begin
    url: Option<Url>,
    /// How many links away from there to go
    #[arg(long, value_name = "N", default_value_t = 3)]
    depth: usize,
    /// How many pages to read at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pages: usize,
    /// How many requests at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one())]
    jobs: u32,
    /// How many requests a second
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one())]
    rate: u32,
}

fn at_least_one() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn main() -> ExitCode {
    match try_main(&Args::parse(), &mut io::stdout()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("crawler: {error}");
            ExitCode::from(2)
        }
    }
}

/// Writes the table to `out`, and returns the exit code.
fn try_main(args: &Args, out: &mut impl Write) -> Result<u8, String> {
    let (start, _site) = match &args.url {
        Some(url) => (url.clone(), None),
        None => {
            let site = own_site().map_err(|error| format!("cannot serve a site: {error}"))?;
            (site.url("/").parse().expect("it is one"), Some(site))
        }
    };
    if !matches!(start.scheme(), "http" | "https") {
        return Err(format!("it has to begin with http:// or https://: {start}"));
    }
    let crawl = crawl(&start, args);
    match write!(out, "{crawl}").and_then(|()| out.flush()) {
        // Whoever closes the pipe has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot print: {error}"))
        }
        _ => Ok(u8::from(crawl.pages.iter().all(|page| page.found.is_err()))),
    }
}

// ---------------------------------------------------------------------------------- the crawl

/// For each page, from the name's look-up to the last byte.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes. What is longer is hardly a page.
const LONGEST_PAGE: u64 = 10 << 20;

/// Level by level: all pages one link away, then all that are two away, and so on.
fn crawl(start: &Url, args: &Args) -> Crawl {
    let started = Instant::now();
    // Its own site is nothing for a proxy.
    let proxy = args.url.as_ref().and_then(|_| ureq::Proxy::try_from_env());
    let config = ureq::Agent::config_builder()
        .user_agent("greenloom-crawler/0.1")
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false) // `Failure` has words for it
        .proxy(proxy);
    let agent = http::agent_with(config.build());
    let pool = Pool::new(args.jobs as usize);
    let pace = Rc::new(Pace::new(args.rate));

    let mut seen = HashSet::from([start.clone()]);
    let mut level = vec![start.clone()];
    let mut crawl = Crawl::default();
    for depth in 0..=args.depth {
        let rest = args.pages - crawl.pages.len();
        crawl.left_out += level.len().saturating_sub(rest);
        level.truncate(rest);

        let (agent, pace) = (agent.clone(), Rc::clone(&pace));
        let fetched = pool.imap_unordered(level, move |url| {
            pace.wait();
            let answer = fetch(&agent, &url);
            (url, answer)
        });
        // From here on we are alone with what has come; the fetching goes on meanwhile.
        let mut next = Vec::new();
        for (url, answer) in fetched {
            let found = answer.map(|(text, base)| read(&text, base));
            for link in found.iter().flat_map(|found| &found.links) {
                if link.origin() == start.origin() && seen.insert(link.clone()) {
                    next.push(link.clone());
                }
            }
            crawl.pages.push(Page { url, depth, found });
        }
        level = next;
    }
    crawl.left_out += level.len();
    crawl.took = started.elapsed();
    crawl
}

/// The text of a page, and where it was in the end, after redirects. What is not HTML has no text.
fn fetch(agent: &ureq::Agent, url: &Url) -> Result<(String, Url), Failure> {
    let timeout = TIMEOUT;
    let answer = agent.get(url.as_str()).call();
    let mut answer = answer.map_err(|error| Failure::of(error, Stage::Before { timeout }))?;
    if !answer.status().is_success() {
        return Err(Failure::of_status(&answer));
    }
    let place = answer.get_uri().to_string().parse().unwrap_or_else(|_| url.clone());
    if !matches!(answer.body().mime_type(), None | Some("text/html" | "application/xhtml+xml")) {
        return Ok((String::new(), place));
    }
    let promised = answer.body().content_length();
    let mut text = Vec::new();
    let body = answer.body_mut().as_reader();
    if let Err(error) = body.take(LONGEST_PAGE + 1).read_to_end(&mut text) {
        let stage = Stage::Body { timeout, read: text.len() as u64, promised };
        return Err(Failure::of(error.into(), stage));
    }
    if text.len() as u64 > LONGEST_PAGE {
        return Err(Failure::for_good(format!("it is longer than {LONGEST_PAGE} bytes")));
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), place))
}

/// So many a second, and each who comes waits for his turn.
struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(rate: u32) -> Pace {
        Pace { interval: Duration::from_secs(1) / rate, next: Mutex::new(Instant::now()) }
    }

    /// The lock is held while its holder sleeps: those behind him stand in line for it.
    fn wait(&self) {
        let mut next = self.next.lock();
        greenloom::sleep(next.saturating_duration_since(Instant::now()));
        *next = Instant::now() + self.interval;
    }
}

// -------------------------------------------------------------------------------- the callback

/// What there is to say about a page.
#[derive(Debug, Default, PartialEq)]
struct Found {
    title: String,
    links: Vec<Url>,
}

/// Reads a page whose links begin at `base`.
fn read(text: &str, mut base: Url) -> Found {
    let mut found = Found::default();
    let mut in_title = false;
    // What is in a script or a style sheet is not HTML, and its tags are none.
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for Ok(token) in Tokenizer::new_with_emitter(text, emitter) {
        match token {
            Token::StartTag(tag) => {
                in_title = tag.name == b"title";
                let address = || tag.attributes.get(&b"href"[..]).map(|value| words(value));
                match &tag.name[..] {
                    b"a" | b"area" => {
                        found.links.extend(address().and_then(|href| link(&base, &href)));
                    }
                    b"base" => {
                        base = address().and_then(|href| base.join(&href).ok()).unwrap_or(base);
                    }
                    _ => {}
                }
            }
            Token::EndTag(_) => in_title = false,
            Token::String(text) if in_title => found.title += &words(&text),
            _ => {}
        }
    }
    found.title = printable(&found.title.split_whitespace().collect::<Vec<_>>().join(" "));
    found
}

fn words(text: &HtmlString) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Where a link leads, if it leads to a page. A place on a page is the page.
fn link(base: &Url, href: &str) -> Option<Url> {
    let mut link = base.join(href.trim()).ok()?;
    link.set_fragment(None);
    matches!(link.scheme(), "http" | "https").then_some(link)
}

// ----------------------------------------------------------------------------------- the table

struct Page {
    url: Url,
    depth: usize,
    found: Result<Found, Failure>,
}

#[derive(Default)]
struct Crawl {
    pages: Vec<Page>,
    /// How many were known and not read, because of the limits.
    left_out: usize,
    took: Duration,
}

impl fmt::Display for Crawl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "depth  links  page")?;
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_by_key(|page| (page.depth, &page.url));
        for Page { url, depth, found } in pages {
            match found {
                Ok(Found { title, links }) => {
                    writeln!(f, "{depth:>5}  {:>5}  {url}  {title}", links.len())?;
                }
                Err(Failure { reason, .. }) => {
                    writeln!(f, "{depth:>5}      -  {url}  failed: {reason}")?;
                }
            }
        }
        let failed = self.pages.iter().filter(|page| page.found.is_err()).count();
        let (read, took) = (self.pages.len() - failed, self.took.as_millis());
        writeln!(f, "\n{read} read, {failed} failed, {} left out; {took} ms", self.left_out)
    }
}

// ---------------------------------------------------------------------------- its own site

/// A museum of thirteen pages, one of which is missing. Each takes 50 ms to come.
fn own_site() -> io::Result<Site> {
    Site::start(Duration::from_millis(50), |path| {
        let (title, links): (String, Vec<String>) = match path {
            "/" => (String::from("Museum"), (1..=3).map(|room| format!("room/{room}")).collect()),
            "/room/1" | "/room/2" | "/room/3" => {
                let room = path.trim_start_matches("/room/");
                let mut links: Vec<_> = (1..=3).map(|n| format!("../exhibit/{room}-{n}")).collect();
                links.push(String::from("/#top"));
                (format!("Room {room}"), links)
            }
            "/exhibit/3-3" => return None,
            path => {
                let exhibit = path.strip_prefix("/exhibit/")?;
                let elsewhere = String::from("https://example.org/");
                (format!("Exhibit {exhibit}"), vec![String::from("/"), elsewhere])
            }
        };
        let links: String =
            links.iter().map(|link| format!("<li><a href=\"{link}\">{link}</a>\n")).collect();
        Some(format!("<!doctype html><title>{title}</title>\n<ul>\n{links}</ul>\n"))
    })
}
