//! What an operation on the mount can fail with, and the one table that says which errno each failure is.

use extents_core::Error as VolumeError;

/// The result of an operation on the mount.
pub type Result<T, E = FsError> = std::result::Result<T, E>;

/// Why an operation on the mount failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// The volume could not be read or understood.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The device did not deliver file contents.
    #[error(transparent)]
    Device(#[from] engine_block::IoError),
    /// No worker queue could be had.
    #[error("no further queue to the device can be opened")]
    Queue(#[from] engine_block::OpenError),
    /// No such name or inode.
    #[error("no such file")]
    NotFound,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// The caller may not do this.
    #[error("permission denied")]
    Denied,
    /// The mount is read-only.
    #[error("the mount is read-only")]
    ReadOnly,
    /// A handle that was never given or is closed.
    #[error("no such open handle")]
    BadHandle,
    /// An offset or argument outside what the operation takes.
    #[error("invalid argument")]
    Invalid,
    /// `SEEK_DATA` or `SEEK_HOLE` past the end.
    #[error("no data past this offset")]
    NoData,
    /// A value larger than the caller's buffer.
    #[error("the value does not fit")]
    Range,
    /// A request larger than the limit.
    #[error("the request is too large")]
    TooBig,
    /// An operation of another file type.
    #[error("the operation does not apply to this type of file")]
    WrongType,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// A `homi.handle` that this mount did not give.
    #[error("the handle was given by another mount, or is none; ask the file for homi.handle again")]
    ForeignHandle,
    /// A `homi.handle` that was changed.
    #[error("the handle was not made by this daemon; ask the file for homi.handle again")]
    ForgedHandle,
    /// A `homi.handle` whose time is over.
    #[error("the handle is too old; ask the file for homi.handle again")]
    ExpiredHandle,
    /// A `homi.handle` of a file that is not the one that it was given for any more.
    #[error("the file of the handle is gone; open it again")]
    StaleHandle,
    /// The system gave no random numbers.
    #[error("the system has no random numbers to make a key from")]
    NoRandomness,
    /// A lease on a file that somebody may be writing.
    #[error("somebody has the file open for writing; ask again when it is closed")]
    BeingWritten,
    /// A snapshot of a tree that may change.
    #[error("snapshots are of read-only mounts; mount the volume read-only, or open the files one by one")]
    SnapshotOfWritable,
    /// The mount cannot be changed so.
    #[error("{text}")]
    Remount {
        /// Why as errno(3).
        errno: i32,
        /// Why in words.
        text: String,
    },
    /// What the kernel's own driver answered, below a writable mount.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Lower(i32),
    /// Not an operation of this file system.
    #[error("the operation is not supported")]
    NotSupported,
}

impl FsError {
    /// The errno that a program sees.
    ///
    /// | failure | errno | why this one |
    /// |---|---|---|
    /// | device or damaged metadata | `EIO`, `EUCLEAN` | what the kernel's ext4 (`EFSCORRUPTED`) and XFS answer |
    /// | encrypted without key | `ENOKEY` | as fscrypt on the kernel's mount |
    /// | realtime or unknown feature of one file | `EOPNOTSUPP` | the file is well, this reader is not enough |
    /// | free inode behind a name | `ESTALE` | as an NFS handle to a deleted file |
    /// | unknown attribute | `ENODATA` | never `ENOSYS`: one would turn attributes off for the whole mount |
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Volume(error) => volume_errno(error),
            Self::Device(error) => device_errno(error.errno),
            Self::Queue(_) => libc::ENOMEM,
            Self::NotFound => libc::ENOENT,
            Self::NoAttribute => libc::ENODATA,
            Self::Denied => libc::EACCES,
            Self::ReadOnly => libc::EROFS,
            Self::BadHandle => libc::EBADF,
            Self::Invalid => libc::EINVAL,
            Self::NoData => libc::ENXIO,
            Self::Range => libc::ERANGE,
            Self::TooBig => libc::E2BIG,
            Self::WrongType => libc::EINVAL,
            Self::NotADirectory => libc::ENOTDIR,
            Self::BeingWritten => libc::ETXTBSY,
            Self::SnapshotOfWritable => libc::EOPNOTSUPP,
            Self::Lower(libc::ENOSYS) | Self::NotSupported => libc::EOPNOTSUPP,
            Self::Lower(errno) => *errno,
            Self::Remount { errno, .. } => *errno,
            Self::ForeignHandle | Self::StaleHandle => libc::ESTALE,
            Self::ForgedHandle => libc::EPERM,
            Self::ExpiredHandle => libc::EKEYEXPIRED,
            Self::NoRandomness => libc::EAGAIN,
        }
    }

    /// Whether an administrator should hear of it: the volume or the device is not well.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Volume(error) => matches!(error, VolumeError::Read(_) | VolumeError::Corrupt(_)),
            Self::Device(_) | Self::Queue(_) => true,
            _ => false,
        }
    }
}

fn volume_errno(error: &VolumeError) -> i32 {
    match error {
        VolumeError::Read(error) => device_errno(error.errno),
        VolumeError::Corrupt(_) => libc::EUCLEAN,
        VolumeError::NotThisFormat(_) | VolumeError::NeedsRecovery(_) => libc::EINVAL,
        VolumeError::Unsupported(_) => libc::EOPNOTSUPP,
        VolumeError::NoSuchInode(_) => libc::ESTALE,
        VolumeError::NotADirectory(_) => libc::ENOTDIR,
        VolumeError::NotASymlink(_) => libc::EINVAL,
        VolumeError::Encrypted(_) => libc::ENOKEY,
        VolumeError::TooLarge(..) => libc::EFBIG,
        // `extents_core::Error` may grow; what is not known here is a fault of reading.
        _ => libc::EIO,
    }
}

/// A device's own number reaches programs only where they know what to do with it.
fn device_errno(errno: i32) -> i32 {
    match errno {
        libc::ENOMEM | libc::EINTR | libc::EAGAIN => errno,
        _ => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_no_failure_is_enosys() {
        let failures = [
            FsError::NotFound,
            FsError::NoAttribute,
            FsError::NotSupported,
            FsError::Volume(VolumeError::unsupported("realtime")),
            FsError::Device(engine_block::IoError {
                operation: engine_block::Operation::Read,
                offset: 0,
                length: 1,
                errno: libc::ENOSYS,
            }),
        ];
        for failure in failures {
            assert_ne!(failure.errno(), libc::ENOSYS, "{failure:?}");
        }
    }

    #[test]
    fn errno_device_that_is_gone_is_eio() {
        let gone = FsError::Device(engine_block::IoError {
            operation: engine_block::Operation::Read,
            offset: 0,
            length: 1,
            errno: libc::ENODEV,
        });
        assert_eq!(gone.errno(), libc::EIO);
    }
}
