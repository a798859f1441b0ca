//! Fetches pages at the same time by ureq, which knows nothing of greenlets: gevent's classic.
//!
//! ```text
//! cargo run --example monkey_ureq                      # three pages of its own
//! cargo run --example monkey_ureq -- https://www.rust-lang.org/ https://docs.rs/
//! ```
//!
//! After `monkey::patch_all()` a call that would block the thread parks the greenlet. Here these are
//! the calls by which std looks up names, connects, sends and receives. ureq and rustls make them,
//! both unchanged; and so does the server that comes along, which is a greenlet of the same thread
//! and uses `std::net` (see `pages/mod.rs`).
//!
//! Exit code: 0 if every page was fetched, 1 if not.

#![expect(clippy::print_stdout, reason = "shows who waits when")]

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use greenloom::{joinall, monkey, spawn};
use ureq::{Agent, Proxy};

#[cfg(test)]
#[path = "../tests/monkey_util/mod.rs"]
mod monkey_util;
#[path = "pages/mod.rs"]
mod pages;

/// Fetches all of these pages at the same time.
#[derive(Debug, Parser)]
struct Args {
    /// What to fetch: http:// or https://. Without any it serves three pages to itself
    urls: Vec<String>,
}

fn main() -> ExitCode {
    monkey::patch_all();
    let start = Instant::now();
    let tell = move |event: String| println!("{:4} ms  {event}", start.elapsed().as_millis());
    let urls = Args::parse().urls;
    let result = if urls.is_empty() {
        pages::serve(3, Duration::from_millis(100)).and_then(|urls| fetch_all(urls, None, tell))
    } else {
        fetch_all(urls, Proxy::try_from_env(), tell)
    };
    match result {
        Ok(bytes) => {
            tell(format!("{bytes} bytes in all"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(format!("not everything was fetched: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A greenlet for each page. Returns how many bytes they have in all.
fn fetch_all(
    urls: Vec<String>,
    proxy: Option<Proxy>,
    tell: impl Fn(String) + Clone + 'static,
) -> io::Result<u64> {
    let agent = Agent::from(Agent::config_builder().proxy(proxy).build());
    let greenlets: Vec<_> = urls
        .into_iter()
        .map(|url| {
            let (agent, tell) = (agent.clone(), tell.clone());
            spawn(move || -> io::Result<u64> {
                tell(format!("asks for {url}"));
                let bytes = fetch(&agent, &url).map_err(|e| named(e, &url))?;
                tell(format!("{bytes} bytes of {url}"));
                Ok(bytes)
            })
        })
        .collect();
    joinall(&greenlets);
    greenlets.into_iter().map(|greenlet| greenlet.get().expect("nobody kills it")).sum()
}

/// As anybody writes it who has a thread to himself.
fn fetch(agent: &Agent, url: &str) -> io::Result<u64> {
    let mut answer = agent.get(url).call().map_err(ureq::Error::into_io)?;
    io::copy(&mut answer.body_mut().as_reader(), &mut io::sink())
}

fn named(error: io::Error, url: &str) -> io::Error {
    io::Error::other(format!("{url}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::monkey_util::alone;

    alone! {
        /// All have asked before the first is answered, and each gets its own page.
        fn runs() {
            monkey::patch_all();
            let urls = pages::serve(3, Duration::ZERO).unwrap();
            let events = Rc::new(RefCell::new(Vec::new()));
            let heard = Rc::clone(&events);
            let tell = move |event| heard.borrow_mut().push(event);
            assert_eq!(fetch_all(urls.clone(), None, tell).unwrap(), 6000);
            let events = events.borrow();
            let (asked, got) = events.split_at(3);
            for (page, url) in (1..).zip(&urls) {
                assert!(asked.contains(&format!("asks for {url}")), "{events:?}");
                assert!(got.contains(&format!("{page}000 bytes of {url}")), "{events:?}");
            }
        }
    }
}
