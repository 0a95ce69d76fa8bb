//! The wall between those who want blocks and those who move them.
//!
//! A [`BlockDevice`] is shared by everyone; each worker asks it for a [`BlockQueue`] of its own, which needs no
//! lock. A request names one buffer and a scatter list: which ranges of the device go to which places in the
//! buffer. The queue owns the buffer while the device may write it and gives it back with the completion, so a
//! buffer cannot be freed, read or reused too early. Holes are the caller's affair: it clears those parts of the
//! buffer before it submits.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copied_ranges;
pub mod cut;
mod device;
mod error;
mod range;
mod request;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use device::{BlockDevice, BlockQueue, DeviceInfo, Wait};
pub use engine_dma::Buffer;
pub use error::{IoError, OpenError};
pub use range::{Operation, RangeCompletion, RangeQueue, RangeRequest, Window, Windows};
pub use request::{Completion, Piece, Pieces, Request};
