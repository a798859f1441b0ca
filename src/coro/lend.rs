//! Lending borrowed closures to coroutines that could outlive the borrow, soundly.
//!
//! A coroutine's body must be `'static`, because nothing in the type system ties a suspended stack
//! to anybody's frame. A scope wants to run bodies that borrow. [`lending`] bridges the two: within
//! it, closures of the shorter lifetime become [`Lent`] ones, which claim to be `'static`; and it
//! does not return, or unwind, before every one of them is gone. Waiting for that is the caller's
//! part. Should the caller be wrong, the process aborts: that is the whole proof.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::rc::Rc;

/// A frame that borrowed closures may be lent from, and whatever `M` its owner keeps in it. The two
/// lifetimes are those of [`std::thread::scope`]: `'scope`, in which closures are lent, and `'env`,
/// which they may borrow.
pub struct Scope<'scope, 'env: 'scope, M> {
    /// Lent closures that still exist.
    out: Rc<Cell<usize>>,
    pub(crate) members: M,
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

/// Calls `f` with a scope. Aborts the process if `f` ends, by returning or by a panic, while a
/// closure that was lent within still exists.
pub(crate) fn lending<'env, M, F, R>(members: M, f: F) -> R
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env, M>) -> R,
{
    struct AllAreBack(Rc<Cell<usize>>);
    impl Drop for AllAreBack {
        fn drop(&mut self) {
            if self.0.get() != 0 {
                // Not a panic: unwinding would free what the lent closures borrow.
                std::process::abort();
            }
        }
    }
    let scope = Scope { out: Rc::default(), members, _scope: PhantomData, _env: PhantomData };
    let _all_are_back = AllAreBack(Rc::clone(&scope.out));
    f(&scope)
}

impl<'scope, M> Scope<'scope, '_, M> {
    pub(crate) fn lend<F>(&'scope self, f: F) -> Lent
    where
        F: FnOnce() + 'scope,
    {
        let job: Box<dyn FnOnce() + 'scope> = Box::new(f);
        // SAFETY: only the lifetime changes. `f` of `lending` works for every `'scope`, so all that
        // the closure borrows outlives the call of `f`; and `lending` lets nobody go on before the
        // closure, with all it captures, has been dropped: `Lent` counts itself out only after that.
        let job = unsafe {
            mem::transmute::<Box<dyn FnOnce() + 'scope>, Box<dyn FnOnce() + 'static>>(job)
        };
        self.out.set(self.out.get() + 1);
        Lent { job, _out: CountedOut(Rc::clone(&self.out)) }
    }
}

impl<M> fmt::Debug for Scope<'_, '_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("greenlets", &self.out.get()).finish_non_exhaustive()
    }
}

/// A closure on loan. Fields are dropped in order: first the closure, then its count.
pub(crate) struct Lent {
    job: Box<dyn FnOnce()>,
    _out: CountedOut,
}

impl Lent {
    /// Calls it. When this returns or unwinds, all that the closure captured is gone and so is the
    /// loan. (A panic's payload is `'static` and borrows nothing.)
    pub(crate) fn run(self) {
        let Lent { job, _out } = self;
        job();
    }
}

struct CountedOut(Rc<Cell<usize>>);

impl Drop for CountedOut {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let mut text = String::from("a");
        lending((), |lender| {
            let lent = lender.lend(|| text.push('b'));
            lent.run();
        });
        assert_eq!(text, "ab");
    }

    #[test]
    fn dropping_a_loan_unrun_returns_it() {
        let owned = Rc::new(());
        lending((), |lender| {
            let held = Rc::clone(&owned);
            drop(lender.lend(move || drop(held)));
            assert_eq!(Rc::strong_count(&owned), 1);
            assert_eq!(lender.out.get(), 0);
        });
    }
}
