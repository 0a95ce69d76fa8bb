//! What is known of one open file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use extents_core::{ExtentFlags, ExtentMap};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;

use super::Access;
use crate::Result;

/// How often a map is asked for that is out of date before it is there, since somebody appends all the time.
const TRIES: usize = 8;

/// What is known of one open file.
#[derive(Debug)]
pub struct State {
    inner: Mutex<Inner>,
    quiet: Condvar,
    /// Held by who asks for the map, which writes back what is dirty and may take long: apart from what everybody asks for.
    loading: Mutex<()>,
    /// Bytes that readers got from the engine since the file was opened.
    engine_bytes: AtomicU64,
    /// Bytes that readers got from the kernel's driver through us.
    kernel_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    opens: u32,
    /// Opens that may write, and operations that change where bytes lie.
    writers: u32,
    /// Opens that only append, each time through us.
    appenders: u32,
    /// Reads of the media that are under way.
    reading: u32,
    /// Operations that add to the file and are under way.
    growing: u32,
    /// Copies that may share its blocks with another file and are under way.
    sharing: u32,
    changes: u32,
    /// Present while the file is clean.
    map: Option<Arc<ExtentMap>>,
    /// Whether the page cache had any of it when the map was taken.
    cached: bool,
    /// Whether the last block of a map that somebody may still read by is shared with another file.
    shared_end: bool,
    /// Whether nobody can have it mapped for writing: it was looked at, and nobody opened it for writing since. A mapping
    /// outlives the open that it was made by.
    unmapped: bool,
    /// The volume itself says something else than the kernel's driver about where the bytes lie.
    disputed: bool,
}

/// A map, and what was noticed when it was taken.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) map: ExtentMap,
    /// Whether the page cache had any of the file.
    pub(crate) cached: bool,
    /// Whether the volume itself says something else.
    pub(crate) disputed: bool,
}

/// A read of the media may go on as long as this lives.
#[derive(Debug)]
pub struct ReadGuard {
    state: Arc<State>,
    /// Where the bytes lie.
    pub map: Arc<ExtentMap>,
    /// Whether the page cache may have some of them.
    pub cached: bool,
}

/// What is known of one open file, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// How often it is open.
    pub opens: u32,
    /// Opens that may write at any time.
    pub writers: u32,
    /// Opens that only append.
    pub appenders: u32,
    /// Reads of the media and leases.
    pub reading: u32,
    /// How often it may have changed.
    pub changes: u32,
    /// Whether the volume itself contradicts the kernel's driver about where the bytes lie.
    pub disputed: bool,
    /// Bytes that the engine gave to readers.
    pub engine_bytes: u64,
    /// Bytes that the kernel's driver gave to readers through the daemon.
    pub kernel_bytes: u64,
}

impl State {
    pub(super) fn new(changes: u32, disputed: bool) -> Self {
        Self {
            inner: Mutex::new(Inner { changes, disputed, ..Inner::default() }),
            quiet: Condvar::new(),
            loading: Mutex::new(()),
            engine_bytes: AtomicU64::new(0),
            kernel_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn open(&self, access: Access) {
        let mut inner = self.inner.lock();
        inner.opens += 1;
        if access == Access::Append {
            inner.appenders += 1;
        }
    }

    pub(super) fn close(&self, access: Access) {
        let mut inner = self.inner.lock();
        inner.opens -= 1;
        match access {
            Access::Read => {}
            Access::Append => inner.appenders -= 1,
            Access::Write => {
                inner.writers -= 1;
                inner.outdated();
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.inner.lock().opens == 0
    }

    /// From here on nobody begins to read the media; whether somebody still does.
    pub(super) fn announce(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.writers += 1;
        inner.outdated();
        inner.reading > 0
    }

    /// Waits until nobody reads the media, at most until then; whether nobody does.
    pub(super) fn wait(&self, until: Instant) -> bool {
        let mut inner = self.inner.lock();
        !self.quiet.wait_while_until(&mut inner, |inner| inner.reading > 0, until).timed_out()
    }

    /// Notes that something is about to be added to the file. Not where that moves a block that somebody reads, by
    /// copy-on-write of a shared one: that is a change then.
    pub(super) fn begins_to_grow(&self) -> bool {
        let mut inner = self.inner.lock();
        let moves = inner.reading > 0 && inner.shared_end;
        if !moves {
            inner.growing += 1;
        }
        !moves
    }

    /// Notes that the file has grown; whether somebody reads by an older map.
    pub(super) fn has_grown(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.growing -= 1;
        inner.outdated();
        inner.reading > 0
    }

    /// Notes that another file may get blocks of this one, the last one included. Not while something is added to the file:
    /// nobody could say whether that still writes in place.
    pub(super) fn begins_to_share(&self) -> bool {
        let mut inner = self.inner.lock();
        let settled = inner.growing == 0;
        if settled {
            inner.sharing += 1;
            inner.shared_end = true;
        }
        settled
    }

    /// Notes that such a copy is over. Whoever read by a map from before goes on: no block moves before the file grows.
    pub(super) fn has_shared(&self) {
        let mut inner = self.inner.lock();
        inner.sharing -= 1;
        inner.map = None;
    }

    /// Lets nobody begin to read the media until the file changes; whether somebody does.
    pub(super) fn dispute(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.map = None;
        inner.disputed = true;
        inner.reading > 0
    }

    /// Notes that it may be mapped for writing from now on, by whoever opened it for writing.
    pub(super) fn may_be_mapped(&self) {
        self.inner.lock().unmapped = false;
    }

    /// Finds out by `look`, before the first append, whether nobody has the file mapped for writing.
    pub(crate) fn look_before_append(&self, look: impl FnOnce() -> bool) {
        let mut inner = self.inner.lock();
        if inner.appenders == 1 && inner.writers == 0 && !inner.unmapped {
            inner.unmapped = look();
        }
    }

    /// Whether somebody may be writing in the middle of it: the media are not to be read.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.inner.lock().writers > 0
    }

    /// Whether somebody may be writing.
    #[must_use]
    pub fn is_written(&self) -> bool {
        let inner = self.inner.lock();
        inner.writers > 0 || inner.appenders > 0
    }

    pub(super) fn changes(&self) -> u32 {
        self.inner.lock().changes
    }

    /// How often the file may have changed, for somebody who takes its map now.
    pub(super) fn asked(&self, mapped: bool) -> u32 {
        let mut inner = self.inner.lock();
        // An append looks like a mapping.
        if inner.writers > 0 || mapped && inner.appenders == 0 {
            // They do not tell.
            inner.outdated();
        }
        inner.changes
    }

    pub(super) fn standing(&self) -> Standing {
        let inner = self.inner.lock();
        Standing {
            opens: inner.opens,
            writers: inner.writers,
            appenders: inner.appenders,
            reading: inner.reading,
            changes: inner.changes,
            disputed: inner.disputed,
            engine_bytes: self.engine_bytes.load(Ordering::Relaxed),
            kernel_bytes: self.kernel_bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether a reader got anything from the engine.
    pub(super) fn was_read(&self) -> bool {
        self.engine_bytes.load(Ordering::Relaxed) > 0
    }

    /// Counts bytes that a reader got from the engine.
    pub fn read_by_engine(&self, bytes: u64) {
        self.engine_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that a reader got from the kernel's driver.
    pub fn read_by_kernel(&self, bytes: u64) {
        self.kernel_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Leave to read the media; none while somebody may write, or the volume disputes where they are. `load` gives the map
    /// where it is not known; it is told how often the file changed, and whether to look for mappings, and gives none where
    /// somebody may write by one.
    ///
    /// # Errors
    /// Where the map cannot be had.
    pub(crate) fn read(
        self: &Arc<Self>,
        mut load: impl FnMut(u32, bool) -> Result<Option<Loaded>>,
    ) -> Result<Option<ReadGuard>> {
        if let Some(known) = self.read_known(&mut self.inner.lock()) {
            return Ok(known);
        }
        let _alone = self.loading.lock();
        for _ in 0..TRIES {
            let (changes, look) = {
                let mut inner = self.inner.lock();
                // Who waited before may have got it.
                if let Some(known) = self.read_known(&mut inner) {
                    return Ok(known);
                }
                (inner.changes, !inner.unmapped || inner.appenders == 0)
            };
            let Some(loaded) = load(changes, look)? else { return Ok(None) };
            let mut inner = self.inner.lock();
            if inner.changes != changes {
                // It is of the past already.
                continue;
            }
            inner.unmapped = true;
            if loaded.disputed {
                inner.disputed = true;
            } else {
                inner.cached = loaded.cached;
                inner.map = Some(Arc::new(loaded.map));
            }
            return Ok(self.read_known(&mut inner).flatten());
        }
        Err(Errno::AGAIN)
    }

    /// Leave, or none, as far as that can be said without asking for a map.
    fn read_known(self: &Arc<Self>, inner: &mut MutexGuard<'_, Inner>) -> Option<Option<ReadGuard>> {
        if inner.writers > 0 || inner.disputed {
            return Some(None);
        }
        let map = Arc::clone(inner.map.as_ref()?);
        let shared_end = inner.sharing > 0 || has_shared_end(&map);
        if shared_end && inner.growing > 0 {
            // Its last block may be moving.
            return Some(None);
        }
        inner.shared_end |= shared_end;
        inner.reading += 1;
        Some(Some(ReadGuard { state: Arc::clone(self), map, cached: inner.cached }))
    }
}

impl Inner {
    /// The map, if there is one, is of the past.
    fn outdated(&mut self) {
        self.map = None;
        self.disputed = false;
        self.changes = self.changes.wrapping_add(1);
        if self.reading == 0 {
            self.shared_end = self.sharing > 0;
        }
    }
}

/// Whether the file's last block is partly used and also another file's.
fn has_shared_end(map: &ExtentMap) -> bool {
    let last = map.len().checked_sub(1).and_then(|index| map.get(index));
    last.is_some_and(|last| last.flags.contains(ExtentFlags::SHARED) && last.end() > map.size())
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let mut inner = self.state.inner.lock();
        inner.reading -= 1;
        if inner.reading == 0 && inner.writers > 0 {
            self.state.quiet.notify_all();
        }
    }
}
