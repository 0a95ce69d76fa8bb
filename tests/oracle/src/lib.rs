//! Builds real volumes and compares what the kernel shows of them with what homifs shows.
//!
//! A [`Volume`] is a line of a table: how to make it and what to put into it. [`image::build`] makes it with the
//! format's own tools and the kernel, once for each recipe. A [`Tree`] is everything that can be seen below a
//! directory: [`mounted_tree`] takes it from a mount, [`parsed_tree`] from our parsers, and [`differences`] tells
//! two of them apart.

pub mod command;
mod contents;
mod difference;
mod fiemap;
pub mod image;
mod kernel_mount;
mod loop_device;
pub mod machine;
mod mounted_tree;
mod parsed_tree;
pub mod recipe;
mod tree;
mod volume;

pub use difference::{Aspects, Difference, Report, differences};
pub use fiemap::{Piece, fiemap};
pub use kernel_mount::KernelMount;
pub use loop_device::LoopDevice;
pub use mounted_tree::mounted_tree;
pub use parsed_tree::{Image, parsed_tree};
pub use tree::{Contents, Entry, Kept, Name, Stat, Tree};
pub use volume::{Format, VOLUMES, Volume};
