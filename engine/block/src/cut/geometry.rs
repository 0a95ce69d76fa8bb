//! The units of a device.

/// What reads of one device have to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Size in bytes.
    pub size: u64,
    /// Offsets and lengths of commands are multiples of this power of two.
    pub block: u32,
    /// Addresses of commands are multiples of this power of two, at most a page.
    pub memory: u32,
    /// Longest single command in bytes, a multiple of `block`.
    pub max_transfer: u32,
}
