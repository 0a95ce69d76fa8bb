//! Admin commands (Base, section 5), made; their fields are dwords that both sides name alike.

use crate::feature::{FeatureId, Select};
use crate::identify::Cns;
use crate::log::LogPage;
use crate::{AdminOpcode, Sqe};

/// In dword 11 of queue creation: Physically Contiguous.
pub const CONTIGUOUS: u32 = 1 << 0;
/// In dword 11 of Create I/O Completion Queue: Interrupts Enabled.
pub const INTERRUPTS: u32 = 1 << 1;

/// Create I/O Completion Queue (Base, section 5.2.1) of `entries` entries (2 to 65536), contiguous at `address`; its
/// interrupts go to `vector` where there is one.
#[must_use]
pub fn create_completion_queue(queue: u16, entries: u32, address: u64, vector: Option<u16>) -> Sqe {
    let interrupts = vector.map_or(0, |vector| INTERRUPTS | u32::from(vector) << 16);
    Sqe {
        cdw10: queue_and_size(queue, entries).into(),
        cdw11: (CONTIGUOUS | interrupts).into(),
        ..Sqe::new(AdminOpcode::CREATE_COMPLETION_QUEUE.0, 0).with_prps(address, 0)
    }
}

/// Create I/O Submission Queue (Base, section 5.2.2) of `entries` entries, contiguous at `address`, whose completions
/// go to `completion_queue`. `priority`: 0 urgent, 1 high, 2 medium, 3 low.
#[must_use]
pub fn create_submission_queue(
    queue: u16,
    entries: u32,
    address: u64,
    completion_queue: u16,
    priority: u8,
) -> Sqe {
    let priority = u32::from(priority & 3) << 1;
    Sqe {
        cdw10: queue_and_size(queue, entries).into(),
        cdw11: (CONTIGUOUS | priority | u32::from(completion_queue) << 16).into(),
        ..Sqe::new(AdminOpcode::CREATE_SUBMISSION_QUEUE.0, 0).with_prps(address, 0)
    }
}

fn queue_and_size(queue: u16, entries: u32) -> u32 {
    u32::from(queue) | (entries.saturating_sub(1) & 0xffff) << 16
}

/// Delete I/O Submission Queue.
#[must_use]
pub fn delete_submission_queue(queue: u16) -> Sqe {
    Sqe { cdw10: u32::from(queue).into(), ..Sqe::new(AdminOpcode::DELETE_SUBMISSION_QUEUE.0, 0) }
}

/// Delete I/O Completion Queue.
#[must_use]
pub fn delete_completion_queue(queue: u16) -> Sqe {
    Sqe { cdw10: u32::from(queue).into(), ..Sqe::new(AdminOpcode::DELETE_COMPLETION_QUEUE.0, 0) }
}

/// Identify (Base, section 5.1.13): 4096 bytes to the data pointer.
#[must_use]
pub fn identify(cns: Cns, nsid: u32) -> Sqe {
    Sqe { cdw10: u32::from(cns.0).into(), ..Sqe::new(AdminOpcode::IDENTIFY.0, nsid) }
}

/// Get Log Page (Base, section 5.1.12): `length` bytes (a multiple of 4) from byte `offset` on. With `retain` the
/// asynchronous event that led here stays masked.
#[must_use]
pub fn get_log_page(page: LogPage, nsid: u32, offset: u64, length: u32, retain: bool) -> Sqe {
    let dwords = (length / 4).saturating_sub(1);
    let (low, high) = (dwords & 0xffff, dwords >> 16);
    let sqe = Sqe::new(AdminOpcode::GET_LOG_PAGE.0, nsid);
    let [offset_low, offset_high] = halves(offset);
    Sqe {
        cdw10: (u32::from(page.0) | u32::from(retain) << 15 | low << 16).into(),
        cdw11: high.into(),
        cdw12: offset_low.into(),
        cdw13: offset_high.into(),
        ..sqe
    }
}

fn halves(word: u64) -> [u32; 2] {
    [crate::bits::low_u32(word), crate::bits::low_u32(word >> 32)]
}

/// Abort (Base, section 5.1.1) a command of a submission queue. Bit 0 of the completion's first dword is 0 where it was
/// aborted.
#[must_use]
pub fn abort(queue: u16, cid: u16) -> Sqe {
    let dword = u32::from(queue) | u32::from(cid) << 16;
    Sqe { cdw10: dword.into(), ..Sqe::new(AdminOpcode::ABORT.0, 0) }
}

/// Set Features (Base, section 5.1.25).
#[must_use]
pub fn set_features(feature: FeatureId, value: u32) -> Sqe {
    Sqe {
        cdw10: u32::from(feature.0).into(),
        cdw11: value.into(),
        ..Sqe::new(AdminOpcode::SET_FEATURES.0, 0)
    }
}

/// Get Features (Base, section 5.1.11).
#[must_use]
pub fn get_features(feature: FeatureId, select: Select) -> Sqe {
    let dword = u32::from(feature.0) | u32::from(select.0) << 8;
    Sqe { cdw10: dword.into(), ..Sqe::new(AdminOpcode::GET_FEATURES.0, 0) }
}

/// Asynchronous Event Request (Base, section 5.1.2), answered when something happens.
#[must_use]
pub fn asynchronous_event_request() -> Sqe {
    Sqe::new(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST.0, 0)
}

/// Keep Alive (Base, section 5.1.14).
#[must_use]
pub fn keep_alive() -> Sqe {
    Sqe::new(AdminOpcode::KEEP_ALIVE.0, 0)
}

/// Doorbell Buffer Config (Base, section 5.2.5): two pages, the doorbells of the host and the event indices of the
/// controller.
#[must_use]
pub fn doorbell_buffer_config(doorbells: u64, event_indices: u64) -> Sqe {
    Sqe::new(AdminOpcode::DOORBELL_BUFFER_CONFIG.0, 0).with_prps(doorbells, event_indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_creation_says_sizes_one_less() {
        let sqe = create_completion_queue(3, 1024, 0x1000, Some(2));
        assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (0x03ff_0003, 0x0002_0003));
        let sqe = create_submission_queue(3, 65536, 0x1000, 5, 2);
        assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (0xffff_0003, 0x0005_0005));
        assert_eq!(create_completion_queue(1, 2, 0, None).cdw11.get(), 1);
    }

    #[test]
    fn log_page_lengths_are_dwords_one_less_in_two_parts() {
        let sqe = get_log_page(LogPage::SMART, u32::MAX, 0x1_0000_0010, 512, true);
        assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (0x007f_8002, 0));
        assert_eq!((sqe.cdw12.get(), sqe.cdw13.get()), (0x10, 1));
        let long = get_log_page(LogPage::ERROR, 0, 0, 4 << 20, false);
        assert_eq!((long.cdw10.get(), long.cdw11.get()), (0xffff_0001, 0xf));
    }

    #[test]
    fn abort_names_queue_and_command() {
        assert_eq!(abort(2, 0x1234).cdw10.get(), 0x1234_0002);
        assert_eq!(get_features(FeatureId::NUMBER_OF_QUEUES, Select::SUPPORTED).cdw10.get(), 0x307);
    }
}
