//! System calls that the crates of others do not wrap; all `unsafe` of this crate is below here.
#![allow(unsafe_code)]

pub(crate) mod attributes;
pub(crate) mod cached;
pub(crate) mod handles;
pub(crate) mod identity;
pub(crate) mod ioctls;
pub(crate) mod writers;

use rustix::io::Errno;

/// The result of a system call of libc's.
pub(crate) fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)));
    }
    Ok(result)
}
