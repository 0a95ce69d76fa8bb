//! One mounted volume, without FUSE: what the kernel's requests become.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine_block::BlockDevice;
use extents_core::{Error, ExtentMap, FileSystem, FileType, Flow, Ino, InodeFlags, Metadata, SpaceUsage};
use homifs_options::MountOptions;
use parking_lot::Mutex;

use crate::access::Caller;
use crate::control::{self, Conversation};
use crate::door::Door;
use crate::error::{FsError, Result};
use crate::handles::{Caching, Handle, Handles, Opened};
use crate::layout::MapContext;
use crate::lease::Leases;
use crate::map_cache::MapCache;
use crate::node::{Node, NodeId, Special};
use crate::special;
use crate::stats::{Op, Stats};
use crate::workers::QueueKey;

/// What a mount is made of: the volume's reader, the device that serves its contents, and where on the device the
/// volume starts, in bytes.
pub struct VolumeParts {
    /// Reads metadata.
    pub fs: Arc<dyn FileSystem>,
    /// Serves file contents.
    pub device: Arc<dyn BlockDevice>,
    /// First byte of the volume on the device.
    pub start: u64,
}

impl std::fmt::Debug for VolumeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeParts")
            .field("device", &self.device)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// A mounted volume. All methods may be called from any thread.
pub struct Homifs {
    parts: VolumeParts,
    source: String,
    options: MountOptions,
    root: Ino,
    /// Kept, since without the root's attributes nothing on the mount can be reached, not even what tells of a
    /// device that is gone.
    root_metadata: Option<Metadata>,
    block_size: u32,
    queue_key: QueueKey,
    maps: MapCache,
    handles: Handles,
    door: Door,
    leases: OnceLock<Arc<dyn Leases>>,
    stats: Stats,
}

/// A node and what `stat` tells about it.
#[derive(Debug, Clone, Copy)]
pub struct NodeAttributes {
    /// The number that the kernel shall use for it.
    pub node: NodeId,
    /// Everything else; `metadata.ino` is what programs see as the inode number.
    pub metadata: Metadata,
}

/// One entry of a directory listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number that programs see.
    pub ino: Ino,
    /// The type; `None` where the volume does not store it with the name.
    pub file_type: Option<FileType>,
    /// Where to continue after this entry.
    pub next: u64,
}

/// `SEEK_DATA` or `SEEK_HOLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is not in a hole.
    Data,
    /// The next byte that is in a hole.
    Hole,
}

impl std::fmt::Debug for Homifs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Homifs").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Homifs {
    /// A volume that is ready to be mounted. `source` is what the user called it.
    #[must_use]
    pub fn new(parts: VolumeParts, source: String, options: MountOptions) -> Arc<Self> {
        let (root, block_size) = (parts.fs.root(), parts.fs.info().block_size);
        Arc::new(Self {
            root_metadata: parts.fs.metadata(root).ok(),
            maps: MapCache::new(options.map_cache),
            parts,
            source,
            options,
            root,
            block_size,
            queue_key: QueueKey::new(),
            handles: Handles::default(),
            door: Door::default(),
            leases: OnceLock::new(),
            stats: Stats::default(),
        })
    }

    /// The volume's reader.
    #[must_use]
    pub fn volume(&self) -> &dyn FileSystem {
        &*self.parts.fs
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &dyn BlockDevice {
        &*self.parts.device
    }

    /// What the user called the volume.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The options of the mount.
    #[must_use]
    pub fn options(&self) -> &MountOptions {
        &self.options
    }

    /// How long the kernel may keep names and attributes without asking again.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.options.ttl
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn leases_cell(&self) -> &OnceLock<Arc<dyn Leases>> {
        &self.leases
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// The device, for those who keep it.
    #[must_use]
    pub fn shared_device(&self) -> &Arc<dyn BlockDevice> {
        &self.parts.device
    }

    /// Where a byte of the volume lies on the device.
    #[must_use]
    pub fn device_offset(&self, physical: u64) -> Option<u64> {
        self.parts.start.checked_add(physical)
    }

    pub(crate) fn volume_start(&self) -> u64 {
        self.parts.start
    }

    pub(crate) fn block_size(&self) -> u32 {
        self.block_size
    }

    pub(crate) fn queue_key(&self) -> QueueKey {
        self.queue_key
    }

    pub(crate) fn map_context(&self, ino: Ino) -> MapContext {
        MapContext { ino, block_size: self.block_size, volume_start: self.parts.start }
    }

    pub(crate) fn map_of(&self, ino: Ino) -> Result<Arc<ExtentMap>> {
        if self.options.has_lower() {
            // What was true a moment ago need not be.
            return Ok(Arc::new(self.volume().extents(ino)?));
        }
        self.maps.get_or_load(ino, || self.volume().extents(ino)).map_err(FsError::from)
    }

    pub(crate) fn stats_text(&self) -> String {
        let (maps, map_bytes) = self.maps.usage();
        let (cache_bytes, cache_limit) = self.volume().cache_usage();
        let clients = self.client_counters();
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let mut gauges = vec![
            ("clients", "Clients with queues of their own", of(&clients.clients)),
            ("client_queue_pairs", "Queue pairs of clients", of(&clients.queue_pairs)),
            ("client_buffer_bytes", "Memory that clients registered", of(&clients.buffer_bytes)),
            ("client_files", "Files that clients have open", of(&clients.files)),
            ("open_files", "Files that programs have open", extents_core::to_u64(self.handles.count())),
            ("extent_maps", "Extent maps in memory", maps),
            ("extent_map_bytes", "Memory of these maps", map_bytes),
            ("metadata_cache_bytes", "Memory of cached metadata blocks", cache_bytes),
            ("metadata_cache_limit_bytes", "Most that these may take", cache_limit),
        ];
        if let Some(leases) = self.leases.get() {
            gauges.extend(leases.counts());
        }
        let mut text = self.stats.prometheus(&gauges);
        self.write_client_metrics(&mut text);
        text
    }

    fn node(&self, node: NodeId) -> Result<Node> {
        node.resolve(self.root).ok_or(FsError::NotFound)
    }

    /// Whether one of our own files is there now.
    pub(crate) fn has(&self, special: Special) -> bool {
        special != Special::Socket || self.socket().is_some()
    }

    /// Counts an operation, and tells the log where the volume or the device is not well.
    fn counted<T>(&self, op: Op, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let timed = self.stats.begin(op);
        let result = work();
        timed.end(&result);
        if let Err(error) = &result
            && error.is_fault()
        {
            tracing::warn!(source = %self.source, ?op, error = %crate::error_chain(error), "request failed");
        }
        result
    }

    /// Looks `name` up in a directory; `None` where there is no such name, which may be remembered.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Option<NodeAttributes>> {
        self.counted(Op::Lookup, || match self.node(parent)? {
            Node::Special(Special::Directory) => {
                let found = Special::by_name(name).filter(|&found| self.has(found));
                Ok(found.map(special::attributes))
            }
            Node::Special(_) => Err(FsError::NotADirectory),
            Node::Inode(directory) => {
                let ours = directory == self.root && name == Special::DIRECTORY_NAME;
                match self.volume().lookup(directory, name) {
                    Ok(Some(ino)) => self.attributes_of(ino).map(Some),
                    // A real entry of this name on the volume was looked for first, and wins. Where the root cannot
                    // be read any more, ours is what tells about it.
                    Ok(None) | Err(_) if ours => Ok(Some(special::attributes(Special::Directory))),
                    Ok(None) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }

    fn attributes_of(&self, ino: Ino) -> Result<NodeAttributes> {
        let metadata = match self.root_metadata {
            Some(metadata) if ino == self.root => metadata,
            _ => self.volume().metadata(ino)?,
        };
        Ok(NodeAttributes { node: NodeId::of(ino, self.root), metadata })
    }

    /// What `stat` tells about a node.
    pub fn attributes(&self, node: NodeId) -> Result<NodeAttributes> {
        self.counted(Op::GetAttr, || match self.node(node)? {
            Node::Inode(ino) => self.attributes_of(ino),
            Node::Special(special) => Ok(special::attributes(special)),
        })
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        self.counted(Op::ReadLink, || match self.node(node)? {
            Node::Inode(ino) => Ok(self.volume().read_link(ino)?),
            Node::Special(Special::Socket) => {
                self.socket().map(|path| path.as_os_str().as_bytes().to_vec()).ok_or(FsError::NotFound)
            }
            Node::Special(_) => Err(FsError::WrongType),
        })
    }

    /// Opens a regular file, or one of our own. `writes`: the program wants to write, too.
    pub fn open(&self, node: NodeId, writes: bool) -> Result<Opened> {
        self.counted(Op::Open, || match self.node(node)? {
            Node::Inode(_) if writes => Err(FsError::ReadOnly),
            // As the kernel's own mount: not even an empty file opens without its key.
            Node::Inode(ino) if self.volume().metadata(ino)?.flags.contains(InodeFlags::ENCRYPTED) => {
                Err(FsError::Volume(Error::Encrypted(ino)))
            }
            Node::Inode(ino) => {
                let handle = self.handles.add(Handle::File { ino, map: self.map_of(ino)? });
                Ok(Opened { handle, caching: Caching::Keep })
            }
            Node::Special(special) => {
                let (handle, caching) = match special {
                    Special::Control => {
                        (Handle::Control(Mutex::new(Conversation::default())), Caching::Stream)
                    }
                    _ if writes => return Err(FsError::Denied),
                    _ => (Handle::Text(special::text(self, special)), Caching::Uncached),
                };
                Ok(Opened { handle: self.handles.add(handle), caching })
            }
        })
    }

    /// Closes what [`open`](Self::open) gave.
    pub fn release(&self, handle: u64) {
        self.handles.remove(handle);
    }

    /// Reads from an open file and hands the bytes to `deliver` where they lie; fewer than `size` only at the end.
    pub fn read<T>(
        &self,
        handle: u64,
        offset: u64,
        size: u32,
        deliver: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        self.counted(Op::Read, || match &*self.handles.get(handle)? {
            Handle::File { ino, map } => self.read_file(*ino, map, offset, size, deliver),
            Handle::Text(text) => Ok(deliver(special::part(text.as_bytes(), offset, size))),
            Handle::Control(conversation) => {
                Ok(deliver(&conversation.lock().read(usize::try_from(size).unwrap_or(usize::MAX))))
            }
        })
    }

    /// Reads from a file whose map is known, as [`read`](Self::read) does; the caller sees to it that the map holds
    /// meanwhile.
    pub fn read_mapped<T>(
        &self,
        ino: Ino,
        map: &ExtentMap,
        offset: u64,
        size: u32,
        deliver: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        self.counted(Op::Read, || self.read_file(ino, map, offset, size, deliver))
    }

    /// Writes to an open file: only the control file takes any.
    pub fn write(&self, handle: u64, bytes: &[u8], caller: &Caller) -> Result<()> {
        self.counted(Op::Control, || match &*self.handles.get(handle)? {
            Handle::Control(conversation) => conversation.lock().write(self, bytes, caller),
            _ => Err(FsError::ReadOnly),
        })
    }

    /// Carries out one control request and answers with one line of JSON, without a newline, of at most `room`
    /// bytes: the way that also works where the mount is read-only and the control file cannot be written.
    pub fn control(&self, handle: u64, request: &[u8], caller: &Caller, room: usize) -> Result<String> {
        self.counted(Op::Control, || match &*self.handles.get(handle)? {
            Handle::Control(_) => Ok(control::answer(self, request, caller, room)),
            _ => Err(FsError::NotSupported),
        })
    }

    /// Lists a directory from position `from` on (0: the beginning) until `visit` breaks.
    pub fn read_dir(&self, node: NodeId, from: u64, visit: &mut dyn FnMut(Listed<'_>) -> Flow) -> Result<()> {
        self.counted(Op::ReadDir, || match self.node(node)? {
            Node::Special(Special::Directory) => {
                special::list(self, self.root, from, visit);
                Ok(())
            }
            Node::Special(_) => Err(FsError::NotADirectory),
            Node::Inode(ino) => Ok(self.volume().read_dir(ino, from, &mut |entry| {
                let extents_core::DirEntry { name, ino, file_type, next } = entry;
                visit(Listed { name, ino, file_type, next })
            })?),
        })
    }

    /// What `stat` tells about an entry of a listing; `None` where its inode cannot be read, so that one bad inode
    /// does not hide the directory.
    #[must_use]
    pub fn attributes_of_listed(&self, entry: &Listed<'_>) -> Option<NodeAttributes> {
        match NodeId(entry.ino.0).resolve(self.root) {
            Some(Node::Special(special)) => Some(special::attributes(special)),
            _ => self.attributes_of(entry.ino).ok(),
        }
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, node: NodeId, name: &[u8], caller: &Caller) -> Result<Vec<u8>> {
        match self.node(node)? {
            // That an attribute is not there is the common answer, and no error to be counted.
            Node::Special(_) => Err(FsError::NoAttribute),
            Node::Inode(ino) => self.counted(Op::GetXattr, || self.xattr_of(ino, name, caller)),
        }
    }

    /// The names of the volume's extended attributes, each ended by NUL.
    pub fn xattr_names(&self, node: NodeId, caller: &Caller) -> Result<Vec<u8>> {
        match self.node(node)? {
            Node::Special(_) => Ok(Vec::new()),
            Node::Inode(ino) => self.counted(Op::ListXattr, || self.xattr_names_of(ino, caller)),
        }
    }

    /// Finds the next data or the next hole.
    pub fn seek(&self, handle: u64, offset: u64, what: Seek) -> Result<u64> {
        self.counted(Op::Seek, || match &*self.handles.get(handle)? {
            Handle::File { map, .. } if offset < map.size() => match what {
                Seek::Data => map.next_data(offset).ok_or(FsError::NoData),
                Seek::Hole => Ok(map.next_hole(offset)),
            },
            _ => Err(FsError::NoData),
        })
    }

    /// Free and used space of the volume.
    pub fn usage(&self) -> Result<SpaceUsage> {
        self.counted(Op::StatFs, || Ok(self.volume().usage()?))
    }
}
