//! The kernel's requests to a writable mount: what changes the volume goes to the lower mount, what reads contents goes to
//! the engine while the file is clean.

mod backing;
mod device_writes;
mod handles;
mod leases;
mod opening;
mod translate;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use homifs_core::{Homifs, Special};
use homifs_lower::{Create, FileIoctl, Found, Lower};
use homifs_session::{
    Agreement, Answer, Asker, Attributes, Capabilities, Connection, Copy, Data, Entry, Filesystem, Ioctl,
    Listing, MakeFile, Offer, OpenAnswer, Opened, Read, SetAttribute, SetAttributes, Timed, Usage, Write,
};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::filesystem::Translation;
use crate::negotiation::agreement;

pub(crate) use leases::LowerLeases;
pub use leases::lower_attributes;

use backing::Backings;
use handles::{Handles, Held};
use translate::{attributes, identity};

/// The longest write, which is the longest that the kernel sends.
const MAX_WRITE: u32 = 1 << 20;

/// The translation for a writable mount.
#[derive(Debug)]
pub(crate) struct Writable {
    homifs: Arc<Homifs>,
    lower: Arc<Lower>,
    /// Answers for our own files, which are no files of the volume.
    own: Translation,
    handles: Handles,
    backings: Backings,
    /// The way to tell the kernel what it cannot know.
    kernel: Arc<Connection>,
}

/// What a request is about.
enum Target {
    /// A file of the volume, by its inode number.
    File(u64),
    /// One of ours.
    Own,
}

impl Writable {
    pub(crate) fn new(homifs: Arc<Homifs>, lower: Arc<Lower>, kernel: Arc<Connection>) -> Self {
        let own = Translation::new(Arc::clone(&homifs));
        let (handles, backings) = (Handles::default(), Backings::default());
        Self { homifs, lower, own, handles, backings, kernel }
    }

    /// Lets the kernel ask for attributes again: they change without its knowing, by a mapping of the file below or by
    /// flags.
    fn attributes_change(&self, node: u64) {
        // Not known to the kernel: nothing to forget.
        let _ = self.kernel.forget_contents(node, -1, 0);
    }

    fn target(&self, node: u64) -> Target {
        match node {
            1 => Target::File(self.lower.root()),
            number if number & Special::BIT != 0 => Target::Own,
            number => Target::File(number),
        }
    }

    /// The inode number of a request that changes something; our own files do not change.
    fn file(&self, node: u64) -> Answer<u64> {
        match self.target(node) {
            Target::File(ino) => Ok(ino),
            Target::Own => Err(Errno::PERM),
        }
    }

    /// How long the kernel may keep attributes: not while somebody writes past us.
    fn ttl(&self, ino: u64) -> Duration {
        if self.lower.contents().is_written(ino) { Duration::ZERO } else { self.homifs.ttl() }
    }

    fn entry(&self, found: &Found) -> Entry {
        let node = if found.ino == self.lower.root() { 1 } else { found.ino };
        Entry {
            node,
            generation: found.generation,
            attributes: attributes(node, &found.stat),
            name_ttl: self.homifs.ttl(),
            attributes_ttl: self.ttl(found.ino),
        }
    }

    /// Whether appends are to come to the daemon, at its speed, instead of going past it: so that they need not take a
    /// file from clients that read it.
    fn sees_appends(&self) -> bool {
        self.homifs.options().clients > 0
    }

    fn new_file(asker: &Asker, file: &MakeFile<'_>) -> Create {
        Create { who: identity(asker), mode: file.mode, umask: file.umask }
    }
}

impl Filesystem for Writable {
    fn agree(&self, offer: &Offer) -> Agreement {
        let wanted = Capabilities::IOCTL_DIRECTORY
            | Capabilities::DONT_MASK
            // Else the kernel asks for `security.capability` before each write.
            | Capabilities::HANDLE_KILLPRIV_V2
            | Capabilities::SETXATTR_EXT
            | Capabilities::DIRECT_IO_ALLOW_MMAP
            | Capabilities::PASSTHROUGH;
        let passes = offer.capabilities.contains(Capabilities::PASSTHROUGH);
        self.backings.allow(passes);
        if !passes {
            tracing::info!(
                "this kernel's FUSE has no passthrough; everything that is written goes through the daemon"
            );
        }
        agreement(wanted, self.homifs.options(), MAX_WRITE)
    }

    fn lookup(&self, asker: &Asker, parent: u64, name: &OsStr) -> Answer<Entry> {
        let Target::File(directory) = self.target(parent) else {
            return self.own.lookup(asker, parent, name);
        };
        match self.lower.lookup(directory, name) {
            // A real entry of this name wins. A volume that its driver has shut down finds none.
            Err(_) if directory == self.lower.root() && name.as_bytes() == Special::DIRECTORY_NAME => {
                self.own.special(Special::Directory)
            }
            Err(Errno::NOENT) => Ok(Entry::absent(self.homifs.ttl())),
            found => Ok(self.entry(&found?)),
        }
    }

    fn forget(&self, node: u64, lookups: u64) {
        if let Target::File(ino) = self.target(node) {
            self.lower.forget(ino, lookups);
        }
    }

    fn attributes(&self, asker: &Asker, node: u64, handle: Option<u64>) -> Answer<Timed> {
        let Target::File(ino) = self.target(node) else { return self.own.attributes(asker, node, handle) };
        let stat = self.lower.stat(ino)?;
        Ok(Timed { attributes: attributes(ino, &stat), ttl: self.ttl(ino) })
    }

    fn set_attributes(&self, asker: &Asker, node: u64, change: &SetAttributes) -> Answer<Timed> {
        let ino = self.file(node)?;
        let open = change.handle.and_then(|handle| self.handles.get(handle));
        let file = open.as_deref().and_then(Held::file);
        let stat = self.lower.change(ino, &translate::change(change), file, &identity(asker))?;
        Ok(Timed { attributes: attributes(ino, &stat), ttl: self.ttl(ino) })
    }

    fn read_link(&self, node: u64) -> Answer<Vec<u8>> {
        match self.target(node) {
            Target::File(ino) => self.lower.read_link(ino),
            Target::Own => self.own.read_link(node),
        }
    }

    fn make_node(&self, asker: &Asker, file: &MakeFile<'_>, device: u32) -> Answer<Entry> {
        let (parent, create) = (self.file(file.parent)?, Self::new_file(asker, file));
        Ok(self.entry(&self.lower.make_node(parent, file.name, &create, translate::device(device))?))
    }

    fn make_directory(&self, asker: &Asker, file: &MakeFile<'_>) -> Answer<Entry> {
        let (parent, create) = (self.file(file.parent)?, Self::new_file(asker, file));
        Ok(self.entry(&self.lower.make_directory(parent, file.name, &create)?))
    }

    fn make_symlink(&self, asker: &Asker, parent: u64, name: &OsStr, target: &OsStr) -> Answer<Entry> {
        let parent = self.file(parent)?;
        Ok(self.entry(&self.lower.make_symlink(parent, name, target, &identity(asker))?))
    }

    fn unlink(&self, parent: u64, name: &OsStr) -> Answer<()> {
        self.lower.unlink(self.file(parent)?, name)
    }

    fn remove_directory(&self, parent: u64, name: &OsStr) -> Answer<()> {
        self.lower.remove_directory(self.file(parent)?, name)
    }

    fn rename(&self, asker: &Asker, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> Answer<()> {
        let (from, to) = ((self.file(from.0)?, from.1), (self.file(to.0)?, to.1));
        self.lower.rename(from, to, flags, &identity(asker))
    }

    fn link(&self, node: u64, parent: u64, name: &OsStr) -> Answer<Entry> {
        Ok(self.entry(&self.lower.link(self.file(node)?, self.file(parent)?, name)?))
    }

    fn open(&self, asker: &Asker, node: u64, flags: i32) -> Answer<Opened> {
        let Target::File(ino) = self.target(node) else { return self.own.open(asker, node, flags) };
        let file = self.lower.open(ino, flags, self.sees_appends())?;
        if file.is_writable() {
            self.attributes_change(node);
        }
        self.opened(file, flags, &identity(asker))
    }

    fn create(&self, asker: &Asker, file: &MakeFile<'_>, flags: i32) -> Answer<(Entry, Opened)> {
        let (parent, create) = (self.file(file.parent)?, Self::new_file(asker, file));
        let made = self.lower.create(parent, file.name, &create, flags, self.sees_appends())?;
        self.created(made, flags, &create.who)
    }

    fn create_unnamed(&self, asker: &Asker, file: &MakeFile<'_>, flags: i32) -> Answer<(Entry, Opened)> {
        let (parent, create) = (self.file(file.parent)?, Self::new_file(asker, file));
        self.created(self.lower.create_unnamed(parent, &create, flags)?, flags, &create.who)
    }

    fn read(&self, read: &Read, data: &mut Data<'_>) -> Answer<()> {
        match self.handles.get(read.handle) {
            Some(open) => self.read_file(&open, read, data),
            None => self.own.read(read, data),
        }
    }

    fn write(&self, asker: &Asker, write: &Write<'_>) -> Answer<usize> {
        let Some(open) = self.handles.get(write.handle) else { return self.own.write(asker, write) };
        let file = open.file().ok_or(Errno::ISDIR)?;
        let who = identity(asker);
        match file.is_appended() {
            false => file.write(write.offset, write.data, &who),
            true if write.flags & libc::O_APPEND != 0 => self.lower.append(file, write.data, &who),
            true => self.lower.write_to_appended(file, write.offset, write.data, &who),
        }
    }

    fn release(&self, node: u64, handle: u64) {
        match self.handles.remove(handle) {
            Some(open) => self.close(open),
            None => self.own.release(node, handle),
        }
    }

    fn sync(&self, handle: u64, only_data: bool) -> Answer<()> {
        match self.handles.get(handle).as_deref().and_then(Held::file) {
            Some(file) => file.sync(only_data),
            None => Ok(()),
        }
    }

    fn open_directory(&self, node: u64) -> Answer<Opened> {
        let Target::File(ino) = self.target(node) else {
            return Ok(Opened { handle: u64::MAX, ..Opened::default() });
        };
        let handle = self.handles.add(Held::Directory(self.lower.open_directory(ino)?));
        // What is listed stays cached: whatever changes a directory passes through the kernel's FUSE.
        let answer = OpenAnswer::KEEP_CACHE | OpenAnswer::CACHE_DIRECTORY;
        Ok(Opened { handle, answer, backing: None })
    }

    fn list(&self, node: u64, handle: u64, from: u64, listing: &mut Listing) -> Answer<()> {
        let Some(open) = self.handles.get(handle) else { return self.own.list(node, handle, from, listing) };
        open.directory().ok_or(Errno::NOTDIR)?.list(from, |entry| {
            listing.add(entry.ino, entry.next, translate::mode_of(entry.kind), OsStr::from_bytes(entry.name))
        })
    }

    fn list_entries(&self, node: u64, handle: u64, from: u64, listing: &mut Listing) -> Answer<()> {
        let Some(open) = self.handles.get(handle) else {
            return self.own.list_entries(node, handle, from, listing);
        };
        let (Some(directory), Target::File(ino)) = (open.directory(), self.target(node)) else {
            return Err(Errno::NOTDIR);
        };
        directory.list(from, |entry| {
            let name = OsStr::from_bytes(entry.name);
            // The dots make no node.
            let found =
                if matches!(entry.name, b"." | b"..") { None } else { self.lower.lookup(ino, name).ok() };
            let Some(found) = found else {
                // Node 0: the kernel learns of none.
                let attributes = Attributes {
                    ino: entry.ino,
                    mode: translate::mode_of(entry.kind),
                    ..Attributes::default()
                };
                let entry_out = Entry { attributes, ..Entry::absent(Duration::ZERO) };
                return listing.add_entry(&entry_out, entry.next, name);
            };
            let fits = listing.add_entry(&self.entry(&found), entry.next, name);
            if !fits {
                self.lower.forget(found.ino, 1);
            }
            fits
        })
    }

    fn release_directory(&self, _node: u64, handle: u64) {
        self.handles.remove(handle);
    }

    fn sync_directory(&self, handle: u64, only_data: bool) -> Answer<()> {
        match self.handles.get(handle).as_deref().and_then(Held::directory) {
            Some(directory) => directory.sync(only_data),
            None => Ok(()),
        }
    }

    fn sync_all(&self) -> Answer<()> {
        self.lower.sync()
    }

    fn usage(&self, node: u64) -> Answer<Usage> {
        let Target::File(ino) = self.target(node) else { return self.own.usage(node) };
        Ok(translate::usage(&self.lower.usage(ino)?))
    }

    fn set_attribute(&self, asker: &Asker, node: u64, attribute: &SetAttribute<'_>) -> Answer<()> {
        let ino = self.file(node)?;
        let SetAttribute { name, value, flags, clears_sgid } = *attribute;
        if name.as_bytes().starts_with(b"homi.") {
            return Err(Errno::PERM);
        }
        self.lower.set_attribute(ino, name, value, flags, clears_sgid, &identity(asker))
    }

    fn attribute(&self, asker: &Asker, node: u64, name: &OsStr) -> Answer<Vec<u8>> {
        match self.target(node) {
            Target::File(ino) if !name.as_bytes().starts_with(b"homi.") => {
                self.lower.attribute(ino, name).map_err(translate::not_nosys)
            }
            _ => self.own.attribute(asker, node, name),
        }
    }

    fn attribute_names(&self, asker: &Asker, node: u64) -> Answer<Vec<u8>> {
        self.own.attribute_names(asker, node)
    }

    fn remove_attribute(&self, node: u64, name: &OsStr) -> Answer<()> {
        self.lower.remove_attribute(self.file(node)?, name)
    }

    fn access(&self, asker: &Asker, node: u64, mask: u32) -> Answer<()> {
        self.own.access(asker, node, mask)
    }

    fn allocate(&self, asker: &Asker, handle: u64, mode: i32, offset: u64, length: u64) -> Answer<()> {
        let open = self.handles.get(handle).ok_or(Errno::BADF)?;
        let file = open.file().ok_or(Errno::BADF)?;
        self.lower.allocate(file, mode, offset, length, &identity(asker))
    }

    fn seek(&self, handle: u64, offset: u64, whence: u32) -> Answer<u64> {
        let Some(open) = self.handles.get(handle) else { return self.own.seek(handle, offset, whence) };
        let file = open.file().ok_or(Errno::NXIO)?;
        if i64::try_from(offset).is_err() {
            return Err(Errno::NXIO);
        }
        match whence.cast_signed() {
            libc::SEEK_DATA => file.seek(SeekFrom::Data(offset)),
            libc::SEEK_HOLE => file.seek(SeekFrom::Hole(offset)),
            _ => Err(Errno::INVAL),
        }
    }

    fn copy(&self, asker: &Asker, copy: &Copy) -> Answer<u64> {
        let (from, to) = (self.handles.get(copy.from), self.handles.get(copy.to));
        let files = from.as_deref().and_then(Held::file).zip(to.as_deref().and_then(Held::file));
        let (from, to) = files.ok_or(Errno::BADF)?;
        let length = copy.length.min(1 << 30);
        let to = (to, copy.to_offset);
        let copied = self.lower.copy((from, copy.from_offset), to, length, &identity(asker))?;
        Ok(extents_core::to_u64(copied))
    }

    fn ioctl(&self, asker: &Asker, ioctl: &Ioctl<'_>) -> Answer<(i32, Vec<u8>)> {
        let Some(open) = self.handles.get(ioctl.handle) else { return self.own.ioctl(asker, ioctl) };
        let done = translate::ioctl(&open, asker, ioctl)?;
        if [FileIoctl::SET_FLAGS, FileIoctl::SET_EXTENDED].contains(&FileIoctl(ioctl.command)) {
            self.attributes_change(ioctl.node);
        }
        Ok(done)
    }
}
