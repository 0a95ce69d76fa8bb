//! Numbers for tests that try many things.

/// A sequence of numbers that look random and are the same in each run (Marsaglia's xorshift).
#[derive(Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next one, below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
