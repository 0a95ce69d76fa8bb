//! What a mount is told.

use std::path::PathBuf;
use std::time::Duration;

use crate::{ClientOptions, MountFlags};

/// Which of the kernel's ways to read serves the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// `io_uring` where the machine has it, else pread.
    #[default]
    Auto,
    /// `io_uring` or nothing.
    IoUring,
    /// pread(2).
    Pread,
}

/// Whether file contents pass by the page cache of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direct {
    /// Where the device allows it.
    #[default]
    Auto,
    /// Or refuse to mount.
    On,
    /// Through the page cache.
    Off,
}

/// What serves reads of files that nobody writes, on a writable mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// The page cache for what it holds, the engine for the rest.
    #[default]
    Auto,
    /// The engine.
    Engine,
    /// The kernel's own driver.
    Kernel,
}

/// Where the journal or log of a read-only mount is recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// In memory; nothing is written.
    #[default]
    Memory,
    /// On the media, by the kernel's own driver.
    Media,
}

/// A format to insist on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ext2, ext3 or ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// How much the log tells, by what its reader should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Something failed: act.
    Error,
    /// Something is not as it should be: look.
    Warn,
    /// What was decided and why: nothing to do.
    #[default]
    Info,
    /// For those who work on homifs.
    Debug,
}

/// The options of one mount, all of them with a value. Read from text with [`str::parse`], written back with
/// [`ToString`]; what is written is read as the same options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Nothing is written.
    pub read_only: bool,
    /// What serves reads, on a writable mount.
    pub reads: Reads,
    /// Options for the kernel's own driver below a writable mount.
    pub lower: Vec<String>,
    /// Mount what is on the media, without recovering journal or log.
    pub norecovery: bool,
    /// Where journal or log are recovered, on a read-only mount.
    pub recovery: Recovery,
    /// The partition that holds the volume, counted from 1.
    pub partition: Option<u32>,
    /// The byte of the device where the volume starts.
    pub offset: Option<u64>,
    /// The format to insist on.
    pub format: Option<Format>,
    /// Device or image that holds the journal of the volume.
    pub journal: Option<PathBuf>,
    /// Threads that answer the kernel; chosen by the number of CPUs where not given.
    pub threads: Option<u32>,
    /// Threads that carry out the commands of clients with queues of their own; 0: no such clients.
    pub clients: u32,
    /// How many such clients there may be, and how much each may have.
    pub client_limits: ClientOptions,
    /// Most memory for metadata blocks, in bytes.
    pub cache: u64,
    /// Most memory for extent maps, in bytes.
    pub map_cache: u64,
    /// How far the kernel reads ahead in a file, in bytes.
    pub read_ahead: u32,
    /// Longest single read of the kernel, in bytes. Larger reads arrive in parts, which several workers answer at once and
    /// which stay in a core's cache between the device's copy and the kernel's.
    pub max_read: u32,
    /// How long the kernel may keep names and attributes without asking again.
    pub ttl: Duration,
    /// Whether other users may use the mount; where not given, they may when root mounts.
    pub allow_other: Option<bool>,
    /// Whether the kernel checks permissions by mode and owner.
    pub default_permissions: bool,
    /// Commands in flight for each thread.
    pub depth: u32,
    /// How the device is read.
    pub engine: Engine,
    /// Whether it is read past the page cache.
    pub direct: Direct,
    /// The file that the daemon writes its log to.
    pub log: Option<PathBuf>,
    /// How much it logs.
    pub log_level: LogLevel,
    /// The flags that every file system has.
    pub flags: MountFlags,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: true,
            reads: Reads::Auto,
            lower: Vec::new(),
            norecovery: false,
            recovery: Recovery::Memory,
            partition: None,
            offset: None,
            format: None,
            journal: None,
            threads: None,
            clients: 0,
            client_limits: ClientOptions::default(),
            cache: 256 << 20,
            map_cache: 256 << 20,
            read_ahead: 4 << 20,
            max_read: 256 << 10,
            ttl: Duration::from_secs(24 * 3600),
            allow_other: None,
            default_permissions: true,
            depth: 32,
            engine: Engine::Auto,
            direct: Direct::Auto,
            log: None,
            log_level: LogLevel::default(),
            flags: MountFlags::default(),
        }
    }
}

impl MountOptions {
    /// Whether the kernel's own driver mounts the volume below: to write it, or to recover it on the media.
    #[must_use]
    pub fn has_lower(&self) -> bool {
        !self.read_only || self.recovery == Recovery::Media
    }
}
