//! Memory that commands write to without a copy: new memory of the host's, or a dma-buf, an accelerator's own for example.

use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use homi_client::{BufferKind, Client, ClientError, Command, Fallback, NvmeStatus, OpenFile, QueuePair};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::fs::{Mode, OFlags};

use crate::clients::client_of;
use crate::error::{closed, no_sense, raise};
use crate::file::File;

/// Entries of the queue that fills it.
const ENTRIES: u32 = 64;
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory that is registered with the daemon of a mount, and a queue pair whose commands name it.
#[pyclass(frozen, module = "homifs")]
#[derive(Debug)]
pub(crate) struct Buffer {
    registered: Mutex<Option<Registered>>,
    kind: BufferKind,
    length: usize,
}

#[derive(Debug)]
struct Registered {
    pair: QueuePair,
    buffer: homi_client::Buffer,
    client: Arc<Client>,
    /// Most bytes of a command.
    transfer: u64,
    /// A command was not answered: it may still write to the memory, and nobody knows when.
    lost: bool,
}

impl Registered {
    fn new(mount: &PathBuf, length: usize, dma_buf: Option<RawFd>) -> Result<Self, ClientError> {
        let system =
            |action| move |error: rustix::io::Errno| ClientError::System { action, source: error.into() };
        // First, before anything opened here can have the number of one that the program closed.
        let dma_buf = dma_buf
            .map(|number| {
                // SAFETY: It is only used to be duplicated, at once; where nothing is open by this number, the system says so.
                let lent = unsafe { BorrowedFd::borrow_raw(number) };
                rustix::io::fcntl_dupfd_cloexec(lent, 0).map_err(system("duplicate the descriptor"))
            })
            .transpose()?;
        let mount = rustix::fs::open(mount, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(system("open the mount"))?;
        let client = client_of(&mount, Fallback::Refuse)?;
        let session = client.session().ok_or(ClientError::Gone)?;
        let limits = session.limits();
        if !limits.sgl {
            return Err(ClientError::Protocol("it knows no SGLs, by which this memory is named".into()));
        }
        let buffer = match dma_buf {
            None => session.buffer(length)?,
            Some(own) => session.register_dma_buf(own, length)?,
        };
        let pair = session.queues(1, ENTRIES.min(limits.entries))?.pair(0);
        let pair = pair.ok_or_else(|| ClientError::Protocol("it gave no queue".into()))?;
        Ok(Self { pair, buffer, client, transfer: limits.transfer.into(), lost: false })
    }

    /// Reads `blocks` blocks from block `first` on to byte `at` of the memory.
    fn read(&mut self, file: &OpenFile, first: u64, blocks: u64, at: u64) -> Result<(), ClientError> {
        let most = (self.transfer >> file.block_shift()).max(1);
        let (mut started, mut failed) = (0, None);
        while (started < blocks && failed.is_none()) || self.pair.in_flight() > 0 {
            while started < blocks && failed.is_none() {
                let count = (blocks - started).min(most);
                let command = Command {
                    nsid: file.nsid(),
                    block: first + started,
                    blocks: u32::try_from(count).unwrap_or(u32::MAX),
                    iova: self.buffer.iova() + at + (started << file.block_shift()),
                    length: u32::try_from(count << file.block_shift()).unwrap_or(u32::MAX),
                };
                if self.pair.read(command).is_none() {
                    break;
                }
                started += count;
            }
            self.lost = true;
            self.pair.ring()?;
            let status = self.answer()?;
            if status != NvmeStatus::SUCCESS {
                let (offset, length) = (first << file.block_shift(), blocks << file.block_shift());
                failed.get_or_insert(ClientError::Command { offset, length, status });
            }
            self.lost = self.pair.in_flight() > 0;
        }
        failed.map_or(Ok(()), Err)
    }

    fn answer(&mut self) -> Result<NvmeStatus, ClientError> {
        let start = Instant::now();
        loop {
            if let Some(done) = self.pair.reap() {
                return Ok(done.status);
            }
            if start.elapsed() > PATIENCE {
                return Err(ClientError::Late(PATIENCE));
            }
            thread::yield_now();
        }
    }
}

#[pymethods]
impl Buffer {
    #[new]
    #[pyo3(signature = (mount, length, *, dma_buf = None))]
    fn new(py: Python<'_>, mount: PathBuf, length: usize, dma_buf: Option<RawFd>) -> PyResult<Self> {
        if dma_buf.is_some_and(|number| number < 0) {
            return Err(no_sense("a descriptor is no negative number"));
        }
        let made = py.detach(|| Registered::new(&mount, length, dma_buf)).map_err(|error| raise(&error))?;
        let (kind, length) = (made.buffer.kind(), made.buffer.memory().length());
        Ok(Self { registered: Mutex::new(Some(made)), kind, length })
    }

    /// "dma-buf" or "host".
    #[getter]
    fn kind(&self) -> &'static str {
        match self.kind {
            BufferKind::Host => "host",
            BufferKind::DmaBuf => "dma-buf",
        }
    }

    /// Fills it from byte `at` on; how many bytes there were.
    #[pyo3(signature = (file, offset = 0, length = None, *, at = 0))]
    fn read(
        &self,
        py: Python<'_>,
        file: &Bound<'_, File>,
        offset: u64,
        length: Option<u64>,
        at: u64,
    ) -> PyResult<u64> {
        let opened = file.get().opened()?;
        let Some(namespace) = opened.file.namespace() else {
            return Err(no_sense(format!(
                "only queues fill this memory, and the file has none: {}",
                opened.file.why()
            )));
        };
        let (block, room) =
            (u64::from(namespace.block_size()), u64::try_from(self.length)?.saturating_sub(at));
        let there = namespace.size().saturating_sub(offset);
        let wanted = length.unwrap_or(there).min(there);
        let whole = wanted.next_multiple_of(block);
        if !offset.is_multiple_of(block) || !at.is_multiple_of(4) || whole > room {
            return Err(no_sense(format!(
                "commands bring whole blocks of {block} bytes to multiples of 4: {wanted} bytes from byte {offset} on do not \
                 fit at byte {at} of {}",
                self.length
            )));
        }
        let read = py.detach(|| {
            let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(registered) = registered.as_mut() else { return Ok(None) };
            if registered.lost {
                return Err(ClientError::Invalid(
                    "a command of this memory was never answered; register it anew".into(),
                ));
            }
            if !Arc::ptr_eq(&registered.client, &opened.client) {
                return Err(ClientError::Invalid(
                    "the file is of another mount or session; open it by homifs.open(path) without allow_pread".into(),
                ));
            }
            registered.read(namespace, offset / block, whole / block, at).map(Some)
        });
        read.map_err(|error| raise(&error))?.ok_or_else(closed)?;
        Ok(wanted)
    }

    /// Its bytes, copied, as this process sees them.
    #[pyo3(signature = (at = 0, length = None))]
    fn copy<'py>(&self, py: Python<'py>, at: usize, length: Option<usize>) -> PyResult<Bound<'py, PyBytes>> {
        let registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = registered.as_ref().ok_or_else(closed)?.buffer.memory();
        let there = self.length.saturating_sub(at);
        PyBytes::new_with(py, length.unwrap_or(there).min(there), |target| {
            if !target.is_empty() {
                memory.read(at, target);
            }
            Ok(())
        })
    }

    /// Gives it back; from then on nothing writes there.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.registered.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }

    fn __len__(&self) -> usize {
        self.length
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<homifs.Buffer, {} bytes, {}>", self.length, self.kind())
    }
}
