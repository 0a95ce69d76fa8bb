//! A namespace: a run of logical blocks over a backing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use engine_nvme_spec::Status;

use super::identity::stable_id;
use crate::backing::Backing;

/// In the flags: read-only by the will of whoever runs the controller. Below it: the state of write protection.
const READ_ONLY: u8 = 1 << 7;

/// Namespace Write Protection states (Base, section 8.1.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteProtection {
    /// None.
    None,
    /// Until the host takes it away.
    Protected,
    /// Until the subsystem is made anew.
    UntilPowerCycle,
}

impl WriteProtection {
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        [Self::None, Self::Protected, Self::UntilPowerCycle].into_iter().find(|state| state.bits() == bits)
    }

    pub(crate) fn bits(self) -> u32 {
        u32::from(self.byte())
    }

    fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Protected => 1,
            Self::UntilPowerCycle => 2,
        }
    }
}

/// How a namespace is made.
#[derive(Debug, Clone)]
pub struct NamespaceOptions {
    /// Where its blocks are.
    pub backing: Arc<dyn Backing>,
    /// Its number; the first that is free where none is given.
    pub nsid: Option<u32>,
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// How many blocks it has; all that the backing holds where none is given.
    pub blocks: Option<u64>,
    /// Whether writing is refused, also where the backing would take it.
    pub read_only: bool,
    /// Its UUID; one that follows from the backing where none is given.
    pub uuid: Option<[u8; 16]>,
    /// Its globally unique identifier; one that follows from the backing where none is given.
    pub nguid: Option<[u8; 16]>,
    /// Its extended unique identifier; none where none is given.
    pub eui64: Option<[u8; 8]>,
}

impl NamespaceOptions {
    /// All of a backing, in blocks of 512 bytes.
    #[must_use]
    pub fn new(backing: Arc<dyn Backing>) -> Self {
        Self {
            backing,
            nsid: None,
            block_size: 512,
            blocks: None,
            read_only: false,
            uuid: None,
            nguid: None,
            eui64: None,
        }
    }
}

/// Why a namespace cannot be made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// Not 512 or 4096, or smaller than the backing can write.
    #[error(
        "logical blocks of {block_size} bytes cannot be served; choose 512 or 4096, and at least {least}, which is \
         what the backing has"
    )]
    BlockSize {
        /// Bytes asked for.
        block_size: u32,
        /// Smallest unit of the backing in bytes.
        least: u32,
    },
    /// The backing is smaller, or too small for a single block.
    #[error("{blocks} blocks of {block_size} bytes do not fit into {backing}, which has {size} bytes")]
    Size {
        /// Blocks asked for.
        blocks: u64,
        /// Bytes of each.
        block_size: u32,
        /// What the backing is called.
        backing: String,
        /// Its bytes.
        size: u64,
    },
    /// The number is taken, is 0, or lies beyond the last.
    #[error("{0} cannot be the number of a new namespace: it is taken or not between 1 and {most}", most = super::namespaces::NAMESPACES_MOST)]
    Nsid(u32),
    /// All numbers are taken.
    #[error("there are {most} namespaces, which is as many as can be", most = super::namespaces::NAMESPACES_MOST)]
    Full,
    /// There is none of that number.
    #[error("there is no namespace {0}")]
    Missing(u32),
    /// It was to be written, and the backing takes no writes.
    #[error("{backing} takes no writes, so namespace {nsid} stays read-only")]
    ReadOnlyBacking {
        /// The namespace.
        nsid: u32,
        /// What the backing is called.
        backing: String,
    },
}

/// A namespace. Its size and protection may change while commands run; each is one atomic.
#[derive(Debug)]
pub struct Namespace {
    nsid: u32,
    block_shift: u32,
    blocks: AtomicU64,
    /// Not 0 where it takes no writes.
    flags: AtomicU8,
    /// The Error Recovery feature, which belongs to the namespace.
    error_recovery: AtomicU32,
    uuid: [u8; 16],
    nguid: [u8; 16],
    eui64: [u8; 8],
    backing: Arc<dyn Backing>,
}

impl Namespace {
    /// `salt` goes into the identifiers that follow from the backing, whose description alone may not be unique.
    pub(crate) fn new(nsid: u32, options: NamespaceOptions, salt: &str) -> Result<Self, NamespaceError> {
        let NamespaceOptions { backing, block_size, blocks, read_only, uuid, nguid, eui64, .. } = options;
        let block_shift = match block_size {
            512 => 9,
            4096 => 12,
            _ => 0,
        };
        if block_shift == 0 || block_size < backing.block() {
            return Err(NamespaceError::BlockSize { block_size, least: backing.block() });
        }
        let blocks = blocks.unwrap_or(backing.size() >> block_shift);
        let read_only = read_only || backing.is_read_only();
        let name = backing.describe();
        let id = |kind: &[u8]| stable_id(&[kind, salt.as_bytes(), name.as_bytes(), &nsid.to_le_bytes()]);
        let namespace = Self {
            nsid,
            block_shift,
            blocks: AtomicU64::new(0),
            flags: AtomicU8::new(if read_only { READ_ONLY } else { 0 }),
            error_recovery: AtomicU32::new(0),
            uuid: uuid.unwrap_or_else(|| id(b"uuid")),
            nguid: nguid.unwrap_or_else(|| local_nguid(id(b"nguid"))),
            eui64: eui64.unwrap_or_default(),
            backing,
        };
        namespace.resize(blocks)?;
        Ok(namespace)
    }

    /// Its number.
    #[must_use]
    #[inline]
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Bytes of a logical block, as a power of two.
    #[must_use]
    #[inline]
    pub fn block_shift(&self) -> u32 {
        self.block_shift
    }

    /// How many logical blocks it has now.
    #[must_use]
    #[inline]
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Where a range of blocks lies in the backing: first byte and length in bytes.
    ///
    /// # Errors
    /// LBA Out of Range where it does not lie within the namespace.
    #[inline]
    pub fn range(&self, slba: u64, blocks: u64) -> Result<(u64, u64), Status> {
        match slba.checked_add(blocks) {
            // What lies within was checked not to overflow in bytes when the size was set.
            Some(end) if end <= self.blocks() => Ok((slba << self.block_shift, blocks << self.block_shift)),
            _ => Err(Status::LBA_OUT_OF_RANGE.final_()),
        }
    }

    /// Whether it takes writes now; where not, they are answered with Namespace is Write Protected.
    #[must_use]
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0
    }

    /// Where its blocks are.
    #[must_use]
    #[inline]
    pub fn backing(&self) -> &Arc<dyn Backing> {
        &self.backing
    }

    /// Its UUID.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Its globally unique identifier.
    #[must_use]
    pub fn nguid(&self) -> [u8; 16] {
        self.nguid
    }

    /// Its extended unique identifier; zeros where there is none.
    #[must_use]
    pub fn eui64(&self) -> [u8; 8] {
        self.eui64
    }

    /// Its write protection, as a host set it.
    #[must_use]
    pub fn protection(&self) -> WriteProtection {
        let bits = self.flags.load(Ordering::Acquire) & !READ_ONLY;
        WriteProtection::from_bits(bits.into()).unwrap_or(WriteProtection::UntilPowerCycle)
    }

    /// Changes its write protection; whether that changed anything.
    ///
    /// # Errors
    /// Feature Not Changeable where it is protected until the next power cycle.
    pub(crate) fn protect(&self, state: WriteProtection) -> Result<bool, Status> {
        let until = WriteProtection::UntilPowerCycle;
        let changed = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| {
            let allowed = flags & !READ_ONLY != until.byte() || state == until;
            allowed.then_some(flags & READ_ONLY | state.byte())
        });
        match changed {
            Ok(before) => Ok(before & !READ_ONLY != state.byte()),
            Err(_) => Err(Status::FEATURE_NOT_CHANGEABLE.final_()),
        }
    }

    /// Makes it read-only or not; whether that changed anything.
    pub(crate) fn set_read_only(&self, read_only: bool) -> Result<bool, NamespaceError> {
        if !read_only && self.backing.is_read_only() {
            return Err(NamespaceError::ReadOnlyBacking {
                nsid: self.nsid,
                backing: self.backing.describe(),
            });
        }
        let before = if read_only {
            self.flags.fetch_or(READ_ONLY, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!READ_ONLY, Ordering::AcqRel)
        };
        Ok((before & READ_ONLY != 0) != read_only)
    }

    /// Changes its size; whether that changed anything.
    pub(crate) fn resize(&self, blocks: u64) -> Result<bool, NamespaceError> {
        let size = self.backing.size();
        // A size in bytes that does not fit into 63 bits is none that offsets can name.
        let fits = blocks > 0 && blocks <= size >> self.block_shift && size <= i64::MAX.unsigned_abs();
        if !fits {
            let backing = self.backing.describe();
            return Err(NamespaceError::Size { blocks, block_size: 1 << self.block_shift, backing, size });
        }
        Ok(self.blocks.swap(blocks, Ordering::Relaxed) != blocks)
    }

    pub(crate) fn error_recovery(&self) -> u32 {
        self.error_recovery.load(Ordering::Relaxed)
    }

    pub(crate) fn set_error_recovery(&self, value: u32) {
        self.error_recovery.store(value, Ordering::Relaxed);
    }
}

/// A globally unique identifier (Base, section 4.7.1.4) has the OUI of who gave it in bytes 8 to 10. Nobody gave us
/// one, so it says that it is administered locally.
fn local_nguid(mut id: [u8; 16]) -> [u8; 16] {
    let [_, _, _, _, _, _, _, _, oui, ..] = &mut id;
    *oui = *oui & !0b11 | 0b10;
    id
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{backing, read_only_backing};
    use super::*;

    fn namespace(size: u64, change: impl FnOnce(&mut NamespaceOptions)) -> Result<Namespace, NamespaceError> {
        let mut options = NamespaceOptions::new(backing(size));
        change(&mut options);
        Namespace::new(1, options, "")
    }

    #[test]
    fn namespace_larger_than_its_backing_or_empty_is_refused() {
        assert_eq!(namespace(8192, |_| ()).unwrap().blocks(), 16);
        assert_eq!(namespace(8191, |options| options.block_size = 4096).unwrap().blocks(), 1);
        for (size, block_size, blocks) in [(8192, 512, Some(17)), (511, 512, None), (8192, 4096, Some(0))] {
            let made = namespace(size, |options| (options.block_size, options.blocks) = (block_size, blocks));
            assert!(
                matches!(made, Err(NamespaceError::Size { .. })),
                "{size} {block_size} {blocks:?}: {made:?}"
            );
        }
        assert!(namespace(u64::MAX, |_| ()).is_err());
        assert!(matches!(
            namespace(8192, |o| o.block_size = 520),
            Err(NamespaceError::BlockSize { block_size: 520, least: 512 })
        ));
    }

    #[test]
    fn protection_until_the_power_cycle_stays() {
        let namespace = namespace(8192, |_| ()).unwrap();
        assert!(namespace.is_writable());
        assert_eq!(namespace.protect(WriteProtection::Protected), Ok(true));
        assert_eq!(namespace.protect(WriteProtection::Protected), Ok(false));
        assert!(!namespace.is_writable());
        assert_eq!(namespace.protect(WriteProtection::None), Ok(true));
        assert!(namespace.is_writable());
        assert_eq!(namespace.protect(WriteProtection::UntilPowerCycle), Ok(true));
        assert_eq!(namespace.protect(WriteProtection::None), Err(Status::FEATURE_NOT_CHANGEABLE.final_()));
        assert_eq!(namespace.protect(WriteProtection::UntilPowerCycle), Ok(false));
        assert_eq!(namespace.protection(), WriteProtection::UntilPowerCycle);
    }

    #[test]
    fn read_only_and_protection_do_not_disturb_each_other() {
        let namespace = namespace(8192, |_| ()).unwrap();
        assert_eq!(namespace.set_read_only(true), Ok(true));
        assert_eq!(namespace.protection(), WriteProtection::None);
        namespace.protect(WriteProtection::Protected).unwrap();
        assert_eq!(namespace.set_read_only(false), Ok(true));
        assert!(!namespace.is_writable());
        namespace.protect(WriteProtection::None).unwrap();
        assert!(namespace.is_writable());
    }

    #[test]
    fn namespace_over_a_read_only_backing_stays_read_only() {
        let options = NamespaceOptions::new(read_only_backing(4096));
        let namespace = Namespace::new(1, options, "").unwrap();
        assert!(!namespace.is_writable());
        assert!(matches!(namespace.set_read_only(false), Err(NamespaceError::ReadOnlyBacking { .. })));
    }

    #[test]
    fn identifiers_are_the_same_each_time_and_differ_between_namespaces() {
        let make =
            |name: &str, nsid| Namespace::new(nsid, NamespaceOptions::new(backing(4096)), name).unwrap();
        let ids = |namespace: &Namespace| (namespace.uuid(), namespace.nguid());
        assert_eq!(ids(&make("a", 1)), ids(&make("a", 1)));
        assert_ne!(ids(&make("a", 1)), ids(&make("a", 2)));
        assert_ne!(ids(&make("a", 1)), ids(&make("b", 1)));
        assert_eq!(make("a", 1).nguid()[8] & 3, 2, "administered locally, for one namespace");
    }

    proptest! {
        #[test]
        fn range_lies_within_the_namespace_or_is_refused(slba: u64, blocks: u64, near in any::<bool>()) {
            let (slba, blocks) = if near { (slba % 40, blocks % 40) } else { (slba, blocks) };
            let namespace = namespace(16384, |_| ()).unwrap();
            let inside = u128::from(slba) + u128::from(blocks) <= 32;
            prop_assert_eq!(namespace.range(slba, blocks).ok(), inside.then(|| (slba * 512, blocks * 512)));
        }
    }
}
