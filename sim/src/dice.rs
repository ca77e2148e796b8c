//! Chance. Every stream comes from the seed, so that a run is a function of it.

use ablo_wasm::core::rng::Rng;

/// One stream of chance.
#[derive(Debug)]
pub(crate) struct Dice(Rng);

impl Dice {
    /// A stream of `seed`. Streams with different names do not influence each other: asking one more question in one
    /// place does not change every answer elsewhere.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Rng::new((u128::from(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64) | u128::from(seed));
        for _ in 0..4 {
            rng.next_u64();
        }
        Self(rng)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// An index below `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.0.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high.saturating_sub(low) + 1)
    }

    /// True in so many cases of a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    /// One of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let index = self.index(items.len());
        items.get(index).copied().expect("a list to pick from is not empty")
    }

    /// 128 bits for an engine.
    pub(crate) fn seed128(&mut self) -> u128 {
        (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64())
    }
}
