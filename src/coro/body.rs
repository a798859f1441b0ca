//! A closure to be called once, small ones in place.
//!
//! A greenlet's body waits for its first turn in its task. In a box it would cost an allocation that
//! lives for a moment; as what it is, every task would be as large as the largest body.

use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ptr;

/// Words of captures that are kept in place; with the rest of a task's second cache line it is full.
const WORDS: usize = 4;

type Room = [MaybeUninit<usize>; WORDS];

/// What a coroutine is to run. Runs it, or drops it unrun.
pub(crate) struct Body {
    /// Holds a closure of the type that `how` is for, until it is called.
    room: Room,
    how: &'static How,
    /// What closures capture stays in its thread.
    _local: PhantomData<*const ()>,
}

/// What can be done to a closure of one type that lies in a room. Both take it out.
struct How {
    call: unsafe fn(&mut Room),
    drop: unsafe fn(&mut Room),
}

const fn fits<F>() -> bool {
    mem::size_of::<F>() <= mem::size_of::<Room>() && mem::align_of::<F>() <= mem::align_of::<Room>()
}

impl Body {
    #[inline]
    pub(crate) fn new<F: FnOnce() + 'static>(f: F) -> Body {
        if fits::<F>() {
            Body::in_place(f)
        } else {
            let f: Box<dyn FnOnce()> = Box::new(f);
            Body::in_place(f)
        }
    }

    #[inline]
    fn in_place<F: FnOnce() + 'static>(f: F) -> Body {
        assert!(fits::<F>());
        let mut room = [MaybeUninit::uninit(); WORDS];
        // SAFETY: there is room for it, and the room is aligned for it, as is asserted above.
        unsafe { ptr::write(room.as_mut_ptr().cast::<F>(), f) };
        let how = const { &How { call: call::<F>, drop: drop_unrun::<F> } };
        Body { room, how, _local: PhantomData }
    }

    #[inline]
    pub(crate) fn run(self) {
        let mut this = ManuallyDrop::new(self);
        let call = this.how.call;
        // SAFETY: the closure that `new` wrote is still in its room: `run` and `drop` alone take it
        // out, `run` consumes the body, and keeps `drop` from running.
        unsafe { call(&mut this.room) };
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // SAFETY: as in `run`, which has not run.
        unsafe { (self.how.drop)(&mut self.room) };
    }
}

/// # Safety
///
/// A closure of type `F` lies in the room, and nobody takes it out again.
unsafe fn call<F: FnOnce()>(room: &mut Room) {
    // SAFETY: by contract.
    let f = unsafe { ptr::read(room.as_ptr().cast::<F>()) };
    f();
}

/// # Safety
///
/// As for [`call`].
unsafe fn drop_unrun<F>(room: &mut Room) {
    // SAFETY: by contract.
    unsafe { ptr::drop_in_place(room.as_mut_ptr().cast::<F>()) };
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn smoke() {
        let log = Rc::new(Cell::new(0));
        let seen = Rc::clone(&log);
        Body::new(move || seen.set(1)).run();
        assert_eq!((log.get(), Rc::strong_count(&log)), (1, 1));
    }

    #[test]
    fn small_and_large_ones_are_run_and_dropped_once() {
        fn check<const N: usize>() {
            let (held, ran) = (Rc::new(()), Rc::new(Cell::new(0)));
            let body = || {
                let (held, ran, captured) = (Rc::clone(&held), Rc::clone(&ran), [7_u8; N]);
                Body::new(move || {
                    assert!(captured.iter().all(|byte| *byte == 7));
                    ran.set(ran.get() + 1);
                    drop(held);
                })
            };
            let (first, second) = (body(), body());
            assert_eq!(Rc::strong_count(&held), 3);
            let moved = Box::new(first);
            moved.run();
            assert_eq!((ran.get(), Rc::strong_count(&held)), (1, 2));
            drop(second);
            assert_eq!((ran.get(), Rc::strong_count(&held)), (1, 1));
        }
        check::<0>();
        check::<8>();
        check::<16>();
        check::<17>();
        check::<5000>();
    }

    #[test]
    fn what_is_aligned_to_more_than_a_word_is_kept_elsewhere() {
        #[repr(align(64))]
        struct Line(u8);
        let (line, seen) = (Line(3), Rc::new(Cell::new(0)));
        let result = Rc::clone(&seen);
        Body::new(move || {
            let line = &line;
            assert_eq!(ptr::from_ref(line).addr() % 64, 0);
            result.set(line.0);
        })
        .run();
        assert_eq!(seen.get(), 3);
    }

    #[test]
    fn a_panic_takes_the_captures_along() {
        let held = Rc::new(());
        let captured = Rc::clone(&held);
        let body = Body::new(move || {
            let _captured = captured;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body.run())).is_err());
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
