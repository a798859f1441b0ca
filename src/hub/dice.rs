//! Chance for the `--cfg hard_switch` build. Seeded by `GREENLOOM_SEED`, so that a run can be
//! repeated.

/// A xorshift generator.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Default for Dice {
    fn default() -> Dice {
        let seed = std::env::var("GREENLOOM_SEED").ok().and_then(|seed| seed.parse().ok());
        Dice(seed.unwrap_or(0x9E37_79B9_7F4A_7C15_u64).max(1))
    }
}

impl Dice {
    /// A number from 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}
