//! The one room with raw memory: buffers that devices read and write.
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

mod arena;
mod buffer;
mod page_map;
mod pool;
mod width;

pub use arena::{Arena, PAGE, Registration};
pub use buffer::Buffer;
pub use pool::Pool;
pub use width::{to_u64, to_usize};
