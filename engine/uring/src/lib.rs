//! The kernel path: io_uring on image files and block devices, pread where io_uring is absent.
//!
//! [`KernelDevice`] takes an open file and serves it. Each queue is an io_uring of its own, with the file and the
//! queue's memory registered, reading with `O_DIRECT` where the file can; or a plain `pread` queue. What a device
//! cannot read as it is asked for, because of its block size, goes through bounce memory; [`engine_block::cut`]
//! decides that for both kinds of queue.
//!
//! Unsafe code is allowed in this crate: it tells the kernel addresses to write to.
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod choice;
mod device;
mod geometry;
mod pread_queue;
mod ranges;
mod ring;
mod ring_queue;
mod rings;

pub use choice::{Backend, Direct, Preference};
pub use device::KernelDevice;
pub use rings::kept_requests;
