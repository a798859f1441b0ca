//! Where those who put and those who get meet: the waiting of every kind of queue, written once.
//!
//! Two lines. Getters wait while there is nothing; putters while there is no room. Who comes with an
//! item and finds a getter in line hands it to him; who takes an item and thereby makes room lets
//! the first putter's item in, on his behalf. So nobody overtakes a line, and whoever is woken has
//! what he waited for: an item on its way between two greenlets lies in a *parcel*, whose number the
//! getter is woken with, and under whose number a putter waits.
//!
//! ```text
//!   put    a getter waits?  -> a parcel for him       room?  -> among the items      else: wait,
//!                                                                                    item in a parcel
//!   get    an item there?   -> it is ours; the first putter's parcel is moved in
//!          nothing there?   -> wait for a parcel
//! ```
//!
//! Capacity 0 is a *rendezvous*: there is never room, and a getter takes straight from the first
//! putter's parcel.
//!
//! Those who only look (`peek`) stand in the getters' line. An item wakes all who look ahead of the
//! first getter; while one of them has not looked yet, the line is held up and nobody takes. See
//! `look`.

use std::cell::{Cell, RefCell, RefMut};
use std::marker::PhantomData;
use std::panic::Location;
use std::{fmt, mem};

use slab::Slab;

use super::order::{Items, Order};
use crate::error::{GetError, PutError, TooManyDone};
use crate::hub::{self, Reason, Wake};
use crate::wait::{self, Limit, WaitList};

/// Why somebody stands in the getters' line.
const GET: u32 = 0;
pub(super) const PEEK: u32 = 1;

/// What those are told who are not told the number of a parcel.
const SHUT: u32 = u32::MAX / 4;
pub(super) const LOOK: u32 = SHUT + 1;
const ACCEPTED: u32 = SHUT + 2;

/// What waits here are called in a dump.
#[derive(Debug)]
pub(super) struct Verbs {
    pub(super) what: &'static str,
    pub(super) put: &'static str,
    pub(super) get: &'static str,
    pub(super) peek: &'static str,
    pub(super) poll: &'static str,
    pub(super) join: &'static str,
}

pub(super) struct Exchange<T, O> {
    pub(super) capacity: Option<usize>,
    pub(super) goods: RefCell<Goods<T>>,
    pub(super) getters: WaitList,
    putters: WaitList,
    /// Those who only want to know that there is something to get.
    pub(super) watchers: WaitList,
    /// Those who have been told to look, and have not yet.
    pub(super) looking: Cell<usize>,
    /// How many items there are, those that are being looked at included. Here, and not only in the
    /// container, so that whoever is called while that is in use may ask.
    len: Cell<usize>,
    pub(super) lent: Cell<usize>,
    pub(super) is_shut: Cell<bool>,
    /// What was in it when it was emptied is no more, wherever it was.
    pub(super) is_emptied: Cell<bool>,
    /// Items put and not yet said to be done.
    unfinished: Cell<usize>,
    all_done: WaitList,
    pub(super) verbs: &'static Verbs,
    site: &'static Location<'static>,
    order: PhantomData<O>,
}

/// The container while it is in use. A comparison may panic in the middle.
pub(super) struct Open<'a, T> {
    pub(super) goods: RefMut<'a, Goods<T>>,
    len: &'a Cell<usize>,
    pub(super) lent: usize,
}

impl<T> Drop for Open<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.len.set(self.goods.items.len() + self.lent);
    }
}

pub(super) struct Goods<T> {
    pub(super) items: Items<T>,
    parcels: Slab<T>,
}

impl<T, O> Exchange<T, O> {
    #[track_caller]
    pub(super) fn new(capacity: Option<usize>, verbs: &'static Verbs) -> Exchange<T, O> {
        Exchange {
            capacity,
            goods: RefCell::new(Goods { items: Items::new(), parcels: Slab::new() }),
            getters: WaitList::default(),
            putters: WaitList::default(),
            watchers: WaitList::default(),
            looking: Cell::new(0),
            len: Cell::new(0),
            lent: Cell::new(0),
            is_shut: Cell::new(false),
            is_emptied: Cell::new(false),
            unfinished: Cell::new(0),
            all_done: WaitList::default(),
            verbs,
            site: Location::caller(),
            order: PhantomData,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| self.len() < capacity)
    }

    /// Would a `get` return at once?
    pub(super) fn is_ready(&self) -> bool {
        self.has_something() || (self.is_shut.get() && self.is_drained())
    }

    pub(super) fn watchers(&self) -> &WaitList {
        &self.watchers
    }

    /// Is there something to get that is not promised to anybody?
    fn has_something(&self) -> bool {
        let is_there = match self.capacity {
            Some(0) => self.putters.first_waiting().is_some(),
            _ => self.len() > 0,
        };
        is_there && self.looking.get() == 0
    }

    /// Waits until a `get` would return at once. False: the time is over, or the caller unwinds.
    #[track_caller]
    pub(super) fn poll(&self, limit: Limit) -> bool {
        let deadline = limit.deadline();
        while !self.is_ready() {
            match self.watchers.wait(self.reason(&self.verbs.poll), deadline) {
                Ok(Wake::Ready(_)) => {}
                Ok(Wake::Elapsed) => return self.is_ready(),
                Err(interruption) => {
                    hub::raise(interruption);
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn is_drained(&self) -> bool {
        self.len() == 0 && self.looking.get() == 0
    }

    pub(super) fn reason(&self, verb: &'static &'static str) -> Reason {
        Reason::new(verb).made_at(self.site)
    }

    // ── shutdown and being done ──

    fn count_in(&self) {
        self.unfinished.set(self.unfinished.get() + 1);
    }

    pub(super) fn count_out(&self, items: usize) {
        // Some may have been said to be done before they were taken.
        let left = self.unfinished.get().saturating_sub(items);
        self.unfinished.set(left);
        if left == 0 {
            self.all_done.wake_all();
        }
    }

    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.get()
    }

    pub(super) fn task_done(&self) -> Result<(), TooManyDone> {
        if self.unfinished.get() == 0 {
            return Err(TooManyDone);
        }
        self.count_out(1);
        Ok(())
    }

    /// Waits until all is done, or has been once since. False: the time is over, or the caller
    /// unwinds.
    #[track_caller]
    pub(super) fn join(&self, limit: Limit) -> bool {
        if self.unfinished.get() == 0 {
            return true;
        }
        match self.all_done.wait(self.reason(&self.verbs.join), limit.deadline()) {
            Ok(Wake::Ready(_)) => true,
            Ok(Wake::Elapsed) => false,
            Err(interruption) => {
                hub::raise(interruption);
                false
            }
        }
    }
}

impl<T, O: Order<T>> Exchange<T, O> {
    // ── putting ──

    #[inline(always)]
    #[track_caller]
    pub(super) fn put(&self, item: T, limit: Limit) -> Result<(), PutError<T>> {
        // Who has to wait stands in line at once, or somebody would overtake him.
        if limit != Limit::Never && (self.has_room() || !self.getters.is_empty()) {
            wait::spend();
        }
        if self.is_shut.get() {
            return Err(PutError::ShutDown(item));
        }
        match self.accept(item, limit) {
            None => {
                if self.capacity == Some(0) && limit != Limit::Never {
                    hub::yield_to_next(); // who takes goes first
                }
                Ok(())
            }
            Some(item) if limit == Limit::Never => Err(PutError::Full(item)),
            Some(item) => self.wait_for_room(item, limit),
        }
    }

    /// Hands it to a getter, or lays it among the others if there is room. The item, if neither.
    #[inline(always)]
    fn accept(&self, item: T, limit: Limit) -> Option<T> {
        let item = if self.getters.is_empty() { item } else { self.hand_over(item, limit)? };
        if !self.has_room() {
            return Some(item);
        }
        self.store(item);
        if !self.watchers.is_empty() {
            self.watchers.wake_all();
        }
        None
    }

    /// Lays it among the others. Counted first: if a comparison panics, it is there all the same.
    #[inline]
    fn store(&self, item: T) {
        self.count_in();
        self.lay(item);
    }

    #[inline]
    fn lay(&self, item: T) {
        O::put(&mut self.open().goods.items, item);
    }

    /// The container. When this is dropped, it has been counted anew.
    #[inline]
    pub(super) fn open(&self) -> Open<'_, T> {
        Open { goods: self.goods.borrow_mut(), len: &self.len, lent: self.lent.get() }
    }

    /// To the first getter in line, unless somebody looks first. The item, if there is no getter.
    #[inline(always)]
    fn hand_over(&self, item: T, limit: Limit) -> Option<T> {
        let number = self.goods.borrow().parcels.vacant_key() as u32;
        loop {
            match self.getters.first() {
                Some(PEEK) => self.tell_to_look(),
                Some(GET) if self.looking.get() == 0 => {
                    let is_meeting = self.capacity == Some(0) && limit != Limit::Never;
                    let taken = if is_meeting {
                        self.getters.wake_front_next(number)
                    } else {
                        self.getters.wake_front(number)
                    };
                    if taken {
                        self.count_in();
                        self.goods.borrow_mut().parcels.insert(item);
                        return None;
                    }
                }
                _ => return Some(item),
            }
        }
    }

    fn tell_to_look(&self) {
        if self.getters.wake_front(LOOK) {
            self.looking.set(self.looking.get() + 1);
        }
    }

    #[inline(always)]
    #[track_caller]
    fn wait_for_room(&self, item: T, limit: Limit) -> Result<(), PutError<T>> {
        let number = self.goods.borrow_mut().parcels.insert(item) as u32;
        if self.capacity == Some(0) {
            self.watchers.wake_all();
        }
        match self.putters.wait_as(number, self.reason(&self.verbs.put), limit.deadline()) {
            Ok(Wake::Ready(ACCEPTED)) => Ok(()),
            Ok(Wake::Ready(_)) => Err(PutError::ShutDown(self.open_parcel(number))),
            Ok(Wake::Elapsed) => Err(PutError::Elapsed(self.open_parcel(number))),
            Err(interruption) => {
                let item = self.open_parcel(number);
                hub::raise(interruption);
                Err(PutError::Full(item))
            }
        }
    }

    fn open_parcel(&self, number: u32) -> T {
        self.goods.borrow_mut().parcels.remove(number as usize)
    }

    // ── getting ──

    #[inline(always)]
    #[track_caller]
    pub(super) fn get(&self, limit: Limit) -> Result<T, GetError> {
        if limit != Limit::Never && (self.len() > 0 || !self.putters.is_empty()) {
            wait::spend();
        }
        match self.take() {
            Some(item) => Ok(item),
            None => self.wait_for_item(limit),
        }
    }

    /// The next item, if there is one and nobody is to look at it first. (If anybody waits for it,
    /// there is none.)
    #[inline]
    fn take(&self) -> Option<T> {
        if self.looking.get() > 0 {
            return None;
        }
        if self.capacity == Some(0) {
            return self.take_offer();
        }
        let item = O::take(&mut self.open().goods.items)?;
        if !self.putters.is_empty() {
            self.let_in();
        }
        Some(item)
    }

    /// The first putter's item.
    fn take_offer(&self) -> Option<T> {
        loop {
            let number = self.putters.first()?;
            if self.putters.wake_front(ACCEPTED) {
                self.count_in();
                return Some(self.open_parcel(number));
            }
        }
    }

    /// Lets in what putters hold, as far as there is room.
    fn let_in(&self) {
        while self.has_room() {
            let Some(item) = self.take_offer() else { return };
            self.lay(item);
        }
    }

    #[inline(always)]
    #[track_caller]
    fn wait_for_item(&self, limit: Limit) -> Result<T, GetError> {
        if self.is_shut.get() && self.is_drained() {
            return Err(GetError::ShutDown);
        }
        if limit == Limit::Never {
            return Err(GetError::Empty);
        }
        match self.getters.wait_as(GET, self.reason(&self.verbs.get), limit.deadline()) {
            Ok(Wake::Ready(SHUT)) => Err(GetError::ShutDown),
            Ok(Wake::Ready(number)) => Ok(self.open_parcel(number)),
            Ok(Wake::Elapsed) => Err(GetError::Elapsed),
            Err(interruption) => {
                hub::raise(interruption);
                Err(GetError::Empty)
            }
        }
    }

    /// Brings together what has come and who waits, after the line was held up or the queue shut.
    pub(super) fn serve(&self) {
        while self.looking.get() == 0 {
            match self.getters.first_waiting() {
                Some(PEEK) if self.len() > 0 => {
                    while self.getters.first() == Some(PEEK) {
                        self.tell_to_look();
                    }
                }
                Some(GET) => {
                    let Some(item) = self.take() else { break };
                    let number = self.goods.borrow_mut().parcels.insert(item) as u32;
                    if !self.getters.wake_front(number) {
                        // He has just been seen to wait; but a comparison may have killed him.
                        let item = self.open_parcel(number);
                        self.lay(item);
                    }
                }
                _ => break,
            }
        }
        if self.is_shut.get() && self.is_drained() {
            self.getters.wake_all_with(SHUT);
        }
        if !self.watchers.is_empty() && self.is_ready() {
            self.watchers.wake_all();
        }
    }

    // ── the end ──

    pub(super) fn shutdown(&self) {
        self.is_shut.set(true);
        self.putters.wake_all_with(SHUT);
        self.serve();
    }

    pub(super) fn shutdown_now(&self) {
        let items = mem::replace(&mut self.open().goods.items, Items::new());
        self.is_emptied.set(true);
        self.count_out(items.len());
        self.shutdown();
        drop(items); // outside of the borrow: they may have destructors that come back here
    }
}

impl<T, O> fmt::Debug for Exchange<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.verbs.what)
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .field("is_shut", &self.is_shut.get())
            .finish()
    }
}
