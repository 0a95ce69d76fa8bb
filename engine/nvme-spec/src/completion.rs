//! Completion queue entries (Base, section 4.2.1).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Status;
use crate::bits::{low_u16, low_u32};

/// A completion queue entry: 16 bytes (Base, figure 97).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Cqe {
    /// Of the command.
    pub dw0: U32,
    /// Of the command.
    pub dw1: U32,
    /// The submission queue's head when the entry was made: what lies before it may be overwritten.
    pub sq_head: U16,
    /// The submission queue that the command came from.
    pub sq_id: U16,
    /// The command's identifier.
    pub cid: U16,
    /// Bit 0: phase tag. Above: status.
    pub status_and_phase: U16,
}

const _: () = assert!(size_of::<Cqe>() == 16);

impl Cqe {
    /// The phase tag (Base, section 4.2.4): 1 in the first round through the queue, then 0, and so on.
    #[must_use]
    pub fn phase(&self) -> bool {
        self.status_and_phase.get() & 1 != 0
    }

    /// What came of the command.
    #[must_use]
    pub fn status(&self) -> Status {
        Status(self.status_and_phase.get() >> 1)
    }

    /// Both of the above, as the entry has them.
    #[must_use]
    pub fn pack(status: Status, phase: bool) -> U16 {
        U16::new(status.0 << 1 | u16::from(phase))
    }

    /// As two words of 64 bits; the second has the phase and is stored last.
    #[must_use]
    #[inline]
    pub fn to_words(&self) -> [u64; 2] {
        let second = u64::from(self.sq_head.get())
            | u64::from(self.sq_id.get()) << 16
            | u64::from(self.cid.get()) << 32
            | u64::from(self.status_and_phase.get()) << 48;
        [u64::from(self.dw0.get()) | u64::from(self.dw1.get()) << 32, second]
    }

    /// From two words of 64 bits.
    #[must_use]
    #[inline]
    pub fn from_words([first, second]: [u64; 2]) -> Self {
        Self {
            dw0: low_u32(first).into(),
            dw1: low_u32(first >> 32).into(),
            sq_head: low_u16(second).into(),
            sq_id: low_u16(second >> 16).into(),
            cid: low_u16(second >> 32).into(),
            status_and_phase: low_u16(second >> 48).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_bytes_in_order() {
        let bytes: [u8; 16] = core::array::from_fn(|at| u8::try_from(at + 1).unwrap());
        let cqe = Cqe::read_from_bytes(&bytes).unwrap();
        let [first, second] = cqe.to_words();
        assert_eq!([first.to_le_bytes(), second.to_le_bytes()].concat_bytes(), bytes);
        assert_eq!(Cqe::from_words([first, second]), cqe);
    }

    trait ConcatBytes {
        fn concat_bytes(self) -> [u8; 16];
    }

    impl ConcatBytes for [[u8; 8]; 2] {
        fn concat_bytes(self) -> [u8; 16] {
            let mut all = [0; 16];
            all[..8].copy_from_slice(&self[0]);
            all[8..].copy_from_slice(&self[1]);
            all
        }
    }

    #[test]
    fn status_and_phase_are_packed_and_unpacked() {
        let packed = Cqe { status_and_phase: Cqe::pack(Status::LBA_OUT_OF_RANGE, true), ..Cqe::default() };
        assert!(packed.phase());
        assert_eq!(packed.status(), Status::LBA_OUT_OF_RANGE);
        assert_eq!(packed.status_and_phase.get(), 0x0101);
    }
}
