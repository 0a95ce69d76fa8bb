//! Sending an answer, once.

use std::io::{self, IoSlice};

use rustix::io::Errno;
use zerocopy::{Immutable, IntoBytes};

use crate::wire::OutHeader;

/// How answers get to the kernel.
pub(crate) trait Way {
    /// Sends an answer whole: its header says how long it is.
    fn send(&mut self, header: OutHeader, parts: [&[u8]; 2]) -> io::Result<()>;
}

/// The answer to one request.
pub(crate) struct Reply<'a> {
    way: &'a mut dyn Way,
    unique: u64,
    sent: bool,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(way: &'a mut dyn Way, unique: u64) -> Self {
        Self { way, unique, sent: false }
    }

    /// Whether it was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    fn send(&mut self, error: i32, parts: [&[u8]; 2]) {
        if self.sent {
            return;
        }
        self.sent = true;
        let length = size_of::<OutHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        match self.way.send(OutHeader { length, error, unique: self.unique }, parts) {
            Ok(()) => {}
            // Whoever asked has been interrupted (ENOENT), or the mount is gone (ENODEV).
            Err(error) if [Some(libc::ENOENT), Some(libc::ENODEV)].contains(&error.raw_os_error()) => {}
            Err(error) => tracing::error!(%error, "the kernel's FUSE takes an answer for wrong"),
        }
    }

    /// Sends that something went wrong.
    pub(crate) fn error(&mut self, error: Errno) {
        self.send(-error.raw_os_error(), [&[], &[]]);
    }

    /// Sends that it was done.
    pub(crate) fn done(&mut self) {
        self.send(0, [&[], &[]]);
    }

    /// Sends bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.send(0, [bytes, &[]]);
    }

    /// Sends a structure.
    pub(crate) fn structure(&mut self, structure: &(impl IntoBytes + Immutable)) {
        self.bytes(structure.as_bytes());
    }

    /// Sends a structure and what follows it.
    pub(crate) fn structure_and(&mut self, structure: &(impl IntoBytes + Immutable), rest: &[u8]) {
        self.send(0, [structure.as_bytes(), rest]);
    }
}

/// Where what was read goes.
pub struct Data<'a> {
    reply: &'a mut dyn Bytes,
}

/// A reply that takes bytes.
trait Bytes {
    fn take(&mut self, bytes: &[u8]);
}

impl Bytes for Reply<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }
}

impl std::fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").finish_non_exhaustive()
    }
}

impl<'a> Data<'a> {
    pub(crate) fn new(reply: &'a mut Reply<'_>) -> Self {
        Self { reply }
    }

    /// Sends what was read, all of it; only the first time counts.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reply.take(bytes);
    }
}

/// The three parts of an answer for a single writev(2).
pub(crate) fn slices<'a>(header: &'a OutHeader, parts: [&'a [u8]; 2]) -> [IoSlice<'a>; 3] {
    let [first, second] = parts;
    [IoSlice::new(header.as_bytes()), IoSlice::new(first), IoSlice::new(second)]
}
