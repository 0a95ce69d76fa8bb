//! Names and contents that only a key opens.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::symlink;

use anyhow::Result;
use rustix::io::Errno;

use super::{Place, file, where_possible};

/// `struct fscrypt_add_key_arg` of `include/uapi/linux/fscrypt.h`, with the raw key behind it.
#[repr(C)]
struct AddKey {
    /// `FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER`.
    kind: u32,
    reserved: u32,
    identifier: [u8; 32],
    raw_size: u32,
    key_id: u32,
    flags: u32,
    reserved2: [u32; 7],
    raw: [u8; 64],
}

/// `struct fscrypt_policy_v2`.
#[repr(C)]
struct Policy {
    version: u8,
    contents_mode: u8,
    names_mode: u8,
    flags: u8,
    log2_data_unit: u8,
    reserved: [u8; 3],
    key: [u8; 16],
}

/// `_IOWR('f', 23, struct fscrypt_add_key_arg)`; the key behind it does not count.
const ADD_KEY: u32 = 0xC050_6617;
/// `_IOR('f', 19, struct fscrypt_policy_v1)`.
const SET_POLICY: u32 = 0x800C_6613;

/// An encrypted directory, on volumes that were made for it. The key is not kept: whoever mounts the volume later sees
/// encrypted names and cannot read.
pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("encrypted")?;
    let directory = fs::File::open(&folder)?;
    let key = match add_key(directory.as_fd()) {
        // Neither XFS nor a volume without the feature has encryption.
        Err(Errno::OPNOTSUPP | Errno::NOTTY) => return Ok(()),
        other => other?,
    };
    for (number, flags) in [0, 1, 2, 3].into_iter().enumerate() {
        // Names are padded to 4, 8, 16 or 32 bytes.
        let below = folder.join(format!("padding-{number}"));
        fs::create_dir(&below)?;
        let policy = Policy {
            version: 2,
            contents_mode: 1,
            names_mode: 4,
            flags,
            log2_data_unit: 0,
            reserved: [0; 3],
            key,
        };
        if where_possible(set_policy(fs::File::open(&below)?.as_fd(), &policy))?.is_none() {
            continue;
        }
        for length in [1, 5, 15, 16, 17, 32, 60, 100, 140, 160, 200, 255] {
            let name = "secret-".chars().cycle().take(length).collect::<String>();
            file(&below.join(&name), u64::try_from(length)? * 10)?;
        }
        symlink("a secret target", below.join("link"))?;
        fs::create_dir(below.join("directory"))?;
        for name in 0..300 {
            file(&below.join("directory").join(format!("name-{name}")), 0)?;
        }
    }
    Ok(())
}

fn add_key(directory: BorrowedFd<'_>) -> Result<[u8; 16], Errno> {
    let mut request = AddKey {
        kind: 2,
        reserved: 0,
        identifier: [0; 32],
        raw_size: 64,
        key_id: 0,
        flags: 0,
        reserved2: [0; 7],
        raw: std::array::from_fn(|place| u8::try_from(place).unwrap_or_default()),
    };
    // SAFETY: the structure lives through the call and holds the 64 bytes of key that it announces; the kernel writes
    // the identifier and nothing else.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), ADD_KEY.into(), &raw mut request) };
    if answer != 0 {
        return Err(last_errno());
    }
    let mut identifier = [0; 16];
    identifier.copy_from_slice(&request.identifier[..16]);
    Ok(identifier)
}

fn set_policy(directory: BorrowedFd<'_>, policy: &Policy) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as the version in the first one says, which is the structure's size.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), SET_POLICY.into(), std::ptr::from_ref(policy)) };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
