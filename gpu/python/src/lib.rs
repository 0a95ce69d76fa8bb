//! The extension module behind the Python package `homifs`: `homi-client` as Python objects.
//!
//! Python's lock is let go of while commands fly, so other threads run, and read at the same time.
//!
//! The crate has unsafe code where it fills memory that Python objects lend: [`buffer`] and [`cuda`]; and [`memory`] borrows a
//! descriptor that Python has as a number.

#![allow(clippy::needless_pass_by_value, reason = "what PyO3 made of an argument it hands over")]

mod arena;
mod buffer;
mod clients;
mod cuda;
mod error;
mod extent;
mod file;
mod live;
mod many;
mod memory;

use pyo3::prelude::*;

#[pymodule]
mod _homifs {
    #[pymodule_export]
    use crate::arena::{Snapshot, SnapshotFile};
    #[pymodule_export]
    use crate::cuda::CudaBytes;
    #[pymodule_export]
    use crate::error::Error;
    #[pymodule_export]
    use crate::extent::Extent;
    #[pymodule_export]
    use crate::file::{File, open};
    #[pymodule_export]
    use crate::live::{MountSnapshot, snapshot};
    #[pymodule_export]
    use crate::many::read_many;
    #[pymodule_export]
    use crate::memory::Buffer;
}
