//! Requests on a mount's control file, `.homi/control`.

use std::fs::File;
use std::path::Path;

use rustix::ioctl::{Updater, ioctl};

use crate::ClientError;

/// Bytes of a request and of its answer: as many as the ioctl's number can tell.
const SIZE: usize = 16383;
const NUMBER: rustix::ioctl::Opcode = match homi_abi::control::ioctl(16383) {
    Some(number) => number as rustix::ioctl::Opcode,
    None => panic!("an ioctl has room for this size"),
};
const _: () = assert!(homi_abi::control::REQUEST_MAX == 16383);

/// Asks the daemon of the mount whose root is at `mountpoint`: one JSON object, answered by one. By ioctl, which works
/// on mounts that refuse writers, too.
///
/// # Errors
/// Where there is no control file, or the request is longer than 16 382 bytes. What the daemon refuses is in the answer.
pub fn ask(mountpoint: &Path, request: &str) -> Result<String, ClientError> {
    let path = mountpoint.join(".homi/control");
    let control = File::open(&path)
        .map_err(|source| ClientError::System { action: "open the mount's control file", source })?;
    let mut bytes = [0_u8; SIZE];
    let part = bytes[..SIZE - 1].get_mut(..request.len());
    part.ok_or_else(|| ClientError::Invalid("the request is too long".into()))?
        .copy_from_slice(request.as_bytes());
    // SAFETY: the number says that the ioctl reads and writes SIZE bytes, which is what the buffer has.
    let asked = unsafe { ioctl(&control, Updater::<NUMBER, [u8; SIZE]>::new(&mut bytes)) };
    asked.map_err(ClientError::system("ask the mount's control file"))?;
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(SIZE);
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}
