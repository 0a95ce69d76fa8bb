//! I/O commands of the NVM command set (NVM, section 3), made and taken apart.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{NvmOpcode, Sqe};

/// In dword 12 of writes, reads and the like: Limited Retry.
pub const LIMITED_RETRY: u32 = 1 << 31;
/// In dword 12: Force Unit Access.
pub const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// In dword 12: Protection Information, four bits from here on.
pub const PROTECTION_SHIFT: u32 = 26;
/// In dword 12 of Write Zeroes: Deallocate.
pub const DEALLOCATE: u32 = 1 << 25;
/// In dword 11 of Dataset Management: Deallocate.
pub const DSM_DEALLOCATE: u32 = 1 << 2;
/// In dword 11 of Dataset Management: Integral Dataset for Write.
pub const DSM_WRITE: u32 = 1 << 1;
/// In dword 11 of Dataset Management: Integral Dataset for Read.
pub const DSM_READ: u32 = 1 << 0;
/// Most ranges of one Dataset Management command.
pub const DSM_RANGES_MOST: u32 = 256;

/// Number of Logical Blocks of a command that has it in the low half of dword 12, where it is one less.
#[must_use]
pub fn blocks(sqe: &Sqe) -> u32 {
    (sqe.cdw12.get() & 0xffff) + 1
}

fn transfer(opcode: NvmOpcode, nsid: u32, slba: u64, blocks: u32, flags: u32) -> Sqe {
    // Zero blocks cannot be asked for, nor more than 65,536; the field is one less than the number.
    let count = blocks.saturating_sub(1).min(0xffff);
    Sqe { cdw12: (count | flags).into(), ..Sqe::new(opcode.0, nsid).with_slba(slba) }
}

/// Flush: what was completed before becomes durable. `nsid` may be all ones where the controller says so.
#[must_use]
pub fn flush(nsid: u32) -> Sqe {
    Sqe::new(NvmOpcode::FLUSH.0, nsid)
}

/// Read `blocks` (1 to 65,536) blocks.
#[must_use]
pub fn read(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    transfer(NvmOpcode::READ, nsid, slba, blocks, 0)
}

/// Write `blocks` (1 to 65,536) blocks.
#[must_use]
pub fn write(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    transfer(NvmOpcode::WRITE, nsid, slba, blocks, 0)
}

/// Compare `blocks` (1 to 65,536) blocks with memory.
#[must_use]
pub fn compare(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    transfer(NvmOpcode::COMPARE, nsid, slba, blocks, 0)
}

/// Let the controller read `blocks` (1 to 65,536) blocks for itself.
#[must_use]
pub fn verify(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    transfer(NvmOpcode::VERIFY, nsid, slba, blocks, 0)
}

/// Write zeros to `blocks` (1 to 65,536) blocks; with `deallocate` their space may be given back.
#[must_use]
pub fn write_zeroes(nsid: u32, slba: u64, blocks: u32, deallocate: bool) -> Sqe {
    let flags = if deallocate { DEALLOCATE } else { 0 };
    transfer(NvmOpcode::WRITE_ZEROES, nsid, slba, blocks, flags)
}

/// Dataset Management of `ranges` (1 to 256) ranges that the data pointer leads to; `attributes` are `DSM_*`.
#[must_use]
pub fn dataset_management(nsid: u32, ranges: u16, attributes: u32) -> Sqe {
    let count = u32::from(ranges.saturating_sub(1).min(0xff));
    Sqe { cdw10: count.into(), cdw11: attributes.into(), ..Sqe::new(NvmOpcode::DATASET_MANAGEMENT.0, nsid) }
}

/// Copy `ranges` (1 to 256) source ranges of format 0, which the data pointer leads to, to `slba`.
#[must_use]
pub fn copy(nsid: u32, slba: u64, ranges: u16) -> Sqe {
    let count = u32::from(ranges.saturating_sub(1).min(0xff));
    Sqe { cdw12: count.into(), ..Sqe::new(NvmOpcode::COPY.0, nsid).with_slba(slba) }
}

/// A range of Dataset Management: 16 bytes (NVM, figure 42).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct DsmRange {
    /// Context attributes.
    pub attributes: U32,
    /// Length in logical blocks.
    pub blocks: U32,
    /// First logical block.
    pub slba: U64,
}

const _: () = assert!(size_of::<DsmRange>() == 16);

/// A source range of Copy, descriptor format 0: 32 bytes (NVM, figure 34).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct CopyRange {
    /// 0 in this format.
    pub source_parameters: U32,
    /// Reserved.
    pub reserved: U32,
    /// First logical block.
    pub slba: U64,
    /// Number of logical blocks, less one.
    pub blocks: U16,
    /// Reserved.
    pub reserved_2: [u8; 6],
    /// Expected initial reference tag.
    pub reference_tag: U32,
    /// Expected application tag.
    pub application_tag: U16,
    /// Expected application tag mask.
    pub application_tag_mask: U16,
}

const _: () = assert!(size_of::<CopyRange>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_blocks_are_one_less_on_the_wire() {
        let sqe = read(7, 0x1_0000_0002, 8);
        assert_eq!((sqe.opcode, sqe.nsid.get(), sqe.slba(), sqe.cdw12.get()), (2, 7, 0x1_0000_0002, 7));
        assert_eq!(blocks(&sqe), 8);
        assert_eq!(blocks(&write(1, 0, 65535)), 65535);
        assert_eq!(blocks(&read(1, 0, 65536)), 65536, "as many as the field can say");
        assert_eq!(blocks(&verify(1, 0, u32::MAX)), 65536);
        assert_eq!(dataset_management(1, 256, 0).cdw10.get(), 255);
        assert_eq!(write_zeroes(1, 0, 1, true).cdw12.get(), 1 << 25);
        assert_eq!(dataset_management(1, 3, DSM_DEALLOCATE).cdw10.get(), 2);
        assert_eq!(copy(1, 9, 2).cdw12.get(), 1);
    }
}
