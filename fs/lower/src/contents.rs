//! Whether media and page cache may differ: who may read the media directly, and when nobody may.
//!
//! A file is *clean* while nobody has it open for writing and its map was taken, by a `FIEMAP` that first wrote back what
//! was dirty, since the last who had. FUSE is the only door to the volume, so whatever could change a file announces
//! itself here first; and it waits until those who read the media by the old map are through. So no read ever touches a
//! block that has left its file.
//!
//! What only adds to a file moves nothing: it waits for nobody, and whoever holds the old map goes on reading what the
//! file was. Only the next map is a new one.

mod changes;
mod seen;
mod state;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use rustc_hash::FxBuildHasher;
use rustix::io::Errno;

use crate::Result;
use changes::Changes;
use seen::Seen;

pub(crate) use state::Loaded;
pub use state::{ReadGuard, Standing, State};

/// What an open, or an operation, may do to the contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Read,
    /// Nothing by itself; each append announces itself.
    Append,
    /// Anything, at any time.
    Write,
}

/// Disputes that are remembered.
const DISPUTES: usize = 1 << 16;

/// How long whoever changes a file waits for those who read its media. Leases end when they are recalled; what is left are
/// commands that a device has not answered, which it is given two minutes for. A read that is under way after this must
/// not find other bytes in its blocks, so the change does not happen.
const RECALL_LIMIT: Duration = Duration::from_secs(150);

/// Told of an inode.
type Hook = OnceLock<Box<dyn Fn(u64) + Send + Sync>>;

/// The files that are open, by inode number.
pub struct Contents {
    files: DashMap<u64, Arc<State>, FxBuildHasher>,
    changes: Changes,
    /// Files whose maps the volume disputes, and how often they had changed then.
    disputed: DashMap<u64, u32, FxBuildHasher>,
    /// Files that are not open and were read from the media.
    seen: Seen,
    recall: Hook,
    grown: Hook,
    recall_limit: Duration,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            files: DashMap::default(),
            changes: Changes::default(),
            disputed: DashMap::default(),
            seen: Seen::default(),
            recall: OnceLock::new(),
            grown: OnceLock::new(),
            recall_limit: RECALL_LIMIT,
        }
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Nobody reads the media of the file as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct ChangeGuard<'a> {
    contents: &'a Contents,
    ino: u64,
}

/// The file may grow as long as this lives; whoever reads its media goes on.
#[derive(Debug)]
#[must_use]
pub enum GrowthGuard<'a> {
    /// Nothing of what is there moves.
    Grows(Growing<'a>),
    /// Its end is shared with another file, and moves when it is written.
    Changes(ChangeGuard<'a>),
}

/// See [`GrowthGuard`].
#[derive(Debug)]
pub struct Growing<'a> {
    contents: &'a Contents,
    ino: u64,
    state: Arc<State>,
}

/// Blocks of the file may become another file's, too, as long as this lives.
#[derive(Debug)]
#[must_use]
pub enum SharingGuard<'a> {
    /// Whoever reads its media goes on.
    Shares(Sharing<'a>),
    /// Something is being added to it.
    Changes(ChangeGuard<'a>),
}

/// See [`SharingGuard`].
#[derive(Debug)]
pub struct Sharing<'a> {
    contents: &'a Contents,
    ino: u64,
    state: Arc<State>,
}

impl Contents {
    /// Notes that a file is open; where that may change it, returns when nobody reads its media any more.
    ///
    /// # Errors
    /// `EIO` where a read of the media does not end; the file does not count as open then.
    pub(crate) fn opened(&self, ino: u64, access: Access) -> Result<Arc<State>> {
        let state = self.joined(ino, access);
        if access == Access::Write {
            self.enter(ino, &state)?;
            state.may_be_mapped();
        }
        Ok(state)
    }

    fn joined(&self, ino: u64, access: Access) -> Arc<State> {
        let entry = self.files.entry(ino).or_insert_with(|| {
            let changes = self.changes.of(ino);
            let disputed = self.disputed.get(&ino).is_some_and(|then| *then == changes);
            Arc::new(State::new(changes, disputed))
        });
        entry.open(access);
        Arc::clone(&entry)
    }

    /// Says who is told of a file that is about to change while somebody reads its media: so that it does not last.
    pub fn on_change(&self, recall: impl Fn(u64) + Send + Sync + 'static) {
        // Said once, when the mount is made.
        let _ = self.recall.set(Box::new(recall));
    }

    /// Says who is told of a file that has grown while somebody reads its media.
    pub fn on_growth(&self, grown: impl Fn(u64) + Send + Sync + 'static) {
        let _ = self.grown.set(Box::new(grown));
    }

    /// Makes a file that was joined for writing the caller's alone, or leaves it again.
    fn enter(&self, ino: u64, state: &State) -> Result<()> {
        let until = Instant::now() + self.recall_limit;
        if state.announce()
            && let Some(recall) = self.recall.get()
        {
            recall(ino);
        }
        if state.wait(until) {
            return Ok(());
        }
        let reading = state.standing().reading;
        tracing::error!(ino, reading, "reads of the media do not end; the file is not changed under them");
        self.closed(ino, Access::Write);
        Err(Errno::IO)
    }

    /// Notes that a file is closed, or that an open that was announced came to nothing.
    pub(crate) fn closed(&self, ino: u64, access: Access) {
        let Some(state) = self.files.get(&ino).map(|state| Arc::clone(&state)) else { return };
        state.close(access);
        self.files.remove_if(&ino, |_, state| {
            let idle = state.is_idle();
            if idle {
                self.changes.keep(ino, state.changes());
                if state.was_read() {
                    self.seen.note(ino);
                }
            }
            idle
        });
    }

    /// For an operation that changes size or place of a file's bytes: whoever opens the file meanwhile finds a writer.
    ///
    /// # Errors
    /// `EIO` where a read of the media does not end.
    pub fn change(&self, ino: u64) -> Result<ChangeGuard<'_>> {
        let state = self.joined(ino, Access::Write);
        self.enter(ino, &state)?;
        Ok(ChangeGuard { contents: self, ino })
    }

    /// The same for who joined a file to do less, and has to change it after all.
    fn change_instead(&self, ino: u64) -> Result<ChangeGuard<'_>> {
        let change = self.change(ino);
        self.closed(ino, Access::Read);
        change
    }

    /// For an operation that only adds bytes, or places for bytes, behind the end of a file.
    ///
    /// # Errors
    /// As for [`change`](Self::change).
    pub fn grow(&self, ino: u64) -> Result<GrowthGuard<'_>> {
        let state = self.joined(ino, Access::Read);
        if state.begins_to_grow() {
            return Ok(GrowthGuard::Grows(Growing { contents: self, ino, state }));
        }
        self.change_instead(ino).map(GrowthGuard::Changes)
    }

    /// For a copy that may give another file blocks of this one. Its readers go on; that its end is shared is known from
    /// here on, so that it is taken from them before it moves.
    ///
    /// # Errors
    /// As for [`change`](Self::change).
    pub fn share(&self, ino: u64) -> Result<SharingGuard<'_>> {
        let state = self.joined(ino, Access::Read);
        if state.begins_to_share() {
            return Ok(SharingGuard::Shares(Sharing { contents: self, ino, state }));
        }
        self.change_instead(ino).map(SharingGuard::Changes)
    }

    /// Whether somebody may be writing to a file.
    #[must_use]
    pub fn is_written(&self, ino: u64) -> bool {
        self.files.get(&ino).is_some_and(|state| state.is_written())
    }

    /// Whether a file was read from the media, now or before, as far as that is remembered.
    #[must_use]
    pub fn was_read(&self, ino: u64) -> bool {
        // In this order: a file that is closed in between is noted before it is forgotten.
        self.files.get(&ino).is_some_and(|state| state.was_read()) || self.seen.has(ino)
    }

    /// Whether somebody has a file open.
    pub(crate) fn is_open(&self, ino: u64) -> bool {
        self.files.contains_key(&ino)
    }

    /// How often a file may have changed. Counted while somebody asks: changes that nobody could have noticed in between
    /// are one. `mapped` says that somebody may be writing to it by a mapping whose file is closed.
    pub(crate) fn changes(&self, ino: u64, mapped: bool) -> u32 {
        if let Some(state) = self.files.get(&ino) {
            return state.asked(mapped);
        }
        let known = self.changes.of(ino);
        if mapped {
            self.changes.keep(ino, known.wrapping_add(1));
        }
        self.changes.of(ino)
    }

    /// How often a file may have changed, without counting anything.
    #[must_use]
    pub fn changes_so_far(&self, ino: u64) -> u32 {
        self.files.get(&ino).map_or_else(|| self.changes.of(ino), |state| state.changes())
    }

    /// Lets nobody read the media of a file until it changes, since the volume disputes where they are.
    pub(crate) fn dispute(&self, ino: u64) {
        self.remember_dispute(ino);
        let Some(state) = self.files.get(&ino).map(|state| Arc::clone(&state)) else { return };
        if state.dispute()
            && let Some(recall) = self.recall.get()
        {
            recall(ino);
        }
    }

    /// Remembers a dispute for those who open the file later.
    pub(crate) fn remember_dispute(&self, ino: u64) {
        if self.disputed.len() >= DISPUTES {
            self.disputed.clear();
        }
        self.disputed.insert(ino, self.changes_so_far(ino));
    }

    /// What is known of an open file; nothing where nobody has it open.
    #[must_use]
    pub fn standing(&self, ino: u64) -> Option<Standing> {
        self.files.get(&ino).map(|state| state.standing())
    }

    /// How many files are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.files.len()
    }
}

impl Drop for ChangeGuard<'_> {
    fn drop(&mut self) {
        self.contents.closed(self.ino, Access::Write);
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if self.state.has_grown()
            && let Some(grown) = self.contents.grown.get()
        {
            grown(self.ino);
        }
        self.contents.closed(self.ino, Access::Read);
    }
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        self.state.has_shared();
        self.contents.closed(self.ino, Access::Read);
    }
}

#[cfg(test)]
mod tests;
