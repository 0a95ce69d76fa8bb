//! From a device to an open volume.

use std::fmt;
use std::sync::Arc;

use extents_core::{BlockRead, FileSystem, Window};
use extents_ext4::Ext4;
use extents_xfs::Xfs;

use crate::contents::{Contents, contents};
use crate::error::{OpenVolumeError, Place};
use crate::partition::{Partition, partition_table};

/// A format that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ext2, ext3 and ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// Which volume of a device to open, and how.
#[derive(Clone)]
pub struct VolumeOptions {
    /// The partition that holds it.
    pub partition: Option<u32>,
    /// The byte where it begins. Only without a partition.
    pub offset: Option<u64>,
    /// The size of the device's own sectors in bytes, where known; for partition tables.
    pub sector_size: Option<u32>,
    /// Take what is on the media, without journal or log.
    pub norecovery: bool,
    /// Most bytes of verified metadata to keep.
    pub cache_bytes: u64,
    /// The device with the volume's journal, where that is external.
    pub journal_device: Option<Arc<dyn BlockRead>>,
    /// The format to insist on.
    pub format: Option<Format>,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            partition: None,
            offset: None,
            sector_size: None,
            norecovery: false,
            cache_bytes: 64 << 20,
            journal_device: None,
            format: None,
        }
    }
}

impl fmt::Debug for VolumeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeOptions")
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("norecovery", &self.norecovery)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// An open volume, and where on the device it lies.
pub struct OpenVolume {
    /// Its reader.
    pub fs: Arc<dyn FileSystem>,
    /// First byte of the volume on the device.
    pub start: u64,
    /// Bytes of the device that are there for it.
    pub size: u64,
    /// The partition that it is in.
    pub partition: Option<Partition>,
}

impl fmt::Debug for OpenVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenVolume")
            .field("info", self.fs.info())
            .field("start", &self.start)
            .field("size", &self.size)
            .field("partition", &self.partition)
            .finish()
    }
}

/// Opens the volume that the options name on a device: the one in the partition, at the byte, or else at the first
/// byte. A volume there wins over a partition table that is also there.
///
/// # Errors
/// Where no volume is there, telling what is; or the volume cannot be read.
pub fn open(device: Arc<dyn BlockRead>, options: &VolumeOptions) -> Result<OpenVolume, OpenVolumeError> {
    let whole = device.size();
    let (start, size, partition, place) = match (options.partition, options.offset) {
        (Some(number), _) => {
            let partition = find_partition(&device, number, options)?;
            (partition.start, partition.size, Some(partition), Place::Partition(number))
        }
        (None, Some(offset)) => {
            let outside = OpenVolumeError::OffsetOutside { offset, size: whole };
            let size = whole.checked_sub(offset).filter(|size| *size > 0 || offset == 0).ok_or(outside)?;
            (offset, size, None, Place::Byte(offset))
        }
        (None, None) => (0, whole, None, Place::Beginning),
    };
    // In a partition's case this was checked, in the others it is true by itself.
    let window = Window::new(device, start, size)
        .ok_or(OpenVolumeError::OffsetOutside { offset: start, size: whole })?;
    let found = contents(&window)?;
    let format = match (found, options.format) {
        (Contents::Ext4, None | Some(Format::Ext4)) => Format::Ext4,
        (Contents::Xfs, None | Some(Format::Xfs)) => Format::Xfs,
        (found, Some(format)) if place != Place::Beginning || is_volume(found) => {
            return Err(OpenVolumeError::NotThisFormat { wanted: format.name(), place, found });
        }
        (found, _) => {
            return Err(match partition_table(&window, options.sector_size)? {
                Some(table) if place == Place::Beginning => OpenVolumeError::ChoosePartition(Box::new(table)),
                _ => OpenVolumeError::NotAVolume { place, found },
            });
        }
    };
    let fs = format.open(window, options)?;
    tracing::debug!(start, size, format = fs.info().format, "volume opened");
    Ok(OpenVolume { fs, start, size, partition })
}

fn is_volume(found: Contents) -> bool {
    matches!(found, Contents::Ext4 | Contents::Xfs)
}

fn find_partition(
    device: &Arc<dyn BlockRead>,
    number: u32,
    options: &VolumeOptions,
) -> Result<Partition, OpenVolumeError> {
    let Some(table) = partition_table(device, options.sector_size)? else {
        return Err(OpenVolumeError::NoTable { number, found: contents(device)? });
    };
    if let Some(damage) = table.damage {
        tracing::warn!("{damage}");
    }
    let Some(partition) = table.get(number).cloned() else {
        return Err(OpenVolumeError::NoSuchPartition { number, table: Box::new(table) });
    };
    let (start, whole) = (partition.start, device.size());
    let end = start.saturating_add(partition.size);
    if end > whole {
        return Err(OpenVolumeError::PartitionOutside {
            number,
            scheme: table.scheme,
            start,
            end,
            size: whole,
        });
    }
    Ok(partition)
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "XFS",
        }
    }

    fn open(
        self,
        window: Window<Arc<dyn BlockRead>>,
        options: &VolumeOptions,
    ) -> Result<Arc<dyn FileSystem>, OpenVolumeError> {
        let (norecovery, cache_bytes) = (options.norecovery, options.cache_bytes);
        let refused = |source| OpenVolumeError::Volume { format: self.name(), source };
        Ok(match self {
            Self::Ext4 => {
                let journal_device = options.journal_device.clone();
                let options = extents_ext4::OpenOptions { norecovery, cache_bytes, journal_device };
                Arc::new(Ext4::open(window, &options).map_err(refused)?)
            }
            Self::Xfs => {
                let options = extents_xfs::OpenOptions { norecovery, cache_bytes };
                Arc::new(Xfs::open(window, &options).map_err(refused)?)
            }
        })
    }
}
