//! How long a file is and in which units it can be read.

use std::fs::{self, File};

use engine_block::cut::Geometry;
use rustix::fs::{
    AtFlags, FileType, SeekFrom, StatxFlags, fstat, ioctl_blksszget, major, minor, seek, statx,
};
use rustix::io::Errno;

/// Longest single command. The kernel splits it further where the device wants that; cutting it smaller here would
/// only cost more commands.
const MAX_TRANSFER: u32 = 1 << 20;

/// Where the kernel tells nothing about direct reads, blocks of this size suit every disk.
const SAFE_BLOCK: u32 = 4096;

/// The units of direct reads, or that there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectUnits {
    pub(crate) block: u32,
    pub(crate) memory: u32,
}

/// For reads through the page cache: any alignment.
pub(crate) fn buffered(size: u64) -> Geometry {
    Geometry { size, block: 1, memory: 1, max_transfer: MAX_TRANSFER }
}

/// For reads past the page cache.
pub(crate) fn direct(size: u64, units: DirectUnits) -> Geometry {
    Geometry { size, block: units.block, memory: units.memory, max_transfer: MAX_TRANSFER }
}

/// Size of a regular file or block device in bytes.
pub(crate) fn size(file: &File) -> rustix::io::Result<u64> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        return seek(file, SeekFrom::End(0));
    }
    u64::try_from(stat.st_size).map_err(|_| Errno::OVERFLOW)
}

/// The smallest unit that a device behind `file` knows, however it is read.
pub(crate) fn sector(file: &File) -> u32 {
    const SMALLEST: u32 = 512;
    let disk = fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice);
    if disk { ioctl_blksszget(file).map_or(SMALLEST, |sector| sector.max(SMALLEST)) } else { SMALLEST }
}

/// Whether the kernel can give ranges of `file` back, as far as can be told before it is tried.
pub(crate) fn discards(file: &File) -> bool {
    let Ok(stat) = fstat(file) else { return false };
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return true;
    }
    // Punching into a block device needs its write-zeroes command (`blkdev_fallocate`). Partitions have the queue of
    // their disk.
    let number = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
    let limit = |queue: &str| {
        let told =
            fs::read_to_string(format!("/sys/dev/block/{number}/{queue}/write_zeroes_max_bytes")).ok()?;
        told.trim().parse::<u64>().ok()
    };
    limit("queue").or_else(|| limit("../queue")).is_some_and(|bytes| bytes > 0)
}

/// In which units `file` can be read past the page cache; `None` where the kernel says that it cannot.
pub(crate) fn direct_units(file: &File) -> rustix::io::Result<Option<DirectUnits>> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN | StatxFlags::TYPE)?;
    if told.stx_mask & StatxFlags::DIOALIGN.bits() != 0 {
        let units = DirectUnits { block: told.stx_dio_offset_align, memory: told.stx_dio_mem_align };
        return Ok((units.block != 0 && units.memory != 0).then(|| units.made_safe()));
    }
    // Kernels before 6.1 do not tell; a block device still has its sector size.
    let block = if FileType::from_raw_mode(told.stx_mode.into()) == FileType::BlockDevice {
        ioctl_blksszget(file)?
    } else {
        SAFE_BLOCK
    };
    Ok(Some(DirectUnits { block, memory: block }.made_safe()))
}

impl DirectUnits {
    /// Arithmetic on these units relies on powers of two, and buffers are aligned to pages.
    fn made_safe(self) -> Self {
        let block = self.block.checked_next_power_of_two().unwrap_or(SAFE_BLOCK).min(MAX_TRANSFER);
        let memory = self.memory.checked_next_power_of_two().unwrap_or(SAFE_BLOCK).min(SAFE_BLOCK);
        Self { block, memory }
    }
}
