//! The queues of an orderly host, which follows every command to its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine_controller::Controller;
use engine_dma::PAGE;
use engine_nvme_spec::{AdminOpcode, Cqe, NvmOpcode, Sqe, Status, admin, doorbell, register};
use zerocopy::{FromBytes, IntoBytes};

use super::FOLLOWED_NAMESPACE;
use super::memory::{HostMemory, PAIRS, ring_address, ring_offset};

/// Entries of each queue.
const ENTRIES: u16 = 32;

/// One pair of queues.
#[derive(Debug, Default)]
struct Pair {
    exists: bool,
    sq_tail: u16,
    sq_head: u16,
    cq_head: u16,
    phase: bool,
    /// Opcodes of the commands that were not answered yet.
    outstanding: HashMap<u16, u8>,
}

/// A host with queues of its own.
#[derive(Debug)]
pub(super) struct Host {
    controller: Arc<Controller>,
    orderly: bool,
    stride: u8,
    page_shift: u8,
    weighted: bool,
    pairs: [Pair; PAIRS],
    next_cid: u16,
    /// A command that is waited for, and its answer.
    awaited: Option<(u16, Option<Status>)>,
    pub(super) answered: usize,
}

impl Host {
    pub(super) fn new(
        controller: &Arc<Controller>,
        orderly: bool,
        stride: u8,
        page_shift: u8,
        weighted: bool,
    ) -> Self {
        Self {
            controller: Arc::clone(controller),
            orderly,
            stride,
            page_shift,
            weighted,
            pairs: Default::default(),
            next_cid: 0,
            awaited: None,
            answered: 0,
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        self.controller.write_register(offset, &value.to_le_bytes());
    }

    fn read32(&self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        self.controller.read_register(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Enables the controller as a driver does.
    pub(super) fn enable(&mut self, memory: &mut HostMemory) {
        if self.pairs[0].exists {
            return;
        }
        memory.rings.write(0, &vec![0; 2 * PAGE]);
        let size = u32::from(ENTRIES - 1);
        self.write32(register::AQA, size | size << 16);
        self.controller.write_register(register::ASQ, &ring_address(0, false).to_le_bytes());
        self.controller.write_register(register::ACQ, &ring_address(0, true).to_le_bytes());
        let shift = if self.orderly { 0 } else { u32::from(self.page_shift % 6) };
        let weighted = u32::from(self.weighted);
        self.write32(register::CC, 1 | shift << 7 | weighted << 11 | 6 << 16 | 4 << 20);
        let ready = self.read32(register::CSTS) & 0b11 == 0b01;
        assert!(ready || !self.orderly, "an orderly host's controller did not become ready");
        self.pairs[0] = Pair { exists: true, phase: true, ..Pair::default() };
    }

    /// After whatever ends all queues.
    pub(super) fn forget(&mut self) {
        self.pairs = Default::default();
    }

    pub(super) fn create_pair(&mut self, memory: &mut HostMemory, pair: usize) {
        if self.pairs[pair].exists || !self.pairs[0].exists || pair == 0 {
            return;
        }
        let number = u16::try_from(pair).expect("there are few");
        let offset = ring_offset(pair, false);
        memory.rings.write(offset, &vec![0; 2 * PAGE]);
        let entries = u32::from(ENTRIES);
        let completion = admin::create_completion_queue(number, entries, ring_address(pair, true), Some(0));
        if self.command(memory, 0, completion) != Some(Status::SUCCESS) {
            return;
        }
        let submission =
            admin::create_submission_queue(number, entries, ring_address(pair, false), number, 1);
        if self.command(memory, 0, submission) == Some(Status::SUCCESS) {
            self.pairs[pair] = Pair { exists: true, phase: true, ..Pair::default() };
        } else {
            self.command(memory, 0, admin::delete_completion_queue(number));
        }
    }

    pub(super) fn delete_pair(&mut self, memory: &mut HostMemory, pair: usize) {
        if !self.pairs[pair].exists || pair == 0 {
            return;
        }
        let number = u16::try_from(pair).expect("there are few");
        if self.command(memory, 0, admin::delete_submission_queue(number)).is_some_and(Status::is_success) {
            // What was started before was answered before; what was not fetched never is.
            self.reap(memory, pair);
            self.pairs[pair].exists = false;
            self.pairs[pair].outstanding.clear();
            self.command(memory, 0, admin::delete_completion_queue(number));
        }
    }

    /// Puts a command of the input into a queue, if there is room.
    pub(super) fn submit(&mut self, memory: &mut HostMemory, pair: usize, mut sqe: Sqe) {
        if self.orderly && pair == 0 {
            leave_queues_alone(&mut sqe);
        }
        if self.orderly && pair > 0 {
            leave_followed_alone(&mut sqe);
        }
        self.put(memory, pair, sqe);
    }

    /// Puts a command into a queue; its identifier, where there was room.
    fn put(&mut self, memory: &mut HostMemory, pair: usize, mut sqe: Sqe) -> Option<u16> {
        let queue = &mut self.pairs[pair];
        let after = (queue.sq_tail + 1) % ENTRIES;
        if !queue.exists || after == queue.sq_head {
            return None;
        }
        if self.orderly {
            sqe.cid = self.next_cid.into();
            self.next_cid = self.next_cid.checked_add(1).expect("no input is so long");
            queue.outstanding.insert(sqe.cid.get(), sqe.opcode);
        }
        memory.rings.write(ring_offset(pair, false) + usize::from(queue.sq_tail) * 64, sqe.as_bytes());
        queue.sq_tail = after;
        self.ring(pair, false, after);
        Some(sqe.cid.get())
    }

    fn ring(&self, pair: usize, completion: bool, value: u16) {
        let queue = u16::try_from(pair).expect("there are few");
        let offset = u32::try_from(doorbell(queue, completion, self.stride)).expect("they lie close");
        self.write32(offset, value.into());
    }

    /// Whether the controller says that it cannot go on.
    pub(super) fn has_failed(&self) -> bool {
        self.read32(register::CSTS) & 0b10 != 0
    }

    /// Gives the controller turns on a queue.
    pub(super) fn assist(&self, pair: usize, turns: usize) {
        for _ in 0..turns {
            self.controller.assist(u16::try_from(pair).expect("there are few"), Duration::ZERO);
        }
    }

    /// Takes answers; how many there were.
    pub(super) fn reap(&mut self, memory: &HostMemory, pair: usize) -> usize {
        let mut count = 0;
        while self.pairs[pair].exists && count < usize::from(ENTRIES) {
            let queue = &mut self.pairs[pair];
            let mut bytes = [0; 16];
            memory.rings.read(ring_offset(pair, true) + usize::from(queue.cq_head) * 16, &mut bytes);
            let cqe = Cqe::read_from_bytes(&bytes).expect("16 bytes are an entry");
            if cqe.phase() != queue.phase {
                break;
            }
            count += 1;
            queue.cq_head = (queue.cq_head + 1) % ENTRIES;
            queue.phase ^= queue.cq_head == 0;
            // Queues that raw commands made may put their answers here too.
            if self.orderly && usize::from(cqe.sq_id.get()) < PAIRS {
                assert_eq!(usize::from(cqe.sq_id.get()), pair, "an answer in another queue: {cqe:?}");
                assert!(cqe.sq_head.get() < ENTRIES, "{cqe:?}");
                let opcode = queue.outstanding.remove(&cqe.cid.get());
                assert!(
                    opcode.is_some(),
                    "an answer to a command that was answered before, or never given: {cqe:?}"
                );
                queue.sq_head = cqe.sq_head.get();
                if let Some((cid, answer)) = &mut self.awaited
                    && *cid == cqe.cid.get()
                {
                    *answer = Some(cqe.status());
                }
            } else if !self.orderly {
                queue.sq_head = cqe.sq_head.get() % ENTRIES;
            }
        }
        if count > 0 {
            self.answered += count;
            self.ring(pair, true, self.pairs[pair].cq_head);
        }
        count
    }

    /// A command of the host's own and its answer, without what is said about retrying; none where the queue has no room.
    pub(super) fn command(&mut self, memory: &mut HostMemory, pair: usize, sqe: Sqe) -> Option<Status> {
        let cid = self.put(memory, pair, sqe)?;
        self.awaited = Some((cid, None));
        for _ in 0..1000 {
            self.assist(pair, 1);
            self.reap(memory, pair);
            if let Some((_, Some(status))) = self.awaited {
                return Some(Status(status.0 & Status::CODE));
            }
            if !self.orderly {
                return Some(Status::SUCCESS);
            }
        }
        panic!("an orderly host's command in queue {pair} was not answered: {sqe:?}");
    }

    /// Everything that was accepted is answered, but for requests for events.
    pub(super) fn drain(&mut self, memory: &HostMemory) {
        for pair in (0..PAIRS).rev() {
            let mut idle = 0;
            while idle < 20 {
                self.assist(pair, 1);
                idle = if self.reap(memory, pair) > 0 { 0 } else { idle + 1 };
            }
            let queue = &self.pairs[pair];
            let waiting = |opcode: &u8| pair == 0 && *opcode == AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST.0;
            let left: Vec<_> = queue.outstanding.iter().filter(|(_, opcode)| !waiting(opcode)).collect();
            assert!(
                !self.orderly || !queue.exists || left.is_empty(),
                "never answered in queue {pair}: {left:x?}"
            );
        }
    }
}

/// Keeps a command of the input from making or deleting the queues that the host follows.
fn leave_queues_alone(sqe: &mut Sqe) {
    let of_queues = [
        AdminOpcode::DELETE_SUBMISSION_QUEUE,
        AdminOpcode::CREATE_SUBMISSION_QUEUE,
        AdminOpcode::DELETE_COMPLETION_QUEUE,
        AdminOpcode::CREATE_COMPLETION_QUEUE,
    ];
    if of_queues.contains(&AdminOpcode(sqe.opcode)) {
        let number = sqe.cdw10.get();
        let first = u32::try_from(PAIRS).expect("there are few");
        sqe.cdw10 = ((number & 0xffff_0000) | (first + number % 4)).into();
    }
}

/// Keeps a command of the input from changing the namespace whose bytes are followed.
fn leave_followed_alone(sqe: &mut Sqe) {
    let reads = [NvmOpcode::READ, NvmOpcode::COMPARE, NvmOpcode::VERIFY, NvmOpcode::FLUSH];
    if sqe.nsid.get() == FOLLOWED_NAMESPACE && !reads.contains(&NvmOpcode(sqe.opcode)) {
        sqe.nsid = 1.into();
    }
}
