//! Files of a session.

use std::ffi::{CString, c_char, c_int};
use std::sync::{Arc, OnceLock};

use homi_client::{Client, ServedFile};

use crate::boundary::{Failure, answer, check, give_back, path, seen};
use crate::constants::{BY_QUEUES, HAS_GENERATION};
use crate::declare::CType;
use crate::session::{Session, descriptor, duplicate, text, word};

/// What C has as `homifs_file`.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) file: ServedFile,
    pub(crate) client: Arc<Client>,
    why: OnceLock<CString>,
}

impl CType for File {
    fn name() -> String {
        "homifs_file".into()
    }
}

record! {
    /// A file as it was when it was opened.
    Description = "homifs_description" {
        /// Bytes of the file.
        size: u64,
        /// Changes when the inode is another file; 0 without HOMIFS_FILE_HAS_GENERATION.
        generation: u64,
        /// Bytes of a block.
        block_size: u32,
        /// HOMIFS_FILE_*.
        flags: u32,
        /// The namespace that commands name it by, for those who fill queues; 0 without HOMIFS_FILE_BY_QUEUES.
        nsid: u32,
        /// Bits of the namespace's block size; 0 without HOMIFS_FILE_BY_QUEUES.
        block_shift: u32,
        /// A word that the daemon changes when it takes the blocks back; it can only be read, until the file is closed.
        /// Null without HOMIFS_FILE_BY_QUEUES.
        lease: *const u64,
    }
}

record! {
    /// A contiguous piece of a file. All in bytes.
    Extent = "homifs_extent" {
        /// First byte within the file.
        logical: u64,
        /// First byte on the volume; the byte of the device is homifs_extent_map.volume_start more.
        physical: u64,
        /// Length, not 0. The last one may reach past the end of the file.
        length: u64,
        /// HOMIFS_EXTENT_*; 0 is written data that lies on the media as the file has it.
        flags: u32,
        /// 0.
        reserved: u32,
    }
}

record! {
    /// What belongs to all extents of a file.
    ExtentMap = "homifs_extent_map" {
        /// The generation of the file that the map belongs to.
        generation: u64,
        /// Bytes of the file.
        file_size: u64,
        /// Byte of the device where the volume starts.
        volume_start: u64,
        /// Extents that the file has; as many were written as there was room for.
        total: u64,
        /// Bytes of a block of the file system.
        block_size: u32,
        /// 0.
        reserved: u32,
    }
}

fn open(session: &Session, opened: ServedFile) -> *mut File {
    let client = Arc::clone(&session.client);
    Box::into_raw(Box::new(File { file: opened, client, why: OnceLock::new() }))
}

functions! {
    /// Opens a file for reading. The path is relative to the working directory, not to the mount. Threads may share a
    /// file. Ends with homifs_close. 0, or an errno with a minus sign.
    fn homifs_open(session: *const Session, path: *const c_char, file: *mut *mut File) -> c_int {
        check(file, "file")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        // SAFETY: The caller gives a string, or null.
        let path = unsafe { self::path(path, "path") }?;
        let opened = session.client.open(path)?;
        // SAFETY: A pointer fits there, as the header says.
        unsafe { answer(file, "file", open(session, opened)) }?;
        Ok(0)
    }

    /// As homifs_open, for a file that is open for reading already. The descriptor stays the caller's.
    fn homifs_open_fd(session: *const Session, fd: c_int, file: *mut *mut File) -> c_int {
        check(file, "file")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        // SAFETY: The caller keeps it open for the time of the call.
        let fd = unsafe { descriptor(fd) }?;
        let opened = session.client.open_file(duplicate(fd)?.into())?;
        // SAFETY: A pointer fits there, as the header says.
        unsafe { answer(file, "file", open(session, opened)) }?;
        Ok(0)
    }

    /// Bytes of the file when it was opened; or an errno with a minus sign.
    fn homifs_size(file: *const File) -> i64 {
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(file, "file") }?;
        i64::try_from(file.file.size()).map_err(|_| Failure {
            errno: libc::EOVERFLOW,
            status: 0,
            text: "the file is larger than 2^63 bytes".into(),
        })
    }

    /// Bytes of a block of the file; or an errno with a minus sign.
    fn homifs_block_size(file: *const File) -> i64 {
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(file, "file") }?;
        Ok(file.file.block_size().into())
    }

    /// All that is known of a file. 0, or an errno with a minus sign.
    fn homifs_describe(file: *const File, description: *mut Description) -> c_int {
        // SAFETY: The caller gives a file that is open, or null.
        let file = &unsafe { seen(file, "file") }?.file;
        let namespace = file.namespace();
        let has_generation = if file.generation().is_some() { HAS_GENERATION } else { 0 };
        let value = Description {
            size: file.size(),
            generation: file.generation().unwrap_or(0),
            block_size: file.block_size(),
            flags: has_generation | if namespace.is_some() { BY_QUEUES } else { 0 },
            nsid: namespace.map_or(0, homi_client::OpenFile::nsid),
            block_shift: namespace.map_or(0, homi_client::OpenFile::block_shift),
            lease: namespace.map_or(std::ptr::null(), homi_client::OpenFile::lease_word),
        };
        // SAFETY: The structure fits there, as the header says.
        unsafe { answer(description, "description", value) }?;
        Ok(0)
    }

    /// Which path serves the file: "queues" or "pread". One that queues served is served by pread(2) after its blocks were
    /// taken back, in a session with HOMIFS_ALLOW_PREAD. Null where file is.
    fn homifs_served_by(file: *const File) -> *const c_char {
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(file, "file") }?;
        Ok(word(file.file.served_by()))
    }

    /// Why queues do not serve the file; "" where they do. It is there as long as the file. Null where file is.
    fn homifs_why(file: *const File) -> *const c_char {
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(file, "file") }?;
        if file.file.why().is_empty() {
            return Ok(c"".as_ptr());
        }
        Ok(file.why.get_or_init(|| text(file.file.why())).as_ptr())
    }

    /// Where the bytes of a file lie now: the map, where map is not null, and the first `room` extents, sorted by logical,
    /// without overlap; what none covers is a hole. How many extents the file has, which may be more than `room`; or an
    /// errno with a minus sign. The file must lie on a mount of homifs.
    fn homifs_extents(file: *const File, map: *mut ExtentMap, extents: *mut Extent, room: u64) -> i64 {
        // SAFETY: The caller gives a file that is open, or null.
        let file = unsafe { seen(file, "file") }?;
        if room > 0 {
            check(extents, "extents")?;
        }
        let told = file.file.extents()?;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        for (number, extent) in told.extents.iter().take(room).enumerate() {
            let value = Extent {
                logical: extent.logical,
                physical: extent.physical,
                length: extent.length,
                flags: extent.flags,
                reserved: 0,
            };
            // SAFETY: `room` extents fit there, as the header says, and this is one of them.
            unsafe { extents.add(number).write(value) };
        }
        let total = u64::try_from(told.extents.len()).unwrap_or(u64::MAX);
        if !map.is_null() {
            let value = ExtentMap {
                generation: told.generation,
                file_size: told.file_size,
                volume_start: told.volume_start,
                total,
                block_size: told.block_size,
                reserved: 0,
            };
            // SAFETY: The structure fits there, as the header says.
            unsafe { answer(map, "map", value) }?;
        }
        Ok(i64::try_from(total).unwrap_or(i64::MAX))
    }

    /// Closes a file, which no call and no command may be using. Null is nothing.
    fn homifs_close(file: *mut File) -> () {
        // SAFETY: The caller has it from homifs_open and uses it no more.
        unsafe { give_back(file) };
        Ok(())
    }
}
