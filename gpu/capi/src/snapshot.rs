//! All files of a directory at once.

use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use homi_client::{Client, ServedSnapshot, SnapshotRequest};

use crate::boundary::{Failure, answer, check, give_back, path, seen};
use crate::declare::CType;
use crate::read::{several, target, tell};
use crate::session::{Session, descriptor};

/// What C has as `homifs_snapshot`.
#[derive(Debug)]
pub(crate) struct Snapshot {
    snapshot: ServedSnapshot,
    client: Arc<Client>,
}

impl CType for Snapshot {
    fn name() -> String {
        "homifs_snapshot".into()
    }
}

record! {
    /// A snapshot, and what an accelerator needs to read its files (gpu/device/include/homi/snapshot.h). It can only be
    /// read, until the snapshot is closed.
    SnapshotMemory = "homifs_snapshot_memory" {
        /// The arena (homi_snapshot.h) where it lies in this process.
        arena: *const c_void,
        /// Bytes of it.
        arena_length: u64,
        /// Files in it; their numbers are 0 to files - 1.
        files: u64,
        /// Bytes of all files together.
        bytes: u64,
        /// Files and directories that are left out, since the caller may not read them or they are damaged.
        left_out: u64,
        /// Bytes of the namespace that has all files.
        size: u64,
        /// A word that the daemon changes when it takes blocks of the namespace back.
        lease: *const u64,
        /// The namespace that commands name it by.
        nsid: u32,
        /// Bits of the namespace's block size.
        block_shift: u32,
    }
}

record! {
    /// A file of a snapshot.
    SnapshotFile = "homifs_snapshot_entry" {
        /// Its path, relative to the snapshot's root; it is there as long as the snapshot, and no NUL ends it for certain.
        path: *const c_char,
        /// Bytes of the path.
        path_length: u64,
        /// Bytes of the file.
        size: u64,
        /// Its inode.
        inode: u64,
        /// The byte of the namespace at which it begins.
        start: u64,
        /// The generation of the inode.
        generation: u32,
        /// HOMIFS_EXTENT_* of any of its extents.
        flags: u32,
    }
}

record! {
    /// A range of a file of a snapshot, where it goes, and what came of it.
    SnapshotRange = "homifs_snapshot_range" {
        /// The file's number.
        number: u64,
        /// First byte in the file.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Where they go.
        target: *mut c_void,
        /// Set by the call: how many bytes there were, fewer than asked for only at the file's end; or an errno with a
        /// minus sign.
        result: i64,
        /// Set by the call: as homifs_error.nvme_status.
        nvme_status: u32,
        /// 0.
        reserved: u32,
    }
}

/// The place of a file, which may be none.
fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

functions! {
    /// Takes a snapshot of all regular files below a directory, as far as the caller may read them: from then on none of
    /// them has to be opened. The path is relative to the working directory. Ends with homifs_snapshot_close. 0, or an errno
    /// with a minus sign: EOPNOTSUPP where the session has no queues, EDQUOT where the tree is larger than the mount's
    /// option client_snapshots allows.
    fn homifs_snapshot_open(session: *const Session, path: *const c_char, snapshot: *mut *mut Snapshot) -> c_int {
        check(snapshot, "snapshot")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        // SAFETY: The caller gives a string, or null.
        let path = unsafe { self::path(path, "path") }?;
        let directory = File::open(path).map_err(|error| Failure {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            status: 0,
            text: format!("cannot open the directory: {error}"),
        })?;
        let client = Arc::clone(&session.client);
        let made = Snapshot { snapshot: client.snapshot(&directory)?, client };
        // SAFETY: A pointer fits there, as the header says.
        unsafe { answer(snapshot, "snapshot", Box::into_raw(Box::new(made))) }?;
        Ok(0)
    }

    /// As homifs_snapshot_open, for a directory that is open. The descriptor stays the caller's.
    fn homifs_snapshot_open_fd(session: *const Session, fd: c_int, snapshot: *mut *mut Snapshot) -> c_int {
        check(snapshot, "snapshot")?;
        // SAFETY: The caller gives a session that is open, or null.
        let session = unsafe { seen(session, "session") }?;
        // SAFETY: The caller keeps it open for the time of the call.
        let fd = unsafe { descriptor(fd) }?;
        let client = Arc::clone(&session.client);
        let made = Snapshot { snapshot: client.snapshot(fd)?, client };
        // SAFETY: A pointer fits there, as the header says.
        unsafe { answer(snapshot, "snapshot", Box::into_raw(Box::new(made))) }?;
        Ok(0)
    }

    /// What is known of all files together. 0, or an errno with a minus sign.
    fn homifs_snapshot_describe(snapshot: *const Snapshot, memory: *mut SnapshotMemory) -> c_int {
        // SAFETY: The caller gives a snapshot that is open, or null.
        let snapshot = &unsafe { seen(snapshot, "snapshot") }?.snapshot;
        let (bytes, namespace, view) = (snapshot.bytes(), snapshot.namespace(), snapshot.view());
        let value = SnapshotMemory {
            arena: bytes.as_ptr().cast(),
            arena_length: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            files: u64::try_from(view.files().len()).unwrap_or(u64::MAX),
            bytes: view.header().bytes.get(),
            left_out: snapshot.left_out(),
            size: namespace.size(),
            lease: namespace.lease_word(),
            nsid: namespace.nsid(),
            block_shift: namespace.block_shift(),
        };
        // SAFETY: The structure fits there, as the header says.
        unsafe { answer(memory, "memory", value) }?;
        Ok(0)
    }

    /// The number of the file with this path, relative to the snapshot's root, without a slash at either end. -ENOENT where
    /// there is none.
    fn homifs_snapshot_find(snapshot: *const Snapshot, path: *const c_char) -> i64 {
        // SAFETY: The caller gives a snapshot that is open, or null.
        let snapshot = &unsafe { seen(snapshot, "snapshot") }?.snapshot;
        // SAFETY: The caller gives a string, or null.
        let path = unsafe { self::path(path, "path") }?;
        let found = snapshot.view().lookup(path.as_os_str().as_bytes()).ok_or_else(|| Failure {
            errno: libc::ENOENT,
            status: 0,
            text: format!("{} is not in the snapshot", path.display()),
        })?;
        Ok(i64::try_from(found).unwrap_or(i64::MAX))
    }

    /// What is known of a file. 0, or an errno with a minus sign.
    fn homifs_snapshot_file(snapshot: *const Snapshot, number: u64, entry: *mut SnapshotFile) -> c_int {
        // SAFETY: The caller gives a snapshot that is open, or null.
        let snapshot = &unsafe { seen(snapshot, "snapshot") }?.snapshot;
        let file = snapshot.file(place(number))?;
        let path = snapshot.view().path(file);
        let value = SnapshotFile {
            path: path.as_ptr().cast(),
            path_length: u64::try_from(path.len()).unwrap_or(u64::MAX),
            size: file.size.get(),
            inode: file.inode.get(),
            start: snapshot.start_of(file),
            generation: file.generation.get(),
            flags: file.flags.get(),
        };
        // SAFETY: The structure fits there, as the header says.
        unsafe { answer(entry, "entry", value) }?;
        Ok(0)
    }

    /// Reads many ranges of files of a snapshot by commands that are told of together, through the one namespace that has
    /// all of them. No two targets may overlap. 0 where each range went well, else the errno of the first that did not, with
    /// a minus sign; each range has its own result: -ESTALE where a file was taken back.
    fn homifs_snapshot_read_many(snapshot: *const Snapshot, ranges: *mut SnapshotRange, count: u64) -> c_int {
        // SAFETY: The caller gives a snapshot that is open, or null.
        let snapshot = unsafe { seen(snapshot, "snapshot") }?;
        // SAFETY: The caller gives `count` ranges that nobody else uses during the call.
        let ranges = unsafe { several(ranges, count) }?;
        read_many(snapshot, ranges)
    }

    /// Closes a snapshot, which no call and no command may be using. Null is nothing.
    fn homifs_snapshot_close(snapshot: *mut Snapshot) -> () {
        // SAFETY: The caller has it from homifs_snapshot_open and uses it no more.
        unsafe { give_back(snapshot) };
        Ok(())
    }
}

fn read_many(snapshot: &Snapshot, ranges: &mut [SnapshotRange]) -> Result<c_int, Failure> {
    let mut requests = Vec::with_capacity(ranges.len());
    for (number, range) in ranges.iter().enumerate() {
        // SAFETY: The caller gives as much memory, and no two ranges the same.
        let target = unsafe { target(range.target, range.length) }
            .map_err(|failure| Failure { text: format!("range {number}: {}", failure.text), ..failure })?;
        requests.push(SnapshotRequest { number: place(range.number), offset: range.offset, target });
    }
    let results = snapshot.client.read_snapshot(&snapshot.snapshot, &mut requests);
    Ok(tell(results, ranges.iter_mut().map(|range| (&mut range.result, &mut range.nvme_status))))
}
