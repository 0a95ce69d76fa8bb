//! An open volume.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use extents_core::{
    BlockCache, BlockRead, DirEntry, Error, Extent, ExtentFlags, ExtentMap, FileSystem, FileType, Flow, Ino,
    Metadata, Overlay, Result, SpaceUsage, VolumeInfo, Xattr, XattrNamespace,
};
use tracing::warn;

use crate::describe;
use crate::directory::NAME_MAX;
use crate::fast_commit::FastCommits;
use crate::geometry::{Geometry, ROOT_INO};
use crate::groups::GroupTable;
use crate::htree::INDEX;
use crate::inode::{Flags, Inode};
use crate::media::Media;
use crate::mmp::{self, Holder};
use crate::recovery;
use crate::sought::Sought;
use crate::superblock::{RawSuperblock, SUPERBLOCK_AT, SUPERBLOCK_SIZE};

/// How a volume is opened.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// Takes the volume as it lies on the device, without what its journal holds.
    pub norecovery: bool,
    /// How many bytes of verified metadata to keep.
    pub cache_bytes: u64,
    /// The device with the journal, for volumes that keep it elsewhere.
    pub journal_device: Option<Arc<dyn BlockRead>>,
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("norecovery", &self.norecovery)
            .field("cache_bytes", &self.cache_bytes)
            .field("journal_device", &self.journal_device.as_ref().map(BlockRead::size))
            .finish()
    }
}

/// What a cached block was verified as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    InodePiece,
    InodeBlock,
    ExtentNode,
    Indirect,
    Xattrs,
    /// The first block of an indexed directory, read for names.
    DirRoot,
    DirBlock,
    IndexRoot,
    IndexNode,
}

impl Kind {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::InodePiece => 0,
            Self::InodeBlock => 1,
            Self::ExtentNode => 2,
            Self::Indirect => 3,
            Self::Xattrs => 4,
            Self::DirRoot => 5,
            Self::DirBlock => 6,
            Self::IndexRoot => 7,
            Self::IndexNode => 8,
        }
    }
}

/// An ext2, ext3 or ext4 volume.
#[derive(Debug)]
pub struct Ext4 {
    pub(crate) media: Media,
    pub(crate) geometry: Geometry,
    pub(crate) groups: GroupTable,
    pub(crate) cache: BlockCache,
    pub(crate) journal_inum: u32,
    pub(crate) fast_commits: FastCommits,
    /// Counted once, when somebody first asks.
    pub(crate) usage: OnceLock<SpaceUsage>,
    info: VolumeInfo,
    warned_of_index: AtomicBool,
}

impl Ext4 {
    /// Whether a device holds an ext2, ext3 or ext4 superblock, sound or not.
    ///
    /// # Errors
    /// Where the device cannot be read.
    pub fn probe<R: BlockRead + ?Sized>(device: &R) -> Result<bool> {
        if device.size() < SUPERBLOCK_AT + 1024 {
            return Ok(false);
        }
        let mut bytes = [0; SUPERBLOCK_SIZE];
        device.read_at(SUPERBLOCK_AT, &mut bytes)?;
        Ok(RawSuperblock::read(&bytes).is_some())
    }

    /// Opens the volume on a device. A journal that was left dirty is recovered in memory.
    ///
    /// # Errors
    /// `NotThisFormat` where there is none, `Unsupported` for features that a reader must know and this one does
    /// not, `Corrupt` for a damaged superblock, `NeedsRecovery` for a journal that cannot be recovered.
    pub fn open<R: BlockRead + 'static>(device: R, options: &OpenOptions) -> Result<Self> {
        let media = Media { device: Arc::new(device), overlay: Overlay::default() };
        let raw = read_superblock(&media)?;
        let geometry = Geometry::new(&raw, media.device.size())?;
        let mut volume = Self {
            groups: GroupTable::new(&geometry),
            cache: BlockCache::new(options.cache_bytes),
            journal_inum: raw.journal_inum.get(),
            fast_commits: FastCommits::default(),
            usage: OnceLock::new(),
            info: describe::volume(&raw, &geometry),
            warned_of_index: AtomicBool::new(false),
            media,
            geometry,
        };
        let recovered = recovery::recover(&volume, &raw, options)?;
        if let Some(overlay) = recovered.overlay {
            volume.lay_over(overlay)?;
        }
        let mut report = recovered.report;
        if let Some(area) = recovered.fast_commits {
            let (fast_commits, changes) = recovery::fast_commits(&volume, &raw, options, area)?;
            volume.fast_commits = fast_commits;
            volume.cache.clear();
            if changes > 0 {
                report.push_str(&format!(" {changes} changes of fast commits were applied."));
            }
        }
        volume.info.recovery = report.into();
        volume.tell_holder(raw.mmp_block.get());
        Ok(volume)
    }

    /// Lays the blocks of a recovery over the device and reads again what they may have changed.
    pub(crate) fn lay_over(&mut self, overlay: Overlay) -> Result<()> {
        self.media.overlay = overlay;
        self.cache.clear();
        let raw = read_superblock(&self.media)?;
        self.geometry = Geometry::new(&raw, self.media.device.size())?;
        self.groups = GroupTable::new(&self.geometry);
        self.info = describe::volume(&raw, &self.geometry);
        Ok(())
    }

    fn find_name(&self, dir: &Inode, name: &[u8]) -> Result<Option<Ino>> {
        match name {
            b"" => return Ok(None),
            b"." => return Ok(Some(dir.ino)),
            b".." => return self.find_parent(dir),
            _ => {}
        }
        if name.len() > NAME_MAX {
            return Ok(None);
        }
        let Some(sought) = Sought::new(dir, name, &self.geometry) else { return Ok(None) };
        if let Some(changes) = self.fast_commits.names(dir.ino) {
            if let Some(added) = changes.added().iter().find(|added| sought.matches(&added.name)) {
                return Ok(Some(added.ino));
            }
            // The index may lead to a name that is there no longer; of an exact one that can be told at once.
            match sought {
                Sought::Exact(name) if changes.hides(name) || changes.fresh_parent().is_some() => {
                    return Ok(None);
                }
                Sought::Exact(_) => {}
                _ => return self.find_linearly(dir, &sought),
            }
        }
        if self.is_indexed(dir) {
            match self.find_by_hash(dir, &sought) {
                Ok(None) if sought.may_be_misplaced(&self.geometry) => {}
                Err(Error::Corrupt(problem)) if problem.structure == INDEX => {
                    self.warn_of_index(dir.ino, &problem);
                }
                result => return result,
            }
        }
        self.find_linearly(dir, &sought)
    }

    /// Adds to the description who has the volume mounted elsewhere, where it keeps that. Reading goes on either
    /// way, as with the kernel's read-only mounts.
    fn tell_holder(&mut self, block: u64) {
        let told = match mmp::holder(block, &self.geometry, &self.media) {
            Ok(None) => return,
            Ok(Some(Holder::Nobody)) => "nobody has the volume mounted".to_owned(),
            Ok(Some(Holder::Check)) => {
                warn!("the volume is being checked or repaired, or its last repair was cut off");
                "a check or repair has the volume".to_owned()
            }
            Ok(Some(Holder::Node(node))) => {
                warn!("the volume may be mounted by {node}: what is read may change under the reader");
                format!("{node} has the volume mounted, or went down with it")
            }
            Err(error) => error.to_string(),
        };
        self.info.details.push(("multi-mount protection", told));
    }

    fn warn_of_index(&self, dir: Ino, problem: &extents_core::Corruption) {
        if !self.warned_of_index.swap(true, Ordering::Relaxed) {
            warn!(
                %dir,
                "{problem}; names are looked for one by one there and wherever else this is so \
                 (run e2fsck -D to mend it)"
            );
        }
    }

    fn regular(&self, ino: Ino) -> Result<(Inode, Metadata)> {
        let inode = self.inode(ino)?;
        let mut metadata = inode.metadata(&self.geometry)?;
        if metadata.file_type == FileType::Symlink && inode.has(Flags::ENCRYPT) {
            // `fscrypt_symlink_getattr`: as long as what a reader of the link gets.
            metadata.size = extents_core::to_u64(self.target_of(&inode)?.len());
        }
        Ok((inode, metadata))
    }
}

fn read_superblock(media: &Media) -> Result<RawSuperblock> {
    if !media.holds(SUPERBLOCK_AT, SUPERBLOCK_SIZE) {
        return Err(Error::NotThisFormat("ext4"));
    }
    let bytes = media.read_vec(SUPERBLOCK_AT, SUPERBLOCK_SIZE)?;
    RawSuperblock::read(&bytes).ok_or(Error::NotThisFormat("ext4"))
}

impl FileSystem for Ext4 {
    fn info(&self) -> &VolumeInfo {
        &self.info
    }

    fn root(&self) -> Ino {
        ROOT_INO
    }

    fn metadata(&self, ino: Ino) -> Result<Metadata> {
        self.regular(ino).map(|(_, metadata)| metadata)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.find_name(&self.directory(dir)?, name)
    }

    fn read_dir(&self, dir: Ino, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> Flow) -> Result<()> {
        self.list(&self.directory(dir)?, from, visit)
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        self.link_target(ino)
    }

    fn extents(&self, ino: Ino) -> Result<ExtentMap> {
        self.map(&self.inode(ino)?)
    }

    fn inspect(&self, ino: Ino) -> Result<(Metadata, ExtentMap)> {
        let (inode, metadata) = self.regular(ino)?;
        let map = self.map(&inode)?;
        Ok((metadata, map))
    }

    fn read_special(&self, ino: Ino, extent: &Extent, offset: u64, buf: &mut [u8]) -> Result<()> {
        let inode = self.inode(ino)?;
        if inode.has(Flags::ENCRYPT) {
            return Err(Error::Encrypted(ino));
        }
        if extent.flags.contains(ExtentFlags::INLINE) {
            self.read_inline(&inode, offset, buf)
        } else {
            self.read_blocks(&inode, offset, buf)
        }
    }

    fn xattr(&self, ino: Ino, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.xattr_value(&self.inode(ino)?, namespace, name)
    }

    fn xattrs(&self, ino: Ino, visit: &mut dyn FnMut(Xattr<'_>) -> Flow) -> Result<()> {
        self.list_xattrs(&self.inode(ino)?, &mut |xattr| visit(xattr).is_continue())
    }

    fn usage(&self) -> Result<SpaceUsage> {
        if let Some(usage) = self.usage.get() {
            return Ok(*usage);
        }
        let usage = self.space()?;
        Ok(*self.usage.get_or_init(|| usage))
    }

    fn overlay(&self) -> Option<&Overlay> {
        (!self.media.overlay.is_empty()).then_some(&self.media.overlay)
    }

    fn cache_usage(&self) -> (u64, u64) {
        self.cache.usage()
    }
}
