//! The one room with raw memory: buffers that devices read and write.
//!
//! A [`Region`] is mapped memory that a device or another process may change at any moment, seen as atomics or copied.
//! An [`AddressSpace`] says what of it a device can reach, and at which bus addresses.
//!
//! An [`Arena`] is a stretch of page-aligned memory whose address never changes, so that a device can be told of it
//! once (an io_uring's fixed buffers, an IOMMU mapping) and whoever told it can leave a [`Registration`] there. A
//! [`Pool`] carves [`Buffer`]s from arenas; a buffer goes back to its arena when it is dropped, on whatever thread
//! that happens, and keeps the arena alive until then.
//!
//! Unsafe code is allowed in this crate: it maps memory and hands out slices of it.
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod address_space;
mod arena;
mod buffer;
mod copy;
mod dma_buf;
mod fault;
mod page_map;
mod pool;
mod prefetch;
mod region;
mod view;
mod width;
mod words;

pub use address_space::{AddressSpace, MapError, Mapping, Unmapped, Unreachable};
pub use arena::{Arena, Registration};
pub use buffer::Buffer;
pub use dma_buf::DmaBufAccess;
pub use pool::{ArenaSource, Pool};
pub use prefetch::{read_later, read_soon, write_soon};
pub use region::{Access, OutOfReach, Region};
pub use view::{Span, View};
pub use width::{to_u64, to_usize};
pub use words::Words;

/// What memory is counted in and aligned to, in bytes.
pub const PAGE: usize = 4096;
