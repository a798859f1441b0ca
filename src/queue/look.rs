//! Looking at the first item of a queue, which stays where it is.
//!
//! While somebody looks, nobody takes: [`Look`] holds the line up, and serves it when the last has
//! looked. The item is taken out meanwhile and put back afterwards, because `clone` is the user's
//! code, and does not run under a borrow.

use std::time::Instant;

use super::exchange::{Exchange, LOOK, PEEK};
use super::order::{Lent, Order};
use crate::error::GetError;
use crate::hub::{self, Wake};
use crate::wait::{self, Limit};

impl<T, O: Order<T>> Exchange<T, O> {
    #[track_caller]
    pub(super) fn peek(&self, limit: Limit) -> Result<T, GetError>
    where
        T: Clone,
    {
        if limit != Limit::Never {
            wait::spend();
        }
        let deadline = limit.deadline();
        if self.capacity == Some(0) {
            return Err(self.peek_in_vain(limit, deadline));
        }
        let mut look = (self.looking.get() == 0).then(|| Look::begin(self));
        loop {
            if let Some(item) = look.take().and_then(Look::clone_first) {
                return Ok(item);
            }
            if self.is_shut.get() && self.is_drained() {
                return Err(GetError::ShutDown);
            }
            if limit == Limit::Never {
                return Err(GetError::Empty);
            }
            match self.getters.wait_as(PEEK, self.reason(&self.verbs.peek), deadline) {
                Ok(Wake::Ready(LOOK)) => look = Some(Look { exchange: self }),
                Ok(Wake::Ready(_)) => return Err(GetError::ShutDown),
                Ok(Wake::Elapsed) => return Err(GetError::Elapsed),
                Err(interruption) => {
                    hub::raise(interruption);
                    return Err(GetError::Empty);
                }
            }
        }
    }

    /// In a rendezvous there is nothing to look at, ever. (What a putter holds is still his.)
    #[track_caller]
    fn peek_in_vain(&self, limit: Limit, deadline: Option<Instant>) -> GetError {
        while !self.is_shut.get() {
            if limit == Limit::Never {
                return GetError::Empty;
            }
            match self.watchers.wait(self.reason(&self.verbs.peek), deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => return GetError::Elapsed,
                Err(interruption) => {
                    hub::raise(interruption);
                    return GetError::Empty;
                }
            }
        }
        GetError::ShutDown
    }
}

/// Somebody looks at the first item, and holds the line up until he has.
struct Look<'a, T, O: Order<T>> {
    exchange: &'a Exchange<T, O>,
}

impl<'a, T, O: Order<T>> Look<'a, T, O> {
    fn begin(exchange: &'a Exchange<T, O>) -> Look<'a, T, O> {
        exchange.looking.set(exchange.looking.get() + 1);
        Look { exchange }
    }

    /// A clone of the first item. It is taken out meanwhile: `clone` is the user's code, and may do
    /// as it likes.
    fn clone_first(self) -> Option<T>
    where
        T: Clone,
    {
        let exchange = self.exchange;
        let lent = {
            let mut open = exchange.open();
            let lent = O::lend(&mut open.goods.items)?;
            exchange.lent.set(exchange.lent.get() + 1);
            open.lent += 1;
            lent
        };
        let place = Place { look: &self, lent: Some(lent) };
        place.lent.as_ref().map(|lent| lent.item.clone())
    }
}

impl<T, O: Order<T>> Drop for Look<'_, T, O> {
    fn drop(&mut self) {
        self.exchange.looking.set(self.exchange.looking.get() - 1);
        self.exchange.serve();
    }
}

/// Where the item goes back to that is looked at.
struct Place<'a, T, O: Order<T>> {
    look: &'a Look<'a, T, O>,
    lent: Option<Lent<T>>,
}

impl<T, O: Order<T>> Drop for Place<'_, T, O> {
    fn drop(&mut self) {
        let exchange = self.look.exchange;
        if let Some(lent) = self.lent.take() {
            exchange.lent.set(exchange.lent.get() - 1);
            if exchange.is_emptied.get() {
                drop(exchange.open()); // to be counted without it
                exchange.count_out(1);
            } else {
                O::put_back(&mut exchange.open().goods.items, lent);
            }
        }
    }
}
