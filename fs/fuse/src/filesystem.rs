//! The kernel's requests, each translated for `homifs-core` and back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use extents_core::Flow;
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, WriteFlags,
};
use homifs_core::{Caching, Caller, FsError, Homifs, Listed, NodeAttributes, NodeId, Seek, Special};

use crate::attributes::{file_attr, kind};
use crate::ioctl;
use crate::negotiation::{COMMON, agree};

/// The translation; it holds nothing of its own.
#[derive(Debug)]
pub(crate) struct Translation {
    homifs: Arc<Homifs>,
}

fn errno(error: &FsError) -> Errno {
    Errno::from_i32(error.errno())
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid(), groups: None }
}

/// What an attribute request gets: the value, its size where the program only asks for that, or `ERANGE`.
pub(crate) fn reply_xattr(value: Result<Vec<u8>, FsError>, size: u32, reply: ReplyXattr) {
    match value {
        Err(error) => reply.error(errno(&error)),
        Ok(value) => match u32::try_from(value.len()) {
            Ok(length) if size == 0 => reply.size(length),
            Ok(length) if length <= size => reply.data(&value),
            _ => reply.error(errno(&FsError::Range)),
        },
    }
}

impl Translation {
    pub(crate) fn new(homifs: Arc<Homifs>) -> Self {
        Self { homifs }
    }

    fn entry(&self, attributes: &NodeAttributes) -> FileAttr {
        file_attr(&self.homifs, attributes.node.0, attributes)
    }

    /// Answers with one of our own files.
    pub(crate) fn special(&self, special: Special, reply: ReplyEntry) {
        match self.homifs.attributes(special.node()) {
            Ok(found) => reply.entry(&self.homifs.ttl(), &self.entry(&found), Generation(0)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// What the kernel remembers as "no such name".
    pub(crate) fn negative() -> FileAttr {
        let epoch = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(0),
            size: 0,
            blocks: 0,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            crtime: epoch,
            kind: fuser::FileType::RegularFile,
            perm: 0,
            nlink: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 0,
            flags: 0,
        }
    }

    /// The type of a listed entry: stored beside the name, or else from its inode.
    fn listed_kind(&self, entry: &Listed<'_>) -> fuser::FileType {
        let from_inode = || self.homifs.attributes_of_listed(entry).map(|found| found.metadata.file_type);
        entry.file_type.or_else(from_inode).map_or(fuser::FileType::RegularFile, kind)
    }
}

impl Filesystem for Translation {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = COMMON | InitFlags::FUSE_CACHE_SYMLINKS | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        let options = self.homifs.options();
        // Requests for reading are as large as the longest write and `max_read` allow; nothing is written but control
        // requests.
        agree(config, wanted, options, options.max_read);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.homifs.lookup(NodeId(parent.0), name.as_bytes()) {
            Ok(Some(found)) => {
                let generation = Generation(found.metadata.generation.into());
                reply.entry(&self.homifs.ttl(), &self.entry(&found), generation);
            }
            Ok(None) => reply.entry(&self.homifs.ttl(), &Self::negative(), Generation(0)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.homifs.attributes(NodeId(node.0)) {
            Ok(found) => {
                reply.attr(&self.homifs.ttl(), &file_attr(&self.homifs, found.metadata.ino.0, &found));
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        match self.homifs.read_link(NodeId(node.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn open(&self, _request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        match self.homifs.open(NodeId(node.0), writes) {
            Ok(opened) => {
                let flags = match opened.caching {
                    Caching::Keep => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
                    Caching::Uncached => FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH,
                    Caching::Stream => {
                        FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_STREAM | FopenFlags::FOPEN_NOFLUSH
                    }
                };
                reply.opened(FileHandle(opened.handle), flags);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reply = Some(reply);
        let result = self.homifs.read(handle.0, offset, size, |bytes| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        if let (Err(error), Some(reply)) = (result, reply) {
            reply.error(errno(&error));
        }
    }

    fn write(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.homifs.write(handle.0, data, &caller(request)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.homifs.release(handle.0);
        reply.ok();
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Listings need no handle. Told so once, the kernel stops asking and keeps what it has listed.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.homifs.read_dir(NodeId(node.0), offset, &mut |entry| {
            let kind = self.listed_kind(&entry);
            match reply.add(INodeNo(entry.ino.0), entry.next, kind, OsStr::from_bytes(entry.name)) {
                true => Flow::Break(()),
                false => Flow::Continue(()),
            }
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.homifs.read_dir(NodeId(node.0), offset, &mut |entry| {
            let (attr, ttl, generation) = match self.homifs.attributes_of_listed(&entry) {
                // The dots make no node, so the number in them is the one that programs see.
                Some(found) if matches!(entry.name, b"." | b"..") => {
                    (file_attr(&self.homifs, entry.ino.0, &found), Duration::ZERO, 0)
                }
                Some(found) => (self.entry(&found), self.homifs.ttl(), found.metadata.generation),
                // Listed all the same; whoever asks for its attributes next is told what is wrong with it.
                None => {
                    let kind = entry.file_type.map_or(fuser::FileType::RegularFile, kind);
                    (FileAttr { ino: INodeNo(entry.ino.0), kind, ..Self::negative() }, Duration::ZERO, 0)
                }
            };
            let name = OsStr::from_bytes(entry.name);
            match reply.add(attr.ino, entry.next, name, &ttl, &attr, Generation(generation.into())) {
                true => Flow::Break(()),
                false => Flow::Continue(()),
            }
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        match self.homifs.usage() {
            Ok(usage) => reply.statfs(
                usage.blocks,
                usage.free,
                usage.available,
                usage.files,
                usage.files_free,
                usage.block_size,
                usage.name_max,
                usage.block_size,
            ),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getxattr(&self, request: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        reply_xattr(self.homifs.xattr(NodeId(node.0), name.as_bytes(), &caller(request)), size, reply);
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        reply_xattr(self.homifs.xattr_names(NodeId(node.0), &caller(request)), size, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let what = match whence {
            libc::SEEK_DATA => Ok(Seek::Data),
            libc::SEEK_HOLE => Ok(Seek::Hole),
            _ => Err(FsError::Invalid),
        };
        let found = what.and_then(|what| {
            let offset = u64::try_from(offset).map_err(|_| FsError::NoData)?;
            let found = self.homifs.seek(handle.0, offset, what)?;
            i64::try_from(found).map_err(|_| FsError::Invalid)
        });
        match found {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn ioctl(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        argument: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let room = usize::try_from(out_size).unwrap_or(0);
        let Some(size) = homi_abi::control::argument_size(command) else { return reply.error(Errno::ENOTTY) };
        if u32::try_from(room) != Ok(size) {
            return reply.error(errno(&FsError::Invalid));
        }
        match self.homifs.control(handle.0, ioctl::request(argument), &caller(request), room - 1) {
            Ok(answer) => {
                let mut bytes = answer.into_bytes();
                bytes.resize(room, 0);
                reply.ioctl(0, &bytes);
            }
            Err(FsError::NotSupported) => reply.error(Errno::ENOTTY),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn access(&self, _request: &Request, _node: INodeNo, _mask: fuser::AccessFlags, reply: ReplyEmpty) {
        // Asked only without `default_permissions`: then whoever reaches the mount may read it.
        reply.ok();
    }
}
