//! Fetches pages at the same time by libcurl: a library in C, made to wait by parking.
//!
//! ```text
//! cargo run --example monkey_curl                      # fifty pages of its own
//! cargo run --example monkey_curl -- https://www.rust-lang.org/ https://docs.rs/
//! ```
//!
//! libcurl has an interface for many transfers at a time, with callbacks and a loop. This program
//! does not use it: each greenlet calls `curl_easy_perform`, which returns when that transfer is
//! over. It waits in `poll` and is otherwise busy with `send` and `recv`, and the dynamic linker gives
//! these names to the program itself before it looks into the C library. So the library that
//! Debian has built, and which knows no Rust, parks the greenlet too.
//!
//! It says which libcurl that is. Where the system has none to link with (Debian's package is
//! `libcurl4-openssl-dev`, and `pkg-config` to find it), the crate `curl` builds a copy of its own,
//! which does without https here.
//!
//! Exit code: 0 if every page was fetched, 1 if not.

#![expect(clippy::print_stdout, reason = "shows who waits when")]

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use curl::Version;
use curl::easy::Easy;
use greenloom::{joinall, monkey, spawn};

#[cfg(test)]
#[path = "../tests/monkey_util/mod.rs"]
mod monkey_util;
#[path = "pages/mod.rs"]
mod pages;

/// Fetches all of these pages at the same time.
#[derive(Debug, Parser)]
struct Args {
    /// What to fetch. Without any it serves fifty pages to itself
    urls: Vec<String>,
}

fn main() -> ExitCode {
    monkey::patch_all();
    println!("{}", which_curl(&Version::get()));
    let start = Instant::now();
    let tell = move |event: String| println!("{:4} ms  {event}", start.elapsed().as_millis());
    let urls = Args::parse().urls;
    let own = urls.is_empty();
    let urls = if own { pages::serve(50, Duration::from_millis(100)) } else { Ok(urls) };
    match urls.and_then(|urls| fetch_all(urls, own, tell)) {
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

fn which_curl(version: &Version) -> String {
    let whose = if version.vendored() { "built along with this program" } else { "of the system" };
    let tls = version.ssl_version().unwrap_or("no TLS");
    format!("libcurl {}, {whose}, with {tls}", version.version())
}

/// A greenlet for each page. Returns how many bytes they have in all.
fn fetch_all(
    urls: Vec<String>,
    direct: bool,
    tell: impl Fn(String) + Clone + 'static,
) -> io::Result<usize> {
    let greenlets: Vec<_> = urls
        .into_iter()
        .map(|url| {
            let tell = tell.clone();
            spawn(move || -> io::Result<usize> {
                tell(format!("asks for {url}"));
                let bytes = fetch(&url, direct)
                    .map_err(|error| io::Error::other(format!("{url}: {error}")))?;
                tell(format!("{bytes} bytes of {url}"));
                Ok(bytes)
            })
        })
        .collect();
    joinall(&greenlets);
    greenlets.into_iter().map(|greenlet| greenlet.get().expect("nobody kills it")).sum()
}

/// As anybody writes it who has a thread to himself. `direct`: not by way of a proxy, even if the
/// environment names one.
fn fetch(url: &str, direct: bool) -> Result<usize, curl::Error> {
    let mut easy = Easy::new();
    easy.url(url)?;
    easy.fail_on_error(true)?;
    easy.follow_location(true)?;
    if direct {
        easy.noproxy("*")?;
    }
    let mut bytes = 0;
    let mut transfer = easy.transfer();
    transfer.write_function(|data| {
        bytes += data.len();
        Ok(data.len())
    })?;
    transfer.perform()?;
    drop(transfer);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::monkey_util::alone;

    const PAGES: usize = 50;

    alone! {
        /// All have asked before the first is answered, and each gets its own page.
        fn runs() {
            monkey::patch_all();
            println!("{}", which_curl(&Version::get()));
            let urls = pages::serve(PAGES, Duration::ZERO).unwrap();
            let events = Rc::new(RefCell::new(Vec::new()));
            let heard = Rc::clone(&events);
            let tell = move |event| heard.borrow_mut().push(event);
            let bytes = fetch_all(urls.clone(), true, tell).unwrap();
            assert_eq!(bytes, (1..=PAGES).sum::<usize>() * 1000);
            let events = events.borrow();
            let (asked, got) = events.split_at(PAGES);
            assert!(asked.iter().all(|event| event.starts_with("asks for ")), "{events:?}");
            for (page, url) in (1..).zip(&urls) {
                assert!(got.contains(&format!("{page}000 bytes of {url}")), "{events:?}");
            }
        }
    }
}
