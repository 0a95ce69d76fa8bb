//! Identify Controller (Base, figure 313; NVM adds the part from byte 512 on).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits of [`IdentifyController::oacs`].
pub mod oacs {
    /// Security Send and Receive.
    pub const SECURITY: u16 = 1 << 0;
    /// Format NVM.
    pub const FORMAT: u16 = 1 << 1;
    /// Firmware Commit and Image Download.
    pub const FIRMWARE: u16 = 1 << 2;
    /// Namespace Management and Attachment.
    pub const NAMESPACE_MANAGEMENT: u16 = 1 << 3;
    /// Device Self-test.
    pub const SELF_TEST: u16 = 1 << 4;
    /// Directives.
    pub const DIRECTIVES: u16 = 1 << 5;
    /// Virtualization Management.
    pub const VIRTUALIZATION: u16 = 1 << 7;
    /// Doorbell Buffer Config.
    pub const DOORBELL_BUFFERS: u16 = 1 << 8;
}

/// Bits of [`IdentifyController::oncs`].
pub mod oncs {
    /// Compare.
    pub const COMPARE: u16 = 1 << 0;
    /// Write Uncorrectable.
    pub const WRITE_UNCORRECTABLE: u16 = 1 << 1;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u16 = 1 << 2;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u16 = 1 << 3;
    /// Save and Select in features.
    pub const SAVE_SELECT: u16 = 1 << 4;
    /// Reservations.
    pub const RESERVATIONS: u16 = 1 << 5;
    /// Timestamp.
    pub const TIMESTAMP: u16 = 1 << 6;
    /// Verify.
    pub const VERIFY: u16 = 1 << 7;
    /// Copy.
    pub const COPY: u16 = 1 << 8;
}

/// Identify Controller: 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IdentifyController {
    /// PCI vendor.
    pub vid: U16,
    /// PCI subsystem vendor.
    pub ssvid: U16,
    /// Serial number: ASCII, filled up with spaces.
    pub sn: [u8; 20],
    /// Model number: ASCII, filled up with spaces.
    pub mn: [u8; 40],
    /// Firmware revision: ASCII, filled up with spaces.
    pub fr: [u8; 8],
    /// Recommended arbitration burst, as a power of two.
    pub rab: u8,
    /// IEEE OUI.
    pub ieee: [u8; 3],
    /// Multi-path and namespace sharing.
    pub cmic: u8,
    /// Maximum data transfer: `page << mdts` bytes with the smallest memory page; 0 without limit.
    pub mdts: u8,
    /// Controller identifier.
    pub cntlid: U16,
    /// Version, as the register has it.
    pub ver: U32,
    /// RTD3 resume latency in microseconds.
    pub rtd3r: U32,
    /// RTD3 entry latency in microseconds.
    pub rtd3e: U32,
    /// Optional asynchronous events; bit 8: namespace attribute notices.
    pub oaes: U32,
    /// Controller attributes.
    pub ctratt: U32,
    /// Read recovery levels.
    pub rrls: U16,
    /// Boot partition capabilities.
    pub bpcap: u8,
    /// Reserved.
    pub reserved_103: u8,
    /// NVM subsystem shutdown latency in microseconds.
    pub nssl: U32,
    /// Reserved.
    pub reserved_108: [u8; 2],
    /// Power loss signaling.
    pub plsi: u8,
    /// Controller type: 1 I/O, 2 discovery, 3 administrative.
    pub cntrltype: u8,
    /// FRU globally unique identifier.
    pub fguid: [u8; 16],
    /// Command retry delay times 1 to 3, in units of 100 milliseconds.
    pub crdt: [U16; 3],
    /// Controller reachability.
    pub crcap: u8,
    /// Reserved.
    pub reserved_135: [u8; 118],
    /// NVM subsystem report.
    pub nvmsr: u8,
    /// VPD write cycles.
    pub vwci: u8,
    /// Management endpoint capabilities.
    pub mec: u8,
    /// Optional admin commands, see [`oacs`].
    pub oacs: U16,
    /// Abort commands that may be outstanding, less one.
    pub acl: u8,
    /// Asynchronous event requests that may be outstanding, less one.
    pub aerl: u8,
    /// Firmware updates: bit 0 slot 1 read-only, bits 1 to 3 slots.
    pub frmw: u8,
    /// Log page attributes: bit 0 SMART by namespace, bit 1 effects page, bit 2 extended offsets.
    pub lpa: u8,
    /// Entries of the error log, less one.
    pub elpe: u8,
    /// Power states, less one.
    pub npss: u8,
    /// Vendor specific admin command format.
    pub avscc: u8,
    /// Autonomous power state transitions.
    pub apsta: u8,
    /// Warning temperature in Kelvin.
    pub wctemp: U16,
    /// Critical temperature in Kelvin.
    pub cctemp: U16,
    /// Maximum time for firmware activation, in units of 100 milliseconds.
    pub mtfa: U16,
    /// Host memory buffer preferred, in units of 4 KiB.
    pub hmpre: U32,
    /// Host memory buffer minimum, in units of 4 KiB.
    pub hmmin: U32,
    /// Total capacity in bytes.
    pub tnvmcap: [u8; 16],
    /// Unallocated capacity in bytes.
    pub unvmcap: [u8; 16],
    /// Replay protected memory blocks.
    pub rpmbs: U32,
    /// Extended self-test time in minutes.
    pub edstt: U16,
    /// Self-test options.
    pub dsto: u8,
    /// Firmware update granularity in units of 4 KiB.
    pub fwug: u8,
    /// Keep alive granularity in units of 100 milliseconds; 0: not supported.
    pub kas: U16,
    /// Host controlled thermal management.
    pub hctma: U16,
    /// Minimum thermal management temperature.
    pub mntmt: U16,
    /// Maximum thermal management temperature.
    pub mxtmt: U16,
    /// Sanitize capabilities.
    pub sanicap: U32,
    /// Host memory buffer minimum descriptor entry.
    pub hmminds: U32,
    /// Host memory buffer most descriptors.
    pub hmmaxd: U16,
    /// Largest NVM set identifier.
    pub nsetidmax: U16,
    /// Largest endurance group identifier.
    pub endgidmax: U16,
    /// ANA transition time in seconds.
    pub anatt: u8,
    /// ANA capabilities.
    pub anacap: u8,
    /// Largest ANA group identifier.
    pub anagrpmax: U32,
    /// Number of ANA groups.
    pub nanagrpid: U32,
    /// Persistent event log size in units of 64 KiB.
    pub pels: U32,
    /// Domain identifier.
    pub domain: U16,
    /// Key per I/O.
    pub kpioc: u8,
    /// Reserved.
    pub reserved_359: u8,
    /// Maximum processing time for firmware activation without reset.
    pub mptfawr: U16,
    /// Reserved.
    pub reserved_362: [u8; 6],
    /// Largest endurance group in bytes.
    pub megcap: [u8; 16],
    /// Temperature threshold hysteresis.
    pub tmpthha: u8,
    /// Reserved.
    pub reserved_385: [u8; 127],
    /// Submission entry sizes: bits 0 to 3 required, 4 to 7 largest, as powers of two.
    pub sqes: u8,
    /// Completion entry sizes, likewise.
    pub cqes: u8,
    /// Most outstanding commands; 0: not told.
    pub maxcmd: U16,
    /// Largest namespace identifier.
    pub nn: U32,
    /// Optional I/O commands, see [`oncs`].
    pub oncs: U16,
    /// Fused operations: bit 0 compare and write.
    pub fuses: U16,
    /// Format attributes.
    pub fna: u8,
    /// Volatile write cache: bit 0 present; bits 1 and 2: 3 where flush takes all namespaces, 2 where not.
    pub vwc: u8,
    /// Atomic write unit normal, in blocks less one.
    pub awun: U16,
    /// Atomic write unit on power failure, in blocks less one.
    pub awupf: U16,
    /// Vendor specific I/O command format.
    pub icsvscc: u8,
    /// Namespace write protection: bit 0 no/write protect, bit 1 until power cycle, bit 2 permanent.
    pub nwpc: u8,
    /// Atomic compare and write unit, in blocks less one.
    pub acwu: U16,
    /// Copy descriptor formats.
    pub cdfs: U16,
    /// SGLs: bits 0 and 1 not 0 where supported (1: any alignment), bit 16 bit buckets, bit 19 MPTR by SGL, bit 20 offsets.
    pub sgls: U32,
    /// Most namespaces.
    pub mnan: U32,
    /// Most domain namespace attachments.
    pub maxdna: [u8; 16],
    /// Most namespaces attached to this controller.
    pub maxcna: U32,
    /// Optimal aggregated queue depth.
    pub oaqd: U32,
    /// Recommended host-initiated refresh interval.
    pub rhiri: u8,
    /// Host-initiated refresh time.
    pub hirt: u8,
    /// Controller maximum memory range tracking descriptors.
    pub cmmrtd: U16,
    /// NVM subsystem maximum memory range tracking descriptors.
    pub nmmrtd: U16,
    /// Minimum memory range tracking granularity.
    pub minmrtg: u8,
    /// Maximum memory range tracking granularity.
    pub maxmrtg: u8,
    /// Tracking attributes.
    pub trattr: u8,
    /// Reserved.
    pub reserved_577: [u8; 191],
    /// NVM subsystem qualified name, ended by NUL.
    pub subnqn: [u8; 256],
    /// Reserved.
    pub reserved_1024: [u8; 768],
    /// Of fabrics.
    pub fabrics: [u8; 256],
    /// Power states.
    pub psd: [PowerState; 32],
    /// Of the vendor.
    pub vendor: [u8; 1024],
}

const _: () = assert!(size_of::<IdentifyController>() == super::SIZE);

/// A power state: 32 bytes (Base, figure 314).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct PowerState {
    /// Maximum power, in units of 0.01 W where bit 0 of `flags` is 0.
    pub power: U16,
    /// Reserved.
    pub reserved: u8,
    /// Bit 0: unit is 0.0001 W; bit 1: not operational.
    pub flags: u8,
    /// Entry latency in microseconds.
    pub entry_latency: U32,
    /// Exit latency in microseconds.
    pub exit_latency: U32,
    /// Relative read throughput, read latency, write throughput, write latency.
    pub relative: [u8; 4],
    /// Idle and active power, and reserved bytes.
    pub rest: [u8; 16],
}

const _: () = assert!(size_of::<PowerState>() == 32);

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_lie_where_figure_313_has_them() {
        for (place, offset) in [
            (offset_of!(IdentifyController, sn), 4),
            (offset_of!(IdentifyController, mn), 24),
            (offset_of!(IdentifyController, fr), 64),
            (offset_of!(IdentifyController, mdts), 77),
            (offset_of!(IdentifyController, cntlid), 78),
            (offset_of!(IdentifyController, ver), 80),
            (offset_of!(IdentifyController, oaes), 92),
            (offset_of!(IdentifyController, cntrltype), 111),
            (offset_of!(IdentifyController, crdt), 128),
            (offset_of!(IdentifyController, oacs), 256),
            (offset_of!(IdentifyController, acl), 258),
            (offset_of!(IdentifyController, aerl), 259),
            (offset_of!(IdentifyController, lpa), 261),
            (offset_of!(IdentifyController, npss), 263),
            (offset_of!(IdentifyController, wctemp), 266),
            (offset_of!(IdentifyController, tnvmcap), 280),
            (offset_of!(IdentifyController, kas), 320),
            (offset_of!(IdentifyController, sanicap), 328),
            (offset_of!(IdentifyController, pels), 352),
            (offset_of!(IdentifyController, sqes), 512),
            (offset_of!(IdentifyController, maxcmd), 514),
            (offset_of!(IdentifyController, nn), 516),
            (offset_of!(IdentifyController, oncs), 520),
            (offset_of!(IdentifyController, vwc), 525),
            (offset_of!(IdentifyController, nwpc), 531),
            (offset_of!(IdentifyController, sgls), 536),
            (offset_of!(IdentifyController, mnan), 540),
            (offset_of!(IdentifyController, subnqn), 768),
            (offset_of!(IdentifyController, psd), 2048),
        ] {
            assert_eq!(place, offset);
        }
    }
}
