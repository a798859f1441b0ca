//! Buffers for those who have one only while they need it: between the moment when something can be
//! read and the moment when all of it is written.
//!
//! There are as many as were needed at once: one, as long as clients take what they get.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::BUFFER;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Is given back when it is dropped.
pub(super) struct Buffer(Box<[u8]>);

pub(super) fn borrow() -> Buffer {
    let free = FREE.with_borrow_mut(Vec::pop);
    Buffer(free.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()))
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        FREE.with_borrow_mut(|free| free.push(buffer));
    }
}
