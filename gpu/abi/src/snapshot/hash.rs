//! The hash that files of a snapshot are found by.

/// The hash of a path, made piece by piece: `PathHash::new().with(b"train/").with(b"0001.jpg").finish()`.
///
/// FNV-1a in 64 bits (draft-eastlake-fnv), then the mixing of 64 bits that ends MurmurHash3: a few lines in any
/// language, with no table and no word to load from an odd address, and the common beginning of many paths is hashed
/// once. It has no key, so who names files can make hashes equal. That is why equal ones are sorted by path: they cost a
/// binary search, never a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathHash(u64);

impl PathHash {
    /// FNV's offset basis.
    pub const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    /// FNV's prime.
    pub const PRIME: u64 = 0x0000_0100_0000_01b3;
    /// The two factors of the mixing.
    pub const MIX: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

    /// Of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Self::BASIS)
    }

    /// With these bytes behind those before.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |state, &byte| (state ^ u64::from(byte)).wrapping_mul(Self::PRIME)))
    }

    /// The hash.
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(Self::MIX[0]);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(Self::MIX[1]);
        hash ^ (hash >> 33)
    }

    /// The hash of a whole path.
    #[must_use]
    pub fn of(path: &[u8]) -> u64 {
        Self::new().with(path).finish()
    }
}

impl Default for PathHash {
    fn default() -> Self {
        Self::new()
    }
}
