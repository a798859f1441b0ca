//! Looking at a hub from above: who is there, and how deep their stacks go.
//!
//! [`dump`] is a picture of the moment: what every greenlet waits for. [`StackCensus`] is taken over
//! some time: how much of their stacks greenlets have used, by the place where they were spawned.
//!
//! # Memory of many quiet greenlets
//!
//! A greenlet that waits costs what its stack has touched, in pages of 4 KiB, and some hundred bytes
//! beside: see [`StackCensus`] for how much that is. A page that was touched once is kept as long as
//! the greenlet lives. So a server of many connections that mostly say nothing should
//!
//! - wait with [`TcpStream::wait_readable`](crate::net::TcpStream::wait_readable), and get itself a
//!   buffer when there is something to read: from the heap, and in a function of its own, so that it
//!   is gone before the next wait;
//! - do what goes deep once (a handshake, say) in a greenlet of its own, or by
//!   [`offload`](crate::offload), and not on the stack that then waits for hours;
//! - give greenlets with plain tasks [`stack_size(0)`](crate::Builder::stack_size), the least there
//!   is, if there are a hundred thousand of them: that saves some of the kernel's page tables, 400
//!   bytes each. It does not save more, because address space costs nothing.
//!
//! ```
//! use greenloom::net::TcpStream;
//! use std::io::{self, Read, Write};
//!
//! fn serve(mut stream: TcpStream) -> io::Result<()> {
//!     loop {
//!         stream.wait_readable()?; // here it spends its life, without a buffer
//!         if answer(&mut stream)? == 0 {
//!             return Ok(());
//!         }
//!     }
//! }
//!
//! /// What is on its stack is not on that of `serve`, which waits.
//! #[inline(never)]
//! fn answer(stream: &mut TcpStream) -> io::Result<usize> {
//!     let mut buffer = vec![0; 16 * 1024];
//!     let len = stream.read(&mut buffer)?;
//!     stream.write_all(&buffer[..len])?;
//!     Ok(len)
//! }
//! # let listener = greenloom::net::TcpListener::bind("127.0.0.1:0")?;
//! # let mut client = TcpStream::connect(listener.local_addr()?)?;
//! # let server = listener.accept()?.0;
//! # let server = greenloom::spawn(move || serve(server));
//! # client.write_all(b"hello")?;
//! # let mut answer = [0; 5];
//! # client.read_exact(&mut answer)?;
//! # assert_eq!(&answer, b"hello");
//! # drop(client);
//! # server.get().unwrap()?;
//! # io::Result::Ok(())
//! ```

mod stacks;

pub use crate::hub::{Dump, DumpEntry};
pub use stacks::{SiteStacks, StackCensus, StackReport};

/// Every greenlet of this thread: name, state, what it waits for, age, and where it was spawned.
///
/// # Examples
///
/// ```
/// use greenloom::{dump, idle, sleep, spawn};
/// use std::time::Duration;
///
/// let sleeper = spawn(|| sleep(Duration::from_secs(10)));
/// idle(); // let it begin
/// let dump = dump();
/// let entry = dump.greenlets().iter().find(|entry| entry.id == sleeper.id()).unwrap();
/// assert_eq!((entry.state, entry.reason.as_deref()), ("parked", Some("sleep")));
/// println!("{dump}");
/// ```
#[must_use]
pub fn dump() -> Dump {
    crate::hub::dump()
}
