//! What goes over the socket, as "vfio-user Protocol Specification" (`docs/interop/vfio-user.rst` of QEMU, version
//! 0.1) lays it out. Structures that VFIO has too are those of `<linux/vfio.h>`.
//!
//! Numbers are in the byte order of the machine: client and server run on the same one.

mod capabilities;
mod device;
mod memory;

use zerocopy::native_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use capabilities::{Capabilities, MalformedVersion, Migration, TwinSocket, read_version, write_version};
pub use device::{
    Area, CapabilityHeader, DeviceFeature, DeviceInfo, IrqInfo, IrqSet, MigrationData, RegionInfo,
    RegionIoFds, SparseAreas, device_flag, irq_flag, irq_set_flag, region_flag,
};
pub use memory::{DmaAccess, DmaMap, DmaUnmap, RegionAccess, RegionWrite, map_flag, unmap_flag};

/// `VFIO_USER_*` ("Commands").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command(pub u16);

#[allow(missing_docs, reason = "named as in the specification")]
impl Command {
    pub const VERSION: Self = Self(1);
    pub const DMA_MAP: Self = Self(2);
    pub const DMA_UNMAP: Self = Self(3);
    pub const DEVICE_GET_INFO: Self = Self(4);
    pub const DEVICE_GET_REGION_INFO: Self = Self(5);
    pub const DEVICE_GET_REGION_IO_FDS: Self = Self(6);
    pub const DEVICE_GET_IRQ_INFO: Self = Self(7);
    pub const DEVICE_SET_IRQS: Self = Self(8);
    pub const REGION_READ: Self = Self(9);
    pub const REGION_WRITE: Self = Self(10);
    pub const DMA_READ: Self = Self(11);
    pub const DMA_WRITE: Self = Self(12);
    pub const DEVICE_RESET: Self = Self(13);
    /// Of versions before 0.1 as published; no longer in the specification.
    pub const DIRTY_PAGES: Self = Self(14);
    pub const REGION_WRITE_MULTI: Self = Self(15);
    pub const DEVICE_FEATURE: Self = Self(16);
    pub const MIG_DATA_READ: Self = Self(17);
    pub const MIG_DATA_WRITE: Self = Self(18);
}

/// The major version that both sides must have.
pub const MAJOR: u16 = 0;
/// The newest minor version that this crate speaks.
pub const MINOR: u16 = 1;

/// Bits of [`Header::flags`] ("Header").
pub mod flag {
    /// The bits that say what kind of message it is.
    pub const TYPE: u32 = 0xf;
    /// A command.
    pub const COMMAND: u32 = 0;
    /// The reply to one.
    pub const REPLY: u32 = 1;
    /// In a command: no reply is wanted.
    pub const NO_REPLY: u32 = 1 << 4;
    /// In a reply: the command failed.
    pub const ERROR: u32 = 1 << 5;
}

/// What every message starts with ("Header").
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Chosen by whoever asks, repeated by whoever answers.
    pub id: U16,
    /// What is asked for.
    pub command: U16,
    /// Bytes of the message, this header included.
    pub size: U32,
    /// See [`flag`].
    pub flags: U32,
    /// An errno, in a reply with [`flag::ERROR`].
    pub error: U32,
}

/// Bytes of a [`Header`].
pub const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 16);

impl Header {
    /// The header of a command with `body` bytes after it.
    #[must_use]
    pub fn command(id: u16, command: Command, body: u32, flags: u32) -> Self {
        Self {
            id: id.into(),
            command: command.0.into(),
            size: (16 + body).into(),
            flags: (flag::COMMAND | flags).into(),
            error: 0.into(),
        }
    }

    /// The header of the reply to this command, with `body` bytes after it.
    #[must_use]
    pub fn reply(&self, body: u32) -> Self {
        Self { size: (16 + body).into(), flags: flag::REPLY.into(), error: 0.into(), ..*self }
    }

    /// The reply to this command where it failed; nothing comes after it.
    #[must_use]
    pub fn refusal(&self, errno: i32) -> Self {
        let error = u32::try_from(errno).unwrap_or(0).into();
        Self { size: 16.into(), flags: (flag::REPLY | flag::ERROR).into(), error, ..*self }
    }

    /// What is asked for.
    #[must_use]
    pub fn kind(&self) -> Command {
        Command(self.command.get())
    }

    /// Whether it is a reply; none where it is neither that nor a command.
    #[must_use]
    pub fn is_reply(&self) -> Option<bool> {
        match self.flags.get() & flag::TYPE {
            flag::COMMAND => Some(false),
            flag::REPLY => Some(true),
            _ => None,
        }
    }

    /// Whether a bit of [`flag`] is set.
    #[must_use]
    pub fn has(&self, bit: u32) -> bool {
        self.flags.get() & bit != 0
    }
}
