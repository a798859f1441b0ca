//! libcurl, which is written in C: `curl_easy_perform` in each greenlet.

use std::fs;
use std::net::TcpStream;

use curl::easy::Easy;
use curl::{Error, Version};

use crate::monkey_util::alone;
use crate::{all_at_once, assert_squares, http, serve};

pub(crate) fn get(easy: &mut Easy, url: &str) -> Result<usize, Error> {
    easy.url(url)?;
    easy.noproxy("*")?;
    let mut body = Vec::new();
    let mut transfer = easy.transfer();
    transfer.write_function(|data| {
        body.extend_from_slice(data);
        Ok(data.len())
    })?;
    transfer.perform()?;
    drop(transfer);
    Ok(String::from_utf8(body).unwrap().parse().unwrap())
}

fn check(host: &'static str) {
    let port = serve(http::attend::<TcpStream>).port();
    assert_squares(&all_at_once(move |number| {
        get(&mut Easy::new(), &format!("http://{host}:{port}/{number}")).unwrap()
    }));
}

alone! {
    fn libcurl() {
        check("127.0.0.1");
    }

    /// By name, which libcurl has a thread of its own look up.
    fn libcurl_by_name() {
        check("localhost");
    }

    /// With OpenSSL below, in C as well.
    fn libcurl_https() {
        let version = Version::get();
        if !version.feature_ssl() {
            eprintln!("\n!!!!! NOT CHECKED: https by libcurl, which is built without TLS !!!!!\n");
            return;
        }
        let (server, certificate) = http::serve_tls();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("certificate.pem");
        fs::write(&file, certificate.pem()).unwrap();
        let port = server.port();
        assert_squares(&all_at_once(move |number| {
            let mut easy = Easy::new();
            easy.cainfo(&file).unwrap();
            get(&mut easy, &format!("https://localhost:{port}/{number}")).unwrap()
        }));
    }
}
