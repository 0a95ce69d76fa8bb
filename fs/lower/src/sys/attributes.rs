//! Attributes of a mount that is there (`mount_setattr(2)`).

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::checked;
use crate::LowerAttributes;

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;

/// Sets how a mount treats access times.
pub(crate) fn set_access_times(mount: impl AsFd, attributes: &LowerAttributes) -> Result<(), Errno> {
    let mut attr = MountAttr { clear: ATIME | NODIRATIME, ..MountAttr::default() };
    attr.set |= if attributes.noatime {
        NOATIME
    } else if attributes.strictatime {
        STRICTATIME
    } else {
        0
    };
    attr.set |= if attributes.nodiratime { NODIRATIME } else { 0 };
    // SAFETY: The path is empty, the structure has the kernel's layout and the size that is told, and both outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}
