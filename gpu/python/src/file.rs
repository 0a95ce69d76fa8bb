//! An open file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use homi_client::{Client, ClientError, Fallback, ServedFile};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::fs::{Mode, OFlags};

use crate::buffer::Lent;
use crate::clients::client_of;
use crate::cuda::CudaBytes;
use crate::error::{closed, raise};
use crate::extent::Extent;

/// What is open, and the client that reads it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: ServedFile,
    pub(crate) client: Arc<Client>,
}

/// A file that is read by queues, or by pread(2) where that was allowed.
#[pyclass(frozen, module = "homifs")]
#[derive(Debug)]
pub(crate) struct File {
    opened: Mutex<Option<Arc<Opened>>>,
    path: PathBuf,
    what: What,
}

/// What does not change, and can be asked for after closing, too.
#[derive(Debug, Clone, Copy)]
struct What {
    size: u64,
    block_size: u32,
    generation: Option<u64>,
}

/// Opens a file for reading.
#[pyfunction]
#[pyo3(signature = (path, *, allow_pread = false))]
pub(crate) fn open(py: Python<'_>, path: PathBuf, allow_pread: bool) -> PyResult<File> {
    let fallback = if allow_pread { Fallback::Pread } else { Fallback::Refuse };
    let opened = py.detach(|| open_served(&path, fallback)).map_err(|error| raise(&error))?;
    let file = &opened.file;
    let what = What { size: file.size(), block_size: file.block_size(), generation: file.generation() };
    Ok(File { opened: Mutex::new(Some(Arc::new(opened))), path, what })
}

fn open_served(path: &PathBuf, fallback: Fallback) -> Result<Opened, ClientError> {
    // A pipe at this path must not hold us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| ClientError::System { action: "open the file", source: error.into() })?;
    let client = client_of(&file, fallback)?;
    Ok(Opened { file: client.open_file(file.into())?, client })
}

impl File {
    /// Its size and generation, by which it is known again.
    pub(crate) fn identity(&self) -> (u64, Option<u64>) {
        (self.what.size, self.what.generation)
    }

    /// What is open. Who has it keeps it open until done, whoever closes the file meanwhile.
    pub(crate) fn opened(&self) -> PyResult<Arc<Opened>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or_else(closed)
    }
}

/// Reads into new `bytes`.
pub(crate) fn read_bytes<'py>(
    py: Python<'py>,
    opened: &Opened,
    offset: u64,
    length: Option<u64>,
) -> PyResult<Bound<'py, PyBytes>> {
    let there = opened.file.size().saturating_sub(offset);
    let length = usize::try_from(length.map_or(there, |length| length.min(there))).unwrap_or(usize::MAX);
    let mut got = 0;
    let bytes = PyBytes::new_with(py, length, |target| {
        got =
            py.detach(|| opened.client.read(&opened.file, offset, target)).map_err(|error| raise(&error))?;
        Ok(())
    })?;
    // A file that pread(2) serves may have become shorter.
    let end = got.min(length);
    Ok(if end == length { bytes } else { PyBytes::new(py, &bytes.as_bytes()[..end]) })
}

#[pymethods]
impl File {
    /// Bytes of the file when it was opened.
    #[getter]
    fn size(&self) -> u64 {
        self.what.size
    }

    /// Bytes of a block.
    #[getter]
    fn block_size(&self) -> u32 {
        self.what.block_size
    }

    /// The generation of the file when it was opened; None where it lies on no mount of homifs.
    #[getter]
    fn generation(&self) -> Option<u64> {
        self.what.generation
    }

    /// The path that it was opened by.
    #[getter]
    fn name(&self) -> PathBuf {
        self.path.clone()
    }

    /// "queues" or "pread".
    #[getter]
    fn path_served(&self) -> PyResult<&'static str> {
        Ok(self.opened()?.file.served_by().word())
    }

    /// Why queues do not serve it; "" where they do.
    #[getter]
    fn why(&self) -> PyResult<String> {
        Ok(self.opened()?.file.why().to_owned())
    }

    /// Where its bytes lie now, sorted; what no extent covers is a hole.
    #[getter]
    fn extents(&self, py: Python<'_>) -> PyResult<Vec<Extent>> {
        let opened = self.opened()?;
        let map = py.detach(|| opened.file.extents()).map_err(|error| raise(&error))?;
        let extents = map.extents.iter();
        Ok(extents.map(|one| Extent::new(one.logical, one.physical, one.length, one.flags)).collect())
    }

    /// Reads bytes; all from the offset on where no length is given.
    #[pyo3(signature = (offset = 0, length = None))]
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: Option<u64>) -> PyResult<Bound<'py, PyBytes>> {
        let opened = self.opened()?;
        let bytes = read_bytes(py, &opened, offset, length);
        py.detach(|| drop(opened));
        bytes
    }

    /// Fills memory; how many bytes there were.
    #[pyo3(signature = (buffer, offset = 0))]
    fn read_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, offset: u64) -> PyResult<usize> {
        let opened = self.opened()?;
        let mut lent = Lent::of(buffer)?;
        let target = lent.target();
        let read = py.detach(|| opened.client.read(&opened.file, offset, target));
        read.map_err(|error| raise(&error))
    }

    /// Reads bytes into new memory of a CUDA device; all from the offset on where no length is given.
    #[pyo3(signature = (offset = 0, length = None, *, device = 0))]
    fn read_cuda(
        &self,
        py: Python<'_>,
        offset: u64,
        length: Option<u64>,
        device: usize,
    ) -> PyResult<CudaBytes> {
        let opened = self.opened()?;
        let there = opened.file.size().saturating_sub(offset);
        let length = usize::try_from(length.map_or(there, |length| length.min(there))).unwrap_or(usize::MAX);
        CudaBytes::filled(py, device, length, |target| opened.client.read(&opened.file, offset, target))
    }

    /// Gives the file back. A read that is under way in another thread ends first.
    fn close(&self, py: Python<'_>) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(opened));
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        this.get().opened()?;
        Ok(this)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(usize::try_from(self.what.size)?)
    }

    fn __repr__(&self) -> String {
        let served = self.opened().map_or("closed", |opened| opened.file.served_by().word());
        format!("<homifs.File {:?}, {} bytes, {served}>", self.path, self.what.size)
    }
}
