//! Opens the volume that a spec and options name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine_block::BlockDevice;
use engine_open::{Backend, Direct, OpenError, OpenOptions};
use extents_volume::{OpenVolumeError, VolumeOptions};
use homifs_core::{Homifs, MetadataReader, VolumeParts};
use homifs_lower::{Lower, LowerOptions, LowerVolume};
use homifs_options::{Engine, MountOptions};

use crate::Result;
use crate::arguments::Place;
use crate::failure::{Failure, exit};

/// Whether others may change the device meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// They may not; who might makes it fail.
    Exclusive,
    /// They better not; who might is told of on stderr.
    Tolerant,
}

impl Place {
    /// As the options of a mount.
    pub(crate) fn options(&self) -> Result<MountOptions> {
        let mut options = MountOptions::default();
        let quoted = self.journal.as_ref().map(|path| format!("\"{path}\""));
        for (name, value) in [("partition", &self.partition), ("offset", &self.offset), ("journal", &quoted)]
        {
            if let Some(value) = value {
                options.apply(&format!("{name}={value}"))?;
            }
        }
        options.norecovery = self.norecovery;
        Ok(options)
    }
}

/// A volume that is looked at without a mount.
#[derive(Debug)]
pub(crate) struct Unmounted {
    pub(crate) homifs: Arc<Homifs>,
    /// First byte of the volume on the device.
    pub(crate) start: u64,
}

pub(crate) fn open_unmounted(spec: &str, place: &Place) -> Result<Unmounted> {
    let options = place.options()?;
    let parts = open(spec, &options, Sharing::Tolerant)?;
    let start = parts.start;
    Ok(Unmounted { homifs: Homifs::new(parts, spec.to_owned(), options), start })
}

/// Opens device and volume.
pub(crate) fn open(spec: &str, options: &MountOptions, sharing: Sharing) -> Result<VolumeParts> {
    let device = open_device(spec, options, sharing)?;
    open_on(device, spec, options, sharing)?.map_err(|error| Failure::volume(spec, &error))
}

/// Mounts the volume by the kernel's own driver, and opens it for the engine beside that.
pub(crate) fn open_writable(spec: &str, options: &MountOptions) -> Result<(VolumeParts, Arc<Lower>)> {
    if options.norecovery || options.journal.is_some() || options.partition.is_some() {
        return Err(Failure::new(
            exit::USAGE,
            "norecovery, journal= and partition= are for read-only mounts without recovery=media; name the partition's own device to write to it",
        ));
    }
    let held = patiently(|| engine_open::hold(spec), busy).map_err(|error| Failure::open(&error))?;
    // The engine reads beside the kernel's driver.
    let ways = OpenOptions { exclusive: false, ..ways(options) };
    let device = engine_open::open(spec, &ways).map_err(|error| Failure::open(&error))?;
    // What the superblock says; what the journal holds is the kernel's affair.
    let shown = MountOptions { norecovery: true, ..options.clone() };
    let read = open_on(Arc::clone(&device), spec, &shown, Sharing::Tolerant)?;
    let read = read.map_err(|error| Failure::volume(spec, &error))?;
    let info = read.fs.info().clone();
    let lower = LowerOptions {
        format: if info.format == "xfs" { "xfs" } else { "ext4" },
        offset: read.start,
        read_only: options.read_only,
        attributes: homifs_fuse::lower_attributes(options.flags),
        data: options.lower.clone(),
    };
    let lower = Lower::mount(Path::new(spec), held, &lower);
    let lower = Arc::new(lower.map_err(|error| Failure::new(exit::MOUNT, error.to_string()))?);
    crate::witness::start(&lower, &device, read.start, info.format)?;
    let fs = Arc::new(LowerVolume::new(Arc::clone(&lower), info));
    Ok((VolumeParts { fs, device, start: read.start }, lower))
}

/// Whether somebody has the device.
fn busy(error: &OpenError) -> bool {
    matches!(error, OpenError::Busy { .. })
}

/// Tries again where somebody has the device: the daemon of a mount that just ended holds it for a moment longer.
fn patiently<T, E>(
    attempt: impl Fn() -> std::result::Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
) -> std::result::Result<T, E> {
    let mut patience = 5;
    loop {
        match attempt() {
            Err(error) if patience > 0 && is_busy(&error) => {
                patience -= 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            other => return other,
        }
    }
}

/// Opens the volume on a device; what is wrong with the volume stays apart from what is wrong with its journal.
pub(crate) fn open_on(
    device: Arc<dyn BlockDevice>,
    spec: &str,
    options: &MountOptions,
    sharing: Sharing,
) -> Result<std::result::Result<VolumeParts, OpenVolumeError>> {
    let journal = match &options.journal {
        Some(path) => Some(open_device(&path.to_string_lossy(), options, sharing)?),
        None => None,
    };
    let options = VolumeOptions {
        partition: options.partition,
        offset: options.offset,
        sector_size: sector_size(spec, &*device),
        norecovery: options.norecovery,
        cache_bytes: options.cache,
        journal_device: journal.map(|device| Arc::new(MetadataReader::new(device)) as _),
        format: options.format.map(|format| match format {
            homifs_options::Format::Ext4 => extents_volume::Format::Ext4,
            homifs_options::Format::Xfs => extents_volume::Format::Xfs,
        }),
    };
    let reader = Arc::new(MetadataReader::new(Arc::clone(&device)));
    Ok(extents_volume::open(reader, &options).map(|volume| VolumeParts {
        fs: volume.fs,
        device,
        start: volume.start,
    }))
}

/// Opens a device.
pub(crate) fn open_device(
    spec: &str,
    options: &MountOptions,
    sharing: Sharing,
) -> Result<Arc<dyn BlockDevice>> {
    let wanted = ways(options);
    if sharing == Sharing::Exclusive {
        return patiently(|| engine_open::open(spec, &wanted), busy).map_err(|error| Failure::open(&error));
    }
    let opened = engine_open::open(spec, &wanted).or_else(|error| match error {
        OpenError::Busy { .. } => {
            eprintln!("homifs: {error}; what is shown may be of no one moment");
            engine_open::open(spec, &OpenOptions { exclusive: false, ..wanted })
        }
        error => Err(error),
    });
    opened.map_err(|error| Failure::open(&error))
}

/// How the options of a mount let a device be read.
pub(crate) fn ways(options: &MountOptions) -> OpenOptions {
    OpenOptions {
        backend: match options.engine {
            Engine::Auto => Backend::Auto,
            Engine::IoUring => Backend::IoUring,
            Engine::Pread => Backend::Pread,
        },
        direct: match options.direct {
            homifs_options::Direct::Auto => Direct::Auto,
            homifs_options::Direct::On => Direct::On,
            homifs_options::Direct::Off => Direct::Off,
        },
        ..OpenOptions::default()
    }
}

/// What partition tables count in. An image's own blocks say nothing about it.
fn sector_size(spec: &str, device: &dyn BlockDevice) -> Option<u32> {
    use std::os::unix::fs::FileTypeExt as _;
    // Also where a controller of our own stands between.
    let path = spec.strip_prefix("soft:").unwrap_or(spec);
    let kind = std::fs::metadata(path).ok()?.file_type();
    kind.is_block_device().then(|| device.info().logical_block)
}
