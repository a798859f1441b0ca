//! The greenlet that runs.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::hub::{self, GreenletId, TaskId};

/// The greenlet this is called from; outside of all greenlets, the main one of the thread.
///
/// # Examples
///
/// ```
/// assert!(greenloom::current().is_main());
/// greenloom::spawn(|| assert!(!greenloom::current().is_main())).get().unwrap();
/// ```
#[must_use]
pub fn current() -> Current {
    let (task, id) = hub::current();
    Current { task, id, name: hub::name_of(task).into(), _local: PhantomData }
}

/// What [`current`] returns: a greenlet by name. It may be kept, and outlive the greenlet.
#[derive(Clone)]
pub struct Current {
    task: TaskId,
    id: GreenletId,
    name: Rc<str>,
    _local: PhantomData<Rc<()>>,
}

impl Current {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> GreenletId {
        self.id
    }

    /// Its name; `main` for the main greenlet.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string()
    }

    /// Is it the thread's own stack?
    #[must_use]
    pub fn is_main(&self) -> bool {
        self.task == TaskId::MAIN
    }

    /// Raises a kill in it, at its present or next wait. Nothing if it has ended.
    ///
    /// The main greenlet can be killed, too: its thread unwinds, and ends the way a panic ends it.
    pub fn kill_nowait(&self) {
        hub::kill(self.task);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("id", &self.id).field("name", &self.name).finish()
    }
}
