//! Walks a map from front to back without a search for each step.

use super::{Extent, ExtentMap};

/// A piece of a file that is wholly a hole or wholly within one extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First byte within the file.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub length: u64,
    /// The extent that holds it, whole; `None` in a hole.
    pub extent: Option<Extent>,
}

impl Run {
    /// The byte of the volume where the run starts; `None` in a hole.
    #[must_use]
    pub fn physical(&self) -> Option<u64> {
        self.extent.map(|extent| extent.physical + (self.offset - extent.logical))
    }
}

/// Remembers where in a map the last answer was found.
#[derive(Debug, Clone)]
pub struct MapCursor<'a> {
    map: &'a ExtentMap,
    place: usize,
}

impl<'a> MapCursor<'a> {
    /// One that found its last answer at `place`; at none, where there is no such place.
    pub(super) fn at(map: &'a ExtentMap, place: usize) -> Self {
        Self { map, place }
    }

    /// The run that starts at byte `offset`, cut to `limit` bytes. Past the last extent lies a hole without end.
    pub fn run(&mut self, offset: u64, limit: u64) -> Run {
        self.seek(offset);
        let here = self.map.get(self.place);
        let (extent, end) = match here {
            Some(extent) if extent.logical <= offset => (Some(extent), extent.end()),
            Some(next) => (None, next.logical),
            None => (None, u64::MAX),
        };
        Run { offset, length: limit.min(end - offset), extent }
    }

    /// Finds the first extent that ends after `offset`: the same as before or the one after it when reading
    /// goes on, by a search otherwise.
    fn seek(&mut self, offset: u64) {
        for place in [self.place, self.place.saturating_add(1)] {
            let begins = match place.checked_sub(1).and_then(|before| self.map.get(before)) {
                Some(before) => before.end() <= offset,
                None => place == 0,
            };
            let reaches = self.map.get(place).is_none_or(|extent| offset < extent.end());
            if begins && reaches && place <= self.map.len() {
                self.place = place;
                return;
            }
        }
        self.place = self.map.position(offset);
    }
}
