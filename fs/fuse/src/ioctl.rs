//! The ioctl that carries a control request where the control file cannot be written: on a read-only mount, the
//! kernel refuses to open any regular file for writing, ours included.
//!
//! The number is in `homi_abi::control`. The buffer holds the request, ended by NUL or by its end, and gets the
//! answer, filled up with NULs.

/// The request within the argument.
pub(crate) fn request(argument: &[u8]) -> &[u8] {
    let end = argument.iter().position(|&byte| byte == 0).unwrap_or(argument.len());
    argument[..end].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ends_at_nul_or_at_the_end() {
        assert_eq!(request(b"{}\n\0\0\0"), b"{}");
        assert_eq!(request(b"{}"), b"{}");
    }
}
