//! Stretches of memory with an address that stays.

use std::any::Any;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use crate::page_map::PageMap;
use crate::{PAGE, Region};

/// Left on an arena by whoever told a device of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Who registered it; the handle means nothing to others.
    pub owner: u64,
    /// What the owner's device knows the arena by: an index in a table of fixed buffers, an address on a bus.
    pub handle: u64,
}

/// Page-aligned memory at a fixed address that buffers are carved from.
pub struct Arena {
    /// Dropped before the region, so that a device is told to forget the memory while it is still there.
    keeper: Option<Box<dyn Any + Send + Sync>>,
    free: PageMap,
    registration: OnceLock<Registration>,
    region: Arc<Region>,
}

impl Arena {
    /// An arena over all of `region`, which nobody else may carve from. Devices reach it through the region; they
    /// write only to buffers that a queue holds for them.
    #[must_use]
    pub fn new(region: Arc<Region>) -> Self {
        let free = PageMap::all_free(region.length() / PAGE);
        Self { keeper: None, free, registration: OnceLock::new(), region }
    }

    /// An arena that a device was told of; `keeper` tells it to forget when it is dropped, which happens when the
    /// last buffer is gone and before the memory is.
    #[must_use]
    pub fn registered(
        region: Arc<Region>,
        registration: Registration,
        keeper: Box<dyn Any + Send + Sync>,
    ) -> Self {
        let arena = Self { keeper: Some(keeper), ..Self::new(region) };
        arena.register(registration);
        arena
    }

    /// Maps `length` bytes (rounded up to whole pages, at least one) of memory of this process alone.
    ///
    /// # Errors
    /// Where the kernel has no memory to give.
    pub fn private(length: usize) -> io::Result<Self> {
        Ok(Self::new(Region::private_huge(length)?))
    }

    /// Where it starts.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.region.base()
    }

    /// Its length in bytes, a multiple of [`PAGE`].
    #[must_use]
    pub fn length(&self) -> usize {
        self.region.length()
    }

    /// The memory, as devices see it.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// What was left by whoever told a device of it.
    #[must_use]
    pub fn registration(&self) -> Option<Registration> {
        self.registration.get().copied()
    }

    /// Leaves a note that a device knows this arena. Only the first stays; answers whether this was it.
    pub fn register(&self, registration: Registration) -> bool {
        self.registration.set(registration).is_ok()
    }

    /// Takes `pages` pages; the address of the first. Must not run on two threads at once for one arena.
    pub(crate) fn take(&self, pages: usize) -> Option<NonNull<u8>> {
        let first = self.free.take(pages)?;
        // SAFETY: The page map has as many pages as the mapping, so the first page of a run lies within it.
        Some(unsafe { self.base().add(first * PAGE) })
    }

    /// Gives back `pages` pages from `address` on, which came from [`take`](Self::take) of this arena.
    pub(crate) fn give(&self, address: NonNull<u8>, pages: usize) {
        let first = (address.addr().get() - self.base().addr().get()) / PAGE;
        self.free.give(first, pages);
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("region", &self.region)
            .field("pages", &self.free.pages())
            .field("registration", &self.registration.get())
            .field("kept", &self.keeper.is_some())
            .finish()
    }
}
