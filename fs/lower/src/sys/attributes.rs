//! Attributes of a mount that is there (`mount_setattr(2)`).

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

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
/// `MS_PRIVATE`.
const PRIVATE: u64 = 1 << 18;

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
    change(mount, &attr)
}

/// Makes a mount that was cloned from another (`open_tree(2)`) and is on no directory yet one of its own: with these flags
/// and no others, and with nothing that is mounted on the other appearing on it.
///
/// # Errors
/// What the kernel says.
pub fn make_own(mount: impl AsFd, flags: MountAttrFlags) -> Result<(), Errno> {
    let all = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;
    let attr = MountAttr {
        set: flags.bits().into(),
        clear: u64::from(all.bits()) | ATIME | NODIRATIME,
        propagation: PRIVATE,
        user_namespace: 0,
    };
    change(mount, &attr)
}

fn change(mount: impl AsFd, attr: &MountAttr) -> Result<(), Errno> {
    // SAFETY: The path is empty, the structure has the kernel's layout and the size that is told, and both outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}
