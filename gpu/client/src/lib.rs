//! The client's side of device-initiated I/O.
//!
//! A program opens a file of a homifs mount as usual, asks for its handle, and gives the handle to a [`Session`] with
//! the daemon. The file is then a namespace whose blocks are the file's blocks; whoever fills a [`QueuePair`] with NVMe
//! commands, a thread of this process or an accelerator that the memory is shared with, reads it without a system call.
//!
//! ```no_run
//! use homi_client::Session;
//!
//! let file = std::fs::File::open("/mnt/data/sample.bin")?;
//! let session = Session::of_file(&file)?;
//! let opened = session.open(&file)?;
//! let mut reader = session.reader(4 << 20)?;
//! let mut bytes = vec![0; 1 << 20];
//! reader.read(&opened, 0, &mut bytes)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Unsafe code stands in [`memory`], which maps what is shared, `target`, which fills what callers give, `arena`, which
//! keeps bytes and a view of them together, `cuda`, which calls the driver, and [`control`], which makes one ioctl.

mod arena;
mod client;
pub mod control;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
mod extents;
mod file;
pub mod memory;
mod mount;
mod prp;
mod queue;
mod reader;
mod served;
mod served_snapshot;
mod session;
mod snapshot;
mod socket;
mod staging;
mod target;
mod waiting;
mod writer;

pub use arena::Arena;
pub use client::{Client, ServedRequest};
pub use error::{ClientError, NvmeStatus};
pub use extents::{Extent, ExtentMap};
pub use file::OpenFile;
pub use queue::{Command, Done, Operation, QueuePair, QueuePlaces, QueueSet};
pub use reader::{Reader, Request};
pub use served::{Fallback, ServedBy, ServedFile};
pub use served_snapshot::{ServedSnapshot, SnapshotRequest};
pub use session::{Buffer, BufferKind, Limits, Session};
pub use snapshot::Snapshot;
pub use target::Target;
pub use writer::Writer;
