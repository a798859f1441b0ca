//! Queues, channels and pipes: how greenlets of one thread pass things to each other.
//!
//! | | |
//! |---|---|
//! | [`Queue`] | first in, first out; bounded or not |
//! | [`LifoQueue`], [`PriorityQueue`] | last in, first out; smallest first |
//! | [`Channel`] | a rendezvous: `put` returns when somebody has the item |
//! | [`JoinableQueue`] | one can wait until every item is done |
//! | [`pipe`] | two ends, each of which sends and receives |
//!
//! A `put` that would exceed the bound waits: that is the back-pressure by which those who produce
//! are kept from running away from those who consume. [`Queue::shutdown`] is how a queue ends, and
//! with it every `for item in &queue`.
//!
//! They are local to their thread:
//!
//! ```compile_fail,E0277
//! let queue = greenloom::queue::Queue::<u32>::new();
//! std::thread::spawn(move || queue.put(1)); // cannot be sent between threads
//! ```

mod order;

mod exchange;
mod look;

mod handle;

mod joinable;
mod pipe;

pub use crate::error::{GetError, PutError, TooManyDone};
pub use handle::{
    Channel, IntoIter, Iter, LifoQueue, PriorityQueue, Queue, bounded, channel, unbounded,
};
pub use joinable::JoinableQueue;
pub use order::{Fifo, Lifo, Order, Priority};
pub use pipe::{Conn, pipe};
