//! A range request on its way: which call of the kernel's it needs next, and what came of the last one.

use std::fmt;

use engine_block::{IoError, Operation, RangeCompletion, RangeRequest};
use engine_dma::{Access, Buffer, Pool, Region, to_u64, to_usize};

use super::{BOUNCE_MOST, RangeFile};

/// A call that was interrupted this often without a byte in between is told as failed.
const MOST_RETRIES: u32 = 1000;

/// Most parts of memory that one call names (`UIO_MAXIOV` of the kernel).
const MOST_VECTORS: usize = 1024;

/// Most bytes that one call moves; the kernel's own bound is a little below 2 GiB.
const MOST_BYTES: usize = 1 << 30;

/// What zeros are written from where no call zeroes a range.
const ZEROS: usize = 64 << 10;
static NOTHING: Zeros = Zeros([0; ZEROS]);
#[repr(align(4096))]
struct Zeros([u8; ZEROS]);
const MOST_ZEROS: usize = 1 << 20;

/// One call of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// From the file into the task's vectors.
    Read { offset: u64 },
    /// From the task's vectors into the file.
    Write { offset: u64 },
    /// fdatasync(2).
    Sync,
    /// fallocate(2).
    Allocate { mode: i32, offset: u64, length: u64 },
}

/// What to do now that a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Prepare the next call.
    Again,
    /// The request is over.
    Ended,
}

/// Parts of memory for one call, which point into the task's request, its bounce memory, or zeros.
#[derive(Default)]
struct Vectors(Vec<libc::iovec>);

// SAFETY: These are addresses for the kernel, of memory that the task holds wherever it moves to.
unsafe impl Send for Vectors {}

/// A request that a queue has accepted.
#[derive(Debug)]
pub(super) struct Task {
    request: RangeRequest,
    /// How much of it is over.
    done: u64,
    call: Call,
    /// How many bytes the call is to move.
    asked: usize,
    vectors: Vectors,
    bounce: Option<Buffer>,
    /// Whether zeros are written for want of a call.
    writes_zeros: bool,
    retries: u32,
    failure: Option<i32>,
}

impl Task {
    /// A task for a request that was [checked](RangeRequest::check).
    pub(super) fn new(request: RangeRequest) -> Self {
        Self {
            request,
            done: 0,
            call: Call::Sync,
            asked: 0,
            vectors: Vectors::default(),
            bounce: None,
            writes_zeros: false,
            retries: 0,
            failure: None,
        }
    }

    /// The next call; none where the request is over, for better or worse.
    pub(super) fn prepare(&mut self, file: &RangeFile, pool: &mut Pool) -> Option<Call> {
        let left = self.request.length - self.done;
        let operation = self.request.operation;
        if self.failure.is_some() || (left == 0 && operation != Operation::Flush) {
            return None;
        }
        let offset = self.request.offset + self.done;
        self.call = match operation {
            Operation::Flush => Call::Sync,
            Operation::Discard if file.keeps_discarded() => return None,
            Operation::Discard => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                Call::Allocate { mode, offset, length: left }
            }
            Operation::WriteZeroes if self.writes_zeros || file.zeroes_by_writing() => {
                self.writes_zeros = true;
                self.point_to_zeros(to_usize(left));
                Call::Write { offset }
            }
            Operation::WriteZeroes => {
                let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
                Call::Allocate { mode, offset, length: left }
            }
            Operation::Read | Operation::Write => {
                let pointed = self.point(file, pool, operation);
                if let Err(errno) = pointed {
                    self.failure = Some(errno);
                    return None;
                }
                if operation == Operation::Read { Call::Read { offset } } else { Call::Write { offset } }
            }
        };
        Some(self.call)
    }

    /// The memory of a prepared call, at an address that stays until the next one is prepared.
    pub(super) fn vectors(&self) -> &[libc::iovec] {
        &self.vectors.0
    }

    /// Takes in what a call came to: bytes, or an errno below zero.
    pub(super) fn after(&mut self, result: i32, file: &RangeFile) -> Next {
        let Ok(newly) = usize::try_from(result) else { return self.failed(-result, file) };
        self.retries = 0;
        match self.call {
            Call::Sync | Call::Allocate { .. } => {
                self.done = self.request.length;
                Next::Ended
            }
            Call::Read { .. } | Call::Write { .. } => {
                let block = to_usize(file.geometry.block.into());
                let newly = newly.min(self.asked);
                // The rest must start at a block again; where not even one was moved, the file has ended.
                let newly = newly - newly % block;
                if newly == 0 {
                    self.failure = Some(libc::EIO);
                    return Next::Ended;
                }
                if let (Call::Read { .. }, Some(bounce)) = (self.call, &self.bounce) {
                    let arrived = bounce.get(..newly).unwrap_or_default();
                    if scatter(&self.request, to_usize(self.done), arrived).is_none() {
                        self.failure = Some(libc::EFAULT);
                        return Next::Ended;
                    }
                }
                self.done += to_u64(newly);
                if self.done == self.request.length { Next::Ended } else { Next::Again }
            }
        }
    }

    fn failed(&mut self, errno: i32, file: &RangeFile) -> Next {
        if matches!(errno, libc::EINTR | libc::EAGAIN) && self.retries < MOST_RETRIES {
            self.retries += 1;
            return Next::Again;
        }
        let unknown = matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS);
        match (self.call, self.request.operation) {
            (Call::Allocate { .. }, Operation::WriteZeroes) if unknown || errno == libc::EINVAL => {
                if unknown {
                    file.cannot_zero();
                }
                self.writes_zeros = true;
                Next::Again
            }
            // Discarding is advice.
            (Call::Allocate { .. }, Operation::Discard) if unknown => {
                file.cannot_discard();
                self.done = self.request.length;
                Next::Ended
            }
            _ => {
                self.failure = Some(errno);
                Next::Ended
            }
        }
    }

    /// Lets no further call start.
    pub(super) fn stop(&mut self, errno: i32) {
        self.failure.get_or_insert(errno);
    }

    /// The end, with no call out any more.
    pub(super) fn complete(self) -> RangeCompletion {
        RangeCompletion { tag: self.request.tag, result: self.outcome() }
    }

    fn outcome(&self) -> Result<(), IoError> {
        let Some(errno) = self.failure else { return Ok(()) };
        let RangeRequest { operation, offset, length, .. } = self.request;
        Err(IoError { operation, offset: offset + self.done, length: length - self.done, errno })
    }

    /// Points the vectors at the windows, as far as the file takes them as they are, or else at bounce memory.
    fn point(&mut self, file: &RangeFile, pool: &mut Pool, operation: Operation) -> Result<(), i32> {
        let access = if operation == Operation::Read { Access::ReadWrite } else { Access::Read };
        let vectors = &mut self.vectors.0;
        vectors.clear();
        for part in parts(&self.request, to_usize(self.done), MOST_BYTES) {
            let place = part.region.place(part.offset, part.length, access).map_err(|_| libc::EFAULT)?;
            let address = place.as_ptr();
            if let Some(last) = vectors.last_mut()
                && last.iov_base.addr() + last.iov_len == address.addr()
            {
                last.iov_len += part.length;
            } else if vectors.len() == MOST_VECTORS {
                break;
            } else {
                vectors.push(libc::iovec { iov_base: address.cast(), iov_len: part.length });
            }
        }
        let block = to_usize(file.geometry.block.into());
        let memory = to_usize(file.geometry.memory.into());
        let fits = |vector: &libc::iovec| {
            vector.iov_base.addr().is_multiple_of(memory) && vector.iov_len.is_multiple_of(block)
        };
        let fitting = vectors.iter().position(|vector| !fits(vector)).unwrap_or(vectors.len());
        vectors.truncate(fitting);
        self.bounce = None;
        self.asked = vectors.iter().map(|vector| vector.iov_len).sum();
        if self.asked == 0 { self.point_to_bounce(file, pool, operation) } else { Ok(()) }
    }

    fn point_to_bounce(
        &mut self,
        file: &RangeFile,
        pool: &mut Pool,
        operation: Operation,
    ) -> Result<(), i32> {
        let left = to_usize(self.request.length - self.done);
        let length = left.min(BOUNCE_MOST.max(to_usize(file.geometry.block.into())));
        let mut bounce = pool.take(length).map_err(|_| libc::ENOMEM)?;
        if operation == Operation::Write {
            let mut target = &mut bounce[..];
            for part in parts(&self.request, to_usize(self.done), length) {
                let (here, rest) = target.split_at_mut_checked(part.length).ok_or(libc::EINVAL)?;
                part.region.read(part.offset, here).map_err(|_| libc::EFAULT)?;
                target = rest;
            }
        }
        let address = bounce.address().as_ptr().cast();
        self.vectors.0.push(libc::iovec { iov_base: address, iov_len: length });
        self.asked = length;
        self.bounce = Some(bounce);
        Ok(())
    }

    fn point_to_zeros(&mut self, left: usize) {
        self.asked = left.min(MOST_ZEROS);
        let vectors = &mut self.vectors.0;
        vectors.clear();
        let mut rest = self.asked;
        while rest > 0 {
            let length = rest.min(ZEROS);
            let address = NOTHING.0.as_ptr().cast_mut().cast();
            vectors.push(libc::iovec { iov_base: address, iov_len: length });
            rest -= length;
        }
    }
}

/// A run of bytes of a request's memory.
struct Part<'a> {
    region: &'a Region,
    offset: usize,
    length: usize,
}

/// The memory of a request from its byte `skip` on, at most `most` bytes of it.
fn parts(request: &RangeRequest, skip: usize, most: usize) -> impl Iterator<Item = Part<'_>> {
    let (mut skip, mut most) = (skip, most);
    request.memory.iter().filter_map(move |window| {
        let skipped = skip.min(window.length);
        skip -= skipped;
        let length = (window.length - skipped).min(most);
        most -= length;
        let part = Part { region: window.mapping.region(), offset: window.offset + skipped, length };
        (length > 0).then_some(part)
    })
}

/// Copies what arrived in bounce memory to the windows, from byte `done` of the request on; none where a window is
/// not within its region.
fn scatter(request: &RangeRequest, done: usize, mut source: &[u8]) -> Option<()> {
    for part in parts(request, done, source.len()) {
        let (here, rest) = source.split_at_checked(part.length)?;
        part.region.write(part.offset, here).ok()?;
        source = rest;
    }
    Some(())
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|vector| (vector.iov_base, vector.iov_len))).finish()
    }
}
