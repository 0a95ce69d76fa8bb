//! What a status means to those who know files and not controllers.

use engine_nvme_spec::Status;

use crate::errno::{
    EACCES, EAGAIN, EBADE, EBUSY, ECANCELED, EFAULT, EILSEQ, EINVAL, EIO, ENODATA, ENODEV, ENOSPC, ENXIO,
    EOPNOTSUPP, EROFS, ETIMEDOUT,
};

/// The operating system's number for a status (Base, section 4.2.3); 0 for success.
#[must_use]
pub fn errno(status: Status) -> i32 {
    match Status(status.0 & Status::CODE) {
        Status::SUCCESS => 0,

        // What the driver or its caller asked for cannot be done, by this controller or at all.
        Status::INVALID_OPCODE | Status::CMB_COMMAND_NOT_SUPPORTED => EOPNOTSUPP,
        Status::INVALID_FIELD
        | Status::KEEP_ALIVE_INVALID
        | Status::LBA_OUT_OF_RANGE
        | Status::INVALID_QUEUE_ID
        | Status::INVALID_QUEUE_SIZE
        | Status::INVALID_INTERRUPT_VECTOR
        | Status::INVALID_LOG_PAGE
        | Status::INVALID_FORMAT
        | Status::FEATURE_NOT_SAVEABLE
        | Status::FEATURE_NOT_CHANGEABLE
        | Status::FEATURE_NOT_NAMESPACE_SPECIFIC
        | Status::CONFLICTING_ATTRIBUTES
        | Status::INVALID_PROTECTION_INFORMATION
        | Status::COMMAND_SIZE_LIMIT_EXCEEDED
        | Status::INCOMPATIBLE_NAMESPACE
        | Status::OVERLAPPING_RANGE => EINVAL,

        // Memory that the controller cannot use as it was described.
        Status::INVALID_SGL_SEGMENT
        | Status::INVALID_SGL_COUNT
        | Status::SGL_LENGTH_INVALID
        | Status::METADATA_SGL_LENGTH_INVALID
        | Status::SGL_TYPE_INVALID
        | Status::PRP_OFFSET_INVALID
        | Status::SGL_OFFSET_INVALID
        | Status::SGL_GRANULARITY_INVALID => EFAULT,

        // Not allowed.
        Status::OPERATION_DENIED | Status::LOCKDOWN | Status::ACCESS_DENIED => EACCES,
        Status::NAMESPACE_WRITE_PROTECTED | Status::WRITE_TO_READ_ONLY_RANGE => EROFS,
        Status::CAPACITY_EXCEEDED | Status::INSUFFICIENT_CAPACITY | Status::INSUFFICIENT_FREE_SPACE => ENOSPC,

        // Not now.
        Status::COMMAND_INTERRUPTED | Status::MEDIA_NOT_READY | Status::NAMESPACE_NOT_READY => EAGAIN,
        Status::SANITIZE_IN_PROGRESS
        | Status::FORMAT_IN_PROGRESS
        | Status::RESERVATION_CONFLICT
        | Status::ABORT_LIMIT_EXCEEDED
        | Status::EVENT_LIMIT_EXCEEDED
        | Status::INVALID_QUEUE_DELETION => EBUSY,

        // Not there.
        Status::INVALID_NAMESPACE | Status::NAMESPACE_NOT_ATTACHED => ENODEV,
        Status::ANA_PERSISTENT_LOSS => ENXIO,
        Status::ANA_INACCESSIBLE | Status::ANA_TRANSITION => EAGAIN,

        // The blocks are not what they should be.
        Status::UNRECOVERED_READ_ERROR | Status::UNWRITTEN_BLOCK => ENODATA,
        Status::GUARD_CHECK_ERROR
        | Status::APPLICATION_TAG_CHECK_ERROR
        | Status::REFERENCE_TAG_CHECK_ERROR
        | Status::STORAGE_TAG_CHECK_ERROR => EILSEQ,
        Status::COMPARE_FAILURE => EBADE,

        // Ended by somebody.
        Status::ABORT_REQUESTED => ETIMEDOUT,
        Status::ABORTED_PREEMPT | Status::ABORTED_BY_HOST => ECANCELED,

        // Errors of the device and of the way to it, and whatever has no meaning here.
        _ => EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against what Linux makes of the same statuses (nvme_error_status and blk_errors), where both know them.
    #[test]
    fn status_that_linux_knows_has_its_errno() {
        for (status, expected) in [
            (0x000, 0),
            (0x4080, 22),
            (0x081, 28),
            (0x281, 61),
            (0x282, 84),
            (0x283, 84),
            (0x284, 84),
            (0x4006, 5),
            (0x280, 5),
        ] {
            assert_eq!(errno(Status(status)), expected, "{}", Status(status));
        }
    }

    #[test]
    fn every_failure_has_an_errno() {
        for bits in 0..0x8000_u16 {
            let status = Status(bits);
            assert_eq!(errno(status) == 0, status.is_success(), "{bits:#x}");
        }
    }
}
