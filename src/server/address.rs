//! `LastAddress`: where a server has listened, when its listener is gone.

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;

use crate::net::unix;

/// An address that can be asked for more than once.
///
/// `Accept::Peer` need not be `Clone`, and to ask for that now would break listeners of users. So
/// only addresses of std's types are remembered: those of all listeners of this crate, and of
/// whatever is built on them.
pub(super) struct LastAddress<A>(RefCell<Option<A>>);

impl<A: 'static> LastAddress<A> {
    pub(super) fn new() -> LastAddress<A> {
        LastAddress(RefCell::new(None))
    }

    pub(super) fn set(&self, address: A) {
        let before = self.0.replace(Some(address));
        drop(before);
    }

    pub(super) fn get(&self) -> Option<A> {
        let address = self.0.borrow();
        let address = address.as_ref()?;
        cloned_as::<A, SocketAddr>(address).or_else(|| cloned_as::<A, unix::SocketAddr>(address))
    }
}

/// A clone, if `A` is `Known`.
fn cloned_as<A: 'static, Known: Clone + 'static>(address: &A) -> Option<A> {
    let known: &Known = (address as &dyn Any).downcast_ref()?;
    let mut clone = None::<A>;
    *(&mut clone as &mut dyn Any).downcast_mut()? = Some(known.clone());
    clone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_std_can_be_asked_for_again() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let last = LastAddress::new();
        assert_eq!(last.get(), None);
        last.set(address);
        assert_eq!([last.get(), last.get()], [Some(address); 2]);

        let last = LastAddress::new();
        last.set(unix::SocketAddr::from_pathname("/tmp/socket").unwrap());
        assert_eq!(last.get().unwrap().as_pathname().unwrap().to_str(), Some("/tmp/socket"));
    }

    #[test]
    fn others_cannot() {
        let last = LastAddress::new();
        last.set("a cellar".to_owned());
        assert_eq!(last.get(), None);
    }
}
