//! Whether media and page cache may differ: who may read the media directly, and when nobody may.
//!
//! A file is *clean* while nobody has it open for writing and its map was taken, by a `FIEMAP` that first wrote back what
//! was dirty, since the last who had. FUSE is the only door to the volume, so whatever could change a file announces
//! itself here first; and it waits until those who read the media by the old map are through. So no read ever touches a
//! block that has left its file.

use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use extents_core::ExtentMap;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxBuildHasher;

use crate::Result;

/// The files that are open, by inode number.
#[derive(Default)]
pub struct Contents {
    files: DashMap<u64, Arc<State>, FxBuildHasher>,
    recall: OnceLock<Box<dyn Fn(u64) + Send + Sync>>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What is known of one open file.
#[derive(Debug, Default)]
pub struct State {
    inner: Mutex<Inner>,
    quiet: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    opens: u32,
    /// Opens that may write, and operations that change where bytes lie.
    writers: u32,
    /// Reads of the media that are under way.
    reading: u32,
    /// Present while the file is clean.
    map: Option<Arc<ExtentMap>>,
    /// Whether the page cache had any of it when the map was taken.
    cached: bool,
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

/// Nobody reads the media of the file as long as this lives.
#[derive(Debug)]
pub struct ChangeGuard<'a> {
    contents: &'a Contents,
    ino: u64,
}

impl Contents {
    /// Notes that a file is open; with `writes`, returns when nobody reads its media any more.
    pub(crate) fn opened(&self, ino: u64, writes: bool) -> Arc<State> {
        let state = {
            let entry = self.files.entry(ino).or_default();
            entry.inner.lock().opens += 1;
            Arc::clone(&entry)
        };
        if writes {
            self.enter(ino, &state);
        }
        state
    }

    /// Says who is told of a file that is about to change while somebody reads its media: so that it does not last.
    pub fn on_change(&self, recall: impl Fn(u64) + Send + Sync + 'static) {
        // Said once, when the mount is made.
        let _ = self.recall.set(Box::new(recall));
    }

    fn enter(&self, ino: u64, state: &State) {
        if state.announce()
            && let Some(recall) = self.recall.get()
        {
            recall(ino);
        }
        state.wait();
    }

    /// Notes that a file is closed, or that an open that was announced came to nothing.
    pub(crate) fn closed(&self, ino: u64, writes: bool) {
        let Some(state) = self.files.get(&ino).map(|state| Arc::clone(&state)) else { return };
        if writes {
            state.leave();
        }
        state.inner.lock().opens -= 1;
        self.files.remove_if(&ino, |_, state| state.inner.lock().opens == 0);
    }

    /// For an operation that changes size or place of a file's bytes: whoever opens the file meanwhile finds a writer.
    #[must_use]
    pub fn change(&self, ino: u64) -> ChangeGuard<'_> {
        self.opened(ino, true);
        ChangeGuard { contents: self, ino }
    }

    /// Whether somebody may be writing to a file.
    #[must_use]
    pub fn is_written(&self, ino: u64) -> bool {
        self.files.get(&ino).is_some_and(|state| state.is_written())
    }

    /// Whether somebody has a file open.
    pub(crate) fn is_open(&self, ino: u64) -> bool {
        self.files.contains_key(&ino)
    }

    /// How many files are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.files.len()
    }
}

impl State {
    /// From here on nobody begins to read the media; whether somebody still does.
    fn announce(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.writers += 1;
        inner.map = None;
        inner.reading > 0
    }

    /// Waits until nobody reads the media. Reads have deadlines of their own.
    fn wait(&self) {
        let mut inner = self.inner.lock();
        while inner.reading > 0 {
            self.quiet.wait(&mut inner);
        }
    }

    fn leave(&self) {
        let mut inner = self.inner.lock();
        inner.writers -= 1;
        inner.map = None;
    }

    /// Whether somebody may be writing.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.inner.lock().writers > 0
    }

    /// Leave to read the media; none while somebody may write. `load` gives the map, and whether the page cache has some
    /// of the file, where neither is known; none where somebody may write whose open is over.
    ///
    /// # Errors
    /// Where the map cannot be had.
    pub(crate) fn read(
        self: &Arc<Self>,
        load: impl FnOnce() -> Result<Option<(ExtentMap, bool)>>,
    ) -> Result<Option<ReadGuard>> {
        let mut inner = self.inner.lock();
        if inner.writers > 0 {
            return Ok(None);
        }
        let map = match &inner.map {
            Some(map) => Arc::clone(map),
            None => {
                let Some((map, cached)) = load()? else { return Ok(None) };
                let map = Arc::new(map);
                inner.cached = cached;
                Arc::clone(inner.map.insert(map))
            }
        };
        inner.reading += 1;
        Ok(Some(ReadGuard { state: Arc::clone(self), map, cached: inner.cached }))
    }
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

impl Drop for ChangeGuard<'_> {
    fn drop(&mut self) {
        self.contents.closed(self.ino, true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn map() -> Result<Option<(ExtentMap, bool)>> {
        Ok(Some((ExtentMap::default(), false)))
    }

    #[test]
    fn read_while_somebody_may_write_is_not_let_in() {
        let contents = Contents::default();
        let reader = contents.opened(7, false);
        assert!(reader.read(map).unwrap().is_some());
        let _writer = contents.opened(7, true);
        assert!(reader.read(map).unwrap().is_none());
        contents.closed(7, true);
        assert!(reader.read(map).unwrap().is_some());
    }

    #[test]
    fn map_after_a_writer_is_asked_for_anew() {
        let contents = Contents::default();
        let reader = contents.opened(7, false);
        drop(reader.read(map).unwrap());
        assert!(reader.read(|| panic!("the map is known")).unwrap().is_some());
        drop(contents.change(7));
        let mut asked = false;
        let again = reader.read(|| {
            asked = true;
            map()
        });
        assert!(again.unwrap().is_some() && asked);
    }

    #[test]
    fn file_that_is_opened_during_a_change_has_no_map_yet() {
        let contents = Contents::default();
        let change = contents.change(7);
        let reader = contents.opened(7, false);
        assert!(reader.read(map).unwrap().is_none());
        drop(change);
        assert!(reader.read(map).unwrap().is_some());
        contents.closed(7, false);
        assert_eq!(contents.open_count(), 0);
    }

    #[test]
    fn change_waits_for_reads_that_are_under_way() {
        let contents = Arc::new(Contents::default());
        let reader = contents.opened(7, false);
        let guard = reader.read(map).unwrap().unwrap();
        let changed = Arc::new(AtomicBool::new(false));
        let changing = thread::spawn({
            let (contents, changed) = (Arc::clone(&contents), Arc::clone(&changed));
            move || {
                let _alone = contents.change(7);
                changed.store(true, Ordering::SeqCst);
            }
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!changed.load(Ordering::SeqCst), "the read is not over");
        drop(guard);
        changing.join().unwrap();
        assert!(changed.load(Ordering::SeqCst));
    }

    #[test]
    fn file_that_nobody_has_open_is_forgotten() {
        let contents = Contents::default();
        let _first = contents.opened(7, true);
        let _second = contents.opened(7, false);
        contents.closed(7, true);
        assert_eq!(contents.open_count(), 1);
        contents.closed(7, false);
        assert_eq!(contents.open_count(), 0);
    }
}
