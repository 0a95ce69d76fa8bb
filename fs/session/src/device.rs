//! Requests out of `/dev/fuse`, answers into it.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use zerocopy::FromBytes;

use crate::arguments::Arguments;
use crate::reply::{Way, slices};
use crate::wire::{InHeader, OutHeader};

/// What a request may be longer than the longest write, and the least that the kernel wants to see room for
/// (`FUSE_MIN_READ_BUFFER` is 8 KiB).
const BESIDES_DATA: usize = 8192;

/// One thread's way to a connection, with room for one request.
pub(crate) struct Device {
    file: File,
    room: Vec<u8>,
}

/// A request as it came.
pub(crate) struct Received<'a> {
    pub(crate) header: InHeader,
    pub(crate) arguments: Arguments<'a>,
}

impl Device {
    /// For requests that write at most so many bytes.
    pub(crate) fn new(file: File, max_write: u32) -> Self {
        let room = usize::try_from(max_write).unwrap_or(0) + BESIDES_DATA;
        Self { file, room: vec![0; room] }
    }

    /// The next request, and the way back; none when the file system is not mounted any more.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(Received<'_>, Answers<'_>)>> {
        let length = loop {
            match rustix::io::read(&self.file, &mut self.room) {
                Ok(length) => break length,
                // Interrupted, or whoever asked was before the request could be read (fuse_dev_do_read, fs/fuse/dev.c).
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(Errno::NODEV) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let request = self.room.get(..length).unwrap_or_default();
        let Ok((header, rest)) = InHeader::read_from_prefix(request) else {
            return Err(io::Error::other("the kernel's FUSE sent less than the head of a request"));
        };
        Ok(Some((Received { header, arguments: Arguments::new(rest) }, Answers(&self.file))))
    }
}

/// The way back.
pub(crate) struct Answers<'a>(&'a File);

impl Way for Answers<'_> {
    fn send(&mut self, header: OutHeader, parts: [&[u8]; 2]) -> io::Result<()> {
        rustix::io::writev(self.0, &slices(&header, parts))?;
        Ok(())
    }
}
