//! The MSI-X table and its pending bits (PCI Express Base Specification 5.0, section 7.7.2).
//!
//! Clients of VFIO connect vectors by eventfd and keep the table that their guests see themselves; here it is memory
//! that holds what was written. Nothing is ever pending: whoever masks a vector disconnects it.

use engine_dma::PAGE;

use crate::pci::config_space::MsixPlace;

const ENTRY: usize = 16;
/// The mask bit of an entry, which is set after a reset (section 7.7.2.7).
const CONTROL: usize = 12;

/// The table of one function, at the start of a BAR of its own.
#[derive(Debug)]
pub(crate) struct MsixTable {
    vectors: u16,
    entries: Box<[u8]>,
}

impl MsixTable {
    pub(crate) fn new(vectors: u16) -> Self {
        let mut table = Self { vectors, entries: vec![0; usize::from(vectors) * ENTRY].into() };
        table.reset();
        table
    }

    /// Where it is, for the configuration space.
    pub(crate) fn place(&self) -> MsixPlace {
        let pending = self.entries.len().next_multiple_of(PAGE).max(PAGE);
        let bits = usize::from(self.vectors).div_ceil(64) * 8;
        let size = (pending + bits.next_multiple_of(PAGE)).next_power_of_two();
        // At most 32 KiB of table and a page.
        MsixPlace {
            vectors: self.vectors,
            pending: u32::try_from(pending).unwrap_or(0),
            bar_size: u32::try_from(size).unwrap_or(0),
        }
    }

    pub(crate) fn reset(&mut self) {
        for entry in self.entries.chunks_exact_mut(ENTRY) {
            entry.fill(0);
            if let Some(control) = entry.get_mut(CONTROL) {
                *control = 1;
            }
        }
    }

    /// What lies at `offset` of the BAR; zeros outside the table.
    pub(crate) fn read(&self, offset: usize, target: &mut [u8]) {
        for (index, byte) in target.iter_mut().enumerate() {
            *byte = self.entries.get(offset.saturating_add(index)).copied().unwrap_or(0);
        }
    }

    /// Keeps what is written to the table.
    pub(crate) fn write(&mut self, offset: usize, source: &[u8]) {
        for (index, &byte) in source.iter().enumerate() {
            if let Some(place) = self.entries.get_mut(offset.saturating_add(index)) {
                *place = byte;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_pending_bits_have_pages_of_their_own_in_a_power_of_two() {
        for (vectors, pending, size) in [(1, 0x1000, 0x2000), (256, 0x1000, 0x2000), (257, 0x2000, 0x4000)] {
            let place = MsixTable::new(vectors).place();
            assert_eq!((place.pending, place.bar_size), (pending, size), "{vectors} vectors");
        }
        assert_eq!(MsixTable::new(2048).place().bar_size, 0x1_0000);
    }

    #[test]
    fn entry_keeps_what_was_written_until_reset_masks_it() {
        let mut table = MsixTable::new(2);
        table.write(16, &[7; 64]);
        let mut read = [0; 48];
        table.read(0, &mut read);
        assert_eq!(read[..16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(read[16..32], [7; 16]);
        assert_eq!(read[32..], [0; 16], "outside the table");
        table.reset();
        table.read(16, &mut read[..16]);
        assert_eq!(read[..16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    }
}
