//! Names: looking them up, making, moving and removing them.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat, readlinkat,
    renameat_with, statx, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::contents::{Access, ChangeGuard};
use crate::open_files::OpenFile;
use crate::sys::handles::KernelHandle;
use crate::sys::identity::{Assumed, Identity};
use crate::sys::writers;
use crate::{Found, Lower, Result, STAT, proc_path, stat_of};

/// What a new file is to be.
#[derive(Debug, Clone, Copy)]
pub struct Create {
    /// Whose it is.
    pub who: Identity,
    /// Type and permission bits.
    pub mode: u32,
    /// Permission bits that the caller leaves out where the directory has no default ACL.
    pub umask: u32,
}

/// Bytes of a removed file that are not left to the moment when FUSE forgets it.
const LARGE: u64 = 64 << 10;

/// How often a name is looked up that leads elsewhere each time.
const ATTEMPTS: usize = 16;

/// A node that is about to lose a name.
struct Losing<'a> {
    node: OwnedFd,
    alone: Option<ChangeGuard<'a>>,
}

fn name_of(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}

impl Lower {
    /// What a name leads to; the node is then known. It is not opened for that: two calls instead of four.
    fn child(&self, parent: &OwnedFd, name: &CStr) -> Result<Found> {
        for _ in 0..ATTEMPTS {
            let handle = KernelHandle::at(parent, name)?;
            // Before its attributes are looked at: from now on the node is kept by whoever takes its name.
            self.nodes.told(handle);
            match statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, STAT) {
                Ok(stat) if stat.stx_ino == handle.ino() => {
                    return Ok(Found { ino: handle.ino(), generation: handle.generation(), stat });
                }
                other => {
                    self.forget(handle.ino(), 1);
                    // Another file has the name by now, if any.
                    other?;
                }
            }
        }
        // The kernel's path walk looks again.
        Err(Errno::STALE)
    }

    /// Looks a name up; the node is then known.
    ///
    /// # Errors
    /// `ENOENT` where there is no such name.
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Result<Found> {
        if name == "." {
            // The kernel's FUSE asks so for a node of which it only has a file handle, whatever its type.
            return self.told(&self.path(parent)?);
        }
        let parent = self.directory(parent)?;
        self.child(&parent, &name_of(name)?)
    }

    /// Makes a file that is no directory and no symbolic link; `device` where it is a device.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn make_node(&self, parent: u64, name: &OsStr, create: &Create, device: u64) -> Result<Found> {
        let (parent, name) = (self.directory(parent)?, name_of(name)?);
        let kind = FileType::from_raw_mode(create.mode);
        let mode = Mode::from_raw_mode(create.mode);
        let acting = Assumed::creating(&create.who, create.mode, create.umask);
        // Who may make devices was decided above; below it needs a capability that has no say here.
        mknodat(&parent, &*name, kind, mode, device)?;
        drop(acting);
        self.child(&parent, &name)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn make_directory(&self, parent: u64, name: &OsStr, create: &Create) -> Result<Found> {
        let (parent, name) = (self.directory(parent)?, name_of(name)?);
        let acting = Assumed::creating(&create.who, create.mode, create.umask);
        mkdirat(&parent, &*name, Mode::from_raw_mode(create.mode))?;
        drop(acting);
        self.child(&parent, &name)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn make_symlink(&self, parent: u64, name: &OsStr, target: &OsStr, who: &Identity) -> Result<Found> {
        let (parent, name) = (self.directory(parent)?, name_of(name)?);
        let acting = Assumed::new(who);
        symlinkat(&*name_of(target)?, &parent, &*name)?;
        drop(acting);
        self.child(&parent, &name)
    }

    /// Makes a file and opens it; `by_appends` as for [`open`](Self::open).
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn create(
        &self,
        parent: u64,
        name: &OsStr,
        create: &Create,
        flags: i32,
        by_appends: bool,
    ) -> Result<(Found, OpenFile)> {
        let (parent, name) = (self.directory(parent)?, name_of(name)?);
        let exclusive = OFlags::from_bits_retain(flags.cast_unsigned()) & OFlags::EXCL;
        let access = OpenFile::access_of(flags, by_appends);
        let all = flags;
        let mut flags = OpenFile::flags(flags) | OFlags::CREATE | exclusive;
        if access == Access::Append {
            // Opened for that when it is there.
            flags -= OFlags::WRONLY;
        }
        let acting = Assumed::creating(&create.who, create.mode, create.umask);
        let file = openat(&parent, &*name, flags, Mode::from_raw_mode(create.mode))?;
        drop(acting);
        if access != Access::Append {
            return self.made(file, access);
        }
        let found = self.told(&file)?;
        let open = self.open(found.ino, all, by_appends);
        open.map(|open| (found, open)).inspect_err(|_| self.forget(found.ino, 1))
    }

    /// Makes a file without a name and opens it (`O_TMPFILE`). [`link`](Self::link) gives it one, unless `flags` have
    /// `O_EXCL`.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn create_unnamed(&self, parent: u64, create: &Create, flags: i32) -> Result<(Found, OpenFile)> {
        let parent = self.directory(parent)?;
        let exclusive = OFlags::from_bits_retain(flags.cast_unsigned()) & OFlags::EXCL;
        let access = OpenFile::access_of(flags, false);
        let flags = OpenFile::flags(flags) | OFlags::TMPFILE | exclusive;
        let acting = Assumed::creating(&create.who, create.mode, create.umask);
        let file = openat(&parent, c".", flags, Mode::from_raw_mode(create.mode))?;
        drop(acting);
        self.made(file, access)
    }

    /// A file that was just made and opened below.
    fn made(&self, file: OwnedFd, access: Access) -> Result<(Found, OpenFile)> {
        let found = self.told(&file)?;
        let opened = self.contents.opened(found.ino, access).and_then(|state| {
            self.opened(file, access, state).inspect_err(|_| self.contents.closed(found.ino, access))
        });
        match opened {
            Ok(open) => Ok((found, open)),
            Err(error) => {
                // Nobody is told of it.
                self.forget(found.ino, 1);
                Err(error)
            }
        }
    }

    /// Gives a file a further name.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn link(&self, ino: u64, parent: u64, name: &OsStr) -> Result<Found> {
        let (file, parent, name) = (self.path(ino)?, self.directory(parent)?, name_of(name)?);
        linkat(rustix::fs::CWD, proc_path(&file), &parent, &*name, AtFlags::SYMLINK_FOLLOW)?;
        // Before the name is looked up: whoever has removed it again by then is noticed there.
        self.nodes.named(ino);
        self.child(&parent, &name)
    }

    /// Removes a name that is no directory's.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        let (parent, name) = (self.directory(parent)?, name_of(name)?);
        let losing = self.losing(&parent, &name)?;
        unlinkat(&parent, &*name, AtFlags::empty())?;
        self.lost(losing);
        Ok(())
    }

    /// Takes the file back from those who read its media where this name is its last.
    fn losing(&self, parent: &OwnedFd, name: &CStr) -> Result<Option<Losing<'_>>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(node) = openat(parent, name, flags, Mode::empty()) else { return Ok(None) };
        let Ok(stat) = stat_of(&node) else { return Ok(None) };
        let alone = (stat.stx_nlink == 1 && self.contents.is_open(stat.stx_ino))
            .then(|| self.contents.change(stat.stx_ino))
            .transpose()?;
        Ok(Some(Losing { node, alone }))
    }

    /// What has no name left stays until the kernel's FUSE has forgotten it.
    fn lost(&self, losing: Option<Losing<'_>>) {
        let Some(Losing { node, alone }) = losing else { return };
        let stat = stat_of(&node).ok().filter(|stat| stat.stx_nlink == 0);
        if let Some(stat) = stat
            && let Ok(handle) = KernelHandle::of(&node)
        {
            self.nodes.keep(&handle, node);
            if stat.stx_blocks * 512 >= LARGE && FileType::from_raw_mode(stat.stx_mode.into()).is_file() {
                self.empty(&handle);
            }
        }
        drop(alone);
    }

    /// Gives back the space of a removed file that nobody has open or mapped, before whoever removed it goes on: on the kernel's
    /// own mount it would be free then, too.
    fn empty(&self, handle: &KernelHandle) {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let Ok(file) = handle.open(&self.mount.root, flags) else { return };
        if !self.nodes.gives_up(handle) {
            return;
        }
        // Who opened it before that, and who still has it mapped, keeps it.
        let emptied = writers::while_alone(&file, || rustix::fs::ftruncate(&file, 0));
        if !matches!(emptied, Some(Ok(()))) {
            self.nodes.retains(handle);
        }
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn remove_directory(&self, parent: u64, name: &OsStr) -> Result<()> {
        let (parent, name) = (self.directory(parent)?, name_of(name)?);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = openat(&parent, &*name, flags, Mode::empty())?;
        unlinkat(&parent, &*name, AtFlags::REMOVEDIR)?;
        self.lost(Some(Losing { node, alone: None }));
        Ok(())
    }

    /// Moves a name; `flags` are those of `renameat2(2)`.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32, who: &Identity) -> Result<()> {
        let (old, new) = (self.directory(from.0)?, self.directory(to.0)?);
        let flags = RenameFlags::from_bits_retain(flags);
        // A whiteout is a new file.
        let _acting = flags.contains(RenameFlags::WHITEOUT).then(|| Assumed::new(who));
        let (from, to) = (name_of(from.1)?, name_of(to.1)?);
        let replaces = !flags.intersects(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE);
        let losing = if replaces { self.losing(&new, &to)? } else { None };
        renameat_with(&old, &*from, &new, &*to, flags)?;
        self.lost(losing);
        Ok(())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` where it is none.
    pub fn read_link(&self, ino: u64) -> Result<Vec<u8>> {
        readlinkat(self.path(ino)?, c"", Vec::new()).map(CString::into_bytes)
    }
}
