//! Identify Namespace of the NVM command set (NVM, figure 114).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Identify Namespace: 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// Size in logical blocks.
    pub nsze: U64,
    /// Capacity in logical blocks.
    pub ncap: U64,
    /// Blocks in use.
    pub nuse: U64,
    /// Features: bit 0 thin provisioning, bit 2 deallocated blocks are told, bit 4 the optimal sizes below hold.
    pub nsfeat: u8,
    /// LBA formats, less one.
    pub nlbaf: u8,
    /// Bits 0 to 3 (and 5 and 6 above them): the format in use; bit 4: metadata at the end of the data.
    pub flbas: u8,
    /// Metadata capabilities.
    pub mc: u8,
    /// Protection information capabilities.
    pub dpc: u8,
    /// Protection information in use; bits 0 to 2 not 0 where there is any.
    pub dps: u8,
    /// Sharing: bit 0 where several controllers may have it.
    pub nmic: u8,
    /// Reservation capabilities.
    pub rescap: u8,
    /// Format progress.
    pub fpi: u8,
    /// Deallocated blocks: bits 0 to 2: 1 read as zeros, 2 read as ones; bit 3: Write Zeroes may deallocate.
    pub dlfeat: u8,
    /// Atomic write unit normal, in blocks less one.
    pub nawun: U16,
    /// Atomic write unit on power failure.
    pub nawupf: U16,
    /// Atomic compare and write unit.
    pub nacwu: U16,
    /// Atomic boundary size normal.
    pub nabsn: U16,
    /// Atomic boundary offset.
    pub nabo: U16,
    /// Atomic boundary size on power failure.
    pub nabspf: U16,
    /// Optimal I/O boundary in blocks.
    pub noiob: U16,
    /// Capacity in bytes.
    pub nvmcap: [u8; 16],
    /// Preferred write granularity, in blocks less one.
    pub npwg: U16,
    /// Preferred write alignment.
    pub npwa: U16,
    /// Preferred deallocate granularity.
    pub npdg: U16,
    /// Preferred deallocate alignment.
    pub npda: U16,
    /// Optimal write size.
    pub nows: U16,
    /// Maximum single source range length of Copy, in blocks.
    pub mssrl: U16,
    /// Maximum length of Copy, in blocks.
    pub mcl: U32,
    /// Source ranges of Copy, less one.
    pub msrc: u8,
    /// Key per I/O status.
    pub kpios: u8,
    /// Unique attribute LBA formats.
    pub nulbaf: u8,
    /// Reserved.
    pub reserved_83: u8,
    /// Key per I/O data access alignment and granularity.
    pub kpiodaag: U32,
    /// Reserved.
    pub reserved_88: [u8; 4],
    /// ANA group.
    pub anagrpid: U32,
    /// Reserved.
    pub reserved_96: [u8; 3],
    /// Attributes: bit 0 where it is write protected.
    pub nsattr: u8,
    /// NVM set.
    pub nvmsetid: U16,
    /// Endurance group.
    pub endgid: U16,
    /// Globally unique identifier; zeros where there is none.
    pub nguid: [u8; 16],
    /// IEEE extended unique identifier; zeros where there is none.
    pub eui64: [u8; 8],
    /// LBA formats.
    pub lbaf: [LbaFormat; 64],
    /// Of the vendor.
    pub vendor: [u8; 3712],
}

const _: () = assert!(size_of::<IdentifyNamespace>() == super::SIZE);

/// An LBA format: 4 bytes (NVM, figure 116).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LbaFormat {
    /// Bytes of metadata for each block.
    pub ms: U16,
    /// Block size as a power of two, from 9 on; 0 where the format is not there.
    pub lbads: u8,
    /// Bits 0 and 1: relative performance, 0 the best.
    pub rp: u8,
}

impl IdentifyNamespace {
    /// Which of the formats is in use.
    #[must_use]
    pub fn format_index(&self) -> u8 {
        // Bits 5 and 6 count only with more than 16 formats.
        let high = if self.nlbaf > 15 { (self.flbas >> 5) & 3 } else { 0 };
        self.flbas & 0xf | high << 4
    }

    /// The format in use; none where the namespace says it has no such format.
    #[must_use]
    pub fn format(&self) -> Option<LbaFormat> {
        let index = self.format_index();
        self.lbaf.get(usize::from(index)).copied().filter(|_| index <= self.nlbaf)
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn fields_lie_where_figure_114_has_them() {
        for (place, offset) in [
            (offset_of!(IdentifyNamespace, nsfeat), 24),
            (offset_of!(IdentifyNamespace, flbas), 26),
            (offset_of!(IdentifyNamespace, dps), 29),
            (offset_of!(IdentifyNamespace, dlfeat), 33),
            (offset_of!(IdentifyNamespace, nvmcap), 48),
            (offset_of!(IdentifyNamespace, npwg), 64),
            (offset_of!(IdentifyNamespace, mssrl), 74),
            (offset_of!(IdentifyNamespace, msrc), 80),
            (offset_of!(IdentifyNamespace, anagrpid), 92),
            (offset_of!(IdentifyNamespace, nsattr), 99),
            (offset_of!(IdentifyNamespace, nguid), 104),
            (offset_of!(IdentifyNamespace, eui64), 120),
            (offset_of!(IdentifyNamespace, lbaf), 128),
            (offset_of!(IdentifyNamespace, vendor), 384),
        ] {
            assert_eq!(place, offset);
        }
    }

    #[test]
    fn format_beyond_those_that_there_are_is_none() {
        let mut namespace = IdentifyNamespace::new_zeroed();
        namespace.lbaf[0].lbads = 9;
        assert_eq!(namespace.format(), Some(namespace.lbaf[0]));
        namespace.flbas = 1;
        assert_eq!(namespace.format(), None);
        namespace.nlbaf = 40;
        namespace.flbas = 0x5 | 0x40;
        assert_eq!(namespace.format_index(), 0x25);
    }
}
