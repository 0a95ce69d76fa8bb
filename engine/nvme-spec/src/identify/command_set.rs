//! What a controller says of the NVM command set (NVM, section 4.1.5.2): CNS 06h.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// I/O Command Set specific Identify Controller structure of the NVM command set. A limit of 0 is none.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IdentifyNvmController {
    /// Verify Size Limit: 2^n pages of the smallest size (CAP.MPSMIN).
    pub vsl: u8,
    /// Write Zeroes Size Limit, in the same way.
    pub wzsl: u8,
    /// Write Uncorrectable Size Limit, in the same way.
    pub wusl: u8,
    /// Most ranges of Dataset Management.
    pub dmrl: u8,
    /// Most blocks of one of them.
    pub dmrsl: U32,
    /// Most blocks of all of them.
    pub dmsl: U64,
    /// Reserved.
    pub reserved: [u8; 4080],
}

const _: () = assert!(size_of::<IdentifyNvmController>() == super::SIZE);
