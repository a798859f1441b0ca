//! libcurl, which is written in C: `curl_easy_perform` in each greenlet.

use std::net::TcpStream;

use curl::Version;
use curl::easy::Easy;

use crate::monkey_util::alone;
use crate::{all_at_once, assert_squares, http, serve};

fn get(url: &str) -> usize {
    let mut easy = Easy::new();
    easy.url(url).unwrap();
    easy.noproxy("*").unwrap();
    let mut body = Vec::new();
    let mut transfer = easy.transfer();
    transfer
        .write_function(|data| {
            body.extend_from_slice(data);
            Ok(data.len())
        })
        .unwrap();
    transfer.perform().unwrap();
    drop(transfer);
    String::from_utf8(body).unwrap().parse().unwrap()
}

fn check(host: &'static str) {
    println!("{:?}", Version::get());
    let port = serve(http::attend::<TcpStream>).port();
    assert_squares(&all_at_once(move |number| get(&format!("http://{host}:{port}/{number}"))));
}

alone! {
    fn libcurl() {
        check("127.0.0.1");
    }

    /// By name, which libcurl has a thread of its own look up.
    fn libcurl_by_name() {
        check("localhost");
    }
}
