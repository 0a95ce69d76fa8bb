//! Opening files, and reading those that the engine may serve.
//!
//! Whoever may write gets the file below itself (passthrough): reads, writes and mappings are the kernel's, at its speed.
//! Whoever only reads gets it too where the page cache has the file already or is worth filling with it, where it reads
//! past the page cache, or the mount says so. Other readers' reads come here, and their mappings go to the file below
//! (`FOPEN_DIRECT_IO | FOPEN_PASSTHROUGH`); the engine serves them while the file is clean, the lower mount otherwise.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use extents_core::Ino;
use fuser::{BackingId, FopenFlags, Generation, ReplyCreate, ReplyData, ReplyOpen};
use homifs_core::Stats;
use homifs_lower::{Assumed, Found, Identity, OpenFile};
use homifs_options::Reads;

use super::Writable;
use super::handles::Opened;
use super::translate::errno;

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

    fn add(&self, file: OpenFile, engine: bool) -> fuser::FileHandle {
        self.handles.add(Opened::File { file, engine, accessed: AtomicBool::new(false) })
    }

    /// The backing file of an open, and how the kernel shall treat it.
    fn backing(
        &self,
        file: &OpenFile,
        who: &Identity,
        register: impl FnOnce(&OwnedFd) -> io::Result<BackingId>,
    ) -> io::Result<Option<Arc<BackingId>>> {
        self.backings.take(file.ino(), || {
            let backing = self.lower.backing(file)?;
            // What is written past us is written as whoever opened the file first: quotas and reserved blocks are theirs.
            let _acting = Assumed::for_writers(who);
            register(backing.as_ref().unwrap_or(file.file()))
        })
    }

    pub(super) fn reply_open(&self, file: OpenFile, flags: i32, who: &Identity, reply: ReplyOpen) {
        let engine = self.reads_by_engine(&file, flags);
        match self.backing(&file, who, |backing| reply.open_backing(backing)) {
            Ok(Some(id)) => {
                reply.opened_passthrough(self.add(file, engine), answer(engine), &id);
            }
            Ok(None) => reply.opened(self.add(file, true), FopenFlags::FOPEN_NOFLUSH),
            Err(error) => {
                self.lower.close(&file);
                reply.error(error.into());
            }
        }
    }

    pub(super) fn reply_create(
        &self,
        found: &Found,
        file: OpenFile,
        flags: i32,
        who: &Identity,
        reply: ReplyCreate,
    ) {
        let (attr, generation) = (self.attributes(found), Generation(found.generation));
        let engine = self.reads_by_engine(&file, flags);
        // fuser has one time for the name and the attributes. Nothing that is being written is to be remembered, but that a
        // file is empty the kernel may: nothing can be written to an empty file by a mapping, and of all else that makes it
        // longer, or lets its attributes be asked for again, the kernel's FUSE knows. Not that a write through the daemon
        // takes set-user-ID and set-group-ID away.
        let stat = &found.stat;
        let stays = stat.stx_size == 0 && u32::from(stat.stx_mode) & (libc::S_ISUID | libc::S_ISGID) == 0;
        let ttl = if stays { self.homifs.ttl() } else { self.ttl(found.ino) };
        match self.backing(&file, who, |backing| reply.open_backing(backing)) {
            Ok(Some(id)) => {
                reply.created_passthrough(
                    &ttl,
                    &attr,
                    generation,
                    self.add(file, engine),
                    answer(engine),
                    &id,
                );
            }
            Ok(None) => {
                reply.created(&ttl, &attr, generation, self.add(file, true), FopenFlags::FOPEN_NOFLUSH);
            }
            Err(error) => {
                self.lower.close(&file);
                self.lower.forget(found.ino, 1);
                reply.error(error.into());
            }
        }
    }

    pub(super) fn close(&self, open: Arc<Opened>) {
        if let Opened::File { file, .. } = &*open {
            let (ino, access) = (file.ino(), file.access());
            self.backings.release(ino);
            // First, so that nobody finds it written any more once it counts as closed.
            drop(open);
            self.lower.closed(ino, access);
        }
    }

    pub(super) fn read_file(&self, open: &Opened, offset: u64, size: u32, reply: ReplyData) {
        let Opened::File { file, engine, accessed } = open else { return reply.error(fuser::Errno::EISDIR) };
        let mut reply = Some(reply);
        if *engine && self.read_by_engine(file, offset, size, &mut reply) {
            if !accessed.swap(true, Ordering::Relaxed) {
                // The kernel's driver decides whether that changes the access time.
                let _ = file.read(0, &mut [0]);
            }
            return;
        }
        let Some(reply) = reply else { return };
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        match file.read(offset, &mut bytes) {
            Ok(length) => {
                accessed.store(true, Ordering::Relaxed);
                let read = extents_core::to_u64(length);
                file.state().read_by_kernel(read);
                Stats::add(&self.homifs.stats().kernel_bytes, read);
                reply.data(bytes.get(..length).unwrap_or_default());
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    /// Whether the engine has answered.
    fn read_by_engine(&self, file: &OpenFile, offset: u64, size: u32, reply: &mut Option<ReplyData>) -> bool {
        match self.homifs.options().reads {
            Reads::Kernel => return false,
            // Each append makes a new map, and what it added is in the page cache.
            Reads::Auto if file.state().is_written() => return false,
            Reads::Auto | Reads::Engine => {}
        }
        let guard = match self.lower.read_media(file, self.homifs.volume().info().size) {
            Ok(Some(guard)) => guard,
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(ino = file.ino(), %error, "the file has no map; it is read by the kernel's driver");
                return false;
            }
        };
        let cached = guard.cached && self.homifs.options().reads == Reads::Auto;
        if cached && file.is_cached(offset, size.into()) {
            return false;
        }
        let result = self.homifs.read_mapped(Ino(file.ino()), &guard.map, offset, size, |bytes| {
            file.state().read_by_engine(extents_core::to_u64(bytes.len()));
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        if let (Err(error), Some(reply)) = (result, reply.take()) {
            reply.error(fuser::Errno::from_i32(error.errno()));
        }
        true
    }
}

fn answer(engine: bool) -> FopenFlags {
    if engine { FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH } else { FopenFlags::FOPEN_NOFLUSH }
}
