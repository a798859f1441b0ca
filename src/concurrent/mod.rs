//! Python's `concurrent.futures`: hand in a function, get a [`Future`] of what it returns.
//!
//! An [`Executor`] runs what it is handed. [`GreenletPoolExecutor`] does so in the greenlets of a
//! [`Pool`](crate::pool::Pool), so many at a time. The futures can be waited for in any mixture: with
//! [`wait`] and [`as_completed`], and with everything else that is
//! [`Waitable`](crate::Waitable).
//!
//! Where it is enough to join greenlets and to read what they return, [`spawn`](crate::spawn) and
//! [`Pool`](crate::pool::Pool) are simpler. A future can do two things more: it can be read many
//! times, and taken back ([`Future::cancel`]) as long as it has not begun.
//!
//! ```
//! use greenloom::concurrent::{GreenletPoolExecutor, as_completed};
//! use greenloom::sleep;
//! use std::time::Duration;
//!
//! let executor = GreenletPoolExecutor::new(10);
//! let futures = [30, 10, 20].map(|ms| {
//!     executor.submit(move || {
//!         sleep(Duration::from_millis(ms));
//!         ms
//!     })
//! });
//! let order: Vec<_> = as_completed(&futures).map(|future| future.result().unwrap()).collect();
//! assert_eq!(order, [10, 20, 30]);
//! ```

mod future;

mod executor;
mod wait;

pub use crate::error::FutureError;
pub use executor::{Executor, GreenletPoolExecutor, ThreadPoolExecutor};
pub use future::Future;
pub use wait::{
    ALL_COMPLETED, AsCompleted, FIRST_COMPLETED, FIRST_EXCEPTION, ReturnWhen, Waited, as_completed,
    wait, wait_timeout,
};
