//! An io_uring with one file: the part that speaks to the kernel.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use engine_dma::{Arena, Registration, to_u64, to_usize};
use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};
use rustix::event::{PollFd, PollFlags, Timespec as PollTime, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// Places in the table of fixed buffers.
const FIXED_BUFFERS: u32 = 16;

/// The file's place in the table of registered files.
pub(crate) const FILE: Fixed = Fixed(0);

/// The mark of the call that cancels others. Queues number theirs from 0 on.
const CANCEL: u64 = u64::MAX;

/// Registrations on arenas name the ring that they are for.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A ring whose only file is registered, used by one thread at a time.
pub(crate) struct Ring {
    io: IoUring,
    id: u64,
    entries: u32,
    fixed_buffers: bool,
    /// Whether the kernel holds the ring to the thread that first used it, and which that is.
    one_thread: bool,
    owner: Option<ThreadId>,
    end: End,
}

/// The end of a ring, which may come long after it was closed: the kernel has let go of all that it was told of.
///
/// A call holds the ring in the kernel until it is over, and the ring holds the files that were registered with it.
/// One of them is the only writing end of a pipe, so that the pipe hangs up when no call can be under way any more.
#[derive(Debug, Clone)]
pub(crate) struct End(Arc<OwnedFd>);

impl End {
    /// Whether it comes within `limit`, or ever. False where that cannot be told.
    pub(crate) fn came(&self, limit: Option<Duration>) -> bool {
        let limit =
            limit.map(|limit| PollTime::try_from(limit).unwrap_or(PollTime { tv_sec: 0, tv_nsec: 0 }));
        loop {
            let mut ends = [PollFd::new(&*self.0, PollFlags::empty())];
            match poll(&mut ends, limit.as_ref()) {
                Err(Errno::INTR) if limit.is_none() => {}
                Err(_) => return false,
                Ok(_) => return ends.iter().all(|end| end.revents().contains(PollFlags::HUP)),
            }
        }
    }
}

/// What waiting for completions came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The call returned; there may be completions.
    Back,
    /// The time was over.
    TimeOver,
    /// The kernel lacks something for the moment; take completions and try again.
    Later,
}

/// Memory that one read writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: *mut u8,
    pub(crate) length: usize,
    /// The registration of the arena that it lies in.
    pub(crate) registration: Option<Registration>,
}

impl Ring {
    /// A ring that can have `entries` (rounded up to a power of two) reads of `file` in flight.
    ///
    /// # Errors
    /// Where the kernel has no io_uring, forbids it, or lacks the memory.
    pub(crate) fn new(entries: u32, file: &File) -> io::Result<Self> {
        let (io, one_thread) = build(entries)?;
        if !io.params().is_feature_ext_arg() {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let (end, held) = pipe_with(PipeFlags::CLOEXEC)?;
        io.submitter().register_files(&[file.as_raw_fd(), held.as_raw_fd()])?;
        drop(held);
        // Kernels before 5.19 have no sparse tables; reads then name plain addresses.
        let fixed_buffers = io.submitter().register_buffers_sparse(FIXED_BUFFERS).is_ok();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let entries = io.params().sq_entries();
        Ok(Self { io, id, entries, fixed_buffers, one_thread, owner: None, end: End(Arc::new(end)) })
    }

    /// By which to know when the kernel is done with the ring, once it was closed by dropping it.
    pub(crate) fn end(&self) -> End {
        self.end.clone()
    }

    /// How many reads can be in flight.
    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// Registers `arena` at `index` of the table of fixed buffers and notes it there. The arena must live as long as
    /// the ring.
    pub(crate) fn register(&self, index: usize, arena: &Arena) -> io::Result<()> {
        let place = u32::try_from(index).ok().filter(|&place| self.fixed_buffers && place < FIXED_BUFFERS);
        let Some(place) = place else { return Err(io::ErrorKind::Unsupported.into()) };
        let memory = libc::iovec { iov_base: arena.base().as_ptr().cast(), iov_len: arena.length() };
        // SAFETY: The arena is mapped, for reading and writing, over its whole length and stays so until it is
        // dropped, before which the ring is gone (and the kernel holds the pages by then anyway).
        unsafe { self.io.submitter().register_buffers_update(place, &[memory], None) }?;
        arena.register(Registration { owner: self.id, handle: to_u64(index) });
        Ok(())
    }

    /// Makes the calling thread the ring's, if none is yet. Answers `false` where another one is and the kernel
    /// would refuse this one.
    pub(crate) fn claim(&mut self) -> io::Result<bool> {
        if !self.one_thread {
            return Ok(true);
        }
        let caller = thread::current().id();
        if let Some(owner) = self.owner {
            return Ok(owner == caller);
        }
        self.io.submitter().register_enable_rings()?;
        self.owner = Some(caller);
        Ok(true)
    }

    /// Whether another thread is the only one that may use the ring.
    pub(crate) fn is_foreign(&self) -> bool {
        self.one_thread && self.owner.is_some_and(|owner| owner != thread::current().id())
    }

    /// Queues a read from `device_offset` on. Answers `false` where the submission queue is full.
    ///
    /// # Safety
    /// The target must be valid for writes, and not otherwise used, until the completion with this `mark` was taken.
    pub(crate) unsafe fn push(&mut self, device_offset: u64, target: Target, mark: u64) -> bool {
        let Ok(length) = u32::try_from(target.length) else { return false };
        let fixed = target
            .registration
            .filter(|known| known.owner == self.id)
            .and_then(|known| u16::try_from(known.handle).ok());
        let entry: squeue::Entry = match fixed {
            Some(index) => {
                opcode::ReadFixed::new(FILE, target.address, length, index).offset(device_offset).build()
            }
            None => opcode::Read::new(FILE, target.address, length).offset(device_offset).build(),
        };
        // SAFETY: The caller keeps the target valid; the file is registered with the ring.
        unsafe { self.io.submission().push(&entry.user_data(mark)) }.is_ok()
    }

    /// Queues any call on the ring's [`FILE`]. Answers `false` where the submission queue is full.
    ///
    /// # Safety
    /// All memory that the entry names must be valid for its operation, and of that which the kernel writes the
    /// compiler must know nothing, until the completion was taken.
    pub(crate) unsafe fn push_entry(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: The caller keeps the memory valid; the file is registered with the ring.
        unsafe { self.io.submission().push(entry) }.is_ok()
    }

    /// Asks the kernel to end everything in flight, which then completes like all else. Kernels before 5.19 do not know
    /// how.
    pub(crate) fn cancel(&mut self) {
        // What was not started yet is ended too.
        let started = self.enter(false, None);
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build().user_data(CANCEL);
        // SAFETY: It names no memory.
        let pushed = unsafe { self.push_entry(&entry) };
        if let Some(error) = started.and_then(|_| self.enter(false, None)).err().filter(|_| pushed) {
            tracing::debug!(%error, "requests in flight cannot be cancelled");
        }
    }

    /// Starts what was pushed and, where `want` is set, waits for a completion, at most as long as `limit` says.
    ///
    /// # Errors
    /// Where the ring as a whole has failed.
    pub(crate) fn enter(&mut self, want: bool, limit: Option<Duration>) -> io::Result<Entered> {
        let (unsubmitted, pending) = {
            let queue = self.io.submission();
            (queue.len(), queue.taskrun() || queue.cq_overflow())
        };
        if unsubmitted == 0 && !want && !pending {
            return Ok(Entered::Back);
        }
        let want = u32::from(want);
        let outcome = match limit {
            Some(limit) => {
                let time = Timespec::from(limit);
                self.io
                    .submitter()
                    .submit_with_args(to_usize(want.into()), &SubmitArgs::new().timespec(&time))
            }
            None => {
                let submit = u32::try_from(unsubmitted).unwrap_or(u32::MAX);
                let flags = EnterFlags::GETEVENTS.bits();
                // SAFETY: What is submitted was pushed with memory that stays valid; there is no argument.
                unsafe { self.io.submitter().enter::<libc::sigset_t>(submit, want, flags, None) }
            }
        };
        let Err(error) = outcome else { return Ok(Entered::Back) };
        match error.raw_os_error() {
            Some(libc::ETIME) => Ok(Entered::TimeOver),
            Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(Entered::Later),
            _ => Err(error),
        }
    }

    /// The next completion: its mark and its result.
    pub(crate) fn completion(&mut self) -> Option<(u64, i32)> {
        let entry = self.io.completion().find(|entry| entry.user_data() != CANCEL)?;
        Some((entry.user_data(), entry.result()))
    }
}

/// What newer kernels can do for a ring with one user, best first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Features {
    /// Kernel 6.6: as below, without the indirection of the submission queue.
    NoIndirection,
    /// Kernel 6.1: completions are worked on when the thread waits for them, not whenever they come.
    DeferredWork,
    /// Kernel 5.19: the thread is not interrupted for completions.
    CooperativeWork,
    /// Any kernel with io_uring.
    Plain,
}

/// The best ring that this kernel builds, and whether only one thread may use it.
fn build(entries: u32) -> io::Result<(IoUring, bool)> {
    let mut refusal = io::Error::from_raw_os_error(libc::ENOSYS);
    let all = [Features::NoIndirection, Features::DeferredWork, Features::CooperativeWork, Features::Plain];
    for features in all {
        let one_thread = matches!(features, Features::NoIndirection | Features::DeferredWork);
        let mut builder = IoUring::builder();
        builder.setup_clamp();
        if features != Features::Plain {
            builder.setup_taskrun_flag().setup_submit_all().setup_coop_taskrun();
        }
        if one_thread {
            // It starts disabled, since the thread that enables it is the one that it will belong to.
            builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled();
        }
        if features == Features::NoIndirection {
            builder.setup_no_sqarray();
        }
        match builder.build(entries) {
            Ok(io) => return Ok((io, one_thread)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("id", &self.id)
            .field("entries", &self.entries)
            .field("fixed_buffers", &self.fixed_buffers)
            .field("one_thread", &self.one_thread)
            .field("owner", &self.owner)
            .finish()
    }
}
