//! One value a greenlet: `thread_local!`, for greenlets.

use std::fmt;
use std::rc::Rc;

use crate::hub::{self, LocalKey};

/// A value of which each greenlet has its own; declared by [`greenlet_local!`](crate::greenlet_local).
///
/// It is made when the greenlet first asks for it, and dropped when the greenlet ends, before
/// [`join`](crate::Greenlet::join) returns. The main greenlet has one, too, which is dropped with
/// its thread. gevent's `local`.
pub struct GreenletLocal<T: 'static> {
    #[doc(hidden)]
    pub init: fn() -> T,
}

impl<T: 'static> GreenletLocal<T> {
    /// Calls `f` with this greenlet's value, which is made now if need be. `f` may wait: others have
    /// values of their own.
    ///
    /// # Panics
    ///
    /// In the destructors of a thread, after its hub has ended.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let key = LocalKey::Static(std::ptr::from_ref(self).addr());
        let known = hub::local(key).and_then(|value| value.downcast::<T>().ok());
        let value = known.unwrap_or_else(|| {
            let value = Rc::new((self.init)());
            hub::set_local(key, Rc::clone(&value) as Rc<dyn std::any::Any>);
            value
        });
        f(&value)
    }
}

impl<T> fmt::Debug for GreenletLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenletLocal").finish_non_exhaustive()
    }
}

/// Declares values of which each greenlet has its own.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
///
/// greenloom::greenlet_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
///
/// DEPTH.with(|depth| depth.set(7));
/// let other = greenloom::spawn(|| DEPTH.with(Cell::get));
/// assert_eq!(other.get().unwrap(), 0);
/// assert_eq!(DEPTH.with(Cell::get), 7);
/// ```
#[macro_export]
macro_rules! greenlet_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident : $type:ty = $init:expr);+ $(;)?) => {
        $(
            $(#[$attribute])*
            $visibility static $name: $crate::GreenletLocal<$type> =
                $crate::GreenletLocal { init: || $init };
        )+
    };
}
