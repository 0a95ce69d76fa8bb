//! Dataset snapshots, for Python.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use homi_abi::snapshot;
use homi_client::Arena;
use pyo3::exceptions::{PyIndexError, PyKeyError};
use pyo3::prelude::*;

use crate::error::{raise, stale};
use crate::extent::Extent;
use crate::file::{File, open};

/// The files of a tree as `homifs snapshot` wrote them.
#[pyclass(frozen, module = "homifs", mapping)]
#[derive(Debug)]
pub(crate) struct Snapshot {
    arena: Arena,
}

/// A file of a snapshot.
#[pyclass(frozen, get_all, module = "homifs")]
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    /// Its number in the snapshot.
    number: usize,
    /// Relative to the snapshot's root.
    path: PathBuf,
    /// Bytes.
    size: u64,
    /// The generation of the inode.
    generation: u64,
    /// The inode.
    inode: u64,
    /// Where it begins in the namespace of all files, in blocks.
    first_block: u64,
    /// Those of all its extents.
    flags: u32,
}

fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}

impl Snapshot {
    fn file(&self, number: usize, file: &snapshot::File) -> SnapshotFile {
        SnapshotFile {
            number,
            path: path_of(self.arena.view().path(file)),
            size: file.size.get(),
            generation: file.generation.get().into(),
            inode: file.inode.get(),
            first_block: file.first_block.get(),
            flags: file.flags.get(),
        }
    }

    fn lookup(&self, path: &Path) -> PyResult<(usize, &snapshot::File)> {
        let view = self.arena.view();
        let number = view.lookup(path.as_os_str().as_bytes());
        let missing = || PyKeyError::new_err(format!("{} is not in the snapshot", path.display()));
        let number = number.ok_or_else(missing)?;
        Ok((number, view.files().get(number).ok_or_else(missing)?))
    }
}

#[pymethods]
impl Snapshot {
    /// Reads and checks the arena in a file.
    #[new]
    fn new(py: Python<'_>, arena: PathBuf) -> PyResult<Self> {
        let arena = py.detach(|| Arena::read(&arena)).map_err(|error| raise(&error))?;
        Ok(Self { arena })
    }

    /// The path of the snapshot's root on the volume, from / on.
    #[getter]
    fn root(&self) -> PathBuf {
        path_of(self.arena.view().root_path())
    }

    /// Bytes of a block of the file system.
    #[getter]
    fn block_size(&self) -> u32 {
        self.arena.view().header().block_size.get()
    }

    /// Bytes of all files together.
    #[getter]
    fn total_size(&self) -> u64 {
        self.arena.view().header().bytes.get()
    }

    /// When it was taken, in seconds since 1970.
    #[getter]
    fn taken(&self) -> u64 {
        self.arena.view().header().taken.get()
    }

    /// The volume's UUID, 16 bytes.
    #[getter]
    fn volume_uuid(&self) -> [u8; 16] {
        self.arena.view().header().volume_uuid
    }

    /// The paths of all files, relative to the root, in the snapshot's order.
    fn paths(&self) -> Vec<PathBuf> {
        let view = self.arena.view();
        view.files().iter().map(|file| path_of(view.path(file))).collect()
    }

    /// The file with this number.
    fn at(&self, number: usize) -> PyResult<SnapshotFile> {
        let files = self.arena.view().files();
        let file = files.get(number).ok_or_else(|| {
            PyIndexError::new_err(format!("file {number} of a snapshot of {}", files.len()))
        })?;
        Ok(self.file(number, file))
    }

    /// Where the bytes of a file lie.
    fn extents(&self, path: PathBuf) -> PyResult<Vec<Extent>> {
        let (_, file) = self.lookup(&path)?;
        let extents = self.arena.view().extents(file).iter();
        Ok(extents
            .map(|one| Extent::new(one.logical.get(), one.physical.get(), one.length.get(), one.flags.get()))
            .collect())
    }

    /// Opens a file of the snapshot on a mount of its volume, if it is still the same one.
    #[pyo3(signature = (mount, path, *, allow_pread = false))]
    fn open(&self, py: Python<'_>, mount: PathBuf, path: PathBuf, allow_pread: bool) -> PyResult<File> {
        let (_, wanted) = self.lookup(&path)?;
        let root = self.root();
        let place = mount.join(root.strip_prefix("/").unwrap_or(&root)).join(&path);
        let file = open(py, place, allow_pread)?;
        let there = file.identity();
        // The inode's own generation; above it stands how often a file of a writable mount changed.
        let differs = |generation| generation & 0xffff_ffff != u64::from(wanted.generation.get());
        if there.1.is_some_and(differs) || there.0 != wanted.size.get() {
            let (size, was) = (there.0, wanted.size);
            return Err(stale(&format!(
                "{} is not the file of the snapshot: {size} bytes, then {was}; take the snapshot again",
                path.display()
            )));
        }
        Ok(file)
    }

    fn __len__(&self) -> usize {
        self.arena.view().files().len()
    }

    fn __contains__(&self, path: PathBuf) -> bool {
        self.lookup(&path).is_ok()
    }

    fn __getitem__(&self, path: PathBuf) -> PyResult<SnapshotFile> {
        let (number, file) = self.lookup(&path)?;
        Ok(self.file(number, file))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.paths().into_pyobject(py)?.try_iter()?.into_any())
    }

    fn __repr__(&self) -> String {
        let view = self.arena.view();
        format!("<homifs.Snapshot of {:?}, {} files>", self.root(), view.files().len())
    }
}

#[pymethods]
impl SnapshotFile {
    fn __repr__(&self) -> String {
        format!("<homifs.SnapshotFile {:?}, {} bytes>", self.path, self.size)
    }
}
