//! Cuts volumes off, and compares what is left.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use std::os::unix::fs::MetadataExt;

use extents_core::{FileSystem, Metadata, Timestamp};
use extents_ext4::OpenOptions;

use crate::compare::{self, Compared};
use crate::image::{FileDevice, Image, options};

/// What happens to the log when the file system is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The running transaction is committed first.
    FlushLog = 1,
    /// Nothing more is written.
    Dead = 2,
}

/// Makes a volume, has it mounted and worked on, and stops it without an unmount; `None` where this machine
/// cannot.
pub(crate) fn cut_off(mkfs: &str, options: &str, stop: Stop, work: impl FnOnce(&Path)) -> Option<Image> {
    let image = Image::make(32, mkfs)?;
    let mount = image.mount(options)?;
    work(mount.path());
    shut_down(mount.path(), stop);
    drop(mount);
    Some(image)
}

/// `EXT4_IOC_SHUTDOWN`: the file system stops at once, as if the machine had lost its power.
pub(crate) fn shut_down(mounted: &Path, stop: Stop) {
    const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
    let root = File::open(mounted).unwrap();
    let flags = match stop {
        Stop::FlushLog => 1_u32,
        Stop::Dead => 2,
    };
    // SAFETY: the request reads one u32 from the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Brings a file or directory to the volume, by itself.
pub(crate) fn fsync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// Commits all that was done so far.
pub(crate) fn sync(mounted: &Path) {
    let root = File::open(mounted).unwrap();
    // SAFETY: the descriptor is open for the whole call.
    assert_eq!(unsafe { libc::syncfs(root.as_raw_fd()) }, 0);
}

/// A copy of the image that the kernel recovers when it mounts it.
fn copy(image: &Image) -> PathBuf {
    let copy = image.path().with_extension("copy");
    fs::copy(image.path(), &copy).unwrap();
    copy
}

/// Compares our view of a dirty volume with the kernel's after its recovery of a copy.
pub(crate) fn agrees_with_kernel(image: &Image, options: &OpenOptions, more: &str) -> Option<Compared> {
    agrees_except(image, options, more, &|_, _| ())
}

/// The same, with what must differ taken over from the kernel first.
pub(crate) fn agrees_except(
    image: &Image,
    options: &OpenOptions,
    more: &str,
    except: compare::Except<'_>,
) -> Option<Compared> {
    let volume = image.try_open(options).unwrap_or_else(|error| panic!("{error}"));
    let recovered = Image::of_file(&copy(image));
    let mount = recovered.mount(&format!("noatime{more}"))?;
    Some(compare::trees_except(&volume, mount.path(), &image.path(), except))
}

/// Compares our view of a dirty volume with the kernel's view of what e2fsck made of a copy.
pub(crate) fn agrees_with_e2fsck(image: &Image, options: &OpenOptions) -> Option<Compared> {
    let volume = image.try_open(options).unwrap();
    let copy = copy(image);
    let status = Command::new("e2fsck").arg("-fy").arg(&copy).output().unwrap().status;
    assert!(status.code().is_some_and(|code| code < 4), "e2fsck answers {status}");
    let mended = Image::of_file(&copy);
    let mount = mended.mount("ro,noatime")?;
    Some(compare::trees(&volume, mount.path(), &image.path()))
}

/// Both, for a journal within the volume. The report must say that something was recovered.
pub(crate) fn agrees(image: &Image) -> Option<()> {
    let report = image.open().info().recovery.clone();
    assert!(report.contains("recovered in memory"), "{report}");
    let compared = agrees_with_kernel(image, &options(), "")?;
    assert!(compared.names > 10 && compared.bytes > 10_000, "{compared:?}");
    agrees_with_e2fsck(image, &options())?;
    Some(())
}

/// The options for a volume whose journal lies in another file.
pub(crate) fn with_journal(journal: &Path) -> OpenOptions {
    OpenOptions {
        journal_device: Some(std::sync::Arc::new(FileDevice(File::open(journal).unwrap()))),
        ..options()
    }
}

/// What the kernel's replay of fast commits does differently in directories: it gives the time of the recovery
/// to those that it changes, counts no blocks for those that it makes, and where it adds a name to a full block splits that
/// block: which one is full depends on the volume's hash seed. The size of a directory then is larger, its names are the same.
pub(crate) fn directories_of_a_replay(ours: &mut Metadata, theirs: &fs::Metadata) {
    let time =
        |seconds, nanoseconds: i64| Timestamp { seconds, nanoseconds: nanoseconds.try_into().unwrap() };
    if ours.is_directory() {
        ours.modified = time(theirs.mtime(), theirs.mtime_nsec());
        ours.changed = time(theirs.ctime(), theirs.ctime_nsec());
        ours.sectors = theirs.blocks();
        if theirs.size() > ours.size && theirs.size() - ours.size <= theirs.blksize() * 2 {
            ours.size = theirs.size();
        }
    }
}

/// The journal's blocks, as debugfs takes them out.
pub(crate) fn journal(image: &Image) -> Vec<u8> {
    let file = image.path().with_extension("journal");
    image.tool("debugfs", &["-R", &format!("dump <8> {}", file.display())]);
    fs::read(file).unwrap()
}

/// Changes bytes of a block of the journal in the image.
pub(crate) fn change_journal(image: &Image, block_size: usize, block: usize, change: impl Fn(&mut [u8])) {
    let place = image.tool("debugfs", &["-R", &format!("bmap <8> {block}")]);
    let place: usize = place.trim().parse().unwrap();
    let mut bytes = image.bytes();
    change(&mut bytes[place * block_size..(place + 1) * block_size]);
    fs::write(image.path(), bytes).unwrap();
}
