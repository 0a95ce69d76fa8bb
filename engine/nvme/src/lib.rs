//! A user-space NVMe driver for any controller, over any [`Transport`](engine_transport::Transport).
//!
//! [`Controller::open`] brings a controller up; [`Controller::pair`] gives a [`QueuePair`], which one thread owns and
//! uses without a lock. [`open`] makes a block device of one namespace.
//!
//! The controller is not trusted: what it says of itself is checked, a completion counts only for a command that is
//! out, every wait has a deadline, and memory that it may still write to is never used again. It can still write
//! anywhere the transport lets it reach.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod admin;
mod block;
mod bring_up;
mod commands;
mod controller;
mod data;
mod doorbell;
mod errno;
mod error;
mod events;
mod identify;
mod keeper;
mod life;
mod memory;
mod options;
mod pair;
mod patience;
mod recovery;
mod registers;
mod ring;
mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod worker;

pub use block::{NvmeDevice, open};
pub use controller::Controller;
pub use data::{Run, Unfit};
pub use error::DriverError;
pub use identify::{ControllerFacts, NamespaceFacts};
pub use options::DriverOptions;
pub use pair::{QueuePair, Waiting};
pub use ring::{Completed, Refused};
pub use status::errno;

/// What came of a command; see [`errno`] for what it means to those who know files.
pub use engine_nvme_spec::Status;
