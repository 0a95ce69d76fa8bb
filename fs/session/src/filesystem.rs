//! What is asked of a file system.

use std::ffi::OsStr;

use rustix::io::Errno;

use crate::attributes::{Entry, Timed};
use crate::listing::Listing;
use crate::negotiation::{Agreement, Offer};
use crate::reply::Data;
use crate::requests::{
    Asker, Copy, Ioctl, MakeFile, Opened, Read, SetAttribute, SetAttributes, Usage, Write,
};

/// What was asked for, or the error that the program gets.
pub type Answer<T> = Result<T, Errno>;

/// A file system, asked from many threads at once.
///
/// What it does not say is answered with `ENOSYS`, after which the kernel does not ask for it again: that is the
/// protocol's way to say so, and no error for a single file.
pub trait Filesystem: Send + Sync + 'static {
    /// Says what the session is to be like, once, before anything else is asked.
    fn agree(&self, offer: &Offer) -> Agreement;

    /// What a name leads to; [`Entry::absent`] where nothing has it and the kernel may remember that.
    ///
    /// # Errors
    /// `ENOENT` where nothing has it, and the like.
    fn lookup(&self, asker: &Asker, parent: u64, name: &OsStr) -> Answer<Entry>;

    /// The kernel has forgotten so many lookups of a node.
    fn forget(&self, node: u64, lookups: u64) {
        let _ = (node, lookups);
    }

    /// Attributes of a node, asked for through an open file where there is one.
    ///
    /// # Errors
    /// What the program gets.
    fn attributes(&self, asker: &Asker, node: u64, handle: Option<u64>) -> Answer<Timed>;

    /// Sets attributes, and answers what they are then.
    ///
    /// # Errors
    /// What the program gets.
    fn set_attributes(&self, asker: &Asker, node: u64, change: &SetAttributes) -> Answer<Timed> {
        let _ = (asker, node, change);
        Err(Errno::NOSYS)
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// What the program gets.
    fn read_link(&self, node: u64) -> Answer<Vec<u8>> {
        let _ = node;
        Err(Errno::NOSYS)
    }

    /// Makes a special file, or one of no special type that nobody opens yet.
    ///
    /// # Errors
    /// What the program gets.
    fn make_node(&self, asker: &Asker, file: &MakeFile<'_>, device: u32) -> Answer<Entry> {
        let _ = (asker, file, device);
        Err(Errno::NOSYS)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// What the program gets.
    fn make_directory(&self, asker: &Asker, file: &MakeFile<'_>) -> Answer<Entry> {
        let _ = (asker, file);
        Err(Errno::NOSYS)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// What the program gets.
    fn make_symlink(&self, asker: &Asker, parent: u64, name: &OsStr, target: &OsStr) -> Answer<Entry> {
        let _ = (asker, parent, name, target);
        Err(Errno::NOSYS)
    }

    /// Removes a name that is no directory's.
    ///
    /// # Errors
    /// What the program gets.
    fn unlink(&self, parent: u64, name: &OsStr) -> Answer<()> {
        let _ = (parent, name);
        Err(Errno::NOSYS)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the program gets.
    fn remove_directory(&self, parent: u64, name: &OsStr) -> Answer<()> {
        let _ = (parent, name);
        Err(Errno::NOSYS)
    }

    /// Moves a name; `flags` are those of renameat2(2).
    ///
    /// # Errors
    /// What the program gets.
    fn rename(&self, asker: &Asker, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> Answer<()> {
        let _ = (asker, from, to, flags);
        Err(Errno::NOSYS)
    }

    /// Gives a node a further name.
    ///
    /// # Errors
    /// What the program gets.
    fn link(&self, node: u64, parent: u64, name: &OsStr) -> Answer<Entry> {
        let _ = (node, parent, name);
        Err(Errno::NOSYS)
    }

    /// Opens a file; `flags` are those of open(2).
    ///
    /// # Errors
    /// What the program gets.
    fn open(&self, asker: &Asker, node: u64, flags: i32) -> Answer<Opened>;

    /// Makes a file and opens it.
    ///
    /// # Errors
    /// What the program gets.
    fn create(&self, asker: &Asker, file: &MakeFile<'_>, flags: i32) -> Answer<(Entry, Opened)> {
        let _ = (asker, file, flags);
        Err(Errno::NOSYS)
    }

    /// Makes a file without a name and opens it (`O_TMPFILE`).
    ///
    /// # Errors
    /// What the program gets.
    fn create_unnamed(&self, asker: &Asker, file: &MakeFile<'_>, flags: i32) -> Answer<(Entry, Opened)> {
        let _ = (asker, file, flags);
        Err(Errno::NOSYS)
    }

    /// Reads: what is read is [sent](Data::send) before this returns, fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// What the program gets, where nothing was sent.
    fn read(&self, read: &Read, data: &mut Data<'_>) -> Answer<()>;

    /// Writes, and answers how many bytes.
    ///
    /// # Errors
    /// What the program gets.
    fn write(&self, asker: &Asker, write: &Write<'_>) -> Answer<usize> {
        let _ = (asker, write);
        Err(Errno::NOSYS)
    }

    /// The last close of an open file.
    fn release(&self, node: u64, handle: u64) {
        let _ = (node, handle);
    }

    /// Brings what was written to the media, all of it or what reading the data needs.
    ///
    /// # Errors
    /// What the program gets.
    fn sync(&self, handle: u64, only_data: bool) -> Answer<()> {
        let _ = (handle, only_data);
        Err(Errno::NOSYS)
    }

    /// Opens a directory for listing.
    ///
    /// # Errors
    /// What the program gets; after `ENOSYS` the kernel lists without opening and keeps what it has listed.
    fn open_directory(&self, node: u64) -> Answer<Opened> {
        let _ = node;
        Err(Errno::NOSYS)
    }

    /// Lists a directory from a place on, without attributes.
    ///
    /// # Errors
    /// What the program gets.
    fn list(&self, node: u64, handle: u64, from: u64, listing: &mut Listing) -> Answer<()>;

    /// Lists a directory from a place on, with attributes. Each entry that [fits](Listing::add_entry) and has a node is a
    /// lookup.
    ///
    /// # Errors
    /// What the program gets.
    fn list_entries(&self, node: u64, handle: u64, from: u64, listing: &mut Listing) -> Answer<()>;

    /// The last close of an open directory.
    fn release_directory(&self, node: u64, handle: u64) {
        let _ = (node, handle);
    }

    /// Brings a directory to the media.
    ///
    /// # Errors
    /// What the program gets.
    fn sync_directory(&self, handle: u64, only_data: bool) -> Answer<()> {
        let _ = (handle, only_data);
        Err(Errno::NOSYS)
    }

    /// Brings everything to the media (syncfs(2), which kernels so far tell only virtiofs and `fuseblk` of).
    ///
    /// # Errors
    /// What the program gets.
    fn sync_all(&self) -> Answer<()> {
        Err(Errno::NOSYS)
    }

    /// How full the volume is.
    ///
    /// # Errors
    /// What the program gets.
    fn usage(&self, node: u64) -> Answer<Usage>;

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// What the program gets; never `ENOSYS` for one attribute, which would end attributes for the whole mount.
    fn set_attribute(&self, asker: &Asker, node: u64, attribute: &SetAttribute<'_>) -> Answer<()> {
        let _ = (asker, node, attribute);
        Err(Errno::NOSYS)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// What the program gets; never `ENOSYS` for one attribute.
    fn attribute(&self, asker: &Asker, node: u64, name: &OsStr) -> Answer<Vec<u8>>;

    /// Names of extended attributes, each with a NUL after it.
    ///
    /// # Errors
    /// What the program gets.
    fn attribute_names(&self, asker: &Asker, node: u64) -> Answer<Vec<u8>>;

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// What the program gets.
    fn remove_attribute(&self, node: u64, name: &OsStr) -> Answer<()> {
        let _ = (node, name);
        Err(Errno::NOSYS)
    }

    /// Whether the asker may do this with a node; asked only where the kernel does not decide itself.
    ///
    /// # Errors
    /// `EACCES` where not.
    fn access(&self, asker: &Asker, node: u64, mask: u32) -> Answer<()> {
        let _ = (asker, node, mask);
        Err(Errno::NOSYS)
    }

    /// Allocates, frees or clears a range of an open file; `mode` is that of fallocate(2).
    ///
    /// # Errors
    /// What the program gets.
    fn allocate(&self, asker: &Asker, handle: u64, mode: i32, offset: u64, length: u64) -> Answer<()> {
        let _ = (asker, handle, mode, offset, length);
        Err(Errno::NOSYS)
    }

    /// The next data (`SEEK_DATA`) or hole (`SEEK_HOLE`) of an open file.
    ///
    /// # Errors
    /// What the program gets.
    fn seek(&self, handle: u64, offset: u64, whence: u32) -> Answer<u64> {
        let _ = (handle, offset, whence);
        Err(Errno::NOSYS)
    }

    /// Copies between open files, and answers how many bytes.
    ///
    /// # Errors
    /// What the program gets.
    fn copy(&self, asker: &Asker, copy: &Copy) -> Answer<u64> {
        let _ = (asker, copy);
        Err(Errno::NOSYS)
    }

    /// Carries out an ioctl: its result, and at most [as many bytes](Ioctl::out_size) as go back.
    ///
    /// # Errors
    /// What the program gets.
    fn ioctl(&self, asker: &Asker, ioctl: &Ioctl<'_>) -> Answer<(i32, Vec<u8>)> {
        let _ = (asker, ioctl);
        Err(Errno::NOSYS)
    }
}
