//! The command line: the one table that parser, help, man pages and completions come from.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Mount ext4 and XFS volumes read-only, and show where the bytes of their files lie.
#[derive(Debug, Parser)]
#[command(name = "homifs", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount a volume.
    Mount(Mount),
    /// Unmount a volume.
    Umount(Umount),
    /// Change a mount that is there: ro, rw, flags of every file system, options of ext4 or XFS.
    Remount(Remount),
    /// Show where the bytes of a file lie, on a mount or on a device that is not mounted.
    Extents(Extents),
    /// Describe the volume on a device, or the one mounted on a directory.
    Info(Info),
    /// List files of a volume that is not mounted.
    Ls(Ls),
    /// Write the contents of files of a volume that is not mounted to standard output.
    Cat(Cat),
    /// Show what is known of files of a volume that is not mounted.
    Stat(Stat),
    /// Serve devices as namespaces of an NVMe controller, to anyone's driver, over a vfio-user socket.
    Controller(Controller),
    /// Take a snapshot of a tree: one arena with the paths, sizes and extents of all its files, for programs and
    /// accelerators to map.
    Snapshot(Snapshot),
    /// Tell what a mount did: its operations, its clients with their queues and files, and its other counters.
    Stats(Stats),
    /// Take files back from the clients that read them by queues of their own: their further commands answer Namespace
    /// Not Ready.
    Revoke(Revoke),
    /// Tell what this machine can do, and what to do about what it cannot.
    Check(Check),
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory, which must exist.
        directory: PathBuf,
    },
    /// Write the completions of a shell to standard output.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(after_long_help = homifs_options::help_text(), after_help = "Mount options: homifs mount -o help")]
pub(crate) struct Mount {
    /// Stay in the foreground and log to standard error.
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Mount options, separated by commas; `-o help` explains them.
    #[arg(short, long, value_name = "OPTIONS")]
    pub(crate) options: Vec<String>,
    /// Tell what is done.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Serve as the background process of a mount: report on standard output, then leave it.
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
    /// The device: an image file or a block device, either of them behind an NVMe controller in this process
    /// (soft:PATH), or an NVMe controller of another process (vfio-user:SOCKET).
    #[arg(value_name = "SPEC")]
    pub(crate) spec: Option<String>,
    /// The directory to mount on.
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Remount {
    /// Options, as mount(8) takes them.
    #[arg(short, long, value_name = "OPTIONS", required = true)]
    pub(crate) options: Vec<String>,
    /// The directory that the volume is mounted on.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// Unmount now, and let open files be read until they are closed.
    #[arg(short, long)]
    pub(crate) lazy: bool,
    /// The directory that the volume is mounted on.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned text.
    Table,
    /// One JSON object with a version.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// How to show it.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// Which volume of a device.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The partition that holds the volume.
    #[arg(short, long, value_name = "N", conflicts_with = "offset")]
    pub(crate) partition: Option<String>,
    /// The byte of the device where the volume starts (with K, M or G for powers of 1024).
    #[arg(long, value_name = "SIZE")]
    pub(crate) offset: Option<String>,
    /// Device or image that holds the volume's external journal.
    #[arg(long, value_name = "PATH")]
    pub(crate) journal: Option<String>,
    /// Show what is on the media, without recovering journal or log in memory.
    #[arg(long)]
    pub(crate) norecovery: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Extents {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
    /// The device, where the volume is not mounted; FILE is then a path on the volume.
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) device: Option<String>,
    /// Regular files, on a homifs mount unless --device is given.
    #[arg(value_name = "FILE", required_unless_present = "path")]
    pub(crate) files: Vec<PathBuf>,
    /// A path on the volume of --device; the same as FILE.
    #[arg(long, value_name = "PATH", requires = "device")]
    pub(crate) path: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
    /// The device, the directory that a volume is mounted on, or a file on such a mount: who serves its reads, and why.
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) output: Output,
    /// The directory that a volume is mounted on.
    #[arg(value_name = "MOUNT")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) output: Output,
    /// Regular files on a homifs mount, which its caller owns.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Show mode, links, owner, size and time of modification, too.
    #[arg(short, long)]
    pub(crate) long: bool,
    /// List directories below, too.
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// The device.
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// Paths on the volume.
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The device.
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// Paths on the volume.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
    /// The device.
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// Paths on the volume.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
It stays in the foreground and says `ready` when clients can connect. SIGTERM and SIGINT end it: the client is left, \
what was written is flushed, and the socket is removed.

With --control it takes commands from standard input, one a line: `add DEVICE`, `remove NSID`. \
Each is answered by a line that starts with `ok` or `error`; drivers hear of the change by \
themselves.

Drivers that know it: QEMU's vfio-user-pci, SPDK (trtype:VFIOUSER traddr:DIR), and homifs (vfio-user:PATH).")]
pub(crate) struct Controller {
    /// The devices: image files or block devices, each a namespace, numbered from 1.
    #[arg(value_name = "DEVICE", required = true)]
    pub(crate) devices: Vec<String>,
    /// Where to listen: the socket to make, or a directory, where it is named cntrl.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Threads that work on the queues of a driver.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Queue pairs that a driver may have.
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) queues: u16,
    /// Bytes of a logical block, 512 or 4096; the smallest that a device has where it is not given.
    #[arg(short, long, value_name = "BYTES", value_parser = ["512", "4096"])]
    pub(crate) block_size: Option<String>,
    /// Open the devices for reading only, and let drivers only read.
    #[arg(short, long)]
    pub(crate) read_only: bool,
    /// Keep the doorbells out of the memory that drivers may map, so that each is a message.
    #[arg(long)]
    pub(crate) no_mapped_doorbells: bool,
    /// Do not offer shadow doorbells.
    #[arg(long)]
    pub(crate) no_shadow_doorbells: bool,
    /// The serial number, at most 20 printable characters.
    #[arg(long, value_name = "TEXT", default_value = "homifs0")]
    pub(crate) serial: String,
    /// The qualified name of the subsystem; one that follows from the serial number where it is not given.
    #[arg(long, value_name = "NQN")]
    pub(crate) nqn: Option<String>,
    /// How devices are read and written: auto, io_uring or pread.
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = ["auto", "io_uring", "pread"])]
    pub(crate) engine: String,
    /// Whether devices are read and written past the page cache: auto, on or off.
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "on", "off"])]
    pub(crate) direct: String,
    /// Take commands from standard input.
    #[arg(long)]
    pub(crate) control: bool,
    /// Log clients and what they do, to standard error.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Write the arena to this file (which is replaced).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// List the files of the snapshot, too.
    #[arg(short, long)]
    pub(crate) list: bool,
    /// Most files; more are refused.
    #[arg(long, value_name = "N", default_value_t = homifs_snapshot::Limits::default().files)]
    pub(crate) max_files: u64,
    /// The device; or a directory of a mount with clients, whose daemon takes the snapshot then.
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// The directory on the volume, or below the one that was named.
    #[arg(value_name = "DIR", default_value = "/")]
    pub(crate) directory: PathBuf,
}
