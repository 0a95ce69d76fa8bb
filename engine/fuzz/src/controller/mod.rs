//! The controller against a host that does anything.
//!
//! Two kinds of hosts: one keeps its own queues in order and does everything else as the input says, so that each of its
//! commands can be followed to exactly one answer, and bytes written to the answer of a read; the other does not even
//! that. For both, memory that is not mapped (or not for writing) must not change, bytes outside a namespace must not be
//! seen, and nothing may panic or run on.

mod host;
mod input;
mod memory;

use std::sync::Arc;

use engine_block::testing::MemoryDevice;
use engine_controller::backing::{BlockBacking, MemoryBacking, NullBacking};
use engine_controller::{Backing, Controller, ControllerOptions, NamespaceOptions, Subsystem};
use engine_dma::{Region, to_u64, to_usize};
use engine_nvme_spec::{SglDescriptor, Sqe, Status, nvm, register};

use host::Host;
use input::{Action, Blocks, Change, End, Input, Life, Memory, Place, Poke, Register};
use memory::{FOLLOWED, HostMemory, PAIRS};

/// Bytes of each namespace with bytes.
const NAMESPACE: u64 = 64 << 10;
/// Its backing goes on for as long again, full of these, which nobody may see or change.
const SECRET: [u8; 8] = [0x5c, 0xa3, 0x17, 0xee, 0x42, 0x99, 0xd0, 0x6b];
/// The namespace whose bytes are followed, its block size and number of blocks.
const FOLLOWED_NAMESPACE: u32 = 2;
const FOLLOWED_BLOCK: usize = 4096;
const FOLLOWED_BLOCKS: u8 = 16;
/// In the followed memory: where descriptors and lists lie, and where data may start.
const LISTS: usize = 0;
const DATA: usize = 4096;

/// Runs one input and answers how many commands were answered.
pub(crate) fn check(bytes: &[u8]) -> usize {
    let Ok(input) = Input::new(bytes) else { return 0 };
    let mut world = World::new(&input);
    for action in &input.actions {
        world.act(action);
    }
    world.end()
}

struct World {
    controller: Arc<Controller>,
    subsystem: Arc<Subsystem>,
    memory: HostMemory,
    host: Host,
    orderly: bool,
    stride: u8,
    most: usize,
    backings: [Arc<Region>; 2],
    /// What the followed namespace holds.
    model: Vec<u8>,
}

fn guarded(region: &Arc<Region>) -> Arc<dyn Backing> {
    let secret = SECRET.repeat(to_usize(NAMESPACE) / SECRET.len());
    region.write(to_usize(NAMESPACE), &secret).expect("it is twice as long");
    Arc::new(MemoryBacking::over(Arc::clone(region)))
}

fn namespace(nsid: u32, backing: Arc<dyn Backing>, block_size: u32) -> NamespaceOptions {
    let blocks = Some(NAMESPACE / u64::from(block_size));
    NamespaceOptions { nsid: Some(nsid), block_size, blocks, ..NamespaceOptions::new(backing) }
}

impl World {
    fn new(input: &Input) -> Self {
        let region = || Region::private(to_usize(2 * NAMESPACE)).expect("there is memory");
        let backings = [region(), region()];
        let device = MemoryDevice::new(vec![0; to_usize(NAMESPACE)]).writable();
        let subsystem = Subsystem::builder()
            .namespace(namespace(1, guarded(&backings[0]), 512))
            .namespace(namespace(FOLLOWED_NAMESPACE, guarded(&backings[1]), 4096))
            .namespace(namespace(3, Arc::new(NullBacking::new(NAMESPACE)), 512))
            .namespace(namespace(4, Arc::new(BlockBacking::new(Arc::new(device))), 512))
            .build()
            .expect("the namespaces are right");
        let options = ControllerOptions {
            queue_pairs: 8,
            queue_entries: 64,
            threads: 0,
            vectors: 4,
            mdts: 1 + input.mdts % 5,
            doorbell_stride: input.doorbell_stride % 3,
            depth: 8,
            ..ControllerOptions::default()
        };
        let (stride, most) = (options.doorbell_stride, 4096 << options.mdts);
        let controller = Controller::new(options, Arc::clone(&subsystem)).expect("the options are right");
        let memory = HostMemory::new(&controller);
        let host = Host::new(&controller, input.orderly, stride, input.page_shift, input.weighted);
        let model = vec![0; to_usize(NAMESPACE)];
        let mut world = Self {
            controller,
            subsystem,
            memory,
            host,
            orderly: input.orderly,
            stride,
            most,
            backings,
            model,
        };
        world.host.enable(&mut world.memory);
        world.host.create_pair(&mut world.memory, 1);
        world
    }

    fn act(&mut self, action: &Action) {
        let pair = |pair: u8| usize::from(pair) % PAIRS;
        match action {
            Action::SubmitAdmin { command } => {
                self.host.submit(&mut self.memory, 0, command.sqe(self.orderly));
            }
            Action::Submit { pair: number, command } => {
                self.host.submit(&mut self.memory, mostly_io(*number), command.sqe(self.orderly));
            }
            Action::SubmitRaw { pair: number, bytes } => {
                self.host.submit(&mut self.memory, pair(*number), zerocopy::transmute!(**bytes));
            }
            Action::Burst { pair: number, command, count } => {
                for _ in 0..count % 32 {
                    self.host.submit(&mut self.memory, mostly_io(*number), command.sqe(self.orderly));
                }
            }
            Action::Write { blocks, seed } => self.write(*blocks, *seed),
            Action::Read { blocks } => self.read(*blocks),
            Action::Assist { pair: number, turns } => self.host.assist(pair(*number), usize::from(turns % 8)),
            Action::Reap { pair: number } => {
                self.host.reap(&self.memory, pair(*number));
            }
            Action::Pair { pair: number, delete } if *delete < 50 => {
                self.host.delete_pair(&mut self.memory, pair(*number));
            }
            Action::Pair { pair: number, .. } => self.host.create_pair(&mut self.memory, pair(*number)),
            Action::Poke(poke) => self.poke(poke),
            Action::Register(register) => self.register(register),
            Action::Memory(Memory::Unmap { area }) if !self.orderly && *area > 200 => {
                self.memory.rings.unmap(&self.controller);
            }
            Action::Memory(Memory::Unmap { area }) => {
                self.memory.area(*area).unmap(&self.controller);
                self.recover();
            }
            Action::Memory(Memory::Map { area }) => {
                self.memory.area(*area).map(&self.controller);
                self.memory.rings.map(&self.controller);
            }
            Action::Namespace(change) => self.change(change),
            Action::Life(Life { often, end }) if *often < 30 => {
                self.end_life(end);
                self.host.enable(&mut self.memory);
                self.host.create_pair(&mut self.memory, 1);
            }
            Action::Life(_) => {}
        }
    }

    /// Taking away memory in which commands of the input had queues made stops the controller; a host then resets it.
    fn recover(&mut self) {
        if self.orderly && self.host.has_failed() {
            self.end_life(&End::Disable);
            self.host.enable(&mut self.memory);
            self.host.create_pair(&mut self.memory, 1);
        }
    }

    fn poke(&mut self, poke: &Poke) {
        let orderly = self.orderly;
        let (place, align, bytes): (&Place, usize, Vec<u8>) = match poke {
            Poke::Bytes { place, bytes } => (place, 1, bytes.to_vec()),
            Poke::Pages { place, entries } => {
                (place, 8, entries.iter().flat_map(|entry| entry.value(orderly).to_le_bytes()).collect())
            }
            Poke::Descriptors { place, entries } => {
                let words = entries.iter().flat_map(|(address, length, kind)| {
                    [address.value(orderly), u64::from(length.value()) | u64::from(kind & 0x5f) << 56]
                });
                (place, 16, words.flat_map(u64::to_le_bytes).collect())
            }
            Poke::Ranges { place, entries } => {
                let words =
                    entries.iter().flat_map(|(slba, count)| [u64::from(count % 16) << 32, slba.value()]);
                (place, 16, words.flat_map(u64::to_le_bytes).collect())
            }
            Poke::Sources { place, entries } => {
                let words =
                    entries.iter().flat_map(|(slba, count)| [0, slba.value(), u64::from(count % 8), 0]);
                (place, 16, words.flat_map(u64::to_le_bytes).collect())
            }
        };
        let offset = place.offset();
        self.memory.area(place.area).write(offset - offset % align, &bytes);
    }

    fn register(&mut self, register: &Register) {
        match register {
            Register::Write { offset, value, length } => {
                let (offset, value) = (offset.value(), value.to_le_bytes());
                let length = usize::from(length % 9);
                if !self.orderly || !self.is_of_queues(offset, length) {
                    self.controller.write_register(offset, &value[..length]);
                }
            }
            Register::Read { offset, length } => {
                let mut bytes = vec![0; usize::from(length % 65)];
                self.controller.read_register(offset.value(), &mut bytes);
            }
            Register::Ring { queue, completion, value, mapped } => {
                self.ring(*queue, *completion, value.value(), *mapped);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        // What cannot be is refused, which is right as well.
        let _ = match change {
            Change::Resize { blocks } => self.subsystem.resize_namespace(1, u64::from(*blocks) % 129),
            Change::ReadOnly { on } => self.subsystem.set_read_only(1, *on < 50),
            Change::Remove { nsid } => self.subsystem.remove_namespace(changing(*nsid)).map(drop),
            Change::Add { nsid } => {
                let backing: Arc<dyn Backing> = match changing(*nsid) {
                    1 => Arc::new(MemoryBacking::over(Arc::clone(&self.backings[0]))),
                    _ => Arc::new(NullBacking::new(NAMESPACE)),
                };
                self.subsystem.add_namespace(namespace(changing(*nsid), backing, 512)).map(drop)
            }
        };
    }

    fn end_life(&mut self, end: &End) {
        match end {
            End::Disable => self.controller.write_register(register::CC, &[0; 4]),
            End::ShutDown { abrupt } => {
                self.shut_down(*abrupt);
                self.controller.write_register(register::CC, &[0; 4]);
            }
            End::ResetSubsystem => {
                self.controller.write_register(register::NSSR, &register::NSSR_RESET.to_le_bytes());
            }
            End::Reset => assert!(self.controller.reset(), "backings in memory let go at once"),
            End::Nothing => return,
        }
        self.host.forget();
    }

    /// Whether a register is one by which an orderly host runs its queues.
    fn is_of_queues(&self, offset: u32, length: usize) -> bool {
        let end = u64::from(offset) + to_u64(length);
        let doorbells = 0x1000 + (to_u64(PAIRS) * 2 * (4 << self.stride));
        let touches = |from: u64, to: u64| u64::from(offset) < to && end > from;
        touches(0x14, 0x38) || touches(0x1000, doorbells)
    }

    fn ring(&mut self, queue: u8, completion: bool, value: u32, mapped: bool) {
        let queue = if self.orderly { u16::from(queue % 8).max(5) } else { u16::from(queue % 16) };
        let offset = engine_nvme_spec::doorbell(queue, completion, self.stride);
        if mapped {
            if let Some(word) = self.controller.doorbells().u32_at(to_usize(offset - 0x1000)) {
                word.store(value, std::sync::atomic::Ordering::Release);
            }
        } else {
            let offset = u32::try_from(offset).expect("they lie close");
            self.controller.write_register(offset, &value.to_le_bytes());
        }
    }

    fn shut_down(&mut self, abrupt: bool) {
        let mut bytes = [0; 4];
        self.controller.read_register(register::CC, &mut bytes);
        let shutdown = if abrupt { 2 } else { 1 } << 14;
        let cc = u32::from_le_bytes(bytes) & !(3 << 14) | shutdown;
        self.controller.write_register(register::CC, &cc.to_le_bytes());
    }

    /// Where a command's data lies in the followed memory, and the command with a data pointer that leads there.
    fn place(&mut self, sqe: Sqe, blocks: Blocks, length: usize) -> (usize, Sqe) {
        let start = DATA + usize::from(blocks.start % 1024) * 4;
        let address = |offset: usize| FOLLOWED + to_u64(offset);
        if blocks.sgl {
            // Two parts, which lie apart and the other way round in the list.
            let half = length / 2;
            let parts = [SglDescriptor::data_block(address(start + half), u32_of(length - half))];
            let first = SglDescriptor::data_block(address(start), u32_of(half));
            let list: Vec<u8> = [first, parts[0]]
                .iter()
                .flat_map(|part| part.to_words())
                .flat_map(u64::to_le_bytes)
                .collect();
            self.memory.followed.write(LISTS, &list);
            return (start, sqe.with_sgl(SglDescriptor::segment(address(LISTS), 2, true)));
        }
        let pages = engine_nvme_spec::prp::pages(to_u64(start), to_u64(length), 4096);
        let page = |index: u64| engine_nvme_spec::prp::page_at(address(start), index, 4096);
        let second = match pages {
            0 | 1 => 0,
            2 => page(1),
            _ => {
                let list: Vec<u8> = (1..pages).flat_map(|index| page(index).to_le_bytes()).collect();
                self.memory.followed.write(LISTS, &list);
                address(LISTS)
            }
        };
        (start, sqe.with_prps(address(start), second))
    }

    /// First block, number of blocks, and the range of bytes in the model.
    fn range(&self, blocks: Blocks) -> (u64, u16, std::ops::Range<usize>) {
        let first = blocks.first % FOLLOWED_BLOCKS;
        let most =
            u8::try_from(self.most / FOLLOWED_BLOCK).unwrap_or(u8::MAX).min(FOLLOWED_BLOCKS - first).min(8);
        let count = 1 + blocks.count % most;
        let start = usize::from(first) * FOLLOWED_BLOCK;
        (first.into(), count.into(), start..start + usize::from(count) * FOLLOWED_BLOCK)
    }

    fn write(&mut self, blocks: Blocks, seed: u8) {
        if !self.orderly {
            return;
        }
        let (first, count, range) = self.range(blocks);
        let data: Vec<u8> =
            (0..range.len()).map(|at| u8::try_from(at * 7 % 251).unwrap_or(0) ^ seed).collect();
        let (start, sqe) =
            self.place(nvm::write(FOLLOWED_NAMESPACE, first, count.into()), blocks, range.len());
        self.memory.followed.write(start, &data);
        match self.host.command(&mut self.memory, 1, sqe) {
            Some(Status::SUCCESS) => self.model[range].copy_from_slice(&data),
            // A command of the input may have protected all namespaces.
            None | Some(Status::NAMESPACE_WRITE_PROTECTED) => {}
            Some(status) => panic!("blocks could not be written: {status}, {sqe:?}"),
        }
    }

    fn read(&mut self, blocks: Blocks) {
        if !self.orderly {
            return;
        }
        let (first, count, range) = self.range(blocks);
        let (start, sqe) =
            self.place(nvm::read(FOLLOWED_NAMESPACE, first, count.into()), blocks, range.len());
        let Some(status) = self.host.command(&mut self.memory, 1, sqe) else { return };
        assert_eq!(status, Status::SUCCESS, "{sqe:?}");
        let mut data = vec![0; range.len()];
        self.memory.followed.read(start, &mut data);
        let wrong = data.iter().zip(&self.model[range]).position(|(read, written)| read != written);
        assert_eq!(wrong, None, "bytes that were not written came back for {sqe:?}");
    }

    /// Lets everything come to its end and looks at what must not have changed.
    fn end(mut self) -> usize {
        self.host.drain(&self.memory);
        self.memory.check(SECRET);
        for region in &self.backings {
            let mut behind = vec![0; to_usize(NAMESPACE)];
            region.read(to_usize(NAMESPACE), &mut behind).expect("it is twice as long");
            assert!(
                behind.chunks(SECRET.len()).all(|bytes| bytes == SECRET),
                "bytes behind a namespace changed"
            );
        }
        assert!(
            self.controller.reset() && self.controller.unmap_all(),
            "the controller did not let go of all memory"
        );
        self.memory.check(SECRET);
        self.host.answered
    }
}

/// A namespace that may go and come back.
fn changing(nsid: u8) -> u32 {
    if nsid % 2 == 0 { 1 } else { 3 }
}

/// An I/O queue, and the admin queue now and then.
fn mostly_io(number: u8) -> usize {
    if number < 8 { 0 } else { 1 + usize::from(number) % (PAIRS - 1) }
}

fn u32_of(length: usize) -> u32 {
    u32::try_from(length).expect("transfers are short")
}
