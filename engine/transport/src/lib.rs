//! How an NVMe driver reaches a controller.
//!
//! A [`Transport`] gives what PCI Express gives a driver (NVMe over PCIe Transport Specification, chapter 3): the
//! registers behind BAR0, the doorbells among them as memory where that can be had, memory that the controller
//! reaches by bus addresses, and interrupts. Controllers in this process, behind a vfio-user socket and behind VFIO
//! look the same from here on.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod error;
mod interrupt;
mod memory;
mod transport;

pub use error::TransportError;
pub use interrupt::Interrupt;
pub use memory::TransportMemory;
pub use transport::{Assist, Transport, next_id};
