//! Listing directories.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, seek};

use crate::{Lower, Result};

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number.
    pub ino: u64,
    /// The type, where the directory stores it.
    pub kind: FileType,
    /// Where to go on after this entry.
    pub next: u64,
}

/// An open directory.
#[derive(Debug)]
pub struct OpenDirectory {
    file: Mutex<OwnedFd>,
}

impl Lower {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn open_directory(&self, ino: u64) -> Result<OpenDirectory> {
        Ok(OpenDirectory { file: Mutex::new(self.reopen(ino, OFlags::RDONLY | OFlags::DIRECTORY)?) })
    }
}

impl OpenDirectory {
    /// Gives entries from position `from` on (0: the beginning) until `visit` says that it has no room.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn list(&self, from: u64, mut visit: impl FnMut(Listed<'_>) -> bool) -> Result<()> {
        let file = self.file.lock();
        seek(&*file, SeekFrom::Start(from))?;
        let mut room = [MaybeUninit::<u8>::uninit(); 16 << 10];
        let mut entries = RawDir::new(&*file, &mut room);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let listed = Listed {
                name: entry.file_name().to_bytes(),
                ino: entry.ino(),
                kind: entry.file_type(),
                next: entry.next_entry_cookie(),
            };
            if !visit(listed) {
                break;
            }
        }
        Ok(())
    }

    /// Makes the directory's names durable.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn sync(&self, only_data: bool) -> Result<()> {
        let file = self.file.lock();
        if only_data { rustix::fs::fdatasync(&*file) } else { rustix::fs::fsync(&*file) }
    }

    /// Carries out a request that `FUSE_IOCTL` brought.
    ///
    /// # Errors
    /// As for [`OpenFile::ioctl`](crate::OpenFile::ioctl).
    pub fn ioctl(&self, request: u32, argument: &mut [u8]) -> Result<i32> {
        crate::open_files::ioctl(&*self.file.lock(), request, argument)
    }
}
