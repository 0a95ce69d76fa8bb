//! The commands of I/O queues (NVM, section 3).

use std::time::{Duration, Instant};

use engine_block::Operation;
use engine_dma::{View, to_usize};
use engine_nvme_spec::{NvmOpcode, Sqe, Status, nvm};
use zerocopy::FromBytes;

use crate::backing::{Io, Memory, Started};
use crate::controller::Shared;
use crate::data::Runs;
use crate::faults::Effect;
use crate::processor::{Pending, Processor, Scratch, flush};

/// What became of a command that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is over: its status and the first dword of its completion.
    Now(Status, u32),
    /// Its backing is at work.
    Pending,
    /// It is answered when something happens.
    Later,
}

impl From<Status> for Done {
    fn from(status: Status) -> Self {
        Self::Now(status, 0)
    }
}

impl Processor {
    /// Carries out a command, or starts to.
    #[inline]
    pub(crate) fn start(&mut self, shared: &Shared, sq_id: u16, sqe: &Sqe) -> Done {
        let started = match NvmOpcode(sqe.opcode) {
            NvmOpcode::READ => self.transfer(shared, sq_id, sqe, Operation::Read),
            NvmOpcode::WRITE => self.transfer(shared, sq_id, sqe, Operation::Write),
            _ => self.start_rarer(shared, sq_id, sqe),
        };
        started.unwrap_or_else(Done::from)
    }

    /// As [`start`](Self::start), on a thread that others need, too: a command that would wait for its steps is refused.
    #[inline]
    pub(crate) fn start_without_waiting(&mut self, shared: &Shared, sq_id: u16, sqe: &Sqe) -> Done {
        match NvmOpcode(sqe.opcode) {
            NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::WRITE_ZEROES => self.start(shared, sq_id, sqe),
            NvmOpcode::FLUSH if sqe.nsid.get() == engine_nvme_spec::ANY_NAMESPACE => {
                Status::INVALID_NAMESPACE.final_().into()
            }
            NvmOpcode::FLUSH => self.start(shared, sq_id, sqe),
            _ => Status::INVALID_OPCODE.final_().into(),
        }
    }

    fn start_rarer(&mut self, shared: &Shared, sq_id: u16, sqe: &Sqe) -> Result<Done, Status> {
        if sqe.fuse() != 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        match NvmOpcode(sqe.opcode) {
            NvmOpcode::FLUSH => self.flush(shared, sq_id, sqe),
            NvmOpcode::WRITE_ZEROES => self.write_zeroes(shared, sq_id, sqe),
            NvmOpcode::DATASET_MANAGEMENT => self.manage(shared, sqe).map(Done::from),
            NvmOpcode::COMPARE => self.compare(shared, sqe).map(Done::from),
            NvmOpcode::VERIFY => self.verify(shared, sqe).map(Done::from),
            NvmOpcode::COPY => self.copy(shared, sqe),
            _ => Err(Status::INVALID_OPCODE.final_()),
        }
    }

    /// Read and Write.
    fn transfer(
        &mut self,
        shared: &Shared,
        sq_id: u16,
        sqe: &Sqe,
        operation: Operation,
    ) -> Result<Done, Status> {
        if sqe.fuse() != 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        let to_host = matches!(operation, Operation::Read);
        let (slba, blocks) = (sqe.slba(), u64::from(nvm::blocks(sqe)));
        let namespace = &self.namespace(sqe.nsid.get())?.namespace;
        let (offset, length) = namespace.range(slba, blocks)?;
        if length > shared.options.transfer_most() {
            return Err(Status::INVALID_FIELD.final_());
        }
        if !to_host && !namespace.is_writable() {
            return Err(Status::NAMESPACE_WRITE_PROTECTED.final_());
        }
        self.runs.resolve(&mut self.view, sqe, length, shared.page(), to_host)?;
        if to_host && matches!(self.effect, Some(Effect::Corrupt)) {
            let Some(outcome) = self.carry_out(sqe.nsid.get(), operation, offset, length) else {
                // No answer says that the memory is the host's again.
                shared.fail();
                return Ok(Done::Later);
            };
            outcome?;
            self.corrupt()?;
            return Ok(Done::from(Status::SUCCESS));
        }
        let io = Io { token: 0, operation, offset, length };
        let forced = || sqe.cdw12.get() & nvm::FORCE_UNIT_ACCESS != 0;
        let durable = !to_host && (forced() || !shared.state.features().write_cache());
        let done = self.begin(sq_id, sqe, io, durable)?;
        if matches!(done, Done::Now(Status::SUCCESS, _)) {
            let moved = &mut self.moved;
            if to_host {
                (moved.reads, moved.bytes_read) = (moved.reads + 1, moved.bytes_read + length);
            } else {
                (moved.writes, moved.bytes_written) = (moved.writes + 1, moved.bytes_written + length);
            }
        }
        Ok(done)
    }

    /// Hands an operation to the backing, under a number of this processor's; and a flush after it, where it is to be
    /// durable before it is answered.
    #[inline]
    fn begin(&mut self, sq_id: u16, sqe: &Sqe, io: Io, durable: bool) -> Result<Done, Status> {
        let Some(&number) = self.free.last() else { return Err(Status::INTERNAL_ERROR) };
        let io = Io { token: u64::from(number), ..io };
        let place = to_usize(u64::from(sqe.nsid.get())).wrapping_sub(1);
        let served = self.served.get_mut(place).and_then(Option::as_mut).ok_or(Status::INTERNAL_ERROR)?;
        let mut started = served.queue.start(&io, &mut Memory::new(&mut self.view, &self.runs));
        let mut then_flush = durable;
        if durable && started == Started::Done(Status::SUCCESS) {
            then_flush = false;
            started = flush(&mut *served.queue, io.token);
        }
        match started {
            Started::Done(status) => Ok(Done::from(status)),
            // A backing's queue has room for all that this processor has in flight, and for the one operation of
            // several steps that may come on top.
            Started::Full => Err(Status::COMMAND_INTERRUPTED),
            Started::Pending => {
                self.free.pop();
                let pending = Pending {
                    sq_id,
                    cid: sqe.cid.get(),
                    opcode: sqe.opcode,
                    nsid: sqe.nsid.get(),
                    slba: sqe.slba(),
                    bytes: io.length,
                    operation: io.operation,
                    effect: self.effect,
                    then_flush,
                    orphaned: false,
                    fetched: self.fetched,
                };
                if let Some(slot) = usize::try_from(number).ok().and_then(|at| self.pending.get_mut(at)) {
                    *slot = Some(pending);
                }
                Ok(Done::Pending)
            }
        }
    }

    /// Changes a byte of what a read brought.
    fn corrupt(&mut self) -> Result<(), Status> {
        let mut bytes = vec![0; to_usize(self.runs.length())];
        let mut memory = Memory::new(&mut self.view, &self.runs);
        memory.read(&mut bytes)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x40;
        }
        memory.write(&bytes)
    }

    /// An operation on the host's memory, to its end; none where that does not come.
    fn carry_out(
        &mut self,
        nsid: u32,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> Option<Result<(), Status>> {
        let io = Io { token: self.step_token(), operation, offset, length };
        let mut view = std::mem::take(&mut self.view);
        let runs = std::mem::take(&mut self.runs);
        let started =
            self.namespace(nsid).map(|served| served.queue.start(&io, &mut Memory::new(&mut view, &runs)));
        (self.view, self.runs) = (view, runs);
        match started {
            Ok(started) => self.conclude(started, io.token),
            Err(status) => Some(Err(status)),
        }
    }

    fn conclude(&mut self, started: Started, token: u64) -> Option<Result<(), Status>> {
        let status = match started {
            Started::Done(status) => status,
            Started::Full => Status::COMMAND_INTERRUPTED,
            Started::Pending => self.wait_for(token)?,
        };
        Some(if status.is_success() { Ok(()) } else { Err(status) })
    }

    /// A number for an operation that is waited for: no place in the table of those that are not has it.
    fn step_token(&mut self) -> u64 {
        self.steps = self.steps.wrapping_add(1);
        self.steps | 1 << 63
    }

    /// Waits until an operation is over, keeping what else is over meanwhile for later. None where that takes too long:
    /// it may still reach its memory then.
    fn wait_for(&mut self, token: u64) -> Option<Status> {
        let start = Instant::now();
        let mut over = Vec::new();
        while start.elapsed() < self.step_limit {
            for served in self.served.iter_mut().flatten().filter(|served| served.queue.in_flight() > 0) {
                served.queue.poll(Duration::from_millis(1), &mut over);
            }
            let found =
                over.iter().position(|(other, _)| *other == token).map(|place| over.swap_remove(place));
            self.stray.append(&mut over);
            if let Some((_, status)) = found {
                return Some(status);
            }
        }
        tracing::error!(limit = ?self.step_limit, "a backing did not end a step of a command in time");
        None
    }

    /// One operation of several, on memory of this processor's own, to its end.
    pub(crate) fn step(
        &mut self,
        nsid: u32,
        operation: Operation,
        offset: u64,
        length: u64,
        mut scratch: Option<&mut Scratch>,
    ) -> Result<(), Status> {
        let io = Io { token: self.step_token(), operation, offset, length };
        let mut runs = Runs::default();
        runs.set_contiguous(length);
        let served = self.namespace(nsid)?;
        let started = match scratch.as_deref_mut() {
            Some(scratch) => served.queue.start(&io, &mut Memory::new(&mut scratch.view, &runs)),
            None => served.queue.start(&io, &mut Memory::new(&mut View::new(), &Runs::default())),
        };
        self.conclude(started, io.token).unwrap_or_else(|| {
            if let Some(scratch) = scratch {
                scratch.busy = true;
            }
            Err(Status::INTERNAL_ERROR)
        })
    }

    fn flush(&mut self, shared: &Shared, sq_id: u16, sqe: &Sqe) -> Result<Done, Status> {
        if sqe.nsid.get() == engine_nvme_spec::ANY_NAMESPACE {
            for nsid in Self::namespace_numbers(shared) {
                self.step(nsid, Operation::Flush, 0, 0, None)?;
            }
            return Ok(Done::from(Status::SUCCESS));
        }
        self.namespace(sqe.nsid.get())?;
        self.runs.clear();
        let io = Io { token: 0, operation: Operation::Flush, offset: 0, length: 0 };
        self.begin(sq_id, sqe, io, false)
    }

    fn write_zeroes(&mut self, shared: &Shared, sq_id: u16, sqe: &Sqe) -> Result<Done, Status> {
        let namespace = &self.namespace(sqe.nsid.get())?.namespace;
        let (offset, length) = namespace.range(sqe.slba(), nvm::blocks(sqe).into())?;
        if !namespace.is_writable() {
            return Err(Status::NAMESPACE_WRITE_PROTECTED.final_());
        }
        self.runs.clear();
        // Deallocated blocks read as zeros here, so what may be deallocated can as well be zeroed.
        let durable = sqe.cdw12.get() & nvm::FORCE_UNIT_ACCESS != 0 || !shared.state.features().write_cache();
        let io = Io { token: 0, operation: Operation::WriteZeroes, offset, length };
        self.begin(sq_id, sqe, io, durable)
    }

    /// Dataset Management: only what deallocates does anything.
    fn manage(&mut self, shared: &Shared, sqe: &Sqe) -> Result<Status, Status> {
        let nsid = sqe.nsid.get();
        let count = to_usize(u64::from(sqe.cdw10.get() & 0xff)) + 1;
        let deallocate = sqe.cdw11.get() & nvm::DSM_DEALLOCATE != 0;
        let mut bytes = vec![0; count * size_of::<nvm::DsmRange>()];
        self.fetch_data(shared, sqe, &mut bytes)?;
        let namespace = &self.namespace(nsid)?.namespace;
        if deallocate && !namespace.is_writable() {
            return Err(Status::NAMESPACE_WRITE_PROTECTED.final_());
        }
        let ranges = <[nvm::DsmRange]>::ref_from_bytes(&bytes).map_err(|_| Status::INTERNAL_ERROR)?;
        let found: Result<Vec<_>, Status> =
            ranges.iter().map(|range| namespace.range(range.slba.get(), range.blocks.get().into())).collect();
        for (offset, length) in found?.into_iter().filter(|(_, length)| deallocate && *length > 0) {
            match self.step(nsid, Operation::Discard, offset, length, None) {
                // Deallocating is advice (NVM, section 3.2.3); a backing that cannot keeps the blocks.
                Err(status) if status.is(Status::INVALID_OPCODE) => break,
                other => other?,
            }
        }
        Ok(Status::SUCCESS)
    }

    /// Brings a command's own data, which its data pointer leads to.
    fn fetch_data(&mut self, shared: &Shared, sqe: &Sqe, bytes: &mut [u8]) -> Result<(), Status> {
        let length = engine_dma::to_u64(bytes.len());
        self.runs.resolve(&mut self.view, sqe, length, shared.page(), false)?;
        Memory::new(&mut self.view, &self.runs).read(bytes)
    }

    fn compare(&mut self, shared: &Shared, sqe: &Sqe) -> Result<Status, Status> {
        let nsid = sqe.nsid.get();
        let (offset, length) = self.namespace(nsid)?.namespace.range(sqe.slba(), nvm::blocks(sqe).into())?;
        if length > shared.options.transfer_most() {
            return Err(Status::INVALID_FIELD.final_());
        }
        let mut wanted = vec![0; to_usize(length)];
        self.fetch_data(shared, sqe, &mut wanted)?;
        let mut scratch = self.scratch(shared)?;
        let outcome = self.step(nsid, Operation::Read, offset, length, Some(&mut scratch));
        let mut there = vec![0; wanted.len()];
        let copied = scratch.region.read(0, &mut there);
        self.give_back(scratch);
        outcome?;
        copied.map_err(|_| Status::INTERNAL_ERROR)?;
        (self.moved.reads, self.moved.bytes_read) = (self.moved.reads + 1, self.moved.bytes_read + length);
        if there == wanted { Ok(Status::SUCCESS) } else { Err(Status::COMPARE_FAILURE) }
    }

    fn verify(&mut self, shared: &Shared, sqe: &Sqe) -> Result<Status, Status> {
        let nsid = sqe.nsid.get();
        let (offset, length) = self.namespace(nsid)?.namespace.range(sqe.slba(), nvm::blocks(sqe).into())?;
        // The Verify Size Limit is that of transfers.
        if length > shared.options.transfer_most() {
            return Err(Status::INVALID_FIELD.final_());
        }
        let mut scratch = self.scratch(shared)?;
        let outcome = self.step(nsid, Operation::Read, offset, length, Some(&mut scratch));
        self.give_back(scratch);
        outcome.map(|()| Status::SUCCESS)
    }

    /// Copy with descriptor format 0: all sources are read before anything is written, so that ranges may overlap.
    fn copy(&mut self, shared: &Shared, sqe: &Sqe) -> Result<Done, Status> {
        let nsid = sqe.nsid.get();
        let dword = sqe.cdw12.get();
        let (count, format) = (to_usize(u64::from(dword & 0xff)) + 1, dword >> 8 & 0xf);
        if format != 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        let limits = shared.copy_limits();
        if count > usize::from(limits.ranges) {
            return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.final_());
        }
        let mut bytes = vec![0; count * size_of::<nvm::CopyRange>()];
        self.fetch_data(shared, sqe, &mut bytes)?;
        let ranges = <[nvm::CopyRange]>::ref_from_bytes(&bytes).map_err(|_| Status::INTERNAL_ERROR)?;
        let namespace = &self.namespace(nsid)?.namespace;
        let mut sources = Vec::with_capacity(count);
        let mut blocks = 0;
        for range in ranges {
            let length = u64::from(range.blocks.get()) + 1;
            if length > u64::from(limits.range_blocks) {
                return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.final_());
            }
            sources.push(namespace.range(range.slba.get(), length)?);
            blocks += length;
        }
        let (target, total) = namespace.range(sqe.slba(), blocks)?;
        if blocks > u64::from(limits.blocks) || total > shared.options.transfer_most() {
            return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.final_());
        }
        if !namespace.is_writable() {
            return Err(Status::NAMESPACE_WRITE_PROTECTED.final_());
        }
        let mut scratch = self.scratch(shared)?;
        let outcome = self.copy_through(nsid, &sources, target, &mut scratch);
        self.give_back(scratch);
        // Where it failed, the first dword says how many ranges were copied: none were.
        Ok(Done::Now(outcome.err().unwrap_or(Status::SUCCESS), 0))
    }

    fn copy_through(
        &mut self,
        nsid: u32,
        sources: &[(u64, u64)],
        target: u64,
        scratch: &mut Scratch,
    ) -> Result<(), Status> {
        let total: u64 = sources.iter().map(|(_, length)| length).sum();
        let mut all = Vec::with_capacity(to_usize(total));
        for &(offset, length) in sources {
            self.step(nsid, Operation::Read, offset, length, Some(scratch))?;
            let start = all.len();
            all.resize(start + to_usize(length), 0);
            let part = all.get_mut(start..).unwrap_or_default();
            scratch.region.read(0, part).map_err(|_| Status::INTERNAL_ERROR)?;
        }
        scratch.region.write(0, &all).map_err(|_| Status::INTERNAL_ERROR)?;
        self.step(nsid, Operation::Write, target, total, Some(scratch))
    }
}
