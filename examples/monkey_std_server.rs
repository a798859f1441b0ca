//! The echo server of the textbooks: std's sockets, and a thread for each visitor. Only that the
//! threads are greenlets.
//!
//! ```text
//! cargo run --example monkey_std_server              # listens on 127.0.0.1:8080
//! nc 127.0.0.1 8080                                  # in another terminal; type something
//! ```
//!
//! Two lines make the difference to a program that has never heard of greenloom:
//!
//! ```diff
//! -use std::thread::spawn;
//! +use greenloom::spawn;
//!
//!  fn main() -> io::Result<()> {
//! +    greenloom::monkey::patch_all();
//! ```
//!
//! All that waits here is std's: `accept`, `read`, `write` and, at the end, a channel. Ten thousand
//! visitors take one thread. (The example `echo_server` is what one would write from scratch.)

#![expect(clippy::print_stdout, reason = "says where it listens")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use clap::Parser;
use greenloom::spawn;

#[cfg(test)]
#[path = "../tests/monkey_util/mod.rs"]
mod monkey_util;

/// Sends every visitor's bytes back to them.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; with port 0 the system picks one
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
    /// Ends when so many have come and gone [default: it goes on for ever]
    #[arg(long, value_name = "N")]
    visitors: Option<usize>,
}

fn main() -> io::Result<()> {
    greenloom::monkey::patch_all();
    let args = Args::parse();
    let listener = TcpListener::bind(&args.address)?;
    println!("listening on {}", listener.local_addr()?);
    serve(&listener, args.visitors.unwrap_or(usize::MAX))
}

fn serve(listener: &TcpListener, visitors: usize) -> io::Result<()> {
    let (inside, nobody_is_inside) = mpsc::channel::<()>();
    for stream in listener.incoming().take(visitors) {
        let (stream, inside) = (stream?, inside.clone());
        spawn(move || {
            if let Err(error) = echo(stream) {
                println!("a visitor was lost: {error}");
            }
            drop(inside);
        });
    }
    drop(inside);
    // Nobody sends anything: it ends when the last sender is gone.
    let _ = nobody_is_inside.recv();
    Ok(())
}

/// One visitor, until there is no more to be heard of it.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    use crate::monkey_util::alone;
    use greenloom::monkey;

    const VISITORS: usize = 50;

    alone! {
        /// All visitors are inside at the same time, and on the same thread as the server. The last is
        /// answered first.
        fn runs() {
            monkey::patch_all();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(move || serve(&listener, VISITORS));
            let connect = |_| TcpStream::connect(address).unwrap();
            let mut visitors: Vec<TcpStream> = (0..VISITORS).map(connect).collect();
            for (number, visitor) in visitors.iter_mut().enumerate().rev() {
                let words = format!("visitor {number} says hello");
                visitor.write_all(words.as_bytes()).unwrap();
                let mut answer = vec![0; words.len()];
                visitor.read_exact(&mut answer).unwrap();
                assert_eq!(answer, words.as_bytes());
            }
            assert!(!server.is_finished(), "they are still inside");
            for mut visitor in visitors {
                visitor.shutdown(Shutdown::Write).unwrap();
                assert_eq!(visitor.read(&mut [0]).unwrap(), 0);
            }
            server.get().unwrap().unwrap();
        }
    }
}
