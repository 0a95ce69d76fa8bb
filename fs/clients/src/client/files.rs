//! What a client opens and closes, and what is taken back from it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine_controller::{Backing, NamespaceOptions};
use engine_dma::to_usize;
use homi_abi::session::{
    FILE_WRITABLE, FileReply, HANDLE_WRITE, Handle, IdentifyReply, LEASE_FREE, LEASE_HELD, LEASE_REVOKED,
    SnapshotReply, Status,
};
use zerocopy::IntoBytes;

use super::{Client, Held};
use crate::file::OpenedFile;
use crate::refusal::Refusal;
use crate::served::{Served, ServedBacking, TakenBack};
use crate::snapshot::{self, OpenedSnapshot};
use crate::written::{WrittenBacking, WrittenFile};

impl Client {
    /// Makes the file of a handle a namespace, which can be written where the handle is for that. May wait until others
    /// let go of the file.
    pub(crate) fn open(&self, handle: &Handle) -> Result<FileReply, Refusal> {
        if handle.rights.get() & HANDLE_WRITE != 0 {
            return self.open_to_write(handle);
        }
        let file = self.homifs.redeem(handle, &self.caller).map_err(|error| Refusal::of(&error))?;
        let mut held = self.held.lock();
        let nsid = self.free_number(&held)?;
        let (size, generation, inode) = (file.map.size(), file.generation, file.ino.0);
        let lease = file.lease.as_ref().map(Arc::downgrade);
        let served = Arc::new(OpenedFile::new(Arc::clone(&self.homifs), file, nsid));
        let block = served.common().block;
        let backing = self.backing(Arc::clone(&served) as Arc<dyn Served>);
        self.add(&mut held, served, backing)?;
        drop(held);
        // Recalled before we could be found to hold it.
        if lease.and_then(|lease| lease.upgrade()).is_some_and(|lease| lease.is_recalled()) {
            self.revoke(inode);
        }
        Ok(reply(nsid, block, size, generation, inode))
    }

    fn open_to_write(&self, handle: &Handle) -> Result<FileReply, Refusal> {
        let file = self.homifs.redeem_for_writing(handle, &self.caller);
        let file = file.map_err(|error| Refusal::of(&error))?;
        let started = self.scribes.start();
        started.map_err(|error| Refusal::new(libc::EAGAIN, format!("no thread to write with: {error}")))?;
        let mut held = self.held.lock();
        let nsid = self.free_number(&held)?;
        let (generation, inode) = (file.generation, file.ino.0);
        let written =
            Arc::new(WrittenFile::new(Arc::clone(&self.homifs), file, nsid, Arc::clone(&self.scribes)));
        let (size, block) = (written.length(), written.common().block);
        let backing = Arc::new(WrittenBacking(Arc::clone(&written)));
        self.add(&mut held, written, backing)?;
        Ok(FileReply { flags: FILE_WRITABLE.into(), ..reply(nsid, block, size, generation, inode) })
    }

    /// Makes all files below the directory of a handle one namespace; the answer, and the arena that says where each
    /// lies. `stop` is asked now and then whether nobody wants it any more.
    pub(crate) fn snapshot(
        &self,
        handle: &Handle,
        stop: impl Fn() -> bool,
    ) -> Result<(SnapshotReply, OwnedFd), Refusal> {
        let directory =
            self.homifs.redeem_directory(handle, &self.caller).map_err(|error| Refusal::of(&error))?;
        // Requests of one client come one after another, so what is left now is left when the arena is there.
        let left = {
            let held = self.held.lock();
            self.free_number(&held)?;
            self.limits.snapshots.saturating_sub(held.snapshots.values().sum())
        };
        let taken = snapshot::take(&self.homifs, directory, &self.caller, left, stop)?;
        let mut held = self.held.lock();
        let nsid = self.free_number(&held)?;
        let served = Arc::new(OpenedSnapshot::new(Arc::clone(&self.homifs), taken.table, directory, nsid));
        let reply = SnapshotReply {
            nsid: nsid.into(),
            block_size: served.common().block.into(),
            blocks: (served.size() / u64::from(served.common().block)).into(),
            length: taken.arena.length.into(),
            files: taken.files.into(),
            left_out: taken.left_out.into(),
            lease_slot: (nsid - 1).into(),
            ..SnapshotReply::default()
        };
        let backing = self.backing(Arc::clone(&served) as Arc<dyn Served>);
        self.add(&mut held, served, backing)?;
        held.snapshots.insert(nsid, taken.arena.length);
        Ok((reply, taken.arena.file))
    }

    fn backing(&self, served: Arc<dyn Served>) -> Arc<ServedBacking> {
        Arc::new(ServedBacking { served, scribes: Arc::clone(&self.scribes) })
    }

    fn free_number(&self, held: &Held) -> Result<u32, Refusal> {
        if held.files.len() >= to_usize(self.limits.files.into()) {
            let text = format!("this client has {} files open, as many as it may", held.files.len());
            return Err(Refusal::new(libc::EMFILE, text));
        }
        let free = (1..=self.limits.files).find(|number| !held.files.contains_key(number));
        free.ok_or_else(|| Refusal::new(libc::EMFILE, "no number is free for a file".into()))
    }

    fn add(
        &self,
        held: &mut Held,
        served: Arc<dyn Served>,
        backing: Arc<dyn Backing>,
    ) -> Result<(), Refusal> {
        let (nsid, block_size) = (served.common().number, served.common().block);
        // What has no bytes has no namespace.
        if served.size() > 0 {
            let options = NamespaceOptions { nsid: Some(nsid), block_size, ..NamespaceOptions::new(backing) };
            let added = self.subsystem.add_namespace(options);
            added.map_err(|error| Refusal::new(libc::EINVAL, error.to_string()))?;
        }
        self.account.add_file(nsid, Arc::clone(&served.common().tally));
        held.files.insert(nsid, served);
        self.set_lease(nsid, LEASE_HELD);
        self.counters.files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What NVMe tells of a namespace.
    pub(crate) fn identify(&self, nsid: u32) -> Result<IdentifyReply, Refusal> {
        let nothing = || Refusal::new(libc::ENOENT, format!("no file has number {nsid}"));
        // Of a number that could be one NVMe tells zeros.
        if !self.held.lock().files.contains_key(&nsid) {
            return Err(nothing());
        }
        let page = self.queues.identify(nsid).map_err(|_| nothing())?;
        let mut data = [0; 384];
        for (target, byte) in data.iter_mut().zip(page.as_bytes()) {
            *target = *byte;
        }
        Ok(IdentifyReply { data })
    }

    /// Gives a namespace back; once this returns, none of its commands is in flight.
    pub(crate) fn close(&self, nsid: u32) -> Result<(), Refusal> {
        let file = {
            let mut held = self.held.lock();
            held.snapshots.remove(&nsid);
            held.files.remove(&nsid)
        };
        let file = file.ok_or_else(|| Refusal::new(libc::ENOENT, format!("no file has number {nsid}")))?;
        file.common().revoke();
        let _ = self.subsystem.remove_namespace(nsid);
        let settled = self.queues.settle(nsid);
        self.set_lease(nsid, LEASE_FREE);
        self.forget(nsid);
        if settled {
            return Ok(());
        }
        let text = format!("file {nsid} is closed, but commands on it do not end");
        Err(Refusal::new(libc::ETIMEDOUT, text))
    }

    pub(super) fn forget(&self, nsid: u32) {
        self.counters.files.fetch_sub(1, Ordering::Relaxed);
        self.account.close_file(nsid);
    }

    /// The state of a lease, and one more change of it.
    pub(super) fn set_lease(&self, nsid: u32, state: u64) {
        let place = size_of::<Status>() + to_usize(u64::from(nsid) - 1) * 8;
        if let Some([word]) = self.status.u64s_at(place, 1) {
            let changes = (word.load(Ordering::Relaxed) >> 8).wrapping_add(1);
            word.store(changes << 8 | state, Ordering::Release);
        }
    }

    /// Takes back every file with this inode: further commands answer Namespace Not Ready. How many handles that were. A
    /// snapshot that has the file among others is still held, and its lease word counts a change.
    pub(crate) fn revoke(&self, inode: u64) -> usize {
        let held = self.held.lock();
        let mut count = 0;
        for file in held.files.values() {
            let lease = match file.take_back(inode) {
                TakenBack::Nothing => continue,
                TakenBack::Part => LEASE_HELD,
                TakenBack::Whole => LEASE_REVOKED,
            };
            self.set_lease(file.common().number, lease);
            count += 1;
        }
        count
    }

    /// Counts a change of the lease of every file with this inode, which has grown: it stays held, and shows what it
    /// showed.
    pub(crate) fn grown(&self, inode: u64) {
        let held = self.held.lock();
        for file in held.files.values().filter(|file| file.shows(inode)) {
            let number = file.common().number;
            if self.lease_of(number) == LEASE_HELD {
                self.set_lease(number, LEASE_HELD);
            }
        }
    }

    fn lease_of(&self, nsid: u32) -> u64 {
        let place = size_of::<Status>() + to_usize(u64::from(nsid) - 1) * 8;
        self.status
            .u64s_at(place, 1)
            .and_then(|words| words.first())
            .map_or(0, |word| word.load(Ordering::Relaxed) & 0xff)
    }
}

/// What a client is told of a file that it has open for reading.
fn reply(nsid: u32, block: u32, size: u64, generation: u64, inode: u64) -> FileReply {
    FileReply {
        nsid: nsid.into(),
        block_size: block.into(),
        blocks: size.div_ceil(block.into()).into(),
        size: size.into(),
        generation: generation.into(),
        inode: inode.into(),
        lease_slot: (nsid - 1).into(),
        ..FileReply::default()
    }
}
