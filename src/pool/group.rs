//! `Group`: greenlets that are joined and killed together.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::Duration;

use super::crew::{Crew, Verbs};
use super::imap::{Imap, ImapUnordered, UNBOUNDED};
use super::map;
use crate::greenlet::Greenlet;
use crate::hub::Birth;
use crate::wait::Limit;

const VERBS: Verbs = Verbs {
    spawn: "spawn of the Group",
    join: "join of the Group",
    kill: "kill of the Group",
    available: "wait of the Group",
};

/// Greenlets that are joined and killed together. A handle: clones name the same group.
///
/// Members leave when they end. gevent's `pool.Group`.
///
/// # Examples
///
/// ```
/// use greenloom::{pool::Group, sleep};
/// use std::time::Duration;
///
/// let group = Group::new();
/// for n in 0..3 {
///     group.spawn(move || sleep(Duration::from_millis(n)));
/// }
/// group.spawn(|| sleep(Duration::from_secs(10)));
/// assert!(!group.join_timeout(Duration::from_millis(20)));
/// assert_eq!(group.len(), 1);
/// group.kill();
/// assert!(group.is_empty());
/// ```
#[derive(Clone)]
pub struct Group {
    crew: Rc<Crew>,
}

impl Group {
    /// One without members.
    #[must_use]
    #[track_caller]
    pub fn new() -> Group {
        Group { crew: Crew::new(usize::MAX, &VERBS) }
    }

    /// As [`spawn`](crate::spawn); the greenlet is a member until it ends.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        // While the group is being killed nobody is let in who would have to wait for that; here
        // one is let in, and killed.
        let membership = self.crew.enter_at_once();
        self.crew.spawn(Birth::here(None), membership, f)
    }

    /// Makes a member of a greenlet that exists already. Nothing if it is one, or has ended. While
    /// the group is being killed, it is killed, too.
    pub fn add<T: 'static>(&self, g: &Greenlet<T>) {
        if g.is_finished() {
            return;
        }
        if let Some(membership) = self.crew.adopt(g.task()) {
            g.attach(membership);
        }
    }

    /// Lets a member go, which runs on. False if it is none.
    pub fn discard<T: 'static>(&self, g: &Greenlet<T>) -> bool {
        self.crew.discard(g.task())
    }

    /// Waits until the group has no members, or has had none at some time since; greenlets that
    /// members spawn into it meanwhile are waited for. While the caller unwinds, it returns at once.
    #[track_caller]
    pub fn join(&self) {
        self.crew.join(Limit::Forever);
    }

    /// As [`join`](Group::join), but at most so long. True: it had no members.
    #[track_caller]
    pub fn join_timeout(&self, d: Duration) -> bool {
        self.crew.join(Limit::Within(d))
    }

    /// Kills all members in the order in which they came, and waits until they have ended. Those who
    /// are spawned into it meanwhile are killed, too; so is the caller if he is a member, last of
    /// all. One that refuses is left alone after a while (see [`Greenlet::kill`]).
    #[track_caller]
    pub fn kill(&self) {
        self.crew.kill(Limit::Forever);
    }

    /// As [`kill`](Group::kill), but waits at most so long. False: some are still alive.
    #[track_caller]
    pub fn kill_timeout(&self, d: Duration) -> bool {
        self.crew.kill(Limit::Within(d))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.crew.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Pool::map`](super::Pool::map), all items at once.
    ///
    /// # Panics
    ///
    /// As [`Pool::map`](super::Pool::map).
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> Vec<T>
    where
        I: IntoIterator,
        F: Fn(I::Item) -> T,
    {
        map::map(&self.crew, items, f)
    }

    /// As [`Pool::imap`](super::Pool::imap), without a bound: items are started as fast as the input
    /// yields them, whether results are read or not, and [`join`](Group::join) waits for all of it.
    #[track_caller]
    pub fn imap<I, F, T>(&self, items: I, f: F) -> Imap<T>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        F: Fn(I::Item) -> T + 'static,
        T: 'static,
    {
        Imap::new(&self.crew, items, f, UNBOUNDED)
    }

    /// As [`Pool::imap_unordered`](super::Pool::imap_unordered), without a bound, as
    /// [`imap`](Group::imap).
    #[track_caller]
    pub fn imap_unordered<I, F, T>(&self, items: I, f: F) -> ImapUnordered<T>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: 'static,
        F: Fn(I::Item) -> T + 'static,
        T: 'static,
    {
        ImapUnordered::new(&self.crew, items, f, UNBOUNDED)
    }
}

impl Default for Group {
    #[track_caller]
    fn default() -> Group {
        Group::new()
    }
}

impl UnwindSafe for Group {}
impl RefUnwindSafe for Group {}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("len", &self.len()).finish_non_exhaustive()
    }
}
