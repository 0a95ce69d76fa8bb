//! What is agreed with the kernel when a session begins (`FUSE_INIT`).

use fuser::{InitFlags, KernelConfig};
use homifs_options::MountOptions;

/// What both kinds of mounts want.
pub(crate) const COMMON: InitFlags = InitFlags::FUSE_ASYNC_DIO
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_EXPORT_SUPPORT)
    .union(InitFlags::FUSE_POSIX_ACL);

/// Asks for capabilities, and for requests of these sizes and numbers, as far as the kernel goes.
pub(crate) fn agree(config: &mut KernelConfig, wanted: InitFlags, options: &MountOptions, max_write: u32) {
    for flag in wanted.iter() {
        if config.add_capabilities(flag).is_err() {
            tracing::info!(?flag, "this kernel's FUSE lacks a capability; going on without it");
        }
    }
    if let Err(nearest) = config.set_max_write(max_write) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(most) = config.set_max_readahead(options.read_ahead) {
        let _ = config.set_max_readahead(most);
    }
    let background = u16::try_from(options.depth.saturating_mul(4)).unwrap_or(u16::MAX).max(64);
    let _ = config.set_max_background(background);
    let _ = config.set_congestion_threshold(background);
}
