//! A small web server, for those who have none at hand.
//!
//! It serves one thing at a time to each visitor and keeps connections open, as HTTP/1.1 wants it.
//! A server for the world would be stricter with what it is asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use greenloom::net::{SocketAddr, TcpStream};
use greenloom::server::StreamServer;

/// Serves pages at an address of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Site {
    server: StreamServer,
    address: SocketAddr,
}

impl Site {
    /// `page` makes a page of a path, if there is one; each takes `delay` to come.
    pub(crate) fn start(
        delay: Duration,
        page: impl Fn(&str) -> Option<String> + 'static,
    ) -> io::Result<Site> {
        let server = StreamServer::bind("127.0.0.1:0")?
            // All come at the same moment, and none should find the door shut.
            .backlog(1024)
            .idle_timeout(Duration::from_secs(60))
            .handle(move |stream, _| serve(&stream, delay, &page));
        server.start();
        Ok(Site { address: server.local_addr()?, server })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.stop(Duration::ZERO);
    }
}

/// One visitor, request by request.
fn serve(
    mut stream: &TcpStream,
    delay: Duration,
    page: &dyn Fn(&str) -> Option<String>,
) -> io::Result<()> {
    const LONGEST_HEAD: u64 = 16 * 1024;
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    loop {
        let mut head = requests.by_ref().take(LONGEST_HEAD).lines();
        let Some(request) = head.next().transpose()? else { return Ok(()) };
        loop {
            match head.next().transpose()? {
                Some(line) if line.is_empty() => break,
                Some(_) => {}
                None => return Ok(()), // it ended in the middle
            }
        }
        greenloom::sleep(delay);
        let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
            ["GET", path, "HTTP/1.1"] => match page(path) {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", String::from("There is no such page.\n")),
            },
            _ => ("400 Bad Request", String::from("I only know GET, and HTTP/1.1.\n")),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes())?;
    }
}
