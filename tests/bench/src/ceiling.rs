//! The ceiling: a file system in memory, served with the same session settings as homifs. What it reaches is what
//! the FUSE transport leaves to anybody.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEntry, ReplyOpen, Request, Session, SessionACL,
};
use homifs_options::MountOptions;

use crate::arguments::CeilingArguments;
use crate::contents::name;
use crate::generator::Generator;

const TTL: Duration = Duration::from_secs(24 * 3600);
const DATA: u64 = 2;
const BIG: u64 = 3;
const FIRST_NAME: u64 = 100;

/// `/data.bin` with bytes, `/big` with empty files.
#[derive(Debug)]
struct InMemory {
    data: Vec<u8>,
    names: u64,
    options: MountOptions,
}

impl InMemory {
    fn attributes(&self, node: u64) -> Option<FileAttr> {
        let (kind, size) = match node {
            1 | BIG => (FileType::Directory, 4096),
            DATA => (FileType::RegularFile, self.data.len() as u64),
            _ if (FIRST_NAME..FIRST_NAME + self.names).contains(&node) => (FileType::RegularFile, 0),
            _ => return None,
        };
        Some(FileAttr {
            ino: INodeNo(node),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn find(&self, parent: u64, wanted: &OsStr) -> Option<u64> {
        let wanted = wanted.to_str()?;
        match (parent, wanted) {
            (1, "data.bin") => Some(DATA),
            (1, "big") => Some(BIG),
            (BIG, _) => {
                let digits = wanted.strip_prefix("file-")?.strip_suffix(".dat")?;
                digits
                    .parse::<u64>()
                    .ok()
                    .filter(|&number| number < self.names)
                    .map(|number| FIRST_NAME + number)
            }
            _ => None,
        }
    }

    /// The entry at a place of a listing.
    fn entry(&self, directory: u64, place: u64) -> Option<(u64, FileType, String)> {
        match (directory, place) {
            (_, 0) => Some((directory, FileType::Directory, ".".to_owned())),
            (_, 1) => Some((1, FileType::Directory, "..".to_owned())),
            (1, 2) => Some((DATA, FileType::RegularFile, "data.bin".to_owned())),
            (1, 3) => Some((BIG, FileType::Directory, "big".to_owned())),
            (BIG, _) if place - 2 < self.names => {
                let number = place - 2;
                Some((FIRST_NAME + number, FileType::RegularFile, name(u32::try_from(number).ok()?)))
            }
            _ => None,
        }
    }
}

impl Filesystem for InMemory {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        for flag in wanted.iter() {
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(self.options.max_read);
        if let Err(most) = config.set_max_readahead(self.options.read_ahead) {
            let _ = config.set_max_readahead(most);
        }
        let background = u16::try_from(self.options.depth.saturating_mul(4)).unwrap_or(u16::MAX).max(64);
        let _ = config.set_max_background(background);
        let _ = config.set_congestion_threshold(background);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent.0, name).and_then(|node| self.attributes(node)) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(node.0) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(1), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let data = if node.0 == DATA { &*self.data } else { &[] };
        let start = (offset as usize).min(data.len());
        let end = (start + size as usize).min(data.len());
        reply.data(&data[start..end]);
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut place = offset;
        while let Some((child, kind, name)) = self.entry(node.0, place) {
            place += 1;
            if reply.add(INodeNo(child), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut place = offset;
        while let Some((child, _, name)) = self.entry(node.0, place) {
            place += 1;
            let Some(attributes) = self.attributes(child) else { continue };
            if reply.add(INodeNo(child), place, name, &TTL, &attributes, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }
}

/// Raises the read-ahead of a FUSE mount, as homifs does for its own.
fn raise_read_ahead(mountpoint: &Path, bytes: u32) -> Result<()> {
    let device = rustix::fs::stat(mountpoint)?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    Ok(std::fs::write(path, (bytes / 1024).to_string())?)
}

/// The settings of a session that homifs uses where it is told nothing.
pub(crate) fn session_config(name: &str, access: MountOption, options: &MountOptions) -> Config {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut config = Config::default();
    config.n_threads = Some((cores * 4).clamp(8, 64));
    config.clone_fd = true;
    config.acl = SessionACL::All;
    config.mount_options = vec![
        access,
        MountOption::FSName(name.to_owned()),
        MountOption::DefaultPermissions,
        MountOption::CUSTOM(format!("max_read={}", options.max_read)),
    ];
    config
}

/// Mounts and serves until it is unmounted.
pub(crate) fn run(arguments: &CeilingArguments) -> Result<()> {
    let options = MountOptions::default();
    let mut data = vec![0; (arguments.data_mib << 20) as usize];
    Generator::new(1).fill(&mut data);
    let config = session_config("ceiling", MountOption::RO, &options);
    let read_ahead = options.read_ahead;
    let served = InMemory { data, names: arguments.names.into(), options };
    let session = Session::new(served, &arguments.mountpoint, &config)?;
    // stat of the mount point needs an answer, so somebody must serve already.
    let session = session.spawn()?;
    raise_read_ahead(&arguments.mountpoint, read_ahead)?;
    session.join()?;
    Ok(())
}
