//! The volume as the rest of homifs sees it.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use extents_core::{
    BlockRead, DirEntry, Error, Extent, ExtentMap, FileSystem, FileType, Flow, Ino, Metadata, Overlay,
    Result, SpaceUsage, VolumeInfo, Xattr, XattrNamespace,
};

use crate::inode::{self, Inode};
use crate::log::LogState;
use crate::superblock::{self, Superblock};
use crate::volume::{OpenOptions, Volume};
use crate::{attr, dir, features, file_map, log, symlink, usage};

/// An XFS volume, opened for reading.
pub struct Xfs {
    volume: Volume,
    superblock: Superblock,
    info: VolumeInfo,
    /// Free blocks that nobody can have: looked for in all groups, once.
    withheld: OnceLock<u64>,
}

impl Xfs {
    /// Whether the device begins like an XFS volume. It may still be damaged or unsupported.
    ///
    /// # Errors
    /// Where the device cannot be read.
    pub fn probe<R: BlockRead + ?Sized>(device: &R) -> Result<bool> {
        superblock::probe(device)
    }

    /// Opens the volume that begins at byte 0 of the device.
    ///
    /// # Errors
    /// `NotThisFormat` where there is none, `Unsupported` where it has features that must be known to read it,
    /// `NeedsRecovery` where its log was not written back and `norecovery` was not asked for, `Corrupt` where
    /// the superblock contradicts itself or the device.
    pub fn open<R: BlockRead + 'static>(device: R, options: &OpenOptions) -> Result<Self> {
        let superblock = superblock::read(&device)?;
        let mut volume = Volume::new(Box::new(device), superblock.geometry.clone(), options);
        let (recovery, log_is_clean) = look_at_log(&volume, options)?;
        if log_is_clean {
            volume.set_recovered();
        }
        let info = describe(&superblock, recovery);
        tracing::debug!(
            version = info.version,
            block_size = info.block_size,
            groups = info.groups,
            "opened XFS"
        );
        Ok(Self { volume, superblock, info, withheld: OnceLock::new() })
    }

    fn inode(&self, ino: Ino) -> Result<Inode> {
        inode::read(&self.volume, ino)
    }

    fn directory(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino)?;
        if inode.file_type == FileType::Directory { Ok(inode) } else { Err(Error::NotADirectory(ino)) }
    }
}

/// Decides what the state of the log means for reading; answers that in words, and whether the log is clean.
fn look_at_log(volume: &Volume, options: &OpenOptions) -> Result<(Cow<'static, str>, bool)> {
    match log::state(volume) {
        Ok(LogState::Clean) => Ok(("the log is clean".into(), true)),
        Ok(LogState::Dirty { .. }) if options.norecovery => {
            Ok(("the log holds newer metadata, left out as asked (norecovery)".into(), false))
        }
        Err(_) if options.norecovery => {
            Ok(("whether the log holds newer metadata is not known (norecovery)".into(), false))
        }
        Ok(LogState::Dirty { .. }) => Err(Error::NeedsRecovery(
            "the volume was not unmounted cleanly and its log holds newer metadata: mount it once with the kernel \
             (mount -t xfs, then umount), or use -o norecovery to read what is on the disk"
                .into(),
        )),
        Err(error) => Err(error),
    }
}

fn describe(superblock: &Superblock, recovery: Cow<'static, str>) -> VolumeInfo {
    let geometry = &superblock.geometry;
    let mut details = vec![
        ("allocation group blocks", geometry.group_blocks.to_string()),
        ("directory block size", geometry.dir_block_size().to_string()),
        ("inode share", format!("{} %", superblock.inode_percent)),
        (
            "log",
            match geometry.log_start {
                Some(start) => format!("{} blocks from block {start}", geometry.log_blocks),
                None => "on another device".to_owned(),
            },
        ),
    ];
    if superblock.stripe_unit != 0 {
        details.push((
            "stripe",
            format!("unit {} blocks, width {} blocks", superblock.stripe_unit, superblock.stripe_width),
        ));
    }
    if superblock.realtime_blocks != 0 {
        details.push(("realtime device", format!("{} blocks, not read", superblock.realtime_blocks)));
    }
    VolumeInfo {
        format: "xfs",
        version: u32::from(geometry.version),
        uuid: superblock.uuid,
        label: superblock.label.clone(),
        block_size: geometry.block_size,
        sector_size: geometry.sector_size,
        size: geometry.size(),
        inode_size: geometry.inode_size,
        groups: u64::from(geometry.groups),
        features: features::list(geometry, superblock.compat),
        recovery,
        details,
    }
}

impl FileSystem for Xfs {
    fn info(&self) -> &VolumeInfo {
        &self.info
    }

    fn root(&self) -> Ino {
        self.volume.geometry().root
    }

    fn metadata(&self, ino: Ino) -> Result<Metadata> {
        self.inode(ino)?.metadata(self.volume.geometry())
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        dir::lookup(&self.volume, &self.directory(dir)?, name).map_err(|error| error.in_inode(dir))
    }

    fn read_dir(&self, dir: Ino, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> Flow) -> Result<()> {
        dir::read(&self.volume, &self.directory(dir)?, from, visit).map_err(|error| error.in_inode(dir))
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        symlink::read(&self.volume, &self.inode(ino)?)
    }

    fn extents(&self, ino: Ino) -> Result<ExtentMap> {
        file_map::read(&self.volume, &self.inode(ino)?).map_err(|error| error.in_inode(ino))
    }

    fn inspect(&self, ino: Ino) -> Result<(Metadata, ExtentMap)> {
        let inode = self.inode(ino)?;
        let metadata = inode.metadata(self.volume.geometry())?;
        Ok((metadata, file_map::read(&self.volume, &inode).map_err(|error| error.in_inode(ino))?))
    }

    fn read_special(&self, ino: Ino, _: &Extent, _: u64, _: &mut [u8]) -> Result<()> {
        Err(Error::unsupported(format!("inode {ino}: XFS keeps the contents of files in whole blocks only")))
    }

    fn xattr(&self, ino: Ino, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>> {
        attr::get(&self.volume, &self.inode(ino)?, namespace, name).map_err(|error| error.in_inode(ino))
    }

    fn xattrs(&self, ino: Ino, visit: &mut dyn FnMut(Xattr<'_>) -> Flow) -> Result<()> {
        attr::list(&self.volume, &self.inode(ino)?, visit).map_err(|error| error.in_inode(ino))
    }

    fn usage(&self) -> Result<SpaceUsage> {
        usage::usage(&self.volume, &self.superblock, &self.withheld)
    }

    fn overlay(&self) -> Option<&Overlay> {
        None
    }

    fn cache_usage(&self) -> (u64, u64) {
        self.volume.cache().usage()
    }
}

impl fmt::Debug for Xfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xfs").field("info", &self.info).finish_non_exhaustive()
    }
}
