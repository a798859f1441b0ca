//! A small web server, for examples that have nobody to ask: std's sockets, read and written by a
//! greenlet.
//!
//! It answers nobody before all have asked, and then the last one first. So whoever asks for one page
//! after the other waits for ever, and needs no clock to see the difference.
//! Then all pages take the same time, and are made at the same time.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Pages at an address of their own, each of which may be asked for once, and takes some `time` to be
/// made. Page n has n thousand bytes.
///
/// `monkey::patch_socket` and `patch_time` must have been called: it is served by a greenlet of this
/// thread, by calls that block.
pub(crate) fn serve(count: usize, time: Duration) -> io::Result<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    greenloom::spawn(move || answer_when_all_have_asked(&listener, count, time));
    Ok((1..=count).map(|number| format!("http://{address}/{number}")).collect())
}

fn answer_when_all_have_asked(
    listener: &TcpListener,
    count: usize,
    time: Duration,
) -> io::Result<()> {
    let mut visitors = Vec::new();
    for stream in listener.incoming().take(count) {
        visitors.push(Visitor::hear(stream?)?);
    }
    for visitor in visitors.into_iter().rev() {
        greenloom::spawn(move || {
            #[expect(
                clippy::disallowed_methods,
                reason = "patched, it stops nobody but this greenlet"
            )]
            thread::sleep(time);
            // One who has gone is nobody else's business.
            let _ = visitor.answer();
        });
    }
    Ok(())
}

/// One who has asked.
struct Visitor {
    stream: TcpStream,
    page: usize,
}

impl Visitor {
    fn hear(stream: TcpStream) -> io::Result<Visitor> {
        let mut request = String::new();
        let mut lines = BufReader::new(&stream);
        lines.read_line(&mut request)?;
        // The rest of the head ends with an empty line.
        while lines.read_line(&mut String::new())? > "\r\n".len() {}
        let path = request.split(' ').nth(1).unwrap_or_default();
        let page = path.trim_start_matches('/').parse().map_err(io::Error::other)?;
        Ok(Visitor { stream, page })
    }

    fn answer(mut self) -> io::Result<()> {
        let body = "x".repeat(self.page * 1000);
        write!(
            self.stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}
