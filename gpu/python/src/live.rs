//! Snapshots that the daemon of a mount takes, for Python: files are read through one namespace, none is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use homi_client::{Client, ClientError, Fallback, ServedSnapshot, SnapshotRequest, Target};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::fs::{Mode, OFlags};

use crate::buffer::Lent;
use crate::clients::client_of;
use crate::error::raise;

/// All files of a directory of a mount, as they were when it was taken.
#[pyclass(frozen, module = "homifs", mapping)]
#[derive(Debug)]
pub(crate) struct MountSnapshot {
    snapshot: ServedSnapshot,
    client: Arc<Client>,
    directory: PathBuf,
}

/// Takes a snapshot of all regular files below a directory.
#[pyfunction]
pub(crate) fn snapshot(py: Python<'_>, directory: PathBuf) -> PyResult<MountSnapshot> {
    let take = || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let opened = rustix::fs::open(&directory, flags, Mode::empty())
            .map_err(|error| ClientError::System { action: "open the directory", source: error.into() })?;
        let client = client_of(&opened, Fallback::Refuse)?;
        Ok((client.snapshot(&opened)?, client))
    };
    let (snapshot, client) = py.detach(take).map_err(|error| raise(&error))?;
    Ok(MountSnapshot { snapshot, client, directory })
}

impl MountSnapshot {
    fn number_of(&self, path: &Path) -> PyResult<usize> {
        let number = self.snapshot.view().lookup(path.as_os_str().as_bytes());
        number.ok_or_else(|| PyKeyError::new_err(format!("{} is not in the snapshot", path.display())))
    }

    fn size_of(&self, number: usize) -> PyResult<u64> {
        Ok(self.snapshot.file(number).map_err(|error| raise(&error))?.size.get())
    }

    /// Numbers of files, given by their paths.
    fn numbers(&self, files: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
        files.try_iter()?.map(|file| self.number_of(&file?.extract::<PathBuf>()?)).collect()
    }

    /// Where each of these files begins in memory that has them all, and where the last one ends.
    fn layout(&self, numbers: &[usize], align: u64) -> PyResult<(Vec<u64>, u64)> {
        let mut places = Vec::with_capacity(numbers.len());
        let mut end = 0_u64;
        for &number in numbers {
            let start = align.checked_mul(end.div_ceil(align.max(1)));
            let start = start
                .filter(|_| align > 0)
                .ok_or_else(|| PyValueError::new_err("align is 0 or too large"))?;
            places.push(start);
            let next = start.checked_add(self.size_of(number)?);
            end = next.ok_or_else(|| PyValueError::new_err("no memory has room for all of them"))?;
        }
        Ok((places, end))
    }

    /// Fills all of these, and refuses what came short.
    fn fill(&self, mut requests: Vec<SnapshotRequest<'_>>) -> Result<(), ClientError> {
        let wanted: Vec<usize> = requests.iter().map(|request| request.target.length()).collect();
        let results = self.client.read_snapshot(&self.snapshot, &mut requests);
        for (result, wanted) in results.into_iter().zip(wanted) {
            let came = result?;
            if came != wanted {
                return Err(ClientError::Protocol(format!("{came} bytes of a file of {wanted}")));
            }
        }
        Ok(())
    }
}

#[pymethods]
impl MountSnapshot {
    /// The directory that it was taken of.
    #[getter]
    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// "queues": nothing else serves a snapshot.
    #[getter]
    fn path_served(&self) -> &'static str {
        self.client.served_by().word()
    }

    /// Bytes of all files together.
    #[getter]
    fn total_size(&self) -> u64 {
        self.snapshot.view().header().bytes.get()
    }

    /// Files and directories that are left out.
    #[getter]
    fn left_out(&self) -> u64 {
        self.snapshot.left_out()
    }

    /// Whether nothing was taken back.
    #[getter]
    fn held(&self) -> bool {
        self.snapshot.namespace().is_held()
    }

    /// The paths of all files, relative to the directory, in the snapshot's order.
    fn paths(&self) -> Vec<PathBuf> {
        let view = self.snapshot.view();
        view.files().iter().map(|file| Path::new(OsStr::from_bytes(view.path(file))).to_owned()).collect()
    }

    /// Bytes of all files, in the same order.
    fn sizes(&self) -> Vec<u64> {
        self.snapshot.view().files().iter().map(|file| file.size.get()).collect()
    }

    /// Bytes of a file.
    fn size(&self, path: PathBuf) -> PyResult<u64> {
        self.size_of(self.number_of(&path)?)
    }

    /// Bytes of memory that `read_into` needs for these files.
    #[pyo3(signature = (paths, *, align = 1))]
    fn room(&self, paths: &Bound<'_, PyAny>, align: u64) -> PyResult<u64> {
        Ok(self.layout(&self.numbers(paths)?, align)?.1)
    }

    /// Reads a file into new `bytes`.
    fn read<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
        let number = self.number_of(&path)?;
        let length = usize::try_from(self.size_of(number)?)?;
        PyBytes::new_with(py, length, |target| {
            let target: Target<'_> = target.into();
            let requests = vec![SnapshotRequest { number, offset: 0, target }];
            py.detach(|| self.fill(requests)).map_err(|error| raise(&error))
        })
    }

    /// Reads whole files into one memory, each at a multiple of `align` behind the one before; where each begins.
    #[pyo3(signature = (buffer, paths, *, align = 1))]
    fn read_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        paths: &Bound<'_, PyAny>,
        align: u64,
    ) -> PyResult<Vec<u64>> {
        let numbers = self.numbers(paths)?;
        let (places, end) = self.layout(&numbers, align)?;
        let mut lent = Lent::of(buffer)?;
        let mut rest = lent.target();
        let there = u64::try_from(rest.length()).unwrap_or(u64::MAX);
        if end > there {
            return Err(PyValueError::new_err(format!("the files need {end} bytes, the memory has {there}")));
        }
        let mut requests = Vec::with_capacity(numbers.len());
        let mut at = 0;
        for (&number, &place) in numbers.iter().zip(&places) {
            let size = self.size_of(number)?;
            // All of it lies within the memory.
            let _gap = rest.split_off_front(usize::try_from(place - at)?);
            let target = rest.split_off_front(usize::try_from(size)?);
            requests.push(SnapshotRequest { number, offset: 0, target });
            at = place + size;
        }
        py.detach(|| self.fill(requests)).map_err(|error| raise(&error))?;
        Ok(places)
    }

    fn __len__(&self) -> usize {
        self.snapshot.view().files().len()
    }

    fn __contains__(&self, path: PathBuf) -> bool {
        self.number_of(&path).is_ok()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.paths().into_pyobject(py)?.try_iter()?.into_any())
    }

    fn __repr__(&self) -> String {
        let files = self.snapshot.view().files().len();
        format!("<homifs.MountSnapshot of {:?}, {files} files, {}>", self.directory, self.path_served())
    }
}
