//! The vfio-user protocol: PCI devices over a UNIX socket.
//!
//! [`VfioUserTransport`] is the client: an NVMe driver's way to a controller in another process. A [`Server`] offers
//! a [`DeviceModel`] to anyone's client (QEMU's `vfio-user-pci`, SPDK's initiator, ours); [`pci::PciDevice`] makes
//! one of a function that has registers and interrupt vectors. [`wire`] has what goes over the socket.
//!
//! Neither side trusts the other: every size, count and descriptor is checked, every wait has a deadline, and memory
//! that the other side takes away again reads as zeros.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod client;
mod iova;
mod model;
pub mod pci;
mod server;
mod socket;
pub mod wire;

pub use client::{Limits, VfioUserTransport};
pub use model::{ClientMemory, DeviceModel, MappableArea, RegionShape};
pub use rustix::io::Errno;
pub use server::{ListenError, Patience, Server};
pub use socket::{MOST_FDS, Message, Socket, SocketError};
