//! std's reads and sleeps overlap, and the names are ours for shared libraries as well.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use greenloom::{joinall, monkey, spawn};

fn main() -> std::io::Result<()> {
    monkey::patch_all();
    let (done, order) = channel();
    let (mut one, mut other) = UnixStream::pair()?;
    let greenlets = [
        spawn({
            let done = done.clone();
            move || {
                other.read_exact(&mut [0]).unwrap(); // until the second has slept
                done.send("read").unwrap();
            }
        }),
        spawn({
            let done = done.clone();
            move || {
                thread::sleep(Duration::from_millis(20));
                done.send("slept").unwrap();
                one.write_all(b"!").unwrap();
            }
        }),
        spawn(move || {
            done.send("ran").unwrap();
        }),
    ];
    joinall(&greenlets);
    assert_eq!(order.iter().collect::<Vec<_>>(), ["ran", "slept", "read"]);
    assert_eq!(monkey::report().elsewhere(), [""; 0]);
    println!("ok");
    Ok(())
}
