//! What is agreed with the kernel when a session begins (`FUSE_INIT`).

use homifs_options::MountOptions;
use homifs_session::{Agreement, Capabilities};

/// What both kinds of mounts want.
const COMMON: Capabilities = Capabilities::ASYNC_DIO
    .union(Capabilities::PARALLEL_DIROPS)
    .union(Capabilities::READDIRPLUS)
    .union(Capabilities::READDIRPLUS_AUTO)
    .union(Capabilities::EXPORT_SUPPORT)
    .union(Capabilities::POSIX_ACL);

/// What a mount with these options asks for; `wanted` is what it wants besides the common.
pub(crate) fn agreement(wanted: Capabilities, options: &MountOptions, max_write: u32) -> Agreement {
    Agreement {
        capabilities: COMMON | wanted,
        max_readahead: options.read_ahead,
        max_write,
        max_background: u16::try_from(options.depth.saturating_mul(4)).unwrap_or(u16::MAX).max(64),
        max_stack_depth: u32::from(wanted.contains(Capabilities::PASSTHROUGH)),
    }
}
