//! What files are filled with: every eight bytes name the write that they came from.
//!
//! A word has the write's number in bits 36 to 63, its own place within the write in bits 18 to 35, and in the others a
//! check over both and the round. Aligned words are copied whole by every kernel and device that this runs on, so a word
//! is never a mixture of two writes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a word.
pub(crate) const WORD: usize = 8;

const INDEX_BITS: u32 = 18;
const CHECK_BITS: u32 = 18;
const SEQUENCE_BITS: u32 = 22;

/// A write: which process, and its how manieth operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WriteId(pub u32);

impl WriteId {
    /// What free space is filled with before anything else.
    pub const POISON: Self = Self((1 << (SEQUENCE_BITS + 6)) - 1);

    /// Operation `sequence` of process `actor`.
    ///
    /// # Panics
    /// Where either is too large, which no run is.
    #[must_use]
    pub fn new(actor: u32, sequence: u32) -> Self {
        assert!(actor < 63 && sequence < 1 << SEQUENCE_BITS, "a longer run than words can name");
        Self(actor << SEQUENCE_BITS | sequence)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> SEQUENCE_BITS, self.0 & ((1 << SEQUENCE_BITS) - 1))
    }
}

/// The words of one round. Another round's are not understood: they are as foreign as poison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u64);

/// What stood in a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// Zeros.
    Zeros,
    /// Words of a write, from this one of it on.
    Of(WriteId, u64),
    /// Words that nobody has written in this round; the first of them.
    Unknown(u64),
}

/// Bytes that look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First byte in the file.
    pub at: u64,
    /// Bytes.
    pub length: u64,
    /// What they are.
    pub seen: Seen,
}

impl Stamp {
    fn check(self, id: WriteId, index: u64) -> u64 {
        // The finalizer of MurmurHash3.
        let mut word = u64::from(id.0) << 20 ^ index ^ self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (word ^ word >> 33) & ((1 << CHECK_BITS) - 1)
    }

    /// Word `index` of a write.
    #[must_use]
    pub fn word(self, id: WriteId, index: u64) -> u64 {
        u64::from(id.0) << (INDEX_BITS + CHECK_BITS) | index << CHECK_BITS | self.check(id, index)
    }

    /// Fills memory with a write's words from its start on.
    pub fn fill(self, id: WriteId, bytes: &mut [u8]) {
        for (index, word) in (0..).zip(bytes.chunks_exact_mut(WORD)) {
            word.copy_from_slice(&self.word(id, index).to_le_bytes());
        }
    }

    /// What one word is.
    #[must_use]
    pub fn read(self, word: u64) -> Seen {
        if word == 0 {
            return Seen::Zeros;
        }
        let index = word >> CHECK_BITS & ((1 << INDEX_BITS) - 1);
        let id = u32::try_from(word >> (INDEX_BITS + CHECK_BITS)).map(WriteId);
        match id {
            Ok(id) if id != WriteId::POISON && self.word(id, index) == word => Seen::Of(id, index),
            _ => Seen::Unknown(word),
        }
    }

    /// What bytes that were read from `at` on are, in as few runs as tell it.
    #[must_use]
    pub fn runs(self, at: u64, bytes: &[u8]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (at, word) in (at..).step_by(WORD).zip(bytes.chunks(WORD)) {
            // Files have whole words: what ends within one is nobody's.
            let word = <[u8; WORD]>::try_from(word).map_or(u64::MAX, u64::from_le_bytes);
            let seen = self.read(word);
            if let Some(last) = runs.last_mut() {
                let words = last.length / 8;
                let goes_on = match (last.seen, seen) {
                    (Seen::Zeros, Seen::Zeros) | (Seen::Unknown(_), Seen::Unknown(_)) => true,
                    (Seen::Of(id, from), Seen::Of(next, index)) => id == next && from + words == index,
                    _ => false,
                };
                if goes_on {
                    last.length += 8;
                    continue;
                }
            }
            runs.push(Run { at, length: 8, seen });
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_two_writes_and_zeros_are_three_runs() {
        let stamp = Stamp(7);
        let (first, second) = (WriteId::new(1, 2), WriteId::new(3, 4));
        let mut bytes = vec![0; 192];
        stamp.fill(first, &mut bytes[..128]);
        stamp.fill(second, &mut bytes[64..128]);
        let runs = stamp.runs(4096, &bytes);
        let wanted = [
            Run { at: 4096, length: 64, seen: Seen::Of(first, 0) },
            Run { at: 4160, length: 64, seen: Seen::Of(second, 0) },
            Run { at: 4224, length: 64, seen: Seen::Zeros },
        ];
        assert_eq!(runs, wanted);
    }

    #[test]
    fn words_of_another_round_and_poison_are_unknown() {
        let id = WriteId::new(1, 2);
        let old = Stamp(1).word(id, 5);
        assert_eq!(Stamp(2).read(old), Seen::Unknown(old));
        let poison = Stamp(1).word(WriteId::POISON, 5);
        assert_eq!(Stamp(1).read(poison), Seen::Unknown(poison));
        assert_eq!(Stamp(1).read(old), Seen::Of(id, 5));
        assert_eq!(Stamp(1).read(old ^ 1 << 20), Seen::Unknown(old ^ 1 << 20));
    }
}
