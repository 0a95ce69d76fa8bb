//! The kernel's requests, each translated for `homifs-core` and back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use extents_core::Flow;
use homifs_core::{Caching, Caller, FsError, Homifs, Listed, NodeAttributes, NodeId, Seek, Special};
use homifs_session::{
    Agreement, Answer, Asker, Attributes, Capabilities, Data, Entry, Filesystem, Ioctl, Listing, Offer,
    OpenAnswer, Opened, Read, Timed, Usage, Write,
};
use rustix::io::Errno;

use crate::attributes::{attributes, errno, mode_of};
use crate::ioctl;
use crate::negotiation::agreement;

/// The translation; it holds nothing of its own.
#[derive(Debug)]
pub(crate) struct Translation {
    homifs: Arc<Homifs>,
}

fn caller(asker: &Asker) -> Caller {
    Caller { uid: asker.uid, gid: asker.gid, pid: asker.pid, groups: None }
}

impl Translation {
    pub(crate) fn new(homifs: Arc<Homifs>) -> Self {
        Self { homifs }
    }

    fn entry(&self, found: &NodeAttributes) -> Entry {
        let ttl = self.homifs.ttl();
        Entry {
            node: found.node.0,
            generation: found.metadata.generation.into(),
            attributes: attributes(&self.homifs, found.node.0, found),
            name_ttl: ttl,
            attributes_ttl: ttl,
        }
    }

    /// One of our own files.
    pub(crate) fn special(&self, special: Special) -> Answer<Entry> {
        let found = self.homifs.attributes(special.node()).map_err(|error| errno(&error))?;
        Ok(Entry { generation: 0, ..self.entry(&found) })
    }

    /// The type of a listed entry, as in a mode: stored beside the name, or else from its inode.
    fn listed_mode(&self, entry: &Listed<'_>) -> u32 {
        let from_inode = || self.homifs.attributes_of_listed(entry).map(|found| found.metadata.file_type);
        entry.file_type.or_else(from_inode).map_or(libc::S_IFREG, mode_of)
    }

    fn listed(&self, entry: &Listed<'_>) -> Entry {
        match self.homifs.attributes_of_listed(entry) {
            // The dots make no node, so the number in them is the one that programs see.
            Some(found) if matches!(entry.name, b"." | b"..") => Entry {
                attributes: attributes(&self.homifs, entry.ino.0, &found),
                ..Entry::absent(Duration::ZERO)
            },
            Some(found) => self.entry(&found),
            // Listed all the same; whoever asks for its attributes next is told what is wrong with it.
            None => Entry {
                attributes: Attributes {
                    ino: entry.ino.0,
                    mode: entry.file_type.map_or(libc::S_IFREG, mode_of),
                    ..Attributes::default()
                },
                ..Entry::absent(Duration::ZERO)
            },
        }
    }
}

impl Filesystem for Translation {
    fn agree(&self, _offer: &Offer) -> Agreement {
        let options = self.homifs.options();
        // Requests for reading are as large as the longest write and `max_read` allow; nothing is written but control
        // requests.
        agreement(Capabilities::CACHE_SYMLINKS | Capabilities::NO_OPENDIR_SUPPORT, options, options.max_read)
    }

    fn lookup(&self, _asker: &Asker, parent: u64, name: &OsStr) -> Answer<Entry> {
        match self.homifs.lookup(NodeId(parent), name.as_bytes()) {
            Ok(Some(found)) => Ok(self.entry(&found)),
            Ok(None) => Ok(Entry::absent(self.homifs.ttl())),
            Err(error) => Err(errno(&error)),
        }
    }

    fn attributes(&self, _asker: &Asker, node: u64, _handle: Option<u64>) -> Answer<Timed> {
        let found = self.homifs.attributes(NodeId(node)).map_err(|error| errno(&error))?;
        let attributes = attributes(&self.homifs, found.metadata.ino.0, &found);
        Ok(Timed { attributes, ttl: self.homifs.ttl() })
    }

    fn read_link(&self, node: u64) -> Answer<Vec<u8>> {
        self.homifs.read_link(NodeId(node)).map_err(|error| errno(&error))
    }

    fn open(&self, _asker: &Asker, node: u64, flags: i32) -> Answer<Opened> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let opened = self.homifs.open(NodeId(node), writes).map_err(|error| errno(&error))?;
        let answer = match opened.caching {
            Caching::Keep => OpenAnswer::KEEP_CACHE,
            Caching::Uncached => OpenAnswer::DIRECT_IO,
            Caching::Stream => OpenAnswer::DIRECT_IO | OpenAnswer::STREAM,
        };
        Ok(Opened { handle: opened.handle, answer: answer | OpenAnswer::NO_FLUSH, backing: None })
    }

    fn read(&self, read: &Read, data: &mut Data<'_>) -> Answer<()> {
        let done = self.homifs.read(read.handle, read.offset, read.size, |bytes| data.send(bytes));
        done.map_err(|error| errno(&error))
    }

    fn write(&self, asker: &Asker, write: &Write<'_>) -> Answer<usize> {
        let done = self.homifs.write(write.handle, write.data, &caller(asker));
        done.map(|()| write.data.len()).map_err(|error| errno(&error))
    }

    fn release(&self, _node: u64, handle: u64) {
        self.homifs.release(handle);
    }

    // Listings need no handle: by leaving `open_directory` to its default the kernel learns to stop asking, and keeps what
    // it has listed.

    fn list(&self, node: u64, _handle: u64, from: u64, listing: &mut Listing) -> Answer<()> {
        let done = self.homifs.read_dir(NodeId(node), from, &mut |entry| {
            let mode = self.listed_mode(&entry);
            match listing.add(entry.ino.0, entry.next, mode, OsStr::from_bytes(entry.name)) {
                true => Flow::Continue(()),
                false => Flow::Break(()),
            }
        });
        done.map_err(|error| errno(&error))
    }

    fn list_entries(&self, node: u64, _handle: u64, from: u64, listing: &mut Listing) -> Answer<()> {
        let done = self.homifs.read_dir(NodeId(node), from, &mut |entry| match listing.add_entry(
            &self.listed(&entry),
            entry.next,
            OsStr::from_bytes(entry.name),
        ) {
            true => Flow::Continue(()),
            false => Flow::Break(()),
        });
        done.map_err(|error| errno(&error))
    }

    fn usage(&self, _node: u64) -> Answer<Usage> {
        let usage = self.homifs.usage().map_err(|error| errno(&error))?;
        Ok(Usage {
            blocks: usage.blocks,
            free: usage.free,
            available: usage.available,
            files: usage.files,
            files_free: usage.files_free,
            block_size: usage.block_size,
            name_length: usage.name_max,
            fragment_size: usage.block_size,
        })
    }

    fn attribute(&self, asker: &Asker, node: u64, name: &OsStr) -> Answer<Vec<u8>> {
        let value = self.homifs.xattr(NodeId(node), name.as_bytes(), &caller(asker));
        value.map_err(|error| errno(&error))
    }

    fn attribute_names(&self, asker: &Asker, node: u64) -> Answer<Vec<u8>> {
        self.homifs.xattr_names(NodeId(node), &caller(asker)).map_err(|error| errno(&error))
    }

    fn access(&self, _asker: &Asker, _node: u64, _mask: u32) -> Answer<()> {
        // Asked only without `default_permissions`: then whoever reaches the mount may read it.
        Ok(())
    }

    fn seek(&self, handle: u64, offset: u64, whence: u32) -> Answer<u64> {
        let what = match whence.cast_signed() {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::INVAL),
        };
        if i64::try_from(offset).is_err() {
            return Err(Errno::NXIO);
        }
        self.homifs.seek(handle, offset, what).map_err(|error| errno(&error))
    }

    fn ioctl(&self, asker: &Asker, asked: &Ioctl<'_>) -> Answer<(i32, Vec<u8>)> {
        let room = usize::try_from(asked.out_size).unwrap_or(0);
        let size = homi_abi::control::argument_size(asked.command).ok_or(Errno::NOTTY)?;
        if asked.out_size != size || room == 0 {
            return Err(Errno::INVAL);
        }
        match self.homifs.control(asked.handle, ioctl::request(asked.argument), &caller(asker), room - 1) {
            Ok(answer) => {
                let mut bytes = answer.into_bytes();
                bytes.resize(room, 0);
                Ok((0, bytes))
            }
            Err(FsError::NotSupported) => Err(Errno::NOTTY),
            Err(error) => Err(errno(&error)),
        }
    }
}
