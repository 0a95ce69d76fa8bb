//! Opening files, and reading those that the engine may serve.
//!
//! Whoever may write gets the file below itself (passthrough): reads, writes and mappings are the kernel's, at its speed.
//! Whoever only reads gets it too where the page cache has the file already or is worth filling with it, where it reads
//! past the page cache, or the mount says so. Other readers' reads come here, and their mappings go to the file below
//! (`FOPEN_DIRECT_IO | FOPEN_PASSTHROUGH`); the engine serves them while the file is clean, the lower mount otherwise.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use extents_core::Ino;
use homifs_core::Stats;
use homifs_lower::{Assumed, Found, Identity, OpenFile};
use homifs_options::Reads;
use homifs_session::{Answer, Backing, Data, Entry, OpenAnswer, Opened, Read};
use rustix::io::Errno;

use super::Writable;
use super::handles::Held;
use crate::attributes::errno;

impl Writable {
    /// Whether reads of a file that was just opened shall come here.
    fn reads_by_engine(&self, file: &OpenFile, flags: i32) -> bool {
        if file.is_appended() {
            // So that each of its writes comes here.
            return true;
        }
        if file.is_writable() {
            return false;
        }
        match self.homifs.options().reads {
            Reads::Kernel => false,
            Reads::Engine => true,
            // Past the page cache nothing is faster than the file below, and what is read again is worth its memory.
            Reads::Auto => {
                flags & libc::O_DIRECT == 0
                    && !file.state().is_written()
                    && !self.lower.contents().was_read(file.ino())
                    // Last: it asks the kernel.
                    && !file.is_mostly_cached()
            }
        }
    }

    /// The backing file of an open; none where the kernel cannot do this.
    fn backing(&self, file: &OpenFile, who: &Identity) -> Answer<Option<Arc<Backing>>> {
        let taken = self.backings.take(file.ino(), || {
            let backing = self.lower.backing(file)?;
            // What is written past us is written as whoever opened the file first: quotas and reserved blocks are theirs.
            let _acting = Assumed::for_writers(who);
            self.kernel.back(backing.as_ref().unwrap_or(file.file()).as_fd())
        });
        taken.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// An open of a file that was opened below, and how the kernel shall treat it.
    pub(super) fn opened(&self, file: OpenFile, flags: i32, who: &Identity) -> Answer<Opened> {
        let backing = self.backing(&file, who).inspect_err(|_| self.lower.close(&file))?;
        // What the kernel cannot read by itself comes here whoever opened it.
        let engine = backing.is_none() || self.reads_by_engine(&file, flags);
        let answer = if engine && backing.is_some() { OpenAnswer::DIRECT_IO } else { OpenAnswer::default() };
        let handle = self.handles.add(Held::File { file, engine, accessed: AtomicBool::new(false) });
        Ok(Opened { handle, answer: answer | OpenAnswer::NO_FLUSH, backing })
    }

    /// The same for a file that was just made.
    pub(super) fn created(
        &self,
        (found, file): (Found, OpenFile),
        flags: i32,
        who: &Identity,
    ) -> Answer<(Entry, Opened)> {
        let mut entry = self.entry(&found);
        // Nothing that is being written is to be remembered, but that a file is empty the kernel may: nothing can be
        // written to an empty file by a mapping, and of all else that makes it longer, or lets its attributes be asked for
        // again, the kernel's FUSE knows. Not that a write through the daemon takes set-user-ID and set-group-ID away.
        let stat = &found.stat;
        if stat.stx_size == 0 && u32::from(stat.stx_mode) & (libc::S_ISUID | libc::S_ISGID) == 0 {
            entry.attributes_ttl = self.homifs.ttl();
        }
        match self.opened(file, flags, who) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.lower.forget(found.ino, 1);
                Err(error)
            }
        }
    }

    pub(super) fn close(&self, open: Arc<Held>) {
        if let Held::File { file, .. } = &*open {
            let (ino, access) = (file.ino(), file.access());
            self.backings.release(ino);
            // First, so that nobody finds it written any more once it counts as closed.
            drop(open);
            self.lower.closed(ino, access);
        }
    }

    pub(super) fn read_file(&self, open: &Held, read: &Read, data: &mut Data<'_>) -> Answer<()> {
        let Held::File { file, engine, accessed } = open else { return Err(Errno::ISDIR) };
        if *engine && self.read_by_engine(file, read, data)? {
            if !accessed.swap(true, Ordering::Relaxed) {
                // The kernel's driver decides whether that changes the access time.
                let _ = file.read(0, &mut [0]);
            }
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(read.size).unwrap_or(0)];
        let length = file.read(read.offset, &mut bytes)?;
        accessed.store(true, Ordering::Relaxed);
        let counted = extents_core::to_u64(length);
        file.state().read_by_kernel(counted);
        Stats::add(&self.homifs.stats().kernel_bytes, counted);
        data.send(bytes.get(..length).unwrap_or_default());
        Ok(())
    }

    /// Whether the engine has answered; false where the kernel's driver is to read.
    fn read_by_engine(&self, file: &OpenFile, read: &Read, data: &mut Data<'_>) -> Answer<bool> {
        match self.homifs.options().reads {
            Reads::Kernel => return Ok(false),
            // Each append makes a new map, and what it added is in the page cache.
            Reads::Auto if file.state().is_written() => return Ok(false),
            Reads::Auto | Reads::Engine => {}
        }
        let guard = match self.lower.read_media(file, self.homifs.volume().info().size) {
            Ok(Some(guard)) => guard,
            Ok(None) => return Ok(false),
            Err(error) => {
                tracing::debug!(ino = file.ino(), %error, "the file has no map; it is read by the kernel's driver");
                return Ok(false);
            }
        };
        let cached = guard.cached && self.homifs.options().reads == Reads::Auto;
        if cached && file.is_cached(read.offset, read.size.into()) {
            return Ok(false);
        }
        let done = self.homifs.read_mapped(Ino(file.ino()), &guard.map, read.offset, read.size, |bytes| {
            file.state().read_by_engine(extents_core::to_u64(bytes.len()));
            data.send(bytes);
        });
        done.map(|()| true).map_err(|error| errno(&error))
    }
}
