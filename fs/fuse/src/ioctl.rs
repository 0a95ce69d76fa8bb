//! The ioctl that carries a control request where the control file cannot be written: on a read-only mount, the
//! kernel refuses to open any regular file for writing, ours included.
//!
//! `_IOWR('H', 1, char[N])` with N up to 16383: the buffer holds the request, ended by NUL or by its end, and gets
//! the answer, filled up with NULs.

/// Size of the argument of a control request; `None` for any other ioctl.
pub(crate) fn control_request_size(command: u32) -> Option<usize> {
    const READ_WRITE: u32 = 3;
    let (direction, size, number) = (command >> 30, (command >> 16) & 0x3fff, command & 0xffff);
    (direction == READ_WRITE && number == u32::from_be_bytes([0, 0, b'H', 1]))
        .then(|| usize::try_from(size).unwrap_or(0))
}

/// The request within the argument.
pub(crate) fn request(argument: &[u8]) -> &[u8] {
    let end = argument.iter().position(|&byte| byte == 0).unwrap_or(argument.len());
    argument[..end].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_request_size_takes_only_ours() {
        assert_eq!(control_request_size(0xc000_4801 | (4096 << 16)), Some(4096));
        assert_eq!(control_request_size(0x8008_6601), None, "FS_IOC_GETFLAGS");
        assert_eq!(control_request_size(0xc000_4802 | (4096 << 16)), None);
    }

    #[test]
    fn request_ends_at_nul_or_at_the_end() {
        assert_eq!(request(b"{}\n\0\0\0"), b"{}");
        assert_eq!(request(b"{}"), b"{}");
    }
}
