//! Boots a Linux guest under emulation, gives it a controller of ours by vfio-user, and lets its drivers and tools, which
//! we did not write, judge it. `docs/VM_TESTS.md` tells how to use it.
#![forbid(unsafe_code)]

mod agent;
mod archive;
mod checks;
mod guest;
mod kit;
mod process;
mod server;
mod spdk;

pub use agent::Finished;
pub use checks::Checks;
pub use guest::{Guest, Running};
pub use kit::Kit;
pub use process::Background;
pub use server::ControllerServer;
pub use spdk::{Spdk, SpdkTarget};
