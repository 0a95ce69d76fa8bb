//! The walk over a tree.

use std::fmt;
use std::time::SystemTime;

use extents_core::{Error, FileSystem, FileType, Flow, Ino, InodeFlags, Metadata, to_u64};
use homi_abi::snapshot::{FILES_MAX, PATH_MAX, PathHash};
use rustc_hash::FxHashSet;

use crate::collect::Collected;
use crate::{Snapshot, SnapshotError};

/// Names of a directory that are looked at before the next are read.
const BATCH: usize = 4096;

/// How large a snapshot may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most files; also most directories.
    pub files: u64,
    /// Most bytes of the arena.
    pub bytes: u64,
}

impl Default for Limits {
    /// 16 million files, 4 GiB.
    fn default() -> Self {
        Self { files: 16 << 20, bytes: 4 << 30 }
    }
}

/// What a walk has come by so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files, once for each name.
    pub files: u64,
    /// Directories that were listed, the root among them.
    pub directories: u64,
    /// Symbolic links, left out.
    pub links: u64,
    /// Devices, pipes and sockets, left out.
    pub specials: u64,
    /// Files and directories left out because the caller may not read them.
    pub denied: u64,
    /// Files and directories left out because they are damaged, encrypted, or have paths longer than a system call
    /// takes.
    pub unreadable: u64,
}

/// Whether the caller may read a file, or list and search a directory.
type MayRead<'a> = Box<dyn FnMut(&Metadata) -> bool + 'a>;
type Watch<'a> = Box<dyn FnMut(&Counts) -> Flow + 'a>;
type Complain<'a> = Box<dyn FnMut(&[u8], &Error) + 'a>;

/// What to take a snapshot of, and how.
pub struct Request<'a> {
    pub(crate) fs: &'a dyn FileSystem,
    pub(crate) root: Ino,
    pub(crate) root_path: Vec<u8>,
    pub(crate) volume_start: u64,
    pub(crate) taken: SystemTime,
    limits: Limits,
    may_read: MayRead<'a>,
    watch: Watch<'a>,
    complain: Complain<'a>,
}

impl<'a> Request<'a> {
    /// Of the directory `root`, whose path on the volume is `root_path`.
    #[must_use]
    pub fn new(fs: &'a dyn FileSystem, root: Ino, root_path: &[u8]) -> Self {
        let trimmed = root_path.iter().position(|&byte| byte != b'/').and_then(|at| root_path.get(at..));
        Self {
            fs,
            root,
            root_path: [b"/", trimmed.unwrap_or_default()].concat(),
            volume_start: 0,
            taken: SystemTime::now(),
            limits: Limits::default(),
            may_read: Box::new(|_| true),
            watch: Box::new(|_| Flow::Continue(())),
            complain: Box::new(|_, _| {}),
        }
    }

    /// The byte of the device where the volume starts.
    #[must_use]
    pub fn volume_start(self, volume_start: u64) -> Self {
        Self { volume_start, ..self }
    }

    /// The time that the snapshot is said to be of; else it is now.
    #[must_use]
    pub fn taken(self, taken: SystemTime) -> Self {
        Self { taken, ..self }
    }

    /// How large it may become.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Asks for each regular file whether it may be read, and for each directory, the root too, whether it may be listed
    /// and searched. What may not is left out and counted; so is everything below such a directory.
    #[must_use]
    pub fn may_read(self, may_read: impl FnMut(&Metadata) -> bool + 'a) -> Self {
        Self { may_read: Box::new(may_read), ..self }
    }

    /// Tells how far it is, at least every 4096 names and once for each directory; a break cancels it.
    #[must_use]
    pub fn watch(self, watch: impl FnMut(&Counts) -> Flow + 'a) -> Self {
        Self { watch: Box::new(watch), ..self }
    }

    /// Tells the path, relative to the root, of what is left out because it is damaged, and why.
    #[must_use]
    pub fn complain(self, complain: impl FnMut(&[u8], &Error) + 'a) -> Self {
        Self { complain: Box::new(complain), ..self }
    }

    /// Walks.
    pub(crate) fn walk(&mut self) -> Result<(Collected, Counts, Metadata), SnapshotError> {
        let shown = String::from_utf8_lossy(&self.root_path).into_owned();
        let metadata = self.fs.metadata(self.root);
        let root = metadata.map_err(|source| SnapshotError::Volume { path: shown.clone(), source })?;
        if !root.is_directory() {
            return Err(SnapshotError::NotADirectory(shown));
        }
        let collected = Collected::new(&self.root_path);
        let block_size = self.fs.info().block_size;
        let mut walk = Walk { request: self, collected, counts: Counts::default(), block_size };
        walk.tree(root)?;
        Ok((walk.collected, walk.counts, root))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("root", &self.root)
            .field("root_path", &String::from_utf8_lossy(&self.root_path))
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Takes a snapshot.
    ///
    /// # Errors
    /// Where the root is no directory, a limit is passed, the device does not deliver, or it was cancelled.
    pub fn take(mut request: Request<'_>) -> Result<Self, SnapshotError> {
        let (collected, counts, root) = request.walk()?;
        Ok(Self::of(collected, counts, &root, &request))
    }
}

/// A directory that is still to be listed.
struct Waiting {
    ino: Ino,
    /// Its path and a slash; nothing for the root.
    path: Vec<u8>,
    /// Of `path`.
    hash: PathHash,
}

/// Names of a directory, one behind the other.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    /// Inode, end of the name in `bytes`, and whether it is known to be a directory.
    entries: Vec<(Ino, usize, bool)>,
}

struct Walk<'r, 'a> {
    request: &'r mut Request<'a>,
    collected: Collected,
    counts: Counts,
    block_size: u32,
}

impl Walk<'_, '_> {
    fn tree(&mut self, root: Metadata) -> Result<(), SnapshotError> {
        // A damaged volume may have circles; each directory counts once.
        let mut seen = FxHashSet::from_iter([root.ino]);
        let mut waiting = Vec::new();
        if self.may_enter(&root) {
            waiting.push(Waiting { ino: root.ino, path: Vec::new(), hash: PathHash::new() });
        }
        let mut names = Names::default();
        while let Some(directory) = waiting.pop() {
            self.counts.directories += 1;
            let mut from = Some(0);
            while let Some(at) = from {
                match self.list(&directory, at, &mut names) {
                    Ok(next) => from = next,
                    Err(error) => {
                        self.left_out(directory.path.strip_suffix(b"/").unwrap_or_default(), error)?;
                        from = None;
                    }
                }
                self.look_at(&directory, &mut names, &mut seen, &mut waiting)?;
                self.check()?;
            }
        }
        Ok(())
    }

    fn may_enter(&mut self, directory: &Metadata) -> bool {
        let may = (self.request.may_read)(directory);
        self.counts.denied += u64::from(!may);
        may
    }

    /// Reads a batch of names; where to go on, if there may be more.
    fn list(&mut self, directory: &Waiting, from: u64, names: &mut Names) -> Result<Option<u64>, Error> {
        let (counts, mut next) = (&mut self.counts, None);
        names.bytes.clear();
        names.entries.clear();
        self.request.fs.read_dir(directory.ino, from, &mut |entry| {
            if entry.name == b"." || entry.name == b".." {
                return Flow::Continue(());
            }
            match entry.file_type {
                None | Some(FileType::Regular | FileType::Directory) => {
                    let is_directory = entry.file_type == Some(FileType::Directory);
                    names.bytes.extend_from_slice(entry.name);
                    names.entries.push((entry.ino, names.bytes.len(), is_directory));
                }
                Some(FileType::Symlink) => counts.links += 1,
                Some(_) => counts.specials += 1,
            }
            if names.entries.len() < BATCH {
                return Flow::Continue(());
            }
            next = Some(entry.next);
            Flow::Break(())
        })?;
        // A position that does not move would be read for ever.
        Ok(next.filter(|&next| next != from))
    }

    fn look_at(
        &mut self,
        directory: &Waiting,
        names: &mut Names,
        seen: &mut FxHashSet<Ino>,
        waiting: &mut Vec<Waiting>,
    ) -> Result<(), SnapshotError> {
        let mut start = 0;
        for &(ino, end, is_directory) in &names.entries {
            let name = names.bytes.get(start..end).unwrap_or_default();
            start = end;
            let path = [&directory.path[..], name];
            if directory.path.len() + name.len() > PATH_MAX {
                self.counts.unreadable += 1;
                continue;
            }
            let inspected = if is_directory {
                self.request.fs.metadata(ino).map(|metadata| (metadata, None))
            } else {
                self.request.fs.inspect(ino).map(|(metadata, map)| (metadata, Some(map)))
            };
            match inspected {
                Err(error) => self.left_out(&path.concat(), error)?,
                Ok((metadata, map)) => match (metadata.file_type, map) {
                    (FileType::Directory, _) => {
                        if to_u64(seen.len()) >= self.request.limits.files {
                            return Err(SnapshotError::TooManyFiles(self.request.limits.files));
                        }
                        if seen.insert(ino) && self.may_enter(&metadata) {
                            let path = [&directory.path[..], name, b"/"].concat();
                            waiting.push(Waiting { ino, path, hash: directory.hash.with(name).with(b"/") });
                        }
                    }
                    (FileType::Regular, Some(map)) => {
                        if metadata.flags.contains(InodeFlags::ENCRYPTED) {
                            self.left_out(&path.concat(), Error::Encrypted(ino))?;
                        } else if (self.request.may_read)(&metadata) {
                            let hash = directory.hash.with(name).finish();
                            if self.collected.file(path, hash, &metadata, &map, self.block_size) {
                                self.counts.files += 1;
                            } else {
                                self.left_out(&path.concat(), Error::TooLarge(ino, u64::MAX))?;
                            }
                        } else {
                            self.counts.denied += 1;
                        }
                    }
                    // The name says that it is a directory, the inode that it is a file.
                    (FileType::Regular, None) => {
                        self.left_out(&path.concat(), Error::NotADirectory(ino))?;
                    }
                    (FileType::Symlink, _) => self.counts.links += 1,
                    _ => self.counts.specials += 1,
                },
            }
        }
        Ok(())
    }

    /// Damage costs the damaged file; a device that is gone costs the snapshot.
    fn left_out(&mut self, path: &[u8], error: Error) -> Result<(), SnapshotError> {
        if let Error::Read(_) = error {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(SnapshotError::Volume { path, source: error });
        }
        self.counts.unreadable += 1;
        (self.request.complain)(path, &error);
        Ok(())
    }

    fn check(&mut self) -> Result<(), SnapshotError> {
        let Limits { files, bytes } = self.request.limits;
        let most = files.min(FILES_MAX);
        if self.counts.files > most {
            return Err(SnapshotError::TooManyFiles(most));
        }
        if self.collected.bytes() > bytes {
            return Err(SnapshotError::TooLarge(bytes));
        }
        match (self.request.watch)(&self.counts) {
            Flow::Continue(()) => Ok(()),
            Flow::Break(()) => Err(SnapshotError::Cancelled),
        }
    }
}
