//! Asynchronous events (Base, section 5.1.2.1).

use crate::bits::low_u8;
use crate::log::LogPage;

open_type! {
    /// What kind of thing happened.
    EventType(u8) {
        /// An error that belongs to no command.
        ERROR = 0,
        /// SMART / Health.
        SMART = 1,
        /// Something that the host should know.
        NOTICE = 2,
        /// Immediate.
        IMMEDIATE = 3,
        /// Of the I/O command set.
        COMMAND_SET = 6,
        /// Of the vendor.
        VENDOR = 7,
    }
}

/// What the first dword of the answer to an Asynchronous Event Request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// What kind of thing happened.
    pub kind: EventType,
    /// Which, among its kind.
    pub information: u8,
    /// The log page that tells more; reading it lets events of this kind come again.
    pub page: LogPage,
}

impl Event {
    /// A doorbell of a queue that does not exist was written.
    pub const INVALID_DOORBELL: Self = Self::error(0);
    /// A value was written to a doorbell that it cannot have.
    pub const INVALID_DOORBELL_VALUE: Self = Self::error(1);
    /// The controller diagnosed a failure.
    pub const DIAGNOSTIC_FAILURE: Self = Self::error(2);
    /// The controller cannot go on.
    pub const PERSISTENT_ERROR: Self = Self::error(3);
    /// The controller went on.
    pub const TRANSIENT_ERROR: Self = Self::error(4);
    /// The subsystem is less reliable than it was.
    pub const RELIABILITY: Self = Self::smart(0);
    /// A temperature crossed its threshold.
    pub const TEMPERATURE: Self = Self::smart(1);
    /// Spare space fell below its threshold.
    pub const SPARE: Self = Self::smart(2);
    /// Namespaces that are attached changed: appeared, went, or are different now.
    pub const NAMESPACE_CHANGED: Self =
        Self { kind: EventType::NOTICE, information: 0, page: LogPage::CHANGED_NAMESPACES };

    const fn error(information: u8) -> Self {
        Self { kind: EventType::ERROR, information, page: LogPage::ERROR }
    }

    const fn smart(information: u8) -> Self {
        Self { kind: EventType::SMART, information, page: LogPage::SMART }
    }

    /// As the first dword of a completion.
    #[must_use]
    pub fn to_dword(self) -> u32 {
        u32::from(self.kind.0 & 7) | u32::from(self.information) << 8 | u32::from(self.page.0) << 16
    }

    /// From the first dword of a completion.
    #[must_use]
    pub fn from_dword(dword: u32) -> Self {
        let word = u64::from(dword);
        Self {
            kind: EventType(low_u8(word & 7)),
            information: low_u8(word >> 8),
            page: LogPage(low_u8(word >> 16)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_packed_and_unpacked() {
        assert_eq!(Event::NAMESPACE_CHANGED.to_dword(), 0x0004_0002);
        for event in [Event::INVALID_DOORBELL_VALUE, Event::TEMPERATURE, Event::NAMESPACE_CHANGED] {
            assert_eq!(Event::from_dword(event.to_dword()), event);
        }
    }
}
