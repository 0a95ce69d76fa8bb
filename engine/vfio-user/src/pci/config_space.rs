//! The configuration space of a function of type 0 (PCI Express Base Specification 5.0, section 7.5.1.2), with
//! capabilities for power management, MSI-X and PCI Express.

use crate::pci::{CLASS, COMMAND, command};

/// Bytes of the space, with what PCI Express adds to it.
pub(crate) const SIZE: usize = 4096;

const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const CACHE_LINE: usize = 0x0c;
const BAR0: usize = 0x10;
const BAR4: usize = 0x20;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
/// A memory BAR of 64 bits (section 7.5.1.2.1).
const BAR_64: u8 = 0b100;

/// Power management (PCI Bus Power Management Interface Specification 1.2, section 3.2).
const POWER: usize = 0x40;
/// MSI-X (section 7.7.2).
const MSIX: usize = 0x50;
/// PCI Express (section 7.5.3).
const EXPRESS: usize = 0x60;
/// The device control register of the latter.
const DEVICE_CONTROL: usize = EXPRESS + 8;
/// The bit in its upper byte that resets the function.
const FUNCTION_RESET: u8 = 1 << 7;

/// Who made a function, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device, as its vendor numbers them.
    pub device: u16,
    /// Vendor of the subsystem.
    pub subsystem_vendor: u16,
    /// Subsystem, as its vendor numbers them.
    pub subsystem: u16,
    /// Revision.
    pub revision: u8,
    /// Programming interface, subclass, base class.
    pub class: [u8; 3],
}

/// Where the MSI-X table is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MsixPlace {
    pub(crate) vectors: u16,
    pub(crate) pending: u32,
    pub(crate) bar_size: u32,
}

/// What a write to the space asks for, besides being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Consequence {
    pub(crate) reset: bool,
}

/// The space: what it holds and what of that can be written.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    bytes: Box<[u8]>,
    writable: Box<[u8]>,
    initial: Box<[u8]>,
}

impl ConfigSpace {
    /// The space of a function whose BAR0 has `bar0_size` bytes, a power of two of at least 16.
    pub(crate) fn new(identity: Identity, bar0_size: u64, msix: MsixPlace) -> Self {
        let mut space =
            Self { bytes: vec![0; SIZE].into(), writable: vec![0; SIZE].into(), initial: Box::default() };
        space.put(0x00, &identity.vendor.to_le_bytes());
        space.put(0x02, &identity.device.to_le_bytes());
        // Clients of VFIO find the memory of a function enabled, and some never enable it.
        space.put(0x04, &command::MEMORY.to_le_bytes());
        let commands =
            command::MEMORY | command::BUS_MASTER | command::PARITY | command::SYSTEM_ERROR | command::NO_PIN;
        space.allow(0x04, &commands.to_le_bytes());
        space.put(STATUS, &[STATUS_CAPABILITIES]);
        space.put(0x08, &[identity.revision]);
        space.put(usize::try_from(CLASS).unwrap_or(0x09), &identity.class);
        space.allow(CACHE_LINE, &[0xff]);
        space.put(BAR0, &[BAR_64]);
        space.allow(BAR0, &(!(bar0_size - 1) & !0xf).to_le_bytes());
        if msix.vectors > 0 {
            space.allow(BAR4, &(!(msix.bar_size - 1) & !0xf).to_le_bytes());
        }
        space.put(SUBSYSTEM, &identity.subsystem_vendor.to_le_bytes());
        space.put(SUBSYSTEM + 2, &identity.subsystem.to_le_bytes());
        space.put(CAPABILITIES, &[to_byte(POWER)]);
        space.allow(INTERRUPT_LINE, &[0xff]);
        space.add_capabilities(msix);
        space.initial = space.bytes.clone();
        space
    }

    fn add_capabilities(&mut self, msix: MsixPlace) {
        let after_power = if msix.vectors > 0 { MSIX } else { EXPRESS };
        // Version 3, no wake-up. Changing the state does not reset it (bit 3 of the second register).
        self.put(POWER, &[0x01, to_byte(after_power), 0x03, 0, 0x08]);
        self.allow(POWER + 4, &[0x03]);
        if msix.vectors > 0 {
            self.put(MSIX, &[0x11, to_byte(EXPRESS)]);
            self.put(MSIX + 2, &(msix.vectors - 1).to_le_bytes());
            self.allow(MSIX + 3, &[0xc0]);
            // Both in BAR4, the table at its start.
            self.put(MSIX + 4, &4_u32.to_le_bytes());
            self.put(MSIX + 8, &(msix.pending | 4).to_le_bytes());
        }
        // Version 2, an endpoint; role-based error reporting and function-level reset; a link of one lane at
        // 2.5 GT/s, since it must have one.
        self.put(EXPRESS, &[0x10, 0, 0x02, 0]);
        self.put(EXPRESS + 4, &((1_u32 << 28) | (1 << 15)).to_le_bytes());
        self.allow(DEVICE_CONTROL, &[0xff, 0x7f]);
        self.put(EXPRESS + 0x0c, &0x11_u32.to_le_bytes());
        self.allow(EXPRESS + 0x10, &[0xff, 0x0f]);
        self.put(EXPRESS + 0x12, &0x11_u16.to_le_bytes());
        self.allow(EXPRESS + 0x28, &[0xff, 0xff]);
    }

    /// What lies at `offset`; nothing changes in `target` where that is not within the space.
    pub(crate) fn read(&self, offset: usize, target: &mut [u8]) {
        let end = offset.saturating_add(target.len());
        if let Some(source) = self.bytes.get(offset..end) {
            target.copy_from_slice(source);
        }
    }

    /// Writes what can be written.
    pub(crate) fn write(&mut self, offset: usize, source: &[u8]) -> Consequence {
        let mut consequence = Consequence::default();
        for (index, &byte) in source.iter().enumerate() {
            let at = offset.saturating_add(index);
            if let (Some(place), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *place = (*place & !mask) | (byte & mask);
            }
            consequence.reset |= at == DEVICE_CONTROL + 1 && byte & FUNCTION_RESET != 0;
        }
        consequence
    }

    /// As after power-on.
    pub(crate) fn reset(&mut self) {
        self.bytes = self.initial.clone();
    }

    /// The command register.
    pub(crate) fn command(&self) -> u16 {
        let mut value = [0; 2];
        self.read(usize::try_from(COMMAND).unwrap_or(0x04), &mut value);
        u16::from_le_bytes(value)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        if let Some(place) = self.writable.get_mut(at..at + mask.len()) {
            place.copy_from_slice(mask);
        }
    }
}

/// An offset in the first 256 bytes, as capabilities point to each other.
fn to_byte(offset: usize) -> u8 {
    u8::try_from(offset).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        let identity = Identity {
            vendor: 0x1234,
            device: 0x5678,
            subsystem_vendor: 0x9abc,
            subsystem: 0xdef0,
            revision: 3,
            class: crate::pci::NVME_CLASS,
        };
        ConfigSpace::new(identity, 0x4000, MsixPlace { vectors: 33, pending: 0x1000, bar_size: 0x2000 })
    }

    fn read<const N: usize>(space: &ConfigSpace, offset: usize) -> [u8; N] {
        let mut value = [0; N];
        space.read(offset, &mut value);
        value
    }

    #[test]
    fn header_has_the_fields_where_the_specification_has_them() {
        let space = space();
        assert_eq!(read(&space, 0), [0x34, 0x12, 0x78, 0x56, 0x02, 0x00, 0x10, 0x00]);
        assert_eq!(read(&space, 8), [0x03, 0x02, 0x08, 0x01, 0x00, 0x00, 0x00, 0x00]);
        assert_eq!(read(&space, 0x2c), [0xbc, 0x9a, 0xf0, 0xde]);
        assert_eq!(read(&space, 0x3d), [0], "no interrupt pin");
    }

    #[test]
    fn capabilities_are_a_list_that_ends() {
        let space = space();
        let mut found = Vec::new();
        let [mut at] = read(&space, 0x34);
        while at != 0 && found.len() < 10 {
            let [id, next] = read(&space, usize::from(at));
            found.push(id);
            at = next;
        }
        assert_eq!(found, [0x01, 0x11, 0x10]);
        let control = u16::from_le_bytes(read(&space, 0x52));
        assert_eq!(control, 32, "one less than there are vectors");
        assert_eq!(u32::from_le_bytes(read(&space, 0x58)), 0x1004, "pending bits at 0x1000 of BAR4");
    }

    #[test]
    fn bar_written_with_ones_reads_its_size() {
        let mut space = space();
        space.write(0x10, &[0xff; 24]);
        assert_eq!(u64::from_le_bytes(read(&space, 0x10)), 0xffff_ffff_ffff_c004);
        assert_eq!(u64::from_le_bytes(read(&space, 0x18)), 0, "BAR2 and BAR3 are none");
        assert_eq!(u32::from_le_bytes(read(&space, 0x20)), 0xffff_e000);
        assert_eq!(u32::from_le_bytes(read(&space, 0x24)), 0);
        space.reset();
        assert_eq!(u64::from_le_bytes(read(&space, 0x10)), 4);
    }

    #[test]
    fn whole_space_written_with_ones_changes_only_what_may_change() {
        let mut space = space();
        let before: [u8; SIZE] = read(&space, 0);
        assert!(space.write(0, &[0xff; SIZE]).reset);
        let after: [u8; SIZE] = read(&space, 0);
        for (at, (before, after)) in before.iter().zip(&after).enumerate() {
            let changed = matches!(at, 0x04 | 0x05 | 0x0c | 0x10..=0x17 | 0x20..=0x23 | 0x3c | 0x44 | 0x53)
                || matches!(at, 0x68 | 0x69 | 0x70 | 0x71 | 0x88 | 0x89);
            assert!(before == after || changed, "byte {at:#x}: {before:#x} became {after:#x}");
        }
        assert!(!space.write(SIZE - 1, &[0; 16]).reset, "writing past the end is nothing");
    }
}
