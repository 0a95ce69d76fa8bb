//! A software NVMe controller.
//!
//! A [`Subsystem`] has namespaces, each over a [`Backing`]; a [`Controller`] serves one host's queues on it, to the
//! letter of the NVM Express Base Specification 2.1 ("Base") and the NVM Command Set Specification 1.1 ("NVM"). Doors
//! lead to it: [`InProcess`] is a transport for a driver in this process, [`PciDoor`] is served by vfio-user to drivers
//! elsewhere, and [`ClientQueues`] are for those who have queues and no registers.
//!
//! Nothing that a client does (any register, doorbell, command or address) can do more than fail its own commands or
//! stop its own controller.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
pub mod backing;
mod client;
mod commands;
mod controller;
mod data;
mod error;
mod faults;
mod in_process;
mod interrupts;
mod options;
mod pci_door;
mod processor;
mod queue;
mod registers;
pub mod subsystem;
pub mod tally;
mod threads;

pub use backing::{Backing, BackingQueue, Commons};
pub use client::ClientQueues;
pub use controller::Controller;
pub use error::ControllerError;
pub use faults::{Effect, Fault, Faults};
pub use in_process::InProcess;
pub use options::ControllerOptions;
pub use pci_door::PciDoor;
pub use subsystem::{Namespace, NamespaceOptions, Subsystem, SubsystemBuilder};
