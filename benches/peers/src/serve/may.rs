//! may: a coroutine a connection, one worker. Stacks have may's default size (4096 words, 32 KiB),
//! for the buffers are on the heap. So has its pool of coroutines, 1,000: a larger one would only
//! be filled earlier. The worker stays on the core of the process; may's own pinning would count
//! cores from zero.

use std::net;
use std::os::fd::{FromRawFd, IntoRawFd};

use may::go;
use may::net::TcpListener;

use super::{Duty, blocking, is_passing};

pub(super) fn serve(listener: net::TcpListener, duty: Duty) -> anyhow::Result<()> {
    may::config().set_workers(1).set_worker_pin(false);
    // SAFETY: the descriptor is a listener's, and nobody's any more.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let accepting = go!(move || -> std::io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            go!(move || {
                stream.set_nodelay(true)?;
                blocking::attend(stream, duty)
            });
        }
    });
    match accepting.join() {
        Ok(result) => Ok(result?),
        Err(_) => anyhow::bail!("the coroutine that accepts panicked"),
    }
}
