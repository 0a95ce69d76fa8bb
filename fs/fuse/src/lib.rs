//! The FUSE session: mounts a volume and answers the kernel.
//!
//! [`mount`] makes the mount, [`Mounted::run`] serves it until it is unmounted. What the requests mean is decided
//! in `homifs-core`; here they are only translated.
#![forbid(unsafe_code)]

mod attributes;
mod filesystem;
mod ioctl;
mod mount;
pub mod mount_table;
mod negotiation;
mod session;
mod writable;

pub use mount::{MountError, check_mountpoint};
pub use session::{Mounted, Unmounter, mount, mount_writable};
pub use writable::lower_attributes;
