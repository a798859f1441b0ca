//! greenloom: a greenlet a connection, with everything as it is by default.

use std::io::{self, Read, Write};
use std::net;

use greenloom::net::{TcpListener, TcpStream};

use super::{Duty, blocking, buffers, is_passing};

pub(super) fn serve(listener: net::TcpListener, duty: Duty) -> anyhow::Result<()> {
    let listener = TcpListener::from(listener);
    loop {
        match listener.accept() {
            // Whether it ended well is the client's to judge, here and in all the others.
            Ok((stream, _)) => drop(greenloom::spawn(move || attend(stream, duty))),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn attend(stream: TcpStream, duty: Duty) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match duty {
        Duty::LeanEcho => lean_echo(stream),
        duty => blocking::attend(stream, duty),
    }
}

fn lean_echo(mut stream: TcpStream) -> io::Result<()> {
    loop {
        stream.wait_readable()?;
        let mut buffer = buffers::borrow();
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
