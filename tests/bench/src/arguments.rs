//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Benchmarks of homifs beside its peers.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads, stats, listings and opens through mounts: kernel, fuse2fs, homifs and the in-memory ceiling.
    Mounts(MountArguments),
    /// Writes, creations, removals and fsync through writable mounts beside the kernel's, and reads by the engine there
    /// beside a read-only mount's.
    Writes(WriteArguments),
    /// The parsers alone: whole-volume walk with maps, warm lookup, extent lookup, memory of a large map.
    Parser(ParserArguments),
    /// Memory that the daemon takes for each inode touched.
    Memory(MemoryArguments),
    /// The NVMe driver against a controller that completes everything at once on another core.
    Driver(DriverArguments),
    /// Clients with queues of their own: checked commands a second, and small files a second through a snapshot.
    Clients(ClientArguments),
    /// What a client on a mount gets done beside processes that flood the daemon with requests.
    Floods(FloodArguments),
    /// Floods the daemon of a mount with requests.
    #[command(hide = true)]
    Flood(FlooderArguments),
    /// Serves the in-memory file system that the others are measured against.
    #[command(hide = true)]
    Ceiling(CeilingArguments),
    /// Shows a directory through FUSE with every file passed through, which writable mounts are measured against.
    #[command(hide = true)]
    Floor(FloorArguments),
}

/// Where the NVMe driver and its controller run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) driver: usize,
    pub(crate) controller: usize,
}

impl Cores {
    fn parse(text: &str) -> Result<Self, String> {
        let said = || "two numbers of cores, as in 0,1".to_owned();
        let (driver, controller) = text.split_once(',').ok_or_else(said)?;
        let number = |text: &str| text.trim().parse().map_err(|_| said());
        let cores = Self { driver: number(driver)?, controller: number(controller)? };
        if cores.driver == cores.controller { Err("two cores, not one twice".to_owned()) } else { Ok(cores) }
    }
}

/// Which on-disk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Ext4,
    Xfs,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Who {
    Kernel,
    Fuse2fs,
    Homifs,
    /// homifs over a controller in its own process.
    Soft,
    /// homifs over a controller in another process.
    VfioUser,
    Ceiling,
    /// The kernel's mount through FUSE, every file by passthrough; for writable mounts.
    #[value(skip)]
    Floor,
}

#[derive(Debug, Args)]
pub(crate) struct MountArguments {
    /// The format of the volume.
    #[arg(long, value_enum, default_value = "ext4")]
    pub(crate) format: Format,
    /// Rounds; in each, everybody takes a turn.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 0.7)]
    pub(crate) seconds: f64,
    /// Size of the file that is read, in MiB.
    #[arg(long, default_value_t = 1024)]
    pub(crate) data_mib: u64,
    /// Names in the large directory.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) names: u32,
    /// Only these measurements (part of their name).
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// Only these contenders.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) who: Vec<Who>,
    /// The daemon to measure [default: beside this program, then in PATH].
    #[arg(long)]
    pub(crate) homifs: Option<PathBuf>,
    /// Mount options for homifs.
    #[arg(long, default_value = "")]
    pub(crate) options: String,
    /// Use this image file through a loop device instead of a zram device.
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArguments {
    /// The format of the volume.
    #[arg(long, value_enum, default_value = "ext4")]
    pub(crate) format: Format,
    /// Rounds; in each, everybody takes a turn.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) seconds: f64,
    /// Size of the file that is read and written, in MiB.
    #[arg(long, default_value_t = 256)]
    pub(crate) data_mib: u64,
    /// Further mount options for the engine's side.
    #[arg(long, default_value = "")]
    pub(crate) options: String,
    /// Files that are made, looked at and removed.
    #[arg(long, default_value_t = 3000)]
    pub(crate) files: u32,
    /// Only these measurements (part of their name).
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// The daemon to measure [default: beside this program, then in PATH].
    #[arg(long)]
    pub(crate) homifs: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ParserArguments {
    /// The format of the volume.
    #[arg(long, value_enum, default_value = "ext4")]
    pub(crate) format: Format,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Directories of the tree that is walked; each holds 1,000 files.
    #[arg(long, default_value_t = 100)]
    pub(crate) directories: u32,
    /// Names in the large directory.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) names: u32,
    /// Extents of the fragmented file.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) extents: u32,
    /// Keep the image here, and use it as it is if it is there already.
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArguments {
    /// The format of the volume.
    #[arg(long, value_enum, default_value = "ext4")]
    pub(crate) format: Format,
    /// Directories of the tree that is touched; each holds 1,000 files.
    #[arg(long, default_value_t = 200)]
    pub(crate) directories: u32,
    /// The daemon to measure [default: beside this program, then in PATH].
    #[arg(long)]
    pub(crate) homifs: Option<PathBuf>,
    /// Mount options for homifs.
    #[arg(long, default_value = "")]
    pub(crate) options: String,
}

#[derive(Debug, Args)]
pub(crate) struct CeilingArguments {
    /// Where to mount.
    pub(crate) mountpoint: PathBuf,
    /// Size of the file in MiB.
    #[arg(long)]
    pub(crate) data_mib: u64,
    /// Names in the large directory.
    #[arg(long)]
    pub(crate) names: u32,
}

#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// The directory to show.
    pub(crate) directory: PathBuf,
    /// Where to mount.
    pub(crate) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// Rounds; short ones, so that most of them are not interrupted.
    #[arg(long, default_value_t = 300)]
    pub(crate) rounds: usize,
    /// Commands in a round.
    #[arg(long, default_value_t = 5000)]
    pub(crate) commands: usize,
    /// Files of the tree that is read, 110 KB each.
    #[arg(long, default_value_t = 1000)]
    pub(crate) files: u32,
    /// Only these rows (part of their name).
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// Measure instead how reads of an image in tmpfs scale: with each of these numbers of mediators.
    #[arg(long, value_delimiter = ',', num_args = 0..=1, default_missing_value = "1,2,4,8")]
    pub(crate) mediators: Vec<usize>,
    /// Client threads beside them [default: as many as there are processors left].
    #[arg(long)]
    pub(crate) clients: Option<usize>,
    /// Queue pairs of each client thread.
    #[arg(long, default_value_t = 4)]
    pub(crate) pairs: u32,
    /// Commands in flight on each pair.
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: u32,
    /// Bytes of a command, a power of two from 512 on.
    #[arg(long, value_delimiter = ',', default_value = "4096")]
    pub(crate) bytes: Vec<u32>,
    /// MiB of the file that is read, at random.
    #[arg(long, default_value_t = 512)]
    pub(crate) data_mib: u64,
    /// Seconds for each row.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Each client thread has a session of its own, instead of one session for all.
    #[arg(long)]
    pub(crate) sessions: bool,
}

/// What a process floods the daemon with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum FloodKind {
    /// Nobody is there.
    Nobody,
    /// Nothing: it spins.
    Spin,
    /// The shortest requests that there are.
    Identify,
    /// A file that is opened and closed.
    Open,
    /// Memory that is registered and given back.
    Buffer,
    /// Sessions that begin and end.
    Connect,
    /// Wakes of those who do not sleep.
    Wake,
}

impl FloodKind {
    pub(crate) const ALL: &[Self] =
        &[Self::Nobody, Self::Spin, Self::Identify, Self::Open, Self::Buffer, Self::Connect, Self::Wake];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Spin => "spin",
            Self::Identify => "identify",
            Self::Open => "open",
            Self::Buffer => "buffer",
            Self::Connect => "connect",
            Self::Wake => "wake",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FloodArguments {
    /// Turns.
    #[arg(long, default_value_t = 9)]
    pub(crate) rounds: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) seconds: f64,
    /// Threads that flood, each with a session of its own.
    #[arg(long, default_value_t = 4)]
    pub(crate) threads: usize,
    /// Threads of the daemon that carry out commands.
    #[arg(long, default_value_t = 1)]
    pub(crate) mediators: usize,
    /// Only these clients (part of their name).
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// The daemon to measure [default: beside this program, then in PATH].
    #[arg(long)]
    pub(crate) homifs: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FlooderArguments {
    /// A file on the mount.
    pub(crate) file: PathBuf,
    /// What with.
    #[arg(long, value_enum)]
    pub(crate) kind: FloodKind,
    /// By how many threads.
    #[arg(long)]
    pub(crate) threads: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DriverArguments {
    /// Rounds; short ones, so that most of them are not interrupted.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rounds: usize,
    /// Reads in a round.
    #[arg(long, default_value_t = 5000)]
    pub(crate) commands: usize,
    /// Only these rows (part of size, depth, doorbell and how data is described: "4 KiB 128 batch PRP").
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// The cores of driver and controller; how far apart they are decides what a cache line costs on its way.
    #[arg(long, value_parser = Cores::parse, default_value = "0,1")]
    pub(crate) cores: Cores,
    /// Count instructions too, by valgrind.
    #[arg(long)]
    pub(crate) instructions: bool,
    /// Let driver and controller take turns and measure nothing, for tools that count instructions.
    #[arg(long)]
    pub(crate) solo: bool,
}
