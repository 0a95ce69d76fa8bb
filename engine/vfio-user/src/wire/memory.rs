//! Memory: what the server reaches of the client's, and what the client reads and writes of the device's.

use zerocopy::native_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits of [`DmaMap::flags`].
pub mod map_flag {
    /// The server may read it.
    pub const READ: u32 = 1 << 0;
    /// The server may write it.
    pub const WRITE: u32 = 1 << 1;
}

/// "VFIO_USER_DMA_MAP".
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DmaMap {
    /// Bytes of this structure.
    pub argsz: U32,
    /// See [`map_flag`].
    pub flags: U32,
    /// Where it starts in the file that comes along.
    pub offset: U64,
    /// First bus address.
    pub address: U64,
    /// Bytes.
    pub size: U64,
}

const _: () = assert!(size_of::<DmaMap>() == 32);

/// Bits of [`DmaUnmap::flags`], as the kernel's type 1 IOMMU has them.
pub mod unmap_flag {
    /// `VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP`
    pub const DIRTY_BITMAP: u32 = 1 << 0;
    /// `VFIO_DMA_UNMAP_FLAG_ALL`: everything; address and size are zero.
    pub const ALL: u32 = 1 << 1;
}

/// "VFIO_USER_DMA_UNMAP", also its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DmaUnmap {
    /// Most bytes wanted in the reply.
    pub argsz: U32,
    /// See [`unmap_flag`].
    pub flags: U32,
    /// First bus address.
    pub address: U64,
    /// Bytes.
    pub size: U64,
}

const _: () = assert!(size_of::<DmaUnmap>() == 24);

/// "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE", and their replies, before the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegionAccess {
    /// First byte, in the region.
    pub offset: U64,
    /// Which region.
    pub region: U32,
    /// Bytes.
    pub count: U32,
}

const _: () = assert!(size_of::<RegionAccess>() == 16);

/// One write of "VFIO_USER_REGION_WRITE_MULTI"; a 64-bit count of them comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegionWrite {
    /// Where to.
    pub access: RegionAccess,
    /// As many of these as the access counts.
    pub data: [u8; 8],
}

const _: () = assert!(size_of::<RegionWrite>() == 24);

/// "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE", and their replies, before the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DmaAccess {
    /// First bus address.
    pub address: U64,
    /// Bytes.
    pub count: U64,
}

const _: () = assert!(size_of::<DmaAccess>() == 16);
