//! The device: what it has, its regions and its interrupts.

use zerocopy::native_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits of [`DeviceInfo::flags`].
pub mod device_flag {
    /// `VFIO_DEVICE_FLAGS_RESET`: it can be reset.
    pub const RESET: u32 = 1 << 0;
    /// `VFIO_DEVICE_FLAGS_PCI`: it is a PCI function.
    pub const PCI: u32 = 1 << 1;
}

/// `struct vfio_device_info` without capabilities ("VFIO_USER_DEVICE_GET_INFO").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceInfo {
    /// Most bytes wanted in the reply; there: bytes of all that there is to say.
    pub argsz: U32,
    /// See [`device_flag`].
    pub flags: U32,
    /// How many regions it has.
    pub regions: U32,
    /// How many kinds of interrupt it has.
    pub irqs: U32,
}

const _: () = assert!(size_of::<DeviceInfo>() == 16);

/// Bits of [`RegionInfo::flags`].
pub mod region_flag {
    /// `VFIO_REGION_INFO_FLAG_READ`
    pub const READ: u32 = 1 << 0;
    /// `VFIO_REGION_INFO_FLAG_WRITE`
    pub const WRITE: u32 = 1 << 1;
    /// `VFIO_REGION_INFO_FLAG_MMAP`: a descriptor comes with the reply.
    pub const MMAP: u32 = 1 << 2;
    /// `VFIO_REGION_INFO_FLAG_CAPS`: capabilities follow.
    pub const CAPS: u32 = 1 << 3;
}

/// `struct vfio_region_info` ("VFIO_USER_DEVICE_GET_REGION_INFO").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegionInfo {
    /// As in [`DeviceInfo::argsz`].
    pub argsz: U32,
    /// See [`region_flag`].
    pub flags: U32,
    /// Which region.
    pub index: U32,
    /// Where the first capability is, from the start of this structure.
    pub cap_offset: U32,
    /// Bytes.
    pub size: U64,
    /// Where the region starts in the file that comes with the reply.
    pub offset: U64,
}

const _: () = assert!(size_of::<RegionInfo>() == 32);

/// `struct vfio_info_cap_header` ("VFIO cap header format").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapabilityHeader {
    /// What it is: [`SparseAreas::ID`] or something else.
    pub id: U16,
    /// Version of what it is.
    pub version: U16,
    /// Where the next one is, from the start of the [`RegionInfo`]; zero for none.
    pub next: U32,
}

const _: () = assert!(size_of::<CapabilityHeader>() == 8);

/// `struct vfio_region_info_cap_sparse_mmap` after its header and before its areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SparseAreas {
    /// How many areas follow.
    pub count: U32,
    /// Zero.
    pub reserved: U32,
}

impl SparseAreas {
    /// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`
    pub const ID: u16 = 1;
}

const _: () = assert!(size_of::<SparseAreas>() == 8);

/// `struct vfio_region_sparse_mmap_area`: a part of a region that can be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Area {
    /// First byte, in the region.
    pub offset: U64,
    /// Bytes.
    pub size: U64,
}

const _: () = assert!(size_of::<Area>() == 16);

/// "VFIO_USER_DEVICE_GET_REGION_IO_FDS", before its sub-regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegionIoFds {
    /// As in [`DeviceInfo::argsz`].
    pub argsz: U32,
    /// Zero.
    pub flags: U32,
    /// Which region.
    pub index: U32,
    /// How many sub-regions there are.
    pub count: U32,
}

const _: () = assert!(size_of::<RegionIoFds>() == 16);

/// Bits of [`IrqInfo::flags`].
pub mod irq_flag {
    /// `VFIO_IRQ_INFO_EVENTFD`: it is signalled by eventfd.
    pub const EVENTFD: u32 = 1 << 0;
    /// `VFIO_IRQ_INFO_MASKABLE`
    pub const MASKABLE: u32 = 1 << 1;
    /// `VFIO_IRQ_INFO_AUTOMASKED`
    pub const AUTOMASKED: u32 = 1 << 2;
    /// `VFIO_IRQ_INFO_NORESIZE`
    pub const NORESIZE: u32 = 1 << 3;
}

/// `struct vfio_irq_info` ("VFIO_USER_DEVICE_GET_IRQ_INFO").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IrqInfo {
    /// As in [`DeviceInfo::argsz`].
    pub argsz: U32,
    /// See [`irq_flag`].
    pub flags: U32,
    /// Which kind of interrupt.
    pub index: U32,
    /// How many of that kind there are.
    pub count: U32,
}

const _: () = assert!(size_of::<IrqInfo>() == 16);

/// Bits of [`IrqSet::flags`]: one of the data, one of the actions.
pub mod irq_set_flag {
    /// `VFIO_IRQ_SET_DATA_NONE`
    pub const DATA_NONE: u32 = 1 << 0;
    /// `VFIO_IRQ_SET_DATA_BOOL`: a byte for each follows.
    pub const DATA_BOOL: u32 = 1 << 1;
    /// `VFIO_IRQ_SET_DATA_EVENTFD`: a descriptor for each comes along.
    pub const DATA_EVENTFD: u32 = 1 << 2;
    /// `VFIO_IRQ_SET_ACTION_MASK`
    pub const ACTION_MASK: u32 = 1 << 3;
    /// `VFIO_IRQ_SET_ACTION_UNMASK`
    pub const ACTION_UNMASK: u32 = 1 << 4;
    /// `VFIO_IRQ_SET_ACTION_TRIGGER`
    pub const ACTION_TRIGGER: u32 = 1 << 5;
}

/// `struct vfio_irq_set` ("VFIO_USER_DEVICE_SET_IRQS").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IrqSet {
    /// Bytes of this structure and its data.
    pub argsz: U32,
    /// See [`irq_set_flag`].
    pub flags: U32,
    /// Which kind of interrupt.
    pub index: U32,
    /// The first of them.
    pub start: U32,
    /// How many.
    pub count: U32,
}

const _: () = assert!(size_of::<IrqSet>() == 20);

/// `struct vfio_device_feature` before its data ("VFIO_USER_DEVICE_FEATURE").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceFeature {
    /// As in [`DeviceInfo::argsz`].
    pub argsz: U32,
    /// The number of the feature in the lower half; get, set and probe above.
    pub flags: U32,
}

const _: () = assert!(size_of::<DeviceFeature>() == 8);

/// Before the data of "VFIO_USER_MIG_DATA_READ" and "VFIO_USER_MIG_DATA_WRITE".
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MigrationData {
    /// As in [`DeviceInfo::argsz`].
    pub argsz: U32,
    /// Bytes of data.
    pub size: U32,
}

const _: () = assert!(size_of::<MigrationData>() == 8);
