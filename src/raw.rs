//! Explicit switch: coroutines that pass values to one another, as in Python's greenlet.
//!
//! A [`Coroutine`] runs when somebody switches to it, and until it switches elsewhere. A switch
//! carries a value one way, and returns with the value of whatever switch comes back. Where a body
//! ends, its value goes to the *parent*: the coroutine that made it, unless
//! [`set_parent`](Coroutine::set_parent) said otherwise. All coroutines that exchange values carry
//! the same type `V`.
//!
//! Coroutines are tasks of the hub, like greenlets. One of them may call anything that waits: then
//! others run, and those who wait for its switch wait on. A switch between two of them goes before
//! everybody who is ready.
//!
//! # Examples
//!
//! A generator:
//!
//! ```
//! use greenloom::raw::Coroutine;
//!
//! let squares = Coroutine::<u64>::new(|mut n| {
//!     let consumer = Coroutine::current().parent().unwrap();
//!     for square in (1..).map(|i| i * i) {
//!         n = consumer.switch(square);
//!         if n == 0 {
//!             break;
//!         }
//!     }
//!     n
//! });
//! assert_eq!((squares.switch(1), squares.switch(1), squares.switch(1)), (1, 4, 9));
//! assert_eq!(squares.switch(0), 0);
//! assert!(squares.is_dead());
//! ```

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::thread;

use crate::error::{Cause, Interruption};
use crate::hub::{self, Birth, LocalKey, Reason, Start, TaskId, Ticket};

/// A handle to a coroutine whose switches carry a `V`.
///
/// Clones name the same one. When the last handle of a suspended coroutine is dropped, nobody can
/// switch to it any more: it unwinds, before the drop returns (or as soon as it may, if the dropper
/// unwinds itself). Handles on its own stack count, too, and a child's link to its parent does: a
/// coroutine that keeps itself alive in such a way lasts until its thread ends. (So bind
/// `current().parent()` to a variable before switching to it, rather than keeping the temporary
/// handle to oneself across the switch.)
///
/// It is local to its thread:
///
/// ```compile_fail,E0277
/// let coroutine = greenloom::raw::Coroutine::<u32>::new(|v| v);
/// std::thread::spawn(move || coroutine.switch(1)); // cannot be sent between threads
/// ```
pub struct Coroutine<V: 'static> {
    core: Rc<Core<V>>,
}

struct Core<V: 'static> {
    stage: RefCell<Stage<V>>,
    parent: RefCell<Option<Coroutine<V>>>,
    /// What was switched to it and it has not seen. More than one only if it waited for something
    /// else meanwhile.
    mail: RefCell<VecDeque<Message<V>>>,
    /// Its pending switch.
    pending: Cell<Option<Ticket>>,
    /// A body does not count its own.
    handles: Cell<usize>,
    /// A thread's or a greenlet's own stack: it ends when that does.
    is_root: bool,
    has_run: Cell<bool>,
}

enum Stage<V> {
    Unstarted(Body<V>, Birth),
    Started(TaskId),
    Dead,
}

type Body<V> = Box<dyn FnOnce(V) -> V>;

enum Message<V> {
    Value(V),
    Raise(Box<dyn Any + Send>),
}

impl<V> Message<V> {
    /// What the receiver's switch returns, or raises.
    fn open(self) -> V {
        match self {
            Message::Value(value) => value,
            Message::Raise(payload) => panic::resume_unwind(payload),
        }
    }
}

impl<V: 'static> Coroutine<V> {
    /// Makes a coroutine that runs `f` at the first switch. Its parent is the caller.
    #[track_caller]
    pub fn new(f: impl FnOnce(V) -> V + 'static) -> Coroutine<V> {
        let parent = Coroutine::current();
        let birth = Birth { start: Start::Next, ..Birth::here(None) };
        let stage = Stage::Unstarted(Box::new(f), birth);
        Coroutine::from_core(Rc::new(Core::new(stage, Some(parent), false)))
    }

    /// Passes `v` to it and lets it run. Returns what is next switched to the caller.
    ///
    /// The first switch starts its body with `v`; later ones let its own pending switch return `v`.
    /// Switching to oneself returns `v`. A dead coroutine passes `v` on to its parent; if the whole
    /// chain is dead, or leads back to the caller, `v` is returned at once. If it is waiting for
    /// something other than a switch, it finds `v` when it switches next.
    ///
    /// While the caller unwinds, nothing is switched and `v` is returned.
    ///
    /// # Panics
    ///
    /// With what is [thrown](Coroutine::throw) at the caller instead of a value, and with the panic
    /// of a coroutine whose parent the caller is.
    pub fn switch(&self, v: V) -> V {
        self.send(Message::Value(v))
    }

    /// Raises `payload` in it, as a panic from its pending switch. Returns as
    /// [`switch`](Coroutine::switch) does.
    ///
    /// One that has not started dies without having run, and the payload is raised in its parent.
    ///
    /// # Panics
    ///
    /// As [`switch`](Coroutine::switch); and with `payload`, if that comes back to the caller.
    pub fn throw(&self, payload: Box<dyn Any + Send>) -> V {
        self.send(Message::Raise(payload))
    }

    fn send(&self, message: Message<V>) -> V {
        let me = Core::current();
        if thread::panicking() {
            return message.open();
        }
        match deliver(Rc::clone(&self.core), message, Some(&me)) {
            Some(message) => message.open(),
            None => me.receive(),
        }
    }

    /// Has its body begun? It stays true after the end.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.core.has_run.get()
    }

    /// Has its body ended, or was it ended before it began?
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(*self.core.stage.borrow(), Stage::Dead)
    }

    /// Is it the caller?
    #[must_use]
    pub fn is_current(&self) -> bool {
        Rc::ptr_eq(&self.core, &Core::current())
    }

    /// The one that is running. A thread's own stack and a greenlet's are coroutines, too, without
    /// a parent.
    #[must_use]
    pub fn current() -> Coroutine<V> {
        Coroutine::from_core(Core::current())
    }

    /// Whom its value goes to when it ends; `None` for a thread's or a greenlet's own stack.
    #[must_use]
    pub fn parent(&self) -> Option<Coroutine<V>> {
        self.core.parent.borrow().clone()
    }

    /// Lets its value go to `p` when it ends.
    ///
    /// # Panics
    ///
    /// If that would make it an ancestor of itself, or if it has no parent because it is a thread's
    /// or a greenlet's own stack.
    #[track_caller]
    pub fn set_parent(&self, p: &Coroutine<V>) {
        assert!(!self.core.is_root, "the stack of a thread or a greenlet has no parent");
        let mut ancestor = Some(p.clone());
        while let Some(coroutine) = ancestor {
            assert!(
                !Rc::ptr_eq(&coroutine.core, &self.core),
                "a coroutine cannot be its own ancestor"
            );
            ancestor = coroutine.parent();
        }
        let before = self.core.parent.borrow_mut().replace(p.clone());
        drop(before);
    }

    fn from_core(core: Rc<Core<V>>) -> Coroutine<V> {
        core.handles.set(core.handles.get() + 1);
        Coroutine { core }
    }
}

impl<V> UnwindSafe for Coroutine<V> {}
impl<V> RefUnwindSafe for Coroutine<V> {}

impl<V: 'static> Clone for Coroutine<V> {
    fn clone(&self) -> Coroutine<V> {
        Coroutine::from_core(Rc::clone(&self.core))
    }
}

impl<V: 'static> Drop for Coroutine<V> {
    fn drop(&mut self) {
        self.core.handles.set(self.core.handles.get() - 1);
        if self.core.handles.get() == 0 {
            self.core.abandon();
        }
    }
}

impl<V: 'static> fmt::Debug for Coroutine<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match *self.core.stage.borrow() {
            Stage::Unstarted(..) => "Unstarted",
            Stage::Started(_) => "Started",
            Stage::Dead => "Dead",
        };
        f.debug_struct("Coroutine")
            .field("stage", &stage)
            .field("is_root", &self.core.is_root)
            .finish()
    }
}

/// Hands `message` to `target` or, if that is dead, up its chain of parents. What reaches `sender`
/// itself, or nobody, is returned.
fn deliver<V: 'static>(
    mut target: Rc<Core<V>>,
    message: Message<V>,
    sender: Option<&Rc<Core<V>>>,
) -> Option<Message<V>> {
    loop {
        if sender.is_some_and(|sender| Rc::ptr_eq(sender, &target)) {
            return Some(message);
        }
        let is_started = matches!(*target.stage.borrow(), Stage::Started(_));
        if is_started {
            target.mail.borrow_mut().push_back(message);
            if let Some(ticket) = target.pending.take() {
                hub::unpark_next(ticket, 0);
            }
            return None;
        }
        if let (Message::Value(_), Some((body, birth))) = (&message, target.take_body()) {
            target.start(body, birth, message);
            return None;
        }
        // Dead by now, if it was not before: a body that is thrown at before it began is dropped.
        let parent = target.parent.borrow().as_ref().map(|parent| Rc::clone(&parent.core));
        match parent {
            Some(parent) => target = parent,
            None => return Some(message),
        }
    }
}

impl<V: 'static> Core<V> {
    fn new(stage: Stage<V>, parent: Option<Coroutine<V>>, is_root: bool) -> Core<V> {
        Core {
            stage: RefCell::new(stage),
            parent: RefCell::new(parent),
            mail: RefCell::default(),
            pending: Cell::new(None),
            handles: Cell::new(0),
            is_root,
            has_run: Cell::new(is_root),
        }
    }

    /// Kept as a local of its task. A task that is no coroutine of this family becomes its own.
    fn current() -> Rc<Core<V>> {
        let key = LocalKey::Type(TypeId::of::<Identity<V>>());
        let known = hub::local(key).and_then(|identity| identity.downcast::<Identity<V>>().ok());
        if let Some(identity) = known {
            return Rc::clone(&identity.0);
        }
        let core = Rc::new(Core::new(Stage::Started(hub::current().0), None, true));
        hub::set_local(key, Rc::new(Identity(Rc::clone(&core))));
        core
    }

    /// The body of one that has not started. It is dead then, until started.
    fn take_body(&self) -> Option<(Body<V>, Birth)> {
        let mut stage = self.stage.borrow_mut();
        match std::mem::replace(&mut *stage, Stage::Dead) {
            Stage::Unstarted(body, birth) => Some((body, birth)),
            other => {
                *stage = other;
                None
            }
        }
    }

    fn start(self: &Rc<Self>, body: Body<V>, birth: Birth, first: Message<V>) {
        let core = Rc::clone(self);
        self.has_run.set(true);
        let run = move || {
            let key = LocalKey::Type(TypeId::of::<Identity<V>>());
            hub::set_local(key, Rc::new(Identity(Rc::clone(&core))));
            let result = panic::catch_unwind(AssertUnwindSafe(|| body(first.open())));
            hub::drop_locals();
            // Its mail, too, goes here: values have destructors.
            hub::quietly("panicked at its end", move || core.end(result));
        };
        match hub::spawn(birth, run) {
            Ok((task, _)) => *self.stage.borrow_mut() = Stage::Started(task),
            Err(error) => panic!("no stack for another coroutine: {error}"),
        }
    }

    /// The body has ended: its value, or its panic, goes to the parent.
    fn end(self: Rc<Self>, result: thread::Result<V>) {
        *self.stage.borrow_mut() = Stage::Dead;
        let message = match result {
            Ok(value) => Message::Value(value),
            // Its last handle was dropped, or its thread ends: nobody is to hear of it.
            Err(payload) if is_kill(payload.as_ref()) => return,
            Err(payload) => Message::Raise(payload),
        };
        let parent = self.parent.borrow().as_ref().map(|parent| Rc::clone(&parent.core));
        let undelivered = match parent {
            Some(parent) => deliver(parent, message, None),
            None => Some(message),
        };
        if let Some(Message::Raise(payload)) = undelivered {
            hub::report_panic("panicked, and no parent was left to hear of it", payload.as_ref());
        }
    }

    /// Waits for a message.
    fn receive(&self) -> V {
        loop {
            let message = self.mail.borrow_mut().pop_front();
            if let Some(message) = message {
                return message.open();
            }
            if self.handles.get() == 0 && !self.is_root {
                // Nobody can ever switch back.
                hub::raise_cause(Cause::Killed);
            }
            let arm = |ticket| self.pending.set(Some(ticket));
            if let Err(interruption) = hub::park(Reason::new(&"switch"), None, arm) {
                self.pending.set(None);
                assert!(
                    interruption != Interruption::Unwinding,
                    "the thread is ending: nobody can switch back"
                );
                hub::raise(interruption);
            }
        }
    }

    /// The last handle is gone.
    fn abandon(&self) {
        let body = self.take_body();
        drop(body);
        let task = match *self.stage.borrow() {
            Stage::Started(task) if !self.is_root && self.pending.get().is_some() => task,
            // Dead; or running, or waiting for something else: then its next switch ends it.
            _ => return,
        };
        self.pending.set(None);
        hub::kill_next(task);
        hub::yield_to_next();
    }
}

fn is_kill(payload: &(dyn Any + Send)) -> bool {
    payload.downcast_ref::<Cause>() == Some(&Cause::Killed)
}

/// Which coroutine of a family a task is. A root ends with it.
struct Identity<V: 'static>(Rc<Core<V>>);

impl<V> Drop for Identity<V> {
    fn drop(&mut self) {
        if self.0.is_root {
            *self.0.stage.borrow_mut() = Stage::Dead;
        }
    }
}
