//! `Coro`, and the two halves of a switch.

use std::cell::Cell;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use corosensei::stack::StackPointer;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::body::Body;
use super::size::{HEADER, StackSize};
use super::stack::Stack;
use crate::sys::prefetch::prefetch;

/// What an overflow report calls a coroutine.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) number: u64,
    pub(crate) name: Option<Rc<str>>,
}

/// A body on a stack of its own, eight bytes to move around.
#[derive(Debug)]
pub(crate) struct Coro(NonNull<Header>);

/// What [`Coro::resume`] came back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    Suspended,
    /// The body has returned; [`Coro::into_stack`] takes the stack back.
    Done,
}

/// The upper end of a slot. The fields are reached one by one through raw pointers, because the
/// body reads `yielder` while `resume` holds `coroutine`.
struct Header {
    coroutine: Coroutine<(), (), (), Bounds>,
    /// How the body suspends itself. Set by its first act.
    yielder: Cell<*const Yielder<(), ()>>,
    /// Where about its frames end, while it is suspended: a hint, never followed.
    frames: Cell<*const u8>,
    label: Label,
    stack: Stack,
}

const _: () = assert!(mem::size_of::<Header>() <= HEADER && mem::align_of::<Header>() <= 64);

/// Cache lines of frames that are worth fetching ahead: what a wait returns through.
const FRAME_LINES: usize = 6;

/// Where the frames may lie, as `corosensei` wants to hear it. The memory is owned by
/// [`Header::stack`].
struct Bounds {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: `base` and `limit` delimit a `Stack`, which has at least `MIN_STACK_SIZE` usable bytes
// and a guard at its low end (see `stack`).
unsafe impl corosensei::stack::Stack for Bounds {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

thread_local! {
    /// The coroutine this thread is executing; null on the thread's own stack. Constant and without
    /// a destructor, so that the overflow handler may read it.
    static RUNNING: Cell<*const Header> = const { Cell::new(ptr::null()) };
}

/// Sets RUNNING, and sets it back however the switch comes back.
struct Running(*const Header);

impl Running {
    #[inline]
    fn set(header: *const Header) -> Running {
        Running(RUNNING.replace(header))
    }
}

impl Drop for Running {
    #[inline]
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

impl Coro {
    /// Puts `body` onto `stack`. It runs at the first [`resume`](Coro::resume).
    ///
    /// Written to the stack before it runs, where no guard watches; so it is well that a [`Body`] is
    /// small.
    pub(crate) fn new(stack: Stack, label: Label, body: Body) -> Coro {
        let end = stack.end();
        let header = end.as_ptr().wrapping_sub(HEADER).cast::<Header>();
        let base = StackPointer::new(header.addr());
        let limit = StackPointer::new(stack.start().as_ptr().addr());
        let (Some(base), Some(limit), Some(header)) = (base, limit, NonNull::new(header)) else {
            unreachable!("no stack lies at address zero");
        };
        let body = Unrun(ManuallyDrop::new(body));
        let coroutine = Coroutine::with_stack(Bounds { base, limit }, move |yielder, ()| {
            let running = RUNNING.get();
            // SAFETY: `resume` has just set RUNNING to the header of this very coroutine, and no
            // one holds a reference to its `yielder` field.
            let slot = unsafe { &(*running).yielder };
            slot.set(yielder);
            // Bodies are not to panic. Should one, `corosensei` would raise it again in `resume`,
            // in the middle of somebody else's wait.
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| body.run())) {
                #[expect(clippy::mem_forget, reason = "a payload may panic when it is dropped")]
                mem::forget(payload);
            }
        });
        let (yielder, frames) = (Cell::new(ptr::null()), Cell::new(ptr::null()));
        // SAFETY: the slot is ours alone (we own `stack`), `header` lies within it, is aligned to
        // 64 (its end is page aligned and HEADER a multiple of 64), and lies above `base`, where
        // the coroutine never writes.
        unsafe { header.write(Header { coroutine, yielder, frames, label, stack }) };
        Coro(header)
    }

    /// Runs the body until it suspends or returns. Must be called on the thread's own stack.
    #[inline]
    pub(crate) fn resume(&mut self) -> Resumed {
        let header = self.0.as_ptr();
        let _running = Running::set(header);
        // SAFETY: the header lives as long as this `Coro`, and `&mut self` makes us the only one
        // that names its `coroutine` field.
        let coroutine = unsafe { &mut (*header).coroutine };
        match coroutine.resume(()) {
            CoroutineResult::Yield(()) => Resumed::Suspended,
            CoroutineResult::Return(()) => Resumed::Done,
        }
    }

    /// The size of its stack and how deep it has been used, for a census. `None` in place of a depth:
    /// it has not begun.
    pub(crate) fn stack_use(&self) -> (StackSize, Option<usize>) {
        let header = self.0.as_ptr();
        // SAFETY: the header lives as long as this `Coro`, and nothing changes its `stack`.
        let stack = unsafe { &(*header).stack };
        // SAFETY: as above; `&self`: nobody resumes it.
        let coroutine = unsafe { &(*header).coroutine };
        (stack.size(), coroutine.started().then(|| stack.depth()))
    }

    /// It is to be resumed before long: the processor may fetch what that reads first.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch(self.0.as_ptr());
    }

    /// It is to be resumed soon, and what [`prefetch`](Coro::prefetch) asked for has come.
    #[inline(always)]
    pub(crate) fn prefetch_frames(&self) {
        // SAFETY: the header lives as long as this `Coro`, and nobody holds a reference to that
        // field but for a moment, in this very thread.
        let frames = unsafe { (*self.0.as_ptr()).frames.get() };
        for line in 0..FRAME_LINES {
            prefetch(frames.wrapping_add(line * 64));
        }
    }

    /// The stack of a body that has returned, or that has never run: then the body is dropped here,
    /// unrun. A suspended body is leaked, and so is its stack: `None`.
    pub(crate) fn into_stack(self) -> Option<Stack> {
        let mut this = ManuallyDrop::new(self);
        this.take_stack()
    }

    fn take_stack(&mut self) -> Option<Stack> {
        let header = self.0.as_ptr();
        // SAFETY: the header lives as long as this `Coro`, and `&mut self` makes us the only user.
        let coroutine = unsafe { &(*header).coroutine };
        if coroutine.started() && !coroutine.done() {
            return None;
        }
        // Field by field: a copy of the whole would be most of what ending costs.
        // SAFETY: the header lives until the end of this function, and `&mut self` makes us the
        // only one that names it.
        let header = unsafe { &mut *header };
        // SAFETY: `into_stack` and `drop` call this once, and nobody looks at the header afterwards.
        // If the body has never run, this drops it; `Unrun` lets no panic out of that.
        unsafe { ptr::drop_in_place(&raw mut header.coroutine) };
        // SAFETY: as above.
        unsafe { ptr::drop_in_place(&raw mut header.label) };
        // SAFETY: as above; the stack moves out.
        let stack = unsafe { ptr::read(&raw const header.stack) };
        Some(stack)
    }
}

impl Drop for Coro {
    fn drop(&mut self) {
        let _ = self.take_stack();
    }
}

/// Gives the thread back to whoever resumed the running coroutine; returns when it is resumed.
///
/// # Panics
///
/// On the thread's own stack, where there is nobody to give it back to.
#[inline(always)]
pub(crate) fn suspend() {
    let running = RUNNING.get();
    assert!(!running.is_null(), "suspend called outside of a coroutine");
    // SAFETY: RUNNING names the innermost running coroutine (set by `resume`, restored when that
    // returns), whose header lives until its body has returned.
    let yielder = unsafe { (*running).yielder.get() };
    // SAFETY: the body's first act has stored its yielder, which lies on the stack that this very
    // line runs on.
    let yielder = unsafe { &*yielder };
    let here = 0_u8;
    // SAFETY: as above; nobody holds a reference to that field.
    let frames = unsafe { &(*running).frames };
    frames.set(&raw const here);
    yielder.suspend(());
}

/// Shows the running coroutine to an overflow report. May be called in a signal handler, while the
/// thread is stopped anywhere in that coroutine.
pub(super) fn look_at_running<R>(f: impl FnOnce(&Label, &Stack) -> R) -> Option<R> {
    let running = RUNNING.get();
    if running.is_null() {
        return None;
    }
    // SAFETY: RUNNING names a live header, whose `label` nothing changes while its coroutine runs.
    let label = unsafe { &(*running).label };
    // SAFETY: as for `label`.
    let stack = unsafe { &(*running).stack };
    Some(f(label, stack))
}

/// As [`Coro::stack_use`], for the running coroutine.
pub(crate) fn running_stack() -> Option<(StackSize, usize)> {
    look_at_running(|_, stack| (stack.size(), stack.depth()))
}

/// Is the caller on the stack that it should be on: the running coroutine's, or the thread's own? Not
/// in a handler of signals that has a stack of its own, nor in code that brings along another.
#[cfg(feature = "monkey")]
pub(crate) fn is_on_its_stack() -> bool {
    let here = 0_u8;
    let here = ptr::from_ref(&here).addr();
    match look_at_running(|_, stack| stack.contains(here)) {
        Some(contains) => contains,
        None => crate::sys::real::is_on_thread_stack(here),
    }
}

/// Is this the thread's own stack?
#[inline]
pub(crate) fn on_thread_stack() -> bool {
    RUNNING.get().is_null()
}

/// A body that may be dropped unrun without letting a panic out: `corosensei` drops it while it
/// could not cope with one.
struct Unrun(ManuallyDrop<Body>);

impl Unrun {
    fn run(mut self) {
        // SAFETY: `self` is forgotten in the next line, so nobody uses the body again.
        let body = unsafe { ManuallyDrop::take(&mut self.0) };
        #[expect(
            clippy::mem_forget,
            reason = "the body has moved out; dropping would drop it twice"
        )]
        mem::forget(self);
        body.run();
    }
}

impl Drop for Unrun {
    fn drop(&mut self) {
        // SAFETY: a destructor runs once, and `run` forgets `self`.
        let body = unsafe { ManuallyDrop::take(&mut self.0) };
        // The panic hook has printed it; there is nobody to hand it to.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(body))) {
            #[expect(clippy::mem_forget, reason = "a payload may panic when dropped, too")]
            mem::forget(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coro::{StackPool, StackSize};

    fn coro(body: impl FnOnce() + 'static) -> Coro {
        let mut pool = StackPool::default();
        pool.promise(StackSize::DEFAULT).unwrap();
        let stack = pool.lease(StackSize::DEFAULT);
        Coro::new(stack, Label { number: 1, name: None }, Body::new(body))
    }

    #[test]
    fn smoke() {
        let log = Rc::new(Cell::new(0));
        let seen = Rc::clone(&log);
        let mut coro = coro(move || {
            seen.set(1);
            suspend();
            seen.set(2);
        });
        assert_eq!((coro.resume(), log.get()), (Resumed::Suspended, 1));
        assert!(on_thread_stack());
        assert_eq!((coro.resume(), log.get()), (Resumed::Done, 2));
        assert!(coro.into_stack().is_some());
    }

    #[test]
    fn an_unrun_body_is_dropped_and_its_stack_comes_back() {
        let owned = Rc::new(());
        let held = Rc::clone(&owned);
        let coro = coro(move || drop(held));
        assert!(coro.into_stack().is_some());
        assert_eq!(Rc::strong_count(&owned), 1);
    }

    #[test]
    fn a_suspended_body_is_leaked_not_freed() {
        let owned = Rc::new(());
        let held = Rc::clone(&owned);
        let mut coro = coro(move || {
            suspend();
            drop(held);
        });
        assert_eq!(coro.resume(), Resumed::Suspended);
        assert!(coro.into_stack().is_none());
        assert_eq!(Rc::strong_count(&owned), 2);
    }

    #[test]
    fn a_panic_while_an_unrun_body_is_dropped_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic::resume_unwind(Box::new("bomb"));
            }
        }
        let bomb = Bomb;
        let coro = coro(move || drop(bomb));
        assert!(coro.into_stack().is_some());
    }
}
