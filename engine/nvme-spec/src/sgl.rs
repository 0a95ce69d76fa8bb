//! Scatter Gather Lists (Base, section 4.3.2).

use crate::bits::{low_u8, low_u32};

open_type! {
    /// What a descriptor describes (Base, figure 122).
    SglKind(u8) {
        /// Memory.
        DATA_BLOCK = 0x0,
        /// Bytes of a read that nobody wants.
        BIT_BUCKET = 0x1,
        /// More descriptors, with another segment after them.
        SEGMENT = 0x2,
        /// More descriptors, the last.
        LAST_SEGMENT = 0x3,
        /// Memory behind a key (of fabrics).
        KEYED_DATA_BLOCK = 0x4,
        /// Of the transport.
        TRANSPORT_DATA_BLOCK = 0x5,
        /// Of the vendor.
        VENDOR = 0xf,
    }
}

/// A descriptor: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SglDescriptor {
    /// Where it starts; 0 for a bit bucket.
    pub address: u64,
    /// Bytes: of the memory, or of the descriptors in a segment.
    pub length: u32,
    /// The last byte: type above, subtype below.
    pub identifier: u8,
}

impl SglDescriptor {
    /// Bytes of a descriptor.
    pub const SIZE: u32 = 16;

    /// Memory at a bus address.
    #[must_use]
    pub const fn data_block(address: u64, length: u32) -> Self {
        Self { address, length, identifier: 0 }
    }

    /// Bytes that nobody wants.
    #[must_use]
    pub const fn bit_bucket(length: u32) -> Self {
        Self { address: 0, length, identifier: SglKind::BIT_BUCKET.0 << 4 }
    }

    /// More descriptors at a bus address; `last` where no segment follows that one.
    #[must_use]
    pub const fn segment(address: u64, descriptors: u32, last: bool) -> Self {
        let kind = if last { SglKind::LAST_SEGMENT } else { SglKind::SEGMENT };
        Self { address, length: descriptors.saturating_mul(Self::SIZE), identifier: kind.0 << 4 }
    }

    /// What it describes.
    #[must_use]
    pub const fn kind(self) -> SglKind {
        SglKind(self.identifier >> 4)
    }

    /// How the address is meant: 0 a bus address, 1 an offset.
    #[must_use]
    pub const fn subtype(self) -> u8 {
        self.identifier & 0xf
    }

    /// As two words of 64 bits.
    #[must_use]
    #[inline]
    pub fn to_words(self) -> [u64; 2] {
        [self.address, u64::from(self.length) | u64::from(self.identifier) << 56]
    }

    /// From two words of 64 bits.
    #[must_use]
    #[inline]
    pub fn from_words([address, rest]: [u64; 2]) -> Self {
        Self { address, length: low_u32(rest), identifier: low_u8(rest >> 56) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_known_again() {
        for (descriptor, kind) in [
            (SglDescriptor::data_block(0x1234, 4096), SglKind::DATA_BLOCK),
            (SglDescriptor::bit_bucket(512), SglKind::BIT_BUCKET),
            (SglDescriptor::segment(0x8000, 3, false), SglKind::SEGMENT),
            (SglDescriptor::segment(0x8000, 3, true), SglKind::LAST_SEGMENT),
        ] {
            assert_eq!(SglDescriptor::from_words(descriptor.to_words()), descriptor);
            assert_eq!((descriptor.kind(), descriptor.subtype()), (kind, 0));
        }
        assert_eq!(SglDescriptor::segment(0, 3, true).to_words()[1], 0x30 << 56 | 48);
    }
}
