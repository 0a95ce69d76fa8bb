//! Log pages (Base, section 5.1.12.1).

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

open_type! {
    /// Log page identifiers.
    LogPage(u8) {
        /// Which log pages there are: 1024 bytes.
        SUPPORTED_PAGES = 0x00,
        /// Error Information: 64 bytes an entry, newest first.
        ERROR = 0x01,
        /// SMART / Health Information: 512 bytes.
        SMART = 0x02,
        /// Firmware Slot Information: 512 bytes.
        FIRMWARE_SLOTS = 0x03,
        /// Changed Attached Namespace List: 4096 bytes.
        CHANGED_NAMESPACES = 0x04,
        /// Commands Supported and Effects: 4096 bytes.
        COMMAND_EFFECTS = 0x05,
        /// Device Self-test.
        SELF_TEST = 0x06,
        /// Telemetry Host-Initiated.
        TELEMETRY_HOST = 0x07,
        /// Telemetry Controller-Initiated.
        TELEMETRY_CONTROLLER = 0x08,
        /// Endurance Group Information.
        ENDURANCE_GROUP = 0x09,
        /// Asymmetric Namespace Access.
        NAMESPACE_ACCESS = 0x0c,
        /// Persistent Event Log.
        PERSISTENT_EVENTS = 0x0d,
        /// Reservation Notification.
        RESERVATION = 0x80,
        /// Sanitize Status.
        SANITIZE = 0x81,
    }
}

/// The namespace identifier that stands for all of them, or for the controller.
pub const ANY_NAMESPACE: u32 = u32::MAX;

/// Most entries of a Changed Attached Namespace List; with more changes it holds [`ANY_NAMESPACE`] alone.
pub const CHANGED_NAMESPACES_MOST: usize = 1024;

/// An entry of Error Information: 64 bytes (Base, figure 206).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ErrorEntry {
    /// Which error since the controller was made; 0 for an entry that is not used.
    pub error_count: U64,
    /// Submission queue; all ones where it belongs to none.
    pub sq_id: U16,
    /// Command; all ones where it belongs to none.
    pub cid: U16,
    /// Status and phase, as in the completion.
    pub status: U16,
    /// Bits 0 to 7 byte, bits 8 to 10 bit of the command that is wrong; all ones where it is none.
    pub location: U16,
    /// First logical block.
    pub lba: U64,
    /// Namespace.
    pub nsid: U32,
    /// Log page of the vendor's with more, from 80h on.
    pub vendor: u8,
    /// Transport type.
    pub transport: u8,
    /// Command set indicator.
    pub csi: u8,
    /// Opcode.
    pub opcode: u8,
    /// Of the command.
    pub command_information: U64,
    /// Of the transport.
    pub transport_information: U16,
    /// Reserved.
    pub reserved: [u8; 21],
    /// Log page version: 0 or 1.
    pub version: u8,
}

const _: () = assert!(size_of::<ErrorEntry>() == 64);

/// SMART / Health Information: 512 bytes (Base, figure 207).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SmartLog {
    /// Critical warnings: bit 0 spare, 1 temperature, 2 reliability, 3 read-only, 4 backup, 5 persistent memory.
    pub critical_warning: u8,
    /// Composite temperature in Kelvin.
    pub temperature: U16,
    /// Available spare in percent.
    pub spare: u8,
    /// Threshold of the spare in percent.
    pub spare_threshold: u8,
    /// Life used in percent; may pass 100.
    pub used: u8,
    /// Endurance group summary.
    pub endurance_group: u8,
    /// Reserved.
    pub reserved: [u8; 25],
    /// Read by the host, in units of 1,000 times 512 bytes, rounded up.
    pub data_units_read: U128,
    /// Written by the host, in the same units.
    pub data_units_written: U128,
    /// Read commands.
    pub host_reads: U128,
    /// Write commands.
    pub host_writes: U128,
    /// Minutes that the controller was busy.
    pub busy_minutes: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Hours with power.
    pub power_on_hours: U128,
    /// Shutdowns without notice.
    pub unsafe_shutdowns: U128,
    /// Data that was found to be lost.
    pub media_errors: U128,
    /// Entries of Error Information since the controller was made.
    pub error_entries: U128,
    /// Minutes above the warning temperature.
    pub warning_minutes: U32,
    /// Minutes above the critical temperature.
    pub critical_minutes: U32,
    /// Temperature sensors in Kelvin; 0 for none.
    pub sensors: [U16; 8],
    /// Thermal management transitions and seconds.
    pub thermal: [U32; 4],
    /// Reserved.
    pub reserved_2: [u8; 280],
}

const _: () = assert!(size_of::<SmartLog>() == 512);

/// Firmware Slot Information: 512 bytes (Base, figure 208).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FirmwareSlots {
    /// Bits 0 to 2: the slot that is active; bits 4 to 6: the one after the next reset.
    pub active: u8,
    /// Reserved.
    pub reserved: [u8; 7],
    /// Revisions of the slots, as ASCII.
    pub revisions: [[u8; 8]; 7],
    /// Reserved.
    pub reserved_2: [u8; 448],
}

const _: () = assert!(size_of::<FirmwareSlots>() == 512);

/// Commands Supported and Effects: 4096 bytes (Base, figure 211). Bit 0 of an entry: supported; bit 1: changes logical
/// blocks; bit 2: changes namespace capabilities; bit 3: changes the inventory of namespaces; bit 4: changes controller
/// capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CommandEffects {
    /// By opcode of the admin queue.
    pub admin: [U32; 256],
    /// By opcode of I/O queues.
    pub io: [U32; 256],
    /// Reserved.
    pub reserved: [u8; 2048],
}

const _: () = assert!(size_of::<CommandEffects>() == 4096);

/// Supported Log Pages: 1024 bytes (Base, figure 205). Bit 0 of an entry: supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SupportedLogPages {
    /// By identifier.
    pub pages: [U32; 256],
}

const _: () = assert!(size_of::<SupportedLogPages>() == 1024);

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_of_smart_lie_where_figure_207_has_them() {
        for (place, offset) in [
            (offset_of!(SmartLog, temperature), 1),
            (offset_of!(SmartLog, used), 5),
            (offset_of!(SmartLog, data_units_read), 32),
            (offset_of!(SmartLog, host_reads), 64),
            (offset_of!(SmartLog, busy_minutes), 96),
            (offset_of!(SmartLog, power_on_hours), 128),
            (offset_of!(SmartLog, error_entries), 176),
            (offset_of!(SmartLog, warning_minutes), 192),
            (offset_of!(SmartLog, sensors), 200),
            (offset_of!(SmartLog, reserved_2), 232),
        ] {
            assert_eq!(place, offset);
        }
    }

    #[test]
    fn fields_of_an_error_lie_where_figure_206_has_them() {
        for (place, offset) in [
            (offset_of!(ErrorEntry, sq_id), 8),
            (offset_of!(ErrorEntry, status), 12),
            (offset_of!(ErrorEntry, location), 14),
            (offset_of!(ErrorEntry, lba), 16),
            (offset_of!(ErrorEntry, nsid), 24),
            (offset_of!(ErrorEntry, vendor), 28),
            (offset_of!(ErrorEntry, command_information), 32),
            (offset_of!(ErrorEntry, version), 63),
        ] {
            assert_eq!(place, offset);
        }
    }
}
