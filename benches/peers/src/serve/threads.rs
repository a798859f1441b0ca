//! std: a thread of the system a connection. Their stacks are small, as one would have it with
//! thousands; it needs no more. There is nothing to wait with but a read into a buffer (or a peek,
//! but the stack and the kernel's part of a thread are what costs).

use std::net::TcpListener;
use std::thread;

use super::{Duty, blocking, is_passing};

const STACK: usize = 64 * 1024;

pub(super) fn serve(listener: TcpListener, duty: Duty) -> anyhow::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        thread::Builder::new().stack_size(STACK).spawn(move || {
            stream.set_nodelay(true)?;
            blocking::attend(stream, duty)
        })?;
    }
}
