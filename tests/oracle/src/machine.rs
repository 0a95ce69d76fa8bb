//! What this machine must offer before a test can say anything.

use std::path::Path;
use std::{env, fs};

/// The reason why tests that mount cannot run here; `None` where they can.
#[must_use]
pub fn cannot_mount() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root".into());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("this machine has no loop devices".into());
    }
    ["mount", "umount", "losetup", "mkfs.ext4", "tune2fs", "debugfs", "mkfs.xfs", "xfs_db"]
        .into_iter()
        .find(|tool| !has_tool(tool))
        .map(|tool| format!("{tool} is not installed"))
}

/// As [`cannot_mount`], for tests that mount homifs too.
#[must_use]
pub fn cannot_mount_fuse() -> Option<String> {
    let no_fuse = || (!Path::new("/dev/fuse").exists()).then(|| "this machine has no /dev/fuse".into());
    cannot_mount().or_else(no_fuse)
}

/// Whether a program of this name can be started.
#[must_use]
pub fn has_tool(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([Path::new("/sbin").into(), Path::new("/usr/sbin").into()])
        .any(|folder| folder.join(name).is_file())
}

/// Whether the kernel says that it can do this, in `/sys/fs/<format>/features`.
#[must_use]
pub fn kernel_has(format: &str, feature: &str) -> bool {
    fs::exists(format!("/sys/fs/{format}/features/{feature}")).unwrap_or(false)
}

/// Ends a test that cannot say anything here, and says why.
#[macro_export]
macro_rules! skip_if {
    ($reason:expr) => {
        if let Some(reason) = $reason {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
}
