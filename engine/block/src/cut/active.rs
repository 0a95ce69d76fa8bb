//! A request on its way: what of it was started, what is still out, what went wrong.

use engine_dma::{Buffer, Pool, to_u64};

use super::{Command, Geometry};
use crate::{Completion, IoError, Operation, Piece, Request};

const EINVAL: i32 = 22;

/// A request that a queue has accepted.
#[derive(Debug)]
pub struct Active {
    request: Request,
    /// The piece whose commands are being made, and how many of its bytes have one.
    piece: usize,
    covered: usize,
    /// Commands that the device has.
    pub out: u32,
    /// Whether it waits for room for further commands.
    pub queued: bool,
    failure: Option<IoError>,
    /// The place in the scatter list of what failed: the byte of the buffer.
    failed_at: usize,
}

impl Active {
    /// Takes a request in, or hands it back as a completion where a piece lies outside the device or the buffer.
    ///
    /// # Errors
    /// `EINVAL` with the piece that does not fit.
    #[allow(clippy::result_large_err, reason = "the buffer comes back with it")]
    pub fn accept(request: Request, size: u64) -> Result<Self, Completion> {
        match request.pieces.iter().find(|piece| !piece.fits(size, request.buffer.len())) {
            Some(piece) => {
                let error = IoError {
                    operation: Operation::Read,
                    offset: piece.device_offset,
                    length: to_u64(piece.length),
                    errno: EINVAL,
                };
                Err(refuse(request, error))
            }
            None => {
                Ok(Self { request, piece: 0, covered: 0, out: 0, queued: false, failure: None, failed_at: 0 })
            }
        }
    }

    /// The next command to start; none once all are started or one has failed.
    pub fn next(&mut self, geometry: &Geometry) -> Option<Command> {
        if self.failure.is_some() {
            return None;
        }
        loop {
            let piece = self.request.pieces.get(self.piece)?;
            if self.covered < piece.length {
                let command = Command::next(piece, self.covered, geometry);
                self.covered += command.wanted;
                return Some(command);
            }
            self.piece += 1;
            self.covered = 0;
        }
    }

    /// Whether [`next`](Self::next) would answer one.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let covered_here = |piece: &Piece| self.covered < piece.length;
        let rest = self.request.pieces.get(self.piece..).unwrap_or_default();
        self.failure.is_none()
            && rest
                .split_first()
                .is_some_and(|(this, later)| covered_here(this) || later.iter().any(|piece| piece.length > 0))
    }

    /// Notes that `command` failed after `arrived` of its bytes. The earliest failure in the buffer is the one told.
    pub fn fail(&mut self, command: &Command, arrived: usize, errno: i32) {
        let (offset, length) = command.missing(arrived);
        if self.failure.is_none() || command.buffer_offset < self.failed_at {
            self.failure = Some(IoError { operation: Operation::Read, offset, length, errno });
            self.failed_at = command.buffer_offset;
        }
    }

    /// Lets no further command start; what has not arrived counts as failed.
    pub fn stop(&mut self, errno: i32) {
        if self.has_more() {
            let error = whole(&self.request, errno);
            self.failure = Some(error);
        }
    }

    /// Lets no further command start; nothing counts as arrived.
    pub fn fail_whole(&mut self, errno: i32) {
        self.failure = Some(whole(&self.request, errno));
    }

    /// Ends a request whose memory the device may still write to: that memory is leaked, and the completion carries
    /// other memory of the same length; an empty buffer where there is none.
    pub fn abandon(self, errno: i32, substitutes: &mut Pool) -> Completion {
        let error = whole(&self.request, errno);
        let Request { tag, buffer, .. } = self.request;
        let length = buffer.len();
        let empty = buffer.give_up();
        let buffer = substitutes.take(length).unwrap_or(empty);
        Completion { tag, buffer, result: Err(error) }
    }

    /// The memory that it goes to.
    #[must_use]
    pub fn buffer(&self) -> &Buffer {
        &self.request.buffer
    }

    /// The same, to be filled by hand.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.request.buffer
    }

    /// Copies what arrived of `command` in bounce memory, its first `arrived` bytes, to where it was wanted.
    pub fn copy_out(&mut self, command: &Command, bounce: &[u8], arrived: usize) {
        let end = arrived.min(command.skip + command.wanted);
        let Some(source) = bounce.get(command.skip..end) else { return };
        let place = command.buffer_offset..command.buffer_offset + source.len();
        if let Some(target) = self.request.buffer.get_mut(place) {
            target.copy_from_slice(source);
        }
    }

    /// The end, with nothing out any more.
    #[must_use]
    pub fn complete(self) -> Completion {
        let result = self.failure.map_or(Ok(()), Err);
        Completion { tag: self.request.tag, buffer: self.request.buffer, result }
    }
}

/// The request back, unstarted.
#[must_use]
pub fn refuse(request: Request, error: IoError) -> Completion {
    Completion { tag: request.tag, buffer: request.buffer, result: Err(error) }
}

/// What to blame where a request as a whole is refused: the range of its first piece.
#[must_use]
pub fn whole(request: &Request, errno: i32) -> IoError {
    let first = request.pieces.first();
    IoError {
        operation: Operation::Read,
        offset: first.map_or(0, |piece| piece.device_offset),
        length: first.map_or(0, |piece| to_u64(piece.length)),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use engine_dma::{Arena, ArenaSource};

    use super::*;
    use crate::Pieces;

    /// A machine that is out of memory.
    #[derive(Debug)]
    struct Nothing;

    impl ArenaSource for Nothing {
        fn arena(&self, _length: usize) -> io::Result<Arena> {
            Err(io::ErrorKind::OutOfMemory.into())
        }
    }

    fn active(pool: &mut Pool) -> Active {
        let buffer = pool.take(4096).unwrap();
        let pieces = Pieces::from_slice(&[Piece { device_offset: 512, buffer_offset: 0, length: 4096 }]);
        Active::accept(Request { tag: 7, buffer, pieces }, 1 << 20).unwrap()
    }

    #[test]
    fn request_abandoned_completes_with_memory_or_without_and_its_own_is_never_used_again() {
        for (substitutes, length) in [(Pool::new(0, 0), 4096), (Pool::of(Arc::new(Nothing), 4096, 1), 0)] {
            let (mut pool, mut substitutes) = (Pool::new(8192, 1), substitutes);
            let active = active(&mut pool);
            let address = active.buffer().address();
            let completion = active.abandon(19, &mut substitutes);
            assert_eq!((completion.tag, completion.buffer.len()), (7, length));
            let error = IoError { operation: Operation::Read, offset: 512, length: 4096, errno: 19 };
            assert_eq!(completion.result, Err(error));
            drop(completion);
            let later = [pool.take(4096).unwrap(), pool.take(4096).unwrap()];
            assert!(later.iter().all(|buffer| buffer.address() != address), "{length}");
        }
    }
}
