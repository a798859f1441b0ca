//! What is sent, and so what must come back.

/// Chance bytes; a message is a piece of them, and where the piece begins depends on the connection
/// and on the number of the message. So there is nothing to make before a message is sent, and an
/// answer to another message, or for another connection, is not what was expected.
pub(super) struct Pattern {
    bytes: Vec<u8>,
    size: usize,
}

/// Beginnings; a power of two.
const PLACES: usize = 1 << 16;

impl Pattern {
    /// For messages of `size` bytes.
    pub(super) fn new(size: usize) -> Pattern {
        // splitmix64: the same bytes in each run.
        let mut state: u64 = 0;
        let words = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        let bytes = words.flat_map(u64::to_le_bytes).take(PLACES + size).collect();
        Pattern { bytes, size }
    }

    /// Odd factors: no two of 65,536 messages in a row of a connection are alike, nor are those
    /// with the same number of 65,536 connections.
    #[inline]
    pub(super) fn message(&self, connection: usize, number: usize) -> &[u8] {
        let place = connection.wrapping_mul(40_503).wrapping_add(number.wrapping_mul(25_087));
        let begin = place % PLACES;
        &self.bytes[begin..begin + self.size]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn messages_differ() {
        let pattern = Pattern::new(16);
        let of_one: HashSet<_> = (0..PLACES).map(|number| pattern.message(7, number)).collect();
        assert_eq!(of_one.len(), PLACES);
        let of_all: HashSet<_> = (0..PLACES).map(|who| pattern.message(who, 3)).collect();
        assert_eq!(of_all.len(), PLACES);
    }
}
