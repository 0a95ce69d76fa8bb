//! The kernel's side of FUSE: requests in, answers out.
//!
//! [`Connection`] is an open `/dev/fuse`, [`Session`] answers what comes over it, on as many threads as asked, by calling a
//! [`Filesystem`]. Structures and numbers are those of include/uapi/linux/fuse.h; nothing here knows what is mounted.
//! Mounting is the caller's affair: a connection becomes one by mount(2) with its descriptor.
#![deny(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod arguments;
mod attributes;
mod connection;
mod device;
mod dispatch;
mod filesystem;
mod ioctls;
mod listing;
mod negotiation;
mod reply;
mod requests;
mod roster;
mod session;
mod wire;

pub use attributes::{Attributes, Entry, Time, Timed};
pub use connection::{Backing, Connection};
pub use filesystem::{Answer, Filesystem};
pub use listing::Listing;
pub use negotiation::{Agreement, Capabilities, Offer};
pub use reply::Data;
pub use requests::{
    Asker, Copy, Ioctl, MakeFile, OpenAnswer, Opened, Read, SetAttribute, SetAttributes, TimeOrNow, Usage,
    Write,
};
pub use session::Session;
