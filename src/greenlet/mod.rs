//! Greenlets: tasks with a result, a handle, and links.
//!
//! The hub below knows tasks, which run a body and end. Here a body gets a [`record`], in which it
//! leaves how it ended, and which everybody else looks at: [`Greenlet::join`], `get`, `kill`, links
//! and [`Waitable`](crate::Waitable) are written on it. The hub never sees one.

mod current;
mod handle;
mod many;
mod outcome;
mod record;
mod scope;
mod spawn;

pub use current::{Current, current};
pub use handle::Greenlet;
pub use many::killall;
pub use outcome::Outcome;
pub use scope::{Scope, ScopedGreenlet, scope};
pub use spawn::{Builder, spawn, spawn_later};
pub(crate) use spawn::{spawn_member, try_spawn_member};
