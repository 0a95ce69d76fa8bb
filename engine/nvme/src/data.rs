//! Saying where a command's data goes: PRPs and SGLs (NVMe Base Specification 2.1, sections 4.3.1 and 4.3.2).

use std::sync::atomic::Ordering;

use engine_dma::to_usize;
use engine_nvme_spec::{FLAG_SGL, SglDescriptor};

use crate::memory::Shared;

/// The flag, in the first word of an entry, that says that the data pointer is an SGL.
const SGL: u64 = 1 << 14;
const _: () = assert!(FLAG_SGL == 1 << 6, "the flags are the second byte of the word");

/// A run of bytes that the controller reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Bus address of the first byte, a multiple of four.
    pub iova: u64,
    /// Bytes.
    pub length: u32,
}

/// Why memory cannot be given to the controller as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A bus address is no multiple of four, or without SGLs a run within does not start and end at a page.
    #[error("the memory is not aligned as the controller needs it")]
    Unaligned,
    /// More than the controller takes at once.
    #[error("the memory is longer than one command moves, or lies in too many runs")]
    TooLong,
}

/// What goes into a command: a bit of dword 0 and the data pointer, dwords 6 to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) flags: u64,
    pub(crate) words: [u64; 2],
}

impl Pointer {
    /// No data.
    pub(crate) const NONE: Self = Self { flags: 0, words: [0, 0] };
}

/// What a queue pair's commands may move, and how it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The controller's memory page, as a power of two.
    pub(crate) page_shift: u32,
    /// Most bytes of one command.
    pub(crate) max_transfer: u32,
    /// Whether it takes SGLs.
    pub(crate) sgl: bool,
}

/// Bytes of list memory that each command of a queue has: as many as the longest transfer needs, at most a page.
pub(crate) fn list_bytes(limits: &Limits) -> usize {
    let pages = (to_usize(limits.max_transfer.into()) >> limits.page_shift) + 1;
    (pages * 8).next_power_of_two().clamp(64, 1 << limits.page_shift)
}

/// The lists of a queue's commands: one place for each, written when a command needs it.
#[derive(Debug)]
pub(crate) struct Lists {
    /// First byte in the queue's memory.
    start: usize,
    each: usize,
    limits: Limits,
    /// The bits of an address that are a place in a page, and its bytes.
    inside: u64,
    page: u64,
    /// Where the pages that a place lists start, and how many are listed. Commands often come again to the same
    /// memory, and then find their list as it should be.
    listed: Box<[(u64, usize)]>,
}

impl Lists {
    pub(crate) fn new(start: usize, places: usize, limits: Limits) -> Self {
        Self {
            start,
            each: list_bytes(&limits),
            inside: (1 << limits.page_shift) - 1,
            page: 1 << limits.page_shift,
            limits,
            listed: vec![(0, 0); places].into_boxed_slice(),
        }
    }

    /// Says where `run` is, for the command in `slot`.
    #[inline]
    pub(crate) fn describe(&mut self, memory: &Shared, slot: u32, run: Run) -> Result<Pointer, Unfit> {
        let (inside, length) = (self.inside, u64::from(run.length));
        if run.iova & 3 != 0 {
            return Err(Unfit::Unaligned);
        }
        // A page is never more than a command moves, and never ends beyond the last address.
        let end = (run.iova & inside) + length;
        if end <= self.page {
            return Ok(Pointer { flags: 0, words: [run.iova, 0] });
        }
        if run.length > self.limits.max_transfer || run.iova > u64::MAX - length {
            return Err(Unfit::TooLong);
        }
        let second = (run.iova | inside) + 1;
        if end <= 2 * self.page {
            return Ok(Pointer { flags: 0, words: [run.iova, second] });
        }
        if self.limits.sgl {
            let descriptor = SglDescriptor::data_block(run.iova, run.length);
            return Ok(Pointer { flags: SGL, words: descriptor.to_words() });
        }
        let pages = to_usize((end - 1) >> self.limits.page_shift);
        let list = self.list(memory, slot, second, pages).ok_or(Unfit::TooLong)?;
        Ok(Pointer { flags: 0, words: [run.iova, list] })
    }

    /// Says where `runs` are, one after the other, for the command in `slot`.
    pub(crate) fn describe_all(
        &mut self,
        memory: &Shared,
        slot: u32,
        runs: &[Run],
    ) -> Result<Pointer, Unfit> {
        match runs {
            [] => return Ok(Pointer::NONE),
            [run] => return self.describe(memory, slot, *run),
            _ => {}
        }
        let mut total = 0_u64;
        for run in runs {
            if run.iova & 3 != 0 || run.length & 3 != 0 {
                return Err(Unfit::Unaligned);
            }
            total += u64::from(run.length);
            if total > self.limits.max_transfer.into() || run.iova.checked_add(run.length.into()).is_none() {
                return Err(Unfit::TooLong);
            }
        }
        if self.limits.sgl { self.segment(memory, slot, runs) } else { self.pages(memory, slot, runs) }
    }

    /// An SGL segment of one descriptor for each run.
    fn segment(&mut self, memory: &Shared, slot: u32, runs: &[Run]) -> Result<Pointer, Unfit> {
        let words = runs.iter().flat_map(|run| SglDescriptor::data_block(run.iova, run.length).to_words());
        let list = self.write(memory, slot, runs.len() * 2, words).ok_or(Unfit::TooLong)?;
        let count = u32::try_from(runs.len()).map_err(|_| Unfit::TooLong)?;
        Ok(Pointer { flags: SGL, words: SglDescriptor::segment(list, count, true).to_words() })
    }

    /// PRPs: all runs but the first start at a page, all but the last end at one.
    fn pages(&mut self, memory: &Shared, slot: u32, runs: &[Run]) -> Result<Pointer, Unfit> {
        let shift = self.limits.page_shift;
        let inside = (1_u64 << shift) - 1;
        let last = runs.len() - 1;
        for (place, run) in runs.iter().enumerate() {
            let starts = place == 0 || run.iova & inside == 0;
            let ends = place == last || (run.iova + u64::from(run.length)) & inside == 0;
            if !starts || !ends || run.length == 0 {
                return Err(Unfit::Unaligned);
            }
        }
        let pages = || {
            runs.iter().flat_map(|run| {
                let first = run.iova >> shift;
                let last = (run.iova + u64::from(run.length) - 1) >> shift;
                (first..=last).map(|page| page << shift)
            })
        };
        let count = pages().count() - 1;
        let first = runs.first().map_or(0, |run| run.iova);
        if count == 1 {
            return Ok(Pointer { flags: 0, words: [first, pages().nth(1).unwrap_or(0)] });
        }
        let list = self.write(memory, slot, count, pages().skip(1)).ok_or(Unfit::TooLong)?;
        Ok(Pointer { flags: 0, words: [first, list] })
    }

    /// A list of `count` pages from `first` on; its bus address.
    #[inline]
    fn list(&mut self, memory: &Shared, slot: u32, first: u64, count: usize) -> Option<u64> {
        let slot = to_usize(slot.into());
        let offset = self.start + slot * self.each;
        let listed = self.listed.get_mut(slot)?;
        if listed.0 != first || listed.1 < count {
            if count * 8 > self.each {
                return None;
            }
            let page = 1_u64 << self.limits.page_shift;
            let mut entry = first;
            for word in memory.region().u64s_at(memory.place(offset), count)? {
                // The doorbell that follows is what lets the controller look.
                word.store(entry.to_le(), Ordering::Relaxed);
                entry = entry.wrapping_add(page);
            }
            *listed = (first, count);
        }
        Some(memory.iova(offset))
    }

    fn write(
        &mut self,
        memory: &Shared,
        slot: u32,
        count: usize,
        words: impl Iterator<Item = u64>,
    ) -> Option<u64> {
        if count * 8 > self.each {
            return None;
        }
        let slot = to_usize(slot.into());
        let offset = self.start + slot * self.each;
        *self.listed.get_mut(slot)? = (0, 0);
        for (word, value) in memory.region().u64s_at(memory.place(offset), count)?.iter().zip(words) {
            word.store(value.to_le(), Ordering::Relaxed);
        }
        Some(memory.iova(offset))
    }
}

#[cfg(test)]
mod tests {
    use engine_dma::to_u64;
    use engine_nvme_spec::SglKind;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Mock, MockOptions};

    const PLACES: usize = 3;

    /// Memory for the lists of a few commands, and the lists.
    fn lists(limits: Limits) -> (Shared, Lists) {
        let page = 1 << limits.page_shift;
        let start = page;
        let length = start + PLACES * list_bytes(&limits);
        let memory = Shared::new(&*Mock::new(MockOptions::default()), length, page).unwrap();
        (memory, Lists::new(start, PLACES, limits))
    }

    fn word(memory: &Shared, iova: u64) -> u64 {
        let mut bytes = [0; 8];
        memory.read(to_usize(iova - memory.iova(0)), &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Where a pointer leads, as a controller reads it that was told `length` bytes: a run for each entry.
    fn walk(memory: &Shared, page: u64, pointer: Pointer, length: u64) -> Vec<(u64, u64)> {
        let [low, high] = pointer.words;
        if pointer.flags == SGL {
            let descriptor = SglDescriptor::from_words([low, high]);
            if descriptor.kind() == SglKind::DATA_BLOCK {
                return vec![(descriptor.address, descriptor.length.into())];
            }
            assert_eq!(descriptor.kind(), SglKind::LAST_SEGMENT);
            let places = (descriptor.address..).step_by(16).take(to_usize((descriptor.length / 16).into()));
            let read = |at| SglDescriptor::from_words([word(memory, at), word(memory, at + 8)]);
            return places
                .map(read)
                .map(|block| {
                    assert_eq!(block.kind(), SglKind::DATA_BLOCK);
                    (block.address, block.length.into())
                })
                .collect();
        }
        let first = length.min(page - low % page);
        let (mut runs, mut left) = (vec![(low, first)], length - first);
        if left == 0 {
            return runs;
        }
        if left <= page {
            assert_eq!(high % page, 0);
            return [runs, vec![(high, left)]].concat();
        }
        for at in (high..).step_by(8) {
            assert!(at == high || at % page != 0, "a list of the driver's lies in one page");
            let entry = word(memory, at);
            assert_eq!(entry % page, 0);
            runs.push((entry, left.min(page)));
            left -= left.min(page);
            if left == 0 {
                break;
            }
        }
        runs
    }

    /// The same bytes in as few runs as can be.
    fn merged(runs: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (address, length) in runs {
            match merged.last_mut() {
                Some((start, before)) if *start + *before == address => *before += length,
                _ => merged.push((address, length)),
            }
        }
        merged
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let limits = |(page_shift, pages, sgl)| Limits {
            page_shift,
            max_transfer: 1_u32 << (page_shift + pages),
            sgl,
        };
        (12_u32..17, 0_u32..6, any::<bool>()).prop_map(limits)
    }

    proptest! {
        /// Whatever was described before at the same place, a pointer leads to the bytes of its run, and what no command
        /// can move is refused.
        #[test]
        fn pointer_to_a_run_leads_to_its_bytes(
            limits in limits(),
            runs in prop::collection::vec((0_u64..64, 0_u64..1 << 16, 1_u32..3 << 20, 0_u32..3), 1..20),
            high in any::<bool>(),
        ) {
            let (memory, mut lists) = lists(limits);
            let page = 1_u64 << limits.page_shift;
            for (at, within, length, slot) in runs {
                let iova = at * page + within % page;
                // As far up as addresses go.
                let iova = if high { iova.wrapping_sub(70 * page) } else { iova };
                let run = Run { iova, length };
                let described = lists.describe(&memory, slot, run);
                let fits = length <= limits.max_transfer && iova.checked_add(length.into()).is_some();
                match described {
                    Ok(pointer) => {
                        let within_page = iova % page + u64::from(length) <= page;
                        prop_assert!(iova % 4 == 0 && (fits || within_page));
                        let walked = merged(walk(&memory, page, pointer, length.into()));
                        prop_assert_eq!(walked, [(iova, u64::from(length))]);
                    }
                    Err(Unfit::Unaligned) => prop_assert!(iova % 4 != 0),
                    Err(Unfit::TooLong) => prop_assert!(!fits),
                }
            }
        }

        /// Runs that a controller can be told of are, and the pointer leads to their bytes in their order; all others are
        /// refused.
        #[test]
        fn pointer_to_runs_leads_to_their_bytes_in_order(
            limits in limits(),
            shapes in prop::collection::vec((0_u64..1000, 0_u64..1 << 14, 0_u64..5, any::<bool>()), 2..12),
            pages in any::<bool>(),
            slot in 0_u32..3,
        ) {
            let (memory, mut lists) = lists(limits);
            let page = 1_u64 << limits.page_shift;
            let last = shapes.len() - 1;
            let mut runs = Vec::new();
            for (place, (at, within, count, odd)) in shapes.into_iter().enumerate() {
                let part = (within * 4) % page;
                let (start, end) = match (pages, place) {
                    (true, 0) => (part, page * (count + 1)),
                    (true, place) if place == last => (0, page * count + part + 4),
                    (true, _) => (0, page * (count + 1)),
                    (false, _) => (part + u64::from(odd), part + u64::from(odd) + count * 512),
                };
                runs.push(Run { iova: at * 8 * page + start, length: u32::try_from(end - start).unwrap() });
            }
            let total: u64 = runs.iter().map(|run| u64::from(run.length)).sum();
            let aligned = runs.iter().all(|run| run.iova % 4 == 0 && run.length % 4 == 0);
            let paged = runs.iter().enumerate().all(|(place, run)| {
                let starts = place == 0 || run.iova % page == 0;
                let ends = place == last || (run.iova + u64::from(run.length)) % page == 0;
                starts && ends && run.length > 0
            });
            let short = total <= limits.max_transfer.into();
            let room = !limits.sgl || runs.len() * 16 <= list_bytes(&limits);
            let described = lists.describe_all(&memory, slot, &runs);
            prop_assert_eq!(described.is_ok(), aligned && short && room && (limits.sgl || paged), "{:?}", described);
            if let Ok(pointer) = described {
                let wanted = runs.iter().map(|run| (run.iova, u64::from(run.length)));
                let wanted = merged(wanted.filter(|(_, length)| *length > 0));
                let walked = walk(&memory, page, pointer, total).into_iter().filter(|(_, length)| *length > 0);
                prop_assert_eq!(merged(walked), wanted);
                prop_assert!(to_u64(list_bytes(&limits)) <= page);
            }
        }
    }
}
