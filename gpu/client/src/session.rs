//! A client's session with the daemon of one mount.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use homi_abi::session::{
    self, BufferReply, BufferRequest, CloseRequest, FileReply, Handle, IdentifyReply, IdentifyRequest,
    LEASE_HELD, LEASE_STATE, Message, Queues, QueuesRequest, Status, Welcome, kind,
};
use rustix::fs::fgetxattr;
use rustix::process::{Pid, getpid};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::file::OpenFile;
use crate::memory::Shared;
use crate::queue::{QueuePlaces, QueueSet};
use crate::reader::Reader;
use crate::snapshot::Snapshot;
use crate::socket::{Answer, Socket};
use crate::writer::Writer;
use crate::{ClientError, mount};

/// What the daemon allows this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes registered as buffers, all together.
    pub buffer_bytes: u64,
    /// Most buffers.
    pub buffers: u32,
    /// Most queue pairs, all together.
    pub queues: u32,
    /// Most entries of one queue.
    pub entries: u32,
    /// Most files open at a time.
    pub files: u32,
    /// Longest transfer of one command in bytes.
    pub transfer: u32,
    /// What buffers are multiples of.
    pub page: u32,
    /// Whether commands may name data by SGL data block descriptors.
    pub sgl: bool,
}

/// A session: it lasts as long as this, its files, buffers and queues are in use.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    socket: Mutex<Socket>,
    client: u64,
    limits: Limits,
    status: Shared,
    wake: OwnedFd,
    /// The process that made it. A child has the socket and the queues, too, but must not use them.
    owner: Pid,
}

/// What memory commands write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferKind {
    /// The host's; for an accelerator's own it has to be copied on.
    Host,
    /// That of a dma-buf, which the daemon's processor writes through a mapping.
    DmaBuf,
}

/// Memory that commands may name.
#[derive(Debug)]
pub struct Buffer {
    session: Arc<Inner>,
    memory: Arc<Shared>,
    reply: BufferReply,
}

impl Session {
    /// A session with the daemon that serves the mount of an open file.
    ///
    /// # Errors
    /// Where the file lies on no mount of homifs, or its daemon takes no clients.
    pub fn of_file(file: impl AsFd) -> Result<Self, ClientError> {
        Self::connect(&mount::socket_of(file)?)
    }

    /// A session with the daemon that listens at `socket`.
    ///
    /// # Errors
    /// Where nobody listens there, or the daemon refuses.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let mut socket = Socket::connect(socket)?;
        let Answer { body: welcome, descriptors }: Answer<Welcome> = socket.ask(kind::HELLO, &(), &[])?;
        let [status, wake] = <[OwnedFd; 2]>::try_from(descriptors)
            .map_err(|_| ClientError::Protocol("it did not hand over the status page".into()))?;
        let length = usize::try_from(welcome.status_length.get()).unwrap_or(0);
        let words = usize::try_from(welcome.lease_slots.get()).unwrap_or(usize::MAX);
        if length < size_of::<Status>().saturating_add(words.saturating_mul(8)) {
            return Err(ClientError::Protocol("its status page is too short".into()));
        }
        let status = Shared::map_read_only(status, length)
            .map_err(|source| ClientError::System { action: "map the status page", source })?;
        let limits = Limits {
            buffer_bytes: welcome.max_buffer_bytes.get(),
            buffers: welcome.max_buffers.get(),
            queues: welcome.max_queues.get(),
            entries: welcome.max_entries.get(),
            files: welcome.lease_slots.get(),
            transfer: welcome.max_transfer.get(),
            page: welcome.page_size.get(),
            sgl: welcome.flags.get() & session::WELCOME_SGL != 0,
        };
        let inner = Inner {
            socket: Mutex::new(socket),
            client: welcome.client.get(),
            limits,
            status,
            wake,
            owner: getpid(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends the session at once, whoever still has parts of it: the daemon takes everything back, and commands are not
    /// answered any more.
    pub fn end(&self) {
        self.inner.socket.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The word that is not 0 while the daemon sleeps: who rings then calls [`wake`](Self::wake), or has the daemon look
    /// by itself a millisecond later. It can only be read.
    #[must_use]
    pub fn asleep_word(&self) -> *const u32 {
        self.inner.status.u32_at(session::ASLEEP).as_ptr().cast_const()
    }

    /// Wakes the daemon.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn wake(&self) -> Result<(), ClientError> {
        self.inner.wake()
    }

    /// Whether it can still be used: by this process, and with a daemon that is there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.inner.check_owner().is_ok() && !self.inner.is_gone()
    }

    /// The daemon's number for this client.
    #[must_use]
    pub fn client(&self) -> u64 {
        self.inner.client
    }

    /// What the daemon allows.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Makes an open file a namespace of this session.
    ///
    /// # Errors
    /// Where the file gives no handle (it lies elsewhere, or may not be read), or the daemon refuses.
    pub fn open(&self, file: impl AsFd) -> Result<OpenFile, ClientError> {
        self.open_handle(&handle_of(file, c"homi.handle")?)
    }

    /// Makes an open file of a writable mount a namespace that can be written, too. It takes the file back from everybody
    /// who reads its blocks, and nobody gets them as long as it is open; reads see what was written, by whomever.
    ///
    /// # Errors
    /// As for [`open`](Self::open); and where the mount is read-only or this process may not write the file.
    pub fn open_to_write(&self, file: impl AsFd) -> Result<OpenFile, ClientError> {
        self.open_handle(&handle_of(file, c"homi.handle.write")?)
    }

    /// As [`open`](Self::open), with a handle that was asked for elsewhere.
    ///
    /// # Errors
    /// Where the daemon refuses: the handle is forged, expired, of another mount, or of a file that this process may
    /// not read.
    pub fn open_handle(&self, handle: &Handle) -> Result<OpenFile, ClientError> {
        let reply: FileReply = self.inner.ask(kind::OPEN, handle, None)?.body;
        OpenFile::new(Arc::clone(&self.inner), &reply)
    }

    /// Makes all files below an open directory, as far as this process may read them, one namespace, with an arena that
    /// says where each lies. The daemon walks the tree meanwhile, some 100 000 files a second.
    ///
    /// # Errors
    /// Where the directory gives no handle, or the daemon refuses: the tree is larger than the mount's option
    /// `client_snapshots` allows, for example.
    pub fn snapshot(&self, directory: impl AsFd) -> Result<Snapshot, ClientError> {
        self.snapshot_of_handle(&handle_of(directory, c"homi.handle")?)
    }

    /// As [`snapshot`](Self::snapshot), with a handle that was asked for elsewhere.
    ///
    /// # Errors
    /// As there, and where the handle is forged, expired or of another mount.
    pub fn snapshot_of_handle(&self, handle: &Handle) -> Result<Snapshot, ClientError> {
        let mut socket = self.inner.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = socket.ask_slowly(kind::SNAPSHOT, handle)?;
        drop(socket);
        Snapshot::new(Arc::clone(&self.inner), answer)
    }

    /// Registers memory, all of it, as the target of commands.
    ///
    /// # Errors
    /// Where its length is no multiple of the page size, or the daemon's limits are reached.
    pub fn register(&self, memory: Arc<Shared>) -> Result<Buffer, ClientError> {
        let length = u64::try_from(memory.length()).unwrap_or(u64::MAX);
        let request = BufferRequest { offset: 0.into(), length: length.into() };
        let reply: BufferReply = self.inner.ask(kind::BUFFER, &request, Some(memory.as_fd()))?.body;
        if reply.length.get() != length {
            return Err(ClientError::Protocol("it registered another length".into()));
        }
        Ok(Buffer { session: Arc::clone(&self.inner), memory, reply })
    }

    /// Registers `length` bytes of a dma-buf, memory of an accelerator's own for example, as the target of commands.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the daemon's engine cannot write there: register host memory then, and copy on. Otherwise as
    /// [`register`](Self::register), or where the dma-buf cannot be mapped.
    pub fn register_dma_buf(&self, dma_buf: OwnedFd, length: usize) -> Result<Buffer, ClientError> {
        let memory = Shared::map(dma_buf, length)
            .map_err(|source| ClientError::System { action: "map the dma-buf", source })?;
        self.register(Arc::new(memory))
    }

    /// New memory of at least `length` bytes, registered.
    ///
    /// # Errors
    /// As [`register`](Self::register), or where the system has no memory.
    pub fn buffer(&self, length: usize) -> Result<Buffer, ClientError> {
        let page = usize::try_from(self.inner.limits.page).unwrap_or(4096).max(1);
        let length = length.max(1).next_multiple_of(page);
        let memory = Shared::new(c"homi-buffer", length)
            .map_err(|source| ClientError::System { action: "make memory to share", source })?;
        self.register(Arc::new(memory))
    }

    /// `count` queue pairs of `entries` entries each.
    ///
    /// # Errors
    /// Where the daemon's limits are reached, or `entries` is no power of two.
    pub fn queues(&self, count: u32, entries: u32) -> Result<QueueSet, ClientError> {
        let request = QueuesRequest { count: count.into(), entries: entries.into() };
        let Answer { body: queues, descriptors }: Answer<Queues> =
            self.inner.ask(kind::QUEUES, &request, None)?;
        let [memory, doorbells] = <[OwnedFd; 2]>::try_from(descriptors)
            .map_err(|_| ClientError::Protocol("it did not hand over the queues".into()))?;
        let places = QueuePlaces::checked(&queues, &request)?;
        let map = |memory, length| {
            let mapped = Shared::map(memory, length);
            mapped.map(Arc::new).map_err(|source| ClientError::System { action: "map the queues", source })
        };
        let (memory, doorbells) = (map(memory, places.length)?, map(doorbells, places.doorbells_length)?);
        Ok(QueueSet::new(Arc::clone(&self.inner), memory, doorbells, places))
    }

    /// A reader with a queue pair and `staging` bytes of memory of its own: the plain way for a thread of this process.
    ///
    /// # Errors
    /// Where the daemon's limits are reached.
    pub fn reader(&self, staging: usize) -> Result<Reader, ClientError> {
        Reader::new(self, staging, !self.inner.limits.sgl)
    }

    /// As [`reader`](Self::reader), whose commands name memory by PRPs also where the daemon knows SGLs.
    ///
    /// # Errors
    /// As there.
    pub fn reader_by_prp(&self, staging: usize) -> Result<Reader, ClientError> {
        Reader::new(self, staging, true)
    }

    /// A writer with a queue pair and `staging` bytes of memory of its own.
    ///
    /// # Errors
    /// Where the daemon's limits are reached.
    pub fn writer(&self, staging: usize) -> Result<Writer, ClientError> {
        Writer::new(self, staging, !self.inner.limits.sgl)
    }

    /// As [`writer`](Self::writer), whose commands name memory by PRPs also where the daemon knows SGLs.
    ///
    /// # Errors
    /// As there.
    pub fn writer_by_prp(&self, staging: usize) -> Result<Writer, ClientError> {
        Writer::new(self, staging, true)
    }
}

impl Session {
    /// What an NVMe controller tells of a namespace of this session, a file's or a snapshot's: the first bytes of the Identify
    /// Namespace data structure (NVM Command Set Specification, section 4.1.5.1), for those who have a driver's way of reading
    /// it. Sizes and blocks are known without it.
    ///
    /// # Errors
    /// `ENOENT` where the session has none of this number.
    pub fn identify(&self, nsid: u32) -> Result<[u8; 384], ClientError> {
        let request = IdentifyRequest { nsid: nsid.into(), reserved: 0.into() };
        Ok(self.inner.ask::<_, IdentifyReply>(kind::IDENTIFY, &request, None)?.body.data)
    }
}

/// What this attribute of an open file gives.
fn handle_of(file: impl AsFd, name: &CStr) -> Result<Handle, ClientError> {
    let mut handle = Handle::default();
    let length = fgetxattr(file, name, handle.as_mut_bytes()).map_err(ClientError::system(
        "get the file's handle; it must lie on a mount of homifs, and this process must be allowed what it asks for",
    ))?;
    if length != size_of::<Handle>() {
        return Err(ClientError::Protocol(format!("a handle of {length} bytes")));
    }
    Ok(handle)
}

impl Inner {
    fn ask<Q, A>(
        &self,
        kind: u16,
        request: &Q,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Answer<A>, ClientError>
    where
        Q: IntoBytes + Immutable,
        A: FromBytes + KnownLayout + Immutable,
    {
        const { assert!(size_of::<Q>() + size_of::<Message>() <= session::MESSAGE_MAX) };
        self.check_owner()?;
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.ask(kind, request, descriptor.as_slice())
    }

    /// Refuses a child of the process that made the session: both would answer for each other's commands.
    pub(crate) fn check_owner(&self) -> Result<(), ClientError> {
        if getpid() == self.owner {
            return Ok(());
        }
        Err(ClientError::Invalid(format!(
            "the session belongs to process {}, of which this is a fork; begin one of its own here",
            self.owner
        )))
    }

    /// Gives a namespace back.
    pub(crate) fn close(&self, nsid: u32) -> Result<(), ClientError> {
        let request = CloseRequest { nsid: nsid.into(), reserved: 0.into() };
        self.ask::<_, ()>(kind::CLOSE, &request, None).map(drop)
    }

    /// Whether the daemon sleeps, and must be woken.
    pub(crate) fn is_asleep(&self) -> bool {
        self.status.u32_at(session::ASLEEP).load(Ordering::Relaxed) != 0
    }

    /// Whether the daemon closed the connection: nothing is answered any more.
    pub(crate) fn is_gone(&self) -> bool {
        // Somebody who waits for an answer hears of it himself.
        self.socket.try_lock().is_ok_and(|socket| socket.is_closed())
    }

    /// Wakes the daemon, which sleeps.
    pub(crate) fn wake(&self) -> Result<(), ClientError> {
        match rustix::io::write(&self.wake, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(ClientError::system("wake the daemon")(error)),
        }
    }

    /// The lease word of a file.
    pub(crate) fn lease_word(&self, slot: u32) -> Option<&AtomicU64> {
        let slot = usize::try_from(slot).ok().filter(|_| slot < self.limits.files)?;
        self.status.u64s_at(size_of::<Status>() + slot * 8, 1).first()
    }

    pub(crate) fn lease_changes(&self, slot: u32) -> u64 {
        self.lease_word(slot).map_or(0, |word| word.load(Ordering::Acquire) >> LEASE_STATE.count_ones())
    }

    pub(crate) fn is_held(&self, slot: u32) -> bool {
        self.lease_word(slot).is_some_and(|word| word.load(Ordering::Acquire) & LEASE_STATE == LEASE_HELD)
    }
}

impl Buffer {
    /// The address of its first byte, as commands name it.
    #[must_use]
    pub fn iova(&self) -> u64 {
        self.reply.iova.get()
    }

    /// The memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<Shared> {
        &self.memory
    }

    /// What the daemon writes to.
    #[must_use]
    pub fn kind(&self) -> BufferKind {
        if self.reply.kind.get() == session::BUFFER_DMABUF { BufferKind::DmaBuf } else { BufferKind::Host }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A daemon that is gone has let go already.
        let _ = self.session.ask::<_, ()>(kind::RELEASE, &self.reply, None);
    }
}
