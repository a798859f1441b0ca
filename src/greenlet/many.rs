//! Verbs for many greenlets at once.

use super::handle::Greenlet;

/// Kills all of them in one turn, then waits until all have ended.
///
/// Those that have not begun never will; the others are raised in the order of the list, before
/// any of them runs. gevent's `killall`.
///
/// # Examples
///
/// ```
/// use greenloom::{killall, sleep, spawn};
/// use std::time::Duration;
///
/// let greenlets: Vec<_> = (0..3).map(|_| spawn(|| sleep(Duration::MAX))).collect();
/// killall(&greenlets);
/// assert!(greenlets.iter().all(|greenlet| greenlet.is_finished()));
/// ```
pub fn killall<'a, T: 'static>(greenlets: impl IntoIterator<Item = &'a Greenlet<T>>) {
    let greenlets: Vec<_> = greenlets.into_iter().collect();
    for greenlet in &greenlets {
        greenlet.kill_nowait();
    }
    for greenlet in greenlets {
        greenlet.kill();
    }
}
