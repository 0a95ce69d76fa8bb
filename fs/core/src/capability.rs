//! What `homi.handle` gives, and how it is known again.
//!
//! A handle says that somebody who could read a file asked for it. It is no right by itself: whoever presents it must be
//! able to read the file, too. So a handle that leaks gives nothing away, and what it buys is that a file can be named
//! to the daemon without a path, by a process that sees the mount elsewhere or not at all.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use extents_core::Ino;
use homi_abi::session::{HANDLE_MAGIC, Handle};
use siphasher::sip128::{Hasher128, SipHasher24};
use zerocopy::IntoBytes;

use crate::error::{FsError, Result};

/// Gives handles of one mount and knows them again.
pub(crate) struct Seal {
    mount: u64,
    key: [u8; 16],
    /// How long a handle is good.
    lifetime: Duration,
}

impl Seal {
    /// With a key and a number of its own, which nobody can guess; its handles are good for `lifetime`.
    ///
    /// # Errors
    /// Where the system has no random numbers to give.
    pub(crate) fn new(lifetime: Duration) -> Result<Self> {
        let mut random = [0; 24];
        let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        if filled != Ok(random.len()) {
            return Err(FsError::NoRandomness);
        }
        let (mount, key) = random.split_at(8);
        let mount = u64::from_le_bytes(mount.try_into().unwrap_or_default());
        Ok(Self { mount, key: key.try_into().unwrap_or_default(), lifetime })
    }

    /// A handle of an inode, for reading and what `rights` add.
    pub(crate) fn issue(&self, ino: Ino, generation: u64, rights: u64) -> Handle {
        let expiry = seconds_since_1970().saturating_add(self.lifetime.as_secs());
        let mut handle = Handle {
            magic: HANDLE_MAGIC,
            mount: self.mount.into(),
            inode: ino.0.into(),
            generation: generation.into(),
            expiry: expiry.into(),
            rights: rights.into(),
            mac: [0; 16],
        };
        handle.mac = self.mac(&handle);
        handle
    }

    /// The inode of a handle, and the generation that it had, if this mount gave the handle and it is still good.
    pub(crate) fn check(&self, handle: &Handle) -> Result<(Ino, u64)> {
        if handle.magic != HANDLE_MAGIC || handle.mount.get() != self.mount {
            return Err(FsError::ForeignHandle);
        }
        // All bytes are compared whatever they are, so that how long it takes tells nothing.
        let difference =
            self.mac(handle).iter().zip(handle.mac).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        if difference != 0 {
            return Err(FsError::ForgedHandle);
        }
        if handle.expiry.get() < seconds_since_1970() {
            return Err(FsError::ExpiredHandle);
        }
        Ok((Ino(handle.inode.get()), handle.generation.get()))
    }

    fn mac(&self, handle: &Handle) -> [u8; 16] {
        let bytes = handle.as_bytes();
        let mut hasher = SipHasher24::new_with_key(&self.key);
        std::hash::Hasher::write(&mut hasher, &bytes[..bytes.len() - 16]);
        hasher.finish128().as_bytes()
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("mount", &self.mount).finish_non_exhaustive()
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn handle_of_this_mount_is_known_again_and_any_change_is_noticed() {
        let seal = Seal::new(HOUR).unwrap();
        let handle = seal.issue(Ino(12), 7, 1);
        assert_eq!(seal.check(&handle).unwrap(), (Ino(12), 7));
        let bytes = *<&[u8; 64]>::try_from(handle.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1 << (at % 8);
            let changed: Handle = zerocopy::transmute!(changed);
            assert!(seal.check(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn handle_of_another_mount_or_past_its_time_is_refused() {
        let (ours, theirs) = (Seal::new(HOUR).unwrap(), Seal::new(HOUR).unwrap());
        assert!(matches!(ours.check(&theirs.issue(Ino(12), 0, 0)), Err(FsError::ForeignHandle)));
        let mut old = ours.issue(Ino(12), 0, 0);
        old.expiry = 1000.into();
        old.mac = ours.mac(&old);
        assert!(matches!(ours.check(&old), Err(FsError::ExpiredHandle)));
    }
}
