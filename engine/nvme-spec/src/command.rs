//! Submission queue entries (Base, section 4.1.1).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::SglDescriptor;
use crate::bits::{low_u16, low_u32};

/// A submission queue entry: 64 bytes (Base, figure 92).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Sqe {
    /// What to do, see [`AdminOpcode`](crate::AdminOpcode) and [`NvmOpcode`](crate::NvmOpcode).
    pub opcode: u8,
    /// Bits 0 and 1: fused operation; bits 6 and 7: whether the data pointer holds PRPs or SGLs.
    pub flags: u8,
    /// Command identifier: the same number in the completion.
    pub cid: U16,
    /// Namespace.
    pub nsid: U32,
    /// Of the command.
    pub cdw2: U32,
    /// Of the command.
    pub cdw3: U32,
    /// Metadata.
    pub mptr: U64,
    /// Data: PRP entry 1, or the first half of an SGL descriptor.
    pub prp1: U64,
    /// Data: PRP entry 2, or the second half of an SGL descriptor.
    pub prp2: U64,
    /// Of the command.
    pub cdw10: U32,
    /// Of the command.
    pub cdw11: U32,
    /// Of the command.
    pub cdw12: U32,
    /// Of the command.
    pub cdw13: U32,
    /// Of the command.
    pub cdw14: U32,
    /// Of the command.
    pub cdw15: U32,
}

const _: () = assert!(size_of::<Sqe>() == 64);

/// In [`Sqe::flags`]: SGLs for data, metadata by address (PSDT 01b).
pub const FLAG_SGL: u8 = 1 << 6;

/// Where the data of a command lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPointer {
    /// Two PRP entries (Base, section 4.3.1).
    Prp(u64, u64),
    /// An SGL descriptor (Base, section 4.3.2).
    Sgl(SglDescriptor),
}

impl Sqe {
    /// An entry with nothing but an opcode and a namespace.
    #[must_use]
    pub fn new(opcode: u8, nsid: u32) -> Self {
        Self { opcode, nsid: nsid.into(), ..Self::default() }
    }

    /// With these PRP entries for data.
    #[must_use]
    pub fn with_prps(self, prp1: u64, prp2: u64) -> Self {
        Self { prp1: prp1.into(), prp2: prp2.into(), ..self }
    }

    /// With this descriptor for data.
    #[must_use]
    pub fn with_sgl(self, descriptor: SglDescriptor) -> Self {
        let [first, second] = descriptor.to_words();
        Self { flags: self.flags | FLAG_SGL, prp1: first.into(), prp2: second.into(), ..self }
    }

    /// PRP or SGL for Data Transfer (PSDT): 0 PRPs, 1 and 2 SGLs, 3 reserved.
    #[must_use]
    pub fn psdt(&self) -> u8 {
        self.flags >> 6
    }

    /// Fused operation (FUSE): 0 none, 1 first command, 2 second command, 3 reserved.
    #[must_use]
    pub fn fuse(&self) -> u8 {
        self.flags & 3
    }

    /// Where the data lies; none where the flags are reserved.
    #[must_use]
    pub fn data(&self) -> Option<DataPointer> {
        let (first, second) = (self.prp1.get(), self.prp2.get());
        match self.psdt() {
            0 => Some(DataPointer::Prp(first, second)),
            1 | 2 => Some(DataPointer::Sgl(SglDescriptor::from_words([first, second]))),
            _ => None,
        }
    }

    /// Dwords 10 and 11 as one number: the first logical block of most commands.
    #[must_use]
    pub fn slba(&self) -> u64 {
        u64::from(self.cdw10.get()) | u64::from(self.cdw11.get()) << 32
    }

    /// With dwords 10 and 11 set to this number.
    #[must_use]
    pub fn with_slba(self, slba: u64) -> Self {
        Self { cdw10: low_u32(slba).into(), cdw11: low_u32(slba >> 32).into(), ..self }
    }

    /// As eight words of 64 bits, for those who store it in place.
    #[must_use]
    #[inline]
    pub fn to_words(&self) -> [u64; 8] {
        let pair = |low: U32, high: U32| u64::from(low.get()) | u64::from(high.get()) << 32;
        let head = u64::from(self.opcode) | u64::from(self.flags) << 8 | u64::from(self.cid.get()) << 16;
        [
            head | u64::from(self.nsid.get()) << 32,
            pair(self.cdw2, self.cdw3),
            self.mptr.get(),
            self.prp1.get(),
            self.prp2.get(),
            pair(self.cdw10, self.cdw11),
            pair(self.cdw12, self.cdw13),
            pair(self.cdw14, self.cdw15),
        ]
    }

    /// From eight words of 64 bits.
    #[must_use]
    #[inline]
    pub fn from_words(words: [u64; 8]) -> Self {
        let [head, cdw2, mptr, prp1, prp2, cdw10, cdw12, cdw14] = words;
        let low = |word: u64| U32::new(low_u32(word));
        let high = |word: u64| U32::new(low_u32(word >> 32));
        let [opcode, flags, ..] = head.to_le_bytes();
        Self {
            opcode,
            flags,
            cid: low_u16(head >> 16).into(),
            nsid: high(head),
            cdw2: low(cdw2),
            cdw3: high(cdw2),
            mptr: mptr.into(),
            prp1: prp1.into(),
            prp2: prp2.into(),
            cdw10: low(cdw10),
            cdw11: high(cdw10),
            cdw12: low(cdw12),
            cdw13: high(cdw12),
            cdw14: low(cdw14),
            cdw15: high(cdw14),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_lie_where_figure_92_has_them() {
        assert_eq!(offset_of!(Sqe, nsid), 4);
        assert_eq!(offset_of!(Sqe, mptr), 16);
        assert_eq!(offset_of!(Sqe, prp1), 24);
        assert_eq!(offset_of!(Sqe, cdw10), 40);
        assert_eq!(offset_of!(Sqe, cdw15), 60);
    }

    #[test]
    fn words_are_the_bytes_in_order() {
        let bytes: [u8; 64] = core::array::from_fn(|at| u8::try_from(at + 1).unwrap());
        let sqe = Sqe::read_from_bytes(&bytes).unwrap();
        let words = sqe.to_words();
        for (word, chunk) in words.iter().zip(bytes.chunks_exact(8)) {
            assert_eq!(word.to_le_bytes(), *chunk);
        }
        assert_eq!(Sqe::from_words(words), sqe);
        assert_eq!(sqe.slba(), 0x302f_2e2d_2c2b_2a29);
        assert_eq!(Sqe::default().with_slba(sqe.slba()).slba(), sqe.slba());
    }

    #[test]
    fn data_pointer_is_what_the_flags_say() {
        let sqe = Sqe::new(2, 1).with_prps(0x1000, 0x2000);
        assert_eq!(sqe.data(), Some(DataPointer::Prp(0x1000, 0x2000)));
        let descriptor = SglDescriptor::data_block(0x5000, 512);
        assert_eq!(Sqe::new(2, 1).with_sgl(descriptor).data(), Some(DataPointer::Sgl(descriptor)));
        assert_eq!(Sqe { flags: 0xc0, ..sqe }.data(), None);
    }
}
