//! What a controller can do, as whoever carries its commands out knows it.

use engine_nvme_spec::Version;
use engine_nvme_spec::identify::{oacs, oncs};

/// Limits of Copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// Most source ranges of one command, at least 1 and at most 128.
    pub ranges: u8,
    /// Most blocks of one source range.
    pub range_blocks: u16,
    /// Most blocks of one command.
    pub blocks: u32,
}

/// What a controller can do beside what every controller must. Identify, features and log pages say what stands here,
/// so it must be what the controller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerFacts {
    /// What the register says.
    pub version: Version,
    /// Most data of one command: `4096 << mdts` bytes; 0 for no limit.
    pub mdts: u8,
    /// SGLS of Identify Controller; 0 where only PRPs are taken.
    pub sgls: u32,
    /// Whether it takes Doorbell Buffer Config.
    pub shadow_doorbells: bool,
    /// Whether it takes Compare.
    pub compare: bool,
    /// Whether it takes Write Zeroes.
    pub write_zeroes: bool,
    /// Whether it takes Dataset Management.
    pub dataset_management: bool,
    /// Whether it takes Verify.
    pub verify: bool,
    /// Whether it takes Copy, and how much at a time.
    pub copy: Option<CopyLimits>,
    /// Whether it takes Compare and Write as a fused operation.
    pub fused_compare_and_write: bool,
    /// Whether Flush of all namespaces at once is taken.
    pub flush_all: bool,
    /// Most I/O queue pairs, at least 1.
    pub queues: u16,
    /// Interrupt vectors.
    pub vectors: u16,
    /// Abort commands at a time, at least 1.
    pub aborts: u8,
    /// Delays before a command is tried again, in units of 100 milliseconds (CRDT1 to CRDT3).
    pub retry_delays: [u16; 3],
    /// How long a shutdown may take, in microseconds.
    pub shutdown_time: u32,
}

impl Default for ControllerFacts {
    fn default() -> Self {
        Self {
            version: Version::V2_1,
            mdts: 8,
            // Any alignment; bit buckets; lists that are longer than the data.
            sgls: 1 | 1 << 16 | 1 << 18,
            shadow_doorbells: true,
            compare: true,
            write_zeroes: true,
            dataset_management: true,
            verify: true,
            copy: Some(CopyLimits { ranges: 128, range_blocks: 2048, blocks: 16384 }),
            fused_compare_and_write: false,
            flush_all: true,
            queues: 64,
            vectors: 65,
            aborts: 4,
            retry_delays: [0; 3],
            shutdown_time: 10_000_000,
        }
    }
}

impl ControllerFacts {
    pub(crate) fn oacs(&self) -> u16 {
        if self.shadow_doorbells { oacs::DOORBELL_BUFFERS } else { 0 }
    }

    pub(crate) fn oncs(&self) -> u16 {
        let bits = [
            (self.compare, oncs::COMPARE),
            (self.write_zeroes, oncs::WRITE_ZEROES),
            (self.dataset_management, oncs::DATASET_MANAGEMENT),
            (self.verify, oncs::VERIFY),
            (self.copy.is_some(), oncs::COPY),
        ];
        let optional = bits.into_iter().filter(|(there, _)| *there).map(|(_, bit)| bit);
        optional.fold(oncs::SAVE_SELECT | oncs::TIMESTAMP, |sum, bit| sum | bit)
    }
}
