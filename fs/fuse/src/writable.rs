//! The kernel's requests to a writable mount: what changes the volume goes to the lower mount, what reads contents goes to
//! the engine while the file is clean.

mod backing;
mod device_writes;
mod handles;
mod leases;
mod opening;
mod translate;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, Notifier, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use homifs_core::{Homifs, Special};
use homifs_lower::{Change, Create, FileIoctl, Found, Lower};
use rustix::fs::SeekFrom;

use crate::filesystem::{Translation, reply_xattr};
use crate::negotiation::{COMMON, agree};

pub(crate) use leases::LowerLeases;
pub use leases::lower_attributes;

use backing::Backings;
use handles::{Handles, Opened};
use translate::{attributes, errno, identity, kind, moment};

/// The translation for a writable mount.
#[derive(Debug)]
pub(crate) struct Writable {
    homifs: Arc<Homifs>,
    lower: Arc<Lower>,
    /// Answers for our own files, which are no files of the volume.
    own: Translation,
    handles: Handles,
    backings: Backings,
    /// The way to tell the kernel what it cannot know; there once the session is.
    notifier: Arc<OnceLock<Notifier>>,
}

/// What a request is about.
enum Target {
    /// A file of the volume, by its inode number.
    File(u64),
    /// One of ours.
    Own,
}

impl Writable {
    pub(crate) fn new(homifs: Arc<Homifs>, lower: Arc<Lower>, notifier: Arc<OnceLock<Notifier>>) -> Self {
        let own = Translation::new(Arc::clone(&homifs));
        Self { homifs, lower, own, handles: Handles::default(), backings: Backings::default(), notifier }
    }

    /// Lets the kernel ask for attributes again: they change without its knowing, by a mapping of the file below or by
    /// flags.
    fn attributes_change(&self, node: INodeNo) {
        if let Some(notifier) = self.notifier.get() {
            // Not known to the kernel: nothing to forget.
            let _ = notifier.inval_inode(node, -1, 0);
        }
    }

    fn target(&self, node: INodeNo) -> Target {
        match node.0 {
            1 => Target::File(self.lower.root()),
            number if number & Special::BIT != 0 => Target::Own,
            number => Target::File(number),
        }
    }

    /// The inode number of a request that changes something; our own files do not change.
    fn file(&self, node: INodeNo) -> Result<u64, Errno> {
        match self.target(node) {
            Target::File(ino) => Ok(ino),
            Target::Own => Err(Errno::EPERM),
        }
    }

    fn attributes(&self, found: &Found) -> FileAttr {
        let number = if found.ino == self.lower.root() { 1 } else { found.ino };
        attributes(number, &found.stat)
    }

    /// How long the kernel may keep attributes: not while somebody writes past us.
    fn ttl(&self, ino: u64) -> Duration {
        if self.lower.contents().is_written(ino) { Duration::ZERO } else { self.homifs.ttl() }
    }

    fn entry(&self, found: Result<Found, rustix::io::Errno>, reply: ReplyEntry) {
        match found {
            Ok(found) => {
                let (attr, generation) = (self.attributes(&found), Generation(found.generation));
                reply.entry_with_ttls(&self.ttl(found.ino), &self.homifs.ttl(), &attr, generation);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    /// Whether appends are to come to the daemon, at its speed, instead of going past it: so that they need not take a
    /// file from clients that read it.
    fn sees_appends(&self) -> bool {
        self.homifs.options().clients > 0
    }

    fn create_as(request: &Request, mode: u32, umask: u32) -> Create {
        Create { who: identity(request), mode, umask }
    }
}

/// Answers an error where there is one.
macro_rules! done {
    ($result:expr, $reply:expr) => {
        match $result {
            Ok(()) => $reply.ok(),
            Err(error) => $reply.error(errno(error)),
        }
    };
}

/// The value, or the end of the request.
macro_rules! or_refuse {
    ($result:expr, $reply:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return $reply.error(error),
        }
    };
}

impl Filesystem for Writable {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = COMMON
            | InitFlags::FUSE_HAS_IOCTL_DIR
            | InitFlags::FUSE_DONT_MASK
            // Else the kernel asks for `security.capability` before each write.
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        agree(config, wanted, self.homifs.options(), 1 << 20);
        let passes = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok();
        self.backings.allow(passes);
        if !passes {
            tracing::info!(
                "this kernel's FUSE has no passthrough; everything that is written goes through the daemon"
            );
        }
        // The finest that both file systems have.
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Target::File(directory) = self.target(parent) else {
            return self.own.lookup(request, parent, name, reply);
        };
        match self.lower.lookup(directory, name) {
            // A real entry of this name wins. A volume that its driver has shut down finds none.
            Err(_) if directory == self.lower.root() && name.as_bytes() == Special::DIRECTORY_NAME => {
                self.own.special(Special::Directory, reply);
            }
            Err(rustix::io::Errno::NOENT) => {
                reply.entry(&self.homifs.ttl(), &Translation::negative(), Generation(0));
            }
            found => self.entry(found, reply),
        }
    }

    fn forget(&self, _request: &Request, node: INodeNo, times: u64) {
        if let Target::File(ino) = self.target(node) {
            self.lower.forget(ino, times);
        }
    }

    fn getattr(&self, request: &Request, node: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let Target::File(ino) = self.target(node) else {
            return self.own.getattr(request, node, handle, reply);
        };
        match self.lower.stat(ino) {
            Ok(stat) => reply.attr(&self.ttl(ino), &attributes(ino, &stat)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _born: Option<SystemTime>,
        _changed_too: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let ino = or_refuse!(self.file(node), reply);
        let change =
            Change { mode, uid, gid, size, accessed: accessed.map(moment), modified: modified.map(moment) };
        let open = handle.and_then(|handle| self.handles.get(handle));
        let file = open.as_deref().and_then(Opened::file);
        match self.lower.change(ino, &change, file, &identity(request)) {
            Ok(stat) => reply.attr(&self.ttl(ino), &attributes(ino, &stat)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, request: &Request, node: INodeNo, reply: ReplyData) {
        let Target::File(ino) = self.target(node) else { return self.own.readlink(request, node, reply) };
        match self.lower.read_link(ino) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let parent = or_refuse!(self.file(parent), reply);
        let create = Self::create_as(request, mode, umask);
        self.entry(self.lower.make_node(parent, name, &create, translate::device(device)), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let parent = or_refuse!(self.file(parent), reply);
        self.entry(self.lower.make_directory(parent, name, &Self::create_as(request, mode, umask)), reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let parent = or_refuse!(self.file(parent), reply);
        done!(self.lower.unlink(parent, name), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let parent = or_refuse!(self.file(parent), reply);
        done!(self.lower.remove_directory(parent, name), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let parent = or_refuse!(self.file(parent), reply);
        self.entry(self.lower.make_symlink(parent, name, target.as_os_str(), &identity(request)), reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (or_refuse!(self.file(parent), reply), or_refuse!(self.file(to_parent), reply));
        done!(self.lower.rename((from, name), (to, to_name), flags.bits(), &identity(request)), reply);
    }

    fn link(&self, _request: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (ino, parent) = (or_refuse!(self.file(node), reply), or_refuse!(self.file(parent), reply));
        self.entry(self.lower.link(ino, parent, name), reply);
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Target::File(ino) = self.target(node) else { return self.own.open(request, node, flags, reply) };
        match self.lower.open(ino, flags.0, self.sees_appends()) {
            Ok(file) => {
                if file.is_writable() {
                    self.attributes_change(node);
                }
                self.reply_open(file, flags.0, &identity(request), reply);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let parent = or_refuse!(self.file(parent), reply);
        let create = Self::create_as(request, mode, umask);
        match self.lower.create(parent, name, &create, flags, self.sees_appends()) {
            Ok((found, file)) => self.reply_create(&found, file, flags, &create.who, reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.handles.get(handle) {
            Some(open) => self.read_file(&open, offset, size, reply),
            None => self.own.read(request, node, handle, offset, size, flags, owner, reply),
        }
    }

    fn write(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(open) = self.handles.get(handle) else {
            return self.own.write(request, node, handle, offset, data, write_flags, flags, owner, reply);
        };
        let Some(file) = open.file() else { return reply.error(Errno::EISDIR) };
        let who = identity(request);
        let written = match file.is_appended() {
            false => file.write(offset, data, &who),
            true if flags.0 & libc::O_APPEND != 0 => self.lower.append(file, data, &who),
            true => self.lower.write_to_appended(file, offset, data, &who),
        };
        match written {
            Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn release(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        flush: bool,
        reply: ReplyEmpty,
    ) {
        match self.handles.remove(handle) {
            Some(open) => {
                self.close(open);
                reply.ok();
            }
            None => self.own.release(request, node, handle, flags, owner, flush, reply),
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        only_data: bool,
        reply: ReplyEmpty,
    ) {
        match self.handles.get(handle).as_deref().and_then(Opened::file) {
            Some(file) => done!(file.sync(only_data), reply),
            None => reply.ok(),
        }
    }

    fn opendir(&self, _request: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // What is listed stays cached: whatever changes a directory passes through the kernel's FUSE.
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        let Target::File(ino) = self.target(node) else {
            return reply.opened(FileHandle(u64::MAX), FopenFlags::empty());
        };
        match self.lower.open_directory(ino) {
            Ok(directory) => reply.opened(self.handles.add(Opened::Directory(directory)), flags),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(open) = self.handles.get(handle) else {
            return self.own.readdir(request, node, handle, offset, reply);
        };
        let Some(directory) = open.directory() else { return reply.error(Errno::ENOTDIR) };
        let listed = directory.list(offset, |entry| {
            !reply.add(INodeNo(entry.ino), entry.next, kind(entry.kind), OsStr::from_bytes(entry.name))
        });
        done!(listed, reply);
    }

    fn readdirplus(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(open) = self.handles.get(handle) else {
            return self.own.readdirplus(request, node, handle, offset, reply);
        };
        let (Some(directory), Target::File(ino)) = (open.directory(), self.target(node)) else {
            return reply.error(Errno::ENOTDIR);
        };
        let listed = directory.list(offset, |entry| {
            let name = OsStr::from_bytes(entry.name);
            // The dots make no node.
            let found =
                if matches!(entry.name, b"." | b"..") { None } else { self.lower.lookup(ino, name).ok() };
            let Some(found) = found else {
                let attr =
                    FileAttr { ino: INodeNo(entry.ino), kind: kind(entry.kind), ..Translation::negative() };
                // Node 0: the kernel learns of none.
                return !reply.add(INodeNo(0), entry.next, name, &Duration::ZERO, &attr, Generation(0));
            };
            let attr = self.attributes(&found);
            let ttl = self.ttl(found.ino).min(self.homifs.ttl());
            let full = reply.add(attr.ino, entry.next, name, &ttl, &attr, Generation(found.generation));
            if full {
                self.lower.forget(found.ino, 1);
            }
            !full
        });
        done!(listed, reply);
    }

    fn releasedir(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.handles.remove(handle);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        only_data: bool,
        reply: ReplyEmpty,
    ) {
        match self.handles.get(handle).as_deref().and_then(Opened::directory) {
            Some(directory) => done!(directory.sync(only_data), reply),
            None => reply.ok(),
        }
    }

    fn statfs(&self, request: &Request, node: INodeNo, reply: ReplyStatfs) {
        let Target::File(ino) = self.target(node) else {
            return self.own.statfs(request, node, reply);
        };
        match self.lower.usage(ino) {
            Ok(usage) => {
                let size = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
                reply.statfs(
                    usage.f_blocks,
                    usage.f_bfree,
                    usage.f_bavail,
                    usage.f_files,
                    usage.f_ffree,
                    size(usage.f_bsize),
                    size(usage.f_namemax),
                    size(usage.f_frsize),
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let ino = or_refuse!(self.file(node), reply);
        if name.as_bytes().starts_with(b"homi.") {
            return reply.error(Errno::EPERM);
        }
        done!(self.lower.set_attribute(ino, name, value, flags.cast_unsigned(), &identity(request)), reply);
    }

    fn getxattr(&self, request: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let ino = match self.target(node) {
            Target::File(ino) if !name.as_bytes().starts_with(b"homi.") => ino,
            _ => return self.own.getxattr(request, node, name, size, reply),
        };
        let value = self.lower.attribute(ino, name).map_err(translate::xattr_error);
        reply_xattr(value, size, reply);
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.own.listxattr(request, node, size, reply);
    }

    fn removexattr(&self, _request: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let ino = or_refuse!(self.file(node), reply);
        done!(self.lower.remove_attribute(ino, name), reply);
    }

    fn access(&self, request: &Request, node: INodeNo, mask: fuser::AccessFlags, reply: ReplyEmpty) {
        self.own.access(request, node, mask, reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match self.handles.get(handle).as_deref().and_then(Opened::file) {
            Some(file) => done!(self.lower.allocate(file, mode, offset, length, &identity(request)), reply),
            None => reply.error(Errno::EBADF),
        }
    }

    fn lseek(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some(open) = self.handles.get(handle) else {
            return self.own.lseek(request, node, handle, offset, whence, reply);
        };
        let (Some(file), Ok(offset)) = (open.file(), u64::try_from(offset)) else {
            return reply.error(Errno::ENXIO);
        };
        let from = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return reply.error(Errno::EINVAL),
        };
        match file.seek(from) {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _node: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _to_node: INodeNo,
        to: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = (self.handles.get(from), self.handles.get(to));
        let files = from.as_deref().and_then(Opened::file).zip(to.as_deref().and_then(Opened::file));
        let Some((from, to)) = files else { return reply.error(Errno::EBADF) };
        match self.lower.copy((from, from_offset), (to, to_offset), length.min(1 << 30), &identity(request)) {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn ioctl(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        flags: IoctlFlags,
        command: u32,
        argument: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let Some(open) = self.handles.get(handle) else {
            return self.own.ioctl(request, node, handle, flags, command, argument, out_size, reply);
        };
        match translate::ioctl(&open, request, command, argument, out_size) {
            Ok((result, bytes)) => {
                if [FileIoctl::SET_FLAGS, FileIoctl::SET_EXTENDED].contains(&FileIoctl(command)) {
                    self.attributes_change(node);
                }
                reply.ioctl(result, &bytes);
            }
            Err(error) => reply.error(errno(error)),
        }
    }
}
