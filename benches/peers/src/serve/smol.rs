//! smol: async-io and a local executor, a task a connection. `block_on` drives both on this thread;
//! async-io starts a thread of its own for when nobody does, which sleeps all the time.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};

use async_executor::LocalExecutor;
use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::{Duty, buffers, is_passing};

pub(super) fn serve(listener: TcpListener, duty: Duty) -> anyhow::Result<()> {
    let listener = Async::new(listener)?;
    let executor = LocalExecutor::new();
    async_io::block_on(executor.run(async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => executor.spawn(attend(stream, duty)).detach(),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }))
}

async fn attend(stream: Async<TcpStream>, duty: Duty) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    match duty {
        Duty::Echo { buffer } => echo(stream, buffer).await,
        Duty::LeanEcho => lean_echo(stream).await,
        Duty::Sink { buffer } => sink(stream, buffer).await,
    }
}

async fn echo(mut stream: Async<TcpStream>, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

async fn lean_echo(mut stream: Async<TcpStream>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let mut buffer = buffers::borrow();
        match stream.get_ref().read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(&buffer[..count]).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn sink(mut stream: Async<TcpStream>, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut total: u64 = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.write_all(&total.to_le_bytes()).await,
            count => total += count as u64,
        }
    }
}
