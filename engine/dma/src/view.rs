//! Where a worker finds the memory that commands name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::address_space::Table;
use crate::{Access, AddressSpace, Mapping, Unreachable, to_u64, to_usize};

/// A run of bytes of one mapping.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The mapping; holding it keeps its removal from being [settled](crate::Unmapped::settle).
    pub mapping: &'a Arc<Mapping>,
    /// First byte, in the mapping's region.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// One worker's look at an address space.
///
/// It holds the mappings that it sees, so a worker that goes to sleep [lets go](Self::release) first.
#[derive(Debug, Default)]
pub struct View {
    table: Arc<Table>,
    generation: u64,
    /// Copies of those that were used, sorted as the table is.
    own: Table,
    /// Where in them the last address was found; commands come from few regions.
    last: usize,
}

impl View {
    /// A view that sees nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees what is mapped now; whether that may differ from what was seen before.
    #[inline]
    pub fn refresh(&mut self, space: &AddressSpace) -> bool {
        let generation = space.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.renew(space, generation);
            return true;
        }
        false
    }

    #[cold]
    fn renew(&mut self, space: &AddressSpace, generation: u64) {
        // A change between the two is seen by the next call, for which the number then differs.
        self.table = space.current();
        self.generation = generation;
        self.last = 0;
        let table = &self.table;
        self.own.retain(|own| {
            let now = table.get(table.partition_point(|mapping| mapping.end() <= own.iova()));
            own.of.as_ref().zip(now).is_some_and(|(of, now)| Arc::ptr_eq(of, now))
        });
    }

    /// Sees nothing any more, until it is refreshed.
    pub fn release(&mut self) {
        *self = Self::new();
    }

    /// The memory at `iova`, as far as one mapping goes and at most `length` bytes of it (at least one).
    ///
    /// # Errors
    /// Where `iova` is not mapped, or not for this access.
    #[inline]
    pub fn span(&mut self, iova: u64, length: usize, access: Access) -> Result<Span<'_>, Unreachable> {
        let hit = self.own.get(self.last).is_some_and(|m| iova.wrapping_sub(m.iova()) < m.length());
        if !hit {
            self.find(iova)?;
        }
        let mapping =
            self.own.get(self.last).filter(|mapping| access == Access::Read || mapping.access() == access);
        let mapping = mapping.ok_or(Unreachable { iova })?;
        let within = iova.checked_sub(mapping.iova()).ok_or(Unreachable { iova })?;
        let length = length.min(to_usize(mapping.length() - within));
        Ok(Span { mapping, offset: mapping.offset() + to_usize(within), length })
    }

    /// Sets `last` to the mapping of an address, which is copied where it is used for the first time.
    #[inline(never)]
    fn find(&mut self, iova: u64) -> Result<(), Unreachable> {
        let place = self.own.partition_point(|mapping| mapping.end() <= iova);
        if self.own.get(place).is_none_or(|mapping| mapping.iova() > iova) {
            let found = self.table.get(self.table.partition_point(|mapping| mapping.end() <= iova));
            let found = found.filter(|mapping| mapping.iova() <= iova).ok_or(Unreachable { iova })?;
            self.own.insert(place, Mapping::copy_of(found));
        }
        self.last = place;
        Ok(())
    }

    /// Copies bytes from the device's memory.
    ///
    /// # Errors
    /// Where some of it is not mapped.
    pub fn read(&mut self, iova: u64, target: &mut [u8]) -> Result<(), Unreachable> {
        let mut done = 0;
        while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = iova.checked_add(to_u64(done)).ok_or(Unreachable { iova })?;
            let span = self.span(at, rest.len(), Access::Read)?;
            let part = rest.get_mut(..span.length).unwrap_or_default();
            span.mapping.region().read(span.offset, part).map_err(|_| Unreachable { iova: at })?;
            done += span.length;
        }
        Ok(())
    }

    /// Copies bytes to the device's memory.
    ///
    /// # Errors
    /// Where some of it is not mapped for writing; what comes before it is written then.
    pub fn write(&mut self, iova: u64, source: &[u8]) -> Result<(), Unreachable> {
        let mut done = 0;
        while let Some(rest) = source.get(done..).filter(|rest| !rest.is_empty()) {
            let at = iova.checked_add(to_u64(done)).ok_or(Unreachable { iova })?;
            let span = self.span(at, rest.len(), Access::ReadWrite)?;
            let part = rest.get(..span.length).unwrap_or_default();
            span.mapping.region().write(span.offset, part).map_err(|_| Unreachable { iova: at })?;
            done += span.length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;
    use crate::{PAGE, Region};

    fn space_with(ranges: &[(u64, u64)]) -> AddressSpace {
        let space = AddressSpace::new(16);
        for &(iova, length) in ranges {
            let region = Region::private(to_usize(length)).unwrap();
            space.map(iova, length, region, 0, Access::ReadWrite).unwrap();
        }
        space
    }

    #[test]
    fn unmapped_memory_is_settled_only_when_views_let_go() {
        let space = space_with(&[(0x1000, 0x1000)]);
        let mut view = View::new();
        view.refresh(&space);
        assert!(!space.unmap(0x1000, 0x1000).unwrap().settle(Duration::from_millis(1)));
        view.refresh(&space);
        assert!(view.span(0x1000, 1, Access::Read).is_err());

        let space = space_with(&[(0x1000, 0x1000)]);
        view.refresh(&space);
        view.release();
        assert!(space.clear().settle(Duration::ZERO));
    }

    #[test]
    fn memory_that_a_command_holds_is_settled_only_when_it_lets_go() {
        let space = space_with(&[(0x1000, 0x1000), (0x4000, 0x1000)]);
        let (mut view, mut other) = (View::new(), View::new());
        view.refresh(&space);
        other.refresh(&space);
        let held = Arc::clone(view.span(0x1000, 1, Access::Read).unwrap().mapping);
        let same = Arc::clone(other.span(0x1000, 1, Access::Read).unwrap().mapping);
        assert!(!Arc::ptr_eq(&held, &same) && held.is_same(&same), "each view counts for itself");
        drop(same);
        let gone = space.unmap(0x1000, 0x1000).unwrap();
        view.refresh(&space);
        other.refresh(&space);
        let Err(gone) = gone.try_settle(Duration::from_millis(1)) else { panic!("a command holds it") };
        drop(held);
        assert!(gone.settle(Duration::ZERO));
    }

    #[test]
    fn mapping_that_stays_is_the_same_after_others_changed() {
        let space = space_with(&[(0x1000, 0x1000), (0x4000, 0x1000)]);
        let mut view = View::new();
        view.refresh(&space);
        let at = |view: &mut View, iova| Arc::clone(view.span(iova, 1, Access::Read).unwrap().mapping);
        let (first, second) = (at(&mut view, 0x1000), at(&mut view, 0x4000));
        let _ = space.unmap(0x1000, 0x1000).unwrap();
        space.map(0x1000, 0x1000, Region::private(PAGE).unwrap(), 0, Access::ReadWrite).unwrap();
        assert!(view.refresh(&space));
        assert!(!first.is_same(&at(&mut view, 0x1000)));
        assert!(Arc::ptr_eq(&second, &at(&mut view, 0x4000)));
    }

    #[test]
    fn copy_across_adjacent_mappings_arrives_and_into_a_gap_is_refused() {
        let space = space_with(&[(0x1000, 0x1000), (0x2000, 0x1000)]);
        let mut view = View::new();
        view.refresh(&space);
        let sent: Vec<u8> = (0..0x1800_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        view.write(0x1400, &sent).unwrap();
        let mut back = vec![0; sent.len()];
        view.read(0x1400, &mut back).unwrap();
        assert_eq!(sent, back);
        assert_eq!(view.write(0x2fff, &[1, 2]), Err(Unreachable { iova: 0x3000 }));
    }

    #[test]
    fn memory_for_reading_only_is_not_written() {
        let space = AddressSpace::new(1);
        let region = Region::private(PAGE).unwrap();
        space.map(0, 0x1000, region, 0, Access::Read).unwrap();
        let mut view = View::new();
        view.refresh(&space);
        assert_eq!(view.read(0, &mut [0; 8]), Ok(()));
        assert_eq!(view.write(0, &[0; 8]), Err(Unreachable { iova: 0 }));
    }

    proptest! {
        /// Against a map of pages: whatever is mapped and unmapped, an address is found where it should be.
        #[test]
        fn address_is_found_in_the_mapping_that_has_it(
            changes in prop::collection::vec((any::<bool>(), 0_u64..32, 1_u64..6), 1..60)
        ) {
            let space = AddressSpace::new(64);
            let mut model = [0_u64; 40];
            let mut next = 1;
            for (map, page, pages) in changes {
                let (from, to) = (to_usize(page), to_usize(page + pages));
                if map {
                    let region = Region::private(to_usize(pages) * PAGE).unwrap();
                    let free = model[from..to].iter().all(|&owner| owner == 0);
                    let mapped = space.map(page * 4096, pages * 4096, region, 0, Access::ReadWrite);
                    prop_assert_eq!(mapped.is_ok(), free);
                    if free {
                        model[from..to].fill(next);
                        next += 1;
                    }
                } else {
                    let cut = |at: usize| at > 0 && model[at] != 0 && model[at - 1] == model[at];
                    let some = model[from..to].iter().any(|&owner| owner != 0);
                    let whole = some && !cut(from) && !cut(to);
                    let gone = space.unmap(page * 4096, pages * 4096);
                    prop_assert_eq!(gone.is_ok(), whole);
                    if whole {
                        model[from..to].fill(0);
                    }
                }
            }
            let mut view = View::new();
            view.refresh(&space);
            for (page, &owner) in model.iter().enumerate() {
                let found = view.span(to_u64(page) * 4096 + 5, 4096, Access::Read);
                prop_assert_eq!(found.is_ok(), owner != 0);
                if let Ok(span) = found {
                    let first = model.iter().position(|&other| other == owner).unwrap();
                    prop_assert_eq!(span.offset, (page - first) * PAGE + 5);
                }
            }
        }
    }
}
