//! `FUSE_INIT`: what both sides can do.

/// The protocol's major version, which has been 7 since 2005.
pub(crate) const MAJOR: u32 = 7;
/// The latest minor version whose structures are known here.
pub(crate) const MINOR: u32 = 45;
/// The oldest that is served: Linux 5.4.
pub(crate) const OLDEST_MINOR: u32 = 31;

structures! {
    /// `struct fuse_init_in` up to 7.35; later kernels send [more](InitMore).
    InitIn (16) { major: u32, minor: u32, max_readahead: u32, flags: u32, }
    /// The part of what `FUSE_INIT_EXT` adds that has a meaning.
    InitMore (4) { flags2: u32, }
    /// `struct fuse_init_out`.
    #[derive(Default)]
    InitOut (64) {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_granularity: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }
}
