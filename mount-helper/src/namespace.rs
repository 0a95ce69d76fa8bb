//! Mounting where another process sees it: `mount -N`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::HelperError;

/// Joins the mount namespace that a path (`/proc/PID/ns/mnt`, or a file it is bound to) or a process id names.
pub(crate) fn join(namespace: &OsStr) -> Result<(), HelperError> {
    let name = namespace.to_string_lossy();
    let path = match name.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("/proc/{name}/ns/mnt"),
        false => name.into_owned(),
    };
    let refused = |source| HelperError::Namespace { path: path.clone(), source };
    let file = File::open(&path).map_err(refused)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|error| refused(error.into()))
}
