//! What a process does to a file that it has open.

use std::io;

use anyhow::Result;
use rustix::fs::{
    FallocateFlags, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fstat, fsync, ftruncate, seek,
};
use rustix::io::{Errno, pread, pwrite, write};

use crate::actor::{Actor, aligned};
use crate::clock::now;
use crate::place::{Kind, MOST};
use crate::record::{Act, Way};

impl Actor {
    /// Does something to one of the files that are open.
    pub(crate) fn operate(&mut self, number: usize) -> Result<()> {
        let handle = &self.handles[number];
        let (writable, mapped) = (handle.is_writable(), handle.mapping.is_some());
        if handle.file.is_none() || (mapped && self.numbers.below(2) == 0) {
            let writes = writable && self.handles[number].kind == Kind::Mapped;
            return match self.numbers.below(8) {
                0 => self.sync_mapping(number),
                1..4 if writes => self.write_mapped(number),
                _ => self.read_mapped(number),
            };
        }
        if !writable {
            return if self.numbers.below(12) == 0 { self.size(number) } else { self.read_some(number) };
        }
        let die = self.numbers.below(100);
        let (writes, cuts) = if self.task.storm { (30, 85) } else { (45, 65) };
        match die {
            _ if die < writes => self.write_some(number),
            _ if die < cuts => self.reshape(number),
            _ if die < cuts + 4 => self.copy(number),
            _ if die < cuts + 8 => self.sync(number),
            _ => self.read_some(number),
        }
    }

    /// Writes by one write(2).
    pub(crate) fn write_some(&mut self, number: usize) -> Result<()> {
        let (mut offset, mut length) = (self.any_offset(MOST), self.any_length());
        let id = self.next_write();
        let handle = &self.handles[number];
        let Some(file) = &handle.file else { return Ok(()) };
        let (direct, appends) =
            (handle.flags.contains(OFlags::DIRECT), handle.flags.contains(OFlags::APPEND));
        if direct {
            (offset, length) = (offset / 512 * 512, length.next_multiple_of(512));
        }
        if appends && fstat(file).is_ok_and(|stat| stat.st_size.unsigned_abs() >= MOST) {
            return Ok(());
        }
        let way = match handle.flags {
            _ if direct => Way::Direct,
            _ if appends => Way::Append,
            flags if flags.contains(OFlags::SYNC) => Way::Sync,
            _ => Way::Buffered,
        };
        let (mut memory, start) = aligned(usize::try_from(length)?);
        let bytes = &mut memory[start..][..usize::try_from(length)?];
        self.task.stamp.fill(id, bytes);
        let begin = now();
        let written = if appends { write(file, bytes) } else { pwrite(file, bytes, offset) };
        let end = now();
        let identity = handle.identity;
        match written {
            Ok(written) => {
                if appends {
                    // Where it ended, as the process's own place in the file says.
                    offset = seek(file, SeekFrom::Current(0))?.saturating_sub(u64::try_from(written)?);
                }
                let act = Act::Write { way, id, offset, length: u64::try_from(written)? };
                self.tell_until(identity, (begin, end), true, act)
            }
            // Some of it may be there.
            Err(Errno::NOSPC) if !appends => {
                self.tell_until(identity, (begin, end), false, Act::Write { way, id, offset, length })
            }
            Err(Errno::NOSPC) => Ok(()),
            Err(error) => self.fail(identity, &format!("write {length} at {offset}, {way:?}"), &error.into()),
        }
    }

    fn read_some(&mut self, number: usize) -> Result<()> {
        let (mut offset, mut length) = (self.any_offset(MOST), self.any_length() * 2);
        let handle = &self.handles[number];
        let Some(file) = &handle.file else { return Ok(()) };
        let direct = handle.flags.contains(OFlags::DIRECT);
        if direct {
            (offset, length) = (offset / 512 * 512, length.next_multiple_of(512));
        }
        let (mut memory, start) = aligned(usize::try_from(length)?);
        let bytes = &mut memory[start..][..usize::try_from(length)?];
        let begin = now();
        let read = pread(file, &mut *bytes, offset);
        let end = now();
        let identity = handle.identity;
        match read {
            Ok(read) => {
                let runs = self.task.stamp.runs(offset, &bytes[..read]);
                let way = if direct { Way::Direct } else { Way::Buffered };
                self.tell_until(identity, (begin, end), true, Act::Read { way, offset, length, runs })
            }
            // The kernel's own answer where a direct read of XFS meets what has just been written and has no place yet.
            Err(Errno::IO) if direct => Ok(()),
            Err(error) => {
                let what = format!("read {length} at {offset}, {:?}, {:?}", handle.kind, handle.flags);
                self.fail(identity, &what, &error.into())
            }
        }
    }

    fn size(&mut self, number: usize) -> Result<()> {
        let handle = &self.handles[number];
        let Some(file) = &handle.file else { return Ok(()) };
        let begin = now();
        let size = fstat(file)?.st_size.unsigned_abs();
        self.tell(handle.identity, begin, true, Act::Size { size })
    }

    fn sync(&mut self, number: usize) -> Result<()> {
        let handle = &self.handles[number];
        let Some(file) = &handle.file else { return Ok(()) };
        let done = if self.numbers.below(2) == 0 { fsync(file) } else { fdatasync(file) };
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.fail(handle.identity, "sync", &error.into()),
        }
    }

    /// Cuts, punches, clears or allocates.
    fn reshape(&mut self, number: usize) -> Result<()> {
        let (offset, length) = (self.any_offset(MOST), self.any_length() * 4);
        let die = self.numbers.below(10);
        let handle = &self.handles[number];
        let Some(file) = &handle.file else { return Ok(()) };
        let (identity, kind) = (handle.identity, handle.kind);
        let begin = now();
        let (done, act) = match die {
            0..4 if kind == Kind::Mapped => (ftruncate(file, MOST), Act::Cut { size: MOST }),
            0..4 => (ftruncate(file, offset), Act::Cut { size: offset }),
            4..7 => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                (fallocate(file, flags, offset, length), Act::Clear { offset, length, grows: false })
            }
            7 => {
                let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                (fallocate(file, flags, offset, length), Act::Clear { offset, length, grows: false })
            }
            8 => {
                let flags = FallocateFlags::ZERO_RANGE;
                (fallocate(file, flags, offset, length), Act::Clear { offset, length, grows: true })
            }
            _ if length.is_multiple_of(8192) => {
                (fallocate(file, FallocateFlags::KEEP_SIZE, offset, length), Act::Grow { size: 0 })
            }
            _ => {
                let size = offset + length;
                (fallocate(file, FallocateFlags::empty(), offset, length), Act::Grow { size })
            }
        };
        let end = now();
        match done {
            Ok(()) => self.tell_until(identity, (begin, end), true, act),
            Err(Errno::NOSPC) => self.tell_until(identity, (begin, end), false, act),
            Err(error) => self.fail(identity, &format!("{act:?}"), &error.into()),
        }
    }

    /// Copies from another file that is open, where this one may be copied into: parts, or all of it, which on XFS makes its
    /// last block the other's too.
    fn copy(&mut self, number: usize) -> Result<()> {
        let whole = self.numbers.below(2) == 0;
        let places = if whole { (0, 0) } else { (self.any_offset(MOST), self.any_offset(MOST)) };
        let length = usize::try_from(if whole { MOST } else { self.any_length() * 2 })?;
        let to = &self.handles[number];
        let source = self.handles.iter().find(|from| {
            from.kind != Kind::Copy && from.file.is_some() && !from.flags.contains(OFlags::DIRECT)
        });
        let (Some(file), Some(from)) = (&to.file, source) else { return self.write_some(number) };
        let Some(source) = from.file.as_ref().filter(|_| to.kind == Kind::Copy) else {
            return self.write_some(number);
        };
        if to.flags.contains(OFlags::APPEND) {
            return Ok(());
        }
        let (identity, from) = (to.identity, from.identity);
        let (mut from_offset, mut offset) = places;
        let begin = now();
        let copied = copy_file_range(source, Some(&mut from_offset), file, Some(&mut offset), length);
        let end = now();
        let (from_offset, offset) = places;
        let act = |length| Act::Copy { from, from_offset, offset, length };
        match copied {
            Ok(copied) => self.tell_until(identity, (begin, end), true, act(u64::try_from(copied)?)),
            Err(Errno::NOSPC) => self.tell_until(identity, (begin, end), false, act(u64::try_from(length)?)),
            Err(error) => self.fail(identity, &format!("copy {length}"), &error.into()),
        }
    }

    fn sync_mapping(&mut self, number: usize) -> Result<()> {
        let handle = &self.handles[number];
        match handle.mapping.as_ref().map_or(Ok(()), crate::mapping::Mapping::sync) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(handle.identity, "msync", &error),
        }
    }

    fn write_mapped(&mut self, number: usize) -> Result<()> {
        let offset = self.any_offset(MOST);
        let length = self.any_length().min(MOST - offset);
        let id = self.next_write();
        let handle = &self.handles[number];
        let mut bytes = vec![0; usize::try_from(length)?];
        self.task.stamp.fill(id, &mut bytes);
        // What lies past the end but within its page is nobody's: the file only becomes longer.
        if let Some(file) = &handle.file {
            self.handles[number].least = fstat(file)?.st_size.unsigned_abs();
        }
        let handle = &self.handles[number];
        let Some(mapping) = handle.mapping.as_ref().filter(|_| offset + length <= handle.least) else {
            return Ok(());
        };
        let begin = now();
        let written = mapping.write(usize::try_from(offset)?, &bytes);
        let end = now();
        let identity = handle.identity;
        let act = |length| Act::Write { way: Way::Mapped, id, offset, length };
        match written {
            Ok(written) => self.tell_until(identity, (begin, end), true, act(u64::try_from(written)?)),
            // There is no space for it: the kernel tells by a signal, or this way.
            Err(error) if is_past_end(&error) => Ok(()),
            Err(error) => self.fail(identity, "write by a mapping", &error),
        }
    }

    fn read_mapped(&mut self, number: usize) -> Result<()> {
        let offset = self.any_offset(MOST);
        let length = self.any_length().min(MOST - offset);
        let handle = &self.handles[number];
        let Some(mapping) = &handle.mapping else { return Ok(()) };
        let mut bytes = vec![0; usize::try_from(length)?];
        let begin = now();
        let read = mapping.read(usize::try_from(offset)?, &mut bytes);
        let end = now();
        let identity = handle.identity;
        match read {
            Ok(read) => {
                // A mapping has whole pages: where it stops says nothing about where the file does.
                let runs = self.task.stamp.runs(offset, &bytes[..read]);
                let length = u64::try_from(read)?;
                let act = Act::Read { way: Way::Mapped, offset, length, runs };
                self.tell_until(identity, (begin, end), true, act)
            }
            Err(error) if is_past_end(&error) => Ok(()),
            Err(error) => self.fail(identity, "read by a mapping", &error),
        }
    }
}

fn is_past_end(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EFAULT)
}
