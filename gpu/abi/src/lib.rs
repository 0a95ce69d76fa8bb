//! Byte layouts that the daemon shares with its clients.
//!
//! Everything here is little-endian whatever the machine, without padding, and frozen once released: a layout
//! that changes gets a new version number. The C headers in `include/` are made from the same
//! definitions (`cargo run -p homi-abi --example c_header`), and a test keeps the two alike.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![allow(missing_debug_implementations, reason = "zerocopy derives a hidden type for each layout")]

#[macro_use]
mod layout;
#[cfg(feature = "std")]
mod c_header;
pub mod control;
pub mod extents;
pub mod session;
pub mod snapshot;

#[cfg(feature = "std")]
pub use c_header::{control_header, extents_header, session_header, snapshot_header};
pub use layout::{Field, Structure};
