//! The ioctl that carries a control request: `_IOWR('H', 1, char[N])` on an open `.homi/control`.

/// The ioctl's type.
pub const IOCTL_LETTER: u8 = b'H';
/// The ioctl's number within its type.
pub const IOCTL_NUMBER: u8 = 1;
/// Largest argument in bytes: what an ioctl's number has room to tell (`_IOC_SIZEBITS`).
pub const REQUEST_MAX: u32 = (1 << 14) - 1;

/// The ioctl's number for an argument of `size` bytes (`include/uapi/asm-generic/ioctl.h`); `None` where it has no
/// room for that size.
#[must_use]
pub const fn ioctl(size: u32) -> Option<u32> {
    const READ_WRITE: u32 = 3;
    if size == 0 || size > REQUEST_MAX {
        return None;
    }
    Some((READ_WRITE << 30) | (size << 16) | ((IOCTL_LETTER as u32) << 8) | IOCTL_NUMBER as u32)
}

/// The size of the argument, where `command` is this ioctl.
#[must_use]
pub const fn argument_size(command: u32) -> Option<u32> {
    let size = (command >> 16) & REQUEST_MAX;
    match ioctl(size) {
        Some(ours) if ours == command => Some(size),
        _ => None,
    }
}
