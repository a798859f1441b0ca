//! `io`: descriptors that can be polled, pipes, and the standard streams, in every shape that a
//! shell can give them.

mod util;

use std::io::{Read, Write};

use greenloom::io::pipe;
use greenloom::spawn;
use util::{MINUTE, within};

/// More than a pipe holds.
const MORE_THAN_A_PIPE: usize = 1 << 20;

/// Bytes in which a lost, doubled or exchanged one shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let (mut reader, mut writer) = pipe().unwrap();
        let sender = spawn(move || writer.write_all(&pattern(MORE_THAN_A_PIPE)));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == pattern(MORE_THAN_A_PIPE));
        sender.get().unwrap().unwrap();
    });
}
