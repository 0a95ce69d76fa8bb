//! The registers behind BAR0 (Base, section 3.1.4; PCIe, section 3.1.2).

use crate::bits::{field, low_u8, low_u16, low_u32, with_field};

/// Offsets of the registers in bytes.
pub mod register {
    /// Controller Capabilities, 64 bits.
    pub const CAP: u32 = 0x00;
    /// Version, 32 bits.
    pub const VS: u32 = 0x08;
    /// Interrupt Mask Set, 32 bits; not with MSI-X.
    pub const INTMS: u32 = 0x0c;
    /// Interrupt Mask Clear, 32 bits; not with MSI-X.
    pub const INTMC: u32 = 0x10;
    /// Controller Configuration, 32 bits.
    pub const CC: u32 = 0x14;
    /// Controller Status, 32 bits.
    pub const CSTS: u32 = 0x1c;
    /// NVM Subsystem Reset, 32 bits.
    pub const NSSR: u32 = 0x20;
    /// Admin Queue Attributes, 32 bits.
    pub const AQA: u32 = 0x24;
    /// Admin Submission Queue Base Address, 64 bits.
    pub const ASQ: u32 = 0x28;
    /// Admin Completion Queue Base Address, 64 bits.
    pub const ACQ: u32 = 0x30;
    /// Controller Memory Buffer Location, 32 bits.
    pub const CMBLOC: u32 = 0x38;
    /// Controller Memory Buffer Size, 32 bits.
    pub const CMBSZ: u32 = 0x3c;
    /// Boot Partition Information, 32 bits.
    pub const BPINFO: u32 = 0x40;
    /// Boot Partition Read Select, 32 bits.
    pub const BPRSEL: u32 = 0x44;
    /// Boot Partition Memory Buffer Location, 64 bits.
    pub const BPMBL: u32 = 0x48;
    /// Controller Memory Buffer Memory Space Control, 64 bits.
    pub const CMBMSC: u32 = 0x50;
    /// Controller Memory Buffer Status, 32 bits.
    pub const CMBSTS: u32 = 0x58;
    /// NVM Subsystem Shutdown, 32 bits.
    pub const NSSD: u32 = 0x64;
    /// Controller Ready Timeouts, 32 bits.
    pub const CRTO: u32 = 0x68;
    /// Persistent Memory Region Capabilities, 32 bits.
    pub const PMRCAP: u32 = 0xe00;
    /// "NVMe", which a driver writes to NSSR to reset the subsystem.
    pub const NSSR_RESET: u32 = 0x4e56_4d65;
}

/// Where the doorbells start (PCIe, section 3.1.2.1).
pub const DOORBELLS: u32 = 0x1000;

/// The offset in BAR0 of the doorbell of queue `queue`: its submission queue's tail, or its completion queue's head. The
/// doorbells are `4 << stride` bytes apart, with `stride` from [`Cap::dstrd`].
#[must_use]
pub const fn doorbell(queue: u16, completion: bool, stride: u8) -> u64 {
    #[allow(clippy::as_conversions, reason = "widening, which has no From in constants")]
    let index = 2 * queue as u64 + completion as u64;
    #[allow(clippy::as_conversions, reason = "widening, which has no From in constants")]
    let base = DOORBELLS as u64;
    base + index * (4 << (stride & 15))
}

macro_rules! fields {
    (
        $(#[$meta:meta])*
        $name:ident($inner:ty, $narrow:ident) {
            $( $(#[$field_meta:meta])* $field:ident, $with:ident: $kind:ident, $first:literal, $count:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            $(
                $(#[$field_meta])*
                #[must_use]
                pub const fn $field(self) -> fields!(@type $kind) {
                    #[allow(clippy::as_conversions, reason = "widening, which has no From in constants")]
                    let word = self.0 as u64;
                    fields!(@get $kind, field(word, $first, $count))
                }

                /// With this field set to the low bits of `value`.
                #[must_use]
                pub const fn $with(self, value: fields!(@type $kind)) -> Self {
                    #[allow(clippy::as_conversions, reason = "widening, which has no From in constants")]
                    let (word, value) = (self.0 as u64, value as u64);
                    Self($narrow(with_field(word, $first, $count, value)))
                }
            )*
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(stringify!($field), &self.$field()) )*
                    .finish()
            }
        }
    };
    (@type bool) => { bool };
    (@type u8) => { u8 };
    (@type u16) => { u16 };
    (@get bool, $value:expr) => { $value != 0 };
    (@get u8, $value:expr) => { low_u8($value) };
    (@get u16, $value:expr) => { low_u16($value) };
}

const fn whole(word: u64) -> u64 {
    word
}

fields! {
    /// Controller Capabilities (Base, figure 36).
    Cap(u64, whole) {
        /// Maximum Queue Entries Supported, one less than the number.
        mqes, with_mqes: u16, 0, 16;
        /// Contiguous Queues Required.
        cqr, with_cqr: bool, 16, 1;
        /// Arbitration Mechanism Supported: bit 0 weighted round robin, bit 1 vendor specific.
        ams, with_ams: u8, 17, 2;
        /// Timeout for ready to follow enable, in units of 500 milliseconds.
        to, with_to: u8, 24, 8;
        /// Doorbell Stride: doorbells are `4 << dstrd` bytes apart.
        dstrd, with_dstrd: u8, 32, 4;
        /// NVM Subsystem Reset Supported.
        nssrs, with_nssrs: bool, 36, 1;
        /// Command Sets Supported: bit 0 NVM, bit 6 others too, bit 7 no I/O command set.
        css, with_css: u8, 37, 8;
        /// Boot Partition Support.
        bps, with_bps: bool, 45, 1;
        /// Controller Power Scope.
        cps, with_cps: u8, 46, 2;
        /// Smallest memory page: `4096 << mpsmin` bytes.
        mpsmin, with_mpsmin: u8, 48, 4;
        /// Largest memory page: `4096 << mpsmax` bytes.
        mpsmax, with_mpsmax: u8, 52, 4;
        /// Persistent Memory Region Supported.
        pmrs, with_pmrs: bool, 56, 1;
        /// Controller Memory Buffer Supported.
        cmbs, with_cmbs: bool, 57, 1;
        /// NVM Subsystem Shutdown Supported.
        nsss, with_nsss: bool, 58, 1;
        /// Controller Ready Modes Supported: bit 0 with media, bit 1 independent of media.
        crms, with_crms: u8, 59, 2;
    }
}

fields! {
    /// Controller Configuration (Base, figure 41).
    Cc(u32, low_u32) {
        /// Enable.
        en, with_en: bool, 0, 1;
        /// I/O Command Set Selected: 0 NVM, 6 all that are supported, 7 none.
        css, with_css: u8, 4, 3;
        /// Memory Page Size: `4096 << mps` bytes.
        mps, with_mps: u8, 7, 4;
        /// Arbitration Mechanism Selected: 0 round robin, 1 weighted round robin, 7 vendor specific.
        ams, with_ams: u8, 11, 3;
        /// Shutdown Notification, see [`Shutdown`].
        shn, with_shn: u8, 14, 2;
        /// I/O Submission Queue Entry Size, as a power of two.
        iosqes, with_iosqes: u8, 16, 4;
        /// I/O Completion Queue Entry Size, as a power of two.
        iocqes, with_iocqes: u8, 20, 4;
        /// Controller Ready Independent of Media Enable.
        crime, with_crime: bool, 24, 1;
    }
}

open_type! {
    /// What a driver says with [`Cc::shn`].
    Shutdown(u8) {
        /// Nothing.
        NONE = 0,
        /// A normal shutdown, with time to finish.
        NORMAL = 1,
        /// Power is about to go.
        ABRUPT = 2,
    }
}

fields! {
    /// Controller Status (Base, figure 42).
    Csts(u32, low_u32) {
        /// Ready: commands are taken.
        rdy, with_rdy: bool, 0, 1;
        /// Controller Fatal Status.
        cfs, with_cfs: bool, 1, 1;
        /// Shutdown Status, see [`ShutdownStatus`].
        shst, with_shst: u8, 2, 2;
        /// NVM Subsystem Reset Occurred; cleared by writing 1.
        nssro, with_nssro: bool, 4, 1;
        /// Processing Paused.
        pp, with_pp: bool, 5, 1;
        /// Shutdown Type: whether the shutdown was of the subsystem.
        st, with_st: bool, 6, 1;
    }
}

open_type! {
    /// What a controller says with [`Csts::shst`].
    ShutdownStatus(u8) {
        /// Working.
        NORMAL = 0,
        /// On the way.
        OCCURRING = 1,
        /// Done.
        COMPLETE = 2,
    }
}

impl Csts {
    /// What the register of a controller that is not there any more reads as: the bus answers all bits set.
    pub const GONE: Self = Self(u32::MAX);
}

fields! {
    /// Admin Queue Attributes (Base, figure 46). Sizes are one less than the number of entries.
    Aqa(u32, low_u32) {
        /// Entries of the admin submission queue, less one.
        asqs, with_asqs: u16, 0, 12;
        /// Entries of the admin completion queue, less one.
        acqs, with_acqs: u16, 16, 12;
    }
}

fields! {
    /// Controller Ready Timeouts (Base, figure 58), in units of 500 milliseconds.
    Crto(u32, low_u32) {
        /// Ready with media.
        crwmt, with_crwmt: u16, 0, 16;
        /// Ready independent of media.
        crimt, with_crimt: u16, 16, 16;
    }
}

fields! {
    /// Version (Base, figure 37).
    Version(u32, low_u32) {
        /// Tertiary number.
        tertiary, with_tertiary: u8, 0, 8;
        /// Minor number.
        minor, with_minor: u8, 8, 8;
        /// Major number.
        major, with_major: u16, 16, 16;
    }
}

impl Version {
    /// Version 2.1.0, whose sections this crate names.
    pub const V2_1: Self = Self(0x0002_0100);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_a_real_drive_are_taken_apart() {
        // As qemu's controller reports them: CAP = 0x004018200f0107ff.
        let cap = Cap(0x0040_1820_0f01_07ff);
        assert_eq!((cap.mqes(), cap.cqr(), cap.to(), cap.dstrd()), (2047, true, 15, 0));
        assert_eq!((cap.css(), cap.mpsmin(), cap.mpsmax()), (0xc1, 0, 4));
    }

    #[test]
    fn fields_set_are_fields_read_and_disturb_no_others() {
        let cap = Cap(u64::MAX).with_mqes(0).with_dstrd(3).with_cqr(false);
        assert_eq!((cap.mqes(), cap.dstrd(), cap.cqr()), (0, 3, false));
        assert_eq!(cap.with_mqes(u16::MAX).with_dstrd(15).with_cqr(true), Cap(u64::MAX));
        assert_eq!(Cc::default().with_en(true).with_iosqes(6).with_iocqes(4).0, 0x0046_0001);
        assert_eq!(Aqa::default().with_asqs(0xffff).asqs(), 0xfff, "twelve bits");
        assert_eq!(Version::V2_1, Version::default().with_major(2).with_minor(1));
    }

    #[test]
    fn doorbells_lie_as_far_apart_as_the_stride_says() {
        assert_eq!(doorbell(0, false, 0), 0x1000);
        assert_eq!(doorbell(0, true, 0), 0x1004);
        assert_eq!(doorbell(3, false, 0), 0x1018);
        assert_eq!(doorbell(3, true, 4), 0x1000 + 7 * 64);
        assert_eq!(doorbell(u16::MAX, true, 15), 0x1000 + 131_071 * (4 << 15));
    }
}
