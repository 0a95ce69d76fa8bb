//! The hashes by which directories are indexed (kernel: `fs/ext4/hash.c`).

mod assigned;
mod casefold;
#[cfg(test)]
mod tests;

pub(crate) use casefold::casefold;

/// How names are hashed: the number in an index root, joined with the superblock's word on the signedness of
/// `char` on the machine that made the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashVersion {
    Legacy,
    HalfMd4,
    Tea,
    LegacyUnsigned,
    HalfMd4Unsigned,
    TeaUnsigned,
    /// Keyed by the directory's encryption key, used where names are both encrypted and casefolded. Without the
    /// key it cannot be computed; such directories store the hash behind each name instead.
    SipHash,
}

impl HashVersion {
    /// The version that an index root's `hash_version` byte names; `unsigned` is the superblock's
    /// `EXT2_FLAGS_UNSIGNED_HASH`. `None` for numbers that no kernel knows.
    pub(crate) fn from_disk(number: u8, unsigned: bool) -> Option<Self> {
        Some(match (number, unsigned) {
            (0, false) => Self::Legacy,
            (1, false) => Self::HalfMd4,
            (2, false) => Self::Tea,
            (0, true) | (3, _) => Self::LegacyUnsigned,
            (1, true) | (4, _) => Self::HalfMd4Unsigned,
            (2, true) | (5, _) => Self::TeaUnsigned,
            (6, _) => Self::SipHash,
            _ => return None,
        })
    }

    fn is_unsigned(self) -> bool {
        matches!(self, Self::LegacyUnsigned | Self::HalfMd4Unsigned | Self::TeaUnsigned)
    }
}

/// A name's hash: `major` orders the index, `minor` tells names of the same major hash apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct DirHash {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The largest major hash, `EXT4_HTREE_EOF_32BIT` doubled, stands for the end of a directory.
const END_OF_DIRECTORY: u32 = 0xffff_fffe;

/// The hash of a name as it stands in the directory (of an encrypted directory: the ciphertext; of a casefolded
/// one: what [`casefold`] made of it, where it made something).
///
/// For [`HashVersion::SipHash`] the answer is 0: the real value stands on the disk behind the entry.
pub(crate) fn hash(name: &[u8], version: HashVersion, seed: &[u32; 4]) -> DirHash {
    let (major, minor) = match version {
        HashVersion::Legacy | HashVersion::LegacyUnsigned => (legacy(name, version.is_unsigned()), 0),
        HashVersion::HalfMd4 | HashVersion::HalfMd4Unsigned => {
            let mut state = initial(seed);
            for words in packed::<8>(name, version.is_unsigned()) {
                half_md4(&mut state, &words);
            }
            (state[1], state[2])
        }
        HashVersion::Tea | HashVersion::TeaUnsigned => {
            let mut state = initial(seed);
            for words in packed::<4>(name, version.is_unsigned()) {
                tea(&mut state, words);
            }
            (state[0], state[1])
        }
        HashVersion::SipHash => return DirHash::default(),
    };
    DirHash { major: normalize(major), minor }
}

/// What the kernel does to every major hash: the low bit marks collisions in the index and is cleared, and the
/// value for the end of a directory is kept free.
fn normalize(hash: u32) -> u32 {
    match hash & !1 {
        END_OF_DIRECTORY => END_OF_DIRECTORY - 2,
        hash => hash,
    }
}

/// The seed, or the initial state of MD4 where the seed is all zero.
fn initial(seed: &[u32; 4]) -> [u32; 4] {
    if *seed == [0; 4] { [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476] } else { *seed }
}

/// A byte of a name as the C type `char` would widen it.
fn widen(byte: u8, unsigned: bool) -> u32 {
    if unsigned { u32::from(byte) } else { i32::from(byte.cast_signed()).cast_unsigned() }
}

fn legacy(name: &[u8], unsigned: bool) -> u32 {
    let (mut last, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for &byte in name {
        let mut hash = before.wrapping_add(last ^ widen(byte, unsigned).wrapping_mul(7_152_373));
        if hash & 0x8000_0000 != 0 {
            hash = hash.wrapping_sub(0x7fff_ffff);
        }
        (before, last) = (last, hash);
    }
    last << 1
}

/// The name as groups of `N` big-endian words, the rest of the last group filled up with the length that
/// remained at its beginning.
fn packed<const N: usize>(name: &[u8], unsigned: bool) -> impl Iterator<Item = [u32; N]> + '_ {
    let mut rest = name;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Only the low bytes take part; names have at most 255 of them, but a hostile caller may have more.
        let length = u32::from_le_bytes([rest.len().to_le_bytes()[0]; 4]);
        let (group, behind) = rest.split_at(rest.len().min(4 * N));
        rest = behind;
        let mut words = [length; N];
        for (word, bytes) in words.iter_mut().zip(group.chunks(4)) {
            *word = bytes.iter().fold(length, |word, &byte| (word << 8).wrapping_add(widen(byte, unsigned)));
        }
        Some(words)
    })
}

fn tea(state: &mut [u32; 4], [a, b, c, d]: [u32; 4]) {
    let mut sum = 0_u32;
    let [mut b0, mut b1, ..] = *state;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        b0 = b0.wrapping_add((b1 << 4).wrapping_add(a) ^ b1.wrapping_add(sum) ^ (b1 >> 5).wrapping_add(b));
        b1 = b1.wrapping_add((b0 << 4).wrapping_add(c) ^ b0.wrapping_add(sum) ^ (b0 >> 5).wrapping_add(d));
    }
    state[0] = state[0].wrapping_add(b0);
    state[1] = state[1].wrapping_add(b1);
}

/// One round of the shortened MD4: its function, its constant, and for each of the 8 steps the word it takes
/// and by how many bits it rotates.
struct Round {
    mix: fn(u32, u32, u32) -> u32,
    constant: u32,
    steps: [(usize, u32); 8],
}

const ROUNDS: [Round; 3] = [
    Round {
        mix: |x, y, z| z ^ (x & (y ^ z)),
        constant: 0,
        steps: [(0, 3), (1, 7), (2, 11), (3, 19), (4, 3), (5, 7), (6, 11), (7, 19)],
    },
    Round {
        mix: |x, y, z| (x & y).wrapping_add((x ^ y) & z),
        constant: 0x5a82_7999,
        steps: [(1, 3), (3, 5), (5, 9), (7, 13), (0, 3), (2, 5), (4, 9), (6, 13)],
    },
    Round {
        mix: |x, y, z| x ^ y ^ z,
        constant: 0x6ed9_eba1,
        steps: [(3, 3), (7, 9), (2, 11), (6, 15), (1, 3), (5, 9), (0, 11), (4, 15)],
    },
];

#[allow(clippy::indexing_slicing, reason = "the table above names words 0 to 7 of 8")]
fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for Round { mix, constant, steps } in &ROUNDS {
        for &(word, bits) in steps {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(words[word]).wrapping_add(*constant);
            // The register that was changed moves to the second place, as the roles go round.
            (a, b, c, d) = (d, sum.rotate_left(bits), b, c);
        }
    }
    for (old, new) in state.iter_mut().zip([a, b, c, d]) {
        *old = old.wrapping_add(new);
    }
}
