//! What an input says: how the controller is made, and what its host does.

use arbitrary::{Arbitrary, Unstructured};
use engine_dma::{to_u64, to_usize};
use engine_nvme_spec::{FLAG_SGL, Sqe};

use super::memory::{AREA, AREAS, RINGS};

/// Most actions of one input.
const ACTIONS_MOST: usize = 300;

/// An input.
#[derive(Debug)]
pub(super) struct Input {
    /// Whether the host keeps its queues in order, so that every command can be followed to its answer. Otherwise it does
    /// anything anywhere.
    pub(super) orderly: bool,
    pub(super) doorbell_stride: u8,
    pub(super) mdts: u8,
    pub(super) page_shift: u8,
    pub(super) weighted: bool,
    pub(super) actions: Vec<Action>,
}

impl Input {
    /// From bytes, as many actions as they have. A list of actions made by `arbitrary` would end after each with one
    /// half's chance, and random numbers would never get far.
    pub(super) fn new(bytes: &[u8]) -> arbitrary::Result<Self> {
        let mut rest = Unstructured::new(bytes);
        let [choices, doorbell_stride, mdts, page_shift] = rest.arbitrary()?;
        let mut actions = Vec::new();
        while !rest.is_empty() && actions.len() < ACTIONS_MOST {
            actions.push(rest.arbitrary()?);
        }
        let (orderly, weighted) = (choices & 1 != 0, choices & 2 != 0);
        Ok(Self { orderly, doorbell_stride, mdts, page_shift, weighted, actions })
    }
}

/// What a host does. Kinds that get far are kinds of their own, since random numbers choose each kind as often.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Action {
    /// A command of the admin queue.
    SubmitAdmin {
        command: Admin,
    },
    /// A command of an I/O queue, or now and then in the admin queue.
    Submit {
        pair: u8,
        command: Io,
    },
    /// Any bytes, in any queue.
    SubmitRaw {
        pair: u8,
        bytes: Box<[u8; 64]>,
    },
    /// Several I/O commands at once.
    Burst {
        pair: u8,
        command: Io,
        count: u8,
    },
    /// Bytes of another namespace, written and remembered.
    Write {
        blocks: Blocks,
        seed: u8,
    },
    /// Bytes of that namespace, compared with what was written.
    Read {
        blocks: Blocks,
    },
    /// The controller's turn.
    Assist {
        pair: u8,
        turns: u8,
    },
    /// Answers are taken.
    Reap {
        pair: u8,
    },
    /// Queues are made, or now and then deleted.
    Pair {
        pair: u8,
        delete: u8,
    },
    Poke(Poke),
    Register(Register),
    Memory(Memory),
    Namespace(Change),
    Life(Life),
}

/// Something in the host's memory.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Poke {
    /// Bytes.
    Bytes { place: Place, bytes: [u8; 16] },
    /// A list of pages.
    Pages { place: Place, entries: [Address; 6] },
    /// A list of descriptors.
    Descriptors { place: Place, entries: [(Address, Value, u8); 4] },
    /// Ranges for Dataset Management: first block and number of blocks.
    Ranges { place: Place, entries: [(Lba, u8); 4] },
    /// Source ranges for Copy: first block and number of blocks less one.
    Sources { place: Place, entries: [(Lba, u8); 2] },
}

/// A register.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Register {
    /// Written, at any offset and with any length.
    Write { offset: Offset, value: u64, length: u8 },
    /// Read, at any offset and with any length.
    Read { offset: Offset, length: u8 },
    /// A doorbell, by its register or in the memory that is shared.
    Ring { queue: u8, completion: bool, value: Value, mapped: bool },
}

/// What the controller may reach.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Memory {
    Unmap { area: u8 },
    Map { area: u8 },
}

/// A namespace changes.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Change {
    Resize { blocks: u8 },
    ReadOnly { on: u8 },
    Remove { nsid: u8 },
    Add { nsid: u8 },
}

/// The controller's life, where the number says so; then it is enabled again.
#[derive(Debug, Clone, Arbitrary)]
pub(super) struct Life {
    pub(super) often: u8,
    pub(super) end: End,
}

/// What ends all queues.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum End {
    /// CC.EN to 0.
    Disable,
    /// CC.SHN, then CC.EN to 0.
    ShutDown { abrupt: bool },
    /// A reset of the subsystem.
    ResetSubsystem,
    /// A reset of the function.
    Reset,
    /// Nothing; the host goes on with what it has.
    Nothing,
}

/// A range of the namespace whose bytes are followed.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Blocks {
    pub(super) first: u8,
    pub(super) count: u8,
    /// Where in a page the memory starts, in units of 4 bytes.
    pub(super) start: u16,
    pub(super) sgl: bool,
}

/// A register.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Offset {
    /// One of the known ones.
    Known(u8),
    /// A doorbell, or close to one.
    Doorbell(u8),
    Any(u32),
}

impl Offset {
    pub(super) fn value(self) -> u32 {
        match self {
            Self::Known(number) => u32::from(number % 28) * 4,
            Self::Doorbell(number) => 0x1000 + u32::from(number),
            Self::Any(offset) => offset,
        }
    }
}

/// A number that is mostly small.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Value {
    Small(u8),
    Middle(u16),
    Any(u32),
}

impl Value {
    pub(super) fn value(self) -> u32 {
        match self {
            Self::Small(value) => value.into(),
            Self::Middle(value) => value.into(),
            Self::Any(value) => value,
        }
    }
}

/// A logical block that is mostly there.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Lba {
    Inside(u8),
    First(u8),
    /// One of the last, or just behind them.
    Last(u8),
    Any(Value),
}

impl Lba {
    pub(super) fn value(self) -> u64 {
        match self {
            Self::Inside(block) => u64::from(block % 120),
            Self::First(block) => u64::from(block % 8),
            Self::Last(block) => 124 + u64::from(block % 6),
            Self::Any(value) => value.value().into(),
        }
    }
}

/// A place in memory that the host has.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Place {
    pub(super) area: u8,
    offset: u16,
}

impl Place {
    /// In the area: half of them at the beginning of a page, where commands look for lists.
    pub(super) fn offset(self) -> usize {
        let offset = usize::from(self.offset);
        if offset & 1 == 1 { offset / 2 % 4 * 4096 } else { offset % to_usize(AREA) }
    }
}

/// A bus address.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Address {
    /// The beginning of a page.
    Page(u8, u8),
    /// Anywhere in an area, or just after it.
    Within(Place),
    /// In the queues; in an area where the host is orderly.
    Queues(u16),
    Any(u64),
}

impl Address {
    pub(super) fn value(self, orderly: bool) -> u64 {
        match self {
            Self::Page(area, page) => AREAS[usize::from(area) % AREAS.len()] + u64::from(page % 5) * 4096,
            Self::Within(place) => AREAS[usize::from(place.area) % AREAS.len()] + to_u64(place.offset()),
            Self::Queues(offset) if orderly => AREAS[0] + u64::from(offset) % AREA,
            Self::Queues(offset) => RINGS + u64::from(offset),
            Self::Any(address) if orderly && address.wrapping_sub(RINGS) < 1 << 20 => 0,
            Self::Any(address) => address,
        }
    }
}

/// A command of an I/O queue.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Io {
    opcode: u8,
    namespace: u8,
    slba: Lba,
    blocks: Lba,
    flags: u8,
    first: Address,
    second: Address,
    length: Value,
    kind: u8,
}

/// A command of the admin queue.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Admin {
    opcode: u8,
    namespace: u8,
    low: Value,
    high: Value,
    cdw: [u8; 4],
    first: Address,
    second: Address,
}

fn nsid(selected: u8) -> u32 {
    match selected % 16 {
        15 => u32::MAX,
        14 => 0,
        13 => 9,
        other => u32::from(other % 4) + 1,
    }
}

impl Io {
    pub(super) fn sqe(&self, orderly: bool) -> Sqe {
        const OPCODES: [u8; 12] = [0x02, 0x01, 0x02, 0x01, 0x00, 0x05, 0x08, 0x09, 0x0c, 0x19, 0x04, 0x03];
        let opcode = OPCODES[usize::from(self.opcode) % OPCODES.len()];
        let mut sqe = Sqe::new(opcode, nsid(self.namespace)).with_slba(self.slba.value());
        let blocks = match self.blocks {
            Lba::Any(value) => value.value(),
            Lba::Inside(count) | Lba::First(count) => u32::from(count % 12),
            Lba::Last(count) => u32::from(count % 3),
        };
        sqe.cdw12 = blocks.into();
        match opcode {
            // Ranges, and what is to happen to them.
            0x09 => (sqe.cdw10, sqe.cdw11) = ((blocks & 3).into(), (u32::from(self.flags) & 7).into()),
            0x19 => sqe.cdw12 = (blocks & 0x701).into(),
            _ => {}
        }
        let (first, second) = (self.first.value(orderly), self.second.value(orderly));
        sqe = sqe.with_prps(first, second);
        if self.flags & 0x30 == 0x30 {
            // An SGL: the length in the low half of the second word, the kind in its last byte.
            let length = u64::from(self.length.value());
            sqe.flags |= FLAG_SGL;
            sqe.prp2 = (length | u64::from(self.kind % 6) << 60).into();
        }
        if self.flags & 0x40 != 0 && self.flags & 0x80 != 0 {
            sqe.flags |= self.kind;
        }
        sqe
    }
}

impl Admin {
    pub(super) fn sqe(&self, orderly: bool) -> Sqe {
        const OPCODES: [u8; 16] =
            [0x06, 0x02, 0x09, 0x0a, 0x08, 0x0c, 0x00, 0x01, 0x04, 0x05, 0x7c, 0x80, 0x0d, 0x06, 0x02, 0xff];
        const FEATURES: [u32; 15] = [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 14, 0x16, 0x19, 0x81, 0x84];
        const CNS: [u32; 14] = [0, 1, 2, 3, 5, 6, 7, 8, 0x10, 0x11, 0x12, 0x13, 0x1c, 4];
        let opcode = OPCODES[usize::from(self.opcode) % OPCODES.len()];
        let [a, b, c, d] = self.cdw;
        let pick = |list: &[u32]| list[usize::from(a) % list.len()];
        let (low, high) = (self.low.value(), self.high.value());
        let mut sqe = Sqe::new(opcode, nsid(self.namespace))
            .with_prps(self.first.value(orderly), self.second.value(orderly));
        (sqe.cdw10, sqe.cdw11) = (low.into(), high.into());
        match opcode {
            0x06 => sqe.cdw10 = (pick(&CNS) | u32::from(b) << 16).into(),
            0x02 => {
                sqe.cdw10 = (u32::from(a) % 0x16 | u32::from(b) << 8 | (low & 0xffff) << 16).into();
                sqe.cdw11 = u32::from(c & 1).into();
                sqe.cdw12 = high.into();
                sqe.cdw13 = u32::from(d & 1).into();
            }
            0x09 => sqe.cdw10 = (pick(&FEATURES) | u32::from(b & 0x80) << 24).into(),
            0x0a => sqe.cdw10 = (pick(&FEATURES) | u32::from(b) << 8).into(),
            0x08 => sqe.cdw10 = (u32::from(a % 10) | (low & 0xffff) << 16).into(),
            0x00 | 0x01 | 0x04 | 0x05 => {
                sqe.cdw10 = (u32::from(a % 12) | (low & 0xff) << 16).into();
                sqe.cdw11 = (u32::from(b & 7) | u32::from(c % 10) << 16).into();
            }
            _ => {}
        }
        sqe
    }
}
