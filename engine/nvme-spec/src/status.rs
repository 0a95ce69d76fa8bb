//! What came of a command (Base, section 4.2.3).

use core::fmt;

/// The 15 bits after the phase tag: code in bits 0 to 7, type in bits 8 to 10, retry delay in bits 11 and 12, "more" in
/// bit 13, "do not retry" in bit 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(pub u16);

open_type! {
    /// The type of a status (Base, figure 101).
    StatusType(u8) {
        /// Of every command.
        GENERIC = 0,
        /// Of the command that was given.
        COMMAND_SPECIFIC = 1,
        /// Media and data.
        MEDIA = 2,
        /// The path to the controller.
        PATH = 3,
        /// Of the vendor.
        VENDOR = 7,
    }
}

macro_rules! statuses {
    ($( $name:ident = $code:literal, $text:literal; )*) => {
        impl Status {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: Self = Self($code);
            )*

            /// Its name in the specification, where it has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 & Self::CODE {
                    $( $code => Some($text), )*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    // Generic (Base, figure 102; NVM, figure 12).
    SUCCESS = 0x000, "Successful Completion";
    INVALID_OPCODE = 0x001, "Invalid Command Opcode";
    INVALID_FIELD = 0x002, "Invalid Field in Command";
    COMMAND_ID_CONFLICT = 0x003, "Command ID Conflict";
    DATA_TRANSFER_ERROR = 0x004, "Data Transfer Error";
    ABORTED_POWER_LOSS = 0x005, "Commands Aborted due to Power Loss Notification";
    INTERNAL_ERROR = 0x006, "Internal Error";
    ABORT_REQUESTED = 0x007, "Command Abort Requested";
    ABORTED_SQ_DELETION = 0x008, "Command Aborted due to SQ Deletion";
    ABORTED_FAILED_FUSED = 0x009, "Command Aborted due to Failed Fused Command";
    ABORTED_MISSING_FUSED = 0x00a, "Command Aborted due to Missing Fused Command";
    INVALID_NAMESPACE = 0x00b, "Invalid Namespace or Format";
    COMMAND_SEQUENCE_ERROR = 0x00c, "Command Sequence Error";
    INVALID_SGL_SEGMENT = 0x00d, "Invalid SGL Segment Descriptor";
    INVALID_SGL_COUNT = 0x00e, "Invalid Number of SGL Descriptors";
    SGL_LENGTH_INVALID = 0x00f, "Data SGL Length Invalid";
    METADATA_SGL_LENGTH_INVALID = 0x010, "Metadata SGL Length Invalid";
    SGL_TYPE_INVALID = 0x011, "SGL Descriptor Type Invalid";
    INVALID_CMB_USE = 0x012, "Invalid Use of Controller Memory Buffer";
    PRP_OFFSET_INVALID = 0x013, "PRP Offset Invalid";
    ATOMIC_WRITE_UNIT_EXCEEDED = 0x014, "Atomic Write Unit Exceeded";
    OPERATION_DENIED = 0x015, "Operation Denied";
    SGL_OFFSET_INVALID = 0x016, "SGL Offset Invalid";
    HOST_ID_INCONSISTENT = 0x018, "Host Identifier Inconsistent Format";
    KEEP_ALIVE_EXPIRED = 0x019, "Keep Alive Timer Expired";
    KEEP_ALIVE_INVALID = 0x01a, "Keep Alive Timeout Invalid";
    ABORTED_PREEMPT = 0x01b, "Command Aborted due to Preempt and Abort";
    SANITIZE_FAILED = 0x01c, "Sanitize Failed";
    SANITIZE_IN_PROGRESS = 0x01d, "Sanitize In Progress";
    SGL_GRANULARITY_INVALID = 0x01e, "SGL Data Block Granularity Invalid";
    CMB_COMMAND_NOT_SUPPORTED = 0x01f, "Command Not Supported for Queue in CMB";
    NAMESPACE_WRITE_PROTECTED = 0x020, "Namespace is Write Protected";
    COMMAND_INTERRUPTED = 0x021, "Command Interrupted";
    TRANSIENT_TRANSPORT_ERROR = 0x022, "Transient Transport Error";
    LOCKDOWN = 0x023, "Command Prohibited by Command and Feature Lockdown";
    MEDIA_NOT_READY = 0x024, "Admin Command Media Not Ready";
    INVALID_KEY_TAG = 0x025, "Invalid Key Tag";
    HOST_DISPERSED_NOT_ENABLED = 0x026, "Host Dispersed Namespace Support Not Enabled";
    HOST_ID_NOT_INITIALIZED = 0x027, "Host Identifier Not Initialized";
    INCORRECT_KEY = 0x028, "Incorrect Key";
    FDP_DISABLED = 0x029, "FDP Disabled";
    INVALID_PLACEMENT_HANDLES = 0x02a, "Invalid Placement Handle List";
    LBA_OUT_OF_RANGE = 0x080, "LBA Out of Range";
    CAPACITY_EXCEEDED = 0x081, "Capacity Exceeded";
    NAMESPACE_NOT_READY = 0x082, "Namespace Not Ready";
    RESERVATION_CONFLICT = 0x083, "Reservation Conflict";
    FORMAT_IN_PROGRESS = 0x084, "Format In Progress";

    // Command specific (Base, figure 103; NVM, figure 15).
    COMPLETION_QUEUE_INVALID = 0x100, "Completion Queue Invalid";
    INVALID_QUEUE_ID = 0x101, "Invalid Queue Identifier";
    INVALID_QUEUE_SIZE = 0x102, "Invalid Queue Size";
    ABORT_LIMIT_EXCEEDED = 0x103, "Abort Command Limit Exceeded";
    EVENT_LIMIT_EXCEEDED = 0x105, "Asynchronous Event Request Limit Exceeded";
    INVALID_FIRMWARE_SLOT = 0x106, "Invalid Firmware Slot";
    INVALID_FIRMWARE_IMAGE = 0x107, "Invalid Firmware Image";
    INVALID_INTERRUPT_VECTOR = 0x108, "Invalid Interrupt Vector";
    INVALID_LOG_PAGE = 0x109, "Invalid Log Page";
    INVALID_FORMAT = 0x10a, "Invalid Format";
    FIRMWARE_NEEDS_CONVENTIONAL_RESET = 0x10b, "Firmware Activation Requires Conventional Reset";
    INVALID_QUEUE_DELETION = 0x10c, "Invalid Queue Deletion";
    FEATURE_NOT_SAVEABLE = 0x10d, "Feature Identifier Not Saveable";
    FEATURE_NOT_CHANGEABLE = 0x10e, "Feature Not Changeable";
    FEATURE_NOT_NAMESPACE_SPECIFIC = 0x10f, "Feature Not Namespace Specific";
    FIRMWARE_NEEDS_SUBSYSTEM_RESET = 0x110, "Firmware Activation Requires NVM Subsystem Reset";
    FIRMWARE_NEEDS_CONTROLLER_RESET = 0x111, "Firmware Activation Requires Controller Level Reset";
    FIRMWARE_NEEDS_MORE_TIME = 0x112, "Firmware Activation Requires Maximum Time Violation";
    FIRMWARE_PROHIBITED = 0x113, "Firmware Activation Prohibited";
    OVERLAPPING_RANGE = 0x114, "Overlapping Range";
    INSUFFICIENT_CAPACITY = 0x115, "Namespace Insufficient Capacity";
    NAMESPACE_ID_UNAVAILABLE = 0x116, "Namespace Identifier Unavailable";
    NAMESPACE_ALREADY_ATTACHED = 0x118, "Namespace Already Attached";
    NAMESPACE_IS_PRIVATE = 0x119, "Namespace Is Private";
    NAMESPACE_NOT_ATTACHED = 0x11a, "Namespace Not Attached";
    THIN_PROVISIONING_NOT_SUPPORTED = 0x11b, "Thin Provisioning Not Supported";
    CONTROLLER_LIST_INVALID = 0x11c, "Controller List Invalid";
    SELF_TEST_IN_PROGRESS = 0x11d, "Device Self-test In Progress";
    BOOT_PARTITION_WRITE_PROHIBITED = 0x11e, "Boot Partition Write Prohibited";
    INVALID_CONTROLLER_ID = 0x11f, "Invalid Controller Identifier";
    INVALID_SECONDARY_STATE = 0x120, "Invalid Secondary Controller State";
    INVALID_RESOURCE_COUNT = 0x121, "Invalid Number of Controller Resources";
    INVALID_RESOURCE_ID = 0x122, "Invalid Resource Identifier";
    SANITIZE_PROHIBITED = 0x123, "Sanitize Prohibited While Persistent Memory Region is Enabled";
    ANA_GROUP_INVALID = 0x124, "ANA Group Identifier Invalid";
    ANA_ATTACH_FAILED = 0x125, "ANA Attach Failed";
    INSUFFICIENT_FREE_SPACE = 0x126, "Insufficient Capacity";
    ATTACHMENT_LIMIT_EXCEEDED = 0x127, "Namespace Attachment Limit Exceeded";
    PROHIBITION_NOT_SUPPORTED = 0x128, "Prohibition of Command Execution Not Supported";
    COMMAND_SET_NOT_SUPPORTED = 0x129, "I/O Command Set Not Supported";
    COMMAND_SET_NOT_ENABLED = 0x12a, "I/O Command Set Not Enabled";
    COMMAND_SETS_REJECTED = 0x12b, "I/O Command Set Combination Rejected";
    INVALID_COMMAND_SET = 0x12c, "Invalid I/O Command Set";
    IDENTIFIER_UNAVAILABLE = 0x12d, "Identifier Unavailable";
    CONFLICTING_ATTRIBUTES = 0x180, "Conflicting Attributes";
    INVALID_PROTECTION_INFORMATION = 0x181, "Invalid Protection Information";
    WRITE_TO_READ_ONLY_RANGE = 0x182, "Attempted Write to Read Only Range";
    COMMAND_SIZE_LIMIT_EXCEEDED = 0x183, "Command Size Limit Exceeded";
    INVALID_COMMAND_ID = 0x184, "Invalid Command ID";
    INCOMPATIBLE_NAMESPACE = 0x185, "Incompatible Namespace or Format";
    FAST_COPY_NOT_POSSIBLE = 0x186, "Fast Copy Not Possible";
    OVERLAPPING_IO_RANGE = 0x187, "Overlapping I/O Range";
    NAMESPACE_NOT_REACHABLE = 0x188, "Namespace Not Reachable";
    INSUFFICIENT_RESOURCES = 0x189, "Insufficient Resources";

    // Media and data (Base, figure 104; NVM, figure 16).
    WRITE_FAULT = 0x280, "Write Fault";
    UNRECOVERED_READ_ERROR = 0x281, "Unrecovered Read Error";
    GUARD_CHECK_ERROR = 0x282, "End-to-end Guard Check Error";
    APPLICATION_TAG_CHECK_ERROR = 0x283, "End-to-end Application Tag Check Error";
    REFERENCE_TAG_CHECK_ERROR = 0x284, "End-to-end Reference Tag Check Error";
    COMPARE_FAILURE = 0x285, "Compare Failure";
    ACCESS_DENIED = 0x286, "Access Denied";
    UNWRITTEN_BLOCK = 0x287, "Deallocated or Unwritten Logical Block";
    STORAGE_TAG_CHECK_ERROR = 0x288, "End-to-End Storage Tag Check Error";

    // Path (Base, figure 105).
    INTERNAL_PATH_ERROR = 0x300, "Internal Path Error";
    ANA_PERSISTENT_LOSS = 0x301, "Asymmetric Access Persistent Loss";
    ANA_INACCESSIBLE = 0x302, "Asymmetric Access Inaccessible";
    ANA_TRANSITION = 0x303, "Asymmetric Access Transition";
    CONTROLLER_PATHING_ERROR = 0x360, "Controller Pathing Error";
    HOST_PATHING_ERROR = 0x370, "Host Pathing Error";
    ABORTED_BY_HOST = 0x371, "Command Aborted By Host";
}

impl Status {
    /// Type and code, without what is said about retrying.
    pub const CODE: u16 = 0x07ff;
    /// Do Not Retry: the same command would fail again.
    pub const DNR: u16 = 1 << 14;
    /// More: there is more about it in the error log.
    pub const MORE: u16 = 1 << 13;

    /// Whether the command did what it was asked for.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 & Self::CODE == 0
    }

    /// Status Code Type.
    #[must_use]
    pub fn kind(self) -> StatusType {
        let [_, high] = (self.0 & Self::CODE).to_le_bytes();
        StatusType(high)
    }

    /// Status Code.
    #[must_use]
    pub fn code(self) -> u8 {
        let [low, _] = self.0.to_le_bytes();
        low
    }

    /// Command Retry Delay: 0 none, otherwise which of the controller's three delays (CRDT1 to 3) to wait.
    #[must_use]
    pub const fn retry_delay(self) -> u16 {
        (self.0 >> 11) & 3
    }

    /// Whether there is more about it in the error log.
    #[must_use]
    pub const fn more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// Whether the same command would fail again.
    #[must_use]
    pub const fn do_not_retry(self) -> bool {
        self.0 & Self::DNR != 0
    }

    /// The same, with Do Not Retry set.
    #[must_use]
    pub const fn final_(self) -> Self {
        Self(self.0 | Self::DNR)
    }

    /// The same, with the retry delay set (0 to 3).
    #[must_use]
    pub const fn with_retry_delay(self, delay: u16) -> Self {
        Self((self.0 & !(3 << 11)) | (delay & 3) << 11)
    }

    /// The same, with More set.
    #[must_use]
    pub const fn with_more(self) -> Self {
        Self(self.0 | Self::MORE)
    }

    /// Whether both are of the same type and code.
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        self.0 & Self::CODE == other.0 & Self::CODE
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("status without a name");
        write!(f, "{name} (type {}, code {:02x}h", self.kind().0, self.code())?;
        if self.do_not_retry() {
            f.write_str(", do not retry")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn status_is_told_in_the_words_of_the_specification() {
        assert_eq!(
            Status::LBA_OUT_OF_RANGE.final_().to_string(),
            "LBA Out of Range (type 0, code 80h, do not retry)"
        );
        assert_eq!(Status(0x7c5).to_string(), "status without a name (type 7, code c5h)");
    }

    #[test]
    fn parts_of_a_status_do_not_disturb_each_other() {
        let status = Status::UNRECOVERED_READ_ERROR.with_retry_delay(2).with_more().final_();
        assert_eq!((status.kind(), status.code()), (StatusType::MEDIA, 0x81));
        assert_eq!((status.retry_delay(), status.more(), status.do_not_retry()), (2, true, true));
        assert!(status.is(Status::UNRECOVERED_READ_ERROR) && !status.is_success());
        assert!(Status::SUCCESS.final_().is_success());
    }
}
