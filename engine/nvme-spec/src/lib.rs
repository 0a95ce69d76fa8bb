//! What travels between an NVMe driver and a controller.
//!
//! Sections are those of the NVM Express Base Specification 2.1 ("Base"), the NVM Command Set Specification 1.1 ("NVM")
//! and the NVMe over PCIe Transport Specification 1.1 ("PCIe"). Numbers that may grow are open types: a value that this
//! crate does not know stays what it is. Structures are little-endian without padding, and their sizes are asserted.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![allow(missing_debug_implementations, reason = "zerocopy derives a hidden type for each layout")]

#[macro_use]
mod open;

pub mod admin;
mod bits;
mod command;
mod completion;
pub mod dbbuf;
mod event;
pub mod feature;
pub mod identify;
mod log;
pub mod nvm;
mod opcode;
pub mod prp;
mod registers;
mod sgl;
mod status;

pub use command::{DataPointer, FLAG_SGL, Sqe};
pub use completion::Cqe;
pub use event::{Event, EventType};
pub use feature::{FeatureId, Select};
pub use log::{
    ANY_NAMESPACE, CHANGED_NAMESPACES_MOST, CommandEffects, ErrorEntry, FirmwareSlots, LogPage, SmartLog,
    SupportedLogPages,
};
pub use opcode::{AdminOpcode, Direction, NvmOpcode};
pub use registers::{
    Aqa, Cap, Cc, Crto, Csts, DOORBELLS, Shutdown, ShutdownStatus, Version, doorbell, register,
};
pub use sgl::{SglDescriptor, SglKind};
pub use status::{Status, StatusType};
