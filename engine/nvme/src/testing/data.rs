//! Where a command's data lies, read the way a controller reads it.

use engine_dma::{AddressSpace, View, to_u64, to_usize};

/// Most entries of a list that are followed.
const MOST: usize = 1 << 14;

/// Memory as a controller reaches it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    view: View,
}

impl Reach {
    pub(super) fn refresh(&mut self, space: &AddressSpace) {
        self.view.refresh(space);
    }

    /// Lets go of memory, so that it can be forgotten.
    pub(super) fn release(&mut self) {
        self.view.release();
    }

    pub(super) fn read(&mut self, iova: u64, target: &mut [u8]) -> Option<()> {
        self.view.read(iova, target).ok()
    }

    pub(super) fn write(&mut self, iova: u64, source: &[u8]) -> Option<()> {
        self.view.write(iova, source).ok()
    }

    pub(super) fn u64(&mut self, iova: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(iova, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The runs of a command's data; none where its pointer is none that a driver may give.
    pub(super) fn runs(&mut self, words: [u64; 8], length: usize, page: u64) -> Option<Vec<(u64, usize)>> {
        let [first, _, _, low, high, ..] = words;
        match first >> 14 & 3 {
            0 => self.prps(low, high, length, page),
            1 => self.sgl(low, high, length),
            _ => None,
        }
    }

    fn prps(&mut self, first: u64, second: u64, length: usize, page: u64) -> Option<Vec<(u64, usize)>> {
        if !first.is_multiple_of(4) {
            return None;
        }
        let here = to_usize(page - first % page).min(length);
        let mut runs = vec![(first, here)];
        let mut left = length - here;
        let each = to_usize(page);
        if left == 0 {
            return Some(runs);
        }
        if left <= each {
            runs.push((second, left));
            return second.is_multiple_of(page).then_some(runs);
        }
        let mut entry = second;
        for _ in 0..MOST {
            let mut value = self.u64(entry)?;
            let last = (entry + 8).is_multiple_of(page);
            if last && left > each {
                // The list goes on elsewhere.
                entry = value;
                value = self.u64(entry)?;
            }
            if !value.is_multiple_of(page) {
                return None;
            }
            runs.push((value, left.min(each)));
            left -= left.min(each);
            if left == 0 {
                return Some(runs);
            }
            entry += 8;
        }
        None
    }

    fn sgl(&mut self, low: u64, high: u64, length: usize) -> Option<Vec<(u64, usize)>> {
        let bytes = high & 0xffff_ffff;
        let mut runs = Vec::new();
        match high >> 56 {
            0x00 => runs.push((low, to_usize(bytes))),
            0x30 => {
                for at in (0..bytes.min(to_u64(MOST))).step_by(16) {
                    let (address, length) = (self.u64(low + at)?, self.u64(low + at + 8)?);
                    if length >> 56 != 0 {
                        return None;
                    }
                    runs.push((address, to_usize(length & 0xffff_ffff)));
                }
            }
            _ => return None,
        }
        let total: usize = runs.iter().map(|(_, length)| length).sum();
        (total == length).then_some(runs)
    }
}
