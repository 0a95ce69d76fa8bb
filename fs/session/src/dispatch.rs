//! From a request to the file system and back.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::arguments::Arguments;
use crate::attributes::{Entry, Time};
use crate::filesystem::{Answer, Filesystem};
use crate::listing::Listing;
use crate::reply::{Data, Reply, Way};
use crate::requests::{
    Asker, Copy, Ioctl, MakeFile, Opened, Read, SetAttribute, SetAttributes, TimeOrNow, Usage, Write,
};
use crate::wire::{
    AccessIn, BatchForgetIn, CopyFileRangeIn, CopyFileRangeOut, CreateIn, FallocateIn, ForgetIn, ForgetOne,
    FsyncIn, GetattrIn, GetxattrIn, GetxattrOut, InHeader, IoctlIn, IoctlOut, LinkIn, LseekIn, LseekOut,
    MkdirIn, MknodIn, Opcode, OpenIn, OpenOut, ReadIn, ReleaseIn, Rename2In, RenameIn, SetattrIn, SetxattrIn,
    SetxattrMore, StatfsOut, StatxIn, WriteIn, WriteOut,
};

/// The longest listing that is put together for one request, whatever it asks for.
const LONGEST_LISTING: u32 = 1 << 20;

/// Carries a request out and answers it. Where the file system panics the program gets `EIO` rather than wait for ever.
pub(crate) fn serve(
    filesystem: &impl Filesystem,
    long_setxattr: bool,
    header: &InHeader,
    arguments: Arguments<'_>,
    way: &mut dyn Way,
) {
    let mut reply = Reply::new(way, header.unique);
    let Some(opcode) = Opcode::of(header.opcode) else { return reply.error(Errno::NOSYS) };
    let request = Request { filesystem, long_setxattr, opcode, header };
    let result = catch_unwind(AssertUnwindSafe(|| request.carry_out(arguments, &mut reply)));
    if matches!(opcode, Opcode::Forget | Opcode::BatchForget) {
        // Nobody waits for an answer.
        return;
    }
    match result {
        Ok(Ok(())) => debug_assert!(reply.is_sent(), "{opcode:?} is answered"),
        Ok(Err(error)) => reply.error(error),
        Err(_) => {
            tracing::error!(
                ?opcode,
                node = header.node,
                "a request ended in a panic, a bug of ours; it is answered with EIO"
            );
            reply.error(Errno::IO);
        }
    }
}

struct Request<'a, F> {
    filesystem: &'a F,
    /// `FUSE_SETXATTR_EXT` was agreed.
    long_setxattr: bool,
    opcode: Opcode,
    header: &'a InHeader,
}

impl<F: Filesystem> Request<'_, F> {
    fn asker(&self) -> Asker {
        Asker { uid: self.header.uid, gid: self.header.gid, pid: self.header.pid }
    }

    fn carry_out(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        match self.opcode {
            Opcode::Forget | Opcode::BatchForget => self.forget(arguments)?,
            Opcode::Lookup | Opcode::Mknod | Opcode::Mkdir | Opcode::Symlink | Opcode::Link => {
                reply.structure(&self.entry(arguments)?.wire());
            }
            Opcode::Create | Opcode::Tmpfile => self.create(arguments, reply)?,
            Opcode::Getattr | Opcode::Setattr | Opcode::Statx => self.attributes(arguments, reply)?,
            Opcode::Readlink => reply.bytes(&self.filesystem.read_link(self.header.node)?),
            Opcode::Unlink => {
                self.filesystem.unlink(self.header.node, arguments.name()?)?;
                reply.done();
            }
            Opcode::Rmdir => {
                self.filesystem.remove_directory(self.header.node, arguments.name()?)?;
                reply.done();
            }
            Opcode::Rename | Opcode::Rename2 => {
                self.rename(arguments)?;
                reply.done();
            }
            Opcode::Open => {
                let asked: OpenIn = arguments.take()?;
                let opened =
                    self.filesystem.open(&self.asker(), self.header.node, asked.flags.cast_signed())?;
                reply.structure(&open_out(&opened));
            }
            Opcode::Opendir => {
                reply.structure(&open_out(&self.filesystem.open_directory(self.header.node)?));
            }
            Opcode::Read => self.read(arguments, reply)?,
            Opcode::Write => self.write(arguments, reply)?,
            Opcode::Readdir | Opcode::Readdirplus => self.list(arguments, reply)?,
            Opcode::Release => {
                let asked: ReleaseIn = arguments.take()?;
                self.filesystem.release(self.header.node, asked.handle);
                reply.done();
            }
            Opcode::Releasedir => {
                let asked: ReleaseIn = arguments.take()?;
                self.filesystem.release_directory(self.header.node, asked.handle);
                reply.done();
            }
            Opcode::Fsync | Opcode::Fsyncdir | Opcode::Syncfs => {
                self.sync(arguments)?;
                reply.done();
            }
            Opcode::Statfs => reply.structure(&statfs_out(&self.filesystem.usage(self.header.node)?)),
            Opcode::Setxattr => {
                self.set_attribute(arguments)?;
                reply.done();
            }
            Opcode::Getxattr | Opcode::Listxattr => self.attribute(arguments, reply)?,
            Opcode::Removexattr => {
                self.filesystem.remove_attribute(self.header.node, arguments.name()?)?;
                reply.done();
            }
            Opcode::Access => {
                let asked: AccessIn = arguments.take()?;
                self.filesystem.access(&self.asker(), self.header.node, asked.mask)?;
                reply.done();
            }
            Opcode::Ioctl => self.ioctl(arguments, reply)?,
            Opcode::Fallocate => {
                let asked: FallocateIn = arguments.take()?;
                let (mode, offset, length) = (asked.mode.cast_signed(), asked.offset, asked.length);
                self.filesystem.allocate(&self.asker(), asked.handle, mode, offset, length)?;
                reply.done();
            }
            Opcode::Lseek => {
                let asked: LseekIn = arguments.take()?;
                let offset = self.filesystem.seek(asked.handle, asked.offset, asked.whence)?;
                reply.structure(&LseekOut { offset });
            }
            Opcode::CopyFileRange | Opcode::CopyFileRange64 => self.copy(arguments, reply)?,
            Opcode::Destroy => reply.done(),
            // There is one INIT, and the session has had it.
            Opcode::Init => return Err(Errno::PROTO),
        }
        Ok(())
    }

    fn forget(&self, mut arguments: Arguments<'_>) -> Answer<()> {
        if self.opcode == Opcode::Forget {
            let asked: ForgetIn = arguments.take()?;
            self.filesystem.forget(self.header.node, asked.lookups);
            return Ok(());
        }
        let asked: BatchForgetIn = arguments.take()?;
        for _ in 0..asked.count {
            let one: ForgetOne = arguments.take()?;
            self.filesystem.forget(one.node, one.lookups);
        }
        Ok(())
    }

    /// What a name leads to, an old one or one that is made.
    fn entry(&self, mut arguments: Arguments<'_>) -> Answer<Entry> {
        let (filesystem, asker, parent) = (self.filesystem, &self.asker(), self.header.node);
        match self.opcode {
            Opcode::Mknod => {
                let asked: MknodIn = arguments.take()?;
                let name = arguments.name()?;
                let file = MakeFile { parent, name, mode: asked.mode, umask: asked.umask };
                filesystem.make_node(asker, &file, asked.device)
            }
            Opcode::Mkdir => {
                let asked: MkdirIn = arguments.take()?;
                let name = arguments.name()?;
                let file = MakeFile { parent, name, mode: asked.mode, umask: asked.umask };
                filesystem.make_directory(asker, &file)
            }
            Opcode::Symlink => {
                let (name, target) = (arguments.name()?, arguments.name()?);
                filesystem.make_symlink(asker, parent, name, target)
            }
            Opcode::Link => {
                let asked: LinkIn = arguments.take()?;
                filesystem.link(asked.node, parent, arguments.name()?)
            }
            _ => filesystem.lookup(asker, parent, arguments.name()?),
        }
    }

    fn create(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let asked: CreateIn = arguments.take()?;
        let unnamed = self.opcode == Opcode::Tmpfile;
        let name = if unnamed { OsStr::new("") } else { arguments.name()? };
        let file = MakeFile { parent: self.header.node, name, mode: asked.mode, umask: asked.umask };
        let (asker, flags) = (self.asker(), asked.flags.cast_signed());
        let (entry, opened) = if unnamed {
            self.filesystem.create_unnamed(&asker, &file, flags)?
        } else {
            self.filesystem.create(&asker, &file, flags)?
        };
        reply.structure_and(&entry.wire(), open_out(&opened).as_bytes());
        Ok(())
    }

    fn attributes(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let (filesystem, asker, node) = (self.filesystem, &self.asker(), self.header.node);
        let handle = |flags: u32, handle: u64| (flags & GetattrIn::HANDLE != 0).then_some(handle);
        match self.opcode {
            Opcode::Statx => {
                let asked: StatxIn = arguments.take()?;
                let found = filesystem.attributes(asker, node, handle(asked.flags, asked.handle))?;
                reply.structure(&found.statx());
            }
            Opcode::Setattr => {
                let asked: SetattrIn = arguments.take()?;
                reply.structure(&filesystem.set_attributes(asker, node, &set_attributes(&asked))?.wire());
            }
            _ => {
                let asked: GetattrIn = arguments.take()?;
                let found = filesystem.attributes(asker, node, handle(asked.flags, asked.handle))?;
                reply.structure(&found.wire());
            }
        }
        Ok(())
    }

    fn rename(&self, mut arguments: Arguments<'_>) -> Answer<()> {
        let (to_directory, flags) = if self.opcode == Opcode::Rename {
            (arguments.take::<RenameIn>()?.to_directory, 0)
        } else {
            let asked: Rename2In = arguments.take()?;
            (asked.to_directory, asked.flags)
        };
        let (from, to) = (arguments.name()?, arguments.name()?);
        self.filesystem.rename(&self.asker(), (self.header.node, from), (to_directory, to), flags)
    }

    fn read(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let ReadIn { handle, offset, size, .. } = arguments.take()?;
        let read = Read { node: self.header.node, handle, offset, size };
        self.filesystem.read(&read, &mut Data::new(reply))?;
        // A file system that has nothing to send has come to the end of the file.
        reply.bytes(&[]);
        Ok(())
    }

    fn write(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let asked: WriteIn = arguments.take()?;
        let data = arguments.bytes(asked.size)?;
        let (node, handle, offset, flags) =
            (self.header.node, asked.handle, asked.offset, asked.flags.cast_signed());
        let written = self.filesystem.write(&self.asker(), &Write { node, handle, offset, data, flags })?;
        let size = u32::try_from(written).map_err(|_| Errno::IO)?;
        reply.structure(&WriteOut { size, padding: 0 });
        Ok(())
    }

    fn list(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let ReadIn { handle, offset, size, .. } = arguments.take()?;
        let mut listing = Listing::new(size.min(LONGEST_LISTING));
        if self.opcode == Opcode::Readdir {
            self.filesystem.list(self.header.node, handle, offset, &mut listing)?;
        } else {
            self.filesystem.list_entries(self.header.node, handle, offset, &mut listing)?;
        }
        reply.bytes(listing.bytes());
        Ok(())
    }

    fn sync(&self, mut arguments: Arguments<'_>) -> Answer<()> {
        if self.opcode == Opcode::Syncfs {
            return self.filesystem.sync_all();
        }
        let asked: FsyncIn = arguments.take()?;
        let only_data = asked.flags & FsyncIn::ONLY_DATA != 0;
        if self.opcode == Opcode::Fsyncdir {
            return self.filesystem.sync_directory(asked.handle, only_data);
        }
        self.filesystem.sync(asked.handle, only_data)
    }

    fn set_attribute(&self, mut arguments: Arguments<'_>) -> Answer<()> {
        let asked: SetxattrIn = arguments.take()?;
        let more = if self.long_setxattr { Some(arguments.take::<SetxattrMore>()?) } else { None };
        let clears_sgid = more.map(|more| more.setxattr_flags & SetxattrMore::CLEAR_SGID != 0);
        let name = arguments.name()?;
        let value = arguments.bytes(asked.size)?;
        let attribute = SetAttribute { name, value, flags: asked.flags, clears_sgid };
        self.filesystem.set_attribute(&self.asker(), self.header.node, &attribute)
    }

    fn attribute(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let asked: GetxattrIn = arguments.take()?;
        let value = if self.opcode == Opcode::Listxattr {
            self.filesystem.attribute_names(&self.asker(), self.header.node)?
        } else {
            self.filesystem.attribute(&self.asker(), self.header.node, arguments.name()?)?
        };
        let length = u32::try_from(value.len()).map_err(|_| Errno::RANGE)?;
        match asked.size {
            0 => reply.structure(&GetxattrOut { size: length, padding: 0 }),
            room if room < length => return Err(Errno::RANGE),
            _ => reply.bytes(&value),
        }
        Ok(())
    }

    fn ioctl(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let asked: IoctlIn = arguments.take()?;
        let argument = arguments.bytes(asked.in_size)?;
        let (node, handle) = (self.header.node, asked.handle);
        let ioctl = Ioctl { node, handle, command: asked.command, argument, out_size: asked.out_size };
        let (result, bytes) = self.filesystem.ioctl(&self.asker(), &ioctl)?;
        let room = usize::try_from(asked.out_size).unwrap_or(0);
        let out = IoctlOut { result, flags: 0, in_vectors: 0, out_vectors: 0 };
        reply.structure_and(&out, bytes.get(..room).unwrap_or(&bytes));
        Ok(())
    }

    fn copy(&self, mut arguments: Arguments<'_>, reply: &mut Reply<'_>) -> Answer<()> {
        let asked: CopyFileRangeIn = arguments.take()?;
        let long = self.opcode == Opcode::CopyFileRange64;
        // The older answer has 32 bits for the length; a copy may always be shorter than asked.
        let most = if long { u64::MAX } else { u64::from(!0xfff_u32) };
        let CopyFileRangeIn { from, from_offset, to, to_offset, length, .. } = asked;
        let copy = Copy { from, from_offset, to, to_offset, length: length.min(most) };
        let copied = self.filesystem.copy(&self.asker(), &copy)?;
        if long {
            reply.structure(&CopyFileRangeOut { copied });
        } else {
            let size = u32::try_from(copied).map_err(|_| Errno::IO)?;
            reply.structure(&WriteOut { size, padding: 0 });
        }
        Ok(())
    }
}

fn set_attributes(asked: &SetattrIn) -> SetAttributes {
    let has = |flag: u32| asked.valid & flag != 0;
    let time = |set: u32, now: u32, seconds: i64, nanoseconds: u32| match (has(set), has(now)) {
        (true, true) => Some(TimeOrNow::Now),
        (true, false) => Some(TimeOrNow::At(Time { seconds, nanoseconds })),
        (false, _) => None,
    };
    SetAttributes {
        handle: has(SetattrIn::HANDLE).then_some(asked.handle),
        mode: has(SetattrIn::MODE).then_some(asked.mode),
        uid: has(SetattrIn::UID).then_some(asked.uid),
        gid: has(SetattrIn::GID).then_some(asked.gid),
        size: has(SetattrIn::SIZE).then_some(asked.size),
        accessed: time(SetattrIn::ATIME, SetattrIn::ATIME_NOW, asked.atime, asked.atime_nanoseconds),
        modified: time(SetattrIn::MTIME, SetattrIn::MTIME_NOW, asked.mtime, asked.mtime_nanoseconds),
    }
}

fn open_out(opened: &Opened) -> OpenOut {
    /// `FOPEN_PASSTHROUGH`.
    const PASSTHROUGH: u32 = 1 << 7;
    let passes = if opened.backing.is_some() { PASSTHROUGH } else { 0 };
    OpenOut {
        handle: opened.handle,
        flags: opened.answer.bits() | passes,
        backing: opened.backing.as_ref().map_or(0, |backing| backing.number()),
    }
}

fn statfs_out(usage: &Usage) -> StatfsOut {
    StatfsOut {
        blocks: usage.blocks,
        free: usage.free,
        available: usage.available,
        files: usage.files,
        files_free: usage.files_free,
        block_size: usage.block_size,
        name_length: usage.name_length,
        fragment_size: usage.fragment_size,
        padding: 0,
        spare: [0; 6],
    }
}

#[cfg(test)]
mod tests;
