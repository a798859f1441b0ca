//! A server for the tests to script: each connection is a closure's, in a greenlet of its own.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;

use greenloom::net::{SocketAddr, TcpListener, TcpStream};
use greenloom::{Greenlet, spawn};

/// Listens until it is dropped; connections that are open then are cut.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How many connections were made so far.
    accepted: Rc<Cell<usize>>,
    door: Greenlet<()>,
    visits: greenloom::pool::Group,
}

impl Server {
    /// `attend` has each connection, and its number, for as long as it likes. An error is the end
    /// of the connection, and nobody's fault.
    pub(crate) fn start(attend: impl Fn(&mut Visit, usize) -> io::Result<()> + 'static) -> Server {
        Server::start_on("127.0.0.1:0", attend)
    }

    pub(crate) fn start_on(
        address: &str,
        attend: impl Fn(&mut Visit, usize) -> io::Result<()> + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(Cell::new(0));
        let visits = greenloom::pool::Group::new();
        let attend = Rc::new(attend);
        let door = spawn({
            let (accepted, visits) = (accepted.clone(), visits.clone());
            move || {
                for stream in listener.incoming() {
                    let mut visit = Visit::new(stream.unwrap());
                    let number = accepted.replace(accepted.get() + 1);
                    let attend = attend.clone();
                    visits.spawn(move || drop(attend(&mut visit, number)));
                }
            }
        });
        Server { address, accepted, door, visits }
    }

    /// One that answers every request with `body`, and keeps connections open.
    pub(crate) fn saying(body: &'static str) -> Server {
        Server::start(move |visit, _| {
            loop {
                visit.hear()?;
                visit.answer(body)?;
            }
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.get()
    }

    /// How many connections are attended to.
    pub(crate) fn open(&self) -> usize {
        self.visits.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.door.kill();
        self.visits.kill();
    }
}

/// One connection, seen by the server.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) stream: TcpStream,
    heard: BufReader<TcpStream>,
}

impl Visit {
    fn new(stream: TcpStream) -> Visit {
        Visit { heard: BufReader::new(stream.clone()), stream }
    }

    /// The head of the next request: its lines. The end of the connection is an error.
    pub(crate) fn hear(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.heard.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => return Ok(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// So many bytes of a body.
    pub(crate) fn hear_body(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; len];
        self.heard.read_exact(&mut body)?;
        Ok(body)
    }

    /// Waits until the client has gone.
    pub(crate) fn until_gone(&mut self) {
        let _ = io::copy(&mut self.heard, &mut io::sink());
    }

    pub(crate) fn say(&mut self, words: &str) -> io::Result<()> {
        self.stream.write_all(words.as_bytes())
    }

    pub(crate) fn answer(&mut self, body: &str) -> io::Result<()> {
        self.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }
}
