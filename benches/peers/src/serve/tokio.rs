//! tokio: the current_thread runtime with everything enabled, a task a connection. Buffers are on
//! the heap, as in most servers; an array inside of the future would be touched as a whole for each
//! connection.

use std::io;
use std::net;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::{Duty, buffers, is_passing};

pub(super) fn serve(listener: net::TcpListener, duty: Duty) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(attend(stream, duty))),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

async fn attend(stream: TcpStream, duty: Duty) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match duty {
        Duty::Echo { buffer } => echo(stream, buffer).await,
        Duty::LeanEcho => lean_echo(stream).await,
        Duty::Sink { buffer } => sink(stream, buffer).await,
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

async fn lean_echo(mut stream: TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let mut buffer = buffers::borrow();
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(&buffer[..count]).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn sink(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut total: u64 = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.write_all(&total.to_le_bytes()).await,
            count => total += count as u64,
        }
    }
}
