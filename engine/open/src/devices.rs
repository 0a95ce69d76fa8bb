//! Block devices and how they stand on each other, from sysfs.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Major and minor number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DeviceNumber {
    /// From `st_rdev` or `st_dev`.
    pub(crate) fn of(number: u64) -> Self {
        Self { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
    }

    /// From `8:17`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// Its directory in sysfs, which lies within that of the whole disk where it is a partition.
    fn sysfs(self) -> Option<PathBuf> {
        fs::canonicalize(format!("/sys/dev/block/{self}")).ok()
    }

    /// This device, its partitions, and the disk that it is a partition of.
    pub(crate) fn relatives(self) -> Vec<Self> {
        let mut all = vec![self];
        let Some(own) = self.sysfs() else { return all };
        all.extend(
            entries(&own).iter().filter(|path| path.join("partition").exists()).filter_map(|p| number_in(p)),
        );
        if own.join("partition").exists() {
            all.extend(own.parent().and_then(number_in));
        }
        all
    }

    /// Devices that stand on this one (device mapper, RAID), by the name that a person knows them by.
    pub(crate) fn holders(self) -> Vec<String> {
        let Some(own) = self.sysfs() else { return Vec::new() };
        let name_of = |path: &PathBuf| {
            let short = path.file_name()?.to_string_lossy().into_owned();
            let mapped = fs::read_to_string(path.join("dm/name"));
            Some(
                mapped
                    .map_or_else(|_| format!("/dev/{short}"), |name| format!("/dev/mapper/{}", name.trim())),
            )
        };
        entries(&own.join("holders")).iter().filter_map(name_of).collect()
    }

    /// Whether the device cannot be written to.
    pub(crate) fn is_read_only(self) -> bool {
        self.sysfs()
            .and_then(|own| fs::read_to_string(own.join("ro")).ok())
            .is_some_and(|text| text.trim() == "1")
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A loop device and the file behind it.
#[derive(Debug, Clone)]
pub(crate) struct LoopDevice {
    pub(crate) name: PathBuf,
    pub(crate) number: DeviceNumber,
    pub(crate) backing: PathBuf,
}

/// The loop devices that are attached.
pub(crate) fn loops() -> Vec<LoopDevice> {
    let attached = |own: &PathBuf| {
        let backing = fs::read(own.join("loop/backing_file")).ok()?;
        let backing = backing.strip_suffix(b"\n").unwrap_or(&backing);
        let backing = OsStr::from_bytes(backing);
        let name = Path::new("/dev").join(own.file_name()?);
        Some(LoopDevice { name, number: number_in(own)?, backing: PathBuf::from(backing) })
    };
    entries(Path::new("/sys/block")).iter().filter_map(attached).collect()
}

/// Swap areas, by path.
pub(crate) fn swap_areas() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(PathBuf::from).collect()
}

fn number_in(sysfs: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&fs::read_to_string(sysfs.join("dev")).ok()?)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
