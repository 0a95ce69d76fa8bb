//! The table: every option that is understood, with everything that is known of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::value::Unit;
use crate::{Direct, Engine, Format, LogLevel, MountFlags, MountOptions, Reads, Recovery};

/// Where an option stands in help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Volume,
    Speed,
    /// Programs and accelerators with NVMe queues of their own.
    Clients,
    Access,
    Log,
    /// Flags that mount(8) knows for every file system.
    Generic,
    /// Of ext4's or XFS's own driver, below a writable mount.
    Lower,
    /// Words of fstab(5) for others than us.
    Ignored,
}

/// What may follow an option's name, and what the option does.
pub(crate) enum Kind {
    /// A word alone. `get` tells whether it holds; words that only undo others never do.
    Flag { set: fn(&mut MountOptions), get: fn(&MountOptions) -> bool },
    /// A number.
    Number {
        unit: Unit,
        min: u64,
        max: u64,
        set: fn(&mut MountOptions, u64),
        get: fn(&MountOptions) -> Option<u64>,
    },
    /// One word of some.
    Choice {
        words: &'static [&'static str],
        set: fn(&mut MountOptions, &str),
        get: fn(&MountOptions) -> Option<&'static str>,
    },
    /// A file.
    File { set: fn(&mut MountOptions, PathBuf), get: fn(&MountOptions) -> Option<&Path> },
    /// Handed to the kernel's own driver below a writable mount, with any value; means nothing where nothing is written.
    Lower,
    /// For others; any value, and perhaps a flag that it implies.
    Tolerated { set: fn(&mut MountOptions) },
    /// Known, and not to be had.
    Refused { why: &'static str },
}

/// One option.
pub(crate) struct Row {
    /// Its name; one that ends in `*` stands for all that begin so.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) kind: Kind,
    /// One sentence.
    pub(crate) help: &'static str,
    /// The default in words, where no value says it.
    pub(crate) default: &'static str,
}

const GIB: u64 = 1 << 30;

macro_rules! generic {
    ($name:literal sets $flag:ident clears $($other:ident)|*, $help:literal) => {
        Row {
            name: $name,
            group: Group::Generic,
            kind: Kind::Flag {
                set: |options| {
                    $(options.flags.clear(MountFlags::$other);)*
                    options.flags.set(MountFlags::$flag);
                },
                get: |options| options.flags.contains(MountFlags::$flag),
            },
            help: $help,
            default: "",
        }
    };
    ($name:literal clears $flag:ident) => {
        Row {
            name: $name,
            group: Group::Generic,
            kind: Kind::Flag { set: |options| options.flags.clear(MountFlags::$flag), get: |_| false },
            help: "",
            default: "",
        }
    };
}

const fn ignored(name: &'static str) -> Row {
    Row { name, group: Group::Ignored, kind: Kind::Tolerated { set: |_| {} }, help: "", default: "" }
}

const fn lower(name: &'static str) -> Row {
    Row { name, group: Group::Lower, kind: Kind::Lower, help: "", default: "" }
}

/// mount(8): who is not root and may mount gets no device files and no set-user-ID programs.
const fn implying(name: &'static str, set: fn(&mut MountOptions), help: &'static str) -> Row {
    Row { name, group: Group::Generic, kind: Kind::Tolerated { set }, help, default: "" }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(crate) static TABLE: &[Row] = &[
    Row {
        name: "ro",
        group: Group::Volume,
        kind: Kind::Flag { set: |options| options.read_only = true, get: |options| options.read_only },
        help: "Mount read-only; what 'homifs mount' does where nothing is said.",
        default: "",
    },
    Row {
        name: "rw",
        group: Group::Volume,
        kind: Kind::Flag { set: |options| options.read_only = false, get: |_| false },
        help: "Mount for reading and writing; what mount(8) asks for where nothing is said.",
        default: "",
    },
    Row {
        name: "reads",
        group: Group::Speed,
        kind: Kind::Choice {
            words: &["auto", "engine", "kernel"],
            set: |options, word| {
                options.reads = match word {
                    "engine" => Reads::Engine,
                    "kernel" => Reads::Kernel,
                    _ => Reads::Auto,
                };
            },
            get: |options| {
                Some(match options.reads {
                    Reads::Auto => "auto",
                    Reads::Engine => "engine",
                    Reads::Kernel => "kernel",
                })
            },
        },
        help: "What serves reads of files that nobody writes, on a writable mount: auto takes the kernel's page cache \
               for what it holds or what is read again, the kernel's driver for O_DIRECT, and the engine for the rest.",
        default: "",
    },
    Row {
        name: "remount",
        group: Group::Volume,
        kind: Kind::Refused {
            why: "it changes a mount that is there: mount -o remount DIR, or homifs remount DIR",
        },
        help: "For a mount that is there: ro, rw, the flags of every file system and the options of ext4 or XFS can be changed.",
        default: "",
    },
    Row {
        name: "norecovery",
        group: Group::Volume,
        kind: Kind::Flag { set: |options| options.norecovery = true, get: |options| options.norecovery },
        help: "Show what is on the media, without recovering journal or log in memory.",
        default: "",
    },
    Row {
        name: "noload",
        group: Group::Volume,
        kind: Kind::Flag { set: |options| options.norecovery = true, get: |_| false },
        help: "The name that ext4 has for norecovery.",
        default: "",
    },
    Row {
        name: "recovery",
        group: Group::Volume,
        kind: Kind::Choice {
            words: &["memory", "media"],
            set: |options, word| {
                options.recovery = if word == "media" { Recovery::Media } else { Recovery::Memory };
            },
            get: |options| {
                Some(match options.recovery {
                    Recovery::Memory => "memory",
                    Recovery::Media => "media",
                })
            },
        },
        help: "Where a read-only mount recovers journal or log. With media the kernel's own driver mounts the volume \
               below and writes to the device what its own read-only mount would; such a mount can be remounted rw.",
        default: "",
    },
    Row {
        name: "partition",
        group: Group::Volume,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 1 << 20,
            set: |options, value| options.partition = Some(narrow(value)),
            get: |options| options.partition.map(u64::from),
        },
        help: "The partition that holds the volume, as sfdisk and the kernel number it.",
        default: "the whole device",
    },
    Row {
        name: "offset",
        group: Group::Volume,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 0,
            max: u64::MAX,
            set: |options, value| options.offset = Some(value),
            get: |options| options.offset,
        },
        help: "The byte of the device where the volume starts, in place of a partition.",
        default: "0",
    },
    Row {
        name: "fs",
        group: Group::Volume,
        kind: Kind::Choice {
            words: &["ext4", "xfs"],
            set: |options, word| {
                options.format = Some(if word == "xfs" { Format::Xfs } else { Format::Ext4 });
            },
            get: |options| {
                options.format.map(|format| match format {
                    Format::Ext4 => "ext4",
                    Format::Xfs => "xfs",
                })
            },
        },
        help: "The format to insist on (ext4 stands for ext2 and ext3, too).",
        default: "found by looking",
    },
    Row {
        name: "journal",
        group: Group::Volume,
        kind: Kind::File {
            set: |options, path| options.journal = Some(path),
            get: |options| options.journal.as_deref(),
        },
        help: "Device or image that holds the volume's external journal.",
        default: "",
    },
    Row {
        name: "engine",
        group: Group::Speed,
        kind: Kind::Choice {
            words: &["auto", "io_uring", "pread"],
            set: |options, word| {
                options.engine = match word {
                    "io_uring" => Engine::IoUring,
                    "pread" => Engine::Pread,
                    _ => Engine::Auto,
                };
            },
            get: |options| {
                Some(match options.engine {
                    Engine::Auto => "auto",
                    Engine::IoUring => "io_uring",
                    Engine::Pread => "pread",
                })
            },
        },
        help: "How the device is read; auto takes io_uring where the machine has it.",
        default: "",
    },
    Row {
        name: "direct",
        group: Group::Speed,
        kind: Kind::Choice {
            words: &["auto", "on", "off"],
            set: |options, word| {
                options.direct = match word {
                    "on" => Direct::On,
                    "off" => Direct::Off,
                    _ => Direct::Auto,
                };
            },
            get: |options| {
                Some(match options.direct {
                    Direct::Auto => "auto",
                    Direct::On => "on",
                    Direct::Off => "off",
                })
            },
        },
        help: "Whether file contents are read past the page cache of the device (O_DIRECT).",
        default: "",
    },
    Row {
        name: "clients",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 0,
            max: 256,
            set: |options, value| options.clients = narrow(value),
            get: |options| Some(options.clients.into()),
        },
        help: "Threads that carry out the commands of programs and accelerators with NVMe queues of their own; 0 lets \
               none in.",
        default: "",
    },
    Row {
        name: "client_sessions",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 4096,
            set: |options, value| options.client_limits.sessions = narrow(value),
            get: |options| Some(options.client_limits.sessions.into()),
        },
        help: "Clients with queues of their own at a time; of one user other than root, half of them.",
        default: "",
    },
    Row {
        name: "client_queues",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 4096,
            set: |options, value| options.client_limits.queues = narrow(value),
            get: |options| Some(options.client_limits.queues.into()),
        },
        help: "Queue pairs of one client.",
        default: "",
    },
    Row {
        name: "client_depth",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 2,
            max: 65536,
            set: |options, value| options.client_limits.depth = narrow(value),
            get: |options| Some(options.client_limits.depth.into()),
        },
        help: "Entries of one queue of a client; a power of two.",
        default: "",
    },
    Row {
        name: "client_memory",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 64 << 10,
            max: 1 << 46,
            set: |options, value| options.client_limits.memory = value,
            get: |options| Some(options.client_limits.memory),
        },
        help: "Memory of one client: its queues, and what it registers for data.",
        default: "",
    },
    Row {
        name: "client_buffers",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 65536,
            set: |options, value| options.client_limits.buffers = narrow(value),
            get: |options| Some(options.client_limits.buffers.into()),
        },
        help: "Pieces of memory that one client registers.",
        default: "",
    },
    Row {
        name: "client_files",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 65536,
            set: |options, value| options.client_limits.files = narrow(value),
            get: |options| Some(options.client_limits.files.into()),
        },
        help: "Files that one client has open; a dataset snapshot counts as one.",
        default: "",
    },
    Row {
        name: "client_snapshots",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 0,
            max: 1 << 40,
            set: |options, value| options.client_limits.snapshots = value,
            get: |options| Some(options.client_limits.snapshots),
        },
        help: "Memory of the dataset snapshots of one client; 0 gives none.",
        default: "",
    },
    Row {
        name: "client_handle",
        group: Group::Clients,
        kind: Kind::Number {
            unit: Unit::Seconds,
            min: 1,
            max: 366 * 86400,
            set: |options, value| options.client_limits.handle = value,
            get: |options| Some(options.client_limits.handle),
        },
        help: "How long a file's handle (homi.handle) can be presented; what was opened by it stays open.",
        default: "",
    },
    Row {
        name: "threads",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 1024,
            set: |options, value| options.threads = Some(narrow(value)),
            get: |options| options.threads.map(u64::from),
        },
        help: "Threads that answer the kernel.",
        default: "four for each CPU, 8 to 64",
    },
    Row {
        name: "depth",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Count,
            min: 1,
            max: 4096,
            set: |options, value| options.depth = narrow(value),
            get: |options| Some(u64::from(options.depth)),
        },
        help: "Commands in flight for each thread.",
        default: "",
    },
    Row {
        name: "cache",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 1 << 20,
            max: 1024 * GIB,
            set: |options, value| options.cache = value,
            get: |options| Some(options.cache),
        },
        help: "Most memory for metadata blocks.",
        default: "",
    },
    Row {
        name: "map_cache",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 1 << 20,
            max: 1024 * GIB,
            set: |options, value| options.map_cache = value,
            get: |options| Some(options.map_cache),
        },
        help: "Most memory for extent maps of files that are not open.",
        default: "",
    },
    Row {
        name: "read_ahead",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 0,
            max: GIB,
            set: |options, value| options.read_ahead = narrow(value),
            get: |options| Some(u64::from(options.read_ahead)),
        },
        help: "How far the kernel reads ahead in a file that is read in order.",
        default: "",
    },
    Row {
        name: "max_read",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Bytes,
            min: 4096,
            max: 1 << 20,
            set: |options, value| options.max_read = narrow(value),
            get: |options| Some(u64::from(options.max_read)),
        },
        help: "Longest single read of the kernel.",
        default: "",
    },
    Row {
        name: "ttl",
        group: Group::Speed,
        kind: Kind::Number {
            unit: Unit::Seconds,
            min: 0,
            max: 365 * 86400,
            set: |options, value| options.ttl = Duration::from_secs(value),
            get: |options| Some(options.ttl.as_secs()),
        },
        help: "How long the kernel keeps names and attributes without asking again.",
        default: "",
    },
    Row {
        name: "allow_other",
        group: Group::Access,
        kind: Kind::Flag {
            set: |options| options.allow_other = Some(true),
            get: |options| options.allow_other == Some(true),
        },
        help: "Let other users use the mount (without root, /etc/fuse.conf must say user_allow_other).",
        default: "when root mounts",
    },
    Row {
        name: "noallow_other",
        group: Group::Access,
        kind: Kind::Flag {
            set: |options| options.allow_other = Some(false),
            get: |options| options.allow_other == Some(false),
        },
        help: "Keep the mount to the user who made it.",
        default: "",
    },
    Row {
        name: "default_permissions",
        group: Group::Access,
        kind: Kind::Flag { set: |options| options.default_permissions = true, get: |_| false },
        help: "Let the kernel check owner, mode and ACL.",
        default: "yes",
    },
    Row {
        name: "nodefault_permissions",
        group: Group::Access,
        kind: Kind::Flag {
            set: |options| options.default_permissions = false,
            get: |options| !options.default_permissions,
        },
        help: "Let everybody who may use the mount read everything on it.",
        default: "",
    },
    Row {
        name: "log",
        group: Group::Log,
        kind: Kind::File {
            set: |options, path| options.log = Some(path),
            get: |options| options.log.as_deref(),
        },
        help: "The file that the daemon adds its log to.",
        default: "the system log",
    },
    Row {
        name: "log_level",
        group: Group::Log,
        kind: Kind::Choice {
            words: &["error", "warn", "info", "debug"],
            set: |options, word| {
                options.log_level = match word {
                    "error" => LogLevel::Error,
                    "warn" => LogLevel::Warn,
                    "debug" => LogLevel::Debug,
                    _ => LogLevel::Info,
                };
            },
            get: |options| {
                Some(match options.log_level {
                    LogLevel::Error => "error",
                    LogLevel::Warn => "warn",
                    LogLevel::Info => "info",
                    LogLevel::Debug => "debug",
                })
            },
        },
        help: "How much it logs: error (act), warn (look), info (what was decided), debug.",
        default: "",
    },
    generic!("nosuid" sets NOSUID clears, "Ignore set-user-ID bits and file capabilities."),
    generic!("suid" clears NOSUID),
    generic!("nodev" sets NODEV clears, "Do not interpret device files."),
    generic!("dev" clears NODEV),
    generic!("noexec" sets NOEXEC clears, "Do not execute programs."),
    generic!("exec" clears NOEXEC),
    generic!("nosymfollow" sets NOSYMFOLLOW clears, "Do not follow symbolic links."),
    generic!("symfollow" clears NOSYMFOLLOW),
    generic!("noatime" sets NOATIME clears RELATIME | STRICTATIME, "Access times do not change."),
    generic!("atime" clears NOATIME),
    generic!("relatime" sets RELATIME clears NOATIME | STRICTATIME, "Access times change seldom; the kernel's default. On a read-only mount they never do."),
    generic!("norelatime" clears RELATIME),
    generic!("strictatime" sets STRICTATIME clears NOATIME | RELATIME, "Access times change with each access."),
    generic!("nostrictatime" clears STRICTATIME),
    generic!("nodiratime" sets NODIRATIME clears, "Access times of directories do not change."),
    generic!("diratime" clears NODIRATIME),
    generic!("sync" sets SYNC clears, "Every write is durable when it returns."),
    generic!("async" clears SYNC),
    generic!("dirsync" sets DIRSYNC clears, "Every change of a directory is durable when it returns."),
    generic!("lazytime" sets LAZYTIME clears, "Times are written later."),
    generic!("nolazytime" clears LAZYTIME),
    implying(
        "user",
        |options| options.flags.set(MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC),
        "For mount(8): any user may mount; implies nosuid, nodev and noexec.",
    ),
    implying(
        "users",
        |options| options.flags.set(MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC),
        "For mount(8): any user may mount and unmount; implies nosuid, nodev and noexec.",
    ),
    implying(
        "owner",
        |options| options.flags.set(MountFlags::NOSUID | MountFlags::NODEV),
        "For mount(8): the owner of the device may mount; implies nosuid and nodev.",
    ),
    implying(
        "group",
        |options| options.flags.set(MountFlags::NOSUID | MountFlags::NODEV),
        "For mount(8): the group of the device may mount; implies nosuid and nodev.",
    ),
    // Documentation/admin-guide/ext4.rst and xfs.rst; what is not meant for the file system that is there, its driver
    // refuses.
    lower("acl"),
    lower("noacl"),
    lower("user_xattr"),
    lower("nouser_xattr"),
    lower("data"),
    lower("commit"),
    lower("barrier"),
    lower("nobarrier"),
    lower("discard"),
    lower("nodiscard"),
    lower("errors"),
    lower("delalloc"),
    lower("nodelalloc"),
    lower("auto_da_alloc"),
    lower("noauto_da_alloc"),
    lower("journal_checksum"),
    lower("journal_async_commit"),
    lower("dioread_nolock"),
    lower("dioread_lock"),
    lower("max_batch_time"),
    lower("min_batch_time"),
    lower("stripe"),
    lower("resuid"),
    lower("resgid"),
    lower("sb"),
    lower("init_itable"),
    lower("noinit_itable"),
    lower("block_validity"),
    lower("noblock_validity"),
    lower("quota"),
    lower("noquota"),
    lower("usrquota"),
    lower("grpquota"),
    lower("prjquota"),
    lower("uquota"),
    lower("gquota"),
    lower("pquota"),
    lower("uqnoenforce"),
    lower("gqnoenforce"),
    lower("pqnoenforce"),
    lower("usrjquota"),
    lower("grpjquota"),
    lower("jqfmt"),
    lower("nouid32"),
    lower("test_dummy_encryption"),
    lower("inlinecrypt"),
    lower("dax"),
    lower("abort"),
    lower("debug"),
    lower("grpid"),
    lower("nogrpid"),
    lower("bsdgroups"),
    lower("sysvgroups"),
    lower("inode64"),
    lower("inode32"),
    lower("largeio"),
    lower("nolargeio"),
    lower("logbufs"),
    lower("logbsize"),
    lower("logdev"),
    Row {
        name: "rtdev",
        group: Group::Lower,
        kind: Kind::Refused {
            why: "files on a realtime device lie where neither maps nor the engine find them; mount such a volume with the kernel's own XFS",
        },
        help: "",
        default: "",
    },
    lower("wsync"),
    lower("nouuid"),
    lower("noalign"),
    lower("sunit"),
    lower("swidth"),
    lower("allocsize"),
    lower("attr2"),
    lower("noattr2"),
    lower("filestreams"),
    lower("ikeep"),
    lower("noikeep"),
    lower("prefetch_block_bitmaps"),
    // What we note for umount(8) in libmount's table comes back with a remount.
    ignored("uhelper"),
    ignored("defaults"),
    ignored("auto"),
    ignored("noauto"),
    ignored("nouser"),
    ignored("nousers"),
    ignored("noowner"),
    ignored("nogroup"),
    ignored("nofail"),
    ignored("_netdev"),
    // Image files need no loop device.
    ignored("loop"),
    ignored("nonempty"),
    ignored("silent"),
    ignored("loud"),
    ignored("mand"),
    ignored("nomand"),
    ignored("iversion"),
    ignored("noiversion"),
    ignored("comment"),
    ignored("x-*"),
    ignored("X-*"),
];

/// The row of an option.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| match row.name.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => row.name == name,
    })
}
