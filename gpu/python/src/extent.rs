//! A piece of a file, for Python.

use homi_abi::extents::{ENCODED, INLINE, SHARED, UNWRITTEN};
use pyo3::prelude::*;

/// A contiguous piece of a file. All in bytes.
#[pyclass(frozen, get_all, eq, hash, module = "homifs")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Extent {
    /// First byte within the file.
    logical: u64,
    /// First byte on the volume.
    physical: u64,
    /// Length, not 0.
    length: u64,
    /// 0 is plain data.
    flags: u32,
}

impl Extent {
    pub(crate) fn new(logical: u64, physical: u64, length: u64, flags: u32) -> Self {
        Self { logical, physical, length, flags }
    }
}

#[pymethods]
impl Extent {
    #[classattr]
    const UNWRITTEN: u32 = UNWRITTEN;
    #[classattr]
    const INLINE: u32 = INLINE;
    #[classattr]
    const SHARED: u32 = SHARED;
    #[classattr]
    const ENCODED: u32 = ENCODED;

    fn __repr__(&self) -> String {
        let Self { logical, physical, length, flags } = self;
        format!("Extent(logical={logical}, physical={physical}, length={length}, flags={flags})")
    }
}
