//! Locks on image files.
//!
//! Readers of one image do not disturb each other; a writer would. So readers take shared locks and a writer takes
//! locks that go with nobody else's, of the kinds that programs which write images know:
//!
//! - flock(2), as util-linux and udev take it;
//! - open-file-description record locks on the bytes by which qemu tells what its processes do with an image
//!   (`docs/system/qemu-block-drivers`, "Disk image file locking"; `block/file-posix.c`): byte 100 + p says that
//!   somebody uses permission p, byte 200 + p that somebody does not want others to. These also collide with programs
//!   that lock the whole file for writing.

use std::fs::{File, TryLockError};
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

const USED: i64 = 100;
const UNSHARED: i64 = 200;

/// qemu's permissions.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// What the lock came to.
#[derive(Debug)]
pub(crate) enum Locked {
    /// The image is ours as long as the file is open.
    Ours,
    /// Somebody else has it in a way that does not go with ours.
    Refused,
}

/// Locks `file`, which is to be written to, against everybody else.
///
/// # Errors
/// Where the file system has no locks.
pub(crate) fn own(file: &File) -> io::Result<Locked> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Locked::Refused),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let unshared = [CONSISTENT_READ, WRITE, RESIZE].map(|permission| UNSHARED + permission);
    for byte in [USED + CONSISTENT_READ, USED + WRITE].into_iter().chain(unshared) {
        if !take(file, byte)? {
            return Ok(Locked::Refused);
        }
    }
    // Any lock anywhere on the file that is not ours. Where two come at once, both may be refused.
    Ok(if held(file, libc::F_WRLCK, 0, 0)? { Locked::Refused } else { Locked::Ours })
}

/// Locks `file` against those who would write to it.
///
/// # Errors
/// Where the file system has no locks.
pub(crate) fn share(file: &File) -> io::Result<Locked> {
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Locked::Refused),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Any write lock anywhere on the file.
    if held(file, libc::F_RDLCK, 0, 0)? {
        return Ok(Locked::Refused);
    }
    for byte in [USED + CONSISTENT_READ, UNSHARED + WRITE, UNSHARED + RESIZE] {
        if !take(file, byte)? {
            return Ok(Locked::Refused);
        }
    }
    // Locks of one open file do not collide with each other, so what is held now is held by somebody else.
    for byte in [USED + WRITE, USED + RESIZE, UNSHARED + CONSISTENT_READ] {
        if held(file, libc::F_WRLCK, byte, 1)? {
            return Ok(Locked::Refused);
        }
    }
    Ok(Locked::Ours)
}

/// Takes a shared lock of one byte; whether it could be had.
fn take(file: &File, byte: i64) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&record(libc::F_RDLCK, byte, 1))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a lock of this kind could not be had.
fn held(file: &File, kind: i32, start: i64, length: i64) -> io::Result<bool> {
    let mut lock = record(kind, start, length);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn record(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: 0, // SEEK_SET
        l_start: start,
        l_len: length,
        l_pid: 0, // as the kernel asks for locks of open file descriptions
    }
}
