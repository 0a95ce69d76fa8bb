//! Names of encrypted directories as the kernel shows them to those who have no key (kernel: `fs/crypto/fname.c`).
//!
//! Such a name is base64url, without padding, of the name's directory hash and its ciphertext. A ciphertext
//! longer than 149 bytes would not fit in a name then, so what follows its first 149 bytes is hashed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::dirhash::DirHash;

/// Bytes of the directory hash at the beginning: major and minor, in the byte order of the machine, which is
/// little-endian wherever this runs.
const HASH_BYTES: usize = 8;
/// Bytes of ciphertext that stand in the name as they are (`fscrypt_nokey_name.bytes`).
const PLAIN_MAX: usize = 149;
/// Size of `struct fscrypt_nokey_name`: hash, plain bytes, SHA-256 of the other bytes.
const LONG: usize = HASH_BYTES + PLAIN_MAX + 32;
/// No cipher gives shorter names (`FSCRYPT_FNAME_MIN_MSG_LEN`).
const CIPHERTEXT_MIN: usize = 16;

/// The name to show for the ciphertext of a directory entry; `.` and `..` are never encrypted. `None` for a
/// ciphertext that is too short to be one, which the kernel calls corrupt.
///
/// `hash` is the entry's directory hash where the kernel knows it: in directories that it walks by hash (those
/// with an index, and those of a single block or inline where the volume has `dir_index`) it computes it from
/// the ciphertext; in casefolded ones it reads it from behind the entry; in all others it is 0.
pub(crate) fn encode(ciphertext: &[u8], hash: DirHash) -> Option<Vec<u8>> {
    if matches!(ciphertext, b"." | b"..") {
        return Some(ciphertext.to_vec());
    }
    if ciphertext.len() < CIPHERTEXT_MIN {
        return None;
    }
    let mut name = Vec::with_capacity(LONG);
    name.extend_from_slice(&hash.major.to_le_bytes());
    name.extend_from_slice(&hash.minor.to_le_bytes());
    match ciphertext.split_at_checked(PLAIN_MAX) {
        Some((plain, rest)) if !rest.is_empty() => {
            name.extend_from_slice(plain);
            name.extend_from_slice(&Sha256::digest(rest));
        }
        _ => name.extend_from_slice(ciphertext),
    }
    Some(URL_SAFE_NO_PAD.encode(name).into_bytes())
}

/// A name in the form of [`encode`], taken apart to look for its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoKeyName {
    hash: DirHash,
    ciphertext: Vec<u8>,
    /// SHA-256 of what follows these bytes of ciphertext, where they are not the whole.
    rest: Option<[u8; 32]>,
}

impl NoKeyName {
    /// `None` where the name cannot stand for an entry, so that a lookup finds nothing. `.` and `..` are for the
    /// caller to see to.
    pub(crate) fn decode(name: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(name).ok()?;
        let (major, rest) = bytes.split_first_chunk::<4>()?;
        let (minor, rest) = rest.split_first_chunk::<4>()?;
        let hash = DirHash { major: u32::from_le_bytes(*major), minor: u32::from_le_bytes(*minor) };
        match rest.len() {
            1..=PLAIN_MAX => Some(Self { hash, ciphertext: rest.to_vec(), rest: None }),
            _ if bytes.len() == LONG => {
                let (plain, digest) = rest.split_last_chunk::<32>()?;
                Some(Self { hash, ciphertext: plain.to_vec(), rest: Some(*digest) })
            }
            _ => None,
        }
    }

    /// The directory hash in the name, by which the index leads to the entry. It was made up by whoever made up
    /// the name, and is 0 where the directory was not walked by hash.
    pub(crate) fn hash(&self) -> DirHash {
        self.hash
    }

    /// The entry's whole ciphertext, where the name holds it; the index is then searched by its hash.
    pub(crate) fn ciphertext(&self) -> Option<&[u8]> {
        self.rest.is_none().then_some(&*self.ciphertext)
    }

    /// Whether this name stands for the entry of this ciphertext. As in the kernel the hash has no say.
    pub(crate) fn matches(&self, ciphertext: &[u8]) -> bool {
        match self.rest {
            None => ciphertext == self.ciphertext,
            Some(digest) => ciphertext
                .strip_prefix(&*self.ciphertext)
                .is_some_and(|rest| !rest.is_empty() && <[u8; 32]>::from(Sha256::digest(rest)) == digest),
        }
    }
}

#[cfg(test)]
mod tests;
