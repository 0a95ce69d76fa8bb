//! What both sides agree on when a session begins (`FUSE_INIT`).

use bitflags::bitflags;

bitflags! {
    /// What the kernel can do, and what is wanted of it (`FUSE_INIT` flags).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Capabilities: u64 {
        /// Several reads of one file at once.
        const ASYNC_READ = 1 << 0;
        /// File handles of nodes that the kernel has forgotten: `.` and `..` are looked up.
        const EXPORT_SUPPORT = 1 << 4;
        /// Writes of more than a page.
        const BIG_WRITES = 1 << 5;
        /// The umask comes with what is made and has not been applied.
        const DONT_MASK = 1 << 6;
        /// Ioctls on directories.
        const IOCTL_DIRECTORY = 1 << 11;
        /// Listings with attributes.
        const READDIRPLUS = 1 << 13;
        /// Only where they are used.
        const READDIRPLUS_AUTO = 1 << 14;
        /// The parts of one read or write past the page cache at the same time.
        const ASYNC_DIO = 1 << 15;
        /// Lookups and listings of one directory at the same time.
        const PARALLEL_DIROPS = 1 << 18;
        /// ACLs.
        const POSIX_ACL = 1 << 20;
        /// The longest request in pages is agreed.
        const MAX_PAGES = 1 << 22;
        /// Targets of symbolic links are cached.
        const CACHE_SYMLINKS = 1 << 23;
        /// Directories need not be opened.
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// The file system takes set-user-ID and the like away, as told.
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        /// What sets an ACL says whether the set-group-ID bit is lost.
        const SETXATTR_EXT = 1 << 29;
        /// There are more than 32 flags.
        const INIT_EXT = 1 << 30;
        /// Files that are read and written past the page cache may be mapped.
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// Files below that the kernel reads and writes by itself.
        const PASSTHROUGH = 1 << 37;
    }
}

/// What the kernel offers.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// What it can do.
    pub capabilities: Capabilities,
    /// How far it would read ahead, in bytes.
    pub max_readahead: u32,
}

/// What the session is to be like. More than is offered is cut to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agreement {
    /// What is wanted.
    pub capabilities: Capabilities,
    /// How far to read ahead, in bytes.
    pub max_readahead: u32,
    /// The longest write in bytes; the longest read follows it.
    pub max_write: u32,
    /// How many requests that nobody waits for may be under way.
    pub max_background: u16,
    /// Files below may lie on so many layers of file systems.
    pub max_stack_depth: u32,
}
