//! What a controller says of a command, and what it means to those who asked (NVMe Base Specification 2.1, section
//! 4.2.3).

use std::fmt;

/// The status field of a completion: code, type, command retry delay, more, do-not-retry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Status(u16);

impl Status {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// Aborted, since its submission queue was deleted: also what the driver says of commands that were out when it
    /// had to reset the controller.
    pub const QUEUE_DELETED: Self = Self(0x08);

    /// From the 15 bits above the phase tag.
    #[inline]
    #[must_use]
    pub fn new(bits: u16) -> Self {
        Self(bits & 0x7fff)
    }

    /// Whether the command did what it should.
    #[inline]
    #[must_use]
    pub fn is_success(self) -> bool {
        // Type and code; the other bits mean nothing then.
        self.0 & 0x7ff == 0
    }

    /// Status code type: 0 generic, 1 command specific, 2 media and data integrity, 3 path, 7 vendor's.
    #[must_use]
    pub fn kind(self) -> u8 {
        let [_, high] = self.0.to_le_bytes();
        high & 7
    }

    /// Status code.
    #[must_use]
    pub fn code(self) -> u8 {
        let [low, _] = self.0.to_le_bytes();
        low
    }

    /// Which of the controller's three delays to wait for before trying again (CRDT1 to CRDT3); 0 for none.
    #[must_use]
    pub fn retry_delay(self) -> u8 {
        let [_, high] = self.0.to_le_bytes();
        (high >> 3) & 3
    }

    /// Whether trying again is of no use.
    #[must_use]
    pub fn do_not_retry(self) -> bool {
        self.0 & 0x4000 != 0
    }

    /// What to tell those who know files and not controllers.
    #[must_use]
    pub fn errno(self) -> i32 {
        self.meaning().0
    }

    /// Every status that has a meaning of its own here, with its errno and what it says.
    fn meaning(self) -> (i32, &'static str) {
        use crate::errno::*;
        match (self.kind(), self.code()) {
            (0, 0x00) => (0, "successful completion"),
            (0, 0x01) => (EOPNOTSUPP, "invalid command opcode"),
            (0, 0x02) => (EINVAL, "invalid field in command"),
            (0, 0x03) => (EIO, "command identifier conflict"),
            (0, 0x04) => (EIO, "data transfer error"),
            (0, 0x05) => (EIO, "aborted due to power loss"),
            (0, 0x06) => (EIO, "internal error"),
            (0, 0x07) => (ETIMEDOUT, "abort requested"),
            (0, 0x08) => (EIO, "aborted due to submission queue deletion"),
            (0, 0x09 | 0x0a) => (EIO, "aborted due to a fused command"),
            (0, 0x0b) => (ENODEV, "invalid namespace or format"),
            (0, 0x0c) => (EIO, "command sequence error"),
            (0, 0x0d..=0x11) => (EFAULT, "SGL that the controller does not take"),
            (0, 0x12) => (EIO, "invalid use of controller memory buffer"),
            (0, 0x13) => (EFAULT, "PRP offset invalid"),
            (0, 0x14) => (EIO, "atomic write unit exceeded"),
            (0, 0x15) => (EACCES, "operation denied"),
            (0, 0x16) => (EFAULT, "SGL offset invalid"),
            (0, 0x18) => (EIO, "host identifier inconsistent format"),
            (0, 0x19) => (EIO, "keep alive timer expired"),
            (0, 0x1a) => (EINVAL, "keep alive timeout invalid"),
            (0, 0x1b) => (ECANCELED, "aborted due to preempt and abort"),
            (0, 0x1c) => (EIO, "sanitize failed"),
            (0, 0x1d) => (EBUSY, "sanitize in progress"),
            (0, 0x1e) => (EFAULT, "SGL data block granularity invalid"),
            (0, 0x1f) => (EOPNOTSUPP, "command not supported for queue in CMB"),
            (0, 0x20) => (EROFS, "namespace is write protected"),
            (0, 0x21) => (EAGAIN, "command interrupted"),
            (0, 0x22) => (EIO, "transient transport error"),
            (0, 0x23) => (EACCES, "prohibited by command and feature lockdown"),
            (0, 0x24) => (EAGAIN, "admin command media not ready"),
            (0, 0x80) => (EINVAL, "LBA out of range"),
            (0, 0x81) => (ENOSPC, "capacity exceeded"),
            (0, 0x82) => (EAGAIN, "namespace not ready"),
            (0, 0x83) => (EBUSY, "reservation conflict"),
            (0, 0x84) => (EBUSY, "format in progress"),
            (1, 0x00) => (EIO, "completion queue invalid"),
            (1, 0x01) => (EINVAL, "invalid queue identifier"),
            (1, 0x02) => (EINVAL, "invalid queue size"),
            (1, 0x03) => (EBUSY, "abort command limit exceeded"),
            (1, 0x05) => (EBUSY, "asynchronous event request limit exceeded"),
            (1, 0x08) => (EINVAL, "invalid interrupt vector"),
            (1, 0x09) => (EINVAL, "invalid log page"),
            (1, 0x0a) => (EINVAL, "invalid format"),
            (1, 0x0c) => (EBUSY, "invalid queue deletion"),
            (1, 0x0d) => (EINVAL, "feature identifier not saveable"),
            (1, 0x0e) => (EINVAL, "feature not changeable"),
            (1, 0x0f) => (EINVAL, "feature not namespace specific"),
            (1, 0x80) => (EINVAL, "conflicting attributes"),
            (1, 0x81) => (EINVAL, "invalid protection information"),
            (1, 0x82) => (EROFS, "attempted write to read only range"),
            (1, 0x83) => (EINVAL, "command size limit exceeded"),
            (2, 0x80) => (EIO, "write fault"),
            (2, 0x81) => (ENODATA, "unrecovered read error"),
            (2, 0x82..=0x84) => (EILSEQ, "end-to-end protection check error"),
            (2, 0x85) => (EBADE, "compare failure"),
            (2, 0x86) => (EACCES, "access denied"),
            (2, 0x87) => (ENODATA, "deallocated or unwritten logical block"),
            (2, 0x88) => (EILSEQ, "end-to-end storage tag check error"),
            (3, 0x00) => (EIO, "internal path error"),
            (3, 0x01) => (ENXIO, "asymmetric access persistent loss"),
            (3, 0x02 | 0x03) => (EAGAIN, "asymmetric access not there at the moment"),
            (3, 0x60) => (EIO, "controller pathing error"),
            (3, 0x70) => (EIO, "host pathing error"),
            (3, 0x71) => (ECANCELED, "aborted by host"),
            (0, _) => (EIO, "generic status that is not known"),
            (1, _) => (EIO, "command specific status that is not known"),
            (2, _) => (EIO, "media error that is not known"),
            (3, _) => (EIO, "path error that is not known"),
            (7, _) => (EIO, "vendor's own status"),
            (_, _) => (EIO, "reserved status"),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, text) = self.meaning();
        let again = if self.do_not_retry() { ", do not retry" } else { "" };
        write!(f, "{text} (type {:#x}, code {:#04x}{again})", self.kind(), self.code())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({:#06x}: {self})", self.0)
    }
}
