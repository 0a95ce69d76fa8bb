//! How requests become commands that a device takes, for those who implement queues.
//!
//! A request is [accepted](Active::accept) and then gives [commands](Command) one by one, each within the
//! [units](Geometry) of the device; what came of each is told to it, until it can [complete](Active::complete).

mod active;
mod command;
mod geometry;
mod slots;

pub use active::{Active, refuse, whole};
pub use command::{Command, Progress};
pub use geometry::Geometry;
pub use slots::Slots;
