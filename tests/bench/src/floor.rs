//! The floor of writable mounts: a directory of the kernel's, shown through FUSE with the file below for every open, and
//! nothing else: no credentials, no leases, no look at the media. What it loses to the kernel, FUSE takes from anybody.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use fuser::{
    BackingId, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request, Session,
};
use homifs_options::MountOptions;

use crate::arguments::FloorArguments;
use crate::ceiling::session_config;

const TTL: Duration = Duration::from_secs(24 * 3600);
const ROOT: u64 = 1;

/// What the kernel reads and writes for all opens of an inode.
#[derive(Debug)]
struct Backing {
    id: Arc<BackingId>,
    opens: u32,
}

#[derive(Debug)]
struct PassThrough {
    options: MountOptions,
    /// Where each node is; the benchmark renames nothing.
    places: Mutex<HashMap<u64, PathBuf>>,
    backings: Mutex<HashMap<u64, Backing>>,
    /// Files that are open, for what does not go past us, by descriptor.
    files: Mutex<HashMap<u64, File>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PassThrough {
    fn place(&self, node: INodeNo) -> io::Result<PathBuf> {
        lock(&self.places).get(&node.0).cloned().ok_or_else(|| rustix::io::Errno::STALE.into())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.place(parent)?.join(name))
    }

    /// Tells the kernel of a node.
    fn told(&self, place: PathBuf) -> io::Result<FileAttr> {
        let attributes = attributes(&fs::symlink_metadata(&place)?);
        lock(&self.places).insert(attributes.ino.0, place);
        Ok(attributes)
    }

    fn backing(
        &self,
        node: u64,
        file: &File,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> io::Result<Arc<BackingId>> {
        let mut backings = lock(&self.backings);
        if let Some(backing) = backings.get_mut(&node) {
            backing.opens += 1;
            return Ok(Arc::clone(&backing.id));
        }
        let id = Arc::new(register(file)?);
        backings.insert(node, Backing { id: Arc::clone(&id), opens: 1 });
        Ok(id)
    }

    fn opened(&self, file: File) -> FileHandle {
        let handle = u64::from(file.as_raw_fd().unsigned_abs());
        lock(&self.files).insert(handle, file);
        FileHandle(handle)
    }
}

fn attributes(of: &Metadata) -> FileAttr {
    let time = |seconds: i64, nanoseconds: i64| {
        UNIX_EPOCH
            + Duration::new(
                seconds.try_into().unwrap_or_default(),
                nanoseconds.try_into().unwrap_or_default(),
            )
    };
    FileAttr {
        ino: INodeNo(of.ino()),
        size: of.size(),
        blocks: of.blocks(),
        atime: time(of.atime(), of.atime_nsec()),
        mtime: time(of.mtime(), of.mtime_nsec()),
        ctime: time(of.ctime(), of.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind: if of.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: u16::try_from(of.mode() & 0o7777).unwrap_or_default(),
        nlink: of.nlink().try_into().unwrap_or(u32::MAX),
        uid: of.uid(),
        gid: of.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// For reading and writing, whatever was asked: all opens share one file below.
fn open(place: &Path, create: Option<u32>) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true);
    if let Some(mode) = create {
        how.create(true).mode(mode);
    }
    how.open(place)
}

/// Answers with an error where there is one.
macro_rules! or_refuse {
    ($result:expr, $reply:ident) => {
        match $result {
            Ok(value) => value,
            Err(error) => return $reply.error(error.into()),
        }
    };
}

impl Filesystem for PassThrough {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted =
            InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_PARALLEL_DIROPS | InitFlags::FUSE_PASSTHROUGH;
        for flag in wanted.iter() {
            let lacks = |_| io::Error::other(format!("this kernel's FUSE lacks {flag:?}"));
            config.add_capabilities(flag).map_err(lacks)?;
        }
        // What lies below is the kernel's own file system.
        config.set_max_stack_depth(1).map_err(|_| io::Error::other("no passthrough here"))?;
        let _ = config.set_max_write(self.options.max_read);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let attributes = or_refuse!(self.child(parent, name).and_then(|place| self.told(place)), reply);
        reply.entry(&TTL, &attributes, Generation(0));
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let metadata = or_refuse!(self.place(node).and_then(fs::symlink_metadata), reply);
        let mut attributes = attributes(&metadata);
        attributes.ino = node;
        reply.attr(&TTL, &attributes);
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.child(parent, name).and_then(|place| {
            DirBuilder::new().mode(mode & !umask).create(&place)?;
            self.told(place)
        });
        let attributes = or_refuse!(made, reply);
        reply.entry(&TTL, &attributes, Generation(0));
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let place = or_refuse!(self.child(parent, name), reply);
        let file = or_refuse!(open(&place, Some(mode & !umask)), reply);
        let attributes = or_refuse!(self.told(place), reply);
        let id = or_refuse!(self.backing(attributes.ino.0, &file, |file| reply.open_backing(file)), reply);
        let handle = self.opened(file);
        reply.created_passthrough(&TTL, &attributes, Generation(0), handle, FopenFlags::FOPEN_NOFLUSH, &id);
    }

    fn open(&self, _request: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let file = or_refuse!(self.place(node).and_then(|place| open(&place, None)), reply);
        let id = or_refuse!(self.backing(node.0, &file, |file| reply.open_backing(file)), reply);
        reply.opened_passthrough(self.opened(file), FopenFlags::FOPEN_NOFLUSH, &id);
    }

    fn release(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let file = lock(&self.files).remove(&handle.0);
        let mut backings = lock(&self.backings);
        if let Some(backing) = backings.get_mut(&node.0) {
            backing.opens -= 1;
            if backing.opens == 0 {
                backings.remove(&node.0);
            }
        }
        drop((backings, file));
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _node: INodeNo, handle: FileHandle, data: bool, reply: ReplyEmpty) {
        let file = lock(&self.files).get(&handle.0).map(File::try_clone);
        let Some(Ok(file)) = file else { return reply.error(Errno::EBADF) };
        or_refuse!(if data { file.sync_data() } else { file.sync_all() }, reply);
        reply.ok();
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        or_refuse!(self.child(parent, name).and_then(fs::remove_file), reply);
        reply.ok();
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        or_refuse!(self.child(parent, name).and_then(fs::remove_dir), reply);
        reply.ok();
    }

    fn forget(&self, _request: &Request, node: INodeNo, _times: u64) {
        if node.0 != ROOT {
            lock(&self.places).remove(&node.0);
        }
    }
}

/// Mounts and serves until it is unmounted.
pub(crate) fn run(arguments: &FloorArguments) -> Result<()> {
    let options = MountOptions::default();
    let config = session_config("floor", MountOption::RW, &options);
    let served = PassThrough {
        options,
        places: Mutex::new(HashMap::from([(ROOT, arguments.directory.clone())])),
        backings: Mutex::default(),
        files: Mutex::default(),
    };
    Session::new(served, &arguments.mountpoint, &config)?.spawn()?.join()?;
    Ok(())
}
