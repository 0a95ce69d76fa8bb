//! The two checksums of ext4, and the values they start from.
//!
//! `metadata_csum` uses CRC32C without the usual inversion at either end (`ext4_chksum` in the kernel's
//! `fs/ext4/ext4.h`), so that sums can be continued; `uninit_bg` uses CRC-16/ARC.

/// A running CRC32C, as the kernel's `crc32c()` keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crc(u32);

impl Crc {
    /// What a sum over nothing starts from.
    pub(crate) const START: Self = Self(u32::MAX);

    /// Continues from a value stored on the volume.
    pub(crate) fn from_seed(seed: u32) -> Self {
        Self(seed)
    }

    /// The sum continued over `bytes`.
    #[must_use]
    pub(crate) fn over(self, bytes: &[u8]) -> Self {
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// The sum as it is stored.
    pub(crate) fn value(self) -> u32 {
        self.0
    }

    /// The lower half, for structures that have room for no more.
    pub(crate) fn low(self) -> u16 {
        let [a, b, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}

/// CRC-16/ARC continued from `crc` over `bytes` (`lib/crc/crc16.c`).
pub(crate) fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string_matches_the_published_values() {
        // The check values of CRC-32/ISCSI and CRC-16/ARC in the catalogue of parametrised CRC algorithms.
        assert_eq!(!Crc::START.over(b"123456789").value(), 0xE306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }

    #[test]
    fn crc_in_pieces_equals_the_whole() {
        assert_eq!(Crc::START.over(b"12345").over(b"6789"), Crc::START.over(b"123456789"));
    }
}
