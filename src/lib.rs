//! Green threads.
#[cfg(panic = "abort")]
compile_error!("no abort");
#[cfg(not(unix))]
compile_error!("unix");
mod coro;
mod error;
mod greenlet;
mod hub;
mod interrupt;
mod io;
mod local;
pub mod net;
mod observe;
pub mod raw;
mod sys;
mod timeout;
mod trace;
mod wait;

pub use error::{BlocksForever, Elapsed, GreenletError, HubClosed, JoinError};
pub use greenlet::{
    Builder, Current, Greenlet, LinkId, Outcome, Scope, ScopedGreenlet, current, killall, scope,
    spawn, spawn_later,
};
pub use hub::{GreenletId, Hub, Remote};
pub use interrupt::{Interrupt, catch_interrupt, shield};
pub use local::GreenletLocal;
pub use observe::{Dump, DumpEntry, dump};
pub use timeout::{Timeout, idle, sleep, with_timeout, yield_now};
pub use wait::{Iwait, Waitable, iwait, joinall, joinall_timeout, wait_any, wait_any_timeout};
