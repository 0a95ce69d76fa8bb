//! Shadow doorbells (Base, section 5.2.5 and annex B.5).
//!
//! The host writes doorbells to memory; the controller says, in an event index beside each, up to where it will look by
//! itself. Only when the doorbell passes the index does the host write the register, which wakes the controller.

/// Whether a host that moves a doorbell from `old` to `new` must write the register: whether that passes `event`.
///
/// All are indices into one queue, and differences are taken modulo 2^16, as Linux and qemu do.
#[must_use]
#[inline]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// Where in both pages the word of a queue lies, in bytes: as the doorbell registers do, with the controller's stride.
#[must_use]
pub const fn place(queue: u16, completion: bool, stride: u8) -> u64 {
    #[allow(clippy::as_conversions, reason = "widening, which has no From in constants")]
    let base = crate::DOORBELLS as u64;
    crate::doorbell(queue, completion, stride) - base
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Stepping from the old index to the new one, one at a time: an event is due when a step starts at the index.
        #[test]
        fn event_is_due_when_the_doorbell_passes_the_index(
            old in any::<u16>(), steps in 0_u16..2000, event in any::<u16>(), near in any::<bool>()
        ) {
            let event = if near { old.wrapping_add(event % 2000) } else { event };
            let new = old.wrapping_add(steps);
            let passed = (0..steps).any(|step| old.wrapping_add(step) == event);
            prop_assert_eq!(need_event(event, new, old), passed);
        }
    }

    #[test]
    fn places_follow_the_stride() {
        assert_eq!((place(0, false, 0), place(0, true, 0), place(2, true, 2)), (0, 4, 80));
    }
}
