//! Says no more of the crate than that it is there. Its functions are, too, and do what the C
//! library's would.

use greenloom as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        one.write_all(b"!")
    });
    other.read_exact(&mut [0])?;
    writer.join().unwrap()?;
    println!("ok");
    Ok(())
}
