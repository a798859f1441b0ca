//! Groups and pools: greenlets that are joined and killed together, and so many at a time.
//!
//! A [`Group`] is a set of greenlets. A [`Pool`] is a group with a bound: [`Pool::spawn`] waits while
//! so many run, which is how a crawler is kept from opening ten thousand connections at once. Both
//! run one function over many items, as `multiprocessing.pool` does:
//!
//! | | results | the function and its items | fed |
//! |---|---|---|---|
//! | [`map`](Pool::map) | a `Vec`, in order | may borrow from the caller | as slots become free |
//! | [`imap`](Pool::imap) | an iterator, in order | are owned | as results are read |
//! | [`imap_unordered`](Pool::imap_unordered) | an iterator, as they come | are owned | as results are read |
//!
//! A bound is never exceeded, not for an instant, and a slot is free again when its greenlet has
//! ended, however it has ended, before anybody hears of it. (A caller that unwinds must not wait for
//! a slot: what it maps or applies then runs in its own greenlet, beside the members.)
//!
//! They are local to their thread:
//!
//! ```compile_fail,E0277
//! let pool = greenloom::pool::Pool::new(2);
//! std::thread::spawn(move || pool.join()); // cannot be sent between threads
//! ```

mod crew;
mod kill;

mod imap;
mod map;

mod bounded;
mod group;

pub use crate::error::SpawnError;
pub use bounded::Pool;
pub use group::Group;
pub use imap::{Imap, ImapUnordered};

pub(crate) use map::{End, work};
